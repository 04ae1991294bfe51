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
        victim = next(iter((await client.run(os.getpid)).values()))
        print("kill %d, please" % victim, flush=True)
        total = client.submit(sum, client.map(square, range(1000)))
        assert await total == sum(n * n for n in range(1000))
        pids = [victim]
        while len(pids) < 2 or victim in pids:  # its nanny starts another
            await asyncio.sleep(0.05)
            pids = (await client.run(os.getpid, on_error="ignore")).values()
        print("loops afterwards:", set((await client.run(name_of)).values()))


if __name__ == "__main__":
    asyncio.run(main())
