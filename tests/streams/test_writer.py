"""StreamWriter and StreamReaderProtocol on transports of the loop: writing, draining, every way to get a stream, and
what programs do to them.
"""

import asyncio
import contextlib
import gc
import os
import socket
import ssl
import sys
import warnings
from unittest import mock

import pytest

PLENTY = 8 * 1024 * 1024  # more than sockets and transports keep


class Both:
    """The streams of both ends of a connection; the server's writer is of our class."""

    def __init__(self, client, server):
        self.client_reader, self.client_writer = client
        self.reader, self.writer = server
        self.protocol = self.writer._protocol


@pytest.fixture(params=["tcp", "unix"])
def kind(request):
    return request.param


@pytest.fixture
def both(loop, turn, until, tmp_path, monkeypatch):
    """both(kind="tcp", **options): a server and a client."""
    monkeypatch.chdir(tmp_path)  # the path of the socket is short
    stack = contextlib.ExitStack()

    def both(kind="tcp", callback=None, **options):
        connected = []

        def client_connected(reader, writer):
            connected.append((reader, writer))
            return callback and callback(reader, writer)

        async def main():
            if kind == "unix":
                server = await asyncio.start_unix_server(client_connected, "socket", **options)
                client = await asyncio.open_unix_connection("socket", **options)
            else:
                server = await asyncio.start_server(client_connected, "127.0.0.1", 0, **options)
                client = await asyncio.open_connection(*server.sockets[0].getsockname(), **options)
            return server, client

        server, client = loop.run_until_complete(main())
        stack.callback(server.close)
        until(lambda: connected)
        stack.callback(client[1].transport.abort)
        stack.callback(connected[0][1].transport.abort)
        return Both(client, connected[0])

    yield both
    stack.close()
    if not loop.is_closed():
        turn()
        turn()


def step(coroutine):
    """The result of a coroutine that does not wait."""
    with pytest.raises(StopIteration) as caught:
        coroutine.send(None)
    return caught.value.value


# What it is


def test_its_type(both, kind, loop_kind, switched_off):
    ends = both(kind)
    ours = loop_kind != "asyncio" and not switched_off
    for writer, fast in (ends.writer, ours), (ends.client_writer, False):
        assert isinstance(writer, asyncio.StreamWriter)
        assert type(writer).__name__ == type(writer).__qualname__ == "StreamWriter"
        assert type(writer).__module__ == "asyncio.streams"
        draining = writer.drain()
        assert (type(draining).__name__ == "StreamOp") == fast
        draining.close()
        assert repr(writer) == "<StreamWriter transport=%r reader=%r>" % (writer.transport, writer._reader)


def test_attributes(both, loop):
    ends = both()
    writer = ends.writer
    assert writer._reader is ends.reader and writer._loop is loop
    assert writer.transport is writer._transport and writer._protocol is writer.transport.get_protocol()
    assert writer._protocol._client_connected_cb is not None
    writer.own = 5
    assert vars(writer)["own"] == 5 and vars(writer)["_transport"] is writer.transport
    assert isinstance(writer.get_extra_info("socket").fileno(), int)
    assert writer.get_extra_info("nothing", 5) == 5


def test_writes(both, kind, run):
    ends = both(kind)
    writer, reader = ends.writer, ends.client_reader
    for data in (b"bytes", bytearray(b"array"), memoryview(b"view")):
        assert writer.write(data) is None
    assert writer.write(data=b"name") is None
    assert writer.writelines([b"one", b"two"]) is None
    assert run(writer.drain()) is None
    assert writer.can_write_eof() is True and writer.write_eof() is None
    assert run(reader.read()) == b"bytesarrayviewnameonetwo"
    with pytest.raises(RuntimeError):
        writer.write(b"x")
    for call in (lambda: writer.write(), lambda: writer.write(b"a", b"b"), lambda: writer.write(text=b"a")):
        with pytest.raises(TypeError):
            call()
    with pytest.raises(TypeError):
        writer.write("text")
    with pytest.raises(TypeError):
        writer.drain(1)


def test_closes(both, run):
    ends = both()
    assert not ends.writer.is_closing()
    ends.writer.close()
    assert ends.writer.is_closing()
    assert run(ends.writer.wait_closed()) is None
    assert run(ends.client_reader.read()) == b""
    ends.client_writer.close()
    assert run(ends.client_writer.wait_closed()) is None
    with pytest.raises(ConnectionResetError, match="^Connection lost$"):
        run(ends.writer.drain())


def test_writes_and_reads_much(both, kind, run, loop):
    ends = both(kind)
    data = bytes(range(256)) * (PLENTY // 256)

    async def send():
        for at in range(0, PLENTY, 1 << 16):
            ends.writer.write(data[at : at + (1 << 16)])
            await ends.writer.drain()
        ends.writer.close()

    async def main():
        sending = loop.create_task(send())
        while not ends.protocol._paused:
            await asyncio.sleep(0)
        got = await ends.client_reader.readexactly(PLENTY // 2)
        got += await ends.client_reader.read()
        await sending
        return got

    assert run(main()) == data


# Draining


def test_drains_at_once(both):
    ends = both()
    assert step(ends.writer.drain()) is None and step(ends.protocol._drain_helper()) is None
    ends.writer.write(b"x")
    assert step(ends.writer.drain()) is None
    ends.writer._reader = None
    assert step(ends.writer.drain()) is None


@pytest.mark.parametrize("what", ["StreamWriter.drain", "FlowControlMixin._drain_helper"])
def test_coroutines(both, run, loop, what):
    ends = both()
    name = what.split(".")[1]
    make = getattr(ends.writer if name == "drain" else ends.protocol, name)
    coroutine = make()
    assert asyncio.iscoroutine(coroutine) and coroutine.__qualname__ == what and coroutine.__name__ == name
    assert repr(coroutine).startswith("<coroutine object %s at" % what)
    coroutine.close()
    with pytest.raises(RuntimeError, match="^cannot reuse already awaited coroutine$"):
        coroutine.send(None)
    with pytest.warns(RuntimeWarning, match="^coroutine '%s' was never awaited$" % what):
        make()
        gc.collect()
    assert run(loop.create_task(make())) is None

    async def main():
        assert await asyncio.wait_for(make(), 5) is None
        return await asyncio.gather(make(), asyncio.shield(make()))

    assert run(main()) == [None, None]
    for error in ValueError("x"), asyncio.CancelledError():
        with pytest.raises(type(error)):
            make().throw(error)


def test_drain_raises_the_readers_exception(both, run):
    ends = both()
    error = ValueError("x")
    ends.reader.set_exception(error)
    for _ in range(2):
        with pytest.raises(ValueError) as caught:
            run(ends.writer.drain())
        assert caught.value is error


def test_drain_waits_while_writing_is_paused(both, loop, run, turn):
    ends = both()
    ends.protocol.pause_writing()
    draining = loop.create_task(ends.writer.drain())
    for _ in range(3):
        turn()
    assert not draining.done()
    ends.protocol.resume_writing()
    assert run(draining) is None


@pytest.mark.parametrize("ending", ["resume", "lost", "lost with an exception", "cancel"])
def test_several_drain(as_asyncio, ending):
    """asyncio before 3.10 allows only one."""

    async def main(loop):
        ours, theirs = socket.socketpair()
        connected = []
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader, lambda *streams: connected.append(streams))
        transport, _ = await loop.create_connection(lambda: protocol, sock=ours)
        writer = connected[0][1]
        protocol.pause_writing()
        tasks = [loop.create_task(writer.drain()) for _ in range(3)]
        tasks.append(loop.create_task(protocol._drain_helper()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if ending == "resume":
            protocol.resume_writing()
        elif ending == "lost":
            protocol.connection_lost(None)
        elif ending == "lost with an exception":
            protocol.connection_lost(OSError("x"))
        else:
            tasks[0].cancel()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            protocol.resume_writing()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        transport.abort()
        theirs.close()
        await asyncio.sleep(0)
        protocol._transport = None
        return [(type(result), str(result)) for result in results]

    as_asyncio(lambda loop: loop.run_until_complete(main(loop)))


def test_drain_of_a_closing_transport_takes_a_turn(both, run, loop, turn):
    ends = both()
    ends.writer.close()
    draining = ends.writer.drain()
    assert draining.send(None) is None  # asyncio.sleep(0)
    turn()
    turn()
    with pytest.raises(ConnectionResetError, match="^Connection lost$"):
        draining.send(None)


def test_drain_of_a_lost_connection(both, run, until):
    ends = both()
    ends.client_writer.transport.abort()
    until(lambda: ends.reader.at_eof() or ends.reader.exception())

    async def main():
        while True:
            ends.writer.write(b"x")
            await ends.writer.drain()

    with pytest.raises(ConnectionError):
        run(asyncio.wait_for(main(), 5))


def test_transport_of_the_programs_own(both, run):
    ends = both()
    real, written = ends.writer._transport, []
    ends.writer._transport = mock.Mock(write=written.append, is_closing=lambda: False)
    ends.writer.write(b"x")
    assert written == [b"x"] and step(ends.writer.drain()) is None
    for answer in (5, "text", [], None):
        ends.writer._transport.is_closing = lambda answer=answer: answer
        assert run(ends.writer.drain()) is None
    ends.writer._transport.is_closing = mock.Mock(side_effect=KeyError)
    with pytest.raises(KeyError):
        run(ends.writer.drain())
    del ends.writer._transport
    with pytest.raises(AttributeError, match="_transport"):
        ends.writer.write(b"x")
    ends.writer._transport = real


@pytest.mark.parametrize("name", ["_transport", "_reader", "_protocol"])
@pytest.mark.parametrize("how", ["delete", "None", "5"])
def test_attributes_of_nonsense(both, run, name, how):
    def outcome(ends, run):
        before = getattr(ends.writer, name)
        if how == "delete":
            delattr(ends.writer, name)
        else:
            setattr(ends.writer, name, {"None": None, "5": 5}[how])
        try:
            return run(ends.writer.drain())
        except Exception as error:
            return type(error), str(error)
        finally:
            setattr(ends.writer, name, before)

    expected = {
        ("_reader", "None"): None,
        ("_transport", "5"): (AttributeError, "'int' object has no attribute 'is_closing'"),
        ("_reader", "5"): (AttributeError, "'int' object has no attribute 'exception'"),
        ("_protocol", "5"): (AttributeError, "'int' object has no attribute '_drain_helper'"),
        ("_transport", "None"): (AttributeError, "'NoneType' object has no attribute 'is_closing'"),
        ("_protocol", "None"): (AttributeError, "'NoneType' object has no attribute '_drain_helper'"),
    }
    found = outcome(both(), run)
    assert found == expected.get((name, how), (AttributeError, "'StreamWriter' object has no attribute '%s'" % name))


def test_reader_with_an_exception_of_its_own(both, run):
    class Reader(asyncio.StreamReader):
        def exception(self):
            return KeyError("its own")

    ends = both()
    ends.writer._reader = Reader(loop=ends.reader._loop)
    with pytest.raises(KeyError, match="its own"):
        run(ends.writer.drain())
    ends.writer._reader = ends.reader
    ends.reader.exception = lambda: KeyError("on the object")
    with pytest.raises(KeyError, match="on the object"):
        run(ends.writer.drain())


# What programs replace


REPLACED = [
    (asyncio.StreamWriter, "write", "writer"),
    (asyncio.StreamWriter, "drain", "writer"),
    (asyncio.StreamReaderProtocol, "_drain_helper", "protocol"),
    (asyncio.streams.FlowControlMixin, "_drain_helper", "protocol"),
    (asyncio.StreamReader, "exception", "reader"),
]


@pytest.mark.parametrize("place", ["class before", "class after", "instance", "its class"])
@pytest.mark.parametrize("cls, name, which", REPLACED)
def test_replaced(both, run, monkeypatch, cls, name, which, place):
    seen = []

    def wrap(original):
        if name.strip("_").startswith("drain"):

            async def method(*args):
                seen.append(name)
                return await original(*args)
        else:

            def method(*args):
                seen.append(name)
                return original(*args)

        return method

    def use(ends):
        ends.writer.write(b"x")
        run(ends.writer.drain())
        return list(seen)

    if place == "class before":
        monkeypatch.setattr(cls, name, wrap(getattr(cls, name)))
        assert use(both()) == [name]
        return
    ends = both()
    assert use(ends) == []
    target = getattr(ends, which)
    if place == "class after":
        monkeypatch.setattr(cls, name, wrap(getattr(cls, name)))
    elif place == "instance":
        monkeypatch.setattr(target, name, wrap(getattr(target, name)))
    else:
        target.__class__ = type("Other", (type(target),), {name: wrap(getattr(cls, name))})
    assert use(ends) == [name]
    monkeypatch.undo()
    assert len(use(ends)) == (2 if place == "its class" else 1)


@pytest.mark.parametrize("name", ["write", "drain"])
def test_replaced_by_a_mock(both, monkeypatch, name):
    ends = both()
    monkeypatch.setattr(asyncio.StreamWriter, name, mock.Mock(return_value="mocked"))
    assert getattr(ends.writer, name)(*[b"x"][: name == "write"]) == "mocked"
    assert getattr(asyncio.StreamWriter, name).call_count == 1


def test_subclasses_stay(run, loop, until):
    class Reader(asyncio.StreamReader):
        pass

    class Protocol(asyncio.StreamReaderProtocol):
        pass

    async def main():
        ours, theirs = socket.socketpair()
        reader = Reader()
        _, protocol = await loop.create_connection(lambda: Protocol(reader), sock=ours)
        writer = asyncio.StreamWriter(protocol._transport, protocol, reader, loop)
        assert (type(reader), type(protocol), type(writer)) == (Reader, Protocol, asyncio.StreamWriter)
        theirs.send(b"line\n")
        writer.write(b"reply")
        await writer.drain()
        assert (await reader.readline(), theirs.recv(5)) == (b"line\n", b"reply")
        writer.close()
        theirs.close()
        await writer.wait_closed()

    run(main())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_writer_made_by_its_class(both, loop, run):
    ends = both()
    made = type(ends.writer)(ends.client_writer.transport, ends.client_writer._protocol, ends.client_reader, loop)
    made.write(b"abc")
    assert step(made.drain()) is None and run(ends.reader.readexactly(3)) == b"abc"
    sub = type("Sub", (type(ends.writer),), {})(made.transport, made._protocol, ends.client_reader, loop)
    sub.write(b"abc")
    assert run(sub.drain()) is None and run(ends.reader.readexactly(3)) == b"abc"
    with pytest.raises(AttributeError, match="_transport"):
        type(ends.writer).__new__(type(ends.writer)).write(b"x")


@pytest.mark.parametrize("name", ["write", "drain"])
def test_writers_dict_taken_away(both, run, name):
    ends = both()
    kept = dict(vars(ends.writer))
    for how in ["clear", "replace"]:
        if how == "clear":
            vars(ends.writer).clear()
        else:
            ends.writer.__dict__ = {}
        with pytest.raises(AttributeError):
            result = getattr(ends.writer, name)(*[b"x"][: name == "write"])
            run(result)
        ends.writer.__dict__.update(kept)


def test_keys_of_the_dicts_that_run_python(both, run):
    class Evil:
        def __init__(self, name, action):
            self.name, self.action = name, action

        def __hash__(self):
            return hash(self.name)

        def __eq__(self, other):
            self.action()
            gc.collect()
            return False

    ends = both()
    for target in (ends.writer, ends.protocol):
        kept = dict(vars(target))
        for name in ["_reader", "_transport", "_protocol", "_paused", "_connection_lost", "_drain_helper"]:
            for action in (
                lambda target=target: vars(target).clear(),
                lambda target=target: setattr(target, "__dict__", {}),
            ):
                vars(target).clear()
                vars(target)[Evil(name, action)] = 1
                vars(target).update(kept)
                with contextlib.suppress(AttributeError, RuntimeError):
                    run(ends.writer.drain())
                with contextlib.suppress(AttributeError, RuntimeError):
                    ends.writer.write(b"x")
                target.__dict__ = dict(kept)
    assert run(ends.writer.drain()) is None


# Ways to get a stream


def test_callback_sees_the_protocol_as_on_asyncio(as_asyncio):
    async def main(loop):
        seen, writers = [], []

        def connected(reader, writer):
            writers.append(writer)  # or its destructor would warn, and close the transport
            protocol = writer._protocol
            seen.append((protocol._client_connected_cb is connected, isinstance(writer, asyncio.StreamWriter)))
            seen.append((reader._transport is writer.transport, protocol._stream_reader is reader))

        ours, theirs = socket.socketpair()
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader, connected)
        transport, _ = await loop.create_connection(lambda: protocol, sock=ours)
        seen.append((protocol._client_connected_cb is connected, protocol._strong_reader))
        transport.abort()
        theirs.close()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return seen

    as_asyncio(lambda loop: loop.run_until_complete(main(loop)))


@pytest.mark.parametrize("how", ["function", "coroutine", "future", "object", "raises", "coroutine raises"])
def test_callback(as_asyncio, how):
    async def main(loop):
        seen, writers = [], []

        def function(reader, writer):
            writers.append(writer)  # or its destructor would warn, and close the transport
            seen.append("called")
            if how == "raises":
                raise KeyError("x")
            return loop.create_future() if how == "future" else 5

        async def coroutine(reader, writer):
            writers.append(writer)
            seen.append("awaited")
            if how == "coroutine raises":
                raise KeyError("x")

        class Object:
            def __call__(self, reader, writer):
                return function(reader, writer)

        callback = Object() if how == "object" else coroutine if "coroutine" in how else function
        reports = []
        loop.set_exception_handler(
            lambda loop, context: reports.append((context["message"].split(" ")[0], repr(context.get("exception"))))
        )
        ours, theirs = socket.socketpair()
        protocol = asyncio.StreamReaderProtocol(asyncio.StreamReader(), callback)
        transport, _ = await loop.create_connection(lambda: protocol, sock=ours)
        for _ in range(4):
            await asyncio.sleep(0)
        transport.abort()
        theirs.close()
        for _ in range(4):
            await asyncio.sleep(0)
        gc.collect()
        return seen, reports if how != "coroutine raises" or sys.version_info >= (3, 12) else []

    as_asyncio(lambda loop: loop.run_until_complete(main(loop)))


def test_reader_gone_before_the_connection(loop, turn, reports):
    ours, theirs = socket.socketpair()
    reader = asyncio.StreamReader(loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    protocol._reject_connection = True  # like its weak reference's callback
    transport, _ = loop.run_until_complete(loop.create_connection(lambda: protocol, sock=ours))
    turn()
    turn()
    assert transport.is_closing() and theirs.recv(1) == b""
    theirs.close()
    assert ["was garbage collected" in context["message"] for context in reports] == [True]


def test_connect_read_pipe(run, loop):
    async def main():
        reading, writing = os.pipe()
        reader = asyncio.StreamReader(limit=10)
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await loop.connect_read_pipe(lambda: protocol, os.fdopen(reading, "rb", 0))
        with os.fdopen(writing, "wb", 0) as file:
            file.write(b"line\n" + bytes(100))
            assert await reader.readline() == b"line\n"
        assert await reader.readexactly(100) == bytes(100)
        assert await reader.read() == b""
        transport.close()
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    run(main())


def test_connect_write_pipe(run, loop):
    async def main():
        reading, writing = os.pipe()
        file = os.fdopen(writing, "wb", 0)
        transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, file)
        writer = asyncio.StreamWriter(transport, protocol, None, loop)
        writer.write(b"abc")
        await writer.drain()
        assert os.read(reading, 10) == b"abc"
        os.close(reading)
        writer.close()
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    run(main())


def test_subprocess(script):
    text = """
        import sys
        async def main():
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-c", "import sys; [print(line, end='', flush=True) or print('E' + line, end='', "
                "file=sys.stderr, flush=True) for line in sys.stdin]",
                stdin=-1, stdout=-1, stderr=-1, limit=100)
            assert isinstance(child.stdout, asyncio.StreamReader) and isinstance(child.stdin, asyncio.StreamWriter)
            child.stdin.write(b"one\\ntwo\\n")
            await child.stdin.drain()
            print(await child.stdout.readline(), await child.stdout.readuntil(b"w"), await child.stderr.readexactly(4))
            child.stdin.write(b"x" * 1000 + b"\\n")
            await child.stdin.drain()
            print(await child.stdout.readexactly(2))
            try:
                await child.stdout.readline()
            except ValueError:
                print("too long")
            child.stdin.close()
            await child.stdin.wait_closed()
            rest = await child.stdout.read(), await child.stderr.read()
            print(len(rest[1]), await child.wait())
        loop = new_loop()
        if sys.version_info < (3, 12):
            asyncio.set_event_loop(loop)
            asyncio.get_child_watcher()
        loop.run_until_complete(main())
        loop.close()
    """
    assert script(text).splitlines() == ["b'one\\n' b'tw' b'Eone'", "b'o\\n'", "too long", "1008 0"]


def tls_contexts():
    authority = pytest.importorskip("trustme").CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.issue_cert("localhost").configure_cert(server)
    authority.configure_trust(client)
    return server, client


@pytest.mark.skipif(not hasattr(asyncio.StreamWriter, "start_tls"), reason="from Python 3.11 on")
def test_start_tls(both, run, loop, until):
    server_context, client_context = tls_contexts()
    ends = both(limit=1000)

    async def main():
        ends.writer.write(b"go\n")
        assert await ends.client_reader.readline() == b"go\n"
        await asyncio.gather(
            ends.writer.start_tls(server_context),
            ends.client_writer.start_tls(client_context, server_hostname="localhost"),
        )
        for writer, other in (ends.writer, ends.client_reader), (ends.client_writer, ends.reader):
            assert writer.get_extra_info("ssl_object") is not None and other._transport is not writer.transport
            writer.write(b"line\n" + bytes(5000) + b"end")
            await writer.drain()
            assert await other.readline() == b"line\n"
            assert await other.readexactly(5000) == bytes(5000)
            assert await other.read(10) == b"end"
        ends.client_writer.close()
        assert await ends.reader.read() == b""
        ends.writer.close()
        for writer in (ends.client_writer, ends.writer):
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    run(asyncio.wait_for(main(), 10))


@pytest.mark.skipif(not hasattr(asyncio.StreamWriter, "start_tls"), reason="from Python 3.11 on")
@pytest.mark.parametrize("by", ["writer", "loop"])
def test_much_data_with_the_end_of_the_handshake(run, loop, loop_kind, by):
    """The reader pauses the transport below, and later resumes that of TLS."""
    asyncios = loop_kind == "asyncio" or os.environ.get("CLOOP_TLS") == "stock"
    if asyncios and hasattr(asyncio.StreamReader, "_replace_transport"):
        pytest.skip("asyncio hangs")
    server_context, client_context = tls_contexts()
    data, writers = bytes(100000), []
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(incoming, outgoing, server_hostname="localhost")

    async def main(ours, theirs):
        theirs.setblocking(False)
        reader = asyncio.StreamReader(limit=1000)
        protocol = asyncio.StreamReaderProtocol(reader, lambda _, writer: writers.append(writer))
        transport, _ = await loop.create_connection(lambda: protocol, sock=ours)
        starting = loop.create_task(
            writers[0].start_tls(server_context)
            if by == "writer"
            else loop.start_tls(transport, protocol, server_context, server_side=True)
        )
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                await loop.sock_sendall(theirs, outgoing.read())
                incoming.write(await loop.sock_recv(theirs, 65536))
        client.write(data)
        theirs.send(outgoing.read())
        secured = await starting or writers[0].transport
        assert await reader.readexactly(len(data)) == data
        client.write(b"more")
        theirs.send(outgoing.read())
        assert await reader.readexactly(4) == b"more"
        secured.abort()
        await asyncio.sleep(0)

    ours, theirs = socket.socketpair()
    with theirs:
        run(asyncio.wait_for(main(ours, theirs), 10))


@pytest.mark.skipif(not hasattr(asyncio.StreamWriter, "__del__"), reason="asyncio of this version says nothing")
@pytest.mark.parametrize("closed", [False, True])
def test_forgotten_writer(as_asyncio, closed):
    def body(loop):
        async def main():
            connected = []
            ours, theirs = socket.socketpair()
            reader = asyncio.StreamReader()
            protocol = asyncio.StreamReaderProtocol(reader, lambda *streams: connected.extend(streams))
            await loop.create_connection(lambda: protocol, sock=ours)
            if closed:
                connected[1].close()
            protocol._stream_writer = None
            del connected[:]
            gc.collect()
            theirs.close()
            for _ in range(4):
                await asyncio.sleep(0)

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            loop.run_until_complete(main())
            gc.collect()
        # The repr includes the transport's, which differs.
        return [(warning.category, str(warning.message).split(" transport")[0]) for warning in caught]

    expected = as_asyncio(body)["result"]
    assert len(expected) == (0 if closed else 1)
