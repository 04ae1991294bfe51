# needs: aiohttp
import asyncio

import aiohttp
from aiohttp import web


def name():
    kind = type(asyncio.get_running_loop())
    return kind.__module__ + "." + kind.__qualname__


async def main():
    async def answer(request):
        return web.Response(text=name())

    app = web.Application()
    app.add_routes([web.get("/", answer)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with aiohttp.ClientSession() as client:
        async with client.get("http://127.0.0.1:%d/" % runner.addresses[0][1]) as response:
            print(await response.text())
    await runner.cleanup()
