"""asyncio.as_completed(): what the body in C does as asyncio's code, and when that runs instead."""

import asyncio
import functools
import gc
import inspect
import sys
import warnings
import weakref

import pytest

AS_ITERATOR = sys.version_info >= (3, 13)


async def returns(value, turns=1):
    for _ in range(turns):
        await asyncio.sleep(0)
    return value


async def raises():
    await asyncio.sleep(0)
    raise KeyError("of the program")


async def collect(iterator):
    seen = []
    for each in iterator:
        try:
            seen.append(await each)
        except Exception as error:
            seen.append(repr(error))
    return seen


def test_it_is_in_c(accelerate, cloop):
    async def main():
        iterator = asyncio.as_completed([returns(1)])
        assert AS_ITERATOR or inspect.isgenerator(iterator)
        native = iterator if AS_ITERATOR else iterator.gi_frame.f_locals["iterator"]
        assert type(native).__name__ == "AsCompleted" and iter(iterator) is iterator
        assert not hasattr(iterator, "close") or not AS_ITERATOR
        each = next(iterator)
        assert not inspect.iscoroutine(each) and asyncio.iscoroutine(each)
        assert await each == 1
        with pytest.raises(StopIteration):
            next(iterator)

    cloop.run(main())


@pytest.mark.parametrize("kind", [list, tuple, set, frozenset, iter, "dict", "generator"])
def test_what_it_takes(accelerate, as_asyncio, kind):
    def body(loop):
        async def main():
            coros = [returns(number, number) for number in range(1, 4)]
            if kind == "dict":
                given = dict.fromkeys(coros)
            elif kind == "generator":
                given = (coro for coro in coros)
            else:
                given = kind(coros)
            try:
                return await collect(asyncio.as_completed(given))
            except TypeError as error:
                for coro in coros:
                    coro.close()
                return str(error)

        return loop.run_until_complete(main())

    as_asyncio(body)


def test_item_that_another_loop_waits_for(accelerate, as_asyncio):
    def body(loop):
        async def wait(item):
            return await item

        async def begin():
            futures = [loop.create_future() for _ in range(2)]
            items = iter(asyncio.as_completed(futures))
            first, second = next(items), next(items)
            waiting = loop.create_task(wait(first))
            await asyncio.sleep(0)
            return futures, second, waiting

        futures, second, waiting = loop.run_until_complete(begin())
        other = type(loop)()
        try:
            other.run_until_complete(wait(second))
        except Exception as error:
            told = type(error).__name__, "different" in str(error)
        finally:
            other.close()
        futures[1].set_result("done")
        return told, loop.run_until_complete(waiting), futures[0].cancel()

    assert as_asyncio(body)["result"][0] == ("RuntimeError", True)


def test_what_waits_for_an_item_fails_to_say_whether_it_is_done(accelerate, as_asyncio):
    """A future of the program's own, since as_completed() was called."""

    def body(loop):
        reports = []
        loop.set_exception_handler(lambda loop, context: reports.append(type(context["exception"]).__name__))

        class Unsure(asyncio.Future):
            unsure = True

            def done(self):
                if self.unsure:
                    raise LookupError
                return super().done()

        async def wait(item):
            return await item

        async def main():
            futures = [loop.create_future() for _ in range(2)]
            items = iter(asyncio.as_completed(futures))
            first, second = next(items), next(items)
            loop.create_future = lambda: Unsure(loop=loop)
            tasks = [loop.create_task(wait(first))]
            await asyncio.sleep(0)
            del loop.create_future
            tasks.append(loop.create_task(wait(second)))
            for number, future in enumerate(futures):
                future.set_result(number)
            for _ in range(5):
                await asyncio.sleep(0)
            done = [task.done() for task in tasks]
            Unsure.unsure = False
            for task in tasks:
                task.cancel()
            return done, [repr(each) for each in await asyncio.gather(*tasks, return_exceptions=True)]

        return loop.run_until_complete(main()), reports

    assert as_asyncio(body)["result"][1] == ["LookupError"]


def test_outcomes(accelerate, as_asyncio):
    def body(loop):
        async def main():
            done, failed, cancelled, twice = [loop.create_future() for _ in range(4)]
            for turns, act in (
                (5, lambda: done.set_result("done")),
                (10, lambda: failed.set_exception(ValueError("failed"))),
                (15, cancelled.cancel),
                (20, lambda: twice.set_result("twice")),
            ):
                for _ in range(turns):
                    act = functools.partial(loop.call_soon, act)
                act()
            seen = []
            for each in asyncio.as_completed([done, failed, cancelled, twice, twice, raises()]):
                try:
                    seen.append(await each)
                except BaseException as error:
                    seen.append(repr(error))
            return seen, [future._callbacks for future in (done, failed, cancelled, twice)]

        return loop.run_until_complete(main())

    as_asyncio(body)


def test_callback_that_is_called_with_another_future(accelerate, as_asyncio):
    def body(loop):
        async def main():
            future, other = loop.create_future(), loop.create_future()
            iterator = asyncio.as_completed([future])
            first = next(iterator)
            waits = loop.create_task(first)
            await asyncio.sleep(0)
            ((callback, _),) = future._callbacks
            with pytest.raises(KeyError) as caught:
                callback(other)
            future.set_result("result")
            return await waits, caught.value.args[0] is other

        return loop.run_until_complete(main())

    assert as_asyncio(body)["result"] == ("result", True)


@pytest.mark.parametrize("timeout", [None, 0, -1, 0.002])
def test_timeouts(accelerate, as_asyncio, timeout):
    def body(loop):
        async def main():
            futures = [loop.create_future() for _ in range(3)]
            if timeout == 0.002:
                futures[0].set_result(0)  # the timer cannot be first, however slow the machine is
            else:
                loop.call_soon(loop.call_soon, loop.call_soon, futures[0].set_result, 0)
            if timeout is None:
                futures[0].add_done_callback(lambda _: futures[1].set_result(1))
                futures[1].add_done_callback(lambda _: futures[2].set_result(2))
            seen = await collect(asyncio.as_completed(futures, timeout=timeout))
            if timeout is not None and timeout <= 0:
                seen = sorted(map(str, seen))
            return (
                seen,
                [future._callbacks for future in futures],
                sum(not each.cancelled() for each in loop._scheduled),
            )

        return loop.run_until_complete(main())

    as_asyncio(body)


def test_one_that_is_done_in_the_turn_of_the_timeout(accelerate, as_asyncio):
    """Its callback is on its way already, and finds that nothing is wanted any more."""

    def body(loop):
        reports = []
        loop.set_exception_handler(lambda loop, context: reports.append(repr(context["exception"])))

        async def main():
            future = loop.create_future()
            items = iter(asyncio.as_completed([future], timeout=0.01))
            item = next(items)
            due = loop.time() + 0.02

            def until_due():
                loop.call_soon(future.set_result, 1)  # before the timer, in the next turn
                while loop.time() < due:
                    pass

            loop.call_soon(until_due)
            return await collect([item]), future._callbacks

        return loop.run_until_complete(main()), reports

    assert as_asyncio(body)["result"] == ((["TimeoutError()"], None), [])


@pytest.mark.skipif(not AS_ITERATOR, reason="it has no arguments before")
def test_an_item_is_a_result_as_its_frame_shows(accelerate, as_asyncio):
    def body(loop):
        async def main():
            future = loop.create_future()
            item = next(iter(asyncio.as_completed([future])))
            shown = item.cr_frame.f_locals["resolve"]
            future.set_result(1)
            return shown, await item

        return loop.run_until_complete(main())

    assert as_asyncio(body)["result"] == (True, 1)


def test_effects_come_with_the_first_step_before_3_13(accelerate, as_asyncio):
    def body(loop):
        async def main():
            future = loop.create_future()
            iterator = asyncio.as_completed([future], timeout=60)
            seen = [bool(future._callbacks), len(loop._scheduled)]
            each = next(iterator)
            seen += [bool(future._callbacks), len(loop._scheduled)]
            future.set_result(1)
            return seen, await each

        return loop.run_until_complete(main())

    as_asyncio(body)


def test_coroutines_are_awaited_in_any_order_and_cancelled(accelerate, as_asyncio):
    def body(loop):
        async def main():
            futures = [loop.create_future() for _ in range(3)]
            tasks = [loop.create_task(wait(each)) for each in asyncio.as_completed(futures)]
            await asyncio.sleep(0)
            futures[0].set_result(0)
            await asyncio.sleep(0)  # it has woken the first
            tasks[0].cancel()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            futures[1].set_result(1)
            futures[2].set_result(2)
            await asyncio.sleep(0.001)
            return [task.cancelled() or task.done() and task.result() for task in tasks]

        async def wait(each):
            return await each

        return loop.run_until_complete(main())

    as_asyncio(body)


@pytest.mark.skipif(not AS_ITERATOR, reason="it is a generator before")
def test_asynchronous(accelerate, as_asyncio):
    def body(loop):
        async def main():
            seen, futures = [], [loop.create_future() for _ in range(2)]
            loop.call_soon(loop.call_soon, loop.call_soon, futures[1].set_result, 1)
            futures[1].add_done_callback(lambda _: futures[0].set_exception(KeyError()))
            async for each in asyncio.as_completed(futures):
                seen.append(futures.index(each))
            futures[0].exception()
            try:
                async for _ in asyncio.as_completed([loop.create_future()], timeout=0.001):
                    pass
            except TimeoutError as error:
                seen.append(repr(error))
            iterator = asyncio.as_completed(futures)
            first = iterator.__anext__()
            seen.append((first.__name__, first.__qualname__))
            await first
            next(iterator).close()
            with pytest.raises(StopAsyncIteration):
                await iterator.__anext__()
            return seen

        return loop.run_until_complete(main())

    as_asyncio(body)


@pytest.mark.skipif(AS_ITERATOR, reason="it is no generator")
def test_no_asynchronous_iterator(accelerate, cloop):
    async def main():
        with pytest.raises(TypeError, match="'async for' requires an object with __aiter__ method"):
            async for _ in asyncio.as_completed([]):
                pass

    cloop.run(main())


def at(generator):
    """Where a generator is."""
    frame = generator.gi_frame
    return inspect.getgeneratorstate(generator), frame and (frame.f_code.co_filename, frame.f_lineno)


OF_GENERATORS = {
    "next": next,
    "send None": lambda generator: generator.send(None),
    "send": lambda generator: generator.send(5),
    "throw": lambda generator: generator.throw(KeyError("thrown")),
    "throw a class": lambda generator: generator.throw(KeyError),
    "throw no exception": lambda generator: generator.throw("x"),
    "throw GeneratorExit": lambda generator: generator.throw(GeneratorExit),
    "close": lambda generator: generator.close(),
}


@pytest.mark.skipif(AS_ITERATOR, reason="it is no generator")
@pytest.mark.parametrize("asyncios", [False, True], ids=["", "asyncio's runs"])
@pytest.mark.parametrize("first", list(OF_GENERATORS))
def test_generator(accelerate, as_asyncio, first, asyncios):
    def body(loop):
        async def main():
            seen = []
            for second in OF_GENERATORS:
                future = asyncio.futures._PyFuture(loop=loop) if asyncios else loop.create_future()
                generator = asyncio.as_completed([future, loop.create_future()])
                seen += [generator.__name__, generator.__qualname__, repr(generator), at(generator), second]
                for act in first, second, "next", "next":
                    try:
                        each = OF_GENERATORS[act](generator)
                        seen.append(type(each) if each is None else each.__name__)
                        if each is not None:
                            each.close()
                    except BaseException as error:
                        seen.append(repr(error))
                    seen.append(at(generator))
                seen.append(
                    (asyncio.iscoroutine(generator), inspect.isgenerator(generator), hasattr(generator, "__aiter__"))
                )
            return seen

        return loop.run_until_complete(main())

    as_asyncio(body)


@pytest.mark.skipif(AS_ITERATOR, reason="it is no generator")
def test_a_generator_that_fails_to_begin_is_at_its_end(accelerate, as_asyncio):
    def body(loop):
        async def main():
            generator = asyncio.as_completed(5)
            with pytest.raises(TypeError):
                next(generator)
            return inspect.getgeneratorstate(generator), list(generator)

        return loop.run_until_complete(main())

    as_asyncio(body)


def test_closed(accelerate, cloop):
    async def main():
        for begun in False, True:
            future = asyncio.get_running_loop().create_future()
            iterator = asyncio.as_completed([future, asyncio.get_running_loop().create_future()])
            each = next(iterator) if begun else None
            if hasattr(iterator, "close"):
                iterator.close()
                assert list(iterator) == []
            future.set_result(3)
            assert each is None or await each == 3

    cloop.run(main())


def test_arguments_that_are_wrong(accelerate, as_asyncio):
    def body(loop):
        async def main():
            seen, coro = [], returns(1)
            for make in (
                lambda: asyncio.as_completed(),
                lambda: asyncio.as_completed(coro),
                lambda: asyncio.as_completed(loop.create_future()),
                lambda: asyncio.as_completed(5),
                lambda: asyncio.as_completed([5]),
                lambda: asyncio.as_completed([], timeout="x"),
                lambda: asyncio.as_completed([loop.create_future()], timeout="x"),
                lambda: asyncio.as_completed([], wrong=1),
            ):
                try:
                    seen.append(list(make()))
                except Exception as error:
                    seen.append((type(error).__name__, str(error)))
            coro.close()
            return seen

        return loop.run_until_complete(main())

    as_asyncio(body)


def test_names(accelerate, as_asyncio):
    def body(loop):
        async def main():
            future = loop.create_future()
            each = next(iter(asyncio.as_completed([future])))
            names = each.__name__, each.__qualname__
            shown = repr(future).split(" at ")[0].split(" of ")[0]
            each.close()
            return names, shown

        return loop.run_until_complete(main())

    as_asyncio(body)


def frame_of(coro):
    frame = coro.cr_frame
    return frame and (frame.f_code.co_name, frame.f_code.co_filename, frame.f_lineno, coro.cr_code.co_firstlineno)


def test_frames(accelerate, as_asyncio):
    def body(loop):
        async def main(asynchronous):
            future = loop.create_future()
            iterator = asyncio.as_completed([future])
            each = iterator.__anext__() if asynchronous else next(iter(iterator))
            places = [frame_of(each)]
            task = loop.create_task(each)
            await asyncio.sleep(0)
            places += [frame_of(each), len(task.get_stack()), each.cr_await is not None]
            future.set_result(1)
            await task
            return places + [frame_of(each)]

        return [loop.run_until_complete(main(asynchronous)) for asynchronous in [False, True][: 1 + AS_ITERATOR]]

    as_asyncio(body)


def test_debug_mode_between_the_call_and_the_first_step(accelerate, as_asyncio):
    def body(loop):
        async def main():
            iterator = asyncio.as_completed([returns(1), returns(2, 5)], timeout=60)
            loop.set_debug(True)
            return await collect(iterator)

        return loop.run_until_complete(main())

    as_asyncio(body)


def test_never_awaited(accelerate, cloop):
    async def main():
        future = asyncio.get_running_loop().create_future()
        with pytest.warns(RuntimeWarning, match="_wait_for_one' was never awaited"):
            list(asyncio.as_completed([future]))

    cloop.run(main())


def test_nothing_is_kept(accelerate, cloop, steady):
    class Value:
        pass

    async def main():
        value = Value()
        gone = weakref.ref(value)
        for each in asyncio.as_completed([returns(value)]):
            del value
            value = await each
        del each
        await asyncio.sleep(0)
        assert value is gone()
        del value
        gc.collect()
        assert gone() is None

        async def once():
            loop = asyncio.get_running_loop()
            await collect(asyncio.as_completed([returns(1), raises()]))
            await collect(asyncio.as_completed([loop.create_future(), returns(1)], timeout=0.0001))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                list(asyncio.as_completed([loop.create_future()]))

        await steady(once)

    cloop.run(main())


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="it is no generator")
def test_closed_after_asyncios_code_has_begun(accelerate, as_asyncio):
    """As the futures are not ours."""

    def body(loop):
        async def main():
            iterator = asyncio.as_completed([asyncio.futures._PyFuture(loop=loop) for _ in range(2)])
            next(iterator).close()
            iterator.close()
            return list(iterator)

        return loop.run_until_complete(main())

    assert as_asyncio(body)["result"] == []


@pytest.mark.skipif(AS_ITERATOR, reason="it is no generator")
@pytest.mark.parametrize("kind", ["list", "dict"])
@pytest.mark.parametrize("step", ["next", "close"])
def test_used_within_its_first_step(accelerate, as_asyncio, kind, step):
    """By the items of the program, when they are hashed and compared."""

    def body(loop):
        async def main():
            iterator, seen = None, []

            def use():
                if iterator is not None:
                    try:
                        seen.append(next(iterator) if step == "next" else iterator.close())
                    except Exception as error:
                        seen.append(repr(error))

            class Item:
                def __await__(self):
                    return returns(1).__await__()

                def __hash__(self):
                    use()
                    return 1

                def __eq__(self, other):
                    use()
                    return self is other

            iterator = asyncio.as_completed([Item(), Item()] if kind == "list" else {Item(): 1, Item(): 2})
            try:
                for each in iterator:
                    seen.append(await each)
            except Exception as error:
                seen.append(repr(error))
            return seen

        return loop.run_until_complete(main())

    assert "ValueError('generator already executing')" in as_asyncio(body)["result"]
