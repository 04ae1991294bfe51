"""Measures one benchmark on one loop, in this process, and prints JSON.

python -m benchmarks.worker NAME LOOP
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
import statistics
import sys
import time
from typing import Any, Dict, Tuple

from benchmarks import registry
from benchmarks.loops import open_loop

# Long enough that starting the loop and reading the clocks do not show, short
# enough that a whole round sees the same machine.
SAMPLE_SECONDS = 0.2
SAMPLES = 3
# Runs shorter than this say too little about how many operations a sample takes.
CALIBRATION_SECONDS = 0.05


class Sampler:
    def __init__(self, loop: asyncio.AbstractEventLoop, row: registry.Benchmark, extra: tuple) -> None:
        self.loop = loop
        self.row = row
        self.extra = extra

    def sample(self, n: int) -> Tuple[int, int]:
        """CPU and wall time of n operations, in nanoseconds."""
        # What an earlier sample left behind is not this one's to collect.
        gc.collect()
        wall = time.perf_counter_ns()
        cpu = time.process_time_ns()
        result: Any = self.row.run(self.loop, n, *self.extra)
        if inspect.iscoroutine(result):
            self.loop.run_until_complete(result)
        cpu = time.process_time_ns() - cpu
        wall = time.perf_counter_ns() - wall
        return cpu, wall

    def calibrate(self) -> int:
        """How many operations take SAMPLE_SECONDS; warms up on the way."""
        batch = self.row.batch
        n = batch
        while True:
            seconds = self.sample(n)[1] / 1e9
            if seconds >= CALIBRATION_SECONDS:
                return batch * max(1, round(n * SAMPLE_SECONDS / seconds / batch))
            growth = min(10.0, max(2.0, 1.2 * CALIBRATION_SECONDS / seconds))
            n = batch * round(n * growth / batch)


def measure(name: str, loop_name: str) -> Dict[str, float]:
    row = registry.load()[name]
    loop = open_loop(loop_name)
    try:
        with row.open_fixture(loop) as extra:
            sampler = Sampler(loop, row, extra)
            n = sampler.calibrate()
            samples = [sampler.sample(n) for _ in range(SAMPLES)]
    finally:
        loop.close()
    return {
        "operations": n,
        "cpu_ns": statistics.median(cpu for cpu, _ in samples) / n,
        "wall_ns": statistics.median(wall for _, wall in samples) / n,
    }


if __name__ == "__main__":
    json.dump(measure(*sys.argv[1:]), sys.stdout)
