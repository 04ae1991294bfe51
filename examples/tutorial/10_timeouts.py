"""Timeouts: wait_for() limits anything that can be awaited, and cancels it when time is up.

The cancelled coroutine gets CancelledError where it waits, so that it can clean up; then wait_for() raises
TimeoutError. shield() lets the work go on when only the waiting should end.

Try: catch CancelledError in `slow` and return something instead of raising it again.
"""

import asyncio


async def slow(seconds: float) -> str:
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        print("  cancelled: clean up")
        raise
    return "finished"


async def main() -> None:
    print("in time:")
    print(" ", await asyncio.wait_for(slow(0.01), timeout=10))

    print("too slow:")
    try:
        await asyncio.wait_for(slow(3600), timeout=0.02)
    except asyncio.TimeoutError:
        print("  TimeoutError")

    print("too slow, but shielded:")
    task = asyncio.create_task(slow(0.1))
    try:
        await asyncio.wait_for(asyncio.shield(task), timeout=0.01)
    except asyncio.TimeoutError:
        print("  TimeoutError, cancelled: %s" % task.cancelled())
    print("  it has", await task)


if __name__ == "__main__":
    asyncio.run(main())
