"""HTTP/1.1 servers: keep-alive GET requests, answered with 13 bytes unless the row says otherwise."""

import asyncio
import contextlib
import json

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


async def start_uvicorn(loop, sock, app, http="httptools", ws="none"):
    require("httptools" if http == "httptools" else "h11")
    uvicorn = require("uvicorn")
    config = uvicorn.Config(app, http=http, ws=ws, lifespan="off", log_config=None, access_log=False)

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self):  # the benchmark's own, or another interpreter's
            yield

    server = Server(config)
    serving = loop.create_task(server.serve(sockets=[sock]))
    while not server.started:
        if serving.done():
            serving.result()
        await asyncio.sleep(0.001)
    return serving


@served("http", CONNECTIONS, floor="http", reach=1.6)
async def http_uvicorn(loop, sock):
    """One request to uvicorn with httptools, and a bare ASGI application; 100 connections."""
    return await start_uvicorn(loop, sock, application)


@served("http", CONNECTIONS, floor="http")
async def http_uvicorn_h11(loop, sock):
    """One request to uvicorn with h11, and a bare ASGI application; 100 connections."""
    return await start_uvicorn(loop, sock, application, "h11")


async def respond(send, kind, body):
    headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@served("http", CONNECTIONS)
async def http_uvicorn_json(loop, sock):
    """One request to uvicorn with httptools, answered by an object in JSON; 100 connections."""

    async def answer(scope, receive, send):
        value = {"message": "Hello, world!", "path": scope["path"], "numbers": list(range(20)), "nested": {"a": None}}
        await respond(send, b"application/json", json.dumps(value).encode())

    return await start_uvicorn(loop, sock, answer)


@served("http", CONNECTIONS)
async def http_uvicorn_10k(loop, sock):
    """One request to uvicorn with httptools, answered by a body of 10 KiB; 100 connections."""
    body = bytes(i % 251 for i in range(10 * 1024))

    async def answer(scope, receive, send):
        await respond(send, b"application/octet-stream", body)

    return await start_uvicorn(loop, sock, answer)


@served("http", CONNECTIONS)
async def http_uvicorn_stream(loop, sock):
    """One request to uvicorn with httptools, answered by 10 chunks of 1 KiB; 100 connections."""
    chunk = b"x" * 1024

    async def answer(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        for _ in range(10):
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    return await start_uvicorn(loop, sock, answer)


@served("websocket", CONNECTIONS, 1024)
async def websocket_uvicorn(loop, sock):
    """One WebSocket message of 1 KiB echoed by an ASGI application on uvicorn with websockets; 100 connections."""
    require("websockets")

    async def echo(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        while True:
            message = await receive()
            if message["type"] != "websocket.receive":
                return
            await send({"type": "websocket.send", "bytes": message["bytes"]})

    return await start_uvicorn(loop, sock, echo, ws="websockets-sansio")


@served("http", CONNECTIONS)
async def http_starlette_thread(loop, sock):
    """One request to Starlette on uvicorn, whose endpoint is a function that runs in a thread; 100 connections."""
    applications = require("starlette.applications")
    responses = require("starlette.responses")
    routing = require("starlette.routing")

    def endpoint(request):
        return responses.PlainTextResponse(BODY)

    return await start_uvicorn(loop, sock, applications.Starlette(routes=[routing.Route("/", endpoint)]))


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
