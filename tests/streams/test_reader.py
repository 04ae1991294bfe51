"""StreamReader on a transport of the loop: its methods, exceptions, EOF, debug mode."""

import asyncio
import copy
import gc
import socket
import weakref

import pytest

METHODS = ["read", "readexactly", "readuntil", "readline", "__anext__"]
DATA = b"data\nmore\n"
FIRST = {"read": b"data", "readexactly": b"data", "readuntil": b"data\n", "readline": b"data\n", "__anext__": b"data\n"}
ATTRIBUTES = ["_limit", "_loop", "_buffer", "_eof", "_waiter", "_exception", "_transport", "_paused"]


def told_as(name):
    """The method name in the reader's error messages."""
    return "readuntil" if name in ("readline", "__anext__") else name


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
def test_separator_comes_in_pieces(streams, separator, before, finish):
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


def test_woken_without_data(streams, read, finish):
    """Woken by something unexpected: read() takes it for EOF, the others wait again."""
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


# Two at once, exceptions, and EOF


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


def test_what_a_transport_answers_is_not_kept(streams, run, arrive):
    seen = []

    class Answer:
        def __init__(self):
            seen.append(weakref.ref(self))

    class Odd:
        def resume_reading(self):
            return Answer()

        pause_reading = resume_reading

    reader, _, _, peer = streams(limit=5)
    arrive(reader, peer, b"0123456789")
    reader._transport, reader._paused = Odd(), False
    reader.feed_data(b"ab")
    assert reader._paused and run(reader.read(8)) == b"01234567" and not reader._paused
    gc.collect()
    assert [each() for each in seen] == [None, None]


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
