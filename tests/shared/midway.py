"""What the tests with a matrix share: what a program does in each place where it is called while the loop, or what it has made,
is in the midst of something.

A place is a function that is called with a scene. It makes what it needs and arms the scene; scene.midway() is called in the
Python code that it is about. There the scene's act is done, once: a function that is called with the scene, too. What comes of it
is noted, and compared with what is noted on asyncio:

    assert differences(Scene.plays(place, ACTS)) == {}
"""

import asyncio
import contextlib
import gc
import logging
import re
import socket
import sys
import warnings

import pytest

MUCH = bytes(1 << 22)  # more than a socket takes
where_asyncio_is_known = pytest.mark.skipif(
    sys.version_info[:2] not in ((3, 11), (3, 14)), reason="asyncio has other faults of its own there"
)

# What is compared

# Descriptors, processes, addresses in memory, objects, paths, ports, the module of a class.
VARYING = re.compile(
    r"\bfd=\d+|\bpid \d+|\b0x[0-9a-f]+|<.*>|'/.*'|\('127\.0\.0\.1', \d+\)|(?<=')[\w.]+\.(?=\w+' object)", re.S
)


def described(value):
    """What can be compared of a result or an exception."""
    if isinstance(value, BaseException):
        return type(value).__name__, VARYING.sub("N", str(value))
    if isinstance(value, (list, tuple)):
        return [described(each) for each in value]
    return value if isinstance(value, (int, str, bytes, type(None))) else type(value).__name__


def kind(value, depth=3):
    """Of an exception also what it came from; of an object what it shows of itself."""
    if isinstance(value, BaseException):
        seen = described(value)
        if depth and (value.__context__ or value.__cause__):
            seen += kind(value.__context__, depth - 1), value.__cause__ is value.__context__
        return seen
    if isinstance(value, (list, tuple)):
        return [kind(each, depth) for each in value]
    if isinstance(value, (set, frozenset)):
        return len(value)
    if asyncio.isfuture(value):
        return "task" if isinstance(value, asyncio.Task) else "future"
    if isinstance(value, asyncio.Handle):
        return "timer" if isinstance(value, asyncio.TimerHandle) else "handle"
    return repr(value).partition(" at 0x")[0]


def message_of(context):
    """That of a report, without the name of the callback."""
    message = context["message"]
    return "Exception in callback" if message.startswith("Exception in callback") else VARYING.sub("N", message)


def joined(notes):
    """The notes, with data that came in several pieces as one."""
    found = []
    for note in notes:
        if note[0] == "data" and found and found[-1][:2] == note[:2]:
            note = note[:2] + (found.pop()[2] + note[2],)
        found.append(note)
    return found


# Around a scene


@contextlib.contextmanager
def quiet(loop):
    """Nobody is warned of coroutines that are not awaited, nor of transports that are not closed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
        gc.collect()


@contextlib.contextmanager
def steady(loop):
    """Nothing is freed at another time, and nobody is told of exceptions in destructors."""
    hook, sys.unraisablehook = sys.unraisablehook, nothing
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        sys.unraisablehook = hook


@contextlib.contextmanager
def current(loop):
    """The loop is the thread's, for what asks for it while it does not run."""
    asyncio.set_event_loop(loop)
    try:
        yield
    finally:
        asyncio.set_event_loop(None)


# Scenes


class Scene:
    """A loop, and what is noted. A subclass has end(), which notes what is to be seen then, ends all, and returns the notes."""

    around = (quiet,)
    caught = Exception  # by attempt()
    describe = staticmethod(described)
    unnoted = ()  # reports with one of these in their text
    transport = None

    def __init__(self, loop, stack, act, does):
        self.loop, self.stack, self.act, self.does = loop, stack, act, does
        self.notes, self.hooks, self.tasks, self.armed, self.acted = [], {}, [], False, 0
        loop.set_exception_handler(self.report)

    @classmethod
    def plays(cls, place, acts, but=(), idle=None, **options):
        """For the fixture `differences`: plays the place with each act on a loop of a class; `but` has pairs that are left out.

        Some act must have been done on one of the loops, or the place tests nothing. `idle` says why none is done, if so.
        """
        done = set()

        def play(make_loop):
            return {
                act: cls.play(make_loop(), place, act, does, done, **options)
                for act, does in acts.items()
                if (place.__name__, act) not in but
            }

        def check():
            assert done or idle, "no act is done midway"
            assert not (done and idle), "acts are done, though %s: %s" % (idle, sorted(done))

        play.check = check
        return play

    @classmethod
    def play(cls, loop, place, act, does, done, **options):
        """What is noted. The act's name is added to `done` if it was done."""
        with contextlib.ExitStack() as around:
            for context in cls.around:
                around.enter_context(context(loop))
            try:
                with contextlib.ExitStack() as stack:
                    scene = cls(loop, stack, act, does, **options)
                    try:
                        return scene.perform(place)
                    finally:
                        done |= {act} if scene.acted else set()
            finally:
                loop.set_exception_handler(nothing)
                if not loop.is_running():
                    loop.close()

    def perform(self, place):
        try:
            place(self)
            return self.end()
        finally:
            self.armed = False

    def midway(self):
        """Does what is to be done, once it is armed, and only once."""
        if self.armed:
            self.armed = False
            self.note("midway")
            self.acted += 1
            self.does(self)

    # What is noted

    def note(self, *note):
        self.notes.append(note)

    def attempt(self, function, *args, **options):
        try:
            result = function(*args, **options)
        except self.caught as error:
            result = error
        self.note("returned", self.describe(result))

    def start(self, coro, name="ended"):
        """A task, whose end is noted."""

        async def noted():
            try:
                self.note(name, self.describe(await coro))
            except asyncio.CancelledError:
                self.note(name, "cancelled")
                raise
            except Exception as error:
                self.note(name, self.describe(error))

        self.tasks.append(self.loop.create_task(noted()))
        return self.tasks[-1]

    def report(self, loop, context):
        """The loop's exception handler."""
        text = "%s %s" % (context["message"], context.get("exception"))
        if not any(each in text for each in self.unnoted):
            self.note("reported", *self.reported(context))
            self.hooks.get("reported", nothing)()

    def reported(self, context):
        return message_of(context), self.describe(context.get("exception"))

    # Turns and sockets

    def turn(self):
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()

    def turns(self, count=4):
        for _ in range(count):
            self.turn()

    def keep(self, sock):
        sock.setblocking(False)
        return self.stack.enter_context(sock)

    def pair(self, *args):
        return [self.keep(sock) for sock in socket.socketpair(*args)]


FREED = "never retrieved", "destroyed"  # reports that depend on when objects are freed


class AbruptScene(Scene):
    """One in which all may end with any exception."""

    around = steady, quiet
    caught = BaseException
    describe = staticmethod(kind)
    unnoted = FREED

    def perform(self, place):
        return super().perform(lambda scene: scene.attempt(place, scene))

    def turns(self, count=4):
        for _ in range(count):
            if self.loop.is_closed():
                return self.note("closed")
            try:
                self.turn()
            except BaseException as error:
                self.note("left", kind(error))

    def reported(self, context):
        return super().reported(context) + (sys.exc_info()[0] is not None, "handle" in context)


class SocketScene(Scene):
    """One in which bytes arrive, so that turns need a poll between them."""

    def __init__(self, *args):
        super().__init__(*args)
        self.polled, self.marker = [], self.pair()
        self.loop.add_reader(self.marker[0], lambda: self.polled.append(self.marker[0].recv(1)))
        self.stack.callback(self.loop.remove_reader, self.marker[0])

    def settle(self):
        """Runs the loop until nothing more is noted."""
        still = 0
        while still < 3:
            seen, polled = len(self.notes), len(self.polled)
            self.marker[1].send(b"!")
            while len(self.polled) == polled:
                self.turn()
            self.turn()
            still = still + 1 if len(self.notes) == seen else 0


# What scenes are made of


class Places(list):
    """Places, which it adds as a decorator."""

    def __call__(self, place):
        self.append(place)
        return place

    def named(self, name):
        """Of a place that is made by a function."""

        def add(place):
            place.__name__ = name
            return self(place)

        return add


def for_each(places, **marks):
    """Makes a test of each place, with a mark if there is one of its name."""
    return pytest.mark.parametrize(
        "place",
        [pytest.param(place, id=place.__name__, marks=marks.get(place.__name__, ())) for place in places],
    )


def nothing(*args):
    pass


def raises(*args):
    raise LookupError("of the test")


def raising(make):
    """An act or a hook that raises what make() returns."""

    def act(*args):
        raise make()

    return act


def attempting(function):
    return lambda scene: scene.attempt(function, scene)


def both(*acts):
    return lambda scene: [act(scene) for act in acts]


def of_transport(name, *args):
    return lambda scene: getattr(scene.transport, name)(*args)


# Acts of more than one matrix
RAISING = {
    "raise": raising(lambda: LookupError("midway")),
    "raise cancelled": raising(lambda: asyncio.CancelledError("midway")),
    "exit": raising(lambda: SystemExit("midway")),
    "interrupt": raising(lambda: KeyboardInterrupt("midway")),
    "end": raising(lambda: GeneratorExit("midway")),
    "base": raising(lambda: BaseException("midway")),
    "attribute": raising(lambda: AttributeError("midway")),
}
OF_ANY_TRANSPORT = {
    "nothing": nothing,
    "raise": raises,
    "close": of_transport("close"),
    "abort": of_transport("abort"),
    "close and abort": both(of_transport("close"), of_transport("abort")),
    "pause": of_transport("pause_reading"),
    "pause and resume": both(of_transport("pause_reading"), of_transport("resume_reading")),
    "write": of_transport("write", b"midway"),
}


class Recorder(asyncio.Protocol, asyncio.DatagramProtocol):
    """Notes what it is told. Then a hook of that name is called, its own or the scene's, and its result returned."""

    def __init__(self, scene, name="first", **hooks):
        self.scene, self.name, self.hooks = scene, name, hooks or scene.hooks

    def note(self, event, *args):
        self.scene.note(event, self.name, *args)
        return self.hooks.get(event, nothing)()

    def connection_made(self, transport):
        self.transport = self.scene.transport = transport
        return self.note("made")

    def data_received(self, data):
        assert type(data) is bytes
        return self.note("data", data)

    def eof_received(self):
        return self.note("eof")

    def pause_writing(self):
        return self.note("pause")

    def resume_writing(self):
        return self.note("resume")

    def connection_lost(self, error):
        return self.note("lost", self.scene.describe(error))

    def datagram_received(self, data, address):
        assert type(data) is bytes
        return self.note("datagram", data)

    def error_received(self, error):
        return self.note("error", self.scene.describe(error))


class Buffered(Recorder, asyncio.BufferedProtocol):
    """The hook get_buffer is called with the buffer, and returns the one to be used."""

    def get_buffer(self, hint):
        self.buffer = bytearray(100)
        if "get_buffer" in self.hooks:
            self.buffer = self.hooks["get_buffer"](self.buffer)
        return self.buffer

    def buffer_updated(self, count):
        return self.note("data", bytes(memoryview(self.buffer)[:count]))


def asked(cls, name):
    """A class of protocols of which this method is asked for midway."""

    def getter(self):
        self.scene.midway()
        return getattr(super(Asked, self), name)

    Asked = type("Asked", (cls,), {name: property(getter)})
    return Asked


def acting(scene, cls, name):
    """A subclass whose method of this name is called midway."""

    def method(self, *args):
        scene.midway()
        return getattr(cls, name)(self, *args)

    return type("Acting", (cls,), {"__hash__": cls.__hash__, name: method})


@contextlib.contextmanager
def calling(scene, name):
    """The loop's method of this name is called midway."""

    def replacement(*args, **options):
        scene.midway()
        return original(*args, **options)

    original = getattr(scene.loop, name)
    setattr(scene.loop, name, replacement)
    try:
        yield
    finally:
        delattr(scene.loop, name)


class Truth:
    """Its truth is asked for midway."""

    def __init__(self, scene, value):
        self.scene, self.value = scene, value

    def __bool__(self):
        self.scene.midway()
        return self.value


class Shown:
    """It is shown midway."""

    def __init__(self, scene):
        self.scene = scene

    def __repr__(self):
        self.scene.midway()
        return "shown"


class Dying:
    """It is destroyed midway."""

    def __init__(self, scene):
        self.scene = scene

    def __del__(self):
        self.scene.midway()


def lines(scene):
    """Of which the second is asked for midway."""
    yield b"one"
    scene.midway()
    yield b"two"


@contextlib.contextmanager
def filtering(look):
    """Calls look(record) of all that asyncio logs, and drops it if that is false."""
    logger = logging.getLogger("asyncio")
    logger.addFilter(look)
    try:
        yield
    finally:
        logger.removeFilter(look)


@contextlib.contextmanager
def in_log(scene, text):
    """The log's filter is called midway, of a record with this text."""

    def look(record):
        if text in record.msg:
            scene.midway()
        return False

    logger = logging.getLogger("asyncio")
    before = logger.level
    scene.loop.set_debug(True)
    scene.loop.slow_callback_duration = 100
    logger.setLevel(logging.DEBUG)
    scene.armed = True
    try:
        with filtering(look):
            yield
            scene.settle()
    finally:
        scene.loop.set_debug(False)
        logger.setLevel(before)


# Places of transports of bytes. The scene has
#   connect(protocol=None)   a transport of the loop, of this protocol or a Recorder; it settles
#   send(data)               to the transport; it settles
#   finish()                 nothing more comes to the transport; it settles
#   clog()                   so that the transport pauses the protocol when much is written

OF_TRANSPORTS = Places()


@OF_TRANSPORTS
def line_of_an_iterator(scene):
    scene.connect()
    scene.armed = True
    scene.attempt(lambda: scene.transport.writelines(lines(scene)))


@OF_TRANSPORTS
def truth_of_what_is_written(scene, truth=True):
    class Text(bytes):
        def __bool__(self):
            scene.midway()
            return truth

    scene.connect()
    scene.armed = True
    scene.attempt(scene.transport.write, Text(b"text"))


@OF_TRANSPORTS
def comparison_of_limits(scene, method="set_write_buffer_limits"):
    scene.connect()
    high = acting(scene, int, "__ge__")(10)
    scene.armed = True
    scene.attempt(lambda: getattr(scene.transport, method)(high=high, low=5))


def truth_of_an_answer_to_eof(scene, truth, finish=None):
    scene.connect(Recorder(scene, eof=lambda: Truth(scene, truth)))
    scene.armed = True
    (finish or scene.finish)()


@OF_TRANSPORTS
def length_of_a_buffer(scene):
    scene.connect(Buffered(scene, get_buffer=acting(scene, bytearray, "__len__")))
    scene.armed = True
    scene.send(b"some data")


@OF_TRANSPORTS
def get_buffer(scene):
    def hook(buffer):
        scene.midway()
        return buffer

    scene.connect(Buffered(scene, get_buffer=hook))
    scene.armed = True
    scene.send(b"some data")


@OF_TRANSPORTS
def get_buffer_of_much(scene):
    """When it is called for the second time."""

    def hook(buffer):
        if calls:
            scene.midway()
        calls.append(1)
        return memoryview(buffer)

    calls = []
    scene.connect(Buffered(scene, get_buffer=hook))
    scene.armed = True
    scene.send(bytes(range(150)))


@OF_TRANSPORTS
def property_data_received(scene):
    scene.connect(asked(Recorder, "data_received")(scene))
    scene.armed = True
    scene.send(b"some data")


@OF_TRANSPORTS
def property_eof_received(scene):
    scene.connect(asked(Recorder, "eof_received")(scene))
    scene.armed = True
    scene.finish()


@OF_TRANSPORTS
def property_pause_writing(scene):
    scene.connect(asked(Recorder, "pause_writing")(scene))
    scene.clog()
    scene.armed = True
    scene.attempt(scene.transport.write, MUCH)
    scene.settle()


@OF_TRANSPORTS
def handler_of_an_exception(scene):
    scene.connect(Recorder(scene, data=raises))
    scene.hooks["reported"], scene.armed = scene.midway, True
    scene.send(b"some data")


@OF_TRANSPORTS
def handler_of_an_exception_in_eof_received(scene):
    scene.connect(Recorder(scene, eof=raises))
    scene.hooks["reported"], scene.armed = scene.midway, True
    scene.finish()


@OF_TRANSPORTS
def handler_of_an_exception_in_pause_writing(scene):
    scene.connect(Recorder(scene, pause=raises))
    scene.clog()
    scene.hooks["reported"], scene.armed = scene.midway, True
    scene.attempt(scene.transport.write, MUCH)


@OF_TRANSPORTS
def log_of_an_error(scene):
    scene.connect(Recorder(scene, data=raising(lambda: ConnectionError("of the test"))))
    with in_log(scene, "%r: %s"):
        scene.send(b"some data")
