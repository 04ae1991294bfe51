"""An HTTP/1.1 proxy: requests are forwarded, CONNECT makes a tunnel.

    python -m cloop examples/http_proxy.py --port 8080
    curl --proxy http://127.0.0.1:8080 http://example.org/

Bodies are passed on piece by piece, whatever their size. A client's connection is used for request after request; each
gets a connection to its server of its own.
"""

import argparse
import asyncio
import signal
from typing import Dict, Optional, Tuple
from urllib.parse import urlsplit

PIECE = 64 * 1024
# They concern one connection only, so they are not passed on (RFC 9110, 7.6.1). Without Expect no client waits for a 100.
OF_THE_CONNECTION = {"connection", "expect", "keep-alive", "proxy-authorization", "proxy-connection", "te", "upgrade"}


class Refused(Exception):
    """The text is the status line of the answer."""


class Head:
    """The first line of a message, and its headers by their names in lower case."""

    def __init__(self, text: str) -> None:
        first, *lines = text.split("\r\n")
        self.words = first.split(" ", 2)
        self.headers: Dict[str, str] = {}
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon or name != name.strip():
                raise ValueError("no header: %r" % line)
            name, value = name.lower(), value.strip()
            # Set-Cookie may come more than once, and is not to be joined by commas.
            joint = "\r\nset-cookie: " if name == "set-cookie" else ", "
            self.headers[name] = self.headers[name] + joint + value if name in self.headers else value

    def encode(self, first: str, **more: str) -> bytes:
        named = {name.strip().lower() for name in self.headers.get("connection", "").split(",")}
        kept = {name: self.headers[name] for name in self.headers if name not in OF_THE_CONNECTION | named}
        kept.update(more)
        lines = [first] + ["%s: %s" % item for item in kept.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


async def read_head(reader: asyncio.StreamReader) -> Head:
    head = Head((await reader.readuntil(b"\r\n\r\n")).decode("latin-1")[:-4])
    if len(head.words) < 2:
        raise ValueError("no HTTP")
    return head


async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter, size: Optional[int] = None) -> None:
    """So many bytes, or all until the end."""
    while size is None or size > 0:
        data = await source.read(PIECE if size is None else min(size, PIECE))
        if not data:
            if size is not None:
                raise ConnectionError("the body is not complete")
            return
        if size is not None:
            size -= len(data)
        sink.write(data)
        await sink.drain()


async def copy_chunks(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while True:
        line = await source.readline()
        size = int(line.split(b";")[0], 16)
        sink.write(line)
        if size == 0:
            break
        await copy(source, sink, size + 2)
    while line not in (b"\r\n", b""):  # trailers
        line = await source.readline()
        sink.write(line)
    await sink.drain()


async def copy_body(head: Head, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> bool:
    """False if the head does not say where the body ends."""
    if "transfer-encoding" in head.headers:
        if head.headers["transfer-encoding"].lower() != "chunked" or "content-length" in head.headers:
            raise ValueError("the end of the body is not certain")
        await copy_chunks(source, sink)
    elif "content-length" in head.headers:
        await copy(source, sink, int(head.headers["content-length"]))  # two that differ are no number
    else:
        return False
    return True


async def connect(host: Optional[str], port: int) -> Tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if not host:
        raise Refused("400 Bad Request")
    try:
        return await asyncio.wait_for(asyncio.open_connection(host, port, limit=PIECE), 10)
    except (OSError, asyncio.TimeoutError) as error:
        raise Refused("502 Bad Gateway") from error


async def read_answer(upstream: asyncio.StreamReader) -> Head:
    """The head of the answer itself, after those that only say that it will come."""
    try:
        while True:
            answer = await read_head(upstream)
            if not answer.words[1].startswith("1"):
                return answer
    except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
        raise Refused("502 Bad Gateway") from error


async def tunnel(head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    async def one_way(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        await copy(source, sink)
        sink.write_eof()

    host, _, port = head.words[1].rpartition(":")
    if not port.isdigit():
        raise Refused("400 Bad Request")
    upstream, to_upstream = await connect(host.strip("[]"), int(port))
    try:
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(one_way(reader, to_upstream), one_way(upstream, writer))
    finally:
        to_upstream.close()


async def forward(head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Whether the client may send another request."""
    method, target = head.words[:2]
    try:
        url = urlsplit(target)
        host, port = url.hostname, url.port or 80
    except ValueError as error:
        raise Refused("400 Bad Request") from error
    if url.scheme != "http":
        raise Refused("400 Bad Request")
    upstream, to_upstream = await connect(host, port)
    try:
        path = (url.path or "/") + ("?" + url.query if url.query else "")
        to_upstream.write(head.encode("%s %s HTTP/1.1" % (method, path), host=url.netloc, connection="close"))
        await copy_body(head, reader, to_upstream)
        answer = await read_answer(upstream)
        has_body = method != "HEAD" and answer.words[1] not in ("204", "304")
        framed = not has_body or "content-length" in answer.headers or "transfer-encoding" in answer.headers
        wanted = "close" if not framed or head.headers.get("connection", "").lower() == "close" else "keep-alive"
        writer.write(answer.encode("HTTP/1.1 " + " ".join(answer.words[1:]), connection=wanted))
        if has_body and not await copy_body(answer, upstream, writer):
            await copy(upstream, writer)
        await writer.drain()
        return wanted == "keep-alive"
    finally:
        to_upstream.close()


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await read_head(reader)
            if head.words[0] == "CONNECT":
                await tunnel(head, reader, writer)
                break
            if not await forward(head, reader, writer):
                break
    except Refused as error:
        writer.write(("HTTP/1.1 %s\r\ncontent-length: 0\r\nconnection: close\r\n\r\n" % error).encode())
    except (OSError, EOFError, ValueError, asyncio.LimitOverrunError):
        pass  # one of the two has gone, or does not speak HTTP
    except asyncio.CancelledError:
        pass  # by run(), at the end of the program: asyncio's streams would log it, before Python 3.12
    finally:
        writer.close()


async def main(host: str, port: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = await asyncio.start_server(serve, host, port, limit=PIECE)
    print("listening on %s:%d" % server.sockets[0].getsockname()[:2], flush=True)
    await stop.wait()
    server.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="An HTTP proxy. SIGTERM or Ctrl-C ends it.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    options = parser.parse_args()
    asyncio.run(main(options.host, options.port))
