"""Methods overridden in a subclass or on an instance are called wherever asyncio calls them."""

import asyncio
import socket
import sys
import time
import types

import pytest


@pytest.fixture(params=["instance", "subclass"])
def override(request, new_loop, loop_class):
    """Creates a loop with the named methods replaced, on the instance or in a subclass. A replacement gets the loop
    first.
    """

    def override(**methods):
        if request.param == "subclass":
            return new_loop(type("Sub", (loop_class,), methods))
        loop = new_loop()
        for name, function in methods.items():
            setattr(loop, name, types.MethodType(function, loop))
        return loop

    return override


@pytest.fixture
def spy(loop_class):
    """Creates a replacement that notes its arguments and calls the original method."""

    def spy(name):
        original = getattr(loop_class, name)
        calls = []

        def replacement(self, *args, **kwargs):
            calls.append(args)
            return original(self, *args, **kwargs)

        return replacement, calls

    return spy


def run_once(loop):
    loop.call_soon(loop.stop)
    loop.run_forever()


def names(calls):
    """The names of the callbacks in the calls of a scheduling method."""
    return [getattr(callback, "__name__", type(callback).__name__) for callback in (args[0] for args in calls)]


async def nothing():
    pass


# time


def test_time_moves_the_timers(override):
    now = [1000.0]
    loop = override(time=lambda self: now[0])
    assert loop.time() == 1000.0
    seen = []
    handle = loop.call_later(100, seen.append, "later")
    assert handle.when() == 1100.0
    loop.call_at(1050, seen.append, "at")
    run_once(loop)
    assert seen == []
    now[0] = 1050.5
    run_once(loop)
    assert seen == ["at"]
    now[0] = 1100.5
    run_once(loop)
    assert seen == ["at", "later"]


def test_time_that_stands_still_fires_nothing(override):
    loop = override(time=lambda self: 5.0)
    loop.call_at(5.1, pytest.fail)
    for _ in range(3):
        run_once(loop)


def test_slow_clock_makes_timers_late(override):
    real = time.monotonic
    loop = override(time=lambda self: real() / 10)
    start = real()
    loop.run_until_complete(asyncio.sleep(0.005))
    assert real() - start >= 0.05


def test_timer_of_this_very_moment_of_a_large_clock(override, loop_kind):
    """time.time(), say, whose next float is further away than the clock's resolution: asyncio before 3.15 waits for it."""
    loop = override(time=lambda self: 1.9e9)
    seen = []
    loop.call_at(1.9e9, seen.append, "now")
    loop.call_at(1.9e9 + 1e-6, seen.append, "later")
    run_once(loop)
    assert seen == (["now"] if loop_kind != "asyncio" or sys.version_info >= (3, 15) else [])


def test_time_restored_on_the_instance(loop):
    loop.time = lambda: 5.0
    assert loop.call_later(1, print).when() == 6.0
    del loop.time
    assert loop.call_later(1, print).when() > 6.0


def test_time_set_while_running(loop, turn):
    seen = []
    loop.call_later(1000, seen.append, 1)
    now = loop.time()
    loop.call_soon(setattr, loop, "time", lambda: now + 2000)
    turn()
    turn()
    assert seen == [1]


def test_time_that_fails_is_raised_by_call_later(override):
    def time(self):
        if broken:
            raise ZeroDivisionError
        return 5.0

    broken = False
    loop = override(time=time)
    broken = True
    with pytest.raises(ZeroDivisionError):
        loop.call_later(1, print)
    broken = False


# call_soon and similar methods


def test_call_soon_sees_the_steps_of_tasks(override, spy):
    replacement, calls = spy("call_soon")
    loop = override(call_soon=replacement)
    before = len(calls)
    task = loop.create_task(nothing())
    assert len(calls) == before + 1
    loop.run_until_complete(task)
    assert len(calls) > before + 1  # the done callback of run_until_complete


def test_call_soon_sees_the_callbacks_of_futures(override, spy):
    replacement, calls = spy("call_soon")
    loop = override(call_soon=replacement)

    def callback(future):
        pass

    future = loop.create_future()
    future.add_done_callback(callback)
    future.set_result(None)
    assert names(calls) == ["callback"]
    future.add_done_callback(callback)
    assert names(calls) == ["callback", "callback"]


def test_call_soon_sees_wakeups(override, spy):
    replacement, calls = spy("call_soon")
    loop = override(call_soon=replacement)

    async def wait(future):
        await future

    async def main():
        future = loop.create_future()
        task = loop.create_task(wait(future))
        await asyncio.sleep(0)
        before = len(calls)
        future.set_result(None)
        assert len(calls) == before + 1
        await task

    loop.run_until_complete(main())


def test_call_soon_can_delay_everything(loop_class, new_loop):
    class Reversed(loop_class):
        held = None

        def call_soon(self, callback, *args, context=None):
            if self.held is None or callback == self.stop:
                return super().call_soon(callback, *args, context=context)
            self.held.append((callback, args))

    loop = new_loop(Reversed)
    seen = []
    loop.held = []

    async def step(number):
        seen.append(number)

    for number in range(3):
        loop.create_task(step(number))
    held, loop.held = loop.held, None
    for callback, args in reversed(held):
        loop.call_soon(callback, *args)
    run_once(loop)
    assert seen == [2, 1, 0]


def test_call_soon_restored_on_the_instance(loop, turn):
    seen = []
    loop.call_soon = lambda *args, **kwargs: seen.append(args)
    loop.create_task(nothing()).cancel()
    assert len(seen) == 1
    callback, *args = seen[0]
    del loop.call_soon
    loop.call_soon(callback, *args)
    turn()
    assert len(seen) == 1


@pytest.mark.parametrize("name", ["call_soon", "call_later", "call_at", "call_soon_threadsafe"])
def test_replacement_gets_what_the_caller_passed(override, name):
    seen = []
    loop = override(**{name: lambda self, *args, **kwargs: seen.append((args, kwargs)) or "its result"})
    assert getattr(loop, name)(1, print, "x", context=None) == "its result"
    assert seen == [((1, print, "x"), {"context": None})]


def trace(loop_class, body, *methods):
    """Which of the named methods body(loop) called, in order, on a loop whose subclass notes them."""
    calls = []

    def noting(name):
        original = getattr(loop_class, name)

        def method(self, *args, **kwargs):
            calls.append(name)
            return original(self, *args, **kwargs)

        return method

    loop = type("Sub", (loop_class,), {name: noting(name) for name in methods})()
    del calls[:]  # calls made while a loop is created do not count
    try:
        body(loop)
        return list(calls)
    finally:
        loop.close()


async def in_executor():
    await asyncio.get_running_loop().run_in_executor(None, int)


async def wait_for():
    await asyncio.wait_for(asyncio.sleep(0), 10)


async def gather():
    await asyncio.gather(nothing(), nothing())


async def nested():
    await asyncio.ensure_future(nothing())


async def sleep():
    await asyncio.sleep(0.0001)


async def resolve():
    await asyncio.get_running_loop().getaddrinfo("localhost", 80)  # a numeric name needs no executor


async def resolve_back():
    await asyncio.get_running_loop().getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)


async def generator():
    async def generate():
        yield 1

    async for _ in generate():
        break


PROGRAMS = [nothing, wait_for, gather, nested, sleep, generator]
METHODS = """call_soon call_later call_at call_soon_threadsafe create_task create_future run_forever run_until_complete
    stop shutdown_asyncgens""".split()
CASES = [(program, method) for program in PROGRAMS for method in METHODS]
CASES += [(in_executor, method) for method in ("run_in_executor", "create_future", "create_task")]
CASES += [(resolve, method) for method in ("run_in_executor", "getaddrinfo", "create_task")]
CASES += [(resolve_back, method) for method in ("run_in_executor", "getnameinfo", "create_task")]


@pytest.mark.parametrize("program, method", CASES, ids=lambda value: getattr(value, "__name__", value))
def test_method_is_called_as_often_as_asyncio_calls_it(loop_class, program, method):
    def body(loop):
        loop.run_until_complete(program())
        loop.run_until_complete(loop.shutdown_asyncgens())

    expected = trace(asyncio.SelectorEventLoop, body, method)
    assert trace(loop_class, body, method) == expected


def test_call_at_sees_call_later(override, spy):
    replacement, calls = spy("call_at")
    loop = override(call_at=replacement)
    handle = loop.call_later(5, print)
    assert [args[0] for args in calls] == [handle.when()]


def test_call_later_sees_sleep(override, spy):
    replacement, calls = spy("call_later")
    loop = override(call_later=replacement)
    loop.run_until_complete(asyncio.sleep(0.001))
    assert [args[0] for args in calls] == [0.001]


# Tasks and futures


def test_create_task_sees_all_tasks(override, spy):
    replacement, calls = spy("create_task")
    loop = override(create_task=replacement)

    async def main():
        await asyncio.create_task(nothing())
        await asyncio.gather(nothing(), nothing())

    loop.run_until_complete(main())
    assert len(calls) == 4


def test_create_future_sees_sleep(override, spy):
    replacement, calls = spy("create_future")
    loop = override(create_future=replacement)
    loop.run_until_complete(asyncio.sleep(0.001))
    assert len(calls) == 1


def test_get_debug_is_asked_by_futures(override):
    loop = override(get_debug=lambda self: True)
    assert loop.create_future()._source_traceback


# Errors


def test_call_exception_handler_sees_failing_callbacks(override):
    seen = []
    loop = override(call_exception_handler=lambda self, context: seen.append(context))
    loop.call_soon(lambda: 1 / 0)
    run_once(loop)
    assert [type(context["exception"]) for context in seen] == [ZeroDivisionError]


def test_call_exception_handler_sees_lost_exceptions(override):
    seen = []
    loop = override(call_exception_handler=lambda self, context: seen.append(context["message"]))
    loop.create_future().set_exception(ZeroDivisionError())
    assert seen == ["Future exception was never retrieved"]


def test_default_exception_handler_sees_reports(override):
    seen = []
    loop = override(default_exception_handler=lambda self, context: seen.append(context))
    loop.call_soon(lambda: 1 / 0)
    run_once(loop)
    assert len(seen) == 1


def test_call_exception_handler_set_while_running(loop, turn):
    seen = []
    loop.call_soon(setattr, loop, "call_exception_handler", seen.append)
    loop.call_soon(lambda: 1 / 0)
    turn()
    assert len(seen) == 1


# Executor and names


def test_run_in_executor_sees_other_callers(override):
    seen = []

    def run_in_executor(self, executor, function, *args):
        seen.append(executor)
        future = self.create_future()
        future.set_result(function(*args))
        return future

    loop = override(run_in_executor=run_in_executor)
    loop.run_until_complete(loop.getaddrinfo("localhost", 80))
    loop.run_until_complete(loop.getnameinfo(("127.0.0.1", 80)))
    if sys.version_info >= (3, 9):
        loop.run_until_complete(asyncio.to_thread(int))
        assert len(seen) == 3
    assert set(seen) == {None}


def test_getaddrinfo_is_what_create_connection_calls(override):
    seen = []

    async def getaddrinfo(self, host, port, **options):
        seen.append((host, port))
        return []

    loop = override(getaddrinfo=getaddrinfo)
    with pytest.raises(OSError):
        loop.run_until_complete(loop.create_connection(asyncio.Protocol, "name.invalid", 80))
    assert seen == [("name.invalid", 80)]


# Running


def test_run_forever_is_what_run_until_complete_calls(override, spy):
    replacement, calls = spy("run_forever")
    loop = override(run_forever=replacement)
    loop.run_until_complete(nothing())
    assert len(calls) == 1


def test_stop_is_what_ends_run_until_complete(override, spy):
    replacement, calls = spy("stop")
    loop = override(stop=replacement)
    loop.run_until_complete(nothing())
    assert len(calls) == 1


def test_close_can_be_extended(new_loop, loop_class):
    class Sub(loop_class):
        closed = 0

        def close(self):
            self.closed += 1
            super().close()

    loop = new_loop(Sub)
    loop.close()
    assert loop.closed == 1 and loop.is_closed()
