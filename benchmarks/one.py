"""Runs one benchmark on one loop, for as long as a profiler wants to look.

    python -m benchmarks.one ROW LOOP [SECONDS]
    python -m benchmarks.one ROW LOOP --operations N

Attach to the process id it prints, or start it under the profiler; the load of
a network row is a process of its own. A count of operations is the same work
each time, and the difference of two counts is free of what starting costs:

    perf record -g -p PID
    valgrind --tool=callgrind python -m benchmarks.one small_replies cloop --operations 5000
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time

from benchmarks import registry
from benchmarks.worker import open_subject


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.one", description=__doc__.splitlines()[0])
    parser.add_argument("row")
    parser.add_argument("loop")
    parser.add_argument("seconds", nargs="?", type=float, default=10.0, help="(%(default)s)")
    parser.add_argument("--operations", type=int, metavar="N", help="in place of a time")
    args = parser.parse_args()
    row = registry.load().get(args.row)
    if row is None:
        parser.error("no benchmark is called " + args.row)

    with contextlib.ExitStack() as stack:
        try:
            subject = stack.enter_context(open_subject(row, args.loop))
        except registry.Skip as exc:
            parser.exit(1, "skipped: {}\n".format(exc))
        print("process {}".format(os.getpid()), file=sys.stderr, flush=True)
        cpu, wall = subject.cpu_ns(), time.perf_counter_ns()
        if args.operations:
            done = row.batch * max(1, round(args.operations / row.batch))
            subject.run(done)
        else:
            n, done = subject.calibrate(row.batch), 0
            cpu, wall = subject.cpu_ns(), time.perf_counter_ns()
            while time.perf_counter_ns() - wall < args.seconds * 1e9:
                subject.run(n)
                done += n
        cpu, wall = subject.cpu_ns() - cpu, time.perf_counter_ns() - wall
    print("{} operations, each {:.0f} ns of CPU, {:.0f} ns of time".format(done, cpu / done, wall / done))


if __name__ == "__main__":
    main()
