"""cloop.accelerate(): asyncio's own primitives, with bodies in C.

A family is all that the bodies of one primitive rely on. Its functions are compared, by a hash of their code, with
the texts that the bodies were written for (cloop/_texts.py). The Python version does not decide, because fixes are
backported and distributions patch. A family with an unknown text stays asyncio's.

csrc/sync/sync.h says what a body does, and when it calls asyncio's function instead.
"""

import asyncio
import asyncio.events
import asyncio.exceptions
import asyncio.futures
import asyncio.locks
import asyncio.queues
import asyncio.tasks
import dis
import importlib
import inspect
import os
import sys
import threading
import types

from . import _cloop, _futures, _texts

__all__ = ("accelerate",)

LOCK = threading.RLock()
GET_LOOP = "asyncio.mixins:_LoopBoundMixin._get_loop"


class Family:
    """One primitive and what it relies on.

    name: as shown by --info.
    bodies: {body of csrc/sync: asyncio's function}.
    text: other functions that the bodies include or rely on.
    classes: {class of csrc/sync: asyncio's}.
    pins: groups of globals that the bodies rely on.
    needs: other families that must be accelerated too; or a function that returns them.
    variant: what csrc/sync calls the number of the text, if it asks for that.
    closures: {closure of csrc/sync: (asyncio's function, name of the closure in it)}; or a function that returns what
        csrc/sync gets.
    """

    def __init__(self, name, bodies, text=(), classes=None, pins=(), needs=(), variant=None, closures=None):
        self.name, self.bodies, self.classes = name, bodies, classes or {}
        self.functions = list(bodies.values()) + list(text)
        self.pins, self.needs = pins, needs
        self.variant, self.closures = variant, closures or {}


AENTER = {
    "AENTER": "asyncio.locks:_ContextManagerMixin.__aenter__",
    "AEXIT": "asyncio.locks:_ContextManagerMixin.__aexit__",
}

ENSURE_FUTURE = [
    "asyncio.tasks:ensure_future",
    "asyncio.tasks:_ensure_future",
    "asyncio.tasks:_wrap_awaitable",
]


def needed_by_wait_for():
    """Return the families that wait_for() relies on: since 3.12 it is a timeout()."""
    function = function_of("asyncio.tasks:wait_for")
    return ("timeout",) if "timeouts" in function.__code__.co_names else ()


FAMILIES = [
    Family(
        "sleep",
        {"SLEEP": "asyncio.tasks:sleep"},
        ["asyncio.tasks:__sleep0", "asyncio.futures:_set_result_unless_cancelled"],
        pins=("SLEEP",),
    ),
    Family(
        "Event",
        {
            "EVENT_WAIT": "asyncio.locks:Event.wait",
            "EVENT_SET": "asyncio.locks:Event.set",
            "EVENT_CLEAR": "asyncio.locks:Event.clear",
        },
        ["asyncio.locks:Event.__init__", GET_LOOP],
        {"EVENT": "asyncio.locks:Event"},
        pins=("GET_LOOP",),
    ),
    Family(
        "Lock",
        dict(
            AENTER,
            LOCK_ACQUIRE="asyncio.locks:Lock.acquire",
            LOCK_RELEASE="asyncio.locks:Lock.release",
        ),
        [
            "asyncio.locks:Lock.__init__",
            "asyncio.locks:Lock.locked",
            "asyncio.locks:Lock._wake_up_first",
            GET_LOOP,
        ],
        {"LOCK": "asyncio.locks:Lock"},
        pins=("GET_LOOP",),
    ),
    Family(
        "Condition",
        dict(
            AENTER,
            CONDITION_NOTIFY="asyncio.locks:Condition.notify",
            CONDITION_NOTIFY_ALL="asyncio.locks:Condition.notify_all",
            CONDITION_WAIT="asyncio.locks:Condition.wait",
            CONDITION_WAIT_FOR="asyncio.locks:Condition.wait_for",
        ),
        ["asyncio.locks:Condition.__init__", "asyncio.locks:Condition._notify", GET_LOOP],
        {"CONDITION": "asyncio.locks:Condition"},
        needs=("Lock",),
    ),
    Family(
        "Barrier",
        {
            "BARRIER_AENTER": "asyncio.locks:Barrier.__aenter__",
            "BARRIER_AEXIT": "asyncio.locks:Barrier.__aexit__",
            "BARRIER_WAIT": "asyncio.locks:Barrier.wait",
            "BARRIER_BLOCK": "asyncio.locks:Barrier._block",
            "BARRIER_WAITS": "asyncio.locks:Barrier._wait",
            "BARRIER_RESET": "asyncio.locks:Barrier.reset",
            "BARRIER_ABORT": "asyncio.locks:Barrier.abort",
        },
        ["asyncio.locks:Barrier." + name for name in ("__init__", "_release", "_exit")],
        {"BARRIER": "asyncio.locks:Barrier"},
        pins=("BARRIER",),
        needs=("Condition",),
    ),
    Family(
        "Semaphore",
        dict(
            AENTER,
            SEMAPHORE_ACQUIRE="asyncio.locks:Semaphore.acquire",
            SEMAPHORE_RELEASE="asyncio.locks:Semaphore.release",
            BOUNDED_RELEASE="asyncio.locks:BoundedSemaphore.release",
        ),
        [
            "asyncio.locks:Semaphore.__init__",
            "asyncio.locks:BoundedSemaphore.__init__",
            "asyncio.locks:Semaphore.locked",
            "asyncio.locks:Semaphore._wake_up_next",
            GET_LOOP,
        ],
        {"SEMAPHORE": "asyncio.locks:Semaphore", "BOUNDED": "asyncio.locks:BoundedSemaphore"},
        pins=("GET_LOOP",),
    ),
    Family(
        "Queue",
        {
            "QUEUE_GET": "asyncio.queues:Queue.get",
            "QUEUE_PUT": "asyncio.queues:Queue.put",
            "QUEUE_GET_NOWAIT": "asyncio.queues:Queue.get_nowait",
            "QUEUE_PUT_NOWAIT": "asyncio.queues:Queue.put_nowait",
            "QUEUE_TASK_DONE": "asyncio.queues:Queue.task_done",
            "QUEUE_JOIN": "asyncio.queues:Queue.join",
        },
        ["asyncio.queues:Queue." + name for name in ("__init__", "_init", "_get", "_put", "_wakeup_next")]
        + ["asyncio.queues:Queue." + name for name in ("empty", "full", "qsize", "shutdown")]
        + ["asyncio.queues:LifoQueue." + name for name in ("_init", "_get", "_put")]
        + ["asyncio.queues:PriorityQueue." + name for name in ("_init", "_get", "_put")]
        + [GET_LOOP],
        {
            "QUEUE": "asyncio.queues:Queue",
            "LIFO_QUEUE": "asyncio.queues:LifoQueue",
            "PRIORITY_QUEUE": "asyncio.queues:PriorityQueue",
        },
        pins=("GET_LOOP",),
        needs=("Event",),
    ),
    Family(
        "open_connection",
        {
            "OPEN_CONNECTION": "asyncio.streams:open_connection",
            "OPEN_UNIX_CONNECTION": "asyncio.streams:open_unix_connection",
        },
    ),
    Family(
        "timeout",
        {
            "TIMEOUT": "asyncio.timeouts:timeout",
            "TIMEOUT_AENTER": "asyncio.timeouts:Timeout.__aenter__",
            "TIMEOUT_AEXIT": "asyncio.timeouts:Timeout.__aexit__",
        },
        ["asyncio.timeouts:Timeout." + name for name in ("__init__", "reschedule", "_on_timeout")],
        {"TIMEOUT": "asyncio.timeouts:Timeout"},
        pins=("TIMEOUT",),
    ),
    Family(
        "gather",
        {"GATHER": "asyncio.tasks:gather"},
        [
            "asyncio.tasks:_gather",
            "asyncio.tasks:_GatheringFuture.__init__",
            "asyncio.tasks:_GatheringFuture.cancel",
            "asyncio.tasks:ensure_future",
            "asyncio.tasks:_ensure_future",
            "asyncio.tasks:_discard_awaited_by",
            "asyncio.futures:_get_loop",
        ],
        {"GATHERING": "asyncio.tasks:_GatheringFuture"},
        pins=("GATHER",),
        closures={"GATHER_END": lambda: find("asyncio.tasks:_discard_awaited_by")},
    ),
    Family(
        "wait",
        {"WAIT": "asyncio.tasks:wait", "RELEASE_WAITER": "asyncio.tasks:_release_waiter"},
        ["asyncio.tasks:_wait"] + ENSURE_FUTURE,
        pins=("WAIT",),
        variant="WAIT",
        closures={"WAIT": ("asyncio.tasks:_wait", "_on_completion")},
    ),
    Family(
        "wait_for",
        {"WAIT_FOR": "asyncio.tasks:wait_for", "RELEASE_WAITER": "asyncio.tasks:_release_waiter"},
        ["asyncio.tasks:_cancel_and_wait"] + ENSURE_FUTURE,
        pins=("WAIT_FOR",),
        needs=needed_by_wait_for,
        variant="WAIT_FOR",
    ),
    Family(
        "shield",
        {"SHIELD": "asyncio.tasks:shield"},
        ENSURE_FUTURE + ["asyncio.tasks:_log_on_exception", "asyncio.futures:_get_loop"],
        pins=("SHIELD",),
        variant="SHIELD",
        closures={
            "SHIELD_INNER": ("asyncio.tasks:shield", "_inner_done_callback"),
            "SHIELD_OUTER": ("asyncio.tasks:shield", "_outer_done_callback"),
            "SHIELD_CLEAR": ("asyncio.tasks:shield", "_clear_awaited_by_callback"),
        },
    ),
    Family(
        "as_completed",
        {"AS_COMPLETED": "asyncio.tasks:as_completed"},
        ENSURE_FUTURE
        + ["asyncio.tasks:_AsCompletedIterator." + name for name in ("__init__", "__aiter__", "__iter__")]
        + ["asyncio.tasks:_AsCompletedIterator." + name for name in ("__anext__", "__next__", "_wait_for_one")]
        + ["asyncio.tasks:_AsCompletedIterator." + name for name in ("_handle_timeout", "_handle_completion")]
        + ["asyncio.queues:Queue." + name for name in ("__init__", "_init", "_get", "_put", "_wakeup_next", "empty")]
        + ["asyncio.queues:Queue." + name for name in ("get", "get_nowait", "put_nowait")]
        + [GET_LOOP],
        pins=("AS_COMPLETED",),
        needs=("Queue",),
        variant="AS_COMPLETED",
        closures={
            "AS_COMPLETED": ("asyncio.tasks:as_completed", "_on_completion"),
            "AS_COMPLETED_OWNER": lambda: owner_of_wait_for_one(),
            "AS_COMPLETED_GENERATOR": lambda: generator_of_items(),
        },
    ),
    Family(
        "timeout_at",
        {"TIMEOUT_AT": "asyncio.timeouts:timeout_at"},
        needs=("timeout",),
    ),
    Family(
        "ensure_future",
        {"ENSURE_FUTURE": "asyncio.tasks:ensure_future"},
        ENSURE_FUTURE[1:],
        pins=("ENSURE_FUTURE",),
    ),
    Family("to_thread", {"TO_THREAD": "asyncio.threads:to_thread"}, pins=("TO_THREAD",)),
    Family(
        "run_coroutine_threadsafe",
        {"RUN_THREADSAFE": "asyncio.tasks:run_coroutine_threadsafe"},
        ENSURE_FUTURE
        + ["asyncio.futures:" + name for name in ("_chain_future", "_set_concurrent_future_state", "_get_loop")],
        pins=("RUN_THREADSAFE",),
        variant="CHAIN",
        closures={
            "CHECK_CANCEL": ("asyncio.futures:_chain_future", "_call_check_cancel"),
            "SET_STATE": ("asyncio.futures:_chain_future", "_call_set_state"),
            "RUN_THREADSAFE": ("asyncio.tasks:run_coroutine_threadsafe", "callback"),
        },
    ),
]

# What is not accelerated on any Python, and why.
ASYNCIOS = {
    "wrap_future": "half of it runs in other threads; run_in_executor() does without it",
    "TaskGroup": "changes with every release, and gains by its tasks",
}


# Look-ups


def place(path):
    """Return the owner of a path such as "asyncio.locks:Lock.acquire", and the name in it."""
    module, name = path.split(":")
    *outer, name = name.split(".")
    owner = sys.modules.get(module) or importlib.import_module(module)
    for part in outer:
        owner = getattr(owner, part)
    return owner, name


def find(path):
    """Return the raw attribute; None if it is missing."""
    try:
        owner, name = place(path)
    except (ImportError, AttributeError):
        return None
    return vars(owner).get(name)


def function_of(path):
    """Return asyncio's function, even if an object of ours replaces it."""
    found = find(path)
    for function, stand_in, _ in INSTALLED.values():
        if found is stand_in:
            return function
    return found


# Hashes


def described(value):
    """Describe a constant; the result is the same in every process."""
    if isinstance(value, types.CodeType):
        return text_of(value, None)
    if isinstance(value, (tuple, list)):
        return "(" + ",".join(map(described, value)) + ")"
    if isinstance(value, (set, frozenset)):
        return "{" + ",".join(sorted(map(described, value))) + "}"
    if isinstance(value, dict):
        return "{" + ",".join(sorted(key + ":" + described(value[key]) for key in value)) + "}"
    if value is None or isinstance(value, (bool, int, float, str, bytes)):
        return repr(value)
    return "%s %s" % (type(value).__name__, getattr(value, "__qualname__", ""))


def text_of(code, doc):
    constants = list(code.co_consts)
    if constants and isinstance(constants[0], str) and constants[0] == doc:
        constants[0] = None  # python -OO has none
    parts = [
        code.co_argcount,
        code.co_posonlyargcount,
        code.co_kwonlyargcount,
        code.co_flags & ~0x4000000,  # has a docstring
        code.co_names,
        code.co_varnames,
        code.co_freevars,
        code.co_cellvars,
        code.co_code.hex(),
        getattr(code, "co_exceptiontable", b"").hex(),
    ]
    return ";".join(map(str, parts)) + ";" + described(constants)


DIGESTS = {}  # paths: (what was hashed, the hash)


def hashed(function):
    """Return what a hash depends on."""
    defaults = function.__kwdefaults__ or {}
    return function.__code__, function.__doc__, function.__defaults__, tuple(sorted(defaults.items()))


def digest(functions):
    """Return a hash of the functions' code and defaults; None if one is not a Python function."""
    import hashlib  # imports OpenSSL: only for programs that need it

    found = [(path, function_of(path)) for path in functions]
    if any(function is not None and type(function) is not types.FunctionType for _, function in found):
        return None
    found = [(path, function and hashed(function)) for path, function in found]  # None: not in this version
    before, result = DIGESTS.get(tuple(functions), (None, None))
    if before != found:
        whole = hashlib.sha256()
        for path, text in found:
            whole.update(path.encode())
            if text is not None:
                code, doc, defaults, named = text
                whole.update(text_of(code, doc).encode())
                whole.update(described((defaults, dict(named) or None)).encode())
        result = whole.hexdigest()[:16]
        DIGESTS[tuple(functions)] = found, result
    return result


def variant_of(family):
    """Return the number of this Python's text, or the reason why it is not accelerated."""
    if _futures.Future is asyncio.Future:
        return "needs cloop.Future and cloop.Task"
    if any(function_of(path) is None for path in family.bodies.values()):
        return "not in this Python"
    found = digest(family.functions)
    if found is None:
        return "a program has replaced it"
    return _texts.KNOWN.get(family.name, {}).get(found, "another text than those known (%s)" % found)


# Installing

INSTALLED = {}  # body: asyncio's function, its replacement, the path
REPLACED = []  # those of INSTALLED that are put where asyncio's function was
STATE = {}  # family: variant, or the reason why it is not accelerated


def put(changes):
    """Replace objects, each (path, object, other object), unless the program has set something else meanwhile: methods in
    their class, functions in every module that has them.
    """
    others = {}
    for path, function, other in changes:
        owner, name = place(path)
        if isinstance(owner, types.ModuleType):
            others[id(function)] = other
        elif vars(owner).get(name) is function:
            setattr(owner, name, other)
    for module in list(sys.modules.values()) if others else ():
        names = getattr(module, "__dict__", None)
        if isinstance(names, dict) and not others.keys().isdisjoint(map(id, names.values())):
            for name, value in list(names.items()):
                if id(value) in others:
                    names[name] = others[id(value)]


def describe_class(name, path, variant):
    cls = find(path)
    if name == "GATHERING":
        sample = cls.__new__(cls) if sys.version_info >= (3, 13) else None
        _cloop._sync_class(name, cls, variant, False, sample)
        closure = closure_of("asyncio.tasks:_gather", "_done_callback")
        closure = closure or closure_of("asyncio.tasks:gather", "_done_callback")
        _cloop._sync_gather(variant, gathers_by(), closure)
        return
    sample = cls.__new__(cls) if sys.version_info >= (3, 11) else None
    optional = name == "TIMEOUT" or name != "BARRIER" and hasattr(cls, "_loop")
    _cloop._sync_class(name, cls, variant, optional, sample)
    if name == "TIMEOUT":
        states = asyncio.timeouts._State
        _cloop._sync_states(states.CREATED, states.ENTERED, states.EXITED)
    if name == "BARRIER":
        states = asyncio.locks._BarrierState
        _cloop._sync_barrier_states(states.FILLING, states.DRAINING, states.RESETTING, states.BROKEN)


def gathers_by():
    """Return the function with which gather() makes futures: since 3.10 one that does not warn about the loop."""
    names = function_of("asyncio.tasks:gather").__code__.co_names
    return "_ensure_future" if "_ensure_future" in names else "ensure_future"


def closure_of(path, name):
    """Return a function with the code of a closure in asyncio's function, for code that asks where a callback comes
    from; None if there is none.
    """
    function = function_of(path)
    for code in function.__code__.co_consts if function is not None else ():
        if isinstance(code, types.CodeType) and code.co_name == name:
            cells = tuple(types.CellType() for _ in code.co_freevars)
            return types.FunctionType(code, function.__globals__, code.co_name, None, cells)
    return None


def owner_of_wait_for_one():
    """Return what has as_completed()'s coroutine function as an attribute: since 3.13 a class."""
    return find("asyncio.tasks:_AsCompletedIterator") or types.SimpleNamespace(
        _wait_for_one=closure_of("asyncio.tasks:as_completed", "_wait_for_one")
    )


def generator_of_items():
    """Return the generator function for what as_completed() returns up to 3.12, which has the iterator in C as its argument. It
    begins and yields on the lines on which asyncio's does, and does not keep what it has yielded. None since 3.13.
    """
    code = function_of("asyncio.tasks:as_completed").__code__
    if not code.co_flags & inspect.CO_GENERATOR:
        return None
    first, last = code.co_firstlineno, max(line for _, line in dis.findlinestarts(code))
    lines = [""] * (first - 1) + ["def as_completed(iterator):"] + [""] * (last - first - 2)
    lines += [" for each in iterator:", "  yield (each, each := None)[0]"]
    module = compile("\n".join(lines), code.co_filename, "exec", dont_inherit=True)
    (made,) = [const for const in module.co_consts if isinstance(const, types.CodeType)]
    return types.FunctionType(made, asyncio.tasks.__dict__)


# Which globals of asyncio.tasks a program might replace: {group: (functions, names that they may use)}.
USED = {
    "WAIT": (
        ["asyncio.tasks:wait", "asyncio.tasks:_wait"],
        ("_wait", "_release_waiter", "ensure_future", "events", "current_task", "futures"),
    ),
    "WAIT_FOR": (
        ["asyncio.tasks:wait_for"],
        ("_release_waiter", "_cancel_and_wait", "ensure_future", "events", "timeouts"),
    ),
    "SHIELD": (
        ["asyncio.tasks:shield"] + ENSURE_FUTURE[:2],
        ("ensure_future", "_ensure_future", "current_task", "futures", "events"),
    ),
    "AS_COMPLETED": (
        ["asyncio.tasks:as_completed", "asyncio.tasks:_AsCompletedIterator.__init__"],
        ("ensure_future", "_AsCompletedIterator", "events", "current_task", "futures"),
    ),
    "ENSURE_FUTURE": (ENSURE_FUTURE[:2], ("_ensure_future", "futures", "coroutines", "events")),
}


def names_in(code):
    """Return the names that the code and code in it use."""
    inner = [names_in(const) for const in code.co_consts if isinstance(const, types.CodeType)]
    return set(code.co_names).union(*inner)


def pins(name):
    """Return the globals in a group."""
    events, futures, tasks = asyncio.events, asyncio.futures, asyncio.tasks
    if name == "SLEEP":
        return (
            (tasks, "events"),
            (events, "get_running_loop"),
            (tasks, "futures"),
            (futures, "_set_result_unless_cancelled"),
            (tasks, "__sleep0"),
        )
    if name == "BARRIER":
        locks = asyncio.locks
        return (
            (locks, "_BarrierState"),
            (locks, "exceptions"),
            (asyncio.exceptions, "BrokenBarrierError"),
        )
    if name == "TIMEOUT":
        timeouts = asyncio.timeouts
        return (
            (timeouts, "events"),
            (events, "get_running_loop"),
            (timeouts, "Timeout"),
            (timeouts, "tasks"),
            (tasks, "current_task"),
        )
    find_loop = "_get_event_loop" if gathers_by() == "_ensure_future" else "get_event_loop"
    if name == "GATHER":
        return (
            (tasks, gathers_by()),
            (tasks, "events"),
            (events, find_loop),
            (tasks, "futures"),
            (tasks, "coroutines"),
            (tasks, "_GatheringFuture"),
        ) + (((tasks, "_discard_awaited_by"),) if hasattr(tasks, "_discard_awaited_by") else ())
    if name in USED:
        functions, also = USED[name]
        names = set().union(*(names_in(function_of(path).__code__) for path in functions if function_of(path)))
        if "timeouts" in names:
            also = ("timeouts",)  # a wait_for() that is due at once is asyncio's
        found = [(tasks, used) for used in also if used in names]
        found += [(events, used) for used in ("get_running_loop", find_loop) if used in names]
        if "timeouts" in names:
            found.append((asyncio.timeouts, "timeout"))
        if name == "AS_COMPLETED":
            found.append((asyncio.queues, "Queue"))
            if hasattr(tasks, "queues"):
                found.append((tasks, "queues"))
        return tuple(found)
    if name == "TO_THREAD":
        module = sys.modules["asyncio.threads"]
        return tuple((module, used) for used in ("events", "contextvars", "functools"))
    if name == "RUN_THREADSAFE":
        chain = ("_chain_future", "_set_concurrent_future_state", "isfuture", "events")
        return (
            (tasks, "ensure_future"),
            (tasks, "futures"),
            (tasks, "concurrent"),
            (tasks.concurrent.futures, "Future"),
        ) + tuple((futures, used) for used in chain)
    mixins = sys.modules.get("asyncio.mixins")
    if mixins is None:
        return ((asyncio.locks, "events"),)
    return ((mixins, "events"), (events, "_get_running_loop"))


def is_usual():
    """Whether asyncio finds the running loop with its own C functions."""
    events = asyncio.events
    usual = [
        getattr(events, name) is getattr(events, "_c_" + name, None)
        for name in ("_get_running_loop", "get_running_loop")
    ]
    current = getattr(asyncio.tasks, "_c_current_task", asyncio.tasks.current_task)
    return all(usual) and asyncio.tasks.current_task is current


def accelerate(on=True):
    """Give asyncio's own primitives bodies in C on cloop's loops; with False, undo that.

    `python -m cloop --info` lists what is accelerated. The classes and functions stay asyncio's own. asyncio's code
    still runs in debug mode, under sys.settrace() and sys.setprofile(), on other loops, and wherever the program has
    subclassed or replaced what a body relies on. May be called at any time, from any thread. Raises nothing. See
    docs/accelerate.md.
    """
    with LOCK:
        _off()
        if on:
            _on()


def needs_of(family):
    return family.needs() if callable(family.needs) else family.needs


def _off():
    _cloop._sync_switch(())
    put((path, stand_in, function) for function, stand_in, path in REPLACED)
    REPLACED.clear()
    STATE.clear()


def _on():
    variants = {
        family.name: variant_of(family) if is_usual() else "asyncio.events is not as usual" for family in FAMILIES
    }
    for family in FAMILIES:
        for needed in needs_of(family) if isinstance(variants[family.name], int) else ():
            if not isinstance(variants[needed], int) and isinstance(variants[family.name], int):
                variants[family.name] = "needs " + needed
    chosen = [family for family in FAMILIES if isinstance(variants[family.name], int)]
    bodies = {body: path for family in chosen for body, path in family.bodies.items()}
    for body, path in bodies.items():
        function = function_of(path)
        stand_in = _cloop._sync_prepare(body, function)
        INSTALLED[body] = (function, stand_in, path)
        if stand_in is not function:
            REPLACED.append(INSTALLED[body])
    put((path, function, stand_in) for function, stand_in, path in REPLACED)
    for family in chosen:
        if family.variant is not None:
            _cloop._sync_variant(family.variant, variants[family.name])
        for name, closure in family.closures.items():
            _cloop._sync_closure(name, closure() if callable(closure) else closure_of(*closure))
        for name in family.pins:
            _cloop._sync_pin(name, pins(name))
        for name, path in family.classes.items():
            describe_class(name, path, variants[family.name])
    _cloop._sync_switch(list(bodies))
    STATE.update(variants)


def report():
    """Return lines for --info: what is accelerated, and why the rest is not."""
    with LOCK:
        if not STATE:
            known = [family.name for family in FAMILIES if isinstance(variant_of(family), int)]
            return ["off; it would be: " + ", ".join(known)]
        on = [name for name, variant in STATE.items() if isinstance(variant, int)]
        lines = [", ".join(on) or "nothing"]
        reasons = dict({name: why for name, why in STATE.items() if not isinstance(why, int)}, **ASYNCIOS)
        return lines + ["not %s: %s" % item for item in reasons.items()]


if os.environ.get("CLOOP_ACCELERATE") == "1":
    accelerate()
