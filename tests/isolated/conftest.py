"""What tests of system calls share."""

import os
import pathlib
import shlex
import shutil
import subprocess

import pytest


@pytest.fixture(scope="session")
def shim(tmp_path_factory):
    """The library that counts cloop's system calls and allocations, and makes them fail: faults.c."""
    compiler = shlex.split(os.environ.get("CC", "cc"))
    if shutil.which(compiler[0]) is None:
        pytest.skip("there is no " + compiler[0])
    built = tmp_path_factory.mktemp("shim") / "faults.so"
    source = pathlib.Path(__file__).with_name("faults.c")
    subprocess.run(compiler + ["-shared", "-fPIC", "-O1", "-o", str(built), str(source), "-ldl"], check=True)
    return str(built)
