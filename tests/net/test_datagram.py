"""Datagram transports: UDP and Unix, connected or not."""

import asyncio
import contextvars
import errno
import gc
import os
import re
import socket
import sys
import sysconfig
import warnings
import weakref

import pytest

VAR = contextvars.ContextVar("VAR", default="unset")
UNIX = socket.AF_UNIX
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


@pytest.fixture
def endpoint(run, loop, abandoned, datagram_recorder):
    """Creates an endpoint; returns its transport and protocol."""

    def endpoint(*args, hooks=None, **options):
        protocol = datagram_recorder(**(hooks or {}))
        transport, made = run(loop.create_datagram_endpoint(lambda: protocol, *args, **options))
        assert made is protocol
        abandoned.add(transport)
        return transport, protocol

    return endpoint


@pytest.fixture
def peer_socket(sockets):
    """Creates a plain UDP socket bound to a port."""

    def peer_socket(family=socket.AF_INET):
        sock = sockets(socket.socket(family, socket.SOCK_DGRAM))
        sock.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
        sock.settimeout(20)
        return sock

    return peer_socket


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A path short enough for a socket's."""
    monkeypatch.chdir(tmp_path)
    return "socket"


LOCAL = ("127.0.0.1", 0)


# Sending and receiving


def test_receiving(endpoint, peer_socket, until):
    transport, protocol = endpoint(LOCAL)
    assert protocol.calls == ["connection_made"] and protocol.transport is transport
    peer = peer_socket()
    peer.sendto(b"hello", transport.get_extra_info("sockname"))
    until(lambda: protocol.received)
    assert protocol.received == [(b"hello", peer.getsockname())]
    assert type(protocol.data[0]) is bytes


def test_each_comes_with_its_own_sender(endpoint, peer_socket, until):
    transport, protocol = endpoint(LOCAL)
    peers = [peer_socket(), peer_socket()]
    for number in (0, 1, 1, 0):
        peers[number].sendto(b"%d" % number, transport.get_extra_info("sockname"))
    until(lambda: len(protocol.received) == 4)
    assert protocol.received == [(b"%d" % number, peers[number].getsockname()) for number in (0, 1, 1, 0)]


def test_sending(endpoint, peer_socket):
    transport, protocol = endpoint(LOCAL)
    peer = peer_socket()
    transport.sendto(b"hello", peer.getsockname())
    assert peer.recvfrom(100) == (b"hello", transport.get_extra_info("sockname"))


@pytest.mark.parametrize("form", [bytes, bytearray, memoryview], ids=lambda form: form.__name__)
def test_sending_bytes_like_objects(endpoint, peer_socket, form):
    transport, protocol = endpoint(LOCAL)
    peer = peer_socket()
    transport.sendto(form(b"hello"), peer.getsockname())
    assert peer.recv(100) == b"hello"


def test_sending_from_the_callbacks(endpoint, peer_socket, until):
    """Like a server."""
    transport, protocol = endpoint(
        LOCAL, hooks={"datagram_received": lambda self, data, addr: self.transport.sendto(data.upper(), addr)}
    )
    peer = peer_socket()
    for number in range(10):
        peer.sendto(b"x%d" % number, transport.get_extra_info("sockname"))
    until(lambda: len(protocol.received) == 10)
    assert [peer.recv(100) for _ in range(10)] == [b"X%d" % number for number in range(10)]


def test_sending_in_one_callback(loop, run, endpoint, peer_socket):
    """Each datagram stays separate, in order."""
    transport, protocol = endpoint(LOCAL)
    peer = peer_socket()

    async def main():
        for number in range(50):
            transport.sendto(b"%d" % number, peer.getsockname())

    run(main())
    assert [peer.recv(100) for _ in range(50)] == [b"%d" % number for number in range(50)]


def test_several_that_are_there_arrive_in_order(endpoint, peer_socket, until):
    transport, protocol = endpoint(LOCAL)
    peer = peer_socket()
    for number in range(100):
        peer.sendto(b"%d" % number, transport.get_extra_info("sockname"))
    until(lambda: len(protocol.received) == 100)
    assert protocol.data == [b"%d" % number for number in range(100)]


def test_connected(endpoint, peer_socket, until):
    peer, stranger = peer_socket(), peer_socket()
    transport, protocol = endpoint(remote_addr=peer.getsockname())
    assert transport.get_extra_info("peername") == peer.getsockname()
    transport.sendto(b"no address")
    transport.sendto(b"None", None)
    transport.sendto(b"the address", peer.getsockname())
    assert [peer.recv(100) for _ in range(3)] == [b"no address", b"None", b"the address"]
    name = transport.get_extra_info("sockname")
    stranger.sendto(b"from a stranger", name)
    peer.sendto(b"from the peer", name)
    until(lambda: protocol.received)
    assert protocol.received == [(b"from the peer", peer.getsockname())]


def test_both_addresses(endpoint, peer_socket):
    peer = peer_socket()
    transport, protocol = endpoint(local_addr=("127.0.0.1", 0), remote_addr=peer.getsockname())
    transport.sendto(b"x")
    assert peer.recvfrom(10) == (b"x", transport.get_extra_info("sockname"))


def test_ipv6(endpoint, peer_socket, until, ipv6):
    transport, protocol = endpoint(("::1", 0))
    peer = peer_socket(socket.AF_INET6)
    peer.sendto(b"x", transport.get_extra_info("sockname"))
    until(lambda: protocol.received)
    assert protocol.received == [(b"x", peer.getsockname())]
    transport.sendto(b"y", peer.getsockname())
    assert peer.recv(10) == b"y"


@pytest.mark.parametrize("connected", [False, True])
def test_empty_datagrams_are_received(endpoint, peer_socket, until, connected):
    peer = peer_socket()
    transport, protocol = endpoint(LOCAL, remote_addr=peer.getsockname() if connected else None)
    for data in b"", b"x", b"":
        peer.sendto(data, transport.get_extra_info("sockname"))
    until(lambda: len(protocol.received) == 3)
    assert protocol.data == [b"", b"x", b""]
    assert not transport.is_closing()


@pytest.mark.parametrize("connected", [False, True])
def test_empty_datagrams_are_sent(endpoint, peer_socket, native, connected):
    peer = peer_socket()
    transport, protocol = endpoint(LOCAL, remote_addr=peer.getsockname() if connected else None)
    native(transport, before=(3, 14))  # it dropped them
    transport.sendto(b"", None if connected else peer.getsockname())
    transport.sendto(b"x", None if connected else peer.getsockname())
    assert [peer.recv(10), peer.recv(10)] == [b"", b"x"]


@pytest.mark.parametrize("size", [1, 1500, 65507])
def test_size(endpoint, peer_socket, until, size):
    transport, protocol = endpoint(LOCAL)
    peer = peer_socket()
    data = os.urandom(size)
    peer.sendto(data, transport.get_extra_info("sockname"))
    until(lambda: protocol.received)
    assert protocol.data == [data]
    transport.sendto(data, peer.getsockname())
    assert peer.recv(100000) == data


# Errors


def test_refused_by_the_peer(endpoint, peer_socket, until, sockets):
    """A connected socket gets the error, and continues."""
    with socket.socket(type=socket.SOCK_DGRAM) as free:
        free.bind(LOCAL)
        address = free.getsockname()
    transport, protocol = endpoint(remote_addr=address)
    transport.sendto(b"x")
    until(lambda: protocol.errors)
    assert [type(exc) for exc in protocol.errors] == [ConnectionRefusedError]
    assert not transport.is_closing() and protocol.lost == []
    peer = sockets(socket.socket(type=socket.SOCK_DGRAM))
    peer.bind(address)
    peer.settimeout(20)
    transport.sendto(b"again")
    assert peer.recv(100) == b"again"


def test_too_large_a_datagram(endpoint, peer_socket):
    peer = peer_socket()
    transport, protocol = endpoint(LOCAL)
    transport.sendto(bytes(70000), peer.getsockname())
    assert [exc.strerror for exc in protocol.errors] == ["Message too long"]
    transport.sendto(b"x", peer.getsockname())
    assert peer.recv(10) == b"x"


def test_error_on_sending_to_a_broadcast_address(endpoint):
    transport, protocol = endpoint(("0.0.0.0", 0))
    transport.sendto(b"x", ("255.255.255.255", 9))
    assert [type(exc) for exc in protocol.errors] == [PermissionError]


def test_exception_in_datagram_received_is_reported_and_it_goes_on(endpoint, peer_socket, until, reports):
    """Like any callback's error; asyncio names the handle there, cloop the transport."""

    def fail(self, data, addr):
        raise ZeroDivisionError("on purpose")

    transport, protocol = endpoint(LOCAL, hooks={"datagram_received": fail})
    peer = peer_socket()
    for count in (1, 2):
        peer.sendto(b"x", transport.get_extra_info("sockname"))
        until(lambda: len(reports) == count)  # noqa: B023
    assert len(protocol.received) == 2 and not transport.is_closing()
    for report in reports:
        assert report["message"].startswith("Exception in callback ")
        assert str(report["exception"]) == "on purpose"


def test_exception_in_error_received_on_sending_comes_out_of_sendto(endpoint, peer_socket):
    def fail(self, exc):
        raise ZeroDivisionError("on purpose")

    transport, protocol = endpoint(LOCAL, hooks={"error_received": fail})
    with pytest.raises(ZeroDivisionError, match="on purpose"):
        transport.sendto(bytes(70000), peer_socket().getsockname())
    assert not transport.is_closing()


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("name", ["datagram_received", "connection_lost"])
def test_interruption(endpoint, peer_socket, until, turn, name, interruption):
    def interrupt(self, *args):
        self.hooks.clear()
        raise interruption("on purpose")

    transport, protocol = endpoint(LOCAL, hooks={name: interrupt})
    if name == "connection_lost":
        transport.close()
    else:
        peer_socket().sendto(b"x", transport.get_extra_info("sockname"))
    with pytest.raises(interruption, match="on purpose"):
        until(lambda: False)
    if name == "connection_lost":
        assert transport.get_extra_info("socket").fileno() == -1
    else:
        assert not transport.is_closing()


REFUSED_DATA = ["text", None, 5, [b"x"]]


@pytest.mark.parametrize("data", REFUSED_DATA, ids=repr)
def test_data_refused(as_asyncio, data):
    assert as_asyncio(lambda loop: sending(loop, data, ("127.0.0.1", 9)))["result"][0] is TypeError


def sending(loop, *args, **options):
    transport, _ = loop.run_until_complete(loop.create_datagram_endpoint(asyncio.DatagramProtocol, LOCAL, **options))
    try:
        return transport.sendto(*args)
    finally:
        transport.abort()
        loop.run_until_complete(asyncio.sleep(0))


@pytest.mark.parametrize("address", [("127.0.0.1", 10), ("127.0.0.2", 9), "text"], ids=repr)
def test_another_address_than_the_connected_one_is_refused(as_asyncio, address):
    result = as_asyncio(lambda loop: sending(loop, b"x", address, remote_addr=("127.0.0.1", 9)))["result"]
    assert result[0] is ValueError


@pytest.mark.parametrize("address", ["text", 5, (), ("127.0.0.1",), ("127.0.0.1", "x"), ("127.0.0.1", 70000)], ids=repr)
def test_address_that_is_none(endpoint, reports, until, address):
    """It ends the transport: to asyncio it is an unexpected error of the socket."""
    transport, protocol = endpoint(LOCAL)
    transport.sendto(b"x", address)
    until(lambda: protocol.lost)
    (report,) = reports
    assert report["message"] == "Fatal write error on datagram transport"
    assert report["transport"] is transport and report["protocol"] is protocol
    assert protocol.lost == [report["exception"]] and isinstance(report["exception"], (TypeError, OverflowError))


def test_no_address_where_one_is_needed(endpoint, reports, until):
    transport, protocol = endpoint(LOCAL)
    transport.sendto(b"x")
    until(lambda: protocol.errors or protocol.lost)


# Flow control


@pytest.fixture
def clogged(endpoint, path, sockets, turn, native):
    """Creates an endpoint that is connected to a socket which does not read, and that has to buffer something."""

    def clogged():
        receiver = sockets(socket.socket(UNIX, socket.SOCK_DGRAM))
        receiver.bind("receiver")
        receiver.setblocking(False)
        transport, protocol = endpoint(remote_addr="receiver", family=UNIX)
        if sys.version_info >= (3, 12):
            native(transport, before=(3, 14))  # its size never went down to 0
        count = 0
        while not transport.get_write_buffer_size():
            transport.sendto(b"%08d" % count)
            count += 1
            turn()
        return transport, protocol, receiver, count

    return clogged


def read_all(receiver, got):
    try:
        while True:
            got.append(receiver.recv(100000))
    except BlockingIOError:
        pass


def test_what_is_buffered_is_sent_in_order(clogged, until):
    transport, protocol, receiver, count = clogged()
    for number in range(count, count + 20):
        transport.sendto(b"%08d" % number)
    got = []

    def done():
        read_all(receiver, got)
        return len(got) == count + 20

    until(done)
    assert got == [b"%08d" % number for number in range(count + 20)]
    assert transport.get_write_buffer_size() == 0


def test_buffered_data_are_copied(clogged, until):
    transport, protocol, receiver, count = clogged()
    data = bytearray(b"original")
    transport.sendto(data)
    data[:] = b"altered!"
    got = []

    def done():
        read_all(receiver, got)
        return len(got) == count + 1

    until(done)
    assert got[-1] == b"original"


def test_size_of_the_buffer(clogged):
    transport, protocol, receiver, count = clogged()
    before = transport.get_write_buffer_size()
    transport.sendto(b"12345")
    assert transport.get_write_buffer_size() - before in (5, 13)  # asyncio of today counts 8 for a header


def test_pausing_and_resuming(clogged, until):
    transport, protocol, receiver, count = clogged()
    transport.set_write_buffer_limits(1000)
    assert transport.get_write_buffer_limits() == (250, 1000)
    sent = 0
    while "pause_writing" not in protocol.calls:
        transport.sendto(bytes(100))
        sent += 1
    assert transport.get_write_buffer_size() > 1000
    got = []

    def done():
        read_all(receiver, got)
        return len(got) == count + sent

    until(done)
    assert protocol.calls == ["connection_made", "pause_writing", "resume_writing"]


def test_protocol_is_resumed_after_an_error_of_the_last_that_waited(clogged, until):
    """Until the socket is asked again nothing waits, but the protocol is paused: a check of debug builds said that is wrong."""
    transport, protocol, receiver, count = clogged()
    transport.set_write_buffer_limits(0)
    transport.sendto(bytes(1 << 22))
    assert protocol.calls == ["connection_made", "pause_writing"]

    def done():
        read_all(receiver, [])
        return "resume_writing" in protocol.calls

    until(done)
    assert [error.errno for error in protocol.errors] == [errno.EMSGSIZE]
    assert protocol.calls == ["connection_made", "pause_writing", "error_received", "resume_writing"]


def test_close_sends_what_is_buffered(clogged, until, turn):
    transport, protocol, receiver, count = clogged()
    transport.close()
    turn()
    assert protocol.lost == []
    got = []

    def done():
        read_all(receiver, got)
        return protocol.lost

    until(done)
    read_all(receiver, got)
    assert len(got) == count and protocol.lost == [None]


def test_abort_drops_what_is_buffered(clogged, until, turn):
    transport, protocol, receiver, count = clogged()
    transport.abort()
    turn()
    assert protocol.lost == [None]
    got = []
    read_all(receiver, got)
    assert len(got) == count - 1


@pytest.mark.parametrize("name", ["pause_writing", "resume_writing"])
def test_exception_in_flow_control_is_reported(clogged, until, reports, name):
    def fail(self):
        raise ZeroDivisionError("on purpose")

    transport, protocol, receiver, count = clogged()
    protocol.hooks[name] = fail
    transport.set_write_buffer_limits(0)
    transport.sendto(b"x")
    got = []

    def done():
        read_all(receiver, got)
        return "resume_writing" in protocol.calls

    until(done)
    (report,) = reports
    assert report["message"] == "protocol.%s() failed" % name
    assert report["transport"] is transport and report["protocol"] is protocol


# Reading


def test_paused_transport_reads_nothing(endpoint, peer_socket, until, turn, native):
    transport, protocol = endpoint(LOCAL)
    native(transport, before=(3, 11))  # it had no such methods
    transport.pause_reading()
    assert not transport.is_reading()
    peer_socket().sendto(b"x", transport.get_extra_info("sockname"))
    for _ in range(3):
        turn()
    assert protocol.received == []
    transport.resume_reading()
    until(lambda: protocol.received)


# The end


@pytest.mark.parametrize("end", ["close", "abort"])
def test_end(endpoint, turn, peer_socket, end):
    transport, protocol = endpoint(LOCAL)
    sock = transport.get_extra_info("socket")
    peer_socket().sendto(b"too late", sock.getsockname())
    assert not transport.is_closing()
    getattr(transport, end)()
    assert transport.is_closing() and protocol.lost == []
    transport.close()
    transport.abort()
    turn()
    assert protocol.lost == [None] and sock.fileno() == -1
    assert protocol.received == []
    transport.close()
    transport.abort()
    turn()
    assert protocol.calls == ["connection_made", "connection_lost"]


def test_close_in_the_midst_of_several_datagrams(endpoint, peer_socket, until, turn):
    transport, protocol = endpoint(
        LOCAL, hooks={"datagram_received": lambda self, data, addr: len(self.received) == 3 and self.transport.close()}
    )
    peer = peer_socket()
    for number in range(10):
        peer.sendto(b"%d" % number, transport.get_extra_info("sockname"))
    until(lambda: protocol.lost)
    turn()
    assert protocol.data == [b"0", b"1", b"2"]


def test_sendto_after_close_is_quiet_but_for_a_warning_after_five(endpoint, peer_socket, caplog, turn):
    """For a connected one; asyncio counts no others."""
    transport, protocol = endpoint(remote_addr=peer_socket().getsockname())
    transport.close()
    for _ in range(8):
        transport.sendto(b"x")
    turn()
    assert [record.getMessage() for record in caplog.records] == ["socket.send() raised exception."] * 4


def test_dropped_without_close(loop, run, datagram_recorder):
    transport = run(loop.create_datagram_endpoint(datagram_recorder, LOCAL))[0]
    loop.close()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gc.collect()
        caught.clear()
        del transport
        gc.collect()
    told = [str(warning.message) for warning in caught if warning.category is ResourceWarning]
    if FREE_THREADED:  # the collector calls finalizers in another order: the socket may warn by itself, too
        told = [message for message in told if not message.startswith("unclosed <socket.socket ")]
    (message,) = told
    assert re.match(r"unclosed transport <.* fd=\d+", message)


# What it is


def test_is_a_transport_of_asyncio(endpoint):
    transport, protocol = endpoint(LOCAL)
    if sys.version_info >= (3, 12):
        assert isinstance(transport, asyncio.DatagramTransport)
    assert isinstance(transport, asyncio.BaseTransport)
    assert isinstance(transport, asyncio.transports._FlowControlMixin)
    assert weakref.ref(transport)() is transport
    assert transport.get_protocol() is protocol
    transport.mine = 5
    assert transport.mine == 5


def test_is_a_datagram_transport(endpoint, native):
    transport, protocol = endpoint(LOCAL)
    native(transport, before=(3, 12))
    assert isinstance(transport, asyncio.DatagramTransport)


def test_sendto_may_be_assigned_on_the_instance(endpoint, peer_socket):
    """Like aioquic's suite."""
    transport, protocol = endpoint(LOCAL)
    seen = []
    transport.sendto = lambda *args: seen.append(args)
    transport.sendto(b"caught", None)
    assert seen == [(b"caught", None)]
    del transport.sendto
    peer = peer_socket()
    transport.sendto(b"sent", peer.getsockname())
    assert peer.recv(10) == b"sent"


def test_extra_info(endpoint):
    transport, protocol = endpoint(LOCAL)
    sock = transport.get_extra_info("socket")
    assert type(sock) is asyncio.trsock.TransportSocket and sock.type == socket.SOCK_DGRAM
    assert transport.get_extra_info("sockname") == sock.getsockname()
    assert transport.get_extra_info("peername") is None
    assert transport.get_extra_info("cipher", 5) == 5


@pytest.mark.parametrize("name", ["_sock", "_sock_fd", "_protocol", "_loop", "_address", "_extra", "_closing"])
def test_private_attributes_that_libraries_read(endpoint, name):
    transport, protocol = endpoint(LOCAL)
    assert hasattr(transport, name)


def test_repr(endpoint, turn):
    transport, protocol = endpoint(LOCAL)
    turn()
    fd = transport.get_extra_info("socket").fileno()
    assert re.match(r"<\S+ fd=%d read=polling write=<idle, bufsize=0>>$" % fd, repr(transport))
    transport.close()
    turn()
    assert re.match(r"<\S+ closed fd=%d>$" % fd, repr(transport))


def test_descriptor_is_the_transports_own(loop, endpoint):
    transport, protocol = endpoint(LOCAL)
    with pytest.raises(RuntimeError, match="^File descriptor .* is used by transport <"):
        loop.add_reader(transport.get_extra_info("socket"), print)


def test_callbacks_run_in_the_context_of_the_endpoint(run, loop, datagram_recorder, peer_socket, until, abandoned):
    seen = {}

    def note(name):
        def noting(self, *args):
            seen[name] = VAR.get()

        return noting

    names = ["connection_made", "datagram_received", "connection_lost"]
    protocol = datagram_recorder(**{name: note(name) for name in names})

    async def main():
        VAR.set("endpoint")
        abandoned.add((await loop.create_datagram_endpoint(lambda: protocol, LOCAL))[0])
        VAR.set("later")
        protocol.transport.sendto(b"x", protocol.transport.get_extra_info("sockname"))

    run(main())
    until(lambda: protocol.received)
    assert seen == dict.fromkeys(names[:2], "endpoint")


# Options


def flag(transport, name):
    return bool(transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, name))


def test_allow_broadcast(endpoint):
    assert flag(endpoint(LOCAL, allow_broadcast=True)[0], socket.SO_BROADCAST)
    assert not flag(endpoint(LOCAL)[0], socket.SO_BROADCAST)


def test_broadcasting_endpoint_with_an_address_is_not_connected(endpoint, peer_socket, until):
    """It keeps the address to send to, and receives from everybody."""
    peer, stranger = peer_socket(), peer_socket()
    transport, protocol = endpoint(LOCAL, remote_addr=peer.getsockname(), allow_broadcast=True)
    assert transport.get_extra_info("peername") is None
    transport.sendto(b"x")
    assert peer.recv(10) == b"x"
    stranger.sendto(b"y", transport.get_extra_info("sockname"))
    until(lambda: protocol.received)


def test_reuse_port(endpoint):
    first, _ = endpoint(LOCAL, reuse_port=True)
    second, _ = endpoint(first.get_extra_info("sockname"), reuse_port=True)
    assert first.get_extra_info("sockname") == second.get_extra_info("sockname")
    assert not flag(endpoint(LOCAL)[0], socket.SO_REUSEPORT)


def test_address_in_use(run, loop, endpoint, datagram_recorder):
    transport, protocol = endpoint(LOCAL)
    with pytest.raises(OSError, match="Address already in use"):
        run(loop.create_datagram_endpoint(datagram_recorder, transport.get_extra_info("sockname")))


def test_family_alone(endpoint, peer_socket):
    transport, protocol = endpoint(family=socket.AF_INET)
    peer = peer_socket()
    transport.sendto(b"x", peer.getsockname())
    assert peer.recv(10) == b"x"


def test_socket_passed_in(endpoint, peer_socket, until):
    sock = socket.socket(type=socket.SOCK_DGRAM)
    sock.bind(LOCAL)
    transport, protocol = endpoint(sock=sock)
    assert sock.gettimeout() == 0
    peer = peer_socket()
    peer.sendto(b"x", sock.getsockname())
    until(lambda: protocol.received)
    transport.sendto(b"y", peer.getsockname())
    assert peer.recv(10) == b"y"


def test_connected_socket_passed_in(endpoint, peer_socket):
    peer = peer_socket()
    sock = socket.socket(type=socket.SOCK_DGRAM)
    sock.connect(peer.getsockname())
    transport, protocol = endpoint(sock=sock)
    assert transport.get_extra_info("peername") == peer.getsockname()
    transport.sendto(b"x")
    assert peer.recv(10) == b"x"


def test_name_is_looked_up(endpoint, peer_socket, monkeypatch):
    peer = peer_socket()
    asked = []

    def getaddrinfo(host, port, *args):
        asked.append((host, port) + args)
        return [(socket.AF_INET, socket.SOCK_DGRAM, 17, "", peer.getsockname())]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    transport, protocol = endpoint(remote_addr=("a.name", 80))
    assert asked == [("a.name", 80, 0, socket.SOCK_DGRAM, 0, 0)]
    transport.sendto(b"x")
    assert peer.recv(10) == b"x"


# Unix


def test_unix(endpoint, path, until):
    server, heard = endpoint(local_addr="server", family=UNIX)
    client, answered = endpoint(local_addr="client", remote_addr="server", family=UNIX)
    assert server.get_extra_info("sockname") == "server"
    assert client.get_extra_info("peername") == "server"
    client.sendto(b"question")
    until(lambda: heard.received)
    assert heard.received == [(b"question", "client")]
    server.sendto(b"answer", "client")
    until(lambda: answered.received)
    assert answered.received == [(b"answer", "server")]


def test_unix_without_a_name(endpoint, path, until):
    server, heard = endpoint(local_addr="server", family=UNIX)
    client, _ = endpoint(remote_addr="server", family=UNIX)
    client.sendto(b"x")
    until(lambda: heard.received)
    assert heard.received == [(b"x", None)]


def test_abstract_unix(endpoint, until, sockets):
    name = "\0cloop test datagram %d" % os.getpid()
    server, heard = endpoint(local_addr=name, family=UNIX)
    assert server.get_extra_info("sockname") == name.encode()
    client, _ = endpoint(remote_addr=name, family=UNIX)
    client.sendto(b"x")
    until(lambda: heard.received)


def test_unix_pair(endpoint, until):
    ours, peer = socket.socketpair(UNIX, socket.SOCK_DGRAM)
    with peer:
        transport, protocol = endpoint(sock=ours)
        for data in b"", b"one", b"two":
            peer.send(data)
        until(lambda: len(protocol.received) == 3)
        assert protocol.data == [b"", b"one", b"two"]


def test_unix_pair_sends(endpoint, native):
    ours, peer = socket.socketpair(UNIX, socket.SOCK_DGRAM)
    with peer:
        transport, protocol = endpoint(sock=ours)
        native(transport)  # asyncio's finds no peer in the name '', and fails with a TypeError
        transport.sendto(b"one")
        transport.sendto(b"two", None)
        peer.settimeout(20)
        assert [peer.recv(10), peer.recv(10)] == [b"one", b"two"]
        assert not protocol.errors and not transport.is_closing()


def test_stale_socket_is_replaced(endpoint, path, until):
    with socket.socket(UNIX, socket.SOCK_DGRAM) as old:
        old.bind(path)
    endpoint(local_addr=path, family=UNIX)


def test_unix_peer_that_has_gone(endpoint, path, sockets):
    receiver = sockets(socket.socket(UNIX, socket.SOCK_DGRAM))
    receiver.bind("receiver")
    transport, protocol = endpoint(remote_addr="receiver", family=UNIX)
    receiver.close()
    transport.sendto(b"x")
    assert [type(exc) for exc in protocol.errors] == [ConnectionRefusedError]
    assert not transport.is_closing()


# Refused


def creating(*args, **options):
    async def function(loop):
        transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, *args, **options)
        transport.abort()
        await asyncio.sleep(0)

    return function


def with_socket(kind=socket.SOCK_DGRAM, **options):
    async def function(loop):
        with socket.socket(type=kind) as sock:
            await creating(sock=sock, **options)(loop)

    return function


REFUSED = {
    "nothing": creating(),
    "stream socket": with_socket(socket.SOCK_STREAM),
    "address and socket": with_socket(local_addr=LOCAL, remote_addr=("127.0.0.1", 9)),
    "options and socket": with_socket(family=2, proto=17, flags=1, reuse_port=True, allow_broadcast=True),
    "local text": creating("127.0.0.1:9"),
    "local of three": creating(("127.0.0.1", 9, 0)),
    "remote of one": creating(remote_addr=("127.0.0.1",)),
    "families that differ": creating(LOCAL, ("::1", 9)),
    "family that differs": creating(LOCAL, family=socket.AF_INET6),
    "address not ours": creating(("192.0.2.1", 0)),
    "port too large": creating(("127.0.0.1", 70000)),
    "port of letters": creating(("127.0.0.1", "no such service")),
    "unix: number": creating(5, family=UNIX),
    "unix: pair": creating(LOCAL, family=UNIX),
    "unix: no such peer": creating(remote_addr="no such file", family=UNIX),
    "unix: no such folder": creating("no/such/folder/socket", family=UNIX),
    "unix: path too long": creating("x" * 200, family=UNIX),
    "option unknown": creating(LOCAL, nonsense=True),
    "reuse_address": creating(LOCAL, reuse_address=True),
}


@pytest.mark.parametrize("what", list(REFUSED))
def test_refused(attempt, as_asyncio, path, what):
    if what == "reuse_address" and sys.version_info >= (3, 11):
        pytest.skip("asyncio has it no more; tests/test_newer.py")
    result = as_asyncio(lambda loop: attempt(REFUSED[what], loop))["result"]
    assert isinstance(result, tuple) and issubclass(result[0], Exception)


@pytest.mark.skipif(sys.version_info >= (3, 11), reason="gone since 3.11")
def test_reuse_address_false_is_deprecated(as_asyncio, attempt):
    seen = as_asyncio(lambda loop: attempt(creating(LOCAL, reuse_address=False), loop))
    assert seen["result"] is None and [kind for kind, _ in seen["warned"]] == [DeprecationWarning]


def test_factory_that_raises(run, loop):
    def factory():
        raise ZeroDivisionError("on purpose")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # asyncio leaves the socket to the collector
        with pytest.raises(ZeroDivisionError, match="on purpose"):
            run(loop.create_datagram_endpoint(factory, LOCAL))
        gc.collect()


ON_A_CLOSED_LOOP = {
    "a local address": lambda loop, factory: loop.create_datagram_endpoint(factory, LOCAL),
    "a remote address": lambda loop, factory: loop.create_datagram_endpoint(factory, remote_addr=("127.0.0.1", 9)),
    "a family": lambda loop, factory: loop.create_datagram_endpoint(factory, family=socket.AF_INET),
    "a Unix socket": lambda loop, factory: loop.create_datagram_endpoint(factory, family=UNIX),
    "nothing": lambda loop, factory: loop.create_datagram_endpoint(factory),
}


@pytest.mark.parametrize("factory", [asyncio.DatagramProtocol, object, None], ids=["protocol", "object", "none"])
@pytest.mark.parametrize("what", sorted(ON_A_CLOSED_LOOP))
def test_on_a_closed_loop(as_asyncio, what, factory):
    def body(loop):
        loop.close()
        coroutine = ON_A_CLOSED_LOOP[what](loop, factory)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # the socket is left to the collector
            try:
                coroutine.send(None)
            except Exception as error:
                return type(error), str(error)
            finally:
                coroutine.close()
                gc.collect()

    assert as_asyncio(body)["result"] is not None


def test_number_of_a_file_in_the_way_of_a_path(attempt, as_asyncio, path):
    with open(path, "w") as file:
        file.write("keep me")
    result = as_asyncio(lambda loop: attempt(creating(path, family=UNIX), loop))["result"]
    assert result[0] is OSError and os.path.getsize(path) == 7


@pytest.mark.parametrize("turns", range(4))
def test_cancelled_after_some_turns(loop, cancelled_after, datagram_recorder, peer_socket, turns):
    address = peer_socket().getsockname()
    cancelled_after(turns, lambda factory: loop.create_datagram_endpoint(factory, LOCAL, address), datagram_recorder)


def test_arguments_by_name(endpoint, peer_socket):
    peer = peer_socket()
    transport, protocol = endpoint(LOCAL)
    transport.sendto(data=b"one", addr=peer.getsockname())
    transport.sendto(b"two", addr=peer.getsockname())
    assert [peer.recv(10), peer.recv(10)] == [b"one", b"two"]


def test_socket_that_the_program_has_closed(loop, endpoint, peer_socket, sockets):
    peer = peer_socket()
    sock = sockets(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    sock.bind(LOCAL)
    sock.setblocking(False)
    transport, protocol = endpoint(sock=sock)
    sock.close()
    transport.sendto(b"x", peer.getsockname())
    assert [exc.errno for exc in protocol.errors] == [errno.EBADF]


def test_peer_that_goes_while_something_is_buffered(clogged, until, native):
    transport, protocol, receiver, count = clogged()
    native(transport)  # asyncio's fails if it is aborted then
    gc.collect()
    assert transport.get_write_buffer_size() > 0
    receiver.close()
    until(lambda: protocol.errors)
    assert type(protocol.errors[0]) is ConnectionRefusedError and not transport.is_closing()


def test_socket_that_receives_from_another_when_it_is_asked_for_its_number(
    loop, endpoint, peer_socket, until, loop_kind
):
    """The answer goes to whom it was for."""
    if loop_kind == "asyncio":
        pytest.skip("it does not ask")

    class Socket(socket.socket):
        pass

    def asked():
        del sock.fileno
        others.sendto(b"two", transport.get_extra_info("sockname"))
        for _ in range(3):
            loop._run_once()
        return sock.fileno()

    def received(protocol, data, addr):
        if data == b"one":
            sock.fileno = asked
            protocol.transport.sendto(b"answer", addr)

    peer, others = peer_socket(), peer_socket()
    with Socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(LOCAL)
        sock.setblocking(False)
        transport, protocol = endpoint(sock=sock, hooks={"datagram_received": received})
        peer.sendto(b"one", transport.get_extra_info("sockname"))
        until(lambda: len(protocol.data) == 2)
        assert peer.recv(100) == b"answer"
        transport.close()
        until(lambda: protocol.lost)


@pytest.mark.parametrize(
    "args, names", [((), {}), ((b"x", None, 5), {}), ((b"x",), {"data": b"x"}), ((b"x",), {"nonsense": 5})]
)
def test_wrong_arguments(endpoint, args, names):
    transport, protocol = endpoint(LOCAL)
    with pytest.raises(TypeError):
        transport.sendto(*args, **names)
    assert not transport.is_closing() and not protocol.errors
