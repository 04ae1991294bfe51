"""The websockets library, client and server in one loop."""

import asyncio
import contextlib
import os

import pytest

pytest.importorskip("websockets")
# The package's older implementation is deprecated.
client = pytest.importorskip("websockets.asyncio.client")
server = pytest.importorskip("websockets.asyncio.server")
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK  # noqa: E402

PLENTY = 32 * 1024 * 1024  # more than sockets and transports keep


async def echo(connection):
    async for message in connection:
        await connection.send(message)


@pytest.fixture(params=["tcp", "unix"])
def serving(request, tmp_path, monkeypatch):
    """A context with a server of the given handler: the server, and a function that connects to it."""
    monkeypatch.chdir(tmp_path)  # the path of the socket is short

    @contextlib.asynccontextmanager
    async def serving(handler, **options):
        options.setdefault("max_size", 2 * PLENTY)
        if request.param == "unix":
            listening = server.unix_serve(handler, "socket", **options)
        else:
            listening = server.serve(handler, "127.0.0.1", 0, **options)
        async with listening as served:
            url = "ws://localhost"
            if request.param == "tcp":
                url = "ws://127.0.0.1:%d" % served.sockets[0].getsockname()[1]

            def connect(**options):
                options.setdefault("max_size", 2 * PLENTY)
                if request.param == "unix":
                    return client.unix_connect("socket", url, **options)
                return client.connect(url, **options)

            yield served, connect

    return serving


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_echo(run, serving, compression):
    async def main():
        async with serving(echo, compression=compression) as (_, connect):
            async with connect(compression=compression) as connection:
                for size in (0, 1, 125, 126, 65535, 65536, 3 * 1024 * 1024):
                    for message in (os.urandom(size), "ß" * size):
                        await connection.send(message)
                        assert await connection.recv() == message
                await connection.send(iter(["in ", "three ", "frames"]))
                assert await connection.recv() == "in three frames"
                assert await (await connection.ping()) >= 0

    run(main())


def test_many_connections(run, serving):
    async def main():
        async with serving(echo) as (_, connect):

            async def talk(number):
                async with connect() as connection:
                    for turn in range(20):
                        await connection.send("%d-%d" % (number, turn))
                    for turn in range(20):
                        assert await connection.recv() == "%d-%d" % (number, turn)

            await asyncio.gather(*[talk(number) for number in range(100)])

    run(main())


def test_sender_waits_for_a_slow_reader(run, serving):
    sent = 0

    async def main():
        async def flood(connection):
            nonlocal sent
            while sent < PLENTY:
                await connection.send(b"x" * 65536)
                sent += 65536

        async with serving(flood, compression=None) as (_, connect):
            async with connect(compression=None) as connection:
                received = len(await connection.recv())
                assert sent < PLENTY
                with pytest.raises(ConnectionClosedOK):
                    while True:
                        received += len(await connection.recv())
                assert received == sent == PLENTY

    run(main())


def test_cancelled_recv_loses_nothing(run, serving):
    async def main():
        async with serving(echo) as (_, connect), connect() as connection:
            for number in range(100):
                receiving = asyncio.ensure_future(connection.recv())
                await connection.send(str(number))
                for _ in range(number % 10):
                    await asyncio.sleep(0)
                receiving.cancel()
                try:
                    assert await receiving == str(number)
                except asyncio.CancelledError:
                    assert await connection.recv() == str(number)

    run(main())


def test_server_closes(run, serving):
    async def main():
        async with serving(echo) as (served, connect), connect() as connection:
            served.close()
            with pytest.raises(ConnectionClosedOK) as caught:
                await connection.recv()
            assert caught.value.rcvd.code == 1001
            await served.wait_closed()
            with pytest.raises(OSError):
                await connect()

    run(main())


def test_peer_vanishes(run, serving):
    async def main():
        ended = asyncio.get_running_loop().create_future()

        async def wait(connection):
            try:
                await connection.recv()
            except Exception as error:
                ended.set_result(type(error))

        async with serving(wait) as (_, connect), connect() as connection:
            connection.transport.abort()
            assert await ended is ConnectionClosedError

    run(main())


def test_opening_times_out(run, serving):
    """The server accepts, and never answers."""

    async def main():
        never = asyncio.Event()

        async def hang(connection, request):
            await never.wait()

        async with serving(echo, process_request=hang) as (_, connect):
            with pytest.raises((TimeoutError, asyncio.TimeoutError)):
                await connect(open_timeout=0.05)
            never.set()

    run(main())
