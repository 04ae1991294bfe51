"""How much memory a million cancelled timers pin, per loop.

    python -m benchmarks.memory [LOOP...]

Each loop gets a fresh process, which makes and cancels call_later(3600) in
turns of 1000 and prints how much its resident set grew.
"""

from __future__ import annotations

import asyncio
import os
import sys

from benchmarks import runner
from benchmarks.loops import open_loop

TIMERS = 1_000_000
PER_TURN = 1000


def resident_mib() -> float:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def nothing() -> None:
    pass


async def cancel_timers(loop: asyncio.AbstractEventLoop, count: int) -> None:
    for _ in range(count // PER_TURN):
        for handle in [loop.call_later(3600, nothing) for _ in range(PER_TURN)]:
            handle.cancel()
        await asyncio.sleep(0)


def growth_mib(name: str) -> float:
    loop = open_loop(name)
    try:
        # What the first turns allocate for good is not held by the timers.
        loop.run_until_complete(cancel_timers(loop, PER_TURN))
        before = resident_mib()
        loop.run_until_complete(cancel_timers(loop, TIMERS))
        return resident_mib() - before
    finally:
        loop.close()


def main(names: list) -> None:
    for name in names:
        try:
            grown = runner.call(sys.executable, "benchmarks.memory", "--measure", name)
            print("{:<10} {:+8.1f} MiB".format(name, grown))
        except runner.WorkerError as exc:
            print("skipped: {}: {}".format(name, exc))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        print(growth_mib(sys.argv[2]))
    else:
        main(sys.argv[1:] or ["cloop", "uvloop", "asyncio"])
