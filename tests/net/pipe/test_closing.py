"""Closing and aborting a pipe, with data buffered and without."""

import os

import pytest

# Of a terminal (a pty) our end is the master.
ALL = pytest.mark.parametrize("kind", ["pipe", "socket", "pty"])


@pytest.mark.parametrize("method", ["close", "write_eof"])
def test_close_sends_what_is_buffered(writing, recorder, collect, until, method):
    protocol = recorder()
    transport, peer = writing(protocol)
    data = os.urandom(1000000)
    transport.write(data)
    getattr(transport, method)()
    assert transport.is_closing() and protocol.lost == []
    transport.write(b"dropped")
    assert collect(peer) == data
    until(lambda: protocol.lost)
    assert protocol.lost == [None]


def test_write_eof_is_close(writing, recorder, turn, collect):
    protocol = recorder()
    transport, peer = writing(protocol)
    assert transport.can_write_eof() is True
    transport.write(b"x")
    transport.write_eof()
    transport.write_eof()
    turn()
    assert protocol.lost == [None] and collect(peer) == b"x"


def test_abort_drops_what_is_buffered(writing, recorder, turn, collect):
    protocol = recorder()
    transport, peer = writing(protocol)
    transport.write(bytes(1000000))
    transport.abort()
    assert transport.is_closing() and transport.get_write_buffer_size() == 0 and protocol.lost == []
    turn()
    assert protocol.lost == [None]
    assert 0 < len(collect(peer)) < 1000000


def test_abort_after_close_with_data_buffered(writing, recorder, turn, collect):
    protocol = recorder()
    transport, peer = writing(protocol)
    transport.write(bytes(1000000))
    transport.close()
    transport.abort()
    turn()
    assert protocol.lost == [None]
    assert 0 < len(collect(peer)) < 1000000


@pytest.mark.parametrize("methods", [("abort", "abort"), ("close", "abort"), ("write_eof", "abort")], ids="+".join)
def test_ended_twice(writing, recorder, turn, native, methods):
    """asyncio's transport calls connection_lost() for each, the second time on None."""
    protocol = recorder()
    transport, peer = writing(protocol)
    native(transport)
    for method in methods:
        getattr(transport, method)()
    turn()
    turn()
    assert protocol.lost == [None]


@ALL
def test_close_is_told_in_a_later_turn_and_once(opened, recorder, turn, kind):
    protocol = recorder()
    transport, peer = opened(protocol, kind)
    file = transport.get_extra_info("pipe")
    assert not transport.is_closing()
    transport.close()
    transport.close()
    assert transport.is_closing() and protocol.lost == [] and not file.closed
    turn()
    turn()
    assert protocol.lost == [None] and file.closed
    transport.close()
    turn()
    assert protocol.lost == [None] and transport.is_closing()
    assert protocol.calls == ["connection_made", "connection_lost"]
    assert transport.get_protocol() is None


def test_close_in_connection_made(opened, recorder, turn, native, ends, connect_file, mode):
    """asyncio's starts watching the descriptor after all: its next owner finds it taken."""
    protocol = recorder(connection_made=lambda self, transport: transport.close())
    transport, peer = opened(protocol)
    native(transport)
    turn()
    turn()
    assert protocol.calls == ["connection_made", "connection_lost"] and protocol.lost == [None]
    again = recorder()
    connect_file(again, ends("pipe", mode)[0], mode)
    assert again.calls == ["connection_made"]
