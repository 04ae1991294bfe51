"""cloop.serve_monitor(): a Unix socket that answers the same user, also while the loop blocks."""

import asyncio
import errno
import importlib
import json
import os
import socket
import stat
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import types

import pytest

LIMIT_S = 20
NO_PID = 999999999  # more than Linux has


@pytest.fixture
def module(cloop):
    return importlib.import_module("cloop._monitor")


@pytest.fixture
def loop(cloop, new_loop):
    return new_loop(cloop.Loop)


@pytest.fixture
def runtime(tmp_path, monkeypatch):
    """The user's runtime directory."""
    path = tmp_path / "run"
    path.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(path))
    return path


@pytest.fixture
def monitor(cloop, runtime):
    with cloop.serve_monitor() as monitor:
        yield monitor


@pytest.fixture
def ask(module, monitor):
    sock = module.connect(monitor.path)
    with sock:
        yield lambda do, **question: module.ask(sock, do, **question)


# The socket


def test_only_the_user_can_reach_it(monitor, runtime):
    assert monitor.path == str(runtime / "cloop" / ("%d.sock" % os.getpid()))
    assert stat.S_IMODE(os.stat(monitor.path).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(os.path.dirname(monitor.path)).st_mode) == 0o700


def test_it_is_gone_afterwards(cloop, runtime):
    def threads():
        return [thread.name for thread in threading.enumerate()].count("cloop-monitor")

    with cloop.serve_monitor() as monitor:
        assert cloop.serve_monitor() is monitor and threads() == 1
    monitor.close()
    assert not os.path.exists(monitor.path) and threads() == 0
    assert "closed" in repr(monitor)


def test_path_may_be_given(cloop, module, tmp_path):
    path = tmp_path / "socket"
    with cloop.serve_monitor(path):
        assert stat.S_IMODE(os.stat(str(path)).st_mode) == 0o600
        with module.connect(str(path)) as sock:
            assert module.ask(sock, "hello")["pid"] == os.getpid()
        with pytest.raises(OSError):
            cloop.serve_monitor(path)
    assert not path.exists()


def test_file_in_the_way_stays(cloop, tmp_path):
    path = tmp_path / "file"
    path.write_text("x")
    with pytest.raises(OSError):
        cloop.serve_monitor(path)
    assert path.read_text() == "x"


def test_socket_that_nobody_serves_is_replaced(cloop, module, runtime):
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(module.default_path())
    stale.close()
    other = socket.socket(socket.AF_UNIX)
    other.bind(module.default_path(NO_PID))
    other.close()
    with cloop.serve_monitor() as monitor:
        assert module.paths() == {os.getpid(): monitor.path}
    assert os.listdir(str(runtime / "cloop")) == []


def test_socket_of_a_process_that_is_just_starting_stays(module, runtime):
    with socket.socket(socket.AF_UNIX) as starting:
        starting.bind(module.default_path())
        assert module.paths() == {}
        starting.listen(1)
        assert module.paths() == {os.getpid(): module.default_path()}


def test_names_that_are_no_numbers_are_left_alone(module, monitor, runtime):
    (runtime / "cloop" / "\u00b2.sock").write_text("")
    assert module.paths() == {os.getpid(): monitor.path}


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701])
def test_directory_that_others_may_enter_is_refused(cloop, runtime, mode):
    (runtime / "cloop").mkdir()
    (runtime / "cloop").chmod(mode)
    with pytest.raises(PermissionError):
        cloop.serve_monitor()


def test_directory_that_is_a_link_is_refused(cloop, runtime, tmp_path):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (runtime / "cloop").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PermissionError):
        cloop.serve_monitor()


def test_directory_without_a_runtime_directory(module, monkeypatch):
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    assert list(module.folders()) == ["/tmp/cloop-%d" % os.geteuid()]
    monkeypatch.setenv("XDG_RUNTIME_DIR", "relative")
    assert list(module.folders()) == ["/tmp/cloop-%d" % os.geteuid()]


def test_other_user_is_refused(cloop):
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        with cloop.serve_monitor(os.path.join(folder, "socket")) as monitor:
            os.chmod(monitor.path, 0o666)  # what is left is the look at who connects
            script = """
import os, socket, sys
os.setgid(65534)
os.setuid(65534)
sock = socket.socket(socket.AF_UNIX)
sock.settimeout(20)
sock.connect(sys.argv[1])
try:
    sock.sendall(b'{"do": "hello"}\\n')
    print(sock.recv(100))
except (BrokenPipeError, ConnectionResetError):
    print(b"")
"""
            command = [sys.executable, "-c", script, monitor.path]
            assert subprocess.run(command, stdout=subprocess.PIPE, timeout=60).stdout == b"b''\n"


# Failures


def no_thread(*args):
    raise RuntimeError("can't start new thread")


def test_nothing_is_left_if_no_thread_can_be_started(cloop, module, runtime, monkeypatch):
    before = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        with pytest.raises(RuntimeError, match="new thread"):
            cloop.serve_monitor()
    assert os.listdir(str(runtime / "cloop")) == []
    assert len(os.listdir("/proc/self/fd")) == before
    with cloop.serve_monitor() as monitor:
        assert "serving" in repr(monitor)


@pytest.mark.parametrize("variable", ["CLOOP_MONITOR", "CLOOP_WATCH"])
def test_without_a_thread_the_program_runs_all_the_same(cloop, runtime, monkeypatch, variable):
    eyes = importlib.import_module("cloop._eyes")
    monkeypatch.setattr(eyes, "begun", False)
    monkeypatch.setenv(variable, "1")
    monkeypatch.setattr(threading.Thread, "start", no_thread)
    monkeypatch.setattr(importlib.import_module("cloop._watch"), "watch", no_thread)
    with pytest.warns(RuntimeWarning, match="can't start new thread"):
        cloop.Loop().close()


def test_child_that_can_start_no_thread_has_no_monitor(python, write_script, runtime):
    done = python("-W", "ignore", write_script("""
import os, threading
import cloop

def no_thread(self):
    raise RuntimeError("can't start new thread")

monitor = cloop.serve_monitor()
threading.Thread.start = no_thread
if os.fork() == 0:
    assert "closed" in repr(monitor)
    monitor.close()  # must not write to what its numbers are now
    os._exit(0)
assert os.wait()[1] == 0
assert "serving" in repr(monitor)
"""))  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("cloop: no monitor in process ") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("number, pauses", [
    (errno.EMFILE, 1), (errno.ENFILE, 1), (errno.ENOMEM, 1), (errno.EAGAIN, 0), (errno.ECONNABORTED, 0), (errno.EINTR, 0),
])  # fmt: skip
def test_thread_does_not_spin_while_it_cannot_accept(module, monkeypatch, number, pauses):
    def accept():
        raise OSError(number, os.strerror(number))

    found = []
    monkeypatch.setattr(module, "time", types.SimpleNamespace(sleep=found.append))
    monitor = types.SimpleNamespace(_listener=types.SimpleNamespace(accept=accept))
    module.Monitor._accept(monitor, None)
    assert found == [0.1] * pauses


def test_close_does_not_wait_for_a_client_that_does_not_read(cloop, module, runtime, monkeypatch):
    monkeypatch.setattr(module, "_SEND_LIMIT_S", 3 * LIMIT_S)
    monitor = cloop.serve_monitor()
    with module.connect(monitor.path) as sock:
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                sock.send(b'{"do": "hello"}\n' * 100)
        closer = threading.Thread(target=monitor.close)
        closer.start()
        closer.join(LIMIT_S)
        closed = not closer.is_alive()
    closer.join()
    assert closed and not os.path.exists(monitor.path)


def test_close_does_not_wait_for_more_questions(module, monitor, monkeypatch):
    asked, go_on = [], threading.Event()

    def answer(line):
        asked.append(line)
        go_on.wait(LIMIT_S)
        return {}

    monkeypatch.setattr(module, "answer", answer)
    with module.connect(monitor.path) as sock:
        sock.sendall(b"{}\n{}\n{}\n")
        deadline = time.monotonic() + LIMIT_S
        while not asked and time.monotonic() < deadline:
            pass
        closer = threading.Thread(target=monitor.close)
        closer.start()
        while not monitor._closing and time.monotonic() < deadline:
            pass
        go_on.set()
        closer.join()
    assert len(asked) == 1


# Questions


def test_hello(cloop, ask):
    found = ask("hello")
    assert (found["cloop"], found["protocol"], found["pid"]) == (cloop.__version__, 1, os.getpid())


def test_loops(loop, ask):
    (found,) = ask("loops")["loops"]
    assert (found["id"], found["state"], found["thread"]) == (id(loop), "stopped", None)
    assert found["metrics"]["turns"] == 0 and found["poller"] == loop._poller


def test_question_while_the_loop_blocks(loop, ask):
    async def main():
        return ask("loops"), ask("tasks"), asyncio.current_task().get_name()

    loops, tasks, name = loop.run_until_complete(main())
    assert loops["loops"][0]["state"] == "runs" and loops["loops"][0]["thread"] == "MainThread"
    if sysconfig.get_config_var("Py_GIL_DISABLED"):  # nobody else may look at them
        assert tasks["tasks"] == []
    else:
        (task,) = tasks["tasks"]
        assert (task["name"], task["waits"]) == (name, "running")


def test_question_while_the_loop_sleeps(loop, ask):
    found = []

    def look():
        deadline = time.monotonic() + LIMIT_S
        while ask("loops")["loops"][0]["state"] != "sleeps" and time.monotonic() < deadline:
            pass
        found.append(ask("loops")["loops"][0])
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=look)
    thread.start()
    loop.run_forever()
    thread.join()
    assert found[0]["state"] == "sleeps"


@pytest.fixture
def crowd(loop, turn):
    async def waits(event):
        await event.wait()

    async def sleeps():
        await asyncio.sleep(1000)

    async def main():
        event = asyncio.Event()
        for _ in range(5):
            loop.create_task(waits(event))
        await sleeps()

    task = loop.create_task(main())
    for _ in range(4):
        turn()
    yield task
    for each in asyncio.all_tasks(loop):
        each.cancel()
    for _ in range(4):
        turn()


def test_tasks_are_sorted_filtered_and_limited(ask, crowd):
    found = ask("tasks", sort="coro")
    assert found["total"] == 6
    assert [row["coro"].rpartition(".")[2] for row in found["tasks"]] == ["main"] + ["waits"] * 5
    assert len(ask("tasks", filter="WAITS(")["tasks"]) == 0
    assert len(ask("tasks", filter="locals>.WAITS")["tasks"]) == 5
    assert len(ask("tasks", limit=2)["tasks"]) == 2
    found = ask("tasks", most=3)
    assert (found["total"], len(found["tasks"])) == (6, 3)
    assert len(ask("tasks", loop=1)["tasks"]) == 0


def test_places_count_the_tasks(ask, crowd):
    found = ask("places")
    assert [row["tasks"] for row in found["places"]] == [5, 1]
    assert found["places"][0]["where"].split(":")[0] == "%s %s" % (found["places"][0]["where"].split()[0], __file__)


def test_task_has_its_stack(ask, crowd):
    found = ask("task", id=id(crowd))["task"]
    assert [name.rpartition(".")[2] for name, _, _ in found["stack"]] == ["main", "sleeps", "sleep"]
    assert ask("task", id=1)["task"] is None


def test_timers_watched_and_dump(loop, ask, crowd):
    assert ask("timers")["total"] == 1
    assert ask("watched")["watched"][0][0] == id(loop)
    assert "tasks: 6" in ask("dump")["text"]
    assert ask("tree")["tasks"][0]["awaiter_ids"] == []


COUNTED = ("age", "steps", "busy", "delay", "delay_max", "delay_last")


@pytest.mark.usefixtures("own_tasks")
def test_tasks_are_counted_as_long_as_somebody_asks_for_it(loop, module, monitor, ask, turn):
    def counted():
        task = loop.create_task(asyncio.sleep(0))
        turn()
        row = ask("task", id=id(task))["task"]
        turn()
        assert task.done()
        return [row[name] for name in COUNTED]

    assert counted() == [None] * 6
    with module.connect(monitor.path) as other:
        assert module.ask(other, "count", slow=None) == {"tasks": True, "slow": None}
        assert ask("count") == {"tasks": True, "slow": 0.001}
        age, steps, busy, *delays = counted()
        assert age > 0 and steps == 1 and 0 < busy < age and all(0 <= delay < age for delay in delays)
        assert ask("count", tasks=False, slow=None) == {"tasks": False, "slow": None}
        assert counted()[1] == 1  # the other one still asks
        task = loop.create_task(asyncio.sleep(0))
        turn()
        row, (same,) = ask("task", id=id(task))["task"], ask("tasks")["tasks"]
        assert [row[name] for name in COUNTED[1:]] == [same[name] for name in COUNTED[1:]]
        turn()
    deadline = time.monotonic() + LIMIT_S
    while counted() != [None] * 6:
        assert time.monotonic() < deadline


@pytest.mark.usefixtures("own_tasks")
def test_task_that_has_done_nothing_since(loop, ask, crowd):
    ask("count")
    row = ask("task", id=id(crowd))["task"]
    assert [row[name] for name in COUNTED] == [None, 0, 0.0, None, None, None]


@pytest.mark.usefixtures("own_tasks")
def test_tasks_are_sorted_by_what_is_counted(loop, ask, turn):
    async def work(steps):
        for _ in range(steps):
            await asyncio.sleep(0)
        time.sleep(0.001 * steps)
        await asyncio.Event().wait()

    ask("count")
    tasks = [loop.create_task(work(steps)) for steps in (1, 3, 2)]
    for _ in range(6):
        turn()
    assert [row["steps"] for row in ask("tasks", sort="steps")["tasks"]] == [4, 3, 2]
    found = ask("tasks", sort="busy")["tasks"]
    assert [row["busy"] for row in found] == sorted([row["busy"] for row in found], reverse=True)
    assert ask("tasks", sort="busy", most=2)["total"] == 3
    assert [row["id"] for row in ask("tasks", sort="busy", most=2)["tasks"]] == [row["id"] for row in found[:2]]
    assert [row["id"] for row in ask("tasks", sort="age")["tasks"]] == [id(task) for task in tasks]
    for task in tasks:
        task.cancel()
    turn()


def test_slowest_callbacks(loop, ask, turn):
    def block(seconds):
        time.sleep(seconds)

    def work():
        time.sleep(0.03)

    assert ask("slowest") == {"slow": None, "callbacks": []}
    ask("count", slow=0.01)
    for seconds in 0.02, 0.02:
        loop.call_soon(block, seconds)
    loop.call_soon(work)
    turn()
    found = ask("slowest")
    assert found["slow"] == 0.01
    rows = {row["name"]: row for row in found["callbacks"]}
    assert set(rows) == {work.__qualname__, block.__qualname__}
    for sort in "max", "total", "count":
        expected = sorted(rows.values(), key=lambda row: -row[sort])
        assert ask("slowest", sort=sort, limit=1)["callbacks"] == expected[:1]
    row = rows[block.__qualname__]
    assert (row["count"], row["kind"], row["loop"]) == (2, "callback", id(loop))
    assert (row["file"], row["line"]) == (__file__, block.__code__.co_firstlineno)
    assert 0.0198 <= row["max"] < row["total"] and rows[work.__qualname__]["max"] >= 0.0297
    assert ask("loops")["loops"][0]["slowest"][0]["name"] == found["callbacks"][0]["name"]
    assert ask("slowest", loop=1)["callbacks"] == []


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_nothing_is_counted_after_a_fork_for_who_asked_the_parent(cloop, loop, module, ask):
    ask("count")
    counting = importlib.import_module("cloop._counting")
    pid = os.fork()
    if pid == 0:
        os._exit(0 if counting.wanted() == (False, None) else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert counting.wanted() == (True, 0.001)


def test_blocks_are_noted_with_slow_callbacks(cloop, loop, ask, turn):
    came, ended = threading.Event(), threading.Event()

    def blocks():
        assert came.wait(LIMIT_S)

    def to(block):  # on a busy machine, something else may block before
        if came.is_set() and block.ended:
            ended.set()
        elif "in blocks" in block.stack:
            came.set()

    with cloop.watch(0.02, to=to):
        loop.call_soon(blocks)
        turn()
        assert ended.wait(LIMIT_S)
        found = [row for row in ask("slowest")["callbacks"] if row["name"] == "blocks"]
    assert [(row["kind"], row["count"], row["file"]) for row in found] == [("block", 1, __file__)]
    assert found[0]["line"] == blocks.__code__.co_firstlineno + 1 and found[0]["max"] >= 0.02


def test_blocks_are_remembered(cloop, loop, ask):
    assert ask("blocks")["watching"] is None
    ended = threading.Event()
    with cloop.watch(0.02, to=lambda block: block.ended and ended.set()):
        loop.call_soon(time.sleep, 0.2)
        loop.call_soon(loop.stop)
        loop.run_forever()
        assert ended.wait(LIMIT_S)
        found = ask("blocks")
    assert found["watching"] == 0.02
    assert found["blocks"][-1]["seconds"] >= 0.02


@pytest.mark.parametrize("line, error", [
    (b"x", "JSONDecodeError"), (b"[]", "ValueError"), (b'{"do": "nothing"}', "unknown question: nothing"),
    (b'{"do": "tasks", "most": "x"}', "ValueError"), (b"\xff", "UnicodeDecodeError"),
    (b'{"do": "tasks", "sort": "x"}', "unknown order"), (b'{"do": "slowest", "sort": "name"}', "unknown order"),
    (b'{"do": "count", "slow": -1}', "ValueError"), (b'{"do": "count", "slow": "x"}', "ValueError"),
])  # fmt: skip
def test_question_that_is_wrong(module, line, error):
    assert error in module.answer(line)["error"]


def test_several_questions_and_parts_of_one(module, monitor):
    with module.connect(monitor.path) as sock:
        sock.sendall(b'{"do": "hello"}\n{"do": "lo')
        file = sock.makefile("rb")
        assert json.loads(file.readline().decode())["pid"] == os.getpid()
        sock.sendall(b'ops"}\n')
        assert json.loads(file.readline().decode())["loops"] == []
        file.close()


def test_line_without_an_end_is_cut_off(module, monitor):
    with module.connect(monitor.path) as sock:
        try:
            for _ in range(100):
                sock.sendall(b"x" * 10000)
            assert sock.recv(1) == b""
        except (BrokenPipeError, ConnectionResetError):
            pass
    with module.connect(monitor.path) as sock:
        assert module.ask(sock, "hello")["protocol"] == 1


# Processes

SERVES = """
import asyncio, os, sys
import cloop

async def main():
    os.write(1, b"%d\\n" % os.getpid())
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
"""


def test_environment_variable_and_fork(cloop, module, python, write_script, runtime, monkeypatch):
    monkeypatch.setenv("CLOOP_MONITOR", "1")
    process = python("-W", "ignore", write_script(SERVES + """
if __name__ == "__main__":
    cloop.new_event_loop().close()
    if os.fork() == 0:
        cloop.run(main())
        sys.exit()
    cloop.run(main())
    os.wait()
"""), popen=True, stdin=-1)  # fmt: skip
    try:
        pids = {int(process.stdout.readline()) for _ in range(2)}
        assert set(module.paths()) == pids and process.pid in pids
        for pid, path in module.paths().items():
            with module.connect(path) as sock:
                assert module.ask(sock, "hello")["pid"] == pid
                assert len(module.ask(sock, "loops")["loops"]) == 1
        process.stdin.close()  # both end
        process.stdin = None
        out, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, "")
        assert module.paths() == {}
    finally:
        process.kill()
        process.wait()


def test_failure_does_not_keep_the_program_from_running(cloop, python, write_script, runtime, monkeypatch):
    (runtime / "cloop").write_text("not a directory")
    monkeypatch.setenv("CLOOP_MONITOR", "1")
    done = python("-c", "import cloop\nasync def main(): print('ran')\ncloop.run(main())")
    assert done.returncode == 0 and done.stdout == "ran\n"
    assert "RuntimeWarning: cloop: CLOOP_WATCH or CLOOP_MONITOR: " in done.stderr
