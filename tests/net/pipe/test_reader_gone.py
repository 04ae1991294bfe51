"""The reader of a pipe goes away: that is noticed, and the loop is not kept busy."""

import errno

import pytest

BOTH = pytest.mark.parametrize("kind", ["pipe", "socket"])


@BOTH
def test_reader_that_leaves_is_noticed_though_nothing_is_written(writing, recorder, until, kind):
    protocol = recorder()
    transport, peer = writing(protocol, kind)
    peer.close()
    until(lambda: protocol.lost)
    assert protocol.lost == [None] and transport.is_closing()
    assert protocol.calls == ["connection_made", "connection_lost"]


@BOTH
def test_reader_that_leaves_data_unsent(writing, recorder, clog, until, kind):
    protocol = recorder()
    transport, peer = writing(protocol, kind)
    clog(transport)
    peer.close()
    until(lambda: protocol.lost)
    assert [type(error) for error in protocol.lost] == [BrokenPipeError]
    assert transport.get_write_buffer_size() == 0


@BOTH
def test_write_that_finds_the_reader_gone(writing, recorder, turn, kind, caplog):
    """An OSError is no news to report; later writes are dropped, and logged from the sixth on."""
    protocol = recorder()
    transport, peer = writing(protocol, kind)
    peer.close()
    for _ in range(5):
        transport.write(b"x")
    assert transport.is_closing() and caplog.messages == []
    transport.write(b"x")
    transport.write(b"x")
    assert caplog.messages == ["pipe closed by peer or os.write(pipe, data) raised exception."] * 2
    turn()
    assert [type(error) for error in protocol.lost] == [BrokenPipeError]
    transport.write(b"x")
    assert len(caplog.messages) == 3


@pytest.mark.parametrize("method", ["close", "write_eof"])
def test_reader_that_leaves_while_closing(loop, writing, recorder, until, method, caplog):
    """That it hung up is seen before a write fails, so that the error has no number."""
    loop.set_debug(True)
    caplog.set_level("INFO", "asyncio")
    protocol = recorder()
    transport, peer = writing(protocol)
    transport.write(bytes(1000000))
    getattr(transport, method)()
    peer.close()
    until(lambda: protocol.lost)
    assert [type(error) for error in protocol.lost] == [BrokenPipeError]
    assert protocol.lost[0].args == ()
    assert [record.msg for record in caplog.records if "closed by peer" in record.msg] == ["%r was closed by peer"]


def test_socket_that_is_sent_something_ends(writing, recorder, until):
    """As in asyncio, to which whatever can be read means that the reader has gone."""
    protocol = recorder()
    transport, peer = writing(protocol, "socket")
    peer.send(b"x")
    until(lambda: protocol.lost)
    assert protocol.lost == [None]


def test_terminal_that_is_sent_something_does_not_end(writing, recorder, turn, collect):
    protocol = recorder()
    transport, peer = writing(protocol, "pty")
    peer.send(b"x")
    for _ in range(5):
        turn()
    transport.write(b"still here")
    assert collect(peer, 10) == b"still here"
    assert protocol.calls == ["connection_made"]


def test_write_that_fails_otherwise(connect_file, ends, recorder, turn):
    """The end to read from cannot be written to."""
    file, peer = ends("pipe", "rb")
    protocol = recorder()
    transport = connect_file(protocol, file, "wb")
    transport.write(b"x")
    turn()
    assert [error.errno for error in protocol.lost] == [errno.EBADF]


def test_unread_pipe_does_not_keep_the_loop_busy(loop, writing, recorder, turns_taken):
    transport, peer = writing(recorder())
    transport.write(bytes(1000000))
    before = turns_taken()
    loop.call_later(0.02, loop.stop)
    loop.run_forever()
    assert turns_taken() - before <= 5


def test_paused_pipe_without_writers_does_not_keep_the_loop_busy(loop, reading, recorder, turns_taken):
    transport, peer = reading(recorder())
    transport.pause_reading()
    peer.close()
    before = turns_taken()
    loop.call_later(0.02, loop.stop)
    loop.run_forever()
    assert turns_taken() - before <= 5
