"""asyncio.to_thread() and run_coroutine_threadsafe(): what the bodies in C do as asyncio's code, and when that runs
instead."""

import asyncio
import concurrent.futures
import contextvars
import inspect
import sys
import threading

import pytest

needs_to_thread = pytest.mark.skipif(sys.version_info < (3, 9), reason="asyncio has no to_thread()")
VAR = contextvars.ContextVar("VAR", default="outside")


@needs_to_thread
def test_to_thread_is_in_c(accelerate, cloop):
    async def main():
        coro = asyncio.to_thread(threading.get_ident)
        assert not inspect.iscoroutine(coro)
        assert await coro != threading.get_ident()

    cloop.run(main())


@needs_to_thread
def test_to_thread(accelerate, as_asyncio):
    def body(loop):
        def work(*args, **kwargs):
            seen = VAR.get(), args, sorted(kwargs.items())
            VAR.set("in the thread")
            if args == ("raise",):
                raise KeyError("of the program")
            return seen

        async def main():
            seen = []
            VAR.set("at the call")
            coro = asyncio.to_thread(work, 1, 2, a=3, b=4)
            VAR.set("at the first step")
            seen.append(await coro)
            for make in (
                lambda: asyncio.to_thread(work, "raise"),
                lambda: asyncio.to_thread(),
                lambda: asyncio.to_thread(5),
                lambda: asyncio.to_thread(work, func=1),
            ):
                try:
                    seen.append(await make())
                except Exception as error:
                    seen.append((type(error).__name__, str(error)))
            return seen, VAR.get()

        return loop.run_until_complete(main())

    as_asyncio(body)


@needs_to_thread
def test_to_thread_of_an_executor_that_is_overridden(accelerate, cloop):
    class Loop(cloop.Loop):
        async def run_in_executor(self, executor, func, *args):
            await asyncio.sleep(0)
            return executor, func(*args)

    async def main():
        return await asyncio.to_thread(max, 2, 3)

    loop = Loop()
    assert loop.run_until_complete(main()) == (None, 3)
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


@needs_to_thread
def test_to_thread_cancelled(accelerate, as_asyncio):
    def body(loop):
        async def main():
            free = threading.Event()
            task = loop.create_task(asyncio.to_thread(free.wait))
            await asyncio.sleep(0)
            task.cancel()
            results = await asyncio.gather(task, return_exceptions=True)
            free.set()
            await loop.shutdown_default_executor()
            return [repr(each) for each in results]

        return loop.run_until_complete(main())

    as_asyncio(body)


@needs_to_thread
def test_to_thread_in_debug_mode_at_the_first_step(accelerate, cloop):
    async def main():
        coro = asyncio.to_thread(max, 1, 2, key=lambda item: -item)
        asyncio.get_running_loop().set_debug(True)
        assert await coro == 1

    cloop.run(main())


def from_thread(loop, work):
    """Run work() in a thread while the loop runs; return what it returns."""

    async def main():
        return await loop.run_in_executor(None, work)

    return loop.run_until_complete(main())


def outcome(future):
    try:
        return future.result(10)
    except BaseException as error:
        return type(error).__name__, str(error)


async def returns():
    await asyncio.sleep(0)
    return threading.current_thread() is threading.main_thread()


async def raises():
    raise KeyError("of the program")


async def cancels():
    raise asyncio.CancelledError("by hand")


async def times_out():
    raise asyncio.TimeoutError("of the program")


@pytest.mark.parametrize("make", [returns, raises, cancels, times_out, lambda: asyncio.sleep(0.001, 5), lambda: 5])
def test_run_coroutine_threadsafe(accelerate, as_asyncio, make):
    def body(loop):
        def work():
            try:
                future = asyncio.run_coroutine_threadsafe(make(), loop)
            except TypeError as error:
                return str(error)
            assert type(future) is concurrent.futures.Future
            return outcome(future)

        return from_thread(loop, work)

    as_asyncio(body)


def test_run_coroutine_threadsafe_is_in_c(accelerate, cloop):
    async def main():
        loop, seen = asyncio.get_running_loop(), []
        coro = returns()
        future = asyncio.run_coroutine_threadsafe(coro, loop)
        await asyncio.sleep(0)
        seen = [type(each).__name__ for each in future._done_callbacks]
        await asyncio.wrap_future(future)
        return seen

    assert cloop.run(main()) == ["SyncCallback"]


def test_cancelled_from_the_thread(accelerate, as_asyncio):
    def body(loop):
        ends = []

        async def hangs():
            begun.set()
            try:
                await loop.create_future()
            except BaseException as error:
                ends.append(repr(error))
                ended.set()
                raise

        def work():
            future = asyncio.run_coroutine_threadsafe(hangs(), loop)
            assert begun.wait(10)
            cancelled = future.cancel()
            assert ended.wait(10)
            return cancelled, outcome(future), future.cancelled()

        begun, ended = threading.Event(), threading.Event()
        return from_thread(loop, work), ends

    as_asyncio(body)


def test_cancelled_in_the_loop(accelerate, as_asyncio):
    """On 3.14 the task is cancelled at once, before by the loop's inbox."""

    def body(loop):
        async def main():
            async def hangs():
                made.extend([asyncio.current_task(), loop.create_future()])
                await made[1]

            made = []
            future = asyncio.run_coroutine_threadsafe(hangs(), loop)
            await asyncio.sleep(0.001)
            assert future.cancel()
            task, waiter = made
            at_once = waiter.cancelled()
            await asyncio.wait([task])
            return at_once, task.cancelled(), future.cancelled()

        return loop.run_until_complete(main())

    assert as_asyncio(body)["result"][1:] == (True, True)


def test_a_task_that_cannot_be_made(accelerate, as_asyncio):
    def body(loop):
        reports = []
        loop.set_exception_handler(lambda _, context: reports.append(repr(context["exception"])))

        def factory(loop, coro, **kwargs):
            coro.close()
            raise KeyError("of the factory")

        def work():
            future = asyncio.run_coroutine_threadsafe(returns(), loop)
            return outcome(future)

        async def main():
            executor = concurrent.futures.ThreadPoolExecutor(1)
            waiting = loop.run_in_executor(executor, work)
            loop.set_task_factory(factory)
            try:
                return await waiting
            finally:
                executor.shutdown()

        return loop.run_until_complete(main()), reports

    as_asyncio(body)


def test_a_loop_that_is_closed(accelerate, as_asyncio):
    def body(loop):
        loop.close()
        coro = returns()
        try:
            asyncio.run_coroutine_threadsafe(coro, loop)
        except RuntimeError as error:
            return str(error)
        finally:
            coro.close()

    as_asyncio(body)


def test_nothing_is_kept(accelerate, cloop, steady):
    async def main():
        loop = asyncio.get_running_loop()

        async def once():
            future = asyncio.run_coroutine_threadsafe(returns(), loop)
            await asyncio.wrap_future(future)
            future = asyncio.run_coroutine_threadsafe(asyncio.sleep(60), loop)
            await asyncio.sleep(0)
            future.cancel()
            await asyncio.sleep(0.0001)
            if sys.version_info >= (3, 9):
                await asyncio.to_thread(max, 1, 2)

        await steady(once)

    cloop.run(main())


@pytest.mark.parametrize("how", ["factory", "create_task"])
def test_run_coroutine_threadsafe_with_tasks_of_the_programs_own(accelerate, as_asyncio, how):
    def body(loop):
        made = []
        create_task = loop.create_task

        def factory(loop, coro, **options):
            made.append("factory")
            return asyncio.Task(coro, loop=loop, **options)

        def instead(coro, **options):
            made.append("create_task")
            return create_task(coro, **options)

        async def answer():
            await asyncio.sleep(0)
            return 42

        async def main():
            call = lambda: asyncio.run_coroutine_threadsafe(answer(), loop).result(20)  # noqa: E731
            return await loop.run_in_executor(None, call)

        if how == "factory":
            loop.set_task_factory(factory)
        else:
            loop.create_task = instead
        try:
            return loop.run_until_complete(main()), made
        finally:
            vars(loop).pop("create_task", None)

    assert as_asyncio(body)["result"] == (42, [how] * 2)


class Refused(Exception):
    pass


def factory(kind):
    """A task factory that is set after run_coroutine_threadsafe() was called, and before its callback runs."""

    def factory(loop, coro, **options):
        coro.close()
        if kind == "future":
            return loop.create_future()
        if kind == "done":
            future = loop.create_future()
            future.set_result("of the factory")
            return future
        if kind == "python":
            future = asyncio.futures._PyFuture(loop=loop)
            future.set_result("in Python")
            return future
        if kind == "nothing":
            return None
        raise {"error": Refused, "exit": SystemExit, "interrupt": KeyboardInterrupt}[kind]("of the factory")

    return factory


@pytest.mark.parametrize("kind", ["future", "done", "python", "nothing", "error", "exit", "interrupt"])
@pytest.mark.parametrize("cancelled", [False, True])
def test_run_coroutine_threadsafe_with_a_factory_that_comes_later(accelerate, as_asyncio, kind, cancelled):
    def body(loop):
        reports, left = [], []
        loop.set_exception_handler(lambda loop, context: reports.append(type(context.get("exception"))))

        async def main():
            future = asyncio.run_coroutine_threadsafe(returns(), loop)
            loop.set_task_factory(factory(kind))
            if cancelled:
                future.cancel()
            return future

        future = loop.run_until_complete(main())
        for _ in range(4):
            loop.call_soon(loop.stop)
            try:
                loop.run_forever()
            except (SystemExit, KeyboardInterrupt) as error:
                left.append(repr(error))
        state = future._state
        told = outcome(future) if future.done() else None
        if isinstance(told, tuple) and told[0] == "AttributeError":
            told = told[0]  # which names the class of what has no name: asyncio of some versions gives it one
        return reports, left, state, told

    as_asyncio(body)


@pytest.mark.parametrize("method", ["set_running_or_notify_cancel", "set_exception", "add_done_callback"])
def test_run_coroutine_threadsafe_whose_future_fails(accelerate, as_asyncio, monkeypatch, method):
    """A method of concurrent futures that raises."""

    def fail(self, *args):
        raise Refused(method)

    def body(loop):
        reports = []

        def report(loop, context):
            error = context.get("exception")
            reports.append((repr(error), repr(error.__context__)))

        loop.set_exception_handler(report)

        async def main():
            future = asyncio.run_coroutine_threadsafe(returns(), loop)
            if method != "add_done_callback":
                loop.set_task_factory(factory("error"))
            return future

        with monkeypatch.context() as patch:
            patch.setattr(concurrent.futures.Future, method, fail)
            future = loop.run_until_complete(main())
            for _ in range(4):
                loop.call_soon(loop.stop)
                loop.run_forever()
        return reports, future._state

    as_asyncio(body)
