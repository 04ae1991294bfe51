import asyncio
import importlib

import pytest


@pytest.fixture
def classes():
    """classes(loop): the classes of the loop's futures and tasks."""

    def classes(loop):
        if isinstance(loop, asyncio.SelectorEventLoop) and type(loop).__module__.startswith("asyncio"):
            return asyncio.Future, asyncio.Task
        package = importlib.import_module("cloop")
        return package.Future, package.Task

    return classes


@pytest.fixture
def settle():
    """settle(loop): runs turns of the loop until nothing new becomes ready; a few are enough here."""

    def settle(loop, turns=8):
        for _ in range(turns):
            loop.call_soon(loop.stop)
            loop.run_forever()

    return settle


@pytest.fixture
def endings():
    """The ways in which the future that a task waits for can end: called with the future and the task."""
    return [
        lambda future, task: future.set_result(5),
        lambda future, task: future.set_exception(KeyError(6)),
        lambda future, task: future.cancel(),
        lambda future, task: task.cancel(),
    ]


@pytest.fixture
def logging_subclass():
    """logging_subclass(cls, names, seen): a subclass whose methods with these names note that they were called."""

    def logging_subclass(cls, names, seen):
        def logged(name):
            def method(self, *args, **kwargs):
                seen.append((name, len(args), sorted(kwargs)))
                return getattr(super(Sub, self), name)(*args, **kwargs)

            return method

        Sub = type("Sub", (cls,), {name: logged(name) for name in names})
        return Sub

    return logging_subclass
