"""cloop.Future instead of asyncio.Future: classes, callbacks, outcomes, reprs, reports, garbage."""

import asyncio
import concurrent.futures
import copy
import gc
import os
import pickle
import sys
import threading
import weakref

import pytest

# What asyncio's own futures do not survive.
crashes_asyncio = pytest.mark.skipif(os.environ.get("CLOOP_TASKS") == "stock", reason="asyncio's own futures crash")


def test_is_an_asyncio_future(loop, classes):
    future = loop.create_future()
    assert type(future) is classes(loop)[0]
    assert isinstance(future, asyncio.Future) and issubclass(type(future), asyncio.Future)
    assert not isinstance(future, asyncio.Task)
    assert asyncio.isfuture(future)
    assert asyncio.ensure_future(future) is future
    assert asyncio.wrap_future(future) is future


@pytest.mark.skipif(sys.version_info < (3, 9), reason="asyncio.Future[...] came in Python 3.9")
def test_class_getitem(loop, classes):
    for cls in classes(loop):
        assert cls[int].__origin__ is cls and cls[int].__args__ == (int,)


def test_constructor(as_asyncio, classes):
    def body(loop):
        cls = classes(loop)[0]
        asyncio.set_event_loop(loop)
        try:
            seen = [cls().get_loop() is loop, cls(loop=None).get_loop() is loop, cls(loop=loop).get_loop() is loop]
        finally:
            asyncio.set_event_loop(None)
        for arguments in [((5,), {}), ((), {"wrong": 1}), ((), {})]:
            try:
                cls(*arguments[0], **arguments[1])
            except Exception as error:
                seen.append((type(error), str(error).split("(")[0]))
        return seen

    assert as_asyncio(body)["result"][:3] == [True, True, True]


def test_new_without_init(as_asyncio, classes):
    def body(loop):
        future = classes(loop)[0].__new__(classes(loop)[0])
        seen = []
        for use in [
            future.done,
            future.result,
            future.exception,
            future.cancel,
            future.cancelled,
            future.get_loop,
            lambda: future.set_result(1),
            lambda: future.set_exception(ValueError()),
            lambda: future.add_done_callback(print),
            lambda: future.remove_done_callback(print),
            lambda: iter(future),
            lambda: future._callbacks,
            lambda: future._state,
            lambda: repr(future),
        ]:
            try:
                seen.append(repr(use()))
            except Exception as error:
                seen.append((type(error), str(error)))
        return seen

    as_asyncio(body)


def test_init_again(as_asyncio, classes):
    def body(loop):
        future = classes(loop)[0](loop=loop)
        future.add_done_callback(print)
        future.set_exception(ValueError("forgotten"))
        try:
            future.__init__(loop=loop)
        except RuntimeError as error:  # from Python 3.15 on
            future.exception()
            return str(error).split(".")[-1]
        seen = [repr(future), future.done(), future._callbacks, future._log_traceback]
        future.set_result("new")
        return seen + [future.result()]

    result = as_asyncio(body)["result"]
    assert result == "Future object is already initialized" if sys.version_info >= (3, 15) else result[-1] == "new"


STATES = {
    "pending": lambda future: None,
    "result": lambda future: future.set_result([1, 2]),
    "long result": lambda future: future.set_result("x" * 500),
    "exception": lambda future: (future.set_exception(ValueError("why")), future.exception()),
    "cancelled": lambda future: future.cancel(),
    "one callback": lambda future: future.add_done_callback(repr),
    "two callbacks": lambda future: (future.add_done_callback(repr), future.add_done_callback(str)),
    "three callbacks": lambda future: [future.add_done_callback(repr) for _ in range(3)],
}


@pytest.mark.parametrize("debug", [False, True], ids=["", "debug"])
@pytest.mark.parametrize("state", list(STATES))
def test_reprs_and_attributes(as_asyncio, classes, state, debug):
    def body(loop):
        loop.set_debug(debug)
        future = classes(loop)[0](loop=loop)  # create_future() is another frame on asyncio's loop
        STATES[state](future)
        attributes = [
            "_state",
            "_result",
            "_exception",
            "_cancel_message",
            "_asyncio_future_blocking",
            "_log_traceback",
        ]
        seen = [repr(future)[1:-1], str(future._callbacks)]
        seen += [repr(getattr(future, name, "none")) for name in attributes]
        if debug:
            assert future._source_traceback[-1].name == "body"
        return seen + [future.done(), future.cancelled(), future._loop is loop, future._source_traceback is None]

    as_asyncio(body)


def test_repr_names_who_waits(as_asyncio):
    def body(loop):
        async def wait(future):
            await future

        future = loop.create_future()
        tasks = [loop.create_task(wait(future)) for _ in range(2)]
        seen = []
        for _ in range(2):
            loop.call_soon(loop.stop)
            loop.run_forever()
            seen.append(repr(future)[1:-1])
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.wait(tasks))
        return seen

    assert as_asyncio(body)["result"][1] == "Future pending cb=[Task.task_wakeup(), Task.task_wakeup()]"


def test_wrong_uses(as_asyncio):
    def body(loop):
        seen = []
        for state in STATES.values():
            for use in [
                lambda future: future.result(),
                lambda future: future.exception(),
                lambda future: future.set_result(1),
                lambda future: future.set_exception(KeyError(2)),
                lambda future: future.set_exception(KeyError),
                lambda future: future.set_exception(5),
                lambda future: future.set_exception(StopIteration(3)),
                lambda future: future.set_exception(StopIteration),
                lambda future: future.add_done_callback(),
                lambda future: future.add_done_callback(repr, 5),
                lambda future: future.add_done_callback(repr, wrong=1),
                lambda future: future.cancel(1, 2),
                lambda future: future.cancel(wrong=1),
                lambda future: setattr(future, "_log_traceback", True),
                lambda future: setattr(future, "_state", 1),
            ]:
                future = loop.create_future()
                state(future)
                try:
                    seen.append(repr(use(future)))
                except BaseException as error:
                    seen.append((type(error), str(error).replace("_asyncio.", "")))
                future._log_traceback = False
        return seen

    as_asyncio(body)


# Callbacks


def test_callbacks_are_called_in_order_in_their_contexts(as_asyncio):
    def body(loop):
        import contextvars

        var, seen = contextvars.ContextVar("var"), []
        future = loop.create_future()
        for number in range(3):
            context = contextvars.copy_context()
            context.run(var.set, number)
            future.add_done_callback(lambda future: seen.append(var.get()), context=context)
        var.set("current")
        future.add_done_callback(lambda future: seen.append(var.get()))
        loop.call_soon(future.set_result, None)
        loop.run_until_complete(future)
        future.add_done_callback(lambda future: seen.append(("late", var.get())))
        loop.run_until_complete(asyncio.sleep(0))
        return seen

    assert as_asyncio(body)["result"] == [0, 1, 2, "current", ("late", "current")]


def test_callbacks_are_removed(as_asyncio):
    def body(loop):
        future, counts = loop.create_future(), []
        for callback in [repr, str, repr, print, repr]:
            future.add_done_callback(callback)
        for callback in [repr, len, print, str, str]:
            counts.append((future.remove_done_callback(callback), future._callbacks and len(future._callbacks)))
        return counts

    assert as_asyncio(body)["result"] == [(3, 2), (0, 2), (1, 1), (1, None), (0, None)]


def test_comparison_of_callbacks_may_do_anything(as_asyncio):
    def body(loop):
        future, seen = loop.create_future(), []

        class Strange:
            def __init__(self, act):
                self.act = act

            def __eq__(self, other):
                seen.append("compared")
                self.act()
                return False

            __call__ = __hash__ = None

        def clear():
            if future.remove_done_callback(repr) == 0 and len(seen) < 9:
                future.cancel()

        for callback in [repr, Strange(clear), Strange(lambda: future.add_done_callback(len)), repr]:
            future.add_done_callback(callback)
        try:
            future.remove_done_callback(str)
        except RecursionError:  # the text depends on where the limit was reached
            seen.clear()
        return future.cancelled(), len(seen)

    as_asyncio(body)


def test_callbacks_that_add_and_remove_callbacks(as_asyncio):
    def body(loop):
        future, seen = loop.create_future(), []

        def second(future):
            seen.append("second")

        def first(future):
            seen.append(("first", future.remove_done_callback(second)))
            future.add_done_callback(lambda future: seen.append("added"))

        future.add_done_callback(first)
        future.add_done_callback(second)
        future.set_result(None)
        for _ in range(3):
            loop.run_until_complete(asyncio.sleep(0))
        return seen

    assert as_asyncio(body)["result"] == [("first", 0), "second", "added"]


@pytest.fixture
def with_its_list(cloop):
    """with_its_list(future, *callbacks): adds the callbacks, and returns the list that the future keeps them in."""

    def with_its_list(future, *callbacks):
        future.add_done_callback(id)
        for callback in callbacks:
            future.add_done_callback(callback)
        future.remove_done_callback(id)  # the first has a place of its own
        kept = future._callbacks
        if kept is not future._callbacks:
            pytest.skip("asyncio's newer releases return a copy")
        return kept

    return with_its_list


@crashes_asyncio
def test_list_of_callbacks_is_cleared_while_they_are_scheduled(cloop, settle, with_its_list):
    """The asyncio of the same releases crashes."""
    kept, seen = [], []

    class Loop(cloop.Loop):
        def __getattribute__(self, name):
            if name == "call_soon" and kept:
                kept.pop().clear()
            return super().__getattribute__(name)

        def call_soon(self, callback, *args, context=None):
            return super().call_soon(callback, *args, context=context)

    class Callback:
        def __call__(self, future):
            seen.append(future.result())

    loop = Loop()
    try:
        future = loop.create_future()
        kept.append(with_its_list(future, Callback(), Callback()))
        future.set_result(5)
        settle(loop)
        assert seen == [5]
    finally:
        loop.close()


@crashes_asyncio
@pytest.mark.parametrize("item", [5, (), (repr,), [repr, None]], ids=repr)
def test_something_else_in_the_list_of_callbacks(cloop, loop_kind, loop, with_its_list, item):
    if loop_kind == "asyncio":
        pytest.skip("crashes in the same releases")
    future = loop.create_future()
    with_its_list(future, repr, repr).append(item)
    with pytest.raises(TypeError, match="is no callback with its context"):
        future.set_result(5)
    assert future.result() == 5


@crashes_asyncio
@pytest.mark.skipif(sys.version_info >= (3, 15), reason="a future can be initialised only once")
def test_loop_that_is_lost_while_its_call_soon_is_looked_up(cloop, loop):
    """The future gets another one. Python goes on with __getattr__(), so the loop must still be there."""
    armed, gone, seen = [], [], []

    class Loop:
        def get_debug(self):
            return False

        def __getattribute__(self, name):
            if name == "call_soon" and armed:
                armed.clear()
                future.__init__(loop=loop)
                raise AttributeError(name)
            return super().__getattribute__(name)

        def __getattr__(self, name):
            seen.append((name, list(gone)))
            return lambda *args, **kwargs: None

        def __del__(self):
            gone.append(1)

    future = cloop.Future(loop=Loop())
    future.add_done_callback(repr)
    armed.append(1)
    future.set_result(5)
    assert seen == [("call_soon", [])] and gone == [1]


@pytest.mark.unstressed("a collection for every few of so many objects takes minutes")
def test_a_hundred_thousand_callbacks(loop):
    future, count = loop.create_future(), []
    for _ in range(100000):
        future.add_done_callback(count.append)
    assert len(future._callbacks) == 100000
    future.set_result(None)
    loop.run_until_complete(future)
    assert len(count) == 100000


def test_failing_callbacks_are_reported(as_asyncio):
    def body(loop):
        reports, seen = [], []
        loop.set_exception_handler(lambda loop, context: reports.append((context["message"], sorted(context))))
        future = loop.create_future()
        future.add_done_callback(lambda future: 1 / 0)
        future.add_done_callback(seen.append)
        future.add_done_callback(None)
        future.set_result(None)
        loop.run_until_complete(asyncio.sleep(0))
        return len(seen), [(text.split(" at ")[0], keys) for text, keys in reports]

    assert len(as_asyncio(body)["result"][1]) == 2


def test_a_task_is_no_callback(as_asyncio, settle):
    """It is not mistaken for a task that waits for the future."""

    def body(loop):
        reports = []
        loop.set_exception_handler(lambda loop, context: reports.append(repr(context["exception"])))
        future, other = loop.create_future(), loop.create_future()

        async def wait():
            return await other

        task = loop.create_task(wait())
        settle(loop)
        future.add_done_callback(task)
        seen = [len(future._callbacks), future._callbacks[0][0] is task]
        future.set_result(1)
        settle(loop)
        seen.append(task.done())
        other.set_result(2)
        return seen, loop.run_until_complete(task), [text.replace("_asyncio", "cloop") for text in reports]

    assert as_asyncio(body)["result"][0] == [1, True, False]


def test_overridden_call_soon_sees_every_callback(loop_class, loop_kind, as_asyncio):
    def body(loop):
        seen = []
        call_soon = loop.call_soon

        def watched(callback, *args, context=None):
            seen.append((getattr(callback, "__name__", type(callback).__name__), context is not None))
            return call_soon(callback, *args, context=context)

        loop.call_soon = watched

        async def wait(future):
            return await future

        future = loop.create_future()
        tasks = [loop.create_task(wait(future)) for _ in range(2)]
        future.add_done_callback(repr)
        call_soon(future.set_result, 1)
        loop.run_until_complete(asyncio.wait(tasks))
        names = {"TaskStepMethWrapper": "task_step", "TaskWakeupMethWrapper": "task_wakeup"}
        return [(names.get(name, name), context) for name, context in seen if name != "_run_until_complete_cb"]

    assert ("task_step", True) in as_asyncio(body)["result"]


def test_debug_mode_switched_on_between(as_asyncio, settle):
    def body(loop):
        seen = []

        async def wait(future):
            seen.append(await future)

        for before, between in [(False, True), (True, False)]:
            loop.set_debug(before)
            future = loop.create_future()
            tasks = [loop.create_task(wait(future)) for _ in range(2)]
            settle(loop)
            loop.set_debug(between)
            tasks.append(loop.create_task(wait(future)))
            settle(loop)
            future.set_result(before)
            loop.set_debug(before)
            settle(loop)
            seen.append([task.done() for task in tasks])
        return seen

    assert as_asyncio(body)["result"] == [False] * 3 + [[True] * 3] + [True] * 3 + [[True] * 3]


# Subclasses


def test_subclass_with_everything_overridden(as_asyncio, classes, settle, endings, logging_subclass):
    def body(loop):
        seen = []

        names = ["__init__", "set_result", "set_exception", "cancel", "add_done_callback", "remove_done_callback"]
        names += ["result", "exception", "done", "cancelled", "get_loop", "__iter__", "__await__", "__repr__"]
        Sub = logging_subclass(classes(loop)[0], names, seen)

        async def wait(future):
            return await future

        for act in endings:
            future = Sub(loop=loop)
            task = loop.create_task(wait(future))
            settle(loop)
            act(future, task)
            settle(loop)
            seen.append((task.done(), task.cancelled()))
            if not task.cancelled():
                seen.append(repr(task.exception()))
            del future, task
        return seen

    as_asyncio(body)


def test_subclass_with_init_and_state(as_asyncio, classes):
    def body(loop):
        class Sub(classes(loop)[0]):
            __slots__ = ("slot",)

            def __init__(self, value, **kwargs):
                super().__init__(**kwargs)
                self.value = self.slot = value

        future = Sub(5, loop=loop)
        future.set_result(6)
        return future.value, future.slot, loop.run_until_complete(future), repr(future)

    assert as_asyncio(body)["result"][:3] == (5, 5, 6)


def test_subclass_that_does_not_initialise(as_asyncio, classes):
    def body(loop):
        class Sub(classes(loop)[0]):
            def __init__(self):
                pass

        async def main():
            await Sub()

        return loop.run_until_complete(main())

    assert as_asyncio(body)["result"][0] is RuntimeError


def test_class_may_be_assigned(loop, classes):
    """Only that it does not crash, whether Python allows it or not."""
    Sub = type("Sub", (classes(loop)[0],), {})
    for before, after in [(classes(loop)[0], Sub), (Sub, classes(loop)[0]), (classes(loop)[0], asyncio.Future)]:
        future = before(loop=loop)
        try:
            future.__class__ = after
        except TypeError:
            pass

        async def wait(future):
            return await future

        task = loop.create_task(wait(future))
        loop.call_soon(future.set_result, 5)
        assert loop.run_until_complete(task) == 5


# Outcomes


@pytest.mark.parametrize("message", [(), (None,), ("why",), (5,)], ids=str)
@pytest.mark.skipif(sys.version_info < (3, 9), reason="cancel(msg) came in Python 3.9")
def test_cancel_messages(as_asyncio, message, settle):
    def body(loop):
        async def wait(future):
            await future

        async def outer(task):
            await task

        future = loop.create_future()
        task = loop.create_task(wait(future))
        last = loop.create_task(outer(task))
        settle(loop)
        future.cancel(*message)
        settle(loop)
        seen = []
        for each in [future, task, last]:
            for use in [each.result, each.exception]:
                try:
                    use()
                except asyncio.CancelledError as error:
                    context = error.__context__
                    seen.append((error.args, type(context), context and context.args, repr(each._cancel_message)))
        return seen

    assert as_asyncio(body)["result"][0][0] == (message if message != (None,) else ())


def test_tracebacks_of_an_exception_taken_twice(as_asyncio):
    """Each await shows the path from where it was raised, without those of earlier awaits."""

    def body(loop):
        import traceback

        future, seen = loop.create_future(), []
        future.set_exception(ZeroDivisionError())

        async def look():
            for _ in range(3):
                try:
                    await future
                except ZeroDivisionError as error:
                    frames = traceback.extract_tb(error.__traceback__)
                    seen.append([frame.name for frame in frames])

        loop.run_until_complete(look())
        loop.run_until_complete(look())
        return seen

    as_asyncio(body)


@pytest.mark.parametrize("debug", [False, True], ids=["", "debug"])
def test_exception_never_retrieved(as_asyncio, classes, debug):
    def body(loop):
        reports = []

        def report(loop, context):
            tracebacks = [context[key][-1].name for key in sorted(context) if key == "source_traceback"]
            reports.append((context["message"], sorted(context), repr(context["exception"]), tracebacks))

        loop.set_exception_handler(report)
        loop.set_debug(debug)

        async def wait(future):
            await future

        async def gather(awaitable):
            await asyncio.gather(awaitable, return_exceptions=True)

        classes(loop)[0](loop=loop).set_exception(ValueError("lost"))
        for take in [
            lambda future: future.exception(),
            lambda future: future.cancel(),
            lambda future: setattr(future, "_log_traceback", False),
            lambda future: loop.run_until_complete(asyncio.wait([future])),
            lambda future: loop.run_until_complete(gather(future)),
            lambda future: loop.run_until_complete(gather(wait(future))),
        ]:
            future = classes(loop)[0](loop=loop)
            future.set_exception(ValueError("taken"))
            take(future)
            del future
            reports.append(len(reports))
        gc.collect()
        return reports

    assert as_asyncio(body)["result"][0][0] == "Future exception was never retrieved"


def test_never_retrieved_of_a_subclass_with_a_finalizer(as_asyncio, classes):
    def body(loop):
        seen = []
        loop.set_exception_handler(lambda loop, context: seen.append(context["message"]))

        class Sub(classes(loop)[0]):
            def __del__(self):
                seen.append("finalized")
                super().__del__() if hasattr(super(), "__del__") else None

        Sub(loop=loop).set_exception(ValueError())
        gc.collect()
        return seen

    assert "finalized" in as_asyncio(body)["result"]


def test_resurrected_by_its_finalizer(loop, classes):
    kept = []

    class Sub(classes(loop)[0]):
        def __del__(self):
            kept.append(self)

    future = Sub(loop=loop)
    future.set_result(5)
    del future
    assert kept.pop().result() == 5  # and goes for good


def test_unbound_methods_of_asyncio(loop, settle):
    """None of them crashes, and those that do not end the future have no effect on it."""

    async def wait(future):
        return await future

    for name, args in [("set_result", (1,)), ("set_exception", (ValueError(),)), ("cancel", ())]:
        future = loop.create_future()
        task = loop.create_task(wait(future))
        settle(loop)
        loop.set_exception_handler(lambda loop, context: None)
        asyncio.Future.remove_done_callback(future, repr)
        asyncio.Future.add_done_callback(future, repr)
        assert len(asyncio.Future._callbacks.__get__(future)) == 2
        repr(future)
        getattr(asyncio.Future, name)(future, *args)
        settle(loop)
        assert future.done()
        task.cancel()
        settle(loop)
        if not task.done():
            task._log_destroy_pending = False
        elif not task.cancelled():
            task.exception()
        if sys.version_info >= (3, 15):
            continue  # a future can be initialised only once
        future = loop.create_future()
        task = loop.create_task(wait(future))
        settle(loop)
        asyncio.Future.__init__(future, loop=loop)
        task.cancel()
        settle(loop)
        assert task.cancelled() or not task.done()
        task._log_destroy_pending = False


# Garbage


def test_cannot_be_copied_or_pickled(as_asyncio):
    def body(loop):
        seen = []
        for use in [copy.copy, copy.deepcopy] + [
            lambda future, protocol=protocol: pickle.dumps(future, protocol) for protocol in range(6)
        ]:
            try:
                use(loop.create_future())
            except Exception as error:
                seen.append(type(error))
            else:
                seen.append("made")
        return seen

    as_asyncio(body)


def test_weak_references_and_attributes(loop):
    future, seen = loop.create_future(), []
    reference = weakref.ref(future, lambda reference: seen.append("gone"))
    future.mine = 5
    assert reference() is future and future.mine == 5
    del future
    assert seen == ["gone"] and reference() is None
    assert not hasattr(loop.create_future(), "mine")


def test_cycles_are_collected(loop):
    """future, callback, future; and one through its result, its exception's traceback and its attributes."""
    references = []
    for _ in range(3):
        future = loop.create_future()
        future.add_done_callback(lambda _, future=future: None)
        future.add_done_callback(lambda _, future=future: None)
        done = loop.create_future()
        done.set_result(done)
        failed = loop.create_future()
        try:
            raise ValueError(failed)
        except ValueError as error:
            failed.set_exception(error)
            failed.exception()
        own = loop.create_future()
        own.me = own
        references += [weakref.ref(each) for each in (future, done, failed, own)]
    future = done = failed = own = None
    gc.collect()
    assert [reference() for reference in references] == [None] * 12


def test_done_future_is_in_no_reference_cycle(loop):
    gc.disable()
    try:
        future = loop.create_future()
        reference = weakref.ref(future)
        future.add_done_callback(lambda future: None)
        future.set_result(None)
        loop.run_until_complete(asyncio.sleep(0))
        del future
        assert reference() is None
    finally:
        gc.enable()


# Threads


def test_result_from_another_thread(loop):
    future = loop.create_future()
    thread = threading.Thread(target=lambda: loop.call_soon_threadsafe(future.set_result, 5))

    async def main():
        thread.start()
        return await future

    assert loop.run_until_complete(main()) == 5
    thread.join()


def test_wrap_future(as_asyncio, settle):
    def body(loop):
        seen = []
        for act in [
            lambda inner, outer: inner.set_result(5),
            lambda inner, outer: inner.set_exception(ValueError(5)),
            lambda inner, outer: inner.cancel(),
            lambda inner, outer: outer.cancel(),
        ]:
            inner = concurrent.futures.Future()
            outer = asyncio.wrap_future(inner, loop=loop)
            act(inner, outer)
            settle(loop)
            seen.append((inner.done(), inner.cancelled(), outer.done(), outer.cancelled()))
            seen.append(None if outer.cancelled() else repr(outer))
            outer.cancelled() or outer.exception()
        return seen

    as_asyncio(body)


def test_run_coroutine_threadsafe(loop):
    async def answer():
        return 42

    async def forever():
        await loop.create_future()

    def ask():
        cancelled = asyncio.run_coroutine_threadsafe(forever(), loop)
        result = asyncio.run_coroutine_threadsafe(answer(), loop).result(10)
        return result, cancelled.cancel()

    assert loop.run_until_complete(loop.run_in_executor(None, ask)) == (42, True)
    loop.run_until_complete(loop.shutdown_default_executor()) if sys.version_info >= (3, 9) else None


def test_callbacks_that_an_overridden_call_soon_removes(loop):
    """While the first of them is passed on."""
    future, seen = loop.create_future(), []

    def first(future):
        seen.append("first")

    def second(future):
        seen.append("second")

    def call_soon(callback, *args, **options):
        future.remove_done_callback(second)
        return original(callback, *args, **options)

    for callback in first, second, first:
        future.add_done_callback(callback)
    original, loop.call_soon = loop.call_soon, call_soon
    future.set_result(None)
    del loop.call_soon
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert seen == ["first", "first"]
