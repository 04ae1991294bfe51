"""Many connections open at once, and how much memory each takes while it is idle, per loop.

    python -m benchmarks.connections [--count 10000] [LOOP...]

Each loop gets a fresh process with a server; another process connects. Each connection has sent and
received once. Printed is by how much the server's resident set grew, per connection; the kernel's
part is not in it. Of a socket each process needs a descriptor (`ulimit -n`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import socket
import subprocess
import sys

from benchmarks import runner
from benchmarks.loops import open_loop
from benchmarks.memory import resident_mib

COUNT = 10_000
WARM = 200  # what the first ones allocate for good is not theirs
GROUP = 100


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


def allow_descriptors(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (min(count, hard) if hard != resource.RLIM_INFINITY else count, hard)
        )


def connect(port: int) -> None:
    """Opens as many connections as each line of stdin says, and answers with a line once they echo."""
    held = []
    for line in sys.stdin:
        left = int(line)
        while left:
            group = [socket.create_connection(("127.0.0.1", port)) for _ in range(min(left, GROUP))]
            for sock in group:
                sock.sendall(b"hello")
            for sock in group:
                assert sock.recv(5, socket.MSG_WAITALL) == b"hello"
            held += group
            left -= len(group)
        print("ready", flush=True)


async def kib_each(count: int) -> float:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0, backlog=GROUP)
    port = server.sockets[0].getsockname()[1]
    client = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.connections", "--connect", str(port), "--count", str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        universal_newlines=True,
    )

    async def more(number: int) -> float:
        client.stdin.write("%d\n" % number)
        client.stdin.flush()
        answer = await loop.run_in_executor(None, client.stdout.readline)
        if answer != "ready\n":
            raise RuntimeError("the client could not open them")
        return resident_mib()

    try:
        before = await more(WARM)
        return (await more(count) - before) * 1024 / count
    finally:
        client.kill()
        client.communicate()
        server.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.connections", description=__doc__.split("\n")[0])
    parser.add_argument("loops", nargs="*", default=["cloop", "uvloop", "asyncio"])
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--connect", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    args = parser.parse_args()
    allow_descriptors(args.count + WARM + 100)
    if args.connect:
        connect(args.connect)
    elif args.measure:
        loop = open_loop(args.measure)
        try:
            print(json.dumps(loop.run_until_complete(kib_each(args.count))))
        finally:
            loop.close()
    else:
        for name in args.loops:
            try:
                each = runner.call(
                    sys.executable, "benchmarks.connections", "--measure", name, "--count", str(args.count)
                )
                print("{:<10} {:6.2f} KiB each, {} open".format(name, each, args.count + WARM))
            except runner.WorkerError as exc:
                print("skipped: {}: {}".format(name, exc))


if __name__ == "__main__":
    main()
