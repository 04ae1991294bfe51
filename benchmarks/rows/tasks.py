"""Futures and tasks: wakeups, creation, gather."""

import asyncio

from benchmarks.registry import benchmark


async def nothing():
    pass


@benchmark(reach=5)
async def future_wakeup(loop, n):
    """One future awaited, whose set_result is called by call_soon."""
    for _ in range(n):
        future = loop.create_future()
        loop.call_soon(future.set_result, None)
        await future


@benchmark(reach=4)
async def sleep_0(loop, n):
    """One await of asyncio.sleep(0)."""
    sleep = asyncio.sleep
    for _ in range(n):
        await sleep(0)


@benchmark(reach=5.5)
async def create_task_await(loop, n):
    """One create_task of an empty coroutine, and its await."""
    for _ in range(n):
        await loop.create_task(nothing())


@benchmark(batch=1000, reach=2.2)
async def gather_1000(loop, n):
    """One empty coroutine, of 1000 given to one gather()."""
    for _ in range(n // 1000):
        await asyncio.gather(*[nothing() for _ in range(1000)])
