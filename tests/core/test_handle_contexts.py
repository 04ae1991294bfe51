"""A callback's context that is no contextvars.Context: its run() is called, as by asyncio."""

import gc

import pytest


class Runs:
    """As much of a context as asyncio uses."""

    def __init__(self, notes):
        self.notes = notes

    def run(self, *args):
        self.notes.append(args[1:])
        return args[0](*args[1:])


def schedule(loop, kind, callback, args, context):
    if kind == "call_later":
        return loop.call_later(0, callback, *args, context=context)
    return getattr(loop, kind)(callback, *args, context=context)


@pytest.mark.parametrize("kind", ["call_soon", "call_soon_threadsafe", "call_later"])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 9])
def test_it_runs_the_callback(as_asyncio, kind, count):
    def body(loop):
        notes, got = [], []
        schedule(loop, kind, lambda *args: got.append(args), range(count), Runs(notes))
        loop.call_later(0.001, loop.stop)
        loop.run_forever()
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
    handle = schedule(loop, kind, callback, [argument] * count, None)
    for thing in [callback] + [argument] * (count > 0):
        found = gc.get_referrers(thing)
        assert handle in found or any(type(each) is tuple and each in gc.get_referents(handle) for each in found)
    handle.cancel()
