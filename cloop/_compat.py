"""Restores what asyncio has removed, for programs run with `python -m cloop`.

Only the launcher calls restore(); importing cloop changes nothing in asyncio. Each API works as in the last Python
that had it, and warns once that it was removed. What exists is left alone, and so are signatures: a library that
checks whether sleep() takes `loop` must see this Python's answer.

Changes are made inside asyncio's classes and modules, so that imported names, isinstance(), subclasses and pickles
stay consistent.
"""

import ast
import asyncio
import collections.abc
import contextlib
import functools
import gc
import inspect
import sys
import threading
import types
import warnings
from asyncio import base_futures, coroutines, events, format_helpers, futures, locks, streams, subprocess, tasks
from asyncio.log import logger

from . import _settings
from ._hooks import main_source, on_import, replace

__all__ = ("restore",)


def restore():
    """Restore what this Python lacks, as far as its asyncio still has what that takes."""
    for since, restore_some in REMOVALS:
        if sys.version_info < since:
            continue
        try:
            restore_some()
        except (AttributeError, ImportError) as error:
            if _settings.read("CLOOP_ABI") == "strict":
                raise
            api = restore_some.__name__.replace("_", " ")
            warnings.warn(
                "cloop does not know this Python's asyncio well enough to {}: {}".format(api, error), RuntimeWarning
            )


# Warnings

_given = set()


def deprecated(api, gone_since, instead):
    """Warn that a restored API is used, at the line outside of the libraries that provide it."""
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and _module(frame).partition(".")[0] in _LIBRARIES:
        frame, level = frame.f_back, level + 1
    # Warnings of libraries are hidden by default, so one must not suppress the program's own.
    use = api, _module(frame) == "__main__"
    if use in _given or (api, True) in _given:
        return
    message = "%s is gone since Python %s, and is here only because of python -m cloop; use %s"
    warnings.warn(message % (api, gone_since, instead), DeprecationWarning, level)
    _given.add(use)  # not if the warning was made an error


_LIBRARIES = ("asyncio", "cloop", "concurrent", "multiprocessing")


def _module(frame):
    return frame.f_globals.get("__name__") or ""


# Changing asyncio


def add_method(cls, name, method):
    try:
        setattr(cls, name, method)
    except TypeError:  # a class in C, which can only be changed through its dict
        gc.get_referents(cls.__dict__)[0][name] = method
        if not hasattr(cls, name):  # an earlier look-up was cached
            import ctypes

            ctypes.pythonapi.PyType_Modified(ctypes.py_object(cls))


# Python 3.8: exceptions moved to asyncio.exceptions


def restore_exceptions():
    for module in (base_futures, futures):
        module.__getattr__ = functools.partial(_exception, module.__name__)


def _exception(module, name):
    if name not in ("CancelledError", "InvalidStateError", "TimeoutError"):
        raise AttributeError("module {!r} has no attribute {!r}".format(module, name))
    deprecated("%s.%s" % (module, name), "3.8", "asyncio.%s" % name)
    return getattr(asyncio, name)


# Python 3.9: class methods of Task, and awaiting a lock, were removed


def restore_task_methods():
    for cls in {asyncio.Task, tasks._PyTask}:
        add_method(cls, "current_task", classmethod(current_task))
        add_method(cls, "all_tasks", classmethod(all_tasks))


def current_task(cls, loop=None):
    """Return the task that runs on the loop, by default the current loop, or None."""
    deprecated("asyncio.Task.current_task()", "3.9", "asyncio.current_task()")
    return asyncio.current_task(asyncio.get_event_loop() if loop is None else loop)


def all_tasks(cls, loop=None):
    """Return the set of all tasks of the loop, by default the current loop, including finished ones."""
    deprecated("asyncio.Task.all_tasks()", "3.9", "asyncio.all_tasks(), which leaves out tasks that are done")
    if loop is None:
        loop = asyncio.get_event_loop()
    # From 3.14 on asyncio forgets finished tasks, but the garbage collector finds them.
    done = (task for task in gc.get_objects() if issubclass(type(task), asyncio.Task) and task._loop is loop)
    return asyncio.all_tasks(loop).union(done)


def restore_awaiting_locks():
    # `with lock:` without await was an error, and still is without our help.
    locks._ContextManagerMixin.__await__ = _await_lock
    locks._ContextManagerMixin.__iter__ = _yield_from_lock


class LockHeld:
    """The result of `await lock`: releases the lock at the end of a `with` block."""

    def __init__(self, lock):
        self._lock = lock

    def __enter__(self):
        return None

    def __exit__(self, *exception):
        lock, self._lock = self._lock, None
        lock.release()


def _await_lock(self):
    deprecated("with (await lock)", "3.9", "async with lock")
    return _acquire(self).__await__()


async def _acquire(lock):
    await lock.acquire()
    return LockHeld(lock)


@types.coroutine
def _yield_from_lock(self):
    deprecated("with (yield from lock)", "3.9", "async with lock")
    return (yield from _acquire(self))


# Python 3.10: `loop` parameters were removed


def restore_loop_parameters():
    for cls in (asyncio.Lock, asyncio.Event, asyncio.Semaphore, asyncio.BoundedSemaphore):
        give_class_loop(cls)
    give_class_loop(asyncio.Condition, "_lock")
    give_class_loop(asyncio.Queue, "_finished")

    for module, name, on_loop in (
        (tasks, "as_completed", as_completed_on),
        (tasks, "gather", gather_on),
        (tasks, "shield", shield_on),
    ):
        replace(module, name, take_loop(getattr(module, name), on_loop))
    for module, name, on_loop in (
        (tasks, "sleep", run_on),
        (tasks, "wait", run_on),
        (tasks, "wait_for", wait_for_on),
        (streams, "open_connection", run_on),
        (streams, "open_unix_connection", run_on),
        (streams, "start_server", run_on),
        (streams, "start_unix_server", run_on),
        (subprocess, "create_subprocess_exec", run_on),
        (subprocess, "create_subprocess_shell", run_on),
    ):
        replace(module, name, as_coroutine_function(take_loop(getattr(module, name), on_loop)))


# The marker that the classes of Python 3.10 pass to each other.
_NO_LOOP = getattr(sys.modules.get("asyncio.mixins"), "_marker", object())


def no_loop(name):
    deprecated("the loop parameter of asyncio.%s()" % name, "3.10", "it without: the running loop is meant")


def give_class_loop(cls, part=None):
    """Let cls(loop=...) bind the object, and the objects it creates, to a loop."""
    init = cls.__init__

    @functools.wraps(init)
    def __init__(self, *args, **kwargs):
        if kwargs.get("loop", _NO_LOOP) is _NO_LOOP:
            return init(self, *args, **kwargs)
        no_loop(cls.__name__)
        loop = kwargs.pop("loop")
        init(self, *args, **kwargs)
        if loop is not None:
            self._loop = loop
            if part is not None:
                bind_part(getattr(self, part), loop)

    cls.__init__ = __init__


def bind_part(part, loop):
    bound = getattr(part, "_loop", None)
    if bound is None:
        part._loop = loop
    elif bound is not loop:
        raise ValueError("loop argument must agree with lock")


def take_loop(function, on_loop):
    """Return the function with a parameter `loop`. If it is given, call on_loop(function, loop, ...)."""

    @functools.wraps(function)
    def taking_loop(*args, **kwargs):
        if "loop" not in kwargs:
            return function(*args, **kwargs)
        no_loop(function.__name__)
        loop = kwargs.pop("loop")
        return function(*args, **kwargs) if loop is None else on_loop(function, loop, *args, **kwargs)

    return taking_loop


def as_coroutine_function(function):
    """Return what inspect accepts as an `async def`, since some libraries run other functions in threads."""
    if sys.version_info >= (3, 12):
        return inspect.markcoroutinefunction(function)

    @functools.wraps(function)
    async def coroutine_function(*args, **kwargs):
        return await function(*args, **kwargs)

    return coroutine_function


async def run_on(function, loop, *args, **kwargs):
    if loop is not asyncio.get_running_loop():
        await loop.create_future()  # the task refuses it, as it refused a future of another loop
    return await function(*args, **kwargs)


async def wait_for_on(function, loop, fut, timeout):
    if timeout is not None:
        fut = asyncio.ensure_future(fut, loop=loop)
    return await run_on(function, loop, fut, timeout)


def gather_on(function, loop, *awaitables, **kwargs):
    if not awaitables:
        outer = loop.create_future()
        outer.set_result([])
        return outer
    made = {}
    for awaitable in awaitables:
        if awaitable not in made:
            made[awaitable] = future = asyncio.ensure_future(awaitable, loop=loop)
            if future is not awaitable:
                future._log_destroy_pending = False  # as gather() does for tasks it creates
    return function(*[made[awaitable] for awaitable in awaitables], **kwargs)


def shield_on(function, loop, arg):
    return function(asyncio.ensure_future(arg, loop=loop))


def as_completed_on(function, loop, fs, **kwargs):
    with as_current(loop):  # where it looks up the loop; up to 3.12 at its first step
        if not (asyncio.isfuture(fs) or asyncio.iscoroutine(fs)):
            fs = {asyncio.ensure_future(awaitable, loop=loop) for awaitable in set(fs)}
        results = iter(function(fs, **kwargs))
        first = next(results, None)
    if first is not None:
        yield first
        yield from results


@contextlib.contextmanager
def as_current(loop):
    running = events._get_running_loop()
    events._set_running_loop(loop)
    try:
        yield
    finally:
        events._set_running_loop(running)


# Python 3.11: generator-based coroutines were removed, and wait() no longer creates tasks


def restore_coroutine():
    for module in (asyncio, coroutines):
        module.coroutine = coroutine
        module.__all__ = (*module.__all__, "coroutine")
    coroutines.CoroWrapper = CoroWrapper


_DEBUG = coroutines._is_debug_mode()
_has_decorated = False


def coroutine(func):
    """Turn a generator function into a coroutine function. Results of other functions are awaited if possible."""
    global _has_decorated
    deprecated("asyncio.coroutine()", "3.11", "async def, with await in place of yield from")
    _has_decorated = True
    if inspect.iscoroutinefunction(func):
        return func
    wrapper = types.coroutine(func if inspect.isgeneratorfunction(func) else _awaiting(func))
    if _DEBUG:
        wrapper = _watched(func, wrapper)
    wrapper._is_coroutine = coroutines._is_coroutine  # for asyncio.iscoroutinefunction()
    return wrapper


coroutine.__module__ = "asyncio.coroutines"


def _awaiting(func):
    @functools.wraps(func)
    def call(*args, **kwargs):
        result = func(*args, **kwargs)
        if inspect.isgenerator(result):
            result = yield from result
        elif isinstance(result, collections.abc.Awaitable):
            result = yield from result.__await__()
        return result

    return call


def _watched(func, generator_function):
    @functools.wraps(func)
    def call(*args, **kwargs):
        return CoroWrapper(generator_function(*args, **kwargs), func)

    return call


class CoroWrapper:
    """In debug mode: a generator that reports if nothing was ever yielded from it."""

    def __init__(self, gen, func=None):
        self.gen = gen
        self.func = func
        self.__name__ = getattr(func, "__name__", None)
        self.__qualname__ = getattr(func, "__qualname__", None)
        self._source_traceback = format_helpers.extract_stack(sys._getframe(2))

    def __repr__(self):
        text = "<CoroWrapper " + coroutines._format_coroutine(self)
        if self._source_traceback:
            text += ", created at %s:%s" % tuple(self._source_traceback[-1][:2])
        return text + ">"

    def __getattr__(self, name):
        if name.startswith("gi_"):
            return getattr(self.gen, name)
        raise AttributeError("'CoroWrapper' object has no attribute %r" % name)

    def __iter__(self):
        return self

    __await__ = __iter__

    def __next__(self):
        return self.gen.send(None)

    def send(self, value):
        return self.gen.send(value)

    def throw(self, *exception):
        return self.gen.throw(*exception)

    def close(self):
        return self.gen.close()

    def __del__(self):
        if inspect.isgenerator(self.gen) and inspect.getgeneratorstate(self.gen) == inspect.GEN_CREATED:
            text = "%r was never yielded from" % self
            if self._source_traceback:
                text += "\nCoroutine object created at (most recent call last):\n"
                text += "".join(self._source_traceback.format()).rstrip()
            logger.error(text)


def restore_waiting_for_coroutines():
    original = tasks.wait
    choices = (asyncio.FIRST_COMPLETED, asyncio.FIRST_EXCEPTION, asyncio.ALL_COMPLETED)

    @functools.wraps(original)
    async def wait(fs, *, return_when=asyncio.ALL_COMPLETED, **kwargs):
        if not (asyncio.isfuture(fs) or asyncio.iscoroutine(fs)) and return_when in choices:
            fs = set(fs)
            if any(map(asyncio.iscoroutine, fs)):
                deprecated("giving coroutines to asyncio.wait()", "3.11", "asyncio.create_task() around each")
            # Refuse futures of another loop: without this, it would wait for ever.
            loop = asyncio.get_running_loop()
            fs = {asyncio.ensure_future(awaitable, loop=loop) for awaitable in fs}
        return await original(fs, return_when=return_when, **kwargs)

    replace(tasks, "wait", wait)


# Python 3.12: asyncio.iscoroutine() is false for generators


def restore_generators():
    # Change the types that iscoroutine() checks, as the function is also called from C. Plain generators must not
    # count: wait() and libraries iterate over them.
    coroutines._COROUTINE_TYPES += (GeneratorCoroutine,)
    coroutines._iscoroutine_typecache = NoGenerators(coroutines._iscoroutine_typecache)


class _MadeByDecorator(type):
    def __instancecheck__(cls, instance):
        if not isinstance(instance, types.GeneratorType):
            return False
        if not instance.gi_code.co_flags & inspect.CO_ITERABLE_COROUTINE:
            return False
        if not _has_decorated:  # else it was reported already
            deprecated("a generator of types.coroutine() where asyncio wants a coroutine", "3.12", "async def")
        return True


class GeneratorCoroutine(metaclass=_MadeByDecorator):
    """isinstance() is true for generators of asyncio.coroutine() and types.coroutine()."""


class NoGenerators(set):
    """If its type were in this tuple, every object would be a coroutine."""

    def add(self, cls):
        if cls is not types.GeneratorType:
            super().add(cls)


# Python 3.14: get_event_loop() creates no loop, and multiprocessing does not fork by default


def restore_get_event_loop():
    policy = getattr(events, "_BaseDefaultEventLoopPolicy", None)
    if policy is None:
        return  # no policies either
    get_event_loop, set_event_loop = policy.get_event_loop, policy.set_event_loop

    @functools.wraps(get_event_loop)
    def get_or_make(self):
        local = self._local
        if local._loop is None and not local._set_called and threading.current_thread() is threading.main_thread():
            deprecated("asyncio.get_event_loop() making a loop", "3.14", "asyncio.run(), or asyncio.new_event_loop()")
            self.set_event_loop(self.new_event_loop())
        return get_event_loop(self)

    @functools.wraps(set_event_loop)
    def set_and_note(self, loop):
        self._local._set_called = True
        set_event_loop(self, loop)

    policy._Local._set_called = False
    policy.get_event_loop, policy.set_event_loop = get_or_make, set_and_note


def restore_fork():
    if sys.platform != "darwin":  # not the default there
        on_import("multiprocessing.context", fork_if_unguarded)


def fork_if_unguarded(context):
    """Fork by default if a child started in another way would run the whole program again."""

    class DefaultContext(context.DefaultContext):
        @property
        def _default_context(self):
            if not _lacks_main_guard():
                return vars(self)["_default_context"]
            deprecated(
                "fork as the default start method of processes",
                "3.14",
                'multiprocessing.set_start_method("fork"), or an `if __name__ == "__main__":` around what starts them',
            )
            return context._concrete_contexts["fork"]

    context._default_context.__class__ = DefaultContext


def _lacks_main_guard():
    """Whether the program has nothing like `if __name__ == "__main__":`; False if there is no source."""
    try:
        source = main_source()
        return source is not None and not any(map(_is_main_guard, ast.walk(ast.parse(source))))
    except Exception:  # a loader without source, or a file that was changed meanwhile
        return False


def _is_main_guard(node):
    if not isinstance(node, ast.Compare):
        return False
    sides = [node.left, *node.comparators]
    names = [side.id for side in sides if isinstance(side, ast.Name)]
    return "__name__" in names and any(getattr(side, "value", None) == "__main__" for side in sides)


# In this order: wait() first gets its coroutines, then its loop.
REMOVALS = (
    ((3, 8), restore_exceptions),
    ((3, 9), restore_task_methods),
    ((3, 9), restore_awaiting_locks),
    ((3, 11), restore_coroutine),
    ((3, 11), restore_waiting_for_coroutines),
    ((3, 10), restore_loop_parameters),
    ((3, 12), restore_generators),
    ((3, 14), restore_get_event_loop),
    ((3, 14), restore_fork),
)
