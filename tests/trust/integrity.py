"""Whether each message arrives where it should, once, and in order, whatever happens to the connections.

Processes with several threads, each with a loop, talk to each other over TCP, Unix sockets and TLS, by streams, protocols,
buffered protocols and sock_*(), and over UDP. A message has the number of its conversation and its own, and known content.
At random, connections are reset, half-closed, abandoned by cancelled tasks, upgraded by start_tls(), or used for one
conversation after the other; reads are cancelled and repeated; connects are cancelled; reading pauses. As a connection ends
another begins, so that its descriptor is somebody else's at once.

    python tests/trust/integrity.py [--count 100000] [--seconds N] [--processes 2] [--threads 2] [--seed N] [--loop cloop|asyncio|uvloop]

The last lines are the figures. The status is 0 if nothing was misdelivered, lost, doubled or out of order. A conversation
that is reset may end early; of a datagram only that it comes to somebody else, twice or too late is counted.
"""

import argparse
import asyncio
import collections
import faulthandler
import importlib
import logging
import multiprocessing
import os
import queue
import random
import socket
import ssl
import struct
import sys
import tempfile
import threading
import time

HEADER = struct.Struct("!HQBBII")  # magic, conversation, direction, flag, number, size
MAGIC = 0xC100
PLAIN, END, UPGRADE = 0, 1, 2
NOISE = random.Random(0).getrandbits(8 << 20).to_bytes(1 << 20, "big")
LARGEST = 60000
AT_ONCE = 12  # conversations of each thread
PARTS = 8  # conversations of a connection, at most
SILENCE_S = 120  # after which a message is taken for lost for ever
UPGRADABLE_STREAMS = sys.version_info >= (3, 11)
STYLES = ["streams", "protocol", "buffered", "sock"]
SOCKETS = [
    (family, style) for family in ("tcp", "unix", "tls") for style in STYLES if (family, style) != ("tls", "sock")
]


class Fault(Exception):
    """What was found; counted where it was."""


class Session:
    """What both ends know of a connection: it follows from its number."""

    def __init__(self, seed, number):
        rng = self.rng = random.Random("%d %d" % (seed, number))
        self.seed, self.number = seed, number
        self.family, self.style = rng.choice(SOCKETS)
        self.client = rng.choice([style for style in STYLES if (self.family, style) in SOCKETS])
        can_upgrade = {"protocol", "buffered"} | ({"streams"} if UPGRADABLE_STREAMS else set())
        self.upgrades = self.family != "tls" and {self.style, self.client} <= can_upgrade and rng.random() < 0.25
        self.parts = rng.choice([1, 1, 1, 2, PARTS])
        self.cancels_connect = rng.random() < 0.05

    def conversation(self, part):
        return Conversation(self, part)


class Conversation:
    def __init__(self, session, part):
        self.id = session.number * PARTS + part
        rng = random.Random("%d %d" % (session.seed, self.id))
        few = rng.random() < 0.3
        self.counts = [rng.randrange(1, 10 if few else 400), rng.randrange(1, 10 if few else 400)]
        self.is_last = part == session.parts - 1
        self.upgrades_at = rng.randrange(self.counts[0]) if session.upgrades and part == 0 else None
        self.half = self.is_last and session.family != "tls" and not session.upgrades and rng.random() < 0.5
        # Who breaks it, after how many messages, and how.
        self.breaks = None
        if rng.random() < 0.2:
            side = rng.randrange(2)
            self.breaks = side, rng.randrange(self.counts[side] + 1), rng.choice(["abort", "cancel"])
        # The next one may begin, and end in a reset, before the last messages of this one are read.
        self.may_end_early = bool(self.breaks or (not self.is_last and Conversation(session, part + 1).breaks))

    def payload(self, direction, number):
        mix = (self.id * 2654435761 + number * 40503 + direction * 977) & 0xFFFFFFFF
        size = mix % LARGEST if mix % 101 == 0 else mix % 120
        start = mix % (len(NOISE) - LARGEST)
        return NOISE[start : start + size]

    def message(self, direction, number, flag=PLAIN):
        payload = b"" if flag == END else self.payload(direction, number)
        return HEADER.pack(MAGIC, self.id, direction, flag, number, len(payload)) + payload


class Incoming:
    """The messages of a connection, taken apart and compared with what they must be."""

    def __init__(self, tally, direction):
        self.tally, self.direction, self.data = tally, direction, bytearray()
        self.conversation, self.expected, self.missing = None, 0, set()

    def begin(self, conversation):
        self.conversation, self.expected, self.missing = conversation, 0, set()

    def next(self):
        """The next message's flag, or None if it is not there yet; a session's first one tells its number."""
        if len(self.data) < HEADER.size:
            return None
        magic, conversation, direction, flag, number, size = HEADER.unpack_from(self.data)
        if magic != MAGIC or size > LARGEST:
            self.tally["garbled"] += 1
            raise Fault("no message: %r" % bytes(self.data[:40]))
        if len(self.data) < HEADER.size + size:
            return None
        if self.conversation is None:
            return conversation
        payload = bytes(self.data[HEADER.size : HEADER.size + size])
        del self.data[: HEADER.size + size]
        if conversation != self.conversation.id or direction != self.direction:
            self.tally["misdelivered"] += 1
            raise Fault("%d in conversation %d" % (conversation, self.conversation.id))
        if number > self.expected:
            self.missing.update(range(self.expected, number))
        elif number < self.expected:
            self.tally["out of order" if number in self.missing else "doubled"] += 1
            self.missing.discard(number)
        self.expected = max(self.expected, number + 1)
        if flag == END:
            if number != self.conversation.counts[direction]:
                self.tally["lost"] += 1
            self.tally["lost"] += len(self.missing)
        else:
            if payload != self.conversation.payload(direction, number):
                self.tally["garbled"] += 1
            self.tally["messages"] += 1
        return flag


# One connection, in one of four styles: read(), write(), drain(), upgrade(), eof(), close(), abort()


class Streams:
    def __init__(self, reader, writer, rng):
        self.reader, self.writer, self.rng = reader, writer, rng

    async def read(self):
        size = self.rng.choice([1, 100, 4096, 65536])
        if self.rng.random() < 0.9:
            return await self.reader.read(size)
        while True:  # what a cancelled read would have read is there for the next one
            task = asyncio.ensure_future(self.reader.read(size))
            task.add_done_callback(lambda task: task.cancelled() or task.exception())  # this may be cancelled as well
            try:
                await asyncio.sleep(0)
                if self.rng.random() < 0.5:
                    task.cancel()
                await asyncio.wait([task])
            finally:
                task.cancel()
            if not task.cancelled():
                return task.result()

    def write(self, messages):
        if self.rng.random() < 0.5:
            self.writer.writelines(messages)
        else:
            for message in messages:
                self.writer.write(message)

    async def drain(self):
        await self.writer.drain()

    def hold(self):
        self.writer.transport.pause_reading()

    async def upgrade(self, context, name):
        await self.writer.start_tls(context, **name)

    def eof(self):
        self.writer.write_eof()

    def close(self):
        self.writer.close()

    def abort(self):
        self.writer.transport.abort()


class Protocol(asyncio.Protocol):
    def __init__(self, rng=None, made=None):
        self.rng, self.made = rng or random, made
        self.chunks, self.ended, self.error, self.waiter = collections.deque(), False, None, None
        self.room = None
        self.transport = None

    def connection_made(self, transport):
        self.transport = transport
        if self.made:
            self.made(self)

    def wake(self):
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    def data_received(self, data):
        self.chunks.append(data)
        self.wake()
        if self.rng.random() < 0.02:
            self.transport.pause_reading()
            asyncio.get_running_loop().call_later(self.rng.random() * 0.002, self.resume, self.transport)

    def resume(self, transport):
        if not self.held:
            transport.resume_reading()

    held = False

    def eof_received(self):
        self.ended = True
        self.wake()
        return self.transport.get_extra_info("ssl_object") is None

    def connection_lost(self, error):
        self.ended, self.error = True, error
        self.wake()
        self.resume_writing()

    def pause_writing(self):
        self.room = asyncio.get_running_loop().create_future()

    def resume_writing(self):
        if self.room is not None and not self.room.done():
            self.room.set_result(None)
        self.room = None

    async def read(self):
        while not self.chunks:
            if self.error is not None:
                raise self.error
            if self.ended:
                return b""
            self.waiter = asyncio.get_running_loop().create_future()
            await self.waiter
        return self.chunks.popleft()

    def write(self, messages):
        if self.rng.random() < 0.5:
            self.transport.writelines(messages)
        else:
            for message in messages:
                self.transport.write(message)

    async def drain(self):
        if self.error is not None:
            raise self.error
        if self.room is not None:
            await asyncio.shield(self.room)

    def hold(self):
        self.held = True
        self.transport.pause_reading()

    async def upgrade(self, context, name):
        loop, server_side = asyncio.get_running_loop(), not name
        self.made, transport = None, self.transport
        self.transport = await loop.start_tls(transport, self, context, server_side=server_side, **name)
        self.held = False

    def eof(self):
        self.transport.write_eof()

    def close(self):
        self.transport.close()

    def abort(self):
        self.transport.abort()


class Buffered(Protocol, asyncio.BufferedProtocol):
    data_received = None

    def get_buffer(self, hint):
        self.buffer = bytearray(self.rng.choice([64, 4096, 65536]))
        return self.buffer

    def buffer_updated(self, count):
        Protocol.data_received(self, bytes(self.buffer[:count]))


del Buffered.data_received


class Sock:
    def __init__(self, sock, rng):
        self.sock, self.rng, self.pending = sock, rng, []

    async def read(self):
        loop = asyncio.get_running_loop()
        if self.rng.random() < 0.5:
            return await loop.sock_recv(self.sock, self.rng.choice([10, 4096, 65536]))
        buffer = bytearray(4096)
        return bytes(buffer[: await loop.sock_recv_into(self.sock, buffer)])

    def write(self, messages):
        self.pending.extend(messages)

    async def drain(self):
        data, self.pending = b"".join(self.pending), []
        if data:
            await asyncio.get_running_loop().sock_sendall(self.sock, data)

    def eof(self):
        self.sock.shutdown(socket.SHUT_WR)

    def close(self):
        self.sock.close()

    def abort(self):
        if self.sock.fileno() >= 0:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


BROKEN = (OSError, EOFError, asyncio.IncompleteReadError, ssl.SSLError)


class Thread:
    """One loop, which serves and asks."""

    def __init__(self, world, where):
        self.world, self.where = world, where
        self.tally = collections.Counter()
        self.rng = random.Random("%d at %s" % (world.seed, where))
        self.serving, self.sessions = set(), 0
        self.faults = []

    # Both sides

    async def send(self, line, conversation, direction, first=0):
        """All messages from `first` on; whether the conversation goes on."""
        breaks = conversation.breaks
        end, rng = conversation.counts[direction], self.rng
        number = first
        while number < end:
            count = min(rng.choice([1, 1, 2, 7, 30]), end - number)
            if breaks is not None and breaks[0] == direction and number + count > breaks[1]:
                line.write([conversation.message(direction, n) for n in range(number, breaks[1])])
                raise ConnectionAbortedError("as planned")
            line.write([conversation.message(direction, n) for n in range(number, number + count)])
            number += count
            if rng.random() < 0.7:
                await line.drain()
            if rng.random() < 0.1:
                await asyncio.sleep(0)
        if breaks is not None and breaks[0] == direction:
            raise ConnectionAbortedError("as planned")
        line.write([conversation.message(direction, end, END)])
        await line.drain()
        if conversation.half and direction == 0:
            line.eof()

    async def receive(self, line, incoming, until=END):
        while True:
            flag = incoming.next()
            while flag is not None and flag != until:
                flag = incoming.next()
            if flag == until:
                return
            data = await line.read()
            if not data:
                raise EOFError
            incoming.data += data

    async def exchange(self, line, incoming, conversation, direction, first):
        """Sends and receives at once. Returns if both are complete, else raises one of BROKEN."""
        tasks = [
            asyncio.ensure_future(self.send(line, conversation, direction, first)),
            asyncio.ensure_future(self.receive(line, incoming)),
        ]
        _, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in pending:
            task.cancel()
        if pending:
            if conversation.breaks and conversation.breaks[0] == direction and conversation.breaks[2] == "abort":
                line.abort()
            await asyncio.wait(pending)
        errors = [task.exception() for task in tasks if not task.cancelled()]
        for error in filter(None, errors):
            raise error

    def broken(self, conversation, error):
        """An end that was not planned is a finding."""
        if isinstance(error, Fault):
            self.faults.append("%s: %s" % (conversation and conversation.id, error))
        elif conversation is not None and not conversation.may_end_early:
            self.tally["ended early"] += 1
            self.faults.append("conversation %d (%s) ended early: %r" % (conversation.id, vars(conversation), error))

    # The server's side

    def start(self, line):
        task = asyncio.ensure_future(self.serve(line))
        self.serving.add(task)
        task.add_done_callback(self.serving.discard)

    async def serve(self, line):
        incoming, conversation = Incoming(self.tally, 0), None
        try:
            while True:
                incoming.conversation = None
                number = incoming.next()
                while number is None:
                    data = await line.read()
                    if not data:
                        return
                    incoming.data += data
                    number = incoming.next()
                session = self.world.session(number // PARTS)
                conversation = session.conversation(number % PARTS)
                incoming.begin(conversation)
                first = 0
                if conversation.upgrades_at is not None:
                    await self.receive(line, incoming, UPGRADE)
                    line.hold()
                    line.write([conversation.message(1, 0, UPGRADE)])
                    await line.upgrade(self.world.server_context, {})
                    first = 1
                    self.tally["upgrades"] += 1
                await self.exchange(line, incoming, conversation, 1, first)
                self.tally["conversations"] += 1
                if conversation.is_last:
                    return
                conversation = None
        except (Fault,) + BROKEN as error:
            self.broken(conversation, error)
        finally:
            line.close()

    async def accept(self, listening):
        loop = asyncio.get_running_loop()
        while True:
            sock, _ = await loop.sock_accept(listening)
            sock.setblocking(False)
            self.start(Sock(sock, self.rng))

    async def listen(self):
        loop, servers = asyncio.get_running_loop(), []
        for (family, style), sock in self.world.listening[self.where].items():
            context = {"ssl": self.world.server_context} if family == "tls" else {}
            if style == "streams":
                made = lambda reader, writer: self.start(Streams(reader, writer, self.rng))  # noqa: E731
                start = asyncio.start_unix_server if family == "unix" else asyncio.start_server
                servers.append(await start(made, sock=sock, **context))
            elif style == "sock":
                sock.setblocking(False)
                servers.append(loop.create_task(self.accept(sock)))
            else:
                start = loop.create_unix_server if family == "unix" else loop.create_server
                kind = Buffered if style == "buffered" else Protocol
                servers.append(await start(lambda kind=kind: kind(self.rng, self.start), sock=sock, **context))
        return servers

    # The client's side

    async def connect(self, session, address):
        loop, rng = asyncio.get_running_loop(), self.rng
        unix, context = session.family == "unix", {}
        if session.family == "tls":
            context = {"ssl": self.world.client_context, "server_hostname": "localhost"}
        if session.client == "sock":
            sock = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
            sock.setblocking(False)
            try:
                await loop.sock_connect(sock, address)
            except BaseException:
                sock.close()
                raise
            return Sock(sock, rng)
        if session.client == "streams":
            if unix:
                return Streams(*await asyncio.open_unix_connection(address, **context), rng)
            return Streams(*await asyncio.open_connection(*address, **context), rng)
        kind = Buffered if session.client == "buffered" else Protocol
        if unix:
            return (await loop.create_unix_connection(lambda: kind(rng), address, **context))[1]
        return (await loop.create_connection(lambda: kind(rng), *address, **context))[1]

    async def converse(self, session):
        address = self.world.addresses[self.rng.choice(self.world.places)][session.family, session.style]
        conversation, line = None, None
        connecting = asyncio.ensure_future(self.connect(session, address))
        if session.cancels_connect:
            for _ in range(self.rng.randrange(4)):
                await asyncio.sleep(0)
            connecting.cancel()
            try:
                (await connecting).abort()
            except asyncio.CancelledError:
                pass
            return
        try:
            line = await connecting
            incoming = Incoming(self.tally, 1)
            for part in range(session.parts):
                conversation, first = session.conversation(part), 0
                incoming.begin(conversation)
                if conversation.upgrades_at is not None:
                    first = conversation.upgrades_at + 1
                    line.write([conversation.message(0, n) for n in range(first - 1)])
                    line.write([conversation.message(0, first - 1, UPGRADE)])
                    await self.receive(line, incoming, UPGRADE)
                    await line.upgrade(self.world.client_context, {"server_hostname": "localhost"})
                await self.exchange(line, incoming, conversation, 0, first)
        except (Fault,) + BROKEN as error:
            self.broken(conversation, error)
        finally:
            if line is not None:
                line.close()

    # Datagrams

    async def datagrams(self, number):
        """Sent to anybody, who sends them back."""
        thread, count = self, self.rng.randrange(1, 40)
        target = self.world.addresses[self.rng.choice(self.world.places)]["udp", "protocol"]

        class Asking(asyncio.DatagramProtocol):
            highest, enough = -1, asyncio.get_running_loop().create_future()

            def datagram_received(self, data, address):
                conversation, at = struct.unpack_from("!QI", data)
                if conversation != number or data[12:] != NOISE[at : at + 100]:
                    thread.tally["misdelivered"] += 1
                if at <= self.highest:
                    thread.tally["doubled" if at == self.highest else "out of order"] += 1
                self.highest = at
                thread.tally["messages"] += 1
                thread.tally["datagrams"] += 1
                if at == count - 1 and not self.enough.done():
                    self.enough.set_result(None)

        remote = {"remote_addr": target} if self.rng.random() < 0.5 else {"local_addr": ("127.0.0.1", 0)}
        transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(Asking, **remote)
        for at in range(count):
            transport.sendto(
                struct.pack("!QI", number, at) + NOISE[at : at + 100], None if "remote_addr" in remote else target
            )
        await asyncio.wait([protocol.enough], timeout=0.2)
        transport.abort() if self.rng.random() < 0.5 else transport.close()

    async def echo_datagrams(self):
        class Echo(asyncio.DatagramProtocol):
            def connection_made(self, transport):
                self.transport = transport

            def datagram_received(self, data, address):
                self.transport.sendto(data, address)

        sock = self.world.listening[self.where]["udp", "protocol"]
        return (await asyncio.get_running_loop().create_datagram_endpoint(Echo, sock=sock))[0]

    # All of it

    async def ask(self):
        """Conversations, one after the other, until the share of this thread is done."""
        while self.tally["messages"] < self.world.share and time.monotonic() < self.world.ends:
            await self.ask_once()

    async def ask_once(self):
        self.sessions += 1
        # No two threads have the same numbers.
        number = self.sessions * len(self.world.places) + self.world.places.index(self.where)
        if self.rng.random() < 0.05:
            await self.datagrams(number)
        else:
            await self.converse(self.world.session(number))
        self.tally["sessions"] += 1

    async def work(self):
        await asyncio.gather(*[self.ask() for _ in range(AT_ONCE)])

    async def main(self):
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self.report)
        echo = await self.echo_datagrams()
        self.world.listening[self.where].pop(("udp", "protocol"))
        servers = await self.listen()
        await loop.run_in_executor(None, self.world.barrier.wait)
        await self.work()
        await loop.run_in_executor(None, self.world.barrier.wait)
        deadline = loop.time() + 30
        while self.serving and loop.time() < deadline:
            await asyncio.sleep(0.01)
        self.tally["unfinished"] += len(self.serving)
        echo.close()
        for server in servers:
            server.cancel() if isinstance(server, asyncio.Task) else server.close()
        await asyncio.sleep(0.01)

    def report(self, loop, context):
        self.tally["reports"] += 1
        self.faults.append("reported: %r" % (context,))

    def run(self):
        loop = self.world.new_loop()
        try:
            loop.run_until_complete(self.main())
            loop.run_until_complete(loop.shutdown_default_executor()) if sys.version_info >= (3, 9) else None
        except BaseException as error:
            self.faults.append("thread ended: %r" % error)
            self.tally["ended early"] += 1
            raise
        finally:
            loop.close()
            self.world.results.put((dict(self.tally), self.faults[:20]))


class World:
    def __init__(self, options, folder):
        self.seed, self.folder = options.seed, folder
        self.places = [(p, t) for p in range(options.processes) for t in range(options.threads)]
        self.share = max(1, options.count // len(self.places))
        self.ends = time.monotonic() + options.seconds
        self.new_loop = importlib.import_module(options.loop).new_event_loop
        self.listening, self.addresses = {}, {}
        for place in self.places:
            self.listening[place] = {key: self.listen(place, *key) for key in SOCKETS + [("udp", "protocol")]}
            self.addresses[place] = {key: sock.getsockname() for key, sock in self.listening[place].items()}
        trustme = importlib.import_module("trustme")
        authority = trustme.CA()
        self.server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(self.server_context)
        self.client_context = ssl.create_default_context()
        authority.configure_trust(self.client_context)
        context = multiprocessing.get_context("fork")
        self.barrier, self.results = context.Barrier(len(self.places)), context.Queue()

    def listen(self, place, family, style):
        if family == "unix":
            sock = socket.socket(socket.AF_UNIX)
            sock.bind(os.path.join(self.folder, "%d-%d-%s" % (place + (style,))))
        else:
            sock = socket.socket(type=socket.SOCK_DGRAM if family == "udp" else socket.SOCK_STREAM)
            sock.bind(("127.0.0.1", 0))
        if family != "udp":
            sock.listen(1000)
        return sock

    def session(self, number):
        return Session(self.seed, number)


def churn(stop):
    """Opens and closes descriptors all the time, so that a number which is closed is taken at once."""
    while not stop.is_set():
        pairs = [socket.socketpair() for _ in range(4)]
        for first, second in pairs:
            first.close()
            second.close()
        time.sleep(0.0005)


def process(world, number):
    mine = [Thread(world, place) for place in world.places if place[0] == number]
    for place, socks in world.listening.items():
        if place[0] != number:
            for sock in socks.values():
                sock.close()
    stop = threading.Event()
    churning = threading.Thread(target=churn, args=(stop,))
    threads = [threading.Thread(target=one.run, daemon=True) for one in mine]
    for thread in [churning] + threads:
        thread.start()
    seen = None
    faulthandler.dump_traceback_later(SILENCE_S, exit=True)
    while any(thread.is_alive() for thread in threads):
        threads[0].join(1)
        total = [one.tally["messages"] for one in mine]
        if total != seen:
            seen = total
            faulthandler.dump_traceback_later(SILENCE_S, exit=True)
    stop.set()
    churning.join()
    faulthandler.cancel_dump_traceback_later()


FINDINGS = ["misdelivered", "lost", "doubled", "out of order", "garbled", "ended early", "unfinished", "reports"]


def main():
    parser = argparse.ArgumentParser(prog="tests/trust/integrity.py", description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=100000, help="messages to receive")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="no conversation begins after these")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2, help="of each process")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--loop", default="cloop", help="the module whose new_event_loop() makes it")
    options = parser.parse_args()
    print("seed %d" % options.seed, flush=True)
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # not of writes to a lost connection
    began, tally, faults = time.monotonic(), collections.Counter(), []
    with tempfile.TemporaryDirectory() as folder:
        world = World(options, folder)
        context = multiprocessing.get_context("fork")
        children = [context.Process(target=process, args=(world, n)) for n in range(options.processes)]
        for child in children:
            child.start()
        left = len(world.places)
        while left and any(child.is_alive() for child in children):
            try:
                counts, told = world.results.get(timeout=1)
            except queue.Empty:
                if any(child.exitcode for child in children):
                    break  # the others would wait for it
                continue
            tally.update(counts)
            faults += told
            left -= 1
        for child in children:
            if left:
                child.terminate()
            child.join()
            tally["ended early"] += child.exitcode != 0
    for fault in faults:
        print(fault)
    print("messages: %d, in %d s" % (tally["messages"], time.monotonic() - began))
    print(", ".join("%s: %d" % (name, tally[name]) for name in ("sessions", "conversations", "upgrades", "datagrams")))
    print(", ".join("%s: %d" % (name, tally[name]) for name in FINDINGS))
    return 1 if left or any(tally[name] for name in FINDINGS) else 0


if __name__ == "__main__":
    sys.exit(main())
