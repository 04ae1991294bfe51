"""The programs of this folder in their short forms: each prints figures, and fails if one is wrong. `make nightly` runs the
long forms.
"""

import os
import re
import sys
import sysconfig

import pytest

pytestmark = pytest.mark.slow

HERE = os.path.dirname(os.path.abspath(__file__))


@pytest.fixture
def program(cloop, python, monkeypatch):
    """Runs a program on cloop; returns its figures."""
    pytest.importorskip("trustme")
    # AddressSanitizer keeps what was freed for a while, up to 256 MiB: that is no growth.
    monkeypatch.setenv("ASAN_OPTIONS", os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=1")

    def program(name, *args):
        done = python(os.path.join(HERE, name), *args)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return program


def test_integrity(program):
    figures = program("integrity.py", "--count", "60000")
    assert int(re.search(r"messages: (\d+)", figures)[1]) >= 60000
    assert "misdelivered: 0, lost: 0, doubled: 0, out of order: 0, garbled: 0" in figures


@pytest.mark.alone
@pytest.mark.parametrize("name", ["overload.py", "lifecycle.py", "leaks.py"])
def test_short_form(program, name):
    assert "failed: 0" in program(name, "--small")


def test_threads(program, monkeypatch):
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        monkeypatch.setenv("PYTHON_GIL", "0")
    assert "findings: 0" in program("threads.py", "--seconds", "1")


def test_faults(program):
    assert "findings: 0" in program("faults.py", "--small")


# Of these, nothing depends on how much the kernel takes at once, nor on the order of a set.
STEADY = "scheduling", "tasks", "streams", "datagrams", "subprocesses", "addresses", "monitor"


@pytest.mark.skipif(sys.version_info[:2] not in ((3, 11), (3, 14)), reason="asyncio has other faults of its own there")
def test_fuzz(program):
    figures = program("fuzz.py", "--seconds", "7", "--seed", "1", *STEADY)
    assert re.search(r"^executions: \d{2,} of 7 kinds, findings: 0$", figures, re.M), figures


def test_hostile_tls(program):
    figures = program("hostile_tls.py", "--seconds", "8")
    cases = re.search(r"^cases: \d+ \(default (\d+), memorybio (\d+)\).* findings: 0$", figures, re.M)
    assert cases and int(cases[1]) and int(cases[2]), figures


def test_mutation_makes_the_same_changes_for_the_same_seed(program):
    first = program("mutation.py", "--list", "--count", "30", "--seed", "7")
    assert first == program("mutation.py", "--list", "--count", "30", "--seed", "7")
    assert len(re.findall(r"^ +\d+ csrc/\S+:\d+ ", first, re.M)) == 30


@pytest.mark.alone
def test_soak(program):
    assert "lost: 0, doubled: 0" in program("soak.py", "--hours", "0.003")


def test_figures_have_room_in_a_night(program):
    commands = program("figures.py", "--list")
    assert int(re.search(r"^(\d+) minutes in all$", commands, re.M)[1]) <= 210
    with open(os.path.join(HERE, "..", "..", "Makefile")) as file:
        targets = re.findall(r"^([\w -]+):", file.read(), re.M)
    targets = {name for line in targets for name in line.split()}
    assert targets >= {line.split()[2] for line in commands.splitlines() if line.startswith("make ")}
