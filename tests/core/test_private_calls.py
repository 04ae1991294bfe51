"""Methods of loops that asyncio's own Python code calls, and so do programs: as asyncio's."""

import asyncio
import decimal
import fractions
import sys

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
