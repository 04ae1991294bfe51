"""Any method that a program replaces in asyncio's own loop classes, as tracers, observability and test tools do with
asyncio.BaseEventLoop.call_soon and others: it is called for cloop's loops as for asyncio's, and what it calls, asyncio's own
function that it has kept, works on them. test_replaced_methods.py is about create_task() and run_in_executor().
"""

import asyncio
import functools
import gc
import inspect
import os
import signal
import socket
import sys
import textwrap
import threading
import types
import unittest.mock

import pytest

CLASSES = [cls for cls in asyncio.SelectorEventLoop.__mro__ if cls.__module__ != "asyncio.events" and cls is not object]
# What cloop does without calling it: docs/differences.md.
NOT_CALLED = {"__init__"}


def methods():
    """{name: class} of asyncio's loops that a program may replace."""
    found = {}
    for cls in CLASSES:
        for name, value in vars(cls).items():
            if isinstance(value, types.FunctionType) and not name.startswith("__"):
                found.setdefault(name, cls)
    return found


def trace(patch, names, called, where=None):
    """Replaces methods by functions that note the call, and call what was there."""
    for name in names:
        cls = where or methods()[name]
        original = getattr(cls, name)

        def wrapper(self, *args, _name=name, _original=original, **kwargs):
            called.append(_name)
            return _original(self, *args, **kwargs)

        patch.setattr(cls, name, functools.wraps(original)(wrapper))


async def echo(reader, writer):
    writer.write(await reader.readline())
    writer.close()


async def ask(reader, writer):
    writer.write(b"a line\n")
    answer = await reader.read()
    writer.close()
    return answer


async def use_timers(loop):
    seen, done = [], loop.create_future()
    loop.call_soon(seen.append, "soon")
    loop.call_later(0.001, seen.append, "later")
    loop.call_later(60, seen.append, "never").cancel()
    loop.call_at(loop.time() + 0.002, done.set_result, None)
    await done
    await asyncio.sleep(0.001)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(loop.create_future(), 0.001)
    return seen


async def use_threads(loop):
    future = loop.create_future()
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(future.set_result, "threadsafe"))
    thread.start()
    answers = await future, await loop.run_in_executor(None, abs, -1)
    thread.join()
    return answers


async def use_tcp(loop):
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    answer = await ask(*await asyncio.open_connection(*server.sockets[0].getsockname()))
    server.close()
    await server.wait_closed()
    return answer


async def use_name(loop):
    server = await asyncio.start_server(echo, "localhost", 0, family=socket.AF_INET)
    answer = await ask(*await asyncio.open_connection("localhost", server.sockets[0].getsockname()[1]))
    server.close()
    await server.wait_closed()
    return answer


async def use_unix(loop):
    path = "\0cloop-%d-%d" % (os.getpid(), id(loop))
    server = await asyncio.start_unix_server(echo, path)
    answer = await ask(*await asyncio.open_unix_connection(path))
    server.close()
    await server.wait_closed()
    return answer


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self, received):
        self.received = received

    def datagram_received(self, data, address):
        if not self.received.done():
            self.received.set_result(data)


async def use_udp(loop):
    received = loop.create_future()
    ours, protocol = await loop.create_datagram_endpoint(lambda: Datagrams(received), ("127.0.0.1", 0))
    ours.sendto(b"datagram", ours.get_extra_info("sockname"))
    answer = await received
    ours.close()
    return answer


async def use_sockets(loop):
    listener = socket.create_server(("127.0.0.1", 0))
    ours, seen = socket.socket(), []
    with listener, ours:
        listener.setblocking(False)
        ours.setblocking(False)
        accepted = asyncio.ensure_future(loop.sock_accept(listener))
        await loop.sock_connect(ours, listener.getsockname())
        theirs = (await accepted)[0]
        with theirs:
            buffer = bytearray(4)
            for receive in loop.sock_recv(theirs, 10), loop.sock_recv_into(theirs, buffer):
                waiting = asyncio.ensure_future(receive)
                await asyncio.sleep(0)
                await loop.sock_sendall(ours, b"data")
                seen.append(await waiting)
            readable = loop.create_future()
            loop.add_reader(theirs, lambda: readable.done() or readable.set_result("readable"))
            writable = loop.create_future()
            loop.add_writer(ours, lambda: writable.done() or writable.set_result("writable"))
            ours.send(b"x")
            seen += [await readable, await writable, loop.remove_reader(theirs), loop.remove_writer(ours)]
    return seen


async def use_signal(loop):
    arrived = loop.create_future()
    loop.add_signal_handler(signal.SIGUSR1, arrived.set_result, "signal")
    os.kill(os.getpid(), signal.SIGUSR1)
    return await arrived, loop.remove_signal_handler(signal.SIGUSR1)


async def use_pipes(loop):
    reading, writing = os.pipe()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reading, "rb", 0)
    )
    other, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(writing, "wb", 0))
    other.write(b"through a pipe")
    other.close()
    answer = await reader.read()
    transport.close()
    return answer


async def use_process(loop):
    process = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
    shell = await asyncio.create_subprocess_shell("exit 3")
    return (await process.communicate(b"to a child"))[0], await shell.wait()


async def use_sendfile(loop):
    ours, theirs = socket.socketpair()
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
    with open(__file__, "rb") as file, theirs:
        count = await loop.sendfile(transport, file, 3, 20)
        transport.close()
        return count, theirs.recv(100)


async def use_errors(loop):
    contexts = []
    loop.set_exception_handler(lambda loop, context: contexts.append(context["message"]))
    loop.call_soon(len)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    loop.set_exception_handler(None)
    return [message.split(" ")[0] for message in contexts]


PARTS = [value for name, value in sorted(globals().items()) if name.startswith("use_")]


async def everything(loop):
    return [await part(loop) for part in PARTS]


@pytest.fixture(autouse=True)
def children():
    """Before 3.12 asyncio's loops need a watcher for child processes."""
    if sys.version_info < (3, 12):
        asyncio.set_child_watcher(asyncio.ThreadedChildWatcher())
    yield
    if sys.version_info < (3, 12):
        asyncio.set_child_watcher(None)


def used(loop_class, patch, names, where=None, debug=False):
    """What happens while these methods are replaced: results, and the names of those that were called."""
    called = []
    with patch.context() as within:
        trace(within, names, called, where)
        loop = loop_class()
        loop.set_debug(debug)
        loop.slow_callback_duration = 100
        try:
            results = loop.run_until_complete(everything(loop))
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(
                loop.shutdown_default_executor() if sys.version_info >= (3, 9) else asyncio.sleep(0)
            )
        finally:
            loop.close()
    gc.collect()
    return results, set(called)


@pytest.mark.parametrize("debug", [False, True])
def test_all_at_once(loop_class, monkeypatch, debug):
    """Whatever public method asyncio calls, cloop calls, too."""
    names = [name for name in methods() if name not in NOT_CALLED]
    expected, called = used(asyncio.SelectorEventLoop, monkeypatch, names, debug=debug)
    results, ours = used(loop_class, monkeypatch, names, debug=debug)
    assert results == expected
    missing = called - ours
    assert {name for name in missing if not name.startswith("_")} == set()


@pytest.mark.parametrize("name", sorted(name for name in methods() if name not in NOT_CALLED))
def test_one(loop_class, monkeypatch, name):
    expected, called = used(asyncio.SelectorEventLoop, monkeypatch, [name])
    results, ours = used(loop_class, monkeypatch, [name])
    assert results == expected
    assert name in ours or name not in called or name.startswith("_")


def test_nothing_is_left_afterwards(loop_class, monkeypatch):
    """When everything is put back, the loop's own methods are there again."""
    before = {name: getattr(loop_class, name) for name in methods()}
    used(loop_class, monkeypatch, list(methods()))
    loop_class().close()
    assert {name: getattr(loop_class, name) for name in methods()} == before
    assert all("Follower" not in repr(value) for value in vars(loop_class).values())


# While the loop runs

SIMPLE = {
    "call_soon": (print,),
    "call_soon_threadsafe": (print,),
    "call_later": (0, print),
    "call_at": (0, print),
    "create_future": (),
    "time": (),
    "is_running": (),
    "is_closed": (),
    "get_debug": (),
    "stop": (),
    "add_reader": (0, print),
    "add_writer": (0, print),
    "remove_reader": (0,),
    "remove_writer": (0,),
    "sock_recv": (None, 1),
    "sock_sendall": (None, b""),
    "create_connection": (print,),
    "getaddrinfo": ("127.0.0.1", 80),
    "start_tls": (None, None, None),
    "call_exception_handler": ({},),
    "default_exception_handler": ({},),
    "set_task_factory": (None,),
}


def call(value):
    """The result of a method that may be a coroutine function, there or here."""
    try:
        value.send(None)
    except AttributeError:
        return value
    except StopIteration as error:
        return error.value
    raise AssertionError(value)


@pytest.mark.parametrize("name", sorted(SIMPLE))
def test_at_once_and_put_back(loop, monkeypatch, name):
    """Between two calls of one callback, too."""
    results = []

    async def coroutine(self, *args, **kwargs):
        return self, args, number

    def method(self, *args):
        return self, args, number

    owner = methods()[name]
    instead = coroutine if inspect.iscoroutinefunction(getattr(owner, name)) else method

    async def main():
        for each in range(2):
            nonlocal number
            number = each
            with monkeypatch.context() as patch:
                patch.setattr(owner, name, instead)
                results.append(call(getattr(loop, name)(*SIMPLE[name])))
                number = each + 10
                results.append(call(getattr(loop, name)(*SIMPLE[name])))
            assert loop.is_running() is True  # one that was not replaced, or is no more
            if name in ("time", "is_running", "is_closed", "get_debug"):
                results.append(type(getattr(loop, name)()))
            elif name == "getaddrinfo":
                assert isinstance(await loop.getaddrinfo("127.0.0.1", 80), list)

    number = None
    loop.run_until_complete(main())
    expected = [(loop, SIMPLE[name], each) for first in (0, 1) for each in (first, first + 10)]
    assert [result for result in results if isinstance(result, tuple)] == expected
    assert {result for result in results if isinstance(result, type)} <= {float, bool}


@pytest.mark.parametrize("name", ["call_soon", "call_later", "create_future", "create_task", "time"])
def test_while_the_loop_runs(loop, monkeypatch, name):
    """What C code calls by itself is called from the next poll on at the latest, and not once it is put back."""
    called = []

    async def sub():
        await asyncio.sleep(0.001)

    async def step():
        await asyncio.gather(sub(), sub())
        del called[:]
        await asyncio.gather(sub(), sub())
        return name in called

    async def main():
        found = [await step()]
        with monkeypatch.context() as patch:
            trace(patch, [name], called)
            found.append(await step())
        found.append(await step())
        return found

    assert loop.run_until_complete(main()) == [False, True, False]


def test_run_once(loop, monkeypatch):
    called = []
    trace(monkeypatch, ["_run_once"], called)
    assert loop.run_until_complete(asyncio.sleep(0.001, "slept")) == "slept"
    assert len(called) > 2


def test_run_once_in_debug_mode(loop, monkeypatch):
    """asyncio's keeps the handle that runs in _current_handle."""
    loop.set_debug(True)
    test_run_once(loop, monkeypatch)


# Ways to replace


def test_the_code_of_the_function(loop_class, monkeypatch):
    """As bytecode wrappers do: the function stays the same object. Noticed when a loop is made, or begins to run."""
    original, called = asyncio.BaseEventLoop.call_soon, []
    copy = types.FunctionType(original.__code__, original.__globals__, "call_soon", original.__defaults__)
    copy.__kwdefaults__ = original.__kwdefaults__

    def wrapped(self, *args, **kwargs):
        called.append(args[0])
        return copy(self, *args, **kwargs)

    def code(self, *args, **kwargs):
        return _test_of_cloop(self, *args, **kwargs)  # noqa: F821

    loop = loop_class()
    with monkeypatch.context() as patch:
        patch.setitem(original.__globals__, "_test_of_cloop", wrapped)
        patch.setattr(original, "__kwdefaults__", None)
        patch.setattr(original, "__code__", code.__code__)
        loop.run_until_complete(asyncio.sleep(0))
        loop.call_soon(print)
        assert print in called
    loop.close()
    loop = loop_class()
    loop.call_soon(repr)
    loop.close()
    assert repr not in called


def test_what_the_loops_own_class_had(loop, loop_class, monkeypatch):
    """A tool that keeps the loop's own method, and puts its function into asyncio's class."""
    called = []
    for name in ("call_soon", "create_task", "create_future", "call_later"):
        original = getattr(loop_class, name)

        def wrapper(self, *args, _original=original, _name=name, **kwargs):
            called.append(_name)
            return _original(self, *args, **kwargs)

        monkeypatch.setattr(asyncio.BaseEventLoop, name, wrapper)

    async def sub():
        return await asyncio.sleep(0.001, 1)

    async def main():
        return await asyncio.gather(sub(), sub())

    assert loop.run_until_complete(main()) == [1, 1]
    assert set(called) == {"call_soon", "create_task", "create_future", "call_later"}


def test_in_the_loops_own_class_and_in_asyncios(new_loop, loop_class, monkeypatch):
    """The nearest class is asked first; when that is put back, the next."""
    called = []
    with monkeypatch.context() as outer:
        trace(outer, ["call_soon"], called, where=asyncio.BaseEventLoop)
        loop = new_loop()
        with monkeypatch.context() as inner:
            inner.setattr(loop_class, "call_soon", lambda self, *args, **kwargs: called.append("own"))
            loop.call_soon(print)
            assert called == ["own"]
        loop.call_soon(print)
        assert called == ["own", "call_soon"]
    loop.call_soon(print)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert called == ["own", "call_soon"]


def test_put_back_in_another_order(new_loop, loop_class, monkeypatch):
    outer, inner, called = pytest.MonkeyPatch(), pytest.MonkeyPatch(), []
    try:
        trace(outer, ["call_soon"], called, where=asyncio.BaseEventLoop)
        loop = new_loop()
        inner.setattr(loop_class, "call_soon", lambda self, *args, **kwargs: called.append("own"))
        outer.undo()
        loop.call_soon(print)
        assert called == ["own"]
        inner.undo()
        loop.call_soon(print)
        new_loop().call_soon(print)
        assert called == ["own"]
    finally:
        inner.undo()
        outer.undo()
        new_loop()


def test_put_back_in_the_order_in_which_they_were_replaced(new_loop, loop_class, monkeypatch):
    """What the loop's own class had hid the other until it was put back."""
    inner, called = pytest.MonkeyPatch(), []
    try:
        inner.setattr(loop_class, "call_soon", lambda self, *args, **kwargs: called.append("own"))
        trace(monkeypatch, ["call_soon"], called, where=asyncio.BaseEventLoop)
        loop = new_loop()
        loop.call_soon(print)
        assert called == ["own"]
    finally:
        inner.undo()
    loop.call_soon(print)
    assert called == ["own", "call_soon"]
    new_loop().call_soon(print)
    assert called == ["own", "call_soon", "call_soon"]


def test_a_subclass_that_calls_super(new_loop, loop_class, monkeypatch):
    called = []

    class Sub(loop_class):
        def call_soon(self, *args, **kwargs):
            called.append("sub")
            return super().call_soon(*args, **kwargs)

    loop = new_loop(Sub)
    loop.call_soon(print)
    assert called == ["sub"]
    trace(monkeypatch, ["call_soon"], called)
    loop.call_soon(print)
    loop.call_soon(print)
    assert called == ["sub"] + ["sub", "call_soon"] * 2


@pytest.mark.parametrize("kind", ["mock", "static", "partial"])
def test_other_things_than_functions(loop, monkeypatch, kind):
    called = []
    instead = {
        "mock": lambda: unittest.mock.Mock(side_effect=called.append),  # not bound
        "static": lambda: staticmethod(called.append),
        "partial": lambda: functools.partialmethod(lambda self, one, two: called.append((one, two)), 1),
    }[kind]()
    monkeypatch.setattr(asyncio.BaseEventLoop, "call_soon", instead)
    loop.call_soon(print)
    assert called == [(1, print) if kind == "partial" else print]


def test_exceptions_of_the_replacement(loop, monkeypatch):
    def fail(self, *args, **kwargs):
        raise ValueError("replaced")

    with monkeypatch.context() as patch:
        patch.setattr(asyncio.BaseEventLoop, "call_later", fail)
        for _ in range(2):
            with pytest.raises(ValueError, match="replaced"):
                loop.call_later(0, print)
    loop.call_later(0, loop.stop)
    loop.run_forever()


def test_a_class_without_versions(python, loop_kind):
    """From CPython 3.13 on a class that was modified a thousand times gets no version any more."""
    factory = "asyncio.SelectorEventLoop" if loop_kind == "asyncio" else "__import__('cloop').new_event_loop"
    text = """
        import asyncio
        loop = %s()
        for _ in range(2000):
            asyncio.BaseEventLoop.attribute = loop.time()
        called, original = [], {}
        def trace(name):
            original[name] = getattr(asyncio.BaseEventLoop, name)
            def wrapper(self, *args, **kwargs):
                called.append(name)
                return original[name](self, *args, **kwargs)
            setattr(asyncio.BaseEventLoop, name, wrapper)
        async def main():
            loop.call_soon(int)
            await asyncio.sleep(0.001)
            del called[:]
            for each in range(2):
                trace("call_soon")
                trace("call_later")
                loop.call_soon(int)
                loop.call_later(0, int)
                await asyncio.sleep(0.001)
                await asyncio.sleep(0.001)
                seen.append(sorted(set(called)))
                for name, method in original.items():
                    setattr(asyncio.BaseEventLoop, name, method)
                del called[:]
                loop.call_soon(int)
                await asyncio.sleep(0.001)
                seen.append(called)
        seen = []
        loop.run_until_complete(main())
        loop.close()
        print(seen)
    """
    done = python("-c", textwrap.dedent(text) % factory)
    assert (done.stdout, done.stderr) == ("[['call_later', 'call_soon'], [], ['call_later', 'call_soon'], []]\n", "")


@pytest.mark.parametrize("kind", ["function", "object"])
def test_replaced_before_the_import(python, loop_kind, kind):
    """By a function, or by an object that is bound like one, as wrapt's are, which many tracers use."""
    factory = "asyncio.SelectorEventLoop" if loop_kind == "asyncio" else "__import__('cloop').new_event_loop"
    text = """
        import asyncio
        called = set()
        class Bound:
            def __init__(self, function):
                self.function = function
            def __get__(self, loop, cls=None):
                return self if loop is None else self.function.__get__(loop, cls)
        def trace(name):
            original = getattr(asyncio.BaseEventLoop, name)
            def wrapper(self, *args, **kwargs):
                called.add(name)
                return original(self, *args, **kwargs)
            setattr(asyncio.BaseEventLoop, name, wrapper if %r == "function" else Bound(wrapper))
        names = ["_run_once", "call_later", "call_soon", "getaddrinfo", "run_in_executor"]
        for name in names:
            trace(name)
        loop = %s()
        loop.call_later(0.001, loop.stop)
        loop.run_forever()
        loop.run_until_complete(loop.getaddrinfo("127.0.0.1", 80))
        loop.close()
        print(sorted(called) == names or called)
    """
    done = python("-c", textwrap.dedent(text) % (kind, factory))
    assert (done.stdout, done.stderr) == ("True\n", "")


@pytest.mark.parametrize("kind", ["function", "object", "mock"])
def test_everything_replaced_while_cloop_is_imported(cloop, python, kind):
    """And put back later."""
    text = """
        import asyncio, types, unittest.mock
        class Bound:
            def __init__(self, function):
                self.function = function
            def __get__(self, loop, cls=None):
                return self if loop is None else self.function.__get__(loop, cls)
        def wrapped(function):
            return lambda self, *args, **kwargs: function(self, *args, **kwargs)
        instead = {"function": wrapped, "object": Bound, "mock": unittest.mock.Mock}[%r]
        before = []
        for cls in asyncio.SelectorEventLoop.__mro__[:-2]:
            for name, value in list(vars(cls).items()):
                if isinstance(value, types.FunctionType) and not name.startswith("__"):
                    before.append((cls, name, value))
                    setattr(cls, name, instead(value))
        import cloop
        for cls, name, value in before:
            setattr(cls, name, value)
        async def main():
            server = await asyncio.start_server(answer, "127.0.0.1", 0)
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            answers = await reader.read(), await asyncio.get_running_loop().run_in_executor(None, abs, -1)
            writer.close()
            server.close()
            return answers
        async def answer(reader, writer):
            writer.write(b"answer")
            writer.close()
        print(cloop.run(main()))
    """
    done = python("-c", textwrap.dedent(text) % kind)
    assert (done.stdout, done.stderr) == ("(b'answer', 1)\n", "")
