"""cloop.Task instead of asyncio.Task: coroutines of all kinds, cancellation, names, reports, recursion depth."""

import asyncio
import collections.abc
import contextvars
import copy
import gc
import io
import pickle
import re
import sys
import types
import weakref

import pytest

VAR = contextvars.ContextVar("VAR", default="unset")


async def answer():
    return 42


async def wait(awaitable):
    return await awaitable


def test_is_an_asyncio_task(loop, classes):
    task = loop.create_task(answer())
    assert type(task) is classes(loop)[1]
    assert isinstance(task, asyncio.Task) and isinstance(task, asyncio.Future)
    assert issubclass(classes(loop)[1], asyncio.Task) and issubclass(classes(loop)[1], classes(loop)[0])
    assert asyncio.isfuture(task) and asyncio.ensure_future(task) is task
    assert not asyncio.iscoroutine(task)
    assert loop.run_until_complete(task) == 42


# What a coroutine may be, and what it may yield


class ByHand(collections.abc.Coroutine):
    """A coroutine that is no generator, like Cython's."""

    def __init__(self, future):
        self.steps = [iter(future)]
        self.seen = []

    def send(self, value):
        self.seen.append(("send", value))
        return next(self.steps[0])

    def throw(self, kind, value=None, traceback=None):
        error = value if value is not None else kind
        self.seen.append(("throw", type(error)))
        raise error

    def close(self):
        self.seen.append("close")

    def __await__(self):
        return self


def test_coroutine_that_is_no_generator(as_asyncio, settle, endings):
    def body(loop):
        seen = []
        for act in endings:
            future = loop.create_future()
            coro = ByHand(future)
            task = loop.create_task(coro)
            settle(loop)
            act(future, task)
            settle(loop)
            seen.append((task.done(), task.cancelled(), None if task.cancelled() else repr(task.exception())))
            seen.append(coro.seen)
            assert task.get_coro() is coro
        return seen

    assert as_asyncio(body)["result"][0] == (True, False, "None")


@types.coroutine
def yields(value):
    return (yield value)


class Blocking:
    """Barely a future, but marked as one."""

    def __init__(self, blocking, loop=None, **attributes):
        self._asyncio_future_blocking, self._loop = blocking, loop
        vars(self).update(attributes)

    def __repr__(self):
        return "Blocking"


YIELDED = {
    "None": lambda loop: None,
    "int": lambda loop: 5,
    "generator": lambda loop: (each for each in ()),
    "coroutine function": lambda loop: answer,
    "class": lambda loop: asyncio.Future,
    "future not awaited": lambda loop: loop.create_future(),
    "stock future not awaited": lambda loop: asyncio.Future(loop=loop),
    "blocking None": lambda loop: Blocking(None),
    "blocking False": lambda loop: Blocking(False, loop),
    "blocking without methods": lambda loop: Blocking(True, loop),
    "blocking on no loop": lambda loop: Blocking(True),
    "blocking where get_loop fails": lambda loop: Blocking(True, get_loop=lambda: 1 / 0),
    "blocking where adding fails": lambda loop: Blocking(True, loop, add_done_callback=lambda *_, context: 1 / 0),
}


@pytest.mark.parametrize("debug", [False, True], ids=["", "debug"])
@pytest.mark.parametrize("value", list(YIELDED))
def test_coroutine_that_yields_no_future(as_asyncio, settle, value, debug):
    def body(loop):
        reports = []
        loop.set_exception_handler(lambda loop, context: reports.append(repr(context.get("exception"))))
        loop.set_debug(debug)

        async def main():
            return await yields(YIELDED[value](loop))

        task = loop.create_task(main(), name="the task")
        settle(loop)
        loop.set_debug(False)
        text = ""
        if task.done():
            text = type(task.exception()).__name__ + str(task.exception()).replace("<", "[").replace(">", "]")
        task._log_destroy_pending = False
        settle(loop)
        return task.done(), text.split(" created at")[0], reports

    as_asyncio(body)


def test_task_that_awaits_itself(as_asyncio):
    def body(loop):
        async def main():
            await asyncio.current_task()

        loop.run_until_complete(loop.create_task(main(), name="the task"))

    kind, text = as_asyncio(body)["result"]
    assert kind is RuntimeError and text.startswith("Task cannot await on itself: <Task pending name='the task'")


@pytest.mark.parametrize("kind", [0, 1, 2], ids=["future", "task", "stock future"])
def test_future_of_another_loop(as_asyncio, loop_class, kind):
    def body(loop):
        other = type(loop)()
        foreign = [
            other.create_future,
            lambda: other.create_task(answer(), name="foreign"),
            lambda: asyncio.Future(loop=other),
        ][kind]()
        try:
            loop.run_until_complete(loop.create_task(wait(foreign), name="the task"))
        except RuntimeError as error:
            return str(error).replace("<", "[").replace(">", "]")
        finally:
            foreign.cancel()
            other.run_until_complete(asyncio.sleep(0))
            other.close()

    assert as_asyncio(body)["result"].endswith("attached to a different loop")


def test_throw_that_does_not_raise(as_asyncio):
    """A coroutine may continue after an exception was thrown into it, and end in any way."""

    def body(loop):
        async def stubborn(ends):
            for _ in range(3):
                try:
                    await asyncio.sleep(0)
                except asyncio.CancelledError:
                    pass
            if ends:
                raise ends
            return "done"

        seen = []
        for ends in [None, ValueError(1), asyncio.CancelledError("own"), StopIteration(2), GeneratorExit()]:
            task = loop.create_task(stubborn(ends))
            for _ in range(3):
                loop.call_soon(task.cancel)
                loop.call_soon(loop.stop)
                try:
                    loop.run_forever()
                except GeneratorExit:
                    seen.append("left the loop")
            loop.run_until_complete(asyncio.wait([task]))
            try:
                seen.append(task.result())
            except BaseException as error:
                seen.append(repr(error))
        return seen

    as_asyncio(body)


# Names, contexts, classes


@pytest.mark.parametrize("name", [None, "given", "", 5, ("a", 1), type("Sub", (str,), {})("sub")], ids=repr)
def test_names(as_asyncio, classes, name):
    def body(loop):
        tasks = [classes(loop)[1](answer(), loop=loop, name=name), loop.create_task(answer(), name=name)]
        seen = [(type(task.get_name()).__name__, task.get_name() if name is not None else "") for task in tasks]
        for task in tasks:
            task.set_name(name)
            seen.append((type(task.get_name()).__name__, task.get_name()))
            loop.run_until_complete(task)
            seen.append(task.get_name())
        return seen

    as_asyncio(body)


def test_default_names_are_numbered(loop):
    tasks = [loop.create_task(answer()) for _ in range(3)]
    numbers = [int(task.get_name()[len("Task-") :]) for task in tasks]
    assert numbers == list(range(numbers[0], numbers[0] + 3))
    assert tasks[0].get_name() is tasks[0].get_name()
    assert [repr(task).split("name=")[1][:6] for task in tasks] == ["'Task-"] * 3
    for task in tasks:
        loop.run_until_complete(task)


def test_name_whose_str_fails(as_asyncio):
    def body(loop):
        class Name:
            __str__ = __repr__ = lambda self: 1 / 0

        coro = answer()
        try:
            loop.create_task(coro, name=Name())
        finally:
            coro.close()

    assert as_asyncio(body)["result"][0] is ZeroDivisionError


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Task(context=) came in Python 3.11")
def test_contexts(as_asyncio, classes):
    def body(loop):
        async def change(value):
            before = VAR.get()
            VAR.set(value)
            await asyncio.sleep(0)
            return before, VAR.get()

        context, seen = contextvars.copy_context(), []
        for number in range(2):
            task = classes(loop)[1](change(number), loop=loop, context=context)
            seen.append(loop.run_until_complete(task))
            if hasattr(task, "get_context"):
                seen.append(task.get_context() is context)
        for wrong in [5, dict()]:
            coro = change(0)
            loop.set_exception_handler(lambda loop, context: seen.append(str(context["exception"])))
            try:
                task = classes(loop)[1](coro, loop=loop, context=wrong)
                loop.call_soon(loop.stop)
                loop.run_forever()
                seen.append(task.done())
                task._log_destroy_pending = False
            except Exception as error:
                seen.append(repr(error))
            coro.close()
        return seen, context[VAR], VAR.get()

    assert as_asyncio(body)["result"][1:] == (1, "unset")


def test_subclass_with_everything_overridden(as_asyncio, classes, settle, logging_subclass):
    def body(loop):
        seen = []

        names = ["__init__", "cancel", "add_done_callback", "remove_done_callback", "result", "exception", "done"]
        names += ["get_loop", "get_coro", "get_name", "__iter__", "__await__", "set_result"]
        Sub = logging_subclass(classes(loop)[1], names, seen)
        for act in [
            lambda future, task, outer: future.set_result(1),
            lambda future, task, outer: future.set_exception(KeyError(1)),
            lambda future, task, outer: future.cancel(),
            lambda future, task, outer: task.cancel(),
            lambda future, task, outer: outer.cancel(),
        ]:
            for future in [loop.create_future(), asyncio.Future(loop=loop)]:
                task = Sub(wait(future), loop=loop, name="sub")
                outer = loop.create_task(wait(task), name="outer")
                settle(loop)
                seen.append((repr(future)[1:-1].replace("Sub.", "Task."), repr(task)[1:12]))
                act(future, task, outer)
                settle(loop)
                seen.append((task.cancelled(), outer.cancelled()))
                if not outer.cancelled():
                    seen.append(repr(outer.exception()))
                del task, outer
        return seen

    as_asyncio(body)


def test_set_result_and_set_exception_are_refused(as_asyncio):
    def body(loop):
        task, seen = loop.create_task(answer()), []
        for use in [lambda: task.set_result(1), lambda: task.set_exception(ValueError()), lambda: asyncio.Task()]:
            with pytest.raises((RuntimeError, TypeError)) as raised:
                use()
            seen.append(str(raised.value))
        return seen, loop.run_until_complete(task)

    assert as_asyncio(body)["result"][1] == 42


def test_new_without_init(as_asyncio, classes):
    def body(loop):
        task = classes(loop)[1].__new__(classes(loop)[1])
        seen = []
        for use in [
            task.done,
            task.result,
            task.cancel,
            task.get_loop,
            lambda: task.add_done_callback(print),
            lambda: iter(task),
            lambda: task._callbacks,
            lambda: task.set_name("x"),
            task.get_name,
        ]:
            try:
                seen.append(repr(use()))
            except Exception as error:
                seen.append((type(error), str(error)))
        task._log_destroy_pending = False
        return seen

    as_asyncio(body)


def test_made_without_init_where_asyncio_crashes(cloop):
    if cloop.Task is asyncio.Task:
        pytest.skip("asyncio's own tasks")
    for name in ["get_coro", "get_context"]:
        task = cloop.Task.__new__(cloop.Task)
        assert not getattr(task, name, bool)()
        task._log_destroy_pending = False
    task = cloop.Task.__new__(cloop.Task)
    task._log_destroy_pending = True  # no loop could be told
    del task
    task = [cloop.Task.__new__(cloop.Task)]
    task[0]._log_destroy_pending = True
    task.append(task)
    del task
    gc.collect()


def test_init_again(as_asyncio, settle, classes):
    def body(loop):
        Task, seen = classes(loop)[1], []
        task = Task(answer(), loop=loop)
        loop.run_until_complete(task)
        again = wait(asyncio.sleep(0))
        try:
            task.__init__(again, loop=loop, name="again")
        except RuntimeError as error:  # from Python 3.15 on
            again.close()
            return str(error).split(".")[-1]
        seen.append((task.done(), task.get_name(), task in asyncio.all_tasks(loop)))
        settle(loop)
        seen.append((repr(task.result()), task in asyncio.all_tasks(loop)))
        return seen

    again = [(False, "again", True), ("None", False)]
    once = "Task object is already initialized"
    assert as_asyncio(body)["result"] == (again if sys.version_info < (3, 15) else once)


def test_cancel_of_a_task_that_has_failed_takes_its_exception(loop, settle, classes, reports):
    """Though it is too late: nobody is told that the exception was never retrieved."""

    async def fail():
        raise ZeroDivisionError

    task = classes(loop)[1](fail(), loop=loop)
    settle(loop)
    assert task._log_traceback and not task.cancel() and not task._log_traceback
    del task
    gc.collect()
    assert reports == []


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.skipif(sys.version_info >= (3, 15), reason="a task can be initialised only once")
def test_init_again_at_the_wrong_time(loop, settle, classes, cloop):
    """asyncio's tasks crash here. Ours must not, whatever the result."""
    Task = classes(loop)[1]
    if Task is asyncio.Task:
        pytest.skip("asyncio's own tasks")
    loop.set_exception_handler(lambda loop, context: None)
    future = loop.create_future()
    task = Task(wait(future), loop=loop)
    settle(loop)
    task.__init__(answer(), loop=loop)
    settle(loop)
    assert task.result() == 42
    future.cancel()
    settle(loop)

    async def within():
        asyncio.current_task().__init__(wait(asyncio.sleep(0)), loop=loop, name="again")
        return "of the first"

    task = Task(within(), loop=loop)
    settle(loop)
    assert task.done()
    with pytest.raises(TypeError):
        task.__init__(5, loop=loop)
    assert "finished" in repr(task)


@pytest.mark.skipif(sys.version_info >= (3, 15), reason="a task can be initialised only once")
def test_initialised_again_while_it_is_woken(cloop, settle):
    """By the loop's call_soon(): the context of before is passed to it, and must still be there. The memory of one that is
    freed is the next one's.
    """
    armed, lost, contexts = [], [], []

    class Loop(cloop.Loop):
        def __getattribute__(self, name):
            if name == "call_soon" and armed:
                armed.clear()
                task.__init__(answer(), loop=self)
            return super().__getattribute__(name)

        def call_soon(self, callback, *args, context=None):
            if lost:
                return lost.clear()
            contexts.append(context)
            return super().call_soon(callback, *args, context=context)

    loop = Loop()
    loop.set_exception_handler(lambda *args: None)  # the waking comes too late
    try:
        future = loop.create_future()
        task = loop.create_task(wait(future))
        settle(loop)
        lost.append(1)
        begun = wait(future)
        task.__init__(begun, loop=loop)  # so the future does not have its context
        begun.close()
        contexts.clear()
        armed.append(1)
        future.set_result(5)
        first_step, waking = contexts
        assert first_step is not waking
        settle(loop)
        assert task.result() == 42
    finally:
        loop.close()


def test_callables_called_by_hand(as_asyncio, settle):
    """Objects that asyncio passes to call_soon() and add_done_callback(), called at the wrong time."""

    def body(loop):
        seen, steps = [], []
        reports = []
        loop.set_exception_handler(lambda loop, context: reports.append(type(context.get("exception")).__name__))

        def use(callable, *args):
            try:
                seen.append(callable(*args))
            except BaseException as error:
                seen.append(type(error))

        call_soon = loop.call_soon
        loop.call_soon = lambda callback, *args, **kwargs: (
            steps.append(callback) or call_soon(callback, *args, **kwargs)
        )
        future = loop.create_future()
        task = loop.create_task(wait(future))
        del loop.call_soon
        step = steps[0]
        assert step.__self__ is task
        settle(loop)
        wakeup = future._callbacks[0][0]
        assert wakeup.__self__ is task
        use(wakeup)
        use(wakeup, 5)
        settle(loop)
        seen.append(task.done())
        task.done() and seen.append(repr(task.exception()))
        use(wakeup, future)
        use(step)
        future.cancel()
        settle(loop)
        use(wakeup, future)
        use(step)
        return seen, reports

    as_asyncio(body)


def test_stepped_within_its_own_step(as_asyncio):
    def body(loop):
        steps, seen = [], []
        loop.call_soon, call_soon = (
            (lambda callback, *args, **kwargs: steps.append(callback) or call_soon(callback, *args, **kwargs)),
            loop.call_soon,
        )

        async def main():
            await asyncio.sleep(0)
            for callback in list(steps):
                if getattr(callback, "__self__", None) is asyncio.current_task():
                    try:
                        callback()
                    except BaseException as error:
                        seen.append(type(error))
            await asyncio.sleep(0)

        task = loop.create_task(main())
        try:
            loop.run_until_complete(task)
        except BaseException as error:
            seen.append(type(error))
        return seen

    as_asyncio(body)


# Cancellation


@pytest.mark.skipif(sys.version_info < (3, 9), reason="cancel(msg) came in Python 3.9")
@pytest.mark.parametrize("messages", [(None, "a"), ("a", None), ("a", "b"), (5, 6)], ids=str)
def test_cancelled_twice_with_messages(as_asyncio, settle, messages):
    def body(loop):
        seen = []
        for before_it_starts in (True, False):
            task = loop.create_task(wait(loop.create_future()))
            before_it_starts or settle(loop)
            for message in messages:
                seen.append((task.cancel(message), getattr(task, "cancelling", int)()))
            settle(loop)
            for _ in range(2):
                with pytest.raises(asyncio.CancelledError) as raised:
                    task.result()
                context = raised.value.__context__
                seen.append((raised.value.args, context and context.args))
            seen.append(task.cancel())
        return seen

    as_asyncio(body)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="uncancel() came in Python 3.11")
def test_uncancel(as_asyncio, settle):
    def body(loop):
        seen = []

        async def main():
            me = asyncio.current_task()
            for times in [1, 3]:
                for _ in range(times):
                    seen.append((me.cancel(), me.cancelling()))
                for _ in range(times + 1):
                    seen.append((me.uncancel(), me.cancelling(), me._must_cancel))
                try:
                    await asyncio.sleep(0)
                except asyncio.CancelledError as error:
                    seen.append(error.args)
            me.cancel("at the end")

        task = loop.create_task(main())
        loop.call_soon(task.uncancel)
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(task)
        return seen, task.cancelling()

    as_asyncio(body)


def chain(loop, length):
    """Tasks each of which awaits the next; the last awaits the future."""
    future = loop.create_future()
    tasks = [loop.create_task(wait(future))]
    for _ in range(length - 1):
        tasks.append(loop.create_task(wait(tasks[-1])))
    loop.run_until_complete(asyncio.sleep(0))
    return future, tasks


DEEP = 100000


@pytest.fixture
def one_loop(cloop):
    """A cloop loop with its own tasks; asyncio's would exhaust the stack in these tests."""
    if cloop.Task is asyncio.Task:
        pytest.skip("asyncio's own tasks")
    loop = cloop.Loop()
    yield loop
    loop.close()


def test_deep_chain_completes(one_loop):
    future, tasks = chain(one_loop, DEEP)
    future.set_result(5)
    assert one_loop.run_until_complete(tasks[-1]) == 5


def test_deep_chain_is_cancelled(one_loop):
    # asyncio of 3.9 and 3.10 walks the whole chain of contexts for each exception.
    deep = DEEP // 10 if (3, 9) <= sys.version_info < (3, 11) else DEEP
    future, tasks = chain(one_loop, deep)
    assert tasks[-1].cancel()
    with pytest.raises(asyncio.CancelledError):
        one_loop.run_until_complete(tasks[-1])
    assert future.cancelled() and sum(task.cancelled() for task in tasks) == deep


@pytest.mark.parametrize("keep", [0, -1, None], ids=["the first is kept", "the last is kept", "none is kept"])
def test_deep_chain_is_destroyed_while_pending(one_loop, keep):
    reports = []
    one_loop.set_exception_handler(lambda loop, context: reports.append(context["message"]))
    tasks = chain(one_loop, DEEP)[1]
    kept = None if keep is None else tasks[keep]
    tasks = None
    gc.collect()
    assert len(reports) == (DEEP if kept is None else 0)
    kept = None
    gc.collect()
    assert len(reports) == DEEP and set(reports) == {"Task was destroyed but it is pending!"}


def test_deep_exception(loop):
    """Its traceback has a frame for each task."""
    future, tasks = chain(loop, 1000)
    future.set_exception(ValueError("deep"))
    with pytest.raises(ValueError):
        loop.run_until_complete(tasks[-1])
    for task in tasks:
        task.exception()


def test_ring_of_tasks(as_asyncio, settle):
    def body(loop):
        tasks = []

        async def wait_for_next(number):
            await tasks[(number + 1) % 3]

        tasks += [loop.create_task(wait_for_next(number)) for number in range(3)]
        settle(loop)
        with pytest.raises(RecursionError):
            tasks[0].cancel()
        seen = [task.done() for task in tasks]
        for task in tasks:
            task._log_destroy_pending = False
        return seen

    assert as_asyncio(body)["result"] == [False] * 3


# KeyboardInterrupt and SystemExit


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_system_exit_leaves_the_loop_and_is_the_exception_of_the_task(as_asyncio, settle, kind):
    def body(loop):
        seen = []

        async def fail():
            raise kind("now")

        async def wait_and_see(task):
            try:
                await task
            except BaseException as error:
                seen.append(repr(error))

        task = loop.create_task(fail())
        other = loop.create_task(wait_and_see(task))
        loop.call_soon(seen.append, "still runs later")
        try:
            loop.run_forever()
        except kind as error:
            seen.append(("left", repr(error)))
        seen.append((task.done(), repr(task.exception()), asyncio.current_task(loop)))
        loop.run_until_complete(other)
        return seen

    assert ("left", repr(kind("now"))) in as_asyncio(body)["result"]


def test_loop_closed_and_stopped_within_a_step(as_asyncio):
    def body(loop):
        seen = []

        async def main():
            try:
                loop.close()
            except RuntimeError as error:
                seen.append(str(error))
            loop.stop()
            await asyncio.sleep(0)
            seen.append("went on")

        task = loop.create_task(main())
        loop.run_forever()
        seen.append(task.done())
        loop.run_until_complete(task)
        return seen

    assert as_asyncio(body)["result"][-1] == "went on"


def test_loop_closed_with_tasks_ready(as_asyncio):
    def body(loop):
        future = loop.create_future()
        task = loop.create_task(wait(future))
        loop.run_until_complete(asyncio.sleep(0))
        future.set_result(None)
        ready = loop.create_task(answer())
        loop.close()
        seen = []
        for act in [lambda: ready.cancel(), lambda: task.cancel(), lambda: loop.create_task(None)]:
            try:
                seen.append(act())
            except Exception as error:
                seen.append((type(error), str(error)))
        for each in (task, ready):
            each._log_destroy_pending = False
            each.get_coro().close()
        return seen

    as_asyncio(body)


# What is shown


def test_ready_shows_what_asyncio_has_there(as_asyncio):
    def body(loop):
        future = loop.create_future()
        waiting = loop.create_task(wait(future))
        loop.run_until_complete(asyncio.sleep(0))
        future.set_result(None)
        new = loop.create_task(answer())
        loop.call_soon(repr, 5)
        handles = list(loop._ready)
        seen = [getattr(handle._callback, "__self__", None) in (waiting, new) for handle in handles]
        seen += [handle.cancelled() for handle in handles] + [isinstance(each, asyncio.Handle) for each in handles]
        loop.run_until_complete(asyncio.gather(waiting, new)) if sys.version_info < (3, 10) else (
            loop.run_until_complete(wait_all(waiting, new))
        )
        return seen

    async def wait_all(*tasks):
        return await asyncio.gather(*tasks)

    assert as_asyncio(body)["result"][:3] == [True, True, False]


@pytest.mark.parametrize("debug", [False, True], ids=["", "debug"])
def test_reprs(as_asyncio, settle, classes, debug):
    def body(loop):
        loop.set_debug(debug)
        Future, Task = classes(loop)
        seen, future = [], Future(loop=loop)

        async def fail():
            raise ValueError("why")

        async def look():
            seen.append(repr(asyncio.current_task()))
            await asyncio.sleep(0)

        tasks = [Task(coro, loop=loop, name="n") for coro in (wait(future), fail(), look(), answer(), ByHand(future))]
        tasks[3].add_done_callback(repr)
        for act in [lambda: None, lambda: settle(loop), tasks[0].cancel, lambda: settle(loop)]:
            act()
            seen += [repr(task) for task in tasks]
        tasks[1].exception()
        tasks[4].cancel()
        settle(loop)
        seen = [
            text.replace("<TaskWakeupMethWrapper object at ", "[").replace("<", "[").replace(">", "]") for text in seen
        ]
        return [re.sub(r"\[0x\w+\]\(\)", "Task.task_wakeup()", text) for text in seen]

    as_asyncio(body)


def test_stacks(as_asyncio, settle):
    def body(loop):
        seen = []

        def look(task):
            frames = [frame.f_code.co_name for frame in task.get_stack()]
            output = io.StringIO()
            task.print_stack(file=output)
            lines = [line for line in output.getvalue().splitlines() if "built-in" not in line]
            seen.append((frames[-1:], task.get_stack(limit=1) and 1, lines[:1] and lines[0].split(" for ")[0]))

        async def fail():
            1 / 0

        async def main():
            look(asyncio.current_task())

        waiting, failing = loop.create_task(wait(loop.create_future())), loop.create_task(fail())
        look(waiting)
        settle(loop)
        look(waiting)
        look(failing)
        failing.exception()
        waiting.cancel()
        loop.run_until_complete(main())
        look(waiting)
        return seen

    as_asyncio(body)


@pytest.mark.parametrize("debug", [False, True], ids=["", "debug"])
def test_destroyed_while_pending(as_asyncio, settle, classes, debug):
    def body(loop):
        reports = []

        def report(loop, context):
            where = [context[key][-1].name for key in context if key == "source_traceback"]
            reports.append((context["message"], sorted(context), type(context["task"]).__name__, where))

        loop.set_exception_handler(report)
        loop.set_debug(debug)
        for silent in [False, True]:
            task = classes(loop)[1](wait(loop.create_future()), loop=loop)
            task._log_destroy_pending = not silent
            settle(loop)
            del task
            gc.collect()
        return reports

    assert len(as_asyncio(body)["result"]) == 1


def test_coroutine_never_awaited(as_asyncio):
    def body(loop):
        loop.create_task(answer())._log_destroy_pending = False
        loop.close()
        gc.collect()

    as_asyncio(body)


def test_slow_callback_names_the_task(loop, caplog):
    now = [0]

    async def slow():
        now[0] += 1
        await future
        now[0] += 1

    loop.time = lambda: now[0]
    loop.set_debug(True)
    future = loop.create_future()
    task = loop.create_task(slow(), name="the slow one")
    loop.call_soon(loop.call_soon, future.set_result, None)
    loop.run_until_complete(task)
    records = [record.getMessage() for record in caplog.records if record.getMessage().startswith("Executing")]
    assert len(records) == 2
    for record in records:
        assert record.startswith("Executing <Task ") and "name='the slow one'" in record, record
        assert record.endswith("took 1.000 seconds")


# Garbage


def test_cannot_be_copied_or_pickled(as_asyncio):
    def body(loop):
        task, seen = loop.create_task(answer()), []
        for use in [copy.copy, copy.deepcopy, pickle.dumps]:
            with pytest.raises(TypeError) as raised:
                use(task)
            seen.append(str(raised.value).replace("cloop.", "").replace("_asyncio.", ""))
        return seen, loop.run_until_complete(task)

    as_asyncio(body)


def test_weak_references(loop):
    task, seen = loop.create_task(answer()), []
    reference = weakref.ref(task, lambda reference: seen.append("gone"))
    loop.run_until_complete(task)
    assert reference() is task
    del task
    gc.collect()
    assert seen == ["gone"]


def test_done_task_is_in_no_reference_cycle(loop):
    gc.disable()
    try:
        task = loop.create_task(answer())
        reference = weakref.ref(task)
        loop.run_until_complete(asyncio.sleep(0))
        del task
        assert reference() is None
    finally:
        gc.enable()


def test_cycle_through_the_frame_is_collected(loop, settle):
    """future, callback, task, coroutine, frame, future: pending, and only reachable for the collector."""
    loop.set_exception_handler(lambda loop, context: None)
    references = []
    for stock in (False, True):

        async def main(box):
            future = box.pop()
            future.add_done_callback(lambda _: task)
            task = asyncio.current_task()
            references.append(weakref.ref(task))
            references.append(weakref.ref(future))
            await future

        loop.create_task(main([asyncio.Future(loop=loop) if stock else loop.create_future()]))
    settle(loop)
    gc.collect()
    assert [reference() for reference in references] == [None] * 4


def test_factories(as_asyncio, classes):
    if not hasattr(asyncio, "create_eager_task_factory"):
        pytest.skip("eager tasks came in Python 3.12")

    def body(loop):
        seen = []

        async def pause():
            await asyncio.sleep(0)
            return asyncio.current_task().get_name()

        async def main():
            for factory in [
                asyncio.eager_task_factory,
                asyncio.create_eager_task_factory(classes(loop)[1]),
                asyncio.create_eager_task_factory(asyncio.Task),
            ]:
                loop.set_task_factory(factory)
                tasks = [loop.create_task(answer(), name="a"), loop.create_task(pause(), name="b")]
                seen.append([task.done() for task in tasks] + [isinstance(task, asyncio.Task) for task in tasks])
                seen.append(await asyncio.gather(*tasks))
                async with asyncio.TaskGroup() as group:
                    inner = [group.create_task(answer()), group.create_task(pause(), name="c")]
                seen.append([task.result() for task in inner])
            loop.set_task_factory(None)

        loop.run_until_complete(main())
        return seen

    assert as_asyncio(body)["result"][0] == [True, False, True, True]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came in Python 3.12")
def test_eager_starts(as_asyncio, classes, settle):
    def body(loop):
        seen = []

        async def fail(kind):
            raise kind("early")

        async def swallow(future):
            try:
                await future
            except asyncio.CancelledError as error:
                seen.append(error.args)
                raise

        async def main():
            Task = classes(loop)[1]
            future = loop.create_future()
            for coro in [answer(), fail(ValueError), fail(asyncio.CancelledError), wait(future), swallow(future)]:
                before = asyncio.current_task()
                task = Task(coro, loop=loop, eager_start=True, name="eager")
                seen.append((asyncio.current_task() is before, task.done(), task.cancelled(), repr(task)[1:20]))
                if sys.version_info >= (3, 13):  # asyncio of 3.12.1 crashes
                    seen.append(task.get_coro() is coro)
                task.cancel("msg")
                try:
                    await task
                except (Exception, asyncio.CancelledError) as error:
                    seen.append(repr(error))
            for kind in (KeyboardInterrupt, SystemExit):
                try:
                    Task(fail(kind), loop=loop, eager_start=True, name="exits")
                except kind as error:
                    seen.append((repr(error), asyncio.current_task() is before))

        loop.run_until_complete(main())
        task = classes(loop)[1](answer(), loop=loop, eager_start=True)  # not running: not eager
        seen.append(task.done())
        loop.run_until_complete(task)
        gc.collect()  # the exception is in cycles, and reported when they are collected
        return seen

    as_asyncio(body)


def test_a_task_finds_the_running_loop(cloop, one_loop):
    async def main():
        task = cloop.Task(asyncio.sleep(0, 1))
        assert task.get_loop() is one_loop
        return await task

    assert one_loop.run_until_complete(main()) == 1
    coro = main()
    if sys.version_info >= (3, 14):
        with pytest.raises(RuntimeError):
            cloop.Task(coro)
    coro.close()


def test_many_keywords_for_a_task_factory(as_asyncio):
    """From Python 3.13 on it gets them all."""

    def body(loop):
        def factory(loop, coro, **options):
            coro.close()
            return sorted(options)

        coro = asyncio.sleep(0)
        loop.set_task_factory(factory)
        try:
            return loop.create_task(coro, **{"option%d" % number: number for number in range(20)})
        except TypeError as error:
            coro.close()
            return type(error).__name__

    as_asyncio(body)
