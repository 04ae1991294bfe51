"""What the programs of this folder share: each attack is a function, runs in a process of its own, and has a line of figures.

An attack gets a Run. It returns what it measured, as text, and raises Failed if a limit is exceeded. Whether limits of
time count is said by --timed: on a busy machine they do not hold for any loop.
"""

import argparse
import asyncio
import ctypes
import importlib
import os
import random
import subprocess
import sys
import time

LIMIT_S = 3600


class Failed(Exception):
    """A limit was exceeded; the text has the figure."""


class Skipped(Exception):
    """It cannot be run here; the text says why."""


class Run:
    def __init__(self, options):
        self.small, self.timed, self.seed, self.loop_name = options.small, options.timed, options.seed, options.loop
        self.random = random.Random(options.seed)

    def size(self, small, whole):
        return small if self.small else whole

    def new_loop(self):
        loop = importlib.import_module(self.loop_name).new_event_loop()
        asyncio.set_event_loop(loop)
        return loop

    def must(self, holds, text):
        if not holds:
            raise Failed(text)

    def must_in_time(self, holds, text):
        if self.timed:
            self.must(holds, text)


def descriptors():
    return len(os.listdir("/proc/self/fd")) - 1


def resident():
    """Bytes of memory that the process has."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class _Mallinfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in
        "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]  # fmt: skip


def allocated():
    """Bytes that malloc() has given out, or None where it does not tell. Freed memory that the process keeps is not counted."""
    try:
        ask = ctypes.CDLL(None).mallinfo2
    except AttributeError:  # not glibc, or before 2.33
        return None
    ask.restype = _Mallinfo
    info = ask()
    return info.uordblks + info.hblkhd


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def slope(points):
    """The slope of the line through (x, y) with the least squares, and its standard error."""
    n = len(points)
    mean_x, mean_y = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    if n < 3 or not spread:
        return 0.0, float("inf")
    found = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    rest = sum((y - mean_y - found * (x - mean_x)) ** 2 for x, y in points)
    return found, (rest / (n - 2) / spread) ** 0.5


def main(file, doc, attacks):
    """Runs the attacks named on the command line, or all; returns the exit status."""
    parser = argparse.ArgumentParser(description=doc.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(attacks))
    parser.add_argument("--small", action="store_true", help="a short form of each")
    parser.add_argument("--timed", action="store_true", help="limits of time count")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--loop", default="cloop", help="the module whose new_event_loop() makes it")
    parser.add_argument("--here", action="store_true", help="in this process, for a debugger")
    options = parser.parse_args()
    for name in options.names:
        if name not in attacks:
            parser.error("%s is none of %s" % (name, ", ".join(attacks)))
    if options.here:
        print(attacks[options.names[0]](Run(options)))
        return 0
    print("seed %d" % options.seed)
    failed = 0
    for name in options.names or attacks:
        command = [sys.executable, "-X", "faulthandler", "-W", "ignore", file, "--here", name]
        command += ["--seed", str(options.seed), "--loop", options.loop]
        command += ["--small"] * options.small + ["--timed"] * options.timed
        began = time.monotonic()
        try:
            done = subprocess.run(
                command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, timeout=LIMIT_S
            )
            text, status = done.stdout.strip(), done.returncode
            if status or done.stderr:
                lines = done.stderr.strip().splitlines() or ["exit status %d" % status]
                if lines[-1].startswith("attack.Skipped: "):
                    text = "skipped: " + lines[-1].partition(": ")[2]
                else:
                    failed += 1
                    text = "FAILED, %s\n%s" % (lines[-1], done.stderr)
        except subprocess.TimeoutExpired:
            failed += 1
            text = "FAILED, takes more than %d s" % LIMIT_S
        print("%-24s %4d s  %s" % (name.replace("_", " "), time.monotonic() - began, text), flush=True)
    print("attacks: %d, failed: %d" % (len(options.names or attacks), failed))
    return 1 if failed else 0
