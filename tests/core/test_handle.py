"""Handle and TimerHandle: cancelling, references, reprs."""

import asyncio
import contextvars
import copy
import functools
import os
import pickle
import signal
import sys
import threading
import weakref

import pytest

FAR = 1e9  # a deadline that never comes, and looks the same in every repr


class Argument:
    """An argument whose release can be observed."""

    def method(self):
        pass

    def __repr__(self):
        return "<Argument>"


def function(*args, **kwargs):
    pass


def schedule(loop, method, *args):
    """Calls one of the four scheduling methods, with a far deadline if it takes one."""
    if method == "call_later":
        return loop.call_later(1000, *args)
    if method == "call_at":
        return loop.call_at(FAR, *args)
    return getattr(loop, method)(*args)


every_method = pytest.mark.parametrize("method", ["call_soon", "call_soon_threadsafe", "call_later", "call_at"])
TIMER_METHODS = ("call_later", "call_at")


# Types


@every_method
def test_isinstance(loop, method):
    handle = schedule(loop, method, function)
    assert isinstance(handle, asyncio.Handle)
    assert isinstance(handle, asyncio.TimerHandle) == (method in TIMER_METHODS)


@every_method
def test_weak_references(loop, method):
    handle = schedule(loop, method, function)
    assert weakref.ref(handle)() is handle


# cancel


@every_method
def test_cancelled_callback_does_not_run(loop, turn, method):
    seen = []
    handle = schedule(loop, method, seen.append, 1)
    assert not handle.cancelled()
    handle.cancel()
    handle.cancel()
    assert handle.cancelled()
    turn()
    turn()
    assert seen == []


@every_method
@pytest.mark.parametrize("count", [1, 2, 8])
def test_cancel_drops_the_arguments_at_once(loop, method, count):
    argument = Argument()
    watch = weakref.ref(argument)
    handle = schedule(loop, method, function, *[argument] * count)
    del argument
    assert watch() is not None
    handle.cancel()
    assert watch() is None


@every_method
def test_cancel_drops_the_callback_at_once(loop, method):
    argument = Argument()
    watch = weakref.ref(argument)
    handle = schedule(loop, method, argument.method)
    del argument
    handle.cancel()
    assert watch() is None


def test_handle_cancelled_earlier_in_the_same_turn_is_skipped(loop, turn):
    seen = []
    handles = []
    loop.call_soon(lambda: [handle.cancel() for handle in handles[::2]])
    handles.extend(loop.call_soon(seen.append, number) for number in range(6))
    turn()
    assert seen == [1, 3, 5]


def test_callback_may_cancel_its_own_handle(loop, turn):
    seen = []
    handle = loop.call_soon(lambda: (handle.cancel(), seen.append(handle.cancelled())))
    turn()
    assert seen == [True]


def test_cancel_after_the_callback_ran(as_asyncio):
    def body(loop):
        handle = loop.call_soon(function)
        loop.call_soon(loop.stop)
        loop.run_forever()
        before = handle.cancelled()
        handle.cancel()
        return before, handle.cancelled()

    as_asyncio(body)


@pytest.mark.parametrize("method", ["call_soon", "call_later"])
def test_cancel_in_debug_mode_whose_repr_fails(loop, method):
    class Callback:
        def __call__(self):
            raise AssertionError

        def __repr__(self):
            raise ZeroDivisionError

    loop.set_debug(True)
    handle = schedule(loop, method, Callback())
    with pytest.raises(ZeroDivisionError):
        handle.cancel()
    assert handle.cancelled()


def test_destructor_that_cancels_the_handle_while_it_is_cancelled(loop, turn):
    class Hostile:
        def __del__(self):
            handle.cancel()
            loop.call_soon(seen.append, handle.cancelled())

    seen = []
    handle = loop.call_soon(function, Hostile())
    handle.cancel()
    turn()
    assert seen == [True]


@pytest.mark.skipif(not hasattr(asyncio.events, "_ThreadSafeHandle"), reason="cancel() does not wait in this asyncio")
def test_who_waits_for_a_callback_in_another_thread_may_be_interrupted(loop):
    begun, released, ended = threading.Event(), threading.Event(), threading.Event()

    def callback():
        begun.set()
        released.wait(5)
        ended.set()

    handle = loop.call_soon_threadsafe(callback)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        begun.wait()
        with pytest.raises(KeyboardInterrupt):
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
            handle.cancel()
        assert not ended.is_set()
    finally:
        released.set()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def test_a_dropped_handle_still_runs(loop, turn):
    seen = []
    loop.call_soon(seen.append, 1)
    loop.call_at(loop.time() - 1, seen.append, 2)
    turn()
    assert seen == [1, 2]


@pytest.mark.slow
@pytest.mark.parametrize("link", ["handle", "partial(handle.cancel)"])
@pytest.mark.parametrize("method", ["call_soon", "call_later"])
def test_a_long_chain_of_handles_is_freed(script, method, link):
    """Each has the one before as an argument, so that freeing the last one frees all."""
    printed = script(
        """
        import sys
        from functools import partial

        loop, handle = new_loop(), None
        schedule = {"call_soon": loop.call_soon, "call_later": partial(loop.call_later, 1000)}[sys.argv[1]]
        link = eval("lambda handle: " + sys.argv[2])
        for _ in range(400000):
            handle = schedule(print, None if handle is None else link(handle))
        loop.close()
        del handle
        print("freed")
        """,
        method,
        link,
    )
    assert printed == "freed\n"


def test_handle_outlives_its_loop(new_loop, loop_class):
    loop = new_loop()
    handles = [loop.call_soon(function, 1), loop.call_later(1000, function, 2)]
    loop.close()
    del loop
    for handle in handles:
        assert repr(handle)
        handle.cancel()


# repr


CALLBACKS = {
    "function": (function,),
    "arguments": (function, 1, "two", None),
    "lambda": (lambda: None,),
    "builtin": (print, "x"),
    "method": (Argument().method,),
    "partial": (functools.partial(function, 1, key=2), 3),
    "wrapped": (functools.wraps(function)(lambda *args: None), 1),
    "class": (Argument,),
    "long": (function, "x" * 500, list(range(100))),
}


@pytest.mark.parametrize("debug", [False, True], ids=["", "debug"])
@pytest.mark.parametrize("callback", list(CALLBACKS))
@pytest.mark.parametrize("method", ["call_soon", "call_at"])
def test_repr(as_asyncio, method, callback, debug):
    def body(loop):
        loop.set_debug(debug)
        handle = schedule(loop, method, *CALLBACKS[callback])
        pending = repr(handle)
        handle.cancel()
        return pending, repr(handle)

    as_asyncio(body)


@pytest.mark.parametrize("debug", [False, True], ids=["", "debug"])
@pytest.mark.parametrize("moment", ["while it runs", "after it ran"])
def test_repr_of_a_handle(as_asyncio, moment, debug):
    def body(loop):
        loop.set_debug(debug)
        seen = []

        def look(argument):
            seen.append(repr(handle))

        handle = loop.call_soon(look, "argument")
        loop.call_soon(loop.stop)
        loop.run_forever()
        return seen if moment == "while it runs" else repr(handle)

    as_asyncio(body)


def test_repr_of_a_callback_that_was_replaced(as_asyncio):
    def body(loop):
        handle = loop.call_later(1000, function)
        handle.cancel()
        return repr(handle).split(" when=")[0], handle.when() > 0

    as_asyncio(body)


# get_context


@pytest.mark.skipif(not hasattr(asyncio.Handle, "get_context"), reason="Handle.get_context came in Python 3.12")
@every_method
def test_get_context(loop, method):
    context = contextvars.copy_context()
    if method in TIMER_METHODS:
        handle = getattr(loop, method)(FAR, function, context=context)
    else:
        handle = getattr(loop, method)(function, context=context)
    assert handle.get_context() is context
    assert isinstance(schedule(loop, method, function).get_context(), contextvars.Context)


# Timer handles


def test_when_is_the_deadline(loop):
    assert loop.call_at(FAR, function).when() == FAR
    before = loop.time()
    assert before + 5 <= loop.call_later(5, function).when() <= loop.time() + 5


def test_when_is_known_after_cancelling_and_running(loop, turn):
    now = loop.time()
    cancelled, run = loop.call_at(FAR, function), loop.call_at(now - 1, function)
    cancelled.cancel()
    turn()
    assert (cancelled.when(), run.when()) == (FAR, now - 1)


def test_hash_is_that_of_the_deadline(as_asyncio):
    assert as_asyncio(lambda loop: hash(loop.call_at(FAR, function)))["result"] == hash(FAR)


@pytest.mark.parametrize("operator", ["__lt__", "__le__", "__gt__", "__ge__", "__eq__", "__ne__"])
def test_comparison(as_asyncio, operator):
    def body(loop):
        first, twin, args, later = (
            loop.call_at(FAR, function),
            loop.call_at(FAR, function),
            loop.call_at(FAR, function, 1),
            loop.call_at(FAR + 1, function),
        )
        cancelled = loop.call_at(FAR, function)
        cancelled.cancel()
        others = [first, twin, args, later, cancelled, loop.call_soon(function), 5, None]

        def compare(other):
            try:
                return getattr(first, operator)(other)
            except AttributeError:  # Python 3.8 takes any object for a timer
                return NotImplemented

        return [compare(other) for other in others]

    as_asyncio(body)


@pytest.mark.parametrize("operator", ["__lt__", "__le__", "__gt__", "__ge__", "__eq__", "__ne__"])
def test_comparison_with_a_timer_of_asyncio(as_asyncio, operator):
    def body(loop):
        ours = loop.call_at(FAR, function)
        theirs = [asyncio.TimerHandle(when, function, (), loop) for when in (FAR - 1, FAR, FAR + 1)]
        return [getattr(ours, operator)(other) for other in theirs]

    as_asyncio(body)


def test_order_with_another_type_is_an_error(loop):
    with pytest.raises((TypeError, AttributeError)):  # the latter on Python 3.8
        loop.call_at(FAR, function) < 5


def test_plain_handles_compare_by_identity(loop):
    first, second = loop.call_soon(function), loop.call_soon(function)
    assert first == first and first != second
    assert len({first, second}) == 2


def test_sorted_by_deadline(loop):
    handles = [loop.call_at(FAR + offset, function) for offset in (3, 1, 2)]
    assert [handle.when() - FAR for handle in sorted(handles)] == [1, 2, 3]


# Copies


SLOTS = ("_callback", "_args", "_cancelled", "_context", "_loop", "_source_traceback", "_repr")


@pytest.mark.parametrize("debug", [False, True], ids=["", "debug"])
@pytest.mark.parametrize("state", ["pending", "cancelled", "ran"])
@every_method
def test_copy(as_asyncio, method, state, debug):
    def body(loop):
        loop.set_debug(debug)
        seen = []
        handle = schedule(loop, method, seen.append, 1)
        if state == "cancelled":
            handle.cancel()
        elif state == "ran":
            handle._run()
        copied = copy.copy(handle)
        names = SLOTS + ("_when", "_scheduled") * (method in TIMER_METHODS)
        told = [getattr(copied, name) == getattr(handle, name) for name in names]
        told += [copied is handle, copied.__class__ is handle.__class__, repr(copied) == repr(handle)]
        if state != "cancelled":
            copied._run()
        copied.cancel()
        told += [handle.cancelled(), copied.cancelled(), seen]
        handle.cancel()
        return told

    as_asyncio(body)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # half a copy of asyncio's loop
@pytest.mark.parametrize("method", ["call_soon", "call_later"])
def test_deep_copies_and_pickles(loop, method):
    handle = schedule(loop, method, print)
    with pytest.raises(TypeError, match="cannot pickle"):
        copy.deepcopy(handle)
    with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
        pickle.dumps(handle)


# Other contexts than those of contextvars: asyncio calls their run()


class Running:
    def __init__(self):
        self.ran = []

    def run(self, function, *args):
        self.ran.append(args)
        return function(*args)


@pytest.mark.parametrize("args", [(), (1,), tuple(range(20))], ids=len)
def test_a_context_is_what_has_run(loop, turn, args):
    context, got = Running(), []
    loop.call_soon(lambda *args: got.append(args), *args, context=context)
    turn()
    assert got == [args] and context.ran == [args]


def test_a_context_without_run(loop, turn, reports):
    loop.call_soon(function, context=object())
    turn()
    (report,) = reports
    assert isinstance(report["exception"], AttributeError)


def test_a_context_whose_run_fails(loop, turn, reports):
    class Fails:
        def run(self, called, *args):
            if called is function:
                raise KeyError(args)
            return called(*args)  # from Python 3.12 on it also runs the exception handler

    loop.call_soon(function, 1, context=Fails())
    turn()
    (report,) = reports
    assert report["exception"].args == ((1,),)


@pytest.mark.parametrize("error", [LookupError, KeyboardInterrupt])
def test_a_failed_callback_that_cannot_be_shown(loop, turn, error):
    """The exception of its repr() leaves the loop, with that of the callback, which is being handled, as its context."""
    handled = []

    class Callback:
        def __call__(self):
            raise ZeroDivisionError

        def __repr__(self):
            handled.append(sys.exc_info()[0])
            raise error

    loop.call_soon(Callback())
    with pytest.raises(error) as caught:
        turn()
    assert type(caught.value.__context__) is ZeroDivisionError
    assert handled == [ZeroDivisionError]
    turn()
