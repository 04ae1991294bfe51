"""Stream transports over TCP and Unix sockets: the calls of their protocols, and how they end."""

import array
import asyncio
import contextlib
import contextvars
import fcntl
import gc
import os
import re
import select
import socket
import struct
import sys
import termios

import pytest

try:
    import ctypes
except ImportError:
    ctypes = None

VAR = contextvars.ContextVar("VAR", default="unset")
RESET = (ConnectionResetError, BrokenPipeError)
INTERRUPTIONS = pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])


def reset(sock):
    """Closes the socket so that its peer gets a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def waiting(sock):
    """How many bytes have arrived and were not read yet."""
    count = array.array("i", [0])
    fcntl.ioctl(sock.fileno(), termios.FIONREAD, count)
    return count[0]


def raiser(error, text="on purpose"):
    """Raises the exception, or one of the class. (An instance in the module would keep its traceback.)"""

    def raise_it(*args):
        raise error(text) if isinstance(error, type) else error

    return raise_it


def set_protocol(protocol):
    return lambda old, *args: old.transport.set_protocol(protocol)


def closing(protocol, *args):
    protocol.transport.close()


def aborting(protocol, *args):
    protocol.transport.abort()


# A whole life


def test_order_of_protocol_calls(connect, recorder, until, kind):
    protocol = recorder()
    transport, peer = connect(protocol, kind)
    assert protocol.calls == ["connection_made"] and protocol.transport is transport
    peer.send(b"hello")
    until(lambda: protocol.data)
    peer.close()
    until(lambda: protocol.lost)
    assert protocol.calls == ["connection_made", "data_received", "eof_received", "connection_lost"]
    assert protocol.data == b"hello" and protocol.lost == [None]


def test_connection_is_made_before_the_caller_goes_on(run, loop, recorder, socket_pair, kind, abandoned):
    """And before any data that is there already."""
    ours, peer = socket_pair(kind)
    peer.send(b"early")
    protocol = recorder()
    seen = []

    async def main():
        transport, _ = await loop.create_connection(lambda: protocol, sock=ours)
        abandoned.add(transport)
        seen.extend(protocol.calls)

    run(main())
    assert seen[0] == "connection_made"


def test_data_there_before_the_transport_arrive(run, loop, recorder, socket_pair, kind, until, abandoned):
    ours, peer = socket_pair(kind)
    peer.send(b"early")
    protocol = recorder()
    abandoned.add(run(loop.create_connection(lambda: protocol, sock=ours))[0])
    until(lambda: protocol.data == b"early")
    assert protocol.calls == ["connection_made", "data_received"]


def test_data_are_bytes(connect, recorder, until, kind):
    protocol = recorder()
    transport, peer = connect(protocol, kind)
    peer.send(b"x")
    until(lambda: protocol.data)
    assert [type(chunk) for chunk in protocol.chunks] == [bytes]


def test_what_is_there_comes_in_one_piece(connect, recorder, turn, until, kind):
    protocol = recorder()
    transport, peer = connect(protocol, kind)
    transport.pause_reading()
    for part in b"a", b"b" * 1000, b"c":
        peer.send(part)
    if kind == "tcp":  # the kernel may take a moment to deliver
        until(lambda: waiting(transport.get_extra_info("socket")) == 1002)
    transport.resume_reading()
    until(lambda: protocol.chunks)
    assert protocol.chunks == [b"a" + b"b" * 1000 + b"c"]


@pytest.mark.parametrize("size", [1, 4095, 65536, 65537, 262144, 262145, 5000000])
def test_data_of_any_size(connect, recorder, feed, until, kind, size):
    protocol = recorder()
    transport, peer = connect(protocol, kind)
    data = os.urandom(size)
    feed(peer, data)
    until(lambda: len(protocol.data) >= size)
    assert protocol.data == data
    assert max(map(len, protocol.chunks)) <= 262144


@pytest.mark.parametrize("size", [1, 4095, 65482, 65483, 65484, 65536, 65537, 130966, 130967, 262144, 262145, 5000000])
def test_writing_of_any_size(connect, recorder, collect, kind, size):
    transport, peer = connect(recorder(), kind)
    data = os.urandom(size)
    transport.write(data)
    assert collect(peer, size) == data
    assert transport.get_write_buffer_size() == 0


# A segment of the loopback device takes 65,483 bytes; a longer write over TCP is sent in parts.
@pytest.mark.parametrize(
    "sizes",
    [[65483, 1], [65482, 1, 1], [1, 65483], [1, 65482, 65483], [65483 * 2, 5], [7] * 10000 + [70000], [200000] * 3],
)
def test_lines_of_any_size(connect, recorder, collect, kind, sizes):
    transport, peer = connect(recorder(), kind)
    lines = [os.urandom(size) for size in sizes]
    transport.writelines(lines)
    assert collect(peer, sum(sizes)) == b"".join(lines)
    assert transport.get_write_buffer_size() == 0


@pytest.mark.unstressed("counts system calls")
def test_a_long_write_over_tcp_is_sent_in_segments(native, connect, recorder, loop, collect, kind):
    calls = set()
    for _ in range(5):  # a kernel that is short of memory for sockets takes less at once
        transport, peer = connect(recorder(), kind)
        native(transport)
        before = loop.metrics().writes
        transport.write(bytes(65484))
        calls.add(loop.metrics().writes - before)
        collect(peer, 65484)
    assert max(calls) == (2 if kind == "tcp" else 1)


def test_echo_of_much_data_both_ways_at_once(connect, recorder, until, kind):
    transport, peer = connect(recorder(data_received=lambda self, data: self.transport.write(data)), kind)
    data = os.urandom(3000000)
    sent, got = 0, bytearray()

    def done():
        nonlocal sent
        try:
            sent += peer.send(data[sent : sent + 50000])
        except BlockingIOError:
            pass
        try:
            got.extend(peer.recv(100000))
        except BlockingIOError:
            pass
        return len(got) >= len(data)

    until(done)
    assert got == data


def test_many_connections_keep_their_bytes_apart(run, loop, recorder, socket_pair, until, abandoned, kind):
    made = []
    for number in range(50):
        ours, peer = socket_pair(kind)
        protocol = recorder(data_received=lambda self, data: self.transport.write(data))
        abandoned.add(run(loop.create_connection(lambda protocol=protocol: protocol, sock=ours))[0])
        made.append((protocol, peer, b"%d." % number * 10))
    for _, peer, data in made:
        peer.send(data)
    until(lambda: all(len(protocol.data) == len(data) for protocol, _, data in made))
    for protocol, peer, data in made:
        assert protocol.data == data
        peer.settimeout(20)
        assert peer.recv(1000) == data


# The end


def test_eof_closes(connect, recorder, until, collect, kind):
    protocol = recorder()
    transport, peer = connect(protocol, kind)
    peer.shutdown(socket.SHUT_WR)
    until(lambda: protocol.lost)
    assert protocol.lost == [None] and transport.is_closing()
    assert collect(peer) == b""


def test_data_come_before_eof(connect, recorder, until, kind):
    protocol = recorder()
    transport, peer = connect(protocol, kind)
    peer.send(b"last")
    peer.close()
    until(lambda: protocol.lost)
    assert protocol.data == b"last"
    assert protocol.calls == ["connection_made", "data_received", "eof_received", "connection_lost"]


def test_eof_after_much_data(connect, recorder, feed, until, kind):
    protocol = recorder()
    transport, peer = connect(protocol, kind)
    data = os.urandom(1000000)
    feed(peer, data)
    peer.close()
    until(lambda: protocol.lost)
    assert protocol.data == data


def test_true_from_eof_received_keeps_the_writing_half(connect, recorder, until, turn, collect, kind):
    protocol = recorder(eof_received=lambda self: True)
    transport, peer = connect(protocol, kind)
    peer.shutdown(socket.SHUT_WR)
    until(lambda: "eof_received" in protocol.calls)
    for _ in range(5):
        turn()
    assert protocol.calls == ["connection_made", "eof_received"]
    assert not transport.is_closing()
    transport.write(b"still here")
    assert collect(peer, 10) == b"still here"
    transport.close()
    until(lambda: protocol.lost)
    assert protocol.lost == [None] and collect(peer) == b""


def test_half_closed_transport_does_not_keep_the_loop_busy(loop, connect, recorder, until, turns_taken, kind):
    protocol = recorder(eof_received=lambda self: True)
    transport, peer = connect(protocol, kind)
    peer.shutdown(socket.SHUT_WR)
    until(lambda: "eof_received" in protocol.calls)
    before = turns_taken()
    loop.call_later(0.02, loop.stop)
    loop.run_forever()
    assert turns_taken() - before <= 5


def test_eof_once_only_though_reading_is_resumed(connect, recorder, until, turn, kind):
    protocol = recorder(eof_received=lambda self: True)
    transport, peer = connect(protocol, kind)
    peer.shutdown(socket.SHUT_WR)
    until(lambda: "eof_received" in protocol.calls)
    for _ in range(3):
        turn()
    assert protocol.calls.count("eof_received") == 1


def test_close_is_told_in_a_later_turn_and_once(connect, recorder, turn, collect, kind):
    protocol = recorder()
    transport, peer = connect(protocol, kind)
    assert not transport.is_closing()
    transport.close()
    assert transport.is_closing() and protocol.lost == []
    transport.close()
    transport.abort()
    turn()
    assert protocol.lost == [None]
    transport.close()
    transport.abort()
    turn()
    assert protocol.lost == [None]
    assert collect(peer) == b""


def test_socket_is_closed_right_after_connection_lost(connect, recorder, turn, kind):
    open_then = []
    protocol = recorder(connection_lost=lambda self, exc: open_then.append(sock.fileno() != -1))
    transport, peer = connect(protocol, kind)
    sock = transport.get_extra_info("socket")
    transport.close()
    assert sock.fileno() != -1
    turn()
    assert open_then == [True] and sock.fileno() == -1


def test_nothing_is_received_after_close(connect, recorder, until, turn, kind):
    protocol = recorder(data_received=closing)
    transport, peer = connect(protocol, kind)
    peer.send(b"first")
    until(lambda: protocol.data)
    with pytest.raises(OSError):
        for _ in range(100):
            peer.send(b"more")
            turn()
    assert protocol.data == b"first"
    assert protocol.calls == ["connection_made", "data_received", "connection_lost"]


def test_close_ends_promptly_though_the_peer_goes_on_sending(connect, recorder, until, kind):
    protocol = recorder(data_received=closing)
    transport, peer = connect(protocol, kind)
    sent = 0

    def sending():
        nonlocal sent
        try:
            while sent < 1 << 24:
                sent += peer.send(bytes(65536))
        except BlockingIOError:
            pass
        except OSError:
            assert protocol.lost
        return protocol.lost

    until(sending)
    assert protocol.lost == [None]
    assert protocol.calls.count("data_received") == 1


def test_close_sends_what_is_buffered(connect, recorder, clog, turn, collect, until, kind):
    protocol = recorder()
    transport, peer = connect(protocol, kind)
    data = clog(transport) + b"last"
    transport.write(b"last")
    transport.close()
    for _ in range(3):
        turn()
    assert protocol.lost == [] and transport.is_closing()
    assert collect(peer) == data
    assert protocol.lost == [None]


def test_close_with_data_pending_stops_reading(connect, recorder, clog, turn, collect, until, kind):
    protocol = recorder()
    transport, peer = connect(protocol, kind)
    data = clog(transport)
    transport.close()
    peer.send(b"too late")
    for _ in range(3):
        turn()
    assert protocol.data == b""
    try:
        assert collect(peer) == data
    except ConnectionResetError:  # as the bytes were never read
        assert kind == "tcp" or protocol.lost
    until(lambda: protocol.lost)


def test_abort_drops_what_is_buffered(connect, recorder, clog, turn, collect, kind):
    protocol = recorder()
    transport, peer = connect(protocol, kind)
    data = clog(transport)
    transport.abort()
    assert transport.is_closing() and transport.get_write_buffer_size() == 0 and protocol.lost == []
    turn()
    assert protocol.lost == [None]
    got = collect(peer)
    assert len(got) < len(data) and data.startswith(got)


def test_abort_after_close_drops_what_is_pending(connect, recorder, clog, turn, collect, kind):
    protocol = recorder()
    transport, peer = connect(protocol, kind)
    data = clog(transport)
    transport.close()
    turn()
    assert protocol.lost == []
    transport.abort()
    turn()
    assert protocol.lost == [None]
    assert len(collect(peer)) < len(data)


@pytest.mark.parametrize("end", [closing, aborting])
@pytest.mark.parametrize("where", ["connection_made", "data_received", "eof_received", "connection_lost"])
def test_ended_by_its_own_callback(connect, recorder, until, turn, collect, kind, where, end):
    protocol = recorder(**{where: end})
    transport, peer = connect(protocol, kind)
    if where != "connection_made":
        peer.send(b"x")
        until(lambda: protocol.data)
    if where in ("eof_received", "connection_lost"):
        peer.shutdown(socket.SHUT_WR)
    until(lambda: protocol.lost)
    turn()
    assert protocol.lost == [None]
    assert protocol.calls.count("connection_lost") == 1
    assert collect(peer) == b""


def test_reset_by_the_peer(connect, recorder, until):
    protocol = recorder()
    transport, peer = connect(protocol, "tcp")
    reset(peer)
    until(lambda: protocol.lost)
    assert [type(exc) for exc in protocol.lost] == [ConnectionResetError]
    assert protocol.calls == ["connection_made", "connection_lost"]


def test_reset_of_a_unix_socket_with_unread_data(connect, recorder, until, turn):
    protocol = recorder()
    transport, peer = connect(protocol, "unix")
    transport.write(b"unread")
    turn()
    peer.close()
    until(lambda: protocol.lost)
    assert [type(exc) for exc in protocol.lost] == [ConnectionResetError]


def test_reset_while_paused_is_found_on_resuming(connect, recorder, until, turn):
    protocol = recorder()
    transport, peer = connect(protocol, "tcp")
    transport.pause_reading()
    reset(peer)
    for _ in range(3):
        turn()
    assert protocol.lost == []
    transport.resume_reading()
    until(lambda: protocol.lost)
    assert [type(exc) for exc in protocol.lost] == [ConnectionResetError]


def test_reset_while_data_are_pending(connect, recorder, clog, until):
    protocol = recorder()
    transport, peer = connect(protocol, "tcp")
    transport.pause_reading()
    clog(transport)
    reset(peer)
    until(lambda: protocol.lost)
    assert len(protocol.lost) == 1 and isinstance(protocol.lost[0], RESET)
    assert transport.get_write_buffer_size() == 0


def test_peer_gone_is_found_by_writing(connect, recorder, until):
    protocol = recorder(eof_received=lambda self: True)
    transport, peer = connect(protocol, "unix")
    peer.close()
    until(lambda: "eof_received" in protocol.calls)
    transport.write(b"x")
    until(lambda: protocol.lost)
    assert [type(exc) for exc in protocol.lost] == [BrokenPipeError]
    assert transport.is_closing()


@pytest.mark.parametrize("end", ["close", "abort"])
def test_lingering_for_no_time_resets_the_peer(connect, recorder, until, collect, end):
    protocol = recorder()
    transport, peer = connect(protocol, "tcp")
    sock = transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    getattr(transport, end)()
    with pytest.raises(ConnectionResetError):
        collect(peer)
    assert protocol.lost == [None]


# Protocols


def test_get_protocol(connect, recorder, turn):
    protocol, other = recorder(), recorder()
    transport, peer = connect(protocol)
    assert transport.get_protocol() is protocol
    transport.set_protocol(other)
    assert transport.get_protocol() is other
    transport.close()
    turn()
    assert protocol.calls == ["connection_made"] and other.calls == ["connection_lost"]
    assert transport.get_protocol() is None


def test_set_protocol_within_data_received(connect, recorder, feed, until, kind):
    """The old protocol gets no more data, even if it has already arrived."""
    second = recorder()
    first = recorder(data_received=set_protocol(second))
    transport, peer = connect(first, kind)
    data = os.urandom(600000)
    feed(peer, data)
    until(lambda: len(first.data + second.data) == len(data))
    assert len(first.chunks) == 1 and first.data + second.data == data
    assert second.calls[0] == "data_received"


def test_set_protocol_from_streamed_to_buffered_and_back(connect, recorder, buffered_recorder, feed, until, kind):
    third = recorder()
    second = buffered_recorder(size=10, buffer_updated=lambda self, count: transport.set_protocol(third))
    first = recorder(data_received=set_protocol(second))
    transport, peer = connect(first, kind)
    feed(peer, b"a" * 300000)
    until(lambda: len(first.data + second.data + third.data) == 300000)
    assert first.data and second.data == b"a" * 10 and third.data
    assert second.calls == ["get_buffer", "buffer_updated"]
    peer.close()
    until(lambda: third.lost)


def test_set_protocol_in_connection_made(connect, recorder, until, kind):
    second = recorder()
    transport, peer = connect(recorder(connection_made=set_protocol(second)), kind)
    peer.send(b"x")
    until(lambda: second.data)
    assert second.calls == ["data_received"]


def test_set_protocol_within_eof_received(connect, recorder, until):
    second = recorder()
    first = recorder(eof_received=set_protocol(second))
    transport, peer = connect(first)
    peer.close()
    until(lambda: second.lost)
    assert first.calls == ["connection_made", "eof_received"] and second.calls == ["connection_lost"]


def test_methods_assigned_to_the_protocol_before_set_protocol_are_called(connect, recorder, until):
    protocol = recorder()
    transport, peer = connect(protocol)
    seen = []
    protocol.data_received = seen.append
    transport.set_protocol(protocol)
    peer.send(b"x")
    until(lambda: seen)
    assert seen == [b"x"]


def test_method_assigned_to_the_protocol_later_is_called(connect, recorder, until):
    """asyncio looks data_received() up each time: this is how mocks are installed."""
    protocol = recorder()
    transport, peer = connect(protocol)
    peer.send(b"x")
    until(lambda: protocol.data)
    seen = []
    protocol.data_received = seen.append
    peer.send(b"y")
    until(lambda: seen)
    assert seen == [b"y"] and protocol.data == b"x"


# Buffered protocols


@pytest.mark.parametrize("size", [1, 1000, 65536, 1000000])
def test_buffered_protocol_gets_all(connect, buffered_recorder, feed, until, kind, size):
    protocol = buffered_recorder(size)
    transport, peer = connect(protocol, kind)
    data = os.urandom(100 if size == 1 else 500000)
    feed(peer, data)
    peer.shutdown(socket.SHUT_WR)
    until(lambda: protocol.lost)
    assert protocol.data == data
    assert protocol.calls[-2:] == ["eof_received", "connection_lost"]


def test_get_buffer_is_asked_without_a_hint(connect, buffered_recorder, until, kind):
    hints = []
    protocol = buffered_recorder(get_buffer=lambda self, hint: hints.append(hint) or self.buffer)
    transport, peer = connect(protocol, kind)
    peer.send(b"x")
    until(lambda: protocol.data)
    assert set(hints) == {-1}


BUFFERS = {
    "bytearray": lambda buffer: buffer,
    "memoryview": memoryview,
    "slice": lambda buffer: memoryview(buffer)[:10],
    "cast": lambda buffer: memoryview(buffer).cast("i"),
}


@pytest.mark.parametrize("form", list(BUFFERS))
def test_get_buffer_may_return_any_writable_buffer(connect, buffered_recorder, until, form):
    protocol = buffered_recorder(get_buffer=lambda self, hint: BUFFERS[form](self.buffer))
    transport, peer = connect(protocol)
    peer.send(b"some")
    until(lambda: protocol.data)
    assert protocol.data == b"some"


def test_get_buffer_may_return_an_array(connect, buffered_recorder, until):
    numbers = array.array("i", [0] * 4)
    protocol = buffered_recorder(get_buffer=lambda self, hint: numbers)
    transport, peer = connect(protocol)
    peer.send(array.array("i", [5, 6]).tobytes())
    until(lambda: protocol.data)
    assert numbers.tolist() == [5, 6, 0, 0]


def test_buffer_is_let_go_before_the_protocol_is_told(connect, buffered_recorder, until, kind):
    """It may resize its bytearray then, which fails while it is exported."""
    got = bytearray()

    def updated(self, count):
        got.extend(self.buffer[:count])
        del self.buffer[:]
        self.buffer.extend(bytes(10))

    protocol = buffered_recorder(10, buffer_updated=updated)
    transport, peer = connect(protocol, kind)
    peer.send(b"0123456789abcde")
    until(lambda: len(got) == 15)
    assert got == b"0123456789abcde"


SIZE = 1024  # of a buffer


def call_soon(loop, events, protocol):
    loop.call_soon(events.append, "called")


def call_soon_threadsafe(loop, events, protocol):
    loop.call_soon_threadsafe(events.append, "called")


def call_at_once(loop, events, protocol):
    """A timer that is due runs after what the next poll finds."""
    loop.call_later(0, events.append, "called")


def wake_a_task(loop, events, protocol):
    async def wait():
        await future
        events.append("called")

    future = loop.create_future()
    protocol.task = loop.create_task(wait())
    future.set_result(None)


def stop(loop, events, protocol):
    loop.stop()


def pause(loop, events, protocol):
    protocol.transport.pause_reading()
    loop.call_soon(loop.call_soon, events.append, "called")
    loop.call_soon(loop.call_soon, loop.call_soon, protocol.transport.resume_reading)


def close(loop, events, protocol):
    protocol.transport.close()


def fail(loop, events, protocol):
    loop.set_exception_handler(lambda loop, context: events.append("reported"))
    raise ZeroDivisionError


def replace(loop, events, protocol):
    class Other(asyncio.Protocol):
        def data_received(self, data):
            events.append(len(data))

        def connection_lost(self, error):
            protocol.connection_lost(error)

    protocol.transport.set_protocol(Other())


BUFFERS_IN_A_ROW = {
    None: [SIZE, SIZE, SIZE, 1, "lost"],
    call_soon: [SIZE, "called", SIZE, SIZE, 1, "lost"],
    call_soon_threadsafe: [SIZE, "called", SIZE, SIZE, 1, "lost"],
    call_at_once: [SIZE, SIZE, "called", SIZE, 1, "lost"],
    wake_a_task: [SIZE, "called", SIZE, SIZE, 1, "lost"],
    stop: [SIZE, "stopped", SIZE, SIZE, 1, "lost"],
    pause: [SIZE, "called", SIZE, SIZE, 1, "lost"],
    close: [SIZE, "lost"],
    fail: [SIZE, "reported", "lost"],
    replace: [SIZE, 2 * SIZE + 1, "lost"],
}


@pytest.mark.parametrize("act", BUFFERS_IN_A_ROW, ids=lambda act: act.__name__ if act else "nothing")
def test_what_runs_after_a_filled_buffer(connect, buffered_recorder, loop, until, kind, act):
    """There is more to receive. cloop does so at once only if nothing else is to run first."""
    events = []

    def updated(self, count):
        events.append(count)
        if len(events) == 1 and act is not None:
            act(loop, events, self)

    def lost(self, error):
        events.append("lost")
        loop.call_soon(loop.stop)

    protocol = buffered_recorder(SIZE, buffer_updated=updated, connection_lost=lost)
    transport, peer = connect(protocol, kind)
    peer.send(bytes(3 * SIZE + 1))
    peer.close()
    loop.run_forever()
    if act is stop:
        events.append("stopped")
        loop.run_forever()
    assert events == BUFFERS_IN_A_ROW[act]


def test_filled_buffers_of_two_connections_take_turns(connect, buffered_recorder, loop, until, kind):
    events = []
    made = []
    for name in "ab":
        protocol = buffered_recorder(SIZE, buffer_updated=lambda self, count, name=name: events.append(name))
        made.append(connect(protocol, kind))
    for _, peer in made:
        peer.send(bytes(3 * SIZE))
    until(lambda: len(events) == 6)
    assert sorted(events[:2]) == sorted(events[2:4]) == ["a", "b"]


@pytest.mark.unstressed("its polls tell one event, so that the other comes later")
def test_what_a_filled_buffer_makes_ready_comes_soon(connect, buffered_recorder, loop, loop_kind):
    """After the next, with asyncio; with cloop one more may come first, as docs/differences.md says."""
    events = []

    def updated(self, count):
        events.append("a")
        if len(events) == 1:
            other[1].send(b"x")

    def answered(self, count):
        events.append("b")
        loop.call_later(0.01, loop.stop)

    other = connect(buffered_recorder(SIZE, buffer_updated=answered))
    transport, peer = connect(buffered_recorder(SIZE, buffer_updated=updated))
    peer.send(bytes(6 * SIZE))
    loop.run_forever()
    assert sorted(events) == ["a"] * 6 + ["b"]
    assert events.index("b") <= (2 if loop_kind == "asyncio" else 3)


NO_ROOM = {
    "empty": bytearray,
    "fails": raiser(ZeroDivisionError),
    "none": lambda: None,
    "read-only": lambda: b"read only",
}


@pytest.mark.parametrize("form", list(NO_ROOM))
def test_no_room_behind_a_filled_buffer(connect, buffered_recorder, reports, loop, kind, form):
    """It is no failure while no more has come: asyncio does not ask for room then."""
    expected = 10

    def get_buffer(self, hint):
        return self.buffer if len(self.data) < expected else NO_ROOM[form]()

    protocol = buffered_recorder(
        10,
        get_buffer=get_buffer,
        buffer_updated=lambda self, count: loop.call_later(0.001, loop.stop),
        connection_lost=lambda self, error: loop.stop(),
    )
    transport, peer = connect(protocol, kind)
    peer.send(b"0123456789")
    loop.run_forever()
    assert not reports and not protocol.lost
    expected += 10
    peer.send(b"abcdefghij")
    loop.run_forever()
    assert not reports and not protocol.lost and protocol.data == b"0123456789abcdefghij"
    peer.send(b"x")
    loop.run_forever()
    assert len(reports) == len(protocol.lost) == 1


@pytest.mark.parametrize("form", list(NO_ROOM))
def test_no_room_for_what_comes_behind_a_filled_buffer(connect, buffered_recorder, reports, loop, kind, form):
    protocol = buffered_recorder(
        10,
        get_buffer=lambda self, hint: NO_ROOM[form]() if self.data else self.buffer,
        connection_lost=lambda self, error: loop.call_soon(loop.stop),
    )
    transport, peer = connect(protocol, kind)
    peer.send(b"0123456789x")
    loop.run_forever()
    assert protocol.data == b"0123456789" and len(reports) == 1 and protocol.calls[-1] == "connection_lost"


@pytest.mark.unstressed("what is queued is sent in parts, and the protocol resumed later")
def test_writable_and_readable_at_once(connect, buffered_recorder, loop, clog, kind):
    """The protocol is resumed after one buffer, though there are more."""

    def updated(self, count):
        if len(self.data) == 3 * SIZE:
            loop.stop()

    protocol = buffered_recorder(SIZE, buffer_updated=updated)
    transport, peer = connect(protocol, kind)
    clog(transport)
    transport.set_write_buffer_limits(high=0)
    with contextlib.suppress(BlockingIOError):
        while True:
            peer.recv(1 << 20)
    peer.send(bytes(3 * SIZE))
    both = select.poll()
    both.register(transport.get_extra_info("socket"), select.POLLIN | select.POLLOUT)
    while both.poll()[0][1] != select.POLLIN | select.POLLOUT:
        pass
    del protocol.calls[:]
    loop.run_forever()
    calls = [name for name in protocol.calls if name != "get_buffer"]
    assert calls.index("resume_writing") <= 1


@pytest.mark.skipif(ctypes is None, reason="interpreters of Python 3.12 have no ctypes")
def test_buffer_that_has_a_length_and_no_bytes(connect, buffered_recorder, until, kind):
    """Receiving into it is as if the peer had ended."""
    protocol = buffered_recorder(get_buffer=lambda self, hint: (ctypes.c_char * 0 * 3)())
    transport, peer = connect(protocol, kind)
    peer.send(b"x")
    until(lambda: protocol.lost)
    assert protocol.calls[-2:] == ["eof_received", "connection_lost"] and "buffer_updated" not in protocol.calls


def test_a_turn_by_hand_fills_one_buffer(connect, buffered_recorder, loop, until, kind):
    got = []
    protocol = buffered_recorder(SIZE, buffer_updated=lambda self, count: got.append(count))
    transport, peer = connect(protocol, kind)
    peer.send(bytes(3 * SIZE))
    counts = []
    while len(got) < 3:
        loop._run_once()
        counts.append(len(got))
    assert [n for n in counts if n] == [1, 2, 3]


class Silent(asyncio.BaseProtocol):
    def __init__(self):
        self.lost = []

    def connection_lost(self, error):
        self.lost.append(error)

    def eof_received(self):
        pass


class Buffers(Silent):
    """Receives like a BufferedProtocol, but is not one."""

    def __init__(self):
        super().__init__()
        self.buffer = bytearray(100)
        self.data = b""

    def get_buffer(self, sizehint):
        return self.buffer

    def buffer_updated(self, nbytes):
        self.data += self.buffer[:nbytes]


def test_what_has_only_get_buffer_receives_by_it(native, connect, until, kind):
    """asyncio calls data_received(), which is missing; uvloop uses get_buffer()."""
    protocol = Buffers()
    transport, peer = connect(protocol, kind)
    native(transport)
    peer.send(b"x" * 250)
    until(lambda: len(protocol.data) == 250)
    peer.shutdown(socket.SHUT_WR)
    until(lambda: protocol.lost)
    assert protocol.lost == [None]


def test_set_protocol_looks_how_the_next_one_receives(native, connect, recorder, until, kind):
    first, second = Buffers(), recorder()
    transport, peer = connect(first, kind)
    native(transport)
    protocols = [first, second, first]
    for n, protocol in enumerate(protocols):
        transport.set_protocol(protocol)
        peer.send(b"abc"[n : n + 1])
        until(lambda n=n: len(first.data) + len(second.data) == n + 1)
    assert (first.data, second.data) == (b"ac", b"b")


def test_data_received_comes_before_get_buffer(connect, until, kind):
    """As in asyncio, unless it is a BufferedProtocol."""

    class Both(Buffers):
        def data_received(self, data):
            self.data += b"received " + data

    protocol = Both()
    transport, peer = connect(protocol, kind)
    peer.send(b"x")
    until(lambda: protocol.data)
    assert protocol.data == b"received x"


@pytest.mark.parametrize("missing", ["get_buffer", "buffer_updated", "data_received"])
def test_protocol_without_receiving_methods_fails_in_data_received(connect, reports, until, missing):
    """It has none of the three: the AttributeError is for data_received."""
    kept = {"get_buffer", "buffer_updated"} - {missing} if missing != "data_received" else set()
    protocol = type("Half", (Silent,), {name: vars(Buffers)[name] for name in kept})()
    transport, peer = connect(protocol)
    peer.send(b"x")
    until(lambda: protocol.lost)
    assert isinstance(protocol.lost[0], AttributeError) and "data_received" in str(protocol.lost[0])
    assert len(reports) == 1


def test_data_received_property_that_raises(connect, reports, until):
    """It fails again when data comes, which is when asyncio looks."""

    class Faulty(Buffers):
        @property
        def data_received(self):
            raise ZeroDivisionError("on purpose")

    protocol = Faulty()
    transport, peer = connect(protocol)
    peer.send(b"x")
    until(lambda: protocol.lost)
    assert isinstance(protocol.lost[0], ZeroDivisionError)
    assert len(reports) == 1


FAULTY_BUFFERS = {
    "empty": (lambda self, hint: bytearray(), RuntimeError, "get_buffer() returned an empty buffer"),
    "none": (lambda self, hint: None, TypeError, None),
    "number": (lambda self, hint: 5, TypeError, None),
    "failure": (raiser(ZeroDivisionError), ZeroDivisionError, "on purpose"),
}


@pytest.mark.parametrize("fault", list(FAULTY_BUFFERS))
def test_fault_in_get_buffer_ends_the_connection(connect, buffered_recorder, reports, until, fault):
    get_buffer, error, text = FAULTY_BUFFERS[fault]
    protocol = buffered_recorder(get_buffer=get_buffer)
    transport, peer = connect(protocol)
    peer.send(b"x")
    until(lambda: protocol.lost)
    (report,) = reports
    assert report["message"] == "Fatal error: protocol.get_buffer() call failed."
    assert report["transport"] is transport and report["protocol"] is protocol
    assert report["exception"] is protocol.lost[0] and type(protocol.lost[0]) is error
    assert text is None or str(protocol.lost[0]) == text
    assert "buffer_updated" not in protocol.calls


def test_buffer_that_is_not_writable_ends_the_connection(connect, buffered_recorder, reports, until):
    protocol = buffered_recorder(get_buffer=lambda self, hint: b"read only")
    transport, peer = connect(protocol)
    peer.send(b"x")
    until(lambda: protocol.lost)
    (report,) = reports
    assert report["message"] == "Fatal read error on socket transport"
    assert report["exception"] is protocol.lost[0] and isinstance(protocol.lost[0], TypeError)


@pytest.mark.parametrize("end", [closing, aborting])
@pytest.mark.parametrize("where", ["get_buffer", "buffer_updated"])
def test_buffered_protocol_ends_in_its_own_callback(connect, buffered_recorder, until, collect, kind, where, end):
    def ending(self, *args):
        end(self)
        return self.buffer

    protocol = buffered_recorder(**{where: ending})
    transport, peer = connect(protocol, kind)
    peer.send(b"x")
    until(lambda: protocol.lost)
    assert protocol.lost == [None]
    assert collect(peer) == b""


def test_buffered_protocol_half_closed(connect, buffered_recorder, until, turn, collect):
    protocol = buffered_recorder(eof_received=lambda self: True)
    transport, peer = connect(protocol)
    peer.shutdown(socket.SHUT_WR)
    until(lambda: "eof_received" in protocol.calls)
    turn()
    transport.write(b"x")
    assert collect(peer, 1) == b"x"
    assert protocol.calls.count("eof_received") == 1 and not transport.is_closing()


def test_reset_of_a_buffered_protocol(connect, buffered_recorder, until):
    protocol = buffered_recorder()
    transport, peer = connect(protocol, "tcp")
    reset(peer)
    until(lambda: protocol.lost)
    assert [type(exc) for exc in protocol.lost] == [ConnectionResetError]


# Exceptions in protocols


def fail(*args):
    raise ZeroDivisionError("on purpose")


FATAL = ["data_received", "eof_received", "buffer_updated"]


def failing(name, error, recorder, buffered_recorder):
    return (buffered_recorder if name == "buffer_updated" else recorder)(**{name: raiser(error)})


def provoke(name, peer):
    if name == "eof_received":
        peer.shutdown(socket.SHUT_WR)
    else:
        peer.send(b"x")


@pytest.mark.parametrize("name", FATAL)
def test_exception_ends_the_connection(connect, recorder, buffered_recorder, reports, until, collect, kind, name):
    error = ZeroDivisionError("on purpose")
    protocol = failing(name, error, recorder, buffered_recorder)
    transport, peer = connect(protocol, kind)
    provoke(name, peer)
    until(lambda: protocol.lost)
    assert reports == [
        {
            "message": "Fatal error: protocol.%s() call failed." % name,
            "exception": error,
            "transport": transport,
            "protocol": protocol,
        }
    ]
    assert protocol.lost == [error]
    assert collect(peer) == b""


@pytest.mark.parametrize("name", FATAL)
def test_os_error_ends_the_connection_without_a_report(connect, recorder, buffered_recorder, until, name):
    error = OSError(1, "on purpose")
    protocol = failing(name, error, recorder, buffered_recorder)
    transport, peer = connect(protocol)
    provoke(name, peer)
    until(lambda: protocol.lost)
    assert protocol.lost == [error]


def test_os_error_is_logged_in_debug_mode(loop, connect, recorder, until, caplog):
    loop.set_debug(True)
    loop.slow_callback_duration = 100
    protocol = recorder(data_received=raiser(OSError(1, "on purpose")))
    transport, peer = connect(protocol)
    peer.send(b"x")
    with caplog.at_level("DEBUG", "asyncio"):
        until(lambda: protocol.lost)
    assert any("Fatal error: protocol.data_received() call failed." in text for text in caplog.messages)


@pytest.mark.parametrize("error", [asyncio.CancelledError, GeneratorExit])
def test_other_base_exceptions_are_reported_too(connect, recorder, reports, until, error):
    protocol = recorder(data_received=raiser(error))
    transport, peer = connect(protocol)
    peer.send(b"x")
    until(lambda: protocol.lost)
    assert type(protocol.lost[0]) is error and [report["exception"] for report in reports] == protocol.lost


def test_exception_in_connection_made_leaves_the_connection(connect, recorder, reports, until, kind):
    protocol = recorder(connection_made=fail)
    transport, peer = connect(protocol, kind)
    (report,) = reports
    assert sorted(report) == ["exception", "handle", "message"]
    assert re.match(r"Exception in callback .*connection_made", report["message"])
    assert str(report["exception"]) == "on purpose"
    assert isinstance(report["handle"], asyncio.Handle)
    peer.send(b"x")
    until(lambda: protocol.data == b"x")


def test_exception_in_connection_lost_does_not_keep_the_socket(connect, recorder, reports, until, collect, kind):
    protocol = recorder(connection_lost=fail)
    transport, peer = connect(protocol, kind)
    sock = transport.get_extra_info("socket")
    transport.close()
    until(lambda: reports)
    (report,) = reports
    assert sorted(report) == ["exception", "handle", "message"]
    assert re.match(r"Exception in callback .*connection_lost", report["message"])
    assert sock.fileno() == -1 and collect(peer) == b""


def test_exception_in_connection_lost_after_an_error(connect, recorder, reports, until):
    protocol = recorder(data_received=fail, connection_lost=fail)
    transport, peer = connect(protocol)
    peer.send(b"x")
    until(lambda: len(reports) == 2)
    assert transport.get_extra_info("socket").fileno() == -1


def test_traceback_shows_the_callback(connect, recorder, reports, until):
    protocol = recorder(data_received=fail)
    transport, peer = connect(protocol)
    peer.send(b"x")
    until(lambda: protocol.lost)
    traceback = protocol.lost[0].__traceback__
    while traceback.tb_next:
        traceback = traceback.tb_next
    assert traceback.tb_frame.f_code is fail.__code__


# KeyboardInterrupt and SystemExit


@INTERRUPTIONS
@pytest.mark.parametrize("name", FATAL + ["get_buffer"])
def test_interruption_stops_the_loop_and_not_the_connection(
    connect, recorder, buffered_recorder, until, turn, collect, kind, name, interruption
):
    def interrupt(self, *args):
        self.hooks.pop(name)
        raise interruption("on purpose")

    buffered = name in ("buffer_updated", "get_buffer")
    protocol = (buffered_recorder if buffered else recorder)(**{name: interrupt})
    transport, peer = connect(protocol, kind)
    provoke(name, peer)
    with pytest.raises(interruption, match="on purpose"):
        until(lambda: False)
    assert not transport.is_closing() and protocol.lost == []
    transport.write(b"still here")
    assert collect(peer, 10) == b"still here"
    transport.close()
    until(lambda: protocol.lost)
    assert protocol.lost == [None]


@INTERRUPTIONS
def test_interruption_in_connection_made(loop, run, recorder, socket_pair, until, abandoned, kind, interruption):
    ours, peer = socket_pair(kind)
    protocol = recorder(connection_made=raiser(interruption))
    task = loop.create_task(loop.create_connection(lambda: protocol, sock=ours))
    with pytest.raises(interruption, match="on purpose"):
        loop.run_until_complete(task)
    transport, _ = run(task)
    abandoned.add(transport)
    peer.send(b"x")
    until(lambda: protocol.data == b"x")


@INTERRUPTIONS
def test_interruption_in_connection_lost_does_not_keep_the_socket(
    loop, connect, recorder, turn, collect, kind, interruption
):
    protocol = recorder(connection_lost=raiser(interruption))
    transport, peer = connect(protocol, kind)
    transport.close()
    with pytest.raises(interruption, match="on purpose"):
        turn()
    assert transport.get_extra_info("socket").fileno() == -1
    assert collect(peer) == b""


# Descriptors


def test_descriptor_is_the_transports_own(loop, connect, recorder, turn):
    transport, peer = connect(recorder())
    sock = transport.get_extra_info("socket")
    for method in (loop.add_reader, loop.add_writer):
        with pytest.raises(RuntimeError, match=r"^File descriptor .* is used by transport <"):
            method(sock, print)
    for method in (loop.remove_reader, loop.remove_writer):
        with pytest.raises(RuntimeError, match=r"^File descriptor .* is used by transport <"):
            method(sock.fileno())
    fd = sock.fileno()
    transport.close()
    turn()
    os.dup2(peer.fileno(), fd)  # the number is now free for others
    try:
        loop.add_writer(fd, print)
        loop.remove_writer(fd)
    finally:
        os.close(fd)


def test_number_reused_by_a_new_connection(connect, recorder, until, turn, kind):
    """Events for the old connection do not reach the new one."""
    for number in range(20):
        first = recorder()
        transport, peer = connect(first, kind)
        fd = transport.get_extra_info("socket").fileno()
        peer.send(b"old")
        transport.abort()
        turn()
        second = recorder()
        transport, new_peer = connect(second, kind)
        new_fd = transport.get_extra_info("socket").fileno()
        peer.close()
        new_peer.send(b"new")
        until(lambda: second.data)  # noqa: B023
        assert first.data == b"" and second.data == b"new"
        assert fd in (new_fd, new_peer.fileno()), number
        transport.abort()
        new_peer.close()
        turn()


def test_closing_another_connection_of_the_same_batch(connect, recorder, until, turn, kind):
    """Both are ready at once. The first callback closes the other, which must not get its data."""
    protocols = []

    def close_others(self, data):
        for protocol in protocols:
            if protocol is not self:
                protocol.transport.abort()

    for _ in range(5):
        protocols.append(recorder(data_received=close_others))
    peers = [connect(protocol, kind)[1] for protocol in protocols]
    for peer in peers:
        peer.send(b"x")
    until(lambda: sum(bool(protocol.lost) for protocol in protocols) == 4)
    assert sum(bool(protocol.data) for protocol in protocols) == 1


@pytest.mark.skipif(sys.version_info < (3, 14), reason="before, asyncio let two transports have one")
def test_socket_of_a_transport_is_refused(run, loop, connect, recorder):
    transport, peer = connect(recorder())
    sock = transport._sock
    before = sys.getrefcount(sock)
    with pytest.raises(RuntimeError, match=r"^File descriptor .* is used by transport <"):
        run(loop.create_connection(recorder, sock=sock))
    gc.collect()
    assert sys.getrefcount(sock) <= before  # the message has it no longer


def test_what_was_sent_arrives_in_the_next_turn_though_callbacks_are_ready(connect, recorder, loop, turn):
    """Programs that talk to themselves rely on it: a loop that skips polls must not skip this one."""
    protocol = recorder()
    transport, peer = connect(protocol)
    there = recorder()
    loop.run_until_complete(loop.create_connection(lambda: there, sock=peer))
    turns, received = [], []

    def chain():
        turns.append(1)
        if there.data or len(turns) > 50:
            received.append(len(turns))
            loop.stop()
        else:
            loop.call_soon(chain)

    loop.call_soon(transport.write, b"x")
    loop.call_soon(chain)
    loop.run_forever()
    assert received[0] <= 3
    there.transport.close()
    turn()


def test_error_of_a_queued_write_is_not_kept(connect, recorder, until, kind):
    def errors():
        gc.collect()
        return sum(isinstance(each, ConnectionError) for each in gc.get_objects())

    before = errors()
    protocol = recorder()
    transport, peer = connect(protocol, kind)
    transport.pause_reading()  # it is the write that fails
    transport.write(b"x" * 10000000)
    peer.close()
    until(lambda: protocol.lost)
    assert isinstance(protocol.lost.pop(), ConnectionError)
    assert errors() == before


@pytest.mark.parametrize("size", [100, 3000000])
@pytest.mark.parametrize("method", ["write", "writelines"])
def test_data_is_not_kept_once_it_is_sent(connect, recorder, collect, until, kind, method, size):
    transport, peer = connect(recorder(), kind)
    data = b"x" * size
    before = sys.getrefcount(data)
    if method == "write":
        transport.write(data)
    else:
        transport.writelines([data, data])
    wanted = size if method == "write" else 2 * size
    assert len(collect(peer, wanted)) == wanted
    until(lambda: transport.get_write_buffer_size() == 0)
    assert sys.getrefcount(data) == before
