# needs: apscheduler.schedulers.asyncio
import asyncio

from apscheduler.schedulers.asyncio import AsyncIOScheduler


def name():
    kind = type(asyncio.get_running_loop())
    return kind.__module__ + "." + kind.__qualname__


async def main():
    done = asyncio.get_running_loop().create_future()

    async def job():
        await asyncio.sleep(0.001)
        if not done.done():
            done.set_result(name())

    scheduler = AsyncIOScheduler(timezone="UTC")
    scheduler.add_job(job, "interval", seconds=0.05)
    scheduler.start()
    print(await done)
    scheduler.shutdown()
