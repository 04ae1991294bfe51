"""What cloop/_system.py hides of the systems."""

import os
import subprocess
import sys

import pytest

from cloop import _system

pytestmark = pytest.mark.usefixtures("cloop")


def test_is_running():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert _system.is_running(os.getpid())
    assert _system.is_running(child.pid)
    child.communicate(b"\n")
    assert not _system.is_running(child.pid)


@pytest.mark.parametrize("pid", [0, -1, 2**31 - 1, 2**100])
def test_is_not_running(pid):
    assert not _system.is_running(pid)


def test_another_users_process_is_running(monkeypatch):
    def kill(pid, number):
        raise PermissionError

    monkeypatch.setattr(os, "kill", kill)
    assert _system.is_running(1)
