"""The ASGI application that uvicorn serves."""

import asyncio
import os


async def read_body(receive):
    while True:
        event = await receive()
        yield event.get("body", b"")
        if not event.get("more_body"):
            return


async def respond(send, body):
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def app(scope, receive, send):
    if scope["type"] == "http":
        name = scope["path"][1:]
        if name in PATHS:
            await PATHS[name](scope, receive, send)
    elif scope["type"] == "websocket":
        await echo_messages(receive, send)


async def loop(scope, receive, send):
    kind = type(asyncio.get_running_loop())
    await respond(send, (kind.__module__ + "." + kind.__qualname__).encode())


async def pid(scope, receive, send):
    await respond(send, b"%d" % os.getpid())


async def echo(scope, receive, send):
    await respond(send, b"".join([part async for part in read_body(receive)]))


async def mirror(scope, receive, send):
    """Sends each piece of the body as it comes."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    async for part in read_body(receive):
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def big(scope, receive, send):
    """As many MiB as the query says."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for number in range(16 * int(scope["query_string"])):
        await send({"type": "http.response.body", "body": bytes([number % 251]) * 65536, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def silent(scope, receive, send):
    """Sends no response while the client waits."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def block(scope, receive, send):
    """Blocks the process: reports so through one named pipe, and waits for the other."""
    folder = scope["query_string"].decode()
    with open(folder + "/busy", "wb") as file:
        file.write(b"%d" % os.getpid())
    with open(folder + "/go", "rb") as file:
        file.read()
    await respond(send, b"")


def wait_for(go):
    """Blocks the process until a byte comes through the named pipe."""
    assert go.read(1) == b"."


async def stream(scope, receive, send):
    """Three pieces, each followed by a wait for a byte from the named pipe in the query: in the loop's thread, like a
    blocking generator.
    """
    await send({"type": "http.response.start", "status": 200, "headers": []})
    with open(scope["query_string"], "rb", 0) as go:
        for number in range(3):
            await send({"type": "http.response.body", "body": b"piece %d\n" % number, "more_body": True})
            wait_for(go)
    await send({"type": "http.response.body", "body": b""})


async def events(scope, receive, send):
    """The same as server-sent events, of two writes each, from a handler that also awaits."""
    headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    with open(scope["query_string"], "rb", 0) as go:
        for number in range(3):
            for line in (b"event: token\n", b"data: piece %d\n\n" % number):
                await send({"type": "http.response.body", "body": line, "more_body": True})
            await asyncio.sleep(0)
            wait_for(go)
    await send({"type": "http.response.body", "body": b""})


async def echo_messages(receive, send):
    while True:
        event = await receive()
        if event["type"] == "websocket.connect":
            await send({"type": "websocket.accept"})
        elif event["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": event.get("text"), "bytes": event.get("bytes")})
        else:
            return


PATHS = {function.__name__: function for function in (loop, pid, echo, mirror, big, silent, block, stream, events)}
