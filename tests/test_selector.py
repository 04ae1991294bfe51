"""Programs that use the private parts of the loop: its selector, its turn, its ready queue and its timers, as asyncio
has them.
"""

import asyncio
import collections
import contextlib
import heapq
import os
import selectors
import signal
import socket
import sys
import threading
import time
from asyncio import base_events, events, format_helpers
from unittest import mock

import pytest


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        yield ours, theirs


def run_once(loop):
    loop.call_soon(loop.stop)
    loop.run_forever()


# Wrappers


class Wrapper(selectors.BaseSelector):
    """Forwards everything, and notes the timeouts."""

    def __init__(self, selector):
        self.inner, self.timeouts, self.events = selector, [], []

    def select(self, timeout=None):
        self.timeouts.append(timeout)
        found = self.inner.select(timeout)
        self.events.extend(found)
        return found

    def register(self, fileobj, events, data=None):
        return self.inner.register(fileobj, events, data)

    def unregister(self, fileobj):
        return self.inner.unregister(fileobj)

    def modify(self, fileobj, events, data=None):
        return self.inner.modify(fileobj, events, data)

    def get_map(self):
        return self.inner.get_map()

    def close(self):
        self.inner.close()


class Proxy:
    """A wrapper that is no selector and only has select()."""

    def __init__(self, selector):
        self.inner, self.timeouts, self.events = selector, [], []

    def __getattr__(self, name):
        return getattr(self.inner, name)

    select = Wrapper.select


@pytest.fixture(params=[Wrapper, Proxy, "patched"])
def wrapped(request, loop):
    """A wrapper between the loop and its selector, which has timeouts and events."""
    original = loop._selector
    if request.param != "patched":
        wrapper = loop._selector = request.param(original)
        assert loop._selector is wrapper
        yield wrapper
        loop._selector = original
        return
    wrapper = Proxy(original)
    wrapper.inner = mock.Mock(select=original.select)
    with mock.patch.object(original, "select", wrapper.select):
        yield wrapper


def run_until_asked(loop, timeouts, timeout):
    """Runs the loop until it asks to sleep for this long; then another thread wakes it."""

    def wake():
        deadline = time.monotonic() + 20
        while timeout not in timeouts and time.monotonic() < deadline:
            time.sleep(0.001)
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=wake)
    thread.start()
    loop.run_forever()
    thread.join()
    assert timeout in timeouts


def test_timeouts_are_asyncios(loop, wrapped):
    timeouts = wrapped.timeouts
    run_once(loop)
    assert timeouts == [0]
    loop.call_later(0.02, loop.stop)
    loop.run_forever()
    assert 0 < max(timeouts[1:]) <= 0.02
    del timeouts[:]
    run_until_asked(loop, timeouts, None)


def test_timeout_of_a_loop_that_is_stopped(loop, wrapped):
    loop.stop()
    loop.run_forever()
    assert wrapped.timeouts == [0]


def test_timeout_after_a_call_from_another_thread(loop, wrapped):
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(loop.stop,))
    thread.start()
    thread.join()
    loop.run_forever()
    assert wrapped.timeouts[0] == 0


def test_timeout_of_a_far_timer(loop, wrapped):
    handle = loop.call_later(1e6, print)
    run_until_asked(loop, wrapped.timeouts, base_events.MAXIMUM_SELECT_TIMEOUT)
    handle.cancel()


def test_readers_and_writers_through_it(loop, wrapped, pair):
    ours, peer = pair
    seen = []
    loop.add_reader(ours, lambda: seen.append(ours.recv(10)))
    peer.send(b"x")
    run_once(loop)
    run_once(loop)
    assert seen == [b"x"]
    assert ours.fileno() in [key.fd for key, _ in wrapped.events]
    loop.add_writer(ours, seen.append, "write")
    run_once(loop)
    run_once(loop)
    assert "write" in seen
    assert loop.remove_writer(ours) and not loop.remove_writer(ours)
    assert loop.remove_reader(ours) and not loop.remove_reader(ours)
    peer.send(b"y")
    del seen[:]
    run_once(loop)
    assert seen == []


@pytest.mark.parametrize("before", [True, False])
def test_readers_from_before_and_after(loop, pair, before):
    """A reader that was added before is still there; it can be replaced and removed."""
    ours, peer = pair
    seen = []
    if before:
        loop.add_reader(ours, seen.append, "before")
    original = loop._selector
    loop._selector = Wrapper(original)
    if not before:
        loop.add_reader(ours, seen.append, "before")
        loop._selector = original
    peer.send(b"x")
    run_once(loop)
    run_once(loop)
    assert set(seen) == {"before"}
    del seen[:]
    loop.add_writer(ours, seen.append, "writer")
    run_once(loop)
    run_once(loop)
    assert set(seen) == {"before", "writer"}
    del seen[:]
    loop.add_reader(ours, seen.append, "after")
    run_once(loop)
    run_once(loop)
    assert set(seen) == {"after", "writer"}
    assert loop.remove_reader(ours) and loop.remove_writer(ours)
    assert ours.fileno() not in loop._selector.get_map()
    loop._selector = original


def test_streams_through_it(loop, wrapped, run):
    async def handler(reader, writer):
        writer.write((await reader.readline()).upper())
        await writer.drain()
        writer.close()

    async def main():
        server = await asyncio.start_server(handler, "127.0.0.1", 0)
        answers = []
        for number in range(3):
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"hello%d\n" % number)
            answers.append(await reader.read())
            writer.close()
        server.close()
        await asyncio.sleep(0)
        return answers

    assert run(asyncio.wait_for(main(), 20)) == [b"HELLO0\n", b"HELLO1\n", b"HELLO2\n"]
    assert wrapped.events


def test_streams_from_before(loop, run):
    async def handler(reader, writer):
        while True:
            line = await reader.readline()
            if not line:
                break
            writer.write(line.upper())
        writer.close()

    async def main():
        server = await asyncio.start_server(handler, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"one\n")
        answers = [await reader.readline()]
        original = loop._selector
        wrapper = loop._selector = Wrapper(original)
        writer.write(b"two\n")
        answers.append(await reader.readline())
        assert wrapper.events
        loop._selector = original
        writer.write(b"three\n")
        answers.append(await reader.readline())
        writer.close()
        server.close()
        await asyncio.sleep(0.01)
        return answers

    assert run(asyncio.wait_for(main(), 20)) == [b"ONE\n", b"TWO\n", b"THREE\n"]


def test_socket_operations_and_datagrams_through_it(loop, wrapped, run, pair, tmp_path):
    ours, peer = pair

    async def main():
        loop.call_later(0.01, peer.send, b"hello")
        assert await loop.sock_recv(ours, 10) == b"hello"
        await loop.sock_sendall(ours, b"back")
        assert peer.recv(10) == b"back"
        got = loop.create_future()

        class Protocol(asyncio.DatagramProtocol):
            def datagram_received(self, data, address):
                got.set_result(data)

        transport, _ = await loop.create_datagram_endpoint(Protocol, ("127.0.0.1", 0))
        with socket.socket(type=socket.SOCK_DGRAM) as client:
            client.sendto(b"datagram", transport.get_extra_info("sockname"))
            assert await got == b"datagram"
        transport.close()

    run(asyncio.wait_for(main(), 20))


def test_executor_and_child_through_it(loop, wrapped, run):
    async def main():
        assert await loop.run_in_executor(None, lambda: 42) == 42
        if threading.current_thread() is threading.main_thread():
            with contextlib.suppress(NotImplementedError):
                process = await asyncio.create_subprocess_exec("echo", "hi", stdout=asyncio.subprocess.PIPE)
                assert (await process.communicate())[0] == b"hi\n"
                assert process.returncode == 0
        await loop.shutdown_default_executor() if hasattr(loop, "shutdown_default_executor") else None

    asyncio.set_event_loop(loop)
    try:
        run(asyncio.wait_for(main(), 20))
    finally:
        asyncio.set_event_loop(None)


def test_signals_through_it(loop, wrapped):
    loop.add_signal_handler(signal.SIGUSR1, loop.stop)
    loop.call_later(0.01, os.kill, os.getpid(), signal.SIGUSR1)
    loop.run_forever()
    assert loop.remove_signal_handler(signal.SIGUSR1)


# Clocks


@pytest.mark.parametrize("how", ["wrapper", "patched"])
def test_a_clock_that_moves_when_the_loop_would_sleep(loop, run, how):
    """Replaces loop.time and the selector together, like test clocks of third parties."""
    now = [1000.0]
    original = loop._selector
    inner = original.select

    def select(timeout=None):
        found = inner(0)
        if not found and timeout:
            now[0] += timeout
        return found

    async def main():
        order = []

        async def sleeper(delay):
            await asyncio.sleep(delay)
            order.append((delay, round(loop.time() - 1000, 3)))

        await asyncio.gather(*[sleeper(delay) for delay in (3600, 0.1, 86400 * 3, 7.7)])
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.sleep(1e6), 1e4)
        return order

    with mock.patch.object(loop, "time", lambda: now[0]):
        if how == "patched":
            with mock.patch.object(original, "select", select):
                order = run(main())
        else:
            wrapper = Wrapper(original)
            wrapper.select = select
            with mock.patch.object(loop, "_selector", wrapper):
                order = run(main())
    assert order == [(0.1, 0.1), (7.7, 7.7), (3600, 3600), (86400 * 3, 86400 * 3)]
    assert loop._selector is original
    began = time.monotonic()
    run(asyncio.sleep(0.01))
    assert 0.01 <= time.monotonic() - began + 1e-4


def test_a_clock_of_sums_of_floats_does_not_stop_before_the_timer(loop):
    now = [0.0]
    seen = []
    with mock.patch.object(loop, "time", lambda: now[0]):
        loop.call_at(0.3, seen.append, 1)
        for _ in range(3):
            now[0] += 0.1
        now[0] -= 1e-10
        run_once(loop)
        run_once(loop)
    assert seen == [1]


def test_a_clock_in_a_subclass(new_loop, loop_class):
    class Clocked(loop_class):
        def __init__(self):
            super().__init__()
            self.now = 0.0
            self.select = self._selector.select
            self._selector.select = self.skip

        def skip(self, timeout):
            found = self.select(0)
            if not found:
                self.now += timeout or 0
            return found

        def time(self):
            return self.now

    loop = new_loop(Clocked)
    loop.run_until_complete(asyncio.sleep(1e5))
    assert 1e5 <= loop.now < 1e5 + 1


# Mocks, and the program's own selectors


def test_a_mock(loop):
    original = loop._selector
    loop._selector = mock.Mock()
    loop._selector.select.return_value = ()
    seen = []
    loop.call_soon(seen.append, 1)
    loop._run_once()
    assert seen == [1]
    loop._selector.select.assert_called_with(0)
    loop._run_once()
    loop._selector.select.assert_called_with(None)
    handle = loop.call_later(10, print)
    loop._run_once()
    assert 9 < loop._selector.select.call_args[0][0] <= 10
    handle.cancel()
    loop._selector = original


def test_a_selector_of_its_own(loop, pair, run):
    """The new selector watches what is added from then on. Threads, and what was watched before, still wake the loop."""
    ours, peer = pair
    original = loop._selector
    with contextlib.closing(selectors.DefaultSelector()) as selector:
        if hasattr(loop, "_ssock"):  # asyncio registers its pipe with the selector that it has created itself
            selector.register(loop._ssock, selectors.EVENT_READ, original.get_key(loop._ssock).data)
        loop._selector = selector
        loop.add_reader(ours, lambda: ours.recv(10) and loop.stop())
        assert selector.get_key(ours).events == selectors.EVENT_READ
        loop.call_later(0.01, peer.send, b"x")
        loop.run_forever()
        assert loop.remove_reader(ours)
        timer = threading.Timer(0.01, loop.call_soon_threadsafe, [loop.stop])
        timer.start()
        loop.run_forever()
        timer.join()
        loop._selector = original
    run(asyncio.sleep(0.001))


def test_a_selector_given_to_the_class(loop_kind, loop_class, pair):
    """It is closed with the loop."""

    class Noting(selectors.DefaultSelector):
        timeouts = []
        closed = False

        def select(self, timeout=None):
            self.timeouts.append(timeout)
            return super().select(timeout)

        def close(self):
            self.closed = True
            super().close()

    loop = loop_class(Noting())
    selector = loop._selector
    ours, peer = pair

    async def main():
        reader, writer = await asyncio.open_connection(sock=ours)
        assert selector.get_key(ours.fileno())
        loop.call_later(0.01, peer.send, b"hello")
        assert await reader.readexactly(5) == b"hello"
        writer.close()
        await loop.run_in_executor(None, time.sleep, 0.01)
        await asyncio.sleep(0.01)

    loop.run_until_complete(asyncio.wait_for(main(), 20))
    assert selector.timeouts and not selector.closed
    loop.close()
    assert selector.closed and loop._selector is None


def test_process_events_replaced_and_called(loop, pair):
    ours, peer = pair
    seen, process = [], loop._process_events

    def process_events(event_list):
        seen.extend((key.fd, mask) for key, mask in event_list)
        process(event_list)

    loop._process_events = process_events
    loop.add_reader(ours, lambda: seen.append(ours.recv(10)))
    peer.send(b"x")
    loop._run_once()
    assert seen == [(ours.fileno(), selectors.EVENT_READ), b"x"]
    del loop._process_events
    reader = loop._selector.get_key(ours)
    loop._process_events([(reader, selectors.EVENT_READ)])
    peer.send(b"y")
    del seen[:]
    loop._ready[0]._run()
    assert seen == [b"y"]
    loop._ready.clear()
    loop.remove_reader(ours)


def test_process_events_of_a_subclass(new_loop, loop_class, pair):
    ours, peer = pair
    batches = []

    class Sub(loop_class):
        def _process_events(self, event_list):
            batches.append([key.fd for key, _ in event_list])
            super()._process_events(event_list)

    loop = new_loop(Sub)

    async def main():
        reader, writer = await asyncio.open_connection(sock=ours)
        peer.send(b"hello")
        assert await reader.readexactly(5) == b"hello"
        writer.close()

    fd = ours.fileno()
    loop.run_until_complete(asyncio.wait_for(main(), 20))
    assert [fd] in batches


def test_a_cancelled_reader_is_removed_by_process_events(loop, pair):
    ours, _ = pair
    references = sys.getrefcount(ours)
    loop.add_reader(ours, print)
    key = loop._selector.get_key(ours)
    key.data[0].cancel()
    loop._process_events([(key, selectors.EVENT_READ)])
    assert not loop.remove_reader(ours)
    del key
    assert sys.getrefcount(ours) == references


# Results of a selector


def test_the_answers_of_a_selector(loop, pair):
    ours, peer = pair
    selector = loop._selector
    assert loop._selector is selector
    with pytest.raises(KeyError):
        selector.get_key(ours)
    loop.add_reader(ours, print)
    key = selector.get_key(ours)
    assert (key.fd, key.events) == (ours.fileno(), selectors.EVENT_READ)
    assert key.data[0] is not None and key.data[1] is None
    assert ours.fileno() in selector.get_map() and selector.get_map()[ours.fileno()].data == key.data
    with pytest.raises(KeyError):
        selector.register(ours, selectors.EVENT_READ)
    loop.add_writer(ours.fileno(), print)
    assert selector.get_key(ours).events == selectors.EVENT_READ | selectors.EVENT_WRITE
    assert len(selector.get_map()) == len(list(selector.get_map()))
    loop.remove_reader(ours)
    loop.remove_writer(ours)
    with pytest.raises(KeyError):
        selector.unregister(ours)
    with pytest.raises(ValueError):
        selector.register(peer, 0)
    with pytest.raises(ValueError):
        selector.register(object(), selectors.EVENT_READ)


def test_readiness_that_is_run(cloop, new_loop, pair):
    """Stands in the selector for what is watched in C, such as a transport."""
    loop = new_loop(cloop.Loop)
    selector = loop._selector
    a, b = pair
    waiting = loop.create_task(loop.sock_recv(a, 10))
    loop.call_soon(loop.stop)
    loop.run_forever()
    b.send(b"data")
    (reader,) = [key.data[0] for key, mask in selector.select(1) if key.fd == a.fileno()]
    assert not reader.cancelled() and reader.cancel() is None
    reader._run()
    assert loop.run_until_complete(waiting) == b"data"
    assert loop._dispatch(a.fileno(), 1) is None  # nobody waits any more
    for args in (("a", 1), (1,), (1, "b")):
        with pytest.raises(TypeError):
            loop._dispatch(*args)
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        reader._run()


def test_what_is_watched_can_be_compared_and_named(loop, pair, run):
    """As asynctest does, to tell what a test has left behind."""

    def watched():
        return set(loop._selector.get_map().values())

    async def main():
        before = watched()
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=pair[0])
        during = watched()
        assert during == watched() and before < during
        handles = [handle for key in during for handle in key.data if handle is not None]
        assert all(format_helpers._format_callback(handle._callback, handle._args, None) for handle in handles)
        assert len(handles) == len(during)
        transport.abort()
        await asyncio.sleep(0)
        assert watched() == before

    run(main())


def test_registering_with_it(loop, pair):
    ours, peer = pair
    selector = loop._selector
    handle = asyncio.Handle(lambda: ours.recv(10) and loop.stop(), (), loop)
    key = selector.register(ours, selectors.EVENT_READ, (handle, None))
    assert selector.get_key(ours) == key
    peer.send(b"x")
    assert (key, selectors.EVENT_READ) in selector.select(0)
    loop.run_forever()
    assert loop.remove_reader(ours)
    data = (None, asyncio.Handle(loop.stop, (), loop))
    selector.register(ours, selectors.EVENT_READ, (handle, None))
    key = selector.modify(ours, selectors.EVENT_WRITE, data)
    assert key.data is data and (key, selectors.EVENT_WRITE) in selector.select(0)
    loop.run_forever()
    assert selector.unregister(ours) == key
    assert ours.fileno() not in selector.get_map()


def test_the_selector_of_a_closed_loop(loop, loop_kind):
    selector = loop._selector
    assert selector.get_map()
    loop.close()
    assert loop._selector is None
    if loop_kind != "asyncio":
        assert selector.get_map() is None


def test_taking_it_away_brings_back_the_loops_own(loop, loop_kind):
    original = loop._selector
    if loop_kind == "asyncio":
        pytest.skip("asyncio has none then")
    loop._selector = mock.Mock()
    del loop._selector
    assert loop._selector is original
    run_once(loop)


# The ready queue and the timers


def test_the_ready_queue(loop):
    seen = []
    one, two = loop.call_soon(seen.append, 1), loop.call_soon(seen.append, 2)
    ready = loop._ready
    assert len(ready) == 2 and list(ready) == [one, two] and one in ready and ready[1] is two
    assert ready == collections.deque([one, two])
    three = loop.call_soon(seen.append, 3)
    assert ready[-1] is three
    ready.remove(two)
    ready.appendleft(ready.pop())
    ready.append(two)
    ready.append(asyncio.Handle(seen.append, (4,), loop))
    handle = ready.popleft()
    handle._run()
    ready.rotate(1)
    assert len(ready) == 3
    run_once(loop)
    assert seen == [3, 4, 1, 2]
    assert not loop._ready
    with pytest.raises(IndexError):
        loop._ready.popleft()
    with pytest.raises(IndexError):
        loop._ready[0]
    loop.call_soon(seen.append, 5)
    loop._ready.clear()
    run_once(loop)
    assert 5 not in seen


def test_tasks_and_transports_in_the_ready_queue(loop, pair):
    """Each is a handle, and running it does what it is for."""
    ours, peer = pair
    got = []

    class Protocol(asyncio.Protocol):
        def data_received(self, data):
            got.append(data)

    async def task():
        got.append("task")

    transport, _ = loop.run_until_complete(loop.create_connection(Protocol, sock=ours))
    peer.send(b"hello")
    tasks = [loop.create_task(task()), loop.create_task(task())]
    loop._process_events(loop._selector.select(0))
    ready = loop._ready
    events._set_running_loop(loop)
    try:
        while ready:
            handle = ready.popleft()
            assert not handle._cancelled and isinstance(handle, asyncio.Handle) or hasattr(handle, "_run")
            handle._run()
    finally:
        events._set_running_loop(None)
    assert got[:2] == ["task", "task"] and all(task.done() for task in tasks)
    run_once(loop)
    assert got[2:] == [b"hello"]
    transport.close()
    run_once(loop)
    run_once(loop)


def test_the_ready_queue_has_what_another_thread_has_added(loop):
    def add(number):
        thread = threading.Thread(target=loop.call_soon_threadsafe, args=(seen.append, number))
        thread.start()
        thread.join()

    seen = []
    add(1)
    assert len(loop._ready) == 1
    add(2)
    loop._ready.popleft()._run()
    add(3)
    assert [handle._args for handle in loop._ready] == [(2,), (3,)]
    run_once(loop)
    assert seen == [1, 2, 3]


def test_readiness_of_a_transport_that_has_ended(loop, pair):
    """A program that polls by itself may have it for longer."""
    ours, peer = pair
    got = []

    class Protocol(asyncio.Protocol):
        def data_received(self, data):
            got.append(data)

    transport, _ = loop.run_until_complete(loop.create_connection(Protocol, sock=ours))
    fd = ours.fileno()
    peer.send(b"data")
    handles = [key.data[0] for key, _ in loop._selector.select(0) if key.fd == fd]
    assert len(handles) == 1
    transport.abort()
    run_once(loop)
    run_once(loop)
    handles[0]._run()
    assert got == []


def test_the_list_of_timers(loop):
    seen = []
    late, early = loop.call_later(100, seen.append, "late"), loop.call_later(0, seen.append, "early")
    scheduled = loop._scheduled
    assert scheduled[0] is early and sorted(scheduled) == [early, late]
    assert heapq.heappop(scheduled) is early
    run_once(loop)
    run_once(loop)
    assert seen == [] and loop._scheduled == [late]
    loop._scheduled.append(asyncio.TimerHandle(loop.time() - 1, seen.append, ("foreign",), loop))
    heapq.heapify(loop._scheduled)
    cancelled = asyncio.TimerHandle(loop.time() - 1, seen.append, ("cancelled",), loop)
    cancelled.cancel()
    loop._scheduled.append(cancelled)
    heapq.heapify(loop._scheduled)
    run_once(loop)
    run_once(loop)
    assert seen == ["foreign"]
    heapq.heappush(loop._scheduled, early)
    assert loop._scheduled[0] is early
    run_once(loop)
    run_once(loop)
    assert seen == ["foreign", "early"]
    loop._scheduled.clear()
    assert loop._scheduled == []
    late.cancel()


def test_looking_is_forgotten(loop, loop_kind):
    """Looking at the timers slows the loop down only as long as the list is held."""
    if loop_kind == "asyncio":
        pytest.skip("about cloop")
    handle = loop.call_later(100, print)
    assert len(loop._scheduled) == 1 and loop._selector.get_map()
    assert loop._asks
    run_once(loop)
    assert not loop._asks
    handle.cancel()


def test_a_turn_of_asyncios_own(new_loop, loop_class, run):
    """asyncio's own code for a turn, and similar code, works on the loop's private parts."""

    class Sub(loop_class):
        def _run_once(self):
            base_events.BaseEventLoop._run_once(self)

    loop = new_loop(Sub)

    async def handler(reader, writer):
        writer.write((await reader.readline()).upper())
        writer.close()

    async def main():
        server = await asyncio.start_server(handler, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"hello\n")
        answer = await reader.read()
        writer.close()
        server.close()
        await asyncio.gather(*[asyncio.sleep(0.001 * number) for number in range(5)])
        assert asyncio.current_task() in asyncio.all_tasks()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.sleep(10), 0.01)
        return answer

    assert loop.run_until_complete(main()) == b"HELLO\n"
    timer = threading.Timer(0.01, loop.call_soon_threadsafe, [loop.stop])
    timer.start()
    loop.run_forever()
    timer.join()
    assert loop._timer_cancelled_count >= 0
