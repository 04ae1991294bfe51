"""Child processes: subprocess.Popen starts them, a pidfd tells when they end."""

import asyncio
import contextlib
import fcntl
import os
import subprocess
import sys
import threading
from asyncio import base_events, base_subprocess, unix_events
from asyncio.log import logger

from ._cloop import adopt_reader, pidfd_open

__all__ = ("is_native", "make_transport")

_POLICY = getattr(unix_events, "_UnixDefaultEventLoopPolicy", None)
# What asyncio itself makes where nobody has chosen: of the policy, from 3.14 on of the loop.
if sys.version_info >= (3, 14):
    _DEFAULT_WATCHER = unix_events._PidfdChildWatcher
elif sys.version_info >= (3, 12):
    _DEFAULT_WATCHER = unix_events.PidfdChildWatcher
else:
    _DEFAULT_WATCHER = unix_events.ThreadedChildWatcher


def is_native(loop):
    """Whether the loop may watch its children itself: no other child watcher of asyncio's was chosen."""
    if sys.version_info >= (3, 14):
        return type(loop._watcher) is _DEFAULT_WATCHER
    policy = asyncio.get_event_loop_policy()
    return type(policy).get_child_watcher is _POLICY.get_child_watcher and (
        policy._watcher is None or type(policy._watcher) is _DEFAULT_WATCHER
    )


class SubprocessTransport(unix_events._UnixSubprocessTransport):
    """asyncio's, but for the pipes: no sockets in their place, and connected in one go."""

    def _start(self, args, shell, stdin, stdout, stderr, bufsize, **kwargs):
        if sys.version_info >= (3, 11):
            self._popen(args, shell, stdin, stdout, stderr, bufsize, **kwargs)
            return
        # Popen would leave pipes of its own open if it failed after making them.
        ends, theirs, ours = [stdin, stdout, stderr], [], {}
        try:
            for fd, end in enumerate(ends):
                if end == subprocess.PIPE:
                    reading, writing = os.pipe()
                    ends[fd], ours[fd] = (reading, writing) if fd == 0 else (writing, reading)
                    theirs.append(ends[fd])
                    if kwargs.get("pipesize", -1) > 0:
                        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, kwargs["pipesize"])
            self._popen(args, shell, *ends, bufsize, **kwargs)
            for fd, name in enumerate(("stdin", "stdout", "stderr")):
                if fd in ours:
                    setattr(self._proc, name, open(ours[fd], "rb" if fd else "wb", buffering=bufsize))
                    del ours[fd]
        finally:
            for end in theirs + list(ours.values()):
                os.close(end)

    def _popen(self, args, shell, stdin, stdout, stderr, bufsize, **kwargs):
        self._proc = subprocess.Popen(
            args,
            shell=shell,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            universal_newlines=False,
            bufsize=bufsize,
            **kwargs,
        )

    def close(self):
        """Close the pipes, and kill the process if it runs."""
        try:
            super().close()
        except RuntimeError:
            # The loop is closed, and the pipes can't tell anybody: asyncio's newer
            # releases leave them alone then.
            if not self._loop.is_closed():
                raise
            if self._proc is not None and self._returncode is None and self._proc.poll() is None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    self._proc.kill()

    async def _connect_pipes(self, waiter):
        loop = self._loop
        connect = loop.connect_read_pipe, loop.connect_write_pipe
        if any(getattr(method, "__func__", None) not in _CONNECT_PIPES for method in connect):
            return await super()._connect_pipes(waiter)  # the program has its own
        try:
            self._make_pipes(loop)
            loop.call_soon(self._protocol.connection_made, self)
            if type(self._protocol) is asyncio.subprocess.SubprocessStreamProtocol:
                loop.call_soon(self._adopt_readers)
            for callback, data in self._pending_calls:
                loop.call_soon(callback, *data)
            self._pending_calls = None
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
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
                protocol = base_subprocess.WriteSubprocessPipeProto(self, fd)
                protocol.pipe = loop._make_write_pipe_transport(pipe, protocol)
            else:
                protocol = base_subprocess.ReadSubprocessPipeProto(self, fd)
                protocol.pipe = loop._make_read_pipe_transport(pipe, protocol)
            self._pipes[fd] = protocol

    def _close_pipes(self):
        for protocol in self._pipes.values():
            if protocol is not None:
                protocol.pipe.close()
        connected = {fd for fd, protocol in self._pipes.items() if protocol is not None}
        for fd, pipe in enumerate((self._proc.stdin, self._proc.stdout, self._proc.stderr)):
            if pipe is not None and fd not in connected:
                pipe.close()


_CONNECT_PIPES = (base_events.BaseEventLoop.connect_read_pipe, base_events.BaseEventLoop.connect_write_pipe)


async def make_transport(loop, protocol, args, shell, stdin, stdout, stderr, bufsize, extra=None, **kwargs):
    """Start a process and return its transport once protocol.connection_made() was called."""
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
        waiter = None  # its exception has a traceback, which has this frame
    return transport


class _Pidfd:
    """A descriptor that tells the end of a process; closed with the last who knows it."""

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


def _watch(loop, transport):
    try:
        try:
            pidfd = _Pidfd(transport.get_pid())
            loop._add_reader(pidfd.fileno(), _has_ended, loop, transport, pidfd)
        except (OSError, MemoryError):
            # An old kernel, no descriptor or memory left, or somebody else has waited for it.
            name = "cloop-waitpid-%d" % transport.get_pid()
            threading.Thread(target=_wait_for, args=(loop, transport), name=name, daemon=True).start()
    except Exception:  # nor a thread: without a watcher it must not run
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


def _wait_for(loop, transport):
    pid = transport.get_pid()
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    except ChildProcessError:
        pass  # somebody else has waited for it
    try:
        loop.call_soon_threadsafe(_publish, transport)
    except RuntimeError:
        logger.warning("Loop %r that handles pid %r is closed", loop, pid)


def _publish(transport):
    """Reaps the process and says so in one go: later its number may be another's."""
    transport._process_exited(_exit_code(transport))


def _exit_code(transport):
    """Waits for the process and returns its exit code; 255 if nobody knows it."""
    pid = transport.get_pid()
    process = transport.get_extra_info("subprocess")
    try:
        _, status = os.waitpid(pid, 0)
    except ChildProcessError:
        if process.returncode is not None:
            return process.returncode  # Popen has waited for it
        logger.warning("child process pid %d exit status already read:  will report returncode 255", pid)
        return 255
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
