"""Timers: made and cancelled, fired, as a timeout, and how late they are."""

import asyncio

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
