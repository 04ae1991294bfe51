"""Attributes of primitives that programs set to what asyncio never puts there, also while tasks wait: as in asyncio."""

import asyncio
import collections
import fractions
import sys

import pytest

pytestmark = pytest.mark.slow

NUMBERS = {
    "huge": 10**30,
    "largest": sys.maxsize,
    "smallest": -sys.maxsize - 1,
    "small": -(10**30),
    "float": 1.5,
    "fraction": fractions.Fraction(3, 2),
    "true": True,
    "zero": 0.0,
    "text": "one",
    "none": None,
}
SEMAPHORES = {"semaphore": asyncio.Semaphore, "bounded": asyncio.BoundedSemaphore}
QUEUES = {"fifo": asyncio.Queue, "lifo": asyncio.LifoQueue, "priority": asyncio.PriorityQueue}


def attempt(function, *args):
    try:
        return repr(function(*args))
    except Exception as error:
        return repr(error)


async def turns(count):
    for _ in range(count):
        await asyncio.sleep(0)


async def ends(tasks):
    for task in tasks:
        task.cancel()
    return [repr(each) for each in await asyncio.gather(*tasks, return_exceptions=True)]


@pytest.mark.parametrize("kind", sorted(SEMAPHORES))
@pytest.mark.parametrize("moment", ["first", "before", "between", "after"])
@pytest.mark.parametrize("cancelled", [False, True])
def test_value_of_a_semaphore(accelerate, as_asyncio, kind, moment, cancelled):
    def body(loop):
        async def main(number):
            semaphore, seen, value = SEMAPHORES[kind](1), [], NUMBERS[number]
            await semaphore.acquire()

            async def work(worker):
                acquiring = semaphore.acquire()
                if moment == "first":
                    semaphore._value = value
                try:
                    seen.append((worker, await acquiring, repr(semaphore._value)))
                except Exception as error:
                    seen.append((worker, repr(error)))

            tasks = [loop.create_task(work(number)) for number in range(3)]
            await turns(1)
            if moment == "before":
                semaphore._value = value
            seen.append(attempt(semaphore.release))
            if moment == "between":
                semaphore._value = value
            if cancelled:
                tasks[0].cancel()
            await turns(1)
            if moment == "after":
                semaphore._value = value
            seen.append(attempt(semaphore.release))
            seen.append(attempt(semaphore.locked))
            await turns(4)
            seen.append(([task.done() for task in tasks], repr(semaphore._value), len(semaphore._waiters or ())))
            return seen, await ends(tasks), repr(semaphore._value)

        return {number: loop.run_until_complete(main(number)) for number in NUMBERS}

    as_asyncio(body)


@pytest.mark.parametrize("kind", sorted(QUEUES))
@pytest.mark.parametrize("name", ["_maxsize", "_unfinished_tasks"])
def test_numbers_of_a_queue(accelerate, as_asyncio, kind, name):
    def body(loop):
        async def main(number):
            queue, seen = QUEUES[kind](2), []

            async def gets():
                try:
                    seen.append(("got", await queue.get()))
                except Exception as error:
                    seen.append(repr(error))

            tasks = [loop.create_task(gets()) for _ in range(2)]
            await turns(1)
            setattr(queue, name, NUMBERS[number])
            for operation in (queue.put_nowait, 1), (queue.put_nowait, 2), (queue.task_done,), (queue.full,):
                seen.append(attempt(*operation))
            tasks[0].cancel()
            await turns(3)
            tasks += [loop.create_task(queue.put(item)) for item in range(4)]
            await turns(3)
            seen.append([task.done() for task in tasks])
            tasks.append(loop.create_task(queue.join()))
            await turns(2)
            for _ in range(4):
                seen.append(attempt(queue.get_nowait))
                seen.append(attempt(queue.task_done))
            await turns(3)
            seen.append(repr(getattr(queue, name)))
            return seen, await ends(tasks)

        return {number: loop.run_until_complete(main(number)) for number in NUMBERS}

    as_asyncio(body)


@pytest.mark.parametrize("name", ["_unfinished_tasks", "_getters", "_finished", "_queue"])
def test_a_queue_that_comparing_its_items_changes(accelerate, as_asyncio, name):
    def body(loop):
        async def main():
            queue, seen = asyncio.PriorityQueue(), []
            values = {
                "_unfinished_tasks": 1.5,
                "_getters": collections.deque(),
                "_finished": asyncio.Event(),
                "_queue": [],
            }

            class Item:
                def __lt__(self, other):
                    setattr(queue, name, values[name])
                    return False

            for _ in range(3):
                seen.append(attempt(queue.put_nowait, Item()))
            for _ in range(3):
                seen.append(attempt(lambda: type(queue.get_nowait()).__name__))
            seen.append((repr(queue._unfinished_tasks), queue.qsize()))
            return seen

        return loop.run_until_complete(main())

    as_asyncio(body)


class Waiter:
    """A waiter that was cancelled, and whose answer to that changes something else."""

    def __init__(self, owner, name, value):
        self.change = owner, name, value

    def cancelled(self):
        setattr(*self.change)
        return True

    def done(self):
        return True


@pytest.mark.parametrize(
    "make", [asyncio.Lock, asyncio.Semaphore, asyncio.BoundedSemaphore], ids=lambda make: make.__name__
)
@pytest.mark.parametrize(
    "name, value",
    [("more", 1), ("_value", 10**30), ("_value", 0), ("_locked", True), ("_locked", 1), ("_waiters", None)],
    ids=lambda value: str(value)[:6],
)
def test_waiters_that_change_what_they_are_asked_by(accelerate, as_asyncio, make, name, value):
    def body(loop):
        async def main():
            primitive = make()
            primitive._waiters = collections.deque([Waiter(primitive, name, value)])
            task = loop.create_task(primitive.acquire())
            await turns(3)
            seen = [task.done(), repr(getattr(primitive, "_value", None)), repr(getattr(primitive, "_locked", None))]
            seen.append(attempt(primitive.release))
            await turns(2)
            return seen, task.done(), await ends([task])

        return loop.run_until_complete(main())

    as_asyncio(body)


@pytest.mark.parametrize("value", [0, 1, None, "yes", []], ids=repr)
def test_a_lock_whose_state_is_no_truth_value(accelerate, as_asyncio, value):
    def body(loop):
        async def main():
            lock, seen = asyncio.Lock(), []
            lock._locked = value
            tasks = [loop.create_task(lock.acquire()) for _ in range(2)]
            await turns(2)
            seen.append([task.done() for task in tasks])
            lock._locked = value
            seen.append(attempt(lock.locked))
            seen.append(attempt(lock.release))
            await turns(2)
            seen.append([task.done() for task in tasks])
            return seen, await ends(tasks)

        return loop.run_until_complete(main())

    as_asyncio(body)


@pytest.mark.parametrize("value", [0, 1, None, "yes", []], ids=repr)
@pytest.mark.parametrize("moment", ["before", "first", "while it waits"])
def test_an_event_whose_state_is_no_truth_value(accelerate, as_asyncio, value, moment):
    def body(loop):
        async def main():
            event, seen = asyncio.Event(), []
            waiting = event.wait()
            if moment == "before":
                waiting.close()
            if moment != "while it waits":
                event._value = value
            task = loop.create_task(event.wait() if moment == "before" else waiting)
            await turns(2)
            event._value = value
            seen += [task.done(), attempt(event.is_set), attempt(event.set)]
            await turns(2)
            seen += [task.done(), repr(event._value), attempt(event.clear), repr(event._value)]
            return seen, await ends([task])

        return loop.run_until_complete(main())

    as_asyncio(body)


@pytest.mark.parametrize("number", sorted(NUMBERS))
def test_bound_of_a_semaphore(accelerate, as_asyncio, number):
    def body(loop):
        async def main():
            semaphore, seen = asyncio.BoundedSemaphore(2), []
            await semaphore.acquire()
            semaphore._bound_value = NUMBERS[number]
            for _ in range(3):
                seen.append(attempt(semaphore.release))
                seen.append(repr(semaphore._value))
            return seen

        return loop.run_until_complete(main())

    as_asyncio(body)


class Deque(collections.deque):
    """Of the program: notes what is removed from it."""

    def __init__(self, items, seen):
        super().__init__(items)
        self.seen = seen

    def remove(self, item):
        self.seen.append("removed")
        super().remove(item)


@pytest.mark.parametrize("kind", ["lock", "event", "condition", "semaphore", "bounded"])
@pytest.mark.parametrize("cancelled", [False, True])
def test_waiters_of_another_class_while_a_task_waits(accelerate, as_asyncio, kind, cancelled):
    def body(loop):
        async def main():
            seen = []
            make = dict(SEMAPHORES, lock=asyncio.Lock, event=asyncio.Event, condition=asyncio.Condition)[kind]
            primitive = make()
            if kind != "event":
                await primitive.acquire()
            wait = primitive.wait if kind in ("event", "condition") else primitive.acquire
            tasks = [loop.create_task(wait())]
            await turns(1)
            if kind == "condition":
                await primitive.acquire()
            primitive._waiters = Deque(primitive._waiters, seen)
            if cancelled:
                tasks[0].cancel()
            elif kind == "condition":
                primitive.notify()
            else:
                primitive.set() if kind == "event" else primitive.release()
            if kind == "condition":
                primitive.release()
            await turns(4)
            seen.append((tasks[0].done(), len(primitive._waiters)))
            return seen, await ends(tasks)

        return loop.run_until_complete(main())

    as_asyncio(body)


@pytest.mark.parametrize("count", [8, 9, 17, 40])
@pytest.mark.parametrize("doubled", [False, True])
def test_gather_of_many(accelerate, as_asyncio, count, doubled):
    def body(loop):
        async def main():
            futures = [loop.create_future() for _ in range(count)]
            if doubled:
                futures[count // 2] = futures[-1]
            outer = asyncio.gather(*futures)
            for number, future in enumerate(futures):
                if not future.done():
                    future.set_result(number)
            return await outer

        return loop.run_until_complete(main())

    as_asyncio(body)


class Refusing(collections.deque):
    """Fails where a waiter is added or removed."""

    def append(self, item):
        raise LookupError("append")

    def remove(self, item):
        raise LookupError("remove")


WAITERS = {
    "cleared": lambda waiters: waiters.clear(),
    "empty": lambda waiters: collections.deque(),
    "list": list,
    "refusing": Refusing,
    "none": lambda waiters: None,
    "object": lambda waiters: object(),
    "others": lambda waiters: collections.deque([1, None]),
}


@pytest.mark.parametrize("kind", ["lock", "event", "condition", "semaphore", "bounded"])
@pytest.mark.parametrize("moment", ["before", "while it waits", "when it is woken"])
@pytest.mark.parametrize("cancelled", [False, True])
def test_waiters_that_are_not_those_that_wait(accelerate, as_asyncio, kind, moment, cancelled):
    def body(loop):
        async def main(waiters):
            make = dict(SEMAPHORES, lock=asyncio.Lock, event=asyncio.Event, condition=asyncio.Condition)[kind]
            primitive, seen = make(), []

            def change():
                made = WAITERS[waiters](primitive._waiters or collections.deque())
                if waiters != "cleared":
                    primitive._waiters = made

            async def wait(number):
                if kind == "condition":
                    await primitive.acquire()
                try:
                    seen.append(
                        (number, await (primitive.wait if kind in ("event", "condition") else primitive.acquire)())
                    )
                except BaseException as error:
                    seen.append((number, repr(error), repr(error.__context__)))
                finally:
                    if kind == "condition" and primitive.locked():
                        primitive.release()

            if kind not in ("event", "condition"):
                await primitive.acquire()
            if moment == "before":
                change()
            tasks = [loop.create_task(wait(number)) for number in range(2)]
            await turns(4)
            if moment == "while it waits":
                change()
            if kind == "condition":
                await primitive.acquire()
            seen.append(attempt(primitive.notify if kind == "condition" else primitive.set if kind == "event" else
                                primitive.release))  # fmt: skip
            if moment == "when it is woken":
                change()
            if cancelled:
                tasks[0].cancel()
            if kind == "condition":
                seen.append(attempt(primitive.release))
            await turns(6)
            seen.append([task.done() for task in tasks])
            return seen, await ends(tasks), repr(getattr(primitive, "_value", None))

        return {waiters: loop.run_until_complete(main(waiters)) for waiters in WAITERS}

    as_asyncio(body)


@pytest.mark.parametrize("kind", ["lock", "event", "condition", "semaphore", "bounded"])
@pytest.mark.parametrize("cancelled", [(0,), (1,), (0, 1), (0, 1, 2)])
def test_waiters_that_are_cancelled_in_the_turn_in_which_they_are_woken(accelerate, as_asyncio, kind, cancelled):
    """They are passed over."""

    def body(loop):
        async def main():
            make = dict(SEMAPHORES, lock=asyncio.Lock, event=asyncio.Event, condition=asyncio.Condition)[kind]
            primitive, seen = make(), []

            async def wait(number):
                if kind == "condition":
                    async with primitive:
                        seen.append((number, await primitive.wait()))
                elif kind == "event":
                    seen.append((number, await primitive.wait()))
                else:
                    async with primitive:
                        seen.append(number)

            if kind not in ("event", "condition"):
                await primitive.acquire()
            tasks = [loop.create_task(wait(number)) for number in range(3)]
            await turns(6)
            if kind == "condition":
                await primitive.acquire()
            for number in cancelled:
                tasks[number].cancel()
            if kind == "condition":
                primitive.notify_all()
            (primitive.set if kind == "event" else primitive.release)()
            await turns(8)
            return seen, await ends(tasks), len(primitive._waiters or ())

        return loop.run_until_complete(main())

    as_asyncio(body)


PARTS = {
    "none": lambda old: None,
    "list": lambda old: [],
    "empty": lambda old: collections.deque(),
    "refusing": lambda old: Refusing(),
    "others": lambda old: collections.deque([1, None]),
    "object": lambda old: object(),
    "number": lambda old: 5,
    "true": lambda old: True,
    "text": lambda old: "text",
    "error": lambda old: KeyError("of the test"),
}


def change_part(thing, name, value):
    """Not of a version that has no such attribute."""
    if name in vars(thing):
        setattr(thing, name, PARTS[value](getattr(thing, name)))


@pytest.mark.parametrize("kind", sorted(QUEUES))
@pytest.mark.parametrize("name", ["_getters", "_putters", "_finished", "_queue", "_is_shutdown", "_loop"])
@pytest.mark.parametrize("moment", ["before", "while they get", "while they put"])
def test_parts_of_a_queue(accelerate, as_asyncio, kind, name, moment):
    if name == "_loop" and sys.version_info < (3, 10):
        pytest.skip("C code takes the loop that runs")

    def body(loop):
        async def main(value):
            queue, seen = QUEUES[kind](1), []

            def note(*operations):
                seen.extend(attempt(*operation) for operation in operations)

            if moment == "before":
                change_part(queue, name, value)
            getting = [loop.create_task(queue.get()) for _ in range(2)]
            await turns(2)
            if moment == "while they get":
                change_part(queue, name, value)
            note((queue.put_nowait, 1), (queue.full,), (queue.empty,))
            getting[1].cancel()
            await turns(3)
            putting = [loop.create_task(queue.put(number)) for number in range(3)]
            await turns(3)
            if moment == "while they put":
                change_part(queue, name, value)
            note((queue.get_nowait,), (queue.task_done,))
            putting[2].cancel()
            await turns(3)
            joining = loop.create_task(queue.join())
            await turns(2)
            note((queue.get_nowait,), (queue.task_done,), (queue.get_nowait,), (queue.task_done,))
            await turns(3)
            tasks = getting + putting + [joining]
            seen.append([task.done() for task in tasks])
            return seen, await ends(tasks)

        return {value: loop.run_until_complete(main(value)) for value in PARTS}

    as_asyncio(body)


@pytest.mark.skipif(not hasattr(asyncio, "Barrier"), reason="asyncio has it since Python 3.11")
@pytest.mark.parametrize("name", ["_cond", "_state", "_count", "_parties"])
@pytest.mark.parametrize("moment", ["before", "while one waits", "while it drains"])
@pytest.mark.parametrize("way", ["filled", "reset", "aborted", "cancelled"])
def test_parts_of_a_barrier(accelerate, as_asyncio, name, moment, way):
    def body(loop):
        async def main(value):
            barrier, seen = asyncio.Barrier(2), []
            if moment == "before":
                change_part(barrier, name, value)
            tasks = [loop.create_task(barrier.wait())]
            await turns(3)
            if moment == "while one waits":
                change_part(barrier, name, value)
            if way == "filled":
                tasks.append(loop.create_task(barrier.wait()))
            elif way == "cancelled":
                tasks[0].cancel()
            else:
                tasks.append(loop.create_task(barrier.reset() if way == "reset" else barrier.abort()))
            await turns(1)
            if moment == "while it drains":
                change_part(barrier, name, value)
            tasks.append(loop.create_task(barrier.wait()))
            await turns(6)
            seen.append([task.done() for task in tasks])
            for attribute in "parties", "n_waiting", "broken":
                seen.append(attempt(getattr, barrier, attribute))
            return seen, await ends(tasks)

        return {value: loop.run_until_complete(main(value)) for value in PARTS}

    as_asyncio(body)


@pytest.mark.skipif(not hasattr(asyncio, "timeout"), reason="asyncio has it since Python 3.11")
@pytest.mark.parametrize("name", ["_state", "_when", "_task", "_timeout_handler", "_cancelling"])
@pytest.mark.parametrize("moment", ["before", "within"])
@pytest.mark.parametrize("way", ["returns", "raises", "times out", "is rescheduled"])
def test_parts_of_a_timeout(accelerate, as_asyncio, name, moment, way):
    def body(loop):
        async def main(value):
            timeout, seen = asyncio.timeout(-1 if way == "times out" else 1000), []
            loop.set_exception_handler(lambda loop, context: seen.append(repr(context["exception"])))

            async def use():
                async with timeout:
                    if moment == "within":
                        change_part(timeout, name, value)
                    if way == "raises":
                        raise ZeroDivisionError
                    if way == "is rescheduled":
                        timeout.reschedule(None)
                    await turns(3)
                return "left"

            if moment == "before":
                change_part(timeout, name, value)
            task = loop.create_task(use())
            await turns(6)
            seen.append((task.done(), attempt(timeout.expired)))
            if "when" not in name:  # else it shows the loop's time
                seen.append(attempt(lambda: repr(timeout).partition(" when")[0]))
            return seen, await ends([task])

        return {value: loop.run_until_complete(main(value)) for value in PARTS}

    as_asyncio(body)
