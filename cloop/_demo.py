"""python -m cloop demo: measures five operations on this machine, on cloop, asyncio and uvloop.

Each loop has its own process, and they take turns, so that other load on the machine affects all of them. The figure
is the CPU time of the process's threads, divided by the number of operations: the median of the rounds, with the
minimum and the maximum.
"""

import argparse
import asyncio
import importlib.util
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
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
        if self.size < len(self.message):
            return
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
    if name == "asyncio":
        return asyncio.SelectorEventLoop
    return __import__(name).new_event_loop


def measure(new_loop, row, n):
    """Return the CPU time per operation in ns, for n operations."""
    loop = new_loop()
    try:
        asyncio.set_event_loop(loop)
        before = time.process_time_ns()
        loop.run_until_complete(row(loop, n))
        return (time.process_time_ns() - before) / n
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def work(name):
    """For each line [row, n] on standard input, measure and print."""
    new_loop = factory(name)
    for line in sys.stdin:
        row, n = json.loads(line)
        print(json.dumps(measure(new_loop, ROWS[row], n)), flush=True)


class Worker:
    def __init__(self, name):
        self.name = name
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", "from cloop._demo import work; work(%r)" % name],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, universal_newlines=True,
            env=dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, sys.path))),
        )  # fmt: skip

    def measure(self, row, n):
        self.process.stdin.write(json.dumps([row, n]) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit("cloop: the process of %s has ended" % self.name)
        return json.loads(line)

    def number_for(self, row, seconds):
        """Return how many operations take about that long. Also warms up."""
        n = 200
        while True:
            took = self.measure(row, n) * n / 1e9
            if took > seconds / 4 or n >= 10**7:
                return max(200, int(n * seconds / max(took, 1e-9)) // 100 * 100)
            n *= 4

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


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
    product = 1.0
    for ratio in ratios:
        product *= ratio
    return product ** (1 / len(ratios))
