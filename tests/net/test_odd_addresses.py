"""Addresses of every form to `sendto()`, `sock_sendto()` and `sock_connect()`: what arrives, and what is raised or told, is as on
asyncio. None needs a name server.
"""

import asyncio
import os
import pathlib
import socket
import sys

import pytest

P = object()  # stands for the port of the receiver
INET = {
    "plain": ("127.0.0.1", P),
    "list": ["127.0.0.1", P],
    "bytes": (b"127.0.0.1", P),
    "short form": ("127.1", P),
    "of a subclass": (type("Text", (str,), {})("127.0.0.1"), P),
    "one item": ("127.0.0.1",),
    "nothing": (),
    "three items": ("127.0.0.1", P, 0),
    "port true": ("127.0.0.1", True),
    "port negative": ("127.0.0.1", -1),
    "port too large": ("127.0.0.1", 65536),
    "port huge": ("127.0.0.1", 10**30),
    "port a float": ("127.0.0.1", 1.5),
    "NUL": ("127.0.0.1\0", P),
    "surrogate": ("\udc80", P),
    "number": 5,
    "text": "/tmp",
}
INET6 = {
    "plain": ("::1", P),
    "long form": ("0:0::1", P),
    "bytes": (b"::1", P),
    "all items": ("::1", P, 0, 0),
    "three items": ("::1", P, 5),
    "five items": ("::1", P, 0, 0, 0),
    "list": ["::1", P, 0, 0],
    "largest flow": ("::1", P, 0xFFFFF, 0),
    "flow too large": ("::1", P, 0x100000, 0),
    "flow negative": ("::1", P, -1, 0),
    "flow a float": ("::1", P, 1.5),
    "scope too large": ("::1", P, 0, 2**32),
    "scope negative": ("::1", P, 0, -1),
    "mapped": ("::ffff:127.0.0.1", P),
    "IPv4": ("127.0.0.1", P),
    "port too large": ("::1", 65536, 0, 0),
    "one item": ("::1",),
    "number": 5,
}
UNIX = {
    "plain": "receiver",
    "bytes": b"receiver",
    "path": pathlib.Path("receiver"),
    "bytearray": bytearray(b"receiver"),
    "not there": "no such socket",
    "107 bytes": "x" * 107,
    "108 bytes": "x" * 108,
    "long": "x" * 1000,
    "empty": "",
    "empty bytes": b"",
    "abstract": "\0cloop no such name",
    "abstract bytes": b"\0" + b"x" * 106,
    "abstract, 108 bytes": b"\0" + b"x" * 107,
    "NUL within": "a\0b",
    "surrogate": "\udc80",
    "not encodable": "\ud800",
    "number": 5,
    "tuple": ("receiver", 1),
}
FAMILIES = {"inet": (socket.AF_INET, INET), "inet6": (socket.AF_INET6, INET6), "unix": (socket.AF_UNIX, UNIX)}
CASES = [(family, name) for family in FAMILIES for name in FAMILIES[family][1]]


class Story(asyncio.DatagramProtocol):
    def __init__(self):
        self.told = []

    def error_received(self, exc):
        self.told.append(("error", type(exc).__name__, exc.errno))

    def connection_lost(self, exc):
        self.told.append(("lost", type(exc).__name__))


@pytest.fixture
def receiver(sockets, tmp_path, monkeypatch):
    """receiver(family): a socket that receives."""
    monkeypatch.chdir(tmp_path)

    def receiver(family):
        sock = sockets(socket.socket(FAMILIES[family][0], socket.SOCK_DGRAM))
        sock.bind({"inet": ("127.0.0.1", 0), "inet6": ("::1", 0), "unix": "receiver"}[family])
        sock.setblocking(False)
        return sock

    return receiver


def arrived(sock):
    try:
        return sock.recv(100)
    except BlockingIOError:
        return None


def complete(address, sock):
    """The address with the receiver's port."""
    if not isinstance(address, (tuple, list)):
        return address
    return type(address)(sock.getsockname()[1] if each is P else each for each in address)


def text_of(error):
    return type(error).__name__, getattr(error, "errno", None)


async def settled(task):
    await asyncio.wait([task], timeout=5)
    return text_of(task.exception()) if task.exception() is not None else task.result()


@pytest.mark.parametrize("family, name", CASES)
def test_sendto(as_asyncio, receiver, request, family, name):
    if family == "inet6":
        request.getfixturevalue("ipv6")
    target = receiver(family)
    address = complete(FAMILIES[family][1][name], target)

    def body(loop):
        reports = []
        loop.set_exception_handler(lambda loop, context: reports.append(text_of(context["exception"])))

        async def main():
            sock = socket.socket(FAMILIES[family][0], socket.SOCK_DGRAM)
            transport, story = await loop.create_datagram_endpoint(Story, sock=sock)
            raised = None
            try:
                transport.sendto(b"data", address)
            except Exception as error:
                raised = text_of(error)
            for _ in range(5):
                await asyncio.sleep(0)
            transport.abort()
            await asyncio.sleep(0)
            return raised, story.told, arrived(target), reports

        return loop.run_until_complete(main())

    as_asyncio(body)


@pytest.mark.parametrize("family, name", CASES)
@pytest.mark.parametrize("method", ["sock_sendto", "sock_connect"])
def test_sockets(as_asyncio, receiver, request, method, family, name):
    if method == "sock_sendto" and sys.version_info < (3, 11):
        pytest.skip("asyncio has it since 3.11")
    if family == "inet6":
        request.getfixturevalue("ipv6")
    address = FAMILIES[family][1][name]
    if method == "sock_connect" and (name == "surrogate" or address in ("/tmp", 5)):
        pytest.skip("a name server could be asked")
    target = receiver(family)
    address = complete(address, target)

    def body(loop):
        async def main():
            with socket.socket(FAMILIES[family][0], socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                args = (b"data", address) if method == "sock_sendto" else (address,)
                try:
                    task = asyncio.ensure_future(getattr(loop, method)(sock, *args))
                except Exception as error:
                    return text_of(error)
                told = await settled(task)
                if method == "sock_connect" and told is None:
                    sock.send(b"data")
                return told, arrived(target)

        try:
            return loop.run_until_complete(main())
        finally:
            if sys.version_info >= (3, 9):
                loop.run_until_complete(loop.shutdown_default_executor())

    as_asyncio(body)


def test_sender_that_has_no_name(loop, run, receiver):
    """Unix sockets need none; its path may be of any length."""
    target, paths = receiver("unix"), ["s" * size for size in (1, 106, 107)]

    async def main():
        seen = []
        for path in paths:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.bind(path)
                sender.sendto(b"x", "receiver")
                seen.append((await loop.sock_recvfrom(target, 10))[1])
                os.unlink(path)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"x", "receiver")
            seen.append((await loop.sock_recvfrom(target, 10))[1])
        return seen

    if not hasattr(loop, "sock_recvfrom"):
        pytest.skip("asyncio has it since 3.11")
    assert run(main()) == [*paths, None]
