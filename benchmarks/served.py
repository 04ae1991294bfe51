"""Rows that are servers (or clients) of a C program on another core."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import resource
from typing import Any, Callable, Dict, Iterator, Optional, Tuple

from benchmarks import load
from benchmarks.memory import resident_mib
from benchmarks.registry import Skip, benchmark, require


def exchange(connections: int, size: int, depth: int = 1) -> Tuple[Any, ...]:
    """Messages of that size, which come back; each connection sends `depth` at once."""
    return "exchange", connections, size, depth


async def _cancel_others() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _context(pem: str, tls12: bool) -> Any:
    """For a server with that certificate, as an application has it by default."""
    ssl = require("ssl")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem)
    if tls12:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


@contextlib.contextmanager
def _serving(serve: Callable[..., Any], kind: str, loop: Any, tls12: bool = False) -> Iterator[str]:
    """The address of the server that `serve` starts on the loop."""
    # Until a process has freed a large block, glibc maps and unmaps each large
    # receive buffer, which costs four times an echo. Programs that have run for
    # a while are past that; some loops avoid it, which is not to be their lead.
    bytearray(2**20)
    with load.listener(kind) as sock, load.certificate(kind) as pem:
        address = load.address_of(kind, sock)  # a loop may take the socket over
        # Nobody but us keeps a server alive.
        server = loop.run_until_complete(serve(loop, sock) if pem is None else serve(loop, sock, _context(pem, tls12)))
        try:
            yield address
        finally:
            loop.run_until_complete(_cancel_others())
            del server


def served(
    mode: str,
    *args: Any,
    kind: str = "tcp",
    floor: Optional[str] = None,
    batch: int = 1,
    reach: Optional[float] = None,
    tls12: bool = False,
    resumes: bool = False,
    **options: Any,
) -> Callable[[Callable[..., Any]], Any]:
    """Make a row of a coroutine function that starts a server on the socket it is given.

    That of the kind "tls" is given an SSLContext, too; with `tls12` it has no newer version, with `resumes`
    the load resumes its sessions. client.c has the modes of the load, server.c those of the floor.
    """
    for_load = {"LOAD_RESUME": "1"} if resumes else None
    for_floor = {"LOAD_TLS12": "1"} if tls12 else None

    def register(serve: Callable[..., Any]) -> Any:
        @contextlib.contextmanager
        def fixture(loop: Any) -> Iterator[load.Client]:
            _, core = load.pin()
            with _serving(serve, kind, loop, tls12) as address:
                with load.client(mode, address, *args, core=core, env=for_load) as client:
                    loop.run_until_complete(client.wait(loop))
                    yield client

        @contextlib.contextmanager
        def on_floor() -> Iterator[Any]:
            core, load_core = load.pin()
            with contextlib.ExitStack() as stack:
                sock = stack.enter_context(load.listener(kind))
                pem = stack.enter_context(load.certificate(kind))
                server = stack.enter_context(load.server(floor, sock, core=core, pem=pem, env=for_floor))
                address = load.address_of(kind, sock)
                with load.client(mode, address, *args, core=load_core, env=for_load) as client:
                    client.wait_blocking()
                    yield client.run_blocking, server.cpu_ns

        @benchmark(
            fixture=fixture,
            floor=on_floor if floor else None,
            batch=batch,
            reach=reach,
            rate=True,
            transports=kind in ("tcp", "tls"),
            **options,
        )
        @functools.wraps(serve)
        async def run(loop: Any, n: int, client: load.Client) -> Dict[str, Any]:
            return await client.run(loop, n)

        return run

    return register


def held(
    connections: int, *, kind: str = "tcp", at_most: Optional[float] = None
) -> Callable[[Callable[..., Any]], Any]:
    """Make a memory row of a function as `served` takes: KiB per idle connection."""

    def register(serve: Callable[..., Any]) -> Any:
        @contextlib.contextmanager
        def fixture(loop: Any) -> Iterator[Tuple[str, int]]:
            most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            if most < connections + 200:
                raise Skip("no more than {} descriptors are allowed".format(most))
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
            _, core = load.pin()
            with _serving(serve, kind, loop) as address:
                yield address, core

        @benchmark(fixture=fixture, metric="memory", batch=connections, at_most=at_most, transports=True)
        @functools.wraps(serve)
        async def run(loop: Any, n: int, place: Tuple[str, int]) -> float:
            address, core = place
            # What the first connections allocate for good is not held by the rest.
            with load.client("exchange", address, 100, 64, 1, core=core) as few:
                await few.wait(loop)
                gc.collect()
                before = resident_mib()
                with load.client("exchange", address, n, 64, 1, core=core) as many:
                    await many.wait(loop)
                    gc.collect()
                    return (resident_mib() - before) * 1024 / n

        return run

    return register
