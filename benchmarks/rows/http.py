"""HTTP/1.1 servers: keep-alive GET requests, answered with 13 bytes."""

import asyncio

from benchmarks.registry import require
from benchmarks.served import served

CONNECTIONS = 100
BODY = b"Hello, world!"
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\n" + BODY


class Raw(asyncio.Protocol):
    """Takes each piece for a request, as the floor does."""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        if data.endswith(b"\r\n\r\n"):
            self.transport.write(RESPONSE)


@served("http", CONNECTIONS, floor="http")
async def http_raw(loop, sock):
    """One request that nothing parses, answered by a Protocol; 100 connections."""
    return await loop.create_server(Raw, sock=sock)


@served("http", CONNECTIONS, floor="http", reach=1.1)
async def http_protocol(loop, sock):
    """One request parsed by httptools, and answered by a Protocol; 100 connections."""
    httptools = require("httptools")

    class Server(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport
            self.parser = httptools.HttpRequestParser(self)

        def data_received(self, data):
            self.parser.feed_data(data)

        def on_message_complete(self):
            self.transport.write(RESPONSE)

    return await loop.create_server(Server, sock=sock)


async def application(scope, receive, send):
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"13")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": BODY})


@served("http", CONNECTIONS, floor="http", reach=1.6)
async def http_uvicorn(loop, sock):
    """One request to uvicorn with httptools, and a bare ASGI application; 100 connections."""
    require("httptools")
    uvicorn = require("uvicorn")
    config = uvicorn.Config(application, http="httptools", ws="none", lifespan="off", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    serving = loop.create_task(server.serve(sockets=[sock]))
    while not server.started:
        await asyncio.sleep(0.001)
    return serving


@served("http", CONNECTIONS, floor="http", reach=1.18)
async def http_aiohttp(loop, sock):
    """One request to an aiohttp application with a single route; 100 connections."""
    web = require("aiohttp.web")

    async def hello(request):
        return web.Response(body=BODY, content_type="text/plain")

    app = web.Application()
    app.router.add_get("/", hello)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.SockSite(runner, sock).start()
    return runner
