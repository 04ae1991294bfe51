"""Runs tests of the suite on aarch64: in qemu's user mode, on Debian's Python 3.11 for that machine.

    python tests/foreign.py [--asyncio] [PYTEST ARGUMENT]...      by default tests/core, without slow tests

zig compiles the extension; release/try.py unpacks the Python. pytest is that of the running interpreter, which must be
3.11, too. Tests that start an interpreter are left out: the kernel would not know what to do with it.
"""

import glob
import importlib.util
import os
import runpy
import shutil
import subprocess
import sys
import sysconfig
from multiprocessing.pool import ThreadPool

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TARGET = "aarch64-linux-gnu.2.36"
BUILD = os.path.join(ROOT, "build", "foreign")
PYTEST = [
    "_pytest",
    "py.py",
    "pytest",
    "pluggy",
    "iniconfig",
    "packaging",
    "pygments",
]  # nothing beside it has parts in C
STARTS_PYTHON = "not script and not python and not subprocess and not process"


def lacking():
    """Why nothing can be run here, or None."""
    if importlib.util.find_spec("ziglang") is None:
        return "there is no ziglang (pip install ziglang)"
    if sys.version_info[:2] != (3, 11):
        return "Debian's Python for aarch64 is 3.11"
    tools = ("qemu-aarch64-static", "apt-get", "dpkg-deb")
    return next(("there is no " + tool for tool in tools if shutil.which(tool) is None), None)


def build():
    """The package with its extension, built again if a source is newer than the last."""
    package = os.path.join(BUILD, "cloop")
    made = os.path.join(package, "_cloop.cpython-311-aarch64-linux-gnu.so")
    sources = sorted(glob.glob("csrc/**/*.c", recursive=True))
    newest = max(os.path.getmtime(path) for path in sources + glob.glob("csrc/**/*.h", recursive=True))
    shutil.rmtree(package, ignore_errors=True) if not os.path.exists(made) else None
    if not os.path.exists(made) or os.path.getmtime(made) < newest:
        os.makedirs(package, exist_ok=True)
        os.environ["ZIG_GLOBAL_CACHE_DIR"] = os.environ["ZIG_LOCAL_CACHE_DIR"] = os.path.join(ROOT, "build", "cross")
        setup = runpy.run_path("setup.py")
        compiler = [sys.executable, "-m", "ziglang", "cc", "-target", TARGET, "-fPIC"] + setup["flags"]("debug")[0]
        compiler += ["-O1", "-g0", "-fno-sanitize=all", "-Icsrc", "-I" + sysconfig.get_path("include")]
        compiler += ['-DCL_BUILD_COMPILER="zig"', '-DCL_BUILD_FLAGS="%s"' % TARGET]

        def compiled(source):
            target = os.path.join(BUILD, source.replace("/", "-")[:-2] + ".o")
            subprocess.run(compiler + ["-c", source, "-o", target], check=True)
            return target

        with ThreadPool(os.cpu_count()) as pool:
            objects = pool.map(compiled, sources)
        subprocess.run(compiler[:6] + ["-shared", "-pthread", "-o", made] + objects, check=True)
    for name in PYTEST:
        link = os.path.join(BUILD, name)
        if not os.path.exists(link):
            os.symlink(os.path.join(sysconfig.get_path("purelib"), name), link)
    for path in glob.glob("cloop/**/*.py", recursive=True):
        target = os.path.join(BUILD, path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        shutil.copy(path, target)
    return BUILD


def main(arguments):
    os.chdir(ROOT)
    why = lacking()
    if why is not None:
        print("skipped: " + why)
        return 0
    loops = "cloop"
    if "--asyncio" in arguments:
        arguments.remove("--asyncio")
        loops = "asyncio"
    sys.path.insert(0, os.path.join(ROOT, "release"))
    root = runpy.run_path(os.path.join("release", "try.py"))["foreign_python"]()
    env = dict(
        os.environ, CLOOP_TEST_LOOPS=loops, CLOOP_TEST_TIER="commit", PYTHONDONTWRITEBYTECODE="1", PYTHONSAFEPATH="1"
    )
    env["PYTHONPATH"] = build()
    emulator = [shutil.which("qemu-aarch64-static"), "-L", root, os.path.join(root, "usr", "bin", "python3.11")]
    pytest = ["-m", "pytest", "-q", "-p", "no:cacheprovider"]
    return subprocess.run(emulator + pytest + ["-k", STARTS_PYTHON] + (arguments or ["tests/core"]), env=env).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
