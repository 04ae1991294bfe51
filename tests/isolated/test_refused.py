"""System calls that are refused for good, by a filter: what asyncio does without them, cloop does as well."""

import os
import selectors
import subprocess
import sys
from asyncio import selector_events, unix_events

import pytest

FOLDER = os.path.dirname(os.path.abspath(__file__))
REFUSAL = os.path.join(FOLDER, "refusal.py")
WAITS = getattr(unix_events, "_ThreadedChildWatcher", getattr(unix_events, "ThreadedChildWatcher", None))._do_waitpid

SCRIPT = """
import os, socket, sys, tempfile
sys.path.insert(0, sys.argv[1])
import scenarios

PARTS = [bytes([65 + number]) * 300_000 for number in range(4)]  # more than a socket takes at once

async def parts(loop):
    async def collect(reader, writer):
        writer.write(b"".join(PARTS[number % 4][:7] for number in range(40)))
        got.set_result(await reader.read())
        writer.close()

    got = loop.create_future()
    server = await asyncio.start_server(collect, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    for part in PARTS:
        writer.write(part)
    for number in range(100):  # small ones, which are held
        await asyncio.sleep(0)
        for part in PARTS:
            writer.write(part[:10])
    writer.write_eof()
    assert await got == b"".join(PARTS) + b"".join(part[:10] for part in PARTS) * 100
    assert await reader.read() == b"".join(PARTS[number % 4][:7] for number in range(40))
    writer.close()
    server.close()

async def piped(loop):
    reading, writing = os.pipe()
    reader = asyncio.StreamReader()
    source, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), open(reading, "rb", 0))
    sink, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, open(writing, "wb", 0))
    sink.set_write_buffer_limits(1 << 30)
    for part in PARTS:
        sink.write(part)
    assert await reader.readexactly(sum(map(len, PARTS))) == b"".join(PARTS)
    sink.close()
    await reader.read()
    source.close()

async def filed(loop):
    async def serve(reader, writer):
        file.seek(0)
        await loop.sendfile(writer.transport, file)
        writer.close()

    with tempfile.TemporaryFile() as file:
        file.write(PARTS[0])
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        assert await reader.read() == PARTS[0]
        writer.close()
        server.close()

async def natively(loop):
    process = await asyncio.create_subprocess_exec("true")
    assert type(process._transport).__module__ == "cloop._process"
    assert await process.wait() == 0

async def closed(loop):
    "Its socket is a closed one."
    server = await asyncio.start_server(scenarios.echo, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.close()
    assert await reader.read() == b""
    assert writer.transport.get_extra_info("socket").fileno() == -1
    server.close()

async def served(loop):
    "By a server whose client is in another thread."
    def ask(address):
        with socket.socket() as sock:
            sock.connect(address)
            sock.sendall(b"x" * 10)
            return sock.recv(10, socket.MSG_WAITALL)

    server = await asyncio.start_server(scenarios.echo, "127.0.0.1", 0)
    assert await loop.run_in_executor(None, ask, server.sockets[0].getsockname()) == b"x" * 10
    server.close()

async def unaccepted(loop):
    "The program is told, whether once or each time."
    def handler(loop, context):
        if not told.done():
            told.set_result(context["exception"])

    told = loop.create_future()
    loop.set_exception_handler(handler)
    server = await asyncio.start_server(scenarios.echo, "127.0.0.1", 0)
    with socket.create_connection(server.sockets[0].getsockname()):
        assert isinstance(await told, PermissionError)
        server.close()
    await asyncio.sleep(0)

loop = new_loop()
asyncio.set_event_loop(loop)
if len(sys.argv) > 3:
    print(loop._poller)
scenario = globals().get(sys.argv[2]) or getattr(scenarios, sys.argv[2])

async def main():
    await asyncio.wait_for(scenario(loop), 30)
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:  # of servers
        await asyncio.wait(others)

loop.run_until_complete(main())
loop.close()
"""


@pytest.fixture(scope="module")
def filters():
    """Skips the test if no filter can be made."""
    status = subprocess.run([sys.executable, REFUSAL, "memfd_create", "EPERM", "-c", ""]).returncode
    if status != 0:
        pytest.skip("no filters of system calls here")


@pytest.fixture
def refused(filters, script, loop_kind, monkeypatch):
    """refused(calls, error, scenario): the scenario is complete, though these calls are refused."""
    if loop_kind == "cloop-epoll":
        monkeypatch.delenv("CLOOP_POLLER")  # the choice is the loop's

    def refused(calls, error, scenario, *more):
        if loop_kind == "asyncio" and calls == "sendmsg" and getattr(selector_events, "_HAS_SENDMSG", False):
            pytest.skip("asyncio sends by it, too")
        if loop_kind == "asyncio" and "waitid" in calls.split() and "waitid" in WAITS.__code__.co_names:
            pytest.skip("asyncio waits by it, too")
        return script(SCRIPT, FOLDER, scenario, *more, options=(REFUSAL, calls, error))

    return refused


@pytest.mark.parametrize("error", ["EPERM", "ENOSYS"])
@pytest.mark.parametrize(
    "calls, scenario",
    [
        ("pipe pipe2", "streams"),
        ("pipe pipe2", "threads"),
        ("pipe pipe2", "signals"),
        ("sendmsg", "parts"),
        ("recvmsg", "signals"),
        ("writev", "piped"),
        ("pidfd_open waitid", "subprocesses"),
        ("pidfd_open close_range", "subprocesses"),
        ("epoll_pwait2", "timers"),
        ("sendfile", "filed"),
        ("getsockopt", "served"),
    ],
)
def test_done_without(refused, calls, error, scenario):
    refused(calls, error, scenario)


def test_child_without_a_pidfd_is_ours(refused, loop_kind):
    """asyncio has another watcher then, which the program has not chosen."""
    if loop_kind == "asyncio":
        pytest.skip("a class of cloop's")
    refused("pidfd_open", "EPERM", "natively")


def test_child_without_vfork(refused):
    refused("vfork", "EPERM", "subprocesses")


def test_accepting_as_before_accept4(refused):
    refused("accept4", "ENOSYS", "streams")
    refused("accept4", "ENOSYS", "sock_operations")


@pytest.mark.parametrize("error", ["EPERM", "ENOSYS"])
def test_poller_that_there_is(refused, loop_kind, error):
    """As the selectors module, which asks when it is imported."""
    if loop_kind == "asyncio" and not hasattr(selectors, "_can_use"):
        pytest.skip("asyncio needs epoll")
    calls = "epoll_create epoll_create1"
    if os.uname().machine == "x86_64":  # where poll() is another call
        calls += " ppoll"
    named = [] if loop_kind == "asyncio" else ["named"]
    assert refused(calls, error, "streams", *named).split() == ["poll"] * len(named)


def test_poller_that_was_asked_for(filters, python, cloop, monkeypatch):
    """Another one would not be what the program wants to try."""
    monkeypatch.setenv("CLOOP_POLLER", "epoll")
    done = python(REFUSAL, "epoll_create1", "ENOSYS", "-c", "import cloop; cloop.new_event_loop()")
    assert "OSError: [Errno 38]" in done.stderr


def test_closed_socket_without_unix_sockets(refused):
    """As in a service of systemd with RestrictAddressFamilies=AF_INET."""
    refused("socket:0:1", "EAFNOSUPPORT", "closed")


def test_server_that_may_not_accept_says_so(refused):
    """It was silent, and busy."""
    refused("accept accept4", "EPERM", "unaccepted")
