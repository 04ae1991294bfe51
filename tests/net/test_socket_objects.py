"""Sockets that are not exactly socket.socket. If a program replaces a method, it is called wherever asyncio calls it,
and everything that asyncio accepts as a socket works.
"""

import asyncio
import errno
import gc
import os
import resource
import socket
import sys

import pytest

# Listening sockets. Each notes in `calls` that its accept() was called.


class Overriding(socket.socket):
    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.calls = []

    def accept(self):
        self.calls.append("accept")
        return super().accept()


class Patched(socket.socket):
    """An object with its own accept(), which its class does not have."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.calls = []
        self.accept = self.noted_accept

    def noted_accept(self):
        self.calls.append("accept")
        return socket.socket.accept(self)


class Delegating:
    """Like gunicorn's sockets: not a socket, but it delegates to one."""

    def __init__(self, *args, **options):
        self.sock = socket.socket(*args, **options)
        self.calls = None  # accept() is called on the socket

    def __getattr__(self, name):
        return getattr(self.sock, name)


class Wrapping:
    """Not a socket, only the methods that a server needs."""

    def __init__(self, *args, **options):
        self.sock = socket.socket(*args, **options)
        self.family, self.type, self.proto = self.sock.family, self.sock.type, self.sock.proto
        self.calls = []
        for name in ("fileno", "bind", "listen", "setblocking", "setsockopt", "getsockname", "close"):
            setattr(self, name, getattr(self.sock, name))

    def accept(self):
        self.calls.append("accept")
        return self.sock.accept()


class Connection(socket.socket):
    """What AcceptsOther accepts."""

    received = 0

    def recv(self, size):
        Connection.received += 1
        return super().recv(size)

    def recv_into(self, buffer):
        Connection.received += 1
        return super().recv_into(buffer)


class AcceptsOther(Overriding):
    def accept(self):
        conn, address = super().accept()
        return Connection(conn.family, conn.type, conn.proto, fileno=conn.detach()), address


LISTENERS = [Overriding, Patched, Delegating, Wrapping, AcceptsOther]


@pytest.fixture(params=LISTENERS, ids=lambda cls: cls.__name__)
def listener_class(request):
    return request.param


@pytest.fixture
def listener(listener_class, sockets):
    """Creates a listening socket object of the class under test."""

    def listener(family=socket.AF_INET, address=("127.0.0.1", 0)):
        sock = listener_class(family, socket.SOCK_STREAM)
        sockets(getattr(sock, "sock", sock))
        sock.bind(address)
        sock.listen(100)
        sock.setblocking(False)
        return sock

    return listener


@pytest.fixture
def tls_contexts():
    trustme = pytest.importorskip("trustme")
    import ssl

    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


def upper(self, data):
    self.transport.write(data.upper())
    self.transport.close()


def check_calls(sock):
    assert sock.calls is None or set(sock.calls) == {"accept"}


def test_create_server(serving, listener, run, loop, call, collect):
    sock = listener()
    serving.add(loop.create_server(serving.factory(data_received=upper), sock=sock))
    for number in range(3):
        client = call(serving.servers[0])
        client.send(b"hello%d" % number)
        assert collect(client) == b"HELLO%d" % number
    assert len(serving.accepted) == 3
    assert serving.accepted[0].transport.get_extra_info("peername")[0] == "127.0.0.1"
    check_calls(sock)


def test_connections_are_what_accept_returns(serving, loop, call, collect, sockets, monkeypatch):
    monkeypatch.setattr(Connection, "received", 0)
    sock = sockets(AcceptsOther())
    sock.bind(("127.0.0.1", 0))
    serving.add(loop.create_server(serving.factory(data_received=upper), sock=sock))
    client = call(serving.servers[0])
    client.send(b"hello")
    assert collect(client) == b"HELLO"
    assert Connection.received > 0


def test_closing_the_server_closes_it(serving, listener, loop, turn):
    sock = listener()
    server = serving.add(loop.create_server(serving.factory(), sock=sock))
    address = sock.getsockname()
    server.close()
    turn()
    assert sock.fileno() == -1
    with socket.socket() as client, pytest.raises(ConnectionRefusedError):
        client.connect(address)


def test_create_unix_server(serving, listener, loop, call, collect, tmp_path):
    sock = listener(socket.AF_UNIX, str(tmp_path / "s"))
    serving.add(loop.create_unix_server(serving.factory(data_received=upper), sock=sock))
    client = call(serving.servers[0])
    client.send(b"hello")
    assert collect(client) == b"HELLO"
    check_calls(sock)


def test_tls(run, loop, listener, tls_contexts):
    """With a handshake timeout, which asyncio's own accepting passes on by position."""
    sock = listener()

    async def handler(reader, writer):
        writer.write((await reader.readline()).upper())
        writer.close()

    async def main():
        options = {"ssl": tls_contexts[0], "ssl_handshake_timeout": 10}
        if sys.version_info >= (3, 11):
            options["ssl_shutdown_timeout"] = 10
        server = await asyncio.start_server(handler, sock=sock, **options)
        for _ in range(2):
            reader, writer = await asyncio.open_connection(
                *sock.getsockname(), ssl=tls_contexts[1], server_hostname="localhost"
            )
            writer.write(b"hello\n")
            assert await reader.read() == b"HELLO\n"
            writer.close()
        server.close()

    run(main())
    check_calls(sock)


def test_a_handshake_that_never_begins_ends(run, loop, listener, tls_contexts, turn):
    sock = listener()

    async def main():
        server = await loop.create_server(asyncio.Protocol, sock=sock, ssl=tls_contexts[0], ssl_handshake_timeout=0.05)
        reader, writer = await asyncio.open_connection(*sock.getsockname())
        try:
            assert await reader.read() == b""
        except ConnectionResetError:
            pass
        writer.close()
        server.close()

    run(main())
    check_calls(sock)


def test_start_serving_later(serving, listener, loop, run, call, collect):
    sock = listener()
    server = serving.add(loop.create_server(serving.factory(data_received=upper), sock=sock, start_serving=False))
    run(server.start_serving())
    client = call(server)
    client.send(b"hello")
    assert collect(client) == b"HELLO"


def test_start_serving_of_the_loop(serving, listener, loop, call, collect, sockets, turn):
    """The private method, which some frameworks call."""
    sock = listener()
    loop._start_serving(serving.factory(data_received=upper), sock)
    client = sockets(socket.create_connection(sock.getsockname(), timeout=20))
    client.send(b"hello")
    client.setblocking(False)
    assert collect(client) == b"HELLO"
    check_calls(sock)
    loop._stop_serving(sock)
    turn()
    assert sock.fileno() == -1


def test_listener_with_only_fileno_and_accept(serving, loop, collect, sockets, listening):
    """_start_serving() only needs fileno() and accept()."""
    inner = listening()
    inner.setblocking(False)

    class Bare:
        fileno = staticmethod(inner.fileno)
        accept = staticmethod(inner.accept)

    loop._start_serving(serving.factory(data_received=upper), Bare())
    client = sockets(socket.create_connection(inner.getsockname(), timeout=20))
    client.send(b"hello")
    client.setblocking(False)
    assert collect(client) == b"HELLO"
    assert loop._remove_reader(inner.fileno())


def test_sock_accept(listener, run, loop, sockets):
    sock = listener()
    client = sockets(socket.create_connection(sock.getsockname(), timeout=20))
    conn, address = run(loop.sock_accept(sock))
    with conn:
        assert address == client.getsockname() and conn.gettimeout() == 0
    check_calls(sock)


def test_accept_that_fails_is_reported(reports, loop, serving, call, until, sockets):
    class Failing(socket.socket):
        def accept(self):
            super().accept()[0].close()
            raise ZeroDivisionError

    sock = sockets(Failing())
    sock.bind(("127.0.0.1", 0))
    serving.add(loop.create_server(serving.factory(), sock=sock))
    call(serving.servers[0])
    until(lambda: reports)
    assert isinstance(reports[0]["exception"], ZeroDivisionError)


def test_accept_without_descriptors_goes_on_later(reports, loop, serving, call, collect, sockets, monkeypatch):
    from asyncio import constants

    monkeypatch.setattr(constants, "ACCEPT_RETRY_DELAY", 0.01)

    class Exhausted(socket.socket):
        failures = 1

        def accept(self):
            if Exhausted.failures:
                Exhausted.failures -= 1
                raise OSError(errno.EMFILE, "none left")
            return super().accept()

    sock = sockets(Exhausted())
    sock.bind(("127.0.0.1", 0))
    serving.add(loop.create_server(serving.factory(data_received=upper), sock=sock, backlog=1))
    client = call(serving.servers[0])
    client.send(b"hello")
    assert collect(client) == b"HELLO"
    assert reports[0]["message"] == "socket.accept() out of system resource"


def test_server_without_descriptors_that_cannot_rest(reports, serving, until, monkeypatch):
    """As the time of a rest is none."""
    from asyncio import constants

    monkeypatch.setattr(constants, "ACCEPT_RETRY_DELAY", "soon")
    address = serving.tcp().sockets[0].getsockname()
    with socket.create_connection(address):
        free = os.dup(0)
        os.close(free)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
        try:
            until(lambda: len(reports) > 1)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert [type(report["exception"]) for report in reports[:2]] == [OSError, TypeError]


def test_a_replaced_accept_of_socket_is_called(loop, serving, call, collect, monkeypatch):
    accepted, accept = [], socket.socket.accept
    monkeypatch.setattr(socket.socket, "accept", lambda self: accepted.append(1) or accept(self))
    server = serving.tcp(hooks={"data_received": upper})
    client = call(server)
    client.send(b"hello")
    assert collect(client) == b"HELLO"
    assert accepted


# Connected sockets


def noting(names, calls):
    """A subclass of socket.socket that notes calls of these methods in `calls`."""

    def method(name):
        original = getattr(socket.socket, name)

        def noted(self, *args):
            calls.append(name)
            return original(self, *args)

        return noted

    return type("Noting", (socket.socket,), {name: method(name) for name in names})


ASKED = ["recv", "send", "close", "getsockname", "getpeername", "shutdown", "setsockopt"]


@pytest.fixture(params=ASKED)
def name(request):
    return request.param


@pytest.fixture
def where(socket_pair, sockets):
    """Creates a connected socket with replaced methods of this name, and its peer."""

    def where(place, name, calls, monkeypatch):
        ours, peer = socket_pair("tcp")
        original = getattr(socket.socket, name)
        if place == "class":
            ours = sockets(noting([name], calls)(fileno=ours.detach()))
        elif place == "object":
            ours = sockets(type("Plain", (socket.socket,), {})(fileno=ours.detach()))

            def noted(*args):
                calls.append(name)
                return original(ours, *args)

            setattr(ours, name, noted)
        else:

            def noted_too(self, *args):
                if self is ours:
                    calls.append(name)
                return original(self, *args)

            monkeypatch.setattr(socket.socket, name, noted_too)
        ours.setblocking(False)
        return ours, peer

    return where


@pytest.mark.parametrize("place", ["class", "object", "socket.socket"])
def test_methods_of_a_connection_are_called(run, loop, recorder, until, place, name, where, monkeypatch):
    calls = []
    ours, peer = where(place, name, calls, monkeypatch)
    transport, protocol = run(loop.create_connection(recorder, sock=ours))
    peer.send(b"hello")
    until(lambda: protocol.data)
    transport.write(b"back")
    transport.write_eof()
    until(lambda: "eof_received" in protocol.calls or peer.recv(10) == b"back")
    transport.close()
    until(lambda: protocol.lost)
    assert name in calls


def test_an_overriding_getattribute_is_asked(run, loop, recorder, until, socket_pair, sockets):
    asked = set()

    class Asked(socket.socket):
        def __getattribute__(self, name):
            asked.add(name)
            return super().__getattribute__(name)

    ours, peer = socket_pair()
    ours = sockets(Asked(fileno=ours.detach()))
    transport, protocol = run(loop.create_connection(recorder, sock=ours))
    peer.send(b"hello")
    until(lambda: protocol.data)
    transport.close()
    until(lambda: protocol.lost)
    assert {"recv", "close"} <= asked


@pytest.mark.parametrize("place", ["class", "object", "socket.socket"])
@pytest.mark.parametrize("name", ["recvfrom", "sendto"])
def test_methods_of_a_datagram_socket_are_called(
    run, loop, datagram_recorder, until, sockets, place, name, monkeypatch
):
    calls, original = [], getattr(socket.socket, name)
    cls = noting([name] if place == "class" else [], calls)
    ours = sockets(cls(type=socket.SOCK_DGRAM) if place != "socket.socket" else socket.socket(type=socket.SOCK_DGRAM))
    if place == "object":
        setattr(ours, name, lambda *args: calls.append(name) or original(ours, *args))
    elif place == "socket.socket":
        monkeypatch.setattr(socket.socket, name, lambda self, *args: calls.append(name) or original(self, *args))
    ours.bind(("127.0.0.1", 0))
    peer = sockets(socket.socket(type=socket.SOCK_DGRAM))
    peer.bind(("127.0.0.1", 0))
    transport, protocol = run(loop.create_datagram_endpoint(datagram_recorder, sock=ours))
    transport.sendto(b"out", peer.getsockname())
    assert peer.recv(10) == b"out"
    peer.connect(ours.getsockname())
    peer.send(b"in")
    until(lambda: protocol.data)
    transport.close()
    until(lambda: protocol.lost)
    assert calls


def test_connect_accepted_socket(run, loop, recorder, until, socket_pair, sockets, monkeypatch):
    monkeypatch.setattr(Connection, "received", 0)
    ours, peer = socket_pair()
    ours = sockets(Connection(fileno=ours.detach()))
    transport, protocol = run(loop.connect_accepted_socket(recorder, ours))
    peer.send(b"hello")
    until(lambda: protocol.data == b"hello")
    transport.close()
    until(lambda: protocol.lost)
    assert Connection.received > 0


def test_sendfile(run, loop, recorder, until, collect, socket_pair, sockets, tmp_path, monkeypatch):
    monkeypatch.setattr(Connection, "received", 0)
    (tmp_path / "file").write_bytes(b"x" * 1000)
    ours, peer = socket_pair()
    ours = sockets(Connection(fileno=ours.detach()))
    transport, protocol = run(loop.create_connection(recorder, sock=ours))

    async def send():
        with open(str(tmp_path / "file"), "rb") as file:
            return await loop.sendfile(transport, file)

    assert run(send()) == 1000
    assert collect(peer, 1000) == b"x" * 1000
    transport.close()
    until(lambda: protocol.lost)


def test_a_subclass_of_the_loop_makes_the_transports(new_loop, loop_class, recorder):
    """Those of accepted connections too."""
    made = []

    class Making(loop_class):
        def _make_socket_transport(self, *args, **options):
            made.append(super()._make_socket_transport(*args, **options))
            return made[-1]

    loop = new_loop(Making)

    async def main():
        server = await loop.create_server(recorder, "127.0.0.1", 0)
        transport, _ = await loop.create_connection(recorder, *server.sockets[0].getsockname())
        while len(made) < 2:
            await asyncio.sleep(0.001)
        server.close()
        for each in made:
            each.abort()
        await asyncio.sleep(0.001)

    loop.run_until_complete(asyncio.wait_for(main(), 20))


# Files


class File:
    """One end of a pipe, with only what asyncio requires."""

    def __init__(self, fd):
        self.fd, self.calls = fd, []

    def fileno(self):
        if self.fd is None:
            raise ValueError("closed")
        return self.fd

    def close(self):
        self.calls.append("close")
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None


def test_pipes_that_are_no_files(run, loop, recorder, until):
    reading, writing = map(File, os.pipe())
    read_transport, reader = run(loop.connect_read_pipe(recorder, reading))
    write_transport, writer = run(loop.connect_write_pipe(recorder, writing))
    assert write_transport.get_extra_info("pipe") is writing
    write_transport.write(b"hello")
    until(lambda: reader.data == b"hello")
    write_transport.close()
    until(lambda: writer.lost and reader.lost)
    read_transport.close()
    assert reading.calls == writing.calls == ["close"]


def test_watching_what_has_a_descriptor(loop, until, socket_pair):
    ours, peer = socket_pair()
    seen = []

    class Named:
        def fileno(self):
            return ours.fileno()

    named = Named()
    loop.add_reader(named, seen.append, 1)
    peer.send(b"x")
    until(lambda: seen)
    assert loop.remove_reader(Named())
    assert not loop.remove_reader(named)


# Sockets whose numbers are none

NUMBERS = {
    "minus one": -1,
    "minus two": -2,
    "too large": 1 << 31,
    "larger": 1 << 40,
    "huge": 1 << 80,
    "text": "text",
    "nothing": None,
    "float": 1.5,
    "error": LookupError,
}
USES = {
    "sock_recv": lambda loop, sock: loop.sock_recv(sock, 1),
    "sock_recv_into": lambda loop, sock: loop.sock_recv_into(sock, bytearray(1)),
    "sock_sendall": lambda loop, sock: loop.sock_sendall(sock, bytes(1 << 22)),
    "sock_accept": lambda loop, sock: loop.sock_accept(sock),
    "create_connection": lambda loop, sock: loop.create_connection(asyncio.Protocol, sock=sock),
    "connect_accepted_socket": lambda loop, sock: loop.connect_accepted_socket(asyncio.Protocol, sock),
    "create_datagram_endpoint": lambda loop, sock: loop.create_datagram_endpoint(asyncio.DatagramProtocol, sock=sock),
    "create_server": lambda loop, sock: loop.create_server(asyncio.Protocol, sock=sock),
    "add_reader": lambda loop, sock: loop.add_reader(sock, print),
    "add_writer": lambda loop, sock: loop.add_writer(sock, print),
    "remove_reader": lambda loop, sock: loop.remove_reader(sock),
}


class Numbered(socket.socket):
    number = 0

    def fileno(self):
        number = self.number
        if number == 0:
            return super().fileno()
        if number is LookupError:
            raise LookupError("on purpose")
        return number


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio asks for the number elsewhere")
@pytest.mark.parametrize("use", sorted(USES))
@pytest.mark.parametrize("number", sorted(NUMBERS))
def test_numbers_that_are_no_descriptors(as_asyncio, use, number):
    if number == "error" and use.startswith(("connect", "create")):
        pytest.skip("asyncio's transport is made by half, and its destructor fails")

    def body(loop):
        loop.set_exception_handler(lambda loop, context: None)
        kind = socket.SOCK_DGRAM if use == "create_datagram_endpoint" else socket.SOCK_STREAM
        sock = Numbered(socket.AF_INET, kind)
        theirs = socket.socket(socket.AF_INET, kind)
        with sock, theirs:
            theirs.bind(("127.0.0.1", 0))
            if use in ("sock_accept", "create_server"):
                sock.bind(("127.0.0.1", 0))
                sock.listen()
            elif kind == socket.SOCK_STREAM:
                theirs.listen()
                sock.connect(theirs.getsockname())
            sock.setblocking(False)
            sock.number = NUMBERS[number]
            try:
                made = USES[use](loop, sock)
                if asyncio.iscoroutine(made):
                    made = loop.run_until_complete(asyncio.wait_for(made, 0.05))
                told = "made"
            except Exception as error:
                # Whether a number is too large for the selector, or for C, is a question of where it is looked at.
                told = "OverflowError" if isinstance(error, OverflowError) else type(error).__name__
                made = None
            sock.number = 0
            transport = made[0] if isinstance(made, tuple) and hasattr(made[0], "abort") else made
            if hasattr(transport, "abort"):
                transport.abort()
            elif hasattr(transport, "close"):
                transport.close()
            for _ in range(3):
                loop.call_soon(loop.stop)
                loop.run_forever()
        return told

    as_asyncio(body)


@pytest.mark.parametrize("number", sorted(set(NUMBERS) - {"error"}))
@pytest.mark.parametrize("reads", [False, True], ids=["writes", "reads"])
def test_numbers_of_pipes_that_are_no_descriptors_any_more(as_asyncio, number, reads):
    """asyncio does not ask again; here, where it is asked, it must not be an error that nobody expects."""
    if number == "float" and sys.version_info < (3, 10):
        pytest.skip("it is a number there, with a warning")

    class Pipe:
        number = 0
        reading, writing = None, None

        def fileno(self):
            return self.number or (self.reading if reads else self.writing)

        def close(self):
            pass

    class Noting(asyncio.Protocol):
        def __init__(self):
            self.story = []

        def data_received(self, data):
            self.story.append(data)

        def connection_lost(self, error):
            self.story.append(type(error).__name__)

    def body(loop):
        pipe = Pipe()
        pipe.reading, pipe.writing = os.pipe()
        connect = loop.connect_read_pipe if reads else loop.connect_write_pipe
        transport, protocol = loop.run_until_complete(connect(Noting, pipe))
        pipe.number = NUMBERS[number]
        told = []
        for act in ("pause_reading", "resume_reading") if reads else ("write", "write"):
            try:
                getattr(transport, act)(*[b"data"] * (act == "write"))
            except Exception as error:
                told.append(type(error).__name__)
            for _ in range(3):
                loop.call_soon(loop.stop)
                loop.run_forever()
        transport.abort() if hasattr(transport, "abort") else transport.close()
        for _ in range(3):
            loop.call_soon(loop.stop)
            loop.run_forever()
        pipe.number = 0
        os.close(pipe.reading)
        os.close(pipe.writing)
        return told, "SystemError" in str(protocol.story), len(protocol.story) > 0

    as_asyncio(body)


# Factories that close the socket

MAKERS = {
    "create_connection": lambda loop, factory, sock: loop.create_connection(factory, sock=sock),
    "create_unix_connection": lambda loop, factory, sock: loop.create_unix_connection(factory, sock=sock),
    "connect_accepted_socket": lambda loop, factory, sock: loop.connect_accepted_socket(factory, sock),
    "create_datagram_endpoint": lambda loop, factory, sock: loop.create_datagram_endpoint(factory, sock=sock),
}


class Noting:
    def __init__(self, notes):
        self.notes = notes

    def connection_made(self, transport):
        self.notes.append(("made", transport.is_closing()))

    def connection_lost(self, error):
        self.notes.append(("lost", type(error).__name__))


class NotingStream(Noting, asyncio.Protocol):
    pass


class NotingDatagrams(Noting, asyncio.DatagramProtocol):
    pass


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # repr() of asyncio's transport
@pytest.mark.filterwarnings("ignore:unclosed transport")
@pytest.mark.parametrize("act", ["close", "detach"])
@pytest.mark.parametrize("maker", sorted(MAKERS))
def test_factories_that_close_the_socket(as_asyncio, sockets, maker, act):
    """There is a transport, and an error is reported when it is to be watched."""
    cls = NotingDatagrams if maker == "create_datagram_endpoint" else NotingStream

    def attempt(function, notes):
        try:
            notes.append(function())
        except Exception as error:
            notes.append((type(error).__name__, str(error)))

    def body(loop):
        notes = []

        def report(loop, context):
            notes.append((context["message"].split(" in callback ")[0], str(context.get("exception"))))

        loop.set_exception_handler(report)
        ours, peer = socket.socketpair(type=socket.SOCK_DGRAM if cls is NotingDatagrams else socket.SOCK_STREAM)
        number = ours.fileno()
        ours.setblocking(False)
        sockets(peer)

        def factory():
            getattr(ours, act)()
            return cls(notes)

        def turns():
            for _ in range(4):
                loop.call_soon(loop.stop)
                loop.run_forever()

        def use(transport):
            notes.append(isinstance(transport, asyncio.BaseTransport))
            write = getattr(transport, "write", None) or transport.sendto
            for function in (transport.is_closing, lambda: write(b"some"), transport.abort, transport.close):
                attempt(function, notes)
                turns()

        attempt(lambda: use(loop.run_until_complete(MAKERS[maker](loop, factory, ours))[0]), notes)
        turns()
        if act == "detach":
            os.close(number)
        gc.collect()
        return notes

    as_asyncio(body)
