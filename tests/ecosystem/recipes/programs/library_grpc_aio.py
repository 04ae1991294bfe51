# needs: grpc
import asyncio

import grpc


def name():
    kind = type(asyncio.get_running_loop())
    return kind.__module__ + "." + kind.__qualname__


async def which(request, context):
    await asyncio.sleep(0.001)
    return name().encode()


async def count(request, context):
    for number in range(100):
        yield b"%d" % number


async def main():
    server = grpc.aio.server()
    handlers = {
        "Which": grpc.unary_unary_rpc_method_handler(which),
        "Count": grpc.unary_stream_rpc_method_handler(count),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Recipe", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel("127.0.0.1:%d" % port) as channel:
        answers = await asyncio.gather(*(channel.unary_unary("/Recipe/Which")(b"") for _ in range(50)))
        assert [int(n) async for n in channel.unary_stream("/Recipe/Count")(b"")] == list(range(100))
    await server.stop(None)
    (answer,) = set(answers)
    print(answer.decode())
