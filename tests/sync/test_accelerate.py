"""cloop.accelerate(): what stays as in asyncio, and when asyncio's own code runs."""

import asyncio
import gc
import importlib
import inspect
import pickle
import subprocess
import sys
import threading
import types
import weakref
from unittest import mock

import pytest

# Deprecated since 3.14; what it says must be right as long as it is there.
pytestmark = pytest.mark.filterwarnings("ignore:'asyncio.iscoroutinefunction' is deprecated:DeprecationWarning")


def functions():
    """The paths of the functions that can be accelerated on this Python."""
    accelerate = importlib.import_module("cloop._accelerate")
    for family in accelerate.FAMILIES:
        if isinstance(accelerate.variant_of(family), int):
            yield from family.bodies.values()


def get(path):
    module, names = path.split(":")
    found = importlib.import_module(module)
    for name in names.split("."):
        found = getattr(found, name)
    return found


def likeness(function):
    return (
        inspect.iscoroutinefunction(function),
        asyncio.iscoroutinefunction(function),
        inspect.signature(function),
        inspect.isfunction(function),
        function.__name__,
        function.__qualname__,
        function.__module__,
        function.__doc__,
        function.__code__,
        function.__defaults__,
        pickle.dumps(function),
        inspect.getsource(function),
        type(mock.create_autospec(function)),
    )


def test_functions_look_as_before(cloop):
    before = {path: (get(path), likeness(get(path))) for path in functions()}
    assert len(before) > 10
    cloop.accelerate()
    try:
        for path, (function, expected) in before.items():
            assert likeness(get(path)) == expected, path
            assert get(path) is function or sys.version_info[:2] == (3, 11)
    finally:
        cloop.accelerate(False)
    for path, (function, _) in before.items():
        assert get(path) is function, path


def test_a_name_from_before_is_accelerated_too(accelerate, cloop):
    module = types.ModuleType("of_the_program")
    sys.modules[module.__name__] = module
    try:
        accelerate(False)
        exec("from asyncio import sleep", vars(module))
        accelerate()

        async def main():
            return inspect.iscoroutine(nap(module.sleep))

        assert cloop.run(main()) is False
    finally:
        del sys.modules[module.__name__]


def nap(sleep=None):
    coro = (sleep or asyncio.sleep)(0)
    coro.close()
    return coro


def acquire(lock=None):
    coro = (lock or asyncio.Lock()).acquire()
    coro.close()
    return coro


def is_asyncios(coro):
    return inspect.iscoroutine(coro)


def test_bodies_are_called_on_our_loop_and_what_they_return_is_a_coroutine(accelerate, cloop, made):
    async def main():
        before = made()
        for coro in nap(), acquire():
            assert not inspect.iscoroutine(coro) and asyncio.iscoroutine(coro) and inspect.isawaitable(coro)
        assert made() == before + 2

    cloop.run(main())


def test_undone(accelerate, cloop):
    accelerate(False)

    async def main():
        return is_asyncios(nap()) and is_asyncios(acquire())

    assert cloop.run(main())


def test_no_loop(accelerate):
    assert is_asyncios(nap())


def test_another_loop(accelerate):
    async def main():
        return is_asyncios(nap()) and is_asyncios(acquire())

    loop = asyncio.SelectorEventLoop()
    assert loop.run_until_complete(main())
    loop.close()


def test_debug_mode(accelerate, cloop):
    async def main():
        coro = asyncio.Event().wait()
        assert not is_asyncios(coro)
        asyncio.get_running_loop().set_debug(True)
        assert is_asyncios(nap())
        task = asyncio.ensure_future(coro)  # it hands over
        await asyncio.sleep(0)
        assert is_asyncios(task.get_coro().cr_await) or task.get_coro().cr_frame is not None
        task.cancel()
        await asyncio.wait([task])

    cloop.run(main())


@pytest.mark.parametrize("name", ["settrace", "setprofile"])
def test_tracing(accelerate, cloop, name):
    seen = []

    def trace(frame, event, arg):
        seen.append(frame.f_code.co_name)

    async def main():
        lock, queue = asyncio.Lock(), asyncio.Queue()
        before = getattr(sys, "get" + name[3:])()
        getattr(sys, name)(trace)
        try:
            queue.put_nowait(1)
            async with lock:
                await asyncio.sleep(0)
        finally:
            getattr(sys, name)(before)

    cloop.run(main())
    assert {"put_nowait", "acquire", "release", "sleep"} <= set(seen)


def test_a_subclass(accelerate, cloop):
    class Sub(asyncio.Lock):
        pass

    async def main():
        return is_asyncios(acquire(Sub()))

    assert cloop.run(main())


def test_an_attribute_of_the_instance(accelerate, cloop):
    async def main():
        lock, calls = asyncio.Lock(), []
        lock.release = lambda: calls.append(1)
        async with lock:
            pass
        assert calls == [1] and lock.locked()

    cloop.run(main())


@pytest.mark.parametrize("asked", [False, True])
def test_a_method_of_the_class_replaced_and_put_back(accelerate, cloop, monkeypatch, asked):
    async def main():
        lock, calls = asyncio.Lock(), []
        if asked:
            vars(lock)  # from now on its attributes are in a dict
        original = asyncio.Lock.release
        with monkeypatch.context() as patch:
            patch.setattr(asyncio.Lock, "release", lambda self: (calls.append(1), original(self)))
            async with lock:
                pass
            assert calls == [1] and not lock.locked()
        async with lock:
            assert lock.locked()
        assert calls == [1] and not is_asyncios(acquire(lock))

    cloop.run(main())


def test_a_method_replaced_while_a_task_waits(accelerate, cloop, monkeypatch):
    async def main():
        lock, calls = asyncio.Lock(), []
        await lock.acquire()
        tasks = [asyncio.ensure_future(lock.acquire()) for _ in range(2)]
        await asyncio.sleep(0)
        monkeypatch.setattr(asyncio.Lock, "_wake_up_first", lambda self: calls.append(1))
        lock._locked = False
        tasks[0].cancel()
        await asyncio.wait(tasks[:1])
        assert calls == [1]
        tasks[1].cancel()
        await asyncio.wait(tasks)
        assert calls == [1, 1] and not lock._waiters

    cloop.run(main())


def test_a_global_replaced(accelerate, cloop, monkeypatch):
    calls = []

    async def main():
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(asyncio.events, "get_running_loop", lambda: calls.append(1) or loop)
        await asyncio.sleep(0.001)
        assert calls == [1]

    cloop.run(main())


def test_methods_of_the_loop_overridden(accelerate, cloop):
    calls = []

    class Loop(cloop.Loop):
        def create_future(self):
            calls.append("create_future")
            return super().create_future()

        def call_later(self, delay, callback, *args, **kwargs):
            calls.append(callback.__name__)
            return super().call_later(delay, callback, *args, **kwargs)

    async def main():
        await asyncio.sleep(0.001)
        event = asyncio.Event()
        asyncio.get_running_loop().call_soon(event.set)
        await event.wait()

    loop = Loop()
    loop.run_until_complete(main())
    loop.close()
    assert calls == ["create_future", "_set_result_unless_cancelled", "create_future"]


def test_sleep_whose_timer_cannot_be_cancelled(accelerate, cloop):
    """Its result is dropped."""
    result = ["result"]

    class Handle:
        def cancel(self):
            raise ZeroDivisionError

    class Loop(cloop.Loop):
        def call_later(self, delay, callback, *args, **kwargs):
            super().call_later(delay, callback, *args, **kwargs)
            return Handle()

    async def main():
        references = sys.getrefcount(result)
        try:
            await asyncio.sleep(0.001, result)
        except ZeroDivisionError:
            references -= 10
        await asyncio.sleep(0)  # the timer ends
        return sys.getrefcount(result) - references

    loop = Loop()
    assert loop.run_until_complete(main()) == 10
    loop.close()


def test_another_text_stays_asyncios(cloop, monkeypatch):
    async def acquire(self):
        return 5

    monkeypatch.setattr(asyncio.Lock, "acquire", acquire)
    cloop.accelerate()
    try:

        async def main():
            assert await asyncio.Lock().acquire() == 5
            assert not is_asyncios(asyncio.sleep(0).close() or nap())

        cloop.run(main())
        report = "\n".join(importlib.import_module("cloop._accelerate").report())
        assert "not Lock: another text than those known" in report
    finally:
        cloop.accelerate(False)


def test_nothing_of_a_function_that_is_not_one(cloop, monkeypatch):
    monkeypatch.setattr(asyncio.Event, "wait", mock.Mock())
    cloop.accelerate()
    report = "\n".join(importlib.import_module("cloop._accelerate").report())
    cloop.accelerate(False)
    assert "not Event: a program has replaced it" in report and "not Queue: needs Event" in report


def test_switched_while_tasks_wait(accelerate, cloop):
    async def main():
        lock, queue, order = asyncio.Lock(), asyncio.Queue(), []

        async def work(number):
            async with lock:
                order.append((number, await queue.get()))

        tasks = []
        for number in range(6):
            tasks.append(asyncio.ensure_future(work(number)))
            await asyncio.sleep(0)
            accelerate(number % 2 == 0)
        for number in range(6):
            queue.put_nowait(number)
            await asyncio.sleep(0)
            accelerate(number % 2 == 1)
        await asyncio.wait(tasks)
        assert order == [(number, number) for number in range(6)]

    cloop.run(main())


class Waits:
    """A method that waits, and what ends the wait, for each primitive."""

    def __init__(self):
        self.lock, self.event, self.queue, self.full = (
            asyncio.Lock(),
            asyncio.Event(),
            asyncio.Queue(),
            asyncio.Queue(1),
        )
        self.semaphore, self.condition = asyncio.Semaphore(0), asyncio.Condition()
        self.asked = []
        self.full.put_nowait(0)
        self.barrier = asyncio.Barrier(2) if sys.version_info >= (3, 11) else None

    async def waits(self):
        await self.lock.acquire()
        yield "lock", self.lock.acquire, self.lock.release
        yield "event", self.event.wait, self.event.set
        yield "get", self.queue.get, lambda: self.queue.put_nowait("item")
        yield "join", self.queue.join, self.queue.task_done
        yield "put", lambda: self.full.put(1), self.full.get_nowait
        yield "semaphore", self.semaphore.acquire, self.semaphore.release
        await self.condition.acquire()
        yield "condition", self.condition.wait, self.notify
        yield "wait_for", lambda: self.condition.wait_for(lambda: self.asked[1:]), self.notify
        if self.barrier is not None:
            yield "barrier", self.barrier.wait, lambda: asyncio.ensure_future(self.barrier.wait())
        yield "sleep", lambda: asyncio.sleep(0.001, "slept"), int

    def notify(self):
        self.asked.append(1)

        async def notify():
            async with self.condition:
                self.condition.notify()

        return asyncio.ensure_future(notify())


@pytest.mark.slow
@pytest.mark.parametrize("end", ["finishes", "is cancelled"])
@pytest.mark.parametrize("switches", [(False, True), (True, False), (True, True, True)])
def test_switched_while_a_task_waits_for_each_primitive(accelerate, as_asyncio, switches, end):
    def body(loop):
        async def main():
            seen, waits = [], Waits()
            async for name, wait, finish in waits.waits():
                accelerate(switches[0])
                task = asyncio.ensure_future(wait())
                await asyncio.sleep(0)
                for switch in switches[1:]:
                    accelerate(switch)
                seen.append((name, task.done()))
                if end == "is cancelled":
                    task.cancel()
                    await asyncio.sleep(0)
                if not task.done():
                    finish()
                await asyncio.wait([task])
                seen.append((name, task.cancelled() or task.result()))
            return seen

        return loop.run_until_complete(main())

    accelerate(False)
    as_asyncio(body)


@pytest.mark.slow
def test_from_threads_at_once(accelerate, cloop):
    def switch():
        for _ in range(20):
            accelerate(False)
            accelerate()

    async def main():
        lock = asyncio.Lock()
        threads = [threading.Thread(target=switch) for _ in range(2)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            async with lock:
                await asyncio.sleep(0)
        assert not lock.locked()

    cloop.run(main())
    assert not any(line.startswith("off") for line in importlib.import_module("cloop._accelerate").report())


def test_loops_in_two_threads(accelerate, cloop, made):
    barrier = threading.Barrier(2)

    async def main():
        barrier.wait()
        for _ in range(200):
            await asyncio.sleep(0)
            assert not is_asyncios(nap())

    threads = [threading.Thread(target=cloop.run, args=(main(),)) for _ in range(2)]
    before = made()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made() - before == 800


# Ways to turn it on

ASK = "import asyncio, inspect\nasync def main():\n  c = asyncio.sleep(0)\n  print(inspect.iscoroutine(c)); await c\n"


def output(*arguments):
    done = subprocess.run(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.parametrize("value, found", [("1", "False"), ("0", "True"), ("", "True")])
def test_the_variable(cloop, cloop_on_path, monkeypatch, value, found):
    monkeypatch.setenv("CLOOP_ACCELERATE", value)
    assert output("-c", ASK + "import cloop; cloop.run(main())").strip() == found


@pytest.mark.parametrize("option, found", [(["--accelerate"], "False"), ([], "True")])
def test_the_launcher(cloop, cloop_on_path, option, found):
    ask = ASK.replace("sleep(0)", "Lock().acquire()")  # the launcher wraps functions that took `loop`
    assert output("-m", "cloop", *option, "-c", ask + "asyncio.run(main())").strip() == found


def test_run(cloop, cloop_on_path):
    assert output("-c", ASK + "import cloop; cloop.run(main(), accelerate=True)").strip() == "False"


def test_info(cloop, cloop_on_path):
    assert "off; it would be: sleep, Event, Lock" in output("-m", "cloop", "--info")
    assert "in C       sleep, Event, Lock" in output("-m", "cloop", "--accelerate", "--info")


def test_info_without_futures_of_ours(cloop, cloop_on_path, monkeypatch):
    monkeypatch.setenv("CLOOP_TASKS", "stock")
    assert "not sleep: needs cloop.Future and cloop.Task" in output("-m", "cloop", "--accelerate", "--info")


# Coroutines


def test_one_that_is_never_awaited_warns(accelerate, cloop):
    async def main():
        with pytest.warns(RuntimeWarning, match=r"coroutine 'Lock.acquire' was never awaited"):
            asyncio.Lock().acquire()
        with pytest.warns(RuntimeWarning, match=r"coroutine 'sleep' was never awaited"):
            asyncio.sleep(1)

    cloop.run(main())


@pytest.mark.parametrize("how", ["close", "free", "throw"])
@pytest.mark.parametrize("make", ["lock", "event", "queue", "putter"] + ["semaphore"] * (sys.version_info >= (3, 10)))
def test_one_that_ends_while_it_waits_leaves_no_waiter(accelerate, cloop, how, make):
    async def main():
        lock, event, queue, full = asyncio.Lock(), asyncio.Event(), asyncio.Queue(), asyncio.Queue(1)
        semaphore = asyncio.Semaphore(0)
        await lock.acquire()
        full.put_nowait(1)
        coro, waiters = {
            "lock": lambda: (lock.acquire(), lambda: lock._waiters),
            "event": lambda: (event.wait(), lambda: event._waiters),
            "queue": lambda: (queue.get(), lambda: queue._getters),
            "putter": lambda: (full.put(2), lambda: full._putters),
            "semaphore": lambda: (semaphore.acquire(), lambda: semaphore._waiters),
        }[make]()
        future = coro.send(None)
        assert list(waiters()) == [future]
        if how == "close":
            coro.close()
        elif how == "throw":
            with pytest.raises(KeyError):
                coro.throw(KeyError())
        del coro
        assert not waiters()

    cloop.run(main())


def test_a_value_is_not_kept(accelerate, cloop):
    class Item:
        pass

    async def main():
        queue = asyncio.Queue()
        for wait in (False, True):
            item = Item()
            gone = weakref.ref(item)
            if wait:
                asyncio.get_running_loop().call_soon(queue.put_nowait, item)
            else:
                queue.put_nowait(item)
            del item
            item = await queue.get()
            assert item is gone()
            await asyncio.sleep(0)
            del item
            assert gone() is None
        result = await asyncio.sleep(0.001, Item())
        gone = weakref.ref(result)
        del result
        await asyncio.sleep(0)  # this step holds the future
        assert gone() is None

    cloop.run(main())


def test_arguments_that_are_wrong_are_refused_in_asyncios_words(accelerate, as_asyncio):
    def body(loop):
        async def main():
            texts = []
            for call in (
                lambda: asyncio.sleep(),
                lambda: asyncio.sleep(0, 1, 2),
                lambda: asyncio.sleep(0, wrong=1),
                lambda: asyncio.Lock().acquire(1),
                lambda: asyncio.Event().set(1),
                lambda: asyncio.Queue().put(),
                lambda: asyncio.Queue().put_nowait(),
                lambda: asyncio.gather(5),
                lambda: asyncio.gather(wrong=1),
            ):
                with pytest.raises(TypeError) as caught:
                    call()
                texts.append(str(caught.value))
            with pytest.raises(TypeError) as caught:
                await asyncio.sleep("x")
            return texts + [str(caught.value)]

        return loop.run_until_complete(main())

    as_asyncio(body)


def test_errors_of_primitives(accelerate, as_asyncio):
    def body(loop):
        async def main():
            seen = []
            bounded, full = asyncio.BoundedSemaphore(1), asyncio.Queue(1)
            full.put_nowait(1)
            for call in (
                asyncio.Lock().release,
                bounded.release,
                asyncio.Queue().get_nowait,
                lambda: full.put_nowait(2),
                asyncio.Queue().task_done,
            ):
                try:
                    call()
                except Exception as error:
                    seen.append((type(error).__name__, str(error), error.__context__))
            return seen

        return loop.run_until_complete(main())

    as_asyncio(body)


def test_an_item_whose_comparison_changes_the_queue(accelerate, as_asyncio):
    def body(loop):
        queues = []

        class Item:
            def __init__(self, number):
                self.number = number

            def __lt__(self, other):
                if self.number == 2:
                    queues[0]._unfinished_tasks += 10
                    queues[0]._getters.clear()
                return self.number < other.number

        async def main():
            queue = asyncio.PriorityQueue()
            queues.append(queue)
            for number in (3, 1, 2, 0, 2):
                await queue.put(Item(number))
            found = [(await queue.get()).number for _ in range(5)]
            return found, queue._unfinished_tasks

        return loop.run_until_complete(main())

    as_asyncio(body)


def test_a_loop_closed_while_tasks_wait(accelerate, cloop):
    lock = []

    async def wait():
        await lock[0].acquire()

    async def main():
        lock.append(asyncio.Lock())
        await lock[0].acquire()
        lock.append(asyncio.ensure_future(wait()))
        await asyncio.sleep(0)

    loop = cloop.new_event_loop()
    loop.set_exception_handler(lambda *_: None)
    loop.run_until_complete(main())
    loop.close()
    waiters = lock[0]._waiters
    del lock[1]
    gc.collect()
    assert len(waiters) <= 1


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio has no timeout()")
def test_timeouts_that_nest_and_expire(accelerate, as_asyncio):
    def body(loop):
        async def main():
            seen = []
            for outer, inner in ((0.001, 1), (1, 0.001), (-1, 0.001), (0, 0.001), (None, 0.001), ("same", "same")):
                at_once = loop.time() + 0.001  # both in one turn, however busy the machine is
                try:
                    async with asyncio.timeout_at(at_once) if outer == "same" else asyncio.timeout(outer) as first:
                        try:
                            async with (
                                asyncio.timeout_at(at_once) if inner == "same" else asyncio.timeout(inner)
                            ) as second:
                                await asyncio.Event().wait()
                        except TimeoutError as error:
                            seen.append(("inner", repr(error.__cause__), repr(error.__context__)))
                except TimeoutError as error:
                    seen.append(("outer", repr(error.__cause__), repr(error.__context__)))
                seen.append((first.expired(), second.expired(), asyncio.current_task().cancelling()))
            timeout = asyncio.timeout(1)
            async with timeout:
                timeout.reschedule(None)
            with pytest.raises(RuntimeError) as caught:
                async with timeout:
                    pass
            return seen, str(caught.value), repr(timeout)

        return loop.run_until_complete(main())

    as_asyncio(body)


@pytest.mark.parametrize("name", ["__aenter__", "__aexit__"])
def test_bound_methods_of_async_with(accelerate, cloop, name):
    """On 3.11 they are of a type of ours."""

    async def main():
        lock, other = asyncio.Lock(), asyncio.Lock()
        method = getattr(lock, name)
        assert isinstance(method, types.MethodType) and inspect.ismethod(method)
        assert method == getattr(lock, name) and hash(method) == hash(getattr(lock, name))
        assert method != getattr(other, name) and method != 5
        assert method == types.MethodType(getattr(asyncio.Lock, name), lock)
        assert method.__self__ is lock and method.__func__ is getattr(asyncio.Lock, name)
        assert inspect.iscoroutinefunction(method) and repr(method).startswith("<bound method ")
        assert str(inspect.signature(method)) == {"__aenter__": "()", "__aexit__": "(exc_type, exc, tb)"}[name]
        assert weakref.ref(method)() is method
        with pytest.raises(AttributeError):
            method.attribute = 5
        with pytest.raises(TypeError):
            method(1, 2, 3, 4)
        with pytest.raises(TypeError):
            method(wrong=5)
        lock.cycle = method
        gone = weakref.ref(lock)
        del lock, method
        gc.collect()
        assert gone() is None

    cloop.run(main())


def test_names_that_there_are_not(cloop):
    """What the package itself asks for has one."""
    with pytest.raises(ValueError, match="there is no nothing"):
        cloop._cloop._sync_pin("nothing", ())
    with pytest.raises(ValueError, match="there is no nothing"):
        cloop._cloop._sync_prepare("nothing", test_names_that_there_are_not)


def test_bound_methods_of_async_with_can_be_called(accelerate, cloop):
    async def main():
        lock = asyncio.Lock()
        enter, leave = lock.__aenter__, lock.__aexit__
        assert await enter() is None and lock.locked()
        assert await leave(None, exc=None, tb=None) is None and not lock.locked()
        assert await enter() is None
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(enter(), 0.001)
        assert await leave(KeyError, KeyError(), None) is None and not lock.locked()

    cloop.run(main())


def test_methods_have_weak_references_and_are_collected(accelerate, as_asyncio):
    def body(loop):
        lock, gone = asyncio.Lock(), []
        method = lock.acquire
        reference = weakref.ref(method, gone.append)
        seen = [reference() is method]
        del method
        seen += [reference() is None, len(gone), weakref.ref(asyncio.Lock.acquire)() is asyncio.Lock.acquire]
        lock.its_own = lock.acquire
        kept = weakref.ref(lock)
        del lock
        gc.collect()
        return seen, kept() is None

    as_asyncio(body)
