"""cloop.watch(): reports what blocks a loop, while it blocks.

csrc/core/watchdog.h has the threads. They call _report() here, which finds out what to say. A stack that must be taken
without the GIL is written by faulthandler's C function. It is the handler of a signal that faulthandler.register() is
asked to handle; its address is kept and the signal is given back, so no signal is ever sent. faulthandler.unregister()
would restore the signal's handler, which may be the program's by then: so it stays registered, once per process. Other
interpreters than the main one do without: faulthandler remembers one interpreter and one file for each signal.
"""

import asyncio
import atexit
import collections
import logging
import math
import os
import signal
import sys
import threading
import time
import traceback

from . import _cloop, _counting, _slow, _tasks

__all__ = ("Block", "Watch", "watch")

_EVERY_MIN_S = 0.001
_THRESHOLD_MIN_S = 0.001
_MAX_S = 1e6
_RECENT_MAX = 20

recent = collections.deque(maxlen=_RECENT_MAX)  # the last blocks, for the monitor

_lock = threading.RLock()
_current = None  # the Watch that is in force


class Block:
    """A callback that blocks its loop: what cloop.watch(to=function) passes to the function.

    loop: the loop; None if it is closed by now.
    seconds: for how long, so far or, if it has ended, in all.
    ended: whether it is over. The function is called once while it goes on, and once when it has ended.
    task: the name of the task whose step blocks; None if no task's does, or it could not be found out.
    stack: the stack of the loop's thread, as text; "" if it has ended, or was over before it could be seen.
    text: all this, as the other destinations get it.
    """

    __slots__ = ("loop", "seconds", "ended", "task", "stack", "text")

    def __init__(self, loop, seconds, ended, task, stack, text):
        self.loop, self.seconds, self.ended = loop, seconds, ended
        self.task, self.stack, self.text = task, stack, text

    def __repr__(self):
        state = "ended" if self.ended else "goes on"
        return "<cloop.Block {} after {:.3f} s task={!r}>".format(state, self.seconds, self.task)


class Watch:
    """What cloop.watch() returns. As a context manager, it stops at the end."""

    def __init__(self, threshold, every, to, tasks):
        self.threshold = threshold
        self.every = every
        self.tasks = tasks
        self._to = to
        self._seen = {}  # blocks that were reported: {loop's id: (task, place)}
        self._out = -1  # our own descriptor for stacks that are taken without the GIL
        self._out_file = None
        self._written = False  # whether they have been written when they are reported

    def __repr__(self):
        running = "running" if _current is self else "stopped"
        return "<cloop.Watch {} threshold={} every={}>".format(running, self.threshold, self.every)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.stop()

    def stop(self):
        """Stop watching. Does nothing if it was stopped, or another call of cloop.watch() has replaced it."""
        global _current
        with _lock:
            if _current is self:
                _current = None
                self._halt()
                _counting.drop(self)

    # The threads in C

    def _begin(self):
        dump = _the_dump()
        dump.look()
        self._out = self._descriptor()
        self._out_file = _identity(self._out)
        self._written = self._out >= 0
        try:
            _cloop._watchdog_start(
                self._report, self.threshold, self.every, self._out, dump.address, dump.signum, dump.fd
            )
        except BaseException:
            self._close()
            raise

    def _halt(self):
        _cloop._watchdog_stop()
        self._close()  # nobody writes to it now, not even a reporter that was not waited for

    def _close(self):
        out, self._out = self._out, -1
        if out >= 0 and _identity(out) == self._out_file:
            os.close(out)

    def _descriptor(self):
        """Return where a stack goes that is taken without the GIL: a new descriptor, as the program may close its own;
        or -1 if it has to wait.
        """
        file = sys.stderr if self._to is None else self._to
        if isinstance(file, logging.Logger) or not hasattr(file, "write"):
            return -1
        try:
            return os.dup(file.fileno())
        except (AttributeError, OSError, TypeError, ValueError):
            return -1

    # Reports

    def _report(self, ended, loop, key, thread, seconds, goes_on, wakes, text):
        """Called by the reporter's thread. `key` is the id() of the loop, also if that is closed. `text` is a stack that
        was taken without the GIL, and has been written if there was a descriptor; None if it was not necessary.
        """
        if ended:
            self._report_end(loop, key, seconds)
            return
        task, by, stack, where = None, [], text, _first_line(text)
        if goes_on:
            task, by = _blocking_task(loop)
            found = _stacks()
            if stack is None and wakes:
                stack = _other_stacks(found, (thread, threading.get_ident()))
            elif stack is None and thread in found:
                stack = _format(found[thread])
            if not wakes and thread in found:
                where = _innermost(found[thread])
        name = None if task is None else _task_name(task)
        self._seen[key] = name, where
        if stack is None:
            return  # it was over before the stack could be seen; its end is told
        head = "cloop: the loop has been blocked for %.2f s" % seconds
        if task is not None:
            head += ": %s %s()" % (name, _tasks.coroutine_name(task))
        if wakes:
            head += ": another thread keeps the interpreter"
        elif text is not None:
            head += ": C code keeps the interpreter"
        order = "last" if text is None else "first"
        whole = "%s (most recent call %s)\n%s%s" % (head, order, stack, "".join(by))
        if text is None or not self._written:
            self._send(Block(loop, seconds, False, name, stack, whole))

    def _report_end(self, loop, key, seconds):
        name, where = self._seen.pop(key, (None, None))
        line = "cloop: the loop was blocked for %.2f s" % seconds
        if name is not None:
            line += ": " + name
        if where is None:  # never seen
            line += " (C code kept the interpreter until it ended: there is no stack)"
        recent.append({"at": time.time(), "loop": key, "seconds": seconds, "task": name, "where": where})
        if loop is not None and where is not None and loop._slow_hook is None and _counting.wanted()[1] is None:
            function, _, place = where.partition(" ")
            file, _, number = place.rpartition(":")
            _slow.note(loop, function, "block", file or None, int(number) if number.isdigit() else None, seconds)
        self._send(Block(loop, seconds, True, name, "", line + "\n"))

    def _send(self, block):
        to = sys.stderr if self._to is None else self._to
        if to is None:  # there is no stderr
            return
        if isinstance(to, (logging.Logger, logging.LoggerAdapter)):
            to.warning("%s", block.text.rstrip("\n"))
        elif hasattr(to, "write"):
            to.write(block.text)
            if hasattr(to, "flush"):
                to.flush()
        else:
            to(block)


def _blocking_task(loop):
    """Return the task whose step runs on the loop, and lines that say which tasks wait for it."""
    try:
        task = asyncio.current_task(loop)
        if task is None or _cloop.FREE_THREADED:  # the others may be changing: only the loop's thread may look
            return task, []
        edges = _tasks.awaiters(list(asyncio.all_tasks(loop)))
        return task, [line + "\n" for line in _tasks.chain_lines(task, edges)]
    except RuntimeError:  # the tasks change faster than they can be listed
        return None, []


def _task_name(task):
    return _cloop.task_name(task) if _cloop.FREE_THREADED else _tasks.name_of(task)


def _stacks():
    """Return {ident: stack} of the threads of this interpreter, for the functions below: frames, or without a GIL
    what they were.
    """
    return _cloop.stacks() if _cloop.FREE_THREADED else _cloop.current_frames()


def _format(stack):
    if _cloop.FREE_THREADED:
        lines = [(file, line, name, None) for name, file, line in stack]
        return "".join(traceback.StackSummary.from_list(lines).format())
    return "".join(traceback.format_stack(stack))


def _places(stack):
    """Yield (function, file, line), the innermost first. Reads no file: another thread could keep the GIL then."""
    if _cloop.FREE_THREADED:
        yield from reversed(stack)
    else:
        for frame, line in traceback.walk_stack(stack):
            yield frame.f_code.co_name, frame.f_code.co_filename, line


def _other_stacks(found, without):
    return "".join(
        "Thread 0x%x:\n%s" % (ident, _format(stack)) for ident, stack in found.items() if ident not in without
    )


def _innermost(stack):
    """Return "function file:line" of the program's own code that runs."""
    places = list(_places(stack))
    return "%s %s:%d" % next((place for place in places if _tasks.is_own(place[1])), places[0])


def _first_line(text):
    return None if text is None else text.strip().partition("\n")[0] or None


# Stacks without the GIL


class _Dump:
    """faulthandler's function, as the handler of a signal that nobody handles. Its address is 0 if there is none."""

    def __init__(self):
        self.address, self.fd, self._file = 0, -1, None
        self.signum = _free_signal()
        if self.signum == 0:
            return
        try:
            self.fd = _memory_file()
            self._file = _identity(self.fd)
            import faulthandler  # other interpreters than the main one have none

            faulthandler.register(self.signum, file=self.fd, all_threads=True, chain=False)
            self.address = _cloop._signal_handler(self.signum)
        except (OSError, RuntimeError, ValueError):
            if self.fd >= 0:
                os.close(self.fd)
            self.fd = -1

    def look(self):
        """Give up if the program has closed the file: the number may be that of something else."""
        if _identity(self.fd) != self._file:
            self.address = 0

    def renew(self):
        """In a forked child: write to another file than the parent does, under the number that faulthandler knows."""
        if not self.address:
            return
        address, self.address = self.address, 0
        try:
            if _identity(self.fd) != self._file:
                return  # the program closed it, and the number is that of something else
            fresh = _memory_file()
            try:
                os.dup2(fresh, self.fd, inheritable=False)
            finally:
                os.close(fresh)
            self._file = _identity(self.fd)
            self.address = address
        except OSError:
            pass


_dump = None


def _the_dump():
    global _dump
    if _dump is None:
        _dump = _Dump()
    return _dump


def _identity(fd):
    """Return what tells a descriptor's file from others; None if it is closed."""
    try:
        found = os.fstat(fd)
    except (OSError, OverflowError):
        return None
    return found.st_dev, found.st_ino


def _memory_file():
    if hasattr(os, "memfd_create"):
        return os.memfd_create("cloop.watch")
    import tempfile  # an old C library

    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _free_signal():
    """Return a real-time signal that is neither handled nor ignored, the highest; 0 if there is none for us."""
    taken = 0
    # Without a GIL it would look at frames of threads that run; and a report never waits for a GIL.
    if _cloop.FREE_THREADED or not _cloop.is_main_interpreter():
        return 0
    try:
        with open("/proc/self/status") as file:
            for line in file:
                name, _, value = line.partition(":")
                if name in ("SigCgt", "SigIgn"):
                    taken |= int(value, 16)
    except (OSError, ValueError):
        return 0
    for signum in range(signal.SIGRTMAX, signal.SIGRTMIN, -1):
        if not taken >> (signum - 1) & 1 and signal.getsignal(signum) == signal.SIG_DFL:
            return signum
    return 0


# The function


def watch(threshold=0.1, *, every=None, to=None, tasks=False):
    """Report each callback or task step that blocks a loop for longer than threshold seconds, while it does so.

    Watches all loops of cloop in this process and its forked children, those that are open and those that come. A
    report has the stack of the loop's thread, the task's name and the tasks that wait for it; another one has the
    total when the block has ended. If C code keeps the interpreter (the GIL), the stack is written as faulthandler
    does, without the name. Callbacks cost nothing more.

    threshold: seconds, above 0; taken as 0.001 if it is less, and as 1e6 if it is more.
    every: seconds between two looks at a loop that does not sleep, a quarter of the threshold by default; twice as long
        while all sleep. A block is noticed that much later at most. It has the same limits.
    to: None for sys.stderr; a file, a logging.Logger (which gets warnings), or a function, called with a cloop.Block
        in another thread.
    tasks: whether to count what each task does, for `python -m cloop top` and cloop.dump_on_signal(): its steps, their
        time, and how long they waited for their turn. A step costs about 400 instructions more then.

    Returns a cloop.Watch, whose stop() ends it; so does the end of a `with` block. A later call replaces it. The
    environment variable CLOOP_WATCH=threshold does the same when the first loop is created. Raises ValueError if a
    number is not above 0, TypeError if to is none of these, OSError if no thread can be started.
    """
    global _current
    threshold = _within(_positive("threshold", threshold), _THRESHOLD_MIN_S)
    every = _within(threshold / 4 if every is None else _positive("every", every), _EVERY_MIN_S)
    if not (
        to is None or hasattr(to, "write") or callable(to) or isinstance(to, (logging.Logger, logging.LoggerAdapter))
    ):
        raise TypeError("to must be a file, a logger or a function, not {!r}".format(to))
    made = Watch(threshold, every, to, bool(tasks))
    with _lock:
        previous, _current = _current, None
        if previous is not None:
            previous._halt()
        _prepare_process()
        try:
            made._begin()
        finally:
            if previous is not None:
                _counting.drop(previous)
        _current = made
        if made.tasks:
            _counting.want(made, tasks=True)
    return made


def _positive(name, value):
    value = float(value)
    if not (value > 0 and math.isfinite(value)):
        raise ValueError("{} must be a number of seconds above 0".format(name))
    return value


def _within(seconds, least):
    return min(max(seconds, least), _MAX_S)


def threshold_now():
    """Return the threshold that is in force, or None."""
    current = _current
    return None if current is None else current.threshold


_prepared = False


def _prepare_process():
    global _prepared
    if not _prepared:
        _prepared = True
        atexit.register(_at_exit)
        os.register_at_fork(before=_before_fork, after_in_parent=_in_parent, after_in_child=_in_child)


def _at_exit():
    if _current is not None:
        _current.stop()


# No thread of ours may hold a lock at a fork.


def _before_fork():
    _lock.acquire()
    if _current is not None:
        _current._halt()


def _in_parent():
    try:
        if _current is not None:
            _current._begin()
    finally:
        _lock.release()


def _in_child():
    try:
        if _dump is not None:
            _dump.renew()
        if _current is not None:
            _current._seen.clear()
            _current._begin()
    finally:
        _lock.release()
