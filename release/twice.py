"""Builds the wheel of this Python twice, from the same files in two folders, and compares them byte by byte.

python release/twice.py        `make reproducible` runs it
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def wheel(folder):
    """Returns the name of a wheel that is built in this folder, and its bytes."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout.decode()
    for name in filter(None, names.split("\0")):
        if os.path.exists(os.path.join(ROOT, name)):
            os.makedirs(os.path.dirname(os.path.join(folder, name)), exist_ok=True)
            shutil.copyfile(os.path.join(ROOT, name), os.path.join(folder, name))
    epoch = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
    environment = dict(os.environ, SOURCE_DATE_EPOCH=epoch.decode().strip())
    command = [sys.executable, "setup.py", "-q", "bdist_wheel"]
    subprocess.run(command, cwd=folder, env=environment, stderr=subprocess.DEVNULL, check=True)
    (name,) = os.listdir(os.path.join(folder, "dist"))
    with open(os.path.join(folder, "dist", name), "rb") as file:
        return name, file.read()


def main():
    with tempfile.TemporaryDirectory() as here, tempfile.TemporaryDirectory(prefix="another-name-") as there:
        first, second = wheel(here), wheel(there)
    print("%s: sha256 %s" % (first[0], hashlib.sha256(first[1]).hexdigest()))
    print("%s: sha256 %s" % (second[0], hashlib.sha256(second[1]).hexdigest()))
    print("the same" if first == second else "NOT the same")
    return first != second


if __name__ == "__main__":
    sys.exit(main())
