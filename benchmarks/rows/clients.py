"""Clients: connections in the ways that create_connection() has, and through libraries."""

import asyncio
import contextlib
import socket

from benchmarks import load, servers
from benchmarks.registry import Skip, benchmark, require
from benchmarks.rows.net import KIB, c_server

TASKS = 10


async def connect_and_close(loop, n, *address, **options):
    for _ in range(n):
        transport, _ = await loop.create_connection(asyncio.Protocol, *address, **options)
        transport.close()


@benchmark(fixture=c_server, transports=True)
async def client_connect_local_addr(loop, n, address):
    """One create_connection(local_addr=) to a C server, and its close()."""
    await connect_and_close(loop, n, *address, local_addr=("127.0.0.1", 0))


@contextlib.contextmanager
def localhost(loop):
    """The port of a server at 127.0.0.1, where the name means another address, too."""
    known = {info[4][0] for info in socket.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)}
    if not known >= {"::1", "127.0.0.1"}:
        raise Skip("localhost is only " + ", ".join(sorted(known)))
    with c_server(loop) as address:
        yield address[1]


@benchmark(fixture=localhost, transports=True)
async def client_connect_two(loop, n, port):
    """One create_connection() to a name with two addresses, the first of which refuses; the lookup included."""
    await connect_and_close(loop, n, "localhost", port)


@contextlib.contextmanager
def two_addresses(loop):
    """The port of a C server at 127.0.0.1 and a lookup that gives two addresses, as a resolver does."""
    with c_server(loop) as address:
        family = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        answer = [(*family, ("127.0.0.1", address[1])), (*family, ("127.0.0.2", address[1]))]

        async def getaddrinfo(host, port, **options):
            return answer

        try:
            loop.getaddrinfo = getaddrinfo
        except AttributeError:
            raise Skip("its getaddrinfo() cannot be replaced") from None
        yield address[1]
        del loop.getaddrinfo


@benchmark(fixture=two_addresses, transports=True)
async def client_connect_eyeballs(loop, n, port):
    """One create_connection(happy_eyeballs_delay=) to two addresses, the first of which answers; no lookup."""
    await connect_and_close(loop, n, "host.invalid", port, happy_eyeballs_delay=0.25)


@contextlib.contextmanager
def tls_server(loop):
    ssl = require("ssl")
    _, core = load.pin()
    with load.listener("tls") as sock, load.certificate("tls") as pem:
        with load.server("reset", sock, core=core, pem=pem):
            yield sock.getsockname(), ssl.create_default_context(cafile=pem)


@benchmark(fixture=tls_server, transports=True)
async def client_connect_tls(loop, n, place):
    """One create_connection(ssl=) to a C server, its handshake, and its close()."""
    address, context = place
    for _ in range(n):
        transport, _ = await loop.create_connection(
            asyncio.Protocol, *address, ssl=context, server_hostname="localhost"
        )
        transport.close()


@contextlib.contextmanager
def echo_server(loop):
    _, core = load.pin()
    with load.listener("tcp") as sock, load.server("echo", sock, core=core):
        yield sock.getsockname()


@benchmark(fixture=echo_server, batch=TASKS, transports=True)
async def client_streams_1k(loop, n, address):
    """One message of 1 KiB to a C server and back, through the streams of open_connection(); 10 connections."""
    message = bytes(range(256)) * 4

    async def talk():
        reader, writer = await asyncio.open_connection(*address)
        for _ in range(n // TASKS):
            writer.write(message)
            await writer.drain()
            assert await reader.readexactly(KIB) == message
        writer.close()

    await asyncio.gather(*[talk() for _ in range(TASKS)])


@contextlib.contextmanager
def http_server(loop):
    _, core = load.pin()
    with load.listener("tcp") as sock, load.server("http", sock, core=core):
        yield "http://127.0.0.1:{}/".format(sock.getsockname()[1])


@benchmark(fixture=http_server, batch=TASKS, transports=True)
async def client_aiohttp(loop, n, url):
    """One GET of an aiohttp session to a C server, and its body; 10 tasks."""
    aiohttp = require("aiohttp")

    async def get(session):
        for _ in range(n // TASKS):
            async with session.get(url) as response:
                assert await response.read() == b"Hello, world!"

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*[get(session) for _ in range(TASKS)])


def database(kind, connect):
    """A fixture: what connect(port) awaits, to the real server of that kind, and closed in the end."""

    @contextlib.contextmanager
    def fixture(loop):
        with servers.beside(kind) as port:
            client, close = loop.run_until_complete(connect(port))
            yield client
            loop.run_until_complete(close())

    return fixture


async def connect_redis(port):
    client = require("redis.asyncio").Redis(host="127.0.0.1", port=port)
    await client.set("key", b"value")
    return client, client.aclose


@benchmark(fixture=database("redis", connect_redis), batch=TASKS, beside="redis", transports=True)
async def client_redis_pipeline(loop, n, client):
    """One GET, of 10 in a pipeline to a Redis server."""
    for _ in range(n // TASKS):
        async with client.pipeline(transaction=False) as pipeline:
            for _ in range(TASKS):
                pipeline.get("key")
            assert await pipeline.execute() == [b"value"] * TASKS


@benchmark(fixture=database("redis", connect_redis), beside="redis", transports=True)
async def client_redis_get(loop, n, client):
    """One GET to a Redis server."""
    for _ in range(n):
        assert await client.get("key") == b"value"


async def connect_asyncpg(port):
    asyncpg = require("asyncpg")
    client = await asyncpg.connect(host="127.0.0.1", port=port, user="postgres", database="postgres")
    return client, client.close


@benchmark(fixture=database("postgres", connect_asyncpg), beside="postgres", transports=True)
async def client_asyncpg(loop, n, client):
    """One prepared SELECT of a number, to a PostgreSQL server."""
    statement = await client.prepare("select $1::int + 1")
    for i in range(n):
        assert await statement.fetchval(i) == i + 1


@benchmark(fixture=database("postgres", connect_asyncpg), batch=100, beside="postgres", transports=True)
async def client_asyncpg_many(loop, n, client):
    """One row, of 100 that one executemany() inserts in a pipeline, into a PostgreSQL server."""
    await client.execute("create temporary table if not exists t (a int)")
    await client.execute("truncate t")
    rows = [(i,) for i in range(100)]
    for _ in range(n // 100):
        await client.executemany("insert into t values ($1)", rows)
    assert await client.fetchval("select count(*) from t") == n
