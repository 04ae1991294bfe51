"""A collection within a call closes the loop, at each moment of it: the call fails, or is done, and nothing is left."""

import asyncio
import contextlib
import gc
import os
import socket

import pytest

pytestmark = pytest.mark.skipif(not hasattr(gc, "callbacks"), reason="no callbacks of the collector")


def stream(loop, stack):
    ours, theirs = (stack.enter_context(sock) for sock in socket.socketpair())
    ours.setblocking(False)
    return loop._make_socket_transport(ours, asyncio.Protocol())


def datagrams(loop, stack):
    sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    sock.bind(("127.0.0.1", 0))
    sock.setblocking(False)
    return loop._make_datagram_transport(sock, asyncio.DatagramProtocol())


def pipe(loop, stack):
    r, w = os.pipe()
    stack.enter_context(open(w, "wb", 0))
    return loop._make_read_pipe_transport(stack.enter_context(open(r, "rb", 0)), asyncio.Protocol())


def pipe_to_write(loop, stack):
    r, w = os.pipe()
    stack.enter_context(open(r, "rb", 0))
    return loop._make_write_pipe_transport(stack.enter_context(open(w, "wb", 0)), asyncio.BaseProtocol())


def callbacks(loop, stack):
    future = loop.create_future()
    for _ in range(4):
        future.add_done_callback(print)
    future.set_result(1)


def awaited(loop, stack):
    async def waits(future):
        await future

    future = loop.create_future()
    tasks = [loop.create_task(waits(future)) for _ in range(2)]
    loop.call_soon(loop.stop)
    loop.run_forever()
    future.set_result(1)
    return tasks


def scheduled(loop, stack):
    loop.call_soon(print)
    loop.call_later(0, print, 1, 2, 3, 4, 5, 6)
    loop.call_soon_threadsafe(print)


def watched(loop, stack):
    ours, theirs = (stack.enter_context(sock) for sock in socket.socketpair())
    loop.add_reader(ours, print)
    loop.add_writer(ours, print)
    loop.add_reader(ours, print, 1)


MAKE = [stream, datagrams, pipe, pipe_to_write, callbacks, awaited, scheduled, watched]


@pytest.fixture
def closes():
    """closes(loop, moment): the collection with this number closes the loop; returns how many there were."""

    @contextlib.contextmanager
    def closes(loop, moment):
        seen = []

        def collected(phase, info):
            if phase == "stop":
                seen.append(phase)
                if len(seen) == moment and not loop.is_running():
                    loop.close()

        threshold = gc.get_threshold()
        gc.collect()
        gc.callbacks.append(collected)
        gc.set_threshold(1)
        try:
            yield seen
        finally:
            gc.set_threshold(*threshold)
            gc.callbacks.remove(collected)

    return closes


@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::RuntimeWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.parametrize("make", MAKE, ids=lambda make: make.__name__)
def test_at_each_moment(new_loop, closes, make):
    moment, seen = 0, [None]
    while moment < min(len(seen), 200):
        moment += 1
        loop = new_loop()
        loop.set_exception_handler(lambda loop, context: None)
        with contextlib.ExitStack() as stack:
            made = None
            with closes(loop, moment) as seen:
                try:
                    made = make(loop, stack)
                except (RuntimeError, OSError, AttributeError, ValueError):  # the last two are asyncio's
                    pass
            if hasattr(made, "abort"):
                with contextlib.suppress(RuntimeError):  # asyncio's, if the loop is closed
                    made.abort()
            if not loop.is_closed():
                loop.call_soon(loop.stop)
                loop.run_forever()
            loop.close()
        del made
    gc.collect()
