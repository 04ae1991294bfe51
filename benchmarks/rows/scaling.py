"""The same work in several loops at once: one loop in each thread, interpreter or process. Both ends of a connection are in one
loop, so that nothing else needs a core. Measured only if asked for: python -m benchmarks --only 'threads_*,processes_*'.

python -m benchmarks.rows.scaling LOOP WORK COMMANDS ANSWERS CERTIFICATE
"""

import asyncio
import contextlib
import functools
import os
import socket
import subprocess
import sys
import threading

from benchmarks import load, loops
from benchmarks.registry import Skip, benchmark, require
from benchmarks.rows.http import BODY, application, start_uvicorn
from benchmarks.rows.net import KIB, Echo
from benchmarks.rows.scheduling import call_soon_chain
from benchmarks.runner import ROOT

COUNTS = (1, 2, 4, 8)
CONNECTIONS = 10


# The work: each function prepares it, and returns a coroutine function that performs n operations.


async def callbacks(loop, pem):
    return functools.partial(call_soon_chain, loop)


async def tasks(loop, pem):
    async def empty():
        pass

    async def run(n):
        for _ in range(n):
            await loop.create_task(empty())

    return run


class Asks(asyncio.Protocol):
    """Sends a message as often as an answer of that size comes."""

    message, size = b"x" * KIB, KIB

    def connection_made(self, transport):
        self.transport = transport

    def ask(self, times):
        self.left, self.missing = times, self.size
        self.done = asyncio.get_running_loop().create_future()
        self.transport.write(self.message)
        return self.done

    def data_received(self, data):
        self.missing -= len(data)
        if not self.missing:
            self.left -= 1
            self.missing = self.size
            if self.left:
                self.transport.write(self.message)
            else:
                self.done.set_result(None)


async def echo(loop, pem):
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    return await asking(loop, Asks, address, server)


async def asking(loop, protocol, address, server):
    """What lets clients of that protocol ask the server."""
    clients = [(await loop.create_connection(protocol, *address))[1] for _ in range(CONNECTIONS)]

    async def run(n):
        await asyncio.gather(*[client.ask(n // CONNECTIONS) for client in clients])

    run.server = server
    return run


async def streams(loop, pem, **options):
    async def answer(reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                writer.write(await reader.readexactly(KIB))
                await writer.drain()

    ours, theirs = contexts(pem) if options else (None, None)
    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=ours)
    address = server.sockets[0].getsockname()
    clients = [await asyncio.open_connection(*address, ssl=theirs) for _ in range(CONNECTIONS)]

    async def ask(reader, writer, times):
        for _ in range(times):
            writer.write(Asks.message)
            await writer.drain()
            await reader.readexactly(KIB)

    async def run(n):
        await asyncio.gather(*[ask(*client, n // CONNECTIONS) for client in clients])

    run.server = server
    return run


async def tls(loop, pem):
    return await streams(loop, pem, tls=True)


async def http(loop, pem):
    class Requests(Asks):
        message = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"

    sock = socket.create_server(("127.0.0.1", 0))
    address = sock.getsockname()
    serving = await start_uvicorn(loop, sock, application, "h11")
    # All answers have the size of this one.
    reader, writer = await asyncio.open_connection(*address)
    writer.write(Requests.message)
    head = await reader.readuntil(b"\r\n\r\n")
    Requests.size = len(head) + len(BODY)
    writer.close()
    return await asking(loop, Requests, address, serving)


def contexts(pem):
    """Of a server with that certificate, and of clients that take any."""
    ssl = require("ssl")
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_cert_chain(pem)
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    theirs.check_hostname, theirs.verify_mode = False, ssl.CERT_NONE
    return ours, theirs


WORKS = {
    "callbacks": (callbacks, 1, "callback that schedules the next one"),
    "tasks": (tasks, 1, "create_task() of an empty coroutine, and its await"),
    "echo": (echo, CONNECTIONS, "message of 1 KiB echoed by a Protocol, both ends, 10 connections to each loop"),
    "streams": (streams, CONNECTIONS, "message of 1 KiB echoed by streams, both ends, 10 connections to each loop"),
    "http": (http, CONNECTIONS, "request to uvicorn with h11, both ends, 10 connections to each loop"),
    "tls": (tls, CONNECTIONS, "message of 1 KiB echoed by streams over TLS, both ends, 10 connections to each loop"),
}


def serve(name, work, commands, answers, pem):
    """What a thread, interpreter or process does: for each number on the one descriptor, so many operations."""
    with os.fdopen(commands, "rb") as lines, os.fdopen(answers, "wb", buffering=0) as answer:
        try:
            loop = loops.open_loop(name)
        except ImportError as exc:
            answer.write(b"cannot be imported: %s\n" % str(exc).encode())
            return
        run = loop.run_until_complete(WORKS[work][0](loop, pem))
        answer.write(b"ready\n")
        for line in lines:
            loop.run_until_complete(run(int(line)))
            answer.write(b"done\n")
        loop.run_until_complete(finish())
        loop.close()


async def finish():
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


# Where it is done: each function starts a unit with these descriptors, and returns what waits for its end.


def in_thread(*arguments):
    if getattr(sys, "_is_gil_enabled", lambda: True)():
        raise Skip("it needs a Python without a GIL, and PYTHON_GIL=0")
    thread = threading.Thread(target=serve, args=arguments)
    thread.start()
    return thread.join


def in_interpreter(*arguments):
    interpreters = require("concurrent.interpreters")
    text = "import sys\nsys.path[:] = {!r}\nfrom benchmarks.rows import scaling\nscaling.serve(*{!r})"

    def work():
        interpreter = interpreters.create()
        try:
            interpreter.exec(text.format(sys.path, arguments))
        finally:
            interpreter.close()

    thread = threading.Thread(target=work)
    thread.start()
    return thread.join


def in_process(name, work, commands, answers, pem):
    command = [sys.executable, "-m", "benchmarks.rows.scaling", name, work, str(commands), str(answers), pem]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    child = subprocess.Popen(command, pass_fds=(commands, answers), cwd=str(ROOT), env=environment)
    os.close(commands)
    os.close(answers)
    in_process.pids.append(child.pid)
    return child.wait


in_process.pids = []


class Units:
    """All that work at once."""

    def __init__(self, commands, answers, pids):
        self.commands, self.answers = commands, answers
        if pids:
            self.cpu_ns = lambda: sum(map(load.cpu_ns_of, pids))
        self.expect("ready\n")

    def expect(self, wanted):
        for answer in self.answers:
            line = answer.readline()
            if line.startswith("cannot be imported"):
                raise Skip(line.strip())
            if line != wanted:
                raise RuntimeError("a loop ended: {!r}".format(line))

    def run(self, n):
        for command in self.commands:
            command.write("%d\n" % (n // len(self.commands)))
            command.flush()
        self.expect("done\n")


def started(start, work, count):
    @contextlib.contextmanager
    def fixture(loop):
        in_process.pids = []
        with contextlib.ExitStack() as stack:
            pem = stack.enter_context(load.certificate("tls" if work == "tls" else "tcp")) or ""
            commands, answers, ends = [], [], []
            # Their ends are waited for when they have been told to end.
            stack.callback(lambda: [end() for end in ends])
            for _ in range(count):
                read_command, write_command = os.pipe()
                read_answer, write_answer = os.pipe()
                commands.append(stack.enter_context(open(write_command, "w")))
                answers.append(stack.enter_context(open(read_answer)))
                ends.append(start(loops.opened, work, read_command, write_answer, pem))
            yield Units(commands, answers, in_process.pids)

    return fixture


PLACES = {
    "threads": (in_thread, "threads, without a GIL", (3, 13)),
    "interpreters": (in_interpreter, "interpreters", (3, 14)),
    "processes": (in_process, "processes", (3, 8)),
}

for place, (start, where, since) in PLACES.items():
    for work, (_, batch, does) in WORKS.items():
        for count in COUNTS:

            @benchmark(
                name="{}_{}_{}".format(place, work, count),
                operation="One {}; loops in {}: {}. CPU of all.".format(does, where, count),
                fixture=started(start, work, count),
                batch=batch * count,
                size=("{} {}".format(place, work), count),
                since=since,
                default=False,
            )
            def run(loop, n, units):
                units.run(n)


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
