"""connect_read_pipe and connect_write_pipe: over pipes, named pipes, sockets and terminals."""

import asyncio
import contextlib
import contextvars
import errno
import functools
import gc
import os
import re
import socket
import tty
import warnings
import weakref

import pytest

VAR = contextvars.ContextVar("VAR", default="unset")
INTERRUPTIONS = pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
# A pipe, and a socket as if it were one; of a terminal (a pty) our end is the master.
BOTH = pytest.mark.parametrize("kind", ["pipe", "socket"])
ALL = pytest.mark.parametrize("kind", ["pipe", "socket", "pty"])
TELLS_IF_READING = pytest.mark.skipif(
    "is_reading" not in vars(asyncio.unix_events._UnixReadPipeTransport), reason="not in this asyncio"
)
SIZES = pytest.mark.parametrize("size", [1, 65536, 65537, 262145, 2000000])


def raiser(error, text="on purpose"):
    def raise_it(*args):
        raise error(text)

    return raise_it


def descriptors(kind):
    """Two connected descriptors: for a pipe the end that is read comes first."""
    if kind == "pipe":
        return os.pipe()
    if kind == "socket":
        return tuple(sock.detach() for sock in socket.socketpair())
    master, slave = os.openpty()
    tty.setraw(slave)
    return master, slave


class Peer:
    """The other end, with what `collect` and `feed` need of a socket."""

    def __init__(self, descriptor):
        os.set_blocking(descriptor, False)
        self.descriptor = descriptor

    def send(self, data):
        return os.write(self.descriptor, data)

    def recv(self, size):
        return os.read(self.descriptor, size)

    def close(self):
        if self.descriptor is not None:
            os.close(self.descriptor)
        self.descriptor = None


def drained(peer):
    """What there is to read now."""
    try:
        return peer.recv(1 << 20)
    except BlockingIOError:
        return b""


class File:
    """All that a transport needs of a file; counts how often it is closed."""

    def __init__(self, descriptor):
        self.descriptor = descriptor
        self.closed = 0

    def fileno(self):
        return self.descriptor

    def close(self):
        self.closed += 1
        if self.closed == 1:
            os.close(self.descriptor)


# Fixtures


@pytest.fixture
def ends():
    """Makes an unbuffered file opened for "rb" or "wb", and its peer; both are closed after the test."""
    with contextlib.ExitStack() as stack:

        def ends(kind, mode):
            ours, theirs = descriptors(kind)[:: 1 if mode == "rb" else -1]
            if kind == "pty":  # a program has the slave
                ours, theirs = max(ours, theirs, key=is_master), min(ours, theirs, key=is_master)
            file = stack.enter_context(open(ours, mode, buffering=0))
            peer = Peer(theirs)
            stack.callback(peer.close)
            return file, peer

        yield ends


def is_master(descriptor):
    return os.readlink("/proc/self/fd/%d" % descriptor).endswith("ptmx")


@pytest.fixture
def ended(loop, turn, ends):
    """Ends the transports added to it, after the test and before their files are closed."""
    transports = weakref.WeakSet()
    yield transports
    if loop.is_closed():
        return
    for transport in list(transports):
        if not transport.is_closing():
            transport.close()
        if transport.get_protocol() is not None and getattr(transport, "get_write_buffer_size", int)():
            transport.abort()
    turn()
    turn()


@pytest.fixture
def connect_file(loop, run, ended):
    """Connects a file of that mode to the protocol; returns the transport."""

    def connect_file(protocol, file, mode):
        connect = loop.connect_read_pipe if mode == "rb" else loop.connect_write_pipe
        transport, made = run(connect(lambda: protocol, file))
        assert made is protocol
        ended.add(transport)
        return transport

    return connect_file


@pytest.fixture
def connect_end(connect_file, ends):
    """A transport on an end of that mode, and its peer, the other end."""

    def connect_end(mode, protocol, kind="pipe"):
        file, peer = ends(kind, mode)
        return connect_file(protocol, file, mode), peer

    return connect_end


@pytest.fixture
def reading(connect_end):
    """A transport that reads for the protocol, and the end to write to."""
    return functools.partial(connect_end, "rb")


@pytest.fixture
def writing(connect_end):
    """A transport that writes for the protocol, and the end to read from."""
    return functools.partial(connect_end, "wb")


@pytest.fixture(params=["rb", "wb"], ids=["read", "write"])
def mode(request):
    """For tests of what both transports do alike."""
    return request.param


@pytest.fixture
def opened(connect_end, mode):
    """A transport of either direction, and its peer."""
    return functools.partial(connect_end, mode)


# Reading


@BOTH
def test_calls_come_in_order(reading, recorder, until, kind):
    protocol = recorder()
    transport, peer = reading(protocol, kind)
    assert protocol.calls == ["connection_made"] and protocol.transport is transport
    peer.send(b"hello")
    until(lambda: protocol.data)
    peer.close()
    until(lambda: protocol.lost)
    assert protocol.calls == ["connection_made", "data_received", "eof_received", "connection_lost"]
    assert protocol.data == b"hello" and protocol.lost == [None]


@BOTH
def test_connection_is_made_before_the_caller_goes_on(run, loop, recorder, ends, ended, until, kind):
    file, peer = ends(kind, "rb")
    peer.send(b"early")
    protocol = recorder()

    async def main():
        transport, _ = await loop.connect_read_pipe(lambda: protocol, file)
        ended.add(transport)
        return list(protocol.calls)

    assert run(main())[0] == "connection_made"
    until(lambda: protocol.data)
    assert protocol.calls == ["connection_made", "data_received"]


@BOTH
def test_last_data_come_before_the_end(reading, recorder, until, kind):
    protocol = recorder()
    transport, peer = reading(protocol, kind)
    peer.send(b"last")
    peer.close()
    until(lambda: protocol.lost)
    assert protocol.data == b"last"
    assert protocol.calls == ["connection_made", "data_received", "eof_received", "connection_lost"]


@BOTH
@pytest.mark.parametrize("answer", [True, False, None])
def test_answer_of_eof_received_changes_nothing(reading, recorder, until, kind, answer):
    """There is no other half to keep open."""
    protocol = recorder(eof_received=lambda self: answer)
    transport, peer = reading(protocol, kind)
    peer.close()
    until(lambda: protocol.lost)
    assert protocol.calls == ["connection_made", "eof_received", "connection_lost"]
    assert protocol.lost == [None] and transport.is_closing()


def test_eof_received_that_raises_is_reported(reading, recorder, until, reports):
    protocol = recorder(eof_received=raiser(ZeroDivisionError))
    transport, peer = reading(protocol)
    peer.close()
    until(lambda: protocol.lost)
    assert protocol.lost == [None]
    assert [type(context["exception"]) for context in reports] == [ZeroDivisionError]


def test_data_received_that_raises_is_reported_and_reading_goes_on(reading, recorder, until, reports):
    """Unlike that of a connection: asyncio closes those."""
    protocol = recorder(data_received=raiser(ZeroDivisionError))
    transport, peer = reading(protocol)
    for data in b"one", b"two":
        peer.send(data)
        until(lambda data=data: protocol.chunks[-1:] == [data])
    assert not transport.is_closing()
    assert [type(context["exception"]) for context in reports] == [ZeroDivisionError] * 2


def test_connection_made_that_raises_is_reported_and_the_pipe_is_read(reading, recorder, until, reports):
    protocol = recorder(connection_made=raiser(ZeroDivisionError))
    transport, peer = reading(protocol)
    peer.send(b"x")
    until(lambda: protocol.data)
    assert [type(context["exception"]) for context in reports] == [ZeroDivisionError]


def test_connection_lost_that_raises_is_reported_and_the_file_is_closed(opened, recorder, turn, reports):
    protocol = recorder(connection_lost=raiser(ZeroDivisionError))
    transport, peer = opened(protocol)
    transport.close()
    turn()
    assert [type(context["exception"]) for context in reports] == [ZeroDivisionError]
    assert transport.get_extra_info("pipe").closed


@ALL
def test_data_are_bytes_of_one_piece(reading, recorder, turn, until, kind):
    protocol = recorder()
    transport, peer = reading(protocol, kind)
    transport.pause_reading()
    for part in b"a", b"b" * 1000, b"c":
        peer.send(part)
    transport.resume_reading()
    until(lambda: len(protocol.data) == 1002)
    assert protocol.data == b"a" + b"b" * 1000 + b"c"
    assert {type(chunk) for chunk in protocol.chunks} == {bytes}
    assert len(protocol.chunks) == 1 or kind == "pty"  # the kernel flushes a terminal's in pieces


@BOTH
@SIZES
def test_reading_of_any_size(reading, recorder, feed, until, kind, size):
    protocol = recorder()
    transport, peer = reading(protocol, kind)
    data = os.urandom(size)
    feed(peer, data)
    until(lambda: sum(map(len, protocol.chunks)) >= size)
    assert protocol.data == data
    assert max(map(len, protocol.chunks)) <= 262144


def test_terminal_that_is_hung_up(reading, recorder, until):
    """Reading the master fails with EIO then. That is how terminals end, hence not reported."""
    protocol = recorder()
    transport, peer = reading(protocol, "pty")
    peer.send(b"bye")
    until(lambda: protocol.data == b"bye")
    peer.close()
    until(lambda: protocol.lost)
    assert [error.errno for error in protocol.lost] == [errno.EIO]
    assert protocol.calls == ["connection_made", "data_received", "connection_lost"]


def test_read_that_fails_is_reported(connect_file, ends, recorder, until, reports):
    """The end to write to cannot be read, and is ready once there is nobody to read from it."""
    file, peer = ends("pipe", "wb")
    protocol = recorder()
    transport = connect_file(protocol, file, "rb")
    peer.close()
    until(lambda: protocol.lost)
    (report,) = reports
    assert report["message"] == "Fatal read error on pipe transport"
    assert report["exception"].errno == errno.EBADF and protocol.lost == [report["exception"]]
    assert report["transport"] is transport and report["protocol"] is protocol
    assert protocol.calls == ["connection_made", "connection_lost"]


def test_named_pipe(connect_file, recorder, tmp_path, turn, until):
    """Nobody has it open for writing at first; that is no end."""
    path = str(tmp_path / "fifo")
    os.mkfifo(path)
    protocol = recorder()
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as file:
        connect_file(protocol, file, "rb")
        for _ in range(3):
            turn()
        assert protocol.calls == ["connection_made"]
        with open(path, "wb", buffering=0) as writer:
            writer.write(b"through the folder")
        until(lambda: protocol.lost)
    assert protocol.data == b"through the folder" and protocol.lost == [None]


def test_named_pipe_written(connect_file, recorder, tmp_path, until):
    path = str(tmp_path / "fifo")
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    protocol = recorder()
    try:
        with open(path, "wb", buffering=0) as file:
            transport = connect_file(protocol, file, "wb")
            transport.write(b"through the folder")
            assert os.read(reader, 100) == b"through the folder"
            transport.close()
            until(lambda: protocol.lost)
            assert os.read(reader, 100) == b""
    finally:
        os.close(reader)


def test_many_pipes_keep_their_bytes_apart(reading, recorder, until):
    made = []
    for number in range(50):
        protocol = recorder()
        made.append((protocol, reading(protocol)[1], b"%d." % number * 10))
    for _, peer, data in made:
        peer.send(data)
    until(lambda: all(len(protocol.data) == len(data) for protocol, _, data in made))
    assert [protocol.data for protocol, _, _ in made] == [data for _, _, data in made]


@ALL
def test_paused_reading(reading, recorder, turn, until, kind):
    protocol = recorder()
    transport, peer = reading(protocol, kind)
    transport.pause_reading()
    transport.pause_reading()
    peer.send(b"x")
    for _ in range(5):
        turn()
    assert protocol.data == b""
    transport.resume_reading()
    transport.resume_reading()
    until(lambda: protocol.data == b"x")


def test_end_is_not_told_while_paused(reading, recorder, turn, until):
    protocol = recorder()
    transport, peer = reading(protocol)
    transport.pause_reading()
    peer.close()
    for _ in range(5):
        turn()
    assert protocol.calls == ["connection_made"]
    transport.resume_reading()
    until(lambda: protocol.lost)
    assert protocol.lost == [None]


def test_paused_in_data_received(reading, recorder, turn, until):
    protocol = recorder(data_received=lambda self, data: self.transport.pause_reading())
    transport, peer = reading(protocol)
    peer.send(b"1")
    until(lambda: protocol.data)
    peer.send(b"2")
    for _ in range(5):
        turn()
    assert protocol.data == b"1"
    transport.resume_reading()
    until(lambda: protocol.data == b"12")


@TELLS_IF_READING
def test_paused_in_connection_made(reading, recorder, turn):
    protocol = recorder(connection_made=lambda self, transport: transport.pause_reading())
    transport, peer = reading(protocol)
    peer.send(b"x")
    for _ in range(5):
        turn()
    assert protocol.data == b"" and not transport.is_reading()


@TELLS_IF_READING
def test_is_reading(reading, recorder):
    transport, peer = reading(recorder())
    seen = [transport.is_reading()]
    for method in "pause_reading", "resume_reading", "close":
        getattr(transport, method)()
        seen.append(transport.is_reading())
    assert seen == [True, False, True, False]


def test_pausing_and_resuming_a_closed_transport_does_nothing(reading, recorder, turn):
    protocol = recorder()
    transport, peer = reading(protocol)
    peer.send(b"x")
    transport.close()
    transport.pause_reading()
    transport.resume_reading()
    turn()
    assert protocol.calls == ["connection_made", "connection_lost"]


def test_close_in_data_received_is_the_last_of_it(reading, recorder, turn, until):
    protocol = recorder(data_received=lambda self, data: self.transport.close())
    transport, peer = reading(protocol)
    peer.send(b"1")
    until(lambda: protocol.data)
    with contextlib.suppress(BrokenPipeError):
        peer.send(b"2")
    for _ in range(3):
        turn()
    assert protocol.calls == ["connection_made", "data_received", "connection_lost"]


def test_protocol_may_be_replaced(reading, recorder, until):
    first, second = recorder(), recorder()
    transport, peer = reading(first)
    assert transport.get_protocol() is first
    peer.send(b"1")
    until(lambda: first.data)
    transport.set_protocol(second)
    assert transport.get_protocol() is second
    peer.send(b"2")
    peer.close()
    until(lambda: second.lost)
    assert first.calls == ["connection_made", "data_received"]
    assert second.calls == ["data_received", "eof_received", "connection_lost"] and second.data == b"2"


def test_protocol_may_be_replaced_by_data_received(reading, recorder, until):
    second = recorder()
    first = recorder(data_received=lambda self, data: self.transport.set_protocol(second))
    transport, peer = reading(first)
    for data in b"1", b"2":
        peer.send(data)
        until(lambda data=data: data in (first.data, second.data))
    assert (first.data, second.data) == (b"1", b"2")


# Writing


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


def test_size_of_the_buffer(writing, recorder, clog, collect):
    transport, peer = writing(recorder())
    assert transport.get_write_buffer_size() == 0
    data = clog(transport)
    size = transport.get_write_buffer_size()
    assert 0 < size <= len(data)
    transport.write(b"12345")
    assert transport.get_write_buffer_size() == size + 5
    transport.writelines([b"12", bytearray(b"345")])
    assert transport.get_write_buffer_size() == size + 10
    collect(peer, len(data) + 10)
    assert transport.get_write_buffer_size() == 0


def test_limits(writing, recorder):
    transport, peer = writing(recorder())
    assert transport.get_write_buffer_limits() == (16384, 65536)
    for arguments, limits in (
        ({"high": 1000}, (250, 1000)),
        ({"low": 1000}, (1000, 4000)),
        ({"high": 5, "low": 4}, (4, 5)),
        ({"high": 0}, (0, 0)),
        ({}, (16384, 65536)),
        ({"high": 2**40, "low": 2**33}, (2**33, 2**40)),
    ):
        transport.set_write_buffer_limits(**arguments)
        assert transport.get_write_buffer_limits() == limits


@pytest.mark.parametrize("limits", [(1, 2), (-1, None), (None, -1), (5, -1), ("x", None)], ids=repr)
def test_limits_that_are_refused(as_asyncio, limits):
    def body(loop):
        reader, writer = os.pipe()
        with open(reader, "rb", buffering=0), open(writer, "wb", buffering=0) as file:
            transport, _ = loop.run_until_complete(loop.connect_write_pipe(asyncio.BaseProtocol, file))
            try:
                transport.set_write_buffer_limits(*limits)
                return transport.get_write_buffer_limits()
            finally:
                transport.close()
                loop.run_until_complete(asyncio.sleep(0))

    as_asyncio(body)


@BOTH
def test_protocol_is_paused_above_the_mark_and_resumed_below(writing, recorder, collect, turn, kind):
    sizes = []
    protocol = recorder(resume_writing=lambda self: sizes.append(self.transport.get_write_buffer_size()))
    transport, peer = writing(protocol, kind)
    data = os.urandom(2000000)
    transport.write(data)
    assert protocol.calls == ["connection_made", "pause_writing"]
    transport.write(data)
    turn()
    assert protocol.calls == ["connection_made", "pause_writing"]
    assert collect(peer, 4000000) == data * 2
    assert protocol.calls == ["connection_made", "pause_writing", "resume_writing"]
    assert len(sizes) == 1 and sizes[0] <= 16384


def test_nothing_is_paused_at_the_mark_itself(writing, recorder, clog):
    protocol = recorder()
    transport, peer = writing(protocol)
    clog(transport)
    high = transport.get_write_buffer_size() + 100
    transport.set_write_buffer_limits(high)
    before = protocol.calls.count("pause_writing")
    transport.write(bytes(100))
    assert transport.get_write_buffer_size() == high
    assert protocol.calls.count("pause_writing") == before
    transport.write(b"x")
    assert protocol.calls.count("pause_writing") == before + 1


def test_lowering_the_mark_pauses_at_once(writing, recorder, clog):
    protocol = recorder()
    transport, peer = writing(protocol)
    transport.set_write_buffer_limits(1 << 30)
    clog(transport)
    assert "pause_writing" not in protocol.calls
    transport.set_write_buffer_limits(0)
    assert protocol.calls[-1] == "pause_writing"


def test_resume_writing_may_write_and_be_paused_again(writing, recorder, collect):
    left = [3]

    def refill(self):
        if left[0]:
            left[0] -= 1
            self.transport.write(bytes(1000000))

    protocol = recorder(resume_writing=refill)
    transport, peer = writing(protocol)
    transport.write(bytes(1000000))
    assert collect(peer, 4000000) == bytes(4000000)
    assert protocol.calls == ["connection_made"] + ["pause_writing", "resume_writing"] * 4


@pytest.mark.parametrize("method", ["pause_writing", "resume_writing"])
def test_flow_control_that_raises_is_reported(writing, recorder, collect, reports, method):
    protocol = recorder(**{method: raiser(ZeroDivisionError)})
    transport, peer = writing(protocol)
    transport.write(bytes(1000000))
    assert collect(peer, 1000000) == bytes(1000000)
    (report,) = reports
    assert report["message"] == "protocol.%s() failed" % method
    assert type(report["exception"]) is ZeroDivisionError
    assert report["transport"] is transport and report["protocol"] is protocol
    assert protocol.calls == ["connection_made", "pause_writing", "resume_writing"]


def test_close_in_resume_writing(writing, recorder, collect, until, native):
    """asyncio's calls connection_lost() at once, and so never again finds its loop."""
    protocol = recorder(resume_writing=lambda self: self.transport.close())
    transport, peer = writing(protocol)
    native(transport)
    transport.write(bytes(1000000))
    assert len(collect(peer)) == 1000000
    until(lambda: protocol.lost)
    assert protocol.lost == [None]


@pytest.mark.parametrize("method", ["close", "write_eof"])
def test_close_sends_what_is_buffered(writing, recorder, collect, until, method):
    protocol = recorder()
    transport, peer = writing(protocol)
    data = os.urandom(1000000)
    transport.write(data)
    getattr(transport, method)()
    assert transport.is_closing() and protocol.lost == []
    transport.write(b"dropped")
    assert collect(peer) == data
    until(lambda: protocol.lost)
    assert protocol.lost == [None]


def test_write_eof_is_close(writing, recorder, turn, collect):
    protocol = recorder()
    transport, peer = writing(protocol)
    assert transport.can_write_eof() is True
    transport.write(b"x")
    transport.write_eof()
    transport.write_eof()
    turn()
    assert protocol.lost == [None] and collect(peer) == b"x"


def test_abort_drops_what_is_buffered(writing, recorder, turn, collect):
    protocol = recorder()
    transport, peer = writing(protocol)
    transport.write(bytes(1000000))
    transport.abort()
    assert transport.is_closing() and transport.get_write_buffer_size() == 0 and protocol.lost == []
    turn()
    assert protocol.lost == [None]
    assert 0 < len(collect(peer)) < 1000000


def test_abort_after_close_with_data_buffered(writing, recorder, turn, collect):
    protocol = recorder()
    transport, peer = writing(protocol)
    transport.write(bytes(1000000))
    transport.close()
    transport.abort()
    turn()
    assert protocol.lost == [None]
    assert 0 < len(collect(peer)) < 1000000


@pytest.mark.parametrize("methods", [("abort", "abort"), ("close", "abort"), ("write_eof", "abort")], ids="+".join)
def test_ended_twice(writing, recorder, turn, native, methods):
    """asyncio's transport calls connection_lost() for each, the second time on None."""
    protocol = recorder()
    transport, peer = writing(protocol)
    native(transport)
    for method in methods:
        getattr(transport, method)()
    turn()
    turn()
    assert protocol.lost == [None]


# The reader goes away


@BOTH
def test_reader_that_leaves_is_noticed_though_nothing_is_written(writing, recorder, until, kind):
    protocol = recorder()
    transport, peer = writing(protocol, kind)
    peer.close()
    until(lambda: protocol.lost)
    assert protocol.lost == [None] and transport.is_closing()
    assert protocol.calls == ["connection_made", "connection_lost"]


@BOTH
def test_reader_that_leaves_data_unsent(writing, recorder, clog, until, kind):
    protocol = recorder()
    transport, peer = writing(protocol, kind)
    clog(transport)
    peer.close()
    until(lambda: protocol.lost)
    assert [type(error) for error in protocol.lost] == [BrokenPipeError]
    assert transport.get_write_buffer_size() == 0


@BOTH
def test_write_that_finds_the_reader_gone(writing, recorder, turn, kind, caplog):
    """An OSError is no news to report; later writes are dropped, and logged from the sixth on."""
    protocol = recorder()
    transport, peer = writing(protocol, kind)
    peer.close()
    for _ in range(5):
        transport.write(b"x")
    assert transport.is_closing() and caplog.messages == []
    transport.write(b"x")
    transport.write(b"x")
    assert caplog.messages == ["pipe closed by peer or os.write(pipe, data) raised exception."] * 2
    turn()
    assert [type(error) for error in protocol.lost] == [BrokenPipeError]
    transport.write(b"x")
    assert len(caplog.messages) == 3


@pytest.mark.parametrize("method", ["close", "write_eof"])
def test_reader_that_leaves_while_closing(writing, recorder, until, method):
    protocol = recorder()
    transport, peer = writing(protocol)
    transport.write(bytes(1000000))
    getattr(transport, method)()
    peer.close()
    until(lambda: protocol.lost)
    assert [type(error) for error in protocol.lost] == [BrokenPipeError]


def test_socket_that_is_sent_something_ends(writing, recorder, until):
    """As in asyncio, to which whatever can be read means that the reader has gone."""
    protocol = recorder()
    transport, peer = writing(protocol, "socket")
    peer.send(b"x")
    until(lambda: protocol.lost)
    assert protocol.lost == [None]


def test_terminal_that_is_sent_something_does_not_end(writing, recorder, turn, collect):
    protocol = recorder()
    transport, peer = writing(protocol, "pty")
    peer.send(b"x")
    for _ in range(5):
        turn()
    transport.write(b"still here")
    assert collect(peer, 10) == b"still here"
    assert protocol.calls == ["connection_made"]


def test_write_that_fails_otherwise(connect_file, ends, recorder, turn):
    """The end to read from cannot be written to."""
    file, peer = ends("pipe", "rb")
    protocol = recorder()
    transport = connect_file(protocol, file, "wb")
    transport.write(b"x")
    turn()
    assert [error.errno for error in protocol.lost] == [errno.EBADF]


def test_unread_pipe_does_not_keep_the_loop_busy(loop, writing, recorder, turns_taken):
    transport, peer = writing(recorder())
    transport.write(bytes(1000000))
    before = turns_taken()
    loop.call_later(0.02, loop.stop)
    loop.run_forever()
    assert turns_taken() - before <= 5


def test_paused_pipe_without_writers_does_not_keep_the_loop_busy(loop, reading, recorder, turns_taken):
    transport, peer = reading(recorder())
    transport.pause_reading()
    peer.close()
    before = turns_taken()
    loop.call_later(0.02, loop.stop)
    loop.run_forever()
    assert turns_taken() - before <= 5


# Closing


@ALL
def test_close_is_told_in_a_later_turn_and_once(opened, recorder, turn, kind):
    protocol = recorder()
    transport, peer = opened(protocol, kind)
    file = transport.get_extra_info("pipe")
    assert not transport.is_closing()
    transport.close()
    transport.close()
    assert transport.is_closing() and protocol.lost == [] and not file.closed
    turn()
    turn()
    assert protocol.lost == [None] and file.closed
    transport.close()
    turn()
    assert protocol.lost == [None] and transport.is_closing()
    assert protocol.calls == ["connection_made", "connection_lost"]
    assert transport.get_protocol() is None


def test_close_in_connection_made(opened, recorder, turn, native, ends, connect_file, mode):
    """asyncio's starts watching the descriptor after all: its next owner finds it taken."""
    protocol = recorder(connection_made=lambda self, transport: transport.close())
    transport, peer = opened(protocol)
    native(transport)
    turn()
    turn()
    assert protocol.calls == ["connection_made", "connection_lost"] and protocol.lost == [None]
    again = recorder()
    connect_file(again, ends("pipe", mode)[0], mode)
    assert again.calls == ["connection_made"]


def test_file_is_closed_once(loop, run, recorder, mode, turn):
    ours, theirs = os.pipe()[:: 1 if mode == "rb" else -1]
    file = File(ours)
    connect = loop.connect_read_pipe if mode == "rb" else loop.connect_write_pipe
    transport, protocol = run(connect(recorder, file))
    assert transport.get_extra_info("pipe") is file
    assert transport.get_extra_info("none of these") is None and transport.get_extra_info("nor", 1) == 1
    transport.close()
    turn()
    # Its number may be another's by now, and is not closed again with the transport.
    number = os.dup(theirs)
    assert number == ours
    transport.close()
    del transport, protocol
    gc.collect()
    assert file.closed == 1
    os.close(number)
    os.close(theirs)


def test_file_is_open_in_connection_lost(opened, recorder, until):
    seen = []
    protocol = recorder(connection_lost=lambda self, exc: seen.append(self.transport.get_extra_info("pipe").closed))
    transport, peer = opened(protocol)
    peer.close()
    until(lambda: seen)
    assert seen == [False] and transport.get_extra_info("pipe").closed


def test_descriptor_does_not_block_while_in_use(opened, recorder):
    transport, peer = opened(recorder())
    assert not os.get_blocking(transport.get_extra_info("pipe").fileno())


@ALL
@pytest.mark.parametrize("blocking", [True, False])
def test_blocking_mode_is_restored(connect_file, ends, recorder, mode, turn, native, kind, blocking):
    """It belongs to whoever else has the file open, such as the shell we were started from."""
    file, peer = ends(kind, mode)
    other = os.dup(file.fileno())
    try:
        os.set_blocking(other, blocking)
        transport = connect_file(recorder(), file, mode)
        native(transport)
        transport.close()
        turn()
        assert os.get_blocking(other) is blocking
    finally:
        os.close(other)


def test_descriptor_may_be_used_again(opened, recorder, turn, until, ends, connect_file, collect, mode):
    """The number of a closed pipe is given to the next: nothing of the last is left in the loop."""
    for _ in range(20):
        protocol = recorder()
        transport, peer = opened(protocol)
        if mode == "rb":
            peer.send(b"x")
            until(lambda protocol=protocol: protocol.data == b"x")
        else:
            transport.write(b"x")
            assert collect(peer, 1) == b"x"
        transport.close()
        turn()
        assert protocol.lost == [None]
        peer.close()


def test_one_terminal_for_all_directions(connect_file, ends, recorder, until, collect):
    """Standard input, output and error are often three numbers of one file."""
    file, peer = ends("pty", "rb")
    others = [open(os.dup(file.fileno()), "wb", buffering=0) for _ in range(2)]
    protocol = recorder()
    connect_file(protocol, file, "rb")
    out, err = [connect_file(recorder(), other, "wb") for other in others]
    out.write(b"out, ")
    err.write(b"err")
    assert collect(peer, 8) == b"out, err"
    peer.send(b"in")
    until(lambda: protocol.data == b"in")
    out.close()
    err.close()
    until(lambda: others[0].closed and others[1].closed)
    peer.send(b" again")
    until(lambda: protocol.data == b"in again")


def test_one_number_for_both_directions(connect_file, ends, recorder, turn, until, collect, native):
    """Closing asyncio's write transport makes the loop forget the descriptor, though it is read, too."""
    file, peer = ends("pty", "rb")
    protocol = recorder()
    connect_file(protocol, file, "rb")
    with open(file.fileno(), "wb", buffering=0, closefd=False) as also:
        writer = connect_file(recorder(), also, "wb")
        writer.write(b"out")
        assert collect(peer, 3) == b"out"
        peer.send(b"in")
        until(lambda: protocol.data == b"in")
        native(writer)
        writer.close()
        turn()
        peer.send(b" again")
        until(lambda: protocol.data == b"in again")


# What is refused, and how connecting fails


def regular(folder):
    return open(os.path.join(folder, "regular"), "wb+", buffering=0)


def closed(folder):
    file = open(os.devnull, "rb", buffering=0)
    file.close()
    return file


def folder_itself(folder):
    return File(os.open(folder, os.O_RDONLY))


class Odd:
    """A file whose number is what it says."""

    def __init__(self, number):
        self.number = number

    def fileno(self):
        if self.number == "raises":
            raise ZeroDivisionError("on purpose")
        return self.number

    def close(self):
        pass


ODD_FILES = {
    "regular": regular,
    "closed": closed,
    "folder": folder_itself,
    "not open": lambda folder: Odd(1 << 20),
    "too large": lambda folder: Odd(1 << 40),
    "raises": lambda folder: Odd("raises"),
    "None": lambda folder: None,
    "int": lambda folder: 12345,
    "str": lambda folder: "stdin",
}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of half-made transports of asyncio
@pytest.mark.parametrize("make", ODD_FILES.values(), ids=ODD_FILES)
def test_files_that_are_refused(as_asyncio, make, mode, tmp_path, recorder):
    """The file stays the caller's."""

    def body(loop):
        warnings.filterwarnings("ignore", "unclosed transport", ResourceWarning)  # the same
        file = make(str(tmp_path))
        protocol = recorder()
        connect = loop.connect_read_pipe if mode == "rb" else loop.connect_write_pipe
        try:
            loop.run_until_complete(connect(lambda: protocol, file))
        except Exception as error:
            del connect
            text = "too large" if isinstance(error, OverflowError) else str(error)
            result = type(error), text, protocol.calls, getattr(file, "closed", None)
        loop.run_until_complete(asyncio.sleep(0))
        gc.collect()
        if hasattr(file, "close"):
            file.close()
        return result + (protocol.calls,)

    as_asyncio(body)


def test_null_device_is_written(connect_file, recorder, turn):
    protocol = recorder()
    with open(os.devnull, "wb", buffering=0) as file:
        transport = connect_file(protocol, file, "wb")
        transport.write(bytes(1000000))
        assert transport.get_write_buffer_size() == 0
        transport.close()
        turn()
    assert protocol.calls == ["connection_made", "connection_lost"] and protocol.lost == [None]


def test_null_device_is_read(connect_file, recorder, turn, reports):
    """Not every poller can wait for it: then that is reported, or its end comes all the same."""
    protocol = recorder()
    with open(os.devnull, "rb", buffering=0) as file:
        transport = connect_file(protocol, file, "rb")
        turn()
        transport.close()
        turn()
        turn()
        assert file.closed
    assert protocol.lost == [None] and protocol.data == b""
    assert {type(context["exception"]) for context in reports} <= {PermissionError}


def test_factory_that_raises(loop, run, ends, mode):
    file, peer = ends("pipe", mode)
    connect = loop.connect_read_pipe if mode == "rb" else loop.connect_write_pipe
    with pytest.raises(ZeroDivisionError):
        run(connect(raiser(ZeroDivisionError), file))
    assert not file.closed and os.get_blocking(file.fileno())


@pytest.mark.parametrize("steps", [1, 2])
def test_cancelled_connect(loop, run, turn, ends, recorder, mode, steps):
    """After its first step the file has a transport, which closes it."""
    file, peer = ends("pipe", mode)
    protocol = recorder()
    connect = loop.connect_read_pipe if mode == "rb" else loop.connect_write_pipe
    task = loop.create_task(connect(lambda: protocol, file))
    for _ in range(steps - 1):
        turn()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        run(task)
    turn()
    turn()
    if steps == 1:
        assert protocol.calls == [] and not file.closed
    else:
        assert protocol.calls == ["connection_made", "connection_lost"] and protocol.lost == [None]
        assert file.closed


def test_cancelled_connects_leave_nothing_in_the_loop(loop, run, turn, ends, recorder, until, connect_file, mode):
    """The number of the descriptor is that of another pipe at once."""
    for _ in range(10):
        file, peer = ends("pipe", mode)
        connect = loop.connect_read_pipe if mode == "rb" else loop.connect_write_pipe
        task = loop.create_task(connect(recorder, file))
        turn()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            run(task)
        turn()
        peer.close()
    file, peer = ends("pipe", mode)
    protocol = recorder()
    connect_file(protocol, file, mode)
    peer.close()
    until(lambda: protocol.lost)
    assert protocol.lost == [None]


# Interruptions


@INTERRUPTIONS
def test_interruption_in_connection_made_leaves_the_loop(loop, run, turn, ends, ended, recorder, mode, interruption):
    file, peer = ends("pipe", mode)
    protocol = recorder(connection_made=raiser(interruption))
    connect = loop.connect_read_pipe if mode == "rb" else loop.connect_write_pipe
    task = loop.create_task(connect(lambda: protocol, file))
    with pytest.raises(interruption):
        run(task)
    transport, _ = run(task)
    assert protocol.calls == ["connection_made"]
    transport.close()
    turn()
    assert protocol.lost == [None]


@INTERRUPTIONS
@pytest.mark.parametrize("method", ["data_received", "eof_received", "connection_lost"])
def test_interruption_while_reading_leaves_the_loop(reading, recorder, until, turn, method, interruption):
    protocol = recorder(**{method: raiser(interruption)})
    transport, peer = reading(protocol)
    peer.send(b"x")
    peer.close()
    with pytest.raises(interruption):
        until(lambda: False)
    until(lambda: protocol.lost)
    assert protocol.calls == ["connection_made", "data_received", "eof_received", "connection_lost"]
    assert transport.get_extra_info("pipe").closed


@INTERRUPTIONS
def test_interruption_in_pause_writing_leaves_write(writing, recorder, collect, interruption):
    protocol = recorder(pause_writing=raiser(interruption))
    transport, peer = writing(protocol)
    with pytest.raises(interruption):
        transport.write(bytes(1000000))
    assert collect(peer, 1000000) == bytes(1000000)
    assert protocol.calls == ["connection_made", "pause_writing", "resume_writing"]


@INTERRUPTIONS
def test_interruption_in_resume_writing_leaves_the_loop(writing, recorder, collect, until, interruption):
    protocol = recorder(resume_writing=raiser(interruption))
    transport, peer = writing(protocol)
    transport.write(bytes(1000000))
    got = bytearray()
    with pytest.raises(interruption):
        until(lambda: got.extend(drained(peer)))
    got += drained(peer)
    assert len(got) == 1000000
    transport.write(b"still writing")
    transport.close()
    assert collect(peer) == b"still writing"


# The loop, the collector


def test_callbacks_run_in_the_context_of_who_connected(run, loop, ends, ended, recorder, until):
    file, peer = ends("pipe", "rb")
    seen = []
    names = ["connection_made", "data_received", "eof_received"]
    protocol = recorder(**{name: lambda self, *args: seen.append(VAR.get()) for name in names})

    async def connect():
        VAR.set("who connected")
        ended.add((await loop.connect_read_pipe(lambda: protocol, file))[0])

    run(connect())
    peer.send(b"x")
    peer.close()
    until(lambda: protocol.lost)
    assert seen == ["who connected"] * 3


def test_loop_closed_with_open_pipes(loop, opened, recorder, turn):
    """The warning tells; the file is closed with the transport."""
    protocol = recorder()
    transport, peer = opened(protocol)
    file = transport.get_extra_info("pipe")
    loop.close()
    assert not file.closed and protocol.lost == []
    protocol.transport = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del transport
        gc.collect()
    assert [warning.category for warning in caught] == [ResourceWarning]
    assert re.match(r"unclosed transport <\w+ .*fd=\d+", str(caught[0].message))
    assert file.closed


def test_close_after_the_loop_is_closed(as_asyncio, mode):
    def body(loop):
        with contextlib.ExitStack() as stack:
            fds = os.pipe()
            file = stack.enter_context(open(fds[mode == "wb"], mode, buffering=0))
            stack.callback(os.close, fds[mode == "rb"])
            connect = loop.connect_read_pipe if mode == "rb" else loop.connect_write_pipe
            transport, _ = loop.run_until_complete(connect(asyncio.Protocol, file))
            loop.close()
            try:
                result = transport.close()
            except RuntimeError as error:
                result = str(error)
            result = result, transport.is_closing()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                del transport
                gc.collect()
            return result + (file.closed,)

    as_asyncio(body)


def test_transport_that_nobody_keeps(reading, recorder, turn):
    """A paused one is not the loop's any more."""
    protocol = recorder()
    transport, peer = reading(protocol)
    file = transport.get_extra_info("pipe")
    transport.pause_reading()
    turn()
    protocol.transport = None
    gone = weakref.ref(transport)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del transport
        gc.collect()
    assert [warning.category for warning in caught] == [ResourceWarning]
    caught.clear()  # a warning has its source
    assert gone() is None and file.closed and protocol.lost == []


def test_transport_that_the_loop_keeps(reading, recorder, until):
    protocol = recorder()
    transport, peer = reading(protocol)
    del transport
    protocol.transport = None
    gc.collect()
    peer.send(b"x")
    until(lambda: protocol.data)
    peer.close()
    until(lambda: protocol.lost)


def test_closed_transport_warns_of_nothing(opened, recorder, turn):
    protocol = recorder()
    transport, peer = opened(protocol)
    transport.close()
    turn()
    protocol.transport = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del transport
        gc.collect()
    assert caught == []


def test_closed_transport_is_freed_without_the_collector(opened, recorder, until):
    protocol = recorder()
    lost = protocol.lost
    transport, peer = opened(protocol)
    gc.collect()
    gc.disable()
    try:
        peer.close()
        until(lambda: lost)
        gone = weakref.ref(transport), weakref.ref(protocol)
        protocol.transport = None
        transport = protocol = None
        assert [ref() for ref in gone] == [None, None]
    finally:
        gc.enable()


def state(transport):
    """What repr() says, without the name of the class and numbers."""
    return re.sub(r"fd=\d+", "fd=N", re.match(r"<\w+ ?(.*)>$", repr(transport)).group(1))


def test_repr(as_asyncio, mode):
    def body(loop):
        def turn():
            loop.call_soon(loop.stop)
            loop.run_forever()

        seen = []
        with contextlib.ExitStack() as stack:
            fds = os.pipe()
            file = stack.enter_context(open(fds[mode == "wb"], mode, buffering=0))
            stack.callback(os.close, fds[mode == "rb"])
            connect = loop.connect_read_pipe if mode == "rb" else loop.connect_write_pipe
            transport, _ = loop.run_until_complete(connect(asyncio.Protocol, file))
            turn()
            seen.append(state(transport))
            if mode == "rb":
                transport.pause_reading()
                turn()
                seen.append(state(transport))
            else:
                transport.write(bytes(1000000))
                turn()
                seen.append(state(transport))
            transport.close()
            seen.append(state(transport))
            if mode == "wb":
                transport.abort()
            turn()
            seen.append(state(transport))
        return seen

    as_asyncio(body)


def test_debug_mode_logs(loop, reading, writing, recorder, until, caplog):
    loop.set_debug(True)
    loop.slow_callback_duration = 100
    protocol, writer = recorder(), recorder()
    with caplog.at_level("DEBUG", "asyncio"):
        transport, peer = reading(protocol)
        transport.pause_reading()
        transport.resume_reading()
        peer.close()
        until(lambda: protocol.lost)
        transport, peer = writing(writer)
        peer.close()
        until(lambda: writer.lost)
    texts = [re.sub(r"<\w*(Recorder|Transport)\b[^>]*>", r"<\1>", text) for text in caplog.messages]
    expected = [
        r"Read pipe \d+ connected: \(<Transport>, .*\)",
        "<Transport> pauses reading",
        "<Transport> resumes reading",
        "<Transport> was closed by peer",
        r"Write pipe \d+ connected: \(<Transport>, .*\)",
        "<Transport> was closed by peer",
    ]
    texts = [text for text in texts if "poll" not in text]
    assert len(texts) == len(expected) and all(map(re.match, expected, texts)), texts


def test_streams_over_pipes(run, loop):
    """As asyncio's own documentation and many programs do with standard input and output."""
    ours, theirs = os.pipe()
    data = os.urandom(1000000).replace(b"\n", b" ") + b"\n"

    async def main():
        reader = asyncio.StreamReader(limit=1 << 16)
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), open(ours, "rb", buffering=0))
        transport, protocol = await loop.connect_write_pipe(
            asyncio.streams.FlowControlMixin, open(theirs, "wb", buffering=0)
        )
        writer = asyncio.StreamWriter(transport, protocol, None, loop)

        async def write():
            for start in range(0, len(data), 10000):
                writer.write(data[start : start + 10000])
                await writer.drain()
            writer.close()

        _, got = await asyncio.gather(write(), reader.read(-1))
        await asyncio.sleep(0)
        return got

    assert run(main()) == data


# Buffered protocols


@ALL
@pytest.mark.parametrize("base", [asyncio.BaseProtocol, asyncio.BufferedProtocol])
def test_what_has_only_get_buffer_receives_by_it(native, connect_file, ends, until, kind, base):
    """asyncio calls data_received() of any protocol; uvloop takes these."""

    class Buffers(base):
        def __init__(self):
            self.buffer = bytearray(100)
            self.data = b""

        def get_buffer(self, sizehint):
            return self.buffer

        def buffer_updated(self, nbytes):
            self.data += self.buffer[:nbytes]

        def eof_received(self):
            pass

    protocol = Buffers()
    file, peer = ends(kind, "rb")
    native(connect_file(protocol, file, "rb"))
    peer.send(b"x" * 250)
    until(lambda: len(protocol.data) == 250)


def test_pipes_call_data_received_of_a_buffered_protocol_that_has_it(connect_file, ends, until):
    """As asyncio's do."""

    class Both(asyncio.BufferedProtocol):
        data = b""

        def get_buffer(self, sizehint):
            raise AssertionError("not of a pipe")

        def data_received(self, data):
            self.data += data

    protocol = Both()
    file, peer = ends("pipe", "rb")
    connect_file(protocol, file, "rb")
    peer.send(b"x")
    until(lambda: protocol.data)


@pytest.mark.parametrize("fault", ["get_buffer", "buffer_updated"])
def test_fault_in_a_buffered_protocol_ends_the_pipe(native, connect_file, ends, until, reports, fault):
    lost = []
    methods = {
        "get_buffer": lambda self, sizehint: bytearray(10),
        "buffer_updated": lambda self, nbytes: None,
        "connection_lost": lambda self, error: lost.append(error),
        fault: raiser(ZeroDivisionError),
    }
    file, peer = ends("pipe", "rb")
    native(connect_file(type("Faulty", (asyncio.BaseProtocol,), methods)(), file, "rb"))
    peer.send(b"x")
    until(lambda: lost)
    assert isinstance(lost[0], ZeroDivisionError)
    assert [context["message"] for context in reports] == ["Fatal error: protocol.%s() call failed." % fault]
