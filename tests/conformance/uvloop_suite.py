"""uvloop's own tests, from its source distribution, with another loop in place of uvloop.

The distribution is downloaded once and kept in build/. Its classes come in pairs: those that test uvloop run here,
those that test asyncio do not. The tests and the programs they start find the package in `shim/` under the name
uvloop, unless the loop is uvloop itself.
"""

import importlib
import os
import subprocess
import sys
import tarfile
import tempfile

import not_applicable_uvloop as listed
import seams

VERSION = "0.23.0"
PACKAGE = "tests"
LAST = ("test_process", "test_tcp")
COLLECTED = ()
BATTERIES = ()

HERE = os.path.dirname(os.path.abspath(__file__))
SHIM = os.path.join(HERE, "shim")
BUILD = os.path.join(os.path.dirname(os.path.dirname(HERE)), "build")
NAME = "uvloop-" + VERSION
SOURCE = os.path.join(BUILD, NAME)


def prepare():
    """Downloads and unpacks the tests if necessary; returns None, or why they are not available."""
    if os.path.isdir(SOURCE):
        return None
    os.makedirs(BUILD, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILD) as fetched:
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", "uvloop", "-d", fetched]
        done = subprocess.run(pip + ["uvloop==" + VERSION], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode != 0:
            why = done.stdout.decode("utf-8", "replace").strip().splitlines() or [""]
            return "the source distribution of %s cannot be fetched: %s" % (NAME, why[-1])
        with tarfile.open(os.path.join(fetched, NAME + ".tar.gz")) as archive:
            wanted = (NAME + "/tests/", NAME + "/uvloop/_testbase.py")
            members = [member for member in archive if member.isfile() and member.name.startswith(wanted)]
            archive.extractall(fetched, members)
        os.rename(os.path.join(fetched, NAME), SOURCE)  # all of it or nothing
    return None


def folder():
    return os.path.join(SOURCE, "tests")


def environ(loop):
    if loop == "uvloop":
        return {}
    path = os.pathsep.join(filter(None, (SHIM, os.environ.get("PYTHONPATH"))))
    return {"PYTHONPATH": path, "CONFORMANCE_LOOP": loop or "asyncio", "UVLOOP_TESTS": SOURCE}


def install(loop):
    uvloop = importlib.import_module("uvloop")
    package = importlib.import_module(loop or "asyncio")
    stands_for = package.SelectorEventLoop if package.__name__ == "asyncio" else package.Loop
    assert uvloop.Loop is stands_for, uvloop.__file__
    sys.path.insert(0, SOURCE)
    return seams.count_instances(uvloop.Loop)


def complete(module):
    return (), ()


def concerns(test, loop):
    """Of each pair the class for uvloop, or for plain asyncio the other one."""
    testbase = importlib.import_module("uvloop._testbase")
    return isinstance(test, testbase.AIOTestCase) == (loop is None)


def on_asyncio(test_id):
    """The id of the same test for plain asyncio. Some have none, as asyncio need not pass them."""
    return test_id.replace("UV", "AIO")
