"""python -m cloop top, ps and pstree: what they show of another process, and the console in a terminal."""

import fcntl
import importlib
import json
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from shlex import quote

import pytest

LIMIT_S = 30
pytestmark = pytest.mark.slow

SERVER = """
import asyncio, os, sys, time
import cloop

async def leaf():
    await asyncio.sleep(1000)

async def branch():
    await asyncio.gather(leaf(), asyncio.ensure_future(leaf()))

async def waits(event):
    await event.wait()

async def main():
    loop = asyncio.get_running_loop()
    event = asyncio.Event()
    many = [loop.create_task(waits(event)) for _ in range(int(sys.argv[1]))]
    task = loop.create_task(branch(), name="the branch")
    while True:
        await asyncio.sleep(0.01)
        if ready is not None:
            ready()
        line = await loop.run_in_executor(None, sys.stdin.readline)
        if line == "block\\n":
            time.sleep(4)
        elif line == "nap\\n":
            time.sleep(0.05)  # a nap
        else:
            os._exit(0)

def tell():
    global ready
    ready = None
    print("ready", flush=True)

ready = tell
cloop.run(main())
"""


@pytest.fixture
def runtime(tmp_path, monkeypatch):
    path = tmp_path / "run"
    path.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(path))
    return path


@pytest.fixture
def server(cloop, python, write_script, runtime):
    """Starts a process with this many tasks that wait for an event, and four others."""
    started = []

    def server(count=3):
        environment = dict(os.environ, CLOOP_MONITOR="1")
        process = python(write_script(SERVER, "server.py"), count, popen=True, stdin=subprocess.PIPE, env=environment)
        started.append(process)
        assert process.stdout.readline() == "ready\n", process.stderr.read()
        return process

    yield server
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def command(python):
    def command(*args, **options):
        done = python("-m", "cloop", *args, **options)
        assert done.returncode == 0 and done.stderr == "", done.stderr
        return done.stdout

    return command


# Once


def test_ps_lists_tasks_and_what_they_wait_for(server, command):
    lines = command("ps", server().pid).splitlines()
    assert lines[0].split() == ["TASK", "COROUTINE", "WAITS", "FOR", "WHERE", "AWAITED", "BY"]
    rows = [re.split(" {2,}", line) for line in lines[1:]]
    assert len(rows) == 7
    (branch,) = [row for row in rows if row[0] == "the branch"]
    assert branch[1:3] == ["branch", "gather of 2"] and re.fullmatch(r"branch .*/server\.py:\d+", branch[3])
    leaves = [row for row in rows if row[1] == "leaf"]
    assert [(row[2], row[4]) for row in leaves] == [("sleep", "the branch")] * 2
    assert len([row for row in rows if row[1] == "waits" and row[2].endswith("wait")]) == 3


def test_ps_in_json(server, command):
    rows = json.loads(command("ps", server().pid, "--json"))
    assert len(rows) == 7 and {"name", "coro", "waits", "where", "awaited_by", "id"} <= set(rows[0])


def test_pstree_shows_who_waits_for_whom(server, command):
    lines = command("pstree", server().pid).splitlines()
    at = lines.index("the branch  branch()")
    below = [line for line in lines[at + 1 :] if "leaf()" in line]
    assert below[0].startswith("|-- Task-") and below[1].startswith("`-- Task-")
    assert any(re.search(r"sleep  .*asyncio/tasks\.py:\d+", line) for line in lines[at:])


def test_top_once(server, command):
    process = server()
    for args in (["top", process.pid, "--once"], ["top"]):  # the output is no terminal
        lines = command(*args).splitlines()
        assert re.match(r"cloop top +\d\d:\d\d:\d\d +1 process, 1 loop$", lines[0])
        cells = dict(zip(lines[1].split(), lines[2].split()))
        assert (cells["PID"], cells["STATE"], cells["TASKS"]) == (str(process.pid), "sleeps", "7")
        assert "server.py 3" in lines[-1]
        assert "\x1b" not in "".join(lines)


def test_top_in_json(server, command):
    process = server()
    (found,) = json.loads(command("top", process.pid, "--json"))
    assert found["pid"] == process.pid and found["loops"][0]["tasks"] == 7


@pytest.mark.parametrize("args, message", [
    (["top"], "no process serves a monitor: start one with CLOOP_MONITOR=1"),
    (["ps", "1"], "process 1 serves no monitor to this user: start it with CLOOP_MONITOR=1"),
    (["pstree", "999999999"], "there is no process 999999999"),
    (["ps", "/nowhere"], "No such file or directory"),
])  # fmt: skip
def test_what_cannot_be_shown(cloop, python, runtime, args, message):
    done = python("-m", "cloop", *args)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "cloop: %s\n" % message


def test_help(command):
    for name in "top", "ps", "pstree":
        assert "CLOOP_MONITOR=1" in command(name, "--help")
        assert name in command("--help")


# In a terminal


class Terminal:
    """Runs a command in a terminal, and reads what it shows."""

    def __init__(self, arguments, columns=80, lines=24):
        self.master, slave = pty.openpty()
        self.resize(columns, lines, slave)
        self.seen = ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cloop"] + [str(each) for each in arguments],
            stdin=slave, stdout=slave, stderr=slave, close_fds=True, start_new_session=True,
            # A shell may have exported the first size.
            env=dict(os.environ, TERM="xterm", NO_COLOR="", COLUMNS=str(columns), LINES=str(lines)),
        )  # fmt: skip
        os.close(slave)

    def resize(self, columns, lines, fd=None):
        fcntl.ioctl(self.master if fd is None else fd, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        if fd is None:  # it has no controlling terminal, which would do this
            self.process.send_signal(signal.SIGWINCH)

    def read(self, deadline):
        ready, _, _ = select.select([self.master], [], [], max(0, deadline - time.monotonic()))
        assert ready, "nothing more is shown: %r" % self.frame()
        try:
            data = os.read(self.master, 65536)
        except OSError:  # the other end is closed
            data = b""
        self.seen += data.decode("utf-8", "replace")
        return bool(data)

    def frame(self):
        """The lines of what was drawn last, without escape sequences. The keys are below, so a frame with them is whole."""
        for part in self.seen.split("\x1b[H")[:-3:-1]:
            text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", part).replace("\r", "")
            lines = [line.rstrip() for line in text.split("\n")]
            if re.match("q quit|filter: ", lines[-1]):
                return lines
        return [""]

    def until(self, condition):
        """Read until the condition holds of a frame; return its lines."""
        deadline = time.monotonic() + LIMIT_S
        while True:
            frame = self.frame()
            if condition("\n".join(frame)):
                return frame
            assert self.read(deadline), "it has ended: %s" % self.seen

    def press(self, keys):
        os.write(self.master, keys.encode())

    def end(self):
        deadline = time.monotonic() + LIMIT_S
        while self.process.poll() is None and self.read(deadline):
            pass
        status = self.process.wait(LIMIT_S)
        os.close(self.master)
        return status


@pytest.fixture(params=["plain", "rich"])
def terminal(request, cloop_on_path):
    if request.param == "rich":
        pytest.importorskip("rich")
    made = []

    def terminal(*arguments, **size):
        made.append(Terminal(["top", *arguments] + (["--plain"] if request.param == "plain" else []), **size))
        return made[-1]

    yield terminal
    for each in made:
        if each.process.poll() is None:
            each.process.kill()
            each.process.wait()
            os.close(each.master)


def test_keys(server, terminal):
    process = server()
    screen = terminal(process.pid, "--interval", "0.1")
    frame = screen.until(lambda text: "TASKS" in text and str(process.pid) in text and "CALLS/s" in text)
    assert frame[-1].startswith("q quit") and all(len(line) <= 80 for line in frame)
    screen.press("\r")
    frame = screen.until(lambda text: "WAITS FOR" in text)
    assert "7 tasks" in frame[0] and "sort: name" in frame[-1]
    titles = "TASK AGE STEPS BUSY DELAY COROUTINE WAITS FOR WHERE".split()
    assert any(line.split() == titles for line in frame), frame
    screen.press("s")
    screen.until(lambda text: "sort: coro" in text)
    screen.press("/bran")
    screen.until(lambda text: "filter: bran_" in text)
    screen.press("\r")
    screen.until(lambda text: "filter: bran" in text and "the branch" in text and "Task-2" not in text)
    screen.press("\r")  # into the task
    frame = screen.until(lambda text: "gather of 2" in text and "server.py" in text and "await asyncio.gather" in text)
    screen.press("\x1b[B\x1b[B")
    screen.until(lambda text: "<Task" not in text and "server.py" in text)
    screen.press("\x1b")
    screen.until(lambda text: "WAITS FOR" in text)
    screen.press("/\x7f\x7f\x7f\x7f\r")
    screen.until(lambda text: "filter" not in text.replace("/ filter", ""))
    screen.press("w")
    frame = screen.until(lambda text: "WAIT FOR" in text)
    assert any(re.match(r" +3 +\S*wait +waits \S*server\.py:\d+", line) for line in frame), frame
    screen.press("b")
    screen.until(lambda text: "CLOOP_WATCH=0.1" in text)
    screen.press("p")
    screen.until(lambda text: "[paused]" in text)
    screen.press("p\x1b")
    screen.until(lambda text: "CALLS/s" in text and "[paused]" not in text)
    screen.press("q")
    assert screen.end() == 0


def test_what_is_counted_while_it_is_attached(server, terminal):
    process = server()
    screen = terminal(process.pid, "--interval", "0.1")
    screen.until(lambda text: "sleeps" in text)
    process.stdin.write("nap\n")
    process.stdin.flush()
    frame = screen.until(lambda text: "slow: " in text)
    line = next(line for line in frame if line.startswith("slow: "))
    assert re.fullmatch(r"slow: \d+ms at most, 1 x  main  \S+/server\.py:\d+", line), line
    screen.press("c")
    frame = screen.until(lambda text: "sort: max" in text)
    assert "callbacks of more than 1ms" in frame[0]
    assert re.search(r"^ *\d+ms +1 +\d+ms main +task +\S+/server\.py:\d+$", "\n".join(frame), re.M), frame
    screen.press("s")
    screen.until(lambda text: "sort: total" in text)
    screen.press("t")
    screen.until(lambda text: "sort: name" in text)
    screen.press("ssss")
    frame = screen.until(lambda text: "sort: busy" in text)
    rows = [line.split() for line in frame if " server.py:" in line or "/server.py:" in line]
    # The task that took a nap comes first; it was there before the console, and those that wait have not run since.
    assert rows[0][0] == "Task-1" and rows[0][1].startswith(">") and int(rows[0][2]) >= 2 and rows[0][3] != "0us", frame
    assert rows[1][2:4] == ["0", "0us"], frame
    screen.press("\r")
    screen.until(
        lambda text: re.search(r"^steps: \d+, which took \d+ms$", text, re.M) and "waited for its turn: " in text
    )
    screen.press("q")
    assert screen.end() == 0


def test_size_changes(server, terminal):
    screen = terminal(server().pid, "--interval", "60")
    screen.until(lambda text: "q quit" in text)
    screen.resize(50, 10)
    frame = screen.until(lambda text: "q quit" in text and "OUT/s" not in text)
    assert all(len(line) <= 50 for line in frame) and len(frame) <= 10
    screen.resize(120, 40)
    screen.until(lambda text: "OUT/s" in text)
    screen.press("q")
    assert screen.end() == 0


def test_ten_thousand_tasks(server, terminal):
    screen = terminal(server(10000).pid, "--interval", "0.2")
    screen.until(lambda text: "10.0k" in text)
    screen.press("t")
    frame = screen.until(lambda text: "10004 tasks" in text)
    assert len(frame) <= 24 and "(500 shown)" in frame[0]
    screen.press("\x1b[6~" * 30)
    screen.until(lambda text: "Task-300" in text)
    screen.press("q")
    assert screen.end() == 0


def test_process_that_dies(server, terminal):
    process = server()
    screen = terminal(process.pid, "--interval", "0.1")
    screen.until(lambda text: "sleeps" in text)
    process.kill()
    process.wait()
    screen.until(lambda text: "%d: has ended" % process.pid in text)
    screen.press("t")
    screen.until(lambda text: "process %d has ended" % process.pid in text)
    screen.press("\x1bq")
    assert screen.end() == 0


def test_loop_that_blocks(server, terminal):
    process = server()
    screen = terminal(process.pid, "--interval", "0.1")
    screen.until(lambda text: "sleeps" in text)
    process.stdin.write("block\n")
    process.stdin.flush()
    screen.until(lambda text: "BLOCKED" in text and "in the same callback for" in text)
    screen.press("q")
    assert screen.end() == 0


def test_terminal_is_restored(server, terminal):
    screen = terminal(server().pid, "--interval", "0.1")
    before = termios.tcgetattr(screen.master)
    screen.until(lambda text: "q quit" in text)
    assert termios.tcgetattr(screen.master) != before or not before[3] & termios.ICANON
    screen.press("q")
    seen = screen
    deadline = time.monotonic() + LIMIT_S
    while seen.process.poll() is None and seen.read(deadline):
        pass
    after = termios.tcgetattr(screen.master)
    assert after[3] & termios.ICANON and after[3] & termios.ECHO
    assert "\x1b[?1049l" in seen.seen and "\x1b[?25h" in seen.seen
    assert screen.end() == 0


# In tmux, which understands what is drawn


class Tmux:
    """A terminal that tmux emulates: what it shows is what a user sees, not what was sent."""

    def __init__(self, folder, arguments, columns=80, lines=24):
        self.folder = folder
        command = [sys.executable, "-m", "cloop", "top"] + [str(each) for each in arguments]
        self.run(
            "-f", "/dev/null", "new-session", "-d", "-x", str(columns), "-y", str(lines), " ".join(map(quote, command))
        )

    def run(self, *arguments, check=True):
        environment = dict(os.environ, TMUX_TMPDIR=str(self.folder), TERM="xterm")
        environment.pop("TMUX", None)
        done = subprocess.run(
            ["tmux", "-L", "t"] + list(arguments), env=environment, universal_newlines=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert done.returncode == 0 or not check, done.stdout
        return done.stdout

    def until(self, condition):
        """Look until the condition holds of the text that is shown; return its lines."""
        deadline = time.monotonic() + LIMIT_S
        while True:
            text = self.run("capture-pane", "-p")
            if condition(text):
                return text.splitlines()
            assert time.monotonic() < deadline, text

    def press(self, *keys):
        self.run("send-keys", *keys)

    def is_gone(self):
        """Whether the command has ended, and so its session."""
        deadline = time.monotonic() + LIMIT_S
        while "no server" not in self.run("list-sessions", check=False):
            if time.monotonic() > deadline:
                return False
        return True


@pytest.fixture(params=["plain", "rich"])
def tmux(request, cloop_on_path, tmp_path):
    if shutil.which("tmux") is None:
        pytest.skip("no tmux")
    if request.param == "rich":
        pytest.importorskip("rich")
    made = []

    def tmux(*arguments):
        made.append(Tmux(tmp_path, list(arguments) + (["--plain"] if request.param == "plain" else [])))
        return made[-1]

    yield tmux
    for each in made:
        each.run("kill-server", check=False)


def test_in_tmux(server, tmux):
    process = server(10000)
    screen = tmux(process.pid, "--interval", "0.2")
    frame = screen.until(lambda text: "10.0k" in text and "sleeps" in text)
    assert frame[0].startswith("cloop top") and frame[-1].startswith("q quit") and len(frame) == 24
    screen.press("Enter")
    frame = screen.until(lambda text: "10004 tasks" in text and "server.py:" in text and "Esc back" in text)
    assert frame[-1].startswith("q quit  Esc back") and len(frame) == 24
    screen.press("/", *"Task-1234", "Enter")
    screen.until(lambda text: "Task-1234" in text and "Task-2 " not in text and "filter: Task-1234" in text)
    screen.press("Enter")
    screen.until(lambda text: "await event.wait()" in text and "Up/Down scroll" in text)
    screen.press("Escape")
    screen.until(lambda text: "WAITS FOR" in text)
    screen.run("resize-window", "-x", "60", "-y", "12")
    frame = screen.until(lambda text: len(text.splitlines()) == 12 and "q quit" in text)
    assert all(len(line) <= 60 for line in frame)
    screen.run("resize-window", "-x", "120", "-y", "40")
    screen.until(lambda text: len(text.splitlines()) == 40 and "Task-1234" in text)
    process.kill()
    process.wait()
    screen.until(lambda text: "process %d has ended" % process.pid in text)
    screen.press("q")
    assert screen.is_gone()


# What is computed


@pytest.fixture
def console(cloop):
    return importlib.import_module("cloop._console")


@pytest.mark.parametrize("value, text", [
    (None, "-"), (0, "0"), (999, "999"), (1000, "1.0k"), (12345, "12.3k"), (123456, "123k"), (1.5e9, "1.5G"), (1e15, "1000T"),
])  # fmt: skip
def test_numbers(console, value, text):
    assert console.number(value) == text


@pytest.mark.parametrize("value, text", [(2e-6, "2us"), (0.0123, "12ms"), (1.25, "1.2s"), (700, "11m"), (40000, "11h")])
def test_seconds(console, value, text):
    assert console.seconds(value) == text


def test_quantiles_are_of_what_came_since_the_last_reading(console):
    assert console.quantile([0, 0, 10, 0], 0.5) == 8e-9
    assert console.quantile([99, 0, 0, 1], 0.5) == 2e-9
    assert console.quantile([90, 0, 0, 10], 0.99) == 16e-9


def reading(now, **metrics):
    loop = {"id": 1, "state": "sleeps", "beat": now, "tasks": 0, "metrics": metrics}
    return {"now": float(now), "loops": [loop]}


def test_rates_and_shares_are_of_the_time_between_two_readings(console):
    source = type("Source", (), {})()
    source.pid, source.error, source.beats = 7, None, {}
    source.previous = reading(10, busy_ns=0, idle_ns=0, turns=5, lateness_ns=0, timers_fired=0, callback_time=[0, 4])
    source.latest = reading(
        12, busy_ns=30, idle_ns=10, turns=25, lateness_ns=4 * 10**6, timers_fired=2, callback_time=[2, 4],
        connections={"tcp": 3, "tls": 2, "unix": 1}, ready=9, timers_pending=8, bytes_in=1,
    )  # fmt: skip
    row = console.LoopRow(source, source.latest["loops"][0])
    cells = dict(zip([title for title, _ in console.LOOP_COLUMNS], row.cells()))
    assert cells == {
        "PID": 7, "STATE": "sleeps", "BUSY": "75%", "LAG": "2ms", "TURNS/s": "10", "CALLS/s": "-", "READY": "9",
        "TIMERS": "8", "TASKS": "0", "CONNS": "4", "IN/s": "-", "OUT/s": "-",
    }  # fmt: skip
    assert "callbacks: half <0us, 99% <0us" in list(row.details())[0]


def test_keys_of_what_a_terminal_sends(console):
    assert console.keys_of("a\x1b[A\x1b[6~\x1b\r") == ["a", "up", "page down", "escape", "enter"]


def test_long_texts_are_cut_at_their_beginning(console):
    screen = console.Screen("t", [("A", ">"), ("B", "<")], [[1, "x" * 30 + "end"]], 0)
    lines = [line for line, _ in console.plain_lines(screen, 20, 10)]
    assert lines[3] == "1 ~%send" % ("x" * 14) and len(lines) == 10


@pytest.mark.parametrize("text, shown", [
    ("plain \u00e9 \\", "plain \u00e9 \\"), ("a\nb", "a\\nb"), ("\x1b[2J", "\\x1b[2J"), ("\udcff", "\\udcff"),
    ("\u202e", "\\u202e"), ("\x9b", "\\x9b"),
])  # fmt: skip
def test_texts_of_a_process_are_escaped(console, text, shown):
    assert console.clean(text) == shown
    screen = console.Screen(text, [("A", "<")], [[text]], 0, [text])
    lines = [line.rstrip() for line, _ in console.plain_lines(screen, 80, 6)]
    assert lines[0] == lines[3] == lines[4] == shown
    assert console.format_table([("A", "<")], [[text]])[1] == shown


def test_names_and_arguments_are_escaped(cloop, python, write_script, runtime, command):
    script = write_script("""
import asyncio, sys
import cloop

async def main():
    task = asyncio.current_task()
    task.set_name("evil\\nname \\x1b[2J")
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)

with cloop.serve_monitor():
    cloop.run(main())
""")
    process = python(script, b"\xff\x1b[2J", popen=True, stdin=subprocess.PIPE)
    try:
        assert process.stdout.readline() == "ready\n"
        shown = [command("ps", process.pid), command("pstree", process.pid), command("top", process.pid, "--once")]
        assert "evil\\nname \\x1b[2J" in shown[0] and "evil\\nname \\x1b[2J" in shown[1]
        assert "\x1b" not in "".join(shown)
    finally:
        process.stdin.close()
        process.stdin = None
        process.communicate()


@pytest.fixture
def monitor(cloop, runtime):
    with cloop.serve_monitor() as monitor:
        yield monitor


def test_late_answer_is_not_taken_for_that_to_the_next_question(console, monitor, monkeypatch):
    module = importlib.import_module("cloop._monitor")
    answer, go_on = module.answer, threading.Event()
    source = console.Source(monitor.path, LIMIT_S)

    def late(line):
        if b"loops" in line:
            go_on.wait(LIMIT_S)
        return answer(line)

    monkeypatch.setattr(module, "answer", late)
    try:
        source.sock.settimeout(0.01)
        source.read()
        assert source.error == "no answer"
        go_on.set()
        assert "tasks" in source.ask("tasks")
        source.read()
        assert source.error is None and "loops" in source.latest
    finally:
        source.close()


def test_process_whose_socket_is_gone_has_ended(console, monitor):
    source = console.Source(monitor.path)
    model = console.Model([source])
    monitor.close()
    for _ in range(2):  # the connection is closed; then there is nothing to connect to
        model.read()
        assert source.error == "ended"
    model.chosen = source, 1
    model.show("tasks")
    assert model.screen().title == "process %d has ended" % os.getpid()


def test_processes_that_start_later_are_shown(console, monitor):
    model = console.Model([], rescans=True)
    for _ in range(2 * console.RESCAN):
        model.read()
    (source,) = model.sources
    source.close()
    assert source.pid == os.getpid() and source.latest is not None


def test_directory_that_is_not_looked_at_is_named(console, runtime):
    (runtime / "cloop").mkdir()
    (runtime / "cloop").chmod(0o755)
    for wanted in None, str(os.getpid()):
        with pytest.raises(ValueError, match=r"run/cloop is not a directory of this user alone \(mode 0700\)"):
            console.open_sources(wanted)


def test_digits_that_are_no_number_are_a_path(console, runtime):
    with pytest.raises(FileNotFoundError):
        console.open_sources("\u00b2")
