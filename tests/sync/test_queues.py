"""Queues, in C and in asyncio's Python code."""

import asyncio
import collections
import inspect
import sys

import pytest

KINDS = ("Queue", "LifoQueue", "PriorityQueue")


@pytest.fixture(params=KINDS)
def cls(request):
    return getattr(asyncio, request.param)


@pytest.mark.parametrize("number", [sys.maxsize, 2**70])
def test_number_of_tasks_that_a_program_has_set(accelerate, as_asyncio, number):
    def body(loop):
        async def main():
            queue = asyncio.Queue()
            queue._unfinished_tasks = number
            queue.put_nowait(1)
            queue.task_done()
            queue.task_done()
            return queue._unfinished_tasks

        return loop.run_until_complete(main())

    assert as_asyncio(body)["result"] == number - 1


def test_they_are_coroutines_in_c(accelerate, cloop, cls):
    async def main():
        queue = cls()
        for coro in queue.get(), queue.put(1), queue.join():
            assert not inspect.iscoroutine(coro) and asyncio.iscoroutine(coro)
            coro.close()

    cloop.run(main())


def test_join(accelerate, as_asyncio, cls):
    def body(loop):
        async def main():
            queue, seen = cls(), []
            seen.append(await queue.join())
            for number in range(2):
                queue.put_nowait(number)

            async def join(name):
                try:
                    seen.append((name, await queue.join()))
                except BaseException as error:
                    seen.append((name, type(error).__name__, error.__context__))
                    raise

            tasks = [loop.create_task(join(name)) for name in "abc"]
            await asyncio.sleep(0)
            queue.get_nowait()
            queue.task_done()
            tasks[0].cancel()
            await asyncio.sleep(0)
            seen.append([task.done() for task in tasks])
            queue.get_nowait()
            queue.task_done()
            tasks[1].cancel()
            await asyncio.wait(tasks)
            with pytest.raises(ValueError) as caught:
                queue.task_done()
            return seen, str(caught.value), queue._finished.is_set()

        return loop.run_until_complete(main())

    as_asyncio(body)


def test_join_of_another_event(accelerate, as_asyncio):
    class Event(asyncio.Event):
        async def wait(self):
            self.seen.append("wait of a subclass")
            return await super().wait()

    def body(loop):
        async def main():
            queue = asyncio.Queue()
            queue._finished = Event()
            queue._finished.seen = seen = []
            queue.put_nowait(1)
            loop.call_soon(queue.task_done)
            await queue.join()
            return seen

        return loop.run_until_complete(main())

    as_asyncio(body)


@pytest.mark.skipif(sys.version_info < (3, 13), reason="no shutdown()")
@pytest.mark.parametrize("immediate", [False, True])
@pytest.mark.parametrize("items", [0, 1, 2])
def test_shutdown(accelerate, as_asyncio, cls, immediate, items):
    def body(loop):
        async def main():
            queue, seen = cls(2), []
            for number in range(items):
                queue.put_nowait(number)

            async def use(name, call):
                try:
                    seen.append((name, await call()))
                except Exception as error:
                    seen.append((name, type(error).__name__, error.args))

            tasks = [
                loop.create_task(use(name, call))
                for name, call in [
                    ("get", queue.get),
                    ("get 2", queue.get),
                    ("put", lambda: queue.put(5)),
                    ("put 2", lambda: queue.put(6)),
                    ("put 3", lambda: queue.put(7)),
                    ("join", queue.join),
                ]
            ]
            await asyncio.sleep(0)
            queue.shutdown(immediate)
            seen.append("shutdown")
            for call in queue.get_nowait, lambda: queue.put_nowait(1), queue.shutdown, queue.task_done:
                try:
                    seen.append(call())
                except Exception as error:
                    seen.append((type(error).__name__, error.args))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            seen.append([task.done() for task in tasks])
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            return seen, repr(queue)[-60:].split(" ", 2)[2:]

        return loop.run_until_complete(main())

    as_asyncio(body)


@pytest.mark.parametrize("operation", ["get", "get_nowait", "put", "put_nowait"])
def test_heap_that_comparing_its_items_replaces(accelerate, as_asyncio, operation):
    """It is used to the end of the comparison, by nobody else."""

    def body(loop):
        async def main():
            queue, armed, kept, seen = asyncio.PriorityQueue(), [], [], []

            class Item:
                def __init__(self, number):
                    self.number = number

                def __lt__(self, other):
                    if armed:
                        armed.clear()
                        queue._queue = []
                        kept.extend([0] * 100 for _ in range(10))  # in the place of the old one, if that is free
                    return self.number < other.number

            for number in range(5):
                queue.put_nowait(Item(number))
            armed.append(True)
            try:
                result = getattr(queue, operation)(*[Item(-1)] * operation.startswith("put"))
                if asyncio.iscoroutine(result):
                    result = await result
                seen.append(getattr(result, "number", result))
            except Exception as error:
                seen.append(repr(error))
            return seen, queue.qsize(), queue._unfinished_tasks

        return loop.run_until_complete(main())

    as_asyncio(body)


@pytest.mark.parametrize("cls", [asyncio.Queue, asyncio.LifoQueue, asyncio.PriorityQueue])
def test_getters_that_the_old_value_of_its_event_replaces(accelerate, as_asyncio, cls):
    """Nobody is woken who is not in the queue."""

    def body(loop):
        async def main():
            queue, other, kept = cls(), loop.create_future(), []

            class Value:
                def __del__(self):
                    queue._getters = collections.deque()
                    kept.extend(collections.deque([other]) for _ in range(10))  # in the place of the old one

            task = loop.create_task(queue.get())
            await asyncio.sleep(0)
            queue._finished._value = Value()
            queue.put_nowait(1)
            await asyncio.sleep(0)
            found = other.done(), task.done(), queue.qsize(), queue._finished.is_set()
            task.cancel()
            await asyncio.wait([task])
            return found, len(kept)

        return loop.run_until_complete(main())

    as_asyncio(body)


@pytest.mark.parametrize("ring", ["of the thrown", "of the raised"])
def test_chains_of_contexts_that_are_rings(accelerate, as_asyncio, ring):
    """What a waiter raises when it is compared has been a context of the cancellation; or its own contexts, which the program has set,
    lead back to it. The interpreter makes no ring of the first, and ends at the second.
    """

    def body(loop):
        raised, other = LookupError("raised"), KeyError("other")

        class Waiter:
            def __eq__(self, waiter):
                raise raised

        async def main():
            queue = asyncio.Queue()
            coro = queue.get()
            coro.send(None)
            queue._getters.appendleft(Waiter())
            thrown = asyncio.CancelledError("thrown")
            if ring == "of the thrown":
                thrown.__context__, other.__context__ = other, raised
            else:
                raised.__context__, other.__context__ = other, raised
            try:
                coro.throw(thrown)
            except LookupError as error:
                chain = []
                while error is not None and len(chain) < 6:
                    chain.append(repr(error))
                    error = error.__context__
                return chain
            finally:
                raised.__context__ = other.__context__ = thrown.__context__ = None

        return loop.run_until_complete(main())

    assert len(as_asyncio(body)["result"]) < 6
