"""What a program does while a server, or a connection of it, is in the midst of something: in factories, in protocols' methods and
properties, in destructors, in exception handlers, in methods of sockets. All of it beside asyncio.
"""

import asyncio
import contextlib
import gc
import re
import socket
import warnings

import pytest


def described(error):
    if error is None:
        return None
    return type(error).__name__, re.sub(r"\bfd=\d+|\b0x[0-9a-f]+|<.*>|\d{4,}|'/.*'", "N", str(error))


class Recorder(asyncio.Protocol):
    """Notes what it is told, and calls the scene's hook of that name."""

    def __init__(self, scene, name):
        self.scene, self.name = scene, name

    def note(self, event, *args):
        self.scene.notes.append((event, self.name) + args)
        hook = self.scene.hooks.get(event)
        return hook() if hook else None

    def connection_made(self, transport):
        self.transport = transport
        self.scene.protocols.append(self)
        self.note("made")

    def data_received(self, data):
        self.note("data", bytes(data))

    def eof_received(self):
        self.note("eof")

    def connection_lost(self, error):
        self.note("lost", described(error))


class Scene:
    """A server, its clients, and what is noted."""

    def __init__(self, loop, stack, act, folder, kind):
        self.loop, self.stack, self.act, self.folder, self.kind = loop, stack, act, folder, kind
        self.notes, self.hooks, self.protocols, self.clients, self.tasks = [], {}, [], [], []
        self.armed, self.server, self.polled, self.made = False, None, [], 0
        loop.set_exception_handler(self.report)
        self.marker = [self.keep(sock) for sock in socket.socketpair()]
        loop.add_reader(self.marker[0], lambda: self.polled.append(self.marker[0].recv(1)))

    def report(self, loop, context):
        message = re.sub(r"Exception in callback .*", "Exception in callback", context["message"], flags=re.S)
        self.notes.append(("reported", message.split(":")[0], described(context.get("exception"))))
        hook = self.hooks.get("reported")
        return hook() if hook else None

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

    def factory(self):
        self.made += 1
        name = self.made
        hook = self.hooks.get("factory")
        self.notes.append(("factory", name))
        if hook:
            hook()
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
            self.notes.append(("refused", described(error)))
        self.clients.append(sock)
        return sock

    def start(self, coro):
        async def noted():
            try:
                self.notes.append(("returned", described_result(await coro)))
            except asyncio.CancelledError:
                self.notes.append("cancelled")
                raise
            except BaseException as error:
                self.notes.append(("raised", described(error)))

        self.tasks.append(self.loop.create_task(noted()))
        return self.tasks[-1]

    def midway(self):
        """Does what is to be done, once it is armed, and only once."""
        if self.armed:
            self.armed = False
            self.notes.append("midway")
            ACTS[self.act](self)

    def attempt(self, function, *args, **options):
        try:
            result = function(*args, **options)
        except Exception as error:
            result = described(error)
        self.notes.append(("returned", described_result(result)))

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
            self.notes.append(("heard", number, got, end))

    def end(self):
        """What is to be seen then; and the end of all."""
        self.settle()
        server = self.server
        self.notes.append(("serving", server.is_serving(), len(server.sockets)))
        for sock in self.clients:
            with contextlib.suppress(OSError):
                sock.send(b"later")
        self.settle()
        self.heard()
        for protocol in self.protocols:
            self.notes.append(("closing", protocol.name, protocol.transport.is_closing()))
        server.close()
        self.settle()
        self.start(server.wait_closed())
        self.settle()
        for protocol in self.protocols:
            protocol.transport.abort()
        self.settle()
        self.notes.append([task.done() for task in self.tasks])
        for task in self.tasks:
            task.cancel()
        self.settle()
        self.heard()
        self.loop.remove_reader(self.marker[0])
        return by_connection(self.notes)


def by_connection(notes):
    """The notes of each connection, and all others. cloop calls connection_made() a turn earlier, so the order of the connections'
    may be another.
    """
    found = {}
    for note in notes:
        of_connection = isinstance(note, tuple) and note[0] in ("factory", "made", "data", "eof", "lost")
        found.setdefault(note[1] if of_connection else None, []).append(note)
    return found


def described_result(result):
    return result if isinstance(result, (int, str, tuple, type(None))) else type(result).__name__.replace("Loop", "")


def raises(scene):
    raise LookupError("of the test")


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


def closes_the_listener(scene):
    scene.server.close()
    scene.attempt(lambda: scene.listener.fileno() < 0)


def collects(scene):
    gc.collect()


def writes(scene):
    for protocol in scene.protocols:
        protocol.transport.write(b"midway")


def leaves(scene):
    for sock in scene.clients:
        sock.close()


ACTS = {
    "nothing": lambda scene: None,
    "raise": raises,
    "close": of_server("close"),
    "close twice": lambda scene: (scene.server.close(), scene.server.close()),
    "close and wait": lambda scene: (scene.server.close(), scene.start(scene.server.wait_closed())),
    "wait": lambda scene: scene.start(scene.server.wait_closed()),
    "close_clients": of_server("close_clients"),
    "abort_clients": of_server("abort_clients"),
    "close all": lambda scene: (scene.server.close(), of_server("abort_clients")(scene)),
    "start_serving": lambda scene: scene.start(scene.server.start_serving()),
    "serve_forever": lambda scene: scene.start(scene.server.serve_forever()),
    "close and start_serving": lambda scene: (scene.server.close(), scene.start(scene.server.start_serving())),
    "another": serves_too,
    "client": lambda scene: scene.client(),
    "client and close": lambda scene: (scene.client(), scene.server.close()),
    "unwatch": stops_watching,
    "close listener": closes_the_listener,
    "transport close": transports("close"),
    "transport abort": transports("abort"),
    "write": writes,
    "clients leave": leaves,
    "collect": collects,
    "stop": lambda scene: scene.loop.stop(),
}
PLACES = []


def place(function):
    PLACES.append(function)
    return function


def at(event, clients=1, bytes=b"", leave=False):
    """A place in a hook: of the factory, a method of the protocol or the exception handler."""

    def run(scene):
        scene.hooks[event] = scene.midway
        scene.serve()
        scene.armed = True
        for _ in range(clients):
            scene.client().send(bytes)
        scene.settle()
        if leave:
            for sock in scene.clients:
                sock.close()
            scene.settle()

    return run


def place_at(name, *args, **options):
    run = at(*args, **options)
    run.__name__ = name
    PLACES.append(run)


place_at("factory", "factory")
place_at("connection_made", "made")
place_at("data_received", "data", bytes=b"some")
place_at("eof_received", "eof", leave=True)
place_at("connection_lost", "lost", leave=True)
place_at("connection_lost_of_the_first_of_three", "lost", clients=3, leave=True)


def failing_at(event):
    def run(scene):
        scene.hooks.update({event: lambda: raises(scene), "reported": scene.midway})
        scene.serve()
        scene.armed = True
        scene.client().send(b"some")
        scene.settle()

    run.__name__ = "handler_of_an_exception_in_" + event
    PLACES.append(run)


for event in "factory", "made", "data":
    failing_at(event)


@place
def property_connection_made(scene):
    class Asked(Recorder):
        @property
        def connection_made(self):
            scene.midway()
            return super().connection_made

    scene.serve(factory=lambda: Asked(scene, "asked"))
    scene.armed = True
    scene.client()
    scene.settle()


@place
def property_connection_lost(scene):
    class Asked(Recorder):
        @property
        def connection_lost(self):
            scene.midway()
            return super().connection_lost

    scene.serve(factory=lambda: Asked(scene, "asked"))
    scene.client()
    scene.settle()
    scene.armed = True
    scene.clients[0].close()
    scene.settle()


class Dying:
    def __init__(self, scene):
        self.scene = scene

    def __call__(self):
        return self.scene.factory()

    def __del__(self):
        self.scene.midway()


@place
def destructor_of_the_factory(scene):
    scene.serve(factory=Dying(scene))
    scene.client()
    scene.settle()
    scene.armed = True
    scene.server.close()
    scene.settle()
    scene.armed = False


@place
def destructor_of_the_protocol(scene):
    class Protocol(asyncio.Protocol):
        def connection_made(self, transport):
            scene.notes.append("made")

        def connection_lost(self, error):
            scene.notes.append("lost")

        def __del__(self):
            scene.midway()

    scene.serve(factory=Protocol)
    scene.client()
    scene.settle()
    scene.armed = True
    scene.clients[0].close()
    scene.settle()


@place
def listen(scene):
    class Listening(socket.socket):
        def listen(self, *args):
            scene.midway()
            super().listen(*args)

    scene.serve(scene.listening(Listening), start_serving=False)
    scene.armed = True
    scene.start(scene.server.start_serving())
    scene.settle()
    scene.client()
    scene.settle()


@place
def close_of_the_socket(scene):
    class Closing(socket.socket):
        def close(self):
            scene.midway()
            super().close()

    scene.serve(scene.listening(Closing))
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
    scene.midway()
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
                try:
                    place(scene)
                except LookupError as error:
                    scene.notes.append(("left", described(error)))
                return scene.end()
            finally:
                loop.close()

    def differences(place, kind):
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
@pytest.mark.parametrize(
    "place",
    [
        pytest.param(place, marks=[pytest.mark.unstressed("three ends of one poll")] * ("three" in place.__name__))
        for place in PLACES
    ],
    ids=lambda place: place.__name__,
)
def test_as_asyncio(differences, place, kind):
    assert differences(place, kind) == {}
