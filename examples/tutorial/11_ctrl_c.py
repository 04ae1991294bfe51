"""Ctrl-C: it ends asyncio.run(), which cancels every task first, so that each can clean up.

Then KeyboardInterrupt comes out of run(). The loop can also be driven by hand: KeyboardInterrupt leaves
run_until_complete(), the tasks are cancelled, and the loop runs once more until they have ended.

Try: `--wait`, and press Ctrl-C yourself, twice.
"""

import argparse
import asyncio
import functools
import signal
from typing import List

cleaned: List[str] = []


async def work(name: str) -> None:
    try:
        await asyncio.sleep(3600)
    finally:
        cleaned.append(name)


async def main(wait: bool) -> None:
    tasks = [asyncio.create_task(work(name)) for name in ("reader", "writer")]
    if wait:
        then = functools.partial(print, "press Ctrl-C", flush=True)
    else:
        then = functools.partial(signal.raise_signal, signal.SIGINT)
    asyncio.get_running_loop().call_later(0.01, then)
    await asyncio.gather(*tasks)


def by_run(wait: bool) -> None:
    try:
        asyncio.run(main(wait))
    except KeyboardInterrupt:
        print("run() raised KeyboardInterrupt; cleaned up:", ", ".join(sorted(cleaned)))


def by_hand(wait: bool) -> None:
    cleaned.clear()
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(main(wait))
    except KeyboardInterrupt:
        print("the loop runs:", loop.is_running())
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        print("cancelled %d tasks; cleaned up: %s" % (len(tasks), ", ".join(sorted(cleaned))))
    finally:
        loop.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--wait", action="store_true", help="wait for Ctrl-C instead of raising the signal")
    options = parser.parse_args()
    by_run(options.wait)
    by_hand(options.wait)
