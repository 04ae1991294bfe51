"""The tracepoints of a build that has them (csrc/base/probe.h): where they are, and that each is one nop."""

import importlib
import re
import shutil
import subprocess

import pytest

# The name, and how many arguments it has.
PROBES = {
    "turn_begin": 1, "turn_end": 1, "callback_begin": 2, "callback_end": 2, "task_step": 2, "accept": 2, "read": 3, "write": 3,
}  # fmt: skip


@pytest.fixture
def extension(cloop):
    return importlib.import_module("cloop._cloop")


@pytest.fixture
def notes(extension):
    """[(probe, address, number of arguments)] of the extension module."""
    if shutil.which("readelf") is None:
        pytest.skip("no readelf")
    text = subprocess.run(
        ["readelf", "-n", extension.__file__], stdout=subprocess.PIPE, universal_newlines=True, check=True
    ).stdout
    found = re.findall(r"Provider: cloop\s+Name: (\w+)\s+Location: 0x(\w+),.*\s+Arguments: (.*)", text)
    return [(name, int(address, 16), len(arguments.split())) for name, address, arguments in found]


@pytest.fixture
def traced(extension):
    if "-DCL_USDT" not in extension.build_info()["flags"].split():
        pytest.skip("built without tracepoints")


def test_every_probe_has_its_arguments(traced, notes):
    assert {name: count for name, _, count in notes} == PROBES


def test_each_is_one_nop(traced, notes, extension):
    if shutil.which("objdump") is None:
        pytest.skip("no objdump")
    for _, address, _ in notes:
        text = subprocess.run(
            ["objdump", "-d", "--start-address=%d" % address, "--stop-address=%d" % (address + 1), extension.__file__],
            stdout=subprocess.PIPE, universal_newlines=True, check=True,
        ).stdout  # fmt: skip
        assert re.search(r"^ +%x:.*\bnop$" % address, text, re.M), text


def test_other_builds_have_none(extension, notes):
    if "-DCL_USDT" not in extension.build_info()["flags"].split():
        assert notes == []
