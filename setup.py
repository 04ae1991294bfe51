"""Builds cloop._cloop. Every compiler flag and build switch of the project is here.

CLOOP_BUILD    release (default), debug, asan, tsan, stress or coverage; see BUILDS
CLOOP_WERROR   1 makes warnings errors
CLOOP_USDT     1: with tracepoints (csrc/base/probe.h), which need <sys/sdt.h>; 0: without; by default, if it is there
CC, CFLAGS     as usual: the compiler, and flags, which come after ours
SOURCE_DATE_EPOCH  as usual: if set, the result does not depend on the folder of the build

What the machine lacks is said in one line, before anything is compiled.
"""

import os
import sys

if sys.version_info < (3, 8) or sys.implementation.name != "cpython":
    sys.exit("cloop needs CPython 3.8 or newer: %s is %s" % (sys.executable, sys.version.split()[0]))
if sys.platform in ("win32", "cygwin"):
    sys.exit("cloop does not run on Windows, but winloop does, which is uvloop for it: pip install winloop")
if sys.platform.startswith(("darwin", "freebsd")):
    print(
        "cloop has never run on this system (%s): it was compiled for it, and its kqueue tested on a model of kqueue "
        "that runs on Linux; docs/porting.md says what to run" % sys.platform,
        file=sys.stderr,
    )
elif not sys.platform.startswith("linux"):
    sys.exit("cloop runs on Linux, and may on macOS and FreeBSD; this is %s: see docs/porting.md" % sys.platform)

import copy
import glob
import re
import runpy
import shlex
import shutil
import subprocess
import tempfile
from multiprocessing.pool import ThreadPool

try:
    import setuptools
    from setuptools import Extension, setup
    from setuptools.command.build_ext import build_ext
except ImportError:
    sys.exit("cloop needs setuptools to build: %s -m pip install setuptools" % sys.executable)

HOME = "https://github.com/cloop-asyncio/cloop"  # as in pyproject.toml
FLAGS = [
    "-std=c11",
    "-D_GNU_SOURCE",  # epoll, accept4, pipe2, which -std=c11 alone hides on Linux
    "-pthread",
    "-fvisibility=hidden",  # only the init function is exported: calls between our files need no PLT
    "-Wall",
    "-Wextra",
    "-Wno-unused-parameter",  # signatures are CPython's, or those of our tables
    "-Wno-missing-field-initializers",  # PyMethodDef and its like end in fields left zero
    "-g",  # perf, gdb and py-spy see names; costs nothing at run time
    "-fno-omit-frame-pointer",
    "-fno-strict-aliasing",  # structs that begin alike are one to us, as to CPython's own
]
# Calls between our files are inlined, where the linker can do it: 1 to 3 % fewer instructions. gcc's number is how many
# of its processes link; clang takes none.
LTO = ["-flto"]
LTO_LINKING = [["-flto=%d" % (os.cpu_count() or 1)], LTO]
# Python's own flags say -DNDEBUG and may say _FORTIFY_SOURCE, which warns without optimisation.
DEBUG = ["-UNDEBUG", "-U_FORTIFY_SOURCE", "-DCL_DEBUG"]
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
THREADS = ["-fsanitize=thread"]
# What makes a fault harder to use and costs nothing that can be measured. -fstack-protector-strong takes 1 to 4 % of the
# instructions of a callback, and _FORTIFY_SOURCE=3 1 % of those of a task.
HARDENING = [
    [["-fstack-protector"]],
    [["-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2"]],
    [["-fcf-protection=return"]],  # shadow stacks, on x86-64; Linux has no use for the other half of CET
]
# Of each line, the first that the linker takes.
HARDENED_LINKING = [[["-Wl,-z,relro", "-Wl,-z,now"]], [["-Wl,-z,noexecstack"]]]
BUILDS = {
    "release": (["-O3"], []),
    "debug": (["-O0"] + DEBUG, []),
    "asan": (["-O1"] + DEBUG + SANITIZE, SANITIZE),
    "tsan": (["-O1"] + DEBUG + THREADS, THREADS),
    "stress": (["-O0"] + DEBUG + ["-DCL_STRESS", "-DCL_INJECT"], []),
    "coverage": (["-O0", "--coverage", "-fprofile-update=atomic", "-DCL_COVERAGE", "-DCL_INJECT"], ["--coverage"]),
}


def flags(build):
    """What the compiler and the linker are told for a build; nothing in it is Python's."""
    if build not in BUILDS:
        sys.exit("CLOOP_BUILD=%s is none of %s" % (build, ", ".join(BUILDS)))
    compiling, linking = BUILDS[build]
    werror = ["-Werror"] if os.environ.get("CLOOP_WERROR") == "1" else []
    return FLAGS + compiling + werror, ["-pthread"] + linking


def tracepoints(command):
    """The flags for tracepoints, if they are wanted and <sys/sdt.h> is there."""
    wanted = os.environ.get("CLOOP_USDT", "")
    if wanted not in ("", "0", "1"):
        sys.exit("CLOOP_USDT=%s is none of 0, 1" % wanted)
    if wanted == "0":
        return []
    why = failure(command, "#include <sys/sdt.h>\nvoid probe(void) { DTRACE_PROBE1(cloop, probe, 1); }\n")
    if why is None:
        return ["-DCL_USDT"]
    if wanted == "1":
        sys.exit(
            "CLOOP_USDT=1 needs <sys/sdt.h>: apt-get install systemtap-sdt-dev (Debian, Ubuntu), "
            "dnf install systemtap-sdt-devel (Fedora); %s says: %s" % (command[0], why)
        )
    return []


def first_line(command):
    """The first line that a command prints."""
    return subprocess.run(command, stdout=subprocess.PIPE, universal_newlines=True).stdout.split("\n")[0]


def failure(command, text):
    """Why the compiler does not take this text: a line of its own, or None."""
    with tempfile.TemporaryDirectory() as scratch:
        source = os.path.join(scratch, "probe.c")
        with open(source, "w") as file:
            file.write(text)
        done = subprocess.run(
            command + ["-c", "-o", os.path.join(scratch, "probe.o"), source],  # zig's takes no -fsyntax-only
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            universal_newlines=True,
        )
    lines = [line for line in done.stdout.splitlines() if "error" in line] or ["exit status %d" % done.returncode]
    return lines[0].replace(source, "probe.c") if done.returncode else None


def links(compiler, options):
    """Whether the command that links makes a shared object with these options."""
    with tempfile.TemporaryDirectory() as scratch:
        source = os.path.join(scratch, "probe.c")
        with open(source, "w") as file:
            file.write("int probe(void) { return 0; }\n")
        command = compiler + options + ["-fPIC", source, "-o", os.path.join(scratch, "probe.so")]
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT).returncode == 0


def compiles(compiler, options):
    """Whether the compiler takes these options without a word."""
    return (
        failure(compiler + ["-O2", "-Werror"] + options, "#include <string.h>\nint probe(void) { return 0; }\n") is None
    )


def first_taken(takes, command, choices):
    """Of each list of choices the first that the command takes, all in one list."""
    taken = [next((options for options in each if takes(command, options)), []) for each in choices]
    return [option for options in taken for option in options]


def check_machine(compiler, include_dirs):
    """Leave with one line if this machine cannot compile cloop."""
    if shutil.which(compiler[0]) is None:
        sys.exit(
            "cloop needs a C11 compiler, and there is no %s: apt-get install gcc libc6-dev (Debian, Ubuntu), "
            "dnf install gcc (Fedora), xcode-select --install (macOS)" % compiler[0]
        )
    command = compiler + FLAGS + ["-I" + path for path in include_dirs]
    headers = "#include <stdatomic.h>\n#include <sys/socket.h>\n"
    if failure(command, headers + "#include <Python.h>\n") is None:
        return
    why = failure(command, headers)
    if why is not None:
        sys.exit(
            "cloop needs a C11 compiler and the headers of the C library: apt-get install gcc libc6-dev (Debian, Ubuntu), "
            "dnf install gcc glibc-devel (Fedora); %s says: %s" % (compiler[0], why)
        )
    sys.exit(
        "cloop needs the headers of Python %d.%d: apt-get install python3-dev (Debian, Ubuntu), "
        "dnf install python3-devel (Fedora); there is no usable Python.h in %s"
        % (sys.version_info[:2] + (" or ".join(include_dirs),))
    )


def c_string(text):
    return '"%s"' % text.replace("\\", "\\\\").replace('"', '\\"')


class BuildExt(build_ext):
    """Compiles each source by itself, in parallel, and only if something it depends on is newer.

    Objects of different builds are kept apart, so going from release to debug and back is cheap."""

    def initialize_options(self):
        super().initialize_options()
        self.build = os.environ.get("CLOOP_BUILD", "release")
        self.compiling, self.linking = flags(self.build)

    def finalize_options(self):
        super().finalize_options()
        self.build_temp = os.path.join(self.build_temp, self.build)

    def get_source_files(self):
        return super().get_source_files() + [header for ext in self.extensions for header in ext.depends]

    def build_extensions(self):
        check_machine(self.compiler.compiler_so, self.compiler.include_dirs)
        users = shlex.split(os.environ.get("CFLAGS", ""))  # setuptools puts them before ours only
        self.compiling = self.compiling + tracepoints(self.compiler.compiler_so + self.compiling + users)
        chosen = [options for options in LTO_LINKING if links(self.compiler.linker_so, options)]
        if self.build == "release":
            self.compiling = self.compiling + first_taken(compiles, self.compiler.compiler_so, HARDENING)
            self.linking = self.linking + first_taken(links, self.compiler.linker_so, HARDENED_LINKING)
        if self.build == "release" and chosen:
            self.compiling = self.compiling + LTO
            self.linking = self.linking + self.compiling + chosen[0]
        self.compiling, self.linking = self.compiling + users, self.linking + users
        super().build_extensions()

    def build_extension(self, ext):
        compiler = self.compiler.compiler_so + self.compiling
        hidden = ["-ffile-prefix-map=%s=." % os.getcwd()] if os.environ.get("SOURCE_DATE_EPOCH") else []
        command = " ".join(compiler + hidden)
        about = first_line(compiler + ["--version"])
        macros = [("CL_BUILD_COMPILER", c_string(about)), ("CL_BUILD_FLAGS", c_string(" ".join(compiler[1:])))]
        needs = ext.depends + [self.stamp("command", "%s\n%s\n%s\n" % (command, about, self.compiler.include_dirs))]

        def compile_source(source):
            (target,) = self.compiler.object_filenames([source], output_dir=self.build_temp)
            if self.force or older(target, [source] + needs):
                self.compiler.compile(
                    [source],
                    output_dir=self.build_temp,
                    macros=macros,
                    include_dirs=ext.include_dirs,
                    extra_postargs=self.compiling + hidden,
                )
            return target

        with ThreadPool(os.cpu_count()) as pool:
            objects = pool.map(compile_source, sorted(ext.sources))

        # Builds share the file they are linked into: who made it last is a dependency as well.
        objects_changed = self.stamp("../linked", "\n".join(objects))
        if self.force or older(self.get_ext_fullpath(ext.name), objects + [objects_changed]):
            self.force = self.compiler.force = True  # setuptools would compare whole seconds only
            linked = copy.copy(ext)
            linked.sources, linked.extra_objects = [], objects
            linked.extra_link_args = self.linking + hidden
            super().build_extension(linked)

    def stamp(self, name, text):
        """A file that holds this text, and is new only if the text is."""
        self.mkpath(self.build_temp)
        path = os.path.join(self.build_temp, name)
        if not os.path.exists(path) or read(path) != text:
            with open(path, "w") as file:
                file.write(text)
        return path


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def older(target, sources):
    if not os.path.exists(target):
        return True
    made = os.path.getmtime(target)
    return any(os.path.getmtime(source) > made for source in sources)


def description():
    """README.md with links that work outside the repository, too."""
    text = re.sub(r"(!\[[^]]*\])\((?![a-z]+:)([^)]+)\)", r"\1(%s/raw/main/\2)" % HOME, read("README.md"))
    return re.sub(r"\]\((?![a-z]+:|#)([^)]+)\)", r"](%s/blob/main/\1)" % HOME, text)


# Licence expressions (PEP 639) came with a setuptools that Python 3.8 has not.
LICENCE = {"license_expression": "MIT"} if int(setuptools.__version__.split(".")[0]) >= 77 else {"license": "MIT"}

if __name__ == "__main__":
    setup(
        version=runpy.run_path("cloop/_version.py")["__version__"],
        long_description=description(),
        long_description_content_type="text/markdown",
        packages=["cloop", "cloop.contrib"],
        package_data={"cloop": ["py.typed", "*.pyi"], "cloop.contrib": ["*.pyi"]},
        ext_modules=[
            Extension(
                "cloop._cloop",
                sources=sorted(glob.glob("csrc/**/*.c", recursive=True)),
                depends=sorted(glob.glob("csrc/**/*.h", recursive=True)),
                include_dirs=["csrc"],
            )
        ],
        cmdclass={"build_ext": BuildExt},
        **LICENCE,
    )
