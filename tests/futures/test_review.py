"""Bugs found in a review of futures and tasks: each test failed once."""

import asyncio
import gc
import sys

import pytest


@pytest.fixture
def spin(loop):
    """Runs this many turns of a loop, without a task."""

    def spin(turns=1, loop=loop):
        for _ in range(turns):
            loop.call_soon(loop.stop)
            loop.run_forever()

    return spin


async def pause(times=1):
    for _ in range(times):
        await asyncio.sleep(0)


def current(loop):
    return asyncio.current_task(loop)


# Between the steps of tasks there is no current task.


def test_no_task_is_current_in_the_exception_handler_of_a_failed_step(loop, spin):
    class Future(asyncio.Future):
        def get_loop(self):
            raise ValueError("no loop")

    async def wait():
        await future

    seen = []
    future = Future(loop=loop)
    loop.set_exception_handler(lambda loop, context: seen.append((str(context["exception"]), current(loop))))
    task = loop.create_task(wait())
    task._log_destroy_pending = False
    spin(2)
    assert seen == [("no loop", None)]


def test_no_task_is_current_in_the_exception_handler_of_a_future_s_method(loop):
    seen = []
    loop.set_exception_handler(lambda loop, context: seen.append(current(loop)))
    future = loop.create_future()
    future.set_result(1)
    task = loop.create_task(pause(4))
    loop.call_soon(future.set_result, 2)
    loop.run_until_complete(task)
    assert seen == [None]


def test_no_task_is_current_after_a_turn(new_loop, loop_class):
    class Loop(loop_class):
        def _run_once(self):
            super()._run_once()
            seen.append(current(self))

    seen = []
    loop = new_loop(Loop)
    loop.run_until_complete(pause(3))
    assert set(seen) == {None} and len(seen) > 3


def test_no_task_is_current_after_a_handle_run_by_hand(loop, spin):
    asyncio._set_running_loop(loop)
    try:
        task = loop.create_task(pause())
        for handle in list(loop._ready):
            handle._run()
    finally:
        asyncio._set_running_loop(None)
    assert current(loop) is None
    loop.run_until_complete(task)


def test_no_task_is_current_where_a_slow_step_is_logged(loop, filter_log):
    def look(record):
        if "Executing" in record.getMessage():
            seen.append(current(loop))
        return False

    seen = []
    loop.set_debug(True)
    loop.slow_callback_duration = 0
    filter_log(look)
    loop.run_until_complete(pause(2))
    assert seen and set(seen) == {None}


def test_no_task_is_current_where_the_result_of_a_future_is_freed(loop):
    class Result:
        def __del__(self):
            seen.append(current(loop))

    class Once:
        """Awaits a future that nothing else refers to."""

        def __await__(self):
            return awaits.pop()

    async def work():
        future = loop.create_future()
        loop.call_soon(future.set_result, Result())
        awaits.append(future.__await__())
        del future
        await Once()
        await pause(2)

    seen, awaits = [], []
    loop.run_until_complete(work())
    assert seen == [None]


# Tasks that are misused.


def test_init_called_again_with_another_loop_while_the_task_is_ready(loop, new_loop, loop_class, spin):
    if sys.version_info >= (3, 15):
        pytest.skip("asyncio refuses a second __init__()")
    other = new_loop()
    reports = []
    for each in (loop, other):
        each.set_exception_handler(lambda loop, context: reports.append(str(context["exception"])))
    first, second = pause(3), pause(3)
    task = loop.create_task(first)
    task.__init__(second, loop=other)
    first.close()
    spin(2)
    assert current(loop) is current(other) is None
    spin(5, loop=other)
    assert current(loop) is current(other) is None
    assert len(reports) == 1  # of the extra step
    if sys.version_info < (3, 14):
        assert task.done() and "step(): already done" in reports[0]
    else:
        assert "is not the running loop" in reports[0]


def test_a_step_while_a_task_is_made_anew(loop, loop_class, new_loop):
    if sys.version_info >= (3, 15):
        pytest.skip("asyncio refuses a second __init__()")

    class Loop(loop_class):
        def call_soon(self, callback, *args, **kwargs):
            steps.append(callback)
            return super().call_soon(callback, *args, **kwargs)

    async def work():
        try:
            await asyncio.sleep(0)
        finally:
            try:
                steps[0]()
            except RuntimeError as error:
                errors.append(error)

    steps, errors = [], []
    loop = new_loop(Loop)
    task = loop.create_task(work())
    asyncio._set_running_loop(loop)
    try:
        steps[0]()
        anew = pause()
        task.__init__(anew, loop=loop)
        for _ in range(4):
            if not task.done():
                steps[0]()
    finally:
        asyncio._set_running_loop(None)
    steps.clear()
    assert task.done()
    assert current(loop) is None


@pytest.mark.parametrize("end", ["return", "raise", "cancel"])
@pytest.mark.parametrize("how", ["set_result", "set_exception", "cancel"])
def test_step_of_a_task_that_future_methods_have_finished(loop, reports, how, end):
    async def work():
        task = asyncio.current_task()
        if how == "set_result":
            asyncio.Future.set_result(task, ["early"])
        elif how == "set_exception":
            asyncio.Future.set_exception(task, ValueError("early"))
        else:
            asyncio.Future.cancel(task)
        if end == "raise":
            raise KeyError
        if end == "cancel":
            raise asyncio.CancelledError
        return "late"

    task = loop.create_task(work())
    if how == "set_result":
        assert loop.run_until_complete(task) == ["early"]
    else:
        with pytest.raises(ValueError if how == "set_exception" else asyncio.CancelledError):
            loop.run_until_complete(task)
    errors = [repr(context["exception"]) for context in reports]
    assert errors == ([] if end == "cancel" else ["InvalidStateError('invalid state')"])


def test_get_name_called_by_name(loop):
    async def name():
        return asyncio.Task.get_name(asyncio.current_task())

    name = loop.run_until_complete(name())
    assert isinstance(name, str) and name.startswith("Task-") and int(name[5:]) > 0


# Memory.


def test_pending_tasks_that_the_collector_frees_leave_nothing_behind(loop, reports, spin):
    if sys.version_info >= (3, 14):
        pytest.skip("there is no set of tasks")

    async def wait():
        await loop.create_future()

    tasks = asyncio.tasks
    known = (tasks._scheduled_tasks if hasattr(tasks, "_scheduled_tasks") else tasks._all_tasks).data
    before = len(known)
    for _ in range(300):
        loop.create_task(wait())
    spin(2)
    gc.collect()
    assert len(reports) == 300
    reports.clear()  # they keep the tasks
    gc.collect()
    assert len(known) - before < 100


def test_tasks_that_are_done_and_that_the_collector_frees_leave_nothing_behind(loop, spin):
    """Up to 3.8 they are in the set as long as they live."""
    if sys.version_info >= (3, 14):
        pytest.skip("there is no set of tasks")

    class Cycle:
        pass

    async def refer(cycle):
        return cycle

    tasks = asyncio.tasks
    known = (tasks._scheduled_tasks if hasattr(tasks, "_scheduled_tasks") else tasks._all_tasks).data
    before = len(known)
    for _ in range(300):
        cycle = Cycle()
        cycle.task = loop.create_task(refer(cycle))
    del cycle
    spin(2)
    gc.collect()
    assert len(known) - before < 100


def test_the_ready_queue_may_grow_while_it_is_looked_at(loop):
    class Garbage:
        def __init__(self):
            self.me = self

        def __del__(self):
            for _ in range(3000):
                if not loop.is_closed():
                    loop.call_soon(int)

    async def look(allocations):
        tasks = [loop.create_task(pause()) for _ in range(14)]
        gc.collect()
        gc.disable()
        Garbage()
        gc.set_threshold(allocations)
        gc.enable()
        ready = list(loop._ready)
        gc.set_threshold(*before)
        await asyncio.gather(*tasks)
        return len(ready)

    before = gc.get_threshold()
    try:
        for allocations in range(1, 40):
            assert loop.run_until_complete(look(allocations)) >= 14
    finally:
        gc.set_threshold(*before)
        gc.enable()
        gc.collect()


@pytest.mark.alone  # as core/test_memory.py
def test_freeing_needs_no_memory(loop):
    _testcapi = pytest.importorskip("_testcapi")
    future, awaiting = loop.create_future(), loop.create_future()
    iterator = awaiting.__await__()
    _testcapi.set_nomemory(0, 0)
    try:
        del iterator, future
    finally:
        _testcapi.remove_mem_hooks()


def test_tasks_that_end_while_somebody_looks_through_all(loop):
    if sys.version_info >= (3, 14):
        pytest.skip("there is no set of tasks")

    async def main():
        tasks = asyncio.tasks
        known = tasks._scheduled_tasks if hasattr(tasks, "_scheduled_tasks") else tasks._all_tasks
        look = iter(known)
        next(look)
        for _ in range(5):
            await loop.create_task(pause())
        count = len(asyncio.all_tasks())
        del look
        return count

    assert loop.run_until_complete(main()) == 1
