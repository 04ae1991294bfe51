"""create_connection, create_unix_connection and connect_accepted_socket."""

import asyncio
import contextvars
import gc
import os
import pathlib
import re
import socket
import sys
import weakref

import pytest

STREAM = socket.SOCK_STREAM
since = lambda *version: pytest.mark.skipif(sys.version_info < version, reason="asyncio has it since %d.%d" % version)  # noqa: E731


def echoes(transport, protocol, peer, until):
    """Whether data gets through in both directions."""
    transport.write(b"there")
    peer.settimeout(20)
    assert peer.recv(5) == b"there"
    peer.send(b"back")
    until(lambda: protocol.data == b"back")
    return True


# create_connection


def test_connect(loop, make, recorder, listening, until, sockets):
    listener = listening()
    transport, protocol = make(loop.create_connection(recorder, *listener.getsockname()))
    assert protocol.calls == ["connection_made"] and protocol.transport is transport
    peer, name = listener.accept()
    assert echoes(transport, protocol, sockets(peer), until)
    assert transport.get_extra_info("sockname") == name
    assert transport.get_extra_info("peername") == listener.getsockname()
    sock = transport.get_extra_info("socket")
    assert sock.gettimeout() == 0 and not os.get_inheritable(sock.fileno())
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_connect_over_ipv6(loop, make, recorder, listening, until, sockets, ipv6):
    listener = listening("tcp6")
    transport, protocol = make(loop.create_connection(recorder, "::1", listener.getsockname()[1]))
    peer, name = listener.accept()
    assert echoes(transport, protocol, sockets(peer), until)
    assert transport.get_extra_info("sockname") == name


@pytest.mark.parametrize("form", [str, lambda port: str(port).encode()], ids=["str", "bytes"])
def test_port_as_text(loop, make, recorder, listening, form):
    listener = listening()
    make(loop.create_connection(recorder, "127.0.0.1", form(listener.getsockname()[1])))


def test_host_as_bytes(loop, make, recorder, listening):
    listener = listening()
    make(loop.create_connection(recorder, b"127.0.0.1", listener.getsockname()[1]))


def test_localhost(loop, make, recorder, listening):
    make(loop.create_connection(recorder, "localhost", listening().getsockname()[1], family=socket.AF_INET))


def test_many_at_once(run, loop, recorder, listening, abandoned):
    address = listening(backlog=100).getsockname()

    async def main():
        return await asyncio.gather(*[loop.create_connection(recorder, *address) for _ in range(50)])

    made = run(main())
    for transport, _ in made:
        abandoned.add(transport)
    assert len({transport.get_extra_info("sockname") for transport, _ in made}) == 50


def test_refused_connection(run, loop, recorder, closed_port):
    with pytest.raises(ConnectionRefusedError) as caught:
        run(loop.create_connection(recorder, "127.0.0.1", closed_port))
    assert str(caught.value) == "[Errno 111] Connect call failed ('127.0.0.1', %d)" % closed_port


def test_factory_that_raises(run, loop, listening):
    def factory():
        raise ZeroDivisionError("on purpose")

    with pytest.raises(ZeroDivisionError, match="on purpose"):
        run(loop.create_connection(factory, *listening().getsockname()))
    gc.collect()  # asyncio left the socket open


def test_protocol_is_made_once_it_is_connected(run, loop, listening, recorder, closed_port):
    made = []
    with pytest.raises(ConnectionRefusedError):
        run(loop.create_connection(lambda: made.append(1), "127.0.0.1", closed_port))
    assert made == []


def test_connection_made_that_raises_leaves_the_connection(loop, make, recorder, listening, reports, until):
    def fail(self, transport):
        raise ZeroDivisionError("on purpose")

    listener = listening()
    transport, protocol = make(loop.create_connection(lambda: recorder(connection_made=fail), *listener.getsockname()))
    assert len(reports) == 1
    with listener.accept()[0] as peer:
        peer.send(b"x")
        until(lambda: protocol.data)


def test_closed_within_connection_made(loop, make, recorder, listening, until):
    factory = lambda: recorder(connection_made=lambda self, transport: transport.close())  # noqa: E731
    transport, protocol = make(loop.create_connection(factory, *listening().getsockname()))
    until(lambda: protocol.lost)
    assert transport.is_closing() and protocol.lost == [None]


# Socket passed in


def test_socket_passed_in(loop, make, recorder, socket_pair, until, kind):
    ours, peer = socket_pair(kind)
    ours.setblocking(True)
    transport, protocol = make(loop.create_connection(recorder, sock=ours))
    assert transport.get_extra_info("socket").fileno() == ours.fileno()
    assert ours.gettimeout() == 0
    assert echoes(transport, protocol, peer, until)
    transport.close()
    until(lambda: protocol.lost)
    assert ours.fileno() == -1


def test_socket_passed_in_of_another_class(loop, make, recorder, socket_pair, until):
    class Socket(socket.socket):
        closed = 0

        def close(self):
            self.closed += 1
            super().close()

    ours, peer = socket_pair()
    ours = Socket(fileno=ours.detach())
    transport, protocol = make(loop.create_connection(recorder, sock=ours))
    assert echoes(transport, protocol, peer, until)
    transport.close()
    until(lambda: protocol.lost)
    assert ours.closed == 1


def test_socket_passed_in_that_is_not_connected(loop, make, recorder, sockets, until):
    """asyncio does not check; reading fails."""
    transport, protocol = make(loop.create_connection(recorder, sock=sockets(socket.socket())))
    assert transport.get_extra_info("peername") is None
    until(lambda: protocol.lost)


@pytest.mark.skipif(not hasattr(socket, "AF_VSOCK"), reason="no such family here")
def test_socket_of_another_family(loop, make, recorder, until):
    try:
        sock = socket.socket(socket.AF_VSOCK)
    except OSError:
        pytest.skip("no such family here")
    transport, protocol = make(loop.create_connection(recorder, sock=sock))
    transport.abort()
    until(lambda: protocol.lost)


# Names


def test_resolver_of_the_socket_module_is_asked(loop, make, recorder, listening, resolver):
    """asyncssh mocks it."""
    port = listening().getsockname()[1]
    resolver["a.name"] = [("127.0.0.1", None)]
    make(loop.create_connection(recorder, "a.name", port))
    assert resolver["asked"] == [("a.name", port, 0, STREAM, 0, 0)]


def test_keywords_reach_the_resolver(loop, make, recorder, listening, resolver):
    port = listening().getsockname()[1]
    resolver["a.name"] = [("127.0.0.1", None)]
    make(loop.create_connection(recorder, "a.name", port, family=socket.AF_INET, proto=6, flags=socket.AI_ADDRCONFIG))
    assert resolver["asked"] == [("a.name", port, socket.AF_INET, STREAM, 6, socket.AI_ADDRCONFIG)]


def test_resolver_is_not_asked_about_numbers(loop, make, recorder, listening, resolver):
    make(loop.create_connection(recorder, *listening().getsockname()))
    assert resolver["asked"] == []


def resolving_to(port, asked):
    async def getaddrinfo(host, number, **options):
        asked.append((host, number, options))
        return [(socket.AF_INET, STREAM, 6, "", ("127.0.0.1", port))]

    return getaddrinfo


def test_getaddrinfo_of_the_instance_is_asked(loop, make, recorder, listening):
    port = listening().getsockname()[1]
    asked = []
    loop.getaddrinfo = resolving_to(port, asked)
    make(loop.create_connection(recorder, "a.name", 80))
    assert asked == [("a.name", 80, {"family": 0, "type": STREAM, "proto": 0, "flags": 0})]


def test_getaddrinfo_of_a_subclass_is_asked(new_loop, loop_class, recorder, listening):
    port = listening().getsockname()[1]
    asked = []
    getaddrinfo = resolving_to(port, asked)
    loop = new_loop(
        type("Loop", (loop_class,), {"getaddrinfo": lambda self, *args, **options: getaddrinfo(*args, **options)})
    )

    async def main():
        transport, protocol = await loop.create_connection(recorder, "a.name", 80)
        transport.abort()
        await asyncio.sleep(0)

    loop.run_until_complete(main())
    assert len(asked) == 1


def test_sock_connect_of_the_instance_is_called(loop, make, recorder, listening):
    called = []
    sock_connect = loop.sock_connect

    async def noting(sock, address):
        called.append(address)
        return await sock_connect(sock, address)

    loop.sock_connect = noting
    address = listening().getsockname()
    make(loop.create_connection(recorder, *address))
    assert called == [address]


def test_the_first_address_that_answers_is_taken(loop, make, recorder, listening, resolver, closed_port):
    listener = listening()
    resolver["a.name"] = [("127.0.0.1", closed_port), listener.getsockname(), ("127.0.0.1", closed_port)]
    transport, _ = make(loop.create_connection(recorder, "a.name", 80))
    assert transport.get_extra_info("peername") == listener.getsockname()


def test_no_address_answers(as_asyncio, attempt, resolver, closed_port):
    """One message for all of them, unless they are the same."""
    for addresses in (
        [("127.0.0.1", closed_port)],
        [("127.0.0.1", closed_port)] * 2,
        [("127.0.0.1", closed_port), ("127.0.0.2", closed_port)],
    ):
        resolver["a.name"] = addresses

        async def connect(loop):
            await loop.create_connection(asyncio.Protocol, "a.name", 80)

        kind, text = as_asyncio(lambda loop: attempt(connect, loop))["result"]  # noqa: B023
        assert issubclass(kind, OSError) and text.count("Connect call failed") == len(set(addresses))


def test_resolver_that_finds_nothing(as_asyncio, attempt, resolver):
    resolver["a.name"] = []

    async def connect(loop):
        await loop.create_connection(asyncio.Protocol, "a.name", 80)

    assert as_asyncio(lambda loop: attempt(connect, loop))["result"] == (OSError, "getaddrinfo() returned empty list")


def test_resolver_that_fails(run, loop, recorder, monkeypatch):
    def getaddrinfo(*args):
        raise socket.gaierror(socket.EAI_NONAME, "on purpose")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with pytest.raises(socket.gaierror, match="on purpose"):
        run(loop.create_connection(recorder, "a.name", 80))


@since(3, 12)
@pytest.mark.parametrize("delay", [None, 0.01])
def test_all_errors(run, loop, recorder, resolver, closed_port, delay):
    resolver["a.name"] = [("127.0.0.1", closed_port), ("127.0.0.2", closed_port)]
    with pytest.raises(ExceptionGroup) as caught:  # noqa: F821
        run(loop.create_connection(recorder, "a.name", 80, all_errors=True, happy_eyeballs_delay=delay))
    assert caught.value.message == "create_connection failed"
    assert sorted(map(str, caught.value.exceptions)) == [
        "[Errno 111] Connect call failed ('127.0.0.%d', %d)" % (number, closed_port) for number in (1, 2)
    ]


def test_a_failed_connection_leaves_no_cycle(run, loop, recorder, closed_port, native, make, listening):
    """The exception and what it refers to are freed without the cyclic collector."""
    native(make(loop.create_connection(recorder, *listening().getsockname()))[0])

    class Factory:
        def __call__(self):
            raise AssertionError("never connected")

    gc.collect()
    gc.disable()
    try:
        factory = Factory()
        gone = weakref.ref(factory)
        with pytest.raises(OSError) as caught:
            run(loop.create_connection(factory, "127.0.0.1", closed_port))
        del caught, factory
        assert gone() is None
    finally:
        gc.enable()


# local_addr


def test_local_address(loop, make, recorder, listening):
    listener = listening()
    transport, _ = make(loop.create_connection(recorder, *listener.getsockname(), local_addr=("127.0.0.3", 0)))
    assert transport.get_extra_info("sockname")[0] == "127.0.0.3"
    with listener.accept()[0] as peer:
        assert peer.getpeername() == transport.get_extra_info("sockname")


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio, and so cloop, binds to it there and fails")
def test_local_address_of_the_other_family_is_passed_over(loop, make, recorder, listening, resolver, ipv6):
    resolver["local.name"] = [("::1", None), ("127.0.0.3", None)]
    transport, _ = make(loop.create_connection(recorder, *listening().getsockname(), local_addr=("local.name", 0)))
    assert transport.get_extra_info("sockname")[0] == "127.0.0.3"


@pytest.mark.parametrize("local_addr", [("192.0.2.1", 0), ("no ip", 0), ("127.0.0.1",), 5, ("::1", 0)], ids=repr)
def test_local_address_refused(as_asyncio, attempt, listening, monkeypatch, local_addr):
    def getaddrinfo(*args):
        raise socket.gaierror(socket.EAI_NONAME, "on purpose")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    address = listening().getsockname()

    async def connect(loop):
        await loop.create_connection(asyncio.Protocol, *address, local_addr=local_addr)

    assert issubclass(as_asyncio(lambda loop: attempt(connect, loop))["result"][0], Exception)


@pytest.mark.parametrize("what", ["another's", "of the other family"])
def test_local_address_that_bind_refuses(as_asyncio, listening, what, ipv6):
    """While all is as it is in asyncio: the kernel says so."""
    address = listening().getsockname()
    local_addr = listening().getsockname() if what == "another's" else ("::1", 0)

    def body(loop):
        with pytest.raises(OSError) as raised:
            loop.run_until_complete(loop.create_connection(asyncio.Protocol, *address, local_addr=local_addr))
        return type(raised.value), raised.value.errno, str(raised.value)

    as_asyncio(body)


# Happy eyeballs


@pytest.fixture
def attempts(loop):
    """Notes the addresses that are tried, in order; `black holes` never answer."""
    tried = []
    holes = set()
    sock_connect = loop.sock_connect

    async def trying(sock, address):
        tried.append(address[:2])
        if address[:2] in holes:
            await loop.create_future()
        return await sock_connect(sock, address)

    loop.sock_connect = trying
    trying.tried, trying.holes = tried, holes
    return trying


def test_unresponsive_address_is_passed_after_happy_eyeballs_delay(loop, make, recorder, listening, resolver, attempts):
    listener = listening()
    attempts.holes.add(("127.0.0.2", 9))
    resolver["a.name"] = [("127.0.0.2", 9), listener.getsockname()]
    transport, _ = make(loop.create_connection(recorder, "a.name", 80, happy_eyeballs_delay=0.01))
    assert transport.get_extra_info("peername") == listener.getsockname()
    assert attempts.tried == [("127.0.0.2", 9), listener.getsockname()]


def test_next_address_is_tried_at_once_after_a_failure(loop, make, recorder, listening, resolver, closed_port):
    listener = listening()
    resolver["a.name"] = [("127.0.0.1", closed_port), listener.getsockname()]
    before = loop.time()
    make(loop.create_connection(recorder, "a.name", 80, happy_eyeballs_delay=60))
    assert loop.time() - before < 30


def test_the_first_answer_cancels_the_others(loop, run, make, recorder, listening, resolver, attempts, turn):
    listener = listening()
    for number in (2, 3, 4):
        attempts.holes.add(("127.0.0.%d" % number, 9))
    resolver["a.name"] = sorted(attempts.holes) + [listener.getsockname()]
    make(loop.create_connection(recorder, "a.name", 80, happy_eyeballs_delay=0.001))
    turn()
    assert asyncio.all_tasks(loop) == set()
    assert attempts.tried == resolver["a.name"]


def test_cancelled_among_several_attempts(loop, run, recorder, resolver, attempts, until):
    resolver["a.name"] = [("127.0.0.2", 9), ("127.0.0.3", 9)]
    attempts.holes.update(resolver["a.name"])

    async def main():
        task = loop.create_task(loop.create_connection(recorder, "a.name", 80, happy_eyeballs_delay=0.001))
        while len(attempts.tried) < 2:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
    until(lambda: asyncio.all_tasks(loop) == set())


FOUR, SIX = [("127.0.0.%d" % number, 9) for number in (1, 2, 3)], [("::%d" % number, 9) for number in (1, 2)]
ORDERS = {
    "none": ({}, FOUR + SIX),
    "1": ({"interleave": 1}, [FOUR[0], SIX[0], FOUR[1], SIX[1], FOUR[2]]),
    "2": ({"interleave": 2}, [FOUR[0], FOUR[1], SIX[0], FOUR[2], SIX[1]]),
    "0": ({"interleave": 0}, FOUR + SIX),
    "delay": ({"happy_eyeballs_delay": 10}, [FOUR[0], SIX[0], FOUR[1], SIX[1], FOUR[2]]),
    "delay 0": ({"happy_eyeballs_delay": 10, "interleave": 0}, FOUR + SIX),
}


@pytest.mark.parametrize("order", list(ORDERS))
def test_order_of_the_addresses(run, loop, recorder, resolver, order, monkeypatch):
    tried = []

    async def sock_connect(sock, address):
        tried.append(address[:2])
        raise OSError("on purpose")

    loop.sock_connect = sock_connect
    options, expected = ORDERS[order]
    resolver["a.name"] = FOUR + SIX
    with pytest.raises(OSError, match="on purpose"):
        run(loop.create_connection(recorder, "a.name", 80, **options))
    assert tried == expected


# create_unix_connection


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A path short enough for a socket's."""
    monkeypatch.chdir(tmp_path)
    return "socket"


@pytest.mark.parametrize("form", [str, os.fsencode, pathlib.Path], ids=["str", "bytes", "path"])
def test_unix_connection(loop, make, recorder, sockets, until, path, form):
    listener = sockets(socket.socket(socket.AF_UNIX))
    listener.bind(path)
    listener.listen()
    transport, protocol = make(loop.create_unix_connection(recorder, form(path)))
    assert transport.get_extra_info("peername") == path
    assert transport.get_extra_info("sockname") == ""
    assert echoes(transport, protocol, sockets(listener.accept()[0]), until)


@pytest.mark.parametrize("form", [str, bytes])
def test_abstract_unix_connection(loop, make, recorder, listening, sockets, until, form):
    listener = listening("unix")
    name = listener.getsockname()
    transport, protocol = make(loop.create_unix_connection(recorder, name.decode() if form is str else name))
    assert transport.get_extra_info("peername") == name
    assert echoes(transport, protocol, sockets(listener.accept()[0]), until)


def test_unix_connection_of_a_socket_passed_in(loop, make, recorder, socket_pair, until):
    ours, peer = socket_pair()
    ours.setblocking(True)
    transport, protocol = make(loop.create_unix_connection(recorder, sock=ours))
    assert echoes(transport, protocol, peer, until)
    assert ours.gettimeout() == 0


def test_unix_connection_to_a_full_backlog_waits(loop, run, recorder, listening, abandoned):
    """A Unix socket returns EAGAIN then, not EINPROGRESS; asyncio tries again when it is writable."""
    listener = listening("unix", backlog=0)
    name = listener.getsockname()

    async def main():
        made = []
        for _ in range(2):
            task = loop.create_task(loop.create_unix_connection(recorder, name))
            for _ in range(20):
                await asyncio.sleep(0)
            if task.done():
                made.append(task)
            else:
                task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        return made

    for task in run(main()):
        if task.exception() is None:
            abandoned.add(task.result()[0])


# connect_accepted_socket


def test_accepted_socket(loop, make, recorder, listening, sockets, until):
    listener = listening()
    peer = sockets(socket.create_connection(listener.getsockname()))
    accepted, name = listener.accept()
    transport, protocol = make(loop.connect_accepted_socket(recorder, accepted))
    assert transport.get_extra_info("peername") == name
    assert accepted.gettimeout() == 0
    assert echoes(transport, protocol, peer, until)


def test_accepted_unix_socket(loop, make, recorder, socket_pair, until):
    ours, peer = socket_pair()
    transport, protocol = make(loop.connect_accepted_socket(recorder, ours))
    assert echoes(transport, protocol, peer, until)


# Cancelling


CREATE = {
    "create_connection": lambda loop, factory, listener, ours: loop.create_connection(factory, *listener.getsockname()),
    "create_connection, slower": lambda loop, factory, listener, ours: loop.create_connection(
        factory, "0.0.0.0", listener.getsockname()[1]
    ),
    "create_connection of a socket": lambda loop, factory, listener, ours: loop.create_connection(factory, sock=ours),
    "create_unix_connection": lambda loop, factory, listener, ours: loop.create_unix_connection(factory, sock=ours),
    "connect_accepted_socket": lambda loop, factory, listener, ours: loop.connect_accepted_socket(factory, ours),
}


@pytest.mark.parametrize("turns", range(6))
@pytest.mark.parametrize("how", list(CREATE))
def test_cancelled_after_some_turns(loop, cancelled_after, listening, socket_pair, how, turns):
    listener = listening()
    ours, peer = socket_pair()
    cancelled_after(turns, lambda factory: CREATE[how](loop, factory, listener, ours))


# Turns


def course(loop, host, **options):
    """Connects a client to a server on the same loop. Returns what happened to the client, with the turn, counted from the first
    step, and whose connection_made() was called, in that order. (cloop's server needs a turn less than asyncio's.)
    """
    seen, connected, turn = [], [], 0

    class Noting(asyncio.Protocol):
        def __init__(self, side):
            self.side = side

        def connection_made(self, transport):
            self.transport = transport
            connected.append(self.side)

    class Client(Noting):
        def __init__(self):
            super().__init__("client")
            note("made")

        def connection_made(self, transport):
            super().connection_made(transport)
            note("connected")

    def note(what):
        seen.append((what, turn))

    async def connect(port):
        note("begun")
        try:
            transport, _ = await loop.create_connection(Client, host, port, **options)
        except OSError as error:
            note(type(error))
        else:
            note("done")
            transport.abort()

    async def getaddrinfo(host, port, **hints):
        closed = [(socket.AF_INET, STREAM, 6, "", ("127.0.0.1", 1))]
        open_ = [(socket.AF_INET, STREAM, 6, "", ("127.0.0.1", port))]
        return {"open": open_, "closed": closed * 2, "closed-open": closed + open_}[host]

    async def main():
        nonlocal turn
        serving = await loop.create_server(lambda: Noting("server"), "::1" if ":" in host else "127.0.0.1", 0)
        await asyncio.sleep(0.001)  # until a poll has slept
        task = loop.create_task(connect(serving.sockets[0].getsockname()[1]))
        while not task.done() or (host != "closed" and "server" not in connected):
            turn += 1
            await asyncio.sleep(0)
        serving.close()
        await serving.wait_closed()

    if "." not in host and ":" not in host:
        loop.getaddrinfo = getaddrinfo
    loop.run_until_complete(asyncio.wait_for(main(), 20))
    return [(what, turn - seen[0][1]) for what, turn in seen], connected


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "0.0.0.0", "open", "closed", "closed-open"])
@pytest.mark.parametrize("options", [{}, {"local_addr": ("127.0.0.1", 0)}], ids=["", "local_addr"])
@pytest.mark.skipif(os.environ.get("CLOOP_TASKS") == "stock", reason="asyncio's tasks take a turn less")
@pytest.mark.unstressed("a poll reports one")
def test_turns(as_asyncio, host, options, ipv6):
    """Those that asyncio takes: a program that cancels after some turns finds the same, and both ends learn of the connection in
    the same order. The kernel may take longer; the shortest of some tries counts.
    """
    if options and ":" in host:
        options = {"local_addr": ("::1", 0)}

    def shortest(loop):
        return min((course(loop, host, **options) for _ in range(10)), key=lambda tried: tried[0][-1][1])

    as_asyncio(shortest)


@pytest.mark.parametrize("host", ["127.0.0.1", "a.name"])
def test_task_that_only_the_loop_has(loop, run, host):
    """A connection to this machine is expected rather than waited for; the loop keeps its task all the same."""
    ended = []
    loop.set_exception_handler(lambda loop, context: ended.append(context["message"]))

    async def connect(port):
        transport, _ = await loop.create_connection(asyncio.Protocol, host, port)
        transport.abort()
        ended.append("connected")

    async def getaddrinfo(host, port, **hints):
        return [(socket.AF_INET, STREAM, 6, "", ("127.0.0.1", port))] * 2

    async def main():
        serving = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        if host == "a.name":
            loop.getaddrinfo = getaddrinfo
        loop.create_task(connect(serving.sockets[0].getsockname()[1]))
        while not ended:
            await asyncio.sleep(0)
            gc.collect()
        serving.close()

    run(asyncio.wait_for(main(), 20))
    assert ended == ["connected"]


def test_number_of_a_socket_that_was_closed_while_watched(loop, run, loop_kind):
    """The poller still has to forget it when a connection gets the number."""
    if loop_kind == "asyncio":
        pytest.skip("asyncio's selector keeps the number")

    async def connect(address, count):
        numbers = []
        for _ in range(count):
            watched = socket.socketpair()
            loop.add_reader(watched[0], int)
            await asyncio.sleep(0)
            number = watched[0].fileno()
            for sock in watched:
                sock.close()
            transport, _ = await loop.create_connection(asyncio.Protocol, *address)
            numbers.append(transport.get_extra_info("socket").fileno() == number)
            transport.abort()
            loop.remove_reader(number)
            await asyncio.sleep(0)
        return numbers

    async def main():
        serving = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        numbers = await connect(serving.sockets[0].getsockname(), 3)
        serving.close()
        return numbers

    assert run(main())[0]


@pytest.mark.unstressed("a poll reports one")
@pytest.mark.parametrize("host", ["127.0.0.1", "open", "closed", "closed-open"])
def test_turns_of_asyncios_method(as_asyncio, host):
    """It runs in debug mode, and with CLOOP_TASKS=stock, and calls sock_connect()."""

    def shortest(loop):
        loop.set_debug(True)
        return min((course(loop, host) for _ in range(10)), key=lambda tried: tried[0][-1][1])

    as_asyncio(shortest)


@pytest.mark.unstressed("a poll reports one")
@pytest.mark.parametrize("cancel_after", [None, 1, 2, 3, 4])
def test_turns_of_sock_connect(as_asyncio, cancel_after):
    def body(loop):
        async def main():
            with socket.socket() as listener, socket.socket() as sock:
                listener.bind(("127.0.0.1", 0))
                listener.listen()
                sock.setblocking(False)
                await asyncio.sleep(0.001)  # until a poll has slept
                task = loop.create_task(loop.sock_connect(sock, listener.getsockname()))
                turns = 0
                while not task.done():
                    if turns == cancel_after:
                        task.cancel()
                    turns += 1
                    await asyncio.sleep(0)
                return turns, task.cancelled() or repr(task.exception())

        return min(loop.run_until_complete(main()) for _ in range(10))

    as_asyncio(body)


# What a program could replace, or watch


WATCHED = {
    "socket class": lambda patch, seen: patch(
        socket,
        "socket",
        type("Socket", (socket.socket,), {"__slots__": (), "connect": noting(seen, socket.socket.connect)}),
    ),
    "connect": lambda patch, seen: patch(socket.socket, "connect", noting(seen, socket.socket.connect), raising=False),
    "setblocking": lambda patch, seen: patch(
        socket.socket, "setblocking", noting(seen, socket.socket.setblocking), raising=False
    ),
    "__init__": lambda patch, seen: patch(socket.socket, "__init__", noting(seen, socket.socket.__init__)),
    "getpeername": lambda patch, seen: patch(
        socket.socket, "getpeername", noting(seen, socket.socket.getpeername), raising=False
    ),
}


def noting(seen, function):
    def replacement(self, *args, **options):
        seen.append(args)
        return function(self, *args, **options)

    return replacement


@pytest.mark.parametrize("what", list(WATCHED))
def test_replaced_sockets_are_used(loop, make, recorder, listening, monkeypatch, until, sockets, what):
    """PySocks and pytest-socket replace the class or its methods."""
    seen = []
    listener = listening()
    address = listener.getsockname()
    WATCHED[what](monkeypatch.setattr, seen)
    transport, protocol = make(loop.create_connection(recorder, *address))
    monkeypatch.undo()
    assert seen
    assert echoes(transport, protocol, sockets(listener.accept()[0]), until)


def test_overridden_methods_are_called(calls_of_step, step, listening):
    """Those that asyncio calls for an address that needs no look-up."""
    assert bool(calls_of_step(*listening().getsockname())) == (step != "getaddrinfo")


def test_the_factory_runs_in_the_task(run, loop, recorder, listening, abandoned):
    var = contextvars.ContextVar("var", default="unset")
    seen = []

    def factory():
        seen.append((asyncio.current_task(), var.get()))
        return recorder(connection_made=lambda self, transport: seen.append((asyncio.current_task(), var.get())))

    async def main():
        var.set("the task's")
        transport, _ = await loop.create_connection(factory, *listening().getsockname())
        abandoned.add(transport)
        return asyncio.current_task()

    task = run(main())
    assert seen == [(task, "the task's"), (None, "the task's")]


def test_data_comes_after_the_task_goes_on(run, loop, recorder, listening, sockets, abandoned, until):
    """Even if it is there at once."""
    listener = listening()
    order = []

    async def connecting():
        factory = lambda: recorder(data_received=lambda self, data: order.append("data"))  # noqa: E731
        transport, _ = await loop.create_connection(factory, *listener.getsockname())
        order.append("task")
        abandoned.add(transport)

    async def main():
        listener.setblocking(False)
        task = loop.create_task(connecting())
        while not task.done():
            try:
                sockets(listener.accept()[0]).send(b"x")
            except BlockingIOError:
                pass
            await asyncio.sleep(0)

    run(main())
    until(lambda: "data" in order)
    assert order == ["task", "data"]


def test_connection_made_comes_before_the_task_goes_on(run, loop, recorder, listening, abandoned):
    order = []

    async def main():
        factory = lambda: recorder(connection_made=lambda self, transport: order.append("made"))  # noqa: E731
        transport, _ = await loop.create_connection(factory, *listening().getsockname())
        order.append("task")
        abandoned.add(transport)

    run(main())
    assert order == ["made", "task"]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"ssl": None},
        {"ssl": False},
        {"family": socket.AF_INET},
        {"proto": socket.IPPROTO_TCP},
        {"flags": socket.AI_NUMERICHOST},
        {"server_hostname": None},
        {"ssl_handshake_timeout": None},
        {"happy_eyeballs_delay": None},
        {"interleave": None},
        {"happy_eyeballs_delay": 0.1},
        {"local_addr": None},
        {"local_addr": ("127.0.0.1", 0), "family": 0},
        {"sock": None},
    ],
    ids=lambda options: ",".join("%s=%s" % item for item in options.items()) or "none",
)
@pytest.mark.parametrize("by_name", [False, True])
def test_options(loop, make, recorder, listening, sockets, until, options, by_name):
    listener = listening()
    host, port = listener.getsockname()
    if by_name:
        coroutine = loop.create_connection(recorder, port=port, host=host, **options)
    else:
        coroutine = loop.create_connection(recorder, host, port, **options)
    transport, protocol = make(coroutine)
    sock = transport.get_extra_info("socket")
    assert (sock.family, sock.type, sock.proto) == (socket.AF_INET, STREAM, socket.IPPROTO_TCP)
    assert echoes(transport, protocol, sockets(listener.accept()[0]), until)


def test_socket_that_was_closed(as_asyncio, attempt, listening):
    async def connect(loop):
        sock = socket.socket()
        sock.close()
        await loop.create_connection(asyncio.Protocol, sock=sock)

    assert issubclass(as_asyncio(lambda loop: attempt(connect, loop))["result"][0], Exception)


def test_connection_that_takes_a_turn(loop, make, recorder, listening, sockets, until):
    """To an address of this machine that is not a loopback address."""
    listener = listening()
    transport, protocol = make(loop.create_connection(recorder, "0.0.0.0", listener.getsockname()[1]))
    assert transport.get_extra_info("peername") == listener.getsockname()
    assert echoes(transport, protocol, sockets(listener.accept()[0]), until)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", b"127.0.0.1", "0.0.0.0"])
def test_text_of_a_refusal(as_asyncio, attempt, address, ipv6):
    with socket.socket(socket.AF_INET6 if ":" in str(address) else socket.AF_INET) as sock:
        sock.bind((address if isinstance(address, str) else address.decode(), 0))
        port = sock.getsockname()[1]

        async def connect(loop):
            await loop.create_connection(asyncio.Protocol, address, port)

        kind, text = as_asyncio(lambda loop: attempt(connect, loop))["result"]
    assert kind is ConnectionRefusedError and "Connect call failed" in text


@pytest.mark.parametrize(
    "args, options",
    [
        ((), {}),
        (("127.0.0.1", 1, None), {}),
        (("127.0.0.1",), {"host": "127.0.0.1", "port": 1}),
        (("127.0.0.1", 1), {"port": 1}),
        ((), {"protocol_factory": asyncio.Protocol}),
        (("127.0.0.1", 1), {"family": 2**70}),
        (("127.0.0.1", 1), {"flags": -1}),
        (("127.0.0.1", 1), {"no_such": 1}),
    ],
    ids=repr,
)
@pytest.mark.parametrize("factory", [(), (asyncio.Protocol,)], ids=["no factory", "factory"])
def test_arguments_that_are_wrong(as_asyncio, attempt, factory, args, options):
    async def connect(loop):
        await loop.create_connection(*factory, *args, **options)

    error = as_asyncio(lambda loop: attempt(connect, loop))["result"][0]
    assert issubclass(error, Exception)


def test_network_is_unreachable(as_asyncio, attempt):
    """connect() itself fails: the text is the system's."""

    async def connect(loop):
        await loop.create_connection(asyncio.Protocol, "255.255.255.255", 9)

    kind, text = as_asyncio(lambda loop: attempt(connect, loop))["result"]
    assert issubclass(kind, OSError) and "Connect call failed" not in text


@pytest.mark.parametrize("how", ["close", "throw", "drop"])
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_coroutine_that_ends_while_it_connects(loop, recorder, listening, sockets, how, host):
    """Whatever it has opened is closed, which fixtures check."""
    address = listening(backlog=0).getsockname()
    for _ in range(3):  # then the kernel answers no more
        filler = sockets(socket.socket())
        filler.setblocking(False)
        filler.connect_ex(address)
    connecting = [loop.create_connection(recorder, host, address[1])]

    async def main():
        future = connecting[0].send(None)
        future._asyncio_future_blocking = False
        await asyncio.sleep(0)
        if how == "close":
            connecting[0].close()
        elif how == "throw":
            with pytest.raises(ZeroDivisionError):
                connecting[0].throw(ZeroDivisionError("on purpose"))

    loop.run_until_complete(main())
    connecting.clear()
    gc.collect()
    loop.run_until_complete(asyncio.sleep(0))


def test_audit_hooks_see_it(script):
    """They are told of a socket object, so one is made."""
    output = script(
        """
        import asyncio, socket, sys
        loop = new_loop()
        listener = socket.create_server(("127.0.0.1", 0))
        events = []

        def hook(event, args):
            if event in ("socket.__new__", "socket.connect", "socket.bind"):
                events.append((event, isinstance(args[0], socket.socket), len(args)))

        async def main():
            transport, _ = await loop.create_connection(
                asyncio.Protocol, *listener.getsockname(), local_addr=("127.0.0.1", 0)
            )
            transport.close()
            await asyncio.sleep(0)

        loop.run_until_complete(main())
        sys.addaudithook(hook)
        loop.run_until_complete(main())
        loop.close()
        print(events)
        """
    )
    assert eval(output) == [("socket.__new__", True, 4), ("socket.bind", True, 2), ("socket.connect", True, 2)]


# Refused


def connecting(name, *args, **options):
    async def function(loop):
        transport, _ = await getattr(loop, name)(asyncio.Protocol, *args, **options)
        transport.abort()
        await asyncio.sleep(0)

    return function


def with_socket(name, *args, family=socket.AF_INET, kind=STREAM, wrap=lambda sock: sock, **options):
    async def function(loop):
        with wrap(socket.socket(family, kind)) as sock:
            if name == "connect_accepted_socket":
                await connecting(name, sock, **options)(loop)
            else:
                await connecting(name, *args, sock=sock, **options)(loop)

    return function


def tls_socket(sock):
    import ssl

    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).wrap_socket(sock, server_hostname="x", do_handshake_on_connect=False)


TCP, UNIX, ACCEPTED = "create_connection", "create_unix_connection", "connect_accepted_socket"
DATAGRAM = {"kind": socket.SOCK_DGRAM}
REFUSED = {
    "nothing": connecting(TCP),
    "host and socket": with_socket(TCP, "127.0.0.1", 9),
    "port and socket": with_socket(TCP, None, 9),
    "datagram socket": with_socket(TCP, **DATAGRAM),
    "datagram unix socket": with_socket(TCP, family=socket.AF_UNIX, **DATAGRAM),
    "TLS socket": with_socket(TCP, wrap=tls_socket),
    "server_hostname without ssl": connecting(TCP, "127.0.0.1", 9, server_hostname="x"),
    "ssl without a name": with_socket(TCP, ssl=True),
    "ssl with a port alone": connecting(TCP, None, 9, ssl=True),
    "ssl with an empty host": connecting(TCP, "", 9, ssl=True),
    "handshake timeout without ssl": connecting(TCP, "127.0.0.1", 9, ssl_handshake_timeout=1),
    "shutdown timeout without ssl": connecting(TCP, "127.0.0.1", 9, ssl_shutdown_timeout=1),
    "host of a wrong type": connecting(TCP, 5, 9),
    "port of a wrong type": connecting(TCP, "127.0.0.1", object()),
    "port too large": connecting(TCP, "127.0.0.1", 70000),
    "port negative": connecting(TCP, "127.0.0.1", -1),
    "wrong family": connecting(TCP, "127.0.0.1", 9, family=socket.AF_INET6),
    "family of a wrong type": connecting(TCP, "127.0.0.1", 9, family="x"),
    "proto of another kind": connecting(TCP, "127.0.0.1", 9, proto=socket.IPPROTO_UDP),
    "proto too large": connecting(TCP, "127.0.0.1", 9, proto=2**40),
    "proto negative": connecting(TCP, "127.0.0.1", 9, proto=-5),
    "family negative": connecting(TCP, "127.0.0.1", 9, family=-5),
    "too many arguments": connecting(TCP, "127.0.0.1", 9, None, 5),
    "option unknown": connecting(TCP, "127.0.0.1", 9, nonsense=True),
    "number for a socket": connecting(TCP, sock=5),
    "unix: nothing": connecting(UNIX),
    "unix: path and socket": with_socket(UNIX, "path", family=socket.AF_UNIX),
    "unix: TCP socket": with_socket(UNIX),
    "unix: datagram socket": with_socket(UNIX, family=socket.AF_UNIX, **DATAGRAM),
    "unix: server_hostname without ssl": connecting(UNIX, "path", server_hostname="x"),
    "unix: server_hostname of a wrong type": connecting(UNIX, "path", server_hostname=5),
    "unix: ssl without server_hostname": connecting(UNIX, "path", ssl=True),
    "unix: handshake timeout without ssl": connecting(UNIX, "path", ssl_handshake_timeout=1),
    "unix: shutdown timeout without ssl": connecting(UNIX, "path", ssl_shutdown_timeout=1),
    "unix: path of a wrong type": connecting(UNIX, 5),
    "unix: no such file": connecting(UNIX, "no such file"),
    "unix: path too long": connecting(UNIX, "x" * 200),
    "unix: path with NUL": connecting(UNIX, "a\0b"),
    "unix: empty path": connecting(UNIX, ""),
    "accepted: datagram socket": with_socket(ACCEPTED, **DATAGRAM),
    "accepted: handshake timeout without ssl": with_socket(ACCEPTED, ssl_handshake_timeout=1),
    "accepted: shutdown timeout without ssl": with_socket(ACCEPTED, ssl_shutdown_timeout=1),
    "accepted: TLS socket": with_socket(ACCEPTED, wrap=tls_socket),
    "accepted: nothing": connecting(ACCEPTED),
    "accepted: None": connecting(ACCEPTED, None),
}
if sys.version_info < (3, 11):  # a keyword, and checks that came with it
    REFUSED = {name: REFUSED[name] for name in REFUSED if not re.search("shutdown timeout|TLS socket", name)}


@pytest.mark.parametrize("what", list(REFUSED))
def test_refused(attempt, as_asyncio, path, what):
    result = as_asyncio(lambda loop: attempt(REFUSED[what], loop))["result"]
    assert isinstance(result, tuple) and issubclass(result[0], Exception)


def test_socket_that_was_refused_stays_open(run, loop, recorder, sockets):
    sock = sockets(socket.socket(type=socket.SOCK_DGRAM))
    with pytest.raises(ValueError):
        run(loop.create_connection(recorder, sock=sock))
    assert sock.fileno() != -1


@pytest.mark.parametrize("name", [TCP, UNIX])
def test_refused_on_a_closed_loop(loop, name, recorder, path):
    loop.close()
    coroutine = getattr(loop, name)(recorder, "127.0.0.1", *([9] if name == TCP else []))
    try:
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            loop.run_until_complete(coroutine)
    finally:
        coroutine.close()


def test_they_are_coroutines(loop, recorder):
    for coroutine in (
        loop.create_connection(recorder, "127.0.0.1", 9),
        loop.create_unix_connection(recorder, "path"),
        loop.connect_accepted_socket(recorder, None),
        loop.create_server(recorder, "127.0.0.1", 0),
        loop.create_unix_server(recorder, "path"),
        loop.create_datagram_endpoint(recorder, ("127.0.0.1", 0)),
    ):
        assert asyncio.iscoroutine(coroutine)
        coroutine.close()


def test_its_coroutine_can_be_weakly_referenced(loop, run, make, recorder, listening):
    kept = weakref.WeakSet()
    coroutine = loop.create_connection(recorder, *listening().getsockname())
    kept.add(coroutine)
    assert list(kept) == [coroutine]
    make(coroutine)
    del coroutine
    gc.collect()
    assert not kept


@pytest.mark.parametrize("name", ["_connect_sock", "_ensure_resolved"])
def test_step_replaced_in_asyncios_class_is_called(loop, make, recorder, listening, monkeypatch, name):
    original, calls = getattr(asyncio.BaseEventLoop, name), []

    def replaced(self, *args, **kwargs):
        calls.append(name)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(asyncio.BaseEventLoop, name, replaced)
    make(loop.create_connection(recorder, *listening().getsockname()))
    assert calls


@pytest.mark.skipif(os.environ.get("CLOOP_TASKS") == "stock", reason="the connection in Python shows the address anew")
def test_ipv6_address_is_shown_as_it_was_written(loop, run, recorder):
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("no IPv6 here")
        port = probe.getsockname()[1]
        with pytest.raises(ConnectionRefusedError, match=re.escape("('0:0::1', %d, 0, 0)" % port)):
            run(loop.create_connection(recorder, "0:0::1", port))


def test_debug_mode_logs(loop, make, recorder, listening, caplog):
    loop.set_debug(True)
    loop.slow_callback_duration = 100
    address = listening().getsockname()
    with caplog.at_level("DEBUG", "asyncio"):
        make(loop.create_connection(recorder, *address))
    pattern = r"<asyncio\.TransportSocket fd=.*> connected to 127\.0\.0\.1:%d: \(<\S+ fd=.*>, <.*>\)" % address[1]
    assert any(re.match(pattern, text) for text in caplog.messages), caplog.messages
