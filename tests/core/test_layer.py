"""The setup of the module, layer by layer: if something fails meanwhile, the import fails, and releases what it has."""

import gc
import importlib

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
