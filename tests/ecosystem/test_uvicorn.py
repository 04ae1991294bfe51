"""uvicorn in its own process, as it is deployed."""

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import types

import pytest

uvicorn = pytest.importorskip("uvicorn")
pytest.importorskip("httptools")

LATE_S = 0.3  # for what need not come
LIMIT_S = 30  # for what must come
HERE = os.path.dirname(os.path.abspath(__file__))
TAKES_LOOP_FACTORY = tuple(map(int, uvicorn.__version__.split(".")[:2])) >= (0, 36)


@pytest.fixture
def uvicorn_server(serve, loop_kind, cloop_on_path):
    """A context in which uvicorn serves asgi_app.py: its process, host, port and log."""

    @contextlib.contextmanager
    def uvicorn_server(*options):
        module = ["-m", "uvicorn"]
        loop = "asyncio"
        if loop_kind != "asyncio":
            if TAKES_LOOP_FACTORY:
                loop = "cloop:new_event_loop"
            else:
                module = ["-m", "cloop"] + module
        command = [sys.executable] + module + ["asgi_app:app", "--app-dir", HERE, "--http", "httptools"]
        command += ["--loop", loop, "--port", "0", "--no-access-log", "--no-use-colors"] + list(options)
        with serve(command, stderr=subprocess.PIPE, universal_newlines=True) as process:
            log = Log(process.stderr)
            where = log.until("Uvicorn running on")
            log.until("Application startup complete")
            found = re.search(r"http://(.+):(\d+)", where)
            address = (found.group(1), int(found.group(2))) if found else None  # a Unix socket has none
            yield types.SimpleNamespace(process=process, address=address, log=log)

    return uvicorn_server


class Log:
    def __init__(self, lines):
        self.lines, self.seen = lines, []

    def until(self, text, times=1):
        """The line with the text, once it has appeared that many times."""
        found = [line for line in self.seen if text in line]
        while len(found) < times:
            line = self.lines.readline()
            if not line:
                raise AssertionError("no %r in the log:\n%s" % (text, "".join(self.seen)))
            self.seen.append(line)
            if text in line:
                found.append(line)
        return found[-1]


def get(server, path):
    """The body of a response, on a new connection."""
    with socket.create_connection(server.address) as connection:
        connection.sendall(b"GET %s HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n" % path.encode())
        head, body = connection.makefile("rb").read().split(b"\r\n\r\n", 1)
        assert head.startswith(b"HTTP/1.1 200 ")
        return body.decode()


def read_response(file):
    """The body of one response with a Content-Length, of several on a connection."""
    assert file.readline().startswith(b"HTTP/1.1 200 ")
    length = None
    for line in iter(file.readline, b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    return file.read(length)


def test_requests_over_a_raw_socket(uvicorn_server, event_loop_is):
    with uvicorn_server() as server:
        assert get(server, "/loop") == event_loop_is
        with socket.create_connection(server.address) as connection, connection.makefile("rb") as file:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            requests = [
                b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\n%04d" % number for number in range(200)
            ]
            connection.sendall(b"".join(requests[:100]))  # pipelined
            for number in range(100):
                assert read_response(file) == b"%04d" % number
            for number in range(100, 200):  # kept alive, and in two segments
                connection.sendall(requests[number][:number])
                connection.sendall(requests[number][number:])
                assert read_response(file) == b"%04d" % number
            connection.sendall(b"nonsense\r\n\r\n")
            assert file.readline().startswith(b"HTTP/1.1 400 ")


def test_bodies_and_many_clients(run, uvicorn_server):
    aiohttp = pytest.importorskip("aiohttp")

    async def main(server):
        url = "http://%s:%d" % server.address
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:

            async def ask(number):
                for turn in range(10):
                    body = b"%d-%d " % (number, turn) * (1 + number * 371 % 30000)
                    async with client.post(url + "/echo", data=body) as response:
                        assert await response.read() == body

            await asyncio.gather(*[ask(number) for number in range(100)])
            async with client.get(url + "/big?32") as response:
                size = 0
                async for chunk in response.content.iter_chunked(65536):
                    for start in range(0, len(chunk), 4096):
                        assert chunk[start] == (size + start) // 65536 % 251
                    size += len(chunk)
            assert size == 32 * 1024 * 1024

    with uvicorn_server("--backlog", "1000") as server:
        run(main(server))


def test_unix_socket_with_httpx(run, uvicorn_server, event_loop_is, tmp_path, monkeypatch):
    httpx = pytest.importorskip("httpx")
    monkeypatch.chdir(tmp_path)

    async def main():
        async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds="socket")) as client:
            assert (await client.get("http://h/loop")).text == event_loop_is
            body = os.urandom(3 * 1024 * 1024)
            assert (await client.post("http://h/echo", content=body)).content == body

    with uvicorn_server("--uds", "socket"):
        run(main())


def test_websocket(run, uvicorn_server):
    websockets = pytest.importorskip("websockets.asyncio.client")

    async def main(server):
        async with websockets.connect("ws://%s:%d" % server.address, max_size=None) as connection:
            for message in ["", "ß", b"", b"x" * 3000000] + [str(number) for number in range(100)]:
                await connection.send(message)
                assert await connection.recv() == message

    with uvicorn_server("--ws", "websockets") as server:
        run(main(server))


@pytest.fixture
def pieces(tmp_path):
    """pieces(connection, path, may_be_late): requests it, and lets the handler continue after each piece it gets, or
    after a moment, if the first piece may come with the second. Returns the first one that was late, or none.
    """
    go = str(tmp_path / "go")
    os.mkfifo(go)

    def pieces(connection, path, may_be_late=False):
        connection.sendall(b"GET %s?%s HTTP/1.1\r\nHost: h\r\n\r\n" % (path.encode(), os.fsencode(go)))
        got, late = b"", None
        with open(go, "wb", 0) as going:
            for number in range(3):
                connection.settimeout(LATE_S if may_be_late and number == 0 else LIMIT_S)
                while b"piece %d\n" % number not in got:
                    try:
                        got += connection.recv(1000)
                    except socket.timeout:
                        assert may_be_late and number == 0
                        late = number
                        break
                going.write(b".")
        connection.settimeout(LIMIT_S)
        while not got.endswith(b"\r\n0\r\n\r\n"):
            got += connection.recv(1000)
        return late

    return pieces


@pytest.mark.skipif("CLOOP_GATHER" in os.environ, reason="CLOOP_GATHER is set")
@pytest.mark.parametrize("path", ["/stream", "/events"])
def test_pieces_come_while_the_handler_blocks(uvicorn_server, loop_kind, pieces, path):
    with uvicorn_server() as server:
        with socket.create_connection(server.address) as connection:
            assert pieces(connection, path) is None
            # Responses of two writes teach the connection to hold them: one piece may be late then.
            with connection.makefile("rb") as file:
                for _ in range(20):
                    connection.sendall(b"GET /pid HTTP/1.1\r\nHost: h\r\n\r\n")
                    assert read_response(file)
            late = pieces(connection, path, may_be_late=loop_kind != "asyncio" and path == "/stream")
            if late is not None:
                assert pieces(connection, path) is None


@pytest.mark.parametrize("options", [[], ["--workers", "2"]], ids=["one process", "two workers"])
def test_sigterm_lets_a_request_end(uvicorn_server, loop_kind, options):
    if options and loop_kind != "asyncio" and not TAKES_LOOP_FACTORY:
        pytest.skip("uvicorn %s has no way to tell its workers the loop" % uvicorn.__version__)
    with uvicorn_server(*options) as server:
        server.log.until("Application startup complete", times=2 if options else 1)
        with socket.create_connection(server.address) as connection, connection.makefile("rb") as file:
            connection.sendall(b"POST /mirror HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nfirst")
            assert b"200" in file.readline()
            while file.readline() != b"\r\n":
                pass
            assert file.read(10) == b"5\r\nfirst\r\n"
            server.process.send_signal(signal.SIGTERM)
            server.log.until("Waiting for connections to close")
            if not options:  # else the parent keeps the listening socket
                with pytest.raises(ConnectionRefusedError):
                    socket.create_connection(server.address)
            connection.sendall(b"later")
            assert file.read() == b"5\r\nlater\r\n0\r\n\r\n"
        assert server.process.wait(30) in (0, -signal.SIGTERM)  # uvicorn raises the signal again
        server.log.until("Finished server process", times=2 if options else 1)
        assert "Traceback" not in "".join(server.log.seen) + server.log.lines.read()


def test_workers_share_the_work(uvicorn_server, loop_kind, event_loop_is, tmp_path):
    if loop_kind != "asyncio" and not TAKES_LOOP_FACTORY:
        pytest.skip("uvicorn %s has no way to tell its workers the loop" % uvicorn.__version__)
    busy, go = tmp_path / "busy", tmp_path / "go"
    os.mkfifo(str(busy))
    os.mkfifo(str(go))
    with uvicorn_server("--workers", "2") as server:
        server.log.until("Application startup complete", times=2)
        with socket.create_connection(server.address) as connection:
            connection.sendall(b"GET /block?%s HTTP/1.1\r\nHost: h\r\n\r\n" % os.fsencode(str(tmp_path)))
            blocked = busy.read_text()
            try:
                others = {get(server, "/pid") for _ in range(20)}
                assert get(server, "/loop") == event_loop_is
            finally:
                go.write_text("")
            assert len(others) == 1 and others != {blocked}
            assert connection.recv(100).startswith(b"HTTP/1.1 200 ")
