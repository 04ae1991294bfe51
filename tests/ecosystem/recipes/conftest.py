"""What runs a recipe of docs/frameworks.md: the text of the page, in an empty folder, in a process group of its own.

Before each block of the page a comment has its name: <!-- recipe: NAME -->. Blocks without a language are commands, one a
line; a block whose first line is `# NAME.py` is that file. The rest of a program is in the folder `programs`.
"""

import contextlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
PAGE = os.path.join(HERE, "..", "..", "..", "docs", "frameworks.md")
LOOP = "cloop._loop.Loop"
LIMIT_S = 60  # for a product to start, to answer or to end: Ray and Dask take their time


def read_blocks(text):
    """The page's blocks: text by name."""
    named = re.findall(r"<!-- recipe: (.+?) -->\n```\w*\n(.*?)^```$", text, re.M | re.S)
    fences = len(re.findall(r"^```", text, re.M))
    assert 2 * len(named) == fences, "a block without a name cannot be run"
    blocks = dict(named)
    assert len(blocks) == len(named), "two blocks have the same name"
    return blocks


with open(PAGE, encoding="utf-8") as page:
    BLOCKS = read_blocks(page.read())


def pytest_generate_tests(metafunc):
    """`command`: each line of the blocks that the test's mark `commands_of` names."""
    mark = metafunc.definition.get_closest_marker("commands_of")
    if mark:
        lines = [(name, line) for name in mark.args for line in BLOCKS[name].splitlines()]
        metafunc.parametrize("block_name, command", lines, ids=[line for _, line in lines])


@pytest.fixture(scope="session")
def blocks():
    return BLOCKS


@pytest.fixture(scope="session")
def block():
    return BLOCKS.__getitem__


@pytest.fixture(name="read_blocks")
def get_read_blocks():
    return read_blocks


@pytest.fixture(scope="session")
def loop_is():
    return LOOP


@pytest.fixture
def needs():
    """needs("module", "module>=1.2", ...): skips the test without them, and says which."""

    def needs(*wanted):
        for need in wanted:
            module, _, least = need.partition(">=")
            try:
                found = importlib.util.find_spec(module)
            except ModuleNotFoundError:  # the package that it is in
                found = None
            if found is None:
                pytest.skip("there is no %s (make recipes)" % module)
            if least:
                version = importlib.metadata.version(module)
                if numbers(version) < numbers(least):
                    pytest.skip("%s %s is older than %s" % (module, version, least))

    return needs


def numbers(version):
    return [int(number) for number in re.findall(r"\d+", version)[:2]]


@pytest.fixture
def program_text(needs):
    """program_text(name): the text of a file in `programs`. What its line `# needs:` names must be installed."""

    def program_text(name):
        with open(os.path.join(HERE, "programs", name), encoding="utf-8") as file:
            text = file.read()
        found = re.search("^# needs: (.*)", text, re.M)
        needs(*found.group(1).split() if found else ())
        return text

    return program_text


@pytest.fixture
def put(tmp_path, program_text):
    """put(name, text=None): writes a file into the folder of the recipe; without a text, the one in `programs`."""

    def put(name, text=None):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(program_text(name) if text is None else text)

    return put


class Product:
    """A process, those that it starts, and what they print."""

    def __init__(self, process, log):
        self.process, self.log, self.limit_s = process, log, LIMIT_S

    def output(self):
        with open(self.log, encoding="utf-8", errors="replace") as file:
            return file.read()

    def until(self, condition):
        """Waits for condition() to be true, as long as the product runs; returns what it returned."""
        deadline = time.monotonic() + self.limit_s
        while True:
            try:
                found = condition()
            except (OSError, AssertionError) as error:
                found, why = None, error
            else:
                why = "waited in vain"
            if found:
                return found
            if self.process.poll() is not None:
                raise AssertionError("ended with status %d" % self.process.returncode)
            if time.monotonic() > deadline:
                raise AssertionError(why)
            time.sleep(0.05)

    def until_says(self, text):
        return self.until(lambda: text in self.output())

    def members(self):
        """Processes of the group that live."""
        found = []
        for name in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError), open("/proc/%s/stat" % name) as file:
                fields = file.read().rpartition(")")[2].split()
                if int(fields[2]) == self.process.pid and fields[0] not in "ZX":
                    found.append(int(name))
        return found

    def stop(self, by=signal.SIGTERM, group=False, statuses=(0, -signal.SIGTERM), unless="$^"):
        """Asks it to end, and expects that it and its children do, without a traceback outside of what matches `unless`."""
        if group:
            os.killpg(self.process.pid, by)
        else:
            self.process.send_signal(by)
        self.ends(statuses, unless)

    def ends(self, statuses=(0,), unless="$^"):
        assert self.process.wait(self.limit_s) in statuses
        deadline = time.monotonic() + self.limit_s
        while self.members():
            assert time.monotonic() < deadline, "processes are left"
            time.sleep(0.02)
        assert "Traceback" not in re.sub(unless, "", self.output())
        assert "cloop: the program ran on" not in self.output()


@pytest.fixture
def start(cloop, cloop_on_path, tmp_path, monkeypatch):
    """start(command, **options): a context in which the command runs, by a shell, in the folder of the recipe. `python` is
    this interpreter. What it printed is in the report of a test that fails."""
    for name in ("PYTHONASYNCIODEBUG", "PYTHONDEVMODE", "PYTHONWARNINGS", "CLOOP_POLLER"):
        monkeypatch.delenv(name, raising=False)
    scripts = os.path.dirname(sys.executable)
    monkeypatch.setenv("PATH", scripts, prepend=os.pathsep)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    monkeypatch.chdir(tmp_path)

    @contextlib.contextmanager
    def start(command, log="log", env=(), **options):
        log = str(tmp_path / log)
        # The group gets a signal below, or, by prctl(2), its leader, if this process ends otherwise.
        guard = ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []
        with open(log, "w") as file:
            process = subprocess.Popen(
                guard + ["sh", "-c", "exec " + command],
                cwd=str(tmp_path),
                stdin=options.pop("stdin", subprocess.DEVNULL),
                stdout=file,
                stderr=file,
                start_new_session=True,
                env=dict(os.environ, **dict(env)),
                **options,
            )
        product = Product(process, log)
        try:
            yield product
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            print("$ %s\n%s" % (command, product.output()))

    return start


@pytest.fixture
def run_program(start):
    """run_program(command): what it printed; it ends with status 0."""

    def run_program(command, **options):
        with start(command, **options) as product:
            product.ends()
            return product.output()

    return run_program


@pytest.fixture
def get():
    """get(address, path): the body of a response of status 200. The address is a port, or the path of a Unix socket."""

    def get(address, path="/loop"):
        if isinstance(address, str):
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(LIMIT_S)
        else:
            connection = socket.create_connection(("127.0.0.1", address), timeout=LIMIT_S)
        with connection:
            if isinstance(address, str):
                connection.connect(address)
            connection.sendall(b"GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n" % path.encode())
            with connection.makefile("rb") as file:
                head, _, body = file.read().partition(b"\r\n\r\n")
        assert head.split(b"\r\n")[0].split()[1:2] == [b"200"], head
        if b"transfer-encoding: chunked" in head.lower():
            body = body.split(b"\r\n")[1]
        return body.decode()

    return get
