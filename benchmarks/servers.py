"""Real servers that rows talk to, where this machine has them.

The suite starts one for all the processes of a row, and says by the environment where it is. A process by itself,
as of benchmarks.one, starts its own.
"""

from __future__ import annotations

import contextlib
import glob
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from typing import Any, Callable, Dict, Iterator, List, Optional

from benchmarks.registry import Skip

SECONDS = 30  # to start


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        found = max(glob.glob("/usr/lib/postgresql/*/bin/" + name), default=None)
    if found is None:
        raise Skip("there is no " + name)
    return found


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def _options(folder: str) -> Dict[str, Any]:
    """PostgreSQL refuses to be root."""
    if os.geteuid() != 0:
        return {}
    names = {user.pw_name for user in pwd.getpwall()}
    user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    os.chown(folder, user.pw_uid, user.pw_gid)

    def become() -> None:
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)

    return {"preexec_fn": become}


@contextlib.contextmanager
def _started(command: List[str], port: int, **options: Any) -> Iterator[None]:
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)
    try:
        due = time.monotonic() + SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if child.poll() is not None or time.monotonic() > due:
                    raise Skip("{} does not start".format(os.path.basename(command[0]))) from None
                time.sleep(0.05)
        yield
    finally:
        child.terminate()
        child.wait()


@contextlib.contextmanager
def _redis() -> Iterator[int]:
    port = _free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = [_program("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        with _started(command, port):
            yield port


@contextlib.contextmanager
def _postgres() -> Iterator[int]:
    port = _free_port()
    with tempfile.TemporaryDirectory() as folder:
        options, data = _options(folder), os.path.join(folder, "data")
        initdb = [_program("initdb"), "-D", data, "--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8"]
        made = subprocess.run(initdb, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder, **options)
        if made.returncode:
            raise Skip("initdb fails")
        command = [_program("postgres"), "-D", data, "-h", "127.0.0.1", "-p", str(port), "-k", folder, "-F"]
        with _started(command, port, cwd=folder, **options):
            yield port


_SERVERS: Dict[str, Callable[[], Any]] = {"redis": _redis, "postgres": _postgres}


def _variable(kind: str) -> str:
    return "BENCHMARKS_{}_PORT".format(kind.upper())


@contextlib.contextmanager
def beside(kind: Optional[str]) -> Iterator[int]:
    """The port of such a server on 127.0.0.1: of the one that stands already, or of a new one; 0 of none."""
    if kind is None:
        yield 0
    elif _variable(kind) in os.environ:
        yield int(os.environ[_variable(kind)])
    else:
        with _SERVERS[kind]() as port:
            os.environ[_variable(kind)] = str(port)
            try:
                yield port
            finally:
                del os.environ[_variable(kind)]
