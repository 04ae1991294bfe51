"""What a stress build does to itself on demand: csrc/base/stress.h."""

import asyncio
import gc
import importlib

import pytest


@pytest.fixture
def stress(cloop):
    """Gives orders; they end with the test."""
    module = importlib.import_module("cloop._cloop")
    if not hasattr(module, "_stress"):
        pytest.skip("needs a stress build")
    yield module._stress
    module._stress()


async def answer(reader, writer):
    while True:
        line = await reader.readline()
        if not line:
            break
        writer.write(line)
        await writer.drain()
    writer.close()


async def converse(lines):
    """What a server that sends each line back has sent back."""
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.writelines(lines)
    writer.write_eof()
    back = await reader.read()
    writer.close()
    server.close()
    await asyncio.sleep(0)
    return back


LINES = [b"%d\n" % number * 3 for number in range(40)]


@pytest.mark.parametrize(
    "orders",
    [{"send": 1}, {"receive": 1}, {"send": 1, "receive": 1}, {"collect": 1}],
    ids=lambda orders: "-".join(orders),
)
def test_nothing_is_lost(run, stress, orders):
    stress(**orders)
    assert run(converse(LINES)) == b"".join(LINES)


def test_a_collection_is_made_at_every_nth_allocation(loop, cloop, stress):
    seen = []
    gc.callbacks.append(lambda phase, info: seen.append(info["generation"]) if phase == "stop" else None)
    try:
        made = cloop.new_event_loop()
        stress(collect=5)
        handles = [made.call_soon(print) for _ in range(20)]
        count = stress()
        made.close()
    finally:
        gc.callbacks.pop()
    assert len(handles) == 20 and count >= 20
    assert count // 5 <= len(seen) <= count // 5 + 3


def test_one_allocation_fails_and_the_next_does_not(cloop, stress):
    loop = cloop.new_event_loop()
    handles = []
    try:
        stress(nomem=3)
        with pytest.raises(MemoryError):
            for _ in range(3):
                handles.append(loop.call_soon(print, 1, 2, 3, 4, 5))
        assert stress() == 3
        stress(nomem=1, lasting=4)
        for _ in range(4):
            with pytest.raises(MemoryError):
                loop.call_soon(print)
        handles.append(loop.call_soon(print))
    finally:
        loop.close()
