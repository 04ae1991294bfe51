"""Frames for coroutines in C: those that asyncio's own coroutines would have.

A coroutine in C has no frame. For a call graph or a debugger, this module creates a coroutine with the name, file and
arguments of asyncio's method, suspended on the line where that would be, and returns its frame.
"""

import dis
import functools
import sys
import types

__all__ = ("created", "suspended")

# The method, or the variable, that each one awaits. The others await the variable `fut`.
AWAITS = {
    "read": "_wait_for_data",
    "readexactly": "_wait_for_data",
    "readuntil": "_wait_for_data",
    "readline": "readuntil",
    "__anext__": "readline",
    "_wait_for_data": "_waiter",
    "drain": "_drain_helper",
    "_drain_helper": "waiter",
    "wait": "_wait",
    "_wait": "waiter",
}


class _Waiting:
    """The end of the chain: waits for the future."""

    def __init__(self, future):
        self._future = future

    def __await__(self):
        return iter((self._future,))


def _line_of_await(code, name):
    """Return the line that awaits the name itself; else of the first await after the name is loaded; else the first."""
    lines = dict(dis.findlinestarts(code))
    line, found, loaded, just = code.co_firstlineno, None, False, False
    for instruction in dis.get_instructions(code):
        line = lines.get(instruction.offset) or line
        if instruction.opname.startswith("GET_AWAITABLE") and loaded:
            if just:
                return line
            found = found or line
        value = instruction.argval
        just = value == name or isinstance(value, tuple) and name in value
        loaded = loaded or just
    return found or code.co_firstlineno


@functools.lru_cache(maxsize=None)
def _imitation(function, awaits):
    """Return a function with the same name, file and parameters that awaits `awaited`, on the line where the original
    awaits `awaits`. If `awaits` is None, return a generator function, which gives no warning when it is dropped.
    """
    code = function.__code__
    first = code.co_firstlineno
    line = first if awaits is None else max(first + 1, _line_of_await(code, awaits))
    names = code.co_varnames[: code.co_argcount]
    lines = ["\n" * (first - 1), "def {}({}):", "\n" * max(1, line - first), " {}"]
    head = "" if awaits is None else "async "
    body = "yield" if awaits is None else "return await awaited"
    source = (
        head.join(lines[:2]).format(code.co_name, ", ".join(names + ("awaited",))) + lines[2] + lines[3].format(body)
    )
    module = compile(source, code.co_filename, "exec", dont_inherit=True)
    (made,) = [const for const in module.co_consts if isinstance(const, types.CodeType)]
    if sys.version_info >= (3, 11):
        made = made.replace(co_qualname=code.co_qualname)
    imitation = types.FunctionType(made, function.__globals__, function.__name__)
    imitation.__qualname__ = function.__qualname__
    return imitation, len(names)


def _call(function, awaits, args, awaited):
    imitation, count = _imitation(function, awaits)
    args = (tuple(args) + (None,) * count)[:count]
    return imitation(*args, awaited)


def _method(cls, name):
    """Return asyncio's function; None if this version has none, or a program has replaced it."""
    function = getattr(cls, name, None)
    return function if isinstance(function, types.FunctionType) else None


def created(cls, name, args):
    """Return the coroutine cls.name(*args) before its first step, its frame and what it awaits; or None."""
    function = _method(cls, name)
    if function is None:
        return None
    # A coroutine would warn that it was never awaited.
    generator = _call(function, None, args, None)
    return generator, generator.gi_frame, None


def suspended(cls, name, args, future, awaited_name=""):
    """The same, while it waits for the future, or awaits what has that name."""
    steps = []
    while name is not None:
        function = _method(cls, name)
        if function is None:
            break
        awaits = awaited_name or AWAITS.get(name, "fut")
        if name == "wait_for" and not awaited_name and "timeouts" not in function.__code__.co_names:
            awaits = "waiter"  # up to 3.11
        steps.append((function, awaits, args))
        if awaits == "readuntil":
            args = args[:1] + (b"\n",)
        elif awaits == "_wait_for_data":
            args = args[:1] + (name,)
        name = awaits if awaits in AWAITS and not awaited_name else None
    awaited = _Waiting(future)
    for step in reversed(steps):
        awaited = _call(*step, awaited)
    if not steps:
        return None
    awaited.send(None)
    return awaited, awaited.cr_frame, awaited.cr_await
