"""What a program does while a datagram endpoint is in the midst of something: in the protocol's methods and properties, in the
exception handler, in arguments, while datagrams wait. All of it beside asyncio.
"""

import asyncio
import contextlib
import re
import socket
import sys
import warnings

import pytest


def described(error):
    if error is None:
        return None
    return type(error).__name__, re.sub(r"\bfd=\d+|\b0x[0-9a-f]+|<.*>|'/.*'", "N", str(error))


class Recorder(asyncio.DatagramProtocol):
    """Notes what it is told, and calls the scene's hook of that name."""

    def __init__(self, scene, name="first"):
        self.scene, self.name = scene, name

    def note(self, event, *args):
        self.scene.notes.append((event, self.name) + args)
        hook = self.scene.hooks.get(event)
        return hook() if hook else None

    def connection_made(self, transport):
        self.scene.transport = transport
        self.note("made")

    def datagram_received(self, data, address):
        self.note("data", bytes(data))

    def error_received(self, error):
        self.note("error", described(error))

    def connection_lost(self, error):
        self.note("lost", described(error))

    def pause_writing(self):
        self.note("pause")

    def resume_writing(self):
        self.note("resume")


class Scene:
    """An endpoint, its peer, and what is noted."""

    def __init__(self, loop, stack, act, folder, kind):
        self.loop, self.stack, self.act, self.folder = loop, stack, act, folder
        self.family = socket.AF_UNIX if kind.startswith("unix") else socket.AF_INET
        self.connected = kind.endswith("connected")
        self.notes, self.hooks, self.polled = [], {}, []
        self.armed, self.transport = False, None
        loop.set_exception_handler(self.report)
        self.marker = [self.keep(sock) for sock in socket.socketpair()]
        loop.add_reader(self.marker[0], lambda: self.polled.append(self.marker[0].recv(1)))

    def report(self, loop, context):
        message = re.sub(r"Exception in callback .*", "Exception in callback", context["message"], flags=re.S)
        error = described(context.get("exception"))
        if error and "'NoneType' object has no attribute" in error[1]:
            return  # asyncio's, which calls connection_lost() twice
        self.notes.append(("reported", message.split(":")[0], error))
        hook = self.hooks.get("reported")
        if hook:
            hook()

    def keep(self, sock):
        sock.setblocking(False)
        return self.stack.enter_context(sock)

    def turn(self):
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()

    def settle(self):
        quiet = 0
        while quiet < 3:
            seen, polled = len(self.notes), len(self.polled)
            self.marker[1].send(b"!")
            while len(self.polled) == polled:
                self.turn()
            self.turn()
            quiet = quiet + 1 if len(self.notes) == seen else 0

    def bound(self, name):
        sock = self.keep(socket.socket(self.family, socket.SOCK_DGRAM))
        sock.bind(str(self.folder / name) if self.family == socket.AF_UNIX else ("127.0.0.1", 0))
        return sock

    def begin(self, factory=None):
        self.peer, self.ours = self.bound("peer"), self.bound("ours")
        if self.connected:
            self.ours.connect(self.peer.getsockname())
        self.address = self.ours.getsockname()
        self.to = None if self.connected else self.peer.getsockname()
        made = self.loop.create_datagram_endpoint(factory or (lambda: Recorder(self)), sock=self.ours)
        task = self.loop.create_task(made)
        while not task.done():  # an act may stop the loop
            self.turn()
        self.settle()

    def hear(self, *data):
        for each in data:
            with contextlib.suppress(OSError):  # it may be closed
                self.peer.sendto(each, self.address)
        self.settle()

    def clog(self):
        """Sends until something waits, which a Unix socket sees to."""
        for _ in range(3000 if self.family == socket.AF_UNIX else 10):
            if self.transport.is_closing() or self.transport.get_write_buffer_size():
                return
            self.transport.sendto(bytes(1000), self.to)

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

    def heard(self):
        got, quiet = [], 0
        while quiet < 2:
            try:
                got.append(self.peer.recv(1 << 20))
                quiet = 0
            except OSError:
                quiet += 1
                self.settle()
        self.notes.append(("heard", [data for data in got if len(data) < 1000], len(got)))

    def end(self):
        """What is to be seen then; and the end of the endpoint."""
        self.settle()
        self.hear(b"later")
        self.notes.append(("closing", self.transport.is_closing()))
        self.heard()
        with contextlib.suppress(AttributeError):  # asyncio's, which is lost already
            self.transport.abort()
        self.settle()
        self.loop.remove_reader(self.marker[0])
        return self.notes


def raises(scene):
    raise LookupError("of the test")


def of_transport(*names):
    return lambda scene: [getattr(scene.transport, name)() for name in names]


def sends(data, *address):
    def act(scene):
        if not getattr(scene.transport, "_loop", scene.loop):
            return  # asyncio's fails then
        scene.attempt(scene.transport.sendto, data, *(address or [scene.to]))

    return act


def both(*acts):
    return lambda scene: [act(scene) for act in acts]


ACTS = {
    "nothing": lambda scene: None,
    "raise": raises,
    "close": of_transport("close"),
    "abort": of_transport("abort"),
    "close and abort": of_transport("close", "abort"),
    "send": sends(b"midway"),
    "send and close": both(sends(b"midway"), of_transport("close")),
    "close and send": both(of_transport("close"), sends(b"midway")),
    "abort and send": both(of_transport("abort"), sends(b"midway")),
    "send to nobody": sends(b"midway", "no such file"),
    "send no bytes": sends("text"),
    "send to no address": sends(b"midway", 5),
    "peer closes": lambda scene: scene.peer.close(),
    "another protocol": lambda scene: scene.transport.set_protocol(Recorder(scene, "second")),
    "limits": lambda scene: scene.transport.set_write_buffer_limits(0),
    "fail": lambda scene: scene.transport._force_close(LookupError("of the test")),
    "stop": lambda scene: scene.loop.stop(),
    "connect": lambda scene: scene.ours.connect(scene.peer.getsockname()),
}
if sys.version_info >= (3, 13):  # before, asyncio sends none
    ACTS["send nothing"] = sends(b"")
PLACES = []


def at(name, event, *data, fails=None):
    """A place in a hook, when these datagrams have come."""

    def run(scene):
        scene.hooks[event] = scene.midway
        if fails:
            scene.hooks[fails] = lambda: raises(scene)
        scene.armed = True
        scene.begin()
        scene.hear(*data)

    run.__name__ = name
    PLACES.append(run)


at("connection_made", "made", b"one")
at("datagram_received", "data", b"one")
at("datagram_received_of_the_first_of_three", "data", b"one", b"two", b"three")
at("handler_of_an_exception_in_datagram_received", "reported", b"one", b"two", fails="data")
at("handler_of_an_exception_in_connection_made", "reported", b"one", fails="made")


def place(function):
    PLACES.append(function)
    return function


@place
def connection_lost(scene):
    scene.begin()
    scene.hooks["lost"], scene.armed = scene.midway, True
    scene.transport.close()
    scene.settle()


@place
def error_received(scene):
    scene.begin()
    scene.hooks["error"], scene.armed = scene.midway, True
    sends(bytes(1 << 22))(scene)
    scene.settle()


@place
def pause_writing(scene):
    scene.begin()
    scene.transport.set_write_buffer_limits(0)
    scene.hooks["pause"], scene.armed = scene.midway, True
    scene.clog()
    scene.settle()


@place
def resume_writing(scene):
    scene.begin()
    scene.transport.set_write_buffer_limits(0)
    scene.clog()
    scene.hooks["resume"], scene.armed = scene.midway, True
    scene.heard()


@place
def while_something_waits(scene):
    scene.begin()
    scene.clog()
    scene.armed = True
    scene.loop.call_soon(scene.midway)
    scene.settle()


@place
def while_nothing_waits(scene):
    scene.begin()
    scene.armed = True
    scene.loop.call_soon(scene.midway)
    scene.settle()


def property_of(name):
    def getter(self):
        self.scene.midway()
        return getattr(super(Asked, self), name)

    Asked = type("Asked", (Recorder,), {name: property(getter)})

    def run(scene):
        scene.begin(lambda: Asked(scene))
        scene.armed = True
        scene.hear(b"one")
        scene.hear(b"two")
        sends(bytes(1 << 22))(scene)
        scene.settle()
        scene.transport.close()
        scene.settle()

    run.__name__ = "property_" + name
    PLACES.append(run)


for name in "datagram_received", "error_received", "connection_lost":
    property_of(name)

WAITING = "pause_writing", "resume_writing", "while_something_waits"
# Where asyncio calls connection_lost() twice, the first time without the error.
ASYNCIOS = {("resume_writing", "fail"), ("resume_writing", "send to no address")}


@pytest.fixture
def differences(loop_kind, loop_class, tmp_path):
    """differences(place, kind): what is noted otherwise than on asyncio, for each act."""
    if loop_kind == "asyncio":
        pytest.skip("it is what is compared with")

    def play(make_loop, place, act, folder, kind):
        loop = make_loop()
        with warnings.catch_warnings(), contextlib.ExitStack() as stack:
            warnings.simplefilter("ignore")
            try:
                scene = Scene(loop, stack, act, folder, kind)
                place(scene)
                return scene.end()
            finally:
                loop.close()

    def differences(place, kind):
        if (3, 12) <= sys.version_info < (3, 14) and kind.startswith("unix") and place.__name__ in WAITING:
            pytest.skip("the size of asyncio's buffer never goes down to 0 there")
        found = {}
        for number, act in enumerate(ACTS):
            if (place.__name__, act) in ASYNCIOS:
                continue
            notes = []
            for cls in asyncio.SelectorEventLoop, loop_class:
                folder = tmp_path / ("%d%s" % (number, cls.__module__[:5]))
                folder.mkdir()
                notes.append(play(cls, place, act, folder, kind))
            if notes[0] != notes[1]:
                found[act] = tuple(notes)
        return found

    return differences


@pytest.mark.parametrize("kind", ["udp", "udp connected", "unix", "unix connected"])
@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_as_asyncio(differences, place, kind):
    assert differences(place, kind) == {}
