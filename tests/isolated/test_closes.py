"""Cancelled operations: every descriptor is closed once, and no byte reaches another connection.

Each round cancels an operation at one of its awaits, immediately reuses the descriptor's number for a new connection,
and checks that exactly its bytes arrive, while the old peer sends others. A preloaded library (closes.c) counts calls
of close() on descriptors that are not open.

CLOOP_TEST_ROUNDS is the number of rounds (default 200). The full number takes about ten minutes:

    CLOOP_TEST_ROUNDS=100000 CLOOP_TEST_LOOPS=cloop pytest tests/isolated/test_closes.py
"""

import json
import os
import pathlib
import shlex
import shutil
import subprocess
import sys

import pytest

ROUNDS = int(os.environ.get("CLOOP_TEST_ROUNDS", 200))

SCRIPT = """
import contextlib, ctypes, gc, json, os, socket, ssl, sys, types
from asyncio import CancelledError

library = ctypes.CDLL(None)
scenario_name, rounds, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3]
loop = new_loop()
reports = []
loop.set_exception_handler(lambda loop, context: reports.append(str(context)))
listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen(100)
listener.setblocking(False)
address = listener.getsockname()
STALE = b"meant for another"


@types.coroutine
def cancelled_at(coroutine, step, cancel):
    "Runs the coroutine; calls cancel() when it waits for the step-th time."
    send, argument = coroutine.send, None
    while True:
        try:
            waited_for = send(argument)
        except StopIteration as stop:
            return stop.value
        if step == 0:
            cancel()
        step -= 1
        try:
            send, argument = coroutine.send, (yield waited_for)
        except BaseException as error:
            send, argument = coroutine.throw, error


class Collecting(asyncio.Protocol):
    def __init__(self):
        self.data = b""
        self.changed = loop.create_future()

    def data_received(self, data):
        self.data += data
        if not self.changed.done():
            self.changed.set_result(None)


class Scenario:
    "start() returns a coroutine; far() the sockets at its other end, as far as there are any."

    def far(self):
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                found.append(listener.accept()[0])
        return found

    def finish(self, result):
        result[0].abort()


class CreateConnection(Scenario):
    def start(self):
        return loop.create_connection(asyncio.Protocol, *address)


class SlowerConnection(Scenario):
    # Not to a loopback address, which may be connected at once.

    def start(self):
        return loop.create_connection(asyncio.Protocol, "0.0.0.0", address[1])


class HappyEyeballs(Scenario):
    def start(self):
        async def getaddrinfo(host, port, **options):
            await asyncio.sleep(0)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address)] * 3

        loop.getaddrinfo = getaddrinfo
        return loop.create_connection(asyncio.Protocol, "a.name", 80, happy_eyeballs_delay=0)


class SockConnect(Scenario):
    async def start(self):
        with socket.socket() as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, address)

    def finish(self, result):
        pass


class SockAccept(Scenario):
    async def start(self):
        self.client = socket.socket()
        self.client.setblocking(False)
        accepting = socket.socket()
        with accepting:
            accepting.bind(("127.0.0.1", 0))
            accepting.listen(1)
            accepting.setblocking(False)
            loop.call_soon(self.client.connect_ex, accepting.getsockname())
            sock, _ = await loop.sock_accept(accepting)
            sock.close()

    def far(self):
        return [self.client]

    def finish(self, result):
        pass


class SockRecv(Scenario):
    async def start(self):
        ours, self.peer = socket.socketpair()
        with ours:
            ours.setblocking(False)
            loop.call_soon(self.peer.send, b"x")
            await loop.sock_recv(ours, 100)

    def far(self):
        return [self.peer]

    def finish(self, result):
        pass


class AcceptedSocket(Scenario):
    def start(self):
        ours, self.peer = socket.socketpair()
        self.peer.send(STALE)
        self.ours = ours
        return self.connect()

    async def connect(self):
        try:
            return await loop.connect_accepted_socket(asyncio.Protocol, self.ours)
        except CancelledError:
            self.ours.close()  # asyncio's does so, or leaves it: closing a socket object twice is harmless
            raise

    def far(self):
        return [self.peer]


class SocketPassedIn(AcceptedSocket):
    async def connect(self):
        try:
            return await loop.create_connection(asyncio.Protocol, sock=self.ours)
        except CancelledError:
            self.ours.close()
            raise


class StartTls(Scenario):
    server_context = client_context = None

    async def start(self):
        if StartTls.server_context is None:
            StartTls.server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            StartTls.server_context.load_cert_chain(folder + "/chain.pem", folder + "/key.pem")
            StartTls.client_context = ssl.create_default_context(cafile=folder + "/ca.pem")
        ours, theirs = socket.socketpair()
        transport, protocol = await loop.create_connection(asyncio.Protocol, sock=ours)
        other, other_protocol = await loop.create_connection(asyncio.Protocol, sock=theirs)

        async def serve():
            try:
                tls = await loop.start_tls(other, other_protocol, self.server_context, server_side=True)
            except (OSError, CancelledError):
                tls = None
            (tls or other).abort()

        serving = loop.create_task(serve())
        try:
            tls = await loop.start_tls(transport, protocol, self.client_context, server_hostname="localhost")
            tls.abort()
        finally:
            transport.abort()
            serving.cancel()
            await asyncio.wait([serving])

    def far(self):
        return []

    def finish(self, result):
        pass


async def one_round(number, step, turns):
    "Returns whether the operation was still going on at that step."
    scenario = globals()[scenario_name]()
    reached = []

    def cancel(turns=turns):
        reached.append(True)
        if turns:
            loop.call_soon(cancel, turns - 1)
        else:
            task.cancel()

    async def operate():
        return await cancelled_at(scenario.start(), step, cancel)

    task = loop.create_task(operate())
    await asyncio.wait([task])
    near, far = socket.socketpair()  # the numbers that have just become free
    others = scenario.far()
    for sock in others:
        with contextlib.suppress(OSError):
            sock.send(STALE)
    tag = b"%08d" % number
    far.setblocking(False)
    far.send(tag)
    transport, protocol = await loop.create_connection(Collecting, sock=near)
    transport.write(tag)
    await protocol.changed
    assert protocol.data == tag, protocol.data
    assert await loop.sock_recv(far, 100) == tag
    if task.cancelled():
        pass
    elif task.exception() is None:
        scenario.finish(task.result())
    for sock in others:
        sock.close()
    await asyncio.sleep(0)
    assert protocol.data == tag, protocol.data
    transport.abort()
    far.close()
    await asyncio.sleep(0)
    return bool(reached)


async def main(rounds):
    step = turns = most = 0
    for number in range(rounds):
        if await one_round(number, step, turns):
            most = max(most, step)
            step += 1
        else:
            step, turns = 0, (turns + 1) % 4
    await asyncio.sleep(0.01)
    return most


loop.run_until_complete(main(10))  # what is opened for good
del reports[:]
gc.collect()
open_before = os.listdir("/proc/self/fd")
good_before, bad_before = library.good_closes(), library.bad_closes()
most = loop.run_until_complete(main(rounds))
gc.collect()
print(json.dumps({
    "bad": library.bad_closes() - bad_before,
    "last bad": library.last_bad_close(),
    "good": library.good_closes() - good_before,
    "left open": len(os.listdir("/proc/self/fd")) - len(open_before),
    "steps": most,
    "reports": reports[:3],
}))
listener.close()
loop.close()
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    """The library that counts closes."""
    compiler = shlex.split(os.environ.get("CC", "cc"))
    if shutil.which(compiler[0]) is None:
        pytest.skip("there is no " + compiler[0])
    library = str(tmp_path_factory.mktemp("closes") / "closes.so")
    source = str(pathlib.Path(__file__).with_name("closes.c"))
    subprocess.run(compiler + ["-shared", "-fPIC", "-O1", "-o", library, source], check=True)
    return library


SCENARIOS = ["CreateConnection", "SlowerConnection", "HappyEyeballs", "SockConnect", "SockAccept", "SockRecv",
             "AcceptedSocket", "SocketPassedIn", "StartTls"]  # fmt: skip
# To check that the steps match the operation: the minimum number of waits after the first.
LEAST_STEPS = {"SlowerConnection": 1, "HappyEyeballs": 1, "StartTls": 3}


@pytest.fixture
def audited(script, shim, monkeypatch):
    """Runs rounds of a scenario; returns the counts."""

    def audited(scenario, rounds, folder=""):
        # after a sanitizer's library, which must be the first
        monkeypatch.setenv("LD_PRELOAD", (os.environ.get("LD_PRELOAD", "") + " " + shim).strip())
        process = script(SCRIPT, scenario, rounds, folder, options=["-W", "ignore"], popen=True)
        try:
            out, err = process.communicate(timeout=60 + rounds / 20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise
        assert process.returncode == 0 and not err, err
        return json.loads(out)

    return audited


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_cancelled_at_each_await(request, audited, loop_class, scenario):
    # asyncio's kept watching before 3.11, and until 3.15 failed if cancelled when ready
    stock_accept = scenario == "SockAccept" and "asyncio" in (getattr(loop_class.sock_accept, "__module__", "") or "")
    if stock_accept and sys.version_info < (3, 11):
        pytest.skip("asyncio's goes on watching")
    folder = request.getfixturevalue("certificates") if scenario == "StartTls" else ""
    seen = audited(scenario, ROUNDS, folder)
    assert seen["bad"] == 0, seen
    assert seen["left open"] == 0, seen
    assert seen["good"] > ROUNDS
    assert seen["steps"] >= LEAST_STEPS.get(scenario, 0)
    if not stock_accept or sys.version_info >= (3, 15):
        assert seen["reports"] == []


def test_shim_counts(script, shim, monkeypatch):
    """A test that cannot fail is none."""
    monkeypatch.setenv("LD_PRELOAD", (os.environ.get("LD_PRELOAD", "") + " " + shim).strip())
    text = """
        import ctypes, os
        library = ctypes.CDLL(None)
        before = library.bad_closes()
        fd = os.dup(0)
        os.close(fd)
        try:
            os.close(fd)
        except OSError:
            pass
        print(library.bad_closes() - before, library.last_bad_close() == fd)
        """
    assert script(text) == "1 True\n"
