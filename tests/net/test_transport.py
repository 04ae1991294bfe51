"""What all transports have in common: class and attributes, extra info, repr(), the context of callbacks, and the
warning if nobody closes them.
"""

import asyncio
import contextlib
import contextvars
import errno
import gc
import os
import re
import resource
import socket
import sys
import unittest.mock
import warnings
import weakref

import pytest

VAR = contextvars.ContextVar("VAR", default="unset")


# What a transport is


def test_is_a_transport_of_asyncio(connect, recorder, kind):
    transport, peer = connect(recorder(), kind)
    assert isinstance(transport, asyncio.Transport)
    assert isinstance(transport, (asyncio.ReadTransport, asyncio.WriteTransport, asyncio.BaseTransport))
    assert isinstance(transport, asyncio.transports._FlowControlMixin)
    assert not isinstance(transport, asyncio.DatagramTransport)


def test_weak_references_and_attributes(connect, recorder):
    transport, peer = connect(recorder())
    assert weakref.ref(transport)() is transport
    transport.mine = 5
    assert transport.mine == 5
    assert {transport: 1}[transport] == 1


def test_no_reference_is_left_after_the_end(connect, recorder, turn, kind, native):
    """It is in no reference cycle, except for those of the protocol."""
    protocol = recorder()
    transport, peer = connect(protocol, kind)
    native(transport)
    gone = weakref.ref(transport), weakref.ref(protocol)
    gc.collect()
    gc.disable()
    try:
        transport.write(b"x")
        transport.close()
        turn()
        turn()
        protocol.transport = None
        del transport, protocol
        assert [ref() for ref in gone] == [None, None]
    finally:
        gc.enable()


# asyncio's private names that aiohttp, asyncssh, distributed and others have been seen to read.
ATTRIBUTES = {
    "_sock": lambda transport, protocol, loop: (
        transport._sock.fileno() == transport.get_extra_info("socket").fileno()
        and isinstance(transport._sock, socket.socket)
    ),
    "_sock_fd": lambda transport, protocol, loop: transport._sock_fd == transport.get_extra_info("socket").fileno(),
    "_protocol": lambda transport, protocol, loop: transport._protocol is protocol,
    "_loop": lambda transport, protocol, loop: transport._loop is loop,
    "_protocol_paused": lambda transport, protocol, loop: transport._protocol_paused is False,
    "_paused": lambda transport, protocol, loop: transport._paused is False,
    "_closing": lambda transport, protocol, loop: transport._closing is False,
    "_conn_lost": lambda transport, protocol, loop: transport._conn_lost == 0,
    "_eof": lambda transport, protocol, loop: transport._eof is False,
    "_server": lambda transport, protocol, loop: transport._server is None,
    "_extra": lambda transport, protocol, loop: "socket" in transport._extra,
    "_high_water": lambda transport, protocol, loop: transport._high_water == 65536,
    "_low_water": lambda transport, protocol, loop: transport._low_water == 16384,
    "_start_tls_compatible": lambda transport, protocol, loop: transport._start_tls_compatible is True,
    "_sendfile_compatible": lambda transport, protocol, loop: (
        transport._sendfile_compatible is asyncio.constants._SendfileMode.TRY_NATIVE
    ),
    "max_size": lambda transport, protocol, loop: transport.max_size == 262144,
}


@pytest.mark.parametrize("name", list(ATTRIBUTES))
def test_private_attributes_that_libraries_read(loop, connect, recorder, name):
    protocol = recorder()
    transport, peer = connect(protocol)
    assert ATTRIBUTES[name](transport, protocol, loop)


def test_private_attributes_change_with_the_state(connect, recorder, clog, turn):
    protocol = recorder()
    transport, peer = connect(protocol)
    transport.pause_reading()
    assert transport._paused is True
    transport.set_write_buffer_limits(0)
    clog(transport)
    assert transport._protocol_paused is True
    transport.abort()
    assert transport._closing is True and transport._conn_lost == 1
    turn()
    assert (transport._sock, transport._protocol, transport._loop) == (None, None, None)


# get_extra_info


def test_extra_info_of_tcp(connect, recorder):
    transport, peer = connect(recorder(), "tcp")
    assert transport.get_extra_info("sockname") == peer.getpeername()
    assert transport.get_extra_info("peername") == peer.getsockname()


def test_extra_info_of_tcp_over_ipv6(connect, recorder, ipv6):
    transport, peer = connect(recorder(), "tcp6")
    assert transport.get_extra_info("sockname") == peer.getpeername()
    assert transport.get_extra_info("peername") == peer.getsockname()
    assert len(transport.get_extra_info("peername")) == 4


def test_extra_info_of_unix(connect, recorder):
    transport, peer = connect(recorder(), "unix")
    assert transport.get_extra_info("sockname") == peer.getpeername()
    assert transport.get_extra_info("peername") == peer.getsockname()


def test_extra_info_that_is_not_there(connect, recorder):
    transport, peer = connect(recorder())
    assert transport.get_extra_info("cipher") is None
    assert transport.get_extra_info("cipher", 5) == 5
    assert transport.get_extra_info("cipher", default=6) == 6


def test_extra_info_holds_a_transport_socket(connect, recorder):
    transport, peer = connect(recorder(), "tcp")
    sock = transport.get_extra_info("socket")
    assert isinstance(sock, asyncio.trsock.TransportSocket)
    assert transport.get_extra_info("socket") is sock
    assert (sock.family, sock.type) == (socket.AF_INET, socket.SOCK_STREAM)
    assert sock.getsockname() == peer.getpeername()
    assert sock.gettimeout() == 0
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1


def test_extra_info_outlives_the_connection(connect, recorder, turn, kind):
    transport, peer = connect(recorder(), kind)
    names = "sockname", "peername", "socket"
    before = [transport.get_extra_info(name) for name in names]
    transport.close()
    assert [transport.get_extra_info(name) for name in names] == before
    turn()
    assert [transport.get_extra_info(name) for name in names] == before


def test_names_are_known_although_the_peer_has_gone(run, loop, recorder, listening, abandoned, until):
    listener = listening()
    client = socket.create_connection(listener.getsockname())
    name = client.getsockname()
    sock, _ = listener.accept()
    client.close()
    protocol = recorder()
    abandoned.add(run(loop.connect_accepted_socket(lambda: protocol, sock))[0])
    assert protocol.transport.get_extra_info("peername") == name
    until(lambda: protocol.lost)


def test_no_delay_is_set(connect, recorder):
    transport, peer = connect(recorder(), "tcp")
    sock = transport.get_extra_info("socket")
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) or sock.proto != socket.IPPROTO_TCP


def test_no_delay_is_set_whatever_the_socket_says_of_its_protocol(run, loop, recorder, socket_pair, abandoned, native):
    ours, peer = socket_pair("tcp")
    ours = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=ours.detach())
    transport, _ = run(loop.create_connection(recorder, sock=ours))
    abandoned.add(transport)
    native(transport)
    assert transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


# repr


def state_of(transport):
    """The state in repr(), without the class name."""
    return re.match(r"<\S+ (.*)>$", repr(transport)).group(1)


def test_repr(connect, recorder, turn, clog):
    transport, peer = connect(recorder(eof_received=lambda self: True))
    turn()
    fd = transport.get_extra_info("socket").fileno()
    assert state_of(transport) == "fd=%d read=polling write=<idle, bufsize=0>" % fd
    transport.pause_reading()
    assert state_of(transport) == "fd=%d read=idle write=<idle, bufsize=0>" % fd
    clog(transport)
    size = transport.get_write_buffer_size()
    assert state_of(transport) == "fd=%d read=idle write=<polling, bufsize=%d>" % (fd, size)
    transport.close()
    assert state_of(transport) == "closing fd=%d read=idle write=<polling, bufsize=%d>" % (fd, size)
    transport.abort()
    assert state_of(transport) == "closing fd=%d read=idle write=<idle, bufsize=0>" % fd
    turn()
    assert state_of(transport) == "closed fd=%d" % fd


def test_repr_after_the_loop_was_closed(loop, connect, recorder):
    transport, peer = connect(recorder())
    fd = transport.get_extra_info("socket").fileno()
    loop.close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        assert state_of(transport) == "fd=%d" % fd
        del transport
        gc.collect()


# Unclosed transports


def dropped(loop, recorder, ours, before_drop):
    """Creates a transport, and returns the warnings from dropping it."""
    transport = loop.run_until_complete(loop.create_connection(recorder, sock=ours))[0]
    before_drop(transport)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gc.collect()
        caught.clear()
        del transport
        gc.collect()
    return [warning for warning in caught if warning.category is ResourceWarning]


def test_transport_dropped_after_the_loop_was_closed(loop, recorder, socket_pair, kind):
    ours, peer = socket_pair(kind)
    (warning,) = dropped(loop, recorder, ours, lambda transport: loop.close())
    assert re.match(r"unclosed transport <.* fd=\d+", str(warning.message))
    peer.settimeout(20)
    assert peer.recv(1) == b""


def test_transport_dropped_while_it_does_not_read(loop, recorder, socket_pair, collect, kind):
    ours, peer = socket_pair(kind)
    (warning,) = dropped(loop, recorder, ours, lambda transport: transport.pause_reading())
    assert re.match(r"unclosed transport <.* fd=\d+ read=idle", str(warning.message))
    assert collect(peer) == b""


def test_reading_transport_is_kept_by_the_loop(loop, run, recorder, socket_pair, until, abandoned):
    ours, peer = socket_pair()

    async def make():
        transport, protocol = await loop.create_connection(recorder, sock=ours)
        abandoned.add(transport)
        protocol.transport = None
        return weakref.ref(protocol), protocol.chunks

    gone, seen = run(make())
    gc.collect()
    assert gone() is not None
    peer.send(b"x")
    until(lambda: seen)
    assert seen == [b"x"]


def test_closed_transport_warns_of_nothing(loop, run, recorder, socket_pair, turn):
    ours, peer = socket_pair()
    transport, _ = run(loop.create_connection(recorder, sock=ours))
    transport.close()
    turn()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del transport
        gc.collect()


# Contexts


def test_callbacks_run_in_the_context_of_the_connection(
    run, loop, recorder, socket_pair, until, abandoned, collect, kind
):
    ours, peer = socket_pair(kind)
    seen = {}

    def note(name):
        def noting(self, *args):
            seen[name] = VAR.get()

        return noting

    names = ["connection_made", "data_received", "eof_received", "connection_lost"]
    protocol = recorder(**{name: note(name) for name in names})

    async def main():
        VAR.set("connection")
        abandoned.add((await loop.create_connection(lambda: protocol, sock=ours))[0])
        VAR.set("later")

    run(main())
    peer.send(b"x")
    until(lambda: protocol.data)
    peer.close()
    until(lambda: protocol.lost)
    assert {name: seen[name] for name in names[:3]} == dict.fromkeys(names[:3], "connection")
    assert seen["connection_lost"] == "connection"


def test_callbacks_of_one_connection_share_a_context(run, loop, recorder, socket_pair, until, abandoned, native):
    ours, peer = socket_pair()
    seen = []

    def note(self, *args):
        seen.append(VAR.get())
        VAR.set(len(seen))

    protocol = recorder(connection_made=note, data_received=note, eof_received=note, connection_lost=note)
    abandoned.add(run(loop.create_connection(lambda: protocol, sock=ours))[0])
    native(protocol.transport)
    peer.send(b"x")
    until(lambda: protocol.data)
    peer.close()
    until(lambda: protocol.lost)
    assert seen == ["unset", 1, 2, 3]
    assert VAR.get() == "unset"


def test_context_does_not_follow_who_resumes_reading(run, loop, connect, recorder, until, native):
    seen = []
    protocol = recorder(data_received=lambda self, data: seen.append(VAR.get()))
    transport, peer = connect(protocol)
    native(transport)
    transport.pause_reading()
    peer.send(b"x")

    async def resume():
        VAR.set("resumer")
        transport.resume_reading()

    run(resume())
    until(lambda: seen)
    assert seen == ["unset"]


def test_connection_lost_runs_in_the_context_of_the_connection_whoever_closes(run, connect, recorder, until, native):
    seen = []
    protocol = recorder(connection_lost=lambda self, exc: seen.append(VAR.get()))
    transport, peer = connect(protocol)
    native(transport)

    async def close():
        VAR.set("closer")
        transport.close()

    run(close())
    until(lambda: seen)
    assert seen == ["unset"]


# Debug mode


def test_debug_mode_logs(loop, connect, recorder, until, caplog):
    loop.set_debug(True)
    loop.slow_callback_duration = 100
    protocol = recorder()
    with caplog.at_level("DEBUG", "asyncio"):
        transport, peer = connect(protocol)
        transport.pause_reading()
        transport.resume_reading()
        peer.close()
        until(lambda: protocol.lost)
    texts = "\n".join(caplog.messages)
    for text in ("pauses reading", "resumes reading", "received EOF"):
        assert re.search(r"<\S+ .*fd=\d+.*> %s" % text, texts), texts


# A start that fails


def stream_start(loop, ours, pipe):
    return loop.create_connection(asyncio.Protocol, sock=ours)


def datagram_start(loop, ours, pipe):
    ours.close()
    return loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))


def read_pipe_start(loop, ours, pipe):
    ours.close()
    return loop.connect_read_pipe(asyncio.Protocol, pipe[0])


def write_pipe_start(loop, ours, pipe):
    ours.close()
    return loop.connect_write_pipe(asyncio.BaseProtocol, pipe[1])


STARTS = [stream_start, datagram_start, read_pipe_start, write_pipe_start]


@pytest.fixture
def start_ends(monkeypatch, loop, loop_kind):
    """Creates a transport whose start raises the exception when it wakes its waiter; returns the result."""
    if loop_kind == "asyncio":
        pytest.skip("asyncio's maker waits for ever")

    def start_ends(start, exception, times=1):
        real, left = asyncio.futures._set_result_unless_cancelled, [exception] * times

        def failing(future, result):
            if left:
                raise left.pop()
            return real(future, result)

        monkeypatch.setattr(asyncio.futures, "_set_result_unless_cancelled", failing)
        ours, theirs = socket.socketpair()
        reading, writing = os.pipe()
        with theirs, open(reading, "rb", 0) as reader, open(writing, "wb", 0) as writer:
            task = loop.create_task(start(loop, ours, (reader, writer)))
            try:
                loop.run_until_complete(asyncio.wait([task], timeout=20))
            except KeyboardInterrupt:
                loop.run_until_complete(asyncio.wait([task], timeout=20))
                left.append("raised")
            assert task.done(), "waits for ever"
            if task.exception() is None:
                task.result()[0].close()
            loop.run_until_complete(asyncio.sleep(0))
            loop.run_until_complete(asyncio.sleep(0))
        return task.exception(), left

    return start_ends


@pytest.mark.parametrize("start", STARTS)
def test_failed_start_is_reported_to_the_caller(start_ends, reports, start):
    error = MemoryError()
    assert start_ends(start, error)[0] is error
    assert [report["exception"] for report in reports] == [error]


@pytest.mark.parametrize("start", STARTS)
def test_start_goes_on_after_a_keyboard_interrupt(start_ends, reports, start):
    error, left = start_ends(start, KeyboardInterrupt())
    assert error is None and left == ["raised"]
    assert reports == []


@pytest.mark.parametrize("error", [None, OSError("lost")])
def test_a_loop_without_memory_for_a_handle_calls_connection_lost(cloop, new_loop, recorder, socket_pair, error):
    """call_soon() fails as it does then."""

    class Failing(cloop.Loop):
        failing = False

        def call_soon(self, callback, *args, context=None):
            if self.failing:
                raise MemoryError
            return super().call_soon(callback, *args, context=context)

    loop = new_loop(Failing)
    ours, peer = socket_pair()
    transport, protocol = loop.run_until_complete(loop.create_connection(recorder, sock=ours))
    loop.failing = True
    kept = sys.getrefcount(error)
    transport._force_close(error)
    assert not protocol.lost
    loop._run_once()
    assert protocol.lost == [error]
    loop.failing = False
    transport = protocol = None
    gc.collect()
    assert error is None or sys.getrefcount(error) == kept


def test_write_after_the_program_has_closed_the_socket(loop, run, recorder, socket_pair, abandoned, until, reports):
    ours, peer = socket_pair("unix")
    protocol = recorder()
    transport, _ = run(loop.create_connection(lambda: protocol, sock=ours))
    abandoned.add(transport)
    ours.close()
    transport.write(b"x")
    until(lambda: protocol.lost)
    assert [exc.errno for exc in protocol.lost] == [errno.EBADF]


def test_number_of_a_socket_that_the_program_has_closed_is_free(
    loop, run, recorder, socket_pair, abandoned, until, loop_kind, reports
):
    """Another transport takes it; the first is told."""
    if loop_kind == "asyncio":
        pytest.skip("asyncio's selector does not notice")
    (ours, _), (again, peer) = socket_pair("unix"), socket_pair("unix")
    first, second = recorder(), recorder()
    abandoned.add(run(loop.create_connection(lambda: first, sock=ours))[0])
    number = ours.fileno()
    ours.close()
    sock = socket.socket(fileno=os.dup2(again.fileno(), number))
    abandoned.add(run(loop.create_connection(lambda: second, sock=sock))[0])
    peer.send(b"data")
    until(lambda: second.data == b"data" and first.lost)
    assert [exc.errno for exc in first.lost] == [errno.EBADF] and not second.lost


@pytest.mark.parametrize("owner", [asyncio.Transport, asyncio.BaseTransport], ids=lambda owner: owner.__name__)
def test_replaced_get_extra_info_is_called(connect, recorder, monkeypatch, owner, kind):
    """Transports of asyncio inherit it, so tests and tracers replace it in its public classes."""
    transport, peer = connect(recorder(), kind)
    before = transport.get_extra_info("sockname")
    original = owner.get_extra_info

    def traced(self, name, default=None):
        return "traced", self is transport, original(self, name, default)

    with monkeypatch.context() as patch:
        patch.setattr(owner, "get_extra_info", traced)
        assert transport.get_extra_info("sockname") == ("traced", True, before)
        assert transport.get_extra_info("nothing", default=5) == ("traced", True, 5)
        mock = unittest.mock.Mock(return_value="mocked")
        patch.setattr(owner, "get_extra_info", mock)
        assert transport.get_extra_info("peername") == "mocked"
        assert mock.mock_calls == [unittest.mock.call("peername")]
    assert transport.get_extra_info("sockname") == before


def test_socket_of_a_closed_transport_that_cannot_be_made(script, loop_kind):
    """Its descriptor may have the number that the transport's had, and is closed."""
    if loop_kind == "asyncio":
        pytest.skip("it keeps the object")
    text = """
        import os, socket, sys
        async def main():
            made = []
            class Protocol(asyncio.Protocol):
                def connection_made(self, transport):
                    made.append(transport)
            server = await asyncio.get_running_loop().create_server(Protocol, "127.0.0.1", 0)
            with socket.create_connection(server.sockets[0].getsockname()):
                while not made:
                    await asyncio.sleep(0)
                made[0].abort()
                while "closed" not in repr(made[0]):
                    await asyncio.sleep(0)
                def refuse(event, args):
                    if event == "socket.__new__" and armed:
                        raise LookupError
                armed = [1]
                close = socket.socket.close
                socket.socket.close = lambda self: close(self)  # what is replaced is called
                sys.addaudithook(refuse)
                before = len(os.listdir("/proc/self/fd"))
                for _ in range(3):
                    try:
                        made[0].get_extra_info("socket")
                    except LookupError:
                        print(len(os.listdir("/proc/self/fd")) - before)
                armed.clear()
            server.close()
        loop = new_loop()
        loop.run_until_complete(main())
        loop.close()
    """
    assert script(text) == "0\n" * 3


@pytest.fixture
def no_descriptors():
    """Takes all descriptors that the process has left."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = []

    def no_descriptors():
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))

    yield no_descriptors
    for fd in taken:
        os.close(fd)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_socket_of_a_closed_transport_takes_no_descriptor(connect, recorder, until, kind, no_descriptors):
    protocol = recorder()
    transport, peer = connect(protocol, kind)
    transport.close()
    until(lambda: protocol.lost)
    no_descriptors()
    sock = transport.get_extra_info("socket")
    assert (sock.fileno(), sock.family, sock.type) == (-1, peer.family, peer.type)
    assert sock.gettimeout() == 0 and transport.get_extra_info("socket") is sock
    assert repr(sock) == "<asyncio.TransportSocket fd=-1, family=%s, type=%s, proto=%d>" % (
        tuple(str(item) for item in (sock.family, sock.type)) + (sock.proto,)
    )
    with pytest.raises(OSError, match="Bad file descriptor"):
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE)
    sock._sock.close()
    assert sock._sock.detach() == -1


def test_an_exit_at_the_start_of_what_is_aborted(cloop, new_loop, recorder, socket_pair, monkeypatch):
    """call_soon() fails, so that one node has the start and the end."""

    class Failing(cloop.Loop):
        failing = False

        def call_soon(self, callback, *args, context=None):
            if self.failing:
                raise MemoryError
            return super().call_soon(callback, *args, context=context)

    def fails(future, result):
        monkeypatch.undo()
        raise KeyboardInterrupt

    loop = new_loop(Failing)
    ours, peer = socket_pair()
    protocol, waiter = recorder(), loop.create_future()
    transport = loop._make_socket_transport(ours, protocol, waiter)
    monkeypatch.setattr(asyncio.futures, "_set_result_unless_cancelled", fails)
    loop.failing = True
    transport.abort()
    loop.failing = False
    with pytest.raises(KeyboardInterrupt):
        loop._run_once()
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert protocol.lost == [None]
    waiter.cancel() if not waiter.done() else waiter.exception()


def test_names_that_are_no_text(connect, recorder):
    transport, peer = connect(recorder())
    with pytest.raises(TypeError):
        type(transport).__setattr__(transport, 5, "value")
    assert transport.get_extra_info(5) is None and transport.get_extra_info(5, "other") == "other"
    with pytest.raises(TypeError):
        transport.get_extra_info([])
