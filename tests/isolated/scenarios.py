"""What programs do with a loop, one coroutine function for each feature: test_faults.py makes its calls fail, and
tests/trust/leaks.py repeats it thousands of times. A scenario cleans up after itself, however it ends.
"""

import asyncio
import functools
import os
import socket
import ssl

BIG = b"x" * 3_000_000


async def echo(reader, writer):
    try:
        while True:
            data = await reader.read(65536)
            if not data:
                break
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


async def collect(reader, writer):
    try:
        total = 0
        while total < len(BIG):
            data = await reader.read(1 << 16)
            if not data:
                break
            total += len(data)
        writer.write(b"%d" % total)
    finally:
        writer.close()


def pair():
    ends = socket.socketpair()
    for end in ends:
        end.setblocking(False)
    return ends


async def streams(loop, **ssl):
    options = {"ssl": ssl["server"]} if ssl else {}
    server = await asyncio.start_server(echo, "127.0.0.1", 0, **options)
    try:
        options = {"ssl": ssl["client"], "server_hostname": "localhost"} if ssl else {}
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname(), **options)
        try:
            for _ in range(3):
                writer.write(b"x" * 10)
                assert await reader.readexactly(10) == b"x" * 10
        finally:
            writer.close()
    finally:
        server.close()


async def large_write(loop, **ssl):
    options = {"ssl": ssl["server"]} if ssl else {}
    server = await asyncio.start_server(collect, "127.0.0.1", 0, **options)
    try:
        options = {"ssl": ssl["client"], "server_hostname": "localhost"} if ssl else {}
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname(), **options)
        try:
            writer.write(BIG)
            await writer.drain()
            answer = await reader.read(100)
            if answer != b"%d" % len(BIG):
                raise ConnectionError(answer)
        finally:
            writer.close()
    finally:
        server.close()


def with_ssl(scenario, folder):
    """The scenario over TLS, by the certificates in the folder."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder + "/chain.pem", folder + "/key.pem")
    client = ssl.create_default_context(cafile=folder + "/ca.pem")
    return functools.partial(scenario, server=server, client=client)


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self):
        self.got = asyncio.get_running_loop().create_future()

    def datagram_received(self, data, addr):
        if not self.got.done():
            self.got.set_result(data)

    def connection_lost(self, error):
        if not self.got.done():
            self.got.set_exception(error or ConnectionError())


async def datagrams(loop):
    one, first = await loop.create_datagram_endpoint(Datagrams, local_addr=("127.0.0.1", 0))
    try:
        two, second = await loop.create_datagram_endpoint(Datagrams, remote_addr=one.get_extra_info("sockname"))
        try:
            two.sendto(b"data")  # dropped if it has been lost by now
            await asyncio.wait([first.got, second.got], return_when=asyncio.FIRST_COMPLETED)
            if second.got.done():
                await second.got
            assert await first.got == b"data"
            second.got.cancel()
        finally:
            two.close()
    finally:
        one.close()


class Lines(asyncio.Protocol):
    def __init__(self):
        self.got = asyncio.get_running_loop().create_future()
        self.size = 0

    def data_received(self, data):
        self.size += len(data)
        if self.size >= 200000 and not self.got.done():
            self.got.set_result(self.size)

    def connection_lost(self, error):
        if not self.got.done():
            self.got.set_exception(error or ConnectionError())


class Writing(asyncio.BaseProtocol):
    def __init__(self):
        self.lost = asyncio.get_running_loop().create_future()

    def connection_lost(self, error):
        if not self.lost.done():
            self.lost.set_result(error)


async def pipes(loop):
    fds = os.pipe()
    with open(fds[0], "rb", 0) as reading, open(fds[1], "wb", 0) as writing:
        source, protocol = await loop.connect_read_pipe(Lines, reading)
        try:
            sink, other = await loop.connect_write_pipe(Writing, writing)
            try:
                sink.write(b"x" * 200000)  # more than a pipe holds
                await asyncio.wait([protocol.got, other.lost], return_when=asyncio.FIRST_COMPLETED)
                if other.lost.done() and other.lost.result() is not None:
                    raise other.lost.result()
                await protocol.got
            finally:
                sink.abort()
        finally:
            source.close()
            if protocol.got.done() and not protocol.got.cancelled():
                protocol.got.exception()


async def lent(loop):
    a, b = pair()
    try:
        got, room = loop.create_future(), loop.create_future()
        loop.add_reader(a, lambda: got.done() or got.set_result(a.recv(10)))
        loop.add_writer(a, lambda: room.done() or room.set_result(None))
        await room
        loop.remove_writer(a)
        await asyncio.sleep(0)
        b.send(b"data")
        assert await got == b"data"
    finally:
        loop.remove_reader(a)
        loop.remove_writer(a)
        a.close()
        b.close()


async def sock_operations(loop):
    with socket.socket() as listening, socket.socket() as client:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        listening.setblocking(False)
        client.setblocking(False)
        accepting = asyncio.ensure_future(loop.sock_accept(listening))
        await loop.sock_connect(client, listening.getsockname())
        served, _ = await accepting
        with served:
            waiting = asyncio.ensure_future(loop.sock_recv(served, 10))
            await asyncio.sleep(0)
            await loop.sock_sendall(client, b"data")
            assert await waiting == b"data"
            # A waiter of each kind on one socket: the second changes the interest of the first.
            back = asyncio.ensure_future(loop.sock_recv(client, 10))
            await asyncio.sleep(0)
            sending = asyncio.ensure_future(loop.sock_sendall(client, BIG))
            size = 0
            while size < len(BIG):
                got = asyncio.ensure_future(loop.sock_recv(served, 65536))
                await asyncio.wait([got, sending], return_when=asyncio.FIRST_COMPLETED)
                if sending.done():
                    await sending
                size += len(await got)
            await sending
            await loop.sock_sendall(served, b"back")
            assert await back == b"back"


async def crowded(loop):
    """What the poller reports finds the ready ring full."""
    a, b = pair()
    try:
        waiting = asyncio.ensure_future(loop.sock_recv(a, 10))
        await asyncio.sleep(0)
        b.send(b"data")
        for _ in range(512):
            loop.call_soon(int)
        assert await waiting == b"data"
    finally:
        a.close()
        b.close()


async def subprocesses(loop):
    process = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
    out, _ = await process.communicate(b"data")
    if out != b"data":
        raise ConnectionError(out)
    assert process.returncode == 0


async def threads(loop):
    future = loop.create_future()
    await loop.run_in_executor(None, lambda: loop.call_soon_threadsafe(future.set_result, 1))
    assert await future == 1
    await asyncio.gather(*[asyncio.sleep(0) for _ in range(2000)])
