# What type checkers see instead of __init__.py: the classes as they look from outside.
#
# Loop's methods are asyncio's, with the types that the checker has for asyncio of the program's Python.
# Here is only what is cloop's own, and what Loop takes where that asyncio does not. (ssl_shutdown_timeout
# before 3.11 is left out.) `make types` compares all this with the package as it is.

import asyncio
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Coroutine
from socket import socket
from ssl import SSLContext
from typing import Any, NamedTuple, Protocol, TypeVar, Union

from _typeshed import ReadableBuffer, StrPath, WriteableBuffer
from typing_extensions import Self, TypeAlias, deprecated

from ._cloop import Future as Future
from ._cloop import Histogram as Histogram
from ._cloop import Metrics as Metrics
from ._cloop import Task as Task

__all__ = (
    "Block",
    "EventLoopPolicy",
    "Future",
    "Histogram",
    "Loop",
    "Monitor",
    "Metrics",
    "SlowCallback",
    "Task",
    "Watch",
    "accelerate",
    "dump_on_signal",
    "install",
    "install_as_uvloop",
    "new_event_loop",
    "run",
    "serve_monitor",
    "watch",
)

__version__: str

_T = TypeVar("_T")
_P = TypeVar("_P", bound=asyncio.BaseProtocol)

class _Writable(Protocol):
    def write(self, text: str, /) -> object: ...

_WatchTo: TypeAlias = Union[_Writable, logging.Logger, logging.LoggerAdapter[Any], Callable[["Block"], object], None]

class SlowCallback(NamedTuple):
    name: str
    kind: str
    coroutine: str | None
    file: str | None
    line: int | None
    task_name: str | None
    protocol: type | None
    peer: object
    duration: float
    cpu_time: float

class Loop(asyncio.SelectorEventLoop):
    slow_callback_duration: float
    def metrics(self) -> Metrics: ...
    def metrics_reset(self) -> None: ...
    def set_slow_callback_hook(self, hook: Callable[[SlowCallback], object] | None, threshold: float = 0.1) -> None: ...
    def create_future(self) -> Future[Any]: ...
    if sys.version_info < (3, 11):
        async def sock_recvfrom(self, sock: socket, bufsize: int) -> tuple[bytes, Any]: ...
        async def sock_recvfrom_into(self, sock: socket, buf: WriteableBuffer, nbytes: int = 0) -> tuple[int, Any]: ...
        async def sock_sendto(self, sock: socket, data: ReadableBuffer, address: Any) -> int: ...
    else:
        async def create_datagram_endpoint(
            self,
            protocol_factory: Callable[[], _P],
            local_addr: tuple[str, int] | str | None = None,
            remote_addr: tuple[str, int] | str | None = None,
            *,
            family: int = 0,
            proto: int = 0,
            flags: int = 0,
            reuse_address: bool | None = None,
            reuse_port: bool | None = None,
            allow_broadcast: bool | None = None,
            sock: socket | None = None,
        ) -> tuple[asyncio.DatagramTransport, _P]: ...
    if sys.version_info < (3, 13):
        async def create_unix_server(
            self,
            protocol_factory: Callable[[], asyncio.BaseProtocol],
            path: StrPath | None = None,
            *,
            sock: socket | None = None,
            backlog: int = 100,
            ssl: bool | SSLContext | None = None,
            ssl_handshake_timeout: float | None = None,
            ssl_shutdown_timeout: float | None = None,
            start_serving: bool = True,
            cleanup_socket: bool = False,
        ) -> asyncio.Server: ...
    if sys.version_info < (3, 12):
        async def shutdown_default_executor(self, timeout: float | None = None) -> None: ...

class Block:
    loop: Loop | None
    seconds: float
    ended: bool
    task: str | None
    stack: str
    text: str
    def __init__(
        self, loop: Loop | None, seconds: float, ended: bool, task: str | None, stack: str, text: str
    ) -> None: ...

class Watch:
    threshold: float
    every: float
    tasks: bool
    def __init__(self, threshold: float, every: float, to: _WatchTo, tasks: bool) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *error: object) -> None: ...
    def stop(self) -> None: ...

class Monitor:
    path: str
    def __init__(self, path: str | None) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *error: object) -> None: ...
    def close(self) -> None: ...

def watch(threshold: float = 0.1, *, every: float | None = None, to: _WatchTo = None, tasks: bool = False) -> Watch: ...
def serve_monitor(path: str | os.PathLike[str] | None = None) -> Monitor: ...
def dump_on_signal(signum: int, *, to: _Writable | Callable[[str], object] | None = None) -> None: ...
def new_event_loop() -> Loop: ...
def accelerate(on: bool = True) -> None: ...
def install_as_uvloop() -> None: ...

if sys.version_info >= (3, 14):
    def run(
        main: Awaitable[_T],
        *,
        debug: bool | None = None,
        loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = ...,
        accelerate: bool = False,
    ) -> _T: ...

else:
    def run(
        main: Coroutine[Any, Any, _T],
        *,
        debug: bool | None = None,
        loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = ...,
        accelerate: bool = False,
    ) -> _T: ...

# Policies are of Unix here, as the loop is, and of asyncio's up to Python 3.15.
if sys.platform != "win32" and sys.version_info < (3, 16):
    if sys.version_info >= (3, 14):
        from asyncio.unix_events import _DefaultEventLoopPolicy as _DefaultPolicy

        @deprecated("asyncio's policies are deprecated: use cloop.run() or loop_factory=cloop.new_event_loop")
        class EventLoopPolicy(_DefaultPolicy):
            def new_event_loop(self) -> Loop: ...

        @deprecated("asyncio's policies are deprecated: use cloop.run() or loop_factory=cloop.new_event_loop")
        def install() -> None: ...

    else:
        class EventLoopPolicy(asyncio.DefaultEventLoopPolicy):
            def new_event_loop(self) -> Loop: ...

        def install() -> None: ...
