"""WebSockets: what one client sends, all clients get. Needs `pip install websockets`.

    python -m cloop examples/websocket_broadcast.py --port 8765
    python -m websockets ws://127.0.0.1:8765/

broadcast() writes to all without waiting for any; a client that does not answer the library's pings is dropped.
"""

import argparse
import asyncio
import json
import signal
import socket
from typing import Set

from websockets.asyncio.server import ServerConnection, broadcast, serve


class Room:
    def __init__(self) -> None:
        self.clients: Set[ServerConnection] = set()

    def tell(self, **message: object) -> None:
        broadcast(self.clients, json.dumps(message))

    async def serve(self, client: ServerConnection) -> None:
        self.clients.add(client)
        self.tell(event="joined", clients=len(self.clients))
        try:
            async for text in client:
                self.tell(event="said", text=text if isinstance(text, str) else text.decode(errors="replace"))
        finally:
            self.clients.remove(client)
            self.tell(event="left", clients=len(self.clients))


async def main(host: str, port: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    listener = socket.create_server((host, port))
    async with serve(Room().serve, sock=listener, max_size=64 * 1024):
        print("listening on %s:%d" % listener.getsockname()[:2], flush=True)
        await stop.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A WebSocket server. SIGTERM or Ctrl-C ends it.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8765)
    options = parser.parse_args()
    asyncio.run(main(options.host, options.port))
