# needs: sqlalchemy asyncpg aiosqlite greenlet
import asyncio
import os

from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine


def name():
    kind = type(asyncio.get_running_loop())
    return kind.__module__ + "." + kind.__qualname__


async def main():
    for url in ("sqlite+aiosqlite://", os.environ["POSTGRES"].replace("postgresql:", "postgresql+asyncpg:")):
        engine = create_async_engine(url)
        async with engine.connect() as connection:
            result = await connection.execute(text("SELECT CAST(:name AS VARCHAR)"), {"name": name()})
            answer = result.scalar_one()
        await engine.dispose()
        print(answer)
