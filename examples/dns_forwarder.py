"""A DNS forwarder over UDP: passes questions to a server and answers back to whoever asked.

    python -m cloop examples/dns_forwarder.py --port 5353 --upstream 192.0.2.53:53
    dig -p 5353 @127.0.0.1 example.org

The server to ask is one of /etc/resolv.conf, for example.

Many questions are under way at once, on one socket, each under a random number of its own: an answer that has another
number, or another question, is dropped.
"""

import argparse
import asyncio
import secrets
import signal
from typing import Any, Dict, Optional, Tuple, cast

HEADER = 12  # bytes; the first two are the number, the question follows
Address = Tuple[Any, ...]


def question_of(message: bytes) -> bytes:
    """Name, type and class, in lower case."""
    end = HEADER
    while end < len(message) and message[end] and message[end] < 64:
        end += 1 + message[end]
    return message[HEADER : end + 5].lower()


class Question:
    def __init__(self, message: bytes, client: Address, timer: asyncio.TimerHandle) -> None:
        self.number = message[:2]
        self.text = question_of(message)
        self.client = client
        self.timer = timer


class Upstream(asyncio.DatagramProtocol):
    """The socket that is connected to the server: it takes datagrams from nobody else."""

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.pending: Dict[bytes, Question] = {}
        self.transport: Optional[asyncio.DatagramTransport] = None
        self.clients: Optional[asyncio.DatagramTransport] = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def ask(self, message: bytes, client: Address) -> None:
        if self.transport is None or len(message) < HEADER or len(self.pending) > 10000:
            return
        number = secrets.token_bytes(2)
        while number in self.pending:
            number = secrets.token_bytes(2)
        timer = asyncio.get_running_loop().call_later(self.timeout, self.pending.pop, number)
        self.pending[number] = Question(message, client, timer)
        self.transport.sendto(number + message[2:])

    def datagram_received(self, data: bytes, addr: Address) -> None:
        question = self.pending.get(data[:2])
        if question is None or question_of(data) != question.text or self.clients is None:
            return
        del self.pending[data[:2]]
        question.timer.cancel()
        self.clients.sendto(question.number + data[2:], question.client)

    def error_received(self, exc: Exception) -> None:
        """Nobody listens there: the client will ask again."""


class Clients(asyncio.DatagramProtocol):
    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.upstream.clients = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Address) -> None:
        self.upstream.ask(data, addr)


async def main(host: str, port: int, server: str, timeout: float) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    upstream_host, _, upstream_port = server.rpartition(":")
    upstream = Upstream(timeout)
    to_server, _ = await loop.create_datagram_endpoint(
        lambda: upstream, remote_addr=(upstream_host, int(upstream_port))
    )
    to_clients, _ = await loop.create_datagram_endpoint(lambda: Clients(upstream), local_addr=(host, port))
    print("listening on %s:%d" % to_clients.get_extra_info("sockname")[:2], flush=True)
    await stop.wait()
    for transport in (to_clients, to_server):
        transport.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A DNS forwarder. SIGTERM or Ctrl-C ends it.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=5353)
    parser.add_argument("--upstream", required=True, metavar="HOST:PORT", help="the server that knows")
    parser.add_argument("--timeout", type=float, default=5, help="seconds")
    options = parser.parse_args()
    asyncio.run(main(options.host, options.port, options.upstream, options.timeout))
