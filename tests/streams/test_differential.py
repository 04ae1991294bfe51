"""Random chunks and random reads: asyncio's streams do the same on cloop as on asyncio's own loop.

A program is a list of steps. Each step feeds the reader (through a transport, or directly), starts a read, cancels
it, or advances the program's own clock. Then the loop runs until nothing happens any more, and the visible state of
the reader is noted. Everything sent through the transport has arrived by then, so the notes depend only on the
program.

CLOOP_STREAMS_EXAMPLES=100000 runs that many programs, different ones each time.
"""

import asyncio
import os
import re
import socket

import pytest

pytest.importorskip("hypothesis")
from hypothesis import strategies as st  # noqa: E402

EXAMPLES = int(os.environ.get("CLOOP_STREAMS_EXAMPLES", 0))
POLLS = 4  # a read may resume the transport; the data wakes a task, which reads again and pauses


def described(error, depth=4):
    """Everything visible of an exception."""
    if error is None or depth == 0:
        return None
    fields = [(name, getattr(error, name)) for name in ("partial", "expected", "consumed") if hasattr(error, name)]
    text = re.sub(r"\b0x[0-9a-f]+", "0x", str(error))
    chain = [described(other, depth - 1) for other in (error.__cause__, error.__context__)]
    return type(error).__name__, text, fields, error.__suppress_context__, chain


class Counting:
    """The reader's transport; notes what the reader calls."""

    def __init__(self, transport, notes):
        self.transport, self.notes = transport, notes

    def pause_reading(self):
        self.notes.append("pause")
        self.transport.pause_reading()

    def resume_reading(self):
        self.notes.append("resume")
        self.transport.resume_reading()


EXCEPTIONS = [
    lambda: ValueError("of the program"),
    lambda: KeyError,
    lambda: ConnectionResetError(104, "reset"),
    lambda: asyncio.IncompleteReadError(b"partial", 9),
    lambda: asyncio.LimitOverrunError("too long", 1),
    lambda: asyncio.CancelledError("by hand"),
    lambda: StopAsyncIteration("of the program"),
]


class Run:
    def __init__(self, loop, program):
        self.loop, self.program, self.notes, self.tasks = loop, program, [], []
        self.clock = self.polled = 0
        loop.time = lambda: self.clock
        loop.set_exception_handler(self.report)
        self.adapt(program["flavour"])

    def adapt(self, flavour):
        loop = self.loop
        if flavour == "stock tasks":
            loop.set_task_factory(lambda loop, coro, **options: asyncio.Task(coro, loop=loop, **options))
        elif flavour == "eager tasks" and hasattr(asyncio, "eager_task_factory"):
            loop.set_task_factory(asyncio.eager_task_factory)
        elif flavour == "create_future":
            loop.create_future = lambda: asyncio.Future(loop=loop)
        elif flavour == "call_soon":
            call_soon = loop.call_soon
            loop.call_soon = lambda callback, *args, **options: call_soon(callback, *args, **options)
        elif flavour == "debug":
            loop.set_debug(True)
            loop.slow_callback_duration = 100

    def report(self, loop, context):
        self.notes.append(("reported", context["message"], described(context.get("exception"))))

    # The loop

    def turn(self):
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()

    def poll(self):
        """Runs the loop until it has polled, and what that made ready has run."""
        before = self.polled
        self.marker[1].send(b"!")
        for _ in range(100000):
            if self.polled != before:
                return
            self.turn()
        raise AssertionError("waited in vain")

    def heard(self):
        self.marker[0].recv(1)
        self.polled += 1

    def settle(self):
        for _ in range(POLLS):
            self.poll()
            self.turn()

    # Reading

    async def read(self, name, *args):
        if name == "lines":
            lines = []
            async for line in self.reader:
                lines.append(line)
                if len(lines) == args[0]:
                    break
            return lines
        data = await getattr(self.reader, name)(*args)
        assert type(data) is bytes
        return data

    async def reads(self, number, reads, timeout):
        for read in reads:
            self.notes.append((number, "reads") + read)
            try:
                reading = self.read(*read)
                result = await (reading if timeout is None else asyncio.wait_for(reading, timeout))
            except (KeyboardInterrupt, SystemExit, GeneratorExit):
                raise
            except BaseException as error:
                self.notes.append((number, described(error)))
                if isinstance(error, asyncio.CancelledError) and timeout is None:
                    raise
            else:
                self.notes.append((number, result))

    # Steps

    def do(self, name, *args):
        self.notes.append(("step", name))
        try:
            getattr(self, "do_" + name)(*args)
        except Exception as error:
            self.notes.append(("raised", described(error)))

    def do_burst(self, steps):
        """All of these in one turn; or one per turn, if that is 0."""
        for step in steps:
            if step == 0:
                self.turn()
            else:
                self.do(*step)

    def do_send(self, data):
        try:
            self.peer.send(data)
        except OSError as error:
            self.notes.append(type(error).__name__)

    def do_feed(self, data):
        self.reader.feed_data(data)

    def do_eof(self):
        self.reader.feed_eof()

    def do_shutdown(self):
        self.peer.shutdown(socket.SHUT_WR)

    def do_set_exception(self, number):
        self.reader.set_exception(EXCEPTIONS[number]())

    def do_start(self, reads, timeout=None):
        self.tasks.append(self.loop.create_task(self.reads(len(self.tasks), reads, timeout)))

    def do_cancel(self, number):
        if self.tasks:
            self.tasks[number % len(self.tasks)].cancel()

    def do_cancel_waiter(self):
        if self.reader._waiter is not None:
            self.reader._waiter.cancel()

    def do_tick(self):
        self.clock += 1

    def do_limit(self, limit):
        self.reader._limit = limit

    def do_drop(self, count):
        del self.reader._buffer[:count]

    def do_pin(self):
        """A bytearray cannot be resized while a memoryview exists. (What taking nothing does then differs between
        versions of asyncio.)
        """
        if self.view is None and self.reader._buffer:
            self.view = memoryview(self.reader._buffer)
        elif self.view is not None:
            self.view.release()
            self.view = None

    def seen(self):
        reader = self.reader
        return (
            bytes(reader._buffer),
            (reader._paused, reader._eof, reader.at_eof(), reader._waiter is None, reader._limit),
            described(reader.exception()) if isinstance(reader.exception(), BaseException) else reader.exception(),
            self.transport.is_reading(),
            self.transport.is_closing(),
        )

    def run(self):
        ours, self.peer = socket.socketpair()
        self.marker = socket.socketpair()
        self.view = None
        for sock in (ours, self.peer) + self.marker:
            sock.setblocking(False)
        self.loop.add_reader(self.marker[0], self.heard)
        connecting = asyncio.ensure_future(
            asyncio.open_connection(sock=ours, limit=self.program["limit"]), loop=self.loop
        )
        while not connecting.done():
            self.turn()
        self.reader, writer = connecting.result()
        self.transport = writer.transport
        self.reader._transport = Counting(self.transport, self.notes)
        for step in self.program["steps"]:
            self.do(*step)
            self.settle()
            self.notes.append(self.seen())
        self.finish(writer)
        return self.notes

    def finish(self, writer):
        for task in self.tasks:
            task.cancel()
        self.settle()
        self.notes.append(self.seen())
        self.notes.append([task.done() for task in self.tasks])
        writer.close()
        self.settle()
        self.loop.remove_reader(self.marker[0])
        for sock in (self.peer,) + self.marker:
            sock.close()


# Programs

LETTERS = st.sampled_from(b"aaab\r\n")
CHUNKS = st.lists(LETTERS, max_size=40).map(bytes)
LONG = st.builds(lambda chunk, times: chunk * times, CHUNKS, st.sampled_from([3, 10]))
SEPARATORS = [b"\n", b"\r\n", b"ab", b"aab", b"aaaab", b"a" * 20, b"", bytearray(b"\n"), "text", ()]
SEPARATORS += [(b"\r\n", b"\n"), (b"ab", b"b", b"aaaa"), (b"\n", b"")]  # several: from 3.13 on
SIZES = [0, 1, 2, 3, 4, 5, 17, 100, 400, -1, -5, 2**70, True, "text", None]

READ = st.one_of(
    st.tuples(st.just("read"), st.sampled_from(SIZES)),
    st.tuples(st.just("read")),
    st.tuples(st.just("readexactly"), st.sampled_from(SIZES)),
    st.tuples(st.just("readline")),
    st.tuples(st.just("readuntil"), st.sampled_from(SEPARATORS)),
    st.tuples(st.just("readuntil")),
    st.tuples(st.just("lines"), st.integers(1, 5)),
)
READS = st.lists(READ, min_size=1, max_size=3)
SEND = st.one_of(st.tuples(st.just("send"), LONG), st.tuples(st.just("send"), CHUNKS))
FEED = st.one_of(st.tuples(st.just("feed"), CHUNKS), st.tuples(st.just("feed"), CHUNKS.map(bytearray)))
START = st.one_of(
    st.tuples(st.just("start"), READS),
    st.tuples(st.just("start"), READS),
    st.tuples(st.just("start"), READS, st.just(0.5)),
)
CANCEL = st.tuples(st.just("cancel"), st.integers(0, 5))
SELDOM = st.one_of(
    CANCEL,
    st.tuples(st.just("cancel_waiter")),
    st.tuples(st.just("tick")),
    st.tuples(st.just("eof")),
    st.tuples(st.just("set_exception"), st.integers(0, len(EXCEPTIONS) - 1)),
    st.tuples(st.just("limit"), st.integers(0, 60)),
    st.tuples(st.just("drop"), st.integers(0, 60)),
    st.tuples(st.just("pin")),
)
# Nothing comes through the transport in between: the loop would decide when.
BURST = st.tuples(st.just("burst"), st.lists(st.one_of(FEED, START, CANCEL, SELDOM, st.just(0)), max_size=6))
STEP = st.one_of(SEND, START, SEND, START, FEED, SELDOM, BURST, st.tuples(st.just("shutdown")))
PROGRAMS = st.fixed_dictionaries(
    {
        "flavour": st.sampled_from(["", "", "", "stock tasks", "eager tasks", "create_future", "call_soon", "debug"]),
        "limit": st.sampled_from([1, 2, 3, 5, 10, 20, 50, 1000]),
        "steps": st.lists(STEP, min_size=4, max_size=16),
    }
)


def notes_of(loop, program):
    try:
        return Run(loop, program).run()
    finally:
        loop.close()


def test_streams_do_on_cloop_what_they_do_on_asyncio(cloop, same_for_programs):
    same_for_programs(
        PROGRAMS,
        EXAMPLES or 500,
        lambda program: notes_of(asyncio.SelectorEventLoop(), program),
        lambda program: notes_of(cloop.Loop(), program),
        derandomize=not EXAMPLES,
    )


def test_programs_use_the_streams_of_cloop(cloop):
    """The comparison above must not be asyncio with itself."""
    if os.environ.get("CLOOP_STREAMS") == "stock":
        pytest.skip("they are switched off")
    loop = cloop.Loop()
    run = Run(loop, {"flavour": "", "limit": 5, "steps": [("send", b"abc\nd"), ("start", [("readline",)])]})
    try:
        assert (0, b"abc\n") in run.run()
        assert type(run.reader) is not asyncio.StreamReader and isinstance(run.reader, asyncio.StreamReader)
        line = run.reader.readline()
        assert type(line).__name__ == "StreamOp"
        line.close()
    finally:
        loop.close()
