"""What the tests of streams share: a reader on a transport of the loop under test, and the other end as a socket."""

import asyncio
import socket

import pytest


@pytest.fixture
def streams(loop):
    """streams(limit=..., reader=None, protocol=None): a reader, its protocol and transport, and the peer's socket."""
    made = []

    def streams(limit=2**16, reader=None, protocol=None):
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.settimeout(5)
        reader = reader or asyncio.StreamReader(limit=limit, loop=loop)
        protocol = protocol or asyncio.StreamReaderProtocol(reader, loop=loop)
        transport, _ = loop.run_until_complete(loop.create_connection(lambda: protocol, sock=ours))
        made.extend([transport, theirs])
        return reader, protocol, transport, theirs

    yield streams
    for thing in made:
        thing.close()
    loop.run_until_complete(asyncio.sleep(0))
    loop.run_until_complete(asyncio.sleep(0))


@pytest.fixture
def until(loop):
    """Runs the loop until the condition holds."""

    def until(condition):
        async def wait():
            while not condition():
                await asyncio.sleep(0)

        loop.run_until_complete(asyncio.wait_for(wait(), 5))

    return until
