"""loop.start_tls(): upgrades an open connection to TLS."""

import asyncio
import contextlib
import inspect
import socket
import ssl
import sys
from asyncio import base_events

import pytest

TIMEOUTS = [
    name
    for name in ("ssl_handshake_timeout", "ssl_shutdown_timeout")
    if name in inspect.signature(asyncio.AbstractEventLoop.start_tls).parameters
]


class Tls:
    """TLS for a socket, driven by hand, so that the test decides what goes into one segment."""

    def __init__(self, context, **options):
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, **options)

    async def drive(self, loop, sock, function, *args):
        """Calls the function until it has read all it wants."""
        while True:
            try:
                result = function(*args)
            except ssl.SSLWantReadError:
                await loop.sock_sendall(sock, self.outgoing.read())
                self.incoming.write(await loop.sock_recv(sock, 65536))
            else:
                await loop.sock_sendall(sock, self.outgoing.read())
                return result

    def hello(self):
        with pytest.raises(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self.outgoing.read()


KEEPS = "StreamReaderProtocol" in base_events.BaseEventLoop.start_tls.__code__.co_names


@pytest.mark.parametrize("early", ["nothing", "the ClientHello", "half of it"])
def test_client_hello_that_came_with_the_request_for_tls(loop, loop_kind, server_context, client_context, early):
    if loop_kind == "asyncio" and not KEEPS and early != "nothing":
        pytest.skip("this asyncio loses it")

    async def serve(reader, writer):
        assert await reader.readline() == b"STARTTLS\n"
        writer.write(b"go\n")
        protocol = writer.transport.get_protocol()
        transport = await loop.start_tls(writer.transport, protocol, server_context, server_side=True)
        protocol._transport = transport
        reader._transport = transport
        transport.write(b"secret " + await reader.readline())
        transport.close()

    async def main():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        sock = socket.create_connection(server.sockets[0].getsockname())
        sock.setblocking(False)
        tls = Tls(client_context, server_hostname="localhost")
        hello = tls.hello()
        cut = {"nothing": 0, "the ClientHello": len(hello), "half of it": len(hello) // 2}[early]
        await loop.sock_sendall(sock, b"STARTTLS\n" + hello[:cut])
        assert await loop.sock_recv(sock, 3) == b"go\n"
        await loop.sock_sendall(sock, hello[cut:])
        await tls.drive(loop, sock, tls.tls.do_handshake)
        await tls.drive(loop, sock, tls.tls.write, b"word\n")
        answer = await tls.drive(loop, sock, tls.tls.read, 100)
        sock.close()
        server.close()
        await server.wait_closed()
        return answer

    assert loop.run_until_complete(asyncio.wait_for(main(), 30)) == b"secret word\n"


def test_what_came_with_the_request_stays_in_order_if_tls_cannot_begin(loop, server_context):
    """It was taken from the reader before the arguments were looked at, and put back after what came next."""

    async def serve(reader, writer):
        told = [await reader.readline()]
        protocol = writer.transport.get_protocol()
        with pytest.raises(ValueError):
            await loop.start_tls(writer.transport, protocol, server_context, server_side=True, ssl_handshake_timeout=0)
        told.append(bytes(reader._buffer))
        sock.send(b" last")
        told.append(await reader.readexactly(10))
        writer.close()
        served.set_result(told)

    async def main():
        nonlocal served, sock
        served = loop.create_future()
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        with socket.create_connection(server.sockets[0].getsockname()) as sock:
            sock.send(b"STARTTLS\nfirst")
            told = await served
        server.close()
        return told

    served = sock = None
    assert loop.run_until_complete(asyncio.wait_for(main(), 30)) == [b"STARTTLS\n", b"first", b"first last"]


# Upgrades, with a peer driven by hand


@pytest.fixture(params=["unix", "tcp"])
def kind(request):
    return request.param


def plain_connection(stage, protocol, kind="unix"):
    """A connection without TLS; returns its transport, and the socket at the other end."""
    ours, theirs = stage.pair(kind)

    async def main():
        return await stage.loop.create_connection(lambda: protocol, sock=ours)

    return stage.keep(stage.run(main())[0]), theirs


def upgrade(stage, transport, protocol, side, context=None, **options):
    if side == "client":
        options.setdefault("server_hostname", "localhost")
    contexts = stage.contexts
    context = context or (contexts.usual_client() if side == "client" else contexts.usual_server())
    upgrading = stage.loop.start_tls(transport, protocol, context, server_side=side == "server", **options)
    return stage.loop.create_task(upgrading)


def other_end(stage, sock, side, context=None):
    if side == "client":
        return stage.peer(stage, sock, context or stage.contexts.usual_server(), server_side=True)
    return stage.peer(stage, sock, context or stage.contexts.usual_client(), server_hostname="localhost")


def upgraded(stage, protocol, side, kind="unix", **options):
    below, sock = plain_connection(stage, protocol, kind)
    task = upgrade(stage, below, protocol, side, **options)
    peer = other_end(stage, sock, side)
    peer.handshake()
    stage.until(task.done)
    stage.settle()
    return stage.keep(task.result()), peer, below


@pytest.mark.parametrize("buffered", [False, True])
def test_upgrade(same, side, kind, buffered):
    def body(stage):
        protocol = stage.buffered() if buffered else stage.recorder()
        transport, peer, below = upgraded(stage, protocol, side, kind)
        told = below is not transport, transport.get_protocol() is protocol, below.get_protocol() is not protocol
        told += isinstance(transport, asyncio.Transport), transport.get_extra_info("cipher") is not None
        told += transport.get_extra_info("socket") is below.get_extra_info("socket"), transport.is_reading()
        transport.write(b"to the peer")
        told += (peer.receive(11),)
        peer.send(b"from the peer")
        stage.until(lambda: protocol.data)
        transport.close()
        told += transport.is_closing(), peer.ending()
        peer.close()
        stage.until(lambda: protocol.lost)
        stage.settle()
        return told, protocol.story, below.is_closing()

    told, story, closing = same(body)["result"]
    assert all(told[:7]) and story[:2] == [("made",), ("data", b"from the peer")] and story[-1] == ("lost", None)


def test_connection_is_not_made_again(same, side):
    def body(stage):
        protocol = stage.recorder()
        upgraded(stage, protocol, side)
        return protocol.story

    assert same(body)["result"] == [("made",)]


def test_upgrade_to_another_protocol(same, side):
    def body(stage):
        first, second = stage.recorder(), stage.recorder()
        below, sock = plain_connection(stage, first)
        task = upgrade(stage, below, second, side)
        peer = other_end(stage, sock, side)
        peer.handshake()
        stage.until(task.done)
        stage.keep(task.result())
        peer.send(b"data")
        stage.until(lambda: second.data)
        peer.raw(peer.close_notify())
        peer.half_close()
        stage.until(lambda: second.lost)
        stage.settle()
        return first.story, second.story

    first, second = same(body)["result"]
    assert first == [("made",)] and second[0] == ("data", b"data") and second[-1] == ("lost", None)


def test_plain_bytes_written_before_go_first(stage, side):
    """(asyncio reports an AssertionError in between.)"""
    protocol = stage.recorder()
    below, sock = plain_connection(stage, protocol)
    below.write(b"plain" * 100000)
    task = upgrade(stage, below, protocol, side)
    got = b""

    def receive():
        nonlocal got
        with contextlib.suppress(BlockingIOError):
            got += sock.recv(500000 - len(got))
        return len(got) == 500000

    stage.until(receive)
    assert got == b"plain" * 100000
    peer = other_end(stage, sock, side)
    peer.handshake()
    stage.until(task.done)
    stage.keep(task.result()).write(b"encrypted")
    assert peer.receive(9) == b"encrypted"


# While writing is paused. From 3.11 on, asyncio does not call resume_writing(): drain() waits for ever.


def paused_connection(stage, protocol, kind="unix"):
    """A connection without TLS whose protocol is paused; returns its transport, the socket at the other end, and how
    many bytes must be received there first.
    """
    below, sock = plain_connection(stage, protocol, kind)
    below.write(b"p" * (8 << 20))
    assert protocol.story[-1] == ("pause",)
    return below, sock, 8 << 20


def take_plain(stage, sock, size):
    got = 0

    def received():
        nonlocal got
        with contextlib.suppress(BlockingIOError):
            data = sock.recv(min(size - got, 1 << 18))
            assert data == b"p" * len(data)
            got += len(data)
        return got == size

    stage.until(received)


def flow(protocol):
    return [event[0] for event in protocol.story if event[0] in ("pause", "resume")]


def pass_data(stage, transport, protocol, peer):
    """More than the buffers hold, to the peer, and something back."""
    data = bytes(range(256)) * (8 << 12)
    transport.write(data)
    transport.write(data)  # the transport below takes all of the first
    assert peer.receive(2 * len(data)) == 2 * data
    peer.send(b"data")
    stage.until(lambda: protocol.data == b"data")


def test_upgrade_while_paused(alone, side, kind):
    protocol = alone.recorder()
    below, sock, size = paused_connection(alone, protocol, kind)
    task = upgrade(alone, below, protocol, side)
    alone.settle()
    assert flow(protocol) == ["pause"] and not task.done()
    take_plain(alone, sock, size)
    alone.until(lambda: flow(protocol) == ["pause", "resume"])
    peer = other_end(alone, sock, side)
    peer.handshake()
    alone.until(task.done)
    transport = alone.keep(task.result())
    assert flow(protocol) == ["pause", "resume"]
    pass_data(alone, transport, protocol, peer)
    alone.settle()
    assert flow(protocol) == ["pause", "resume"] * 2  # told of each pause, and of its end
    assert alone.reports == []


def test_upgrade_while_paused_to_another_protocol(alone, side):
    """It was not told to pause. Before 3.11 resume_writing() is called, as the transport below passes everything on."""
    first, second = alone.recorder(), alone.recorder()
    below, sock, size = paused_connection(alone, first)
    task = upgrade(alone, below, second, side)
    take_plain(alone, sock, size)
    peer = other_end(alone, sock, side)
    peer.handshake()
    alone.until(task.done)
    assert flow(second) == (["resume"] if sys.version_info < (3, 11) else [])
    second.events.clear()
    pass_data(alone, alone.keep(task.result()), second, peer)
    alone.settle()
    assert flow(second) == ["pause", "resume"]
    assert flow(first) == ["pause"] and alone.reports == []


@pytest.mark.parametrize("waits", [True, False])
def test_upgrade_while_paused_to_a_protocol_that_says_whether_it_waits(alone, side, waits):
    """Like stream protocols, and something similar."""
    first, second = alone.recorder(), alone.recorder()
    second._paused = waits
    below, sock, size = paused_connection(alone, first)
    task = upgrade(alone, below, second, side)
    take_plain(alone, sock, size)
    peer = other_end(alone, sock, side)
    peer.handshake()
    alone.until(task.done)
    assert flow(second) == ["resume"] * waits
    alone.keep(task.result())


@pytest.mark.parametrize("when", ["before", "meanwhile", "after"])
def test_water_marks_changed_while_paused(alone, side, when):
    protocol = alone.recorder()
    below, sock, size = paused_connection(alone, protocol)
    if when == "before":
        below.set_write_buffer_limits(high=1000, low=0)
    task = upgrade(alone, below, protocol, side)
    if when == "meanwhile":
        alone.settle()
        below.set_write_buffer_limits(high=1 << 22, low=1 << 20)
    take_plain(alone, sock, size)
    peer = other_end(alone, sock, side)
    peer.handshake()
    alone.until(task.done)
    transport = alone.keep(task.result())
    if when == "after":
        transport.set_write_buffer_limits(high=2000)
        transport.set_write_buffer_limits(high=2000, low=10)
    pass_data(alone, transport, protocol, peer)
    alone.settle()
    assert flow(protocol) == ["pause", "resume"] * 2


@pytest.mark.parametrize("how", ["reset", "eof", "cancelled", "abort"])
def test_paused_protocol_when_the_upgrade_fails(alone, contexts, side, how):
    """Either connection_lost() or resume_writing() is called. (asyncio calls neither if the connection breaks during
    the handshake.)
    """
    protocol = alone.recorder()
    below, sock, size = paused_connection(alone, protocol, "tcp")
    task = upgrade(alone, below, protocol, side)
    with alone.unwarned():
        alone.settle()
        if how == "reset":
            other_end(alone, sock, side).reset()
        elif how == "eof":
            sock.shutdown(socket.SHUT_WR)
        elif how == "abort":
            below.abort()
        else:
            task.cancel()
        alone.outcome(task)
        closed = how == "cancelled" or (how == "eof" and sys.version_info < (3, 11))
        if closed:  # the transport below: earlier writes go first
            take_plain(alone, sock, size)
        alone.until(lambda: protocol.story[-1] != ("pause",))
        alone.settle()
    assert [event[0] for event in protocol.story[2:]] == ["resume" if closed else "lost"]


def test_drain_that_waits_when_tls_comes(alone, side, kind):
    """loop.start_tls() while another task waits in drain(), with the streams' protocol."""

    async def main():
        ours, sock = alone.pair(kind)
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        below, _ = await alone.loop.create_connection(lambda: protocol, sock=ours)
        writer = asyncio.StreamWriter(alone.keep(below), protocol, reader, alone.loop)
        writer.write(b"p" * (8 << 20))
        draining = alone.loop.create_task(writer.drain())
        await asyncio.sleep(0)
        upgrading = upgrade(alone, below, protocol, side)
        await asyncio.sleep(0)
        assert not draining.done()
        left = 8 << 20
        while left:
            left -= len(await alone.loop.sock_recv(sock, min(left, 1 << 18)))
        await draining
        peer = other_end(alone, sock, side)
        while not upgrading.done():
            peer.attempt(peer.tls.do_handshake)
            await asyncio.sleep(0)
        encrypted = asyncio.StreamWriter(alone.keep(upgrading.result()), protocol, reader, alone.loop)
        encrypted.write(b"encrypted")
        await encrypted.drain()
        while True:
            got = peer.attempt(peer.tls.read, 100)
            if got:
                return got
            await asyncio.sleep(0)

    assert alone.run(main()) == b"encrypted"
    assert alone.reports == []


# Failures


@pytest.mark.parametrize("how", ["certificate", "garbage", "eof", "reset", "timeout", "cancelled"])
def test_failure(same, contexts, side, how):
    """What happens to the transport below, and which methods of its protocol are called."""

    def body(stage):
        protocol = stage.recorder()
        below, sock = plain_connection(stage, protocol, "tcp")
        context = None
        if side == "client":
            context = contexts.client(authority=contexts.other_authority)
        task = upgrade(stage, below, protocol, side, context, **{TIMEOUTS[0]: 0.02} if how == "timeout" else {})
        with stage.unwarned():
            stage.settle()
            other = contexts.client(authority=contexts.other_authority) if side == "server" else None
            peer = other_end(stage, sock, side, other)
            if how == "certificate":
                peer.fate()
                peer.half_close()
            elif how == "garbage":
                peer.raw(b"GET / HTTP/1.0\r\n\r\n")
            elif how == "eof":
                peer.half_close()
            elif how == "reset":
                peer.reset()
            elif how == "cancelled":
                task.cancel()
            outcome = stage.outcome(task)
            stage.settle()
            told = below.is_closing(), below.get_extra_info("socket").fileno() == -1, protocol.story
            below.close()
            below.abort()
            stage.settle()
            return outcome, told, protocol.story

    outcome, told, _ = same(body)["result"]
    assert outcome != "done" and told[0]


@pytest.mark.parametrize("how", ["abort", "close"])
def test_connection_that_ends_during_the_handshake(same, side, how):
    """There is no transport, as the protocol is not told that it was lost. It got one, and waited for ever."""

    def body(stage):
        protocol = stage.recorder()
        below, _ = plain_connection(stage, protocol)
        task = upgrade(stage, below, protocol, side)
        stage.settle()
        getattr(below, how)()
        stage.until(task.done)
        return task.result(), protocol.story

    assert same(body)["result"] == (None, [("made",)])


@pytest.mark.parametrize("sslcontext", [None, True, "context", object()], ids=["None", "True", "a string", "object()"])
def test_context_that_is_none(same, sslcontext):
    def body(stage):
        protocol = stage.recorder()
        below, sock = plain_connection(stage, protocol)
        told = stage.attempt(lambda: stage.loop.start_tls(below, protocol, sslcontext))
        sock.send(b"still plain")
        stage.until(lambda: protocol.data)
        return told, protocol.data, below.get_protocol() is protocol

    (error, text), data, kept = same(body)["result"]
    assert error == "TypeError" and text.startswith("sslcontext is expected to be an instance of ssl.SSLContext")
    assert data == b"still plain" and kept


@pytest.mark.parametrize("transport", [None, object, asyncio.Transport, asyncio.ReadTransport], ids=str)
def test_transport_that_cannot(same, contexts, transport):
    def body(stage):
        return stage.attempt(
            lambda: stage.loop.start_tls(transport() if transport else None, stage.recorder(), contexts.usual_client())
        )

    error, text = same(body)["result"]
    assert error == "TypeError" and text.endswith("is not supported by start_tls()")


def test_datagrams_cannot(same, contexts):
    def body(stage):
        async def main():
            transport, _ = await stage.loop.create_datagram_endpoint(
                asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
            )
            try:
                await stage.loop.start_tls(transport, stage.recorder(), contexts.usual_client())
            finally:
                transport.close()
                await asyncio.sleep(0)

        error, text = stage.attempt(main)
        return error, text.split()[0], text.split(">")[-1]

    assert same(body)["result"] == ("TypeError", "transport", " is not supported by start_tls()")


@pytest.mark.parametrize("name", TIMEOUTS)
@pytest.mark.parametrize("value", [0, -1, "soon"])
def test_wrong_timeouts(same, contexts, name, value):
    def body(stage):
        protocol = stage.recorder()
        below, sock = plain_connection(stage, protocol)
        told = stage.attempt(lambda: stage.loop.start_tls(below, protocol, contexts.usual_client(), **{name: value}))
        return told, below.get_protocol() is protocol, below.is_reading(), below.is_closing()

    assert same(body)["result"][0][0] in ("ValueError", "TypeError")


# Streams

needs_stream_writer = pytest.mark.skipif(not hasattr(asyncio.StreamWriter, "start_tls"), reason="Python 3.11 has it")


@needs_stream_writer
def test_stream_writers(same, contexts):
    def body(stage):
        async def serve(reader, writer):
            assert await reader.readline() == b"STARTTLS\n"
            writer.write(b"go\n")
            await writer.start_tls(contexts.usual_server())
            line = await reader.readline()
            writer.write(line.upper())
            await writer.drain()
            rest = await reader.read()
            served.set_result((line, rest, writer.get_extra_info("cipher") is not None))
            writer.close()

        async def main():
            nonlocal served
            served = stage.loop.create_future()
            server = await asyncio.start_server(serve, "127.0.0.1", 0)
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"STARTTLS\n")
            assert await reader.readline() == b"go\n"
            await writer.start_tls(contexts.usual_client(), server_hostname="localhost")
            writer.write(b"secret\n")
            answer = await reader.readline()
            writer.close()
            await writer.wait_closed()
            told = await served
            server.close()
            return answer, told

        served = None
        return stage.run(main())

    assert same(body)["result"] == (b"SECRET\n", (b"secret\n", b"", True))


@needs_stream_writer
def test_stream_writer_whose_handshake_fails(same, contexts):
    def body(stage):
        async def serve(reader, writer):
            try:
                await writer.start_tls(contexts.usual_server())
            except Exception as error:
                served.set_result(type(error).__name__)
            writer.close()

        async def main():
            nonlocal served
            served = stage.loop.create_future()
            server = await asyncio.start_server(serve, "127.0.0.1", 0)
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            try:
                await writer.start_tls(contexts.client(authority=contexts.other_authority), server_hostname="localhost")
            except ssl.SSLError as error:
                told = stage.describe(error)
            writer.close()
            server.close()
            return told, await served, writer.transport.is_closing()

        served = None
        with stage.unwarned():
            return stage.run(main())

    assert same(body)["result"][0][0] == "SSLCertVerificationError"


# TLS in TLS


def can_be_nested(stage):
    transport, _ = stage.connect(stage.recorder())
    return getattr(transport, "_start_tls_compatible", False)


@pytest.mark.parametrize("end", ["close", "abort", "peer", "peer, outer only", "unclean"])
def test_tls_in_tls(same, end):
    """Our client speaks TLS to a server behind another TLS server; the peer is driven by hand, twice."""

    def body(stage):
        if not can_be_nested(stage):
            return "cannot"
        protocol = stage.recorder()
        outer, outer_peer = stage.connect(protocol)
        task = upgrade(stage, outer, protocol, "client")
        inner_peer = other_end(stage, None, "client")
        stage.settle()

        def exchange():
            """Moves data that is encrypted twice between the peers' layers."""
            outer_peer.pull()
            try:
                while True:
                    data = outer_peer.tls.read(1 << 16)
                    if not data:
                        break
                    inner_peer.incoming.write(data)
            except ssl.SSLError:
                pass
            data = inner_peer.outgoing.read()
            if data:
                outer_peer.send(data)

        def done(function, *args):
            results = []

            def attempt():
                exchange()
                try:
                    results.append(function(*args))
                except ssl.SSLWantReadError:
                    pass
                exchange()
                return results

            stage.until(attempt)
            return results[0]

        done(inner_peer.tls.do_handshake)
        stage.until(task.done)
        inner = stage.keep(task.result())
        inner.write(b"to the innermost")
        told = [done(inner_peer.tls.read, 16)]
        inner_peer.tls.write(b"from the innermost")
        exchange()
        stage.until(lambda: len(protocol.data) == 18)
        if end in ("close", "abort"):
            getattr(inner, end)()
            stage.settle()
        if end in ("close", "peer"):
            exchange()
            inner_peer.outgoing.write(inner_peer.close_notify())
            exchange()
        if end != "unclean":
            stage.settle()
            with contextlib.suppress(ConnectionError):
                outer_peer.raw(outer_peer.close_notify())
        stage.settle()
        outer_peer.half_close()
        stage.until(lambda: protocol.lost)
        stage.settle()
        assert protocol.lost == 1
        return told, protocol.story, inner.is_closing(), outer.is_closing()

    result = same(body)["result"]
    assert result == "cannot" or result[1][:2] == [("made",), ("data", b"from the innermost")]


@pytest.mark.parametrize("size", [1, 20000, 500000])
def test_tls_in_tls_carries_data(same, size):
    data = bytes(range(250)) * (size // 250) + bytes(size % 250)

    def body(stage):
        if not can_be_nested(stage):
            return "cannot"
        ours, theirs = stage.recorder(), stage.recorder()
        client, server = stage.couple(ours, theirs)
        tasks = upgrade(stage, client, ours, "client"), upgrade(stage, server, theirs, "server")
        stage.until(lambda: all(task.done() for task in tasks))
        client, server = (stage.keep(task.result()) for task in tasks)
        theirs.hooks["data"] = lambda protocol, data: server.write(data)
        client.write(data)
        stage.until(lambda: len(ours.data) >= len(data))
        client.close()
        stage.until(lambda: ours.lost and theirs.lost)
        stage.settle()
        return ours.data == data, theirs.data == data, ours.lost, theirs.lost

    assert same(body)["result"] in ("cannot", (True, True, 1, 1))


def test_tls_in_tls_while_paused(alone):
    """The outer transport has paused its protocol when the inner one takes over."""
    if not can_be_nested(alone):
        pytest.skip("asyncio of this version has no TLS in TLS")
    ours, theirs = alone.recorder(), alone.recorder()
    client, server = alone.couple(ours, theirs)
    server.pause_reading()
    data = bytes(8 << 20)
    client.write(data)
    client.write(data)
    alone.settle()
    assert flow(ours) == ["pause"]
    upgrading = upgrade(alone, client, ours, "client")
    alone.settle()
    assert flow(ours) == ["pause"]
    server.resume_reading()
    alone.until(lambda: theirs.count("data") and flow(ours) == ["pause", "resume"])
    alone.until(lambda: len(theirs.data) > 2 * len(data))  # the ClientHello comes after all
    upgrading.cancel()
    alone.settle()
    assert alone.reports == []


def test_tls_in_tls_whose_peer_sends_on_after_close(alone):
    """What the inner transport holds is sent before the outer one closes."""
    if not can_be_nested(alone):
        pytest.skip("asyncio of this version has no TLS in TLS")
    ours, theirs = alone.recorder(), alone.recorder()
    client, server = alone.couple(ours, theirs)
    tasks = upgrade(alone, client, ours, "client"), upgrade(alone, server, theirs, "server")
    alone.until(lambda: all(task.done() for task in tasks))
    inner_client, inner_server = (alone.keep(task.result()) for task in tasks)
    server.pause_reading()
    data = bytes(8 << 20)
    for _ in range(3):
        inner_client.write(data)
    inner_client.close()
    alone.settle()
    inner_server.write(b"late")
    alone.settle()
    server.resume_reading()
    alone.until(lambda: ours.lost and theirs.lost)
    assert len(theirs.data) == 3 * len(data)
    assert ours.story[-1] == ("lost", None) and alone.reports == []


# On a transport written in Python


class Wrapped(asyncio.Transport):
    """Forwards everything to another transport, and counts."""

    _start_tls_compatible = True

    def __init__(self, below):
        super().__init__()
        self.below = below
        self.calls = {}

    def count(self, name):
        self.calls[name] = self.calls.get(name, 0) + 1

    def write(self, data):
        assert isinstance(data, (bytes, bytearray, memoryview))
        self.count("write")
        self.below.write(data)

    def set_protocol(self, protocol):
        self.count("set_protocol")
        self.below.set_protocol(protocol)

    def get_protocol(self):
        return self.below.get_protocol()

    def pause_reading(self):
        self.count("pause_reading")
        self.below.pause_reading()

    def resume_reading(self):
        self.count("resume_reading")
        self.below.resume_reading()

    def is_reading(self):
        return self.below.is_reading()

    def is_closing(self):
        return self.below.is_closing()

    def close(self):
        self.count("close")
        self.below.close()

    def abort(self):
        self.count("abort")
        self.below.abort()

    def _force_close(self, exc):
        self.count("abort")
        self.below._force_close(exc)

    def get_extra_info(self, name, default=None):
        return "wrapped" if name == "wrapping" else self.below.get_extra_info(name, default)

    def get_write_buffer_size(self):
        return self.below.get_write_buffer_size()

    def set_write_buffer_limits(self, high=None, low=None):
        self.below.set_write_buffer_limits(high, low)


@pytest.mark.parametrize("end", ["close", "abort", "peer", "unclean", "lost"])
def test_over_a_transport_of_python(same, side, end):
    def body(stage):
        protocol = stage.recorder()
        below, sock = plain_connection(stage, protocol)
        wrapped = Wrapped(below)
        task = upgrade(stage, wrapped, protocol, side)
        peer = other_end(stage, sock, side)
        peer.handshake()
        stage.until(task.done)
        transport = stage.keep(task.result())
        stage.settle()
        told = [transport.get_extra_info("wrapping"), transport.get_extra_info("cipher") is not None]
        data = bytes(200000)
        transport.write(data)
        told.append(peer.receive(len(data)) == data)
        peer.send(data)
        stage.until(lambda: len(protocol.data) == len(data))
        transport.pause_reading()
        peer.send(b"more")
        stage.settle()
        told.append(len(protocol.data))
        transport.resume_reading()
        stage.until(lambda: protocol.data.endswith(b"more"))
        if end == "close":
            transport.close()
            told += peer.ending()
            peer.close()
        elif end == "abort":
            transport.abort()
        elif end == "peer":
            peer.raw(peer.close_notify())
            peer.close()
        elif end == "unclean":
            peer.close()
        else:
            below.abort()
        stage.until(lambda: protocol.lost)
        stage.settle()
        told.append({name for name in ("close", "abort") if name in wrapped.calls})
        story = [event for event in protocol.story if event[0] not in ("data", "pause", "resume")]
        if end == "peer" and sys.version_info < (3, 11):
            story[-1] = story[-1][:1]  # asyncio does not answer; the answer may fail, as nobody is there
        return told, story, stage.is_closing(transport)

    told, story, _ = same(body)["result"]
    assert told[:4] == ["wrapped", True, True, 200000] and story[-1][0] == "lost"


def test_is_closing_as_the_transport_below(alone):
    """Before connection_lost(). asyncio has it from 3.12.5 on."""

    def over(cls):
        protocol = alone.recorder()
        below, sock = plain_connection(alone, protocol)
        task = upgrade(alone, cls(below), protocol, "client")
        other_end(alone, sock, "client").handshake()
        alone.until(task.done)
        transport = alone.keep(task.result())
        alone.settle()
        return below, transport, protocol

    class Silent(Wrapped):
        is_closing = asyncio.Transport.is_closing

    for cls, tells in (Wrapped, True), (Silent, False):
        below, transport, protocol = over(cls)
        assert transport.is_closing() is False
        below.close()
        assert transport.is_closing() is tells
        alone.until(lambda protocol=protocol: protocol.lost)
        assert transport.is_closing() is True


def test_failure_over_a_transport_of_python(same, contexts):
    def body(stage):
        protocol = stage.recorder()
        below, sock = plain_connection(stage, protocol)
        wrapped = Wrapped(below)
        with stage.unwarned():
            context = contexts.client(authority=contexts.other_authority)
            task = upgrade(stage, wrapped, protocol, "client", context)
            other_end(stage, sock, "client").fate()
            told = stage.outcome(task)
            stage.settle()
        return told, below.is_closing(), protocol.story

    assert same(body)["result"][1]


def test_over_a_transport_of_python_while_paused(alone, side):
    """It does not say whether it has paused the protocol."""
    protocol = alone.recorder()
    below, sock, size = paused_connection(alone, protocol)
    task = upgrade(alone, Wrapped(below), protocol, side)
    take_plain(alone, sock, size)
    peer = other_end(alone, sock, side)
    peer.handshake()
    alone.until(task.done)
    transport = alone.keep(task.result())
    assert flow(protocol) == ["pause", "resume"]
    pass_data(alone, transport, protocol, peer)
    alone.settle()
    assert flow(protocol) == ["pause", "resume"] * 2


def test_of_a_closed_transport_is_none(loop):
    """aiohttp tells its user by that."""

    async def main():
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            transport, _ = await loop.create_connection(asyncio.Protocol, *listener.getsockname())
            transport.close()
            context = ssl.create_default_context()
            assert await loop.start_tls(transport, asyncio.Protocol(), context, server_hostname="h") is None

    loop.run_until_complete(main())


@pytest.mark.skipif(sys.version_info < (3, 11), reason="it has no backlog that waits for the end")
def test_transport_of_python_that_aborts_while_the_end_is_told_again(alone, side):
    class Aborting(Wrapped):
        armed = False

        def write(self, data):
            if self.armed:
                self.armed = False
                transport.abort()
            super().write(data)

    protocol = alone.recorder()
    below, sock = plain_connection(alone, protocol)
    wrapped = Aborting(below)
    task = upgrade(alone, wrapped, protocol, side)
    peer = other_end(alone, sock, side)
    peer.handshake()
    alone.until(task.done)
    transport = alone.keep(task.result())
    alone.settle()
    transport.pause_reading()
    peer.half_close()
    alone.settle()  # it waits until reading is resumed
    transport._test__append_write_backlog(b"data")
    wrapped.armed = True
    transport.eof_received()
    alone.until(lambda: protocol.lost)
    assert not wrapped.armed and not protocol.count("eof")
