"""anyio: its sockets, files, threads and processes on the loop under test."""

import asyncio
import os
import signal
import socket
import sys

import pytest

anyio = pytest.importorskip("anyio")
from anyio import lowlevel  # noqa: E402
from anyio.streams.buffered import BufferedByteReceiveStream  # noqa: E402

PLENTY = 32 * 1024 * 1024  # more than sockets and transports keep


@pytest.fixture(autouse=sys.version_info < (3, 9))
def anyio_forgets():
    """The last anyio for Python 3.8 stores references that keep the loop alive."""
    yield
    lowlevel._run_vars.clear()


@pytest.fixture(params=["tcp", "unix"])
def listening(request, tmp_path, monkeypatch):
    """Creates a listener, and a function that connects to it."""
    monkeypatch.chdir(tmp_path)  # the path of the socket is short

    async def listening():
        if request.param == "unix":
            listener = await anyio.create_unix_listener("socket")
            return listener, lambda: anyio.connect_unix("socket")
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        return listener, lambda: anyio.connect_tcp("127.0.0.1", port)

    return listening


async def echo(stream):
    async with stream:
        async for data in stream:
            await stream.send(data)


def test_echo_for_many_clients(run, listening):
    async def main():
        listener, connect = await listening()
        async with listener, anyio.create_task_group() as servers:
            servers.start_soon(listener.serve, echo)

            async def talk(number):
                async with await connect() as stream:
                    reader = BufferedByteReceiveStream(stream)
                    for turn in range(20):
                        message = b"%d-%d " % (number, turn) * 100
                        await stream.send(message)
                        assert await reader.receive_exactly(len(message)) == message
                    await stream.send_eof()
                    with pytest.raises(anyio.EndOfStream):
                        await stream.receive()

            async with anyio.create_task_group() as clients:
                for number in range(50):
                    clients.start_soon(talk, number)
            servers.cancel_scope.cancel()

    run(main())


def test_sender_waits_for_its_reader(run, listening):
    sent = 0

    async def flood(stream):
        nonlocal sent
        async with stream:
            while sent < PLENTY:
                await stream.send(b"x" * 65536)
                sent += 65536

    async def main():
        listener, connect = await listening()
        async with listener, anyio.create_task_group() as servers:
            servers.start_soon(listener.serve, flood)
            async with await connect() as stream:
                received = len(await stream.receive())
                assert sent < PLENTY
                async for data in stream:
                    received += len(data)
            assert received == sent == PLENTY
            servers.cancel_scope.cancel()

    run(main())


async def cancel_after(turns, scope):
    for _ in range(turns):
        await asyncio.sleep(0)
    scope.cancel()


def test_cancelled_receive_loses_nothing(run, listening, reports):
    async def main():
        listener, connect = await listening()
        async with listener, anyio.create_task_group() as servers:
            servers.start_soon(listener.serve, echo)
            async with await connect() as stream:
                for number in range(100):
                    await stream.send(b"%04d" % number)
                    received, turns = b"", 0
                    while len(received) < 4:
                        turns += 1
                        async with anyio.create_task_group() as group:
                            group.start_soon(cancel_after, turns, group.cancel_scope)
                            received += await stream.receive()
                            group.cancel_scope.cancel()
                    assert received == b"%04d" % number
            servers.cancel_scope.cancel()

    run(main())
    # anyio's reader of a Unix socket sets the result of a future that was just cancelled.
    reports[:] = [context for context in reports if not isinstance(context["exception"], asyncio.InvalidStateError)]


def test_peer_resets_and_busy_streams(run, listening):
    async def main():
        listener, connect = await listening()
        async with listener, anyio.create_task_group() as servers:
            accepted = asyncio.get_running_loop().create_future()

            async def keep(stream):
                accepted.set_result(stream)

            servers.start_soon(listener.serve, keep)
            async with await connect() as stream:
                theirs = await accepted
                async with anyio.create_task_group() as group:
                    group.start_soon(stream.receive)
                    await anyio.wait_all_tasks_blocked()
                    with pytest.raises(anyio.BusyResourceError):
                        await stream.receive()
                    await theirs.send(b"x")
                await theirs.aclose()
                with pytest.raises(anyio.EndOfStream):
                    await stream.receive()
                with pytest.raises(anyio.BrokenResourceError):
                    while True:
                        await stream.send(b"x" * 65536)
            servers.cancel_scope.cancel()

    run(main())


def test_udp(run):
    async def main():
        async with await anyio.create_udp_socket(local_host="127.0.0.1") as server:
            port = server.extra(anyio.abc.SocketAttribute.local_port)
            async with await anyio.create_connected_udp_socket("127.0.0.1", port) as client:
                for size in (1, 1400, 60000):
                    await client.send(b"x" * size)
                    data, address = await server.receive()
                    assert data == b"x" * size
                    await server.sendto(data + b"y", *address)
                    assert await client.receive() == data + b"y"

    run(main())


def test_descriptors_travel_over_a_unix_socket(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    async def main():
        async with await anyio.create_unix_listener("socket") as listener:
            async with await anyio.connect_unix("socket") as client, await listener.accept() as server:
                mine, other = socket.socketpair()
                with mine, other:
                    await client.send_fds(b"here", [other.fileno()])
                    message, (received,) = await server.receive_fds(10, 1)
                    assert message == b"here"
                    with socket.socket(fileno=received) as same:
                        same.send(b"x")
                        assert mine.recv(10) == b"x"

    run(main())


def test_localhost_by_name(run):
    """Resolved in the executor; whichever family answers first."""

    async def main():
        listener = await anyio.create_tcp_listener(local_host="localhost")
        async with listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, echo)
            port = listener.extra(anyio.abc.SocketAttribute.local_port)
            async with await anyio.connect_tcp("localhost", port) as stream:
                await stream.send(b"x")
                assert await stream.receive() == b"x"
            group.cancel_scope.cancel()

    run(main())


def test_threads(run):
    async def main():
        kind = type(asyncio.get_running_loop())

        def work(number):
            assert anyio.from_thread.run_sync(lambda: type(asyncio.get_running_loop())) is kind
            return anyio.from_thread.run(add_one, number)

        async def add_one(number):
            await anyio.sleep(0)
            return number + 1

        answers = {}

        async def call(number):
            answers[number] = await anyio.to_thread.run_sync(work, number)

        async with anyio.create_task_group() as group:
            for number in range(100):
                group.start_soon(call, number)
        assert answers == {number: number + 1 for number in range(100)}

    run(main())


def test_process_and_signal(run):
    async def main():
        text = "import sys; sys.stdout.write(sys.stdin.read()[::-1]); sys.exit(3)"
        done = await anyio.run_process([sys.executable, "-c", text], input=b"abc" * 100000, check=False)
        assert (done.returncode, done.stdout) == (3, b"cba" * 100000)
        with anyio.open_signal_receiver(signal.SIGUSR1) as received:
            os.kill(os.getpid(), signal.SIGUSR1)
            async for number in received:
                assert number == signal.SIGUSR1
                break

    run(main())


def test_anyio_run(loop_kind, loop_class):
    async def main():
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 0)
        return type(asyncio.get_running_loop())

    assert anyio.run(main, backend_options={"loop_factory": loop_class}) is loop_class
