"""Who wants tasks and slow callbacks counted: loops count what one of them wants, also new loops."""

import asyncio
import importlib
import time

import pytest


@pytest.fixture
def counting(cloop):
    module = importlib.import_module("cloop._counting")
    yield module
    assert module.wanted() == (False, None), "something was not dropped"


async def step():
    await asyncio.sleep(0)


def counts(loop):
    task = loop.create_task(step())
    loop.run_until_complete(task)
    return loop._task_counts(task) is not None


def notes(loop, seconds=0.02):
    slow = importlib.import_module("cloop._slow")
    before = sum(row["count"] for row in slow.noted(loop))
    loop.call_soon(time.sleep, seconds)
    loop.call_soon(loop.stop)
    loop.run_forever()
    return sum(row["count"] for row in slow.noted(loop)) - before


@pytest.mark.usefixtures("own_tasks")
def test_as_long_as_one_wants_it(cloop, counting, new_loop):
    loop = new_loop(cloop.Loop)
    assert not counts(loop) and not notes(loop)
    counting.want("a", tasks=True)
    counting.want("b", tasks=True, slow=0.01)
    assert counts(loop) and notes(loop)
    later = new_loop(cloop.Loop)
    assert counts(later) and notes(later)
    counting.drop("b")
    assert counts(loop) and not notes(loop)
    counting.drop("a")
    counting.drop("a")
    assert not counts(loop) and not counts(later) and not notes(later)


@pytest.mark.usefixtures("own_tasks")
def test_lowest_threshold_counts(cloop, counting, new_loop):
    loop = new_loop(cloop.Loop)
    counting.want("a", slow=100)
    assert not notes(loop)
    counting.want("b", slow=0.01)
    assert counting.wanted() == (False, 0.01) and notes(loop)
    counting.drop("b")
    assert not notes(loop)
    counting.drop("a")


def test_what_was_noted_before_is_forgotten(cloop, counting, new_loop):
    slow = importlib.import_module("cloop._slow")
    loop = new_loop(cloop.Loop)
    counting.want("a", slow=0.01)
    assert notes(loop) == 1
    counting.want("b", slow=0.02)
    assert len(slow.noted(loop)) == 1
    counting.drop("a")
    counting.drop("b")
    assert len(slow.noted(loop)) == 1
    counting.want("a", slow=0.01)
    assert slow.noted(loop) == []
    counting.drop("a")


@pytest.mark.usefixtures("own_tasks")
def test_watch_counts_tasks(cloop, counting, new_loop):
    loop = new_loop(cloop.Loop)
    with cloop.watch(100) as watch:
        assert not watch.tasks and not counts(loop)
    with cloop.watch(100, tasks=True) as watch:
        assert watch.tasks and counts(loop)
        cloop.watch(100)
        assert not counts(loop)
        with cloop.watch(100, tasks=True):
            assert counts(loop)
        watch.stop()  # which was replaced
    assert not counts(loop)
