"""Walks the checklist of a release, up to the upload, which is for a person to do. `make release` runs it.

    python release/check.py [--quick]     --quick: the wheel of this Python for this machine only, by its own compiler

Each line of what it prints is an item of docs/releasing.md. It stops at the first that fails.
"""

import argparse
import glob
import os
import re
import runpy
import shutil
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import wheels  # noqa: E402
from wheels import DIST, ROOT, run  # noqa: E402

PYTHON = sys.executable


def read(*path):
    with open(os.path.join(ROOT, *path), encoding="utf-8") as file:
        return file.read()


def read_bytes(path):
    with open(path, "rb") as file:
        return file.read()


def git(*command):
    return run(["git", "-C", ROOT, *command]).strip()


def version_is_in_one_place(state):
    version = state["version"] = runpy.run_path(os.path.join(ROOT, "cloop", "_version.py"))["__version__"]
    assert re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", version), version
    for name in git("ls-files", "*.py", "*.toml", "*.c", "*.h", "Makefile").split():
        if name != "cloop/_version.py":
            assert '"%s"' % version not in read(name), "%s has the version, too" % name
    return version


def changelog_has_it(state):
    """The notes are what CHANGELOG.md says of this version."""
    found = re.search(
        r"^## %s - \d{4}-\d\d-\d\d\n(.*?)(?=^## |\Z)" % re.escape(state["version"]), read("CHANGELOG.md"), re.M | re.S
    )
    assert found, 'CHANGELOG.md has no "## %s - YYYY-MM-DD": rename "Unreleased"' % state["version"]
    notes = "# cloop %s\n\n%s\n" % (state["version"], found[1].strip())
    with open(os.path.join(DIST, "NOTES.md"), "w", encoding="utf-8") as file:
        file.write(notes)
    return "dist/NOTES.md, %d lines" % notes.count("\n")


def checkout_is_clean(state):
    changes = git("status", "--porcelain")
    assert not changes, "not committed:\n" + changes
    return git("rev-parse", "--short", "HEAD")


def sdist_is_built(state):
    state["sdist"] = wheels.sdist()
    return os.path.relpath(state["sdist"], ROOT)


def wheels_are_built(state):
    if state["quick"]:
        run(
            [PYTHON, "-m", "pip", "wheel", "-q", "--disable-pip-version-check", "--no-deps", "-w", DIST, state["sdist"]]
        )
    else:
        for python in run([os.path.join(ROOT, ".ci", "run"), "--pythons"]).split():
            run([PYTHON, os.path.join(ROOT, "release", "wheels.py"), "--python", python])
    state["wheels"] = glob.glob(os.path.join(DIST, "*.whl"))
    return "%d" % len(state["wheels"])


def twine_is_content(state):
    run([PYTHON, "-m", "twine", "check", "--strict", state["sdist"], *state["wheels"]])
    return "strictly"


def tags_are_right(state):
    for wheel in state["wheels"]:
        shown = run([PYTHON, "-m", "auditwheel", "show", wheel])
        wanted = re.search(r"-((many|musl)linux_\w+)\.whl$", wheel)
        assert not wanted or '"%s"' % wanted[1] in shown, shown
    return "by auditwheel" if not state["quick"] else "not looked at: the wheel is for this machine"


def built_again_they_are_the_same(state):
    """The sdist, and one wheel of those that wheels.py builds."""
    made = [state["sdist"]]
    if not state["quick"]:
        made += [wheel for wheel in state["wheels"] if "-cp%d%d-" % sys.version_info[:2] in wheel][:1]
    before = [read_bytes(path) for path in made]
    wheels.sdist()
    for path in made[1:]:
        (target,) = [target for target in wheels.TARGETS if path.endswith("-%s.whl" % target)]
        run([PYTHON, os.path.join(ROOT, "release", "wheels.py"), target])
    changed = [path for path, old in zip(made, before) if read_bytes(path) != old]
    assert not changed, "differs when it is built again: %s" % ", ".join(changed)
    return "%d of them" % len(made)


def wheel_and_sdist_install(state):
    """Into environments of their own, from files alone where that can be."""
    tag = "cp%d%d" % sys.version_info[:2]
    own = [
        wheel
        for wheel in state["wheels"]
        if "-%s-" % tag in wheel and os.uname().machine in wheel and "musl" not in wheel
    ]
    assert own, "no wheel for this Python and machine"
    for package in own[0], state["sdist"]:
        with tempfile.TemporaryDirectory() as folder:
            run([PYTHON, "-m", "venv", folder])
            python = os.path.join(folder, "bin", "python")
            run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", package])
            run([python, os.path.join(ROOT, "release", "smoke.py"), state["version"]], cwd=folder)
    return "and pass release/smoke.py"


CHECKS = [
    ("the version is in one place", version_is_in_one_place),
    ("CHANGELOG.md has the version and its day", changelog_has_it),
    ("the checkout is clean", checkout_is_clean),
    ("the sdist is built", sdist_is_built),
    ("wheels are built", wheels_are_built),
    ("built again, they are the same", built_again_they_are_the_same),
    ("twine check", twine_is_content),
    ("the wheels' tags are right", tags_are_right),
    ("a wheel and the sdist install", wheel_and_sdist_install),
]

LEFT = """\
Left to do by hand, as docs/releasing.md says:
  .ci/run and make nightly are green on this commit
  the pages that the package names (Homepage, Documentation, Changelog) answer
  git tag -s v{version}; the forge builds its wheels of the tag; compare, then twine upload dist/*.tar.gz dist/*.whl
  the forge's release gets dist/NOTES.md and dist/debug
  CHANGELOG.md gets a new "## Unreleased", cloop/_version.py the next version\
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true")
    state = vars(parser.parse_args())
    shutil.rmtree(DIST, ignore_errors=True)
    os.makedirs(DIST)
    for number, (what, check) in enumerate(CHECKS, 1):
        began = time.time()
        try:
            result = check(state)
        except AssertionError as error:
            sys.exit("%d of %d: %s: NO\n%s" % (number, len(CHECKS), what, error))
        print("%d of %d: %s: %s (%.0f s)" % (number, len(CHECKS), what, result, time.time() - began), flush=True)
    print(LEFT.format(**state))


if __name__ == "__main__":
    main()
