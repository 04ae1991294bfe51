"""Starting and stopping: the loop, its module, and how late its callbacks are beside a firehose."""

import os
import subprocess
import sys

from benchmarks import fairness, loops
from benchmarks.registry import benchmark


async def nothing():
    pass


@benchmark(reach=12)
def run_until_complete(loop, n):
    """One run_until_complete of an empty coroutine."""
    for _ in range(n):
        loop.run_until_complete(nothing())


@benchmark()
def loop_open_close(loop, n):
    """One loop made, run with an empty coroutine, and closed."""
    for _ in range(n):
        another = loops.open_loop(loops.opened)
        another.run_until_complete(nothing())
        another.close()


@benchmark(metric="told", batch=5)
def import_time(loop, n):
    """One import of asyncio and of the loop's module, in a Python of its own; CPU of the import alone."""
    code = (
        "import time; before = time.process_time_ns()\nimport asyncio, {}\nprint(time.process_time_ns() - before)"
    ).format(loops.opened)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # or it would compile each time
    command = [sys.executable, "-c", code]
    taken = []
    for _ in range(n + 1):
        told = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=env)
        taken.append(int(told.stdout))
    return sorted(taken[1:])[n // 2]  # the first may compile


@benchmark(metric="late", batch=fairness.TICKS)
async def ticker(loop, n):
    """How late a tick of 2 ms comes, in a loop that does nothing else; of 1000."""
    return fairness.percentiles_ns(await fairness.lateness_ms())


@benchmark(metric="late", batch=fairness.TICKS)
async def ticker_beside_firehose(loop, n):
    """How late a tick of 2 ms comes, while a connection never stops sending; of 1000."""
    late, _ = await fairness.beside_firehose(loop)
    return fairness.percentiles_ns(late)
