"""What tasks wait for, and which tasks wait for them, on every Python.

With a GIL all functions may be called from any thread: they only read. What they show may be out of date when they return.
Without one, they are for the loop's thread, but for open_loops(), current_task(), coroutine_name(), metrics() and by_thread().
"""

import asyncio
import functools
import gc
import os
import threading
import types

from ._cloop import FREE_THREADED, LoopCore, _open_loops

__all__ = (
    "all_tasks",
    "awaiters",
    "by_thread",
    "current_task",
    "describe",
    "frames",
    "name_of",
    "open_loops",
    "place",
    "render_tree",
    "rows_of",
    "timers",
    "watched",
)

_CLOOP = os.path.dirname(os.path.abspath(__file__)) + os.sep
_PYTHON = os.path.dirname(os.path.abspath(types.__file__)) + os.sep
_PACKAGES = tuple(os.path.join(_PYTHON, name, "") for name in ("site-packages", "dist-packages"))
# For a loop's thread to answer.
_PATIENCE_S = 1
# Coroutines and generators that are awaited inside each other; more is a bug.
_DEPTH_MAX = 1000
# Lines about the tasks that wait for one.
_CHAIN_MAX = 20


def open_loops():
    """Return cloop's open loops in this process, the oldest first."""
    return _open_loops()[::-1]


def by_thread(loop, function, otherwise=None):
    """Return function(loop), called where the loop's tasks and timers may be looked at. Without a GIL that is the thread
    that runs the loop: if it is busy for longer than a second, or stops, return `otherwise`.
    """
    if not FREE_THREADED or loop._thread_id in (None, threading.get_ident()):
        return function(loop)
    found, errors, answered = [], [], threading.Event()

    def call():
        try:
            found.append(function(loop))
        except Exception as error:
            errors.append(error)
        answered.set()

    try:
        handle = loop.call_soon_threadsafe(call)
    except RuntimeError:  # it was closed
        return otherwise
    if not answered.wait(_PATIENCE_S):
        handle.cancel()
        return otherwise
    if errors:
        raise errors[0]
    return found[0]


def all_tasks(loop):
    """Return the loop's tasks that are not done, in the order of their names."""
    return sorted(asyncio.all_tasks(loop), key=_order)


def name_of(task):
    """Return the task's name; for a task of another library that has none, its class's."""
    name = task.get_name() if hasattr(task, "get_name") else None
    return type(task).__name__ if name is None else name


def _order(task):
    name = name_of(task)
    head, _, number = name.rpartition("-")
    return (head, int(number), "") if number.isdigit() and len(number) < 19 else (name, -1, "")


# Frames


def _inside(coro):
    """Return the frame of a suspended or running coroutine or generator, and what it awaits."""
    for frame, awaited in ("cr_frame", "cr_await"), ("gi_frame", "gi_yieldfrom"), ("ag_frame", "ag_await"):
        if hasattr(coro, frame):
            return getattr(coro, frame), getattr(coro, awaited, None)
    if type(coro).__name__ in (
        "async_generator_asend",
        "async_generator_athrow",
        "coroutine_wrapper",
        "anext_awaitable",
    ):
        for inner in gc.get_referents(coro):
            if isinstance(inner, (types.AsyncGeneratorType, types.CoroutineType)):
                return _inside(inner)
    return None, None


def frames(task):
    """Return [(function, file, line)] of the task's coroutines, the outermost first."""
    found = []
    coro = task.get_coro() if hasattr(task, "get_coro") else None
    for _ in range(_DEPTH_MAX):
        frame, awaited = _inside(coro)
        if frame is None:
            break
        name = getattr(frame.f_code, "co_qualname", None) or getattr(coro, "__qualname__", frame.f_code.co_name)
        found.append((name, frame.f_code.co_filename, frame.f_lineno or frame.f_code.co_firstlineno))
        coro = awaited
    return found


def is_own(file):
    """Whether the file is the program's own, not one of Python or cloop."""
    if file.startswith(_PYTHON):
        return file.startswith(_PACKAGES) and not file.startswith(_CLOOP)
    return not file.startswith((_CLOOP, "<frozen "))


def place(found):
    """Return the (function, file, line) of the program's own code that waits; None without frames."""
    for each in reversed(found):
        if is_own(each[1]):
            return each
    return found[-1] if found else None


def coroutine_name(task):
    coro = task.get_coro() if hasattr(task, "get_coro") else None
    return getattr(coro, "__qualname__", None) or type(task if coro is None else coro).__name__


def current_task(loop):
    """Return the loop's task whose step runs, or None."""
    try:
        return asyncio.current_task(loop)
    except RuntimeError:
        return None


def waits_for(task, found, running=None):
    """Return in a few words what the task waits for: "Task-7", "Queue.get", "sleep", "running", "ready".

    running: the task whose step runs now.
    """
    if task is running:
        return "running"
    waiter = getattr(task, "_fut_waiter", None)
    if waiter is None:
        return "ready"
    if isinstance(waiter, asyncio.Task):
        return name_of(waiter)
    children = getattr(waiter, "_children", None)
    if children is not None:
        return "gather of %d" % len(children)
    if found and not is_own(found[-1][1]):
        return found[-1][0]
    return "a future"


# Who waits for whom


def _futures_in(callback, depth=0):
    """Yield futures that a done callback will wake, as far as it shows them."""
    if depth > 3:
        return
    if isinstance(callback, functools.partial):
        for each in callback.args + tuple(callback.keywords.values()) + (callback.func,):
            if isinstance(each, asyncio.Future):
                yield each
            elif callable(each):
                yield from _futures_in(each, depth + 1)
        return
    parent = getattr(getattr(callback, "__self__", None), "_parent_task", None)  # a TaskGroup
    if isinstance(parent, asyncio.Future):
        yield parent
    for cell in getattr(callback, "__closure__", None) or ():
        try:
            inside = cell.cell_contents
        except ValueError:  # empty
            continue
        if isinstance(inside, asyncio.Future):
            yield inside


def awaiters(tasks):
    """Return {task: [tasks that wait for it]} for those of the tasks that are waited for."""
    known = set(tasks)
    by_future, edges = {}, {}

    def add(awaited, by):
        by = by if by in known else by_future.get(by)  # a future stands for the task that waits for it
        if awaited in known and by in known and awaited is not by:
            edges.setdefault(awaited, {})[by] = None

    for task in tasks:
        waiter = getattr(task, "_fut_waiter", None)
        if waiter is None:
            continue
        by_future[waiter] = task
        add(waiter, task)
        for child in getattr(waiter, "_children", None) or ():
            add(child, task)
    for task in tasks:
        for each in getattr(task, "_asyncio_awaited_by", None) or ():  # 3.14
            add(task, each)
        for callback in getattr(task, "_callbacks", None) or ():
            for future in _futures_in(callback[0] if isinstance(callback, tuple) else callback):
                add(task, future)
    return {task: list(found) for task, found in edges.items()}


def describe(task, waiting=None, running=None):
    """Return a dict for one task, as the monitor sends it."""
    found = frames(task)
    where = place(found)
    return {
        "id": id(task),
        "name": name_of(task),
        "coro": coroutine_name(task),
        "waits": waits_for(task, found, running),
        "where": where and "%s %s:%d" % (where[0], where[1], where[2]),
        "awaited_by": [name_of(each) for each in waiting or ()],
    }


def stack_lines(found):
    return ['  File "%s", line %d, in %s' % (file, line, name) for name, file, line in found]


def chain_lines(task, edges, indent="  "):
    """Return lines that say which tasks wait for this one, and which for those; the last one may say "and N more"."""
    lines, seen, level, more = [], {task}, [(task, indent)], 0
    while level:
        each, space = level.pop()
        for by in edges.get(each, ()):
            if len(lines) < _CHAIN_MAX:
                where = place(frames(by))
                lines.append(
                    "%sawaited by %s %s()%s"
                    % (space, name_of(by), coroutine_name(by), where and " at %s:%d" % (where[1], where[2]) or "")
                )
            else:
                more += 1
            if by not in seen:
                seen.add(by)
                level.append((by, space + "  "))
    if more:
        lines.append("%sand %d more" % (indent, more))
    return lines


def rows_of(tasks, running=None):
    """Return the dicts of the tasks, and for each its stack and the ids of those that wait for it."""
    edges = awaiters(tasks)
    rows = []
    for task in tasks:
        row = describe(task, edges.get(task), running)
        row["awaiter_ids"] = [id(each) for each in edges.get(task, ())]
        row["stack"] = [list(each) for each in frames(task)]
        rows.append(row)
    return rows


def render_tree(rows):
    """Return lines that show rows of tasks as a tree: below each task, those that it waits for."""
    by_id = {row["id"]: row for row in rows}
    below = {}
    for row in rows:
        for by in row["awaiter_ids"]:
            below.setdefault(by, []).append(row["id"])
    lines, shown = [], set()

    def show(root):
        to_show = [(root, "", "")]  # not by recursion: a chain may be longer than that may be deep
        while to_show:
            identity, head, tail = to_show.pop()
            row = by_id[identity]
            again = identity in shown
            lines.append("%s%s  %s()%s" % (head, row["name"], row["coro"], "  (see above)" if again else ""))
            if again:
                continue
            shown.add(identity)
            children = below.get(identity, [])
            bar = tail + ("|   " if children else "")
            for name, file, line in reversed(row["stack"]):
                lines.append("%s    %s  %s:%d" % (bar, name, file, line))
            for n, child in enumerate(reversed(children)):
                to_show.append((child, tail + ("|-- " if n else "`-- "), tail + ("|   " if n else "    ")))

    for row in rows:
        if not any(by in by_id for by in row["awaiter_ids"]):
            show(row["id"])
    for row in rows:  # what waits for itself, in a circle
        if row["id"] not in shown:
            lines.append("(a cycle)")
            show(row["id"])
    return lines


# The rest of a loop


def timers(loop):
    """Return the loop's timer handles, the earliest first."""
    return sorted(LoopCore._scheduled.__get__(loop), key=lambda handle: handle.when())


def watched(loop):
    """Return {descriptor: "r", "w" or "rw"} of what the loop watches."""
    return {fd: ("r" if mask & 1 else "") + ("w" if mask & 2 else "") for fd, mask in sorted(loop._wanted().items())}


def metrics(loop):
    """Return loop.metrics() as a dict of plain values."""
    found = loop.metrics()
    return found.as_dict() if hasattr(found, "as_dict") else dict(found)
