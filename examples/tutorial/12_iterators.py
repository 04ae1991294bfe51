"""Asynchronous iterators, generators and context managers: `async for` and `async with` may wait at each step.

`Countdown` spells an iterator out; `countdown` is the same as a generator. `Connection` waits when it is entered and
when it is left, and is left whatever happens in between.

Try: iterate over `countdown` by hand, with __anext__(), and stop half-way. When does its `finally` run?
"""

import asyncio
from contextlib import asynccontextmanager
from types import TracebackType
from typing import AsyncGenerator, AsyncIterator, Optional, Type


class Countdown:
    def __init__(self, start: int) -> None:
        self.left = start

    def __aiter__(self) -> "Countdown":
        return self

    async def __anext__(self) -> int:
        if self.left == 0:
            raise StopAsyncIteration
        await asyncio.sleep(0.001)
        self.left -= 1
        return self.left + 1


async def countdown(start: int) -> AsyncIterator[int]:
    try:
        for left in range(start, 0, -1):
            await asyncio.sleep(0.001)
            yield left
    finally:
        print("  the generator ends")


class Connection:
    async def __aenter__(self) -> "Connection":
        await asyncio.sleep(0.001)
        print("  open")
        return self

    async def __aexit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        await asyncio.sleep(0.001)
        print("  close")


@asynccontextmanager
async def connection() -> AsyncGenerator[str, None]:
    print("  open")
    try:
        yield "connection"
    finally:
        await asyncio.sleep(0.001)
        print("  close")


async def main() -> AsyncIterator[int]:
    print("an iterator:")
    async for left in Countdown(3):
        print("  %d" % left)

    print("a generator, in a comprehension:")
    print(" ", [left * 10 async for left in countdown(3)])

    print("a context manager:")
    try:
        async with Connection():
            raise ValueError("broken")
    except ValueError as error:
        print("  left with: %s" % error)

    print("a context manager from a generator:")
    async with connection() as name:
        print("  use the", name)

    print("run() shuts down generators that were not exhausted:")
    unfinished = countdown(3)
    print("  %d" % await unfinished.__anext__())
    return unfinished


if __name__ == "__main__":
    unfinished = asyncio.run(main())
