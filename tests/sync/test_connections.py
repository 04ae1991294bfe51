"""open_connection(): asyncio's own code runs, but the writer becomes ours."""

import asyncio
import inspect
import os
import warnings

import pytest

stock = pytest.mark.skipif(os.environ.get("CLOOP_STREAMS") == "stock", reason="CLOOP_STREAMS=stock")


def own_writer(writer):
    return type(writer) is not asyncio.StreamWriter and isinstance(writer, asyncio.StreamWriter)


async def served(reader, writer):
    writer.write(await reader.readline())
    await writer.drain()
    writer.close()


async def talk(connect):
    reader, writer = await connect
    writer.write(b"hello\n")
    await writer.drain()
    line = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return line, writer


async def over_tcp(**options):
    server = await asyncio.start_server(served, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    line, writer = await talk(asyncio.open_connection(host, port, **options))
    server.close()
    await server.wait_closed()
    return line, writer


@stock
def test_the_writer_is_ours(accelerate, cloop):
    async def main():
        line, writer = await over_tcp(limit=1000)
        assert line == b"hello\n" and own_writer(writer)
        accelerate(False)
        line, writer = await over_tcp()
        assert line == b"hello\n" and type(writer) is asyncio.StreamWriter

    cloop.run(main())


@stock
def test_over_unix(accelerate, cloop, tmp_path):
    async def main():
        path = str(tmp_path / "socket")
        server = await asyncio.start_unix_server(served, path)
        line, writer = await talk(asyncio.open_unix_connection(path))
        server.close()
        await server.wait_closed()
        assert line == b"hello\n" and own_writer(writer)

    cloop.run(main())


def test_debug_mode(accelerate, cloop):
    async def main():
        asyncio.get_running_loop().set_debug(True)
        return (await over_tcp())[1]

    assert type(cloop.run(main())) is asyncio.StreamWriter


def test_it_fails_as_asyncios(accelerate, as_asyncio):
    def body(loop):
        async def main():
            seen = []
            try:
                asyncio.open_connection(1, 2, 3)
            except TypeError as error:
                seen.append(str(error))
            for options in ({"port": 1, "ssl": 5}, {"sock": 1, "port": 2}):
                try:
                    await asyncio.open_connection("127.0.0.1", **options)
                except Exception as error:
                    seen.append((type(error).__name__, str(error)))
            return seen

        return loop.run_until_complete(main())

    as_asyncio(body)


@pytest.mark.parametrize("how", ["never", "close", "throw", "cancel"])
def test_it_ends_early(accelerate, as_asyncio, how):
    def body(loop):
        async def main():
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                coro = asyncio.open_connection("127.0.0.1", 1)
                seen = [coro.__name__, coro.cr_code.co_name, coro.cr_frame.f_code.co_name]
                if how == "close":
                    coro.close()
                elif how == "throw":
                    with pytest.raises(KeyError):
                        coro.throw(KeyError())
                elif how == "cancel":
                    task = loop.create_task(coro)
                    task.cancel()
                    await asyncio.wait([task])
                    seen.append(task.cancelled() or type(task.exception()).__name__)
                del coro
            return seen, [str(each.message) for each in caught if "never" in str(each.message)]

        return loop.run_until_complete(main())

    as_asyncio(body)


def test_what_it_awaits_is_shown(accelerate, as_asyncio, monkeypatch):
    def body(loop):
        async def main():
            gate = loop.create_future()

            async def create_connection(*args, **kwargs):
                await gate

            with monkeypatch.context() as patch:
                patch.setattr(loop, "create_connection", create_connection)
                task = loop.create_task(asyncio.open_connection("127.0.0.1", 1))
                await asyncio.sleep(0)
                coro, chain = task.get_coro(), []
                while hasattr(coro, "cr_frame"):
                    chain.append((coro.__name__, coro.cr_frame.f_code.co_name, coro.cr_frame.f_lineno))
                    coro = coro.cr_await
                task.cancel()
                await asyncio.wait([task])
            return chain[:2]

        return loop.run_until_complete(main())

    as_asyncio(body)


def test_it_is_a_coroutine_function(accelerate):
    assert inspect.iscoroutinefunction(asyncio.open_connection)


def test_what_it_is_shown_as(accelerate, as_asyncio):
    def body(loop):
        async def main():
            coroutine = asyncio.open_connection("127.0.0.1", 1)
            shown = coroutine.cr_frame.f_code.co_name, coroutine.cr_await, coroutine.__qualname__
            coroutine.close()
            return shown

        return loop.run_until_complete(main())

    assert as_asyncio(body)["result"] == ("open_connection", None, "open_connection")
