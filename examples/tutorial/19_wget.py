"""wget: several pages fetched at once, by HTTP over streams.

The server is part of the program: it answers after a while, as servers do, so that requests overlap. The headers are
read line by line, the body by its length.

Try: `example.org` as an argument, if you are online. More pages. Why does it not take longer?
"""

import argparse
import asyncio
from typing import List


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    request = (await reader.readuntil(b"\r\n\r\n")).decode()
    path = request.split()[1]
    await asyncio.sleep(0.05)
    body = "this is %s\n" % path
    writer.write(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % len(body))
    writer.write(body.encode())
    await writer.drain()
    writer.close()


async def wget(host: str, port: int, path: str) -> List[str]:
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"GET %s HTTP/1.0\r\nHost: %s\r\n\r\n" % (path.encode(), host.encode()))
    lines: List[str] = []
    length = 0
    while True:
        line = (await reader.readline()).decode("latin-1").rstrip()
        if not line:
            break
        name, _, value = line.partition(":")
        if name.lower() == "content-length":
            length = int(value)
        lines.append("header > " + line)
    body = await (reader.readexactly(length) if length else reader.read())
    lines.append("%d bytes" % len(body))
    writer.close()
    return lines


async def main(host: str) -> None:
    if host:
        print("\n".join(await wget(host, 80, "/")))
        return
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    loop = asyncio.get_running_loop()
    start = loop.time()
    paths = ["/", "/news", "/weather/today"]
    for path, lines in zip(paths, await asyncio.gather(*[wget("127.0.0.1", port, path) for path in paths])):
        print("%s\n  %s" % (path, "\n  ".join(lines)))
    await asyncio.gather(*[wget("127.0.0.1", port, "/%d" % number) for number in range(20)])
    print("23 pages of 0.05 s each took less than a second:", loop.time() - start < 1)
    server.close()
    await server.wait_closed()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("host", nargs="?", default="", help="fetch its start page instead")
    asyncio.run(main(parser.parse_args().host))
