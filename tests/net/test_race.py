"""create_connection to several addresses. Those that do not answer are listeners whose queue is full: if a test replaced
sock_connect(), asyncio's methods would run.
"""

import asyncio
import contextlib
import contextvars
import gc
import io
import os
import resource
import socket
import sys
import weakref

import pytest

STREAM = socket.SOCK_STREAM
own_tasks = pytest.mark.skipif(os.environ.get("CLOOP_TASKS") == "stock", reason="asyncio's methods run the race")


@pytest.fixture
def closed(sockets):
    """Creates addresses that refuse connections."""

    def closed(host="127.0.0.1"):
        sock = sockets(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET))
        sock.bind((host, 0))
        return sock.getsockname()[:2]

    return closed


@pytest.fixture
def connect(loop, recorder):
    """Calls create_connection() for a name that has the addresses, which are found at once."""

    def connect(*addresses, factory=recorder, on=loop, **options):
        async def getaddrinfo(host, port, **hints):
            return [(socket.AF_INET6 if ":" in each[0] else socket.AF_INET, STREAM, 6, "", each) for each in addresses]

        on.getaddrinfo = getaddrinfo
        return on.create_connection(factory, "a.name", 80, **options)

    return connect


def peer(transport):
    return transport.get_extra_info("peername")[:2]


DELAYS = pytest.mark.parametrize("delay", [None, 0, 0.001, 60])


@DELAYS
def test_the_first_answers(make, connect, listening, delay, closed, until):
    listener, other = listening(), listening()
    transport, protocol = make(connect(listener.getsockname(), other.getsockname(), happy_eyeballs_delay=delay))
    if delay != 0:  # else they race
        assert peer(transport) == listener.getsockname()
    with (listener if peer(transport) == listener.getsockname() else other).accept()[0] as end:
        end.send(b"x")
        until(lambda: protocol.data == b"x")
        transport.write(b"y")
        assert end.recv(9) == b"y"


@DELAYS
def test_those_that_refuse_are_passed_over(make, connect, listening, delay, closed):
    listener = listening()
    transport, protocol = make(
        connect(closed(), closed(), listener.getsockname(), closed(), happy_eyeballs_delay=delay)
    )
    assert peer(transport) == listener.getsockname()
    assert protocol.calls == ["connection_made"]


@pytest.mark.parametrize("delay", [0, 0.001])
def test_those_that_do_not_answer_are_passed_over(make, connect, listening, silent, closed, delay):
    listener = listening()
    transport, _ = make(connect(silent, closed(), silent, silent, listener.getsockname(), happy_eyeballs_delay=delay))
    assert peer(transport) == listener.getsockname()


def test_an_early_attempt_may_win_late(loop, run, connect, sockets, listening, silent, closed, abandoned, turn):
    """The second refuses; the first answers once its listener takes connections again."""
    slow = sockets(socket.socket())
    slow.bind(("127.0.0.1", 0))
    slow.listen(0)
    filler = sockets(socket.socket())
    filler.connect(slow.getsockname())

    async def main():
        task = loop.create_task(connect(slow.getsockname(), closed(), happy_eyeballs_delay=0))
        for _ in range(30):
            await asyncio.sleep(0)
        assert not task.done()
        sockets(slow.accept()[0])
        transport, _ = await task  # the kernel asks again after a second
        abandoned.add(transport)
        return transport

    assert peer(run(main())) == slow.getsockname()


def test_a_failure_does_not_wait_for_the_delay(make, connect, listening, silent, closed, loop):
    """Of the latest attempt, while an earlier one goes on."""
    listener = listening()
    before = loop.time()
    make(connect(closed(), listener.getsockname(), happy_eyeballs_delay=600))
    make(connect(closed(), closed(), listener.getsockname(), happy_eyeballs_delay=600, interleave=1))
    assert loop.time() - before < 300


@DELAYS
def test_both_families(make, connect, listening, delay, closed, ipv6):
    listener = listening("tcp6")
    transport, _ = make(
        connect(closed(), closed("::1"), closed(), listener.getsockname()[:2], happy_eyeballs_delay=delay)
    )
    assert peer(transport) == listener.getsockname()[:2]


@pytest.mark.parametrize("interleave", [None, 0, 1, 2, 3, -1, True])
@pytest.mark.parametrize("delay", [None, 60])
def test_order(as_asyncio, attempt, resolver, closed, interleave, delay, ipv6):
    """The error names all addresses in the order in which they were tried."""
    resolver["a.name"] = [closed(), closed(), closed(), closed("::1"), closed("::1")]

    async def connecting(loop):
        await loop.create_connection(asyncio.Protocol, "a.name", 80, interleave=interleave, happy_eyeballs_delay=delay)

    kind, text = as_asyncio(lambda loop: attempt(connecting, loop))["result"]
    assert kind is OSError and text.startswith("Multiple exceptions: ") and text.count("Connect call failed") == 5


def errors_of(as_asyncio, attempt, *args, **options):
    """What create_connection() raises, with the types and texts of a group's exceptions, and of the context."""

    async def connecting(loop):
        try:
            transport, _ = await loop.create_connection(asyncio.Protocol, *args, **options)
        except Exception as error:
            inside = [(type(each), str(each)) for each in getattr(error, "exceptions", ())]
            return type(error), str(error), getattr(error, "errno", None), inside, type(error.__context__)
        transport.abort()
        await asyncio.sleep(0)
        return "connected"

    return as_asyncio(lambda loop: attempt(connecting, loop))["result"]


@pytest.mark.parametrize("all_errors", [None, False, True, 1])
@pytest.mark.parametrize("delay", [None, 0, 60])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_errors(as_asyncio, attempt, resolver, closed, all_errors, delay, count):
    """Before 3.12, all_errors is none of the keywords."""
    resolver["a.name"] = [closed() for _ in range(count)] + [("255.255.255.255", 9)] * (count == 3)
    options = {} if all_errors is None else {"all_errors": all_errors}
    told = errors_of(as_asyncio, attempt, "a.name", 80, happy_eyeballs_delay=delay, **options)
    if all_errors is not None and sys.version_info < (3, 12):
        assert told[0] is TypeError
    elif all_errors:
        assert len(told[3]) == count + (count == 3)
    else:
        assert told[1].count("Connect call failed") == count


def test_errors_that_are_the_same(as_asyncio, attempt, resolver, closed):
    resolver["a.name"] = [closed()] * 3
    told = errors_of(as_asyncio, attempt, "a.name", 80, happy_eyeballs_delay=60)
    assert told[0] is ConnectionRefusedError and told[1].count("Connect call failed") == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize(
    "options",
    [
        {"happy_eyeballs_delay": 0.1},
        {"happy_eyeballs_delay": 0},
        {"interleave": 2},
        {"interleave": 0, "happy_eyeballs_delay": 1},
        {"all_errors": True},
    ],
    ids=str,
)
def test_errors_of_one_number(as_asyncio, attempt, closed, host, options, ipv6):
    told = errors_of(as_asyncio, attempt, *closed(host), **options)
    assert told[0] is not str


@pytest.mark.parametrize(
    "delay", ["soon", float("nan"), -1, True, 1.5, 10**400, [], b"1"], ids=lambda delay: str(delay)[:9]
)
@pytest.mark.parametrize("host", ["127.0.0.1", "a.name"])
def test_delays_that_are_none(as_asyncio, attempt, resolver, closed, listening, host, delay):
    """The one that answers is the first: what is wrong with a delay shows only if it is waited for."""
    if sys.version_info < (3, 10) and not (isinstance(delay, (int, float)) and delay < 10**9):
        pytest.skip("its task logs the exception after the test")
    address = listening().getsockname()
    resolver["a.name"] = [address, closed()]
    port = address[1]
    told = errors_of(as_asyncio, attempt, host, port, happy_eyeballs_delay=delay)
    assert told


@pytest.mark.parametrize("interleave", ["one", 1.5, []], ids=str)
def test_interleave_that_is_no_number(as_asyncio, attempt, resolver, closed, listening, interleave):
    resolver["a.name"] = [listening().getsockname(), closed()]
    errors_of(as_asyncio, attempt, "a.name", 80, interleave=interleave)


@pytest.mark.parametrize(
    "host",
    ["a.name", "a\0name", "1.2.3.x", "::x", "fe80::1%lo", "\ud800x", "\u00e4.name", "x.\u0661", "", b"a.name"],
    ids=ascii,
)
def test_hosts(as_asyncio, attempt, monkeypatch, host):
    """What the resolver is asked, if at all."""

    async def connecting(loop):
        asked = []

        async def getaddrinfo(*args, **options):
            asked.append((args, options))
            return []

        loop.getaddrinfo = getaddrinfo
        try:
            await asyncio.wait_for(loop.create_connection(asyncio.Protocol, host, 9, happy_eyeballs_delay=1), 5)
        except Exception as error:
            return asked, type(error), str(error)

    as_asyncio(lambda loop: attempt(connecting, loop))


@pytest.mark.parametrize("interleave", [1, 2])
def test_one_family_is_not_interleaved(as_asyncio, attempt, resolver, closed, interleave, ipv6):
    resolver["a.name"] = [closed("::1"), closed("::1"), closed("::1")]
    told = errors_of(as_asyncio, attempt, "a.name", 80, interleave=interleave, happy_eyeballs_delay=60)
    assert told[1].count("Connect call failed") == 3


def test_nothing_to_connect_to(as_asyncio, attempt):
    assert errors_of(as_asyncio, attempt)[0] is ValueError
    assert errors_of(as_asyncio, attempt, happy_eyeballs_delay=1)[0] is ValueError
    with socket.socket() as sock:
        assert errors_of(as_asyncio, attempt, "a.name", 80, sock=sock, happy_eyeballs_delay=1)[0] is ValueError


# Cancelling


@pytest.mark.parametrize("turns", range(10))
@pytest.mark.parametrize("delay", [None, 0])
@pytest.mark.parametrize("wins", [False, True])
def test_cancelled_after_some_turns(cancelled_after, connect, listening, silent, closed, turns, delay, wins):
    addresses = [closed(), silent, silent, closed()]
    if wins and delay is not None:
        addresses.append(listening().getsockname())
    cancelled_after(turns, lambda factory: connect(*addresses, factory=factory, happy_eyeballs_delay=delay))


def test_timeout(loop, run, connect, silent, until):
    async def main():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(connect(silent, silent, silent, happy_eyeballs_delay=0.001), 0.02)

    run(main())
    until(lambda: asyncio.all_tasks(loop) == set())


@pytest.mark.skipif(sys.version_info < (3, 11), reason="the message is lost")
def test_message_of_a_cancel(loop, run, connect, silent, until):
    async def main():
        task = loop.create_task(connect(silent, silent, happy_eyeballs_delay=0))
        for _ in range(8):
            await asyncio.sleep(0)
        task.cancel("a message")
        try:
            await task
        except asyncio.CancelledError as error:
            return error.args

    assert run(main()) == ("a message",)
    until(lambda: asyncio.all_tasks(loop) == set())


@own_tasks
@pytest.mark.parametrize("how", ["close", "throw", "drop", "the loop closes"])
def test_coroutine_that_ends_while_it_races(new_loop, loop_kind, connect, silent, how):
    if loop_kind == "asyncio":
        pytest.skip("its race is a task")
    loop = new_loop()
    racing = [connect(silent, silent, silent, on=loop, happy_eyeballs_delay=0)]

    async def main():
        for _ in range(2):
            future = racing[0].send(None)
            future._asyncio_future_blocking = False
            while not future.done():
                await asyncio.sleep(0)
        racing[0].send(None)._asyncio_future_blocking = False
        if how == "close":
            racing[0].close()
        elif how == "throw":
            with pytest.raises(ZeroDivisionError):
                racing[0].throw(ZeroDivisionError("on purpose"))

    loop.run_until_complete(main())
    if how == "the loop closes":
        loop.close()
        racing[0].close()
    racing.clear()
    gc.collect()


@own_tasks
def test_collection_that_ends_the_race(loop, loop_kind, run, connect, listening):
    """A finalizer may close the coroutine wherever the loop makes an object, up to Python 3.11 within C code. The race's memory
    was used after that, which a build with AddressSanitizer shows."""
    if loop_kind == "asyncio":
        pytest.skip("its race is a task")

    async def race(collection, threshold):
        def end(phase, info):
            nonlocal count
            count += 1
            if count == collection:
                with contextlib.suppress(ValueError):  # it is running
                    racing.close()

        count = 0
        racing = connect(address, address)
        task = loop.create_task(wait(racing))
        thresholds = gc.get_threshold()
        gc.callbacks.append(end)
        gc.set_threshold(threshold)
        try:
            for _ in range(9):
                await asyncio.sleep(0)
        finally:
            gc.set_threshold(*thresholds)
            gc.callbacks.remove(end)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return count >= collection

    async def wait(racing):
        transport, _ = await racing
        transport.abort()

    address = listening().getsockname()
    for threshold in range(1, 12):
        collection = 1
        while run(race(collection, threshold)):
            collection += 1
        assert collection > 1


@own_tasks
def test_clock_that_closes_the_loop(new_loop, loop_class, loop_kind, connect, silent):
    """The loop does not run, since the coroutine is stepped by hand, so it may be closed."""
    if loop_kind == "asyncio":
        pytest.skip("its race is a task")
    closes = []

    class Closing(loop_class):
        def time(self):
            if closes:
                self.close()
            return super().time()

    racing = connect(silent, silent, on=new_loop(Closing), happy_eyeballs_delay=1)
    closes.append(True)
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        racing.send(None)


# What is left


@own_tasks
def test_no_task_is_needed(loop, loop_kind, run, connect, silent, listening, abandoned, native):
    seen = []

    async def main():
        racing = loop.create_task(connect(silent, silent, listening().getsockname(), happy_eyeballs_delay=0.001))
        while not racing.done():
            seen.append(len(asyncio.all_tasks(loop)))
            await asyncio.sleep(0)
        abandoned.add(racing.result()[0])
        native(racing.result()[0])

    run(main())
    if loop_kind != "asyncio":
        assert max(seen) == 2


@DELAYS
def test_no_cycle_is_left_after_a_failure(run, connect, closed, delay, make, listening, native):
    native(make(connect(listening().getsockname()))[0])

    class Factory:
        def __call__(self):
            raise AssertionError("never connected")

    gc.collect()
    gc.disable()
    try:
        factory = Factory()
        gone = weakref.ref(factory)
        with pytest.raises(OSError) as caught:
            run(connect(closed(), closed(), factory=factory, happy_eyeballs_delay=delay))
        del caught, factory
        assert gone() is None
    finally:
        gc.enable()


def test_the_winner_is_as_any_other(make, connect, listening, silent, closed, sockets):
    listener = listening()
    transport, _ = make(connect(closed(), silent, listener.getsockname(), happy_eyeballs_delay=0.001))
    sock = transport.get_extra_info("socket")
    assert (sock.family, sock.type, sock.proto) == (socket.AF_INET, STREAM, socket.IPPROTO_TCP)
    assert sock.gettimeout() == 0 and not os.get_inheritable(sock.fileno())
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert transport.get_extra_info("sockname") == sockets(listener.accept()[0]).getpeername()


def test_contexts(run, loop, connect, closed, listening, recorder, abandoned):
    var = contextvars.ContextVar("var", default="unset")
    seen = []

    def factory():
        seen.append((asyncio.current_task(), var.get()))
        return recorder(connection_made=lambda self, transport: seen.append((asyncio.current_task(), var.get())))

    async def main():
        var.set("the task's")
        transport, _ = await connect(closed(), listening().getsockname(), factory=factory, happy_eyeballs_delay=0.001)
        abandoned.add(transport)
        return asyncio.current_task()

    task = run(main())
    assert seen == [(task, "the task's"), (None, "the task's")]


def test_factory_that_raises(run, connect, closed, listening):
    def factory():
        raise ZeroDivisionError("on purpose")

    with pytest.raises(ZeroDivisionError, match="on purpose"):
        run(connect(closed(), listening().getsockname(), factory=factory, happy_eyeballs_delay=1))
    gc.collect()  # asyncio left the socket open


# No more descriptors


@pytest.fixture
def only(sockets):
    """Leaves only so many descriptors to the process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = []

    def only(count):
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
        try:
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            for _ in range(count):
                os.close(taken.pop())

    yield only
    for fd in taken:
        os.close(fd)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@DELAYS
def test_a_failed_attempt_leaves_its_descriptor_to_the_next(run, connect, closed, listening, only, delay, abandoned):
    addresses = [closed(), closed(), listening().getsockname()]

    async def main():
        await asyncio.sleep(0)
        only(1)
        transport, _ = await connect(*addresses, happy_eyeballs_delay=delay)
        abandoned.add(transport)
        return transport

    if delay == 0:  # two may be open at once
        addresses = addresses[2:]
    assert peer(run(main())) == addresses[-1]


@pytest.mark.parametrize("delay", [None, 0.001, 60])
@pytest.mark.parametrize("left", [0, 1])
def test_no_descriptor_is_left(loop, run, connect, listening, only, delay, left, silent):
    """In the middle, too: the first attempt has the only one."""
    addresses = [silent] * left + [listening().getsockname(), listening().getsockname()]
    if left and delay != 0.001:
        pytest.skip("the first one would be waited for")

    async def main():
        await asyncio.sleep(0)
        only(left)
        await asyncio.wait_for(connect(*addresses, happy_eyeballs_delay=delay), 0.05)

    with pytest.raises(asyncio.TimeoutError if left else OSError) as caught:
        run(main())
    assert left or caught.value.errno == 24


# local_addr


@DELAYS
def test_local_address(make, connect, closed, listening, delay):
    transport, _ = make(
        connect(closed(), listening().getsockname(), local_addr=("127.0.0.3", 0), happy_eyeballs_delay=delay)
    )
    assert transport.get_extra_info("sockname")[0] == "127.0.0.3"


@pytest.mark.parametrize("delay", [None, 60])
@pytest.mark.parametrize("wanted", [1, 2, 3])
def test_local_addresses_that_are_refused(as_asyncio, attempt, resolver, listening, closed, delay, wanted):
    """Each is tried for each attempt; the text of the error depends on the version."""
    taken = listening().getsockname()
    resolver["a.name"] = [closed(), listening().getsockname()]
    resolver["local.name"] = [taken, ("192.0.2.1", 0), ("127.0.0.4", 0)][:wanted]
    told = errors_of(as_asyncio, attempt, "a.name", 80, local_addr=("local.name", 0), happy_eyeballs_delay=delay)
    assert told == "connected" if wanted == 3 else "error while attempting to bind on address" in told[1]


@pytest.mark.parametrize("delay", [None, 60])
@pytest.mark.parametrize("local", [["::1"], ["::1", "127.0.0.3"], ["127.0.0.3", "::1"]], ids=str)
def test_local_addresses_of_the_other_family(as_asyncio, attempt, resolver, listening, closed, delay, local, ipv6):
    """Up to 3.9 asyncio binds to them."""
    resolver["a.name"] = [closed(), listening().getsockname()]
    resolver["local.name"] = [(host, None) for host in local]
    errors_of(as_asyncio, attempt, "a.name", 80, local_addr=("local.name", 0), happy_eyeballs_delay=delay)


# What a program could replace


def test_overridden_methods_are_called(calls_of_step, resolver, listening, closed):
    resolver["a.name"] = [closed(), listening().getsockname()]
    assert calls_of_step("a.name", 80, happy_eyeballs_delay=0.01)


def test_the_race_of_asyncio_is_run_if_replaced(make, connect, listening, closed, monkeypatch):
    called = []
    race = asyncio.staggered.staggered_race

    def replacement(*args, **options):
        called.append(args[1])
        return race(*args, **options)

    monkeypatch.setattr(asyncio.staggered, "staggered_race", replacement)
    make(connect(closed(), listening().getsockname(), happy_eyeballs_delay=0.5))
    assert called == [0.5]


def test_sockets_that_are_replaced(make, connect, listening, closed, monkeypatch):
    seen = []

    class Socket(socket.socket):
        __slots__ = ()

        def connect(self, address):
            seen.append(address)
            return super().connect(address)

    addresses = [closed(), listening().getsockname()]
    monkeypatch.setattr(socket, "socket", Socket)
    make(connect(*addresses, happy_eyeballs_delay=0.5))
    assert seen == addresses


@pytest.mark.parametrize("delay", [None, 0.001])
def test_sock_connect_that_raises_something_else(as_asyncio, attempt, resolver, closed, delay):
    resolver["a.name"] = [closed(), closed()]

    async def connecting(loop):
        async def sock_connect(sock, address):
            raise ZeroDivisionError("on purpose")

        loop.sock_connect = sock_connect
        await loop.create_connection(asyncio.Protocol, "a.name", 80, happy_eyeballs_delay=delay)

    as_asyncio(lambda loop: attempt(connecting, loop))


class Info(tuple):
    pass


ANSWERS = {
    "a tuple": lambda family, address: ((family, STREAM, 6, "", address),),
    "lists": lambda family, address: [[family, STREAM, 6, "", address]],
    "plain numbers": lambda family, address: [(int(family), int(STREAM), 6, "", address)],
    "no protocol": lambda family, address: [(family, STREAM, 0, "", address)],
    "another type": lambda family, address: [(family, socket.SOCK_DGRAM, 17, "", address)],
    "a name": lambda family, address: [(family, STREAM, 6, "", ("localhost", address[1]))],
    "no address": lambda family, address: [(family, STREAM, 6, "", None)],
    "too short": lambda family, address: [(family, STREAM)],
    "a wrong family": lambda family, address: [(socket.AF_INET6, STREAM, 6, "", address)],
    "an unknown family": lambda family, address: [(999, STREAM, 6, "", address)],
    "a port as text": lambda family, address: [(family, STREAM, 6, "", (address[0], str(address[1])))],
    "a port too large": lambda family, address: [(family, STREAM, 6, "", (address[0], 10**6))],
    "a list for an address": lambda family, address: [(family, STREAM, 6, "", list(address))],
    "of a subclass": lambda family, address: [Info((family, STREAM, 6, "", address))],
    "six items": lambda family, address: [(family, STREAM, 6, "", address, 0)],
    "a family as a float": lambda family, address: [(2.0, STREAM, 6, "", address)],
    "a negative family": lambda family, address: [(-1, STREAM, 6, "", address)],
    "a huge protocol": lambda family, address: [(family, STREAM, 2**40, "", address)],
    "a host as bytes": lambda family, address: [(family, STREAM, 6, "", (address[0].encode(), address[1]))],
    "an address of one item": lambda family, address: [(family, STREAM, 6, "", address[:1])],
    "an address of three items": lambda family, address: [(family, STREAM, 6, "", address + (0,))],
    "an address of a subclass": lambda family, address: [(family, STREAM, 6, "", Info(address))],
    "the second is odd": lambda family, address: [(family, STREAM, 6, "", address), (family, STREAM)],
    "None": lambda family, address: None,
    "nothing": lambda family, address: [],
    "an iterator": lambda family, address: iter([(family, STREAM, 6, "", address)]),
}


@pytest.mark.parametrize("delay", [None, 0.5])
@pytest.mark.parametrize("name", list(ANSWERS))
def test_answers_of_getaddrinfo(as_asyncio, attempt, listening, name, delay):
    address = listening().getsockname()

    async def connecting(loop):
        async def getaddrinfo(host, port, **options):
            if host == "a.name":
                return ANSWERS[name](socket.AF_INET, address)
            return [(socket.AF_INET, STREAM, 6, "", address)]

        loop.getaddrinfo = getaddrinfo
        transport, _ = await loop.create_connection(asyncio.Protocol, "a.name", 80, happy_eyeballs_delay=delay)
        told = peer(transport), transport.get_extra_info("socket").proto
        transport.abort()
        await asyncio.sleep(0)
        return told

    as_asyncio(lambda loop: attempt(connecting, loop))


def test_debug_mode(loop, make, connect, closed, listening):
    loop.set_debug(True)
    listener = listening()
    transport, _ = make(connect(closed(), listener.getsockname(), happy_eyeballs_delay=0.5))
    assert peer(transport) == listener.getsockname()


def test_audit_hooks_see_each_attempt(script):
    output = script(
        """
        import asyncio, socket, sys
        loop = new_loop()
        listener, closed = socket.create_server(("127.0.0.1", 0)), socket.socket()
        closed.bind(("127.0.0.1", 0))
        events = []

        def hook(event, args):
            if event == "socket.connect":
                events.append(args[1])

        async def getaddrinfo(host, port, **options):
            return [
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", sock.getsockname()) for sock in (closed, listener)
            ]

        async def main():
            transport, _ = await loop.create_connection(
                asyncio.Protocol, "a.name", 80, happy_eyeballs_delay=1
            )
            transport.close()
            await asyncio.sleep(0)

        loop.getaddrinfo = getaddrinfo
        loop.run_until_complete(main())
        sys.addaudithook(hook)
        loop.run_until_complete(main())
        loop.close()
        print(events == [closed.getsockname(), listener.getsockname()])
        """
    )
    assert output.strip() == "True"


# Over it


def test_streams(run, loop, resolver, closed, listening, sockets):
    listener = listening()
    resolver["a.name"] = [closed(), listener.getsockname()]

    async def main():
        reader, writer = await asyncio.open_connection("a.name", 80, happy_eyeballs_delay=0.5)
        peer = sockets(listener.accept()[0])
        peer.setblocking(False)
        writer.write(b"there")
        assert await loop.sock_recv(peer, 9) == b"there"
        peer.send(b"back")
        assert await reader.readexactly(4) == b"back"
        writer.close()
        await asyncio.sleep(0)

    run(main())


def test_task_that_races_can_be_shown(loop, run, connect, silent, until):

    async def main():
        task = loop.create_task(connect(silent, silent, happy_eyeballs_delay=0.001))
        for _ in range(10):
            await asyncio.sleep(0)
        text = io.StringIO()
        task.print_stack(file=text)
        coroutine, names = task.get_coro(), []
        while coroutine is not None and hasattr(coroutine, "__name__"):
            names.append(coroutine.__name__)
            coroutine = coroutine.cr_await
        task.cancel()
        await asyncio.wait([task])
        return text.getvalue(), names

    text, names = run(main())
    assert "create_connection" in text and names[0] == "create_connection"
    until(lambda: asyncio.all_tasks(loop) == set())


ODD_ANSWERS = {
    "datagrams": lambda address: (socket.AF_INET, socket.SOCK_DGRAM, 0, "", address),
    "another protocol": lambda address: (socket.AF_INET, STREAM, socket.IPPROTO_UDP, "", address),
    "a list": lambda address: (socket.AF_INET, STREAM, 0, "", list(address)),
    "bytes": lambda address: (socket.AF_INET, STREAM, 0, "", (address[0].encode(), address[1])),
    "a long address": lambda address: (socket.AF_INET, STREAM, 0, "", address + (0,)),
    "a short address": lambda address: (socket.AF_INET, STREAM, 0, "", address[:1]),
    "a large port": lambda address: (socket.AF_INET, STREAM, 0, "", (address[0], 1 << 20)),
    "a negative port": lambda address: (socket.AF_INET, STREAM, 0, "", (address[0], -1)),
    "a text for a port": lambda address: (socket.AF_INET, STREAM, 0, "", (address[0], "9")),
    "another family": lambda address: (socket.AF_UNIX, STREAM, 0, "", address),
    "a large family": lambda address: (1 << 20, STREAM, 0, "", address),
    "four": lambda address: (socket.AF_INET, STREAM, 0, address),
    "none": lambda address: None,
}


@pytest.mark.parametrize("delay", [None, 0.01])
@pytest.mark.parametrize("what", list(ODD_ANSWERS))
def test_odd_answers_of_a_resolver(as_asyncio, listening, what, delay):
    address = listening().getsockname()

    def body(loop):
        async def getaddrinfo(*args, **options):
            return [ODD_ANSWERS[what](address)] * 2

        async def main():
            options = {} if delay is None else {"happy_eyeballs_delay": delay}
            transport, _ = await asyncio.wait_for(loop.create_connection(asyncio.Protocol, "name", 9, **options), 10)
            transport.abort()
            await asyncio.sleep(0)
            return "connected"

        loop.getaddrinfo = getaddrinfo
        return loop.run_until_complete(main())

    as_asyncio(body)
