"""The benchmark suite's command line; README.md says how its figures are made."""

from __future__ import annotations

import argparse
import fnmatch
import json
import sys
from typing import List, Optional

from benchmarks import registry, report, runner
from benchmarks.loops import is_over, named


def parse(argv: Optional[List[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--list", action="store_true", help="say what each benchmark measures")
    parser.add_argument(
        "--loops", default="cloop,uvloop,asyncio,floor", help="modules, comma-separated, or all (%(default)s)"
    )
    parser.add_argument(
        "--only", metavar="GLOBS", help="benchmarks whose name matches, separated by commas, in place of the usual ones"
    )
    parser.add_argument("--rounds", type=int, default=5, help="processes per benchmark and loop (%(default)s)")
    parser.add_argument("--python", action="append", metavar="PY", help="interpreter to measure; may be repeated")
    parser.add_argument("--json", metavar="OUT", help="write every round's figures to this file")
    parser.add_argument("--markdown", action="store_true", help="print Markdown tables")
    args = parser.parse_args(argv)
    if args.rounds < 1:
        parser.error("--rounds must be at least 1")
    return args


def run_python(python: str, rows: List[registry.Benchmark], args: argparse.Namespace) -> Optional[report.Run]:
    """Measure and print everything on one interpreter."""
    names = named(args.loops, registry.FLOOR)
    try:
        about = runner.call(python, "benchmarks.probe", *[name for name in names if name != registry.FLOOR])
    except runner.WorkerError as exc:
        note("skipped: {}: {}".format(python, exc))
        return None
    for loop, reason in about["absent"].items():
        note("skipped: {} on Python {}: {}".format(loop, about["version"], reason))
    present = set(about["loops"])
    if any(row.floor for row in rows):
        present.add(registry.FLOOR)
    loops = [name for name in names if name in present]
    if not loops:
        return None

    run: report.Run = {
        "machine": report.machine(),
        "python": about,
        "environment": report.environment(),
        "rounds": args.rounds,
        "loops": loops,
        "rows": {},
        "samples": {},
        "reasons": {},
    }
    for number, row in enumerate(rows, 1):
        able = [name for name in loops if suits(row, name)]
        if tuple(about["version_info"]) < row.since:
            note("skipped: {} needs Python {}.{}".format(row.name, *row.since))
            continue
        if not able:
            continue
        note("[{}/{}] {}".format(number, len(rows), row.name))
        run["rows"][row.name] = row.about()
        run["samples"][row.name], reasons = runner.run_row(python, row, able, args.rounds)
        if reasons:
            run["reasons"][row.name] = reasons

    print(report.whole(run, args.markdown) + "\n", flush=True)
    return run


def suits(row: registry.Benchmark, loop: str) -> bool:
    if loop == registry.FLOOR:
        return row.floor is not None
    return row.transports or not is_over(loop)


def failed(run: report.Run) -> bool:
    """Whether a row failed on cloop. What fails elsewhere is shown, but is not ours to mend."""
    return any(None in loops.get("cloop", ()) for loops in run["samples"].values())


def note(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def matches(name: str, globs: str) -> bool:
    return any(fnmatch.fnmatchcase(name, glob) for glob in globs.split(","))


def main(argv: Optional[List[str]] = None) -> int:
    args = parse(argv)
    rows = [row for row in registry.load().values() if (matches(row.name, args.only) if args.only else row.default)]
    if not rows:
        note("no benchmark matches " + args.only)
        return 2
    if args.list:
        for row in rows if args.only else registry.load().values():
            print("{:<28} {}{}".format(row.name, row.operation, "" if row.default else " Only if asked for."))
        return 0

    runs = [run_python(python, rows, args) for python in args.python or [sys.executable]]
    done = [run for run in runs if run is not None]
    if args.json:
        with open(args.json, "w") as out:
            json.dump(done, out, indent=1)
    return 1 if not done or any(map(failed, done)) else 0


if __name__ == "__main__":
    sys.exit(main())
