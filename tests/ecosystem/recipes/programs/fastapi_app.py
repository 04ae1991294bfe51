# needs: fastapi
import asyncio

from fastapi import FastAPI, WebSocket
from fastapi.responses import PlainTextResponse

app = FastAPI()


def name():
    kind = type(asyncio.get_running_loop())
    return kind.__module__ + "." + kind.__qualname__


@app.get("/loop", response_class=PlainTextResponse)
async def loop():
    return name()


@app.websocket("/ws")
async def ws(websocket: WebSocket):
    await websocket.accept()
    await websocket.receive_text()
    await websocket.send_text(name())
    await websocket.close()
