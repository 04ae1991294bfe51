"""cloop: an asyncio event loop written in C.

Three ways to use it, without changing the rest of the program:

    cloop.run(main())
    asyncio.run(main(), loop_factory=cloop.new_event_loop)       # Python 3.12
    asyncio.set_event_loop_policy(cloop.EventLoopPolicy())       # up to Python 3.15
"""

try:
    from . import _cloop
except ImportError:
    from . import _unbuilt

    _unbuilt.explain()
    raise

import os as _os
from asyncio import events as _events
from importlib import import_module as _import_module

from . import _abi
from ._cloop import Histogram, Metrics
from ._futures import Future, Task
from ._loop import Loop, new_event_loop

# With `python -X lazy_imports=all` (3.15) a module is imported when a name of it is used: now, since _futures chooses the
# classes of futures and tasks.
_USED = Future, Task, Loop, new_event_loop, Histogram, Metrics

_abi.report()

__all__ = (
    "Block",
    "EventLoopPolicy",
    "Future",
    "Histogram",
    "Loop",
    "Monitor",
    "Metrics",
    "SlowCallback",
    "Task",
    "Watch",
    "accelerate",
    "dump_on_signal",
    "install",
    "install_as_uvloop",
    "new_event_loop",
    "run",
    "serve_monitor",
    "watch",
)
# Imported on first use: half of what `import cloop` took.
_LATER = {
    "Block": "_watch",
    "Monitor": "_monitor",
    "SlowCallback": "_slow",
    "Watch": "_watch",
    "__version__": "_version",
    "accelerate": "_accelerate",
    "dump_on_signal": "_dump",
    "install": "_policy",
    "install_as_uvloop": "_uvloop",
    "run": "_run",
    "serve_monitor": "_monitor",
    "watch": "_watch",
}

if not hasattr(_events, "set_event_loop_policy"):  # else `from cloop import *` would ask for one
    __all__ = tuple(name for name in __all__ if name != "EventLoopPolicy")


def __getattr__(name):
    if name in _LATER:
        value = getattr(_import_module("." + _LATER[name], __name__), name)
    elif name == "EventLoopPolicy":  # policies are deprecated, and removed after Python 3.15
        from ._policy import make_policy_class

        value = make_policy_class()
    else:
        raise AttributeError("module {!r} has no attribute {!r}".format(__name__, name))
    globals()[name] = value
    return value


def _imported_by_name():
    """Never called. PyInstaller and its like collect what import statements name; C code, _abi and __getattr__ have none."""
    from . import (  # noqa: F401
        _accelerate,
        _dump,
        _executor,
        _frames,
        _monitor,
        _policy,
        _process,
        _reached,
        _run,
        _slow,
        _tls,
        _trsock,
        _uvloop,
        _version,
        _watch,
    )


def __dir__():
    return sorted(globals().keys() | {*__all__, "__version__"})


if _os.environ.get("CLOOP_ACCELERATE") == "1":
    from . import _accelerate  # which does so
