"""What a program does while functions and primitives with bodies in C are in the midst of something: it ends what they wait for,
or them, at each turn and in each way; its task factories, and what hashes and compares its objects, fail or do other things. All
of it beside asyncio's own code.
"""

import asyncio

import pytest
from midway import FREED, current, kind, message_of, quiet, steady, where_asyncio_is_known

pytestmark = where_asyncio_is_known


class Reports(list):
    """What a loop's exception handler is told."""

    def __init__(self, loop):
        super().__init__()
        loop.set_exception_handler(self.handle)

    def handle(self, loop, context):
        if not any(each in context["message"] for each in FREED):
            self.append((message_of(context), kind(context.get("exception"))))


def ended(task):
    if not task.done():
        return "waits"
    return "cancelled" if task.cancelled() else kind(task.exception() or task.result())


def attempt(function, *args):
    try:
        return kind(function(*args))
    except BaseException as error:
        return kind(error)


@pytest.fixture
def differences(accelerate, differences):
    """differences(run): where the results that run(loop) returns, a dict, are others than on asyncio."""

    def play(run, loop):
        with steady(loop), quiet(loop), current(loop):  # for what is called while it does not run
            try:
                return run(loop)
            finally:
                loop.close()

    return lambda run: differences(lambda make_loop: play(run, make_loop()))


# Ended at each turn


class World:
    """What a program uses, which goes on by itself from turn to turn."""

    def __init__(self, loop):
        self.loop, self.notes = loop, []
        self.first, self.second = loop.create_future(), loop.create_future()
        self.tasks = []

    def task(self, coro):
        self.tasks.append(self.loop.create_task(coro))
        return self.tasks[-1]

    def go_on(self, turn):
        """What happens in this turn by itself."""
        if turn == 3 and not self.first.done():
            self.first.set_result("first")
        if turn == 6 and not self.second.done():
            self.second.set_exception(KeyError("second"))


async def noting(world, name, turns):
    try:
        for _ in range(turns):
            await asyncio.sleep(0)
        return name
    except BaseException as error:
        world.notes.append((name, kind(error)))
        raise


async def gathers(world):
    return await asyncio.gather(world.first, noting(world, "a", 2), noting(world, "b", 5), world.first)


async def gathers_exceptions(world):
    return await asyncio.gather(world.second, noting(world, "a", 2), world.first, return_exceptions=True)


async def gathers_within(world):
    return await asyncio.gather(asyncio.gather(world.first, world.second), asyncio.shield(world.first))


async def waits(world):
    done, pending = await asyncio.wait([world.first, world.second, world.task(noting(world, "a", 8))])
    return len(done), len(pending)


async def waits_for_first(world):
    done, pending = await asyncio.wait([world.first, world.second], timeout=1000, return_when="FIRST_COMPLETED")
    return len(done), len(pending)


async def waits_for_error(world):
    done, pending = await asyncio.wait([world.first, world.second], return_when="FIRST_EXCEPTION")
    return len(done), len(pending)


async def waits_within(world):
    return await asyncio.wait_for(asyncio.gather(world.first, noting(world, "a", 6)), 1000)


async def waits_for_coroutine(world):
    return await asyncio.wait_for(asyncio.wait_for(noting(world, "a", 6), 1000), 1000)


async def waits_stubbornly(world):
    async def stubborn():
        try:
            await world.second
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            return "stubborn"

    return await asyncio.wait_for(stubborn(), 1000)


async def shields(world):
    other = world.task(noting(world, "a", 4))
    return await asyncio.shield(world.first), await asyncio.shield(other)


async def completes(world):
    found = []
    for each in asyncio.as_completed([world.first, world.second, world.task(noting(world, "a", 4))], timeout=1000):
        try:
            found.append(await each)
        except Exception as error:
            found.append(kind(error))
    return found


async def locks(world):
    lock = asyncio.Lock()

    async def other(name):
        async with lock:
            await noting(world, name, 2)

    world.task(other("a"))
    await asyncio.sleep(0)
    world.task(other("b"))
    async with lock:
        await asyncio.sleep(0)
    await lock.acquire()
    lock.release()
    return lock.locked()


async def counts(world):
    semaphore = asyncio.Semaphore(2)

    async def other(name):
        async with semaphore:
            await noting(world, name, 2)

    for name in "abc":
        world.task(other(name))
    await asyncio.sleep(0)
    async with semaphore:
        await world.first
    return semaphore._value


async def bounds(world):
    semaphore = asyncio.BoundedSemaphore(1)
    await semaphore.acquire()
    world.first.add_done_callback(lambda future: semaphore.release())
    await semaphore.acquire()
    semaphore.release()
    return semaphore.locked()


async def notified(world):
    condition = asyncio.Condition()

    async def other():
        async with condition:
            condition.notify_all()
            await asyncio.sleep(0)

    async with condition:
        world.first.add_done_callback(lambda future: world.task(other()))
        await condition.wait()
        return condition.locked()


async def becomes_true(world):
    condition = asyncio.Condition()

    async def other():
        for _ in range(3):
            async with condition:
                condition.notify(1)
            await asyncio.sleep(0)

    async with condition:
        world.task(other())
        return await condition.wait_for(world.first.done)


async def events(world):
    event = asyncio.Event()
    world.first.add_done_callback(lambda future: event.set())
    await event.wait()
    event.clear()
    return await asyncio.wait_for(event.wait(), 1000)


async def queues(world):
    queue = asyncio.Queue(1)

    async def other():
        for number in range(4):
            await queue.put(number)

    world.task(other())
    found = [await queue.get() for _ in range(3)]
    for _ in range(4):
        queue.task_done()
    await queue.join()
    return found, queue.qsize()


async def parties(world):
    barrier = asyncio.Barrier(2)

    async def other():
        await world.first
        async with barrier:
            world.notes.append("other")

    world.task(other())
    async with barrier as place:
        await asyncio.sleep(0)
    return place, barrier.n_waiting, barrier.broken


async def times(world):
    async with asyncio.timeout(1000) as outer:
        async with asyncio.timeout(None):
            await world.first
        outer.reschedule(None)
        async with asyncio.timeout(1000):
            await world.second


async def times_out(world):
    async with asyncio.timeout(1000) as timeout:
        world.first.add_done_callback(lambda future: timeout.reschedule(0))
        await world.second


async def groups(world):
    async with asyncio.TaskGroup() as group:
        group.create_task(noting(world, "a", 4))
        await asyncio.wait_for(group.create_task(noting(world, "b", 2)), 1000)
        await asyncio.shield(world.first)


PROGRAMS = [
    gathers, gathers_exceptions, gathers_within, waits, waits_for_first, waits_for_error, waits_within,
    waits_for_coroutine, waits_stubbornly, shields, completes, locks, counts, bounds, notified, becomes_true, events,
    queues, parties, times, times_out, groups,
]  # fmt: skip


def thrown(make):
    return lambda world, task: task.get_coro().throw(make())


ACTS = {
    "cancelled": lambda world, task: task.cancel(),
    "cancelled with a message": lambda world, task: task.cancel("message"),
    "cancelled twice": lambda world, task: (task.cancel("one"), task.cancel("two")),
    "all cancelled": lambda world, task: [each.cancel() for each in world.tasks + [task]],
    "first fails": lambda world, task: world.first.set_exception(ZeroDivisionError("first")),
    "first cancelled": lambda world, task: world.first.cancel("first"),
    "first exits": lambda world, task: world.first.set_exception(SystemExit("first")),
    "second first": lambda world, task: world.second.set_result("second"),
    "closed": lambda world, task: task.get_coro().close(),
    "error thrown": thrown(lambda: LookupError("thrown")),
    "cancellation thrown": thrown(lambda: asyncio.CancelledError("thrown")),
    "exit thrown": thrown(lambda: SystemExit("thrown")),
    "interrupt thrown": thrown(lambda: KeyboardInterrupt("thrown")),
    "end thrown": thrown(lambda: GeneratorExit("thrown")),
    "sent": lambda world, task: task.get_coro().send(None),
    "something sent": lambda world, task: task.get_coro().send("something"),
}
TURNS = 8


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_ended_at_each_turn(differences, program):
    def run(loop):
        def turn():
            loop.call_soon(loop.stop)
            loop.run_forever()

        def play(act, at):
            world, reports = World(loop), Reports(loop)
            task, seen = loop.create_task(program(world)), []
            for number in range(TURNS + 4):
                world.go_on(number)
                if number == at:
                    seen.append(attempt(ACTS[act], world, task))
                seen.append(attempt(turn))
            seen.append(task.cancelling())
            left = [task] + world.tasks
            seen.append([ended(each) for each in left])
            for _ in range(4):  # some do not end at once
                for each in left:
                    each.cancel()
                seen.append(attempt(turn))
            seen.append([ended(each) for each in left])
            for each in asyncio.all_tasks(loop):
                each._log_destroy_pending = False
            for each in world.first, world.second:
                seen.append(ended(each))
            return seen, world.notes, list(reports)

        return {(act, at): play(act, at) for act in ACTS for at in range(TURNS)}

    assert differences(run) == {}


# Task factories


class Refusing(asyncio.Task):
    """One that does not let others set its attributes."""

    def __setattr__(self, name, value):
        raise AttributeError(name)


def cancel_others(main):
    for each in asyncio.all_tasks() - {asyncio.current_task(), main}:
        each.cancel()


def end(loop):
    """Ends all tasks, after an exception has left the loop."""
    for each in asyncio.all_tasks(loop):
        each.cancel()
    for _ in range(4):
        loop.call_soon(loop.stop)
        loop.run_forever()


def factory(what, at, calls, main):
    """Makes tasks, and does something else instead for the coroutine with this number."""

    def make(loop, coro, **options):
        calls.append(coro.__name__)
        if len(calls) - 1 != at:
            return asyncio.Task(coro, loop=loop, **options)
        if what in ("reset", "refusing", "cancels", "again"):
            task = (Refusing if what == "refusing" else asyncio.Task)(coro, loop=loop, **options)
        else:
            coro.close()
        if what == "reset":
            loop.set_task_factory(None)
        elif what == "cancels":
            cancel_others(main)
        elif what == "again":
            asyncio.gather(asyncio.sleep(0), asyncio.sleep(0), return_exceptions=True)
        elif what == "raises":
            raise LookupError("factory")
        elif what == "exits":
            raise SystemExit("factory")
        elif what == "future":
            return loop.create_future()
        elif what == "done":
            future = loop.create_future()
            future.set_result("done")
            return future
        elif what == "python":
            return asyncio.futures._PyFuture(loop=loop)
        elif what != "reset":
            return {"nothing": None, "number": 5}.get(what)
        return task

    return make


USES = {
    "gather": lambda: asyncio.gather(one(), two(), one()),
    "gather exceptions": lambda: asyncio.gather(one(), two(), return_exceptions=True),
    "wait": lambda: asyncio.wait([asyncio.ensure_future(one()), asyncio.ensure_future(two())]),
    "wait_for": lambda: asyncio.wait_for(one(), 1000),
    "wait_for at once": lambda: asyncio.wait_for(one(), 0),
    "shield": lambda: asyncio.shield(one()),
    "completed": lambda: completed(asyncio.as_completed([one()])),
    "completed in time": lambda: completed(asyncio.as_completed([two()], timeout=1000)),
    "ensure_future": lambda: asyncio.ensure_future(one()),
}
WHATS = ["raises", "exits", "nothing", "number", "future", "done", "python", "reset", "refusing", "cancels", "again"]


async def one():
    await asyncio.sleep(0)
    return 1


async def two():
    await asyncio.sleep(0)
    raise KeyError("two")


async def completed(iterator):
    found = []
    for each in iterator:
        try:
            found.append(await each)
        except Exception as error:
            found.append(kind(error))
    return sorted(found, key=str)  # the order is that of a set


async def turns(count):
    for _ in range(count):
        await asyncio.sleep(0)


async def outcome_of(make):
    """What comes of an awaitable within some turns; then it is cancelled."""
    try:
        waiting = asyncio.Task(wrapped(make()), loop=asyncio.get_running_loop())
    except BaseException as error:
        return kind(error)
    await turns(6)
    first = ended(waiting)
    waiting.cancel()
    await turns(4)
    return first, ended(waiting)


async def wrapped(awaitable):
    return await awaitable


@pytest.mark.parametrize("what", WHATS)
def test_task_factories(differences, what):
    def run(loop):
        async def main(use, at):
            reports, calls = Reports(loop), []
            loop.set_task_factory(factory(what, at, calls, asyncio.current_task()))
            try:
                found = await outcome_of(USES[use])
            finally:
                loop.set_task_factory(None)
            left = asyncio.all_tasks() - {asyncio.current_task()}
            for each in left:
                each.cancel()
            await turns(3)
            return found, len(left), sorted(calls), list(reports)

        def outcome(use, at):
            try:
                return loop.run_until_complete(main(use, at))
            except SystemExit as error:
                end(loop)
                return kind(error)

        return {(use, at): outcome(use, at) for use in USES for at in range(3)}

    assert differences(run) == {}


# What hashes and compares


class Odd:
    """An awaitable that is hashed and compared by the test's functions."""

    def __init__(self, hashed, compared):
        self.hashed, self.compared = hashed, compared

    def __await__(self):
        return one().__await__()

    def __hash__(self):
        self.hashed()
        return 1

    def __eq__(self, other):
        return self.compared(self, other)


def fails_at(number, calls):
    def fail(*args):
        calls.append(None)
        if len(calls) == number:
            raise LookupError(number)
        return len(args) == 2 and args[0] is args[1]

    return fail


def act(what, loop, calls):
    main = asyncio.current_task()

    def do(*args):
        calls.append(None)
        if what == "cancels":
            cancel_others(main)
        elif what == "factory":
            loop.set_task_factory(lambda loop, coro, **options: asyncio.Task(coro, loop=loop, **options))
        elif what == "debug":
            loop.set_debug(not loop.get_debug())
        elif what == "again":
            asyncio.gather(asyncio.sleep(0), return_exceptions=True)
        return len(args) == 2 and (what == "equal" or args[0] is args[1])

    return do


CALLS = {
    "gather": lambda future, items: asyncio.gather(future, *items),
    "gather twice": lambda future, items: asyncio.gather(*items, future, *items),
    "wait": lambda future, items: asyncio.wait([future] + items),
    "wait for a set": lambda future, items: asyncio.wait(set(items)),
    "completed": lambda future, items: completed(asyncio.as_completed([future] + items)),
    "completed of a dict": lambda future, items: completed(asyncio.as_completed(dict.fromkeys(items))),
    "shield": lambda future, items: asyncio.shield(items[0]),
    "wait_for": lambda future, items: asyncio.wait_for(items[0], 1000),
}


@pytest.mark.parametrize("call", sorted(CALLS))
def test_arguments_that_are_hashed_and_compared(differences, call):
    def run(loop):
        async def main(hashed, compared):
            reports, calls = Reports(loop), [[], []]
            functions = [
                fails_at(each, seen) if isinstance(each, int) else act(each, loop, seen)
                for each, seen in zip((hashed, compared), calls)
            ]
            future, items = loop.create_future(), [Odd(*functions) for _ in range(3)]
            found = await outcome_of(lambda: CALLS[call](future, items))
            loop.set_task_factory(None)
            loop.set_debug(False)
            left = asyncio.all_tasks() - {asyncio.current_task()}
            for each in left:
                each.cancel()
            await turns(3)
            return found, len(left), future._state, list(reports)

        cases = [(hashed, "nothing") for hashed in (1, 2, 3, 4, 5, 6, "cancels", "factory", "debug", "again")]
        cases += [("nothing", compared) for compared in (1, 2, 3, "cancels", "factory", "debug", "again", "equal")]
        return {case: loop.run_until_complete(main(*case)) for case in cases}

    assert differences(run) == {}


class Callback:
    """A callback that is compared when another one is removed."""

    def __init__(self, compared):
        self.compared = compared

    def __call__(self, future):
        pass

    def __eq__(self, other):
        self.compared()
        return False

    __hash__ = None


REMOVALS = {
    "wait": lambda future: asyncio.wait([future, asyncio.get_running_loop().create_future()], timeout=0.0001),
    "wait_for": lambda future: asyncio.wait_for(future, 0.0001),
    "completed": lambda future: completed(asyncio.as_completed([future], timeout=0.0001)),
    "shield": lambda future: asyncio.wait_for(asyncio.shield(future), 0.0001),
    "gather": lambda future: asyncio.wait_for(asyncio.gather(future), 0.0001),
}


@pytest.mark.parametrize("call", sorted(REMOVALS))
@pytest.mark.parametrize("place", ["before", "after", "both"])
@pytest.mark.parametrize("what", ["raises", "exits", "callback", "factory", "cancels others"])
def test_callbacks_that_are_compared(differences, call, place, what):
    def run(loop):
        async def main():
            reports, seen = Reports(loop), []
            future, other = loop.create_future(), loop.create_task(turns(1000))

            def compared():
                seen.append(what)
                if what == "raises":
                    raise LookupError("compared")
                if what == "exits":
                    raise KeyboardInterrupt("compared")
                if what == "callback":
                    other.add_done_callback(print)
                    other.remove_done_callback(print)
                if what == "factory":
                    loop.set_task_factory(None)
                if what == "cancels others":
                    other.cancel()

            if place in ("before", "both"):
                future.add_done_callback(Callback(compared))
            task = asyncio.Task(wrapped(REMOVALS[call](future)), loop=loop)
            await asyncio.sleep(0)
            if place in ("after", "both"):
                future.add_done_callback(Callback(compared))
            while not task.done() and len(seen) < 5:
                await asyncio.sleep(0.0002)
                if not task.done() and seen:
                    break
            await turns(3)
            found = ended(task), len(future._callbacks or ())
            for each in task, other:
                each.cancel()
            await turns(3)
            return found, ended(task), sorted(set(seen)), list(reports)

        try:
            return {"it": loop.run_until_complete(main())}
        except KeyboardInterrupt as error:
            end(loop)
            return {"it": kind(error)}

    assert differences(run) == {}
