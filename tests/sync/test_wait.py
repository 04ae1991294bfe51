"""asyncio.wait(): what the body in C does as asyncio's code, and when that runs instead."""

import asyncio
import gc
import inspect
import re
import sys
import weakref

import pytest


class Text(str):
    """Equal to what it is, and still not what asyncio has in mind."""

    def __eq__(self, other):
        return False

    __hash__ = str.__hash__


def test_it_is_in_c(accelerate, cloop):
    async def main():
        coro = asyncio.wait([asyncio.ensure_future(asyncio.sleep(0))])
        assert not inspect.iscoroutine(coro)
        done, pending = await coro
        assert len(done) == 1 and not pending

    cloop.run(main())


@pytest.mark.parametrize("return_when", ["ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION"])
@pytest.mark.parametrize("timeout", [None, 0, 0.001, -1])
def test_results(accelerate, as_asyncio, return_when, timeout):
    def body(loop):
        async def main():
            kinds = ["result", "error", "cancelled", "pending", "done"]
            futures = [loop.create_future() for _ in kinds]
            futures[4].set_result(4)
            loop.call_soon(futures[0].set_result, 0)
            loop.call_soon(lambda: loop.call_soon(futures[1].set_exception, KeyError()))
            loop.call_soon(futures[2].cancel)
            limit = timeout if timeout is not None or return_when != "ALL_COMPLETED" else 0.001
            done, pending = await asyncio.wait(futures, timeout=limit, return_when=return_when)
            assert type(done) is type(pending) is set and futures[3] in pending
            callbacks = [future._callbacks for future in futures]
            seen = [futures[1].exception() if futures[1].done() else None]
            return [kind for kind, future in zip(kinds, futures) if future in done], callbacks, repr(seen)

        return loop.run_until_complete(main())

    as_asyncio(body)


def test_arguments_that_are_wrong(accelerate, as_asyncio):
    def body(loop):
        async def main():
            seen = []
            future = loop.create_future()
            future.set_result(None)

            async def nothing():
                pass

            coro = nothing()
            for make in (
                lambda: asyncio.wait(),
                lambda: asyncio.wait([]),
                lambda: asyncio.wait(future),
                lambda: asyncio.wait([future], return_when=-1),
                lambda: asyncio.wait([future], return_when="FIRST"),
                lambda: asyncio.wait([future], return_when=Text("FIRST_COMPLETED")),
                lambda: asyncio.wait([future], timeout="x"),
                lambda: asyncio.wait([future], wrong=1),
                lambda: asyncio.wait([future, 5]),
                lambda: asyncio.wait(coro),
            ):
                try:
                    await make()
                except Exception as error:
                    seen.append((type(error).__name__, str(error)))
            coro.close()
            return seen

        return loop.run_until_complete(main())

    as_asyncio(body)


@pytest.mark.parametrize("kind", [set, frozenset, list, tuple, dict.fromkeys, iter], ids=lambda kind: kind.__name__)
def test_kinds_of_collections(accelerate, as_asyncio, kind):
    def body(loop):
        async def main():
            tasks = [loop.create_task(asyncio.sleep(0, 1)), loop.create_task(asyncio.sleep(0, 2))]
            seen = []
            for of in [], tasks:
                try:
                    done, pending = await asyncio.wait(kind(of))
                    seen.append((sorted(task.result() for task in done), len(pending)))
                except Exception as error:
                    seen.append(repr(error))
            await asyncio.gather(*tasks)
            return re.sub("<[^>]*>", "", str(seen))

        return loop.run_until_complete(main())

    as_asyncio(body)


@pytest.mark.parametrize("kind", ["subclass", "asyncio's", "gathering", "iterator"])
def test_futures_that_are_not_ours_are_up_to_asyncio(accelerate, as_asyncio, kind):
    def body(loop):
        class Sub(asyncio.Future):
            def add_done_callback(self, callback, **kwargs):
                added.append(callback.__qualname__)
                return super().add_done_callback(callback, **kwargs)

        async def main():
            future = Sub(loop=loop) if kind == "subclass" else asyncio.Future(loop=loop)
            loop.call_soon(future.set_result, 1)
            waited = [asyncio.gather(future) if kind == "gathering" else future]
            done, _ = await asyncio.wait(iter(waited) if kind == "iterator" else waited)
            return [each.result() for each in done], added

        added = []
        return loop.run_until_complete(main())

    as_asyncio(body)


def test_the_callback_looks_like_asyncios(accelerate, cloop):
    async def main():
        future = asyncio.get_running_loop().create_future()
        task = asyncio.ensure_future(asyncio.wait([future]))
        await asyncio.sleep(0)
        shown = repr(future)
        assert "cb=[_wait.<locals>._on_completion() at " in shown and "tasks.py:" in shown
        future.set_result(None)
        await task

    cloop.run(main())


@pytest.mark.parametrize("how", ["cancel", "close", "free", "throw"])
def test_one_that_ends_early_leaves_nothing(accelerate, cloop, how):
    async def main():
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        coro = asyncio.wait([future], timeout=60)
        if how == "cancel":
            task = asyncio.ensure_future(coro)
            await asyncio.sleep(0)
            assert future._callbacks and len(loop._scheduled) == 1
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        else:
            coro.send(None)
            assert future._callbacks
            if how == "close":
                coro.close()
            elif how == "throw":
                with pytest.raises(KeyError):
                    coro.throw(KeyError())
            del coro
        assert not future._callbacks
        assert all(timer.cancelled() for timer in loop._scheduled)
        assert not future.cancelled()

    cloop.run(main())


def test_cancelled_after_the_wake_up(accelerate, as_asyncio):
    def body(loop):
        async def main():
            future = loop.create_future()
            task = loop.create_task(asyncio.wait([future]))
            await asyncio.sleep(0)
            future.set_result(None)
            await asyncio.sleep(0)  # _on_completion() wakes it
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            return task.cancelled(), future._callbacks

        return loop.run_until_complete(main())

    as_asyncio(body)


def test_the_argument_is_not_kept(accelerate, cloop):
    async def main():
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        futures = [future]
        coro = asyncio.wait(futures)
        before = sys.getrefcount(futures)
        task = asyncio.ensure_future(coro)
        await asyncio.sleep(0)
        assert sys.getrefcount(futures) == before - 1  # `fs` is a set now
        future.set_result(None)
        gone = weakref.ref(future)
        del future, futures
        await task
        del task, coro
        await asyncio.sleep(0)  # this step holds the task
        gc.collect()
        assert gone() is None

    cloop.run(main())


def test_no_reference_is_lost_or_kept(accelerate, cloop, steady):
    async def main():
        loop = asyncio.get_running_loop()

        async def once():
            futures = [loop.create_future() for _ in range(3)]
            loop.call_soon(futures[0].set_result, None)
            await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED, timeout=5)
            await asyncio.wait(futures, timeout=0)
            task = asyncio.ensure_future(asyncio.wait(futures[1:]))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        await steady(once)

    cloop.run(main())


@pytest.mark.parametrize("when", [asyncio.ALL_COMPLETED, asyncio.FIRST_COMPLETED, asyncio.FIRST_EXCEPTION])
def test_what_it_is_shown_as(accelerate, as_asyncio, when):
    def body(loop):
        async def main():
            future = loop.create_future()
            task = loop.create_task(asyncio.wait([future], return_when=when))
            await asyncio.sleep(0)
            shown = [frame.f_code.co_name for frame in task.get_stack()]
            future.set_result(None)
            await task
            return shown

        return loop.run_until_complete(main())

    assert as_asyncio(body)["result"] == ["wait"]
