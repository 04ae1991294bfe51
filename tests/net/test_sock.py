"""The sock_* methods: when they complete, what they raise, and how they are cancelled."""

import asyncio
import os
import socket
import ssl
import sys

import pytest

ALL = ["sock_recv", "sock_recv_into", "sock_recvfrom", "sock_recvfrom_into", "sock_sendall", "sock_sendto",
       "sock_connect", "sock_accept", "sock_sendfile"]  # fmt: skip


def has(name):
    """asyncio has the datagram methods since 3.11; cloop has them everywhere."""
    return hasattr(asyncio.SelectorEventLoop, name)


@pytest.fixture
def datagrams(loop_class):
    """Skips the test if the loop lacks the datagram methods."""
    if not hasattr(loop_class, "sock_recvfrom"):
        pytest.skip("asyncio has them since 3.11")


@pytest.fixture
def udp(sockets):
    """Creates non-blocking UDP sockets bound to a port."""

    def udp():
        sock = sockets(socket.socket(type=socket.SOCK_DGRAM))
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        return sock

    return udp


def finish(task, until):
    until(task.done)
    return task.result()


def first_step(coroutine):
    """Runs the first step of a coroutine; returns its result if one step is enough."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    finally:
        coroutine.close()
    raise AssertionError("not done at once")


def in_loop(loop, function, *args):
    async def main():
        return function(*args)

    return loop.run_until_complete(main())


def test_cloop_has_all_of_them_on_every_python(cloop):
    assert [name for name in ALL if not hasattr(cloop.Loop, name)] == []


# Receiving


def test_recv_of_what_is_there(loop, run, socket_pair, kind):
    ours, peer = socket_pair(kind)
    peer.send(b"hello")
    assert run(loop.sock_recv(ours, 100)) == b"hello"


def test_recv_is_done_at_once(loop, socket_pair):
    """Within the step that calls it: nothing else runs in between."""
    ours, peer = socket_pair()
    peer.send(b"hello")
    assert in_loop(loop, lambda: first_step(loop.sock_recv(ours, 3))) == b"hel"
    assert in_loop(loop, lambda: first_step(loop.sock_recv(ours, 3))) == b"lo"


def test_recv_waits(loop, socket_pair, start, until, turn, kind):
    ours, peer = socket_pair(kind)
    task = start(loop.sock_recv(ours, 100))
    turn()
    assert not task.done()
    peer.send(b"x")
    assert finish(task, until) == b"x"


def test_recv_at_eof(loop, run, socket_pair, kind):
    ours, peer = socket_pair(kind)
    peer.close()
    assert run(loop.sock_recv(ours, 100)) == b""
    assert run(loop.sock_recv(ours, 100)) == b""


def test_recv_of_nothing(loop, socket_pair, run):
    ours, peer = socket_pair()
    peer.send(b"x")
    assert run(loop.sock_recv(ours, 0)) == b""


def test_recv_of_much(loop, run, socket_pair, kind):
    ours, peer = socket_pair(kind)
    data = os.urandom(1000000)

    async def main():
        sending = loop.create_task(loop.sock_sendall(peer, data))
        got = b""
        while len(got) < len(data):
            got += await loop.sock_recv(ours, 1 << 20)
        await sending
        return got

    assert run(main()) == data


def test_recv_one_after_another(loop, run, socket_pair, kind):
    """Like a reader, with a new wait each time."""
    ours, peer = socket_pair(kind)

    async def echo():
        for _ in range(100):
            await loop.sock_sendall(ours, await loop.sock_recv(ours, 100))

    async def main():
        echoing = loop.create_task(echo())
        for number in range(100):
            await loop.sock_sendall(peer, b"%d" % number)
            assert await loop.sock_recv(peer, 100) == b"%d" % number
        await echoing

    run(main())


BUFFERS = {
    "bytearray": lambda: bytearray(10),
    "memoryview": lambda: memoryview(bytearray(10)),
    "slice": lambda: memoryview(bytearray(b"..........xx"))[:10],
}


@pytest.mark.parametrize("waits", [False, True], ids=["at once", "later"])
@pytest.mark.parametrize("form", list(BUFFERS))
def test_recv_into(loop, socket_pair, start, until, form, waits):
    ours, peer = socket_pair()
    buffer = BUFFERS[form]()
    if not waits:
        peer.send(b"hello")
    task = start(loop.sock_recv_into(ours, buffer))
    if waits:
        assert not task.done()
        peer.send(b"hello")
    assert finish(task, until) == 5
    assert bytes(buffer[:5]) == b"hello"


def test_recv_into_takes_no_more_than_fits(loop, run, socket_pair):
    ours, peer = socket_pair()
    peer.send(b"0123456789abc")
    buffer = bytearray(10)
    assert run(loop.sock_recv_into(ours, buffer)) == 10 and buffer == b"0123456789"
    assert run(loop.sock_recv_into(ours, buffer)) == 3
    peer.close()
    assert run(loop.sock_recv_into(ours, buffer)) == 0


def test_buffer_is_let_go_after_recv_into(loop, socket_pair, start, until, turn):
    ours, peer = socket_pair()
    buffer = bytearray(10)
    task = start(loop.sock_recv_into(ours, buffer))
    peer.send(b"x")
    finish(task, until)
    buffer.clear()
    buffer.extend(bytes(10))
    task = start(loop.sock_recv_into(ours, buffer))
    task.cancel()
    until(task.done)
    turn()
    del task
    buffer.clear()


# Sending


@pytest.mark.parametrize("form", [bytes, bytearray, memoryview], ids=lambda form: form.__name__)
def test_sendall(loop, run, socket_pair, form, kind):
    ours, peer = socket_pair(kind)
    assert run(loop.sock_sendall(ours, form(b"hello"))) is None
    assert run(loop.sock_recv(peer, 100)) == b"hello"


def test_sendall_is_done_at_once(loop, socket_pair):
    ours, peer = socket_pair()
    assert in_loop(loop, lambda: first_step(loop.sock_sendall(ours, b"x"))) is None
    assert peer.recv(10) == b"x"


@pytest.mark.parametrize("form", [bytes, bytearray, memoryview], ids=lambda form: form.__name__)
def test_sendall_of_much_waits(loop, socket_pair, start, collect, until, form, kind):
    ours, peer = socket_pair(kind)
    data = os.urandom(5000000)
    task = start(loop.sock_sendall(ours, form(data)))
    assert not task.done()
    assert collect(peer, len(data)) == data
    assert finish(task, until) is None


def test_sendall_of_nothing(loop, run, socket_pair):
    ours, peer = socket_pair()
    run(loop.sock_sendall(ours, b""))
    with pytest.raises(BlockingIOError):
        peer.recv(1)


def test_sendall_after_the_peer_closed(loop, run, socket_pair, kind):
    ours, peer = socket_pair(kind)
    peer.close()
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        while True:
            run(loop.sock_sendall(ours, b"x"))


def test_sendall_while_the_peer_closes(loop, socket_pair, start, until):
    ours, peer = socket_pair()
    task = start(loop.sock_sendall(ours, bytes(5000000)))
    peer.close()
    until(task.done)
    assert isinstance(task.exception(), (BrokenPipeError, ConnectionResetError))


def test_reading_and_writing_at_once(loop, run, socket_pair, kind):
    ours, peer = socket_pair(kind)
    data = os.urandom(3000000)

    async def receive(sock):
        got = b""
        while len(got) < len(data):
            got += await loop.sock_recv(sock, 1 << 18)
        return got

    async def main():
        results = await asyncio.gather(
            loop.sock_sendall(ours, data), loop.sock_sendall(peer, data), receive(ours), receive(peer)
        )
        return results[2:]

    assert run(main()) == [data, data]


# Datagrams


@pytest.mark.parametrize("waits", [False, True], ids=["at once", "later"])
def test_recvfrom(loop, udp, start, until, waits, datagrams):
    ours, peer = udp(), udp()
    if not waits:
        peer.sendto(b"hello", ours.getsockname())
    task = start(loop.sock_recvfrom(ours, 100))
    if waits:
        assert not task.done()
        peer.sendto(b"hello", ours.getsockname())
    assert finish(task, until) == (b"hello", peer.getsockname())


@pytest.mark.parametrize("args, expected", [((), b"hello....."), ((3,), b"hel......."), ((0,), b"hello.....")])
@pytest.mark.parametrize("waits", [False, True], ids=["at once", "later"])
def test_recvfrom_into(loop, udp, start, until, args, expected, waits, datagrams):
    ours, peer = udp(), udp()
    buffer = bytearray(b"." * 10)
    if not waits:
        peer.sendto(b"hello", ours.getsockname())
    task = start(loop.sock_recvfrom_into(ours, buffer, *args))
    if waits:
        peer.sendto(b"hello", ours.getsockname())
    count = 10 - expected.count(b".")
    assert finish(task, until) == (count, peer.getsockname())
    assert buffer == expected


def test_recvfrom_of_an_empty_datagram(loop, run, udp, datagrams):
    ours, peer = udp(), udp()
    peer.sendto(b"", ours.getsockname())
    assert run(loop.sock_recvfrom(ours, 100)) == (b"", peer.getsockname())


def test_recvfrom_a_stream(loop, run, socket_pair, datagrams):
    ours, peer = socket_pair()
    peer.send(b"x")
    assert run(loop.sock_recvfrom(ours, 100)) == (b"x", None)


def test_sendto(loop, run, udp, datagrams):
    ours, peer = udp(), udp()
    assert run(loop.sock_sendto(ours, b"hello", peer.getsockname())) == 5
    assert in_loop(loop, lambda: first_step(loop.sock_sendto(ours, bytearray(), peer.getsockname()))) == 0
    assert peer.recv(100) == b"hello" and peer.recv(100) == b""


def test_sendto_waits_for_room(loop, start, until, sockets, datagrams, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    receiver = sockets(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
    receiver.bind("receiver")
    receiver.setblocking(False)
    ours = sockets(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
    ours.setblocking(False)
    sent = 0
    with pytest.raises(BlockingIOError):
        while True:
            ours.sendto(b"%d" % sent, "receiver")
            sent += 1
    task = start(loop.sock_sendto(ours, b"last", "receiver"))
    got = []

    def last():
        try:
            got.append(receiver.recv(100))
        except BlockingIOError:
            pass
        return got and got[-1] == b"last"

    until(last)
    assert finish(task, until) == 4
    assert got == [b"%d" % number for number in range(sent)] + [b"last"]


def test_sendto_that_fails(loop, run, udp, datagrams):
    with pytest.raises(OSError):
        run(loop.sock_sendto(udp(), bytes(70000), ("127.0.0.1", 9)))


# Connecting


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_connect(loop, run, listening, sockets, kind):
    listener = listening(kind)
    sock = sockets(socket.socket(listener.family))
    sock.setblocking(False)
    assert run(loop.sock_connect(sock, listener.getsockname())) is None
    with listener.accept()[0] as peer:
        assert peer.getpeername() == sock.getsockname()


def test_connect_unix_is_done_at_once(loop, listening, sockets):
    listener = listening("unix")
    sock = sockets(socket.socket(socket.AF_UNIX))
    sock.setblocking(False)

    async def main():
        seen = []
        loop.call_soon(seen.append, "another callback")
        await loop.sock_connect(sock, listener.getsockname())
        return list(seen)

    assert loop.run_until_complete(main()) == []


def test_connect_refused(loop, run, sockets):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = free.getsockname()
        sock = sockets(socket.socket())
        sock.setblocking(False)
        with pytest.raises(ConnectionRefusedError) as caught:
            run(loop.sock_connect(sock, address))
    assert str(caught.value) == "[Errno 111] Connect call failed %r" % (address,)


def test_connect_to_a_name(loop, run, listening, sockets, monkeypatch):
    listener = listening()
    port = listener.getsockname()[1]
    asked = []

    async def getaddrinfo(host, number, **options):
        asked.append((host, number, options.get("family"), options.get("proto")))
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    loop.getaddrinfo = getaddrinfo
    sock = sockets(socket.socket())
    sock.setblocking(False)
    run(loop.sock_connect(sock, ("a.name", 80)))
    assert asked == [("a.name", 80, socket.AF_INET, sock.proto)]
    assert sock.getpeername() == listener.getsockname()


def test_connect_twice(loop, run, listening, sockets):
    address = listening().getsockname()
    sock = sockets(socket.create_connection(address))
    sock.setblocking(False)
    with pytest.raises(OSError, match="already connected"):
        run(loop.sock_connect(sock, address))


def test_connect_a_datagram_socket(loop, run, udp):
    ours, peer = udp(), udp()
    if sys.version_info < (3, 11):
        pytest.skip("asyncio looked up the address of a stream")
    run(loop.sock_connect(ours, peer.getsockname()))
    assert ours.getpeername() == peer.getsockname()


# Accepting


@pytest.mark.parametrize("waits", [False, True], ids=["at once", "later"])
@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_accept(loop, listening, sockets, start, until, kind, waits):
    listener = listening(kind)
    listener.setblocking(False)
    client = sockets(socket.socket(listener.family))
    if not waits:
        client.connect(listener.getsockname())
    task = start(loop.sock_accept(listener))
    if waits:
        assert not task.done()
        client.connect(listener.getsockname())
    accepted, address = finish(task, until)
    with accepted:
        assert type(accepted) is socket.socket and accepted.gettimeout() == 0
        assert accepted.getpeername() == client.getsockname()
        assert address == client.getsockname() or kind == "unix"
        assert not os.get_inheritable(accepted.fileno())


def test_accept_many(loop, run, listening, sockets):
    listener = listening()
    listener.setblocking(False)
    clients = [sockets(socket.create_connection(listener.getsockname())) for _ in range(20)]

    async def main():
        return [sockets((await loop.sock_accept(listener))[0]) for _ in range(20)]

    assert sorted(sock.getpeername() for sock in run(main())) == sorted(client.getsockname() for client in clients)


def test_accept_of_a_socket_that_does_not_listen(loop, run, sockets):
    sock = sockets(socket.socket())
    sock.setblocking(False)
    with pytest.raises(OSError, match="Invalid argument"):
        run(loop.sock_accept(sock))


# Cancelling and closing

WAITING = {
    "sock_recv": lambda loop, sock: loop.sock_recv(sock, 10),
    "sock_recv_into": lambda loop, sock: loop.sock_recv_into(sock, bytearray(10)),
    "sock_sendall": lambda loop, sock: loop.sock_sendall(sock, bytes(5000000)),
    "sock_recvfrom": lambda loop, sock: loop.sock_recvfrom(sock, 10),
    "sock_recvfrom_into": lambda loop, sock: loop.sock_recvfrom_into(sock, bytearray(10)),
}
WAITING = {name: WAITING[name] for name in WAITING if has(name)}


@pytest.mark.parametrize("name", list(WAITING))
def test_cancelled(loop, socket_pair, start, until, turn, name):
    """The descriptor is then free for others."""
    ours, peer = socket_pair()
    task = start(WAITING[name](loop, ours))
    assert not task.done()
    task.cancel()
    until(task.done)
    assert task.cancelled()
    turn()
    assert not loop.remove_reader(ours) and not loop.remove_writer(ours)
    peer.send(b"x")
    assert finish(start(loop.sock_recv(ours, 10)), until) == b"x"


@pytest.mark.parametrize("name", list(WAITING))
def test_cancelled_in_the_turn_that_makes_it_ready(loop, socket_pair, start, until, turn, name):
    """Nothing is read from the socket then; asyncio's newer versions do the same."""
    ours, peer = socket_pair()
    task = start(WAITING[name](loop, ours))
    if name == "sock_sendall":
        try:
            while True:
                peer.recv(1 << 20)
        except BlockingIOError:
            pass
    else:
        peer.send(b"x")
    loop.call_soon(task.cancel)
    until(task.done)
    assert task.cancelled()
    if name != "sock_sendall":
        assert finish(start(loop.sock_recv(ours, 10)), until) == b"x"


def test_cancelled_accept(loop, listening, start, until, turn, sockets):
    listener = listening()
    listener.setblocking(False)
    task = start(loop.sock_accept(listener))
    task.cancel()
    until(task.done)
    turn()
    assert task.cancelled()
    assert not loop.remove_reader(listener) or sys.version_info < (3, 11)  # asyncio went on watching
    client = sockets(socket.create_connection(listener.getsockname()))
    with finish(start(loop.sock_accept(listener)), until)[0] as accepted:
        assert accepted.getpeername() == client.getsockname()


def test_cancelled_connect(loop, sockets, start, until, turn, listening):
    """To a Unix socket whose backlog is full, or wherever it has to wait."""
    listener = listening(backlog=0)
    filling = []
    for _ in range(10):  # further ones are not answered
        sock = sockets(socket.socket())
        sock.setblocking(False)
        task = start(loop.sock_connect(sock, listener.getsockname()))
        for _ in range(5):
            turn()
        filling.append((sock, task))
        if not task.done():
            break
    assert not task.done()
    task.cancel()
    until(task.done)
    turn()
    assert task.cancelled() and not loop.remove_writer(sock)


def test_wait_for_ends_it(loop, run, socket_pair):
    ours, peer = socket_pair()
    with pytest.raises(asyncio.TimeoutError):
        run(asyncio.wait_for(loop.sock_recv(ours, 10), 0.001))
    assert not loop.remove_reader(ours)


@pytest.mark.parametrize("name", list(WAITING))
def test_socket_closed_by_its_owner_while_pending(loop, socket_pair, start, until, turn, name, sockets):
    """The next owner of the number is not affected: its bytes stay in its socket."""
    ours, peer = socket_pair()
    fd = ours.fileno()
    task = start(WAITING[name](loop, ours))
    ours.close()
    other, far = socket_pair()
    if other.fileno() != fd:
        os.dup2(other.fileno(), fd)
        other.close()
        other = sockets(socket.socket(fileno=fd))
    far.send(b"not for the task")
    for _ in range(3):
        turn()
    task.cancel()
    for _ in range(3):
        turn()
    assert task.done()
    assert other.recv(100) == b"not for the task"
    with pytest.raises(BlockingIOError):
        far.recv(100)


def test_number_used_again_after_a_close_while_pending(
    loop, socket_pair, start, until, turn, native, run, recorder, abandoned
):
    """The new owner may wait for it, and the end of the old task does not disturb that."""
    ours, peer = socket_pair()
    native(_transport(run, loop, recorder, socket_pair, abandoned))
    fd = ours.fileno()
    old = start(loop.sock_recv(ours, 10))
    ours.close()
    pairs = [socket_pair() for _ in range(2)]
    (other, far) = next(((a, b) for a, b in pairs if a.fileno() == fd), pairs[0])
    new = start(loop.sock_recv(other, 10))
    old.cancel()
    turn()
    far.send(b"x")
    assert finish(new, until) == b"x"


def _transport(run, loop, recorder, socket_pair, abandoned):
    transport, _ = run(loop.create_connection(recorder, sock=socket_pair()[0]))
    abandoned.add(transport)
    return transport


# Refused


def attempt_on(loop, attempt, call, wrap=lambda sock: sock, blocking=False, debug=False):
    async def function(loop):
        ours, peer = socket.socketpair()
        with wrap(ours) as sock, peer:
            sock.setblocking(blocking)
            return await call(loop, sock)

    loop.set_debug(debug)
    loop.slow_callback_duration = 100
    return attempt(function, loop)


CALLS = {
    "sock_recv": lambda loop, sock: loop.sock_recv(sock, 10),
    "sock_recv_into": lambda loop, sock: loop.sock_recv_into(sock, bytearray(10)),
    "sock_recvfrom": lambda loop, sock: loop.sock_recvfrom(sock, 10),
    "sock_recvfrom_into": lambda loop, sock: loop.sock_recvfrom_into(sock, bytearray(10)),
    "sock_sendall": lambda loop, sock: loop.sock_sendall(sock, b"x"),
    "sock_sendto": lambda loop, sock: loop.sock_sendto(sock, b"x", "path"),
    "sock_connect": lambda loop, sock: loop.sock_connect(sock, ("127.0.0.1", 9)),
    "sock_accept": lambda loop, sock: loop.sock_accept(sock),
    "sock_sendfile": lambda loop, sock: loop.sock_sendfile(sock, None),
}
CALLS = {name: CALLS[name] for name in CALLS if has(name)}


@pytest.mark.parametrize("name", list(CALLS))
def test_blocking_socket_is_refused_in_debug_mode(as_asyncio, attempt, name):
    result = as_asyncio(lambda loop: attempt_on(loop, attempt, CALLS[name], blocking=True, debug=True))["result"]
    assert result == (ValueError, "the socket must be non-blocking")


@pytest.mark.parametrize("name", list(CALLS))
def test_tls_socket_is_refused(as_asyncio, attempt, name):
    if name == "sock_sendfile" and sys.version_info < (3, 11):
        pytest.skip("asyncio checked later, or not at all")

    def wrap(sock):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        return context.wrap_socket(sock, do_handshake_on_connect=False)

    result = as_asyncio(lambda loop: attempt_on(loop, attempt, CALLS[name], wrap))["result"]
    assert result == (TypeError, "Socket cannot be of type SSLSocket")


@pytest.mark.parametrize("name", list(CALLS))
def test_closed_socket_is_refused(as_asyncio, attempt, name):
    def wrap(sock):
        sock.close()
        return sock

    async def function(loop):
        sock = socket.socket()
        sock.close()
        return await CALLS[name](loop, sock)

    result = as_asyncio(lambda loop: attempt(function, loop))["result"]
    assert issubclass(result[0], Exception)


FAULTY = {
    "recv of text": lambda loop, sock: loop.sock_recv(sock, "x"),
    "recv of less than nothing": lambda loop, sock: loop.sock_recv(sock, -1),
    "recv of None": lambda loop, sock: loop.sock_recv(sock, None),
    "recv_into bytes": lambda loop, sock: loop.sock_recv_into(sock, b"12345"),
    "recv_into None": lambda loop, sock: loop.sock_recv_into(sock, None),
    "recv_into a number": lambda loop, sock: loop.sock_recv_into(sock, 5),
    "sendall of text": lambda loop, sock: loop.sock_sendall(sock, "x"),
    "sendall of None": lambda loop, sock: loop.sock_sendall(sock, None),
    "connect to nothing": lambda loop, sock: loop.sock_connect(sock, None),
    "accept": lambda loop, sock: loop.sock_accept(sock),
    "recv of a number for a socket": lambda loop, sock: loop.sock_recv(5, 5),
    "recv of None for a socket": lambda loop, sock: loop.sock_recv(None, 5),
    "arguments missing": lambda loop, sock: loop.sock_recv(sock),
}
if has("sock_recvfrom"):
    FAULTY.update(
        {
            "recvfrom of text": lambda loop, sock: loop.sock_recvfrom(sock, "x"),
            "recvfrom_into too much": lambda loop, sock: loop.sock_recvfrom_into(sock, bytearray(5), 10),
            "recvfrom_into less than nothing": lambda loop, sock: loop.sock_recvfrom_into(sock, bytearray(5), -1),
            "sendto of text": lambda loop, sock: loop.sock_sendto(sock, "x", "path"),
            "sendto a number": lambda loop, sock: loop.sock_sendto(sock, b"x", 5),
        }
    )


@pytest.mark.parametrize("what", list(FAULTY))
def test_faulty_arguments(as_asyncio, attempt, what):
    result = as_asyncio(lambda loop: attempt_on(loop, attempt, FAULTY[what]))["result"]
    assert isinstance(result, tuple) and issubclass(result[0], Exception)


@pytest.mark.parametrize("address", [("127.0.0.1",), ("127.0.0.1", "x"), ("127.0.0.1", 70000), 5, "text", ()], ids=repr)
def test_faulty_addresses(as_asyncio, attempt, address, monkeypatch):
    def getaddrinfo(*args):
        raise socket.gaierror(socket.EAI_NONAME, "on purpose")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    async def function(loop):
        with socket.socket() as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, address)

    result = as_asyncio(lambda loop: attempt(function, loop))["result"]
    assert issubclass(result[0], Exception)


@pytest.mark.parametrize("name", ["sock_recv", "sock_sendall"])
def test_socket_of_a_transport_is_refused(run, loop, connect, recorder, name):
    transport, peer = connect(recorder())
    with pytest.raises(RuntimeError, match="^File descriptor .* is used by transport <"):
        run(WAITING[name](loop, transport._sock))


@pytest.mark.parametrize("name", list(CALLS))
def test_they_are_coroutines(loop, socket_pair, name):
    ours, _ = socket_pair()
    coroutine = CALLS[name](loop, ours)
    assert asyncio.iscoroutine(coroutine)
    coroutine.close()


def test_nothing_happens_before_it_is_awaited(loop, socket_pair):
    ours, peer = socket_pair()
    peer.send(b"x")
    loop.sock_recv(ours, 10).close()
    assert ours.recv(10) == b"x"


def test_as_tasks(loop, run, socket_pair):
    """They can be passed to create_task(), gather() and wait()."""
    ours, peer = socket_pair()

    async def main():
        receiving = loop.create_task(loop.sock_recv(ours, 10))
        assert isinstance(receiving, asyncio.Task)
        done, pending = await asyncio.wait([receiving, loop.create_task(loop.sock_sendall(peer, b"x"))])
        assert not pending
        return receiving.result()

    assert run(main()) == b"x"
