"""What a program does while a future or a task is in the midst of something, in Python code that is called there: coroutines,
futures, loops and exceptions of the program's own, what is shown or compared, contexts. All of it beside asyncio.
"""

import asyncio
import collections.abc
import contextvars
import gc
import sys
import types
import warnings

import pytest
from midway import (
    RAISING,
    AbruptScene,
    Dying,
    Places,
    Shown,
    attempting,
    calling,
    for_each,
    kind,
    nothing,
    raising,
    where_asyncio_is_known,
)

pytestmark = where_asyncio_is_known
NEWER = sys.version_info >= (3, 12)


class Scene(AbruptScene):
    """`it`, a future or a task that is in the midst of something, and others."""

    def __init__(self, *args):
        super().__init__(*args)
        self.it, self.others = None, []

    def noting(self, name):
        def callback(future):
            current = asyncio.current_task(self.loop)
            self.note(name, self.state(future), future is self.it, current is None)

        return callback

    def state(self, future):
        if not asyncio.isfuture(future) or isinstance(future, Foreign):
            return type(future).__name__
        if future._state != "FINISHED":
            return future._state.lower()
        return kind(future._exception if future._exception is not None else future._result)

    def end(self):
        self.turns()
        self.armed = False
        for each in [self.it] + self.others:
            if asyncio.isfuture(each) and not isinstance(each, Foreign):
                self.look(each)
        for each in [self.it] + self.others:
            if isinstance(each, asyncio.Future) and not each.done():
                self.attempt(each.cancel)
        self.turns()
        for each in [self.it] + self.others:
            if isinstance(each, asyncio.Future):
                self.note(self.state(each))
                each._log_traceback = False
            if isinstance(each, asyncio.Task):
                each._log_destroy_pending = False
        for each in asyncio.all_tasks(self.loop):
            each._log_destroy_pending = False
        return self.acted, self.notes

    def look(self, future):
        self.note(self.state(future), len(future._callbacks or ()), future._asyncio_future_blocking)
        if isinstance(future, asyncio.Task):
            current = asyncio.current_task(self.loop)
            self.note(kind(future._fut_waiter), future._must_cancel, future.cancelling(), current is None)
            self.note(future in asyncio.all_tasks(self.loop))


class Strange(asyncio.CancelledError):
    pass


def initialises(scene):
    if isinstance(scene.it, asyncio.Task):
        scene.it.__init__(body(scene), loop=scene.loop)
    else:
        scene.it.__init__(loop=scene.loop)


async def body(scene):
    scene.note("body")
    return "body"


def begins(scene):
    scene.others.append(scene.loop.create_task(body(scene)))


def coroutine_of(scene):
    return scene.it.get_coro() if isinstance(scene.it, asyncio.Task) else None


def on_coroutine(function):
    def act(scene):
        coroutine = coroutine_of(scene)
        if coroutine is None:
            scene.note("no coroutine")
        else:
            scene.attempt(function, coroutine)

    return act


def waits_for_it(scene):
    async def wait():
        return await scene.it

    scene.others.append(scene.loop.create_task(wait()))


def steps(scene):
    for handle in list(getattr(scene.loop, "_ready", ())):
        if getattr(handle._callback, "__self__", None) is scene.it:
            scene.attempt(handle._run)


def swaps(scene):
    """Another task is the current one from here on."""
    current = asyncio.current_task(scene.loop)
    if current is not None:
        asyncio._leave_task(scene.loop, current)
    scene.note("was current", current is scene.it)


ACTS = {
    "nothing": nothing,
    **RAISING,
    "raise strange": raising(lambda: Strange("midway")),
    "stop iteration": raising(lambda: StopIteration("midway")),
    "cancel": attempting(lambda scene: scene.it.cancel("midway")),
    "cancel twice": attempting(lambda scene: [scene.it.cancel("one"), scene.it.cancel("two")]),
    "set result": attempting(lambda scene: asyncio.Future.set_result(scene.it, "midway")),
    "set exception": attempting(lambda scene: asyncio.Future.set_exception(scene.it, OSError("midway"))),
    "own set result": attempting(lambda scene: scene.it.set_result("midway")),
    "add callback": attempting(lambda scene: scene.it.add_done_callback(scene.noting("added"))),
    "remove callbacks": attempting(
        lambda scene: [scene.it.remove_done_callback(f) for f, _ in scene.it._callbacks or ()]
    ),
    "wait": waits_for_it,
    "begin": begins,
    "initialise": attempting(initialises),
    "collect": attempting(lambda scene: gc.collect() * 0),
    "stop": lambda scene: scene.loop.stop(),
    "close loop": attempting(lambda scene: scene.loop.close()),
    "debug": lambda scene: scene.loop.set_debug(not scene.loop.get_debug()),
    "factory": lambda scene: scene.loop.set_task_factory(
        lambda loop, coro, **options: asyncio.Task(coro, loop=loop, **options)
    ),
    "show": attempting(lambda scene: repr(scene.it)[:6]),
    "throw": on_coroutine(lambda coroutine: coroutine.throw(LookupError("thrown"))),
    "close": on_coroutine(lambda coroutine: coroutine.close()),
    "send": on_coroutine(lambda coroutine: coroutine.send(None)),
    "steps": steps,
    "swap": attempting(swaps),
    "swap and exit": lambda scene: (swaps(scene), raising(lambda: SystemExit("midway"))(scene)),
    "swap and raise": lambda scene: (swaps(scene), raising(lambda: LookupError("midway"))(scene)),
    "blocking": attempting(lambda scene: setattr(scene.it, "_asyncio_future_blocking", True)),
    "not blocking": attempting(lambda scene: setattr(scene.it, "_asyncio_future_blocking", False)),
    "message": attempting(lambda scene: setattr(scene.it, "_cancel_message", "changed")),
    "unregister": attempting(lambda scene: asyncio._unregister_task(scene.it)),
    "uncancel": attempting(lambda scene: scene.it.uncancel()),
    "name": attempting(lambda scene: scene.it.set_name("new")),
}


class Coroutine(collections.abc.Coroutine):
    """One of the program's own."""

    def __init__(self, scene, yields=(), thrown=None, closed=None):
        self.scene, self.yields, self.thrown, self.closed = scene, list(yields), thrown, closed

    def send(self, value):
        self.scene.note("sent", value)
        if self.thrown is None and self.closed is None:
            self.scene.midway()
        if self.yields:
            found = self.yields.pop(0)
            return found() if isinstance(found, types.FunctionType) else found
        raise StopIteration("end")

    def throw(self, kind_or_error, value=None, traceback=None):
        self.scene.note("thrown", kind(kind_or_error))
        self.scene.midway()
        if isinstance(self.thrown, BaseException):
            raise self.thrown
        if self.thrown == "return":
            raise StopIteration("from throw")
        if self.thrown == "yield":
            return None
        raise kind_or_error

    def close(self):
        self.scene.note("closed")
        self.scene.midway()

    def __await__(self):
        return self


class Foreign:
    """A future of the program."""

    def __init__(self, scene, where, value="foreign", calls=True):
        self.scene, self.where, self.value, self.calls, self.flag = scene, where, value, calls, True
        self.callbacks = []

    def at(self, where):
        if where == self.where:
            return self.scene.midway()

    @property
    def _asyncio_future_blocking(self):
        self.at("blocking")
        return self.flag

    @_asyncio_future_blocking.setter
    def _asyncio_future_blocking(self, value):
        self.at("set blocking")
        self.flag = value

    def get_loop(self):
        self.at("get_loop")
        return self.scene.loop

    def add_done_callback(self, callback, *, context=None):
        self.at("add_done_callback")
        if self.calls:
            self.scene.loop.call_soon(callback, self, context=context)
        else:
            self.callbacks.append(callback)

    def cancel(self, msg=None):
        self.scene.note("foreign cancel", msg)
        self.at("cancel")
        for callback in self.callbacks:
            self.scene.loop.call_soon(callback, self)
        return bool(self.callbacks)

    def result(self):
        self.at("result")
        return self.value

    def __await__(self):
        yield self
        return self.result()


place = Places()


def task_class(scene):
    cls = type(scene.loop.create_task(body(scene)))
    scene.turns(1)
    scene.notes.clear()
    return cls


def begin(scene, coroutine):
    cls = task_class(scene)
    scene.it = cls.__new__(cls)
    scene.it.__init__(coroutine, loop=scene.loop)
    scene.it.add_done_callback(scene.noting("done"))


def begin_to_wait(scene, coroutine=None):
    """For the first of the others."""

    async def main():
        return await scene.others[0]

    scene.others.append(scene.loop.create_future())
    begin(scene, coroutine or main())
    scene.turns(1)


def blocked(scene):
    scene.others[0]._asyncio_future_blocking = True
    return scene.others[0]


# Coroutines


@place
def first_send(scene):
    scene.armed = True
    begin(scene, Coroutine(scene))


@place
def send_that_yields(scene):
    scene.armed = True
    begin(scene, Coroutine(scene, [None, None]))


@place
def send_that_yields_a_future(scene):
    scene.others.append(scene.loop.create_future())
    scene.armed = True
    begin(scene, Coroutine(scene, [lambda: blocked(scene)]))
    scene.turns()
    scene.others[0].done() or scene.others[0].set_result("other")


@place
def send_that_yields_itself(scene):
    scene.armed = True
    begin(scene, Coroutine(scene, [lambda: scene.it]))


@place
def send_that_yields_a_future_that_does_not_block(scene):
    scene.others.append(scene.loop.create_future())
    scene.armed = True
    begin(scene, Coroutine(scene, [lambda: scene.others[0]]))


@place
def send_that_yields_a_done_future(scene):
    scene.others.append(scene.loop.create_future())
    scene.others[0].set_result("other")
    scene.armed = True
    begin(scene, Coroutine(scene, [lambda: blocked(scene)]))


@place
def second_send(scene):
    begin(scene, Coroutine(scene, [None, None]))
    scene.turns(1)
    scene.armed = True


@place
def body_of_a_coroutine(scene):
    async def main():
        scene.midway()
        try:
            await asyncio.sleep(0)
            return "main"
        finally:
            scene.note("finally")

    scene.armed = True
    begin(scene, main())


@place
def body_after_a_future(scene):
    async def main():
        await scene.others[0]
        scene.midway()
        await asyncio.sleep(0)
        return "main"

    begin_to_wait(scene, main())
    scene.armed = True
    scene.others[0].set_result("other")


@place
def body_after_a_failed_future(scene):
    async def main():
        try:
            await scene.others[0]
        except OSError:
            scene.midway()
            await asyncio.sleep(0)
        return "main"

    begin_to_wait(scene, main())
    scene.armed = True
    scene.others[0].set_exception(OSError("other"))


@place
def body_that_is_cancelled(scene):
    async def main():
        try:
            await scene.others[0]
        except asyncio.CancelledError:
            scene.midway()
            await asyncio.sleep(0)
            raise

    begin_to_wait(scene, main())
    scene.armed = True
    scene.it.cancel("cancel")


@place
def cleanup_of_a_coroutine(scene):
    async def main():
        try:
            return "main"
        finally:
            scene.midway()

    scene.armed = True
    begin(scene, main())


@place
def task_within_a_task(scene):
    async def inner():
        scene.midway()
        await asyncio.sleep(0)
        return "inner"

    async def main():
        scene.others.append(scene.loop.create_task(inner()))
        return await scene.others[-1]

    scene.armed = True
    begin(scene, main())


def thrown_into(scene, thrown):
    begin_to_wait(scene, Coroutine(scene, [lambda: blocked(scene), None], thrown=thrown))
    scene.armed = True
    scene.it.cancel("cancel")


@place
def throw_that_raises(scene):
    thrown_into(scene, "raise")


@place
def throw_that_raises_another(scene):
    thrown_into(scene, OSError("another"))


@place
def throw_that_returns(scene):
    thrown_into(scene, "return")


@place
def throw_that_yields(scene):
    thrown_into(scene, "yield")


@place
def throw_that_exits(scene):
    thrown_into(scene, SystemExit("thrown"))


@place
def throw_that_ends(scene):
    thrown_into(scene, GeneratorExit("thrown"))


# Futures of the program


def foreign_at(where, calls=True):
    def run(scene):
        foreign = Foreign(scene, where, calls=calls)

        async def main():
            return await foreign

        scene.armed = True
        begin(scene, main())
        if where == "cancel":
            scene.turns(1)
            scene.it.cancel("cancel")

    run.__name__ = "foreign_" + where.replace(" ", "_") + ("" if calls else "_waiting")
    return run


for _where in "blocking", "set blocking", "get_loop", "add_done_callback", "result":
    place(foreign_at(_where))
place(foreign_at("cancel", False))
place(foreign_at("cancel"))


@place
def foreign_cancelled_before_it_waits(scene):
    foreign = Foreign(scene, "cancel", calls=False)

    async def main():
        scene.it.cancel("before")
        return await foreign

    scene.armed = True
    begin(scene, main())


# What is shown


# asyncio keeps the classes of coroutines.
class ShownCoroutine(Coroutine):
    __repr__ = Shown.__repr__


class DyingCoroutine(Coroutine):
    def __del__(self):
        self.scene.midway()


class InitialisingCoroutine(Coroutine):
    def __del__(self):
        initialises(self.scene)


@place
def repr_of_what_was_yielded(scene):
    scene.armed = True
    begin(scene, Coroutine(scene, [Shown(scene)]))


@place
def repr_of_a_generator(scene):
    class Generator(Shown):
        @property
        def __class__(self):
            self.scene.midway()
            return types.GeneratorType

    scene.armed = True
    begin(scene, Coroutine(scene, [Generator(scene)]))


@place
def repr_of_a_result(scene):
    scene.it = scene.loop.create_future()
    scene.it.set_result(Shown(scene))
    scene.armed = True
    scene.attempt(lambda: repr(scene.it)[:6])


@place
def repr_of_a_coroutine(scene):
    begin(scene, ShownCoroutine(scene, [None, None, None, None, None]))
    scene.armed = True
    scene.attempt(lambda: repr(scene.it)[:6])


@place
def repr_of_a_callback(scene):
    class Callback(Shown):
        def __call__(self, future):
            raise LookupError("callback")

    scene.it = scene.loop.create_future()
    scene.it.add_done_callback(Callback(scene))
    scene.it.add_done_callback(scene.noting("second"))
    scene.armed = True
    scene.it.set_result("it")


@place
def repr_of_callbacks(scene):
    class Callback(Shown):
        def __call__(self, future):
            pass

    scene.it = scene.loop.create_future()
    scene.it.add_done_callback(Callback(scene))
    scene.it.add_done_callback(scene.noting("second"))
    scene.armed = True
    scene.attempt(lambda: repr(scene.it)[:6])


@place
def name_of_a_task(scene):
    begin(scene, Coroutine(scene, [None] * 5))
    scene.armed = True
    scene.attempt(scene.it.set_name, Shown(scene))


@place
def name_of_a_new_task(scene):
    begin(scene, Coroutine(scene, [None] * 5))
    scene.armed = True
    scene.attempt(lambda: scene.others.append(type(scene.it)(body(scene), loop=scene.loop, name=Shown(scene))))


@place
def name_of_a_created_task(scene):
    begin(scene, Coroutine(scene, [None] * 5))
    scene.armed = True
    scene.attempt(lambda: scene.others.append(scene.loop.create_task(body(scene), name=Shown(scene))))


@place
def name_of_a_task_that_is_initialised_again(scene):
    """As was done when the coroutine went that it had."""
    begin(scene, InitialisingCoroutine(scene, thrown="return"))
    scene.turns(1)
    scene.armed = True
    scene.attempt(lambda: scene.it.__init__(body(scene), loop=scene.loop, name=Shown(scene)))


# What is compared


class Compared:
    def __init__(self, scene, equal=False):
        self.scene, self.equal = scene, equal

    def __call__(self, future):
        self.scene.note("compared", self.equal)

    def __eq__(self, other):
        self.scene.midway()
        return self.equal

    __hash__ = None


def compared_at(count, at, equal):
    def run(scene):
        scene.it = scene.loop.create_future()
        for number in range(count):
            scene.it.add_done_callback(Compared(scene, equal) if number == at else scene.noting(number))
        scene.armed = True
        scene.attempt(scene.it.remove_done_callback, print)
        if not scene.it.done():
            scene.attempt(scene.it.set_result, "it")

    run.__name__ = "compared_%d_of_%d_%s" % (at, count, equal)
    return run


for _count, _at in (1, 0), (2, 0), (2, 1), (3, 1), (3, 2):
    for _equal in False, True:
        place(compared_at(_count, _at, _equal))


# Exceptions


def exception_class(what):
    def run(scene):
        class Made(Exception):
            def __new__(cls, *args):
                if what != "init":
                    scene.midway()
                return "text" if what == "text" else super().__new__(cls, *args)

            def __init__(self, *args):
                if what == "init":
                    scene.midway()

        scene.it = scene.loop.create_future()
        scene.it.add_done_callback(scene.noting("done"))
        scene.armed = True
        scene.attempt(scene.it.set_exception, Made)

    run.__name__ = "exception_class_" + what
    return run


for _what in "new", "init", "text":
    place(exception_class(_what))


@place
def exception_thrown_into_an_iterator(scene):
    class Made(Exception):
        def __init__(self, *args):
            scene.midway()

    scene.it = scene.loop.create_future()
    iterator = scene.it.__await__()
    next(iterator)
    scene.armed = True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scene.attempt(iterator.throw, Made)
        scene.attempt(iterator.throw, Made, None, None)


@place
def property_of_an_exception(scene):
    class Odd(Exception):
        @property
        def __traceback__(self):
            scene.midway()

        @__traceback__.setter
        def __traceback__(self, value):
            scene.midway()

        def with_traceback(self, traceback):
            scene.midway()
            return self

    scene.it = scene.loop.create_future()
    scene.it.add_done_callback(scene.noting("done"))
    scene.armed = True
    scene.attempt(scene.it.set_exception, Odd())
    scene.attempt(lambda: scene.it.result())


@place
def cancelled_error_of_a_subclass(scene):
    class Sub(type(scene.loop.create_future())):
        def _make_cancelled_error(self):
            scene.midway()
            return super()._make_cancelled_error()

    scene.it = Sub(loop=scene.loop)

    async def main():
        return await asyncio.gather(scene.it)

    scene.others.append(scene.loop.create_task(main()))
    scene.turns(1)
    scene.it.cancel("cancel")
    scene.armed = True
    scene.turns()
    scene.attempt(scene.it.result)


# Subclasses


def subclass(scene, name, of_task):
    """A class whose method of this name is called midway."""

    def method(self, *args, **options):
        if scene.acted:
            scene.note("called", name)
        scene.midway()
        return getattr(super(Sub, self), name)(*args, **options)

    base = task_class(scene) if of_task else type(scene.loop.create_future())
    Sub = type("Sub", (base,), {name: method})
    return Sub


def waited_for(name, future):
    """An awaitable that calls the future's method of this name, if one does."""

    @types.coroutine
    def iterate():
        return (yield from future)

    if name == "__iter__":
        return iterate()
    if name == "done":
        return asyncio.wait([future])
    return asyncio.gather(future) if name in ("exception", "cancelled", "_make_cancelled_error") else future


def overriding(name, of_task):
    def run(scene):
        cls = subclass(scene, name, of_task)
        waiting = scene.loop.create_future()

        async def inner():
            if name == "uncancel":
                async with asyncio.timeout(0):
                    await waiting
            return await waiting

        scene.it = cls(inner(), loop=scene.loop) if of_task else cls(loop=scene.loop)

        async def main():
            return await waited_for(name, scene.it)

        scene.it.add_done_callback(scene.noting("done"))
        scene.others += [scene.loop.create_task(main()), waiting]
        scene.armed = True
        scene.turns(2)
        if name == "cancel":
            scene.attempt(scene.others[0].cancel, "early")
        elif name == "get_name":
            scene.attempt(lambda: repr(scene.it)[:6])
        elif name == "get_coro" and hasattr(asyncio, "capture_call_graph"):
            scene.attempt(lambda: bool(asyncio.capture_call_graph(scene.it)))
        if of_task:
            waiting.done() or waiting.set_result("waiting")
        else:
            scene.attempt(scene.it.set_result, "it")
        scene.turns(2)
        scene.attempt(scene.others[0].cancel, "late")

    run.__name__ = "overriding_%s_of_%s" % (name.strip("_"), "a_task" if of_task else "a_future")
    return run


for _name in (
    "__await__",
    "__iter__",
    "add_done_callback",
    "get_loop",
    "result",
    "exception",
    "cancel",
    "done",
    "cancelled",
    "set_result",
):
    place(overriding(_name, False))
for _name in "__await__", "add_done_callback", "result", "cancel", "get_coro", "get_name", "uncancel", "set_result":
    place(overriding(_name, True))


def overriding_then_cancelled(name, of_task):
    def run(scene):
        cls = subclass(scene, name, of_task)
        waiting = scene.loop.create_future()

        async def inner():
            return await waiting

        async def main():
            return await waited_for(name, scene.others[0])

        scene.others += [cls(inner(), loop=scene.loop) if of_task else cls(loop=scene.loop), waiting]
        begin(scene, main())
        scene.turns(2)
        scene.armed = True
        scene.attempt(scene.it.cancel, "cancel")

    run.__name__ = "cancelled_overriding_%s_of_%s" % (name.strip("_"), "a_task" if of_task else "a_future")
    return run


for _name in "cancel", "result", "cancelled", "_make_cancelled_error":
    for _of_task in False, True:
        place(overriding_then_cancelled(_name, _of_task))


# Loops


def loop_with(name, which):
    """`it` is made, woken, called back or cancelled by a loop that is no plain one."""

    def run(scene):
        if which == "future":
            scene.it = scene.loop.create_future()
            for each in "first", "second", "third":
                scene.it.add_done_callback(scene.noting(each))
        elif which != "made":
            begin_to_wait(scene)
        with calling(scene, name):
            if which == "made":
                scene.it = scene.loop.create_future()
            scene.armed = True
            if which == "future":
                scene.attempt(scene.it.set_result, "it")
            elif which == "woken":
                scene.attempt(scene.others[0].set_result, "other")
            elif which == "cancelled":
                scene.attempt(scene.it.cancel, "cancel")
            elif which == "made":
                scene.attempt(lambda: scene.others.append(scene.loop.create_future()))
                scene.attempt(lambda: scene.others.append(scene.loop.create_task(body(scene))))
            elif which == "failing":
                scene.attempt(scene.others[0].set_exception, OSError("other"))
            elif which == "lost":
                scene.loop.create_future().set_exception(OSError("lost"))
            scene.turns()

    run.__name__ = "loop_with_%s_%s" % (name, which)
    return run


for _which in "future", "woken", "cancelled", "made", "failing":
    place(loop_with("call_soon", _which))
for _name in "get_debug", "create_future", "create_task", "is_running", "time":
    place(loop_with(_name, "made"))
place(loop_with("call_exception_handler", "lost"))


# Contexts


@place
def run_of_a_context(scene):
    class Context:
        def run(self, callback, *args):
            scene.midway()
            return contextvars.copy_context().run(callback, *args)

    scene.it = scene.loop.create_future()
    scene.it.add_done_callback(scene.noting("first"), context=Context())
    scene.it.add_done_callback(scene.noting("second"))
    scene.armed = True
    scene.it.set_result("it")


@place
def callback(scene):
    scene.it = scene.loop.create_future()
    for each in scene.noting("first"), lambda future: scene.midway(), scene.noting("last"):
        scene.it.add_done_callback(each)
    scene.armed = True
    scene.it.set_result("it")


@place
def callback_of_a_task(scene):
    begin(scene, Coroutine(scene, thrown="return"))
    scene.it.add_done_callback(lambda future: scene.midway())
    scene.it.add_done_callback(scene.noting("last"))
    scene.armed = True


@place
def exception_handler(scene):
    scene.it = scene.loop.create_future()
    for each in scene.noting("first"), raising(lambda: OSError("callback")), scene.noting("last"):
        scene.it.add_done_callback(each)
    scene.hooks["reported"], scene.armed = scene.midway, True
    scene.it.set_result("it")


@place
def exception_handler_of_a_step(scene):
    begin(scene, Coroutine(scene, [None], thrown="return"))
    asyncio.Future.set_result(scene.it, "early")
    scene.hooks["reported"], scene.armed = scene.midway, True


@place
def destructor_of_a_result(scene):
    async def main():
        await scene.others[0]
        await asyncio.sleep(0)
        return "main"

    begin_to_wait(scene, main())
    scene.others[0].set_result(Dying(scene))
    scene.others.clear()
    scene.armed = True


class DyingCallback(Dying):
    def __call__(self, future):
        self.scene.note("called")


class EqualCallback(DyingCallback):
    def __eq__(self, other):
        return True

    __hash__ = None


@place
def destructor_of_a_callback(scene):
    scene.it = scene.loop.create_future()
    scene.it.add_done_callback(EqualCallback(scene))
    scene.it.add_done_callback(scene.noting("second"))
    scene.it.add_done_callback(EqualCallback(scene))
    scene.armed = True
    scene.attempt(scene.it.remove_done_callback, print)
    scene.it.done() or scene.attempt(scene.it.set_result, "it")


@place
def destructor_of_a_callback_that_has_run(scene):
    scene.it = scene.loop.create_future()
    scene.it.add_done_callback(DyingCallback(scene))
    scene.it.add_done_callback(scene.noting("second"))
    scene.armed = True
    scene.it.set_result("it")


@place
def destructor_of_a_name(scene):
    class Name(str):
        def __del__(self):
            scene.midway()

        def __str__(self):
            return self

    begin(scene, Coroutine(scene, [None] * 5, thrown="return"))
    scene.it.set_name(Name("name"))
    scene.armed = True
    scene.attempt(scene.it.set_name, "other")


@place
def destructor_of_a_message(scene):
    scene.it = scene.loop.create_future()
    scene.it._cancel_message = Dying(scene)
    scene.armed = True
    scene.attempt(scene.it.cancel, "other")


@place
def destructor_of_a_coroutine(scene):
    """Its task has ended, and only the loop had that."""
    cls = task_class(scene)
    scene.it = scene.loop.create_future()
    scene.it.add_done_callback(scene.noting("done"))
    cls(DyingCoroutine(scene, thrown="return"), loop=scene.loop)
    scene.armed = True


@place
def destructor_of_a_coroutine_that_is_replaced(scene):
    begin(scene, DyingCoroutine(scene, thrown="return"))
    scene.turns(1)
    scene.armed = True
    scene.attempt(lambda: scene.it.__init__(body(scene), loop=scene.loop))


if NEWER:

    def eager(where):
        def run(scene):
            async def main():
                if where == "first":
                    scene.midway()
                if where != "at once":
                    await asyncio.sleep(0)
                if where == "second":
                    scene.midway()
                if where == "at once":
                    scene.midway()
                return "main"

            async def outer():
                scene.it = asyncio.current_task()
                scene.others.append(None)
                scene.loop.set_task_factory(asyncio.eager_task_factory)
                try:
                    scene.others[0] = scene.loop.create_task(main())
                    return await scene.others[0]
                finally:
                    scene.loop.set_task_factory(None)

            scene.armed = True
            scene.others.append(scene.loop.create_task(outer()))
            scene.others.reverse()

        run.__name__ = "eager_" + where.replace(" ", "_")
        return run

    for _where in "first", "second", "at once":
        place(eager(_where))


# Where a loop that is closed as it begins to run fails otherwise, and where asyncio of 3.11 still has the list of callbacks while it
# goes through it.
ASYNCIOS = {("loop_with_is_running_made", "close loop")}
# Where it frees what a task has waited for outside of the context, and where it drops a coroutine that runs, of which it may crash.
ASYNCIOS |= {("destructor_of_a_result", "steps")}
BODIES = "of_a_coroutine", "after_a_future", "after_a_failed_future", "that_is_cancelled"
ASYNCIOS |= {("body_" + which, "initialise") for which in BODIES}
ASYNCIOS |= {(which, "initialise") for which in ("cleanup_of_a_coroutine", "eager_first", "eager_at_once")}
ASYNCIOS |= {("overriding_uncancel_of_a_task", "initialise")}
# Where asyncio's task is a new future already: ours is none before the coroutine has gone that it had.
ASYNCIOS |= {
    ("destructor_of_a_coroutine_that_is_replaced", act)
    for act in (
        "cancel", "cancel twice", "set result", "set exception", "add callback", "remove callbacks", "close loop", "show",
        "throw", "close", "send", "blocking", "not blocking",
    )
}  # fmt: skip
if not NEWER:
    ASYNCIOS |= {("loop_with_call_soon_future", "remove callbacks"), ("loop_with_call_soon_future", "initialise")}


# What is not asked of objects.
IDLE = {
    "property_of_an_exception": "C code looks into it",
    "overriding_set_result_of_a_task": "a step sets the result itself",
}
if sys.version_info < (3, 14):
    IDLE["overriding_get_coro_of_a_task"] = "there are no call graphs"


@pytest.mark.slow
@for_each(place)
def test_as_asyncio(differences, place):
    assert differences(Scene.plays(place, ACTS, ASYNCIOS, IDLE.get(place.__name__))) == {}
