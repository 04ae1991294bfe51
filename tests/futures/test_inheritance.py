"""Classes derived from cloop's Future and Task, and the relation between the two."""

import asyncio
import gc
import sys

import pytest


@pytest.fixture
def future_class(loop_kind, request):
    return asyncio.Future if loop_kind == "asyncio" else request.getfixturevalue("cloop").Future


@pytest.fixture
def task_class(loop_kind, request):
    return asyncio.Task if loop_kind == "asyncio" else request.getfixturevalue("cloop").Task


async def answer():
    return 42


async def wait_for(future):
    return await future


class Attributes:
    """Comes before a class of futures, and has attributes before that is initialised."""

    def __init__(self, *args, **options):
        self.callbacks = []
        super().__init__(*args, **options)

    def add_done_callback(self, callback, **options):
        self.callbacks.append(callback)
        super().add_done_callback(callback, **options)


# Subclasses


def test_attributes_from_before_init_stay(loop, future_class, task_class):
    class Future(Attributes, future_class):
        pass

    class Task(Attributes, task_class):
        pass

    future = Future(loop=loop)
    task = Task(wait_for(future), loop=loop)
    loop.call_soon(future.set_result, 5)
    assert loop.run_until_complete(task) == 5
    assert len(future.callbacks) == len(task.callbacks) == 1


def test_a_task_of_a_subclass_is_woken(loop, task_class):
    class Task(task_class):
        pass

    future = loop.create_future()
    task = Task(wait_for(future), loop=loop)
    loop.call_soon(loop.call_soon, future.set_result, 5)  # when it waits already
    assert loop.run_until_complete(task) == 5


def test_a_base_that_derives_from_asyncios_class_comes_first(loop, future_class, task_class):
    class OtherFuture(asyncio.Future):
        pass

    class OtherTask(asyncio.Task):
        pass

    class Future(OtherFuture, future_class):
        pass

    class Task(OtherTask, task_class):
        pass

    future = Future(loop=loop)
    task = Task(wait_for(Task(wait_for(future), loop=loop)), loop=loop)
    loop.call_soon(future.set_result, 5)
    assert loop.run_until_complete(task) == 5


def test_a_future_class_before_a_task_class(loop, turn, future_class, reports):
    # When it was freed with an exception that was never retrieved, no class of cloop was found among those that
    # free it.
    class Base(future_class):
        pass

    class Task(Base, asyncio.Task):
        def __init__(self, coroutine):
            asyncio.Task.__init__(self, coroutine, loop=loop)

    async def fail():
        raise ValueError

    task = Task(fail())
    turn()
    assert task.done()
    del task
    gc.collect()
    assert [type(report["exception"]) for report in reports] == [ValueError]


def test_the_class_is_collected_before_the_object(loop, future_class):
    class Collector:
        def __del__(self):
            gc.collect()

    class Future(future_class):
        pass

    Future(loop=loop).set_result(Collector())
    del Future
    gc.collect()


# A task is a future


def test_a_task_is_a_future(task_class, future_class):
    assert issubclass(task_class, future_class)


def test_methods_of_future_end_a_task(loop, turn, future_class, task_class, reports):
    for end, argument in ((future_class.set_result, 5), (future_class.set_exception, ValueError("given"))):
        coroutine = answer()
        task = task_class(coroutine, loop=loop)
        end(task, argument)
        with pytest.raises(asyncio.InvalidStateError):
            end(task, argument)
        assert repr(task.exception() or task.result()) == repr(argument)
        turn()
        coroutine.close()
        assert "step(): already done" in str(reports.pop()["exception"])
    assert not reports


def test_a_task_that_was_ended_from_outside_leaves_the_list_of_all(loop, turn, future_class, reports):
    # From 3.14 on that list links the tasks themselves. A freed task that was still in it would, when reused, be
    # its own successor.
    for _ in range(10):
        coroutine = answer()
        future_class.set_result(loop.create_task(coroutine), 5)
        turn()
        coroutine.close()
        reports.clear()
        gc.collect()
    assert asyncio.all_tasks(loop) == set()


def test_a_task_does_not_take_a_result(loop, task_class):
    task = task_class(answer(), loop=loop)
    for method in (task.set_result, task.set_exception):
        with pytest.raises(RuntimeError, match="does not support"):
            method(ValueError())
    assert loop.run_until_complete(task) == 42


# __init__


@pytest.mark.skipif(sys.version_info < (3, 15), reason="Python 3.15 began to check these")
@pytest.mark.parametrize("options", [{}, {"context": 3}], ids=["second init", "no context"])
def test_strict_init(loop, task_class, options):
    def error(made_by):
        coroutine = answer()
        task = made_by(answer(), loop=loop)
        with pytest.raises((RuntimeError, TypeError)) as info:
            made_by(coroutine, loop=loop, **options) if options else task.__init__(coroutine, loop=loop)
        coroutine.close()
        loop.run_until_complete(task)
        return info.type, str(info.value).replace("_asyncio.", "cloop.")

    assert error(task_class) == error(asyncio.Task)


@pytest.mark.skipif(sys.version_info >= (3, 15), reason="an error from Python 3.15 on")
def test_init_again(loop, task_class):
    first = answer()
    task = task_class(first, loop=loop)
    task.attribute = 5
    task._log_destroy_pending = False
    loop.call_soon(loop.stop)
    loop.run_forever()
    task.__init__(answer(), loop=loop)
    assert not task.done() and task.attribute == 5
    assert loop.run_until_complete(task) == 42
