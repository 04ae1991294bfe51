"""Connecting a pipe: protocol factories that raise, and cancellation."""

import asyncio
import os

import pytest


def test_factory_that_raises(loop, run, ends, mode, raiser):
    file, peer = ends("pipe", mode)
    connect = loop.connect_read_pipe if mode == "rb" else loop.connect_write_pipe
    with pytest.raises(ZeroDivisionError):
        run(connect(raiser(ZeroDivisionError), file))
    assert not file.closed and os.get_blocking(file.fileno())


@pytest.mark.parametrize("steps", [1, 2])
def test_cancelled_connect(loop, run, turn, ends, recorder, mode, steps):
    """After its first step the file has a transport, which closes it."""
    file, peer = ends("pipe", mode)
    protocol = recorder()
    connect = loop.connect_read_pipe if mode == "rb" else loop.connect_write_pipe
    task = loop.create_task(connect(lambda: protocol, file))
    for _ in range(steps - 1):
        turn()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        run(task)
    turn()
    turn()
    if steps == 1:
        assert protocol.calls == [] and not file.closed
    else:
        assert protocol.calls == ["connection_made", "connection_lost"] and protocol.lost == [None]
        assert file.closed


def test_cancelled_connects_leave_nothing_in_the_loop(loop, run, turn, ends, recorder, until, connect_file, mode):
    """The number of the descriptor is that of another pipe at once."""
    for _ in range(10):
        file, peer = ends("pipe", mode)
        connect = loop.connect_read_pipe if mode == "rb" else loop.connect_write_pipe
        task = loop.create_task(connect(recorder, file))
        turn()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            run(task)
        turn()
        peer.close()
    file, peer = ends("pipe", mode)
    protocol = recorder()
    connect_file(protocol, file, mode)
    peer.close()
    until(lambda: protocol.lost)
    assert protocol.lost == [None]
