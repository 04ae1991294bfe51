"""What a program does while a TLS transport is in the midst of something, in Python code that is no callback of its protocol: methods
of the SSLObject and of the transport below, iterators, what converts and compares arguments, properties, log filters, exception
handlers. All of it beside asyncio.
"""

import asyncio
import contextlib
import os
import ssl
import sys

import midway
import pytest
from midway import (
    MUCH,
    OF_ANY_TRANSPORT,
    OF_TRANSPORTS,
    Buffered,
    Places,
    Recorder,
    acting,
    asked,
    both,
    calling,
    comparison_of_limits,
    for_each,
    in_log,
    joined,
    of_transport,
    raises,
    truth_of_an_answer_to_eof,
    where_asyncio_is_known,
)

pytestmark = where_asyncio_is_known
GARBAGE = b"\x17\x03\x03\x00\x20" + bytes(32)  # a record that nobody has encrypted


class Scene(midway.Scene):
    """A TLS transport of the loop, and the peer."""

    def __init__(self, loop, *args, stage):
        self.stage = type(stage)(loop, stage.contexts)
        super().__init__(loop, *args)
        self.stack.callback(self.stage.close)

    def report(self, loop, context):
        if not self.stage.closed:
            super().report(loop, context)

    def describe(self, value):
        return self.stage.describe(value) if isinstance(value, BaseException) else midway.described(value)

    def settle(self):
        self.stage.settle()

    def connect(self, protocol=None, context=None):
        self.transport, self.peer = self.stage.connect(protocol or Recorder(self), context=context)
        self.settle()

    def send(self, data):
        self.peer.send(data)
        self.settle()

    def push(self, data):
        """Sends it as it is, unless the connection has gone."""
        with contextlib.suppress(OSError):
            self.peer.raw(data)
        self.settle()

    def finish(self):
        self.push(self.peer.close_notify())

    def clog(self):
        """The transport below is paused."""
        self.transport.write(MUCH)

    def half_close(self):
        """There is no notice of the end."""
        self.peer.half_close()
        self.settle()

    def end(self):
        """What is to be seen then; and the end of the connection."""
        stage, transport = self.stage, self.transport
        stage.settle()
        if not transport.is_closing():  # else it is an error to asyncio
            with contextlib.suppress(OSError):
                self.peer.attempt(self.peer.tls.write, b"later")
            stage.settle()
        self.note("is closing", transport.is_closing())
        transport.abort()
        stage.settle()
        if self.peer.sock.fileno() >= 0:
            got, *_ = self.peer.ending(answer=False)
            self.note("sent", got if len(got) < 100 else len(got))
            self.peer.close()
        return joined(self.notes)


ACTS = {
    **OF_ANY_TRANSPORT,
    "write and close": both(of_transport("write", b"midway"), of_transport("close")),
    "protocol": lambda scene: scene.transport.set_protocol(Recorder(scene, "second")),
    "buffered protocol": lambda scene: scene.transport.set_protocol(Buffered(scene, "second")),
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
# Where the peer's side ends without a notice while much is to be sent: asyncio 3.11 does not say that the transport below is closing.
PAUSING = "pause_writing", "property_pause_writing", "handler_of_an_exception_in_pause_writing"
if sys.version_info < (3, 14):
    ASYNCIOS |= {(place, "half") for place in PAUSING}


place = Places(OF_TRANSPORTS)


@place
def comparison_of_limits_of_reading(scene):
    comparison_of_limits(scene, "set_read_buffer_limits")


# The protocol


@place
def answer_to_eof(scene):
    truth_of_an_answer_to_eof(scene, False)


@place
def answer_to_eof_without_a_notice(scene):
    truth_of_an_answer_to_eof(scene, False, scene.half_close)


@place
def buffer_updated(scene):
    scene.connect(Buffered(scene, data=scene.midway))
    scene.armed = True
    scene.send(b"less than a buffer")


@place
def data_received(scene):
    scene.connect(Recorder(scene, data=scene.midway))
    scene.armed = True
    scene.send(b"some data")


@place
def data_received_with_the_end(scene):
    scene.connect(Recorder(scene, data=scene.midway))
    scene.armed = True
    scene.push(scene.peer.encrypt(b"the last") + scene.peer.close_notify())


@place
def data_received_before_garbage(scene):
    scene.connect(Recorder(scene, data=scene.midway))
    scene.armed = True
    scene.push(scene.peer.encrypt(b"the last"))
    scene.push(GARBAGE)


@place
def property_connection_lost(scene):
    scene.connect(asked(Recorder, "connection_lost")(scene))
    scene.armed = True
    scene.transport.abort()
    scene.settle()


@place
def pause_writing(scene):
    scene.connect(Recorder(scene, pause=scene.midway))
    scene.clog()
    scene.armed = True
    scene.attempt(scene.transport.write, MUCH)
    scene.settle()


@place
def handler_of_an_exception_in_connection_lost(scene):
    scene.connect(Recorder(scene, lost=raises))
    scene.hooks["reported"], scene.armed = scene.midway, True
    scene.transport.abort()
    scene.settle()


# The log, the loop


@place
def log_of_eof(scene):
    scene.connect()
    with in_log(scene, "received EOF"):
        scene.half_close()


@place
def log_of_garbage(scene):
    scene.connect()
    with in_log(scene, "%r: %s"):
        scene.push(GARBAGE)


@place
def log_of_a_lost_write(scene):
    scene.connect()
    scene.transport.abort()
    scene.settle()
    with in_log(scene, "SSL connection is closed"):
        for _ in range(7):
            scene.attempt(scene.transport.write, b"lost")


@place
def log_of_the_answer_to_eof(scene):
    scene.connect(Recorder(scene, eof=lambda: True))
    with in_log(scene, "returning true from eof_received()"):
        scene.finish()


@place
def resumption(scene):
    scene.connect()
    scene.transport.pause_reading()
    scene.send(b"some data")
    with calling(scene, "call_soon"):
        scene.armed = True
        scene.attempt(scene.transport.resume_reading)


# The SSLObject


def read_by(scene, protocol):
    """The object is told midway to read."""
    cls = acting(scene, ssl.SSLObject, "read")
    scene.stack.callback(delattr, cls, "read")  # the ssl module's objects keep each other
    context = scene.stage.contexts.client()
    context.sslobject_class = cls
    scene.connect(protocol, context)
    scene.armed = True
    scene.send(b"some data")


@place
def object_reads(scene):
    read_by(scene, Recorder(scene))


@place
def object_reads_into_a_buffer(scene):
    read_by(scene, Buffered(scene))


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
    protocol = protocol or Recorder(scene)
    ours, theirs = stage.pair()
    below, _ = stage.run(scene.loop.create_connection(lambda: protocol, sock=ours))
    context = stage.contexts.usual_client()
    wrapped = Wrapped(scene, below, name)
    task = scene.loop.create_task(scene.loop.start_tls(wrapped, protocol, context, server_hostname="localhost"))
    scene.peer = stage.peer(stage, theirs, stage.contexts.usual_server(), server_side=True)
    scene.peer.handshake()
    stage.until(task.done)
    scene.transport = stage.keep(task.result())
    scene.settle()
    scene.armed = True


@place
def below_writes(scene):
    over(scene, "write")
    scene.attempt(scene.transport.write, b"text")


@place
def below_pauses(scene):
    over(scene, "pause_reading")
    scene.transport.set_read_buffer_limits(10)
    scene.transport.pause_reading()
    scene.send(bytes(1000))


@place
def below_resumes(scene):
    over(scene, "resume_reading")
    scene.transport.set_read_buffer_limits(10)
    scene.transport.pause_reading()
    scene.send(bytes(1000))
    scene.transport.resume_reading()
    scene.settle()


@place
def below_closes(scene):
    over(scene, "close")
    scene.finish()


@place
def below_is_forced_to_close(scene):
    over(scene, "_force_close", Recorder(scene, data=raises))
    scene.send(b"some data")


@place
def below_knows_more(scene):
    over(scene, "get_extra_info")
    scene.attempt(scene.transport.get_extra_info, "nothing")


# CLOOP_GATHER=always holds what would have been sent before the connection is forced to close.
@pytest.mark.skipif(os.environ.get("CLOOP_GATHER") == "always", reason="writes are held")
@for_each(place)
def test_connections(differences, stage, place):
    assert differences(Scene.plays(place, ACTS, ASYNCIOS, stage=stage)) == {}
