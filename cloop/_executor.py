"""The future that run_in_executor() returns.

asyncio.wrap_future() connects any two futures, which takes a third of the time of an executor call. Here one future
is always the executor's, the other the loop's.
"""

import asyncio
import concurrent.futures
import sys
from functools import partial

from . import _abi

_copy_as_asyncio = _abi.find("asyncio.futures", "_copy_future_state")
_get_running_loop = _abi.find("asyncio.events", "_get_running_loop")

_Future = concurrent.futures.Future
_METHODS = ("done", "cancelled", "exception", "result")
_STOCK = [getattr(_Future, name) for name in _METHODS]
_LOOKS = vars(_Future()).keys() >= {"_state", "_exception", "_result"}

# From 3.14 on, a result that arrives in the loop's own thread is set at once.
_SETS_AT_ONCE = sys.version_info >= (3, 14)


def wrap_executor_future(source, loop):
    """Return a future of the loop that follows source, the executor's future.

    Cancelling it cancels source, as with asyncio.wrap_future().
    """
    if not isinstance(source, concurrent.futures.Future):
        return asyncio.wrap_future(source, loop=loop)
    loop._job_begins()
    future = loop.create_future()
    future.add_done_callback(partial(_pass_cancellation, source))
    source.add_done_callback(partial(_pass_result, loop, future))
    return future


def _pass_cancellation(source, future):
    if future.cancelled():
        source.cancel()


def _copy_future_state(source, future):
    """As asyncio's function. That takes the source's lock four times, but a state that is final can be read without."""
    if (
        type(source) is _Future
        and _LOOKS
        and source._state == "FINISHED"
        and source._exception is None
        and [_Future.done, _Future.cancelled, _Future.exception, _Future.result] == _STOCK
        and not future.done()
    ):
        future.set_result(source._result)
    else:
        _copy_as_asyncio(source, future)


def _pass_result(loop, future, source):
    """Called in the thread that completed the source."""
    loop._job_ended()
    if _SETS_AT_ONCE and _get_running_loop() is loop:
        _copy_future_state(source, future)
    elif not loop.is_closed():
        loop.call_soon_threadsafe(_copy_future_state, source, future)
