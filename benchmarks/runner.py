"""Runs the workers, interleaved, and collects what they print."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional

from benchmarks.registry import Benchmark

ROOT = Path(__file__).resolve().parent.parent
# A healthy worker takes about a second; one that hangs must not hold the table.
WORKER_SECONDS = 120

#: What each round measured, None where its worker failed; empty if skipped.
Samples = List[Optional[Dict[str, float]]]


class WorkerError(Exception):
    """A child process failed; the message is the last line it wrote."""


def call(python: str, module: str, *args: str) -> Any:
    """What `python -m module args` prints in JSON."""
    command = [python, "-m", module, *args]
    # The caller's debug mode would be measured instead of the loop.
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONASYNCIODEBUG", "PYTHONDEVMODE")}
    try:
        child = subprocess.run(
            command,
            cwd=str(ROOT),
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            universal_newlines=True,
            timeout=WORKER_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise WorkerError("no result within {} s".format(WORKER_SECONDS)) from None
    except OSError as exc:
        raise WorkerError(str(exc)) from None
    if child.returncode != 0:
        lines = child.stderr.strip().splitlines()
        status = "exit status {}".format(child.returncode)
        raise WorkerError("{} ({})".format(lines[-1] if lines else "silent", status))
    return json.loads(child.stdout)


def run_row(python: str, row: Benchmark, loops: List[str], rounds: int) -> Dict[str, Samples]:
    """Each loop's samples; those with the same index were taken side by side."""
    samples: Dict[str, Samples] = {loop: [] for loop in loops}
    skipped = set()
    for turn in range(rounds):
        # Nobody is always first after an idle moment, or last on a hot core.
        first = turn % len(loops)
        for loop in loops[first:] + loops[:first]:
            if loop in skipped:
                continue
            try:
                sample = call(python, "benchmarks.worker", row.name, loop)
            except WorkerError as exc:
                sample = None
                print("failed: {} on {}: {}".format(row.name, loop, exc), file=sys.stderr)
            if sample and "skipped" in sample:
                skipped.add(loop)
                print("skipped: {} on {}: {}".format(row.name, loop, sample["skipped"]), file=sys.stderr)
            else:
                samples[loop].append(sample)
    return samples
