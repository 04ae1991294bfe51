"""What a program does while a datagram endpoint is in the midst of something: in the protocol's methods and properties, in the
exception handler, in arguments, while datagrams wait. All of it beside asyncio.
"""

import contextlib
import pathlib
import socket
import sys
import tempfile

import pytest
from midway import Places, Recorder, SocketScene, asked, both, nothing, of_transport, raises


class Scene(SocketScene):
    """An endpoint, and its peer."""

    unnoted = ("'NoneType' object has no attribute",)  # asyncio's, which calls connection_lost() twice

    def __init__(self, *args, kind):
        super().__init__(*args)
        self.folder = pathlib.Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        self.family = socket.AF_UNIX if kind.startswith("unix") else socket.AF_INET
        self.connected = kind.endswith("connected")

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

    def heard(self):
        got, quiet = [], 0
        while quiet < 2:
            try:
                got.append(self.peer.recv(1 << 20))
                quiet = 0
            except OSError:
                quiet += 1
                self.settle()
        self.note("heard", [data for data in got if len(data) < 1000], len(got))

    def end(self):
        """What is to be seen then; and the end of the endpoint."""
        self.settle()
        self.hear(b"later")
        self.note("closing", self.transport.is_closing())
        self.heard()
        with contextlib.suppress(AttributeError):  # asyncio's, which is lost already
            self.transport.abort()
        self.settle()
        return self.notes


def sends(data, *address):
    def act(scene):
        if not getattr(scene.transport, "_loop", scene.loop):
            return  # asyncio's fails then
        scene.attempt(scene.transport.sendto, data, *(address or [scene.to]))

    return act


ACTS = {
    "nothing": nothing,
    "raise": raises,
    "close": of_transport("close"),
    "abort": of_transport("abort"),
    "close and abort": both(of_transport("close"), of_transport("abort")),
    "send": sends(b"midway"),
    "send and close": both(sends(b"midway"), of_transport("close")),
    "close and send": both(of_transport("close"), sends(b"midway")),
    "abort and send": both(of_transport("abort"), sends(b"midway")),
    "send to nobody": sends(b"midway", "no such file"),
    "send no bytes": sends("text"),
    "send to no address": sends(b"midway", 5),
    "peer closes": lambda scene: scene.peer.close(),
    "another protocol": lambda scene: scene.transport.set_protocol(Recorder(scene, "second")),
    "limits": of_transport("set_write_buffer_limits", 0),
    "fail": lambda scene: scene.transport._force_close(LookupError("of the test")),
    "stop": lambda scene: scene.loop.stop(),
    "connect": lambda scene: scene.ours.connect(scene.peer.getsockname()),
}
if sys.version_info >= (3, 13):  # before, asyncio sends none
    ACTS["send nothing"] = sends(b"")
place = Places()


def at(name, event, *data, fails=None):
    """A place in a hook, when these datagrams have come."""

    @place.named(name)
    def run(scene):
        scene.hooks[event] = scene.midway
        if fails:
            scene.hooks[fails] = raises
        scene.armed = True
        scene.begin()
        scene.hear(*data)


at("connection_made", "made", b"one")
at("datagram_received", "datagram", b"one")
at("datagram_received_of_the_first_of_three", "datagram", b"one", b"two", b"three")
at("handler_of_an_exception_in_datagram_received", "reported", b"one", b"two", fails="datagram")
at("handler_of_an_exception_in_connection_made", "reported", b"one", fails="made")


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
    @place.named("property_" + name)
    def run(scene):
        scene.begin(lambda: asked(Recorder, name)(scene))
        scene.armed = True
        scene.hear(b"one")
        scene.hear(b"two")
        sends(bytes(1 << 22))(scene)
        scene.settle()
        scene.transport.close()
        scene.settle()


for name in "datagram_received", "error_received", "connection_lost":
    property_of(name)

WAITING = "pause_writing", "resume_writing", "while_something_waits"
# Where asyncio calls connection_lost() twice, the first time without the error.
ASYNCIOS = {("resume_writing", "fail"), ("resume_writing", "send to no address")}


UDP, UNIX = ["udp", "udp connected"], ["unix", "unix connected"]
# Only to a Unix socket something waits.
CASES = [(each, kind) for each in place for kind in UDP * (each.__name__ not in WAITING) + UNIX]


@pytest.mark.parametrize("place, kind", CASES, ids=lambda each: getattr(each, "__name__", each))
def test_as_asyncio(differences, place, kind):
    if (3, 12) <= sys.version_info < (3, 14) and kind.startswith("unix") and place.__name__ in WAITING:
        pytest.skip("the size of asyncio's buffer never goes down to 0 there")
    assert differences(Scene.plays(place, ACTS, ASYNCIOS, kind=kind)) == {}
