"""Runs the workers, interleaved, and collects what they print."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from benchmarks import servers
from benchmarks.registry import Benchmark, Skip

ROOT = Path(__file__).resolve().parent.parent
# A healthy worker takes about a second; one that hangs must not hold the table.
WORKER_SECONDS = 120
#: A loop that fails a row so often is not asked again.
FAILURES = 2

#: What each round measured, None where its worker failed; empty if skipped.
Samples = List[Optional[Dict[str, Any]]]


class WorkerError(Exception):
    """A child process failed; the message is the last line it wrote."""


class WorkerHangs(WorkerError):
    """It had to be killed."""


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
        raise WorkerHangs("no result within {} s".format(WORKER_SECONDS)) from None
    except OSError as exc:
        raise WorkerError(str(exc)) from None
    if child.returncode != 0:
        lines = child.stderr.strip().splitlines()
        raise WorkerError("{} ({})".format(lines[-1] if lines else "silent", _status(child.returncode)))
    try:
        return json.loads(child.stdout)
    except ValueError:
        raise WorkerError("it printed something else than its result") from None


def _status(code: int) -> str:
    if code < 0:
        try:
            return "killed by " + signal.Signals(-code).name
        except ValueError:
            pass
    return "exit status {}".format(code)


def run_row(python: str, row: Benchmark, loops: List[str], rounds: int) -> Tuple[Dict[str, Samples], Dict[str, str]]:
    """Each loop's samples, and why a loop has none or not all of them.

    Samples with the same index were taken side by side.
    """
    try:
        # Started once for all of them, whose environment says where it is.
        with servers.beside(row.beside):
            return _run_row(python, row, loops, rounds)
    except Skip as exc:
        print("skipped: {}: {}".format(row.name, exc), file=sys.stderr)
        return {loop: [] for loop in loops}, {loop: str(exc) for loop in loops}


def _run_row(python: str, row: Benchmark, loops: List[str], rounds: int) -> Tuple[Dict[str, Samples], Dict[str, str]]:
    samples: Dict[str, Samples] = {loop: [] for loop in loops}
    reasons: Dict[str, str] = {}
    given_up = set()
    for turn in range(rounds):
        # Nobody is always first after an idle moment, or last on a hot core.
        first = turn % len(loops)
        for loop in loops[first:] + loops[:first]:
            if loop in given_up:
                continue
            try:
                sample = call(python, "benchmarks.worker", row.name, loop)
            except WorkerError as exc:
                reasons[loop] = "failed: {}".format(exc)
                print("{} on {}: {}".format(row.name, loop, reasons[loop]), file=sys.stderr)
                samples[loop].append(None)
                if isinstance(exc, WorkerHangs) or samples[loop].count(None) >= FAILURES:
                    given_up.add(loop)
                continue
            if "skipped" in sample:
                given_up.add(loop)
                reasons[loop] = sample["skipped"]
                print("skipped: {} on {}: {}".format(row.name, loop, reasons[loop]), file=sys.stderr)
            else:
                samples[loop].append(sample)
    return samples, reasons
