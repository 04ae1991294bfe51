"""The benchmark suite's command line; README.md says how its figures are made."""

from __future__ import annotations

import argparse
import fnmatch
import json
import sys
from typing import Any, Dict, List, Optional

from benchmarks import registry, report, runner


def parse(argv: Optional[List[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--list", action="store_true", help="say what each benchmark measures")
    parser.add_argument("--loops", default="cloop,uvloop,asyncio,floor", help="modules, comma-separated (%(default)s)")
    parser.add_argument(
        "--only", default="*", metavar="GLOBS", help="benchmarks whose name matches, separated by commas"
    )
    parser.add_argument("--rounds", type=int, default=5, help="processes per benchmark and loop (%(default)s)")
    parser.add_argument("--python", action="append", metavar="PY", help="interpreter to measure; may be repeated")
    parser.add_argument("--json", metavar="OUT", help="write every round's figures to this file")
    parser.add_argument("--markdown", action="store_true", help="print Markdown tables")
    args = parser.parse_args(argv)
    if args.rounds < 1:
        parser.error("--rounds must be at least 1")
    return args


def run_python(python: str, rows: List[registry.Benchmark], args: argparse.Namespace) -> Optional[Dict[str, Any]]:
    """Measure and print everything on one interpreter."""
    # A loop named twice would be measured into one column.
    names = list(dict.fromkeys(args.loops.split(",")))
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

    where = report.machine()
    measured: List[registry.Benchmark] = []
    results: Dict[str, Dict[str, runner.Samples]] = {}
    for number, row in enumerate(rows, 1):
        if tuple(about["version_info"]) < row.since:
            note("skipped: {} needs Python {}.{}".format(row.name, *row.since))
            continue
        note("[{}/{}] {}".format(number, len(rows), row.name))
        measured.append(row)
        able = [name for name in loops if name != registry.FLOOR or row.floor]
        results[row.name] = runner.run_row(python, row, able, args.rounds)

    cells = report.table(measured, results, loops)
    lines = report.header(where, about, args.rounds)
    if args.markdown:
        print("\n".join(line + "  " for line in lines), report.markdown(cells), sep="\n\n")
    else:
        print("\n".join(lines), report.plain(cells), sep="\n\n")
    print(flush=True)
    return {"machine": where, "python": about, "rounds": args.rounds, "samples": results}


def note(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def matches(name, globs):
    return any(fnmatch.fnmatchcase(name, glob) for glob in globs.split(","))


def main(argv: Optional[List[str]] = None) -> int:
    args = parse(argv)
    rows = [row for row in registry.load().values() if matches(row.name, args.only)]
    if not rows:
        note("no benchmark matches " + args.only)
        return 2
    if args.list:
        for row in rows:
            print("{:<22} {}".format(row.name, row.operation))
        return 0

    runs = [run_python(python, rows, args) for python in args.python or [sys.executable]]
    done = [run for run in runs if run is not None]
    if args.json:
        with open(args.json, "w") as out:
            json.dump(done, out, indent=1)
    failed = any(None in rounds for run in done for loops in run["samples"].values() for rounds in loops.values())
    return 1 if failed or not done else 0


if __name__ == "__main__":
    sys.exit(main())
