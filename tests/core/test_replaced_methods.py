"""Methods that a program replaces in asyncio's own loop classes, which tests and tracers do: newrelic and ddtrace wrap
create_task(), others run_in_executor(). cloop's loops are subclasses, and do so too.
"""

import asyncio
import contextvars
import functools
import types

import pytest

VAR = contextvars.ContextVar("VAR", default="unset")


@pytest.fixture(params=["BaseEventLoop", "SelectorEventLoop", "code"])
def replace(request, monkeypatch):
    """Replaces a method by replacement(original, loop, *args, **kwargs); or the code of its function, where it is."""

    def replace(name, replacement):
        owner = asyncio.BaseEventLoop if request.param == "code" else getattr(asyncio, request.param)
        original = getattr(owner, name)

        def wrapper(self, *args, **kwargs):
            return replacement(original, self, *args, **kwargs)

        if request.param != "code":
            monkeypatch.setattr(owner, name, wrapper)
            return
        # As bytecode wrappers do: the function stays the same object.
        copy = types.FunctionType(original.__code__, original.__globals__, name, original.__defaults__)
        copy.__kwdefaults__ = original.__kwdefaults__
        wrapped = functools.partial(replacement, copy)
        monkeypatch.setitem(original.__globals__, "_test_of_cloop", wrapped)

        def code(self, *args, **kwargs):
            return _test_of_cloop(self, *args, **kwargs)  # noqa: F821

        monkeypatch.setattr(original, "__kwdefaults__", None)
        monkeypatch.setattr(original, "__defaults__", None)
        monkeypatch.setattr(original, "__code__", code.__code__)

    return replace


@pytest.mark.parametrize("debug", [False, True])
def test_create_task(loop, replace, debug):
    loop.set_debug(debug)
    seen = []

    def create_task(original, self, coro, **kwargs):
        task = original(self, coro, **kwargs)
        seen.append((self is loop, coro.__name__, task))
        return task

    async def sub():
        return 1

    async def main():
        return await asyncio.gather(sub(), loop.create_task(sub(), **name), asyncio.create_task(sub()))

    name = {} if debug else {"name": "named"}
    replace("create_task", create_task)
    assert loop.run_until_complete(main()) == [1, 1, 1]
    assert sorted(each[1] for each in seen) == ["main", "sub", "sub", "sub"]
    assert all(each[0] and isinstance(each[2], asyncio.Task) and each[2].done() for each in seen)
    assert debug or [each[2].get_name() for each in seen].count("named") == 1


def test_create_task_put_back(loop, monkeypatch):
    def fail(self, coro, **kwargs):
        coro.close()
        raise ValueError("replaced")

    async def sub():
        return 1

    async def main():
        for _ in range(2):
            with monkeypatch.context() as patch:
                patch.setattr(asyncio.BaseEventLoop, "create_task", fail)
                with pytest.raises(ValueError, match="replaced"):
                    loop.create_task(sub())
            assert await loop.create_task(sub()) == 1

    loop.run_until_complete(main())


def test_run_in_executor(loop, replace):
    """A program that carries the context into the thread."""

    def run_in_executor(original, self, executor, func, *args):
        return original(self, executor, contextvars.copy_context().run, func, *args)

    async def main():
        VAR.set("set")
        return [await loop.run_in_executor(None, VAR.get) for _ in range(3)]

    replace("run_in_executor", run_in_executor)
    assert loop.run_until_complete(main()) == ["set"] * 3


def test_run_in_executor_that_is_a_coroutine(loop, replace):
    async def run_in_executor(original, self, executor, func, *args):
        return "replaced", await original(self, executor, func, *args)

    async def main():
        return [await loop.run_in_executor(None, abs, -1) for _ in range(3)]

    replace("run_in_executor", run_in_executor)
    assert loop.run_until_complete(main()) == [("replaced", 1)] * 3


def test_run_in_executor_put_back(loop, monkeypatch):
    async def main():
        found = []
        for _ in range(2):
            with monkeypatch.context() as patch:
                patch.setattr(asyncio.BaseEventLoop, "run_in_executor", lambda self, *args: "replaced")
                found.append(loop.run_in_executor(None, abs, -1))
            found.append(await loop.run_in_executor(None, abs, -1))
        return found

    assert loop.run_until_complete(main()) == ["replaced", 1] * 2
