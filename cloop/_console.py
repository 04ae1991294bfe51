"""python -m cloop top, ps and pstree: what the loops of other processes are doing.

They ask the monitor of the process (cloop/_monitor.py). top draws with rich if that is installed, else by itself. What
is shown is computed once, as a Screen, for both.
"""

import argparse
import json
import linecache
import os
import select
import shutil
import signal
import sys
import time

from . import _monitor, _tasks
from ._system import is_running

__all__ = ("main",)

INTERVAL_S = 1.0
ONCE_S = 0.5  # between the two readings of --once
TASKS_SHOWN = 500
ANSWER_LIMIT_S = 1.0  # for top, which asks again
RESCAN = 5  # readings, after which top looks for processes that have started

KEYS = {
    "loops": "q quit  Up/Down choose  Enter tasks  w where  c slowest  b blocks  p pause",
    "tasks": "q quit  Esc back  Enter stack  w where  s sort: {sort}  / filter  p pause",
    "places": "q quit  Esc back  Enter its tasks  t tasks  / filter  p pause",
    "slowest": "q quit  Esc back  t tasks  b blocks  s sort: {sort}  p pause",
    "blocks": "q quit  Esc back  t tasks  w where they wait  p pause",
    "task": "q quit  Esc back  Up/Down scroll  p pause",
}


def main(command, arguments):
    """Run `python -m cloop COMMAND ARGUMENTS`; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m cloop " + command,
        description={
            "top": "Show the loops of running processes live.",
            "ps": "List the tasks of a process, what they wait for, and which tasks wait for them.",
            "pstree": "Show the tasks of a process as a tree: below each task, those that it waits for.",
        }[command],
        epilog="The process must serve a monitor: start it with CLOOP_MONITOR=1, or call cloop.serve_monitor() in it.",
    )
    optional = {"nargs": "?"} if command == "top" else {}
    parser.add_argument("pid", metavar="PID", help="process number, or the path of a monitor's socket", **optional)
    parser.add_argument("--json", action="store_true", help="print JSON")
    if command == "top":
        parser.add_argument("--once", action="store_true", help="print once, without colours, and exit")
        parser.add_argument(
            "--interval", type=float, default=INTERVAL_S, metavar="S", help="seconds between two readings"
        )
        parser.add_argument("--plain", action="store_true", help="do not use rich")
    options = parser.parse_args(arguments)
    try:
        if command == "ps":
            return ps(options)
        if command == "pstree":
            return pstree(options)
        return top(options)
    except (OSError, ValueError) as error:
        text = error.strerror or error if isinstance(error, OSError) else error
        print("cloop: %s" % clean(str(text)), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


# Processes


class Source:
    """A connection to the monitor of one process.

    limit: how many seconds an answer may take. counts: whether single tasks and slow callbacks are to be counted as
    long as it lasts.
    """

    def __init__(self, path, limit=None, counts=False):
        self.path, self.limit, self.counts = path, limit, counts
        self.sock = self.hello = self.pid = None
        self.error = None
        self.ask()

    def connect(self):
        self.sock = _monitor.connect(self.path) if self.limit is None else _monitor.connect(self.path, self.limit)
        self.hello = _monitor.ask(self.sock, "hello")
        if self.counts:
            try:
                _monitor.ask(self.sock, "count")
            except ValueError:
                pass  # an older cloop
        if self.hello["pid"] != self.pid:  # another process may serve at a path that was given
            self.pid = self.hello["pid"]
            self.previous = self.latest = None
            self.beats = {}  # {loop: (beat, since)}

    def ask(self, do=None, **question):
        """Ask the process, or only see that there is a connection. Raises OSError, or ValueError if the answer is an error."""
        try:
            if self.sock is None:
                self.connect()
            return do and _monitor.ask(self.sock, do, **question)
        except (OSError, ValueError):
            self.close()  # an answer that still comes is none to the next question
            raise

    def read(self):
        """Take a reading. If that fails, `error` says why."""
        try:
            reading = self.ask("loops")
        except (OSError, ValueError) as error:
            self.error = "ended" if has_ended(error) else "no answer"
            return
        self.error = None
        self.previous, self.latest = self.latest, reading
        for loop in reading["loops"]:
            beat, since = self.beats.get(loop["id"], (None, None))
            if beat != loop["beat"] or loop["state"] not in ("runs", "waits"):
                self.beats[loop["id"]] = loop["beat"], reading["now"]

    def close(self):
        sock, self.sock = self.sock, None
        if sock is not None:
            sock.close()


def has_ended(error):
    """Whether nobody serves any more, after this error of Source.ask()."""
    return isinstance(error, (ConnectionError, FileNotFoundError))


def new_sources(known=(), limit=None, counts=False):
    """Yield sources of the processes that are not known."""
    paths = [source.path for source in known]
    for _, path in sorted(_monitor.paths().items()):
        if path not in paths:
            try:
                yield Source(path, limit, counts)
            except (OSError, ValueError):
                pass  # it has just ended, or does not answer now


def open_sources(wanted, limit=None, counts=False):
    """Return the sources: of the process or path that is wanted, or of all. Raises OSError or ValueError."""
    if wanted is None:
        found = list(new_sources(limit=limit, counts=counts))
        if not found:
            complain_of_folders()
            raise ValueError("no process serves a monitor: start one with CLOOP_MONITOR=1")
        return found
    if not wanted.isdecimal():
        return [Source(wanted, limit, counts)]
    path = _monitor.paths().get(int(wanted))
    if path is None:
        complain_of_folders()
        if not is_running(int(wanted)):
            raise ValueError("there is no process %s" % wanted)
        raise ValueError("process %s serves no monitor to this user: start it with CLOOP_MONITOR=1" % wanted)
    return [Source(path, limit, counts)]


def complain_of_folders():
    for path in _monitor.refused_folders():
        raise ValueError("%s is not a directory of this user alone (mode 0700)" % path)


# ps, pstree


def ps(options):
    (source,) = open_sources(options.pid)
    rows = source.ask("tasks", most=10**9)["tasks"]
    if options.json:
        print(json.dumps(rows))
        return 0
    columns = [("TASK", "<"), ("COROUTINE", "<"), ("WAITS FOR", "<"), ("WHERE", "<"), ("AWAITED BY", "<")]
    lines = [
        [row["name"], row["coro"], row["waits"], short(row["where"]), ", ".join(row["awaited_by"]) or "-"]
        for row in rows
    ]
    print("\n".join(format_table(columns, lines)))
    return 0


def pstree(options):
    (source,) = open_sources(options.pid)
    rows = source.ask("tree")["tasks"]
    print(json.dumps(rows) if options.json else "\n".join(map(clean, _tasks.render_tree(rows))))
    return 0


# Texts


def clean(text):
    """Escape what a terminal would act on, or can't show. Every text of another process must pass through it."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def short(where):
    """Shorten the file in "function file:line" to its last two parts."""
    if not where:
        return "-"
    name, _, place = where.partition(" ")
    return name + " " + "/".join(place.split("/")[-2:])


def file_and_line(row):
    """The place of a slow callback, as short() shortens it."""
    return "-" if not row["file"] else "%s:%s" % ("/".join(row["file"].split("/")[-2:]), row["line"])


def number(value):
    """Format a count or rate in at most five characters."""
    if value is None:
        return "-"
    for unit in ("", "k", "M", "G", "T"):
        if abs(value) < 1000 or unit == "T":
            break
        value /= 1000.0
    return "%d%s" % (round(value), unit) if unit == "" or value >= 100 else "%.1f%s" % (value, unit)


def seconds(value):
    if value is None:
        return "-"
    if value < 1e-3:
        return "%dus" % round(value * 1e6)
    if value < 1:
        return "%dms" % round(value * 1e3)
    if value < 600:
        return "%.1fs" % value
    return "%dm" % (value / 60) if value < 36000 else "%dh" % (value / 3600)


def quantile(counts, share):
    """The upper end of the bucket that this share of all is in or below, in seconds; bucket n is from 2**n ns."""
    rank, below = share * sum(counts), 0
    for n, count in enumerate(counts):
        below += count
        if count and below >= rank:
            return 2.0 ** (n + 1) / 1e9
    return 0.0


def pairs(texts):
    for n in range(0, len(texts), 2):
        yield "  ".join(texts[n : n + 2])


def format_table(columns, rows, width=None):
    """Return the lines of a table. Columns are (title, "<" or ">"); from the right, those that do not fit are cut."""
    cells = [[title for title, _ in columns]] + [[clean(str(cell)) for cell in row] for row in rows]
    widths = [max(len(row[n]) for row in cells) for n in range(len(columns))]
    lines = []
    for row in cells:
        parts = [
            cell.rjust(size) if align == ">" else cell.ljust(size)
            for cell, size, (_, align) in zip(row, widths, columns)
        ]
        lines.append("  ".join(parts).rstrip() if width is None else " ".join(parts)[:width].rstrip())
    return lines


# What is shown


class Screen:
    """title: a line. columns, rows, selected: a table. text: lines that are shown instead of a table, or below it."""

    def __init__(self, title, columns=(), rows=(), selected=None, text=(), keys=""):
        self.title, self.columns = clean(title), list(columns)
        self.rows = [[clean(str(cell)) for cell in row] for row in rows]
        self.selected, self.text, self.keys = selected, [clean(line) for line in text], keys


def metric(loop, *names):
    """The first of the metrics that the process has; None without one."""
    for name in names:
        value = loop["metrics"].get(name)
        if isinstance(value, dict):  # connections by kind; TLS is on one of the others
            return sum(each for kind, each in value.items() if kind not in ("tls", "child"))
        if isinstance(value, (int, float)):
            return value
    return None


class LoopRow:
    """A loop between two readings."""

    def __init__(self, source, loop):
        self.source, self.loop = source, loop
        before = {} if source.previous is None else {each["id"]: each for each in source.previous["loops"]}
        self.before = before.get(loop["id"])
        self.elapsed = 0 if self.before is None else source.latest["now"] - source.previous["now"]

    def delta(self, *names):
        if self.before is None:
            return None
        now, then = metric(self.loop, *names), metric(self.before, *names)
        return None if now is None or then is None else now - then

    def rate(self, *names):
        change = self.delta(*names)
        return None if change is None or self.elapsed <= 0 else change / self.elapsed

    @property
    def blocked(self):
        """For how many seconds it has been found in the same callback; 0 if it is not."""
        _, since = self.source.beats.get(self.loop["id"], (None, None))
        if since is None or self.loop["state"] not in ("runs", "waits"):
            return 0
        return self.source.latest["now"] - since

    @property
    def state(self):
        if self.source.error:
            return self.source.error
        return "BLOCKED" if self.blocked else self.loop["state"]

    @property
    def utilization(self):
        busy, idle = self.delta("busy_ns"), self.delta("idle_ns")
        if busy is None or idle is None or busy + idle <= 0:
            return None
        return 100.0 * busy / (busy + idle)

    def times(self, name):
        """What half and what 99 % of these took, since the last reading, in seconds; None if there were none."""
        now, before = self.loop["metrics"].get(name), {} if self.before is None else self.before["metrics"]
        if not isinstance(now, list):
            return None
        counts = [late - early for late, early in zip(now, before.get(name) or [0] * len(now))]
        return (quantile(counts, 0.5), quantile(counts, 0.99)) if any(counts) else None

    def details(self):
        """Lines of what the table has no room for."""
        parts = []
        for title, name in ("callbacks", "callback_time"), ("turns", "turn_time"), ("timers late", "lateness"):
            found = self.times(name)
            if found is not None:
                parts.append("%s: half <%s, 99%% <%s" % (title, seconds(found[0]), seconds(found[1])))
        yield from pairs(parts)
        rates = [
            ("receives", "reads"),
            ("sends", "writes"),
            ("accepted", "accepted"),
            ("steps", "task_steps"),
            ("threadsafe", "threadsafe"),
        ]
        shown = [(title, self.rate(name)) for title, name in rates]
        if any(rate is not None for _, rate in shown):
            yield "per second: " + ", ".join("%s %s" % (title, number(rate)) for title, rate in shown)
        gauges = [
            ("buffered", "write_buffered"),
            ("paused writers", "writing_paused"),
            ("children", "children"),
            ("executor jobs", "executor_running"),
            ("waiting", "executor_waiting"),
            ("lost", "lost"),
        ]
        found = [(title, metric(self.loop, name)) for title, name in gauges]
        if any(value is not None for _, value in found):
            yield "now: " + ", ".join("%s %s" % (title, number(value)) for title, value in found)
        for row in self.loop.get("slowest", ())[:SLOWEST_SHOWN]:
            yield "slow: %s at most, %s x  %s  %s" % (
                seconds(row["max"]),
                number(row["count"]),
                row["name"].rpartition(".<locals>.")[2],
                file_and_line(row),
            )

    @property
    def lag(self):
        late, fired = self.delta("lateness_ns", "lateness_sum_ns"), self.delta("timers_fired")
        return None if late is None or not fired else late / fired / 1e9

    def cells(self):
        busy = self.utilization
        return [
            self.source.pid,
            self.state,
            "-" if busy is None else "%d%%" % round(busy),
            seconds(self.lag),
            number(self.rate("turns")),
            number(self.rate("callbacks")),
            number(metric(self.loop, "ready")),
            number(metric(self.loop, "timers_pending", "timers")),
            number(self.loop["tasks"]),
            number(metric(self.loop, "connections", "watched")),
            number(self.rate("bytes_in")),
            number(self.rate("bytes_out")),
        ]


LOOP_COLUMNS = [
    ("PID", ">"),
    ("STATE", "<"),
    ("BUSY", ">"),
    ("LAG", ">"),
    ("TURNS/s", ">"),
    ("CALLS/s", ">"),
    ("READY", ">"),
    ("TIMERS", ">"),
    ("TASKS", ">"),
    ("CONNS", ">"),
    ("IN/s", ">"),
    ("OUT/s", ">"),
]
SORTS = {
    "tasks": ("name", "coro", "waits", "where", "busy", "delay_max", "steps", "age"),
    "slowest": ("max", "total", "count"),
}
SLOWEST_SHOWN = 3  # of the chosen loop, below the table


class Model:
    """What the console shows, and what its keys change."""

    def __init__(self, sources, rescans=False):
        self.sources = sources
        self.rescans = rescans  # adds processes that start later
        self.readings = 0
        self.views = ["loops"]
        self.selected = {}  # {view: row}
        self.sorts = dict.fromkeys(SORTS, 0)
        self.filter = ""
        self.typing = None  # the filter while it is typed
        self.paused = False
        self.chosen = None  # (source, loop's id)
        self.task = None
        self.first_seen = {}
        self.rows = []  # what the rows of the table stand for
        self.answers = {}  # the last, which stay while it is paused

    @property
    def view(self):
        return self.views[-1]

    @property
    def order(self):
        """What the table of this view is sorted by; None if it is not."""
        return SORTS[self.view][self.sorts[self.view]] if self.view in SORTS else None

    def read(self):
        self.readings += 1
        if self.rescans and self.readings % RESCAN == 0:
            self.sources.extend(new_sources(list(self.sources), ANSWER_LIMIT_S, counts=True))
        for source in self.sources:
            source.read()

    # Keys

    def key(self, key):
        """Handle a key; return False to quit."""
        if self.typing is not None:
            self.type(key)
            return True
        if key == "q":
            return False
        move = {"up": -1, "k": -1, "down": 1, "j": 1, "page up": -10, "page down": 10}.get(key)
        if move is not None:
            self.selected[self.view] = max(0, self.selected.get(self.view, 0) + move)
        elif key in ("escape", "left", "backspace"):
            if len(self.views) > 1:
                self.views.pop()
        elif key in ("enter", "right"):
            self.enter()
        elif key == "p":
            self.paused = not self.paused
        elif key == "s" and self.view in SORTS:
            self.sorts[self.view] = (self.sorts[self.view] + 1) % len(SORTS[self.view])
        elif key == "/" and self.view in ("tasks", "places"):
            self.typing = self.filter
        elif key in "twcb" and len(key) == 1:
            self.choose_loop()
            if self.chosen is not None:
                self.show({"t": "tasks", "w": "places", "c": "slowest", "b": "blocks"}[key])
        return True

    def type(self, key):
        if key == "enter":
            self.filter, self.typing = self.typing, None
            self.selected[self.view] = 0
        elif key == "escape":
            self.typing = None
        elif key == "backspace":
            self.typing = self.typing[:-1]
        elif len(key) == 1 and key.isprintable():
            self.typing += key

    def show(self, view):
        if view in self.views:
            del self.views[self.views.index(view) + 1 :]
        else:
            self.views = [each for each in self.views if each == "loops"] + [view]
        self.selected.setdefault(view, 0)

    def choose_loop(self):
        if self.view == "loops":
            at = self.selected.get("loops", 0)
            if at < len(self.rows):
                self.chosen = self.rows[at].source, self.rows[at].loop["id"]

    def enter(self):
        at = self.selected.get(self.view, 0)
        if self.view == "loops":
            self.choose_loop()
            if self.chosen is not None:
                self.show("tasks")
        elif at >= len(self.rows):
            return
        elif self.view == "tasks":
            self.task = self.rows[at]["id"]
            self.views.append("task")
            self.selected["task"] = 0
        elif self.view == "places":
            self.filter = self.rows[at]["where"] or ""
            self.show("tasks")

    # Screens

    def screen(self):
        try:
            made = getattr(self, "show_" + self.view)()
        except (OSError, ValueError) as error:
            source = self.chosen[0]
            ended = has_ended(error)
            source.error = "ended" if ended else "no answer"
            text = (
                "process %d has ended" % source.pid if ended else "process %d does not answer: %s" % (source.pid, error)
            )
            self.rows = []
            made = Screen(text, text=["Its interpreter may be kept by C code."] if not ended else [])
        made.keys = (
            "filter: %s_  (Enter, Esc)" % clean(self.typing)
            if self.typing is not None
            else made.keys or KEYS[self.view].format(sort=self.order)
        )
        if self.paused:
            made.title += "  [paused]"
        return made

    def show_loops(self):
        self.rows = [
            LoopRow(source, loop) for source in self.sources if source.latest for loop in source.latest["loops"]
        ]
        alive = [source for source in self.sources if not source.error]
        title = "cloop top  %s  %d process%s, %d loop%s" % (
            time.strftime("%H:%M:%S"),
            len(alive),
            "" if len(alive) == 1 else "es",
            len(self.rows),
            "" if len(self.rows) == 1 else "s",
        )
        text = [""]
        at = self.at(len(self.rows))
        if at is not None and not self.rows[at].source.error:
            text += self.rows[at].details()
        for row in self.rows:
            if row.blocked and not row.source.error:
                text.append("%d: in the same callback for %s" % (row.source.pid, seconds(row.blocked)))
        for source in self.sources:
            if source.error:
                text.append("%d: %s" % (source.pid, "has ended" if source.error == "ended" else "does not answer"))
            else:
                text.append("%d: %s" % (source.pid, " ".join(source.hello["argv"]) or "python"))
        return Screen(title, LOOP_COLUMNS, [row.cells() for row in self.rows], at, text)

    def at(self, count):
        """The selected row, which is there."""
        self.selected[self.view] = max(0, min(self.selected.get(self.view, 0), count - 1))
        return self.selected[self.view] if count else None

    def ask(self, do, **question):
        source, loop = self.chosen
        key = (do, loop, *sorted(question.items()))
        if not (self.paused and key in self.answers):
            if not self.paused:
                self.answers.clear()
            self.answers[key] = source.ask(do, loop=loop, **question)
        return self.answers[key]

    def heading(self, what):
        text = "cloop top  %s  process %d: %s" % (time.strftime("%H:%M:%S"), self.chosen[0].pid, what)
        return text + ("  filter: " + self.filter if self.filter else "")

    def show_tasks(self):
        found = self.ask("tasks", filter=self.filter, sort=self.order, limit=TASKS_SHOWN)
        self.rows, now = found["tasks"], time.monotonic()
        for row in self.rows:
            self.first_seen.setdefault(row["id"], now)
        cells = [
            [
                row["name"],
                self.age(row, now),
                number(row.get("steps")),
                seconds(row.get("busy")),
                seconds(row.get("delay_max")),
                row["coro"].rpartition(".<locals>.")[2],
                row["waits"],
                short(row["where"]),
            ]
            for row in self.rows
        ]
        title = self.heading("%d tasks" % found["total"])
        if len(self.rows) < found["total"] and not self.filter:
            title += " (%d shown)" % len(self.rows)
        columns = [
            ("TASK", "<"),
            ("AGE", ">"),
            ("STEPS", ">"),
            ("BUSY", ">"),
            ("DELAY", ">"),
            ("COROUTINE", "<"),
            ("WAITS FOR", "<"),
            ("WHERE", "<"),
        ]
        return Screen(title, columns, cells, self.at(len(cells)))

    def age(self, row, now):
        """How old the task is, or for how long it has been seen."""
        if row.get("age") is not None:
            return seconds(row["age"])
        return ">" + seconds(now - self.first_seen[row["id"]])

    def show_slowest(self):
        found = self.ask("slowest", sort=self.order, limit=TASKS_SHOWN)
        self.rows = found["callbacks"]
        cells = [
            [
                seconds(row["max"]),
                number(row["count"]),
                seconds(row["total"]),
                row["name"].rpartition(".<locals>.")[2],
                row["kind"],
                file_and_line(row),
            ]
            for row in self.rows
        ]
        slow = found["slow"]
        what = "slow callbacks" if slow is None else "callbacks of more than %s" % seconds(slow)
        columns = [("MAX", ">"), ("COUNT", ">"), ("TOTAL", ">"), ("CALLBACK", "<"), ("KIND", "<"), ("WHERE", "<")]
        text = [] if cells else ["", "None since the console was attached."]
        return Screen(self.heading(what), columns, cells, self.at(len(cells)), text)

    def show_places(self):
        found = self.ask("places", filter=self.filter)
        self.rows = found["places"]
        cells = [[row["tasks"], row["waits"], short(row["where"])] for row in self.rows]
        columns = [("TASKS", ">"), ("WAIT FOR", "<"), ("WHERE", "<")]
        return Screen(self.heading("%d tasks" % found["total"]), columns, cells, self.at(len(cells)))

    def show_blocks(self):
        found = self.ask("blocks")
        self.rows = found["blocks"][::-1]
        cells = [
            [
                time.strftime("%H:%M:%S", time.localtime(row["at"])),
                seconds(row["seconds"]),
                row["task"] or "-",
                short(row["where"]),
            ]
            for row in self.rows
        ]
        watching = found["watching"]
        what = "blocks of more than %s" % seconds(watching) if watching else "blocks"
        text = [] if watching else ["", "The process watches for none: start it with CLOOP_WATCH=0.1."]
        columns = [("AT", "<"), ("FOR", ">"), ("TASK", "<"), ("WHERE", "<")]
        return Screen(self.heading(what), columns, cells, self.at(len(cells)), text)

    def show_task(self):
        row = self.ask("task", id=self.task)["task"]
        if row is None:
            return Screen(self.heading("the task is done"))
        lines = [row["repr"], "", "waits for: " + row["waits"]]
        if row.get("steps") is not None:
            lines.append("steps: %s, which took %s" % (number(row["steps"]), seconds(row["busy"])))
        if row.get("delay") is not None:
            lines.append(
                "waited for its turn: %s on average, %s at most, %s at last"
                % tuple(seconds(row[name]) for name in ("delay", "delay_max", "delay_last"))
            )
        lines.append("")
        for name, file, line in row["stack"]:
            lines.append('File "%s", line %d, in %s' % (file, line, name))
            source = linecache.getline(file, line).strip()
            if source:
                lines.append("  " + source)
        lines += [""] + row["chain"]
        first = min(self.selected.get("task", 0), max(0, len(lines) - 1))
        self.selected["task"] = first
        return Screen(self.heading(row["name"]), text=lines[first:])


# Drawing


def visible(screen, height):
    """Return the rows that fit, and which of them is selected."""
    room = max(1, height - 4 - (min(len(screen.text), height // 2) if screen.columns else 0))
    first = 0 if screen.selected is None else max(0, screen.selected - room + 1)
    rows = screen.rows[first : first + room]
    return rows, None if screen.selected is None else screen.selected - first


def fit(screen, rows, width):
    """Return the columns that fit in the width, each shortened if it must, and the rows without the others."""
    columns, count = screen.columns, len(screen.columns)
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max([len(columns[n][0])] + [len(row[n]) for row in cells]) for n in range(count)]
    excess = sum(widths) + count - 1 - width
    while excess > 0:  # texts are shortened, the longest first; then the last columns go
        longest = max((size, n) for n, size in enumerate(widths))
        if longest[0] <= 12 or columns[longest[1]][1] == ">":
            break
        take = min(excess, longest[0] - 12)
        widths[longest[1]] -= take
        excess -= take
    while sum(widths[:count]) + count - 1 > width and count > 1:
        count -= 1
    return columns[:count], [row[:count] for row in cells], widths[:count]


def cut(text, size):
    """Shorten a text; of a place, the end tells more."""
    return text if len(text) <= size else "~" + text[len(text) - size + 1 :]


def plain_lines(screen, width, height):
    """Return [(line, is selected)] that fill a terminal."""
    lines = [(screen.title[:width], False), ("", False)]
    if screen.columns:
        rows, selected = visible(screen, height)
        columns, rows, widths = fit(screen, rows, width)
        for n, row in enumerate([[title for title, _ in columns]] + rows):
            parts = [
                cut(cell, size).rjust(size) if align == ">" else cut(cell, size).ljust(size)
                for cell, size, (_, align) in zip(row, widths, columns)
            ]
            lines.append((" ".join(parts)[:width], selected is not None and n == selected + 1))
    lines += [(line[:width], False) for line in screen.text]
    lines = lines[: max(1, height - 1)]
    lines += [("", False)] * (height - 1 - len(lines))
    return lines + [(screen.keys[: width - 1], False)]


def draw_plain(screen, width, height):
    parts = []
    for line, selected in plain_lines(screen, width, height):
        parts.append("\x1b[7m%s\x1b[0m" % line.ljust(width) if selected else line + "\x1b[K")
    return "\x1b[H" + "\r\n".join(parts) + "\x1b[J"


def rich_screen(screen, width, height):
    """The same for rich."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    parts = [Text(screen.title[:width], style="bold"), Text("")]
    used = 2
    if screen.columns:
        rows, selected = visible(screen, height)
        columns, rows, widths = fit(screen, rows, width)
        table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold cyan")
        for (title, align), size in zip(columns, widths):
            table.add_column(title, justify="right" if align == ">" else "left", width=size, no_wrap=True)
        for n, row in enumerate(rows):
            style = "reverse" if n == selected else "bold red" if "BLOCKED" in row else None
            table.add_row(*[Text(cut(cell, size)) for cell, size in zip(row, widths)], style=style)
        parts.append(table)
        used += 1 + len(rows)
    text = screen.text[: max(0, height - used - 1)]
    parts += [Text(line[:width]) for line in text]
    parts += [Text("")] * max(0, height - used - len(text) - 1)
    parts.append(Text(screen.keys[: width - 1], style="dim"))
    return Group(*parts)


def has_rich():
    try:
        import rich.live
        import rich.table  # noqa: F401
    except ImportError:
        return False
    return True


# top


def top(options):
    if not (options.interval > 0):
        raise ValueError("the interval must be above 0")
    once = options.json or options.once or not (sys.stdout.isatty() and sys.stdin.isatty())
    sources = open_sources(options.pid, ANSWER_LIMIT_S, counts=not once)
    model = Model(sources, rescans=options.pid is None)
    try:
        if once:
            return print_once(model, options)
        return Console(model, options.interval, not options.plain and has_rich()).run()
    finally:
        for source in sources:
            source.close()


def print_once(model, options):
    model.read()
    time.sleep(min(options.interval, ONCE_S))
    model.read()
    if options.json:
        print(json.dumps([dict(source.hello, **(source.latest or {})) for source in model.sources]))
        return 0
    screen = model.screen()
    print(screen.title)
    print("\n".join(format_table(screen.columns, screen.rows)))
    print("\n".join(screen.text).rstrip())
    return 0


SEQUENCES = {
    "\x1b[A": "up",
    "\x1b[B": "down",
    "\x1b[C": "right",
    "\x1b[D": "left",
    "\x1bOA": "up",
    "\x1bOB": "down",
    "\x1bOC": "right",
    "\x1bOD": "left",
    "\x1b[5~": "page up",
    "\x1b[6~": "page down",
    "\x1b": "escape",
    "\r": "enter",
    "\n": "enter",
    "\x7f": "backspace",
    "\x08": "backspace",
}


def keys_of(data):
    """Split what a terminal sends into keys."""
    keys = []
    while data:
        for sequence in sorted(SEQUENCES, key=len, reverse=True):
            if data.startswith(sequence):
                keys.append(SEQUENCES[sequence])
                data = data[len(sequence) :]
                break
        else:
            keys.append(data[0])
            data = data[1:]
    return keys


def terminal_size(fd):
    """The terminal's own size: COLUMNS and LINES, which shutil prefers, do not change with it."""
    try:
        size = os.get_terminal_size(fd)
    except OSError:
        size = os.terminal_size((0, 0))
    return size if size.columns > 0 and size.lines > 0 else shutil.get_terminal_size()


class Console:
    """The terminal: reads keys, draws after each of them, after a reading, and when its size changes."""

    def __init__(self, model, interval, rich):
        self.model, self.interval, self.rich = model, interval, rich

    def run(self):
        import termios
        import tty

        fd = sys.stdin.fileno()
        before = termios.tcgetattr(fd)
        resized, resizing = os.pipe()
        os.set_blocking(resizing, False)
        # By the descriptor: a handler would not run if the signal came just before select() sleeps.
        woken = signal.set_wakeup_fd(resizing, warn_on_full_buffer=False)
        previous = signal.signal(signal.SIGWINCH, lambda signum, frame: None)
        try:
            tty.setcbreak(fd)
            if self.rich:
                self.run_rich(fd, resized)
            else:
                self.write("\x1b[?1049h\x1b[?25l")
                self.loop(fd, resized, lambda screen, size: self.write(draw_plain(screen, size.columns, size.lines)))
        finally:
            if not self.rich:
                self.write("\x1b[?25h\x1b[?1049l")
            signal.signal(signal.SIGWINCH, previous)
            signal.set_wakeup_fd(woken)
            termios.tcsetattr(fd, termios.TCSADRAIN, before)
            os.close(resized)
            os.close(resizing)
        return 0

    def run_rich(self, fd, resized):
        from rich.console import Console as Terminal
        from rich.live import Live

        terminal = Terminal()
        with Live(console=terminal, screen=True, auto_refresh=False) as live:

            def draw(screen, size):
                terminal.size = (size.columns, size.lines)
                live.update(rich_screen(screen, size.columns, size.lines), refresh=True)

            self.loop(fd, resized, draw)

    def write(self, text):
        sys.stdout.write(text)
        sys.stdout.flush()

    def loop(self, fd, resized, draw):
        due = 0.0
        while True:
            now = time.monotonic()
            if now >= due:
                if not self.model.paused:
                    self.model.read()
                due = time.monotonic() + self.interval
            draw(self.model.screen(), terminal_size(fd))
            ready, _, _ = select.select([fd, resized], [], [], max(0, due - time.monotonic()))
            if resized in ready:
                os.read(resized, 4096)
            if fd in ready:
                data = os.read(fd, 1024).decode("utf-8", "replace")
                if not data:  # the terminal is gone
                    return
                for key in keys_of(data):
                    if not self.model.key(key):
                        return
