"""Hostile programs: they close and cancel during calls, from destructors and other threads, and set attributes to
nonsense. Nothing may crash, hang or leak.
"""

import ctypes
import gc
import os
import resource
import signal
import socket
import sys
import sysconfig
import threading
import types
import weakref

import pytest


def run_briefly(loop):
    loop.call_soon(loop.stop)
    loop.run_forever()


@pytest.fixture
def collecting():
    """Calls a function at each garbage collection, and collects at each allocation."""
    installed = []
    threshold = gc.get_threshold()

    def collecting(function):
        installed.append(lambda phase, info: function())
        gc.callbacks.append(installed[-1])
        gc.set_threshold(1)

    yield collecting
    gc.set_threshold(*threshold)
    for callback in installed:
        gc.callbacks.remove(callback)


# Closed during a call


def test_closed_by_another_thread_while_scheduling(new_loop):
    loop = new_loop()
    loop.set_debug(True)  # making a handle runs Python code, and threads switch there
    started = threading.Event()

    def close():
        started.wait(10)
        loop.close()

    thread = threading.Thread(target=close)
    thread.start()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        while True:
            loop.call_soon(int)
            loop.call_later(100, int)
            started.set()
    thread.join()


def test_close_within_an_overridden_run_once(cloop, new_loop):
    loop = new_loop(cloop.Loop)

    def turn():
        del loop._run_once
        loop._thread_id = None
        loop.close()

    loop._run_once = turn
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.run_forever()


def test_a_turn_in_a_second_thread_is_refused(cloop, new_loop):
    loop = new_loop(cloop.Loop)
    errors = []

    def second():
        try:
            loop._run_once()
        except RuntimeError as error:
            errors.append(str(error))

    def first():
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()

    loop.call_soon(first)
    run_briefly(loop)
    if sysconfig.get_config_var("Py_GIL_DISABLED"):  # no other thread gets that far
        assert errors == ["Non-thread-safe operation invoked on an event loop other than the current one"]
    else:
        assert errors == ["This event loop is already running"]


# Destructors and collections in action


def test_destructor_of_a_cancelled_reader_removes_the_writer(cloop, new_loop):
    loop = new_loop(cloop.Loop)
    calls = []
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(b"x")
        fd = ours.fileno()
        reader = loop._add_reader(fd, calls.append, "reader")
        loop.add_writer(fd, calls.append, "writer")
        reader.cancel()

        def at_the_end_of_the_reader(_):
            loop.remove_writer(fd)
            loop.call_soon(calls.append, "once")

        reference = weakref.ref(reader, at_the_end_of_the_reader)
        del reader
        loop.call_later(0.01, loop.stop)
        loop.run_forever()
        assert reference() is None
        assert calls.count("once") == 1
        assert "reader" not in calls


def test_handle_cancelled_by_a_collection_while_its_arguments_are_read(loop, collecting):
    handle = loop.call_soon(print, 1, 2, 3)
    collecting(handle.cancel)
    assert handle._args in (None, (1, 2, 3))


class Node:
    pass


def kept_from_ready(loop, node):
    loop.call_soon(lambda: loop.call_soon(int, node))
    loop.call_soon(lambda: setattr(node, "ready", list(loop._ready)))
    run_briefly(loop)
    run_briefly(loop)


def kept_by_exception_handler(loop, node):
    loop.set_exception_handler(lambda loop, context: setattr(node, "handle", context["handle"]))
    loop.call_soon(lambda: loop.call_soon(lambda node: 1 / 0, node))
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    loop.set_exception_handler(None)


def kept_by_another_thread(loop, node):
    asleep = threading.Event()

    def post():
        asleep.wait(10)
        node.handle = loop.call_soon_threadsafe(id, node)
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=post)
    thread.start()
    loop.call_soon(asleep.set)
    loop.run_forever()
    thread.join()


def kept_by_a_nested_turn(loop, node):
    def outer():
        node.handle = loop.call_soon(id, node)
        loop._run_once()

    loop.call_soon(outer)
    run_briefly(loop)


def kept_by_its_own_deadline(loop, node):
    class Deadline(float):
        pass

    deadline = Deadline(loop.time() + 1000)
    deadline.node = node
    node.handle = loop.call_at(deadline, print)
    node.handle.cancel()


@pytest.mark.parametrize(
    "keep",
    [
        kept_from_ready,
        kept_by_exception_handler,
        kept_by_another_thread,
        kept_by_a_nested_turn,
        kept_by_its_own_deadline,
    ],
)
def test_cycle_through_a_handle_is_collected(cloop, new_loop, keep):
    loop = new_loop(cloop.Loop)
    node = Node()
    reference = weakref.ref(node)
    keep(loop, node)
    del node
    gc.collect()
    assert reference() is None


# Nonsense


@pytest.mark.parametrize("number", [10**8, 2**30, 2**31 - 1])
def test_huge_descriptor_is_refused_at_once(loop, number):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(OSError):
        loop.add_reader(number, print)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 64 * 1024  # KiB


@pytest.mark.parametrize("transports", [None, 3, types.SimpleNamespace(data=3)], ids=repr)
def test_transports_attribute_of_a_wrong_type(cloop, new_loop, transports):
    loop = new_loop(cloop.Loop)
    loop._transports = transports
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises((TypeError, AttributeError)):
        loop.add_reader(ours, print)


def test_resetting_the_closed_flag_does_not_reopen_the_loop(cloop, new_loop):
    loop = new_loop(cloop.Loop)
    loop.close()
    loop._closed = False
    for attempt in (lambda: loop.call_soon(int), lambda: loop.call_later(1, int), loop._run_once):
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            attempt()
    loop._closed = True


# Signals


def raise_without_python(number):
    """So that the Python handler has not run yet when this returns to the loop."""
    return ctypes.CDLL(None)["raise"], number


def test_timer_made_by_a_handler_just_before_the_first_sleep(loop):
    before = signal.signal(signal.SIGUSR1, lambda *_: loop.call_later(0.001, loop.stop))
    try:
        loop.call_soon(*raise_without_python(signal.SIGUSR1))
        loop.run_forever()
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("number", ["free", "taken"])
def test_foreign_wakeup_descriptor_that_was_closed(cloop, new_loop, number):
    if sys.version_info >= (3, 13):
        pytest.skip("the C function that sets it does not look whether it is open")
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    assert signal.set_wakeup_fd(writer) == -1
    if number == "free":
        loop = new_loop(cloop.Loop)
    os.close(writer)
    os.close(reader)
    if number == "taken":
        loop = new_loop(cloop.Loop)
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    loop.close()
    assert signal.set_wakeup_fd(-1) == -1


def test_closed_outside_the_main_thread_with_signal_handlers(cloop, script):
    script(
        """
import signal, threading, warnings, os, cloop
loop = cloop.Loop()
loop.add_signal_handler(signal.SIGUSR1, print)
seen = []
def close():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loop.close()
    seen.extend(str(w.message) for w in caught)
thread = threading.Thread(target=close)
thread.start()
thread.join()
assert loop.is_closed()
assert "outside the main thread" in seen[0], seen
# The signal must not reach a descriptor that is somebody else's by now.
pipes = [os.pipe() for _ in range(8)]
os.kill(os.getpid(), signal.SIGUSR1)
for reader, _ in pipes:
    os.set_blocking(reader, False)
    try:
        assert not os.read(reader, 10)
    except BlockingIOError:
        pass
"""
    )


# Like asyncio's own code


def test_exception_handler_is_called_while_the_exception_is_handled(loop):
    seen = []
    loop.set_exception_handler(lambda loop, context: seen.append(sys.exc_info()[0]))
    loop.call_soon(lambda: 1 / 0)
    run_briefly(loop)
    assert seen == [ZeroDivisionError]
    assert sys.exc_info()[0] is None


def test_debug_switched_by_any_truth_value_while_running(loop):
    depth = sys.get_coroutine_origin_tracking_depth()
    loop.call_soon(loop.set_debug, 1)
    loop.call_soon(loop.call_soon, loop.stop)
    loop.run_forever()
    assert sys.get_coroutine_origin_tracking_depth() == depth
    loop.set_debug(False)


def test_arguments_by_keyword(loop):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        loop.add_reader(fd=ours, callback=print)
        loop.add_writer(fd=ours, callback=print)
        assert loop.remove_reader(fd=ours) is True
        assert loop.remove_writer(fd=ours) is True
    future = loop.create_future()
    loop.call_soon(callback=lambda: future.set_result(3))
    assert loop.run_until_complete(future=future) == 3
    with pytest.raises(TypeError, match="context"):
        loop.add_reader(0, print, context=None)
