"""Futures and tasks: wakeups, creation, gather."""

import asyncio

from benchmarks.memory import resident_mib
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


@benchmark(reach=2)
async def wait_for(loop, n):
    """One wait_for(sleep(0), 60)."""
    for _ in range(n):
        await asyncio.wait_for(asyncio.sleep(0), 60)


@benchmark(since=(3, 11), batch=10, reach=2)
async def task_group(loop, n):
    """One empty coroutine, of 10 started in one TaskGroup."""
    for _ in range(n // 10):
        async with asyncio.TaskGroup() as group:
            for _ in range(10):
                group.create_task(nothing())


@benchmark(metric="memory", batch=100_000)
async def pending_task_memory(loop, n):
    """One task that waits for a future of its own, of 100,000; growth of the resident set."""

    async def wait():
        await loop.create_future()

    before = resident_mib()
    tasks = [loop.create_task(wait()) for _ in range(n)]
    await asyncio.sleep(0)
    grown = resident_mib() - before
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    return grown * 1024 / n
