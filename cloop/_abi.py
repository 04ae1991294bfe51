"""What cloop's parts need of asyncio, looked at once: when cloop is imported.

Much of it is private to asyncio, and a later Python may move or drop it. Names are looked for wherever asyncio keeps
them. A part that still lacks something is left to asyncio's own code, which is as correct and only slower; one
RuntimeWarning for each such part names it and what is missing. CLOOP_ABI=strict makes that an ImportError, for tests.
"""

import importlib
import os
import sys
import traceback
import warnings
from asyncio import transports

__all__ = ("find", "has", "lacks", "load", "reasons", "report", "stand_in")

# The parts, and who does their work if they are off.
PARTS = {
    "transports": "sockets and pipes have asyncio's transports",
    "TLS": "asyncio's sslproto does TLS",
    "streams": "streams have asyncio's methods",
    "children": "asyncio starts and watches child processes",
    "executor": "asyncio makes the futures of run_in_executor()",
    "futures": "loops make asyncio's tasks and futures",
    "descriptions": "handles are shown in fewer words",
}

_reasons = {}


# Stand-ins: the C code wants an object for each name, if only to derive a class from it that nobody will use.


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
        return  # it leaves run_forever() by itself
    future.get_loop().stop()


# {(module, name): (the parts that cannot do without it, what stands in)}. Without a name that is not here, nor
# anywhere else in asyncio, cloop cannot be imported.
_STAND_INS = {
    ("asyncio.transports", "_FlowControlMixin"): ("transports TLS", _Transport),
    ("asyncio.selector_events", "_SelectorSocketTransport"): ("transports", _Transport),
    ("asyncio.selector_events", "_SelectorDatagramTransport"): ("transports", _Transport),
    ("asyncio.trsock", "TransportSocket"): ("transports", object),
    ("cloop._trsock", "TransportSocket"): ("transports", object),
    ("asyncio.constants", "_SendfileMode"): ("transports TLS", None),
    ("asyncio.base_events", "Server"): ("transports", None),
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
    """asyncio's modules, the package first."""
    yield sys.modules["asyncio"]
    names = ["_asyncio"] + sorted(name for name in sys.modules if name.startswith("asyncio."))
    for name in names:
        if sys.modules.get(name) is not None:
            yield sys.modules[name]


def find(module, name):
    """Return what a module of asyncio has under a name, or another if it has moved; AttributeError if none has."""
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
    """Return what the C code gets for a name that its module lacks; error says why.

    Notes which parts cannot be used. Raises ImportError if cloop cannot do without.
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
    """Note that a part cannot be used, and why: a text, or an exception."""
    why = str(why)
    if part not in PARTS:
        raise ValueError(part)
    if why not in _reasons.setdefault(part, []):
        _reasons[part].append(why)


def has(part):
    """Whether nothing that the part needs was found missing."""
    return part not in _reasons


def reasons(part):
    """Return what the part lacks, as a text."""
    return "; ".join(_reasons.get(part, ()))


def load(part, name):
    """Import a module of cloop that does the work of a part; return None if it lacks something at its import."""
    if not has(part):
        return None
    try:
        return importlib.import_module(name)
    except (AttributeError, ImportError) as error:
        lacks(part, error)
        return None


def report():
    """Warn of each part that is off; ImportError instead, with CLOOP_ABI=strict."""
    for part in sorted(_reasons):
        told = "cloop does not know this Python's asyncio well enough for its {}, so {}: {}".format(
            part, PARTS[part], reasons(part)
        )
        if os.environ.get("CLOOP_ABI") == "strict":
            raise ImportError(told)
        warnings.warn(told, RuntimeWarning, stacklevel=3)
