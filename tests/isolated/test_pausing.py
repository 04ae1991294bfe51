"""Pausing and resuming a transport costs no system call, and a paused transport does not keep the loop awake."""

import os

import pytest

START = """
import ctypes, socket
library = ctypes.CDLL(None)
library.faults_seen.restype = ctypes.c_long
library.faults_arm.argtypes = [ctypes.c_uint, ctypes.c_long, ctypes.c_long, ctypes.c_int]
ADD, CHANGE, REMOVE, WAIT = 1, 2, 4, 256

def count(kinds):
    library.faults_arm(kinds, 1 << 40, 1 << 40, 0)

class Paused(asyncio.Protocol):
    turns = 0

    def connection_made(self, transport):
        self.transport, self.got = transport, b""

    def data_received(self, data):
        self.got += data
        self.transport.pause_reading()
        loop.call_soon(self.turn, self.turns)

    def turn(self, left):
        if left:
            loop.call_soon(self.turn, left - 1)
        else:
            self.transport.resume_reading()
            self.transport.write(b"y")

async def connect(turns):
    ours, peer = socket.socketpair()
    peer.setblocking(False)
    _, protocol = await loop.create_connection(Paused, sock=ours)
    protocol.turns = turns
    return peer, protocol
"""


@pytest.fixture
def counted(script, shim, monkeypatch, loop_kind):
    if loop_kind != "cloop-epoll":
        pytest.skip("counts calls of epoll")
    monkeypatch.setenv("LD_PRELOAD", (os.environ.get("LD_PRELOAD", "") + " " + shim).strip())
    return lambda text: script(START + text)


@pytest.mark.unstressed("a stress build polls more often")
def test_pausing_for_some_turns_changes_no_interest(counted):
    assert (
        counted("""
async def main():
    peer, protocol = await connect(turns=50)
    await loop.sock_sendall(peer, b"x")
    await loop.sock_recv(peer, 1)
    count(ADD | CHANGE | REMOVE)
    for _ in range(100):
        await loop.sock_sendall(peer, b"x")
        await loop.sock_recv(peer, 1)
    print(library.faults_seen(), len(protocol.got))
    protocol.transport.close()
    peer.close()

loop = new_loop()
loop.run_until_complete(main())
loop.close()
""")
        == "0 101\n"
    )


def test_paused_transport_lets_the_loop_sleep(counted):
    waits, changes, got = map(
        int,
        counted("""
async def main():
    peer, protocol = await connect(turns=0)
    protocol.transport.pause_reading()
    await asyncio.sleep(0)
    await loop.sock_sendall(peer, b"x" * 100)
    await asyncio.sleep(0.01)
    count(WAIT)
    await asyncio.sleep(0.1)
    waits = library.faults_seen()
    count(ADD | CHANGE | REMOVE)
    await loop.sock_sendall(peer, b"x" * 100)
    await asyncio.sleep(0.01)
    changes = library.faults_seen()
    assert protocol.got == b""
    protocol.transport.resume_reading()
    await loop.sock_recv(peer, 1)
    print(waits, changes, len(protocol.got))
    protocol.transport.close()
    peer.close()

loop = new_loop()
loop.run_until_complete(main())
loop.close()
""").split(),
    )
    assert waits <= 3 and changes == 0 and got == 200


@pytest.mark.parametrize("how", ["close", "abort", "shutdown"])
def test_transport_that_ends_while_paused(counted, how):
    """The peer's end is not seen before reading resumes, and wakes the loop once."""
    assert (
        counted(
            """
async def main():
    peer, protocol = await connect(turns=0)
    lost = loop.create_future()
    protocol.connection_lost = lambda exc: lost.set_result(None)
    protocol.transport.pause_reading()
    how = %r
    if how == "shutdown":
        peer.shutdown(socket.SHUT_RDWR)
        await asyncio.sleep(0.01)
        count(WAIT)
        await asyncio.sleep(0.05)
        assert library.faults_seen() <= 3, library.faults_seen()
        assert not lost.done()
        protocol.transport.resume_reading()
    else:
        getattr(protocol.transport, how)()
    await lost
    peer.close()
    print("lost")

loop = new_loop()
loop.run_until_complete(main())
loop.close()
"""
            % how
        )
        == "lost\n"
    )
