"""The figures of docs/reliability.md, one after the other, each within its time: what `make nightly` ends with.

Each is a target of the Makefile. Those of a line of PLAN run at the same time, as each keeps one core busy; the figures of a
lane follow each other. All run, whatever fails. The output of each is in build/figures; at the end there is a table.

    python tests/trust/figures.py [--scale 1] [--list] [NAME ...]

With a scale of 0.5 each gets half of its time. Below SMALL, what cannot be given a time runs in its short form, or not at all.
"""

import argparse
import concurrent.futures
import os
import re
import shutil
import signal
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LOGS = os.path.join(ROOT, "build", "figures")
SMALL = 0.3  # where no limit of time counts, either
NOT_PASSED = "MAKEFLAGS MAKEOVERRIDES MFLAGS MAKELEVEL ARGS K B TIER COUNT HOURS SECONDS SCALE".split()
GRACE_S = 600  # for builds, and for what is under way when the time is up


class Figure:
    """A target. Its arguments may use {s}, its seconds, and {h}, the hours; without either it takes as long as it takes."""

    def __init__(self, name, seconds, told, *arguments, python=None, small=("ARGS=--small",)):
        self.name, self.seconds, self.told, self.arguments, self.python = name, seconds, told, arguments, python
        self.small = () if "{" in " ".join(arguments) else small
        self.target = name.split(",")[0]
        self.outcome, self.took, self.lines = "not run", 0, []

    def command(self, scale):
        """None if it cannot be that short."""
        seconds = max(self.seconds * scale, 5)
        given = [each.format(s=round(seconds), h=round(seconds / 3600, 4)) for each in self.arguments]
        if scale < SMALL:
            if self.small is None:
                return None
            given += self.small
        return ["make", "--no-print-directory", self.target] + given + (["PY=" + self.python] if self.python else [])

    def log(self):
        return os.path.join(LOGS, re.sub(r"\W+", "-", self.name) + ".log")

    def run(self, scale):
        command = self.command(scale)
        if command is None:
            self.outcome = "skipped: takes %d minutes" % (self.seconds // 60)
            return
        if self.python and not shutil.which(self.python):
            self.outcome = "skipped: there is no " + self.python
            return
        began = time.monotonic()
        # What this make was told is not for those; which Python and which loop is.
        env = {name: value for name, value in os.environ.items() if name not in NOT_PASSED}
        print("=== %s: %s" % (self.name, " ".join(command[2:])), flush=True)
        with open(self.log(), "w") as file:
            process = subprocess.Popen(
                command, cwd=ROOT, env=env, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
            )
            try:
                status = process.wait(1.25 * self.seconds * scale + GRACE_S)
                self.outcome = "FAILED" if status else "passed"
            except subprocess.TimeoutExpired:
                self.outcome = "FAILED: takes too long"
            finally:
                try:
                    os.killpg(process.pid, signal.SIGKILL)  # what it left, too
                except ProcessLookupError:
                    pass
                process.wait()
        self.took = time.monotonic() - began
        with open(self.log(), errors="replace") as file:
            text = file.read()
        self.lines = re.findall("^(?:%s).*$" % self.told, text, re.M)
        if self.outcome != "passed":
            print("\n".join(["=== %s: %s" % (self.name, self.outcome)] + text.splitlines()[-60:]), flush=True)


# Seconds at scale 1; in all, 3.5 hours. Those that measure times are alone.
PLAN = [
    [[Figure("coverage", 1500, "lines: |branches: ", small=None)]],
    [[Figure("integrity", 2400, "messages: |misdelivered: ", "COUNT=100000000", "ARGS=--seconds {s}")]],
    [[Figure("overload", 300, "attacks: ", small=("ARGS=--small", "TIMED="))]],
    [
        [Figure("faults, sanitizers", 1200, "points: ", "BUILD=asan", "PAIRS=1000", "ARGS=--seconds {s}")],
        [
            Figure("faults, sanitizers, 3.14", 1200, "points: ", "BUILD=asan", "PAIRS=1000", "ARGS=--seconds {s}", python="python3.14")
        ],
    ],
    [
        [Figure("faults", 900, "points: ", "PAIRS=1000", "ARGS=--seconds {s}"), Figure("leaks", 700, "attacks: ")],
        [
            Figure("lifecycle", 700, "attacks: "),
            Figure("abuse", 600, "processes: ", "SECONDS={s}"),
            Figure("threads", 300, "processes: ", "SECONDS={s}"),
        ],
    ],
    [
        [Figure("soak", 3600, "messages: |descriptors: |memory: |processor: ", "HOURS={h}")],
        [Figure("hostile-tls", 3600, "cases: ", "SECONDS={s}")],
    ],
    [
        [Figure("fuzz", 1800, r"executions: \d+ of ", "SECONDS={s}")],
        [Figure("mutation", 1200, "changes: ", "JOBS=1", "COUNT=1000", "ARGS=--seconds {s}")],
    ],
    [[Figure("reproducible", 60, "the same|NOT the same", small=())]],
]  # fmt: skip


def table(figures):
    yield "%-26s %-8s %6s  figure" % ("", "", "s")
    for figure in figures:
        first, *rest = figure.lines or [""]
        yield "%-26s %-8s %6d  %s" % (figure.name, figure.outcome, figure.took, first)
        for line in rest:
            yield " " * 43 + line


def main():
    parser = argparse.ArgumentParser(prog="tests/trust/figures.py", description=__doc__.split("\n")[0])
    parser.add_argument("--scale", type=float, default=1, help="how much of its time each figure gets")
    parser.add_argument("--list", action="store_true", help="print the commands and the time of all, and do nothing")
    parser.add_argument("names", nargs="*", metavar="NAME", help="targets; by default all")
    options = parser.parse_args()
    plan = [
        [[figure for figure in lane if figure.target in (options.names or [figure.target])] for lane in lanes]
        for lanes in PLAN
    ]
    figures = [figure for lanes in plan for lane in lanes for figure in lane]
    if options.list:
        for figure in figures:
            print(" ".join(figure.command(options.scale) or ["skipped:", figure.name]))
        seconds = sum(max(sum(figure.seconds for figure in lane) for lane in lanes) for lanes in plan)
        print("%d minutes in all" % (seconds * options.scale / 60))
        return 0
    os.makedirs(LOGS, exist_ok=True)
    for lanes in plan:
        with concurrent.futures.ThreadPoolExecutor(len(lanes)) as pool:
            list(pool.map(lambda lane: [figure.run(options.scale) for figure in lane], lanes))
    text = "\n".join(table(figures)) + "\n"
    with open(os.path.join(LOGS, "table.txt"), "w") as file:
        file.write(text)
    print("\n=== figures, at a scale of %.2f\n%s" % (options.scale, text), end="", flush=True)
    return any(figure.outcome.startswith("FAILED") for figure in figures)


if __name__ == "__main__":
    sys.exit(main())
