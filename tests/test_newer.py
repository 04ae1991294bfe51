"""Keywords that uvloop accepts on every Python, and asyncio only in some versions."""

import asyncio
import inspect
import os
import socket
import ssl
import sys
import threading
import warnings

import pytest

OLD_TLS = sys.version_info < (3, 11)


@pytest.fixture
def loop(cloop, new_loop):
    return new_loop(cloop.Loop)


# create_unix_server(cleanup_socket=)


@pytest.fixture
def serve(loop, run):
    servers = []

    def serve(*args, **options):
        servers.append(run(loop.create_unix_server(asyncio.Protocol, *args, **options)))
        return servers[-1]

    yield serve
    for server in servers:
        server.close()
        run(server.wait_closed())


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "socket")


@pytest.mark.parametrize("cleanup", [False, True])
@pytest.mark.parametrize("start", [False, True])
def test_socket_file_is_removed_if_asked_for(serve, path, cleanup, start):
    server = serve(path, cleanup_socket=cleanup, start_serving=start)
    assert server.is_serving() is start
    server.close()
    assert os.path.exists(path) is not cleanup


def test_socket_file_that_is_anothers_by_now_is_kept(serve, path):
    first = serve(path, cleanup_socket=True)
    second = serve(path, cleanup_socket=True)
    first.close()
    assert os.path.exists(path)
    second.close()
    assert not os.path.exists(path)


def test_socket_file_that_has_gone_is_not_missed(serve, path, caplog):
    server = serve(path, cleanup_socket=True)
    os.unlink(path)
    server.close()
    assert not caplog.records


def test_socket_without_a_file_has_nothing_to_be_removed(serve):
    serve("\0cloop-%d" % os.getpid(), cleanup_socket=True).close()
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(b"")
    serve(sock=sock, cleanup_socket=True).close()


def test_socket_passed_in_is_cleaned_up_too(serve, path):
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(path)
    server = serve(sock=sock, cleanup_socket=True)
    assert server.sockets
    server.close()
    assert not os.path.exists(path)


def test_clients_are_served(loop, serve, path, run):
    serve(path, cleanup_socket=True)
    transport, _ = run(loop.create_unix_connection(asyncio.Protocol, path))
    transport.close()
    run(asyncio.sleep(0))


# ssl_shutdown_timeout=


def test_shutdown_timeout_is_taken_with_tls_only(loop, run, path):
    for connect in (
        lambda **options: loop.create_connection(asyncio.Protocol, "127.0.0.1", 1, **options),
        lambda **options: loop.create_unix_connection(asyncio.Protocol, path, **options),
        lambda **options: loop.create_server(asyncio.Protocol, "127.0.0.1", 0, **options),
        lambda **options: loop.create_unix_server(asyncio.Protocol, path, **options),
    ):
        with pytest.raises(ValueError, match="ssl_shutdown_timeout is only meaningful with ssl"):
            run(connect(ssl_shutdown_timeout=1))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for make in (
        loop.create_server(asyncio.Protocol, "127.0.0.1", 0, ssl=context, ssl_shutdown_timeout=1),
        loop.create_unix_server(asyncio.Protocol, path, ssl=context, ssl_shutdown_timeout=1),
    ):
        run(make).close()
    with pytest.raises(OSError):
        run(loop.create_connection(asyncio.Protocol, "127.0.0.1", 1, ssl=True, ssl_shutdown_timeout=1))


@pytest.mark.skipif(not OLD_TLS, reason="checked when the connection is made")
@pytest.mark.parametrize("timeout", [0, -1])
def test_shutdown_timeout_must_be_positive(loop, run, timeout):
    with pytest.raises(ValueError, match="ssl_shutdown_timeout should be a positive number, got %d" % timeout):
        run(loop.create_connection(asyncio.Protocol, "127.0.0.1", 1, ssl=True, ssl_shutdown_timeout=timeout))


# create_datagram_endpoint(reuse_address=)


def test_reuse_address_is_refused_or_warned_of_as_once_in_asyncio(loop, run):
    def endpoint(**options):
        return loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0), **options)

    with pytest.raises(ValueError, match="no longer supported"):
        run(endpoint(reuse_address=True))
    with pytest.warns(DeprecationWarning, match="reuse_address"):
        transport, _ = run(endpoint(reuse_address=False))
    transport.close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        transport, _ = run(endpoint(allow_broadcast=True))
    transport.close()
    run(asyncio.sleep(0))


# shutdown_default_executor(timeout=)


def test_executor_is_waited_for(loop, run):
    done = []
    begun = loop.run_in_executor(None, lambda: done.append(1))
    run(loop.shutdown_default_executor(timeout=60))
    assert done == [1]
    run(begun)
    with pytest.raises(RuntimeError):
        run(loop.run_in_executor(None, int))


def asyncio_waits_for_ever():
    """The first releases of Python 3.12 accepted the timeout, but waited for the threads all the same."""
    function = getattr(asyncio.BaseEventLoop, "shutdown_default_executor", None)
    if function is None or "timeout" not in inspect.signature(function).parameters:
        return False
    return "timeout" not in function.__code__.co_names


@pytest.mark.skipif(asyncio_waits_for_ever(), reason="this asyncio waits for the threads")
def test_executor_that_takes_too_long_is_left_alone(loop, run):
    release = threading.Event()
    begun = loop.run_in_executor(None, release.wait, 60)
    try:
        with pytest.warns(RuntimeWarning, match="joining its threads within 0.01 seconds"):
            run(loop.shutdown_default_executor(timeout=0.01))
    finally:
        release.set()
    run(begun)


def test_no_executor_is_no_matter(loop, run):
    run(loop.shutdown_default_executor())
    run(loop.shutdown_default_executor(timeout=1))


# All of them


def test_signatures_have_them(loop):
    def names(method):
        return inspect.signature(getattr(loop, method)).parameters

    assert "cleanup_socket" in names("create_unix_server")
    assert "reuse_address" in names("create_datagram_endpoint")
    timeout = names("shutdown_default_executor")["timeout"]
    assert timeout.kind is timeout.POSITIONAL_OR_KEYWORD and timeout.default is None
    for method in (
        "connect_accepted_socket",
        "create_connection",
        "create_server",
        "create_unix_connection",
        "create_unix_server",
        "start_tls",
    ):
        assert "ssl_shutdown_timeout" in names(method)
        assert inspect.iscoroutinefunction(getattr(loop, method))


WRAPPED = """
import asyncio, functools, ssl
original = asyncio.BaseEventLoop.create_server

@functools.wraps(original)
async def create_server(self, *args, **kwargs):
    print(sorted(kwargs))
    return await original(self, *args, **kwargs)

asyncio.BaseEventLoop.create_server = create_server

async def main(loop):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, ssl=context, ssl_shutdown_timeout=0.5)
    server.close()

import cloop

loop = cloop.new_event_loop()
loop.run_until_complete(main(loop))
loop.close()
"""


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio has ssl_shutdown_timeout since 3.11")
def test_keywords_of_a_method_that_was_wrapped(cloop, python):
    """Instrumentation may wrap asyncio's methods before cloop is imported."""
    done = python("-c", WRAPPED)
    assert (done.stdout, done.stderr) == ("['ssl', 'ssl_shutdown_timeout']\n", "")
