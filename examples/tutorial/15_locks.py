"""Synchronisation: locks, events, conditions and semaphores between the tasks of one loop.

Only one task runs at a time, and others run only while it awaits. So you need a lock only if you await in the middle
of something that must not be seen half done. They are not for threads: threading has those.

Try: remove `async with lock` from `deposit`, and look at the balance.
"""

import asyncio


class Account:
    def __init__(self) -> None:
        self.balance = 0
        self.lock = asyncio.Lock()

    async def deposit(self, amount: int) -> None:
        async with self.lock:
            before = self.balance
            await asyncio.sleep(0)  # somebody else would read the balance now
            self.balance = before + amount


async def use_lock() -> None:
    account = Account()
    await asyncio.gather(*[account.deposit(1) for _ in range(100)])
    print("lock: the balance is", account.balance)


async def use_event() -> None:
    event = asyncio.Event()

    async def wait(name: str) -> None:
        await event.wait()
        print("event: %s goes" % name)

    waiters = [asyncio.create_task(wait(name)) for name in ("first", "second")]
    await asyncio.sleep(0.001)
    print("event: ready")
    event.set()
    await asyncio.gather(*waiters)


async def use_condition() -> None:
    condition = asyncio.Condition()
    stock = 0

    async def buy() -> None:
        nonlocal stock
        async with condition:
            await condition.wait_for(lambda: stock > 0)
            stock -= 1
            print("condition: sold, %d left" % stock)

    buyers = [asyncio.create_task(buy()) for _ in range(2)]
    await asyncio.sleep(0.001)
    async with condition:
        stock += 3
        condition.notify_all()
    await asyncio.gather(*buyers)


async def use_semaphore() -> None:
    semaphore = asyncio.Semaphore(3)
    inside = most = 0

    async def enter() -> None:
        nonlocal inside, most
        async with semaphore:
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0.001)
            inside -= 1

    await asyncio.gather(*[enter() for _ in range(10)])
    print("semaphore: at most %d at once" % most)


async def main() -> None:
    await use_lock()
    await use_event()
    await use_condition()
    await use_semaphore()


if __name__ == "__main__":
    asyncio.run(main())
