"""The load generator and the floor servers: C programs on a core of their own.

A load generator written in Python would be slower than the servers, and one in
this process would be measured with them. client.c and server.c say what each
mode does.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from benchmarks.registry import Skip

SOURCES = Path(__file__).resolve().parent
BUILD = SOURCES.parent.parent / "build" / "benchmarks"
CC = ["cc", "-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra"]
#: Follows the sources, so that the linker knows what it is to look for.
WITH_TLS = ["-DTLS", "-lssl", "-lcrypto"]

#: Set by benchmarks.instr: is given the descriptor of the turns that a child takes; turns.h.
take_turns: Optional[Callable[[int], None]] = None


def program(name: str, tls: bool = False) -> str:
    """The path of what NAME.c compiles to, compiled if a source is newer."""
    binary = BUILD / (name + "-tls" if tls else name)
    newest = max(path.stat().st_mtime_ns for path in SOURCES.glob("*.[ch]"))
    if not binary.exists() or binary.stat().st_mtime_ns < newest:
        if shutil.which(CC[0]) is None:
            raise Skip("there is no C compiler (cc) for the load generator")
        if tls and not _has_openssl():
            raise Skip("a C compiler finds no OpenSSL (libssl-dev) for the load generator")
        BUILD.mkdir(parents=True, exist_ok=True)
        # A benchmark beside this one never sees half a program.
        made = "{}-{}".format(binary, os.getpid())
        subprocess.run([*CC, str(SOURCES / (name + ".c")), "-o", made, *(WITH_TLS if tls else ())], check=True)
        os.replace(made, str(binary))
    return str(binary)


def _has_openssl() -> bool:
    source = "#include <openssl/ssl.h>\nint main(void) { return SSL_CTX_new(TLS_method()) == NULL; }\n"
    command = [*CC, "-x", "c", "-", "-o", os.devnull, *WITH_TLS]
    return subprocess.run(command, input=source.encode(), stderr=subprocess.DEVNULL).returncode == 0


@contextlib.contextmanager
def certificate(kind: str) -> Iterator[Optional[str]]:
    """The path of a certificate of localhost and its key; None where the kind needs none."""
    if kind != "tls":
        yield None
        return
    if shutil.which("openssl") is None:
        raise Skip("there is no openssl command to make a certificate")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "localhost.pem")
        make = "openssl req -x509 -nodes -days 2 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -subj /CN=localhost"
        subprocess.run([*make.split(), "-keyout", path, "-out", path], check=True, stderr=subprocess.DEVNULL)
        yield path


def pin() -> Tuple[int, int]:
    """Keep this process on the core of what is measured; that one and the load's."""
    cores = sorted(os.sched_getaffinity(0))
    if take_turns is not None:  # nothing is timed, and others count at the same time
        return cores[0], cores[-1]
    os.sched_setaffinity(0, cores[:1])
    return cores[0], cores[-1]


@contextlib.contextmanager
def _running(command: List[str], core: int, **options: Any) -> Iterator[Tuple[subprocess.Popen, socket.socket]]:
    """A child on that core, and our end of what is its standard input and output."""
    with contextlib.ExitStack() as stack:
        options["env"] = {**os.environ, **(options.get("env") or {})}
        ours, theirs = map(stack.enter_context, socket.socketpair())
        if take_turns is not None:
            turn, their_turn = map(stack.enter_context, socket.socketpair())
            take_turns(turn.fileno())
            options["env"]["LOAD_TURNS"] = str(their_turn.fileno())
            options["pass_fds"] = [*options.get("pass_fds", ()), their_turn.fileno()]
        child = subprocess.Popen(command, stdin=theirs, stdout=theirs, **options)
        theirs.close()
        if take_turns is not None:
            their_turn.close()
        with child:
            try:
                if take_turns is None:
                    os.sched_setaffinity(child.pid, [core])
                yield child, ours
            finally:
                # It ends by itself at the end of its input, but not while it waits
                # for an answer that a failed server owes it.
                child.kill()


class Client:
    """A load generator at work on the server at an address."""

    def __init__(self, child: subprocess.Popen, control: socket.socket) -> None:
        self._child = child
        self._control = control

    async def wait(self, loop: Any) -> Dict[str, Any]:
        """Its next line, while the loop serves."""
        readable = loop.create_future()
        loop.add_reader(self._control.fileno(), readable.set_result, None)
        try:
            await readable
        finally:
            loop.remove_reader(self._control.fileno())
        return self.wait_blocking()

    async def run(self, loop: Any, n: int) -> Dict[str, Any]:
        """Have n operations performed on the server that this loop is; what it tells of them."""
        self._control.sendall(b"%d\n" % n)
        return await self.wait(loop)

    def wait_blocking(self) -> Dict[str, Any]:
        line = self._control.recv(1000)
        if not line:
            assert self._child.stderr is not None
            raise RuntimeError("the load generator ended: " + self._child.stderr.read().strip())
        return json.loads(line)

    def run_blocking(self, n: int) -> Dict[str, Any]:
        """Have n operations performed on a server that is a process of its own."""
        self._control.sendall(b"%d\n" % n)
        return self.wait_blocking()


@contextlib.contextmanager
def client(mode: str, address: str, *args: Any, core: int, env: Optional[Dict[str, str]] = None) -> Iterator[Client]:
    command = [program("client", address.startswith("tls:")), mode, address, *map(str, args)]
    with _running(command, core, env=env, stderr=subprocess.PIPE, universal_newlines=True) as (child, control):
        yield Client(child, control)


def cpu_ns_of(pid: int) -> int:
    """The CPU time of a process."""
    # What clock_getcpuclockid(3) makes of it, on Linux.
    return time.clock_gettime_ns((~pid << 3) | 2)


class Server:
    """A C server on a socket; its CPU time is that of its process."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def cpu_ns(self) -> int:
        return cpu_ns_of(self._pid)


@contextlib.contextmanager
def server(
    mode: str,
    sock: socket.socket,
    *,
    core: int,
    pem: Optional[str] = None,
    env: Optional[Dict[str, str]] = None,
) -> Iterator[Server]:
    """It serves TLS if it is given a certificate."""
    command = [program("server", pem is not None), mode, str(sock.fileno())]
    if pem is not None:
        command.append(pem)
    with _running(command, core, env=env, pass_fds=[sock.fileno()]) as (child, _):
        yield Server(child.pid)


@contextlib.contextmanager
def listener(kind: str) -> Iterator[socket.socket]:
    """A socket that a server can be started on: "tcp", "tls", "unix", or "udp"."""
    with contextlib.ExitStack() as stack:
        if kind == "unix":
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            sock = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            sock.bind(os.path.join(folder, "socket"))
        elif kind in ("tcp", "tls"):
            # Without the protocol's number, asyncio leaves TCP_NODELAY off.
            sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP))
            if take_turns is not None:  # as turns_fix_buffers(); accepted sockets inherit it
                for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                    sock.setsockopt(socket.SOL_SOCKET, option, 200_000)
            sock.bind(("127.0.0.1", 0))
        else:
            sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            sock.bind(("127.0.0.1", 0))
        if kind != "udp":
            # A connect that overflows the backlog of a starved server waits for a second.
            sock.listen(4096)
        sock.setblocking(False)
        yield sock


def address_of(kind: str, sock: socket.socket) -> str:
    name = sock.getsockname()
    return "{}:{}".format(kind, name if kind == "unix" else name[1])
