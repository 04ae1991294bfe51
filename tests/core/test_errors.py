"""Exceptions in callbacks, and the exception handler."""

import asyncio
import contextvars
import gc
import logging
import re
import sys

import pytest

VAR = contextvars.ContextVar("VAR", default="unset")


def run_once(loop):
    loop.call_soon(loop.stop)
    loop.run_forever()


def fail(*args):
    raise ZeroDivisionError("on purpose")


def first_lines(outcome):
    """Log records without the traceback frames, whose lines differ between loops in C and in Python."""
    return [(level, text.splitlines()[0]) for level, text in outcome["logged"]]


def collect_reports(loop):
    reports = []

    def handler(loop, context):
        reports.append({key: value if key == "message" else repr(value) for key, value in context.items()})

    loop.set_exception_handler(handler)
    return reports


SOURCES = {
    "call_soon": lambda loop: loop.call_soon(fail, 1),
    "call_soon_threadsafe": lambda loop: loop.call_soon_threadsafe(fail, 1),
    "call_at": lambda loop: loop.call_at(1.5, fail),
    "not callable": lambda loop: loop.call_soon(5),
    "wrong arguments": lambda loop: loop.call_soon(len, 1, 2),
    "cancelled": lambda loop: loop.call_soon(raiser(asyncio.CancelledError("x"))),
    "generator exit": lambda loop: loop.call_soon(raiser(GeneratorExit("x"))),
    "stop iteration": lambda loop: loop.call_soon(raiser(StopIteration("x"))),
    "future callback": lambda loop: done_future(loop).add_done_callback(fail),
    "future never retrieved": lambda loop: loop.create_future().set_exception(ZeroDivisionError("lost")),
}


def raiser(error):
    def raise_it():
        raise error

    return raise_it


def done_future(loop):
    future = loop.create_future()
    future.set_result(None)
    return future


# What is reported


@pytest.mark.parametrize("debug", [False, True], ids=["", "debug"])
@pytest.mark.parametrize("source", list(SOURCES))
def test_context_of_a_report(as_asyncio, source, debug):
    def body(loop):
        loop.set_debug(debug)
        reports = collect_reports(loop)
        SOURCES[source](loop)
        run_once(loop)
        gc.collect()
        for report in reports:
            if "source_traceback" in report:  # frames of the loop itself differ
                report["source_traceback"] = True
        return reports

    if not (debug and source == "not callable"):  # debug mode refuses it at once
        assert len(as_asyncio(body)["result"]) == 1


@pytest.mark.parametrize("debug", [False, True], ids=["", "debug"])
@pytest.mark.parametrize("source", list(SOURCES))
def test_log_record_of_a_report(as_asyncio, source, debug):
    def body(loop):
        loop.set_debug(debug)
        SOURCES[source](loop)
        run_once(loop)
        gc.collect()

    as_asyncio(body)


def test_context_names_the_exception_and_the_handle(loop, turn, reports):
    handle = loop.call_soon(fail)
    turn()
    (report,) = reports
    assert sorted(report) == ["exception", "handle", "message"]
    assert report["handle"] is handle
    assert str(report["exception"]) == "on purpose"
    assert re.match(r"Exception in callback fail\(\) at .*test_errors\.py:\d+$", report["message"])


def test_traceback_ends_in_the_callback(loop, turn, reports):
    loop.call_soon(fail)
    turn()
    traceback = reports[0]["exception"].__traceback__
    while traceback.tb_next:
        traceback = traceback.tb_next
    assert traceback.tb_frame.f_code is fail.__code__


def test_the_loop_goes_on_after_an_exception(loop, turn, reports):
    seen = []
    for number in range(3):
        loop.call_soon(fail)
        loop.call_soon(seen.append, number)
    turn()
    assert seen == [0, 1, 2]
    assert len(reports) == 3


def test_the_handler_is_given_the_loop(loop, turn):
    seen = []
    loop.set_exception_handler(lambda *args: seen.append(args[0]))
    loop.call_soon(fail)
    turn()
    assert seen == [loop]


def test_context_variables_in_the_handler(as_asyncio):
    def body(loop):
        seen = []
        loop.set_exception_handler(lambda loop, context: seen.append(VAR.get()))

        def schedule():
            VAR.set("of the callback")
            loop.call_soon(fail)

        contextvars.copy_context().run(schedule)
        run_once(loop)
        return seen

    as_asyncio(body)


# Choosing the handler


def test_get_exception_handler(loop):
    def handler(loop, context):
        pass

    assert loop.get_exception_handler() is None
    loop.set_exception_handler(handler)
    assert loop.get_exception_handler() is handler
    loop.set_exception_handler(None)
    assert loop.get_exception_handler() is None


@pytest.mark.parametrize("value", [5, "x", object()], ids=["int", "str", "object"])
def test_handler_that_is_not_callable(as_asyncio, value):
    assert as_asyncio(lambda loop: loop.set_exception_handler(value))["result"][0] is TypeError


def test_call_exception_handler_reaches_the_handler(loop, reports):
    context = {"message": "hello", "extra": 5}
    loop.call_exception_handler(context)
    assert reports == [context]


CONTEXTS = {
    "empty": {},
    "message": {"message": "hello"},
    "empty message": {"message": ""},
    "exception": {"message": "hello", "exception": ValueError("x")},
    "extra keys": {"message": "hello", "zebra": 1, "apple": "two"},
    "traceback": {"message": "hello", "source_traceback": [], "handle_traceback": []},
}


@pytest.mark.parametrize("method", ["call_exception_handler", "default_exception_handler"])
@pytest.mark.parametrize("context", list(CONTEXTS))
def test_log_record_of_the_default_handler(as_asyncio, method, context):
    as_asyncio(lambda loop: getattr(loop, method)(dict(CONTEXTS[context])))


@pytest.mark.parametrize("context", [None, 5, "x"], ids=repr)
def test_context_that_is_no_dict(as_asyncio, context):
    as_asyncio(lambda loop: loop.call_exception_handler(context))


def test_default_handler_logs_the_traceback(loop, turn, caplog):
    loop.call_soon(fail)
    turn()
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("asyncio", logging.ERROR)
    assert record.exc_info[0] is ZeroDivisionError


# Handlers that fail


def test_exception_in_the_handler_is_logged(as_asyncio):
    def body(loop):
        def handler(loop, context):
            raise ValueError("in the handler")

        loop.set_exception_handler(handler)
        loop.call_soon(fail)
        run_once(loop)

    logged = first_lines(as_asyncio(body))
    assert logged[0] == ("ERROR", "Unhandled error in exception handler")


def test_exception_in_the_default_handler_is_logged(as_asyncio):
    def body(loop):
        def handler(context):
            raise ValueError("in the handler")

        loop.default_exception_handler = handler
        loop.call_soon(fail)
        run_once(loop)

    logged = first_lines(as_asyncio(body))
    assert logged[0][1].startswith("Exception in default exception handler")


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_handler_may_end_the_program(loop, kind):
    def handler(loop, context):
        raise kind

    loop.set_exception_handler(handler)
    loop.call_soon(fail)
    with pytest.raises(kind):
        run_once(loop)


# What is not caught


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_keyboard_interrupt_and_system_exit_in_a_callback_leave_run_forever(loop, turn, reports, kind):
    seen = []
    loop.call_soon(raiser(kind("bye")))
    loop.call_soon(seen.append, "next")
    with pytest.raises(kind, match="bye"):
        loop.run_forever()
    assert reports == []
    turn()
    assert seen == ["next"]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_keyboard_interrupt_and_system_exit_in_timers_and_threadsafe_callbacks_leave_run_forever(loop, kind):
    for schedule in (lambda callback: loop.call_later(0, callback), loop.call_soon_threadsafe):
        schedule(raiser(kind))
        with pytest.raises(kind):
            loop.run_forever()


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_keyboard_interrupt_and_system_exit_in_a_callback_leave_run_until_complete(loop, kind):
    async def wait():
        await loop.create_future()

    task = loop.create_task(wait())
    loop.call_soon(raiser(kind))
    with pytest.raises(kind):
        loop.run_until_complete(task)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_keyboard_interrupt_and_system_exit_in_the_coroutine_leave_run_until_complete(as_asyncio, kind):
    def body(loop):
        async def leave():
            raise kind("bye")

        try:
            loop.run_until_complete(leave())
        finally:
            gc.collect()

    assert as_asyncio(body)["result"] == (kind, "bye")


def test_what_a_frame_further_out_handles_stays_there(as_asyncio):
    def body(loop):
        def generator():
            loop.call_soon(fail)
            run_once(loop)
            yield
            seen.append(repr(sys.exc_info()[1]))

        seen = []
        loop.set_exception_handler(lambda loop, context: seen.append(repr(sys.exc_info()[1])))
        steps = generator()
        try:
            raise ValueError("further out")
        except ValueError:
            next(steps)
        assert next(steps, None) is None
        return seen

    as_asyncio(body)
