"""asyncio.timeout(): whose task it cancels."""

import asyncio
import sys

import pytest

FACTORIES = {
    "eager": lambda: asyncio.eager_task_factory,
    "eager, of asyncio's class": lambda: asyncio.create_eager_task_factory(asyncio.Task),
}


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came in Python 3.12")
@pytest.mark.parametrize("way", ["timeout", "wait_for"])
@pytest.mark.parametrize("factory", sorted(FACTORIES))
def test_of_a_task_that_starts_within_the_step_of_another(accelerate, as_asyncio, factory, way):
    def body(loop):
        async def with_timeout():
            async with asyncio.timeout(60) as timeout:
                timeout.reschedule(0)
                await loop.create_future()

        async def with_wait_for():
            await asyncio.wait_for(loop.create_future(), 0.001)

        async def main():
            loop.set_task_factory(FACTORIES[factory]())
            task = loop.create_task(with_timeout() if way == "timeout" else with_wait_for())
            await asyncio.wait([task])
            return task, asyncio.current_task()

        task, parent = loop.run_until_complete(main())
        return repr(task.exception()), task.cancelling(), parent.cancelling()

    assert as_asyncio(body)["result"] == ("TimeoutError()", 0, 0)
