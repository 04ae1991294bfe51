"""What the socket tests share: connections with a transport of the loop under test at one end and a plain socket at
the other, protocols that note their calls, and waiting by turns.

If asyncio has a bug that cloop does not share, a test requests `native` transports. asyncio's own, and a cloop that
uses them, are skipped.
"""

import asyncio
import contextlib
import gc
import re
import socket
import warnings
import weakref

import pytest

PATIENCE_S = 20  # for what should happen at once
HOSTS = {"tcp": "127.0.0.1", "tcp6": "::1"}


@pytest.fixture(autouse=True)
def all_is_well(nothing_is_reported):
    """For every test of this folder."""


@pytest.fixture
def turns_taken(loop, loop_kind):
    """Returns how many turns the loop has run."""
    if loop_kind != "asyncio":
        return lambda: loop.metrics().turns
    taken = []
    run_once = loop._run_once
    loop._run_once = lambda: taken.append(1) or run_once()
    return lambda: len(taken)


# Sockets


def have_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


HAVE_IPV6 = have_ipv6()


@pytest.fixture
def ipv6():
    """For tests that need IPv6."""
    if not HAVE_IPV6:
        pytest.skip("no IPv6 here")


@pytest.fixture
def sockets():
    """Collects sockets, and closes them after the test."""
    with contextlib.ExitStack() as stack:
        yield stack.enter_context


@pytest.fixture
def listening(sockets):
    """Creates listening sockets of the family, with a timeout, as blocking ones may hang a test."""

    def listening(kind="tcp", backlog=100):
        sock = sockets(socket.socket({"tcp": socket.AF_INET, "tcp6": socket.AF_INET6, "unix": socket.AF_UNIX}[kind]))
        sock.bind(b"" if kind == "unix" else (HOSTS[kind], 0))  # empty: the kernel chooses an abstract address
        sock.listen(backlog)
        sock.settimeout(PATIENCE_S)
        return sock

    return listening


@pytest.fixture
def socket_pair(sockets, listening):
    """Creates two connected non-blocking stream sockets."""

    def socket_pair(kind="unix"):
        if kind == "unix":
            pair = socket.socketpair()
        else:
            with listening(kind) as listener:
                ours = socket.create_connection(listener.getsockname()[:2], timeout=PATIENCE_S)
                pair = ours, listener.accept()[0]
        for sock in pair:
            sockets(sock).setblocking(False)
        return pair

    return socket_pair


@pytest.fixture
def collect(until):
    """Reads this many bytes from a socket while the loop runs, or everything up to EOF."""

    def collect(peer, count=None):
        got = bytearray()

        def enough():
            if count is None or len(got) < count:
                try:
                    data = peer.recv(1 << 18 if count is None else min(count - len(got), 1 << 18))
                except BlockingIOError:
                    return False
                got.extend(data)
                if not data:
                    return True
            return len(got) == count

        until(enough)
        return bytes(got)

    return collect


@pytest.fixture
def feed(until):
    """Writes all of the data to a socket while the loop runs."""

    def feed(peer, data):
        left = memoryview(data)

        def done():
            nonlocal left
            with contextlib.suppress(BlockingIOError):
                left = left[peer.send(left) :]
            return not left

        until(done)

    return feed


@pytest.fixture
def start(loop, turn, run):
    """Starts a task and runs one turn; the task is cancelled after the test."""
    tasks = []

    def start(coroutine):
        tasks.append(loop.create_task(coroutine))
        turn()
        return tasks[-1]

    yield start
    for task in tasks:
        task.cancel()
    if tasks:
        run(asyncio.wait(tasks))


# Protocols


class Notes:
    """Notes its calls, in order. A hook named after a method is called with the protocol and the arguments; the method
    returns the hook's result.
    """

    def __init__(self, **hooks):
        self.calls = []
        self.hooks = hooks
        self.transport = None
        self.lost = []  # the arguments of connection_lost()

    def note(self, name, *args):
        self.calls.append(name)
        if name in self.hooks:
            return self.hooks[name](self, *args)

    def connection_made(self, transport):
        self.transport = transport
        return self.note("connection_made", transport)

    def connection_lost(self, exc):
        self.lost.append(exc)
        return self.note("connection_lost", exc)

    def eof_received(self):
        return self.note("eof_received")

    def pause_writing(self):
        return self.note("pause_writing")

    def resume_writing(self):
        return self.note("resume_writing")


class Recorder(Notes, asyncio.Protocol):
    def __init__(self, **hooks):
        super().__init__(**hooks)
        self.chunks = []

    @property
    def data(self):
        return b"".join(self.chunks)

    def data_received(self, data):
        self.chunks.append(data)
        return self.note("data_received", data)


class BufferedRecorder(Notes, asyncio.BufferedProtocol):
    def __init__(self, size=65536, **hooks):
        super().__init__(**hooks)
        self.buffer = bytearray(size)
        self.data = b""

    def get_buffer(self, sizehint):
        hooked = self.note("get_buffer", sizehint)
        return self.buffer if "get_buffer" not in self.hooks else hooked

    def buffer_updated(self, count):
        self.data += bytes(memoryview(self.buffer)[:count])
        return self.note("buffer_updated", count)


class DatagramRecorder(Notes, asyncio.DatagramProtocol):
    def __init__(self, **hooks):
        super().__init__(**hooks)
        self.received = []  # data and its source
        self.errors = []

    @property
    def data(self):
        return [data for data, _ in self.received]

    def datagram_received(self, data, addr):
        self.received.append((data, addr))
        return self.note("datagram_received", data, addr)

    def error_received(self, exc):
        self.errors.append(exc)
        return self.note("error_received", exc)


@pytest.fixture
def recorder():
    return Recorder


@pytest.fixture
def buffered_recorder():
    return BufferedRecorder


@pytest.fixture
def datagram_recorder():
    return DatagramRecorder


# Transports


@pytest.fixture
def abandoned(loop, turn, sockets):
    """Aborts the transports added to it, after the test and before their sockets are closed."""
    transports = weakref.WeakSet()
    yield transports
    if loop.is_closed():
        return
    for transport in list(transports):
        if transport.get_protocol() is not None:  # asyncio's abort() fails after some kinds of end
            transport.abort()
    turn()
    turn()


@pytest.fixture
def connect(run, loop, abandoned, socket_pair):
    """Connects the protocol; returns its transport, and the socket at the other end."""

    def connect(protocol, kind="unix"):
        ours, peer = socket_pair(kind)
        transport, made = run(loop.create_connection(lambda: protocol, sock=ours))
        assert made is protocol
        abandoned.add(transport)
        return transport, peer

    return connect


class Serving:
    """Starts servers; `accepted` has the protocols of their connections."""

    def __init__(self, loop):
        self.loop = loop
        self.accepted = []
        self.servers = []

    def factory(self, protocol_class=Recorder, **hooks):
        def factory():
            self.accepted.append(protocol_class(**hooks))
            return self.accepted[-1]

        return factory

    def add(self, coroutine):
        self.servers.append(self.loop.run_until_complete(coroutine))
        return self.servers[-1]

    def tcp(self, host="127.0.0.1", port=0, protocol_class=Recorder, hooks=None, **options):
        factory = self.factory(protocol_class, **(hooks or {}))
        return self.add(self.loop.create_server(factory, host, port, **options))

    def unix(self, path=None, hooks=None, **options):
        return self.add(self.loop.create_unix_server(self.factory(**(hooks or {})), path, **options))


@pytest.fixture
def serving(loop, turn, sockets):
    serving = Serving(loop)
    yield serving
    if loop.is_closed():
        return
    for server in serving.servers:
        server.close()
    turn()
    for protocol in serving.accepted:
        if protocol.transport is not None and not protocol.lost:
            protocol.transport.abort()
    turn()
    turn()


@pytest.fixture
def call(sockets):
    """Connects a plain socket to a server."""

    def call(server):
        listener = server.sockets[0]
        sock = sockets(socket.socket(listener.family))
        sock.settimeout(PATIENCE_S)
        sock.connect(listener.getsockname())
        sock.setblocking(False)
        return sock

    return call


@pytest.fixture
def attempt(loop):
    """Runs a coroutine function; returns an exception as its type and text, without numbers that differ."""

    def attempt(function, loop=loop):
        async def main():
            return await function(loop)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # asyncio leaves some sockets to the collector
            try:
                return loop.run_until_complete(main())
            except Exception as error:
                result = type(error), re.sub(r"fd=\d+|(?<=, )\d{4,5}\b", "N", str(error))
            gc.collect()
        return result

    return attempt


@pytest.fixture(params=["unix", "tcp"])
def kind(request):
    """For tests of what both kinds of connections share."""
    return request.param


@pytest.fixture
def clog(turn):
    """Writes until the transport has buffered something, as the peer does not read; returns everything written."""

    def clog(transport):
        written = bytearray()
        while not transport.get_write_buffer_size():
            chunk = bytes([len(written) >> 16 & 255]) * (1 << 16)
            transport.write(chunk)
            written += chunk
            turn()
        return bytes(written)

    return clog


# Connections by create_connection()


@pytest.fixture
def make(run, abandoned, recorder):
    """Runs a coroutine that creates a transport; returns the transport and its protocol."""

    def make(coroutine):
        transport, protocol = run(coroutine)
        abandoned.add(transport)
        return transport, protocol

    return make


@pytest.fixture
def cancelled_after(loop, run, until):
    """cancelled_after(turns, create) cancels the task of create(factory) after so many turns: either it has connected, and is
    aborted, or nothing is left of it (which fixtures check).
    """

    def cancelled_after(turns, create, protocol_class=Recorder):
        protocols = []

        def factory():
            protocols.append(protocol_class())
            return protocols[-1]

        async def main():
            task = loop.create_task(create(factory))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            try:
                transport, _ = await task
            except asyncio.CancelledError:
                return
            transport.abort()

        run(main())
        until(lambda: asyncio.all_tasks(loop) == set())
        until(lambda: all(protocol.lost or protocol.transport is None for protocol in protocols))
        assert all(protocol.lost in ([], [None]) for protocol in protocols)

    return cancelled_after


@pytest.fixture(
    params=[
        "getaddrinfo",
        "sock_connect",
        "_connect_sock",
        "_create_connection_transport",
        "_ensure_resolved",
        "_make_socket_transport",
    ]
)
def step(request):
    """A method of the loop that asyncio's create_connection() calls."""
    return request.param


@pytest.fixture(params=["instance", "subclass", "of a subclass, later"])
def calls_of_step(request, step, new_loop, loop_class, recorder):
    """calls_of_step(*args, **options) creates two connections with these arguments; returns how often the step was called. From
    the second one on it is overridden in the loop or its class, or already in the class that the loop is made of.
    """

    def calls_of_step(*args, **options):
        original, called = getattr(loop_class, step), []

        def replacement(self, *args, **options):
            called.append(step)
            return original(self, *args, **options)

        subclass = type("Loop", (loop_class,), {step: replacement} if request.param == "subclass" else {})
        loop = new_loop(loop_class if request.param == "instance" else subclass)

        async def main():
            transport, _ = await loop.create_connection(recorder, *args, **options)
            transport.abort()
            await asyncio.sleep(0)

        loop.run_until_complete(main())
        if request.param == "instance":
            setattr(loop, step, replacement.__get__(loop))
        elif request.param == "of a subclass, later":
            assert not called
            setattr(subclass, step, replacement)
        loop.run_until_complete(main())
        return len(called)

    return calls_of_step


@pytest.fixture
def closed_port():
    """An address that refuses connections, as long as nobody else uses it."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


@pytest.fixture
def silent(sockets, listening):
    """An address that does not answer: more have asked than its listener takes."""
    address = listening(backlog=0).getsockname()
    for _ in range(3):
        filler = sockets(socket.socket())
        filler.setblocking(False)
        filler.connect_ex(address)
    return address


@pytest.fixture
def resolver(monkeypatch):
    """Makes look-ups return what the test sets: lists of addresses, all of them numeric."""
    names = {}
    asked = []

    def getaddrinfo(host, port, *args):
        asked.append((host, port) + args)
        return [
            (socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM, 6, "", info)
            for address, number in names[host]
            for info in [(address, number or port, 0, 0) if ":" in address else (address, number or port)]
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    names["asked"] = asked
    return names
