"""A tour of asyncio in one screen: tasks, timers, a TCP server, threads and a process.

It is an ordinary asyncio program and says nothing about cloop:

    python examples/hello.py                on asyncio's own loop
    python -m cloop examples/hello.py       on cloop
"""

import asyncio
import sys
import time


async def countdown(name: str, start: int, pause: float) -> str:
    for left in range(start, 0, -1):
        print("  %s %d" % (name, left))
        await asyncio.sleep(pause)
    return name


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    async for line in reader:
        writer.write(line.upper())
        await writer.drain()
    writer.close()


async def ask(port: int, text: str) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(text.encode() + b"\n")
    answer = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return answer.decode().strip()


async def main() -> None:
    loop = asyncio.get_running_loop()
    print("hello from %s.%s" % (type(loop).__module__, type(loop).__qualname__))

    print("two tasks, side by side:")
    done = await asyncio.gather(countdown("tick", 3, 0.02), countdown("tock", 3, 0.02))
    print("  done: " + " and ".join(done))

    print("a server, and three clients at once:")
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    for answer in await asyncio.gather(*[ask(port, word) for word in ("ready", "steady", "go")]):
        print("  " + answer)
    server.close()
    await server.wait_closed()

    print("a process and a thread, while the loop goes on:")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "print('six times seven is', 6 * 7)", stdout=asyncio.subprocess.PIPE
    )
    thread = loop.run_in_executor(None, time.sleep, 0.02)
    output, _ = await process.communicate()
    await thread
    print("  " + output.decode().strip())

    start = loop.time()
    for _ in range(100_000):
        await asyncio.sleep(0)
    print("100,000 turns of the loop took %.0f ms" % ((loop.time() - start) * 1000))


if __name__ == "__main__":
    asyncio.run(main())
