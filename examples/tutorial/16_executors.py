"""Executors: calls that block go to threads, calls that compute go to processes, and the loop goes on.

A function that does not await stops everything else on the loop until it returns. run_in_executor() has it called
elsewhere and gives a future. From a thread, call_soon_threadsafe() is the one way back to the loop.

Try: call `block` directly instead of through the executor. Who rings the bell now?
"""

import asyncio
import concurrent.futures
import threading


def block(bell: threading.Event) -> str:
    """Waits as a library does that knows nothing of asyncio, for three seconds at most."""
    heard = bell.wait(3)
    return "on the loop's thread: %s, heard the bell: %s" % (
        threading.current_thread() is threading.main_thread(),
        heard,
    )


def compute(limit: int) -> int:
    return sum(number * number for number in range(limit))


async def ring(bell: threading.Event) -> None:
    await asyncio.sleep(0.05)
    bell.set()


async def main() -> None:
    loop = asyncio.get_running_loop()

    bell = threading.Event()
    ringing = asyncio.create_task(ring(bell))
    print("blocked:", await loop.run_in_executor(None, block, bell))
    await ringing

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
