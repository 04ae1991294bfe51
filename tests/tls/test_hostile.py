"""Callbacks that do unexpected things: raise after they wrote, run turns of the loop by hand, and lose their own
connection meanwhile.
"""

import asyncio
import contextlib
import os
import socket
import ssl
import sys

import pytest

KINDS = ["recorder", "buffered"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_written_before_an_exception_is_sent(same, kind):
    def body(stage):
        def data(protocol, arg):
            protocol.transport.write(b"what went wrong")
            raise ValueError

        protocol = getattr(stage, kind)(data=data)
        transport, peer = stage.connect(protocol)
        peer.send(b"hello")
        stage.until(lambda: protocol.lost)
        return protocol.events, peer.ending()

    assert same(body)["result"][1][0] == b"what went wrong"


def test_certificate_is_known_when_a_record_was_garbage(same, contexts, version):
    """The ssl module does not return it after that."""

    def body(stage):
        seen = []

        def lost(protocol, exc):
            info = protocol.transport.get_extra_info
            seen.append([info(name) for name in ("peercert", "cipher", "compression")])

        protocol = stage.recorder(lost=lost)
        transport, peer = stage.connect(protocol, context=contexts.client(version=version))
        peer.raw(b"\x17\x03\x03\x00\x20" + bytes(32))
        stage.until(lambda: protocol.lost)
        return seen, protocol.events

    ((peercert, cipher, _),), _ = same(body)["result"]
    assert "subjectAltName" in peercert and cipher[2] >= 128


# Nested turns


def turns(stage):
    for _ in range(5):
        stage.loop._run_once()


def test_data_of_a_turn_within_comes_after_what_is_in_hand(stage):
    """The protocol's buffer is full, so the outer turn has more data."""

    def data(protocol, count):
        if len(protocol.events) == 2:
            protocol.transport.pause_reading()
            peer.send(b"later")
            turns(stage)
            protocol.transport.resume_reading()

    protocol = stage.buffered(size=4, data=data)
    transport, peer = stage.connect(protocol)
    peer.raw(peer.encrypt(b"what is ") + peer.encrypt(b"in hand "))
    stage.until(lambda: len(protocol.data) == 21)
    assert protocol.data == b"what is in hand later"


@pytest.mark.parametrize("kind, method", [("recorder", "data"), ("buffered", "data"), ("buffered", "get_buffer")])
def test_lost_and_forgotten_in_a_turn_within(enters_contexts_again, stage, kind, method):
    def hook(protocol, *args):
        if armed:
            protocol.transport.abort()
            turns(stage)
            protocol.transport.close()
            protocol.transport.close()
        return protocol.buffer if method == "get_buffer" else None

    armed = []
    protocol = getattr(stage, kind)(**{method: hook})
    transport, peer = stage.connect(protocol)
    armed.append(1)
    peer.send(b"hello")
    stage.until(lambda: protocol.lost)
    stage.settle()
    assert protocol.lost == 1


# Attributes with side effects


def test_protocol_is_changed_when_asked_for_connection_lost(stage):
    class Changing(stage.recorder):
        @property
        def connection_lost(self):
            self.transport.set_protocol(stage.recorder())
            return super().connection_lost

    transport, peer = stage.connect(Changing())
    seen = transport.get_protocol().events
    transport.abort()
    stage.until(lambda: seen[-1] == ("lost", None))


@pytest.mark.parametrize("asked", ["get_extra_info", "close"])
def test_transport_below_that_is_lost_as_it_is_asked(alone, asked):
    """Python goes on with __getattr__(), so it must still be there."""
    gone, seen = [], []

    class Below:
        def write(self, data):
            pass

        def __getattribute__(self, name):
            if name == asked:
                transport.connection_lost(None)
                raise AttributeError(name)
            return super().__getattribute__(name)

        def __getattr__(self, name):
            seen.append((name, list(gone)))
            return lambda *args: "found"

        def __del__(self):
            gone.append(1)

    transport, peer = alone.connect(alone.recorder())
    raw = transport._transport
    transport.connection_made(Below())
    if asked == "close":
        peer.raw(peer.close_notify())
        alone.until(lambda: gone)
    else:
        assert transport.get_extra_info("peername") == "found"
    raw.abort()
    assert seen == [(asked, [])] and gone == [1]


def test_connection_that_is_lost_as_the_name_of_its_info_is_hashed(alone):
    """What is kept of it must still be there: another dict gets the memory of one that is freed."""
    others = []

    class Name(str):
        __eq__ = str.__eq__

        def __hash__(self):
            transport.connection_lost(None)
            transport.close()  # the second one forgets what the first keeps
            transport.close()
            others.extend({"cipher": "another"} for _ in range(20))
            return hash(str(self))

    transport, peer = alone.connect(alone.recorder())
    raw, cipher = transport._transport, transport.get_extra_info("cipher")
    assert transport.get_extra_info(Name("cipher")) == cipher
    assert transport.get_extra_info("cipher") is None and others
    raw.abort()


def test_connection_made_by_hand_with_another_transport(alone):
    """Not one of ours."""

    class Other:
        def __init__(self):
            self.written = []

        def write(self, data):
            self.written.append(data)

        def abort(self):
            self.written.append("abort")

        def close(self):
            pass

    transport, peer = alone.connect(alone.recorder())
    raw, other = transport._transport, Other()
    transport.connection_made(other)
    transport.write(b"data")
    transport.abort()
    raw.abort()
    assert other.written[-1] == "abort" and b"".join(other.written[:-1])


class Within(asyncio.Protocol, asyncio.DatagramProtocol):
    """What another transport gets in a nested turn."""

    def __init__(self):
        self.data = b""

    def data_received(self, data):
        self.data += data

    def datagram_received(self, data, addr):
        self.data += data


async def udp(loop, stack):
    transport, protocol = await loop.create_datagram_endpoint(Within, local_addr=("127.0.0.1", 0))
    sender = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    sender.connect(transport.get_extra_info("sockname"))
    return transport, protocol, lambda data: sender.send(data)


async def tcp(loop, stack):
    ours, theirs = socket.socketpair()
    stack.enter_context(theirs).setblocking(False)
    transport, protocol = await loop.create_connection(Within, sock=ours)
    return transport, protocol, lambda data: theirs.send(data)


async def pipe(loop, stack):
    reading, writing = os.pipe()
    transport, protocol = await loop.connect_read_pipe(Within, open(reading, "rb", 0))
    sink = stack.enter_context(open(writing, "wb", 0))
    return transport, protocol, sink.write


@pytest.mark.parametrize("kind", ["recorder", "buffered"])
@pytest.mark.parametrize("other", [udp, tcp, pipe])
def test_what_others_get_in_a_turn_within_leaves_what_is_in_hand_alone(enters_contexts_again, stage, kind, other):
    """TLS reads in the buffer that all transports of the loop receive into: a datagram overwrote it."""
    within = []

    def data(protocol, *args):
        if not within:
            within.append(1)
            send(b"U" * 20000)
            for _ in range(100):
                turns(stage)
                if len(received.data) == 20000:
                    break

    with contextlib.ExitStack() as stack:
        transport, received, send = stage.loop.run_until_complete(other(stage.loop, stack))
        options = {"size": 1000} if kind == "buffered" else {}
        protocol = getattr(stage, kind)(data=data, **options)
        _, peer = stage.connect(protocol)
        peer.raw(b"".join(peer.encrypt(bytes([65 + n]) * 1000) for n in range(8)))
        stage.until(lambda: len(protocol.data) == 8000)
        assert protocol.data == b"".join(bytes([65 + n]) * 1000 for n in range(8))
        assert received.data == b"U" * 20000
        transport.close()
        stage.turn()
        stage.turn()
    assert stage.reports == []


def test_connection_that_is_lost_while_a_callback_refuses_it(alone):
    """What OpenSSL says of it then is of no interest."""

    def refuse(*args):
        peer.reset()
        turns(alone)
        return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR

    context = alone.contexts.server()
    context.sni_callback = refuse
    protocol = alone.recorder()
    with alone.unwarned():
        task, peer = alone.begin(protocol, "server", context=context)
        peer.attempt(peer.tls.do_handshake)
        assert alone.outcome(task)[0] == "ConnectionResetError"
        context.sni_callback = None
    assert protocol.events == [] and alone.reports == []


@pytest.mark.skipif(
    "CLOOP_TLS" in os.environ, reason="CLOOP_TLS is set: then the object is used, which asyncio's fails with"
)
def test_object_of_the_ssl_module_that_loses_the_library_s(alone):
    """That was freed, and read from all the same. asyncio's own transport fails."""
    protocol = alone.recorder()
    transport, peer = alone.connect(protocol)
    transport.get_extra_info("ssl_object")._sslobj = None
    in_its_place = [alone.peer(alone, None, alone.contexts.usual_client(), server_hostname="x") for _ in range(50)]
    peer.send(b"to us")
    alone.until(lambda: protocol.data or protocol.lost)
    transport.write(b"from us")
    assert protocol.data == b"to us" and peer.receive(7) == b"from us"
    transport.abort()
    alone.settle()
    assert protocol.lost and in_its_place and alone.reports == []


@pytest.mark.parametrize("failing", ["_create_connection_transport", "_accept_connection2"])
def test_maker_of_a_connection_hears_that_its_future_failed(new_loop, loop_class, loop_kind, contexts, failing):
    """It was released before it had its result."""
    if loop_kind == "asyncio":
        pytest.skip("asyncio's maker waits for ever")

    class Future(asyncio.Future):
        def set_result(self, value):
            raise MemoryError

    class Loop(loop_class):
        def create_future(self):
            return Future(loop=self) if sys._getframe(1).f_code.co_name == failing else super().create_future()

    async def echo(reader, writer):
        writer.write(await reader.readexactly(4))
        writer.close()

    async def main():
        server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=contexts.server())
        try:
            address = server.sockets[0].getsockname()
            reader, writer = await asyncio.open_connection(*address, ssl=contexts.client(), server_hostname="localhost")
            try:
                writer.write(b"data")
                return await reader.read(4)
            finally:
                writer.close()
        finally:
            server.close()

    loop = new_loop(Loop)
    reports = []
    loop.set_exception_handler(lambda loop, context: reports.append(context["message"]))
    task = loop.create_task(main())
    loop.run_until_complete(asyncio.wait([task], timeout=5))
    assert task.done()
    if failing == "_create_connection_transport":
        assert isinstance(task.exception(), MemoryError)
    else:
        assert isinstance(task.exception(), ConnectionError) or task.result() in (b"", b"data")
    for _ in range(3):
        others = asyncio.all_tasks(loop)
        if others:
            loop.run_until_complete(asyncio.wait(others, timeout=5))
    assert not asyncio.all_tasks(loop)
    loop.run_until_complete(asyncio.sleep(0.01))
    assert reports
