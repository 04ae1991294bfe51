"""What a program does while the loop is in the midst of something, in Python code that is called there: methods of the loop that
are overridden, handles and contexts and executors of its own, what converts and shows arguments, destructors, handlers of
exceptions and signals, filters of the log. All of it beside asyncio.
"""

import asyncio
import concurrent.futures
import contextvars
import gc
import os
import signal
import sys
import threading
import unittest.mock
import warnings

import pytest
from midway import (
    RAISING,
    AbruptScene,
    Dying,
    Places,
    Shown,
    acting,
    attempting,
    calling,
    filtering,
    for_each,
    kind,
    nothing,
    raising,
    where_asyncio_is_known,
)

pytestmark = where_asyncio_is_known


class Scene(AbruptScene):
    """A loop that is in the midst of something, and `it`, a handle."""

    def __init__(self, *args):
        super().__init__(*args)
        self.it, self.kept = None, []
        self.ours, self.theirs = self.pair()

    def noting(self, name):
        return lambda *args: self.note(name, kind(args))

    def soon(self, name):
        return self.loop.call_soon(self.noting(name))

    def reader(self):
        def read():
            self.note("read", self.ours.recv(10))
            self.loop.remove_reader(self.ours)

        return read

    def limit(self, count=10):
        """Stops the loop after some turns, whatever else should."""
        if count:
            type(self.loop).call_soon(self.loop, self.limit, count - 1)
        else:
            self.loop._stopping = True

    def end(self):
        self.turns()
        self.armed = False
        loop = self.loop
        self.note(loop.is_running(), loop.is_closed(), loop.get_debug(), loop._stopping, self.acted)
        self.note(len(loop._ready), len([t for t in loop._scheduled if not t._cancelled]), loop._current_handle)
        self.note(asyncio._get_running_loop() is None, sys.get_asyncgen_hooks()[0] is None)
        self.note(sys.get_coroutine_origin_tracking_depth())
        if not loop.is_closed():
            for sock in self.ours, self.theirs:
                if sock.fileno() >= 0:
                    self.attempt(loop.remove_reader, sock)
                    self.attempt(loop.remove_writer, sock)
        return self.notes


def schedules(scene):
    scene.soon("soon")
    scene.loop.call_later(0, scene.noting("later"))
    scene.kept.append(scene.loop.call_later(1000, scene.noting("much later")))
    scene.loop.call_soon_threadsafe(scene.noting("threadsafe"))


def cancels(scene):
    if scene.it is not None:
        scene.it.cancel()
    for handle in list(scene.loop._ready) + list(scene.loop._scheduled):
        if getattr(handle._callback, "__self__", None) not in (scene, scene.loop):
            handle.cancel()


def reads(scene):
    scene.theirs.send(b"x")
    scene.loop.add_reader(scene.ours, scene.reader())


ACTS = {
    "nothing": nothing,
    **RAISING,
    "type": raising(lambda: TypeError("midway")),
    "value": raising(lambda: ValueError("midway")),
    "os": raising(lambda: OSError(5, "midway")),
    "blocking": raising(lambda: BlockingIOError(11, "midway")),
    "schedule": schedules,
    "cancel": cancels,
    "cancel it": attempting(lambda scene: scene.it and scene.it.cancel()),
    "stop": lambda scene: scene.loop.stop(),
    "close": attempting(lambda scene: scene.loop.close()),
    "run": attempting(lambda scene: scene.loop.is_running() and scene.loop.run_forever()),
    "run it": attempting(lambda scene: scene.it and scene.it._run()),
    "complete": attempting(
        lambda scene: scene.loop.is_running() and scene.loop.run_until_complete(scene.loop.create_future())
    ),
    "debug": lambda scene: scene.loop.set_debug(not scene.loop.get_debug()),
    "no handler": lambda scene: scene.loop.set_exception_handler(None),
    "bad handler": attempting(lambda scene: scene.loop.set_exception_handler(5)),
    "collect": attempting(lambda scene: gc.collect() * 0),
    "show": attempting(lambda scene: [repr(scene.it)[:7], repr(scene.loop._ready)[:6]]),
    "read": reads,
    "unread": attempting(lambda scene: scene.loop.remove_reader(scene.ours)),
    "shut": lambda scene: scene.ours.close(),
    "slow": lambda scene: setattr(scene.loop, "slow_callback_duration", 0),
    "append": attempting(lambda scene: scene.it and scene.loop._ready.append(scene.it)),
}
place = Places()


# Callbacks and what they leave


@place
def callback(scene):
    scene.soon("before")
    scene.it = scene.loop.call_soon(scene.midway)
    scene.soon("after")
    scene.armed = True


@place
def callback_in_debug_mode(scene):
    scene.loop.set_debug(True)
    scene.loop.slow_callback_duration = 1000
    callback(scene)


@place
def timer(scene):
    scene.loop.call_at(0, scene.noting("before"))
    scene.it = scene.loop.call_at(1, scene.midway)
    scene.loop.call_at(2, scene.noting("after"))
    scene.armed = True


@place
def threadsafe(scene):
    scene.it = scene.loop.call_soon_threadsafe(scene.midway)
    scene.loop.call_soon_threadsafe(scene.noting("after"))
    scene.armed = True


@place
def reader_callback(scene):
    scene.theirs.send(b"data")
    scene.loop.add_reader(scene.ours, scene.midway)
    scene.loop.add_writer(scene.ours, scene.noting("writable"))
    scene.armed = True
    scene.turns(1)
    scene.loop.is_closed() or scene.ours.fileno() < 0 or scene.loop.remove_writer(scene.ours)


class ShownCallback(Shown):
    def __call__(self, *args):
        pass


class FailingCallback(Shown):
    def __call__(self, *args):
        raise OSError("callback")


@place
def repr_of_a_failed_callback(scene):
    scene.it = scene.loop.call_soon(FailingCallback(scene))
    scene.soon("after")
    scene.armed = True


@place
def repr_of_an_argument_of_a_failed_callback(scene):
    scene.loop.set_debug(True)  # else newer Pythons do not show it
    scene.loop.slow_callback_duration = 1000
    scene.it = scene.loop.call_soon(raising(lambda: OSError("callback")), Shown(scene))
    scene.soon("after")
    scene.armed = True


@place
def repr_of_a_slow_callback(scene):
    scene.loop.set_debug(True)
    scene.loop.slow_callback_duration = 0
    scene.it = scene.loop.call_soon(ShownCallback(scene))
    scene.soon("after")
    scene.armed = True


@place
def repr_of_a_handle(scene):
    scene.it = scene.loop.call_soon(ShownCallback(scene))
    scene.soon("after")
    scene.armed = True
    scene.attempt(lambda: repr(scene.it)[:7])


@place
def repr_of_a_handle_that_is_cancelled(scene):
    scene.loop.set_debug(True)
    scene.loop.slow_callback_duration = 1000
    scene.it = scene.loop.call_later(0, ShownCallback(scene))
    scene.soon("after")
    scene.armed = True
    scene.attempt(scene.it.cancel)


class DyingCallback(Dying):
    def __call__(self, *args):
        self.scene.note("called")


@place
def destructor_of_a_callback(scene):
    scene.loop.call_soon(DyingCallback(scene))
    scene.soon("after")
    scene.armed = True


@place
def destructor_of_an_argument(scene):
    scene.loop.call_soon(scene.noting("it"), Dying(scene))
    scene.soon("after")
    scene.armed = True


@place
def destructor_of_a_timer(scene):
    scene.loop.call_at(1, DyingCallback(scene))
    scene.loop.call_at(2, scene.noting("after"))
    scene.armed = True


@place
def destructor_of_what_is_cancelled(scene):
    scene.it = scene.loop.call_soon(DyingCallback(scene))
    scene.soon("after")
    scene.armed = True
    scene.it.cancel()


@place
def destructor_of_a_cancelled_timer(scene):
    scene.it = scene.loop.call_later(1000, DyingCallback(scene))
    scene.soon("after")
    scene.armed = True
    scene.it.cancel()


@place
def destructor_of_a_reader(scene):
    scene.theirs.send(b"x")
    scene.loop.add_reader(scene.ours, DyingCallback(scene))
    scene.armed = True
    scene.loop.remove_reader(scene.ours)
    scene.turns(1)


@place
def destructor_of_a_replaced_reader(scene):
    scene.theirs.send(b"x")
    scene.loop.add_reader(scene.ours, DyingCallback(scene))
    scene.armed = True
    scene.loop.add_reader(scene.ours, scene.noting("new"))
    scene.turns(1)


@place
def destructor_of_a_context_variable(scene):
    variable = contextvars.ContextVar("variable")
    context = contextvars.copy_context()
    context.run(variable.set, Dying(scene))
    scene.loop.call_soon(scene.noting("it"), context=context)
    scene.soon("after")
    scene.armed = True
    del context


@place
def destructors_at_the_end(scene):
    scene.loop.call_soon(DyingCallback(scene))
    scene.it = scene.loop.call_later(1000, DyingCallback(scene))
    scene.armed = True
    scene.loop.close()


# Handlers


@place
def exception_handler(scene):
    scene.hooks["reported"] = scene.midway
    scene.it = scene.loop.call_soon(raising(lambda: OSError("callback")))
    scene.soon("after")
    scene.armed = True


def handler_that_is_replaced(scene, name):
    def call(context):
        scene.note("handled", kind(context["exception"]))
        scene.midway()

    setattr(scene.loop, name, call)
    scene.it = scene.loop.call_soon(raising(lambda: OSError("callback")))
    scene.soon("after")
    scene.armed = True


@place
def call_exception_handler(scene):
    handler_that_is_replaced(scene, "call_exception_handler")


@place
def default_exception_handler(scene):
    scene.loop.set_exception_handler(None)
    handler_that_is_replaced(scene, "default_exception_handler")


def logging_with(scene, text):
    def look(record):
        if text in record.msg:
            scene.note("logged", record.msg.partition("(")[0].partition("\n")[0][:25])
            scene.midway()
        return False

    scene.stack.enter_context(filtering(look))


@place
def log_of_an_exception(scene):
    logging_with(scene, "Exception")
    scene.loop.set_exception_handler(None)
    scene.it = scene.loop.call_soon(raising(lambda: OSError("callback")))
    scene.soon("after")
    scene.armed = True


@place
def log_of_a_slow_callback(scene):
    logging_with(scene, "Executing")
    scene.loop.set_debug(True)
    scene.loop.slow_callback_duration = 0
    scene.it = scene.loop.call_soon(scene.noting("it"))
    scene.soon("after")
    scene.armed = True
    scene.turns(1)
    scene.loop.slow_callback_duration = 1000


# Methods of the loop


def method(name, use, debug=False):
    def run(scene):
        scene.loop.set_debug(debug)
        scene.loop.slow_callback_duration = 1000
        with calling(scene, name):
            scene.limit()
            scene.armed = True
            USES[use](scene)
            scene.turns()

    run.__name__ = "method_%s_%s%s" % (name.strip("_"), use, "_in_debug_mode" if debug else "")
    return run


async def body(scene):
    await asyncio.sleep(0)
    scene.note("body")
    return "body"


def later(scene):
    scene.it = scene.loop.call_later(0, scene.noting("it"))
    scene.turns(1)


async def generates(scene):
    """Leaves a generator that has begun."""

    async def numbers():
        yield 1
        yield 2

    async for number in numbers():
        scene.note(number)
        break
    await asyncio.sleep(0)
    return "generated"


class ThreadAtOnce:
    """Runs in this thread, when it is started."""

    def __init__(self, target, args):
        self.start = lambda: target(*args)

    def join(self):
        pass


def shuts(scene):
    scene.stack.enter_context(unittest.mock.patch.object(threading, "Thread", ThreadAtOnce))
    scene.loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(1))

    async def main():
        await scene.loop.shutdown_asyncgens()
        await scene.loop.shutdown_default_executor()

    scene.attempt(scene.loop.run_until_complete, main())


USES = {
    "soon": lambda scene: scene.soon("it"),
    "later": later,
    "threadsafe": lambda scene: scene.loop.call_soon_threadsafe(scene.noting("it")),
    "complete": lambda scene: scene.attempt(scene.loop.run_until_complete, body(scene)),
    "generate": lambda scene: scene.attempt(scene.loop.run_until_complete, generates(scene)),
    "shut": shuts,
    "close": lambda scene: scene.attempt(scene.loop.close),
    "reader": lambda scene: (scene.theirs.send(b"x"), scene.loop.add_reader(scene.ours, scene.reader())),
    "future": lambda scene: scene.loop.create_future(),
}
for _name, _use in [
    ("call_soon", "soon"),
    ("call_soon", "complete"),
    ("call_at", "later"),
    ("time", "later"),
    ("call_later", "later"),
    ("_run_once", "soon"),
    ("_process_events", "soon"),
    ("_process_events", "reader"),
    ("is_running", "complete"),
    ("is_running", "close"),
    ("is_closed", "close"),
    ("is_closed", "complete"),
    ("run_forever", "complete"),
    ("create_task", "complete"),
    ("stop", "complete"),
    ("create_future", "shut"),
    ("_asyncgen_firstiter_hook", "generate"),
    ("_asyncgen_finalizer_hook", "generate"),
    ("get_debug", "future"),
    ("close", "close"),
]:
    for _debug in False, True:
        place(method(_name, _use, _debug))


# Arguments


class Number:
    """A delay or a time."""

    def __init__(self, scene, value, where):
        self.scene, self.value, self.where = scene, value, where

    def at(self, where):
        if where == self.where:
            self.scene.midway()

    def __radd__(self, other):
        self.at("radd")
        return other + self.value

    def __add__(self, other):
        self.at("add")
        return self.value + other

    def __float__(self):
        return float(self.value)


@place
def delay_that_is_added(scene):
    scene.armed = True
    scene.it = scene.loop.call_later(Number(scene, 0, "radd"), scene.noting("it"))
    scene.turns(1)


def file_with(where, use):
    class File:
        def __init__(self, scene):
            self.scene = scene

        def fileno(self):
            if where == "fileno":
                self.scene.midway()
            if where == "index":
                return Index(self.scene)
            return self.scene.ours.fileno()

        def __repr__(self):
            if where == "repr":
                self.scene.midway()
            return "file"

    class Index:
        def __init__(self, scene):
            self.scene = scene

        def __int__(self):
            self.scene.midway()
            return self.scene.ours.fileno()

    class BadFile(File):
        def fileno(self):
            return "text"

    def run(scene):
        file = (BadFile if where == "repr" else File)(scene)
        scene.theirs.send(b"x")
        if use == "remove_reader":
            scene.loop.add_reader(scene.ours, scene.reader())
        scene.armed = True
        scene.attempt(getattr(scene.loop, use), file, *([scene.reader()] if use.startswith("add") else []))
        scene.armed = False
        scene.turns(1)

    run.__name__ = "file_%s_%s" % (where, use)
    return run


for _where in "fileno", "index", "repr":
    for _use in "add_reader", "remove_reader", "add_writer", "remove_writer":
        if _use != "add_writer":
            place(file_with(_where, _use))


@place
def run_of_a_context(scene):
    class Context:
        def run(self, callback, *args):
            scene.midway()
            return callback(*args)

    scene.it = scene.loop.call_soon(scene.noting("it"), 1, context=Context())
    scene.soon("after")
    scene.armed = True


@place
def property_of_a_context(scene):
    class Context:
        @property
        def run(self):
            scene.midway()
            return lambda callback, *args: callback(*args)

    scene.it = scene.loop.call_soon(scene.noting("it"), 1, 2, 3, 4, context=Context())
    scene.soon("after")
    scene.armed = True


class Vector:
    """A callback whose call is looked up."""

    def __init__(self, scene):
        self.scene = scene

    def __getattr__(self, name):
        if not name.startswith("__") or name in ("__wrapped__", "__name__", "__qualname__"):
            self.scene.midway()
        raise AttributeError(name)

    def __call__(self, *args):
        raise OSError("callback")


@place
def attribute_of_a_failed_callback(scene):
    scene.it = scene.loop.call_soon(Vector(scene))
    scene.soon("after")
    scene.armed = True


# Handles of the program


class Foreign(asyncio.Handle):
    scene = None

    def _run(self):
        self.scene.note("foreign run")
        self.scene.midway()
        return super()._run()


class Cancelled(asyncio.Handle):
    __slots__ = ("scene",)

    @property
    def _cancelled(self):
        self.scene.midway()
        return False

    @_cancelled.setter
    def _cancelled(self, value):
        pass


def handles(cls, add, debug):
    def run(scene):
        scene.loop.set_debug(debug)
        scene.loop.slow_callback_duration = 1000
        Cls = type("Cls", (cls,), {})
        handle = Cls(scene.noting("it"), (), scene.loop)
        Cls.scene = scene
        scene.it = handle
        scene.armed = True
        if add == "append":
            scene.loop._ready.append(handle)
        else:
            scene.loop._add_callback(handle)
        scene.soon("after")

    run.__name__ = "handle_%s_%s%s" % (cls.__name__.lower(), add, "_in_debug_mode" if debug else "")
    return run


for _cls in Foreign, Cancelled:
    for _add in "append", "add_callback":
        for _debug in False, True:
            place(handles(_cls, _add, _debug))


# Futures that the loop is run for


class Awaited:
    """A future of the program."""

    _asyncio_future_blocking = False

    def __init__(self, scene, where):
        self.scene, self.where = scene, where

    def at(self, where):
        self.scene.note(where)
        if where == self.where:
            return self.scene.midway()

    def get_loop(self):
        return self.scene.loop

    def add_done_callback(self, callback, context=None):
        self.at("add")
        self.scene.loop.call_soon(callback, self)

    def remove_done_callback(self, callback):
        self.at("remove")
        return 1

    def done(self):
        self.at("done")
        return True

    def cancelled(self):
        self.at("cancelled")
        return 0

    def exception(self):
        self.at("exception")

    def result(self):
        self.at("result")
        return "result"


def awaited(where, fails=False, by_factory=False):
    def run(scene):
        scene.limit()
        scene.armed = True
        future = Awaited(scene, where)
        if fails:
            scene.loop.call_soon(raising(lambda: SystemExit("callback")), scene)
        if by_factory:

            def factory(loop, coro, **options):
                coro.close()
                if where == "factory":
                    scene.midway()
                return future

            scene.loop.set_task_factory(factory)
            scene.attempt(scene.loop.run_until_complete, body(scene))
            scene.loop.set_task_factory(None)
        else:
            scene.attempt(scene.loop.run_until_complete, future)

    run.__name__ = "awaited_%s%s%s" % (where, "_fails" if fails else "", "_by_factory" if by_factory else "")
    return run


for _where in "add", "remove", "cancelled", "exception":
    for _fails in False, True:
        for _by_factory in False, True:
            place(awaited(_where, _fails, _by_factory))
place(awaited("done"))
for _fails in False, True:  # then it is asked only of what the loop has made
    place(awaited("done", _fails, True))
    place(awaited("factory", _fails, True))
for _by_factory in False, True:
    place(awaited("result", False, _by_factory))


# Asynchronous generators


def generator(where):
    def run(scene):
        async def numbers():
            try:
                yield 1
                yield 2
            finally:
                if where == "finally":
                    scene.midway()
                scene.note("finally")

        async def main():
            async for _ in numbers():
                break
            await asyncio.sleep(0)
            if where == "shutdown":
                scene.midway()
            await scene.loop.shutdown_asyncgens()
            async for _ in numbers():
                break
            return "main"

        scene.limit()
        scene.armed = True
        scene.attempt(scene.loop.run_until_complete, main())

    run.__name__ = "generator_" + where
    return run


for _where in "finally", "shutdown":
    place(generator(_where))


# Executors


class Executor:
    def __init__(self, scene, where):
        self.scene, self.where = scene, where

    def submit(self, function, *args):
        scene, future = self.scene, concurrent.futures.Future()
        if self.where == "submit":
            scene.midway()
        elif self.where.startswith("odd"):
            scene.midway()
            return {"odd_nothing": None, "odd_number": 5}.get(self.where, scene.loop.create_future())
        elif self.where in ("add_done_callback", "cancelled", "exception", "result"):
            future = acting(scene, concurrent.futures.Future, self.where)()
        if self.where == "late":
            scene.loop.call_soon(lambda: (scene.midway(), future.set_result("late")))
        elif self.where == "exception":
            future.set_exception(OSError("job"))
        elif self.where == "cancelled":
            future.cancel()
            future.set_running_or_notify_cancel()
        else:
            future.set_result(function(*args))
        return future

    def shutdown(self, wait=True, **options):
        self.scene.note("shutdown", wait, sorted(options))
        if self.where == "shutdown":
            self.scene.midway()


def executor(where, default):
    def run(scene):
        jobs = Executor(scene, where)
        if default:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    scene.loop.set_default_executor(jobs)
                except TypeError:
                    scene.loop._default_executor = jobs

        async def main():
            if where == "callback":
                scene.loop.call_soon(scene.midway)
            future = scene.loop.run_in_executor(
                None if default else jobs, lambda: (scene.midway() if where == "job" else None, "job")
            )
            scene.kept.append(future)
            try:
                return await future
            finally:
                if default and where == "shutdown":
                    scene.loop._default_executor = None
                    jobs.shutdown()

        scene.limit()
        scene.armed = True
        scene.attempt(scene.loop.run_until_complete, main())
        if default:
            scene.loop._default_executor = jobs if where == "shutdown" else None
        scene.armed = True
        if where == "shutdown":
            scene.attempt(scene.loop.close)

    run.__name__ = "executor_%s%s" % (where, "_default" if default else "")
    return run


for _where in (
    "submit", "odd_nothing", "odd_number", "odd_future", "late", "add_done_callback", "cancelled", "exception", "result",
    "job", "callback",
):  # fmt: skip
    for _default in False, True:
        place(executor(_where, _default))
place(executor("shutdown", True))


# Signals


def signal_at(where):
    def run(scene):
        previous = signal.getsignal(signal.SIGUSR2)
        scene.kept.append(None)
        scene.armed = True
        if where == "python":
            signal.signal(signal.SIGUSR2, lambda *args: scene.midway())
            scene.loop.call_soon(os.kill, os.getpid(), signal.SIGUSR2)
        elif where == "before":
            signal.signal(signal.SIGUSR2, lambda *args: scene.midway())
            scene.loop.call_soon(signal.raise_signal, signal.SIGUSR2)
        elif where == "replaced":
            scene.loop.add_signal_handler(signal.SIGUSR2, scene.noting("first"))
            os.kill(os.getpid(), signal.SIGUSR2)
            scene.loop.add_signal_handler(signal.SIGUSR2, scene.midway)
        elif where == "removed":
            scene.loop.add_signal_handler(signal.SIGUSR2, scene.noting("first"))
            os.kill(os.getpid(), signal.SIGUSR2)
            scene.loop.remove_signal_handler(signal.SIGUSR2)
            scene.loop.call_soon(scene.midway)
        scene.turns(3)
        if not scene.loop.is_closed():
            scene.attempt(scene.loop.remove_signal_handler, signal.SIGUSR2)
        signal.signal(signal.SIGUSR2, previous)

    run.__name__ = "signal_" + where
    return run


for _where in "python", "before", "replaced", "removed":
    place(signal_at(_where))


# Where asyncio runs a handle that is being cancelled, appends to the queue of a closed loop, or keeps what it was given.
ASYNCIOS = {
    ("destructor_of_what_is_cancelled", "run it"),
    ("destructor_of_a_cancelled_timer", "run it"),
    ("destructors_at_the_end", "append"),
    ("handle_cancelled_add_callback", "close"),
    ("handle_cancelled_add_callback_in_debug_mode", "close"),
}
# Where it frees a handle only when it has taken the next one, and looks at a handle's arguments late.
ASYNCIOS |= {
    ("destructor_of_" + what, "cancel") for what in ("a_callback", "an_argument", "a_timer", "a_context_variable")
}
ASYNCIOS |= {("property_of_a_context", "cancel"), ("property_of_a_context", "cancel it")}


@pytest.mark.slow
@for_each(place)
def test_as_asyncio(differences, place):
    assert differences(Scene.plays(place, ACTS, ASYNCIOS)) == {}
