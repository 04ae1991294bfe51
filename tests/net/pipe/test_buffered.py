"""Protocols that receive by get_buffer(), on pipes."""

import asyncio

import pytest

# Of a terminal (a pty) our end is the master.
ALL = pytest.mark.parametrize("kind", ["pipe", "socket", "pty"])


@ALL
@pytest.mark.parametrize("base", [asyncio.BaseProtocol, asyncio.BufferedProtocol])
def test_what_has_only_get_buffer_receives_by_it(native, connect_file, ends, until, kind, base):
    """asyncio calls data_received() of any protocol; uvloop takes these."""

    class Buffers(base):
        def __init__(self):
            self.buffer = bytearray(100)
            self.data = b""

        def get_buffer(self, sizehint):
            return self.buffer

        def buffer_updated(self, nbytes):
            self.data += self.buffer[:nbytes]

        def eof_received(self):
            pass

    protocol = Buffers()
    file, peer = ends(kind, "rb")
    native(connect_file(protocol, file, "rb"))
    peer.send(b"x" * 250)
    until(lambda: len(protocol.data) == 250)


def test_pipes_call_data_received_of_a_buffered_protocol_that_has_it(connect_file, ends, until):
    """As asyncio's do."""

    class Both(asyncio.BufferedProtocol):
        data = b""

        def get_buffer(self, sizehint):
            raise AssertionError("not of a pipe")

        def data_received(self, data):
            self.data += data

    protocol = Both()
    file, peer = ends("pipe", "rb")
    connect_file(protocol, file, "rb")
    peer.send(b"x")
    until(lambda: protocol.data)


@pytest.mark.parametrize("fault", ["get_buffer", "buffer_updated"])
def test_fault_in_a_buffered_protocol_ends_the_pipe(native, connect_file, ends, until, reports, fault, raiser):
    lost = []
    methods = {
        "get_buffer": lambda self, sizehint: bytearray(10),
        "buffer_updated": lambda self, nbytes: None,
        "connection_lost": lambda self, error: lost.append(error),
        fault: raiser(ZeroDivisionError),
    }
    file, peer = ends("pipe", "rb")
    native(connect_file(type("Faulty", (asyncio.BaseProtocol,), methods)(), file, "rb"))
    peer.send(b"x")
    until(lambda: lost)
    assert isinstance(lost[0], ZeroDivisionError)
    assert [context["message"] for context in reports] == ["Fatal error: protocol.%s() call failed." % fault]
