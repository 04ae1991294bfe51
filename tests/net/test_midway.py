"""What a program does while a transport is in the midst of something, in Python code that is no callback of its protocol: iterators,
what converts and compares arguments, properties, log filters, exception handlers, factories. All of it beside asyncio.
"""

import asyncio
import contextlib
import logging
import os
import re
import socket
import struct
import sys
import warnings

import pytest

pytestmark = pytest.mark.skipif(
    sys.version_info[:2] not in ((3, 11), (3, 14)), reason="asyncio has other faults of its own there"
)
MUCH = bytes(1 << 22)  # more than a socket takes


def described(error):
    if error is None:
        return None
    text = re.sub(r"\bfd=\d+|\b0x[0-9a-f]+|<.*>|\('127.0.0.1', \d+\)", "N", str(error))
    return type(error).__name__, text


class Recorder(asyncio.Protocol):
    """Notes what it is told. A hook of that name is called, and its result returned."""

    def __init__(self, scene, name="first", **hooks):
        self.scene, self.name, self.hooks = scene, name, hooks

    def note(self, event, *args):
        self.scene.notes.append((event, self.name) + args)
        hook = self.hooks.get(event)
        return hook() if hook else None

    def connection_made(self, transport):
        self.scene.transport = transport
        return self.note("made")

    def data_received(self, data):
        return self.note("data", bytes(data))

    def eof_received(self):
        return self.note("eof")

    def pause_writing(self):
        return self.note("pause")

    def resume_writing(self):
        return self.note("resume")

    def connection_lost(self, error):
        return self.note("lost", described(error))

    def datagram_received(self, data, address):
        return self.note("datagram", bytes(data))

    def error_received(self, error):
        return self.note("error", described(error))


class Buffered(Recorder, asyncio.BufferedProtocol):
    data_received = None

    def get_buffer(self, hint):
        self.buffer = bytearray(100)
        hook = self.hooks.get("get_buffer")
        return hook(self.buffer) if hook else self.buffer

    def buffer_updated(self, count):
        return self.note("data", bytes(self.buffer[:count]))


del Buffered.data_received


class Scene:
    """A transport of the loop, the socket at the other end, and what is noted."""

    def __init__(self, loop, stack, act):
        self.loop, self.stack, self.act = loop, stack, act
        self.notes, self.armed = [], False
        self.protocol = self.transport = self.peer = None
        loop.set_exception_handler(self.report)
        self.marker = self.pair()
        self.polled = []
        loop.add_reader(self.marker[0], lambda: self.polled.append(self.marker[0].recv(1)))

    def report(self, loop, context):
        message, error = context["message"], described(context.get("exception"))
        if error and "'NoneType' object has no attribute" in error[1]:
            return  # asyncio's, which calls connection_lost() twice
        if message.startswith("Exception in callback"):  # then it names the callback
            message = "Exception in callback"
        self.notes.append(("reported", message, error))
        self.handled()

    def handled(self):
        """What a program's exception handler does besides."""

    def keep(self, sock):
        sock.setblocking(False)
        return self.stack.enter_context(sock)

    def pair(self, *args):
        return [self.keep(sock) for sock in socket.socketpair(*args)]

    def tcp_pair(self):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(1)
            ours = socket.create_connection(listener.getsockname())
            return self.keep(ours), self.keep(listener.accept()[0])

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

    def connect(self, protocol=None, kind="unix"):
        ours, self.peer = self.pair() if kind == "unix" else self.tcp_pair()
        self.protocol = protocol or Recorder(self)
        self.loop.run_until_complete(self.loop.create_connection(lambda: self.protocol, sock=ours))
        self.settle()

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
        self.notes.append(("returned", result))

    def received(self):
        """All that the peer has to read, while the loop goes on, and how it ends."""
        got, quiet, end = bytearray(), 0, None
        while quiet < 2 and end is None:
            try:
                data = self.peer.recv(1 << 20)
                got += data
                quiet, end = 0, None if data else "eof"
            except BlockingIOError:
                quiet += 1
                self.settle()
            except OSError as error:
                end = described(error)
        return (bytes(got) if len(got) < 100 else len(got)), end

    def end(self):
        """What is to be seen then; and the end of the connection."""
        self.settle()
        if isinstance(self.peer, socket.socket) and self.peer.fileno() >= 0:
            with contextlib.suppress(OSError):
                self.peer.send(b"later")
            self.settle()
            self.notes.append(self.received())
        self.settle()
        transport = self.transport
        self.notes.append(("is closing", transport.is_closing()))
        if not transport.is_closing():
            for name in "is_reading", "get_write_buffer_limits":
                if hasattr(transport, name):
                    self.attempt(getattr(transport, name))
            transport.abort() if hasattr(transport, "abort") else transport.close()
        self.settle()
        self.loop.remove_reader(self.marker[0])
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


def reset(scene):
    if scene.peer.family == socket.AF_INET:
        scene.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    scene.peer.close()


def stops(scene):
    scene.transport.close()
    scene.transport.abort()


ACTS = {
    "nothing": lambda scene: None,
    "raise": raises,
    "close": lambda scene: scene.transport.close(),
    "abort": lambda scene: scene.transport.abort(),
    "close and abort": stops,
    "pause": lambda scene: scene.transport.pause_reading(),
    "pause and resume": lambda scene: (scene.transport.pause_reading(), scene.transport.resume_reading()),
    "write": lambda scene: scene.transport.write(b"midway"),
    "write much": lambda scene: scene.transport.write(MUCH),
    "write much and close": lambda scene: (scene.transport.write(MUCH), scene.transport.close()),
    "write much and abort": lambda scene: (scene.transport.write(MUCH), scene.transport.abort()),
    "write_eof": lambda scene: scene.transport.write_eof(),
    "limits": lambda scene: scene.transport.set_write_buffer_limits(0),
    "protocol": lambda scene: scene.transport.set_protocol(Recorder(scene, "second")),
    "buffered protocol": lambda scene: scene.transport.set_protocol(Buffered(scene, "second")),
    "peer": lambda scene: scene.peer.close(),
    "reset": reset,
    "fail": lambda scene: scene.transport._force_close(LookupError("of the test")),
}
# Where asyncio loses an error or has another one, goes on with what has failed, or is never done.
ASYNCIOS = {
    ("line_of_an_iterator_while_clogged", "peer"),
    ("line_of_an_iterator_while_clogged", "reset"),
    ("answer_to_eof", "raise"),
    ("other_answer_to_eof", "raise"),
    ("property_resume_writing", "fail"),
    ("handler_of_an_exception_in_resume_writing", "fail"),
    ("log_of_an_error", "raise"),
    ("log_of_a_reset", "raise"),
    ("log_of_a_reset", "write_eof"),
    ("log_of_a_reset", "reset"),
    ("property_of_the_end_of_a_pipe", "raise"),
    ("log_of_a_reader_that_leaves_much", "raise"),
}
OF_DATAGRAMS = ["nothing", "raise", "close", "abort", "close and abort", "limits", "protocol", "peer", "fail"]
OF_WRITING_PIPES = ["nothing", "raise", "close", "abort", "write", "limits", "protocol"]
OF_READING_PIPES = ["nothing", "raise", "close", "pause", "protocol"]


class Truth:
    """Its truth is asked for midway."""

    def __init__(self, scene, value):
        self.scene, self.value = scene, value

    def __bool__(self):
        self.scene.midway()
        return self.value


# Places, each of which does all that is to be done with a transport


def line_of_an_iterator(scene):
    def lines():
        yield b"one"
        scene.midway()
        yield b"two"

    scene.connect()
    scene.armed = True
    scene.attempt(lambda: scene.transport.writelines(lines()))


def line_of_an_iterator_within_a_callback(scene):
    def lines():
        yield b"one"
        scene.midway()
        yield b"two"

    scene.connect(Recorder(scene, data=lambda: scene.attempt(lambda: scene.transport.writelines(lines()))))
    scene.armed = True
    scene.peer.send(b"go")
    scene.settle()


def line_of_an_iterator_while_clogged(scene):
    def lines():
        yield b"one"
        scene.midway()
        yield b"two"

    scene.connect()
    scene.transport.write(MUCH)
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


def falsehood_of_what_is_written(scene):
    class Text(bytes):
        def __bool__(self):
            scene.midway()
            return False

    scene.connect()
    scene.armed = True
    scene.attempt(scene.transport.write, Text(b"text"))


def comparison_of_limits(scene):
    class Number(int):
        def __ge__(self, other):
            scene.midway()
            return int.__ge__(self, other)

    scene.connect()
    scene.armed = True
    scene.attempt(lambda: scene.transport.set_write_buffer_limits(high=Number(10), low=5))


def computation_of_limits(scene):
    class Number(int):
        def __floordiv__(self, other):
            scene.midway()
            return int.__floordiv__(self, other)

    scene.connect()
    scene.armed = True
    scene.attempt(lambda: scene.transport.set_write_buffer_limits(high=Number(10)))


def answer_to_eof(scene, value=True):
    scene.connect(Recorder(scene, eof=lambda: Truth(scene, value)))
    scene.armed = True
    scene.peer.shutdown(socket.SHUT_WR)
    scene.settle()


def other_answer_to_eof(scene):
    answer_to_eof(scene, False)


def length_of_a_buffer(scene):
    class Buffer(bytearray):
        def __len__(self):
            scene.midway()
            return bytearray.__len__(self)

    scene.connect(Buffered(scene, get_buffer=Buffer))
    scene.armed = True
    scene.peer.send(b"some data")
    scene.settle()


def get_buffer(scene):
    def asked(buffer):
        scene.midway()
        return buffer

    scene.connect(Buffered(scene, get_buffer=asked))
    scene.armed = True
    scene.peer.send(b"some data")
    scene.settle()


def get_buffer_of_much(scene):
    def asked(buffer):
        if scene.calls:
            scene.midway()
        scene.calls.append(1)
        return buffer

    scene.calls = []
    scene.connect(Buffered(scene, get_buffer=asked))
    scene.armed = True
    scene.peer.send(bytes(range(150)))
    scene.settle()


def buffer_updated(scene):
    scene.connect(Buffered(scene, data=scene.midway))
    scene.armed = True
    scene.peer.send(bytes(range(250)))
    scene.settle()


def with_property(scene, name):
    def getter(self):
        scene.midway()
        return getattr(super(Asked, self), name)

    Asked = type("Asked", (Recorder,), {name: property(getter)})
    scene.connect(Asked(scene))


def property_data_received(scene):
    with_property(scene, "data_received")
    scene.armed = True
    scene.peer.send(b"some data")
    scene.settle()


def property_eof_received(scene):
    with_property(scene, "eof_received")
    scene.armed = True
    scene.peer.shutdown(socket.SHUT_WR)
    scene.settle()


def property_connection_lost(scene):
    with_property(scene, "connection_lost")
    scene.armed = True
    scene.transport.close()
    scene.settle()


def property_pause_writing(scene):
    with_property(scene, "pause_writing")
    scene.armed = True
    scene.attempt(scene.transport.write, MUCH)
    scene.settle()


def property_resume_writing(scene):
    with_property(scene, "resume_writing")
    scene.transport.write(MUCH)
    scene.armed = True
    scene.received()


def handler_of_an_exception(scene):
    scene.connect(Recorder(scene, data=lambda: raises(scene)))
    scene.handled, scene.armed = scene.midway, True
    scene.peer.send(b"some data")
    scene.settle()


def handler_of_an_exception_in_eof_received(scene):
    scene.connect(Recorder(scene, eof=lambda: raises(scene)))
    scene.handled, scene.armed = scene.midway, True
    scene.peer.shutdown(socket.SHUT_WR)
    scene.settle()


def handler_of_an_exception_in_pause_writing(scene):
    scene.connect(Recorder(scene, pause=lambda: raises(scene)))
    scene.handled, scene.armed = scene.midway, True
    scene.attempt(scene.transport.write, MUCH)


def handler_of_an_exception_in_resume_writing(scene):
    scene.connect(Recorder(scene, resume=lambda: raises(scene)))
    scene.handled = scene.midway
    scene.transport.write(MUCH)
    scene.armed = True
    scene.received()


def handler_of_an_exception_in_connection_lost(scene):
    scene.connect(Recorder(scene, lost=lambda: raises(scene)))
    scene.handled, scene.armed = scene.midway, True
    scene.transport.close()
    scene.settle()


def handler_of_an_exception_in_get_buffer(scene):
    scene.connect(Buffered(scene, get_buffer=raises))
    scene.handled, scene.armed = scene.midway, True
    scene.peer.send(b"some data")
    scene.settle()


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
        scene.settle()
    finally:
        scene.loop.set_debug(False)
        logger.removeFilter(look)
        logger.setLevel(before)


def log_of_eof(scene):
    scene.connect()
    with in_log(scene, "received EOF"):
        scene.peer.shutdown(socket.SHUT_WR)
        scene.settle()


def log_of_pausing(scene):
    scene.connect()
    with in_log(scene, "pauses reading"):
        scene.attempt(scene.transport.pause_reading)


def log_of_resuming(scene):
    scene.connect()
    scene.transport.pause_reading()
    with in_log(scene, "resumes reading"):
        scene.attempt(scene.transport.resume_reading)


def log_of_an_error(scene):
    def fails():
        raise ConnectionError("of the test")

    scene.connect(Recorder(scene, data=fails))
    with in_log(scene, "%r: %s"):
        scene.peer.send(b"some data")
        scene.settle()


def log_of_a_reset(scene):
    scene.connect(kind="tcp")
    with in_log(scene, "%r: %s"):
        reset(scene)
        scene.settle()


def log_of_a_lost_write(scene):
    scene.connect()
    scene.transport.abort()
    scene.settle()
    scene.armed = True
    with in_log(scene, "socket.send() raised exception."):
        for _ in range(7):
            scene.attempt(scene.transport.write, b"lost")


def hash_of_a_name(scene):
    class Name(str):
        def __hash__(self):
            scene.midway()
            return str.__hash__(self)

    scene.connect()
    scene.armed = True
    scene.attempt(lambda: scene.transport.get_extra_info(Name("nothing")))


def class_of_the_next_protocol(scene):
    class Next(Recorder):
        @property
        def __class__(self):
            scene.midway()
            return Recorder

    scene.connect()
    scene.armed = True
    scene.attempt(scene.transport.set_protocol, Next(scene, "next"))


def method_of_the_next_protocol(scene):
    class Next(Buffered):
        @property
        def get_buffer(self):
            scene.midway()
            return super().get_buffer

    scene.connect()
    scene.armed = True
    scene.attempt(scene.transport.set_protocol, Next(scene, "next"))


OF_STREAMS = [
    line_of_an_iterator,
    line_of_an_iterator_within_a_callback,
    line_of_an_iterator_while_clogged,
    truth_of_what_is_written,
    falsehood_of_what_is_written,
    comparison_of_limits,
    computation_of_limits,
    answer_to_eof,
    other_answer_to_eof,
    length_of_a_buffer,
    get_buffer,
    get_buffer_of_much,
    buffer_updated,
    property_data_received,
    property_eof_received,
    property_connection_lost,
    property_pause_writing,
    property_resume_writing,
    handler_of_an_exception,
    handler_of_an_exception_in_eof_received,
    handler_of_an_exception_in_pause_writing,
    handler_of_an_exception_in_resume_writing,
    handler_of_an_exception_in_connection_lost,
    handler_of_an_exception_in_get_buffer,
    log_of_eof,
    log_of_pausing,
    log_of_resuming,
    log_of_an_error,
    log_of_a_reset,
    log_of_a_lost_write,
    hash_of_a_name,
    class_of_the_next_protocol,
    method_of_the_next_protocol,
]


# Datagrams


def endpoint(scene, protocol=None):
    ours, scene.peer = (scene.keep(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(2))
    scene.peer.bind(("127.0.0.1", 0))
    scene.address = scene.peer.getsockname()
    ours.close()
    scene.protocol = protocol or Recorder(scene)
    scene.loop.run_until_complete(
        scene.loop.create_datagram_endpoint(lambda: scene.protocol, remote_addr=scene.address)
    )
    scene.settle()


class Address(tuple):
    """An address that is compared midway."""

    def __eq__(self, other):
        self.scene.midway()
        return tuple.__eq__(self, other)

    __hash__ = tuple.__hash__


def comparison_of_an_address(scene, change=0):
    endpoint(scene)
    address = Address((scene.address[0], scene.address[1] + change))
    address.scene, scene.armed = scene, True
    scene.attempt(scene.transport.sendto, b"text", address)


def comparison_of_another_address(scene):
    comparison_of_an_address(scene, 1)


def handler_of_an_exception_in_datagram_received(scene):
    endpoint(scene, Recorder(scene, datagram=lambda: raises(scene)))
    scene.handled, scene.armed = scene.midway, True
    scene.peer.sendto(b"one", scene.transport.get_extra_info("sockname"))
    scene.peer.sendto(b"two", scene.transport.get_extra_info("sockname"))
    scene.settle()


def property_datagram_received(scene):
    class Asked(Recorder):
        @property
        def datagram_received(self):
            scene.midway()
            return super().datagram_received

    endpoint(scene, Asked(scene))
    scene.armed = True
    scene.peer.sendto(b"one", scene.transport.get_extra_info("sockname"))
    scene.settle()
    with contextlib.suppress(OSError):  # it may have been closed
        scene.peer.sendto(b"two", scene.transport.get_extra_info("sockname"))
    scene.settle()


def datagram_to_nobody(scene):
    """What is sent is refused, which the next one finds out."""
    endpoint(scene, Recorder(scene, error=scene.midway))
    scene.peer.close()
    scene.armed = True
    for _ in range(3):
        scene.attempt(scene.transport.sendto, b"text")
        scene.settle()


def refused_datagram(scene):
    endpoint(scene, Recorder(scene, error=scene.midway))
    scene.armed = True
    scene.attempt(scene.transport.sendto, bytes(100000))  # too long
    scene.settle()


DATAGRAMS = [
    comparison_of_an_address,
    comparison_of_another_address,
    handler_of_an_exception_in_datagram_received,
    property_datagram_received,
    datagram_to_nobody,
    refused_datagram,
]


# Pipes


def read_pipe(scene, protocol=None):
    ours, theirs = os.pipe()
    scene.pipe = scene.stack.enter_context(open(theirs, "wb", 0))
    scene.protocol = protocol or Recorder(scene)
    scene.loop.run_until_complete(scene.loop.connect_read_pipe(lambda: scene.protocol, open(ours, "rb", 0)))
    scene.settle()


def write_pipe(scene, protocol=None):
    theirs, ours = os.pipe()
    scene.pipe = scene.stack.enter_context(open(theirs, "rb", 0))
    scene.protocol = protocol or Recorder(scene)
    scene.loop.run_until_complete(scene.loop.connect_write_pipe(lambda: scene.protocol, open(ours, "wb", 0)))
    scene.settle()


def log_of_the_end_of_a_pipe(scene):
    read_pipe(scene)
    with in_log(scene, "was closed by peer"):
        scene.pipe.close()
        scene.settle()


def answer_to_the_end_of_a_pipe(scene):
    read_pipe(scene, Recorder(scene, eof=scene.midway))
    scene.armed = True
    scene.pipe.close()
    scene.settle()


def property_of_the_end_of_a_pipe(scene):
    class Asked(Recorder):
        @property
        def eof_received(self):
            scene.midway()
            return super().eof_received

    read_pipe(scene, Asked(scene))
    scene.armed = True
    scene.pipe.close()
    scene.settle()


def handler_of_an_exception_of_a_pipe(scene):
    read_pipe(scene, Recorder(scene, data=lambda: raises(scene)))
    scene.handled, scene.armed = scene.midway, True
    scene.pipe.write(b"some data")
    scene.settle()


READING_PIPES = [
    log_of_the_end_of_a_pipe,
    answer_to_the_end_of_a_pipe,
    property_of_the_end_of_a_pipe,
    handler_of_an_exception_of_a_pipe,
]


def log_of_a_reader_that_leaves(scene):
    write_pipe(scene)
    with in_log(scene, "was closed by peer"):
        scene.pipe.close()
        scene.settle()


def log_of_a_reader_that_leaves_much(scene):
    write_pipe(scene)
    scene.transport.write(MUCH)
    with in_log(scene, "was closed by peer"):
        scene.pipe.close()
        scene.settle()


def line_of_an_iterator_for_a_pipe(scene):
    def lines():
        yield b"one"
        scene.midway()
        yield b"two"

    write_pipe(scene)
    scene.armed = True
    scene.attempt(lambda: scene.transport.writelines(lines()))


def shown_by_a_pipe(scene):
    class Odd:
        def __repr__(self):
            scene.midway()
            return "odd"

    write_pipe(scene)
    scene.armed = True
    scene.attempt(lambda: scene.transport.write(Odd()))


def property_pause_writing_of_a_pipe(scene):
    class Asked(Recorder):
        @property
        def pause_writing(self):
            scene.midway()
            return super().pause_writing

    write_pipe(scene, Asked(scene))
    scene.armed = True
    scene.attempt(scene.transport.write, MUCH)


WRITING_PIPES = [
    log_of_a_reader_that_leaves,
    log_of_a_reader_that_leaves_much,
    line_of_an_iterator_for_a_pipe,
    shown_by_a_pipe,
    property_pause_writing_of_a_pipe,
]


# All of them


@pytest.fixture
def differences(loop_kind, loop_class):
    """differences(place, acts): what is noted otherwise than on asyncio, for each act."""
    if loop_kind == "asyncio":
        pytest.skip("it is what is compared with")

    def play(make_loop, place, act):
        loop = make_loop()
        with warnings.catch_warnings(), contextlib.ExitStack() as stack:
            warnings.simplefilter("ignore")
            try:
                scene = Scene(loop, stack, act)
                place(scene)
                return scene.end()
            finally:
                loop.close()

    def differences(place, acts):
        found = {}
        for act in acts:
            if (place.__name__, act) in ASYNCIOS:
                continue
            asyncios, ours = [play(cls, place, act) for cls in (asyncio.SelectorEventLoop, loop_class)]
            if asyncios != ours:
                found[act] = asyncios, ours
        return found

    return differences


# CLOOP_GATHER=always holds what would have been sent before the error.
unheld = pytest.mark.skipif(os.environ.get("CLOOP_GATHER") == "always", reason="writes are held")


def of_streams():
    for place in OF_STREAMS:
        marks = [pytest.mark.unstressed("sends part of it")] if place.__name__.endswith("resume_writing") else []
        yield pytest.param(place, marks=marks, id=place.__name__)


@unheld
@pytest.mark.parametrize("place", of_streams())
def test_streams(differences, place):
    assert differences(place, ACTS) == {}


@pytest.mark.parametrize("place", DATAGRAMS, ids=lambda place: place.__name__)
def test_datagrams(differences, place):
    assert differences(place, OF_DATAGRAMS) == {}


@pytest.mark.parametrize("place", READING_PIPES, ids=lambda place: place.__name__)
def test_pipes_that_are_read(differences, place):
    assert differences(place, OF_READING_PIPES) == {}


@unheld
@pytest.mark.parametrize("place", WRITING_PIPES, ids=lambda place: place.__name__)
def test_pipes_that_are_written(differences, place):
    assert differences(place, OF_WRITING_PIPES) == {}
