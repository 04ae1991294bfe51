# What type checkers see instead of prometheus.py.

from collections.abc import Iterator
from threading import Thread
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric

from cloop import Loop

__all__ = ("LoopCollector", "register", "serve")

class LoopCollector:
    def __init__(self, loop: Loop | None = None, *, name: str = "main", prefix: str = "cloop") -> None: ...
    def describe(self) -> list[Metric]: ...
    def collect(self) -> Iterator[Metric]: ...

def register(
    loop: Loop | None = None, *, name: str = "main", prefix: str = "cloop", registry: CollectorRegistry = ...
) -> LoopCollector: ...
def serve(
    port: int,
    addr: str = "127.0.0.1",
    *,
    loop: Loop | None = None,
    name: str = "main",
    prefix: str = "cloop",
    registry: CollectorRegistry = ...,
) -> tuple[WSGIServer, Thread]: ...
