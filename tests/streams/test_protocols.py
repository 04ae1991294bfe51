"""Small but complete protocols over asyncio's streams, like the libraries that use them: a mail server that reads
lines up to a limit and upgrades to TLS, a store that speaks RESP, and WebSocket frames.
"""

import asyncio
import hashlib
import os
import ssl
import struct

import pytest

LIMIT = 512  # for a line of mail
PATIENCE_S = 10


@pytest.fixture
def talk(loop, turn, tmp_path, monkeypatch):
    """talk(serve, use, kind): runs a client's use(reader, writer) against a server's serve(reader, writer); returns
    the client's result after both ends are closed. Exceptions of either end are raised.
    """
    monkeypatch.chdir(tmp_path)  # keeps the socket's path short

    async def main(serve, use, kind, options):
        served = loop.create_future()

        async def connected(reader, writer):
            try:
                served.set_result(await serve(reader, writer))
            except BaseException as error:
                served.set_exception(error)
            finally:
                writer.close()

        if kind == "unix":
            server = await asyncio.start_unix_server(connected, "socket", **options)
            reader, writer = await asyncio.open_unix_connection("socket", **options)
        else:
            server = await asyncio.start_server(connected, "127.0.0.1", 0, **options)
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname(), **options)
        try:
            using = asyncio.ensure_future(use(reader, writer))
            await asyncio.wait([using, served], return_when=asyncio.FIRST_COMPLETED)
            if served.done() and served.exception() is not None:
                using.cancel()
                raise served.exception()
            result = await using
        finally:
            writer.close()
            server.close()
        await served
        try:
            await writer.wait_closed()
        except ConnectionError:
            pass
        return result

    def talk(serve, use, kind="tcp", **options):
        result = loop.run_until_complete(asyncio.wait_for(main(serve, use, kind, options), PATIENCE_S))
        turn()
        turn()
        return result

    return talk


@pytest.fixture(params=["tcp", "unix"])
def kind(request):
    return request.param


# Mail


class MailServer:
    """Like aiosmtpd: readuntil() for commands and for the lines of a message, each up to the limit."""

    def __init__(self, context=None):
        self.context, self.messages, self.secure = context, [], False

    async def reply(self, text):
        self.writer.write(text.encode() + b"\r\n")
        await self.writer.drain()

    async def line(self):
        """The next line, or None for one that is too long, which is skipped up to its end."""
        too_long = False
        while True:
            try:
                line = await self.reader.readuntil(b"\r\n")
            except asyncio.LimitOverrunError as error:
                too_long = True
                await self.reader.readexactly(error.consumed)
            else:
                return None if too_long else line[:-2]

    async def serve(self, reader, writer):
        self.reader, self.writer = reader, writer
        await self.reply("220 ready")
        while True:
            try:
                line = await self.line()
            except asyncio.IncompleteReadError as error:
                return error.partial
            if line is None:
                await self.reply("500 too long")
                continue
            verb, _, argument = line.partition(b" ")
            handler = getattr(self, "do_" + verb.decode().lower(), None)
            if handler is None:
                await self.reply("502 unknown")
            elif await handler(argument) == "end":
                return b""

    async def do_ehlo(self, argument):
        self.writer.writelines([b"250-%b\r\n" % argument, b"250-SIZE 1000000\r\n"])
        await self.reply("250 " + ("HELP" if self.context is None or self.secure else "STARTTLS"))

    async def do_starttls(self, argument):
        await self.reply("220 go ahead")
        await self.writer.start_tls(self.context)
        self.secure = True

    async def do_data(self, argument):
        await self.reply("354 go on")
        lines = []
        while True:
            line = await self.line()
            if line == b".":
                break
            lines.append(line)
        if None in lines:
            await self.reply("500 too long")
        else:
            self.messages.append([line[line.startswith(b".") :] for line in lines])
            await self.reply("250 kept")

    async def do_quit(self, argument):
        await self.reply("221 bye")
        return "end"


class MailClient:
    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    async def answer(self):
        lines = []
        while not lines or lines[-1][3:4] == b"-":
            lines.append(await self.reader.readline())
            assert lines[-1].endswith(b"\r\n")
        return [line.decode().strip() for line in lines]

    async def command(self, text):
        self.writer.write(text.encode() + b"\r\n")
        await self.writer.drain()
        return await self.answer()


def test_mail(talk, kind):
    server = MailServer()
    message = ["Subject: x", "", ".leading", "y" * (LIMIT - 1), "end"]

    async def use(reader, writer):
        client = MailClient(reader, writer)
        assert await client.answer() == ["220 ready"]
        assert await client.command("EHLO here") == ["250-here", "250-SIZE 1000000", "250 HELP"]
        assert await client.command("x" * 10 * LIMIT) == ["500 too long"]
        assert await client.command("NOOP " + "x" * LIMIT) == ["500 too long"]
        assert await client.command("NOOP") == ["502 unknown"]
        assert await client.command("DATA") == ["354 go on"]
        stuffed = [("." + line if line.startswith(".") else line) + "\r\n" for line in message]
        for line in stuffed:
            for at in range(0, len(line), 7):  # in pieces
                writer.write(line[at : at + 7].encode())
                await writer.drain()
        assert await client.command(".") == ["250 kept"]
        assert await client.command("DATA") == ["354 go on"]
        writer.write(b"z" * 2 * LIMIT + b"\r\n")
        assert await client.command(".") == ["500 too long"]
        writer.write(b"EHLO a\r\nEHLO b\r\nQUIT\r\n")  # all at once
        answers = [await client.answer() for _ in range(3)]
        assert [answer[0] for answer in answers] == ["250-a", "250-b", "221 bye"]
        return await reader.read()

    assert talk(server.serve, use, kind, limit=LIMIT) == b""
    assert server.messages == [[line.encode() for line in message]]


def test_mail_breaks_off(talk, kind):
    server, ended = MailServer(), []

    async def serve(reader, writer):
        ended.append(await server.serve(reader, writer))

    async def use(reader, writer):
        client = MailClient(reader, writer)
        await client.answer()
        writer.write(b"EHLO he")
        writer.write_eof()
        return await reader.read()

    assert talk(serve, use, kind) == b"" and ended == [b"EHLO he"]


@pytest.mark.skipif(not hasattr(asyncio.StreamWriter, "start_tls"), reason="from Python 3.11 on")
def test_mail_over_tls(talk):
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server_context)
    client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(client_context)
    server = MailServer(server_context)

    async def use(reader, writer):
        client = MailClient(reader, writer)
        await client.answer()
        assert (await client.command("EHLO here"))[-1] == "250 STARTTLS"
        assert await client.command("STARTTLS") == ["220 go ahead"]
        await writer.start_tls(client_context, server_hostname="localhost")
        assert (await client.command("EHLO again"))[-1] == "250 HELP"
        assert await client.command("x" * 10 * LIMIT) == ["500 too long"]
        assert await client.command("DATA") == ["354 go on"]
        for number in range(1000):
            writer.write(b"line %d\r\n" % number)
        assert await client.command(".") == ["250 kept"]
        assert await client.command("QUIT") == ["221 bye"]

    talk(server.serve, use, limit=LIMIT)
    assert server.messages == [[b"line %d" % number for number in range(1000)]]


# RESP


class Resp:
    """Like redis-py: readline() for the header, readexactly() for the data."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    async def read(self):
        line = await self.reader.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the connection is closed")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest.decode()
        if kind == b"-":
            return KeyError(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"$":
            size = int(rest)
            return None if size < 0 else (await self.reader.readexactly(size + 2))[:-2]
        assert kind == b"*", line
        return [await self.read() for _ in range(int(rest))]

    def write(self, value):
        if isinstance(value, list):
            self.writer.write(b"*%d\r\n" % len(value))
            for item in value:
                self.write(item)
        elif isinstance(value, bytes):
            self.writer.writelines([b"$%d\r\n" % len(value), value, b"\r\n"])
        elif isinstance(value, int):
            self.writer.write(b":%d\r\n" % value)
        elif isinstance(value, KeyError):
            self.writer.write(b"-%b\r\n" % value.args[0].encode())
        else:
            self.writer.write(b"$-1\r\n" if value is None else b"+%b\r\n" % value.encode())

    async def command(self, *parts):
        self.write(list(parts))
        await self.writer.drain()
        return await self.read()

    async def has_something(self):
        """redis-py checks this before it reuses a connection, and discards one with unread data."""
        try:
            return bool(await asyncio.wait_for(self.reader.read(1), 0.0001))
        except asyncio.TimeoutError:
            return False


async def store(reader, writer):
    resp, values = Resp(reader, writer), {}
    while True:
        try:
            command, *arguments = await resp.read()
        except ConnectionError:
            return values
        if command == b"SET":
            values[arguments[0]] = arguments[1]
            resp.write("OK")
        elif command == b"GET":
            resp.write(values.get(arguments[0]))
        elif command == b"MGET":
            resp.write([values.get(key) for key in arguments])
        elif command == b"COUNT":
            resp.write(len(values))
        else:
            resp.write(KeyError("ERR unknown"))
        await writer.drain()


@pytest.mark.parametrize("limit", [64, 2**16])
def test_resp(talk, kind, limit):
    async def use(reader, writer):
        resp = Resp(reader, writer)
        for size in (0, 1, 100, 65535, 65536, 3_000_000):
            value = os.urandom(size)
            assert await resp.command(b"SET", b"key %d" % size, value) == "OK"
            assert await resp.command(b"GET", b"key %d" % size) == value
        assert await resp.command(b"COUNT") == 6
        assert await resp.command(b"GET", b"none") is None
        assert (await resp.command(b"FLY")).args == ("ERR unknown",)
        assert await resp.has_something() is False
        assert await resp.command(b"MGET", b"key 1", b"none", b"key 0") == [
            await resp.command(b"GET", b"key 1"),
            None,
            b"",
        ]
        for number in range(500):  # a pipeline
            resp.write([b"SET", b"n", b"%d" % number])
            resp.write([b"GET", b"n"])
        answers = [await resp.read() for _ in range(1000)]
        assert answers[::2] == ["OK"] * 500 and answers[1::2] == [b"%d" % number for number in range(500)]
        return True

    assert talk(store, use, kind, limit=limit)


def test_resp_read_is_cancelled(talk):
    """An answer that nobody waits for is kept for the next read."""

    async def use(reader, writer):
        resp = Resp(reader, writer)
        asking = asyncio.ensure_future(resp.command(b"COUNT"))
        while reader._waiter is None:
            await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert reader._waiter is None
        return await resp.read()

    assert talk(store, use) == 0


# WebSockets


class Frames:
    """Like websockets: a request in lines, then frames whose length fields say how long the next one is."""

    def __init__(self, reader, writer, mask):
        self.reader, self.writer, self.mask = reader, writer, mask

    async def head(self):
        """Lines up to the empty one."""
        lines = []
        while not lines or lines[-1]:
            lines.append((await self.reader.readline())[:-2])
        return lines[:-1]

    async def read(self):
        first, second = await self.reader.readexactly(2)
        size = second & 127
        if size == 126:
            (size,) = struct.unpack("!H", await self.reader.readexactly(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", await self.reader.readexactly(8))
        key = await self.reader.readexactly(4) if second & 128 else bytes(4)
        data = await self.reader.readexactly(size)
        return first & 15, self.masked(data, key)

    @staticmethod
    def masked(data, key):
        key = (key * (len(data) // 4 + 1))[: len(data)]
        return (int.from_bytes(data, "big") ^ int.from_bytes(key, "big")).to_bytes(len(data), "big")

    async def write(self, opcode, data):
        size = len(data)
        second = size if size < 126 else 126 if size < 65536 else 127
        head = bytes([128 | opcode, second | (128 if self.mask else 0)])
        head += struct.pack("!H", size) if second == 126 else struct.pack("!Q", size) if second == 127 else b""
        key = os.urandom(4) if self.mask else bytes(4)
        self.writer.write(head + (key if self.mask else b"") + self.masked(data, key))
        await self.writer.drain()


@pytest.mark.parametrize("limit", [100, 2**16])
def test_frames(talk, kind, limit):
    accept = hashlib.sha1(b"key").hexdigest().encode()

    async def serve(reader, writer):
        frames = Frames(reader, writer, mask=False)
        assert (await frames.head())[0] == b"GET / HTTP/1.1"
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n")
        while True:
            opcode, data = await frames.read()
            await frames.write(opcode, data)
            if opcode == 8:
                return

    async def use(reader, writer):
        frames = Frames(reader, writer, mask=True)
        writer.write(b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Key: key\r\n\r\n")
        assert (await frames.head())[1] == b"Sec-WebSocket-Accept: " + accept
        for size in (0, 1, 125, 126, 65535, 65536, 1_000_000):
            data = os.urandom(size)
            await frames.write(2, data)
            assert await frames.read() == (2, data)
        for number in range(100):
            await frames.write(1, b"%d" % number)
        for number in range(100):
            assert await frames.read() == (1, b"%d" % number)
        writer.write(bytes([128 | 9]))  # a frame that comes in pieces
        await asyncio.sleep(0)
        writer.write(bytes([128 | 2]) + bytes(4) + b"o")
        await asyncio.sleep(0)
        writer.write(b"k")
        assert await frames.read() == (9, b"ok")
        await frames.write(8, b"")
        assert await frames.read() == (8, b"")
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await frames.read()
        return caught.value.partial, caught.value.expected

    assert talk(serve, use, kind, limit=limit) == (b"", 2)
