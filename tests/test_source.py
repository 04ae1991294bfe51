"""The rules that the C sources keep, so that reviewers need not check them."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CSRC = os.path.join(ROOT, "csrc")
TOP = ""  # csrc itself
LAYERS = ["base", "poller", "core", "futures", "streams", "sync", "net", "tls", TOP]
COMPAT = ["base/compat.c", "base/compat.h", "base/compat_stress.h", "futures/layout.h"]

# What is writable at file scope, or for the whole process, and why interpreters with a GIL each may share it.
SHARED = {
    (
        "base/compat.c",
        "state_key",
    ): "a name that Python 3.8 interns once for all interpreters, which have one GIL there",
    ("base/stress.c", "stress"): "what a stress build does to itself: atomic",
    (
        "tls/engine.c",
        "bio_get_data",
    ): "a function of the TLS library, which interpreters share: atomic, never changed once set",
    (
        "tls/engine.c",
        "bio_method",
    ): "a BIO's method must live as long as the BIO, which does not know its interpreter: the same",
}

# Tables that CPython wants writable. It reads them, but for PyModuleDef, which it changes under a lock of its own.
TABLES = r"(static |extern )?(Py(MethodDef|MemberDef|GetSetDef|ModuleDef_Slot|Type_Slot) |char \*)"  # char *: the names of keywords, for PyArg_ParseTupleAndKeywords()

# C's functions that keep a result or a setting for the whole process.
PROCESS_WIDE = (
    r"atexit|at_quick_exit|pthread_atfork|pthread_key_create|pthread_once|call_once|setlocale|strtok|localtime|gmtime|asctime"
    r"|ctime|strerror|rand|srand|putenv|setenv|unsetenv|signal|alarm|setitimer|umask|chdir|gethostbyname|inet_ntoa|readdir|dlerror"
)
PROCESS_WIDE_API = (  # of CPython, which knows one interpreter by these, or keeps something for all
    r"PyGILState_\w+|PyEval_InitThreads|Py_AtExit|PyOS_InputHook|PyImport_AppendInittab|Py_AddPendingCall"
    r"|PyState_\w+|PyEval_SetTrace|PyEval_SetProfile"
)


def sources(*suffixes):
    """Paths below csrc."""
    found = [
        os.path.relpath(os.path.join(folder, name), CSRC).replace(os.sep, "/")
        for folder, _, names in os.walk(CSRC)
        for name in names
        if name.endswith(suffixes)
    ]
    return sorted(found)


def text_of(path):
    with open(os.path.join(CSRC, path), encoding="utf-8") as file:
        return file.read()


def code_of(path):
    """The text without its comments."""
    return re.sub(r"/\*.*?\*/|//[^\n]*", "", text_of(path), flags=re.DOTALL)


def includes(path, form):
    return re.findall(r"^\s*#\s*include\s*" + form, code_of(path), flags=re.MULTILINE)


def layer(path):
    return os.path.dirname(path)


def test_there_are_sources():
    assert "base/compat.h" in sources(".h")


@pytest.mark.parametrize("path", sources(".c", ".h"))
def test_file_is_in_a_layer_and_includes_none_above_it(path):
    allowed = LAYERS[: LAYERS.index(layer(path)) + 1]
    for included in includes(path, '"([^"]+)"'):
        assert os.path.exists(os.path.join(CSRC, included)), "named from csrc, as in core/loop.h"
        assert layer(included) in allowed, included


@pytest.mark.parametrize("path", [path for path in sources(".c", ".h") if path not in COMPAT])
def test_only_compat_knows_python_versions(path):
    found = re.findall(r"PY_VERSION_HEX|PY_M\w+_VERSION|Py_GIL_DISABLED|pycore_\w+", code_of(path))
    assert found == []


@pytest.mark.parametrize("path", [path for path in sources(".c", ".h") if path != "base/compat.h"])
def test_only_compat_includes_python(path):
    of_python = set(os.listdir(sysconfig.get_path("include")))
    assert [name for name in includes(path, "<([^>]+)>") if name in of_python] == []


@pytest.mark.parametrize("path", sources(".c"))
def test_file_includes_its_own_header_first(path):
    header = path[:-2] + ".h"
    if os.path.exists(os.path.join(CSRC, header)):
        assert includes(path, '["<]([^">]+)')[0] == header


@pytest.mark.parametrize("path", sources(".h"))
def test_what_may_run_python_says_so_in_one_form(path):
    """CONTRIBUTING.md: `Runs Python.` are the last words of a declaration's comment."""
    for comment in re.findall(r"/\*.*?\*/", text_of(path), flags=re.DOTALL):
        text = " ".join(re.sub(r"\n\s*\*", " ", comment[2:-2]).split())
        for found in re.finditer(r"\bruns? python\b(?!'| code\b)", text, flags=re.IGNORECASE):
            assert re.fullmatch(r"Runs? Python\.", text[found.start() :]), text


@pytest.fixture(scope="module")
def compiler():
    command = shlex.split(os.environ.get("CC", "cc"))
    if shutil.which(command[0]) is None:
        pytest.skip("there is no " + command[0])
    flags = subprocess.run(
        [sys.executable, "-c", "import runpy; print('\\n'.join(runpy.run_path('setup.py')['flags']('debug')[0]))"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True,
    )  # fmt: skip
    if flags.returncode:
        pytest.skip(flags.stderr)
    return command + flags.stdout.split() + ["-Werror", "-I" + CSRC, "-I" + sysconfig.get_path("include")]


@pytest.mark.parametrize("path", sources(".h"))
def test_header_compiles_alone(compiler, tmp_path, path):
    alone = tmp_path / "alone.c"
    alone.write_text('#include "%s"\n#include "%s"\n' % (path, path))
    done = subprocess.run(
        compiler + ["-fsyntax-only", str(alone)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
@pytest.mark.skipif(sys.version_info < (3, 13), reason="its headers know no build without a GIL")
def test_sources_compile_without_a_gil(compiler):
    """The headers are the same: so they compile for a Python that is not here."""

    def compile_one(path):
        done = subprocess.run(
            compiler + ["-DPy_GIL_DISABLED=1", "-fsyntax-only", os.path.join(CSRC, path)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True,
        )  # fmt: skip
        return done.stdout

    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        pytest.skip("that is how it was built")
    with ThreadPoolExecutor(2) as pool:
        assert "".join(pool.map(compile_one, sources(".c"))) == ""


# --------------------------------------------------------------------------- calls


def compile_all(compiler):
    """{source: object} of all sources, which are compiled again only if something has changed since."""
    folder = os.path.join(ROOT, "build", "calls-%s-%s" % (os.path.basename(compiler[0]), sys.implementation.cache_tag))
    os.makedirs(folder, exist_ok=True)
    command = [flag for flag in compiler if not flag.startswith(("-g", "-O", "-W"))] + ["-O0", "-fno-lto", "-c"]
    headers = max(os.path.getmtime(os.path.join(CSRC, path)) for path in sources(".h"))
    changed = max(headers, os.path.getmtime(os.path.join(ROOT, "setup.py")))

    def compile_one(path):
        target = os.path.join(folder, path.replace("/", "-")[:-2] + ".o")
        source = os.path.join(CSRC, path)
        if not os.path.exists(target) or os.path.getmtime(target) < max(changed, os.path.getmtime(source)):
            mine = "%s.%d" % (target, os.getpid())  # another worker may be at it, too
            subprocess.run(command + [source, "-o", mine], check=True)
            os.replace(mine, target)
        return path, target

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(pool.map(compile_one, sources(".c")))


@pytest.fixture(scope="module")
def objects(compiler):
    if shutil.which("objdump") is None or shutil.which("nm") is None:
        pytest.skip("there is no objdump or no nm")
    return compile_all(compiler)


def symbols_of(objects):
    """{source: (symbols that it defines, symbols that it needs)}"""
    symbols = {}
    for path, target in objects.items():
        table = subprocess.run(
            ["nm", "-g", "-P", target], stdout=subprocess.PIPE, universal_newlines=True, check=True
        ).stdout
        rows = [line.split()[:2] for line in table.splitlines()]
        symbols[path] = (
            {name for name, kind in rows if kind not in "Uwv"},
            {name for name, kind in rows if kind in "Uwv"},
        )
    return symbols


def calls_of_layers_above(symbols):
    """What an object needs, and only a higher layer than its own has: (source, symbol, source that has it)."""
    homes = {name: path for path, (defined, _) in symbols.items() for name in defined}
    return sorted(
        (path, name, homes[name])
        for path, (_, needed) in symbols.items()
        for name in needed & set(homes)
        if LAYERS.index(layer(homes[name])) > LAYERS.index(layer(path))
    )


def test_planted_call_of_a_layer_above_is_found():
    symbols = {
        "core/loop.c": ({"cl_loop_turn"}, {"cl_ring_push", "cl_task_new", "cl_state_new", "memcpy", "PyList_New"}),
        "core/state.c": ({"cl_state_new"}, {"cl_module_def"}),
        "base/ring.c": ({"cl_ring_push"}, {"abort"}),
        "futures/task.c": ({"cl_task_new"}, {"cl_loop_turn", "cl_task_new"}),
        "module.c": ({"cl_module_def"}, {"cl_task_new", "cl_state_new"}),
    }
    assert calls_of_layers_above(symbols) == [
        ("core/loop.c", "cl_task_new", "futures/task.c"),
        ("core/state.c", "cl_module_def", "module.c"),
    ]


def test_no_object_needs_a_layer_above(objects):
    """A lower layer calls a higher one by a pointer that it was given, never by name."""
    symbols = symbols_of(objects)
    assert "cl_loop_turn" in symbols["core/loop.c"][0]
    assert "cl_loop_turn" in set.union(*(needed for path, (_, needed) in symbols.items() if layer(path) != "core"))
    assert calls_of_layers_above(symbols) == []


# --------------------------------------------------------------------------- state


def writable(target):
    """Names of what is in writable sections of an object file, also of variables within functions."""
    table = subprocess.run(
        ["objdump", "-t", target], stdout=subprocess.PIPE, universal_newlines=True, check=True
    ).stdout
    # value, flags, section, size, name: 0000000000000000 l     O .data  0000000000000080 slots
    symbols = re.findall(r"^[0-9a-f]+ .{7} (\S+)\s+[0-9a-f]+\s+(?:\.hidden )?(\S+)$", table, flags=re.MULTILINE)
    assert symbols
    return {
        re.sub(r"\.\d+$", "", name)
        for section, name in symbols
        if re.match(r"\.(data|bss|tdata|tbss)\b|\*COM\*", section)
        and not section.startswith(".data.rel.ro")
        and name != section
    }


def is_table(text, name):
    """Whether all variables of this name in the source are tables for CPython."""
    types = re.findall(r"((?:static |extern )?\b\w+ \*?)%s(?=\[\d*\](?:;| =))" % re.escape(name), text)
    # One that is alone, or a table.
    alone = re.findall(r"\bstatic Py(?:ModuleDef|Type_Spec|MethodDef) %s =" % re.escape(name), text)
    return types + alone != [] and all(re.fullmatch(TABLES, each) for each in types)


def states_of(objects):
    """The pairs (source, name) of what is writable and no table."""
    return {
        (path, name)
        for path, target in objects.items()
        for name in writable(target)
        if not is_table(text_of(path), name)
    }


def test_nothing_is_writable_at_file_scope(objects):
    """State belongs to the module or to a loop. Otherwise two interpreters would share it, each with a GIL of its own."""
    assert sorted(states_of(objects) - set(SHARED)) == []


@pytest.mark.parametrize("path, name", sorted(SHARED))
def test_what_interpreters_share_is_still_there(path, name):
    assert re.search(r"\b%s\b" % name, code_of(path))


@pytest.mark.parametrize(
    "line, names",
    [
        ("static int counter; int *use(void) { return &counter; }", {"counter"}),
        ("int use(void) { static int calls = 1; return calls++; }", {"calls"}),
        ("static _Thread_local void *cache; void **use(void) { return &cache; }", {"cache"}),
        ("void *shown;", {"shown"}),
        ('static const char *const names[] = {"a"}; const char *use(int n) { return names[n]; }', set()),
    ],
)
def test_planted_state_is_found(compiler, tmp_path, line, names):
    source = tmp_path / "planted.c"
    source.write_text(line + "\n")
    subprocess.run(compiler + ["-c", str(source), "-o", str(tmp_path / "planted.o")], check=True)
    assert writable(str(tmp_path / "planted.o")) == names


def test_table_is_known_by_its_type():
    text = "static PyMethodDef methods[] = {0};\nstatic int counts[] = {0};\nstatic PyMethodDef *last;"
    text += "\nstatic char *keywords[] = {0};\nstatic char buffers[8];\nstatic char *kept;"
    assert is_table(text, "methods") and is_table(text, "keywords")
    assert (
        not is_table(text, "buffers")
        and not is_table(text, "kept")
        and not is_table(text, "counts")
        and not is_table(text, "last")
        and not is_table(text, "other")
    )


def test_nothing_is_done_for_the_whole_process(objects):
    """What one interpreter does this way another would meet, or it would reach another than it is meant for."""
    unwanted = re.compile(PROCESS_WIDE + "|" + PROCESS_WIDE_API)
    found = {
        (path, name)
        for path, (_, needed) in symbols_of(objects).items()
        for name in needed
        if unwanted.fullmatch(name.partition("@")[0])
    }
    if sys.version_info < (3, 12):  # no interpreter has a GIL of its own
        found = {(path, name) for path, name in found if name != "PyGILState_Check"}
    found -= {("spawn.c", "chdir"), ("spawn.c", "umask")}  # in a child, which is a process of its own
    assert sorted(found) == []


def places():
    """The pairs (file, function) that docs/architecture.md points to."""
    with open(os.path.join(ROOT, "docs", "architecture.md"), encoding="utf-8") as page:
        section = page.read().partition("## Where is ...")[2].partition("\n## ")[0]
    for file, functions in re.findall(r"`([\w/]+\.(?:c|py))`: (`\w+`(?:, `\w+`)*)", section):
        for function in re.findall(r"\w+", functions):
            yield file, function


def test_what_the_architecture_points_to_is_there():
    found = list(places())
    assert len(found) > 20
    for file, function in found:
        python = file.startswith("cloop/")
        with open(os.path.join(ROOT if python else CSRC, file), encoding="utf-8") as source:
            definition = r"def %s\(" if python else r"^%s\("
            assert re.search(definition % function, source.read(), re.M), (file, function)


# ------------------------------------------------------------------------- systems

SYSTEM = r"__linux\w*|__APPLE__|__MACH__|__\w+BSD\w*__|__unix\w*|_WIN32|__CYGWIN__|__sun|__GLIBC__|TARGET_OS_\w+"
# Calls, options and flags that some Unix lacks.
NOT_EVERYWHERE = (
    r"accept4|pipe2|dup3|ppoll|sendfile|splice|recvmmsg|sendmmsg|eventfd|timerfd_\w+|signalfd|memfd_create|syscall|"
    r"pidfd_open|prctl|pthread_condattr_setclock|pthread_\w+_np|dl_iterate_phdr|SYS_\w+|SOCK_NONBLOCK|SOCK_CLOEXEC|"
    r"MSG_NOSIGNAL|SO_NOSIGPIPE|SO_DOMAIN|SO_PROTOCOL|SO_PASSCRED|SCM_CREDENTIALS|SO_REUSEPORT|SO_ZEROCOPY|O_DIRECT|"
    r"F_(?:GET|SET)PIPE_SZ|TCP_CORK|TCP_QUICKACK|CLOCK_MONOTONIC\w*|CLOCK_BOOTTIME|epoll_\w+|kevent|kqueue"
)
PLATFORM = ["base/platform.c", "base/platform.h"]
# What is only compiled where platform.h says that there is such a thing.
KNOWN_THERE = {
    "poller/epoll.c": r"epoll_\w+|syscall|SYS_epoll_pwait2",
    "poller/kqueue.c": r"kqueue|kevent",
    "core/wakeup.c": r"dl_iterate_phdr",
}


def knows_systems(path, code):
    """What of a system the code of a file outside of platform.h names."""
    found = set(re.findall(r"\b(?:%s|%s)\b" % (SYSTEM, NOT_EVERYWHERE), re.sub(r'"(?:\\.|[^"\\])*"', '""', code)))
    return sorted(name for name in found if not re.fullmatch(KNOWN_THERE.get(path, "(?!)"), name))


@pytest.mark.parametrize("path", [path for path in sources(".c", ".h") if path not in PLATFORM])
def test_only_platform_knows_systems(path):
    assert knows_systems(path, code_of(path)) == []


def test_planted_system_is_found():
    code = '#if defined(__linux__)\nint fd = accept4(a, b, c, SOCK_NONBLOCK | 1); /* */\nf("pipe2");\n#endif\n'
    assert knows_systems("net/sock.c", code) == ["SOCK_NONBLOCK", "__linux__", "accept4"]
    assert knows_systems("net/sock.c", "int acceptable = my_pipe2(); cl_pidfd_open(1);") == []
    assert knows_systems("poller/kqueue.c", "kevent(kqueue(), epoll_create1(0))") == ["epoll_create1"]


# In Python: what raises where it is missing. Some files ask for it, and do without.
PYTHON_KNOWS = r"SOCK_(?:NONBLOCK|CLOEXEC)|os\.(?:pidfd_open|eventfd|pipe2|sched_\w+)|select\.(?:epoll|kqueue)|/proc/"
ASKED_FOR = {"_dump.py": ["/proc/"], "_watch.py": ["/proc/"]}


@pytest.mark.parametrize("name", sorted(os.listdir(os.path.join(ROOT, "cloop"))))
def test_only_one_python_file_knows_systems(name):
    if not name.endswith(".py") or name == "_system.py":
        return
    with open(os.path.join(ROOT, "cloop", name), encoding="utf-8") as file:
        assert re.findall(PYTHON_KNOWS, file.read()) == ASKED_FOR.get(name, [])
