"""Compiles and runs each tests/c/test_*.c, as a debug build, under the sanitizers and as a stress build.

Those of ON_MODEL also run, under the sanitizers, as on a system that has kqueue(2) and nothing of Linux: tests/c/model.

A C test is a program. It includes what it tests from csrc, is linked with all the sources there that do not use
Python, and exits with 0 if all is well. Tests in LAYERS need Python. Each becomes a module of the running
interpreter, with the named layers only, and its run() returns if all is well. It cannot be imported if it needs a
symbol of a higher layer.

    python tests/c/run.py [--target TARGET] [--plain] [NAME ...]      such as test_heap

--plain is for systems where only debug and stress builds can be expected to work, and only of tests without Python.

With a target, such as aarch64-linux-musl, zig (`pip install ziglang`) compiles the tests that need no Python, and links
them with that C library. Those for another machine run under qemu's user mode (qemu-user-static), where memory order is
that of the machine below.
"""

import argparse
import concurrent.futures
import glob
import importlib.util
import os
import runpy
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
NEEDS_PYTHON = ["csrc/base/compat.c"]
LAYERS = {"test_core": ["base", "poller", "core"], "test_futures": ["base", "poller", "core", "futures"]}
BUILDS = ("debug", "asan", "stress", "model")
MODEL = ["-DCL_MODEL", "-Itests/c/model"]
ON_MODEL = ["test_inbox", "test_platform", "test_poller"]
ALL_AT_ONCE = ["test_poller"]  # has several events at once, of which a stress build reports one
TIMEOUT = 120
# The package is not imported, which would load the extension that is built: cloop/_abi.py alone is, if it is asked for.
IMPORT = """
import importlib.util, sys, types
sys.modules["cloop"] = types.ModuleType("cloop")
sys.modules["cloop"].__path__ = ["cloop"]
spec = importlib.util.spec_from_file_location(%r, %r)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
module.run()
"""


def sources(name, kind):
    """What a test is linked with."""
    if name in LAYERS:
        return sorted(path for layer in LAYERS[name] for path in glob.glob("csrc/%s/*.c" % layer))
    found = glob.glob("csrc/base/*.c") + glob.glob("csrc/poller/*.c")
    found += ["csrc/core/inbox.c", "csrc/core/meter.c", "csrc/core/sigsock.c"]
    found += ["tests/c/model/kqueue.c"] if kind == "model" else []
    return sorted(set(found) - set(NEEDS_PYTHON))


def quiet(command):
    """Whether the command succeeds; what it says is on stderr."""
    return subprocess.run(command).returncode == 0


class Build:
    """The objects of one build, each compiled once, and the tests that are made of them."""

    def __init__(self, kind, flags, pool, scratch, target=None):
        self.kind, self.pool, self.scratch = kind, pool, scratch
        self.compiler = shlex.split(os.environ.get("CC", "cc"))
        self.emulator = []
        if target is not None:
            self.compiler = [sys.executable, "-m", "ziglang", "cc", "-target", target]
            machine = target.split("-")[0]
            if machine != os.uname().machine:
                self.emulator = [shutil.which("qemu-%s-static" % machine)]
        # There is no libasan for targets.
        compiling, self.linking = flags(
            "asan" if kind == "model" and target is None else kind.replace("model", "debug")
        )
        if target is not None:
            compiling, self.linking = compiling + ["-fno-sanitize=all"], self.linking + ["-static"]
        compiling = compiling + (MODEL if kind == "model" else [])
        self.compiling = compiling + ["-fPIC", "-Icsrc", "-I" + sysconfig.get_path("include")]
        self.objects = {}

    def path(self, name):
        return os.path.join(self.scratch, "%s-%s" % (self.kind, name))

    def compiled(self, source):
        """The object of a source, and a future that says whether it could be made."""
        if source not in self.objects:
            target = self.path(source.replace("/", "-")[:-2] + ".o")
            command = self.compiler + self.compiling + ["-c", source, "-o", target]
            self.objects[source] = target, self.pool.submit(quiet, command)
        return self.objects[source]

    def run(self, name, compiled):
        """Whether the test could be linked and passes."""
        made = self.path(name) + (".so" if name in LAYERS else "")
        command = self.compiler + [target for target, _ in compiled] + self.linking + ["-lm", "-o", made]
        if not all(future.result() for _, future in compiled):
            return False
        if name in LAYERS:
            command += ["-shared", "-Wl,-z,now"]
        try:
            return quiet(command) and self.passes(name, made)
        except subprocess.TimeoutExpired:
            print("%s: still running after %d s" % (made, TIMEOUT), file=sys.stderr)
            return False

    def passes(self, name, made):
        env = dict(os.environ)
        if name not in LAYERS:
            return subprocess.run(self.emulator + [made], timeout=TIMEOUT).returncode == 0
        if self.kind == "asan":
            # The interpreter itself knows nothing of it. gcc's, because clang keeps it out of shared objects.
            env.update(LD_PRELOAD=sanitizers(self.compiler), PYTHONMALLOC="malloc", ASAN_OPTIONS="detect_leaks=0")
        command = [sys.executable, "-c", IMPORT % (name, made)]
        return subprocess.run(command, timeout=TIMEOUT, env=env).returncode == 0


def sanitizers(compiler):
    names = ["libasan.so", "libubsan.so"]
    command = [compiler + ["-print-file-name=" + name] for name in names]
    return " ".join(subprocess.check_output(each, universal_newlines=True).strip() for each in command)


def missing(name, build):
    """Why a test cannot be made here, or None."""
    if name in LAYERS and not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")):
        return "there is no Python.h"
    if name in LAYERS and build.kind == "asan" and not os.path.isabs(sanitizers(build.compiler).split()[0]):
        return "%s has no libasan.so to be loaded into Python" % build.compiler[0]
    return None


def lacking(target):
    """Why nothing can be run for the target here, or None."""
    if importlib.util.find_spec("ziglang") is None:
        return "there is no ziglang (pip install ziglang)"
    machine = target.split("-")[0]
    if machine != os.uname().machine and shutil.which("qemu-%s-static" % machine) is None:
        return "there is no qemu-%s-static (apt-get install qemu-user-static)" % machine
    return None


def main(arguments):
    parser = argparse.ArgumentParser()
    parser.add_argument("--target")
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("names", nargs="*")
    options = parser.parse_args(arguments)
    target, kinds = options.target, BUILDS
    os.chdir(ROOT)
    flags = runpy.run_path("setup.py")["flags"]
    names = options.names or sorted(os.path.basename(path)[:-2] for path in glob.glob("tests/c/test_*.c"))
    if target is not None:
        if lacking(target) is not None:
            print("skipped: " + lacking(target))
            return 0
        os.environ["ZIG_GLOBAL_CACHE_DIR"] = os.environ["ZIG_LOCAL_CACHE_DIR"] = os.path.join(ROOT, "build", "cross")
        kinds = [kind for kind in BUILDS if kind != "asan"]
    if options.plain:
        kinds = ["debug", "stress"]
    if target is not None or options.plain:
        names = [name for name in names if name not in LAYERS]
    failed = 0
    workers = concurrent.futures.ThreadPoolExecutor(os.cpu_count())
    runners = concurrent.futures.ThreadPoolExecutor(os.cpu_count())
    with tempfile.TemporaryDirectory() as scratch, workers, runners:
        builds = [Build(kind, flags, workers, scratch, target) for kind in kinds]
        runs = []
        for name in names:
            for build in builds:
                if build.kind == "stress" and name in ALL_AT_ONCE or build.kind == "model" and name not in ON_MODEL:
                    continue
                why = missing(name, build)
                if why is not None:
                    print("%-24s %-6s skipped: %s" % (name, build.kind, why), flush=True)
                    continue
                compiled = [build.compiled(source) for source in ["tests/c/%s.c" % name] + sources(name, build.kind)]
                runs.append((name, build, runners.submit(build.run, name, compiled)))
        for name, build, running in runs:
            passed = running.result()
            print("%-24s %-6s %s" % (name, build.kind, "passed" if passed else "FAILED"), flush=True)
            failed += not passed
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
