"""Barrier, in C and in asyncio's Python code."""

import asyncio
import inspect
import sys

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio has no Barrier"),
]


def test_they_are_coroutines_in_c(accelerate, cloop, made):
    async def main():
        barrier = asyncio.Barrier(1)
        before = made()
        for coro in barrier.wait(), barrier.reset(), barrier.abort(), barrier.__aenter__():
            assert not inspect.iscoroutine(coro) and asyncio.iscoroutine(coro)
            coro.close()
        assert made() == before + 4
        async with barrier as index:
            assert index == 0

    cloop.run(main())


def member(barrier, seen, name):
    async def member():
        try:
            async with barrier as index:
                seen.append((name, index, repr(barrier).rpartition("[")[2]))
        except BaseException as error:
            context = error.__context__
            seen.append((name, type(error).__name__, str(error), type(context).__name__))
            raise
        finally:
            seen.append((name, barrier._count, barrier._state.value, barrier._cond.locked()))

    return member()


OPERATIONS = {
    "nothing": lambda barrier, tasks: asyncio.sleep(0),
    "reset": lambda barrier, tasks: barrier.reset(),
    "abort": lambda barrier, tasks: barrier.abort(),
    "cancel": lambda barrier, tasks: asyncio.sleep(0, tasks[0].cancel()),
    "reset twice": lambda barrier, tasks: asyncio.gather(barrier.reset(), barrier.reset()),
    "reset, abort": lambda barrier, tasks: asyncio.gather(barrier.reset(), barrier.abort()),
}


@pytest.mark.parametrize("turns", range(5))
@pytest.mark.parametrize("operation", sorted(OPERATIONS))
@pytest.mark.parametrize("first", [1, 2, 3, 5])
def test_members_come_in_the_middle_of_everything(accelerate, as_asyncio, operation, first, turns):
    def body(loop):
        async def main():
            barrier, seen = asyncio.Barrier(3), []
            tasks = [loop.create_task(member(barrier, seen, number)) for number in range(first)]
            for _ in range(turns):
                await asyncio.sleep(0)
            await OPERATIONS[operation](barrier, tasks)
            seen.append(operation)
            tasks += [loop.create_task(member(barrier, seen, 10 + number)) for number in range(3)]
            for _ in range(12):
                await asyncio.sleep(0)
            seen.append([task.done() for task in tasks])
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            return seen

        return loop.run_until_complete(main())

    as_asyncio(body)


def test_methods_replaced_while_tasks_wait(accelerate, as_asyncio, monkeypatch):
    def body(loop):
        async def main():
            barrier, seen = asyncio.Barrier(2), []
            tasks = [loop.create_task(member(barrier, seen, 0))]
            await asyncio.sleep(0)
            with monkeypatch.context() as patch:
                for name in ("_exit", "_release", "_block", "_wait"):
                    original = getattr(asyncio.Barrier, name)

                    def instead(self, name=name, original=original):
                        seen.append(name)
                        return original(self)

                    patch.setattr(asyncio.Barrier, name, instead)
                tasks += [loop.create_task(member(barrier, seen, number)) for number in (1, 2, 3)]
                await asyncio.wait(tasks)
            return seen

        return loop.run_until_complete(main())

    as_asyncio(body)


def test_a_subclass_and_an_attribute(accelerate, as_asyncio):
    class Sub(asyncio.Barrier):
        async def _wait(self):
            self.seen.append("_wait of a subclass")
            return await super()._wait()

    def body(loop):
        async def main():
            seen = []
            for barrier in Sub(2), asyncio.Barrier(2):
                barrier.seen = seen
                await asyncio.gather(*[member(barrier, seen, number) for number in range(2)])
            return seen

        return loop.run_until_complete(main())

    as_asyncio(body)


def test_the_lock_of_its_condition_is_taken(accelerate, as_asyncio):
    def body(loop):
        async def main():
            barrier, seen = asyncio.Barrier(2), []
            async with barrier._cond:
                tasks = [loop.create_task(member(barrier, seen, number)) for number in range(2)]
                for _ in range(3):
                    await asyncio.sleep(0)
                seen.append(barrier.n_waiting)
            await asyncio.wait(tasks)
            return seen

        return loop.run_until_complete(main())

    as_asyncio(body)


@pytest.mark.parametrize("name", ["acquire", "release", "locked", "wait_for", "notify_all"])
def test_condition_changed_while_tasks_wait(accelerate, as_asyncio, name):
    def body(loop):
        async def main():
            barrier, seen = asyncio.Barrier(3), []
            tasks = [loop.create_task(member(barrier, seen, 0))]
            await asyncio.sleep(0)
            original = getattr(barrier._cond, name)

            def instead(*args):
                seen.append(name)
                return original(*args)

            setattr(barrier._cond, name, instead)
            tasks += [loop.create_task(member(barrier, seen, number)) for number in (1, 2, 3)]
            for _ in range(12):
                await asyncio.sleep(0)
            seen.append([task.done() for task in tasks])
            await barrier.abort()
            return seen, [repr(each) for each in await asyncio.gather(*tasks, return_exceptions=True)]

        return loop.run_until_complete(main())

    as_asyncio(body)


async def many_turns(count=12):
    for _ in range(count):
        await asyncio.sleep(0)


class Sub(asyncio.Condition if sys.version_info >= (3, 11) else object):
    pass


@pytest.mark.parametrize("name", ["_block", "_wait", "_release", "_exit"])
@pytest.mark.parametrize("raises", [False, True])
@pytest.mark.parametrize("parties", [1, 2])
def test_a_method_replaced_while_the_lock_is_awaited(accelerate, as_asyncio, monkeypatch, name, raises, parties):
    def body(loop):
        async def main():
            barrier, seen, original = asyncio.Barrier(parties), [], getattr(asyncio.Barrier, name)
            await barrier._cond.acquire()
            tasks = [loop.create_task(member(barrier, seen, number)) for number in range(2)]
            await many_turns()

            def instead(self):
                seen.append(name)
                if raises:
                    raise KeyError(name)
                return original(self)

            with monkeypatch.context() as patch:
                patch.setattr(asyncio.Barrier, name, instead)
                barrier._cond.release()
                await many_turns()
            for task in tasks:
                task.cancel()
            return seen, [repr(each) for each in await asyncio.gather(*tasks, return_exceptions=True)]

        return loop.run_until_complete(main())

    as_asyncio(body)


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("cls", ["Condition", "Sub", "object"])
@pytest.mark.parametrize("operation", ["wait", "reset", "abort"])
def test_another_condition_while_the_lock_is_awaited(accelerate, as_asyncio, held, cls, operation):
    """It is the new one that is notified, and the old one that is released."""

    def body(loop):
        async def main():
            barrier, seen = asyncio.Barrier(2), []
            before = barrier._cond
            waiting = loop.create_task(member(barrier, seen, "first"))
            await many_turns()
            await before.acquire()
            if operation == "wait":
                tasks = [loop.create_task(member(barrier, seen, "second"))]
            else:
                tasks = [loop.create_task(getattr(barrier, operation)())]
            await many_turns()
            barrier._cond = {"Condition": asyncio.Condition, "Sub": Sub, "object": object}[cls]()
            if held and cls != "object":
                await barrier._cond.acquire()
            before.release()
            await many_turns()
            seen.append((before.locked(), barrier._state.value, barrier._count))
            tasks.append(waiting)
            for task in tasks:
                task.cancel()
            return seen, [repr(each) for each in await asyncio.gather(*tasks, return_exceptions=True)]

        return loop.run_until_complete(main())

    as_asyncio(body)


class Number:
    """A count that fails in one operation."""

    def __init__(self, failing):
        self.failing = failing

    def operate(name):
        def operation(self, other):
            if name in self.failing:
                raise ArithmeticError(name)
            return {"add": self, "sub": self}.get(name, False)

        return operation

    __add__, __sub__, __gt__, __eq__ = operate("add"), operate("sub"), operate("gt"), operate("eq")
    __hash__ = None


@pytest.mark.parametrize("failing", ["", "add", "sub", "gt", "eq"])
@pytest.mark.parametrize("name", ["_count", "_parties", "_state"])
@pytest.mark.parametrize("operation", ["wait", "reset", "abort"])
@pytest.mark.parametrize("moment", ["before", "while it waits"])
def test_attributes_that_are_no_numbers(accelerate, as_asyncio, failing, name, operation, moment):
    def body(loop):
        async def main():
            barrier, seen = asyncio.Barrier(2), []
            tasks = []

            def change():
                if failing or name != "_state":
                    setattr(barrier, name, Number(failing))
                else:
                    delattr(barrier, name)

            async def use():
                try:
                    seen.append(repr(await getattr(barrier, operation)()))
                except Exception as error:
                    seen.append((repr(error), repr(error.__context__)))

            if moment == "before":
                change()
            tasks.append(loop.create_task(use()))
            await many_turns()
            if moment != "before":
                change()
            tasks.append(loop.create_task(use()))
            await many_turns()
            seen.append((barrier._cond.locked(), [task.done() for task in tasks]))
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            return seen, barrier._cond.locked()

        return loop.run_until_complete(main())

    as_asyncio(body)
