"""What programs do with a loop, one coroutine function for each feature: test_faults.py and tests/trust/faults.py make its
calls fail, and tests/trust/leaks.py repeats it thousands of times. A scenario cleans up after itself, however it ends. An
AssertionError says that something is wrong which was not reported.
"""

import asyncio
import contextlib
import functools
import importlib
import os
import shutil
import signal
import socket
import ssl
import tempfile

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

    def error_received(self, error):
        self.connection_lost(error)

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


async def withdrawn(loop):
    """The writer of a descriptor goes; whoever reads it is told if the poller does not hear of that."""
    a, b = pair()
    told, handler = loop.create_future(), loop.get_exception_handler()

    def tell(loop, context):
        handler(loop, context)
        told.done() or told.set_result(None)

    loop.set_exception_handler(tell)
    try:
        room = loop.create_future()
        loop.add_reader(a, print)
        loop.add_writer(a, lambda: room.done() or room.set_result(None))
        await room
        loop.remove_writer(a)
        await asyncio.wait([told], timeout=1)
    finally:
        loop.set_exception_handler(handler)
        loop.remove_reader(a)
        loop.remove_writer(a)
        a.close()
        b.close()


async def resting(loop):
    """A server accepts, or the handler is told that its socket cannot be watched."""
    ended, handler = loop.create_future(), loop.get_exception_handler()

    def tell(loop, context):
        handler(loop, context)
        if "cannot be watched" in context["message"] and not ended.done():
            ended.set_result(None)

    def serve(reader, writer):
        writer.close()
        ended.done() or ended.set_result(None)

    loop.set_exception_handler(tell)
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        with socket.socket() as client:
            client.connect(server.sockets[0].getsockname())
            await ended
    finally:
        loop.set_exception_handler(handler)
        server.close()


async def exactly(loop, sock, size):
    data = b""
    while len(data) < size:
        more = await loop.sock_recv(sock, size - len(data))
        if not more:
            break
        data += more
    return data


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
            waiting = asyncio.ensure_future(exactly(loop, served, 4))
            await asyncio.sleep(0)
            await loop.sock_sendall(client, b"data")
            assert await waiting == b"data"
            # A waiter of each kind on one socket: the second changes the interest of the first.
            back = asyncio.ensure_future(exactly(loop, client, 4))
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
        waiting = asyncio.ensure_future(exactly(loop, a, 4))
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


async def tasks(loop):
    async def child(number):
        await asyncio.sleep(0)
        future = loop.create_future()
        loop.call_soon(future.set_result, number)
        return await future

    async def forever():
        await loop.create_future()

    async def fails():
        raise KeyError("expected")

    waiting = loop.create_task(forever())
    try:
        assert await asyncio.gather(*[child(number) for number in range(5)]) == [0, 1, 2, 3, 4]
        assert await asyncio.wait_for(child(1), 5) == 1
        done, pending = await asyncio.wait([waiting], timeout=0.001)
        if waiting.done():
            await waiting
        assert not done and pending == {waiting}
        try:
            await loop.create_task(fails())
            raise AssertionError("no exception")
        except KeyError:
            pass
    finally:
        waiting.cancel()
    await asyncio.wait([waiting])
    assert waiting.cancelled()


async def timers(loop):
    got, last = [], loop.create_future()
    base = loop.time()
    handles = [loop.call_at(base + 0.001 * number, got.append, number) for number in (3, 1, 2)]
    cancelled = loop.call_later(0.002, got.append, 9)
    cancelled.cancel()
    handles.append(loop.call_at(base + 0.005, lambda: last.done() or last.set_result(None)))
    try:
        await last
        assert got == [1, 2, 3]
        assert [handle.cancelled() for handle in handles] == [False] * 4
    finally:
        for handle in handles:
            handle.cancel()


async def signals(loop):
    got = loop.create_future()
    loop.add_signal_handler(signal.SIGUSR1, lambda: got.done() or got.set_result(None))
    try:
        os.kill(os.getpid(), signal.SIGUSR1)
        await got
    finally:
        loop.remove_signal_handler(signal.SIGUSR1)


class Echo(asyncio.Protocol):
    """Sends back what it gets, and notes why a connection was lost."""

    def __init__(self, errors):
        self.errors = errors

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)

    def eof_received(self):
        pass  # what is left is sent, then it closes

    def connection_lost(self, error):
        if error is not None:
            self.errors.append(error)


class Buffered(asyncio.BufferedProtocol):
    """Collects what it gets until the connection is lost."""

    def __init__(self):
        self.buffer, self.got, self.ended = bytearray(5000), bytearray(), False
        self.lost = asyncio.get_running_loop().create_future()

    def get_buffer(self, size):
        return self.buffer

    def buffer_updated(self, size):
        self.got += self.buffer[:size]

    def connection_lost(self, error):
        if not self.lost.done():
            self.lost.set_result(error)


PATTERN = bytes(range(251)) * 400


async def converse(loop, errors, transport, protocol):
    """Sends all and reads all: as much, or somebody was told why not."""
    try:
        transport.writelines([PATTERN[:100], PATTERN[100:]])
        if transport.can_write_eof():
            transport.write_eof()
        else:
            while len(protocol.got) < len(PATTERN) and not protocol.lost.done():
                await asyncio.sleep(0.001)
            transport.close()
        error = await protocol.lost
    finally:
        transport.abort()
    if protocol.got != PATTERN:
        # Those of the other side are told a little later.
        await asyncio.sleep(0.01)
        raise error or (errors[0] if errors else AssertionError("%d bytes came back" % len(protocol.got)))


async def protocols(loop, **ssl):
    errors = []
    options = {"ssl": ssl["server"]} if ssl else {}
    server = await loop.create_server(lambda: Echo(errors), "127.0.0.1", 0, **options)
    try:
        options = {"ssl": ssl["client"], "server_hostname": "localhost"} if ssl else {}
        ends = await loop.create_connection(Buffered, *server.sockets[0].getsockname(), **options)
        await converse(loop, errors, *ends)
    finally:
        server.close()


async def race(loop):
    """Several addresses: one refuses, one does not answer, one is a server's."""
    with socket.socket() as closed, socket.socket() as full, contextlib.ExitStack() as fillers:
        closed.bind(("127.0.0.1", 0))
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(3):
            filler = fillers.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        server = await loop.create_server(Lines, "127.0.0.1", 0)
        try:
            addresses = [closed.getsockname(), full.getsockname(), server.sockets[0].getsockname()]

            async def getaddrinfo(host, port, **options):
                return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]

            loop.getaddrinfo = getaddrinfo
            try:
                for options in {}, {"local_addr": ("127.0.0.1", 0)}:
                    connecting = loop.create_connection(
                        asyncio.Protocol, "a.name", 80, happy_eyeballs_delay=0.001, **options
                    )
                    transport, _ = await asyncio.wait_for(connecting, 1)  # if only the silent one is left
                    transport.close()
            finally:
                del loop.getaddrinfo
        finally:
            server.close()


async def unix(loop):
    errors, folder = [], tempfile.mkdtemp()
    try:
        server = await loop.create_unix_server(lambda: Echo(errors), folder + "/socket")
        try:
            ends = await loop.create_unix_connection(Buffered, folder + "/socket")
            await converse(loop, errors, *ends)
        finally:
            server.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Upgraded(asyncio.Protocol):
    def __init__(self):
        self.got = asyncio.get_running_loop().create_future()

    def data_received(self, data):
        if not self.got.done():
            self.got.set_result(data)

    def connection_lost(self, error):
        if not self.got.done():
            self.got.set_exception(error or ConnectionError())
            self.got.exception()


async def upgrade(loop, server, client):
    """start_tls() on both ends of a connection."""
    a, b = pair()
    transports = []
    try:
        ours, protocol = await loop.create_connection(Upgraded, sock=a)
        transports.append(ours)
        theirs, other = await loop.create_connection(Upgraded, sock=b)
        transports.append(theirs)
        upgrades = [
            asyncio.ensure_future(loop.start_tls(ours, protocol, server, server_side=True)),
            asyncio.ensure_future(loop.start_tls(theirs, other, client, server_hostname="localhost")),
        ]
        try:
            await asyncio.gather(*upgrades)
        finally:
            for upgrading in upgrades:
                upgrading.cancel()
        secured = [upgrading.result() for upgrading in upgrades]
        transports += secured
        secured[1].write(b"question")
        assert await protocol.got == b"question"
        secured[0].write(b"answer")
        assert await other.got == b"answer"
    finally:
        for transport in transports:
            transport.abort()
        a.close()
        b.close()


async def files(loop):
    """sendfile() over a transport and over a socket."""
    a, b = pair()
    try:
        with tempfile.TemporaryFile() as file:
            file.write(PATTERN)
            file.flush()
            reader, peer = await asyncio.open_connection(sock=b)
            try:
                _, writer = await asyncio.open_connection(sock=a)
                try:
                    sending = asyncio.ensure_future(loop.sendfile(writer.transport, file))
                    got = await asyncio.wait_for(reader.readexactly(len(PATTERN)), 5)
                    assert got == PATTERN
                    assert await sending == len(PATTERN)
                finally:
                    writer.close()
            finally:
                peer.close()
            c, d = pair()
            with c, d:
                sending = asyncio.ensure_future(loop.sock_sendfile(c, file))
                got = b""
                while len(got) < len(PATTERN):
                    coming = asyncio.ensure_future(loop.sock_recv(d, 65536))
                    await asyncio.wait([coming, sending], return_when=asyncio.FIRST_COMPLETED)
                    if sending.done():
                        await sending
                    got += await coming
                assert got == PATTERN
                await sending
    finally:
        a.close()
        b.close()


async def servers(loop):
    """Made, started, left and waited for."""
    server = await asyncio.start_server(echo, "127.0.0.1", 0, start_serving=False)
    try:
        await server.start_serving()
        assert server.is_serving() and len(server.sockets) == 1
        for _ in range(2):
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            try:
                writer.write(b"line\n")
                assert await reader.readline() in (b"line\n", b"")
            finally:
                writer.close()
            await writer.wait_closed()
    finally:
        server.close()
    assert not server.is_serving()


async def executors(loop):
    async def answer():
        await asyncio.sleep(0)
        return 3

    def work():
        return asyncio.run_coroutine_threadsafe(answer(), loop).result(2)

    assert await asyncio.gather(*[loop.run_in_executor(None, work) for _ in range(2)]) == [3, 3]


async def monitored(loop):
    """The monitor and the watchdog look at the loop."""
    cloop, module = importlib.import_module("cloop"), importlib.import_module("cloop._monitor")
    folder = tempfile.mkdtemp()

    def ask():
        with module.connect(folder + "/socket") as sock:
            return [module.ask(sock, do) for do in ("hello", "loops", "tasks", "timers", "watched", "dump")]

    try:
        with cloop.watch(10, to=lambda block: None), cloop.serve_monitor(folder + "/socket"):
            assert len(await loop.run_in_executor(None, ask)) == 6
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def primitives(loop):
    """asyncio's own, accelerated."""
    cloop = importlib.import_module("cloop")
    cloop.accelerate()
    try:
        await use_primitives(loop)
    finally:
        cloop.accelerate(False)


async def use_primitives(loop):
    lock, event, queue = asyncio.Lock(), asyncio.Event(), asyncio.Queue(1)
    semaphore, condition = asyncio.BoundedSemaphore(1), asyncio.Condition()
    got = []

    async def takes():
        async with lock:
            await asyncio.sleep(0)
        async with semaphore:
            await asyncio.sleep(0.0001)
        await event.wait()
        async with condition:
            await asyncio.wait_for(condition.wait_for(lambda: got), 5)
        return await queue.get()

    async def gives():
        event.set()
        for number in range(3):
            await queue.put(number)
        async with condition:
            got.append(1)
            condition.notify_all()

    children = [asyncio.ensure_future(takes()) for _ in range(3)]
    giving = asyncio.ensure_future(gives())
    try:
        await asyncio.sleep(0)
        async with condition:
            got.append(0)
            condition.notify_all()
        found = [await asyncio.shield(child) for child in asyncio.as_completed(children, timeout=5)]
        assert sorted(found) == [0, 1, 2]
        done, pending = await asyncio.wait(children)
        assert done == set(children) and not pending
        await giving
        if hasattr(asyncio, "timeout"):
            async with asyncio.timeout(5):
                await asyncio.sleep(0)
        if hasattr(asyncio, "Barrier"):
            barrier = asyncio.Barrier(2)
            await asyncio.gather(barrier.wait(), barrier.wait())
    finally:
        for child in children + [giving]:
            child.cancel()


async def loops(loop):
    """The whole life of another loop, in a thread."""
    cloop = importlib.import_module("cloop")

    def live():
        other = cloop.new_event_loop()
        told = []
        other.set_exception_handler(lambda other, context: told.append(context) or other.stop())
        try:
            asyncio.set_event_loop(other)
            other.run_until_complete(asyncio.sleep(0.0001))
            other.call_soon_threadsafe(other.stop)
            other.run_forever()
        finally:
            asyncio.set_event_loop(None)
            try:
                for task in asyncio.all_tasks(other):
                    task.cancel()
                other.run_until_complete(asyncio.sleep(0))
            finally:
                other.close()
        if told:
            raise told[0].get("exception") or RuntimeError(told[0]["message"])

    await loop.run_in_executor(None, live)
