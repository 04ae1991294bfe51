"""Loops that nobody closed, and loops within reference cycles."""

import pytest

START = """
import gc, os, socket, sys, warnings, weakref

def descriptors():
    return len(os.listdir("/proc/self/fd"))

class Argument:
    pass

def fill(loop):
    "Gives the loop something of each kind to hold, all of which refers back to it."
    argument = Argument()
    argument.loop = loop
    loop.kept = [loop.call_soon(print, argument), loop.call_later(1000, print, argument),
                 loop.call_soon_threadsafe(print, argument), loop.call_soon(lambda: loop)]
    loop.call_soon(lambda argument=argument: loop)
    loop.call_at(1e9, lambda: argument)
    loop.create_future().add_done_callback(lambda future: argument)
    return weakref.ref(argument)

warnings.simplefilter("always")
gc.collect()
"""


def test_unclosed_loop_is_warned_of_once_and_closed(script):
    printed = script(
        START
        + """
new_loop().close()
before = descriptors()
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    loop = new_loop()
    name = repr(loop)
    del loop
    gc.collect()
loops = [w for w in caught if "event loop" in str(w.message)]
print(len(loops), loops[0].category.__name__, str(loops[0].message) == "unclosed event loop " + name)
print(descriptors() == before)
"""
    )
    assert printed == "1 ResourceWarning True\nTrue\n"


def test_closed_loop_is_not_warned_of(script):
    script(START + "loop = new_loop(); fill(loop); loop.close(); del loop; gc.collect()")


@pytest.mark.parametrize("close", [True, False], ids=["closed", "unclosed"])
@pytest.mark.parametrize("run", ["before", "after", "never"])
def test_pending_work_that_refers_to_the_loop_is_collected(script, close, run):
    printed = script(
        START
        + """
warnings.simplefilter("ignore")
loop = new_loop()
run = %r
if run == "before":
    loop.call_soon(loop.stop)
    loop.run_forever()
argument, watch = fill(loop), weakref.ref(loop)
if run == "after":
    sys.stdout = open(os.devnull, "w")
    loop.call_soon(loop.stop)
    loop.run_forever()
    sys.stdout = sys.__stdout__
if %r:
    loop.close()
del loop
gc.collect()
print(watch(), argument())
"""
        % (run, close)
    )
    assert printed == "None None\n"


def test_watchers_signal_handlers_and_hooks_that_refer_to_the_loop_are_collected(script):
    printed = script(
        START
        + """
import signal
warnings.simplefilter("ignore")
first, second = socket.socketpair()
loop = new_loop()
watch = weakref.ref(loop)
loop.add_reader(first, lambda loop=loop: loop)
loop.add_writer(first, lambda loop=loop: loop)
loop.set_exception_handler(lambda *args, loop=loop: loop)
loop.set_task_factory(lambda *args, loop=loop, **options: loop)
loop.itself = loop
loop.close()
del loop
gc.collect()
print(watch())
first.close(); second.close()
"""
    )
    assert printed == "None\n"


def test_handles_that_outlive_an_uncollected_loop_are_harmless(script):
    printed = script(
        START
        + """
warnings.simplefilter("ignore")
loop = new_loop()
kept = [loop.call_soon(print, 1), loop.call_later(1000, print, 2), loop.call_soon_threadsafe(print, 3)]
del loop
gc.collect()
for handle in kept:
    repr(handle)
    handle.cancel()
    print(handle.cancelled())
"""
    )
    assert printed == "True\nTrue\nTrue\n"


def test_collection_in_the_middle_of_a_turn(script):
    printed = script(
        START
        + """
loop = new_loop()
seen = []
for number in range(100):
    loop.call_soon(lambda number=number: (gc.collect(), seen.append(number)) if number % 10 == 0 else seen.append(number))
    loop.call_at(loop.time() - 1 + number / 1e6, lambda number=number: (seen.append(number), gc.collect(0)))
loop.call_soon(loop.stop)
loop.run_forever()
print(seen == list(range(100)) * 2)
loop.close()
"""
    )
    assert printed == "True\n"


def test_running_loop_whose_last_reference_goes(script):
    printed = script(
        START
        + """
def run():
    loop = new_loop()
    loop.call_soon(loop.call_later, 0.001, loop.stop)
    run_forever, close = loop.run_forever, loop.close
    del loop
    gc.collect()
    run_forever()
    close()

run()
print("end")
"""
    )
    assert printed == "end\n"
