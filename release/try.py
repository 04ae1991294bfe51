"""Installs each wheel of dist/ into a clean place and runs release/smoke.py with it there.

    python release/try.py [WHEEL]...

Wheels for this machine are installed into a new environment of the Python that they are for, found as .ci/run does.
Those for aarch64 run in qemu's user mode, on Debian's Python 3.11 for that machine, which is unpacked under build/ and
needs apt and qemu-user-static. What can't be run here is named as skipped: wheels for musl need a Python that is
built for it, which MUSL_PYTHON may name.
"""

import glob
import os
import re
import shutil
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from wheels import DIST, ROOT, run  # noqa: E402

SMOKE = os.path.join(ROOT, "release", "smoke.py")
FOREIGN = os.path.join(ROOT, "build", "aarch64-debian")


def interpreters():
    """{"cp311": path}"""
    found = {}
    for python in run([os.path.join(ROOT, ".ci", "run"), "--pythons"]).split():
        found[run([python, "-c", "import sys; print('cp%d%d' % sys.version_info[:2], end='')"])] = python
    return found


def in_environment(python, wheel):
    with tempfile.TemporaryDirectory() as folder:
        run([python, "-m", "venv", folder])
        python = os.path.join(folder, "bin", "python")
        run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-index", wheel])
        return run([python, SMOKE], cwd=folder)


def in_emulator(wheel):
    root = foreign_python()
    with tempfile.TemporaryDirectory() as folder:
        unpack(wheel, folder)
        command = [shutil.which("qemu-aarch64-static"), "-L", root, os.path.join(root, "usr", "bin", "python3.11")]
        return run([*command, SMOKE], cwd=folder, env=dict(os.environ, PYTHONPATH=folder))


def on_musl(python, wheel):
    with tempfile.TemporaryDirectory() as folder:
        unpack(wheel, folder)
        return run([python, SMOKE], cwd=folder, env=dict(os.environ, PYTHONPATH=folder))


def unpack(wheel, folder):
    """What pip does with a wheel that has packages alone."""
    tag, platform = re.search(r"-cp(\d+)-cp\d+-(\w+)\.whl$", wheel).groups()
    version = "%s.%s" % (tag[0], tag[1:])
    command = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "--no-index"]
    run(
        command
        + ["--target", folder, "--platform", platform, "--python-version", version, "--only-binary=:all:", wheel]
    )


def foreign_python():
    """Debian's Python 3.11 for aarch64 with what it needs, unpacked; nothing of the system is changed."""
    root = os.path.join(FOREIGN, "root")
    if os.path.exists(os.path.join(root, "usr", "bin", "python3.11")):
        return root
    for folder in "state/lists/partial", "cache/archives/partial", "root":
        os.makedirs(os.path.join(FOREIGN, folder), exist_ok=True)
    open(os.path.join(FOREIGN, "status"), "w").close()
    options = ["APT::Architecture=arm64", "APT::Architectures::=arm64", "APT::Sandbox::User=root", "Debug::NoLocking=1"]
    options += ["Dir::%s=%s/%s" % (name, FOREIGN, path) for name, path in (("State", "state"), ("Cache", "cache"))]
    apt = ["apt-get", "-qq", "-o", "Dir::State::status=%s/status" % FOREIGN]
    apt += [word for option in options for word in ("-o", option)]
    run([*apt, "update"])
    packages = ["python3.11-minimal", "libpython3.11-stdlib", "libc6"]
    run([*apt, "install", "-y", "--download-only", "--no-install-recommends", *packages])
    for package in glob.glob(os.path.join(FOREIGN, "cache", "archives", "*.deb")):
        run(["dpkg-deb", "-x", package, root])
    return root


def outcome(wheel, pythons):
    """What the smoke test said, or why it was not run."""
    tag, platform = re.search(r"-(cp\d+)-cp\d+-(\w+)\.whl$", wheel).groups()
    if "musllinux" in platform:
        python = os.environ.get("MUSL_PYTHON")
        if not python or not platform.endswith(os.uname().machine):
            return "skipped: there is no Python built for musl"
        return on_musl(python, wheel)
    if platform.endswith(os.uname().machine):
        return in_environment(pythons[tag], wheel) if tag in pythons else "skipped: there is no Python for " + tag
    if not platform.endswith("aarch64") or tag != "cp311":
        return "skipped: Debian's Python for aarch64 is 3.11"
    if not all(map(shutil.which, ("qemu-aarch64-static", "apt-get", "dpkg-deb"))):
        return "skipped: no qemu-user-static, or not Debian"
    return in_emulator(wheel)


def main(chosen):
    pythons = interpreters()
    for wheel in chosen or sorted(glob.glob(os.path.join(DIST, "*.whl"))):
        told = outcome(os.path.abspath(wheel), pythons).strip().splitlines()[-1]
        print("%s: %s" % (os.path.basename(wheel), told), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
