"""After a fork the child sees no running loop, and can run one of its own or the inherited one. Nothing that it does
with inherited objects changes what the parent receives and sends.
"""

import sys

import pytest

pytestmark = pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="needs fork")

START = """
import os, signal, sys, traceback

def in_child(function):
    pid = os.fork()
    if pid == 0:
        try:
            function()
            code = 0
        except BaseException:
            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0

async def answer():
    await asyncio.sleep(0.001)
    return 42

def fresh():
    loop = new_loop()
    assert loop.run_until_complete(answer()) == 42
    loop.close()
"""


@pytest.fixture
def ours(loop_kind, script):
    """Runs a script of what asyncio cannot do."""
    if loop_kind == "asyncio":
        pytest.skip("asyncio shares its epoll set and its wakeup descriptor with its children")
    return script


def test_child_forked_outside_a_loop_runs_a_fresh_one(script):
    script(START + "fresh(); in_child(fresh); fresh()")


def test_child_forked_by_a_callback_sees_no_running_loop(script):
    script(
        START
        + """
def check():
    assert asyncio._get_running_loop() is None
    fresh()

loop = new_loop()
loop.call_soon(in_child, check)
loop.call_soon(loop.stop)
loop.run_forever()
assert loop.run_until_complete(answer()) == 42
loop.close()
"""
    )


def test_parent_goes_on_after_a_child_closed_its_copy(script):
    script(
        START
        + """
loop = new_loop()
r, w = os.pipe()
seen = []
loop.add_reader(r, lambda: (seen.append(os.read(r, 1)), loop.stop()))
loop.call_soon(loop.stop)
loop.run_forever()
in_child(lambda: loop.close())
os.write(w, b"x")
loop.run_forever()
assert seen == [b"x"]
assert loop.remove_reader(r)
loop.close()
"""
    )


def test_child_and_parent_threads_wake_their_own_loops(script):
    script(
        START
        + """
import threading

def woken():
    loop = new_loop()
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(loop.stop,))
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()
    loop.close()

woken()
in_child(woken)
woken()
""",
        # From 3.12 on fork() warns of threads, even of one that was joined but that the kernel still counts.
        options=["-W", "ignore::DeprecationWarning"],
    )


@pytest.mark.skipif(sys.version_info < (3, 9), reason="multiprocessing of 3.8 runs it, slowly")
def test_multiprocessing_child_runs_a_loop(script):
    script(
        START
        + """
import multiprocessing
context = multiprocessing.get_context("fork")
process = context.Process(target=fresh)
process.start()
process.join()
assert process.exitcode == 0
"""
    )


# What the parent has, and how it is checked. `child` is what the child does; a task forks it.
WORLD = """
import contextlib, gc, os, signal, socket, sys, tempfile, threading, time, warnings

warnings.simplefilter("ignore")
MIB = bytes(range(256)) * 4096

class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
        world.connections.append(transport)
    def data_received(self, data):
        self.transport.write(b"echo " + data)

class Collect(asyncio.Protocol, asyncio.DatagramProtocol):
    def __init__(self):
        self.data = b""
        self.transport = None
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        self.data += data
    def datagram_received(self, data, address):
        self.data += data

async def until(condition):
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("waited in vain")

class World:
    async def make(self):
        loop = self.loop = asyncio.get_running_loop()
        self.connections, self.heard, self.signals, self.transports = [], [], [], []
        loop.add_signal_handler(signal.SIGUSR1, self.signals.append, "USR1")
        self.server = await loop.create_server(Echo, "127.0.0.1", 0)
        self.address = self.server.sockets[0].getsockname()
        self.client = self.connect(self.address)
        await until(lambda: self.connections)
        self.path = os.path.join(tempfile.mkdtemp(), "socket")
        self.unix_server = await loop.create_unix_server(Echo, self.path)
        self.near, self.far = socket.socketpair()
        loop.add_reader(self.near, lambda: self.heard.append(self.near.recv(10)))
        self.waited, self.waker = socket.socketpair()
        self.waited.setblocking(False)
        self.waiting = loop.create_task(loop.sock_recv(self.waited, 10))
        self.datagrams = Collect()
        transport, _ = await loop.create_datagram_endpoint(lambda: self.datagrams, ("127.0.0.1", 0))
        self.transports.append(transport)
        self.full, full_end = socket.socketpair()
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=full_end)
        transport.write(MIB)
        assert transport.get_write_buffer_size() > 0
        self.transports.append(transport)
        self.reading, self.writing = Collect(), Collect()
        r, self.to_pipe = os.pipe()
        self.from_pipe, w = os.pipe()
        self.read_end, self.write_end = open(r, "rb", 0), open(w, "wb", 0)
        self.transports += [(await loop.connect_read_pipe(lambda: self.reading, self.read_end))[0],
                            (await loop.connect_write_pipe(lambda: self.writing, self.write_end))[0]]
        self.cat = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)

    def connect(self, address):
        client = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        client.connect(address)
        client.setblocking(False)
        return client

    async def check_echo(self, client, data):
        client.send(data)
        assert await asyncio.wait_for(self.loop.sock_recv(client, 100), 10) == b"echo " + data

    async def check(self):
        loop, signals = self.loop, len(self.signals)
        assert self.signals == []
        await self.check_echo(self.client, b"2")
        for address in (self.address, self.path):
            with self.connect(address) as client:
                await self.check_echo(client, b"3")
        self.far.send(b"hello")
        await until(lambda: self.heard == [b"hello"])
        self.waker.send(b"waited")
        assert await asyncio.wait_for(self.waiting, 10) == b"waited"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"datagram", self.transports[0].get_extra_info("sockname"))
        await until(lambda: self.datagrams.data == b"datagram")
        self.full.setblocking(False)
        data = b""
        while len(data) < len(MIB):
            data += await asyncio.wait_for(loop.sock_recv(self.full, 1 << 20), 10)
        assert data == MIB
        self.transports[1].write(b"more")
        assert await asyncio.wait_for(loop.sock_recv(self.full, 10), 10) == b"more"
        assert not os.get_blocking(self.read_end.fileno()) and not os.get_blocking(self.write_end.fileno())
        os.write(self.to_pipe, b"pipe")
        await until(lambda: self.reading.data == b"pipe")
        self.writing.transport.write(b"pipe")
        assert os.read(self.from_pipe, 10) == b"pipe"
        self.cat.stdin.write(b"line\\n")
        assert await asyncio.wait_for(self.cat.stdout.readline(), 10) == b"line\\n"
        self.cat.stdin.close()
        assert await asyncio.wait_for(self.cat.wait(), 10) == 0
        threading.Timer(0.01, loop.call_soon_threadsafe, (self.heard.append, "thread")).start()
        await until(lambda: self.heard[1:] == ["thread"])
        os.kill(os.getpid(), signal.SIGUSR1)
        await until(lambda: self.signals == ["USR1"])

    def everything(self):
        return self.connections + self.transports + [self.cat._transport, self.server, self.unix_server]

    def drop(self):
        del self.connections[:], self.transports[:], self.server, self.unix_server, self.cat, self.near
        del self.read_end, self.write_end, self.reading, self.writing, self.datagrams, self.waiting, self.waited
        gc.collect()

    def close(self):
        for one in self.everything():
            one.close()
        self.loop.remove_reader(self.near)

world = World()

async def main():
    await world.make()
    pid = os.fork()
    if pid == 0:
        child()
    await asyncio.get_running_loop().run_in_executor(None, os.waitpid, pid, 0)
    await world.check()

def finish(loop):
    # As asyncio.run() does.
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_asyncgens())
    asyncio.set_event_loop(None)
    loop.close()

def run():
    loop = new_loop()
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(asyncio.wait_for(main(), 20))
    finally:
        if world.loop._thread_id is None:
            world.close()
            finish(loop)
"""

FIRST = "def child():\n    "

CHILDREN = {
    "closes everything": "world.close(); os._exit(0)",
    "aborts and ends connections": """
    for transport in world.connections + world.transports:
        for name in ("write_eof", "abort"):
            with contextlib.suppress(AttributeError, NotImplementedError):
                getattr(transport, name)()
    world.cat._transport.close()
    os._exit(0)""",
    "kills the subprocess": """
    with contextlib.suppress(ProcessLookupError):
        world.cat.kill()
    os._exit(0)""",
    "drops everything": "world.drop(); os._exit(0)",
    "removes and adds": """
    loop = world.loop
    assert loop.remove_reader(world.near)
    a, b = socket.socketpair()
    loop.add_reader(a, print)
    loop.add_reader(world.near, print)
    loop.add_writer(world.near, print)
    assert loop.remove_writer(world.near) and loop.remove_reader(world.near)
    loop.remove_reader(a)
    os._exit(0)""",
    "wakes it": """
    threads = [threading.Thread(target=world.loop.call_soon_threadsafe, args=(print,)) for _ in range(5)]
    [thread.start() for thread in threads], [thread.join() for thread in threads]
    world.loop._write_to_self()
    os._exit(0)""",
    "gets signals": "[os.kill(os.getpid(), signal.SIGUSR1) for _ in range(5)]; time.sleep(0.01); os._exit(0)",
    "takes signals away": """
    world.loop.remove_signal_handler(signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    os.kill(os.getpid(), signal.SIGUSR1)
    os._exit(0)""",
    "exits": "sys.exit(0)",
    "exits by an exception of its own after closing": "world.close(); raise KeyboardInterrupt",
    "runs another loop": """
    async def other():
        await asyncio.sleep(0.001)
        a, b = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=a)
        b.send(b"x")
        assert await reader.read(1) == b"x"
        writer.close()
        loop = asyncio.get_event_loop()
        got = loop.create_future()
        loop.add_signal_handler(signal.SIGUSR1, got.set_result, 1)
        os.kill(os.getpid(), signal.SIGUSR1)
        await asyncio.wait_for(got, 10)
    other_loop = new_loop()
    asyncio.set_event_loop(other_loop)
    other_loop.run_until_complete(other())
    other_loop.close()
    os._exit(0)""",
    "forks again": """
    pid = os.fork()
    if pid == 0:
        world.close()
        os._exit(0)
    os.waitpid(pid, 0)
    world.close()
    sys.exit(0)""",
    "runs a program": """
    import subprocess
    subprocess.run(["true"], preexec_fn=world.close, check=True)
    os._exit(0)""",
}


@pytest.mark.parametrize("child", CHILDREN)
def test_parent_does_not_notice_what_its_child_does(ours, child):
    printed = ours(
        WORLD
        + FIRST
        + CHILDREN[child]
        + """
me = os.getpid()
try:
    run()
except KeyboardInterrupt:
    assert os.getpid() != me
    sys.exit(0)
if os.getpid() == me:
    print("checked")
"""
    )
    assert printed == "checked\n"


TALK = """
import contextlib, socket, threading, time

async def talk(sock):
    reader, writer = await asyncio.open_connection(sock=sock)
    writer.write(b"over")
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    return answer
"""


def test_child_runs_an_inherited_loop_that_did_not_run(script):
    script(
        START
        + TALK
        + """
near, far = socket.socketpair()
x, y = socket.socketpair()
loop = new_loop()
asyncio.set_event_loop(loop)
reader, writer = loop.run_until_complete(asyncio.open_connection(sock=near))
heard = []
loop.add_reader(x, lambda: (heard.append(x.recv(10)), loop.stop()))
server = loop.run_until_complete(asyncio.start_server(lambda r, w: (w.write(b"hello"), w.close()), "127.0.0.1", 0))
loop.call_later(0.01, heard.append, "timer")
loop.call_soon_threadsafe(heard.append, "soon")

async def use_it():
    await asyncio.sleep(0.02)
    assert heard == ["soon", "timer"], heard
    far.send(b"to the child")
    assert await reader.read(12) == b"to the child"
    writer.write(b"answer")
    writer.write_eof()
    far.setblocking(False)
    assert await loop.sock_recv(far, 10) == b"answer"
    assert await loop.sock_recv(far, 10) == b""
    r, w = await asyncio.open_connection(*server.sockets[0].getsockname())
    assert await r.read() == b"hello"
    w.close()
    assert await talk_to_echo() == b"over"
    assert await loop.run_in_executor(None, lambda: 42) == 42
    process = await asyncio.create_subprocess_exec("true")
    assert await process.wait() == 0
    threading.Timer(0.01, loop.call_soon_threadsafe, (heard.append, "thread")).start()
    while heard[-1] != "thread":
        await asyncio.sleep(0.005)

async def talk_to_echo():
    a, b = socket.socketpair()
    b.send(b"over")
    b.shutdown(socket.SHUT_WR)
    return await talk(a)

def child():
    if sys.version_info < (3, 12):
        # asyncio's child watcher of these versions watches the loop of the main thread.
        asyncio.set_event_loop(loop)
    loop.run_until_complete(use_it())
    y.send(b"y")
    loop.run_forever()
    assert heard[-1] == b"y"
    loop.close()

in_child(child)
loop.close()
"""
    )


def test_child_has_executor_threads_of_its_own(ours):
    ours(
        START
        + """
loop = new_loop()
async def call(value):
    return await loop.run_in_executor(None, lambda: value)
assert loop.run_until_complete(call(1)) == 1
def child():
    assert loop.run_until_complete(call(2)) == 2
    if sys.version_info >= (3, 9):
        loop.run_until_complete(loop.shutdown_default_executor())
in_child(child)
assert loop.run_until_complete(call(3)) == 3
loop.close()
""",
        options=["-W", "ignore::DeprecationWarning"],
    )


@pytest.mark.parametrize("prepare", ["", "loop.run_until_complete(asyncio.sleep(0.001))"], ids=["fresh", "used"])
def test_signals_of_the_child_reach_the_handlers_of_the_loop_that_it_runs(ours, prepare):
    ours(
        START
        + """
import time
seen = []
loop = new_loop()
loop.add_signal_handler(signal.SIGUSR1, lambda: seen.append(os.getpid()))
%s

async def wait_for(count):
    while len(seen) < count:
        await asyncio.sleep(0.005)

def child():
    os.kill(os.getpid(), signal.SIGUSR1)
    time.sleep(0.001)
    loop.call_later(0.01, os.kill, os.getpid(), signal.SIGUSR1)
    loop.run_until_complete(asyncio.wait_for(wait_for(2), 10))
    assert seen == [os.getpid()] * 2
    loop.close()

in_child(child)
loop.run_until_complete(asyncio.sleep(0.01))
assert seen == []
os.kill(os.getpid(), signal.SIGUSR1)
loop.run_until_complete(asyncio.wait_for(wait_for(1), 10))
loop.close()
"""
        % prepare
    )


def test_signal_to_a_child_that_python_did_not_see_made(ours):
    """As between fork() and exec(), when no hook has run."""
    ours(
        START
        + """
import ctypes
seen = []
loop = new_loop()
loop.add_signal_handler(signal.SIGUSR1, seen.append, 1)

async def main():
    pid = ctypes.PyDLL(None).fork()
    if pid == 0:
        os.kill(os.getpid(), signal.SIGUSR1)
        os._exit(0)
    os.kill(os.getpid(), signal.SIGUSR1)
    os.waitpid(pid, 0)
    os.kill(os.getpid(), signal.SIGUSR1)
    while not seen:
        await asyncio.sleep(0)
    await asyncio.sleep(0.01)

loop.run_until_complete(main())
assert seen == [1, 1], seen
loop.close()
"""
    )


def test_foreign_wakeup_descriptor_stays_where_asyncio_leaves_it(ours):
    ours(
        START
        + """
r, w = os.pipe()
os.set_blocking(w, False)
signal.set_wakeup_fd(w)
loop = new_loop()
expected = -1 if sys.version_info >= (3, 12) else w
def check():
    assert signal.set_wakeup_fd(-1) == expected
in_child(check)
assert signal.set_wakeup_fd(-1) == w
loop.close()
"""
    )


@pytest.mark.parametrize(
    "last", ["", "loop.add_reader(y, print)", "loop.add_writer(x, int)"], ids=["told", "not told yet", "changed"]
)
def test_child_that_goes_on_hears_of_what_it_adds(ours, last):
    """Of what was added last the parent's poller is not told yet."""
    ours(
        START
        + TALK
        + """
x, y = socket.socketpair()

async def main():
    loop = asyncio.get_running_loop()
    heard = []
    loop.add_reader(x, lambda: heard.append(x.recv(10)))
    server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
    await asyncio.sleep(0.001)
    LAST
    pid = os.fork()
    if pid:
        server.close()
        assert os.waitpid(pid, 0)[1] == 0 and heard == []
        y.send(b"parent's")
        while not heard:
            await asyncio.sleep(0.001)
        assert heard == [b"parent's"]
        return
    future = loop.create_future()
    loop.call_later(0.001, future.set_result, None)
    await future  # polls
    assert asyncio.get_running_loop() is loop
    y.send(b"1")
    await asyncio.sleep(0.01)
    assert heard == []  # they are the parent's
    loop.add_reader(x, lambda: heard.append(x.recv(10)))
    while not heard:
        await asyncio.sleep(0.001)
    assert heard == [b"1"]
    a, b = socket.socketpair()
    b.send(b"over")
    b.shutdown(socket.SHUT_WR)
    assert await talk(a) == b"over"
    threading.Timer(0.01, loop.call_soon_threadsafe, (heard.append, "thread")).start()
    while heard[-1] != "thread":
        await asyncio.sleep(0.005)

loop = new_loop()
loop.run_until_complete(asyncio.wait_for(main(), 20))
loop.close()
""".replace("LAST", last),
        options=["-W", "ignore::DeprecationWarning"],
    )


def test_child_forked_between_two_events_of_a_turn(ours):
    """What the second connection has received is the parent's."""
    ours(
        START
        + """
import socket
heard, children = [], []

class Protocol(asyncio.Protocol):
    def data_received(self, data):
        heard.append(data)
        if not children:
            children.append(os.fork())

loop = new_loop()
peers, transports = [], []
for _ in range(2):
    sock, peer = socket.socketpair()
    peers.append(peer)
    transports.append(loop.run_until_complete(loop.create_connection(Protocol, sock=sock))[0])
for peer in peers:
    peer.send(b"x")
loop.run_until_complete(asyncio.sleep(0.01))
if children == [0]:
    os._exit(heard != [b"x"])
assert os.waitpid(children[0], 0)[1] == 0
assert heard == [b"x"] * 2
for transport in transports:
    transport.abort()
loop.run_until_complete(asyncio.sleep(0))
loop.close()
""",
        options=["-W", "ignore::DeprecationWarning"],
    )


def test_child_of_a_child_that_has_polled(ours):
    ours(
        START
        + """
import socket
x, y = socket.socketpair()

async def main():
    loop = asyncio.get_running_loop()
    heard = []
    loop.add_reader(x, lambda: heard.append(x.recv(10)))
    for generation in range(3):
        future = loop.create_future()
        loop.call_later(0.001, future.set_result, None)
        await future  # polls
        assert asyncio.get_running_loop() is loop
        pid = os.fork() if generation < 2 else 0
        if pid:
            assert os.waitpid(pid, 0)[1] == 0 and heard == []
            return
    y.send(b"1")
    await asyncio.sleep(0.01)
    assert heard == []  # they are its parent's
    loop.add_reader(x, lambda: heard.append(x.recv(10)))
    while not heard:
        await asyncio.sleep(0.001)
    assert heard == [b"1"]

loop = new_loop()
loop.run_until_complete(asyncio.wait_for(main(), 20))
loop.close()
""",
        options=["-W", "ignore::DeprecationWarning"],
    )


def test_daemon_hears_of_all_when_its_parent_has_ended(ours):
    """Its parent may exit before or after the daemon first polls; and its grandparent with it."""
    ours(
        START
        + TALK
        + """
peer, inherited = socket.socketpair()
x, y = socket.socketpair()
go, wait = socket.socketpair()
done_r, done_w = os.pipe()

async def main():
    loop = asyncio.get_running_loop()
    heard = []
    loop.add_reader(x, lambda: heard.append(x.recv(10)))
    reader, writer = await asyncio.open_connection(sock=inherited)
    if os.fork():
        wait.recv(1)
        os._exit(0)
    if os.fork():
        os._exit(0)
    future = loop.create_future()
    loop.call_later(0.01, future.set_result, None)
    await future  # polls
    y.send(b"x")
    peer.send(b"hello")
    go.send(b"!")
    assert await reader.read(5) == b"hello"
    while not heard:
        await asyncio.sleep(0.001)
    writer.write(b"answer")
    writer.write_eof()
    answer = b""
    peer.setblocking(False)
    while True:
        data = await loop.sock_recv(peer, 10)
        if not data:
            break
        answer += data
    assert answer == b"answer"
    return 0

def first():
    loop = new_loop()
    code = 1
    try:
        code = loop.run_until_complete(asyncio.wait_for(main(), 10))
        loop.close()
    except BaseException:
        traceback.print_exc()
    os.write(done_w, b"%d" % code)
    os._exit(0)

if os.fork() == 0:
    first()
os.close(done_w)
os.wait()
assert os.read(done_r, 10) == b"0"
""",
        options=["-W", "ignore::DeprecationWarning"],
    )


def test_child_forked_by_another_thread_closes_or_runs_the_loop(ours):
    ours(
        START
        + """
import threading, time
loop = new_loop()
r, w = os.pipe()
seen = []
loop.add_reader(r, lambda: seen.append(os.read(r, 1)))
started = threading.Event()

def fork():
    started.wait()
    for child in (loop.close, lambda: loop.run_until_complete(answer()), lambda: None) * 5:
        in_child(child)
    os.write(w, b"x")
    loop.call_soon_threadsafe(loop.stop)

thread = threading.Thread(target=fork)
thread.start()
loop.call_soon(started.set)
loop.run_forever()
thread.join()
loop.call_soon(loop.stop)
loop.run_forever()
assert seen == [b"x"]
loop.close()
""",
        options=["-W", "ignore::DeprecationWarning"],
    )


def test_child_forked_while_another_thread_is_in_a_turn_by_hand(ours):
    """The child is in none."""
    ours(
        START
        + """
import threading
from cloop import _cloop
loop = new_loop()
within, forked = threading.Event(), threading.Event()

def wait():
    within.set()
    forked.wait()

def child():
    assert _cloop._pulse(loop)[1] == "stopped"
    assert loop.run_until_complete(answer()) == 42
    loop.close()

loop.call_soon(wait)
thread = threading.Thread(target=loop._run_once)
thread.start()
within.wait()
assert _cloop._pulse(loop)[1] == "runs"
in_child(child)
forked.set()
thread.join()
loop.close()
""",
        options=["-W", "ignore::DeprecationWarning"],
    )


def test_child_of_a_loop_that_was_stopped_before_it_ran(script):
    """Its first run ends at once, as the parent's does."""
    script(
        START
        + """
loop = new_loop()
loop.stop()

def child():
    signal.alarm(20)
    loop.run_forever()
    signal.alarm(0)

in_child(child)
loop.run_forever()
loop.close()
"""
    )


@pytest.mark.parametrize("limit", [0, 1, 2, 3, 4])
def test_child_without_descriptors_says_so_and_may_try_again(ours, limit):
    ours(
        START
        + """
import resource
loop = new_loop()
loop.add_signal_handler(signal.SIGUSR1, print)

def child():
    free = []
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    try:
        while True:
            free.append(os.dup(0))
    except OSError:
        pass
    for _ in range(int(sys.argv[1])):
        os.close(free.pop())
    try:
        loop.run_until_complete(answer())
    except OSError:
        pass
    while free:
        os.close(free.pop())
    assert loop.run_until_complete(answer()) == 42
    loop.close()

import warnings
warnings.simplefilter("ignore")
in_child(child)
assert loop.run_until_complete(answer()) == 42
loop.close()
""",
        limit,
    )


@pytest.mark.parametrize("child", ["closes", "exits"])
def test_child_does_not_end_the_tls_of_its_parent(ours, tmp_path, child):
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    ours(
        """
import os, ssl, sys

server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
server_context.load_cert_chain("server.pem")
client_context = ssl.create_default_context(cafile="authority.pem")
me = os.getpid()

async def echo(reader, writer):
    try:
        while True:
            data = await reader.readline()
            if not data:
                break
            writer.write(data)
            await writer.drain()
    except asyncio.CancelledError:
        pass
    finally:
        writer.close()

async def main():
    loop = asyncio.get_running_loop()
    server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_context)
    reader, writer = await asyncio.open_connection(
        *server.sockets[0].getsockname(), ssl=client_context, server_hostname="localhost")
    try:
        writer.write(b"one\\n")
        assert await reader.readline() == b"one\\n"
        pid = os.fork()
        if pid == 0:
            writer.close()
            if sys.argv[1] == "closes":
                os._exit(0)
            sys.exit(0)
        await loop.run_in_executor(None, os.waitpid, pid, 0)
        writer.write(b"two\\n")
        assert await asyncio.wait_for(reader.readline(), 10) == b"two\\n"
    finally:
        writer.close()
        server.close()

loop = new_loop()
asyncio.set_event_loop(loop)
try:
    loop.run_until_complete(main())
finally:
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    loop.close()
""",
        child,
        options=["-W", "ignore"],
    )


@pytest.mark.skipif(sys.version_info < (3, 13), reason="asyncio of before 3.13 removes no sockets")
def test_path_of_a_unix_server_is_removed_by_who_made_it_or_is_left(ours):
    ours(
        START
        + """
async def listen(path):
    return await asyncio.start_unix_server(lambda r, w: None, path)

async def close(server):
    server.close()

async def own():
    (await listen("own")).close()
    assert not os.path.exists("own")

loop = new_loop()
server = loop.run_until_complete(listen("socket"))
in_child(lambda: (server.close(), loop.close()))
in_child(lambda: (loop.run_until_complete(own()), loop.run_until_complete(close(server)), loop.close()))
assert os.path.exists("socket")
loop.run_until_complete(close(server))
assert not os.path.exists("socket")

def daemon():
    loop = new_loop()
    server = loop.run_until_complete(listen("socket"))
    me = os.getpid()
    if os.fork():
        os._exit(0)
    while os.getppid() == me:
        pass
    loop.run_until_complete(close(server))
    os.write(w, b"%d" % os.path.exists("socket"))
    os._exit(0)

r, w = os.pipe()
in_child(daemon)
assert os.read(r, 1) == b"0"
loop.close()
"""
    )
