"""cloop.run(): asyncio.run() on cloop."""

import asyncio
import sys
from asyncio import events, runners

from ._loop import new_event_loop

__all__ = ("run",)


def run(main, *, debug=None, loop_factory=new_event_loop, accelerate=False):
    """Run the coroutine main on a new cloop loop and return its result.

    debug: True or False sets debug mode, None leaves it to the environment.
    loop_factory: creates the loop, cloop.new_event_loop by default.
    accelerate: True calls cloop.accelerate() first; that stays in effect.

    Like this version's asyncio.run, raises RuntimeError inside a running loop, and ValueError or TypeError if main
    cannot be awaited. See asyncio.run.
    """
    if accelerate:
        from ._accelerate import accelerate as start

        start()
    if sys.version_info >= (3, 12):
        return asyncio.run(main, debug=debug, loop_factory=loop_factory)
    if sys.version_info >= (3, 11):
        return _run_with_runner(main, debug, loop_factory)
    return _run_by_hand(main, debug, loop_factory)


def _check_not_running():
    if events._get_running_loop() is not None:
        raise RuntimeError("asyncio.run() cannot be called from a running event loop")


def _run_with_runner(main, debug, loop_factory):
    _check_not_running()
    with asyncio.Runner(debug=debug, loop_factory=loop_factory) as runner:
        return runner.run(main)


def _run_by_hand(main, debug, loop_factory):
    """asyncio.run() of 3.8 to 3.10, which has no loop_factory."""
    _check_not_running()
    if not asyncio.iscoroutine(main):
        raise ValueError("a coroutine was expected, got {!r}".format(main))
    loop = (loop_factory or asyncio.new_event_loop)()
    try:
        asyncio.set_event_loop(loop)
        if debug is not None:
            loop.set_debug(debug)
        return loop.run_until_complete(main)
    finally:
        try:
            runners._cancel_all_tasks(loop)
            loop.run_until_complete(loop.shutdown_asyncgens())
            if sys.version_info >= (3, 9):
                loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            asyncio.set_event_loop(None)
            loop.close()
