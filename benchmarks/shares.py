"""What a row's CPU time is spent in: the kernel, the loop's own code, Python, and other libraries.

    python -m benchmarks.shares                                      # all rows, on cloop, by `perf`
    python -m benchmarks.shares --only 'http_*' --loop uvloop
    python -m benchmarks.shares --json shares.json
    python -m benchmarks.shares --read shares.json --beside 3.11.json # and what a loop without code of its own would reach

Calls of Python's C API count as Python, also those that the loop makes.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Dict, List, Optional

from benchmarks import registry, report, runner, servers, tables
from benchmarks.__main__ import matches, note

#: Of the profiler, in a second. Not a divisor of what timers in a row may be multiples of.
FREQUENCY = 1999
SHARES = ("kernel", "loop", "python", "other")

Shares = Dict[str, float]


def part(dso: str, loop: str) -> str:
    """Which of SHARES that file, as perf shows it, belongs to."""
    name = dso.strip("[]")
    path = Path(name)
    if name.startswith(("kernel", "guest.kernel", "vdso", "bpf")) or path.suffix == ".ko":
        return "kernel"
    if path.name.startswith("_cloop.") if loop == "cloop" else loop in path.parts or path.name.startswith(loop):
        return "loop"
    if path.name.startswith(("python", "libpython")) or "lib-dynload" in path.parts:
        return "python"
    return "other"


def profile(row: registry.Benchmark, loop: str, seconds: float) -> Shares:
    """The shares of the row's process, its threads included; runner.WorkerError if there is none."""
    command = [sys.executable, "-m", "benchmarks.one", row.name, loop, str(seconds)]
    with tempfile.TemporaryDirectory() as folder, subprocess.Popen(
        command, cwd=str(runner.ROOT), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, universal_newlines=True
    ) as child:
        assert child.stderr is not None
        said = []
        for line in child.stderr:
            said.append(line.strip())
            if line.startswith("process "):
                break
        else:
            raise runner.WorkerError(said[-1] if said else "silent")
        data = os.path.join(folder, "perf.data")
        perf = ["perf", "record", "-q", "-e", "cpu-clock", "-F", str(FREQUENCY), "-p", str(child.pid), "-o", data]
        perf += ["--", "sleep", str(seconds)]
        subprocess.run(perf, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            child.communicate(timeout=runner.WORKER_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            raise runner.WorkerHangs("it did not end") from None
        if child.returncode != 0:
            raise runner.WorkerError("exit status {}".format(child.returncode))
        return read(data, child.pid, loop)


def read(data: str, pid: int, loop: str) -> Shares:
    command = ["perf", "script", "-i", data, "--pid", str(pid), "-F", "ip,dso"]
    lines = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, universal_newlines=True).stdout
    found: collections.Counter = collections.Counter()
    for line in lines.splitlines():
        _, _, dso = line.strip().partition(" (")
        found[part(dso.rstrip(")"), loop)] += 1
    total = sum(found.values())
    if total < 50:
        raise runner.WorkerError("only {} samples".format(total))
    return {name: found[name] / total for name in SHARES}


def chosen(globs: Optional[str]) -> List[registry.Benchmark]:
    return [
        row
        for row in registry.load().values()
        if (matches(row.name, globs) if globs else row.default)
        and row.metric == "cpu"
        and row.since <= sys.version_info[:2]
        # What works in processes of its own does not show in the one that is looked at.
        and row.run.__module__.rpartition(".")[2] != "scaling"
        and row.name != "echo_reuse_port"
    ]


def measure(rows: List[registry.Benchmark], loop: str, seconds: float) -> Dict[str, Shares]:
    shares = {}
    for number, row in enumerate(rows, 1):
        note("[{}/{}] {}".format(number, len(rows), row.name))
        try:
            with servers.beside(row.beside):
                shares[row.name] = profile(row, loop, seconds)
        except (registry.Skip, runner.WorkerError) as exc:
            note("skipped: {}: {}".format(row.name, exc))
    return shares


def table(shares: Dict[str, Shares], run: Optional[report.Run] = None, by_family: bool = False) -> List[List[str]]:
    """Cells; with a run of benchmarks, also the ratio that was measured, and the one if cloop's own code took no time.

    By family: means of its rows, the ratios' being geometric.
    """
    lines = [["row", "kernel", "loop", "Python", "other libraries"]]
    if run is not None:
        lines[0] += ["× " + report.BASELINE, "without the loop's own"]
        shares = {name: row for name, row in shares.items() if _ratio(name, run)}
    groups: Dict[str, List[str]] = {}
    for name in shares:
        family = registry.load()[name].about()["family"]
        groups.setdefault(tables.FAMILIES[family] if by_family else "`{}`".format(name), []).append(name)
    if run is not None:
        groups["all"] = list(shares)
    for title, names in groups.items():
        rows = [shares[name] for name in names]
        cells = [title] + ["{:.0f} %".format(100 * statistics.mean(row[each] for row in rows)) for each in SHARES]
        if run is not None:
            ratios = [_ratio(name, run) for name in names]
            least = [found / (1 - row["loop"]) for found, row in zip(ratios, rows)]
            cells += ["{:.2f}".format(report.mean(each)) for each in (ratios, least)]
        lines.append(cells)
    return lines


def _ratio(name: str, run: report.Run) -> Optional[float]:
    return report.ratio(run["rows"][name], run["samples"][name], "cloop") if name in run["rows"] else None


def main(argv: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.shares", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", metavar="GLOBS", help="rows whose name matches, in place of the usual ones")
    parser.add_argument("--loop", default="cloop", help="(%(default)s)")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each row (%(default)s)")
    parser.add_argument("--json", metavar="OUT", help="write the shares to this file")
    parser.add_argument("--read", metavar="FILE", help="the shares of that file, in place of new ones")
    parser.add_argument("--beside", metavar="FILE", nargs="+", help="what `python -m benchmarks --json` has written")
    parser.add_argument("--by-family", action="store_true", help="means of families, in place of rows")
    args = parser.parse_args(argv)
    if args.read:
        with open(args.read) as source:
            shares = json.load(source)["shares"]
    else:
        shares = measure(chosen(args.only), args.loop, args.seconds)
    if args.json:
        with open(args.json, "w") as out:
            json.dump({"python": sys.version.split()[0], "loop": args.loop, "shares": shares}, out, indent=1)
    run = tables.read(args.beside)[0] if args.beside else None
    print(report.markdown(table(shares, run, args.by_family)))
    return 0 if shares else 1


if __name__ == "__main__":
    sys.exit(main())
