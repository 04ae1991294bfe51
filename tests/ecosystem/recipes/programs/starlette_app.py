# needs: starlette
import asyncio

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute


def name():
    kind = type(asyncio.get_running_loop())
    return kind.__module__ + "." + kind.__qualname__


async def loop(request):
    return PlainTextResponse(name())


async def ws(websocket):
    await websocket.accept()
    await websocket.receive_text()
    await websocket.send_text(name())
    await websocket.close()


app = Starlette(routes=[Route("/loop", loop), WebSocketRoute("/ws", ws)])
