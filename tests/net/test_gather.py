"""What a callback writes is sent together when it returns (docs/decisions/0007). asyncio sends at once; what
programs can see is the same on both, also where Python runs in the middle of it: in destructors, in the log
handler of a failed send, in nested turns."""

import asyncio
import gc
import os
import socket

import pytest


class OnDeletion:
    def __init__(self, call):
        self.call = call
        self.cycle = self

    def __del__(self):
        self.call()


@pytest.fixture
def in_callback(loop, turn):
    """Calls a function in a callback of the running loop, and lets the loop go on for a few turns."""

    def in_callback(function, *args):
        loop.call_soon(function, *args)
        for _ in range(3):
            turn()

    return in_callback


def received(peer, size=65536):
    try:
        return peer.recv(size)
    except BlockingIOError:
        return None


def test_interleaved_writes_reach_each_their_own_peer(connect, recorder, in_callback):
    pairs = [connect(recorder()) for _ in range(3)]

    def write():
        for round in range(5):
            for number, (transport, _) in enumerate(pairs):
                transport.write(b"%d%d " % (number, round))

    in_callback(write)
    assert [received(peer) for _, peer in pairs] == [
        b"".join(b"%d%d " % (number, round) for round in range(5)) for number in range(3)
    ]
    for transport, _ in pairs:
        transport.abort()


@pytest.mark.parametrize("debug", [False, True])
def test_python_that_runs_in_a_failed_send_writes_elsewhere(connect, recorder, loop, in_callback, debug, caplog):
    """
    A.write     A gathers
    B.write     A is sent, and fails; what runs then writes to C: C gathers
                B was taken for the one that gathers, and its bytes went to C
    """
    (broken, gone), (other, its_peer), (third, third_peer) = (connect(recorder()) for _ in range(3))
    broken.pause_reading()
    gone.close()
    loop.set_debug(debug)
    threshold = gc.get_threshold()

    def write():
        gc.collect()
        broken.write(b"lost")
        OnDeletion(lambda: third.write(b"third"))
        gc.set_threshold(1, 1, 1)
        try:
            other.write(b"other")
        finally:
            gc.set_threshold(*threshold)

    in_callback(write)
    gc.collect()
    assert received(its_peer) == b"other"
    assert received(third_peer) in (b"third", None)
    for transport in (broken, other, third):
        transport.abort()


def test_destructor_of_an_argument_writes(connect, recorder, in_callback):
    transport, peer = connect(recorder())
    argument = OnDeletion(lambda: transport.write(b"tail"))
    argument.cycle = None
    in_callback(lambda _: None, argument)
    del argument
    in_callback(lambda: None)
    assert received(peer) == b"tail"
    transport.abort()


def test_write_of_the_last_callback_is_sent(connect, recorder, loop):
    transport, peer = connect(recorder())

    def write_and_stop():
        transport.write(b"last ")
        transport.write(b"words")
        loop.stop()

    loop.call_soon(write_and_stop)
    loop.run_forever()
    assert received(peer) == b"last words"
    transport.abort()


def test_interruption_after_a_write(connect, recorder, loop):
    transport, peer = connect(recorder())

    def write_and_interrupt():
        transport.write(b"written")
        raise KeyboardInterrupt

    loop.call_soon(write_and_interrupt)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    assert received(peer) == b"written"
    transport.abort()


def test_exception_after_a_write(connect, recorder, until, reports):
    def raises(protocol, data):
        protocol.transport.write(b"what went ")
        protocol.transport.write(b"wrong")
        raise ZeroDivisionError

    protocol = recorder(data_received=raises)
    transport, peer = connect(protocol)
    peer.send(b"hello")
    until(lambda: protocol.lost)
    assert peer.recv(100) + (peer.recv(100) or b"") == b"what went wrong"
    assert len(reports) == 1


def test_connection_is_lost_in_a_turn_within(enters_contexts_again, loop, connect, recorder, until):
    def aborts(protocol, data):
        protocol.transport.abort()
        for _ in range(3):
            loop._run_once()
        lost.append(len(protocol.lost))

    lost = []
    transport, peer = connect(recorder(data_received=aborts))
    peer.send(b"hello")
    until(lambda: lost)
    assert lost == [1]


def test_shutdown_of_the_socket_after_a_write(connect, recorder, in_callback):
    transport, peer = connect(recorder())

    def write_and_shut_down():
        transport.write(b"bye")
        transport.get_extra_info("socket").shutdown(socket.SHUT_WR)

    in_callback(write_and_shut_down)
    assert received(peer) == b"bye" and received(peer) == b""
    transport.abort()


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_child_forked_after_a_write_does_not_send_it_again(connect, recorder, in_callback):
    transport, peer = connect(recorder())
    children = []

    def write_and_fork():
        transport.write(b"once")
        child = os.fork()
        if child == 0:
            raise SystemExit
        children.append(child)

    try:
        in_callback(write_and_fork)
    except SystemExit:
        os._exit(0)  # the child, past the end of the callback
    os.waitpid(children[0], 0)
    assert received(peer) == b"once" and received(peer) is None
    transport.abort()


def test_pause_writing_may_change_the_buffer(connect, recorder, in_callback, native):
    data = bytearray(1 << 20)
    transport, peer = connect(recorder(pause_writing=lambda self: data.clear()))
    native(transport)  # from 3.12 on asyncio keeps a view of it
    in_callback(transport.write, data)
    assert len(data) == 0 and transport.get_write_buffer_size() > 0
    transport.abort()


def test_closing_transport_keeps_its_descriptor_until_all_is_sent(connect, recorder, loop, until, native):
    protocol = recorder()
    transport, peer = connect(protocol)
    native(transport)  # asyncio lets add_reader() have it
    size = 1 << 22
    transport.write(bytes(size))
    transport.close()
    with pytest.raises(RuntimeError, match="is used by transport"):
        loop.add_reader(transport._sock_fd, print)
    got = []
    until(lambda: got.append(len(received(peer) or b"")) or protocol.lost)
    while sum(got) < size:
        got.append(len(peer.recv(1 << 20)))
    assert sum(got) == size


def test_reading_that_the_protocol_resumed_goes_on_after_sendfile(run, loop, connect, recorder, until, tmp_path):
    protocol = recorder(
        pause_writing=lambda self: self.transport.pause_reading(),
        resume_writing=lambda self: self.transport.resume_reading(),
    )
    transport, peer = connect(protocol)
    path = tmp_path / "file"
    path.write_bytes(bytes(3 << 20))

    async def read_all():
        left = 4 << 20
        while left:
            left -= len(await loop.sock_recv(peer, 1 << 20))

    async def main():
        transport.write(bytes(1 << 20))
        reader = asyncio.ensure_future(read_all())
        with open(str(path), "rb") as file:
            await loop.sendfile(transport, file)
        await reader

    run(main())
    peer.send(b"reply")
    until(lambda: protocol.data == b"reply")
    transport.abort()
