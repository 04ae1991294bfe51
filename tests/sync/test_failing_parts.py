"""Futures, waiters, queues of waiters, timers and loops of a program whose methods fail, in the hands of functions and
primitives that have bodies in C: who is told what, and what becomes of the rest, as in asyncio.
"""

import asyncio
import collections
import sys
import time
import types

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # coroutines that nobody awaits, since what should have failed
    pytest.mark.skipif(
        sys.version_info[:2] not in ((3, 11), (3, 14)), reason="asyncio has other faults of its own there"
    ),
]


def failing(cls, name):
    """A subclass one of whose methods fails in objects that are armed."""

    def method(self, *args, **kwargs):
        if self.armed:
            raise ZeroDivisionError(name)
        return getattr(super(made, self), name)(*args, **kwargs)

    made = type("Failing", (cls,), {"armed": False, name: method})
    return made


async def turns(count):
    for _ in range(count):
        await asyncio.sleep(0)


def kind(value):
    if isinstance(value, BaseException):
        return type(value).__name__, str(value)
    if isinstance(value, (list, tuple)):
        return [kind(each) for each in value]
    if isinstance(value, (set, frozenset)):
        return len(value)
    return type(value).__name__ if asyncio.isfuture(value) else repr(value)


async def outcome(task):
    """Of a task, which is cancelled if it waits."""
    waits = not task.done()
    if waits:
        task.cancel()
        await turns(4)
    if not task.done():
        return "waits on"
    if task.cancelled():
        return waits, "cancelled"
    return waits, kind(task.exception() or task.result())


def attempt(function, *args):
    try:
        return kind(function(*args))
    except Exception as error:
        return kind(error)


class Reports(list):
    """What a loop's exception handler is told, but for exceptions that nobody has asked for."""

    def __init__(self, loop):
        super().__init__()
        loop.set_exception_handler(self.handle)

    def handle(self, loop, context):
        if "never retrieved" not in context["message"]:
            self.append((context["message"].partition("(")[0].split(" at ")[0][:30], kind(context.get("exception"))))


MOMENT_S = 0.001


async def completed(future, timeout=None):
    found = []
    for each in asyncio.as_completed([future], timeout=timeout):
        try:
            found.append(kind(await each))
        except Exception as error:
            found.append(kind(error))
    return found


async def within(future):
    async with asyncio.timeout(MOMENT_S):
        await future


FUNCTIONS = {
    "wait": lambda future: asyncio.wait([future]),
    "wait for an exception": lambda future: asyncio.wait(
        [future, asyncio.ensure_future(asyncio.sleep(MOMENT_S))], return_when="FIRST_EXCEPTION"
    ),
    "wait a moment": lambda future: asyncio.wait([future], timeout=MOMENT_S),
    "wait_for": lambda future: asyncio.wait_for(future, 5),
    "wait_for a moment": lambda future: asyncio.wait_for(future, MOMENT_S),
    "shield": lambda future: asyncio.shield(future),
    "gather": lambda future: asyncio.gather(future, asyncio.sleep(0, 1)),
    "gather exceptions": lambda future: asyncio.gather(future, asyncio.sleep(0), return_exceptions=True),
    "completed": completed,
    "completed in a moment": lambda future: completed(future, MOMENT_S),
    "timeout": within,
}
TIMED = ("wait a moment", "wait_for a moment", "wait for an exception", "completed in a moment", "timeout")
ENDS = {
    "result": lambda future: asyncio.Future.set_result(future, "result"),
    "exception": lambda future: asyncio.Future.set_exception(future, KeyError("given")),
    "cancelled": lambda future: asyncio.Future.cancel(future),
    "nothing": lambda future: None,
}


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_futures(accelerate, as_asyncio, name):
    def body(loop):
        async def main(method, moment, end):
            future, reports = failing(asyncio.Future, method)(loop=loop), Reports(loop)
            future.armed = moment == "before"
            began = loop.time()

            async def use():
                return await FUNCTIONS[name](future)

            if moment == "done before":
                ENDS[end](future)
                future.armed = True
            task = loop.create_task(use())
            await turns(2)
            if moment != "done before":
                future.armed = True
                ENDS[end](future)
            await turns(4)
            in_time = name not in TIMED or loop.time() - began < MOMENT_S
            if name in TIMED and not task.done():
                await asyncio.sleep(3 * MOMENT_S)
                await turns(2)
            found = await outcome(task)
            future.armed = False
            if future.done() and not future.cancelled():
                asyncio.Future.exception(future)
            # On a busy machine the moment may be over before what should come first.
            return (found, list(reports), future._state) if in_time else await main(method, moment, end)

        return {
            (method, moment, end): loop.run_until_complete(main(method, moment, end))
            for method in (
                "done", "cancelled", "exception", "result", "cancel", "add_done_callback", "remove_done_callback", "get_loop",
            )
            for moment in ("before", "later", "done before")
            for end in ENDS
        }  # fmt: skip

    as_asyncio(body)


PRIMITIVES = {
    "lock": (asyncio.Lock, ["_waiters"], ["release", "acquire", "locked"]),
    "event": (asyncio.Event, ["_waiters"], ["set", "wait"]),
    "semaphore": (asyncio.Semaphore, ["_waiters"], ["release", "acquire", "locked"]),
    "bounded semaphore": (asyncio.BoundedSemaphore, ["_waiters"], ["release", "acquire", "locked"]),
    "condition": (asyncio.Condition, ["_waiters"], ["notify", "notify_all", "wait"]),
    "queue": (asyncio.Queue, ["_getters", "_putters"], ["put_nowait", "get_nowait", "put", "get", "join", "task_done"]),
    "lifo queue": (asyncio.LifoQueue, ["_getters", "_putters"], ["put_nowait", "get_nowait", "put", "get"]),
    "priority queue": (asyncio.PriorityQueue, ["_getters", "_putters"], ["put_nowait", "get_nowait", "put", "get"]),
}


async def used(loop, primitive, name):
    """What comes of a method, if it is asynchronous after its task has waited, got a waiter's result, and been cancelled."""
    try:
        result = getattr(primitive, name)(*[1] * name.startswith("put"))
    except Exception as error:
        return kind(error)
    if not asyncio.iscoroutine(result):
        return kind(result)
    task = loop.create_task(result)
    await turns(3)
    return await outcome(task)


async def usable(which, busy):
    cls = PRIMITIVES[which][0]
    primitive = cls(1) if "queue" in which else cls()
    if busy and "queue" in which:
        primitive.put_nowait(0)
    elif busy and which != "event":
        await primitive.acquire()
    return primitive


@pytest.mark.parametrize("which", sorted(PRIMITIVES))
def test_waiters(accelerate, as_asyncio, which):
    """A waiter of the program's, before one that is asyncio's."""

    def body(loop):
        async def main(attribute, method, operation, busy):
            primitive, reports = await usable(which, busy), Reports(loop)
            waiter, other = failing(asyncio.Future, method)(loop=loop), loop.create_future()
            setattr(primitive, attribute, collections.deque([waiter, other]))
            waiter.armed = True
            found = await used(loop, primitive, operation)
            left = len(getattr(primitive, attribute) or ())
            again = await used(loop, primitive, operation)
            waiter.armed = False
            return found, again, left, waiter._state, other._state, list(reports)

        return {
            (attribute, method, operation, busy): loop.run_until_complete(main(attribute, method, operation, busy))
            for attribute in PRIMITIVES[which][1]
            for method in ("done", "cancelled", "set_result", "cancel")
            for operation in PRIMITIVES[which][2]
            for busy in (False, True)
        }

    as_asyncio(body)


@pytest.mark.parametrize("which", sorted(PRIMITIVES))
def test_queues_of_waiters(accelerate, as_asyncio, which):
    """They are of a subclass, and fail: at once, or when a task that waits in them is cancelled."""

    def body(loop):
        async def main(attribute, method, operation, busy, moment):
            primitive, reports = await usable(which, busy), Reports(loop)
            waiters = failing(collections.deque, method)()
            setattr(primitive, attribute, waiters)
            waiters.armed = moment == "at once"
            tasks = [loop.create_task(used(loop, primitive, operation)) for _ in range(2)]
            await turns(2)
            waiters.armed = True
            await turns(8)
            return [await outcome(task) for task in tasks], collections.deque.__len__(waiters), list(reports)

        return {
            (attribute, method, operation, busy, moment): loop.run_until_complete(
                main(attribute, method, operation, busy, moment)
            )
            for attribute in PRIMITIVES[which][1]
            for method in ("append", "popleft", "remove", "__len__", "__iter__")
            for operation in PRIMITIVES[which][2]
            for busy in (False, True)
            for moment in ("at once", "later")
        }

    as_asyncio(body)


class Timer:
    """The handle of a timer whose methods fail."""

    _source_traceback = None

    def __init__(self, handle, fails):
        self.handle, self.fails = handle, fails

    def cancel(self):
        self.handle.cancel()
        if self.fails:
            raise ZeroDivisionError("cancel")

    def when(self):
        return self.handle.when()

    def cancelled(self):
        return self.handle.cancelled()


def replaced(cls, name, how):
    """A class of loops one of whose methods is the program's: it fails while the loop is armed, or only passes on."""

    class Loop(cls):
        armed = False

    def method(self, *args, **kwargs):
        if self.armed and how == "fails":
            raise ZeroDivisionError(name)
        result = getattr(super(Loop, self), name)(*args, **kwargs)
        return Timer(result, how == "timer fails") if self.armed and how.startswith("timer") else result

    setattr(Loop, name, method)
    return Loop


async def pause():
    await asyncio.sleep(0.0005, "slept")


LOOP_USES = {
    "sleep": lambda: asyncio.sleep(0.0005, 1),
    "sleep 0": lambda: asyncio.sleep(0, 1),
    "wait": lambda: asyncio.wait([asyncio.ensure_future(pause())], timeout=5),
    "wait a moment": lambda: asyncio.wait([asyncio.ensure_future(asyncio.sleep(5))], timeout=0.0005),
    "wait_for": lambda: asyncio.wait_for(pause(), 5),
    "wait_for a moment": lambda: asyncio.wait_for(asyncio.sleep(5), 0.0005),
    "shield": lambda: asyncio.shield(pause()),
    "gather": lambda: asyncio.gather(pause(), pause()),
    "completed": lambda: completed(pause(), 5),
    "completed in a moment": lambda: completed(asyncio.sleep(5), 0.0005),
    "timeout": lambda: within(asyncio.sleep(5)),
    "lock": lambda: asyncio.Lock().acquire(),
    "event": lambda: asyncio.wait_for(asyncio.Event().wait(), 0.0005),
    "queue": lambda: asyncio.wait_for(asyncio.Queue().get(), 0.0005),
    "to_thread": lambda: asyncio.to_thread(int, 5),
}


@pytest.mark.parametrize("how", ["passes on", "fails", "timer", "timer fails"])
@pytest.mark.parametrize("name", ["call_soon", "call_later", "call_at", "time", "create_future", "create_task"])
def test_loops(accelerate, differences, name, how):
    if how.startswith("timer") and name not in ("call_later", "call_at"):
        pytest.skip("makes no timer")
    if how == "fails" and name in ("call_soon", "time"):
        pytest.skip("no loop could go on")

    def play(cls):
        loop, told = replaced(cls, name, how)(), {}
        reports = Reports(loop)

        async def main(use):
            del reports[:]
            loop.armed = True
            try:
                task = asyncio.ensure_future(LOOP_USES[use]())
            except Exception as error:
                loop.armed = False
                return kind(error), list(reports)
            for _ in range(8):
                time.sleep(0.0005)
                await turns(1)
            loop.armed = False
            found = await outcome(task), list(reports)
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            await turns(3)
            return found

        for use in LOOP_USES:
            told[use] = loop.run_until_complete(main(use)) if use != "to_thread" else None
        loop.close()
        return told

    assert differences(play) == {}


REPLACED = [
    (module, name)
    for module, names in [
        ("asyncio.tasks", ["ensure_future", "_ensure_future", "_wait", "_release_waiter", "_cancel_and_wait", "__sleep0",
                           "_GatheringFuture", "current_task", "_AsCompletedIterator", "_discard_awaited_by", "Task"]),
        ("asyncio.futures", ["_set_result_unless_cancelled", "isfuture", "_chain_future", "Future", "_get_loop"]),
        ("asyncio.events", ["get_running_loop", "_get_running_loop", "get_event_loop"]),
        ("asyncio.coroutines", ["iscoroutine"]),
        ("asyncio.timeouts", ["Timeout", "timeout"]),
        ("asyncio.queues", ["Queue"]),
        ("asyncio.threads", ["functools"]),
        ("contextvars", ["copy_context"]),
    ]
    for name in names
    if hasattr(sys.modules.get(module), name)
]  # fmt: skip


def same_as(value):
    """Another object that does the same."""
    if isinstance(value, type):
        return type(value.__name__, (value,), {})
    if isinstance(value, types.ModuleType):
        return types.SimpleNamespace(**vars(value))
    return lambda *args, **kwargs: value(*args, **kwargs)


@pytest.mark.parametrize("watch", [None, "settrace", "setprofile"])
def test_what_is_replaced(accelerate, differences, monkeypatch, watch):
    """Each global that asyncio's functions use is replaced in turn, by what does the same; or they are watched."""

    def play(cls):
        loop, told = cls(), {}
        reports = Reports(loop)

        async def main(use):
            try:
                return kind(await LOOP_USES[use]())
            except Exception as error:
                return kind(error)

        for place in REPLACED if watch is None else [None]:
            for use in LOOP_USES:
                del reports[:]
                with monkeypatch.context() as patch:
                    if place is not None:
                        patch.setattr(
                            sys.modules[place[0]], place[1], same_as(getattr(sys.modules[place[0]], place[1]))
                        )
                    else:
                        getattr(sys, watch)(lambda *args: None)
                    try:
                        told[place, use] = loop.run_until_complete(main(use)), list(reports)
                    finally:
                        if place is None:
                            getattr(sys, watch)(None)
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
        return told

    assert differences(play) == {}
