"""Cost against size: what one operation costs while so many others are pending, by powers of ten."""

import asyncio
import contextlib
import random

from benchmarks.registry import benchmark

SIZES = [10**power for power in range(7)]
#: The rest only if it is asked for: python -m benchmarks --only '*_pending_*'
USUAL = (1000, 100_000)


def nothing():
    pass


def family(of, operation, **options):
    """Rows of the function that makes a row for a size."""

    def register(make):
        for size in SIZES:
            run, fixture = make(size)
            benchmark(
                name="{}_pending_{}".format(of, size),
                operation=operation.format("{:,}".format(size)),
                size=(of + " pending", size),
                default=size in USUAL,
                fixture=fixture,
                **{key: option(size) if callable(option) else option for key, option in options.items()},
            )(run)
        return make

    return register


def pending_timers(size):
    @contextlib.contextmanager
    def fixture(loop):
        choice = random.Random(size)
        handles = [loop.call_later(3600 + choice.random() * 3600, nothing) for _ in range(size)]
        yield [3600 + choice.random() * 3600 for _ in range(1000)]
        for handle in handles:
            handle.cancel()

    return fixture


@family("timers", "One call_later() and its cancel(), among {} timers; the deadlines are random.", batch=1000)
def among_timers(size):
    async def run(loop, n, delays):
        call_later = loop.call_later
        for _ in range(n // 1000):
            for delay in delays:
                call_later(delay, nothing).cancel()
            await asyncio.sleep(0)

    return run, pending_timers(size)


@family("firing", "One call_later(0) that fires, awaited, while {} later timers wait.")
def firing(size):
    async def run(loop, n, delays):
        for _ in range(n):
            future = loop.create_future()
            loop.call_later(0, future.set_result, None)
            await future

    return run, pending_timers(size)


@family("tasks", "One create_task() of an empty coroutine, and its await, while {} tasks wait.")
def among_tasks(size):
    async def empty():
        pass

    async def wait(future):
        await future

    @contextlib.contextmanager
    def fixture(loop):
        async def start():
            tasks = [loop.create_task(wait(loop.create_future())) for _ in range(size)]
            await asyncio.sleep(0)
            return tasks

        async def stop():
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

        tasks = loop.run_until_complete(start())
        yield tasks
        loop.run_until_complete(stop())

    async def run(loop, n, tasks):
        for _ in range(n):
            await loop.create_task(empty())

    return run, fixture


@family("callbacks", "One callback, of {} that are ready at once.", batch=lambda size: size)
def ready(size):
    async def run(loop, n):
        done = None

        def step():
            nonlocal left
            left -= 1
            if not left:
                done.set_result(None)

        for _ in range(n // size):
            done, left = loop.create_future(), size
            for _ in range(size):
                loop.call_soon(step)
            await done

    return run, None
