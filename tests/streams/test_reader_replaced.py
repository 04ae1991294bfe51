"""What programs replace in a StreamReader, its loop and its futures."""

import asyncio
import socket
import textwrap
from unittest import mock

import pytest

METHODS = ["read", "readexactly", "readuntil", "readline", "__anext__"]
DATA = b"data\nmore\n"
FIRST = {"read": b"data", "readexactly": b"data", "readuntil": b"data\n", "readline": b"data\n", "__anext__": b"data\n"}


REPLACED = METHODS + ["feed_data", "exception"]
INNER = ["_wait_for_data", "_wakeup_waiter", "_maybe_resume_transport"]


def wrapped(original, seen, name):
    if name in METHODS + ["_wait_for_data"]:

        async def method(*args, **options):
            seen.append(name)
            return await original(*args, **options)
    else:

        def method(*args, **options):
            seen.append(name)
            return original(*args, **options)

    return method


async def use(reader, peer, name):
    """Does something that calls the method."""
    if name in ("exception", "feed_data"):
        getattr(reader, name)(*[b"x"][: name == "feed_data"])
    elif name == "_wakeup_waiter":
        peer.send(DATA)
        await reader.readline()
    elif name == "_wait_for_data":
        asyncio.get_running_loop().call_soon(peer.send, DATA)
        await reader.readline()
    else:
        peer.send(DATA)
        read = name if name in METHODS else "readline"
        await getattr(reader, read)(*{"read": [4], "readexactly": [4]}.get(read, []))


@pytest.mark.parametrize("name", REPLACED + INNER)
@pytest.mark.parametrize("place", ["class before", "class after", "instance", "subclass", "its class", "own type"])
def test_replaced(streams, run, loop, monkeypatch, name, place):
    seen = []
    original = getattr(asyncio.StreamReader, name)
    method = wrapped(original, seen, name)
    options = {}
    if place == "class before":
        monkeypatch.setattr(asyncio.StreamReader, name, method)
    elif place == "subclass":
        options["reader"] = type("Reader", (asyncio.StreamReader,), {name: method})(loop=loop)
    reader, protocol, _, peer = streams(**options)
    if place not in ("class before", "subclass"):
        run(use(reader, peer, name))  # ... and was used before
        assert seen == []
        reader._buffer.clear()
    if place == "class after":
        monkeypatch.setattr(asyncio.StreamReader, name, method)
    elif place == "instance":
        monkeypatch.setattr(reader, name, wrapped(getattr(reader, name), seen, name))
    elif place == "its class":
        reader.__class__ = type("Reader", (type(reader),), {name: method})
    elif place == "own type":
        monkeypatch.setattr(type(reader), name, wrapped(getattr(type(reader), name), seen, name))
    run(use(reader, peer, name))
    assert set(seen) == {name}
    if place != "subclass":
        monkeypatch.undo()
        reader._buffer.clear()
        del seen[:]
        run(use(reader, peer, name))
        assert seen == ([name] if place == "its class" else [])


@pytest.mark.parametrize("name", REPLACED)
@pytest.mark.parametrize("place", ["before", "after"])
def test_replaced_by_what_is_no_coroutine(streams, monkeypatch, name, place):
    """Like a mock: the program's call reaches it, and gets its result."""
    reader = protocol = peer = None
    if place == "after":
        reader, protocol, _, peer = streams()
    monkeypatch.setattr(asyncio.StreamReader, name, mock.Mock(return_value="mocked"))
    if place == "before":
        reader, protocol, _, peer = streams()
    assert getattr(reader, name)(*[b"x"][: name == "feed_data"]) == "mocked"
    assert getattr(asyncio.StreamReader, name).call_count == 1


def test_replaced_and_handed_on(streams, run, arrive, monkeypatch):
    """A counting reader, made by wrapping the methods of the class, as tracing libraries do."""
    counts = []
    for name in METHODS:
        monkeypatch.setattr(asyncio.StreamReader, name, wrapped(getattr(asyncio.StreamReader, name), counts, name))
    reader, _, _, peer = streams()
    arrive(reader, peer)
    assert run(reader.readline()) == b"data\n"
    assert counts == ["readline", "readuntil"]


def test_subclass_of_its_class(streams, run, arrive, loop):
    """A program that expects type(reader) to be asyncio.StreamReader."""
    reader, protocol, _, peer = streams()

    class Upper(type(reader)):
        async def readline(self):
            return (await super().readline()).upper()

    upper = Upper(limit=50, loop=loop)
    assert upper._limit == 50 and upper._buffer == b"" and upper._waiter is None
    reader2, _, _, peer = streams(reader=upper)
    arrive(reader2, peer)
    assert run(upper.readline()) == b"DATA\n" and run(upper.readexactly(2)) == b"mo"
    assert run(upper.read(100)) == b"re\n"


def test_made_by_its_class(streams, run, loop):
    reader, protocol, _, _ = streams()
    for cls in (type(reader), type("Sub", (type(reader),), {})):
        made = cls(limit=7, loop=loop)
        made.feed_data(b"line\n12345678")
        assert run(made.readline()) == b"line\n" and made._limit == 7
        with pytest.raises(ValueError):
            run(made.readline())
        made.feed_eof()
        assert run(made.read()) == b""
        with pytest.raises(ValueError, match="Limit cannot be <= 0"):
            cls(limit=0, loop=loop)


def test_class_of_a_program_put_back(streams, run, arrive):
    reader, _, _, peer = streams()
    arrive(reader, peer)
    first = type(reader)
    reader.__class__ = type("Other", (first,), {})
    assert run(reader.readline()) == b"data\n"
    reader.__class__ = first
    assert run(reader.readline()) == b"more\n"


def test_called_on_the_class(streams, run, arrive):
    reader, _, _, peer = streams()
    arrive(reader, peer)
    assert run(asyncio.StreamReader.readline(reader)) == b"data\n"
    assert run(type(reader).readexactly(reader, 4)) == b"more"
    asyncio.StreamReader.feed_data(reader, b"x")
    assert run(asyncio.StreamReader.read(reader, 100)) == b"\nx"


def test_replaced_while_it_waits(streams, run, loop, turn, read, monkeypatch):
    reader, _, _, peer = streams()
    reading = loop.create_task(read(reader))
    turn()
    monkeypatch.setattr(asyncio.StreamReader, "feed_data", wrapped(asyncio.StreamReader.feed_data, [], "feed_data"))
    peer.send(DATA)
    assert run(reading) == FIRST[read.name]


def test_attributes_changed_while_it_waits(streams, run, loop, turn, read):
    class Buffer(bytearray):
        pass

    reader, _, _, peer = streams()
    reading = loop.create_task(read(reader))
    turn()
    reader._buffer = Buffer()  # no longer what asyncio puts there
    peer.send(DATA)
    assert run(reading) == FIRST[read.name] and reader._waiter is None


def test_cancelled_waiter_of_a_changed_reader(streams, run, loop, turn, read):
    class Buffer(bytearray):
        pass

    reader, _, _, peer = streams()
    reading = loop.create_task(read(reader))
    turn()
    reader._buffer = Buffer(DATA)
    reader._waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        run(reading)
    assert bytes(reader._buffer) == DATA


def test_protocols_methods_on_the_instance(streams, until):
    reader, protocol, _, peer = streams()
    seen = []
    protocol.data_received = seen.append
    peer.send(b"abc")
    until(lambda: seen or reader._buffer)
    assert seen == [b"abc"] and reader._buffer == b""


def test_set_protocol(streams, run, loop, turn):
    reader, _, transport, peer = streams()
    other = asyncio.StreamReader(limit=10, loop=loop)
    protocol = asyncio.StreamReaderProtocol(other, loop=loop)
    transport.set_protocol(protocol)
    peer.send(b"other\nrest")
    assert run(other.readline()) == b"other\n" and reader._buffer == b""
    assert other._transport is None and transport.get_protocol() is protocol


def test_futures_of_the_programs_own(streams, loop, run, read):
    """A loop whose create_future() returns another kind of awaitable."""
    seen = []

    class Awaitable:
        def __init__(self):
            self.future = asyncio.Future(loop=loop)

        def __await__(self):
            seen.append("await")
            yield from self.future
            return "nobody asks"

        def cancelled(self):
            return self.future.cancelled()

        def set_result(self, result):
            seen.append("set_result")
            self.future.set_result(result)

    reader, _, _, peer = streams()
    original = loop.create_future
    reader._loop = mock.Mock(create_future=Awaitable)
    loop.call_soon(peer.send, DATA)
    assert run(read(reader)) == FIRST[read.name]
    assert seen == ["await", "set_result"] and original is not None


def test_loop_that_overrides(loop_class, new_loop, read):
    """A subclass of the loop with its own futures and callbacks."""
    made = []

    class Future(asyncio.Future):
        pass

    class Loop(loop_class):
        def create_future(self):
            made.append(Future(loop=self))
            return made[-1]

        def call_soon(self, callback, *args, **options):
            return super().call_soon(callback, *args, **options)

    loop = new_loop(Loop)
    ours, peer = socket.socketpair()
    with peer:
        reader, writer = loop.run_until_complete(asyncio.open_connection(sock=ours))
        reading = loop.create_task(read(reader))
        loop.call_soon(loop.stop)
        loop.run_forever()
        assert type(reader._waiter) is Future and reader._waiter is made[-1]
        peer.send(DATA)
        assert loop.run_until_complete(reading) == FIRST[read.name]
        writer.close()
        loop.run_until_complete(asyncio.sleep(0))
        loop.run_until_complete(asyncio.sleep(0))


@pytest.mark.parametrize("kind", ["function", "object"])
def test_replaced_before_the_import(python, loop_kind, kind):
    """By a function, or by an object that is bound like one, as wrapt's are."""
    factory = "asyncio.SelectorEventLoop" if loop_kind == "asyncio" else "__import__('cloop').new_event_loop"
    text = """
        import asyncio, socket
        called = []
        class Bound:
            def __init__(self, function):
                self.function = function
            def __get__(self, instance, cls=None):
                return self if instance is None else self.function.__get__(instance, cls)
        def trace(cls, name):
            original = getattr(cls, name)
            def wrapper(self, *args):
                called.append(name)
                return original(self, *args)
            setattr(cls, name, wrapper if %r == "function" else Bound(wrapper))
        trace(asyncio.StreamReader, "feed_data")
        trace(asyncio.StreamReader, "readline")
        trace(asyncio.StreamWriter, "drain")
        async def main():
            ours, theirs = socket.socketpair()
            reader, writer = await asyncio.open_connection(sock=ours)
            theirs.send(b"a line\\n")
            called.append(await reader.readline())
            await writer.drain()
            writer.close()
            theirs.close()
        loop = %s()
        loop.run_until_complete(main())
        loop.close()
        print(called)
    """
    done = python("-c", textwrap.dedent(text) % (kind, factory))
    assert (done.stdout, done.stderr) == ("['readline', 'feed_data', b'a line\\n', 'drain']\n", "")
