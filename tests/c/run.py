"""Compiles and runs each tests/c/test_*.c, as a debug build, under the sanitizers and as a stress build.

A C test is a program: it includes what it tests from csrc, is linked with all the sources there
that do without Python, and exits with 0 if all is well.

    python tests/c/run.py [NAME ...]      such as test_heap
"""

import concurrent.futures
import glob
import os
import runpy
import shlex
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
NEEDS_PYTHON = ["csrc/base/compat.c"]
BUILDS = ("debug", "asan", "stress")
ALL_AT_ONCE = ["test_poller"]  # has several events at once, of which a stress build reports one
TIMEOUT = 120


def libraries():
    found = glob.glob("csrc/base/*.c") + glob.glob("csrc/poller/*.c") + ["csrc/core/inbox.c", "csrc/core/sigsock.c"]
    return sorted(set(found) - set(NEEDS_PYTHON))


def run(test, build, flags, scratch):
    """Whether the test compiles and passes in this build; what goes wrong is on stderr."""
    program = os.path.join(scratch, "%s-%s" % (os.path.basename(test)[:-2], build))
    compiling, linking = flags(build)
    command = shlex.split(os.environ.get("CC", "cc")) + compiling + ["-Icsrc", test] + libraries()
    if subprocess.run(command + linking + ["-lm", "-o", program]).returncode:
        return False
    try:
        return subprocess.run([program], timeout=TIMEOUT).returncode == 0
    except subprocess.TimeoutExpired:
        print("%s: still running after %d s" % (program, TIMEOUT), file=sys.stderr)
        return False


def main(names):
    os.chdir(ROOT)
    flags = runpy.run_path("setup.py")["flags"]
    tests = ["tests/c/%s.c" % name for name in names] or sorted(glob.glob("tests/c/test_*.c"))
    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            runs = [
                (test, build, pool.submit(run, test, build, flags, scratch))
                for test in tests
                for build in BUILDS
                if not (build == "stress" and os.path.basename(test)[:-2] in ALL_AT_ONCE)
            ]
            for test, build, running in runs:
                passed = running.result()
                print("%-24s %-6s %s" % (test, build, "passed" if passed else "FAILED"), flush=True)
                failed += not passed
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
