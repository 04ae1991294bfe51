"""Lists of tests in a suite that cloop need not pass: data, each test with its reason.

A pattern names tests as `module.Class.test`; `*` in the class stands for the several classes that one test is mixed
into. `module.Class.*` is only for a class that is entirely white-box; its tests may pass. `versions` is an inclusive
range of Python versions with optional ends: "3.8-3.11", "3.12-".
"""

import fnmatch
import sys
from collections import namedtuple

Entry = namedtuple("Entry", "pattern reason versions")


def test(pattern, reason, versions="-"):
    return Entry(pattern, reason, versions)


def in_range(versions, version=sys.version_info[:2]):
    first, last = versions.split("-")
    return (not first or version >= parse(first)) and (not last or version <= parse(last))


def parse(text):
    return tuple(int(part) for part in text.split("."))


def whole_class(entry):
    return entry.pattern.endswith(".*")


def here(entries):
    return [entry for entry in entries if in_range(entry.versions)]


def find(entries, test_id):
    """The entry for the test on this Python version, or None."""
    return next((entry for entry in here(entries) if fnmatch.fnmatchcase(test_id, entry.pattern)), None)
