"""The environment variables: an unknown value gives one line, which lists the allowed ones."""

import re
import subprocess
import sys

import pytest

VARIABLES = {
    "CLOOP_ACCELERATE": ["0", "1"],
    "CLOOP_GATHER": ["0", "always"],
    "CLOOP_MONITOR": ["0", "1"],
    "CLOOP_POLLER": ["epoll", "poll"],
    "CLOOP_STREAMS": ["stock"],
    "CLOOP_TASKS": ["stock"],
    "CLOOP_TLS": ["stock", "memorybio"],
}


@pytest.fixture(autouse=True)
def unset(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("name", list(VARIABLES))
@pytest.mark.parametrize("value", ["stok", "STOCK", "1", "own"])
def test_what_is_unknown_is_refused_by_each_new_loop(cloop, monkeypatch, name, value):
    value = value if value not in VARIABLES[name] else "yes"
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError) as caught:
        cloop.new_event_loop()
    text = str(caught.value)
    assert text.startswith("%s=%s is unknown" % (name, value)) and "\n" not in text
    assert all(re.search(r"\b%s\b" % choice, text) for choice in VARIABLES[name])


@pytest.mark.parametrize("name", list(VARIABLES))
def test_what_is_known_or_empty_is_taken(cloop, monkeypatch, name):
    for value in ["", *VARIABLES[name]]:
        monkeypatch.setenv(name, value)
        cloop.new_event_loop().close()


@pytest.mark.parametrize("name", list(VARIABLES))
def test_the_package_is_imported_all_the_same(cloop_on_path, cloop, monkeypatch, name):
    monkeypatch.setenv(name, "nonsense")
    assert subprocess.run([sys.executable, "-c", "import cloop"], timeout=60).returncode == 0


@pytest.mark.parametrize("name", list(VARIABLES))
@pytest.mark.parametrize("arguments", [["-c", "print('ran')"], ["--info"]])
def test_the_launcher_says_one_line(cloop_on_path, cloop, monkeypatch, name, arguments):
    monkeypatch.setenv(name, "nonsense")
    done = subprocess.run(
        [sys.executable, "-m", "cloop", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, timeout=60,
    )  # fmt: skip
    (line,) = done.stderr.splitlines()
    assert line.startswith("cloop: %s=nonsense is unknown" % name)
    assert (done.returncode, done.stdout) == (2, "")
