"""readexactly() of a large message, which is received without a copy: nobody can tell."""

import asyncio
import select
import tracemalloc

import pytest

SIZE = 60_000
MESSAGE = bytes(range(256)) * 240


@pytest.fixture(autouse=True)
def all_is_well(nothing_is_reported):
    """For every test of this file."""


@pytest.fixture
def reading(loop, streams, until):
    """reading(size=SIZE): a task that waits in readexactly(), its reader, and send(data), which returns when all of it
    was received.
    """

    def reading(size=SIZE, limit=2**16):
        reader, _, transport, peer = streams(limit)
        task = loop.create_task(reader.readexactly(size))
        until(lambda: reader._waiter is not None)

        def send(data):
            peer.sendall(data)
            # Looking at the buffer would change it: the socket shows it, and that the task waits again.
            sock = transport.get_extra_info("socket")
            until(lambda: task.done() or not (has_data(sock) or reader._waiter is None))

        return task, reader, send, peer

    return reading


def has_data(sock):
    return bool(select.select([sock.fileno()], [], [], 0)[0])


def test_message_in_pieces(loop, reading):
    task, reader, send, _ = reading()
    for start in range(0, SIZE, 20_000):
        assert not task.done()
        send(MESSAGE[start : start + 20_000])
    assert loop.run_until_complete(task) == MESSAGE[:SIZE]
    assert reader._buffer == b"" and reader._waiter is None


@pytest.mark.parametrize("extra", [1, 70_000])
def test_more_than_the_message(loop, reading, until, extra):
    task, reader, send, peer = reading()
    sending = loop.run_in_executor(None, peer.sendall, MESSAGE[:SIZE] + b"x" * extra)
    assert loop.run_until_complete(task) == MESSAGE[:SIZE]
    assert loop.run_until_complete(reader.readexactly(extra)) == b"x" * extra
    assert reader._buffer == b""
    loop.run_until_complete(sending)


def test_buffer_that_somebody_looks_at(loop, reading):
    task, reader, send, _ = reading()
    send(MESSAGE[:25_000])
    assert reader._buffer == MESSAGE[:25_000] and not reader.at_eof()
    send(MESSAGE[25_000:40_000])
    assert repr(reader).startswith("<StreamReader 40000 bytes ")
    send(MESSAGE[40_000:SIZE])
    assert loop.run_until_complete(task) == MESSAGE[:SIZE]


@pytest.mark.parametrize("sent", [0, 30_000, SIZE])
def test_cancelled_reader_loses_nothing(loop, reading, sent):
    task, reader, send, _ = reading()
    if sent == SIZE:
        # In the same turn as the cancellation: all data is there, and the task has not run.
        reader.feed_data(MESSAGE[:SIZE])
    else:
        send(MESSAGE[:sent])
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    assert reader._waiter is None
    assert reader._buffer == MESSAGE[:sent]
    rest = loop.create_task(reader.readexactly(SIZE))
    send(MESSAGE[sent:SIZE])
    assert loop.run_until_complete(rest) == MESSAGE[:SIZE]


def test_cancelled_when_all_is_there(loop, streams, until):
    reader, _, transport, peer = streams()
    coroutine = reader.readexactly(SIZE)
    waiter = coroutine.send(None)
    peer.sendall(MESSAGE[:SIZE])
    until(waiter.done)
    sock = transport.get_extra_info("socket")
    until(lambda: not has_data(sock))
    with pytest.raises(asyncio.CancelledError):
        coroutine.throw(asyncio.CancelledError())
    assert reader._buffer == MESSAGE[:SIZE]
    assert loop.run_until_complete(reader.readexactly(SIZE)) == MESSAGE[:SIZE]


def test_end_in_the_middle(loop, reading):
    task, reader, send, peer = reading()
    send(MESSAGE[:30_000])
    peer.close()
    with pytest.raises(asyncio.IncompleteReadError) as caught:
        loop.run_until_complete(task)
    assert caught.value.partial == MESSAGE[:30_000] and caught.value.expected == SIZE
    assert reader.at_eof()


def test_exception_in_the_middle(loop, reading):
    task, reader, send, _ = reading()
    send(MESSAGE[:30_000])
    reader.set_exception(ValueError("enough"))
    with pytest.raises(ValueError, match="enough"):
        loop.run_until_complete(task)
    assert reader._buffer == MESSAGE[:30_000]


def test_data_from_elsewhere_in_the_middle(loop, reading):
    task, reader, send, _ = reading()
    send(MESSAGE[:30_000])
    reader.feed_data(b"-")
    send(MESSAGE[:SIZE])
    assert loop.run_until_complete(task) == (MESSAGE[:30_000] + b"-" + MESSAGE)[:SIZE]


def test_waiter_set_by_the_program(loop, reading):
    task, reader, send, _ = reading()
    send(MESSAGE[:30_000])
    reader._waiter.set_result(None)
    loop.run_until_complete(asyncio.sleep(0))
    assert not task.done()
    send(MESSAGE[30_000:SIZE])
    assert loop.run_until_complete(task) == MESSAGE[:SIZE]


def test_buffer_replaced_in_the_middle(loop, reading):
    task, reader, send, _ = reading()
    send(MESSAGE[:30_000])
    reader._buffer = bytearray(b"new")
    send(MESSAGE[:SIZE])
    assert loop.run_until_complete(task) == (b"new" + MESSAGE)[:SIZE]


@pytest.mark.parametrize("limit", [1, 10_000, 30_000])
def test_limit_below_the_message(loop, reading, limit):
    task, reader, send, peer = reading(limit=limit)
    peer.settimeout(5)
    peer.sendall(MESSAGE[:SIZE])
    assert loop.run_until_complete(task) == MESSAGE[:SIZE]


def test_task_dropped_in_the_middle(loop, streams, until):
    reader, _, transport, peer = streams()
    coroutine = reader.readexactly(SIZE)
    coroutine.send(None)
    peer.sendall(MESSAGE[:30_000])
    sock = transport.get_extra_info("socket")
    until(lambda: not has_data(sock))
    del coroutine
    assert reader._waiter is None and reader._buffer == MESSAGE[:30_000]


def test_transport_aborted_in_the_middle(loop, reading):
    task, reader, send, _ = reading()
    send(MESSAGE[:30_000])
    reader._transport.abort()
    with pytest.raises(asyncio.IncompleteReadError) as caught:
        loop.run_until_complete(task)
    assert caught.value.partial == MESSAGE[:30_000]


@pytest.mark.gil  # else the streams are asyncio's
@pytest.mark.usefixtures("own_tasks")
def test_message_is_in_memory_once(loop, loop_kind, reading, switched_off):
    """asyncio has it in its buffer as well, which grows."""
    if loop_kind == "asyncio" or switched_off:
        pytest.skip("asyncio copies it")
    size = 1 << 22
    task, _, _, peer = reading(size, size)
    message = bytes(size)
    sending = loop.run_in_executor(None, peer.sendall, message)
    tracemalloc.start()
    try:
        received = loop.run_until_complete(task)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    loop.run_until_complete(sending)
    assert received == message and size < peak < 1.5 * size
