"""Semaphore and BoundedSemaphore, in C and in asyncio's Python code."""

import asyncio
import inspect

import pytest

pytestmark = pytest.mark.slow

MAKE = {
    "semaphore": lambda: asyncio.Semaphore(2),
    "bounded": lambda: asyncio.BoundedSemaphore(2),
}


@pytest.fixture(params=sorted(MAKE))
def make(request):
    return MAKE[request.param]


def test_they_are_coroutines_in_c(accelerate, cloop, made, make):
    async def main():
        semaphore, before = make(), made()
        coro = semaphore.acquire()
        assert not inspect.iscoroutine(coro) and await coro is True
        semaphore.release()
        async with semaphore:
            assert semaphore._value == 1
        assert made() == before + 3

    cloop.run(main())


@pytest.mark.parametrize("turns", range(3))
@pytest.mark.parametrize("cancelled", [(), (0,), (1, 2), (0, 2, 3)])
@pytest.mark.parametrize("releases", [1, 2])
def test_waiters_are_cancelled_before_and_after_they_are_woken(
    accelerate, as_asyncio, make, cancelled, releases, turns
):
    def body(loop):
        async def main():
            semaphore, seen = make(), []
            await semaphore.acquire()
            await semaphore.acquire()

            async def work(number):
                try:
                    async with semaphore:
                        seen.append((number, semaphore._value))
                        await asyncio.sleep(0)
                finally:
                    seen.append((number, "left", semaphore._value, len(semaphore._waiters)))

            tasks = [loop.create_task(work(number)) for number in range(5)]
            await asyncio.sleep(0)
            for _ in range(releases):
                semaphore.release()
            for _ in range(turns):
                await asyncio.sleep(0)
            for number in cancelled:
                tasks[number].cancel()
                seen.append((semaphore._value, vars(semaphore).get("_wakeup_scheduled")))
            for _ in range(2 - releases):
                semaphore.release()
            late = loop.create_task(work("late"))
            await asyncio.wait(tasks + [late])
            return seen, [task.cancelled() for task in tasks], repr(semaphore)[-20:]

        return loop.run_until_complete(main())

    as_asyncio(body)


def test_values_that_no_program_should_set(accelerate, as_asyncio, make):
    def body(loop):
        async def main():
            seen = []
            for value in (2.5, True, 10**30, -1, 0):
                semaphore = make()
                semaphore._value = value
                task = loop.create_task(semaphore.acquire())
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                seen.append((task.done(), semaphore._value))
                try:
                    semaphore.release()
                except Exception as error:
                    seen.append((type(error).__name__, str(error)))
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                seen.append((task.done(), semaphore._value))
                task.cancel()
                await asyncio.wait([task])
            return seen

        return loop.run_until_complete(main())

    as_asyncio(body)


@pytest.mark.parametrize("value", [0, 1, 5])
@pytest.mark.parametrize("how", ["woken", "cancelled"])
def test_waiter_that_the_program_has_taken_out(accelerate, as_asyncio, make, value, how):
    """It is not found; those that have room are woken all the same."""

    def body(loop):
        async def main():
            semaphore = make()
            semaphore._value = 0
            tasks = [loop.create_task(semaphore.acquire()) for _ in range(3)]
            await asyncio.sleep(0)
            waiter = semaphore._waiters.popleft()
            semaphore._value = value
            if how == "woken":
                waiter.set_result(True)
            else:
                tasks[0].cancel()
            for _ in range(5):
                await asyncio.sleep(0)
            told = [task.done() for task in tasks], semaphore._value, len(semaphore._waiters)
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            return told, [repr(result) for result in results], semaphore._value, len(semaphore._waiters)

        return loop.run_until_complete(main())

    as_asyncio(body)


def test_a_loop_given_by_hand(accelerate, as_asyncio, recwarn):
    """Up to 3.9: the semaphore is bound to it from the start."""

    def body(loop):
        other = asyncio.SelectorEventLoop()
        try:
            semaphore = asyncio.Semaphore(0, loop=other)
        except TypeError as error:
            other.close()
            return str(error)

        async def main():
            task = loop.create_task(semaphore.acquire())
            await asyncio.wait([task])
            return str(task.exception())[-30:]

        try:
            return loop.run_until_complete(main())
        finally:
            other.close()

    as_asyncio(body)
