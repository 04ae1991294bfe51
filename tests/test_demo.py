"""python -m cloop demo: measures each row on each loop, and prints the results."""

import importlib
import re

import pytest

QUICK = ["--rounds", "1", "--seconds", "0"]


@pytest.fixture
def module(cloop):
    return importlib.import_module("cloop._demo")


@pytest.fixture
def demo(cloop, python):
    def demo(*args, **options):
        process = python("-m", "cloop", "demo", *args, **options)
        assert process.returncode == 0 and process.stderr == "", process.stderr
        return process.stdout

    return demo


def test_shows_each_row_for_each_loop(demo, module):
    text = demo(*QUICK)
    for row in module.ROWS:
        following = text.partition(row + "\n")[2].splitlines()
        assert [re.match(r"  (\S+) +[\d.]+ ns \[[\d.]+\.\.[\d.]+\] +\S+$", line)[1] for line in following[:2]] == [
            "cloop",
            "asyncio",
        ]
    assert re.search(r"^asyncio takes \d+\.\d\d times as long", text, re.MULTILINE)
    assert "cloop.run(main())" in text and "python -m cloop your_program.py" in text


@pytest.mark.parametrize("installed", [True, False])
def test_uvloop_is_there_or_missed(demo, module, write_script, monkeypatch, tmp_path, installed):
    """Really asyncio, so that the test does not need uvloop."""
    text = "from asyncio import SelectorEventLoop as new_event_loop" if installed else "raise ImportError"
    write_script(text, "uvloop.py")
    if not installed:
        write_script("import importlib.util as u; f = u.find_spec\nu.find_spec = lambda name: None if name == 'uvloop' else f(name)",
                     "sitecustomize.py")  # fmt: skip
        monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    text = demo(*QUICK)
    assert len(re.findall("^  uvloop ", text, re.MULTILINE)) == (len(module.ROWS) if installed else 0)
    assert ("uvloop is not installed here" in text) != installed


def test_a_program_of_that_name_is_run(cloop, python, write_script):
    write_script("print('the program')", "demo")
    assert python("-m", "cloop", "demo").stdout == "the program\n"


def test_bars_are_as_long_as_medians(module, monkeypatch):
    class Out:
        encoding = "ascii"

        def isatty(self):
            return False

    monkeypatch.setenv("COLUMNS", "82")
    lines = list(module.Painter(Out()).row({"cloop": [1.0, 10.0, 30.0], "asyncio": [40.0, 41.0, 4000.0]}))
    assert lines[0].split() == ["cloop", "10.0", "ns", "[1.0..30.0]", "#" * int(40 * 10 / 41)]
    assert lines[1].split() == ["asyncio", "41.0", "ns", "[40.0..4000]", "#" * 40]
