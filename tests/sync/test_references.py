"""No body keeps a reference: many rounds of each primitive leave as many objects and references as before."""

import asyncio
import gc
import sys

import pytest

ROUNDS = 200


async def both(*coros):
    return await asyncio.gather(*coros, return_exceptions=True)


async def cancelled(coro):
    """Cancels the coroutine while it waits."""
    task = asyncio.ensure_future(coro)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])


async def locks():
    lock = asyncio.Lock()

    async def hold():
        async with lock:
            await asyncio.sleep(0)

    await both(hold(), hold(), cancelled(hold()), hold(), lock.acquire())
    try:
        lock.release()
        lock.release()
    except RuntimeError:
        pass
    lock.acquire().close()


async def events():
    event = asyncio.Event()
    waiting = both(event.wait(), event.wait(), cancelled(event.wait()))
    asyncio.get_running_loop().call_later(0.0001, event.set)
    await waiting
    await event.wait()
    event.clear()
    coro = event.wait()
    coro.send(None)
    coro.close()


async def semaphores():
    for semaphore in asyncio.Semaphore(1), asyncio.BoundedSemaphore(1):

        async def hold(semaphore=semaphore):
            async with semaphore:
                await asyncio.sleep(0)

        await both(hold(), hold(), cancelled(hold()), hold(), cancelled(hold()))
        try:
            semaphore.release()
        except ValueError:
            pass


async def conditions():
    condition = asyncio.Condition()
    asked = []

    async def wait():
        async with condition:
            await condition.wait()

    async def wait_for():
        async with condition:
            await condition.wait_for(lambda: asked)

    async def fail():
        async with condition:
            await condition.wait_for(lambda: 1 / 0)

    async def tell():
        for number in range(4):
            async with condition:
                condition.notify(2)
                await asyncio.sleep(0)
            asked.extend([1] * (number > 1))
        async with condition:
            condition.notify_all()

    await both(wait(), wait(), wait_for(), fail(), cancelled(wait()), cancelled(wait_for()), tell())
    try:
        await condition.wait()
    except RuntimeError:
        pass


async def barriers():
    barrier = asyncio.Barrier(3)

    async def member():
        async with barrier:
            pass

    await both(*[member() for _ in range(6)])
    tasks = [asyncio.ensure_future(member()) for _ in range(2)]
    await asyncio.sleep(0)
    await barrier.reset()
    await both(*tasks)
    await cancelled(member())
    tasks = [asyncio.ensure_future(member()) for _ in range(2)]
    await asyncio.sleep(0)
    await barrier.abort()
    await both(*tasks, member())


async def queues():
    for cls in asyncio.Queue, asyncio.LifoQueue, asyncio.PriorityQueue:
        queue = cls(1)

        async def use(queue=queue, cls=cls):
            await queue.put(1 if cls is asyncio.PriorityQueue else object())
            await queue.get()
            queue.task_done()

        await both(use(), use(), use(), queue.join(), cancelled(use()))
        for call in queue.get_nowait, queue.get_nowait, queue.task_done:
            try:
                call()
            except (asyncio.QueueEmpty, ValueError):
                pass
        await both(cancelled(queue.get()))
        if sys.version_info >= (3, 13):
            queue.shutdown()
            await both(queue.get(), queue.put(1))


async def sleeps():
    await asyncio.sleep(0)
    await asyncio.sleep(0.00001, object())
    await cancelled(asyncio.sleep(10))
    asyncio.sleep(1).close()


async def gathers():
    async def fail():
        raise KeyError()

    await asyncio.gather(asyncio.sleep(0), asyncio.sleep(0, 1))
    await both(fail(), asyncio.sleep(0))
    try:
        await asyncio.gather(asyncio.sleep(0), fail())
    except KeyError:
        pass
    await cancelled(asyncio.gather(asyncio.sleep(1), asyncio.sleep(1)))


async def timeouts():
    async with asyncio.timeout(10):
        await asyncio.sleep(0)
    async with asyncio.timeout(None):
        pass
    try:
        async with asyncio.timeout(0.00001):
            await asyncio.sleep(10)
    except TimeoutError:
        pass
    try:
        async with asyncio.timeout(10):
            raise KeyError()
    except KeyError:
        pass


async def connections():
    async def serve(reader, writer):
        writer.write(await reader.readline())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"x\n")
    await writer.drain()
    await reader.readline()
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()
    asyncio.open_connection("127.0.0.1", 1).close()
    await both(asyncio.open_connection("127.0.0.1", 1, ssl=5))


SCENARIOS = [locks, events, semaphores, conditions, queues, sleeps, gathers, connections]
SCENARIOS += [barriers, timeouts] if sys.version_info >= (3, 11) else []


def references():
    """Allocated blocks, and references to objects that outlive the rounds."""
    gc.collect()
    shared = [None, True, False, 0, 1, asyncio.Lock, asyncio.Event, asyncio.Queue, asyncio.Condition]
    shared += [asyncio.CancelledError, asyncio.QueueEmpty, asyncio.sleep, asyncio.gather, asyncio.Lock.acquire]
    shared += [asyncio.Task, asyncio.Future, asyncio.Semaphore]
    return [sys.getallocatedblocks()] + [sys.getrefcount(each) for each in shared]


def test_arguments_of_exit_are_not_kept(accelerate, cloop, steady):
    """They are handed over to asyncio's method, which raises."""

    async def main():
        lock = asyncio.Lock()

        async def once():
            with pytest.raises(RuntimeError):
                await lock.__aexit__(None, None, [])  # a tuple that the collector knows

        await steady(once)

    cloop.run(main())


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_rounds_leave_nothing(accelerate, cloop, scenario):
    loop = cloop.new_event_loop()
    loop.set_exception_handler(lambda *_: None)

    async def rounds():
        for _ in range(ROUNDS):
            await scenario()

    def grown():
        before = references()
        loop.run_until_complete(rounds())
        return [after - was for after, was in zip(references(), before)]

    try:
        loop.run_until_complete(rounds())
        least = [min(each) for each in zip(*[grown() for _ in range(4)])]
    finally:
        loop.close()
    assert max(least) < ROUNDS // 2, least
