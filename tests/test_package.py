"""What is published: the sdist has git's files, the metadata is what an index shows, and links work outside of the
repository.
"""

import email
import os
import re
import runpy
import shutil
import subprocess
import sys
import tarfile

import pytest

setuptools = pytest.importorskip("setuptools")
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
NOT_PUBLISHED = (".github/", ".gitignore", ".pre-commit-config.yaml")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of git's files in their current state."""
    if shutil.which("git") is None or not os.path.exists(os.path.join(ROOT, ".git")):
        pytest.skip("not a checkout of git")
    command = ["git", "ls-files", "-z"]
    names = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout.decode().split("\0")[:-1]
    copy = tmp_path_factory.mktemp("checkout")
    for name in names:
        if os.path.exists(os.path.join(ROOT, name)):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(os.path.join(ROOT, name), str(copy / name))
    return copy


@pytest.fixture(scope="module")
def sdist(checkout):
    """The unpacked sdist, and its top folder."""
    for name in "cloop/_cloop.so", "tests/__pycache__/a.pyc":  # left by a build
        (checkout / name).parent.mkdir(exist_ok=True)
        (checkout / name).write_text("")
    done = subprocess.run(
        [sys.executable, "setup.py", "-q", "sdist"],
        cwd=str(checkout), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    (path,) = (checkout / "dist").iterdir()
    with tarfile.open(str(path)) as archive:
        yield archive, archive.getnames()[0].split("/")[0]


@pytest.fixture(scope="module")
def metadata(sdist):
    archive, folder = sdist
    return email.message_from_bytes(archive.extractfile(folder + "/PKG-INFO").read())


def test_sdist_has_what_git_has(checkout, sdist):
    archive, folder = sdist
    packed = {name.partition("/")[2] for name in archive.getnames() if archive.getmember(name).isfile()}
    made = {"PKG-INFO", "setup.cfg"}
    packed = {name for name in packed - made if ".egg-info/" not in name}
    there = {str(path.relative_to(checkout)) for path in checkout.rglob("*") if path.is_file()}
    there = {name for name in there if not name.endswith((".so", ".pyc")) and ".egg-info/" not in name}
    expected = {name for name in there if not name.startswith(NOT_PUBLISHED + ("dist/",))}
    assert packed == expected


def test_metadata(metadata):
    assert metadata["Name"] == "cloop-asyncio"
    assert metadata["Version"] == runpy.run_path(os.path.join(ROOT, "cloop", "_version.py"))["__version__"]
    assert metadata["Requires-Python"] == ">=3.8"
    # Older releases of setuptools have them elsewhere.
    assert all("extra ==" in each for each in metadata.get_all("Requires-Dist", [])), "no dependencies of its own"
    classifiers = metadata.get_all("Classifier")
    assert "Typing :: Typed" in classifiers
    assert {"Programming Language :: Python :: 3.%d" % minor for minor in range(8, 16)} <= set(classifiers)
    if int(setuptools.__version__.split(".")[0]) >= 77:
        assert metadata["License-Expression"] == "MIT"
    else:
        assert metadata["License"] == "MIT"
    assert not [each for each in classifiers if each.startswith("License")]


def test_marker_for_packages_of_other_systems():
    """What docs/faq.md says: it installs cloop where it builds, and nothing elsewhere."""
    markers = pytest.importorskip("packaging.markers")
    with open(os.path.join(ROOT, "docs", "faq.md"), encoding="utf-8") as file:
        (text,) = re.findall(r'`"cloop-asyncio; (.*)"`', file.read())
    marker = markers.Marker(text)
    assert marker.evaluate()
    for elsewhere in {"sys_platform": "win32"}, {"sys_platform": "darwin"}, {"implementation_name": "pypy"}:
        assert not marker.evaluate(elsewhere)


def test_links_of_the_readme_are_absolute_on_the_index(checkout, metadata):
    text = metadata.get_payload() or metadata["Description"]
    links = re.findall(r"\]\(([^)]*)\)", text)
    urls = dict(each.split(", ") for each in metadata.get_all("Project-URL"))
    relative = [link for link in links if not re.match("https?://|#", link)]
    assert links and relative == []
    ours = [link[len(urls["Source"]) :] for link in links if link.startswith(urls["Source"])]
    assert ours
    for link in ours:
        path = re.match("/(?:blob|raw)/main/([^#]+)", link)
        assert path and (checkout / path[1]).exists(), link


def test_links_of_the_documents_lead_somewhere(checkout):
    """From one file of the repository to another."""
    broken = []
    for path in checkout.rglob("*.md"):
        for link in re.findall(r"\]\((?![a-z]+:|#)([^)#\s]+)", path.read_text(encoding="utf-8")):
            if not (path.parent / link).exists():
                broken.append((str(path.relative_to(checkout)), link))
    assert broken == []


def test_readme_is_short(checkout):
    text = (checkout / "README.md").read_text(encoding="utf-8")
    assert text.count("\n") < 100
    assert "`pip install cloop` installs an unrelated package" in text


def test_sdists_of_the_same_files_are_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1764288000")
    settle = runpy.run_path(os.path.join(ROOT, "release", "wheels.py"))["settle"]
    made = []
    for number, names in enumerate(["ab", "ba"]):
        made.append(tmp_path / ("%d.tar.gz" % number))
        with tarfile.open(str(made[-1]), "w:gz") as archive:
            for name in names:
                path = tmp_path / name
                path.write_text(name)
                path.chmod(0o755 if name == "b" else 0o640 + 4 * number)
                os.utime(str(path), (number + 0.5, number + 0.5))
                archive.add(str(path), "top/" + name)
        settle(str(made[-1]))
    assert made[0].read_bytes() == made[1].read_bytes()
    with tarfile.open(str(made[0])) as archive:
        told = [(member.name, member.mode, member.mtime, archive.extractfile(member).read()) for member in archive]
    assert told == [("top/a", 0o644, 1764288000, b"a"), ("top/b", 0o755, 1764288000, b"b")]
