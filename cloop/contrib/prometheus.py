"""loop.metrics() for Prometheus: a collector for prometheus_client, and a server in one line.

    cloop.contrib.prometheus.serve(9100)

docs/metrics.md lists the names, and rules for alerts.
"""

import asyncio
import weakref

from prometheus_client import REGISTRY, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

__all__ = ("LoopCollector", "register", "serve")

_NS = 1e-9

# attribute of cloop.Metrics, name, help. A name that ends in _seconds is converted from nanoseconds.
_COUNTERS = (
    ("busy_ns", "busy_seconds", "Time that the loop ran and did not sleep."),
    ("idle_ns", "idle_seconds", "Time that the loop slept in the poller."),
    ("turns", "turns", "Turns of the loop."),
    ("polls", "polls", "Turns that asked the poller."),
    ("events", "events", "Descriptors that the poller reported."),
    ("callbacks", "callbacks", "Callbacks and task steps that were run."),
    ("task_steps", "task_steps", "Task steps that were run."),
    ("threadsafe", "threadsafe_calls", "Callbacks scheduled from other threads."),
    ("timers_made", "timers_made", "Timers that were set."),
    ("timers_cancelled", "timers_cancelled", "Timers cancelled before they were due."),
    ("tasks_made", "tasks_made", "Tasks created."),
    ("tasks_done", "tasks_done", "Tasks that are done, in whichever way."),
    ("tasks_failed", "tasks_failed", "Tasks that raised an exception."),
    ("tasks_cancelled", "tasks_cancelled", "Tasks that were cancelled."),
    ("accepted", "connections_accepted", "Connections accepted."),
    ("connected", "connections_made", "Connections made."),
    ("connect_failed", "connections_failed", "Connections that could not be made."),
    ("bytes_in", "received_bytes", "Bytes received."),
    ("bytes_out", "sent_bytes", "Bytes sent."),
    ("reads", "receive_calls", "System calls that receive."),
    ("writes", "send_calls", "System calls that send."),
    ("writing_paused", "writing_paused", "Calls of pause_writing()."),
    ("accept_pauses", "accept_pauses", "Pauses of servers that were out of descriptors."),
    ("tls_handshakes", "tls_handshakes", "TLS handshakes done."),
    ("tls_handshakes_failed", "tls_handshakes_failed", "TLS handshakes that failed."),
    ("children_made", "children_made", "Child processes started."),
    ("lost", "lost", "Callbacks, timers and tasks that were dropped unfinished."),
)
_GAUGES = (
    ("ready", "ready", "Callbacks that are ready."),
    ("ready_max", "ready_max", "The most that were ready when a turn began."),
    ("timers_pending", "timers_pending", "Timers that are set."),
    ("lateness_max_ns", "timer_lateness_max_seconds", "By how much a timer was late at most."),
    ("tasks_alive", "tasks_alive", "Tasks that are not done."),
    ("write_buffered", "write_buffered_bytes", "Bytes in write buffers."),
    ("children", "children", "Child processes that run."),
    ("executor_running", "executor_running", "Jobs of run_in_executor() that run."),
    ("executor_waiting", "executor_waiting", "Jobs of run_in_executor() that wait for a thread."),
)
_HISTOGRAMS = (
    ("lateness", "timer_lateness_seconds", "By how much timers were late."),
    ("turn_time", "turn_seconds", "How long turns took, without sleep."),
    ("callback_time", "callback_seconds", "How long callbacks and task steps took: a sample."),
)
# Shorter times than 2**10 ns share a bucket; the last one of cloop.Histogram is +Inf here.
_FIRST_BUCKET = 9


class LoopCollector:
    """Collects the metrics of one loop, by the name that is given, for a registry of prometheus_client.

    loop is a cloop.Loop, by default the running one. It is not kept alive; once it is gone, nothing is collected.
    Raises TypeError for a loop that is not cloop's.
    """

    def __init__(self, loop=None, *, name="main", prefix="cloop"):
        if loop is None:
            loop = asyncio.get_running_loop()
        if not hasattr(loop, "metrics"):
            raise TypeError("%r is not a cloop.Loop" % (loop,))
        self._loop = weakref.ref(loop)
        self._name = name
        self._prefix = prefix

    def describe(self):
        """Nothing: a registry need not collect to know the names."""
        return []

    def collect(self):
        """Yield the families of prometheus_client. In any thread: it does not wait for the loop."""
        loop = self._loop()
        if loop is None:
            return
        reading = loop.metrics()
        for families, kind in (_COUNTERS, CounterMetricFamily), (_GAUGES, GaugeMetricFamily):
            for attribute, name, text in families:
                value = getattr(reading, attribute)
                yield self._family(kind, name, text, value * _NS if attribute.endswith("_ns") else value)
        connections = GaugeMetricFamily(self._prefix + "_connections", "Open transports.", labels=["loop", "kind"])
        for which, count in reading.connections.items():
            connections.add_metric([self._name, which], count)
        yield connections
        for attribute, name, text in _HISTOGRAMS:
            histogram = getattr(reading, attribute)
            family = HistogramMetricFamily("%s_%s" % (self._prefix, name), text, labels=["loop"])
            family.add_metric([self._name], _buckets(histogram), sum_value=histogram.sum * _NS)
            yield family

    def _family(self, kind, name, text, value):
        family = kind("%s_%s" % (self._prefix, name), text, labels=["loop"])
        family.add_metric([self._name], value)
        return family


def _buckets(histogram):
    """Return (upper bound in seconds, how many up to there) as prometheus_client takes them."""
    counts = histogram.counts
    total = sum(counts[:_FIRST_BUCKET])
    buckets = []
    for n in range(_FIRST_BUCKET, len(counts) - 1):
        total += counts[n]
        buckets.append((repr(2 ** (n + 1) * _NS), total))
    buckets.append(("+Inf", total + counts[-1]))
    return buckets


def register(loop=None, *, name="main", prefix="cloop", registry=REGISTRY):
    """Add a loop's metrics to the registry; return the LoopCollector, for registry.unregister()."""
    collector = LoopCollector(loop, name=name, prefix=prefix)
    registry.register(collector)
    return collector


def serve(port, addr="127.0.0.1", *, loop=None, name="main", prefix="cloop", registry=REGISTRY):
    """Serve the loop's metrics, and all else in the registry, at http://addr:port/metrics.

    A thread answers, so a loop that is blocked shows as such. Returns (server, thread) as
    prometheus_client.start_http_server() does; server.shutdown() ends it. Releases before 0.19 return None.
    """
    collector = LoopCollector(loop, name=name, prefix=prefix)
    served = start_http_server(port, addr, registry)  # first: if the port is taken, nothing is registered
    registry.register(collector)
    return served
