"""connect_read_pipe: what a protocol is told of what it reads, and pausing."""

import asyncio
import contextlib
import errno
import os

import pytest

BOTH = pytest.mark.parametrize("kind", ["pipe", "socket"])
# Of a terminal (a pty) our end is the master.
ALL = pytest.mark.parametrize("kind", ["pipe", "socket", "pty"])
TELLS_IF_READING = pytest.mark.skipif(
    "is_reading" not in vars(asyncio.unix_events._UnixReadPipeTransport), reason="not in this asyncio"
)
SIZES = pytest.mark.parametrize("size", [1, 65536, 65537, 262145, 2000000])


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


def test_eof_received_that_raises_is_reported(reading, recorder, until, reports, raiser):
    protocol = recorder(eof_received=raiser(ZeroDivisionError))
    transport, peer = reading(protocol)
    peer.close()
    until(lambda: protocol.lost)
    assert protocol.lost == [None]
    assert [type(context["exception"]) for context in reports] == [ZeroDivisionError]


def test_data_received_that_raises_is_reported_and_reading_goes_on(reading, recorder, until, reports, raiser):
    """Unlike that of a connection: asyncio closes those."""
    protocol = recorder(data_received=raiser(ZeroDivisionError))
    transport, peer = reading(protocol)
    for data in b"one", b"two":
        peer.send(data)
        until(lambda data=data: protocol.chunks[-1:] == [data])
    assert not transport.is_closing()
    assert [type(context["exception"]) for context in reports] == [ZeroDivisionError] * 2


def test_connection_made_that_raises_is_reported_and_the_pipe_is_read(reading, recorder, until, reports, raiser):
    protocol = recorder(connection_made=raiser(ZeroDivisionError))
    transport, peer = reading(protocol)
    peer.send(b"x")
    until(lambda: protocol.data)
    assert [type(context["exception"]) for context in reports] == [ZeroDivisionError]


def test_connection_lost_that_raises_is_reported_and_the_file_is_closed(opened, recorder, turn, reports, raiser):
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


def test_protocol_that_is_replaced_while_its_eof_received_is_looked_up(loop_kind, run, loop, ends, until):
    """Python goes on with __getattr__(), so the protocol must still be there."""
    armed, gone, seen = [], [], []

    class Protocol(asyncio.Protocol):
        def __getattribute__(self, name):
            if name == "eof_received" and armed:
                armed.clear()
                transport.set_protocol(asyncio.Protocol())
                raise AttributeError(name)
            return super().__getattribute__(name)

        def __getattr__(self, name):
            seen.append((name, list(gone)))
            return lambda: None

        def __del__(self):
            gone.append(1)

    file, peer = ends("pipe", "rb")
    transport, _ = run(loop.connect_read_pipe(Protocol, file))
    del _
    armed.append(1)
    peer.close()
    until(lambda: transport.is_closing() and gone)
    until(lambda: transport.get_protocol() is None or loop_kind == "asyncio")
    assert seen == [("eof_received", [])]
