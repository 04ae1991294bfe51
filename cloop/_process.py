"""Child processes: subprocess.Popen starts them, a descriptor tells when they exit (cl_pidfd_open())."""

import asyncio
import builtins
import contextlib
import fcntl
import os
import subprocess
import sys
import threading
import time
import types
import weakref
from asyncio import base_events, streams, unix_events
from asyncio import subprocess as asyncio_subprocess
from asyncio.base_subprocess import ReadSubprocessPipeProto, WriteSubprocessPipeProto
from asyncio.log import logger

from . import _abi, _cloop
from ._cloop import WritePipeTransport, adopt_reader, is_main_interpreter, pidfd_open
from ._replaced import is_wrapper

__all__ = ("is_native", "make_transport")

# The watcher that asyncio creates by default: the policy's; from 3.14 on the loop's, where it is private.
if sys.version_info >= (3, 14):
    _DEFAULT_WATCHER = getattr(unix_events, "_PidfdChildWatcher", None)
    _WITHOUT_PIDFDS = getattr(unix_events, "_ThreadedChildWatcher", None)
elif sys.version_info >= (3, 12):
    _POLICY = unix_events._UnixDefaultEventLoopPolicy
    _DEFAULT_WATCHER, _WITHOUT_PIDFDS = unix_events.PidfdChildWatcher, unix_events.ThreadedChildWatcher
else:
    _POLICY = unix_events._UnixDefaultEventLoopPolicy
    _DEFAULT_WATCHER = _WITHOUT_PIDFDS = unix_events.ThreadedChildWatcher

# A program that replaces it has selected the watcher without pidfds.
_can_use_pidfd = getattr(unix_events, "can_use_pidfd", None)

_PAUSE_S = 0.01  # until there may be memory again

# What that watcher logs.
_STATUS_IS_LOST = (
    "Unknown child process pid %d, will report returncode 255"
    if sys.version_info < (3, 12)
    else "child process pid %d exit status already read:  will report returncode 255"
)


def is_native(loop):
    """Whether the loop may watch its children itself: no other child watcher was selected in asyncio."""
    if sys.version_info >= (3, 14):
        return _is_default(loop._watcher)
    policy = asyncio.get_event_loop_policy()
    return type(policy).get_child_watcher is _POLICY.get_child_watcher and _is_default(policy._watcher)


def _is_default(watcher):
    kind = type(watcher)
    return (
        watcher is None
        or kind is _DEFAULT_WATCHER
        or kind is _WITHOUT_PIDFDS
        and not _can_use_pidfd()  # they may be refused after the import
    )


class SubprocessTransport(unix_events._UnixSubprocessTransport):
    """asyncio's, except for the pipes: no socket pairs, and all connected at once."""

    _begun = False

    def __init__(self, *args, **kwargs):
        try:
            super().__init__(*args, **kwargs)
        except BaseException:
            if self._proc is not None and self._proc.returncode is None:
                self._abandon()
            raise
        self._begun = True

    def _abandon(self):
        # No task connects the pipes: nobody has this, so nobody would close them or wait for the process.
        for pipe in (self._proc.stdin, self._proc.stdout, self._proc.stderr):
            if pipe is not None:
                pipe.close()
        self._proc.kill()
        self._proc.wait()
        self._loop._child_ended()

    def _start(self, args, shell, stdin, stdout, stderr, bufsize, **kwargs):
        if sys.version_info >= (3, 11):
            self._popen(args, shell, stdin, stdout, stderr, bufsize, **kwargs)
            return
        # If Popen failed after creating its own pipes, it would leave them open.
        ends, theirs, ours = [stdin, stdout, stderr], [], {}
        try:
            for fd, end in enumerate(ends):
                if end == subprocess.PIPE:
                    reading, writing = os.pipe()
                    ends[fd], ours[fd] = (reading, writing) if fd == 0 else (writing, reading)
                    theirs.append(ends[fd])
                    if kwargs.get("pipesize", -1) > 0 and hasattr(fcntl, "F_SETPIPE_SZ"):
                        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, kwargs["pipesize"])
            self._popen(args, shell, *ends, bufsize, **kwargs)
            for fd, name in enumerate(("stdin", "stdout", "stderr")):
                if fd in ours:
                    setattr(self._proc, name, open(ours[fd], "rb" if fd else "wb", buffering=bufsize))
                    del ours[fd]
        finally:
            for end in theirs + list(ours.values()):
                os.close(end)

    def get_pid(self):
        # Process.__init__() asks for this last, which is how we learn about the Process.
        caller = sys._getframe().f_back
        if caller is not None and caller.f_code is _INIT:
            _adopt_process(caller.f_locals.get("self"))
        return super().get_pid()

    def get_extra_info(self, name, default=None):
        if name == "subprocess" and self._pipes.get(0) is not None:
            stdin = self._pipes[0].pipe
            if type(stdin) is WritePipeTransport:
                stdin._expose()  # Popen has the file
        return super().get_extra_info(name, default)

    def _process_exited(self, returncode):
        super()._process_exited(returncode)
        self._loop._child_ended()
        # From 3.11 on, wait() returned only after the pipes were closed, which a grandchild may keep open. asyncio's
        # newest releases do not wait.
        if self._exit_waiters:
            waiters, self._exit_waiters = self._exit_waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(returncode)

    def _popen(self, args, shell, stdin, stdout, stderr, bufsize, **kwargs):
        self._started_by = os.getpid()
        popen = _Popen if _Popen is not None and _Popen.is_asyncios() else subprocess.Popen
        self._loop._send_held()  # what was written before arrives before
        self._proc = popen(
            args,
            shell=shell,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            universal_newlines=False,
            bufsize=bufsize,
            **kwargs,
        )
        if popen is _Popen:
            self._proc.__class__ = subprocess.Popen
        self._loop._child_begins()

    def _check_proc(self):
        super()._check_proc()
        if os.getpid() != self._started_by:
            raise ProcessLookupError("it is not a child of this process, but of the one this was forked from")
        # A signal follows. What was written before, to the child or to others, arrives before.
        self._loop._send_held()

    def close(self):
        """Close the pipes, and kill the process if it is running and our child."""
        if self._loop is not None:
            self._loop._send_held()
        if self._proc is not None and self._proc.returncode is None and os.getpid() != self._started_by:
            self._proc.returncode = 255  # asyncio's value for an unknown exit code
        try:
            super().close()
        except RuntimeError:
            # The loop is closed, so the pipes cannot report anything. asyncio's newer releases leave them alone then.
            if not self._loop.is_closed():
                raise
            if self._proc is not None and self._returncode is None and self._proc.poll() is None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    self._proc.kill()

    async def _connect_pipes(self, waiter):
        loop = self._loop
        connect = loop.connect_read_pipe, loop.connect_write_pipe
        if any(getattr(method, "__func__", None) not in _CONNECT_PIPES for method in connect):
            return await super()._connect_pipes(waiter)  # the program overrides it
        try:
            if self._pipes and not self._begun:
                # The task is eager. Nobody waits for the waiter yet, so connection_made() would come too late.
                await asyncio.sleep(0)
            self._make_pipes(loop)
            loop.call_soon(self._protocol.connection_made, self)
            if type(self._protocol) is _StreamProtocol:
                loop.call_soon(self._adopt_readers)
            for callback, data in self._pending_calls:
                loop.call_soon(callback, *data)
            self._pending_calls = None
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._give_up()
            self._close_pipes()
            if waiter is not None and not waiter.cancelled():
                waiter.set_exception(error)
        else:
            if waiter is not None and not waiter.cancelled():
                waiter.set_result(None)

    def _adopt_readers(self):
        for reader in (self._protocol.stdout, self._protocol.stderr):
            if reader is not None:
                adopt_reader(reader)

    def _make_pipes(self, loop):
        process = self._proc
        for fd, pipe in enumerate((process.stdin, process.stdout, process.stderr)):
            if pipe is None:
                continue
            if fd == 0:
                protocol = WriteSubprocessPipeProto(self, fd)
                protocol.pipe = loop._make_write_pipe_transport(pipe, protocol)
                if type(protocol.pipe) is WritePipeTransport:
                    protocol.pipe._is_childs()
            else:
                protocol = ReadSubprocessPipeProto(self, fd)
                protocol.pipe = loop._make_read_pipe_transport(pipe, protocol)
            self._pipes[fd] = protocol

    def _give_up(self):
        # The protocol gets no connection_made(), so no connection_lost() either, but whoever waits for the process must
        # wake up.
        self._protocol = asyncio.SubprocessProtocol()
        self._pipes = {fd: protocol for fd, protocol in self._pipes.items() if protocol is not None}
        pending, self._pending_calls = self._pending_calls, None
        for callback, data in pending or ():
            if callback == self._call_connection_lost:
                self._loop.call_soon(callback, *data)

    def _close_pipes(self):
        for protocol in self._pipes.values():
            protocol.pipe.close()
        for fd, pipe in enumerate((self._proc.stdin, self._proc.stdout, self._proc.stderr)):
            if pipe is not None and fd not in self._pipes:
                pipe.close()


# Up to 3.9 subprocess forks.
_Popen = None
if hasattr(_cloop, "fork_exec"):
    _posixsubprocess = subprocess._posixsubprocess
    _execute_child, _fork_exec = subprocess.Popen._execute_child, _posixsubprocess.fork_exec


def _forks():
    """Whether subprocess forks, by functions that no program has replaced before cloop was imported, as debuggers do."""
    return (
        hasattr(_cloop, "fork_exec")
        and type(_execute_child) is types.FunctionType
        and _execute_child.__globals__ is vars(subprocess)
        and _execute_child.__closure__ is None
        and type(_fork_exec) is types.BuiltinFunctionType
    )


if _forks():

    class _Globals(dict):
        """The names of a module, as it has them now, but for some."""

        def __missing__(self, name):
            return vars(subprocess)[name]

    class _Spawn:
        """In the place of _posixsubprocess."""

        @staticmethod
        def fork_exec(*args):
            *plain, preexec_fn = args
            user, umask = plain[16:19], plain[19] if len(plain) > 16 else -1
            if preexec_fn is not None or any(each is not None for each in user):
                return _fork_exec(*args)
            return _cloop.fork_exec(*plain[:16], umask)

    class _Popen(subprocess.Popen):
        """Popen, whose children are started by vfork(). Its objects become Popen's."""

        _execute_child = types.FunctionType(
            _execute_child.__code__,
            _Globals(__builtins__=builtins, _posixsubprocess=_Spawn),
            _execute_child.__name__,
            _execute_child.__defaults__,
        )

        @staticmethod
        def is_asyncios():
            """Whether a program has replaced nothing of it."""
            return (
                subprocess.Popen is _Popen.__base__
                and subprocess.Popen._execute_child is _execute_child
                and subprocess._posixsubprocess is _posixsubprocess
                and _posixsubprocess.fork_exec is _fork_exec
            )


_CONNECT_PIPES = (base_events.BaseEventLoop.connect_read_pipe, base_events.BaseEventLoop.connect_write_pipe)


# asyncio's own, to see whether a program replaced something.
_Process = asyncio_subprocess.Process
_StreamProtocol = asyncio_subprocess.SubprocessStreamProtocol
_INIT = getattr(_Process.__init__, "__code__", None)
_STOCK = {name: vars(_Process)[name] for name in ("communicate", "_feed_stdin", "_read_stream", "wait")}
_STOCK = {name: None if is_wrapper(method) else method for name, method in _STOCK.items()}
_Reader = _abi.find("asyncio", "StreamReader")
_READ = None if is_wrapper(vars(_Reader).get("read")) else _Reader.read
_ATTRIBUTES = {"_transport", "_protocol", "_loop", "stdin", "stdout", "stderr", "pid"}
_CLOSES_STDIN = sys.version_info >= (3, 12)  # without input, too


def _is_stock():
    return all(vars(_Process).get(name) is method for name, method in _STOCK.items())


def _adopt_process(process):
    # If it has other attributes, this asyncio's communicate() keeps the output itself.
    if type(process) is _Process and vars(process).keys() <= _ATTRIBUTES and _is_stock():
        process.__class__ = Process


class Process(_Process):
    """asyncio's Process, except that output which communicate() has read when it is cancelled or fails is not lost.

    Methods that the program replaced, in the class or on a reader, are called.
    """

    _unfed = False  # communicate() was cancelled before it closed stdin

    async def communicate(self, input=None):
        if not _is_stock():
            return await super().communicate(input)
        outputs = {}
        steps = self._feed(input), self._collect(1, outputs), self._collect(2, outputs)
        steps = [self._loop.create_task(step) for step in steps]
        try:
            await asyncio.gather(*steps)
            await self.wait()
        except BaseException as error:
            for step in steps:
                step.cancel()
            for fd, output in outputs.items():
                if self._is_plain(self._stream(fd), fd):
                    _put_back(self._stream(fd), output)
            if isinstance(error, Exception):
                await asyncio.sleep(0)  # they end: eager tasks of another communicate() would read at once
            raise
        finally:
            steps = None  # break the cycle: an exception's traceback has this frame
        return outputs.get(1), outputs.get(2)

    def _stream(self, fd):
        return self.stdout if fd == 1 else self.stderr

    async def _feed(self, input):
        if self.stdin is None if _CLOSES_STDIN else (input is None and not self._unfed):
            return
        self._unfed = True
        if input is None and not _CLOSES_STDIN:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                await self.stdin.drain()
            self.stdin.close()
        else:
            await self._feed_stdin(input)
        self._unfed = False

    async def _collect(self, fd, outputs):
        stream = self._stream(fd)
        if stream is None:
            return
        if not self._is_plain(stream, fd):
            outputs[fd] = await self._read_stream(fd)
            return
        name = "stdout" if fd == 1 else "stderr"
        transport = self._transport.get_pipe_transport(fd)
        if self._loop.get_debug():
            logger.debug("%r communicate: read %s", self, name)
        blocks = []
        try:
            while True:
                block = await stream.read(stream._limit)
                if not block:
                    break
                blocks.append(block)
        except BaseException:
            _put_back(stream, b"".join(blocks))
            raise
        if self._loop.get_debug():
            logger.debug("%r communicate: close %s", self, name)
        transport.close()
        outputs[fd] = b"".join(blocks)

    def _is_plain(self, stream, fd):
        """Whether the stream is asyncio's own, with asyncio's methods."""
        made = self._protocol.stdout if fd == 1 else self._protocol.stderr
        return (
            stream is made
            and getattr(streams, "StreamReader", _Reader) is _Reader
            and _Reader.read is _READ
            and "read" not in vars(stream)
        )


Process.__module__, Process.__qualname__ = _Process.__module__, _Process.__qualname__


def _put_back(stream, data):
    """Make data that was read the next to be read."""
    stream._buffer[:0] = data


async def make_transport(loop, protocol, args, shell, stdin, stdout, stderr, bufsize, extra=None, **kwargs):
    """Start a process; return its transport after protocol.connection_made() was called."""
    waiter = loop.create_future()
    transport = SubprocessTransport(
        loop, protocol, args, shell, stdin, stdout, stderr, bufsize, waiter=waiter, extra=extra, **kwargs
    )
    try:
        _watch(loop, transport)
        await waiter
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException:
        transport.close()
        await asyncio.shield(transport._wait())
        raise
    finally:
        waiter = None  # break the cycle: its exception's traceback has this frame
    return transport


class _Pidfd:
    """A descriptor for the end of a process; closed when its last user is gone."""

    _fd = -1

    def __init__(self, pid):
        self._fd = pidfd_open(pid)

    def fileno(self):
        return self._fd

    def close(self):
        fd, self._fd = self._fd, -1
        if fd != -1:
            os.close(fd)

    __del__ = close


class _Waited:
    """A child that a thread waits for. The loop keeps this until then, or until it is closed."""

    def __init__(self, loop, transport):
        self.loop, self.transport = loop, transport
        if loop._waited is None:
            loop._waited = set()
        loop._waited.add(self)

    def drop(self):
        if self.loop._waited is not None:
            self.loop._waited.discard(self)

    def published(self, status):
        self.drop()
        _publish(self.transport, status)


def _watch(loop, transport):
    waited = None
    try:
        try:
            pidfd = _Pidfd(transport.get_pid())
            loop._add_reader(pidfd.fileno(), _has_ended, loop, transport, pidfd)
        except (OSError, MemoryError):
            # A system without it, no free descriptor or memory, or something else has already waited for it. Other
            # interpreters than the main one have no daemon threads, and wait for the child when they end.
            pid, waited = transport.get_pid(), _Waited(loop, transport)
            threading.Thread(
                target=_wait_for,
                args=(weakref.ref(waited), weakref.ref(loop), pid),
                name="cloop-waitpid-%d" % pid,
                daemon=is_main_interpreter(),
            ).start()
    except Exception:  # no thread either: the process must not run unwatched
        if waited is not None:
            waited.drop()
        with contextlib.suppress(ProcessLookupError):
            transport.kill()
        _publish(transport)
        raise


def _has_ended(loop, transport, pidfd):
    loop._remove_reader(pidfd.fileno())
    try:
        _publish(transport)
    finally:
        pidfd.close()


def _wait_for(find, find_loop, pid):
    """Wait for a child in a thread, which keeps neither the transport, whose pipes the child may wait for, nor the loop."""
    status = None
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    except ChildProcessError:
        pass  # something else has waited for it
    except OSError:  # a sandbox refuses the call
        with contextlib.suppress(ChildProcessError):
            _, status = os.waitpid(pid, 0)
    while True:
        waited = find()
        try:
            if waited is not None:
                waited.loop.call_soon_threadsafe(waited.published, status)
                return
        except MemoryError:  # nobody else would tell the loop
            waited = None
            time.sleep(_PAUSE_S)
            continue
        except RuntimeError:
            pass
        logger.warning("Loop %r that handles pid %r is closed", find_loop(), pid)
        return


def _publish(transport, status=None):
    """Reap the process, unless its status is known, and publish that at once: later its pid may be reused."""
    transport._process_exited(_exit_code(transport, status))


def _exit_code(transport, status):
    """Wait for the process and return its exit code; 255 if unknown."""
    pid = transport.get_pid()
    process = transport._extra["subprocess"]
    try:
        if status is None:
            _, status = os.waitpid(pid, 0)
    except ChildProcessError:
        if process.returncode is not None:
            return process.returncode  # Popen has waited for it
        logger.warning(_STATUS_IS_LOST, pid)
        return 255
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
