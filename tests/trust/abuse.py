"""Whatever a program does with what cloop gives it, the process does not die, and no call fails in a way that only C code can.

A seed makes objects of each kind: loops that run, that are closed, of other threads; handles, futures, tasks, transports,
servers, streams, half-built ones, subclasses. Then any method is called with any of these as arguments, attributes are set and
deleted, types are called; callbacks, protocols, destructors and special methods do the same in turn, raise anything, collect
garbage, run a nested turn, or drop what they have. Each seed runs in a process of its own. A finding is a process that dies or
hangs, a SystemError, or a new loop that does not work afterwards.

    python tests/trust/abuse.py [--seconds 60] [--seed N] [--loop cloop|asyncio]
    python tests/trust/abuse.py --only N        this seed, again; the last steps are shown
"""

import argparse
import asyncio
import collections
import copy
import faulthandler
import gc
import importlib
import os
import random
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import weakref

STEPS = 3000
DEPTH = 3
HANG_S = 60
EXCEPTIONS = [
    ValueError, KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError, StopIteration, StopAsyncIteration,
    MemoryError, asyncio.TimeoutError, BlockingIOError, InterruptedError, OSError, BaseException, RuntimeError, RecursionError,
]  # fmt: skip
# What ends this process or others, by purpose.
NOT_CALLED = {
    "kill", "terminate", "send_signal", "_exit", "_damage", "_stress", "__subclasses__", "fork", "__delattr__", "__setattr__",
    "_check",
}  # fmt: skip
KEYWORDS = ["loop", "context", "msg", "ssl", "sock", "limit", "name", "timeout", "server_hostname", "data", "n", "when"]


def is_known(thing, name):
    """CPython 3.11's own iterator returns NULL without an exception if it is asked again after its end."""
    return type(thing).__module__ == "_asyncio" and name == "send"


class TooLong(BaseException):
    pass


class Abuse:
    def __init__(self, seed, new_loop, log):
        self.random = random.Random(seed)
        self.new_loop, self.log = new_loop, log
        self.things, self.depth, self.steps = [], threading.local(), 0
        self.system_errors = []
        self.threads = seed % 3 == 0

    # What there is

    def add(self, thing):
        if thing is None or isinstance(thing, (str, int, float, bytes, tuple, type)) and type(thing).__name__ != "Odd":
            return thing
        if len(self.things) < 300:
            self.things.append(thing)
        else:
            self.things[self.random.randrange(len(self.things))] = thing
        return thing

    def types(self):
        found, left = set(), [object]
        while left:
            for cls in type.__subclasses__(left.pop()):
                if cls not in found:
                    found.add(cls)
                    left.append(cls)
        mine = [cls for cls in found if str(cls.__module__).split(".")[0] in ("cloop", "_cloop")]
        return sorted(mine, key=lambda cls: cls.__module__ + cls.__qualname__)

    async def fill(self, loop):
        """One of each kind, alive."""
        add, hostile = self.add, self.callback
        self.add(loop)
        future = add(loop.create_future())
        add(loop.create_task(self.coroutine()))
        add(asyncio.gather(asyncio.sleep(0), future))
        add(loop.call_soon(hostile()))
        add(loop.call_later(0.01, hostile(), 1, 2))
        add(loop.call_soon_threadsafe(hostile()))
        add(future.__await__())
        server = add(await loop.create_server(self.protocol, "127.0.0.1", 0))
        add((await loop.create_connection(self.protocol, *server.sockets[0].getsockname()))[0])
        streams = add(await asyncio.start_server(self.served, "127.0.0.1", 0))
        for thing in await asyncio.open_connection(*streams.sockets[0].getsockname()):
            add(thing)
        ours, theirs = socket.socketpair()
        add(theirs)
        add((await loop.create_connection(self.protocol, sock=ours))[0])
        first, second = socket.socketpair()
        first.setblocking(False)
        add(first), add(second)
        loop.add_reader(second, hostile())
        add(loop.sock_recv(first, 10))
        add(asyncio.ensure_future(loop.sock_recv(first, 10)))
        add((await loop.create_datagram_endpoint(self.protocol, ("127.0.0.1", 0)))[0])
        r, w = os.pipe()
        add((await loop.connect_read_pipe(self.protocol, open(r, "rb", 0)))[0])
        add((await loop.connect_write_pipe(self.protocol, open(w, "wb", 0)))[0])
        add(loop.run_in_executor(None, int))
        add(asyncio.Event()), add(asyncio.Lock()), add(asyncio.Queue()), add(asyncio.StreamReader())
        add(asyncio.sleep(0.001)), add(asyncio.wait_for(future, 1)), add(asyncio.shield(future))
        if self.random.random() < 0.2:
            add(await asyncio.create_subprocess_exec("/bin/true", stdin=-1, stdout=-1))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        add(context)
        if self.random.random() < 0.5:
            ours, theirs = socket.socketpair()
            add(theirs)
            add(
                asyncio.ensure_future(
                    loop.create_connection(self.protocol, sock=ours, ssl=context, server_hostname="x")
                )
            )
        for name in ("metrics",):
            if hasattr(loop, name):
                add(getattr(loop, name)())

    def argument(self):
        rng = self.random
        kind = rng.randrange(10)
        if kind < 4 and self.things:
            return rng.choice(self.things)
        if kind == 4:
            return self.callback()
        if kind == 5:
            return self.protocol if rng.random() < 0.5 else self.coroutine()
        if kind == 6:
            return self.odd()
        plain = [
            None, True, -1, 0, 1, 7, 100, 2**31, 2**63, 10**30, 0.0, 0.001, -1.0, 1e300, float("nan"), float("inf"),
            "", "127.0.0.1", "a b", "\udc80", b"", b"x", b"x" * 100000, bytearray(b"abc"), memoryview(b"abc"),
            (), ("127.0.0.1", 0), [], [b"a", b"b"], {}, {"loop": 1}, int, object(), ValueError, ValueError("x"),
            asyncio.CancelledError(), StopIteration(1), asyncio.Protocol, iter([b"a"]), range(3),
        ]  # fmt: skip
        return rng.choice(plain)

    # What acts by itself

    def coroutine(self):
        async def acts():
            for _ in range(self.random.randrange(4)):
                self.act("coroutine")
                await self.random.choice([asyncio.sleep(0), asyncio.sleep(0.0001)])
            return 1

        return acts()

    def callback(self):
        def called(*args, **kwargs):
            self.act("callback")
            return self.random.choice([None, 1, True, self.argument()])

        return called

    async def served(self, reader, writer):
        self.add(reader)
        self.add(writer)
        self.act("served")

    def protocol(self, *args):
        abuse = self
        kinds = [
            asyncio.Protocol,
            asyncio.BufferedProtocol,
            asyncio.DatagramProtocol,
            asyncio.SubprocessProtocol,
            object,
        ]

        def act(name):
            def method(self, *args):
                for arg in args:
                    if name == "connection_made":
                        abuse.add(arg)
                abuse.act(name)
                if name == "get_buffer":
                    return abuse.random.choice([bytearray(100), bytearray(0), b"abc", None, abuse.argument()])
                return abuse.random.choice([None, True, abuse.argument()])

            return method

        names = [
            "connection_made",
            "connection_lost",
            "eof_received",
            "pause_writing",
            "resume_writing",
            "data_received",
        ]
        names += [
            "datagram_received",
            "error_received",
            "pipe_data_received",
            "process_exited",
            "get_buffer",
            "buffer_updated",
        ]
        chosen = [name for name in names if self.random.random() < 0.8]
        return type("Hostile", (self.random.choice(kinds),), {name: act(name) for name in chosen})()

    def odd(self):
        """An object whose special methods act."""
        abuse = self

        def act(name, value):
            def method(self, *args):
                abuse.act(name)
                return value() if callable(value) else value

            return method

        values = {
            "__del__": None, "__eq__": True, "__hash__": 1, "__bool__": True, "__index__": 3, "__float__": 0.001, "__len__": 2,
            "__iter__": lambda: iter([b"a", 1]), "__repr__": "odd", "__call__": None, "__await__": lambda: iter([None]),
            "fileno": 1000, "__enter__": None, "__fspath__": "/nonexistent", "__next__": b"x", "close": None, "send": 1,
            "__lt__": False, "throw": None, "cancel": True, "add_done_callback": None, "_asyncio_future_blocking": True,
        }  # fmt: skip
        bases = self.random.choice([(), (), (float,), (int,), (str,), (bytes,), (asyncio.Future,), (asyncio.Handle,)])
        chosen = {name: act(name, value) for name, value in values.items() if self.random.random() < 0.4}
        try:
            return type("Odd", bases, chosen)()
        except Exception:
            return None

    # Steps

    def act(self, where):
        """A few steps, from a callback of any kind; then it may raise anything."""
        depth = getattr(self.depth, "now", 0)
        if depth >= DEPTH:
            return
        self.depth.now = depth + 1
        try:
            for _ in range(self.random.randrange(3)):
                self.step()
        finally:
            self.depth.now = depth
        if self.random.random() < 0.15:
            raise self.random.choice(EXCEPTIONS)

    def note(self, *words):
        self.steps += 1
        os.write(self.log, ("%s\n" % " ".join(map(str, words))).encode("utf-8", "replace"))

    def step(self):
        try:
            self.one()
        except TooLong:
            raise
        except SystemError as error:
            words, at = "SystemError: %s" % error, error.__traceback__
            while at is not None:
                words, at = "%s <- %s:%d" % (words, at.tb_frame.f_code.co_name, at.tb_lineno), at.tb_next
            self.note(words)
            self.system_errors.append(words)
        except BaseException:
            pass

    def one(self):
        rng = self.random
        kind = rng.random()
        thing = rng.choice(self.things) if self.things else None
        if kind < 0.6:
            self.call(thing)
        elif kind < 0.68:
            name = rng.choice(dir(thing))
            if "pid" not in name and "proc" not in name and name != "__class__":
                value = self.argument()
                self.note("set", type(thing).__name__, name, type(value).__name__)
                setattr(thing, name, value)
        elif kind < 0.7:
            name = rng.choice(dir(thing))
            self.note("del", type(thing).__name__, name)
            delattr(thing, name)
        elif kind < 0.75:
            self.note("look at", type(thing).__name__)
            repr(thing), hash(thing), thing == self.argument(), bool(thing), str(thing)
            for name in rng.sample(dir(thing), min(5, len(dir(thing)))):
                getattr(thing, name, None)
        elif kind < 0.8:
            self.build()
        elif kind < 0.83:
            self.note("collect")
            gc.collect(rng.randrange(3))
        elif kind < 0.86:
            self.note("drop")
            if self.things:
                del self.things[rng.randrange(len(self.things))]
        elif kind < 0.88:
            self.note("copy", type(thing).__name__)
            self.add(copy.copy(thing))
            self.add(weakref.ref(thing, self.callback()))
        elif kind < 0.92:
            self.note("iterate", type(thing).__name__)
            made = thing.__await__() if hasattr(thing, "__await__") else iter(thing)
            self.add(made)
            rng.choice(
                [
                    lambda: next(made),
                    lambda: is_known(made, "send") or made.send(self.argument()),
                    lambda: made.throw(ValueError),
                    made.close,
                ]
            )()
        elif kind < 0.96:
            loop = rng.choice([one for one in self.things if isinstance(one, asyncio.AbstractEventLoop)])
            self.note("nested turn")
            rng.choice([lambda: loop._run_once(), lambda: self.turn(loop)])()
        elif self.threads:
            self.note("thread")
            threading.Thread(target=self.step, daemon=True).start()
        else:
            self.note("schedule")
            loop = rng.choice([one for one in self.things if isinstance(one, asyncio.AbstractEventLoop)])
            self.add(rng.choice([loop.call_soon, loop.call_soon_threadsafe])(self.callback()))

    def call(self, thing):
        rng = self.random
        name = rng.choice(dir(thing))
        if name in NOT_CALLED or is_known(thing, name):
            return
        method = getattr(thing, name)
        if not callable(method):
            return
        args = [self.argument() for _ in range(rng.choice([0, 0, 1, 1, 1, 2, 2, 3, 4]))]
        kwargs = {rng.choice(KEYWORDS): self.argument()} if rng.random() < 0.1 else {}
        self.note("call", type(thing).__name__, name, [type(arg).__name__ for arg in args], list(kwargs))
        try:
            result = method(*args, **kwargs)
        except SystemError as error:
            raise SystemError(
                "%s: %r of %s with %s" % (error, name, type(thing), [type(arg) for arg in args])
            ) from None
        if result is not None and rng.random() < 0.5:
            self.add(result)
        if asyncio.iscoroutine(result) and rng.random() < 0.7:
            self.add(asyncio.ensure_future(result))

    def build(self):
        rng = self.random
        cls = rng.choice(self.types())
        how = rng.randrange(4)
        self.note("build", cls.__name__, how)
        if how == 0:
            self.add(cls.__new__(cls))
        elif how == 1:
            self.add(cls(*[self.argument() for _ in range(rng.randrange(4))]))
        elif how == 2:
            self.add(type("Sub", (cls,), {"__slots__": ()} if rng.random() < 0.3 else {}).__new__(cls))
        else:
            cls.__init__(rng.choice(self.things), *[self.argument() for _ in range(rng.randrange(3))])

    def turn(self, loop):
        loop.call_soon(loop.stop)
        loop.run_forever()

    def run(self, steps):
        signal.signal(signal.SIGALRM, self.too_long)
        loops = [self.new_loop() for _ in range(3)]
        loops[2].close()
        for loop in loops:
            self.add(loop)
            loop.set_exception_handler(self.callback() if self.random.random() < 0.3 else lambda loop, context: None)
            if self.random.random() < 0.2:
                loop.set_debug(True)
        for number in range(steps):
            faulthandler.dump_traceback_later(HANG_S, exit=True)
            loop = loops[0]
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            try:
                if number % 300 == 0 or len(self.things) < 20:
                    loops[0] = loop = self.new_loop()
                    asyncio._set_running_loop(None)
                    asyncio.set_event_loop(loop)
                    loop.run_until_complete(self.fill(loop))
                self.step()
                if number % 5 == 0:
                    self.turn(self.random.choice(loops))
            except BaseException:
                pass
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            try:
                usable = not loop.is_closed() and not loop.is_running()
            except BaseException:  # it has other methods by now
                usable = False
            if not usable:
                loops[0] = self.new_loop()
                self.add(loops[0])

    def too_long(self, number, frame):
        signal.setitimer(signal.ITIMER_REAL, 0.2)  # it may be caught
        raise TooLong


def child(options):
    real_kill = os.kill

    def kill(pid, number):
        if pid <= 1 or pid == os.getpid():
            raise ProcessLookupError
        real_kill(pid, number)

    os.kill = kill
    faulthandler.enable()
    sys.unraisablehook = lambda unraisable: None
    threading.excepthook = lambda args: None
    new_loop = importlib.import_module(options.loop).new_event_loop
    log = os.open(options.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.set_inheritable(log, False)
    os.dup2(log, 900, inheritable=False)  # where nobody closes it by accident
    os.close(log)
    abuse = Abuse(options.only, new_loop, 900)
    abuse.run(STEPS)
    status = 0
    try:
        signal.setitimer(signal.ITIMER_REAL, 0)
        del abuse.things[:]
        gc.collect()
        asyncio._set_running_loop(None)
        asyncio.set_event_loop(None)
        fresh = new_loop()
        fresh.run_until_complete(asyncio.wait_for(asyncio.sleep(0.001), 20))
        fresh.close()
    except BaseException as error:
        os.write(900, ("a new loop does not work: %r\n" % error).encode())
        status = 3
    if abuse.system_errors:
        os.write(900, ("SystemError: %s\n" % abuse.system_errors[0]).encode())
        status = 4
    os.write(900, b"steps: %d\n" % abuse.steps)
    os._exit(status)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 30), help="the first one")
    parser.add_argument("--only", type=int, help="one seed, whose last steps are shown")
    parser.add_argument("--loop", default="cloop", help="the module whose new_event_loop() makes it")
    parser.add_argument("--log", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.log:
        child(options)
    print("seed %d" % options.seed, flush=True)
    end, seed, steps, findings = time.monotonic() + options.seconds, options.seed, 0, collections.Counter()
    done = 0
    while time.monotonic() < end:
        number = seed + done if options.only is None else options.only
        with tempfile.TemporaryDirectory() as folder:
            log = os.path.join(folder, "log")
            command = [sys.executable, "-W", "ignore", os.path.abspath(__file__), "--only", str(number), "--log", log]
            process = subprocess.Popen(
                command + ["--loop", options.loop], cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE, start_new_session=True,
            )  # fmt: skip
            try:
                err = process.communicate(timeout=10 * HANG_S)[1]
                status = process.returncode
            except subprocess.TimeoutExpired:
                process.kill()
                err, status = process.communicate()[1], "takes for ever"
            lines = []
            if os.path.exists(log):  # else it did not even begin
                with open(log, errors="replace") as file:
                    lines = file.read().splitlines()
        done += 1
        if lines and lines[-1].startswith("steps: "):
            steps += int(lines[-1].split()[1])
        if status:
            findings[status] += 1
            print("FINDING: seed %d, status %s" % (number, status))
            print("\n".join("    " + line for line in lines[-30 if options.only is not None else -8 :]))
            text = err.decode(errors="replace")
            at = max(text.rfind("Fatal Python error"), text.rfind("Timeout ("))
            print(text[at : at + 4000] if at >= 0 else text[-1000:], flush=True)
        if options.only is not None:
            break
    print("processes: %d, steps: %d, findings: %d" % (done, steps, sum(findings.values())))
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
