"""Flow control of writes, the same for sockets, pipes and TLS: limits, pause_writing and resume_writing."""

import asyncio
import contextlib
import os
import socket
import ssl
import sys

import pytest

INTERRUPTIONS = pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
# Before 3.11 the transport below counts TLS writes; since then TLS counts too, with its own limits.
TLS_COUNTS = sys.version_info >= (3, 11)
MUCH = 4000000  # more than the kernel and the transport hold


class PipeEnd:
    """The read end of a pipe, with what `collect` needs of a socket."""

    def __init__(self, descriptor):
        os.set_blocking(descriptor, False)
        self.descriptor = descriptor

    def recv(self, size):
        return os.read(self.descriptor, size)


class TLSEnd:
    """The other end of a TLS connection, driven by hand."""

    def __init__(self, sock, context):
        self.sock = sock
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=True)

    def attempt(self, function, *args):
        """The function's result; BlockingIOError if more data must arrive."""
        while True:
            try:
                result = function(*args)
            except ssl.SSLWantReadError:
                result = None
            except ssl.SSLEOFError:
                result = b""
            out = self.outgoing.read()
            if out:
                with contextlib.suppress(ConnectionError):
                    self.sock.send(out)
            if result is not None:
                return result
            try:
                data = self.sock.recv(1 << 18)
            except ConnectionError:
                data = b""
            if data:
                self.incoming.write(data)
            else:
                self.incoming.write_eof()

    def shake_hands(self):
        with contextlib.suppress(BlockingIOError):
            self.attempt(lambda: self.tls.do_handshake() or True)
            return True

    def recv(self, size):
        data = self.attempt(self.tls.read, size)
        if not data:  # close_notify, which is answered
            with contextlib.suppress(ssl.SSLError, ConnectionError):
                self.tls.unwrap()
                self.sock.send(self.outgoing.read())
        return data


@pytest.fixture(scope="session")
def tls_contexts():
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.issue_cert("localhost").configure_cert(server)
    authority.configure_trust(client)
    return server, client


@pytest.fixture(params=["socket", "pipe", "socket as a pipe", "tls"])
def medium(request, loop_kind):
    if request.param == "tls" and loop_kind == "asyncio" and sys.version_info < (3, 11):
        pytest.skip("asyncio's TLS was rewritten for 3.11")
    return request.param


@pytest.fixture
def writing(loop, run, turn, until, connect, abandoned, socket_pair, sockets, medium, request):
    """writing(protocol): a transport that writes, and the other end to read from."""
    with contextlib.ExitStack() as stack:

        def open_pipe():
            if medium == "pipe":
                reader, writer = os.pipe()
                stack.callback(os.close, reader)
            else:
                first, second = socket.socketpair()
                reader, writer = sockets(first).fileno(), second.detach()
            return PipeEnd(reader), stack.enter_context(open(writer, "wb", buffering=0))

        def open_tls(protocol):
            server, client = request.getfixturevalue("tls_contexts")
            ours, theirs = socket_pair("unix")
            peer = TLSEnd(theirs, server)
            connecting = loop.create_task(
                loop.create_connection(lambda: protocol, sock=ours, ssl=client, server_hostname="localhost")
            )
            until(peer.shake_hands)
            return run(connecting)[0], peer

        def writing(protocol):
            if medium == "socket":
                return connect(protocol)
            if medium == "tls":
                transport, peer = open_tls(protocol)
            else:
                peer, file = open_pipe()
                transport, _ = run(loop.connect_write_pipe(lambda: protocol, file))
            abandoned.add(transport)
            return transport, peer

        yield writing
        for transport in list(abandoned):
            if not loop.is_closed() and transport.get_protocol() is not None:
                transport.abort()
        if not loop.is_closed():
            turn()
            turn()


@pytest.fixture
def bytes_are_counted(medium):
    """For tests of amounts: TLS counts its records."""
    if medium == "tls":
        pytest.skip("tests/tls/test_data.py has what TLS counts")


@pytest.fixture
def fill(medium):
    """Writes more than the kernel and the transport hold; returns everything written. With TLS the transport below
    takes all of a first write, and pauses at the second.
    """

    times = 2 if medium == "tls" and TLS_COUNTS else 1

    def fill(transport, data=bytes(MUCH)):
        for _ in range(times):
            transport.write(data)
        return data * times

    return fill


@pytest.fixture
def raiser():
    """raiser(error): a function that raises it, for any arguments."""

    def raiser(error):
        def raise_it(*args):
            raise error("on purpose")

        return raise_it

    return raiser


def noted(protocol):
    """The calls, without the data that a TLS peer never sends."""
    return [name for name in protocol.calls if name != "connection_made"]


# Limits


@pytest.fixture
def limits(medium):
    """The usual ones."""
    return (512 * 1024 // 4, 512 * 1024) if medium == "tls" and TLS_COUNTS else (16384, 65536)


def test_limits(writing, recorder, limits):
    transport, peer = writing(recorder())
    assert transport.get_write_buffer_limits() == limits
    for arguments, expected in (
        ({"high": 1000}, (250, 1000)),
        ({"low": 1000}, (1000, 4000)),
        ({"high": 5, "low": 4}, (4, 5)),
        ({"high": 0}, (0, 0)),
        ({}, limits),
        ({"high": 2**40, "low": 2**33}, (2**33, 2**40)),
    ):
        transport.set_write_buffer_limits(**arguments)
        assert transport.get_write_buffer_limits() == expected


REFUSED = [(1, 2), (-1, None), (None, -1), (5, -1), ("x", None), (None, "x")]


@pytest.mark.parametrize("values", REFUSED, ids=str)
@pytest.mark.parametrize("pipe", [False, True], ids=["socket", "pipe"])
def test_limits_that_are_refused(as_asyncio, pipe, values):
    """TLS limits are in tests/tls/test_connect.py."""

    def body(loop):
        ours, peer = socket.socketpair()
        with peer, ours:
            if pipe:
                file = open(os.dup(ours.fileno()), "wb", buffering=0)  # noqa: SIM115, the transport closes it
                connecting = loop.connect_write_pipe(asyncio.BaseProtocol, file)
            else:
                connecting = loop.create_connection(asyncio.Protocol, sock=ours)
            transport, _ = loop.run_until_complete(connecting)
            try:
                transport.set_write_buffer_limits(*values)
                return transport.get_write_buffer_limits()
            finally:
                transport.close()
                loop.run_until_complete(asyncio.sleep(0))

    as_asyncio(body)


def test_size_of_the_buffer(bytes_are_counted, writing, recorder, clog, collect):
    transport, peer = writing(recorder())
    assert transport.get_write_buffer_size() == 0
    data = clog(transport)
    size = transport.get_write_buffer_size()
    assert 0 < size <= len(data)
    transport.write(b"12345")
    assert transport.get_write_buffer_size() == size + 5
    transport.writelines([b"12", bytearray(b"345")])
    assert transport.get_write_buffer_size() == size + 10
    collect(peer, len(data) + 10)
    assert transport.get_write_buffer_size() == 0


# Pausing and resuming


def test_protocol_is_paused_above_the_mark_and_resumed_below(writing, fill, recorder, collect, turn, limits):
    sizes = []
    protocol = recorder(resume_writing=lambda self: sizes.append(self.transport.get_write_buffer_size()))
    transport, peer = writing(protocol)
    data = os.urandom(MUCH)
    first = fill(transport, data)
    assert noted(protocol) == ["pause_writing"]
    assert transport.get_write_buffer_size() > limits[1]
    second = fill(transport, data)
    turn()
    assert noted(protocol) == ["pause_writing"]
    assert collect(peer, len(first + second)) == first + second
    assert noted(protocol) == ["pause_writing", "resume_writing"]
    assert len(sizes) == 1 and sizes[0] <= limits[0]


def test_nothing_is_paused_at_the_mark_itself(bytes_are_counted, writing, recorder, clog):
    protocol = recorder()
    transport, peer = writing(protocol)
    clog(transport)
    high = transport.get_write_buffer_size() + 100
    transport.set_write_buffer_limits(high)
    before = protocol.calls.count("pause_writing")
    transport.write(bytes(100))
    assert transport.get_write_buffer_size() == high
    assert protocol.calls.count("pause_writing") == before
    transport.write(b"x")
    assert protocol.calls.count("pause_writing") == before + 1


def test_no_mark_at_all(writing, recorder, clog):
    protocol = recorder()
    transport, peer = writing(protocol)
    transport.set_write_buffer_limits(high=float("inf"), low=0)
    clog(transport)
    assert noted(protocol) == []


def test_mark_that_is_no_number(writing, recorder, clog, loop_kind, medium):
    """asyncio fails at each write then."""
    if loop_kind == "asyncio" or (medium == "tls" and not TLS_COUNTS):
        pytest.skip("it looks at the mark later")

    class Mark:
        def __ge__(self, other):
            return True

    transport, peer = writing(recorder())
    limits = transport.get_write_buffer_limits()
    with pytest.raises(TypeError):
        transport.set_write_buffer_limits(high=Mark(), low=0)
    assert transport.get_write_buffer_limits() == limits


def test_lowering_the_mark_pauses_at_once(writing, recorder, clog):
    protocol = recorder()
    transport, peer = writing(protocol)
    transport.set_write_buffer_limits(1 << 30)
    clog(transport)
    assert "pause_writing" not in protocol.calls
    transport.set_write_buffer_limits(0)
    assert protocol.calls[-1] == "pause_writing"


def test_mark_of_zero_resumes_when_all_is_sent(writing, recorder, clog, collect, medium):
    sizes = []
    protocol = recorder(resume_writing=lambda self: sizes.append(self.transport.get_write_buffer_size()))
    transport, peer = writing(protocol)
    transport.set_write_buffer_limits(0)
    data = clog(transport)
    collect(peer, len(data))
    assert sizes == [0] or (medium == "tls" and sizes and not any(sizes))  # asyncio's may be paused several times


def test_resume_at_the_low_mark_or_below(writing, fill, recorder, collect):
    sizes = []
    protocol = recorder(resume_writing=lambda self: sizes.append(self.transport.get_write_buffer_size()))
    transport, peer = writing(protocol)
    transport.set_write_buffer_limits(high=3000000, low=1500000)
    written = fill(transport, bytes(6000000))
    collect(peer, len(written))
    assert len(sizes) == 1 and sizes[0] <= 1500000


def test_resume_writing_may_write_and_be_paused_again(writing, fill, recorder, collect):
    left, written = [3], []

    def refill(self):
        if left[0]:
            left[0] -= 1
            written.append(fill(self.transport))

    protocol = recorder(resume_writing=refill)
    transport, peer = writing(protocol)
    written.append(fill(transport))
    assert len(collect(peer, 4 * len(written[0]))) == sum(map(len, written))
    assert noted(protocol) == ["pause_writing", "resume_writing"] * 4


@pytest.mark.parametrize("end", ["close", "abort"])
def test_resume_writing_may_end_the_connection(writing, fill, recorder, collect, until, native, medium, end):
    protocol = recorder(resume_writing=lambda self: getattr(self.transport, end)())
    transport, peer = writing(protocol)
    native(transport, before=(3, 15) if medium == "socket" else (4,))  # connection_lost() was called twice
    written = fill(transport)
    got = collect(peer)
    until(lambda: protocol.lost)
    assert protocol.lost == [None]
    assert len(got) == len(written) or end == "abort"


@pytest.mark.parametrize("end", ["close", "abort"])
def test_pause_writing_may_end_the_connection(writing, fill, recorder, collect, until, end):
    protocol = recorder(pause_writing=lambda self: getattr(self.transport, end)())
    transport, peer = writing(protocol)
    written = fill(transport)
    got = collect(peer)
    until(lambda: protocol.lost)
    assert protocol.lost == [None]
    assert len(got) == len(written) or end == "abort"


def test_no_resume_after_an_abort(writing, fill, recorder, turn, until):
    protocol = recorder()
    transport, peer = writing(protocol)
    fill(transport)
    transport.abort()
    until(lambda: protocol.lost)
    assert noted(protocol) == ["pause_writing", "connection_lost"]


@pytest.mark.parametrize("name", ["pause_writing", "resume_writing"])
def test_exception_is_reported_and_the_connection_goes_on(
    writing, fill, recorder, reports, collect, raiser, medium, name
):
    protocol = recorder(**{name: raiser(ZeroDivisionError)})
    transport, peer = writing(protocol)
    written = fill(transport)
    assert collect(peer, len(written)) == written
    (report,) = reports
    assert type(report.pop("exception")) is ZeroDivisionError
    assert report.pop("message").endswith("%s() failed" % name)
    if medium != "tls":  # whose versions name one layer or another
        assert report["transport"] is transport and report["protocol"] is protocol
    assert noted(protocol) == ["pause_writing", "resume_writing"]
    assert not transport.is_closing()


@INTERRUPTIONS
def test_interruption_in_pause_writing_comes_out_of_write(loop, writing, fill, recorder, collect, raiser, interruption):
    protocol = recorder(pause_writing=raiser(interruption))
    transport, peer = writing(protocol)
    seen = []

    def write():
        loop.stop()
        with pytest.raises(interruption, match="on purpose"):
            fill(transport)
        seen.append(True)

    loop.call_soon(write)
    loop.run_forever()
    assert seen and collect(peer, MUCH) == bytes(MUCH)


@INTERRUPTIONS
def test_interruption_in_resume_writing_leaves_the_loop(writing, fill, recorder, collect, until, raiser, interruption):
    protocol = recorder(resume_writing=raiser(interruption))
    transport, peer = writing(protocol)
    written = fill(transport)
    with pytest.raises(interruption, match="on purpose"):
        collect(peer, len(written) + 1)
    assert not transport.is_closing()
    protocol.hooks.clear()
    transport.abort()
    until(lambda: protocol.lost)
