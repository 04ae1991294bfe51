"""asyncio.timeout() and wait_for(): whose task they cancel, and what they do in random programs.

The programs of test_machine.py have a clock of their own, with which asyncio's code runs. Here the clock is the real one, and the
timers are far away: the test calls the callback of one.
"""

import asyncio
import random
import re
import sys

import pytest

FACTORIES = {
    "eager": lambda: asyncio.eager_task_factory,
    "eager, of asyncio's class": lambda: asyncio.create_eager_task_factory(asyncio.Task),
}


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came in Python 3.12")
@pytest.mark.parametrize("way", ["timeout", "wait_for"])
@pytest.mark.parametrize("factory", sorted(FACTORIES))
def test_of_a_task_that_starts_within_the_step_of_another(accelerate, as_asyncio, factory, way):
    def body(loop):
        async def with_timeout():
            async with asyncio.timeout(60) as timeout:
                timeout.reschedule(0)
                await loop.create_future()

        async def with_wait_for():
            await asyncio.wait_for(loop.create_future(), 0.001)

        async def main():
            loop.set_task_factory(FACTORIES[factory]())
            task = loop.create_task(with_timeout() if way == "timeout" else with_wait_for())
            await asyncio.wait([task])
            return task, asyncio.current_task()

        task, parent = loop.run_until_complete(main())
        return repr(task.exception()), task.cancelling(), parent.cancelling()

    assert as_asyncio(body)["result"] == ("TimeoutError()", 0, 0)


# Random programs

FAR_S = 1000
TURNS = 25
OPERATIONS = 60  # limit for one program
PLAIN = ["pause", "pause", "wait", "wait", "wait", "cancel_me", "expire", "uncancel", "fail"]
WITH_BODY = ["timeout", "timeout_at", "wait_for", "wait_for_task", "catch", "refuse", "task", "shield", "gather"]


def random_body(rnd, depth):
    kinds = PLAIN + (WITH_BODY + ["timeout", "wait_for"] * 3 if depth > 0 else [])
    chosen = [rnd.choice(kinds) for _ in range(rnd.randint(2, 4) if depth == 4 else rnd.randint(0, 3))]
    return [
        (kind, rnd.randint(0, 3), random_body(rnd, depth - 1)) if kind in WITH_BODY else (kind, rnd.randint(0, 3))
        for kind in chosen
    ]


def chain(error, depth=5):
    if error is None or depth == 0:
        return None
    others = chain(error.__cause__, depth - 1), chain(error.__context__, depth - 1)
    return (type(error).__name__, re.sub(r"0x[0-9a-f]+|Task-\d+", "N", str(error)), others, error.__suppress_context__)


class Program:
    def __init__(self, loop, seed):
        rnd = random.Random(seed)
        self.loop, self.trace, self.timeouts, self.tasks, self.done = loop, [], [], [], 0
        self.body = random_body(rnd, 4)
        acts = [
            (rnd.randint(0, 12), rnd.choice(["cancel", "expire", "fire", "fire"]), rnd.randint(0, 5)) for _ in range(6)
        ]
        self.acts = sorted(acts[: rnd.randint(0, 6)])
        self.eager = rnd.random() < 0.4 and hasattr(asyncio, "eager_task_factory")

    def note(self, *what):
        task = asyncio.current_task()
        self.trace.append((self.tasks.index(task) if task in self.tasks else None, self.cancelling(task), *what))

    @staticmethod
    def cancelling(task):
        return getattr(task, "cancelling", int)()

    async def perform(self, body):
        for kind, number, *inner in body:
            self.done += 1
            if self.done > OPERATIONS:
                return "enough"
            try:
                self.note(kind, "gave", await getattr(self, kind)(number, *inner))
            except GeneratorExit:  # it is dropped
                raise
            except BaseException as error:
                self.note(kind, "raised", chain(error))
                raise
        return len(body)

    async def pause(self, number):
        for _ in range(number):
            await asyncio.sleep(0)

    async def wait(self, number):
        return await (self.loop.create_future() if number < 2 else asyncio.sleep(FAR_S * number, "slept"))

    async def cancel_me(self, number):
        return asyncio.current_task().cancel()

    async def uncancel(self, number):
        return getattr(asyncio.current_task(), "uncancel", int)()

    async def fail(self, number):
        raise [ValueError, KeyError, asyncio.TimeoutError, asyncio.CancelledError][number]("of the program")

    async def expire(self, number):
        if self.timeouts:
            self.timeouts[number % len(self.timeouts)].reschedule(0)

    async def timeout(self, number, body, make=None):
        if not hasattr(asyncio, "timeout"):
            return await self.perform(body)
        async with (
            make(self.loop.time() + FAR_S) if make else asyncio.timeout([FAR_S, None, 0, FAR_S][number])
        ) as timeout:
            self.timeouts.append(timeout)
            self.note("entered", timeout._task is asyncio.current_task())
            await self.perform(body)
        return timeout.expired(), re.sub("[0-9.]+", "N", repr(timeout))

    async def timeout_at(self, number, body):
        return await self.timeout(number, body, getattr(asyncio, "timeout_at", None))

    async def wait_for(self, number, body):
        return await asyncio.wait_for(self.perform(body), [FAR_S, None, 0, FAR_S][number])

    async def wait_for_task(self, number, body):
        return await asyncio.wait_for(self.spawn(body), [FAR_S, None, 0, FAR_S][number])

    async def catch(self, number, body):
        try:
            return await self.perform(body)
        except (Exception, asyncio.CancelledError) as error:
            return chain(error)

    async def refuse(self, number, body):
        try:
            return await self.perform(body)
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            return "refused"

    def spawn(self, body):
        self.tasks.append(None)
        at = len(self.tasks) - 1
        self.tasks[at] = self.loop.create_task(self.perform(body))
        return self.tasks[at]

    async def task(self, number, body):
        return await self.spawn(body)

    async def shield(self, number, body):
        return await asyncio.shield(self.spawn(body))

    async def gather(self, number, body):
        return await asyncio.gather(self.spawn(body), self.spawn(body[:1]))

    def act(self, kind, number):
        if kind == "cancel":
            return self.tasks[number % len(self.tasks)].cancel()
        timers = sorted(
            (timer for timer in self.loop._scheduled if not timer.cancelled()), key=lambda timer: timer.when()
        )
        if kind == "fire" and timers:
            timer = timers[number % len(timers)]
            timer._run()
            timer.cancel()
        elif kind == "expire" and self.timeouts:
            try:
                self.timeouts[number % len(self.timeouts)].reschedule(0)
            except RuntimeError as error:
                return str(error)
        return len(timers)

    async def main(self):
        if self.eager:
            self.loop.set_task_factory(asyncio.eager_task_factory)
        self.spawn(self.body)
        for turn in range(TURNS):
            for _, kind, number in [act for act in self.acts if act[0] == turn]:
                self.note(kind, self.act(kind, number))
            await asyncio.sleep(0)
        for _ in range(10):
            for task in self.tasks:
                task.cancel()
            await asyncio.sleep(0)
        outcomes = await asyncio.gather(*self.tasks, return_exceptions=True)
        outcomes = [chain(each) if isinstance(each, BaseException) else each for each in outcomes]
        return list(self.trace), outcomes, [self.cancelling(task) for task in self.tasks]


ENDINGS = [
    (None, ValueError("x"), None),
    (None, None, "no traceback"),
    (ValueError, None, None),
    (asyncio.CancelledError,) + 2 * (None,),
]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio has it since 3.11")
@pytest.mark.parametrize("ending", [*ENDINGS, ()], ids=repr)
@pytest.mark.parametrize("late", [False, True], ids=["in time", "late"])
def test_told_of_an_end_by_halves(accelerate, as_asyncio, ending, late):
    """__aexit__() is called by the program."""

    def body(loop):
        async def main():
            timeout = asyncio.timeout(-1 if late else 10)
            await timeout.__aenter__()
            seen = []
            try:
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                seen.append("cancelled")
            try:
                seen.append(await timeout.__aexit__(*ending))
            except BaseException as error:
                seen.append(repr(error))
            return seen, re.sub("when=[0-9.-]+", "", repr(timeout)), asyncio.current_task().cancelling()

        return loop.run_until_complete(main())

    as_asyncio(body)


@pytest.mark.filterwarnings("ignore:coroutine '.*' was never awaited:RuntimeWarning")
@pytest.mark.parametrize("first", range(0, 300, 50))
def test_programs(accelerate, as_asyncio, made, loop_kind, first):
    def body(loop):
        traces = []
        for seed in range(first, first + 50):
            each = type(loop)()
            each.set_exception_handler(lambda _, context: None)
            try:
                traces.append(each.run_until_complete(Program(each, seed).main()))
            finally:
                each.close()
        return traces

    before = made()
    assert len(as_asyncio(body)["result"]) == 50
    assert loop_kind == "asyncio" or made() > before + 1000
