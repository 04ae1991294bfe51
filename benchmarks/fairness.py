"""How late a ticker of 2 ms comes beside a connection that never stops sending, per loop.

    python -m benchmarks.fairness [LOOP...]

Each loop gets a fresh process, which receives from another one as fast as it can, and ticks. Printed
is how late the ticks came in ms, without the firehose and with it. Unlike the other figures these
are of the clock: a machine with something else to do shows more.
"""

from __future__ import annotations

import asyncio
import json
import socket
import statistics
import subprocess
import sys
import time

from benchmarks import runner
from benchmarks.loops import open_loop

TICK_S = 0.002
TICKS = 1000


async def lateness_ms() -> list:
    """How late each of the ticks came."""
    late = []
    for _ in range(TICKS):
        due = time.monotonic() + TICK_S
        await asyncio.sleep(TICK_S)
        late.append((time.monotonic() - due) * 1000)
    return sorted(late)


def summary(late: list) -> dict:
    return {"median": statistics.median(late), "p99": late[len(late) * 99 // 100], "max": late[-1]}


class Drain(asyncio.Protocol):
    received = 0

    def data_received(self, data: bytes) -> None:
        self.received += len(data)


def percentiles_ns(late: list) -> dict:
    """As the load generator tells them."""
    ranks = {"p50": 500, "p99": 990, "p99.9": 999}
    found = {name: late[min(len(late) - 1, len(late) * rank // 1000)] * 1e6 for name, rank in ranks.items()}
    return {**found, "max": late[-1] * 1e6}


async def beside_firehose(loop: asyncio.AbstractEventLoop) -> tuple:
    """How late the ticks came, and how many MiB a second were received meanwhile."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    sender = subprocess.Popen([sys.executable, "-m", "benchmarks.fairness", "--send", str(port)])
    try:
        with listener:
            sock, _ = listener.accept()
        transport, drain = await loop.create_connection(Drain, sock=sock)
        started = time.monotonic()
        late = await lateness_ms()
        rate = drain.received / (time.monotonic() - started) / 2**20
        transport.abort()
    finally:
        sender.kill()
        sender.wait()
    return late, rate


async def measured(loop: asyncio.AbstractEventLoop) -> dict:
    alone = summary(await lateness_ms())
    late, rate = await beside_firehose(loop)
    return {"alone": alone, "beside": summary(late), "MiB/s": rate}


def send(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as sock:
        data = bytes(1 << 20)
        while True:
            sock.sendall(data)


def main(names: list) -> None:
    print("{:<10} {:>7}  {:>20}  {:>20}".format("ms late", "MiB/s", "alone, median/99/max", "beside, median/99/max"))
    for name in names:
        try:
            result = runner.call(sys.executable, "benchmarks.fairness", "--measure", name)
        except runner.WorkerError as exc:
            print("skipped: {}: {}".format(name, exc))
            continue
        columns = ["{median:.2f}/{p99:.2f}/{max:.2f}".format(**result[key]) for key in ("alone", "beside")]
        print("{:<10} {:>7.0f}  {:>20}  {:>20}".format(name, result["MiB/s"], *columns))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--send"]:
        try:
            send(int(sys.argv[2]))
        except OSError:
            pass  # the receiver has seen enough
    elif sys.argv[1:2] == ["--measure"]:
        loop = open_loop(sys.argv[2])
        try:
            print(json.dumps(loop.run_until_complete(measured(loop))))
        finally:
            loop.close()
    else:
        main(sys.argv[1:] or ["cloop", "uvloop", "asyncio"])
