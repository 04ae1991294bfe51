"""Timers: order, deadlines, odd delays, many of them."""

import asyncio
import contextvars
import fractions
import gc
import math
import os
import random
import resource
import sys
import threading
import time
import weakref

import pytest

try:
    import hypothesis
    from hypothesis import strategies
except ImportError:
    hypothesis = None


def needs_ordered_ties(loop_kind):
    if loop_kind == "asyncio":
        pytest.skip("asyncio's binary heap keeps no order among equal deadlines")


def run_due(loop, turn, offsets, cancelled=()):
    """Schedules one due timer for each offset and returns the order in which they fired."""
    fired = []
    start = loop.time() - 10000
    handles = [loop.call_at(start + offset, fired.append, index) for index, offset in enumerate(offsets)]
    for index in cancelled:
        handles[index].cancel()
    turn()
    return fired


# Order


def test_timers_fire_by_deadline(loop, turn):
    offsets = list(range(2000))
    random.Random(1).shuffle(offsets)
    fired = run_due(loop, turn, offsets)
    assert [offsets[index] for index in fired] == list(range(2000))


def test_equal_deadlines_fire_in_order_of_insertion(loop, turn, loop_kind):
    needs_ordered_ties(loop_kind)
    assert run_due(loop, turn, [0] * 1000) == list(range(1000))


def test_equal_deadlines_keep_their_order_when_others_are_cancelled(loop, turn, loop_kind):
    needs_ordered_ties(loop_kind)
    fired = run_due(loop, turn, [number % 7 for number in range(1000)], cancelled=range(0, 1000, 3))
    expected = sorted((number for number in range(1000) if number % 3), key=lambda number: number % 7)
    assert fired == expected


def test_ready_callbacks_run_before_due_timers(loop, turn):
    seen = []
    loop.call_at(loop.time() - 1, seen.append, "timer")
    loop.call_soon(seen.append, "soon")
    turn()
    assert seen == ["soon", "timer"]


def test_due_timer_set_by_a_timer_waits_for_the_next_turn(loop, turn):
    seen = []
    loop.call_at(loop.time() - 1, lambda: loop.call_at(loop.time() - 1, seen.append, 1))
    turn()
    assert seen == []
    turn()
    assert seen == [1]


def test_timer_cancelled_by_an_earlier_one_of_the_same_turn(loop, turn):
    seen = []
    now = loop.time()
    loop.call_at(now - 2, lambda: late.cancel())
    late = loop.call_at(now - 1, seen.append, 1)
    turn()
    assert seen == []


def test_timers_are_kept_between_runs(loop, turn):
    seen = []
    handle = loop.call_later(1000, seen.append, 1)
    turn()
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    assert seen == [] and not handle.cancelled()


def test_two_million_second_timer_does_not_hide_a_near_one(loop):
    loop.call_later(2e6, pytest.fail)
    loop.call_later(0.001, loop.stop)
    loop.run_forever()


if hypothesis is not None:
    plans = strategies.lists(strategies.tuples(strategies.integers(0, 9), strategies.booleans()), max_size=150)
    quick = hypothesis.settings(
        max_examples=60,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
    )

    @quick
    @hypothesis.given(plan=plans)
    def test_any_timers_fire_by_deadline_but_for_the_cancelled(loop, turn, plan):
        offsets = [offset for offset, _ in plan]
        dropped = [index for index, (_, cancel) in enumerate(plan) if cancel]
        fired = run_due(loop, turn, offsets, dropped)
        assert sorted(fired) == sorted(set(range(len(plan))) - set(dropped))
        assert [offsets[index] for index in fired] == sorted(offsets[index] for index in fired)

    @quick
    @hypothesis.given(plan=plans)
    def test_any_ties_fire_in_order_of_insertion(loop, turn, loop_kind, plan):
        needs_ordered_ties(loop_kind)
        offsets = [offset for offset, _ in plan]
        fired = run_due(loop, turn, offsets)
        assert fired == sorted(range(len(plan)), key=offsets.__getitem__)

    @quick
    @hypothesis.given(
        steps=strategies.lists(
            strategies.tuples(strategies.sampled_from("add cancel turn".split()), strategies.integers(0, 50)),
            max_size=80,
        )
    )
    def test_any_mix_of_adding_cancelling_and_turns_fires_each_timer_once(loop, turn, steps):
        fired, pending, handles = [], set(), []
        far = loop.time() + 1000
        for step, number in steps:
            if step == "add":
                due = number % 2 == 0
                when = far + number if not due else loop.time() - number
                handles.append(loop.call_at(when, fired.append, len(handles)))
                if due:
                    pending.add(len(handles) - 1)
            elif step == "cancel" and handles:
                handles[number % len(handles)].cancel()
                pending.discard(number % len(handles))
            else:
                turn()
                assert set(fired) == pending and len(fired) == len(pending)
                fired.clear()
                pending.clear()
        for handle in handles:
            handle.cancel()
        turn()


# Deadlines


def test_thousands_of_timers_are_never_early(loop):
    late = []
    delays = random.Random(2)

    def fire(when):
        late.append(time.monotonic() - when)
        if len(late) == 5000:
            loop.stop()

    for _ in range(5000):
        when = loop.time() + delays.random() * 0.05
        loop.call_at(when, fire, when)
    loop.run_forever()
    assert min(late) >= 0


def test_sparse_timers_are_never_early(loop):
    async def sleep_often():
        for number in range(40):
            delay = 0.00005 + number * 0.0000317
            start = time.monotonic()
            await asyncio.sleep(delay)
            assert time.monotonic() - start >= delay

    loop.run_until_complete(sleep_often())


@pytest.mark.alone  # it measures time
def test_sub_millisecond_sleep_takes_less_than_a_millisecond(loop, loop_kind):
    kernel = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])
    if loop_kind != "cloop-epoll" or kernel < (5, 11):
        pytest.skip("only epoll_pwait2 waits for less than a millisecond")

    async def shortest():
        elapsed = []
        for _ in range(50):
            start = time.monotonic()
            await asyncio.sleep(0.0002)
            elapsed.append(time.monotonic() - start)
        return min(elapsed)

    assert 0.0002 <= loop.run_until_complete(shortest()) < 0.0008


def test_waiting_for_a_timer_wakes_up_once(loop):
    def switches():
        return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw

    loop.call_later(0.15, loop.stop)
    before = switches()
    loop.run_forever()
    assert switches() - before <= 4


def test_cancelled_first_timer_does_not_wake_the_loop(loop):
    handles = [loop.call_later(0.02, pytest.fail) for _ in range(50)]
    loop.call_later(0.06, loop.stop)
    for handle in handles:
        handle.cancel()
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
    loop.run_forever()
    assert resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw - before <= 4


def test_a_nearer_timer_set_later_shortens_the_wait(loop):
    loop.call_later(1000, pytest.fail)
    loop.call_soon(lambda: loop.call_later(0.001, loop.stop))
    start = time.monotonic()
    loop.run_forever()
    assert time.monotonic() - start < 5


# Odd delays


@pytest.mark.parametrize(
    "delay", [0, -0.0, -1, -1e300, -math.inf, False, fractions.Fraction(1, 1000), 1e-300, 5e-10], ids=repr
)
@pytest.mark.parametrize("method", ["call_later", "call_at"])
def test_timer_fires_at_once(loop, method, delay):
    seen = []
    getattr(loop, method)(delay, lambda: (seen.append(1), loop.stop()))
    loop.run_forever()
    assert seen == [1]


@pytest.mark.parametrize("method", ["call_later", "call_at"])
def test_nan_fires_at_once_or_is_refused(loop, method):
    # asyncio fires it up to Python 3.13; since 3.14 select() refuses to wait for it.
    seen = []
    try:
        getattr(loop, method)(math.nan, lambda: (seen.append(1), loop.stop()))
        loop.run_forever()
    except ValueError as error:
        assert "nan" in str(error).lower()
    else:
        assert seen == [1]


@pytest.mark.parametrize("delay", [math.inf, 1e300, 10**12, 2**63 / 1e9, 2**64 / 1e9, 86400 * 2], ids=repr)
@pytest.mark.parametrize("method", ["call_later", "call_at"])
def test_far_timer_does_not_fire(loop, turn, method, delay):
    if method == "call_at":
        delay = loop.time() + delay
    handle = getattr(loop, method)(delay, pytest.fail)
    turn()
    loop.call_later(0.002, loop.stop)
    loop.run_forever()
    assert not handle.cancelled()
    assert handle.when() >= delay
    handle.cancel()
    turn()


@pytest.mark.parametrize("delay", ["1", b"1", [], 10**400, object], ids=lambda delay: type(delay).__name__)
def test_delay_that_is_no_number(as_asyncio, delay):
    as_asyncio(lambda loop: loop.call_later(delay, print))


def test_delay_none_is_a_type_error(loop):
    with pytest.raises(TypeError):
        loop.call_later(None, print)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="call_at took anything before Python 3.12")
def test_deadline_none_is_a_type_error(loop):
    with pytest.raises(TypeError):
        loop.call_at(None, print)


@pytest.mark.parametrize("when", ["1", b"1", []], ids=lambda when: type(when).__name__)
def test_deadline_that_is_no_number(loop, turn, loop_kind, when):
    if loop_kind == "asyncio":
        pytest.skip("asyncio notices when it compares two of them")
    with pytest.raises(TypeError):
        loop.call_at(when, pytest.fail)
    turn()


def test_a_refused_timer_leaves_nothing_behind(loop, turn):
    with pytest.raises(TypeError):
        loop.call_later("soon", pytest.fail)
    turn()


# Many


def test_cancelled_timers_are_dropped_without_a_turn_of_their_own(loop, turn):
    class Argument:
        pass

    argument = Argument()
    watch = weakref.ref(argument)
    handles = [loop.call_later(1000, print, argument) for _ in range(300)]
    del argument
    for handle in handles:
        handle.cancel()
    assert watch() is None
    handles = [weakref.ref(handle) for handle in handles]
    del handle
    turn()
    assert not any(handle() for handle in handles)


def test_a_timer_cancelled_by_the_callback_that_made_it_is_collected_with_its_loop(loop_class):
    """The collector did not know it, as it was nobody's but the program's when the loop looked at new timers."""

    class Keeper:
        pass

    def run(loop):
        def make():
            loop.keeper.handle = loop.call_later(1, print)
            loop.keeper.handle.cancel()

        loop.keeper = Keeper()
        loop.call_soon(make)
        loop.call_soon(loop.stop)
        loop.run_forever()
        loop.close()
        return weakref.ref(loop.keeper)

    kept = run(loop_class())
    gc.collect()
    assert kept() is None


@pytest.mark.parametrize("count", [1, 2])
def test_a_timer_that_is_cancelled_later_is_collected(loop, turn, count):
    """So often somebody has it when the loop looks at new timers. Its context, which it keeps, has whoever has it."""

    class Keeper:
        pass

    def make():
        keeper, context = Keeper(), contextvars.copy_context()
        context.run(var.set, keeper)
        keeper.handles = [loop.call_later(1000, print, context=context)] * count
        gone.append(weakref.ref(keeper))

    var, gone = contextvars.ContextVar("var"), []
    loop.call_soon(make)
    turn()
    turn()
    gone[0]().handles[0].cancel()
    loop.close()  # asyncio's keeps it until then
    gc.collect()
    assert gone[0]() is None


def test_timers_after_a_burst_of_them(loop, turn):
    def burst():
        handles.extend(loop.call_later(1000, int) for _ in range(3000))

    handles, fired = [], []
    for _ in range(2):
        loop.call_soon(burst)
        turn()
        gc.collect()
        loop.call_soon(loop.call_later, 0, fired.append, 1)
        turn()
        turn()
    assert fired == [1, 1]


def test_timers_left_among_many_cancelled_ones_fire(loop, turn):
    seen = []
    now = loop.time()
    handles = [loop.call_at(now - 1000 + number, seen.append, number) for number in range(1000)]
    for number, handle in enumerate(handles):
        if number % 10:
            handle.cancel()
    turn()
    assert seen == list(range(0, 1000, 10))


def test_timer_callback_that_cancels_and_adds_many(loop, turn):
    seen = []
    handles = [loop.call_later(1000, seen.append, number) for number in range(500)]

    def churn():
        for handle in handles[::2]:
            handle.cancel()
        handles.extend(loop.call_later(1000, seen.append, 1) for _ in range(500))

    loop.call_at(loop.time() - 1, churn)
    turn()
    loop.call_soon(lambda: [handle.cancel() for handle in handles])
    turn()
    turn()
    assert seen == []


def test_arguments_are_passed(loop, turn):
    seen = []
    loop.call_later(0, lambda *args: seen.append(args), 1, "two", None, 4, 5, 6, 7)
    loop.call_later(0.002, loop.stop)
    loop.run_forever()
    assert seen == [(1, "two", None, 4, 5, 6, 7)]


def test_timer_that_is_put_back_in_the_callback_that_made_it(cloop, loop, turn):
    """Programs that change loop._scheduled do that. The timer was remembered twice, and forgotten once when it was freed."""

    def body():
        timer = loop.call_later(1000, print)
        for _ in range(3):
            loop._drop_timer(timer)
            loop._put_timer(timer)
        assert loop._scheduled == [timer]
        timer.cancel()
        loop._drop_timer(timer)

    if not hasattr(loop, "_put_timer"):
        pytest.skip("asyncio has its own heap")
    loop.call_soon(body)
    turn()
    assert loop._scheduled == []


@pytest.mark.parametrize("when", [10**9, fractions.Fraction(10**10, 3)], ids=["int", "fraction"])
def test_when_is_what_was_given(loop, when):
    handle = loop.call_at(when, print)
    assert handle.when() is when
    handle.cancel()


def test_a_timer_further_away_than_a_poll_may_last(loop):
    far = loop.call_later(1e6, print)
    waker = threading.Timer(0.01, loop.call_soon_threadsafe, (loop.stop,))
    waker.start()
    loop.run_forever()
    waker.join()
    assert loop.time() < far.when() and not far.cancelled()
    far.cancel()
