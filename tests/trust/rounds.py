"""A plugin of pytest for mutation.py that runs each test many times, and fails those after which more and more memory is in use.

A reference that is not dropped keeps its object, which is at least one block of memory. Caches fill up in the first runs, and
grow and shrink later; a leak shows nearly every time. Some tests leave blocks on the unchanged tree, too, and on asyncio, so
those must be left out. Tests whose cloop is in another process are not run, and those that take long are run once.
"""

import array
import gc
import sys
import time

import pytest
from _pytest.runner import runtestprotocol

FIRST, COUNTED = 25, 12  # runs that fill caches, and those after which the blocks are counted
LIMIT_S = 4  # for the runs of a test
OTHER_PROCESSES = {"script", "python", "example", "served"}  # fixtures


def blocks():
    gc.collect()
    return sys.getallocatedblocks()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    if OTHER_PROCESSES & set(item.fixturenames):
        return True
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    began, counts = time.monotonic(), array.array("q", [0] * (COUNTED + 1))  # which takes no more later
    for run in range(FIRST + COUNTED):
        del item._report_sections[:]  # what it has logged and printed
        reports = runtestprotocol(item, log=False, nextitem=nextitem)
        if any(report.outcome != "passed" for report in reports) or time.monotonic() - began > LIMIT_S:
            break
        if run >= FIRST - 1:
            counts[run - FIRST + 1] = blocks()
    grown = sorted(now - before for before, now in zip(counts, counts[1:]))
    if counts[-1] and grown[COUNTED // 4] > 0:
        reports[1].outcome = "failed"
        reports[1].longrepr = "leaves %d blocks of memory" % grown[COUNTED // 2]
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True
