"""Servers under `python -m cloop -m SERVER`, with uvloop by name, and in workers that are forked or spawned: each answers on
cloop. As docs/frameworks.md has them they are run by `recipes`."""

import os
import signal
import socket
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
UVICORN = ["uvicorn", "asgi_app:app", "--app-dir", HERE, "--port", "PORT"]
GRANIAN = ["granian", "--interface", "asgi", "--port", "PORT", "asgi_app:app"]
HYPERCORN = ["hypercorn", "--bind", "127.0.0.1:PORT", "asgi_app:app"]
GUNICORN = ["gunicorn", "--chdir", HERE, "--worker-tmp-dir", "/dev/shm", "--bind", "127.0.0.1:PORT", "asgi_app:app"]
SERVERS = {
    "uvicorn, uvloop by name": UVICORN + ["--loop", "uvloop"],
    "uvicorn, two workers": UVICORN + ["--workers", "2"],
    "uvicorn, reloading": UVICORN + ["--reload", "--reload-dir", HERE],
    "granian, two workers, uvloop by name": GRANIAN + ["--workers", "2", "--loop", "uvloop"],
    "hypercorn, two workers, uvloop by name": HYPERCORN + ["--workers", "2", "--worker-class", "uvloop"],
    "gunicorn, uvicorn-worker": GUNICORN + ["--worker-class", "uvicorn_worker.UvicornWorker"],
}


def get(port, path):
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(b"GET %s HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n" % path.encode())
        return connection.makefile("rb").read().partition(b"\r\n\r\n")[2].decode()


@pytest.mark.parametrize("name", SERVERS)
def test_server_answers_on_cloop(cloop, serve, free_port, monkeypatch, tmp_path, name):
    command = [argument.replace("PORT", str(free_port)) for argument in SERVERS[name]]
    pytest.importorskip(command[0])
    if "uvicorn_worker" in name:
        pytest.importorskip("uvicorn_worker")
    monkeypatch.setenv("PYTHONPATH", HERE + os.pathsep + os.environ.get("PYTHONPATH", ""))
    monkeypatch.setenv("HOME", str(tmp_path))

    def ready():
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", free_port)) == 0

    command = [sys.executable, "-m", "cloop", "-m", *command]
    with serve(command, ready=ready, cwd=str(tmp_path)) as process:
        assert get(free_port, "/loop") == "cloop._loop.Loop"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) in (0, -signal.SIGTERM)  # uvicorn raises the signal again
