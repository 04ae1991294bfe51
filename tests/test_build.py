"""setup.py: one clear line about what is missing, and rebuilds of what has changed."""

import os
import re
import shutil
import subprocess
import sys
import textwrap
import time

import pytest

pytest.importorskip("setuptools")

pytestmark = pytest.mark.slow

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MODULE = """
#include <Python.h>
#include "answer.h"
static int setup(PyObject *module) { return PyModule_AddIntConstant(module, "answer", ANSWER); }
static PyModuleDef_Slot slots[] = {{Py_mod_exec, (void *)setup}, {0, NULL}};
static PyModuleDef def = {PyModuleDef_HEAD_INIT, .m_name = "_cloop", .m_slots = slots};
__attribute__((visibility("default"))) PyMODINIT_FUNC PyInit__cloop(void) { return PyModuleDef_Init(&def); }
"""


@pytest.fixture
def tree(tmp_path):
    """A checkout with a one-line extension module, built by our setup.py."""
    for name in "setup.py", "pyproject.toml", "README.md", "LICENSE", "cloop/_version.py":
        target = tmp_path / name
        target.parent.mkdir(exist_ok=True)
        shutil.copy(os.path.join(ROOT, name), str(target))
    (tmp_path / "csrc").mkdir()
    (tmp_path / "cloop" / "__init__.py").write_text("")
    (tmp_path / "csrc" / "module.c").write_text(MODULE)
    (tmp_path / "csrc" / "answer.h").write_text("#define ANSWER 1\n")
    return tmp_path


@pytest.fixture
def setup(tree):
    """Runs setup.py in place; python is code that runs before it in the same interpreter."""

    def setup(python="pass", **environment):
        env = {name: value for name, value in os.environ.items() if not name.startswith(("CLOOP_", "LD_", "CFLAGS"))}
        env.update(environment)
        start = "import runpy, sys; sys.argv = ['setup.py', '-q', 'build_ext', '--inplace']\n%s\n" % python
        return subprocess.run(
            [sys.executable, "-c", start + "runpy.run_path('setup.py', run_name='__main__')"],
            cwd=str(tree), env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True,
        )  # fmt: skip

    return setup


@pytest.fixture
def built(tree, setup):
    """Builds, and returns the extension's file and its answer."""

    def built(**environment):
        done = setup(**environment)
        assert done.returncode == 0, done.stderr
        (extension,) = (tree / "cloop").glob("_cloop*.so")
        command = [sys.executable, "-c", "from cloop import _cloop; print(_cloop.answer)"]
        answer = subprocess.run(command, cwd=str(tree), stdout=subprocess.PIPE, universal_newlines=True).stdout
        return extension, int(answer)

    return built


def script(path, text):
    path.write_text("#!/bin/sh\n" + textwrap.dedent(text))
    path.chmod(0o755)
    return str(path)


def refusal(done):
    """The single line of a failed build."""
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_no_compiler(setup):
    assert "C11 compiler, and there is no nonesuch: apt-get install gcc" in refusal(setup(CC="nonesuch"))


def test_compiler_without_c_library(setup, tmp_path):
    line = refusal(setup(CC=script(tmp_path / "bare", 'exec cc -nostdinc "$@"')))
    assert "headers of the C library: apt-get install gcc libc6-dev" in line
    assert "stdatomic.h" in line


def test_no_python_headers(setup, tmp_path):
    # The last argument is the source to compile.
    compiler = script(tmp_path / "headless", 'for last; do :; done; grep -qs Python.h "$last" && exit 1; exec cc "$@"')
    line = refusal(setup(CC=compiler))
    assert "headers of Python %d.%d: apt-get install python3-dev" % sys.version_info[:2] in line


@pytest.mark.parametrize(
    "python, line",
    [
        ("sys.version_info = (3, 7, 17, 'final', 0)", "cloop needs CPython 3.8 or newer: "),
        ("sys.implementation.name = 'pypy'", "cloop needs CPython 3.8 or newer: "),
        ("sys.platform = 'win32'", "cloop does not run on Windows, but winloop does"),
        ("sys.platform = 'sunos5'", "cloop runs on Linux, and may on macOS and FreeBSD; this is sunos5"),
        ("sys.modules['setuptools'] = None", "cloop needs setuptools to build: "),
    ],
)
def test_what_the_interpreter_lacks(setup, python, line):
    assert refusal(setup(python)).startswith(line)


@pytest.mark.parametrize("system", ["darwin", "freebsd14"])
def test_untried_systems_are_told_so(setup, system):
    # What is built is Linux's: only the line is of interest.
    done = setup("sys.platform = %r" % system)
    assert done.stderr.startswith("cloop has never run on this system (%s): it was compiled for it" % system)


def test_unknown_build(setup):
    assert refusal(setup(CLOOP_BUILD="fast")).startswith("CLOOP_BUILD=fast is none of release, debug")


def test_warnings_are_errors_if_asked(tree, setup):
    with open(str(tree / "csrc" / "module.c"), "a") as file:
        file.write("static int unused;\n")
    assert setup().returncode == 0
    assert setup(CLOOP_WERROR="1").returncode != 0


USDT = "#ifdef CL_USDT\n#define ANSWER 5\n#else\n#define ANSWER 6\n#endif\n"


@pytest.fixture
def sdt(tmp_path):
    """CFLAGS for a folder that has systemtap's header."""
    folder = tmp_path / "include" / "sys"
    folder.mkdir(parents=True)
    (folder / "sdt.h").write_text("#define DTRACE_PROBE1(provider, name, a) ((void)(a))\n")
    return "-I%s" % (tmp_path / "include")


def test_tracepoints_if_the_header_is_there(tree, built, sdt):
    (tree / "csrc" / "answer.h").write_text(USDT)
    assert built(CFLAGS=sdt)[1] == 5
    assert built(CFLAGS=sdt, CLOOP_USDT="1")[1] == 5
    assert built(CFLAGS=sdt, CLOOP_USDT="0")[1] == 6


def test_tracepoints_without_the_header(tree, setup, built, tmp_path):
    (tree / "csrc" / "answer.h").write_text(USDT)
    compiler = script(tmp_path / "bare", 'for last; do :; done; grep -qs sys/sdt.h "$last" && exit 1; exec cc "$@"')
    assert built(CC=compiler)[1] == 6
    line = refusal(setup(CC=compiler, CLOOP_USDT="1"))
    assert line.startswith("CLOOP_USDT=1 needs <sys/sdt.h>: apt-get install systemtap-sdt-dev")


def test_unknown_wish_for_tracepoints(setup):
    assert refusal(setup(CLOOP_USDT="yes")).startswith("CLOOP_USDT=yes is none of 0, 1")


def test_builds_again_only_what_changed(tree, built):
    extension, answer = built()
    made = extension.stat().st_mtime
    assert answer == 1
    assert built()[0].stat().st_mtime == made

    time.sleep(0.01)  # so that the header is newer
    (tree / "csrc" / "answer.h").write_text("#define ANSWER 2\n")
    assert built()[1] == 2


def test_going_from_one_build_to_another_and_back(tree, built):
    with open(str(tree / "csrc" / "answer.h"), "w") as file:
        file.write("#ifdef CL_DEBUG\n#define ANSWER 3\n#else\n#define ANSWER 4\n#endif\n")
    assert built()[1] == 4
    assert built(CLOOP_BUILD="debug")[1] == 3
    assert built()[1] == 4


def test_source_that_is_removed_is_no_longer_linked(tree, built):
    (tree / "csrc" / "more.c").write_text("int cl_more = 1;\n")
    assert b"cl_more" in built()[0].read_bytes()
    (tree / "csrc" / "more.c").unlink()
    assert b"cl_more" not in built()[0].read_bytes()


def test_flags_of_the_user_come_last(tree, built):
    (tree / "csrc" / "answer.h").write_text("#ifdef __OPTIMIZE__\n#define ANSWER 1\n#else\n#define ANSWER 5\n#endif\n")
    assert built()[1] == 1
    assert built(CFLAGS="-O0")[1] == 5


def test_published_builds_do_not_depend_on_their_folder(tree, built):
    assert str(tree).encode() in built()[0].read_bytes()  # where a debugger finds the source
    assert str(tree).encode() not in built(SOURCE_DATE_EPOCH="1764288000")[0].read_bytes()


def test_linker_that_takes_no_number_of_processes(built, tmp_path):
    """clang's: gcc's `-flto=2` is an error for it."""
    compiler = script(tmp_path / "clanglike", 'case "$*" in *-flto=*) exit 1;; esac; exec cc "$@"')
    assert built(CC=compiler)[1] == 1


def test_extension_is_hardened(cloop):
    """What setup.py's HARDENING and HARDENED_LINKING lead to, in the extension that is in use."""
    extension = sys.modules["cloop._cloop"]
    if "-fstack-protector" not in extension.build_info()["flags"]:
        pytest.skip("not a release build, or a compiler without it")
    if shutil.which("readelf") is None:
        pytest.skip("there is no readelf")

    def readelf(*options):
        command = ["readelf", "-W", *options, extension.__file__]
        return subprocess.run(command, stdout=subprocess.PIPE, universal_newlines=True, check=True).stdout

    segments = {line.split()[0]: line.split()[6:-1] for line in readelf("-l").splitlines() if " 0x" in line}
    assert segments["GNU_STACK"] == ["RW"]  # a stack cannot be executed
    assert "GNU_RELRO" in segments
    dynamic = readelf("-d")
    assert "BIND_NOW" in dynamic and "TEXTREL" not in dynamic
    assert "__stack_chk_fail" in readelf("-s")
    if "_FORTIFY_SOURCE" in extension.build_info()["flags"]:
        assert re.search(r"__(?!stack)\w+_chk\b", readelf("-s"))
