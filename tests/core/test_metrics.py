"""loop.metrics(): each number in a scenario whose numbers are known; and the hook for slow callbacks."""

import asyncio
import concurrent.futures
import contextlib
import functools
import gc
import importlib
import json
import os
import pathlib
import re
import resource
import socket
import sys
import sysconfig
import threading
import time
import types

import pytest

MS = 1000 * 1000  # ns
NAMES = (
    "since_ns now_ns busy_ns idle_ns utilization turns polls events callbacks task_steps threadsafe ready ready_max "
    "timers_pending timers_made timers_cancelled timers_fired lateness_ns lateness_max_ns lateness turn_time "
    "callback_time tasks_alive tasks_made tasks_done tasks_failed tasks_cancelled connections accepted connected "
    "connect_failed bytes_in bytes_out reads writes write_buffered writing_paused accept_pauses tls_handshakes "
    "tls_handshakes_failed children children_made executor_running executor_waiting watched lost"
).split()
HISTOGRAMS = ("lateness", "turn_time", "callback_time")


@pytest.fixture
def loop(cloop):
    loop = cloop.Loop()
    yield loop
    loop.close()


@pytest.fixture
def change(loop):
    """change(body): what the counters say of body(), which runs the loop."""

    def change(body):
        before = loop.metrics()
        body()
        return loop.metrics() - before

    return change


@pytest.fixture
def during(loop):
    """during(coroutine): the same for a coroutine, and what it returned."""

    def during(coroutine):
        before = loop.metrics()
        result = loop.run_until_complete(coroutine)
        return loop.metrics() - before, result

    return during


@pytest.fixture
def quick_switches():
    """Threads get the interpreter soon, as many of them want it."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    yield
    sys.setswitchinterval(before)


# The object


def test_attributes(cloop, loop):
    reading = loop.metrics()
    assert type(reading) is cloop.Metrics
    public = {name for name in dir(reading) if not name.startswith("_")} - {"as_dict"}
    assert public == set(NAMES) == set(reading.as_dict())
    for name in NAMES:
        value = getattr(reading, name)
        expected = (
            cloop.Histogram
            if name in HISTOGRAMS
            else dict
            if name == "connections"
            else float
            if name == "utilization"
            else int
        )
        assert type(value) is expected, name
    kinds = dict.fromkeys(("tcp", "unix", "udp", "pipe", "other", "tls", "child"), 0)
    assert reading.connections == kinds


def test_the_documentation_has_each():
    page = pathlib.Path(__file__).parents[2] / "docs" / "metrics.md"
    rows = [line.split("|")[1] for line in page.read_text().splitlines() if line.startswith("| `")]
    assert set(NAMES) <= set(re.findall(r"`(\w+)`", " ".join(rows)))


def test_a_new_loop_has_counted_nothing(loop):
    reading = loop.metrics()
    numbers = {
        name: value
        for name, value in reading.as_dict().items()
        if type(value) is int and name not in ("since_ns", "now_ns")
    }
    assert set(numbers.values()) == {0}
    assert reading.utilization == 0.0
    assert reading.since_ns <= reading.now_ns


def test_as_dict_can_be_written_as_json(loop, turn):
    turn()
    reading = loop.metrics()
    read = json.loads(json.dumps(reading.as_dict()))
    assert read["turns"] == reading.turns == 1
    assert read["turn_time"] == list(reading.turn_time.counts) and len(read["turn_time"]) == 37


def test_a_reading_is_frozen(cloop, loop):
    reading = loop.metrics()
    with pytest.raises(AttributeError):
        reading.turns = 1
    with pytest.raises(AttributeError):
        reading.more = 1
    with pytest.raises(AttributeError):
        reading.turn_time.count = 1
    for made in cloop.Metrics, cloop.Histogram:
        with pytest.raises(TypeError):
            made()
    assert repr(reading) == "<cloop.Metrics utilization=0.0 turns=0 callbacks=0>"
    assert repr(reading.turn_time) == "<cloop.Histogram count=0 p50=0ns p99=0ns>"


def test_a_reading_does_not_change(loop, turn):
    reading = loop.metrics()
    turn()
    assert reading.turns == 0 and loop.metrics().turns == 1


def test_readings_subtract(loop, turn):
    turn()
    first = loop.metrics()
    loop.call_later(1000, print)
    for _ in range(3):
        turn()
    second = loop.metrics()
    change = second - first
    assert change.turns == 3 and change.callbacks == 3 and change.timers_made == 1
    assert change.timers_pending == second.timers_pending == 1
    assert change.since_ns == first.now_ns and change.now_ns == second.now_ns
    assert change.turn_time.count == 3 == sum(change.turn_time.counts)
    assert change.busy_ns == second.busy_ns - first.busy_ns
    if change.busy_ns + change.idle_ns:
        assert change.utilization == change.busy_ns / (change.busy_ns + change.idle_ns)
    assert (second.turn_time - first.turn_time).counts == change.turn_time.counts
    for wrong in 1, first.turn_time:
        with pytest.raises(TypeError):
            second - wrong
        with pytest.raises(TypeError):
            wrong - second


def test_reset(loop, turn):
    for _ in range(10):
        loop.call_soon(int)
    timer = loop.call_later(1000, print)
    turn()
    reset = time.monotonic_ns()
    loop.metrics_reset()
    reading = loop.metrics()
    assert reading.since_ns >= reset
    assert reading.turns == reading.callbacks == reading.ready_max == reading.timers_made == 0
    assert reading.timers_pending == 1
    assert reading.turn_time.count == 0 and sum(reading.turn_time.counts) == 0
    timer.cancel()
    turn()
    reading = loop.metrics()
    assert reading.turns == reading.callbacks == reading.ready_max == reading.timers_cancelled == 1
    loop.metrics_reset()
    assert loop.metrics().turns == 0


def test_a_reading_from_before_a_reset_can_be_subtracted(loop, turn):
    for _ in range(10):
        turn()
    before = loop.metrics()
    loop.metrics_reset()
    turn()
    change = loop.metrics() - before
    assert change.turns == 1 and change.turn_time.count == 1


def test_a_closed_loop_can_be_read(loop, turn):
    loop.call_soon(int)
    turn()
    loop.call_later(1000, print)
    loop.call_later(1000, print).cancel()
    loop.call_soon(print)
    loop.call_soon(print).cancel()
    loop.close()
    reading = loop.metrics()
    assert reading.turns == 1 and reading.callbacks == 2
    assert (reading.timers_made, reading.timers_cancelled, reading.timers_pending) == (2, 1, 0)
    assert (reading.ready, reading.watched) == (0, 0)
    assert reading.lost == 2
    loop.metrics_reset()
    assert loop.metrics().turns == 0


def test_quantiles(loop, turn):
    histogram = loop.metrics().turn_time
    assert histogram.quantile(0) == histogram.quantile(1) == histogram.mean == 0.0
    for _ in range(100):
        turn()
    histogram = loop.metrics().turn_time
    assert histogram.count == 100
    used = [n for n, count in enumerate(histogram.counts) if count]
    low, high = (0 if used[0] == 0 else 2 ** used[0]), 2 ** (used[-1] + 1)
    assert low <= histogram.quantile(0) <= histogram.quantile(0.5) <= histogram.quantile(0.99)
    assert histogram.quantile(0.99) <= histogram.quantile(1) == high
    most = max(range(37), key=lambda n: histogram.counts[n])
    below = sum(histogram.counts[:most])
    middle = (below + histogram.counts[most] / 2) / 100
    assert histogram.quantile(middle) == pytest.approx(1.5 * 2**most)
    assert histogram.mean == histogram.sum / 100
    for wrong in -0.1, 1.1, float("nan"):
        with pytest.raises(ValueError, match="q must be from 0 to 1"):
            histogram.quantile(wrong)


# Time


def test_busy_and_idle_are_the_time_that_the_loop_ran(loop, during):
    async def main():
        began = time.monotonic_ns()
        await asyncio.sleep(0.02)
        time.sleep(0.02)
        await asyncio.sleep(0.02)
        return time.monotonic_ns() - began

    outer = time.monotonic_ns()
    change, inner = during(main())
    outer = time.monotonic_ns() - outer
    assert inner - 10000 <= change.busy_ns + change.idle_ns <= outer + 10000  # within us
    assert change.busy_ns >= 19 * MS
    assert change.idle_ns >= 35 * MS  # 40, but for what waking up takes
    assert change.utilization == pytest.approx(change.busy_ns / (change.busy_ns + change.idle_ns))


def test_time_between_runs_is_neither_busy_nor_idle(loop, turn):
    turn()
    before = loop.metrics()
    time.sleep(0.02)
    after = loop.metrics()
    assert (after.busy_ns, after.idle_ns) == (before.busy_ns, before.idle_ns)
    assert after.now_ns - before.now_ns >= 20 * MS


def test_a_turn_of_50_ms(loop, change, turn):
    loop.call_soon(time.sleep, 0.05)
    change = change(turn)
    assert change.turns == change.turn_time.count == 1
    assert change.busy_ns >= 50 * MS
    bucket = change.turn_time.counts.index(1)
    # Within a thousandth, the speed of the counter is known.
    assert 2 ** (bucket + 1) > 49.9 * MS
    assert change.turn_time.quantile(0.5) > 2**25 > 33 * MS
    assert change.idle_ns <= 5 * MS


def test_the_sleep_of_a_turn_is_not_in_its_time(loop, during):
    change, _ = during(asyncio.sleep(0.3))
    assert change.idle_ns >= 250 * MS
    assert sum(change.turn_time.counts[28:]) == 0  # 2**28 ns are 268 ms
    assert change.busy_ns < 250 * MS


def test_a_sleep_that_goes_on_is_idle(loop):
    """Read from another thread while the loop sleeps, twice: the second half of the sleep is in the second reading."""
    readings = []

    def read():
        for _ in range(2):
            time.sleep(0.05)
            readings.append(loop.metrics())
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=read)
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()
    first, second = readings
    assert first.idle_ns >= 30 * MS
    assert (second - first).idle_ns >= 40 * MS
    assert (second - first).busy_ns <= 10 * MS


def test_the_turn_that_goes_on_is_busy(loop):
    readings = []

    def callback():
        readings.append(loop.metrics())
        time.sleep(0.02)
        readings.append(loop.metrics())
        loop.stop()

    loop.call_soon(callback)
    loop.run_forever()
    assert (readings[1] - readings[0]).busy_ns >= 20 * MS
    assert loop.metrics().turn_time.count == loop.metrics().turns == 1


def test_turns_that_the_program_runs_itself(loop):
    loop.call_soon(time.sleep, 0.02)
    loop._run_once()
    time.sleep(0.3)
    loop.call_soon(int)
    loop._run_once()
    reading = loop.metrics()
    assert reading.turns == reading.turn_time.count == 2
    assert 20 * MS <= reading.busy_ns < 300 * MS


def test_a_selector_of_the_programs_sleeps_too(loop):
    class Selector(type(__import__("selectors").DefaultSelector())):
        pass

    loop._selector = Selector()
    loop.run_until_complete(asyncio.sleep(0.1))
    reading = loop.metrics()
    assert reading.idle_ns >= 80 * MS
    assert reading.turn_time.count == reading.turns


def test_counters_never_go_down_while_eight_threads_read(loop, quick_switches):
    """The program sleeps, computes, sets timers and calls from other threads; what grows must never shrink."""
    grows = [
        name
        for name in NAMES
        if name.endswith(("_ns", "_made", "_done", "_fired", "_cancelled"))
        or name in ("turns", "polls", "callbacks", "task_steps", "threadsafe", "bytes_in", "reads")
    ]
    done = threading.Event()
    failures, counts = [], []

    def read():
        last, count = loop.metrics(), 0
        while not done.is_set():
            now = loop.metrics()
            count += 1
            for name in grows:
                if getattr(now, name) < getattr(last, name) and name != "since_ns":
                    failures.append((name, getattr(last, name), getattr(now, name)))
            if now.busy_ns + now.idle_ns > now.now_ns - now.since_ns + 10000:
                failures.append(("more than the time", now.busy_ns + now.idle_ns))
            if sum(now.turn_time.counts) != now.turn_time.count:
                failures.append(("turn_time",))
            last = now
        counts.append(count)

    async def main():
        threads = [threading.Thread(target=read) for _ in range(8)]
        for thread in threads:
            thread.start()
        for _ in range(10):
            await asyncio.gather(*[asyncio.sleep(0) for _ in range(50)])
            await asyncio.sleep(0.005)
            await loop.run_in_executor(None, int)
        done.set()
        for thread in threads:
            await loop.run_in_executor(None, thread.join)

    loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_default_executor())
    assert not failures and len(counts) == 8 and min(counts) > 0


@pytest.mark.alone
def test_a_reading_takes_two_microseconds(loop, turn, cloop):
    turn()
    times = []
    for _ in range(50):
        began = time.perf_counter()
        for _ in range(1000):
            loop.metrics()
        times.append((time.perf_counter() - began) / 1000)
    slow = hasattr(sys, "gettotalrefcount") or "-DCL_DEBUG" in cloop._cloop.build_info()["flags"]
    assert min(times) < (20e-6 if slow else 2e-6)


# Callbacks


def test_a_thousand_callbacks(loop, change, turn):
    for _ in range(1000):
        loop.call_soon(int)
    assert loop.metrics().ready == 1000
    change = change(turn)
    assert change.callbacks == 1001 and change.ready_max == 1001 and change.turns == 1
    assert change.task_steps == 0 and change.ready == 0


@pytest.mark.parametrize("debug", [False, True])
def test_cancelled_callbacks_are_not_run(loop, change, turn, debug):
    loop.set_debug(debug)
    loop.call_soon(int).cancel()
    loop.call_soon(int)
    foreign = asyncio.Handle(int, (), loop)
    foreign.cancel()
    loop._ready.append(foreign)
    assert change(turn).callbacks == 2


def test_callbacks_seen_from_one(loop, turn):
    seen = []
    for _ in range(3):
        loop.call_soon(lambda: seen.append(loop.metrics()))
    turn()
    assert [reading.callbacks for reading in seen] == [1, 2, 3]
    assert [reading.ready for reading in seen] == [3, 2, 1]


def test_calls_from_other_threads(loop, change, turn):
    def body():
        thread = threading.Thread(target=lambda: [loop.call_soon_threadsafe(int) for _ in range(5)])
        thread.start()
        thread.join()
        turn()

    reading = change(body)
    assert reading.threadsafe == 5 and reading.callbacks == 6


def test_callbacks_are_timed_in_some_turns(loop, change):
    def chain(left):
        if left:
            loop.call_soon(chain, left - 1)
        else:
            loop.stop()

    loop.call_soon(chain, 6400)
    change = change(loop.run_forever)
    timed = change.callback_time
    assert 16 <= timed.count < 400  # one turn in 32, or in up to 256
    assert change.turn_time.count >= 6400
    assert sum(timed.counts) == timed.count and timed.sum > 0


def test_polls_and_events(loop, change, turn):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        loop.add_reader(ours, int)
        assert loop.metrics().watched == 1
        theirs.send(b"x")
        reading = change(turn)
        assert reading.polls == 1 and reading.events == 1
        loop.remove_reader(ours)


# Timers


def test_timers(loop, change, turn, until):
    fired = []

    def body():
        for delay in 0, 0, 1000, 1000:
            loop.call_later(delay, fired.append, delay)
        loop.call_later(1000, print).cancel()
        until(lambda: len(fired) == 2)

    reading = change(body)
    assert (reading.timers_made, reading.timers_fired, reading.timers_cancelled) == (5, 2, 1)
    assert reading.timers_pending == 2
    assert reading.lateness.count == 2


def test_lateness(loop, during):
    async def main():
        loop.call_soon(time.sleep, 0.08)
        await asyncio.sleep(0.01)

    change, _ = during(main())
    assert change.timers_fired == change.lateness.count == 1
    assert 69 * MS < change.lateness_ns == change.lateness_max_ns == change.lateness.sum
    assert change.lateness.counts.index(1) == (change.lateness_ns.bit_length() - 1)
    assert change.lateness.mean == change.lateness_ns
    loop.metrics_reset()
    assert loop.metrics().lateness_max_ns == 0


def test_the_most_late_of_several(loop, during):
    async def main():
        for delay in 0.01, 0.02, 0.03:
            loop.call_later(delay, int)
        time.sleep(0.08)
        await asyncio.sleep(0)

    change, _ = during(main())
    loop.run_until_complete(asyncio.sleep(0))
    reading = loop.metrics()
    assert reading.timers_fired == 3
    assert 69 * MS < reading.lateness_max_ns < reading.lateness_ns
    assert reading.lateness_ns > 175 * MS


def test_a_clock_of_the_programs(cloop):
    class Clock(cloop.Loop):
        now = 0.0

        def time(self):
            return self.now

    loop = Clock()
    loop.call_at(5.0, loop.stop)
    loop.now = 5.25
    loop.run_forever()
    reading = loop.metrics()
    loop.close()
    assert reading.timers_fired == 1 and reading.lateness_ns == 250 * MS


@pytest.mark.parametrize("late, counted", [(6e7, True), (8e7, False), (1e300, False)])
def test_a_timer_that_is_years_late(cloop, late, counted):
    """Two years and more are the clock's fault, and count as none."""

    class Clock(cloop.Loop):
        now = 0.0

        def time(self):
            return self.now

    loop = Clock()
    loop.call_at(0.0, loop.stop)
    loop.now = late
    loop.run_forever()
    reading = loop.metrics()
    loop.close()
    assert reading.timers_fired == reading.lateness.count == reading.lateness.counts[-1 if counted else 0] == 1
    assert reading.lateness_ns == reading.lateness_max_ns == pytest.approx(late * 1e9 if counted else 0)


# Tasks

own_tasks = pytest.mark.skipif(
    os.environ.get("CLOOP_TASKS") == "stock" or bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    reason="asyncio's own tasks are not counted",
)


@own_tasks
def test_tasks(loop, during):
    async def fail():
        raise ValueError

    async def for_ever():
        await loop.create_future()

    async def main():
        tasks = [loop.create_task(fail()) for _ in range(2)]
        tasks += [loop.create_task(for_ever()) for _ in range(3)]
        waits = loop.create_task(asyncio.sleep(1000))
        await asyncio.sleep(0)
        alive = loop.metrics().tasks_alive
        for task in tasks[2:]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return alive, waits

    change, (alive, waits) = during(main())
    assert alive == 1 + 5 + 1 - 2  # those that failed are done
    assert change.tasks_made == 7 and change.tasks_done == 6
    assert change.tasks_failed == 2 and change.tasks_cancelled == 3
    assert change.tasks_alive == 1
    waits.cancel()
    loop.run_until_complete(asyncio.gather(waits, return_exceptions=True))
    assert loop.metrics().tasks_alive == 0


@own_tasks
def test_task_steps(loop, during):
    async def main():
        for _ in range(10):
            await asyncio.sleep(0)

    change, _ = during(main())
    assert change.task_steps == 11


@own_tasks
def test_steps_through_handles_are_counted(loop, during):
    loop.set_debug(True)
    change, _ = during(asyncio.sleep(0))
    assert change.task_steps == 2


@own_tasks
@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
def test_eager_tasks(loop, during):
    async def main():
        loop.set_task_factory(asyncio.eager_task_factory)
        await loop.create_task(asyncio.sleep(0))

    change, _ = during(main())
    assert change.tasks_made == change.tasks_done == 2
    assert change.task_steps == 4


@own_tasks
def test_pending_tasks_that_are_freed_are_lost(loop, turn):
    loop.set_exception_handler(lambda loop, context: None)

    async def wait():
        await loop.create_future()

    task = loop.create_task(wait())
    turn()
    assert loop.metrics().tasks_alive == 1
    del task
    gc.collect()
    reading = loop.metrics()
    assert reading.tasks_alive == 0 and reading.lost == 1 and reading.tasks_done == 0


# Connections


class Peer(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
        self.paused = 0

    def data_received(self, data):
        self.transport.write(data)

    def pause_writing(self):
        self.paused += 1

    def connection_lost(self, error):
        self.transport = None


def test_three_connections(loop, during):
    async def main():
        server = await loop.create_server(Peer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        clients = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        for reader, writer in clients:
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"hello"
        opened = loop.metrics()
        for _, writer in clients:
            writer.close()
            await writer.wait_closed()
        server.close()
        await server.wait_closed()
        while loop.metrics().connections["tcp"]:
            await asyncio.sleep(0)
        return opened

    change, opened = during(main())
    assert opened.connections["tcp"] == 6
    assert change.accepted == change.connected == 3 and change.connect_failed == 0
    assert change.bytes_in == change.bytes_out == 3 * 2 * 5
    assert change.writes == 6
    assert change.reads >= 6 + 3  # the data, and its end


def test_connections_that_fail(loop, during):
    async def main():
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            for _ in range(2):
                with contextlib.suppress(OSError):
                    await asyncio.open_connection(*unused.getsockname())

    change, _ = during(main())
    assert change.connect_failed == 2 and change.connected == 0
    assert change.connections["tcp"] == 0


def test_kinds_of_connections(loop, during, tmp_path):
    async def main():
        path = str(tmp_path / "socket")
        server = await loop.create_unix_server(Peer, path)
        unix, _ = await loop.create_unix_connection(Peer, path)
        while loop.metrics().accepted == 0:
            await asyncio.sleep(0)
        udp, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))
        to_udp, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, remote_addr=udp.get_extra_info("sockname")
        )
        reading, writing = os.pipe()
        pipe, _ = await loop.connect_read_pipe(asyncio.Protocol, open(reading, "rb", 0))
        to_pipe, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, open(writing, "wb", 0))
        opened = loop.metrics()
        to_udp.sendto(b"123")
        to_pipe.write(b"12345")
        while loop.metrics().bytes_in < 8:
            await asyncio.sleep(0)
        for transport in unix, udp, to_udp, pipe, to_pipe:
            transport.close()
        server.close()
        await server.wait_closed()
        while any(loop.metrics().connections.values()):
            await asyncio.sleep(0)
        return opened

    change, opened = during(main())
    assert opened.connections == {"tcp": 0, "unix": 2, "udp": 2, "pipe": 2, "other": 0, "tls": 0, "child": 0}
    assert change.bytes_in == change.bytes_out == 8 and change.writes == 2
    assert change.connected == 1  # sock_connect() of a datagram socket does not connect


def test_operations_on_sockets(loop, during):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)

        async def main():
            await loop.sock_sendall(ours, b"12345")
            assert await loop.sock_recv(theirs, 100) == b"12345"
            await loop.sock_sendall(theirs, b"123")
            buffer = bytearray(10)
            assert await loop.sock_recv_into(ours, buffer) == 3

        change, _ = during(main())
    assert (change.bytes_in, change.bytes_out, change.writes) == (8, 8, 2)
    assert change.reads == 2


def test_an_idle_loop_has_nothing_to_tell_the_poller(loop):
    """What it was told is not told again and again: each attempt would be a poll."""
    ours, theirs = socket.socketpair()

    def idle():
        before = loop.metrics().polls
        loop.run_until_complete(asyncio.sleep(0.6))
        return loop.metrics().polls - before

    with theirs:
        ours.setblocking(False)
        alone = idle()
        transport, _ = loop.run_until_complete(loop.create_connection(asyncio.Protocol, sock=ours))
        transport.pause_reading()
        assert idle() <= alone + 2
        transport.close()
        loop.run_until_complete(asyncio.sleep(0))


def test_a_paused_writer(loop):
    ours, theirs = socket.socketpair()
    size = 4 * 1024 * 1024

    async def main():
        transport, peer = await loop.create_connection(Peer, sock=ours)
        transport.write(bytes(size))
        full = loop.metrics()
        assert full.write_buffered == transport.get_write_buffer_size() > 0
        assert full.writing_paused == 1 == peer.paused
        assert full.bytes_out + full.write_buffered == size
        with theirs:
            theirs.setblocking(False)
            left = size
            while left:
                left -= len(await loop.sock_recv(theirs, 1024 * 1024))
            drained = loop.metrics()
            assert drained.write_buffered == 0 and drained.bytes_out == size
            transport.write(bytes(size))
            assert loop.metrics().writing_paused == 2
            transport.abort()
            assert loop.metrics().write_buffered == 0
        while loop.metrics().connections["unix"]:
            await asyncio.sleep(0)

    loop.run_until_complete(main())


def test_datagrams_that_wait(loop):
    async def main():
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as theirs, socket.socket(
            socket.AF_UNIX, socket.SOCK_DGRAM
        ) as ours:
            theirs.bind(b"\0cloop-metrics-%d" % os.getpid())
            ours.connect(theirs.getsockname())
            transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, sock=ours)
            while loop.metrics().write_buffered == 0:
                transport.sendto(bytes(1000))
            assert loop.metrics().write_buffered == transport.get_write_buffer_size()
            transport.abort()
            assert loop.metrics().write_buffered == 0
            await asyncio.sleep(0)

    loop.run_until_complete(main())


def test_a_server_out_of_descriptors(loop, reports, monkeypatch):
    monkeypatch.setattr(asyncio.constants, "ACCEPT_RETRY_DELAY", 0.01)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def main():
        server = await loop.create_server(Peer, "127.0.0.1", 0)
        with socket.create_connection(server.sockets[0].getsockname()):
            free = os.dup(0)
            os.close(free)
            resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
            try:
                while loop.metrics().accept_pauses < 2:
                    await asyncio.sleep(0)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert loop.metrics().accepted == 0
            while loop.metrics().accepted == 0:
                await asyncio.sleep(0)
        while loop.metrics().connections["tcp"]:
            await asyncio.sleep(0)
        server.close()
        await server.wait_closed()

    loop.run_until_complete(main())
    assert len(reports) == 1


@pytest.fixture
def contexts():
    """TLS contexts of a server and its clients."""
    trustme = pytest.importorskip("trustme")
    ssl = pytest.importorskip("ssl")
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.issue_cert("localhost").configure_cert(server)
    authority.configure_trust(client)
    return types.SimpleNamespace(server=server, client=client)


def test_tls(loop, during, contexts):
    async def main():
        server = await loop.create_server(Peer, "127.0.0.1", 0, ssl=contexts.server)
        address = server.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(*address, ssl=contexts.client, server_hostname="localhost")
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        opened = loop.metrics()
        with socket.create_connection(address) as stranger:
            stranger.sendall(b"GET / HTTP/1.0\r\n\r\n")
            while loop.metrics().tls_handshakes_failed == 0:
                await asyncio.sleep(0)
        with socket.create_connection(address):  # and goes away
            while loop.metrics().connections["tls"] < 3:
                await asyncio.sleep(0)
        while loop.metrics().tls_handshakes_failed == 1:
            await asyncio.sleep(0)
        writer.close()
        with contextlib.suppress(Exception):
            await writer.wait_closed()
        server.close()
        await server.wait_closed()
        while any(loop.metrics().connections.values()):
            await asyncio.sleep(0)
        return opened

    change, opened = during(main())
    assert opened.tls_handshakes == 2 and opened.tls_handshakes_failed == 0
    assert opened.connections["tls"] == opened.connections["tcp"] == 2
    assert change.tls_handshakes == 2 and change.tls_handshakes_failed == 2
    assert change.write_buffered == 0


def test_tls_that_waits(loop, contexts):
    size = 4 * 1024 * 1024

    class Deaf(Peer):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.pause_reading()
            made.append(transport)

    made = []

    async def main():
        server = await loop.create_server(Deaf, "127.0.0.1", 0, ssl=contexts.server)
        address = server.sockets[0].getsockname()
        transport, _ = await loop.create_connection(Peer, *address, ssl=contexts.client, server_hostname="localhost")
        while not made:
            await asyncio.sleep(0)
        for _ in range(10):
            transport.write(bytes(size))
            await asyncio.sleep(0)
        full = loop.metrics()
        assert full.write_buffered > size and full.writing_paused >= 1
        transport.abort()
        made[0].abort()
        server.close()
        await server.wait_closed()
        while any(loop.metrics().connections.values()):
            await asyncio.sleep(0)
        assert loop.metrics().write_buffered == 0

    loop.run_until_complete(main())


def test_sent_files(loop, during, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(100000))

    async def main():
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=ours)
        with theirs, open(str(path), "rb") as file:
            sending = loop.create_task(loop.sendfile(writer.transport, file))
            theirs.setblocking(False)
            left = 100000
            while left:
                left -= len(await loop.sock_recv(theirs, left))
            assert await sending == 100000
        writer.close()
        await writer.wait_closed()

    change, _ = during(main())
    assert change.bytes_out == change.bytes_in == 100000


# Children and executors


def test_children(loop, during):
    async def main():
        child = await asyncio.create_subprocess_exec("cat", stdin=asyncio.subprocess.PIPE)
        alive = loop.metrics()
        child.stdin.close()
        await child.wait()
        return alive

    change, alive = during(main())
    if change.children_made == 0:  # as asyncio's, with CLOOP_... of the environment
        pytest.skip("children are asyncio's here")
    assert alive.children == alive.connections["child"] == 1
    assert alive.connections["pipe"] == 1
    assert change.children_made == 1 and change.children == 0


def test_jobs_of_an_executor(loop, cloop):
    begin, end = threading.Semaphore(0), threading.Semaphore(0)

    def job():
        begin.release()
        end.acquire()

    async def main():
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            loop.set_default_executor(pool)
            jobs = [loop.run_in_executor(None, job) for _ in range(3)]
            begin.acquire()
            reading = loop.metrics()
            assert (reading.executor_running, reading.executor_waiting) == (1, 2)
            end.release()
            begin.acquire()
            reading = loop.metrics()
            assert (reading.executor_running, reading.executor_waiting) == (1, 1)
            end.release(2) if sys.version_info >= (3, 9) else (end.release(), end.release())
            await asyncio.gather(*jobs)
            reading = loop.metrics()
            assert (reading.executor_running, reading.executor_waiting) == (0, 0)

    loop.run_until_complete(main())


def test_an_executor_with_futures_of_its_own(loop):
    """asyncio passes a future of the loop's on as it is; nothing would tell of its end."""

    class Executor:
        def submit(self, function, *args):
            future = loop.create_future()
            future.set_result(function(*args))
            return future

    async def main():
        assert await loop.run_in_executor(Executor(), int, "5") == 5

    loop.run_until_complete(main())
    reading = loop.metrics()
    assert (reading.executor_running, reading.executor_waiting) == (0, 0)


@pytest.mark.parametrize("size, waiting", [(1000, 1), (-1000, 0), (10**30, 0), ("many", 0), (None, 0)])
def test_what_the_queue_of_an_executor_says(loop, size, waiting):
    """The number is not kept, whatever it is."""

    class Queue:
        def qsize(self):
            return answers[0]

    async def main():
        begun, gate = threading.Event(), threading.Event()
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            loop.set_default_executor(pool)
            job = loop.run_in_executor(None, lambda: (begun.set(), gate.wait()))
            begun.wait()
            used, pool._work_queue = pool._work_queue, Queue()
            try:
                before = sys.getrefcount(answers[0])
                assert [loop.metrics().executor_waiting for _ in range(20)] == [waiting] * 20
                assert sys.getrefcount(answers[0]) < before + 20
            finally:
                pool._work_queue = used
                gate.set()
            await job

    answers = [size]
    loop.run_until_complete(main())


def test_the_first_job_of_the_default_executor(loop):
    async def main():
        gate = threading.Event()
        job = loop.run_in_executor(None, gate.wait)
        assert loop.metrics().executor_running + loop.metrics().executor_waiting == 1
        gate.set()
        await job
        await asyncio.sleep(0)
        assert loop.metrics().executor_running == 0
        await loop.shutdown_default_executor()

    loop.run_until_complete(main())


# The hook for slow callbacks


@pytest.fixture
def slow(loop):
    """What the hook was told."""
    told = []
    loop.set_slow_callback_hook(told.append, 0.08)
    return told


def test_a_callback_that_blocks(cloop, loop, slow, turn):
    def block():
        time.sleep(0.1)

    loop.call_soon(int)
    loop.call_soon(block)
    loop.call_soon(int)
    turn()
    (info,) = slow
    assert type(info) is cloop.SlowCallback
    assert info.kind == "callback" and info.name.endswith("test_a_callback_that_blocks.<locals>.block")
    assert (info.file, info.line) == (__file__, block.__code__.co_firstlineno)
    assert 0.099 <= info.duration < 5
    assert 0 <= info.cpu_time < 0.05
    assert info.coroutine is info.task_name is info.protocol is info.peer is None


def test_a_callback_that_computes(loop, slow, turn):
    def compute():
        until = time.thread_time() + 0.1
        while time.thread_time() < until:
            pass

    loop.call_soon(compute)
    turn()
    (info,) = slow
    assert info.duration >= 0.099 and 0.09 < info.cpu_time <= info.duration


def test_processor_time_after_others(loop, slow):
    """What callbacks before it computed is not counted for one that blocks."""

    def chain(left):
        sum(range(1000))
        loop.call_soon(*((chain, left - 1) if left else (block,)))

    def block():
        time.sleep(0.1)
        loop.stop()

    loop.call_soon(chain, 2000)
    loop.run_forever()
    (info,) = [info for info in slow if info.name.endswith("block")]
    assert info.duration >= 0.099 and info.cpu_time < 0.03


def test_a_timer_that_blocks(loop, slow, until):
    loop.call_later(0, time.sleep, 0.1)
    until(lambda: slow)
    assert slow[0].kind == "timer" and slow[0].name == "sleep" and slow[0].file is None


def test_a_task_that_blocks(loop, slow):
    async def inner():
        time.sleep(0.1)
        await asyncio.sleep(0)  # here

    async def outer():
        await inner()

    async def main():
        task = loop.create_task(outer())
        getattr(task, "set_name", int)("the task")
        await task
        time.sleep(0.1)

    loop.run_until_complete(main())
    first, second = slow
    assert first.kind == second.kind == "task"
    assert first.coroutine == first.name == outer.__qualname__ and first.task_name == "the task"
    assert (first.file, first.line) == (__file__, inner.__code__.co_firstlineno + 2)
    assert second.coroutine == main.__qualname__
    assert second.line == main.__code__.co_firstlineno  # it has ended


def test_a_connection_that_blocks(loop, slow):
    class Blocking(asyncio.Protocol):
        def data_received(self, data):
            time.sleep(0.1)
            blocked.set_result(None)

    blocked = loop.create_future()

    async def main():
        server = await loop.create_server(Blocking, "127.0.0.1", 0)
        transport, _ = await loop.create_connection(asyncio.Protocol, *server.sockets[0].getsockname())
        transport.write(b"x")
        await blocked
        address = transport.get_extra_info("sockname")
        transport.close()
        server.close()
        await server.wait_closed()
        while loop.metrics().connections["tcp"]:
            await asyncio.sleep(0)
        return address

    address = loop.run_until_complete(main())
    (info,) = slow
    assert info.kind == "connection" and info.protocol is Blocking and info.name == Blocking.__qualname__
    assert info.peer == address
    assert (info.file, info.line) == (__file__, Blocking.data_received.__code__.co_firstlineno)


def test_a_tls_connection_that_blocks(loop, slow, contexts):
    class Blocking(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport

        def data_received(self, data):
            time.sleep(0.1)
            self.transport.write(b"done")

    async def main():
        server = await loop.create_server(Blocking, "127.0.0.1", 0, ssl=contexts.server)
        reader, writer = await asyncio.open_connection(
            *server.sockets[0].getsockname(), ssl=contexts.client, server_hostname="localhost"
        )
        del slow[:]
        writer.write(b"x")
        await reader.readexactly(4)
        writer.close()
        server.close()
        await server.wait_closed()
        while loop.metrics().connections["tcp"]:
            await asyncio.sleep(0)

    loop.run_until_complete(main())
    assert Blocking in [info.protocol for info in slow if info.kind == "connection"]


def test_a_protocol_called_by_the_loop(loop, slow):
    class Slow(asyncio.Protocol):
        def connection_made(self, transport):
            time.sleep(0.1)

    ours, theirs = socket.socketpair()

    async def main():
        transport, _ = await loop.create_connection(Slow, sock=ours)
        transport.close()
        theirs.close()
        while loop.metrics().connections["unix"]:
            await asyncio.sleep(0)

    loop.run_until_complete(main())
    (info,) = slow
    assert info.kind == "callback" and info.protocol is Slow and info.name.endswith("Slow.connection_made")


def test_a_callback_that_cancels_itself(loop, slow, turn):
    def block():
        handle.cancel()
        time.sleep(0.1)

    handle = loop.call_soon(block)
    turn()
    assert len(slow) == 1 and slow[0].duration >= 0.099


def test_accepting_that_blocks(loop, slow):
    def factory():
        time.sleep(0.1)
        return Peer()

    async def main():
        server = await loop.create_server(factory, "127.0.0.1", 0)
        with socket.create_connection(server.sockets[0].getsockname()):
            while not slow:
                await asyncio.sleep(0)
        while loop.metrics().connections["tcp"]:
            await asyncio.sleep(0)
        server.close()
        await server.wait_closed()

    loop.run_until_complete(main())
    assert [(info.kind, info.name) for info in slow] == [("accept", "accept")]


def test_quick_callbacks_are_not_told(loop, change):
    """Nor are they added to the histogram, which stays a sample."""
    told = []
    loop.set_slow_callback_hook(told.append, 10)
    for _ in range(1000):
        loop.call_soon(int)
    loop.call_soon(loop.stop)
    change = change(loop.run_forever)
    assert told == [] and change.callbacks == 1001
    assert change.callback_time.count in (0, 1001)  # whether its turn was a sample


def test_callbacks_are_sampled_with_a_hook_and_without(loop, change, turn):
    def turns():
        for _ in range(3840):
            turn()

    counts = [change(turns).callback_time.count]
    loop.set_slow_callback_hook(print, 10)
    counts.append(change(turns).callback_time.count)
    loop._count_tasks(True)
    counts.append(change(turns).callback_time.count)
    assert all(10 <= count <= 240 for count in counts), counts


def test_callback_that_sets_the_hook_is_not_taken_for_the_next(loop, turn):
    told = []

    def block():
        loop.set_slow_callback_hook(told.append, 0.08)
        time.sleep(0.1)

    loop.call_soon(block)
    loop.call_soon(int)
    turn()
    assert told == []


def test_turn_within_a_callback_is_not_the_callbacks(loop, slow, turn):
    """asyncio can't do this; nest_asyncio does."""

    def nested():
        loop.call_soon(time.sleep, 0.1)
        loop._run_once()

    loop.call_soon(nested)
    loop.call_soon(int)
    turn()
    assert [info.name for info in slow] == ["sleep"]


# Slow callbacks that are noted


@pytest.fixture
def noted(loop):
    """noted(): what is noted of callbacks that take 0.08 s."""
    module = importlib.import_module("cloop._slow")
    loop._note_slow(0.08)
    return lambda: module.noted(loop)


def test_slow_callbacks_are_noted_by_name_and_line(loop, noted, turn):
    def block(seconds):
        time.sleep(seconds)

    async def main():
        time.sleep(0.1)
        await asyncio.sleep(0)  # here

    for seconds in 0.1, 0.2, 0:
        loop.call_soon(block, seconds)
    turn()
    loop.run_until_complete(main())
    first, second = noted()
    assert (first["name"], first["kind"], first["count"]) == (block.__qualname__, "callback", 2)
    assert (first["file"], first["line"]) == (__file__, block.__code__.co_firstlineno)
    assert 0.198 <= first["max"] < first["total"] and first["total"] >= 0.297  # the counter is known within 1 %
    assert (second["name"], second["kind"], second["count"]) == (main.__qualname__, "task", 1)
    assert second["line"] == main.__code__.co_firstlineno + 2
    loop._note_slow(None)
    loop.call_soon(block, 0.1)
    turn()
    assert len(noted()) == 2 and noted()[0]["count"] == 2


def test_hook_and_notes_have_thresholds_of_their_own(loop, noted, turn):
    told = []
    for hooked, numbers in (0.15, (2, 1)), (0.04, (4, 4)):
        loop.set_slow_callback_hook(told.append, hooked)
        for seconds in 0.1, 0.2:
            loop.call_soon(time.sleep, seconds)
        turn()
        (row,) = noted()
        assert (row["count"], len(told)) == (numbers[0], numbers[1] - (hooked < 0.08))
    assert min(info.duration for info in told) >= 0.099
    loop.set_slow_callback_hook(None)
    loop.call_soon(time.sleep, 0.1)
    turn()
    assert noted()[0]["count"] == 5 and len(told) == 3


def test_hook_has_processor_time_beside_lower_notes(loop, turn):
    told = []
    loop._note_slow(0.001)
    loop.set_slow_callback_hook(told.append, 0.08)

    def compute():
        until = time.thread_time() + 0.1
        while time.thread_time() < until:
            pass

    loop.call_soon(compute)
    loop.call_soon(time.sleep, 0.1)
    turn()
    first, second = told
    assert 0.09 < first.cpu_time <= first.duration and second.cpu_time < 0.05


def test_notes_are_limited(loop, monkeypatch):
    module = importlib.import_module("cloop._slow")
    for n in range(1000):
        module.note(loop, "name", "callback", "file", n, 1.0 + n % 10)
    rows = module.noted(loop)
    assert len(rows) == module._NOTED_MAX and rows[0]["max"] == 10.0
    assert min(row["total"] for row in rows) >= 5


def test_wrong_threshold_of_notes(loop):
    for wrong in -1, float("nan"):
        with pytest.raises(ValueError):
            loop._note_slow(wrong)
    with pytest.raises(TypeError):
        loop._note_slow("x")


def test_a_threshold_of_zero_tells_all(loop, turn):
    told = []
    loop.set_slow_callback_hook(told.append, threshold=0)
    loop.call_soon(int)
    turn()
    assert [info.name for info in told] == ["int", "Loop.stop"] or len(told) == 2


def test_the_hook_can_be_removed_and_replaced(loop, slow, turn):
    others = []
    loop.set_slow_callback_hook(others.append, 0.08)
    loop.call_soon(time.sleep, 0.1)
    turn()
    assert not slow and len(others) == 1
    loop.set_slow_callback_hook(None)
    loop.call_soon(time.sleep, 0.1)
    turn()
    assert not slow and len(others) == 1


def test_a_hook_that_removes_itself(loop, turn):
    told = []

    def hook(info):
        told.append(info)
        loop.set_slow_callback_hook(None)

    loop.set_slow_callback_hook(hook, 0.08)
    for _ in range(3):
        loop.call_soon(time.sleep, 0.1)
    turn()
    assert len(told) == 1


def test_an_exception_of_the_hook_is_reported(loop, reports, turn):
    error = ValueError("of the hook")

    def hook(info):
        raise error

    loop.set_slow_callback_hook(hook, 0.08)
    handle = loop.call_soon(time.sleep, 0.1)
    done = []
    loop.call_soon(done.append, 1)
    turn()
    (context,) = reports
    assert context["exception"] is error and context["handle"] is handle
    assert context["message"] == "Exception in the hook for slow callbacks"
    assert done == [1]


def test_a_keyboard_interrupt_of_the_hook_leaves_the_loop(loop):
    def hook(info):
        raise KeyboardInterrupt

    loop.set_slow_callback_hook(hook, 0.08)
    loop.call_soon(time.sleep, 0.1)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    loop.set_slow_callback_hook(None)


def test_an_exception_of_the_callback_does_not_keep_the_hook(loop, slow, reports, turn):
    def fail():
        time.sleep(0.1)
        raise ValueError

    loop.call_soon(fail)
    turn()
    assert len(slow) == 1 and len(reports) == 1


def test_the_hook_has_no_current_task(loop):
    seen = []
    loop.set_slow_callback_hook(lambda info: seen.append(asyncio.current_task()), 0.08)

    async def main():
        time.sleep(0.1)
        await asyncio.sleep(0)

    loop.run_until_complete(main())
    assert seen == [None]


def test_the_hook_works_in_debug_mode(loop, slow, turn, caplog):
    loop.set_debug(True)
    loop.slow_callback_duration = 0.01
    loop.call_soon(time.sleep, 0.1)
    turn()
    assert len(slow) == 1
    assert [record.getMessage() for record in caplog.records if "Executing" in record.getMessage()]


def test_the_time_of_the_poll_is_not_the_first_callbacks(cloop):
    class Loop(cloop.Loop):
        def _process_events(self, events):
            time.sleep(0.1)
            super()._process_events(events)

    loop, told = Loop(), []
    loop.set_slow_callback_hook(told.append, 0.08)
    loop.call_soon(int)
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    assert told == []


def test_the_time_of_the_hook_is_not_the_next_callbacks(loop, turn):
    told = []

    def hook(info):
        told.append(info.name)
        time.sleep(0.1)

    loop.set_slow_callback_hook(hook, 0.08)
    loop.call_soon(time.sleep, 0.1)
    loop.call_soon(int)
    turn()
    assert told == ["sleep"]


def test_what_a_hook_may_be(loop):
    for wrong in 1, "print":
        with pytest.raises(TypeError, match="the hook must be callable"):
            loop.set_slow_callback_hook(wrong)
    for wrong in -1, float("nan"):
        with pytest.raises(ValueError, match="must not be negative"):
            loop.set_slow_callback_hook(print, wrong)
    with pytest.raises(TypeError):
        loop.set_slow_callback_hook()
    loop.set_slow_callback_hook(print, float("inf"))
    loop.set_slow_callback_hook(None, 1)


def test_a_hook_does_not_keep_the_loop(cloop):
    import weakref

    loop = cloop.Loop()
    loop.set_slow_callback_hook(functools.partial(print, loop), 1)
    gone = weakref.ref(loop)
    loop.close()
    del loop
    gc.collect()
    assert gone() is None
