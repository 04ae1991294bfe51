"""getaddrinfo and getnameinfo: the results and errors of the socket module."""

import asyncio
import functools
import socket
import sys

import pytest

QUESTIONS = {
    "IPv4": (("127.0.0.1", 80), {}),
    "IPv6": (("::1", 80), {}),
    "scope": (("fe80::1%lo", 80), {}),
    "scope number": (("fe80::1%1", 80), {}),
    "mapped": (("::ffff:1.2.3.4", 80), {}),
    "bytes": ((b"127.0.0.1", b"80"), {}),
    "port as text": (("127.0.0.1", "80"), {}),
    "port none": (("127.0.0.1", None), {}),
    "port empty": (("127.0.0.1", ""), {}),
    "port zero": (("127.0.0.1", 0), {}),
    "port large": (("127.0.0.1", 70000), {}),
    "port negative": (("127.0.0.1", -1), {}),
    "port huge": (("127.0.0.1", 2**70), {}),
    "port name": (("127.0.0.1", "no such service"), {}),
    "port float": (("127.0.0.1", 1.5), {}),
    "port True": (("127.0.0.1", True), {}),
    "host none": ((None, 80), {"type": socket.SOCK_STREAM}),
    "host none passive": ((None, 80), {"type": socket.SOCK_STREAM, "flags": socket.AI_PASSIVE}),
    "host empty": (("", 80), {"type": socket.SOCK_STREAM}),
    "host and port none": ((None, None), {}),
    "host int": ((5, 80), {}),
    "host bytearray": ((bytearray(b"127.0.0.1"), 80), {}),
    "host with NUL": (("127.0.0.1\0x", 80), {}),
    "host with space": (("127.0.0.1 ", 80), {"flags": socket.AI_NUMERICHOST}),
    "host short form": (("127.1", 80), {}),
    "host hexadecimal": (("0x7f.1", 80), {}),
    "host octal": (("010.0.0.1", 80), {}),
    "host one number": (("2130706433", 80), {}),
    "host brackets": (("[::1]", 80), {"flags": socket.AI_NUMERICHOST}),
    "host surrogate": (("\ud800", 80), {}),
    "host long": (("x" * 300, 80), {}),
    "stream": (("127.0.0.1", 80), {"type": socket.SOCK_STREAM}),
    "datagram": (("127.0.0.1", 80), {"type": socket.SOCK_DGRAM}),
    "raw": (("127.0.0.1", 80), {"type": socket.SOCK_RAW}),
    "type wrong": (("127.0.0.1", 80), {"type": 99}),
    "TCP": (("127.0.0.1", 80), {"proto": socket.IPPROTO_TCP}),
    "UDP": (("127.0.0.1", 80), {"proto": socket.IPPROTO_UDP}),
    "datagram over TCP": (("127.0.0.1", 80), {"type": socket.SOCK_DGRAM, "proto": socket.IPPROTO_TCP}),
    "family IPv4": (("127.0.0.1", 80), {"family": socket.AF_INET}),
    "family IPv6": (("::1", 80), {"family": socket.AF_INET6}),
    "other family": (("127.0.0.1", 80), {"family": socket.AF_INET6}),
    "family unix": (("127.0.0.1", 80), {"family": socket.AF_UNIX}),
    "family text": (("127.0.0.1", 80), {"family": "x"}),
    "family huge": (("127.0.0.1", 80), {"family": 2**70}),
    "family large": (("127.0.0.1", 80), {"family": 2**31}),
    "type negative": (("127.0.0.1", 80), {"type": -1}),
    "mapped wanted": (("127.0.0.1", 80), {"family": socket.AF_INET6, "flags": socket.AI_V4MAPPED}),
    "numeric": (("127.0.0.1", 80), {"flags": socket.AI_NUMERICHOST | socket.AI_NUMERICSERV}),
    "not numeric": (("localhost", 80), {"flags": socket.AI_NUMERICHOST}),
    "canonical name": (("127.0.0.1", 80), {"flags": socket.AI_CANONNAME}),
    "flags wrong": (("127.0.0.1", 80), {"flags": 1 << 29}),
    "localhost": (("localhost", 80), {"type": socket.SOCK_STREAM}),
}


def asked(function):
    """The result, or the type and arguments of the exception."""
    try:
        return function()
    except Exception as error:
        return type(error), str(error)


@pytest.mark.parametrize("debug", [False, True], ids=["", "debug"])
@pytest.mark.parametrize("question", list(QUESTIONS))
def test_getaddrinfo_answers_as_the_socket_module(loop, question, debug):
    args, options = QUESTIONS[question]
    loop.set_debug(debug)
    answer = asked(lambda: loop.run_until_complete(loop.getaddrinfo(*args, **options)))
    expected = asked(lambda: socket.getaddrinfo(*args, **options))
    assert answer == expected
    if isinstance(expected, list):
        types = [[type(item) for item in entry] for entry in expected]
        assert [[type(item) for item in entry] for entry in answer] == types


ADDRESSES = {
    "IPv4": ("127.0.0.1", 80),
    "IPv6": ("::1", 80),
    "IPv6 with scope": ("fe80::1", 80, 0, 1),
    "no port": ("127.0.0.1",),
    "text": "127.0.0.1",
    "port negative": ("127.0.0.1", -1),
    "port text": ("127.0.0.1", "80"),
    "none": None,
}
NUMERIC = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV


@pytest.mark.parametrize("flags", [NUMERIC, NUMERIC | socket.NI_DGRAM, 1 << 29], ids=["numeric", "datagram", "wrong"])
@pytest.mark.parametrize("address", list(ADDRESSES))
def test_getnameinfo_answers_as_the_socket_module(loop, address, flags):
    answer = asked(lambda: loop.run_until_complete(loop.getnameinfo(ADDRESSES[address], flags)))
    assert answer == asked(lambda: socket.getnameinfo(ADDRESSES[address], flags))


def test_both_are_coroutines(loop):
    for coroutine in (loop.getaddrinfo("127.0.0.1", 80), loop.getnameinfo(("127.0.0.1", 80), NUMERIC)):
        assert asyncio.iscoroutine(coroutine)
        loop.run_until_complete(loop.create_task(coroutine))


def test_options_are_keywords_only(loop):
    with pytest.raises(TypeError):
        loop.getaddrinfo("127.0.0.1", 80, socket.AF_INET)


@pytest.mark.skipif(sys.version_info < (3, 9), reason="asyncio has it since 3.9")
def test_without_an_executor(as_asyncio):
    """It has been shut down; then the loop is closed."""

    def body(loop):
        seen = []
        loop.run_until_complete(loop.getaddrinfo("127.0.0.1", 80))
        loop.run_until_complete(loop.shutdown_default_executor())
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))  # nobody listens
            connecting = loop.create_connection(asyncio.Protocol, *sock.getsockname())
            seen.append(asked(lambda: loop.run_until_complete(connecting))[0])
        for _ in range(2):
            coroutine = loop.getaddrinfo("127.0.0.1", 80)
            seen.append(asked(functools.partial(coroutine.send, None))[0])
            coroutine.close()
            loop.close()
        return seen

    assert as_asyncio(body)["result"] == [ConnectionRefusedError, RuntimeError, RuntimeError]


def test_many_at_once(loop):
    async def main():
        return await asyncio.gather(*[loop.getaddrinfo("127.0.0.1", port) for port in range(1, 50)])

    assert [answer[0][4][1] for answer in loop.run_until_complete(main())] == list(range(1, 50))


def test_patched_socket_getaddrinfo_is_asked(loop, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args: [args])
    answer = loop.run_until_complete(loop.getaddrinfo("127.0.0.1", 80))
    assert answer == [("127.0.0.1", 80, 0, 0, 0, 0)]


def test_patched_socket_getnameinfo_is_asked(loop, monkeypatch):
    monkeypatch.setattr(socket, "getnameinfo", lambda *args: args)
    assert loop.run_until_complete(loop.getnameinfo(("127.0.0.1", 80), 5)) == (("127.0.0.1", 80), 5)
