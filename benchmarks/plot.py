"""Draws what `python -m benchmarks --json FILE` has written, in SVG.

    python -m benchmarks.plot FILE.json... [--out DIRECTORY] [--bars docs/speed.svg]

For each Python: speed-3.11.svg, bars for the ten rows of the README, and size-3.11.svg, what one operation costs while
ten times as many others are pending, and again. --bars names a file for the bars of the first Python.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from benchmarks.report import Run, values
from benchmarks.tables import TEN, amount, read

COLOURS = {"cloop": "#2a7f62", "uvloop": "#8d99ae", "asyncio": "#c3c8d1"}
MORE = ("#c8553d", "#588b8b", "#f28f3b", "#6d597a", "#355070", "#b56576", "#9a8c98", "#4a4e69", "#bc6c25")
BARS = ("cloop", "uvloop", "asyncio")
#: Fewer points than this are no curve.
POINTS = 3


def pyplot() -> Any:
    try:
        import matplotlib
    except ImportError:
        raise SystemExit("plots need matplotlib: pip install matplotlib") from None
    matplotlib.use("svg")
    # The same figures give the same file.
    matplotlib.rcParams.update({"svg.hashsalt": "cloop", "svg.fonttype": "none", "font.family": "sans-serif"})
    from matplotlib import pyplot

    return pyplot


def version(run: Run) -> str:
    return ".".join(run["python"]["version"].split(".")[:2])


def colour(loops: List[str], loop: str) -> str:
    others = [each for each in loops if each not in COLOURS]
    return COLOURS.get(loop) or MORE[others.index(loop) % len(MORE)]


def medians(run: Run, name: str) -> Dict[str, float]:
    """Each loop's figure in that row."""
    row = run["rows"].get(name)
    found = {loop: values(row, run["samples"][name].get(loop)) for loop in run["loops"]} if row else {}
    return {loop: statistics.median(figures) for loop, figures in found.items() if figures}


def save(figure: Any, path: Path, title: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(str(path), format="svg", metadata={"Date": None, "Title": title, "Creator": None})
    pyplot().close(figure)


def bars(run: Run, path: Path) -> bool:
    """The rows of the README, each as a share of its dearest loop. Whether there are any."""
    rows = [(title, run["rows"][name], medians(run, name)) for name, title in TEN.items() if medians(run, name)]
    if not rows:
        return False
    loops = [loop for loop in BARS if any(loop in costs for _, _, costs in rows)]
    figure, axes = pyplot().subplots(figsize=(7.6, 0.3 + 0.52 * len(rows)), constrained_layout=True)
    height = 0.8 / len(loops)
    for place, loop in enumerate(loops):
        for line, (_, row, costs) in enumerate(rows):
            if loop in costs:
                share = costs[loop] / max(costs[each] for each in loops if each in costs)
                y = line + (place - (len(loops) - 1) / 2) * height
                label = loop if line == 0 else None
                axes.barh(y, share, height * 0.92, color=COLOURS[loop], label=label)
                axes.text(share + 0.01, y, amount(row, costs[loop]), va="center", fontsize=7, color="#444444")
    axes.set_yticks(range(len(rows)))
    axes.set_yticklabels([title for title, _, _ in rows])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.12)
    axes.xaxis.set_visible(False)
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)
    axes.legend(loc="lower center", bbox_to_anchor=(0.4, 1), ncol=len(loops), frameon=False)
    save(
        figure, path, "Processor time of one operation on Python {}; shorter is better".format(run["python"]["version"])
    )
    return True


def curves(run: Run) -> Dict[str, Dict[str, List[Tuple[int, float]]]]:
    """By what the sizes are of, and by loop: sizes and figures in ns."""
    found: Dict[str, Dict[str, List[Tuple[int, float]]]] = {}
    for name, row in run["rows"].items():
        if row["size"]:
            of, size = row["size"]
            for loop, figure in medians(run, name).items():
                found.setdefault(of, {}).setdefault(loop, []).append((size, figure))
    for of in list(found):
        found[of] = {loop: sorted(points) for loop, points in found[of].items() if len(points) >= POINTS}
        if not found[of]:
            del found[of]
    return found


def sizes(run: Run, path: Path) -> bool:
    """Cost against size, on logarithmic axes. Whether there is any."""
    found = curves(run)
    if not found:
        return False
    columns = min(2, len(found))
    lines = -(-len(found) // columns)
    figure, all_axes = pyplot().subplots(
        lines, columns, figsize=(4.2 * columns, 3.2 * lines), squeeze=False, constrained_layout=True
    )
    flat = [axes for line in all_axes for axes in line]
    for axes, (of, by_loop) in zip(flat, found.items()):
        for loop, points in by_loop.items():
            x, y = zip(*points)
            axes.plot(x, y, marker="o", markersize=3, color=colour(run["loops"], loop), label=loop)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.tick_params(axis="x", which="minor", bottom=False)
        axes.set_title(of, fontsize=10)
        axes.set_xlabel("how many", fontsize=8)
        axes.set_ylabel("ns of CPU per operation", fontsize=8)
        axes.grid(True, alpha=0.25)
        axes.legend(fontsize=7, frameon=False)
    for axes in flat[len(found) :]:
        axes.set_visible(False)
    save(figure, path, "Cost of one operation against size on Python {}".format(run["python"]["version"]))
    return True


def main(argv: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.plot", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", metavar="FILE.json")
    parser.add_argument("--out", type=Path, metavar="DIRECTORY", default=Path("."), help="where they go (%(default)s)")
    parser.add_argument("--bars", type=Path, metavar="FILE.svg", help="draw the bars of the first Python there, too")
    args = parser.parse_args(argv)
    runs = read(args.files)
    drawn = []
    for run in runs:
        for draw, name in ((bars, "speed"), (sizes, "size")):
            path = args.out / "{}-{}.svg".format(name, version(run))
            if draw(run, path):
                drawn.append(path)
    if args.bars and bars(runs[0], args.bars):
        drawn.append(args.bars)
    print("\n".join(map(str, drawn)) or "nothing to draw: none of the ten rows, and no row of three sizes")
    return 0 if drawn else 1


if __name__ == "__main__":
    sys.exit(main())
