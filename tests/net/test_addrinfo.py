"""Which queries loop.getaddrinfo() answers itself, and that its results are the library's."""

import asyncio
import itertools
import socket

import pytest

HOSTS = ["127.0.0.1", b"10.0.0.255", "::1", "::ffff:1.2.3.4", "FE80:0::1%1", "ff02::1%lo", "::1%7", None, "0177.0.0.1"]
PORTS = [0, 65535, 65536, True, None, "080", b"80", "", " 80", "+80"]
KINDS = [(0, 0), (1, 0), (2, 0), (3, 0), (0, 6), (0, 17), (1, 6), (2, 17), (1, 17), (5, 0), (1, 132)]
FAMILIES = [socket.AF_UNSPEC, socket.AF_INET, socket.AF_INET6]
FLAGS = [0, socket.AI_PASSIVE, socket.AI_NUMERICHOST | socket.AI_NUMERICSERV, socket.AI_CANONNAME]


def asked(function, *args):
    try:
        return function(*args)
    except (OSError, OverflowError) as error:
        return type(error), str(error)


@pytest.mark.parametrize("host", HOSTS)
def test_numeric_addresses_resolve_as_in_the_socket_module(cloop, host):
    loop = cloop.new_event_loop()
    answered = 0
    for port, (kind, proto), family, flags in itertools.product(PORTS, KINDS, FAMILIES, FLAGS):
        question = (host, port, family, kind, proto, flags)
        ours = loop._numeric_addrinfo(*question)
        if ours is not None:
            answered += 1
            expected = asked(socket.getaddrinfo, *question)
            assert ours == expected, question
            assert repr(ours) == repr(expected), question  # the enumerations too
    loop.close()
    assert (answered == 0) == (host == "0177.0.0.1")


ZONES = [
    "fe80::1%1x",
    "ff02::5%2",
    "ff02::5%nothing",
    "fe80::1%%",
    "::1%99999999999",
    "::1%x",
    "::1%",
    "1:" * 30 + "%1",
]


@pytest.mark.parametrize("port", ["8x", "70000", "9"])
@pytest.mark.parametrize("host", ZONES)
def test_odd_zones_and_ports(cloop, host, port):
    loop = cloop.new_event_loop()
    question = (host, port, 0, socket.SOCK_STREAM, socket.IPPROTO_TCP, 0)
    ours = loop._numeric_addrinfo(*question)
    loop.close()
    assert ours is None or ours == asked(socket.getaddrinfo, *question)


class Refused(Exception):
    pass


@pytest.fixture
def no_executor(loop, monkeypatch):
    def run_in_executor(*args):
        raise Refused

    monkeypatch.setattr(type(loop), "run_in_executor", run_in_executor)


@pytest.mark.parametrize(
    "question",
    [
        ("127.0.0.1", 80, 0, 0, 0, 0),
        ("127.0.0.1", "80", 0, socket.SOCK_STREAM, 0, socket.AI_PASSIVE),
        ("::1", None, socket.AF_INET6, socket.SOCK_DGRAM, socket.IPPROTO_UDP, 0),
        ("fe80::1%lo", 80, 0, 0, socket.IPPROTO_TCP, 0),
        (None, 80, socket.AF_INET, 0, 0, 0),
    ],
)
def test_numeric_question_needs_no_thread(loop, loop_kind, no_executor, question):
    coroutine = loop.getaddrinfo(*question[:2], **dict(zip(("family", "type", "proto", "flags"), question[2:])))
    if loop_kind == "asyncio":
        with pytest.raises(Refused):
            loop.run_until_complete(coroutine)
    else:
        assert loop.run_until_complete(coroutine) == socket.getaddrinfo(*question)


@pytest.mark.parametrize("host", ["localhost", "127.1", "127.0.0.1 ", "", "\u0661.0.0.1", "fe80::1%no such", 5])
def test_everything_else_is_looked_up_in_a_thread(loop, no_executor, host):
    with pytest.raises(Refused):
        loop.run_until_complete(loop.getaddrinfo(host, 80))


def test_patched_socket_module_of_asyncio_is_asked(loop, no_executor, monkeypatch):
    class Patched:
        getaddrinfo = None

    monkeypatch.setattr(asyncio.base_events, "socket", Patched)
    with pytest.raises(Refused):
        loop.run_until_complete(loop.getaddrinfo("127.0.0.1", 80))


def test_instance_level_getaddrinfo_is_honoured_by_connect(loop):
    async def refuse(*args, **kwargs):
        raise Refused

    loop.getaddrinfo = refuse
    with pytest.raises(Refused):
        loop.run_until_complete(loop.create_connection(asyncio.Protocol, "name.invalid", 80))
