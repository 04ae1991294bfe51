"""cloop.watch(): a callback that blocks the loop is reported while it does, with the line that blocks."""

import asyncio
import ctypes
import importlib
import linecache
import logging
import os
import re
import selectors
import shutil
import socket
import subprocess
import sys
import sysconfig
import threading
import time

import pytest

THRESHOLD_S = 0.05
LIMIT_S = 20
HERE = os.path.abspath(__file__)
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


@pytest.fixture
def loop(cloop):
    loop = cloop.Loop()
    yield loop
    loop.close()


class Reports:
    """A destination that notes the blocks in which a function of BLOCKING runs. On a busy machine there are others: a
    thread that may run does not. And what is taken without the GIL, just when C code returns, may lack a frame.
    """

    def __init__(self):
        self.begun, self.ended, self.all = [], [], []
        self.came, self.over = threading.Event(), threading.Event()
        self.ignored = set()
        self.missed = False

    def __call__(self, block):
        self.all.append(block)
        if not block.ended and not re.search(r"\bin (%s)\n" % BLOCKING, block.stack):
            self.ignored.add(block.loop)
            self.missed = True
        elif block.ended and block.loop in self.ignored:
            self.ignored.remove(block.loop)
        else:
            (self.ended if block.ended else self.begun).append(block)
            (self.over if block.ended else self.came).set()


@pytest.fixture
def blocks(cloop):
    """Watches, and notes what is reported."""
    reports = Reports()
    with cloop.watch(THRESHOLD_S, to=reports):
        yield reports


def line_of(function, text):
    """The number of the line of this file that has the text, in the function."""
    first = function.__code__.co_firstlineno
    with open(HERE) as file:
        lines = file.read().splitlines()
    return next(n + 1 for n in range(first, len(lines)) if text in lines[n])


def call(loop, function):
    loop.call_soon(function)
    loop.call_soon(loop.stop)
    loop.run_forever()


def settle(loop, blocks):
    """Run the loop until the end of the block was reported."""
    deadline = time.monotonic() + LIMIT_S
    while not blocks.over.is_set():
        assert time.monotonic() < deadline, "no end was reported"
        loop.call_later(0.001, loop.stop)
        loop.run_forever()


# What blocks

BLOCKING = "waits_for_a_lock|sleeps|computes|matches|keeps|other|waits"


def waits_for_a_lock(blocks):
    assert blocks.came.wait(LIMIT_S)  # locked


def sleeps(blocks):
    deadline = time.monotonic() + LIMIT_S
    while not blocks.came.is_set() and time.monotonic() < deadline:
        time.sleep(2 * THRESHOLD_S)  # asleep


def computes(blocks):
    deadline = time.monotonic() + LIMIT_S
    while not blocks.came.is_set() and not blocks.missed and time.monotonic() < deadline:
        pass  # computing


def matches(blocks):
    size = 16
    while not blocks.came.is_set() and not blocks.missed:
        assert size < 32, blocks.all
        re.match("(a+)+$", "a" * size + "b")  # backtracking
        size += 1


CASES = [
    (waits_for_a_lock, "# locked"),
    (sleeps, "# asleep"),
    (computes, "while not"),
    (matches, "# backtracking"),
]


@pytest.mark.parametrize("function, mark", CASES, ids=[case[0].__name__ for case in CASES])
def test_line_that_blocks_is_named_while_it_does(loop, blocks, function, mark):
    for _ in range(5):
        blocks.missed = False
        call(loop, lambda: function(blocks))
        if not blocks.missed:
            break
    (block,) = blocks.begun  # and it came before the end: the function waits for it
    assert block.loop is loop and not block.ended and block.task is None
    assert block.seconds >= THRESHOLD_S
    assert (
        HERE in block.stack
        and ", in %s" % function.__name__ in block.stack
        or " in %s" % function.__name__ in block.stack
    )
    lines = [int(n) for n in re.findall(r'test_watchdog\.py", line (\d+),? in %s\b' % function.__name__, block.stack)]
    first = line_of(function, mark)
    assert lines and abs(lines[0] - first) <= (1 if function is computes else 0)
    assert block.text.startswith("cloop: the loop has been blocked for ")
    assert block.stack in block.text


def test_end_is_reported_with_the_total(loop, blocks):
    began = time.monotonic()
    call(loop, lambda: waits_for_a_lock(blocks))
    took = time.monotonic() - began
    settle(loop, blocks)
    (block,) = blocks.ended
    assert block.ended and block.stack == "" and block.loop is loop
    # Its end is noticed at the next look.
    assert THRESHOLD_S <= block.seconds <= took + LIMIT_S
    assert block.seconds >= blocks.begun[0].seconds
    assert re.fullmatch(r"cloop: the loop was blocked for \d+\.\d\d s\n", block.text)


def test_end_is_reported_if_the_loop_is_closed_at_once(cloop, blocks):
    """Before the watcher has looked again."""
    loop = cloop.new_event_loop()
    call(loop, lambda: waits_for_a_lock(blocks))
    loop.close()
    assert blocks.over.wait(LIMIT_S)
    (block,) = blocks.ended
    assert block.seconds >= THRESHOLD_S and block.loop in (loop, None)


def test_each_block_is_reported_once(loop, blocks):
    def twice():
        waits_for_a_lock(blocks)
        time.sleep(3 * THRESHOLD_S)

    call(loop, twice)
    settle(loop, blocks)
    assert (len(blocks.begun), len(blocks.ended)) == (1, 1)
    blocks.came.clear()
    blocks.over.clear()
    call(loop, lambda: waits_for_a_lock(blocks))
    settle(loop, blocks)
    assert (len(blocks.begun), len(blocks.ended)) == (2, 2)


def test_task_is_named_with_those_that_wait_for_it(loop, blocks):
    async def inner():
        waits_for_a_lock(blocks)

    async def middle():
        await asyncio.gather(loop.create_task(inner()), asyncio.sleep(0))

    async def outer():
        task = loop.create_task(middle())
        await task

    main = loop.create_task(outer())
    loop.run_until_complete(main)
    settle(loop, blocks)
    (block,) = blocks.begun
    assert block.task is not None and block.task == blocks.ended[0].task
    lines = block.text.splitlines()
    assert "%s " % block.task in lines[0] and "inner()" in lines[0]
    if FREE_THREADED:  # nobody else may look at the others
        return
    assert [line.split(" at ")[0].partition("awaited by ")[2].split()[1] for line in lines if "awaited by" in line] == [
        "test_task_is_named_with_those_that_wait_for_it.<locals>.middle()",
        "test_task_is_named_with_those_that_wait_for_it.<locals>.outer()",
    ]


@pytest.mark.skipif(not FREE_THREADED, reason="with a GIL get_name() may be called anywhere")
def test_name_of_a_task_that_another_thread_uses(loop, cloop):
    class Named(asyncio.Task):
        def get_name(self):
            return "its own"

    async def main():
        tasks = [
            asyncio.ensure_future(asyncio.sleep(0)),
            loop.create_task(asyncio.sleep(0), name="given"),
            Named(asyncio.sleep(0), loop=loop),
        ]
        told = [importlib.import_module("cloop._cloop").task_name(task) for task in tasks]
        assert told == [task.get_name() for task in tasks]
        assert told[0].startswith("Task-") and told[1:] == ["given", "its own"]
        await asyncio.gather(*tasks)

    loop.run_until_complete(main())


def test_block_between_two_awaits_is_one_of_its_own(loop, blocks):
    async def main():
        for _ in range(20):  # longer than the threshold together, and each is shorter
            await asyncio.sleep(0)
            time.sleep(THRESHOLD_S / 10)
        blocks.all.clear()
        waits_for_a_lock(blocks)

    loop.run_until_complete(main())
    settle(loop, blocks)
    assert len(blocks.begun) == 1 and "waits_for_a_lock" in blocks.begun[0].stack


def test_loop_in_another_thread(cloop, blocks):
    def run():
        loop = cloop.Loop()
        loop.call_soon(waits_for_a_lock, blocks)
        loop.call_soon(loop.stop)
        loop.run_forever()
        while not blocks.over.is_set():
            loop.call_later(0.001, loop.stop)
            loop.run_forever()
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(LIMIT_S)
    assert "waits_for_a_lock" in blocks.begun[0].stack and ", in run\n" in blocks.begun[0].stack


# C code that keeps the interpreter


@pytest.fixture
def keep():
    """Sleeps for this many seconds in C code, without giving the interpreter up."""
    usleep = ctypes.PyDLL(None).usleep
    return lambda seconds: usleep(int(seconds * 1e6))


@pytest.mark.gil
def test_c_code_that_keeps_the_interpreter(cloop, loop, keep, tmp_path):
    def keeps():
        keep(0.5)

    path = tmp_path / "reports"
    with open(str(path), "w+") as file, cloop.watch(THRESHOLD_S, to=file):
        call(loop, keeps)
        seen = path.read_text()  # by now: no other thread could run Python code meanwhile
        deadline = time.monotonic() + LIMIT_S
        while "was blocked" not in path.read_text():
            assert time.monotonic() < deadline
            loop.call_later(0.001, loop.stop)
            loop.run_forever()
    report = (
        r"cloop: the loop has been blocked for \d\.\d\d s: C code keeps the interpreter \(most recent call first\)\n"
        r'  File "%s", line \d+ in <lambda>\n  File "%s", line %d in keeps\n'
    )
    assert re.search(report % (re.escape(HERE), re.escape(HERE), line_of(keeps, "keep(0.5)")), seen), seen
    totals = [float(total) for total in re.findall(r"was blocked for (\d+\.\d+) s", path.read_text())]
    assert 0.45 < max(totals) < LIMIT_S


@pytest.mark.gil
def test_numbers_have_a_point_in_each_locale(cloop, python, write_script, tmp_path):
    """As all else that Python writes."""
    made = shutil.which("localedef") and subprocess.run(
        ["localedef", "-i", "de_DE", "-f", "UTF-8", str(tmp_path / "de")], stderr=subprocess.DEVNULL
    )
    if not made or made.returncode != 0:
        pytest.skip("cannot make a locale")
    script = (
        KEEPS
        + """
import locale

locale.setlocale(locale.LC_NUMERIC, "de")
assert locale.localeconv()["decimal_point"] == ","
with cloop.watch(0.05):
    cloop.run(keeps())
"""
    )
    done = python(write_script(script), env=dict(os.environ, LOCPATH=str(tmp_path)))
    assert done.returncode == 0, done.stderr
    assert re.search(r"has been blocked for \d\.\d\d s: C code keeps", done.stderr), done.stderr


def test_function_gets_such_a_stack_afterwards(loop, blocks, keep):
    def keeps():
        keep(0.5)

    call(loop, keeps)
    settle(loop, blocks)
    (block,) = blocks.begun
    assert "keeps" in block.stack and 'test_watchdog.py", line ' in block.stack
    assert blocks.ended[0].seconds > 0.45


@pytest.mark.gil
def test_no_file_is_read_while_c_code_keeps_the_interpreter(loop, blocks, keep, monkeypatch):
    def keeps():
        keep(0.5)  # in one call: between two, the report may get the interpreter, and need not say this

    read = []  # each time, other threads get the interpreter, and may keep it for long
    for name in ("checkcache", "updatecache"):
        monkeypatch.setattr(linecache, name, lambda *args: read.append(args) or [])
    call(loop, keeps)
    settle(loop, blocks)
    assert "C code keeps the interpreter" in blocks.begun[0].text
    assert not read


@pytest.mark.gil
def test_thread_that_faulthandler_leaves_out(cloop, loop, keep, tmp_path):
    """It writes 100 threads, the newest first."""
    path, end = tmp_path / "reports", threading.Event()
    threads = [threading.Thread(target=end.wait) for _ in range(105)]
    for thread in threads:
        thread.start()
    try:
        with open(str(path), "w") as file, cloop.watch(THRESHOLD_S, to=file):
            call(loop, lambda: keep(0.5))
            seen = path.read_text()
    finally:
        end.set()
        for thread in threads:
            thread.join()
    head = (
        r"keeps the interpreter \(most recent call first\)\n"
        r"  \(no stack of the loop's thread: faulthandler writes 100 threads at most\)\nThread 0x"
    )
    assert re.search(head, seen), seen


@pytest.mark.gil
def test_other_thread_that_keeps_the_interpreter(loop, blocks, keep):
    def other():
        begin.wait()
        keep(0.5)

    begin = threading.Event()
    thread = threading.Thread(target=other)
    thread.start()
    loop.call_soon(begin.set)
    loop.call_later(THRESHOLD_S, int)  # due while the other thread has the interpreter
    settle(loop, blocks)
    thread.join()
    texts = [block.text for block in blocks.begun]
    assert "another thread keeps the interpreter" in texts[0] and "in other" in texts[0], "".join(texts)


def test_other_thread_that_keeps_it_from_a_callback(loop, blocks, keep):
    def other():
        keep(0.5)

    def waits():
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()

    call(loop, waits)
    settle(loop, blocks)
    block = blocks.begun[0]
    assert "in waits" in block.stack.partition("Thread 0x")[0]  # the loop's thread comes first
    assert block.task is None and ("in other" in block.stack or "thread.join()" in block.stack)


@pytest.mark.gil
def test_two_loops_that_cannot_run(cloop, loop, blocks, keep):
    """One calls C code that keeps the interpreter; the other needs it, in the midst of a callback."""
    begin, end, told = threading.Event(), threading.Event(), threading.Event()

    def computes():
        begin.set()
        while not end.is_set():
            pass

    def keeps():
        begin.wait(LIMIT_S)
        keep(0.5)
        end.set()

    def run():
        other = cloop.Loop()
        call(other, computes)
        told.wait(LIMIT_S)
        other.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        call(loop, keeps)
        deadline = time.monotonic() + LIMIT_S
        while len(blocks.ended) < 2:
            assert time.monotonic() < deadline
            loop.call_later(0.001, loop.stop)
            loop.run_forever()
    finally:
        told.set()
        thread.join()
    loops = [block.loop for block in blocks.begun]
    assert len(loops) == 2 and loops.count(loop) == 1 and None not in loops
    assert {block.loop for block in blocks.ended} == set(loops)
    stacks = {block.loop is loop: block.stack.partition("Thread 0x")[0] for block in blocks.begun}
    assert "in keeps" in stacks[True] and "in computes" in stacks[False]  # each begins with that of its own thread


@pytest.mark.gil
def test_nobody_can_read_what_is_written(cloop, loop, keep, monkeypatch):
    """The pipe is broken: the program goes on, and so does the watch."""
    caught = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: caught.append(unraisable.exc_type))
    ours, theirs = os.pipe()
    os.close(ours)
    with open(theirs, "w") as file, cloop.watch(THRESHOLD_S, to=file):
        call(loop, lambda: keep(0.3))
        deadline = time.monotonic() + LIMIT_S
        while not caught:
            assert time.monotonic() < deadline
            loop.call_later(0.001, loop.stop)
            loop.run_forever()
        with open(os.devnull, "w") as null:
            os.dup2(null.fileno(), theirs)
    assert set(caught) == {BrokenPipeError}


# What is not reported


def assert_silent(blocks, seconds):
    """None of the blocks, if there were any by chance, lasted this long."""
    assert [block.text for block in blocks.all if block.seconds > seconds] == []


def test_idle_loop_is_silent(loop, blocks):
    loop.call_later(6 * THRESHOLD_S, loop.stop)
    loop.run_forever()
    assert_silent(blocks, 5 * THRESHOLD_S)


def test_asyncios_loop_is_silent_and_so_is_code_outside_of_a_loop(blocks):
    def sleeps():
        time.sleep(6 * THRESHOLD_S)

    loop = asyncio.SelectorEventLoop()
    call(loop, sleeps)
    loop.close()
    sleeps()
    assert blocks.all == []


def test_program_with_its_own_selector_is_silent_while_it_waits(cloop, blocks):
    loop = cloop.Loop(selectors.SelectSelector())
    loop.call_later(6 * THRESHOLD_S, loop.stop)
    loop.run_forever()
    loop.close()
    assert_silent(blocks, 5 * THRESHOLD_S)


def test_stopped_watch_is_silent_and_leaves_no_thread(cloop, loop):
    before, reports = os.listdir("/proc/self/task"), Reports()
    watch = cloop.watch(THRESHOLD_S, to=reports)
    # Those of the test before may still end.
    (thread,) = set(os.listdir("/proc/self/task")).difference(before)
    assert "running" in repr(watch)
    watch.stop()
    watch.stop()
    assert thread not in os.listdir("/proc/self/task")
    assert "stopped" in repr(watch)
    call(loop, lambda: time.sleep(4 * THRESHOLD_S))
    assert reports.all == []


def test_loop_that_is_closed_while_watched(cloop, blocks):
    loops = [cloop.Loop() for _ in range(10)]
    for loop in loops[::2]:
        loop.close()
    call(loops[1], lambda: waits_for_a_lock(blocks))
    settle(loops[1], blocks)
    for loop in loops:
        loop.close()
    assert len(blocks.begun) == 1


# Where reports go


def test_logger(cloop, loop, caplog):
    with caplog.at_level(logging.WARNING, "watched"), cloop.watch(THRESHOLD_S, to=logging.getLogger("watched")):
        deadline = time.monotonic() + LIMIT_S
        call(
            loop,
            lambda: [time.sleep(0.01) for _ in iter(lambda: not caplog.records and time.monotonic() < deadline, False)],
        )
    record = caplog.records[0]
    assert record.levelname == "WARNING" and "has been blocked" in record.getMessage()
    assert not record.getMessage().endswith("\n")


@pytest.mark.gil
def test_descriptor_that_was_closed_and_is_another_file_now(cloop, loop, keep, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: None)  # the end is written to a file that is closed
    path = tmp_path / "reports"
    file = open(str(path), "w")
    with cloop.watch(THRESHOLD_S, to=file):
        fd = file.fileno()
        file.close()
        ours, theirs = socket.socketpair()
        with ours, theirs:
            assert ours.fileno() == fd
            call(loop, lambda: keep(0.5))
            theirs.setblocking(False)
            with pytest.raises(BlockingIOError):
                theirs.recv(1000)
    assert "C code keeps the interpreter" in path.read_text()


def test_no_watch_takes_more_descriptors_than_the_first(cloop, tmp_path):
    counts = []
    with open(str(tmp_path / "reports"), "w") as file:
        for _ in range(3):
            with cloop.watch(to=file):
                pass
            counts.append(len(os.listdir("/proc/self/fd")))
    assert len(set(counts)) == 1


def test_later_watch_replaces_the_earlier(cloop, loop):
    first, second = Reports(), Reports()
    one = cloop.watch(THRESHOLD_S, to=first)
    with cloop.watch(THRESHOLD_S, to=second):
        one.stop()  # of no effect
        call(loop, lambda: waits_for_a_lock(second))
        settle(loop, second)
    assert first.begun == [] and len(second.begun) == 1


def test_function_may_stop_the_watch(cloop, loop):
    reports = Reports()

    def to(block):
        watch.stop()
        reports(block)

    watch = cloop.watch(THRESHOLD_S, to=to)
    call(loop, lambda: waits_for_a_lock(reports))
    assert len(reports.begun) == 1


def test_function_that_raises_is_reported_and_called_again(cloop, loop, monkeypatch):
    reports, caught = Reports(), []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: caught.append(unraisable.exc_type))

    def to(block):
        reports(block)
        raise KeyError

    with cloop.watch(THRESHOLD_S, to=to):
        call(loop, lambda: waits_for_a_lock(reports))
        settle(loop, reports)
    assert len(caught) >= 2 and set(caught) == {KeyError}


@pytest.mark.parametrize("arguments, error", [
    ((0,), ValueError), ((-1,), ValueError), ((float("nan"),), ValueError), ((float("inf"),), ValueError),
    (("x",), ValueError), ((None,), TypeError),
])  # fmt: skip
def test_wrong_threshold_is_refused(cloop, arguments, error):
    with pytest.raises(error):
        cloop.watch(*arguments)


def test_times_have_limits(cloop):
    for threshold, every, expected in [(1e300, None, (1e6, 2.5e5)), (1e-9, 1e-9, (1e-3, 1e-3)), (1, 1e300, (1, 1e6))]:
        with cloop.watch(threshold, every=every) as watch:
            assert (watch.threshold, watch.every) == expected


def test_wrong_destination_is_refused(cloop):
    with pytest.raises(TypeError):
        cloop.watch(to=1)
    with pytest.raises(ValueError):
        cloop.watch(every=0)


# Processes

BLOCKS = """
import asyncio, os, sys, time
import cloop

async def main():
    time.sleep(0.4)  # here
    await asyncio.sleep(0.1)
"""


def reports_in(text):
    """The reports of blocks, without their ends. On a busy machine there may be more than the test has made."""
    return [
        part.partition("cloop: the loop was")[0] for part in text.split("cloop: the loop has been blocked for ")[1:]
    ]


def test_environment_variable(cloop, python, write_script, monkeypatch):
    monkeypatch.setenv("CLOOP_WATCH", "0.05")
    began = time.monotonic()
    done = python(write_script(BLOCKS + "cloop.run(main())"))
    took = time.monotonic() - began
    assert done.returncode == 0 and done.stdout == ""
    (report,) = [part for part in reports_in(done.stderr) if "time.sleep(0.4)" in part]
    assert re.match(r"\d+\.\d\d s: Task-1 main\(\) \(most recent call last\)\n", report)
    assert re.search(r'script\.py", line 6, in main\n +time\.sleep\(0\.4\)', report)
    ends = re.findall(r"^cloop: the loop was blocked for (\d+\.\d\d) s: Task-1$", done.stderr, re.M)
    assert 0.35 <= max(map(float, ends)) <= took


@pytest.mark.parametrize(
    "value, status", [("", 0), ("0", 0), ("1e3", 0), ("1e300", 0), ("x", 1), ("-1", 1), ("inf", 1)]
)
def test_value_of_the_environment_variable(cloop, python, monkeypatch, value, status):
    monkeypatch.setenv("CLOOP_WATCH", value)
    done = python("-c", "import cloop; cloop.new_event_loop().close()")
    assert done.returncode == status
    if status:
        assert "ValueError: CLOOP_WATCH=%s is unknown" % value in done.stderr
    else:
        assert done.stderr == ""


def test_child_of_a_fork_is_watched_and_so_is_the_parent(cloop, python, write_script):
    done = python("-W", "ignore", write_script(BLOCKS + """
watch = cloop.watch(0.05)
pid = os.fork()
cloop.run(main())
if pid == 0:
    os._exit(len(os.listdir("/proc/self/task")))
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 2 if hasattr(os, "waitstatus_to_exitcode") else True
watch.stop()
"""))  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len([part for part in reports_in(done.stderr) if "time.sleep(0.4)" in part]) == 2, done.stderr
    assert done.stderr.count("was blocked for") >= 2


@pytest.mark.skipif("libasan" in os.environ.get("LD_PRELOAD", ""), reason="the sanitizer needs more address space")
def test_report_whose_thread_cannot_be_started_comes_later(cloop, python, write_script):
    done = python(write_script("""
import re, resource, threading, time
import cloop

reports, came = [], threading.Event()

def to(block):
    reports.append(block)
    came.set()

async def blocks():
    with open("/proc/self/status") as file:
        size = int(re.search(r"VmSize:\\s+(\\d+) kB", file.read()).group(1)) << 10
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size + (4 << 20), limits[1]))  # a thread's stack has more
    time.sleep(0.3)
    seen = len(reports)
    resource.setrlimit(resource.RLIMIT_AS, limits)
    assert came.wait(20)
    print(seen, reports[0].ended)

with cloop.watch(0.05, to=to):
    cloop.run(blocks())
"""))  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "0 False\n"


KEEPS = """
import ctypes, os, signal, sys, time
import cloop

usleep = ctypes.PyDLL(None).usleep

async def keeps():
    usleep(400000)
"""


@pytest.mark.gil
def test_c_code_in_the_child_of_a_fork_and_in_its_parent(cloop, python, write_script):
    done = python("-W", "ignore", write_script(KEEPS + """
watch = cloop.watch(0.05)
pid = os.fork()
cloop.run(keeps())
watch.stop()
if pid == 0:
    os._exit(0)
os.waitpid(pid, 0)
"""))  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"line 8 in keeps\n", done.stderr)) == 2, done.stderr
    assert done.stderr.count("C code keeps the interpreter (most") >= 2


@pytest.mark.slow
def test_nobody_reads_what_is_written(cloop, python, write_script):
    """A fork and the end of the process do not wait for ever."""
    done = python("-W", "ignore", write_script(KEEPS + """
signal.alarm(15)
ours, theirs = os.pipe()
os.set_blocking(theirs, False)
try:
    while True:
        os.write(theirs, bytes(65536))
except BlockingIOError:
    os.set_blocking(theirs, True)
os.dup2(theirs, 2)
cloop.watch(0.05)

async def main():
    await keeps()
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    await keeps()

cloop.run(main())
"""))  # fmt: skip
    assert done.returncode == 0


def test_handlers_that_the_program_installs_later_stay(cloop, python, write_script):
    done = python("-W", "ignore", write_script("""
import os, signal
import cloop

got = []
signals = set(range(signal.SIGRTMIN + 1, signal.SIGRTMAX + 1))

def send():
    del got[:]
    for number in signals:
        os.kill(os.getpid(), number)
    assert set(got) == signals

watch = cloop.watch()
for number in signals:
    signal.signal(number, lambda number, frame: got.append(number))
pid = os.fork()
if pid == 0:
    send()
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
send()
watch.stop()
send()
with cloop.watch():
    send()
"""))  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.gil
@pytest.mark.parametrize("again", [False, True])
def test_program_that_gives_the_descriptors_to_its_own_files(cloop, python, write_script, again):
    """As daemons do, that close all that they do not know. Nothing is written to the files, nor are they cut."""
    done = python("-W", "ignore", write_script(KEEPS + """
def descriptors():
    return {int(name): os.readlink("/proc/self/fd/" + name) for name in os.listdir("/proc/self/fd")
            if os.path.lexists("/proc/self/fd/" + name)}

before = descriptors()
watch = cloop.watch(0.05)
ours = [fd for fd, file in descriptors().items() if fd not in before and "/proc/" not in file]
assert len(ours) == 2
for fd in ours:
    with open("file%d" % fd, "w") as file:
        file.write("precious")
    opened = os.open("file%d" % fd, os.O_RDWR)
    os.dup2(opened, fd)
    os.close(opened)
if %r:
    watch = cloop.watch(0.05)
cloop.run(keeps())
watch.stop()
for fd in ours:
    assert os.pread(fd, 100, 0) == b"precious"
""".replace("%r", repr(again))))  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_loop_that_runs_at_the_fork(cloop, python, write_script):
    done = python("-W", "ignore", write_script(BLOCKS + """
cloop.watch(0.05)

async def forks():
    pid = os.fork()
    time.sleep(0.3)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)

cloop.run(forks())
"""))  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len([part for part in reports_in(done.stderr) if "in forks" in part]) >= 2, done.stderr


def test_process_ends_while_a_report_is_written(cloop, python, write_script):
    done = python(write_script(BLOCKS + """
import threading
cloop.watch(0.02, to=lambda block: (begun.set(), time.sleep(0.2)))
begun = threading.Event()
async def main():
    begun.wait(10)
cloop.run(main())
"""))  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.skipif(sys.version_info < (3, 11) or FREE_THREADED, reason="other interpreters are of less use there")
def test_reports_that_outlive_their_watch_in_another_interpreter(cloop, python, write_script):
    """stop() waits a second for a report. What is left after that goes with the next watch, or when the interpreter ends."""
    inside = """
import sys
sys.path[:] = %r
import time
from cloop import Loop, _cloop

def report(ended, *rest):
    told.append(ended)
    if not ended:
        time.sleep(1.3)

def watch():
    _cloop._watchdog_start(report, 0.02, 0.005, -1, 0, 0, -1)

def block():
    deadline = time.monotonic() + 20
    while not told and time.monotonic() < deadline:
        time.sleep(0.001)

told = []
for last in False, True:
    watch()
    loop = Loop()
    loop.call_soon(block)
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    _cloop._watchdog_stop()
    if not last:
        watch()  # while it is there
        time.sleep(0.6)
        watch()  # and when it is not
        _cloop._watchdog_stop()
        assert told
        told.clear()
"""
    done = python("-X", "faulthandler", write_script("""
import sys
import threading
import time
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
made = interpreters.create("legacy") if sys.version_info >= (3, 13) else interpreters.create(isolated=False)
failed = interpreters.run_string(made, sys.argv[1] % sys.path)
assert not failed, failed
for _ in range(1000):
    try:
        interpreters.destroy(made)
        break
    except RuntimeError:  # it has more than one thread
        time.sleep(0.01)
print(threading.active_count())
sys.stdout.flush()
__import__("os")._exit(0)
"""), inside)  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")
