"""A semaphore with an aiohttp client: a hundred requests, but no more than ten at a time.

Servers do not like to be asked for everything at once. A semaphore lets so many in and makes the others wait. The
server is part of the program and counts how many it sees at the same time. Needs `pip install aiohttp`.

Try: other limits. Without the semaphore, how many does the server see? (A session has a limit, too.)
"""

import asyncio

import aiohttp
from aiohttp import web


class Crowd:
    """A server that knows how many requests it has at a time."""

    def __init__(self) -> None:
        self.now = self.most = 0

    async def answer(self, request: web.Request) -> web.Response:
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.005)
        self.now -= 1
        return web.Response(text="page %s" % request.match_info["number"])


async def fetch(session: aiohttp.ClientSession, semaphore: asyncio.Semaphore, url: str) -> str:
    async with semaphore:
        async with session.get(url) as response:
            return await response.text()


async def main() -> None:
    crowd = Crowd()
    app = web.Application()
    app.router.add_get("/{number}", crowd.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = "http://127.0.0.1:%d/" % runner.addresses[0][1]

    semaphore = asyncio.Semaphore(10)
    async with aiohttp.ClientSession() as session:
        pages = await asyncio.gather(*[fetch(session, semaphore, url + str(number)) for number in range(100)])
    print("%d pages, from %r to %r" % (len(pages), pages[0], pages[-1]))
    print("more than ten at once:", crowd.most > 10)
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main())
