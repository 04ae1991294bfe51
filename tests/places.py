"""A plugin for pytest that makes each allocation of the C code fail once, wherever a test reaches it.

It runs each test again and again. In each run the first allocation fails that is at a place where none has failed before,
until the test reaches no such place. What becomes of a test then is not reported: its assertions do not expect a
MemoryError. But no process may die of it, and each function has to release what it has. `make coverage` counts the lines
that only this reaches. It needs a stress or a coverage build (csrc/base/stress.h).

    PYTHONPATH=...:tests pytest -p places -n 2 tests/net
"""

import importlib
import signal
import time

import pytest
from _pytest.runner import runtestprotocol

RUNS = 200  # of a test, at most
LIMIT_S = 20  # for the runs of a test
PATIENCE_S = 5
OTHER_PROCESSES = {"script", "python", "example", "served"}  # fixtures of tests whose cloop is not in this process


class TookTooLong(BaseException):
    """A test waits for what will not come."""


def give_up(number, frame):
    raise TookTooLong()


def failed_key(config):
    """With which conftest.py looks up that a test has failed, and may leave something behind."""
    return next(plugin.TEST_FAILED for plugin in config.pluginmanager.get_plugins() if hasattr(plugin, "TEST_FAILED"))


@pytest.hookimpl(hookwrapper=True)
def pytest_pyfunc_call(pyfuncitem):
    stress = importlib.import_module("cloop._cloop")._stress
    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE_S, 1)
    stress(place=True)
    try:
        outcome = yield
    finally:
        stress()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    passed_on = pytest.skip.Exception, KeyboardInterrupt
    if outcome.excinfo is not None and not issubclass(outcome.excinfo[0], passed_on):
        outcome.force_result(True)  # whose traceback would keep what the test has
        pyfuncitem.stash[failed_key(pyfuncitem.config)] = True


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    if OTHER_PROCESSES & set(item.fixturenames):
        return True
    places = importlib.import_module("cloop._cloop")._stress_places
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    end = time.monotonic() + LIMIT_S
    for _ in range(RUNS):
        before = places()
        runtestprotocol(item, log=False, nextitem=nextitem)
        if places() == before or time.monotonic() > end:
            break
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True
