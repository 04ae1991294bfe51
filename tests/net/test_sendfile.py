"""sendfile: over transports and sockets, by the kernel and by reading."""

import asyncio
import contextlib
import io
import os
import socket
import sys

import pytest

DATA = os.urandom(300000)


@pytest.fixture
def file(tmp_path):
    """An open file of 300,000 bytes."""
    path = tmp_path / "file"
    path.write_bytes(DATA)
    with open(str(path), "rb") as file:
        yield file


@pytest.fixture(autouse=True)
def executor(loop, run):
    """What runs in the loop's executor has ended when the test has."""
    yield
    run(loop.shutdown_default_executor() if hasattr(loop, "shutdown_default_executor") else asyncio.sleep(0))


@pytest.fixture(params=["transport", "socket"])
def sender(request, loop, start, socket_pair, connect, recorder, kind):
    """Starts sendfile over either; returns the task, and the socket at the other end."""

    def sender(*args, **options):
        if request.param == "socket":
            ours, peer = socket_pair(kind)
            return start(loop.sock_sendfile(ours, *args, **options)), peer
        transport, peer = connect(recorder(), kind)
        return start(loop.sendfile(transport, *args, **options)), peer

    return sender


def sent(sender, collect, until, size, *args, **options):
    """What arrived, and what the call returned."""
    task, peer = sender(*args, **options)
    data = collect(peer, size)
    until(task.done)
    with pytest.raises(BlockingIOError):
        peer.recv(1)
    return data, task.result()


# A range: the arguments after the file, and the part of the file that they select.
RANGES = {
    "all": ((), DATA),
    "offset": ((1000,), DATA[1000:]),
    "count": ((0, 5000), DATA[:5000]),
    "offset and count": ((1000, 70000), DATA[1000:71000]),
    "one byte": ((299999, 1), DATA[299999:]),
    "count beyond the end": ((290000, 50000), DATA[290000:]),
    "offset at the end": ((300000,), b""),
    "offset beyond the end": ((400000,), b""),
}


@pytest.mark.parametrize("part", list(RANGES))
def test_parts(sender, collect, until, file, part):
    args, expected = RANGES[part]
    data, count = sent(sender, collect, until, len(expected), file, *args)
    assert data == expected and count == len(expected)


@pytest.mark.parametrize("part", ["all", "count", "offset and count"])
def test_position_of_the_file_afterwards(sender, collect, until, file, part):
    args, expected = RANGES[part]
    file.seek(5)
    sent(sender, collect, until, len(expected), file, *args)
    assert file.tell() == (args[0] if args else 0) + len(expected)


@pytest.mark.parametrize("offset", [0, 299999, 300000, 400000])
def test_position_of_the_file_is_asyncios(as_asyncio, file, offset):
    """Where nothing is left to send it differs between versions."""

    def body(loop):
        async def main():
            ours, peer = socket.socketpair()
            with peer:
                transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
                file.seek(5)
                sent = await loop.sendfile(transport, file, offset, 1000 if offset == 0 else None)
                transport.abort()
                await asyncio.sleep(0)
            return sent, file.tell()

        return loop.run_until_complete(main())

    as_asyncio(body)


@pytest.mark.parametrize("part", list(RANGES))
def test_fallback(sender, collect, until, part):
    """A file object without a descriptor is read."""
    args, expected = RANGES[part]
    file = io.BytesIO(DATA)
    data, count = sent(sender, collect, until, len(expected), file, *args)
    assert data == expected and count == len(expected)
    if expected:
        assert file.tell() == (args[0] if args else 0) + len(expected)


def test_fallback_may_be_forbidden(sender, until):
    task, peer = sender(io.BytesIO(DATA), fallback=False)
    until(task.done)
    assert type(task.exception()) is asyncio.SendfileNotAvailableError


def test_empty_file(sender, collect, until, tmp_path):
    path = tmp_path / "empty"
    path.write_bytes(b"")
    with open(str(path), "rb") as file:
        assert sent(sender, collect, until, 0, file) == (b"", 0)


def test_empty_fallback(sender, collect, until):
    assert sent(sender, collect, until, 0, io.BytesIO()) == (b"", 0)


def test_unbuffered_file(sender, collect, until, file):
    with open(file.name, "rb", 0) as raw:
        assert sent(sender, collect, until, len(DATA), raw) == (DATA, len(DATA))


def test_much(sender, collect, until, tmp_path):
    path = tmp_path / "much"
    data = DATA * 20
    path.write_bytes(data)
    with open(str(path), "rb") as file:
        assert sent(sender, collect, until, len(data), file) == (data, len(data))


def test_loop_goes_on_meanwhile(sender, loop, turn, collect, until, tmp_path):
    path = tmp_path / "much"
    path.write_bytes(bytes(10000000))
    with open(str(path), "rb") as file:
        task, peer = sender(file)
        seen = []
        loop.call_soon(seen.append, 1)
        turn()
        assert seen == [1] and not task.done()
        collect(peer, 10000000)
        until(task.done)


def test_peer_that_goes(sender, until, tmp_path):
    path = tmp_path / "much"
    path.write_bytes(bytes(10000000))
    with open(str(path), "rb") as file:
        task, peer = sender(file)
        peer.close()
        until(task.done)
        assert isinstance(task.exception(), (ConnectionError, OSError))


# Transports


@pytest.mark.parametrize("make", [lambda file: file, lambda file: io.BytesIO(DATA)], ids=["native", "fallback"])
def test_between_writes(loop, connect, recorder, start, clog, collect, until, file, kind, make):
    """Earlier writes go first, later ones last."""
    transport, peer = connect(recorder(), kind)
    before = clog(transport)
    task = start(loop.sendfile(transport, make(file)))
    data = collect(peer, len(before) + len(DATA))
    until(task.done)
    transport.write(b"after")
    assert data == before + DATA
    assert collect(peer, 5) == b"after"


def test_writing_meanwhile_is_refused(loop, connect, recorder, start, collect, until, tmp_path):
    transport, peer = connect(recorder())
    path = tmp_path / "much"
    path.write_bytes(bytes(10000000))
    with open(str(path), "rb") as file:
        task = start(loop.sendfile(transport, file))
        with pytest.raises(RuntimeError, match="^unable to write; sendfile is in progress$"):
            transport.write(b"x")
        with pytest.raises(RuntimeError, match="^unable to write(lines)?; sendfile is in progress$"):
            transport.writelines([b"x"])
        collect(peer, 10000000)
        until(task.done)


@pytest.mark.parametrize("make", [lambda file: file, lambda file: io.BytesIO(DATA)], ids=["native", "fallback"])
def test_reading_goes_on_afterwards(loop, connect, recorder, start, collect, until, file, make):
    protocol = recorder()
    transport, peer = connect(protocol)
    task = start(loop.sendfile(transport, make(file)))
    collect(peer, len(DATA))
    until(task.done)
    assert transport.get_protocol() is protocol and transport.is_reading()
    peer.send(b"x")
    until(lambda: protocol.data == b"x")


def test_reading_stays_paused_afterwards(loop, connect, recorder, start, collect, until, file):
    transport, peer = connect(recorder())
    transport.pause_reading()
    task = start(loop.sendfile(transport, file))
    collect(peer, len(DATA))
    until(task.done)
    assert not transport.is_reading()


def test_one_after_another(loop, connect, recorder, run, collect, start, until, file):
    transport, peer = connect(recorder())

    async def main():
        return [await loop.sendfile(transport, file, 1000 * number, 1000) for number in range(5)]

    task = start(main())
    assert collect(peer, 5000) == DATA[:5000]
    until(task.done)
    assert task.result() == [1000] * 5


@pytest.mark.parametrize("replaced", ["os.sendfile", "sock_sendfile", "_sock_sendfile_native"])
def test_what_the_program_has_replaced_is_called(loop, connect, recorder, run, file, monkeypatch, replaced):
    """What the kernel takes at once is sent without these, unless somebody has replaced them."""
    transport, peer = connect(recorder())
    calls = []

    async def instead(sock, file, offset, count, **options):
        calls.append((offset, count))
        return count

    def sendfile(out, source, offset, count):
        calls.append((offset, count))
        return real(out, source, offset, count)

    real = os.sendfile
    if replaced == "os.sendfile":
        monkeypatch.setattr(os, "sendfile", sendfile)
    else:
        setattr(loop, replaced, instead)
    assert run(loop.sendfile(transport, file, 10, 2000)) == 2000
    assert calls == [(10, 2000)]


def test_what_the_program_has_replaced_in_asyncios_class_is_called(loop, connect, recorder, run, file, monkeypatch):
    transport, peer = connect(recorder())
    calls = []

    async def instead(self, sock, file, offset, count, **options):
        calls.append((offset, count))
        return count

    monkeypatch.setattr(asyncio.SelectorEventLoop, "sock_sendfile", instead)
    assert run(loop.sendfile(transport, file, 10, 2000)) == 2000
    assert calls == [(10, 2000)]


def test_it_is_tried_once_before_others_have_their_turn(loop, loop_kind, file):
    """Else a peer that reads as fast as the loop sends would have all of its time."""
    if loop_kind == "asyncio":
        pytest.skip("not of asyncio's own")
    calls = []

    class Transport:
        def _send_file(self, number, offset, size):
            calls.append((offset, size))
            return 1000

    assert loop._send_file_now(Transport(), file, 0, 3000) == (1000, False)
    assert calls == [(0, 3000)] and file.tell() == 1000


def test_what_the_kernel_takes_is_sent_at_once(loop, loop_kind, connect, recorder, run, file):
    if loop_kind == "asyncio":
        pytest.skip("asyncio waits for a turn")
    transport, peer = connect(recorder())

    async def main():
        before = loop.metrics()
        assert await loop.sendfile(transport, file, 0, 2000) == 2000
        after = loop.metrics() - before
        return after.turns, after.writes, after.bytes_out

    assert run(main()) == (0, 1, 2000)
    assert peer.recv(10000) == DATA[:2000]


def test_closing_transport_is_refused(loop, run, connect, recorder, file):
    transport, peer = connect(recorder())
    transport.close()
    with pytest.raises(RuntimeError, match="^Transport is closing$"):
        run(loop.sendfile(transport, file))


def test_transport_aborted_meanwhile(loop, connect, recorder, start, until, tmp_path):
    protocol = recorder()
    transport, peer = connect(protocol)
    path = tmp_path / "much"
    path.write_bytes(bytes(10000000))
    with open(str(path), "rb") as file:
        task = start(loop.sendfile(transport, file))
        task.cancel()
        until(task.done)
        transport.abort()
        until(lambda: protocol.lost)
    assert task.cancelled() and protocol.lost == [None]


def test_transport_aborted_before_the_file_is_sent(loop, connect, recorder, start, turn, until, file):
    """It waits for what was written before, which is not sent any more."""
    transport, peer = connect(recorder())
    transport.write(bytes(1 << 22))
    task = start(loop.sendfile(transport, file))
    turn()
    assert not task.done()
    transport.abort()
    until(task.done)
    assert repr(task.exception()) == "ConnectionError('Connection is closed by peer')"


@pytest.fixture
def like_newer_asyncio(loop_kind):
    if loop_kind == "asyncio" and sys.version_info < (3, 16):
        pytest.skip("up to 3.15 the transport stays paused, and sends no other file")


def test_cancelled_before_the_file_is_sent(
    like_newer_asyncio, loop, connect, recorder, start, turn, until, collect, file
):
    """The transport goes on as before."""
    protocol, before = recorder(), bytes(1 << 22)
    transport, peer = connect(protocol)
    transport.write(before)
    task = start(loop.sendfile(transport, file))
    turn()
    task.cancel()
    until(task.done)
    assert task.cancelled() and transport.is_reading()
    peer.send(b"more")
    until(lambda: protocol.data == b"more")
    task = start(loop.sendfile(transport, file))
    assert collect(peer, len(before) + len(DATA)) == before + DATA
    until(task.done)
    assert task.result() == len(DATA)


def test_cancelled_just_as_the_file_could_be_sent(
    like_newer_asyncio, loop, connect, recorder, start, turn, until, file
):
    """The task has not been told yet when nothing is left of what was written before."""
    protocol = recorder()
    transport, peer = connect(protocol)
    while transport.get_write_buffer_size() == 0:
        transport.write(bytes(1000))
    task = start(loop.sendfile(transport, file))
    turn()
    with contextlib.suppress(BlockingIOError):
        while peer.recv(1 << 20):
            pass
    loop.call_soon(task.cancel)
    turn()
    transport.close()
    until(lambda: task.done() and protocol.lost)
    assert task.cancelled() and protocol.lost == [None]


@pytest.fixture
def much(tmp_path):
    path = tmp_path / "much"
    path.write_bytes(bytes(10000000))
    with open(str(path), "rb") as file:
        yield file


@pytest.mark.parametrize("offset", [0, 1000])
@pytest.mark.parametrize("full", [False, True], ids=["begun", "not begun"])
@pytest.mark.parametrize("end", ["abort", "close"])
def test_connection_lost_while_the_file_is_sent(
    loop_kind, loop, connect, recorder, start, turn, until, collect, much, end, full, offset
):
    """As where there is no sendfile(). What was sent is what the peer has, and up to there the file was read."""
    if loop_kind == "asyncio":
        pytest.skip("waits for ever, and reports an InvalidStateError")
    protocol = recorder()
    transport, peer = connect(protocol)
    if full:
        ours = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
        with ours, contextlib.suppress(BlockingIOError):
            while True:
                ours.send(bytes(1 << 16))
    task = start(loop.sendfile(transport, much, offset))
    for _ in range(3):
        turn()
    assert not task.done()
    getattr(transport, end)()
    until(lambda: protocol.lost and task.done())
    assert repr(task.exception()) == "ConnectionError('Connection is closed by peer')" and protocol.lost == [None]
    if full:
        assert much.tell() == 0
    else:
        assert len(collect(peer)) == much.tell() - offset > 0


@pytest.mark.parametrize("closed", [False, True])
def test_file_of_a_cancelled_task_is_read_up_to_what_was_sent(
    loop_kind, loop, connect, recorder, start, turn, until, collect, much, closed
):
    """`closed`: the file, whose number is somebody else's by then."""
    if loop_kind == "asyncio":
        pytest.skip("its position is where it was")
    transport, peer = connect(recorder())
    task = start(loop.sendfile(transport, much))
    turn()
    assert not task.done()
    other = None
    if closed:
        number = much.fileno()
        much.close()
        other = open(__file__, "rb")  # noqa: SIM115
        assert other.fileno() == number
    task.cancel()
    until(task.done)
    assert task.cancelled()
    transport.abort()
    if closed:
        assert other.tell() == 0
        other.close()
    else:
        assert len(collect(peer)) == much.tell() > 0


def test_other_transports_are_refused(run, loop, file):
    class Transport(asyncio.Transport):
        def is_closing(self):
            return False

    with pytest.raises(RuntimeError, match="^sendfile is not supported for transport <"):
        run(loop.sendfile(Transport(), file))


# Sockets


def test_cancelled(loop, start, socket_pair, until, turn, tmp_path):
    ours, peer = socket_pair()
    path = tmp_path / "much"
    path.write_bytes(bytes(10000000))
    with open(str(path), "rb") as file:
        task = start(loop.sock_sendfile(ours, file))
        task.cancel()
        until(task.done)
        turn()
    assert task.cancelled() and not loop.remove_writer(ours)


# Refused


def refused_by(loop, attempt, name, *args, kind=socket.SOCK_STREAM, **options):
    async def function(loop):
        ours, peer = socket.socketpair(socket.AF_UNIX, kind)
        with ours, peer:
            ours.setblocking(False)
            if name == "sock_sendfile":
                return await loop.sock_sendfile(ours, *args, **options)
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
            try:
                return await loop.sendfile(transport, *args, **options)
            finally:
                transport.abort()
                await asyncio.sleep(0)

    return attempt(function, loop)


FAULTY = [(-1,), ("x",), (None,), (1.5,), (0, 0), (0, -1), (0, "x"), (0, 1.5), (5, False)]


@pytest.mark.parametrize("args", FAULTY, ids=repr)
def test_faulty_ranges(as_asyncio, attempt, file, args):
    result = as_asyncio(lambda loop: refused_by(loop, attempt, "sock_sendfile", file, *args))["result"]
    assert issubclass(result[0], (ValueError, TypeError))


def test_text_file(as_asyncio, attempt, file):
    with open(file.name, "r", encoding="latin-1") as text:
        result = as_asyncio(lambda loop: refused_by(loop, attempt, "sock_sendfile", text))["result"]
    assert result == (ValueError, "file should be opened in binary mode")


def test_datagram_socket(as_asyncio, attempt, file):
    result = as_asyncio(lambda loop: refused_by(loop, attempt, "sock_sendfile", file, kind=socket.SOCK_DGRAM))
    assert result["result"] == (ValueError, "only SOCK_STREAM type sockets are supported")


@pytest.mark.skipif(sys.version_info < (3, 11), reason="a message of the executor's")
@pytest.mark.parametrize("name", ["sock_sendfile", "sendfile"])
def test_no_file(as_asyncio, attempt, name):
    result = as_asyncio(lambda loop: refused_by(loop, attempt, name, None))["result"]
    assert issubclass(result[0], Exception)


# The program closes the socket, and the number becomes that of another connection


def reuse(sock, stack):
    """Closes the socket; returns a pair whose first socket has its number."""
    number = sock.fileno()
    sock.close()
    pair = socket.socketpair()
    if pair[0].fileno() != number:
        os.dup2(pair[0].fileno(), number)
        pair[0].close()
        pair = socket.socket(fileno=number), pair[1]
    for each in pair:
        stack.enter_context(each).setblocking(False)
    return pair


@pytest.fixture
def given(loop, run, recorder, socket_pair, abandoned):
    """A transport that was given its socket, which the program keeps; the protocol, the socket, and the peer."""
    ours, peer = socket_pair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 5000)
    transport, protocol = run(loop.create_connection(recorder, sock=ours))
    abandoned.add(transport)
    return transport, protocol, ours, peer


def test_socket_that_was_closed_before(loop, run, given, file, turn, reports):
    transport, _, ours, _ = given
    with contextlib.ExitStack() as stack:
        others = reuse(ours, stack)
        with contextlib.suppress(OSError, RuntimeError):
            run(asyncio.wait_for(loop.sendfile(transport, file), 20))
        turn()
        with pytest.raises(BlockingIOError):
            others[1].recv(1)
        transport.abort()
        turn()
        turn()


def test_socket_that_is_closed_meanwhile(loop, run, given, file, start, turn, until, reports, recorder, native):
    """asyncio's transport then reads from the other connection."""
    transport, protocol, ours, _ = given
    native(transport)
    task = start(loop.sendfile(transport, file))
    assert not task.done()
    with contextlib.ExitStack() as stack:
        mine, theirs = reuse(ours, stack)
        other, heard = run(loop.create_connection(recorder, sock=mine))
        task.cancel()
        until(task.done)
        theirs.send(b"still there")
        until(lambda: heard.data or heard.lost)
        assert heard.data == b"still there" and not heard.lost
        until(lambda: protocol.lost)
        assert isinstance(protocol.lost[0], OSError)
        other.abort()
        turn()
        turn()
