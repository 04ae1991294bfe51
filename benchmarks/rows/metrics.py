"""What it costs to look: readings of loop.metrics(), and the hook for slow callbacks. Only cloop has them."""

import contextlib

from benchmarks.registry import Skip, benchmark
from benchmarks.rows.scheduling import call_soon_chain


def require(loop, method):
    if not hasattr(loop, method):
        raise Skip("the loop has no " + method + "()")


@benchmark()
def metrics_reading(loop, n):
    """One loop.metrics()."""
    require(loop, "metrics")
    for _ in range(n):
        loop.metrics()


@benchmark()
def metrics_difference(loop, n):
    """One loop.metrics(), what has changed since the one before, and two quantiles of that."""
    require(loop, "metrics")
    before = loop.metrics()
    for _ in range(n):
        now = loop.metrics()
        change = now - before
        before = now
        assert change.turn_time.quantile(0.99) == change.lateness.quantile(0.99) == 0


@contextlib.contextmanager
def hook(loop):
    require(loop, "set_slow_callback_hook")
    loop.set_slow_callback_hook(print, 10)
    yield
    loop.set_slow_callback_hook(None)


@benchmark(fixture=hook)
async def hooked_chain(loop, n, hook):
    """The same as call_soon_chain, while a hook for slow callbacks is set and none is slow."""
    await call_soon_chain(loop, n)
