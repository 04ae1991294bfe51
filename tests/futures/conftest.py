import asyncio
import importlib

import pytest


@pytest.fixture
def classes():
    """classes(loop): the classes of the futures and tasks that the loop makes."""

    def classes(loop):
        if isinstance(loop, asyncio.SelectorEventLoop) and type(loop).__module__.startswith("asyncio"):
            return asyncio.Future, asyncio.Task
        package = importlib.import_module("cloop")
        return package.Future, package.Task

    return classes


@pytest.fixture
def settle():
    """settle(loop): runs turns of the loop until what is ready has led nowhere new, as a few do here."""

    def settle(loop, turns=8):
        for _ in range(turns):
            loop.call_soon(loop.stop)
            loop.run_forever()

    return settle


@pytest.fixture
def endings():
    """Each of the ways in which what a task waits for can end: called with the future and the task."""
    return [
        lambda future, task: future.set_result(5),
        lambda future, task: future.set_exception(KeyError(6)),
        lambda future, task: future.cancel(),
        lambda future, task: task.cancel(),
    ]


@pytest.fixture
def logging_subclass():
    """logging_subclass(cls, names, seen): a subclass whose methods of these names say so when they are called."""

    def logging_subclass(cls, names, seen):
        def logged(name):
            def method(self, *args, **kwargs):
                seen.append((name, len(args), sorted(kwargs)))
                return getattr(super(Sub, self), name)(*args, **kwargs)

            return method

        Sub = type("Sub", (cls,), {name: logged(name) for name in names})
        return Sub

    return logging_subclass
