"""What a program does while a reader or a writer is in the midst of something, in Python code that they call: methods of a transport
or a future of the program's own, a replaced create_future(), the handler of a connection. All of it beside asyncio.
"""

import asyncio
import gc
import socket
import sys
import warnings

import pytest

pytestmark = pytest.mark.skipif(
    sys.version_info[:2] not in ((3, 11), (3, 14)), reason="asyncio has other faults of its own there"
)


def described(error):
    return None if error is None else (type(error).__name__, str(error).partition("<")[0])


class Scene:
    """A connection with a reader and a writer of the loop, the socket at the other end, and what is noted."""

    def __init__(self, loop, act):
        self.loop, self.act = loop, act
        self.notes, self.armed, self.tasks = [], False, []
        loop.set_exception_handler(self.report)
        self.made = loop.create_future()

    def report(self, loop, context):
        if "never retrieved" not in context["message"] and "destroyed" not in context["message"]:
            message = context["message"].partition(" of ")[0].partition(" <")[0]
            if message.startswith("Exception in callback"):
                message = "Exception in callback"
            self.notes.append(("reported", message, described(context.get("exception"))))

    def turns(self, count=6):
        for _ in range(count):
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()

    def connect(self, limit=10):
        """By the handler of a server."""
        self.ours, self.peer = socket.socketpair()
        self.peer.setblocking(False)

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

    def midway(self):
        """Does what is to be done, once it is armed, and only once."""
        if self.armed:
            self.armed = False
            self.notes.append("midway")
            ACTS[self.act](self)

    def attempt(self, function, *args):
        try:
            result = function(*args)
        except Exception as error:
            result = described(error)
        self.notes.append(("returned", result))

    def send(self, data):
        try:
            self.peer.send(data)
        except OSError:
            self.notes.append("gone")
        self.turns()

    def end(self):
        self.turns()
        self.send(b"some more\n")
        if self.made.done():
            for name in "_buffer", "_eof", "_exception", "_waiter", "_paused", "_limit":
                value = getattr(self.reader, name, "deleted")
                self.notes.append((name, "future" if asyncio.isfuture(value) else repr(value).partition(" at 0x")[0]))
            self.begin(self.reader.read, 100)
        self.turns()
        for task in self.tasks:
            if not task.done():
                self.notes.append("waits")
                task.cancel()
                self.turns()
            if task.cancelled():
                self.notes.append("cancelled")
            else:
                self.notes.append(described(task.exception()) or task.result())
        self.notes.append(self.transport.is_closing())
        self.transport.abort()
        self.turns()
        self.peer.close()
        return self.notes


def raises(scene):
    raise LookupError("of the test")


def replaces(scene):
    scene.reader._buffer = bytearray(b"new\nnew\n")


def deletes(scene):
    del scene.reader._buffer


def waits_too(scene):
    scene.begin(scene.reader.read, 2)


def of_its_own(scene):
    """Methods on the object."""
    scene.reader.feed_data = lambda data: scene.notes.append(("fed", bytes(data)))
    scene.reader._wakeup_waiter = lambda: scene.notes.append("woken")


ACTS = {
    "nothing": lambda scene: None,
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
    "abort": lambda scene: scene.transport.abort(),
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
        self.scene.notes.append("woken")

    def set_exception(self, error):
        self.scene.notes.append(("woken", described(error)))


# Places


def pausing(scene):
    scene.connect()
    scene.reader._transport, scene.armed = Transport(scene, "pause_reading"), True
    scene.send(b"much more than the limit\n")


def pausing_by_hand(scene):
    scene.connect()
    scene.reader._transport, scene.armed = Transport(scene, "pause_reading"), True
    scene.attempt(scene.reader.feed_data, b"much more than the limit\n")


def pausing_what_cannot(scene):
    scene.connect()
    scene.reader._transport, scene.armed = Unpausable(scene), True
    scene.send(b"much more than the limit\n")


def resuming(scene, name, *args):
    scene.connect()
    scene.send(b"much\nmore than the limit\n")
    scene.reader._transport, scene.armed = Transport(scene, "resume_reading"), True
    scene.begin(getattr(scene.reader, name), *args)
    scene.turns()


def resuming_read(scene):
    resuming(scene, "read", 20)


def resuming_readexactly(scene):
    resuming(scene, "readexactly", 20)


def resuming_readline(scene):
    resuming(scene, "readline")
    scene.begin(scene.reader.readline)
    scene.turns()


def resuming_readuntil(scene):
    resuming(scene, "readuntil", b"t\n")


def resuming_while_it_waits(scene):
    resuming(scene, "readexactly", 50)


def resuming_after_a_line_that_is_too_long(scene):
    scene.connect()
    scene.send(b"much more than the limit\n")
    scene.reader._transport, scene.armed = Transport(scene, "resume_reading"), True
    scene.begin(scene.reader.readline)
    scene.turns()


def resuming_in_a_loop(scene):
    scene.connect()
    scene.send(b"much more than the limit\n")
    scene.reader._transport, scene.armed = Transport(scene, "resume_reading"), True
    scene.begin(scene.reader.__anext__)
    scene.turns()


def waiter_for_data(scene, cancelled=False):
    scene.connect()
    scene.reader._waiter, scene.armed = Waiter(scene, cancelled), True
    scene.send(b"some data\n")


def cancelled_waiter_for_data(scene):
    waiter_for_data(scene, True)


def waiter_for_much(scene):
    scene.connect()
    scene.reader._waiter, scene.armed = Waiter(scene), True
    scene.send(b"much more than the limit\n")


def waiter_for_the_end(scene):
    scene.connect()
    scene.reader._waiter, scene.armed = Waiter(scene), True
    scene.peer.shutdown(socket.SHUT_WR)
    scene.turns()


def waiter_for_the_end_by_hand(scene):
    scene.connect()
    scene.reader._waiter, scene.armed = Waiter(scene), True
    scene.attempt(scene.reader.feed_eof)


def waiter_when_it_is_lost(scene):
    scene.connect()
    scene.reader._waiter, scene.armed = Waiter(scene), True
    scene.transport.abort()
    scene.turns()


def waiter_when_it_breaks(scene):
    scene.connect()
    scene.reader._waiter, scene.armed = Waiter(scene), True
    scene.transport._force_close(ConnectionError("of the test"))
    scene.turns()


def future_of_the_loop(scene, name="readexactly", *args):
    """A loop whose create_future() was replaced."""
    create = scene.loop.create_future

    def create_future():
        scene.midway()
        return create()

    scene.connect()
    scene.loop.create_future = create_future
    scene.armed = True
    scene.begin(getattr(scene.reader, name), *(args or (10,)))
    scene.turns()
    scene.send(b"of ten bytes and more")
    del scene.loop.create_future


def future_of_the_loop_for_a_line(scene):
    future_of_the_loop(scene, "readuntil", b"n")


def draining_what_may_be_closing(scene):
    scene.connect()
    scene.writer._transport, scene.armed = Transport(scene, "is_closing"), True
    scene.begin(scene.writer.drain)
    scene.turns()
    scene.writer._transport = scene.transport


def writing(scene):
    scene.connect()
    scene.writer._transport, scene.armed = Transport(scene, "write"), True
    scene.attempt(scene.writer.write, b"text")
    scene.writer._transport = scene.transport


def closing(scene):
    scene.connect()
    scene.writer._transport, scene.armed = Transport(scene, "close"), True
    scene.attempt(scene.writer.close)
    scene.writer._transport = scene.transport


PLACES = [
    pausing,
    pausing_by_hand,
    pausing_what_cannot,
    resuming_read,
    resuming_readexactly,
    resuming_readline,
    resuming_readuntil,
    resuming_while_it_waits,
    resuming_after_a_line_that_is_too_long,
    resuming_in_a_loop,
    waiter_for_data,
    cancelled_waiter_for_data,
    waiter_for_much,
    waiter_for_the_end,
    waiter_for_the_end_by_hand,
    waiter_when_it_is_lost,
    waiter_when_it_breaks,
    future_of_the_loop,
    future_of_the_loop_for_a_line,
    draining_what_may_be_closing,
    writing,
    closing,
]


@pytest.fixture
def differences(loop_kind, loop_class):
    """differences(place, acts): what is noted otherwise than on asyncio, for each act."""
    if loop_kind == "asyncio":
        pytest.skip("it is what is compared with")

    def play(make_loop, place, act):
        loop = make_loop()
        asyncio.set_event_loop(loop)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                scene = Scene(loop, act)
                place(scene)
                return scene.end()
            finally:
                scene = None
                gc.collect(1)
                loop.close()
                asyncio.set_event_loop(None)

    def differences(place, acts):
        found = {}
        for act in acts:
            if (place.__name__, act) in ODD:
                continue
            asyncios, ours = [play(cls, place, act) for cls in (asyncio.SelectorEventLoop, loop_class)]
            if asyncios != ours:
                found[act] = asyncios, ours
        return found

    return differences


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of what was deleted
@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_as_asyncio(differences, place):
    assert differences(place, ACTS) == {}
