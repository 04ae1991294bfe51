"""Condition: wait() and wait_for(), in C and in asyncio's Python code."""

import asyncio
import collections
import gc
import inspect
import sys
import types
import weakref

import pytest

pytestmark = pytest.mark.slow


def described(error):
    chain = error and [described(other) for other in (error.__cause__, error.__context__)]
    return error and (type(error).__name__, str(error), chain)


def test_they_are_coroutines_in_c(accelerate, cloop, made):
    async def main():
        condition = asyncio.Condition()
        before = made()
        for coro in condition.wait(), condition.wait_for(bool):
            assert not inspect.iscoroutine(coro) and asyncio.iscoroutine(coro)
            coro.close()
        assert made() == before + 2

    cloop.run(main())


async def waiter(condition, seen, name):
    try:
        async with condition:
            seen.append((name, "waits"))
            try:
                seen.append((name, await condition.wait(), condition.locked()))
            except BaseException as error:
                seen.append((name, described(error), condition.locked()))
                raise
    finally:
        seen.append((name, "left"))


def test_context_of_what_is_thrown_while_it_takes_the_lock_again(accelerate, as_asyncio):
    """The first exception replaces the context that the second one has."""

    def body(loop):
        async def main():
            condition = asyncio.Condition()
            await condition.acquire()
            coro = condition.wait()
            coro.send(None)
            await condition.acquire()
            coro.throw(asyncio.CancelledError("first"))
            second = asyncio.CancelledError("second")
            second.__context__ = KeyError("of before")
            coro.throw(second)
            condition.release()
            await asyncio.sleep(0)
            try:
                coro.send(None)
            except asyncio.CancelledError as error:
                return described(error), described(second)

        return loop.run_until_complete(main())

    as_asyncio(body)


@pytest.mark.parametrize("notified", [0, 1, 2])
@pytest.mark.parametrize("cancels", [0, 1, 2, 3])
@pytest.mark.parametrize("hold", ["", "between", "before"])
@pytest.mark.parametrize("handles", [False, True])
def test_cancelled_again_and_again(accelerate, as_asyncio, notified, cancels, hold, handles):
    """While it waits, between wake-up and resumption, and while it takes the lock again."""

    def body(loop):
        async def while_it_handles(coro):
            try:
                raise ValueError("further out")
            except ValueError:
                await coro

        async def main():
            condition, seen = asyncio.Condition(), []
            coros = [waiter(condition, seen, name) for name in "abc"]
            tasks = [loop.create_task(while_it_handles(coro) if handles else coro) for coro in coros]
            while len(seen) < 3:
                await asyncio.sleep(0)
            await condition.acquire()
            condition.notify(notified)
            if hold == "before":  # they are about to take the lock
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            for number in range(cancels):
                tasks[0].cancel()
                if hold:
                    await asyncio.sleep(0)
                seen.append(number)
            condition.release()
            for _ in range(6):
                await asyncio.sleep(0)
            seen.append([(task.done(), len(condition._waiters), condition.locked()) for task in tasks])
            async with condition:
                condition.notify_all()
            await asyncio.wait(tasks)
            return seen, [task.cancelled() for task in tasks]

        return loop.run_until_complete(main())

    as_asyncio(body)


def test_errors(accelerate, as_asyncio):
    def body(loop):
        async def main():
            condition, seen = asyncio.Condition(), []
            for wait in condition.wait, lambda: condition.wait_for(lambda: 0):
                with pytest.raises(RuntimeError) as caught:
                    await wait()
                seen.append(str(caught.value))
            for predicate in (lambda: 1 / 0, lambda: next(iter(()))):
                with pytest.raises(Exception) as caught:
                    await condition.wait_for(predicate)
                seen.append(described(caught.value))
            with pytest.raises(TypeError) as caught:
                condition.wait(1)
            seen.append(str(caught.value))
            return seen

        return loop.run_until_complete(main())

    as_asyncio(body)


def test_wait_for(accelerate, as_asyncio):
    def body(loop):
        async def main():
            condition, values, seen = asyncio.Condition(), [], []

            async def wait():
                async with condition:
                    seen.append(await condition.wait_for(lambda: values[2:] or 0))

            task = loop.create_task(wait())
            for number in range(4):
                await asyncio.sleep(0)
                async with condition:
                    values.append(number)
                    condition.notify()
                seen.append(number)
            await task
            async with condition:
                return seen, await condition.wait_for(lambda: "at once")

        return loop.run_until_complete(main())

    as_asyncio(body)


def test_the_waiter_removed_and_the_lock_replaced_meanwhile(accelerate, as_asyncio):
    def body(loop):
        async def main():
            condition, seen = asyncio.Condition(), []
            task = loop.create_task(waiter(condition, seen, "a"))
            await asyncio.sleep(0)
            future = condition._waiters.pop()

            class Other:
                def __await__(self):
                    seen.append("acquired otherwise")
                    yield
                    return True

            condition.acquire, condition.release = Other, lambda: seen.append("released otherwise")
            future.set_result(None)
            await asyncio.wait([task])
            return seen, described(task.exception())

        return loop.run_until_complete(main())

    as_asyncio(body)


def test_wait_replaced_while_wait_for_waits(accelerate, as_asyncio, monkeypatch):
    def body(loop):
        async def main():
            condition, seen = asyncio.Condition(), []

            async def wait():
                async with condition:
                    await condition.wait_for(lambda: len(seen) > 2)

            task = loop.create_task(wait())
            await asyncio.sleep(0)
            original = asyncio.Condition.wait

            async def instead(self):
                seen.append("wait of the program")
                return await original(self)

            with monkeypatch.context() as patch:
                patch.setattr(asyncio.Condition, "wait", instead)
                for _ in range(4):
                    async with condition:
                        condition.notify()
                    await asyncio.sleep(0)
                    await asyncio.sleep(0)
            seen.append(len(condition._waiters))
            async with condition:
                condition.notify()
            await task
            return seen

        return loop.run_until_complete(main())

    as_asyncio(body)


@pytest.mark.parametrize("how", ["close", "throw", "free"])
@pytest.mark.parametrize("locked", [False, True])
def test_ended_while_it_waits(accelerate, as_asyncio, how, locked, recwarn):
    def body(loop):
        async def main():
            condition, seen = asyncio.Condition(), []
            await condition.acquire()
            coro = condition.wait()
            coro.send(None)
            if locked:
                await condition.acquire()
            try:
                if how == "close":
                    coro.close()
                elif how == "throw":
                    coro.throw(KeyError("thrown"))
            except BaseException as error:
                seen.append(described(error))
            if not (locked and how == "free"):  # that is only reported
                del coro
                gc.collect()
            seen.append((len(condition._waiters), condition.locked(), len(condition._lock._waiters or ())))
            if locked:
                condition.release()
            return seen

        return loop.run_until_complete(main())

    as_asyncio(body)


def test_what_it_awaits_is_shown(accelerate, as_asyncio):
    def body(loop):
        async def main():
            condition = asyncio.Condition()

            async def wait():
                async with condition:
                    await condition.wait_for(lambda: False)

            task = loop.create_task(wait())
            await asyncio.sleep(0)
            async with condition:
                condition.notify()
                await asyncio.sleep(0)
                chain, coro = [], task.get_coro()
                while hasattr(coro, "cr_frame"):
                    chain.append((coro.__qualname__, coro.cr_frame.f_code.co_name, coro.cr_frame.f_lineno))
                    coro = coro.cr_await
            task.cancel()
            await asyncio.wait([task])
            return chain

        return loop.run_until_complete(main())

    assert len(as_asyncio(body)["result"]) == 4


def test_nothing_is_kept(accelerate, cloop):
    class Predicate:
        def __call__(self):
            return True

    async def main():
        condition = asyncio.Condition()
        predicate = Predicate()
        gone = weakref.ref(predicate)
        async with condition:
            await condition.wait_for(predicate)
        del predicate
        assert gone() is None

    cloop.run(main())


class Plain:
    """Awaitable by an iterator that has neither send() nor throw()."""

    def __init__(self, loop):
        self.loop = loop

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        future = self.loop.create_future()
        future._asyncio_future_blocking = True
        return future


class Bad:
    def __init__(self, loop):
        pass

    def __await__(self):
        return 5


class GivesCoroutine:
    def __init__(self, loop):
        pass

    async def __await__(self):
        pass


@types.coroutine
def generator(loop):
    yield
    return True


@pytest.mark.parametrize("make", [Plain, Bad, GivesCoroutine, generator, lambda loop: None, lambda loop: iter(())])
def test_what_acquire_may_return(accelerate, as_asyncio, make):
    def body(loop):
        async def taken():
            return True

        async def waits(condition, seen):
            await condition.acquire()
            try:
                seen.append(await condition.wait())
            except BaseException as error:
                seen.append(described(error))

        async def main():
            condition, seen = asyncio.Condition(), []
            lock = condition._lock
            task = loop.create_task(waits(condition, seen))
            await asyncio.sleep(0)
            await lock.acquire()
            condition.notify()
            lock.release()
            made = [taken, lambda: make(loop)]
            condition.acquire = lambda: made.pop()()
            for _ in range(3):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            return seen, len(made)

        return loop.run_until_complete(main())

    as_asyncio(body)


class Broken:
    """A waiter of the lock that fails when it is to be woken."""

    def done(self):
        raise KeyError("asked")

    def cancelled(self):
        return False


def test_release_that_fails(accelerate, as_asyncio):
    """The lock is not taken again."""

    def body(loop):
        async def main():
            condition = asyncio.Condition()
            await condition.acquire()
            condition._lock._waiters = collections.deque([Broken()])
            try:
                await condition.wait()
            except KeyError as error:
                return described(error), condition.locked(), len(condition._waiters)

        return loop.run_until_complete(main())

    assert as_asyncio(body)["result"] is not None


def test_futures_of_a_loop_that_makes_its_own(accelerate, as_asyncio):
    def body(loop):
        made, seen = [], []
        create_future = loop.create_future

        async def main():
            condition = asyncio.Condition()
            task = loop.create_task(waiter(condition, seen, "a"))
            await asyncio.sleep(0)
            async with condition:
                seen.append(len(condition._waiters))
                condition.notify()
            await task
            seen.append((condition.locked(), len(condition._waiters), len(made)))

        loop.create_future = lambda: made.append(1) or create_future()
        try:
            loop.run_until_complete(main())
        finally:
            del loop.create_future
        return seen

    assert as_asyncio(body)["result"][-1] == (False, 0, 1)


@pytest.mark.skipif(sys.version_info < (3, 10), reason="it has no loop of its own since 3.10")
def test_condition_of_another_loop(accelerate, as_asyncio):
    """What wait() raises, and with the lock taken again or not."""

    def body(loop):
        async def main():
            condition = asyncio.Condition()
            await condition.acquire()
            condition._loop = object()
            try:
                await condition.wait()
            except RuntimeError as error:
                return described(error), condition.locked(), len(condition._waiters)

        return loop.run_until_complete(main())

    assert as_asyncio(body)["result"] is not None


@pytest.mark.parametrize("name", ["acquire", "release", "locked"])
@pytest.mark.parametrize("taken", [False, True], ids=["free", "taken"])
def test_method_of_another_lock(accelerate, as_asyncio, name, taken):
    """A condition has its lock's methods, as attributes; one of them is another lock's."""

    def body(loop):
        async def main():
            locks, seen = [asyncio.Lock(), asyncio.Lock()], []
            condition = asyncio.Condition(locks[0])
            setattr(condition, name, getattr(locks[1], name))
            if taken:
                await locks[1].acquire()

            def look():
                seen.append([lock.locked() for lock in locks])

            async def wait():
                try:
                    async with condition:
                        look()
                        return await condition.wait()
                finally:
                    look()

            def notify():
                try:
                    condition.notify()
                except RuntimeError as error:
                    seen.append(str(error))
                look()

            notify()
            tasks = [loop.create_task(wait()) for _ in range(2)]
            for _ in range(3):
                for _ in range(3):
                    await asyncio.sleep(0)
                notify()
            tasks[0].cancel()
            for lock in locks * 2:
                await asyncio.sleep(0)
                if lock.locked():
                    lock.release()
                look()
            tasks[1].cancel()
            for _ in range(3):
                await asyncio.sleep(0)
            look()
            return seen, [repr(task.cancelled() or task.done() and task.exception()) for task in tasks]

        return loop.run_until_complete(main())

    as_asyncio(body)


def test_lock_replaced_before_it_is_entered(accelerate, as_asyncio):
    """Between the call of __aenter__() and its first step."""

    def body(loop):
        async def main():
            condition, other = asyncio.Condition(), asyncio.Lock()
            entering, first = condition.__aenter__(), condition._lock
            condition._lock = other
            condition.acquire, condition.release, condition.locked = other.acquire, other.release, other.locked
            await entering
            return first.locked(), other.locked()

        return loop.run_until_complete(main())

    assert as_asyncio(body)["result"] == (False, True)
