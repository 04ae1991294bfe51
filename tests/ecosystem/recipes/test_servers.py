"""Servers, by the commands of docs/frameworks.md: each says over loopback that it runs on cloop, and ends by SIGTERM."""

import os
import socket
import time

import pytest

ASGI = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "asgi_app.py")
BIND = "--bind 127.0.0.1:{port}"
SERVERS = {  # by block: modules that it needs, and what tells it the port
    "uvicorn": (["uvicorn>=0.36"], "--port {port}"),
    "uvicorn by the launcher": (["uvicorn"], "--port {port}"),
    "asgi": (["uvicorn>=0.36"], "--port {port}"),
    "daphne": (["daphne"], "--port {port}"),
    "gunicorn": (["gunicorn", "aiohttp", "uvicorn>=0.36", "uvicorn_worker"], BIND + " --worker-tmp-dir /dev/shm"),
    "gunicorn by the launcher": (["gunicorn", "aiohttp", "uvicorn_worker"], BIND + " --worker-tmp-dir /dev/shm"),
    "gunicorn's ASGI worker": (["gunicorn.workers.gasgi"], BIND + " --worker-tmp-dir /dev/shm"),
    "hypercorn": (["hypercorn"], BIND),
    "granian": (["granian"], "--port {port}"),
    "sanic": (["sanic"], "--port {port}"),
}


@pytest.fixture
def serving(start, put, needs, program_text, free_port):
    """serving(block, command, app=None): a context in which the command of the page serves the program."""

    def serving(name, command, app=None, **options):
        modules, where = SERVERS[name]
        needs(*modules)
        if app is None:
            with open(ASGI) as file:
                put("app.py", file.read())
        else:
            put("app.py", program_text(app))
        if not {"--uds", "--fd"} & set(command.split()):
            command += " " + where.format(port=free_port)
        return start(command, **options)

    return serving


@pytest.fixture
def answers(get, loop_is):
    """answers(product, address): it answers on cloop, whichever worker it is."""

    def answers(product, address):
        product.until(lambda: get(address))
        assert {get(address) for _ in range(20)} == {loop_is}

    return answers


def websocket(port, path="/ws"):
    """The answer to a message over a WebSocket."""
    client = pytest.importorskip("websockets.sync.client")
    with client.connect("ws://127.0.0.1:%d%s" % (port, path)) as connection:
        connection.send("which loop?")
        return connection.recv(30)


def touched(path):
    """Gives the file a new time every two seconds: the reloader misses changes of before its first look."""
    if time.time() - path.stat().st_mtime > 2:
        os.utime(str(path))
    return True


@pytest.mark.commands_of("uvicorn")
def test_uvicorn(serving, answers, block_name, command, get, loop_is, free_port, tmp_path):
    with socket.socket() as listener:
        address, options = free_port, {}
        if "--uds" in command:
            address = str(tmp_path / "app.sock")
        elif "--fd" in command:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            address, options = listener.getsockname()[1], {"stdin": listener}
            command += " 3<&0"
        with serving(block_name, command, **options) as product:
            answers(product, address)
            if "--workers 2" in command:
                assert len(product.members()) > 2
            if isinstance(address, int):
                assert websocket(address) == "which loop?"
            if "--reload" in command:
                text = (tmp_path / "app.py").read_text()
                (tmp_path / "app.py").write_text(text.replace("kind.__qualname__", "kind.__qualname__ + ' again'"))
                product.until(lambda: touched(tmp_path / "app.py") and get(address) == loop_is + " again")
            product.stop()


@pytest.mark.commands_of(
    "uvicorn by the launcher",
    "gunicorn",
    "gunicorn by the launcher",
    "gunicorn's ASGI worker",
    "hypercorn",
    "granian",
    "sanic",
)
def test_server(serving, answers, put, block, block_name, command, free_port):
    for name in ("web_app", "sanic_app"):
        if name in command:
            put(name + ".py")
    put("workers.py", block("gunicorn's workers"))
    with serving(block_name, command) as product:
        answers(product, free_port)
        if "--workers 2" in command:
            assert len(product.members()) > 2
        if block_name == "sanic":
            time.sleep(0.5)  # its manager loses a SIGTERM that comes before the worker's report, and then hangs
        product.stop()


@pytest.mark.commands_of("asgi")
@pytest.mark.parametrize("app", ["fastapi", "starlette", "quart", "django"])
def test_application(serving, answers, block_name, command, app, loop_is, free_port):
    with serving(block_name, command, app + "_app.py") as product:
        answers(product, free_port)
        assert websocket(free_port) == loop_is
        product.stop()


@pytest.mark.commands_of("daphne")
def test_daphne(serving, answers, block_name, command, loop_is, free_port):
    with serving(block_name, command, "django_app.py") as product:
        answers(product, free_port)
        assert websocket(free_port) == loop_is
        product.stop()


def test_aiohttp(start, answers, put, block, free_port):
    put("web_app.py")
    call = "web.run_app(app, "
    assert call in block("aiohttp")
    text = block("aiohttp").replace(call, call + "host='127.0.0.1', port=%d, " % free_port)
    put("main.py", "import cloop\nfrom aiohttp import web\nfrom web_app import app\n" + text)
    with start("python main.py") as product:
        answers(product, free_port)
        product.stop()


@pytest.mark.parametrize("name", ["tornado", "twisted"])
def test_program_that_serves(start, answers, put, program_text, block, name, free_port):
    text = program_text(name + "_app.py").replace("PORT", str(free_port))
    put("main.py", text.replace("# THE BLOCK\n", block(name)))
    with start("python main.py") as product:
        answers(product, free_port)
        product.stop()


@pytest.mark.parametrize("options", ["--loop asyncio", "--loop asyncio --workers 2"])
def test_another_loop_is_noticed(serving, get, free_port, options):
    with serving("uvicorn", "uvicorn app:app " + options) as product:
        product.until(lambda: get(free_port))
        assert get(free_port).startswith("asyncio.")
        product.stop()
