"""Thousands of handshakes, a third of which fail or are aborted at some stage, leave nothing behind.

CLOOP_TLS_HANDSHAKES=100000 is the long run; from 20,000 on, memory must not grow either.
"""

import asyncio
import collections
import contextlib
import faulthandler
import gc
import importlib
import os
import random
import socket
import ssl
import time
import weakref

import pytest

HANDSHAKES = int(os.environ.get("CLOOP_TLS_HANDSHAKES", "300"))
MANY = 20000  # handshakes after which memory use is meaningful
GROWTH = 100  # bytes that memory may grow by for each of the second half
STOCK_GROWTH = 1024  # the same, if the collector frees transports late; asyncio's take 270 KiB each
PATIENCE_S = 20
NAME = "localhost"


class Note:
    """For a connection: notes its protocols and transports, without keeping them."""

    def __init__(self, soak):
        self.lost = soak.loop.create_future()
        self.answer = soak.loop.create_future()
        self.alive = soak.alive
        self.alive.add(self)

    def connection_made(self, transport):
        self.transport = transport
        self.alive.add(transport)

    def connection_lost(self, exc):
        self.lost.set_result(None)


class Client(Note, asyncio.Protocol):
    def data_received(self, data):
        self.answer.set_result(data)


class Server(Note, asyncio.Protocol):
    """Follows instructions: echoes, closes or aborts."""

    def data_received(self, data):
        {b"echo": lambda: self.transport.write(data), b"close": self.transport.close, b"abort": self.transport.abort}[
            data
        ]()


class Hasty(Server):
    """Aborts at once."""

    def connection_made(self, transport):
        super().connection_made(transport)
        transport.abort()


class Soak:
    def __init__(self, loop, server_context, client_context):
        self.loop, self.server_context, self.client_context = loop, server_context, client_context
        self.strangers_context = ssl.create_default_context()  # it trusts nobody here
        self.rng = random.Random(HANDSHAKES)
        self.alive = weakref.WeakSet()
        self.stock = None  # whether TLS is asyncio's
        self.done = collections.Counter()

    @contextlib.asynccontextmanager
    async def running(self):
        self.bell, ringer = socket.socketpair()
        with self.bell, ringer:
            ringer.send(b"!")
            servers = []
            for cls in Server, Hasty:
                sock = socket.socket(socket.AF_UNIX)
                sock.bind(b"")  # the kernel chooses an abstract address
                factory = lambda cls=cls: cls(self)  # noqa: E731
                servers.append(await self.loop.create_unix_server(factory, sock=sock, ssl=self.server_context))
            self.address, self.hasty_address = (server.sockets[0].getsockname() for server in servers)
            try:
                yield
            finally:
                for server in servers:
                    server.close()
                    await server.wait_closed()

    async def polls(self, most):
        """Waits until the loop has polled up to this many times; a turn need not poll."""
        for _ in range(self.rng.randrange(most)):
            rung = self.loop.create_future()
            self.loop.add_reader(self.bell, rung.set_result, None)
            await rung
            self.loop.remove_reader(self.bell)

    def connecting(self, client, context=None, address=None, **options):
        options.setdefault("server_hostname", NAME)
        context = context or self.client_context
        if "sock" in options:
            return self.loop.create_connection(lambda: client, ssl=context, **options)
        return self.loop.create_unix_connection(lambda: client, address or self.address, ssl=context, **options)

    async def connect(self, **options):
        client = Client(self)
        transport, _ = await self.connecting(client, **options)
        return client, transport

    async def fate(self, awaitable):
        """Its result or exception. If raised here, the exception would keep this frame, and the frame what holds it."""
        (result,) = await asyncio.gather(awaitable, return_exceptions=True)
        return result

    async def cancel(self, task, protocol):
        """Cancels the task that connects, and ends the connection if there is one."""
        task.cancel()
        result = await self.fate(task)
        if isinstance(result, tuple):
            result[0].abort()
            await protocol.lost
        else:
            assert isinstance(result, (asyncio.CancelledError, OSError)), result

    async def raw(self):
        sock = socket.socket(socket.AF_UNIX)
        sock.setblocking(False)
        await self.loop.sock_connect(sock, self.address)
        return sock

    def noise(self):
        data = self.rng.getrandbits(8 * 200).to_bytes(200, "big")
        # The second starts like a handshake record, the third like an incomplete one.
        return self.rng.choice([b"", b"\x16\x03\x01\x00\x80", b"\x16\x03\x03\x3f\x00"]) + data

    # Successful

    async def ended_by_client(self):
        client, transport = await self.connect()
        if self.stock is None:
            self.stock = type(transport).__module__.startswith("asyncio.")
        transport.write(b"echo")
        assert await client.answer == b"echo"
        transport.close()
        await client.lost

    async def ended_by_server(self):
        client, transport = await self.connect()
        transport.write(b"close")
        await client.lost

    # Failing

    async def aborted_by_client(self):
        client, transport = await self.connect()
        await self.polls(3)
        transport.abort()
        await client.lost

    async def aborted_by_server(self):
        client, transport = await self.connect()
        transport.write(b"abort")
        await client.lost

    async def aborted_by_server_at_once(self):
        client = Client(self)
        with contextlib.suppress(OSError):  # the client's handshake may have ended before
            await self.connecting(client, address=self.hasty_address)
            await client.lost

    async def distrusted(self):
        assert type(await self.fate(self.connect(context=self.strangers_context))) is ssl.SSLCertVerificationError

    async def noise_for_server(self):
        with await self.raw() as sock:
            await self.loop.sock_sendall(sock, self.noise())
            await self.polls(4)

    async def noise_for_client(self):
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            task = self.loop.create_task(self.connect(sock=ours))
            await self.polls(3)
            theirs.send(self.noise())
            await self.polls(4)
        assert isinstance(await self.fate(task), OSError)

    async def broken_off(self):
        """The peer goes away after some bytes of its hello, or of what follows it."""
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = self.client_context.wrap_bio(incoming, outgoing, server_hostname=NAME)
        with await self.raw() as sock:
            with pytest.raises(ssl.SSLWantReadError):
                tls.do_handshake()
            hello = outgoing.read()
            await self.loop.sock_sendall(sock, hello[: self.rng.randrange(2 * len(hello))])
            await self.polls(6)
            with contextlib.suppress(BlockingIOError):
                incoming.write(sock.recv(65536))
                with contextlib.suppress(ssl.SSLWantReadError):
                    tls.do_handshake()
                rest = outgoing.read()
                await self.loop.sock_sendall(sock, rest[: self.rng.randrange(2 * len(rest))])
                await self.polls(2)

    async def cancelled_by_client(self):
        client = Client(self)
        task = self.loop.create_task(self.connecting(client))
        await self.polls(8)
        await self.cancel(task, client)

    async def cancelled_by_server(self):
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        server, client = Server(self), Client(self)
        serving = self.loop.create_task(
            self.loop.connect_accepted_socket(lambda: server, ours, ssl=self.server_context)
        )
        connecting = self.loop.create_task(self.connecting(client, sock=theirs))
        await asyncio.sleep(0)  # otherwise the socket would still be ours
        await self.polls(8)
        await self.cancel(serving, server)
        if isinstance(await self.fate(connecting), tuple):
            await client.lost

    async def handshakes(self, count, refused=True):
        """A third of them fail; without `refused` none does."""
        fine = [self.ended_by_client, self.ended_by_server]
        broken = [self.aborted_by_client, self.aborted_by_server, self.aborted_by_server_at_once]
        broken += refused * [
            self.distrusted,
            self.noise_for_server,
            self.noise_for_client,
            self.broken_off,
            self.cancelled_by_client,
            self.cancelled_by_server,
        ]
        for number in range(count):
            body = broken[number // 3 % len(broken)] if number % 3 == 2 else fine[number % 3]
            await asyncio.wait_for(body(), PATIENCE_S)
            self.done[body.__name__] += 1

    async def settled(self, condition):
        """Whether it becomes true: the other ends of the last connections may still be closing."""
        deadline = time.monotonic() + 5
        while not condition() and time.monotonic() < deadline:
            await self.polls(2)
            await asyncio.sleep(0)
        return condition()


def descriptors():
    return sorted(os.listdir("/proc/self/fd"))


def objects(loop_kind):
    """The number of objects that make up a connection."""
    names = "SSLObject", "_SSLSocket", "SSLProtocol", "_SSLProtocolTransport"
    counts = collections.Counter(type(thing).__name__ for thing in gc.get_objects() if type(thing).__name__ in names)
    if loop_kind != "asyncio":
        ours = importlib.import_module("cloop._cloop").counts()
        counts.update(
            {name: ours[name] for name in ours if name not in ("Future", "Task")}
        )  # which are the test's, too
    return counts


def resident_bytes():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def watched(loop, loop_kind):
    """How many transports and descriptors the loop has."""
    if loop_kind != "asyncio":
        return len(loop._transports), loop.metrics().watched
    return len(loop._transports), len(loop._selector.get_map())


def test_handshakes_leave_nothing(loop, loop_kind, server_context, client_context):
    """Nothing waits for the garbage collector, except for what asyncio's own transports and coroutines leave to it."""
    soak = Soak(loop, server_context, client_context)
    reports = []
    loop.set_exception_handler(lambda loop, context: reports.append(context["message"]))

    # Its frame has the waiter, the waiter has the exception, and that has the frame.
    keeps_failures = type(loop)._create_connection_transport.__module__.startswith("asyncio.")

    def left(collect):
        if collect:
            gc.collect()
        return {
            "protocols and transports": len(soak.alive),
            "descriptors": descriptors(),
            "objects": objects(loop_kind),
            "watched": watched(loop, loop_kind),
        }

    async def leave_nothing(count, collect, **options):
        await soak.handshakes(count, **options)
        await soak.settled(lambda: left(collect) == before)
        assert left(collect) == before
        return resident_bytes()

    async def main():
        nonlocal before
        async with soak.running():
            await soak.handshakes(30)  # caches that the first ones fill do not count
            gc.collect()
            assert await soak.settled(lambda: not len(soak.alive) and len(descriptors()) == open_before + 4)
            before = left(True)
            if not soak.stock:
                gc.disable()
            await leave_nothing(30, soak.stock, refused=False)
            if keeps_failures:
                gc.enable()
            sizes = [await leave_nothing(HANDSHAKES // 2, soak.stock or keeps_failures) for _ in range(2)]
            print("handshakes", HANDSHAKES, "resident", sizes)
            if HANDSHAKES >= MANY:
                assert sizes[1] - sizes[0] < HANDSHAKES // 2 * (STOCK_GROWTH if keeps_failures else GROWTH)

    before = None
    if HANDSHAKES >= MANY:
        faulthandler.cancel_dump_traceback_later()  # no limit for the long run
    open_before = len(descriptors())
    loop.run_until_complete(main())
    assert len(soak.done) == 11, soak.done
    assert reports == []


@pytest.fixture(autouse=True)
def collector():
    yield
    gc.enable()
