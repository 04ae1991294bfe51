"""A plugin for pytest that makes each allocation and each system call of the C code fail once, wherever a test reaches it.

It runs each test again and again. In each run the first allocation fails that is at a place where none has failed before,
until the test reaches no such place; then, in the same way, the first system call, which fails with each error that it can
give. A place is a line and the caller of its function, or two callers further up of which one has called the other: each of
them handles the failure, or passes it on. Then an allocation of an object collects garbage instead, and Python code that runs
meanwhile cancels all that it can find, or closes all transports, or the loop. At last three allocations in a row fail, from a
place on where no row has begun.

What becomes of a test then is not reported: its assertions do not expect that. But no process may die of it, no SystemError
may be raised, which is for C code that returns wrongly, and each function has to release what it has. `make coverage` counts the
lines that only this reaches. It needs a stress or a coverage build (csrc/base/stress.h). Calls fail in the processes that
pytest-xdist starts, since a library is preloaded there (tests/isolated/faults.c).

    PYTHONPATH=...:tests pytest -p places -n 2 tests/net
"""

import asyncio
import ctypes
import gc
import importlib
import os
import signal
import sys
import tempfile
import time

import pytest
from _pytest.runner import runtestprotocol

RUNS = 200  # of a test, at most
LIMIT_S = 20  # for the runs of a test
PATIENCE_S = 2
WHOLE_S = float(os.environ.get("CLOOP_PLACES_SECONDS", "1800"))  # then a process leaves out the tests that are left
BEGAN = time.monotonic()
OTHER_PROCESSES = {"script", "python", "example", "served"}  # fixtures of tests whose cloop is not in this process
HERE = os.path.dirname(os.path.abspath(__file__))


class TookTooLong(BaseException):
    """A test waits for what will not come."""


class Alarm:
    """Raises TookTooLong again and again in what it surrounds, once that takes too long; and nowhere else."""

    def __init__(self):
        self.armed = False

    def ring(self, number, frame):
        if self.armed:
            raise TookTooLong

    def __enter__(self):
        self.before = signal.signal(signal.SIGALRM, self.ring)
        self.armed = True
        signal.setitimer(signal.ITIMER_REAL, PATIENCE_S, 1)

    def __exit__(self, *error):
        try:
            self.armed = False
        except TookTooLong:
            self.armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self.before)


class Allocations:
    """One that fails, or several in a row: so that what handles a failure fails, too."""

    def __init__(self, count=1):
        self.module = importlib.import_module("cloop._cloop")
        self.count = count

    def arm(self):
        self.module._stress(place=True, lasting=self.count)

    def disarm(self):
        self.module._stress()

    def places(self):
        return self.module._stress_places()


class Calls:
    """Those of the preloaded library."""

    def __init__(self, library, faults):
        self.library = library
        self.kinds = faults.injection.EVERY_CALL  # but for allocations
        library.faults_places.restype = ctypes.c_long
        library.faults_place.argtypes = [ctypes.c_uint]
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

    def arm(self):
        self.armed = True
        gc.callbacks.append(self.collected)
        self.module._stress(round=self.round + 1)

    def disarm(self):
        self.module._stress()
        gc.callbacks.remove(self.collected)

    def places(self):
        return self.module._stress_places()

    def collected(self, phase, info):
        if phase == "stop" and info["generation"] == 2 and self.armed:
            self.armed = False
            try:
                ACTS[self.round](self.module)
            except Exception:
                pass


def faults():
    sys.path.insert(0, os.path.join(HERE, "trust"))
    return importlib.import_module("faults")


def pytest_configure(config):
    config.option.tbstyle = (
        "native"  # the others parse sources, which Python 3.11 does wrongly if a collection comes between
    )
    if hasattr(config, "workerinput") or not config.getoption("numprocesses", None):
        library = ctypes.CDLL(None)
        config.what_fails = [Allocations()]
        if hasattr(library, "faults_place"):
            config.what_fails.append(Calls(library, faults()))
        config.what_fails += map(Collections, range(len(ACTS)))
        config.what_fails.append(Allocations(3))
        return
    folder = tempfile.TemporaryDirectory()
    config.add_cleanup(folder.cleanup)
    shim = faults().injection.shim(folder.name)
    if shim is not None:
        os.environ["LD_PRELOAD"] = (os.environ.get("LD_PRELOAD", "") + " " + shim).strip()


def failed_key(config):
    """With which conftest.py looks up that a test has failed, and may leave something behind."""
    return next(plugin.TEST_FAILED for plugin in config.pluginmanager.get_plugins() if hasattr(plugin, "TEST_FAILED"))


@pytest.hookimpl(hookwrapper=True)
def pytest_pyfunc_call(pyfuncitem):
    what = pyfuncitem.what_fails
    with Alarm():
        what.arm()
        outcome = yield
    what.disarm()
    passed_on = pytest.skip.Exception, SystemError
    if outcome.excinfo is not None and not issubclass(outcome.excinfo[0], passed_on):
        outcome.force_result(True)  # whose traceback would keep what the test has
        pyfuncitem.stash[failed_key(pyfuncitem.config)] = True


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_teardown(item):
    """What the end of a test waits for may not come either."""
    with Alarm():
        yield


def run_once(item, nextitem):
    try:
        return runtestprotocol(item, log=False, nextitem=nextitem)
    except (KeyboardInterrupt, SystemExit):  # which pytest takes for the user's, and a fixture's end may raise
        item.session._setupstate.teardown_exact(nextitem)
        return []


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    if OTHER_PROCESSES & set(item.fixturenames) or time.monotonic() - BEGAN > WHOLE_S:
        return True
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    end = time.monotonic() + LIMIT_S
    for what in item.config.what_fails:
        item.what_fails = what
        for _ in range(RUNS):
            before = what.places()
            for report in run_once(item, nextitem):
                if report.failed and "SystemError: " in str(report.longrepr):
                    item.ihook.pytest_runtest_logreport(report=report)
            if what.places() == before or time.monotonic() > end:
                break
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    if nextitem is None or nextitem.path != item.path:
        save = getattr(importlib.import_module("cloop._cloop"), "_save_counters", None)
        if save is not None:  # so that a process that dies loses the counters of one file only
            save()
    return True
