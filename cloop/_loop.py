"""The event loop class: the scheduler in C, and the rest of asyncio's interface."""

import atexit
import collections
import contextlib
import contextvars
import os
import signal
import socket
import sys
import types
import warnings
from asyncio import base_events, coroutines, unix_events
from asyncio.log import logger

from . import _abi, _counting, _eyes, _replaced, _settings
from ._cloop import (
    LoopCore,
    SocketTransport,
    _at_exit,
    _before_fork,
    _open_loops,
    know_loop,
    look_like,
    sockets_are_stock,
    wakeup_fd,
)
from ._newer import NewerKeywords, asyncios_own, like_asyncios, parameters, take_shutdown_timeout
from ._selector import Reached

__all__ = ("Loop", "new_event_loop")

# None: this Python's asyncio lacks something that they need, and does it itself.
_process = _abi.load("children", "cloop._process")
_tls = _abi.load("TLS", "cloop._tls")
_executor = _abi.load("executor", "cloop._executor")
_HAS_TRANSPORTS = _abi.has("transports")

# cloop/_report.py's, if it is to be told of loops.
report = None

_SelectorEventLoop = _abi.find("asyncio", "SelectorEventLoop")
_sock_sendfile_native_impl = getattr(_SelectorEventLoop, "_sock_sendfile_native_impl", None)
_StreamReaderProtocol = _abi.find("asyncio", "StreamReaderProtocol")


class Connections:
    """Behind LoopCore: what it does not do of connecting, and asyncio need not do."""

    @like_asyncios(ssl_shutdown_timeout=None)
    async def create_connection(self, protocol_factory, host=None, port=None, **options):
        """Connect to a TCP server; return (transport, protocol).

        The keywords are those of this Python's asyncio: ssl=, family=, sock=, timeouts in seconds and so on. Raises
        OSError if no address can be connected to. See asyncio's loop.create_connection.
        """
        # Not if a test has replaced the socket module in asyncio. LoopCore has already taken numeric addresses and sockets
        # without TLS.
        if (
            self._debug
            or getattr(base_events, "socket", None) is not socket
            or not _is_direct(host, port, options)
            or _is_replaced(self, "_connect_sock")
            or _is_replaced(self, "_ensure_resolved")
        ):
            return await super().create_connection(protocol_factory, host, port, **options)
        ssl, server_hostname, sock = (options.get(name) for name in ("ssl", "server_hostname", "sock"))
        if sock is None:
            found = await self._connect_to_any(None if ssl else protocol_factory, (host, port), options)
            if type(found) is tuple:
                return found
            sock = found
        if not options:
            return await self._create_connection_transport(sock, protocol_factory, None, None)
        if ssl and server_hostname is None:
            server_hostname = host
        timeouts = {name: options[name] for name in _TLS_TIMEOUTS if name in options}
        return await self._create_connection_transport(sock, protocol_factory, ssl, server_hostname, **timeouts)

    async def _connect_to_any(self, protocol_factory, address, options):
        """Look the address up, and connect to the first that answers; return (transport, protocol) or a socket."""
        get = options.get
        hints = {
            "family": get("family", 0),
            "type": socket.SOCK_STREAM,
            "proto": get("proto", 0),
            "flags": get("flags", 0),
        }
        if _is_a_name(address[0]):
            infos = await self.getaddrinfo(*address, **hints)
        else:
            infos = await self._ensure_resolved(address, **hints, loop=self)
        if not infos:
            raise OSError("getaddrinfo() returned empty list")
        local = get("local_addr")
        if local is not None:
            local = await self._ensure_resolved(local, **hints, loop=self)
            if not local:
                raise OSError("getaddrinfo() returned empty list")
        delay, interleave = get("happy_eyeballs_delay"), get("interleave")
        if delay is not None and interleave is None:
            interleave = 1
        if interleave and not (type(interleave) is int and _are_of_one_family(infos)):
            infos = base_events._interleave_addrinfos(infos, interleave)
        attempts = None
        if (local is None or _have_one_family(infos, local)) and (delay is None or _races_are_asyncios()):
            attempts = self._race_addresses(protocol_factory, infos, local, delay)
        found = await (self._attempt_connections(infos, local, delay) if attempts is None else attempts)
        if type(found) is not list:
            return found
        try:
            raise _connect_error(found, get("all_errors"))
        finally:
            found = None  # it has this frame

    async def _attempt_connections(self, infos, local, delay):
        """As in asyncio, by its own methods. Return a socket, or the list of all errors."""
        errors = []
        try:
            if delay is None:
                for info in infos:
                    try:
                        return await self._connect_sock(errors, info, local)
                    except OSError:
                        continue
            else:
                attempts = (lambda info=info: self._connect_sock(errors, info, local) for info in infos)
                sock = (await base_events.staggered.staggered_race(attempts, delay, loop=self))[0]
                if sock is not None:
                    return sock
            return [error for each in errors for error in each]
        finally:
            errors = None


_BEHIND = (Connections, NewerKeywords, _SelectorEventLoop)
if sys.version_info < (3, 11):
    from ._sock import SockDatagrams

    _BEHIND = (SockDatagrams, *_BEHIND)


class Loop(Reached, LoopCore, *_BEHIND):
    """An asyncio event loop whose scheduler is written in C.

    It has all methods of asyncio.AbstractEventLoop. What LoopCore does not do natively is the running Python's own
    asyncio code, so keywords, messages and ordering are those of that version.

    The environment variable CLOOP_POLLER ("epoll", "kqueue" or "poll", as the system has them) selects the poller.
    Raises ValueError if CLOOP_POLLER, CLOOP_GATHER, CLOOP_STREAMS, CLOOP_TASKS or CLOOP_TLS has an unknown value. If a
    selector is given, the loop polls with it instead, in Python, and closes it when it is closed; this is for test
    clocks and the like.
    """

    def __init__(self, selector=None):
        # asyncio's own __init__ would create a second selector and self-pipe.
        _settings.check()
        LoopCore.__init__(self, poller=_settings.read("CLOOP_POLLER"))
        self.set_debug(_is_debug_mode())
        self._watcher = _new_child_watcher()
        if selector is not None:
            self._selector = selector
        if not _eyes.begun:
            _eyes.begin()
        if _counting._wants:
            _counting.apply()
        if report is not None:
            report.made(self)

    def __repr__(self):
        cls = type(self)
        return "<{} running={} closed={} debug={} poller={}>".format(
            "cloop.Loop" if cls is Loop else cls.__name__,
            self.is_running(),
            self.is_closed(),
            self.get_debug(),
            self._poller,
        )

    _waited = None  # the children that threads wait for

    # Here, because while the interpreter ends modules are emptied.
    _is_replaced_in_asyncio = staticmethod(_replaced.is_replaced)
    _get_wakeup_fd = staticmethod(wakeup_fd)
    _set_wakeup_fd = staticmethod(signal.set_wakeup_fd)
    _is_finalizing = staticmethod(sys.is_finalizing)
    _warn = staticmethod(warnings.warn)

    def close(self):
        """Close the loop: drop pending callbacks, close its file descriptors.

        Does not wait for the default executor. Raises RuntimeError if the loop is running; closing twice is allowed.
        See asyncio's loop.close.
        """
        if self._is_replaced_in_asyncio("close"):
            super().close()  # asyncio's, which calls the next method
        else:
            self._close_self_pipe()

    def _close_self_pipe(self):
        if self.is_running():
            raise RuntimeError("Cannot close a running event loop")
        if self.is_closed():
            return
        if self._debug and logger is not None:
            logger.debug("Close %r", self)
        dropped = not self._signal_handlers or self._drop_signal_handlers()
        if self._has_wakeup_fd(self._get_wakeup_fd()[0]):
            self._set_wakeup_fd(-1)  # it was closed, and its number became ours
        self._close_selector()
        self._close_core(not dropped)
        if self._waited is not None:
            self._waited = None
        if report is not None:
            report.closed(self)
        self._executor_shutdown_called = True
        executor = self._default_executor
        if executor is not None:
            self._default_executor = None
            executor.shutdown(wait=False)

    def _drop_signal_handlers(self):
        """Remove the signal handlers; return whether no signal can reach our sockets any more."""
        if self._is_finalizing():
            self._warn(
                "Closing the loop {!r} on interpreter shutdown stage, skipping signal handlers removal".format(self),
                ResourceWarning,
                source=self,
            )
            self._signal_handlers.clear()
            return False
        try:
            for sig in list(self._signal_handlers):
                self.remove_signal_handler(sig)
        except ValueError:
            # Only the main thread can remove them, but the loop must not stay half closed.
            self._warn(
                "{!r} was closed outside the main thread: its signal handlers and the sockets they write to stay".format(
                    self
                ),
                ResourceWarning,
                source=self,
            )
            self._signal_handlers.clear()
            return False
        return True

    def run_in_executor(self, executor, func, *args):
        """Call func(*args) in the executor, the default one if None; return a future.

        Raises RuntimeError if the loop is closed or the default executor was shut down. See asyncio's
        loop.run_in_executor.
        """
        self._send_held()  # what was written before arrives before the function runs
        if _run_in_executor_is_replaced():
            return super().run_in_executor(executor, func, *args)
        default = executor is None
        chosen = self._default_executor if default else executor
        if (
            _executor is None
            or chosen is None
            or self._debug
            or self.is_closed()
            or default
            and self._executor_shutdown_called
        ):
            # asyncio handles and checks all other cases.
            future = super().run_in_executor(executor, func, *args)
            if not self._debug:
                self._job_begins()
                future.add_done_callback(self._job_is_done)
            return future
        return _executor.wrap_executor_future(chosen.submit(func, *args), self)

    def _job_is_done(self, future):
        self._job_ended()

    def _tell_slow(self, handle, duration, cpu_time):
        """Note what has run, and tell the hook of set_slow_callback_hook(), unless cpu_time is None."""
        try:
            from . import _slow

            info = _slow.describe(handle, duration, cpu_time)
            _slow.note(self, info.name, info.kind, info.file, info.line, duration)
            if cpu_time is not None:
                self._slow_hook(info)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.call_exception_handler(
                {"message": "Exception in the hook for slow callbacks", "exception": error, "handle": handle}
            )

    async def getaddrinfo(self, host, port, *, family=0, type=0, proto=0, flags=0):
        """Return the result of socket.getaddrinfo(), without blocking the loop.

        Numeric hosts and ports are handled at once; others in the default executor. See asyncio's loop.getaddrinfo.
        """
        if _SelectorEventLoop.getaddrinfo is _ASYNCIOS["getaddrinfo"]:
            answer = self._numeric_addrinfo(host, port, family, type, proto, flags)
            if answer is not None:
                return answer
        return await super().getaddrinfo(host, port, family=family, type=type, proto=proto, flags=flags)

    def _makes_transports(self):
        """Whether transports are ours: not on a selector that a program has put in the place of the loop's."""
        return _HAS_TRANSPORTS and self._put_selector is None

    def _make_socket_transport(self, sock, protocol, waiter=None, *, extra=None, server=None, context=None):
        # One that the factory has closed: asyncio makes a transport, which fails.
        if not self._makes_transports() or not _is_plain(sock) or sock.fileno() == -1:
            options = {} if context is None else {"context": context}
            return super()._make_socket_transport(sock, protocol, waiter, extra=extra, server=server, **options)
        listener = None if extra is None else getattr(extra, "listener", None)
        return self._new_stream(sock, protocol, waiter, extra, server, context, listener)

    def _make_datagram_transport(self, sock, protocol, address=None, waiter=None, extra=None):
        if (
            not self._makes_transports()
            or not _is_plain(sock)
            or sock.fileno() == -1
            or sock.family not in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
        ):
            return super()._make_datagram_transport(sock, protocol, address, waiter, extra)
        return self._new_datagram(sock, protocol, waiter, extra, address)

    def _make_ssl_transport(
        self,
        rawsock,
        protocol,
        sslcontext,
        waiter=None,
        *,
        server_side=False,
        server_hostname=None,
        extra=None,
        server=None,
        context=None,
        **timeouts,
    ):
        if _tls is None:
            options = {} if context is None else {"context": context}
            return super()._make_ssl_transport(
                rawsock,
                protocol,
                sslcontext,
                waiter,
                server_side=server_side,
                server_hostname=server_hostname,
                extra=extra,
                server=server,
                **timeouts,
                **options,
            )
        make = _tls.new_transport if _tls.is_native() else _tls.sslproto.SSLProtocol
        tls = make(self, protocol, sslcontext, waiter, server_side, server_hostname, **timeouts)
        self._make_socket_transport(rawsock, tls, extra=extra, server=server, context=context)
        return tls._app_transport

    def _make_read_pipe_transport(self, pipe, protocol, waiter=None, extra=None):
        if not self._makes_transports():
            return super()._make_read_pipe_transport(pipe, protocol, waiter, extra)
        return self._new_pipe(pipe, protocol, waiter, extra, True)

    def _make_write_pipe_transport(self, pipe, protocol, waiter=None, extra=None):
        if not self._makes_transports():
            return super()._make_write_pipe_transport(pipe, protocol, waiter, extra)
        return self._new_pipe(pipe, protocol, waiter, extra, False)

    async def _make_subprocess_transport(self, *args, **kwargs):
        if _process is None or not _process.is_native(self):
            return await super()._make_subprocess_transport(*args, **kwargs)
        return await _process.make_transport(self, *args, **kwargs)

    # The next two are asyncio's, but avoid a reference cycle at the end: a waiter keeps its exception, whose
    # traceback has the frame, which has the waiter.

    async def _create_connection_transport(
        self, sock, protocol_factory, ssl, server_hostname, server_side=False, **options
    ):
        try:
            sock.setblocking(False)
            if _CONNECTIONS_HAVE_CONTEXT and options.get("context") is None:
                options["context"] = contextvars.copy_context()
            protocol = protocol_factory()
            waiter = self.create_future()
            if ssl:
                transport = self._make_ssl_transport(
                    sock,
                    protocol,
                    None if isinstance(ssl, bool) else ssl,
                    waiter,
                    server_side=server_side,
                    server_hostname=server_hostname,
                    **options,
                )
            elif "context" in options:
                transport = self._make_socket_transport(sock, protocol, waiter, context=options["context"])
            else:
                transport = self._make_socket_transport(sock, protocol, waiter)
        except BaseException:
            sock.close()
            raise
        try:
            await waiter
        except BaseException:
            transport.close()
            raise
        finally:
            waiter = None
        return transport, protocol

    async def _accept_connection2(self, protocol_factory, conn, extra, sslcontext=None, server=None, *options, **more):
        options = dict(zip(_SERVING_OPTIONS, options), **more)  # asyncio's _accept_connection() has no names
        protocol = transport = None
        try:
            try:
                protocol = protocol_factory()
                waiter = self.create_future()
                options.update(waiter=waiter, extra=extra, server=server)
                if sslcontext:
                    transport = self._make_ssl_transport(conn, protocol, sslcontext, server_side=True, **options)
                else:
                    transport = self._make_socket_transport(
                        conn, protocol, waiter, extra=extra, server=server, **_context_of(options)
                    )
            except BaseException:
                conn.close()  # nobody else would
                raise
            try:
                await waiter
            except BaseException:
                transport.close()
                raise
            finally:
                waiter = options = None
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            if self._debug:
                details = {"message": "Error on transport creation for incoming connection", "exception": error}
                if protocol is not None:
                    details["protocol"] = protocol
                if transport is not None:
                    details["transport"] = transport
                self.call_exception_handler(details)

    @like_asyncios(ssl_shutdown_timeout=None)
    async def start_tls(self, transport, protocol, sslcontext, *, server_side=False, **options):
        """Upgrade a transport to TLS; return the transport that protocol must use from then on.

        If a stream reader has already received the ClientHello together with the request for TLS, it is not lost (nor
        is it in asyncio's newest releases). See asyncio's loop.start_tls.
        """
        take_shutdown_timeout(options, sslcontext)
        if _tls is None or _SelectorEventLoop.start_tls is not _ASYNCIOS["start_tls"]:
            return await super().start_tls(transport, protocol, sslcontext, server_side=server_side, **options)
        reader = protocol._stream_reader if server_side and isinstance(protocol, _StreamReaderProtocol) else None
        if not _tls.is_native() or not options.keys() <= _START_TLS_OPTIONS:
            if reader is not None and getattr(transport, "_start_tls_compatible", False):
                _tls.take_early(self, transport, reader)
            return await super().start_tls(transport, protocol, sslcontext, server_side=server_side, **options)
        return await _tls.upgrade(self, transport, protocol, sslcontext, reader, server_side=server_side, **options)

    def _start_serving(self, protocol_factory, sock, sslcontext=None, server=None, backlog=100, *options, **more):
        listening = sock if _is_plain(sock) else _socket_behind(sock)
        native = listening is not None and self._makes_transports()
        if not native or any(_is_replaced(self, name) for name in _ACCEPTING):
            super()._start_serving(protocol_factory, sock, sslcontext, server, backlog, *options, **more)
            return
        options = dict(zip(_SERVING_OPTIONS, options), **more)
        context = options.pop("context", None)
        accept = None
        if sslcontext:
            serving = contextvars.copy_context() if context is None else context

            def accept(conn, address, listener):
                # The handshake may take long: a task waits for it, as in asyncio.
                own = {} if context is None else {"context": context.copy()}
                extra = _Accepted(peername=address)
                extra.listener = listener
                connection = self._accept_connection2(
                    protocol_factory, conn, extra, sslcontext, server, **options, **own
                )
                serving.copy().run(self.create_task, connection, **own)

        self._listen(listening, protocol_factory, server, accept, context)

    def _stop_serving(self, sock):
        inode = self.__dict__.get("_inherited_unix_sockets", {}).pop(sock, None)
        if inode is not None and not self._ancestor_lives():
            self._unix_server_sockets[sock] = inode
        super()._stop_serving(sock)

    def _after_fork(self):
        """Called in the child of a fork, after core/fork.h has handled the rest."""
        pools = sys.modules.get("concurrent.futures.thread")
        if pools is not None and type(self._default_executor) is pools.ThreadPoolExecutor:
            self._default_executor = None  # its threads are not in this process; the next call creates another
        if self._unix_server_sockets:
            # The paths belong to the parent, which removes them.
            inherited = self.__dict__.setdefault("_inherited_unix_sockets", {})
            inherited.update(self._unix_server_sockets)
            self._unix_server_sockets.clear()

    def _send_file_now(self, transp, file, offset, count):
        """Send what the socket takes at once. Nobody can run meanwhile, so reading need not pause.

        Return the number of bytes, and whether that was all. The number is None if asyncio's code is to send, or to say what
        is wrong.
        """
        try:
            if (
                "b" not in getattr(file, "mode", "b")
                or not (type(offset) is int and 0 <= offset <= sys.maxsize)
                or not (count is None or type(count) is int and 0 < count <= sys.maxsize)
                or os.sendfile is not _os_sendfile
                or any(_STEPS[name] is None or _is_replaced(self, name) for name in _SENDFILE)
            ):
                return None, False
            number = file.fileno()
            size = os.fstat(number).st_size
        except (AttributeError, OSError, TypeError, ValueError):
            return None, False
        wanted = size - offset if count is None else count
        if wanted <= 0:
            return None, False
        # Once: a peer that reads as fast must not keep the loop from its other callbacks.
        sent = transp._send_file(number, offset, wanted)
        if sent == 0:
            return 0, False  # whether the file's position changes depends on the version
        os.lseek(number, offset + sent, os.SEEK_SET)
        # Without a count, the end of the file is where it is now.
        return sent, sent == wanted and (count is not None or os.fstat(number).st_size == size)

    async def _sendfile_native(self, transp, file, offset, count):
        if not isinstance(transp, SocketTransport):
            return await super()._sendfile_native(transp, file, offset, count)
        begun, whole = self._send_file_now(transp, file, offset, count)
        if whole:
            return begun
        was_reading = transp.is_reading()
        transp.pause_reading()
        try:
            waiter = transp._make_empty_waiter()
            try:
                await waiter
                transp._lend_descriptor()
                if begun is None:
                    sent = await self.sock_sendfile(transp._sock, file, offset, count, fallback=False)
                else:
                    sent = await self._send_file(transp, file, offset, count, begun)
                self._count_sent(sent - (begun or 0))
                return sent
            finally:
                transp._take_descriptor_back()
                transp._reset_empty_waiter()
        finally:
            if was_reading:
                transp.resume_reading()

    async def _send_file(self, transp, file, offset, count, begun):
        """Send the rest, as asyncio's sock_sendfile() does, unless the connection is lost meanwhile."""
        future, number = self.create_future(), file.fileno()
        transp._fails_if_lost(future)
        position = _positions[future] = offset + begun
        try:
            self._sock_sendfile_native_impl(
                future,
                None,
                transp._sock,
                number,
                position,
                count,
                count or os.fstat(number).st_size,
                begun,
            )
            return await future
        except BaseException:
            position = _positions[future]
            with contextlib.suppress(OSError, ValueError):  # the program has closed it
                if position > offset and file.fileno() == number:
                    os.lseek(number, position, os.SEEK_SET)
            raise
        finally:
            del _positions[future]

    def _sock_sendfile_native_impl(self, fut, registered_fd, *args):
        if registered_fd is None:  # it begins
            self._send_held()  # what was written to a transport before arrives before
        elif fut.done() and not fut.cancelled():
            return  # the connection is lost
        if fut in _positions:
            _positions[fut] = args[2]
        _sock_sendfile_native_impl(self, fut, registered_fd, *args)

    def add_signal_handler(self, sig, callback, *args):
        """Call callback(*args) in the loop when the signal arrives.

        Raises ValueError for an invalid signal number, RuntimeError for one that cannot be caught or outside of the
        main thread, TypeError for a coroutine. See asyncio's loop.add_signal_handler.
        """
        previous, warns = wakeup_fd()
        super().add_signal_handler(sig, callback, *args)
        self._owe_polls()
        # That of a loop is not given back: the loop may be closed by then, and its number somebody else's.
        if previous != -1 and not any(loop._has_wakeup_fd(previous) for loop in _open_loops()):
            self._lent_wakeup_fd = previous, warns

    def remove_signal_handler(self, sig):
        """Remove the handler of a signal; return whether there was one.

        Removing the last one restores the process's previous wakeup descriptor.
        """
        removed = super().remove_signal_handler(sig)
        if removed and not self._signal_handlers:
            self._give_back_wakeup_fd()
        return removed

    def _give_back_wakeup_fd(self):
        lent, warns = self.__dict__.pop("_lent_wakeup_fd", (-1, True))
        if lent != -1:
            try:
                signal.set_wakeup_fd(lent, warn_on_full_buffer=warns)
            except (ValueError, OSError) as error:  # its owner closed it meanwhile
                logger.info("set_wakeup_fd(%d) failed: %s", lent, error)
        self._arm_signals()

    @property
    def _csock(self):
        """The socket whose descriptor asyncio's add_signal_handler() sets for wakeups."""
        return _WakeupDescriptor(self)


# Methods in C that are Python functions in asyncio should look like functions.
for _name in (
    "create_connection",
    "create_task",
    "sock_accept",
    "sock_connect",
    "sock_recv",
    "sock_recv_into",
    "sock_recvfrom",
    "sock_recvfrom_into",
    "sock_sendall",
    "sock_sendto",
):
    _function = getattr(super(LoopCore, Loop), _name)
    if type(_function) is not types.FunctionType:  # a program has replaced it
        _function = asyncios_own(_name)
        if _function is None:
            continue
    _method = look_like(vars(LoopCore)[_name], _function)
    if hasattr(_function, "__signature__"):
        _method.__signature__ = _function.__signature__
    setattr(LoopCore, _name, _method)


def _mentions(method, name):
    """Whether the code of asyncio's method has that name of a variable or an attribute."""
    code = getattr(asyncios_own(method), "__code__", None)
    return name in getattr(code, "co_names", ())


# The arguments of _start_serving() after backlog, in the order of the versions that have them.
_SERVING_OPTIONS = [
    name
    for name in ("ssl_handshake_timeout", "ssl_shutdown_timeout", "context")
    if name in parameters("_start_serving")
]


def _skips_falsy_lines():
    """Whether asyncio's transports leave out what is falsy of writelines(), of whatever type: newer releases do."""
    transport = types.SimpleNamespace(
        _eof=False, _empty_waiter=None, _conn_lost=0, _buffer=collections.deque(), _buffer_size=0
    )
    try:
        _abi.find("asyncio.selector_events", "_SelectorSocketTransport").writelines(transport, [None])
    except Exception:
        return False
    return not transport._buffer


_CONNECTIONS_HAVE_CONTEXT = "context" in parameters("_create_connection_transport")
if _HAS_TRANSPORTS:
    know_loop(Loop, _CONNECTIONS_HAVE_CONTEXT, _skips_falsy_lines(), not _mentions("_connect_sock", "strerror"))

_START_TLS_OPTIONS = parameters("start_tls")

# Socket methods that asyncio's transports and servers call, and the C code bypasses. A program may have
# replaced any of them, in a subclass, on an object or in socket.socket.
_SOCKET_METHODS = (
    "accept",
    "close",
    "family",
    "fileno",
    "getpeername",
    "getsockname",
    "proto",
    "recv",
    "recv_into",
    "recvfrom",
    "send",
    "sendmsg",
    "sendto",
    "setsockopt",
    "shutdown",
    "type",
    "__getattribute__",
)
_STOCK_METHODS = {name: getattr(socket.socket, name, None) for name in _SOCKET_METHODS}
_STOCK_SOCKET = socket.socket


class _Accepted(dict):
    """An accepted connection and its listener, whose connections learn from each other."""

    listener = None


def _context_of(options):
    """Return the options that apply to plain connections too, if this asyncio has them."""
    return {"context": options["context"]} if "context" in options else {}


# Up to 3.9 it binds to addresses of other families, too.
_PASSES_OVER_FAMILIES = "lfamily" in getattr(
    getattr(asyncios_own("_connect_sock"), "__code__", None), "co_varnames", ()
)


def _is_a_name(host):
    """Whether the host is no number, seen at once: so _ensure_resolved() would only ask the resolver."""
    return type(host) is str and host[-1:].isalpha() and host.isascii() and ":" not in host and "\0" not in host


def _are_of_one_family(infos):
    """Whether they keep their order however they are interleaved."""
    if type(infos) is not list:
        return False
    family = infos[0][0]
    for info in infos:
        if info[0] != family:
            return False
    return True


def _have_one_family(infos, local):
    """Whether all addresses have the same, unless asyncio passes over those of others."""
    return _PASSES_OVER_FAMILIES or len({info[0] for info in (*infos, *local)}) == 1


_staggered_race = getattr(getattr(base_events, "staggered", None), "staggered_race", None)


def _races_are_asyncios():
    """Whether no program has replaced asyncio's function."""
    return base_events.staggered.staggered_race is _staggered_race


_HAVE_TIMEOUTS = _mentions("create_connection", "TimeoutError")


def _connect_error(errors, all_errors):
    """Return the exception that tells of all errors."""
    if all_errors:
        return ExceptionGroup("create_connection failed", errors)  # noqa: F821
    if not errors and _HAVE_TIMEOUTS:
        return TimeoutError("create_connection failed")
    first = errors[0]
    if all(str(error) == str(first) for error in errors):
        return first
    return OSError("Multiple exceptions: {}".format(", ".join(str(error) for error in errors)))


_CONNECTION_OPTIONS = parameters("create_connection")
_TLS_TIMEOUTS = [name for name in ("ssl_handshake_timeout", "ssl_shutdown_timeout") if name in _CONNECTION_OPTIONS]
_DIRECT_OPTIONS = {"ssl", "family", "proto", "flags", "sock", "local_addr", "server_hostname", *_TLS_TIMEOUTS}
if _staggered_race is not None and hasattr(base_events, "_interleave_addrinfos"):
    _DIRECT_OPTIONS |= {"happy_eyeballs_delay", "interleave", "all_errors"} & _CONNECTION_OPTIONS


def _is_direct(host, port, options):
    """Whether asyncio would accept these options of create_connection()."""
    if not options.keys() <= _DIRECT_OPTIONS:
        return False
    sock = options.get("sock")
    if sock is not None:
        if host is not None or port is not None or type(sock) is not _STOCK_SOCKET or sock.type != socket.SOCK_STREAM:
            return False
    elif host is None and port is None:
        return False
    name = options.get("server_hostname")
    if options.get("ssl"):
        return name is not None or bool(host)
    return name is None and all(options.get(timeout) is None for timeout in _TLS_TIMEOUTS)


def _is_plain(sock):
    """Whether system calls can be made on the socket's descriptor directly."""
    cls = type(sock)
    if cls is _STOCK_SOCKET:
        return sockets_are_stock()
    return (
        issubclass(cls, _STOCK_SOCKET)
        and all(getattr(cls, name, None) is method for name, method in _STOCK_METHODS.items())
        and _STOCK_METHODS.keys().isdisjoint(getattr(sock, "__dict__", ()))
    )


def _socket_behind(sock):
    """Return the plain socket whose accept() the given object delegates to; None if there is none.

    gunicorn's listeners are such objects.
    """
    behind = getattr(getattr(sock, "accept", None), "__self__", None)
    if behind is None or not _is_plain(behind):
        return None
    return behind if sock.accept == behind.accept and sock.fileno() == behind.fileno() else None


_SENDFILE = ("sock_sendfile", "_sock_sendfile_native", "_sock_sendfile_native_impl")
_ACCEPTING = ("_accept_connection", "_accept_connection2", "_make_socket_transport")
_STEPS = {name: getattr(Loop, name, None) for name in ("_connect_sock", "_ensure_resolved") + _ACCEPTING + _SENDFILE}
_STEPS = {name: None if _replaced.is_wrapper(step) else step for name, step in _STEPS.items()}
_os_sendfile = getattr(os, "sendfile", None)
_positions = {}  # up to where the file that a future is for has been sent


def _is_replaced(loop, name):
    """Whether a class, also asyncio's, or the object has something else in the place of asyncio's method."""
    return getattr(type(loop), name, None) is not _STEPS[name] or name in loop.__dict__


# What asyncio has under these names; None if it was replaced before cloop was imported.
_ASYNCIOS = {name: getattr(_SelectorEventLoop, name, None) for name in ("getaddrinfo", "start_tls")}
_ASYNCIOS = {name: None if _replaced.is_wrapper(method) else method for name, method in _ASYNCIOS.items()}
_RUN_IN_EXECUTOR = getattr(_SelectorEventLoop, "run_in_executor", None)
_RUN_IN_EXECUTOR_CODE = getattr(_RUN_IN_EXECUTOR, "__code__", None)
if getattr(_RUN_IN_EXECUTOR, "__globals__", None) is not vars(base_events):
    _RUN_IN_EXECUTOR = None  # replaced before cloop was imported


def _run_in_executor_is_replaced():
    """Whether a program has replaced asyncio's method, as tests do, or given it other code, as tracers do."""
    return (
        _SelectorEventLoop.run_in_executor is not _RUN_IN_EXECUTOR
        or _RUN_IN_EXECUTOR.__code__ is not _RUN_IN_EXECUTOR_CODE
    )


class _WakeupDescriptor:
    def __init__(self, loop):
        self._loop = loop

    def fileno(self):
        return self._loop._signal_fileno()

    def send(self, data):
        # asyncio's _write_to_self() does.
        LoopCore._write_to_self(self._loop)
        return len(data)


def _new_child_watcher():
    """From 3.14 on each loop has its own; before, the policy has one."""
    if sys.version_info < (3, 14):
        return None
    try:
        return unix_events._PidfdChildWatcher() if unix_events.can_use_pidfd() else unix_events._ThreadedChildWatcher()
    except AttributeError:  # only asyncio's own transports of subprocesses ask for it
        return None


def _is_debug_mode():
    ask = getattr(coroutines, "_is_debug_mode", None)
    if ask is not None:
        return ask()
    asked = not sys.flags.ignore_environment and bool(os.environ.get("PYTHONASYNCIODEBUG"))
    return sys.flags.dev_mode or asked


def new_event_loop():
    """Return a new cloop.Loop. Pass this function as loop_factory to asyncio.Runner or uvicorn."""
    return Loop()


_replaced.begin(Loop)
os.register_at_fork(before=_before_fork)
atexit.register(_at_exit)
