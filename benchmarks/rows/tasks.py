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


@benchmark()
async def gather_3(loop, n):
    """One gather() of 3 empty coroutines."""
    for _ in range(n):
        await asyncio.gather(nothing(), nothing(), nothing())


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


@benchmark(reach=2)
async def wait_for_nested(loop, n):
    """Three wait_for() of a minute, one in the other, around one sleep(0)."""
    for _ in range(n):
        await asyncio.wait_for(asyncio.wait_for(asyncio.wait_for(asyncio.sleep(0), 60), 60), 60)


@benchmark(since=(3, 11))
async def timeouts_nested(loop, n):
    """Two asyncio.timeout(60) in a wait_for() of a minute, around one sleep(0)."""

    async def inner():
        async with asyncio.timeout(60), asyncio.timeout(60):
            await asyncio.sleep(0)

    for _ in range(n):
        await asyncio.wait_for(inner(), 60)


@benchmark(batch=10)
async def wait_10(loop, n):
    """One task with a sleep(0), of 10 given to one wait()."""
    for _ in range(n // 10):
        done, pending = await asyncio.wait([loop.create_task(asyncio.sleep(0)) for _ in range(10)])
        assert len(done) == 10 and not pending


@benchmark(batch=10)
async def as_completed(loop, n):
    """One coroutine with a sleep(0), of 10 awaited by as_completed()."""
    for _ in range(n // 10):
        for each in asyncio.as_completed([asyncio.sleep(0) for _ in range(10)]):
            await each


@benchmark()
async def shield(loop, n):
    """One await of shield(sleep(0))."""
    for _ in range(n):
        await asyncio.shield(asyncio.sleep(0))


@benchmark()
async def async_generator(loop, n):
    """One item of an asynchronous generator that awaits a sleep(0)."""

    async def items():
        for i in range(n):
            await asyncio.sleep(0)
            yield i

    async for _ in items():
        pass


@benchmark(batch=100)
async def sleep_0_of_100(loop, n):
    """One await of asyncio.sleep(0), by one of 100 tasks."""

    async def sleeper():
        for _ in range(n // 100):
            await asyncio.sleep(0)

    await asyncio.gather(*[sleeper() for _ in range(100)])


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
