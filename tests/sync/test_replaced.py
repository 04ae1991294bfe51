"""What a program replaces in asyncio's modules is called, also by functions that have bodies in C."""

import asyncio
import sys

import pytest


async def returns(value):
    await asyncio.sleep(0)
    return value


async def use_wait():
    future = asyncio.get_running_loop().create_future()
    assert await asyncio.wait([future], timeout=0.001) == (set(), {future})


async def use_shield():
    assert await asyncio.shield(returns(1)) == 1


async def use_as_completed():
    assert [await each for each in asyncio.as_completed([returns(1)])] == [1]


async def use_gather():
    assert await asyncio.gather(returns(1), returns(2)) == [1, 2]


def used_by_shield():
    names = asyncio.shield.__code__.co_names
    return "_ensure_future" if "_ensure_future" in names else "ensure_future"


@pytest.mark.parametrize(
    "use, owner, name",
    [
        (use_wait, asyncio.tasks, "_wait"),
        (use_wait, asyncio.tasks, "_release_waiter"),
        (use_shield, asyncio.tasks, used_by_shield()),
        (use_gather, asyncio.tasks._GatheringFuture, "get_loop"),
        (use_gather, asyncio.tasks._GatheringFuture, "add_done_callback"),
        (use_gather, asyncio.tasks._GatheringFuture, "result"),
        (use_as_completed, asyncio.tasks, "ensure_future"),
        (use_as_completed, asyncio.queues, "Queue"),
        (use_as_completed, asyncio.Queue, "put_nowait"),
    ],
)
def test_replaced(accelerate, cloop, monkeypatch, use, owner, name):
    async def main():
        calls, original = [], getattr(owner, name)

        def replacement(*args, **kwargs):
            calls.append(name)
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, replacement)
        await use()
        assert set(calls) == {name}

    cloop.run(main())


@pytest.mark.skipif(sys.version_info < (3, 14), reason="futures do not know their awaiters before")
@pytest.mark.parametrize(
    "begin",
    [
        lambda future: [asyncio.ensure_future(asyncio.wait([future]))],
        lambda future: asyncio.as_completed([future]),
    ],
)
def test_current_task_replaced(accelerate, as_asyncio, monkeypatch, begin):
    def body(loop):
        async def main():
            future, other = loop.create_future(), loop.create_future()
            with monkeypatch.context() as patch:
                patch.setattr(asyncio.tasks, "current_task", lambda loop=None: other)
                begun = begin(future)
                await asyncio.sleep(0)
            known = [each is other for each in future._asyncio_awaited_by]
            future.set_result(1)
            return known, [type(await each) for each in begun]

        return loop.run_until_complete(main())

    as_asyncio(body)
