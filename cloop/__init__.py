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

from . import _abi
from ._accelerate import accelerate
from ._cloop import Histogram, Metrics
from ._dump import dump_on_signal
from ._futures import Future, Task
from ._loop import Loop, new_event_loop
from ._monitor import Monitor, serve_monitor
from ._policy import exist as _policies_exist
from ._policy import install
from ._run import run
from ._slow import SlowCallback
from ._uvloop import install_as_uvloop
from ._version import __version__
from ._watch import Block, Watch, watch

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
if not _policies_exist():  # else `from cloop import *` would ask for one
    __all__ = tuple(name for name in __all__ if name != "EventLoopPolicy")


def __getattr__(name):
    # Created on first use: policies are deprecated, and removed after Python 3.15.
    if name == "EventLoopPolicy":
        from ._policy import make_policy_class

        policy = globals()[name] = make_policy_class()
        return policy
    raise AttributeError("module {!r} has no attribute {!r}".format(__name__, name))
