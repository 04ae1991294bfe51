"""Numeric addresses: loop.getaddrinfo returns what socket.getaddrinfo returns, or fails in the same way.

CLOOP_TEST_QUESTIONS is the number of generated queries (default 300); 100,000 take some minutes.
tests/test_getaddrinfo.py has hand-written ones.
"""

import os
import socket

import pytest

hypothesis = pytest.importorskip("hypothesis")
from hypothesis import strategies as st  # noqa: E402

INTERFACES = [name for _, name in socket.if_nameindex()]


def octet():
    return st.one_of(st.integers(0, 255), st.integers(0, 300)).map(str)


ipv4 = st.lists(octet(), min_size=4, max_size=4).map(".".join)
# What inet_aton accepts too, and what nothing accepts.
odd_ipv4 = st.lists(
    st.one_of(octet(), st.sampled_from(["", "00", "010", "0x7f", "1e1", "-1", "4294967295", "+1", " 1"])),
    min_size=1,
    max_size=5,
).map(".".join)
ipv6 = st.ip_addresses(v=6).map(str)
group = st.one_of(st.integers(0, 0xFFFF).map("{:x}".format), st.integers(0, 0xFFFF).map("{:04X}".format), st.just(""))
odd_ipv6 = st.lists(group, min_size=1, max_size=9).map(":".join)
mapped = st.builds("{}{}".format, st.sampled_from(["::ffff:", "::", "64:ff9b::", "1:2:3:4:5:6:", ":"]), ipv4)
zone = st.sampled_from(
    ["", "%", "%1", "%0", "%99", "%4294967296", "%nope", "%lo0", "%-1"] + ["%" + name for name in INTERFACES]
)
zoned = st.builds(
    "{}{}".format, st.one_of(ipv6, mapped, st.sampled_from(["fe80::1", "::1", "ff02::1", "127.0.0.1"])), zone
)
padded = st.builds(
    "{}{}{}".format, st.sampled_from(["", " ", "["]), st.one_of(ipv4, ipv6), st.sampled_from(["", " ", "]", "\0", "."])
)
numeric = st.one_of(ipv4, odd_ipv4, ipv6, odd_ipv6, mapped, zoned, padded)
host = st.one_of(numeric, numeric.map(lambda text: text.encode()), st.none(), st.just(""), st.just(b""))
number = st.one_of(
    st.integers(-2, 70000), st.sampled_from([0, 1, 80, 65535, 65536, 2**31, 2**32, 2**63, 2**64, -(2**31)])
)
port = st.one_of(
    number,
    number.map(str),
    number.map(lambda number: str(number).encode()),
    st.none(),
    st.booleans(),
    st.sampled_from(["", b"", " 80", "80 ", "+80", "0x50", "080", "8_0", "\u0668\u0660", 1.5, "http"]),
)
family = st.sampled_from([0, socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, -1, 999])
kind = st.sampled_from([0, socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET, 99])
proto = st.sampled_from([0, socket.IPPROTO_TCP, socket.IPPROTO_UDP, socket.IPPROTO_ICMP, 255, -1])
FLAGS = ["AI_PASSIVE", "AI_CANONNAME", "AI_NUMERICSERV", "AI_V4MAPPED", "AI_ALL", "AI_ADDRCONFIG"]
flags = st.lists(st.sampled_from([getattr(socket, name) for name in FLAGS]), max_size=3).map(sum)

QUESTIONS = int(os.environ.get("CLOOP_TEST_QUESTIONS", 300))

# No resolver must be used: names that look like addresses would be looked up in the network.
NUMERIC_ONLY = socket.AI_NUMERICHOST


def asked(function):
    """The result, or the type and text of the exception."""
    try:
        return function()
    except Exception as error:
        return type(error), error.args


def test_generated_getaddrinfo_calls_match_the_socket_module(loop):
    answered = []

    @hypothesis.settings(max_examples=QUESTIONS, deadline=None, database=None, derandomize=QUESTIONS == 300)
    @hypothesis.given(host, port, family, kind, proto, flags)
    def check(host, port, family, kind, proto, flags):
        flags |= NUMERIC_ONLY
        answer = asked(
            lambda: loop.run_until_complete(
                loop.getaddrinfo(host, port, family=family, type=kind, proto=proto, flags=flags)
            )
        )
        expected = asked(lambda: socket.getaddrinfo(host, port, family, kind, proto, flags))
        assert answer == expected
        if isinstance(expected, list):
            answered.append(1)
            assert [list(map(type, entry)) for entry in answer] == [list(map(type, entry)) for entry in expected]

    check()
    assert len(answered) > QUESTIONS // 20  # else only errors were compared
