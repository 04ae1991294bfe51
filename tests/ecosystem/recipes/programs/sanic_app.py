# needs: sanic
import asyncio

from sanic import Sanic
from sanic.response import text

app = Sanic("recipe")


@app.get("/loop")
async def loop(request):
    kind = type(asyncio.get_running_loop())
    return text(kind.__module__ + "." + kind.__qualname__)
