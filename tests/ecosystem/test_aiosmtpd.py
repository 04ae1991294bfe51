"""aiosmtpd's server, which is a StreamReaderProtocol, and the standard library's client in a thread."""

import asyncio
import contextlib
import smtplib
import ssl

import pytest

pytest.importorskip("aiosmtpd")
from aiosmtpd.lmtp import LMTP  # noqa: E402
from aiosmtpd.smtp import SMTP, AuthResult  # noqa: E402

MESSAGE = b"Subject: x\r\n\r\n..dots\r\n" + b"line\r\n" * 20000


class Handler:
    def __init__(self):
        self.kept, self.lost = [], []

    async def handle_DATA(self, server, session, envelope):
        await asyncio.sleep(0)
        self.kept.append((envelope.mail_from, envelope.rcpt_tos, envelope.original_content, session.ssl is not None))
        return "250 kept"

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("nobody"):
            return "550 nobody of that name"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_exception(self, error):
        self.lost.append(error)
        return "500 failed"


@pytest.fixture
def handler():
    return Handler()


@pytest.fixture
def serving(loop, handler):
    """A context with a server: its port."""

    @contextlib.asynccontextmanager
    async def serving(cls=SMTP, **options):
        made = []

        def factory():
            made.append(cls(handler, loop=loop, **options))
            return made[-1]

        server = await loop.create_server(factory, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            await server.wait_closed()
            while any(protocol.transport is not None and not protocol.transport.is_closing() for protocol in made):
                await asyncio.sleep(0)
            await asyncio.gather(*(protocol._handler_coroutine for protocol in made), return_exceptions=True)

    return serving


@pytest.fixture
def client(loop):
    """Runs function(client) of smtplib in a thread."""

    def client(port, function, cls=smtplib.SMTP):
        options = {} if cls is smtplib.LMTP else {"timeout": 20}  # LMTP's has none before Python 3.9

        def work():
            with cls("127.0.0.1", port, **options) as client:
                return function(client)

        return loop.run_in_executor(None, work)

    return client


@pytest.mark.parametrize("server, cls", [(SMTP, smtplib.SMTP), (LMTP, smtplib.LMTP)])
def test_mail(run, serving, client, handler, server, cls):
    def send(client):
        for number in range(3):
            refused = client.sendmail("from%d@x" % number, ["to@x", "nobody@x"], MESSAGE)
            assert list(refused) == ["nobody@x"]
        assert client.noop()[0] == 250 and client.verify("to@x")[0] == 252

    async def main():
        async with serving(server) as port:
            await asyncio.gather(*(client(port, send, cls) for _ in range(4)))

    run(main())
    assert len(handler.kept) == 12 and handler.lost == []
    assert {kept[1:] and (tuple(kept[1]), kept[2], kept[3]) for kept in handler.kept} == {(("to@x",), MESSAGE, False)}


def test_limits(run, serving, client, handler):
    def send(client):
        client.ehlo()
        assert client.docmd("NOOP " + "x" * 2000)[0] == 500
        assert client.noop()[0] == 250
        with pytest.raises(smtplib.SMTPDataError):
            client.sendmail("from@x", ["to@x"], b"y" * 5000 + b"\r\n")
        assert client.noop()[0] == 250
        with pytest.raises(smtplib.SMTPSenderRefused):
            client.sendmail("from@x", ["to@x"], b"z\r\n" * 10000)

    async def main():
        async with serving(data_size_limit=20000) as port:
            await client(port, send)

    run(main())
    assert handler.kept == [] and handler.lost == []


def test_starttls_and_login(run, serving, client, handler):
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server_context)
    client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(client_context)

    def authenticate(server, session, envelope, mechanism, data):
        return AuthResult(success=data.login == b"user" and data.password == b"word", handled=False)

    def send(client):
        client.starttls(context=client_context)
        with pytest.raises(smtplib.SMTPAuthenticationError):
            client.login("user", "wrong")
        client.login("user", "word")
        client.sendmail("from@x", ["to@x"], MESSAGE)

    async def main():
        options = {"tls_context": server_context, "require_starttls": True}
        async with serving(authenticator=authenticate, auth_required=True, **options) as port:
            await client(port, send)

    run(main())
    assert handler.kept == [("from@x", ["to@x"], MESSAGE, True)] and handler.lost == []


def test_client_that_goes_away(run, serving, handler):
    async def main():
        async with serving() as port:
            for text in (b"", b"EHLO x\r\nMAIL FR", b"EHLO x\r\nMAIL FROM:<a@x>\r\nRCPT TO:<b@x>\r\nDATA\r\nhalf"):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                assert (await reader.readline()).startswith(b"220 ")
                writer.write(text)
                await writer.drain()
                writer.close()
                await writer.wait_closed()

    run(main())
    assert handler.kept == []
