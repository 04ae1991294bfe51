"""run_in_executor, the default executor and its shutdown."""

import asyncio
import concurrent.futures
import contextvars
import inspect
import re
import sys
import threading
import time

import pytest

VAR = contextvars.ContextVar("VAR", default="unset")
HAS_SHUTDOWN = hasattr(asyncio.SelectorEventLoop, "shutdown_default_executor")
HAS_TIMEOUT = (
    HAS_SHUTDOWN and "timeout" in inspect.signature(asyncio.SelectorEventLoop.shutdown_default_executor).parameters
)
needs_shutdown = pytest.mark.skipif(not HAS_SHUTDOWN, reason="shutdown_default_executor came in Python 3.9")
# 3.12.1 waits for the executor without a limit before it looks at the timeout.
LIMITS_WAIT = HAS_TIMEOUT and "timeouts.timeout" in inspect.getsource(
    asyncio.SelectorEventLoop.shutdown_default_executor
)
needs_timeout = pytest.mark.skipif(not HAS_TIMEOUT, reason="shutdown_default_executor(timeout) came in Python 3.12")


@pytest.fixture
def executor():
    with concurrent.futures.ThreadPoolExecutor(2, thread_name_prefix="ours") as executor:
        yield executor


@pytest.fixture
def released():
    """An event that jobs may wait for. It is set at the end in any case, and the threads are joined."""
    event = threading.Event()
    before = set(threading.enumerate())
    yield event
    event.set()
    for thread in set(threading.enumerate()) - before:
        thread.join(10)


# Results


@pytest.mark.parametrize("args", [(), (1,), (1, "two", None, 4, 5, 6)], ids=len)
def test_returns_what_the_function_returned(loop, args):
    assert loop.run_until_complete(loop.run_in_executor(None, lambda *args: args, *args)) == args


def test_is_an_asyncio_future_of_the_loop(loop):
    future = loop.run_in_executor(None, int)
    assert isinstance(future, asyncio.Future) and future.get_loop() is loop
    loop.run_until_complete(future)


def test_raises_what_the_function_raised(loop):
    with pytest.raises(ZeroDivisionError):
        loop.run_until_complete(loop.run_in_executor(None, lambda: 1 / 0))


def test_name_of_the_default_executors_thread(as_asyncio):
    def body(loop):
        name = loop.run_until_complete(loop.run_in_executor(None, lambda: threading.current_thread().name))
        return re.sub(r"\d+", "N", name)

    as_asyncio(body)


def test_runs_in_the_executor_given(loop, executor):
    name = loop.run_until_complete(loop.run_in_executor(executor, lambda: threading.current_thread().name))
    assert name.startswith("ours")


def test_many_jobs_all_finish(loop, executor):
    async def main():
        return await asyncio.gather(*[loop.run_in_executor(executor, int, number) for number in range(1000)])

    assert loop.run_until_complete(main()) == list(range(1000))


def test_result_wakes_an_idle_loop(loop, executor):
    async def main():
        for _ in range(200):
            await loop.run_in_executor(executor, int)

    start = time.monotonic()
    loop.run_until_complete(asyncio.wait_for(main(), 20))
    assert time.monotonic() - start < 10


def test_context_is_not_passed_on(loop):
    VAR.set("main")
    assert loop.run_until_complete(loop.run_in_executor(None, VAR.get)) == "unset"


@pytest.mark.skipif(not hasattr(asyncio, "to_thread"), reason="to_thread came in Python 3.9")
def test_to_thread_passes_the_context_on(loop):
    async def main():
        VAR.set("task")
        return await asyncio.to_thread(VAR.get)

    assert loop.run_until_complete(main()) == "task"


def test_cancelling_a_job_that_has_not_started(loop, released):
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        busy = loop.run_in_executor(executor, released.wait)
        waiting = loop.run_in_executor(executor, pytest.fail)
        loop.call_soon(waiting.cancel)
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(waiting)
        released.set()
        loop.run_until_complete(busy)


@pytest.mark.parametrize("value", [5, "x", object()], ids=["int", "str", "object"])
def test_executor_that_is_none(as_asyncio, value):
    assert as_asyncio(lambda loop: loop.run_in_executor(value, int))["result"][0] is AttributeError


def test_executor_that_was_shut_down(as_asyncio):
    def body(loop):
        executor = concurrent.futures.ThreadPoolExecutor(1)
        executor.shutdown()
        loop.run_in_executor(executor, int)

    assert as_asyncio(body)["result"][0] is RuntimeError


def test_methods_of_the_executors_future_that_a_program_has_replaced(as_asyncio, executor, monkeypatch):
    """asyncio calls them up to 3.14."""

    class Sub(concurrent.futures.Future):
        def result(self, timeout=None):
            return super().result(timeout) + 1

    class Own(concurrent.futures.Executor):
        def submit(self, function, *args):
            future = Sub()
            executor.submit(lambda: future.set_result(function(*args)))
            return future

    plain = concurrent.futures.Future.result

    def body(loop):
        subclass = loop.run_until_complete(loop.run_in_executor(Own(), int, 5))
        with monkeypatch.context() as patch:
            patch.setattr(concurrent.futures.Future, "result", lambda self, timeout=None: plain(self, timeout) + 2)
            return subclass, loop.run_until_complete(loop.run_in_executor(executor, int, 5))

    assert as_asyncio(body)["result"] == ((6, 7) if sys.version_info < (3, 15) else (5, 5))


def test_result_for_a_future_that_the_program_has_finished(as_asyncio, executor):
    def body(loop):
        reported, release = loop.create_future(), threading.Event()
        loop.set_exception_handler(lambda loop, context: reported.set_result(type(context["exception"])))
        future = loop.run_in_executor(executor, release.wait)
        future.set_result("of the program")
        release.set()
        return loop.run_until_complete(asyncio.wait_for(reported, 10)), future.result()

    assert as_asyncio(body)["result"][0] is AssertionError


# The default executor


def test_default_executor_can_be_set(loop, executor):
    loop.set_default_executor(executor)
    name = loop.run_until_complete(loop.run_in_executor(None, lambda: threading.current_thread().name))
    assert name.startswith("ours")


class Other(concurrent.futures.Executor):
    """An executor without threads."""


@pytest.mark.parametrize(
    "value", [None, 5, Other(), concurrent.futures.ThreadPoolExecutor], ids=["None", "int", "other", "class"]
)
def test_default_executor_of_another_type(as_asyncio, value):
    # A TypeError, or up to Python 3.10 a DeprecationWarning.
    def body(loop):
        try:
            return loop.set_default_executor(value)
        finally:
            loop._default_executor = None  # close() would shut it down

    outcome = as_asyncio(body)
    assert outcome["warned"] or outcome["result"][0] is TypeError


@needs_shutdown
def test_shutdown_waits_for_running_jobs(loop, released):
    finished = []

    def job():
        released.wait(10)
        finished.append(1)

    loop.run_in_executor(None, job)
    loop.call_later(0.01, released.set)
    loop.run_until_complete(loop.shutdown_default_executor())
    assert finished == [1]


@needs_shutdown
def test_shutdown_without_an_executor(loop):
    assert loop.run_until_complete(loop.shutdown_default_executor()) is None


@needs_shutdown
def test_after_shutdown_the_default_executor_is_refused(as_asyncio):
    def body(loop):
        loop.run_until_complete(loop.run_in_executor(None, int))
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.run_in_executor(None, int)

    assert as_asyncio(body)["result"] == (RuntimeError, "Executor shutdown has been called")


@needs_shutdown
def test_after_shutdown_another_executor_is_taken(loop, executor):
    loop.run_until_complete(loop.shutdown_default_executor())
    assert loop.run_until_complete(loop.run_in_executor(executor, int)) == 0


@needs_timeout
@pytest.mark.skipif(not LIMITS_WAIT, reason="this Python's asyncio hangs here")
def test_shutdown_gives_up_after_its_timeout(as_asyncio, released):
    def body(loop):
        loop.run_in_executor(None, released.wait)
        loop.run_until_complete(loop.shutdown_default_executor(timeout=0.01))

    assert [category for category, _ in as_asyncio(body)["warned"]] == [RuntimeWarning]


@needs_timeout
@pytest.mark.parametrize("timeout", [None, 10, 5.5])
def test_shutdown_within_its_timeout(loop, timeout):
    loop.run_until_complete(loop.run_in_executor(None, int))
    loop.run_until_complete(loop.shutdown_default_executor(timeout))


def test_close_does_not_wait_for_running_jobs(loop, executor, released):
    loop.set_default_executor(executor)
    loop.run_in_executor(None, released.wait, 20)
    start = time.monotonic()
    loop.close()
    assert time.monotonic() - start < 5
    released.set()
    executor.shutdown()  # Python 3.8 logs that it cannot deliver the result


def test_job_that_ends_after_close_does_no_harm(new_loop, released):
    loop = new_loop()
    done = threading.Event()
    executor = concurrent.futures.ThreadPoolExecutor(1)
    loop.run_in_executor(executor, released.wait, 20)
    loop.close()
    released.set()
    executor.submit(done.set)
    assert done.wait(10)
    executor.shutdown()
