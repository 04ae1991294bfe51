"""Private attributes of readers, writers and their protocols that a program sets to what asyncio never puts there, or deletes: what
reads, writes and ends then is as on asyncio.
"""

import asyncio
import gc
import socket
import warnings

import pytest

DELETED = object()
VALUES = {
    "none": lambda: None,
    "true": lambda: True,
    "false": lambda: False,
    "zero": lambda: 0,
    "huge": lambda: 10**30,
    "text": lambda: "text",
    "bytearray": lambda: bytearray(b"of the test\n"),
    "error": lambda: KeyError("of the test"),
    "object": object,
    "deleted": lambda: DELETED,
}
NAMES = {
    "reader": ["_limit", "_loop", "_eof", "_buffer", "_waiter", "_exception", "_transport", "_paused"],
    "writer": ["_transport", "_protocol", "_reader", "_loop"],
    "protocol": [
        "_stream_reader_wr", "_stream_writer", "_client_connected_cb", "_over_ssl", "_paused", "_connection_lost", "_closed",
        "_loop", "_transport", "_reject_connection", "_strong_reader", "_task",
    ],
}  # fmt: skip
CASES = [(thing, name) for thing, names in NAMES.items() for name in names]


def turns(loop, count=4):
    for _ in range(count):
        loop.call_soon(loop.stop)
        loop.run_forever()


def change(thing, name, value):
    if not hasattr(thing, name):
        return  # not in this version
    if value is DELETED:
        delattr(thing, name)
    else:
        setattr(thing, name, value)


def attempt(function, *args):
    try:
        result = function(*args)
    except Exception as error:
        return type(error).__name__
    return result if isinstance(result, (bytes, bool)) else None


def fate(loop, task):
    """What has become of a task after a few turns."""
    turns(loop)
    if task.done():
        error = None if task.cancelled() else task.exception()
        return "cancelled" if task.cancelled() else type(error).__name__ if error else task.result()
    task.cancel()
    turns(loop)
    return "waits"


def begin(loop, function, *args):
    """A task that calls the function, and awaits what it returns."""

    async def main():
        return await function(*args)

    return loop.create_task(main())


def use(loop, reader, writer, peer):
    """What happens to the connection from now on."""
    seen = []
    attempt(peer.send, b"some\ndata\n")
    turns(loop)
    seen.append(fate(loop, begin(loop, reader.readline)))
    seen.append(fate(loop, begin(loop, reader.readexactly, 2)))
    seen.append(attempt(writer.write, b"answer"))
    seen.append(fate(loop, begin(loop, writer.drain)))
    attempt(peer.shutdown, socket.SHUT_WR)
    turns(loop)
    seen.append(fate(loop, begin(loop, reader.read, 100)))
    seen.append(fate(loop, begin(loop, reader.readuntil, b"\n")))
    seen.append(attempt(reader.at_eof))
    seen.append(attempt(writer.close))
    turns(loop)
    seen.append(fate(loop, begin(loop, writer.wait_closed)))
    return seen


def scene(loop, moment, thing, name, value):
    reports, made = [], []
    ours, peer = socket.socketpair()
    peer.setblocking(False)

    def report(loop, context):
        reports.append(type(context.get("exception")).__name__)

    async def serve(reader, writer):
        made.append((reader, writer, writer.transport))

    def factory():
        reader = asyncio.StreamReader(limit=1000, loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, serve, loop=loop)
        if moment == "before":
            kept.append(reader)
            change({"reader": reader, "protocol": protocol}[thing], name, value)
        return protocol

    kept = []
    loop.set_exception_handler(report)
    connecting = begin(loop, loop.connect_accepted_socket, factory, ours)
    turns(loop)
    told = [connecting.done() and connecting.exception() is None, len(made)]
    if made:
        reader, writer, transport = made[0]
        reader = reader or kept[0]  # what the protocol does not know any more
        things = {"reader": reader, "writer": writer, "protocol": transport.get_protocol()}
        waiting = begin(loop, reader.readuntil, b"!") if moment == "waiting" else None
        turns(loop)
        if moment != "before":
            told.append(attempt(change, things[thing], name, value))
        told += use(loop, reader, writer, peer)
        if waiting is not None:
            told.append(fate(loop, waiting))
        told.append(attempt(peer.recv, 100))
        told.append(list(reports))
        transport.abort()
    elif connecting.done() and not connecting.exception():
        connecting.result()[0].abort()
    turns(loop)
    peer.close()
    ours.close()
    return told


def fresh_scene(make_loop, *args):
    loop = make_loop()
    asyncio.set_event_loop(loop)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return scene(loop, *args)
        finally:
            loop.set_exception_handler(lambda loop, context: None)
            gc.collect(1)  # all of it is young
            turns(loop)
            loop.close()
            asyncio.set_event_loop(None)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of their __del__()
@pytest.mark.parametrize("thing, name", CASES)
@pytest.mark.parametrize("moment", ["before", "connected", "waiting"])
def test_as_asyncio(differences, moment, thing, name):
    if moment == "before" and thing == "writer":
        pytest.skip("there is none yet")
    values = dict(VALUES)
    if (moment, name) == ("waiting", "_exception"):
        del values["deleted"]  # asyncio's coroutine, which runs from then on, looks at it once more

    def play(make_loop):
        return {value: fresh_scene(make_loop, moment, thing, name, make()) for value, make in values.items()}

    assert differences(play) == {}
    gc.collect()
