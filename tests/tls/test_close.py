"""How TLS connections end."""

import asyncio
import gc
import inspect
import logging
import socket
import ssl
import sys
import time
import warnings
import weakref

import pytest

SHUTDOWN_TIMEOUT = "ssl_shutdown_timeout" in inspect.signature(asyncio.AbstractEventLoop.create_connection).parameters
needs_shutdown_timeout = pytest.mark.skipif(not SHUTDOWN_TIMEOUT, reason="asyncio of this version has none")


def raiser(error):
    def raise_it(*args):
        raise error("on purpose")

    return raise_it


def ended(stage, protocol):
    """Waits for the end, and for what should not follow it."""
    stage.until(lambda: protocol.lost)
    stage.settle()
    assert protocol.lost == 1
    return protocol.story


@pytest.fixture(params=["unix", "tcp"])
def kind(request):
    return request.param


# Our end closes


@pytest.mark.parametrize("end", ["close", "abort", "close, close"])
def test_closed_before_the_handshake_begins(alone, side, end):
    """As by a task that fails before it waits: the connection stayed open, and the peer waited. asyncio goes on.

    Closed twice, it forgot the object of the ssl module, though the library's was still used.
    """
    ours, peer = socket.socketpair()
    with peer:
        ours.setblocking(False)
        peer.settimeout(20)
        context = alone.contexts.server() if side == "server" else alone.contexts.client()
        options = {"server_side": True} if side == "server" else {"server_hostname": "localhost"}
        protocol, waiter = alone.recorder(), alone.loop.create_future()
        transport = alone.loop._make_ssl_transport(ours, protocol, context, waiter, **options)
        tls = transport._sslobj and weakref.ref(transport._sslobj)
        for method in end.split(", "):
            getattr(transport, method)()
        assert tls is None or tls() is not None
        alone.settle()
        assert ours.fileno() == -1 and peer.recv(100) == b""
        assert waiter.done() and transport.is_closing()
        waiter.cancelled() or waiter.exception()
    assert protocol.story == []


@pytest.mark.parametrize("size", [0, 1, 1000, 100000, 1000000])
def test_close_sends_what_was_written(same, side, size, kind):
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)

    def body(stage):
        protocol = stage.recorder()
        transport, peer = stage.connect(protocol, side, kind)
        transport.write(data)
        transport.close()
        closing = transport.is_closing()
        got, *how = peer.ending()
        peer.close()
        # Versions of asyncio differ in whether pause_writing() or resume_writing() is the last call.
        story = [event for event in ended(stage, protocol) if event[0] not in ("pause", "resume")]
        return closing, got == data, how, story

    closing, complete, how, _ = same(body)["result"]
    assert closing and complete and how[0] == "close_notify"


def test_close_with_something_left_to_read(alone, side):
    """From 3.11 on asyncio ends with an ssl.SSLError, and the peer cannot tell whether something was cut off."""

    def closes(protocol, *_):
        if protocol.count("data") == 1:
            protocol.transport.write(b"last")
            protocol.transport.close()

    protocol = alone.buffered(1, data=closes)
    transport, peer = alone.connect(protocol, side)
    peer.send(b"ten bytes.")
    assert peer.ending()[:2] == [b"last", "close_notify"]
    assert ended(alone, protocol)[-1] == ("lost", None)


def test_reading_is_paused_after_close(alone, side):
    """Before 3.11, where the end has no timeout, it never came."""
    protocol = alone.recorder()
    transport, peer = alone.connect(protocol, side)
    transport.close()
    transport.pause_reading()
    assert peer.ending()[:2] == [b"", "close_notify"]
    assert ended(alone, protocol) == [("made",), ("eof",), ("lost", None)][:: 1 if SHUTDOWN_TIMEOUT else 2]


@pytest.mark.parametrize("end", ["close_notify", "eof"])
@pytest.mark.parametrize("data", [b"", b"unread"])
def test_close_after_the_peer_has_ended_while_reading_is_paused(alone, side, end, data):
    """From 3.11 on: the end that waited to be read never came."""
    protocol = alone.recorder()
    transport, peer = alone.connect(protocol, side)
    if data:
        peer.send(data)
    transport.pause_reading()
    if end == "close_notify":
        peer.raw(peer.close_notify())
    peer.half_close()
    alone.settle()
    transport.write(b"late")
    transport.close()
    story = ended(alone, protocol)
    assert transport.is_closing() and story[0] == ("made",) and story[-1] == ("lost", None)
    assert b"".join(event[1] for event in story if event[0] == "data") in (b"", data)


@pytest.mark.parametrize("end", ["close_notify", "eof"])
def test_close_in_data_received_after_the_peer_has_ended(alone, side, end):
    def closes(protocol, data):
        protocol.transport.pause_reading()
        protocol.transport.close()

    protocol = alone.recorder(data=closes)
    transport, peer = alone.connect(protocol, side)
    transport.pause_reading()
    peer.send(b"data")
    if end == "close_notify":
        peer.raw(peer.close_notify())
    peer.half_close()
    alone.settle()
    transport.resume_reading()
    assert ended(alone, protocol)[-1] == ("lost", None) and protocol.data == b"data" * (
        SHUTDOWN_TIMEOUT or protocol.count("data")
    )


def test_wait_closed_of_a_full_reader_whose_peer_has_gone(alone):
    async def main():
        ours, theirs = alone.pair()
        serving = alone.loop.create_task(
            alone.loop.connect_accepted_socket(lambda: other, theirs, ssl=alone.contexts.usual_server())
        )
        reader, writer = await asyncio.open_connection(
            sock=ours, ssl=alone.contexts.usual_client(), server_hostname="localhost", limit=1000
        )
        transport, _ = await serving
        transport.write(bytes(100000))
        transport.close()
        while not reader._paused:
            await asyncio.sleep(0)
        for _ in range(20):
            await asyncio.sleep(0)
        writer.close()
        await writer.wait_closed()

    other = alone.recorder()
    alone.run(main())


def test_close_while_the_peer_does_not_read_at_first(same):
    def body(stage):
        protocol = stage.recorder()
        transport, peer = stage.connect(protocol)
        transport.write(bytes(3 << 20))
        transport.close()
        stage.settle()
        before = protocol.lost
        got, *how = peer.ending()
        peer.close()
        ended(stage, protocol)
        return before, len(got), how

    assert same(body)["result"][:2] == (0, 3 << 20)


@pytest.mark.parametrize("flood", [b"x", b"x" * 16384, b"x" * 100000], ids=len)
def test_close_while_the_peer_keeps_sending(stage, side, flood):
    """The peer reads too, but answers close_notify with more and more data."""
    protocol = stage.recorder()
    transport, peer = stage.connect(protocol, side, "tcp")
    peer.send(flood)
    stage.until(lambda: protocol.data)
    transport.close()
    begun = time.monotonic()
    while not protocol.lost:
        try:
            peer.send(flood)
        except ConnectionError:
            break
        stage.turn()
        assert time.monotonic() - begun < 1
    ended(stage, protocol)
    assert time.monotonic() - begun < 1


@pytest.mark.parametrize("times", [2, 3])
@pytest.mark.parametrize("written", [0, 100000])
def test_close_more_than_once(same, times, written):
    def body(stage):
        protocol = stage.recorder()
        transport, peer = stage.connect(protocol)
        transport.write(b"x" * written)
        for _ in range(times):
            transport.close()
        assert transport.is_closing()
        got, *how = peer.ending()
        peer.close()
        return len(got), how, ended(stage, protocol)

    assert same(body)["result"][0] == written


@pytest.mark.parametrize("how", ["close", "abort"])
def test_end_in_connection_made(same, how, side):
    def body(stage):
        protocol = stage.recorder(made=lambda protocol, transport: getattr(transport, how)())
        task, peer = stage.begin(protocol, side)
        if peer.fate() == "done":  # otherwise asyncio does not send the end of the handshake
            assert peer.ending()[0] == b""
        peer.close()
        return stage.outcome(task), ended(stage, protocol)

    assert same(body)["result"][1][-1] == ("lost", None)


@pytest.mark.parametrize("how", ["close", "abort"])
@pytest.mark.parametrize("kind", ["protocol", "buffered"])
def test_end_while_receiving(same, how, kind, side):
    """Data sent with it is not delivered."""

    def body(stage):
        make = stage.recorder if kind == "protocol" else stage.buffered
        protocol = make(data=lambda protocol, *args: getattr(protocol.transport, how)())
        transport, peer = stage.connect(protocol, side)
        peer.send(b"first")
        stage.until(lambda: protocol.data)
        stage.settle()
        ending = peer.ending()
        peer.close()
        return ended(stage, protocol), ending

    story, ending = same(body)["result"]
    assert story[1] == ("data", b"first") and ending[0] == b""


# Data that the peer sends after our close(). asyncio passes an SSLError to connection_lost(), and drops what we
# have not sent.


@pytest.mark.parametrize("late", [b"late", b"late" * 20000], ids=len)
def test_data_that_come_after_close(alone, side, version, late):
    make = alone.contexts.client if side == "client" else alone.contexts.server
    protocol = alone.recorder()
    transport, peer = alone.connect(protocol, side, context=make(version=version))
    transport.close()
    peer.send(late)
    alone.settle()
    assert ended(alone, protocol) == [("made",), ("lost", None)]  # no EOF: the peer has not sent close_notify
    assert transport.is_closing() and peer.ending()[:2] == [b"", "close_notify"]
    assert alone.reports == []


def test_data_after_close_and_then_a_reset(alone, side):
    protocol = alone.recorder()
    transport, peer = alone.connect(protocol, side, "tcp")
    transport.close()
    peer.send(b"late")
    alone.settle()
    peer.reset()
    assert ended(alone, protocol) == [("made",), ("lost", None)]


@pytest.mark.parametrize("held_back", [b"early", b"early" * 20000], ids=len)
def test_close_while_reading_is_paused_and_data_waits(alone, side, held_back):
    protocol = alone.recorder()
    transport, peer = alone.connect(protocol, side)
    transport.pause_reading()
    peer.send(held_back)
    alone.settle()
    transport.close()
    alone.settle()
    assert peer.ending()[:2] == [b"", "close_notify"]
    peer.close()
    assert ended(alone, protocol)[-1] == ("lost", None)
    assert alone.reports == []


def test_data_after_close_while_we_still_send(alone, side, kind):
    """What was written before close() is still sent."""
    protocol = alone.recorder()
    transport, peer = alone.connect(protocol, side, kind)
    data = bytes(range(256)) * (4 << 12)
    transport.write(data)
    transport.write(data)
    transport.close()
    alone.settle()
    peer.send(b"late")
    alone.settle()
    assert not protocol.lost
    got, *how = peer.ending()
    assert (got == 2 * data, how[0]) == (True, "close_notify")
    peer.close()
    assert ended(alone, protocol)[-1] == ("lost", None)


@needs_shutdown_timeout
def test_data_after_close_while_the_peer_takes_nothing(alone, side):
    protocol = alone.recorder()
    transport, peer = alone.connect(protocol, side, ssl_shutdown_timeout=0.02)
    transport.write(bytes(4 << 20))
    transport.close()
    peer.send(b"late")
    assert ended(alone, protocol)[-1][1][:2] == ("TimeoutError", "SSL shutdown timed out")


def test_wait_closed_of_streams_when_data_come_after_close(alone, side):
    async def main():
        ours, theirs = alone.pair()
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        if side == "client":
            peer = alone.peer(alone, theirs, alone.contexts.usual_server(), server_side=True)
            connecting = alone.loop.create_connection(
                lambda: protocol, sock=ours, ssl=alone.contexts.usual_client(), server_hostname="localhost"
            )
        else:
            peer = alone.peer(alone, theirs, alone.contexts.usual_client(), server_hostname="localhost")
            connecting = alone.loop.connect_accepted_socket(lambda: protocol, ours, ssl=alone.contexts.usual_server())
        connecting = alone.loop.create_task(connecting)
        while not connecting.done():
            peer.attempt(peer.tls.do_handshake)
            await asyncio.sleep(0)
        writer = asyncio.StreamWriter(connecting.result()[0], protocol, reader, alone.loop)
        writer.close()
        theirs.send(peer.encrypt(b"late"))
        await writer.wait_closed()

    alone.run(main())
    assert alone.reports == []


@pytest.mark.parametrize("end", ["close_notify", "EOF", "both"])
def test_peer_ends_while_we_still_send(stage, side, end, loop_kind):
    """It keeps reading: nothing that was written is dropped."""
    if loop_kind == "asyncio" and (3, 12) <= sys.version_info < (3, 14):
        pytest.skip("asyncio drops it")
    protocol = stage.recorder()
    transport, peer = stage.connect(protocol, side, "tcp")
    data = bytes(range(256)) * (8 << 12)
    transport.write(data)
    transport.write(data)  # the transport below takes all of the first
    stage.settle()
    if end != "EOF":
        peer.raw(peer.close_notify())
    if end != "close_notify":
        peer.half_close()
    stage.settle()
    got, *_ = peer.ending(answer=False)
    assert (len(got), got == 2 * data) == (2 * len(data), True)
    peer.close()
    assert ended(stage, protocol)[-1] == ("lost", None)


@pytest.mark.parametrize("how", ["close", "abort"])
def test_writing_after_the_end(same, how, caplog):
    """The sixth write is warned about."""

    def body(stage):
        protocol = stage.recorder()
        transport, peer = stage.connect(protocol)
        getattr(transport, how)()
        told = []
        for _ in range(3):
            told.append(transport.write(b"late"))
            told.append(transport.writelines([b"late", b"later"]))
        got, *_ = peer.ending()
        peer.close()
        story = ended(stage, protocol)
        for _ in range(7):
            told.append(stage.attempt(transport.write, b"too late"))
        return told, got, story

    assert same(body)["result"][1] == b""


def test_writing_after_a_reset(same, side):
    """Nobody had closed the connection."""

    def body(stage):
        protocol = stage.recorder()
        transport, peer = stage.connect(protocol, side, "tcp")
        peer.reset()
        story = ended(stage, protocol)
        told = [stage.attempt(transport.write, b"too late") for _ in range(7)]
        return story, told, stage.attempt(transport.writelines, [b"later"]), stage.is_closing(transport)

    assert same(body)["result"][0][-1][0] == "lost"


def test_methods_after_close(same):
    def body(stage):
        protocol = stage.recorder()
        transport, peer = stage.connect(protocol)
        transport.close()
        told = []
        for name in ("pause_reading", "is_reading", "resume_reading", "is_reading", "get_write_buffer_size"):
            told.append(stage.attempt(getattr(transport, name)))
        told.append(transport.get_protocol() is protocol)
        peer.ending()
        peer.close()
        return told, ended(stage, protocol)

    same(body)


@pytest.mark.parametrize("name", ["close", "abort"])
def test_end_after_the_end(same, name):
    def body(stage):
        protocol = stage.recorder()
        transport, peer = stage.connect(protocol)
        peer.raw(peer.close_notify())
        peer.half_close()
        ended(stage, protocol)
        told = [stage.attempt(getattr(transport, name)), transport.is_closing()]
        stage.settle()
        return told, ended(stage, protocol)

    assert same(body)["result"][0] == [None, True]


# abort()


@pytest.mark.parametrize(
    "state", ["idle", "written", "clogged", "closing", "closing and clogged", "paused", "read-paused data"]
)
def test_abort_is_at_once(same, state, kind, side):
    def body(stage):
        protocol = stage.recorder()
        transport, peer = stage.connect(protocol, side, kind)
        if state == "paused":
            transport.pause_reading()
        if state == "read-paused data":
            transport.pause_reading()
            peer.send(b"data")
            stage.settle()
        if state == "written":
            transport.write(b"x")
        if "clogged" in state:
            transport.write(bytes(4 << 20))
        if state.startswith("closing"):
            transport.close()
        transport.abort()
        assert transport.is_closing()
        stage.settle()
        assert protocol.lost == 1
        transport.abort()
        how = peer.ending()[-1]
        # Versions of asyncio differ in the number of calls for flow control if the connection is blocked.
        return [event for event in ended(stage, protocol) if event[0] not in ("pause", "resume")], how in (
            "eof",
            "reset",
        )

    story, closed = same(body)["result"]
    assert story == [("made",), ("lost", None)] and closed


def test_abort_after_close_in_the_callbacks(same):
    def body(stage):
        protocol = stage.recorder(
            data=lambda protocol, data: [protocol.transport.close(), protocol.transport.abort()],
        )
        transport, peer = stage.connect(protocol)
        peer.send(b"x")
        stage.until(lambda: protocol.data)
        stage.settle()
        return ended(stage, protocol)

    assert same(body)["result"][-1] == ("lost", None)


# The peer closes


@pytest.mark.parametrize("answer", [True, None])
@pytest.mark.parametrize(
    "segments", ["notify", "data and notify", "notify and eof", "data, notify and eof", "notify, data"]
)
def test_peer_closes(same, side, answer, segments):
    def body(stage):
        protocol = stage.recorder(eof=lambda protocol: answer)
        transport, peer = stage.connect(protocol, side)
        sent = peer.encrypt(b"data") if segments.startswith("data") else b""
        sent += peer.close_notify()
        peer.raw(sent)
        if "eof" in segments:
            peer.half_close()
        ending = peer.ending(answer=False)
        peer.close()
        if sys.version_info < (3, 11):  # depends on what asyncio's write() does after close()
            ending = ending[-1]
        return ending, ended(stage, protocol), stage.is_closing(transport)

    outcome = same(body)
    assert outcome["result"][1][-1] == ("lost", None)


@pytest.mark.parametrize("error", [ZeroDivisionError, OSError, asyncio.CancelledError])
@pytest.mark.parametrize("how", ["notify", "eof"])
def test_eof_received_raises(same, error, how, side):
    def body(stage):
        protocol = stage.recorder(eof=raiser(error))
        transport, peer = stage.connect(protocol, side)
        if how == "notify":
            peer.raw(peer.close_notify())
        peer.half_close()
        story = ended(stage, protocol)
        peer.close()
        return story

    assert same(body)["result"][-1][0] == "lost"


@pytest.mark.parametrize("end", ["half_close", "close"])
@pytest.mark.parametrize("answer", [True, None])
@pytest.mark.parametrize("before", ["nothing", "data", "half a record", "data and half a record"])
def test_unclean_end(same, side, end, answer, before):
    """EOF without close_notify: from an attacker, or from a peer in a hurry."""

    def body(stage):
        protocol = stage.recorder(eof=lambda protocol: answer)
        transport, peer = stage.connect(protocol, side, "tcp")
        sent = b""
        if before.startswith("data"):
            sent += peer.encrypt(b"data")
        if before.endswith("half a record"):
            sent += peer.encrypt(b"lost")[:-3]
        peer.raw(sent)
        getattr(peer, end)()
        return ended(stage, protocol), stage.is_closing(transport)

    assert same(body)["result"][0][-1][0] == "lost"


@pytest.mark.parametrize("state", ["idle", "data", "after our close", "clogged", "paused"])
def test_reset(same, side, state):
    def body(stage):
        protocol = stage.recorder()
        transport, peer = stage.connect(protocol, side, "tcp")
        if state == "data":
            peer.send(b"data")
            stage.until(lambda: protocol.data)
        if state == "after our close":
            transport.close()
            stage.settle()
        if state == "clogged":
            transport.write(bytes(4 << 20))
            stage.settle()
        if state == "paused":
            transport.pause_reading()
        peer.reset()
        stage.settle()
        transport.resume_reading() if state == "paused" else None
        story = [event for event in ended(stage, protocol) if event[0] not in ("pause", "resume")]
        if state == "clogged":  # found by sending, or by receiving
            return story[:-1], story[-1][1][0] in ("ConnectionResetError", "BrokenPipeError")
        return story

    same(body)


@pytest.mark.parametrize(
    "bytes_sent",
    [b"GET / HTTP/1.0\r\n\r\n", b"\x17\x03\x03\x00\x10" + b"x" * 16, b"\x15\x03\x03\x00\x02\x02\x28"],
    ids=["text", "a forged record", "an alert in clear"],
)
def test_garbage_in_the_middle(same, bytes_sent, side, version):
    def body(stage):
        protocol = stage.recorder()
        make = stage.contexts.client if side == "client" else stage.contexts.server
        transport, peer = stage.connect(protocol, side, context=make(version=version))
        peer.send(b"data")
        stage.until(lambda: protocol.data)
        peer.raw(bytes_sent)
        story = ended(stage, protocol)
        return story, peer.ending()[-1] in ("eof", "reset")

    assert same(body)["result"][0][-1][0] == "lost"


def test_fatal_alert(same, side):
    """A record of the peer is corrupted on the way: we send an alert and close."""

    def body(stage):
        protocol = stage.recorder()
        transport, peer = stage.connect(protocol, side)
        transport.write(b"x")
        peer.incoming.write(b"\x17\x03\x03\x00\x20" + b"spoilt" * 6)
        with pytest.raises(Exception):  # noqa: B017
            peer.tls.read(10)
        peer.flush()
        peer.half_close()
        return ended(stage, protocol)

    assert same(body)["result"][-1][0] == "lost"


@pytest.mark.parametrize("error", [ZeroDivisionError])
def test_connection_lost_raises(same, error):
    def body(stage):
        protocol = stage.recorder(lost=raiser(error))
        transport, peer = stage.connect(protocol)
        transport.abort()
        return ended(stage, protocol), [report[1] for report in stage.reports]

    assert same(body)["result"][1]


# The timeout of the shutdown


@needs_shutdown_timeout
@pytest.mark.parametrize("written", [0, 4 << 20])
def test_peer_that_does_not_answer(same, side, written):
    def body(stage):
        protocol = stage.recorder()
        transport, peer = stage.connect(protocol, side, ssl_shutdown_timeout=0.02)
        transport.write(bytes(written))
        begun = time.monotonic()
        transport.close()
        story = ended(stage, protocol)
        took = time.monotonic() - begun
        assert took >= 0.02
        return [event for event in story if event[0] not in ("pause", "resume")]

    lost = same(body)["result"][-1]
    assert lost[0] == "lost" and lost[1][:2] == ("TimeoutError", "SSL shutdown timed out")


@needs_shutdown_timeout
def test_timeout_that_a_program_has_set_for_all(same, monkeypatch):
    def body(stage):
        protocol = stage.recorder()
        with monkeypatch.context() as patches:
            patches.setattr(asyncio.constants, "SSL_SHUTDOWN_TIMEOUT", 0.02)
            transport, peer = stage.connect(protocol)
        transport.close()
        return ended(stage, protocol)

    assert same(body)["result"][-1][1][0] == "TimeoutError"


@needs_shutdown_timeout
def test_timeout_of_a_shutdown_that_was_answered_does_nothing(same):
    def body(stage):
        protocol = stage.recorder()
        transport, peer = stage.connect(protocol, ssl_shutdown_timeout=0.02)
        transport.close()
        peer.ending()
        ended(stage, protocol)
        stage.run(asyncio.sleep(0.03))
        return protocol.story

    assert same(body)["result"][-1] == ("lost", None)


@needs_shutdown_timeout
def test_abort_ends_a_shutdown(same):
    def body(stage):
        protocol = stage.recorder()
        transport, peer = stage.connect(protocol, ssl_shutdown_timeout=0.3)
        transport.close()
        stage.settle()
        assert not protocol.lost
        transport.abort()
        ended(stage, protocol)
        stage.run(asyncio.sleep(0.35))
        return protocol.story

    assert same(body)["result"] == [("made",), ("lost", None)]


# What remains


def test_dropped_without_close(same):
    """The loop keeps a live transport, so dropping it means that the loop was closed."""

    def body(stage):
        transport, peer = stage.connect(stage.recorder())
        stage.transports.clear()
        gc.collect()  # objects dropped by earlier tests may warn as well
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            stage.loop.close()
            del transport
            gc.collect()
        return sorted({str(caught.message)[:18] for caught in caught if caught.category is ResourceWarning})

    assert "unclosed transport" in same(body)["result"]


@pytest.mark.parametrize("state", ["open", "closing", "paused", "handshake"])
def test_loop_closed_with_open_connections(same, state):
    def body(stage):
        protocol = stage.recorder()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if state == "handshake":
                task, peer = stage.begin(protocol)
                stage.settle()
                task.cancel()
                stage.settle()
            else:
                transport, peer = stage.connect(protocol)
                if state == "paused":
                    transport.pause_reading()
                if state == "closing":
                    transport.close()
            stage.loop.close()
            transport = protocol.transport = None
            gc.collect()
        return protocol.lost

    assert same(body)["result"] == 0 or state == "handshake"


@pytest.mark.parametrize("how", ["close", "abort", "peer", "reset"])
@pytest.mark.parametrize("kind", ["protocol", "buffered"])
def test_closed_connection_is_freed_at_once(stage, how, kind, side, loop_kind):
    """Freed by reference counts alone."""
    protocol = (stage.recorder if kind == "protocol" else stage.buffered)()
    transport, peer = stage.connect(protocol, side, "tcp")
    if loop_kind == "asyncio" or type(transport).__module__.startswith("asyncio."):
        if how != "peer":
            pytest.skip("asyncio's contexts and handles may form cycles")
    transport.write(b"x")
    peer.send(b"y")
    assert peer.receive(1) == b"x"
    stage.settle()
    assert protocol.data == b"y"
    references = weakref.ref(protocol), weakref.ref(transport)
    gc.collect()
    gc.disable()
    try:
        if how == "peer":
            peer.raw(peer.close_notify())
            peer.close()
        elif how == "reset":
            peer.reset()
        else:
            getattr(transport, how)()
            peer.ending()
            peer.close()
        ended(stage, protocol)
        protocol.transport = None
        del protocol, transport
        stage.settle()
        assert [reference() for reference in references] == [None, None]
    finally:
        gc.enable()


def test_debug_mode_logs_the_handshake(same, caplog):
    def body(stage):
        stage.loop.set_debug(True)
        stage.loop.slow_callback_duration = 10
        protocol = stage.recorder()
        with caplog.at_level(logging.DEBUG, "asyncio"):
            transport, peer = stage.connect(protocol)
            peer.raw(peer.close_notify())
            peer.half_close()
            ended(stage, protocol)
        text = " ".join(record.getMessage() for record in caplog.records)
        caplog.clear()
        return protocol.story, [
            words in text for words in ("starts SSL handshake", "SSL handshake took", "received EOF")
        ]

    assert same(body)["result"][1][:2] == [True, True]


def test_end_is_logged_in_debug_mode(stage, caplog):
    protocol = stage.recorder()
    transport, peer = stage.connect(protocol)
    stage.loop.set_debug(True)
    with caplog.at_level(logging.DEBUG, "asyncio"):
        peer.sock.close()
        stage.until(lambda: protocol.lost)
    stage.loop.set_debug(False)
    assert any("received EOF" in text for text in caplog.messages)


@needs_shutdown_timeout
@pytest.mark.parametrize("backlog", [b"", b"in the backlog"])
@pytest.mark.parametrize("data", [b"", b"data"])
@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("kind", ["recorder", "buffered"])
def test_end_of_the_peer_is_told_more_than_once(same, side, backlog, data, times, kind):
    """By hand, while the application has paused: what is to be sent is, and what came is lost."""

    def body(stage):
        protocol = getattr(stage, kind)()
        transport, peer = stage.connect(protocol, side)
        transport.pause_reading()
        if data:
            peer.send(data)
        stage.settle()
        tls = transport._ssl_protocol
        if backlog:
            transport._test__append_write_backlog(backlog)
        told = [bool(tls.eof_received()) for _ in range(times)]
        stage.settle()
        told.append((list(protocol.story), transport.is_closing()))
        transport.resume_reading()
        stage.settle()
        got = stage.abort(transport, peer)
        return told, protocol.story, got

    same(body)


@needs_shutdown_timeout
def test_what_waits_cannot_be_sent_at_the_end_of_the_peer(same, side):
    """The program has ended TLS below the transport, so OpenSSL refuses."""

    def body(stage):
        protocol = stage.recorder()
        transport, peer = stage.connect(protocol, side)
        transport.pause_reading()
        stage.settle()
        tls, told = transport._ssl_protocol, []
        try:
            transport.get_extra_info("ssl_object").unwrap()
        except ssl.SSLWantReadError:
            told.append("is shut down")
        transport._test__append_write_backlog(b"data")
        for _ in range(2):
            try:
                told.append(bool(tls.eof_received()))
            except ssl.SSLError as error:
                told.append(error.reason)
        told.append(list(protocol.story))
        stage.settle()
        return told, protocol.story, stage.abort(transport, peer)

    assert "PROTOCOL_IS_SHUTDOWN" in str(same(body))
