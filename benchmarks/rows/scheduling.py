"""Callbacks: call_soon, and what other threads call."""

import asyncio
import threading

from benchmarks.registry import benchmark


@benchmark(reach=6)
async def call_soon_chain(loop, n):
    """One callback that schedules the next one."""
    done = loop.create_future()
    call_soon = loop.call_soon
    left = n

    def step():
        nonlocal left
        left -= 1
        if left:
            call_soon(step)
        else:
            done.set_result(None)

    call_soon(step)
    await done


@benchmark(batch=1000, reach=2.7)
async def call_soon_fan_out(loop, n):
    """One callback with two arguments, of 1000 that one callback schedules."""
    done = loop.create_future()
    call_soon = loop.call_soon
    rounds = n // 1000

    def leaf(first, second):
        pass

    def fan():
        nonlocal rounds
        if not rounds:
            done.set_result(None)
            return
        rounds -= 1
        for i in range(1000):
            call_soon(leaf, i, fan)
        call_soon(fan)

    call_soon(fan)
    await done


@benchmark(batch=2, reach=2)
async def call_soon_threadsafe(loop, n):
    """One call from one of 2 producer threads, delivered; CPU of all threads."""
    done = loop.create_future()
    left = n

    def deliver():
        nonlocal left
        left -= 1
        if not left:
            done.set_result(None)

    def produce():
        post = loop.call_soon_threadsafe
        for _ in range(n // 2):
            post(deliver)

    producers = [threading.Thread(target=produce) for _ in range(2)]
    for producer in producers:
        producer.start()
    await done
    for producer in producers:
        producer.join()


@benchmark()
async def run_coroutine_threadsafe(loop, n):
    """One run_coroutine_threadsafe() of an empty coroutine from another thread, and its result(); CPU of both."""

    async def nothing():
        return 1

    def ask():
        for _ in range(n):
            assert asyncio.run_coroutine_threadsafe(nothing(), loop).result() == 1
        loop.call_soon_threadsafe(done.set_result, None)

    done = loop.create_future()
    asking = threading.Thread(target=ask)
    asking.start()
    await done
    asking.join()
