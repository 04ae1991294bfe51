"""aiohttp, client and server in one loop."""

import asyncio
import contextlib
import hashlib
import os
import queue
import socket

import pytest

aiohttp = pytest.importorskip("aiohttp")
from aiohttp import web  # noqa: E402

MiB = 1024 * 1024
PLENTY = 32 * MiB  # more than sockets and transports keep


@pytest.fixture(params=["tcp", "unix"])
def serving(request, tmp_path, monkeypatch):
    """A context with an aiohttp server of the given routes: a client session and the site's URL."""
    monkeypatch.chdir(tmp_path)  # the path of the socket is short

    @contextlib.asynccontextmanager
    async def serving(*routes):
        application = web.Application(client_max_size=2 * PLENTY)
        application.add_routes(routes)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        try:
            if request.param == "tcp":
                await web.TCPSite(runner, "127.0.0.1", 0, backlog=1000).start()
                connector = aiohttp.TCPConnector(limit=0)
                port = runner.addresses[0][1]
            else:
                await web.UnixSite(runner, "socket", backlog=1000).start()
                connector = aiohttp.UnixConnector("socket", limit=0)
                port = 80
            async with aiohttp.ClientSession(connector=connector) as client:
                yield client, "http://127.0.0.1:%d" % port
        finally:
            await runner.cleanup()

    serving.kind = request.param
    return serving


async def echo(request):
    return web.Response(body=await request.read(), headers={"X-Method": request.method})


async def pieces(data, size):
    for start in range(0, len(data), size):
        yield data[start : start + size]


def connection_of(request):
    """Numbers the server's connections."""
    return request.transport.get_extra_info("socket").fileno()


async def raw(serving, url):
    """A connection without aiohttp's client."""
    if serving.kind == "unix":
        return await asyncio.open_unix_connection("socket")
    return await asyncio.open_connection("127.0.0.1", int(url.rsplit(":")[-1]))


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 5 * MiB + 3])
def test_request_body(run, serving, method, size):
    async def main():
        async with serving(web.route("*", "/", echo)) as (client, url):
            body = os.urandom(size)
            for sent in (body, pieces(body, 30000)):  # with its length, and in chunks
                async with client.request(method, url, data=sent) as response:
                    assert response.status == 200 and response.headers["X-Method"] == method
                    assert await response.read() == body

    run(main())


def test_form_with_files_and_json(run, serving, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(os.urandom(MiB))

    async def upload(request):
        form = await request.post()
        return web.json_response({"name": form["name"], "file": hashlib.md5(form["file"].file.read()).hexdigest()})

    async def main():
        async with serving(web.post("/", upload)) as (client, url):
            with path.open("rb") as file:
                async with client.post(url, data={"name": "ß", "file": file}) as response:
                    answer = await response.json()
        assert answer == {"name": "ß", "file": hashlib.md5(path.read_bytes()).hexdigest()}

    run(main())


def test_streamed_response_waits_for_its_reader(run, serving):
    written = 0

    async def stream(request):
        nonlocal written
        response = web.StreamResponse()
        await response.prepare(request)
        while written < PLENTY:
            await response.write(bytes([written // 65536 % 251]) * 65536)
            written += 65536
        return response

    async def main():
        async with serving(web.get("/", stream)) as (client, url):
            async with client.get(url) as response:
                assert written < PLENTY
                seen = 0
                async for chunk in response.content.iter_chunked(65536):
                    for start in range(0, len(chunk), 4096):
                        assert chunk[start] == (seen + start) // 65536 % 251
                    seen += len(chunk)
            assert seen == PLENTY

    run(main())


@pytest.mark.skipif("CLOOP_GATHER" in os.environ, reason="CLOOP_GATHER is set")
def test_pieces_come_while_the_handler_blocks(run, loop_kind, serving):
    """The client, in another thread, lets the handler continue after each piece it gets. If a connection holds the
    writes of its responses, the first piece may come with the second, once.
    """
    go = queue.Queue()

    async def stream(request):
        response = web.StreamResponse()
        await response.prepare(request)
        for number in range(3):
            await response.write(b"piece %d\n" % number)
            if request.query_string == "block":
                go.get(timeout=30)
        return response

    def pieces(client, blocking, may_be_late=False):
        client.sendall(b"GET /%s HTTP/1.1\r\nHost: h\r\n\r\n" % (b"?block" if blocking else b""))
        got, late = b"", None
        for number in range(3 if blocking else 0):
            client.settimeout(0.3 if may_be_late and number == 0 else 20)
            while b"piece %d\n" % number not in got:
                try:
                    got += client.recv(1000)
                except socket.timeout:
                    assert may_be_late and number == 0
                    late = number
                    break
            go.put(None)
        client.settimeout(20)
        while not got.endswith(b"\r\n0\r\n\r\n"):
            got += client.recv(1000)
        return late

    def talk(address):
        with socket.socket(socket.AF_UNIX if serving.kind == "unix" else socket.AF_INET) as client:
            client.connect(address)
            assert pieces(client, True) is None
            for _ in range(20):
                pieces(client, False)
            if pieces(client, True, may_be_late=loop_kind != "asyncio") is not None:
                assert pieces(client, True) is None

    async def main():
        async with serving(web.get("/", stream)) as (_, url):
            address = "socket" if serving.kind == "unix" else ("127.0.0.1", int(url.rsplit(":")[-1]))
            await asyncio.get_running_loop().run_in_executor(None, talk, address)

    run(main())


def test_streamed_request_waits_for_its_reader(run, serving):
    sent = 0

    async def produce():
        nonlocal sent
        while sent < PLENTY:
            yield b"x" * 65536
            sent += 65536

    async def main():
        arrived, may_read = asyncio.Event(), asyncio.Event()

        async def take(request):
            arrived.set()
            await may_read.wait()
            return web.Response(text=str(len(await request.read())))

        async with serving(web.post("/", take)) as (client, url):
            posted = asyncio.ensure_future(client.post(url, data=produce()))
            await arrived.wait()
            assert sent < PLENTY
            may_read.set()
            async with await posted as response:
                assert int(await response.text()) == sent == PLENTY

    run(main())


@pytest.mark.parametrize("range_", [None, (0, 0), (1, 65537), (5 * MiB - 1, 5 * MiB + 2)])
def test_file_response(run, serving, tmp_path, range_):
    """Goes through loop.sendfile()."""
    path = tmp_path / "file"
    content = os.urandom(5 * MiB + 3)
    path.write_bytes(content)

    async def send(request):
        return web.FileResponse(path)

    async def main():
        async with serving(web.get("/", send)) as (client, url):
            headers = {"Range": "bytes=%d-%d" % range_} if range_ else {}
            for _ in range(2):  # the connection is usable afterwards
                async with client.get(url, headers=headers) as response:
                    assert await response.read() == (content[range_[0] : range_[1] + 1] if range_ else content)

    run(main())


def test_connections_are_kept_alive(run, serving):
    async def where(request):
        return web.Response(text=str(connection_of(request)))

    async def main():
        async with serving(web.get("/", where)) as (client, url):
            seen = set()
            for _ in range(50):
                async with client.get(url) as response:
                    seen.add(await response.text())
            assert len(seen) == 1
            async with client.get(url, headers={"Connection": "close"}) as response:
                assert await response.text() in seen
            assert not client.connector._conns

    run(main())


def test_requests_that_arrive_together_or_by_bytes(run, serving):
    async def main():
        async with serving(web.post("/{n}", echo)) as (_, url):
            reader, writer = await raw(serving, url)
            requests = [
                b"POST /%d HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\n%04d" % (number, number)
                for number in range(100)
            ]
            writer.write(b"".join(requests[:50]))
            for request in requests[50:53]:
                for byte in range(len(request)):
                    writer.write(request[byte : byte + 1])
                    await asyncio.sleep(0)
            for number in range(53):
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
                assert await reader.readexactly(4) == b"%04d" % number
            writer.close()
            await writer.wait_closed()

    run(main())


def test_expect_continue_and_early_answer(run, serving):
    async def refuse(request):
        return web.Response(status=413)

    async def main():
        async with serving(web.post("/", echo), web.post("/refuse", refuse)) as (client, url):
            async with client.post(url, data=b"x" * 100000, expect100=True) as response:
                assert len(await response.read()) == 100000
            async with client.post(url + "/refuse", data=b"x" * 1000) as response:
                assert response.status == 413

    run(main())


@pytest.mark.parametrize("clients", [10, 300])
def test_many_clients_get_their_own_answers(run, serving, clients):
    async def main():
        async with serving(web.post("/", echo)) as (client, url):

            async def ask(number):
                for turn in range(3000 // clients // 5):
                    body = b"%d-%d " % (number, turn) * (1 + number * 37 % 3000)
                    async with client.post(url, data=body) as response:
                        assert await response.read() == body

            await asyncio.gather(*[ask(number) for number in range(clients)])

    run(main())


def test_timeout_then_the_next_request(run, serving):
    async def main():
        release = asyncio.Event()

        async def wait(request):
            await release.wait()
            return web.Response(text="late")

        async with serving(web.get("/", wait), web.post("/", echo)) as (client, url):
            for timeout in (aiohttp.ClientTimeout(total=0.02), aiohttp.ClientTimeout(sock_read=0.02)):
                with pytest.raises(asyncio.TimeoutError):
                    async with client.get(url, timeout=timeout):
                        pass
            async with client.post(url, data=b"next") as response:
                assert await response.read() == b"next"
            release.set()

    run(main())


def test_cancelled_requests_take_no_ones_answer(run, serving):
    """Cancelled after more and more turns of the loop: while connecting, sending, waiting, reading."""

    async def main():
        async with serving(web.post("/", echo)) as (client, url):
            answered = 0

            async def ask(number):
                nonlocal answered
                body = b"%d " % number * (1 + number % 20000)
                async with client.post(url, data=body) as response:
                    assert await response.read() == body
                answered += 1

            for turns in range(60):
                tasks = [asyncio.ensure_future(ask(turns * 100 + number)) for number in range(8)]
                for _ in range(turns):
                    await asyncio.sleep(0)
                for task in tasks[::2]:
                    task.cancel()
                outcomes = await asyncio.gather(*tasks, return_exceptions=True)
                assert {type(outcome) for outcome in outcomes} <= {type(None), asyncio.CancelledError}
                assert outcomes[1::2] == [None] * 4
            assert 240 <= answered < 480

    run(main())


def test_client_goes_while_the_server_streams(run, serving):
    async def main():
        ended = asyncio.get_running_loop().create_future()

        async def stream(request):
            response = web.StreamResponse()
            await response.prepare(request)
            try:
                while True:
                    await response.write(b"x" * 65536)
            except BaseException as error:
                ended.set_result(type(error))
                raise

        async with serving(web.get("/", stream)) as (client, url):
            async with client.get(url) as response:
                await response.content.readexactly(100000)
                response.close()
            assert issubclass(await ended, (ConnectionError, asyncio.CancelledError))

    run(main())


def test_server_goes_while_the_client_reads(run, serving):
    async def drop(request):
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b"x")
        request.transport.abort()
        return response

    async def main():
        async with serving(web.get("/", drop)) as (client, url):
            with pytest.raises(aiohttp.ClientError):
                async with client.get(url) as response:
                    await response.read()

    run(main())


def test_nobody_listens(run, serving):
    async def main():
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            async with aiohttp.ClientSession() as client:
                with pytest.raises(aiohttp.ClientConnectorError):
                    await client.get("http://127.0.0.1:%d" % unused.getsockname()[1])

    run(main())


def test_cleanup_waits_for_requests_under_way(run):
    async def main():
        entered, release = asyncio.Event(), asyncio.Event()

        async def wait(request):
            entered.set()
            await release.wait()
            return web.Response(text="done")

        application = web.Application()
        application.add_routes([web.get("/", wait)])
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = "http://127.0.0.1:%d" % runner.addresses[0][1]
        async with aiohttp.ClientSession() as client:
            asked = asyncio.ensure_future(client.get(url))
            await entered.wait()
            cleaning = asyncio.ensure_future(runner.cleanup())
            with pytest.raises(aiohttp.ClientConnectorError):
                while True:  # until it stops listening
                    await asyncio.wait_for(client.get(url), 0.01)
            release.set()
            async with await asked as response:
                assert await response.text() == "done"
            await cleaning

    run(main())


# Websockets


async def echo_messages(request):
    websocket = web.WebSocketResponse(max_msg_size=2 * PLENTY)
    await websocket.prepare(request)
    async for message in websocket:
        if message.type == aiohttp.WSMsgType.TEXT:
            if message.data == "close":
                await websocket.close(code=4000, message=b"as asked")
            else:
                await websocket.send_str(message.data)
        else:
            await websocket.send_bytes(message.data)
    return websocket


@pytest.mark.parametrize("compress", [0, 15], ids=["plain", "compressed"])
def test_websocket(run, serving, compress):
    async def main():
        async with serving(web.get("/", echo_messages)) as (client, url):
            async with client.ws_connect(url, compress=compress, max_msg_size=2 * PLENTY) as websocket:
                for size in (0, 1, 125, 126, 65535, 65536, 3 * MiB):
                    data = os.urandom(size)
                    await websocket.send_bytes(data)
                    assert await websocket.receive_bytes() == data
                    await websocket.send_str("ß" * size)
                    assert await websocket.receive_str() == "ß" * size
                await websocket.ping()
                for number in range(1000):
                    await websocket.send_str(str(number))
                for number in range(1000):
                    assert await websocket.receive_str() == str(number)
                await websocket.send_str("close")
                message = await websocket.receive()
                assert (message.type, message.data, message.extra) == (aiohttp.WSMsgType.CLOSE, 4000, "as asked")

    run(main())


def test_many_websockets(run, serving):
    async def main():
        async with serving(web.get("/", echo_messages)) as (client, url):

            async def talk(number):
                async with client.ws_connect(url) as websocket:
                    for turn in range(10):
                        await websocket.send_str("%d-%d" % (number, turn))
                        assert await websocket.receive_str() == "%d-%d" % (number, turn)

            await asyncio.gather(*[talk(number) for number in range(100)])

    run(main())


def test_websocket_whose_peer_vanishes(run, serving):
    async def main():
        ended = asyncio.get_running_loop().create_future()

        async def wait(request):
            websocket = web.WebSocketResponse()
            await websocket.prepare(request)
            ended.set_result((await websocket.receive()).type)
            return websocket

        async with serving(web.get("/", wait)) as (client, url):
            websocket = await client.ws_connect(url)
            websocket._response.connection.transport.abort()
            assert await ended in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSING, aiohttp.WSMsgType.ERROR)
            await websocket.close()

    run(main())
