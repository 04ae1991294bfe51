# needs: zmq
import asyncio

import zmq
import zmq.asyncio


def name():
    kind = type(asyncio.get_running_loop())
    return kind.__module__ + "." + kind.__qualname__


async def main():
    context = zmq.asyncio.Context()
    server, client = context.socket(zmq.REP), context.socket(zmq.REQ)
    port = server.bind_to_random_port("tcp://127.0.0.1")
    client.connect("tcp://127.0.0.1:%d" % port)

    async def answer():
        for number in range(200):
            assert await server.recv() == b"%d" % number
            await server.send_string(name())

    task = asyncio.ensure_future(answer())
    for number in range(200):
        await client.send(b"%d" % number)
        text = await client.recv_string()
    await task
    server.close()
    client.close()
    context.term()
    print(text)
