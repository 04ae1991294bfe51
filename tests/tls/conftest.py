"""Certificates, contexts of both sides, a peer that is driven by hand, and a comparison with asyncio of everything
that one end of a connection does.

The body of a test gets a Stage: a loop, the test's sockets and protocols, and the calls of the loop's exception
handler. `same` runs it on asyncio and on the loop under test and compares; `stage` is for what cannot be compared.
"""

import asyncio
import contextlib
import datetime
import gc
import pathlib
import re
import socket
import ssl
import struct
import sys
import time
import warnings
import weakref

import pytest

trustme = pytest.importorskip("trustme")

# asyncio's TLS was rewritten for 3.11. Where that fixed a bug, cloop has the fix on every version.
OLD = sys.version_info < (3, 11)
HERE = pathlib.Path(__file__).parent
PATIENCE_S = 20  # for what should happen at once


def pytest_collection_modifyitems(config, items):
    """Comparing asyncio with itself is useless, and one of cloop's pollers is enough here: the transports below are
    tested with each.
    """

    def kind(item):
        return item.callspec.params.get("loop_kind") if hasattr(item, "callspec") else None

    ours = [item for item in items if HERE in item.path.parents]
    kinds = {kind(item) for item in ours}
    unwanted = {
        item
        for item in ours
        if (kind(item) == "cloop-poll" and "cloop-epoll" in kinds)
        or (kind(item) == "asyncio" and "same" in item.fixturenames and len(kinds - {None}) > 1)
    }
    if unwanted:
        items[:] = [item for item in items if item not in unwanted]
        config.hook.pytest_deselected(items=list(unwanted))


# Contexts


class Contexts:
    """Makes contexts; a certificate is made once for each set of names."""

    def __init__(self):
        self.authority = trustme.CA()
        self.other_authority = trustme.CA()
        self.issued = {}

        self.usual = {}

    def usual_server(self):
        """For tests that do not change it."""
        return self.usual.get("server") or self.usual.setdefault("server", self.server())

    def usual_client(self):
        return self.usual.get("client") or self.usual.setdefault("client", self.client())

    def issue(self, *names, **options):
        key = names, tuple(options)
        if key not in self.issued:
            self.issued[key] = self.authority.issue_cert(*names, **options)
        return self.issued[key]

    def expired(self):
        return self.issue("localhost", not_after=datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc))

    def finish(self, context, version, alpn):
        if version:
            context.minimum_version = context.maximum_version = version
        if alpn:
            context.set_alpn_protocols(alpn)
        return context

    def server(self, cert=None, version=None, alpn=(), cls=ssl.SSLContext, ask_client=None):
        context = cls(ssl.PROTOCOL_TLS_SERVER)
        (cert or self.issue("localhost")).configure_cert(context)
        if ask_client is not None:
            context.verify_mode = ask_client
            self.authority.configure_trust(context)
        return self.finish(context, version, alpn)

    def client(self, cert=None, version=None, alpn=(), cls=ssl.SSLContext, authority=None):
        context = cls(ssl.PROTOCOL_TLS_CLIENT)
        (authority or self.authority).configure_trust(context)
        if cert:
            cert.configure_cert(context)
        return self.finish(context, version, alpn)


@pytest.fixture(scope="session")
def contexts():
    return Contexts()


@pytest.fixture(scope="session")
def server_context(contexts):
    return contexts.server()


@pytest.fixture(scope="session")
def client_context(contexts):
    return contexts.client()


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def version(request):
    return request.param


# Protocols


def describe(exc):
    """Everything visible of an exception, except for the line of the ssl module that raised it."""
    if exc is None:
        return None
    names = ("errno", "reason", "library", "verify_code", "verify_message")
    text = re.sub(r"\(_ssl\.c:\d+\)", "(_ssl.c)", str(exc))
    return (type(exc).__name__, text) + tuple((name, getattr(exc, name)) for name in names if hasattr(exc, name))


class Notes:
    """Notes its calls, in order. A hook named after a method is called with the protocol and the arguments; the method
    returns the hook's result.
    """

    def __init__(self, **hooks):
        self.events = []
        self.hooks = hooks
        self.transport = None

    def note(self, name, *told, args=()):
        self.events.append((name,) + told)
        hook = self.hooks.get(name)
        return hook(self, *args) if hook else None

    @property
    def data(self):
        return b"".join(event[1] for event in self.events if event[0] == "data")

    @property
    def story(self):
        """The events, with data that came in several pieces joined."""
        story = []
        for event in self.events:
            if event[0] == "data" and story and story[-1][0] == "data":
                event = ("data", story.pop()[1] + event[1])
            story.append(event)
        return story

    def count(self, name):
        return sum(event[0] == name for event in self.events)

    @property
    def lost(self):
        return self.count("lost")

    def connection_made(self, transport):
        self.transport = transport
        return self.note("made", args=[transport])

    def eof_received(self):
        return self.note("eof")

    def connection_lost(self, exc):
        return self.note("lost", describe(exc), args=[exc])

    def pause_writing(self):
        return self.note("pause")

    def resume_writing(self):
        return self.note("resume")


class Recorder(Notes, asyncio.Protocol):
    def data_received(self, data):
        assert type(data) is bytes
        return self.note("data", data, args=[data])


class BufferedRecorder(Notes, asyncio.BufferedProtocol):
    def __init__(self, size=65536, **hooks):
        super().__init__(**hooks)
        self.buffer = bytearray(size)

    def get_buffer(self, sizehint):
        hook = self.hooks.get("get_buffer")
        if hook:
            return hook(self, sizehint)
        return memoryview(self.buffer)

    def buffer_updated(self, count):
        return self.note("data", bytes(memoryview(self.buffer)[:count]), args=[count])


# The peer


class Peer:
    """TLS on a plain socket, driven by hand while the loop runs: the test decides what goes into one segment."""

    def __init__(self, stage, sock, context, **options):
        self.stage, self.sock = stage, sock
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, **options)
        self.end = None  # how the data ended: "eof" or "reset"
        self.failure = None  # what attempt() has returned for an error

    def pull(self):
        """Receives what has arrived."""
        while self.end is None:
            try:
                data = self.sock.recv(1 << 18)
            except BlockingIOError:
                return
            except ConnectionError:
                data, self.end = b"", "reset"
            if data:
                self.incoming.write(data)
            elif self.end is None:
                self.end = "eof"
                self.incoming.write_eof()

    def raw(self, data):
        """Sends the bytes as they are, in as few segments as possible."""
        left = memoryview(data)

        def sent():
            nonlocal left
            with contextlib.suppress(BlockingIOError):
                left = left[self.sock.send(left) :]
            return not left

        if data:
            self.stage.until(sent)

    def flush(self):
        self.raw(self.outgoing.read())

    def attempt(self, function, *args):
        """Calls the function with what has arrived; it may want more. Once TLS has failed nothing is called: Python 3.13 would
        raise an OSError with whatever number a system call has left in errno.
        """
        self.pull()
        if self.failure is not None:
            return self.failure
        try:
            return function(*args)
        except ssl.SSLWantReadError:
            return self.end
        except ssl.SSLZeroReturnError as error:
            return describe(error)
        except ssl.SSLError as error:
            self.failure = describe(error)
            return self.failure
        finally:
            with contextlib.suppress(ConnectionError):
                self.flush()

    def drive(self, function, *args):
        """Calls the function until it does not want to read more."""
        results = []

        def done():
            self.pull()
            try:
                results.append(function(*args))
            except ssl.SSLWantReadError:
                assert self.end is None, self.end
            finally:
                self.flush()
            return results

        self.stage.until(done)
        return results[0]

    def handshake(self):
        self.drive(self.tls.do_handshake)

    def fate(self):
        """How the peer's handshake ends: "done", an exception, or how the data ended."""
        fates = []

        def ended():
            self.pull()
            try:
                self.tls.do_handshake()
                fates.append("done")
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLEOFError:
                fates.append(self.end)
            except ssl.SSLError as error:
                fates.append(describe(error))
            with contextlib.suppress(ConnectionError):
                self.flush()
            return fates or self.end

        self.stage.until(ended)
        return fates[0] if fates else self.end

    def hello(self):
        """The ClientHello."""
        with pytest.raises(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self.outgoing.read()

    def encrypt(self, data):
        """Records with the data, not sent yet."""
        left = memoryview(data)
        while left:
            left = left[self.tls.write(left) :]
        return self.outgoing.read()

    def send(self, data):
        self.raw(self.encrypt(data))

    def close_notify(self):
        """The record that ends our side, not sent yet."""
        with contextlib.suppress(ssl.SSLError):
            self.tls.unwrap()
        return self.outgoing.read()

    def receive(self, count):
        got = bytearray()
        while len(got) < count:
            data = self.drive(self.tls.read, count - len(got))
            assert data, "close_notify"
            got += data
        return bytes(got)

    def ending(self, answer=True):
        """Everything before the end, and how it ends; a close_notify is answered."""
        got, seen = bytearray(), []

        def ended():
            self.pull()
            while not seen:
                try:
                    data = self.tls.read(1 << 18)
                except ssl.SSLWantReadError:
                    break
                except ssl.SSLZeroReturnError:
                    data = b""
                except ssl.SSLEOFError:
                    seen.append("no close_notify")
                    break
                except ssl.SSLError as error:
                    seen.append(describe(error))
                    break
                got.extend(data)
                if not data:
                    seen.append("close_notify")
                    if answer:
                        with contextlib.suppress(ConnectionError):
                            self.raw(self.close_notify())
            return self.end

        self.stage.until(ended)
        return [bytes(got)] + seen + [self.end]

    def close(self):
        self.sock.close()

    def half_close(self):
        with contextlib.suppress(OSError):  # it is closed already
            self.sock.shutdown(socket.SHUT_WR)

    def reset(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


# The stage


class Stage:
    recorder = Recorder
    buffered = BufferedRecorder
    peer = Peer
    describe = staticmethod(describe)

    def __init__(self, loop, contexts):
        self.loop, self.contexts = loop, contexts
        self.reports = []
        self.stack = contextlib.ExitStack()
        self.transports = weakref.WeakSet()
        self.closed = False
        loop.set_exception_handler(self.report)

    def report(self, loop, context):
        if not self.closed:
            self.reports.append((context["message"], describe(context.get("exception")), sorted(context)))

    def close(self):
        """Ends what the test left open, without checks."""
        if self.closed:
            return
        self.closed = True
        transports = list(self.transports)
        for transport in transports:
            with contextlib.suppress(AttributeError):  # asyncio's that were closed twice
                protocol = transport.get_protocol()
                protocol.hooks.clear()
                protocol.events = []
        self.stack.close()
        if not self.loop.is_closed():
            for transport in transports:
                with contextlib.suppress(AttributeError):
                    transport.abort()
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            self.settle()
        self.loop.set_exception_handler(None)

    # Time

    def turn(self):
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()

    def until(self, condition):
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, "waited in vain"
            self.turn()

    def settle(self):
        """Runs the loop until it has handled everything: it polls after what the last poll made ready."""
        for _ in range(3):
            polled = []
            ours, theirs = socket.socketpair()
            with ours, theirs:
                theirs.send(b"!")
                self.loop.add_reader(ours, polled.append, 1)
                try:
                    self.until(lambda polled=polled: polled)
                finally:
                    self.loop.remove_reader(ours)
            self.turn()

    def run(self, coroutine):
        return self.loop.run_until_complete(asyncio.wait_for(coroutine, PATIENCE_S))

    def attempt(self, function, *args):
        """What the function returns or raises."""
        try:
            result = function(*args)
            return self.run(result) if asyncio.iscoroutine(result) else result
        except Exception as error:
            return describe(error)

    def outcome(self, task):
        """What the task raised, or None."""
        self.until(task.done)
        if task.cancelled():
            return "cancelled"
        return describe(task.exception()) or "done"

    @contextlib.contextmanager
    def unwarned(self):
        """Sockets and transports may be left to the collector."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
            self.settle()
            gc.collect()

    @staticmethod
    def is_closing(transport):
        """For a connection that was lost. (Old versions of asyncio return False.)"""
        return None if OLD else transport.is_closing()

    # Connections

    def pair(self, kind="unix"):
        if kind == "unix":
            pair = socket.socketpair()
        else:
            with socket.socket() as listener:
                listener.bind(("127.0.0.1", 0))
                listener.listen()
                ours = socket.create_connection(listener.getsockname(), timeout=PATIENCE_S)
                pair = ours, listener.accept()[0]
                pair[0].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                pair[1].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for sock in pair:
            self.stack.enter_context(sock).setblocking(False)
        return pair

    def keep(self, transport):
        self.transports.add(transport)
        return transport

    def begin(
        self, protocol, side="client", kind="unix", context=None, peer_context=None, peer_name="localhost", **options
    ):
        """Starts a connection whose end on that side is the loop's; returns the task that creates it, and the peer."""
        ours, theirs = self.pair(kind)
        factory = protocol if isinstance(protocol, type(lambda: 0)) else lambda: protocol
        if side == "client":
            options.setdefault("server_hostname", "localhost")
            peer = Peer(self, theirs, peer_context or self.contexts.usual_server(), server_side=True)
            connecting = self.loop.create_connection(
                factory, sock=ours, ssl=context or self.contexts.usual_client(), **options
            )
        else:
            peer = Peer(self, theirs, peer_context or self.contexts.usual_client(), server_hostname=peer_name)
            connecting = self.loop.connect_accepted_socket(
                factory, ours, ssl=context or self.contexts.usual_server(), **options
            )
        return self.loop.create_task(connecting), peer

    def connect(self, protocol, *args, **options):
        """Creates a connection; returns its transport, and the peer."""
        task, peer = self.begin(protocol, *args, **options)
        peer.handshake()
        self.until(task.done)
        transport, made = task.result()
        assert made is protocol
        self.settle()  # read what follows a handshake of TLS 1.3
        return self.keep(transport), peer

    def abort(self, transport, peer):
        """Aborts the connection; returns what was sent to the peer before that, and is not read yet."""
        transport.abort()
        self.settle()
        got, *_ = peer.ending(answer=False)
        peer.close()
        return got

    def couple(self, ours, theirs, **options):
        """Connects two protocols of the loop; returns their transports, the client's first."""

        async def main():
            first, second = self.pair(options.pop("kind", "unix"))
            serving = self.loop.connect_accepted_socket(lambda: theirs, second, ssl=self.contexts.usual_server())
            serving = self.loop.create_task(serving)
            client, _ = await self.loop.create_connection(
                lambda: ours, sock=first, ssl=self.contexts.usual_client(), server_hostname="localhost", **options
            )
            return client, (await serving)[0]

        transports = self.run(main())
        for transport in transports:
            self.keep(transport)
        self.settle()
        return transports


@pytest.fixture
def stage(loop, contexts):
    stage = Stage(loop, contexts)
    yield stage
    stage.close()


@pytest.fixture(scope="session")
def own_tls(contexts):
    """Whether cloop's TLS is its own."""
    cloop = pytest.importorskip("cloop")
    stage = Stage(cloop.Loop(), contexts)
    try:
        return not type(stage.connect(Recorder())[0]).__module__.startswith("asyncio.")
    finally:
        stage.close()
        stage.loop.close()


@pytest.fixture
def alone(loop_kind, request):
    """A stage for tests that fail on asyncio's own TLS because of a bug there."""
    if loop_kind == "asyncio" or not request.getfixturevalue("own_tls"):
        pytest.skip("a defect of asyncio")
    return request.getfixturevalue("stage")


@pytest.fixture
def same(as_asyncio, contexts):
    """Runs body(stage) on asyncio and on the loop under test, and compares its result or exception, the calls of the
    exception handlers, warnings and log records. Returns asyncio's outcome.
    """

    def same(body):
        failures = []

        def play(loop):
            if OLD:  # asyncio's transports warn although the peer closed them
                warnings.filterwarnings("ignore", "unclosed transport", ResourceWarning)
            stage = Stage(loop, contexts)
            try:
                result = body(stage)
            except BaseException as error:
                failures.append(error)
                raise
            finally:
                stage.close()
            return result, stage.reports

        try:
            expected = as_asyncio(play)
        finally:
            if failures:
                raise failures[0]
        expected["result"], expected["reports"] = expected["result"]
        return expected

    return same


@pytest.fixture(params=["client", "server"])
def side(request):
    """The side that is the loop's."""
    return request.param
