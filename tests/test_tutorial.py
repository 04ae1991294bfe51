"""The tutorial: each program prints what its page shows, on asyncio and on cloop.

Those that need aiohttp are in tests/ecosystem/test_tutorial.py."""

import os
import signal
import sys

import pytest

pytestmark = pytest.mark.slow

EXAMPLES = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "examples")
PROGRAMS = sorted("tutorial/" + name for name in os.listdir(os.path.join(EXAMPLES, "tutorial")) if name.endswith(".py"))
WITH_AIOHTTP = ["tutorial/20_download.py", "tutorial/21_web.py"]
CTRL_C = "tutorial/11_ctrl_c.py"
OLD_STYLE = "tutorial/13_generators.py"


def text_of(name):
    with open(os.path.join(EXAMPLES, name), encoding="utf-8") as file:
        return file.read()


@pytest.mark.parametrize("name", [name for name in PROGRAMS if name not in WITH_AIOHTTP])
def test_prints_what_its_page_shows(example, tutorial, loop_kind, name):
    done = example(name, *(["-W", "ignore::DeprecationWarning"] if name == OLD_STYLE else []))
    if name == OLD_STYLE and loop_kind == "asyncio" and sys.version_info >= (3, 11):
        assert "has no attribute 'coroutine'" in done.stderr  # as the page says
        return
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == tutorial[name]


def test_launcher_warns_of_what_it_restores(python):
    path = os.path.join(EXAMPLES, OLD_STYLE)
    done = python("-m", "cloop", path)
    assert done.returncode == 0 and "DeprecationWarning" in done.stderr
    if sys.version_info >= (3, 11):
        done = python("-m", "cloop", "--no-compat", path)
        assert done.returncode == 1 and "has no attribute 'coroutine'" in done.stderr


def test_every_program_is_shown_in_order(tutorial):
    """The numbers of the files are the order in which the pages have them."""
    assert list(tutorial) == PROGRAMS
    assert [name for name in PROGRAMS if "import aiohttp" in text_of(name)] == WITH_AIOHTTP


def test_every_program_says_what_to_try():
    for name in PROGRAMS:
        assert "\n\nTry: " in text_of(name).split('"""')[1], name


def test_ctrl_c_from_outside(example, tutorial):
    """Pressed twice, as the program says: run() ends, then the loop that is driven by hand."""
    process = example(CTRL_C, args=["--wait"], popen=True)
    printed = []
    for line in iter(process.stdout.readline, ""):
        printed.append(line)
        if line == "press Ctrl-C\n":
            process.send_signal(signal.SIGINT)
    assert (process.wait(), process.stderr.read()) == (0, "")
    process.stdout.close()
    process.stderr.close()
    assert printed.count("press Ctrl-C\n") == 2
    assert "".join(line for line in printed if line != "press Ctrl-C\n") == tutorial[CTRL_C]
