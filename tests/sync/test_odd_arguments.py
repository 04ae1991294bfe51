"""Accelerated functions and primitives, called with arguments of every kind, beside asyncio's own: what they return or raise,
and what becomes of what they were given.
"""

import asyncio
import itertools
import sys
import warnings

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        sys.version_info[:2] not in ((3, 11), (3, 14)), reason="asyncio has other faults of its own there"
    ),
]


async def returns(value=1):
    await asyncio.sleep(0)
    return value


async def fails():
    raise KeyError("on purpose")


def generator(items):
    yield from items


class Awaitable:
    def __await__(self):
        yield from asyncio.sleep(0).__await__()
        return "awaited"


class Future(asyncio.Future):
    pass


def done(loop, error=None):
    future = loop.create_future()
    future.set_exception(error) if error else future.set_result("result")
    return future


def cancelled(loop):
    future = loop.create_future()
    future.cancel()
    return future


VALUES = {
    "nothing": lambda loop: None,
    "zero": lambda loop: 0,
    "negative": lambda loop: -0.5,
    "one": lambda loop: 1,
    "not a number": lambda loop: float("nan"),
    "huge": lambda loop: 10**400,
    "text": lambda loop: "text",
    "coroutine": lambda loop: returns(),
    "failing coroutine": lambda loop: fails(),
    "future": lambda loop: loop.create_future(),
    "future of a subclass": lambda loop: Future(loop=loop),
    "future in Python": lambda loop: asyncio.futures._PyFuture(loop=loop),
    "result": lambda loop: done(loop),
    "exception": lambda loop: done(loop, KeyError("given")),
    "cancelled": cancelled,
    "task": lambda loop: loop.create_task(returns()),
    "failing task": lambda loop: loop.create_task(fails()),
    "awaitable": lambda loop: Awaitable(),
    "future of another loop": lambda loop: asyncio.Future(loop=OTHER[0]),
    "gather": lambda loop: asyncio.gather(returns(1), returns(2)),
    "empty list": lambda loop: [],
    "list": lambda loop: [done(loop), loop.create_task(returns(2))],
    "same twice": lambda loop: [done(loop)] * 2,
    "tuple of coroutines": lambda loop: (returns(), returns(2)),
    "set": lambda loop: {done(loop), loop.create_future()},
    "generator": lambda loop: generator([done(loop), loop.create_task(fails())]),
    "list of others": lambda loop: [1, "2"],
    "mixed list": lambda loop: [done(loop), asyncio.Future(loop=OTHER[0])],
    "list of futures in Python": lambda loop: [asyncio.futures._PyFuture(loop=loop), done(loop)],
    "dict": lambda loop: {done(loop): 1},
    "function": lambda loop: len,
    "object": lambda loop: object,
}
OTHER = []
FUNCTIONS = {
    "sleep": lambda *a, **k: asyncio.sleep(*a, **k),
    "wait": lambda *a, **k: asyncio.wait(*a, **k),
    "wait_for": lambda *a, **k: asyncio.wait_for(*a, **k),
    "shield": lambda *a, **k: asyncio.shield(*a, **k),
    "gather": lambda *a, **k: asyncio.gather(*a, **k),
    "ensure_future": lambda *a, **k: asyncio.ensure_future(*a, **k),
    "as_completed": lambda *a, **k: asyncio.as_completed(*a, **k),
}
if sys.version_info >= (3, 11):
    FUNCTIONS["timeout"] = lambda *a, **k: asyncio.timeout(*a, **k)
    FUNCTIONS["timeout_at"] = lambda *a, **k: asyncio.timeout_at(*a, **k)
KEYWORDS = {
    "wait": [{"timeout": 0}, {"timeout": -1}, {"timeout": "soon"}, {"return_when": "FIRST_COMPLETED"}, {"return_when": 1},
             {"return_when": "FIRST_EXCEPTION"}, {"return_when": "".join(["FIRST_", "COMPLETED"])}, {"no_such": 1},
             {"timeout": float("nan")}, {"timeout": 0.001, "return_when": "ALL_COMPLETED"}],
    "wait_for": [{"timeout": None}, {"timeout": 0}, {"timeout": -1}, {"timeout": 0.001}, {"timeout": "soon"}, {"no_such": 1},
                 {"timeout": float("nan")}, {"timeout": True}, {"timeout": 10**400}],
    "gather": [{"return_exceptions": True}, {"return_exceptions": 0}, {"return_exceptions": "yes"}, {"no_such": 1}],
    "as_completed": [{"timeout": 0}, {"timeout": 0.001}, {"timeout": None}, {"timeout": "soon"}, {"no_such": 1},
                     {"timeout": float("nan")}],
    "sleep": [{"result": 1}, {"no_such": 1}],
    "ensure_future": [{"loop": None}, {"no_such": 1}],
    "shield": [{"no_such": 1}],
}  # fmt: skip


async def turns(count):
    for _ in range(count):
        await asyncio.sleep(0)


def kind(value):
    """What can be compared of a result."""
    if isinstance(value, BaseException):
        return type(value).__name__
    if isinstance(value, (list, tuple)):
        return [kind(each) for each in value]
    if isinstance(value, (set, frozenset)):
        return sorted(str(kind(each)) for each in value)
    if asyncio.isfuture(value):
        return "future", value._state
    if isinstance(value, (int, float, str, type(None))):
        return repr(value)
    return type(value).__name__.lstrip("_")


async def taken(loop, value):
    """What comes of what a function returned."""
    if hasattr(value, "__anext__") or type(value).__name__ in ("generator", "AsCompleted"):
        found = []
        try:
            for each in itertools.islice(value, 3):
                found.append(await taken(loop, each))
        except Exception as error:
            found.append(kind(error))
        return found
    if hasattr(value, "__aenter__") and not hasattr(value, "__await__"):
        try:
            async with value:
                await turns(2)
        except Exception as error:
            return "with", kind(error)
        return "with", kind(value)
    if not (asyncio.iscoroutine(value) or asyncio.isfuture(value)):
        return kind(value)
    try:
        waiting = asyncio.ensure_future(value)
    except Exception as error:
        return kind(error)
    for _ in range(6):
        await asyncio.sleep(0)
    if not waiting.done():
        await asyncio.sleep(0.003)
        await turns(3)
    if not waiting.done():
        waiting.cancel()
        await turns(4)
        return "waited", waiting._state
    if waiting.cancelled():
        return "cancelled"
    error = waiting.exception()
    return kind(waiting.result() if error is None else error)


def state(value):
    if asyncio.isfuture(value):
        return value._state
    if asyncio.iscoroutine(value):
        value.close()
    if isinstance(value, (list, tuple)):
        return [state(each) for each in value]
    return None


def calls(name):
    for value in VALUES:
        if (name, value) == ("timeout_at", "huge"):
            continue  # asyncio fails when it computes how long to sleep
        yield (value,), {}
        for named in KEYWORDS.get(name, ()):
            yield (value,), named
        for other in ("nothing", "zero", "one", "text", "result", "failing coroutine"):
            yield (value, other), {}
    yield (), {}
    yield ("result", "future", "exception", "cancelled"), {}


def end(loop):
    for task in asyncio.all_tasks(loop):
        task.cancel()
    for _ in range(4):
        loop.call_soon(loop.stop)
        loop.run_forever()


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_functions(accelerate, differences, name):
    def play(cls):
        loop, told = cls(), {}
        OTHER[:] = [cls()]
        loop.set_exception_handler(lambda loop, context: None)

        async def main():
            for values, named in calls(name):
                given = [VALUES[each](loop) for each in values]
                try:
                    result = await taken(loop, FUNCTIONS[name](*given, **named))
                except Exception as error:
                    result = "raised", kind(error)
                if name == "as_completed" and isinstance(result, list):
                    result.sort(key=str)  # by their addresses
                told[values, str(named)] = result, [state(each) for each in given]

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loop.run_until_complete(main())
            end(loop)
        loop.close()
        OTHER.pop().close()
        return told

    assert differences(play) == {}


PRIMITIVES = {
    "Lock": ["acquire", "release", "locked", "__aenter__", "__aexit__"],
    "Event": ["set", "clear", "is_set", "wait"],
    "Condition": [
        "acquire",
        "release",
        "locked",
        "wait",
        "wait_for",
        "notify",
        "notify_all",
        "__aenter__",
        "__aexit__",
    ],
    "Semaphore": ["acquire", "release", "locked", "__aenter__", "__aexit__"],
    "BoundedSemaphore": ["acquire", "release", "locked", "__aenter__", "__aexit__"],
    "Queue": ["put", "get", "put_nowait", "get_nowait", "join", "task_done", "qsize", "full", "empty"],
    "LifoQueue": ["put", "get", "put_nowait", "get_nowait", "join", "task_done"],
    "PriorityQueue": ["put", "get", "put_nowait", "get_nowait", "join", "task_done"],
}
if sys.version_info >= (3, 11):
    PRIMITIVES["Barrier"] = ["wait", "reset", "abort", "__aenter__", "__aexit__"]
GIVEN = ["nothing", "zero", "one", "negative", "huge", "text", "result", "object", "function"]


@pytest.mark.parametrize("cls", sorted(PRIMITIVES))
@pytest.mark.parametrize("busy", [False, True])
def test_methods(accelerate, differences, cls, busy):
    def play(make_loop):
        loop, told = make_loop(), {}
        loop.set_exception_handler(lambda loop, context: None)

        async def main():
            for name in PRIMITIVES[cls]:
                for values in itertools.chain.from_iterable(itertools.product(GIVEN, repeat=n) for n in range(4)):
                    if len(values) > 1 and name not in ("wait_for", "notify", "__aexit__", "put"):
                        break
                    primitive = getattr(asyncio, cls)(*[2] * (cls == "Barrier"))
                    if busy and hasattr(primitive, "acquire"):
                        await primitive.acquire()
                    elif busy and hasattr(primitive, "put_nowait"):
                        primitive.put_nowait(1)
                    try:
                        value = getattr(primitive, name)(*[VALUES[each](loop) for each in values])
                        result = await taken(loop, value)
                    except Exception as error:
                        result = "raised", kind(error)
                    told[name, values] = result, repr(primitive).partition(" at ")[2][20:]

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loop.run_until_complete(main())
            end(loop)
        loop.close()
        return told

    assert differences(play) == {}
