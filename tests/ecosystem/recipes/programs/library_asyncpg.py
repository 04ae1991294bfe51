# needs: asyncpg
import asyncio
import os

import asyncpg


def name():
    kind = type(asyncio.get_running_loop())
    return kind.__module__ + "." + kind.__qualname__


async def main():
    async with asyncpg.create_pool(os.environ["POSTGRES"], min_size=2, max_size=2) as pool:
        print(await pool.fetchval("SELECT $1::text", name()))
