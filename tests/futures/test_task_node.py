"""Steps that were scheduled before debug mode came, and are slow in it: logged as asyncio logs them."""

import asyncio
import sys

import pytest


@pytest.fixture
def told(filter_log):
    """Notes the texts of slow callbacks, without their times, in place of the log."""
    texts = []

    def note(record):
        if record.msg != "Executing %s took %.3f seconds":
            return True
        texts.append(record.args[0])
        return False

    filter_log(note)
    return texts


async def steps(future):
    await asyncio.sleep(0)
    return await future


def begin_nothing(future):
    pass


def begin_gather(future):
    return asyncio.gather(future, return_exceptions=True)


def begin_shield(future):
    return asyncio.shield(future)


@pytest.mark.parametrize("begin", [begin_nothing, begin_gather, begin_shield])
@pytest.mark.parametrize("accelerated", [False, True])
def test_slow_steps(as_asyncio, told, cloop, begin, accelerated):
    if accelerated and begin is begin_gather and sys.version_info >= (3, 14):
        pytest.skip("asyncio shows a partial()")
    cloop.accelerate(accelerated)

    def body(loop):
        del told[:]

        async def main():
            loop.slow_callback_duration = 0
            future = loop.create_future()
            task, begun = loop.create_task(steps(future)), begin(future)
            await asyncio.sleep(0)
            loop.call_soon(loop.set_debug, True)
            future.set_result(1)
            later = loop.create_task(steps(future))
            await asyncio.wait([task, later])
            loop.set_debug(False)
            return begun and repr(await begun)

        main = loop.create_task(main())
        main.set_name("main")
        result = loop.run_until_complete(main)
        # asyncio reads its self-pipe, and tells the interpreter of debug mode, in callbacks. Names are numbered.
        seen = [text for text in told if "_read_from_self" not in text and "_origin_tracking" not in text]
        return result, [text.split(" name=")[0].split(" at /")[0] for text in seen]

    try:
        assert len(as_asyncio(body)["result"][1]) > 3
    finally:
        cloop.accelerate(False)
