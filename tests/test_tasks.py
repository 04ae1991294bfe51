"""What tasks wait for, and which tasks wait for them, as ps, pstree, the dump and the watchdog show it."""

import asyncio
import importlib
import sys

import pytest


@pytest.fixture
def tasks(cloop):
    return importlib.import_module("cloop._tasks")


@pytest.fixture
def loop(cloop, new_loop):
    return new_loop(cloop.Loop)


async def forever():
    await asyncio.Event().wait()


def named(loop, coroutine, name):
    task = loop.create_task(coroutine)
    task.set_name(name)
    return task


@pytest.fixture
def running(loop, turn):
    """Starts coroutines as tasks with these names; cancels all at the end."""

    def start(**coroutines):
        made = {name: named(loop, coroutine, name) for name, coroutine in coroutines.items()}
        for _ in range(10):
            turn()
        return made

    yield start
    for _ in range(3):
        for task in asyncio.all_tasks(loop):
            task.cancel()
        turn()
        turn()


def edges_by_name(tasks, loop):
    found = tasks.awaiters(tasks.all_tasks(loop))
    return {task.get_name(): sorted(each.get_name() for each in by) for task, by in found.items()}


@pytest.fixture
def waits(loop, tasks, running):
    """{awaited: [awaiting]} once `outer`, given a task `inner` that waits forever, waits too."""

    def waits(outer):
        inner = named(loop, forever(), "inner")
        running(outer=outer(inner))
        return edges_by_name(tasks, loop)

    return waits


def test_task_awaited_directly(waits):
    async def outer(inner):
        await inner

    assert waits(outer) == {"inner": ["outer"]}


def test_gather(waits):
    async def outer(inner):
        await asyncio.gather(inner, asyncio.sleep(0))

    assert waits(outer) == {"inner": ["outer"]}


def test_wait(waits):
    async def outer(inner):
        await asyncio.wait([inner])

    assert waits(outer) == {"inner": ["outer"]}


def test_wait_for(waits):
    async def outer(inner):
        await asyncio.wait_for(inner, 1000)

    assert waits(outer) == {"inner": ["outer"]}


def test_shield(waits):
    async def outer(inner):
        await asyncio.shield(inner)

    assert waits(outer) == {"inner": ["outer"]}


@pytest.mark.skipif(sys.version_info < (3, 11), reason="there is no TaskGroup")
def test_task_group(loop, tasks, running):
    async def outer():
        async with asyncio.TaskGroup() as group:
            group.create_task(forever()).set_name("inner")

    running(outer=outer())
    assert edges_by_name(tasks, loop) == {"inner": ["outer"]}


def test_two_wait_for_one(waits, loop):
    async def outer(inner):
        async def other():
            await inner

        named(loop, other(), "other")
        await inner

    assert waits(outer) == {"inner": ["other", "outer"]}


def test_frames_go_from_the_outermost_to_what_waits(tasks, running):
    async def inner():
        await asyncio.sleep(1000)

    async def generator():
        await inner()
        yield

    async def outer():
        async for _ in generator():
            pass

    (task,) = running(outer=outer()).values()
    found = tasks.frames(task)
    names = [name.rpartition(".")[2] for name, _, _ in found]
    assert names == ["outer", "generator", "inner", "sleep"]
    assert found[2][1] == __file__ and found[2][2] == inner.__code__.co_firstlineno + 1
    assert tasks.place(found) == found[2]
    assert tasks.waits_for(task, found) == "sleep"


async def waits_in_queue():
    await asyncio.Queue().get()


async def waits_for_future():
    await asyncio.get_running_loop().create_future()


async def waits_for_gather():
    await asyncio.gather(asyncio.sleep(1000), asyncio.sleep(1000))


@pytest.mark.parametrize(
    "function, expected",
    [(waits_in_queue, "Queue.get"), (waits_for_future, "a future"), (waits_for_gather, "gather of 2")],
)
def test_what_a_task_waits_for(tasks, running, function, expected):
    task = running(outer=function())["outer"]
    found = tasks.frames(task)
    # Before 3.11, code objects do not know the class.
    assert tasks.waits_for(task, found) in (expected, expected.rpartition(".")[2])
    assert tasks.describe(task)["where"].startswith("%s %s:" % (function.__name__, __file__))


def test_task_that_runs_and_one_that_is_ready(tasks, loop):
    async def main():
        ready = loop.create_task(asyncio.sleep(0))
        task = asyncio.current_task()
        found = [tasks.waits_for(each, [], tasks.current_task(loop)) for each in (task, ready)]
        await ready
        return found

    assert loop.run_until_complete(main()) == ["running", "ready"]


def test_order_is_that_of_the_numbers(tasks, loop, running):
    running(**{"Task-10": forever(), "Task-9": forever(), "a": forever()})
    assert [task.get_name() for task in tasks.all_tasks(loop)] == ["Task-9", "Task-10", "a"]


class Foreign(asyncio.Future):
    """A task of another library, registered as asyncio's documentation says. It has neither a name nor a coroutine."""


def test_task_of_another_library(tasks, loop, running):
    foreign = Foreign(loop=loop)
    asyncio.tasks._register_task(foreign)
    try:
        running(outer=forever_on(foreign))
        rows = tasks.rows_of(tasks.all_tasks(loop))
        assert [(row["name"], row["coro"], row["waits"]) for row in rows if row["id"] == id(foreign)] == [
            ("Foreign", "Foreign", "ready")
        ]
        assert [row["waits"] for row in rows if row["name"] == "outer"] == ["a future"]
        text = importlib.import_module("cloop._dump").text()
        assert "tasks: 2" in text and "Foreign  Foreign(), ready" in text
    finally:
        asyncio.tasks._unregister_task(foreign)
        foreign.cancel()


async def forever_on(awaitable):
    await awaitable


# The tree


def row(name, *awaiters):
    return {"id": name, "name": name, "coro": "f", "awaiter_ids": list(awaiters), "stack": [["f", "/a.py", 1]]}


def test_tree_shows_below_each_task_what_it_waits_for(tasks):
    rows = [row("main"), row("one", "main"), row("two", "main"), row("deep", "one")]
    lines = tasks.render_tree(rows)
    assert [line for line in lines if "f()" in line] == [
        "main  f()",
        "|-- one  f()",
        "|   `-- deep  f()",
        "`-- two  f()",
    ]


def test_tree_shows_a_shared_task_once_in_full(tasks):
    lines = tasks.render_tree([row("a"), row("b"), row("c", "a", "b")])
    assert [line for line in lines if "f()" in line] == ["a  f()", "`-- c  f()", "b  f()", "`-- c  f()  (see above)"]


def test_tree_shows_a_cycle(tasks):
    lines = tasks.render_tree([row("a", "b"), row("b", "a")])
    assert lines[0] == "(a cycle)"
    assert [line for line in lines if "f()" in line] == ["a  f()", "`-- b  f()", "    `-- a  f()  (see above)"]


def test_tree_of_a_long_chain(tasks):
    count = sys.getrecursionlimit() + 500
    rows = [row(0)] + [row(n, n - 1) for n in range(1, count)]
    lines = [line for line in tasks.render_tree(rows) if "f()" in line]
    assert len(lines) == count and lines[-1] == "    " * (count - 2) + "`-- %d  f()" % (count - 1)


def test_what_is_the_programs_own(tasks):
    assert tasks.is_own(__file__)
    assert not tasks.is_own(asyncio.__file__)
    assert not tasks.is_own(sys.modules["cloop"].__file__)
    assert not tasks.is_own("<frozen importlib._bootstrap>")


# Many


class Waits:
    """A task, as far as awaiters() looks at it, that counts comparisons."""

    compared = 0

    def __init__(self, waiter=None):
        self._fut_waiter = waiter

    def __eq__(self, other):
        Waits.compared += 1
        return self is other

    def __hash__(self):
        return id(self) >> 4


def test_many_that_wait_for_one(tasks):
    one = Waits()
    many = [Waits(one) for _ in range(500)]
    Waits.compared = 0
    found = tasks.awaiters([one] + many)
    assert list(found) == [one] and found[one] == many
    assert Waits.compared < 5 * len(many)


def test_no_more_than_twenty_lines(loop, tasks, running):
    async def outer(inner):
        await inner

    inner = named(loop, forever(), "inner")
    running(**{"outer%d" % n: outer(inner) for n in range(30)})
    lines = tasks.chain_lines(inner, tasks.awaiters(tasks.all_tasks(loop)))
    assert len(lines) == 21 and all(line.startswith("  awaited by outer") for line in lines[:20])
    assert lines[20] == "  and 10 more"
