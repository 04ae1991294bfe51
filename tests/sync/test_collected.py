"""A collection in the midst of functions with bodies in C, in which a destructor ends the future that they are about to wait for,
or takes away what they use: whoever waits is woken nevertheless, and nothing is used that is gone.
"""

import asyncio
import collections
import contextvars
import gc
import sys

import pytest

pytestmark = pytest.mark.skipif(
    sys.version_info >= (3, 12), reason="collections come between two instructions of Python code there"
)
MOST = 60  # allocations of a step


class Collecting:
    """Collects at each allocation of what the collector knows, and acts in one of the collections."""

    def __init__(self):
        self.kept = []

    def begin(self, number, act):
        self.left, self.act = number, act
        # What was freed before would be used again, without a collection.
        self.kept += [(None, n) for n in range(2100 if not self.kept else 100)]
        self.kept += [[] for _ in range(100)]
        self.kept += [contextvars.copy_context() for _ in range(300 if len(self.kept) < 3000 else 20)]
        self.threshold = gc.get_threshold()
        gc.callbacks.append(self.collected)
        gc.set_threshold(1, 10**6, 10**6)

    def end(self):
        """Returns whether it has acted."""
        gc.set_threshold(*self.threshold)
        gc.callbacks.remove(self.collected)
        return self.left < 0

    def collected(self, phase, info):
        if phase == "start":
            if self.left == 0:
                self.act()
            self.left -= 1


async def called_back(future):
    ended = asyncio.get_running_loop().create_future()
    future.add_done_callback(ended.set_result)
    return await ended


async def completed(future):
    return [await each for each in asyncio.as_completed([future])]


async def awaited(future):
    return await future


USES = {
    "await": awaited,
    "add_done_callback": called_back,
    "gather": lambda future: asyncio.gather(future),
    "gather two": lambda future: asyncio.gather(asyncio.sleep(0), future),
    "wait": lambda future: asyncio.wait([future]),
    "wait_for": lambda future: asyncio.wait_for(future, 1000),
    "shield": lambda future: asyncio.shield(future),
    "as_completed": completed,
}
ACTS = {
    "finished": lambda future: future.set_result("result"),
    "failed": lambda future: future.set_exception(KeyError("failed")),
    "cancelled": lambda future: future.cancel(),
}


@pytest.mark.parametrize("use", sorted(USES))
@pytest.mark.parametrize("act", sorted(ACTS))
@pytest.mark.parametrize("callbacks", range(3))
def test_future_is_ended(accelerate, cloop, use, act, callbacks):
    collecting, acted = Collecting(), []

    async def main(number):
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        for _ in range(callbacks):
            future.add_done_callback(lambda future: None)

        async def step():
            collecting.begin(number, lambda: future.done() or ACTS[act](future))
            return await USES[use](future)

        task = loop.create_task(step())
        try:
            await asyncio.sleep(0)
        finally:
            acted.append(collecting.end())
        if not future.done():
            ACTS[act](future)
        for _ in range(8):
            await asyncio.sleep(0)
        assert task.done(), "after collection %d" % number
        if act != "finished":
            task.cancelled() or task.exception()
            future.cancelled() or future.exception()
        elif use == "wait":
            assert task.result() == ({future}, set())
        elif use == "add_done_callback":
            assert task.result() is future
        else:
            assert "result" in task.result()

    loop = cloop.Loop()
    try:
        for number in range(MOST):
            loop.run_until_complete(main(number))
            if not acted[-1]:
                break
    finally:
        loop.close()
    assert 0 < sum(acted) < MOST


async def locked(lock):
    await lock.acquire()
    return lock.acquire


async def full(queue):
    queue.put_nowait(1)
    return lambda: queue.put(2)


async def of_condition(condition):
    async def wait():
        async with condition:
            await condition.wait()

    return wait


async def method(primitive, name):
    return getattr(primitive, name)


WAITING = {
    "Lock": (asyncio.Lock, "_waiters", locked),
    "Semaphore": (asyncio.Semaphore, "_waiters", locked),
    "BoundedSemaphore": (asyncio.BoundedSemaphore, "_waiters", locked),
    "Event": (asyncio.Event, "_waiters", lambda event: method(event, "wait")),
    "Condition": (asyncio.Condition, "_waiters", of_condition),
    "Queue.get": (asyncio.Queue, "_getters", lambda queue: method(queue, "get")),
    "Queue.put": (lambda: asyncio.Queue(1), "_putters", full),
    "PriorityQueue.get": (asyncio.PriorityQueue, "_getters", lambda queue: method(queue, "get")),
}
CHANGES = {"deque": collections.deque, "None": lambda: None, "object": object}


@pytest.mark.parametrize("which", sorted(WAITING))
@pytest.mark.parametrize("change", sorted(CHANGES))
def test_queue_of_waiters_is_replaced(accelerate, cloop, which, change):
    collecting, acted = Collecting(), []
    make, name, prepare = WAITING[which]

    async def main(number):
        primitive = make()
        wait = await prepare(primitive)

        async def step():
            collecting.begin(number, lambda: setattr(primitive, name, CHANGES[change]()))
            await wait()

        task = asyncio.ensure_future(step())
        try:
            await asyncio.sleep(0)
        finally:
            acted.append(collecting.end())
        for _ in range(4):
            task.cancel()
            await asyncio.sleep(0)
        assert task.done(), "after collection %d" % number
        task.cancelled() or task.exception()

    loop = cloop.Loop()
    try:
        for number in range(MOST):
            loop.run_until_complete(main(number))
            if not acted[-1]:
                break
    finally:
        loop.close()
    assert 0 < sum(acted) < MOST
