"""Streams: an echo server and its clients, in one process.

start_server() runs a coroutine for each connection, with a reader and a writer. drain() waits if the other side does
not read as fast as you write.

Try: `--port 8888`, and talk to the server: `nc 127.0.0.1 8888`. Ctrl-C ends it.
"""

import argparse
import asyncio


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    async for line in reader:
        writer.write(line)
        await writer.drain()
    writer.close()


async def talk(name: str, port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for number in (1, 2):
        writer.write(b"%s says %d\n" % (name.encode(), number))
        await writer.drain()
        line = await reader.readline()
        assert line.decode() == "%s says %d\n" % (name, number)
    writer.write_eof()
    rest = await reader.read()
    print("%s: two answers, then %r" % (name, rest))
    writer.close()
    await writer.wait_closed()


async def main(port: int) -> None:
    server = await asyncio.start_server(echo, "127.0.0.1", port)
    async with server:
        if port:
            await server.serve_forever()
        chosen = server.sockets[0].getsockname()[1]
        for name in ("alpha", "beta"):
            await talk(name, chosen)
        await asyncio.gather(*[talk("gamma", chosen) for _ in range(3)])
    print("the server serves:", server.is_serving())


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0, help="serve on this port until Ctrl-C")
    try:
        asyncio.run(main(parser.parse_args().port))
    except KeyboardInterrupt:
        pass
