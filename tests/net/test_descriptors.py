"""A program uses the descriptor of a transport by itself, between two writes of a callback: with sendmsg(), sendfile()
or shutdown(), on the number or a duplicate, in the loop's thread or in another. The peer sees everything in the
order in which it was done, as on asyncio, even if the transport holds writes (net/gather.h).
"""

import array
import importlib
import os
import socket
import threading

import pytest

QUICK = 8  # callbacks that teach a transport to hold writes


@pytest.fixture(params=["learning", pytest.param("holding", marks=pytest.mark.gil)])
def mode(request, loop_kind):
    """Whether transports must learn to hold, as usual, or hold from the first write on."""
    if request.param == "learning" and "CLOOP_GATHER" in os.environ:
        pytest.skip("CLOOP_GATHER is set")
    if loop_kind != "asyncio":
        set_gather = importlib.import_module("cloop._cloop")._set_gather
        set_gather("always" if request.param == "holding" else os.environ.get("CLOOP_GATHER"))
        request.addfinalizer(lambda: set_gather(os.environ.get("CLOOP_GATHER")))
    return request.param


@pytest.fixture
def accepted(mode, serving, call, until, listening):
    """Creates a connection accepted by a server; returns its transport and its peer."""

    def accepted():
        peer = call(serving.unix(sock=listening("unix")))
        until(lambda: serving.accepted and serving.accepted[-1].transport)
        return serving.accepted[-1].transport, peer

    return accepted


@pytest.fixture
def owned_fds():
    """Collects descriptors, and closes them after the test."""
    fds = []
    yield lambda fd: fds.append(fd) or fd
    for fd in fds:
        os.close(fd)


@pytest.fixture
def unless_held(request, loop_kind, mode):
    """unless_held(why): the test is expected to fail if a write is held."""

    def unless_held(why):
        if mode == "holding" and loop_kind != "asyncio":
            request.applymarker(pytest.mark.xfail(strict=True, reason=why))

    return unless_held


# How the program gets a number for the connection


def fileno(transport, owned_fds):
    return transport.get_extra_info("socket").fileno()


def sock_fd(transport, owned_fds):
    return transport._sock_fd


def of_own_dup(transport, owned_fds):
    return owned_fds(os.dup(transport.get_extra_info("socket").fileno()))


def of_sockets_dup(transport, owned_fds):
    return owned_fds(transport.get_extra_info("socket").dup().detach())


WAYS = {function.__name__: function for function in (fileno, sock_fd, of_own_dup, of_sockets_dup)}

# What it does with it


def write(fd, tmp_path):
    os.write(fd, b"2")


def sendmsg(fd, tmp_path):
    """Passes a descriptor along."""
    sock = socket.socket(fileno=os.dup(fd))
    with sock, open(os.devnull, "rb") as file:
        sock.sendmsg([b"2"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [file.fileno()]))])


def sendfile(fd, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"2")
    with path.open("rb") as file:
        assert os.sendfile(fd, file.fileno(), 0, 1) == 1


def shutdown(fd, tmp_path):
    with socket.socket(fileno=os.dup(fd)) as sock:
        sock.shutdown(socket.SHUT_WR)


ACTS = {function.__name__: function for function in (write, sendmsg, sendfile, shutdown)}


def here(function):
    function()


def elsewhere(function):
    """In another thread, which the callback waits for."""
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


PLACES = {"here": here, "elsewhere": elsewhere}


@pytest.fixture
def seen(loop, turn, tmp_path, collect):
    """seen(transport, peer, fd, act, place): what the peer sees of a write, the act and another write."""

    def seen(transport, peer, fd, act, place):
        def callback():
            transport.write(b"1")
            place(lambda: act(fd, tmp_path))
            if act is not shutdown:
                transport.write(b"3")

        loop.call_soon(callback)
        turn()
        got = collect(peer, None if act is shutdown else 3)
        transport.abort()
        turn()
        turn()
        return got

    return seen


def expected(act):
    return b"1" if act is shutdown else b"123"


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_order_of_bytes(accepted, seen, owned_fds, way, act, place):
    transport, peer = accepted()
    assert seen(transport, peer, way(transport, owned_fds), act, place) == expected(act)


@pytest.fixture
def given(mode, loop, run, recorder, socket_pair, abandoned):
    """Connects a socket that the program has created, and may have dropped."""

    def given(kept):
        ours, peer = socket_pair("unix")
        made = socket.socket(fileno=ours.detach())
        made.setblocking(False)
        number = made.fileno()
        transport, _ = run(loop.create_connection(recorder, sock=made))
        abandoned.add(transport)
        return transport, peer, number, made if kept else None

    return given


from_before = pytest.mark.parametrize("dup", [False, True], ids=["number", "dup"])


@from_before
@pytest.mark.parametrize("mode", ["learning"], indirect=True)
@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
def test_order_of_bytes_by_a_number_from_before_the_transport(given, seen, loop, turn, collect, owned_fds, dup, act):
    def teach():
        transport.write(b".")
        transport.write(b".")

    transport, peer, number, made = given(kept=True)
    for _ in range(QUICK):
        loop.call_soon(teach)
        turn()
    assert collect(peer, 2 * QUICK) == 2 * QUICK * b"." and made.fileno() == number
    assert seen(transport, peer, owned_fds(os.dup(number)) if dup else number, act, here) == expected(act)


@from_before
@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
def test_order_of_bytes_by_a_number_whose_object_is_gone(
    given, seen, owned_fds, mode, loop_kind, unless_held, dup, act
):
    unless_held("the loop can't know that the program has kept the number of a socket that it gave away")
    transport, peer, number, _ = given(kept=False)
    assert seen(transport, peer, owned_fds(os.dup(number)) if dup else number, act, here) == expected(act)


def test_number_taken_in_the_callback(accepted, loop, turn, collect):
    transport, peer = accepted()

    def callback():
        transport.write(b"1")
        os.write(transport.get_extra_info("socket").fileno(), b"2")
        transport.write(b"3")

    loop.call_soon(callback)
    turn()
    assert collect(peer, 3) == b"123"


# The peer is in the same thread


def test_callback_reads_what_it_has_written(accepted, loop, turn, unless_held):
    """It sends through the transport, and waits for the answer with a socket of its own."""
    unless_held("CLOOP_GATHER=always holds for any time; a transport that has learnt, 10 ms: test_gather.py")
    transport, peer = accepted()
    peer.settimeout(0.2)
    got = []

    def callback():
        try:
            for _ in range(3):
                transport.write(b"question")
                got.append(peer.recv(100))
        except socket.timeout:
            pass

    loop.call_soon(callback)
    turn()
    assert got == [b"question"] * 3
