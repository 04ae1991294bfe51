"""What the loop asks of the system: executor, descriptors, addresses."""

import asyncio
import contextlib
import socket

from benchmarks.registry import benchmark


def nothing():
    pass


@contextlib.contextmanager
def open_descriptor(loop):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        yield ours.fileno()


@benchmark(reach=1.1)
async def run_in_executor(loop, n):
    """One empty call in the default executor, awaited; CPU of all threads."""
    for _ in range(n):
        await loop.run_in_executor(None, nothing)


@benchmark(since=(3, 9), default=False)
async def to_thread(loop, n):
    """One to_thread() of an empty function; CPU of all threads."""
    for _ in range(n):
        await asyncio.to_thread(nothing)


@benchmark(fixture=open_descriptor, reach=2.2)
async def add_remove_reader(loop, n, descriptor):
    """One add_reader and remove_reader of an idle socket, with no turn between."""
    for _ in range(n):
        loop.add_reader(descriptor, nothing)
        loop.remove_reader(descriptor)


@contextlib.contextmanager
def socket_pair(loop):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        yield ours, theirs


@benchmark(fixture=socket_pair)
async def reader_ping_pong(loop, n, pair):
    """One byte there and back over a socketpair, received and answered by the callbacks of two add_reader()."""
    ours, theirs = pair
    done = loop.create_future()
    left = n

    def receive():
        nonlocal left
        ours.recv(1)
        left -= 1
        if left:
            ours.send(b"x")
        else:
            done.set_result(None)

    loop.add_reader(ours.fileno(), receive)
    loop.add_reader(theirs.fileno(), lambda: theirs.send(theirs.recv(1)))
    ours.send(b"x")
    await done
    loop.remove_reader(ours.fileno())
    loop.remove_reader(theirs.fileno())


@benchmark(reach=2.2)
async def getaddrinfo_numeric(loop, n):
    """One await of getaddrinfo('127.0.0.1', 80)."""
    for _ in range(n):
        await loop.getaddrinfo("127.0.0.1", 80)


@benchmark(reach=2.2)
async def getaddrinfo_numeric_tcp(loop, n):
    """One await of getaddrinfo('127.0.0.1', 80, type=SOCK_STREAM)."""
    # Loops that answer numeric addresses without a thread may need the type.
    for _ in range(n):
        await loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)
