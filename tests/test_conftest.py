"""What tests/conftest.py changes in pytest."""

import os
import re

HERE = os.path.dirname(os.path.abspath(__file__))


def test_all_that_pytest_prints_reaches_a_file(python, monkeypatch):
    """A capture that started too early took the header, and letters of the progress."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    result = python("-m", "pytest", "-p", "no:cacheprovider", os.path.join(HERE, "core", "test_node.py"), cwd=HERE)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "test session starts" in result.stdout.splitlines()[0]
    letters = "".join(re.findall(r"^(?:\S+\.py )?([.s]+)(?: +\[|$)", result.stdout, re.MULTILINE))
    assert letters.count(".") == int(re.search(r"(\d+) passed", result.stdout).group(1))
