"""A plugin of pytest for mutation.py: `-p visits`, with this folder on PYTHONPATH.

CLOOP_VISITS_ROOT  writes for each test how long it took, how it ended, and which blocks of the C code ran: visits.c, in
                   the extension. Processes of the test count, as long as they have its environment.
CLOOP_CHOSEN       a file with the ids of tests, one a line: only these run, in this order
"""

import mmap
import os
import pickle
import time
import zlib

import pytest

ROOT = os.environ.get("CLOOP_VISITS_ROOT")
if ROOT:
    # Before the extension is imported, which reads this. Each process of pytest has a folder, for itself and its children.
    FOLDER = os.environ["CLOOP_VISITS"] = os.path.join(ROOT, str(os.getpid()))
    os.makedirs(FOLDER, exist_ok=True)


class Recorder:
    def __init__(self):
        self.own, self.outcome = None, None
        self.log = open(os.path.join(ROOT, "%d.tests" % os.getpid()), "ab")

    def write(self, test, seconds, visited):
        pickle.dump((test, seconds, self.outcome, zlib.compress(bytes(visited), 1)), self.log)
        self.log.flush()

    def begin(self):
        path = os.path.join(FOLDER, str(os.getpid()))
        if self.own is None and os.path.exists(path):
            with open(path, "r+b") as file:
                self.own = mmap.mmap(file.fileno(), 0)
            self.write("", 0, self.own)  # what importing runs
        self.outcome = "passed"
        if self.own is not None:
            self.own[:] = bytes(len(self.own))

    def end(self, test, seconds):
        if self.own is None:
            return
        visited = int.from_bytes(self.own, "little")
        for name in os.listdir(FOLDER):  # of processes that the test started
            path = os.path.join(FOLDER, name)
            if name != str(os.getpid()) and os.path.isfile(path):
                with open(path, "rb") as file:
                    visited |= int.from_bytes(file.read(), "little")
                os.unlink(path)
        self.write(test, seconds, visited.to_bytes(len(self.own), "little"))

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item):
        self.begin()
        began = time.monotonic()
        yield
        self.end(item.nodeid, time.monotonic() - began)

    def pytest_runtest_logreport(self, report):
        if report.outcome != "passed":
            self.outcome = report.outcome


class Chooser:
    def __init__(self, path):
        with open(path) as file:
            self.chosen = {line: number for number, line in enumerate(file.read().split("\n"))}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items):
        items[:] = sorted(
            (item for item in items if item.nodeid in self.chosen), key=lambda item: self.chosen[item.nodeid]
        )


def pytest_configure(config):
    if ROOT:
        config.pluginmanager.register(Recorder())
    if os.environ.get("CLOOP_CHOSEN"):
        config.pluginmanager.register(Chooser(os.environ["CLOOP_CHOSEN"]))
