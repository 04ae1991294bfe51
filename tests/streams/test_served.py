"""The streams that asyncio.start_server() makes for each connection, which cloop makes itself from the second on."""

import asyncio
import asyncio.streams
import contextlib
import contextvars
import gc
import os
import re
import socket
import sys
import warnings
import weakref

import pytest

CONNECTIONS = 3  # the first is made by asyncio's code
PARTS = ("reader", "protocol", "writer")


@pytest.fixture
def serve(loop):
    """serve(handler, ...): connects and is served several times; each client sends `data`, and reads to the end."""

    def serve(handler, connections=CONNECTIONS, data=b"data", loop=loop, kind="tcp", before=lambda number: None):
        async def main():
            server = await asyncio.start_server(handler, "127.0.0.1", 0, limit=1000)
            for number in range(connections):
                before(number)
                sock = socket.create_connection(server.sockets[0].getsockname())
                sock.setblocking(False)
                await loop.sock_sendall(sock, data)
                sock.shutdown(socket.SHUT_WR)
                try:
                    while await loop.sock_recv(sock, 1000):
                        pass
                except ConnectionError:
                    pass
                sock.close()
            for _ in range(5):
                await asyncio.sleep(0)
            server.close()
            await server.wait_closed()

        loop.run_until_complete(asyncio.wait_for(main(), 20))

    return serve


def kind_of(value, known):
    """A value in words that do not differ between loops or connections."""
    for name, other in known.items():
        if value is other:
            return name
    if isinstance(value, weakref.ref):
        return "weak reference to " + kind_of(value(), known)
    if asyncio.isfuture(value):
        return "task" if hasattr(value, "get_coro") else "future %s" % value._state
    if isinstance(value, (bool, type(None), int)):
        return repr(value)
    return type(value).__name__ + (" of %d" % len(value) if hasattr(value, "__len__") else "")


def attributes(loop, handler, reader, writer):
    known = {
        "the loop": loop,
        "the handler": handler,
        "the reader": reader,
        "the writer": writer,
        "the protocol": writer._protocol,
        "the transport": writer.transport,
    }
    names = ("_limit", "_loop", "_buffer", "_eof", "_waiter", "_exception", "_transport", "_paused")
    return (
        {name: kind_of(getattr(reader, name), known) for name in names},
        {name: kind_of(value, known) for name, value in vars(writer._protocol).items()},
        {name: kind_of(value, known) for name, value in vars(writer).items()},
    )


def test_attributes_are_asyncios(as_asyncio, serve):
    """At the beginning and at the end, by name, value and order."""

    def body(loop):
        seen = []

        async def handler(reader, writer):
            first = attributes(loop, handler, reader, writer)
            await asyncio.sleep(0)
            second = attributes(loop, handler, reader, writer)
            await reader.read(10)
            await reader.read(10)
            third = attributes(loop, handler, reader, writer)
            protocol = writer._protocol
            writer.close()
            await writer.wait_closed()
            await asyncio.sleep(0)
            last = {name: kind_of(value, {"the loop": loop}) for name, value in vars(protocol).items()}
            seen.append(
                [[list(part.items()) for part in each] for each in (first, second, third)] + [list(last.items())]
            )

        serve(handler, loop=loop)
        assert len(seen) == CONNECTIONS
        return seen

    seen = as_asyncio(body)["result"]
    assert seen[0] == seen[1] == seen[2]


LATE = {"_drain_waiters": lambda writer: writer._protocol, "_complete_fut": lambda writer: writer}


@pytest.mark.parametrize("name", list(LATE))
def test_attributes_that_are_made_late_are_like_others(as_asyncio, serve, name):
    """cloop makes them when somebody looks for them."""

    def body(loop):
        seen = []

        def looks(writer):
            owner = LATE[name](writer)
            if not hasattr(owner, name):  # on some Pythons
                return
            value = getattr(owner, name)
            seen.append((kind_of(value, {}), getattr(owner, name) is value, vars(owner)[name] is value))
            setattr(owner, name, "another")
            seen.append((getattr(owner, name), vars(owner)[name]))
            setattr(owner, name, value)

        def copies(writer):
            owner = LATE[name](writer)
            if name in vars(owner):
                seen.append(name in owner.__reduce_ex__(4)[2])  # what copy.copy() asks for

        def deletes(writer):
            owner = LATE[name](writer)
            with contextlib.suppress(AttributeError):
                delattr(owner, name)
                seen.append("deleted")
            with contextlib.suppress(AttributeError):
                owner.__dict__ = dict(vars(owner), more=1)
                seen.append((owner.more, "more" in vars(owner)))

        async def handler(reader, writer):
            for function in (copies, looks, deletes):
                function(writer)
            await writer.drain()
            writer.close()

        serve(handler, loop=loop)
        return seen

    as_asyncio(body)


@pytest.mark.parametrize("name", list(LATE))
def test_attributes_made_late_without_memory(as_asyncio, serve, name):
    """None is lost, and later it is there."""
    testcapi = pytest.importorskip("_testcapi")
    if name == "_drain_waiters" and sys.version_info < (3, 10):
        pytest.skip("asyncio has it since")

    def failing(owner, after):
        testcapi.set_nomemory(after, 0)
        try:
            getattr(owner, name)
        except MemoryError:
            return True
        finally:
            testcapi.remove_mem_hooks()
        return False

    def body(loop):
        seen = []

        async def handler(reader, writer):
            owner, after = LATE[name](writer), 0
            for i in range(len(seen)):  # so that there is no room for another, at last
                setattr(owner, "more_%d" % i, i)
            if hasattr(type(owner), name) or name in vars(owner):  # on some Pythons
                while failing(owner, after):
                    after += 1
                seen.append((list(vars(owner)), kind_of(getattr(owner, name), {})))
            writer.close()

        for _ in range(8):
            serve(handler, loop=loop)
        return seen

    as_asyncio(body)


def test_they_are_freed_without_the_collector(serve):
    gone = []

    async def handler(reader, writer):
        gone.extend(weakref.ref(each) for each in (reader, writer, writer._protocol))
        await reader.read(10)
        writer.close()

    serve(handler)
    assert len(gone) == 3 * CONNECTIONS
    if sys.version_info >= (3, 13):  # before, _stream_writer and the like make a cycle, which ends with the connection
        assert [each() for each in gone] == [None] * len(gone)
    gc.collect()
    assert [each() for each in gone] == [None] * len(gone)


REPLACED = {
    "StreamReader.__init__": (asyncio.StreamReader, "__init__"),
    "StreamReader.set_transport": (asyncio.StreamReader, "set_transport"),
    "StreamReader.feed_eof": (asyncio.StreamReader, "feed_eof"),
    "StreamReaderProtocol.__init__": (asyncio.StreamReaderProtocol, "__init__"),
    "StreamReaderProtocol.connection_made": (asyncio.StreamReaderProtocol, "connection_made"),
    "StreamReaderProtocol.connection_lost": (asyncio.StreamReaderProtocol, "connection_lost"),
    "StreamReaderProtocol.eof_received": (asyncio.StreamReaderProtocol, "eof_received"),
    "StreamReaderProtocol.__del__": (asyncio.StreamReaderProtocol, "__del__"),
    "FlowControlMixin.__init__": (asyncio.streams.FlowControlMixin, "__init__"),
    "FlowControlMixin.connection_lost": (asyncio.streams.FlowControlMixin, "connection_lost"),
    "StreamWriter.__init__": (asyncio.StreamWriter, "__init__"),
    "StreamWriter.close": (asyncio.StreamWriter, "close"),
    "StreamWriter.__del__": (asyncio.StreamWriter, "__del__"),
}


@pytest.mark.parametrize("when", range(3))
@pytest.mark.parametrize("name", list(REPLACED))
def test_replaced_methods_are_called(serve, monkeypatch, name, when):
    """From the connection on that follows the replacement."""
    owner, method = REPLACED[name]
    original = vars(owner).get(method, lambda self, *args, **options: None)
    called = []

    def replacement(self, *args, **options):
        called.append(name)
        return original(self, *args, **options)

    def before(number):
        if number == when:
            gc.collect()
            assert not called
            monkeypatch.setattr(owner, method, replacement, raising=False)

    async def handler(reader, writer):
        await reader.read(10)
        await reader.read(10)
        writer.close()

    serve(handler, before=before, connections=4)
    gc.collect()
    assert len(called) >= 4 - when


@pytest.mark.parametrize("name", ["StreamReader", "StreamReaderProtocol", "StreamWriter"])
def test_classes_of_the_module_are_used(serve, monkeypatch, name):
    stock = getattr(asyncio.streams, name)
    subclass = type(name, (stock,), {})
    seen = []

    def before(number):
        if number == 2:
            monkeypatch.setattr(asyncio.streams, name, subclass)

    async def handler(reader, writer):
        seen.append([isinstance(each, subclass) for each in (reader, writer._protocol, writer)])
        writer.close()

    serve(handler, before=before, connections=4)
    index = PARTS.index({"StreamReader": "reader", "StreamReaderProtocol": "protocol", "StreamWriter": "writer"}[name])
    assert [each[index] for each in seen] == [False, False, True, True]


def fails(reader, writer):
    raise ZeroDivisionError("on purpose")


async def fails_later(reader, writer):
    await reader.read(10)
    raise ZeroDivisionError("on purpose")


async def is_cancelled(reader, writer):
    await reader.read(10)
    raise asyncio.CancelledError


def is_no_coroutine(reader, writer):
    writer.write(b"x")
    writer.close()


def returns_an_awaitable(reader, writer):
    writer.close()
    return asyncio.get_running_loop().create_future()


async def exits_in_the_end(reader, writer):
    writer.close()


HANDLERS = [fails, fails_later, is_cancelled, is_no_coroutine, returns_an_awaitable, exits_in_the_end]


@pytest.mark.parametrize("handler", HANDLERS, ids=lambda handler: handler.__name__)
def test_what_handlers_do(as_asyncio, serve, handler):
    """What is reported, and that the connection ends if asyncio ends it."""

    def body(loop):
        reports, transports = [], []
        warnings.simplefilter("ignore", ResourceWarning)  # its text tells numbers
        loop.set_exception_handler(
            lambda loop, details: reports.append(
                (
                    sorted(details),
                    re.sub(r"<\w*Soc\w*\b", "<", details["message"]),
                    type(details.get("exception")).__name__,
                )
            )
        )

        def called(reader, writer):
            transports.append(writer.transport)
            return handler(reader, writer)

        async def main():
            server = await asyncio.start_server(called, "127.0.0.1", 0)
            closing = []
            for number in range(CONNECTIONS):
                sock = socket.create_connection(server.sockets[0].getsockname())
                sock.sendall(b"x")
                sock.shutdown(socket.SHUT_WR)
                while len(transports) <= number:
                    await asyncio.sleep(0)
                gc.collect()  # a writer's finalizer closes, and asyncio's frames may keep the writer: before data arrive
                for _ in range(20):
                    await asyncio.sleep(0)
                closing.append(transports[-1].is_closing())
                transports[-1].abort()
                sock.close()
            for _ in range(5):
                await asyncio.sleep(0)
            server.close()
            return closing

        closing = loop.run_until_complete(main())
        del transports[:]
        gc.collect()
        return closing, reports

    closing, reports = as_asyncio(body)["result"]
    assert closing[0] == closing[1] == closing[2]
    assert len(reports) in (0, CONNECTIONS)


def test_contexts(serve):
    """The handler runs in the context of the server; each connection's is its own."""
    var = contextvars.ContextVar("var", default="unset")
    seen = []

    def handler(reader, writer):
        seen.append(var.get())
        var.set("changed")
        writer.close()

    var.set("the server's")
    serve(handler)
    assert seen == ["the server's"] * CONNECTIONS


def test_debug_mode(loop, serve):
    """asyncio's own methods run, with its tracebacks of readers."""
    loop.set_debug(True)
    loop.slow_callback_duration = 100
    seen = []

    async def handler(reader, writer):
        seen.append((type(reader) is asyncio.StreamReader, bool(reader._source_traceback)))
        writer.close()

    serve(handler)
    assert seen == [(True, True)] * CONNECTIONS


def test_a_writer_that_waits_when_the_connection_is_lost(loop, serve):
    """drain() of a full buffer ends with the connection."""
    ended = []

    async def handler(reader, writer):
        writer.write(b"x" * 10_000_000)
        try:
            await writer.drain()
        except ConnectionError:
            ended.append("error")
        else:
            ended.append("drained")
        writer.close()

    serve(handler)
    assert ended == ["drained"] * CONNECTIONS


def test_futures_of_the_programs_own(loop, serve):
    """create_future() may be overridden after the first connections."""
    made = []

    class Future(asyncio.Future):
        pass

    def create_future():
        made.append(Future(loop=loop))
        return made[-1]

    async def handler(reader, writer):
        await reader.read(10)
        await reader.read(10)
        writer.close()

    serve(handler)
    loop.create_future = create_future
    serve(handler)
    assert len(made) >= 2 * CONNECTIONS


def test_futures_with_callbacks_of_the_programs_own(loop, serve):
    """From the first connection on: each has a future of its own, with its callback."""
    made, ended, closed = [], [], []
    create_future = loop.create_future

    def with_callback():
        future = create_future()
        future.add_done_callback(lambda future: ended.append(future))
        made.append(future)
        return future

    async def handler(reader, writer):
        await reader.read(10)
        closed.append(writer._protocol._closed)
        writer.close()

    loop.create_future = with_callback
    try:
        serve(handler)
    finally:
        del loop.create_future
    assert len(set(map(id, closed))) == CONNECTIONS
    assert all(future in made and future in ended for future in closed)
    del made[:], ended[:], closed[:]


def test_close_takes_no_argument(serve):
    seen = []

    async def handler(reader, writer):
        with pytest.raises(TypeError):
            writer.close(1)
        seen.append(writer.transport.is_closing())
        writer.close()

    serve(handler)
    assert seen == [False] * CONNECTIONS


def test_two_servers_with_different_handlers_and_limits(loop, until):
    """What was learnt of one is not taken for the other."""
    seen = []

    def handler(name):
        async def handle(reader, writer):
            seen.append((name, reader._limit, writer._protocol._client_connected_cb is handlers[name]))
            writer.close()

        return handle

    handlers = {name: handler(name) for name in "ab"}

    async def main():
        servers = [
            await asyncio.start_server(handlers[name], "127.0.0.1", 0, limit=limit)
            for name, limit in (("a", 100), ("b", 2**20))
        ]
        for _ in range(2):
            for server in servers:
                reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
                assert await reader.read() == b""
                writer.close()
        for server in servers:
            server.close()
            await server.wait_closed()

    loop.run_until_complete(asyncio.wait_for(main(), 20))
    assert seen == [("a", 100, True), ("b", 2**20, True)] * 2


def test_unix_servers(loop, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    async def handler(reader, writer):
        writer.write(await reader.readline())
        writer.close()

    async def main():
        server = await asyncio.start_unix_server(handler, "socket")
        for _ in range(CONNECTIONS):
            reader, writer = await asyncio.open_unix_connection("socket")
            writer.write(b"line\n")
            assert await reader.read() == b"line\n"
            writer.close()
        server.close()
        await server.wait_closed()

    loop.run_until_complete(asyncio.wait_for(main(), 20))


@pytest.mark.parametrize("limit", [0, -1, 2.5, True, "x"], ids=repr)
def test_unusual_limits(as_asyncio, limit):
    def body(loop):
        reports = []
        loop.set_exception_handler(lambda loop, details: reports.append(type(details.get("exception")).__name__))

        async def main():
            server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0, limit=limit)
            for _ in range(CONNECTIONS):
                sock = socket.create_connection(server.sockets[0].getsockname())
                for _ in range(20):
                    await asyncio.sleep(0)
                sock.close()
            for _ in range(5):
                await asyncio.sleep(0)
            server.close()

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # asyncio leaves the sockets to the collector
            loop.run_until_complete(main())
            gc.collect()
        return reports

    as_asyncio(body)


RESET = """
import gc, socket, struct

reports, served, closed = [], [], []

async def handler(reader, writer):
    served.append(asyncio.current_task())
    closed.append(writer.transport.get_protocol()._closed)
    try:
        await reader.read()
    except ConnectionResetError:
        pass

async def main():
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    clients = []
    for number in range(3):
        clients.append(socket.create_connection(server.sockets[0].getsockname()))
        while len(served) <= number:
            await asyncio.sleep(0)
    for client in clients:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    await asyncio.gather(*served)
    server.close()

loop = new_loop()
loop.set_exception_handler(lambda loop, context: reports.append(context))
loop.run_until_complete(main())
assert not any(one._log_traceback for one in closed)
del served[:], closed[:]
gc.collect()
assert reports == []
loop.close()
"""


def test_reset_is_not_reported_if_its_future_is_finalized_before_the_protocol(loop_kind, script):
    """A garbage collection may do so if an earlier one came while C code had the future."""
    if loop_kind == "asyncio":
        pytest.skip("asyncio's protocol retrieves the exception in its __del__()")
    if "stock" in (os.environ.get("CLOOP_TASKS"), os.environ.get("CLOOP_STREAMS")):
        pytest.skip("asyncio's own streams")
    script(RESET)
