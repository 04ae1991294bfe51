"""Loops in several threads, and objects that meet other threads: nothing is lost, and whatever asyncio forbids there
does not crash. docs/free-threading.md is the contract.

Each test is a process of its own, which a crash ends. All hold with the GIL, too, where other threads come in between
any two instructions of Python.
"""

import sys
import sysconfig

import pytest

FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))

needs_no_gil = pytest.mark.skipif(not FREE_THREADED, reason="this Python has a GIL")

# Without cloop, and within a second: what _asyncio does without locks before 3.14.
needs_safe_tasks = pytest.mark.skipif(
    FREE_THREADED and sys.version_info < (3, 14),
    reason="CPython 3.13 itself crashes if other threads look at tasks and futures",
)

START = """
import gc, os, random, signal, socket, sys, sysconfig, tempfile, threading, time, warnings

sys.setswitchinterval(1e-4)
if sysconfig.get_config_var("Py_GIL_DISABLED"):
    assert not sys._is_gil_enabled()

def in_threads(*functions, allowed=()):
    "Call each function in a thread of its own, all at once."
    begin, errors = threading.Barrier(len(functions)), []

    def call(function):
        try:
            begin.wait()
            function()
        except allowed:
            pass
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=call, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors

def run(coroutine):
    loop = new_loop()
    try:
        return loop.run_until_complete(coroutine)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        if hasattr(loop, "shutdown_default_executor"):  # asyncio's has not, on 3.8
            loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()

async def step(value=None):
    await asyncio.sleep(0)
    return value

class Shared:
    "A loop, while its thread serves others."

    def __init__(self, prepare=None):
        self.loop, self.ready, self.prepare, self.users = None, threading.Event(), prepare, 0

    def serve(self):
        run(self.main())

    async def main(self):
        self.loop, self.over = asyncio.get_running_loop(), asyncio.Event()
        self.given = None if self.prepare is None else await self.prepare()
        self.ready.set()
        await self.over.wait()

    def using(self, *functions):
        "The loop's thread, and others that call these functions while it runs."
        left, lock = [len(functions)], threading.Lock()

        def use(function):
            self.ready.wait()
            try:
                function()
            finally:
                with lock:
                    left[0] -= 1
                    last = left[0] == 0
                if last:
                    self.loop.call_soon_threadsafe(self.over.set)

        return [self.serve] + [lambda function=function: use(function) for function in functions]
"""

WORKS = {
    "callbacks": """
async def work(n):
    loop, left = asyncio.get_running_loop(), n * 20
    done = loop.create_future()
    def callback():
        nonlocal left
        left -= 1
        if left:
            loop.call_soon(callback)
        else:
            done.set_result(None)
    loop.call_soon(callback)
    await done
""",
    "tasks": """
async def work(n):
    assert await asyncio.gather(*[step(i) for i in range(n)]) == list(range(n))
    for i in range(n):
        assert await asyncio.ensure_future(step(i)) == i
    waiting = [asyncio.ensure_future(asyncio.Event().wait()) for i in range(n // 4)]
    await asyncio.sleep(0)
    for task in waiting:
        task.cancel()
    done, pending = await asyncio.wait(waiting)
    assert not pending and all(task.cancelled() for task in done)
""",
    "futures": """
async def work(n):
    loop = asyncio.get_running_loop()
    for i in range(n):
        future = loop.create_future()
        loop.call_soon(future.set_result, i)
        assert await future == i
""",
    "sync": """
async def work(n):
    lock, semaphore, condition, queue = asyncio.Lock(), asyncio.Semaphore(2), asyncio.Condition(), asyncio.Queue(3)
    inside, got = 0, []

    async def put(first):
        nonlocal inside
        for i in range(first, first + n // 8):
            async with semaphore, lock:
                inside += 1
                await asyncio.sleep(0)
                assert inside == 1
                inside -= 1
            await queue.put(i)

    async def take():
        while len(got) < n // 4:
            got.append(await queue.get())
            async with condition:
                condition.notify_all()

    async def wait_for_all():
        async with condition:
            await condition.wait_for(lambda: len(got) == n // 4)

    await asyncio.gather(put(0), put(n // 8), take(), wait_for_all())
    assert sorted(got) == list(range(n // 4))
""",
    "timers": """
async def work(n):
    loop = asyncio.get_running_loop()
    await asyncio.gather(*[asyncio.sleep(i / n / 50) for i in range(n)])
    for _ in range(n):
        loop.call_later(10, print).cancel()
    try:
        await asyncio.wait_for(loop.create_future(), 0.001)
    except asyncio.TimeoutError:
        pass
""",
    "streams": """
async def work(n, server_context=None, client_context=None):
    async def answer(reader, writer):
        while True:
            line = await reader.readline()
            if not line:
                break
            writer.write(line)
            await writer.drain()
        writer.close()

    async def ask(port):
        name = "localhost" if client_context else None
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client_context, server_hostname=name)
        for i in range(n // 20):
            writer.write(b"%d\\n" % i)
            assert await reader.readline() == b"%d\\n" % i
        writer.close()
        try:
            await writer.wait_closed()
        except OSError:
            pass

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=server_context)
    await asyncio.gather(*[ask(server.sockets[0].getsockname()[1]) for _ in range(5)])
    server.close()
    await server.wait_closed()
""",
    "protocols": """
class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        self.transport.write(data)
    def eof_received(self):
        self.transport.close()

class Ask(asyncio.Protocol):
    def __init__(self, left, done):
        self.left, self.done, self.got = left, done, 0
    def connection_made(self, transport):
        self.transport = transport
        transport.writelines([b"x" * 1000, b"y" * 1000])
    def data_received(self, data):
        self.got += len(data)
        if self.got == 2000:
            self.got, self.left = 0, self.left - 1
            if self.left:
                self.transport.write(b"z" * 2000)
            else:
                self.transport.write_eof()
    def connection_lost(self, error):
        self.done.set_result(error)

async def work(n):
    loop = asyncio.get_running_loop()
    with tempfile.TemporaryDirectory() as folder:
        inet = await loop.create_server(Echo, "127.0.0.1", 0)
        unix = await loop.create_unix_server(Echo, folder + "/socket")
        address = inet.sockets[0].getsockname()
        ends = []
        for i in range(n // 40):
            ends += [loop.create_future(), loop.create_future()]
            await loop.create_connection(lambda: Ask(3, ends[-2]), *address)
            await loop.create_unix_connection(lambda: Ask(3, ends[-1]), folder + "/socket")
        assert await asyncio.gather(*ends) == [None] * len(ends)
        for server in inet, unix:
            server.close()
            await server.wait_closed()
""",
    "pipes": """
class Collect(asyncio.Protocol):
    def __init__(self, done):
        self.data, self.done = b"", done
    def data_received(self, data):
        self.data += data
    def connection_lost(self, error):
        self.done.set_result(self.data)

async def work(n):
    loop = asyncio.get_running_loop()
    for i in range(n // 40):
        reading, writing = os.pipe()
        done = loop.create_future()
        await loop.connect_read_pipe(lambda: Collect(done), os.fdopen(reading, "rb", 0))
        transport, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(writing, "wb", 0))
        transport.write(b"x" * 1000)
        transport.close()
        assert await done == b"x" * 1000
""",
    "files": """
class Count(asyncio.Protocol):
    def __init__(self, size, done):
        self.left, self.done = size, done
    def data_received(self, data):
        self.left -= len(data)
    def connection_lost(self, error):
        self.done.set_result(self.left)

async def work(n):
    loop, size = asyncio.get_running_loop(), 300000
    with tempfile.TemporaryFile() as file:
        file.write(b"x" * size)
        file.flush()
        for i in range(n // 40):
            here, there = socket.socketpair()
            done = loop.create_future()
            sending, _ = await loop.create_connection(asyncio.Protocol, sock=here)
            await loop.create_connection(lambda: Count(2 * size - 1, done), sock=there)
            assert await loop.sendfile(sending, file) == size
            assert await loop.sendfile(sending, file, offset=1) == size - 1
            sending.close()
            assert await done == 0
""",
    "sockets": """
async def work(n):
    loop = asyncio.get_running_loop()
    here, there = socket.socketpair()
    with here, there:
        here.setblocking(False)
        there.setblocking(False)
        for i in range(n):
            await loop.sock_sendall(here, b"%d" % i)
            assert await loop.sock_recv(there, 100) == b"%d" % i
        seen = []
        loop.add_reader(there, lambda: seen.append(there.recv(1)))
        here.send(b"x")
        while not seen:
            await asyncio.sleep(0)
        loop.remove_reader(there)
""",
    "datagrams": """
class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport
    def datagram_received(self, data, address):
        self.transport.sendto(data, address)

class Ask(asyncio.DatagramProtocol):
    def __init__(self, done):
        self.done = done
    def datagram_received(self, data, address):
        self.done.set_result(data)

async def work(n):
    loop = asyncio.get_running_loop()
    server, _ = await loop.create_datagram_endpoint(Echo, local_addr=("127.0.0.1", 0))
    client, ask = await loop.create_datagram_endpoint(
        lambda: Ask(None), remote_addr=server.get_extra_info("sockname"))
    for i in range(n // 5):
        ask.done = loop.create_future()
        client.sendto(b"%d" % i)
        assert await ask.done == b"%d" % i
    client.close()
    server.close()
    await asyncio.sleep(0)
""",
    "threadsafe": """
async def work(n):
    loop, seen = asyncio.get_running_loop(), []
    done = loop.create_future()
    def produce():
        for i in range(n):
            loop.call_soon_threadsafe(seen.append, i)
        loop.call_soon_threadsafe(done.set_result, None)
    thread = threading.Thread(target=produce)
    thread.start()
    await done
    thread.join()
    assert seen == list(range(n))
""",
    "executor": """
async def work(n):
    loop = asyncio.get_running_loop()
    assert await asyncio.gather(*[loop.run_in_executor(None, abs, -i) for i in range(n // 4)]) == list(range(n // 4))
""",
    "getaddrinfo": """
async def work(n):
    loop = asyncio.get_running_loop()
    for i in range(n // 20):
        assert await loop.getaddrinfo("127.0.0.1", i, type=socket.SOCK_STREAM)
""",
}


@pytest.fixture
def threads(script, monkeypatch):
    """Runs a script that begins with START."""
    if FREE_THREADED:
        monkeypatch.setenv("PYTHON_GIL", "0")

    def threads(text, *args, **options):
        return script(START + text, *args, **options)

    return threads


@pytest.fixture
def not_asyncio(loop_kind):
    """Its heap of timers may change while one is compared, and a handle be cancelled just before it is called."""
    if loop_kind == "asyncio":
        pytest.skip("asyncio does not promise that")


beyond_asyncio = pytest.mark.usefixtures("not_asyncio")
some_loops = pytest.mark.parametrize("count", [1, 2, 4, 8] if FREE_THREADED else [4])


@some_loops
@pytest.mark.parametrize("work", sorted(WORKS))
def test_loops_in_threads(threads, work, count):
    threads(WORKS[work] + "in_threads(*[lambda: run(work(%d)) for _ in range(%d)])" % (400, count))


@some_loops
def test_loops_in_threads_speak_tls(threads, tmp_path, count):
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    threads(
        WORKS["streams"]
        + """
import ssl

server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
server.load_cert_chain(sys.argv[1] + "/server.pem")
client = ssl.create_default_context(cafile=sys.argv[1] + "/ca.pem")

class Count(asyncio.Protocol):
    def __init__(self, size):
        self.left = size
        self.whole, self.lost = [asyncio.get_running_loop().create_future() for _ in range(2)]
    def data_received(self, data):
        self.left -= len(data)
        if self.left == 0:
            self.whole.set_result(None)
    def connection_lost(self, error):
        self.lost.set_result(error)

async def upgrade():
    loop = asyncio.get_running_loop()
    ours, theirs = [await loop.create_connection(lambda: Count(300000), sock=end) for end in socket.socketpair()]
    secure = await asyncio.gather(
        loop.start_tls(*ours, server, server_side=True), loop.start_tls(*theirs, client, server_hostname="localhost"))
    for transport in secure:
        transport.write(b"x" * 300000)
    await asyncio.gather(ours[1].whole, theirs[1].whole)
    secure[0].close()
    assert await asyncio.gather(ours[1].lost, theirs[1].lost) == [None, None]

async def both():
    await work(200, server, client)
    await upgrade()

in_threads(*[lambda: run(both()) for _ in range(int(sys.argv[2]))])
""",
        tmp_path,
        count,
    )


@pytest.mark.skipif("sys.version_info < (3, 12)")  # before, asyncio's watchers of children need the main thread
@some_loops
def test_loops_in_threads_start_processes(threads, count):
    threads(
        """
async def work():
    for i in range(5):
        child = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
        out, _ = await child.communicate(b"%d" % i)
        assert (out, child.returncode) == (b"%d" % i, 0)
    several = await asyncio.gather(*[asyncio.create_subprocess_exec("true") for _ in range(3)])
    assert await asyncio.gather(*[child.wait() for child in several]) == [0] * 3
    transport, protocol = await asyncio.get_running_loop().subprocess_exec(
        Told, "sleep", "1000", stdin=None, stdout=None, stderr=None)
    transport.kill()
    await protocol.lost
    assert transport.get_returncode() == -signal.SIGKILL

class Told(asyncio.SubprocessProtocol):
    def __init__(self):
        self.lost = asyncio.get_running_loop().create_future()
    def connection_lost(self, error):
        self.lost.set_result(error)

in_threads(*[lambda: run(work()) for _ in range(int(sys.argv[1]))])
""",
        count,
    )


@beyond_asyncio
def test_producers_cancel_handles_that_wait(threads):
    threads(
        """
called, cancelled = [], []

def produce(n):
    for i in range(100):
        handles = [shared.loop.call_soon_threadsafe(called.append, (n, i, j)) for j in range(20)]
        for handle in random.sample(handles, 10):
            repr(handle)
            handle.cancel()
            assert handle.cancelled()
            handle.cancel()
        cancelled.append(10)

shared = Shared()
in_threads(*shared.using(*[lambda n=n: produce(n) for n in range(3)]))
assert len(called) == len(set(called)) >= 3 * 100 * 10
"""
    )


@beyond_asyncio
@pytest.mark.parametrize("debug", [False, True])
def test_one_handle_is_cancelled_by_many(threads, debug):
    """In debug mode, a handle that is cancelled keeps its repr, which others get."""
    threads(
        """
class Argument:
    pass

def cancel():
    for handle in handles:
        handle.cancel()
        repr(handle)

async def prepare():
    loop = asyncio.get_running_loop()
    loop.set_debug(bool(int(sys.argv[1])))
    loop.slow_callback_duration = 1000
    handles.extend(loop.call_soon_threadsafe(print, Argument()) for _ in range(1000))
    handles.extend(loop.call_later(0.001, len, ()) for _ in range(1000))

handles = []
shared = Shared(prepare)
in_threads(*shared.using(cancel, cancel, cancel))
""".replace("print, Argument()", "len, (Argument(),)"),
        int(debug),
    )


def test_debug_mode_is_set_by_others(threads):
    threads(
        WORKS["callbacks"]
        + """
over = threading.Event()

async def prepare():
    asyncio.get_running_loop().slow_callback_duration = 1000

async def churn():
    for _ in range(20):
        await work(20)
        await asyncio.sleep(0)
    over.set()

def switch():
    while not over.is_set():
        for debug in True, False:
            shared.loop.set_debug(debug)
            assert shared.loop.get_debug() in (True, False)

def ask():
    asyncio.run_coroutine_threadsafe(churn(), shared.loop).result(60)

shared = Shared(prepare)
in_threads(*shared.using(switch, ask))
"""
    )


def test_run_coroutine_threadsafe_from_many(threads):
    threads(
        """
def ask():
    for i in range(200):
        future = asyncio.run_coroutine_threadsafe(step(i), shared.loop)
        assert future.result(60) == i

shared = Shared()
in_threads(*shared.using(ask, ask, ask))
"""
    )


def test_loops_are_made_and_dropped(threads):
    threads(
        """
def make():
    for i in range(100):
        run(step())
        loop = new_loop()
        loop.call_soon(print)
        loop.call_later(1, print)
        loop.close()
        new_loop().close()

in_threads(make, make, make, make)
"""
    )


def test_loops_come_and_go_beside_others(threads):
    """A debug build checks a loop now and then, and with it the list of all loops: others are not whole yet, or not any more."""
    threads(
        WORKS["callbacks"]
        + """
def make():
    for _ in range(30):
        run(work(20))

in_threads(make, make, make, make)
"""
    )


@needs_safe_tasks
def test_tasks_are_looked_at(threads):
    threads(
        """
loops, over = [], threading.Event()

async def churn():
    loops.append(asyncio.get_running_loop())
    for _ in range(100):
        await asyncio.gather(*[step() for _ in range(50)])
    over.set()

def look():
    while not over.is_set():
        for loop in list(loops):
            for task in asyncio.all_tasks(loop):
                try:
                    assert "Task" in repr(task)
                except TypeError as error:  # asyncio's, which looks at the callbacks twice
                    assert "has no len()" in str(error)
                task.done()
            asyncio.current_task(loop)
            repr(loop)
            loop.is_running(), loop.is_closed(), loop.time(), loop.get_debug()

in_threads(lambda: run(churn()), lambda: run(churn()), look)
"""
    )


def test_other_threads_collect_garbage(threads):
    threads(
        """
over = threading.Event()

class Node:
    pass

async def churn():
    loop = asyncio.get_running_loop()
    for _ in range(50):
        node = Node()
        node.handle = loop.call_later(10, print, node)
        node.future = loop.create_future()
        node.future.add_done_callback(node.future.remove_done_callback)
        await asyncio.gather(*[step(node) for _ in range(20)])
        node.handle.cancel()
    over.set()

def collect():
    while not over.is_set():
        gc.collect()

in_threads(lambda: run(churn()), lambda: run(churn()), collect, collect)
"""
    )


# What cloop tells of loops in other threads


@pytest.fixture
def cloop_threads(threads, loop_kind):
    if loop_kind == "asyncio":
        pytest.skip("of cloop's loops")
    return threads


def test_metrics_of_loops_in_other_threads(cloop_threads):
    """Numbers of one moment, which never go down: the loop's thread is stopped meanwhile."""
    cloop_threads(
        WORKS["callbacks"]
        + """
loops, over = [], threading.Event()

async def churn():
    loops.append(asyncio.get_running_loop())
    for _ in range(20):
        await work(100)
        await asyncio.sleep(0.001)
    over.set()

def look():
    before = {}
    while not over.is_set():
        for loop in list(loops):
            now = loop.metrics()
            then = before.get(loop, now)
            assert now.turns >= then.turns and now.callbacks >= then.callbacks
            assert then.turn_time.count <= now.turn_time.count <= now.turns
            assert 0 <= now.busy_ns - then.busy_ns < 60e9 and 0 <= now.idle_ns - then.idle_ns < 60e9
            before[loop] = now

in_threads(lambda: run(churn()), lambda: run(churn()), look, look)
"""
    )


def test_loops_in_threads_are_watched(cloop_threads):
    """Their stacks are read while they run."""
    cloop_threads(
        """
import cloop

seen, wanted = set(), set()

def to(block):
    if not block.ended and "in blocks" in block.stack:
        seen.add(block.loop)

def blocks():
    loop, end = asyncio.get_running_loop(), time.monotonic() + 60
    while loop not in seen and time.monotonic() < end:
        sum(range(100))

async def churn():
    loop = asyncio.get_running_loop()
    wanted.add(loop)
    for _ in range(200):
        await asyncio.sleep(0)
    loop.call_soon(blocks)
    await asyncio.sleep(0)
    await asyncio.sleep(0)

with cloop.watch(0.05, to=to):
    in_threads(lambda: run(churn()), lambda: run(churn()))
assert seen == wanted and len(wanted) == 2
"""
    )


def test_dump_of_loops_in_threads(cloop_threads):
    cloop_threads(
        """
from cloop import _dump

over = threading.Event()

async def churn():
    loop = asyncio.get_running_loop()
    while not over.is_set():
        task = asyncio.ensure_future(asyncio.sleep(0.001), loop=loop)
        loop.call_later(0.002, int)
        await task

def look():
    for _ in range(30):
        text = _dump.text()
        assert text.count("cloop.Loop running=") <= 2, text
    over.set()

in_threads(lambda: run(churn()), look)
"""
    )


# Forbidden, or only by luck right, on asyncio


def test_forbidden_calls_of_the_loop(threads):
    threads(
        """
called = []

def use():
    loop, here, there = shared.loop, *socket.socketpair()
    for i in range(300):
        attempts = [
            lambda: loop.call_soon(called.append, i),
            lambda: loop.call_later(0.001, called.append, i).cancel(),
            lambda: loop.call_later(0.001, called.append, i),
            lambda: loop.add_reader(here, called.append, i),
            lambda: loop.remove_reader(here),
            lambda: loop._ready, lambda: loop._scheduled,
            lambda: loop.run_until_complete(None),
            lambda: loop.close(),
            lambda: loop.create_future().cancel(),
        ]
        for attempt in attempts:
            try:
                attempt()
            except (RuntimeError, TypeError):
                pass
    here.close()
    there.close()

shared = Shared()
in_threads(*shared.using(use, use))
"""
    )


@needs_safe_tasks
def test_forbidden_calls_of_futures(threads):
    threads(
        """
box, over = [], threading.Event()

async def main():
    loop = asyncio.get_running_loop()
    for _ in range(60):
        futures = [loop.create_future() for _ in range(20)]
        box[:] = futures
        def finish():
            for future in futures:
                try:
                    future.set_result(0)
                except asyncio.InvalidStateError:
                    pass
        loop.call_later(0.002, finish)
        while not all(future.done() for future in futures):
            await asyncio.sleep(0.001)  # a result from elsewhere wakes nobody
    over.set()

def interfere():
    while not over.is_set():
        for future in list(box):
            try:
                future.set_result(1)
            except (asyncio.InvalidStateError, RuntimeError):
                pass
            try:
                future.add_done_callback(id)
                future.remove_done_callback(id)
            except RuntimeError:
                pass
            repr(future)
            if future.done():
                assert future.result() in (0, 1)
        time.sleep(0)

in_threads(lambda: run(main()), interfere)
"""
    )


@needs_safe_tasks
def test_forbidden_calls_of_tasks(threads):
    threads(
        """
box, over = [], threading.Event()

async def victim():
    try:
        await asyncio.sleep(0.002)
    finally:
        await asyncio.sleep(0)

async def main():
    loop = asyncio.get_running_loop()
    for _ in range(30):
        tasks = [asyncio.ensure_future(victim()) for _ in range(20)]
        box[:] = tasks
        while tasks:
            await asyncio.sleep(0.001)  # a cancellation from elsewhere wakes nobody
            tasks = [task for task in tasks if not task.done()]
    over.set()

def interfere():
    while not over.is_set():
        for task in list(box):
            try:
                task.cancel()
            except RuntimeError:
                pass
            repr(task)
            task.done()
        time.sleep(0)

in_threads(lambda: run(main()), interfere)
"""
    )


def test_forbidden_calls_of_transports(threads):
    threads(
        """
import logging

logging.disable(logging.CRITICAL)  # of writes to what is closed

class Sink(asyncio.Protocol):
    pass

async def prepare():
    loop = asyncio.get_running_loop()
    ends = []
    for _ in range(10):
        here, there = socket.socketpair()
        for end in here, there:
            ends.append((await loop.create_connection(Sink, sock=end))[0])
    return ends

def use():
    for transport in shared.given * 5:
        attempts = [
            lambda: transport.write(b"x" * 100),
            transport.pause_reading,
            transport.resume_reading,
            transport.get_protocol,
            lambda: transport.set_protocol(Sink()),
            transport.get_write_buffer_size,
            lambda: transport.get_extra_info("socket"),
            lambda: repr(transport),
        ]
        random.shuffle(attempts)
        for attempt in attempts:
            try:
                attempt()
            except Exception:
                pass
    for transport in shared.given[::2]:
        try:
            transport.abort()
        except Exception:
            pass

async def tidy():
    for transport in shared.given:
        transport.abort()
    await asyncio.sleep(0)

def finish():
    use()
    asyncio.run_coroutine_threadsafe(tidy(), shared.loop).result(60)

shared = Shared(prepare)
in_threads(*shared.using(finish, finish))
"""
    )


def test_protocol_is_set_while_the_transport_closes(threads):
    """Closing the descriptor lets other threads run: the protocol that was there before was freed twice."""
    threads(
        """
async def main():
    loop, over = asyncio.get_running_loop(), threading.Event()
    transports = []

    def exchange():
        while not over.is_set():
            for transport in transports[-2:]:
                try:
                    transport.set_protocol(asyncio.Protocol())
                except RuntimeError:  # without a GIL: of another thread
                    pass

    other = threading.Thread(target=exchange)
    other.start()
    for _ in range(300):
        for end in socket.socketpair():
            transports.append((await loop.create_connection(asyncio.Protocol, sock=end))[0])
        for transport in transports[-2:]:
            transport.abort()
        await asyncio.sleep(0)
    over.set()
    other.join()

run(main())
"""
    )


@beyond_asyncio
def test_a_loop_that_does_not_run_is_used_by_many(threads):
    threads(
        """
called = []
loop = new_loop()

def use():
    for i in range(200):
        loop.call_soon(called.append, i)
        loop.call_later(0, called.append, i)
        loop.call_later(100, called.append, i).cancel()
        loop.call_soon_threadsafe(called.append, i)
        loop.create_future().cancel()

in_threads(use, use, use, use)
while len(called) < 4 * 600:
    loop.run_until_complete(step())
loop.close()
assert len(called) == 4 * 600
"""
    )


def test_producers_while_the_loop_closes(threads):
    threads(
        """
for _ in range(30):
    loop = new_loop()

    def produce():
        try:
            while True:
                loop.call_soon_threadsafe(len, ())
        except RuntimeError as error:
            assert str(error) == "Event loop is closed"

    def close():
        loop.run_until_complete(step())
        loop.close()

    in_threads(produce, produce, close)
""",
    )


@needs_no_gil
def test_who_enables_the_gil(python, monkeypatch):
    """Nobody on 3.13, where doing without is known to work."""
    monkeypatch.delenv("PYTHON_GIL", raising=False)
    process = python("-c", "import sys, cloop._cloop; print(sys._is_gil_enabled())")
    if sys.version_info < (3, 14):
        assert (process.stdout, process.stderr) == ("False\n", "")
    else:
        assert process.stdout == "True\n" and "RuntimeWarning: The global interpreter lock" in process.stderr


@needs_no_gil
def test_only_the_threads_of_the_loop_get_in(threads, loop_kind):
    if loop_kind == "asyncio":
        pytest.skip("asyncio checks in debug mode only")
    threads(
        """
def refused(function, *args):
    try:
        function(*args)
    except RuntimeError as error:
        assert str(error) == (
            "Non-thread-safe operation invoked on an event loop other than the current one"), error
    else:
        raise AssertionError(function)

def use():
    loop = shared.loop
    refused(loop.call_later, 1, print)
    refused(loop.call_at, 1, print)
    refused(loop.add_reader, 0, print)
    refused(loop.remove_writer, 0)
    refused(shared.given.write, b"x")
    refused(shared.given.close)
    for name in ("_loop", "_sock", "_sock_fd", "_protocol", "_server", "_context", "_extra", "_closing", "_paused",
                 "_eof", "_protocol_connected", "_protocol_paused", "_conn_lost", "_high_water", "_low_water"):
        refused(getattr, shared.given, name)
    assert repr(shared.given).endswith(" of a loop that another thread runs>")
    came = threading.Event()
    loop.call_soon(came.set)  # wakes it, too
    assert came.wait(60)

async def prepare():
    here, there = socket.socketpair()
    keep.append(there)
    return (await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=here))[0]

keep = []
shared = Shared(prepare)
in_threads(*shared.using(use))
keep[0].close()
""",
        options=("-W", "ignore::ResourceWarning"),
    )


def test_the_last_reference_to_a_transport_is_dropped_elsewhere(threads):
    threads(
        """
async def prepare():
    loop, given = asyncio.get_running_loop(), []
    for _ in range(50):
        here, there = socket.socketpair()
        transport, protocol = await loop.create_connection(asyncio.Protocol, sock=here)
        transport.pause_reading()
        given.append((transport, there))
    del transport, protocol
    return given

def drop():
    ends = []
    while shared.given:
        try:
            ends.append(shared.given.pop()[1])
        except IndexError:
            break
    # gc.collect() does nothing while another thread collects.
    deadline = time.monotonic() + 60
    for end in ends:
        end.setblocking(False)
        while time.monotonic() < deadline:
            gc.collect()
            shared.loop.call_soon_threadsafe(int)  # with a GIL: what poll(2) waits for is not closed before it returns
            try:
                assert end.recv(1) == b""
                break
            except BlockingIOError:
                time.sleep(0.001)
        else:
            raise AssertionError("it is open")
        end.close()

shared = Shared(prepare)
in_threads(*shared.using(drop, drop))
""",
        options=("-W", "ignore::ResourceWarning"),
    )


def test_closed_transports_die_elsewhere(threads, tmp_path):
    """What they share with the loop and with their listener is counted: connections, bytes in write buffers."""
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    threads(
        """
import ssl

server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
server_context.load_cert_chain(sys.argv[1] + "/server.pem")
client_context = ssl.create_default_context(cafile=sys.argv[1] + "/ca.pem")
gone = []

class Served(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
        transport.write(b"x" * 10)
    def connection_lost(self, error):
        gone.append(self.transport)
        self.transport = None

class Client(asyncio.Protocol):
    def __init__(self):
        self.lost = asyncio.get_running_loop().create_future()
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        self.transport.close()
    def connection_lost(self, error):
        gone.append(self.transport)
        self.transport = None
        self.lost.set_result(None)

async def main():
    loop = asyncio.get_running_loop()
    try:
        for context, name, rounds in ((None, None, 20), (server_context, "localhost", 4)):
            server = await loop.create_server(Served, "127.0.0.1", 0, ssl=context)
            address = server.sockets[0].getsockname()
            for _ in range(rounds):
                ends = []
                for _ in range(5):
                    client = await loop.create_connection(
                        Client, *address, ssl=client_context if context else None, server_hostname=name)
                    ends.append(client[1].lost)
                    del client
                await asyncio.gather(*ends)
                await asyncio.sleep(0.002)
                gone.clear()
            server.close()
            await server.wait_closed()
        for _ in range(20):
            transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))
            transport.close()
            gone.append(transport)
            del transport
            await asyncio.sleep(0.002)
            gone.clear()
        if hasattr(loop, "metrics"):
            found = loop.metrics()
            assert found.write_buffered == 0, found.write_buffered
    finally:
        over.set()

def drop():
    while not over.is_set():
        held = list(gone)
        time.sleep(0.001)  # the loop's thread lets go first
        del held

over = threading.Event()
in_threads(lambda: run(main()), drop, drop)
""",
        tmp_path,
        options=("-W", "ignore::ResourceWarning"),
    )


def test_the_last_reference_is_dropped_elsewhere_as_the_loop_ends(threads):
    """What is passed to the loop's thread is closed when the loop is, if it does not run any more."""
    threads(
        """
class Protocol(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport  # a cycle: the collector frees them

loop = new_loop()
here, there = socket.socketpair()
given = []

async def prepare():
    given.append((await loop.create_connection(Protocol, sock=here))[0])
    given[0].pause_reading()

def drop():
    given.clear()
    gc.collect()

def last():
    thread = threading.Thread(target=drop)
    thread.start()
    thread.join()
    loop.stop()

loop.run_until_complete(prepare())
loop.call_soon(last)
loop.run_forever()
loop.close()
there.setblocking(False)
assert there.recv(1) == b""
there.close()
""",
        options=("-W", "ignore::ResourceWarning"),
    )
