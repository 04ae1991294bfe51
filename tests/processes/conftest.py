"""What the subprocess tests share: protocols that note their calls, children that wait for a signal to go on, and a
check that every child was reaped.

Children are /bin/sh scripts, which start ten times faster than Python.
"""

import asyncio
import contextlib
import glob
import os
import signal
import threading
import time

import pytest

PATIENCE_S = 20  # for what should happen at once


def children():
    """The child processes of this one that were not reaped, running or not."""
    found = set()
    for thread in glob.glob("/proc/self/task/*/children"):
        with contextlib.suppress(OSError), open(thread) as file:
            found.update(map(int, file.read().split()))
    return found


def other_threads():
    return set(threading.enumerate()) - {threading.main_thread()}


@pytest.fixture(autouse=True)
def nobody_stays():
    """Fail a test that leaves a child, a zombie or a thread behind."""
    threads, others = other_threads(), children()
    yield
    deadline = time.monotonic() + PATIENCE_S
    while children() - others or other_threads() - threads:  # a watcher's thread may be about to wait for one
        if time.monotonic() > deadline:
            left = children() - others
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            pytest.fail("left behind: children %s, threads %s" % (left, other_threads() - threads), pytrace=False)
        time.sleep(0.001)


@pytest.fixture(autouse=True)
def all_is_well(nothing_is_reported):
    """For every test of this folder."""


class Recorder(asyncio.SubprocessProtocol):
    """Notes its calls, in order. A hook named after a method is called with the protocol and the arguments."""

    def __init__(self, **hooks):
        self.calls = []
        self.hooks = hooks
        self.transport = None
        self.output = {1: b"", 2: b""}
        self.errors = {}  # the exceptions that pipes were lost with
        self.waiting = []

    def note(self, name, *args, call=None):
        self.calls.append(call or name)
        for call, future in self.waiting:
            if call in self.calls and not future.done():
                future.set_result(None)
        if name in self.hooks:
            self.hooks[name](self, *args)

    async def seen(self, call):
        """Waits for a call."""
        if call not in self.calls:
            future = asyncio.get_running_loop().create_future()
            self.waiting.append((call, future))
            await asyncio.wait_for(future, PATIENCE_S)

    def connection_made(self, transport):
        self.transport = transport
        self.note("connection_made", transport)

    def pipe_data_received(self, fd, data):
        self.output[fd] += data
        self.note("pipe_data_received", fd, data, call=("data", fd))

    def pipe_connection_lost(self, fd, exc):
        self.errors[fd] = exc
        self.note("pipe_connection_lost", fd, exc, call=("lost", fd))

    def process_exited(self):
        self.note("process_exited")

    def connection_lost(self, exc):
        assert exc is None
        self.note("connection_lost", exc)

    def pause_writing(self):
        self.note("pause_writing")

    def resume_writing(self):
        self.note("resume_writing")


@pytest.fixture
def recorder():
    return Recorder


@pytest.fixture
def spawn(loop, run):
    """Starts a program; closes its transport after the test, and waits for its exit."""
    made = []

    def spawn(protocol, *command, **options):
        transport, got = run(loop.subprocess_exec(lambda: protocol, *command, **options))
        assert got is protocol
        made.append((transport, protocol))
        return transport

    yield spawn
    if loop.is_closed():
        return
    for transport, protocol in made:
        transport.close()
        run(protocol.seen("connection_lost"))


@pytest.fixture
def shell(spawn):
    """Starts a script of /bin/sh, with arguments."""

    def shell(protocol, script, *args, **options):
        return spawn(protocol, "/bin/sh", "-c", script, "sh", *args, **options)

    return shell


class Gate:
    """Where children wait: `read x <"$1"` continues when the gate, whose path is $1, is opened."""

    def __init__(self, path):
        self.path = path
        os.mkfifo(path)
        self.descriptor = os.open(path, os.O_RDWR)

    def open(self):
        os.write(self.descriptor, b"\n")


@pytest.fixture
def gate(tmp_path):
    gate = Gate(str(tmp_path / "gate"))
    yield gate
    os.close(gate.descriptor)


@pytest.fixture
def native_spawns(loop_class):
    """Skips a test that fails because of asyncio's own code, if the loop runs that. (When called: a fixture that skips
    keeps the loop until after the check for leaks.)
    """

    def native_spawns():
        if (getattr(loop_class._make_subprocess_transport, "__module__", None) or "").startswith("asyncio."):
            pytest.skip("asyncio does otherwise")

    return native_spawns


@pytest.fixture
def spawns():
    """How often a test that spawns many does so, per thread or task."""
    return int(os.environ.get("CLOOP_SPAWNS", 5))
