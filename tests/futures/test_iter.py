"""How a future is awaited: by hand, by a coroutine, by a generator, and by code of others."""

import asyncio
import gc
import sys
import types
import warnings
import weakref

import pytest


def steps(iterator, *calls):
    """What each call of an iterator's method returns or raises, up to its end; after that asyncio's own crashes in
    some versions.
    """
    seen = []
    for name, *args in calls:
        args = [arg() if isinstance(arg, types.FunctionType) else arg for arg in args]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # three arguments of throw() are deprecated
                value = getattr(iterator, name)(*args)
            seen.append(type(value).__name__)
            if name == "close":
                break
        except TypeError:  # with another text
            seen.append("TypeError")
        except RuntimeError as error:
            seen.append(repr(error))
        except BaseException as error:
            seen.append(repr(error).replace("StopIteration(None)", "StopIteration()"))  # the awaiter sees no difference
            break
    return seen


CALLS = {  # each test creates its own exceptions, as they keep tracebacks
    "next twice": [("__next__",), ("__next__",)],
    "send": [("send", None), ("send", 5)],
    "throw": [("throw", lambda: ValueError("x"))],
    "throw a class": [("throw", KeyError)],
    "throw a class and a value": [("throw", KeyError, "y")],
    "throw an instance and a value": [("throw", lambda: KeyError("z"), "y")],
    "throw nonsense": [("throw", 5), ("throw",), ("throw", ValueError, None, 5)],
    "throw after next": [("__next__",), ("throw", lambda: ValueError("x"))],
    "close": [("close",)],
    "close after next": [("__next__",), ("close",)],
    "nonsense": [("send",), ("close", 5)],
}


@pytest.mark.parametrize("outcome", ["pending", "result", "None", "tuple", "StopIteration", "exception", "cancelled"])
def test_iterator_stepped_without_a_task(as_asyncio, outcome):
    act = {
        "pending": lambda future: None,
        "result": lambda future: future.set_result(5),
        "None": lambda future: future.set_result(None),
        "tuple": lambda future: future.set_result((1, 2)),
        "StopIteration": lambda future: future.set_result(StopIteration(3)),
        "exception": lambda future: future.set_exception(KeyError(1)),
        "cancelled": lambda future: future.cancel(),
    }[outcome]

    def body(loop):
        seen = []
        for calls in CALLS.values():
            future = loop.create_future()
            act(future)
            seen.append(steps(future.__await__(), *calls))
            future._log_traceback = False
        return seen

    as_asyncio(body)


def test_done_between_two_steps(as_asyncio):
    def body(loop):
        future = loop.create_future()
        iterator = iter(future)
        seen = [next(iterator) is future, future._asyncio_future_blocking]
        future._asyncio_future_blocking = False
        future.set_result(5)
        return seen + steps(iterator, ("send", None))

    assert as_asyncio(body)["result"] == [True, True, "StopIteration(5)"]


@pytest.mark.parametrize("end", ["result", "exception", "throw", "close"])
def test_exhausted_iterator(cloop, end):
    """It behaves like a generator that has ended; asyncio's own raises SystemError or crashes here."""
    if cloop.Future is asyncio.Future:
        pytest.skip("asyncio's own futures")
    loop = cloop.Loop()
    future = loop.create_future()
    iterator = iter(future)
    if end == "result":
        future.set_result(5)
        assert steps(iterator, ("send", None)) == ["StopIteration(5)"]
    elif end == "exception":
        future.set_exception(KeyError(5))
        assert steps(iterator, ("send", None)) == ["KeyError(5)"]
    else:
        steps(iterator, ("throw", ValueError) if end == "throw" else ("close",))
    for call in ["__next__"], ["send", None], ["send", 5]:
        assert steps(iterator, call) == ["StopIteration()"]
    assert steps(iterator, ["throw", KeyError]) == ["KeyError()"]
    assert steps(iterator, ["close"]) == ["NoneType"]
    loop.close()


def test_many_iterators_at_once(loop):
    """More than are cached."""
    future = loop.create_future()
    iterators = [iter(future) for _ in range(1000)]
    future.set_result(5)
    assert [steps(iterator, ("send", None)) for iterator in iterators] == [["StopIteration(5)"]] * 1000


def test_iterator_keeps_the_future_until_it_is_closed(loop):
    future = loop.create_future()
    reference, iterator = weakref.ref(future), iter(future)
    future = None
    assert reference() is not None
    iterator.close()
    assert reference() is None


def test_cycle_through_an_iterator_is_collected(loop):
    future = loop.create_future()
    future.me = iter(future)
    reference = weakref.ref(future)
    future = None
    gc.collect()
    assert reference() is None


def test_generator_based_coroutine(as_asyncio):
    def body(loop):
        @types.coroutine
        def wait(future):
            result = yield from future
            return result

        async def main():
            future = loop.create_future()
            loop.call_soon(future.set_result, 5)
            return await wait(future)

        return loop.run_until_complete(main())

    assert as_asyncio(body)["result"] == 5


@pytest.mark.skipif(sys.version_info >= (3, 11), reason="asyncio.coroutine has gone with Python 3.11")
def test_coroutine_made_by_asyncio_coroutine(as_asyncio):
    def body(loop):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")

            @asyncio.coroutine
            def wait(future):
                return (yield from future), (yield from asyncio.sleep(0, 6))

        future = loop.create_future()
        loop.call_soon(future.set_result, 5)
        return loop.run_until_complete(wait(future))

    assert as_asyncio(body)["result"] == (5, 6)


def test_await_without_a_task(as_asyncio):
    """A coroutine that is driven by hand yields the future itself."""

    def body(loop):
        async def wait(future):
            return await future

        future = loop.create_future()
        coro = wait(future)
        seen = [coro.send(None) is future]
        seen += steps(coro, ("send", None))
        return seen

    assert as_asyncio(body)["result"] == [True, repr(RuntimeError("await wasn't used with future"))]


# _asyncio_future_blocking


class Like:
    """The minimum of a future that a task needs."""

    def __init__(self, loop):
        self._loop, self.callbacks, self.value, self._asyncio_future_blocking = loop, [], None, False

    def get_loop(self):
        return self._loop

    def add_done_callback(self, callback, context=None):
        self.callbacks.append((callback, context))

    def cancel(self, msg=None):
        self.value = asyncio.CancelledError(msg) if msg else asyncio.CancelledError()
        self.finish()
        return True

    def finish(self):
        for callback, context in self.callbacks:
            self._loop.call_soon(callback, self, context=context)
        self.callbacks = []

    def result(self):
        if isinstance(self.value, BaseException):
            raise self.value
        return self.value

    def __await__(self):
        self._asyncio_future_blocking = True
        yield self
        return self.result()


@pytest.mark.parametrize("value", [5, ValueError(6), None], ids=str)
def test_our_task_awaits_what_is_like_a_future(as_asyncio, settle, value):
    def body(loop):
        async def wait(like):
            return await like

        like = Like(loop)
        assert asyncio.isfuture(like)
        task = loop.create_task(wait(like))
        settle(loop)
        seen = [len(like.callbacks), like._asyncio_future_blocking, like.callbacks[0][1] is not None]
        like.value = value
        if value is None:
            seen.append(task.cancel())
        else:
            like.finish()
        settle(loop)
        return seen + [task.done(), task.cancelled(), None if task.cancelled() else repr(task.exception())]

    as_asyncio(body)


def test_our_future_is_awaited_by_pure_python_and_stock_tasks(as_asyncio, settle, endings):
    def body(loop):
        async def wait(future):
            return await future

        seen = []
        for cls in [asyncio.tasks._PyTask, asyncio.Task]:
            for act in endings:
                future = loop.create_future()
                task = cls(wait(future), loop=loop)
                outer = loop.create_task(wait(task))
                settle(loop)
                act(future, task)
                settle(loop)
                seen.append((future.cancelled(), task.cancelled(), outer.cancelled()))
                seen.append(None if outer.cancelled() else repr(outer.exception()))
        return seen

    as_asyncio(body)


@pytest.mark.parametrize("stock", [asyncio.Future, asyncio.futures._PyFuture], ids=["C", "Python"])
def test_our_task_awaits_other_futures(as_asyncio, settle, stock, endings):
    def body(loop):
        async def wait(future):
            return await future

        seen = []
        for act in endings:
            future = stock(loop=loop)
            tasks = [loop.create_task(wait(future)) for _ in range(2)]
            settle(loop)
            act(future, tasks[0])
            settle(loop)
            for task in tasks:
                seen.append((task.done(), task.cancelled(), None if task.cancelled() else repr(task.exception())))
        return seen

    as_asyncio(body)
