"""What transports do that are still there when their loop is closed: as asyncio's, most of it, or RuntimeError."""

import asyncio
import contextlib
import gc
import os
import re
import socket
import warnings

import pytest


class Protocol(asyncio.Protocol):
    def __init__(self):
        self.calls = []

    def pause_writing(self):
        self.calls.append("pause_writing")

    def resume_writing(self):
        self.calls.append("resume_writing")

    def connection_lost(self, exc):
        self.calls.append("connection_lost")

    def data_received(self, data):
        self.calls.append("data_received")

    def datagram_received(self, data, addr):
        self.calls.append("datagram_received")

    def error_received(self, exc):
        self.calls.append(repr(exc))


def of_stream(loop, stack):
    ours, peer = socket.socketpair()
    stack.callback(peer.close)
    return loop.create_connection(Protocol, sock=ours)


def of_datagrams(loop, stack):
    ours, peer = (socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2))
    stack.callback(peer.close)
    peer.bind(b"")  # the kernel chooses an abstract address
    ours.connect(peer.getsockname())
    return loop.create_datagram_endpoint(Protocol, sock=ours)


def of_pipe(loop, stack):
    read, write = os.pipe()
    stack.callback(os.close, write)
    return loop.connect_read_pipe(Protocol, open(read, "rb", buffering=0))


def of_pipe_to_write(loop, stack):
    read, write = os.pipe()
    stack.callback(os.close, read)
    return loop.connect_write_pipe(Protocol, open(write, "wb", buffering=0))


MUCH = bytes(1 << 22)  # more than a socket takes


def call(name, *args):
    """Calls that method, which not every transport has."""
    return lambda transport: getattr(transport, name, lambda *args: "no such method")(*args)


ACTS = {
    "close": call("close"),
    "abort": call("abort"),
    "pause_reading": call("pause_reading"),
    "resume_reading": call("resume_reading"),
    "write": call("write", b"x"),
    "write much": call("write", MUCH),
    "writelines": call("writelines", [b"a", b"b"]),
    "writelines much": call("writelines", [MUCH, b"b"]),
    "write_eof": call("write_eof"),
    "sendto": call("sendto", b"x"),
    "set_write_buffer_limits": call("set_write_buffer_limits", 0),
    "get_protocol": lambda transport: type(transport.get_protocol()).__name__,
}


def clog(transport):
    if hasattr(transport, "sendto"):
        while not transport.get_write_buffer_size():
            transport.sendto(bytes(1000))
    else:
        call("write", MUCH)(transport)


STATES = {
    "": lambda transport: None,
    "paused": call("pause_reading"),
    "clogged": clog,
    "closing": call("close"),
    "clogged and closing": lambda transport: (clog(transport), transport.close()),
    "aborted": call("abort"),
    "after its EOF": call("write_eof"),
}


def state_of(make, transport):
    """Whether something is buffered, not how much, of which the kernel decides. (asyncio's datagram transport forgets to say
    that its buffer was dropped. Up to Python 3.10 only streams have is_reading().)
    """
    closing = transport.is_closing()
    reading = transport.is_reading() if make is of_stream else None
    if closing and hasattr(transport, "sendto") or not hasattr(transport, "get_write_buffer_size"):
        return closing, reading
    return closing, reading, transport.get_write_buffer_size() > 0


@pytest.mark.unstressed("sends part of it")
@pytest.mark.parametrize("state", list(STATES))
@pytest.mark.parametrize("make", [of_stream, of_datagrams, of_pipe, of_pipe_to_write], ids=lambda make: make.__name__)
def test_calls(as_asyncio, loop_class, make, state):
    def calls(loop, *acts):
        seen = []
        with contextlib.ExitStack() as stack:
            transport, protocol = loop.run_until_complete(make(loop, stack))
            with contextlib.suppress(NotImplementedError):
                STATES[state](transport)
            loop.close()
            for act in acts:
                if act == "abort" and make is of_pipe_to_write and transport.is_closing():
                    continue  # asyncio's tells of the end again
                if act.startswith("writelines") and make is of_stream and transport.is_closing():
                    continue  # on 3.12 and 3.13 asyncio's does not ask whether the connection is lost
                if "reading" in act and make is of_datagrams:
                    continue  # there is none up to Python 3.10
                try:
                    seen.append(ACTS[act](transport))
                except Exception as error:
                    seen.append(re.sub(r"fd=\d+", "fd=N", repr(error)))
                seen.append((act, state_of(make, transport), list(protocol.calls)))
        return seen

    def body(loop):
        with warnings.catch_warnings():  # of transports that were not closed
            warnings.simplefilter("ignore")
            try:
                return [
                    calls(type(loop)(), first, second)
                    for first in ACTS
                    for second in ("close", "write", "resume_reading")
                ]
            finally:
                gc.collect()

    as_asyncio(body)
