"""asyncio.wait_for(): what the body in C does as asyncio's code, and when that runs instead."""

import asyncio
import gc
import inspect
import sys
import warnings

import pytest

pytestmark = pytest.mark.slow

WITH_TIMEOUT = sys.version_info >= (3, 12)


def chain(error):
    """Describe an exception with its causes and contexts."""
    if error is None:
        return None
    return (
        type(error).__name__,
        str(error),
        chain(error.__cause__),
        chain(error.__context__),
        error.__suppress_context__,
    )


def test_it_is_in_c(accelerate, cloop):
    async def main():
        coro = asyncio.wait_for(asyncio.sleep(0, 5), 60)
        assert not inspect.iscoroutine(coro)
        assert await coro == 5

    cloop.run(main())


class Awaitable:
    def __await__(self):
        yield from asyncio.sleep(0).__await__()
        return "awaited"


async def returns():
    await asyncio.sleep(0)
    return "result"


async def at_once():
    return "at once"


async def raises():
    await asyncio.sleep(0)
    raise KeyError("of the program")


async def raises_another():
    await asyncio.sleep(0)
    try:
        raise ValueError("of before")
    except ValueError:
        raise KeyError("of the program")  # noqa: B904


async def hangs():
    await asyncio.Event().wait()


async def refuses():
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        await asyncio.sleep(0)
        return "refused"


async def replaces():
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        raise KeyError("instead")  # noqa: B904


MAKERS = {
    "returns": returns,
    "at once": at_once,
    "raises": raises,
    "raises another": raises_another,
    "hangs": hangs,
    "refuses": refuses,
    "replaces": replaces,
    "sleep": lambda: asyncio.sleep(0, "slept"),
    "event": lambda: asyncio.Event().wait(),
    "lock": lambda: asyncio.Lock().acquire(),
    "nested": lambda: asyncio.wait_for(returns(), 5),
    "nested, hangs": lambda: asyncio.wait_for(hangs(), 5),
    "task": lambda: asyncio.ensure_future(hangs()),
    "done": lambda: done_future(),
    "failed": lambda: done_future(ValueError("failed")),
    "gather": lambda: asyncio.gather(returns(), at_once()),
    "gather, hangs": lambda: asyncio.gather(hangs(), at_once()),
    "awaitable": Awaitable,
    "nothing": lambda: 5,
}


def done_future(error=None):
    future = asyncio.get_running_loop().create_future()
    if error is None:
        future.set_result("done")
    else:
        future.set_exception(error)
    return future


def result_of(task):
    try:
        return task.result()
    except BaseException as error:  # CancelledError
        return chain(error)


@pytest.mark.parametrize("make", sorted(MAKERS))
def test_outcomes(accelerate, as_asyncio, make):
    def body(loop):
        async def waits(timeout):
            try:
                return await asyncio.wait_for(MAKERS[make](), timeout)
            finally:
                notes.append("end")

        def one(timeout, turns):
            """Cancelled after so many turns."""
            notes.append((timeout, turns))
            task = loop.create_task(waits(timeout))
            for number in range(20):
                if number == turns:
                    notes.append(task.cancel())
                turn()
            notes.append(result_of(task))
            notes.append(getattr(task, "cancelling", int)())
            notes.append(sum(not timer.cancelled() for timer in loop._scheduled))

        def turn():
            clock.append(None)
            loop.call_soon(loop.stop)
            loop.run_forever()

        def run():
            for timeout in None, 0, -1, 4, 1000, float("inf"):
                for turns in 0, 1, 2, 15:
                    one(timeout, turns)

        notes, reports, clock = [], [], []
        loop.time = lambda: len(clock)
        loop.set_exception_handler(lambda _, context: reports.append(context["message"]))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            run()
            gc.collect()
        return notes + sorted(reports)  # some come from the collector

    as_asyncio(body)


@pytest.mark.parametrize("expires", [False, True])
def test_cancelled_again_while_it_cancels(accelerate, as_asyncio, expires):
    def body(loop):
        async def stubborn():
            while len(cancelled) < 3:
                try:
                    await loop.create_future()
                except asyncio.CancelledError as error:
                    cancelled.append(repr(error))
            return "stubborn"

        async def main():
            inner = loop.create_task(stubborn())
            task = loop.create_task(asyncio.wait_for(inner, 0.001 if expires else 60))
            await asyncio.sleep(0)
            while expires and not cancelled:
                await asyncio.sleep(0.001)
            while not inner.done():
                (inner if task.done() else task).cancel()
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            results = await asyncio.gather(task, inner, return_exceptions=True)
            return [chain(each) if isinstance(each, BaseException) else each for each in results], inner._callbacks

        cancelled = []
        return loop.run_until_complete(main()), cancelled

    as_asyncio(body)


@pytest.mark.skipif(not WITH_TIMEOUT, reason="each wait_for() has a task of its own")
def test_nested_deeply(cloop, script):
    # Up to 3.13 coroutines that were not begun are freed within one another.
    depth = 300000 if sys.version_info >= (3, 14) else 30000
    printed = script(
        """
        import sys, warnings

        if new_loop is not asyncio.SelectorEventLoop:
            import cloop
            cloop.accelerate()

        async def main():
            inner = asyncio.sleep(0)
            for _ in range(int(sys.argv[1])):
                inner = asyncio.wait_for(inner, 60)
            try:
                await inner
            except RecursionError:
                print("too deep")

        warnings.simplefilter("ignore")
        loop = new_loop()
        loop.run_until_complete(main())
        loop.close()
        """,
        depth,
    )
    assert printed == "too deep\n"


def test_nested_deeply_and_dropped(script, loop_kind):
    if loop_kind == "asyncio" and (3, 11) <= sys.version_info < (3, 14):
        pytest.skip("coroutines that were not begun are freed within one another, until the stack ends")
    printed = script(
        """
        import warnings

        if new_loop is not asyncio.SelectorEventLoop:
            import cloop
            cloop.accelerate()

        async def main():
            inner = asyncio.sleep(0)
            for _ in range(300000):
                inner = asyncio.wait_for(inner, 60)
            del inner
            print("dropped")

        warnings.simplefilter("ignore")
        loop = new_loop()
        loop.run_until_complete(main())
        loop.close()
        """
    )
    assert printed == "dropped\n"


def test_arguments_that_are_wrong(accelerate, as_asyncio):
    def body(loop):
        async def main():
            seen = []
            for make in (
                lambda: asyncio.wait_for(),
                lambda: asyncio.wait_for(5),
                lambda: asyncio.wait_for(asyncio.Future(), "x"),
                lambda: asyncio.wait_for(asyncio.Future(), 1, 2, 3),
                lambda: asyncio.wait_for(asyncio.Future(), wrong=1),
                lambda: asyncio.wait_for(fut=done_future(), timeout=1),
                lambda: asyncio.wait_for(done_future(), timeout=True),
            ):
                try:
                    seen.append(await make())
                except Exception as error:
                    seen.append((type(error).__name__, str(error)))
            return seen

        return loop.run_until_complete(main())

    as_asyncio(body)


def test_a_coroutine_that_somebody_else_awaits(accelerate, as_asyncio):
    def body(loop):
        async def main():
            async def hangs():
                await loop.create_future()

            loop.set_exception_handler(lambda _, context: None)
            coro = hangs()
            task = loop.create_task(coro)
            await asyncio.sleep(0)
            try:
                await asyncio.wait_for(coro, 0.001)
            except Exception as error:
                seen = repr(error)
            task.cancel()
            return seen, sum(not timer.cancelled() for timer in loop._scheduled)

        return loop.run_until_complete(main())

    as_asyncio(body)


def test_effects_come_at_the_first_step(accelerate, cloop):
    async def main():
        loop = asyncio.get_running_loop()
        coro = asyncio.wait_for(done_future(), 60)
        assert not loop._scheduled
        assert await coro == "done"

    cloop.run(main())


@pytest.mark.parametrize("how", ["close", "free", "throw"])
def test_one_that_ends_early_cancels_its_timer(accelerate, cloop, how):
    async def main():
        loop, ends = asyncio.get_running_loop(), []

        async def inner():
            try:
                await loop.create_future()
            except BaseException as error:
                ends.append(type(error))
                raise

        coro = asyncio.wait_for(inner(), 60)
        coro.send(None)
        assert len(loop._scheduled) == 1
        if how == "close":
            coro.close()
        elif how == "throw":
            with pytest.raises(KeyError):
                coro.throw(KeyError())
        del coro
        gc.collect()
        assert all(timer.cancelled() for timer in loop._scheduled)
        if WITH_TIMEOUT:
            assert ends == [KeyError if how == "throw" else GeneratorExit]
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0)

    cloop.run(main())


def test_what_it_shows(accelerate, cloop):
    async def main():
        coro = asyncio.wait_for(hangs(), 60)
        assert coro.cr_frame.f_code.co_name == "wait_for" and coro.cr_await is None
        task = asyncio.ensure_future(coro)
        await asyncio.sleep(0)
        assert coro.cr_frame.f_code.co_name == "wait_for" and coro.cr_await is not None
        if WITH_TIMEOUT:
            assert coro.cr_await.cr_code.co_name == "hangs"
            names = [frame.f_code.co_name for frame in task.get_stack()]
            assert names == ["wait_for"]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    cloop.run(main())


@pytest.mark.skipif(not WITH_TIMEOUT, reason="it is no timeout() before")
def test_a_timeout_replaced(accelerate, cloop, monkeypatch):
    calls, original = [], asyncio.timeouts.timeout

    async def main():
        monkeypatch.setattr(asyncio.timeouts, "timeout", lambda delay: calls.append(delay) or original(delay))
        assert await asyncio.wait_for(returns(), 5) == "result"
        assert calls == [5]

    cloop.run(main())


@pytest.mark.skipif(WITH_TIMEOUT, reason="it is a timeout()")
def test_ensure_future_replaced(accelerate, cloop, monkeypatch):
    calls, original = [], asyncio.tasks.ensure_future

    def ensure_future(arg, **kwargs):
        calls.append(sorted(kwargs))
        return original(arg, **kwargs)

    async def main():
        monkeypatch.setattr(asyncio.tasks, "ensure_future", ensure_future)
        assert await asyncio.wait_for(returns(), 5) == "result"
        assert calls == [["loop"]]

    cloop.run(main())


def test_switched_while_it_waits(accelerate, as_asyncio):
    def body(loop):
        async def main():
            tasks = []
            for number in range(4):
                accelerate(number % 2 == 0)
                tasks.append(
                    loop.create_task(
                        asyncio.wait_for(hangs(), 0.002) if number < 2 else asyncio.wait_for(returns(), 60)
                    )
                )
                await asyncio.sleep(0)
            accelerate(True)
            results = await asyncio.gather(*tasks, return_exceptions=True)
            return [chain(each) if isinstance(each, BaseException) else each for each in results]

        return loop.run_until_complete(main())

    as_asyncio(body)


def test_cause_of_a_timeout_outlives_it(accelerate, as_asyncio):
    """It is the context as well, and has a reference for each."""

    def body(loop):
        async def main():
            try:
                await asyncio.wait_for(hangs(), 0.001)
            except asyncio.TimeoutError as error:
                cause = error.__cause__
                during = sys.getrefcount(cause)
            return cause and during - sys.getrefcount(cause)  # on 3.8 there is none

        accelerate(True)
        return loop.run_until_complete(main())

    as_asyncio(body)


def test_no_reference_is_lost_or_kept(accelerate, cloop, steady):
    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # on 3.8 replaces() is reported

        async def once():
            for make in returns, raises, hangs, refuses, replaces:
                for timeout in 0.0001, 0.01:
                    try:
                        await asyncio.wait_for(make(), timeout)
                    except (Exception, asyncio.CancelledError):
                        pass
            task = asyncio.ensure_future(asyncio.wait_for(hangs(), 60))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        await steady(once)

    cloop.run(main())


@pytest.mark.skipif(not WITH_TIMEOUT, reason="it is no timeout() before")
def test_what_a_frame_further_out_handles_stays_there(accelerate, as_asyncio):
    def body(loop):
        async def late():
            try:
                await loop.create_future()
            except asyncio.CancelledError:
                await asyncio.sleep(0)
                raise KeyError("late")  # noqa: B904

        async def generator():
            try:
                await asyncio.wait_for(late(), 0.001)
            except KeyError as error:
                yield chain(error)
            yield repr(sys.exc_info()[1])

        async def main():
            steps = generator()
            try:
                raise ValueError("further out")
            except ValueError:
                seen = [await steps.__anext__()]
            seen.append(await steps.__anext__())
            await steps.aclose()
            return seen

        return loop.run_until_complete(main())

    as_asyncio(body)


def test_what_is_shown_of_one_that_waits_at_exit(python, write_script):
    path = write_script(
        """
        import asyncio, cloop

        cloop.accelerate()
        loop = cloop.new_event_loop()

        async def main():
            global inner, outer

            async def waits():
                await loop.create_future()

            inner = loop.create_task(waits())
            outer = loop.create_task(asyncio.wait_for(inner, 100))
            await asyncio.sleep(0)
            await asyncio.sleep(0)

        loop.run_until_complete(main())
        """
    )
    process = python(path)
    assert process.returncode == 0
    assert "Task was destroyed but it is pending!" in process.stderr
    assert "Traceback" not in process.stderr
    assert WITH_TIMEOUT or "_release_waiter(<Future pendi" in process.stderr


@pytest.mark.parametrize("make", ["hangs", "refuses", "replaces", "raises"])
def test_what_is_raised_while_a_frame_further_out_handles(accelerate, as_asyncio, make):
    def body(loop):
        async def main():
            loop.set_exception_handler(lambda *_: None)  # on 3.8 replaces() is reported
            try:
                raise ValueError("further out")
            except ValueError:
                try:
                    return await asyncio.wait_for(MAKERS[make](), 0.001)
                except Exception as error:
                    return chain(error)

        return loop.run_until_complete(main())

    as_asyncio(body)


@pytest.mark.skipif(not WITH_TIMEOUT, reason="it waits for a task before")
@pytest.mark.parametrize("how", ["returns", "awaits", "raises"])
def test_generator_exit_thrown_closes_what_it_awaits(accelerate, as_asyncio, how):
    def body(loop):
        async def inner():
            try:
                await loop.create_future()
            except GeneratorExit:
                if how == "awaits":
                    await asyncio.sleep(0)
                elif how == "raises":
                    raise KeyError("of the program")  # noqa: B904
                return "returned"

        async def main():
            awaited = inner()
            coro = asyncio.wait_for(awaited, 60)
            coro.send(None)
            with pytest.raises(BaseException) as raised:
                coro.throw(GeneratorExit())
            awaited.close()
            return chain(raised.value), sum(not timer.cancelled() for timer in loop._scheduled)

        return loop.run_until_complete(main())

    as_asyncio(body)
