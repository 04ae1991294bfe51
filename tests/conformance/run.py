"""Runs this Python's own asyncio tests, or uvloop's, on another event loop.

    python tests/conformance/run.py [--suite uvloop] [--loop cloop|uvloop|asyncio] [--accelerate] [--module test_events ...]

Each module runs in its own process. A test that fails runs once more on plain asyncio: if it fails there too, the
machine is at fault, not the loop.
"""

import argparse
import concurrent.futures
import fnmatch
import importlib
import json
import os
import platform
import signal
import sys

import judge
import process

COLUMNS = (
    ("passed", "passed"),
    ("failed", "failed"),
    ("not_applicable", "not applicable"),
    ("no_loop", "nothing of ours"),
    ("environment", "fails on asyncio too"),
    ("skipped", "skipped"),
)


def modules(suite):
    """The modules of a suite that are about a loop on Unix, the slow ones last."""
    names = [name[:-3] for name in os.listdir(suite.folder()) if fnmatch.fnmatch(name, "test_*.py")]
    names = [name for name in names if name not in suite.listed.MODULES]
    return sorted(names, key=lambda name: (suite.LAST.index(name) if name in suite.LAST else -1, name))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", choices=("cpython", "uvloop"), default="cpython", help="whose tests")
    parser.add_argument("--loop", choices=("cloop", "uvloop", "asyncio"), default="cloop")
    parser.add_argument("--accelerate", action="store_true", help="with cloop.accelerate() in effect")
    parser.add_argument("--module", action="append", help="run this module alone (may be repeated)")
    parser.add_argument("--test", metavar="PATTERN", help="run the tests whose module.Class.test matches")
    parser.add_argument("--json", metavar="OUT", help="write every test's outcome to this file")
    parser.add_argument("-j", type=int, default=1, metavar="N", help="modules at a time (default 1)")
    parser.add_argument("-v", action="store_true", help="print whole tracebacks, and every test not passed")
    parser.add_argument("--test-limit", type=float, default=120, metavar="SECONDS", help="for one test (default 120)")
    parser.add_argument("--module-limit", type=float, default=1200, metavar="SECONDS", help="default 1200")
    return parser.parse_args()


def row(name, cells, seconds):
    columns = ["%*s" % (len(title) + 2, cell) for (_, title), cell in zip(COLUMNS, cells)]
    return "%-24s" % name + "".join(columns) + seconds


def print_failure(verdict, verbose):
    lines = verdict.detail.strip().splitlines() or [""]
    where = "" if verdict.loops or verdict.battery else "  (made nothing of ours)"
    print("  FAILED %s%s" % (verdict.id, where))
    for line in lines if verbose else lines[-2:]:
        print("      " + line)


def print_module(module, verdicts, seconds, verbose):
    counts = judge.count(verdicts)
    print(row(module, [counts[key] for key, _ in COLUMNS], "%8.1f s" % seconds))
    for verdict in verdicts:
        if verdict.outcome == "failed":
            print_failure(verdict, verbose)
        elif verdict.outcome == "environment" or (verbose and verdict.outcome in ("not_applicable", "skipped")):
            print("  %s %s: %s" % (verdict.outcome, verdict.id, (verdict.detail.strip().splitlines() or [""])[-1]))
    sys.stdout.flush()


def print_batteries(everything, expected):
    """Print how many tests used cloop's futures and tasks; return whether the expected modules did."""
    counts = {name: judge.battery(verdicts) for name, verdicts in everything.items()}
    if any(counts.values()):
        print("%d ran on cloop.Future and cloop.Task in place of asyncio's classes in C" % sum(counts.values()))
    missing = [name for name in expected if counts.get(name) == 0]
    for name in missing:
        print("FAILED %s: no test ran on cloop.Future and cloop.Task" % name)
    return not missing


def main():
    options = arguments()
    suite = importlib.import_module(options.suite + "_suite")
    why_not = suite.prepare()
    if why_not is not None:
        print("skipped: %s: %s" % (sys.executable, why_not))
        return 0
    chosen = options.module or modules(suite)
    sys.path.append(process.ROOT)
    try:
        importlib.import_module(options.loop)
    except ImportError as error:
        print("%s cannot import %s: %s" % (sys.executable, options.loop, error))
        return 1
    if options.accelerate:
        os.environ["CLOOP_ACCELERATE"] = "1"  # for the modules' processes
    on = (suite.PACKAGE, platform.python_implementation(), platform.python_version(), options.loop)
    print("%s on %s %s, loop %s" % on + (", accelerated" if options.accelerate else ""))
    print(row("module", [title for _, title in COLUMNS], ""))
    limits = process.Limits(options.test_limit, options.module_limit)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    everything = {}
    with concurrent.futures.ThreadPoolExecutor(options.j) as pool:
        runs = [(name, pool.submit(judge.module, suite, name, options.loop, options.test, limits)) for name in chosen]
        try:
            for name, run in runs:
                verdicts, seconds = run.result()
                everything[name] = verdicts
                print_module(name, verdicts, seconds, options.v)
        except BaseException:
            for _, run in runs:
                run.cancel()
            process.stop()
            raise
    every = [verdict for verdicts in everything.values() for verdict in verdicts]
    totals = judge.count(every)
    print(row("total", [totals[key] for key, _ in COLUMNS], ""))
    if options.test is None and options.loop == "cloop":
        for entry in judge.stale(suite.listed.ENTRIES, every, chosen):
            print("listed, but no such test in this version: %s" % entry.pattern)
    complete = True
    if options.test is None and options.loop == "cloop" and os.environ.get("CLOOP_TASKS") != "stock":
        complete = print_batteries(everything, suite.BATTERIES)
    if options.accelerate:
        print("%d called primitives whose bodies are in C" % judge.accelerated(every))
    if totals["failed"]:
        print("%d different tests failed; many run in several classes" % judge.failed_by_name(every))
    if options.json:
        with open(options.json, "w") as file:
            json.dump(judge.as_json(options.loop, everything), file, indent=1)
    skipped = totals["skipped"] + totals["not_applicable"] + totals["environment"]
    passed = totals["passed"] + totals["no_loop"]
    print("%d passed, %d failed, %d skipped" % (passed, totals["failed"], skipped))
    return 0 if complete and not totals["failed"] else 1


if __name__ == "__main__":
    sys.exit(main())
