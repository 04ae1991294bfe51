"""Futures: a place for a result that is not there yet.

Whoever has the future can await it or add callbacks; whoever has the result sets it. Callbacks are not called by
set_result() but in the next turn of the loop. A task is a future whose result is what its coroutine returns.

Try: set the result twice. Cancel the future instead, and see what the waiter gets.
"""

import asyncio
from typing import List


def tell(future: "asyncio.Future[int]") -> None:
    print("callback:", future.result())


async def wait_for(future: "asyncio.Future[int]") -> int:
    return await future + 1


async def main() -> None:
    loop = asyncio.get_running_loop()
    future: "asyncio.Future[int]" = loop.create_future()
    try:
        future.result()
    except asyncio.InvalidStateError as error:
        print("too early:", type(error).__name__)

    future.add_done_callback(tell)
    waiter = asyncio.create_task(wait_for(future))
    loop.call_later(0.01, future.set_result, 41)
    print("the waiter returns", await waiter)

    other: "asyncio.Future[int]" = loop.create_future()
    seen: List[str] = []
    other.add_done_callback(lambda future: seen.append("called back"))
    other.set_result(0)
    print("done: %s, called back: %s" % (other.done(), bool(seen)))
    await asyncio.sleep(0)
    print("a turn later, called back:", bool(seen))

    failed: "asyncio.Future[int]" = loop.create_future()
    failed.set_exception(OSError("no such thing"))
    try:
        await failed
    except OSError as error:
        print("an exception comes out of await:", error)
    print("a task is a future:", asyncio.Future in type(waiter).__mro__)


if __name__ == "__main__":
    asyncio.run(main())
