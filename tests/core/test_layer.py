"""The setup of the module, layer by layer: if something fails meanwhile, the import fails, and releases what it has."""

import gc
import importlib
import sys

import pytest

SETUP = """
import gc, importlib.util, os

from cloop import _cloop

gc.collect()
gc.disable()  # at the same moments each time
spec = importlib.util.find_spec("cloop._cloop")
there, failed, made = os.listdir("/proc/self/fd"), 0, 0
while True:
    before = _cloop._stress_places()
    _cloop._stress(place=True)
    try:
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        made += 1
    except (MemoryError, ImportError):
        failed += 1
    finally:
        _cloop._stress()
    module = None
    gc.collect()
    if _cloop._stress_places() == before:
        break
assert made >= 1, made
assert os.listdir("/proc/self/fd") == there
loop = new_loop()
assert loop.run_until_complete(asyncio.sleep(0, "works")) == "works"
loop.close()
print(failed > 30, failed, made)
"""


@pytest.mark.slow
def test_each_allocation_of_the_import_fails(script, loop_kind, cloop):
    if loop_kind == "asyncio":
        pytest.skip("the module is cloop's")
    if not hasattr(importlib.import_module("cloop._cloop"), "_stress_places"):
        pytest.skip("needs a stress build")
    assert script(SETUP).startswith("True")


NO_MEMORY = """
import array, gc, importlib.util, os, sys

import _testcapi
from cloop import _cloop

os.register_at_fork = lambda **functions: None  # which would keep each module
spec = importlib.util.find_spec("cloop._cloop")
clear_caches = getattr(sys, "_clear_internal_caches", None) or sys._clear_type_cache
classes = {}


def attempt(failing):
    module = importlib.util.module_from_spec(spec)
    _testcapi.set_nomemory(failing, failing + 1)
    try:
        spec.loader.exec_module(module)
    except (MemoryError, AttributeError):  # which Python 3.14 says of an attribute that cannot be set
        return False
    finally:
        _testcapi.remove_mem_hooks()
    found = {
        each.__qualname__: sorted(vars(each))
        for each in gc.get_referents(module)
        if isinstance(each, type) and each.__module__.startswith("cloop")  # streams may be asyncio's now
    }
    for name in classes:  # else this learns them
        if found.get(name) != classes[name]:
            print("allocation", failing, "leaves", name, "incomplete")
    return not classes.update(found)


def blocks():
    for _ in range(2):
        gc.collect()
    clear_caches()
    return sys.getallocatedblocks()


for _ in range(5):
    attempt(10**6)
gc.collect()
gc.freeze()  # quicker
gc.disable()
failing, made, counts = -1, 0, array.array("q", [0] * 3)
while made < 300:  # some are for what cloop can do without
    failing += 1
    made = made + 1 if attempt(failing) else 0
    if sys.version_info < (3, 9):  # objects do not visit their classes, so nothing of it is freed
        continue
    for number in range(3):
        counts[number] = blocks()
        if number and counts[number] <= counts[number - 1]:
            break
        attempt(failing)
    else:
        print("allocation", failing, "leaves memory")
print(failing)
"""


@pytest.mark.gil
@pytest.mark.skipif(
    (3, 12) <= sys.version_info < (3, 14), reason="the interpreter itself crashes, as in test_memory.py"
)
def test_import_without_memory(cloop, python):
    """Of Python as well as of cloop, one allocation after the other."""
    pytest.importorskip("_testcapi")
    done = python("-c", NO_MEMORY)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100


def test_what_the_module_refers_to_is_told_to_whoever_asks(cloop):
    """As in gc.get_referrers(), whose visits end early."""
    module = importlib.import_module("cloop._cloop")
    if not gc.is_tracked(module):
        pytest.skip(
            "CPython 3.13 without a GIL makes modules immortal once a thread is started, and tracks them no more"
        )
    gc.unfreeze()  # conftest.py hides what is older than the test
    try:
        for thing in vars(module).values():
            if isinstance(thing, type):
                assert module in gc.get_referrers(thing)
    finally:
        gc.freeze()


def test_counts_are_of_objects_that_are_there(cloop):
    module = importlib.import_module("cloop._cloop")
    before = module.counts()
    loop = cloop.new_event_loop()
    handles = [loop.call_soon(print) for _ in range(100)]
    try:
        assert module.counts()["Handle"] == before["Handle"] + 100
    finally:
        for handle in handles:
            handle.cancel()
        loop.close()
