# needs: quart
import asyncio

from quart import Quart, websocket

app = Quart(__name__)


def name():
    kind = type(asyncio.get_running_loop())
    return kind.__module__ + "." + kind.__qualname__


@app.get("/loop")
async def loop():
    return name()


@app.websocket("/ws")
async def ws():
    await websocket.receive()
    await websocket.send(name())
