"""Executors: calls that block go to threads, calls that compute go to processes, and the loop goes on.

A function that does not await stops everything else on the loop until it returns. run_in_executor() has it called
elsewhere and gives a future. From a thread, call_soon_threadsafe() is the one way back to the loop.

Try: call `block` directly instead of through the executor. How often does `heartbeat` run?
"""

import asyncio
import concurrent.futures
import threading
import time


def block(seconds: float) -> str:
    """As a library does that knows nothing of asyncio."""
    time.sleep(seconds)
    return "on the loop's thread: %s" % (threading.current_thread() is threading.main_thread())


def compute(limit: int) -> int:
    return sum(number * number for number in range(limit))


async def heartbeat(beats: "asyncio.Queue[int]") -> None:
    beat = 0
    while True:
        beat += 1
        beats.put_nowait(beat)
        await asyncio.sleep(0.001)


async def main() -> None:
    loop = asyncio.get_running_loop()

    beats: "asyncio.Queue[int]" = asyncio.Queue()
    heart = asyncio.create_task(heartbeat(beats))
    print("in a thread,", await loop.run_in_executor(None, block, 0.2))
    heart.cancel()
    print("the heart beat on meanwhile:", beats.qsize() > 1)

    with concurrent.futures.ProcessPoolExecutor(1) as pool:
        print("in a process:", await loop.run_in_executor(pool, compute, 1000))

    called = asyncio.Event()
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(called.set,))
    thread.start()
    await called.wait()
    thread.join()
    print("a thread woke the loop")


if __name__ == "__main__":
    asyncio.run(main())
