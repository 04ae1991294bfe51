"""The coroutines of the read methods: driven by hand, by tasks of every kind, cancelled and dropped."""

import asyncio
import collections.abc
import gc
import inspect
import types
import warnings
import weakref

import pytest

DATA = b"data\nmore\n"
FIRST = {"read": b"data", "readexactly": b"data", "readuntil": b"data\n", "readline": b"data\n", "__anext__": b"data\n"}


def test_never_awaited(streams, read):
    reader, _, _, _ = streams()
    with pytest.warns(RuntimeWarning, match="^coroutine 'StreamReader.%s' was never awaited$" % read.name):
        read(reader)
        gc.collect()


def test_what_a_coroutine_is(streams, read):
    reader, _, _, _ = streams()
    coroutine = read(reader)
    assert asyncio.iscoroutine(coroutine) and inspect.isawaitable(coroutine)
    assert isinstance(coroutine, collections.abc.Coroutine)
    assert coroutine.__name__ == read.name and coroutine.__qualname__ == "StreamReader." + read.name
    assert repr(coroutine).startswith("<coroutine object StreamReader.%s at 0x" % read.name)
    assert coroutine.cr_await is None and not coroutine.cr_running
    coroutine.close()


def test_driven_by_hand(streams, read, finish):
    reader, _, _, _ = streams()
    coroutine = read(reader)
    with pytest.raises(TypeError, match="^can't send non-None value to a just-started coroutine$"):
        coroutine.send(1)
    waiter = coroutine.send(None)
    assert reader._waiter is waiter and waiter._asyncio_future_blocking is True and not coroutine.cr_running
    assert coroutine.cr_await is not None
    reader.feed_data(DATA)
    assert finish(coroutine) == FIRST[read.name] and coroutine.cr_await is None
    for _ in range(2):
        with pytest.raises(RuntimeError, match="^cannot reuse already awaited coroutine$"):
            coroutine.send(None)
        with pytest.raises(RuntimeError, match="^cannot reuse already awaited coroutine$"):
            coroutine.throw(ValueError)
        assert coroutine.close() is None


def test_stepped_before_the_data(streams, read):
    reader, _, _, _ = streams()
    coroutine = read(reader)
    coroutine.send(None)
    with pytest.raises(RuntimeError, match="^await wasn't used with future$"):
        coroutine.send(None)
    assert reader._waiter is None


@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("make", [lambda cls: cls, lambda cls: cls("x")], ids=["class", "instance"])
@pytest.mark.parametrize("cls", [ValueError, asyncio.CancelledError, GeneratorExit, KeyboardInterrupt])
def test_thrown(streams, read, started, cls, make):
    reader, _, _, _ = streams()
    error = make(cls)
    coroutine = read(reader)
    if started:
        coroutine.send(None)
    with pytest.raises(cls) as caught:
        coroutine.throw(error)
    assert reader._waiter is None and (error is cls or caught.value is error)
    with pytest.raises(RuntimeError, match="^cannot reuse already awaited coroutine$"):
        coroutine.send(None)


@pytest.mark.parametrize("started", [False, True])
def test_closed(streams, read, started):
    reader, _, _, _ = streams()
    coroutine = read(reader)
    if started:
        coroutine.send(None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert coroutine.close() is None and coroutine.close() is None
    assert reader._waiter is None
    del coroutine


def test_dropped_while_it_waits(streams, read):
    reader, _, _, _ = streams()
    coroutine = read(reader)
    coroutine.send(None)
    del coroutine
    gc.collect()
    assert reader._waiter is None


def test_awaited_twice(streams, run, loop, turn, read):
    reader, _, _, peer = streams()
    coroutine = read(reader)

    async def wait():
        return await coroutine

    first = loop.create_task(wait())
    turn()
    with pytest.raises(RuntimeError, match="^coroutine is being awaited already$"):
        run(wait())
    peer.send(DATA)
    assert run(first) == FIRST[read.name]
    with pytest.raises(RuntimeError, match="^cannot reuse already awaited coroutine$"):
        run(wait())


@pytest.mark.parametrize("how", ["create_task", "ensure_future", "wait_for", "gather", "shield", "wait", "threadsafe"])
def test_given_to(streams, run, loop, read, how):
    reader, _, _, peer = streams()

    async def main():
        if how == "wait_for":
            waiting = asyncio.ensure_future(asyncio.wait_for(read(reader), 5))
        elif how == "gather":
            waiting = asyncio.gather(read(reader), asyncio.sleep(0))
        elif how == "wait":
            waiting = asyncio.ensure_future(asyncio.wait([loop.create_task(read(reader))]))
        elif how == "threadsafe":
            waiting = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(read(reader), loop))
        elif how == "create_task":
            waiting = loop.create_task(read(reader))
        else:
            waiting = getattr(asyncio, how)(read(reader))
        while reader._waiter is None:
            await asyncio.sleep(0)
        peer.send(DATA)
        return await waiting

    result = run(main())
    if how == "gather":
        result = result[0]
    if how == "wait":
        result = result[0].pop().result()
    assert result == FIRST[read.name]


def test_yielded_from(streams, run, read):
    """Like programs before there was await."""
    reader, _, _, peer = streams()

    @types.coroutine
    def old_style():
        return (yield from read(reader))

    peer.send(DATA)
    assert run(old_style()) == FIRST[read.name]


def test_timeout_leaves_no_waiter(streams, run, arrive, read):
    reader, _, _, peer = streams()
    for _ in range(3):
        with pytest.raises(asyncio.TimeoutError):
            run(asyncio.wait_for(read(reader), 0.001))
        assert reader._waiter is None
    arrive(reader, peer)
    assert run(read(reader)) == FIRST[read.name]


def test_cancelled(streams, run, loop, turn, read):
    reader, _, _, peer = streams()
    for turns in range(2):
        reading = loop.create_task(read(reader))
        for _ in range(turns):
            turn()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            run(reading)
        assert reader._waiter is None
    peer.send(DATA)
    assert run(read(reader)) == FIRST[read.name]


def test_task_destroyed_while_it_waits(streams, loop, turn, read, reports):
    reader, _, _, _ = streams()
    reading = loop.create_task(read(reader))
    turn()
    del reading
    reader._waiter = None  # which kept the task
    gc.collect()
    assert [context["message"] for context in reports] == ["Task was destroyed but it is pending!"]


def test_cycle_through_the_coroutine(streams, read):
    class Key:
        pass

    reader, protocol, transport, _ = streams()
    coroutine = read(reader)
    coroutine.send(None)
    key = Key()
    key.cycle = reader.own = coroutine
    gone = weakref.ref(key)
    reader.key = key
    reader._transport = None
    transport.abort()
    other = asyncio.StreamReaderProtocol(None, loop=transport.get_extra_info("loop") or protocol._loop)
    del coroutine, key
    protocol._stream_reader_wr = None
    del reader, protocol, transport, other
    # The fixture keeps the transport, not the reader.
    gc.collect()
    assert gone() is None


def test_stack_of_a_task(streams, loop, turn, read):
    reader, _, _, peer = streams()

    async def outer():
        return await read(reader)

    task = loop.create_task(outer())
    turn()
    assert task.get_stack()[0].f_code is outer.__code__
    bare = loop.create_task(reader.read(1))
    assert "StreamReader.read" in repr(bare) and len(bare.get_stack()) <= 1
    bare.cancel()
    task.cancel()
    turn()
    turn()


@pytest.mark.skipif(not hasattr(asyncio, "eager_task_factory"), reason="from Python 3.12 on")
def test_eager_tasks(streams, loop, run, arrive, read):
    reader, _, _, peer = streams()
    loop.set_task_factory(asyncio.eager_task_factory)
    arrive(reader, peer)

    async def main():
        first = asyncio.ensure_future(read(reader))
        assert first.done() and first.result() == FIRST[read.name]
        reader._buffer.clear()
        second = asyncio.ensure_future(read(reader))
        assert not second.done() and reader._waiter is not None
        peer.send(DATA)
        return await second

    assert run(main()) == FIRST[read.name]
