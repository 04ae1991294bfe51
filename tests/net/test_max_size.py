"""max_size, an attribute of transports: how many bytes a read asks for at most. A program may set it."""

import asyncio
import fcntl
import os
import re
import socket

import pytest


@pytest.mark.unstressed("receives part of it")
@pytest.mark.parametrize("size", [1, 1000])
def test_of_a_stream(connect, recorder, until, kind, size):
    protocol = recorder()
    transport, peer = connect(protocol, kind)
    transport.pause_reading()
    transport.max_size = size
    data = os.urandom(2 * size + 1)
    assert peer.send(data) == len(data)
    transport.resume_reading()
    until(lambda: protocol.data == data)
    if kind == "unix":  # TCP may deliver in parts
        assert [len(chunk) for chunk in protocol.chunks] == ([1] * 3 if size == 1 else [1000, 1000, 1])
    assert max(map(len, protocol.chunks)) == size


@pytest.mark.unstressed("receives part of it")
def test_it_changes(connect, recorder, until):
    protocol = recorder(data_received=lambda protocol, data: change(protocol))
    transport, peer = connect(protocol)

    def change(protocol):
        if len(protocol.chunks) == 1:
            transport.max_size = 2
        elif len(protocol.chunks) == 2:
            del transport.max_size

    transport.max_size = 1
    assert peer.send(b"0123456789") == 10
    until(lambda: len(protocol.data) == 10)
    assert protocol.chunks == [b"0", b"12", b"3456789"]
    assert transport.max_size == 262144


def test_more_than_usual(connect, recorder, feed, until, kind):
    """Also after it was large and while it shrinks again."""
    protocol = recorder()
    transport, peer = connect(protocol, kind)
    sent = bytearray()
    for size in (1 << 20, 5, 1 << 20, 1 << 18):
        transport.max_size = size
        begun, data = len(protocol.chunks), os.urandom(300000 if size > 5 else 20)
        feed(peer, data)
        sent.extend(data)
        until(lambda: len(protocol.data) == len(sent))
        assert max(map(len, protocol.chunks[begun:])) <= size
    assert protocol.data == sent


def test_all_that_there_is(connect, recorder, until, loop_kind):
    """It cannot be asked for on asyncio, which would allocate it first."""
    protocol = recorder()
    transport, peer = connect(protocol)
    transport.max_size = 2**40
    if loop_kind == "asyncio":
        return
    peer.send(b"hello")
    until(lambda: protocol.data == b"hello")


def test_other_attributes_are_the_programs(connect, recorder):
    transport, peer = connect(recorder())
    transport.max_sizes = 5
    assert transport.max_sizes == 5
    del transport.max_sizes
    with pytest.raises(AttributeError):
        del transport.max_size
    with pytest.raises(TypeError):
        object.__setattr__(transport, 5, 5)


def test_protocol_with_a_buffer_of_its_own(connect, buffered_recorder, until):
    protocol = buffered_recorder()
    transport, peer = connect(protocol)
    transport.max_size = 0
    peer.send(b"hello")
    until(lambda: protocol.data)
    assert protocol.data == b"hello"
    peer.close()
    until(lambda: protocol.lost)
    assert protocol.calls.count("eof_received") == 1


@pytest.mark.unstressed("receives part of it")
@pytest.mark.parametrize("size", [3, 64, 1 << 20])
def test_of_a_stream_with_a_reader(as_asyncio, size):
    def body(loop):
        async def main():
            ours, peer = socket.socketpair()
            with peer:
                reader, writer = await asyncio.open_connection(sock=ours)
                writer.transport.max_size = size
                seen = []
                peer.send(b"0123456789" * 30)
                for method, count in [("read", 100), ("read", 100), ("readexactly", 50), ("read", 1000)]:
                    seen.append(await getattr(reader, method)(count))
                while sum(map(len, seen)) < 300:
                    seen.append(await reader.read(1000))
                writer.close()
                await asyncio.sleep(0)
                return seen

        return loop.run_until_complete(main())

    as_asyncio(body)


# Pipes and datagrams


def of_pipe(loop):
    """Returns a transport that reads, its protocol, and what sends to it."""
    read, write = os.pipe()
    protocol = Noting()
    file = open(read, "rb", buffering=0)
    transport, _ = loop.run_until_complete(loop.connect_read_pipe(lambda: protocol, file))
    return transport, protocol, lambda data: os.write(write, data), lambda: os.close(write)


def of_stream(loop):
    ours, peer = socket.socketpair()
    protocol = Noting()
    transport, _ = loop.run_until_complete(loop.create_connection(lambda: protocol, sock=ours))
    return transport, protocol, peer.send, peer.close


def of_datagrams(loop):
    ours, peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    protocol = Noting()
    transport, _ = loop.run_until_complete(loop.create_datagram_endpoint(lambda: protocol, sock=ours))
    return transport, protocol, peer.send, peer.close


class Noting(asyncio.Protocol):
    def __init__(self):
        self.seen = []

    def data_received(self, data):
        self.seen.append(data)

    def datagram_received(self, data, addr):
        self.seen.append(data)

    def error_received(self, exc):
        self.seen.append(repr(exc))

    def eof_received(self):
        self.seen.append("EOF")

    def connection_lost(self, exc):
        self.seen.append(("lost", repr(exc)))


@pytest.mark.unstressed("receives part of it")
@pytest.mark.parametrize("size", [-1, 0, b"5", "x", None, True, 1 << 70, 2])
@pytest.mark.parametrize("make", [of_stream, of_pipe, of_datagrams], ids=["stream", "pipe", "datagrams"])
def test_values(as_asyncio, make, size):
    """Those that are no sizes fail when the transport reads."""

    def body(loop):
        reported = []
        loop.set_exception_handler(
            lambda loop, context: reported.append(
                (re.sub(r"(callback) .*", r"\1", context["message"]), repr(context["exception"]))
            )
        )
        transport, protocol, send, end = make(loop)

        async def main():
            transport.max_size = size
            send(b"hello")
            for _ in range(1000):
                if reported or protocol.seen and protocol.seen[-1] in (b"o", b"hello", ("lost", "None")):
                    break
                if make is of_datagrams and protocol.seen:
                    break
                await asyncio.sleep(0)
            told = reported[:1], list(protocol.seen)
            transport.close()
            end()
            await asyncio.sleep(0.001)
            return told

        return loop.run_until_complete(main())

    as_asyncio(body)


@pytest.mark.unstressed("receives part of it")
@pytest.mark.skipif(not hasattr(fcntl, "F_SETPIPE_SZ"), reason="from Python 3.10 on")
@pytest.mark.parametrize("capacity, size", [(1 << 20, 500000), (1 << 17, 120000)])
def test_more_than_usual_of_a_pipe(loop, run, recorder, until, capacity, size):
    protocol = recorder(eof_received=lambda protocol: None)
    read, write = os.pipe()
    try:
        fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, capacity)
    except PermissionError:
        pytest.skip("pipes are smaller here")
    transport, _ = run(loop.connect_read_pipe(lambda: protocol, open(read, "rb", buffering=0)))
    transport.max_size = 1 << 20
    with open(write, "wb", buffering=0) as peer:
        assert peer.write(bytes(size)) == size
        until(lambda: protocol.chunks)
        assert [len(chunk) for chunk in protocol.chunks] == [size]
        transport.max_size = 1 << 18
        assert peer.write(bytes(size)) == size
        until(lambda: len(protocol.data) == 2 * size)
        assert max(map(len, protocol.chunks[1:])) <= 1 << 18
    until(lambda: protocol.lost)


def test_of_a_datagram_that_is_longer(as_asyncio):
    def body(loop):
        transport, protocol, send, end = of_datagrams(loop)

        async def main():
            for size in (3, 1 << 19, 262144):
                transport.max_size = size
                send(b"hello")
                send(b"you")
                while len(protocol.seen) % 2 or not protocol.seen:
                    await asyncio.sleep(0)
                while len(protocol.seen) < {3: 2, 1 << 19: 4, 262144: 6}[size]:
                    await asyncio.sleep(0)
            transport.close()
            end()
            await asyncio.sleep(0)
            return protocol.seen

        return loop.run_until_complete(main())

    assert as_asyncio(body)["result"][:2] == [b"hel", b"you"]
