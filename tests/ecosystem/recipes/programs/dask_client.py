# needs: distributed
import asyncio
import os

from distributed import Client


def name():
    kind = type(asyncio.get_running_loop())
    return kind.__module__ + "." + kind.__qualname__


async def name_of(dask_scheduler=None, dask_worker=None):
    return name()


def square(number):
    return number * number


async def main():
    async with Client(os.environ["SCHEDULER"], asynchronous=True) as client:
        await client.wait_for_workers(2, timeout=60)
        names = {name(), await client.run_on_scheduler(name_of)} | set((await client.run(name_of)).values())
        print("loops:", names)
        assert await client.gather(client.map(square, range(100))) == [n * n for n in range(100)]
        pids = await client.run(os.getpid)
        print("kill", next(iter(pids.values())), flush=True)
        while not os.path.exists("killed"):
            await asyncio.sleep(0.05)
        total = client.submit(sum, client.map(square, range(1000)))
        assert await total == sum(n * n for n in range(1000))
        await client.wait_for_workers(2, timeout=60)  # its nanny has started another
        again = await client.run(name_of)
        assert len(again) == 2 and set(again.values()) == names, again


if __name__ == "__main__":
    asyncio.run(main())
