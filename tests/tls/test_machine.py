"""Random programs of two ends that talk over TLS, begun at once or by start_tls(), do the same on cloop as on asyncio.

Both ends are the loop's. A program is a list of steps of either: writes, pauses, closes, start_tls(). After each the loop runs
until nothing happens any more, and what each end was told is noted, with data that came in pieces joined. In other programs a
peer sends what is not TLS, or a handshake with bytes changed, cut and repeated.

`make fuzz` runs these for as long as it is told.
"""

import asyncio
import importlib.util
import logging
import os
import re
import socket
import ssl
import sys

import pytest

pytest.importorskip("hypothesis")
from hypothesis import strategies as st  # noqa: E402

PATH = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "net", "test_machine.py")
SPEC = importlib.util.spec_from_file_location("machine_of_transports", PATH)
machine = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(machine)

pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio's TLS was another one")
SIDES = st.integers(0, 1)


def described(error):
    if getattr(error, "reason", None) == "APPLICATION_DATA_AFTER_CLOSE_NOTIFY":
        return None  # asyncio reports what the peer sent before it knew
    found = machine.described(error)
    return found and tuple(re.sub(r"\(_ssl\.c:\d+\)", "", each) if isinstance(each, str) else each for each in found)


class Recorder(asyncio.Protocol):
    def __init__(self, run, side):
        self.run, self.side, self.transport, self.ended = run, side, None, False
        self.reactions = dict(run.program["reactions"][side])

    def note(self, event, *args):
        self.run.stories[self.side].append((event, self.side) + args)
        for step in self.reactions.pop(event, ()):
            if self.run.depth < 5:
                self.run.perform(step[0], self.side, *step[1:])

    def connection_made(self, transport):
        self.transport = transport
        self.note("made")

    def data_received(self, data):
        self.note("data", bytes(data))

    def eof_received(self):
        self.note("eof")

    def pause_writing(self):
        self.note("pause")

    def resume_writing(self):
        self.note("resume")

    def connection_lost(self, error):
        # If there is something left to read, asyncio sends no close_notify, so that the peer's answer cannot fail.
        self.note("lost", None if isinstance(error, BrokenPipeError) else described(error))


class Buffered(Recorder, asyncio.BufferedProtocol):
    data_received = None

    def get_buffer(self, hint):
        self.buffer = bytearray(self.run.program["buffer"])
        return memoryview(self.buffer)

    def buffer_updated(self, count):
        self.note("data", bytes(self.buffer[:count]))


del Buffered.data_received
KINDS = {"protocol": Recorder, "buffered": Buffered}


class OnTLS(machine.Base):
    polls = 8
    contexts = None  # of the server, of the client

    def begin(self):
        self.stories = [[], []]
        pair = socket.socketpair()
        for sock in pair:
            sock.setblocking(False)
        self.ends = [KINDS[kind](self, side) for side, kind in enumerate(self.program["protocols"])]
        self.tasks = []
        tls = self.program["at once"]
        for side, sock in enumerate(pair):
            options = {"ssl": self.contexts[side]} if tls else {}
            if side:
                making = self.loop.connect_accepted_socket(lambda: self.ends[1], sock, **options)
            else:
                options.update({"server_hostname": "localhost"} if tls else {})
                making = self.loop.create_connection(lambda: self.ends[0], sock=sock, **options)
            self.tasks.append(self.loop.create_task(making))
        self.settle()

    # Steps

    def do_write(self, side, size):
        return self.ends[side].transport.write(machine.NOISE[:size])

    def do_writelines(self, side, sizes):
        return machine.write_to(self.ends[side].transport, "writelines", [machine.NOISE[:size] for size in sizes])

    def do_call(self, side, name):
        transport = self.ends[side].transport
        if name == "close" and (transport.is_closing() or not transport.is_reading()):
            return None  # asyncio fails later, or at once if there is something to read
        if name == "write_eof":
            self.ends[side].ended = True  # it has sent its end
        result = getattr(transport, name)()
        return bool(result) if name == "get_write_buffer_size" else result

    def do_start_tls(self, side):
        self.tasks.append(self.loop.create_task(self.start_tls(side)))

    def happened(self):
        return len(self.notes) + sum(map(len, self.stories)) + sum(task.done() for task in self.tasks)

    async def start_tls(self, side):
        end = self.ends[side]
        transport = end.transport
        if (
            transport is None
            or end.ended
            or transport.is_closing()
            or transport.get_extra_info("sslcontext") is not None
        ):
            return None  # asyncio fails, or waits for ever
        name = {} if side else {"server_hostname": "localhost"}
        transport = await self.loop.start_tls(end.transport, end, self.contexts[side], server_side=bool(side), **name)
        end.transport = transport
        return "upgraded" if transport is not None else None

    def do_both(self):
        self.do_start_tls(1)
        self.do_start_tls(0)

    def do_cancel(self, number):
        return self.tasks[number % len(self.tasks)].cancel()

    def seen(self):
        found = []
        for side, end in enumerate(self.ends):
            transport = end.transport
            found.append(machine.joined(self.stories[side]))
            found.append(transport and transport.is_closing())
        for task in self.tasks:
            if task.done():
                found.append("cancelled" if task.cancelled() else described(task.exception()) or "done")
            else:
                found.append("waits")
        return found

    def end(self):
        for end in self.ends:
            if end.transport is not None:
                end.transport.abort()
        for task in self.tasks:
            task.cancel()


class OnBytes(machine.Base):
    """One end is the loop's. The other sends bytes, which may begin like a handshake."""

    polls = 4
    contexts = None

    def begin(self):
        self.stories = [[], []]
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self.peer = self.keep(theirs)
        side = self.side = self.program["side"]
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        name = {"server_hostname": "localhost"} if side else {}
        self.tls = self.contexts[not side].wrap_bio(self.incoming, self.outgoing, server_side=not side, **name)
        self.protocol = KINDS[self.program["protocol"]](self, side)
        if side:
            making = self.loop.connect_accepted_socket(lambda: self.protocol, ours, ssl=self.contexts[1])
        else:
            making = self.loop.create_connection(
                lambda: self.protocol, sock=ours, ssl=self.contexts[0], server_hostname="localhost"
            )
        self.task = self.loop.create_task(making)

    def happened(self):  # asyncio reads into a small buffer once a turn
        return len(self.notes) + len(self.stories[self.side]) + self.task.done()

    def pull(self):
        try:
            while True:
                data = self.peer.recv(1 << 16)
                if not data:
                    return
                self.incoming.write(data)
        except OSError:
            pass

    def do_advance(self, data):
        """The peer's own next records, which are not changed."""
        return self.changed(data, [])

    def do_changed(self, data, changes):
        return self.changed(data, changes)

    def changed(self, data, changes):
        self.pull()
        try:
            self.tls.do_handshake()
            self.tls.write(data or b"x")
        except OSError:  # ssl.SSLError, or what errno was left by the last call
            pass
        records = bytearray(self.outgoing.read())
        for kind, at, value in changes:
            if not records:
                break
            at %= len(records)
            if kind == "flip":
                records[at] ^= value or 1
            elif kind == "cut":
                del records[at : at + value]
            elif kind == "repeat":
                records[at:at] = records[at : at + value]
            else:
                records[at:at] = bytes([value]) * 5
        self.send(bytes(records))

    def send(self, data):
        try:
            self.peer.send(data)
        except OSError:
            pass

    def do_raw(self, data):
        self.send(data)

    def do_record(self, kind, version, size, data):
        self.send(bytes([kind, 3, version]) + size.to_bytes(2, "big") + data)

    def do_eof(self):
        self.peer.shutdown(socket.SHUT_WR)

    def seen(self):
        return self.task.done(), "lost" in [event[0] for event in self.stories[self.side]]

    def end(self):
        self.peer.close()
        self.settle()
        self.pull()
        if self.protocol.transport is not None:
            self.protocol.transport.abort()
        self.settle()
        task = self.task
        fate = (
            "waits" if not task.done() else "cancelled" if task.cancelled() else described(task.exception()) or "done"
        )
        story = machine.joined(self.stories[self.side])
        if story and story[-1][2:] not in ((), (None,)):  # asyncio loses what it has decrypted if it then fails
            story = [event for event in story if event[0] != "data"]
        # What exactly is wrong with changed bytes is up to those that were not changed, which are random.
        story = [event[:2] + (event[2] and event[2][0],) if event[0] == "lost" else event for event in story]
        fate = fate if isinstance(fate, str) else fate[0]
        self.notes.append((fate, story))
        task.cancel()


SMALL = st.sampled_from([0, 1, 10, 1000, 20000])
STEPS = [
    st.tuples(st.just("write"), SMALL),
    st.tuples(st.just("writelines"), st.lists(SMALL, max_size=3)),
    st.tuples(
        st.just("call"),
        st.sampled_from(
            "close abort pause_reading resume_reading is_reading is_closing can_write_eof write_eof".split()
        ),
    ),
    st.tuples(st.just("call"), st.sampled_from(["pause_reading", "resume_reading"])),
]
REACTIONS = st.dictionaries(
    st.sampled_from(["data", "eof", "pause", "resume", "lost"]), st.lists(st.one_of(STEPS), max_size=2), max_size=1
)  # asyncio does not end a handshake if it is paused by connection_made()
OF_SIDE = [st.builds(lambda side, step: (step[0], side) + step[1:], SIDES, step) for step in STEPS]
PROGRAMS = st.fixed_dictionaries(
    {
        "at once": st.booleans(),
        "protocols": st.tuples(*[st.sampled_from(sorted(KINDS))] * 2),
        "buffer": st.sampled_from([1, 100, 65536]),
        "reactions": st.tuples(REACTIONS, REACTIONS),
        "steps": st.lists(
            st.one_of(
                OF_SIDE + [st.just(("both",)), st.just(("both",)), st.tuples(st.just("cancel"), st.integers(0, 3))]
            ),
            min_size=1,
            max_size=8,
        ),
    }
)
CHANGE = st.tuples(st.sampled_from(["flip", "cut", "repeat", "insert"]), st.integers(0, 3000), st.integers(0, 255))
BYTE_PROGRAMS = st.fixed_dictionaries(
    {
        "side": SIDES,
        "protocol": st.sampled_from(sorted(KINDS)),
        "buffer": st.sampled_from([1, 100, 65536]),
        "reactions": st.just(({}, {})),
        "steps": st.lists(
            st.one_of(
                st.tuples(st.just("advance"), st.binary(max_size=20)),
                st.tuples(st.just("advance"), st.binary(max_size=20)),
                st.tuples(st.just("changed"), st.binary(max_size=20), st.lists(CHANGE, min_size=1, max_size=3)),
                st.tuples(st.just("raw"), st.binary(max_size=200)),
                st.tuples(
                    st.just("record"),
                    st.sampled_from([20, 21, 22, 23, 24, 0, 128]),
                    st.integers(0, 4),
                    st.sampled_from([0, 1, 2, 4, 100, 16384, 16641, 65535]),
                    st.binary(max_size=100),
                ),
                st.just(("eof",)),
            ),
            min_size=1,
            max_size=6,
        ),
    }
)
MACHINES = {"start_tls": (OnTLS, PROGRAMS), "bytes of TLS": (OnBytes, BYTE_PROGRAMS)}


def notes_of(kind, contexts, loop, program):
    run = type(kind.__name__, (kind,), {"contexts": contexts})
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    try:
        return run(loop, program).run()
    finally:
        loop.close()
        logging.getLogger("asyncio").setLevel(logging.NOTSET)


def pair(name, contexts, new_loop):
    """Two functions that run a program on asyncio and on cloop. A handshake has random bytes, and signatures of different
    sizes: what a loop does if they are changed need not be what it did last time, so both may do it again.
    """
    kind, _ = MACHINES[name]
    last = []

    def on_asyncio(program):
        last[:] = [notes_of(kind, contexts, asyncio.SelectorEventLoop(), program)]
        return last[0]

    def on_cloop(program):
        expected = list(last)
        for _ in range(10):
            found = notes_of(kind, contexts, new_loop(), program)
            if found in expected:
                return last[0]
            if kind is not OnBytes:
                break
            expected.append(notes_of(kind, contexts, asyncio.SelectorEventLoop(), program))
        return found

    return on_asyncio, on_cloop


@pytest.mark.parametrize("name", sorted(MACHINES))
def test_programs_do_on_cloop_what_they_do_on_asyncio(cloop, same_for_programs, contexts, name):
    both = contexts.usual_client(), contexts.usual_server()
    same_for_programs(MACHINES[name][1], 100, *pair(name, both, cloop.Loop), derandomize=True)
