# needs: arq
import asyncio
import os

from arq import create_pool
from arq.connections import RedisSettings

redis = RedisSettings(port=int(os.environ["REDIS"]))


async def job(context):
    await asyncio.sleep(0.001)
    kind = type(asyncio.get_running_loop())
    return kind.__module__ + "." + kind.__qualname__


class WorkerSettings:
    functions = [job]
    redis_settings = redis
    poll_delay = 0.05


async def main():
    pool = await create_pool(redis)
    handle = await pool.enqueue_job("job")
    print(await handle.result(timeout=60, poll_delay=0.05))
    await pool.aclose()


if __name__ == "__main__":
    asyncio.run(main())
