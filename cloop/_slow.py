"""What ran when a callback was slow: made for the hook of loop.set_slow_callback_hook(), and noted for the monitor."""

import asyncio
import functools
import os
import weakref
from typing import NamedTuple, Optional

from ._cloop import SSLTransport

__all__ = ("SlowCallback", "describe", "forget", "note", "noted")


class SlowCallback(NamedTuple):
    """A callback or task step that took long.

    kind is "task", "callback", "timer", "connection" (an event of a transport) or "accept" (of a server). file and line
    are where the function is defined; for a task that goes on, where it has come to: the `await` after what was slow.
    duration and cpu_time are in seconds. If cpu_time is near duration, it was computing; if it is near 0, it was
    blocked.
    """

    name: str
    kind: str
    coroutine: Optional[str]
    file: Optional[str]
    line: Optional[int]
    task_name: Optional[str]
    protocol: Optional[type]
    peer: object
    duration: float
    cpu_time: float


_ASYNCIO = os.path.dirname(asyncio.__file__) + os.sep

# What a protocol's class is found by in its source.
_RECEIVE = ("data_received", "buffer_updated", "datagram_received", "connection_made", "__init__")


def describe(handle, duration, cpu_time):
    """Return the SlowCallback for what the handle has run."""
    callback = _unwrap(handle._callback)
    owner = getattr(callback, "__self__", None)
    coroutine = task_name = protocol = peer = None
    if isinstance(owner, asyncio.Task) or asyncio.isfuture(owner) and hasattr(owner, "get_coro"):
        kind = "task"
        task_name = owner.get_name()
        coro = owner.get_coro()
        name = coroutine = _name(coro)
        file, line = _place_of_coroutine(coro)
    elif isinstance(owner, asyncio.BaseTransport) and getattr(callback, "__name__", "") == "_on_ready":
        kind = "connection"
        protocol, peer = _ends(owner)
        name = type(owner).__name__ if protocol is None else protocol.__qualname__
        file, line = _place_of_protocol(protocol)
    elif type(owner).__name__ == "Listener" and type(owner).__module__ == "cloop._cloop":
        kind = "accept"
        name, file, line = "accept", None, None
    else:
        kind = "timer" if isinstance(handle, asyncio.TimerHandle) else "callback"
        name = "a callback that cancelled itself" if callback is None else _name(callback)
        file, line = _place(callback)
        if isinstance(owner, asyncio.BaseProtocol):
            protocol = type(owner)
            peer = next((_peer(item) for item in handle._args or () if isinstance(item, asyncio.BaseTransport)), None)
        elif isinstance(owner, asyncio.BaseTransport):
            protocol, peer = _ends(owner)
    return SlowCallback(name, kind, coroutine, file, line, task_name, protocol, peer, duration, cpu_time)


# Kept of each loop; those with the least time in all go.
_NOTED_MAX = 200

_noted: "weakref.WeakKeyDictionary[object, dict]" = (
    weakref.WeakKeyDictionary()
)  # {loop: {(name, kind, file, line): [count, greatest duration, sum]}}


def note(loop, name, kind, file, line, duration):
    """Note a slow callback, in the loop's thread or, if that does not time callbacks, in the watchdog's."""
    rows = _noted.get(loop)
    if rows is None:
        rows = _noted[loop] = {}
    key = name, kind, file, line
    row = rows.get(key)
    if row is None:
        if len(rows) >= _NOTED_MAX:
            rows.pop(min(rows.copy().items(), key=lambda item: item[1][2])[0], None)
        row = rows[key] = [0, 0.0, 0.0]
    row[0] += 1
    row[1] = max(row[1], duration)
    row[2] += duration


def forget():
    """Forget what was noted."""
    _noted.clear()


def noted(loop):
    """Return dicts of the slow callbacks of the loop that were noted, the slowest first. From any thread."""
    rows = _noted.get(loop, {}).copy()
    found = [
        {"name": name, "kind": kind, "file": file, "line": line, "count": count, "max": longest, "total": total}
        for (name, kind, file, line), (count, longest, total) in rows.items()
    ]
    return sorted(found, key=lambda row: -row["max"])


def _unwrap(callback):
    while isinstance(callback, functools.partial):
        callback = callback.func
    return callback


def _name(what):
    name = getattr(what, "__qualname__", None) or getattr(what, "__name__", None)
    return name if isinstance(name, str) else repr(what)


def _place(callback):
    """Return the file and line of a function."""
    function = getattr(callback, "__func__", callback)
    function = getattr(function, "__wrapped__", function)
    code = getattr(function, "__code__", None)
    if code is None and callback is not None:
        code = getattr(type(callback).__call__, "__code__", None)
    return (None, None) if code is None else (code.co_filename, code.co_firstlineno)


def _place_of_coroutine(coro):
    """Return where the innermost coroutine that it awaits is, without asyncio's own; if it has ended, where it is
    defined.
    """
    place = None
    for _ in range(1000):
        frame = code = None
        for prefix in "cr_", "gi_", "ag_":
            code = getattr(coro, prefix + "code", None)
            if code is not None:
                frame = getattr(coro, prefix + "frame", None)
                break
        if code is None:
            break
        if frame is not None and (place is None or not frame.f_code.co_filename.startswith(_ASYNCIO)):
            place = frame.f_code.co_filename, frame.f_lineno
        elif place is None:
            place = code.co_filename, code.co_firstlineno
        coro = getattr(coro, "gi_yieldfrom" if prefix == "gi_" else prefix + "await", None)
    return place or (None, None)


def _place_of_protocol(protocol):
    for name in _RECEIVE:
        file, line = _place(getattr(protocol, name, None))
        if file is not None:
            return file, line
    return None, None


def _ends(transport):
    """Return the class of the application's protocol, and the peer's address."""
    protocol = transport.get_protocol()
    if isinstance(protocol, SSLTransport):
        protocol = protocol.get_protocol()
    return None if protocol is None else type(protocol), _peer(transport)


def _peer(transport):
    return transport.get_extra_info("peername")
