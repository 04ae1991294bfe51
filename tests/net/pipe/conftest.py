"""Pipes, named pipes, sockets as if they were pipes, and terminals: transports at one end, descriptors at the other."""

import contextlib
import functools
import os
import socket
import tty
import weakref

import pytest


@pytest.fixture
def raiser():
    """raiser(error): a function that raises it, whatever it is called with."""

    def raiser(error, text="on purpose"):
        def raise_it(*args):
            raise error(text)

        return raise_it

    return raiser


def descriptors(kind):
    """Two connected descriptors: for a pipe the end that is read comes first."""
    if kind == "pipe":
        return os.pipe()
    if kind == "socket":
        return tuple(sock.detach() for sock in socket.socketpair())
    master, slave = os.openpty()
    tty.setraw(slave)
    return master, slave


class Peer:
    """The other end, with what `collect` and `feed` need of a socket."""

    def __init__(self, descriptor):
        os.set_blocking(descriptor, False)
        self.descriptor = descriptor

    def send(self, data):
        return os.write(self.descriptor, data)

    def recv(self, size):
        return os.read(self.descriptor, size)

    def close(self):
        if self.descriptor is not None:
            os.close(self.descriptor)
        self.descriptor = None


@pytest.fixture
def ends():
    """Makes an unbuffered file opened for "rb" or "wb", and its peer; both are closed after the test."""
    with contextlib.ExitStack() as stack:

        def ends(kind, mode):
            ours, theirs = descriptors(kind)[:: 1 if mode == "rb" else -1]
            if kind == "pty":  # a program has the slave
                ours, theirs = max(ours, theirs, key=is_master), min(ours, theirs, key=is_master)
            file = stack.enter_context(open(ours, mode, buffering=0))
            peer = Peer(theirs)
            stack.callback(peer.close)
            return file, peer

        yield ends


def is_master(descriptor):
    return os.readlink("/proc/self/fd/%d" % descriptor).endswith("ptmx")


@pytest.fixture
def ended(loop, turn, ends):
    """Ends the transports added to it, after the test and before their files are closed."""
    transports = weakref.WeakSet()
    yield transports
    if loop.is_closed():
        return
    for transport in list(transports):
        if not transport.is_closing():
            transport.close()
        if transport.get_protocol() is not None and getattr(transport, "get_write_buffer_size", int)():
            transport.abort()
    turn()
    turn()


@pytest.fixture
def connect_file(loop, run, ended):
    """Connects a file of that mode to the protocol; returns the transport."""

    def connect_file(protocol, file, mode):
        connect = loop.connect_read_pipe if mode == "rb" else loop.connect_write_pipe
        transport, made = run(connect(lambda: protocol, file))
        assert made is protocol
        ended.add(transport)
        return transport

    return connect_file


@pytest.fixture
def connect_end(connect_file, ends):
    """A transport on an end of that mode, and its peer, the other end."""

    def connect_end(mode, protocol, kind="pipe"):
        file, peer = ends(kind, mode)
        return connect_file(protocol, file, mode), peer

    return connect_end


@pytest.fixture
def reading(connect_end):
    """A transport that reads for the protocol, and the end to write to."""
    return functools.partial(connect_end, "rb")


@pytest.fixture
def writing(connect_end):
    """A transport that writes for the protocol, and the end to read from."""
    return functools.partial(connect_end, "wb")


@pytest.fixture(params=["rb", "wb"], ids=["read", "write"])
def mode(request):
    """For tests of what both transports do alike."""
    return request.param


@pytest.fixture
def opened(connect_end, mode):
    """A transport of either direction, and its peer."""
    return functools.partial(connect_end, mode)
