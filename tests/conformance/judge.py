"""Decides what each test's outcome says about the loop."""

import fnmatch
import platform
import time
from collections import Counter, namedtuple

import listing
import process

Verdict = namedtuple("Verdict", "id outcome detail loops battery bodies", defaults=(0,))


def excused(suite, loop):
    """The entries that apply to a loop; asyncio has no excuses."""
    if loop == "asyncio":
        return []
    return suite.listed.ENTRIES + (suite.listed.OF_ASYNCIOS_LOOP if loop != "cloop" else [])


def verdict(record, loop, entries, environment):
    """The verdict on one record, given the excused tests and those that fail on asyncio too."""
    test_id, outcome, detail = record["id"], record["outcome"], record["detail"]
    battery = record.get("battery", False)
    entry = listing.find(entries, test_id)
    if outcome == "failed":
        if entry is not None:
            outcome, detail = "not_applicable", entry.reason
        elif test_id in environment:
            outcome = "environment"
    elif outcome == "passed":
        if entry is not None and loop == "cloop" and not listing.whole_class(entry):
            outcome, detail = "failed", "listed as not applicable, but passes"
        elif not record["loops"] and not battery:
            outcome = "no_loop"
    return Verdict(test_id, outcome, detail, record["loops"], battery, record.get("bodies", 0))


def fail_on_asyncio(suite, name, records, entries, limits):
    """Runs failed tests again on plain asyncio; returns those that fail there too."""
    failed = [record["id"] for record in records if record["outcome"] == "failed" and "fixture" not in record]
    failed = [test_id for test_id in failed if listing.find(entries, test_id) is None]
    if not failed:
        return set()
    again = process.run(suite, name, None, limits, only=[suite.on_asyncio(test_id) for test_id in failed])
    fail_there = {record["id"] for record in again if record["outcome"] == "failed"}
    return {test_id for test_id in failed if suite.on_asyncio(test_id) in fail_there}


def module(suite, name, loop, pattern, limits):
    """Runs a module of a suite on a loop; returns the verdicts and the duration."""
    start = time.monotonic()
    records = process.run(suite, name, loop, limits, None if pattern is None else [pattern])
    seconds = time.monotonic() - start
    entries = excused(suite, loop)
    environment = fail_on_asyncio(suite, name, records, entries, limits)
    return [verdict(record, loop, entries, environment) for record in records], seconds


def count(verdicts):
    return Counter(verdict.outcome for verdict in verdicts)


def failed_by_name(verdicts):
    """How many tests failed, counting a test that runs in several classes once."""
    return len({tuple(v.id.split(".")[::2]) for v in verdicts if v.outcome == "failed"})


def battery(verdicts):
    """How many tests ran with our classes of futures and tasks."""
    return sum(verdict.battery and verdict.outcome != "skipped" for verdict in verdicts)


def accelerated(verdicts):
    """How many tests called accelerated primitives."""
    return sum(verdict.bodies > 0 for verdict in verdicts)


def stale(entries, verdicts, modules):
    """Entries for tests of these modules that this version does not have."""
    for entry in listing.here(entries):
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
