"""Sockets: servers under a load generator in C, and a client of a C server."""

import asyncio
import contextlib
import socket
import tempfile

from benchmarks import load
from benchmarks.registry import benchmark
from benchmarks.served import exchange, held, served

KIB = 1024
PIECE = 4 * KIB
CHUNK = 64 * KIB  # as in load/common.h
REPLY = 64
DEPTH = 50
LINES = 20


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


class BufferedEcho(asyncio.BufferedProtocol):
    def connection_made(self, transport):
        self.transport = transport
        self.view = memoryview(bytearray(CHUNK))

    def get_buffer(self, sizehint):
        return self.view

    def buffer_updated(self, size):
        self.transport.write(bytes(self.view[:size]))


class SmallReplies(asyncio.Protocol):
    message = b"".join(b"%c" % (ord("a") + i % 23) for i in range(REPLY - 1)) + b"\n"

    def connection_made(self, transport):
        self.transport = transport
        self.rest = 0

    def data_received(self, data):
        count, self.rest = divmod(self.rest + len(data), REPLY)
        write = self.transport.write
        message = self.message
        for _ in range(count):
            write(message)


class SmallRepliesAtOnce(SmallReplies):
    def data_received(self, data):
        count, self.rest = divmod(self.rest + len(data), REPLY)
        self.transport.writelines([self.message] * count)


class BulkSend(asyncio.Protocol):
    piece = b"x" * PIECE

    def connection_made(self, transport):
        self.transport = transport
        self.loop = asyncio.get_running_loop()
        self.chunks = 0
        self.paused = False

    def data_received(self, data):
        self.chunks = int.from_bytes(data, "little") // CHUNK
        self.pump()

    def pump(self):
        write = self.transport.write
        for _ in range(CHUNK // PIECE):
            write(self.piece)
        self.chunks -= 1
        if self.chunks and not self.paused:
            self.loop.call_soon(self.pump)

    def pause_writing(self):
        self.paused = True

    def resume_writing(self):
        self.paused = False
        if self.chunks:
            self.pump()


class BulkReceive(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
        self.left = 0

    def data_received(self, data):
        if not self.left:
            self.left = int.from_bytes(data[:8], "little") + 8
        self.left -= len(data)
        if not self.left:
            self.transport.write(b".")


class SendFile(asyncio.Protocol):
    def __init__(self, file):
        self.file = file

    def connection_made(self, transport):
        self.transport = transport
        self.loop = asyncio.get_running_loop()

    def data_received(self, data):
        self.task = self.loop.create_task(self.send(int.from_bytes(data, "little") // CHUNK))

    async def send(self, count):
        for _ in range(count):
            await self.loop.sendfile(self.transport, self.file, 0, CHUNK, fallback=False)


class EchoDatagrams(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        self.transport.sendto(data, addr)


@served(*exchange(100, KIB), floor="echo", reach=1.1)
async def tcp_echo_protocol(loop, sock):
    """One message of 1 KiB echoed by a Protocol; 100 connections."""
    return await loop.create_server(Echo, sock=sock)


@served(*exchange(100, KIB), floor="echo", reach=1)
async def tcp_echo_buffered(loop, sock):
    """One message of 1 KiB echoed by a BufferedProtocol; 100 connections."""
    return await loop.create_server(BufferedEcho, sock=sock)


@served(*exchange(20, 10 * KIB), floor="echo", reach=1)
async def tcp_echo_10k(loop, sock):
    """One message of 10 KiB echoed by a Protocol; 20 connections."""
    return await loop.create_server(Echo, sock=sock)


@served(*exchange(10, 100 * KIB), floor="echo", reach=1)
async def tcp_echo_100k(loop, sock):
    """One message of 100 KiB echoed by a Protocol; 10 connections."""
    return await loop.create_server(Echo, sock=sock)


@served(*exchange(1, KIB), floor="echo", reach=1.04)
async def pingpong(loop, sock):
    """One message of 1 KiB echoed by a Protocol; a single connection."""
    return await loop.create_server(Echo, sock=sock)


@served(*exchange(20, REPLY, DEPTH), floor="echo", batch=DEPTH, reach=22)
async def small_replies(loop, sock):
    """One write of 64 bytes, of 50 that answer one segment; 20 connections."""
    return await loop.create_server(SmallReplies, sock=sock)


@served(*exchange(20, REPLY, DEPTH), floor="echo", batch=DEPTH)
async def writelines(loop, sock):
    """One of 50 messages of 64 bytes that one writelines() is given, and that answer one segment; 20 connections."""
    return await loop.create_server(SmallRepliesAtOnce, sock=sock)


class StreamReplies:
    """As SmallReplies, through a stream: so many writes, then one drain()."""

    def __init__(self, depth):
        self.depth = depth

    async def __call__(self, reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                await reader.readexactly(REPLY * self.depth)
                for _ in range(self.depth):
                    writer.write(SmallReplies.message)
                await writer.drain()
        writer.close()


async def write_small(loop, sock, depth):
    return await loop.create_server(SmallReplies, sock=sock)


async def write_lines(loop, sock, depth):
    return await loop.create_server(SmallRepliesAtOnce, sock=sock)


async def write_stream(loop, sock, depth):
    return await asyncio.start_server(StreamReplies(depth), sock=sock)


#: What 50 of them cost, small_replies and writelines tell.
for title, by, serve in (
    ("write", "one write()", write_small),
    ("writelines", "a part of one writelines()", write_lines),
    ("streams_write", "one write() to a stream, with one drain()", write_stream),
):
    for depth in (1, 2, 10, DEPTH):
        if depth < DEPTH or serve is write_stream:
            served(
                *exchange(20, REPLY, depth),
                floor="echo",
                batch=depth,
                name="{}_{}".format(title, depth),
                operation="A message of 64 bytes, {}, of {} that answer one segment; 20 connections.".format(by, depth),
                size=(title + " depth", depth),
            )(lambda loop, sock, serve=serve, depth=depth: serve(loop, sock, depth))


@served("receive", floor="send", reach=3.5)
async def bulk_send(loop, sock):
    """64 KiB sent in writes of 4 KiB, 16 of them per callback, with flow control."""
    return await loop.create_server(BulkSend, sock=sock)


@served("send", floor="receive", reach=1)
async def bulk_recv(loop, sock):
    """64 KiB received by a Protocol that counts them."""
    return await loop.create_server(BulkReceive, sock=sock)


@served("receive", floor="send")
async def sendfile(loop, sock):
    """64 KiB of a file, sent by one loop.sendfile()."""
    file = tempfile.TemporaryFile()
    file.write(bytes(CHUNK))
    file.flush()
    # A loop that cannot is to say so here, and not in a task that nobody awaits.
    ours, theirs = socket.socketpair()
    with theirs:
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
        await loop.sendfile(transport, file, 0, 1, fallback=False)
        transport.abort()
    return await loop.create_server(lambda: SendFile(file), sock=sock)


def start_stream_server(sock, receive, ssl=None):
    """A server that writes back each message that receive(reader) awaits."""

    async def connected(reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                message = await receive(reader)
                if not message:
                    break
                writer.write(message)
                await writer.drain()
        writer.close()

    return asyncio.start_server(connected, sock=sock, ssl=ssl)


def read_some(reader):
    return reader.read(64 * KIB)


def read_exactly(reader):
    return reader.readexactly(KIB)


def read_100k(reader):
    return reader.readexactly(100 * KIB)


def read_line(reader):
    return reader.readline()


@served(*exchange(50, KIB), floor="echo", reach=1.4)
async def streams_echo(loop, sock):
    """One message of 1 KiB: readexactly(), write() and drain(); 50 connections."""
    return await start_stream_server(sock, read_exactly)


@served(*exchange(50, KIB), floor="echo", reach=1.4)
async def streams_read(loop, sock):
    """One message of 1 KiB: read(), write() and drain(); 50 connections."""
    return await start_stream_server(sock, read_some)


@served(*exchange(50, REPLY), floor="echo", reach=1.4)
async def streams_readline(loop, sock):
    """One line of 64 bytes: readline(), write() and drain(); 50 connections."""
    return await start_stream_server(sock, read_line)


@served(*exchange(50, REPLY, LINES), floor="echo", batch=LINES, reach=3)
async def streams_lines(loop, sock):
    """One line of 64 bytes, of 20 sent at once, answered likewise; 50 connections."""
    return await start_stream_server(sock, read_line)


@served(*exchange(10, 100 * KIB), floor="echo", reach=1.25)
async def streams_100k(loop, sock):
    """One message of 100 KiB: readexactly(), write() and drain(); 10 connections."""
    return await start_stream_server(sock, read_100k)


@served("storm", 20, floor="close", reach=1.15)
async def streams_connections(loop, sock):
    """One connection accepted, read to its end by read(), which comes at once, and closed; 20 at a time."""
    return await start_stream_server(sock, read_some)


async def accept_into(loop, sock, echo):
    """Start echo(loop, connection) as a task for each connection."""
    tasks = set()
    while True:
        connection, _ = await loop.sock_accept(sock)
        task = loop.create_task(echo(loop, connection))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


def sock_echo(size):
    async def echo(loop, connection):
        with connection, contextlib.suppress(ConnectionError):
            while True:
                data = await loop.sock_recv(connection, size)
                if not data:
                    return
                await loop.sock_sendall(connection, data)

    return echo


@served(*exchange(100, KIB), floor="echo", reach=2.1)
async def sock_echo_1k(loop, sock):
    """One message of 1 KiB echoed by sock_recv and sock_sendall; 100 connections."""
    return loop.create_task(accept_into(loop, sock, sock_echo(KIB)))


@served(*exchange(10, 100 * KIB), floor="echo", reach=2.5)
async def sock_echo_100k(loop, sock):
    """One message of 100 KiB echoed by sock_recv and sock_sendall; 10 connections."""
    return loop.create_task(accept_into(loop, sock, sock_echo(100 * KIB)))


@served(*exchange(20, KIB), kind="udp", floor="echo", reach=1.35)
async def udp_echo(loop, sock):
    """One datagram of 1 KiB echoed by sendto(); 20 peers."""
    transport, _ = await loop.create_datagram_endpoint(EchoDatagrams, sock=sock)
    return transport


@served(*exchange(4, 512, 16), kind="udp", floor="echo", batch=16)
async def udp_burst(loop, sock):
    """One datagram of 512 bytes echoed by sendto(), of 16 that each of 4 peers sends at once."""
    transport, _ = await loop.create_datagram_endpoint(EchoDatagrams, sock=sock)
    return transport


@served(*exchange(100, KIB), kind="unix", floor="echo", reach=1.15)
async def unix_echo(loop, sock):
    """One message of 1 KiB echoed by a Protocol over a unix socket; 100 connections."""
    return await loop.create_unix_server(Echo, sock=sock)


@served("storm", 20, floor="close", reach=1.02)
async def accept_close(loop, sock):
    """One connection accepted, read to its end, which comes at once, and closed; 20 at a time."""
    return await loop.create_server(asyncio.Protocol, sock=sock)


@contextlib.contextmanager
def c_server(loop):
    _, core = load.pin()
    with load.listener("tcp") as sock, load.server("reset", sock, core=core):
        yield sock.getsockname()


@benchmark(fixture=c_server, reach=1.05, rate=True)
async def client_connect(loop, n, address):
    """One create_connection to a C server, and its close()."""
    for _ in range(n):
        transport, _ = await loop.create_connection(asyncio.Protocol, *address)
        transport.close()


@held(10_000, at_most=0.9)
async def tcp_idle_memory(loop, sock):
    """One idle connection to a Protocol, of 10,000; growth of the resident set."""
    return await loop.create_server(Echo, sock=sock)


@held(10_000, at_most=3.2)
async def streams_idle_memory(loop, sock):
    """One idle connection whose task waits in readline(), of 10,000; growth of the resident set."""
    return await start_stream_server(sock, read_line)
