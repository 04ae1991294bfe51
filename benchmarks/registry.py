"""The rows of the benchmark table, and the decorator that adds one."""

from __future__ import annotations

import contextlib
import importlib
import inspect
from dataclasses import dataclass
from typing import Any, Callable, Dict, Optional, Tuple

# The order of the table. A family is a module of benchmarks/rows; a new one is
# written there and named here.
FAMILIES = (
    "scheduling",
    "timers",
    "tasks",
    "sync",
    "sizes",
    "running",
    "system",
    "net",
    "echo",
    "clients",
    "tls",
    "http",
    "services",
    "scaling",
    "processes",
    "metrics",
)

#: Stands where a loop's name does, for the same work done in plain C.
FLOOR = "floor"

_benchmarks: Dict[str, Benchmark] = {}


class Skip(Exception):
    """A row cannot be measured here; the message says why."""


def require(package: str) -> Any:
    """That package, or a reason to skip the row."""
    try:
        return importlib.import_module(package)
    except ImportError as exc:
        raise Skip("{} cannot be imported: {}".format(package, exc)) from None


@dataclass(frozen=True)
class Benchmark:
    """One row: how to run it, and how to read its figure."""

    name: str
    #: run(loop, n) or run(loop, n, fixture): performs n operations. A coroutine
    #: function is driven by the loop under test, any other one is just called.
    run: Callable[..., Any]
    #: What one operation is, in a line.
    operation: str
    #: Context manager function of the loop, open around all samples and outside
    #: the clock; what it yields is the third argument of run.
    fixture: Optional[Callable[[Any], Any]]
    #: n is always a multiple of this.
    batch: int
    #: "cpu": nanoseconds of CPU per operation. "wall": microseconds of wall time.
    #: "memory": KiB per operation, which run returns; "told": nanoseconds of CPU, likewise.
    #: "late": microseconds, of which run returns percentiles in nanoseconds, as the load generator does.
    #: run of the last three is called once, with n as large as the batch.
    metric: str
    #: Taken off each wall figure, so that it shows only what the loop adds.
    ideal_us: float
    #: The first Python that has what the row exercises.
    since: Tuple[int, int]
    #: The ratio uvloop/cloop that cloop aims at; None where it has no aim.
    reach: Optional[float]
    #: The most that the figure itself is to be, in place of a ratio.
    at_most: Optional[float]
    #: Whether a load generator tells how many operations a second there were, and how long each took.
    rate: bool
    #: Context manager function that yields run(n) and cpu_ns() of a program in C.
    floor: Optional[Callable[[], Any]]
    #: The row is one of several that differ in this only: what of, and how many.
    size: Optional[Tuple[str, int]]
    #: Whether it is measured though nobody has asked for it.
    default: bool
    #: Whether it is about the transports of TCP or TLS, which aiofastnet replaces.
    transports: bool
    #: A server that it talks to, of servers.py, which outlives the workers.
    beside: Optional[str]

    def about(self) -> Dict[str, Any]:
        """What is to be known of the row to read its figures; goes into the JSON."""
        return {
            "operation": self.operation,
            "family": self.run.__module__.rpartition(".")[2],
            "metric": self.metric,
            "ideal_us": self.ideal_us,
            "reach": self.reach,
            "at_most": self.at_most,
            "rate": self.rate,
            "size": self.size,
        }

    def open_fixture(self, loop: Any) -> Any:
        """A context manager that yields the arguments of run after n."""
        if self.fixture is None:
            return contextlib.nullcontext(())
        return _as_arguments(self.fixture, loop)


@contextlib.contextmanager
def _as_arguments(fixture: Callable[[Any], Any], loop: Any) -> Any:
    with fixture(loop) as value:
        yield (value,)


def benchmark(
    *,
    fixture: Optional[Callable[[Any], Any]] = None,
    batch: int = 1,
    metric: str = "cpu",
    ideal_us: float = 0.0,
    since: Tuple[int, int] = (3, 8),
    reach: Optional[float] = None,
    at_most: Optional[float] = None,
    rate: bool = False,
    floor: Optional[Callable[[], Any]] = None,
    size: Optional[Tuple[str, int]] = None,
    default: bool = True,
    transports: bool = False,
    beside: Optional[str] = None,
    name: Optional[str] = None,
    operation: Optional[str] = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function as the row of that name.

    `name` and `operation` stand for the function's name and docstring, for rows that are made in a loop.
    """

    def register(run: Callable[..., Any]) -> Callable[..., Any]:
        called = name or run.__name__
        if called in _benchmarks:
            raise ValueError("two benchmarks are called " + called)
        does = operation or inspect.getdoc(run)
        if not does:
            raise ValueError(called + " does not say what one operation is")
        _benchmarks[called] = Benchmark(
            called, run, does, fixture, batch, metric, ideal_us, since, reach, at_most, rate, floor, size, default,
            transports, beside,
        )  # fmt: skip
        return run

    return register


def load() -> Dict[str, Benchmark]:
    """All benchmarks by name, in the order of the table."""
    for family in FAMILIES:
        importlib.import_module("benchmarks.rows." + family)
    return _benchmarks
