"""What a program does while a TLS transport is in the midst of something, in Python code that is no callback of its protocol: methods
of the SSLObject and of the transport below, iterators, what converts and compares arguments, properties, log filters, exception
handlers. All of it beside asyncio.
"""

import asyncio
import contextlib
import gc
import logging
import os
import ssl
import sys
import warnings

import pytest

pytestmark = pytest.mark.skipif(
    sys.version_info[:2] not in ((3, 11), (3, 14)), reason="asyncio has other faults of its own there"
)


class Scene:
    """A connection with a transport of the loop, the peer, and what is noted."""

    def __init__(self, stage, act):
        self.stage, self.act, self.loop = stage, act, stage.loop
        self.notes, self.armed = [], False
        self.protocol = self.transport = self.peer = None
        stage.loop.set_exception_handler(self.report)

    def report(self, loop, context):
        if not self.stage.closed:
            message = context["message"].partition(" of ")[0].partition(" <")[0]
            if message.startswith("Exception in callback"):  # then it names the callback
                message = "Exception in callback"
            self.notes.append(("reported", message, self.described(context.get("exception"))))
            self.handled()

    def undo(self):
        """What is to be done at the end."""

    def handled(self):
        """What a program's exception handler does besides."""

    def described(self, error):
        return self.stage.describe(error)

    def make(self, name="first", base="recorder", cls=None, **hooks):
        """A protocol that notes what it is told."""
        scene = self

        class Told(cls or getattr(self.stage, base)):
            def note(self, event, *told, args=()):
                scene.notes.append((event, name) + told)
                if event == "made":
                    scene.transport = args[0]
                hook = self.hooks.get(event)
                return hook() if hook else None

        if base == "buffered":
            hooks.setdefault("get_buffer", lambda protocol, hint: bytearray(100))

            def get_buffer(self, hint):
                self.buffer = self.hooks["get_buffer"](self, hint)
                return self.buffer

            Told.get_buffer = get_buffer
        return Told(**hooks)

    def connect(self, protocol=None, context=None):
        self.protocol = protocol or self.make()
        self.transport, self.peer = self.stage.connect(self.protocol, context=context)
        self.stage.settle()

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
            result = self.described(error)
        self.notes.append(("returned", result))

    def end(self):
        """What is to be seen then; and the end of the connection."""
        stage, transport = self.stage, self.transport
        stage.settle()
        if not transport.is_closing():  # else it is an error to asyncio
            with contextlib.suppress(OSError):
                self.peer.attempt(self.peer.tls.write, b"later")
            stage.settle()
        self.notes.append(("is closing", transport.is_closing()))
        transport.abort()
        stage.settle()
        self.undo()
        if self.peer.sock.fileno() >= 0:
            got, *_ = self.peer.ending(answer=False)
            self.notes.append(("sent", got if len(got) < 100 else len(got)))
            self.peer.close()
        return joined(self.notes)


def joined(notes):
    """The notes, with data that came in several pieces as one."""
    found = []
    for note in notes:
        if note[:1] == ("data",) and found and found[-1][:2] == note[:2]:
            note = note[:2] + (found.pop()[2] + note[2],)
        found.append(note)
    return found


def raises(scene):
    raise LookupError("of the test")


def fails():
    raise LookupError("of the test")


ACTS = {
    "nothing": lambda scene: None,
    "raise": raises,
    "close": lambda scene: scene.transport.close(),
    "abort": lambda scene: scene.transport.abort(),
    "close and abort": lambda scene: (scene.transport.close(), scene.transport.abort()),
    "pause": lambda scene: scene.transport.pause_reading(),
    "pause and resume": lambda scene: (scene.transport.pause_reading(), scene.transport.resume_reading()),
    "write": lambda scene: scene.transport.write(b"midway"),
    "write and close": lambda scene: (scene.transport.write(b"midway"), scene.transport.close()),
    "protocol": lambda scene: scene.transport.set_protocol(scene.make("second")),
    "buffered protocol": lambda scene: scene.transport.set_protocol(scene.make("second", "buffered")),
    "peer": lambda scene: scene.peer.close(),
    "half": lambda scene: scene.peer.half_close(),
    "reset": lambda scene: scene.peer.reset(),
    "below": lambda scene: scene.transport._ssl_protocol._transport.abort(),
}
# Where asyncio drops what was written, or received, or fails.
ENDS = ["close", "close and abort", "write and close"]
ASYNCIOS = {
    ("line_of_an_iterator", "abort"),
    ("line_of_an_iterator", "below"),
    ("length_of_a_buffer", "buffered protocol"),
    ("get_buffer", "buffered protocol"),
    ("get_buffer_of_much", "buffered protocol"),
    ("object_reads_into_a_buffer", "buffered protocol"),
} | {(place, end) for place in ("get_buffer_of_much", "log_of_a_lost_write", "below_pauses") for end in ENDS}


class Truth:
    """Its truth is asked for midway."""

    def __init__(self, scene, value):
        self.scene, self.value = scene, value

    def __bool__(self):
        self.scene.midway()
        return self.value


# Arguments


def line_of_an_iterator(scene):
    def lines():
        yield b"one"
        scene.midway()
        yield b"two"

    scene.connect()
    scene.armed = True
    scene.attempt(lambda: scene.transport.writelines(lines()))


def truth_of_what_is_written(scene):
    class Text(bytes):
        def __bool__(self):
            scene.midway()
            return True

    scene.connect()
    scene.armed = True
    scene.attempt(scene.transport.write, Text(b"text"))


def comparison_of_limits(scene, method="set_write_buffer_limits"):
    class Number(int):
        def __ge__(self, other):
            scene.midway()
            return int.__ge__(self, other)

    scene.connect()
    scene.armed = True
    scene.attempt(lambda: getattr(scene.transport, method)(high=Number(10), low=5))


def comparison_of_limits_of_reading(scene):
    comparison_of_limits(scene, "set_read_buffer_limits")


# The protocol


def push(scene, data):
    """Sends it, unless the connection has gone."""
    with contextlib.suppress(OSError):
        scene.peer.raw(data)


def notified(scene):
    push(scene, scene.peer.close_notify())
    scene.stage.settle()


def sent(scene, data=b"some data"):
    scene.peer.send(data)
    scene.stage.settle()


def answer_to_eof(scene):
    scene.connect(scene.make(eof=lambda: Truth(scene, False)))
    scene.armed = True
    notified(scene)


def answer_to_eof_without_a_notice(scene):
    scene.connect(scene.make(eof=lambda: Truth(scene, False)))
    scene.armed = True
    scene.peer.half_close()
    scene.stage.settle()


def length_of_a_buffer(scene):
    class Buffer(bytearray):
        def __len__(self):
            scene.midway()
            return bytearray.__len__(self)

    scene.connect(scene.make(base="buffered", get_buffer=lambda protocol, hint: Buffer(100)))
    scene.armed = True
    sent(scene)


def get_buffer(scene):
    def asked(protocol, hint):
        scene.midway()
        return bytearray(100)

    scene.connect(scene.make(base="buffered", get_buffer=asked))
    scene.armed = True
    sent(scene)


def get_buffer_of_much(scene):
    def asked(protocol, hint):
        if calls:
            scene.midway()
        calls.append(1)
        return memoryview(bytearray(100))

    calls = []
    scene.connect(scene.make(base="buffered", get_buffer=asked))
    scene.armed = True
    sent(scene, bytes(range(150)))


def buffer_updated(scene):
    scene.connect(scene.make(base="buffered", data=scene.midway))
    scene.armed = True
    sent(scene, b"less than a buffer")


def data_received(scene):
    scene.connect(scene.make(data=scene.midway))
    scene.armed = True
    sent(scene)


def data_received_with_the_end(scene):
    scene.connect(scene.make(data=scene.midway))
    scene.armed = True
    push(scene, scene.peer.encrypt(b"the last") + scene.peer.close_notify())
    scene.stage.settle()


def data_received_before_garbage(scene):
    scene.connect(scene.make(data=scene.midway))
    scene.armed = True
    push(scene, scene.peer.encrypt(b"the last"))
    scene.stage.settle()
    push(scene, b"\x17\x03\x03\x00\x20" + bytes(32))
    scene.stage.settle()


def with_property(scene, name):
    def getter(self):
        scene.midway()
        return getattr(super(Asked, self), name)

    Asked = type("Asked", (scene.stage.recorder,), {name: property(getter)})
    scene.connect(scene.make(cls=Asked))
    scene.armed = True


def property_data_received(scene):
    with_property(scene, "data_received")
    sent(scene)


def property_eof_received(scene):
    with_property(scene, "eof_received")
    notified(scene)


def property_connection_lost(scene):
    with_property(scene, "connection_lost")
    scene.transport.abort()
    scene.stage.settle()


def property_pause_writing(scene):
    with_property(scene, "pause_writing")
    scene.transport.set_write_buffer_limits(100)
    scene.attempt(scene.transport.write, bytes(1 << 22))
    scene.stage.settle()


def pause_writing(scene):
    scene.connect(scene.make(pause=scene.midway))
    scene.armed = True
    scene.attempt(scene.transport.write, bytes(1 << 22))
    scene.stage.settle()


def handler_of_an_exception(scene):
    scene.connect(scene.make(data=fails))
    scene.handled, scene.armed = scene.midway, True
    sent(scene)


def handler_of_an_exception_in_eof_received(scene):
    scene.connect(scene.make(eof=fails))
    scene.handled, scene.armed = scene.midway, True
    notified(scene)


def handler_of_an_exception_in_pause_writing(scene):
    scene.connect(scene.make(pause=fails))
    scene.handled, scene.armed = scene.midway, True
    scene.attempt(scene.transport.write, bytes(1 << 22))


def handler_of_an_exception_in_connection_lost(scene):
    scene.connect(scene.make(lost=fails))
    scene.handled, scene.armed = scene.midway, True
    scene.transport.abort()
    scene.stage.settle()


def handler_of_garbage(scene):
    scene.connect()
    scene.handled, scene.armed = scene.midway, True
    push(scene, b"\x17\x03\x03\x00\x20" + bytes(32))
    scene.stage.settle()


# The log, the loop


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
    logger.addFilter(look)
    scene.armed = True
    try:
        yield
        scene.stage.settle()
    finally:
        scene.loop.set_debug(False)
        logger.removeFilter(look)
        logger.setLevel(before)


def log_of_eof(scene):
    scene.connect()
    with in_log(scene, "received EOF"):
        scene.peer.half_close()
        scene.stage.settle()


def log_of_an_error(scene):
    def fails():
        raise ConnectionError("of the test")

    scene.connect(scene.make(data=fails))
    with in_log(scene, "%r: %s"):
        sent(scene)


def log_of_a_lost_write(scene):
    scene.connect()
    scene.transport.abort()
    scene.stage.settle()
    with in_log(scene, "SSL connection is closed"):
        for _ in range(7):
            scene.attempt(scene.transport.write, b"lost")


def log_of_the_answer_to_eof(scene):
    scene.connect(scene.make(eof=lambda: True))
    with in_log(scene, "returning true from eof_received()"):
        notified(scene)


def call_of_the_loop(scene, name, act):
    called = getattr(scene.loop, name)

    def calling(*args, **options):
        scene.midway()
        return called(*args, **options)

    setattr(scene.loop, name, calling)
    scene.armed = True
    scene.attempt(act)
    delattr(scene.loop, name)


def resumption(scene):
    scene.connect()
    scene.transport.pause_reading()
    sent(scene)
    call_of_the_loop(scene, "call_soon", scene.transport.resume_reading)


# The SSLObject


def acting(scene, name):
    """A context whose object does something before it does what it is asked for."""

    class Acting(ssl.SSLObject):
        pass

    def act(self, *args):
        scene.midway()
        return getattr(ssl.SSLObject, name)(self, *args)

    setattr(Acting, name, act)
    scene.undo = lambda: delattr(Acting, name)  # the ssl module's objects keep each other
    context = scene.stage.contexts.client()
    context.sslobject_class = Acting
    return context


def object_reads(scene):
    scene.connect(context=acting(scene, "read"))
    scene.armed = True
    sent(scene)


def object_reads_into_a_buffer(scene):
    scene.connect(scene.make(base="buffered"), context=acting(scene, "read"))
    scene.armed = True
    sent(scene)


# The transport below


class Wrapped(asyncio.Transport):
    """A transport of Python, over one of the loop; one of its methods is called midway."""

    _start_tls_compatible = True

    def __init__(self, scene, below, name):
        super().__init__()
        self.scene, self.below, self.name = scene, below, name

    def do(self, name, *args):
        if name == self.name:
            self.scene.midway()
        return getattr(self.below, name)(*args)


def forward(name):
    def method(self, *args):
        return self.do(name, *args)

    return method


for each in (
    "write", "set_protocol", "get_protocol", "pause_reading", "resume_reading", "is_reading", "is_closing", "close", "abort",
    "_force_close", "get_extra_info", "get_write_buffer_size", "set_write_buffer_limits",
):  # fmt: skip
    setattr(Wrapped, each, forward(each))


def over(scene, name, protocol=None):
    """Connects over a transport of Python."""
    stage = scene.stage
    scene.protocol = protocol or scene.make()
    ours, theirs = stage.pair()
    below, _ = stage.run(scene.loop.create_connection(lambda: scene.protocol, sock=ours))
    context = stage.contexts.usual_client()
    wrapped = Wrapped(scene, below, name)
    task = scene.loop.create_task(scene.loop.start_tls(wrapped, scene.protocol, context, server_hostname="localhost"))
    scene.peer = stage.peer(stage, theirs, stage.contexts.usual_server(), server_side=True)
    scene.peer.handshake()
    stage.until(task.done)
    scene.transport = stage.keep(task.result())
    stage.settle()
    scene.armed = True


def below_writes(scene):
    over(scene, "write")
    scene.attempt(scene.transport.write, b"text")


def below_pauses(scene):
    over(scene, "pause_reading")
    scene.transport.set_read_buffer_limits(10)
    scene.transport.pause_reading()
    sent(scene, bytes(1000))


def below_resumes(scene):
    over(scene, "resume_reading")
    scene.transport.set_read_buffer_limits(10)
    scene.transport.pause_reading()
    sent(scene, bytes(1000))
    scene.transport.resume_reading()
    scene.stage.settle()


def below_closes(scene):
    over(scene, "close")
    notified(scene)


def below_is_forced_to_close(scene):
    over(scene, "_force_close", scene.make(data=fails))
    sent(scene)


def below_knows_more(scene):
    over(scene, "get_extra_info")
    scene.attempt(scene.transport.get_extra_info, "nothing")


PLACES = [
    line_of_an_iterator,
    truth_of_what_is_written,
    comparison_of_limits,
    comparison_of_limits_of_reading,
    answer_to_eof,
    answer_to_eof_without_a_notice,
    length_of_a_buffer,
    get_buffer,
    get_buffer_of_much,
    buffer_updated,
    data_received,
    data_received_with_the_end,
    data_received_before_garbage,
    property_data_received,
    property_eof_received,
    property_connection_lost,
    property_pause_writing,
    pause_writing,
    handler_of_an_exception,
    handler_of_an_exception_in_eof_received,
    handler_of_an_exception_in_pause_writing,
    handler_of_an_exception_in_connection_lost,
    handler_of_garbage,
    log_of_eof,
    log_of_an_error,
    log_of_a_lost_write,
    log_of_the_answer_to_eof,
    resumption,
    object_reads,
    object_reads_into_a_buffer,
    below_writes,
    below_pauses,
    below_resumes,
    below_closes,
    below_is_forced_to_close,
    below_knows_more,
]


@pytest.fixture
def differences(stage, loop_kind, loop_class):
    """differences(place, acts): what is noted otherwise than on asyncio, for each act."""
    if loop_kind == "asyncio":
        pytest.skip("it is what is compared with")

    def play(make_loop, place, act):
        loop = make_loop()
        own = type(stage)(loop, stage.contexts)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                scene = Scene(own, act)
                place(scene)
                return scene.end()
            finally:
                own.close()
                loop.close()

    def differences(place, acts):
        found = {}
        for act in acts:
            if (place.__name__, act) in ASYNCIOS:
                continue
            asyncios, ours = [play(cls, place, act) for cls in (asyncio.SelectorEventLoop, loop_class)]
            if asyncios != ours:
                found[act] = asyncios, ours
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what asyncio's transports leave
            gc.collect()
        return found

    return differences


# CLOOP_GATHER=always holds what would have been sent before the connection is forced to close.
@pytest.mark.skipif(os.environ.get("CLOOP_GATHER") == "always", reason="writes are held")
@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_connections(differences, place):
    assert differences(place, ACTS) == {}
