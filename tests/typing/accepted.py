"""What type checkers must accept, and infer: each public name, as programs use it.

`make types` checks it; nothing runs it. What they must refuse is in refused.py.
"""

import asyncio
import logging
import sys
from typing import Any, Callable, Dict, Optional, Tuple

from typing_extensions import assert_type

import cloop


async def number() -> int:
    return 1


async def text(size: int) -> str:
    return "x" * size


# Watching

with cloop.watch(0.1, every=0.05) as watching:
    assert_type(watching, cloop.Watch)
cloop.watch(to=sys.stderr).stop()
cloop.watch(to=logging.getLogger("x"))
cloop.watch(to=lambda block: print(block.loop, block.seconds, block.text))
assert_type(cloop.serve_monitor().path, str)
cloop.dump_on_signal(10, to=print)

# Entry points: the result is the coroutine's

assert_type(cloop.run(number()), int)
assert_type(cloop.run(text(3), debug=True), str)
assert_type(cloop.run(number(), debug=None, loop_factory=cloop.new_event_loop), int)
assert_type(cloop.run(number(), loop_factory=cloop.Loop), int)
assert_type(cloop.run(number(), loop_factory=asyncio.new_event_loop), int)
assert_type(cloop.run(number(), loop_factory=None), int)
assert_type(cloop.new_event_loop(), cloop.Loop)
assert_type(cloop.__version__, str)
cloop.install_as_uvloop()
cloop.accelerate()
cloop.accelerate(False)
assert_type(cloop.run(number(), accelerate=True), int)

if sys.version_info >= (3, 11):
    with asyncio.Runner(loop_factory=cloop.new_event_loop) as runner:
        assert_type(runner.run(text(1)), str)
if sys.version_info >= (3, 12):
    assert_type(asyncio.run(number(), loop_factory=cloop.new_event_loop), int)

if sys.version_info < (3, 14):  # deprecated since, in asyncio and so here
    cloop.install()
    asyncio.set_event_loop_policy(cloop.EventLoopPolicy())  # pyright: ignore[reportDeprecated]
    assert_type(cloop.EventLoopPolicy().new_event_loop(), cloop.Loop)


def loop_setup(use_subprocess: bool = False) -> Callable[[], asyncio.AbstractEventLoop]:
    """uvicorn's and others' name for a factory."""
    return cloop.new_event_loop


# The loop

abstract: asyncio.AbstractEventLoop = cloop.new_event_loop()
selector: asyncio.SelectorEventLoop = cloop.Loop()


def metrics_of(loop: asyncio.AbstractEventLoop) -> None:
    if isinstance(loop, cloop.Loop):
        before = loop.metrics()
        assert_type(before, cloop.Metrics)
        assert_type(before.turns, int)
        assert_type(before.utilization, float)
        assert_type(before.connections, Dict[str, int])
        assert_type(before.lateness, cloop.Histogram)
        assert_type(before.turn_time.quantile(0.99), float)
        assert_type(before.callback_time - before.callback_time, cloop.Histogram)
        assert_type(loop.metrics() - before, cloop.Metrics)
        assert_type(before.as_dict(), Dict[str, Any])
        loop.metrics_reset()
        loop.set_slow_callback_hook(slow, threshold=0.2)
        loop.set_slow_callback_hook(None)


def slow(info: cloop.SlowCallback) -> None:
    assert_type(info.duration, float)
    assert_type(info.file, Optional[str])


async def uses_the_loop(loop: cloop.Loop) -> None:
    assert_type(loop.time(), float)
    assert_type(loop.call_soon(print, 1), asyncio.Handle)
    assert_type(loop.call_later(0.1, print, "a", "b"), asyncio.TimerHandle)
    assert_type(loop.create_future(), "cloop.Future[Any]")
    assert_type(loop.create_task(number()), "asyncio.Task[int]")
    assert_type(await loop.run_in_executor(None, len, "abc"), int)
    loop.add_signal_handler(2, loop.stop)
    assert_type(loop.remove_reader(0), bool)
    loop.slow_callback_duration = 0.5
    await loop.create_datagram_endpoint(asyncio.DatagramProtocol, reuse_address=None)
    await loop.shutdown_default_executor(10)
    server = await loop.create_unix_server(asyncio.Protocol, "/run/x", cleanup_socket=True)
    assert_type(server, asyncio.Server)
    transport, protocol = await loop.create_connection(Echo, "localhost", 80)
    assert_type(protocol, Echo)
    assert_type(transport, asyncio.Transport)


class Echo(asyncio.Protocol):
    def data_received(self, data: bytes) -> None:
        pass


class MyLoop(cloop.Loop):
    def time(self) -> float:
        return super().time() + 1

    async def getnameinfo(self, sockaddr: Any, flags: int = 0) -> Tuple[str, str]:
        return "host", "0"


# Futures and tasks, also as annotations


async def uses_futures(loop: cloop.Loop) -> int:
    future: "cloop.Future[int]" = cloop.Future(loop=loop)
    loop.call_soon(future.set_result, 3)
    task: "cloop.Task[str]" = cloop.Task(text(2), loop=loop, name="two")
    wider: "asyncio.Future[str]" = task
    own: "cloop.Future[str]" = task
    assert_type(await task, str)
    assert_type(await asyncio.wait_for(wider, 1), str)
    assert_type(own.result(), str)
    return await future


def kept(task: "Optional[cloop.Task[int]]" = None) -> "Dict[str, cloop.Future[int]]":
    return {} if task is None else {"a": task}
