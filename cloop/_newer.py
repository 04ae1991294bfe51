"""Keywords that uvloop accepts on every Python, and asyncio only in some versions.

NewerKeywords sits between the C code and asyncio's loop. It defines a method only if this Python's asyncio lacks the
keyword.
"""

import asyncio
import inspect
import os
import threading
import types
import warnings
from asyncio.log import logger

from . import _abi
from ._replaced import is_wrapper

__all__ = ("NewerKeywords", "asyncios_own", "like_asyncios", "parameters", "take_shutdown_timeout")

_Behind = _abi.find("asyncio", "SelectorEventLoop")


def asyncios_own(name):
    """The function of asyncio's that its loop has under the name; None if there is none, or a program has put something else in
    its place that does not say what it wraps.
    """
    for cls in _Behind.__mro__:
        function = vars(cls).get(name)
        for _ in range(9):
            if type(function) is types.FunctionType and not is_wrapper(function):
                return function
            function = getattr(function, "__wrapped__", None)
    return None


def parameters(method):
    """The names of the parameters of a method of asyncio's loop; empty if there is no such method."""
    code = getattr(asyncios_own(method), "__code__", None)
    return frozenset(() if code is None else code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])


def _lacks(method, keyword):
    return keyword not in parameters(method)


def like_asyncios(**defaults):
    """Give the decorated method the signature of asyncio's, if that is known, plus the keywords that asyncio lacks."""

    def decorate(method):
        asyncios = asyncios_own(method.__name__)
        if asyncios is None:
            return method
        signature = inspect.signature(asyncios)
        all_parameters = dict(signature.parameters)
        positional = method.__code__.co_varnames[: method.__code__.co_argcount]
        for name, default in defaults.items():
            kind = inspect.Parameter.POSITIONAL_OR_KEYWORD if name in positional else inspect.Parameter.KEYWORD_ONLY
            all_parameters.setdefault(name, inspect.Parameter(name, kind, default=default))
        if len(all_parameters) > len(signature.parameters):
            signature = signature.replace(parameters=list(all_parameters.values()))
        method.__signature__ = signature
        method.__doc__ = method.__doc__ or asyncios.__doc__
        method.__qualname__ = asyncios.__qualname__  # used in TypeErrors
        return method

    return decorate


def take_shutdown_timeout(options, ssl):
    """Remove ssl_shutdown_timeout from the keywords, if this Python's asyncio does not have it.

    Before 3.11 TLS does not wait for the peer's close_notify, so no timeout can expire. As in newer releases, raises
    ValueError if it is not positive, or given without ssl.
    """
    timeout = options.pop("ssl_shutdown_timeout", None) if _NO_SHUTDOWN_TIMEOUT else None
    if timeout is None:
        return
    if not ssl:
        raise ValueError("ssl_shutdown_timeout is only meaningful with ssl")
    if timeout <= 0:
        raise ValueError("ssl_shutdown_timeout should be a positive number, got {}".format(timeout))


_NO_SHUTDOWN_TIMEOUT = _lacks("create_server", "ssl_shutdown_timeout")


class NewerKeywords:
    """Methods that handle the keyword and leave the rest to asyncio."""

    if _NO_SHUTDOWN_TIMEOUT:

        @like_asyncios(ssl_shutdown_timeout=None)
        async def create_connection(self, protocol_factory, host=None, port=None, *, ssl=None, **options):
            take_shutdown_timeout(options, ssl)
            return await super().create_connection(protocol_factory, host, port, ssl=ssl, **options)

        @like_asyncios(ssl_shutdown_timeout=None)
        async def create_server(self, protocol_factory, host=None, port=None, *, ssl=None, **options):
            take_shutdown_timeout(options, ssl)
            return await super().create_server(protocol_factory, host, port, ssl=ssl, **options)

        @like_asyncios(ssl_shutdown_timeout=None)
        async def create_unix_connection(self, protocol_factory, path=None, *, ssl=None, **options):
            """Connect to a Unix socket server; return (transport, protocol).

            See asyncio's loop.create_unix_connection.
            """
            take_shutdown_timeout(options, ssl)
            return await super().create_unix_connection(protocol_factory, path, ssl=ssl, **options)

        @like_asyncios(ssl_shutdown_timeout=None)
        async def connect_accepted_socket(self, protocol_factory, sock, *, ssl=None, **options):
            """Adopt a connection that was accepted elsewhere; return (transport, protocol).

            See asyncio's loop.connect_accepted_socket.
            """
            take_shutdown_timeout(options, ssl)
            return await super().connect_accepted_socket(protocol_factory, sock, ssl=ssl, **options)

    if _lacks("create_unix_server", "cleanup_socket"):

        @like_asyncios(cleanup_socket=False, ssl_shutdown_timeout=None)
        async def create_unix_server(
            self, protocol_factory, path=None, *, ssl=None, start_serving=True, cleanup_socket=False, **options
        ):
            """Listen on a Unix socket; return an asyncio.Server.

            cleanup_socket: remove the socket's file when the server is closed, unless another file has taken its
            place. By default as in this Python's asyncio, which does not remove it. See asyncio's
            loop.create_unix_server.
            """
            take_shutdown_timeout(options, ssl)
            server = await super().create_unix_server(protocol_factory, path, ssl=ssl, start_serving=False, **options)
            if cleanup_socket:
                for sock in server._sockets:
                    self._clean_up_later(sock)
            if start_serving:
                server._start_serving()
                await asyncio.sleep(0)  # asyncio lets the listener register
            return server

        def _clean_up_later(self, sock):
            path = sock.getsockname()
            if path and path[0] not in (0, "\0"):  # an abstract address has no file
                try:
                    self._unix_server_sockets[sock] = os.stat(path).st_ino
                except FileNotFoundError:
                    pass

        def _stop_serving(self, sock):
            inode = self._unix_server_sockets.pop(sock, None)
            path = None if inode is None else sock.getsockname()
            super()._stop_serving(sock)
            if path is None:
                return
            try:
                if os.stat(path).st_ino == inode:
                    os.unlink(path)
            except FileNotFoundError:
                pass
            except OSError as error:
                logger.error("Unable to clean up listening UNIX socket %r: %r", path, error)

    if _lacks("create_datagram_endpoint", "reuse_address"):

        @like_asyncios(reuse_address=None)
        async def create_datagram_endpoint(
            self, protocol_factory, local_addr=None, remote_addr=None, *, reuse_address=None, **options
        ):
            if reuse_address:
                raise ValueError(
                    "Passing `reuse_address=True` is no longer supported, as the usage of SO_REUSEPORT in UDP poses a "
                    "significant security concern."
                )
            if reuse_address is not None:
                warnings.warn(
                    "The *reuse_address* parameter has been deprecated as of 3.5.10.", DeprecationWarning, stacklevel=2
                )
            return await super().create_datagram_endpoint(protocol_factory, local_addr, remote_addr, **options)

    if _lacks("shutdown_default_executor", "timeout"):

        @like_asyncios(timeout=None)
        async def shutdown_default_executor(self, timeout=None):
            """Shut the default executor down and wait for its threads.

            timeout: the maximum wait in seconds; then a RuntimeWarning is issued and the threads are left alone. See
            asyncio's loop.shutdown_default_executor.
            """
            if timeout is None and hasattr(_Behind, "shutdown_default_executor"):
                await super().shutdown_default_executor()
                return
            self._executor_shutdown_called = True
            executor = self._default_executor
            if executor is None:
                return
            future = self.create_future()
            thread = threading.Thread(target=self._join_executor, args=(executor, future))
            thread.start()
            await asyncio.wait([future], timeout=timeout)
            if not future.done():
                warnings.warn(
                    "The executor did not finishing joining its threads within {} seconds.".format(timeout),
                    RuntimeWarning,
                    stacklevel=2,
                )
                executor.shutdown(wait=False)
                return
            thread.join()
            future.result()

        def _join_executor(self, executor, future):
            try:
                executor.shutdown(wait=True)
                call = future.set_result, None
            except BaseException as error:
                call = future.set_exception, error
            try:
                self.call_soon_threadsafe(_unless_done, future, *call)
            except RuntimeError:  # the loop was closed before the time was over
                pass


def _unless_done(future, method, value):
    if not future.done():
        method(value)
