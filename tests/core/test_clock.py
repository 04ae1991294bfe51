"""A clock that a program puts in the place of time.monotonic(), as freezegun does, moves the timers."""

import asyncio
import time

import pytest

pytestmark = pytest.mark.gil


def run_once(loop):
    loop.call_soon(loop.stop)
    loop.run_forever()


@pytest.mark.parametrize("when", ["before it runs", "between runs"])
def test_timers_follow_it(loop, monkeypatch, when):
    if when == "between runs":
        run_once(loop)
    now = [5.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    assert loop.time() == 5.0
    seen = []
    handle = loop.call_later(100, seen.append, "later")
    assert handle.when() == 105.0
    loop.call_at(50.0, seen.append, "at")
    run_once(loop)
    assert seen == []
    now[0] = 50.5
    run_once(loop)
    assert seen == ["at"]
    now[0] = 105.5
    run_once(loop)
    assert seen == ["at", "later"]


def test_it_is_put_there_and_taken_away_while_the_loop_runs(loop, monkeypatch):
    async def turns():
        for _ in range(5):
            await asyncio.sleep(0)

    async def main():
        now = [time.monotonic()]
        with monkeypatch.context() as patch:
            patch.setattr(time, "monotonic", lambda: now[0])
            sleeper = asyncio.ensure_future(asyncio.sleep(1000, "woken"))
            await turns()
            now[0] += 999
            await turns()
            assert not sleeper.done()
            now[0] += 2
            await turns()
            assert sleeper.done()
            left = asyncio.ensure_future(asyncio.sleep(1000))
            await turns()
        begin = time.monotonic()
        await asyncio.sleep(0.01)
        assert time.monotonic() - begin >= 0.009
        assert not left.done()
        left.cancel()
        await turns()

    loop.run_until_complete(main())


def test_time_of_a_subclass_counts_more(loop_class, new_loop, monkeypatch):
    monkeypatch.setattr(time, "monotonic", lambda: 5.0)
    loop = new_loop(type("Own", (loop_class,), {"time": lambda self: 7.0}))
    assert loop.time() == 7.0 and loop.call_later(1, print).when() == 8.0


def test_what_it_raises_is_raised(loop, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: 1 // 0)
        for call in loop.time, lambda: loop.call_later(1, print):
            with pytest.raises(ZeroDivisionError):
                call()
        patch.delattr(time, "monotonic")
        with pytest.raises(AttributeError, match="monotonic"):
            loop.time()
    assert abs(loop.time() - time.monotonic()) < 60
    run_once(loop)


IMPORTED_MEANWHILE = """
import asyncio, time
real = time.monotonic
time.monotonic = lambda: 5.0
import cloop
loop = cloop.new_event_loop()
print(loop.time(), loop.call_later(1, int).when())
time.monotonic = real
print(abs(loop.time() - real()) < 60)
loop.run_until_complete(asyncio.sleep(0.001))
loop.close()
"""


def test_it_is_there_when_cloop_is_imported(cloop, python):
    done = python("-c", IMPORTED_MEANWHILE)
    assert (done.stdout, done.stderr) == ("5.0 6.0\nTrue\n", "")


ACCELERATED = """
import asyncio, time
import cloop

async def main():
    now = [5.0]
    real, time.monotonic = time.monotonic, lambda: now[0]
    sleeper = asyncio.ensure_future(asyncio.sleep(100))
    waiter = asyncio.ensure_future(asyncio.wait_for(asyncio.Event().wait(), 100))
    for _ in range(5):
        await asyncio.sleep(0)
    print(sleeper.done(), waiter.done())
    now[0] = 106.0
    for _ in range(9):
        await asyncio.sleep(0)
    print(sleeper.done(), waiter.done() and repr(waiter.exception()))
    time.monotonic = real

cloop.run(main(), accelerate=True)
"""


def test_accelerated_primitives_follow_it(cloop, python):
    done = python("-c", ACCELERATED)
    assert (done.stdout, done.stderr) == ("False False\nTrue TimeoutError()\n", "")
