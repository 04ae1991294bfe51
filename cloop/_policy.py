"""The event loop policy, for Pythons whose asyncio has policies."""

import asyncio
import sys
import warnings

from ._loop import Loop

__all__ = ("exist", "make_policy_class", "install")

_INSTEAD = (
    "this Python's asyncio has no event loop policies: use cloop.run(main()) or "
    "asyncio.run(main(), loop_factory=cloop.new_event_loop)"
)
_DEPRECATED = (
    "'asyncio.set_event_loop_policy' is deprecated and slated for removal in Python 3.16, and cloop.install() with it: "
    "use cloop.run(main()) or asyncio.run(main(), loop_factory=cloop.new_event_loop)"
)


def exist():
    """Whether this Python's asyncio has policies."""
    return hasattr(asyncio, "set_event_loop_policy")


def make_policy_class():
    """Return EventLoopPolicy, derived from asyncio's default Unix policy.

    So child watchers, and the loop that get_event_loop() creates for the main thread, are as in that version. Raises
    AttributeError if asyncio has no policies.
    """
    from asyncio import unix_events

    # Public as asyncio.DefaultEventLoopPolicy up to 3.13; on 3.14 and 3.15 this private name gives no warning.
    base = getattr(unix_events, "_DefaultEventLoopPolicy", None)
    if base is None:
        base = getattr(unix_events, "DefaultEventLoopPolicy", None)
    if base is None or not exist():
        raise AttributeError(_INSTEAD)

    class EventLoopPolicy(base):
        """Makes asyncio use cloop: asyncio.set_event_loop_policy(cloop.EventLoopPolicy()).

        It is asyncio's default policy, except for the class of its loops.
        """

        _loop_factory = Loop

    EventLoopPolicy.__module__ = "cloop"
    EventLoopPolicy.__qualname__ = "EventLoopPolicy"
    return EventLoopPolicy


def install():
    """Make cloop the loop of every asyncio.run() and new_event_loop() from now on.

    The same as asyncio.set_event_loop_policy(cloop.EventLoopPolicy()), and deprecated from Python 3.14 on like that:
    use cloop.run() or loop_factory there. The warning names the line that calls this. Raises RuntimeError where asyncio
    has no policies, which Python 3.16 is to remove.
    """
    import cloop

    if not exist():
        raise RuntimeError(_INSTEAD)

    if sys.version_info >= (3, 14):
        # That of asyncio would name this file, so Python would not show it. It begins with the same words, for filters.
        warnings.warn(_DEPRECATED, DeprecationWarning, stacklevel=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        asyncio.set_event_loop_policy(cloop.EventLoopPolicy())
