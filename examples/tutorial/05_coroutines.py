"""Coroutines and tasks: `await` runs a coroutine here and now, a task runs it beside you.

A task begins in the next turn of the loop. It runs until it awaits something that is not there yet, and meanwhile
others run. Ten sleeps side by side take no longer than one.

Try: replace asyncio.create_task(cook(...)) by cook(...) in `beside`. Who waits for whom now?
"""

import asyncio


async def cook(dish: str) -> str:
    print("  %s: on the stove" % dish)
    await asyncio.sleep(0.01)
    print("  %s: done" % dish)
    return dish


async def one_by_one() -> None:
    print("await runs the coroutine at once:")
    await cook("soup")
    await cook("rice")


async def beside() -> None:
    print("tasks run side by side:")
    soup = asyncio.create_task(cook("soup"))
    rice = asyncio.create_task(cook("rice"))
    print("  both are only scheduled so far")
    print("  the meal:", await soup, "and", await rice)


async def many() -> None:
    loop = asyncio.get_running_loop()
    start = loop.time()
    tasks = [asyncio.create_task(asyncio.sleep(0.1)) for _ in range(10)]
    for task in tasks:
        await task
    print("ten sleeps of 0.1 s together take less than a second:", loop.time() - start < 1)


async def main() -> None:
    await one_by_one()
    await beside()
    await many()


if __name__ == "__main__":
    asyncio.run(main())
