"""A handler writes, and then blocks, computes or waits, in the same callback or not. A peer in another process gets
each byte meanwhile, as on asyncio. If the transport has learnt to hold writes, one may be late, once (net/gather.h,
docs/decisions/0007).

The peer reports through a pipe which byte it has and when it came. A handler continues when its byte was reported, or
when it has waited in vain, so that no machine is too slow for these tests.
"""

import asyncio
import os
import select
import ssl
import struct
import subprocess
import sys
import time

import pytest

PATIENCE_S = 20  # for what must come
LATE_S = 0.1  # for what need not come
LONG_S = 0.0005  # a callback that takes this long teaches no transport to hold writes
STEPS = 3
QUICK = 8  # callbacks that teach a transport to hold writes
NEWS = struct.Struct("=cd")

# CLOOP_GATHER=always enables what these tests exclude.
pytestmark = pytest.mark.skipif("CLOOP_GATHER" in os.environ, reason="CLOOP_GATHER is set")

PEER = """
import os, socket, struct, sys, time

told, medium, address = int(sys.argv[1]), sys.argv[2], sys.argv[3]
if medium in ("pipe", "stdin"):
    read = lambda: os.read(0, 100)
else:
    if medium == "unix":
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(address)
    else:
        sock = socket.create_connection(("127.0.0.1", int(address)))
    if medium == "tls":
        import ssl
        sock = ssl.create_default_context(cafile=sys.argv[4]).wrap_socket(sock, server_hostname="localhost")
    read = lambda: sock.recv(100)
while True:
    data = read()
    if not data:
        break
    for byte in data:
        os.write(told, struct.pack("=cd", bytes([byte]), time.monotonic()))
"""


class News:
    """The peer's reports, read from a non-blocking pipe."""

    def __init__(self, fd):
        self.fd = fd
        self.bytes = b""
        self.times = []

    def take(self):
        try:
            data = os.read(self.fd, 100 * NEWS.size)
        except BlockingIOError:
            return
        for byte, when in NEWS.iter_unpack(data):
            self.bytes += byte
            self.times.append(when)

    def blocks(self, condition, limit_s):
        deadline = time.monotonic() + limit_s
        while not condition() and time.monotonic() < deadline:
            select.select([self.fd], [], [], max(0, deadline - time.monotonic()))
            self.take()

    def sleeps(self, condition, limit_s):
        deadline = time.monotonic() + limit_s
        while not condition() and time.monotonic() < deadline:
            time.sleep(0.001)
            self.take()

    def computes(self, condition, limit_s):
        deadline = time.monotonic() + limit_s
        while not condition() and time.monotonic() < deadline:
            sum(range(1000))
            self.take()


WAITS = {"blocks": News.blocks, "sleeps": News.sleeps, "computes": News.computes}


class Connection:
    """A writer of the loop under test, and its peer's reports."""

    def __init__(self, loop, turn, writer, news):
        self.loop = loop
        self.turn = turn
        self.writer = writer
        self.news = news
        self.written = b""

    def write(self):
        byte = b"%d" % (len(self.written) % 10)
        self.written += byte
        self.writer.write(byte)

    def seen(self):
        return self.news.bytes == self.written

    def wait(self, wait, limit_s=PATIENCE_S):
        """Continues when the peer has everything, or not in time; returns which."""
        until = time.monotonic() + LONG_S
        wait(self.news, self.seen, limit_s)
        wait(self.news, lambda: time.monotonic() > until, LONG_S)
        if self.seen():
            assert self.news.times[-1] <= time.monotonic()
        return self.seen()

    def callback(self, wait, may_be_late=()):
        """A callback of a few steps, some of which may be late: returns the result of each."""
        steps = []

        def run():
            for n in range(STEPS):
                self.write()
                steps.append(self.wait(wait, LATE_S if n in may_be_late else PATIENCE_S))

        self.loop.call_soon(run)
        self.turn()
        return steps

    def draining(self, wait):
        async def run():
            steps = []
            for _ in range(STEPS):
                self.write()
                await self.writer.drain()
                steps.append(self.wait(wait))
            return steps

        return self.loop.run_until_complete(run())

    def awaiting(self, wait):
        async def run():
            steps = []
            for _ in range(STEPS):
                self.write()
                await asyncio.sleep(0)
                steps.append(self.wait(wait))
            return steps

        return self.loop.run_until_complete(run())

    def teach(self):
        """Makes callbacks write twice and return at once."""

        def run():
            self.write()
            self.write()

        for _ in range(QUICK):
            self.loop.call_soon(run)
            self.turn()
        self.news.blocks(self.seen, PATIENCE_S)
        assert self.seen()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Creates the server's context, and the path of its authority's certificate."""

    def certificates():
        trustme = pytest.importorskip("trustme")
        authority = trustme.CA()
        path = tmp_path_factory.mktemp("certificates") / "authority.pem"
        authority.cert_pem.write_to_path(str(path))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(context)
        return context, str(path)

    made = []
    return lambda: made[0] if made else made.append(certificates()) or made[0]


class Peers:
    """Creates connections of one medium, each to its own peer; closes all."""

    def __init__(self, loop, turn, medium, script, folder, certificates):
        self.loop = loop
        self.turn = turn
        self.medium = medium
        self.script = script
        self.folder = folder
        self.certificates = certificates
        self.server = None
        self.authority = ""
        self.accepted = []
        self.connections = []
        self.processes = []

    def connect(self):
        telling, told = os.pipe()
        os.set_blocking(telling, False)
        try:
            maker = {"pipe": self.pipe, "stdin": self.stdin}.get(self.medium, self.stream)
            writer = self.loop.run_until_complete(maker(told))
        finally:
            os.close(told)
        self.connections.append(Connection(self.loop, self.turn, writer, News(telling)))
        return self.connections[-1]

    def command(self, told, address=""):
        return [sys.executable, "-I", "-S", self.script, str(told), self.medium, address, self.authority]

    async def stream(self, told):
        if self.server is None:
            if self.medium == "unix":
                self.server = await asyncio.start_unix_server(self.accept, self.folder + "/socket")
            elif self.medium == "tls":
                context, self.authority = self.certificates()
                self.server = await asyncio.start_server(self.accept, "127.0.0.1", 0, ssl=context)
            else:
                self.server = await asyncio.start_server(self.accept, "127.0.0.1", 0)
        name = self.server.sockets[0].getsockname()
        address = name if self.medium == "unix" else str(name[1])
        self.processes.append(subprocess.Popen(self.command(told, address), pass_fds=[told]))
        deadline = time.monotonic() + PATIENCE_S
        while not self.accepted:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.001)
        return self.accepted.pop()

    def accept(self, reader, writer):
        self.accepted.append(writer)

    async def pipe(self, told):
        reading, writing = os.pipe()
        self.processes.append(subprocess.Popen(self.command(told), stdin=reading, pass_fds=[told]))
        os.close(reading)
        transport, protocol = await self.loop.connect_write_pipe(
            lambda: asyncio.streams.FlowControlMixin(loop=self.loop), os.fdopen(writing, "wb", 0)
        )
        return asyncio.StreamWriter(transport, protocol, None, self.loop)

    async def stdin(self, told):
        process = await asyncio.create_subprocess_exec(
            *self.command(told), stdin=asyncio.subprocess.PIPE, pass_fds=[told]
        )
        self.processes.append(process)
        return process.stdin

    async def close(self):
        for connection in self.connections:
            connection.writer.close()
        for process in self.processes:
            if isinstance(process, subprocess.Popen):
                await self.loop.run_in_executor(None, process.wait, PATIENCE_S)
            else:
                await asyncio.wait_for(process.wait(), PATIENCE_S)
        if self.server is not None:
            self.server.close()
        await asyncio.sleep(0)
        if hasattr(self.loop, "shutdown_default_executor"):
            await self.loop.shutdown_default_executor()
        for connection in self.connections:
            os.close(connection.news.fd)


@pytest.fixture
def peers(loop, turn, medium, write_script, tmp_path, certificates, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asyncio.set_event_loop(loop)  # create_subprocess_exec() of 3.8 has its watcher attached by that
    peers = Peers(loop, turn, medium, str(write_script(PEER)), ".", certificates)
    yield peers
    loop.run_until_complete(peers.close())
    asyncio.set_event_loop(None)


every_medium = pytest.mark.parametrize("medium", ["tcp", "unix", "tls", "pipe", "stdin"])
holding = ["tcp", "unix", "tls"]
in_every_way = pytest.mark.parametrize(
    "medium, wait",
    [(medium, wait) for medium in holding for wait in WAITS.values()]
    + [(medium, News.blocks) for medium in ("pipe", "stdin")],
    ids=[medium + "-" + name for medium in holding for name in WAITS] + ["pipe", "stdin"],
)
IN_TIME = [True] * STEPS
LATE_ONCE = [False] + IN_TIME[1:]


def all_in_time(connection):
    for name, wait in WAITS.items():
        for way in (connection.callback, connection.draining, connection.awaiting):
            assert way(wait) == IN_TIME, (name, way.__name__)


@every_medium
def test_a_fresh_connection_is_never_late(peers):
    all_in_time(peers.connect())


@in_every_way
def test_a_connection_that_has_learnt_is_late_once(peers, loop_kind, wait):
    connection = peers.connect()
    connection.teach()
    first = connection.callback(wait, may_be_late=() if loop_kind == "asyncio" else (0,))
    assert first in (IN_TIME, LATE_ONCE)
    all_in_time(connection)


@in_every_way
def test_who_awaits_after_a_write_is_never_late(peers, wait):
    connection = peers.connect()
    connection.teach()
    assert connection.awaiting(wait) == IN_TIME


@pytest.mark.parametrize("medium", holding)
def test_what_others_have_learnt_makes_one_write_late(peers, loop_kind):
    for _ in range(2):
        peers.connect().teach()
    connection = peers.connect()
    first = connection.callback(News.blocks, may_be_late=() if loop_kind == "asyncio" else (0,))
    assert first in (IN_TIME, LATE_ONCE)
    all_in_time(connection)
    if first == LATE_ONCE:  # unless another process took the core for a moment
        all_in_time(peers.connect())
