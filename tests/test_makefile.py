"""Targets of the Makefile that nothing else runs: make knows how to make them."""

import os
import shutil
import subprocess

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
pytestmark = pytest.mark.skipif(
    shutil.which("make") is None or not os.path.exists(os.path.join(ROOT, "Makefile")), reason="there is no make"
)


def would_do(*arguments):
    environ = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    return subprocess.run(
        ["make", "-n", *arguments], cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize(
    "arguments, command",
    [
        (["nightly"], ".ci/run --nightly"),
        (["nightly", "DONE=passed", "MINUTES=90", "STEPS=make suite*"], ".ci/run --nightly"),
        (["figures", "SCALE=0.5"], "tests/trust/figures.py --scale 0.5"),
    ],
    ids=["nightly", "a part of it", "figures"],
)
def test_it_can_be_made(arguments, command):
    done = would_do(*arguments)
    assert done.returncode == 0, done.stderr
    assert command in done.stdout
