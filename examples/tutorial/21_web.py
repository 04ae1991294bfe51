"""An aiohttp web server: one thread serves many users, since each handler waits without blocking the others.

The program asks itself, as thirty browsers would, and stops. Needs `pip install aiohttp`.

Try: `--port 8080`, and http://127.0.0.1:8080/hello/you in a browser. Replace asyncio.sleep() by time.sleep().
"""

import argparse
import asyncio

import aiohttp
from aiohttp import web


async def index(request: web.Request) -> web.Response:
    await asyncio.sleep(0.05)
    return web.Response(text="<h1>Index</h1>", content_type="text/html")


async def hello(request: web.Request) -> web.Response:
    await asyncio.sleep(0.05)
    return web.Response(text="<h1>Hello, %s!</h1>" % request.match_info["name"], content_type="text/html")


def make_app() -> web.Application:
    app = web.Application()
    app.add_routes([web.get("/", index), web.get("/hello/{name}", hello)])
    return app


async def get(session: aiohttp.ClientSession, url: str) -> str:
    async with session.get(url) as response:
        return "%d %s" % (response.status, await response.text())


async def main(port: int) -> None:
    runner = web.AppRunner(make_app())
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        if port:
            print("http://127.0.0.1:%d/ until Ctrl-C" % port)
            await asyncio.Event().wait()
        url = "http://127.0.0.1:%d" % runner.addresses[0][1]
        loop = asyncio.get_running_loop()
        async with aiohttp.ClientSession() as session:
            for path in ("/", "/hello/world", "/nothing"):
                print("GET %s: %s" % (path, await get(session, url + path)))
            start = loop.time()
            await asyncio.gather(*[get(session, "%s/hello/%d" % (url, number)) for number in range(30)])
            print("thirty answers of 0.05 s each took less than a second:", loop.time() - start < 1)
    finally:
        await runner.cleanup()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0, help="serve on this port until Ctrl-C")
    try:
        asyncio.run(main(parser.parse_args().port))
    except KeyboardInterrupt:
        pass
