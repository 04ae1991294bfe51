"""What the tests of real libraries share: running a coroutine on the loop under test, and servers.

`make ecosystem` installs the libraries; servers come from the system. What is missing is skipped.
"""

import asyncio
import contextlib
import gc
import glob
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import types

import pytest

LIMIT_S = 30  # for one test, and for a server to start or stop

# Without the sanitizers' library, if cloop is built with them.
PLAIN_ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}


@pytest.fixture
def run(loop, reports):
    """Runs a coroutine on the loop under test like asyncio.run(). No task may be left then, and the loop's exception
    handler must not have been called.
    """

    def run(main):
        try:
            result = loop.run_until_complete(asyncio.wait_for(main, LIMIT_S))
            assert not asyncio.all_tasks(loop)
            return result
        finally:
            asyncio.runners._cancel_all_tasks(loop)
            loop.run_until_complete(loop.shutdown_asyncgens())
            if sys.version_info >= (3, 9):
                loop.run_until_complete(loop.shutdown_default_executor())

    yield run
    gc.collect()  # reports exceptions that were never retrieved
    assert reports == []


@pytest.fixture
def event_loop_is(loop_class):
    """What a server in another process reports as its loop: module and name of the class."""
    return loop_class.__module__ + "." + loop_class.__qualname__


# Servers


@pytest.fixture(scope="session")
def program():
    """Finds a program on PATH, or where Debian installs PostgreSQL; otherwise skips the test."""

    def program(name, package):
        debians = glob.glob("/usr/lib/postgresql/*/bin/" + name)
        newest = max(debians, key=lambda path: float(path.split("/")[4]), default=None)
        found = newest or shutil.which(name)
        return found or pytest.skip("there is no %s (Debian, Ubuntu: apt-get install %s)" % (name, package))

    return program


@pytest.fixture(scope="session")
def serve(program):
    """A context in which a server runs: serve(command, ready=function)."""

    @contextlib.contextmanager
    def serve(command, ready=None, user=None, stop=signal.SIGTERM, **options):
        # However this process ends, the server gets a signal. prctl(2) does that, but a change of user would undo it,
        # so setpriv does both.
        prefix = [program("setpriv", "util-linux"), "--pdeathsig", signal.Signals(stop).name[3:]]
        if user is not None:
            prefix += ["--reuid", user, "--regid", str(pwd.getpwnam(user).pw_gid), "--clear-groups"]
        with contextlib.ExitStack() as stack:
            if ready is not None:
                log = stack.enter_context(tempfile.TemporaryFile("w+"))
                options.update(stdout=log, stderr=log)
            process = stack.enter_context(subprocess.Popen(prefix + command, **options))
            stack.callback(kill_unless_ended, process, stop)
            deadline = time.monotonic() + LIMIT_S
            while ready is not None and not ready():
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    pytest.fail("%s does not start:\n%s" % (command[0], log.read()), pytrace=False)
                time.sleep(0.02)
            yield process

    return serve


def kill_unless_ended(process, stop):
    if process.poll() is None:
        process.send_signal(stop)
        try:
            process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()


def free_port():
    """A port that was free a moment ago, for servers that cannot choose one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(name="free_port")
def one_free_port():
    return free_port()


def can_connect(path):
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(path) == 0


@pytest.fixture(scope="session")
def server_folder():
    """Creates folders for an unprivileged server, with names short enough for Unix sockets."""
    with contextlib.ExitStack() as stack:

        def server_folder(user=None):
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="cloop-", dir="/tmp"))
            if user is not None:
                shutil.chown(folder, user)
            return folder

        yield server_folder


@pytest.fixture(scope="session")
def redis_server(program, serve, server_folder):
    """Our own Redis: its host, port and path."""
    folder, port = server_folder(), free_port()
    path = folder + "/redis.sock"
    command = [program("redis-server", "redis-server"), "--bind", "127.0.0.1", "--port", str(port)]
    command += ["--unixsocket", path, "--dir", folder, "--save", "", "--appendonly", "no"]
    with serve(command, ready=lambda: can_connect(path), env=PLAIN_ENVIRONMENT):
        yield types.SimpleNamespace(host="127.0.0.1", port=port, path=path)


@pytest.fixture(scope="session")
def postgres_server(program, serve, server_folder):
    """Our own PostgreSQL cluster: its host, port and the folder of its Unix socket."""
    initdb = program("initdb", "postgresql")
    user = None
    if os.geteuid() == 0:  # which PostgreSQL refuses
        names = {entry.pw_name for entry in pwd.getpwall()}
        user = "postgres" if "postgres" in names else "nobody"
    folder, port = server_folder(user), free_port()
    data = folder + "/data"
    command = [initdb, "--pgdata", data, "--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8"]
    options = {"user": user, "cwd": folder, "env": PLAIN_ENVIRONMENT}
    with serve(command + ["--locale=C"], stdout=subprocess.PIPE, **options) as process:
        output = process.communicate()[0]
        assert process.returncode == 0, output
    command = [program("postgres", "postgresql"), "-D", data, "-h", "127.0.0.1", "-p", str(port), "-k", folder, "-F"]
    ask = [program("pg_isready", "postgresql"), "-q", "-h", folder, "-p", str(port)]

    def ready():
        return subprocess.call(ask, env=PLAIN_ENVIRONMENT, timeout=LIMIT_S) == 0

    # SIGINT: does not wait for clients.
    with serve(command, ready=ready, stop=signal.SIGINT, **options):
        yield types.SimpleNamespace(host="127.0.0.1", port=port, folder=folder)
