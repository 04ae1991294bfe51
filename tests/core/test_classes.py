"""What each object of cloop owes its class: that the collector knows of the reference, and that it is dropped in the end; and
that nothing else that outlives it is referred to once more each time.
"""

import asyncio
import gc
import sys

import pytest

pytestmark = pytest.mark.gil  # without one, classes are not counted at once

SCENARIOS = """tasks timers threads crowded signals executors primitives lent sock_operations protocols streams streams-tls
    large_write unix pipes datagrams files servers subprocesses""".split()
ROUNDS = 8  # more than there are spare objects of a kind that is made once in a round


@pytest.fixture
def scenario(request, cloop, scenario_named):
    """A loop, and a scenario of tests/isolated: a coroutine function without arguments."""
    function = scenario_named(request.param)
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
            if getattr(each, "__module__", None) in ("cloop._cloop", "cloop"):  # some have none
                found.append(each)
    return list(dict.fromkeys(found))


def lasting():
    """Names and objects: these classes, what asyncio's modules and classes have, and what Python has one of."""
    found = {each.__qualname__: each for each in classes()}
    for path, module in list(sys.modules.items()):
        for name, value in vars(module).items() if path.startswith("asyncio") else ():
            if callable(value):
                found["%s.%s" % (path, name)] = value
            for inner, method in vars(value).items() if isinstance(value, type) else ():
                found["%s.%s.%s" % (path, name, inner)] = method
    found.update({repr(each): each for each in (None, True, False, 0, 1, -1, (), b"", "")})
    return found


@pytest.mark.parametrize("scenario", SCENARIOS, indirect=True)
def test_what_lasts_has_as_many_references_as_before(scenario):
    known, (loop, act) = lasting(), scenario

    def references():
        gc.collect()
        return [sys.getrefcount(each) for each in known.values()]

    async def rounds():
        for _ in range(ROUNDS):
            await act()

    grown = []
    for _ in range(4):
        before = references()
        loop.run_until_complete(rounds())
        grown.append([after - was for after, was in zip(references(), before)])
    least = {name: min(counts) for name, counts in zip(known, zip(*grown[1:]))}
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
