"""wait: two sets, of the tasks that are done and of those that are not.

wait() raises no task's exception and cancels nothing when its time is over: that is left to you. It takes tasks;
coroutines themselves it refuses since Python 3.11.

Try: wait for asyncio.FIRST_EXCEPTION, and let one task fail.
"""

import asyncio
from typing import Iterable


async def work(name: str, may_end: asyncio.Event) -> str:
    await may_end.wait()
    return name


def names(tasks: "Iterable[asyncio.Task[str]]") -> str:
    """Sets have no order."""
    return ", ".join(sorted(task.result() for task in tasks)) or "nobody"


async def main() -> None:
    now, later = asyncio.Event(), asyncio.Event()
    fast = asyncio.create_task(work("fast", now))
    slow = asyncio.create_task(work("slow", later))
    never = asyncio.create_task(work("never", asyncio.Event()))

    now.set()
    done, pending = await asyncio.wait({fast, slow, never}, return_when=asyncio.FIRST_COMPLETED)
    print("first completed: %s; %d pending" % (names(done), len(pending)))

    done, pending = await asyncio.wait(pending, timeout=0.01)
    print("after a short timeout: %s; %d pending" % (names(done), len(pending)))

    later.set()
    done, pending = await asyncio.wait(pending - {never})
    print("all but one: %s; %d pending" % (names(done), len(pending)))

    never.cancel()
    done, pending = await asyncio.wait({never})
    print("cancelled, and so done:", never in done and never.cancelled())


if __name__ == "__main__":
    asyncio.run(main())
