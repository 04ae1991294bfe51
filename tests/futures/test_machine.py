"""Random programs of tasks, futures, callbacks and cancellations do the same on cloop as on asyncio, event for event.

A program is data: scripts for tasks, and lists of operations for callbacks. Everything observable goes into a trace:
what ran, as which task, in which context and how it ended; exceptions with their chains, reprs, and what the
exception handler got. The clock is the program's own and advances by one at each turn, so the trace depends only on
the program.

CLOOP_MACHINE_EXAMPLES=100000 runs that many programs, different ones each time.
"""

import asyncio
import contextvars
import gc
import os
import re
import sys

from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("CLOOP_MACHINE_EXAMPLES", 0))
TURNS = 40
OPERATIONS = 150  # limit for one program; the rest of it is left out

VAR = contextvars.ContextVar("VAR", default="outside")


def normal(text):
    """The text without addresses, task numbers, files, and names that differ without reason."""
    text = re.sub(r"\b0x[0-9a-f]+", "0x", text)
    text = re.sub(r"\bTask-\d+", "Task-N", text)
    text = re.sub(
        r"<Future (\w{5})\.\.\.[^>]*>", r"<Future \1>", text
    )  # truncated, or created in a file of asyncio or in C
    text = re.sub(r" created at [^\s>\]]+:\d+", "", text)
    text = re.sub(
        r"<(?:_asyncio\.)?Task(Step|Wakeup)MethWrapper object at 0x>", lambda match: "task_" + match[1].lower(), text
    )
    text = re.sub(r"<built-in method (task_step|task_wakeup) of \S+ object at 0x>", r"\1", text)
    text = re.sub(r"[\w.<>]+\.(task_step|task_wakeup)", r"\1", text)
    text = re.sub(r"/\S+/", "", text)
    return re.sub(r"\b(_UnixSelectorEventLoop|SelectorEventLoop|Loop)\b", "Loop", text)


def described(error, depth=5):
    if error is None or depth == 0:
        return None
    chain = [described(other, depth - 1) for other in (error.__cause__, error.__context__)]
    inner = [described(other, depth - 1) for other in getattr(error, "exceptions", ())]
    text = "" if isinstance(error, RecursionError) else normal(str(error.args))  # says where the limit was reached
    return (type(error).__name__, text, error.__suppress_context__, chain, inner)


class Ordered(dict):
    """Replaces a TaskGroup's set of tasks, whose order depends on addresses."""

    def add(self, task):
        self[task] = None

    def discard(self, task):
        self.pop(task, None)


EXCEPTIONS = {
    "ValueError": lambda: ValueError("of the program"),
    "class": lambda: KeyError,
    "StopIteration": lambda: StopIteration("of the program"),
    "CancelledError": lambda: asyncio.CancelledError("by hand"),
    "KeyboardInterrupt": lambda: KeyboardInterrupt("of the program"),
    "nonsense": lambda: 5,
}


class Run:
    """One run of a program on one loop."""

    def __init__(self, loop, classes, program):
        self.loop, self.program, self.trace = loop, program, []
        self.things, self.names, self.done, self.timers, self.clock = [], {}, 0, 0, 0
        self.waits = {}  # name of a task: names of what it waits for
        self.classes = classes
        self.subclasses = [self.subclass(cls) for cls in (asyncio.Future, asyncio.Task) + classes]
        loop.time = lambda: self.clock
        loop.set_exception_handler(self.report)
        if program["flavour"] == "debug":
            loop.set_debug(True)
        elif program["flavour"] == "call_soon":
            self.watch_call_soon()

    def subclass(run, base):
        class Sub(base):
            def cancel(self, *args, **kwargs):
                run.log("Sub.cancel", args, kwargs)
                return super().cancel(*args, **kwargs)

            def set_result(self, result):
                run.log("Sub.set_result", result)
                return super().set_result(result)

            def add_done_callback(self, callback, **kwargs):
                run.log("Sub.add_done_callback", sorted(kwargs))
                return super().add_done_callback(callback, **kwargs)

        return Sub

    def watch_call_soon(self):
        call_soon = self.loop.call_soon

        def watched(callback, *args, **kwargs):
            # An error in task_step is its argument, or inside it; callbacks are removed from a future before or after.
            seen = [self.names.get(id(arg), type(arg).__name__) for arg in args if not isinstance(arg, RuntimeError)]
            self.log("call_soon", normal(repr(callback)), seen, sorted(kwargs))
            return call_soon(callback, *args, **kwargs)

        self.loop.call_soon = watched

    # Observations

    def log(self, *event):
        task = asyncio.current_task(self.loop)
        name = task and normal(task.get_name())
        self.trace.append((name, VAR.get()) + event)

    def name(self, thing):
        return self.names.get(id(thing)) or normal(repr(thing))

    def report(self, loop, context):
        seen = {key: self.name(value) for key, value in context.items() if key != "source_traceback"}
        seen["exception"] = described(context.get("exception"))
        self.log("reported", sorted(context), seen)

    def state(self, thing):
        cancelling = thing.cancelling() if hasattr(thing, "cancelling") else None
        return thing.done(), thing.cancelled(), cancelling, thing._asyncio_future_blocking, normal(repr(thing))

    # Objects

    def keep(self, thing):
        name = "%s%d" % ("t" if isinstance(thing, asyncio.Task) else "f", len(self.things))
        self.names[id(thing)] = name
        self.things.append(thing)
        return thing

    def pick(self, number):
        return self.things[number % len(self.things)]

    def next_delay(self, delay):
        """No two timers are due at the same time, since their order is not defined."""
        self.timers += 1
        return delay + self.timers / 1024 if delay > 0 else delay

    # Operations of callbacks and tasks

    def perform(self, operation, *args):
        self.done += 1
        if self.done > OPERATIONS:
            return
        try:
            result = getattr(self, "op_" + operation)(*args)
        except Exception as error:
            result = described(error)
        self.log(operation, args, result)

    def op_future(self, kind):
        make = [self.loop.create_future, asyncio.Future, self.classes[0], self.subclasses[0], self.subclasses[2]][kind]
        future = self.keep(make() if kind == 0 else make(loop=self.loop))
        return self.name(future)

    def op_spawn(self, number, kind):
        if not self.program["scripts"][number:]:
            return "no such script"
        name = "t%d" % len(self.things)
        context = contextvars.copy_context()
        context.run(VAR.set, name)
        coro, make = self.script(number), self.loop.create_task
        options = {"name": name}
        if kind > 0:
            make = [asyncio.Task, self.classes[1], self.subclasses[1], self.subclasses[3]][kind % 4]
            options["loop"] = self.loop
        if kind > 4 and sys.version_info >= (3, 12):
            options["eager_start"] = True
        self.keep(context.run(make, coro, **options))
        return name

    def op_set_result(self, number, value):
        return self.pick(number).set_result(value)

    def op_set_exception(self, number, kind):
        return self.pick(number).set_exception(EXCEPTIONS[kind]())

    def op_cancel(self, number, message):
        args = (message,) if message and sys.version_info >= (3, 9) else ()
        return self.pick(number).cancel(*args)

    def op_uncancel(self, number):
        return getattr(self.pick(number), "uncancel", int)()

    def op_add_callback(self, number, callback):
        self.pick(number).add_done_callback(self.callback(callback))

    def op_remove_callback(self, number, callback):
        return self.pick(number).remove_done_callback(self.callback(callback))

    def op_call_soon(self, callback):
        self.loop.call_soon(self.callback(callback))

    def op_outcome(self, number):
        thing = self.pick(number)
        try:
            return described(thing.exception()), thing.result()
        except BaseException as error:  # CancelledError
            return described(error)

    def op_look(self, number):
        return self.state(self.pick(number))

    def op_all_tasks(self):
        return sorted(normal(task.get_name()) for task in asyncio.all_tasks(self.loop))

    def op_debug(self, debug):
        self.loop.set_debug(debug)

    def op_get_stack(self, number):
        task = self.pick(number)
        stack = task.get_stack() if isinstance(task, asyncio.Task) else ()
        return [frame.f_code.co_name for frame in stack if frame.f_code.co_filename == __file__]

    def callback(self, number):
        callbacks = self.program["callbacks"]
        return CallBack(self, callbacks[number % len(callbacks)], number % len(callbacks))

    # Operations of tasks alone

    async def script(self, number):
        self.log("starts")
        try:
            result = await self.perform_all(self.program["scripts"][number])
        except BaseException as error:
            self.log("ends", described(error))
            raise
        self.log("returns", result)
        return result

    async def perform_all(self, operations):
        for operation, *args in operations:
            method = getattr(self, "do_" + operation, None)
            if method is None:
                self.perform(operation, *args)
                continue
            self.done += 1
            if self.done > OPERATIONS:
                return "out of operations"
            try:
                self.log(operation)
                result = await method(*args)
            except BaseException as error:
                self.log(operation + " raised", described(error))
                raise
            self.log(operation + " gave", normal(repr(result)))
        return len(operations)

    def would_deadlock(self, thing, me):
        """Whether it already waits for us: asyncio cancels such a ring recursively, until the stack ends."""
        seen, todo = set(), [self.name(thing)]
        while todo:
            name = todo.pop()
            if name == me:
                return True
            if name not in seen:
                seen.add(name)
                todo += self.waits.get(name, ())
        return False

    async def waiting(self, numbers, wait):
        """Awaits wait(things), for the things that can be awaited."""
        me = asyncio.current_task(self.loop).get_name()
        things = [self.pick(number) for number in numbers]
        things = [thing for thing in dict.fromkeys(things) if not self.would_deadlock(thing, me)]
        if not things:
            return "nothing to wait for"
        outer = self.waits.get(me, [])
        self.waits[me] = outer + [self.name(thing) for thing in things]
        try:
            return await wait(things)
        finally:
            self.waits[me] = outer

    async def do_await(self, number):
        async def wait(things):
            return await things[0]

        return await self.waiting([number], wait)

    async def do_await_self(self):
        await asyncio.current_task(self.loop)

    async def do_gather(self, numbers, return_exceptions):
        async def wait(things):
            results = await asyncio.gather(*things, return_exceptions=return_exceptions)
            return [described(each) if isinstance(each, BaseException) else each for each in results]

        return await self.waiting(numbers, wait)

    async def do_wait(self, numbers, first, delay):
        async def wait(things):
            when = asyncio.FIRST_COMPLETED if first else asyncio.FIRST_EXCEPTION
            plain = [thing for thing in things if type(thing) not in self.subclasses]  # it makes a set, in any order
            plain = plain or things[:1]
            timeout = None if delay is None else self.next_delay(delay + 1)  # a timer, even where the delay is 0
            both = await asyncio.wait(plain, timeout=timeout, return_when=when)
            return [sorted(map(self.name, some)) for some in both]

        return await self.waiting(numbers, wait)

    async def do_shield(self, number):
        async def wait(things):
            return await asyncio.shield(things[0])

        return await self.waiting([number], wait)

    async def do_wait_for(self, number, delay):
        async def wait(things):
            return await asyncio.wait_for(things[0], None if delay is None else self.next_delay(delay))

        return await self.waiting([number], wait)

    async def do_sleep(self, delay):
        return await asyncio.sleep(self.next_delay(delay), "slept")

    async def do_timeout(self, delay, body):
        if sys.version_info < (3, 11):
            return await self.perform_all(body)
        async with asyncio.timeout(self.next_delay(delay)) as timeout:
            await self.perform_all(body)
        return timeout.expired()

    async def do_group(self, scripts, body):
        if sys.version_info < (3, 11):
            return await self.perform_all(body)
        me, tasks = asyncio.current_task(self.loop).get_name(), []
        outer = self.waits.get(me, [])
        try:
            async with asyncio.TaskGroup() as group:
                group._tasks = Ordered()
                for number in scripts:
                    if self.program["scripts"][number:]:
                        name = "t%d" % len(self.things)
                        self.waits[me] = self.waits.get(me, []) + [name]
                        tasks.append(self.keep(group.create_task(self.script(number), name=name)))
                await self.perform_all(body)
        finally:
            self.waits[me] = outer
        return [task.done() for task in tasks]

    async def do_catch(self, body, handler, after):
        """try, except and finally, whose bodies may await."""
        destroyed = False
        try:
            return await self.perform_all(body)
        except GeneratorExit:
            destroyed = True
            raise
        except BaseException:
            await self.perform_all(handler)
            if after is None:
                raise
        finally:
            if after and not destroyed:
                await self.perform_all(after)

    async def do_raise(self, kind):
        raise EXCEPTIONS[kind]()

    # The run

    def stop(self):
        self.loop.stop()

    def turn(self):
        self.clock += 1
        self.trace.append(("turn", self.clock))
        self.loop.call_soon(self.stop)
        try:
            self.loop.run_forever()
        except BaseException as error:
            self.trace.append(("left the loop", described(error)))

    def run(self):
        for operation in self.program["main"]:
            self.perform(*operation)
        for turn in range(TURNS):
            self.turn()
            if turn == TURNS // 2:
                try:
                    for thing in list(self.things):
                        self.trace.append((self.name(thing), thing.done() or thing.cancel()))
                except RecursionError:  # a gather() that waits for itself; how far it got is not compared
                    self.loop.close()
                    return self.trace + [("states", "recursion")]
            elif turn > TURNS // 2 and all(thing.done() for thing in self.things):
                break
        self.trace.append(("states", [(self.name(thing), self.state(thing)) for thing in self.things]))
        # What is destroyed now comes in any order.
        thing = None  # a traceback may keep others alive
        self.done = OPERATIONS
        count = len(self.trace)
        self.loop.set_exception_handler(self.report_late)
        before, sys.unraisablehook = sys.unraisablehook, self.report_unraisable
        self.loop.close()
        self.things.clear()
        for _ in range(3):  # Python 3.8 needs more than one
            gc.collect()
        sys.unraisablehook = before
        return self.trace[:count] + sorted(self.trace[count:], key=repr)

    def report_late(self, loop, context):
        self.trace.append(("late", normal(context["message"]), sorted(context), described(context.get("exception"))))

    def report_unraisable(self, seen):
        self.trace.append(("unraisable", described(seen.exc_value)))


class CallBack:
    """A callback that performs operations. Callbacks with the same number are equal."""

    def __init__(self, run, operations, number):
        self.run, self.operations, self.number = run, operations, number

    def __eq__(self, other):
        return isinstance(other, CallBack) and self.number == other.number

    def __hash__(self):
        return self.number

    def __repr__(self):
        return "callback %d" % self.number

    def __call__(self, *futures):
        self.run.log(repr(self), [self.run.name(future) for future in futures])
        for operation in self.operations:
            if operation[0] == "raise":
                raise EXCEPTIONS[operation[1]]()
            self.run.perform(*operation)


# Programs

THING = st.integers(0, 7)
CALLBACK = st.integers(0, 2)
SCRIPT = st.integers(0, 3)
DELAY = st.sampled_from([0, 0, 1, 3])
LIMIT = st.sampled_from([None, 0, 1, 3])
KIND = st.sampled_from(sorted(EXCEPTIONS))
RAISED = st.sampled_from(["ValueError", "ValueError", "StopIteration", "CancelledError", "KeyboardInterrupt"])

SYNC = [
    st.tuples(st.just("future"), st.integers(0, 4)),
    st.tuples(st.just("spawn"), SCRIPT, st.integers(0, 8)),
    st.tuples(st.just("set_result"), THING, st.integers(0, 1)),
    st.tuples(st.just("set_exception"), THING, KIND),
    st.tuples(st.just("cancel"), THING, st.sampled_from([None, "message"])),
    st.tuples(st.just("add_callback"), THING, CALLBACK),
    st.tuples(st.just("remove_callback"), THING, CALLBACK),
    st.tuples(st.just("call_soon"), CALLBACK),
    st.tuples(st.just("outcome"), THING),
    st.tuples(st.just("look"), THING),
    st.tuples(st.just("uncancel"), THING),
    st.sampled_from([("all_tasks",), ("debug", True), ("debug", False)]),
    st.tuples(st.just("get_stack"), THING),
]
WAITS = [
    st.tuples(st.just("await"), THING),
    st.tuples(st.just("sleep"), DELAY),
    st.tuples(st.just("gather"), st.lists(THING, min_size=1, max_size=3), st.booleans()),
    st.tuples(st.just("wait"), st.lists(THING, min_size=1, max_size=3), st.booleans(), LIMIT),
    st.tuples(st.just("shield"), THING),
    st.tuples(st.just("wait_for"), THING, LIMIT),
    st.tuples(st.just("raise"), RAISED),
    st.just(("await_self",)),
]
STEP = st.one_of(st.one_of(WAITS[:2]), st.one_of(WAITS), st.one_of(SYNC))


def with_bodies(steps):
    body = st.lists(steps, max_size=3)
    return st.one_of(
        steps,
        st.tuples(st.just("catch"), body, body, st.one_of(st.none(), body)),
        st.tuples(st.just("timeout"), DELAY, body),
        st.tuples(st.just("group"), st.lists(SCRIPT, max_size=2), body),
    )


SCRIPT_BODY = st.lists(with_bodies(with_bodies(STEP)), min_size=1, max_size=5)
PROGRAMS = st.fixed_dictionaries(
    {
        "flavour": st.sampled_from(["plain", "plain", "plain", "debug", "call_soon"]),
        "scripts": st.lists(SCRIPT_BODY, min_size=1, max_size=4),
        "callbacks": st.lists(
            st.lists(st.one_of(st.one_of(SYNC), st.tuples(st.just("raise"), RAISED)), max_size=3),
            min_size=1,
            max_size=3,
        ),
        "main": st.lists(st.one_of(SYNC[:2]), min_size=1, max_size=4).map(
            lambda main: [("future", 0), ("spawn", 0, 0)] + main
        ),
    }
)


def trace(loop, classes, program):
    try:
        return Run(loop, classes, program).run()
    finally:
        loop.close()
        gc.collect(1)


def test_programs_do_on_cloop_what_they_do_on_asyncio(cloop, same_for_programs):
    same_for_programs(
        PROGRAMS,
        EXAMPLES or 100,
        lambda program: trace(asyncio.SelectorEventLoop(), (asyncio.Future, asyncio.Task), program),
        lambda program: trace(cloop.Loop(), (cloop.Future, cloop.Task), program),
        derandomize=not EXAMPLES,
    )
