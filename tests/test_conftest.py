"""What tests/conftest.py changes in pytest."""

import asyncio
import gc
import os
import re
import warnings

import pytest
from midway import Scene, nothing

HERE = os.path.dirname(os.path.abspath(__file__))


def test_all_that_pytest_prints_reaches_a_file(python, monkeypatch):
    """A capture that started too early took the header, and letters of the progress."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    result = python("-m", "pytest", "-p", "no:cacheprovider", os.path.join(HERE, "core", "test_node.py"), cwd=HERE)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "test session starts" in result.stdout.splitlines()[0]
    letters = "".join(re.findall(r"^(?:\S+\.py )?([.s]+)(?: +\[|$)", result.stdout, re.MULTILINE))
    assert letters.count(".") == int(re.search(r"(\d+) passed", result.stdout).group(1))


def test_comparison_sees_nothing_of_what_was_left_before(as_asyncio):
    """Which a collection finds at any time: a coroutine that was never awaited, a task that was never done."""

    async def never():
        await asyncio.sleep(0)

    def leave(loop):
        left = [never(), loop.create_task(never())]
        left.append(left)
        gc.collect()  # it is not found by a collection of what is young

    def body(loop):
        gc.collect()
        leave(loop)

    other = asyncio.SelectorEventLoop()
    leave(other)
    other.close()
    del other
    assert as_asyncio(body) == {"result": None, "warned": [], "logged": []}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


class Empty(Scene):
    def end(self):
        return self.notes


def test_place_that_does_nothing_midway_fails(differences):
    def does_nothing(scene):
        scene.armed = True

    def does_something(scene):
        scene.armed = True
        scene.midway()

    def compared(place, idle=None):
        return differences(Empty.plays(place, {"act": nothing}, idle=idle))

    assert compared(does_something) == {}
    assert compared(does_nothing, "it is one of the test") == {}
    with pytest.raises(AssertionError, match="no act is done midway"):
        compared(does_nothing)
    with pytest.raises(AssertionError, match="it is one of the test: .*act"):
        compared(does_something, "it is one of the test")
