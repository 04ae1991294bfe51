"""Chooses the classes of futures and tasks: cloop's own, or asyncio's.

cloop.Future and cloop.Task use the fields of asyncio's C classes, which are private to each Python version. So each
field of sample objects is checked first. If anything is unexpected, loops use asyncio's own classes, which are
slower. CLOOP_TASKS=stock selects those.
"""

import asyncio
import contextvars
import functools
import os
import types

from . import _cloop

__all__ = ("Future", "Task")


async def _nothing():
    pass


def _new_loop(debug=False):
    """The part of a loop that futures need."""
    return types.SimpleNamespace(
        get_debug=lambda: debug, call_soon=functools.partial, call_exception_handler=lambda context: None
    )


def _holds(future, **expected):
    """Whether the fields, as far as objects show them, are where they should be."""
    fields = _cloop.raw_fields(future)
    shown = {
        "f_loop": future._loop,
        "f_result": future._result,
        "f_exception": future._exception,
        "f_source_tb": future._source_traceback,
        "f_cancel_msg": getattr(future, "_cancel_message", None),
    }
    if isinstance(future, asyncio.Task):
        shown.update(t_coro=future._coro, t_fut_waiter=future._fut_waiter)
        expected["t_log_destroy_pending"] = future._log_destroy_pending
        expected["t_must_cancel"] = future._must_cancel
        if hasattr(future, "cancelling"):
            expected["t_num_cancels"] = future.cancelling()
    for name, value in shown.items():
        if value is not None:
            expected[name] = id(value)
        elif fields.get(name, 0) not in (0, id(None)):
            return False
    expected["f_log_tb"] = future._log_traceback
    expected["f_blocking"] = future._asyncio_future_blocking
    if "f_is_task" in fields:
        expected["f_is_task"] = isinstance(future, asyncio.Task)
    return all(fields[name] == value for name, value in expected.items())


def _futures_fit(loop):
    context, callback = contextvars.copy_context(), object()
    result, error, message = object(), ValueError(), object()
    pending = asyncio.Future(loop=loop)
    fits = _holds(pending, f_state=0, f_callback0=0, f_context0=0, f_callbacks=0)
    pending._asyncio_future_blocking = True
    pending.add_done_callback(callback, context=context)
    ids = {"f_callback0": id(callback), "f_context0": id(context)}
    fits = fits and _holds(pending, f_state=0, f_callbacks=0, **ids)
    pending.add_done_callback(callback, context=context)
    fits = fits and _holds(pending, f_state=0, **ids) and _cloop.raw_fields(pending)["f_callbacks"] != 0

    finished, failed, cancelled = (asyncio.Future(loop=loop) for _ in range(3))
    finished.set_result(result)
    failed.set_exception(error)
    cancelled.cancel(*[message][: hasattr(cancelled, "_cancel_message")])
    fits = fits and _holds(finished, f_state=2) and _holds(failed, f_state=2) and _holds(cancelled, f_state=1)
    failed.exception()
    return fits and _holds(failed, f_state=2) and _holds(asyncio.Future(loop=_new_loop(True)), f_state=0)


def _tasks_fit(loop):
    context = contextvars.copy_context()
    coro = _nothing()
    name = "name"
    task = context.run(asyncio.Task, coro, loop=loop, name=name)
    try:
        fits = _holds(task, f_state=0, t_name=id(name)) and _cloop.raw_fields(task)["t_context"] != 0
        task.cancel()
        fits = fits and _holds(task, f_state=0)
        task._log_destroy_pending = False
        return fits and _holds(task, f_state=0) and _cloop.use_own_tasks(task, loop)
    finally:
        task._log_destroy_pending = False
        coro.close()


def _choose():
    if os.environ.get("CLOOP_TASKS") == "stock":
        return False
    try:
        loop = _new_loop()
        return _futures_fit(loop) and _tasks_fit(loop)
    except (RuntimeError, AttributeError, KeyError):  # fields are missing, or have another size
        return False


if _choose():
    Future, Task = _cloop.Future, _cloop.Task
else:
    Future, Task = asyncio.Future, asyncio.Task
