"""Steps of tasks: what a coroutine may do to the task that runs it, and futures that are not asyncio's."""

import asyncio
import importlib
import types
import warnings

import pytest

ENDS = ["return", "raise", "cancelled", "exit", "wait", "yield"]


async def finish(end, future):
    if end == "raise":
        raise KeyError("on purpose")
    if end == "cancelled":
        raise asyncio.CancelledError("on purpose")
    if end == "exit":
        raise SystemExit("on purpose")
    if end == "wait":
        return await future
    if end == "yield":
        await asyncio.sleep(0)
    return "returned"


def describe(error):
    return repr(error), repr(getattr(error, "__context__", None)), repr(getattr(error, "__cause__", None))


def drive(loop, task, future, turns=6):
    """What leaves the loop while the task ends."""
    left = []
    for turn in range(turns):
        if turn == 3 and not future.done():
            future.set_result("of the future")
        loop.call_soon(loop.stop)
        try:
            loop.run_forever()
        except BaseException as error:
            left.append(describe(error))
    state = task._state
    if task.cancelled() or not task.done():
        return left, state
    return left, state, describe(task.exception()) if task.exception() is not None else repr(task.result())


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("how", ["set_result", "set_exception", "cancel", "nothing"])
@pytest.mark.parametrize("cancels", [0, 1, 2])
def test_task_ended_and_cancelled_within_its_step(as_asyncio, end, how, cancels):
    def body(loop):
        reports = []
        loop.set_exception_handler(lambda loop, context: reports.append(describe(context.get("exception"))))
        future = loop.create_future()

        async def main():
            for _ in range(cancels):
                task.cancel()
            if how == "cancel":
                asyncio.Future.cancel(task)
            elif how != "nothing":
                getattr(asyncio.Future, how)(task, ValueError("early"))
            for _ in range(cancels):
                task.cancel()
            return await finish(end, future)

        task = loop.create_task(main())
        task.set_name("main")
        return drive(loop, task, future), reports, getattr(task, "cancelling", int)()

    as_asyncio(body)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("how", ["nothing", "before", "within", "while it waits"])
def test_our_tasks_on_asyncios_loop(cloop, end, how):
    """They are counted by no loop of ours."""

    def body(cls):
        loop = asyncio.SelectorEventLoop()
        future = loop.create_future()

        async def main():
            if how == "within":
                task.cancel()
            return await finish(end, future)

        task = cls(main(), loop=loop)
        if how == "before":
            task.cancel()
        if how == "while it waits":
            loop.call_soon(loop.call_soon, task.cancel)
        told = drive(loop, task, future), future._state
        loop.close()
        return told

    assert body(cloop.Task) == body(asyncio.Task)


def test_our_task_on_asyncios_loop_that_is_dropped(cloop):
    found = []
    for cls in asyncio.Task, cloop.Task:
        loop, told = asyncio.SelectorEventLoop(), []
        loop.set_exception_handler(lambda loop, context, told=told: told.append(context["message"]))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            task = cls(finish("wait", loop.create_future()), loop=loop)
            loop.call_soon(loop.stop)
            loop.run_forever()
            del task
            importlib.import_module("gc").collect()
        loop.close()
        found.append(told)
    assert found[1] == found[0] == ["Task was destroyed but it is pending!"]


class Failing:
    """A future of the program in which one thing raises, or is odd."""

    def __init__(self, loop, what):
        self.loop, self.what, self.callbacks, self.flag = loop, what, [], True

    def fail(self, what):
        if self.what == what:
            raise ArithmeticError(what)

    @property
    def _asyncio_future_blocking(self):
        self.fail("blocking")
        return {"no truth": Untrue(), "none": None, "false": False, "text": "text"}.get(self.what, self.flag)

    @_asyncio_future_blocking.setter
    def _asyncio_future_blocking(self, value):
        self.fail("set blocking")
        self.flag = value

    def get_loop(self):
        self.fail("get_loop")
        return {"other loop": object(), "no loop": None}.get(self.what, self.loop)

    def add_done_callback(self, callback, *, context=None):
        self.fail("add_done_callback")
        if self.what == "calls at once":
            callback(self)
        else:
            self.loop.call_soon(callback, self)

    def cancel(self, *args, **options):
        self.fail("cancel")
        return {"cannot": False, "no truth of cancel": Untrue()}.get(self.what, True)

    def result(self):
        self.fail("result")
        if self.what == "cancelled":
            raise asyncio.CancelledError
        if self.what == "exits":
            raise SystemExit
        return "of the program"

    def __await__(self):
        yield self
        return self.result()


class Untrue:
    def __bool__(self):
        raise ArithmeticError("no truth")


class OldFuture(Failing):
    """Has its loop as an attribute only."""

    get_loop = None
    __slots__ = ()

    def __getattribute__(self, name):
        if name == "get_loop":
            raise AttributeError(name)
        return super().__getattribute__(name)

    @property
    def _loop(self):
        self.fail("_loop")
        return self.loop


WHATS = [
    "nothing", "blocking", "no truth", "none", "false", "text", "set blocking", "get_loop", "_loop", "other loop", "no loop",
    "add_done_callback", "calls at once", "cancel", "cannot", "no truth of cancel", "result", "cancelled", "exits",
]  # fmt: skip


@pytest.mark.parametrize("what", WHATS)
@pytest.mark.parametrize("cls", [Failing, OldFuture])
@pytest.mark.parametrize("cancelled", ["no", "before", "while it waits"])
def test_futures_of_the_program(as_asyncio, cls, what, cancelled):
    def body(loop):
        reports = []
        loop.set_exception_handler(lambda loop, context: reports.append(type(context.get("exception")).__name__))

        async def main():
            if cancelled == "before":
                task.cancel()
            return await cls(loop, what)

        task, future = loop.create_task(main()), loop.create_future()
        if cancelled == "while it waits":
            loop.call_soon(task.cancel)
        left, state, *end = drive(loop, task, future)
        task.cancel()
        return [len(each) for each in left], state, [str(each).split(" at ")[0][:30] for each in end], reports

    as_asyncio(body)


def test_what_says_it_is_a_generator(as_asyncio):
    class Generator:
        __class__ = types.GeneratorType

        def __repr__(self):
            return "of the program"

        def __await__(self):
            yield self

    def body(loop):
        async def main():
            await Generator()

        try:
            loop.run_until_complete(main())
        except RuntimeError as error:
            return str(error).partition(" in task")[0]

    assert as_asyncio(body)["result"] == "yield was used instead of yield from for generator"
