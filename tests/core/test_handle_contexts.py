"""The context that a callback runs in: a copy, its own, of the one in which it was scheduled; or one that is passed."""

import contextvars
import gc
import threading
import weakref

import pytest

VAR = contextvars.ContextVar("VAR", default="unset")
KINDS = ["call_soon", "call_soon_threadsafe", "call_later"]


def schedule(loop, kind, callback, *args, **context):
    if kind == "call_later":
        return loop.call_later(0, callback, *args, **context)
    return getattr(loop, kind)(callback, *args, **context)


def run(loop):
    """A few turns, and what is due within a millisecond."""
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    for _ in range(8):  # on a busy machine that was in the midst of it
        loop.call_soon(loop.stop)
        loop.run_forever()


# Copies. Handles of cloop share one while nobody can tell.


@pytest.mark.parametrize("kind", KINDS)
def test_what_one_callback_sets_no_other_sees(loop, kind):
    seen = []

    def callback(number):
        seen.append((number, VAR.get()))
        VAR.set(number)
        seen.append((number, VAR.get()))

    for number in range(5):
        schedule(loop, kind, callback, number)
    run(loop)
    assert seen == [(number, value) for number in range(5) for value in ("unset", number)]
    assert VAR.get() == "unset"


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_set_after_a_callback_was_scheduled_it_does_not_see(loop, kind):
    def schedule_all():
        for number in range(6):
            if number % 3 == 0:
                VAR.set(number)
            schedule(loop, kind, lambda: seen.append(VAR.get()))

    seen = []
    contextvars.Context().run(schedule_all)
    schedule(loop, kind, lambda: seen.append(VAR.get()))
    run(loop)
    assert seen == [0, 0, 0, 3, 3, 3, "unset"]


@pytest.mark.parametrize("kind", KINDS)
def test_each_handle_has_a_context_of_its_own(loop, kind):
    seen = []
    handles = [schedule(loop, kind, lambda: seen.append(VAR.get())) for _ in range(4)]
    contexts = [handle._context for handle in handles[1:3]]
    assert len({id(context) for context in contexts}) == 2
    assert all(type(context) is contextvars.Context for context in contexts)
    contexts[0].run(VAR.set, "set")
    assert handles[1]._context is contexts[0]
    run(loop)
    assert seen == ["unset", "set", "unset", "unset"]
    assert handles[0]._context is not handles[3]._context


def test_callbacks_of_another_thread(loop):
    seen = []

    def elsewhere():
        VAR.set("elsewhere")
        for _ in range(3):
            loop.call_soon_threadsafe(lambda: seen.append(VAR.get()))

    loop.call_soon(lambda: seen.append(VAR.get()))
    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    loop.call_soon(lambda: seen.append(VAR.get()))
    run(loop)
    assert seen == ["unset"] + ["elsewhere"] * 3 + ["unset"]


@pytest.mark.parametrize("end", ["run", "cancel", "close"])
@pytest.mark.parametrize("kind", KINDS)
def test_values_live_no_longer_than_the_callbacks(loop, kind, end):
    class Value:
        pass

    def schedule_all():
        value = Value()
        VAR.set(value)
        handles = [schedule(loop, kind, sorted, ()) for _ in range(4)]
        return handles, weakref.ref(value)

    handles, value = contextvars.Context().run(schedule_all)
    gc.collect()
    assert value() is not None
    while handles:
        handle = handles.pop()
        if end == "cancel":
            handle.cancel()
    del handle
    if end == "close":
        loop.close()
    else:
        run(loop)
    gc.collect()
    assert value() is None


def test_a_running_callback_may_set_and_schedule(loop):
    seen = []

    def callback(depth):
        seen.append(VAR.get())
        if depth:
            loop.call_soon(callback, 0)
            VAR.set(depth)
            loop.call_soon(callback, depth - 1)
            loop.call_soon(callback, 0)

    loop.call_soon(callback, 2)
    loop.call_soon(callback, 0)
    run(loop)
    assert seen == ["unset", "unset", "unset", 2, 2, 2, 1, 1]


def test_the_collector_finds_cycles_through_shared_contexts(cloop):
    class Value:
        pass

    def make():
        loop = cloop.Loop()
        value = Value()
        value.loop = loop
        VAR.set(value)
        for _ in range(3):
            loop.call_soon(sorted, ())
            loop.call_later(1000, sorted, ())
        return weakref.ref(value)

    value = contextvars.Context().run(make)
    gc.collect()
    assert value() is None


def test_a_collection_while_a_context_is_copied(loop):
    """Up to 3.11 an allocation may collect garbage. What that runs takes the shared context from the handle whose context is
    being copied, changes it, and drops the other handle: nobody else had the variables that were to be copied.
    """

    class Garbage:
        def __init__(self):
            self.itself = self

        def __del__(self):
            first._context.run(VAR.set, "changed")
            others.pop().cancel()

    def schedule_two():
        VAR.set(object())
        return [loop.call_later(1000, sorted, ()) for _ in range(2)]

    first, other = contextvars.Context().run(schedule_two)
    others = [other]
    del other
    spare = [contextvars.copy_context() for _ in range(300)]  # more than CPython keeps for the next ones
    thresholds, enabled = gc.get_threshold(), gc.isenabled()
    gc.disable()
    Garbage()
    gc.set_threshold(1)
    gc.enable()
    try:
        context = first._context
        gc.collect()
    finally:
        gc.set_threshold(*thresholds)
        if not enabled:
            gc.disable()
    assert len(spare) == 300 and others == []
    assert first._context is context and context[VAR] == "changed"
    first.cancel()


# Contexts that are passed, and are no contextvars.Context: their run() is called.


class Runs:
    """As much of a context as asyncio uses."""

    def __init__(self, notes):
        self.notes = notes

    def run(self, *args):
        self.notes.append(args[1:])
        return args[0](*args[1:])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 9])
def test_it_runs_the_callback(as_asyncio, kind, count):
    def body(loop):
        notes, got = [], []
        schedule(loop, kind, lambda *args: got.append(args), *range(count), context=Runs(notes))
        run(loop)
        return notes, got

    assert as_asyncio(body)["result"] == ([tuple(range(count))], [tuple(range(count))])


@pytest.mark.parametrize("context", [5, "text", object], ids=str)
def test_one_that_runs_nothing(as_asyncio, context):
    def body(loop):
        reports = []
        loop.set_exception_handler(lambda loop, context: reports.append(type(context["exception"]).__name__))
        loop.call_soon(print, context=context)
        loop.call_soon(loop.stop)
        loop.run_forever()
        return reports

    as_asyncio(body)


@pytest.mark.parametrize("kind", ["call_soon", "call_later"])
@pytest.mark.parametrize("count", [0, 1, 7])
def test_the_collector_is_told_what_a_handle_refers_to(loop, kind, count):
    """gc.get_referrers() ends the visit of an object when it has found what it seeks."""

    def callback(*args):
        pass

    argument = [object() for _ in range(count)]
    handle = schedule(loop, kind, callback, *[argument] * count)
    for thing in [callback] + [argument] * (count > 0):
        found = gc.get_referrers(thing)
        assert handle in found or any(type(each) is tuple and each in gc.get_referents(handle) for each in found)
    handle.cancel()
