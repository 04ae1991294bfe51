"""The package imported anew, used and dropped: of the C code's module, its classes and all that they refer to, nothing is left,
and whatever lasts has as many references as before.
"""

import array
import asyncio
import atexit
import faulthandler
import gc
import importlib
import logging
import os
import sys
import threading
import weakref

import pytest

pytestmark = [
    pytest.mark.alone,  # what other tests have begun may go on to take memory
    pytest.mark.gil,  # without one, modules and classes are never freed
    pytest.mark.skipif(
        sys.version_info[:2] not in ((3, 11), (3, 14)), reason="Python itself keeps memory or classes there"
    ),
    pytest.mark.skipif(
        os.environ.get("CLOOP_TASKS") == "stock", reason="asyncio's tasks keep the classes of what they have awaited"
    ),
]

clear_caches = getattr(sys, "_clear_internal_caches", None) or sys._clear_type_cache
FIRST, COUNTED = 3, 3  # rounds that fill caches, and those after which it is counted
FEATURES = """tasks timers threads crowded signals executors primitives lent resting sock_operations protocols race
    streams streams-tls large_write unix pipes datagrams files servers subprocesses loops monitored upgrade-tls""".split()


async def nothing(loop):
    pass


@pytest.fixture
def feature(request, scenario_named):
    """A coroutine function, which is called with a loop."""
    return nothing if request.param == "nothing" else scenario_named(request.param)


def forget_package():
    for name in [name for name in sys.modules if name.split(".")[0] == "cloop"]:
        del sys.modules[name]


@pytest.fixture
def anew(cloop, monkeypatch):
    """Imports the package a second time; the first is back afterwards. It is not told of forks and of the end, since it would
    never be freed.
    """
    first = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "cloop"}
    monkeypatch.setattr(os, "register_at_fork", lambda **functions: None)
    monkeypatch.setattr(atexit, "register", lambda function, *args: function)
    if hasattr(threading, "_register_atexit"):
        monkeypatch.setattr(threading, "_register_atexit", lambda function, *args: None)
    monkeypatch.setattr(logging.getLogger("asyncio"), "disabled", True)  # pytest keeps the records, and futures in them
    try:
        forget_package()
        yield lambda: importlib.import_module("cloop")
    finally:
        forget_package()
        sys.modules.update(first)


def lasting():
    """Names and objects: what Python's modules and classes have, and of some values the one that there is."""
    found = {repr(each): each for each in (None, True, False, (), b"", "")}
    for path, module in list(sys.modules.items()):
        if path.split(".")[0] in ("asyncio", "_asyncio", "builtins", "contextvars", "os", "socket", "ssl", "threading"):
            found[path] = module
            found["vars(%s)" % path] = vars(module)
            for name, value in list(vars(module).items()):
                if callable(value):
                    found["%s.%s" % (path, name)] = value
                for inner, method in list(vars(value).items()) if isinstance(value, type) else ():
                    found["%s.%s.%s" % (path, name, inner)] = method
    return {name: each for name, each in found.items() if type(each) is not int}  # this test has ints of its own


def forget_signal():
    """A second package cannot have the signal that the first one has made known to faulthandler."""
    watch = sys.modules.get("cloop._watch")
    if watch is not None and watch._dump is not None and watch._dump.address:
        faulthandler.unregister(watch._dump.signum)
        os.close(watch._dump.fd)


def round_of(anew, feature):
    """What was made for it, by weak references: the module and its classes."""
    cloop = anew()
    module = cloop._cloop
    made = [weakref.ref(module)] + [weakref.ref(each) for each in vars(module).values() if isinstance(each, type)]
    loop = cloop.new_event_loop()
    try:
        loop.run_until_complete(feature(loop))
        loop.run_until_complete(asyncio.sleep(0))
    finally:
        loop.close()
        forget_signal()
    forget_package()
    asyncio.coroutines._iscoroutine_typecache.clear()
    return made


@pytest.mark.parametrize("feature", ["nothing"] + FEATURES, indirect=True)
def test_nothing_is_left(anew, feature):
    rounds = FIRST + COUNTED
    known = lasting()
    blocks, counts = array.array("q", [0] * rounds), array.array("q", [0] * (rounds * len(known)))  # take no more later
    for number in range(rounds):
        made = round_of(anew, feature)
        for _ in range(3):
            gc.collect()
        left = [each() for each in made if each() is not None]
        assert not left, left
        del made, left
        clear_caches()
        for place, each in enumerate(known.values(), number * len(known)):
            counts[place] = sys.getrefcount(each)
        blocks[number] = sys.getallocatedblocks()

    def grown(numbers):
        return min(after - before for before, after in zip(numbers[FIRST - 1 :], numbers[FIRST:]))

    more = {name: grown(counts[place :: len(known)]) for place, name in enumerate(known)}
    assert {name: count for name, count in more.items() if count > 0} == {}
    assert grown(blocks) <= 0, list(blocks)
