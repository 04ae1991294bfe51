# needs: tornado
import asyncio
import signal

import tornado.web

import cloop  # noqa: F401


class Loop(tornado.web.RequestHandler):
    async def get(self):
        kind = type(asyncio.get_running_loop())
        self.write(kind.__module__ + "." + kind.__qualname__)


async def main():
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    server = tornado.web.Application([("/loop", Loop)]).listen(PORT, "127.0.0.1")  # noqa: F821
    await ended.wait()
    server.stop()
    await server.close_all_connections()


# THE BLOCK
