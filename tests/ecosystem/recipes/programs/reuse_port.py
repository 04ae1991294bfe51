"""One of several processes on a port: answers with the numbers of the process and of the core that it runs on. Process N is on
core N, and listens when the one before it does."""

import asyncio
import os
import signal
import sys

from steering import steer_by_core

import cloop

number, processes, core, steering = map(int, sys.argv[1:])


class Protocol(asyncio.Protocol):
    def connection_made(self, transport):
        kind = type(asyncio.get_running_loop())
        transport.write(("%s %d" % (kind.__module__ + "." + kind.__qualname__, number)).encode())
        transport.close()


async def main():
    loop = asyncio.get_running_loop()
    os.sched_setaffinity(0, {core})
    ended = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    # THE BLOCK
    if steering:
        steer_by_core(server.sockets[0], processes)  # noqa: F821
    print("listening", flush=True)
    await ended.wait()
    server.close()  # noqa: F821


cloop.run(main())
