"""Check, when cloop is imported, that asyncio has the names that cloop uses.

Many of them are private to asyncio, and a later Python may move or remove them. A name that is not where it is expected
is searched for in asyncio's other modules. If a part of cloop still lacks a name, asyncio's own code does its work:
correct, but slower. A RuntimeWarning for each such part says what is missing. With CLOOP_ABI=strict, for tests, it is an
ImportError.
"""

import importlib
import os
import sys
import traceback
import warnings
from asyncio import transports

__all__ = ("find", "has", "lacks", "load", "reasons", "report", "stand_in")

# The parts of cloop, and what replaces each if it cannot be used.
PARTS = {
    "transports": "sockets and pipes have asyncio's transports",
    "TLS": "asyncio's sslproto does TLS",
    "streams": "streams have asyncio's methods",
    "children": "asyncio starts and watches child processes",
    "executor": "asyncio makes the futures of run_in_executor()",
    "futures": "loops make asyncio's tasks and futures",
    "descriptions": "handles are shown in fewer words",
}

_reasons: "dict[str, list[str]]" = {}


# Replacements. The C code needs an object for each name, even if only as the base of a class that is never used.


class _Transport(transports.Transport):
    __slots__ = ()


def _format_callback_source(func, args, *, debug=False):
    return getattr(func, "__qualname__", None) or repr(func)


def _extract_stack(f=None, limit=10):
    frame = sys._getframe(1) if f is None else f
    stack = traceback.StackSummary.extract(traceback.walk_stack(frame), limit=limit, lookup_lines=False)
    stack.reverse()
    return stack


def _run_until_complete_cb(future):
    if not future.cancelled() and isinstance(future.exception(), (SystemExit, KeyboardInterrupt)):
        return  # the exception leaves run_forever()
    future.get_loop().stop()


# {(module, name): (parts that need it, replacement)}. If a name is not listed here and asyncio has it nowhere, cloop
# cannot be imported.
_STAND_INS = {
    ("asyncio.transports", "_FlowControlMixin"): ("transports TLS", _Transport),
    ("asyncio.selector_events", "_SelectorSocketTransport"): ("transports", _Transport),
    ("asyncio.selector_events", "_SelectorDatagramTransport"): ("transports", _Transport),
    ("asyncio.trsock", "TransportSocket"): ("transports", object),
    ("cloop._trsock", "TransportSocket"): ("transports", object),
    ("asyncio.constants", "_SendfileMode"): ("transports TLS", None),
    ("asyncio.base_events", "Server"): ("transports", None),
    ("asyncio.futures", "_set_result_unless_cancelled"): ("transports", None),
    ("asyncio.tasks", "_enter_task"): ("futures", None),
    ("asyncio.tasks", "_leave_task"): ("futures", None),
    ("asyncio.tasks", "_swap_current_task"): ("futures", None),
    ("asyncio.tasks", "_register_eager_task"): ("futures", None),
    ("asyncio.tasks", "_unregister_eager_task"): ("futures", None),
    ("asyncio.futures", "future_add_to_awaited_by"): ("futures", None),
    ("asyncio.futures", "future_discard_from_awaited_by"): ("futures", None),
    ("asyncio.format_helpers", "_format_callback_source"): ("descriptions", _format_callback_source),
    ("asyncio.format_helpers", "extract_stack"): ("", _extract_stack),
    ("asyncio.base_events", "_format_handle"): ("descriptions", str),
    ("asyncio.base_events", "_run_until_complete_cb"): ("", _run_until_complete_cb),
}


def _homes():
    """Yield asyncio's modules, the package first."""
    yield sys.modules["asyncio"]
    names = ["_asyncio"] + sorted(name for name in sys.modules if name.startswith("asyncio."))
    for name in names:
        if sys.modules.get(name) is not None:
            yield sys.modules[name]


def find(module, name):
    """Return an attribute of an asyncio module, from another module if it has moved; raises AttributeError if none has it."""
    try:
        return getattr(importlib.import_module(module), name)
    except (AttributeError, ImportError):
        pass
    for home in _homes():
        if name in vars(home):
            return vars(home)[name]
    try:
        return importlib.import_module(module + "." + name)
    except ImportError:
        raise AttributeError("{} has no {}".format(module, name)) from None


def stand_in(module, name, error):
    """Return a replacement for a name that is missing from its module; error is the reason.

    Notes the parts that cannot be used without it. Raises ImportError if there is no replacement.
    """
    if module.startswith("asyncio"):
        error = "{} has no {}".format(module, name)
        name, _, rest = name.partition(".")
        try:
            found = find(module, name)
            return getattr(found, rest) if rest else found
        except AttributeError:
            pass
    if (module, name) not in _STAND_INS:
        raise ImportError("cloop cannot do without what this Python's asyncio lacks: {}".format(error))
    parts, instead = _STAND_INS[module, name]
    for part in parts.split():
        lacks(part, error)
    return instead


def lacks(part, why):
    """Note that a part cannot be used. why is a text or an exception."""
    why = str(why)
    if part not in PARTS:
        raise ValueError(part)
    if why not in _reasons.setdefault(part, []):
        _reasons[part].append(why)


def has(part):
    """Return whether nothing that the part needs is known to be missing."""
    return part not in _reasons


def reasons(part):
    """Return what the part lacks, as text."""
    return "; ".join(_reasons.get(part, ()))


def load(part, name):
    """Import the module of cloop that implements a part; return None if something that it needs is missing."""
    if not has(part):
        return None
    try:
        return importlib.import_module(name)
    except (AttributeError, ImportError) as error:
        lacks(part, error)
        return None


def report():
    """Warn about each part that cannot be used; with CLOOP_ABI=strict, raise ImportError."""
    for part in sorted(_reasons):
        told = "cloop does not know this Python's asyncio well enough for its {}, so {}: {}".format(
            part, PARTS[part], reasons(part)
        )
        if os.environ.get("CLOOP_ABI") == "strict":
            raise ImportError(told)
        warnings.warn(told, RuntimeWarning, stacklevel=3)
