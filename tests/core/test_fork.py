"""A loop in the child of a fork that there was not: another copy of the C code is told of one, in this process. So its calls
can fail there, too (tests/places.py). tests/isolated/test_fork.py has real forks.
"""

import importlib.util
import os
import socket
import threading

import pytest

pytestmark = pytest.mark.gil


def copy_of_the_module(monkeypatch):
    """The module, and what it has asked to be called in the child of a fork."""
    asked = []
    spec = importlib.util.find_spec("cloop._cloop")
    module = importlib.util.module_from_spec(spec)
    with monkeypatch.context() as patch:
        patch.setattr(os, "register_at_fork", lambda **functions: asked.append(functions["after_in_child"]))
        spec.loader.exec_module(module)
    return module, asked[0]


def turn(loop, fd):
    loop.call_soon(int)
    loop._run_once()


USES = {
    "a call of another thread": lambda loop, fd: loop.call_soon_threadsafe(int),
    "a wake-up": lambda loop, fd: loop._write_to_self(),
    "a poll": lambda loop, fd: loop._select(0),
    "a turn": turn,
    "signals": lambda loop, fd: loop._signal_fileno(),
    "a reader goes": lambda loop, fd: loop.remove_reader(fd),
    "a reader comes": lambda loop, fd: loop.add_reader(fd, int),
    "a writer comes": lambda loop, fd: loop.add_writer(fd, int),
}


@pytest.mark.parametrize("state", ["idle", "running", "running in another thread"])
def test_first_use_after_a_fork(cloop, monkeypatch, state):
    module, forked = copy_of_the_module(monkeypatch)
    for first in USES:
        loop = module.LoopCore()
        (ours, theirs), (new, other) = socket.socketpair(), socket.socketpair()
        try:
            loop.add_reader(ours.fileno(), int)
            assert loop._select(0) == []
            if state != "idle":
                loop._thread_id = threading.get_ident() + (state != "running")
            forked()
            loop._thread_id = None
            for name in [first] + list(USES):
                USES[name](loop, ours.fileno())
            if first == "a poll":
                forked()  # once more
            other.send(b"x")
            loop.add_reader(new.fileno(), int)
            loop.remove_writer(ours.fileno())
            seen = {}
            while new.fileno() not in seen:  # a stress build reports one event at a time
                seen.update(loop._select(10))
        finally:
            loop._thread_id = None
            loop._close_core(False)
            for sock in ours, theirs, new, other:
                sock.close()
