"""Runs one module of a suite in this process: python worker.py JOB.

JOB is a JSON file: the suite, the module, the loop (null for plain asyncio), patterns of the tests to run (null for
all), the tests to leave out, a time limit for each test, and the results file, with one JSON object per line. A test
that is started and not finished there killed the process.
"""

import faulthandler
import fnmatch
import gc
import importlib
import json
import os
import signal
import sys
import unittest

from test import support

ACCELERATED = os.environ.get("CLOOP_ACCELERATE") == "1"


def short_id(test, package):
    name = test.id()
    return name[len(package) + 1 :] if name.startswith(package + ".") else name


def flatten(suite):
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from flatten(test)
        else:
            yield test


def wanted(name, patterns):
    return patterns is None or any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def without_debug_mode():
    """Disables debug mode in IsolatedAsyncioTestCase, since every primitive is asyncio's there."""
    case = unittest.IsolatedAsyncioTestCase
    name = "_setupAsyncioRunner" if hasattr(case, "_setupAsyncioRunner") else "_setupAsyncioLoop"
    original = getattr(case, name)

    def set_up(self):
        original(self)
        runner = getattr(self, "_asyncioRunner", None)
        (self._asyncioTestLoop if runner is None else runner.get_loop()).set_debug(False)

    setattr(case, name, set_up)


class Recorder(unittest.TestResult):
    def __init__(self, results, package, limit, counter, batteries, collects):
        super().__init__()
        self.results = results
        self.package = package
        self.limit = limit
        self.counter = counter
        self.batteries = batteries
        self.collects = collects
        self.loops_seen = 0
        self.bodies_seen = 0
        self.record = None

    def write(self, record):
        self.results.write(json.dumps(record) + "\n")
        self.results.flush()

    def startTest(self, test):
        super().startTest(test)
        if self.collects:
            gc.collect()
        battery = isinstance(test, self.batteries)
        self.record = {"id": short_id(test, self.package), "outcome": "passed", "detail": "", "battery": battery}
        self.write({"started": self.record["id"]})
        faulthandler.dump_traceback_later(self.limit, exit=True)

    def stopTest(self, test):
        super().stopTest(test)
        faulthandler.cancel_dump_traceback_later()
        # Counted from the end of the last test: before 3.11 IsolatedAsyncioTestCase creates its loop before it starts
        # the test.
        loops = self.counter.value() if self.counter else 0
        seen, self.loops_seen = self.loops_seen, loops
        if self.record is None:  # 3.12.1 does not start a test of a class that is skipped
            return
        self.record["loops"] = loops - seen
        if ACCELERATED:
            bodies = importlib.import_module("cloop._cloop")._sync_made()
            self.record["bodies"], self.bodies_seen = bodies - self.bodies_seen, bodies
        self.write(self.record)
        self.record = None

    def note(self, test, outcome, detail):
        if self.record is None:  # a fixture of the class or the module
            self.write(
                {"id": short_id(test, self.package), "outcome": outcome, "detail": detail, "loops": 0, "fixture": True}
            )
        elif self.record["outcome"] == "failed":
            self.record["detail"] += "\n" + detail
        else:
            self.record.update(outcome=outcome, detail=detail)

    def addError(self, test, err):
        super().addError(test, err)
        self.note(test, "failed", self.errors[-1][1])

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.note(test, "failed", self.failures[-1][1])

    def addSubTest(self, test, subtest, err):
        if err is not None:
            detail = "%s\n%s" % (subtest._subDescription(), self._exc_info_to_string(err, test))
            self.note(test, "failed", detail)

    def addUnexpectedSuccess(self, test):
        self.note(test, "failed", "unexpected success")

    def addSkip(self, test, reason):
        if not hasattr(test, "test_case"):  # a skipped subtest skips nothing else
            self.note(test, "skipped", reason)


def main():
    with open(sys.argv[1]) as file:
        job = json.load(file)
    sys.path.append(job["root"])  # last, so that an installed cloop comes first
    suite = importlib.import_module(job["suite"])
    counter = suite.install(job["loop"])
    if ACCELERATED:
        without_debug_mode()
    support.verbose = 0
    signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell ignore it
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # and those of nohup
    name = "%s.%s" % (suite.PACKAGE, job["module"])
    tests = unittest.defaultTestLoader.loadTestsFromName(name)
    batteries = ()
    if counter is not None and name in sys.modules:  # not if its import was skipped
        batteries, more = suite.complete(sys.modules[name])
        tests.addTests(map(unittest.defaultTestLoader.loadTestsFromTestCase, more))
    chosen = []
    for test in flatten(tests):
        test_id = short_id(test, suite.PACKAGE)
        if suite.concerns(test, job["loop"]) and test_id not in job["leave_out"] and wanted(test_id, job["only"]):
            chosen.append(test)
    with open(job["results"], "a") as results:
        recorder = Recorder(results, suite.PACKAGE, job["limit"], counter, batteries, job["module"] in suite.COLLECTED)
        unittest.TestSuite(chosen).run(recorder)
        recorder.write({"finished": True})
    faulthandler.dump_traceback_later(
        job["limit"], exit=True
    )  # the end waits for threads that a failed test left behind


if __name__ == "__main__":
    main()
