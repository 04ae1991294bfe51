"""Makes cloop the loop of a process started by `python -m cloop`, and of its children.

begin() runs before the program. It also runs first in processes that multiprocessing starts with spawn or forkserver;
forked ones inherit its effects.
"""

import asyncio
import atexit
import os
import sys
import warnings
from asyncio import events

import cloop

from . import _uvloop
from ._cloop import LoopCore
from ._hooks import on_import, replace

__all__ = ("begin",)


def begin(switches=()):
    """Prepare this process; switches are the launcher's options, such as "--no-compat"."""
    select_loop()
    watch_loops()
    if "--no-uvloop" not in switches and "uvloop" not in sys.modules:
        _uvloop.install_as_uvloop()
    if "--accelerate" in switches:
        cloop.accelerate()
    if "--no-compat" not in switches:
        from . import _compat

        _compat.restore()
    on_import("multiprocessing.util", lambda util: reach_children(util, switches))


def select_loop():
    """Make asyncio create cloop's loops.

    Up to 3.15 this is done with a policy. The program does not see that policies are deprecated since 3.14.
    """
    if hasattr(asyncio, "set_event_loop_policy"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            asyncio.set_event_loop_policy(cloop.EventLoopPolicy())
    else:
        replace(events, "new_event_loop", cloop.new_event_loop)


# Children

# The loader gets this package's file: sys.path is not set up yet.
IN_CHILD = (
    "import importlib.util as u, sys; s = u.spec_from_file_location('cloop', {!r}); "
    "m = sys.modules['cloop'] = u.module_from_spec(s); s.loader.exec_module(m); "
    "from cloop._reach import begin; begin({!r}); del u, s, m, begin; "
)
STARTS = "multiprocessing.spawn import spawn_main", "multiprocessing.forkserver import main"


def reach_children(util, switches):
    """Make new processes of multiprocessing begin as this one did."""
    spawn = util.spawnv_passfds
    begins = IN_CHILD.format(cloop.__file__, tuple(switches))

    def spawnv_passfds(path, args, passfds):
        args = list(args)
        for n, arg in enumerate(args):
            if args[n - 1 : n] == ["-c"] and any(start in arg for start in STARTS):
                args[n] = begins + arg
        return spawn(path, args, passfds)

    util.spawnv_passfds = spawnv_passfds
    # Such a process ends without atexit.
    util.register_after_fork(report_other, lambda report: util.Finalize(None, report, exitpriority=0))


# Which loop it was

ours = False  # one of ours ran
other = None  # (pid, class) of one that ran and is not ours


def watch_loops():
    """At the end of the process, report if loops ran but none was ours."""
    original = getattr(events, "_set_running_loop", None)
    if original is None:
        return
    home = sys.modules[original.__module__]  # pickles name it

    def _set_running_loop(loop, /):
        global other, ours
        if isinstance(loop, LoopCore):
            ours = True
            put(original)
        elif loop is not None:
            other = os.getpid(), type(loop)
        original(loop)

    def put(function):
        replace(events, "_set_running_loop", function)
        home._set_running_loop = function

    for attribute in "__module__", "__qualname__", "__doc__":
        setattr(_set_running_loop, attribute, getattr(original, attribute))
    put(_set_running_loop)
    atexit.register(report_other)


def report_other():
    global other
    if ours or other is None or other[0] != os.getpid() or sys.stderr is None:
        return
    name = other[1].__module__ + "." + other[1].__qualname__
    if name == "asyncio.unix_events._UnixSelectorEventLoop":
        name = "asyncio.SelectorEventLoop"  # its usual name
    other = None  # called by atexit, and by multiprocessing in spawned processes of some Pythons
    process = sys.modules.get("multiprocessing.process")
    is_child = process is not None and process.parent_process() is not None
    who = "process " + process.current_process().name if is_child else "the program"
    print("cloop: %s ran on %s, not on cloop" % (who, name), file=sys.stderr, flush=True)
