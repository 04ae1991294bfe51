"""Decides what each test's outcome says about the loop."""

import fnmatch
import platform
import time
from collections import Counter, namedtuple

import not_applicable
import process

Verdict = namedtuple("Verdict", "id outcome detail loops battery")


def verdict(record, loop, environment):
    """The verdict on one record, where environment is the set of tests that fail on asyncio too."""
    test_id, outcome, detail = record["id"], record["outcome"], record["detail"]
    battery = record.get("battery", False)
    entry = not_applicable.find(test_id) if loop != "asyncio" else None
    if outcome == "failed":
        if entry is not None:
            outcome, detail = "not_applicable", entry.reason
        elif test_id in environment:
            outcome = "environment"
    elif outcome == "passed":
        if entry is not None and loop == "cloop" and not not_applicable.whole_class(entry):
            outcome, detail = "failed", "listed as not applicable, but passes"
        elif not record["loops"] and not battery:
            outcome = "no_loop"
    return Verdict(test_id, outcome, detail, record["loops"], battery)


def fail_on_asyncio(name, records, loop, limits):
    """Runs the tests that failed again on asyncio as it comes; returns those that fail there too."""
    failed = [record["id"] for record in records if record["outcome"] == "failed" and "fixture" not in record]
    if loop != "asyncio":
        failed = [test_id for test_id in failed if not_applicable.find(test_id) is None]
    if not failed:
        return set()
    again = process.run(name, None, limits, only=failed)
    return {record["id"] for record in again if record["outcome"] == "failed"}


def module(name, loop, pattern, limits):
    """Runs a module on a loop; returns the verdicts and how long the run took."""
    start = time.monotonic()
    records = process.run(name, loop, limits, None if pattern is None else [pattern])
    seconds = time.monotonic() - start
    environment = fail_on_asyncio(name, records, loop, limits)
    return [verdict(record, loop, environment) for record in records], seconds


def count(verdicts):
    return Counter(verdict.outcome for verdict in verdicts)


def battery(verdicts):
    """How many tests ran on our classes of futures and tasks."""
    return sum(verdict.battery and verdict.outcome != "skipped" for verdict in verdicts)


def stale(verdicts, modules):
    """The entries that list a test of these modules which this version does not have."""
    for entry in not_applicable.here():
        if entry.pattern.split(".")[0] in modules:
            if not any(fnmatch.fnmatchcase(verdict.id, entry.pattern) for verdict in verdicts):
                yield entry


def as_json(loop, everything):
    return {
        "python": platform.python_version(),
        "loop": loop,
        "modules": {
            name: {
                "counts": dict(count(verdicts)),
                "tests": {v.id: {"outcome": v.outcome, "detail": v.detail} for v in verdicts},
            }
            for name, verdicts in everything.items()
        },
    }
