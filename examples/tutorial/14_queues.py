"""Queues: some tasks put, others take, and nobody runs too far ahead.

put() waits while the queue is full, get() while it is empty. join() waits until task_done() was said of every item,
which is how the program knows that it may cancel the workers.

Try: three workers. A queue without a limit. asyncio.PriorityQueue, and the biggest job first.
"""

import asyncio
from typing import List


async def produce(queue: "asyncio.Queue[int]") -> None:
    for number in range(1, 6):
        await queue.put(number)
        print("put %d, %d in the queue" % (number, queue.qsize()))


async def consume(queue: "asyncio.Queue[int]", squares: List[int]) -> None:
    while True:
        number = await queue.get()
        await asyncio.sleep(0.001)
        squares.append(number * number)
        queue.task_done()


async def main() -> None:
    queue: "asyncio.Queue[int]" = asyncio.Queue(maxsize=2)
    squares: List[int] = []
    try:
        queue.get_nowait()
    except asyncio.QueueEmpty:
        print("nothing to get yet")
    await queue.put(0)
    worker = asyncio.create_task(consume(queue, squares))
    await produce(queue)
    await queue.join()
    print("all done:", squares)
    worker.cancel()
    try:
        await worker
    except asyncio.CancelledError:
        print("the worker was cancelled")


if __name__ == "__main__":
    asyncio.run(main())
