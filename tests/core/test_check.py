"""Builds for finding faults find them: an assertion that does not hold ends the process and says what is wrong."""

import importlib
import signal

import pytest


def checks():
    """Whether the build has assertions."""
    try:
        return hasattr(importlib.import_module("cloop._cloop"), "_check")
    except ImportError:
        return False


pytestmark = pytest.mark.skipif(not checks(), reason="needs a build with assertions: make debug, asan or stress")

SCRIPT = """
import asyncio, faulthandler, resource, socket, sys
import cloop
from cloop import _cloop

faulthandler.disable()
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
what = sys.argv[1]
loop = cloop.new_event_loop()
loop.slow_callback_duration = 100
timers = [loop.call_later(1000 + n, print) for n in range(3)]
spare = [loop.call_soon(int) for n in range(3)]
del spare
lent = socket.socketpair()
loop.add_reader(lent[0], print)
"""

LOOP = """
loop.call_soon(loop.stop)
loop.run_forever()
_cloop._check(loop)
_cloop._damage(loop, what)
print("damaged", flush=True)
_cloop._check(loop)
print("found nothing", flush=True)
"""

STREAM = """
ours, theirs = socket.socketpair()
ours.setblocking(False)


async def main():
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
    transport.set_write_buffer_limits(high=2 ** 30)
    if what != "paused":
        transport.write(b"x" * 5_000_000)
        assert transport.get_write_buffer_size() > 0
    _cloop._check(loop)
    _cloop._damage(transport, what)
    print("damaged", flush=True)
    _cloop._check(loop)
    print("found nothing", flush=True)


loop.run_until_complete(main())
"""


def pollers():
    """Those of this build that can be asked what they know."""
    try:
        known = importlib.import_module("cloop._cloop").build_info()["pollers"]
    except ImportError:
        return []
    return [name for name in known if name != "kqueue"]


@pytest.fixture(params=pollers())
def process(request, cloop, monkeypatch, python, write_script):
    """Runs a script with an argument on a loop with each poller: its status, output and what it said."""
    monkeypatch.setenv("CLOOP_POLLER", request.param)

    def process(text, what):
        done = python(write_script(SCRIPT + text), what)
        return done.returncode, done.stdout, done.stderr

    return process


@pytest.fixture
def dies_of(process):
    """The same for one that must end by abort() after it did damage; returns what it said."""

    def dies_of(text, what):
        status, out, err = process(text, what)
        assert (status, out.split()) == (-signal.SIGABRT, ["damaged"]), err
        assert "cloop's assertion failed: " in err
        return err

    return dies_of


@pytest.mark.parametrize(
    "what, said",
    [
        ("ring", "csrc/base/ring.c:"),
        ("node", "list object at 0x"),
        ("heap", "is before"),
        ("slot", "its node says 1"),
        ("inbox", "csrc/core/inbox.c:"),
        ("count", "csrc/core/watch.c:"),
        ("generation", ": generation "),
        ("interest", "1 is wanted, 2 is known"),
        ("kernel", ": the kernel knows 2, the watch says 1"),
        ("lent", ": 2 is wanted, for 1"),
        ("sockets", "csrc/core/signals.c:"),
        ("fork", "2, without a fork"),
        ("spares", "csrc/core/handle.c:"),
        ("loops", "loop->l_open_link == link"),
    ],
)
def test_damage_to_a_loop_is_found(dies_of, what, said):
    assert said in dies_of(LOOP, what)


@pytest.mark.parametrize(
    "what, said",
    [
        ("paused", "!paused || waits > 0"),
        ("limits", "_limits.low <= "),
        ("size", "said to be left"),
        ("unwatched", "_watch.w_want & "),
    ],
)
def test_damage_to_a_transport_is_found(dies_of, what, said):
    assert said in dies_of(STREAM, what)


def test_undamaged_loop_passes(process):
    assert process(LOOP.replace("_cloop._damage(loop, what)", ""), "") == (0, "damaged\nfound nothing\n", "")
