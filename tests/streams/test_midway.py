"""What a program does while a reader or a writer is in the midst of something, in Python code that they call: methods of a transport
or a future of the program's own, a replaced create_future(), the handler of a connection. All of it beside asyncio.
"""

import asyncio
import gc
import socket

import midway
import pytest
from midway import (
    Places,
    calling,
    current,
    described,
    for_each,
    kind,
    nothing,
    of_transport,
    quiet,
    raises,
    where_asyncio_is_known,
)

pytestmark = where_asyncio_is_known


class Scene(midway.Scene):
    """A connection with a reader and a writer of the loop, and the socket at the other end."""

    around = quiet, current
    unnoted = midway.FREED

    def __init__(self, *args):
        super().__init__(*args)
        self.made = self.loop.create_future()

    def turns(self, count=6):
        super().turns(count)

    def connect(self, limit=10):
        """By the handler of a server."""
        self.ours, self.peer = self.pair()

        async def handler(reader, writer):
            self.made.set_result((reader, writer))

        self.serve(handler, limit)
        self.reader, self.writer = self.made.result()
        self.transport = self.writer.transport
        self.protocol = self.transport.get_protocol()

    def serve(self, handler, limit=10):
        def factory():
            reader = asyncio.StreamReader(limit=limit, loop=self.loop)
            return asyncio.StreamReaderProtocol(reader, handler, loop=self.loop)

        connecting = self.loop.create_task(self.loop.connect_accepted_socket(factory, self.ours))
        self.turns()
        self.transport = connecting.result()[0]

    def begin(self, function, *args):
        async def main():
            return await function(*args)

        self.tasks.append(self.loop.create_task(main()))
        return self.tasks[-1]

    def send(self, data):
        try:
            self.peer.send(data)
        except OSError:
            self.note("gone")
        self.turns()

    def end(self):
        self.turns()
        self.send(b"some more\n")
        if self.made.done():
            for name in "_buffer", "_eof", "_exception", "_waiter", "_paused", "_limit":
                value = getattr(self.reader, name, "deleted")
                self.note(name, kind(value))
            self.begin(self.reader.read, 100)
        self.turns()
        for task in self.tasks:
            if not task.done():
                self.note("waits")
                task.cancel()
                self.turns()
            if task.cancelled():
                self.note("cancelled")
            else:
                self.note(described(task.exception() or task.result()))
        self.note(self.transport.is_closing())
        self.transport.abort()
        self.turns()
        return self.notes


def replaces(scene):
    scene.reader._buffer = bytearray(b"new\nnew\n")


def deletes(scene):
    del scene.reader._buffer


def waits_too(scene):
    scene.begin(scene.reader.read, 2)


def of_its_own(scene):
    """Methods on the object."""
    scene.reader.feed_data = lambda data: scene.note("fed", bytes(data))
    scene.reader._wakeup_waiter = lambda: scene.note("woken")


ACTS = {
    "nothing": nothing,
    "raise": raises,
    "feed": lambda scene: scene.reader.feed_data(b"fed\n"),
    "feed much": lambda scene: scene.reader.feed_data(bytes(1000)),
    "feed_eof": lambda scene: scene.reader.feed_eof(),
    "set_exception": lambda scene: scene.reader.set_exception(LookupError("of the test")),
    "clear": lambda scene: scene.reader._buffer.clear(),
    "replace": replaces,
    "delete": deletes,
    "cancel": lambda scene: [task.cancel() for task in scene.tasks],
    "close": lambda scene: scene.writer.close(),
    "abort": of_transport("abort"),
    "text for eof": lambda scene: setattr(scene.reader, "_eof", "text"),
    "no waiter": lambda scene: setattr(scene.reader, "_waiter", None),
    "no transport": lambda scene: setattr(scene.reader, "_transport", None),
    "no loop": lambda scene: setattr(scene.reader, "_loop", None),
    "another limit": lambda scene: setattr(scene.reader, "_limit", 10**30),
    "wait": waits_too,
    "methods": of_its_own,
    "collect": lambda scene: gc.collect(),
}
# Where our methods have done their part when the program makes of the reader what asyncio's code stumbles over.
ODD = {
    ("resuming_while_it_waits", "text for eof"),
    ("waiter_for_much", "text for eof"),
    ("waiter_for_data", "delete"),
    ("cancelled_waiter_for_data", "delete"),
    ("waiter_for_much", "delete"),
}


class Transport:
    """One of the program's own, in the place of the reader's or the writer's."""

    def __init__(self, scene, *names):
        self.scene, self.names = scene, names

    def __getattr__(self, name):
        if name in self.names:
            self.scene.midway()
        return getattr(self.scene.transport, name)


class Unpausable(Transport):
    def pause_reading(self):
        self.scene.midway()
        raise NotImplementedError


class Waiter:
    """A future of the program's own."""

    def __init__(self, scene, cancelled=False):
        self.scene, self.is_cancelled = scene, cancelled

    def cancelled(self):
        self.scene.midway()
        return self.is_cancelled

    def set_result(self, result):
        self.scene.note("woken")

    def set_exception(self, error):
        self.scene.note("woken", described(error))


place = Places()


@place
def pausing(scene):
    scene.connect()
    scene.reader._transport, scene.armed = Transport(scene, "pause_reading"), True
    scene.send(b"much more than the limit\n")


@place
def pausing_by_hand(scene):
    scene.connect()
    scene.reader._transport, scene.armed = Transport(scene, "pause_reading"), True
    scene.attempt(scene.reader.feed_data, b"much more than the limit\n")


@place
def pausing_what_cannot(scene):
    scene.connect()
    scene.reader._transport, scene.armed = Unpausable(scene), True
    scene.send(b"much more than the limit\n")


def resuming(scene, name, *args, data=b"much\nmore than the limit\n"):
    scene.connect()
    scene.send(data)
    scene.reader._transport, scene.armed = Transport(scene, "resume_reading"), True
    scene.begin(getattr(scene.reader, name), *args)
    scene.turns()


@place
def resuming_read(scene):
    resuming(scene, "read", 20)


@place
def resuming_readexactly(scene):
    resuming(scene, "readexactly", 20)


@place
def resuming_readline(scene):
    resuming(scene, "readline")
    scene.begin(scene.reader.readline)
    scene.turns()


@place
def resuming_readuntil(scene):
    resuming(scene, "readuntil", b"t\n")


@place
def resuming_while_it_waits(scene):
    resuming(scene, "readexactly", 50)


@place
def resuming_after_a_line_that_is_too_long(scene):
    resuming(scene, "readline", data=b"much more than the limit\n")


@place
def resuming_in_a_loop(scene):
    resuming(scene, "__anext__", data=b"much more than the limit\n")


def waiting(scene, cancelled=False):
    scene.connect()
    scene.reader._waiter, scene.armed = Waiter(scene, cancelled), True


@place
def waiter_for_data(scene):
    waiting(scene)
    scene.send(b"some data\n")


@place
def cancelled_waiter_for_data(scene):
    waiting(scene, cancelled=True)
    scene.send(b"some data\n")


@place
def waiter_for_much(scene):
    waiting(scene)
    scene.send(b"much more than the limit\n")


@place
def waiter_for_the_end(scene):
    waiting(scene)
    scene.peer.shutdown(socket.SHUT_WR)
    scene.turns()


@place
def waiter_for_the_end_by_hand(scene):
    waiting(scene)
    scene.attempt(scene.reader.feed_eof)


@place
def waiter_when_it_is_lost(scene):
    waiting(scene)
    scene.transport.abort()
    scene.turns()


@place
def waiter_when_it_breaks(scene):
    waiting(scene)
    scene.transport._force_close(ConnectionError("of the test"))
    scene.turns()


def future_for(scene, name, *args):
    """A loop whose create_future() was replaced."""
    scene.connect()
    with calling(scene, "create_future"):
        scene.armed = True
        scene.begin(getattr(scene.reader, name), *args)
        scene.turns()
        scene.send(b"of ten bytes and more")


@place
def future_of_the_loop(scene):
    future_for(scene, "readexactly", 10)


@place
def future_of_the_loop_for_a_line(scene):
    future_for(scene, "readuntil", b"n")


@place
def draining_what_may_be_closing(scene):
    scene.connect()
    scene.writer._transport, scene.armed = Transport(scene, "is_closing"), True
    scene.begin(scene.writer.drain)
    scene.turns()
    scene.writer._transport = scene.transport


@place
def writing(scene):
    scene.connect()
    scene.writer._transport, scene.armed = Transport(scene, "write"), True
    scene.attempt(scene.writer.write, b"text")
    scene.writer._transport = scene.transport


@place
def closing(scene):
    scene.connect()
    scene.writer._transport, scene.armed = Transport(scene, "close"), True
    scene.attempt(scene.writer.close)
    scene.writer._transport = scene.transport


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of what was deleted
@for_each(place)
def test_as_asyncio(differences, place):
    assert differences(Scene.plays(place, ACTS, ODD)) == {}
