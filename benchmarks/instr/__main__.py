"""Counts instructions and system calls per operation; README.md says how.

python -m benchmarks.instr                              # this checkout, this interpreter
python -m benchmarks.instr --python PY --against DIR    # beside another checkout, row by row
python -m benchmarks.instr --check                      # against the accepted figures
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional

from benchmarks.__main__ import matches, note
from benchmarks.instr import measure
from benchmarks.instr.measure import ROOT, Figure, Outcome, Subject
from benchmarks.instr.rows import ROWS

ACCEPTED = ROOT / "benchmarks" / "accepted"
#: How much more than its accepted figure a row may cost.
TOLERANCE = 0.03
BULK_TOLERANCE = 0.1


def parse(argv: Optional[List[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.instr", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--python", action="append", metavar="PY", help="interpreter; may be repeated")
    parser.add_argument("--build", metavar="DIR", default=str(ROOT), help="checkout, or where cloop is installed")
    parser.add_argument("--against", metavar="DIR", help="another one, counted beside it")
    parser.add_argument("--loops", default="cloop", help="modules, comma-separated (%(default)s)")
    parser.add_argument("--only", default="*", metavar="GLOBS", help="rows whose name matches, separated by commas")
    parser.add_argument("--quick", action="store_true", help="the rows that each change is checked by")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at a time (%(default)s)")
    parser.add_argument(
        "--keep",
        metavar="DIR",
        type=lambda path: Path(path).resolve(),
        help="leave the dumps there, for callgrind_annotate",
    )
    parser.add_argument("--json", metavar="OUT", help="write the figures to this file")
    parser.add_argument("--check", action="store_true", help="fail if a row costs more than is accepted")
    parser.add_argument("--accept", action="store_true", help="make these the accepted figures")
    return parser.parse_args(argv)


# -------------------------------------------------------------- accepted figures


def accepted_path(environment: Dict[str, str]) -> Path:
    return ACCEPTED / "{}.json".format(".".join(environment["python"].split(".")[:2]))


def read_accepted(environment: Dict[str, str]) -> Dict[str, Any]:
    path = accepted_path(environment)
    return json.loads(path.read_text()) if path.exists() else {"environment": environment, "rows": {}}


def accept(environment: Dict[str, str], outcomes: Dict[str, Outcome]) -> None:
    """Rewrite the figures of these rows; the others stay, if they were taken in the same environment."""
    known = read_accepted(environment)
    rows = known["rows"] if known["environment"] == environment else {}
    for name, outcome in outcomes.items():
        if outcome.figure is not None and ROWS[name].guarded:
            rows[name] = {
                "instructions": round(outcome.figure.instructions, 1),
                "syscalls": round(outcome.figure.syscalls, 3),
            }
    ACCEPTED.mkdir(exist_ok=True)
    ordered = {name: rows[name] for name in ROWS if name in rows}
    lines = ["  {}: {}".format(json.dumps(name), json.dumps(row)) for name, row in ordered.items()]
    about = json.dumps(environment, indent=2).replace("\n", "\n ")
    accepted_path(environment).write_text(
        '{{\n "environment": {},\n "rows": {{\n{}\n }}\n}}\n'.format(about, ",\n".join(lines))
    )


def accepted_elsewhere(python: str, environment: Dict[str, str], names: List[str], jobs: int) -> Dict[str, Any]:
    """The accepted figures as they would be here: those of the commit that accepted them."""
    path = str(accepted_path(environment).relative_to(ROOT))
    git = ["git", "-C", str(ROOT)]
    found = subprocess.run([*git, "log", "-1", "--format=%H", "--", path], stdout=subprocess.PIPE)
    revision = found.stdout.decode().strip()
    if found.returncode or not revision:
        raise measure.Unable("no commit is known that accepted figures for this Python")
    place = measure.BUILD / ("accepted-" + revision[:12])
    if not place.exists():
        made = place.with_name("{}-{}".format(place.name, os.getpid()))
        made.mkdir(parents=True)
        archive = subprocess.run([*git, "archive", revision], stdout=subprocess.PIPE, check=True).stdout
        subprocess.run(["tar", "-x", "-C", str(made)], input=archive, check=True)
        os.replace(str(made), str(place))
    note("counting commit {} as well, which accepted the figures in another environment".format(revision[:12]))
    subject = Subject(python, "cloop", measure.build(python, place))
    (outcomes,) = measure.count([subject], names, jobs)
    return {name: outcome.figure._asdict() for name, outcome in outcomes.items() if outcome.figure is not None}


def check(outcomes: Dict[str, Outcome], accepted: Dict[str, Any]) -> bool:
    """Whether no row costs more than it may; says which do, and which cost much less."""
    good = True
    for name, outcome in outcomes.items():
        if outcome.figure is None or not ROWS[name].guarded:
            continue
        if name not in accepted:
            note("{} has no accepted figure".format(name))
            continue
        for what in ("instructions", "syscalls"):
            now, then = getattr(outcome.figure, what), accepted[name][what]
            text = "{}: {:.6g} {} an operation, and {:.6g} are accepted".format(name, now, what, then)
            slack = TOLERANCE * then
            if what == "syscalls":  # a hundredth may come from memory that is mapped
                slack = 0.01 + (BULK_TOLERANCE if ROWS[name].bulk else TOLERANCE) * then
            if now > then + slack:
                note("too much: " + text)
                good = False
            elif now < then - slack - 0.01:
                note("less, which is to be accepted: " + text)
    return good


# ------------------------------------------------------------------------ tables


def number(figure: Optional[Figure], what: str) -> str:
    if figure is None:
        return "n/a"
    value = getattr(figure, what)
    return "{:.3f}".format(value) if what == "syscalls" else "{:.0f}".format(value)


def table(titles: List[str], results: List[Dict[str, Outcome]]) -> str:
    """Instructions (cloop's own of them) and system calls; from the second column on, divided by the first."""
    lines = [["row"]]
    for place, title in enumerate(titles):
        lines[0] += [title, "own", "syscalls"] + (["/ first"] if place else [])
    for name in results[0]:
        cells = [name]
        first = results[0][name].figure
        for place, result in enumerate(results):
            figure = result[name].figure
            cells += [number(figure, what) for what in ("instructions", "own", "syscalls")]
            if place:
                known = first is not None and figure is not None
                cells.append("{:.3f}".format(figure.instructions / first.instructions) if known else "")
        lines.append(cells)
    widths = [max(len(line[place]) for line in lines) for place in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width) for place, (cell, width) in enumerate(zip(line, widths))
        )
        for line in lines
    )


# -------------------------------------------------------------------------- main


def count_on(python: str, names: List[str], args: argparse.Namespace) -> Dict[str, Any]:
    """Everything on one interpreter; prints it."""
    environment = measure.environment(python)
    subjects, titles = [], []
    for loop in args.loops.split(","):
        ours = loop in ("cloop", "benchmarks.accelerated")
        subjects.append(Subject(python, loop, measure.build(python, Path(args.build)) if ours else None))
        titles.append(loop if loop != "cloop" or not args.against else args.build)
    if args.against:
        subjects.insert(0, Subject(python, "cloop", measure.build(python, Path(args.against))))
        titles.insert(0, args.against)
    results = measure.count(subjects, names, args.jobs, args.keep)

    print("Python {}, instructions per operation".format(environment["python"]))
    print(table(titles, results), flush=True)
    good = True
    for title, result in zip(titles, results):
        for name, outcome in result.items():
            if outcome.figure is None:
                note("{}: {} of {}: {}".format("failed" if outcome.failed else "skipped", name, title, outcome.why))
                good = good and not outcome.failed
    ours = results[1 if args.against else 0]
    if args.check:
        known = read_accepted(environment)
        rows = known["rows"]
        if known["environment"] != environment:
            rows = accepted_elsewhere(python, environment, names, args.jobs)
        good = check(ours, rows) and good
        note(
            "all rows cost what is accepted" if good else "a figure is accepted by --accept; CONTRIBUTING.md says when"
        )
    if args.accept:
        accept(environment, ours)
    return {
        "environment": environment,
        "good": good,
        "figures": {
            title: {name: outcome.figure._asdict() if outcome.figure else None for name, outcome in result.items()}
            for title, result in zip(titles, results)
        },
    }


def main(argv: Optional[List[str]] = None) -> int:
    args = parse(argv)
    names = [name for name, row in ROWS.items() if matches(name, args.only) and (row.quick or not args.quick)]
    if not names:
        note("no counted row matches " + args.only)
        return 2
    runs = []
    for python in args.python or [sys.executable]:
        try:
            runs.append(count_on(os.path.abspath(shutil.which(python) or python), names, args))
        except measure.Unable as exc:
            note("skipped: {}: {}".format(python, exc))
    if args.json:
        with open(args.json, "w") as out:
            json.dump(runs, out, indent=1)
    return 0 if all(run["good"] for run in runs) else 1


if __name__ == "__main__":
    sys.exit(main())
