"""Chooses the classes of futures and tasks: cloop's own, or asyncio's.

cloop.Future and cloop.Task use the fields of asyncio's C classes, which are private to each Python version. So sample
objects are checked first. Each field listed in csrc/futures/layout.h is read while it has a value that no other field
has, so that any two fields that changed places are noticed. If anything is unexpected, loops use asyncio's own
classes, which are correct too, but slower. CLOOP_TASKS=stock selects those, and so do builds of CPython without a GIL.
"""

import contextlib
import contextvars
import gc
import os
import types
import weakref

from . import _abi, _cloop

__all__ = ("Future", "Task")

_Future, _Task = _abi.find("asyncio", "Future"), _abi.find("asyncio", "Task")


class _Loop:
    """The part of a loop that futures need. It runs nothing by itself."""

    def __init__(self, debug=False):
        self._debug = debug
        self._calls = []

    def get_debug(self):
        return self._debug

    def call_soon(self, callback, *args, context=None):
        self._calls.append((callback, args))

    def call_exception_handler(self, context):
        pass

    def forget(self):
        self._calls.clear()

    def run(self, n):
        """Call the n-th scheduled callback."""
        callback, args = self._calls.pop(n)
        callback(*args)


_new_loop = _Loop


class _Misfit(Exception):
    """A field is not where it is expected."""


@contextlib.contextmanager
def _running(loop):
    """The loop counts as the one that runs in this thread; we may be imported by a task of another."""
    get, put = _abi.find("asyncio.events", "_get_running_loop"), _abi.find("asyncio.events", "_set_running_loop")
    try:
        swap = _abi.find("asyncio.tasks", "_swap_current_task")
    except AttributeError:  # up to 3.11 the current task is the loop's
        swap = None
    before = get()
    task = swap(before, None) if swap is not None and before is not None else None
    try:
        put(loop)
        yield
    finally:
        put(before)
        if task is not None:
            swap(before, task)


def _only(kind, future):
    """The id of the one object of that type that the future refers to."""
    (found,) = (value for value in gc.get_referents(future) if type(value) is kind)
    return id(found)


_NOTHING = (0, id(None))


def _check(future, **values):
    """Compare every field with what it should hold: `values`, what the future shows, or else nothing."""
    fields = _cloop.raw_fields(future)
    is_task = isinstance(future, _Task)
    reference = weakref.ref(future)  # one without a callback is the first of them
    shown = {
        "f_loop": id(future._loop),
        "f_log_tb": future._log_traceback,
        "f_blocking": future._asyncio_future_blocking,
        "f_is_task": is_task,
        "f_weakrefs": id(reference),
    }
    if is_task:
        shown.update(
            t_coro=id(future._coro),
            t_fut_waiter=id(future._fut_waiter),
            t_context=_only(contextvars.Context, future),
            t_must_cancel=future._must_cancel,
            t_log_destroy_pending=future._log_destroy_pending,
        )
    if not fields.keys() | {"f_is_task", "f_weakrefs"} >= shown.keys():
        raise _Misfit("fields are missing")
    shown.update(values)
    if "f_weakrefs" in fields:
        fields = _cloop.raw_fields(future)  # the reference is there now
    for name in fields:
        expected = shown.get(name, 0)
        if fields[name] != expected and not (expected in _NOTHING and fields[name] in _NOTHING):
            raise _Misfit("{} of a {}".format(name, type(future).__name__))


def _check_futures(loop):
    context, callback, result, message = contextvars.copy_context(), object(), object(), object()
    pending = _Future(loop=loop)
    _check(pending)
    pending._asyncio_future_blocking = True
    _check(pending, f_blocking=1)
    pending._asyncio_future_blocking = False
    pending.add_done_callback(callback, context=context)
    callbacks = {"f_callback0": id(callback), "f_context0": id(context)}
    _check(pending, **callbacks)
    pending.add_done_callback(callback, context=context)
    _check(pending, f_callbacks=_only(list, pending), **callbacks)

    finished, failed, cancelled = (_Future(loop=loop) for _ in range(3))
    finished.set_result(result)
    _check(finished, f_state=2, f_result=id(result))
    try:
        raise ValueError
    except ValueError as error:
        failed.set_exception(error)
        traceback = error.__traceback__
        _check(failed, f_state=2, f_log_tb=1, f_exception=id(error), f_exception_tb=id(traceback))
        failed.exception()
        _check(failed, f_state=2, f_log_tb=0, f_exception=id(error), f_exception_tb=id(traceback))
        del failed, traceback
    takes_message = hasattr(cancelled, "_cancel_message")
    cancelled.cancel(*[message][:takes_message])
    _check(cancelled, f_state=1, f_cancel_msg=id(message) if takes_message else 0)

    debugged = _Future(loop=_Loop(debug=True))
    _check(debugged, f_source_tb=id(debugged._source_traceback))
    fields = _cloop.raw_fields(pending)
    if "f_dict" in fields:
        with_attributes = _Future(loop=loop)
        with_attributes.attribute = None
        _check(with_attributes, f_dict=_only(dict, with_attributes))
    if "f_awaited_by" in fields:
        add = _abi.find("asyncio.futures", "future_add_to_awaited_by")
        awaited = _Future(loop=loop)
        add(awaited, pending)
        _check(awaited, f_awaited_by=id(pending))
        add(awaited, cancelled)
        _check(awaited, f_awaited_by=_only(set, awaited), f_awaited_by_is_set=1)


def _check_tasks(loop):
    """Return the last two tasks, not begun."""
    context, name = contextvars.copy_context(), "name"
    future, caught = _Future(loop=loop), []

    async def wait():
        try:
            await future
        except BaseException as error:
            caught.append(error)
            raise

    coroutines = [wait() for _ in range(3)]
    tasks = []
    try:
        for coroutine in coroutines:
            tasks.append(context.run(_Task, coroutine, loop=loop, name=name))
            tasks[-1]._log_destroy_pending = False
        waiting, first, second = tasks
        fields = _cloop.raw_fields(waiting)
        counts, lists = "t_num_cancels" in fields, "t_next" in fields

        def check(task, **values):
            values.setdefault("t_name", id(name))
            # The ends of the list are elsewhere; those of the two that were made last are known.
            for field in ("t_next", "t_prev") if lists else ():
                values.setdefault(field, _cloop.raw_fields(task)[field])
            _check(task, **values)

        check(waiting, t_log_destroy_pending=0)
        if lists:
            check(first, t_prev=id(waiting), t_next=id(second))
            check(second, t_prev=id(first))
        first._log_destroy_pending = True
        check(first, t_log_destroy_pending=1)
        first._log_destroy_pending = False
        loop.run(0)  # its first step
        check(waiting, t_fut_waiter=id(future))
        waiting.cancel()
        loop.run(-1)
        (error,) = caught
        kept = {"f_cancelled_exc": id(error)}
        if "f_cancelled_value" in fields:
            kept = {
                "f_cancelled_type": id(type(error)),
                "f_cancelled_value": id(error),
                "f_cancelled_tb": _only(types.TracebackType, waiting),
            }
        # Tasks that are done have left the list.
        check(waiting, f_state=1, t_num_cancels=1, t_fut_waiter=0, **kept)
        first.cancel()
        first.cancel()
        check(first, t_must_cancel=1, t_num_cancels=2 * counts)
        return _cloop.use_own_tasks(first, second, loop)
    finally:
        for error in caught:
            error.__traceback__ = None  # on 3.13 its frames lead here, and keep the tasks
        caught.clear()
        error = kept = None
        for coroutine in coroutines:
            coroutine.close()
        loop.forget()  # its calls refer to the tasks, which refer to it


def _why_not():
    """Why the loops make asyncio's futures and tasks; None if they make cloop's."""
    loop = _Loop()
    try:
        with _running(loop):
            _check_futures(loop)
            return None if _check_tasks(loop) else "the place of the running loop and task was not found"
    except _Misfit as misfit:
        return "not where it is expected: {}".format(misfit)
    except Exception as error:  # fields are missing, or of another size
        return "{}: {}".format(type(error).__name__, error)


def _choose():
    return os.environ.get("CLOOP_TASKS") != "stock" and not _cloop.FREE_THREADED and _why_not() is None


def _are_asyncios_in_c():
    """Whether the classes are those that CPython has in C: no program, nor another Python, has put others there."""
    return _Future.__module__ == _Task.__module__ == "_asyncio"


if os.environ.get("CLOOP_TASKS") == "stock":
    _reason = "CLOOP_TASKS=stock"
elif _cloop.FREE_THREADED:
    _reason = "CPython without a GIL"  # docs/free-threading.md
else:
    _reason = _why_not()
    if _reason is not None and _are_asyncios_in_c():
        _abi.lacks("futures", _reason)

Future, Task = (_cloop.Future, _cloop.Task) if _reason is None else (_Future, _Task)
