"""What is counted of single tasks: age, steps, time, and how long they wait for their turn."""

import asyncio
import gc
import os
import random
import sys
import time

import pytest

pytestmark = pytest.mark.skipif(os.environ.get("CLOOP_TASKS") == "stock", reason="asyncio's own tasks are not counted")

BLOCK_S = 0.05
MADE, STEPS, BUSY, DELAY, DELAY_MAX, DELAY_LAST = range(6)


@pytest.fixture
def loop(cloop):
    loop = cloop.Loop()
    loop._count_tasks(True)
    yield loop
    loop.close()


async def steps(count):
    for _ in range(count - 1):
        await asyncio.sleep(0)


@pytest.fixture
def elapsed():
    """elapsed(): the seconds since the test began. On a busy machine, anything may take that long."""
    began = time.monotonic()
    return lambda: time.monotonic() - began


def run(loop, coro):
    """Run a task, and return what was counted of it."""
    task = loop.create_task(coro)
    loop.run_until_complete(task)
    return loop._task_counts(task)


# When it is counted


def test_nothing_is_counted_unless_somebody_wants_it(loop):
    loop._count_tasks(False)
    assert run(loop, steps(3)) is None


def test_counts_go_when_it_ends(loop):
    task = loop.create_task(steps(3))
    loop.run_until_complete(task)
    loop._count_tasks(True)  # twice is once
    assert loop._task_counts(task)[STEPS] == 3
    loop._count_tasks(False)
    assert loop._task_counts(task) is None
    loop._count_tasks(True)
    assert loop._task_counts(task) is None


def test_task_that_was_there_before(loop, turn):
    loop._count_tasks(False)
    task = loop.create_task(steps(5))
    for _ in range(2):
        turn()
    loop._count_tasks(True)
    loop.run_until_complete(task)
    counts = loop._task_counts(task)
    assert counts[MADE] is None and counts[STEPS] == 3


def test_asyncios_task_is_not_counted(loop):
    task = asyncio.Task(steps(3), loop=loop)
    loop.run_until_complete(task)
    assert loop._task_counts(task) is None


def test_begun_and_ended_in_a_step(loop):
    async def main():
        loop._count_tasks(False)
        await asyncio.sleep(0)
        loop._count_tasks(True)
        for _ in range(3):
            await asyncio.sleep(0)

    assert run(loop, main())[STEPS] == 3  # those that have begun since


# What is counted


@pytest.mark.parametrize("debug", [False, True])
def test_steps(loop, debug):
    loop.set_debug(debug)
    for count in 1, 2, 10:
        assert run(loop, steps(count))[STEPS] == count


def test_when_it_was_made(loop):
    before = time.monotonic()
    task = loop.create_task(steps(2))
    after = time.monotonic()
    loop.run_until_complete(task)
    assert before <= loop._task_counts(task)[MADE] <= after


@pytest.mark.parametrize("debug", [False, True])
def test_time_of_the_steps(loop, debug, elapsed):
    async def blocks():
        await asyncio.sleep(0)
        time.sleep(BLOCK_S)
        await asyncio.sleep(BLOCK_S)
        time.sleep(BLOCK_S)

    loop.set_debug(debug)
    loop.slow_callback_duration = 100
    counts = run(loop, blocks())
    assert counts[STEPS] == 3
    assert 1.99 * BLOCK_S <= counts[BUSY] <= elapsed() - 0.9 * BLOCK_S


@pytest.mark.parametrize("debug", [False, True])
def test_delay_behind_a_callback_that_blocks(loop, debug, elapsed):
    loop.set_debug(debug)
    loop.slow_callback_duration = 100
    loop.call_soon(time.sleep, BLOCK_S)
    counts = run(loop, steps(4))
    assert counts[STEPS] == 4
    assert counts[DELAY_MAX] >= 0.99 * BLOCK_S
    assert counts[DELAY_MAX] / 4.01 <= counts[DELAY] <= counts[DELAY_MAX]
    assert counts[DELAY_LAST] <= elapsed() - 0.99 * BLOCK_S


@pytest.mark.parametrize("waiters", [1, 2])
def test_delay_after_being_woken_by_a_task_that_goes_on(loop, waiters, elapsed):
    """Two that wait for one future are woken by callbacks, not as ready nodes."""

    async def wait():
        await future

    async def main():
        await asyncio.sleep(0)
        future.set_result(None)
        time.sleep(BLOCK_S)
        await asyncio.gather(*tasks)

    future = loop.create_future()
    tasks = [loop.create_task(wait()) for _ in range(waiters)]
    loop.run_until_complete(main())
    for task in tasks:
        counts = loop._task_counts(task)
        assert counts[STEPS] == 2 and counts[DELAY_MAX] >= 0.99 * BLOCK_S
        assert counts[DELAY_LAST] == counts[DELAY_MAX] and counts[BUSY] <= elapsed() - 0.99 * BLOCK_S


def test_delay_of_a_step_that_the_task_itself_has_scheduled(loop):
    async def main():
        await asyncio.sleep(0)  # its own next step, before it blocks
        loop.call_soon(time.sleep, BLOCK_S)
        await asyncio.sleep(0)

    counts = run(loop, main())
    assert counts[STEPS] == 3
    assert counts[DELAY_LAST] >= 0.99 * BLOCK_S and counts[DELAY] >= 0.99 * BLOCK_S / 3


def test_delay_after_waiting_for_long(loop, turn):
    """The time when it had scheduled a step itself counted for a later one."""

    async def main():
        await asyncio.sleep(0)
        await future

    future = loop.create_future()
    task = loop.create_task(main())
    turned = time.monotonic()
    for _ in range(3):
        turn()
    turned = time.monotonic() - turned
    time.sleep(BLOCK_S)
    turned -= time.monotonic()
    future.set_result(None)
    loop.run_until_complete(task)
    turned += time.monotonic()
    assert loop._task_counts(task)[DELAY_MAX] < turned + BLOCK_S / 2


@pytest.mark.skipif(sys.version_info < (3, 12), reason="no eager tasks")
def test_eager_task(loop, elapsed):
    async def main():
        eager = asyncio.Task(steps(1), loop=loop, eager_start=True)
        assert eager.done()
        loop.set_task_factory(asyncio.eager_task_factory)
        task = loop.create_task(blocks())
        counts = [loop._task_counts(task)]
        await task
        return counts + [loop._task_counts(task)]

    async def blocks():
        time.sleep(BLOCK_S)
        await asyncio.sleep(0)

    first, second = loop.run_until_complete(main())
    if first is None:
        pytest.skip("asyncio's factory makes asyncio's tasks")
    assert (first[STEPS], second[STEPS]) == (1, 2)
    assert 0.99 * BLOCK_S <= first[BUSY] <= second[BUSY]
    assert first[DELAY_MAX] == 0.0 and second[DELAY_MAX] <= elapsed() - 0.99 * BLOCK_S


def test_task_that_fails(loop):
    async def fail():
        await asyncio.sleep(0)
        raise ValueError

    task = loop.create_task(fail())
    with pytest.raises(ValueError):
        loop.run_until_complete(task)
    assert loop._task_counts(task)[STEPS] == 2


# The table


def test_entry_goes_with_the_task(loop, turn):
    """Another task at the same address begins from zero."""
    seen = set()
    for _ in range(50):
        task = loop.create_task(steps(3))
        seen.add(id(task))
        loop.run_until_complete(task)
        assert loop._task_counts(task)[STEPS] == 3
        del task
        turn()
    assert len(seen) < 50


def test_many_tasks_that_come_and_go(loop, turn):
    chance = random.Random(22)
    expected = {}

    async def work():
        while True:
            await asyncio.sleep(0)

    for _ in range(100):
        for _ in range(chance.randrange(30)):
            expected[loop.create_task(work())] = 0
        turn()
        for task in expected:
            expected[task] += 1
        for task in chance.sample(list(expected), len(expected) // 5):
            task.cancel()
            del expected[task]
        del task
        assert {task: loop._task_counts(task)[STEPS] for task in expected} == expected
    for task in expected:
        task.cancel()
    turn()
    turn()


def test_task_that_is_collected_before_it_is_done(loop, turn):
    async def cycle(found):
        future = loop.create_future()
        found.append(future)
        await future

    for _ in range(3):
        task = loop.create_task(cycle([]))
        task._log_destroy_pending = False
        turn()
        del task
        gc.collect()
        turn()
    assert run(loop, steps(2))[STEPS] == 2


def test_loop_is_closed_while_tasks_are_counted(loop):
    assert run(loop, steps(2))[STEPS] == 2
    loop.close()
    loop._count_tasks(False)
    loop._count_tasks(True)
