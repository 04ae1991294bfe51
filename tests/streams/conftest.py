"""What the stream tests share: a reader and its protocol on a transport of the loop under test, and a plain socket at
the other end.
"""

import asyncio
import os
import socket

import pytest

READS = [("read", 4), ("readexactly", 4), ("readuntil", b"\n"), ("readline",), ("__anext__",)]


@pytest.fixture(params=READS, ids=[read[0] for read in READS])
def read(request):
    """read(reader): the coroutine of one of the methods that read."""

    def read(reader):
        return getattr(reader, read.name)(*request.param[1:])

    read.name = request.param[0]
    return read


@pytest.fixture
def streams(loop, turn):
    """streams(limit=..., reader=None, protocol=None): a reader, its protocol and transport, and the peer's socket."""
    made = []

    def streams(limit=2**16, reader=None, protocol=None, **options):
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.settimeout(20)
        reader = reader or asyncio.StreamReader(limit=limit, loop=loop)
        protocol = protocol or asyncio.StreamReaderProtocol(reader, loop=loop, **options)
        transport, _ = loop.run_until_complete(loop.create_connection(lambda: protocol, sock=ours))
        made.extend([transport, theirs])
        return reader, protocol, transport, theirs

    yield streams
    for thing in made:
        thing.close()
    del made[:]
    if not loop.is_closed():
        turn()
        turn()


@pytest.fixture
def switched_off():
    """Whether asyncio's own methods run on cloop too."""
    return os.environ.get("CLOOP_STREAMS") == "stock"


@pytest.fixture
def arrive(until):
    """Sends the data and runs the loop until the reader has them."""

    def arrive(reader, peer, data=b"data\nmore\n"):
        expected = len(reader._buffer) + len(data)
        peer.send(data)
        until(lambda: len(reader._buffer) == expected)

    return arrive


@pytest.fixture
def ends(loop):
    """The coroutine's result, or the type and text of its exception."""

    def ends(coroutine):
        try:
            return loop.run_until_complete(asyncio.wait_for(coroutine, 20))
        except Exception as error:
            return type(error), str(error)

    return ends


@pytest.fixture
def finish():
    """finish(coroutine): the result of a coroutine that does not wait."""

    def finish(coroutine):
        with pytest.raises(StopIteration) as caught:
            coroutine.send(None)
        return caught.value.value

    return finish
