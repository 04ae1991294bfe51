"""python -m cloop: runs a program as Python itself would, only on another loop."""

import json
import os
import platform
import signal
import subprocess
import sys
import zipfile

import pytest

pytestmark = pytest.mark.slow

LOOK = """
import json, os, sys
print(json.dumps(dict(
    argv=sys.argv, name=__name__, file=globals().get("__file__"), package=globals().get("__package__"),
    path=os.path.abspath(sys.path[0]), doc=__doc__, main=sys.modules["__main__"].__dict__ is globals(),
    spec=__spec__ and __spec__.name, builtins=__builtins__ is sys.modules["builtins"], extra=sorted(
        name for name in globals() if not name.startswith("__")))))
"""
WHICH_LOOP = """
import asyncio
async def main():
    print(type(asyncio.get_running_loop()).__module__.split(".")[0])
asyncio.run(main())
"""


@pytest.fixture
def both(cloop, python):
    """Runs Python with the given arguments, and `python -m cloop` with them; returns both results."""

    def both(*args, **options):
        return python(*args, **options), python("-m", "cloop", *args, **options)

    return both


@pytest.fixture
def both_from(cloop, python):
    """The same, with a file as standard input."""

    def both_from(path, *args):
        done = []
        for launcher in [], ["-m", "cloop"]:
            with open(str(path), "rb") as file:
                done.append(python(*launcher, *args, stdin=file))
        return done

    return both_from


@pytest.fixture
def main(cloop, python):
    """Runs `python -m cloop` with the given arguments."""
    return lambda *args, **options: python("-m", "cloop", *args, **options)


@pytest.fixture(params=["PROGRAM", "-m", "-c", "-m package"])
def way(request, write_script):
    """The arguments that run the text of a program, for each way to name one."""

    def way(text):
        if request.param == "PROGRAM":
            return [write_script(text, "program.py")]
        if request.param == "-c":
            return ["-c", text]
        if request.param == "-m":
            write_script(text, "some_module.py")
            return ["-m", "some_module"]
        write_script("", "some_package/__init__.py")
        write_script(text, "some_package/__main__.py")
        return ["-m", "some_package"]

    return way


# Running a program


def test_program_runs_on_cloop(main, way):
    process = main(*way(WHICH_LOOP))
    assert process.stdout == "cloop\n", process.stderr
    assert process.returncode == 0


@pytest.mark.parametrize("text", [
    "import asyncio; loop = asyncio.new_event_loop(); print(type(loop).__module__.split('.')[0]); loop.close()",
    "import asyncio; loop = asyncio.get_event_loop_policy().new_event_loop(); print(type(loop).__module__.split('.')[0]); loop.close()",
], ids=["new_event_loop", "policy"])  # fmt: skip
def test_loops_made_otherwise_are_of_cloop(main, text):
    process = main("-c", "import warnings; warnings.simplefilter('ignore')\n" + text)
    assert process.stdout == "cloop\n", process.stderr


@pytest.mark.parametrize(
    "args", [(), ("a", "b c"), ("--version", "-m", "-c", "-x", "--", "--info", "-h")], ids=["none", "two", "options"]
)
def test_program_sees_what_it_sees_under_python(both, way, args):
    theirs, ours = both(*way(LOOK), *args)
    assert theirs.returncode == 0, theirs.stderr
    assert ours.returncode == 0, ours.stderr
    assert json.loads(ours.stdout) == json.loads(theirs.stdout)


def test_program_by_relative_path(both, write_script):
    write_script(LOOK, "folder/program.py")
    theirs, ours = both(os.path.join("folder", "program.py"))
    assert json.loads(ours.stdout) == json.loads(theirs.stdout)


def test_program_in_a_folder_with_main(both, write_script):
    folder = write_script(LOOK, "folder/__main__.py").parent
    theirs, ours = both(folder)
    expected, seen = json.loads(theirs.stdout), json.loads(ours.stdout)
    for key in ("argv", "name", "main"):
        assert seen[key] == expected[key]


def test_program_imports_its_neighbours(main, write_script):
    write_script("value = 42", "neighbour.py")
    process = main(write_script("import neighbour; print(neighbour.value)", "program.py"))
    assert process.stdout == "42\n", process.stderr


def test_program_can_be_pickled_by_name(main, write_script):
    process = main(
        write_script("import pickle\nclass A: pass\nprint(type(pickle.loads(pickle.dumps(A()))) is A)", "program.py")
    )
    assert process.stdout == "True\n", process.stderr


def test_program_reads_standard_input(main, way):
    process = main(*way("print(input())"), stdin=open(os.devnull))
    assert process.returncode == 1
    assert process.stderr.splitlines()[-1].startswith("EOFError")


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="asyncio's policies are deprecated")
def test_program_is_warned_of_nothing(main, way):
    process = main(*way(WHICH_LOOP))
    assert process.stderr == ""


@pytest.mark.parametrize("args", [[], ["-"], ["-", "a"]], ids=["nothing", "dash", "argument"])
def test_program_on_standard_input(cloop, python, write_script, args):
    path, seen = write_script(LOOK), []
    for launcher in [], ["-m", "cloop"]:
        with open(str(path)) as program:
            seen.append(json.loads(python(*launcher, *args, stdin=program).stdout))
    assert seen[0] == seen[1]


@pytest.mark.parametrize("args", [[], ["-"]], ids=["nothing", "dash"])
def test_program_on_standard_input_says_its_encoding(both_from, tmp_path, args):
    path = tmp_path / "program"
    path.write_bytes(b"# coding: latin-1\nprint(ascii('\xe9'))\n")
    for process in both_from(path, *args):
        assert (process.stdout, process.stderr, process.returncode) == ("'\\xe9'\n", "", 0)


WHICH_START = "if __name__ == '__main__':\n    import multiprocessing; print(multiprocessing.get_start_method())\n"


@pytest.mark.parametrize("text", ["print(__name__)\n", WHICH_START], ids=["name", "guard"])
@pytest.mark.parametrize("launcher", [[], ["-m", "cloop"]], ids=["python", "cloop"])
def test_program_in_a_pipe(python, cloop, launcher, text):
    """The shell's `python -m cloop <(command)`. What was read once is not there a second time."""
    reading, writing = os.pipe()
    try:
        os.write(writing, text.encode())
        os.close(writing)
        process = python(*launcher, "/dev/fd/%d" % reading, pass_fds=[reading])
    finally:
        os.close(reading)
    assert process.stdout == python("-c", text).stdout != ""
    assert (process.stderr, process.returncode) == ("", 0)


SHOW_PATH = "import sys; print(globals().get('__file__'), sys.path[0])"


@pytest.mark.parametrize(
    "path", ["program.py", "./program.py", "folder/../program.py", "folder", "./folder/..", "folder.zip"]
)
def test_path_of_a_program_is_made_absolute_as_python_does(both, write_script, tmp_path, path):
    with zipfile.ZipFile(str(tmp_path / "folder.zip"), "w") as archive:
        archive.writestr("__main__.py", SHOW_PATH)
    write_script(SHOW_PATH, "program.py")
    write_script(SHOW_PATH, "__main__.py")
    write_script(SHOW_PATH, "folder/__main__.py")
    theirs, ours = both(path)
    assert (ours.stdout, ours.stderr) == (theirs.stdout, theirs.stderr)


@pytest.mark.parametrize("way", ["PROGRAM", "relative", "-m", "-c", "-"])
def test_program_in_a_folder_that_was_removed(cloop, cloop_on_path, tmp_path, write_script, way):
    text = "import sys; print(sys.path, __name__, sys.argv)"
    arguments = {
        "PROGRAM": [str(write_script(text, "program.py"))],
        "relative": ["program.py"],
        "-m": ["-m", "timeit", "-n1", "-r1", text],
        "-c": ["-c", text],
        "-": ["-"],
    }[way]
    seen = []
    for launcher in [], ["-m", "cloop"]:
        (tmp_path / "folder").mkdir()
        command = ["sh", "-c", 'rmdir ../folder && exec "$@"', "sh", sys.executable, *launcher, *arguments]
        process = subprocess.run(
            command, cwd=str(tmp_path / "folder"), input=text.encode(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        seen.append((process.stdout.splitlines()[:1], process.stderr, process.returncode))
    assert seen[0] == seen[1]


@pytest.mark.skipif(sys.version_info < (3, 14), reason="Python 3.14 removes common indentation")
def test_code_is_dedented(main):
    process = main("-c", "\n    import sys\n    print(sys.argv)\n", "a")
    assert (process.stdout, process.stderr) == ("['-c', 'a']\n", "")


# How it ends


@pytest.mark.parametrize(
    "text",
    [
        "import sys; sys.exit(3)",
        "import sys; sys.exit('a message')",
        "import sys; sys.exit(None)",
        "import sys; sys.exit(True)",
        "raise SystemExit(300)",
        "import os; os._exit(5)",
        "import asyncio\nasync def main(): raise SystemExit(7)\nasyncio.run(main())",
        "import atexit; atexit.register(print, 'bye')",
        "import threading; threading.Timer(0.01, print, ['late']).start()",
        "pass",
    ],
)
def test_exit_status_and_output_are_those_of_python(both, way, text):
    theirs, ours = both(*way(text))
    assert (ours.returncode, ours.stdout, ours.stderr) == (theirs.returncode, theirs.stdout, theirs.stderr)


def test_uncaught_exception_is_shown_without_our_frames(main, way):
    process = main(*way("def function():\n    raise ValueError('on purpose')\nfunction()"))
    assert process.returncode == 1
    lines = process.stderr.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1] == "ValueError: on purpose"
    assert "in function" in process.stderr and "in <module>" in process.stderr
    assert os.path.join("cloop", "__main__") not in process.stderr


@pytest.mark.parametrize("way", ["PROGRAM", "-c", "-"])
def test_traceback_is_that_of_python(both, both_from, write_script, way):
    """From 3.13 on it has the lines of `-c`, too."""
    text = "def function():\n    raise ValueError('on purpose')\nfunction()\n"
    path = write_script(text, "program.py")
    if way == "-":
        theirs, ours = both_from(path)
    else:
        theirs, ours = both(*[path] if way == "PROGRAM" else [way, text])
    assert theirs.returncode == ours.returncode == 1
    assert ours.stderr == theirs.stderr


def test_exception_in_a_coroutine_is_shown(main, way):
    process = main(*way("import asyncio\nasync def main():\n    1 / 0\nasyncio.run(main())"))
    assert process.returncode == 1
    assert process.stderr.splitlines()[-1].startswith("ZeroDivisionError")
    assert "in main" in process.stderr


def test_syntax_error_is_shown(main, way):
    process = main(*way("def ("))
    assert process.returncode == 1
    assert process.stderr.splitlines()[-1].startswith("SyntaxError")


def test_interrupt_ends_it_as_it_ends_python(both):
    text = "import os, signal, time, asyncio\nasync def main():\n    asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGINT)\n    await asyncio.sleep(20)\nasyncio.run(main())"
    theirs, ours = both("-c", text)
    assert theirs.returncode == -signal.SIGINT
    assert ours.returncode == theirs.returncode
    assert ours.stderr.splitlines()[-1] == "KeyboardInterrupt"


def test_loop_that_lives_until_modules_are_emptied(both_from, write_script):
    """That of asyncio's REPL, on some Pythons: a thread has it that never ends."""
    for process in both_from(write_script("print(40 + 2)"), "-m", "asyncio"):
        assert "42\n" in process.stdout + process.stderr
        assert "Exception ignored" not in process.stderr and "Traceback" not in process.stderr


def test_missing_program(both):
    theirs, ours = both("no_such_program.py")
    assert theirs.returncode == ours.returncode == 2
    assert "no_such_program.py" in ours.stderr
    assert "Traceback" not in ours.stderr


def test_missing_module(both):
    theirs, ours = both("-m", "no_such_module")
    assert theirs.returncode == ours.returncode == 1
    assert "No module named no_such_module" in ours.stderr.replace("'", "")
    assert "Traceback" not in ours.stderr


# Its own options


def test_version(cloop, main):
    process = main("--version")
    assert process.returncode == 0
    assert cloop.__version__ in process.stdout


def test_info(cloop, main):
    process = main("--info")
    assert process.returncode == 0, process.stderr
    for expected in (cloop.__version__, platform.python_version(), platform.release(), "poll"):
        assert expected in process.stdout


@pytest.mark.parametrize("poller", ["epoll", "poll"])
def test_info_names_the_poller(main, monkeypatch, poller):
    monkeypatch.setenv("CLOOP_POLLER", poller)
    lines = [line for line in main("--info").stdout.splitlines() if "poller" in line.lower()]
    assert len(lines) == 1 and lines[0].split()[-1] == poller


def test_help(main):
    process = main("--help")
    assert process.returncode == 0
    for word in ("usage", "-m", "-c", "--no-compat", "--no-uvloop", "--version", "--info"):
        assert word in process.stdout


@pytest.mark.parametrize("args", [(), ("--no-such-option",), ("-m",), ("-c",)], ids=" ".join)
def test_wrong_usage(main, args):
    process = main(*args, stdin=subprocess.DEVNULL)
    assert process.returncode == 2
    assert "usage" in process.stderr.lower()
    assert "Traceback" not in process.stderr


@pytest.mark.parametrize("option", ["-u", "-O", "-Xdev", "-X dev", "-W error", "-Werror", "-X", "-W"])
def test_options_of_python_are_told_where_to_go(main, option):
    process = main(*option.split(), *["program.py"] * (len(option) > 2))
    assert process.returncode == 2
    assert "unknown option: %s; " % option.split()[0] in process.stderr
    assert process.stderr.splitlines()[0].endswith(": python %s -m cloop" % option)


@pytest.mark.parametrize(
    "variable, part, line",
    [
        (None, "tasks", "native"),
        (None, "streams", "native"),
        (None, "TLS", "native, OpenSSL"),
        (None, "writes", "held where that has paid"),
        ("CLOOP_TASKS=stock", "tasks", "asyncio's, by CLOOP_TASKS=stock"),
        ("CLOOP_STREAMS=stock", "streams", "asyncio's, by CLOOP_STREAMS=stock"),
        ("CLOOP_TLS=stock", "TLS", "asyncio's, by CLOOP_TLS=stock"),
        ("CLOOP_TLS=memorybio", "TLS", "native, by MemoryBIO"),
        ("CLOOP_GATHER=0", "writes", "each is sent at once, by CLOOP_GATHER=0"),
    ],
)
def test_info_says_what_is_native_and_why_something_is_not(main, monkeypatch, variable, part, line):
    for name in "CLOOP_TASKS", "CLOOP_STREAMS", "CLOOP_TLS", "CLOOP_GATHER":
        monkeypatch.delenv(name, raising=False)
    if variable is not None:
        monkeypatch.setenv(*variable.split("="))
    (found,) = [each for each in main("--info").stdout.splitlines() if each.startswith(part + " ")]
    assert found.split(None, 1)[1].startswith(line)
