"""A busy connection does not block the others: each turn does a bounded amount of work.

Counted in turns, not by the clock; benchmarks/fairness.py measures how late a ticker is.
"""

import asyncio
import contextlib

import pytest

PER_TURN = 256 * 1024  # bytes of one connection


@pytest.fixture
def per_turn(loop, run):
    """Runs this many turns; returns by how much the result of `count` grew in each."""

    def per_turn(count, turns=50):
        marks = []

        async def main():
            for _ in range(turns):
                marks.append(count())
                await asyncio.sleep(0)

        run(main())
        return [after - before for before, after in zip(marks, marks[1:])]

    return per_turn


def refill(peer):
    """Writes until the socket takes no more."""
    with contextlib.suppress(BlockingIOError):
        while True:
            peer.send(bytes(65536))


@pytest.mark.parametrize("buffered", [False, True])
def test_bytes_of_a_firehose(connect, recorder, buffered_recorder, per_turn, until, kind, buffered):
    """There is more data each time its protocol is called, so reading until EAGAIN would never end."""
    received = [0]

    def more(self, what):
        received[0] += what if buffered else len(what)
        refill(peer)

    protocol = buffered_recorder(16384, buffer_updated=more) if buffered else recorder(data_received=more)
    transport, peer = connect(protocol, kind)
    refill(peer)
    until(lambda: received[0])
    grown = per_turn(lambda: received[0])
    assert 0 < max(grown) <= PER_TURN
    transport.abort()


def test_two_firehoses_take_turns(connect, recorder, per_turn, until, kind):
    made = []
    for _ in range(2):
        made.append([recorder(), None, None])

    def hose(index):
        def more(self, data):
            refill(made[index][2])

        return more

    for index, entry in enumerate(made):
        entry[0].hooks["data_received"] = hose(index)
        entry[1], entry[2] = connect(entry[0], kind)
        refill(entry[2])
    sizes = lambda: [sum(map(len, entry[0].chunks)) for entry in made]  # noqa: E731
    until(lambda: all(size > 20 * PER_TURN for size in sizes()))
    first, second = sizes()
    assert 0.2 < first / second < 5


def test_datagrams_of_a_firehose(run, loop, datagram_recorder, abandoned, per_turn):
    """Each sends another to itself."""
    protocol = datagram_recorder(datagram_received=lambda self, data, addr: self.transport.sendto(data, addr))
    transport, _ = run(loop.create_datagram_endpoint(lambda: protocol, ("127.0.0.1", 0)))
    abandoned.add(transport)
    for _ in range(10):
        transport.sendto(bytes(1000), transport.get_extra_info("sockname"))
    grown = per_turn(lambda: len(protocol.received), 200)
    assert 0 < max(grown) <= PER_TURN // 1000


def test_accepting_many(serving, call, per_turn, native, until, run, loop):
    """Pending connections are accepted in more than one turn."""
    server = serving.tcp(backlog=400)
    call(server)
    until(lambda: serving.accepted and serving.accepted[0].transport)
    native(serving.accepted[0].transport)  # asyncio accepts as many as the backlog allows
    for _ in range(300):
        call(server)
    grown = per_turn(lambda: len(serving.accepted))
    until(lambda: len(serving.accepted) == 301)
    assert max(grown) < 300


def test_timers_run_beside_a_firehose(loop, run, connect, recorder, kind):
    transport, peer = connect(recorder(data_received=lambda self, data: refill(peer)), kind)
    refill(peer)

    async def main():
        for _ in range(10):
            await asyncio.sleep(0.0001)

    run(asyncio.wait_for(main(), 20))


def test_writing_side_of_a_firehose(loop, run, connect, recorder, per_turn):
    """A reader that takes everything at once does not keep the loop from its turns."""

    def more(self):
        self.transport.write(bytes(1 << 20))

    transport, peer = connect(recorder(resume_writing=more))
    taken = [0]

    def take():
        with contextlib.suppress(BlockingIOError):
            while True:
                taken[0] += len(peer.recv(1 << 18))

    loop.add_reader(peer, take)
    transport.write(bytes(1 << 20))
    assert sum(per_turn(lambda: taken[0], 200)) > 0
    loop.remove_reader(peer)


def test_sock_recv_beside_a_firehose(loop, run, connect, recorder, socket_pair, kind):
    transport, hose = connect(recorder(data_received=lambda self, data: refill(hose)), kind)
    refill(hose)
    ours, peer = socket_pair(kind)

    async def main():
        for number in range(20):
            await loop.sock_sendall(peer, b"%d" % number)
            assert await loop.sock_recv(ours, 100) == b"%d" % number

    run(asyncio.wait_for(main(), 20))
