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
import json
import os
import subprocess

import pytest

pytestmark = pytest.mark.slow

ADD, CHANGE, REMOVE, STAT, MEMORY, READ, WRITE, ACCEPT, WAIT, ASK, MAKE, CHILD = (1 << bit for bit in range(12))
ALLOCATION = 1 << 12

SCRIPT = """
import ctypes, gc, json, os, random, sys, warnings
from cloop import _cloop

sys.path.insert(0, sys.argv[7])
import scenarios

warnings.simplefilter("ignore")
library = ctypes.CDLL(None)
library.faults_seen.restype = ctypes.c_long
library.faults_arm.argtypes = [ctypes.c_uint, ctypes.c_long, ctypes.c_long, ctypes.c_int]
scenario_name, kinds, error, lasting = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "True"
folder, share = sys.argv[5], sys.argv[6]
ALLOCATION = 1 << 12
reports = []


scenario = getattr(scenarios, scenario_name.split("-")[0])
if scenario_name.endswith("-tls"):
    scenario = scenarios.with_ssl(scenario, folder)


def arm(number):
    "The number-th call fails, and those after it if that lasts; 0: none does."
    if kinds == ALLOCATION:
        _cloop._stress(nomem=number)
    else:
        library.faults_arm(kinds if number else 0, number, 1 << 40 if lasting else number, error)


def count():
    "How many calls there were."
    return _cloop._stress() if kinds == ALLOCATION else library.faults_seen()


def attempt(loop, number, patience):
    "What becomes of the scenario while that call fails, exceptions that left the loop, and how many calls there were."
    left = []
    # Not run_until_complete(): its own task may be the one that is never woken.
    timer = loop.call_later(patience, loop.stop)
    task = loop.create_task(scenario(loop))
    stop = lambda task: loop.stop()
    task.add_done_callback(stop)
    arm(number)
    while True:
        try:
            loop.run_forever()
            break
        except MemoryError as failure:  # so it is heard of
            left.append(repr(failure))
            if len(left) > 20:
                break
    seen = count()
    arm(0)
    timer.cancel()
    task.remove_done_callback(stop)  # it may end later, after all
    error = task.exception() if task.done() and not task.cancelled() else None
    if isinstance(error, AssertionError):
        raise error
    return "hangs" if not task.done() else "complete" if error is None else repr(error), left, seen


def run(number, patience=10):
    "What became of it, what was reported, what becomes of it without a failure, and how many calls there were."
    reports.clear()
    loop = new_loop()
    loop.set_exception_handler(lambda loop, context: reports.append(repr((context["message"], context.get("exception")))))
    asyncio.set_event_loop(loop)
    try:
        became, left, seen = attempt(loop, number, patience)
        told = reports + left
        again = attempt(loop, 0, 10)[0]
    finally:
        arm(0)
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.run_until_complete(loop.shutdown_default_executor() if hasattr(loop, "shutdown_default_executor") else asyncio.sleep(0))
        loop.close()
        asyncio.set_event_loop(None)
        gc.collect()
    return became, told, again, seen


def every_call():
    number = 0
    while True:
        number += 1
        became, told, again, seen = run(number)
        if seen < number:
            return
        yield became, told, again, number


def allocations():
    "All of them, or one at random of each of so many equal parts: those of a long transfer are much alike."
    total = run(1 << 40)[3]
    count, _, seed = share.partition(" ")
    chosen = range(1, total + 1)
    if count != "all" and int(count) < total:
        choose, edges = random.Random(seed + scenario_name), [1 + total * n // int(count) for n in range(int(count) + 1)]
        chosen = [choose.randrange(*edges[n : n + 2]) for n in range(int(count))]
    for number in chosen:
        print(number, "of", total, file=sys.stderr, flush=True)  # the last one, if the process dies
        became, told, again, seen = run(number, 0.5)
        if became == "hangs" and not told:
            became, told, again, seen = run(number)
        if seen >= number:  # it varies a little
            yield became, told, again, number


results = list(allocations() if kinds == ALLOCATION else every_call())
print(json.dumps(results))
os._exit(0)
"""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    trustme = pytest.importorskip("trustme")
    folder = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    issued.private_key_pem.write_to_path(str(folder / "key.pem"))
    issued.cert_chain_pems[0].write_to_path(str(folder / "chain.pem"))
    return str(folder)


@pytest.fixture
def swept(script, shim, monkeypatch, loop_kind, request):
    """Runs a scenario with each of its calls failing in turn; returns the results."""

    def swept(scenario, kinds, error, lasting, share="-", limit=200):
        if loop_kind == "asyncio":
            pytest.skip("the calls are cloop's")
        folder = request.getfixturevalue("certificates") if scenario.endswith("-tls") else "-"
        monkeypatch.setenv("LD_PRELOAD", (os.environ.get("LD_PRELOAD", "") + " " + shim).strip())
        arguments = (scenario, kinds, error, lasting, folder, share, os.path.dirname(__file__))
        process = script(SCRIPT, *arguments, options=["-W", "ignore"], popen=True)
        try:
            out, err = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise
        assert process.returncode == 0, err
        return json.loads(out.strip().splitlines()[-1])

    return swept


SWEEP = 40  # allocations of each scenario that fail, in turn
SCENARIOS = ["streams", "large_write", "datagrams", "pipes", "lent", "sock_operations", "subprocesses", "streams-tls", "large_write-tls"]  # fmt: skip


def check(results, heals):
    for became, told, again, number in results:
        assert became != "hangs" or told, (number, became, told)
        if heals:
            assert became != "hangs", (number, became, told)
        assert again == "complete", (number, became, told, again)


def kinds_of(loop_kind, change):
    return change if loop_kind == "cloop-epoll" else STAT


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_interest_refused_once(swept, loop_kind, scenario):
    """ENOSPC: fs.epoll.max_user_watches. What can be retried is, and nobody notices."""
    results = swept(scenario, kinds_of(loop_kind, ADD | CHANGE), 28, False)
    assert results, "no call was made"
    check(results, True)
    # Refused when requested: the loop itself, servers, readers and waiters are new.
    assert sum(result[0] == "complete" for result in results) >= (scenario not in ("lent",))


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
    assert all(result[0] == "complete" for result in results)


@pytest.mark.parametrize("scenario", SCENARIOS + ["threads", "crowded"])
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
    results = swept(scenario, ALLOCATION, 0, False, share, 24 * 3600 if share == "all" else 200)
    assert len(results) > SWEEP // 2
    check(results, False)


# The other calls


@pytest.mark.parametrize("scenario", ["datagrams", "pipes", "sock_operations", "streams", "streams-tls"])
def test_interrupted(swept, scenario):
    """As Python's own calls, they are made again: an edge-triggered interest would not tell a second time."""
    results = swept(scenario, READ | WRITE | ACCEPT | WAIT, errno.EINTR, False)
    assert results and {result[0] for result in results} == {"complete"}
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
    assert results and {result[0] for result in results} == {"complete"}
    check(results, True)


@pytest.mark.parametrize("error", ["ENOSYS", "EMFILE", "ENOMEM", "EPERM"])
def test_child_without_a_pidfd(swept, error):
    results = swept("subprocesses", CHILD, getattr(errno, error), False)
    assert results and {result[0] for result in results} == {"complete"}
    check(results, True)
