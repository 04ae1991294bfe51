import asyncio
import importlib

import pytest


@pytest.fixture
def classes():
    """classes(loop): the classes of the futures and tasks that the loop makes."""

    def classes(loop):
        if isinstance(loop, asyncio.SelectorEventLoop) and type(loop).__module__.startswith("asyncio"):
            return asyncio.Future, asyncio.Task
        package = importlib.import_module("cloop")
        return package.Future, package.Task

    return classes


@pytest.fixture
def settle():
    """settle(loop): runs turns of the loop until what is ready has led nowhere new, as a few do here."""

    def settle(loop, turns=8):
        for _ in range(turns):
            loop.call_soon(loop.stop)
            loop.run_forever()

    return settle
