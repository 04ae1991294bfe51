import gc
import os
import sys

import pytest


@pytest.fixture(autouse=True)
def own_futures():
    """Accelerated primitives work on cloop's futures and tasks; without those everything stays asyncio's."""
    if os.environ.get("CLOOP_TASKS") == "stock":
        pytest.skip("CLOOP_TASKS=stock")


@pytest.fixture
def accelerate(cloop):
    """cloop.accelerate, in effect during the test."""
    cloop.accelerate()
    yield cloop.accelerate
    cloop.accelerate(False)


@pytest.fixture
def made(cloop):
    """made(): how many coroutines were made in C."""
    return sys.modules["cloop._cloop"]._sync_made


@pytest.fixture
def steady():
    """steady(once): awaits once() many times, and checks that no objects are left."""

    def count():
        for _ in range(3):  # Python 3.8 needs more than one
            gc.collect()
        return len(gc.get_objects())

    async def steady(once):
        for _ in range(10):
            await once()
        before = count()
        for _ in range(60):
            await once()
        assert count() - before < 30

    return steady
