"""TLS connections: what happens once per connection, before the transport in C takes over."""

import sys
from asyncio import constants, sslproto

from . import _abi, _settings

try:
    import ssl
except ImportError:
    ssl = None

__all__ = ("is_native", "new_transport", "take_early", "upgrade")

_PASSES_FLOW_CONTROL_ON = sys.version_info < (3, 11)
_ASYNCIO_CLASS = sslproto.SSLProtocol
_BufferedProtocol = _abi.find("asyncio", "BufferedProtocol")
_StreamReader = _abi.find("asyncio", "StreamReader")
_StreamReaderProtocol = _abi.find("asyncio", "StreamReaderProtocol")
_create_transport_context = _abi.find("asyncio.sslproto", "_create_transport_context")
_feed_data_to_buffered_proto = _abi.find("asyncio.protocols", "_feed_data_to_buffered_proto")


def is_native():
    """Whether connections get our transport.

    Not with CLOOP_TLS=stock, or if the program has replaced asyncio's SSLProtocol.
    """
    return ssl is not None and sslproto.SSLProtocol is _ASYNCIO_CLASS and _settings.read("CLOOP_TLS") != "stock"


def _timeout(name, seconds, standard):
    if seconds is None:
        return standard
    if seconds <= 0:
        raise ValueError("{} should be a positive number, got {}".format(name, seconds))
    return seconds


def new_transport(
    loop,
    protocol,
    sslcontext,
    waiter,
    server_side=False,
    server_hostname=None,
    call_connection_made=True,
    ssl_handshake_timeout=None,
    ssl_shutdown_timeout=None,
):
    """Return a TLS transport for protocol, to be set as the protocol of the transport below.

    The arguments are those of asyncio's sslproto.SSLProtocol, timeouts in seconds. Raises ValueError for a timeout
    that is not positive, or for a server without a context.
    """
    handshake = _timeout(
        "ssl_handshake_timeout", ssl_handshake_timeout, getattr(constants, "SSL_HANDSHAKE_TIMEOUT", 60.0)
    )
    shutdown = _timeout("ssl_shutdown_timeout", ssl_shutdown_timeout, getattr(constants, "SSL_SHUTDOWN_TIMEOUT", 30.0))
    if not sslcontext:
        sslcontext = _create_transport_context(server_side, server_hostname)
    return loop._new_tls(
        protocol,
        sslcontext,
        waiter,
        server_side,
        server_hostname or None,
        call_connection_made,
        handshake,
        shutdown,
    )


def take_early(loop, transport, reader):
    """Let TLS have what the stream reader received before it: in the turn after connection_made(), before data received
    then.
    """
    early = bytes(reader._buffer)
    if early:
        reader._buffer.clear()
        loop.call_soon(loop.call_soon, _feed, transport, early)


def _feed(transport, data):
    protocol = transport.get_protocol()
    if transport.is_closing():
        return
    if isinstance(protocol, _BufferedProtocol):
        _feed_data_to_buffered_proto(protocol, data)
    else:
        protocol.data_received(data)


def _take_over_pause(tls, transport, protocol):
    """Tell tls whether the transport has paused writing, and whether protocol expects resume_writing()."""
    paused = getattr(transport, "_protocol_paused", None)
    if paused is None:  # not created by asyncio
        if getattr(protocol, "_paused", True):
            tls._take_over_pause(None)
    elif paused:
        same = transport.get_protocol() is protocol
        # Another protocol was not told to pause. It gets what this asyncio's transport passes on, unless it knows
        # itself whether it is paused: a stream protocol fails if it is resumed without a pause.
        tls._take_over_pause(same or bool(getattr(protocol, "_paused", _PASSES_FLOW_CONTROL_ON)))


def _begin(tls, transport, waiter):
    """Start the handshake, unless the transport was closed before, and tls has been told that the connection is lost."""
    if not waiter.done():
        tls.connection_made(transport)


async def upgrade(loop, transport, protocol, sslcontext, reader, **options):
    """asyncio's loop.start_tls(), with our transport. reader: what it has received is for TLS; or None."""
    if not isinstance(sslcontext, ssl.SSLContext):
        raise TypeError("sslcontext is expected to be an instance of ssl.SSLContext, got {!r}".format(sslcontext))
    if not getattr(transport, "_start_tls_compatible", False):
        raise TypeError("transport {!r} is not supported by start_tls()".format(transport))
    waiter = loop.create_future()
    tls = new_transport(loop, protocol, sslcontext, waiter, call_connection_made=False, **options)
    # No data may arrive before tls.connection_made() is called.
    transport.pause_reading()
    if reader is not None:
        take_early(loop, transport, reader)
    _take_over_pause(tls, transport, protocol)
    transport.set_protocol(tls)
    made = loop.call_soon(_begin, tls, transport, waiter)
    resumed = loop.call_soon(transport.resume_reading)
    try:
        await waiter
    except BaseException:
        transport.close()
        made.cancel()
        resumed.cancel()
        raise
    finally:
        waiter = None  # break the cycle: its exception's traceback has this frame
    # As asyncio: None if the connection was lost meanwhile, of which the protocol need not have been told.
    if tls._transport is None:
        return None
    _pass_pause_on(tls, transport, protocol)
    return tls


def _pass_pause_on(tls, transport, protocol):
    """Data that came with the end of the handshake may have filled a stream reader, which then has paused the transport
    below. Where it is told of the new one, it resumes that.
    """
    reader = protocol._stream_reader if isinstance(protocol, _StreamReaderProtocol) else None
    if (
        isinstance(reader, _StreamReader)
        and hasattr(reader, "_replace_transport")
        and reader._paused
        and reader._transport is transport
    ):
        reader._transport = tls
        tls.pause_reading()
        transport.resume_reading()
