# needs: nest_asyncio2
import asyncio

import nest_asyncio2 as nest


def name():
    kind = type(asyncio.get_running_loop())
    return kind.__module__ + "." + kind.__qualname__


async def main():
    nest.apply()
    loop = asyncio.get_running_loop()
    print(loop.run_until_complete(asyncio.sleep(0.001, name())))
