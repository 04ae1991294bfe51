"""rounds.py, the plugin that runs each test many times and looks for memory that is not given back."""

import os
import re

import pytest

pytestmark = pytest.mark.slow

TESTS = """
kept, runs = [], []


def test_that_keeps_an_object():
    runs.append("keeps")
    kept.append(object())


def test_that_keeps_some_at_first():
    runs.append("at first")
    if len(kept) < 100:
        kept.extend([object() for _ in range(10)])


def test_that_fails():
    runs.append("fails")
    assert False


def test_how_often_they_ran():
    assert [runs.count(each) for each in ("keeps", "at first", "fails")] == [37, 37, 1]
"""


def test_what_keeps_more_and_more_memory_fails(python, write_script, monkeypatch):
    path = write_script(TESTS, "test_memory.py")
    write_script("", "pytest.ini")  # so that this is not a part of the suite
    monkeypatch.setenv("PYTHONPATH", os.path.dirname(os.path.abspath(__file__)), prepend=os.pathsep)
    told = python("-m", "pytest", "-q", "-p", "rounds", "-p", "no:cacheprovider", path).stdout
    assert re.findall(r"^FAILED \S+::(\w+)", told, re.M) == ["test_that_keeps_an_object", "test_that_fails"], told
    assert re.search(r"^leaves 1 blocks of memory$", told, re.M), told
    assert re.search(r"^2 failed, 2 passed", told, re.M), told
