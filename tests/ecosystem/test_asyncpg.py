"""asyncpg with our own PostgreSQL."""

import asyncio
import contextlib
import gc
import io
import os

import pytest

asyncpg = pytest.importorskip("asyncpg")


@pytest.fixture(params=["tcp", "unix"])
def where(request, postgres_server):
    """What asyncpg.connect() and create_pool() need."""
    host = postgres_server.host if request.param == "tcp" else postgres_server.folder
    return {"host": host, "port": postgres_server.port, "user": "postgres", "database": "postgres"}


@pytest.fixture
def connecting(where):
    """A context with a connection, which must be usable at the end."""

    @contextlib.asynccontextmanager
    async def connecting(**options):
        connection = await asyncpg.connect(**dict(where, **options))
        try:
            yield connection
        finally:
            await connection.close()

    return connecting


def forget_abandoned_futures(reports):
    """asyncpg leaves one with an exception behind if connect() is cancelled."""
    gc.collect()
    reports[:] = [context for context in reports if context["message"] != "Future exception was never retrieved"]


async def until_running(connection, pid):
    """The server works on a query of the other connection."""
    query = "SELECT state = 'active' AND wait_event = 'PgSleep' FROM pg_stat_activity WHERE pid = $1"
    while not await connection.fetchval(query, pid):
        pass


async def until_gone(connection, pid):
    while await connection.fetchval("SELECT count(*) FROM pg_stat_activity WHERE pid = $1", pid):
        pass


def test_queries(run, connecting):
    async def main():
        async with connecting() as connection:
            assert await connection.fetchval("SELECT 40 + $1::int", 2) == 42
            row = await connection.fetchrow("SELECT 'ß' AS text, ARRAY[1, 2] AS array, NULL AS nothing")
            assert dict(row) == {"text": "ß", "array": [1, 2], "nothing": None}
            statement = await connection.prepare("SELECT generate_series(1, $1::int)")
            assert [row[0] for row in await statement.fetch(50000)] == list(range(1, 50001))
            for size in (0, 1, 65536, 16 * 1024 * 1024):
                value = os.urandom(size)
                assert await connection.fetchval("SELECT $1::bytea", value) == value
            with pytest.raises(asyncpg.DivisionByZeroError):
                await connection.fetch("SELECT 1 / 0")
            async with connection.transaction():
                seen = [row[0] async for row in connection.cursor("SELECT generate_series(1, 1000)", prefetch=7)]
            assert seen == list(range(1, 1001))

    run(main())


def test_transactions_and_executemany(run, connecting):
    async def main():
        async with connecting() as connection:
            await connection.execute("CREATE TEMPORARY TABLE t (n int, s text)")
            await connection.executemany("INSERT INTO t VALUES ($1, $2)", [(n, str(n) * 50) for n in range(10000)])
            with pytest.raises(KeyError):
                async with connection.transaction():
                    assert await connection.execute("DELETE FROM t") == "DELETE 10000"
                    raise KeyError
            assert await connection.fetchval("SELECT count(*) FROM t WHERE s = repeat(n::text, 50)") == 10000

    run(main())


def test_pool(run, where):
    async def main():
        async with asyncpg.create_pool(min_size=2, max_size=10, **where) as pool:

            async def ask(number):
                for turn in range(10):
                    text = "%d-%d " % (number, turn) * (1 + number * 37 % 2000)
                    assert await pool.fetchval("SELECT $1::text", text) == text

            await asyncio.gather(*[ask(number) for number in range(100)])
            assert pool.get_size() == 10
            await pool.expire_connections()
            assert await pool.fetchval("SELECT 1") == 1

    run(main())


def test_pool_with_cancelled_queries(run, where, reports):
    """Cancelled after more and more turns of the loop; nobody gets another's answer."""

    async def main():
        async with asyncpg.create_pool(min_size=1, max_size=5, **where) as pool:

            async def ask(number):
                assert await pool.fetchval("SELECT $1::int", number) == number

            for turns in range(40):
                tasks = [asyncio.ensure_future(ask(turns * 100 + number)) for number in range(8)]
                for _ in range(turns):
                    await asyncio.sleep(0)
                for task in tasks[::2]:
                    task.cancel()
                outcomes = await asyncio.gather(*tasks, return_exceptions=True)
                assert {type(outcome) for outcome in outcomes} <= {type(None), asyncio.CancelledError}
                assert outcomes[1::2] == [None] * 4

    run(main())
    forget_abandoned_futures(reports)


def test_copy(run, connecting):
    records = [(number, os.urandom(number % 200)) for number in range(20000)]

    async def main():
        async with connecting() as connection:
            await connection.execute("CREATE TEMPORARY TABLE t (n int, b bytea)")
            assert await connection.copy_records_to_table("t", records=records) == "COPY 20000"
            assert [tuple(row) for row in await connection.fetch("SELECT * FROM t ORDER BY n")] == records
            whole = io.BytesIO()
            await connection.copy_from_table("t", output=whole, format="binary")
            parts = []

            async def add(part):
                parts.append(part)

            await connection.copy_from_query("SELECT * FROM t", output=add, format="binary")
            assert b"".join(parts) == whole.getvalue()

            async def source():
                for part in parts:
                    yield part

            await connection.execute("TRUNCATE t")
            assert await connection.copy_to_table("t", source=source(), format="binary") == "COPY 20000"
            assert await connection.fetchval("SELECT sum(length(b)) FROM t") == sum(len(b) for _, b in records)

    run(main())


def test_listen_and_notify(run, connecting):
    async def main():
        async with connecting() as listener, connecting() as notifier:
            heard = asyncio.Queue()

            def hear(connection, pid, channel, payload):
                heard.put_nowait((connection is listener, pid, channel, payload))

            await listener.add_listener("news", hear)
            pid = notifier.get_server_pid()
            for number in range(100):
                await notifier.execute("SELECT pg_notify('news', $1)", str(number))
                assert await heard.get() == (True, pid, "news", str(number))
            await listener.remove_listener("news", hear)

    run(main())


def test_cancel_and_timeout_of_a_running_query(run, connecting):
    async def main():
        async with connecting() as connection, connecting() as observer:
            for _ in range(5):
                sleeping = asyncio.ensure_future(connection.execute("SELECT pg_sleep(1000)"))
                await until_running(observer, connection.get_server_pid())
                sleeping.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await sleeping
                assert await connection.fetchval("SELECT 1") == 1
                with pytest.raises(asyncio.TimeoutError):
                    await connection.execute("SELECT pg_sleep(1000)", timeout=0.02)
                assert await connection.fetchval("SELECT 2") == 2

    run(main())


def test_cancelled_connect(run, connecting, where, reports):
    """After more and more turns of the loop; the server must have no session of ours left."""

    async def main():
        for turns in range(60):
            connecting_ = asyncio.ensure_future(asyncpg.connect(**where))
            for _ in range(turns):
                await asyncio.sleep(0)
            connecting_.cancel()
            try:
                await (await connecting_).close()
            except asyncio.CancelledError:
                pass
        async with connecting() as connection:
            mine = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
            while await connection.fetchval(mine) != 1:
                pass

    run(main())
    forget_abandoned_futures(reports)


def test_terminate_while_a_query_runs(run, connecting):
    async def main():
        async with connecting() as connection, connecting() as observer:
            pid = connection.get_server_pid()
            sleeping = asyncio.ensure_future(connection.execute("SELECT pg_sleep(1000)"))
            await until_running(observer, pid)
            connection.terminate()
            with pytest.raises((asyncpg.ConnectionDoesNotExistError, asyncio.CancelledError)):
                await sleeping
            assert connection.is_closed()
            await observer.execute("SELECT pg_terminate_backend($1)", pid)
            await until_gone(observer, pid)

    run(main())


def test_server_ends_the_session(run, connecting):
    async def main():
        async with connecting() as connection, connecting() as other:
            ended = asyncio.get_running_loop().create_future()
            connection.add_termination_listener(ended.set_result)
            sleeping = asyncio.ensure_future(connection.execute("SELECT pg_sleep(1000)"))
            await until_running(other, connection.get_server_pid())
            assert await other.fetchval("SELECT pg_terminate_backend($1)", connection.get_server_pid())
            with pytest.raises((asyncpg.AdminShutdownError, asyncpg.ConnectionDoesNotExistError)):
                await sleeping
            assert await ended is connection and connection.is_closed()

    run(main())


def test_unlocked_by_another_connection(run, connecting):
    async def main():
        async with connecting() as one, connecting() as two:
            await one.execute("SELECT pg_advisory_lock(1)")
            waiting = asyncio.ensure_future(two.execute("SELECT pg_advisory_lock(1)"))
            query = "SELECT wait_event = 'advisory' FROM pg_stat_activity WHERE pid = $1"
            while not await one.fetchval(query, two.get_server_pid()):
                pass
            assert not waiting.done()
            await one.execute("SELECT pg_advisory_unlock(1)")
            await waiting

    run(main())
