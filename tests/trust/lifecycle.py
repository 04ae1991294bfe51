"""Loops that begin and end in odd ways: forks and exec() in callbacks, exits with threads, many loops, many interpreters, storms
of signals.

python tests/trust/lifecycle.py [NAME...] [--small] [--seed N] [--loop cloop|asyncio|uvloop]
"""

import asyncio
import atexit
import gc
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import attack
from overload import Child, until

FACTORY = "import asyncio, importlib, os, sys\nnew_loop = importlib.import_module(sys.argv[1]).new_event_loop\n"


def loops(run):
    """Loops are made, used a little and closed."""
    count, points = run.size(2000, 100000), []
    before = attack.descriptors()

    async def use():
        loop = asyncio.get_running_loop()
        first, second = socket.socketpair()
        loop.add_reader(first, print)
        loop.call_later(1000, print)
        await asyncio.sleep(0)
        loop.remove_reader(first)
        first.close()
        second.close()

    for number in range(count):
        loop = run.new_loop()
        loop.run_until_complete(use())
        loop.close()
        if number >= count // 5 and number % (count // 50) == 0:
            gc.collect()
            points.append((number, attack.resident()))
    asyncio.set_event_loop(None)
    run.must(attack.descriptors() <= before, "%d descriptors are left" % (attack.descriptors() - before))
    found, error = attack.slope(points)
    text = "%d loops, no descriptor left, %.1f bytes a loop (+- %.1f)" % (count, found, error)
    run.must(found - 3 * error < 16, text)
    return text


# Forks


def fork_places(loop, hit):
    """Each kind of callback: a coroutine function that makes it call hit(), once."""
    places = {}

    def place(function):
        places[function.__name__] = function
        return function

    def wait(kind):
        done = loop.create_future()
        return done, lambda *args: done.done() or (kind(), done.set_result(None))

    class Reports(asyncio.Protocol):
        def __init__(self, event):
            self.done = loop.create_future()
            self.event = event

        def report(self, event):
            if event == self.event and not self.done.done():
                hit()
                self.done.set_result(None)

        def connection_made(self, transport):
            self.report("made")

        def data_received(self, data):
            self.report("data")

        def datagram_received(self, data, address):
            self.report("data")

        def eof_received(self):
            self.report("eof")

        def connection_lost(self, error):
            self.report("lost")

    async def by_protocol(event):
        ours, theirs = socket.socketpair()
        transport, protocol = await loop.create_connection(lambda: Reports(event), sock=ours)
        theirs.send(b"x")
        theirs.shutdown(socket.SHUT_WR)
        await protocol.done
        transport.abort()
        theirs.close()

    @place
    async def call_soon():
        done, callback = wait(hit)
        loop.call_soon(callback)
        await done

    @place
    async def timer():
        done, callback = wait(hit)
        loop.call_later(0.001, callback)
        await done

    @place
    async def from_thread():
        done, callback = wait(hit)
        threading.Thread(target=loop.call_soon_threadsafe, args=(callback,)).start()
        await done

    @place
    async def reader():
        ours, theirs = socket.socketpair()
        done, callback = wait(hit)
        loop.add_reader(ours, callback)
        theirs.send(b"x")
        await done
        loop.remove_reader(ours)
        ours.close()
        theirs.close()

    @place
    async def signal_handler():
        done, callback = wait(hit)
        loop.add_signal_handler(signal.SIGUSR1, callback)
        os.kill(os.getpid(), signal.SIGUSR1)
        await done
        loop.remove_signal_handler(signal.SIGUSR1)

    @place
    async def connection_made():
        await by_protocol("made")

    @place
    async def data_received():
        await by_protocol("data")

    @place
    async def eof_received():
        await by_protocol("eof")

    @place
    async def connection_lost():
        await by_protocol("lost")

    @place
    async def datagram_received():
        transport, protocol = await loop.create_datagram_endpoint(lambda: Reports("data"), local_addr=("127.0.0.1", 0))
        transport.sendto(b"x", transport.get_extra_info("sockname"))
        await protocol.done
        transport.close()

    @place
    async def served_by_streams():
        done, callback = wait(hit)

        async def serve(reader, writer):
            callback()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        await reader.read()
        await done
        writer.close()
        server.close()

    @place
    async def pipe_data():
        r, w = os.pipe()
        transport, protocol = await loop.connect_read_pipe(lambda: Reports("data"), open(r, "rb", 0))
        os.write(w, b"x")
        await protocol.done
        transport.close()
        os.close(w)

    @place
    async def process_exited():
        done, callback = wait(hit)

        class Exits(asyncio.SubprocessProtocol):
            def process_exited(self):
                callback()

        transport, _ = await loop.subprocess_exec(Exits, "true", stdin=None, stdout=None, stderr=None)
        await done
        transport.close()

    @place
    async def future_callback():
        done, callback = wait(hit)
        future = loop.create_future()
        future.add_done_callback(callback)
        future.set_result(None)
        await done

    @place
    async def exception_handler():
        done, callback = wait(hit)
        loop.set_exception_handler(lambda loop, context: callback())
        loop.call_soon(lambda: 1 / 0)
        await done
        loop.set_exception_handler(None)

    @place
    async def destructor():
        done, callback = wait(hit)

        class Dies:
            def __del__(self):
                callback()

        loop.call_soon(id, Dies())
        await done

    @place
    async def executor():
        await loop.run_in_executor(None, hit)

    @place
    async def task_step():
        await asyncio.sleep(0)
        hit()
        await asyncio.sleep(0)

    @place
    async def cancelled_task():
        async def sleeps():
            try:
                await asyncio.sleep(1000)
            finally:
                hit()

        task = asyncio.ensure_future(sleeps())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

    return places


def child_leaves(loop):
    os._exit(0)


def child_closes(loop):
    loop._thread_id = None  # it runs no more here
    try:
        loop.close()
    except RuntimeError:
        pass
    os._exit(0)


def child_runs_another(loop):
    asyncio._set_running_loop(None)
    other = type(loop)()
    other.run_until_complete(asyncio.wait_for(asyncio.sleep(0.001), 10))
    other.close()
    os._exit(0)


def child_collects(loop):
    for thing in gc.get_objects():
        if isinstance(thing, asyncio.BaseTransport):
            thing.abort() if hasattr(thing, "abort") else thing.close()
    gc.collect()
    os._exit(0)


def child_executes(loop):
    program = "import asyncio; asyncio.new_event_loop().run_until_complete(asyncio.sleep(0.001))"
    os.execv(sys.executable, [sys.executable, "-c", program])


CHILDREN = [child_leaves, child_closes, child_runs_another, child_collects, child_executes]


def forks(run):
    """A fork in each kind of callback, with each kind of child, beside a connection that must not notice."""
    loop, count, statuses = run.new_loop(), [0], []
    child = [None]

    def hit():
        pid = os.fork()
        if pid == 0:
            signal.alarm(60)
            try:
                child[0](loop)
            finally:
                os._exit(1)
        statuses.append((child[0].__name__, os.waitpid(pid, 0)[1]))

    async def main():
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        places = fork_places(loop, hit)
        for _ in range(run.size(1, 20)):
            for name, place in places.items():
                for child[0] in CHILDREN:
                    if child[0] is child_executes and name not in ("call_soon", "data_received", "destructor"):
                        continue
                    await asyncio.wait_for(place(), 60)
                    writer.write(b"%d\n" % count[0])
                    run.must(await reader.readline() == b"%d\n" % count[0], "the connection notices")
                    count[0] += 1
        writer.close()
        server.close()
        return len(places)

    async def echo(reader, writer):
        while True:
            line = await reader.readline()
            if not line:
                break
            writer.write(line)
        writer.close()

    places = loop.run_until_complete(main())
    wrong = [status for status in statuses if status[1]]
    run.must(len(statuses) == count[0] and not wrong, "children failed: %r" % (wrong or len(statuses),))
    return "%d forks in %d kinds of callbacks, %d kinds of children: 0 failed" % (count[0], places, len(CHILDREN))


# Exits

EXITS = (
    FACTORY
    + """
import random, socket, threading, time
choose = random.Random(int(sys.argv[2]))
started = threading.Barrier(4)

def run(kind):
    loop = new_loop()
    async def echo(reader, writer):
        while True:
            data = await reader.read(100)
            writer.write(data)
    async def main():
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        loop.run_in_executor(None, started.wait) if kind else started.wait()
        while True:
            if kind == 0:
                await asyncio.sleep(0)
            elif kind == 1:
                writer.write(b"x")
                await reader.read(1)
            else:
                await asyncio.sleep(1000)
    loop.run_until_complete(main())

for kind in range(3):
    threading.Thread(target=run, args=(kind,), daemon=True).start()
started.wait()
time.sleep(choose.random() * 0.01)
ending = choose.choice(["exit", "return", "raise"])
if ending == "exit":
    sys.exit(0)
if ending == "raise":
    raise SystemExit
"""
)


def exits(run):
    """The interpreter ends while daemon threads run loops."""
    count = run.size(6, 1000)
    for number in range(count):
        done = subprocess.run(
            [sys.executable, "-X", "faulthandler", "-W", "ignore", "-c", EXITS, run.loop_name, str(run.seed + number)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120,
        )  # fmt: skip
        run.must(
            done.returncode == 0 and not done.stderr,
            "exit %d with seed %d: %d %s" % (number, run.seed + number, done.returncode, done.stderr.decode()),
        )
    return "%d exits with 3 loops in daemon threads each: 0 failed" % count


# Signals


def send_signals(sock, seconds, seed):
    parent, rng, end, sent = os.getppid(), random.Random(seed), time.monotonic() + seconds, 0
    while time.monotonic() < end:
        os.kill(parent, rng.choice([signal.SIGUSR1, signal.SIGUSR2]))
        sent += 1
        time.sleep(rng.random() * 0.002)  # no faster: what is not read yet of a wakeup descriptor is limited
    sock.send(b"%d" % sent)
    sock.recv(1)


def signals(run):
    """A storm of signals over connections, files, processes and timers: nothing of them is wrong."""
    loop, seen, rounds, seconds = run.new_loop(), [0, 0], [0], run.size(3, 60)
    loop.add_signal_handler(signal.SIGUSR1, lambda: seen.__setitem__(0, seen[0] + 1))
    signal.signal(signal.SIGUSR2, lambda *args: seen.__setitem__(1, seen[1] + 1))
    file = tempfile.TemporaryFile()
    file.write(bytes(range(256)) * 1000)
    file.flush()

    async def echo(reader, writer):
        while True:
            data = await reader.read(1 << 16)
            if not data:
                break
            writer.write(data)
            await writer.drain()
        writer.close()

    async def streams(address):
        reader, writer = await asyncio.open_connection(*address)
        data = run.random.getrandbits(80000).to_bytes(10000, "big") * run.random.choice([1, 50])
        writer.write(data)
        run.must(await reader.readexactly(len(data)) == data, "other data")
        writer.close()

    async def socks(address):
        with socket.socket() as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, address)
            await loop.sock_sendall(sock, b"data")
            run.must(await loop.sock_recv(sock, 10) == b"data", "other data")

    async def process(address):
        made = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
        out, _ = await made.communicate(b"data")
        run.must(out == b"data" and made.returncode == 0, "other output")

    async def timer(address):
        began = loop.time()
        await asyncio.sleep(0.003)
        run.must(loop.time() - began >= 0.0029, "early")

    async def sendfile(address):
        reader, writer = await asyncio.open_connection(*address)
        count, received = 256000, bytearray()

        async def collect():
            while len(received) < count:
                received.extend(await reader.read(1 << 16))

        collecting = asyncio.ensure_future(collect())
        await loop.sendfile(writer.transport, file, 0, count)
        await collecting
        run.must(bytes(received) == bytes(range(256)) * 1000, "another file")
        writer.close()

    async def main():
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        children = [Child(send_signals, seconds, run.seed + n) for n in range(2)]
        ended = [loop.run_in_executor(None, child.sock.recv, 100) for child in children]
        while not all(future.done() for future in ended):
            for kind in streams, socks, process, timer, sendfile:
                await asyncio.wait_for(kind(address), 60)
                rounds[0] += 1
        for child in children:
            child.end()
        sent = sum(int(future.result()) for future in ended)
        before = list(seen)
        os.kill(os.getpid(), signal.SIGUSR1)
        await until(lambda: seen[0] > before[0], 10)
        server.close()
        return sent

    sent = loop.run_until_complete(main())
    run.must(min(seen) > 0, "no handler was called")
    return "%d signals, handlers called %d and %d times, %d operations right" % (sent, seen[0], seen[1], rounds[0])


# Interpreters

HERE = os.path.dirname(os.path.abspath(__file__))

INSIDE = """
import asyncio, importlib, signal, threading
import interpreter_scenarios as scenarios

async def main():
    signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)  # to this thread, for the main interpreter
    await asyncio.sleep(0)

new_loop = importlib.import_module({loop!r}).new_event_loop
scenarios.on(new_loop, main)
scenarios.perform(new_loop, {names!r})
scenarios.on(new_loop, main)
"""
#: endings leaves loops, tasks, connections and an executor for the end of the interpreter.
SCENARIOS = "tcp streams udp pipes timers tasks executors threadsafe subprocesses signals endings"
GROWTH_KIB = 100  # of each; one that is alive has megabytes


def interpreters(run):
    """Interpreters with a GIL of their own: made, used and destroyed, beside a loop that gets signals and starts processes."""
    sys.path.append(os.path.join(os.path.dirname(HERE), "isolated"))
    import interpreters as own

    if not own.exist:
        raise attack.Skipped("interpreters with a GIL of their own came with Python 3.12")
    if sys.version_info < (3, 13):
        # CPython 3.12.1 itself crashes at the end of a process that has had one.
        atexit.register(lambda: (sys.stdout.flush(), os._exit(0)))
    # As many blocks of interpreters one after another as of four at once.
    blocks, count, text = run.size(2, 10), run.size(2, 50), INSIDE.format(loop=run.loop_name, names=SCENARIOS)
    loop, made, children, signalled, points, before = run.new_loop(), 0, 0, [0], [], []
    loop.add_signal_handler(signal.SIGUSR1, lambda: signalled.__setitem__(0, signalled[0] + 1))

    async def settled():
        """A thread that was joined may just be exiting, with its descriptors."""
        now = len(os.listdir("/proc/self/task")), attack.descriptors()
        if not before:
            before.append(now)
        await until(lambda: (len(os.listdir("/proc/self/task")), attack.descriptors()) <= before[0])

    async def main():
        nonlocal made, children
        for block in range(1 + 2 * blocks):
            threads = 1 + 3 * (block % 2)
            running, errors = own.at_once(text, threads, -(-count // threads) if block else 1)
            while any(thread.is_alive() for thread in running):
                os.kill(os.getpid(), signal.SIGUSR1)
                child = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
                out, _ = await child.communicate(b"data")
                run.must((out, child.returncode) == (b"data", 0), "another output, or status")
                children += 1
                await asyncio.sleep(run.random.random() * 0.1)
            own.finish(running, errors)
            gc.collect()
            run.must(own.count() == 1, "%d interpreters are left" % (own.count() - 1))
            await settled()
            if block:  # the first is for what the process keeps for good
                made += threads * -(-count // threads)
                points.append((made, attack.resident() / 1024))
        seen = signalled[0]
        os.kill(os.getpid(), signal.SIGUSR1)
        await until(lambda: signalled[0] > seen, 10)

    loop.run_until_complete(main())
    found, error = attack.slope(points[len(points) // 4 :])
    run.must(signalled[0] > made, "%d signals" % signalled[0])
    text = "%d interpreters, half of them four at once: 0 failed; %d signals, %d children beside; no descriptor or thread left" % (
        made, signalled[0], children)  # fmt: skip
    text += ", %.1f KiB an interpreter (+- %.1f)" % (found, error)
    # CPython 3.12 and 3.13 keep megabytes of each, also with asyncio alone.
    run.must(run.small or found - 3 * error < GROWTH_KIB or sys.version_info < (3, 14), text)
    return text


ATTACKS = [loops, forks, exits, interpreters, signals]

if __name__ == "__main__":
    sys.exit(attack.main(__file__, __doc__, {function.__name__: function for function in ATTACKS}))
