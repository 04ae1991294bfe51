"""The writes of a callback over TLS are held only if the transport has learnt that this pays."""

import importlib
import logging
import os
import socket
import ssl
import sys
import time

import pytest

pytestmark = pytest.mark.gil

QUICK = 8  # callbacks that teach a transport to hold writes
LATE_S = 0.001  # longer than anything is held

# CLOOP_GATHER=always enables what these tests exclude.
unset = pytest.mark.skipif("CLOOP_GATHER" in os.environ, reason="CLOOP_GATHER is set")


def arrived(peer):
    """Everything that has arrived, as bytes."""
    records = []
    while True:
        record = peer.attempt(peer.tls.read, 1 << 14)
        if not isinstance(record, bytes) or not record:
            return b"".join(records)
        records.append(record)


@pytest.fixture
def connect(stage):
    """Creates a connection whose socket object nobody else has; returns its transport, and the peer."""

    def connect(context=None):
        ours, theirs = stage.pair()
        sock = socket.socket(fileno=ours.detach())
        peer = stage.peer(stage, theirs, stage.contexts.usual_server(), server_side=True)
        connecting = stage.loop.create_connection(
            stage.recorder, sock=sock, ssl=context or stage.contexts.usual_client(), server_hostname="localhost"
        )
        del sock
        task = stage.loop.create_task(connecting)
        peer.handshake()
        stage.until(task.done)
        stage.settle()
        return stage.keep(task.result()[0]), peer

    return connect


@pytest.fixture
def in_callback(stage):
    """in_callback(transport, peer, pieces, pause) writes them in one callback, with a pause in seconds after each;
    returns what had arrived at the peer after each of them, and after the callback.
    """

    def in_callback(transport, peer, pieces, pause=0):
        def write():
            for piece in pieces:
                transport.write(piece)
                seen.append(arrived(peer))
                deadline = time.perf_counter() + pause
                while time.perf_counter() < deadline:
                    pass

        seen = []
        stage.loop.call_soon(write)
        stage.turn()
        return seen, arrived(peer)

    return in_callback


def write_twice(transport):
    transport.write(b"1")
    transport.write(b"2")


@pytest.fixture
def held(connect, loop_kind, own_tls, request):
    """Creates a transport that holds from the first write on, without learning; returns it and its peer."""

    def held(context=None):
        if loop_kind == "asyncio" or not own_tls:
            pytest.skip("asyncio holds nothing")
        set_gather = importlib.import_module("cloop._cloop")._set_gather
        set_gather("always")
        request.addfinalizer(lambda: set_gather(os.environ.get("CLOOP_GATHER")))
        return connect(context)

    return held


@unset
def test_each_write_of_a_fresh_transport_is_sent_at_once(connect, in_callback):
    assert in_callback(*connect(), [b"one", b"two", b"three"]) == ([b"one", b"two", b"three"], b"")


def test_writes_of_a_quick_callback_are_sent_together(held, in_callback):
    assert in_callback(*held(), [b"1", b"2", b"3"]) == ([b"", b"", b""], b"123")


@unset
def test_a_write_is_late_once(stage, connect, in_callback, loop_kind, own_tls):
    if loop_kind == "asyncio" or not own_tls:
        pytest.skip("asyncio holds nothing")
    for attempt in range(10):  # another process that takes the core for a moment makes any callback look slow
        transport, peer = connect()
        for _ in range(QUICK):
            stage.loop.call_soon(write_twice, transport)
            stage.turn()
        arrived(peer)
        late = in_callback(transport, peer, [b"1", b"2", b"3"], pause=LATE_S)
        if late == ([b"", b"12", b"3"], b"") or attempt == 9:
            break
    assert late == ([b"", b"12", b"3"], b"")
    assert in_callback(transport, peer, [b"1", b"2"], pause=LATE_S) == ([b"1", b"2"], b"")


@unset
def test_peer_hears_of_a_callback_that_does_not_return(stage, connect):
    transport, peer = connect()
    for _ in range(QUICK):
        stage.loop.call_soon(write_twice, transport)
        stage.turn()
    stage.settle()
    arrived(peer)
    heard = []

    def write_and_wait():
        transport.write(b"data")
        deadline = time.monotonic() + 20
        while not heard and time.monotonic() < deadline:
            heard.extend(filter(None, [arrived(peer)]))

    stage.loop.call_soon(write_and_wait)
    stage.turn()
    assert heard == [b"data"]


def test_what_is_held_counts_as_sent(held, stage):
    transport, peer = held()
    seen = []

    def write():
        transport.write(b"data")
        seen.append((transport.get_write_buffer_size(), arrived(peer)))

    stage.loop.call_soon(write)
    stage.turn()
    assert seen == [(0, b"")]


@pytest.mark.parametrize("act", ["close", "set_write_buffer_limits", "fileno", "shutdown"])
def test_whoever_acts_on_the_connection_has_it_sent(held, stage, act):
    transport, peer = held()
    seen = []

    def write_and_act():
        transport.write(b"data")
        if act == "fileno":
            transport.get_extra_info("socket").fileno()
        elif act == "shutdown":
            transport.get_extra_info("socket").shutdown(socket.SHUT_WR)
        else:
            getattr(transport, act)()
        seen.append(arrived(peer))

    stage.loop.call_soon(write_and_act)
    stage.turn()
    assert seen == [b"data"]


@unset
def test_connections_of_a_listener_learn_from_each_other(stage, in_callback, loop_kind, own_tls):
    if loop_kind == "asyncio" or not own_tls:
        pytest.skip("asyncio holds nothing")
    if "-fsanitize" in importlib.import_module("cloop._cloop").build_info()["flags"]:
        pytest.skip("no callback is quick under the sanitizers")
    accepted = []

    def connected(server):
        count = len(accepted)
        client = socket.create_connection(server.sockets[0].getsockname())
        client.setblocking(False)
        peer = stage.peer(stage, client, stage.contexts.usual_client(), server_hostname="localhost")
        peer.handshake()
        stage.until(lambda: len(accepted) > count)
        stage.settle()
        return stage.keep(accepted[-1]), peer

    class Accepts(stage.recorder):
        def connection_made(self, transport):
            accepted.append(transport)
            super().connection_made(transport)

    for _ in range(20):  # as above; all of them learn from a late write
        server = stage.run(stage.loop.create_server(Accepts, "127.0.0.1", 0, ssl=stage.contexts.usual_server()))
        transport, peer = connected(server)
        for _ in range(QUICK):
            stage.loop.call_soon(write_twice, transport)
            stage.turn()
        assert arrived(peer) == b"12" * QUICK
        seen = in_callback(*connected(server), [b"1", b"2"])
        server.close()
        if seen == ([b"", b""], b"12"):
            break
    assert seen == ([b"", b""], b"12")


@pytest.fixture
def turn_in_which_a_write_fails(stage, caplog, filter_log):
    """Runs a callback in a turn of debug mode, and failed() as soon as the log tells that a write failed."""

    def turn_in_which_a_write_fails(callback, failed):
        def look(record):
            if "Fatal write error" in record.getMessage():
                failed()
            return True

        caplog.set_level(logging.DEBUG, "asyncio")
        stage.loop.set_debug(True)
        filter_log(look)
        try:
            stage.loop.call_soon(callback)
            stage.turn()
        finally:
            stage.loop.set_debug(False)

    return turn_in_which_a_write_fails


def test_exit_while_held_bytes_are_sent_is_raised_by_the_write(held, stage, turn_in_which_a_write_fails):
    """They are sent before more than can be held; that fails, is logged, and the log ends the program."""
    transport, peer = held()
    seen = []

    def end_the_program():
        raise KeyboardInterrupt

    def write():
        peer.sock.close()
        transport.write(b"held")
        try:
            transport.write(bytes(1 << 20))
        except KeyboardInterrupt:
            seen.append("interrupted")

    turn_in_which_a_write_fails(write, end_the_program)
    assert seen == ["interrupted"]
    stage.settle()


ACTS = {
    "write": lambda transport: transport.write(b"more"),
    "large": lambda transport: transport.write(bytes(1 << 20)),
    "lines": lambda transport: transport.writelines([b"1", bytes(1 << 17)]),
    "close": lambda transport: transport.close(),
    "abort": lambda transport: transport.abort(),
    "limits": lambda transport: transport.set_write_buffer_limits(0),
    "set_protocol": lambda transport: transport.set_protocol(transport.get_protocol()),
    "fileno": lambda transport: transport.get_extra_info("socket").fileno(),
    "shutdown": lambda transport: transport.get_extra_info("socket").shutdown(socket.SHUT_WR),
    "nothing": lambda transport: None,
}
if sys.version_info >= (3, 11):  # before, the end closes the transport below, and nothing is sent
    ACTS["the peer's end"] = lambda transport: transport._ssl_protocol.eof_received()


@pytest.mark.parametrize("whose", ["its own", "another's"])
def test_exit_while_held_bytes_are_sent_is_raised_once(held, stage, turn_in_which_a_write_fails, whose):
    """By what sends them, or at the end of the callback, which ends the turn."""

    def end_the_program():
        raise KeyboardInterrupt

    raised = {}
    for name, act in ACTS.items():
        (transport, peer), (other, _) = held(), held()
        told = raised[name] = []

        def write(act=act, transport=transport, peer=peer, other=other, told=told):
            peer.sock.close()
            transport.write(b"held")
            try:
                act(transport if whose == "its own" else other)
            except KeyboardInterrupt:
                told.append("act")

        try:
            turn_in_which_a_write_fails(write, end_the_program)
        except KeyboardInterrupt:
            told.append("turn")
        for each in transport, other:
            each.abort()
        stage.settle()
    assert {name: told for name, told in raised.items() if len(told) != 1} == {}
    assert ["act"] in raised.values() and raised["nothing"] == ["turn"]


def test_connection_that_is_aborted_while_others_bytes_are_sent(held, stage, turn_in_which_a_write_fails):
    """By what the log of their failure runs: what is written to it then is lost."""
    (transport, peer), (other, its_peer) = held(), held()
    seen = []

    def write():
        its_peer.sock.close()
        other.write(b"held")
        seen.append(transport.is_closing())
        transport.write(b"lost")
        seen.append(transport.is_closing())

    turn_in_which_a_write_fails(write, transport.abort)
    assert seen == [False, True]
    stage.settle()
    assert arrived(peer) == b""


class Failing(ssl.SSLObject):
    error = None
    spared = 0  # calls that get a record out before one fails

    def write(self, data):
        cls = type(self)
        if self.error is not None and cls.spared == 0:
            raise self.error
        if self.error is not None:
            cls.spared -= 1
            data = data[:16384]
        return super().write(data)


@pytest.fixture
def failing(held, contexts):
    """A transport that holds, whose object's write() raises the `error` of its class; returns it, its peer and the class."""

    def failing():
        context = contexts.client()
        context.sslobject_class = type("Object", (Failing,), {})
        return held(context) + (context.sslobject_class,)

    return failing


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio's TLS was rewritten for 3.11")
@pytest.mark.parametrize("then", ["nothing", "more than can be held", "the peer's end"])
def test_held_bytes_that_cannot_be_encrypted(failing, stage, then):
    transport, peer, cls = failing()
    protocol = transport.get_protocol()

    def write():
        cls.error = ssl.SSLError(1, "on purpose")
        transport.write(b"held")
        if then == "more than can be held":
            transport.write(bytes(1 << 20))
        elif then == "the peer's end":
            transport._ssl_protocol.eof_received()

    stage.loop.call_soon(write)
    stage.turn()
    stage.until(lambda: protocol.lost)
    cls.error = None
    assert protocol.lost == 1 and protocol.story[-1][1][0] == "SSLError"
    assert arrived(peer) == b""


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio's TLS was rewritten for 3.11")
def test_write_after_one_that_failed_above_the_high_water_mark(failing, stage):
    """The connection is being lost by then: the program is not told to pause, as on asyncio."""
    transport, peer, cls = failing()
    protocol = transport.get_protocol()
    transport.set_write_buffer_limits(high=1 << 30)
    transport.write(bytes(4 << 20))
    mark = transport.get_write_buffer_size() + 1
    transport.set_write_buffer_limits(high=mark)
    sizes = []

    def write():
        cls.error, cls.spared = MemoryError("on purpose"), 1
        transport.write(bytes(1 << 20))
        sizes.append(transport.get_write_buffer_size())
        cls.error = None
        transport.write(b"x")

    stage.loop.call_soon(write)
    stage.turn()
    stage.until(lambda: protocol.lost)
    assert sizes[0] > mark
    assert protocol.lost == 1 and "pause_writing" not in str(protocol.story)
    assert [exception[0] for _, exception, _ in stage.reports] == ["MemoryError"]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio's TLS was rewritten for 3.11")
def test_held_bytes_and_an_error_that_is_no_exception(failing, stage):
    """asyncio reports it as one of the callback that wrote, which has returned here."""

    class Unusual(BaseException):
        pass

    transport, peer, cls = failing()

    def write():
        cls.error = Unusual()
        transport.write(b"held")

    stage.loop.call_soon(write)
    stage.turn()
    cls.error = None
    assert [report[:2] for report in stage.reports] == [("Fatal error on SSL protocol", ("Unusual", ""))]
