"""cloop.serve_monitor(): answers questions about the loops of this process, on a Unix socket.

docs/eyes.md describes the protocol: one JSON object on a line asks, one on a line answers. A thread serves, so that
there are answers while a loop blocks. Only processes of the same user are answered.
"""

import atexit
import errno
import math
import os
import selectors
import socket
import stat
import struct
import sys
import threading
import time

from . import _cloop, _counting, _dump, _slow, _tasks, _watch
from ._system import is_running
from ._version import __version__

__all__ = ("Monitor", "connect", "default_path", "folder", "paths", "serve_monitor")

PROTOCOL = 1
_LINE_MAX = 64 * 1024
_TASKS_MAX = 2000  # looked at for one answer, unless the question says otherwise
_SEND_LIMIT_S = 5
_ACCEPT_PAUSE_S = 0.1
_SLOWEST_SHOWN = 5  # of each loop, in the answer to "loops"

# In an answer: what is to be counted as long as there is this connection. It is not sent.
_WISH = object()


# Where it is


def folders():
    """Yield where sockets may be; the first is where new ones go."""
    user = os.geteuid()
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and os.path.isabs(runtime) and _is_private(runtime, user):
        yield os.path.join(runtime, "cloop")
    yield "/tmp/cloop-%d" % user


def _is_private(path, user):
    """Whether it is a directory, not a link to one, that nobody but the user may enter."""
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == user and not found.st_mode & 0o077


def folder():
    """Return the directory for new sockets, which it creates. Raises OSError if somebody else could enter it."""
    path = next(folders())
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    if not _is_private(path, os.geteuid()):
        raise PermissionError(errno.EACCES, "not a directory of this user alone (mode 0700)", path)
    return path


def default_path(pid=None):
    return os.path.join(folder(), "%d.sock" % (os.getpid() if pid is None else pid))


def paths():
    """Return {pid: path} of the sockets there are. Those that processes have left behind are removed."""
    found = {}
    for path in folders():
        if not _is_private(path, os.geteuid()):
            continue
        for name in os.listdir(path):
            pid, dot, end = name.partition(".")
            if end == "sock" and pid.isdecimal() and int(pid) not in found:
                full = os.path.join(path, name)
                if _is_served(full):
                    found[int(pid)] = full
                elif not is_running(int(pid)):  # else it may be about to listen
                    _remove(full)
    return found


def refused_folders():
    """Return those of the directories that are not looked at, because somebody else could enter them."""
    return [path for path in folders() if os.path.lexists(path) and not _is_private(path, os.geteuid())]


def _is_served(path):
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_SEND_LIMIT_S)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            pass  # a full backlog, or another user's
        return True


def _remove(path):
    try:
        os.unlink(path)
    except OSError:
        pass


def connect(path, limit=_SEND_LIMIT_S):
    """Return a connection to a monitor, which waits for at most limit seconds each time. Raises OSError."""
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.settimeout(limit)
        sock.connect(path)
    except BaseException:
        sock.close()
        raise
    return sock


# The server


class Monitor:
    """What cloop.serve_monitor() returns. As a context manager, it closes at the end.

    path: the path of its socket.
    """

    def __init__(self, path):
        self.path = path
        self._given = path is not None
        self._listener = None
        self._open()

    def __repr__(self):
        return "<cloop.Monitor {} {!r}>".format("serving" if self._listener is not None else "closed", self.path)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def _open(self):
        if not self._given:
            self.path = default_path()
        self._buffers = {}
        self._buffers_lock = threading.Lock()  # held while a socket of theirs is shut down or closed
        self._closing = False
        self._woken, self._waker = os.pipe()
        try:
            self._listener = _listen(self.path)
            self._thread = threading.Thread(target=self._serve, name="cloop-monitor", daemon=not _ends_with_threads())
            self._thread.start()
        except BaseException:
            listened = self._listener is not None
            self._release()
            if listened:
                _remove(self.path)
            raise

    def close(self):
        """Stop answering, and remove the socket. Closing twice is allowed."""
        if self._listener is None:
            return
        with _lock:
            if self in _serving:
                _serving.remove(self)
        self._closing = True
        os.write(self._waker, b"x")
        with self._buffers_lock:
            for sock in self._buffers:  # the thread may be sending to one that does not read
                _shut_down(sock)
        if self._thread is not threading.current_thread():
            self._thread.join()
        self._release()
        _remove(self.path)

    def _release(self):
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for sock in self._buffers:
            _counting.drop(sock)
            sock.close()
        self._buffers.clear()
        for fd in self._waker, self._woken:
            os.close(fd)
        self._waker = self._woken = None

    def _after_fork(self):
        """The child has no thread. The path is the parent's."""
        if self._listener is None:
            return
        self._release()
        if self._given:
            return
        self._open()

    def _serve(self):
        with selectors.PollSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while not self._closing:
                for key, _ in selector.select():
                    if self._closing:
                        return
                    if key.fileobj is self._listener:
                        self._accept(selector)
                    elif not self._receive(key.fileobj):
                        selector.unregister(key.fileobj)
                        _counting.drop(key.fileobj)
                        with self._buffers_lock:
                            del self._buffers[key.fileobj]
                            key.fileobj.close()

    def _accept(self, selector):
        try:
            sock, _ = self._listener.accept()
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.ECONNABORTED, errno.EINTR):
                time.sleep(_ACCEPT_PAUSE_S)  # out of descriptors, perhaps: the listener stays readable
            return
        if not _is_same_user(sock):
            sock.close()
            return
        sock.settimeout(_SEND_LIMIT_S)
        with self._buffers_lock:
            self._buffers[sock] = b""
        selector.register(sock, selectors.EVENT_READ)

    def _receive(self, sock):
        """Answer what has arrived. Return False if the connection is to be closed."""
        try:
            data = sock.recv(_LINE_MAX)
            if not data:
                return False
            *lines, rest = (self._buffers[sock] + data).split(b"\n")
            self._buffers[sock] = rest
            for line in lines:
                if self._closing:
                    return False
                found = answer(line)
                wish = found.pop(_WISH, None)
                if wish is not None:
                    _counting.want(sock, *wish)
                sock.sendall(_json().dumps(found, default=str, separators=(",", ":")).encode() + b"\n")
        except (MemoryError, OSError):
            return False
        return len(rest) < _LINE_MAX


def _shut_down(sock):
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


def _listen(path):
    sock = socket.socket(socket.AF_UNIX)
    try:
        if os.path.exists(path) and stat.S_ISSOCK(os.lstat(path).st_mode) and not _is_served(path):
            _remove(path)
        os.fchmod(sock.fileno(), 0o600)  # Linux gives this mode to the file that bind() creates
        sock.bind(path)
        os.chmod(path, 0o600)
        sock.listen(16)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _is_same_user(sock):
    found = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, user, _ = struct.unpack("3i", found)
    return user == os.geteuid()


def _json():
    """The json module, which most programs need not load for this one."""
    import json

    return json


# Questions


def answer(line):
    """Return the answer to a line, as a dict; {"error": ...} if it can't be answered."""
    try:
        question = _json().loads(line.decode())
        if not isinstance(question, dict):
            raise ValueError("a question is an object")
        function = QUESTIONS.get(question.get("do"))
        if function is None:
            raise ValueError("unknown question: %s" % question.get("do"))
        return function(question)
    except Exception as error:
        return {"error": "%s: %s" % (type(error).__name__, error)}


_started = time.time()


def _hello(question):
    return {
        "cloop": __version__,
        "protocol": PROTOCOL,
        "pid": os.getpid(),
        "python": ".".join(map(str, sys.version_info[:3])),
        "argv": sys.argv,
        "seconds": time.time() - _started,
    }


def _loop_row(loop):
    beat, state = _cloop._pulse(loop)
    thread = loop._thread_id
    return {
        "id": id(loop),
        "state": state,
        "beat": beat,
        "thread": next((each.name for each in threading.enumerate() if each.ident == thread), None),
        "poller": loop._poller,
        "debug": loop.get_debug(),
        "tasks": _tasks.by_thread(loop, _count_tasks, 0),
        "metrics": _tasks.metrics(loop),
        "slowest": _slow.noted(loop)[:_SLOWEST_SHOWN],
    }


def _loops(question):
    return {"now": time.monotonic(), "loops": [_loop_row(loop) for loop in _tasks.open_loops()]}


def _count_tasks(loop):
    return len(_list_tasks(loop))


def _list_tasks(loop):
    try:
        return _tasks.all_tasks(loop)
    except RuntimeError:  # they change faster than they can be listed
        return []


def _chosen_loops(question):
    wanted = question.get("loop")
    return [loop for loop in _tasks.open_loops() if wanted is None or id(loop) == wanted]


# What is counted of a task, in the order of Loop._task_counts(), which has the time when it was made in place of its age.
_COUNTED = ("age", "steps", "busy", "delay", "delay_max", "delay_last")
_NOT_COUNTED = dict.fromkeys(_COUNTED)
_NOTHING_YET = dict(_NOT_COUNTED, steps=0, busy=0.0)
_ORDERS = ("name", "coro", "waits", "where", *_COUNTED)


def _counts(loop, task, now):
    found = loop._task_counts(task)
    if found is not None:
        made, *others = found
        return dict(zip(_COUNTED, [None if made is None else now - made] + others))
    counts = _counting.wanted()[0] and isinstance(task, _cloop.Task) and type(task).__module__ != "_asyncio"
    return _NOTHING_YET if counts else _NOT_COUNTED


def _sort_by_count(loop, tasks, field):
    at = _COUNTED.index(field)

    def key(task):
        found = loop._task_counts(task)
        known = found is not None and found[at] is not None
        return (not known, 0 if not known else found[at] if field == "age" else -found[at])

    tasks.sort(key=key)


def _task_rows(question):
    """All tasks are listed, but no more than "most" are looked at."""
    sort = question.get("sort")
    most = int(question.get("most", _TASKS_MAX))
    wanted = str(question.get("filter") or "").lower()
    rows, total, now = [], 0, time.monotonic()

    def look(loop):
        tasks, found = _list_tasks(loop), []
        if sort in _COUNTED:
            _sort_by_count(loop, tasks, sort)
        running = _tasks.current_task(loop)
        looked_at = tasks[: max(0, most - len(rows))]
        edges = _tasks.awaiters(looked_at)
        for n, task in enumerate(looked_at):
            if n % 100 == 99 and not _cloop.FREE_THREADED:
                time.sleep(0.001)  # the loop needs the interpreter
            row = _tasks.describe(task, edges.get(task), running)
            row.update(_counts(loop, task, now))
            if not wanted or wanted in "{name} {coro} {waits} {where}".format(**row).lower():
                found.append(row)
        return len(tasks), found

    for loop in _chosen_loops(question):
        count, found = _tasks.by_thread(loop, look, (0, []))
        total += count
        rows += found
    return rows, total


def _task_list(question):
    sort = question.get("sort")
    if sort is not None and sort not in _ORDERS:
        raise ValueError("unknown order: %s" % sort)
    rows, total = _task_rows(question)
    if sort in _COUNTED:
        rows.sort(key=lambda row: -(row[sort] or 0))
    elif sort not in (None, "name"):  # they are in the order of their names
        rows.sort(key=lambda row: row[sort] or "")
    limit = question.get("limit")
    return {"total": total, "tasks": rows if limit is None else rows[: int(limit)]}


def _places(question):
    rows, total = _task_rows(dict(question, sort=None))
    counts = {}
    for row in rows:
        key = row["where"], row["waits"] if not row["waits"].startswith("Task-") else "a task"
        counts[key] = counts.get(key, 0) + 1
    found = [{"tasks": count, "where": where, "waits": waits} for (where, waits), count in counts.items()]
    return {"total": total, "places": sorted(found, key=lambda row: (-row["tasks"], str(row["where"])))}


def _task(question):
    def look(loop):
        tasks = _list_tasks(loop)
        task = next((each for each in tasks if id(each) == question.get("id")), None)
        if task is None:
            return None
        edges = _tasks.awaiters(tasks)
        row = _tasks.describe(task, edges.get(task), _tasks.current_task(loop))
        row.update(_counts(loop, task, time.monotonic()))
        row["stack"] = [list(each) for each in _tasks.frames(task)]
        row["chain"] = _tasks.chain_lines(task, edges, "")
        row["repr"] = repr(task)
        return row

    found = (_tasks.by_thread(loop, look) for loop in _tasks.open_loops())
    return {"task": next((row for row in found if row is not None), None)}


def _tree(question):
    def look(loop):
        return _tasks.rows_of(_list_tasks(loop), _tasks.current_task(loop))

    return {"tasks": [row for loop in _chosen_loops(question) for row in _tasks.by_thread(loop, look, ())]}


def _timer_list(question):
    limit = int(question.get("limit", 100))
    total, rows = 0, []

    def look(loop):
        handles = _tasks.timers(loop)
        shown = handles[: max(0, limit - len(rows))]
        return len(handles), [{"in": each.when() - loop.time(), "what": repr(each)} for each in shown]

    for loop in _chosen_loops(question):
        count, found = _tasks.by_thread(loop, look, (0, []))
        total += count
        rows += found
    return {"total": total, "timers": rows}


def _watched(question):
    return {"watched": [[id(loop), _tasks.by_thread(loop, _tasks.watched, {})] for loop in _chosen_loops(question)]}


def _count(question):
    slow = question.get("slow", _counting.SLOW_S)
    if slow is not None:
        slow = float(slow)
        if not (slow >= 0 and math.isfinite(slow)):
            raise ValueError("slow must be a number of seconds")
    tasks = bool(question.get("tasks", True))
    return {"tasks": tasks, "slow": slow, _WISH: (tasks, slow)}


def _slowest(question):
    sort, limit = question.get("sort", "max"), question.get("limit")
    if sort not in ("count", "max", "total"):
        raise ValueError("unknown order: %s" % sort)
    rows = [dict(row, loop=id(loop)) for loop in _chosen_loops(question) for row in _slow.noted(loop)]
    rows.sort(key=lambda row: -row[sort])
    return {"slow": _counting.wanted()[1], "callbacks": rows if limit is None else rows[: int(limit)]}


def _blocks(question):
    return {"watching": _watch.threshold_now(), "blocks": list(_watch.recent)}


QUESTIONS = {
    "hello": _hello,
    "loops": _loops,
    "tasks": _task_list,
    "places": _places,
    "task": _task,
    "tree": _tree,
    "timers": _timer_list,
    "watched": _watched,
    "blocks": _blocks,
    "count": _count,
    "slowest": _slowest,
    "dump": lambda question: {"text": _dump.text()},
}


# The function

_lock = threading.RLock()
_serving = []
_prepared = False


def _ends_with_threads():
    """Whether monitors are closed before the interpreter waits for its threads, which therefore need not be daemons:
    one with a GIL of its own has no others.
    """
    return not _cloop.is_main_interpreter() and hasattr(threading, "_register_atexit")  # not in Python 3.8


def serve_monitor(path=None):
    """Let `python -m cloop top`, `ps` and `pstree` look at the loops of this process.

    Opens a Unix socket, which a thread serves: only processes of the same user are answered. A forked child opens one
    of its own, unless a path was given. The environment variable CLOOP_MONITOR=1 does the same when the first loop is
    created in the main interpreter. A monitor answers for the loops of its interpreter.

    path: the path of the socket; by default one of this process, where these commands look for it.

    Returns a cloop.Monitor, whose close() ends it; so does the end of a `with` block. Raises OSError if the socket can't
    be created, for example because something else has this path, RuntimeError if no thread can be started.
    """
    global _prepared
    with _lock:
        if path is None:
            for each in _serving:
                if not each._given:
                    return each
        monitor = Monitor(None if path is None else os.fspath(path))
        _serving.append(monitor)
        if not _prepared:
            _prepared = True
            (threading._register_atexit if _ends_with_threads() else atexit.register)(_at_exit)
            os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_in_child)
    return monitor


def _at_exit():
    for monitor in list(_serving):
        monitor.close()


def _in_child():
    try:
        for monitor in list(_serving):
            try:
                monitor._after_fork()
            except (OSError, RuntimeError) as error:
                print("cloop: no monitor in process %d: %s" % (os.getpid(), error), file=sys.stderr)
            if monitor._listener is None:
                _serving.remove(monitor)
    finally:
        _lock.release()


def ask(sock, do, **question):
    """Send a question over a connection, and return the answer. Raises OSError, or ValueError if it is an error."""
    sock.sendall(_json().dumps(dict(question, do=do)).encode() + b"\n")
    parts = []
    while True:
        data = sock.recv(1 << 20)
        if not data:
            raise ConnectionResetError(errno.ECONNRESET, "the monitor has closed the connection")
        parts.append(data)
        if data.endswith(b"\n"):
            break
    found = _json().loads(b"".join(parts).decode())
    if "error" in found:
        raise ValueError(found["error"])
    return found
