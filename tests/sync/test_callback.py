"""The callbacks that accelerated functions add to futures: called, shown and asked by a program."""

import asyncio
import sys

import pytest


def begin_gather(futures):
    return asyncio.gather(*futures)


def begin_shield(futures):
    return asyncio.shield(futures[0])


def begin_wait(futures):
    return asyncio.ensure_future(asyncio.wait(futures))


def begin_wait_for(futures):
    return asyncio.ensure_future(asyncio.wait_for(futures[0], 100))


def begin_as_completed(futures):
    async def each():
        for future in asyncio.as_completed(futures):
            await future

    return asyncio.ensure_future(each())


USES = [begin_gather, begin_shield, begin_wait, begin_wait_for, begin_as_completed]
CALLS = {
    "nothing": ((), {}),
    "two": ((1, 2), {}),
    "a keyword": ((), {"no_such": 1}),
    "no future": ((object(),), {}),
    "None": ((None,), {}),
}


@pytest.mark.parametrize("begin", USES)
@pytest.mark.parametrize("call", sorted(CALLS))
def test_called_by_the_program(accelerate, as_asyncio, begin, call):
    def body(loop):
        async def main():
            futures, seen = [loop.create_future() for _ in range(2)], []
            waiting = begin(futures)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            for callback, _ in futures[0]._callbacks:
                args, named = CALLS[call]
                if type(getattr(callback, "__self__", None)).__name__ == "Task":
                    continue  # a step of a task
                try:
                    seen.append(repr(callback(*args, **named)))
                except Exception:
                    seen.append("raised")
            for future in futures:
                future.done() or future.set_result(1)
            await asyncio.gather(waiting, return_exceptions=True)
            return seen

        return loop.run_until_complete(main())

    as_asyncio(body)


@pytest.mark.parametrize("begin", USES)
@pytest.mark.parametrize("other", ["done", "cancelled", "failed", "pending"])
def test_called_with_another_future(accelerate, as_asyncio, begin, other):
    def body(loop):
        reports = []
        loop.set_exception_handler(lambda loop, context: reports.append(context["message"]))

        async def main():
            futures, seen, future = [loop.create_future() for _ in range(2)], [], loop.create_future()
            waiting = begin(futures)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            if other == "done":
                future.set_result(7)
            elif other == "failed":
                future.set_exception(KeyError("other"))
            elif other == "cancelled":
                future.cancel()
            for callback, _ in list(futures[0]._callbacks):
                if type(getattr(callback, "__self__", None)).__name__ == "Task":
                    continue
                try:
                    seen.append(repr(callback(future)))
                except Exception as error:
                    seen.append(type(error).__name__)
            for each in futures:
                each.done() or each.set_result(1)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            waiting.cancel()
            seen.append([repr(each) for each in await asyncio.gather(waiting, return_exceptions=True)])
            future.cancel()
            return seen

        return loop.run_until_complete(main()), reports

    as_asyncio(body)


@pytest.mark.skipif(sys.version_info < (3, 9), reason="asyncio's closures have other names")
@pytest.mark.parametrize("begin", [use for use in USES if use is not begin_wait_for])  # whose partial() has none
def test_names(accelerate, as_asyncio, begin):
    def body(loop):
        async def main():
            futures = [loop.create_future() for _ in range(2)]
            waiting = begin(futures)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            names = [
                (getattr(callback, "__name__", None), getattr(callback, "__qualname__", None))
                for callback, _ in futures[0]._callbacks
            ]
            for future in futures:
                future.set_result(1)
            await asyncio.gather(waiting)
            return names

        return loop.run_until_complete(main())

    as_asyncio(body)
