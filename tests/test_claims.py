"""tests/claims.md: each claim names what shows it, and all of that exists. Then, what nothing else showed."""

import ast
import asyncio
import functools
import os
import re
import sys
import warnings
import weakref

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DOCUMENTS = os.path.join(ROOT, "..", "shared", "TUTORIAL-CLAIMS.md")


def read(*names):
    with open(os.path.join(ROOT, *names), encoding="utf-8") as file:
        return file.read()


def sections_of(text, claim):
    """How many claims each section has, of those that have any."""
    counts = [len(re.findall(claim, section, re.M)) for section in re.split(r"^## ", text, flags=re.M)[1:]]
    return [count for count in counts if count]


def claims():
    """(section and number, what is named below the claim)."""
    for section in re.split(r"^## ", read("tests", "claims.md"), flags=re.M)[1:]:
        title = section.split("\n")[0]
        for number, claim in enumerate(re.split(r"^\d+\. ", section, flags=re.M)[1:], 1):
            named = re.findall(r"^ +- (\S+)$", claim, re.M)
            yield pytest.param(named, id="%s %d" % (title, number))


@functools.lru_cache(maxsize=None)
def functions(path):
    return {
        node.name
        for node in ast.walk(ast.parse(read(path)))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }


@pytest.mark.parametrize("named", list(claims()))
def test_claim_names_what_there_is(named):
    assert named
    for name in named:
        program = re.match(r"P\[(.*)\]$", name)
        path, _, function = name.strip("`").partition("::")
        if program:
            assert os.path.exists(os.path.join(ROOT, "examples", "tutorial", program[1])), name
        elif function:
            assert function.startswith("test_") and function in functions(path), name
        else:
            assert os.path.exists(os.path.join(ROOT, path)), name


def test_no_claim_of_the_documents_is_left_out():
    """They lie beside the checkout of some; their sections come first, in their order, with as many claims."""
    if not os.path.exists(DOCUMENTS):
        pytest.skip("the documents are not here")
    theirs = sections_of(read(DOCUMENTS), r"^- \[[ x]\] ")
    ours = sections_of(read("tests", "claims.md"), r"^\d+\. ")
    assert ours[: len(theirs)] == theirs and sum(theirs) > 50


def test_claims_are_numbered():
    for section in re.split(r"^## ", read("tests", "claims.md"), flags=re.M)[1:]:
        numbers = [int(number) for number in re.findall(r"^(\d+)\. ", section, re.M)]
        assert numbers == list(range(1, len(numbers) + 1))


# Speed


def test_many_coroutines_exist_at_once(loop, run):
    async def main():
        event = asyncio.Event()
        tasks = [loop.create_task(event.wait()) for _ in range(10000)]
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 10001
        event.set()
        return await asyncio.gather(*tasks)

    assert run(main()) == [True] * 10000


# The loop object


def test_nothing_is_called_within_call_soon(loop, turn):
    calls = []
    loop.call_soon(calls.append, 1)
    assert calls == []
    turn()
    assert calls == [1]


def test_callbacks_get_no_keywords_but_by_partial(loop, turn):
    calls = []

    def callback(*args, **keywords):
        calls.append((args, keywords))

    for schedule in (loop.call_soon, functools.partial(loop.call_later, 0), loop.call_soon_threadsafe):
        with pytest.raises(TypeError):
            schedule(callback, 1, word=2)
    loop.call_soon(functools.partial(callback, word=2), 1)
    turn()
    assert calls == [((1,), {"word": 2})]


def test_loop_that_never_ran(new_loop):
    loop = new_loop()
    assert (loop.is_running(), loop.is_closed()) == (False, False)
    loop.stop()
    assert (loop.is_running(), loop.is_closed()) == (False, False)
    loop.close()
    assert (loop.is_running(), loop.is_closed()) == (False, True)
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.run_forever()


def test_loops_compare_by_identity(new_loop):
    one, other = new_loop(), new_loop()
    assert one == one and one != other and len({one, other, one}) == 2


def test_running_loop_is_known_only_while_it_runs(loop, run):
    def nobody_runs():
        with pytest.raises(RuntimeError, match="no running event loop"):
            asyncio.get_running_loop()

    async def main():
        return asyncio.get_running_loop()

    nobody_runs()
    assert run(main()) is loop
    nobody_runs()


def test_loop_has_no_ensure_future(loop):
    with pytest.raises(AttributeError, match="ensure_future"):
        loop.ensure_future


# One turn


def test_last_callback_is_let_go_of(loop, turn):
    class Callback:
        def __call__(self):
            pass

    callback = Callback()
    gone = weakref.ref(callback)
    handle = loop.call_soon(callback)
    del callback
    turn()
    assert not loop.is_running()
    del handle
    assert gone() is None


# Handles, tasks, futures


def test_wait_takes_coroutines_as_this_asyncio_does(run):
    async def work(result):
        return result

    async def main():
        coroutines = [work(number) for number in range(3)]
        if sys.version_info >= (3, 11):
            with pytest.raises(TypeError, match="coroutines is forbidden"):
                await asyncio.wait(coroutines)
            for coroutine in coroutines:
                coroutine.close()
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            done, pending = await asyncio.wait(coroutines)
        assert (sorted(task.result() for task in done), pending) == ([0, 1, 2], set())

    run(main())


def test_task_of_another_loop_is_an_error(new_loop):
    """Not a hang: the wait for it is refused. A task of a loop that is there but does not run."""
    other, loop = new_loop(), new_loop()

    async def wait(task):
        await task

    task = other.create_task(asyncio.sleep(0))
    with pytest.raises(RuntimeError, match="attached to a different loop"):
        loop.run_until_complete(wait(task))
    other.run_until_complete(task)


def test_await_of_a_coroutine_takes_no_turn(loop, run):
    order = []

    async def inner():
        order.append("inner")

    async def main():
        loop.call_soon(order.append, "next turn")
        await inner()
        order.append("main")
        await asyncio.sleep(0)

    run(main())
    assert order == ["inner", "main", "next turn"]
