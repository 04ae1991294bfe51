"""loop.metrics() for OpenTelemetry: instruments that are read when a reader collects.

    cloop.contrib.opentelemetry.instrument()

No semantic conventions exist for Python's event loops. The instruments are named after those for Node.js
(nodejs.eventloop.*), with the same units and meanings; attributes are those of the conventions (network.transport,
network.io.direction). docs/metrics.md lists them.
"""

import asyncio
import weakref

from opentelemetry import metrics
from opentelemetry.metrics import Observation

from .._version import __version__

__all__ = ("instrument",)

_NS = 1e-9

# instrument, unit, description, then pairs of an attribute of cloop.Metrics and the attributes of the observation
_COUNTERS = (
    (
        "cloop.eventloop.time",
        "s",
        "Time that the loop was in each state.",
        [("busy_ns", {"cloop.eventloop.state": "active"}), ("idle_ns", {"cloop.eventloop.state": "idle"})],
    ),
    ("cloop.eventloop.turns", "{turn}", "Turns of the loop.", [("turns", {})]),
    ("cloop.eventloop.polls", "{poll}", "Turns that asked the poller.", [("polls", {})]),
    ("cloop.eventloop.events", "{event}", "Descriptors that the poller reported.", [("events", {})]),
    ("cloop.eventloop.callbacks", "{callback}", "Callbacks and task steps that were run.", [("callbacks", {})]),
    ("cloop.eventloop.task_steps", "{step}", "Task steps that were run.", [("task_steps", {})]),
    ("cloop.eventloop.threadsafe_calls", "{call}", "Callbacks scheduled from other threads.", [("threadsafe", {})]),
    ("cloop.eventloop.lost", "{item}", "Callbacks, timers and tasks dropped unfinished.", [("lost", {})]),
    ("cloop.timers.created", "{timer}", "Timers that were set.", [("timers_made", {})]),
    ("cloop.timers.cancelled", "{timer}", "Timers cancelled before they were due.", [("timers_cancelled", {})]),
    ("cloop.timers.fired", "{timer}", "Timers that came due.", [("timers_fired", {})]),
    ("cloop.tasks.created", "{task}", "Tasks created.", [("tasks_made", {})]),
    ("cloop.tasks.finished", "{task}", "Tasks that are done, in whichever way.", [("tasks_done", {})]),
    ("cloop.tasks.failed", "{task}", "Tasks that raised an exception.", [("tasks_failed", {})]),
    ("cloop.tasks.cancelled", "{task}", "Tasks that were cancelled.", [("tasks_cancelled", {})]),
    (
        "cloop.network.io",
        "By",
        "Bytes received and sent.",
        [
            ("bytes_in", {"network.io.direction": "receive"}),
            ("bytes_out", {"network.io.direction": "transmit"}),
        ],
    ),
    (
        "cloop.network.calls",
        "{call}",
        "System calls that receive and send.",
        [("reads", {"network.io.direction": "receive"}), ("writes", {"network.io.direction": "transmit"})],
    ),
    ("cloop.connections.accepted", "{connection}", "Connections accepted.", [("accepted", {})]),
    ("cloop.connections.created", "{connection}", "Connections made.", [("connected", {})]),
    ("cloop.connections.failed", "{connection}", "Connections that could not be made.", [("connect_failed", {})]),
    ("cloop.network.pauses", "{pause}", "Calls of pause_writing().", [("writing_paused", {})]),
    ("cloop.accept.pauses", "{pause}", "Pauses of servers out of descriptors.", [("accept_pauses", {})]),
    ("cloop.tls.handshakes", "{handshake}", "TLS handshakes done.", [("tls_handshakes", {})]),
    ("cloop.tls.handshakes.failed", "{handshake}", "TLS handshakes that failed.", [("tls_handshakes_failed", {})]),
    ("cloop.children.created", "{process}", "Child processes started.", [("children_made", {})]),
)
_GAUGES = (
    ("cloop.eventloop.ready", "{callback}", "Callbacks that are ready.", [("ready", {})]),
    ("cloop.timers.pending", "{timer}", "Timers that are set.", [("timers_pending", {})]),
    ("cloop.tasks.alive", "{task}", "Tasks that are not done.", [("tasks_alive", {})]),
    ("cloop.network.buffered", "By", "Bytes in write buffers.", [("write_buffered", {})]),
    ("cloop.children.alive", "{process}", "Child processes that run.", [("children", {})]),
    (
        "cloop.executor.jobs",
        "{job}",
        "Jobs of run_in_executor().",
        [
            ("executor_running", {"cloop.executor.state": "running"}),
            ("executor_waiting", {"cloop.executor.state": "waiting"}),
        ],
    ),
)
_DELAYS = (
    ("cloop.eventloop.delay", "lateness", "by which timers were late"),
    ("cloop.eventloop.turn", "turn_time", "that turns took, without sleep"),
    ("cloop.eventloop.callback", "callback_time", "that callbacks and task steps took"),
)
_QUANTILES = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99))


def instrument(loop=None, *, meter_provider=None, attributes=None):
    """Create instruments for a loop's metrics.

    loop is a cloop.Loop, by default the running one. It is not kept alive; once it is gone, nothing is observed.
    meter_provider is the global one if None. attributes are added to each observation, for example to tell loops
    apart. Times are those since the last collection. Call it once for each loop. Raises TypeError for a loop that is
    not cloop's.
    """
    if loop is None:
        loop = asyncio.get_running_loop()
    if not hasattr(loop, "metrics"):
        raise TypeError("%r is not a cloop.Loop" % (loop,))
    meter = metrics.get_meter("cloop", __version__, meter_provider)
    alive = weakref.ref(loop)
    common = dict(attributes or {})

    def observe(pairs):
        def callback(options):
            loop = alive()
            if loop is None:
                return
            reading = loop.metrics()
            for name, own in pairs:
                value = getattr(reading, name)
                yield Observation(value * _NS if name.endswith("_ns") else value, {**common, **own})

        return [callback]

    for name, unit, description, pairs in _COUNTERS:
        meter.create_observable_counter(name, observe(pairs), unit, description)
    for name, unit, description, pairs in _GAUGES:
        meter.create_observable_up_down_counter(name, observe(pairs), unit, description)

    def connections(options):
        loop = alive()
        if loop is not None:
            for kind, count in loop.metrics().connections.items():
                yield Observation(count, {**common, "network.transport": kind})

    meter.create_observable_up_down_counter("cloop.connections.open", [connections], "{connection}", "Open transports.")

    def since_last(last, take):
        def callback(options):
            nonlocal last
            loop = alive()
            if loop is None:
                return
            before, last = last, loop.metrics()
            yield Observation(take(last - before), common)

        return [callback]

    share = since_last(loop.metrics(), lambda change: change.utilization)
    meter.create_observable_gauge(
        "cloop.eventloop.utilization", share, "1", "The share of time that the loop was busy."
    )
    for prefix, histogram, what in _DELAYS:
        for suffix, q in _QUANTILES:
            name, text = "%s.%s" % (prefix, suffix), "Time %s: %s." % (what, suffix)
            meter.create_observable_gauge(name, since_last(loop.metrics(), _quantile(histogram, q)), "s", text)


def _quantile(histogram, q):
    return lambda change: getattr(change, histogram).quantile(q) * _NS
