"""Tasks, futures, contexts and asynchronous generators on the loop."""

import asyncio
import contextvars
import gc
import inspect
import re
import sys

import pytest

VAR = contextvars.ContextVar("VAR", default="unset")


async def answer():
    return 42


async def forever():
    await asyncio.get_running_loop().create_future()


def run_once(loop):
    loop.call_soon(loop.stop)
    loop.run_forever()


# create_future, create_task


def test_create_future(loop):
    future = loop.create_future()
    assert isinstance(future, asyncio.Future)
    assert future.get_loop() is loop
    assert not future.done()


def test_create_task(loop):
    task = loop.create_task(answer())
    assert isinstance(task, asyncio.Task)
    assert task.get_loop() is loop
    assert not task.done()
    assert loop.run_until_complete(task) == 42


def test_create_task_with_a_name(loop):
    task = loop.create_task(answer(), name="its name")
    assert task.get_name() == "its name"
    loop.run_until_complete(task)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="create_task(context=) came in Python 3.11")
def test_create_task_with_a_context(loop):
    async def look():
        VAR.set(VAR.get() + " and changed")

    context = contextvars.copy_context()
    context.run(VAR.set, "given")
    loop.run_until_complete(loop.create_task(look(), context=context))
    assert context[VAR] == "given and changed"


@pytest.mark.skipif(sys.version_info < (3, 14), reason="create_task(eager_start=) came in Python 3.14")
def test_create_task_with_an_eager_start(loop):
    async def main():
        return loop.create_task(answer(), eager_start=True).done(), loop.create_task(answer(), eager_start=False).done()

    assert loop.run_until_complete(main()) == (True, False)


class OtherTask(asyncio.tasks._PyTask):
    pass


@pytest.mark.parametrize("cls", [asyncio.tasks._PyTask, OtherTask, type("Derived", (asyncio.Task,), {})])
@pytest.mark.parametrize("debug", [False, True])
def test_task_class_that_is_replaced_while_the_loop_runs(loop, monkeypatch, cls, debug):
    """asyncio looks at its module for each task; nest_asyncio replaces the class in the midst of a run."""

    async def main():
        with monkeypatch.context() as patched:
            patched.setattr(asyncio.tasks, "Task", cls)
            tasks = [
                loop.create_task(answer()),
                loop.create_task(answer(), name="with a name"),
                asyncio.ensure_future(answer()),
            ]
        tasks.append(loop.create_task(answer()))
        assert [await task for task in tasks] == [42] * 4
        return [type(task) is cls for task in tasks]

    loop.set_debug(debug)
    assert loop.run_until_complete(main()) == [True, True, True, False]


def test_future_class_that_is_replaced_while_the_loop_runs(loop, monkeypatch):
    async def main():
        with monkeypatch.context() as patched:
            patched.setattr(asyncio.futures, "Future", asyncio.futures._PyFuture)
            future = loop.create_future()
        loop.call_soon(future.set_result, 42)
        assert await future == 42
        return type(future), isinstance(loop.create_future(), asyncio.futures._PyFuture)

    assert loop.run_until_complete(main()) == (asyncio.futures._PyFuture, False)


@pytest.mark.parametrize("value", [None, 5, answer, asyncio.sleep], ids=["None", "int", "function", "other function"])
def test_create_task_of_nonsense(as_asyncio, value):
    assert as_asyncio(lambda loop: loop.create_task(value))["result"][0] is TypeError


def test_create_task_with_a_wrong_keyword(loop):
    coroutine = answer()
    with pytest.raises(TypeError):
        loop.create_task(coroutine, wrong=1)
    coroutine.close()


def test_tasks_take_turns(as_asyncio):
    def body(loop):
        seen = []

        async def count(name):
            for number in range(3):
                seen.append((name, number))
                await asyncio.sleep(0)

        async def main():
            await asyncio.gather(*[count(name) for name in "abc"])

        loop.run_until_complete(main())
        return seen

    assert len(as_asyncio(body)["result"]) == 9


def test_order_of_tasks_callbacks_and_futures(as_asyncio):
    def body(loop):
        seen = []

        async def wait(name, future):
            seen.append(name + " starts")
            await future
            seen.append(name + " goes on")

        async def main():
            future = loop.create_future()
            tasks = [loop.create_task(wait(name, future)) for name in "ab"]
            loop.call_soon(seen.append, "callback")
            future.add_done_callback(lambda future: seen.append("done"))
            await asyncio.sleep(0)
            loop.call_soon(seen.append, "before the result")
            future.set_result(None)
            loop.call_soon(seen.append, "after the result")
            await asyncio.wait(tasks)

        loop.run_until_complete(main())
        return seen

    as_asyncio(body)


def test_current_task_and_all_tasks(loop):
    async def main():
        task = loop.create_task(forever())
        assert asyncio.current_task() in asyncio.all_tasks()
        assert asyncio.all_tasks() == {asyncio.current_task(), task}
        task.cancel()

    loop.run_until_complete(main())
    run_once(loop)
    assert asyncio.all_tasks(loop) == set()


def test_wait_for_times_out(loop):
    async def main():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(forever(), 0.001)

    loop.run_until_complete(main())


def test_primitives_hand_over(loop):
    async def main():
        queue, event, lock = asyncio.Queue(1), asyncio.Event(), asyncio.Lock()

        async def produce():
            for number in range(10):
                await queue.put(number)
            event.set()

        task = loop.create_task(produce())
        async with lock:
            got = [await queue.get() for _ in range(10)]
        await asyncio.gather(event.wait(), task)
        return got

    assert loop.run_until_complete(main()) == list(range(10))


# Factories


def test_task_factory_can_be_set_and_removed(loop):
    def factory(loop, coro, **options):
        return asyncio.Task(coro, loop=loop, **options)

    assert loop.get_task_factory() is None
    loop.set_task_factory(factory)
    assert loop.get_task_factory() is factory
    assert loop.run_until_complete(loop.create_task(answer())) == 42
    loop.set_task_factory(None)
    assert loop.get_task_factory() is None


@pytest.mark.parametrize("value", [5, "x", object()], ids=["int", "str", "object"])
def test_task_factory_that_is_not_callable(as_asyncio, value):
    assert as_asyncio(lambda loop: loop.set_task_factory(value))["result"][0] is TypeError


KEYWORDS = {"none": {}, "name": {"name": "n"}, "name None": {"name": None}}
if sys.version_info >= (3, 11):
    KEYWORDS["context"] = {"context": contextvars.copy_context()}
    KEYWORDS["name and context None"] = {"name": "n", "context": None}
if sys.version_info >= (3, 14):
    KEYWORDS["eager_start"] = {"eager_start": True, "name": "n"}


@pytest.mark.parametrize("keywords", list(KEYWORDS))
def test_keywords_that_reach_the_factory(as_asyncio, keywords):
    def body(loop):
        seen = []

        def factory(loop, coro, **options):
            seen.append((sorted(options), [options[key] for key in sorted(options)]))
            return asyncio.Task(coro, loop=loop, **options)

        loop.set_task_factory(factory)
        task = loop.create_task(answer(), **KEYWORDS[keywords])
        loop.run_until_complete(task)
        seen.append(task.get_name()[:4])
        return seen

    as_asyncio(body)


@pytest.mark.parametrize("name", [None, "given"])
def test_factory_that_takes_no_keywords(as_asyncio, name):
    def body(loop):
        loop.set_task_factory(lambda loop, coro: asyncio.Task(coro, loop=loop))
        coroutine = answer()
        try:
            return loop.create_task(coroutine, name=name).get_name() == name
        except TypeError:
            coroutine.close()
            return "TypeError"
        finally:
            run_once(loop)

    as_asyncio(body)


def test_factory_may_return_any_future(loop):
    class Future(asyncio.Future):
        def set_name(self, name):  # 3.13.0 does not ask whether there is one
            pass

    def factory(loop, coro, **options):
        coro.close()
        future = Future(loop=loop)
        future.set_result("from the factory")
        return future

    loop.set_task_factory(factory)
    assert loop.run_until_complete(answer()) == "from the factory"


@pytest.mark.skipif(not hasattr(asyncio, "eager_task_factory"), reason="eager tasks came in Python 3.12")
def test_eager_task_factory(loop):
    async def main():
        loop.set_task_factory(asyncio.eager_task_factory)
        done = loop.create_task(answer())
        waiting = loop.create_task(asyncio.sleep(0, "slept"))
        return done.done(), waiting.done(), await waiting

    assert loop.run_until_complete(main()) == (True, False, "slept")


@pytest.mark.skipif(not hasattr(asyncio, "eager_task_factory"), reason="eager tasks came in Python 3.12")
def test_names_of_eager_tasks(as_asyncio):
    """During the first step, and after it; on Python 3.13 create_task() sets a name also if none is given."""

    def body(loop):
        seen = []

        async def name_itself(name):
            task = asyncio.current_task()
            seen.append(re.sub(r"\d+", "N", task.get_name()))
            if name:
                task.set_name(name)
            await asyncio.sleep(0)
            seen.append(re.sub(r"\d+", "N", task.get_name()))

        class Odd:
            def __str__(self):
                raise KeyError("no name")

        async def main():
            for create in asyncio.create_task, loop.create_task:
                for options in (
                    {},
                    {"name": None},
                    {"name": "given"},
                    {"name": 5},
                    {"context": contextvars.copy_context()},
                ):
                    for own in None, "own":
                        task = create(name_itself(own), **options)
                        seen.append((create.__name__, list(options), own))
                        await task
            try:
                await loop.create_task(answer(), name=Odd())
            except KeyError as error:
                seen.append(str(error))
            task = asyncio.ensure_future(answer())
            seen.append(re.sub(r"\d+", "N", task.get_name()))

        loop.set_task_factory(asyncio.eager_task_factory)
        loop.run_until_complete(main())
        task = loop.create_task(answer(), name="not running")
        seen.append((task.get_name(), task.done()))
        loop.run_until_complete(task)
        return seen

    as_asyncio(body)


@pytest.mark.skipif(not hasattr(asyncio, "eager_task_factory"), reason="eager tasks came in Python 3.12")
@pytest.mark.parametrize(
    "options",
    [{}, {"name": None}, {"name": "given"}, {"context": contextvars.copy_context()}],
    ids=["none", "no name", "name", "context"],
)
def test_eager_tasks_are_ours(cloop, options):
    if cloop.Task is asyncio.Task:
        pytest.skip("asyncio's own tasks")

    async def main():
        loop = asyncio.get_running_loop()
        loop.set_task_factory(asyncio.eager_task_factory)
        before = loop.metrics().tasks_made
        made = [create(asyncio.sleep(0), **options) for create in (asyncio.create_task, loop.create_task)]
        async with asyncio.TaskGroup() as group:
            made.append(group.create_task(asyncio.sleep(0), **options))
        assert [type(task) for task in made] == [cloop.Task] * 3
        assert loop.metrics().tasks_made - before == 3
        for task in made:
            await task
        loop.set_task_factory(None)

    cloop.run(main())


# Contexts


def test_each_task_has_a_context_of_its_own(loop):
    async def change(value):
        before = VAR.get()
        VAR.set(value)
        await asyncio.sleep(0)
        return before, VAR.get()

    async def main():
        VAR.set("main")
        return await asyncio.gather(change("a"), change("b")), VAR.get()

    assert loop.run_until_complete(main()) == ([("main", "a"), ("main", "b")], "main")
    assert VAR.get() == "unset"


# What is reported


def test_task_whose_exception_nobody_takes(as_asyncio):
    def body(loop):
        async def fail():
            raise ZeroDivisionError("lost")

        loop.create_task(fail(), name="failing")
        run_once(loop)
        gc.collect()

    assert len(as_asyncio(body)["logged"]) == 1


def test_task_destroyed_while_pending(as_asyncio):
    def body(loop):
        loop.create_task(forever(), name="pending")
        run_once(loop)
        gc.collect()

    assert len(as_asyncio(body)["logged"]) == 1


# Asynchronous generators


async def generate(seen):
    try:
        yield 1
        yield 2
    finally:
        await asyncio.sleep(0)
        seen.append("closed")


async def first_of(generator):
    async for value in generator:
        return value


def test_hooks_are_set_while_running_and_restored(loop):
    seen = []
    before = sys.get_asyncgen_hooks()
    loop.call_soon(lambda: seen.append(sys.get_asyncgen_hooks()))
    run_once(loop)
    assert all(callable(hook) for hook in seen[0])
    assert sys.get_asyncgen_hooks() == before


def test_hooks_that_someone_set_are_restored(loop):
    before = sys.get_asyncgen_hooks()
    hooks = (lambda generator: None, lambda generator: None)
    sys.set_asyncgen_hooks(*hooks)
    try:
        run_once(loop)
        assert tuple(sys.get_asyncgen_hooks()) == hooks
    finally:
        sys.set_asyncgen_hooks(*before)


def test_shutdown_asyncgens_closes_what_is_open(loop):
    seen = []
    generators = [generate(seen) for _ in range(3)]
    for generator in generators:
        assert loop.run_until_complete(first_of(generator)) == 1
    loop.run_until_complete(loop.shutdown_asyncgens())
    assert seen == ["closed"] * 3


def test_shutdown_asyncgens_of_nothing(loop):
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_asyncgens())
    assert inspect.iscoroutinefunction(loop.shutdown_asyncgens) or inspect.iscoroutinefunction(
        asyncio.SelectorEventLoop.shutdown_asyncgens
    )


def test_dropped_generator_is_closed_by_the_loop(loop):
    seen = []

    async def main():
        generator = generate(seen)
        await first_of(generator)
        del generator
        gc.collect()
        for _ in range(5):
            await asyncio.sleep(0)
        assert seen == ["closed"]

    loop.run_until_complete(main())


def test_generator_started_after_shutdown_is_warned_of(as_asyncio):
    def body(loop):
        loop.run_until_complete(loop.shutdown_asyncgens())
        generator = generate([])
        value = loop.run_until_complete(first_of(generator))
        loop.run_until_complete(generator.aclose())
        return value

    outcome = as_asyncio(body)
    assert [category for category, _ in outcome["warned"]] == [ResourceWarning]


def test_exception_while_shutting_generators_down_is_reported(as_asyncio):
    def body(loop):
        reports = []
        loop.set_exception_handler(
            lambda loop, context: reports.append((context["message"], repr(context["exception"]), sorted(context)))
        )

        async def fail_to_close():
            try:
                yield 1
            finally:
                1 / 0

        generator = fail_to_close()
        loop.run_until_complete(first_of(generator))
        loop.run_until_complete(loop.shutdown_asyncgens())
        return reports

    assert len(as_asyncio(body)["result"]) == 1
