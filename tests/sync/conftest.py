import os
import sys

import pytest


@pytest.fixture(autouse=True)
def own_futures():
    """Bodies in C work on cloop's futures and tasks: without them everything stays asyncio's."""
    if os.environ.get("CLOOP_TASKS") == "stock":
        pytest.skip("CLOOP_TASKS=stock")


@pytest.fixture
def accelerate(cloop):
    """cloop.accelerate, which is in effect for the test."""
    cloop.accelerate()
    yield cloop.accelerate
    cloop.accelerate(False)


@pytest.fixture
def made(cloop):
    """made(): how many coroutines bodies in C have made."""
    return sys.modules["cloop._cloop"]._sync_made
