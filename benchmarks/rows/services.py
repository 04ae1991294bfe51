"""Larger things: gRPC, and several processes on one port."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys

from benchmarks import load, loops
from benchmarks.registry import benchmark, require
from benchmarks.rows.net import KIB
from benchmarks.runner import ROOT

CALLS = 10
PROCESSES = 2


@contextlib.contextmanager
def grpc_echo(loop):
    grpc = require("grpc")

    async def echo(request, context):
        return request

    async def start():
        handlers = {"Echo": grpc.unary_unary_rpc_method_handler(echo)}
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Echo", handlers),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        channel = grpc.aio.insecure_channel("127.0.0.1:%d" % port)
        return server, channel

    async def stop():
        await channel.close()
        await server.stop(None)

    server, channel = loop.run_until_complete(start())
    yield channel.unary_unary("/bench.Echo/Echo")
    loop.run_until_complete(stop())


@benchmark(fixture=grpc_echo, batch=CALLS)
async def grpc_unary(loop, n, call):
    """One unary call of gRPC with 1 KiB there and back, 10 at a time; both ends, CPU of all threads."""
    message = bytes(range(256)) * 4

    async def caller():
        for _ in range(n // CALLS):
            assert await call(message) == message

    await asyncio.gather(*[caller() for _ in range(CALLS)])


class Processes:
    """Servers that share a port, and their load."""

    def __init__(self, client, pids):
        self.client = client
        self.pids = pids

    def cpu_ns(self):
        return sum(map(load.cpu_ns_of, self.pids))


@contextlib.contextmanager
def sharing_a_port(loop):
    with contextlib.ExitStack() as stack:
        # Holds the port, and listens not.
        place = stack.enter_context(socket.socket())
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        place.bind(("127.0.0.1", 0))
        port = place.getsockname()[1]
        command = [sys.executable, "-m", "benchmarks.rows.services", loops.opened, str(port)]
        children = []
        for _ in range(PROCESSES):
            child = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd=str(ROOT),
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
            stack.enter_context(child)
            stack.callback(child.kill)
            children.append(child)
        for child in children:
            if child.stdout.readline() != b"ready\n":
                raise RuntimeError("a server did not start")
        core = max(os.sched_getaffinity(0))
        with load.client("exchange", "tcp:%d" % port, 100, KIB, 1, core=core) as client:
            client.wait_blocking()
            yield Processes(client, [child.pid for child in children])


@benchmark(fixture=sharing_a_port, rate=True, batch=100, transports=True)
def echo_reuse_port(loop, n, processes):
    """One message of 1 KiB echoed by a Protocol in one of 2 processes with reuse_port=True; 100 connections."""
    return processes.client.run_blocking(n)


def serve(name, port):
    from benchmarks.rows.net import Echo

    loop = loops.open_loop(name)
    loop.run_until_complete(loop.create_server(Echo, "127.0.0.1", port, reuse_port=True, backlog=4096))
    print("ready", flush=True)
    loop.run_forever()


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
