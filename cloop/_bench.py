"""python -m cloop bench: twenty operations of event loops, on cloop and on every other loop that is installed.

The rows and the processes are those of the demo, which shows five rows. Both ends of a connection are in the process
that is measured. benchmarks/ in the source tree measures servers under load from other processes, and describes the
other differences.
"""

import argparse
import asyncio
import contextlib
import importlib.util
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading

import cloop
from cloop import _cloop, _demo
from cloop._demo import Failed, mean, nothing

__all__ = ("main",)

LOOPS = ("cloop", "asyncio", "uvloop", "rloop", "zuvloop", "talyn", "rsloop", "loopmini", "blazio")
CERTIFICATE = "CLOOP_BENCH_CERTIFICATE"  # environment variable of the workers: a file


async def fired(loop, n):
    for _ in range(n // 100):
        done = loop.create_future()
        for i in range(99):
            loop.call_later(i * 37 % 99 * 1e-9, int)
        loop.call_later(1e-7, done.set_result, None)
        await done


async def wakeups(loop, n):
    for _ in range(n):
        future = loop.create_future()
        loop.call_soon(future.set_result, None)
        await future


async def yields(loop, n):
    for _ in range(n):
        await asyncio.sleep(0)


async def gathered(loop, n):
    for _ in range(n // 100):
        await asyncio.gather(*[nothing() for _ in range(100)])


async def queued(loop, n):
    queue = asyncio.Queue(1)

    async def put():
        for i in range(n):
            await queue.put(i)

    putting = loop.create_task(put())
    for _ in range(n):
        await queue.get()
    await putting


async def from_a_thread(loop, n):
    done = loop.create_future()

    def post():
        for _ in range(n - 1):
            loop.call_soon_threadsafe(int)
        loop.call_soon_threadsafe(done.set_result, None)

    thread = threading.Thread(target=post)
    thread.start()
    await done
    thread.join()


def started(loop, n):
    for _ in range(n):
        loop.run_until_complete(nothing())


class Client(_demo.Client):
    """The demo's client, which also compares what it receives."""

    expected = b""  # the message

    def data_received(self, data):
        expected = self.expected or self.message
        if data != expected[self.size : self.size + len(data)]:
            self.transport.abort()
            raise AssertionError("the server sent something else")
        self.size += len(data)
        if self.size == len(expected):
            self.send_again()

    def connection_lost(self, error):
        if not self.done.done():
            if self.left > 0:
                self.done.set_exception(error or ConnectionError("the connection was lost"))
            else:
                self.done.set_result(None)


async def exchange(loop, n, client, server=_demo.Echo, clients=10, serving=None, **options):
    """Run n exchanges between clients of this class and a server."""
    listening = await loop.create_server(server, "127.0.0.1", 0, **(serving or {}))
    address = listening.sockets[0].getsockname()
    done = [loop.create_future() for _ in range(clients)]
    for each in done:
        await loop.create_connection(lambda each=each: client(each, n // clients), *address, **options)
    await asyncio.gather(*done)
    listening.close()


class Message(Client):
    message = bytes(range(256)) * 4


class LongMessage(Client):
    message = bytes(range(256)) * 400


async def echo(loop, n):
    await exchange(loop, n, Message)


async def long_echo(loop, n):
    await exchange(loop, n, LongMessage)


async def tls_echo(loop, n):
    import ssl

    if not os.environ.get(CERTIFICATE):
        raise Failed("there is no openssl command to make a certificate")
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    serving.load_cert_chain(os.environ[CERTIFICATE])
    trusting = ssl.create_default_context(cafile=os.environ[CERTIFICATE])
    await exchange(loop, n, Message, serving={"ssl": serving}, ssl=trusting, server_hostname="localhost")


class SmallReplies(asyncio.Protocol):
    reply = b"a reply of a few bytes\n"

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        for _ in range(50 * len(data)):
            self.transport.write(self.reply)


class Asking(Client):
    message = b"?"
    expected = SmallReplies.reply * 50


async def small_writes(loop, n):
    await exchange(loop, n // 50, Asking, SmallReplies, 2)


async def copy(reader, writer):
    with contextlib.suppress(asyncio.IncompleteReadError):
        while True:
            writer.write(await reader.readexactly(1024))
            await writer.drain()
    writer.close()


async def stream_echo(loop, n):
    server = await asyncio.start_server(copy, "127.0.0.1", 0)

    async def talk():
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        for _ in range(n // 10):
            writer.write(Message.message)
            await writer.drain()
            assert await reader.readexactly(1024) == Message.message
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*[talk() for _ in range(10)])
    server.close()


async def sock_echo(loop, n):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)

        async def answer():
            for _ in range(n):
                await loop.sock_sendall(theirs, await loop.sock_recv(theirs, 1024))

        answering = loop.create_task(answer())
        for _ in range(n):
            await loop.sock_sendall(ours, Message.message)
            assert await loop.sock_recv(ours, 1024) == Message.message
        await answering


class EchoDatagrams(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        self.transport.sendto(data, address)


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self, done, n):
        self.done, self.left = done, n

    def connection_made(self, transport):
        self.transport = transport
        transport.sendto(Message.message)

    def datagram_received(self, data, address):
        assert data == Message.message
        self.left -= 1
        if self.left:
            self.transport.sendto(data)
        else:
            self.done.set_result(None)


async def udp_echo(loop, n):
    server, _ = await loop.create_datagram_endpoint(EchoDatagrams, local_addr=("127.0.0.1", 0))
    done = loop.create_future()
    address = server.get_extra_info("sockname")
    client, _ = await loop.create_datagram_endpoint(lambda: Datagrams(done, n), remote_addr=address)
    await done
    client.close()
    server.close()


async def connections(loop, n):
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    for _ in range(n):
        transport, _ = await loop.create_connection(asyncio.Protocol, *address)
        transport.abort()
    server.close()


async def children(loop, n):
    for _ in range(n):
        child = await asyncio.create_subprocess_exec("/bin/true", stdout=subprocess.PIPE)
        assert await child.communicate() == (b"", None)


ROWS = {
    "a callback that schedules the next": _demo.callbacks,
    "call_later() and cancel()": _demo.timers,
    "a timer made and fired, of 100": fired,
    "a future that wakes a task": wakeups,
    "sleep(0)": yields,
    "create_task() and await": _demo.tasks,
    "gather(), each of 100": gathered,
    "Queue(1), put and got": queued,
    "call_soon_threadsafe()": from_a_thread,
    "run_until_complete()": started,
    "TCP echo, 1 KiB": echo,
    "TCP echo, 100 KiB": long_echo,
    "TLS echo, 1 KiB": tls_echo,
    "a small write(), of 50": small_writes,
    "streams: echo, 1 KiB": stream_echo,
    "streams: a line, of 20": _demo.streams,
    "sock_recv(), sock_sendall(), 1 KiB": sock_echo,
    "UDP echo, 1 KiB": udp_echo,
    "create_connection(), accepted": connections,
    "create_subprocess_exec()": children,
}

#: {row: least number of operations in a sample}, for slow operations; otherwise 100.
UNITS = {"TCP echo, 100 KiB": 10, "create_subprocess_exec()": 1}


class Worker(_demo.Worker):
    def __init__(self, name, environment):
        super().__init__(name, "cloop._bench", **environment)

    def revive(self):
        """Restart the process if a row has ended it."""
        if self.process.poll() is not None:
            self.close()
            self.start()


def measure_row(row, workers, options):
    """Return {loop: nanoseconds per operation in each round}, and {loop: why it has none}."""
    counts, results, reasons = {}, {}, {}
    for turn in range(-1, options.rounds):
        first = turn % len(workers)
        for worker in workers[first:] + workers[:first]:
            if worker.name in reasons:
                continue
            worker.unit = UNITS.get(row, 100)
            try:
                if turn < 0:
                    worker.revive()
                    counts[worker.name] = worker.number_for(row, options.seconds)
                else:
                    results.setdefault(worker.name, []).append(worker.measure(row, counts[worker.name]))
            except Failed as error:
                reasons[worker.name] = str(error)
                results.pop(worker.name, None)
    return results, reasons


@contextlib.contextmanager
def certificate():
    """Yield environment variables with a certificate for localhost, or {} without openssl."""
    if shutil.which("openssl") is None:
        yield {}
        return
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "localhost.pem")
        command = "openssl req -x509 -nodes -days 2 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -subj /CN=localhost"
        names = ["-addext", "subjectAltName=DNS:localhost"]
        made = subprocess.run(
            command.split() + names + ["-keyout", path, "-out", path],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        yield {CERTIFICATE: path} if made.returncode == 0 else {}


# Output


def duration(ns):
    for limit, divisor, unit in ((1e4, 1, "ns"), (1e7, 1e3, "µs")):
        if ns < limit:
            return "%.3g %s" % (ns / divisor, unit) if ns < 100 * divisor else "%.0f %s" % (ns / divisor, unit)
    return "%.0f ms" % (ns / 1e6)


def ratios(results):
    """Return {loop: its cost divided by cloop's}, the median of the ratios of each round."""
    return {
        name: statistics.median(other / ours for other, ours in zip(each, results["cloop"]))
        for name, each in results.items()
        if name != "cloop" and "cloop" in results
    }


def cells(names, results):
    """Return the cells of a row: the figure of each loop, and its ratio to cloop's."""
    times = ratios(results)
    line = []
    for name in names:
        line.append(duration(statistics.median(results[name])) if name in results else "n/a")
        if name != "cloop":
            line.append("%.2f" % times[name] if name in times else "")
    return line


class Table:
    """A table whose column widths are known before its rows."""

    def __init__(self, names, markdown):
        self.names, self.markdown = names, markdown
        self.first = max(map(len, ROWS))

    def line(self, cells):
        if self.markdown:
            return "| %s |" % " | ".join(cells)
        widths = [max(8, len(self.names[0]))]
        for name in self.names[1:]:
            widths += [max(8, len(name)), 6]
        return "  ".join([cells[0].ljust(self.first)] + [cell.rjust(w) for cell, w in zip(cells[1:], widths)]).rstrip()

    def head(self):
        titles = ["processor time of one operation"[: self.first], self.names[0]]
        for name in self.names[1:]:
            titles += [name, "x"]
        lines = [self.line(titles)]
        if self.markdown:
            lines.append("|%s|" % "|".join(["---"] + ["--:"] * (len(titles) - 1)))
        return "\n".join(lines)


def installed():
    return [name for name in LOOPS if name in ("cloop", "asyncio") or importlib.util.find_spec(name) is not None]


def main(arguments):
    parser = argparse.ArgumentParser(
        prog="python -m cloop bench",
        description="Measure twenty things that loops do, on cloop and the other loops that are installed. Two minutes.",
    )
    parser.add_argument(
        "--loops",
        help="modules, comma-separated (cloop, asyncio and those of %s that there are)" % ", ".join(LOOPS[2:]),
    )
    parser.add_argument("--only", help="rows with this text in their name")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured (%(default)s)")
    parser.add_argument("--seconds", type=float, help="how long each time (0.2, less with more than four loops)")
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    parser.add_argument("--json", metavar="FILE", help="write every round's figures to this file")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    names = options.loops.split(",") if options.loops else installed()
    names = list(dict.fromkeys(["cloop"] + names))
    if options.seconds is None:
        options.seconds = 0.2 * min(1, 4 / len(names))
    rows = [row for row in ROWS if (options.only or "").lower() in row.lower()]
    if not rows:
        parser.error("no row has %r in its name; they are: %s" % (options.only, "; ".join(ROWS)))

    build = _cloop.build_info()
    print("Python %s, %s, %s cores, cloop %s" % (
        platform.python_version(), platform.platform(terse=True), os.cpu_count(), cloop.__version__
    ))  # fmt: skip
    print("Processor time of all threads, median of %d rounds; x: how many times cloop's.\n" % options.rounds)
    table = Table(names, options.markdown)
    print(table.head(), flush=True)
    found, why = {}, {}
    with certificate() as environment:
        workers = [Worker(name, environment) for name in names]
        try:
            for row in rows:
                found[row], why[row] = measure_row(row, workers, options)
                print(table.line([row] + cells(names, found[row])), flush=True)
        finally:
            for worker in workers:
                worker.close()
    means = [""]
    for name in names[1:]:
        each = [ratios(results)[name] for results in found.values() if name in ratios(results)]
        means += ["", "%.2f" % mean(each) if each else ""]
    print(table.line(["geometric mean"] + means) + "\n")
    for text in reasons_in_words(why):
        print(text)
    print("It is the loop's own work, at both ends: what a program gains depends on how much it does beside that.")
    if options.json:
        about = {
            "python": sys.version, "platform": platform.platform(), "cores": os.cpu_count(), "cloop": cloop.__version__,
            "build": build, "rounds": options.rounds, "seconds": options.seconds,
            "rows": found, "reasons": why,
        }  # fmt: skip
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(about, file, indent=1)
    # Only failures of cloop count; a row that cannot run here, for example without a certificate, is not one.
    ours = [reasons["cloop"] for reasons in why.values() if "cloop" in reasons]
    return 1 if any(not text.startswith("Failed: ") for text in ours) else 0


def reasons_in_words(why):
    """Yield a line for each reason, with the loop and the rows it applies to."""
    grouped = {}
    for row, reasons in why.items():
        for name, text in reasons.items():
            grouped.setdefault((name, text), []).append(row)
    for (name, text), rows in grouped.items():
        yield "n/a, %s: %s (%s)" % (name, text, "all rows" if len(rows) == len(why) else "; ".join(rows))
