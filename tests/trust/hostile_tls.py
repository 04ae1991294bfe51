"""Whatever is done to a TLS connection, its two ends get no wrong byte, come to an end, and leave nothing behind.

Between a client and a server, both of the loop, a proxy forwards records. It corrupts, splits, truncates, delays, replays,
reorders and drops them, and inserts garbage, oversized and empty records, alerts and plain text, resets and ends the
connection. Meanwhile, at any step of the handshake or after it, the ends close, abort, cancel, pause, update their keys (TLS
1.3) or renegotiate (1.2); callbacks of the contexts raise, close, abort, collect garbage, run a turn of the loop or exchange
the context; certificates and protocols do not match. Connections begin with TLS or by start_tls(), with protocols, buffered
protocols and streams. Both of cloop's ways through OpenSSL are used: its library, and MemoryBIOs.

    python tests/trust/hostile_tls.py [--seconds 60] [--seed N] [--loop cloop|asyncio]
    python tests/trust/hostile_tls.py --only N [--way default|memorybio]      this case, again, with what was done

A finding is a process that dies or hangs; an end that gets what was not sent, or less than was sent, without an error or an
end that came from the other side; an end that is not told of its end within 10 s after the other is gone; an exception
that is none of TLS or the system; an object or a descriptor that is left.
"""

import argparse
import asyncio
import collections
import ctypes
import faulthandler
import gc
import importlib
import logging
import os
import random
import re
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time

LIMIT_S = 10
HANG_S = 60
QUIET_S = 0.2  # after which the proxy ends what does not go on
CASES = 60  # of a process
BEFORE = 3  # steps before the first record
NOISE = random.Random(0).getrandbits(8 << 19).to_bytes(1 << 19, "big")
WAYS = {"default": "", "memorybio": "memorybio"}
HAS_SHUTDOWN_TIMEOUT = sys.version_info >= (3, 11)
ALLOW_CLIENT_RENEGOTIATION = 0x100  # of OpenSSL 3; the ssl module has no name for it
# Of what is done between SSL_key_update(), which only this program calls, and the write that sends it: so does asyncio.
NOT_READY = {"SHUTDOWN_WHILE_IN_INIT", "STILL_IN_INIT"}
EXPECTED = (OSError, ssl.CertificateError, asyncio.CancelledError, EOFError, asyncio.TimeoutError)


class Planned(Exception):
    """Raised by a callback of a context."""


# OpenSSL, as it is in the process


class Library:
    """Functions that the ssl module does not have."""

    def __init__(self):
        self.ssl = None
        with open("/proc/self/maps") as file:
            found = re.search(r"(/\S*libssl\S*)", file.read())
        if found:
            try:
                self.ssl = ctypes.CDLL(found[1])
                self.ssl.SSL_get_ex_data.restype = ctypes.c_void_p
            except OSError:
                pass

    def call(self, name, ssl_object, *args):
        """Calls a function with the SSL* of the object, if that can be found: it follows the head of the object."""
        inner = getattr(ssl_object, "_sslobj", None)
        if self.ssl is None or inner is None or not hasattr(self.ssl, name):
            return False
        pointer = ctypes.c_void_p.from_address(id(inner) + object.__basicsize__ + ctypes.sizeof(ctypes.c_void_p))
        if not pointer.value or pointer.value % 8 or self.ssl.SSL_get_ex_data(pointer, 0) != id(inner):
            return False
        getattr(self.ssl, name)(pointer, *args)
        return True


# The ends


class End:
    """One end of the connection. `over` is set when it knows that it is."""

    def __init__(self, case, side):
        self.case, self.side, self.rng = case, side, random.Random("%s %d" % (side, case.number))
        self.transport = self.raw = self.task = None
        self.got, self.made, self.eof, self.error = 0, False, False, None
        self.over = asyncio.get_running_loop().create_future()
        self.changed = asyncio.Event()
        self.room = asyncio.Event()
        self.room.set()
        self.to_send, self.to_get = case.sizes[side], case.sizes[not side]

    def connection_made(self, transport):
        self.transport = transport
        if self.raw is None and self.case.upgrades[self.side]:
            self.raw = transport
            transport.pause_reading()  # what comes is for start_tls()

    def take(self, data):
        sent = self.case.data(not self.side)
        if bytes(data) != sent[self.got : self.got + len(data)]:
            self.case.found("side %d got what was not sent, at %d" % (self.side, self.got))
        self.got += len(data)
        self.changed.set()

    def told(self, data):
        if self.over.done():
            self.case.found("side %d got data after connection_lost()" % self.side)
        self.take(data)

    def eof_received(self):
        self.eof = True
        self.changed.set()

    def pause_writing(self):
        self.room.clear()

    def resume_writing(self):
        self.room.set()

    def connection_lost(self, error):
        if self.over.done() and self.task is not None and self.made:
            self.case.found("side %d was lost twice" % self.side)
        self.end(error)

    def end(self, error):
        if self.error is None:
            self.error = error
        if not self.over.done():
            self.over.set_result(None)
        self.changed.set()
        self.room.set()

    async def connect(self):
        """Connects, and sends and gets what it should; then closes."""
        case, loop = self.case, asyncio.get_running_loop()
        sock = case.socks[self.side]
        options = {"ssl_handshake_timeout": 5.0}
        if HAS_SHUTDOWN_TIMEOUT:
            options["ssl_shutdown_timeout"] = 2.0 if case.hostile else 30.0
        context = case.contexts[self.side]
        name = {} if self.side else {"server_hostname": case.name}
        try:
            if case.upgrades[self.side]:
                await self.open(sock)
                transport = await loop.start_tls(
                    self.raw, self.protocol(), context, server_side=bool(self.side), **dict(name, **options)
                )
                if transport is None:
                    raise ConnectionAbortedError("closed meanwhile")
                self.transport = transport
            else:
                await self.open(sock, ssl=context, **dict(name, **options))
            self.made = True
            case.tally["handshakes"] += 1
        except BaseException as error:
            self.check(error)
            if self.raw is not None:
                self.raw.abort()
            self.end(error)
            return
        await self.talk()

    def protocol(self):
        return self

    async def open(self, sock, **options):
        loop = asyncio.get_running_loop()
        if self.side:
            await loop.connect_accepted_socket(self.protocol, sock, **options)
        else:
            await loop.create_connection(self.protocol, sock=sock, **options)

    def check(self, error):
        if not isinstance(error, EXPECTED + (Planned,)):
            self.case.found("side %d: %r" % (self.side, error))

    async def talk(self):
        sent = 0
        while sent < self.to_send and not self.over.done():
            count = min(self.rng.choice([1, 100, 5000, 16384, 60000]), self.to_send - sent)
            data = self.case.data(self.side)[sent : sent + count]
            if self.rng.random() < 0.3:
                self.transport.writelines([data[:7], data[7:]])
            else:
                self.transport.write(data)
            sent += count
            await self.room.wait()
            for _ in range(self.rng.choice([0, 0, 1, 5])):
                await asyncio.sleep(0)
        while self.got < self.to_get and not self.over.done() and not self.eof:
            self.changed.clear()
            await self.changed.wait()
        self.transport.close()


class Protocol(End, asyncio.Protocol):
    def data_received(self, data):
        self.told(data)


class Buffered(End, asyncio.BufferedProtocol):
    def get_buffer(self, hint):
        self.buffer = bytearray(self.rng.choice([1, 100, 65536]))
        return memoryview(self.buffer)

    def buffer_updated(self, count):
        self.told(self.buffer[:count])


class Streams(End):
    """Reads by a StreamReader, whose protocol is asyncio's. What that has received it may read after the end."""

    def protocol(self):
        self.reader = asyncio.StreamReader(limit=4096)
        return Reading(self)

    def connection_made(self, transport):
        super().connection_made(transport)
        self.reading = asyncio.ensure_future(self.read())
        self.case.others.append(self.reading)

    async def read(self):
        try:
            while True:
                data = await self.reader.read(self.rng.choice([1, 1000, 65536]))
                if not data:
                    break
                self.take(data)
        except EXPECTED:
            pass
        self.eof = True
        self.changed.set()


class Reading(asyncio.StreamReaderProtocol):
    def __init__(self, end):
        super().__init__(end.reader)
        self.end = end

    def connection_made(self, transport):
        super().connection_made(transport)
        self.end.connection_made(transport)

    def pause_writing(self):
        super().pause_writing()
        self.end.pause_writing()

    def resume_writing(self):
        super().resume_writing()
        self.end.resume_writing()

    def connection_lost(self, error):
        super().connection_lost(error)
        end, self.end = self.end, None
        end.end(error)


STYLES = {"protocol": Protocol, "buffered": Buffered, "streams": Streams}


# The proxy

HARMLESS = ["split", "delay"]
FAULTS = [
    "corrupt", "header", "truncate", "cut", "replay", "reorder", "drop", "garbage", "oversized", "empty", "alert", "ccs", "eof",
    "reset", "plain", "hello", "flood",
]  # fmt: skip


class Way:
    """Records on their way from one socket to another; `faults` has what is done to the one with this number."""

    def __init__(self, case, source, target, faults):
        self.case, self.source, self.target, self.faults = case, source, target, faults
        self.rng = case.rng
        self.incoming, self.pieces = bytearray(), collections.deque()
        self.records, self.first, self.held = 0, b"", b""
        self.ending = self.ended = False
        self.wait = 0

    def step(self):
        """Whether anything moved."""
        moved = self.receive()
        if self.wait:
            self.wait -= 1
            return True
        while self.pieces:
            piece = self.pieces[0]
            if callable(piece):
                piece()
            elif isinstance(piece, int):
                self.wait = piece
                self.pieces.popleft()
                return True
            else:
                try:
                    sent = self.target.send(piece)
                except BlockingIOError:
                    return moved
                except OSError:
                    sent = len(piece)
                if sent < len(piece):
                    self.pieces[0] = piece[sent:]
                    return True
            self.pieces.popleft()
            moved = True
        if self.ending and not self.ended:
            self.end()
            moved = True
        return moved

    def receive(self):
        if self.ending or len(self.pieces) > 100:
            return False
        try:
            data = self.source.recv(65536)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self.pieces.append(self.held + bytes(self.incoming))
            self.ending = True
            return True
        self.incoming += data
        while len(self.incoming) >= 5 and not self.ending:
            size = 5 + int.from_bytes(self.incoming[3:5], "big")
            if len(self.incoming) < size:
                break
            record = bytes(self.incoming[:size])
            del self.incoming[:size]
            self.forward(record)
        return True

    def forward(self, record):
        self.first = self.first or record
        fault = self.faults.get(self.records)
        self.records += 1
        held, self.held = self.held, b""
        pieces = [record]
        if fault:
            self.case.did("record %d: %s" % (self.records - 1, fault))
            pieces = getattr(self, "do_" + fault)(record)
        self.pieces.extend(pieces)
        if held:
            self.pieces.append(held)
        self.pieces.append(self.case.tick)

    def end(self):
        self.ending = self.ended = True
        try:
            self.target.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def noise(self, size):
        start = self.rng.randrange(len(NOISE) - size)
        return NOISE[start : start + size]

    def do_split(self, record):
        pieces = []
        while record:
            size = self.rng.choice([1, 2, 4, 5, 6, 100, 5000])
            pieces += [record[:size], self.rng.randrange(3)]
            record = record[size:]
        return pieces

    def do_delay(self, record):
        return [self.rng.randrange(1, 30), record]

    def do_corrupt(self, record):
        changed = bytearray(record)
        for _ in range(self.rng.choice([1, 1, 5])):
            changed[self.rng.randrange(min(5, len(record) - 1), len(record))] ^= 1 << self.rng.randrange(8)
        return [bytes(changed)]

    def do_header(self, record):
        changed = bytearray(record)
        changed[self.rng.randrange(5)] ^= 1 << self.rng.randrange(8)
        return [bytes(changed)]

    def do_truncate(self, record):
        self.ending = True
        return [record[: self.rng.randrange(len(record))]]

    def do_cut(self, record):
        return [record[: self.rng.randrange(len(record))]]

    def do_replay(self, record):
        return [record, record]

    def do_reorder(self, record):
        self.held = record
        return []

    def do_drop(self, record):
        return []

    def do_garbage(self, record):
        return [self.noise(self.rng.choice([1, 5, 300, 20000])), record]

    def do_oversized(self, record):
        size = self.rng.choice([16384 + 257, 20000, 65535])
        return [bytes([self.rng.choice([22, 23])]) + b"\3\3" + size.to_bytes(2, "big") + self.noise(size), record]

    def do_empty(self, record):
        kind = self.rng.choice([20, 21, 22, 23, 24])
        return [bytes([kind, 3, 3, 0, 0]) * self.rng.choice([1, 40, 2000]), record]

    def do_alert(self, record):
        return [b"\x15\3\3\0\2" + bytes([self.rng.choice([1, 2]), self.rng.choice([0, 10, 40, 90, 100, 255])]), record]

    def do_ccs(self, record):
        return [b"\x14\3\3\0\1\1" * self.rng.choice([1, 40]), record]

    def do_eof(self, record):
        self.ending = True
        return []

    def do_reset(self, record):
        for sock in self.source, self.target:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
        self.ending = True
        return []

    def do_plain(self, record):
        return [self.rng.choice([b"GET / HTTP/1.1\r\n\r\n", b"\x80\x2e\x01\x00\x02", b"220 ready\r\n"]), record]

    def do_hello(self, record):
        return [record, self.first]

    def do_flood(self, record):
        return [record * self.rng.choice([10, 300])]


# A case


class Contexts:
    def __init__(self):
        trustme = importlib.import_module("trustme")
        self.authority = trustme.CA()
        self.certificate = self.authority.issue_cert("localhost")
        self.made = {}

    def make(self, side, version, alpn):
        key = side, version, alpn
        if key not in self.made:
            self.made[key] = self.new(*key)
        return self.made[key]

    def new(self, side, version, alpn):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if side else ssl.PROTOCOL_TLS_CLIENT)
        if side:
            self.certificate.configure_cert(context)
            context.options |= ALLOW_CLIENT_RENEGOTIATION
            context.options &= ~getattr(ssl, "OP_NO_RENEGOTIATION", 0)
        else:
            self.authority.configure_trust(context)
        context.minimum_version = context.maximum_version = version
        if alpn:
            context.set_alpn_protocols(list(alpn))
        return context


class Case:
    def __init__(self, number, contexts, library):
        self.number, self.library, self.rng = number, library, random.Random(number)
        self.notes, self.findings, self.tally = [], [], collections.Counter()
        self.steps, self.ends, self.others, self.socks = -BEFORE, [], [], []
        rng = self.rng
        self.version = rng.choice([ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
        self.sizes = [rng.choice([0, 1, 1000, 16384, 100000, 300000]) for _ in range(2)]
        self.offsets = [rng.randrange(1 << 17) for _ in range(2)]
        self.styles = [rng.choice(sorted(STYLES)) for _ in range(2)]
        starts_tls = rng.random() < 0.4
        self.upgrades = [starts_tls and style != "streams" for style in self.styles]
        self.kind = rng.choice(["unix", "tcp"])
        self.name = "localhost" if rng.random() < 0.95 else "elsewhere"
        alpns = [(), (), ("a",), ("a", "b")]
        alpn = [rng.choice(alpns), rng.choice(alpns + [("c",)])]
        callback = rng.random() < 0.35
        make = contexts.new if callback else contexts.make
        self.contexts = [make(side, self.version, alpn[side]) for side in range(2)]
        if callback:
            self.set_callbacks()

        def at():  # mostly in the handshake
            return min(int(rng.expovariate(0.2)), 40)

        faults = [{at(): rng.choice(HARMLESS) for _ in range(rng.choice([0, 1, 5]))} for _ in range(2)]
        self.hostile = rng.random() < 0.7
        if self.hostile and rng.random() < 0.7:
            for _ in range(rng.choice([1, 1, 1, 3])):
                faults[rng.randrange(2)][at()] = rng.choice(FAULTS)
        self.faults = faults
        self.events = collections.defaultdict(list)
        harmless = ["update", "update", "pause", "collect"]
        hostile = ["close", "abort", "cancel", "raw close", "raw abort", "renegotiate", "turn"]
        for _ in range(rng.choice([0, 0, 1, 4])):
            what = rng.choice(harmless + (hostile if self.hostile else []))
            later = 10 if what in ("update", "renegotiate", "pause") else -BEFORE  # these need a connection
            self.events[at() + later].append((rng.randrange(2), what))

    def data(self, side):
        return NOISE[self.offsets[side] : self.offsets[side] + self.sizes[side]]

    def did(self, what):
        self.notes.append(what)
        self.tally["done"] += 1
        self.tally["did " + re.sub(r".*: ", "", what)] += 1

    def found(self, what):
        self.findings.append(what)

    # Callbacks of the contexts

    def set_callbacks(self):
        rng = self.rng
        for context in self.contexts:
            if rng.random() < 0.5:
                at, what, calls = rng.randrange(12), self.choose(), [0]

                def message(
                    connection, direction, version, content_type, msg_type, data, at=at, what=what, calls=calls
                ):
                    calls[0] += 1
                    if calls[0] == at:
                        return self.call_back("msg", what)

                context._msg_callback = message
        if rng.random() < 0.6:
            what = rng.choice([self.choose(), "alert", "bad", "swap", "none"])
            other = self.contexts[1]

            def named(sslobj, name, context):
                if what == "swap":
                    sslobj.context = other
                return {"alert": ssl.ALERT_DESCRIPTION_INTERNAL_ERROR, "bad": "bad"}.get(what) or self.call_back(
                    "sni", what
                )

            self.contexts[1].sni_callback = named

    def choose(self):
        return self.rng.choice(
            ["raise", "close", "abort", "cancel", "collect", "raw abort", "raw close", "turn", "none"]
        )

    def call_back(self, which, what):
        if not self.hostile or what in ("none", "swap"):
            return None
        self.did("%s callback: %s" % (which, what))
        if what == "raise":
            raise Planned
        self.act(self.rng.randrange(2), what)
        return None

    # What happens at a step

    def tick(self):
        """One more record was forwarded."""
        for side, what in self.events.pop(self.steps, ()):
            self.did("step %d, side %d: %s" % (self.steps, side, what))
            self.act(side, what)
        self.steps += 1

    def act(self, side, what):
        if not self.ends:
            return
        end = self.ends[side]
        transport = end.transport
        if what == "collect":
            gc.collect(1)
        elif what == "turn":
            loop = asyncio.get_running_loop()
            if asyncio.current_task() is None:
                loop._run_once()
            else:  # no task may run within another
                loop.call_soon(loop._run_once)
        elif what == "cancel":
            end.task.cancel()
            self.others_end(end)
        elif what.startswith("raw "):
            raw = end.raw or transport
            if raw is not None:
                getattr(raw, what[4:])()
        elif transport is None:
            pass
        elif what in ("close", "abort"):
            getattr(transport, what)()
        elif what == "pause":
            if end.made and not transport.is_closing():
                transport.pause_reading()
                asyncio.get_running_loop().call_later(0.005, self.resume, end)
        elif end.made:
            self.tally["of OpenSSL"] += self.by_openssl(transport.get_extra_info("ssl_object"), what)

    def others_end(self, end):
        """Its task may have been talking: somebody has to close."""
        if end.made:
            end.transport.abort()

    def resume(self, end):
        if not end.over.done():
            end.transport.resume_reading()

    def by_openssl(self, ssl_object, what):
        if self.version == ssl.TLSVersion.TLSv1_3:
            return self.library.call("SSL_key_update", ssl_object, self.rng.choice([0, 1]))  # 1: the peer must, too
        return what == "renegotiate" and self.library.call("SSL_renegotiate", ssl_object)

    # All of it

    def pair(self):
        if self.kind == "unix":
            return socket.socketpair()
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(1)
            ours = socket.create_connection(listener.getsockname())
            return ours, listener.accept()[0]

    async def run(self):
        loop = asyncio.get_running_loop()
        client, near = self.pair()
        far, server = self.pair()
        self.socks = [client, server]
        for sock in client, near, far, server:
            sock.setblocking(False)
        ways = [Way(self, near, far, self.faults[0]), Way(self, far, near, self.faults[1])]
        self.ends = [STYLES[style](self, side) for side, style in enumerate(self.styles)]
        for end in self.ends:
            end.task = loop.create_task(end.connect())
        try:
            for _ in range(BEFORE):
                self.tick()
                await asyncio.sleep(0)
            await self.proxy(ways)
            for sock in near, far:
                sock.close()
            deadline = loop.time() + LIMIT_S
            left = [end.task for end in self.ends] + [end.over for end in self.ends]
            while left and loop.time() < deadline:
                await asyncio.wait(left, timeout=0.1)
                left = [thing for thing in left if not thing.done()]
                if all(end.over.done() or self.never_began(end) for end in self.ends):
                    left = [end.task for end in self.ends if not end.task.done()]
            for end in self.ends:
                if not end.over.done() and not self.never_began(end):
                    self.found("side %d is not told of its end" % end.side)
                elif not end.task.done():
                    self.found("the task of side %d does not end" % end.side)
            self.judge()
        finally:
            for sock in near, far:
                sock.close()
            for task in [end.task for end in self.ends] + self.others:
                task.cancel()
            for end in self.ends:
                for transport in end.transport, end.raw:
                    if transport is not None:
                        transport.abort()
            await asyncio.wait([end.task for end in self.ends] + self.others, timeout=LIMIT_S)
            for sock in self.socks:  # a task that was cancelled before its first step has not taken it
                sock.close()
            for _ in range(5):
                await asyncio.sleep(0)
            if self.has_callbacks():  # the collector does not see through the ssl module's objects
                self.contexts[1].sni_callback = None
                for context in self.contexts:
                    context._msg_callback = None

    @staticmethod
    def never_began(end):
        return end.task.cancelled() and not end.made

    async def proxy(self, ways):
        """Forwards until both ends are over, or nothing moves any more."""
        loop = asyncio.get_running_loop()
        moved_at, idle = loop.time(), 0
        while not all(end.over.done() for end in self.ends) or any(way.pieces for way in ways):
            if any([way.step() for way in ways]):
                moved_at, idle = loop.time(), 0
            else:
                idle += 1
                if idle > 60 and loop.time() - moved_at > QUIET_S:
                    self.notes.append("quiet")
                    return
            if all(way.ended for way in ways):
                return
            await asyncio.sleep(0 if idle < 20 else 0.001)

    def judge(self):
        names = ["client", "server"]
        for end, name in zip(self.ends, names):
            if end.error is not None:
                self.check_error(end, name)
            self.tally["ended with an error" if end.error is not None else "ended cleanly"] += 1
        if not self.is_harmless() or any(getattr(end.error, "reason", None) in NOT_READY for end in self.ends):
            return
        self.tally["undisturbed"] += 1
        for end, name in zip(self.ends, names):
            if self.hostile and isinstance(end.error, TimeoutError) and end.got == end.to_get:
                continue  # 2 seconds are little on a busy machine
            if end.error is not None or end.got != end.to_get:
                self.found(
                    "the %s of an undisturbed connection got %d of %d: %r" % (name, end.got, end.to_get, end.error)
                )

    def check_error(self, end, name):
        if not isinstance(end.error, EXPECTED + (Planned,)):
            self.found("the %s ended with %r" % (name, end.error))

    def is_harmless(self):
        """Whether nothing was done that may end it."""
        harmful = set(FAULTS) | {"close", "abort", "cancel", "raw close", "raw abort", "renegotiate", "turn", "raise"}
        did = {re.sub(r".*: ", "", note) for note in self.notes}
        return not did & harmful and self.name == "localhost" and not self.has_callbacks()

    def has_callbacks(self):
        return any(context.sni_callback or context._msg_callback for context in self.contexts)


# The process of some cases


class Child:
    def __init__(self, options):
        self.options = options
        self.log = os.open(options.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        module = importlib.import_module(options.loop)
        self.counts = getattr(getattr(module, "_cloop", None), "counts", dict)
        self.contexts, self.library = Contexts(), Library()
        self.loop = module.new_event_loop()
        self.loop.set_exception_handler(self.report)
        self.tally = collections.Counter()
        self.case, self.late = None, []

    def report(self, loop, context):
        self.tally["reports"] += 1
        error = context.get("exception")
        if error is not None and not isinstance(error, EXPECTED + (Planned,)):
            findings = self.late if self.case is None else self.case.findings
            findings.append("reported: %s, %r" % (context["message"], error))

    def left(self, before):
        """What is there now and was not before."""
        descriptors, counts = before
        found = ["descriptor %s" % fd for fd in sorted(set(os.listdir("/proc/self/fd")) - descriptors)]
        found = [text for text in found if os.path.exists("/proc/self/fd/" + text.split()[1])]
        now = self.counts()
        return found + [
            "%d %s" % (now[name] - counts.get(name, 0), name) for name in now if now[name] > counts.get(name, 0)
        ]

    def one(self, number):
        os.write(self.log, b"case %d\n" % number)
        faulthandler.dump_traceback_later(HANG_S, exit=True)
        before = set(os.listdir("/proc/self/fd")), self.counts()
        case = self.case = Case(number, self.contexts, self.library)
        try:
            self.loop.run_until_complete(case.run())
        except Exception as error:
            case.found("the case failed: %r" % error)
        findings, notes, tally = case.findings, case.notes, case.tally
        self.case = case = None
        for _ in range(100):
            gc.collect()
            left = self.left(before)
            if not left:
                break
            self.loop.run_until_complete(asyncio.sleep(0.001))
        findings += self.late + (["left: " + ", ".join(left)] if left else [])
        self.late = []
        self.tally.update(tally)
        self.tally["cases"] += 1
        if findings or self.options.only is not None:
            for note in notes:
                os.write(self.log, ("    %s\n" % note).encode())
        for finding in findings:
            os.write(self.log, ("found %d %s\n" % (number, finding)).encode())

    def run(self):
        gc.collect()
        gc.freeze()
        end = time.monotonic() + self.options.seconds
        number = self.options.only if self.options.only is not None else self.options.seed
        for n in range(1 if self.options.only is not None else CASES):
            self.one(number + n)
            if time.monotonic() > end:
                break
        self.loop.close()
        for name, count in self.tally.items():
            os.write(self.log, ("tally %d %s\n" % (count, name)).encode())
        faulthandler.cancel_dump_traceback_later()


def child(options):
    """Runs some cases; what came of them, and the status of the process."""
    with tempfile.TemporaryDirectory() as folder:
        log = os.path.join(folder, "log")
        command = [sys.executable, "-X", "faulthandler", "-W", "ignore", os.path.abspath(__file__), "--log", log]
        command += ["--seed", str(options.seed), "--loop", options.loop, "--seconds", str(options.seconds)]
        command += ["--only", str(options.only)] if options.only is not None else []
        env = dict(os.environ, CLOOP_TLS=WAYS[options.way])
        if not env["CLOOP_TLS"]:
            del env["CLOOP_TLS"]
        process = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            err = process.communicate(timeout=CASES * HANG_S)[1]
        finally:
            process.kill()
        lines = []
        if os.path.exists(log):
            with open(log, errors="replace") as file:
                lines = file.read().splitlines()
    return process.returncode, err.decode(errors="replace"), lines


def main():
    parser = argparse.ArgumentParser(prog="tests/trust/hostile_tls.py", description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 30), help="the first case")
    parser.add_argument("--only", type=int, help="one case, and what was done")
    parser.add_argument("--way", choices=sorted(WAYS), help="by default one, then the other")
    parser.add_argument("--loop", default="cloop", help="the module whose new_event_loop() makes it")
    parser.add_argument("--log", help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    if options.log:
        Child(options).run()
        return 0
    print("seed %d" % options.seed, flush=True)
    ways = [options.way] if options.way else list(WAYS)
    tally, findings, end, turn = collections.Counter(), 0, time.monotonic() + options.seconds, 0
    first = dict.fromkeys(ways, options.seed)
    while True:
        way = ways[turn % len(ways)]
        turn += 1
        one = argparse.Namespace(**dict(vars(options), way=way, seed=first[way]))
        one.seconds = max(0, end - time.monotonic()) / (len(ways) if turn < len(ways) else 1)
        status, err, lines = child(one)
        cases = [int(line.split()[1]) for line in lines if line.startswith("case ")]
        first[way] = max(cases, default=first[way]) + 1
        found = [line for line in lines if line.startswith("found ")]
        if status:
            found.append("found %d a process that ended with status %d\n%s" % (max(cases, default=-1), status, err))
        for line in lines:
            if line.startswith("tally "):
                _, count, name = line.split(" ", 2)
                tally[name] += int(count)
                tally[way] += int(count) if name == "cases" else 0
        for line in found:
            print("FINDING: --only %s --way %s: %s" % (line.split(" ", 2)[1], way, line.split(" ", 2)[2]), flush=True)
        if options.only is not None:
            print("\n".join(line for line in lines if line.startswith("    ")))
        findings += len(found)
        if turn >= len(ways) and (options.only is not None or time.monotonic() >= end):
            break
    done = {name[4:]: count for name, count in tally.items() if name.startswith("did ")}
    print("done: " + ", ".join("%s %d" % item for item in sorted(done.items())))
    print("key updates and renegotiations: %d, ends with an error: %d, without: %d, reports: %d" % (
        tally["of OpenSSL"], tally["ended with an error"], tally["ended cleanly"], tally["reports"]))  # fmt: skip
    print("cases: %d (%s), handshakes: %d, undisturbed: %d, hostile acts: %d, findings: %d" % (
        tally["cases"], ", ".join("%s %d" % (way, tally[way]) for way in ways), tally["handshakes"], tally["undisturbed"],
        tally["done"], findings))  # fmt: skip
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
