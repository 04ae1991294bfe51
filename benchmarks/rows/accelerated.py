"""asyncio's own primitives: with cloop.accelerate() on cloop, as they are on other loops."""

import asyncio
import contextlib
import importlib

from benchmarks.registry import benchmark


@contextlib.contextmanager
def accelerated(loop):
    package = type(loop).__module__.partition(".")[0]
    switch = getattr(importlib.import_module(package), "accelerate", bool)
    switch(True)
    try:
        yield None
    finally:
        switch(False)


async def nothing():
    pass


def row(**options):
    return benchmark(fixture=accelerated, **options)


@row(reach=4.5)
async def accelerated_event(loop, n, _):
    """One round trip of two tasks through two Events."""
    ping, pong = asyncio.Event(), asyncio.Event()

    async def player(mine, other):
        for _ in range(n):
            await mine.wait()
            mine.clear()
            other.set()

    ping.set()
    await asyncio.gather(player(ping, pong), player(pong, ping))


@row(reach=5)
async def accelerated_queue(loop, n, _):
    """One item through a Queue(1), put by one task and got by another."""
    queue = asyncio.Queue(1)

    async def produce():
        for i in range(n):
            await queue.put(i)

    async def consume():
        for _ in range(n):
            await queue.get()

    await asyncio.gather(produce(), consume())


@row(reach=3.5)
async def accelerated_queue_nowait(loop, n, _):
    """One put_nowait() and one get() of a Queue."""
    queue = asyncio.Queue()
    for i in range(n):
        queue.put_nowait(i)
        await queue.get()


@row(reach=2.5)
async def accelerated_lock(loop, n, _):
    """One `async with` of a free Lock."""
    lock = asyncio.Lock()
    for _ in range(n):
        async with lock:
            pass


@row(batch=10, reach=5)
async def accelerated_lock_of_10(loop, n, _):
    """One `async with lock` around a sleep(0), with 10 tasks after the lock."""
    lock = asyncio.Lock()

    async def worker():
        for _ in range(n // 10):
            async with lock:
                await asyncio.sleep(0)

    await asyncio.gather(*[worker() for _ in range(10)])


@row(reach=3.3)
async def accelerated_semaphore(loop, n, _):
    """One `async with` of a free Semaphore."""
    semaphore = asyncio.Semaphore(5)
    for _ in range(n):
        async with semaphore:
            pass


@row(batch=10, reach=4.2)
async def accelerated_semaphore_of_10(loop, n, _):
    """One `async with semaphore` of 3 around a sleep(0), with 10 tasks after it."""
    semaphore = asyncio.Semaphore(3)

    async def worker():
        for _ in range(n // 10):
            async with semaphore:
                await asyncio.sleep(0)

    await asyncio.gather(*[worker() for _ in range(10)])


@row(batch=2, reach=3.5)
async def accelerated_condition(loop, n, _):
    """One notify() of a Condition that wakes the other of two tasks."""
    condition = asyncio.Condition()
    turn = 0

    async def player(mine):
        nonlocal turn
        for _ in range(n // 2):
            async with condition:
                while turn != mine:
                    await condition.wait()
                turn = 1 - mine
                condition.notify()

    await asyncio.gather(player(0), player(1))


@row(since=(3, 11), batch=10)
async def accelerated_barrier(loop, n, _):
    """One wait() at a Barrier of 10 tasks."""
    meeting = asyncio.Barrier(10)

    async def member():
        for _ in range(n // 10):
            await meeting.wait()

    await asyncio.gather(*[member() for _ in range(10)])


@row(batch=1000, reach=4.5)
async def accelerated_gather_1000(loop, n, _):
    """One empty coroutine, of 1000 given to one gather()."""
    for _ in range(n // 1000):
        await asyncio.gather(*[nothing() for _ in range(1000)])


@row(reach=6)
async def accelerated_gather_3(loop, n, _):
    """One gather() of 3 empty coroutines."""
    for _ in range(n):
        await asyncio.gather(nothing(), nothing(), nothing())


@row(batch=100, reach=4)
async def accelerated_sleep(loop, n, _):
    """One sleep(0.001) of 100 tasks that sleep."""

    async def sleeper():
        for _ in range(n // 100):
            await asyncio.sleep(0.001)

    await asyncio.gather(*[sleeper() for _ in range(100)])


@row(since=(3, 11), reach=5)
async def accelerated_timeout(loop, n, _):
    """One `async with asyncio.timeout(60)` around one sleep(0)."""
    for _ in range(n):
        async with asyncio.timeout(60):
            await asyncio.sleep(0)
