"""What a program does while a server, or a connection of it, is in the midst of something: in factories, in protocols' methods and
properties, in destructors, in exception handlers, in methods of sockets. All of it beside asyncio.
"""

import asyncio
import contextlib
import gc
import pathlib
import socket
import tempfile

import midway
import pytest
from midway import Dying, Places, SocketScene, acting, asked, both, described, filtering, for_each, nothing, raises


class Recorder(midway.Recorder):
    def connection_made(self, transport):
        self.scene.protocols.append(self)
        return super().connection_made(transport)


class Scene(SocketScene):
    """A server, and its clients."""

    def __init__(self, *args, kind):
        super().__init__(*args)
        self.kind, self.protocols, self.clients, self.server, self.made = kind, [], [], None, 0
        self.folder = pathlib.Path(self.stack.enter_context(tempfile.TemporaryDirectory()))

    def factory(self):
        self.made += 1
        name = self.made
        self.note("factory", name)
        self.hooks.get("factory", nothing)()
        return Recorder(self, name)

    def listening(self, cls=socket.socket):
        sock = self.stack.enter_context(cls(socket.AF_UNIX if self.kind == "unix" else socket.AF_INET))
        sock.bind(str(self.folder / ("s%d" % len(self.notes))) if self.kind == "unix" else ("127.0.0.1", 0))
        return sock

    def create(self, sock, factory=None, **options):
        method = self.loop.create_unix_server if self.kind == "unix" else self.loop.create_server
        return method(factory or self.factory, sock=sock, **options)

    def serve(self, sock=None, factory=None, **options):
        self.listener = sock or self.listening()
        self.server = self.loop.run_until_complete(self.create(self.listener, factory, **options))
        self.address = self.listener.getsockname()
        self.settle()

    def client(self):
        sock = self.keep(socket.socket(self.listener.family))
        try:
            sock.connect(self.address)
        except BlockingIOError:
            pass
        except OSError as error:
            self.note("refused", described(error))
        self.clients.append(sock)
        return sock

    def heard(self):
        """What each client has heard: bytes, and how it ended."""
        for number, sock in enumerate(self.clients):
            got, end = b"", None
            try:
                while end is None:
                    data = sock.recv(1000)
                    got += data
                    end = None if data else "eof"
            except BlockingIOError:
                end = "open"
            except OSError as error:
                end = described(error)
            self.note("heard", number, got, end)

    def end(self):
        """What is to be seen then; and the end of all."""
        self.settle()
        server = self.server
        self.note("serving", server.is_serving(), len(server.sockets))
        for sock in self.clients:
            with contextlib.suppress(OSError):
                sock.send(b"later")
        self.settle()
        self.heard()
        for protocol in self.protocols:
            self.note("closing", protocol.name, protocol.transport.is_closing())
        server.close()
        self.settle()
        self.start(server.wait_closed())
        self.settle()
        for protocol in self.protocols:
            protocol.transport.abort()
        self.settle()
        self.note("done", [task.done() for task in self.tasks])
        for task in self.tasks:
            task.cancel()
        self.settle()
        self.heard()
        return by_connection(self.notes)


def by_connection(notes):
    """The notes of each connection, and all others. cloop calls connection_made() a turn earlier, so the order of the connections'
    may be another.
    """
    found = {}
    for note in notes:
        of_connection = note[0] in ("factory", "made", "data", "eof", "pause", "resume", "lost")
        found.setdefault(note[1] if of_connection else None, []).append(note)
    return found


def transports(method):
    def act(scene):
        for protocol in list(scene.protocols):
            getattr(protocol.transport, method)()

    return act


def of_server(method):
    """A method that is not on all Pythons."""
    return lambda scene: scene.attempt(getattr(scene.server, method, lambda: None))


def serves_too(scene):
    scene.start(scene.create(scene.listening()))


def stops_watching(scene):
    scene.attempt(scene.loop.remove_reader, scene.listener.fileno())


def waits(scene):
    scene.start(scene.server.wait_closed())


def starts(scene):
    scene.start(scene.server.start_serving())


def closes_the_listener(scene):
    scene.server.close()
    scene.attempt(lambda: scene.listener.fileno() < 0)


def writes(scene):
    for protocol in scene.protocols:
        protocol.transport.write(b"midway")


def leave(scene):
    for sock in scene.clients:
        sock.close()


closes = of_server("close")
ACTS = {
    "nothing": nothing,
    "raise": raises,
    "close": closes,
    "close twice": both(closes, closes),
    "close and wait": both(closes, waits),
    "wait": waits,
    "close_clients": of_server("close_clients"),
    "abort_clients": of_server("abort_clients"),
    "close all": both(closes, of_server("abort_clients")),
    "start_serving": starts,
    "serve_forever": lambda scene: scene.start(scene.server.serve_forever()),
    "close and start_serving": both(closes, starts),
    "another": serves_too,
    "client": lambda scene: scene.client(),
    "client and close": both(lambda scene: scene.client(), closes),
    "unwatch": stops_watching,
    "close listener": closes_the_listener,
    "transport close": transports("close"),
    "transport abort": transports("abort"),
    "write": writes,
    "clients leave": leave,
    "collect": lambda scene: gc.collect(),
    "stop": lambda scene: scene.loop.stop(),
}
place = Places()


def at(name, event, clients=1, data=b"", leaving=False):
    """A place in a hook: of the factory, or of a method of the protocol."""

    @place.named(name)
    def run(scene):
        scene.hooks[event] = scene.midway
        scene.serve()
        scene.armed = True
        for _ in range(clients):
            scene.client().send(data)
        scene.settle()
        if leaving:
            leave(scene)
            scene.settle()


at("factory", "factory")
at("connection_made", "made")
at("data_received", "data", data=b"some")
at("eof_received", "eof", leaving=True)
at("connection_lost", "lost", leaving=True)
at("connection_lost_of_the_first_of_three", "lost", clients=3, leaving=True)


def failing_at(event):
    @place.named("handler_of_an_exception_in_" + event)
    def run(scene):
        scene.hooks.update({event: raises, "reported": scene.midway})
        scene.serve()
        scene.loop.set_debug(event == "factory")  # else nobody is told
        scene.loop.slow_callback_duration = 1000
        scene.armed = True
        scene.client().send(b"some")
        with filtering(nothing):  # asyncio's connection goes with the exception, which the log would keep
            scene.settle()
        gc.collect()


for event in "factory", "made", "data":
    failing_at(event)


@place
def property_connection_made(scene):
    scene.serve(factory=lambda: asked(Recorder, "connection_made")(scene, "asked"))
    scene.armed = True
    scene.client()
    scene.settle()


@place
def property_connection_lost(scene):
    scene.serve(factory=lambda: asked(Recorder, "connection_lost")(scene, "asked"))
    scene.client()
    scene.settle()
    scene.armed = True
    scene.clients[0].close()
    scene.settle()


class DyingFactory(Dying):
    def __call__(self):
        return self.scene.factory()


@place
def destructor_of_the_factory(scene):
    """Of another server, which is closed and freed."""
    scene.serve()
    scene.client()
    scene.settle()
    other = scene.loop.run_until_complete(scene.create(scene.listening(), DyingFactory(scene)))
    scene.settle()
    scene.armed = True
    other.close()
    del other
    scene.settle()
    gc.collect()
    scene.settle()
    scene.armed = False


@place
def destructor_of_the_protocol(scene):
    class Protocol(Dying, asyncio.Protocol):
        def connection_made(self, transport):
            scene.note("made", None)

        def connection_lost(self, error):
            scene.note("lost", None)

    scene.serve(factory=lambda: Protocol(scene))
    scene.client()
    scene.settle()
    scene.armed = True
    scene.clients[0].close()
    scene.settle()


@place
def listen(scene):
    scene.serve(scene.listening(acting(scene, socket.socket, "listen")), start_serving=False)
    scene.armed = True
    scene.start(scene.server.start_serving())
    scene.settle()
    scene.client()
    scene.settle()


@place
def close_of_the_socket(scene):
    scene.serve(scene.listening(acting(scene, socket.socket, "close")))
    scene.client()
    scene.settle()
    scene.armed = True
    scene.attempt(scene.server.close)
    scene.settle()


@place
def callback_beside_connections(scene):
    scene.serve()
    for _ in range(2):
        scene.client()
    scene.settle()
    scene.armed = True
    scene.loop.call_soon(scene.midway)
    scene.settle()


@place
def while_serve_forever(scene):
    scene.serve()
    task = scene.start(scene.server.serve_forever())
    scene.client()
    scene.settle()
    scene.armed = True
    scene.loop.call_soon(scene.midway)
    scene.settle()
    task.cancel()
    scene.settle()


@place
def when_waiting_ends(scene):
    scene.serve()
    scene.client()
    scene.settle()
    waiting = scene.start(scene.server.wait_closed())
    waiting.add_done_callback(lambda task: scene.midway())
    scene.armed = True
    scene.server.close()
    scene.settle()
    scene.protocols[0].transport.close()
    scene.settle()


@place
def inside_of_the_block(scene):
    scene.serve()
    scene.client()
    scene.settle()

    async def block():
        async with scene.server:
            scene.midway()

    scene.armed = True
    scene.start(block())
    scene.settle()


@place
def before_it_serves(scene):
    scene.serve(start_serving=False)
    scene.armed = True
    scene.attempt(scene.midway)
    scene.settle()


@place
def after_it_was_closed(scene):
    scene.serve()
    scene.client()
    scene.settle()
    scene.server.close()
    scene.armed = True
    scene.loop.call_soon(scene.midway)
    scene.settle()


# Where asyncio leaves the connection open, though nobody has it.
CLOSING = (
    "close",
    "close twice",
    "close and wait",
    "close all",
    "close and start_serving",
    "client and close",
    "close listener",
)
ASYNCIOS = {("property_connection_made", "raise")} | {("factory", act) for act in CLOSING}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of destructors
@pytest.mark.parametrize("kind", ["tcp", "unix"])
@for_each(place, connection_lost_of_the_first_of_three=pytest.mark.unstressed("three ends of one poll"))
def test_as_asyncio(differences, place, kind):
    assert differences(Scene.plays(place, ACTS, ASYNCIOS, kind=kind)) == {}
