"""What a coroutine in C says of its state: the names of inspect.getcoroutinestate()."""

import socket

import pytest


@pytest.fixture
def waiting(cloop):
    """A coroutine in C that will wait, and its loop."""
    loop = cloop.new_event_loop()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    yield loop, loop.sock_recv(ours, 1)
    ours.close()
    theirs.close()
    loop.close()


def states(coro):
    return coro.cr_state, coro.cr_running, coro.cr_suspended


def test_from_the_beginning_to_the_end(waiting):
    loop, coro = waiting
    assert states(coro) == ("CORO_CREATED", False, False)
    task = loop.create_task(coro)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert states(coro) == ("CORO_SUSPENDED", False, True)
    task.cancel()
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert task.cancelled() and states(coro) == ("CORO_CLOSED", False, False)


def test_closed_before_it_begins(waiting):
    _, coro = waiting
    coro.close()
    assert states(coro) == ("CORO_CLOSED", False, False)
    coro.close()
    with pytest.raises(RuntimeError):
        coro.send(None)
