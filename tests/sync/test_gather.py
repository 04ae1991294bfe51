"""asyncio.gather(): the ready nodes by which its children tell it that they are done."""

import asyncio
import contextvars
import gc
import logging
import re
import sys
import weakref

import pytest


def names(handles):
    return [getattr(handle._callback, "__qualname__", "a step") for handle in handles]


def test_ready_shows_what_asyncio_has_there(accelerate, as_asyncio):
    def body(loop):
        async def main():
            first, second = loop.create_future(), loop.create_future()
            outer = asyncio.gather(first, second)
            first.set_result(1)
            second.set_exception(KeyError(2))
            handles = list(loop._ready)
            assert [handle._args for handle in handles] == [(first,), (second,)]
            await asyncio.wait([outer])
            return names(handles), repr(outer.exception()), first._callbacks, second._callbacks

        return loop.run_until_complete(main())

    as_asyncio(body)


def test_the_future_shows_what_asyncio_adds_to_it(accelerate, as_asyncio):
    def body(loop):
        async def main():
            outer = asyncio.gather(loop.create_future(), asyncio.sleep(0))
            try:
                return repr(outer), [getattr(callback, "__name__", "partial") for callback, _ in outer._callbacks or ()]
            finally:
                outer.cancel()

        shown, names = loop.run_until_complete(main())
        return shown, ["partial" if name == "_discard_awaited_by" else name for name in names]

    as_asyncio(body)


def test_its_handle_can_be_cancelled(accelerate, as_asyncio):
    def body(loop):
        async def main():
            first, second = loop.create_future(), loop.create_future()
            outer = asyncio.gather(first, second)
            first.set_result(1)
            loop._ready[0].cancel()
            second.set_result(2)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            done = outer.done()
            outer.cancel()
            return done

        return loop.run_until_complete(main())

    as_asyncio(body)


def test_order_among_callbacks(accelerate, as_asyncio):
    def body(loop):
        notes = []

        async def main():
            future = loop.create_future()
            future.add_done_callback(lambda future: notes.append("before"))
            one, other = asyncio.gather(future), asyncio.gather(future, future)
            alone = loop.create_future()
            third = asyncio.gather(alone, alone)
            alone.add_done_callback(lambda future: notes.append("after"))
            for name, outer in ("one", one), ("other", other), ("third", third):
                outer.add_done_callback(lambda outer, name=name: notes.append((name, outer.result())))
            loop.call_soon(notes.append, "soon")
            alone.set_result(3)
            future.set_result(4)
            loop.call_soon(notes.append, "later")
            await asyncio.wait([one, other, third])

        loop.run_until_complete(main())
        return notes

    as_asyncio(body)


@pytest.mark.parametrize("late", [False, True])
def test_outcomes_of_children(accelerate, as_asyncio, late):
    def body(loop):
        async def returns():
            await asyncio.sleep(0)
            return 1

        async def raises():
            await asyncio.sleep(0)
            raise KeyError(2)

        async def main():
            seen = []
            for wanted in False, True:
                tasks = [loop.create_task(each()) for each in (returns, raises, raises, returns)]
                outer = asyncio.gather(*tasks, return_exceptions=wanted)
                if late:
                    await asyncio.sleep(0)
                    tasks[0].cancel()
                seen.append(repr((await asyncio.gather(outer, return_exceptions=True))[0]))
                await asyncio.wait(tasks)
                seen.append([task.cancelled() or task._log_traceback for task in tasks])
            return seen

        return loop.run_until_complete(main())

    as_asyncio(body)


def test_replaced_methods_run_in_the_context_of_the_call(accelerate, as_asyncio, monkeypatch):
    def body(loop):
        variable, seen = contextvars.ContextVar("variable", default="none"), []
        plain = asyncio.tasks._GatheringFuture.set_result

        def set_result(self, result):
            seen.append((variable.get(), asyncio.current_task()))
            plain(self, result)

        async def main():
            variable.set("of the call")
            future = loop.create_future()
            outer = asyncio.gather(future)
            variable.set("later")
            with monkeypatch.context() as patch:
                patch.setattr(asyncio.tasks._GatheringFuture, "set_result", set_result, raising=False)
                future.set_result(1)
                seen.append(await outer)

        loop.run_until_complete(main())
        return seen

    as_asyncio(body)


def test_errors_of_replaced_methods_are_reported(accelerate, as_asyncio, monkeypatch):
    def body(loop):
        reports = []

        def fail(self, result):
            raise KeyError("of the program")

        async def main():
            future = loop.create_future()
            outer = asyncio.gather(future)
            with monkeypatch.context() as patch:
                patch.setattr(asyncio.tasks._GatheringFuture, "set_result", fail, raising=False)
                future.set_result(1)
                await asyncio.sleep(0)
            done = outer.done()
            outer.cancel()
            await asyncio.sleep(0)
            return done

        loop.set_exception_handler(lambda loop, context: reports.append(context))
        done = loop.run_until_complete(main())
        return done, [(repr(each["exception"]), "_done_callback" in each["message"]) for each in reports]

    as_asyncio(body)


def test_loop_closed_before_the_callback_runs(accelerate, cloop):
    loop = cloop.new_event_loop()
    futures = [loop.create_future() for _ in range(3)]

    async def main(futures):
        outer = asyncio.gather(*futures)
        for future in futures:
            future.set_result(1)
        loop.stop()
        return weakref.ref(outer)

    with pytest.raises(RuntimeError):
        loop.run_until_complete(asyncio.wait([loop.create_task(main(futures)), loop.create_future()]))
    loop.close()
    seen = [weakref.ref(future) for future in futures]
    del futures
    gc.collect()
    assert [each() for each in seen] == [None] * 3


@pytest.mark.skipif(sys.version_info >= (3, 15), reason="no second __init__()")
def test_child_initialised_again_before_the_callback_runs(accelerate, cloop):
    async def main():
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        outer = asyncio.gather(future)
        future.set_result(1)
        future.__init__(loop=loop)
        future.add_done_callback(print)
        await asyncio.sleep(0)
        assert not future.done() and len(future._callbacks) == 1
        outer.cancel()
        future.cancel()

    cloop.run(main())


def test_what_wakes_it_is_visited_and_named(accelerate, loop, caplog):
    """A collection while it is ready, and the log of debug mode."""

    async def main():
        futures = [loop.create_future() for _ in range(2)]
        outer = asyncio.gather(*futures)
        for number, future in enumerate(futures):
            future.set_result(number)
        del futures, future
        gc.collect()
        loop.set_debug(True)
        loop.slow_callback_duration = 0  # everything is slow
        try:
            return await outer
        finally:
            loop.set_debug(False)

    with caplog.at_level(logging.WARNING, "asyncio"):
        assert loop.run_until_complete(main()) == [0, 1]
    assert any(re.match("Executing <Handle _?gather[.]", text) for text in caplog.messages)  # 3.9: _gather()


def test_what_was_scheduled_before_debug_mode_does_not_say_where(accelerate, as_asyncio, filter_log):
    def keep(record):
        record.msg, record.args = re.sub(r"\d+\.\d+", "N", record.getMessage()), ()
        return "_done_callback" in record.msg

    def body(loop):
        async def main():
            futures = [loop.create_future() for _ in range(2)]
            outer = asyncio.gather(*futures)
            for number, future in enumerate(futures):
                future.set_result(number)
            loop.set_debug(True)
            loop.slow_callback_duration = 0  # everything is slow
            try:
                return await outer
            finally:
                loop.set_debug(False)

        return loop.run_until_complete(main())

    filter_log(keep)
    assert len(as_asyncio(body)["logged"]) == 2


@pytest.mark.parametrize("value", [0, 1, None, "yes", []], ids=repr)
def test_return_exceptions_that_is_no_truth_value(accelerate, as_asyncio, value):
    def body(loop):
        async def fails():
            raise KeyError("of a child")

        async def main():
            try:
                return repr(await asyncio.gather(fails(), asyncio.sleep(0), return_exceptions=value))
            except KeyError as error:
                return "raised %r" % error

        return loop.run_until_complete(main())

    as_asyncio(body)


def test_children_are_tasks_of_the_programs_own(accelerate, as_asyncio):
    def body(loop):
        async def child(number):
            await asyncio.sleep(0)
            return number

        async def main():
            outer = asyncio.gather(child(1), child(2))
            waits = [task._log_destroy_pending for task in asyncio.all_tasks(loop)]
            return await outer, sorted(waits)

        loop.set_task_factory(lambda loop, coro, **options: asyncio.Task(coro, loop=loop, **options))
        return loop.run_until_complete(main())

    assert as_asyncio(body)["result"][0] == [1, 2]


def test_future_is_the_loops_own(accelerate, as_asyncio):
    """If create_future() is overridden, that makes it."""

    def body(loop):
        made = []
        create_future = loop.create_future

        def instead():
            made.append(1)
            return create_future()

        async def main():
            futures = [create_future(), create_future()]
            outer = asyncio.gather(*futures)
            for future in futures:
                future.set_result(len(made))
            return await outer

        loop.create_future = instead
        try:
            return loop.run_until_complete(main()), len(made)
        finally:
            del loop.create_future

    as_asyncio(body)
