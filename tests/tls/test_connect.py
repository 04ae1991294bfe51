"""Where asyncio accepts ssl=, its messages for wrong arguments, and the interface of the transport."""

import array
import asyncio
import contextvars
import inspect
import socket
import sys

import pytest

SHUTDOWN_TIMEOUT = "ssl_shutdown_timeout" in inspect.signature(asyncio.AbstractEventLoop.create_connection).parameters
TIMEOUTS = ["ssl_handshake_timeout"] + (["ssl_shutdown_timeout"] if SHUTDOWN_TIMEOUT else [])

VAR = contextvars.ContextVar("VAR", default="unset")


def echoing(stage):
    return lambda: stage.recorder(data=lambda protocol, data: protocol.transport.write(data))


async def echoed(stage, connecting):
    """Connects with the coroutine function, which gets a protocol factory; returns what it returned."""
    back = stage.loop.create_future()
    protocol = stage.recorder(
        made=lambda protocol, transport: transport.write(b"there"),
        data=lambda protocol, data: protocol.data == b"there" and back.set_result(protocol.data),
        lost=lambda *args: None if back.done() else back.set_result("lost"),
    )
    transport, _ = await connecting(lambda: protocol)
    stage.keep(transport)
    return await back, transport.get_extra_info("cipher")[1], type(transport.get_extra_info("ssl_object")).__name__


# Where ssl= goes


@pytest.mark.parametrize("how", ["by address", "by name", "among several", "sock=", "hostname", "no hostname"])
def test_create_connection_to_create_server(same, contexts, how):
    def body(stage):
        async def main():
            server = await stage.loop.create_server(echoing(stage), "127.0.0.1", 0, ssl=contexts.usual_server())
            address = server.sockets[0].getsockname()
            context = contexts.client()
            options = {}
            if how == "no hostname":
                context.check_hostname = False
            if how == "sock=":
                sock = socket.create_connection(address)
                sock.setblocking(False)
                options = dict(sock=sock, server_hostname="localhost")
                address = ()
            elif how == "hostname":
                options["server_hostname"] = "localhost"
            elif how == "no hostname":
                options["server_hostname"] = ""
            elif how == "by name":
                options["family"] = socket.AF_INET
                address = ("localhost", address[1])
            elif how == "among several":
                closed = socket.socket()
                closed.bind(("127.0.0.1", 0))
                addresses = [closed.getsockname(), address]

                async def getaddrinfo(host, port, **hints):
                    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", each) for each in addresses]

                stage.loop.getaddrinfo = getaddrinfo
                options["happy_eyeballs_delay"] = 1
                address = ("localhost", address[1])
            else:
                options["server_hostname"] = None
                context.check_hostname = False
            try:
                return await echoed(
                    stage, lambda factory: stage.loop.create_connection(factory, *address, ssl=context, **options)
                )
            finally:
                server.close()
                if how == "among several":
                    closed.close()

        return stage.run(main())

    assert same(body)["result"][0] == b"there"


@pytest.mark.parametrize("hostname", ["localhost", ""])
def test_unix_sockets(same, contexts, tmp_path, hostname):
    def body(stage):
        async def main():
            path = str(tmp_path / "socket")
            server = await stage.loop.create_unix_server(echoing(stage), path, ssl=contexts.usual_server())
            context = contexts.client()
            context.check_hostname = bool(hostname)
            try:
                return await echoed(
                    stage,
                    lambda factory: stage.loop.create_unix_connection(
                        factory, path, ssl=context, server_hostname=hostname
                    ),
                )
            finally:
                server.close()

        return stage.run(main())

    assert same(body)["result"][0] == b"there"


def test_streams(same, contexts):
    def body(stage):
        async def serve(reader, writer):
            writer.write((await reader.readline()).upper())
            await writer.drain()
            writer.close()

        async def main():
            server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=contexts.usual_server())
            address = server.sockets[0].getsockname()
            reader, writer = await asyncio.open_connection(
                *address, ssl=contexts.usual_client(), server_hostname="localhost"
            )
            stage.keep(writer.transport)
            writer.write(b"line\n")
            await writer.drain()
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()
            server.close()
            return answer

        return stage.run(main())

    assert same(body)["result"] == b"LINE\n"


def test_context_is_made_if_true(same, contexts):
    """It trusts only the system's authorities."""

    def body(stage):
        task, peer = stage.begin(stage.recorder(), context=True)
        return peer.fate(), stage.outcome(task)

    assert same(body)["result"][1][0] == "SSLCertVerificationError"


@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_socket_is_not_blocking_and_is_closed(same, side, kind):
    def body(stage):
        protocol = stage.recorder()
        transport, peer = stage.connect(protocol, side, kind)
        sock = transport.get_extra_info("socket")
        told = sock.gettimeout(), sock.type, sock.family
        peer.raw(peer.close_notify())
        stage.until(lambda: protocol.lost)
        stage.settle()
        return told, sock.fileno(), protocol.story

    _, descriptor, story = same(body)["result"]
    assert descriptor == -1 and story[-1] == ("lost", None)


# Arguments


WRONG = {
    "hostname without ssl": dict(host="127.0.0.1", port=1, server_hostname="x"),
    "no hostname for a socket": dict(sock=True, ssl=True),
    "object()": dict(sock=True, ssl=object(), server_hostname="x"),
    "a name": dict(sock=True, ssl="context", server_hostname="x"),
    "neither": dict(ssl=True),
    "no host": dict(ssl=True, port=443, server_hostname=None),
    "hostname of bytes": dict(sock=True, ssl=True, server_hostname=b"localhost"),
    "hostname that is no string": dict(sock=True, ssl=True, server_hostname=42),
    "hostname with a dot": dict(sock=True, ssl=True, server_hostname=".localhost"),
    "empty hostname that is checked": dict(sock=True, ssl=True, server_hostname=""),
    "hostname with a null": dict(sock=True, ssl=True, server_hostname="a\0b"),
}
for timeout in TIMEOUTS:
    WRONG["%s without ssl" % timeout] = {"sock": True, timeout: 1}
    for value in (0, -1, -0.5, "soon"):
        WRONG["%s=%s" % (timeout, value)] = {"sock": True, "ssl": True, "server_hostname": "x", timeout: value}


def without_socket(described):
    """Texts differ in what they say about the socket."""
    return described if "<socket" not in str(described) else described[0]


def wrong(stage, method, options, **more):
    options = dict(options, **more)
    ours = theirs = None
    if "sock" in options:
        ours, theirs = stage.pair()
        options["sock"] = ours
        theirs.shutdown(socket.SHUT_WR)  # invalid arguments that are accepted fail at once
    protocol = stage.recorder()
    with stage.unwarned():
        told = stage.attempt(lambda: getattr(stage.loop, method)(lambda: protocol, **options))
    return without_socket(told), protocol.story


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_of_a_client(same, name):
    told, story = same(lambda stage: wrong(stage, "create_connection", WRONG[name]))["result"]
    assert isinstance(told[0], str) and story == []


@pytest.mark.parametrize("name", [name for name in WRONG if "sock" in WRONG[name]])
def test_wrong_arguments_of_a_client_of_unix(same, name):
    same(lambda stage: wrong(stage, "create_unix_connection", WRONG[name]))


def test_unix_client_needs_a_hostname(same):
    result = same(lambda stage: wrong(stage, "create_unix_connection", dict(path="/nowhere", ssl=True)))["result"]
    assert result[0][:2] == ("ValueError", "you have to pass server_hostname when using ssl")
    same(lambda stage: wrong(stage, "create_unix_connection", dict(path="/nowhere", server_hostname="x")))


WRONG_SERVER = {
    "True": dict(ssl=True),
    "object()": dict(ssl=object()),
    "False": dict(ssl=False, ssl_handshake_timeout=None),
    "0": dict(ssl=0, ssl_handshake_timeout=1),
}
for timeout in TIMEOUTS:
    WRONG_SERVER["%s without ssl" % timeout] = {timeout: 1}


@pytest.mark.parametrize("name", WRONG_SERVER)
@pytest.mark.parametrize("method", ["create_server", "create_unix_server"])
def test_wrong_arguments_of_a_server(same, method, name, tmp_path):
    def body(stage):
        where = dict(host="127.0.0.1", port=0) if method == "create_server" else dict(path=str(tmp_path / "socket"))
        made = stage.attempt(lambda: getattr(stage.loop, method)(stage.recorder, **where, **WRONG_SERVER[name]))
        if hasattr(made, "close"):
            made.close()
            return "made"
        return made

    same(body)


def test_callbacks_see_a_copy_of_the_context_of_the_server(same, contexts):
    # A listener calls from the loop's own context, and the task that waits for the handshake copies the current
    # one.
    def body(stage):
        async def main():
            seen = []
            gone = stage.loop.create_future()

            def note(protocol, *args):
                seen.append(VAR.get())

            def factory():
                note(None)
                VAR.set(VAR.get() + "'s copy")
                return stage.recorder(made=note, data=answer, lost=lambda *args: note(*args) or gone.set_result(None))

            def answer(protocol, data):
                note(protocol)
                protocol.transport.write(data)
                protocol.transport.close()

            VAR.set("server")
            server = await stage.loop.create_server(factory, "127.0.0.1", 0, ssl=contexts.usual_server())
            VAR.set("later")
            address = server.sockets[0].getsockname()
            for _ in range(2):
                await echoed(
                    stage,
                    lambda factory: stage.loop.create_connection(
                        factory, *address, ssl=contexts.usual_client(), server_hostname="localhost"
                    ),
                )
                await gone
                gone = stage.loop.create_future()
            server.close()
            return seen

        return stage.run(main())

    assert same(body)["result"] == ["server"] + ["server's copy"] * 3 + ["server"] + ["server's copy"] * 3


@pytest.mark.parametrize("timeout", TIMEOUTS)
@pytest.mark.parametrize("value", [0, -1])
def test_timeout_of_a_server_is_looked_at_when_a_client_comes(same, contexts, timeout, value):
    def body(stage):
        made = []

        async def start():
            options = {timeout: value}
            return await stage.loop.create_server(
                lambda: made.append(stage.recorder()) or made[-1],
                "127.0.0.1",
                0,
                ssl=contexts.usual_server(),
                **options,
            )

        server = stage.attempt(start)
        if isinstance(server, tuple):
            return server
        with stage.unwarned():
            with socket.create_connection(server.sockets[0].getsockname()):
                stage.settle()
                stage.until(lambda: stage.reports or made)
            server.close()
            stage.settle()
        return [protocol.story for protocol in made], stage.reports

    same(body)


@pytest.mark.parametrize(
    "options",
    [dict(ssl=True), dict(ssl=object()), dict(ssl="context")]
    + [{timeout: 1} for timeout in TIMEOUTS]
    + [{"ssl": "server", timeout: value} for timeout in TIMEOUTS for value in (0, -1)],
    ids=lambda options: ", ".join(
        "%s=%s" % (name, value if isinstance(value, (str, int)) else type(value).__name__)
        for name, value in options.items()
    ),
)
def test_wrong_arguments_with_an_accepted_socket(same, contexts, options):
    def body(stage):
        ours, theirs = stage.pair()
        given = dict(options)
        if given.get("ssl") == "server":
            given["ssl"] = contexts.server()
        with stage.unwarned():
            return stage.attempt(lambda: stage.loop.connect_accepted_socket(stage.recorder, ours, **given))

    assert isinstance(same(body)["result"], tuple)


def test_context_of_the_other_side(same, contexts, side):
    def body(stage):
        ours, theirs = stage.pair()
        protocol = stage.recorder()
        context = contexts.server() if side == "client" else contexts.client()
        with stage.unwarned():
            if side == "client":
                making = lambda: stage.loop.create_connection(  # noqa: E731
                    lambda: protocol, sock=ours, ssl=context, server_hostname="localhost"
                )
            else:
                making = lambda: stage.loop.connect_accepted_socket(lambda: protocol, ours, ssl=context)  # noqa: E731
            return stage.attempt(making), protocol.story

    assert same(body)["result"][0][0] in ("SSLError", "ValueError")


# Extra info

INFO = ["ssl_object", "peercert", "cipher", "compression", "sslcontext", "socket", "peername", "sockname", "nothing"]


def infos(transport):
    found = {}
    for name in INFO:
        try:
            value = transport.get_extra_info(name)
        except Exception as error:
            value = type(error).__name__
        if name in ("ssl_object", "sslcontext", "socket"):
            value = type(value).__name__
        elif name in ("peername", "sockname") and value:
            value = "an address"
        found[name] = value
    found["default"] = transport.get_extra_info("nothing", 42), transport.get_extra_info("peercert", 42)
    found["a keyword"] = transport.get_extra_info(name="nothing", default=43)
    return found


def test_extra_info(same, contexts, side, version):
    def body(stage):
        seen = []
        protocol = stage.recorder(
            made=lambda protocol, transport: seen.append(infos(transport)),
            eof=lambda protocol: seen.append(infos(protocol.transport)),
            lost=lambda protocol, exc: seen.append(infos(protocol.transport)),
        )
        context = contexts.server(version=version) if side == "server" else contexts.client(version=version)
        transport, peer = stage.connect(protocol, side, "tcp", context=context)
        assert transport.get_extra_info("sslcontext") is context
        ssl_object = transport.get_extra_info("ssl_object")
        assert ssl_object is transport.get_extra_info("ssl_object") and ssl_object.context is context
        assert transport.get_extra_info("peername") == peer.sock.getsockname()
        assert transport.get_extra_info("sockname") == peer.sock.getpeername()
        told = ssl_object.version(), ssl_object.server_side, ssl_object.server_hostname, ssl_object.getpeercert()
        told += ssl_object.cipher(), ssl_object.compression(), ssl_object.pending(), ssl_object.shared_ciphers()
        told += (
            ssl_object.selected_alpn_protocol(),
            ssl_object.get_channel_binding("tls-unique") == (peer.tls.get_channel_binding("tls-unique")),
        )
        transport.close()
        seen.append(infos(transport))
        ending = peer.ending()
        peer.close()
        stage.until(lambda: protocol.lost)
        stage.settle()
        seen.append(infos(transport))
        return seen, told, ending, protocol.story

    seen, told, ending, story = same(body)["result"]
    assert seen[0]["ssl_object"] == "SSLObject" and told[0] == version.name.replace("_", ".")
    assert (seen[0]["peercert"] is None) == (side == "server")


# The transport's methods


def raised(function, *args):
    try:
        return function(*args)
    except Exception as error:
        return type(error).__name__, str(error)


def all_methods(transport):
    """Calls a transport's methods, and returns the results. (How much of a handshake is still unsent when it ends, and
    so get_write_buffer_size(), differs between versions of asyncio.)
    """
    told = {}
    for name in (
        "is_closing can_write_eof write_eof get_write_buffer_limits get_read_buffer_limits "
        "get_read_buffer_size is_reading pause_reading pause_reading is_reading resume_reading resume_reading is_reading"
    ).split():
        if name == "get_write_buffer_limits" and sys.version_info < (3, 11):
            continue  # it may fail
        told.setdefault(name, []).append(raised(getattr(transport, name)) if hasattr(transport, name) else "missing")
    told["repr"] = isinstance(repr(transport), str) and isinstance(str(transport), str)
    told["protocol"] = type(raised(transport.get_protocol)).__name__
    told["write"] = [raised(transport.write, data) for data in (b"", bytearray(), memoryview(b""))]
    told["wrong"] = [raised(transport.write, data) for data in (None, "text", 42, [b"x"], array.array("i", [1]))]
    told["flags"] = [
        transport._start_tls_compatible if hasattr(transport, "_start_tls_compatible") else "missing",
        transport._sendfile_compatible.name,
        isinstance(transport, asyncio.Transport),
    ]
    return told


def test_methods_in_each_state(same, side):
    def body(stage):
        told = []
        protocol = stage.recorder(
            made=lambda protocol, transport: told.append(("made", all_methods(transport))),
            data=lambda protocol, data: told.append(("data", all_methods(protocol.transport))),
            eof=lambda protocol: told.append(("eof", all_methods(protocol.transport))),
            lost=lambda protocol, exc: told.append(("lost", stage.is_closing(protocol.transport))),
        )
        transport, peer = stage.connect(protocol, side)
        peer.send(b"data")
        stage.until(lambda: protocol.data)
        transport.close()
        told.append(("closing", all_methods(transport)))
        peer.raw(peer.close_notify())
        stage.until(lambda: protocol.lost)
        stage.settle()
        told.append(
            (
                "lost",
                transport.is_closing(),
                transport.can_write_eof(),
                raised(transport.write_eof),
                bool(repr(transport)),
            )
        )
        told.append([raised(transport.write, data) for data in (b"", "text", b"late")])
        transport.close()
        transport.abort()
        return told, protocol.story

    result = same(body)["result"]
    assert result[1][-1] == ("lost", None)
    assert result[0][0][1]["write_eof"][0][0] == "NotImplementedError"


BAD_LIMITS = [(-1, None), (10, 20), (10, -1), ("a", None), (None, -1)]
GOOD_LIMITS = [(None, None), (100, None), (None, 100), (0, None), (0, 0), (7, 7), (1 << 40, 1), (None, 0)]


@pytest.mark.parametrize("which", ["write", "read"])
@pytest.mark.parametrize("limits", BAD_LIMITS + GOOD_LIMITS, ids=str)
def test_limits(same, which, limits):
    def body(stage):
        transport, peer = stage.connect(stage.recorder())
        if not hasattr(transport, "set_%s_buffer_limits" % which):
            return "missing"
        high, low = limits
        told = []
        told.append(raised(getattr(transport, "set_%s_buffer_limits" % which), high, low))
        if hasattr(transport, "get_%s_buffer_limits" % which) and sys.version_info >= (3, 11):  # else it may fail
            told.append(raised(getattr(transport, "get_%s_buffer_limits" % which)))
        told.append(transport.get_extra_info("cipher")[1])
        return told

    result = same(body)
    assert result["result"] == "missing" or isinstance(result["result"][0], tuple) == (limits in BAD_LIMITS)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio's TLS was another one")
@pytest.mark.parametrize("which", ["write", "read"])
@pytest.mark.parametrize("high", [1, 3, 2.5])
def test_limits_if_a_program_has_changed_asyncios(same, monkeypatch, which, high):
    def body(stage):
        with monkeypatch.context() as patches:
            name = "FLOW_CONTROL_HIGH_WATER_SSL_" + which.upper()
            patches.setattr(asyncio.constants, name, high)
            transport, peer = stage.connect(stage.recorder())
            told = [getattr(transport, "get_%s_buffer_limits" % which)()]
            patches.setattr(asyncio.constants, name, 7)
            getattr(transport, "set_%s_buffer_limits" % which)()
            told.append(getattr(transport, "get_%s_buffer_limits" % which)())
        return told

    first, second = same(body)["result"]
    assert first[1] == high * 1024 and second == (7 * 256, 7 * 1024)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio's TLS was another one")
@pytest.mark.parametrize("which", ["write", "read"])
def test_limits_if_asyncios_are_gone(same, monkeypatch, which):
    def body(stage):
        transport, peer = stage.connect(stage.recorder())
        with monkeypatch.context() as patches, stage.unwarned():
            patches.delattr(asyncio.constants, "FLOW_CONTROL_HIGH_WATER_SSL_" + which.upper())
            told = raised(getattr(transport, "set_%s_buffer_limits" % which))
            return told, stage.outcome(stage.begin(stage.recorder())[0])

    told, outcome = same(body)["result"]
    assert told[0] == outcome[0] == "AttributeError"


@pytest.mark.parametrize("method", ["set_write_buffer_limits", "set_read_buffer_limits"])
def test_limits_by_keyword(same, method):
    def body(stage):
        transport, peer = stage.connect(stage.recorder())
        if hasattr(transport, method) and sys.version_info >= (3, 11):
            getattr(transport, method)(low=3, high=9)
            return raised(getattr(transport, "get" + method[3:], lambda: None))

    same(body)


def test_protocol_can_be_changed(same, side):
    def body(stage):
        first, second = stage.recorder(), stage.recorder()
        transport, peer = stage.connect(first, side)
        assert transport.get_protocol() is first
        transport.set_protocol(second)
        assert transport.get_protocol() is second
        second.transport = transport
        peer.send(b"to the second")
        stage.until(lambda: second.data)
        peer.raw(peer.close_notify())
        stage.until(lambda: second.lost)
        stage.settle()
        return first.story, second.story, raised(transport.get_protocol) is second

    first, second, _ = same(body)["result"]
    assert first == [("made",)] and second[0] == ("data", b"to the second") and second[-1] == ("lost", None)


# Writing


@pytest.mark.parametrize("wrong", [None, "text", 42, [b"x"], object, {}], ids=repr)
def test_wrong_type_is_refused_and_nothing_breaks(same, wrong):
    def body(stage):
        protocol = stage.recorder()
        transport, peer = stage.connect(protocol)
        told = raised(transport.write, wrong)
        transport.write(b"fine")
        return told, peer.receive(4), protocol.story

    assert same(body)["result"][1:] == (b"fine", [("made",)])


@pytest.mark.parametrize(
    "given",
    [b"bytes", bytearray(b"bytearray"), memoryview(b"view"), memoryview(bytearray(b"01234567"))[2:5]],
    ids=lambda given: type(given).__name__,
)
def test_what_is_written(same, given):
    def body(stage):
        transport, peer = stage.connect(stage.recorder())
        transport.write(b"")
        transport.write(given)
        return peer.receive(len(given))

    assert same(body)["result"] == bytes(given)


def test_views_of_other_shapes(same):
    def body(stage):
        transport, peer = stage.connect(stage.recorder())
        transport.write(memoryview(array.array("B", b"unsigned")))
        transport.write(memoryview(b"abcdefgh").cast("B", (2, 4)).cast("B"))
        return peer.receive(16)

    assert same(body)["result"] == b"unsignedabcdefgh"


@pytest.mark.parametrize("how", ["write", "writelines", "view"])
def test_bytearray_changed_after_write(stage, how):
    """The written data is sent. (Some versions of asyncio send what the object has become if it had to wait.)"""
    data = bytearray(b"a" * 1000)
    transport, peer = stage.connect(stage.recorder())

    async def write():
        if how == "writelines":
            transport.writelines([data, data])
        else:
            transport.write(data if how == "write" else memoryview(data))
        data[:] = b"b" * 1000

    stage.run(write())
    count = 2000 if how == "writelines" else 1000
    assert peer.receive(count) == b"a" * count


@pytest.mark.parametrize("how", ["list", "tuple", "generator", "mixed", "empty", "empty pieces", "a bytes object"])
def test_writelines(same, how):
    pieces = [b"one ", bytearray(b"two "), memoryview(b"three")]

    def body(stage):
        transport, peer = stage.connect(stage.recorder())
        given = {
            "list": [b"one ", b"two ", b"three"],
            "tuple": (b"one ", b"two ", b"three"),
            "generator": (bytes(piece) for piece in pieces),
            "mixed": pieces,
            "empty": [],
            "empty pieces": [b"one ", b"", b"two ", b"three"],
        }.get(how, b"one two three")
        told = raised(transport.writelines, given)
        if how == "a bytes object" and told is not None:
            return told
        transport.write(b"!")
        return told, peer.receive(1 if how == "empty" else 14)

    result = same(body)["result"]
    if how != "a bytes object":
        assert result == (None, b"!" if how == "empty" else b"one two three!")


@pytest.mark.parametrize("given", ["text", [b"one ", "text", "more", b"two"]], ids=str)
def test_lines_that_are_no_bytes_are_reported_once(same, given):
    def body(stage):
        protocol = stage.recorder()
        transport, peer = stage.connect(protocol)
        told = raised(transport.writelines, given)
        stage.until(lambda: told or protocol.lost)
        transport.abort()
        return told, protocol.story

    result = same(body)
    assert sys.version_info < (3, 11) or len(result["reports"]) == 1
