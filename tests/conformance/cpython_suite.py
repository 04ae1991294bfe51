"""CPython's own tests of asyncio: `test.test_asyncio` of the running Python."""

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
# Collect what one of these tests leaves before the next: test_popen_error asserts that there is no warning, and
# test_kill_issue43884 leaves a transport open if wait() does not wait for the child's pipes.
COLLECTED = ("test_subprocess",)
# These test asyncio's C classes, in every version.
BATTERIES = ("test_futures", "test_tasks")


def prepare():
    """Prepares the suite; returns None, or why it is not available."""
    spec = importlib.util.find_spec(PACKAGE)
    return "there is no %s" % PACKAGE if spec is None else None


def folder():
    return importlib.util.find_spec(PACKAGE).submodule_search_locations[0]


def environ(loop):
    """The environment variables for the tests on a loop; None is plain asyncio."""
    return {}


def install(loop):
    """Installs the loop; returns the counter of created loops, or None for plain asyncio."""
    return None if loop is None else seams.install(loop)


def complete(module):
    """Adapts an imported test module; returns its classes that test our classes, and additional test classes."""
    seams.adapt(module)
    return tuple(seams.batteries(module)), seams.classes_on_cloop(module)


def concerns(test, loop):
    """Whether to run the test on the loop."""
    return True


def on_asyncio(test_id):
    """The id of the same test for plain asyncio."""
    return test_id
