"""Methods of asyncio.Future that are called by the class's name, on a future that a task waits for."""

import asyncio

import pytest

CALLS = {
    "set_result": lambda future: asyncio.Future.set_result(future, 1),
    "set_exception": lambda future: asyncio.Future.set_exception(future, KeyError(2)),
    "cancel": lambda future: asyncio.Future.cancel(future),
}


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("name", sorted(CALLS))
def test_the_task_goes_on(as_asyncio, name, debug):
    def body(loop):
        seen = []

        async def waits(future):
            try:
                seen.append(await future)
            except BaseException as error:
                seen.append(repr(error))
                raise

        async def main():
            future = loop.create_future()
            task = loop.create_task(waits(future))
            await asyncio.sleep(0)
            CALLS[name](future)
            await asyncio.wait([task])
            return repr(task.cancelled() or task.exception()), future.cancelled()

        loop.set_debug(debug)
        return loop.run_until_complete(main()), seen

    as_asyncio(body)


@pytest.mark.parametrize("debug", [False, True])
def test_a_task_given_as_a_callback(as_asyncio, debug):
    """It cannot be called: in debug mode call_soon() says so, otherwise the exception handler is told."""

    def body(loop):
        reports = []
        loop.set_exception_handler(lambda loop, context: reports.append(type(context["exception"]).__name__))

        async def nothing():
            pass

        async def main():
            task = loop.create_task(nothing())
            try:
                loop.call_soon(task, loop.create_future())
            except TypeError:
                reports.append("refused")
            await task
            await asyncio.sleep(0)

        loop.set_debug(debug)
        loop.run_until_complete(main())
        return reports

    as_asyncio(body)
