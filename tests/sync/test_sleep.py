"""asyncio.sleep(): what happens to its future and its timer, in C and in asyncio's code."""

import asyncio
import time

import pytest


@pytest.mark.parametrize("how", ["result", "exception", "cancelled"])
def test_somebody_else_ended_its_future_in_the_turn_of_its_timer(accelerate, as_asyncio, how):
    """The timer finds a future that is done, which only a cancellation excuses."""

    def body(loop):
        reports = []
        loop.set_exception_handler(lambda loop, context: reports.append(repr(context["exception"])))

        def end(future):
            if how == "result":
                future.set_result("other")
            elif how == "exception":
                future.set_exception(KeyError("other"))
            else:
                future.cancel()

        async def main():
            now = loop.time()
            task = loop.create_task(asyncio.sleep(0.05, "own"))
            await asyncio.sleep(0)
            loop.call_at(now, end, task._fut_waiter)
            while loop.time() < now + 0.06:
                time.sleep(0.001)
            await asyncio.wait([task])
            await asyncio.sleep(0)
            return "cancelled" if task.cancelled() else repr(task.exception() or task.result())

        return loop.run_until_complete(main()), reports

    reports = as_asyncio(body)["result"][1]
    assert len(reports) == (how != "cancelled")


@pytest.mark.parametrize("delay", [0.0, -0.5, -1, -1.0, float("inf"), float("-inf"), 10**400, True, "1", None, 1j])
def test_delays(accelerate, as_asyncio, delay):
    def body(loop):
        async def main():
            task = loop.create_task(asyncio.sleep(delay, "slept"))
            for _ in range(3):
                await asyncio.sleep(0)
            if not task.done():
                task.cancel()
            return [type(each).__name__ for each in await asyncio.gather(task, return_exceptions=True)]

        return loop.run_until_complete(main())

    as_asyncio(body)


@pytest.mark.parametrize("args, named", [((), {}), ((1, 2, 3, 4), {}), ((0,), {"other": 1}), ((0,), {"result": 3})])
def test_calls(accelerate, as_asyncio, args, named):
    def body(loop):
        async def main():
            return await asyncio.sleep(*args, **named)

        return loop.run_until_complete(main())

    as_asyncio(body)
