"""Starts what CLOOP_WATCH and CLOOP_MONITOR ask for, with the first loop of the interpreter."""

import warnings

from . import _settings
from ._cloop import is_main_interpreter

__all__ = ("begin",)

begun = False


def begin():
    """A failure is a RuntimeWarning: the program must run all the same."""
    global begun
    begun = True
    threshold = _settings.read_seconds("CLOOP_WATCH")
    try:
        if threshold is not None:
            from ._watch import watch

            watch(threshold)
        if _settings.read("CLOOP_MONITOR") == "1" and is_main_interpreter():  # the process has one default path
            from ._monitor import serve_monitor

            serve_monitor()
    except (OSError, RuntimeError) as error:  # RuntimeError: no new thread can be started
        warnings.warn("cloop: CLOOP_WATCH or CLOOP_MONITOR: %s" % error, RuntimeWarning, stacklevel=4)
