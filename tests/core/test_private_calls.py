"""Methods of loops that asyncio's own Python code calls, and so do programs: as asyncio's."""

import asyncio
import decimal
import fractions
import selectors
import sys
import types

import pytest


def outcome_of(function, *args):
    try:
        return type(function(*args)).__name__
    except Exception as error:
        return type(error).__name__


@pytest.mark.parametrize("count", [0, 1, 3, 8])
def test_call_soon(as_asyncio, count):
    def body(loop):
        got = []
        handle = loop._call_soon(lambda *args: got.append(args), tuple(range(count)), None)
        cancelled = loop._call_soon(got.append, (1,), None)
        cancelled.cancel()
        loop.call_soon(loop.stop)
        loop.run_forever()
        return got, type(handle).__name__

    as_asyncio(body)


def test_call_soon_with_other_arguments(loop):
    for args in (), (print,), (print, (), None, None):
        assert outcome_of(loop._call_soon, *args) == "TypeError"


def test_handles_of_asyncio(as_asyncio):
    def body(loop):
        got, handles = [], [asyncio.Handle(lambda n=n: got.append(n), (), loop) for n in range(4)]
        handles[1].cancel()
        for handle in handles[:2]:
            loop._add_callback(handle)
        for handle in handles[2:]:
            loop._add_callback_signalsafe(handle)
        loop.call_soon(loop.stop)
        loop.run_forever()
        return got

    as_asyncio(body)


class Asked:
    """What has an attribute _cancelled, and fails when its truth is asked for."""

    class Truth:
        def __bool__(self):
            raise ZeroDivisionError

    _cancelled = Truth()


def test_handles_that_are_none(cloop, loop):
    """asyncio asserts what it is given."""
    assert outcome_of(loop._add_callback, Asked()) in ("ZeroDivisionError", "AssertionError")
    assert outcome_of(loop._add_callback, 5) in ("AttributeError", "AssertionError")


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio asserts that they are not None")
def test_times_that_are_none(as_asyncio):
    def body(loop):
        return [outcome_of(loop.call_later, when, print) for when in (None, "soon")] + [
            outcome_of(loop.call_at, None, print)
        ]

    as_asyncio(body)


def test_a_delay_that_is_a_number_of_another_kind(as_asyncio):
    def body(loop):
        found = []
        for delay in fractions.Fraction(1, 1000), True, decimal.Decimal("0.001"):
            found.append(outcome_of(loop.call_later, delay, loop.stop))
            if found[-1] == "TimerHandle":
                loop.run_forever()
        return found

    as_asyncio(body)


def test_waking_a_closed_loop(loop):
    loop.close()
    loop._write_to_self()
    if hasattr(loop, "_poller"):
        loop._add_callback_signalsafe(asyncio.Handle(print, (), loop))
        loop._add_callback(asyncio.Handle(print, (), loop))


class Fails:
    """What cannot be iterated over to its end."""

    def __iter__(self):
        yield from ()
        raise ZeroDivisionError


class Cancelled:
    _cancelled = True


def key(fd=0, data=(None, None), **more):
    return types.SimpleNamespace(fd=fd, data=data, **more)


def test_events_of_a_selector_that_are_wrong(loop):
    """Whatever a program's own selector reports: an exception, and nothing is called."""
    read, refused = selectors.EVENT_READ, ("TypeError", "ValueError", "AttributeError", "ZeroDivisionError")
    for events in [
        None,
        Fails(),
        [None],
        [()],
        [(1, 2, 3)],
        [(key(fileobj=0), "read")],
        [(object(), read)],
        [(types.SimpleNamespace(fd=0, fileobj=0), read)],
        [(types.SimpleNamespace(data=(None, None)), read)],
        [(key(data=None, fileobj=0), read)],
        [(key(data=(None,) * 3, fileobj=0), read)],
        [(key(data=(5, None), fileobj=0), read)],
        [(key(data=(Asked(), None), fileobj=0), read)],
        [(key(data=(None, Asked()), fileobj=0), selectors.EVENT_WRITE)],
        [(key(data=(Cancelled(), None)), read)],  # it has no fileobj
        [(key(data=(Cancelled(), None), fileobj="nothing"), read)],
    ]:
        assert outcome_of(loop._process_events, events) in refused, events
    for events in [
        [],
        [(key(fd="no number", fileobj=0), read)],
        [(key(fd=10**30, fileobj=0), read)],
        [(key(fd=-1, fileobj=0), read | selectors.EVENT_WRITE)],
        [(key(fd=2**40, fileobj=0), 0)],
    ]:
        assert loop._process_events(events) is None
    loop.call_soon(loop.stop)
    loop.run_forever()


def test_calls_of_other_threads_are_in_the_ready_queue(cloop, loop_class, loop_kind):
    """More than it has room for; whichever of these methods is called first."""
    if loop_kind == "asyncio":
        pytest.skip("has a deque")
    for ask in (
        lambda loop: len(loop._ready),
        lambda loop: loop._ready_count(),
        lambda loop: loop._ready_append(loop._ready_take()),
        lambda loop: loop._select(0),
        lambda loop: loop._select_timeout(),
    ):
        loop = loop_class()
        try:
            for _ in range(1100):
                loop.call_soon_threadsafe(int)
            ask(loop)
            assert loop._ready_count() == 1100
        finally:
            loop.close()
