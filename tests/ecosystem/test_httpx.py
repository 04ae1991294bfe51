"""httpx, which waits through anyio, and uvicorn on the program's own loop."""

import asyncio
import contextlib
import os
import socket

import pytest

httpx = pytest.importorskip("httpx")
anyio = pytest.importorskip("anyio")
uvicorn = pytest.importorskip("uvicorn")

HERE = os.path.dirname(os.path.abspath(__file__))


@pytest.fixture
def serving(monkeypatch):
    """A context in which asgi_app.py is served: a client that knows the address."""
    monkeypatch.syspath_prepend(HERE)

    @contextlib.asynccontextmanager
    async def serving(**options):
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            listening.listen(1000)  # before uvicorn does: the client need not wait
            url = "http://127.0.0.1:%d" % listening.getsockname()[1]
            # log_config: its own would close the handlers of pytest.
            settings = {"lifespan": "off", "log_config": None, "access_log": False, "backlog": 1000}
            server = uvicorn.Server(uvicorn.Config("asgi_app:app", **settings))
            served = asyncio.ensure_future(server.serve(sockets=[listening]))
            try:
                async with httpx.AsyncClient(base_url=url, **options) as client:
                    yield client
            finally:
                server.should_exit = True
                await served

    return serving


def test_requests(run, serving, event_loop_is):
    async def main():
        async with serving() as client:
            assert (await client.get("/loop")).text == event_loop_is
            for size in (0, 1, 65536, 3 * 1024 * 1024):
                body = os.urandom(size)
                assert (await client.post("/echo", content=body)).content == body

            async def pieces():
                for number in range(1000):
                    yield b"%04d" % number

            answer = await client.post("/mirror", content=pieces())
            assert answer.content == b"".join(b"%04d" % number for number in range(1000))

    run(main())


def test_streamed_response(run, serving):
    async def main():
        async with serving() as client, client.stream("GET", "/big?16") as response:
            size = 0
            async for chunk in response.aiter_raw():
                assert chunk[0] == size // 65536 % 251
                size += len(chunk)
            assert size == 16 * 1024 * 1024

    run(main())


def test_many_clients_in_a_task_group(run, serving):
    async def main():
        limits = httpx.Limits(max_connections=30)
        async with serving(limits=limits, timeout=None) as client:

            async def ask(number):
                for turn in range(3):
                    body = b"%d-%d " % (number, turn) * (1 + number * 37 % 3000)
                    assert (await client.post("/echo", content=body)).content == body

            async with anyio.create_task_group() as group:
                for number in range(50):
                    group.start_soon(ask, number)

    run(main())


def test_timeouts_and_cancelled_scopes(run, serving):
    async def main():
        async with serving() as client:
            with pytest.raises(httpx.ReadTimeout):
                await client.get("/silent", timeout=0.02)
            with anyio.move_on_after(0.02) as scope:
                await client.get("/silent")
            assert scope.cancelled_caught
            with pytest.raises(TimeoutError):
                with anyio.fail_after(0.02):
                    await client.get("/silent")
            assert (await client.post("/echo", content=b"next")).content == b"next"

    run(main())


def test_cancelled_requests_take_no_ones_answer(run, serving):
    async def main():
        async with serving(timeout=None) as client:

            async def ask(number):
                body = b"%d " % number * (1 + number % 20000)
                assert (await client.post("/echo", content=body)).content == body

            for turns in range(40):
                tasks = [asyncio.ensure_future(ask(turns * 100 + number)) for number in range(6)]
                for _ in range(turns):
                    await asyncio.sleep(0)
                for task in tasks[::2]:
                    task.cancel()
                outcomes = await asyncio.gather(*tasks, return_exceptions=True)
                assert {type(outcome) for outcome in outcomes} <= {type(None), asyncio.CancelledError}
                assert outcomes[1::2] == [None] * 3

    run(main())
