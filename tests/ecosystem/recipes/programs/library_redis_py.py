# needs: redis
import asyncio
import os

import redis.asyncio


def name():
    kind = type(asyncio.get_running_loop())
    return kind.__module__ + "." + kind.__qualname__


async def main():
    client = redis.asyncio.Redis(port=int(os.environ["REDIS"]))
    await client.set("loop", name())
    print((await client.get("loop")).decode())
    await client.aclose()
