"""What loops, futures, handles, transports and streams say to arguments of the wrong kind, in each of their states: an
exception of the same class as asyncio's, or a result of the same class.
"""

import asyncio
import contextlib
import inspect
import os
import socket
import sys
import warnings

import pytest

pytestmark = pytest.mark.skipif(
    sys.version_info[:2] not in ((3, 11), (3, 14)), reason="asyncio has other faults of its own there"
)

VALUES = {
    "nothing": None,
    "true": True,
    "minus one": -1,
    "half": 0.5,
    "not a number": float("nan"),
    "huge": 10**30,
    "text": "text",
    "bytes": b"bytes",
    "view": memoryview(b"view"),
    "object": object(),
    "list": [],
    "tuple": (),
    "dict": {},
    "class": int,
    "error": ValueError("of the test"),
    "class of errors": ValueError,
    "exit of a generator": StopIteration(),
}
# They run or end the loop, change the process, start processes, or ask a name server.
LEFT_OUT = {
    "run_forever", "stop", "add_signal_handler", "subprocess_exec", "subprocess_shell", "create_connection", "create_server",
    "getaddrinfo", "getnameinfo", "create_datagram_endpoint", "set_default_executor", "serve_forever",
    "create_unix_server",  # makes files
    "shutdown_default_executor",  # takes what a newer asyncio takes
}  # fmt: skip
NOT_BARE = {"close", "start_serving"}  # without arguments it does what other tests are about


async def nothing():
    pass


def turn(loop):
    loop.call_soon(loop.stop)
    loop.run_forever()


def future(state):
    def make(loop, stack):
        future = loop.create_future()
        if state == "result":
            future.set_result(1)
        elif state == "exception":
            future.set_exception(KeyError())
        elif state == "cancelled":
            future.cancel()
        stack.callback(lambda: future.done() and not future.cancelled() and future.exception())
        return future

    return make


def task(state):
    def make(loop, stack):
        async def body():
            if state == "exception":
                raise KeyError
            if state != "result":
                await loop.create_future()

        task = loop.create_task(body())
        if state != "new":
            turn(loop)
        if state == "cancelled":
            task.cancel()
            turn(loop)

        def end():
            if not task.cancel() and not task.cancelled():
                task.exception()
            turn(loop)

        stack.callback(end)
        return task

    return make


def handle(kind, state):
    def make(loop, stack):
        handle = loop.call_soon(int) if kind == "soon" else loop.call_later(0 if state == "ran" else 1000, int)
        if state == "cancelled":
            handle.cancel()
        elif state == "ran":
            turn(loop)
            turn(loop)
        stack.callback(handle.cancel)
        return handle

    return make


def end(loop, transport):
    transport.close()
    with contextlib.suppress(AttributeError):  # asyncio's have no loop any more
        getattr(transport, "abort", transport.close)()
    turn(loop)
    turn(loop)


def connection(state):
    def make(loop, stack):
        ours, theirs = socket.socketpair()
        stack.callback(theirs.close)
        transport, _ = loop.run_until_complete(loop.create_connection(asyncio.Protocol, sock=ours))
        stack.callback(end, loop, transport)
        if state != "open":
            transport.close()
        if state == "lost":
            turn(loop)
            turn(loop)
        return transport

    return make


def datagrams(state):
    def make(loop, stack):
        coroutine = loop.create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", 0))
        transport, _ = loop.run_until_complete(coroutine)
        stack.callback(end, loop, transport)
        if state != "open":
            end(loop, transport)
        return transport

    return make


def pipe(side, state):
    def make(loop, stack):
        r, w = os.pipe()
        ours, theirs = (r, w) if side == "read" else (w, r)
        stack.callback(os.close, theirs)
        connect = getattr(loop, "connect_%s_pipe" % side)
        file = open(ours, "rb" if side == "read" else "wb", 0)
        transport, _ = loop.run_until_complete(connect(asyncio.Protocol, file))
        stack.callback(end, loop, transport)
        if state != "open":
            end(loop, transport)
        return transport

    return make


def server(state):
    def make(loop, stack):
        coroutine = loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        server = loop.run_until_complete(coroutine)
        stack.callback(turn, loop)
        stack.callback(server.close)
        if state == "closed":
            server.close()
        return server

    return make


def streams(which, state):
    def make(loop, stack):
        ours, theirs = socket.socketpair()
        stack.callback(theirs.close)
        reader, writer = loop.run_until_complete(asyncio.open_connection(sock=ours))
        stack.callback(end, loop, writer.transport)
        if state == "data":
            theirs.send(b"some data")
        elif state == "eof":
            theirs.shutdown(socket.SHUT_WR)
        elif state == "closed":
            writer.close()
        for _ in range(3):
            turn(loop)
        return reader if which == "reader" else writer

    return make


def loop_itself(loop, stack):
    return loop


def closed_loop(loop, stack):
    loop.close()
    return loop


SELECTOR = asyncio.SelectorEventLoop
TRANSPORT = asyncio.selector_events._SelectorSocketTransport
DATAGRAM = asyncio.selector_events._SelectorDatagramTransport
THINGS = {"loop": (SELECTOR, loop_itself), "closed loop": (SELECTOR, closed_loop)}
for state in "pending", "result", "exception", "cancelled":
    THINGS["future, " + state] = asyncio.Future, future(state)
for state in "new", "waiting", "result", "exception", "cancelled":
    THINGS["task, " + state] = asyncio.Task, task(state)
for state in "pending", "cancelled", "ran":
    THINGS["handle, " + state] = asyncio.Handle, handle("soon", state)
    THINGS["timer, " + state] = asyncio.TimerHandle, handle("later", state)
for state in "open", "closing", "lost":
    THINGS["connection, " + state] = TRANSPORT, connection(state)
for state in "open", "lost":
    THINGS["datagrams, " + state] = DATAGRAM, datagrams(state)
    THINGS["reading pipe, " + state] = asyncio.unix_events._UnixReadPipeTransport, pipe("read", state)
    THINGS["writing pipe, " + state] = asyncio.unix_events._UnixWritePipeTransport, pipe("write", state)
for state in "open", "closed":
    THINGS["server, " + state] = asyncio.base_events.Server, server(state)
for state in "idle", "data", "eof", "closed":
    THINGS["reader, " + state] = asyncio.StreamReader, streams("reader", state)
    THINGS["writer, " + state] = asyncio.StreamWriter, streams("writer", state)


def methods(cls):
    return [
        name for name in sorted(set(dir(cls))) if not name.startswith("_") and name not in LEFT_OUT
        and callable(getattr(cls, name))
    ]  # fmt: skip


CASES = [(thing, name) for thing, (cls, _) in THINGS.items() for name in methods(cls)]
CASES.remove(("loop", "call_at"))  # asyncio takes any time, and fails when it compares two
CASES.remove(("writing pipe, lost", "abort"))  # asyncio's of some versions fails: it has no loop any more
CASES.remove(("datagrams, lost", "sendto"))  # nor a socket


def keywords(cls, name):
    """The names of the method's parameters in asyncio."""
    try:
        parameters = inspect.signature(getattr(cls, name)).parameters.values()
    except ValueError:
        return []
    return [each.name for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)][1:]


def arguments(cls, name):
    """(names of the values, values, keywords) of the calls."""
    if name not in NOT_BARE:
        yield (), (), {}
    named = keywords(cls, name)
    for one, value in VALUES.items():
        yield (one,), (value,), {}
        for other, also in VALUES.items():
            if other in ("nothing", "huge", "text", "object", "class") or one in ("class", "minus one"):
                yield (one, other), (value, also), {}
        yield (one, "nothing", "huge"), (value, None, 10**30), {}
        yield (one, "unknown keyword"), (value,), {"no_such": 1}
        for at, keyword in enumerate(named):
            for given in range(at + 1):
                yield (keyword, given, one), (int,) * given, {keyword: value}


def kind(value):
    name = "loop" if isinstance(value, asyncio.AbstractEventLoop) else type(value).__name__.lower().lstrip("_")
    return "none" if value is None else "awaitable" if inspect.isawaitable(value) else name


def result_of(loop, value):
    """What becomes of what was returned."""
    if isinstance(value, asyncio.Handle) or hasattr(value, "cancel") and not inspect.iscoroutine(value):
        value.cancel()
        return "cancellable"
    if not (asyncio.iscoroutine(value) or inspect.isawaitable(value)):
        return kind(value)
    if loop.is_closed():
        getattr(value, "close", int)()
        return "awaitable"
    waiting = loop.create_task(value) if asyncio.iscoroutine(value) else asyncio.ensure_future(value, loop=loop)
    for _ in range(3):
        turn(loop)
    if waiting.cancel():
        turn(loop)
        turn(loop)
        return "waits"
    error = waiting.exception()
    return kind(waiting.result()) if error is None else type(error).__name__


def outcomes(loop, cls, make, name):
    loop.set_exception_handler(lambda loop, context: None)
    loop.slow_callback_duration = 1000
    found = {}
    with contextlib.ExitStack() as stack:
        thing = None
        for names, values, named in arguments(cls, name):
            if thing is None or kind_of_thing_is_spent(thing, name):
                thing = make(loop, stack)
            try:
                value = getattr(thing, name)(*values, **named)
                found[names] = result_of(loop, value)
            except (Exception, asyncio.CancelledError) as error:
                found[names] = type(error).__name__
    return found


SPENDS = {
    "set_result", "set_exception", "cancel", "close", "abort", "write_eof", "feed_eof", "feed_data", "set_protocol",
    "set_transport", "set_coro", "set_name", "set_task_factory", "set_debug", "set_exception_handler", "write", "writelines",
}  # fmt: skip


def kind_of_thing_is_spent(thing, name):
    """Whether the last call may have changed the thing, so that another one is needed."""
    return name in SPENDS and not hasattr(thing, "run_forever")


@pytest.mark.parametrize("thing, name", CASES)
def test_as_asyncio(cloop, loop_kind, loop_class, thing, name):
    if loop_kind == "asyncio":
        pytest.skip("it is what is compared with")
    (cls, make), found = THINGS[thing], []
    for make_loop in SELECTOR, loop_class:
        loop = make_loop()
        asyncio.set_event_loop(loop)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                found.append(outcomes(loop, cls, make, name))
            finally:
                loop.close()
                asyncio.set_event_loop(None)
    asyncios, ours = found
    different = {names: (asyncios[names], ours[names]) for names in asyncios if ours[names] != asyncios[names]}
    assert different == {}
