import sys

import pytest


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
