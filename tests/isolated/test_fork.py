"""After a fork the child sees no running loop and can run one of its own."""

import sys

import pytest

pytestmark = pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="needs fork")

START = """
import os, signal, sys, traceback

def in_child(function):
    pid = os.fork()
    if pid == 0:
        try:
            function()
            code = 0
        except BaseException:
            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0

async def answer():
    await asyncio.sleep(0.001)
    return 42

def fresh():
    loop = new_loop()
    assert loop.run_until_complete(answer()) == 42
    loop.close()
"""


def test_child_forked_outside_a_loop_runs_a_fresh_one(script):
    script(START + "fresh(); in_child(fresh); fresh()")


def test_child_forked_by_a_callback_sees_no_running_loop(script):
    script(
        START
        + """
def check():
    assert asyncio._get_running_loop() is None
    fresh()

loop = new_loop()
loop.call_soon(in_child, check)
loop.call_soon(loop.stop)
loop.run_forever()
assert loop.run_until_complete(answer()) == 42
loop.close()
"""
    )


def test_parent_goes_on_after_a_child_closed_its_copy(script):
    script(
        START
        + """
loop = new_loop()
r, w = os.pipe()
seen = []
loop.add_reader(r, lambda: (seen.append(os.read(r, 1)), loop.stop()))
loop.call_soon(loop.stop)
loop.run_forever()
in_child(lambda: loop.close())
os.write(w, b"x")
loop.run_forever()
assert seen == [b"x"]
assert loop.remove_reader(r)
loop.close()
"""
    )


def test_child_and_parent_threads_wake_their_own_loops(script):
    script(
        START
        + """
import threading

def woken():
    loop = new_loop()
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(loop.stop,))
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()
    loop.close()

woken()
in_child(woken)
woken()
""",
        # From 3.12 on fork() warns of threads, also of one that was joined but that the kernel still counts.
        options=["-W", "ignore::DeprecationWarning"],
    )


def test_signal_to_the_child_is_not_delivered_to_the_parent(script):
    script(
        START
        + """
seen = []
loop = new_loop()
loop.add_signal_handler(signal.SIGUSR1, seen.append, 1)

def raise_signal():
    signal.signal(signal.SIGUSR1, lambda *args: None)
    signal.set_wakeup_fd(-1)
    os.kill(os.getpid(), signal.SIGUSR1)

in_child(raise_signal)
for _ in range(3):
    loop.call_soon(loop.stop)
    loop.run_forever()
assert seen == []
loop.close()
"""
    )


@pytest.mark.skipif(sys.version_info < (3, 9), reason="multiprocessing of 3.8 runs it, slowly")
def test_multiprocessing_child_runs_a_loop(script):
    script(
        START
        + """
import multiprocessing
context = multiprocessing.get_context("fork")
process = context.Process(target=fresh)
process.start()
process.join()
assert process.exitcode == 0
"""
    )
