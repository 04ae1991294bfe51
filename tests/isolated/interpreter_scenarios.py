"""What a program does with a loop, each as a function of the loop's class. They run in interpreters other than the main
one, where some of it differs: what asyncio does there is expected.
"""

import asyncio
import concurrent.futures
import contextlib
import os
import signal
import socket
import ssl
import sys
import tempfile
import threading
import time

HOST = "127.0.0.1"
SIZE = 1 << 20


def on(new_loop, main, debug=False):
    """Run the coroutine function on a new loop. Nothing may reach the exception handler."""
    loop = new_loop()
    told = []
    loop.set_debug(debug)
    loop.set_exception_handler(lambda loop, context: told.append(context))
    try:
        asyncio.set_event_loop(loop)
        result = loop.run_until_complete(asyncio.wait_for(main(), 60))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        asyncio.set_event_loop(None)
        loop.close()
    assert told == [], told
    return result


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


class Collect(asyncio.Protocol):
    def __init__(self, size):
        self.size, self.data = size, bytearray()
        self.done = asyncio.get_running_loop().create_future()
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.data += data
        if len(self.data) >= self.size and not self.done.done():
            self.done.set_result(bytes(self.data))

    def connection_lost(self, error):
        self.lost.set_result(error)


def tcp(new_loop):
    async def main():
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Echo, HOST, 0)
        address = server.sockets[0].getsockname()
        sent = os.urandom(SIZE)
        for _ in range(3):
            transport, protocol = await loop.create_connection(lambda: Collect(SIZE), *address)
            transport.write(sent)
            assert await protocol.done == sent
            transport.close()
            assert await protocol.lost is None
        server.close()
        await server.wait_closed()

    on(new_loop, main)


async def serve(reader, writer):
    with contextlib.suppress(asyncio.IncompleteReadError):
        while True:
            writer.write(await reader.readuntil(b"\n"))
            await writer.drain()
    writer.close()
    await writer.wait_closed()


async def talk(reader, writer):
    for number in range(50):
        line = b"%d %s\n" % (number, b"x" * number * 100)
        writer.write(line)
        await writer.drain()
        assert await reader.readline() == line
    writer.close()
    await writer.wait_closed()


def streams(new_loop):
    async def main():
        server = await asyncio.start_server(serve, HOST, 0)
        address = server.sockets[0].getsockname()
        await asyncio.gather(*[talk(*await asyncio.open_connection(*address)) for _ in range(5)])
        server.close()
        await server.wait_closed()

    on(new_loop, main)


def tls(new_loop):
    path = os.environ["CLOOP_TEST_CERTIFICATE"]
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_cert_chain(path)
    theirs = ssl.create_default_context(cafile=path + ".authority")

    async def main():
        server = await asyncio.start_server(serve, HOST, 0, ssl=ours)
        address = server.sockets[0].getsockname()
        for _ in range(3):
            await talk(*await asyncio.open_connection(*address, ssl=theirs, server_hostname="localhost"))
        server.close()
        await server.wait_closed()

    on(new_loop, main)


def udp(new_loop):
    class Answers(asyncio.DatagramProtocol):
        def connection_made(self, transport):
            self.transport = transport

        def datagram_received(self, data, address):
            self.transport.sendto(data.upper(), address)

    class Asks(asyncio.DatagramProtocol):
        def __init__(self):
            self.answer = asyncio.get_running_loop().create_future()

        def datagram_received(self, data, address):
            self.answer.set_result(data)

    async def main():
        loop = asyncio.get_running_loop()
        ours, _ = await loop.create_datagram_endpoint(Answers, local_addr=(HOST, 0))
        theirs, protocol = await loop.create_datagram_endpoint(Asks, remote_addr=ours.get_extra_info("sockname"))
        theirs.sendto(b"datagram")
        assert await protocol.answer == b"DATAGRAM"
        theirs.close()
        ours.close()
        await asyncio.sleep(0)

    on(new_loop, main)


def unix(new_loop):
    async def main():
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "socket")
            server = await asyncio.start_unix_server(serve, path)
            await talk(*await asyncio.open_unix_connection(path))
            server.close()
            await server.wait_closed()

    on(new_loop, main)


def sockets(new_loop):
    async def main():
        loop = asyncio.get_running_loop()
        first, second = socket.socketpair()
        with first, second:
            first.setblocking(False)
            second.setblocking(False)
            sending = loop.create_task(loop.sock_sendall(first, b"x" * SIZE))
            got = 0
            while got < SIZE:
                got += len(await loop.sock_recv(second, 65536))
            await sending
            ready = loop.create_future()
            loop.add_reader(second, ready.set_result, None)
            await loop.sock_sendall(first, b"y")
            await ready
            assert loop.remove_reader(second)
        assert await loop.getaddrinfo(HOST, 80, type=socket.SOCK_STREAM)
        assert await loop.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)

    on(new_loop, main)


def pipes(new_loop):
    async def main():
        loop = asyncio.get_running_loop()
        reading, writing = os.pipe()
        out, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(writing, "wb"))
        into, protocol = await loop.connect_read_pipe(lambda: Collect(SIZE), os.fdopen(reading, "rb"))
        out.write(b"z" * SIZE)
        assert len(await protocol.done) == SIZE
        out.close()
        assert await protocol.lost is None
        into.close()

    on(new_loop, main)


def timers(new_loop):
    async def main():
        loop = asyncio.get_running_loop()
        order, now = [], loop.time()
        for number in (3, 1, 2):
            loop.call_at(now + number / 1000, order.append, number)
        loop.call_at(now + 0.0015, order.append, None).cancel()
        while len(order) < 3:
            await asyncio.sleep(0.001)
        assert order == [1, 2, 3]
        try:
            await asyncio.wait_for(loop.create_future(), 0.001)
        except asyncio.TimeoutError:
            pass
        else:
            raise AssertionError

    on(new_loop, main)


def tasks(new_loop):
    async def child(number):
        await asyncio.sleep(0)
        assert asyncio.current_task() in asyncio.all_tasks()
        return number

    async def fails():
        raise ZeroDivisionError

    async def main():
        assert await asyncio.gather(*[child(number) for number in range(20)]) == list(range(20))
        async with asyncio.TaskGroup() as group:
            made = [group.create_task(child(number)) for number in range(20)]
        assert [task.result() for task in made] == list(range(20))
        task = asyncio.ensure_future(fails())
        await asyncio.wait([task])
        assert isinstance(task.exception(), ZeroDivisionError)
        waiting = asyncio.ensure_future(asyncio.Event().wait())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()
        queue = asyncio.Queue(1)
        putting = asyncio.ensure_future(asyncio.wait_for(queue.put(1), 1))
        await putting
        assert await queue.get() == 1
        async with asyncio.Lock(), asyncio.timeout(1):
            pass

    on(new_loop, main)


def executors(new_loop):
    async def main():
        loop = asyncio.get_running_loop()
        assert await asyncio.to_thread(lambda: threading.current_thread() is not threading.main_thread())
        assert await asyncio.gather(*[loop.run_in_executor(None, pow, 2, n) for n in range(20)]) == [
            2**n for n in range(20)
        ]
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            assert await loop.run_in_executor(pool, os.getpid) == os.getpid()

    on(new_loop, main)


def threadsafe(new_loop):
    async def main():
        loop = asyncio.get_running_loop()
        seen, done = [], loop.create_future()

        def post():
            for number in range(100):
                loop.call_soon_threadsafe(seen.append, number)
            loop.call_soon_threadsafe(done.set_result, None)

        async def answer():
            return 42

        def ask():
            return asyncio.run_coroutine_threadsafe(answer(), loop).result(30)

        thread = threading.Thread(target=post)
        thread.start()
        await done
        thread.join()
        assert seen == list(range(100))
        assert await asyncio.to_thread(ask) == 42

    on(new_loop, main)


def other_thread(new_loop):
    errors = []

    def work():
        try:
            timers(new_loop)
            streams(new_loop)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == [], errors


def subprocesses(new_loop):
    async def main():
        process = await asyncio.create_subprocess_exec("/bin/cat", stdin=-1, stdout=-1)
        assert await process.communicate(b"through a child") == (b"through a child", None)
        process = await asyncio.create_subprocess_shell("exit 7")
        assert await process.wait() == 7
        process = await asyncio.create_subprocess_exec("/bin/sleep", "1000")
        process.kill()
        assert await process.wait() == -signal.SIGKILL
        several = [await asyncio.create_subprocess_exec("/bin/true") for _ in range(5)]
        assert await asyncio.gather(*[process.wait() for process in several]) == [0] * 5

    on(new_loop, main)


def signals(new_loop):
    """Signals are the main interpreter's: the same errors as asyncio's."""

    async def main():
        loop = asyncio.get_running_loop()
        try:
            loop.add_signal_handler(signal.SIGUSR1, int)
        except RuntimeError as error:
            told = str(error)
        else:
            told = None
        assert told == "set_wakeup_fd only works in main thread of the main interpreter", told
        assert not loop.remove_signal_handler(signal.SIGUSR1)

    on(new_loop, main)


def runner(new_loop):
    async def main():
        await asyncio.sleep(0)
        return asyncio.get_running_loop()

    loop = asyncio.run(main(), debug=False, **({"loop_factory": new_loop} if sys.version_info >= (3, 13) else {}))
    assert loop.is_closed()
    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(main()) is runner.get_loop()


def debug(new_loop):
    async def main():
        loop = asyncio.get_running_loop()
        loop.slow_callback_duration = 100
        await asyncio.to_thread(int)
        errors = []

        def from_outside():
            try:
                loop.call_soon(int)
            except RuntimeError as error:
                errors.append(str(error))

        await asyncio.to_thread(from_outside)
        assert errors == ["Non-thread-safe operation invoked on an event loop other than the current one"]
        server = await asyncio.start_server(serve, HOST, 0)
        await talk(*await asyncio.open_connection(*server.sockets[0].getsockname()))
        server.close()
        await server.wait_closed()

    on(new_loop, main, debug=True)


def endings(new_loop):
    """Loops that are not closed, with tasks, timers, transports and an executor."""
    import warnings

    warnings.simplefilter("ignore", ResourceWarning)

    async def forever(event):
        await event.wait()

    async def main():
        loop = asyncio.get_running_loop()
        server = await asyncio.start_server(serve, HOST, 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"left\n")
        loop.call_later(1000, int)
        await asyncio.to_thread(int)
        return server, writer, [loop.create_task(forever(asyncio.Event())) for _ in range(3)]

    loop = new_loop()
    sys.modules[__name__].left = loop, loop.run_until_complete(main())
    loop.set_exception_handler(lambda loop, context: None)


# Only cloop's


def accelerated(new_loop):
    import cloop

    cloop.accelerate()
    for scenario in (tasks, timers, streams, executors, threadsafe):
        scenario(new_loop)


def metrics(new_loop):
    async def main():
        loop = asyncio.get_running_loop()
        before = loop.metrics()
        await asyncio.sleep(0)
        await asyncio.sleep(0.001)
        assert (loop.metrics() - before).turns >= 2
        loop.metrics_reset()

    on(new_loop, main)


def watchdog(new_loop):
    import cloop

    blocks = []

    async def main():
        # Blocks until it is told of.
        deadline = time.monotonic() + 30
        while not blocks and time.monotonic() < deadline:
            time.sleep(0.001)
        while not any(block.ended for block in blocks) and time.monotonic() < deadline:
            await asyncio.sleep(0.001)

    with cloop.watch(0.02, to=blocks.append):
        on(new_loop, main)
    assert "in main" in blocks[0].stack and any(block.ended for block in blocks), blocks


def monitor(new_loop):
    import cloop
    from cloop import _monitor

    with tempfile.TemporaryDirectory() as folder:
        loop = new_loop()
        with cloop.serve_monitor(os.path.join(folder, "socket")) as serving, _monitor.connect(serving.path) as sock:
            assert _monitor.ask(sock, "loops")["loops"]
        loop.close()


def left_running(new_loop):
    """A watchdog and a monitor, which end with the interpreter."""
    import cloop

    cloop.watch(0.5)
    folder = tempfile.TemporaryDirectory()
    sys.modules[__name__].monitored = folder, cloop.serve_monitor(os.path.join(folder.name, "socket"))
    endings(new_loop)


def held_writes(new_loop):
    """The thread that sends what a callback has held (csrc/net/hold_timer.h) is there when the interpreter ends."""
    os.environ["CLOOP_GATHER"] = "always"
    from cloop import _cloop

    _cloop._set_gather("always")
    streams(new_loop)
    endings(new_loop)


EVERYWHERE = [
    tcp, streams, tls, udp, unix, sockets, pipes, timers, tasks, executors, threadsafe, other_thread, subprocesses, signals,
    runner, debug, endings,
]  # fmt: skip
OURS = [accelerated, metrics, watchdog, monitor, left_running, held_writes]
NAMES = [scenario.__name__ for scenario in EVERYWHERE + OURS]


def perform(new_loop, names):
    """Run these scenarios; names are separated by spaces."""
    for name in names.split():
        globals()[name](new_loop)
