"""python -m cloop bench: each row on each loop that is installed, and why one has no figure."""

import asyncio
import importlib
import json
import re
import shutil

import pytest

QUICK = ["--rounds", "1", "--seconds", "0"]


@pytest.fixture
def module(cloop):
    return importlib.import_module("cloop._bench")


@pytest.fixture
def bench(cloop, python):
    def bench(*args, status=0):
        process = python("-m", "cloop", "bench", *QUICK, *args)
        assert process.returncode == status and process.stderr == "", process.stderr
        return process.stdout

    return bench


def test_measures_every_row(bench, module, tmp_path):
    text = bench("--loops", "asyncio", "--json", str(tmp_path / "out.json"))
    found = json.loads((tmp_path / "out.json").read_text())
    assert list(found["rows"]) == list(module.ROWS)
    for row, results in found["rows"].items():
        if row.startswith("TLS") and shutil.which("openssl") is None:
            continue
        assert set(results) == {"cloop", "asyncio"} and all(len(each) == 1 and each[0] > 0 for each in results.values())
        assert re.search(
            r"^" + re.escape(row) + r" +[\d.]+ (ns|µs|ms) +[\d.]+ (ns|µs|ms) +\d+\.\d\d$", text, re.MULTILINE
        )
    assert re.search(r"^geometric mean +\d+\.\d\d$", text, re.MULTILINE)
    assert found["build"]["compiler"] and found["rounds"] == 1


def test_another_loop_fails_alone(bench, write_script, monkeypatch, tmp_path):
    """One that has no tasks, that ends its process, that cannot be imported, and one that is asyncio's."""
    write_script("import asyncio\nclass EventLoopPolicy:\n new_event_loop = asyncio.SelectorEventLoop", "fine.py")
    write_script(
        "import asyncio, os\n"
        "class new_event_loop(asyncio.SelectorEventLoop):\n"
        "    def create_task(self, *args, **options):\n"
        "        raise NotImplementedError('no tasks')\n"
        "    def call_later(self, *args, **options):\n"
        "        os._exit(3)",
        "poor.py",
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    text = bench("--loops", "fine,poor,absent", "--only", "call")
    assert "n/a, absent: ModuleNotFoundError: No module named 'absent' (all rows)" in text
    assert "n/a, poor: NotImplementedError: no tasks (" in text
    assert not re.search("n/a, (fine|cloop)", text)


def test_a_process_that_ends_is_started_again(bench, write_script, monkeypatch, tmp_path):
    write_script(
        "import asyncio, os\n"
        "class new_event_loop(asyncio.SelectorEventLoop):\n"
        "    def call_later(self, *args, **options):\n"
        "        os._exit(3)",
        "fragile.py",
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    text = bench("--loops", "fragile", "--only", "call")
    assert re.search(r"n/a, fragile: its process ended with status 3 \(call_later\(\) and cancel\(\)", text)
    assert re.search(r"^call_soon_threadsafe\(\) +[\d.]+ \S+ +[\d.]+ ", text, re.MULTILINE)


def test_markdown(bench):
    lines = [line for line in bench("--markdown", "--loops", "asyncio", "--only", "sleep").splitlines() if "|" in line]
    assert [line.count("|") for line in lines] == [5] * 4
    assert lines[0] == "| processor time of one operation | cloop | asyncio | x |" and lines[1] == "|---|--:|--:|--:|"


def test_loops_and_rows_that_do_not_exist(python, cloop):
    process = python("-m", "cloop", "bench", "--only", "nonsense")
    assert process.returncode == 2 and "no row has 'nonsense' in its name" in process.stderr


def test_a_program_of_that_name_is_run(cloop, python, write_script):
    write_script("print('the program')", "bench")
    assert python("-m", "cloop", "bench").stdout == "the program\n"


@pytest.mark.parametrize("ns, text", [(1.234, "1.23 ns"), (99.9, "99.9 ns"), (1234, "1234 ns"), (12345, "12.3 µs"),
                                      (123456, "123 µs"), (2e7, "20 ms")])  # fmt: skip
def test_durations(module, ns, text):
    assert module.duration(ns) == text


def test_ratios_are_of_the_same_round(module):
    assert module.ratios({"cloop": [1, 10, 100], "other": [2, 30, 400]}) == {"other": 3}
    assert module.ratios({"other": [1]}) == {}


@pytest.mark.parametrize("reply", [b"?" * 23 * 50, b"a reply of a few bytes\n" * 49])
def test_wrong_answers_are_noticed(module, reply):
    class Wrong(module.SmallReplies):
        def data_received(self, data):
            self.transport.write(reply)
            self.transport.close()

    loop = asyncio.SelectorEventLoop()
    loop.set_exception_handler(lambda loop, context: None)
    try:
        with pytest.raises(ConnectionError):
            loop.run_until_complete(module.exchange(loop, 2, module.Asking, Wrong, 1))
    finally:
        loop.close()
