"""What more loops at once cost, in Markdown: from the JSON of `python -m benchmarks --only 'threads_*,processes_*' --json OUT`.

python -m benchmarks.scaling FILE...
"""

from __future__ import annotations

import json
import statistics
import sys
from typing import Any, Dict, Iterator, List, Optional, Sequence

from benchmarks.report import markdown


def families(run: Dict[str, Any]) -> Dict[str, Dict[int, str]]:
    """The rows of each family of rows/scaling.py, by the number of loops."""
    found: Dict[str, Dict[int, str]] = {}
    for name, about in run["rows"].items():
        if about["family"] == "scaling":
            of, count = about["size"]
            found.setdefault(of, {})[count] = name
    return found


def ratio(first: Sequence[Any], second: Sequence[Any], key: str) -> Optional[float]:
    """The median over the rounds of the second divided by the first."""
    ratios = [b[key] / a[key] for a, b in zip(first, second) if a is not None and b is not None]
    return statistics.median(ratios) if ratios else None


def table(run: Dict[str, Any]) -> Iterator[List[str]]:
    yield ["row", "loop", "1 loop, ns", "loops", "ns", "cost", "throughput"]
    for of, rows in families(run).items():
        for loop in run["loops"]:
            one = run["samples"].get(rows.get(1), {}).get(loop) or []
            alone = [sample["cpu_ns"] for sample in one if sample is not None]
            for count in sorted(set(rows) - {1}):
                many = run["samples"][rows[count]].get(loop) or []
                cost, wall = ratio(one, many, "cpu_ns"), ratio(one, many, "wall_ns")
                if cost is None or wall is None:
                    continue
                together = statistics.median(sample["cpu_ns"] for sample in many if sample is not None)
                yield [
                    of, loop, "%.0f" % statistics.median(alone), str(count), "%.0f" % together, "%+.0f %%" % (100 * cost - 100),
                    "× %.2f" % (1 / wall),
                ]  # fmt: skip


def main(files: Sequence[str]) -> int:
    for file in files:
        with open(file) as source:
            for run in json.load(source):
                print("CPython {}\n".format(run["python"]["version"]))
                print(markdown(list(table(run))) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
