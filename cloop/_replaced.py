"""Methods that a program replaces in asyncio's own loop classes, as tracers and tests do.

asyncio.BaseEventLoop.call_soon = traced reaches asyncio's loops at once, since they have no call_soon() of their own.
cloop's loops have, in LoopCore or Loop. So while a method is replaced in one of asyncio's classes, Loop has a Follower in
its place, which looks there first. What is replaced usually calls asyncio's own function, which works on our loops: it
uses the private methods and attributes that they have, too.
"""

import functools
import types

from . import _abi
from ._cloop import follow

_SelectorEventLoop = _abi.find("asyncio", "SelectorEventLoop")
_CLASSES = [cls for cls in _SelectorEventLoop.__mro__ if cls is not object]
_MISSING = object()

# Ours call what is behind them where they need not do it themselves; or asyncio's would not do for a loop of ours.
_NOT_FOLLOWED = frozenset(
    (
        "__init__",
        "_close_self_pipe",
        "_sendfile_native",
        "_stop_serving",
        "add_signal_handler",
        "connect_accepted_socket",
        "create_datagram_endpoint",
        "create_server",
        "create_unix_connection",
        "create_unix_server",
        "remove_signal_handler",
        "shutdown_default_executor",
    )
)


# {name: [(class of asyncio's, what it had under the name when cloop was imported, the code of that)]}
_known = {}


def _checker(known, missing, code_of):
    def is_replaced(name):
        """Whether one of asyncio's classes has something else under the name than asyncio, or its function other code."""
        return any(
            vars(cls).get(name, missing) is not value or code_of(value) is not code
            for cls, value, code in known.get(name, ())
        )

    return is_replaced


def _code(value, function=types.FunctionType):
    return value.__code__ if type(value) is function else None


# A closure: loops may be closed while the interpreter ends, when modules are emptied.
is_replaced = _checker(_known, _MISSING, _code)


class Follower:
    """Stands in Loop for a method: the one that asyncio's classes have now, if it was replaced, else Loop's own."""

    def __init__(self, name, cls, own):
        self._name, self._class, self._own = name, cls, own

    def __get__(self, loop, cls=None):
        found = self._own
        if is_replaced(self._name):
            found = _found(self._name)
        elif found is _MISSING:
            return getattr(super(self._class, cls if loop is None else loop), self._name)
        bind = getattr(type(found), "__get__", None)
        return found if bind is None else bind(found, loop, cls)


def _found(name):
    """What asyncio's loop classes have under the name now, unbound."""
    return next((vars(cls)[name] for cls in _CLASSES if name in vars(cls)), None)


def is_wrapper(value):
    """Whether it is something else than a method of asyncio's or ours: it was replaced before cloop was imported."""
    if value is _MISSING or value is None or type(value) is types.MethodDescriptorType:
        return False
    if type(value) is not types.FunctionType:
        return True
    return value.__globals__.get("__name__", "").partition(".")[0] not in ("asyncio", __package__)


def _names(loop_class):
    """The methods that asyncio's loops have, and cloop's before them."""
    own = set()
    for cls in loop_class.__mro__[: loop_class.__mro__.index(_SelectorEventLoop)]:
        own.update(name for name, value in vars(cls).items() if callable(value))
    asyncios = {name for cls in _CLASSES for name in vars(cls)}
    return sorted(own & asyncios - _NOT_FOLLOWED)


def begin(loop_class):
    """From now on, have what is replaced in asyncio's classes called for loops of this class."""
    names = _names(loop_class)
    own = {name: vars(loop_class).get(name, _MISSING) for name in names}
    for name in names:
        values = [(cls, vars(cls).get(name, _MISSING)) for cls in _CLASSES]
        _known[name] = [(cls, None if is_wrapper(value) else value, _code(value)) for cls, value in values]
    followers = {name: Follower(name, loop_class, own[name]) for name in names}
    functions = {value for known in _known.values() for _, value, code in known if code is not None}
    follow(
        loop_class,
        _SelectorEventLoop,
        tuple(value for value in functions if type(value) is types.FunctionType),
        {name: None if is_replaced(name) else _found(name) for name in names},
        functools.partial(_apply, loop_class, own, followers),
    )


def _apply(loop_class, own, followers):
    """Put Followers where methods are replaced now, and Loop's own where they are no more.

    What a program has put into Loop itself stays.
    """
    for name, follower in followers.items():
        there = vars(loop_class).get(name, _MISSING)
        if is_replaced(name):
            if there is own[name]:
                setattr(loop_class, name, follower)
        elif there is follower:
            if own[name] is _MISSING:
                delattr(loop_class, name)
            else:
                setattr(loop_class, name, own[name])
