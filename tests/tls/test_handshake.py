"""Handshakes: what is negotiated, and all the ways in which they fail."""

import asyncio
import gc
import socket
import ssl
import sys
import time
import warnings

import pytest

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


def raiser(error):
    def raise_it(*args):
        raise error("on purpose")

    return raise_it


def fates(stage, protocol, side, **options):
    """Starts a connection, and returns how it ends for the task, the protocol and the peer."""
    task, peer = stage.begin(protocol, side, **options)
    return ends(stage, protocol, task, peer)


def ends(stage, protocol, task, peer):
    with stage.unwarned():
        fate = peer.fate()
        stage.settle()
        if fate == "done":
            try:
                peer.send(b"from the peer")
                stage.settle()
                peer.pull()
                peer.tls.read(100)
            except ssl.SSLWantReadError:
                pass
            except ConnectionError:
                fate = "done, then reset"
            except ssl.SSLError as error:
                fate = "done, then", stage.describe(error)
        peer.close()
        outcome = stage.outcome(task)
        stage.settle()
        del task
        gc.collect()
    return fate, outcome, protocol.story


# Certificates


@pytest.mark.parametrize(
    "what", ["expired", "another authority", "another name", "another name, not checked", "no certificate"]
)
def test_certificate_that_our_client_refuses(same, contexts, what, version):
    def body(stage):
        client, server = contexts.client(version=version), contexts.server(version=version)
        if what == "expired":
            server = contexts.server(contexts.expired(), version=version)
        if what == "another authority":
            client = contexts.client(version=version, authority=contexts.other_authority)
        if what.startswith("another name"):
            server = contexts.server(contexts.issue("elsewhere"), version=version)
            client.check_hostname = what == "another name"
        if what == "no certificate":
            server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        return fates(stage, stage.recorder(), "client", context=client, peer_context=server)

    fate, outcome, story = same(body)["result"]
    if what == "another name, not checked":
        assert outcome == "done"
    else:
        assert outcome[0] in ("SSLCertVerificationError", "SSLError", "ConnectionResetError") and story == []


@pytest.mark.parametrize("what", ["expired", "another authority", "another name"])
def test_certificate_of_our_server_that_the_peer_refuses(same, contexts, what, version):
    def body(stage):
        client, server = contexts.client(version=version), contexts.server(version=version)
        if what == "expired":
            server = contexts.server(contexts.expired(), version=version)
        if what == "another authority":
            client = contexts.client(version=version, authority=contexts.other_authority)
        if what == "another name":
            server = contexts.server(contexts.issue("elsewhere"), version=version)
        return fates(stage, stage.recorder(), "server", context=server, peer_context=client)

    assert same(body)["result"][0][0] == "SSLCertVerificationError"


@pytest.mark.parametrize("given", [None, "good", "another authority's"])
@pytest.mark.parametrize("asked", [ssl.CERT_OPTIONAL, ssl.CERT_REQUIRED], ids=["optional", "required"])
def test_certificate_of_the_client(same, contexts, given, asked, side, version):
    def body(stage):
        cert = None
        if given:
            authority = contexts.authority if given == "good" else contexts.other_authority
            cert = authority.issue_cert("client")
        server = contexts.server(version=version, ask_client=asked)
        client = contexts.client(cert, version=version)
        own, peers = (client, server) if side == "client" else (server, client)
        subject = []
        protocol = stage.recorder(
            made=lambda protocol, transport: subject.append(bool(transport.get_extra_info("peercert")))
        )
        return fates(stage, protocol, side, context=own, peer_context=peers) + (subject,)

    fate, outcome, story, _ = same(body)["result"]
    if given == "good" or (given is None and asked == ssl.CERT_OPTIONAL):
        assert fate == "done" and outcome == "done"


def test_no_version_in_common(same, contexts, side):
    def body(stage):
        make, other = (contexts.client, contexts.server) if side == "client" else (contexts.server, contexts.client)
        return fates(stage, stage.recorder(), side, context=make(version=V12), peer_context=other(version=V13))

    fate, outcome, story = same(body)["result"]
    assert outcome != "done" and story == []


def test_no_cipher_in_common(same, contexts, side):
    def body(stage):
        client, server = contexts.client(version=V12), contexts.server(version=V12)
        client.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
        server.set_ciphers("ECDHE-ECDSA-AES256-GCM-SHA384")
        own, peers = (client, server) if side == "client" else (server, client)
        return fates(stage, stage.recorder(), side, context=own, peer_context=peers)

    assert same(body)["result"][1] != "done"


# What is negotiated


@pytest.mark.parametrize(
    "ours, theirs",
    [(["h2", "http/1.1"], ["http/1.1"]), (["h2"], ["x"]), (["h2"], []), ([], ["h2"]), (["a", "b"], ["b", "a"])],
)
def test_alpn(same, contexts, side, ours, theirs, version):
    def body(stage):
        make, other = (contexts.client, contexts.server) if side == "client" else (contexts.server, contexts.client)
        task, peer = stage.begin(
            stage.recorder(),
            side,
            context=make(alpn=ours, version=version),
            peer_context=other(alpn=theirs, version=version),
        )
        peer.handshake()
        stage.until(task.done)
        transport = stage.keep(task.result()[0])
        ssl_object = transport.get_extra_info("ssl_object")
        return ssl_object.selected_alpn_protocol(), peer.tls.selected_alpn_protocol(), ssl_object.version()

    result = same(body)["result"]
    assert result[0] == result[1]
    assert (result[0] is not None) == bool(set(ours) & set(theirs))


@pytest.mark.parametrize("name", ["localhost", "other", None])
@pytest.mark.parametrize("does", ["nothing", "changes the context", "refuses", "raises", "returns nonsense"])
def test_sni_callback(same, contexts, name, does):
    def body(stage):
        seen = []
        server = contexts.server()
        second = contexts.server(contexts.issue("other"))

        def callback(ssl_object, server_name, context):
            seen.append((type(ssl_object).__name__, server_name, context is server))
            if does == "changes the context":
                ssl_object.context = second
            if does == "refuses":
                return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
            if does == "raises":
                raise ZeroDivisionError("on purpose")
            if does == "returns nonsense":
                return "nonsense"

        server.sni_callback = callback
        client = contexts.client()
        client.check_hostname = False
        protocol = stage.recorder(
            made=lambda protocol, transport: seen.append(transport.get_extra_info("ssl_object").context is second)
        )
        hook, unraisable = sys.unraisablehook, []
        sys.unraisablehook = lambda told: unraisable.append(told.exc_type.__name__)
        try:
            return fates(stage, protocol, "server", context=server, peer_context=client, peer_name=name) + (
                seen,
                unraisable,
            )
        finally:
            sys.unraisablehook = hook

    fate, outcome, story, seen, unraisable = same(body)["result"]
    assert seen[0] == ("SSLObject", name, True)
    assert (outcome == "done") == (does in ("nothing", "changes the context"))
    assert unraisable == {"raises": ["ZeroDivisionError"], "returns nonsense": ["TypeError"]}.get(does, [])


def test_name_that_our_client_asks_for(same, contexts):
    def body(stage):
        seen = []
        server = contexts.server()
        server.sni_callback = lambda ssl_object, name, context: seen.append(name)
        stage.connect(stage.recorder(), peer_context=server, server_hostname="localhost")
        return seen

    assert same(body)["result"] == ["localhost"]


def test_session(same, contexts, version):
    """Tickets are read at any time; asyncio cannot reuse a session for a new connection."""

    def body(stage):
        protocol = stage.recorder()
        transport, peer = stage.connect(protocol, context=contexts.client(version=version))
        peer.send(b"x")
        stage.until(lambda: protocol.data)
        ssl_object = transport.get_extra_info("ssl_object")
        return ssl_object.session is not None, ssl_object.session_reused, ssl_object.session.has_ticket

    assert same(body)["result"] == (True, False, True)


class Resuming(ssl.SSLContext):
    """Uses its session for each connection."""

    session = None

    def wrap_bio(self, *args, **options):
        options["session"] = self.session
        return super().wrap_bio(*args, **options)


def test_session_is_resumed(same, contexts, version):
    def body(stage):
        client, server = contexts.client(version=version, cls=Resuming), contexts.server(version=version)
        reused = []
        for _ in range(3):
            protocol = stage.recorder()
            transport, peer = stage.connect(protocol, context=client, peer_context=server)
            peer.send(b"x")
            stage.until(lambda protocol=protocol: protocol.data)
            ssl_object = transport.get_extra_info("ssl_object")
            reused.append((ssl_object.session_reused, peer.tls.session_reused))
            client.session = ssl_object.session
            transport.close()
            peer.ending()
            peer.close()
        return reused

    assert same(body)["result"] == [(False, False), (True, True), (True, True)]


def test_our_server_resumes_sessions(same, contexts, version):
    def body(stage):
        client, server = contexts.client(version=version, cls=Resuming), contexts.server(version=version)
        reused = []
        for _ in range(2):
            protocol = stage.recorder()
            transport, peer = stage.connect(protocol, "server", context=server, peer_context=client)
            transport.write(b"x")
            peer.receive(1)
            reused.append((transport.get_extra_info("ssl_object").session_reused, peer.tls.session_reused))
            client.session = peer.tls.session
            peer.raw(peer.close_notify())
            stage.until(lambda protocol=protocol: protocol.lost)
        return reused

    assert same(body)["result"] == [(False, False), (True, True)]


@pytest.mark.parametrize("side_with_log", ["client", "server"])
def test_keylog(same, contexts, side_with_log, version, tmp_path):
    def body(stage):
        path = tmp_path / "keys"
        path.write_text("")
        make = contexts.client if side_with_log == "client" else contexts.server
        context = make(version=version)
        context.keylog_filename = str(path)
        protocol = stage.recorder()
        transport, peer = stage.connect(protocol, side_with_log, context=context)
        peer.send(b"x")
        stage.until(lambda: protocol.data)
        context.keylog_filename = None
        return [line.split()[0] for line in path.read_text().splitlines() if not line.startswith("#")]

    assert same(body)["result"]


def test_client_certificate_after_the_handshake(same, contexts):
    def body(stage):
        server = contexts.server(version=V13, ask_client=ssl.CERT_REQUIRED)
        server.post_handshake_auth = True
        server.verify_mode = ssl.CERT_OPTIONAL
        client = contexts.client(contexts.issue("client"), version=V13)
        client.post_handshake_auth = True
        protocol = stage.recorder()
        transport, peer = stage.connect(protocol, "server", context=server, peer_context=client)
        ssl_object = transport.get_extra_info("ssl_object")
        before = bool(ssl_object.getpeercert())
        server.verify_mode = ssl.CERT_REQUIRED
        ssl_object.verify_client_post_handshake()
        transport.write(b"who are you?")
        asked = peer.receive(12)
        peer.send(b"me")
        stage.until(lambda: protocol.data)
        return before, asked, protocol.story, bool(ssl_object.getpeercert())

    before, asked, story, after = same(body)["result"]
    assert after and not before and story == [("made",), ("data", b"me")]


def test_our_client_is_asked_after_the_handshake(same, contexts):
    def body(stage):
        server = contexts.server(version=V13, ask_client=ssl.CERT_REQUIRED)
        server.post_handshake_auth = True
        client = contexts.client(contexts.issue("client"), version=V13)
        client.post_handshake_auth = True
        protocol = stage.recorder()
        transport, peer = stage.connect(protocol, "client", context=client, peer_context=server)
        peer.tls.verify_client_post_handshake()
        peer.send(b"who are you?")
        stage.until(lambda: protocol.data)
        transport.write(b"me")
        return peer.receive(2), bool(peer.tls.getpeercert()), protocol.story

    assert same(body)["result"][:2] == (b"me", True)


# Unusual contexts


class Object(ssl.SSLObject):
    pass


class Counting(ssl.SSLContext):
    wrapped = 0
    sslobject_class = Object

    def wrap_bio(self, incoming, outgoing, **options):
        self.wrapped += 1
        self.given = sorted(options)
        return super().wrap_bio(incoming, outgoing, **options)


def test_subclasses_of_context_and_object(same, contexts, side):
    def body(stage):
        make = contexts.client if side == "client" else contexts.server
        context = make(cls=Counting)
        protocol = stage.recorder(data=lambda protocol, data: protocol.transport.write(data))
        transport, peer = stage.connect(protocol, side, context=context)
        peer.send(b"echo")
        told = peer.receive(4), type(transport.get_extra_info("ssl_object")).__name__, context.wrapped, context.given
        return told + (transport.get_extra_info("sslcontext") is context,)

    assert same(body)["result"][:3] == (b"echo", "Object", 1)


@pytest.mark.parametrize("error", [ZeroDivisionError, ssl.SSLError, OSError])
def test_wrap_bio_raises(same, contexts, error, side):
    class Failing(ssl.SSLContext):
        def wrap_bio(self, *args, **options):
            raise error("on purpose")

    def body(stage):
        make = contexts.client if side == "client" else contexts.server
        with stage.unwarned():
            protocol = stage.recorder()
            task, peer = stage.begin(protocol, side, context=make(cls=Failing))
            peer.half_close()
            return stage.outcome(task), protocol.story

    same(body)


def test_messages_are_traced(same, contexts, side, version):
    def body(stage):
        seen = []
        make = contexts.client if side == "client" else contexts.server
        context = make(version=version)
        context._msg_callback = lambda conn, direction, version, kind, message, data: seen.append(
            (direction, getattr(message, "name", ""))
        )
        protocol = stage.recorder()
        transport, peer = stage.connect(protocol, side, context=context)
        peer.send(b"x")
        stage.until(lambda: protocol.data)
        context._msg_callback = None
        return [told for told in seen if "FINISHED" in told[1] or "HELLO" in told[1]]

    assert same(body)["result"]


# Peers that do not answer


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.0\r\n\r\n",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x00" * 100,
        b"\x16\x03\x01\xff\xff" + b"x" * 100,
        b"\x15\x03\x03\x00\x02\x02\x28",
        b"\x15\x03\x03\x00\x02\x01\x00",
        b"x",
        b"\x16\x03\x01",
    ],
    ids=["request", "response", "zeros", "a huge record", "alert", "close_notify", "one byte", "a half header"],
)
def test_garbage(same, sent, side):
    def body(stage):
        protocol = stage.recorder()
        task, peer = stage.begin(protocol, side)
        stage.settle()
        with stage.unwarned():
            peer.raw(sent)
            stage.settle()
            done = task.done()
            peer.half_close()
            told = done, stage.outcome(task), protocol.story
            stage.settle()
            return told

    result = same(body)["result"]
    assert result[1] != "done" and result[2] == []


@pytest.mark.parametrize("how", ["half_close", "close", "reset"])
@pytest.mark.parametrize("when", ["at first", "in the middle", "within a record"])
def test_peer_goes(same, side, how, when, version):
    def body(stage):
        make = stage.contexts.client if side == "client" else stage.contexts.server
        protocol = stage.recorder()
        task, peer = stage.begin(protocol, side, "tcp", context=make(version=version))
        with stage.unwarned():
            stage.settle()
            if when != "at first":
                if side == "server":
                    hello = peer.hello()
                else:
                    peer.pull()
                    with pytest.raises(ssl.SSLWantReadError):
                        peer.tls.do_handshake()
                    hello = peer.outgoing.read()
                peer.raw(hello[: len(hello) if when == "in the middle" and side == "server" else len(hello) // 2])
            stage.settle()
            peer.pull()
            getattr(peer, how)()
            told = stage.outcome(task), protocol.story
            stage.settle()
            return told

    outcome, story = same(body)["result"]
    assert outcome[0] in ("ConnectionResetError", "BrokenPipeError") and story == []


@pytest.mark.parametrize("when", ["at first", "in the middle"])
def test_handshake_timeout(same, side, when):
    def body(stage):
        protocol = stage.recorder()
        begun = time.monotonic()
        task, peer = stage.begin(protocol, side, ssl_handshake_timeout=0.02)
        if when == "in the middle":  # sent before the loop runs, which may take longer than the timeout
            peer.raw(peer.hello() if side == "server" else b"\x16")
        with stage.unwarned():
            told = stage.outcome(task), protocol.story
            assert time.monotonic() - begun >= 0.02
            stage.settle()
            peer.pull()
            return told, peer.end

    outcome, story = same(body)["result"][0]
    assert outcome[:2] == (
        "ConnectionAbortedError",
        "SSL handshake is taking longer than 0.02 seconds: aborting the connection",
    )


def test_timeout_of_a_handshake_that_was_done_does_nothing(same, side):
    def body(stage):
        protocol = stage.recorder()
        transport, peer = stage.connect(protocol, side, ssl_handshake_timeout=0.05)
        stage.run(asyncio.sleep(0.06))
        peer.send(b"x")
        stage.until(lambda: protocol.data)
        return protocol.story

    assert same(body)["result"] == [("made",), ("data", b"x")]


@pytest.mark.parametrize("how", ["silence", "reset", "timeout", "bad certificate"])
def test_handshake_that_a_server_s_client_fails(same, contexts, how):
    """Nobody waits for it: it goes to the log and the exception handler."""

    def body(stage):
        made = []

        async def start():
            return await stage.loop.create_server(
                lambda: made.append(stage.recorder()) or made[-1],
                "127.0.0.1",
                0,
                ssl=contexts.server(),
                ssl_handshake_timeout=0.05,
            )

        server = stage.run(start())
        with stage.unwarned():
            sock = stage.stack.enter_context(socket.create_connection(server.sockets[0].getsockname()))
            sock.setblocking(False)
            client = contexts.client(authority=contexts.other_authority if how == "bad certificate" else None)
            peer = stage.peer(stage, sock, client, server_hostname="localhost")
            stage.until(lambda: made)
            if how == "silence":
                peer.half_close()
            elif how == "reset":
                peer.raw(peer.hello())
                peer.reset()
            elif how == "bad certificate":
                peer.fate()
                peer.half_close()
            if how != "reset":
                stage.until(lambda: peer.pull() or peer.end)
            stage.settle()
            server.close()
            stage.settle()
        return [protocol.story for protocol in made]

    assert same(body)["result"][0][:1] in ([], [("made",)])


@pytest.mark.parametrize("when", ["at first", "in the middle"])
def test_cancelled(same, side, when):
    def body(stage):
        protocol = stage.recorder()
        task, peer = stage.begin(protocol, side)
        with stage.unwarned():
            stage.settle()
            if when == "in the middle" and side == "server":
                peer.raw(peer.hello())
                stage.settle()
            task.cancel()
            told = stage.outcome(task)
            stage.settle()
            peer.pull()
            return told, protocol.story, peer.end in ("eof", "reset")

    assert same(body)["result"] == ("cancelled", [], True)


@pytest.mark.parametrize("error", [ZeroDivisionError, OSError])
def test_factory_raises(same, error, side):
    def body(stage):
        with stage.unwarned():
            task, peer = stage.begin(lambda: raiser(error)(), side)
            told = stage.outcome(task)
            peer.half_close()
            stage.settle()
            return told

    assert same(body)["result"][:2] == (error.__name__, "on purpose")


@pytest.mark.parametrize("what", ["factory", "context"])
def test_accepted_socket_is_closed_if_there_is_no_transport(loop_kind, loop, until, contexts, what):
    """Up to 3.15 asyncio leaves it to the socket's destructor, which warns."""
    if loop_kind == "asyncio" and sys.version_info < (3, 16):
        pytest.skip("asyncio does not")

    class Failing(ssl.SSLContext):
        def wrap_bio(self, *args, **options):
            raise ZeroDivisionError("on purpose")

    factory = raiser(ZeroDivisionError) if what == "factory" else asyncio.Protocol
    context = contexts.server(cls=Failing if what == "context" else ssl.SSLContext)
    loop.set_exception_handler(lambda *args: None)
    server = loop.run_until_complete(loop.create_server(factory, "127.0.0.1", 0, ssl=context))
    with warnings.catch_warnings(record=True) as caught, socket.create_connection(
        server.sockets[0].getsockname()
    ) as client:
        warnings.simplefilter("always")
        client.setblocking(False)
        until(lambda: received(client) == b"")
        gc.collect()
    server.close()
    assert [str(each.message) for each in caught if each.category is ResourceWarning] == []


def received(sock):
    """What recv() returns, None if it would block."""
    try:
        return sock.recv(100)
    except BlockingIOError:
        return None
    except ConnectionResetError:
        return b""


@pytest.mark.parametrize("error", [ZeroDivisionError, OSError])
def test_connection_made_raises(same, error, side):
    def body(stage):
        protocol = stage.recorder(made=raiser(error))
        with stage.unwarned():
            task, peer = stage.begin(protocol, side)
            stage.settle()
            peer.attempt(peer.tls.do_handshake)
            stage.settle()
            peer.attempt(peer.tls.do_handshake)
            stage.settle()
            peer.close()
            told = stage.outcome(task)
            stage.settle()
            protocol.transport = None
        return told, protocol.story

    assert same(body)["result"][1][0] == ("made",)


@pytest.mark.parametrize("failing", ["time", "cancel"])
def test_loop_that_fails_as_a_handshake_ends(loop_class, stage, contexts, side, failing):
    """Its timeout is cancelled. In debug mode its duration is logged: asyncio asks for the time after the certificate."""
    armed = []

    class Object(ssl.SSLObject):
        def getpeercert(self, *args):
            armed.append("time")
            return super().getpeercert(*args)

    class Handle:
        def __init__(self, handle):
            self.handle = handle

        def cancel(self):
            if armed:
                armed.clear()
                raise ZeroDivisionError("on purpose")
            self.handle.cancel()

    def played(cls):
        class Loop(cls):
            def call_later(self, *args, **options):
                handle = super().call_later(*args, **options)
                return Handle(handle) if failing == "cancel" else handle

            def time(self):
                if armed == ["time"]:
                    armed.clear()
                    raise ZeroDivisionError("on purpose")
                return super().time()

        own = type(stage)(Loop(), contexts)
        own.loop.set_debug(failing == "time")
        armed[:] = ["cancel"] if failing == "cancel" else []
        context = (contexts.client if side == "client" else contexts.server)()
        context.sslobject_class = Object
        protocol = own.recorder()
        with own.unwarned():
            task, peer = own.begin(protocol, side, context=context)
            for _ in range(2):
                own.settle()
                peer.attempt(peer.tls.do_handshake)
            own.settle()
            peer.close()
            told = own.outcome(task)
            own.close()
        own.loop.close()
        # Before 3.11 asyncio's message says less.
        return told, protocol.story, own.reports if sys.version_info >= (3, 11) else [each[1:] for each in own.reports]

    found = played(loop_class)
    assert found == played(asyncio.SelectorEventLoop)
    assert "ZeroDivisionError" in str(found)


def test_data_that_come_with_the_end_of_the_handshake(same, side, version):
    """In one segment with it, with or without close_notify."""

    def body(stage):
        make = stage.contexts.client if side == "client" else stage.contexts.server
        protocol = stage.recorder()
        task, peer = stage.begin(protocol, side, context=make(version=version))
        segment = []

        def last_flight():
            peer.pull()
            try:
                peer.tls.do_handshake()
            except ssl.SSLWantReadError:
                peer.flush()
                return False
            segment.append(peer.outgoing.read())
            return True

        stage.until(last_flight)
        peer.raw(segment[0] + peer.encrypt(b"early") + peer.close_notify())
        told = stage.outcome(task)
        peer.close()
        stage.until(lambda: protocol.lost)
        stage.settle()
        return told, protocol.story

    outcome, story = same(body)["result"]
    assert outcome == "done" and story[:2] == [("made",), ("data", b"early")] and story[-1][0] == "lost"


@pytest.mark.parametrize("step", [1, 7])
def test_handshake_byte_by_byte(stage, side, step, version):
    make = stage.contexts.client if side == "client" else stage.contexts.server
    protocol = stage.recorder()
    task, peer = stage.begin(protocol, side, context=make(version=version))

    def trickle():
        peer.pull()
        try:
            peer.tls.do_handshake()
            done = True
        except ssl.SSLWantReadError:
            done = False
        flight = peer.outgoing.read()
        for start in range(0, len(flight), step):
            peer.raw(flight[start : start + step])
            stage.turn()
        return done

    stage.until(trickle)
    stage.until(task.done)
    transport = stage.keep(task.result()[0])
    transport.write(b"x")
    assert peer.receive(1) == b"x" and protocol.story == [("made",)]
