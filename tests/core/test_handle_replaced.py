"""asyncio.Handle._run() that a program has replaced, as aiodebug, logfire and others do to see each callback and how long
it takes: it is called for callbacks, timers and steps of tasks, also where cloop has no handle for them.
"""

import asyncio
import os
import signal
import socket
import textwrap
import types

import pytest


@pytest.fixture(params=["class", "code"])
def seen(request, monkeypatch):
    """The callbacks that went through the replacement. It is another function, or the same with other code, as ddtrace
    and other wrappers of bytecode have it.
    """
    original, seen = asyncio.events.Handle._run, []
    copy = types.FunctionType(original.__code__, original.__globals__, "_run")

    def run(self):
        seen.append(self._callback)
        return copy(self)

    def code(self):
        return _test_of_cloop(self)  # noqa: F821

    if request.param == "class":
        monkeypatch.setattr(asyncio.events.Handle, "_run", run)
    else:
        monkeypatch.setitem(original.__globals__, "_test_of_cloop", run)
        monkeypatch.setattr(original, "__code__", code.__code__)
    return seen


def run_once(loop):
    loop.call_soon(loop.stop)
    loop.run_forever()


class Named:
    """A callback that notes its arguments."""

    def __init__(self):
        self.called = []

    def __call__(self, *args):
        self.called.append(args)


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("count", [0, 1, 5])
@pytest.mark.parametrize("kind", ["call_soon", "call_soon_threadsafe", "call_later", "add_done_callback"])
def test_callbacks(loop, seen, kind, count, debug):
    loop.set_debug(debug)
    callback, arguments = Named(), tuple(range(count))
    if kind == "call_later":
        loop.call_later(0, callback, *arguments)
    elif kind == "add_done_callback":
        future = loop.create_future()
        arguments = (future,)
        future.add_done_callback(callback)
        future.set_result(None)
    else:
        getattr(loop, kind)(callback, *arguments)
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    assert callback.called == [arguments] and seen.count(callback) == 1


def test_readers_and_signals(loop, seen):
    callback, handler = Named(), Named()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        loop.add_reader(ours, callback, 1)
        loop.add_signal_handler(signal.SIGUSR1, handler, 2)
        theirs.send(b"x")
        os.kill(os.getpid(), signal.SIGUSR1)
        while not (callback.called and handler.called):
            run_once(loop)
        loop.remove_reader(ours)
        loop.remove_signal_handler(signal.SIGUSR1)
    assert callback.called[0] == (1,) and handler.called == [(2,)]
    assert callback in seen and handler in seen


def test_steps_of_tasks(as_asyncio, seen):
    """Each step is seen, with the task as the callback's `__self__`: by that the tools name it."""

    def body(loop):
        async def sub(number):
            await asyncio.sleep(0)
            future = loop.create_future()
            loop.call_soon(future.set_result, number)
            return await future

        async def main():
            return await asyncio.gather(sub(1), asyncio.wait_for(sub(2), 10)), await loop.run_in_executor(None, int)

        del seen[:]
        task = loop.create_task(main())
        result = loop.run_until_complete(task)
        mine = [each for each in seen if getattr(each, "__self__", None) is task]
        tasks = [each for each in seen if isinstance(getattr(each, "__self__", None), asyncio.Task)]
        return result, len(mine), len(tasks)

    assert as_asyncio(body)["result"][0] == ([1, 2], 0)


def test_a_server_with_streams(loop, seen):
    async def handle(reader, writer):
        writer.write(await reader.readline())
        writer.close()

    async def main():
        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"a line\n")
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        return answer

    assert loop.run_until_complete(main()) == b"a line\n"
    assert len(seen) > 8


def test_exceptions_of_callbacks_are_reported(loop, seen, reports):
    def fail():
        raise ValueError("no")

    handle = loop.call_soon(fail)
    run_once(loop)
    assert [(str(each["exception"]), each["handle"]) for each in reports] == [("no", handle)]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_leaves_the_loop(loop, seen, kind):
    def leave():
        raise kind

    callback = Named()
    loop.call_soon(leave)
    loop.call_soon(callback)
    with pytest.raises(kind):
        loop.run_forever()
    run_once(loop)
    assert callback.called == [()]


def test_exceptions_of_the_replacement_leave_the_loop(loop, monkeypatch):
    def run(self):
        raise ValueError("of the tool")

    loop.call_soon(int)
    with monkeypatch.context() as patch:
        patch.setattr(asyncio.events.Handle, "_run", run)
        with pytest.raises(ValueError, match="of the tool"):
            loop.run_forever()
    run_once(loop)


def test_a_replacement_that_does_not_call_it(loop, monkeypatch):
    callback, number = Named(), []
    with monkeypatch.context() as patch:
        patch.setattr(asyncio.events.Handle, "_run", lambda self: number.append(1) or len(number) > 1 and loop.stop())
        loop.call_soon(callback)
        loop.call_soon(callback)
        loop.run_forever()
    assert callback.called == [] and number == [1, 1]


def test_cancelled_handles_are_left_out(loop, seen):
    callback, itself = Named(), []
    loop.call_soon(callback).cancel()
    itself.append(loop.call_soon(lambda: itself[0].cancel()))
    run_once(loop)
    assert callback not in seen and callback.called == [] and itself[0].cancelled()


def test_only_timers(loop, monkeypatch):
    seen, original = [], asyncio.events.TimerHandle._run
    monkeypatch.setattr(
        asyncio.events.TimerHandle, "_run", lambda self: seen.append(self._callback) or original(self), raising=False
    )
    soon, later = Named(), Named()
    loop.call_soon(soon)
    loop.call_later(0, later)
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    assert soon.called == later.called == [()]
    assert later in seen and soon not in seen


def test_set_and_put_back_while_the_loop_runs(loop, monkeypatch):
    original, seen = asyncio.events.Handle._run, []
    callbacks = [Named(), Named(), Named()]

    async def main():
        for number, callback in enumerate(callbacks):
            if number == 1:
                patch.setattr(asyncio.events.Handle, "_run", lambda self: seen.append(self._callback) or original(self))
            elif number == 2:
                patch.undo()
            await asyncio.sleep(0.001)
            loop.call_soon(callback)
            await asyncio.sleep(0.001)

    with monkeypatch.context() as patch:
        loop.run_until_complete(main())
    assert [callback.called for callback in callbacks] == [[()]] * 3
    assert [callback in seen for callback in callbacks] == [False, True, False]


def test_replaced_before_the_import(python, loop_kind):
    factory = "asyncio.SelectorEventLoop" if loop_kind == "asyncio" else "__import__('cloop').new_event_loop"
    text = """
        import asyncio
        original, seen = asyncio.events.Handle._run, []
        asyncio.events.Handle._run = lambda self: seen.append(self._callback) or original(self)
        loop = %s()
        loop.call_soon(print, "a callback")
        loop.call_soon(loop.stop)
        loop.run_forever()
        loop.close()
        print(seen[0] is print)
    """
    done = python("-c", textwrap.dedent(text) % factory)
    assert (done.stdout, done.stderr) == ("a callback\nTrue\n", "")
