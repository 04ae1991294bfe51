"""Random programs of transports, servers and datagrams do the same on cloop as on asyncio, event for event.

A program is a list of steps: of the test's own end of a connection, and of the loop's. Callbacks of the protocol perform steps,
too. After each step the loop runs until nothing happens any more, and what was told and can be seen is noted, with data that
came in pieces joined. So the notes depend only on the program. What is written is either small, or more than the kernel takes.

`make fuzz` runs these for as long as it is told.
"""

import asyncio
import logging
import os
import re
import socket
import struct
import sys

import pytest

pytest.importorskip("hypothesis")
from hypothesis import strategies as st  # noqa: E402

pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio had faults that were mended since")
POLLS = 4
REACTIONS = 20  # of one program
HUGE = 8 << 20  # more than any socket takes at once
LITTLE = 100000  # more than all else that a program writes
NOISE = bytes(range(256)) * (HUGE // 256)


def described(error, depth=3):
    if error is None or depth == 0:
        return None
    text = re.sub(r"\b0x[0-9a-f]+|\bfd=\d+|\('127.0.0.1', \d+\)", "N", str(error))
    text = re.sub(r"'[\w.]*Transport'", "'Transport'", text)  # the class
    return type(error).__name__, text, getattr(error, "errno", None), described(error.__cause__, depth - 1)


def write_to(transport, method, data):
    """asyncio uses what a closed transport has cleared: write() if it was closed with a queue, writelines() on 3.12 and 3.13."""
    try:
        return getattr(transport, method)(data)
    except (AttributeError, TypeError) as error:
        if not type(transport).__module__.startswith("asyncio.") or "'NoneType' object" not in str(error):
            raise


class Base:
    """A loop that is run by steps."""

    polls = POLLS

    def __init__(self, loop, program):
        self.loop, self.program, self.notes = loop, program, []
        self.polled, self.depth, self.reacted = 0, 0, 0
        self.socks = []
        loop.set_exception_handler(self.report)
        if program.get("debug"):
            loop.set_debug(True)
            loop.slow_callback_duration = 100

    def report(self, loop, context):
        self.notes.append(("reported", context["message"], described(context.get("exception"))))

    def turn(self):
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()

    def heard(self):
        self.marker[0].recv(1)
        self.polled += 1

    def settle(self):
        """Runs the loop until nothing is noted in so many polls."""
        quiet = 0
        while quiet < self.polls:
            seen, before = self.happened(), self.polled
            self.marker[1].send(b"!")
            while self.polled == before:
                self.turn()
            self.turn()
            quiet = quiet + 1 if self.happened() == seen else 0

    def happened(self):
        return len(self.notes)

    def run_task(self, coroutine):
        """Its result, or what it raised, or None if it still waits."""
        task = self.loop.create_task(coroutine)
        for _ in range(5):
            if not task.done():
                self.settle()
        return task

    def keep(self, sock):
        sock.setblocking(False)
        self.socks.append(sock)
        return sock

    def tcp_pair(self):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(1)
            ours = socket.create_connection(listener.getsockname())
            pair = ours, listener.accept()[0]
        for sock in pair:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for buffer in socket.SO_SNDBUF, socket.SO_RCVBUF:  # or they grow, until a huge write fits
                sock.setsockopt(socket.SOL_SOCKET, buffer, 1 << 18)
        return pair

    def received(self, sock):
        """All that the test's end has to read, while the loop goes on; and how it ends."""
        got, quiet = bytearray(), 0
        while quiet < 2:
            try:
                data = sock.recv(1 << 20)
                if not data:
                    return self.arrived(got), "eof"
                got += data
                quiet = 0
            except BlockingIOError:
                quiet += 1
                self.settle()
            except OSError as error:
                return self.arrived(got), described(error)
        return self.arrived(got), None

    def arrived(self, data):
        """How much of a huge write the kernel has taken when the connection ends is the kernel's affair."""
        if len(data) % HUGE < LITTLE:
            return self.told(data)
        return "a part", len(data) // HUGE, NOISE[: 2 * LITTLE].find(data[-LITTLE:]) >= 0

    @staticmethod
    def told(data):
        return bytes(data) if len(data) < 100 else (len(data), hash(bytes(data)))

    def perform(self, name, *args):
        """One step; what it returned or raised is noted."""
        self.depth += 1
        try:
            result = getattr(self, "do_" + name)(*args)
        except Exception as error:
            result = "raised", described(error)
        finally:
            self.depth -= 1
        self.notes.append((name, args, result))

    def run(self):
        self.marker = socket.socketpair()
        for sock in self.marker:
            sock.setblocking(False)
        self.loop.add_reader(self.marker[0], self.heard)
        try:
            self.begin()
            self.settle()
            for step in self.program["steps"]:
                self.perform(*step)
                self.settle()
                self.notes.append(self.seen())
            self.end()
            self.settle()
            self.notes.append(self.seen())
        finally:
            self.loop.remove_reader(self.marker[0])
            for sock in list(self.marker) + self.socks:
                sock.close()
        return joined(self.notes)


def joined(notes):
    """The notes, with data that came in several pieces as one."""
    found = []
    for note in notes:
        if note[0] == "data" and found and found[-1][:2] == note[:2]:
            note = note[:2] + (found.pop()[2] + note[2],)
        found.append(note)
    return [note[:2] + (Base.told(note[2]),) if note[0] == "data" else note for note in found]


# Protocols


class Recorder(asyncio.Protocol):
    """Notes what it is told. What it does then, each time once, is the program's."""

    def __init__(self, run, name="first"):
        self.run, self.name, self.transport = run, name, None
        self.reactions = dict(run.program.get("reactions", {}))

    def note(self, event, *args):
        self.run.notes.append((event, self.name) + args)
        for step in self.reactions.pop(event, ()):
            # If close() has waited for the buffer, asyncio still sends what connection_lost() writes. A protocol that sets
            # another one may go on for ever.
            if (
                self.run.depth < 5
                and self.run.reacted < REACTIONS
                and not (event == "lost" and step[0].startswith("write"))
            ):
                self.run.reacted += 1
                self.run.perform(*step)

    def connection_made(self, transport):
        self.transport = transport
        self.run.made(self, transport)
        self.note("made")

    def data_received(self, data):
        self.note("data", bytes(data))

    def eof_received(self):
        self.note("eof")
        return self.run.program.get("stays")

    def pause_writing(self):
        self.note("pause")

    def resume_writing(self):
        self.note("resume")

    def connection_lost(self, error):
        self.note("lost", described(error))

    # Of pipes and datagrams

    def datagram_received(self, data, address):
        self.note("datagram", bytes(data), self.run.name_of(address))

    def error_received(self, error):
        self.note("error", described(error))


class Buffered(Recorder, asyncio.BufferedProtocol):
    data_received = None

    def get_buffer(self, hint):
        self.buffer = bytearray(self.run.program.get("buffer", 100))
        return self.buffer

    def buffer_updated(self, count):
        self.note("data", bytes(self.buffer[:count]))


del Buffered.data_received
KINDS = {"protocol": Recorder, "buffered": Buffered}

ODD = ["text", None, 5, bytearray(b"abc"), memoryview(b"abcd")]


WRITING = ["abort", "write_eof", "can_write_eof", "get_write_buffer_size"]


class OnTransport(Base):
    """Steps of a transport, which is self.transport."""

    transport = None
    has = "reads", "writes"  # asyncio's pipes have other methods, too, which fail

    def made(self, protocol, transport):
        self.transport = transport

    def do_write(self, size):
        return "writes" in self.has and write_to(self.transport, "write", NOISE[:size])

    def do_write_odd(self, number):
        return "writes" in self.has and write_to(self.transport, "write", ODD[number])

    def do_writelines(self, sizes):
        return "writes" in self.has and write_to(self.transport, "writelines", [NOISE[:size] for size in sizes])

    def do_call(self, name, *args):
        wants = "reads" if name.endswith("reading") else "writes" if name in WRITING else None
        if (wants and wants not in self.has) or (name == "is_reading" and len(self.has) < 2):
            return None
        if len(self.has) < 2 and name in ("close", "abort") and self.transport.is_closing():
            return None  # asyncio's pipes may fail later
        result = getattr(self.transport, name)(*args)
        return bool(result) if name == "get_write_buffer_size" else result

    def do_limits(self, high, low):
        if "writes" not in self.has:
            return None
        self.transport.set_write_buffer_limits(high=high, low=low)
        return getattr(self.transport, "get_write_buffer_limits", tuple)()

    def do_set_protocol(self, kind):
        self.count = getattr(self, "count", 0) + 1
        self.transport.set_protocol(KINDS[kind](self, "protocol %d" % self.count))

    def looked_at(self, transport):
        return transport.is_closing(), len(self.has) == 2 and transport.is_reading()


class OnStream(OnTransport):
    """A transport of a socket or a pipe, and the other end."""

    def begin(self):
        kind, factory = self.program["medium"], lambda: KINDS[self.program["protocol"]](self)
        if kind.endswith("pipe"):
            self.loop.set_debug(False)  # where asyncio logs a descriptor that is closed
            self.has = ["reads"] if kind == "read pipe" else ["writes"]
        if kind == "read pipe":
            ours, theirs = os.pipe()
            connecting = self.loop.connect_read_pipe(lambda: Recorder(self), open(ours, "rb", 0))
            self.peer = PipeEnd(theirs)
        elif kind == "write pipe":
            theirs, ours = os.pipe()
            connecting = self.loop.connect_write_pipe(lambda: Recorder(self), open(ours, "wb", 0))
            self.peer = PipeEnd(theirs)
        else:
            ours, self.peer = socket.socketpair() if kind == "unix" else self.tcp_pair()
            ours.setblocking(False)
            connecting = self.loop.create_connection(factory, sock=ours)
        self.keep(self.peer)
        self.run_task(connecting).result()

    def do_send(self, size):
        return self.peer.send(NOISE[:size])

    def do_drain(self):
        return self.received(self.peer)

    def do_peer(self, name):
        if name == "shutdown":
            self.peer.shutdown(socket.SHUT_WR)
        elif name == "reset" and self.program["medium"] == "tcp":
            self.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.peer.close()
        else:
            self.peer.close()

    def seen(self):
        return self.looked_at(self.transport)

    def end(self):
        if not self.transport.is_closing():
            getattr(self.transport, "abort", self.transport.close)()  # asyncio's for reading from pipes cannot abort


class PipeEnd:
    def __init__(self, fd):
        self.fd = fd
        os.set_blocking(fd, False)

    def setblocking(self, flag):
        pass

    def send(self, data):
        return os.write(self.fd, data)

    def recv(self, size):
        return os.read(self.fd, size)

    def shutdown(self, how):
        self.close()

    def close(self):
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1


class OnDatagrams(OnTransport):
    def begin(self):
        self.peer = self.keep(socket.socket(type=socket.SOCK_DGRAM))
        self.peer.bind(("127.0.0.1", 0))
        self.names = {self.peer.getsockname(): "peer"}
        options = {"local_addr": ("127.0.0.1", 0)}
        if self.program["connected"]:
            options["remote_addr"] = self.peer.getsockname()
        self.run_task(self.loop.create_datagram_endpoint(lambda: Recorder(self), **options)).result()
        self.address = self.transport.get_extra_info("sockname")

    def name_of(self, address):
        return self.names.get(address, "stranger")

    def do_sendto(self, size, where):
        if self.transport.is_closing() and not self.program["connected"]:
            return None  # asyncio raises AttributeError
        address = [None, next(iter(self.names)), ("127.0.0.1", 9), ("nowhere", "x"), 5][where]
        return self.transport.sendto(NOISE[:size], address) if where else self.transport.sendto(NOISE[:size])

    def do_sendto_odd(self, number):
        if self.transport.is_closing():
            return None
        return self.transport.sendto(ODD[number], next(iter(self.names)))

    def do_send(self, size):
        return self.peer.sendto(NOISE[:size], self.address)

    def do_drain(self):
        got = []
        try:
            while True:
                got.append(self.told(self.peer.recv(70000)))
        except OSError as error:
            return got, type(error).__name__

    def do_peer(self, name):
        self.peer.close()

    def seen(self):
        return self.looked_at(self.transport)

    def end(self):
        self.transport.abort()


class OnServer(OnTransport):
    """Steps of a server, of its clients, which are sockets of the test, and of its transports."""

    def begin(self):
        self.clients, self.transports, self.waiting = [], [], []
        factory = lambda: KINDS[self.program["protocol"]](self, "connection %d" % len(self.transports))  # noqa: E731
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        self.address = listener.getsockname()
        self.server = self.run_task(
            self.loop.create_server(factory, sock=listener, start_serving=self.program["starts"])
        ).result()

    def made(self, protocol, transport):
        self.transports.append(transport)
        self.transport = transport

    def do_connect(self):
        sock = socket.socket()
        self.keep(sock)
        self.clients.append(sock)
        return sock.connect_ex(self.address) and "in progress"

    def client(self, number):
        return self.clients[number % len(self.clients)] if self.clients else None

    def do_send(self, number, size):
        return self.client(number) and self.client(number).send(NOISE[:size])

    def do_client(self, number, name):
        sock = self.client(number)
        if sock is None:
            return
        if name == "reset":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if name == "shutdown":
            sock.shutdown(socket.SHUT_WR)
        else:
            sock.close()

    def do_drain(self, number):
        return self.client(number) and self.received(self.client(number))

    def do_choose(self, number):
        if self.transports:
            self.transport = self.transports[number % len(self.transports)]

    def do_server(self, name):
        if name in ("close_clients", "abort_clients") and len(self.clients) > 1:
            return None  # asyncio's are a set, without an order
        method = getattr(self.server, name, None)
        result = method() if callable(method) else None
        if asyncio.iscoroutine(result):
            if self.depth > 1:
                result.close()
                return None
            task = self.loop.create_task(result)
            self.waiting.append(task)
            return "began"
        return result

    def seen(self):
        waiting = [
            "cancelled" if task.cancelled() else (described(task.exception()) or "done") if task.done() else "waits"
            for task in self.waiting
        ]
        return self.server.is_serving(), len(self.server.sockets), waiting, [
            self.looked_at(transport) for transport in self.transports
        ]  # fmt: skip

    def end(self):
        for task in self.waiting:
            task.cancel()
        self.server.close()
        for transport in self.transports:
            transport.abort()


# Programs

SIZE = st.sampled_from([0, 1, 10, 1000, HUGE])
SMALL = st.sampled_from([0, 1, 10, 1000, 30000])
CALLS = st.sampled_from(["close", "pause_reading", "resume_reading", "is_reading", "is_closing"] + WRITING)
LIMIT = st.sampled_from([None, 0, 1, 1000, -1])
ON_TRANSPORT = [
    st.tuples(st.just("write"), SIZE),
    st.tuples(st.just("write"), SIZE),
    st.tuples(st.just("write_odd"), st.integers(0, len(ODD) - 1)),
    st.tuples(st.just("writelines"), st.lists(SIZE, max_size=3)),
    st.tuples(st.just("call"), CALLS),
    st.tuples(st.just("call"), st.sampled_from(["pause_reading", "resume_reading"])),
    st.tuples(st.just("limits"), LIMIT, LIMIT),
    st.tuples(st.just("set_protocol"), st.sampled_from(sorted(KINDS))),
]


def reactions(steps):
    events = st.sampled_from(["made", "data", "eof", "pause", "resume", "lost", "datagram", "error"])
    return st.dictionaries(events, st.lists(st.one_of(steps), max_size=2), max_size=2)


def programs(steps, within, **fields):
    return st.fixed_dictionaries(
        dict(
            fields,
            steps=st.lists(st.one_of(steps), min_size=2, max_size=10),
            reactions=reactions(within),
            debug=st.booleans(),
            stays=st.sampled_from([None, None, True]),
            buffer=st.sampled_from([1, 100, 65536]),
            protocol=st.sampled_from(sorted(KINDS)),
        )
    )


STREAM_PROGRAMS = programs(
    ON_TRANSPORT
    + [
        st.tuples(st.just("send"), SMALL),
        st.tuples(st.just("send"), SMALL),
        st.just(("drain",)),
        st.tuples(st.just("peer"), st.sampled_from(["shutdown", "close", "reset"])),
    ],
    ON_TRANSPORT,
    medium=st.sampled_from(["unix", "tcp", "read pipe", "write pipe"]),
)
SENDTO = [
    # Not 0: only the newest releases of asyncio send that.
    st.tuples(st.just("sendto"), st.sampled_from([1, 1000, 70000]), st.integers(0, 4)),
    st.tuples(st.just("sendto"), st.sampled_from([1, 1000]), st.integers(0, 1)),
    st.tuples(st.just("sendto_odd"), st.integers(0, len(ODD) - 1)),
    st.tuples(st.just("call"), st.sampled_from(["close", "abort", "is_closing", "get_write_buffer_size"])),
    st.tuples(st.just("limits"), LIMIT, LIMIT),
]
DATAGRAM_PROGRAMS = programs(
    SENDTO
    + [
        st.tuples(st.just("send"), st.sampled_from([0, 1, 1000, 30000])),
        st.just(("drain",)),
        st.tuples(st.just("peer"), st.just("close")),
    ],
    SENDTO,
    connected=st.booleans(),
)
CLIENT = st.integers(0, 3)
SERVER_NAMES = ["close", "is_serving", "start_serving", "wait_closed", "serve_forever", "close", "start_serving"]
SERVER_NAMES += ["close_clients", "abort_clients"] if sys.version_info >= (3, 13) else []
OF_SERVER = [
    st.tuples(st.just("choose"), CLIENT),
    st.tuples(st.just("server"), st.sampled_from(SERVER_NAMES)),
    st.tuples(st.just("call"), CALLS),
    st.tuples(st.just("write"), st.sampled_from([0, 1, 1000])),
]
SERVER_PROGRAMS = programs(
    OF_SERVER
    + [
        st.just(("connect",)),
        st.just(("connect",)),
        st.tuples(st.just("send"), CLIENT, SMALL),
        st.tuples(st.just("drain"), CLIENT),
        st.tuples(st.just("client"), CLIENT, st.sampled_from(["close", "shutdown", "reset"])),
    ],
    OF_SERVER,
    starts=st.booleans(),
)
MACHINES = {
    "transports": (OnStream, STREAM_PROGRAMS),
    "datagrams": (OnDatagrams, DATAGRAM_PROGRAMS),
    "servers": (OnServer, SERVER_PROGRAMS),
}


def notes_of(machine, loop, program):
    level = logging.getLogger("asyncio").level
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    try:
        return machine(loop, program).run()
    finally:
        loop.close()
        logging.getLogger("asyncio").setLevel(level)


@pytest.mark.parametrize("name", sorted(MACHINES))
def test_programs_do_on_cloop_what_they_do_on_asyncio(cloop, same_for_programs, name):
    machine, generated = MACHINES[name]
    same_for_programs(
        generated,
        100,
        lambda program: notes_of(machine, asyncio.SelectorEventLoop(), program),
        lambda program: notes_of(machine, cloop.Loop(), program),
        derandomize=True,
    )
