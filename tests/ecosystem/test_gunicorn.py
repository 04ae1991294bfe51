"""gunicorn with uvicorn's worker and with aiohttp's, in their own processes, as they are deployed. It passes its
workers listening objects that are not sockets, but delegate to one.
"""

import contextlib
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import types

import pytest

pytest.importorskip("gunicorn")
pytest.importorskip("aiohttp.worker")
pytest.importorskip("httptools")
try:
    import uvicorn_worker  # noqa: F401
except ImportError:
    pytest.importorskip("uvicorn.workers")

HERE = os.path.dirname(os.path.abspath(__file__))
APPLICATIONS = {"Uvicorn": "asgi_app:app", "Aiohttp": "gunicorn_workers:aiohttp_app"}


@pytest.fixture(params=list(APPLICATIONS))
def worker(request):
    return request.param


@pytest.fixture
def gunicorn(serve, loop_kind, cloop_on_path, worker, tmp_path):
    """A context in which gunicorn serves: its process, log and address."""
    if loop_kind == "cloop-poll":
        pytest.skip("slow, and one poller is enough")

    @contextlib.contextmanager
    def gunicorn(*options, bind="127.0.0.1:0"):
        command = [sys.executable, "-m", "gunicorn", "--chdir", HERE, "--bind", bind, "--log-level", "info"]
        command += ["--worker-class", "gunicorn_workers." + worker, "--worker-tmp-dir", "/dev/shm"] + list(options)
        environment = dict(os.environ, GUNICORN_LOOP=loop_kind.split("-")[0], HOME=str(tmp_path))
        with serve(
            command + [APPLICATIONS[worker]], stderr=subprocess.PIPE, universal_newlines=True, env=environment
        ) as process:
            log = Log(process.stderr)
            where = log.until("Listening at:")
            log.until("Booting worker")
            found = re.search(r"//([\d.]+):(\d+)", where)
            yield types.SimpleNamespace(
                process=process, log=log, address=(found.group(1), int(found.group(2))) if found else None
            )

    return gunicorn


class Log:
    def __init__(self, lines):
        self.lines, self.seen = lines, []

    def until(self, text):
        """The next line that has the text."""
        for line in self.lines:
            self.seen.append(line)
            if text in line:
                return line
        raise AssertionError("no %r in the log:\n%s" % (text, "".join(self.seen)))

    def rest(self):
        self.seen.extend(self.lines)
        return "".join(self.seen)


def request(connection, method, path, body=b""):
    """One request on a keep-alive connection; the body of the response."""
    head = "%s %s HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % (method, path, len(body))
    connection.sendall(head.encode() + body)
    with connection.makefile("rb") as file:
        return read_response(file)


def read_response(file):
    assert b" 200 " in file.readline()
    length = None
    for line in iter(file.readline, b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    return file.read(length)


def end(server):
    """SIGTERM ends it gracefully."""
    server.process.send_signal(signal.SIGTERM)
    rest = server.log.rest()
    assert server.process.wait(30) == 0
    assert "Shutting down: Master" in rest
    assert not re.search(r"Traceback|ERROR|CRITICAL|SIGKILL|Exception", rest), rest


def test_requests(gunicorn, event_loop_is):
    with gunicorn() as server:
        with socket.create_connection(server.address, timeout=30) as connection:
            assert request(connection, "GET", "/loop").decode() == event_loop_is
            for number in range(50):
                body = b"%d " % number * number
                assert request(connection, "POST", "/echo", body) == body
        for _ in range(20):
            with socket.create_connection(server.address, timeout=30) as connection:
                assert request(connection, "GET", "/loop").decode() == event_loop_is
        end(server)


def test_two_workers(gunicorn, event_loop_is):
    with gunicorn("--workers", "2") as server:
        server.log.until("Booting worker")
        connections = [socket.create_connection(server.address, timeout=30) for _ in range(20)]
        for connection in connections:
            assert request(connection, "GET", "/loop").decode() == event_loop_is
            connection.close()
        end(server)


def test_unix_socket(gunicorn, event_loop_is, tmp_path):
    path = str(tmp_path / "socket")
    with gunicorn(bind="unix:" + path) as server:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(30)
            connection.connect(path)
            assert request(connection, "GET", "/loop").decode() == event_loop_is
        end(server)


def test_tls(gunicorn, event_loop_is, tmp_path):
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "pem"))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with gunicorn("--certfile", str(tmp_path / "pem"), "--keyfile", str(tmp_path / "pem")) as server:
        for _ in range(3):
            with socket.create_connection(server.address, timeout=30) as plain:
                with context.wrap_socket(plain, server_hostname="localhost") as connection:
                    assert request(connection, "GET", "/loop").decode() == event_loop_is
        end(server)


def test_sigterm_lets_a_request_end(gunicorn):
    with gunicorn() as server:
        with socket.create_connection(server.address, timeout=30) as connection:
            connection.sendall(b"POST /mirror HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nfirst")
            with connection.makefile("rb") as file:
                while file.readline() != b"\r\n":
                    pass
                assert file.read(10) == b"5\r\nfirst\r\n"
                server.process.send_signal(signal.SIGTERM)
                server.log.until("Handling signal: term")
                connection.sendall(b"later")
                assert file.read() == b"5\r\nlater\r\n0\r\n\r\n"
        assert server.process.wait(30) == 0
        assert "Traceback" not in server.log.rest()


def test_workers_are_replaced(gunicorn, event_loop_is):
    """SIGHUP: the old ones exit, and new ones take the same listening socket."""
    with gunicorn() as server:
        with socket.create_connection(server.address, timeout=30) as connection:
            assert request(connection, "GET", "/loop").decode() == event_loop_is
        server.process.send_signal(signal.SIGHUP)
        server.log.until("Booting worker")
        with socket.create_connection(server.address, timeout=30) as connection:
            assert request(connection, "GET", "/loop").decode() == event_loop_is
        end(server)
