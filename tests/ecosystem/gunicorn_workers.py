"""gunicorn's workers on the loop that the environment names, as a deployment would define them: cloop is selected when
a worker imports this module.
"""

import asyncio
import os
import warnings

import uvicorn
from aiohttp import web
from aiohttp.worker import GunicornWebWorker

USE_CLOOP = os.environ["GUNICORN_LOOP"] == "cloop"

if USE_CLOOP:
    import cloop

    with warnings.catch_warnings():  # policies are deprecated from Python 3.14 on
        warnings.simplefilter("ignore", DeprecationWarning)
        asyncio.set_event_loop_policy(cloop.EventLoopPolicy())

try:
    from uvicorn_worker import UvicornWorker
except ImportError:  # for Pythons that it does not support
    from uvicorn.workers import UvicornWorker
FACTORIES = tuple(map(int, uvicorn.__version__.split(".")[:2])) >= (0, 36)


class Uvicorn(UvicornWorker):
    loop = "cloop:new_event_loop" if USE_CLOOP else "asyncio"
    CONFIG_KWARGS = {"loop": loop if FACTORIES else "none", "http": "httptools", "lifespan": "off"}


class Aiohttp(GunicornWebWorker):
    pass


async def loop(request):
    kind = type(asyncio.get_running_loop())
    return web.Response(text=kind.__module__ + "." + kind.__qualname__)


async def echo(request):
    return web.Response(body=await request.read())


async def mirror(request):
    """Sends each piece of the body as it comes."""
    response = web.StreamResponse()
    await response.prepare(request)
    async for piece in request.content.iter_any():
        await response.write(piece)
    return response


aiohttp_app = web.Application()
aiohttp_app.add_routes([web.get("/loop", loop), web.post("/echo", echo), web.post("/mirror", mirror)])
