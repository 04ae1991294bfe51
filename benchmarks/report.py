"""From samples to the table that people read."""

from __future__ import annotations

import datetime
import os
import platform
import statistics
from typing import Any, Dict, List, Optional

from benchmarks.registry import Benchmark
from benchmarks.runner import Samples

BASELINE = "uvloop"


def machine() -> Dict[str, Any]:
    """Where and when the figures are taken."""
    now = datetime.datetime.now(datetime.timezone.utc)
    return {
        "date": now.strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "system": "{} {}".format(platform.system(), platform.release()),
        "load": round(os.getloadavg()[0], 2),
    }


def _cpu_model() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            for line in lines:
                key, _, value = line.partition(":")
                if key.strip() == "model name":
                    return value.strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def header(where: Dict[str, Any], python: Dict[str, Any], rounds: int) -> List[str]:
    loops = ", ".join("{} {}".format(*item) for item in python["loops"].items())
    return [
        "{cpu}, {cores} cores, {system}, load {load}, {date}".format(**where),
        "{} {} ({}, {} build)".format(
            python["implementation"],
            python["version"],
            python["compiler"],
            "optimized" if python["optimized"] else "plain",
        ),
        "{}; rounds: {}".format(loops, rounds),
        "Per operation: median [min..max] of the rounds, ns of CPU unless the row says otherwise; /s: operations a second.",
        "x: {} / this loop, median of the ratios within a round; more is better. reach: the x cloop aims at.".format(
            BASELINE
        ),
    ]


def values(row: Benchmark, samples: Samples) -> List[float]:
    return [row.value(sample) for sample in samples if sample is not None]


def ratio(row: Benchmark, samples: Dict[str, Samples], loop: str) -> Optional[float]:
    """How many times cheaper than the baseline, paired round by round."""
    # A latency has no meaningful ratio: the baseline's may be below zero.
    if row.metric == "wall" or BASELINE not in samples or loop not in samples:
        return None
    pairs = [
        row.value(base) / row.value(other)
        for base, other in zip(samples[BASELINE], samples[loop])
        if base is not None and other is not None
    ]
    return statistics.median(pairs) if pairs else None


def table(rows: List[Benchmark], results: Dict[str, Dict[str, Samples]], loops: List[str]) -> List[List[str]]:
    """Cells, the first line being the titles."""
    titles = ["benchmark"]
    for loop in loops:
        titles.append(loop)
        if loop != BASELINE:
            titles.append("x")
    lines = [titles + ["reach"]]
    for row in rows:
        samples = results[row.name]
        cells = [row.label]
        for loop in loops:
            cells.append(_figure(row, samples.get(loop)))
            if loop != BASELINE:
                cells.append(_number(ratio(row, samples, loop), "{:.2f}"))
        aim = _number(row.reach, "{:g}") if row.at_most is None else "<= {:g}".format(row.at_most)
        lines.append(cells + [aim])
    return lines


def _figure(row: Benchmark, samples: Optional[Samples]) -> str:
    if samples is None:
        return "-"
    if not samples:
        return "skipped"
    figures = values(row, samples)
    if not figures:
        return "failed"
    form = "{:.2f} [{:.2f}..{:.2f}]" if row.metric == "memory" else "{:.0f} [{:.0f}..{:.0f}]"
    text = form.format(statistics.median(figures), min(figures), max(figures))
    if row.rate:
        seconds = statistics.median(sample["wall_ns"] for sample in samples if sample is not None) / 1e9
        text += " {:.4g}k/s".format(1e-3 / seconds)
    return text


def _number(value: Optional[float], form: str) -> str:
    return "-" if value is None else form.format(value)


def plain(lines: List[List[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines)]
    out = []
    for cells in lines:
        padded = [cells[0].ljust(widths[0])]
        padded += [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:])]
        out.append("  ".join(padded))
    return "\n".join(out)


def markdown(lines: List[List[str]]) -> str:
    rule = ["---"] + ["--:"] * (len(lines[0]) - 1)
    return "\n".join("| {} |".format(" | ".join(cells)) for cells in [lines[0], rule] + lines[1:])
