# needs: aiosqlite
import asyncio

import aiosqlite


def name():
    kind = type(asyncio.get_running_loop())
    return kind.__module__ + "." + kind.__qualname__


async def main():
    async with aiosqlite.connect(":memory:") as database:
        async with database.execute("SELECT ?", [name()]) as cursor:
            print((await cursor.fetchone())[0])
