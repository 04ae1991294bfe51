"""Echo in each way that asyncio has, by size of the message and number of connections.

A few are measured if nobody says which: python -m benchmarks --only 'echo_*' has all of them.
"""

from benchmarks.rows.net import KIB, BufferedEcho, Echo, accept_into, sock_echo, start_stream_server
from benchmarks.served import exchange, served

SIZES = {"64": 64, "1k": KIB, "10k": 10 * KIB, "100k": 100 * KIB, "1m": 1024 * KIB}
CONNECTIONS = (1, 10, 100, 1000, 10_000)
#: Beyond it the kernel's buffers are most of what is measured.
MOST = 128 * 1024 * KIB

#: Beside those of net.py, which have names of their own.
USUAL = {
    ("protocol", "64", 10),
    ("protocol", "1k", 1000),
    ("protocol", "1m", 1),
    ("buffered", "100k", 10),
    ("buffered", "1m", 1),
    ("streams", "64", 1),
    ("streams", "1k", 1000),
    ("streams", "1m", 1),
    ("sock", "64", 10),
    ("sock", "1k", 1000),
    ("sock", "1m", 1),
}


def protocol(size):
    async def serve(loop, sock):
        return await loop.create_server(Echo, sock=sock)

    return serve


def buffered(size):
    async def serve(loop, sock):
        return await loop.create_server(BufferedEcho, sock=sock)

    return serve


def streams(size):
    async def serve(loop, sock):
        return await start_stream_server(sock, lambda reader: reader.readexactly(size))

    return serve


def sock(size):
    async def serve(loop, sock):
        return loop.create_task(accept_into(loop, sock, sock_echo(min(size, 256 * KIB))))

    return serve


WAYS = {
    "protocol": (protocol, "a Protocol"),
    "buffered": (buffered, "a BufferedProtocol"),
    "streams": (streams, "readexactly(), write() and drain()"),
    "sock": (sock, "sock_recv() and sock_sendall()"),
}

for way, (make, by) in WAYS.items():
    for title, size in SIZES.items():
        for connections in CONNECTIONS:
            if size * connections <= MOST:
                served(
                    *exchange(connections, size),
                    floor="echo",
                    batch=connections,
                    name="echo_{}_{}_{}".format(way, title, connections),
                    operation="One message of {:,} bytes echoed by {}; connections: {:,}.".format(
                        size, by, connections
                    ),
                    size=("echo {} {}".format(way, title), connections),
                    default=(way, title, connections) in USUAL,
                )(make(size))
