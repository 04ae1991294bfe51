"""What programs get when they reach for the private parts of asyncio's loop (_selector.py); imported then."""

import collections
import collections.abc
import operator
import selectors

from . import _abi
from ._cloop import LoopCore, TimerHandle

__all__ = ("READ", "WATCHING", "ReadyQueue", "SelectorView", "Timers")

_Handle = _abi.find("asyncio", "Handle")
_SelectorEventLoop = _abi.find("asyncio", "SelectorEventLoop")
READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE

# The selector


class SelectorView(selectors.BaseSelector):
    """A selector whose registrations are what the loop watches; the poller itself is in C."""

    def __init__(self, loop):
        self._loop = loop
        self._registered = {}  # {fd: key} of what was registered here
        self._tried = self._asker = None

    # The loop notices if its select() is replaced.

    def __setattr__(self, name, value):
        super().__setattr__(name, value)
        if name == "select":
            self._loop._asks = True

    def __delattr__(self, name):
        super().__delattr__(name)
        if name == "select":
            self._loop._take_selector_back()

    def be_registered_with(self, selector):
        """Make another selector wake up when the loop's own poller has events, unless that one calls us."""
        self._tried, self._asker = selector, None
        try:
            selector.register(self._loop._poller_fileno(), READ, (None, None))
        except Exception:  # not all selectors can do that
            pass
        self._tried = None

    def is_asked_by(self, selector):
        return self._asker is selector

    def poll(self):
        """Return the events that are ready now."""
        return SelectorView.select(self, 0)

    def register(self, fileobj, events, data=None):
        """Watch a file; return its selectors.SelectorKey. See selectors.BaseSelector."""
        if not events or events & ~(READ | WRITE):
            raise ValueError("Invalid events: {!r}".format(events))
        fd = _fileno(fileobj)
        key = selectors.SelectorKey(fileobj, fd, events, data)
        if fd == self._loop._poller_fileno():
            self._asker = self._tried  # it forwards to us
            return key
        if fd in self._loop._wanted():
            raise KeyError("{!r} (FD {}) is already registered".format(fileobj, fd))
        self._watch(key)
        return key

    def unregister(self, fileobj):
        """Stop watching a file; return its key, or raise KeyError."""
        key = self.get_key(fileobj)
        self._registered.pop(key.fd, None)
        LoopCore._remove_reader(self._loop, key.fd)
        LoopCore._remove_writer(self._loop, key.fd)
        return key

    def modify(self, fileobj, events, data=None):
        """Change what a file is watched for; return its new key, or raise KeyError."""
        if not events or events & ~(READ | WRITE):
            raise ValueError("Invalid events: {!r}".format(events))
        key = self.get_key(fileobj)._replace(events=events, data=data)
        self._watch(key)
        return key

    def _watch(self, key):
        loop, fd = self._loop, key.fd
        now = loop._watched(fd) or (None, None)
        wanted = key.data if isinstance(key.data, tuple) and len(key.data) == 2 else (None, None)
        self._registered[fd] = key
        try:
            for bit, handle, own, add, remove in zip(
                (READ, WRITE),
                wanted,
                now,
                (LoopCore._add_reader, LoopCore._add_writer),
                (LoopCore._remove_reader, LoopCore._remove_writer),
            ):
                if own is not None and own is handle:
                    continue  # already watched by add_reader()
                if key.events & bit:
                    add(loop, fd, self._fire, fd, bit)
                else:
                    remove(loop, fd)
        except BaseException:
            del self._registered[fd]
            raise

    def _fire(self, fd, bit):
        key = self._registered.get(fd)
        if key is not None and isinstance(key.data, tuple) and len(key.data) == 2:
            handle = key.data[0 if bit == READ else 1]
            if handle is not None and not handle._cancelled:
                handle._run()

    def select(self, timeout=None):
        """Wait for events for the timeout in seconds, or without limit if None; return [(key, mask)]."""
        return [(self._key(fd, mask), mask) for fd, mask in self._loop._select(timeout)]

    def close(self):
        """Drop what was registered here; the loop continues."""
        for fd in list(self._registered):
            self.unregister(fd)

    def get_key(self, fileobj):
        """Return the selectors.SelectorKey of a watched descriptor, or raise KeyError."""
        try:
            fd = _fileno(fileobj)
        except ValueError:
            for key in self._registered.values():  # closed meanwhile
                if key.fileobj is fileobj:
                    return key
            raise
        mask = self._loop._wanted().get(fd)
        if mask is None:
            raise KeyError("{!r} is not registered".format(fileobj))
        key = self._key(fd, mask)
        return key if fd in self._registered else key._replace(fileobj=fileobj)

    def get_map(self):
        """Return a mapping of watched files to their keys."""
        return None if self._loop.is_closed() else _Map(self)

    def _key(self, fd, mask):
        key = self._registered.get(fd)
        if key is not None:
            return key
        reader, writer = self._loop._watched(fd) or (None, None)
        if reader is None and mask & READ:
            reader = _Readiness(self._loop, fd, READ)
        if writer is None and mask & WRITE:
            writer = _Readiness(self._loop, fd, WRITE)
        events = (READ if reader is not None else 0) | (WRITE if writer is not None else 0)
        return selectors.SelectorKey(fd, fd, events, (reader, writer))


class _Map(collections.abc.Mapping):
    def __init__(self, view):
        self._view = view

    def __len__(self):
        return len(self._view._loop._wanted())

    def __iter__(self):
        return iter(self._view._loop._wanted())

    def __getitem__(self, fileobj):
        return self._view.get_key(fileobj)


class _Readiness(_Handle):
    """Stands for the handle that asyncio would have for what the loop watches in C. Two for the same are equal."""

    _cancelled = False
    __repr__ = object.__repr__

    def __init__(self, loop, fd, mask):
        self._loop, self._callback, self._args = loop, loop._dispatch, (fd, mask)

    def __eq__(self, other):
        if type(other) is not _Readiness:
            return NotImplemented
        return self._loop is other._loop and self._args == other._args

    def __hash__(self):
        return hash(self._args)

    def cancelled(self):
        return False

    def cancel(self):
        pass

    def _run(self):
        self._callback(*self._args)


def _fileno(fileobj):
    if isinstance(fileobj, int):
        fd = fileobj
    else:
        try:
            fd = int(fileobj.fileno())
        except (AttributeError, TypeError, ValueError):
            raise ValueError("Invalid file object: {!r}".format(fileobj)) from None
    if fd < 0:
        raise ValueError("Invalid file descriptor: {}".format(fd))
    return fd


def _through_selector(name):
    """Return a method that watches descriptors as asyncio's does, with the program's selector."""
    behind = getattr(_SelectorEventLoop, name, None)
    own = getattr(LoopCore, name)
    if not name.lstrip("_").startswith("remove_"):
        return behind or own

    def remove(self, fd):
        # What the loop watched before stays with its own selector.
        if not self._own_selector().is_asked_by(self._put_selector):
            try:
                if self._watched(_fileno(fd)) is not None:
                    return own(self, fd)
            except ValueError:
                pass
        return behind(self, fd)

    return remove


WATCHING = {
    name: _through_selector(name)
    for name in (
        "add_reader",
        "add_writer",
        "remove_reader",
        "remove_writer",
        "_add_reader",
        "_add_writer",
        "_remove_reader",
        "_remove_writer",
        "sock_recv",
        "sock_recv_into",
        "sock_sendall",
        "sock_connect",
        "sock_accept",
    )
}
for _name in ("sock_recvfrom", "sock_recvfrom_into", "sock_sendto"):
    if hasattr(_SelectorEventLoop, _name):
        WATCHING[_name] = _through_selector(_name)


# The queue and the timers


class ReadyQueue(collections.abc.MutableSequence):
    """loop._ready: a collections.deque on the loop's own queue."""

    __slots__ = ("_loop",)
    maxlen = None
    __hash__ = None

    def __init__(self, loop):
        self._loop = loop

    def _list(self):
        return LoopCore._ready.__get__(self._loop)

    def _replace(self, handles):
        handles = list(handles)
        self.clear()
        self.extend(handles)

    def __len__(self):
        return self._loop._ready_count()

    def __iter__(self):
        return iter(self._list())

    def __contains__(self, handle):
        return handle in self._list()

    def __getitem__(self, index):
        try:
            return self._list()[operator.index(index)]
        except IndexError:
            raise IndexError("deque index out of range") from None

    def __setitem__(self, index, handle):
        handles = self._list()
        handles[operator.index(index)] = handle
        self._replace(handles)

    def __delitem__(self, index):
        handles = self._list()
        del handles[operator.index(index)]
        self._replace(handles)

    def insert(self, index, handle):
        handles = self._list()
        handles.insert(index, handle)
        self._replace(handles)

    def append(self, handle):
        self._loop._ready_append(handle)

    def appendleft(self, handle):
        self.insert(0, handle)

    def extendleft(self, handles):
        self._replace(list(handles)[::-1] + self._list())

    def popleft(self):
        return self._loop._ready_take()

    def pop(self, index=-1):
        handle = self[index]
        del self[index]
        return handle

    def clear(self):
        for _ in range(len(self)):
            self._loop._ready_take()

    def copy(self):
        return collections.deque(self._list())

    __copy__ = copy

    def rotate(self, n=1):
        handles = self.copy()
        handles.rotate(n)
        self._replace(handles)

    def __eq__(self, other):
        if isinstance(other, (list, collections.deque, ReadyQueue)):
            return self._list() == list(other)
        return NotImplemented

    def __add__(self, other):
        return self.copy() + other

    def __repr__(self):
        return repr(self.copy())


class Timers(list):
    """loop._scheduled: a list, because heapq needs one. settle() synchronises it with the loop's heap. Timers that are
    not the loop's own are represented there by stand-ins.
    """

    __hash__ = None

    def __init__(self):
        super().__init__()
        self._seen = []  # its content when it was last settled
        self._stand_ins = {}  # {id of a stand-in: (it, the foreign timer)}

    def settle(self, loop):
        """Apply changes of the list to the loop's timers, and update the list. Return whether there are stand-ins."""
        if len(self) != len(self._seen) or not all(map(operator.is_, self, self._seen)):
            now, before = set(map(id, self)), set(map(id, self._seen))
            for handle in self._seen:
                if id(handle) not in now:
                    self._drop(loop, handle)
            for handle in list(self):
                if id(handle) not in before:
                    self._put(loop, handle)
        timers = LoopCore._scheduled.__get__(loop)
        if self._stand_ins:
            alive = set(map(id, timers))
            self._stand_ins = {
                number: pair for number, pair in self._stand_ins.items() if number in alive and not pair[1]._cancelled
            }
            timers = [self._stand_ins.get(id(timer), (None, timer))[1] for timer in timers]
        self[:] = timers
        self._seen = list(timers)
        return bool(self._stand_ins)

    def _put(self, loop, handle):
        if handle._cancelled:
            return
        if type(handle) is TimerHandle and handle._loop is loop:
            loop._put_timer(handle)
        else:
            stand_in = LoopCore.call_at(loop, handle._when, _run_foreign, handle)
            self._stand_ins[id(stand_in)] = stand_in, handle

    def _drop(self, loop, handle):
        if type(handle) is TimerHandle and handle._loop is loop:
            loop._drop_timer(handle)
            return
        for stand_in, foreign in self._stand_ins.values():
            if foreign is handle:
                loop._drop_timer(stand_in)


def _run_foreign(handle):
    handle._scheduled = False
    if not handle._cancelled:
        handle._run()
