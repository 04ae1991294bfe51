"""Which turns poll: a program that gives the loop a few turns notices what has happened, in asyncio's order."""

import asyncio
import contextlib
import ctypes
import os
import signal
import socket

import pytest

FEW = 4  # asyncio notices in the second turn, and tells a new protocol in the fourth
BEFORE = 9  # turns that a program may have used since it was last idle


class Notes(asyncio.Protocol, asyncio.DatagramProtocol):
    """Notes its events in a list."""

    def __init__(self, notes, name=""):
        self.notes, self.name = notes, name

    def note(self, what):
        self.notes.append(self.name + what)

    def connection_made(self, transport):
        self.note("made")

    def data_received(self, data):
        self.note(data.decode())

    def datagram_received(self, data, address):
        self.note(data.decode())

    def eof_received(self):
        self.note("eof")

    def connection_lost(self, exc):
        self.note("lost")


@pytest.fixture
def owned():
    """owned(thing) closes it after the test."""
    things = []
    yield lambda thing: things.append(thing) or thing
    for thing in things:
        thing.close()


def pair(owned, *kind):
    ours, theirs = socket.socketpair(*kind)
    for sock in (ours, theirs):
        owned(sock).setblocking(False)
    return ours, theirs


# Each watches something, and returns a function that triggers it.


async def stream(loop, notes, owned):
    ours, theirs = pair(owned)
    owned((await loop.create_connection(lambda: Notes(notes), sock=ours))[0])
    return lambda: theirs.send(b"data")


async def end_of_stream(loop, notes, owned):
    ours, theirs = pair(owned)
    owned((await loop.create_connection(lambda: Notes(notes), sock=ours))[0])
    return theirs.close


async def resumed(loop, notes, owned):
    ours, theirs = pair(owned)
    transport = owned((await loop.create_connection(lambda: Notes(notes), sock=ours))[0])
    transport.pause_reading()
    await asyncio.sleep(0.001)
    theirs.send(b"data")
    return transport.resume_reading


async def room_to_write(loop, notes, owned):
    ours, theirs = pair(owned)
    transport = owned((await loop.create_connection(lambda: Notes(notes), sock=ours))[0])
    transport._protocol.resume_writing = lambda: notes.append("resumed")
    transport._protocol.pause_writing = lambda: None
    transport.set_write_buffer_limits(0)
    size = unchanged = 0
    while unchanged < FEW:  # a stress build sends only part of what the kernel takes
        if size == 0:
            transport.write(bytes(1 << 16))
        await asyncio.sleep(0)
        unchanged = unchanged + 1 if 0 < size == transport.get_write_buffer_size() else 0
        size = transport.get_write_buffer_size()
    transport.set_write_buffer_limits(size, size - 1)  # sending one byte is enough

    def drain():
        try:
            while theirs.recv(1 << 20):
                pass
        except BlockingIOError:
            pass

    return drain


async def datagram(loop, notes, owned):
    ours, theirs = pair(owned, socket.AF_UNIX, socket.SOCK_DGRAM)
    owned((await loop.create_datagram_endpoint(lambda: Notes(notes), sock=ours))[0])
    return lambda: theirs.send(b"data")


async def pipe(loop, notes, owned):
    read_end, write_end = os.pipe()
    writer = owned(os.fdopen(write_end, "wb", 0))
    owned((await loop.connect_read_pipe(lambda: Notes(notes), os.fdopen(read_end, "rb", 0)))[0])
    return lambda: writer.write(b"data")


async def reader_gone(loop, notes, owned):
    read_end, write_end = os.pipe()
    owned((await loop.connect_write_pipe(lambda: Notes(notes), os.fdopen(write_end, "wb", 0)))[0])
    return lambda: os.close(read_end)


async def accepted(loop, notes, owned):
    listener = socket.create_server(("127.0.0.1", 0))
    owned(await loop.create_server(lambda: Notes(notes), sock=listener))
    address = listener.getsockname()
    return lambda: owned(socket.create_connection(address))


async def reader(loop, notes, owned):
    ours, theirs = pair(owned)
    loop.add_reader(ours, lambda: notes.append(ours.recv(10)))
    owned(Removed(loop.remove_reader, ours))
    return lambda: theirs.send(b"data")


async def sock_recv(loop, notes, owned):
    ours, theirs = pair(owned)
    for n in range(2):  # the second poll finds the descriptor watched
        task = loop.create_task(loop.sock_recv(ours, 10))
        await asyncio.sleep(0)
        if n == 0:
            theirs.send(b"first")
            await task
    task.add_done_callback(notes.append)
    return lambda: theirs.send(b"data")


async def signalled(loop, notes, owned):
    loop.add_signal_handler(signal.SIGUSR1, notes.append, "signal")
    owned(Removed(loop.remove_signal_handler, signal.SIGUSR1))
    return lambda: os.kill(os.getpid(), signal.SIGUSR1)


class Removed:
    """remove(what) by the name of close()."""

    def __init__(self, remove, what):
        self.close = lambda: remove(what)


SOURCES = [
    stream,
    end_of_stream,
    resumed,
    room_to_write,
    datagram,
    pipe,
    reader_gone,
    accepted,
    reader,
    sock_recv,
    signalled,
]


async def turns_until(condition):
    turns = 0
    while not condition():
        assert turns < 100000, "waited in vain"
        await asyncio.sleep(0)
        turns += 1
    return turns


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.__name__)
@pytest.mark.parametrize("idle", [False, True], ids=["registered", "idle"])
def test_event_is_noticed_within_a_few_iterations(loop, run, owned, source, idle):
    async def main():
        notes = []
        happen = await source(loop, notes, owned)
        if idle:
            await asyncio.sleep(0.001)
        for _ in range(BEFORE):
            await asyncio.sleep(0)
        notes.clear()
        happen()
        assert await turns_until(lambda: notes) <= FEW

    run(main())


def test_second_event_is_noticed_within_a_few_iterations(loop, run, owned):
    async def main():
        notes = []
        happen = await stream(loop, notes, owned)
        for _ in range(40):  # more turns than the first ones of a chain, which poll
            for _ in range(BEFORE):
                await asyncio.sleep(0)
            notes.clear()
            happen()
            assert await turns_until(lambda: notes) <= FEW

    run(main())


def test_each_run_begins_with_turns_that_poll(loop, run, owned):
    notes = []
    happen = run(stream(loop, notes, owned))

    async def main(count):
        for _ in range(count):
            await asyncio.sleep(0)

    run(main(1000))
    notes.clear()
    happen()
    run(main(FEW))
    assert notes == ["data"]


def test_pending_data_is_received_soon_after_create_connection_returns(loop, run, owned):
    async def main():
        notes = []
        (first, one), (second, two) = pair(owned), pair(owned)
        one.send(b"data")
        two.send(b"data")
        transport, _ = await loop.create_connection(lambda: Notes(notes, "1 "), sock=first)
        notes.append("1 returned")
        await asyncio.sleep(0.001)
        other, _ = await loop.create_connection(lambda: Notes(notes, "2 "), sock=second)
        notes.append("2 returned")
        transport.close()
        two.close()
        await turns_until(lambda: "2 lost" in notes)
        return notes

    assert run(main()) == "1 made,1 returned,1 data,2 made,2 returned,2 data,1 lost,2 eof,2 lost".split(",")


@pytest.fixture
def polls_in_turns(cloop, owned):
    """polls_in_turns(count, watched) returns how many of `count` turns in a chain polled."""

    def polls_in_turns(count, watched):
        loop = owned(cloop.new_event_loop())
        if watched:
            loop.add_reader(pair(owned)[0], print)

        def chain(left):
            if left:
                loop.call_soon(chain, left - 1)
            else:
                loop.stop()

        loop.call_later(0.001, chain, count)
        loop.run_forever()
        return loop.metrics().polls

    return polls_in_turns


def test_a_long_chain_skips_polls(polls_in_turns):
    assert polls_in_turns(1000, watched=True) < 900  # a fifth of that would be a slow machine


def test_polls_are_skipped_while_no_descriptor_is_watched(polls_in_turns):
    assert polls_in_turns(9, watched=False) < 9
    assert polls_in_turns(9, watched=True) > 9


@pytest.mark.parametrize("watched", [False, True])
def test_errno_is_not_left_to_the_next_turn(as_asyncio, owned, watched):
    """asyncio's poll sets it to 0. The ssl module of Python 3.13 takes what it finds there for the error of a MemoryBIO."""
    try:
        errno = ctypes.CDLL(None).__errno_location
    except AttributeError:
        pytest.skip("errno is elsewhere")
    errno.restype = ctypes.POINTER(ctypes.c_int)

    def body(loop):
        ours, theirs = pair(owned)
        theirs.close()
        seen = []

        def fail(turns):
            with contextlib.suppress(BrokenPipeError):
                ours.send(b"x")
            seen.append(errno().contents.value)
            loop.call_soon(see, turns)

        def see(turns):
            seen.append(errno().contents.value)
            if turns:
                loop.call_soon(fail, turns - 1)
            else:
                loop.stop()

        if watched:
            loop.add_reader(pair(owned)[0], print)
        loop.call_soon(fail, 20)
        loop.run_forever()
        return seen

    assert as_asyncio(body)["result"][1::2] == [0] * 21
