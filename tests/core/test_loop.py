"""The loop: turns, stop, run_until_complete, close."""

import asyncio
import contextvars
import errno
import gc
import os
import re
import resource
import signal
import sys
import threading
import time
import weakref

import pytest

VAR = contextvars.ContextVar("VAR", default="unset")


class Closable:
    """An argument whose release can be observed."""


def result_of(body):
    """What body() returned, or the type and text of what it raised."""
    try:
        return body()
    except Exception as error:
        return type(error), str(error)


# The object


def test_is_an_event_loop(loop):
    assert isinstance(loop, asyncio.AbstractEventLoop)


def test_has_every_public_name_of_asyncio(loop):
    missing = [name for name in dir(asyncio.SelectorEventLoop) if name[0] != "_" and not hasattr(loop, name)]
    assert missing == []


def test_subclass_instance_attributes_and_weak_references(new_loop, loop_class):
    class Sub(loop_class):
        def __init__(self):
            super().__init__()
            self.extra = 5

    loop = new_loop(Sub)
    assert loop.extra == 5
    assert weakref.ref(loop)() is loop


def test_repr(as_asyncio):
    def shown(loop):
        return re.sub(" poller=[a-zN][a-z]+>$", ">", repr(loop))

    def body(loop):
        seen = [shown(loop)]
        loop.call_soon(lambda: seen.append(shown(loop)))
        loop.call_soon(loop.stop)
        loop.run_forever()
        loop.set_debug(True)
        seen.append(shown(loop))
        loop.close()
        return seen + [shown(loop)]

    as_asyncio(body)


def test_repr_names_the_poller(cloop, loop, loop_kind):
    if not isinstance(loop, cloop.Loop):
        pytest.skip("of cloop")
    poller = loop_kind.split("-")[1]
    assert repr(loop) == "<cloop.Loop running=False closed=False debug=False poller=%s>" % poller
    loop.close()
    assert repr(loop) == "<cloop.Loop running=False closed=True debug=False poller=None>"


def test_time_is_the_monotonic_clock(loop):
    before = time.monotonic()
    now = loop.time()
    assert isinstance(now, float)
    assert before <= now <= time.monotonic()


# call_soon


def test_call_soon_runs_in_order(loop, turn):
    seen = []
    for number in range(1000):
        loop.call_soon(seen.append, number)
    turn()
    assert seen == list(range(1000))


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 6, 9, 40])
def test_call_soon_passes_arguments(loop, turn, count):
    seen = []
    loop.call_soon(lambda *args: seen.append(args), *range(count))
    turn()
    assert seen == [tuple(range(count))]


def test_only_callbacks_ready_at_the_start_of_a_turn_run_in_it(loop, turn):
    seen = []

    def again(depth):
        seen.append(depth)
        loop.call_soon(again, depth + 1)

    loop.call_soon(again, 0)
    turn()
    assert seen == [0]
    turn()
    assert seen == [0, 1]


def test_order_is_kept_while_the_queue_grows_and_wraps(loop):
    seen = []

    def add(number):
        seen.append(number)
        for child in (2 * number + 1, 2 * number + 2):
            if child < 3000:
                loop.call_soon(add, child)
        if number == 2999:
            loop.stop()

    loop.call_soon(add, 0)
    loop.run_forever()
    assert seen == list(range(3000))


def test_callbacks_run_in_the_context_of_the_caller(loop, turn):
    seen = []

    def schedule(value):
        VAR.set(value)
        loop.call_soon(lambda: seen.append(VAR.get()))

    contextvars.copy_context().run(schedule, "one")
    contextvars.copy_context().run(schedule, "two")
    turn()
    assert seen == ["one", "two"]


@pytest.mark.parametrize("method", ["call_soon", "call_soon_threadsafe", "call_later", "call_at"])
def test_context_can_be_given(loop, method):
    context = contextvars.copy_context()
    context.run(VAR.set, "given")
    delay = () if "soon" in method else (0,)

    def callback():
        VAR.set(VAR.get() + " and changed")
        loop.stop()

    getattr(loop, method)(*delay, callback, context=context)
    loop.run_forever()
    assert context[VAR] == "given and changed"
    assert VAR.get() == "unset"


def test_context_none_means_the_current_one(loop, turn):
    seen = []

    def schedule():
        VAR.set("current")
        loop.call_soon(lambda: seen.append(VAR.get()), context=None)

    contextvars.copy_context().run(schedule)
    turn()
    assert seen == ["current"]


@pytest.mark.parametrize(
    "call",
    [
        lambda loop: loop.call_soon(),
        lambda loop: loop.call_later(1),
        lambda loop: loop.call_at(1),
        lambda loop: loop.call_soon_threadsafe(),
        lambda loop: loop.call_soon(print, wrong=1),
        lambda loop: loop.stop(1),
    ],
    ids=["call_soon", "call_later", "call_at", "call_soon_threadsafe", "keyword", "stop"],
)
def test_wrong_arguments_are_type_errors(loop, call):
    with pytest.raises(TypeError):
        call(loop)


@pytest.mark.parametrize("context", [5, "x", {}], ids=repr)
def test_a_context_of_the_wrong_type_reaches_no_callback(loop, turn, reports, context):
    seen = []
    try:
        loop.call_soon(seen.append, 1, context=context)
        turn()
    except (TypeError, AttributeError):
        pass
    assert seen == []


# stop


def test_stop_lets_the_turn_finish(loop):
    seen = []
    loop.call_soon(loop.stop)
    loop.call_soon(seen.append, 1)
    loop.run_forever()
    assert seen == [1]


def test_stop_before_run_gives_one_turn(loop):
    seen = []
    loop.call_soon(lambda: loop.call_soon(seen.append, "second turn"))
    loop.call_soon(seen.append, "first turn")
    loop.stop()
    loop.run_forever()
    assert seen == ["first turn"]


def test_stop_called_twice_stops_one_run(loop, turn):
    loop.stop()
    loop.stop()
    loop.run_forever()
    seen = []
    loop.call_soon(seen.append, 1)
    loop.call_soon(lambda: loop.call_soon(lambda: loop.call_soon(loop.stop)))
    loop.run_forever()
    assert seen == [1]


def test_callbacks_left_at_stop_run_in_the_next_run(loop, turn):
    seen = []
    loop.call_soon(lambda: loop.call_soon(seen.append, "left"))
    turn()
    assert seen == []
    turn()
    assert seen == ["left"]


def test_assigning_the_private_stop_flag_does_no_harm(loop, turn):
    loop._stopping = False  # sanic does
    turn()


# Running


def test_is_running_only_inside_run(loop):
    seen = []

    def look():
        seen.append((loop.is_running(), asyncio.get_running_loop() is loop, asyncio._get_running_loop() is loop))
        loop.stop()

    loop.call_soon(look)
    assert not loop.is_running()
    loop.run_forever()
    assert seen == [(True, True, True)]
    assert not loop.is_running()
    assert asyncio._get_running_loop() is None


@pytest.mark.parametrize("method", ["run_forever", "run_until_complete"])
@pytest.mark.parametrize("which", ["same", "other"])
def test_running_inside_a_running_loop_is_refused(as_asyncio, loop_class, method, which):
    def body(loop):
        other = loop if which == "same" else type(loop)()
        future = other.create_future()
        args = (future,) if method == "run_until_complete" else ()
        seen = []
        loop.call_soon(lambda: seen.append(result_of(lambda: getattr(other, method)(*args))))
        loop.call_soon(loop.stop)
        loop.run_forever()
        other.close()
        return seen

    ((kind, _),) = as_asyncio(body)["result"]
    assert kind is RuntimeError


def test_runs_in_a_thread_while_another_runs_in_the_main_thread(new_loop):
    first, second = new_loop(), new_loop()
    seen = []

    async def meet(name, barrier):
        barrier.wait(10)
        seen.append((name, asyncio.get_running_loop()))

    barrier = threading.Barrier(2)
    thread = threading.Thread(target=lambda: second.run_until_complete(meet("second", barrier)))
    thread.start()
    first.run_until_complete(meet("first", barrier))
    thread.join()
    assert dict(seen) == {"first": first, "second": second}


def test_can_run_in_one_thread_after_another(loop, turn):
    thread = threading.Thread(target=turn)
    thread.start()
    thread.join()
    turn()


def test_the_same_loop_cannot_run_in_two_threads(loop):
    errors = []

    def run_again():
        try:
            loop.run_forever()
        except RuntimeError as error:
            errors.append(str(error))
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=run_again)
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()
    assert errors == ["This event loop is already running"]


def test_exception_from_a_future_leaves_the_loop_usable(loop):
    async def fail():
        raise ZeroDivisionError

    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            loop.run_until_complete(fail())
        assert not loop.is_running()


# run_until_complete


async def answer():
    return 42


class Awaitable:
    def __await__(self):
        return (yield from answer().__await__())


@pytest.mark.parametrize("make", [answer, Awaitable], ids=["coroutine", "awaitable"])
def test_run_until_complete_returns_the_result(loop, make):
    assert loop.run_until_complete(make()) == 42


def test_run_until_complete_of_a_done_future(loop):
    future = loop.create_future()
    future.set_result(42)
    assert loop.run_until_complete(future) == 42


def test_run_until_complete_of_a_future_that_a_callback_sets(loop):
    future = loop.create_future()
    loop.call_soon(future.set_result, 42)
    assert loop.run_until_complete(future) == 42


def test_run_until_complete_of_a_task_that_has_already_run(loop, turn):
    task = loop.create_task(answer())
    turn()
    assert task.done()
    assert loop.run_until_complete(task) == 42


def test_run_until_complete_of_a_cancelled_future(loop):
    future = loop.create_future()
    future.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(future)


def test_run_until_complete_when_stopped_early(as_asyncio):
    def body(loop):
        future = loop.create_future()
        loop.call_soon(loop.stop)
        loop.run_until_complete(future)

    expected = (RuntimeError, "Event loop stopped before Future completed.")
    assert as_asyncio(body)["result"] == expected


def test_a_future_stopped_early_can_be_resumed(loop):
    future = loop.create_future()
    loop.call_soon(loop.stop)
    with pytest.raises(RuntimeError):
        loop.run_until_complete(future)
    loop.call_soon(future.set_result, 42)
    assert loop.run_until_complete(future) == 42


def test_a_future_stopped_early_no_longer_stops_the_loop(loop, turn):
    future = loop.create_future()
    loop.call_soon(loop.stop)
    with pytest.raises(RuntimeError):
        loop.run_until_complete(future)
    future.set_result(None)
    seen = []
    loop.call_soon(lambda: loop.call_soon(lambda: (seen.append(1), loop.stop())))
    loop.run_forever()
    assert seen == [1]


def test_run_until_complete_of_a_foreign_future(as_asyncio):
    def body(loop):
        other = type(loop)()
        try:
            loop.run_until_complete(other.create_future())
        finally:
            other.close()

    assert as_asyncio(body)["result"][0] is ValueError


@pytest.mark.parametrize("value", [None, 5, "x", object, answer], ids=["None", "int", "str", "class", "function"])
def test_run_until_complete_of_nonsense(as_asyncio, value):
    assert as_asyncio(lambda loop: loop.run_until_complete(value))["result"][0] is TypeError


def test_run_until_complete_adds_the_callback_that_anyio_looks_for(loop):
    async def look():
        task = asyncio.current_task()
        return [callback for callback, context in task._callbacks]

    assert loop.run_until_complete(look()) == [asyncio.base_events._run_until_complete_cb]


def test_an_exception_raised_by_run_until_complete_is_not_reported_again(loop, reports):
    async def fail():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        loop.run_until_complete(fail())
    assert reports == []


# close


def test_close_can_be_repeated(loop):
    assert not loop.is_closed()
    loop.close()
    loop.close()
    assert loop.is_closed()


def test_close_leaves_no_new_object(new_loop):
    """grpclib's tests look for leaks so."""
    new_loop().close()
    loop = new_loop()
    loop.run_until_complete(asyncio.sleep(0))
    gc.collect()
    gc.disable()
    try:
        before = set(map(id, gc.get_objects()))
        loop.close()
        now = gc.get_objects()  # before a comprehension makes its own
        assert [type(item) for item in now if id(item) not in before and item is not before] == []
    finally:
        gc.enable()


def test_close_of_a_running_loop_is_refused(as_asyncio):
    def body(loop):
        seen = []
        loop.call_soon(lambda: seen.append(result_of(loop.close)))
        loop.call_soon(loop.stop)
        loop.run_forever()
        return seen

    assert as_asyncio(body)["result"] == [(RuntimeError, "Cannot close a running event loop")]


def test_close_that_is_refused_changes_nothing(loop, run):
    async def main():
        loop.add_signal_handler(signal.SIGUSR1, int)
        with pytest.raises(RuntimeError):
            loop.close()

    run(main())
    assert loop.remove_signal_handler(signal.SIGUSR1)


@pytest.mark.parametrize(
    "call",
    [
        lambda loop: loop.run_forever(),
        lambda loop: loop.run_until_complete(loop.create_future()),
        lambda loop: loop.call_soon(print),
        lambda loop: loop.call_soon(5),
        lambda loop: loop.call_soon_threadsafe(print),
        lambda loop: loop.call_later(1, print),
        lambda loop: loop.call_at(1, print),
        lambda loop: loop.run_in_executor(None, print),
        lambda loop: loop.add_reader(0, print),
        lambda loop: loop.add_writer(0, print),
        lambda loop: loop.remove_reader(0),
        lambda loop: loop.remove_writer(0),
        lambda loop: loop.add_signal_handler(10, print),
        lambda loop: loop.remove_signal_handler(10),
        lambda loop: loop.stop(),
        lambda loop: loop.is_running(),
        lambda loop: loop.set_debug(True),
        lambda loop: loop.create_future().done(),
        lambda loop: loop.call_exception_handler({"message": "after close"}),
        lambda loop: loop.time() > 0,
    ],
    ids=lambda call: call.__code__.co_names[0],
)
def test_calls_on_a_closed_loop(as_asyncio, call):
    def body(loop):
        loop.close()
        return call(loop)

    as_asyncio(body)


def test_create_task_on_a_closed_loop(as_asyncio):
    def body(loop):
        loop.close()
        coroutine = answer()
        try:
            loop.create_task(coroutine)
        finally:
            coroutine.close()

    assert as_asyncio(body)["result"][:2] == (RuntimeError, "Event loop is closed")


def test_close_drops_what_is_pending(loop):
    argument = Closable()
    watch = weakref.ref(argument)
    loop.call_soon(print, argument)
    loop.call_soon_threadsafe(print, argument)
    loop.call_later(1000, print, argument)
    del argument
    loop.close()
    assert watch() is None


def test_cancelling_a_handle_of_a_closed_loop(loop):
    handles = [loop.call_soon(print), loop.call_later(1000, print)]
    loop.close()
    for handle in handles:
        handle.cancel()
        assert handle.cancelled()


def test_two_loops_do_not_share_callbacks(new_loop):
    first, second = new_loop(), new_loop()
    seen = []
    first.call_soon(seen.append, "first")
    second.call_soon(seen.append, "second")
    first.call_soon(first.stop)
    first.run_forever()
    assert seen == ["first"]


def test_a_loop_without_cloop_state_is_refused(loop_kind, loop_class):
    if loop_kind == "asyncio":
        pytest.skip("asyncio's loop is plain Python")
    loop = loop_class.__new__(loop_class)
    try:  # either state is acceptable, but not a crash
        loop.call_soon(print)
        loop.time()
    except (RuntimeError, AttributeError):
        pass
    finally:
        try:
            loop.close()
        except (RuntimeError, AttributeError):
            pass


def test_init_called_twice_does_not_leak(loop_class, loop_kind):
    if loop_kind == "asyncio":
        pytest.skip("asyncio leaks its selector")
    loop = loop_class()
    try:
        loop.__init__()
    except RuntimeError:
        pass
    loop.close()


def test_running_flag_is_clear_after_a_keyboard_interrupt(loop, turn):
    def interrupt():
        raise KeyboardInterrupt

    loop.call_soon(interrupt)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    assert not loop.is_running()
    assert asyncio._get_running_loop() is None
    turn()


def test_deep_recursion_of_a_callback_is_reported(loop, turn, reports):
    def recurse():
        recurse()

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(400)
    try:
        loop.call_soon(recurse)
        turn()
    finally:
        sys.setrecursionlimit(limit)
    assert [type(report["exception"]) for report in reports] == [RecursionError]


def test_running_loop_is_unset_even_if_set_running_loop_fails(loop, new_loop, loop_kind, monkeypatch):
    """The running loop stayed set, and no other loop could run in the thread."""
    if loop_kind == "asyncio":
        pytest.skip("asyncio's stays")
    real = asyncio.events._set_running_loop

    def failing(running):
        if running is None:
            raise MemoryError
        real(running)

    monkeypatch.setattr(asyncio.events, "_set_running_loop", failing)
    loop.call_soon(loop.stop)
    with pytest.raises(MemoryError):
        loop.run_forever()
    monkeypatch.setattr(asyncio.events, "_set_running_loop", real)
    assert not loop.is_running() and asyncio._get_running_loop() is None
    other = new_loop()
    other.run_until_complete(asyncio.sleep(0))
    loop.run_until_complete(asyncio.sleep(0))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of asyncio's half-made loop
@pytest.mark.parametrize("spare", [0, 1])
def test_there_is_no_loop_without_descriptors(loop_class, loop_kind, spare):
    if loop_kind == "asyncio" and spare:
        pytest.skip("asyncio's keeps what it has opened")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + spare, limits[1]))
    try:
        with pytest.raises(OSError) as raised:
            loop_class()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert raised.value.errno == errno.EMFILE
    loop_class().close()


class Awaited:
    """What a task factory returns: a future, one of whose methods fails."""

    _asyncio_future_blocking = False
    _source_traceback = None

    def __init__(self, fails, calls):
        self.fails, self.calls = fails, calls

    def at(self, name):
        self.calls.append(name)
        if name == self.fails:
            raise LookupError(name)

    def set_name(self, name):  # Python 3.13.0 calls it
        pass

    def add_done_callback(self, callback, context=None):
        self.at("add_done_callback")

    def remove_done_callback(self, callback):
        self.at("remove_done_callback")

    def done(self):
        self.at("done")
        return True

    def cancelled(self):
        self.at("cancelled")
        return 0

    def exception(self):
        self.at("exception")


@pytest.mark.parametrize("fails", [None, "done", "cancelled", "exception", "remove_done_callback"])
def test_a_future_that_fails_after_an_exception_has_left_the_loop(as_asyncio, fails):
    def body(loop):
        async def coroutine():
            pass

        def factory(loop, coro, **options):
            coro.close()
            return Awaited(fails, calls)

        def leave():
            raise SystemExit

        calls = []
        loop.set_task_factory(factory)
        loop.call_soon(leave)
        try:
            loop.run_until_complete(coroutine())
        except BaseException as error:
            return calls, repr(error), repr(error.__context__)

    calls, error, context = as_asyncio(body)["result"]
    assert calls[-1] == "remove_done_callback"
    assert (error, context) == (
        ("SystemExit()", "None") if fails is None else ("LookupError('%s')" % fails, "SystemExit()")
    )


@pytest.mark.parametrize("method", ["run_forever", "run_until_complete"])
def test_is_running_may_be_overridden(loop, method):
    loop.is_running = lambda: True
    loop.call_soon(loop.stop)
    with pytest.raises(RuntimeError, match="This event loop is already running"):
        getattr(loop, method)(*[loop.create_future()] if method == "run_until_complete" else [])
    del loop.is_running
