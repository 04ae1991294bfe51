"""Subprocesses, and bytes through a pipe. The clock is the loop's process: what children cost is not in it."""

import asyncio
import contextlib
import os

from benchmarks.registry import benchmark

CHILD = "/bin/true"  # ends at once: what is left is starting it, and noticing
BLOCK = bytes(1 << 16)


async def spawn_one():
    process = await asyncio.create_subprocess_exec(CHILD, stdout=asyncio.subprocess.PIPE)
    await process.communicate()


@benchmark(reach=4)
async def spawn_communicate(loop, n):
    """One program that says nothing, with its output in a pipe: start, communicate(), status."""
    for _ in range(n):
        await spawn_one()


@benchmark(batch=8, reach=4.6)
async def spawn_communicate_8(loop, n):
    """One of 8 such programs at a time."""

    async def worker():
        for _ in range(n // 8):
            await spawn_one()

    await asyncio.gather(*[worker() for _ in range(8)])


class Writer(asyncio.BaseProtocol):
    """Writes blocks for as long as it is not paused."""

    def __init__(self):
        self.left = 0
        self.paused = False

    def connection_made(self, transport):
        self.transport = transport

    def pause_writing(self):
        self.paused = True

    def resume_writing(self):
        self.paused = False
        self.write()

    def write(self):
        while self.left and not self.paused:
            self.left -= 1
            self.transport.write(BLOCK)


class Reader(asyncio.Protocol):
    """Counts down what it is to receive."""

    def data_received(self, data):
        self.left -= len(data)
        if not self.left:
            self.done.set_result(None)


@contextlib.contextmanager
def connected_pipe(loop):
    async def connect():
        ours, theirs = os.pipe()
        source, reader = await loop.connect_read_pipe(Reader, open(ours, "rb", buffering=0))
        target, writer = await loop.connect_write_pipe(Writer, open(theirs, "wb", buffering=0))
        return source, reader, target, writer

    async def close():
        target.close()
        source.close()
        await asyncio.sleep(0.01)

    source, reader, target, writer = loop.run_until_complete(connect())
    try:
        yield reader, writer
    finally:
        loop.run_until_complete(close())


@benchmark(fixture=connected_pipe, reach=1.2)
async def pipe_bulk(loop, n, ends):
    """64 KiB through a pipe whose ends are both the loop's, in one write()."""
    reader, writer = ends
    reader.left, reader.done = n * len(BLOCK), loop.create_future()
    writer.left = n
    if not writer.paused:
        writer.write()
    await reader.done


@contextlib.contextmanager
def cat(loop):
    pipe = asyncio.subprocess.PIPE
    process = loop.run_until_complete(asyncio.create_subprocess_exec("/bin/cat", stdin=pipe, stdout=pipe))
    try:
        yield process
    finally:
        process.stdin.close()
        loop.run_until_complete(process.wait())


@benchmark(fixture=cat)
async def child_echo(loop, n, process):
    """1 KiB written to the input of cat, and read from its output."""
    message = bytes(1024)
    for _ in range(n):
        process.stdin.write(message)
        await process.stdin.drain()
        await process.stdout.readexactly(len(message))
