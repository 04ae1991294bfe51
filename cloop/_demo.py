"""python -m cloop demo: measures five operations on this machine, on cloop, asyncio and uvloop.

Each loop has its own process, and they take turns, so that other load on the machine affects all of them. The figure
is the CPU time of the process's threads, divided by the number of operations: the median of the rounds, with the
minimum and the maximum.
"""

import argparse
import asyncio
import contextlib
import importlib
import importlib.util
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time

__all__ = ("main",)


# The rows: coroutine functions that do an operation n times


async def callbacks(loop, n):
    done = loop.create_future()

    def step(left):
        if left:
            loop.call_soon(step, left - 1)
        else:
            done.set_result(None)

    loop.call_soon(step, n)
    await done


async def timers(loop, n):
    for _ in range(n // 100):
        for _ in range(100):
            loop.call_later(10, int).cancel()
        await asyncio.sleep(0)


async def nothing():
    pass


async def tasks(loop, n):
    for _ in range(n):
        await loop.create_task(nothing())


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


class Client(asyncio.Protocol):
    """Sends a message, and sends it again whenever it comes back."""

    message = b"x" * 1024

    def __init__(self, done, n):
        self.done, self.left, self.size = done, n, 0

    def connection_made(self, transport):
        self.transport = transport
        transport.write(self.message)

    def data_received(self, data):
        self.size += len(data)
        if self.size >= len(self.message):
            self.send_again()

    def send_again(self):
        self.size = 0
        self.left -= 1
        if self.left > 0:
            self.transport.write(self.message)
        else:
            self.transport.close()

    def connection_lost(self, error):
        self.done.set_result(None)


async def tcp(loop, n):
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    done = [loop.create_future() for _ in range(10)]
    for each in done:
        await loop.create_connection(lambda each=each: Client(each, n // 10), *server.sockets[0].getsockname())
    await asyncio.gather(*done)
    server.close()


async def answer(reader, writer):
    async for line in reader:
        writer.write(line)
    writer.close()


async def streams(loop, n):
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    for _ in range(n // 20):
        writer.write(b"a line of text that somebody sends\n" * 20)
        for _ in range(20):
            await reader.readline()
    writer.close()
    await writer.wait_closed()
    server.close()


ROWS = {
    "a callback that schedules the next": callbacks,
    "call_later() and cancel()": timers,
    "create_task() and await": tasks,
    "TCP echo of 1 KiB, protocols, both ends": tcp,
    "a line through streams, 20 at a time, both ends": streams,
}


# One loop, in its own process


def factory(name):
    """What makes a loop of the module of that name."""
    if name == "asyncio":
        return asyncio.SelectorEventLoop
    module = importlib.import_module(name)
    return getattr(module, "new_event_loop", None) or module.EventLoopPolicy().new_event_loop


def measure(new_loop, row, n):
    """Return the CPU time per operation in ns, for n operations. A row that is not a coroutine drives the loop itself."""
    loop = new_loop()
    try:
        asyncio.set_event_loop(loop)
        before = time.process_time_ns()
        result = row(loop, n)
        if asyncio.iscoroutine(result):
            loop.run_until_complete(result)
        return (time.process_time_ns() - before) / n
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def work(name, rows):
    """For each line [row, n] on standard input, measure and print; the text of the error if there is one."""
    # Whatever else prints, prints elsewhere.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        new_loop = factory(name)
    except Exception as error:
        sys.exit("%s: %s" % (type(error).__name__, error))
    for line in sys.stdin:
        row, n = json.loads(line)
        try:
            answer = measure(new_loop, rows[row], n)
        except Exception as error:
            answer = ("%s: %s" % (type(error).__name__, error)).rstrip(": ")
        print(json.dumps(answer), file=out, flush=True)


class Failed(Exception):
    """A loop cannot do a row; the message says why."""


class Worker:
    """A loop in a process of its own, which does the rows of a module of cloop's."""

    #: Seconds that a row may take.
    patience = 60
    #: Numbers of operations are multiples of it.
    unit = 100

    def __init__(self, name, module="cloop._demo", **environment):
        self.name, self.module, self.environment = name, module, environment
        self.start()

    def start(self):
        code = "from cloop import _demo; import %s as rows; _demo.work(%r, rows.ROWS)" % (self.module, self.name)
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", code],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True,
            env=dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, sys.path)), **self.environment),
        )  # fmt: skip
        self.said = []
        # Read, so that a loop that complains a lot does not wait for a reader.
        self.reading = threading.Thread(target=self.read, args=(self.process, self.said), daemon=True)
        self.reading.start()

    @staticmethod
    def read(process, said):
        for line in process.stderr:
            if line.strip():
                said[:] = [line.strip()]

    def measure(self, row, n):
        """Nanoseconds for each of n operations. Raise Failed if there is no figure."""
        watch = threading.Timer(self.patience, self.process.kill)
        watch.start()
        try:
            self.process.stdin.write(json.dumps([row, n]) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except OSError:
            line = ""  # it has ended before it read that
        finally:
            watch.cancel()
        if not line:
            code = self.process.wait()
            self.close()
            if code == -signal.SIGKILL:
                raise Failed("no answer within %d s" % self.patience)
            raise Failed(self.said[0] if self.said else "its process ended with status %d" % code)
        answer = json.loads(line)
        if isinstance(answer, str):
            raise Failed(answer)
        return answer

    def number_for(self, row, seconds):
        """Return how many operations take about that long. Also warms up."""
        n = 2 * self.unit
        while True:
            took = self.measure(row, n) * n / 1e9
            if took > seconds / 4 or n >= 10**7:
                return max(2 * self.unit, int(n * seconds / max(took, 1e-9)) // self.unit * self.unit)
            n *= 4

    def close(self):
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        self.process.wait()
        self.reading.join()
        self.process.stdout.close()
        self.process.stderr.close()


# Output


class Painter:
    def __init__(self, out):
        self.colours = out.isatty() and "NO_COLOR" not in os.environ
        width = shutil.get_terminal_size().columns
        self.width = max(10, min(width, 100) - 42)
        try:
            "█▏".encode(out.encoding or "ascii")
            self.full, self.parts = "█", " ▏▎▍▌▋▊▉"
        except UnicodeEncodeError:
            self.full, self.parts = "#", " "

    def bar(self, share, name):
        length = share * self.width
        text = self.full * int(length)
        text += self.parts[int((length - int(length)) * len(self.parts))].strip()
        text = text or self.parts[min(1, len(self.parts) - 1)]
        return "\033[32m%s\033[0m" % text if self.colours and name == "cloop" else text

    def row(self, results):
        """Return the lines for {loop: ns of each round}."""
        medians = {name: statistics.median(each) for name, each in results.items()}
        for name, each in results.items():
            spread = "[%s..%s]" % (number(min(each)), number(max(each)))
            bar = self.bar(medians[name] / max(medians.values()), name)
            yield "  %-8s %7s ns %-16s %s" % (name, number(medians[name]), spread, bar)


def number(ns):
    return "%.0f" % ns if ns >= 100 else "%.1f" % ns


def main(arguments):
    parser = argparse.ArgumentParser(
        prog="python -m cloop demo", description="Measure five things that loops do, on this machine.",
    )  # fmt: skip
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured (%(default)s)")
    parser.add_argument("--seconds", type=float, default=0.15, help="how long each time (%(default)s)")
    options = parser.parse_args(arguments)

    names = ["cloop", "asyncio"] + ["uvloop"] * (importlib.util.find_spec("uvloop") is not None)
    print("Processor time of one operation, median of %d rounds [least..most]; shorter is better." % options.rounds)
    print("Python %s, %s, %s cores\n" % (platform.python_version(), platform.platform(terse=True), os.cpu_count()))
    painter = Painter(sys.stdout)
    workers = [Worker(name) for name in names]
    ratios = {name: [] for name in names[1:]}
    try:
        for row in ROWS:
            print(row, flush=True)
            counts = {worker: worker.number_for(row, options.seconds) for worker in workers}
            results = {worker.name: [] for worker in workers}
            for turn in range(options.rounds):
                for worker in workers[turn % len(workers) :] + workers[: turn % len(workers)]:
                    results[worker.name].append(worker.measure(row, counts[worker]))
            print("\n".join(painter.row(results)) + "\n", flush=True)
            for name in ratios:
                rounds = zip(results[name], results["cloop"])
                ratios[name].append(statistics.median(other / ours for other, ours in rounds))
    except Failed as error:
        sys.exit("cloop: %s" % error)
    finally:
        for worker in workers:
            worker.close()
    for name, each in ratios.items():
        print("%s takes %.2f times as long for these rows (geometric mean)." % (name, mean(each)))
    if "uvloop" not in names:
        print("uvloop is not installed here, so it is not compared.")
    print("They are the loop's own work: what a program gains depends on how much it does beside that.")
    print("\nTo switch:   cloop.run(main())   in place of   asyncio.run(main())")
    print("or, with the program as it is:   python -m cloop your_program.py")


def mean(ratios):
    """The geometric mean."""
    product = 1.0
    for ratio in ratios:
        product *= ratio
    return product ** (1 / len(ratios))
