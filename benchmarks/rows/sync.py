"""asyncio's own Event, Queue and locks. The loop `benchmarks.accelerated` has them in C."""

import asyncio

from benchmarks.registry import benchmark


@benchmark(batch=2, reach=2.5)
async def event_ping_pong(loop, n):
    """One set() that wakes the other of two tasks (half a round trip)."""
    ping, pong = asyncio.Event(), asyncio.Event()

    async def player(mine, other):
        for _ in range(n // 2):
            await mine.wait()
            mine.clear()
            other.set()

    ping.set()
    await asyncio.gather(player(ping, pong), player(pong, ping))


@benchmark(reach=2.25)
async def queue_ping_pong(loop, n):
    """One item through a Queue(1), put by one task and got by another."""
    queue = asyncio.Queue(1)

    async def produce():
        for i in range(n):
            await queue.put(i)

    async def consume():
        for _ in range(n):
            await queue.get()

    await asyncio.gather(produce(), consume())


@benchmark()
async def queue_nowait(loop, n):
    """One put_nowait() and one get() of a Queue."""
    queue = asyncio.Queue()
    for i in range(n):
        queue.put_nowait(i)
        await queue.get()


@benchmark()
async def lock_free(loop, n):
    """One `async with` of a Lock that is free."""
    lock = asyncio.Lock()
    for _ in range(n):
        async with lock:
            pass


@benchmark()
async def semaphore_free(loop, n):
    """One `async with` of a Semaphore that is free."""
    semaphore = asyncio.Semaphore(5)
    for _ in range(n):
        async with semaphore:
            pass


@benchmark(batch=10, reach=2.3)
async def lock_traffic(loop, n):
    """One `async with lock` around a sleep(0), with 10 tasks after the lock."""
    lock = asyncio.Lock()

    async def worker():
        for _ in range(n // 10):
            async with lock:
                await asyncio.sleep(0)

    await asyncio.gather(*[worker() for _ in range(10)])


@benchmark(batch=10, reach=2.25)
async def semaphore_traffic(loop, n):
    """One `async with semaphore` of 3 around a sleep(0), with 10 tasks after it."""
    semaphore = asyncio.Semaphore(3)

    async def worker():
        for _ in range(n // 10):
            async with semaphore:
                await asyncio.sleep(0)

    await asyncio.gather(*[worker() for _ in range(10)])


@benchmark(batch=2)
async def condition_ping_pong(loop, n):
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


@benchmark(since=(3, 11), batch=10)
async def barrier(loop, n):
    """One wait() at a Barrier of 10 tasks."""
    meeting = asyncio.Barrier(10)

    async def member():
        for _ in range(n // 10):
            await meeting.wait()

    await asyncio.gather(*[member() for _ in range(10)])
