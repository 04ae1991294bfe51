"""Programs with a line of docs/frameworks.md in them, libraries that need none, and tools: each says that it runs on
cloop, and ends by itself."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
SAY = """import asyncio

async def main():
    await asyncio.sleep(0.001)
    kind = type(asyncio.get_running_loop())
    print(kind.__module__ + "." + kind.__qualname__)
"""
SINCE = {"asyncio.run": (3, 12), "asyncio.Runner": (3, 11)}
BEFORE = {"nest_asyncio": (3, 14)}


@pytest.fixture
def says_loop(run_program, loop_is):
    """says_loop(command, **options): the last line that it prints is the loop."""

    def says_loop(command, **options):
        output = run_program(command, **options)
        assert output.splitlines()[-1] == loop_is
        return output

    return says_loop


@pytest.mark.parametrize("name", ["asyncio.run", "asyncio.Runner", "cloop.run", "policy", "anyio"])
def test_line(says_loop, needs, put, block, name):
    if sys.version_info < SINCE.get(name, (3, 8)):
        pytest.skip("for newer Pythons")
    if name == "policy" and sys.version_info >= (3, 16):
        pytest.skip("there are no policies")
    if name == "anyio":
        needs("anyio")
    put("main.py", "%s\n%s\nimport cloop\n%s" % (SAY, "import anyio" if name == "anyio" else "", block(name)))
    says_loop("python -W ignore::DeprecationWarning main.py")


def libraries():
    """Those that the page's table names."""
    with open(os.path.join(HERE, "..", "..", "..", "docs", "frameworks.md"), encoding="utf-8") as file:
        table = re.search(r"^## Libraries\n(.*?)^## ", file.read(), re.M | re.S).group(1)
    cells = re.findall(r"^\| [^|]+\| ([^|]+) \|$", table, re.M)
    return [re.sub(r" \(.*\)", "", name) for cell in cells for name in cell.split(", ")]


def file_of(library):
    return "library_%s.py" % re.sub(r"\W", "_", library.lower())


def test_libraries_are_those_that_have_a_program():
    files = {name for name in os.listdir(os.path.join(HERE, "programs")) if name.startswith("library_")}
    assert sorted(map(file_of, libraries())) == sorted(files)


ON_REDIS, ON_POSTGRES = ["redis-py"], ["asyncpg", "psycopg", "SQLAlchemy"]


@pytest.fixture
def library_says_loop(says_loop, put, block):
    def library_says_loop(library, **env):
        if sys.version_info >= BEFORE.get(library, (4,)):
            pytest.skip("%s does not work on asyncio" % library)
        put(file_of(library))
        put("main.py", "import cloop\nfrom %s import main\n%s" % (file_of(library)[:-3], block("cloop.run")))
        says_loop("python -W ignore::DeprecationWarning main.py", env=env)

    return library_says_loop


@pytest.mark.parametrize("library", [name for name in libraries() if name not in ON_REDIS + ON_POSTGRES])
def test_library(library_says_loop, library):
    library_says_loop(library)


@pytest.mark.parametrize("library", ON_REDIS)
def test_library_on_redis(library_says_loop, redis_server, library):
    library_says_loop(library, REDIS=str(redis_server.port))


@pytest.mark.parametrize("library", ON_POSTGRES)
def test_library_on_postgres(library_says_loop, postgres_server, library):
    library_says_loop(library, POSTGRES="postgresql://postgres@127.0.0.1:%d/postgres" % postgres_server.port)


def test_test_client(says_loop, needs, put, program_text, block):
    needs("httpx")
    for name in ("starlette_app.py", "fastapi_app.py"):
        text = "from starlette.testclient import TestClient\nimport cloop\n%sprint(client.get('/loop').text)\n"
        put("main.py", program_text(name) + text % block("TestClient"))
        says_loop("python -W ignore main.py")


UNITTEST = """import asyncio, unittest
import cloop

%s
    async def test_loop(self):
        await asyncio.sleep(0.001)
        self.assertIsInstance(asyncio.get_running_loop(), cloop.Loop)
"""


def test_unittest(run_program, put, block):
    if sys.version_info < (3, 13):
        pytest.skip("for newer Pythons")
    put("test_it.py", UNITTEST % block("unittest"))
    assert "Ran 1 test" in run_program("python -m unittest")


@pytest.mark.commands_of("unittest by the launcher")
def test_unittest_by_the_launcher(run_program, put, block_name, command):
    put("test_it.py", UNITTEST % "class Tests(unittest.IsolatedAsyncioTestCase):")
    assert "Ran 1 test" in run_program(command)


PYTEST = """import asyncio
import pytest
import cloop

@pytest.mark.asyncio
async def test_loop():
    assert isinstance(asyncio.get_running_loop(), cloop.Loop)
"""
PYTEST_AIOHTTP = """
from aiohttp import web

async def answer(request):
    assert isinstance(asyncio.get_running_loop(), cloop.Loop)
    return web.Response(text="yes")

@pytest.mark.asyncio
async def test_client(aiohttp_client):
    app = web.Application()
    app.add_routes([web.get("/", answer)])
    client = await aiohttp_client(app)
    assert await (await client.get("/")).text() == "yes"
"""


def test_pytest_asyncio(run_program, needs, put, block):
    needs("pytest_asyncio>=1.5")
    put("conftest.py", block("pytest-asyncio"))
    put("test_it.py", PYTEST)
    assert "\n1 passed" in run_program("python -m pytest -q -p no:cacheprovider")


def test_pytest_aiohttp(run_program, needs, put, block):
    needs("pytest_asyncio>=1.5", "pytest_aiohttp")
    put("conftest.py", block("pytest-asyncio"))
    put("test_it.py", PYTEST + PYTEST_AIOHTTP)
    assert "\n2 passed" in run_program("python -m pytest -q -p no:cacheprovider")


PYTEST_ANYIO = """import asyncio
import pytest
import cloop

@pytest.mark.anyio
async def test_loop():
    await asyncio.sleep(0.001)
    assert isinstance(asyncio.get_running_loop(), cloop.Loop)
"""


def test_pytest_anyio(run_program, needs, put, block):
    needs("anyio>=4.0")
    put("conftest.py", block("anyio's pytest plugin"))
    put("test_it.py", PYTEST_ANYIO)
    assert "\n1 passed" in run_program("python -m pytest -q -p no:cacheprovider -p no:asyncio -p no:aiohttp")


@pytest.mark.commands_of("pytest by the launcher")
def test_pytest_by_the_launcher(run_program, needs, put, block_name, command):
    needs("pytest_asyncio")
    put("test_it.py", PYTEST)
    assert "\n1 passed" in run_program(command + " -q -p no:cacheprovider")


def test_scrapy(run_program, start, needs, put, block, free_port, loop_is):
    needs("scrapy")
    put("page.py", block("scrapy"))
    put("spider.py")
    put("index.html", "<p>it is a page</p>")
    with start("python -m http.server --bind 127.0.0.1 %d" % free_port, log="pages") as pages:
        pages.until(lambda: "Serving" in pages.output())
        env = {"URL": "http://127.0.0.1:%d/index.html" % free_port}
        output = run_program("python -W ignore::DeprecationWarning spider.py", env=env)
        assert "it is a page on " + loop_is in output
        pages.stop(signal.SIGTERM)


@pytest.mark.commands_of("ipython")
def test_ipython(start, needs, block_name, command, loop_is):
    needs("IPython")
    lines = b"import asyncio\nasync def f(): print(type(asyncio.get_running_loop()))\n\nawait f()\nexit\n"
    with start(command + " --simple-prompt", stdin=subprocess.PIPE) as product:
        product.process.stdin.write(lines)
        product.process.stdin.close()
        product.ends()
        assert "<class '%s'>" % loop_is in product.output()


def test_ipykernel(says_loop, needs, put, block):
    needs("ipykernel", "jupyter_client")
    assert json.loads(block("ipykernel"))
    put("kernels/cloop/kernel.json", block("ipykernel"))
    put("kernel_client.py")
    says_loop("python -W ignore kernel_client.py", env={"JUPYTER_PATH": "."})


@pytest.mark.commands_of("arq")
def test_arq(start, says_loop, needs, put, redis_server, block_name, command):
    needs("arq")
    put("worker.py")
    env = {"REDIS": str(redis_server.port)}
    with start(command, env=env, log="worker") as worker:
        says_loop("python -W ignore worker.py", env=env)
        worker.stop()
