"""Writes to pipes are held back by the same rule as those to sockets (tests/net/test_gather.py), where joining them can't
be told, and the program does not have the file."""

import asyncio
import fcntl
import importlib
import os
import select
import signal
import socket

import pytest

pytestmark = pytest.mark.gil

O_DIRECT = os.O_DIRECT  # of a pipe: each write is a packet


@pytest.fixture
def holding(loop_kind, request):
    """Transports hold from the first write on, without having learnt to; asyncio's never do."""
    if loop_kind == "asyncio":
        pytest.skip("asyncio holds nothing")
    set_gather = importlib.import_module("cloop._cloop")._set_gather
    set_gather("always")
    request.addfinalizer(lambda: set_gather(os.environ.get("CLOOP_GATHER")))


@pytest.fixture
def in_callback(loop, turn):
    def in_callback(function):
        loop.call_soon(function)
        for _ in range(3):
            turn()

    return in_callback


def arrived(descriptor):
    if not select.select([descriptor], [], [], 0)[0]:
        return b""
    return os.read(descriptor, 65536)


@pytest.fixture
def connect(run, loop, ended, recorder, request):
    """connect(writing, reading): a transport of the first descriptor, whose file nobody else has, and the second."""

    def connect(writing, reading):
        request.addfinalizer(lambda: os.close(reading))
        transport, _ = run(loop.connect_write_pipe(recorder, open(writing, "wb", buffering=0)))
        ended.add(transport)
        return transport, reading

    return connect


def pipe(flags=0):
    reading, writing = os.pipe2(flags)
    return writing, reading


def socket_pair(kind):
    return [sock.detach() for sock in socket.socketpair(socket.AF_UNIX, kind)]


def pty():
    master, slave = os.openpty()
    return master, slave


def write_pieces(transport, reading, pieces, in_callback):
    seen = []

    def write():
        for piece in pieces:
            transport.write(piece)
            seen.append(arrived(reading))

    in_callback(write)
    return seen, arrived(reading)


@pytest.mark.parametrize("make", [pipe, lambda: socket_pair(socket.SOCK_STREAM)], ids=["pipe", "socket"])
def test_writes_of_a_callback_are_sent_together(holding, connect, in_callback, make):
    assert write_pieces(*connect(*make()), [b"1", b"2", b"3"], in_callback) == ([b"", b"", b""], b"123")


@pytest.mark.unstressed("a part of it is sent")
def test_more_than_the_kernel_keeps_together_is_not_joined(holding, connect, in_callback, request):
    """Several processes may write to a FIFO: at most PIPE_BUF bytes are not mixed with theirs."""
    writing, reading = pipe()
    same_file = os.dup(writing)
    request.addfinalizer(lambda: os.close(same_file))
    transport, _ = connect(writing, reading)
    fcntl.fcntl(same_file, fcntl.F_SETFL, os.O_NONBLOCK | O_DIRECT)  # now each write is read by itself
    large = b"x" * (select.PIPE_BUF - 1)
    pieces = [large, b"a", b"b", large, b"cd"]
    in_callback(lambda: [transport.write(piece) for piece in pieces])
    assert [arrived(reading) for _ in range(5)] == [large + b"a", b"b", large, b"cd", b""]


@pytest.mark.parametrize(
    "make",
    [
        lambda: socket_pair(socket.SOCK_SEQPACKET),
        lambda: socket_pair(socket.SOCK_DGRAM),
        lambda: pipe(O_DIRECT),
    ],
    ids=["seqpacket", "dgram", "packets"],
)
def test_boundaries_of_packets_are_kept(connect, in_callback, make, loop_kind, request):
    if loop_kind != "asyncio":
        request.getfixturevalue("holding")
    try:
        ends = make()
    except OSError:
        pytest.skip("no such pipes here")
    assert write_pieces(*connect(*ends), [b"1", b"2", b"3"], in_callback) == ([b"1", b"2", b"3"], b"")


def test_terminal_gets_each_write(holding, connect, in_callback):
    seen, rest = write_pieces(*connect(*pty()), [b"1\n", b"2\n"], in_callback)
    assert seen == [b"1\n", b"2\n"] and rest == b""


@pytest.mark.parametrize("look", ["get_extra_info", "_pipe", "_fileno", "_extra"])
def test_a_file_that_the_program_has_seen_ends_it(holding, connect, in_callback, look):
    transport, reading = connect(*pipe())

    def write_and_look():
        transport.write(b"0")
        if look == "get_extra_info":
            transport.get_extra_info("pipe").fileno()
        else:
            getattr(transport, look)
        assert arrived(reading) == b"0"

    in_callback(write_and_look)
    assert write_pieces(transport, reading, [b"1", b"2"], in_callback) == ([b"1", b"2"], b"")


def test_nothing_is_held_for_a_file_that_somebody_has(connect_file, ends, recorder, in_callback):
    file, peer = ends("pipe", "wb")
    transport = connect_file(recorder(), file, "wb")
    assert write_pieces(transport, peer.descriptor, [b"1", b"2"], in_callback) == ([b"1", b"2"], b"")


@pytest.mark.parametrize("act", ["close", "write_eof", "abort"])
def test_whoever_acts_on_the_pipe_has_it_sent(connect, in_callback, act, loop_kind, request):
    if loop_kind != "asyncio":
        request.getfixturevalue("holding")
    transport, reading = connect(*pipe())

    def write_and_act():
        transport.write(b"data")
        getattr(transport, act)()

    in_callback(write_and_act)
    assert os.read(reading, 100) == b"data" and os.read(reading, 100) == b""


@pytest.mark.unstressed("a part of it is sent")
def test_childs_stdin_is_held_until_popen_is_asked_for(holding, loop, run, in_callback):
    process = run(asyncio.create_subprocess_exec("sleep", "1000", stdin=asyncio.subprocess.PIPE))
    reading = os.open("/proc/%d/fd/0" % process.pid, os.O_RDONLY)
    try:
        large = [letter * 5000 for letter in (b"a", b"b")]  # nobody else writes there
        assert write_pieces(process.stdin, reading, large, in_callback) == ([b"", b""], large[0] + large[1])
        process._transport.get_extra_info("subprocess")
        assert write_pieces(process.stdin, reading, [b"c"], in_callback) == ([b"c"], b"")
    finally:
        os.close(reading)
        process.kill()
        run(process.wait())


@pytest.mark.parametrize("act", [("kill",), ("terminate",), ("send_signal", signal.SIGCONT)], ids=lambda act: act[0])
def test_child_has_what_was_written_before_a_signal(run, in_callback, act, loop_kind, request):
    if loop_kind != "asyncio":
        request.getfixturevalue("holding")
    process = run(asyncio.create_subprocess_exec("sleep", "1000", stdin=asyncio.subprocess.PIPE))
    reading, seen = os.open("/proc/%d/fd/0" % process.pid, os.O_RDONLY), []

    def write_and_act():
        process.stdin.write(b"da")
        process.stdin.write(b"ta")
        getattr(process, act[0])(*act[1:])
        seen.append(arrived(reading))

    try:
        in_callback(write_and_act)
        assert seen == [b"data"]
    finally:
        os.close(reading)
        if process.returncode is None:
            process.kill()
        run(process.wait())
        process.stdin.close()
