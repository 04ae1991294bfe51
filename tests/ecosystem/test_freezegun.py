"""freezegun stops the clock that the loop asks, unless told not to."""

import asyncio

import pytest

freezegun = pytest.importorskip("freezegun")
pytestmark = pytest.mark.gil


async def turns():
    for _ in range(5):
        await asyncio.sleep(0)


def test_ticks_move_the_timers(loop, reports):
    async def main():
        with freezegun.freeze_time("2030-01-01") as frozen:
            sleeper = asyncio.ensure_future(asyncio.sleep(100, "woken"))
            await turns()
            frozen.tick(99)
            await turns()
            assert not sleeper.done()
            frozen.tick(2)
            await turns()
            assert sleeper.done() and sleeper.result() == "woken"
        return await asyncio.sleep(0.001, "and after")

    assert loop.run_until_complete(main()) == "and after"
    assert reports == []


def test_the_loop_keeps_its_clock_if_asked_for(loop, reports):
    async def main():
        with freezegun.freeze_time("2030-01-01", real_asyncio=True):
            before = loop.time()
            await asyncio.sleep(0.01)
            assert 0.009 < loop.time() - before < 60
        return await asyncio.sleep(0.001, "and after")

    assert loop.run_until_complete(main()) == "and after"
    assert reports == []
