"""The private parts of asyncio's loop that programs use: its selector, its ready queue and its timers.

nest_asyncio runs turns of the loop with them, test clocks wrap the selector, test suites mock it. The loop itself
polls in C and needs none of this. Once a program has replaced the selector or a part of it, or holds the list of
timers, the turn calls Loop._ask() instead, which does what asyncio's turn does.
"""

import sys
import types

from ._cloop import LoopCore


def _reached():
    """The module with the classes, which few programs need."""
    from . import _reached as module

    return module


class Reached:
    """Private attributes of asyncio's loop that programs use."""

    _put_selector = None  # the program's selector
    _timer_cancelled_count = 0  # cancelled timers are removed at once

    def _ask(self):
        """Poll as asyncio does; return False if the loop can poll by itself."""
        timers = self.__dict__.get("_shown_timers")
        if timers is not None:
            needed = timers.settle(self)
            timers = None
            if not needed and sys.getrefcount(self.__dict__["_shown_timers"]) <= 2:  # nobody else has it
                del self.__dict__["_shown_timers"]
                self._asks = self._is_selector_asked()
        if not self._is_selector_asked():
            return False
        selector = self._selector
        timeout = self._select_timeout()
        if timeout != 0 and not self._announce_sleep(True):
            timeout = 0
        try:
            event_list = selector.select(timeout)
        finally:
            self._announce_sleep(False)
        self._process_events(event_list)
        event_list = None
        own = self._own_selector()
        if selector is not own and not own.is_asked_by(selector):
            LoopCore._process_events(self, own.poll())
        return True

    def _is_selector_asked(self):
        return (
            self._put_selector is not None
            or "select" in self._own_selector().__dict__
            or type(self)._process_events is not LoopCore._process_events
            or "_process_events" in self.__dict__
        )

    def _own_selector(self):
        view = self.__dict__.get("_selector_view")
        if view is None:
            view = self.__dict__["_selector_view"] = _reached().SelectorView(self)
        return view

    @property
    def _selector(self):
        """What the loop polls with. If it is set, its select() is called with the timeout in seconds and returns (key,
        mask) pairs. Deleting it restores the loop's own.
        """
        if self._put_selector is not None:
            return self._put_selector
        return None if self.is_closed() else self._own_selector()

    @_selector.setter
    def _selector(self, selector):
        own = self._own_selector()
        if selector is own or selector is None:
            self._take_selector_back()
            return
        self._put_selector = selector
        for name, method in _reached().WATCHING.items():
            if getattr(type(self), name) is getattr(LoopCore, name):
                self.__dict__[name] = types.MethodType(method, self)
        self._asks = True
        own.be_registered_with(selector)

    @_selector.deleter
    def _selector(self):
        self._take_selector_back()

    def _take_selector_back(self):
        self.__dict__.pop("_put_selector", None)
        for name, method in _reached().WATCHING.items():
            if getattr(self.__dict__.get(name), "__func__", None) is method:
                del self.__dict__[name]
        self._asks = self._is_selector_asked() or "_shown_timers" in self.__dict__

    def _close_selector(self):
        selector = self._put_selector
        if selector is not None:
            self._take_selector_back()
            selector.close()

    @property
    def _ready(self):
        """The live queue of handles that are ready."""
        return _reached().ReadyQueue(self)

    @_ready.setter
    def _ready(self, handles):
        _reached().ReadyQueue(self)._replace(handles)

    @property
    def _scheduled(self):
        """The timers, as a list in heap order. Changes to it are applied to the loop's timers at the next turn, and
        when it is read again.
        """
        timers = self.__dict__.get("_shown_timers")
        if timers is None:
            timers = self.__dict__["_shown_timers"] = _reached().Timers()
        timers.settle(self)
        self._asks = True
        return timers

    @_scheduled.setter
    def _scheduled(self, handles):
        self._scheduled[:] = handles
