"""Makes each allocation and each system call of the C code fail once, wherever a test reaches it.

    PYTHONPATH=... python tests/places.py [--jobs 2] [--seconds 900] tests/net ...

It needs a stress or a coverage build (csrc/base/stress.h), and a compiler, for the library by which calls fail
(tests/isolated/faults.c). First each test runs once as it is, while the places that it reaches are noted. A place is a line and the
caller of its function; or a call further up, since each handles the failure, or passes it on. Then the test that reaches most new
places in its time runs again and again: in each run the first allocation fails that is at a place where none has failed before,
until the test has no such place; then the next test. What one test did is not done again in another, nor in another process.

So it goes for each of these, until the time is over. What comes first is what has most new places in its time, of which some count
for more than others:

- an allocation fails, or a call of Python;
- a system call fails, with each error that it can give;
- three allocations in a row, so that what handles a failure fails, too;
- an allocation of an object collects garbage instead, and Python code that runs meanwhile cancels all that it can find, or closes
  all transports, or the loop;
- the first and the third again, where two calls are a place of which one has made the other. These are many, for the rest of the time.

What becomes of a test then is not reported: its assertions do not expect that. But no process may die of it, no SystemError
may be raised, which is for C code that returns wrongly, and each function has to release what it has. `make coverage` counts the
lines that only this reaches.

The processes run pytest with this file as a plugin. It can also be used alone, without system calls: `pytest -p places tests/net`;
CLOOP_PLACES_SECONDS says how long that may take. With --folder, a run goes on where the one before has stopped.
"""

import argparse
import asyncio
import contextlib
import ctypes
import gc
import glob
import heapq
import importlib
import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time

import pytest
from _pytest.runner import runtestprotocol

RUNS = 300  # of a test at a time, at most
LIMIT_S = 20  # for these
RECORD_S = 3  # for the run in which nothing fails: what a test reaches later does not count
# How long a run may take: so many times as long as the test, within these bounds, or twice.
LEAST_S, MOST_S, TIMES = 0.3, 2, 10
SAVE_S = 30
OTHER_PROCESSES = {"script", "python", "example", "served"}  # fixtures of tests whose cloop is not in this process
HERE = os.path.dirname(os.path.abspath(__file__))
FOLDER = os.environ.get("CLOOP_PLACES_FOLDER")  # of the program that started this process, with what all of them share
PART = os.environ.get("CLOOP_PLACES_PART", "0/1")  # of the files


class TookTooLong(BaseException):
    """A test waits for what will not come."""


class Alarm:
    """Raises TookTooLong again and again in what it surrounds, once that takes too long; and nowhere else."""

    def __init__(self, patience):
        self.armed, self.patience = False, patience

    def ring(self, number, frame):
        if self.armed:
            raise TookTooLong

    def __enter__(self):
        self.before = signal.signal(signal.SIGALRM, self.ring)
        self.armed = True
        signal.setitimer(signal.ITIMER_REAL, self.patience, max(self.patience / 2, LEAST_S))

    def __exit__(self, *error):
        try:
            self.armed = False
        except TookTooLong:
            self.armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self.before)


class Reached:
    """What one run of a test has reached, and how long it took."""

    def __init__(self, seconds, allocations, objects, calls):
        self.seconds, self.allocations, self.objects, self.calls = seconds, allocations, objects, calls


class Allocations:
    """One that fails, or several in a row."""

    def __init__(self, count=1, pairs=False):
        self.module = importlib.import_module("cloop._cloop")
        self.count, self.pairs = count, pairs
        self.name = "%d allocations%s" % (count, ", pairs" if pairs else "")

    def arm(self):
        self.module._stress(place=True, lasting=self.count, pairs=self.pairs)

    def disarm(self):
        self.module._stress()

    def places(self):
        return self.module._stress_places()

    def left(self, reached):
        return len(self.module._stress_left(reached.allocations, self.pairs, self.count > 1, 0))


class Calls:
    """Those of the preloaded library."""

    name = "calls"

    def __init__(self, library, faults):
        self.library = library
        self.kinds = faults.injection.EVERY_CALL  # but for allocations
        library.faults_places.restype = ctypes.c_long
        library.faults_place.argtypes = library.faults_record.argtypes = [ctypes.c_uint]
        library.faults_reached.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        library.faults_reached.restype = ctypes.c_size_t
        library.faults_left.argtypes = [ctypes.c_size_t]
        library.faults_left.restype = ctypes.c_bool
        self.names = [name.encode() for name in faults.ERRORS]  # which the library keeps
        for name in self.names:
            errors = faults.errors_of(name.decode())
            library.faults_errors(ctypes.c_char_p(name), (ctypes.c_int * len(errors))(*errors), len(errors))

    def arm(self):
        self.library.faults_place(self.kinds)

    def disarm(self):
        self.library.faults_place(0)

    def places(self):
        return self.library.faults_places()

    def record(self):
        self.library.faults_record(self.kinds)

    def reached(self):
        found = (ctypes.c_size_t * 10000)()
        return found[: self.library.faults_reached(found, len(found))]

    def left(self, reached):
        return sum(map(self.library.faults_left, reached.calls))


def find(module, kinds):
    return [each for each in gc.get_objects() if isinstance(each, kinds)]


def cancel_all(module):
    kinds = asyncio.Future, module.Future, asyncio.Handle, module.Handle
    for each in find(module, kinds):
        each.cancel()


def close_transports(module):
    """Those that protocols were told of: the collector also knows some that are only being made."""
    for each in find(module, asyncio.BaseProtocol):
        for name in "transport", "_transport":
            transport = getattr(each, name, None)
            if isinstance(transport, asyncio.BaseTransport):
                transport.abort() if hasattr(transport, "abort") else transport.close()


def close_loops(module):
    for loop in module._open_loops():
        loop.stop() if loop.is_running() else loop.close()


ACTS = [cancel_all, close_transports, close_loops]


class Collections:
    """Those that an allocation makes; an act has places of its own."""

    def __init__(self, round):
        self.module = importlib.import_module("cloop._cloop")
        self.round, self.armed = round, False
        self.name = "collections, %s" % ACTS[round].__name__

    def arm(self):
        self.armed = True
        gc.callbacks.append(self.collected)
        self.module._stress(round=self.round + 1)

    def disarm(self):
        self.module._stress()
        gc.callbacks.remove(self.collected)

    def places(self):
        return self.module._stress_places()

    def left(self, reached):
        return len(self.module._stress_left(reached.objects, False, False, self.round + 1))

    def collected(self, phase, info):
        if phase == "stop" and info["generation"] == 2 and self.armed:
            self.armed = False
            try:
                ACTS[self.round](self.module)
            except Exception:
                pass


class Recorder:
    """Nothing fails, and what is reached is noted."""

    def __init__(self, calls):
        self.module = importlib.import_module("cloop._cloop")
        self.calls = calls

    def arm(self):
        self.module._stress(record=True)
        if self.calls is not None:
            self.calls.record()
        self.began = time.monotonic()

    def disarm(self):
        seconds = time.monotonic() - self.began
        self.module._stress()
        seen = self.module._stress_seen
        calls = [] if self.calls is None else self.calls.reached()
        self.reached = Reached(seconds, seen(False), seen(True), calls)
        if self.calls is not None:
            self.calls.disarm()


def faults():
    sys.path.insert(0, os.path.join(HERE, "trust"))
    return importlib.import_module("faults")


# ------------------------------------------------------------------- in pytest


class Parent:
    """Stands for a next test of the same module, so that its fixtures stay."""

    def __init__(self, item):
        self.chain = item.listchain()[:-1]

    def listchain(self):
        return self.chain


class Visits:
    """Which test runs next, and what fails in it."""

    def __init__(self, session):
        self.session = session
        library = ctypes.CDLL(None)
        self.calls = Calls(library, faults()) if hasattr(library, "faults_place") else None
        self.what = None
        self.patience = MOST_S
        self.reached = {}
        seconds = float(os.environ.get("CLOOP_PLACES_SECONDS", "inf"))
        self.deadline = float(os.environ.get("CLOOP_PLACES_UNTIL", time.time() + seconds))
        self.saved = time.monotonic()

    def over(self):
        return time.time() > self.deadline or self.session.shouldstop or self.session.shouldfail

    def kinds(self):
        """What fails, and how much a place of it is worth beside others."""
        calls = [] if self.calls is None else [(self.calls, 1)]
        acts = [(Collections(number), 1) for number in range(len(ACTS))]
        pairs = [(Allocations(pairs=True), 0.05), (Allocations(3, pairs=True), 0.02)]
        return [(Allocations(), 3), *calls, (Allocations(3), 1), *acts, *pairs]

    def items(self):
        """Those of this process."""
        part, parts = map(int, PART.split("/"))
        skipped = set()
        for path in glob.glob(os.path.join(FOLDER, "*.died")) if FOLDER else ():
            with open(path) as file:
                skipped |= set(json.load(file))
        files = {}
        for item in self.session.items:
            files.setdefault(item.path, []).append(item)
        for number, items in enumerate(files.values()):
            for item in items if number % parts == part else ():
                if not OTHER_PROCESSES & set(item.fixturenames) and item.nodeid not in skipped:
                    yield item

    def visit(self, item, what, patience):
        """Runs it; the hook below says how often."""
        self.what, self.patience = what, patience
        item.session._setupstate.teardown_exact(item)
        os.chdir(self.session.startpath)  # a test that failed may have left it
        if FOLDER:
            with open(os.path.join(FOLDER, "now-%s" % PART.replace("/", "-")), "w") as file:
                json.dump([item.nodeid, getattr(what, "name", "as it is")], file)
        item.ihook.pytest_runtest_protocol(item=item, nextitem=Parent(item))
        if time.monotonic() - self.saved > SAVE_S:
            self.save()

    def save(self):
        """What was counted, so that a process that dies has counted most."""
        self.saved = time.monotonic()
        getattr(importlib.import_module("cloop._cloop"), "_save_counters", bool)()

    def record(self, items):
        path = os.path.join(FOLDER, "reached-%s" % PART.replace("/", "-")) if FOLDER else os.devnull
        if FOLDER and os.path.exists(path):  # by one that has died since, or another run
            with open(path, "rb") as file:
                self.reached = pickle.load(file)
        recorder = Recorder(self.calls)
        began = time.monotonic()
        for item in items:
            if item.nodeid in self.reached:
                continue
            if self.over():
                return
            recorder.reached = None
            self.visit(item, recorder, RECORD_S)
            if recorder.reached is not None:  # it may be skipped
                self.reached[item.nodeid] = recorder.reached
        with open(path, "wb") as file:
            pickle.dump(self.reached, file)
        self.say("%d tests in %.0f s" % (len(self.reached), time.monotonic() - began))

    def run(self):
        items = list(self.items())
        self.record(items)
        by_name = {item.nodeid: item for item in items}
        gc.collect()
        gc.freeze()
        kinds = self.kinds()
        runs, seconds = [0] * len(kinds), [0.0] * len(kinds)

        def entry(number, name):
            """With what the heap is ordered by: less for what comes earlier, 0 if there is no place left."""
            what, worth = kinds[number]
            reached = self.reached[name]
            return -worth * what.left(reached) / max(reached.seconds, LEAST_S / TIMES), number, name

        heap = [entry(number, name) for number in range(len(kinds)) for name in by_name if name in self.reached]
        heapq.heapify(heap)
        while heap and not self.over():
            _, number, name = heapq.heappop(heap)
            now = entry(number, name)
            if now[0] == 0:
                continue
            if heap and now > heap[0]:  # another test has done much of it
                heapq.heappush(heap, now)
                continue
            began = time.monotonic()
            took = self.reached[name].seconds
            self.visit(by_name[name], kinds[number][0], max(LEAST_S, min(TIMES * took, MOST_S), 2 * took))
            seconds[number] += time.monotonic() - began
            runs[number] += self.runs
            after = entry(number, name)
            if self.failed and after[0] != 0:
                heapq.heappush(heap, after)
        for number, (what, _) in enumerate(kinds):
            left = sum(what.left(reached) > 0 for reached in self.reached.values())
            self.say(
                "%s: %d runs in %.0f s; %d of %d tests have places left"
                % (what.name, runs[number], seconds[number], left, len(self.reached))
            )
        self.session._setupstate.teardown_exact(None)

    def say(self, text):
        self.session.config.pluginmanager.getplugin("terminalreporter").write_line("%s: %s" % (PART, text))


VISITS = pytest.StashKey()


def pytest_configure(config):
    # Python 3.11 parses sources wrongly if a collection comes between: so not to show where a test failed, nor at the end.
    config.option.tbstyle = "native"
    if config.pluginmanager.hasplugin("hypothesispytest"):
        importlib.import_module("hypothesis")


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session):
    visits = session.config.stash[VISITS] = Visits(session)
    if not session.config.option.collectonly:
        visits.run()
    if session.shouldfail:
        raise session.Failed(session.shouldfail)
    return True


def failed_key(config):
    """With which conftest.py looks up that a test has failed, and may leave something behind."""
    return next(plugin.TEST_FAILED for plugin in config.pluginmanager.get_plugins() if hasattr(plugin, "TEST_FAILED"))


@pytest.hookimpl(hookwrapper=True)
def pytest_pyfunc_call(pyfuncitem):
    visits = pyfuncitem.config.stash[VISITS]
    with Alarm(visits.patience):
        visits.what.arm()
        outcome = yield
    visits.what.disarm()
    passed_on = pytest.skip.Exception, SystemError
    if outcome.excinfo is not None and not issubclass(outcome.excinfo[0], passed_on):
        outcome.force_result(True)  # whose traceback would keep what the test has
        pyfuncitem.stash[failed_key(pyfuncitem.config)] = True


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_teardown(item):
    """What the end of a test waits for may not come either."""
    with Alarm(max(item.config.stash[VISITS].patience, 1)):
        yield


def run_once(item, nextitem):
    try:
        return runtestprotocol(item, log=False, nextitem=nextitem)
    except (KeyboardInterrupt, SystemExit):  # which pytest takes for the user's, and a fixture's end may raise
        item.session._setupstate.teardown_exact(nextitem)
        return []


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    visits = item.config.stash[VISITS]
    end = time.monotonic() + LIMIT_S
    visits.runs = visits.failed = 0
    if isinstance(visits.what, Recorder):
        run_once(item, nextitem)
        return True
    while visits.runs < RUNS and time.monotonic() < end and not visits.over():
        before = visits.what.places()
        visits.runs += 1
        for report in run_once(item, nextitem):
            if report.failed and "SystemError: " in str(report.longrepr):
                item.ihook.pytest_runtest_logreport(report=report)
        if visits.what.places() == before:
            break
        visits.failed += 1
        if visits.what.left(visits.reached[item.nodeid]) == 0:
            break
    return True


# ---------------------------------------------------------------- the program


class Process:
    """One that runs its part of the files, and another if it dies."""

    def __init__(self, folder, part, arguments, until, library):
        self.folder, self.part, self.died = folder, part, []
        program = "import sys; sys.path.remove(''); import pytest; sys.exit(pytest.main())"  # the cloop of PYTHONPATH
        self.command = [
            sys.executable,
            "-c",
            program,
            "-q",
            "--disable-warnings",
            "-p",
            "places",
            "-p",
            "no:hypothesispytest",
            *arguments,
        ]
        self.environment = dict(
            os.environ,
            CLOOP_PLACES_FOLDER=folder,
            CLOOP_PLACES_PART=part,
            CLOOP_PLACES_UNTIL=str(until),
            CLOOP_STRESS_PLACES=os.path.join(folder, "allocations"),
            FAULTS_PLACES=os.path.join(folder, "calls"),
            PYTHONPATH=os.pathsep.join([os.environ.get("PYTHONPATH", ""), HERE]),
        )
        if library is not None:
            preloaded = os.environ.get("LD_PRELOAD", "")
            self.environment["LD_PRELOAD"] = (preloaded + " " + library).strip()
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.command, env=self.environment)

    def ended(self):
        """Whether it has, and not been started again."""
        status = self.process.poll()
        if status is None:
            return False
        name = self.part.replace("/", "-")
        if status not in (0, 1) and os.path.exists(os.path.join(self.folder, "now-" + name)):
            with open(os.path.join(self.folder, "now-" + name)) as file:
                at, what = json.load(file)
            print("died: exit status %d in %s (%s)" % (status, at, what), flush=True)
            self.died.append(at)
            with open(os.path.join(self.folder, name + ".died"), "w") as file:
                json.dump(self.died, file)
            if len(self.died) < 20:
                self.start()
                return False
        return True


def main():
    parser = argparse.ArgumentParser(prog="tests/places.py", description=__doc__.split("\n")[0])
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--seconds", type=float, default=900, help="when to stop")
    parser.add_argument("--folder", help="where it is kept what has failed, for the next run, of the same build")
    options, arguments = parser.parse_known_args()
    with contextlib.ExitStack() as stack:
        folder = (
            os.path.abspath(options.folder) if options.folder else stack.enter_context(tempfile.TemporaryDirectory())
        )
        os.makedirs(folder, exist_ok=True)
        for path in glob.glob(os.path.join(folder, "now-*")):
            os.remove(path)
        for name, size in ("allocations", 0), ("calls", 1 << 19):  # as in faults.c
            with open(os.path.join(folder, name), "ab") as file:
                file.truncate(max(size, file.tell()))
        library = faults().injection.shim(folder)
        if library is None:
            print("no system call will fail: there is no C compiler")
        until, jobs = time.time() + options.seconds, max(options.jobs, 1)
        all_of_them = [Process(folder, "%d/%d" % (n, jobs), arguments, until, library) for n in range(jobs)]
        running = list(all_of_them)
        while running:
            time.sleep(0.5)
            running = [each for each in running if not each.ended()]
        failed = any(each.died or each.process.returncode not in (0, 5) for each in all_of_them)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
