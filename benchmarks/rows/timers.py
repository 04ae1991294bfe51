"""Timers: made and cancelled, fired, as a timeout, and how late they are."""

import asyncio
import random

from benchmarks.memory import resident_mib
from benchmarks.registry import benchmark

TIMERS = 100_000
FEW = 1000


def nothing():
    pass


@benchmark(batch=1000, reach=3)
async def call_later_cancel(loop, n):
    """One call_later of a minute and its cancel(), 1000 of them per turn."""
    call_later = loop.call_later
    for _ in range(n // 1000):
        for _ in range(1000):
            call_later(60, nothing).cancel()
        # Loops that drop cancelled timers lazily do so in a turn.
        await asyncio.sleep(0)


@benchmark(batch=TIMERS, reach=2.5)
async def timers_fire(loop, n):
    """One timer made and fired, of 100,000 with deadlines from 1 to 5 ms."""
    call_later = loop.call_later
    for _ in range(n // TIMERS):
        done = loop.create_future()
        left = TIMERS

        def fire(done=done):
            nonlocal left
            left -= 1
            if not left:
                done.set_result(None)

        for i in range(TIMERS):
            # 7919 is prime: deadlines come in no order, the same in each run.
            call_later(0.001 + i * 7919 % 4000 * 1e-6, fire)
        await done


async def fire_all(loop, deadlines):
    """Timers with these delays, made and fired."""
    done = loop.create_future()
    left = len(deadlines)

    def fire():
        nonlocal left
        left -= 1
        if not left:
            done.set_result(None)

    call_later = loop.call_later
    for delay in deadlines:
        call_later(delay, fire)
    await done


#: No two are the same, and all are due by the time that the last timer is made, or soon after.
IN_ORDER = [0.001 + i * 1e-7 for i in range(TIMERS)]
SHUFFLED = random.Random(7919).sample(IN_ORDER, TIMERS)


@benchmark(batch=TIMERS)
async def timers_in_order(loop, n):
    """One timer made and fired, of 100,000 with deadlines within 10 ms, each after the one before."""
    for _ in range(n // TIMERS):
        await fire_all(loop, IN_ORDER)


@benchmark(batch=TIMERS)
async def timers_shuffled(loop, n):
    """One timer made and fired, of 100,000 with deadlines within 10 ms, shuffled."""
    for _ in range(n // TIMERS):
        await fire_all(loop, SHUFFLED)


@benchmark(batch=10_000)
async def timer_storm(loop, n):
    """One sleep of 1 to 10 ms, by one of 10,000 tasks that sleep at once, the task included."""
    for _ in range(n // 10_000):
        await asyncio.gather(*[asyncio.sleep(0.001 + i * 7919 % 10_000 * 9e-7) for i in range(10_000)])


async def sleep(tasks, n, seconds):
    async def sleeper():
        for _ in range(n // tasks):
            await asyncio.sleep(seconds)

    await asyncio.gather(*[sleeper() for _ in range(tasks)])


@benchmark(batch=100)
async def sleep_short(loop, n):
    """One sleep of 0.1 ms, by one of 100 tasks."""
    await sleep(100, n, 0.0001)


@benchmark(batch=1000)
async def sleep_1ms(loop, n):
    """One sleep of 1 ms, by one of 1000 tasks."""
    await sleep(1000, n, 0.001)


@benchmark(metric="memory", batch=100_000)
async def timer_memory(loop, n):
    """One pending timer with its handle, of 100,000; growth of the resident set."""
    before = resident_mib()
    handles = [loop.call_later(3600 + i, nothing) for i in range(n)]
    grown = resident_mib() - before
    for handle in handles:
        handle.cancel()
    return grown * 1024 / n


@benchmark(batch=FEW)
async def timers_fire_1000(loop, n):
    """One timer made and fired, of 1000 that are due by the time the last is made."""
    call_at = loop.call_at
    for _ in range(n // FEW):
        done = loop.create_future()
        left = FEW

        def fire(done=done):
            nonlocal left
            left -= 1
            if not left:
                done.set_result(None)

        now = loop.time()
        for i in range(FEW):
            call_at(now + i * 7919 % FEW * 1e-9, fire)
        await done


@benchmark()
async def deadline_around_await(loop, n):
    """One call_later of a minute, one sleep(0), and the timer's cancel()."""
    for _ in range(n):
        deadline = loop.call_later(60, nothing)
        await asyncio.sleep(0)
        deadline.cancel()


@benchmark(since=(3, 11), reach=2.5)
async def timeout_around_await(loop, n):
    """One `async with asyncio.timeout(60)` around one sleep(0)."""
    for _ in range(n):
        async with asyncio.timeout(60):
            await asyncio.sleep(0)


@benchmark(metric="wall", ideal_us=200)
async def sleep_overshoot(loop, n):
    """How much longer than 200 us one sleep(0.0002) takes; below 0 is early."""
    for _ in range(n):
        await asyncio.sleep(0.0002)
