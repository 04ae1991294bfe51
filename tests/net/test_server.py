"""Servers: where they listen, what they accept, how they end."""

import asyncio
import contextlib
import contextvars
import errno
import gc
import logging
import os
import pathlib
import re
import socket
import stat
import struct
import sys
import weakref

import pytest

VAR = contextvars.ContextVar("VAR", default="unset")
LOOPBACK = ["127.0.0.1", "::1"]

since = lambda *version: pytest.mark.skipif(sys.version_info < version, reason="asyncio has it since %d.%d" % version)  # noqa: E731


def option(sock, level, name):
    return sock.getsockopt(level, name)


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


# Accepting


def test_a_connection(serving, call, until, collect):
    server = serving.tcp(hooks={"data_received": lambda self, data: self.transport.write(data.upper())})
    client = call(server)
    client.send(b"hello")
    assert collect(client, 5) == b"HELLO"
    (protocol,) = serving.accepted
    assert protocol.calls == ["connection_made", "data_received"]
    client.close()
    until(lambda: protocol.lost)
    assert protocol.lost == [None]


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="servers keep a set")
@pytest.mark.parametrize("count", [sys.maxsize, 2**70, 1.5])
def test_number_of_connections_that_a_program_has_set(serving, call, until, count):
    server = serving.tcp()
    server._active_count = count
    client = call(server)
    until(lambda: serving.accepted)
    assert server._active_count == count + 1
    client.close()
    until(lambda: serving.accepted[0].lost)
    assert server._active_count == count
    server._active_count = 0


def test_client_and_server_on_one_loop(run, loop, serving, recorder, abandoned, until):
    server = serving.tcp()
    transport, protocol = run(loop.create_connection(recorder, *server.sockets[0].getsockname()))
    abandoned.add(transport)
    transport.write(b"hello")
    until(lambda: serving.accepted and serving.accepted[0].data == b"hello")
    serving.accepted[0].transport.write(b"back")
    until(lambda: protocol.data == b"back")


def test_each_connection_has_its_own_protocol(serving, call, until, collect):
    server = serving.tcp(hooks={"data_received": lambda self, data: self.transport.write(data)})
    clients = [call(server) for _ in range(30)]
    for number, client in enumerate(clients):
        client.send(b"%02d" % number)
    until(lambda: sum(len(protocol.data) for protocol in serving.accepted) == 60)
    assert sorted(protocol.data for protocol in serving.accepted) == [b"%02d" % number for number in range(30)]
    for number, client in enumerate(clients):
        assert collect(client, 2) == b"%02d" % number


def test_more_at_once_than_the_backlog(serving, call, until):
    server = serving.tcp(backlog=5)
    clients = [call(server) for _ in range(6)]
    until(lambda: len(serving.accepted) == 6)
    clients += [call(server) for _ in range(5)]
    until(lambda: len(serving.accepted) == 11)


@pytest.mark.parametrize("backlog", [0, 1])
def test_a_small_backlog(serving, call, until, backlog, turn, native):
    server = serving.tcp(backlog=backlog)
    if backlog == 0 and sys.version_info < (3, 15):
        pytest.skip("asyncio never accepts then")
    for count in range(1, 4):
        client = call(server)
        until(lambda: len(serving.accepted) == count)  # noqa: B023
        client.close()


def test_extra_info_of_an_accepted_connection(serving, call, until):
    server = serving.tcp()
    client = call(server)
    until(lambda: serving.accepted and serving.accepted[0].transport)
    transport = serving.accepted[0].transport
    assert transport.get_extra_info("peername") == client.getsockname()
    assert transport.get_extra_info("sockname") == client.getpeername()
    sock = transport.get_extra_info("socket")
    assert isinstance(sock, asyncio.trsock.TransportSocket)
    assert sock.gettimeout() == 0 and not os.get_inheritable(sock.fileno())
    assert option(sock, socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_ipv6(serving, call, until, ipv6):
    server = serving.tcp("::1")
    client = call(server)
    until(lambda: serving.accepted and serving.accepted[0].transport)
    assert serving.accepted[0].transport.get_extra_info("peername") == client.getsockname()


def test_client_gone_before_it_was_accepted(serving, call, until):
    server = serving.tcp()
    client = call(server)
    name = client.getsockname()
    client.send(b"last words")
    client.close()
    until(lambda: serving.accepted and serving.accepted[0].lost)
    (protocol,) = serving.accepted
    assert protocol.transport.get_extra_info("peername") == name
    assert protocol.data == b"last words" and protocol.lost == [None]


def test_client_that_resets_before_it_is_accepted(serving, call, until, collect):
    server = serving.tcp()
    early = call(server)
    name = early.getsockname()
    reset(early)
    client = call(server)
    client.send(b"x")
    until(lambda: any(protocol.data for protocol in serving.accepted))
    for protocol in serving.accepted:
        if not protocol.data:
            until(lambda: protocol.lost)  # noqa: B023
            assert [type(exc) for exc in protocol.lost] == [ConnectionResetError]
            assert protocol.transport.get_extra_info("peername") == name


def test_no_delay_whatever_the_listener_says_of_its_protocol(serving, call, until, listening, native):
    listener = listening()
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=listener.detach())
    server = serving.tcp(None, None, sock=listener)
    call(server)
    until(lambda: serving.accepted and serving.accepted[0].transport)
    transport = serving.accepted[0].transport
    native(transport)
    assert option(transport.get_extra_info("socket"), socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_factory_that_raises(serving, call, collect, until, loop):
    """It ends that connection only, and is reported in debug mode only."""
    tries = []

    def factory():
        tries.append(1)
        if len(tries) == 1:
            raise ZeroDivisionError("on purpose")
        return serving.factory()()

    server = serving.add(loop.create_server(factory, "127.0.0.1", 0))
    first = call(server)
    assert collect(first) == b""
    call(server)
    until(lambda: serving.accepted)


def test_factory_that_raises_in_debug_mode(serving, call, until, loop, reports):
    loop.set_debug(True)
    loop.slow_callback_duration = 100

    def factory():
        raise ZeroDivisionError("on purpose")

    server = serving.add(loop.create_server(factory, "127.0.0.1", 0))
    call(server)
    until(lambda: reports)
    (report,) = reports
    assert str(report.pop("exception")) == "on purpose"
    assert report == {"message": "Error on transport creation for incoming connection"}


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_factory_that_interrupts(serving, call, until, turn, loop, reports, interruption):
    tries = []

    def factory():
        tries.append(1)
        if len(tries) == 1:
            raise interruption("on purpose")
        return serving.factory()()

    server = serving.add(loop.create_server(factory, "127.0.0.1", 0))
    call(server)
    with pytest.raises(interruption, match="on purpose"):
        until(lambda: False)
    call(server)
    until(lambda: serving.accepted)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_factory_that_returns_no_protocol(serving, call, collect, until, loop):
    asked = []
    server = serving.add(loop.create_server(lambda: asked.append(1), "127.0.0.1", 0))
    client = call(server)
    until(lambda: asked)
    gc.collect()  # asyncio leaves the connection open
    assert collect(client) == b""


def test_exception_in_connection_made(serving, call, until, reports):
    def fail(self, transport):
        raise ZeroDivisionError("on purpose")

    server = serving.tcp(hooks={"connection_made": fail})
    client = call(server)
    client.send(b"x")
    until(lambda: serving.accepted and serving.accepted[0].data)
    (report,) = reports
    assert sorted(report) == ["exception", "handle", "message"] and str(report["exception"]) == "on purpose"
    assert re.match(r"Exception in callback .*connection_made", report["message"])


def test_buffered_protocols(serving, call, until, buffered_recorder):
    server = serving.tcp(protocol_class=buffered_recorder)
    call(server).send(b"hello")
    until(lambda: serving.accepted and serving.accepted[0].data == b"hello")


@pytest.mark.parametrize("name", ["connection_made", "data_received"])
def test_server_closed_within_a_callback(serving, call, until, name):
    server = serving.tcp(hooks={name: lambda *args: server.close()})
    client = call(server)
    client.send(b"x")
    until(lambda: serving.accepted and serving.accepted[0].data == b"x")
    assert server.sockets == () and not server.is_serving()


# Contexts


def test_callbacks_see_the_context_of_the_server(run, loop, serving, call, until):
    seen = {}

    def note(name):
        def noting(self, *args):
            seen[name] = VAR.get()

        return noting

    names = ["connection_made", "data_received", "eof_received", "connection_lost"]

    def factory():
        seen["factory"] = VAR.get()
        return serving.factory(**{name: note(name) for name in names})()

    async def main():
        VAR.set("server")
        server = await loop.create_server(factory, "127.0.0.1", 0)
        VAR.set("later")
        return server

    server = serving.add(main())
    client = call(server)
    client.send(b"x")
    client.close()
    until(lambda: serving.accepted and serving.accepted[0].lost)
    assert seen == dict.fromkeys(names + ["factory"], "server")


def test_connections_do_not_share_a_context(serving, call, until):
    seen = []

    def note(self, *args):
        seen.append(VAR.get())
        VAR.set("mine")

    server = serving.tcp(hooks={"connection_made": note})
    for count in range(1, 4):
        call(server)
        until(lambda: len(seen) == count)  # noqa: B023
    assert seen == ["unset"] * 3


def test_one_connection_has_one_context(serving, call, until, native):
    seen = []

    def note(self, *args):
        seen.append(VAR.get())
        VAR.set(len(seen))

    server = serving.tcp(hooks={name: note for name in ("connection_made", "data_received", "connection_lost")})
    client = call(server)
    until(lambda: serving.accepted and serving.accepted[0].transport)
    native(serving.accepted[0].transport)
    client.send(b"x")
    client.close()
    until(lambda: serving.accepted[0].lost)
    assert seen == ["unset", 1, 2]


# What a server is


def test_server(serving, loop):
    server = serving.tcp()
    assert isinstance(server, asyncio.AbstractServer)
    assert server.get_loop() is loop
    assert server.is_serving() is True
    (sock,) = server.sockets
    assert isinstance(server.sockets, tuple) and type(sock) is asyncio.trsock.TransportSocket
    assert sock.getsockname()[1] > 0 and sock.gettimeout() == 0
    assert option(sock, socket.SOL_SOCKET, socket.SO_REUSEADDR)
    assert re.match(r"<Server sockets=\(<asyncio\.TransportSocket fd=%d, .*>,\)>$" % sock.fileno(), repr(server))


@pytest.mark.parametrize("name", ["_loop", "_sockets", "_serving", "_start_serving"])
def test_private_attributes_that_libraries_read(serving, name):
    assert hasattr(serving.tcp(), name)


def test_attributes_may_be_set(serving):
    server = serving.tcp()
    server.mine = 5
    assert server.mine == 5


@pytest.mark.parametrize("as_number", [False, True])
def test_no_connection_is_accepted_while_the_program_has_removed_its_reader(
    serving, call, until, turn, loop, as_number
):
    server = serving.tcp()
    sock = server.sockets[0]
    file = sock.fileno() if as_number else sock
    assert loop.remove_reader(file) is True and loop.remove_reader(file) is False
    client = call(server)
    for _ in range(3):
        turn()
    assert serving.accepted == []
    seen = []
    loop.add_reader(file, seen.append, "readable")
    until(lambda: seen)
    loop.remove_reader(file)
    server._serving = False
    server._start_serving()
    until(lambda: serving.accepted)
    client.close()
    until(lambda: serving.accepted[0].lost)


def test_close(serving, call, turn):
    server = serving.tcp()
    sock = server.sockets[0]
    address = sock.getsockname()
    server.close()
    assert server.sockets == () and server.is_serving() is False
    assert repr(server) == "<Server sockets=()>"
    server.close()
    turn()
    assert sock.fileno() == -1
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


def test_close_leaves_the_connections(serving, call, until, collect):
    server = serving.tcp(hooks={"data_received": lambda self, data: self.transport.write(data)})
    client = call(server)
    until(lambda: serving.accepted and serving.accepted[0].transport)
    server.close()
    client.send(b"still here")
    assert collect(client, 10) == b"still here"


def test_close_refuses_connections_in_the_backlog(serving, call, until, collect, turn):
    server = serving.tcp()
    client = call(server)
    server.close()
    try:
        assert collect(client) == b""
    except ConnectionResetError:
        pass
    for _ in range(3):
        turn()
    assert all(protocol.lost == [None] for protocol in serving.accepted)


def test_number_of_a_closed_listener_is_free(serving, loop, socket_pair, turn):
    server = serving.tcp()
    ours, peer = socket_pair()
    fd = server.sockets[0].fileno()
    server.close()
    turn()
    os.dup2(ours.fileno(), fd)
    seen = []
    try:
        loop.add_reader(fd, lambda: seen.append(os.read(fd, 10)))
        peer.send(b"x")
        for _ in range(3):
            turn()
        assert seen == [b"x"] and loop.remove_reader(fd)
    finally:
        os.close(fd)


def test_start_serving_later(run, serving, call, until):
    server = serving.tcp(start_serving=False)
    assert not server.is_serving() and len(server.sockets) == 1
    with pytest.raises(ConnectionRefusedError):
        call(server)
    run(server.start_serving())
    run(server.start_serving())
    assert server.is_serving()
    call(server)
    until(lambda: serving.accepted)


def test_close_before_serving(serving, turn):
    server = serving.tcp(start_serving=False)
    server.close()
    assert not server.is_serving() and server.sockets == ()


def test_async_with(run, loop, serving):
    server = serving.tcp()

    async def main():
        async with server as entered:
            assert entered is server and server.is_serving()
        assert not server.is_serving() and server.sockets == ()

    run(main())


# serve_forever, wait_closed


def test_serve_forever_is_ended_by_cancelling(run, loop, serving, call):
    server = serving.tcp(start_serving=False)

    async def main():
        task = loop.create_task(server.serve_forever())
        while not server.is_serving():
            await asyncio.sleep(0)
        call(server)
        while not (serving.accepted and serving.accepted[0].transport):
            await asyncio.sleep(0)
        serving.accepted[0].transport.abort()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not server.is_serving() and server.sockets == ()

    run(main())


def test_serve_forever_is_ended_by_close(run, loop, serving):
    server = serving.tcp()

    async def main():
        task = loop.create_task(server.serve_forever())
        await asyncio.sleep(0)
        server.close()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())


@since(3, 13)
def test_serve_forever_closes_the_clients_when_cancelled(run, loop, serving, call, native):
    server = serving.tcp()
    if sys.version_info < (3, 14):
        pytest.skip("differs among the releases")

    async def main():
        task = loop.create_task(server.serve_forever())
        client = call(server)
        while not (serving.accepted and serving.accepted[0].transport):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert serving.accepted[0].lost == [None]
        client.close()

    run(main())


@pytest.mark.parametrize("state", ["closed", "twice"])
def test_serve_forever_refused(as_asyncio, state):
    def body(loop):
        async def main():
            server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
            task = loop.create_task(server.serve_forever())
            await asyncio.sleep(0)
            if state == "closed":
                server.close()
            try:
                await server.serve_forever()
            except RuntimeError as error:
                return re.sub(r"\(<.*>,\)", "(...)", str(error))
            finally:
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

        return loop.run_until_complete(main())

    assert as_asyncio(body)["result"] is not None


@pytest.mark.parametrize("call_first", [False, True], ids=["no client", "client"])
@pytest.mark.parametrize("close_first", [False, True], ids=["open", "closed"])
def test_what_wait_closed_waits_for(as_asyncio, call_first, close_first):
    def body(loop):
        steps = []

        async def turns():
            for _ in range(5):
                await asyncio.sleep(0.001)

        async def main():
            made = []

            class Protocol(asyncio.Protocol):
                def connection_made(self, transport):
                    made.append(transport)

            server = await loop.create_server(Protocol, "127.0.0.1", 0)
            sock = socket.socket()
            sock.setblocking(False)
            with sock:
                if call_first:
                    sock.connect_ex(server.sockets[0].getsockname())
                    while not made:
                        await asyncio.sleep(0)
                if close_first:
                    server.close()
                task = loop.create_task(server.wait_closed())
                task.add_done_callback(lambda task: steps.append("waited"))
                await turns()
                steps.append("waiting" if not task.done() else "not waiting")
                if not close_first:
                    server.close()
                    await turns()
                    steps.append("closed")
                if call_first:
                    made[0].close()
                    await turns()
                    steps.append("client gone")
                await turns()
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                await server.wait_closed()

        loop.run_until_complete(main())
        return steps

    as_asyncio(body)


@since(3, 13)
@pytest.mark.parametrize("name", ["close_clients", "abort_clients"])
def test_all_clients_at_once(run, serving, call, until, collect, name):
    server = serving.tcp()
    clients = [call(server) for _ in range(5)]
    until(lambda: len(serving.accepted) == 5 and all(protocol.transport for protocol in serving.accepted))
    getattr(server, name)()
    assert all(protocol.transport.is_closing() for protocol in serving.accepted)
    until(lambda: all(protocol.lost for protocol in serving.accepted))
    assert [protocol.lost for protocol in serving.accepted] == [[None]] * 5
    for client in clients:
        assert collect(client) == b""
    assert server.is_serving()
    server.close()
    run(server.wait_closed())


@since(3, 13)
def test_close_clients_sends_what_is_buffered_and_abort_clients_drops_it(serving, call, until, clog, collect, turn):
    server = serving.tcp()
    client = call(server)
    until(lambda: serving.accepted and serving.accepted[0].transport)
    protocol = serving.accepted[0]
    written = clog(protocol.transport)
    server.close_clients()
    for _ in range(3):
        turn()
    assert protocol.lost == []
    server.abort_clients()
    turn()
    assert protocol.lost == [None]
    assert len(collect(client)) < len(written)


@since(3, 13)
def test_close_clients_of_none(serving):
    server = serving.tcp()
    server.close_clients()
    server.abort_clients()
    server.close()
    server.close_clients()
    server.abort_clients()


# The set of connections


@since(3, 13)
def test_the_set_has_the_connections(serving, call, until):
    server = serving.tcp()
    call(server)
    call(server).close()
    until(lambda: [bool(protocol.lost) for protocol in serving.accepted] == [False, True])
    assert list(server._clients) == [serving.accepted[0].transport]
    serving.accepted[0].transport.abort()
    until(lambda: serving.accepted[0].lost)
    assert len(server._clients) == 0


SERVER = asyncio.base_events.Server
REPLACEABLE = [(SERVER, "_attach"), (SERVER, "_detach")]
if sys.version_info >= (3, 13):
    REPLACEABLE += [(weakref.WeakSet, "add"), (weakref.WeakSet, "discard")]


@pytest.mark.parametrize("when", ["before", "after the first"])
@pytest.mark.parametrize("owner, name", REPLACEABLE, ids=lambda each: each if isinstance(each, str) else each.__name__)
def test_replaced_methods_of_servers_are_called(serving, call, until, monkeypatch, owner, name, when):
    original = getattr(owner, name)
    called = []

    def replacement(self, *items):
        called.append(items)
        return original(self, *items)

    def connect():
        call(server).close()
        until(lambda: serving.accepted and serving.accepted[-1].lost)
        serving.accepted.clear()

    server = serving.tcp()
    if when != "before":
        connect()
    monkeypatch.setattr(owner, name, replacement)
    connect()
    assert called


@pytest.mark.parametrize("name", ["_attach", "_detach"])
def test_replaced_methods_of_a_server_are_called(serving, call, until, name):
    server = serving.tcp()
    original = getattr(server, name)
    called = []
    setattr(server, name, lambda *items: called.append(items) or original(*items))
    call(server).close()
    until(lambda: serving.accepted and serving.accepted[0].lost)
    assert len(called) == 1


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="asyncio keeps a set there")
def test_the_number_of_connections(serving, call, until):
    server = serving.tcp()
    call(server)
    call(server).close()
    until(lambda: [bool(protocol.lost) for protocol in serving.accepted] == [False, True])
    assert server._active_count == 1
    serving.accepted[0].transport.abort()
    until(lambda: serving.accepted[0].lost)
    assert server._active_count == 0


@since(3, 13)
def test_a_set_of_another_class(serving, call, until):
    class Noting(weakref.WeakSet):
        def add(self, item):
            noted.append(item)
            super().add(item)

    noted = []
    server = serving.tcp()
    server._clients = Noting()
    call(server).close()
    until(lambda: serving.accepted and serving.accepted[0].lost)
    assert len(noted) == 1 and len(server._clients) == 0


@since(3, 13)
def test_connections_come_and_go_while_the_set_is_iterated(serving, call, until):
    server = serving.tcp()
    first = call(server)
    until(lambda: len(server._clients) == 1)
    iterator = iter(server._clients)
    transport = next(iterator)
    first.close()
    call(server)
    until(lambda: len(serving.accepted) == 2 and serving.accepted[0].lost)
    assert transport not in server._clients and len(server._clients) == 1
    del iterator, transport
    assert len(server._clients) == 1


@since(3, 12)
def test_a_closed_server_waits_for_its_last_connection(run, loop, serving, call, turn, until):
    server = serving.tcp()
    call(server)
    until(lambda: serving.accepted and serving.accepted[0].transport)
    server.close()
    waiter = loop.create_task(server.wait_closed())
    turn()
    assert not waiter.done()
    serving.accepted[0].transport.abort()
    run(waiter)


# Hosts and ports


def ports(server):
    return sorted((sock.family, sock.getsockname()[0]) for sock in server.sockets)


def test_several_hosts(serving, ipv6):
    server = serving.tcp(LOOPBACK)
    assert ports(server) == [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]


@pytest.mark.parametrize("form", [tuple, set, iter], ids=lambda form: form.__name__)
def test_hosts_in_other_collections(serving, form):
    server = serving.tcp(form(["127.0.0.1", "127.0.0.2"]))
    assert ports(server) == [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "127.0.0.2")]


def test_host_given_twice_is_bound_once(serving):
    server = serving.tcp(["127.0.0.1", "127.0.0.1"])
    assert len(server.sockets) == 1


@pytest.mark.parametrize("host", [None, ""])
def test_all_interfaces(serving, call, host, ipv6):
    server = serving.tcp(host)
    assert ports(server) == [(socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")]
    (six,) = (sock for sock in server.sockets if sock.family == socket.AF_INET6)
    assert option(six, socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1


def test_both_families_on_one_port(serving, ipv6, until, sockets):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = serving.tcp(None, port)
    assert {sock.getsockname()[1] for sock in server.sockets} == {port}
    for host in LOOPBACK:
        sockets(socket.create_connection((host, port)))
    until(lambda: len(serving.accepted) == 2)


def test_family(serving):
    assert ports(serving.tcp(None, family=socket.AF_INET)) == [(socket.AF_INET, "0.0.0.0")]


def test_name_of_a_host(serving, monkeypatch):
    asked = []

    def getaddrinfo(host, port, *args):
        asked.append((host, port) + args)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    server = serving.tcp("a.name")
    assert ports(server) == [(socket.AF_INET, "127.0.0.1")]
    assert asked == [("a.name", 0, 0, socket.SOCK_STREAM, 0, socket.AI_PASSIVE)]


def test_getaddrinfo_of_the_instance_is_asked(serving, loop):
    asked = []

    async def getaddrinfo(host, port, **options):
        asked.append((host, port, options))
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    loop.getaddrinfo = getaddrinfo
    assert ports(serving.tcp("a.name")) == [(socket.AF_INET, "127.0.0.1")]
    options = {"family": 0, "type": socket.SOCK_STREAM, "flags": socket.AI_PASSIVE, "proto": 0}
    assert asked == [("a.name", 0, options)]


def test_port_as_text(serving):
    assert len(serving.tcp("127.0.0.1", "0").sockets) == 1


def test_reuse_address_may_be_refused(serving):
    server = serving.tcp(reuse_address=False)
    assert not option(server.sockets[0], socket.SOL_SOCKET, socket.SO_REUSEADDR)


def test_reuse_port(serving):
    first = serving.tcp(reuse_port=True)
    second = serving.tcp(port=first.sockets[0].getsockname()[1], reuse_port=True)
    assert second.sockets[0].getsockname() == first.sockets[0].getsockname()
    assert option(first.sockets[0], socket.SOL_SOCKET, socket.SO_REUSEPORT)
    assert not option(serving.tcp().sockets[0], socket.SOL_SOCKET, socket.SO_REUSEPORT)


@since(3, 13)
def test_keep_alive(serving, call, until):
    server = serving.tcp(keep_alive=True)
    assert option(server.sockets[0], socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert not option(serving.tcp().sockets[0], socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    call(server)
    until(lambda: serving.accepted and serving.accepted[0].transport)
    accepted = serving.accepted[0].transport.get_extra_info("socket")
    assert option(accepted, socket.SOL_SOCKET, socket.SO_KEEPALIVE)


# Sockets passed in


@pytest.mark.parametrize("listens", [False, True], ids=["bound", "listening"])
def test_socket_passed_in(serving, call, until, kind, listens, sockets, listening):
    if listens:
        sock = listening(kind)
    else:
        sock = sockets(socket.socket(socket.AF_UNIX if kind == "unix" else socket.AF_INET))
        sock.bind(b"" if kind == "unix" else ("127.0.0.1", 0))
    sock.setblocking(True)
    server = serving.tcp(None, None, sock=sock)
    assert sock.gettimeout() == 0
    assert server.sockets[0].fileno() == sock.fileno()
    call(server).send(b"x")
    until(lambda: serving.accepted and serving.accepted[0].data)


def test_socket_passed_in_that_was_inherited(serving, call, until, listening):
    sock = socket.socket(fileno=listening().detach())
    server = serving.tcp(None, None, sock=sock)
    call(server).send(b"x")
    until(lambda: serving.accepted and serving.accepted[0].data)


def test_socket_passed_in_with_a_client_waiting(serving, until, listening, sockets):
    listener = listening()
    sockets(socket.create_connection(listener.getsockname()))
    serving.tcp(None, None, sock=listener)
    until(lambda: serving.accepted)


# Unix sockets


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A path short enough for a socket's."""
    monkeypatch.chdir(tmp_path)
    return "socket"


FORMS = {"str": str, "bytes": os.fsencode, "path": pathlib.Path}


@pytest.mark.parametrize("form", list(FORMS))
def test_unix_server(serving, call, until, collect, path, form):
    server = serving.unix(FORMS[form](path), hooks={"data_received": lambda self, data: self.transport.write(data)})
    assert stat.S_ISSOCK(os.stat(path).st_mode)
    (sock,) = server.sockets
    assert sock.family == socket.AF_UNIX and sock.getsockname() == path
    client = call(server)
    client.send(b"hello")
    assert collect(client, 5) == b"hello"
    transport = serving.accepted[0].transport
    assert transport.get_extra_info("sockname") == path
    assert transport.get_extra_info("peername") == ""


@pytest.mark.parametrize("form", [str, bytes])
def test_abstract_unix_server(serving, call, until, form):
    name = "\0cloop test %d" % os.getpid()
    server = serving.unix(name if form is str else name.encode())
    assert server.sockets[0].getsockname() == name.encode()
    call(server).send(b"x")
    until(lambda: serving.accepted and serving.accepted[0].data)


def test_unix_server_of_a_socket_passed_in(serving, call, until, listening):
    sock = listening("unix")
    server = serving.unix(None, sock=sock)
    call(server).send(b"x")
    until(lambda: serving.accepted and serving.accepted[0].data)


def test_stale_socket_is_replaced(serving, call, until, path):
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(path)
    call(serving.unix(path)).send(b"x")
    until(lambda: serving.accepted and serving.accepted[0].data)


def test_unix_server_that_starts_later(run, serving, call, until, path):
    server = serving.unix(path, start_serving=False)
    with pytest.raises(ConnectionRefusedError):
        call(server)
    run(server.start_serving())
    call(server)
    until(lambda: serving.accepted)


def close_and_look(server, path):
    server.close()
    return os.path.exists(path)


def test_socket_file_after_close(serving, path):
    assert close_and_look(serving.unix(path), path) is (sys.version_info < (3, 13))


@since(3, 13)
def test_socket_file_may_be_kept(serving, path):
    assert close_and_look(serving.unix(path, cleanup_socket=False), path)


@since(3, 13)
def test_socket_file_of_a_socket_passed_in_is_removed(serving, path, sockets):
    sock = sockets(socket.socket(socket.AF_UNIX))
    sock.bind(path)
    assert not close_and_look(serving.unix(None, sock=sock), path)


def test_socket_file_that_is_anothers_by_now_is_kept(serving, path):
    first = serving.unix(path)
    second = serving.unix(path)
    assert close_and_look(first, path)
    second.close()


def test_socket_file_that_has_gone(serving, path):
    server = serving.unix(path)
    os.unlink(path)
    server.close()


# Refused


def refused(attempt, as_asyncio, function):
    """Both loops refuse, alike."""
    result = as_asyncio(lambda loop: attempt(function, loop))["result"]
    assert isinstance(result, tuple) and issubclass(result[0], Exception)
    return result


# What some versions of asyncio accept.
LET_PASS = ["port of a wrong type", "no hosts", "no address of several"]


def create_server(*args, **options):
    async def function(loop):
        server = await loop.create_server(asyncio.Protocol, *args, **options)
        server.close()

    return function


def create_unix_server(*args, **options):
    async def function(loop):
        server = await loop.create_unix_server(asyncio.Protocol, *args, **options)
        server.close()

    return function


def with_socket(create, *args, family=socket.AF_INET, kind=socket.SOCK_STREAM, wrap=lambda sock: sock, **options):
    async def function(loop):
        with wrap(socket.socket(family, kind)) as sock:
            await create(*args, sock=sock, **options)(loop)

    return function


def tls_socket(sock):
    import ssl

    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).wrap_socket(sock, server_hostname="x", do_handshake_on_connect=False)


REFUSED = {
    "nothing": create_server(),
    "host and socket": with_socket(create_server, "127.0.0.1", 0),
    "port and socket": with_socket(create_server, None, 0),
    "datagram socket": with_socket(create_server, kind=socket.SOCK_DGRAM),
    "TLS socket": with_socket(create_server, wrap=tls_socket),
    "ssl true": create_server("127.0.0.1", 0, ssl=True),
    "ssl false": create_server("127.0.0.1", 0, ssl=False),
    "handshake timeout without ssl": create_server("127.0.0.1", 0, ssl_handshake_timeout=1),
    "shutdown timeout without ssl": create_server("127.0.0.1", 0, ssl_shutdown_timeout=1),
    "no such address": create_server("192.0.2.1", 0),
    "no address of several": create_server(["127.0.0.1", "192.0.2.1"], 0),
    "host of a wrong type": create_server(5, 0),
    "hosts of wrong types": create_server([5], 0),
    "port of a wrong type": create_server("127.0.0.1", 1.5),
    "port of letters": create_server("127.0.0.1", "no such service"),
    "port too large": create_server("127.0.0.1", 70000),
    "port negative": create_server("127.0.0.1", -1),
    "wrong family": create_server("127.0.0.1", 0, family=socket.AF_INET6),
    "no hosts": create_server([], 0),
    "option unknown": create_server("127.0.0.1", 0, nonsense=True),
    "backlog of a wrong type": create_server("127.0.0.1", 0, backlog="x"),
    "unix: nothing": create_unix_server(),
    "unix: path and socket": with_socket(create_unix_server, "socket", family=socket.AF_UNIX),
    "unix: TCP socket": with_socket(create_unix_server),
    "unix: datagram socket": with_socket(create_unix_server, family=socket.AF_UNIX, kind=socket.SOCK_DGRAM),
    "unix: ssl true": create_unix_server("socket", ssl=True),
    "unix: handshake timeout without ssl": create_unix_server("socket", ssl_handshake_timeout=1),
    "unix: shutdown timeout without ssl": create_unix_server("socket", ssl_shutdown_timeout=1),
    "unix: path of a wrong type": create_unix_server(5),
    "unix: path too long": create_unix_server("x" * 200),
    "unix: path with NUL": create_unix_server("a\0b"),
    "unix: no such folder": create_unix_server("no/such/folder/socket"),
    "unix: empty path": create_unix_server(""),
}
if not hasattr(asyncio.sslproto, "SSLAgain") and sys.version_info < (3, 11):
    for name in [name for name in REFUSED if "shutdown timeout" in name or name == "TLS socket"]:
        del REFUSED[name]  # a keyword of 3.11; before, errors of a TLS socket had no message of asyncio's


@pytest.mark.parametrize("what", list(REFUSED))
def test_refused(attempt, as_asyncio, path, what):
    if what in LET_PASS:
        as_asyncio(lambda loop: attempt(REFUSED[what], loop))
    else:
        refused(attempt, as_asyncio, REFUSED[what])


def test_port_in_use(attempt, as_asyncio, listening):
    port = listening().getsockname()[1]
    kind, text = refused(attempt, as_asyncio, create_server("127.0.0.1", port))
    assert kind is OSError and "error while attempting to bind on address ('127.0.0.1', N)" in text


def test_address_in_use_closes_the_sockets_made_before(attempt, as_asyncio, listening):
    port = listening().getsockname()[1]
    refused(attempt, as_asyncio, create_server(["127.0.0.2", "127.0.0.1", "127.0.0.3"], port))


@pytest.mark.parametrize("empty", [[], None], ids=repr)
def test_resolver_that_finds_nothing(attempt, as_asyncio, monkeypatch, empty):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args: empty)
    refused(attempt, as_asyncio, create_server("a.name", 0))


def test_resolver_that_fails(attempt, as_asyncio, monkeypatch):
    def getaddrinfo(*args):
        raise socket.gaierror(socket.EAI_NONAME, "on purpose")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert refused(attempt, as_asyncio, create_server("a.name", 0))[0] is socket.gaierror


def test_file_that_is_no_socket_is_not_replaced(attempt, as_asyncio, path):
    pathlib.Path(path).write_text("keep me")
    refused(attempt, as_asyncio, create_unix_server(path))
    assert pathlib.Path(path).read_text() == "keep me"


def test_abstract_address_in_use(attempt, as_asyncio, sockets):
    name = "\0cloop test in use %d" % os.getpid()
    sockets(socket.socket(socket.AF_UNIX)).bind(name)
    refused(attempt, as_asyncio, create_unix_server(name))


def test_reuse_port_where_there_is_none(attempt, as_asyncio, monkeypatch):
    monkeypatch.delattr(socket, "SO_REUSEPORT")
    refused(attempt, as_asyncio, create_server("127.0.0.1", 0, reuse_port=True))


@pytest.mark.parametrize("create", ["create_server", "create_unix_server"])
def test_refused_on_a_closed_loop(loop, create):
    loop.close()
    coroutine = getattr(loop, create)(asyncio.Protocol, "socket")
    try:
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            loop.run_until_complete(coroutine)
    finally:
        coroutine.close()


# Many


@pytest.mark.unstressed("a poll reports one, and the backlog fills")
def test_connections_come_and_go(serving, call, until, turn):
    """Each is closed by one side or the other, some by a reset, some while data is in flight."""
    server = serving.tcp(hooks={"data_received": lambda self, data: data == b"bye" and self.transport.close()})
    for number in range(200):
        client = call(server)
        if number % 4 == 0:
            reset(client)
        elif number % 4 == 1:
            client.close()
        elif number % 4 == 2:
            client.send(b"bye")
        else:
            client.send(b"stay")
            client.close()
        if number % 10 == 0:
            turn()
    until(lambda: len(serving.accepted) == 200 and all(protocol.lost for protocol in serving.accepted))
    assert all(len(protocol.lost) == 1 for protocol in serving.accepted)


def test_a_thousand_connections_open_at_once(serving, run, loop, until, recorder, abandoned):
    """benchmarks/connections.py opens 10,000, and prints what they take."""
    server = serving.tcp(hooks={"data_received": lambda self, data: self.transport.write(data)}, backlog=1000)
    address = server.sockets[0].getsockname()

    async def connect():
        made = []
        for _ in range(10):
            made += await asyncio.gather(*[loop.create_connection(recorder, *address) for _ in range(100)])
        return made

    made = run(connect())
    assert len(made) == 1000
    for number, (transport, _) in enumerate(made):
        abandoned.add(transport)
        transport.write(b"%04d" % number)
    until(lambda: all(len(protocol.data) == 4 for _, protocol in made))
    assert [protocol.data for _, protocol in made] == [b"%04d" % number for number in range(1000)]
    assert len(serving.accepted) == 1000
    for transport, _ in made:
        transport.close()
    until(lambda: all(protocol.lost for protocol in serving.accepted))


@pytest.mark.parametrize("how", ["closed", "another file"])
def test_socket_that_a_program_takes_from_the_server(
    serving, call, until, turn, run, loop, loop_kind, listening, reports, how
):
    """In the protocol's factory, while the next client waits."""
    if loop_kind == "asyncio":
        pytest.skip("asyncio accepts all before")
    sock, make, made = listening(), serving.factory(), serving.accepted

    def factory():
        make()
        if len(made) == 4 and how == "closed":
            sock.close()
        elif len(made) == 4:
            with open(os.devnull) as null:
                os.dup2(null.fileno(), sock.fileno())
        return made[-1]

    server = run(loop.create_server(factory, sock=sock))
    clients = [call(server) for _ in range(3)]  # from then on it accepts several in a turn
    until(lambda: len(made) == 3)
    clients += [call(server), call(server)]
    until(lambda: len(made) == 4)
    for _ in range(3):
        turn()
    assert len(made) == 4 and len(clients) == 5
    assert {context["exception"].errno for context in reports} == (set() if how == "closed" else {errno.ENOTSOCK})
    with contextlib.suppress(ValueError):  # asyncio's asks for the number of the socket
        server.close()


def test_log_of_a_connection_that_raises(serving, call, until, loop, reports, caplog, filter_log):
    def fail(record):
        if "got a new connection" in record.getMessage():
            raise ZeroDivisionError
        return True

    server = serving.tcp()
    caplog.set_level(logging.DEBUG, "asyncio")
    loop.set_debug(True)
    filter_log(fail)
    call(server)
    until(lambda: reports)
    loop.set_debug(False)
    assert [type(context["exception"]) for context in reports] == [ZeroDivisionError]
