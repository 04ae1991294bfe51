"""Code that replaces a class's methods checks whether the class was modified, and looks the methods up only then:
`_cloop.guard_looks()` counts.
"""

import asyncio
import os
import socket
import sys
import sysconfig

import pytest

GUARDS = {
    "loop": ["loop"],
    "socket": ["socket"],
    "streams": ["reader", "own_reader", "protocol", "own_protocol", "writer", "own_writer", "mixin"],
    "connections": ["connect", "server"],
}
UNUSED = ["set"]
if sys.version_info >= (3, 13):  # where a server keeps its connections in one
    GUARDS["connections"] += UNUSED
    UNUSED = []


@pytest.fixture
def looks(cloop, loop_kind):
    if loop_kind == "asyncio":
        pytest.skip("asyncio has no guards")
    return cloop._cloop.guard_looks


async def use_sockets(loop, rounds):
    listener, first = socket.socket(), socket.socket()
    with listener, first:
        for sock in (listener, first):
            sock.setblocking(False)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        await loop.sock_connect(first, listener.getsockname())
        second, _ = await loop.sock_accept(listener)
        with second:
            for _ in range(rounds):
                await loop.sock_sendall(first, b"there")
                assert await loop.sock_recv(second, 100) == b"there"
                await loop.sock_sendall(second, b"back")
                assert await loop.sock_recv_into(first, bytearray(100)) == 4


async def use_streams(loop, rounds):
    done = loop.create_future()

    async def connected(reader, writer):
        try:
            for _ in range(rounds):
                writer.write(await reader.readline())
                await writer.drain()
                writer.write(await reader.readexactly(3))
                writer.write(await reader.readuntil(b"!"))
                await writer.drain()
                writer.write(await reader.read(100))
                await writer.drain()
            async for line in reader:
                writer.write(line)
            writer.close()
            done.set_result(None)
        except BaseException as error:
            done.set_exception(error)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    for _ in range(rounds):
        writer.write(b"a line\n")
        await writer.drain()
        assert await reader.readline() == b"a line\n"
        writer.write(b"and more!")
        assert await reader.readexactly(9) == b"and more!"
        writer.write(b"all")
        assert await reader.read(100) == b"all"
    writer.write_eof()
    await done
    writer.close()
    server.close()
    await server.wait_closed()


async def use_connections(loop, rounds):
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    for _ in range(rounds):
        transport, _ = await loop.create_connection(asyncio.Protocol, *server.sockets[0].getsockname())
        transport.close()
        await asyncio.sleep(0)
    for _ in range(9):
        await asyncio.sleep(0)
    server.close()
    await server.wait_closed()


async def use_loop(loop, rounds):
    pass


USES = {"loop": use_loop, "socket": use_sockets, "streams": use_streams, "connections": use_connections}


def counts(looks, kind):
    found = looks()
    return {name: found[name] for name in GUARDS[kind]}


@pytest.fixture(params=sorted(GUARDS))
def kind(request):
    return request.param


def test_all_are_tested(looks):
    assert sorted(looks()) == sorted(sum(GUARDS.values(), UNUSED))


# From Python 3.13 on, the flag that cloop checked is never set for a class with a version: each guard was
# looked up at each operation.
def test_unchanged_class_is_not_looked_up_again(loop, looks, kind):
    if kind == "connections" and os.environ.get("CLOOP_TASKS") == "stock":
        pytest.skip("the coroutine in C needs futures in C")
    if kind == "streams" and sysconfig.get_config_var("Py_GIL_DISABLED"):
        pytest.skip("streams are asyncio's")
    loop.run_until_complete(USES[kind](loop, 1))
    known = counts(looks, kind)
    assert all(known.values()), known  # guards never looked up are not in use
    for _ in range(3):
        loop.run_until_complete(USES[kind](loop, 10))
    assert counts(looks, kind) == known


@pytest.mark.gil  # without one, that it does not hold is found out each time
@pytest.mark.parametrize(
    "kind, cls, method, changed",
    [
        ("socket", socket.socket, "recv", ["socket"]),
        ("streams", asyncio.StreamReader, "readline", ["own_reader", "reader"]),
        ("streams", asyncio.StreamReaderProtocol, "_drain_helper", ["own_protocol", "protocol"]),
        ("streams", asyncio.StreamWriter, "drain", ["own_writer", "writer"]),
    ],
    ids=["socket", "reader", "protocol", "writer"],
)
def test_patched_class_is_looked_up_once(loop, looks, kind, cls, method, changed, monkeypatch):
    calls = []
    original = getattr(cls, method)

    def replacement(self, *args):
        calls.append(args)
        return original(self, *args)

    loop.run_until_complete(USES[kind](loop, 1))
    known = counts(looks, kind)
    monkeypatch.setattr(cls, method, replacement)
    loop.run_until_complete(USES[kind](loop, 1))
    assert calls  # it runs instead of ours
    once = counts(looks, kind)
    assert set(name for name in once if once[name] != known[name]) <= set(changed)
    assert all(once[name] <= known[name] + 1 for name in once)
    loop.run_until_complete(USES[kind](loop, 10))
    assert counts(looks, kind) == once  # the result that it does not hold is cached too
    monkeypatch.undo()
    loop.run_until_complete(USES[kind](loop, 1))  # our own methods again
    again = counts(looks, kind)
    del calls[:]
    loop.run_until_complete(USES[kind](loop, 10))
    assert counts(looks, kind) == again and calls == []


def test_class_of_a_loop(cloop, looks, new_loop):
    class Loop(cloop.Loop):
        pass

    loop = new_loop(Loop)
    loop.mark = 1  # it has a __dict__ now, which is checked each time
    known = looks()["loop"]
    for _ in range(3):
        loop.run_until_complete(asyncio.sleep(0))
    assert looks()["loop"] == known
    calls = []
    Loop.call_soon = lambda self, *args, **kwargs: calls.append(args) or super(Loop, self).call_soon(*args, **kwargs)
    for _ in range(3):
        loop.run_until_complete(asyncio.sleep(0))
    assert looks()["loop"] == known + 1
    assert calls
    del Loop.call_soon, calls[:]
    for _ in range(3):
        loop.run_until_complete(asyncio.sleep(0))
    assert looks()["loop"] == known + 2
    assert not calls


# CPython limits the number of versions per class. After that it is looked up each time, and patches are still
# noticed.
OFTEN_PATCHED = """
    import socket

    def patched(cls, method, times):
        original = getattr(cls, method)
        calls = []

        def replacement(self, *args):
            calls.append(args)
            return original(self, *args)

        for _ in range(times):
            setattr(cls, method, replacement)
            getattr(cls, "nothing", None)  # which gives it a version
            setattr(cls, method, original)
            getattr(cls, "nothing", None)
        setattr(cls, method, replacement)
        return calls, lambda: setattr(cls, method, original)

    async def use_sockets(loop):
        first, second = socket.socketpair()
        with first, second:
            for sock in (first, second):
                sock.setblocking(False)
            await loop.sock_sendall(first, b"line")
            assert await loop.sock_recv(second, 4) == b"line"

    async def use_streams(loop):
        async def connected(reader, writer):
            assert await reader.readline() == b"line\\n"
            writer.write(b"line\\n")
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"line\\n")
        assert await reader.readline() == b"line\\n"
        writer.close()
        server.close()

    loop = new_loop()
    for use, cls, method in [
        (use_sockets, socket.socket, "recv"),
        (use_streams, asyncio.StreamReader, "readline"),
        (use_streams, asyncio.StreamWriter, "drain"),
    ]:
        loop.run_until_complete(use(loop))
        calls, undo = patched(cls, method, 1100)
        loop.run_until_complete(use(loop))
        print(len(calls) > 0, end=" ")
        del calls[:]
        undo()
        loop.run_until_complete(use(loop))
        print(len(calls), end=" ")
    loop.close()
"""


def test_class_whose_version_tags_have_run_out(script):
    assert script(OFTEN_PATCHED) == "True 0 True 0 True 0 "


# A program that replaced accept() before importing cloop is respected too.
def test_accept_replaced_before_the_import(cloop, python, write_script):
    path = write_script("""
        import asyncio, socket

        original, calls = socket.socket.accept, []

        def accept(self):
            calls.append(self)
            return original(self)

        async def main(loop):
            with socket.socket() as listener, socket.socket() as client:
                listener.setblocking(False)
                client.setblocking(False)
                listener.bind(("127.0.0.1", 0))
                listener.listen()
                await loop.sock_connect(client, listener.getsockname())
                connection, _ = await loop.sock_accept(listener)
                connection.close()

        socket.socket.accept = accept
        import cloop

        loop = cloop.new_event_loop()
        loop.run_until_complete(main(loop))
        loop.close()
        print(len(calls))
    """)
    process = python(path)
    assert (process.stdout, process.stderr) == ("1\n", "")
