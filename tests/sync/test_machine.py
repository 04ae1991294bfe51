"""Random programs of asyncio's primitives do the same accelerated as in asyncio's Python code, event for event.

The machine is that of tests/futures/test_machine.py, which has tasks, futures, cancellations, gather(), wait(),
shield(), wait_for(), sleep() and timeout(). Here they get coroutines, too, and it has as_completed(), locks, events,
queues and so on, used by tasks and callbacks, classes derived from them, and programs that switch acceleration while tasks wait. asyncio's loop is the
reference: nothing is accelerated there.
"""

import asyncio
import importlib.util
import os
import sys

import pytest
from hypothesis import strategies as st

PATH = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "futures", "test_machine.py")
SPEC = importlib.util.spec_from_file_location("machine_of_futures", PATH)
machine = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(machine)


class Loud(asyncio.Lock):
    def release(self):
        Loud.log("release of a subclass")
        return super().release()


class Chatty(asyncio.Condition):
    async def wait(self):
        Loud.log("wait of a subclass")
        return await super().wait()


class Slow(asyncio.Queue):
    def _get(self):
        Slow.log("_get of a subclass", list(self._queue))
        return super()._get()


MAKERS = {
    "lock": [asyncio.Lock, Loud],
    "event": [asyncio.Event],
    "semaphore": [
        lambda: asyncio.Semaphore(0),
        lambda: asyncio.Semaphore(1),
        lambda: asyncio.Semaphore(2),
        lambda: asyncio.BoundedSemaphore(1),
        lambda: asyncio.BoundedSemaphore(2),
    ],
    "condition": [asyncio.Condition, asyncio.Condition, Chatty, lambda: asyncio.Condition(Loud())],
    "queue": [
        asyncio.Queue,
        lambda: asyncio.Queue(1),
        lambda: asyncio.Queue(2),
        lambda: asyncio.LifoQueue(1),
        lambda: asyncio.PriorityQueue(2),
        lambda: Slow(1),
    ],
    "barrier": [lambda: asyncio.Barrier(1), lambda: asyncio.Barrier(2), lambda: asyncio.Barrier(3)],
}


class Run(machine.Run):
    def __init__(self, loop, classes, program, accelerate):
        super().__init__(loop, classes, program)
        self.accelerate = accelerate
        self.made, self.scripts = {}, 0
        Loud.log = Slow.log = self.log

    def thing(self, kind, number):
        makers = MAKERS[kind]
        key = kind, number % len(makers)
        if key not in self.made:
            self.made[key] = makers[key[1]]()
            self.names[id(self.made[key])] = "%s %d" % key
        return self.made[key]

    # In callbacks and tasks

    def op_show(self, kind, number):
        thing = self.thing(kind, number)
        kept = ("_value", "_locked", "_unfinished_tasks", "_count", "_state", "_wakeup_scheduled")
        kept = [name for name in kept if hasattr(thing, name)]
        return machine.normal(repr(thing)), [(name, getattr(thing, name)) for name in kept]

    def op_release(self, kind, number):
        return self.thing(kind, number).release()

    def op_locked(self, kind, number):
        return self.thing(kind, number).locked()

    def op_set(self, number):
        return self.thing("event", number).set()

    def op_clear(self, number):
        return self.thing("event", number).clear()

    def op_put_nowait(self, number, value):
        return self.thing("queue", number).put_nowait(value)

    def op_get_nowait(self, number):
        return self.thing("queue", number).get_nowait()

    def op_task_done(self, number):
        return self.thing("queue", number).task_done()

    def op_shutdown(self, number, immediate):
        return getattr(self.thing("queue", number), "shutdown", bool)(immediate)

    def op_notify(self, number, count):
        condition = self.thing("condition", number)
        return condition.notify_all() if count is None else condition.notify(count)

    def op_assign(self, kind, number, value):
        """Nor this."""
        thing = self.thing(kind, number)
        if hasattr(thing, "_value"):
            thing._value = value if kind == "semaphore" else bool(value)
        elif hasattr(thing, "_locked"):
            thing._locked = bool(value)

    def op_cancel_waiter(self, kind, number):
        """Nobody should do this, but somebody may."""
        waiters = getattr(self.thing(kind, number), "_waiters", None)
        return waiters[0].cancel() if waiters else None

    def op_accelerate(self, on):
        self.accelerate(on)

    # In tasks

    async def do_acquire(self, kind, number):
        return await self.thing(kind, number).acquire()

    async def do_with(self, kind, number, body):
        async with self.thing(kind, number) as entered:
            self.log("entered", entered)
            await self.perform_all(body)

    async def do_event_wait(self, number):
        return await self.thing("event", number).wait()

    async def do_get(self, number):
        return await self.thing("queue", number).get()

    async def do_put(self, number, value):
        return await self.thing("queue", number).put(value)

    async def do_join(self, number):
        return await self.thing("queue", number).join()

    async def do_condition_wait(self, number, locks):
        condition = self.thing("condition", number)
        if not locks:
            return await condition.wait()
        async with condition:
            return await condition.wait()

    async def do_condition_wait_for(self, number, calls):
        condition, count = self.thing("condition", number), iter(range(calls))
        async with condition:
            return await condition.wait_for(lambda: self.log("predicate") or next(count, "enough"))

    async def do_barrier(self, number, method):
        if sys.version_info < (3, 11):
            return None
        barrier = self.thing("barrier", number)
        if method == "with":
            async with barrier as index:
                return index
        return await getattr(barrier, method)()

    async def do_wait_for_script(self, script, delay):
        return await asyncio.wait_for(self.new_script(script), None if delay is None else self.next_delay(delay))

    async def do_wait_for_lock(self, kind, number, delay):
        return await asyncio.wait_for(self.thing(kind, number).acquire(), delay and self.next_delay(delay))

    async def do_shield_script(self, script):
        return await asyncio.shield(self.new_script(script))

    async def do_ensure_future(self, script):
        self.keep(asyncio.ensure_future(self.new_script(script)))

    async def do_wait_all(self, numbers):
        async def wait(things):
            plain = [thing for thing in things if type(thing) not in self.subclasses] or things[:1]
            if self.program["flavour"] == "call_soon":  # it makes a set, and what is done is passed to call_soon()
                plain = [thing for thing in plain if not thing.done()] + [thing for thing in plain if thing.done()][:1]
            return [sorted(map(self.name, some)) for some in await asyncio.wait(plain)]

        return await self.waiting(numbers, wait)

    async def do_as_completed(self, numbers, script, delay, asynchronous):
        async def wait(things):
            # It makes a set, so what is done before comes in any order, and so do tasks of coroutines.
            plain = [thing for thing in things if type(thing) not in self.subclasses]
            chosen = [thing for thing in plain if not thing.done()] + [thing for thing in plain if thing.done()][:1]
            if script is not None:
                chosen.append(self.new_script(script))
            timeout = None if delay is None else self.next_delay(delay + 1)
            if asynchronous and sys.version_info >= (3, 13):
                async for future in asyncio.as_completed(chosen, timeout=timeout):
                    self.log("completed", normal(repr(future)))
                return "all"
            for each in asyncio.as_completed(chosen, timeout=timeout):
                try:
                    self.log("completed", normal(repr(await each)))
                except Exception as error:
                    self.log("completed", described(error))
            return "all"

        return await self.waiting(numbers, wait)

    async def do_timeout_at(self, delay, body):
        if sys.version_info < (3, 11):
            return await self.perform_all(body)
        async with asyncio.timeout_at(self.clock + self.next_delay(delay)) as timeout:
            await self.perform_all(body)
        return timeout.expired()

    def new_script(self, number):
        """Return a coroutine, which this task or one of its own runs. Either way this task counts as waiting for it."""
        me = asyncio.current_task(self.loop).get_name()
        self.scripts += 1
        name = "s%d" % self.scripts
        self.waits[me] = self.waits.get(me, []) + [name]

        async def named():
            task = asyncio.current_task(self.loop)
            if task.get_name() != me:
                task.set_name(name)
            return await self.script(number % len(self.program["scripts"]))

        return named()

    def run(self):
        """Without what is destroyed with the loop: a queue and its waiting tasks go in any order."""
        trace = super().run()
        self.made.clear()
        return trace[: [event[0] for event in trace].index("states") + 1]


described, normal = machine.described, machine.normal
NUMBER = st.integers(0, 5)
THINGS = st.lists(machine.THING, min_size=1, max_size=3)
LOCKS = st.sampled_from(["lock", "lock", "semaphore", "condition"])
KIND = st.sampled_from(["lock", "event", "semaphore", "condition", "queue"])
VALUE = st.integers(0, 3)
SYNC = machine.SYNC + [
    st.tuples(st.just("show"), KIND, NUMBER),
    st.tuples(st.just("release"), LOCKS, NUMBER),
    st.tuples(st.just("locked"), LOCKS, NUMBER),
    st.tuples(st.just("set"), NUMBER),
    st.tuples(st.just("clear"), NUMBER),
    st.tuples(st.just("put_nowait"), NUMBER, VALUE),
    st.tuples(st.just("get_nowait"), NUMBER),
    st.tuples(st.just("task_done"), NUMBER),
    st.tuples(st.just("shutdown"), NUMBER, st.booleans()),
    st.tuples(st.just("notify"), NUMBER, st.sampled_from([None, 0, 1, 2])),
    st.tuples(st.just("cancel_waiter"), KIND, NUMBER),
    st.tuples(st.just("assign"), KIND, NUMBER, VALUE),
    st.tuples(st.just("accelerate"), st.booleans()),
]
WAITS = machine.WAITS + [
    st.tuples(st.just("acquire"), LOCKS, NUMBER),
    st.tuples(st.just("event_wait"), NUMBER),
    st.tuples(st.just("get"), NUMBER),
    st.tuples(st.just("put"), NUMBER, VALUE),
    st.tuples(st.just("join"), NUMBER),
    st.tuples(st.just("condition_wait"), NUMBER, st.sampled_from([True, True, False])),
    st.tuples(st.just("condition_wait_for"), NUMBER, st.integers(0, 3)),
    st.tuples(st.just("barrier"), NUMBER, st.sampled_from(["wait", "wait", "with", "reset", "abort"])),
    st.tuples(st.just("wait_for_script"), machine.SCRIPT, machine.LIMIT),
    st.tuples(st.just("wait_for_lock"), st.sampled_from(["lock", "semaphore"]), NUMBER, machine.LIMIT),
    st.tuples(st.just("shield_script"), machine.SCRIPT),
    st.tuples(st.just("ensure_future"), machine.SCRIPT),
    st.tuples(st.just("wait_all"), THINGS),
    st.tuples(st.just("as_completed"), THINGS, st.one_of(st.none(), machine.SCRIPT), machine.LIMIT, st.booleans()),
]
STEP = st.one_of(st.one_of(WAITS), st.one_of(WAITS[len(machine.WAITS) :]), st.one_of(SYNC))


def with_bodies(steps):
    body = st.lists(steps, max_size=3)
    return st.one_of(
        machine.with_bodies(steps),
        st.tuples(st.just("with"), LOCKS, NUMBER, body),
        st.tuples(st.just("timeout_at"), machine.DELAY, body),
    )


SCRIPT_BODY = st.lists(with_bodies(with_bodies(STEP)), min_size=1, max_size=6)
PROGRAMS = st.fixed_dictionaries(
    {
        "flavour": st.sampled_from(["plain"] * 6 + ["debug", "call_soon"]),
        "scripts": st.lists(SCRIPT_BODY, min_size=2, max_size=4),
        "callbacks": st.lists(st.lists(st.one_of(SYNC), max_size=3), min_size=1, max_size=3),
        "main": st.lists(st.one_of(machine.SYNC[:2]), min_size=1, max_size=5).map(
            lambda main: [("future", 0), ("spawn", 0, 0), ("spawn", 1, 0)] + main
        ),
    }
)


@pytest.fixture(autouse=True)
def no_logs():
    yield
    Loud.log = Slow.log = None


# The warning would keep the coroutine, and with that its loop.
@pytest.mark.filterwarnings("ignore:coroutine '.*' was never awaited:RuntimeWarning")
def test_programs_do_with_bodies_in_c_what_they_do_in_python(cloop, accelerate, same_for_programs):
    def trace(loop, classes, program):
        accelerate(True)
        run = Run(loop, classes, program, accelerate)
        try:
            return run.run()
        finally:
            loop.close()
            machine.gc.collect(1)

    same_for_programs(
        PROGRAMS,
        machine.EXAMPLES or 40,
        lambda program: trace(asyncio.SelectorEventLoop(), (asyncio.Future, asyncio.Task), program),
        lambda program: trace(cloop.Loop(), (cloop.Future, cloop.Task), program),
        derandomize=not machine.EXAMPLES,
    )
