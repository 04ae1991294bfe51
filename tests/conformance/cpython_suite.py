"""CPython's own tests of asyncio: `test.test_asyncio` of the Python that runs this."""

import importlib.util

import not_applicable as listed
import seams

PACKAGE = "test.test_asyncio"

# The slow modules, slowest last.
LAST = (
    "test_sock_lowlevel",
    "test_subprocess",
    "test_unix_events",
    "test_tasks",
    "test_sendfile",
    "test_events",
    "test_sslproto",
    "test_ssl",
)
# What one test of these leaves is collected before the next: test_popen_error asserts that nothing warns, and
# test_kill_issue43884 leaves a transport open where wait() does not last until the child's pipes are closed.
COLLECTED = ("test_subprocess",)
# These have batteries for asyncio's classes in C, in every version.
BATTERIES = ("test_futures", "test_tasks")


def prepare():
    """Makes the suite ready to run; returns None, or why it cannot be had."""
    spec = importlib.util.find_spec(PACKAGE)
    return "there is no %s" % PACKAGE if spec is None else None


def folder():
    return importlib.util.find_spec(PACKAGE).submodule_search_locations[0]


def environ(loop):
    """What a process needs in its environment to run the tests on a loop; None is asyncio as it comes."""
    return {}


def install(loop):
    """Puts the loop in place; returns the counter of loops made, or None for asyncio as it comes."""
    return None if loop is None else seams.install(loop)


def complete(module):
    """Adapts an imported test module; returns its classes that test our classes, and more test classes for it."""
    seams.adapt(module)
    return tuple(seams.batteries(module)), seams.classes_on_cloop(module)


def concerns(test, loop):
    """Whether to run the test on the loop."""
    return True


def on_asyncio(test_id):
    """The id of the test that asks the same of asyncio as it comes."""
    return test_id
