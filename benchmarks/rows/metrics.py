"""What it costs to look: readings of loop.metrics(), the hook for slow callbacks, the watchdog, and a console. Only cloop
has them.
"""

import asyncio
import contextlib
import importlib
import os
import subprocess
import sys
import tempfile

from benchmarks.registry import Skip, benchmark
from benchmarks.rows.scheduling import call_soon_chain, call_soon_fan_out
from benchmarks.rows.tasks import create_task_await, sleep_0


def require(loop, method):
    if not hasattr(loop, method):
        raise Skip("the loop has no " + method + "()")


def package(loop, function):
    """The package of the loop, if it has this function."""
    found = importlib.import_module(type(loop).__module__.partition(".")[0])
    if not hasattr(found, function):
        raise Skip("the loop's package has no " + function + "()")
    return found


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


@benchmark(fixture=hook, batch=1000)
async def hooked_fan_out(loop, n, hook):
    """The same as call_soon_fan_out, while a hook for slow callbacks is set and none is slow."""
    await call_soon_fan_out(loop, n)


@contextlib.contextmanager
def watch(loop):
    cloop = package(loop, "watch")
    with cloop.watch(0.1, to=lambda block: None):
        yield


@benchmark(fixture=watch)
async def watched_chain(loop, n, watch):
    """The same as call_soon_chain, while cloop.watch(0.1) looks at the loop."""
    await call_soon_chain(loop, n)


@benchmark(fixture=watch)
async def watched_idle(loop, n, watch):
    """A millisecond in which the loop sleeps, while cloop.watch(0.1) looks at it; CPU of all threads."""
    await asyncio.sleep(n / 1000)


@contextlib.contextmanager
def console(loop):
    """What `python -m cloop top` asks of a process, once a second, by another process."""
    cloop = package(loop, "serve_monitor")
    with tempfile.TemporaryDirectory() as folder, cloop.serve_monitor(os.path.join(folder, "socket")) as monitor:
        program = subprocess.Popen([sys.executable, "-c", CONSOLE, monitor.path], stdout=subprocess.PIPE)
        try:
            program.stdout.read(1)  # it is attached
            yield
        finally:
            program.kill()
            program.communicate()


CONSOLE = """
import sys, time
from cloop import _monitor
with _monitor.connect(sys.argv[1]) as sock:
    _monitor.ask(sock, "count")
    sys.stdout.write("x")
    sys.stdout.close()
    while True:
        for question in "loops", "tasks":
            _monitor.ask(sock, question)
        time.sleep(1)
"""


@benchmark(fixture=console)
async def console_chain(loop, n, console):
    """The same as call_soon_chain, while a console is attached, which asks for loops and tasks once a second."""
    await call_soon_chain(loop, n)


@benchmark(fixture=console)
async def console_create_task(loop, n, console):
    """The same as create_task_await, while a console is attached."""
    await create_task_await(loop, n)


@contextlib.contextmanager
def counts(loop):
    require(loop, "_count_tasks")
    loop._count_tasks(True)
    yield
    loop._count_tasks(False)


@benchmark(fixture=counts, batch=1000)
async def counted_fan_out(loop, n, counts):
    """The same as call_soon_fan_out, while single tasks are counted."""
    await call_soon_fan_out(loop, n)


@benchmark(fixture=counts)
async def counted_create_task(loop, n, counts):
    """The same as create_task_await, while single tasks are counted."""
    await create_task_await(loop, n)


@benchmark(fixture=counts)
async def counted_sleep_0(loop, n, counts):
    """The same as sleep_0, while single tasks are counted."""
    await sleep_0(loop, n)
