"""Which way TLS data takes: directly to the library, through MemoryBIOs, or through asyncio's own TLS."""

import _ssl
import asyncio
import os
import ssl
import sys
import types
from asyncio import sslproto

import pytest

CHOSEN = os.environ.get("CLOOP_TLS")


@pytest.fixture
def connected(loop, server_context, client_context):
    """Both transports of a connection that has exchanged a message and was closed."""

    def connected(server=server_context, client=client_context):
        seen = []

        class Echo(asyncio.Protocol):
            def connection_made(self, transport):
                self.transport = transport
                seen.append(transport)

            def data_received(self, data):
                self.transport.write(data)

        async def main():
            serving = await loop.create_server(Echo, "127.0.0.1", 0, ssl=server)
            address = serving.sockets[0].getsockname()
            reader, writer = await asyncio.open_connection(*address, ssl=client, server_hostname="localhost")
            ways = [getattr(writer.transport, "_direct", None)]
            writer.write(b"word")
            assert await reader.readexactly(4) == b"word"
            seen.append(writer.transport)
            ways.append(getattr(seen[0], "_direct", None))
            writer.close()
            serving.close()
            await serving.wait_closed()
            return ways

        ways = loop.run_until_complete(asyncio.wait_for(main(), 10))
        return ways, seen

    return connected


@pytest.fixture
def native(loop_kind):
    if loop_kind == "asyncio" or CHOSEN == "stock":
        pytest.skip("the transports are asyncio's")


def test_direct_by_default(connected, native):
    if not hasattr(_ssl, "__file__"):
        pytest.skip("the ssl module is built into this interpreter, and may hide its library")
    assert connected()[0] == [CHOSEN != "memorybio"] * 2


def test_object_of_another_class(connected, native, contexts):
    class Object(ssl.SSLObject):
        words = []

        def read(self, *args):
            result = super().read(*args)
            self.words.append(result)
            return result

    context = contexts.server()
    context.sslobject_class = Object
    assert connected(server=context)[0][1] is False
    assert Object.words


@pytest.mark.parametrize("inside", ["read", "write"])
def test_the_library_is_not_called_within_itself(alone, contexts, inside):
    """What is written while an object reads or writes waits until it has done so. (asyncio calls it within the call.)"""
    calls, writes = [], []

    def call(name, method, *args):
        calls.append(name)
        try:
            if name == inside and writes:
                calls.append("written")
                writes.pop()(b"within")
            return method(*args)
        finally:
            calls.append("done")

    class Object(ssl.SSLObject):
        def read(self, *args):
            return call("read", super().read, *args)

        def write(self, data):
            return call("write", super().write, data)

    context = contexts.server()
    context.sslobject_class = Object
    protocol = alone.recorder(data=lambda protocol, data: protocol.transport.write(b"answer "))
    _, peer = alone.connect(protocol, "server", context=context)
    writes.append(protocol.transport.write)
    peer.send(b"data")
    assert peer.receive(13) in (b"answer within", b"withinanswer ")
    assert protocol.data == b"data" and "written" in calls
    for before, after in zip(calls, calls[1:]):
        assert after == "done" or before not in ("read", "write") or (before, after) == (inside, "written")
    assert calls[calls.index("written") + 1] == "done"


@pytest.mark.skipif(not hasattr(ssl.SSLContext, "_msg_callback"), reason="not in this Python")
def test_messages_are_traced(connected, native, contexts):
    context, traced = contexts.server(), []
    context._msg_callback = lambda *args: traced.append(args[1])
    assert connected(server=context)[0][1] is False
    assert "read" in traced and "write" in traced


def test_context_of_another_class(connected, native, contexts):
    class Context:
        def __init__(self, context):
            self.context = context

        def wrap_bio(self, *args, **kwargs):
            return Wrapped(self.context.wrap_bio(*args, **kwargs))

    class Wrapped:
        def __init__(self, tls):
            self.tls = tls

        def __getattr__(self, name):
            if name == "_sslobj":
                raise AttributeError(name)
            return getattr(self.tls, name)

    ways, seen = connected(server=Context(contexts.server()))
    assert ways[1] is False and isinstance(seen[0].get_extra_info("ssl_object"), Wrapped)


def test_a_program_has_replaced_asyncios_class(connected, native, monkeypatch):
    class Mine(sslproto.SSLProtocol):
        made = 0

        def __init__(self, *args, **kwargs):
            Mine.made += 1
            super().__init__(*args, **kwargs)

    monkeypatch.setattr(sslproto, "SSLProtocol", Mine)
    _, seen = connected()
    assert Mine.made == 2 and all(isinstance(transport, sslproto._SSLProtocolTransport) for transport in seen)


@pytest.mark.parametrize("choice, expected", [("stock", "_SSLProtocolTransport"), ("memorybio", "SSLTransport")])
def test_chosen_by_hand(script, loop_kind, choice, expected):
    text = """
            import os, ssl
            os.environ["CLOOP_TLS"] = %r
            async def main():
                loop = asyncio.get_running_loop()
                protocol = asyncio.Protocol()
                sock, other = __import__("socket").socketpair()
                sock.setblocking(False)
                transport = loop._make_ssl_transport(sock, protocol, ssl.create_default_context(), server_hostname="x")
                print(type(transport).__name__, getattr(transport, "_direct", False))
                transport.abort()
                other.close()
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            loop = new_loop()
            loop.run_until_complete(main())
            loop.close()
        """
    if loop_kind == "asyncio":
        expected = "_SSLProtocolTransport"
    assert script(text % choice) == expected + " False\n"


def test_the_ssl_object_outlives_its_connection(connected, native):
    """It belongs to the program; what it could read from is gone."""
    _, seen = connected()
    for transport in seen:
        tls = transport.get_extra_info("ssl_object")
        assert tls.version() == "TLSv1.3" and tls.cipher() == transport.get_extra_info("cipher")
        del transport
        with pytest.raises((ssl.SSLError, OSError)):
            while tls.read(100):
                pass
            tls.write(b"late")
            raise OSError


@pytest.mark.parametrize("buffered", [False, True])
@pytest.mark.parametrize("place", ["the class, before", "the class", "the object"])
def test_replaced_methods_of_the_ssl_module_s_object(same, monkeypatch, place, buffered):
    """Tracers replace them. Other attributes of the object change nothing."""

    def body(stage):
        calls, stock = [], {name: getattr(ssl.SSLObject, name) for name in ("read", "write")}

        def traced(name):
            def call(self, *args):
                calls.append((self, name, None))
                result = stock[name](self, *args)
                told = bytes(args[0]) if name == "write" else len(args) if buffered else result
                calls[-1] = self, name, told
                return result

            return call

        protocol = stage.buffered() if buffered else stage.recorder()
        with monkeypatch.context() as patches:
            if place == "the class, before":
                for name in stock:
                    patches.setattr(ssl.SSLObject, name, traced(name))
            transport, peer = stage.connect(protocol)
            ours = transport.get_extra_info("ssl_object")
            ours.note = "of the program"
            for name in stock:
                if place == "the class":
                    patches.setattr(ssl.SSLObject, name, traced(name))
                elif place == "the object":
                    setattr(ours, name, types.MethodType(traced(name), ours))
            transport.write(b"from us")
            told = [peer.receive(7)]
            peer.send(b"to us")
            stage.until(lambda: len(protocol.data) == 5)
        if place == "the object":
            del ours.read, ours.write
        count = len(calls)
        transport.write(b"more")
        told.append(peer.receive(4))
        peer.send(b"and more")
        stage.until(lambda: len(protocol.data) == 13)
        told.append(len(calls) - count)
        return told, [call[1:] for call in calls if call[0] is ours and call[2] is not None], protocol.data

    told, calls, data = same(body)["result"]
    assert told == [b"from us", b"more", 0] and data == b"to usand more"
    given = 1 if sys.version_info < (3, 11) else 2  # then the buffer, too
    assert calls[0] == ("write", b"from us") and calls[1] == ("read", given if buffered else b"to us")


@pytest.mark.parametrize("buffered", [False, True])
def test_replaced_methods_keep_what_they_were_given(same, buffered):
    """A tracer may note the first bytes of all data, and look at them later."""

    def body(stage):
        kept = {"read": [], "write": []}

        def traced(name, stock):
            def call(*args):
                kept[name] += [part[:4] for part in args if not isinstance(part, int)]
                return stock(*args)

            return call

        protocol = stage.buffered() if buffered else stage.recorder()
        transport, peer = stage.connect(protocol)
        ours = transport.get_extra_info("ssl_object")
        for name in kept:
            setattr(ours, name, traced(name, getattr(ours, name)))
        for i in range(3):
            transport.write(b"%d from us" % i)
            assert peer.receive(9) == b"%d from us" % i
            peer.send(b"%d to us" % i)
            stage.until(lambda i=i: protocol.data.endswith(b"%d to us" % i))
        return [(type(part).__name__, bytes(part)) for part in kept["write"]], {len(part) for part in kept["read"]}

    told = same(body)["result"]
    assert [text for _, text in told[0]] == [b"%d fr" % i for i in range(3)]
    assert told[1] == ({4} if buffered and sys.version_info >= (3, 11) else set())


def test_method_replaced_before_the_first_connection(script):
    text = """
            import socket, ssl
            import trustme
            read, calls = ssl.SSLObject.read, []
            def traced(self, *args):
                calls.append(self)
                return read(self, *args)
            ssl.SSLObject.read = traced
            authority = trustme.CA()
            server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
            authority.issue_cert("localhost").configure_cert(server)
            authority.configure_trust(client)
            async def main():
                loop = asyncio.get_running_loop()
                ours, theirs = socket.socketpair()
                class Echo(asyncio.Protocol):
                    def data_received(self, data):
                        serving.result()[0].write(data)
                serving = loop.create_task(loop.connect_accepted_socket(Echo, theirs, ssl=server))
                reader, writer = await asyncio.open_connection(sock=ours, ssl=client, server_hostname="localhost")
                await serving
                writer.write(b"word")
                assert await reader.readexactly(4) == b"word"
                writer.transport.abort()
                serving.result()[0].abort()
                await asyncio.sleep(0.01)
                print(len(set(calls)))
            loop = new_loop()
            loop.run_until_complete(main())
            loop.close()
        """
    assert script(text, options=["-W", "ignore"]) == "2\n"


# Objects of the program, whose methods fail or answer oddly: as on asyncio

ANSWERS = {
    "value error": lambda: ValueError("on purpose"),
    "ssl error": lambda: ssl.SSLError(1, "on purpose"),
    "os error": lambda: OSError("on purpose"),
    "wants to read": lambda: ssl.SSLWantReadError(2, "on purpose"),
    "end of file": lambda: ssl.SSLEOFError(8, "on purpose"),
    "system call": lambda: ssl.SSLSyscallError(5, "on purpose"),
    "zero return": lambda: ssl.SSLZeroReturnError(6, "on purpose"),
    "text": lambda: "text",
    "float": lambda: 1.5,
    "huge": lambda: 10**30,
}
ODD = {"text", "float", "huge"}
needs_new_tls = pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio's TLS was rewritten for 3.11")


class Odd(ssl.SSLObject):
    """Does what `armed` has for a method, once."""

    armed = {}

    def do(self, name, *args):
        if name in self.armed:
            answer = self.armed.pop(name)()
            if isinstance(answer, Exception):
                raise answer
            return answer
        return getattr(super(), name)(*args)

    def read(self, *args):
        return self.do("read", *args)

    def write(self, data):
        return self.do("write", data)

    def unwrap(self):
        return self.do("unwrap")

    def do_handshake(self):
        return self.do("do_handshake")

    def getpeercert(self, *args):
        return self.do("getpeercert", *args)


def odd(contexts, side):
    context = contexts.client() if side == "client" else contexts.server()
    context.sslobject_class = type("Object", (Odd,), {"armed": {}})
    return context, context.sslobject_class.armed


@needs_new_tls
@pytest.mark.parametrize("answer", sorted(ANSWERS))
@pytest.mark.parametrize("name", ["read", "write", "unwrap"])
def test_methods_that_fail_once(same, contexts, side, name, answer):
    if name != "unwrap" and answer in ODD - {"huge"} or name == "read" and answer == "huge":
        pytest.skip("asyncio's exception says how it uses it")

    def body(stage):
        context, armed = odd(contexts, side)
        protocol = stage.recorder()
        transport, peer = stage.connect(protocol, side, context=context)
        armed[name], raised = ANSWERS[answer], None
        if name == "read":
            peer.send(b"one")
            stage.settle()
            peer.attempt(lambda: peer.tls.write(b"two"))
        elif name == "write":
            transport.write(b"one")
            transport.write(b"two")
        else:
            raised = stage.attempt(transport.close)
        stage.settle()
        told = raised, list(protocol.story), transport.is_closing(), bool(armed)
        got = stage.abort(transport, peer)
        return told, protocol.story, got

    same(body)


@needs_new_tls
@pytest.mark.parametrize("answer", sorted(ANSWERS.keys() - ODD))
def test_what_was_kept_cannot_be_written(same, contexts, side, answer):
    """At first it waits for the peer."""

    def body(stage):
        context, armed = odd(contexts, side)
        protocol = stage.recorder()
        transport, peer = stage.connect(protocol, side, context=context)
        armed["write"] = ANSWERS["wants to read"]
        transport.write(b"one")
        told = [transport.get_write_buffer_size()]
        armed["write"] = ANSWERS[answer]
        transport.write(b"two")
        stage.settle()
        told += [list(protocol.story), transport.is_closing(), bool(armed)]
        got = stage.abort(transport, peer)
        return told, protocol.story, got

    assert same(body)["result"][0][0] == 3


@needs_new_tls
def test_what_is_written_before_the_handshake(same):
    def body(stage):
        ours, theirs = stage.pair()
        protocol = stage.recorder()
        transport = stage.loop._make_ssl_transport(
            ours, protocol, stage.contexts.usual_client(), server_hostname="localhost"
        )
        stage.keep(transport)
        stage.settle()
        transport.write(b"early ")
        transport.writelines([b"and ", b"more"])
        size = transport.get_write_buffer_size()
        peer = stage.peer(stage, theirs, stage.contexts.usual_server(), server_side=True)
        peer.handshake()
        stage.settle()
        transport.write(b", late")
        got = peer.receive(20)
        stage.settle()
        return size, got, stage.abort(transport, peer), protocol.story

    assert same(body)["result"][:2] == (14, b"early and more, late")


@needs_new_tls
def test_lines_that_are_not_contiguous(same, side):
    def body(stage):
        protocol = stage.recorder()
        transport, peer = stage.connect(protocol, side)
        raised = stage.attempt(transport.writelines, [memoryview(b"abcdef")[::2], b"last"])
        stage.settle()
        told = raised, list(protocol.story), transport.is_closing()
        got = stage.abort(transport, peer)
        return told, protocol.story, got

    same(body)


@needs_new_tls
def test_what_a_small_buffer_has_left_is_for_the_next_protocol(same, contexts, side):
    """An object of the program's own keeps it."""

    def body(stage):
        context, _ = odd(contexts, side)
        following = stage.recorder()
        protocol = stage.buffered(size=10, data=lambda protocol, count: protocol.transport.set_protocol(following))
        transport, peer = stage.connect(protocol, side, context=context)
        peer.send(bytes(range(100)))
        stage.until(lambda: len(protocol.data + following.data) >= 100 or protocol.lost or following.lost)
        got = stage.abort(transport, peer)
        return protocol.story, following.story, got

    expected = [("data", bytes(range(10, 100))), ("lost", None)]
    assert same(body)["result"][1] == expected


@needs_new_tls
@pytest.mark.parametrize("answer", sorted(ANSWERS))
@pytest.mark.parametrize("name", ["do_handshake", "getpeercert"])
def test_handshakes_that_fail_once(same, contexts, side, name, answer):
    if answer in ODD:
        pytest.skip("what it returns is not looked at")
    if name == "do_handshake" and answer in ("os error", "value error"):
        pytest.skip("reported of a callback, which has the name of a class")

    def body(stage):
        context, armed = odd(contexts, side)
        armed[name] = ANSWERS[answer]
        protocol = stage.recorder()
        with stage.unwarned():
            task, peer = stage.begin(protocol, side, context=context)
            for _ in range(4):
                stage.settle()
                peer.attempt(peer.tls.do_handshake)
            stage.settle()
            peer.close()
            stage.settle()
            told = stage.outcome(task)
            protocol.transport = None
        return told, protocol.story

    same(body)


@needs_new_tls
def test_object_that_reads_without_a_buffer(same, contexts, side):
    """asyncio passes one for buffered protocols only."""

    class Short(ssl.SSLObject):
        def read(self, length=1024):
            return super().read(length)

    def body(stage):
        context = contexts.client() if side == "client" else contexts.server()
        context.sslobject_class = Short
        protocol = stage.recorder()
        transport, peer = stage.connect(protocol, side, context=context)
        peer.send(b"data")
        stage.until(lambda: protocol.data or protocol.lost)
        peer.send(bytes(100000))
        stage.until(lambda: len(protocol.data) == 100004 or protocol.lost)
        told = protocol.data, protocol.lost
        transport.abort()
        stage.settle()
        peer.close()
        return told

    assert same(body)["result"] == (b"data" + bytes(100000), 0)


@needs_new_tls
@pytest.mark.parametrize("count", [-(10**30), -1, 0, 1000, 10**30])
@pytest.mark.parametrize("name", ["read", "write"])
def test_counts_that_cannot_be(alone, contexts, side, name, count):
    """Of a buffer that was given: nothing beyond it is touched."""
    context, armed = odd(contexts, side)
    protocol = alone.buffered(size=16)
    transport, peer = alone.connect(protocol, side, context=context)
    if name == "read":
        armed[name] = lambda: count
        peer.send(b"data")
        alone.settle()
        assert max([len(event[1]) for event in protocol.events if event[0] == "data"], default=0) <= 16
    else:
        for data in b"one", b"two":
            armed[name] = lambda: count
            transport._ssl_protocol._test__append_write_backlog(data)
            transport.write(b"more")
            alone.settle()
        assert transport.get_write_buffer_size() <= len(b"onemoretwomore")
    transport.abort()
    alone.settle()
    peer.close()


@needs_new_tls
@pytest.mark.parametrize("answer", [bytes(1 << 20), "text", 5], ids=type)
def test_reads_that_cannot_be(alone, contexts, side, answer):
    """More than was asked for, and no bytes."""
    context, armed = odd(contexts, side)
    protocol = alone.recorder()
    transport, peer = alone.connect(protocol, side, context=context)
    armed["read"] = lambda: answer
    peer.send(b"data")
    alone.until(lambda: protocol.lost)
    assert protocol.data == b"" and protocol.story[-1][1][0] in ("ValueError", "TypeError")
    peer.close()
