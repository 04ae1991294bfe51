"""Makes the tables of docs/performance.md from what `python -m benchmarks --json FILE` has written.

    python -m benchmarks.tables 3.11.json 3.13.json 3.14.json            # prints them, in Markdown
    python -m benchmarks.tables --into docs/performance.md 3.11.json ... # puts them in their place there
    python -m benchmarks.tables --ten 3.11.json ...                      # the ten rows of the README

Several files of one Python are one run of more rows; a row that is in two of them is the later one's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional

from benchmarks import report
from benchmarks.registry import FLOOR
from benchmarks.report import BASELINE, Run, ratio, values

#: The rows of the README, with names for those who don't know the suite.
TEN = {
    "call_soon_chain": "callback → callback",
    "call_later_cancel": "call_later() + cancel()",
    "create_task_await": "create_task() + await",
    "tcp_echo_protocol": "TCP echo, 1 KiB",
    "streams_echo": "streams echo, 1 KiB",
    "sock_echo_1k": "sock_recv() + sock_sendall()",
    "udp_echo": "UDP echo, 1 KiB",
    "tls_echo_1k": "TLS echo, 1 KiB",
    "spawn_communicate": "child process",
    "http_uvicorn": "HTTP, uvicorn",
}

BEGIN = "<!-- tables: python -m benchmarks.tables --into docs/performance.md FILE... -->"
END = "<!-- end of the tables -->"

FAMILIES = {
    "scheduling": "Callbacks",
    "timers": "Timers",
    "tasks": "Futures and tasks",
    "sync": "Locks and queues",
    "sizes": "Cost against size",
    "running": "Starting, stopping, lateness",
    "system": "Descriptors, addresses, executor",
    "net": "Sockets and streams",
    "echo": "Echo by size and connections",
    "clients": "Clients",
    "tls": "TLS",
    "http": "HTTP and WebSocket",
    "services": "gRPC, several processes",
    "scaling": "Several loops at once",
    "processes": "Children and pipes",
    "metrics": "Metrics",
}


def read(paths: List[str]) -> List[Run]:
    """The runs of those files, one of each Python."""
    runs: Dict[str, Run] = {}
    for path in paths:
        for run in json.loads(Path(path).read_text(encoding="utf-8")):
            known = runs.setdefault(run["python"]["version"], run)
            if known is not run:
                for part in ("rows", "samples", "reasons"):
                    known[part].update(run[part])
                known["loops"] += [loop for loop in run["loops"] if loop not in known["loops"]]
                known["python"]["loops"].update(run["python"]["loops"])
                known["rounds"] = min(known["rounds"], run["rounds"])
    if not runs:
        raise SystemExit("no run is in " + ", ".join(paths))
    return list(runs.values())


def amount(row: Dict[str, Any], figure: float) -> str:
    """With three digits and its unit."""
    if row["metric"] == "memory":
        return "{:.2f} KiB".format(figure)
    ns = figure * 1000 if row["metric"] in ("wall", "late") else figure
    divisor, unit = next(
        each for each in ((1, "ns"), (1e3, "µs"), (1e6, "ms")) if abs(ns) < 1000 * each[0] or each[0] == 1e6
    )
    return "{} {}".format(_three(ns / divisor), unit)


def _three(number: float) -> str:
    return "{:.0f}".format(number) if abs(number) >= 100 else "{:.3g}".format(number)


class Rival(NamedTuple):
    """The best of the other loops in a row."""

    loop: str
    #: Its cost divided by cloop's, in the median of the rounds.
    ratio: float
    #: Whether no round of either is among those of the other. A single round cannot tell.
    apart: bool


def rival(run: Run, name: str) -> Optional[Rival]:
    row, samples = run["rows"][name], run["samples"][name]
    ours = values(row, samples.get("cloop"))
    found = []
    for loop in run["loops"]:
        if loop in ("cloop", FLOOR, "aiofastnet+cloop") or not ours:
            continue
        times = ratio(row, samples, "cloop", base=loop)
        if times is not None:
            theirs = values(row, samples[loop])
            apart = max(theirs) < min(ours) or max(ours) < min(theirs)
            found.append(Rival(loop, times, apart and len(ours) > 1 and len(theirs) > 1))
    return min(found, key=lambda each: each.ratio, default=None)


def family_table(run: Run, names: List[str]) -> List[List[str]]:
    loops = [loop for loop in run["loops"] if loop != "cloop" and any(run["samples"][name].get(loop) for name in names)]
    lines = [["row", "cloop", "× " + BASELINE, "best other", "×"] + loops]
    for name in names:
        row, samples = run["rows"][name], run["samples"][name]
        ours = values(row, samples.get("cloop"))
        cells = ["`{}`".format(name), "n/a", "–", "–", "–"]
        if ours:
            cells[1] = amount(row, statistics.median(ours))
            if len(ours) > 1:
                cells[1] += " [{}..{}]".format(_bare(row, min(ours)), _bare(row, max(ours)))
        times = ratio(row, samples, "cloop")
        if times is not None:
            cells[2] = "**{:.2f}**".format(times)
        best = rival(run, name)
        if best is not None:
            cells[3:5] = [best.loop, "{:.2f}".format(best.ratio)]
        for loop in loops:
            figures = values(row, samples.get(loop))
            if figures:
                cells.append(amount(row, statistics.median(figures)))
            else:
                cells.append("n/a" if loop in samples else "–")
        lines.append(cells)
    return lines


def _bare(row: Dict[str, Any], figure: float) -> str:
    return amount(row, figure).replace(" ", "\N{NO-BREAK SPACE}")


def means(run: Run) -> List[List[str]]:
    """How many times cheaper cloop is than each loop, in the geometric mean of what both can do."""
    lines = [["loop", "cloop is cheaper by", "rows", "cloop is first in"]]
    for loop in run["loops"]:
        if loop == "cloop":
            continue
        ratios = [
            ratio(row, run["samples"][name], "cloop", base=loop)
            for name, row in run["rows"].items()
            if row["metric"] == "cpu"
        ]
        known = [each for each in ratios if each is not None]
        if known:
            better = sum(each >= 1 for each in known)
            name = loop if loop != FLOOR else "bare C"
            lines.append([name, "{:.2f}".format(report.mean(known)), str(len(known)), str(better)])
    return lines


def not_won(run: Run) -> List[str]:
    """A line for each row in which another loop is cheaper: first where the rounds are apart, then where they are not."""
    behind = [(name, rival(run, name)) for name in run["rows"]]
    lost = [(name, best) for name, best in behind if best is not None and best.ratio < 1]
    lost.sort(key=lambda each: (not each[1].apart, each[1].ratio))
    return [
        "- `{}`: {} × {:.2f}{}".format(name, best.loop, best.ratio, "" if best.apart else ", within the noise")
        for name, best in lost
    ]


def section(run: Run) -> str:
    """All about one Python."""
    python, machine = run["python"], run["machine"]
    parts = ["### CPython {}".format(python["version"])]
    parts.append(
        "{cpu}, {cores} cores, {system}, governor {governor}, {date}; {compiler}, {libc}, {openssl};\n"
        "{loops}; rounds: {rounds}.".format(
            rounds=run["rounds"],
            loops=", ".join("{} {}".format(*item) for item in python["loops"].items()),
            **{**machine, **{key: python[key] for key in ("compiler", "libc", "openssl")}},
        )
    )
    if python.get("cloop"):
        parts.append("cloop is built by {compiler}, with `{flags}`.".format(**python["cloop"]))
    if run["environment"]:
        parts.append(
            "Environment: `{}`.".format(" ".join("{}={}".format(*item) for item in run["environment"].items()))
        )
    if len(means(run)) > 1:
        parts.append(report.markdown(means(run)))
    lost = not_won(run)
    if lost:
        parts.append("Not won, with the other's cost divided by cloop's:\n\n" + "\n".join(lost))
    for family, title in FAMILIES.items():
        names = [name for name, row in run["rows"].items() if row["family"] == family]
        if names:
            parts += ["#### {}".format(title), report.markdown(family_table(run, names))]
    loaded = report.under_load(run)
    if len(loaded) > 1:
        parts += ["#### Throughput and latency", report.markdown(loaded)]
    notes = report.notes(run)
    if notes:
        parts += ["#### What has no figure, and why", "\n".join("- " + line for line in notes)]
    return "\n\n".join(parts)


def operations(runs: List[Run]) -> str:
    rows: Dict[str, str] = {}
    for run in runs:
        for name, row in run["rows"].items():
            rows.setdefault(name, row["operation"])
    lines = ["- `{}`: {}".format(name, text) for name, text in rows.items()]
    return "### What one operation is\n\n" + "\n".join(lines)


def ten(runs: List[Run]) -> str:
    """The rows of the README: cloop's figure, and how many times cheaper than uvloop and asyncio, on each Python."""
    lines = [["one operation"]]
    for run in runs:
        lines[0] += ["{}: cloop".format(".".join(run["python"]["version"].split(".")[:2])), "× uvloop", "× asyncio"]
    for name, title in TEN.items():
        cells = [title]
        for run in runs:
            row, samples = run["rows"].get(name), run["samples"].get(name, {})
            ours = values(row, samples.get("cloop")) if row else []
            cells.append(amount(row, statistics.median(ours)) if ours else "n/a")
            for loop in ("uvloop", "asyncio"):
                times = ratio(row, samples, "cloop", base=loop) if row else None
                cells.append("–" if times is None else "{:.2f}".format(times))
        lines.append(cells)
    return report.markdown(lines)


def whole(runs: List[Run]) -> str:
    return "\n\n".join([*map(section, runs), operations(runs)])


def put(text: str, into: Path) -> None:
    """Between the two comments of that file."""
    page = into.read_text(encoding="utf-8")
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise SystemExit("{} has no place for tables: {} and {}".format(into, BEGIN, END))
    into.write_text("{}{}\n\n{}\n\n{}{}".format(head, begin, text, end, tail), encoding="utf-8")


def main(argv: Optional[List[str]] = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tables", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", metavar="FILE.json")
    parser.add_argument("--into", type=Path, metavar="PAGE", help="rewrite the tables of that page")
    parser.add_argument("--ten", action="store_true", help="the rows of the README alone")
    args = parser.parse_args(argv)
    runs = read(args.files)
    text = ten(runs) if args.ten else whole(runs)
    if args.into:
        put(text, args.into)
    else:
        print(text)


if __name__ == "__main__":
    sys.exit(main())
