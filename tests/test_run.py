"""cloop.run does what asyncio.run does, on cloop's loop; so do the other ways to run a program."""

import asyncio
import contextvars
import inspect
import threading
import warnings

import pytest

VAR = contextvars.ContextVar("VAR", default="unset")


@pytest.fixture(params=["asyncio.run", "cloop.run"])
def run(request):
    """The function under test; asyncio's shows what the other must do."""
    if request.param == "asyncio.run":
        return asyncio.run
    return request.getfixturevalue("cloop").run


@pytest.fixture(autouse=True)
def no_loop_left():
    """asyncio.run leaves no current loop behind; other tests must not notice."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        asyncio.set_event_loop(None)


async def answer():
    return 42


def test_returns_the_result(run):
    assert run(answer()) == 42


def test_raises_the_exception(run):
    async def fail():
        raise ZeroDivisionError("on purpose")

    with pytest.raises(ZeroDivisionError, match="on purpose"):
        run(fail())


def test_runs_on_a_loop_of_cloop(cloop):
    async def main():
        return asyncio.get_running_loop()

    loop = cloop.run(main())
    assert type(loop) is cloop.Loop
    assert loop.is_closed()


def test_each_run_has_a_loop_of_its_own(run):
    async def main():
        return asyncio.get_running_loop()

    first, second = run(main()), run(main())
    assert first is not second
    assert first.is_closed() and second.is_closed()


@pytest.mark.parametrize("debug", [True, False])
def test_debug(run, debug):
    async def main():
        return asyncio.get_running_loop().get_debug()

    assert run(main(), debug=debug) is debug


@pytest.mark.parametrize("value", [None, 5, "x", answer], ids=["None", "int", "str", "function"])
def test_nonsense_is_refused_as_asyncio_does(cloop, value):
    def error_of(run):
        with pytest.raises((TypeError, ValueError)) as caught:
            run(value)
        return caught.type, str(caught.value)

    assert error_of(cloop.run) == error_of(asyncio.run)


def test_inside_a_running_loop_is_refused_as_asyncio_does(cloop):
    def error_of(run):
        async def main():
            coroutine = answer()
            try:
                run(coroutine)
            finally:
                coroutine.close()

        with pytest.raises(RuntimeError) as caught:
            asyncio.run(main())
        return str(caught.value)

    assert error_of(cloop.run) == error_of(asyncio.run)


def test_takes_the_keywords_of_asyncio_run(cloop):
    assert set(inspect.signature(asyncio.run).parameters) - {"loop_factory"} <= set(
        inspect.signature(cloop.run).parameters
    )


def test_cancels_what_is_left(run):
    seen = []

    async def wait():
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async def main():
        tasks.append(asyncio.ensure_future(wait()))
        await asyncio.sleep(0)

    tasks = []
    run(main())
    assert seen == ["cancelled"]
    assert tasks[0].cancelled()


def test_exception_while_cancelling_is_reported(run):
    seen = []

    async def fail_when_cancelled():
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            1 / 0

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: seen.append(context["message"]))
        tasks.append(asyncio.ensure_future(fail_when_cancelled()))
        await asyncio.sleep(0)

    tasks = []
    run(main())
    assert seen == ["unhandled exception during asyncio.run() shutdown"]


def test_closes_asynchronous_generators(run):
    seen = []

    async def generate():
        try:
            yield 1
        finally:
            seen.append("closed")

    async def main():
        generators.append(generate())
        await generators[0].__anext__()

    generators = []
    run(main())
    assert seen == ["closed"]


@pytest.mark.skipif(
    not hasattr(asyncio.SelectorEventLoop, "shutdown_default_executor"), reason="asyncio.run doesn't before Python 3.9"
)
def test_shuts_the_default_executor_down(run):
    async def main():
        return await asyncio.get_running_loop().run_in_executor(None, threading.current_thread)

    assert not run(main()).is_alive()


def test_main_runs_in_a_copy_of_the_context(run):
    async def main():
        before = VAR.get()
        VAR.set("changed")
        return before

    assert contextvars.copy_context().run(lambda: (VAR.set("caller"), run(main()), VAR.get())[1:]) == (
        "caller",
        "caller",
    )


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_end_of_program_leaves_through_it(run, kind):
    async def main():
        raise kind("bye")

    with pytest.raises(kind, match="bye"):
        run(main())


def test_in_a_thread(run):
    results = []
    thread = threading.Thread(target=lambda: results.append(run(answer())))
    thread.start()
    thread.join()
    assert results == [42]


# The other ways


@pytest.mark.skipif(not hasattr(asyncio, "Runner"), reason="Runner came in Python 3.11")
def test_runner(cloop):
    async def main():
        return asyncio.get_running_loop()

    with asyncio.Runner(loop_factory=cloop.new_event_loop) as runner:
        assert runner.run(main()) is runner.run(main()) is runner.get_loop()
        assert type(runner.get_loop()) is cloop.Loop


@pytest.mark.skipif(
    "loop_factory" not in inspect.signature(asyncio.run).parameters, reason="run(loop_factory=) came in Python 3.12"
)
def test_asyncio_run_with_a_loop_factory(cloop):
    async def main():
        return type(asyncio.get_running_loop())

    assert asyncio.run(main(), loop_factory=cloop.new_event_loop) is cloop.Loop


@pytest.mark.skipif(not hasattr(asyncio, "Runner"), reason="IsolatedAsyncioTestCase takes a Runner since Python 3.11")
def test_isolated_asyncio_test_case(cloop):
    import unittest

    class Case(unittest.IsolatedAsyncioTestCase):
        loop_factory = staticmethod(cloop.new_event_loop)

        def setUp(self):
            if not hasattr(unittest.IsolatedAsyncioTestCase, "loop_factory"):
                self.skipTest("loop_factory came in Python 3.13")

        async def test_it(self):
            await asyncio.sleep(0)
            assert type(asyncio.get_running_loop()) is cloop.Loop

    result = unittest.TestResult()
    Case("test_it").run(result)
    assert result.wasSuccessful(), result.errors
