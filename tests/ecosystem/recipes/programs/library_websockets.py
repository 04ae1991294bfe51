# needs: websockets
import asyncio

import websockets


def name():
    kind = type(asyncio.get_running_loop())
    return kind.__module__ + "." + kind.__qualname__


async def answer(connection):
    async for _ in connection:
        await connection.send(name())


async def main():
    async with websockets.serve(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with websockets.connect("ws://127.0.0.1:%d" % port) as connection:
            await connection.send("which loop?")
            print(await connection.recv())
