"""From what was measured to the tables that people read.

All of it is read from a run as the JSON has it, so that tables can be made again from the file.
"""

from __future__ import annotations

import datetime
import math
import os
import platform
import statistics
from typing import Any, Dict, Iterable, List, Optional

BASELINE = "uvloop"
#: A load generator that is busy for this part of the time may be what limits the throughput.
SATURATED = 0.9
#: With more loops than this, the cells have no room for the lowest and the highest.
ROOM = 5

#: {"machine": ..., "python": ..., "rows": {name: Benchmark.about()}, "samples": {name: {loop: rounds}}, ...}
Run = Dict[str, Any]


# ------------------------------------------------------------------- where it ran


def machine() -> Dict[str, Any]:
    """Where and when the figures are taken."""
    now = datetime.datetime.now(datetime.timezone.utc)
    return {
        "date": now.strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "system": "{} {}".format(platform.system(), platform.release()),
        "kernel": platform.version(),
        "architecture": platform.machine(),
        "governor": _first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "turbo": _turbo(),
        "load": round(os.getloadavg()[0], 2),
    }


#: Of the environment, what changes how something runs.
MATTERS = ("CLOOP_", "UVLOOP_", "RLOOP_", "PYTHON", "MALLOC_", "GLIBC_TUNABLES", "LD_", "OPENSSL_", "UV_")


def environment() -> Dict[str, str]:
    return {name: value for name, value in sorted(os.environ.items()) if name.startswith(MATTERS)}


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


def _first_line(path: str) -> str:
    try:
        with open(path) as file:
            return file.readline().strip()
    except OSError:
        return "unknown"  # most virtual machines do not tell


def _turbo() -> str:
    off = _first_line("/sys/devices/system/cpu/intel_pstate/no_turbo")
    on = _first_line("/sys/devices/system/cpu/cpufreq/boost")
    return {"0": "on", "1": "off"}.get(off) or {"0": "off", "1": "on"}.get(on, "unknown")


def header(run: Run) -> List[str]:
    python = run["python"]
    lines = [
        "{cpu}, {cores} cores, {system}, governor {governor}, load {load}, {date}".format(**run["machine"]),
        "{} {} ({}, {} build), {}, {}".format(
            python["implementation"],
            python["version"],
            python["compiler"],
            "optimized" if python["optimized"] else "plain",
            python["libc"],
            python["openssl"],
        ),
        "{}; rounds: {}".format(", ".join("{} {}".format(*item) for item in python["loops"].items()), run["rounds"]),
    ]
    if python.get("cloop"):
        lines.append("cloop: {compiler}, {flags}".format(**python["cloop"]))
    if run["environment"]:
        lines.append("environment: " + " ".join("{}={}".format(*item) for item in run["environment"].items()))
    return lines + [
        "Per operation: median [min..max] of the rounds, ns of CPU unless the row says otherwise.",
        "x: {} / this loop, median of the ratios within a round; more is better. reach: the x cloop aims at.".format(
            BASELINE
        ),
    ]


# ------------------------------------------------------------------------ figures


def value(row: Dict[str, Any], sample: Dict[str, Any]) -> float:
    """The figure of that row in what a worker measured."""
    if row["metric"] in ("cpu", "told"):
        return sample["cpu_ns"]
    if row["metric"] == "memory":
        return sample["kib"]
    if row["metric"] == "late":
        return sample["latency_ns"]["p50"] / 1000
    return sample["wall_ns"] / 1000 - row["ideal_us"]


def measured(samples: Optional[List[Any]]) -> List[Dict[str, Any]]:
    """The rounds that have a result."""
    return [sample for sample in samples or () if sample is not None]


def values(row: Dict[str, Any], samples: Optional[List[Any]]) -> List[float]:
    return [value(row, sample) for sample in measured(samples)]


def ratio(row: Dict[str, Any], samples: Dict[str, List[Any]], loop: str, base: str = BASELINE) -> Optional[float]:
    """How many times cheaper than the baseline, paired round by round."""
    # A latency has no meaningful ratio: the baseline's may be below zero.
    if row["metric"] in ("wall", "late") or base not in samples or loop not in samples:
        return None
    pairs = [
        value(row, other) / value(row, ours)
        for other, ours in zip(samples[base], samples[loop])
        if other is not None and ours is not None and value(row, ours) > 0
    ]
    return statistics.median(pairs) if pairs else None


def mean(ratios: Iterable[Optional[float]]) -> Optional[float]:
    """The geometric mean of those that there are."""
    logs = [math.log(each) for each in ratios if each is not None and each > 0]
    return math.exp(statistics.mean(logs)) if logs else None


# ------------------------------------------------------------------------- tables


def label(name: str, row: Dict[str, Any]) -> str:
    return name + {"cpu": "", "told": "", "wall": " (wall us)", "memory": " (KiB)", "late": " (us late)"}[row["metric"]]


def table(run: Run) -> List[List[str]]:
    """Cells, the first line being the titles: each row's figure and ratio for each loop."""
    rows, results, loops = run["rows"], run["samples"], run["loops"]
    titles = ["benchmark"]
    for loop in loops:
        titles.append(loop)
        if loop != BASELINE:
            titles.append("x")
    lines = [titles + ["reach"]]
    ratios: Dict[str, List[Optional[float]]] = {loop: [] for loop in loops}
    for name, row in rows.items():
        samples = results[name]
        cells = [label(name, row)]
        for loop in loops:
            cells.append(_figure(row, samples.get(loop), brief=len(loops) > ROOM))
            if loop != BASELINE:
                found = ratio(row, samples, loop)
                cells.append(_number(found, "{:.2f}"))
                if row["metric"] == "cpu":  # a mean of times and sizes means nothing
                    ratios[loop].append(found)
        aim = _number(row["reach"], "{:g}") if row["at_most"] is None else "<= {:g}".format(row["at_most"])
        lines.append(cells + [aim])
    if len(rows) > 1:
        last = ["geometric mean of CPU"]
        for loop in loops:
            last.append("")
            if loop != BASELINE:
                last.append(_number(mean(ratios[loop]), "{:.2f}"))
        lines.append(last + [""])
    return lines


def _figure(row: Dict[str, Any], samples: Optional[List[Any]], brief: bool) -> str:
    if samples is None:
        return "-"
    figures = values(row, samples)
    if not figures:
        return "n/a"
    one = "{:.2f}" if row["metric"] == "memory" else "{:.0f}"
    text = one.format(statistics.median(figures))
    if not brief:
        text += " [{}..{}]".format(one.format(min(figures)), one.format(max(figures)))
    return text


def _number(found: Optional[float], form: str) -> str:
    return "-" if found is None else form.format(found)


def under_load(run: Run) -> List[List[str]]:
    """Cells of the rows that a load generator drives, and of those about lateness; no line but the titles if none is."""
    lines = [["benchmark", "loop", "CPU us", "x", "k/s", "p50 us", "p99", "p99.9", "max", "load %"]]
    for name, row in run["rows"].items():
        shown = name
        for loop in run["loops"]:
            samples = run["samples"][name]
            taken = measured(samples.get(loop))
            told = [sample["latency_ns"] for sample in taken if "latency_ns" in sample]
            loads = [sample["load"] for sample in taken if "load" in sample]
            if not told and not loads:
                continue
            cells = [shown, loop]
            if row["metric"] == "cpu":
                cells.append("{:.2f}".format(statistics.median(values(row, taken)) / 1000))
                cells.append(_number(ratio(row, samples, loop), "{:.2f}"))
                cells.append("{:.4g}".format(1e6 / statistics.median(sample["wall_ns"] for sample in taken)))
            else:
                cells += ["-"] * 3
            for percentile in ("p50", "p99", "p99.9", "max"):
                of_rounds = [each[percentile] for each in told]
                middle = max if percentile == "max" else statistics.median
                cells.append("{:.0f}".format(middle(of_rounds) / 1000) if of_rounds else "-")
            share = statistics.median(loads) if loads else None
            mark = "" if share is None or share < SATURATED else " !"
            lines.append(cells + ["-" if share is None else "{:.0f}{}".format(100 * share, mark)])
            shown = ""
    return lines


def notes(run: Run) -> List[str]:
    """Why figures are missing, and what the marks mean."""
    lines = []
    for loop, reason in run["python"]["absent"].items():
        lines.append("{} is not measured: {}".format(loop, reason))
    for name, reasons in run["reasons"].items():
        grouped: Dict[str, List[str]] = {}
        for loop, reason in reasons.items():
            some = " in some rounds" if measured(run["samples"].get(name, {}).get(loop)) else ""
            grouped.setdefault(reason + some, []).append(loop)
        for reason, loops in grouped.items():
            lines.append("{}, {}: {}".format(name, ", ".join(loops), reason))
    loads = [
        sample["load"]
        for loops in run["samples"].values()
        for samples in loops.values()
        for sample in measured(samples)
        if "load" in sample
    ]
    if loads and max(loads) >= SATURATED:
        lines.append(
            "!: the load generator had no rest: it, and not the loop, may be what limits k/s; the CPU time holds."
        )
    return lines


def plain(lines: List[List[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines)]
    out = []
    for cells in lines:
        padded = [cells[0].ljust(widths[0])]
        padded += [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:])]
        out.append("  ".join(padded).rstrip())
    return "\n".join(out)


def markdown(lines: List[List[str]]) -> str:
    rule = ["---"] + ["--:"] * (len(lines[0]) - 1)
    return "\n".join("| {} |".format(" | ".join(cells)) for cells in [lines[0], rule] + lines[1:])


def whole(run: Run, as_markdown: bool = False) -> str:
    """Everything about a run: where it was made, the table, the one of the rows under load, and notes."""
    form = markdown if as_markdown else plain
    parts = ["\n".join(line + "  " if as_markdown else line for line in header(run)), form(table(run))]
    loaded = under_load(run)
    if len(loaded) > 1:
        parts += [
            "Under load: CPU per operation, operations a second, latency of an exchange, and the generator's own share of"
            " a core.",
            form(loaded),
        ]
    if notes(run):
        parts.append("\n".join(("- " if as_markdown else "") + line for line in notes(run)))
    return "\n\n".join(parts)
