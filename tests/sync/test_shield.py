"""asyncio.shield() and ensure_future(): what the bodies in C do as asyncio's code, and when that runs instead."""

import asyncio
import sys
import weakref

import pytest

pytestmark = pytest.mark.slow

WITH_AWAITED_BY = sys.version_info >= (3, 14)


async def returns(value=1):
    await asyncio.sleep(0)
    return value


async def raises():
    await asyncio.sleep(0)
    raise KeyError("of the program")


def test_they_are_in_c(accelerate, cloop):
    async def main():
        future = asyncio.get_running_loop().create_future()
        outer = asyncio.shield(future)
        (callback,) = [each for each, _ in future._callbacks if each.__name__ == "_inner_done_callback"]
        assert type(callback).__name__ == "SyncCallback"
        future.set_result(7)
        assert await outer == 7

    cloop.run(main())


@pytest.mark.parametrize("first", ["inner", "outer", "both", "neither"])
@pytest.mark.parametrize("make", [returns, raises, "future", "done", "gather", "subclass"])
def test_outcomes(accelerate, as_asyncio, make, first):
    """first: which one is cancelled after a turn."""

    def body(loop):
        class Sub(asyncio.Future):
            def add_done_callback(self, callback, **kwargs):
                notes.append(callback.__name__)
                return super().add_done_callback(callback, **kwargs)

        def argument():
            if make == "gather":
                return asyncio.gather(returns(), returns())
            if make == "subclass":
                return Sub(loop=loop)
            if make in ("future", "done"):
                future = loop.create_future()
                if make == "done":
                    future.set_result(1)
                return future
            return loop.create_task(make())

        async def main():
            inner = argument()
            outer = asyncio.shield(inner)
            notes.append(outer is inner)
            await asyncio.sleep(0)
            if first in ("inner", "both"):
                notes.append(inner.cancel())
            if first in ("outer", "both"):
                notes.append(outer.cancel())
            await asyncio.sleep(0.001)
            notes.append([name(each) for each, _ in inner._callbacks or []])
            if not inner.done():
                inner.set_result(2)
            await asyncio.sleep(0.001)
            for each in inner, outer:
                notes.append(
                    (each.done(), each.cancelled(), not each.cancelled() and each.done() and each._log_traceback)
                )
                if not each.cancelled():
                    notes.append(repr(each.exception() or each.result()))
            return notes

        def name(callback):
            return getattr(callback, "__name__", "partial")

        notes = []
        return loop.run_until_complete(main())

    as_asyncio(body)


def test_the_exception_of_one_given_up(accelerate, as_asyncio):
    """Since 3.14 it is reported, unless somebody has a look at it; before, it counts as seen."""

    def body(loop):
        async def main():
            inner = loop.create_future()
            outer = asyncio.shield(inner)
            outer.cancel()
            await asyncio.sleep(0)
            inner.set_exception(KeyError("late"))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            return reports

        reports = []
        loop.set_exception_handler(lambda _, context: reports.append((context["message"], repr(context["exception"]))))
        return loop.run_until_complete(main())

    as_asyncio(body)


def test_the_outer_one_done_by_somebody_else(accelerate, as_asyncio):
    def body(loop):
        async def main():
            inner = loop.create_future()
            outer = asyncio.shield(inner)
            inner.set_result(1)
            outer.set_result(2)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            return reports, outer.result()

        reports = []
        loop.set_exception_handler(lambda _, context: reports.append(type(context["exception"]).__name__))
        return loop.run_until_complete(main())

    as_asyncio(body)


def test_the_callbacks_look_like_asyncios(accelerate, cloop):
    async def main():
        inner = asyncio.get_running_loop().create_future()
        outer = asyncio.shield(inner)
        assert "shield.<locals>._inner_done_callback() at " in repr(inner)
        assert "shield.<locals>._outer_done_callback() at " in repr(outer)
        assert ("_clear_awaited_by_callback" in repr(inner)) == WITH_AWAITED_BY
        inner.set_result(None)
        await outer

    cloop.run(main())


@pytest.mark.skipif(not WITH_AWAITED_BY, reason="asyncio has no call graphs")
@pytest.mark.parametrize("cancelled", [False, True])
def test_awaited_by(accelerate, as_asyncio, cancelled):
    def body(loop):
        async def main():
            inner = loop.create_future()
            me = asyncio.current_task()
            outer = asyncio.shield(inner)
            seen = [inner._asyncio_awaited_by == {me}]
            if cancelled:
                outer.cancel()
            else:
                inner.set_result(None)
            await asyncio.sleep(0)
            return seen, inner._asyncio_awaited_by

        return loop.run_until_complete(main())

    as_asyncio(body)


def test_arguments_that_are_wrong(accelerate, as_asyncio):
    def body(loop):
        async def main():
            seen = []
            future = loop.create_future()
            future.set_result(3)
            for make in (
                lambda: asyncio.shield(),
                lambda: asyncio.shield(5),
                lambda: asyncio.shield(1, 2),
                lambda: asyncio.shield(arg=future),
                lambda: asyncio.ensure_future(5),
                lambda: asyncio.ensure_future(),
                lambda: asyncio.ensure_future(future, loop=other),
                lambda: asyncio.ensure_future(future, loop=loop),
                lambda: asyncio.ensure_future(future, 2),
            ):
                try:
                    seen.append(await make())
                except Exception as error:
                    seen.append((type(error).__name__, str(error)))
            return seen

        other = asyncio.SelectorEventLoop()
        try:
            return loop.run_until_complete(main())
        finally:
            other.close()

    as_asyncio(body)


def test_no_loop_runs(accelerate, as_asyncio):
    def body(loop):
        coro = returns()
        try:
            return str(asyncio.shield(coro))
        except RuntimeError as error:
            return str(error)
        finally:
            coro.close()

    if sys.version_info >= (3, 14):
        as_asyncio(body)


def test_ensure_future(accelerate, cloop):
    async def main():
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        assert asyncio.ensure_future(future) is future
        task = asyncio.ensure_future(returns(5))
        assert type(task) is cloop.Task and await task == 5
        assert await asyncio.ensure_future(asyncio.sleep(0, 6)) == 6
        made = []

        def factory(loop, coro, **kwargs):
            made.append(coro)
            return asyncio.Task(coro, loop=loop, **kwargs)

        loop.set_task_factory(factory)
        assert await asyncio.ensure_future(returns(7)) == 7
        assert await asyncio.shield(returns(8)) == 8
        assert len(made) == 2

    cloop.run(main())


def test_nothing_is_kept(accelerate, cloop, steady):
    class Value:
        pass

    async def main():
        inner = asyncio.get_running_loop().create_future()
        outer = asyncio.shield(inner)
        gone = weakref.ref(inner)
        value = Value()
        value_gone = weakref.ref(value)
        inner.set_result(value)
        del inner, value
        await outer
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert gone() is None
        del outer
        assert value_gone() is None

        async def once():
            await asyncio.shield(returns())
            inner = asyncio.ensure_future(returns())
            asyncio.shield(inner).cancel()
            await inner
            task = asyncio.shield(asyncio.get_running_loop().create_future())
            task.cancel()
            await asyncio.sleep(0)

        await steady(once)

    cloop.run(main())
