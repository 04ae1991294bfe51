# needs: psycopg
import asyncio
import os

import psycopg


def name():
    kind = type(asyncio.get_running_loop())
    return kind.__module__ + "." + kind.__qualname__


async def main():
    async with await psycopg.AsyncConnection.connect(os.environ["POSTGRES"]) as connection:
        async with connection.cursor() as cursor:
            await cursor.execute("SELECT generate_series(1, 10000)")
            assert len(await cursor.fetchall()) == 10000
            await cursor.execute("SELECT %s::text", [name()])
            print((await cursor.fetchone())[0])
