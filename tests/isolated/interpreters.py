"""Interpreters with a GIL of their own, on Pythons that have them: what the standard library had no public name for
before 3.14. For scripts; test_interpreters.py and ../interpreter.py use it.
"""

import os
import sys
import threading

try:
    import _interpreters as _module
except ImportError:
    try:
        import _xxsubinterpreters as _module
    except ImportError:
        _module = None

exist = sys.version_info >= (3, 12) and _module is not None

# What fails in there is told by its traceback. It does not leave by itself: Python 3.12 may crash then.
_WHOLE = """
import os, sys, threading, traceback
if sys.version_info[:2] == (3, 13):  # it fails when the interpreter ends, and tells stderr; asyncio's loops have it too
    threading._DeleteDummyThreadOnDel.__del__ = lambda self: None
sys.path[:] = {path!r}
os.environ.update({environment!r})
try:
    exec(compile({text!r}, "<inside>", "exec"), {{"__name__": "__main__"}})
except BaseException:
    os.write({report}, traceback.format_exc().encode())
"""


class Failed(Exception):
    """What was raised in the interpreter, as text."""


def create():
    """Return a new interpreter, with a GIL of its own, that allows what such interpreters may do."""
    return _module.create("isolated") if sys.version_info >= (3, 13) else _module.create(isolated=True)


def destroy(interpreter):
    _module.destroy(interpreter)


def count():
    return len(_module.list_all())


def run(interpreter, text):
    """Run the text in the interpreter, in this thread. Raises Failed."""
    reading, writing = os.pipe()
    try:
        whole = _WHOLE.format(path=sys.path, environment=dict(os.environ), text=text, report=writing)
        failed = _module.run_string(interpreter, whole)
        os.close(writing)
        writing = -1
        with os.fdopen(reading, "rb") as file:
            reading = -1
            told = file.read().decode()
    finally:
        for fd in (reading, writing):
            if fd >= 0:
                os.close(fd)
    if failed is not None or told:
        raise Failed(told or str(failed))


def once(text):
    """Run the text in an interpreter of its own, and destroy that."""
    interpreter = create()
    try:
        run(interpreter, text)
    finally:
        destroy(interpreter)


def at_once(text, threads, rounds=1):
    """Do so in several threads at once, and in each so many times, one after another. Raises what failed first."""
    errors = []

    def work():
        try:
            for _ in range(rounds):
                once(text)
        except BaseException as error:
            errors.append(error)

    running = [threading.Thread(target=work) for _ in range(threads)]
    for thread in running:
        thread.start()
    return running, errors


def finish(running, errors):
    for thread in running:
        thread.join()
    if errors:
        raise errors[0]
