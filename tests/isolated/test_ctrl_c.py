"""Ctrl-C ends an idle loop at once, however the loop is run."""

import asyncio
import os
import signal
import sys
import threading
import time

import pytest

LIMIT = 0.05
TRIES = 3  # another program may delay one try; a loop that waits for its next event fails all of them

START = """
import signal, sys, time

def ready():
    print("ready", flush=True)

async def idle():
    asyncio.get_running_loop().call_soon(ready)
    await asyncio.sleep(30)

def add_handler(loop):
    if "with handler" in sys.argv:
        loop.add_signal_handler(signal.SIGUSR1, print)
    return loop

def made():
    return add_handler(new_loop())

%s

for _ in range(%d):
    try:
        run()
    except KeyboardInterrupt:
        print(time.monotonic(), flush=True)
"""

WAYS = {
    "run": """
if sys.version_info >= (3, 12):
    run = lambda: asyncio.run(idle(), loop_factory=made)
else:
    class Policy(asyncio.DefaultEventLoopPolicy):
        _loop_factory = staticmethod(made)
    asyncio.set_event_loop_policy(Policy())
    run = lambda: asyncio.run(idle())
""",
    "Runner": """
def run():
    with asyncio.Runner(loop_factory=made) as runner:
        runner.run(idle())
""",
    "run_forever": """
def run():
    loop = made()
    loop.call_soon(ready)
    try:
        loop.run_forever()
    finally:
        loop.close()
""",
    "run_forever with a far timer": """
def run():
    loop = made()
    loop.call_later(1000, print)
    loop.call_soon(ready)
    try:
        loop.run_forever()
    finally:
        loop.close()
""",
    "run_until_complete": """
def run():
    loop = made()
    task = loop.create_task(idle())
    try:
        loop.run_until_complete(task)
    finally:
        task.cancel()
        loop.call_soon(loop.stop)
        loop.run_forever()
        loop.close()
""",
    "same loop again": """
loop = made()
def run():
    loop.call_soon(ready)
    loop.run_forever()
""",
}


def wait_until_asleep(process):
    """Returns when the process waits for something."""
    state = None
    while state != "S":
        with open("/proc/%d/stat" % process.pid) as file:
            state = file.read().rpartition(")")[2].split()[0]
        time.sleep(0.001)


@pytest.mark.parametrize("handler", ["", "with handler"])
@pytest.mark.parametrize("way", list(WAYS))
def test_interrupts_an_idle_loop(script, way, handler):
    if way == "Runner" and not hasattr(asyncio, "Runner"):
        pytest.skip("Runner came in Python 3.11")
    process = script(START % (WAYS[way], TRIES), handler, popen=True, options=("-W", "ignore"))
    watchdog = threading.Timer(20, process.kill)
    watchdog.start()
    latencies = []
    try:
        for _ in range(TRIES):
            assert process.stdout.readline() == "ready\n", process.communicate()[1]
            wait_until_asleep(process)
            sent = time.monotonic()
            os.kill(process.pid, signal.SIGINT)
            latencies.append(float(process.stdout.readline()) - sent)
    finally:
        watchdog.cancel()
        process.kill()
        process.communicate()
    assert min(latencies) < LIMIT


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.run cancels the main task since Python 3.11")
def test_run_cancels_the_main_task(script):
    printed = script(
        """
        import os, signal

        async def main():
            loop = asyncio.get_running_loop()
            loop.call_soon(os.kill, os.getpid(), signal.SIGINT)
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                print("cancelled")
                raise

        try:
            with asyncio.Runner(loop_factory=new_loop) as runner:
                runner.run(main())
        except KeyboardInterrupt:
            print("interrupted", signal.getsignal(signal.SIGINT) is signal.default_int_handler)
        """
    )
    assert printed == "cancelled\ninterrupted True\n"


def test_own_handler_for_interrupts(script):
    printed = script(
        """
        import os, signal

        loop = new_loop()
        loop.add_signal_handler(signal.SIGINT, lambda: (print("handled"), loop.stop()))
        loop.call_soon(os.kill, os.getpid(), signal.SIGINT)
        loop.run_forever()
        loop.close()
        """
    )
    assert printed == "handled\n"


def test_busy_loop_is_interrupted(script):
    process = script(
        """
        loop = new_loop()
        def chain():
            loop.call_soon(chain)
        try:
            loop.call_soon(lambda: print("ready", flush=True))
            loop.run_forever()
        except KeyboardInterrupt:
            print("interrupted")
        loop.close()
        """,
        popen=True,
    )
    assert process.stdout.readline() == "ready\n"
    os.kill(process.pid, signal.SIGINT)
    assert process.communicate(timeout=20) == ("interrupted\n", "")
