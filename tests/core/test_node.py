"""loop._ready shows a handle for everything that is due. Nothing that is shown is lost or done twice."""

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys

import pytest


async def many_turns():
    for _ in range(20):
        await asyncio.sleep(0)


async def stream(loop):
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    for _ in range(3):
        writer.write(b"data")
        assert await reader.readexactly(4) == b"data"
    writer.close()
    server.close()
    await asyncio.sleep(0.01)


async def answer(reader, writer):
    while True:
        data = await reader.read(100)
        if not data:
            break
        writer.write(data)
    writer.close()


class Collecting(asyncio.Protocol, asyncio.DatagramProtocol):
    def __init__(self):
        self.got = asyncio.get_running_loop().create_future()
        self.lost = asyncio.get_running_loop().create_future()

    def data_received(self, data):
        if not self.got.done():
            self.got.set_result(data)

    def datagram_received(self, data, addr):
        self.data_received(data)

    def connection_lost(self, error):
        self.lost.set_result(error)


async def datagram(loop):
    transport, protocol = await loop.create_datagram_endpoint(Collecting, local_addr=("127.0.0.1", 0))
    transport.sendto(b"data", transport.get_extra_info("sockname"))
    assert await protocol.got == b"data"
    transport.close()
    await protocol.lost


async def pipe(loop):
    reading, writing = os.pipe()
    source, protocol = await loop.connect_read_pipe(Collecting, open(reading, "rb", 0))
    sink, other = await loop.connect_write_pipe(Collecting, open(writing, "wb", 0))
    sink.write(b"data")
    assert await protocol.got == b"data"
    sink.close()
    await other.lost
    await protocol.lost


async def sock(loop):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for end in ours, theirs:
            end.setblocking(False)
        receiving = asyncio.ensure_future(loop.sock_recv(ours, 10))
        await asyncio.sleep(0)
        await loop.sock_sendall(theirs, b"data")
        assert await receiving == b"data"


async def reader(loop):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        got = loop.create_future()
        loop.add_reader(ours, lambda: got.done() or got.set_result(1))
        theirs.send(b"data")
        await got
        loop.remove_reader(ours)


async def signals(loop):
    got = loop.create_future()
    loop.add_signal_handler(signal.SIGUSR1, got.set_result, 1)
    os.kill(os.getpid(), signal.SIGUSR1)
    await got
    loop.remove_signal_handler(signal.SIGUSR1)


async def tasks(loop):
    event, results = asyncio.Event(), []

    async def wait(n):
        await event.wait()
        results.append(n)

    waiting = [asyncio.ensure_future(wait(n)) for n in range(5)]
    await asyncio.sleep(0)
    event.set()
    await asyncio.gather(*waiting)
    assert results == list(range(5))


async def callbacks(loop):
    future, called = loop.create_future(), []
    for n in range(3):
        future.add_done_callback(lambda _, n=n: called.append(n))
    future.set_result(1)
    await many_turns()
    assert called == [0, 1, 2]


async def threads(loop):
    called = []
    loop.call_soon_threadsafe(called.append, 1)
    await many_turns()
    assert called == [1]


STATES = [stream, datagram, pipe, sock, reader, signals, tasks, callbacks, threads]


def look_repr(loop, kept):
    assert "Handle" in repr(loop._ready) or len(loop._ready) == 0


def look_collect(loop, kept):
    ready = loop._ready
    gc.collect()
    del ready
    gc.collect()


def look_keep(loop, kept):
    kept.extend(loop._ready)


def look_twice(loop, kept):
    first, second = list(loop._ready), list(loop._ready)
    assert [id(handle) for handle in first] == [id(handle) for handle in second]
    assert len(first) == len(loop._ready)


def look_at_each(loop, kept):
    for handle in loop._ready:
        assert isinstance(handle, asyncio.Handle)
        assert handle.cancelled() in (False, True) and handle._callback is not None
        assert handle._loop is loop and repr(handle)


@pytest.mark.parametrize("look", [look_repr, look_collect, look_keep, look_twice, look_at_each])
@pytest.mark.parametrize("state", STATES)
def test_ready_lists_all_pending_callbacks_as_handles(loop, state, look):
    kept, looking = [], [True]

    def look_each_turn():
        look(loop, kept)
        if looking:
            loop.call_soon(look_each_turn)

    async def main():
        loop.call_soon(look_each_turn)
        await asyncio.wait_for(state(loop), 10)
        looking.clear()
        await many_turns()

    loop.run_until_complete(main())
    loop.close()
    for handle in kept:  # nothing is left to do, or it does no harm
        assert repr(handle)
    kept.clear()


def test_kept_handles_of_a_closed_loop_do_nothing(cloop, new_loop):
    """The start of a transport was pending when the loop was closed."""
    loop = new_loop(cloop.Loop)
    loop.set_exception_handler(lambda loop, context: None)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        task = loop.create_task(loop.create_connection(asyncio.Protocol, sock=ours))
        loop.call_soon(loop.stop)
        loop.run_forever()
        handles = list(loop._ready)
        assert len(handles) == 2
        transport = handles[1]._callback.__self__
        loop.close()
        for handle in handles:
            with contextlib.suppress(RuntimeError):
                handle._run()
            assert repr(handle)
        task._log_destroy_pending = False
        with contextlib.suppress(Exception):
            transport.abort()
        del task, handles, handle, transport


class Trap:
    """Looks at the ready queue when it is collected."""

    caught = 0

    def __init__(self, loop):
        self.loop, self.me = loop, self

    def __del__(self):
        Trap.caught += 1
        assert all(isinstance(handle, asyncio.Handle) for handle in self.loop._ready)


def test_collection_while_it_is_read(cloop, new_loop):
    """A handle was made for a task, and a collection during that made another: one task lost a reference for each."""
    loop = new_loop(cloop.Loop)
    before = Trap.caught

    async def child():
        pass

    async def main():
        for allocations in range(2, 60):
            tasks = [loop.create_task(child()) for _ in range(10)]
            gc.collect()
            Trap(loop)
            gc.set_threshold(gc.get_count()[0] + allocations)
            gc.enable()
            ready = loop._ready
            gc.disable()
            del ready
            assert len({sys.getrefcount(task) for task in tasks}) == 1
            await asyncio.sleep(0)
            assert all(task.done() for task in tasks)
            assert len({sys.getrefcount(task) for task in tasks}) == 1
            gc.collect()

    threshold = gc.get_threshold()
    gc.disable()
    try:
        loop.run_until_complete(main())
    finally:
        gc.set_threshold(*threshold)
        gc.enable()
    assert Trap.caught - before == 58
