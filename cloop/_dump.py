"""cloop.dump_on_signal(): writes what the loops of the process are doing."""

import os
import signal
import sys
import time

from . import _slow, _tasks

__all__ = ("dump_on_signal", "text")

_SHOWN_MAX = 100  # timers and descriptors of a loop


def dump_on_signal(signum, *, to=None):
    """Write what all loops are doing when the signal arrives, for example signal.SIGUSR1.

    That is, for each open loop of cloop: its metrics, its tasks with their stacks and the tasks that wait for them, its
    timers, and the descriptors it watches.

    signum: the signal. Its Python handler is replaced, as by signal.signal().
    to: None for sys.stderr, a file, or a function that is called with the text.

    An error while it writes goes to sys.unraisablehook; the program goes on.

    Like other Python handlers, it runs in the main thread, also while a loop sleeps there, but not before C code that
    is running returns. Call it in the main thread. Raises ValueError in another one or for an invalid signal, OSError
    for one that cannot be caught, TypeError if to is none of these.
    """
    if not (to is None or hasattr(to, "write") or callable(to)):
        raise TypeError("to must be a file or a function, not {!r}".format(to))

    def dump(signum, frame):
        try:
            _write(sys.stderr if to is None else to)
        except Exception as error:  # in whatever the signal has interrupted, it would end the loop
            _Unraisable(error)

    signal.signal(signum, dump)


def _write(file):
    if file is None:
        return
    if not hasattr(file, "write"):
        file(text())
        return
    file.write(text())
    if hasattr(file, "flush"):
        file.flush()


class _Unraisable:
    """Gives an error to sys.unraisablehook. The default hook takes only what the interpreter itself passes to it."""

    def __init__(self, error):
        self.error = error

    def __del__(self):
        error, self.error = self.error, None
        try:
            raise error
        finally:
            del error  # which has this frame

    __del__.__qualname__ = "dump_on_signal"  # the hook shows it


def text():
    """Return the dump."""
    loops = _tasks.open_loops()
    lines = [
        "cloop: %d open loop%s in process %d at %s"
        % (len(loops), "" if len(loops) == 1 else "s", os.getpid(), time.strftime("%Y-%m-%d %H:%M:%S"))
    ]
    for loop in loops:
        lines += _head_lines(loop)
        lines += _tasks.by_thread(
            loop, _loop_lines, ["(its thread runs something else: no tasks, timers and descriptors)"]
        )
    return "\n".join(lines) + "\n"


def _head_lines(loop):
    metrics = _tasks.metrics(loop).items()
    plain = ["%s=%s" % item for item in metrics if not isinstance(item[1], (dict, list, tuple))]
    return ["", repr(loop), "metrics: " + ", ".join(plain)]


def _loop_lines(loop):
    return list(_lines_of(loop))


def _lines_of(loop):
    tasks = _tasks.all_tasks(loop)
    edges, running = _tasks.awaiters(tasks), _tasks.current_task(loop)
    yield "tasks: %d" % len(tasks)
    for task in tasks:
        found = _tasks.frames(task)
        state = _state(task, found, running) + _counted(loop._task_counts(task))
        yield "%s  %s(), %s" % (_tasks.name_of(task), _tasks.coroutine_name(task), state)
        yield from _tasks.stack_lines(found)
        yield from _tasks.chain_lines(task, edges)
    slowest = _slow.noted(loop)
    if slowest:
        yield "slow callbacks: %d" % len(slowest)
    for row in slowest[:_SHOWN_MAX]:
        yield "  {count} x, {max:.3f} s at most, {total:.3f} s in all  {name}".format(**row) + (
            "  %s:%s" % (row["file"], row["line"]) if row["file"] else ""
        )
    yield from _left_out(slowest)
    handles = _tasks.timers(loop)
    yield "timers: %d" % len(handles)
    now = loop.time()
    for handle in handles[:_SHOWN_MAX]:
        yield "  in %.3f s  %r" % (handle.when() - now, handle)
    yield from _left_out(handles)
    watched = list(_tasks.watched(loop).items())
    yield "descriptors: %d" % len(watched)
    for fd, interest in watched[:_SHOWN_MAX]:
        yield "  %d %s  %s" % (fd, interest, _file_of(fd))
    yield from _left_out(watched)


def _left_out(items):
    if len(items) > _SHOWN_MAX:
        yield "  and %d more" % (len(items) - _SHOWN_MAX)


def _state(task, found, running):
    waits = _tasks.waits_for(task, found, running)
    return waits if waits in ("ready", "running") else "waits for " + waits


def _counted(counts):
    if counts is None:
        return ""
    _, steps, busy, delay, longest, _ = counts
    return "; %d steps took %.3f s and waited for their turn for %.3f s each, %.3f s at most" % (
        steps,
        busy,
        delay,
        longest,
    )


def _file_of(fd):
    try:
        return os.readlink("/proc/self/fd/%d" % fd)
    except OSError:
        return "?"
