"""Calls that fail: whatever the poller, the allocator or another call refuses is reported, and nobody waits for ever.

Each scenario runs with the first of its calls failing, then with the second, and so on: once only, and from then on
always. A preloaded library (faults.c) makes them fail. Afterwards the scenario must have ended, with its result or an
exception, or the loop's exception handler must have been called. After a single temporary failure, the same loop must
succeed when it runs it again.

On a stress build the allocations of cloop's own code fail as well, those of objects too (csrc/base/stress.h): some, which
are others each day, or all with CLOOP_TEST_SWEEP=all (docs/testing.md).
"""

import errno
import faulthandler
import importlib
import os
import random

import injection
import pytest
from injection import ACCEPT, ADD, ASK, CHANGE, CHILD, MEMORY, READ, REMOVE, STAT, WAIT, WRITE

pytestmark = pytest.mark.slow

ALLOCATION = 1 << 20
HUGE = 1 << 40
PATIENCE_S = 10


def results_of(worker, kinds, error, lasting):
    """Each of the calls fails in turn."""
    number = 0
    while True:
        number += 1
        result = worker.run([["calls", kinds, number, HUGE if lasting else number, error]], PATIENCE_S)
        if result["calls"] < number:
            return
        yield dict(result, number=number)


def allocations(worker, name, share):
    """All of them, or one at random of each of so many equal parts: those of a long transfer are much alike."""
    total = worker.run([], PATIENCE_S)["allocations"]
    count, _, seed = share.partition(" ")
    chosen = range(1, total + 1)
    if count != "all" and int(count) < total:
        choose, edges = random.Random(seed + name), [1 + total * n // int(count) for n in range(int(count) + 1)]
        chosen = [choose.randrange(*edges[n : n + 2]) for n in range(int(count))]
    for number in chosen:
        result = worker.run([["allocation", number]], 0.5)
        if result["became"] == "hangs" and not result["told"]:
            result = worker.run([["allocation", number]], PATIENCE_S)
        if result["allocations"] >= number:  # it varies a little
            yield dict(result, number=number)


@pytest.fixture
def swept(shim, cloop_on_path, loop_kind, request):
    """Runs a scenario with each of its calls failing in turn; returns the results."""

    def swept(scenario, kinds, error, lasting, share="-"):
        if loop_kind == "asyncio":
            pytest.skip("the calls are cloop's")
        folder = request.getfixturevalue("certificates") if scenario.endswith("-tls") else "-"
        with injection.Worker(scenario, shim, folder) as worker:
            if kinds == ALLOCATION:
                return list(allocations(worker, scenario, share))
            return list(results_of(worker, kinds, error, lasting))

    return swept


SWEEP = 40  # allocations of each scenario that fail, in turn
SCENARIOS = ["streams", "large_write", "datagrams", "pipes", "lent", "sock_operations", "subprocesses", "race", "streams-tls", "large_write-tls"]  # fmt: skip


def check(results, heals):
    for result in results:
        told = result["told"]
        assert result["became"] != "hangs" or told, result
        assert not result["became"].startswith("wrong") or told, result
        if heals:
            assert result["became"] != "hangs", result
        assert result["again"] == "complete", result


def became(results):
    return [result["became"] for result in results]


def kinds_of(loop_kind, change):
    return change if loop_kind == "cloop-epoll" else STAT


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_interest_refused_once(swept, loop_kind, scenario):
    """ENOSPC: fs.epoll.max_user_watches. What can be retried is, and nobody notices."""
    results = swept(scenario, kinds_of(loop_kind, ADD | CHANGE), 28, False)
    assert results, "no call was made"
    check(results, True)
    # Refused when requested: the loop itself, servers, readers and waiters are new.
    assert became(results).count("complete") >= (scenario not in ("lent",))


@pytest.mark.parametrize("error", [28, 12, 22], ids=["ENOSPC", "ENOMEM", "EINVAL"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_interest_refused_from_then_on(swept, loop_kind, scenario, error):
    check(swept(scenario, kinds_of(loop_kind, ADD | CHANGE), error, True), False)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_interest_not_withdrawn_at_once(swept, loop_kind, scenario):
    if loop_kind != "cloop-epoll":
        pytest.skip("cannot fail")
    results = swept(scenario, REMOVE, 12, False)
    check(results, True)
    assert set(became(results)) == {"complete"}


def test_reader_is_told_if_an_interest_is_not_withdrawn(swept, loop_kind):
    if loop_kind != "cloop-epoll":
        pytest.skip("cannot fail")
    results = swept("withdrawn", CHANGE, errno.ENOMEM, True)
    check(results, False)
    assert any("cannot be watched" in text for result in results for text in result["told"])


def test_listener_that_cannot_be_watched_after_a_rest(shim, cloop_on_path, loop_kind):
    """It rests as there is no memory to accept, and then there is none to go on."""
    if loop_kind != "cloop-epoll":
        pytest.skip("cannot fail")
    kinds = ACCEPT | ADD | CHANGE
    with injection.Worker("resting", shim) as worker:
        names = worker.run([["calls", kinds, HUGE, HUGE, errno.ENOMEM]], PATIENCE_S)["names"]
        number = 1 + next(n for n, name in enumerate(names) if "accept" in name)
        result = worker.run([["calls", kinds, number, HUGE, errno.ENOMEM]], PATIENCE_S)
    check([result], False)
    assert any("the listening socket cannot be watched" in text for text in result["told"])


@pytest.mark.parametrize("scenario", SCENARIOS + ["threads", "crowded"])
@pytest.mark.skipif(injection.has_asan(), reason="AddressSanitizer's allocations do not fail")
def test_no_memory(swept, scenario):
    check(swept(scenario, MEMORY, 12, False), True)


@pytest.mark.parametrize("scenario", SCENARIOS + ["threads", "crowded"])
def test_no_memory_for_an_object(swept, scenario, cloop):
    """Whoever asked for it has the exception, or the loop's exception handler."""
    if not hasattr(importlib.import_module("cloop._cloop"), "_stress"):
        pytest.skip("needs a stress build")
    share = os.environ.get("CLOOP_TEST_SWEEP", "%d %s" % (SWEEP, os.environ["CLOOP_TEST_SEED"]))
    if share == "all":
        faulthandler.cancel_dump_traceback_later()  # conftest's limit for a test
    results = swept(scenario, ALLOCATION, 0, False, share)
    assert len(results) > SWEEP // 2
    check(results, False)


# The other calls


@pytest.mark.parametrize("scenario", ["datagrams", "pipes", "sock_operations", "streams", "streams-tls"])
def test_interrupted(swept, scenario):
    """As Python's own calls, they are made again: an edge-triggered interest would not tell a second time."""
    results = swept(scenario, READ | WRITE | ACCEPT | WAIT, errno.EINTR, False)
    assert set(became(results)) == {"complete"}
    check(results, True)


@pytest.mark.parametrize("scenario", ["pipes", "sock_operations", "streams", "subprocesses"])
@pytest.mark.parametrize("error", ["ENOMEM", "EINVAL"])
def test_descriptor_that_answers_no_questions(swept, scenario, error):
    """A pipe that cannot be made non-blocking is refused: a write would stop the loop."""
    check(swept(scenario, ASK, getattr(errno, error), False), True)


@pytest.mark.skipif("libasan" in os.environ.get("LD_PRELOAD", ""), reason="the sanitizer calls accept4() itself")
@pytest.mark.parametrize("error", ["EMFILE", "ENOBUFS", "ECONNABORTED", "EPERM"])
def test_connection_that_is_not_accepted_at_once(swept, error):
    results = swept("streams", ACCEPT, getattr(errno, error), False)
    assert set(became(results)) == {"complete"}
    check(results, True)


@pytest.mark.parametrize("error", ["ENOSYS", "EMFILE", "ENOMEM", "EPERM"])
def test_child_without_a_pidfd(swept, error):
    results = swept("subprocesses", CHILD, getattr(errno, error), False)
    assert set(became(results)) == {"complete"}
    check(results, True)
