# needs: aiohttp
import asyncio

from aiohttp import web


async def loop(request):
    kind = type(asyncio.get_running_loop())
    return web.Response(text=kind.__module__ + "." + kind.__qualname__)


app = web.Application()
app.add_routes([web.get("/loop", loop)])
