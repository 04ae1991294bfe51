"""Compiles csrc and the tests that need no Python for other systems, machines and C libraries; warnings are errors.

The compiler is zig's (`pip install ziglang`), which includes the headers of many C libraries, macOS's and FreeBSD's
too. Nothing is linked or run. This finds names that another C library already uses, functions that an older one or
another system lacks, and what depends on the machine. Python's headers are those of the running interpreter. For macOS
and FreeBSD, their pyconfig.h gets the changes of CHANGES, as no such Python is at hand.

    python tests/c/cross.py [TARGET ...]      such as x86_64-linux-musl

Objects are kept in build/cross, and compiled again only if something they depend on is newer.
"""

import glob
import importlib.util
import os
import re
import runpy
import subprocess
import sys
import sysconfig
import time
from multiprocessing.pool import ThreadPool

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
OUTPUT = os.path.join("build", "cross")

# zig's names of the targets. All are LP64, like this Python's pyconfig.h.
TARGETS = [
    "x86_64-linux-gnu.2.17",
    "aarch64-linux-gnu.2.17",
    "x86_64-linux-musl",
    "aarch64-linux-musl",
    "x86_64-macos",
    "aarch64-macos",
    "x86_64-freebsd",
    "aarch64-freebsd",
]

# What configure finds otherwise than on Linux, of what the headers of Python look at: {target: {a pattern of whole
# names: the value, or None for no definition}}. Later ones count. Functions are left as they are: only Python's own
# sources use those.
UNIX = {
    # configure defines none of these there, since they hide what POSIX has not.
    r"_POSIX_C_SOURCE|_XOPEN_SOURCE|_XOPEN_SOURCE_EXTENDED": None,
    # Headers and system calls of Linux.
    r"HAVE_(LINUX|EPOLL|EVENTFD|TIMERFD|MEMFD|SPLICE|SOCKADDR_ALG|GETRANDOM_SYSCALL|ASM_TYPES_H)\w*": None,
    r"HAVE_(SYS_(EPOLL|EVENTFD|TIMERFD|SENDFILE|SYSMACROS)_H|NETPACKET_PACKET_H|SHADOW_H|GETSP\w+)": None,
    r"SIZEOF_FPOS_T": "8",
}
DARWIN = {
    **UNIX,
    r"_DARWIN_C_SOURCE": "1",
    r"HAVE_(ACCEPT4|PIPE2|DUP3|PPOLL|PTHREAD_CONDATTR_SETCLOCK|PTHREAD_GETCPUCLOCKID)": None,
    r"HAVE_(SEM_TIMEDWAIT|SEM_CLOCKWAIT|SIGTIMEDWAIT|SIGWAITINFO|GETRANDOM|EXPLICIT_BZERO|ENDIAN_H|SYS_AUXV_H)": None,
    r"HAVE_KQUEUE": "1",
    # An unsigned long.
    r"PTHREAD_KEY_T_IS_COMPATIBLE_WITH_INT": None,
    r"SIZEOF_PTHREAD_KEY_T": "8",
}
FREEBSD = {**UNIX, r"__BSD_VISIBLE": "1", r"HAVE_KQUEUE": "1", r"HAVE_ENDIAN_H": None}
CHANGES = {
    "x86_64-macos": DARWIN,
    "aarch64-macos": {**DARWIN, r"SIZEOF_LONG_DOUBLE": "8"},
    "x86_64-freebsd": FREEBSD,
    "aarch64-freebsd": FREEBSD,
}

# -O0: the warnings are clang's, which do not depend on optimisation.
FLAGS = ["-Werror", "-O0", "-g0", "-fno-sanitize=all"]


def stamp(path, text):
    """A file with this text, modified only if the text changes."""
    if not os.path.exists(path) or open(path).read() != text:
        with open(path, "w") as file:
            file.write(text)
    return path


def changed(text, changes):
    """The text of a pyconfig.h with these changes."""
    lines, names = [], set()
    for line in text.splitlines():
        found = re.match(r"#\s*(?:define|undef)\s+(\w+)|/\* #undef (\w+) \*/", line)
        name = found and (found.group(1) or found.group(2))
        for pattern, value in changes.items():
            if name and re.fullmatch(pattern, name):
                line = "/* #undef %s */" % name if value is None else "#define %s %s" % (name, value)
        names.add(name)
        lines.append(line)
    added = ["#define %s %s" % (name, value) for name, value in changes.items() if value and name not in names]
    return "\n".join(added + lines) + "\n"


def python_headers(target):
    """Where Python's headers are for this target, and the file that they depend on besides themselves."""
    include = sysconfig.get_path("include")
    if target not in CHANGES:
        return [include, sysconfig.get_path("platinclude")], []
    folder = os.path.join(OUTPUT, target, "include")
    os.makedirs(folder, exist_ok=True)
    for name in os.listdir(folder):
        if os.path.islink(os.path.join(folder, name)):
            os.unlink(os.path.join(folder, name))
    for name in os.listdir(include):
        if name != "pyconfig.h":  # Python.h takes the one beside it
            os.symlink(os.path.join(include, name), os.path.join(folder, name))
    with open(sysconfig.get_config_h_filename()) as file:
        text = changed(file.read(), CHANGES[target])
    return [folder], [stamp(os.path.join(folder, "pyconfig.h"), text)]


def newest(paths):
    return max(os.stat(path).st_mtime_ns for path in paths)


def compile_source(job):
    """The compiler's output for a source, or None. An object newer than its dependencies is kept."""
    source, target, command, needed = job
    made = os.path.join(OUTPUT, target, source.replace(os.sep, "-")[: -len(".c")] + ".o")
    if os.path.exists(made) and os.stat(made).st_mtime_ns > max(needed, os.stat(source).st_mtime_ns):
        return None
    build = ["-DCL_DEBUG"] if source.startswith("tests") else []  # what the tests are always built with
    done = subprocess.run(
        command + build + ["-c", source, "-o", made],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
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
    with_python = runpy.run_path("tests/c/run.py")["LAYERS"]
    tests = sorted(glob.glob("tests/c/test_*.c"))
    sources += [path for path in tests if os.path.basename(path)[: -len(".c")] not in with_python]
    headers = glob.glob("csrc/**/*.h", recursive=True)
    os.environ["ZIG_GLOBAL_CACHE_DIR"] = os.environ["ZIG_LOCAL_CACHE_DIR"] = os.path.abspath(OUTPUT)
    base = [sys.executable, "-m", "ziglang", "cc"] + runpy.run_path("setup.py")["FLAGS"] + FLAGS
    failed = 0
    with ThreadPool(os.cpu_count()) as pool:
        for target in targets or TARGETS:
            began = time.time()
            os.makedirs(os.path.join(OUTPUT, target), exist_ok=True)
            folders, made = python_headers(target)
            command = base + ["-target", target, "-Icsrc"] + ["-I" + folder for folder in folders]
            needed = newest(headers + made + [stamp(os.path.join(OUTPUT, target, "command"), repr(command))])
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
