"""connect_write_pipe: data of every form and size, and both directions at once."""

import asyncio
import contextlib
import os
import sys

import pytest

BOTH = pytest.mark.parametrize("kind", ["pipe", "socket"])
# Of a terminal (a pty) our end is the master.
ALL = pytest.mark.parametrize("kind", ["pipe", "socket", "pty"])
SIZES = pytest.mark.parametrize("size", [1, 65536, 65537, 262145, 2000000])


@ALL
def test_writing(writing, recorder, collect, kind):
    transport, peer = writing(recorder(), kind)
    transport.write(b"one, ")
    transport.write(b"")
    transport.write(bytearray(b"two, "))
    transport.write(memoryview(b"three, "))
    transport.writelines([b"four, ", bytearray(b"five, "), memoryview(b"six")])
    transport.writelines([])
    assert collect(peer, 31) == b"one, two, three, four, five, six"[:31]


@BOTH
@SIZES
def test_writing_of_any_size(writing, recorder, collect, kind, size):
    transport, peer = writing(recorder(), kind)
    data = os.urandom(size)
    transport.write(data)
    assert collect(peer, size) == data
    assert transport.get_write_buffer_size() == 0


@BOTH
@pytest.mark.parametrize("make", [bytes, bytearray, memoryview], ids=["bytes", "bytearray", "memoryview"])
def test_small_writes_behind_a_large_one_keep_their_order(writing, recorder, collect, turn, kind, make):
    transport, peer = writing(recorder(), kind)
    pieces = [os.urandom(1000000)] + [b"%d, " % number for number in range(1000)]
    for piece in pieces:
        transport.write(make(piece))
    expected = b"".join(pieces)
    assert collect(peer, len(expected)) == expected


@pytest.mark.skipif(sys.version_info < (3, 12), reason="classes of Python have no buffers")
@BOTH
def test_bytes_of_a_class_with_a_buffer_of_its_own(writing, recorder, collect, kind):
    class Shell(bytes):
        def __buffer__(self, flags):
            return memoryview(b"buffer")

    transport, peer = writing(recorder(), kind)
    transport.write(Shell(b"object"))
    assert collect(peer, 6) == b"buffer"


def test_bytearray_may_change_after_it_was_written(writing, recorder, clog, collect):
    transport, peer = writing(recorder())
    before = clog(transport)
    for size in 3, 300000:
        data = bytearray(b"x" * size)
        transport.write(data)
        transport.write(memoryview(data))
        data[:] = b"y" * size
        del data[:]  # nor is it locked
    assert collect(peer, len(before) + 600006) == before + b"x" * 600006


@pytest.mark.parametrize(
    "data", ["text", None, 1, [b"x"], object, (), "", 0], ids=["str", "None", "int", "list", "type", "()", "''", "0"]
)
@pytest.mark.parametrize("method", ["write", "writelines"])
def test_odd_data(as_asyncio, method, data):
    def body(loop):
        reader, writer = os.pipe()
        with open(reader, "rb", buffering=0), open(writer, "wb", buffering=0) as file:
            transport, _ = loop.run_until_complete(loop.connect_write_pipe(asyncio.BaseProtocol, file))
            try:
                return getattr(transport, method)(data)
            finally:
                transport.close()
                loop.run_until_complete(asyncio.sleep(0))

    as_asyncio(body)


def test_both_directions_at_once(loop, reading, recorder, connect_file, ends, until):
    """What one transport reads another writes, to a pipe that the first reads."""
    data = os.urandom(3000000)
    sink = recorder()
    file, peer = ends("pipe", "wb")
    forward = connect_file(recorder(), file, "wb")
    relay = recorder(data_received=lambda self, data: forward.write(data))
    source, feeder = reading(relay)
    target = connect_file(sink, open(os.dup(peer.descriptor), "rb", buffering=0), "rb")
    sent = 0

    def done():
        nonlocal sent
        with contextlib.suppress(BlockingIOError):
            sent += feeder.send(data[sent : sent + 50000])
        return sum(map(len, sink.chunks)) >= len(data)

    until(done)
    assert sink.data == data
    target.close()
