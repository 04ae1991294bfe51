"""The interpreter ends while loops are alive."""

import pytest

THREAD = """
import threading
started = threading.Event()
loop = new_loop()

def run():
    loop.call_soon(started.set)
    %s
    loop.run_forever()

threading.Thread(target=run, daemon=True).start()
assert started.wait(10)
"""


@pytest.mark.parametrize(
    "busy",
    [
        "pass",
        "loop.call_later(1000, print)",
        "tick = lambda: loop.call_later(0.0001, tick); tick()",
        "chain = lambda: loop.call_soon(chain); chain()",
    ],
    ids=["idle", "timer", "ticking", "busy"],
)
def test_with_a_loop_running_in_a_daemon_thread(script, busy):
    assert script(THREAD % busy + "print('end')") == "end\n"


def test_with_a_loop_in_a_daemon_thread_that_others_send_to(script):
    text = (
        THREAD % "pass"
        + """
def send():
    while True:
        loop.call_soon_threadsafe(int)

for _ in range(2):
    threading.Thread(target=send, daemon=True).start()
print("end")
"""
    )
    assert script(text) == "end\n"


@pytest.mark.parametrize(
    "place",
    ["loop = None", "import sys; sys.loop = loop", "loop.itself = loop", "import builtins; builtins.loop = loop"],
)
def test_with_an_unclosed_loop(script, place):
    text = (
        "import os\nloop = new_loop(); loop.call_later(1000, print); loop.call_soon(print)\n" + place + "\nprint('end')"
    )
    assert script(text, options=("-W", "ignore")) == "end\n"


def test_with_the_policys_loop(python):
    """It is closed late, when modules have been emptied."""
    text = "import asyncio, cloop\nasyncio.set_event_loop(cloop.new_event_loop())\nprint('end')"
    done = python("-W", "ignore", "-c", text)
    assert (done.stdout, done.stderr, done.returncode) == ("end\n", "", 0)


def test_with_a_closed_loop_that_is_still_referenced(script):
    assert (
        script(
            "import sys\nsys.loop = new_loop(); sys.handle = sys.loop.call_later(9, print); sys.loop.close(); print('end')"
        )
        == "end\n"
    )


def test_loop_run_by_an_exit_function(script):
    text = """
import atexit

async def answer():
    await asyncio.sleep(0.001)
    print("ran")

def run():
    loop = new_loop()
    loop.run_until_complete(answer())
    loop.close()

atexit.register(run)
"""
    assert script(text) == "ran\n"


def test_exit_from_a_callback(script):
    text = """
import sys
loop = new_loop()
loop.call_soon(sys.exit, 0)
loop.call_soon(print, "not reached")
try:
    loop.run_forever()
finally:
    loop.close()
"""
    assert script(text) == ""


def test_destructor_that_uses_the_loop_at_exit(script):
    text = """
import sys

class Late:
    def __del__(self):
        try:
            self.loop.call_soon(int)
        except RuntimeError:
            pass
        print("late")

late = Late()
late.loop = loop = new_loop()
loop.late = late
loop.close()
"""
    assert script(text) == "late\n"
