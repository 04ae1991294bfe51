"""The coroutines in C of asyncio's primitives: what they are for tasks, for who awaits them, and for who looks at them."""

import asyncio
import inspect
import re
import sys
import threading

import pytest

pytestmark = pytest.mark.slow


async def nothing():
    pass


async def sleep_0(loop):
    return asyncio.sleep(0, "slept"), nothing


async def sleep(loop):
    return asyncio.sleep(0.001, "slept"), nothing


async def event_wait(loop):
    event = asyncio.Event()

    async def go():
        event.set()

    return event.wait(), go


async def lock_acquire(loop):
    lock = asyncio.Lock()
    await lock.acquire()

    async def go():
        lock.release()

    return lock.acquire(), go


async def semaphore_acquire(loop):
    semaphore = asyncio.Semaphore(0)

    async def go():
        semaphore.release()

    return semaphore.acquire(), go


def notify(condition):
    async def go():
        async with condition:
            condition.notify_all()

    return go


async def condition_wait(loop):
    condition = asyncio.Condition()
    await condition.acquire()
    return condition.wait(), notify(condition)


async def condition_wait_for(loop):
    condition = asyncio.Condition()
    await condition.acquire()
    answers = iter([False, False, "yes"])

    async def go():
        await notify(condition)()
        await asyncio.sleep(0)
        await notify(condition)()

    return condition.wait_for(lambda: next(answers)), go


async def queue_get(loop):
    queue = asyncio.Queue()

    async def go():
        queue.put_nowait("item")

    return queue.get(), go


async def queue_put(loop):
    queue = asyncio.Queue(1)
    queue.put_nowait(1)

    async def go():
        queue.get_nowait()

    return queue.put(2), go


async def queue_join(loop):
    queue = asyncio.Queue()
    queue.put_nowait(1)

    async def go():
        queue.task_done()

    return queue.join(), go


async def barrier_wait(loop):
    barrier = asyncio.Barrier(2)
    return barrier.wait(), barrier.wait


def result(future):
    async def go():
        future.set_result("done")

    return go


async def wait(loop):
    future = loop.create_future()
    return asyncio.wait([future]), result(future)


async def wait_for(loop):
    future = loop.create_future()
    return asyncio.wait_for(future, 60), result(future)


async def as_completed(loop):
    future = loop.create_future()
    return next(iter(asyncio.as_completed([future]))), result(future)


async def to_thread(loop):
    event = threading.Event()

    async def go():
        event.set()

    return asyncio.to_thread(event.wait, 60), go


WAITING = [
    event_wait,
    lock_acquire,
    semaphore_acquire,
    condition_wait,
    condition_wait_for,
    queue_get,
    queue_put,
    queue_join,
    wait,
    wait_for,
    as_completed,
    sleep,
]
WAITING += [to_thread] if sys.version_info >= (3, 9) else []
WAITING += [barrier_wait] if sys.version_info >= (3, 11) else []


@pytest.fixture
def in_c(loop_kind):
    """in_c(coroutine): notes whether the last one was in C, where it should be."""
    last = []
    yield last.append
    assert inspect.iscoroutine(last[-1]) is (loop_kind == "asyncio")


def shown(outcome):
    return (type(outcome).__name__, str(outcome)) if isinstance(outcome, (str, bool, Exception)) else type(outcome)


async def use(coro):
    return await coro


def task_of(coro):
    return coro


@pytest.mark.parametrize("users", [(task_of, task_of), (use, use), (task_of, use), (use, task_of)])
@pytest.mark.parametrize("make", [sleep_0] + WAITING)
def test_two_tasks_have_the_same_coroutine(accelerate, as_asyncio, in_c, make, users):
    def body(loop):
        async def main():
            coro, go = await make(loop)
            in_c(coro)
            tasks = [asyncio.ensure_future(user(coro)) for user in users]
            states = []
            for _ in range(2):
                states.append((inspect.getcoroutinestate(coro), coro.cr_await is None))
                await asyncio.sleep(0)
            await go()
            return states, [shown(each) for each in await asyncio.gather(*tasks, return_exceptions=True)]

        return loop.run_until_complete(main())

    as_asyncio(body)


# Not those whose go() would then wait for ever.
@pytest.mark.parametrize("make", [make for make in WAITING if make.__name__[:7] not in ("conditi", "barrier")])
def test_two_tasks_have_the_same_coroutine_and_one_is_cancelled(accelerate, as_asyncio, in_c, make):
    def body(loop):
        async def main():
            coro, go = await make(loop)
            in_c(coro)
            tasks = [asyncio.ensure_future(coro) for _ in range(2)]
            await asyncio.sleep(0)
            tasks[1].cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            await go()
            return [type(outcome).__name__ for outcome in outcomes]

        return loop.run_until_complete(main())

    as_asyncio(body)


@pytest.mark.parametrize(
    "make",
    [make for make in WAITING if make.__name__.split("_")[0] in ("event", "lock", "semaphore", "queue", "condition")],
)
def test_first_step_where_no_loop_runs(accelerate, as_asyncio, in_c, make):
    """Made within a run, and awaited by hand after it."""

    def body(loop):
        coro, _ = loop.run_until_complete(make(loop))
        in_c(coro)
        try:
            return type(coro.send(None)).__name__
        finally:
            coro.close()

    as_asyncio(body)


def test_what_it_awaits_is_awaited_already(accelerate, as_asyncio, in_c):
    class Finished:
        def __init__(self, loop):
            self.future = loop.create_future()
            self.coro = use(self.future)

        def wait(self):
            return self.coro

        def clear(self):
            pass

    def body(loop):
        async def main():
            queue = asyncio.Queue()
            finished = queue._finished = Finished(loop)
            queue.put_nowait(1)
            joins = [queue.join() for _ in range(2)]
            in_c(joins[0])
            tasks = [asyncio.ensure_future(join) for join in joins]
            await asyncio.sleep(0)
            finished.future.set_result(None)
            return [shown(each) for each in await asyncio.gather(*tasks, return_exceptions=True)]

        return loop.run_until_complete(main())

    assert "being awaited already" in str(as_asyncio(body))


class Sent:
    """Yields the future, and is what is sent or thrown in then."""

    def __init__(self, future):
        self.future = future

    def __await__(self):
        try:
            return (yield self.future)
        except KeyError as error:
            return repr(error)


@pytest.mark.parametrize(
    "step",
    [
        lambda coro: coro.send("sent"),
        lambda coro: coro.throw(KeyError("thrown")),
        lambda coro: coro.throw(KeyError),
        lambda coro: coro.close(),
    ],
)
def test_a_value_or_an_exception_gets_to_what_wait_for_awaits(accelerate, as_asyncio, in_c, step):
    def body(loop):
        async def main():
            coro = asyncio.wait_for(use(Sent(loop.create_future())), 60)
            in_c(coro)
            assert asyncio.isfuture(coro.send(None))
            try:
                return step(coro)
            except StopIteration as stop:
                return "returned", stop.value
            except Exception as error:
                return shown(error)

        outcome = loop.run_until_complete(main())
        for task in asyncio.all_tasks(loop):  # before 3.12 wait_for() makes one
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        return outcome

    as_asyncio(body)


def place(coro):
    frame = coro.cr_frame
    return frame and (frame.f_code.co_name, frame.f_code.co_filename, frame.f_lineno)


@pytest.mark.parametrize("make", [sleep_0] + WAITING)
def test_what_it_is_in_each_state(accelerate, as_asyncio, in_c, make):
    def look(coro):
        return (
            inspect.getcoroutinestate(coro),
            coro.cr_running,
            getattr(coro, "cr_suspended", None),
            coro.cr_await is None,
            place(coro),
            (coro.cr_code.co_name, coro.cr_code.co_firstlineno),
            coro.cr_origin,
            coro.__name__,
            coro.__qualname__,
            asyncio.iscoroutine(coro),
            inspect.isawaitable(coro),
        )

    def body(loop):
        async def main():
            coro, go = await make(loop)
            in_c(coro)
            seen = [look(coro)]
            task = asyncio.ensure_future(coro)
            await asyncio.sleep(0)
            seen.append(look(coro))
            await go()
            await task
            return seen + [look(coro)]

        seen = loop.run_until_complete(main())
        if sys.version_info < (3, 11):
            seen = [each[:2] + each[3:] for each in seen]  # no cr_suspended
        return seen

    as_asyncio(body)


def test_what_it_is_while_it_runs(accelerate, as_asyncio, in_c):
    def body(loop):
        async def main():
            def predicate():
                frame = coro.cr_frame
                seen.append((inspect.getcoroutinestate(coro), coro.cr_running, coro.cr_await))
                seen.append((frame.f_code.co_name, frame.f_code.co_filename))
                seen.append(re.sub(r":\d+>.*", "", repr(task)[repr(task).index("coro=") :]))
                for step in coro.send, coro.throw:
                    with pytest.raises(ValueError) as caught:
                        step(KeyError())
                    seen.append(str(caught.value))
                return True

            seen = []
            condition = asyncio.Condition()
            await condition.acquire()
            coro = condition.wait_for(predicate)
            in_c(coro)
            task = asyncio.ensure_future(coro)
            await task
            return seen

        return loop.run_until_complete(main())

    assert "running at" in str(as_asyncio(body))


def test_tasks_that_are_left_at_exit(python, write_script):
    path = write_script(
        """
        import asyncio, sys, cloop

        cloop.accelerate(sys.argv[1] == "accelerated")
        loop = cloop.new_event_loop()

        async def main():
            loop = asyncio.get_running_loop()
            for lock in asyncio.Lock(), asyncio.Semaphore():
                await lock.acquire()
                kept.append(lock)
            kept.extend([asyncio.Event(), asyncio.Queue(), loop.create_future()])
            coros = [kept[0].acquire(), kept[1].acquire(), kept[2].wait(), kept[3].get()]
            coros += [asyncio.sleep(100), asyncio.wait([kept[4]]), asyncio.wait_for(kept[4], 100)]
            kept.extend(map(loop.create_task, coros))

        kept = []
        loop.run_until_complete(main())
        """
    )
    said = []
    for how in "plain", "accelerated":
        process = python(path, how)
        assert process.returncode == 0
        text = re.sub(r"0x\w+|Task-\d+", "", process.stderr)
        said.append(sorted(line for line in text.splitlines() if line.startswith("task:")))
    tasks = [[line.split("coro=")[1].split(">")[0] for line in lines] for lines in said]
    assert len(tasks[0]) == 7 and all(" running at " in task for task in tasks[0])
    assert tasks[1] == tasks[0]
