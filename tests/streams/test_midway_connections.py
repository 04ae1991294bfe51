"""What a program does to a connection's reader, writer, transport and protocol while a task is in the midst of something with them:
of a server's handler and of a client's, in a callback, a task, the exception handler. All of it beside asyncio.
"""

import asyncio
import contextlib
import gc
import inspect
import os
import pathlib
import socket
import sys
import tempfile

import pytest
from midway import Places, SocketScene, both, described, for_each, nothing, raises

MUCH = bytes(1 << 23)  # more than two sockets take


class Scene(SocketScene):
    """A connection, of a server or a client, and the socket at its other end."""

    def __init__(self, *args, side):
        super().__init__(*args)
        self.side, self.server, self.task = side, None, None
        self.folder = pathlib.Path(self.stack.enter_context(tempfile.TemporaryDirectory()))

    def connect(self, body, **options):
        """Runs body(scene, reader, writer) in a task of a connection."""

        async def noted(reader, writer):
            self.reader, self.writer, self.task = reader, writer, asyncio.current_task()
            try:
                self.note("done", described(await body(self, reader, writer)))
            except (Exception, asyncio.CancelledError) as error:
                self.note("raised", described(error))
                raise

        async def client(path):
            await noted(*await asyncio.open_unix_connection(path, **options))

        listener = self.stack.enter_context(socket.socket(socket.AF_UNIX))
        path = str(self.folder / "socket")
        listener.bind(path)
        if self.side == "server":
            self.server = self.loop.run_until_complete(asyncio.start_unix_server(noted, sock=listener, **options))
            self.peer = socket.socket(socket.AF_UNIX)
            self.peer.connect(path)
            self.keep(self.peer)
        else:
            listener.listen()
            self.tasks.append(self.loop.create_task(client(path)))
            self.settle()
            self.peer = self.keep(listener.accept()[0])
        self.settle()

    def heard(self):
        got, end = bytearray(), "open"
        with contextlib.suppress(BlockingIOError):
            while end == "open":
                try:
                    data = self.peer.recv(1 << 20)
                except BlockingIOError:
                    raise
                except OSError as error:
                    end = described(error)
                    break
                got += data
                self.settle()
                end = "open" if data else "eof"
        self.note("heard", bytes(got) if len(got) < 100 else len(got), end)

    def end(self):
        """What is to be seen then; and the end of the connection."""
        reader, writer = self.reader, self.writer
        self.settle()
        with contextlib.suppress(OSError):
            self.peer.send(b"later\n")
        self.settle()
        self.heard()
        self.note(writer.is_closing(), reader.at_eof(), bytes(reader._buffer), described(reader.exception()))
        self.peer.close()
        self.settle()
        self.start(writer.drain(), "drain at the end")
        self.settle()
        with contextlib.suppress(AttributeError):  # asyncio's, which is lost already
            writer.transport.abort()
        self.settle()
        self.start(writer.wait_closed(), "wait_closed at the end")
        self.settle()
        if self.server:
            self.server.close()
        self.note("done", [task.done() for task in self.tasks])
        for task in self.tasks + [self.task]:
            task.cancel()
        self.settle()
        return self.notes


def calls(where, *names_and_arguments):
    """Calls methods of the reader, the writer, its transport or its protocol."""

    def act(scene):
        for name, *args in names_and_arguments:
            owner = scene.reader if where == "reader" else scene.writer
            if where in ("transport", "protocol"):
                owner = owner.transport
            if where == "protocol":
                owner = owner.get_protocol()
            scene.attempt(getattr(owner, name), *args)

    return act


def awaits(where, *names_and_arguments):
    """Awaits methods of the reader or the writer, each in a task."""

    def act(scene):
        for name, *args in names_and_arguments:
            scene.start(getattr(getattr(scene, where), name)(*args), name)

    return act


writes_much = calls("writer", ("write", MUCH))
ACTS = {
    "nothing": nothing,
    "raise": raises,
    "close": calls("writer", ("close",)),
    "abort": calls("transport", ("abort",)),
    "close the transport": calls("transport", ("close",)),
    "write_eof": calls("writer", ("write_eof",)),
    "write": calls("writer", ("write", b"midway")),
    "writelines": calls("writer", ("writelines", [b"mid", b"way"])),
    "write much": writes_much,
    "write much and close": both(writes_much, calls("writer", ("close",))),
    "write much and abort": both(writes_much, calls("transport", ("abort",))),
    "close and write": calls("writer", ("close",), ("write", b"midway")),
    "write_eof and write": calls("writer", ("write_eof",), ("write", b"midway")),
    "feed_data": calls("reader", ("feed_data", b"fed\n")),
    "feed_eof": calls("reader", ("feed_eof",)),
    "feed_eof and feed_data": calls("reader", ("feed_eof",), ("feed_data", b"fed")),
    "feed much": calls("reader", ("feed_data", bytes(200000))),
    "set_exception": lambda scene: scene.reader.set_exception(LookupError("set")),
    "pause": calls("transport", ("pause_reading",)),
    "resume": calls("transport", ("resume_reading",)),
    "pause and resume": calls("transport", ("pause_reading",), ("resume_reading",)),
    "read": awaits("reader", ("read", 3)),
    "readline": awaits("reader", ("readline",)),
    "readexactly": awaits("reader", ("readexactly", 4)),
    "drain": awaits("writer", ("drain",)),
    "wait_closed": awaits("writer", ("wait_closed",)),
    "close and wait_closed": both(calls("writer", ("close",)), awaits("writer", ("wait_closed",))),
    "write much and drain": both(writes_much, awaits("writer", ("drain",), ("drain",))),
    "cancel": lambda scene: scene.task.cancel(),
    "peer closes": lambda scene: scene.peer.close(),
    "peer sends": lambda scene: scene.peer.send(b"from midway\n"),
    "peer ends": lambda scene: scene.peer.shutdown(socket.SHUT_WR),
    "connection_lost": calls("protocol", ("connection_lost", None)),
    "connection_lost by an error": lambda scene: calls("protocol", ("connection_lost", LookupError("lost")))(scene),
    "eof_received": calls("protocol", ("eof_received",)),
    "data_received": calls("protocol", ("data_received", b"passed\n")),
    "pause_writing": calls("protocol", ("pause_writing",)),
    "resume_writing": calls("protocol", ("pause_writing",), ("resume_writing",)),
    "another protocol": lambda scene: scene.writer.transport.set_protocol(asyncio.Protocol()),
    "stop": lambda scene: scene.loop.stop(),
    "collect": lambda scene: gc.collect(),
    "close the server": lambda scene: scene.server and scene.server.close(),
    "fail": lambda scene: scene.writer.transport._force_close(LookupError("of the test")),
}
PLACES = Places()


def place(*sends, **options):
    """A body; what the peer sends then, one after the other; None is the end."""

    def decorate(body):
        @PLACES.named(body.__name__)
        def run(scene):
            scene.armed = True
            scene.connect(body, **options)
            for data in sends:
                with contextlib.suppress(OSError):
                    scene.peer.shutdown(socket.SHUT_WR) if data is None else scene.peer.send(data)
                scene.settle()

        return body

    return decorate


@place(b"line\n")
async def at_the_start(scene, reader, writer):
    scene.midway()
    return await reader.readline()


async def answers(scene, reader, writer):
    first = await reader.readline()
    scene.midway()
    second = await reader.readline()
    writer.write(first + second)
    await writer.drain()
    writer.close()
    return first, second


@place(b"one\n", b"two\n")
async def between_two_lines(scene, reader, writer):
    return await answers(scene, reader, writer)


@place(b"one\ntwo\n")
async def between_two_lines_that_are_there(scene, reader, writer):
    return await answers(scene, reader, writer)


@place(b"abc", b"def")
async def within_readexactly(scene, reader, writer):
    scene.loop.call_soon(scene.midway)
    return await reader.readexactly(6)


@place(b"abc", None)
async def within_read(scene, reader, writer):
    scene.loop.call_soon(scene.midway)
    return await reader.read(100), await reader.read(100)


@place(b"abcx", b"xd")
async def within_readuntil(scene, reader, writer):
    scene.loop.call_soon(scene.midway)
    return await reader.readuntil(b"xx")


@place(b"abcx", b"xd", None)
async def within_read_of_all(scene, reader, writer):
    scene.loop.call_soon(scene.midway)
    return await reader.read()


@place(b"a\nb\n", b"c\n", None)
async def within_a_loop(scene, reader, writer):
    lines = []
    async for line in reader:
        lines.append(line)
        scene.midway()
    return lines


@place()
async def within_drain(scene, reader, writer):
    writer.write(MUCH)
    scene.loop.call_soon(scene.midway)
    await writer.drain()
    return "drained"


@place()
async def within_wait_closed(scene, reader, writer):
    writer.close()
    scene.loop.call_soon(scene.midway)
    await writer.wait_closed()
    return "closed"


@place()
async def after_wait_closed(scene, reader, writer):
    writer.close()
    await writer.wait_closed()
    scene.midway()
    return "closed"


@place(b"x", None)
async def at_the_peers_end(scene, reader, writer):
    data = await reader.read()
    scene.midway()
    writer.write(b"bye")
    await writer.drain()
    writer.close()
    return data


@place(b"0123456789", b"0123456789", limit=2)
async def while_reading_is_paused(scene, reader, writer):
    scene.midway()
    return await reader.readexactly(20)


@place(b"0123456789\n", b"1\n", limit=4)
async def after_a_line_that_is_too_long(scene, reader, writer):
    try:
        await reader.readline()
    except ValueError as error:
        scene.note(described(error))
    scene.midway()
    return await reader.readline()


@place(b"x", None)
async def when_wait_closed_ends(scene, reader, writer):
    waiting = scene.start(writer.wait_closed())
    waiting.add_done_callback(lambda task: scene.midway())
    data = await reader.read()
    writer.close()
    return data


async def returns(scene, reader, writer):
    return "returned"


@PLACES
def after_the_handler(scene):
    scene.connect(returns)
    scene.armed = True
    scene.loop.call_soon(scene.midway)
    scene.settle()


async def fails(scene, reader, writer):
    raise ZeroDivisionError


@PLACES
def when_the_handler_has_failed(scene):
    scene.hooks["reported"], scene.armed = scene.midway, True
    scene.connect(fails)


# A write to a transport that was closed after its buffer was sent: asyncio's has no socket then.
ASYNCIOS = {("between_two_lines", "write much and close")} if sys.version_info < (3, 14) else set()
if (3, 13) <= sys.version_info < (3, 14):  # writelines() of a closed transport fails in the first releases
    LATE = "within_wait_closed", "after_wait_closed", "when_wait_closed_ends"
    ASYNCIOS |= {(place, "writelines") for place in LATE}


if os.environ.get("CLOOP_GATHER") == "always":  # then writing fails later
    ASYNCIOS |= {(place.__name__, "peer closes") for place in PLACES}


# Older Pythons leave it in the task that the handler of a server has failed.
TELLS = "Unhandled exception in client_connected_cb" in inspect.getsource(asyncio.StreamReaderProtocol)


@pytest.mark.slow
@pytest.mark.unstressed("sends part of it")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("side", ["server", "client"])
@for_each(PLACES)
def test_as_asyncio(differences, place, side):
    idle = None
    if place is when_the_handler_has_failed and (side == "client" or not TELLS):
        idle = "nobody is told of an exception that is the task's"
    assert differences(Scene.plays(place, ACTS, ASYNCIOS, idle, side=side)) == {}
