"""Runs pytest in an interpreter with a GIL of its own.

    python tests/interpreter.py [ARGUMENTS OF PYTEST]

Left out are the tests that run scripts of their own, which would run in another process, and what an interpreter other
than the main one cannot do: UNSUITED says what, and why. Where a test has an asyncio half, that shows it. trustme does
not run there, so the openssl command makes the certificates.
"""

import inspect
import os
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent

# What runs another process: that has no other interpreter.
PROCESSES = {"script", "python", "example", "served", "shim", "tutorial"}

# Tests with this in their names or in their source.
UNSUITED = {
    r"^tests/core/test_(signals|replaced_class)\.py": "signals are the main interpreter's",
    r"signal\.signal\(|raise_signal|pthread_kill|add_signal_handler|os\.kill\(os\.getpid|dump_on_signal": "the same",
    r"-signals-look_|-signalled\]$|children_that_the_kernel_waits_for|handler_of_sigchld|interrupt_from_a_child": "the same",
    r"program_runs_all_the_same\[CLOOP_MONITOR\]": "CLOOP_MONITOR=1 is for the main interpreter",
    r"\bos\.fork\(|preexec_fn": "a fork is refused",
    r"sys\._current_frames|\bfaulthandler\b": "not for interpreters other than the main one",
    r"descriptor_that_was_closed_and_is_another_file_now|that_keeps_(the_interpreter|it_from_a_callback)|c_code_keeps_the": "stacks by faulthandler",
    r"test_child_watchers_are_asked|test_watcher_without_a_loop_is_refused": "asyncio's watchers need signals or daemon threads",
    r"_testcapi|test_freeing_needs_no_memory": "_testcapi is not there",
}

# Where the other tests are. The rest looks at files, or at the launcher.
FOLDERS = ["core", "futures", "streams", "sync", "net", "tls", "processes"]
FILES = ["executor", "getaddrinfo", "monitor", "newer", "policy", "run", "selector", "tasks", "tasks_on_loop"]

# Extension modules that refuse to be imported there, by themselves or through others.
NOT_THERE = ["faulthandler", "hypothesis"] + (["ctypes"] if sys.version_info < (3, 13) else [])


class Suited:
    """A plugin of pytest: leaves out what is above."""

    def pytest_ignore_collect(self, collection_path):
        imports = r"^(?:import|from) (?:%s)\b" % "|".join(NOT_THERE)
        text = collection_path.read_text(encoding="utf-8") if collection_path.suffix == ".py" else ""
        return True if re.search(imports, text, re.M) else None

    def pytest_collection_modifyitems(self, config, items):
        dropped = {item for item in items if is_unsuited(item)}
        if dropped:
            config.hook.pytest_deselected(items=list(dropped))
            items[:] = [item for item in items if item not in dropped]


def is_unsuited(item):
    if PROCESSES.intersection(item.fixturenames):
        return True
    text = "%s\n%s" % (item.nodeid, inspect.getsource(item.function))
    return any(re.search(pattern, text, re.M) for pattern in UNSUITED)


def inside(arguments):
    """In the interpreter: run pytest."""
    import pytest

    for name in "hypothesis", "_testcapi":  # for pytest.importorskip(), whichever error they fail with
        sys.modules[name] = None
    sys.path.insert(0, str(HERE / "openssl"))
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    if not any(os.path.exists(argument.partition("::")[0]) for argument in arguments):
        arguments += [str(HERE / name) for name in FOLDERS + ["test_%s.py" % name for name in FILES]]
    options = ["-p", "no:faulthandler", "-p", "no:cacheprovider", "-m", "not alone and not nightly"]
    return int(pytest.main(options + arguments, plugins=[Suited()]))


INSIDE = """
import os, sys
sys.path.insert(0, {here!r})
sys.argv[:] = ["pytest"]
import interpreter
os.write({report}, b"%d" % interpreter.inside({arguments!r}))
"""


def main():
    sys.path.insert(0, str(HERE / "isolated"))
    import interpreters

    if not interpreters.exist:
        print("interpreters with a GIL of their own came with Python 3.12")
        return 0
    reading, writing = os.pipe()
    interpreters.once(INSIDE.format(here=str(HERE), arguments=sys.argv[1:], report=writing))
    return int(os.read(reading, 10))


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # CPython 3.12.1 itself crashes at the end: see isolated/test_interpreters.py
