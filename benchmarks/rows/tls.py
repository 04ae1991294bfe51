"""TLS 1.3, and 1.2 where a row says so: servers under a load generator in C, which uses OpenSSL itself."""

import asyncio

from benchmarks.rows.net import (
    DEPTH,
    KIB,
    REPLY,
    BulkReceive,
    BulkSend,
    Echo,
    SmallReplies,
    read_exactly,
    start_stream_server,
)
from benchmarks.served import exchange, held, served


@served(*exchange(50, KIB), kind="tls", floor="echo", reach=1.18)
async def tls_echo_1k(loop, sock, context):
    """One message of 1 KiB echoed by a Protocol over TLS; 50 connections."""
    return await loop.create_server(Echo, sock=sock, ssl=context)


@served(*exchange(20, 10 * KIB), kind="tls", floor="echo", reach=1.16)
async def tls_echo_10k(loop, sock, context):
    """One message of 10 KiB echoed by a Protocol over TLS; 20 connections."""
    return await loop.create_server(Echo, sock=sock, ssl=context)


@served(*exchange(10, 100 * KIB), kind="tls", floor="echo", reach=1.1)
async def tls_echo_100k(loop, sock, context):
    """One message of 100 KiB echoed by a Protocol over TLS; 10 connections."""
    return await loop.create_server(Echo, sock=sock, ssl=context)


@served(*exchange(50, KIB), kind="tls", floor="echo", reach=1.35)
async def tls_streams_1k(loop, sock, context):
    """One message of 1 KiB over TLS: readexactly(), write() and drain(); 50 connections."""
    return await start_stream_server(sock, read_exactly, ssl=context)


@served(*exchange(20, REPLY, DEPTH), kind="tls", floor="echo", batch=DEPTH, reach=5)
async def tls_small_replies(loop, sock, context):
    """One write of 64 bytes over TLS, of 50 that answer one record; 20 connections."""
    return await loop.create_server(SmallReplies, sock=sock, ssl=context)


@served("receive", kind="tls", floor="send", reach=1.1)
async def tls_bulk_send(loop, sock, context):
    """64 KiB sent over TLS in writes of 4 KiB, 16 of them per callback, with flow control."""
    return await loop.create_server(BulkSend, sock=sock, ssl=context)


@served("send", kind="tls", floor="receive", reach=1.1)
async def tls_bulk_recv(loop, sock, context):
    """64 KiB received over TLS by a Protocol that counts them."""
    return await loop.create_server(BulkReceive, sock=sock, ssl=context)


@served("storm", 20, kind="tls", floor="close", reach=1.05)
async def tls_handshake(loop, sock, context):
    """One connection accepted, its whole handshake, and its orderly end, which comes at once; 20 at a time."""
    return await loop.create_server(asyncio.Protocol, sock=sock, ssl=context)


@served("storm", 20, kind="tls", floor="close", resumes=True)
async def tls_handshake_resumed(loop, sock, context):
    """As tls_handshake, but each connection resumes the session of an earlier one."""
    return await loop.create_server(asyncio.Protocol, sock=sock, ssl=context)


class Upgrade(asyncio.Protocol):
    """Goes over to TLS when it is asked to."""

    def __init__(self, loop, context):
        self.loop, self.context = loop, context

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.task = self.loop.create_task(self.upgrade())

    async def upgrade(self):
        self.transport.write(b"yes")
        await self.loop.start_tls(self.transport, asyncio.Protocol(), self.context, server_side=True)


@served("starttls", 20, kind="tls")
async def tls_start_tls(loop, sock, context):
    """One connection accepted and asked for TLS, start_tls() with its handshake, and its orderly end; 20 at a time."""
    return await loop.create_server(lambda: Upgrade(loop, context), sock=sock)


@served(*exchange(50, KIB), kind="tls", floor="echo", tls12=True)
async def tls12_echo_1k(loop, sock, context):
    """One message of 1 KiB echoed by a Protocol over TLS 1.2; 50 connections."""
    return await loop.create_server(Echo, sock=sock, ssl=context)


@served(*exchange(10, 100 * KIB), kind="tls", floor="echo", tls12=True)
async def tls12_echo_100k(loop, sock, context):
    """One message of 100 KiB echoed by a Protocol over TLS 1.2; 10 connections."""
    return await loop.create_server(Echo, sock=sock, ssl=context)


@served("storm", 20, kind="tls", floor="close", tls12=True)
async def tls12_handshake(loop, sock, context):
    """As tls_handshake, with TLS 1.2."""
    return await loop.create_server(asyncio.Protocol, sock=sock, ssl=context)


@held(1000, kind="tls", at_most=28)
async def tls_idle_memory(loop, sock, context):
    """One idle connection of TLS to a Protocol, of 1000; growth of the resident set."""
    return await loop.create_server(Echo, sock=sock, ssl=context)
