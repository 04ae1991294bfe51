"""What is done where asyncio lacks a name that cloop takes from it: the part that needs it is asyncio's, the rest is not."""

import ast
import glob
import importlib
import json
import os
import re
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)

# Without these asyncio's own loop cannot run the program of without.py either, on some Python at least, as
# test_asyncio_fails_too shows. cloop is imported all the same.
ASYNCIO_NEEDS = {
    "asyncio.base_events.Server",  # create_server() makes one
    "asyncio.coroutines.iscoroutine",  # asyncio.run() asks
    "asyncio.events._get_running_loop",  # so does run_forever()
    "asyncio.events._set_running_loop",  # run_forever()
    "asyncio.format_helpers._format_callback_source",  # the repr of a handle
    "asyncio.futures._copy_future_state",  # run_in_executor()
    "asyncio.futures._set_result_unless_cancelled",  # sleep(), and the start of its transports
    "asyncio.futures.future_add_to_awaited_by",  # gather()
    "asyncio.futures.future_discard_from_awaited_by",  # gather()
    "asyncio.futures.isfuture",  # ensure_future()
    "asyncio.runners._cancel_all_tasks",  # the end of asyncio.run()
    "asyncio.selector_events._SelectorDatagramTransport",  # its transports are made of these
    "asyncio.selector_events._SelectorSocketTransport",
    "asyncio.tasks.ensure_future",  # gather()
    "asyncio.trsock.TransportSocket",  # get_extra_info("socket")
    "asyncio.unix_events._UnixSubprocessTransport",
}

# What no part of cloop can do without, wherever it is.
CLOOP_NEEDS = {"asyncio.events._get_running_loop", "asyncio.events._set_running_loop"}

# Of no use to the loop itself: the launcher's, and what is looked at by cloop.accelerate().
NOT_THE_LOOPS = ("_accelerate.py", "_compat.py", "_demo.py", "_main.py", "_reach.py")


def exists(full):
    module, _, name = full.rpartition(".")
    try:
        return hasattr(importlib.import_module(module), name)
    except (ImportError, ValueError):
        return False


def names_in_c():
    """Those of the lists X(field, "module", "attribute") of csrc, as far as this Python has them."""
    found = set()
    for path in glob.glob(os.path.join(ROOT, "csrc", "**", "*.h"), recursive=True):
        with open(path) as file:
            found.update(re.findall(r'X\(\w+, "(asyncio[\w.]*)", "(\w+)[\w.]*"\)', file.read()))
    return {module + "." + name for module, name in found if exists(module + "." + name)}


def private_names_in_python():
    """The private names that the loop's modules in Python take from asyncio's modules."""
    found = set()
    for path in glob.glob(os.path.join(ROOT, "cloop", "*.py")):
        if path.endswith(NOT_THE_LOOPS):
            continue
        with open(path) as file:
            tree = ast.parse(file.read())
        modules = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module.startswith("asyncio"):
                for alias in node.names:
                    full = node.module + "." + alias.name
                    modules[alias.asname or alias.name] = full
                    found.add(full)
            elif isinstance(node, ast.Call) and getattr(node.func, "attr", None) == "find":
                found.add(".".join(getattr(argument, "value", "") for argument in node.args))
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
                found.add(modules[node.value.id] + "." + node.attr)
    return {full for full in found if "._" in full and exists(full) and full not in sys.modules}


def run(python, how, names):
    """Return {name: parts of cloop that were off}; fails if the program did."""
    process = python(os.path.join(HERE, "without.py"), how, *sorted(names))
    results = [json.loads(line) for line in process.stdout.splitlines()]
    assert {name for name, _, _ in results} == set(names), process.stderr
    return {name: (error, parts) for name, error, parts in results}


@pytest.fixture
def names():
    names = names_in_c() | private_names_in_python()
    assert len(names) > 40
    return names


@pytest.fixture
def without(python, cloop, monkeypatch):
    for variable in ("CLOOP_ABI", "CLOOP_TASKS", "CLOOP_STREAMS", "CLOOP_TLS"):
        monkeypatch.delenv(variable, raising=False)
    return lambda how, names: run(python, how, names)


def failures(results):
    return {name: error for name, (error, _) in results.items() if error}


@pytest.mark.nightly
def test_each_name_gone(without, names):
    results = without("gone", names - ASYNCIO_NEEDS)
    assert not failures(results)
    assert results["asyncio.transports._FlowControlMixin"][1] == ["TLS", "transports"]


@pytest.mark.nightly
def test_asyncio_fails_too(without, names):
    needed = names & ASYNCIO_NEEDS
    assert not failures(without("import", needed))
    failed = failures(without("asyncio", needed)).keys()
    assert len(failed) > len(needed) / 2
    if failed != needed:  # a Python whose asyncio can do without some of them
        assert not failures(without("gone", needed - failed))


def test_each_private_name_renamed(without, names):
    """Nobody but cloop misses it, which finds it nowhere."""
    private = {name for name in names if "._" in name}
    for name, (error, _) in without("renamed", private).items():
        if name in CLOOP_NEEDS:
            assert "ImportError" in error and name.rpartition(".")[2] in error
        else:
            assert not error, name


@pytest.mark.parametrize("strict", [False, True], ids=["a warning", "strict"])
def test_what_is_said(python, write_script, cloop, monkeypatch, strict):
    monkeypatch.setenv("CLOOP_ABI", "strict" if strict else "")
    process = python(
        write_script(
            """
            import asyncio.transports
            del asyncio.transports._FlowControlMixin
            import cloop
            cloop.run(asyncio.sleep(0))
            """
        )
    )
    lines = [line for line in process.stderr.splitlines() if "cloop does not know" in line]
    if strict:
        assert process.returncode == 1
        assert lines == [
            "ImportError: cloop does not know this Python's asyncio well enough for its TLS, so asyncio's sslproto does "
            "TLS: asyncio.transports has no _FlowControlMixin"
        ]
    else:
        assert process.returncode == 0
        assert [line[line.index("for its") :] for line in lines] == [
            "for its TLS, so asyncio's sslproto does TLS: asyncio.transports has no _FlowControlMixin",
            "for its transports, so sockets and pipes have asyncio's transports: asyncio.transports has no "
            "_FlowControlMixin",
        ]
        assert all(line.startswith(str(process.args[1])) for line in lines)


def test_nothing_is_missing_here(python, write_script, cloop, monkeypatch):
    monkeypatch.setenv("CLOOP_ABI", "strict")
    process = python(write_script("import cloop; print(cloop._abi.reasons('futures') or cloop.Task.__module__)"))
    assert process.stdout in ("cloop\n", "_asyncio\n") and not process.stderr


CHANGED = {
    # what is done before cloop is imported: the part that is off then, and why
    "import asyncio.transports as t; t._FlowControlMixin = type('_FlowControlMixin', (t.Transport,), {})": (
        "transports",
        "asyncio.transports._FlowControlMixin has other fields",
    ),
    "import asyncio.base_events as b; del b.Server._attach": ("transports", "has no attribute '_attach'"),
    "import sys, asyncio; sys.modules['asyncio.sslproto'] = None; del asyncio.sslproto": ("TLS", "sslproto"),
    "import sys, asyncio; del asyncio.base_subprocess.ReadSubprocessPipeProto": ("children", "ReadSubprocessPipeProto"),
}


@pytest.mark.parametrize("before", list(CHANGED), ids=range(len(CHANGED)))
def test_other_changes(python, write_script, cloop, monkeypatch, before):
    monkeypatch.setenv("CLOOP_ABI", "")
    part, why = CHANGED[before]
    text = "import cloop, asyncio; print(cloop._abi.has(%r)); cloop.run(asyncio.sleep(0))" % part
    process = python("-c", before + "\n" + text)
    assert process.stdout == "False\n", process.stderr
    assert "enough for its %s, so" % part in process.stderr and why in process.stderr


OTHERS = [  # what the C code looks up beside its lists
    "_ssl.OPENSSL_VERSION_NUMBER", "_ssl._SSLSocket", "_ssl.__file__", "asyncio.tasks._all_tasks", "asyncio.tasks._current_tasks",
    "asyncio.tasks._scheduled_tasks", "os.register_at_fork", "ssl.CertificateError", "ssl.MemoryBIO", "ssl.SSLError",
    "ssl.SSLObject", "ssl.SSLWantReadError", "threading.main_thread", "time.monotonic",
]  # fmt: skip


def names_of_lists():
    """All names in the lists of csrc, in whatever module, with their dots, and what is looked up otherwise."""
    found = set(OTHERS)
    for path in glob.glob(os.path.join(ROOT, "csrc", "**", "*.h"), recursive=True):
        with open(path) as file:
            found.update(".".join(each) for each in re.findall(r'X\(\w+, "([\w.]+)", "([\w.]+)"\)', file.read()))
    return sorted(found)


@pytest.mark.slow
def test_each_name_is_something_else(python, write_script, cloop, monkeypatch):
    """The C code is imported once more, and is given another object for each name, or none: it refuses that, or does without,
    and never returns wrongly.
    """
    monkeypatch.setenv("CLOOP_ABI", "")
    script = write_script("""\
        import asyncio, gc, importlib, importlib.util, ssl, sys, types, warnings

        import cloop
        from cloop import _abi

        class Other:
            pass

        def changed(owner, name):
            kept = vars(owner)[name]
            for value in (None, 5, "text", (), [], {}, Other, Other(), lambda *args: None, print, types.ModuleType("other")):
                yield setattr(owner, name, value)
            yield delattr(owner, name)
            setattr(owner, name, kept)

        warnings.simplefilter("ignore")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        spec, tried, imported = importlib.util.find_spec("cloop._cloop"), 0, 0
        sys.modules["os"].register_at_fork = lambda **functions: None  # which would keep each module
        for full in sys.argv[1:]:
            *path, name = full.split(".")
            owner = None
            try:
                for part in path:
                    owner = importlib.import_module(part) if owner is None else getattr(owner, part)
            except AttributeError:
                continue
            if name not in vars(owner) or not isinstance(owner, types.ModuleType):
                continue
            for _ in changed(owner, name):
                made = importlib.util.module_from_spec(spec)
                tried += 1
                try:
                    spec.loader.exec_module(made)
                    imported += 1
                    loop = made.LoopCore()
                    try:
                        loop.create_future()
                        loop._new_tls(asyncio.Protocol(), context, None, False, None, True, 60, 30)
                    finally:
                        loop._close_core(False)
                        del loop
                except SystemError:
                    sys.exit("%s: %r" % (full, sys.exc_info()[1]))
                except Exception:
                    pass
                finally:
                    _abi._reasons.clear()
                del made
            gc.collect()
        assert cloop.run(asyncio.sleep(0, 5)) == 5
        print(tried, imported)
        """)
    done = python("-X", "faulthandler", script, *names_of_lists())
    assert done.returncode == 0, done.stderr
    tried, imported = map(int, done.stdout.split())
    assert tried > 400 and 100 < imported < tried
