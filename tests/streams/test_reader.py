"""StreamReader on a transport of the loop: its methods, their coroutines, and whatever programs do to it."""

import asyncio
import collections.abc
import contextlib
import copy
import functools
import gc
import inspect
import socket
import sys
import types
import warnings
import weakref
from unittest import mock

import pytest

METHODS = ["read", "readexactly", "readuntil", "readline", "__anext__"]
DATA = b"data\nmore\n"
FIRST = {"read": b"data", "readexactly": b"data", "readuntil": b"data\n", "readline": b"data\n", "__anext__": b"data\n"}
ATTRIBUTES = ["_limit", "_loop", "_buffer", "_eof", "_waiter", "_exception", "_transport", "_paused"]


def told_as(name):
    """The name that the reader says in its error messages."""
    return "readuntil" if name in ("readline", "__anext__") else name


@pytest.fixture
def arrive(until):
    """Sends the data and runs the loop until the reader has them."""

    def arrive(reader, peer, data=DATA):
        expected = len(reader._buffer) + len(data)
        peer.send(data)
        until(lambda: len(reader._buffer) == expected)

    return arrive


@pytest.fixture
def ends(loop):
    """What the coroutine returns, or the type and text of what it raises."""

    def ends(coroutine):
        try:
            return loop.run_until_complete(asyncio.wait_for(coroutine, 5))
        except Exception as error:
            return type(error), str(error)

    return ends


def finish(coroutine):
    """What the coroutine returns at once."""
    with pytest.raises(StopIteration) as caught:
        coroutine.send(None)
    return caught.value.value


# What it is


def test_its_type(streams, loop_kind, switched_off):
    reader, protocol, _, _ = streams()
    assert isinstance(reader, asyncio.StreamReader) and isinstance(protocol, asyncio.StreamReaderProtocol)
    for thing, name in (reader, "StreamReader"), (protocol, "StreamReaderProtocol"):
        assert type(thing).__name__ == type(thing).__qualname__ == name
        assert type(thing).__module__ == "asyncio.streams"
        ours = loop_kind != "asyncio" and not switched_off
        assert (type(thing) is not getattr(asyncio, name)) == ours
    assert weakref.ref(reader)() is reader and reader.__aiter__() is reader
    assert hash(reader) == object.__hash__(reader) and reader == reader


def test_repr(streams, arrive, loop, turn):
    reader, _, transport, peer = streams()
    assert repr(reader) == "<StreamReader transport=%r>" % transport
    arrive(reader, peer)
    reader._limit = 3
    reader._paused = True
    reader._exception = error = ValueError("x")
    reader._waiter = waiter = loop.create_future()
    reader._eof = True
    expected = "<StreamReader 10 bytes eof limit=3 waiter=%r exception=%r transport=%r paused>"
    assert repr(reader) == expected % (waiter, error, transport)


def test_attributes(streams, loop):
    reader, _, transport, _ = streams(limit=77)
    assert (reader._limit, reader._loop, reader._buffer, reader._eof) == (77, loop, bytearray(), False)
    assert (reader._waiter, reader._exception, reader._transport, reader._paused) == (None, None, transport, False)
    assert type(reader._buffer) is bytearray and reader._source_traceback is None
    reader.own = 5
    assert reader.own == 5 and vars(reader)["own"] == 5 and reader.__dict__["own"] == 5
    del reader.own
    assert not hasattr(reader, "own")


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_attribute_set_and_deleted(streams, name):
    reader, _, transport, _ = streams()
    before = getattr(reader, name)
    value = object()
    setattr(reader, name, value)
    assert getattr(reader, name) is value
    delattr(reader, name)
    with pytest.raises(AttributeError, match="'StreamReader' object has no attribute '%s'" % name):
        getattr(reader, name)
    with pytest.raises(AttributeError, match=name):
        delattr(reader, name)
    assert getattr(reader, name, None) is None and not hasattr(reader, name)
    setattr(reader, name, before)
    assert getattr(reader, name) is before


NONSENSE = [b"data", None, "deleted", [1, 2], 5, True, "text", 2**70, -(2**70), 1.5]


@pytest.mark.parametrize("method", METHODS + ["feed_data", "exception", "set_exception", "feed_eof", "at_eof"])
def test_nonsense_in_an_attribute_fails_as_on_asyncio(as_asyncio, method):
    arguments = {"read": [4], "readexactly": [4], "feed_data": [b"x"], "set_exception": [OSError("x")]}

    async def attempt(loop, name, value):
        reader = asyncio.StreamReader(limit=10, loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        ours, peer = socket.socketpair()
        transport, _ = await loop.create_connection(lambda: protocol, sock=ours)
        reader.feed_data(DATA)
        if value == "deleted":
            delattr(reader, name)
        else:
            setattr(reader, name, copy.copy(value))
        try:
            result = getattr(reader, method)(*arguments.get(method, []))
            if asyncio.iscoroutine(result):
                coroutine = result
                coroutine.send(None)
                coroutine.close()
                result = "waits"
        except StopIteration as stop:
            result = stop.value
        except Exception as error:
            result = type(error), str(error)
        setattr(reader, name, None)
        transport.abort()
        peer.close()
        return name, value, result

    async def main(loop):
        return [await attempt(loop, name, value) for name in ATTRIBUTES[:-2] for value in NONSENSE]

    as_asyncio(lambda loop: loop.run_until_complete(main(loop)))


# Reading


def test_reads_what_is_there(streams, arrive, run, read):
    reader, _, _, peer = streams()
    arrive(reader, peer)
    assert run(read(reader)) == FIRST[read.name]
    assert bytes(reader._buffer) == DATA[len(FIRST[read.name]) :]


def test_waits_for_what_is_to_come(streams, loop, run, turn, read):
    reader, _, _, peer = streams()
    reading = loop.create_task(read(reader))
    turn()
    assert reader._waiter is not None and not reading.done()
    peer.send(DATA)
    assert run(reading) == FIRST[read.name] and reader._waiter is None


def test_by_keyword_and_by_default(streams, arrive, run, until):
    reader, _, _, peer = streams()
    arrive(reader, peer, b"abcdefg\nh")
    assert run(reader.read(n=1)) == b"a" and run(reader.readexactly(n=2)) == b"bc"
    assert run(reader.readuntil(separator=b"e")) == b"de" and run(reader.readuntil()) == b"fg\n"
    peer.close()
    assert run(reader.read()) == b"h"
    for call in (
        lambda: reader.read(1, 2),
        lambda: reader.read(m=1),
        lambda: reader.read(1, n=1),
        lambda: reader.readexactly(),
        lambda: reader.readuntil(b"a", separator=b"a"),
        lambda: reader.readline(1),
        lambda: reader.feed_data(),
        lambda: reader.exception(1),
    ):
        with pytest.raises(TypeError):
            call()


def test_sizes_beyond_memory(streams, arrive, run):
    for size in (2**31, 2**62, 2**63 - 1, 2**63, 2**64, 2**70):
        reader, _, _, peer = streams()
        arrive(reader, peer)
        assert run(reader.read(size)) == DATA
        arrive(reader, peer, b"rest")
        peer.close()
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            run(reader.readexactly(size))
        assert (caught.value.partial, caught.value.expected) == (b"rest", size)
        assert reader.at_eof()


def test_to_the_end(streams, arrive, run, loop):
    reader, _, _, peer = streams(limit=3)
    reading = loop.create_task(reader.read())
    peer.send(DATA * 100)
    peer.close()
    assert run(reading) == DATA * 100 and reader.at_eof()
    assert run(reader.read(5)) == run(reader.read()) == run(reader.readline()) == b""
    with pytest.raises(StopAsyncIteration):
        reader.__anext__().send(None)


def test_lines(streams, run):
    reader, _, _, peer = streams()
    peer.send(b"one\ntwo\n\nthree")
    peer.close()

    async def main():
        return [line async for line in reader]

    assert run(main()) == [b"one\n", b"two\n", b"\n", b"three"]


def test_limit_may_change(streams, arrive, run):
    reader, _, _, peer = streams()
    arrive(reader, peer, b"12345\n12345\n12345")
    reader._limit = 5
    assert run(reader.readline()) == b"12345\n"
    reader._limit = 4
    with pytest.raises(asyncio.LimitOverrunError, match="found, but") as caught:
        run(reader.readuntil())
    assert caught.value.consumed == 5 and bytes(reader._buffer) == b"12345\n12345"
    with pytest.raises(ValueError, match="found, but"):
        run(reader.readline())
    assert bytes(reader._buffer) == b"12345"
    with pytest.raises(ValueError, match="not found, and") as caught:
        run(reader.readline())
    assert reader._buffer == b"" and type(caught.value.__context__) is asyncio.LimitOverrunError
    assert caught.value.__context__.consumed == 5


@pytest.mark.parametrize("separator", [b"\n", b"\r\n", b"aab", b"abab", b"aaaa", b"abcabd"])
@pytest.mark.parametrize("before", [b"", b"x", b"a", b"ab", b"aaa", b"\r", b"abcab", b"abcabcab"])
def test_separator_comes_in_pieces(streams, separator, before):
    reader, _, _, _ = streams()
    data = before + separator
    data = data[: data.index(separator) + len(separator)]
    for size in (1, 2, 3):
        coroutine = reader.readuntil(separator)
        coroutine.send(None)
        for at in range(0, len(data), size):
            reader.feed_data(data[at : at + size])
            if at + size < len(data):
                assert coroutine.send(None) is reader._waiter
        assert finish(coroutine) == data and reader._buffer == b""


def test_woken_without_data(streams, read):
    """By somebody who has no business there: read() takes it for the end, the others wait again."""
    reader, _, _, _ = streams()
    coroutine = read(reader)
    coroutine.send(None).set_result(None)
    if read.name == "read":
        assert finish(coroutine) == b""
        return
    assert coroutine.send(None) is reader._waiter
    reader.feed_data(DATA)
    assert finish(coroutine) == FIRST[read.name]


def test_buffer_may_be_edited_and_replaced(streams, arrive, run):
    reader, _, _, peer = streams()
    arrive(reader, peer)
    del reader._buffer[:2]
    assert run(reader.readline()) == b"ta\n"
    reader._buffer.extend(b"end\n")
    assert run(reader.readexactly(9)) == b"more\nend\n"
    reader._buffer = buffer = bytearray(b"new")
    arrive(reader, peer)
    assert run(reader.readline()) == b"newdata\n" and reader._buffer is buffer


def test_buffer_that_somebody_looks_at(streams, arrive, run, read):
    reader, _, _, peer = streams()
    arrive(reader, peer)
    with memoryview(reader._buffer):
        for _ in range(2):
            with pytest.raises(BufferError):
                run(read(reader))
        with pytest.raises(BufferError):
            reader.feed_data(b"x")
        assert bytes(reader._buffer) == DATA
    assert run(read(reader)) == FIRST[read.name]


# Two at once, exceptions, and the end


def test_two_readers(streams, run, loop, turn, read):
    reader, _, _, peer = streams()
    first = loop.create_task(reader.read(1))
    turn()
    text = r"^%s\(\) called while another coroutine is already waiting for incoming data$" % told_as(read.name)
    with pytest.raises(RuntimeError, match=text):
        run(read(reader))
    assert not first.done() and reader._waiter is not None
    peer.send(b"x")
    assert run(first) == b"x"


def test_exception_before(streams, arrive, run, read):
    reader, _, _, peer = streams()
    arrive(reader, peer)
    error = ValueError("x")
    reader.set_exception(error)
    assert reader.exception() is error
    for _ in range(2):
        with pytest.raises(ValueError) as caught:
            run(read(reader))
        assert caught.value is error and caught.value.__context__ is None
    assert bytes(reader._buffer) == DATA


def test_exception_while_waiting(streams, run, loop, turn, read):
    reader, _, _, peer = streams()
    reading = loop.create_task(read(reader))
    turn()
    error = ValueError("x")
    reader.set_exception(error)
    with pytest.raises(ValueError) as caught:
        run(reading)
    assert caught.value is error and reader._waiter is None


def test_exception_in_the_context_of_another(streams, run, read):
    reader, _, _, _ = streams()
    reader.set_exception(ValueError("x"))

    async def main():
        try:
            raise KeyError("outer")
        except KeyError:
            await read(reader)

    with pytest.raises(ValueError) as caught:
        run(main())
    assert type(caught.value.__context__) is KeyError


def test_exception_class(streams, run, read):
    reader, _, _, _ = streams()
    reader.set_exception(OSError)
    assert reader.exception() is OSError
    with pytest.raises(OSError):
        run(read(reader))


def test_stop_iteration_does_not_look_like_a_result(streams, ends, read):
    reader, _, _, _ = streams()
    reader.set_exception(StopIteration(5))
    assert ends(read(reader)) == (RuntimeError, "coroutine raised StopIteration")
    with pytest.raises(RuntimeError, match="coroutine raised StopIteration") as caught:
        read(reader).send(None)
    assert type(caught.value.__cause__) is StopIteration


def test_incomplete(streams, ends, read, arrive):
    reader, _, _, peer = streams()
    arrive(reader, peer, b"abc")
    peer.close()
    expected = {
        "readexactly": (asyncio.IncompleteReadError, "3 bytes read on a total of 4 expected bytes"),
        "readuntil": (asyncio.IncompleteReadError, "3 bytes read on a total of undefined expected bytes"),
    }
    assert ends(read(reader)) == expected.get(read.name, b"abc")
    assert reader._buffer == b""


def test_feed_after_eof(streams):
    reader, _, _, _ = streams()
    reader.feed_eof()
    with pytest.raises(AssertionError, match="^feed_data after feed_eof$"):
        reader.feed_data(b"x")
    with pytest.raises(AssertionError):
        reader.feed_data(b"")


def test_feed_takes_what_bytearray_does(streams, run):
    reader, _, _, _ = streams()
    for data in (b"a", bytearray(b"b"), memoryview(b"c"), b"", (), [100], iter([])):
        assert reader.feed_data(data) is None
    assert reader.feed_data(data=b"e") is None
    assert bytes(reader._buffer) == b"abcde"
    for data in (1, "text", [1000]):
        with pytest.raises((TypeError, ValueError)):
            reader.feed_data(data)
    assert reader.feed_data(None) is None and bytes(reader._buffer) == b"abcde"


def test_set_transport_twice(streams):
    reader, _, transport, _ = streams()
    with pytest.raises(AssertionError, match="^Transport already set$"):
        reader.set_transport(transport)


def test_waiting_while_paused_resumes(streams, until, run, loop, turn):
    reader, _, transport, peer = streams(limit=10)
    peer.send(bytes(100))
    until(lambda: reader._paused)
    reading = loop.create_task(reader.readexactly(150))
    turn()
    assert reader._paused is False and reader._waiter is not None
    peer.send(bytes(60))
    assert run(reading) == bytes(150)


def test_transport_that_fails_to_resume(streams, run, arrive):
    class Failing:
        def resume_reading(self):
            raise KeyError("resume")

    reader, _, transport, peer = streams(limit=5)
    arrive(reader, peer, b"0123456789")
    reader._transport, reader._paused = Failing(), True
    with pytest.raises(KeyError):
        run(reader.read(6))
    assert bytes(reader._buffer) == b"6789" and reader._paused is False
    reader._paused = True
    with pytest.raises(KeyError):
        run(reader.readexactly(100))
    assert reader._waiter is None and reader._paused is False


# The coroutines


def test_never_awaited(streams, read):
    reader, _, _, _ = streams()
    with pytest.warns(RuntimeWarning, match="^coroutine 'StreamReader.%s' was never awaited$" % read.name):
        read(reader)
        gc.collect()


def test_what_a_coroutine_is(streams, read):
    reader, _, _, _ = streams()
    coroutine = read(reader)
    assert asyncio.iscoroutine(coroutine) and inspect.isawaitable(coroutine)
    assert isinstance(coroutine, collections.abc.Coroutine)
    assert coroutine.__name__ == read.name and coroutine.__qualname__ == "StreamReader." + read.name
    assert repr(coroutine).startswith("<coroutine object StreamReader.%s at 0x" % read.name)
    assert coroutine.cr_await is None and not coroutine.cr_running
    coroutine.close()


def test_driven_by_hand(streams, read):
    reader, _, _, _ = streams()
    coroutine = read(reader)
    with pytest.raises(TypeError, match="^can't send non-None value to a just-started coroutine$"):
        coroutine.send(1)
    waiter = coroutine.send(None)
    assert reader._waiter is waiter and waiter._asyncio_future_blocking is True and not coroutine.cr_running
    assert coroutine.cr_await is not None
    reader.feed_data(DATA)
    assert finish(coroutine) == FIRST[read.name] and coroutine.cr_await is None
    for _ in range(2):
        with pytest.raises(RuntimeError, match="^cannot reuse already awaited coroutine$"):
            coroutine.send(None)
        with pytest.raises(RuntimeError, match="^cannot reuse already awaited coroutine$"):
            coroutine.throw(ValueError)
        assert coroutine.close() is None


def test_stepped_before_the_data(streams, read):
    reader, _, _, _ = streams()
    coroutine = read(reader)
    coroutine.send(None)
    with pytest.raises(RuntimeError, match="^await wasn't used with future$"):
        coroutine.send(None)
    assert reader._waiter is None


@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("make", [lambda cls: cls, lambda cls: cls("x")], ids=["class", "instance"])
@pytest.mark.parametrize("cls", [ValueError, asyncio.CancelledError, GeneratorExit, KeyboardInterrupt])
def test_thrown(streams, read, started, cls, make):
    reader, _, _, _ = streams()
    error = make(cls)
    coroutine = read(reader)
    if started:
        coroutine.send(None)
    with pytest.raises(cls) as caught:
        coroutine.throw(error)
    assert reader._waiter is None and (error is cls or caught.value is error)
    with pytest.raises(RuntimeError, match="^cannot reuse already awaited coroutine$"):
        coroutine.send(None)


@pytest.mark.parametrize("started", [False, True])
def test_closed(streams, read, started):
    reader, _, _, _ = streams()
    coroutine = read(reader)
    if started:
        coroutine.send(None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert coroutine.close() is None and coroutine.close() is None
    assert reader._waiter is None
    del coroutine


def test_dropped_while_it_waits(streams, read):
    reader, _, _, _ = streams()
    coroutine = read(reader)
    coroutine.send(None)
    del coroutine
    gc.collect()
    assert reader._waiter is None


def test_awaited_twice(streams, run, loop, turn, read):
    reader, _, _, peer = streams()
    coroutine = read(reader)

    async def wait():
        return await coroutine

    first = loop.create_task(wait())
    turn()
    with pytest.raises(RuntimeError, match="^coroutine is being awaited already$"):
        run(wait())
    peer.send(DATA)
    assert run(first) == FIRST[read.name]
    with pytest.raises(RuntimeError, match="^cannot reuse already awaited coroutine$"):
        run(wait())


@pytest.mark.parametrize("how", ["create_task", "ensure_future", "wait_for", "gather", "shield", "wait", "threadsafe"])
def test_given_to(streams, run, loop, read, how):
    reader, _, _, peer = streams()

    async def main():
        if how == "wait_for":
            waiting = asyncio.ensure_future(asyncio.wait_for(read(reader), 5))
        elif how == "gather":
            waiting = asyncio.gather(read(reader), asyncio.sleep(0))
        elif how == "wait":
            waiting = asyncio.ensure_future(asyncio.wait([loop.create_task(read(reader))]))
        elif how == "threadsafe":
            waiting = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(read(reader), loop))
        elif how == "create_task":
            waiting = loop.create_task(read(reader))
        else:
            waiting = getattr(asyncio, how)(read(reader))
        while reader._waiter is None:
            await asyncio.sleep(0)
        peer.send(DATA)
        return await waiting

    result = run(main())
    if how == "gather":
        result = result[0]
    if how == "wait":
        result = result[0].pop().result()
    assert result == FIRST[read.name]


def test_yielded_from(streams, run, read):
    """As programs did before there was await."""
    reader, _, _, peer = streams()

    @types.coroutine
    def old_style():
        return (yield from read(reader))

    peer.send(DATA)
    assert run(old_style()) == FIRST[read.name]


def test_timeout_leaves_no_waiter(streams, run, arrive, read):
    reader, _, _, peer = streams()
    for _ in range(3):
        with pytest.raises(asyncio.TimeoutError):
            run(asyncio.wait_for(read(reader), 0.001))
        assert reader._waiter is None
    arrive(reader, peer)
    assert run(read(reader)) == FIRST[read.name]


def test_cancelled(streams, run, loop, turn, read):
    reader, _, _, peer = streams()
    for turns in range(2):
        reading = loop.create_task(read(reader))
        for _ in range(turns):
            turn()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            run(reading)
        assert reader._waiter is None
    peer.send(DATA)
    assert run(read(reader)) == FIRST[read.name]


def test_task_destroyed_while_it_waits(streams, loop, turn, read, reports):
    reader, _, _, _ = streams()
    reading = loop.create_task(read(reader))
    turn()
    del reading
    reader._waiter = None  # which kept the task
    gc.collect()
    assert [context["message"] for context in reports] == ["Task was destroyed but it is pending!"]


def test_cycle_through_the_coroutine(streams, read):
    class Key:
        pass

    reader, protocol, transport, _ = streams()
    coroutine = read(reader)
    coroutine.send(None)
    key = Key()
    key.cycle = reader.own = coroutine
    gone = weakref.ref(key)
    reader.key = key
    reader._transport = None
    transport.abort()
    other = asyncio.StreamReaderProtocol(None, loop=transport.get_extra_info("loop") or protocol._loop)
    del coroutine, key
    protocol._stream_reader_wr = None
    del reader, protocol, transport, other
    # The fixture keeps the transport, not the reader.
    gc.collect()
    assert gone() is None


def test_stack_of_a_task(streams, loop, turn, read):
    reader, _, _, peer = streams()

    async def outer():
        return await read(reader)

    task = loop.create_task(outer())
    turn()
    assert task.get_stack()[0].f_code is outer.__code__
    bare = loop.create_task(reader.read(1))
    assert "StreamReader.read" in repr(bare) and len(bare.get_stack()) <= 1
    bare.cancel()
    task.cancel()
    turn()
    turn()


# What programs replace

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
    """Does what leads to the method."""
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
        run(use(reader, peer, name))  # ... and had been used
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
    """As a mock: it is called when the program calls it, and what it returns is what the program gets."""
    reader = protocol = peer = None
    if place == "after":
        reader, protocol, _, peer = streams()
    monkeypatch.setattr(asyncio.StreamReader, name, mock.Mock(return_value="mocked"))
    if place == "before":
        reader, protocol, _, peer = streams()
    assert getattr(reader, name)(*[b"x"][: name == "feed_data"]) == "mocked"
    assert getattr(asyncio.StreamReader, name).call_count == 1


def test_replaced_and_handed_on(streams, run, arrive, monkeypatch):
    """A reader that counts, made by wrapping the methods of the class, as tracing libraries do."""
    counts = []
    for name in METHODS:
        monkeypatch.setattr(asyncio.StreamReader, name, wrapped(getattr(asyncio.StreamReader, name), counts, name))
    reader, _, _, peer = streams()
    arrive(reader, peer)
    assert run(reader.readline()) == b"data\n"
    assert counts == ["readline", "readuntil"]


def test_subclass_of_its_class(streams, run, arrive, loop):
    """A program takes type(reader) to be asyncio.StreamReader."""
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


# Debug mode


def test_debug_mode(loop, streams, run, arrive):
    loop.set_debug(True)
    loop.slow_callback_duration = 100
    reader, protocol, _, peer = streams()
    assert type(reader) is asyncio.StreamReader and type(protocol) is asyncio.StreamReaderProtocol
    assert reader._source_traceback is not None
    arrive(reader, peer)
    assert run(reader.readline()) == b"data\n"


def test_debug_mode_later(loop, streams, run, arrive, read):
    reader, _, _, peer = streams()
    loop.set_debug(True)
    loop.slow_callback_duration = 100
    reading = loop.create_task(read(reader))
    peer.send(DATA)
    assert run(reading) == FIRST[read.name]


# Hostile


def discard(transport):
    """Ends a connection whose reader is no longer fit to hear of it."""
    transport.set_protocol(asyncio.Protocol())
    transport.abort()


@contextlib.contextmanager
def anything_goes():
    """Exceptions, that is, but no crash and no SystemError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (SystemError, MemoryError):
        raise
    except Exception:
        pass


@pytest.mark.parametrize("how", ["clear", "replace", "delete", "set None"])
@pytest.mark.parametrize("when", ["before", "waiting"])
def test_dict_taken_away(streams, loop, turn, read, how, when, reports):
    reader, _, transport, peer = streams()
    coroutine = None
    if when == "waiting":
        coroutine = read(reader)
        coroutine.send(None)
    if how == "clear":
        reader.__dict__.clear()
    elif how == "replace":
        reader.__dict__ = {}
    elif how == "delete":
        with anything_goes():
            del reader.__dict__
    else:
        with pytest.raises(TypeError):
            reader.__dict__ = None
        reader.__dict__ = {}
    with pytest.raises(AttributeError):
        reader._buffer
    with pytest.raises((AttributeError, RuntimeError)):  # the latter for data that have not come
        coroutine = coroutine or read(reader)
        coroutine.send(None)
    with anything_goes():
        reader.feed_data(DATA)
    with anything_goes():
        reader.exception()
    peer.send(DATA)
    for _ in range(4):
        turn()
    reader._buffer = buffer = bytearray(DATA)
    assert reader._buffer is buffer
    coroutine.close()
    discard(transport)


def use_all(reader, read, coroutine):
    for action in (
        lambda: reader.feed_data(DATA),
        lambda: coroutine and coroutine.send(None),
        lambda: read(reader).send(None),
        lambda: reader._limit,
        lambda: setattr(reader, "_limit", 5),
        lambda: reader.exception(),
    ):
        with anything_goes():
            action()


def test_keys_of_the_dict_that_run_python(streams, read):
    class Evil:
        """Equal to nothing, and takes the dict away while it is looked at."""

        def __init__(self, name, how):
            self.name, self.how = name, how

        def __hash__(self):
            return hash(self.name)

        def __eq__(self, other):
            if self.how == "clear":
                reader.__dict__.clear()
            elif self.how == "replace":
                reader.__dict__ = {}
            gc.collect()
            return False

    for name in ["_cloop", "_buffer", read.name, "feed_data"]:
        for how in ["clear", "replace"]:
            for started in (False, True):
                reader, _, transport, peer = streams()
                coroutine = None
                if started:
                    coroutine = read(reader)
                    coroutine.send(None)
                fields = dict(reader.__dict__)
                reader.__dict__.clear()
                reader.__dict__[Evil(name, how)] = 1
                reader.__dict__.update(fields)
                del fields
                use_all(reader, read, coroutine)
                reader.__dict__ = {}
                discard(transport)


def test_transport_that_meddles(streams, arrive, read, switched_off):
    """What resume_reading() and pause_reading() do to the reader."""

    def delete(name):
        return lambda: delattr(reader, name)

    def step():
        reader.read(1).send(None)

    actions = [delete(name) for name in ATTRIBUTES] + [
        lambda: reader.__dict__.clear(),
        lambda: reader._buffer.clear(),
        lambda: setattr(reader, "_buffer", None),
        lambda: reader.feed_eof(),
        lambda: reader.feed_data(b"x"),
        lambda: reader.set_exception(ValueError("x")),
        step,
    ]

    class Meddling:
        def resume_reading(self):
            action()

        pause_reading = resume_reading

    for action in actions:  # noqa: B007
        for size in (3, 20, 30):
            reader, _, transport, peer = streams(limit=10)
            arrive(reader, peer, b"0" * size)
            reader._transport, reader._paused = Meddling(), size != 20
            with anything_goes():
                coroutine = read(reader)
                coroutine.send(None)
                coroutine.send(None)
            with anything_goes():
                reader.feed_data(b"1")
            coroutine = None
            reader.__dict__.clear()
            discard(transport)


def test_waiter_that_meddles(streams, arrive, read):
    """What the program's own future does to the reader as it is woken."""

    class Waiter:
        _asyncio_future_blocking = False

        def cancelled(self):
            action()
            return False

        def set_result(self, result):
            action()

        def done(self):
            action()
            return True

        result = cancelled

    def clear():
        reader.__dict__.clear()
        gc.collect()

    actions = [functools.partial(lambda name: delattr(reader, name), name) for name in ATTRIBUTES]
    actions += [clear, lambda: reader.feed_data(b"x"), lambda: reader.feed_eof(), lambda: read(reader).send(None)]
    for action in actions:  # noqa: B007
        reader, _, transport, peer = streams(limit=2)
        reader._waiter = Waiter()
        with anything_goes():
            reader.feed_data(b"12345")
        reader.__dict__.clear()
        discard(transport)


def test_futures_of_the_programs_own(streams, loop, run, read):
    """A loop whose create_future() makes something that can be awaited."""
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


def test_future_that_is_done(streams, loop, run):
    """Awaiting it does not take a turn."""
    reader, _, _, _ = streams()
    done = loop.create_future()
    done.set_result(None)
    reader._loop = mock.Mock(create_future=lambda: done)
    assert finish(reader.read(5)) == b"" and reader._waiter is None


def test_loop_that_overrides(loop_class, new_loop, read):
    """A subclass of the loop whose futures and callbacks are its own."""
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


@pytest.mark.skipif(not hasattr(asyncio, "eager_task_factory"), reason="from Python 3.12 on")
def test_eager_tasks(streams, loop, run, arrive, read):
    reader, _, _, peer = streams()
    loop.set_task_factory(asyncio.eager_task_factory)
    arrive(reader, peer)

    async def main():
        first = asyncio.ensure_future(read(reader))
        assert first.done() and first.result() == FIRST[read.name]
        reader._buffer.clear()
        second = asyncio.ensure_future(read(reader))
        assert not second.done() and reader._waiter is not None
        peer.send(DATA)
        return await second

    assert run(main()) == FIRST[read.name]


def test_references(streams, run, read):
    """Many rounds leave nothing behind."""
    reader, _, transport, peer = streams(limit=100)
    loop, peak = reader._loop, []

    def round():
        reader.feed_data(DATA)
        with contextlib.suppress(StopIteration):
            read(reader).send(None)
        reader._buffer.clear()
        coroutine = read(reader)
        coroutine.send(None)
        reader.feed_data(b"12345678\n")
        with contextlib.suppress(StopIteration):
            coroutine.send(None)
        reader._buffer.clear()
        coroutine = read(reader)
        coroutine.send(None)
        with contextlib.suppress(ValueError):
            coroutine.throw(ValueError("x"))
        coroutine = read(reader)
        coroutine.send(None)
        coroutine.close()
        reader._buffer.extend(b"x" * 101)
        with contextlib.suppress(ValueError, asyncio.LimitOverrunError, StopIteration):
            read(reader).send(None)
        reader._buffer.clear()
        reader.set_exception(OSError("x"))
        with contextlib.suppress(OSError):
            read(reader).send(None)
        reader._exception = None
        reader._eof = True
        with contextlib.suppress(asyncio.IncompleteReadError, StopIteration, StopAsyncIteration):
            read(reader).send(None)
        reader._eof = False

    watched = [reader, transport, loop, type(reader), None, True, False, b"", asyncio.IncompleteReadError, DATA]

    def counts():
        gc.collect()
        return [sys.getrefcount(thing) for thing in watched]

    for _ in range(3):
        for _ in range(200):
            round()
        peak.append(counts())
    assert all(after - before < 100 for before, after in zip(peak[1], peak[2])), peak
