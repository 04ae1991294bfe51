"""redis-py with our own Redis."""

import asyncio
import contextlib
import os

import pytest

redis = pytest.importorskip("redis.asyncio")
from redis.exceptions import ConnectionError, TimeoutError, WatchError  # noqa: E402


@pytest.fixture(params=["tcp", "unix"])
def connecting(request, redis_server):
    """A context with a client of an empty database."""

    @contextlib.asynccontextmanager
    async def connecting(**options):
        if request.param == "unix":
            options["unix_socket_path"] = redis_server.path
        else:
            options.update(host=redis_server.host, port=redis_server.port)
        client = redis.Redis(**options)
        try:
            await client.flushall()
            yield client
        finally:
            await client.aclose()
            await client.connection_pool.disconnect()

    return connecting


async def until_blocked(client, count=1):
    """The server has this many clients in a blocking command."""
    while (await client.info("clients"))["blocked_clients"] != count:
        pass


@pytest.mark.parametrize("protocol", [2, 3])
def test_commands_and_big_values(run, connecting, protocol):
    async def main():
        async with connecting(protocol=protocol) as client:
            assert await client.ping()
            for size in (0, 1, 65535, 65536, 16 * 1024 * 1024):
                value = os.urandom(size)
                assert await client.set("key", value)
                assert await client.get("key") == value
            assert await client.rpush("list", *range(100000)) == 100000
            assert await client.lrange("list", 0, -1) == [b"%d" % number for number in range(100000)]
            await client.hset("hash", mapping={"a": 1, "b": 2})
            assert await client.hgetall("hash") == {b"a": b"1", b"b": b"2"}
            assert await client.eval("return ARGV[1] + 1", 0, 41) == 42
            assert {key async for key in client.scan_iter()} == {b"key", b"list", b"hash"}

    run(main())


def test_pipelines(run, connecting):
    async def main():
        async with connecting() as client:
            for transaction in (False, True):
                async with client.pipeline(transaction=transaction) as pipeline:
                    for number in range(3000):
                        pipeline.set("key-%d" % number, number)
                        pipeline.get("key-%d" % number)
                    answers = await pipeline.execute()
                assert answers[::2] == [True] * 3000
                assert answers[1::2] == [b"%d" % number for number in range(3000)]

    run(main())


def test_watched_key_changes(run, connecting):
    async def main():
        async with connecting() as client:
            async with client.pipeline() as pipeline:
                await pipeline.watch("key")
                await client.set("key", "changed")
                pipeline.multi()
                pipeline.set("key", "late")
                with pytest.raises(WatchError):
                    await pipeline.execute()
            assert await client.get("key") == b"changed"

    run(main())


def test_many_tasks_get_their_own_answers(run, connecting):
    async def main():
        async with connecting(max_connections=300) as client:

            async def ask(number):
                for turn in range(20):
                    value = b"%d-%d " % (number, turn) * (1 + number * 37 % 2000)
                    await client.set("key-%d" % number, value)
                    assert await client.get("key-%d" % number) == value

            await asyncio.gather(*[ask(number) for number in range(100)])

    run(main())


def test_publish_and_subscribe(run, connecting):
    async def main():
        async with connecting() as client, client.pubsub() as one, client.pubsub() as all_:
            await one.subscribe("news")
            await all_.psubscribe("n*")
            assert (await one.get_message(timeout=None))["type"] == "subscribe"
            assert (await all_.get_message(timeout=None))["type"] == "psubscribe"
            for number in range(1000):
                assert await client.publish("news", number) == 2
            for subscriber in (one, all_):
                for number in range(1000):
                    assert (await subscriber.get_message(timeout=None))["data"] == b"%d" % number
            assert await one.get_message(timeout=0.01) is None

    run(main())


def test_blocking_pop(run, connecting):
    async def main():
        async with connecting() as client:
            popping = asyncio.ensure_future(client.blpop("list", timeout=0))
            await until_blocked(client)
            await client.rpush("list", "value")
            assert await popping == (b"list", b"value")
            assert await client.blpop("list", timeout=0.02) is None

    run(main())


def test_cancelled_pop_takes_nothing_and_no_ones_answer(run, connecting):
    async def main():
        async with connecting() as client:
            for number in range(20):
                popping = asyncio.ensure_future(client.blpop("list", timeout=0))
                await until_blocked(client)
                popping.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await popping
                await until_blocked(client, 0)  # the server has seen that it has gone
                await client.rpush("list", number)
                assert await client.lpop("list") == b"%d" % number

    run(main())


def test_commands_cancelled_after_ever_more_turns(run, connecting):
    async def main():
        async with connecting(max_connections=300) as client:
            for number in range(100):
                await client.set("key-%d" % number, b"%d " % number * (1 + number * 371 % 30000))

            async def ask(number):
                assert await client.get("key-%d" % number) == b"%d " % number * (1 + number * 371 % 30000)

            for turns in range(60):
                tasks = [asyncio.ensure_future(ask((turns + number) % 100)) for number in range(10)]
                for _ in range(turns // 2):
                    await asyncio.sleep(0)
                for task in tasks[::2]:
                    task.cancel()
                outcomes = await asyncio.gather(*tasks, return_exceptions=True)
                assert {type(outcome) for outcome in outcomes} <= {type(None), asyncio.CancelledError}
                assert outcomes[1::2] == [None] * 5

    run(main())


def test_server_drops_the_connection(run, connecting):
    async def main():
        async with connecting(retry=None) as admin, connecting(single_connection_client=True) as client:
            number = await client.client_id()
            popping = asyncio.ensure_future(client.connection.read_response())
            await asyncio.sleep(0)
            assert await admin.client_kill_filter(_id=number) == 1
            with pytest.raises(ConnectionError):
                await popping
            await client.connection.disconnect()
            assert await client.client_id() != number  # connected anew

    run(main())


def test_socket_timeout(run, connecting):
    async def main():
        async with connecting() as other:
            async with connecting(socket_timeout=0.05, retry=None) as client:
                await other.client_pause(60000, all=False)  # writes
                with pytest.raises(TimeoutError):
                    await client.set("key", "value")
                await other.client_unpause()
                assert await client.ping()

    run(main())
