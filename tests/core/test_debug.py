"""Debug mode: slow callbacks, wrong threads, invalid callbacks, and where things were created."""

import asyncio
import logging
import re
import socket
import sys
import sysconfig
import threading
import time

import pytest

DEPTH = 10  # asyncio.constants.DEBUG_STACK_DEPTH


async def coroutine_function():
    pass


def slow():
    time.sleep(0.02)


def run_once(loop):
    loop.call_soon(loop.stop)
    loop.run_forever()


# The switch


def test_debug_mode_is_off_by_default_and_can_be_set(loop):
    assert loop.get_debug() is False
    loop.set_debug(True)
    assert loop.get_debug() is True
    loop.set_debug(False)
    assert loop.get_debug() is False


@pytest.mark.parametrize(
    "options, variable, expected",
    [((), "", "False"), (("-X", "dev"), "", "True"), ((), "1", "True"), (("-E",), "1", "False")],
    ids=["default", "dev mode", "environment", "environment ignored"],
)
def test_default_follows_the_interpreter(script, loop_kind, monkeypatch, options, variable, expected):
    if "-E" in options and loop_kind != "asyncio":
        pytest.skip("-E hides the path of cloop too")
    monkeypatch.setenv("PYTHONASYNCIODEBUG", variable)
    printed = script("loop = new_loop(); print(loop.get_debug()); loop.close()", options=options)
    assert printed.strip() == expected


# Slow callbacks


@pytest.fixture
def logged(as_asyncio, filter_log):
    """What a body logs, as asyncio does. The times differ between the loops, so the records are compared without them."""

    def hide(record):
        record.msg, record.args = re.sub(r"\d+\.\d+", "N", record.getMessage()), ()
        return True

    filter_log(hide)
    return lambda body: as_asyncio(body)["logged"]


@pytest.mark.parametrize("source", ["call_soon", "call_soon_threadsafe", "call_at", "task", "future"])
def test_slow_callback_is_logged(logged, source):
    async def step():
        slow()

    def body(loop):
        loop.set_debug(True)
        loop.slow_callback_duration = 0.01
        if source == "task":
            task = loop.create_task(step(), name="slow one")
        elif source == "future":
            future = loop.create_future()
            future.add_done_callback(lambda future: slow())
            future.set_result(None)
        elif source == "call_at":
            loop.call_at(1.5, slow)
        else:
            getattr(loop, source)(slow)
        run_once(loop)
        if source == "task":
            assert task.done()

    outcome = logged(body)
    assert len(outcome) == 1 and outcome[0][0] == "WARNING"
    assert outcome[0][1].startswith("Executing <") and outcome[0][1].endswith(" took N seconds")


@pytest.mark.parametrize("debug, duration", [(False, 0.001), (True, 10)], ids=["without debug", "fast enough"])
def test_nothing_is_logged(loop, caplog, debug, duration):
    loop.set_debug(debug)
    loop.slow_callback_duration = duration
    loop.call_soon(slow)
    run_once(loop)
    assert [record for record in caplog.records if "Executing" in record.getMessage()] == []


def test_slow_callback_duration_can_be_read_and_changed(loop):
    assert loop.slow_callback_duration == 0.1
    loop.slow_callback_duration = 5
    assert loop.slow_callback_duration == 5


def test_slow_callback_that_fails_is_reported_and_logged(loop, reports, caplog):
    def fail_slowly():
        slow()
        1 / 0

    loop.set_debug(True)
    loop.slow_callback_duration = 0.01
    loop.call_soon(fail_slowly)
    run_once(loop)
    assert len(reports) == 1
    assert any("fail_slowly" in record.getMessage() for record in caplog.records)


# Threads


@pytest.mark.parametrize("debug", [False, True], ids=["", "debug"])
@pytest.mark.parametrize("running", [False, True], ids=["idle", "running"])
@pytest.mark.parametrize(
    "call",
    [
        lambda loop: loop.call_soon(int),
        lambda loop: loop.call_later(0, int),
        lambda loop: loop.call_at(0, int),
        lambda loop: loop.call_soon_threadsafe(int),
        lambda loop: loop.create_future().cancel(),
    ],
    ids=lambda call: call.__code__.co_names[0],
)
def test_calls_from_another_thread(as_asyncio, call, running, debug):
    timer = call.__code__.co_names[0] in ("call_later", "call_at")
    if sysconfig.get_config_var("Py_GIL_DISABLED") and running and timer and not debug:
        pytest.skip("without a GIL, an error without debug mode, too: isolated/test_free_threading.py")

    def body(loop):
        loop.set_debug(debug)
        seen = []

        def attempt():
            try:
                call(loop)
            except Exception as error:
                seen.append((type(error), str(error)))

        def in_thread():
            thread = threading.Thread(target=attempt)
            thread.start()
            thread.join()

        if running:
            loop.call_soon(in_thread)
            run_once(loop)
        else:
            in_thread()
        return seen

    as_asyncio(body)


def test_call_soon_in_another_thread_raises_in_debug_mode(loop):
    errors = []

    def attempt():
        try:
            loop.call_soon(int)
        except RuntimeError as error:
            errors.append(str(error))

    def in_thread():
        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join()

    loop.set_debug(True)
    loop.call_soon(in_thread)
    run_once(loop)
    assert errors == ["Non-thread-safe operation invoked on an event loop other than the current one"]


# Invalid callbacks


@pytest.mark.parametrize("debug", [False, True], ids=["", "debug"])
@pytest.mark.parametrize(
    "callback", [5, None, "x", coroutine_function], ids=["int", "None", "str", "coroutine function"]
)
@pytest.mark.parametrize("method", ["call_soon", "call_soon_threadsafe", "call_later", "call_at", "run_in_executor"])
def test_wrong_callbacks(as_asyncio, method, callback, debug):
    def body(loop):
        loop.set_debug(debug)
        reports = []
        loop.set_exception_handler(
            lambda loop, context: reports.append((context["message"], str(context["exception"])))
        )
        first = {"call_later": (0,), "call_at": (0,), "run_in_executor": (None,)}.get(method, ())
        if method == "run_in_executor":
            future = loop.run_in_executor(*first, callback)
            result = loop.run_until_complete(future)
            if callback is coroutine_function:
                result = result.close()
            return result
        getattr(loop, method)(*first, callback)
        run_once(loop)
        run_once(loop)
        return reports

    as_asyncio(body)


@pytest.mark.parametrize("method", ["call_soon", "call_soon_threadsafe", "call_later", "call_at", "run_in_executor"])
def test_coroutine_object_is_refused_in_debug_mode(as_asyncio, method):
    def body(loop):
        loop.set_debug(True)
        coroutine = coroutine_function()
        first = {"call_later": (0,), "call_at": (0,), "run_in_executor": (None,)}.get(method, ())
        try:
            getattr(loop, method)(*first, coroutine)
        finally:
            coroutine.close()

    assert as_asyncio(body)["result"][0] is TypeError


# Where things were created


@pytest.mark.parametrize("method", ["call_soon", "call_soon_threadsafe", "call_later", "call_at"])
def test_handle_knows_where_it_was_made(loop, method):
    first = () if "soon" in method else (1000,)
    handle = getattr(loop, method)(*first, print)
    assert handle._source_traceback is None
    loop.set_debug(True)
    handle = getattr(loop, method)(*first, print)
    assert handle._source_traceback[-1].name == "test_handle_knows_where_it_was_made"


def test_report_says_where_the_handle_was_made(loop, reports):
    def schedule():
        loop.call_soon(lambda: 1 / 0)

    loop.set_debug(True)
    schedule()
    run_once(loop)
    assert reports[0]["source_traceback"][-1].name == "schedule"


def test_future_and_task_know_where_they_were_made(loop):
    loop.set_debug(True)
    future = loop.create_future()
    task = loop.create_task(coroutine_function())
    for made in (future, task):
        assert "test_future_and_task_know_where_they_were_made" in [frame.name for frame in made._source_traceback]
    loop.run_until_complete(task)


def test_coroutine_origins_are_tracked_while_a_debug_loop_runs(loop):
    seen = []
    look = lambda: seen.append(sys.get_coroutine_origin_tracking_depth())  # noqa: E731
    for debug in (False, True):
        loop.set_debug(debug)
        loop.call_soon(look)
        run_once(loop)
    assert seen == [0, DEPTH]
    assert sys.get_coroutine_origin_tracking_depth() == 0


def test_coroutine_origin_tracking_depth_is_restored_after_a_run(loop):
    loop.set_debug(True)
    sys.set_coroutine_origin_tracking_depth(3)
    try:
        run_once(loop)
        assert sys.get_coroutine_origin_tracking_depth() == 3
    finally:
        sys.set_coroutine_origin_tracking_depth(0)


def test_tracking_follows_the_switch_while_the_loop_runs(loop):
    seen = []

    def look(then, *args):
        seen.append(sys.get_coroutine_origin_tracking_depth())
        then(*args)

    def set_then_look(debug, *then):
        loop.set_debug(debug)
        loop.call_soon(loop.call_soon, look, *then)

    loop.call_soon(set_then_look, True, set_then_look, False, loop.stop)
    loop.run_forever()
    assert seen == [DEPTH, 0]
    assert sys.get_coroutine_origin_tracking_depth() == 0


def test_a_transport_that_takes_long_is_named(loop, caplog):
    class Protocol(asyncio.Protocol):
        def data_received(self, data):
            caplog.clear()
            got.append(data)

    got = []
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    transport, _ = loop.run_until_complete(loop.create_connection(Protocol, sock=ours))
    loop.set_debug(True)
    loop.slow_callback_duration = 0  # everything does
    with peer, caplog.at_level(logging.WARNING, "asyncio"):
        peer.send(b"data")
        while not got:
            run_once(loop)
        first = caplog.messages[0]
        loop.set_debug(False)
        transport.abort()
        run_once(loop)
        run_once(loop)
    assert re.match(r"Executing <.*Transport.* took", first)
