"""What tests of system calls share."""

import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))
import injection  # noqa: E402


@pytest.fixture(scope="session")
def shim(tmp_path_factory):
    """The library that counts cloop's system calls and allocations, and makes them fail: faults.c."""
    built = injection.shim(str(tmp_path_factory.mktemp("shim")))
    if built is None:
        pytest.skip("there is no C compiler")
    return built
