"""Tests that cloop fails because they look inside asyncio's own Python loop.

Public behaviour is never excused here. A test belongs here if what it replaces or reads is
private to asyncio.base_events, asyncio.selector_events or asyncio.unix_events, so that a
loop may do the right thing and still fail it. A listed test that passes fails the run.

A pattern names tests as `module.Class.test`; `*` in the class stands for the several classes
that one test is mixed into. `module.Class.*` is only for a class that is white-box as a
whole, and says nothing of tests that pass. `versions` is a range of Python versions, both
ends included, open where nothing is written: "3.8-3.11", "3.12-".
"""

import fnmatch
import sys
from collections import namedtuple

Entry = namedtuple("Entry", "pattern reason versions")


def test(pattern, reason, versions="-"):
    return Entry(pattern, reason, versions)


ENTRIES = [
    test(
        "test_events.*EventLoopTests.test_internal_fds",
        "reads _internal_fds, _ssock and _csock: the count and the two ends of asyncio's self-pipe",
    ),
    test(
        "test_unix_events.SelectorEventLoopSignalTests.test_close_on_finalizing",
        "replaces the names sys and signal inside asyncio.unix_events to pretend that the interpreter ends",
    ),
]

# Modules that are not about a loop on Unix.
MODULES = {
    "test_proactor_events": "tests asyncio.proactor_events against mocks",
    "test_tools": "reads the memory of stock asyncio programs that it starts afresh",
    "test_windows_events": "Windows only",
    "test_windows_utils": "Windows only",
}


def in_range(versions, version=sys.version_info[:2]):
    first, last = versions.split("-")
    return (not first or version >= parse(first)) and (not last or version <= parse(last))


def parse(text):
    return tuple(int(part) for part in text.split("."))


def whole_class(entry):
    return entry.pattern.endswith(".*")


def here():
    return [entry for entry in ENTRIES if in_range(entry.versions)]


def find(test_id):
    """The entry that lists the test on this version of Python, or None."""
    return next((entry for entry in here() if fnmatch.fnmatchcase(test_id, entry.pattern)), None)
