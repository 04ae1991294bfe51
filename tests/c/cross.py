"""Compiles all of csrc for other machines and C libraries, with warnings as errors.

The compiler is zig's (`pip install ziglang`), which includes the headers of many C libraries. Nothing is linked or
run. This finds names that another C library already uses, functions that an older one lacks, and what depends on the
machine. Python's headers are those of the running interpreter.

    python tests/c/cross.py [TARGET ...]      such as x86_64-linux-musl

Objects are kept in build/cross, and compiled again only if something they depend on is newer.
"""

import glob
import importlib.util
import os
import runpy
import subprocess
import sys
import sysconfig
import time
from multiprocessing.pool import ThreadPool

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
OUTPUT = os.path.join("build", "cross")

# zig's name of the target, and its flags in addition to setup.py's. All are LP64, like this Python's
# pyconfig.h.
TARGETS = {
    "x86_64-linux-gnu.2.17": [],
    "aarch64-linux-gnu.2.17": [],
    "x86_64-linux-musl": [],
    "aarch64-linux-musl": [],
}

# -O0: the warnings are clang's, which do not depend on optimisation.
FLAGS = ["-Werror", "-O0", "-g0", "-fno-sanitize=all"]


def stamp(path, text):
    """A file with this text, modified only if the text changes."""
    if not os.path.exists(path) or open(path).read() != text:
        with open(path, "w") as file:
            file.write(text)
    return path


def newest(paths):
    return max(os.stat(path).st_mtime_ns for path in paths)


def compile_source(job):
    """The compiler's output for a source, or None. An object newer than its dependencies is kept."""
    source, target, command, needed = job
    made = os.path.join(OUTPUT, target, source.replace(os.sep, "-")[: -len(".c")] + ".o")
    if os.path.exists(made) and os.stat(made).st_mtime_ns > max(needed, os.stat(source).st_mtime_ns):
        return None
    done = subprocess.run(
        command + ["-c", source, "-o", made], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True
    )
    if done.returncode == 0:
        return None
    if os.path.exists(made):
        os.unlink(made)
    return done.stdout or "%s: exit status %d\n" % (source, done.returncode)


def main(targets):
    os.chdir(ROOT)
    if importlib.util.find_spec("ziglang") is None:
        print("skipped: there is no ziglang (pip install ziglang)")
        return 0
    unknown = sorted(set(targets) - set(TARGETS))
    if unknown:
        sys.exit("cross.py: %s is none of %s" % (", ".join(unknown), ", ".join(TARGETS)))
    sources = sorted(glob.glob("csrc/**/*.c", recursive=True))
    headers = glob.glob("csrc/**/*.h", recursive=True)
    os.environ["ZIG_GLOBAL_CACHE_DIR"] = os.environ["ZIG_LOCAL_CACHE_DIR"] = os.path.abspath(OUTPUT)
    base = [sys.executable, "-m", "ziglang", "cc"] + runpy.run_path("setup.py")["FLAGS"] + FLAGS
    base += ["-Icsrc", "-I" + sysconfig.get_path("include"), "-I" + sysconfig.get_path("platinclude")]
    failed = 0
    with ThreadPool(os.cpu_count()) as pool:
        for target in targets or TARGETS:
            began = time.time()
            os.makedirs(os.path.join(OUTPUT, target), exist_ok=True)
            command = base + ["-target", target] + TARGETS[target]
            needed = newest(headers + [stamp(os.path.join(OUTPUT, target, "command"), repr(command))])
            said = pool.map(compile_source, [(source, target, command, needed) for source in sources])
            complaints = [text for text in said if text]
            sys.stdout.write("".join(complaints))
            outcome = "FAILED" if complaints else "passed"
            print("%-24s %3d files %s, %.1f s" % (target, len(sources), outcome, time.time() - began), flush=True)
            failed += bool(complaints)
    print("%d passed, %d failed" % (len(targets or TARGETS) - failed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
