"""What `python -m cloop --metrics PROGRAM` prints at the end."""

import atexit
import os
import sys
import weakref

from . import _loop

__all__ = ("at_exit", "summary")


def at_exit():
    """Print a summary of each loop of this process when it ends."""
    report = _loop.report = Report()
    atexit.register(report.write)


class Report:
    def __init__(self):
        self.pid = os.getpid()
        self.open = weakref.WeakSet()
        self.readings = []  # of loops that were closed

    def made(self, loop):
        self.open.add(loop)

    def closed(self, loop):
        self.open.discard(loop)
        self.readings.append(loop.metrics())

    def write(self):
        if os.getpid() != self.pid or sys.stderr is None:
            return
        readings = self.readings + [loop.metrics() for loop in self.open]
        ran = [reading for reading in readings if reading.turns] or readings[:1]
        for reading in ran:
            print(summary(reading), file=sys.stderr, flush=True)


def summary(reading):
    """Return the lines that describe a reading."""
    busy, idle = reading.busy_ns, reading.idle_ns
    lines = [
        (
            "loop",
            "ran for %s, busy for %s: %.1f %%" % (duration(busy + idle), duration(busy), 100 * reading.utilization),
        ),
        (
            "turns",
            "%s, %s polls, %s events; %s"
            % (number(reading.turns), number(reading.polls), number(reading.events), spread(reading.turn_time)),
        ),
        (
            "callbacks",
            "%s, %s of them task steps, %s from other threads; %s; at most %s ready"
            % (
                number(reading.callbacks),
                number(reading.task_steps),
                number(reading.threadsafe),
                spread(reading.callback_time),
                number(reading.ready_max),
            ),
        ),
        (
            "timers",
            "%s made, %s fired, %s cancelled; late: %s, at most %s"
            % (
                number(reading.timers_made),
                number(reading.timers_fired),
                number(reading.timers_cancelled),
                spread(reading.lateness),
                duration(reading.lateness_max_ns),
            ),
        ),
        (
            "tasks",
            "%s made, %s failed, %s cancelled, %s not done"
            % (
                number(reading.tasks_made),
                number(reading.tasks_failed),
                number(reading.tasks_cancelled),
                number(reading.tasks_alive),
            ),
        ),
        (
            "network",
            "%s accepted, %s made, %s failed; %s in by %s calls, %s out by %s"
            % (
                number(reading.accepted),
                number(reading.connected),
                number(reading.connect_failed),
                size(reading.bytes_in),
                number(reading.reads),
                size(reading.bytes_out),
                number(reading.writes),
            ),
        ),
        (
            "pressure",
            "writing paused %s times, accepting %s times; %s lost"
            % (number(reading.writing_paused), number(reading.accept_pauses), number(reading.lost)),
        ),
    ]
    if reading.tls_handshakes or reading.tls_handshakes_failed:
        lines.append(
            (
                "TLS",
                "%s handshakes, %s failed" % (number(reading.tls_handshakes), number(reading.tls_handshakes_failed)),
            )
        )
    if reading.children_made:
        lines.append(("children", "%s started, %s run" % (number(reading.children_made), number(reading.children))))
    return "\n".join("cloop: %-10s %s" % line for line in lines)


def number(count):
    return "{:,}".format(count)


def duration(ns):
    """Return a time with its unit: three digits say enough."""
    for unit, limit in (("ns", 1e3), ("us", 1e6), ("ms", 1e9)):
        if ns < limit:
            return "%.3g %s" % (ns / (limit / 1e3), unit)
    return "%.1f s" % (ns / 1e9)


def size(count):
    units = ["TiB", "GiB", "MiB", "KiB", "bytes"]
    while count >= 1024 and len(units) > 1:
        count /= 1024
        units.pop()
    unit = units[-1]
    return "%s %s" % ("%d" % count if unit == "bytes" else "%.1f" % count, unit)


def spread(histogram):
    """Return the quantiles of a histogram; its buckets are powers of two, so they are rough."""
    if not histogram.count:
        return "none timed"
    return "median %s, 99 %% within %s" % (duration(histogram.quantile(0.5)), duration(histogram.quantile(0.99)))
