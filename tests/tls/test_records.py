"""TLS is a byte stream: where it is cut, and when the pieces come, makes no difference.

Between the two ends, both of the loop, a proxy forwards the bytes in pieces that the test chooses. It sends the next
piece when the last one has been read, so that each is received separately.
"""

import asyncio
import contextlib
import fcntl
import itertools
import random
import socket
import termios

import pytest

pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

PATIENCE_S = 20
HEADER = 5  # bytes of a record
SIZES = [0, 1, 2, 100, 1000, 16383, 16384, 16385, 40000]  # a record holds 16384


# The ends


class End:
    """One end of a connection; `complete` is set once all expected data has come."""

    def __init__(self, rng, expected):
        self.rng, self.expected = rng, expected
        self.got = bytearray()
        loop = asyncio.get_running_loop()
        self.complete, self.lost = loop.create_future(), loop.create_future()
        self.take(b"")

    def connection_made(self, transport):
        self.transport = transport

    def take(self, data):
        self.got += data
        if len(self.got) >= self.expected and not self.complete.done():
            self.complete.set_result(None)

    def connection_lost(self, exc):
        self.lost.set_result(exc)


class Plain(End, asyncio.Protocol):
    def data_received(self, data):
        self.take(data)


class Buffered(End, asyncio.BufferedProtocol):
    def get_buffer(self, sizehint):
        self.buffer = bytearray(self.rng.choice([1, 100, 65536]))
        if type(self.transport).__module__.startswith("asyncio."):
            return memoryview(self.buffer)  # it reads into slices, and a slice of a bytearray is a copy
        return self.buffer

    def buffer_updated(self, count):
        self.take(self.buffer[:count])


class Streams(asyncio.StreamReaderProtocol):
    """Passes what it reads from a StreamReader to an End."""

    def __init__(self, rng, expected):
        self.end = End(rng, expected)
        self.reader = asyncio.StreamReader(limit=1000)  # which pauses and resumes
        super().__init__(self.reader)

    def connection_made(self, transport):
        super().connection_made(transport)
        self.end.connection_made(transport)
        self.task = asyncio.ensure_future(self.read())

    async def read(self):
        while True:
            data = await self.reader.read(self.end.rng.choice([1, 100, 65536]))
            if not data:
                break
            self.end.take(data)

    def connection_lost(self, exc):
        super().connection_lost(exc)
        self.end.connection_lost(exc)


KINDS = {"protocol": Plain, "buffered": Buffered, "streams": Streams}


# The proxy


class Way:
    """Data on its way from one socket to another."""

    def __init__(self, source, target, cut):
        self.source, self.target, self.cut = source, target, cut
        self.pending = bytearray()
        self.ending = self.ended = False

    def receive(self):
        with contextlib.suppress(BlockingIOError):
            while not self.ending:
                try:
                    data = self.source.recv(65536)
                except ConnectionResetError:
                    data = b""
                self.pending += data
                self.ending = not data

    def was_read(self):
        """Whether the last piece was read; Unix sockets count unread bytes."""
        return not int.from_bytes(fcntl.ioctl(self.target, termios.TIOCOUTQ, bytes(4)), "little")

    def step(self):
        self.receive()
        if not self.was_read():
            return
        if self.pending:
            size = self.cut(self.pending)  # 0: not yet
            try:
                assert self.target.send(self.pending[:size]) == size
            except (BrokenPipeError, ConnectionResetError):
                size = len(self.pending)
            del self.pending[:size]
        elif self.ending:
            with contextlib.suppress(OSError):
                self.target.shutdown(socket.SHUT_WR)
            self.ended = True


async def forward(loop, ways):
    """Lets each direction take a step at each poll, since there is always something to read."""
    done = loop.create_future()

    def step():
        try:
            for way in ways:
                if not way.ended:
                    way.step()
            if all(way.ended for way in ways) and not done.done():
                done.set_result(None)
        except Exception as error:
            loop.remove_reader(bell)
            done.set_exception(error)

    bell, other = socket.socketpair()
    with bell, other:
        other.send(b"!")
        loop.add_reader(bell, step)
        try:
            await done
        finally:
            loop.remove_reader(bell)


def single_bytes(rng):
    return lambda pending: 1


def random_pieces(rng):
    def cut(pending):
        size = rng.choice([0, 1, 2, 4, HEADER, HEADER + 1, rng.randrange(100), rng.randrange(20000)])
        return min(size, len(pending))

    return cut


def long_waits(rng):
    """Data that came in several turns is sent as one piece."""
    return lambda pending: 0 if rng.randrange(40) else min(len(pending), 60000)


def at_records(after_header):
    """Cuts before and after each header, or only after it."""

    def style(rng):
        left = -1  # bytes left of the current record; negative: a header is next

        def cut(pending):
            nonlocal left
            if left < 0:
                if len(pending) < HEADER:
                    return 0
                left = int.from_bytes(pending[3:HEADER], "big")
                return HEADER
            if len(pending) < left:
                return 0
            size, left = left, -1
            if after_header and len(pending) >= size + HEADER:
                left = int.from_bytes(pending[size + 3 : size + HEADER], "big")
                size += HEADER
            return size

        return cut

    return style


STYLES = {
    "single bytes": single_bytes,
    "random pieces": random_pieces,
    "long waits": long_waits,
    "header, body": at_records(False),
    "body and next header": at_records(True),
}


# The conversation


def random_messages(rng, sizes):
    return [rng.getrandbits(8 * size).to_bytes(size, "big") if size else b"" for size in sizes]


async def say(rng, transport, messages):
    for message in messages:
        transport.write(message)
        for _ in range(rng.choice([0, 1, 5])):
            await asyncio.sleep(0)


async def converse(loop, contexts, rng, kinds, cuts, messages):
    """A client and a server send their messages while they receive the other's, and close."""
    with contextlib.ExitStack() as stack:
        ours = [socket.socketpair() for _ in range(2)]
        for sock in itertools.chain(*ours):
            stack.enter_context(sock).setblocking(False)
        (first, second), (third, fourth) = ours
        expected = [b"".join(part) for part in messages]
        protocols = [KINDS[kinds[0]](rng, len(expected[1])), KINDS[kinds[1]](rng, len(expected[0]))]
        ends = [getattr(protocol, "end", protocol) for protocol in protocols]
        forwarding = loop.create_task(forward(loop, [Way(second, third, cuts[0]), Way(third, second, cuts[1])]))
        serving = loop.create_task(loop.connect_accepted_socket(lambda: protocols[1], fourth, ssl=contexts[0]))
        client, _ = await loop.create_connection(
            lambda: protocols[0], sock=first, ssl=contexts[1], server_hostname="localhost"
        )
        server, _ = await serving
        await asyncio.gather(say(rng, client, messages[0]), say(rng, server, messages[1]))
        for end, other in zip(ends, reversed(expected)):
            await end.complete
            assert end.got == other
        client.close()
        assert [await end.lost for end in ends] == [None, None]
        assert [end.got for end in ends] == expected[::-1]
        await forwarding
        for protocol in protocols:
            if isinstance(protocol, Streams):
                await protocol.task


@pytest.fixture
def play(loop, server_context, client_context):
    def play(*args):
        contexts = server_context, client_context
        loop.run_until_complete(asyncio.wait_for(converse(loop, contexts, *args), PATIENCE_S))

    return play


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("style", sorted(STYLES))
def test_cuts_of_a_style(play, style, kind):
    rng = random.Random(style + kind)
    small = style == "single bytes"
    for _ in range(2 if small else 4):
        sizes = [[rng.choice(SIZES[:4] if small else SIZES) for _ in range(6)] for _ in range(2)]
        kinds = [kind, rng.choice(sorted(KINDS))]
        rng.shuffle(kinds)
        cuts = [STYLES[style](rng), STYLES[style](rng)]
        play(rng, kinds, cuts, [random_messages(rng, part) for part in sizes])


def in_turn(sizes):
    """Cuts of these sizes, repeated; not 0 for ever."""
    sizes = itertools.cycle(sizes + [10000])
    return lambda pending: min(next(sizes), len(pending))


PIECES = st.lists(st.integers(0, 40) | st.integers(0, 2000), max_size=20)
MESSAGES = st.lists(st.binary(max_size=50), max_size=5)


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_cuts(play, data):
    draw = data.draw
    kinds = draw(st.lists(st.sampled_from(sorted(KINDS)), min_size=2, max_size=2))
    cuts = [in_turn(draw(PIECES)), in_turn(draw(PIECES))]
    rng = random.Random(draw(st.integers(0, 100)))
    play(rng, kinds, cuts, [draw(MESSAGES), draw(MESSAGES)])
