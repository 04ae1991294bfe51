"""loop.start_tls(): an open connection becomes one of TLS."""

import asyncio
import socket
import ssl
from asyncio import base_events

import pytest


class Tls:
    """TLS for a socket, driven by hand, so that the test says what goes in one segment."""

    def __init__(self, context, **options):
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, **options)

    async def drive(self, loop, sock, function, *args):
        """Calls the function until it has all that it wants to read."""
        while True:
            try:
                result = function(*args)
            except ssl.SSLWantReadError:
                await loop.sock_sendall(sock, self.outgoing.read())
                self.incoming.write(await loop.sock_recv(sock, 65536))
            else:
                await loop.sock_sendall(sock, self.outgoing.read())
                return result

    def hello(self):
        with pytest.raises(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self.outgoing.read()


KEEPS = "StreamReaderProtocol" in base_events.BaseEventLoop.start_tls.__code__.co_names


@pytest.mark.parametrize("early", ["nothing", "the ClientHello", "half of it"])
def test_client_hello_that_came_with_the_request_for_tls(loop, loop_kind, server_context, client_context, early):
    if loop_kind == "asyncio" and not KEEPS and early != "nothing":
        pytest.skip("this asyncio loses it")

    async def serve(reader, writer):
        assert await reader.readline() == b"STARTTLS\n"
        writer.write(b"go\n")
        protocol = writer.transport.get_protocol()
        transport = await loop.start_tls(writer.transport, protocol, server_context, server_side=True)
        protocol._transport = transport
        reader._transport = transport
        transport.write(b"secret " + await reader.readline())
        transport.close()

    async def main():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        sock = socket.create_connection(server.sockets[0].getsockname())
        sock.setblocking(False)
        tls = Tls(client_context, server_hostname="localhost")
        hello = tls.hello()
        cut = {"nothing": 0, "the ClientHello": len(hello), "half of it": len(hello) // 2}[early]
        await loop.sock_sendall(sock, b"STARTTLS\n" + hello[:cut])
        assert await loop.sock_recv(sock, 3) == b"go\n"
        await loop.sock_sendall(sock, hello[cut:])
        await tls.drive(loop, sock, tls.tls.do_handshake)
        await tls.drive(loop, sock, tls.tls.write, b"word\n")
        answer = await tls.drive(loop, sock, tls.tls.read, 100)
        sock.close()
        server.close()
        await server.wait_closed()
        return answer

    assert loop.run_until_complete(asyncio.wait_for(main(), 30)) == b"secret word\n"
