"""What is counted of single tasks and slow callbacks only while somebody wants it: a console, or cloop.watch(tasks=True).

All functions may be called from any thread. There is no lock, which a thread could hold at a fork.
"""

from . import _cloop

__all__ = ("SLOW_S", "apply", "drop", "want", "wanted")

# Callbacks that take longer are noted for a console.
SLOW_S = 0.001

_wants: dict = {}  # {owner: (whether tasks are counted, threshold for callbacks in seconds or None)}


def want(owner, tasks=False, slow=None):
    """Count for this owner, a hashable object, until drop(owner)."""
    if slow is not None and wanted()[1] is None:
        from . import _slow

        _slow.forget()  # what this owner gets is from now on
    _wants[owner] = bool(tasks), slow
    apply()


def drop(owner):
    if _wants.pop(owner, None) is not None:
        apply()


def wanted():
    """Return (whether tasks are counted, the lowest threshold or None)."""
    now = list(_wants.values())
    return any(tasks for tasks, _ in now), min((slow for _, slow in now if slow is not None), default=None)


def apply():
    """Let all loops, also new ones, count what is wanted."""
    done = None
    while done != wanted():  # it may change in another thread
        done = wanted()
        for loop in _cloop._open_loops():
            try:
                _apply_to(loop)
            except RuntimeError:  # without a GIL: another thread runs it
                _ask(loop)


def _apply_to(loop):
    tasks, slow = wanted()
    loop._count_tasks(tasks)
    loop._note_slow(slow)


def _ask(loop):
    try:
        loop.call_soon_threadsafe(_apply_to, loop)
    except RuntimeError:  # it was closed
        pass
