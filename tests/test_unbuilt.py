"""Importing cloop from a checkout in which it has not been built for this Python."""

import os
import shutil
import sysconfig

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """The package without its extension module."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "checkout"))
    package = tmp_path / "checkout" / "cloop"
    shutil.copytree(os.path.join(ROOT, "cloop"), str(package), ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    return package


def error_of(process):
    assert process.returncode == 1
    return process.stderr.splitlines()[-1]


@pytest.mark.parametrize("args", [["-c", "import cloop"], ["-m", "cloop", "--version"]], ids=["import", "launcher"])
def test_says_so(python, checkout, monkeypatch, args):
    monkeypatch.setenv("PYTHONPATH", str(checkout.parent))
    line = error_of(python(*args))
    assert "cloop is not built for Python" in line and str(checkout.parent) in line and "run `make` there" in line
    assert "circular" not in line


def test_names_what_is_built_for_another(python, checkout, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(checkout.parent))
    (checkout / "_cloop.cpython-37m-x86_64-linux-gnu.so").write_bytes(b"")
    assert "(there is _cloop.cpython-37m-x86_64-linux-gnu.so)" in error_of(python("-c", "import cloop"))


def test_a_module_that_cannot_be_loaded_says_itself_why(python, checkout, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(checkout.parent))
    (checkout / ("_cloop" + sysconfig.get_config_var("EXT_SUFFIX"))).write_bytes(b"not a library")
    line = error_of(python("-c", "import cloop"))
    assert line.startswith("ImportError") and "not built" not in line


def test_a_zip_file_says_what_it_cannot_hold(python, checkout, monkeypatch, tmp_path):
    """Such as a zipapp into which `pip install --target` has put cloop."""
    (checkout / ("_cloop" + sysconfig.get_config_var("EXT_SUFFIX"))).write_bytes(b"")
    path = shutil.make_archive(str(tmp_path / "program"), "zip", str(checkout.parent))
    monkeypatch.setenv("PYTHONPATH", path)
    line = error_of(python("-c", "import cloop"))
    assert line.startswith("ImportError: cloop is in the file %s: Python loads no extension module" % path)
    assert "make" not in line
