"""What a loop reports about itself: metrics(), and the views that asyncio's code reads."""

import selectors
import socket

import pytest


@pytest.fixture
def loop(cloop, new_loop):
    return new_loop(cloop.Loop)


def test_metrics_count_turns_polls_and_callbacks(loop, turn):
    before = loop.metrics()
    loop.call_soon(int)
    turn()
    after = loop.metrics()
    assert after.turns == before.turns + 1
    assert after.callbacks == before.callbacks + 2
    assert before.polls <= after.polls <= before.polls + 1


def test_metrics_count_ready_handles_timers_and_watched_descriptors(loop):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        loop.add_reader(ours, print)
        timer = loop.call_later(1000, print)
        loop.call_soon(print)
        now = loop.metrics()
        assert (now.ready, now.timers_pending, now.watched) == (1, 1, 1)
        timer.cancel()
        loop.remove_reader(ours)
        now = loop.metrics()
        assert (now.ready, now.timers_pending, now.watched) == (1, 0, 0)


def test_metrics_of_a_closed_loop(loop):
    loop.call_soon(int)
    loop.close()
    now = loop.metrics()
    assert (now.ready, now.timers_pending, now.watched) == (0, 0, 0)


def test_turns_without_a_pause_share_a_poll(loop):
    def chain(left):
        if left:
            loop.call_soon(chain, left - 1)
        else:
            loop.stop()

    loop.call_soon(chain, 1000)
    before = loop.metrics()
    loop.run_forever()
    after = loop.metrics()
    assert after.turns - before.turns == 1001
    assert after.polls - before.polls < 900  # a fifth of that would be a slow machine


def test_selector_view_gives_the_key_of_a_watched_descriptor(loop):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with pytest.raises(KeyError):
            loop._selector.get_key(ours)
        loop.add_reader(ours, print, "reader")
        loop.add_writer(ours, print, "writer")
        key = loop._selector.get_key(ours)
        assert key.fd == ours.fileno()
        assert key.events == selectors.EVENT_READ | selectors.EVENT_WRITE
        assert [handle._args for handle in key.data] == [("reader",), ("writer",)]
        loop.remove_reader(ours)
        assert loop._selector.get_key(ours.fileno()).events == selectors.EVENT_WRITE
        loop.remove_writer(ours)
    loop.close()
    assert loop._selector is None


def test_scheduled_and_ready_list_the_handles(loop):
    ready = loop.call_soon(print)
    timer = loop.call_later(1000, print)
    assert loop._ready == [ready]
    assert loop._scheduled == [timer]


@pytest.mark.alone  # as test_memory.py
def test_ready_without_memory_for_the_list(cloop, loop):
    """It is complete, or MemoryError is raised."""
    _testcapi = pytest.importorskip("_testcapi")
    get = cloop._cloop.LoopCore._ready.__get__
    handles = [loop.call_soon(int) for _ in range(40)]
    seen = []
    for failing in range(40):
        ready = None
        _testcapi.set_nomemory(failing, failing + 1)
        try:
            ready = get(loop)
        except MemoryError:
            pass
        finally:
            _testcapi.remove_mem_hooks()
        seen.append(ready)
    assert None in seen and seen[-1] == handles
    assert all(ready is None or ready == handles for ready in seen)
    loop.close()
    assert get(loop) == []
