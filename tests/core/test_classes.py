"""What each object of cloop owes its class: that the collector knows of the reference, and that it is dropped in the end."""

import asyncio
import gc
import importlib
import os
import sys

import pytest

pytestmark = pytest.mark.gil  # without one, classes are not counted at once

SCENARIOS = """tasks timers threads crowded signals executors primitives lent sock_operations protocols streams streams-tls
    large_write unix pipes datagrams files servers subprocesses""".split()
ROUNDS = 8  # more than there are spare objects of a kind that is made once in a round


@pytest.fixture
def scenario(request, cloop, tmp_path, monkeypatch):
    """A loop, and a scenario of tests/isolated: a coroutine function without arguments."""
    tests = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    monkeypatch.syspath_prepend(os.path.join(tests, "isolated"))
    scenarios = importlib.import_module("scenarios")
    name, _, tls = request.param.partition("-")
    function = getattr(scenarios, name)
    if tls:
        authority = pytest.importorskip("trustme").CA()
        issued = authority.issue_cert("localhost")
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        issued.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
        issued.cert_chain_pems[0].write_to_path(str(tmp_path / "chain.pem"))
        function = scenarios.with_ssl(function, str(tmp_path))
    loop = cloop.new_event_loop()
    yield loop, lambda: function(loop)
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


def classes():
    """Those of the extension; each knows what was derived from it."""
    found, left = [], [object]
    while left:
        for each in type.__subclasses__(left.pop()):
            left.append(each)
            if each.__module__ in ("cloop._cloop", "cloop"):
                found.append(each)
    return list(dict.fromkeys(found))


@pytest.mark.parametrize("scenario", SCENARIOS, indirect=True)
def test_classes_are_not_kept(scenario):
    known, (loop, act) = classes(), scenario

    def references():
        gc.collect()
        return [sys.getrefcount(each) for each in known]

    async def rounds():
        for _ in range(ROUNDS):
            await act()

    grown = []
    loop.run_until_complete(rounds())
    for _ in range(3):
        before = references()
        loop.run_until_complete(rounds())
        grown.append([after - was for after, was in zip(references(), before)])
    least = {each.__qualname__: min(counts) for each, counts in zip(known, zip(*grown))}
    assert {name: count for name, count in least.items() if count >= ROUNDS} == {}


@pytest.mark.skipif(sys.version_info < (3, 9), reason="objects do not visit their classes there")
@pytest.mark.parametrize("scenario", SCENARIOS, indirect=True)
def test_the_collector_knows_of_an_objects_class(scenario):
    known, seen, (loop, act) = set(classes()), set(), scenario

    def look(left):
        for each in gc.get_objects():
            if type(each) in known and type(each) not in seen:
                assert type(each) in gc.get_referents(each), type(each)
                seen.add(type(each))
        if left and not task.done():
            loop.call_soon(look, left - 1)

    task = loop.create_task(act())
    loop.call_soon(look, 50)
    errors = []
    loop.set_exception_handler(lambda loop, context: errors.append(context))
    loop.run_until_complete(task)
    assert seen and not errors, errors
