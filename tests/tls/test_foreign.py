"""The loop's TLS with a TLS that is not Python's: the openssl command as the client, and as the server.

What the command sends must be digits: some letters at the start of a line are commands.
"""

import asyncio
import contextlib
import os
import re
import shutil
import ssl
import subprocess
import sys

import pytest

trustme = pytest.importorskip("trustme")

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl command")

PATIENCE_S = 20
DIGITS = b"0123456789" * 6000  # several records, and less than a pipe holds
ALLOW_CLIENT_RENEGOTIATION = 0x100  # of OpenSSL 3; the ssl module has no name for it


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def pem(authority, tmp_path_factory):
    """The paths of the authority's certificate, and of localhost's with its key."""
    folder = tmp_path_factory.mktemp("certificates")
    trusted, own = str(folder / "authority.pem"), str(folder / "localhost.pem")
    authority.cert_pem.write_to_path(trusted)
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(own)
    return trusted, own


@pytest.fixture
def server_context(pem):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem[1])
    return context


@pytest.fixture
def client_context(pem):
    return ssl.create_default_context(cafile=pem[0])


@pytest.fixture(params=["tls1_2", "tls1_3"])
def version(request):
    return request.param


class OpenSSL:
    """The openssl command; its output is collected while the loop runs."""

    def __init__(self, loop, *args):
        self.loop = loop
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen(("openssl",) + args, bufsize=0, **pipes)
        self.out, self.err = bytearray(), bytearray()
        self.open = 0
        self.changed = asyncio.Event()
        for pipe, kept in (self.process.stdout, self.out), (self.process.stderr, self.err):
            os.set_blocking(pipe.fileno(), False)
            loop.add_reader(pipe.fileno(), self.read, pipe, kept)
            self.open += 1

    def read(self, pipe, kept):
        data = pipe.read(65536)
        if data == b"":
            self.loop.remove_reader(pipe.fileno())
            self.open -= 1
        kept.extend(data or b"")
        self.changed.set()

    def say(self, data):
        self.process.stdin.write(data)

    async def until(self, condition):
        while not condition():
            self.changed.clear()
            await self.changed.wait()

    async def written(self, data):
        await self.until(lambda: data in self.out)

    async def noted(self, data):
        await self.until(lambda: data in self.err)

    async def ended(self):
        """Its exit status, after it has exited by itself."""
        await self.until(lambda: not self.open)
        return self.process.wait(PATIENCE_S)

    def kill(self):
        for pipe in self.process.stdout, self.process.stderr:
            self.loop.remove_reader(pipe.fileno())
        with self.process:
            self.process.kill()


@pytest.fixture
def openssl(loop, turn):
    """Starts the command, and ends it after the test."""
    with contextlib.ExitStack() as stack:

        def openssl(*args):
            command = OpenSSL(loop, *args)
            stack.callback(command.kill)
            return command

        yield openssl
    turn()  # the command's exit may break a connection that a failed test left open


@pytest.fixture
def s_client(openssl, pem):
    """Starts a client of the server. What it receives goes to its stdout, its messages to stderr."""

    def s_client(server, *args):
        address = "%s:%d" % server.sockets[0].getsockname()
        checks = ["-servername", "localhost", "-verify_hostname", "localhost", "-verify_return_error"]
        return openssl("s_client", "-brief", "-connect", address, "-CAfile", pem[0], *checks, *args)

    return s_client


@pytest.fixture
def s_server(openssl, pem):
    """Starts a server; returns it and its port. Received data appears between its messages."""

    async def s_server(*args):
        server = openssl("s_server", "-accept", "127.0.0.1:0", "-cert", pem[1], *args)
        accepts = re.compile(rb"^ACCEPT 127\.0\.0\.1:(\d+)$", re.MULTILINE)
        await server.until(lambda: accepts.search(server.out))
        return server, int(accepts.search(server.out).group(1))

    return s_server


@pytest.fixture
def run(loop):
    def run(coroutine):
        return loop.run_until_complete(asyncio.wait_for(coroutine, PATIENCE_S))

    return run


class Conversation:
    """A server for one connection; done when `serve` has handled it."""

    def __init__(self, serve):
        self.serve = serve
        self.done = asyncio.get_running_loop().create_future()
        self.tls = None

    async def handle(self, reader, writer):
        self.tls = writer.get_extra_info("ssl_object")
        try:
            self.done.set_result(await self.serve(reader, writer))
        except Exception as error:
            self.done.set_exception(error)
        finally:
            writer.close()


@contextlib.asynccontextmanager
async def serving(context, serve, **options):
    """A server that handles its connection with `serve(reader, writer)`."""
    conversation = Conversation(serve)
    server = await asyncio.start_server(conversation.handle, "127.0.0.1", 0, ssl=context, **options)
    try:
        yield server, conversation
    finally:
        server.close()
        await server.wait_closed()


async def echo(reader, writer):
    """Echoes up to EOF, and returns everything."""
    got = bytearray()
    while True:
        data = await reader.read(65536)
        if not data:
            return bytes(got)
        got += data
        writer.write(data)


async def connect(port, context):
    return await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")


@pytest.fixture
def writes_wait(run, server_context, client_context):
    """Skips the test with asyncio's TLS before 3.11: what is written during a handshake stalls."""

    async def main():
        async with serving(server_context, echo) as (server, conversation):
            _, writer = await connect(server.sockets[0].getsockname()[1], client_context)
            stock = type(writer.transport).__module__.startswith("asyncio.")
            writer.close()
            await writer.wait_closed()
            await conversation.done
            return stock

    if sys.version_info < (3, 11) and run(main()):
        pytest.skip("asyncio does otherwise")


# The loop serves


def test_client_sends_receives_and_ends(run, s_client, server_context, version):
    async def main():
        async with serving(server_context, echo) as (server, conversation):
            client = s_client(server, "-" + version)
            await client.noted(b"CONNECTION ESTABLISHED")
            client.say(DIGITS)
            await client.until(lambda: len(client.out) >= len(DIGITS))
            client.process.stdin.close()  # makes it send close_notify
            assert await conversation.done == DIGITS
            assert client.out == DIGITS
            assert await client.ended() == 0
            return conversation.tls.version()

    assert run(main()) == {"tls1_2": "TLSv1.2", "tls1_3": "TLSv1.3"}[version]


def test_server_ends_first(run, s_client, server_context, version):
    async def serve(reader, writer):
        assert await reader.readexactly(2) == b"1\n"
        writer.write(DIGITS)

    async def main():
        async with serving(server_context, serve) as (server, conversation):
            client = s_client(server, "-" + version)
            await client.noted(b"CONNECTION ESTABLISHED")
            client.say(b"1\n")
            await conversation.done
            status = await client.ended()  # an error status, if there had been no close_notify
            return status, bytes(client.out)

    assert run(main()) == (0, DIGITS)


@pytest.mark.parametrize("meanwhile", [b"", DIGITS], ids=["idle", "writing"])
def test_client_renegotiates(run, loop, s_client, server_context, meanwhile, request):
    """TLS 1.2 renegotiates on an open connection; what is written meanwhile waits for the end."""
    if meanwhile:
        request.getfixturevalue("writes_wait")
    server_context.options |= ALLOW_CLIENT_RENEGOTIATION
    hellos = []
    writers = []

    def on_hello(tls, name, context):
        hellos.append(name)
        if len(hellos) == 2 and meanwhile:
            loop.call_soon(writers[0].write, meanwhile)

    server_context.sni_callback = on_hello

    async def serve(reader, writer):
        writers.append(writer)
        try:
            return await echo(reader, writer)
        finally:
            writers.clear()

    async def main():
        async with serving(server_context, serve) as (server, conversation):
            client = s_client(server, "-tls1_2")
            await client.noted(b"CONNECTION ESTABLISHED")
            client.say(b"1\n")
            await client.until(lambda: client.out == b"1\n")
            client.say(b"R\n")
            await client.noted(b"RENEGOTIATING")
            await client.until(lambda: len(client.out) >= 2 + len(meanwhile))
            client.say(b"2\n")
            await client.until(lambda: len(client.out) >= 4 + len(meanwhile))
            client.process.stdin.close()
            assert await conversation.done == b"1\n2\n"
            return await client.ended(), bytes(client.out)

    assert run(main()) == (0, b"1\n" + meanwhile + b"2\n")
    assert hellos == ["localhost"] * 2


@pytest.mark.parametrize("command", [b"k", b"K"], ids=["its own", "both"])
def test_client_updates_keys(run, s_client, server_context, tmp_path, command):
    messages = tmp_path / "messages"

    async def main():
        async with serving(server_context, echo) as (server, conversation):
            client = s_client(server, "-tls1_3", "-msg", "-msgfile", str(messages))
            await client.noted(b"CONNECTION ESTABLISHED")
            for turn in range(1, 4):
                client.say(b"%d\n" % turn)
                await client.until(lambda turn=turn: len(client.out) == 2 * turn)
                client.say(command + b"\n")
                await client.until(lambda turn=turn: client.err.count(b"KEYUPDATE") == turn)
            client.say(DIGITS)
            await client.until(lambda: len(client.out) >= 6 + len(DIGITS))
            client.process.stdin.close()
            expected = b"1\n2\n3\n" + DIGITS
            assert await conversation.done == expected
            assert await client.ended() == 0
            assert client.out == expected

    run(main())
    lines = [line for line in messages.read_text().splitlines() if "KeyUpdate" in line]
    assert sum(line.startswith(">>>") for line in lines) == 3
    assert sum(line.startswith("<<<") for line in lines) == (3 if command == b"K" else 0)


def test_client_resumes_its_session(run, s_client, server_context, tmp_path, version):
    session = str(tmp_path / "session")

    async def visit(*args):
        async with serving(server_context, echo) as (server, conversation):
            client = s_client(server, "-" + version, *args)
            await client.noted(b"CONNECTION ESTABLISHED")
            client.say(b"1\n")
            await client.until(lambda: client.out == b"1\n")  # a ticket of TLS 1.3 came before it
            client.process.stdin.close()
            await conversation.done
            assert await client.ended() == 0
            return conversation.tls.session_reused

    assert run(visit("-sess_out", session)) is False
    assert run(visit("-sess_in", session)) is True
    assert run(visit()) is False


def test_client_shows_its_certificate(run, pem, s_client, server_context, version):
    server_context.verify_mode = ssl.CERT_REQUIRED
    server_context.load_verify_locations(pem[0])

    async def serve(reader, writer):
        assert await reader.readexactly(2) == b"1\n"
        return writer.get_extra_info("peercert")

    async def main():
        async with serving(server_context, serve) as (server, conversation):
            client = s_client(server, "-" + version, "-cert", pem[1])
            await client.noted(b"CONNECTION ESTABLISHED")
            client.say(b"1\n")
            certificate = await conversation.done
            assert await client.ended() == 0
            return certificate

    assert run(main())["subjectAltName"] == (("DNS", "localhost"),)


def test_client_shows_no_certificate(run, pem, s_client, server_context, version):
    """In TLS 1.3 the client's handshake ends before the server finds out."""
    server_context.verify_mode = ssl.CERT_REQUIRED
    server_context.load_verify_locations(pem[0])

    async def main():
        async with serving(server_context, echo) as (server, conversation):
            client = s_client(server, "-" + version)
            assert await client.ended() != 0
            return conversation.tls

    assert run(main()) is None


def test_client_offers_protocols(run, s_client, server_context, version):
    server_context.set_alpn_protocols(["spam", "eggs"])

    async def serve(reader, writer):
        await reader.readexactly(2)
        return writer.get_extra_info("ssl_object").selected_alpn_protocol()

    async def main():
        async with serving(server_context, serve) as (server, conversation):
            client = s_client(server, "-" + version, "-alpn", "ham,eggs,spam")
            client.say(b"1\n")
            selected = await conversation.done
            assert await client.ended() == 0
            return selected

    assert run(main()) == "spam"


# The loop connects


def test_server_sends_receives_and_is_left(run, s_server, client_context, version):
    async def main():
        server, port = await s_server("-" + version, "-naccept", "1")
        reader, writer = await connect(port, client_context)
        writer.write(DIGITS)
        await server.written(DIGITS)
        server.say(DIGITS)
        assert await reader.readexactly(len(DIGITS)) == DIGITS
        writer.close()
        await writer.wait_closed()
        assert await server.ended() == 0
        assert b"DONE\n" in server.out  # else "ERROR"

    run(main())


def test_server_leaves(run, s_server, client_context, version):
    async def main():
        server, port = await s_server("-" + version)
        reader, writer = await connect(port, client_context)
        server.say(b"12345")
        assert await reader.readexactly(5) == b"12345"
        server.say(b"Q\n")
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        await server.ended()

    run(main())


def test_server_renegotiates(run, s_server, client_context):
    async def main():
        server, port = await s_server("-tls1_2", "-naccept", "1", "-msg")
        reader, writer = await connect(port, client_context)
        server.say(b"1\n")
        assert await reader.readexactly(2) == b"1\n"
        server.say(b"r\n")
        await server.until(lambda: server.out.count(b"ClientHello") == 2)
        writer.write(b"2\n")
        server.say(b"3\n")
        assert await reader.readexactly(2) == b"3\n"
        await server.written(b"2\n")
        writer.close()
        await writer.wait_closed()
        assert await server.ended() == 0
        assert server.out.count(b"Finished") == 4

    run(main())


@pytest.mark.parametrize("command", [b"k", b"K"], ids=["its own", "both"])
def test_server_updates_keys(run, s_server, client_context, command):
    async def main():
        server, port = await s_server("-tls1_3", "-naccept", "1", "-msg")
        reader, writer = await connect(port, client_context)
        server.say(command + b"\n")
        await server.written(b"KeyUpdate")
        server.say(b"1234\n")
        assert await reader.readexactly(5) == b"1234\n"
        writer.write(b"567890\n")
        await server.written(b"567890\n")
        writer.close()
        await writer.wait_closed()
        assert await server.ended() == 0
        return server.out.count(b"KeyUpdate")

    assert run(main()) == (2 if command == b"K" else 1)


def test_server_sees_the_certificate(run, pem, s_server, client_context, version):
    client_context.load_cert_chain(pem[1])

    async def main():
        server, port = await s_server("-" + version, "-naccept", "1", "-Verify", "1", "-CAfile", pem[0])
        _, writer = await connect(port, client_context)
        await server.written(b"Client certificate")
        writer.close()
        await writer.wait_closed()
        return await server.ended()

    assert run(main()) == 0


def test_server_chooses_a_protocol(run, s_server, client_context, version):
    client_context.set_alpn_protocols(["ham", "eggs", "spam"])

    async def main():
        server, port = await s_server("-" + version, "-naccept", "1", "-alpn", "spam,eggs")
        _, writer = await connect(port, client_context)
        selected = writer.get_extra_info("ssl_object").selected_alpn_protocol()
        writer.close()
        await writer.wait_closed()
        assert await server.ended() == 0
        return selected

    assert run(main()) == "spam"
