"""asyncio.current_task() and asyncio.all_tasks() know cloop's tasks."""

import asyncio
import gc
import sys
import threading

import pytest


async def forever():
    await asyncio.get_running_loop().create_future()


def names(loop):
    return sorted(task.get_name() for task in asyncio.all_tasks(loop))


def test_current_task_from_everywhere(as_asyncio, settle, classes):
    def body(loop):
        seen = []

        def look(where, *_):
            task = asyncio.current_task(loop)
            seen.append((where, task and task.get_name()))

        async def inner():
            look("inner")
            await asyncio.sleep(0)
            look("inner, later")

        async def main():
            look("main")
            task = loop.create_task(inner(), name="inner")
            stock = asyncio.Task(inner(), loop=loop, name="stock")
            python = asyncio.tasks._PyTask(inner(), loop=loop, name="Python")
            task.add_done_callback(lambda task: look("done callback"))
            loop.call_soon(look, "callback")
            reader = loop.create_future()
            loop.call_later(0, lambda: (look("timer"), reader.set_result(None)))
            await inner()
            await asyncio.gather(task, stock, python, reader)
            look("main, later")

        look("outside")
        loop.run_until_complete(loop.create_task(main(), name="main"))
        look("after")
        return seen[:1] + sorted(seen[1:], key=str)

    assert ("callback", None) in as_asyncio(body)["result"]


def test_current_task_needs_a_loop(as_asyncio):
    def body(loop):
        loop.call_soon(loop.stop)
        loop.run_forever()
        return asyncio.current_task()

    assert as_asyncio(body)["result"] == (RuntimeError, "no running event loop")


def test_current_task_of_a_thread(loop, new_loop):
    other = new_loop()

    async def look():
        return asyncio.current_task() is asyncio.current_task(other), asyncio.current_task() is not mine

    async def main():
        return await loop.run_in_executor(None, lambda: other.run_until_complete(other.create_task(look())))

    mine = loop.create_task(main())
    assert loop.run_until_complete(mine) == (True, True)


def test_current_task_where_a_task_was_the_last_to_run(loop, settle):
    """asyncio's own tasks may enter after one of ours, in the same turn and outside it."""

    async def nothing():
        pass

    for _ in range(3):
        tasks = [cls(nothing(), loop=loop) for cls in (type(loop.create_task(nothing())), asyncio.Task) * 2]
        settle(loop, 2)
        assert all(task.done() for task in tasks)
        assert asyncio.current_task(loop) is None


@pytest.mark.skipif(sys.version_info < (3, 12), reason="_swap_current_task() came in Python 3.12")
def test_current_task_swapped(loop):
    async def main():
        task = asyncio.current_task()
        assert asyncio.tasks._swap_current_task(loop, None) is task
        assert asyncio.current_task() is None
        assert asyncio.tasks._swap_current_task(loop, task) is None
        assert asyncio.current_task() is task

    loop.run_until_complete(main())


def test_entered_twice(as_asyncio):
    def body(loop):
        async def main():
            mine = asyncio.current_task()
            other = loop.create_task(forever())
            seen = []
            for call in [
                lambda: asyncio.tasks._enter_task(loop, other),
                lambda: asyncio.tasks._leave_task(loop, other),
            ]:
                try:
                    call()
                except RuntimeError as error:
                    seen.append(str(error).split("<")[0])
            other.cancel()
            return seen, asyncio.current_task() is mine

        return loop.run_until_complete(main())

    assert as_asyncio(body)["result"][1]


def test_left_by_hand_within_a_step(as_asyncio, settle):
    """The step then finds another task than itself, as asyncio's does."""

    def body(loop):
        reports = []
        loop.set_exception_handler(lambda loop, context: reports.append(str(context["exception"]).split("<")[0]))

        async def leave():
            asyncio.tasks._leave_task(loop, asyncio.current_task())

        loop.create_task(leave())
        settle(loop)
        return asyncio.current_task(loop)

    as_asyncio(body)


def test_all_tasks(as_asyncio, settle):
    def body(loop):
        seen = []
        finished = loop.create_task(asyncio.sleep(0), name="finished")
        waiting = loop.create_task(forever(), name="waiting")
        new = asyncio.Task(forever(), loop=loop, name="stock")
        seen.append(names(loop))
        settle(loop)
        seen.append((finished.done(), names(loop)))
        waiting.cancel()
        seen.append(names(loop))
        settle(loop)
        seen.append(names(loop))
        new._log_destroy_pending = False
        del new
        gc.collect()
        seen.append(names(loop))
        loop.create_task(forever(), name="never run")
        seen.append(names(loop))
        for task in asyncio.all_tasks(loop):
            task.cancel()
        settle(loop)
        return seen

    assert as_asyncio(body)["result"][0] == ["finished", "stock", "waiting"]


@pytest.mark.skipif(not hasattr(asyncio.Task, "all_tasks"), reason="gone since 3.9")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_all_tasks_of_the_class_has_those_that_are_done(as_asyncio, settle):
    async def nothing():
        pass

    async def fail():
        raise ValueError

    def body(loop):
        made = [loop.create_task(coro, name=name) for name, coro in (("A", nothing()), ("B", fail()), ("C", forever()))]
        settle(loop)
        seen = [sorted(task.get_name() for task in asyncio.Task.all_tasks(loop)), names(loop)]
        made[1].exception()
        made.pop().cancel()
        settle(loop)
        del made
        return seen + [len(asyncio.Task.all_tasks(loop))]

    assert as_asyncio(body)["result"] == [["A", "B", "C"], ["C"], 0]


def test_all_tasks_of_several_loops(loop, new_loop):
    loops = [loop, new_loop(), new_loop()]
    tasks = [each.create_task(forever(), name="of %d" % n) for n, each in enumerate(loops)]
    assert [names(each) for each in loops] == [["of 0"], ["of 1"], ["of 2"]]
    for each, task in zip(loops, tasks):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            each.run_until_complete(task)
    assert [names(each) for each in loops] == [[], [], []]


def test_all_tasks_while_others_come_and_go(loop):
    """Other threads' loops create, finish and destroy tasks while the set is being read."""

    async def nothing():
        await asyncio.sleep(0)

    async def main():
        for round in range(50):
            for _ in range(20):
                loop.create_task(nothing())
            if round % 10 == 0:
                gc.collect()
            assert asyncio.current_task() in asyncio.all_tasks()
            await asyncio.sleep(0)

    stop = threading.Event()
    failures = []

    def look():
        while not stop.is_set():
            try:
                asyncio.all_tasks(loop)
            except RuntimeError as error:  # asyncio gives up after 1000 tries
                failures.append(error)

    threads = [threading.Thread(target=look) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        loop.run_until_complete(main())
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failures


def test_destroyed_task_is_in_no_list(loop):
    loop.set_exception_handler(lambda loop, context: None)
    for _ in range(3):
        loop.create_task(forever()).get_coro().close()
        task = loop.create_task(forever())
        loop.call_soon(loop.stop)
        loop.run_forever()
        del task
        gc.collect()
        assert asyncio.all_tasks(loop) == set()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came in Python 3.12")
def test_eager_tasks(as_asyncio, classes):
    def body(loop):
        seen = []

        async def look(wait):
            seen.append((asyncio.current_task().get_name(), names(loop)))
            if wait:
                await asyncio.sleep(0)
                seen.append((asyncio.current_task().get_name(), names(loop)))

        async def main():
            for wait in [False, True]:
                for cls in [classes(loop)[1], asyncio.Task]:
                    task = cls(look(wait), loop=loop, eager_start=True, name="eager")
                    seen.append((asyncio.current_task().get_name(), names(loop), task.done()))
                    await task
                    seen.append(names(loop))

        loop.run_until_complete(loop.create_task(main(), name="main"))
        return seen

    as_asyncio(body)


@pytest.mark.parametrize("end", ["", "other", "raise", "exit"])
def test_a_task_that_is_left_in_the_midst_of_a_step(as_asyncio, end):
    """By asyncio's _leave_task(): that is an error, and the next step has a current task again."""

    def body(loop):
        seen, reports = [], []
        loop.set_exception_handler(lambda loop, context: reports.append(context["exception"]))

        async def other():
            seen.append("other")

        async def main():
            task = asyncio.current_task()
            asyncio.tasks._leave_task(loop, task)
            seen.append(asyncio.current_task() is task)
            if end == "raise":
                raise LookupError
            if end == "exit":
                raise SystemExit
            await asyncio.sleep(0)
            for _ in range(2):
                seen.append(asyncio.current_task() is task)
                await asyncio.sleep(0)

        task = loop.create_task(main())
        if end == "other":
            loop.create_task(other())
        for _ in range(5):
            loop.call_soon(loop.stop)
            loop.run_forever()
        error = task.exception()
        return seen, repr(error), [(type(each).__name__, repr(each.__context__)) for each in reports]

    seen, error, reports = as_asyncio(body)["result"]
    assert seen[0] is False and len(reports) == 1 and reports[0][0] == "RuntimeError"
    assert reports[0][1] == ("SystemExit()" if end == "exit" else "None")
