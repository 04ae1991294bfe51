"""Measures one benchmark on one loop, in this process, and prints JSON.

python -m benchmarks.worker NAME LOOP
"""

from __future__ import annotations

import contextlib
import gc
import inspect
import json
import statistics
import sys
import time
from typing import Any, Callable, Dict, Iterator, List, Tuple

from benchmarks import registry
from benchmarks.loops import open_loop

# Long enough that starting the loop and reading the clocks do not show, short
# enough that a whole round sees the same machine.
SAMPLE_SECONDS = 0.2
SAMPLES = 3
# Runs shorter than this say too little about how many operations a sample takes.
CALIBRATION_SECONDS = 0.05


class Subject:
    """What is measured: a row on a loop in this process, or a program in C."""

    def __init__(self, run: Callable[[int], Any], cpu_ns: Callable[[], int]) -> None:
        self.run = run
        self.cpu_ns = cpu_ns

    def sample(self, n: int) -> Tuple[int, int, Any]:
        """CPU and wall time of n operations, in nanoseconds, and what was told of them."""
        # What an earlier sample left behind is not this one's to collect.
        gc.collect()
        wall = time.perf_counter_ns()
        cpu = self.cpu_ns()
        told = self.run(n)
        cpu = self.cpu_ns() - cpu
        wall = time.perf_counter_ns() - wall
        return cpu, wall, told

    def calibrate(self, batch: int) -> int:
        """How many operations take SAMPLE_SECONDS; warms up on the way."""
        n = batch
        while True:
            seconds = self.sample(n)[1] / 1e9
            if seconds >= CALIBRATION_SECONDS:
                return _fitting(n, seconds, batch)
            growth = min(10.0, max(2.0, 1.2 * CALIBRATION_SECONDS / seconds))
            n = batch * round(n * growth / batch)

    def measure(self, batch: int) -> Dict[str, Any]:
        n = self.calibrate(batch)
        while True:
            samples = [self.sample(n) for _ in range(SAMPLES)]
            cpu_ns = statistics.median(sample[0] for sample in samples)
            wall_ns = statistics.median(sample[1] for sample in samples)
            if wall_ns / 1e9 >= SAMPLE_SECONDS / 2:
                result = {"operations": n, "cpu_ns": cpu_ns / n, "wall_ns": wall_ns / n}
                result.update(of_load([sample[2] for sample in samples]))
                return result
            # A stall has cut calibration short, as on a busy machine.
            n = _fitting(n, wall_ns / 1e9, batch)


def of_load(told: List[Any]) -> Dict[str, Any]:
    """What the load generator has told of the samples: its share of a core, and the latencies."""
    told = [each for each in told if isinstance(each, dict)]
    found: Dict[str, Any] = {}
    if all("cpu_ns" in each for each in told) and told:
        found["load"] = statistics.median(each["cpu_ns"] / max(1, each["wall_ns"]) for each in told)
    latencies = [each["latency_ns"] for each in told if "latency_ns" in each]
    if latencies:
        found["latency_ns"] = {name: statistics.median(each[name] for each in latencies) for name in latencies[0]}
        found["latency_ns"]["max"] = max(each["max"] for each in latencies)
    return found


def _fitting(n: int, seconds: float, batch: int) -> int:
    """How many operations take SAMPLE_SECONDS, when n took so many seconds."""
    return batch * max(1, round(n * SAMPLE_SECONDS / seconds / batch))


@contextlib.contextmanager
def open_subject(row: registry.Benchmark, loop_name: str) -> Iterator[Subject]:
    if loop_name == registry.FLOOR:
        if row.floor is None:
            raise registry.Skip("there is no floor for " + row.name)
        with row.floor() as (run, cpu_ns):
            yield Subject(run, cpu_ns)
        return

    loop = open_loop(loop_name)
    try:
        with row.open_fixture(loop) as extra:

            def run(n: int) -> Any:
                result = row.run(loop, n, *extra)
                return loop.run_until_complete(result) if inspect.iscoroutine(result) else result

            # What works in processes of its own has a clock of its own.
            cpu_ns = getattr(extra[0], "cpu_ns", None) if extra else None
            yield Subject(run, cpu_ns or time.process_time_ns)
    finally:
        loop.close()


def measure(name: str, loop_name: str) -> Dict[str, Any]:
    row = registry.load()[name]
    try:
        with open_subject(row, loop_name) as subject:
            if row.metric == "memory":
                return {"operations": row.batch, "kib": subject.run(row.batch)}
            if row.metric == "late":
                return {"operations": row.batch, "latency_ns": subject.run(row.batch)}
            if row.metric == "told":
                return {"operations": row.batch, "cpu_ns": subject.run(row.batch)}
            return subject.measure(row.batch)
    except registry.Skip as exc:
        return {"skipped": str(exc)}
    except NotImplementedError:
        return {"skipped": "{} does not implement it".format(loop_name)}
    except TypeError as exc:
        if "unexpected keyword argument" not in str(exc):
            raise
        return {"skipped": str(exc)}


if __name__ == "__main__":
    json.dump(measure(*sys.argv[1:]), sys.stdout)
