"""What a child inherits, and how a failed start is told. Up to Python 3.9 cloop starts children itself (csrc/spawn.h), with the
arguments and the promises of subprocess, which forks there.
"""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading

import pytest

PIPE = subprocess.PIPE
OURS = sys.version_info < (3, 10)


def run_on(loop, coroutine):
    """Runs it while the loop is the current one, which has the child watcher."""
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(coroutine)
    finally:
        asyncio.set_event_loop(None)


@pytest.fixture
def output(run):
    """The output of a /bin/sh script, started with those keywords."""

    async def main(script, options):
        options.setdefault("stdout", PIPE)
        process = await asyncio.create_subprocess_exec("/bin/sh", "-c", script, **options)
        text, _ = await process.communicate()
        assert process.returncode == 0
        return text.decode().strip()

    return lambda script, **options: run(main(script, options))


STATUS = "while read key value; do case $key in Sig???:) echo $key $value;; esac; done </proc/self/status"


@pytest.mark.parametrize("restore", [True, False])
def test_signals_are_those_of_a_child_of_subprocess(output, restore):
    """None is blocked that was not, none is caught, and only those are ignored that were."""
    numbers = signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP
    before = [signal.getsignal(number) for number in numbers]
    signal.signal(signal.SIGUSR1, lambda *args: None)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
    try:
        with subprocess.Popen(["/bin/sh", "-c", STATUS], stdout=PIPE, restore_signals=restore) as process:
            expected = process.communicate()[0].decode().strip()
        assert output(STATUS, restore_signals=restore) == expected
        found = dict(line.split() for line in expected.splitlines())
        assert int(found["SigBlk:"], 16) & 1 << signal.SIGHUP - 1
        assert int(found["SigIgn:"], 16) & 1 << signal.SIGUSR2 - 1
        assert not int(found["SigCgt:"], 16) & 1 << signal.SIGUSR1 - 1
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == mask | {signal.SIGHUP}
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in zip(numbers, before):
            signal.signal(number, handler)


def test_a_handler_does_not_run_in_the_child(output):
    """Signals that come while children are started reach the parent's handler only."""
    seen, stop = set(), threading.Event()
    before = signal.signal(signal.SIGUSR1, lambda *args: seen.add(os.getpid()))

    def send():
        while not stop.wait(0.0001):
            os.kill(os.getpid(), signal.SIGUSR1)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        for number in range(50):
            assert output("echo %d" % number) == str(number)
    finally:
        stop.set()
        sender.join()
        signal.signal(signal.SIGUSR1, before)
    assert seen <= {os.getpid()}


LIST = "cd /proc/self/fd; for fd in *; do [ -e $fd ] && echo $fd; done; :"


@pytest.mark.parametrize("passed", [(), (1,), (1, 2, 3), (1, 11, 181)], ids=str)
def test_descriptors(output, passed):
    """All are closed, but for the standard streams and those of pass_fds, wherever they are."""
    first = 1 + max(map(int, os.listdir("/proc/self/fd")))
    with open(os.devnull) as file:
        made = [os.dup2(file.fileno(), first + n, inheritable=True) for n in (0, 1, 2, 3, 4, 10, 11, 180, 181, 182)]
        try:
            got = {int(fd) for fd in output(LIST, pass_fds=[first + n for n in passed]).split()}
        finally:
            for fd in made:
                os.close(fd)
    assert {fd - first for fd in got if fd >= first} == set(passed)


def test_passed_descriptors_stay_as_they_are_here(output):
    reader, writer = os.pipe()
    try:
        output(":", pass_fds=[writer])
        assert not os.get_inheritable(writer)
    finally:
        os.close(reader)
        os.close(writer)


def test_low_descriptors(script):
    """The pipes get the numbers of standard streams that this process has closed."""
    text = script(
        """
        import asyncio, os, sys

        async def main():
            told = []
            for closed in (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2):
                kept = [os.dup(fd) for fd in range(3)]
                for fd in closed:
                    os.close(fd)
                try:
                    for options in ({"stdin": -1, "stdout": -1, "stderr": -1}, {"stdin": -3, "stdout": -1, "stderr": -3}, {"stdin": -3, "stdout": -1, "stderr": -2}):
                        process = await asyncio.create_subprocess_exec(
                            "/bin/sh", "-c", "read a; echo out $a; echo err >&2", **options
                        )
                        told.append(await process.communicate(b"in\\n" if options["stdin"] == -1 else None))
                finally:
                    for fd, copy in enumerate(kept):
                        os.dup2(copy, fd)
                        os.close(copy)
            return told

        loop = new_loop()
        asyncio.set_event_loop(loop)
        told = loop.run_until_complete(main())
        loop.close()
        print(told[::3] == [(b"out in\\n", b"err\\n")] * 7, told[2] == (b"out\\nerr\\n", None), len(told))
        """
    )
    assert text.split() == ["True", "True", "21"]


def test_copies_of_low_descriptors_are_not_inherited(script):
    """Where the stream of a child has the number of another stream here."""
    text = script(
        """
        import asyncio, os

        async def main(**options):
            reading, writing = os.pipe()
            kept = os.dup(0)
            os.dup2(writing, 0, inheritable=False)
            os.close(writing)
            try:
                process = await asyncio.create_subprocess_exec(
                    "/bin/sh", "-c", "for fd in /proc/$$/fd/*; do readlink $fd; done", stdout=0, close_fds=False, **options
                )
            finally:
                os.dup2(kept, 0)
                os.close(kept)
            await process.wait()
            with open(reading) as file:
                return file.read().split().count("pipe:[%d]" % os.fstat(reading).st_ino)

        loop = new_loop()
        asyncio.set_event_loop(loop)
        print(loop.run_until_complete(main()), loop.run_until_complete(main(stderr=-2)))
        loop.close()
        """
    )
    assert text.split() == ["1", "2"]


@pytest.mark.parametrize(
    "options",
    [
        {"cwd": "/nowhere"},
        {"cwd": b"/nowhere"},
        {"cwd": "/dev/null"},
        {"executable": "/nowhere"},
        {"executable": "/"},
        {"executable": "nowhere", "env": {"PATH": "/dev/null:/:/nowhere"}},
        {"executable": "locked", "env": {"PATH": "/nowhere:{folder}:/bin"}},
        {"executable": "sh", "env": {"PATH": "/nowhere:/bin"}},
        {"executable": "sh", "env": {}},
        {"env": {"A=B": "C"}},
        {"env": {"A": "C\0"}},
        {"cwd": "a\0b"},
        {"pass_fds": (999,)},
        {"pass_fds": (-1,)},
        {"start_new_session": True},
        {"umask": 0o77},
        {"close_fds": False},
        {"close_fds": False, "executable": "/nowhere"},
    ],
    ids=str,
)
def test_starts_that_fail(as_asyncio, tmp_path, options):
    """The exception, its number, its file name and its text."""
    (tmp_path / "locked").write_text("text")
    options = dict(options)
    if "env" in options:
        options["env"] = {key: value.replace("{folder}", str(tmp_path)) for key, value in options["env"].items()}

    def body(loop):
        async def main():
            try:
                process = await asyncio.create_subprocess_exec("/bin/sh", "-c", "echo $0", stdout=PIPE, **options)
            except Exception as error:
                return type(error), str(error), getattr(error, "errno", None), getattr(error, "filename", None)
            return await process.communicate(), process.returncode

        return run_on(loop, main())

    as_asyncio(body)


@pytest.mark.parametrize("args", [("/bin/sh", "a\0b"), ("/bin/sh", 5), ("/bin/sh", "\ud800"), ("",)], ids=ascii)
def test_arguments_that_cannot_be_passed(as_asyncio, args):
    def body(loop):
        async def main():
            await asyncio.create_subprocess_exec(*args)

        return run_on(loop, main())

    as_asyncio(body)


def test_the_process_is_popens(run, recorder, loop):
    protocol = recorder()

    async def main():
        transport, _ = await loop.subprocess_exec(lambda: protocol, "/bin/true")
        process = transport.get_extra_info("subprocess")
        await protocol.seen("connection_lost")
        return type(process), process.args

    kind, args = run(main())
    assert kind is subprocess.Popen and list(args) == ["/bin/true"]


@pytest.mark.parametrize("what", ["_execute_child", "fork_exec", "Popen"])
def test_what_is_replaced_is_called(output, monkeypatch, what):
    if what == "fork_exec" and not OURS:
        pytest.skip("subprocess has its own reference")
    seen, owner = [], subprocess if what == "Popen" else subprocess.Popen
    if what == "fork_exec":
        owner = subprocess._posixsubprocess
    original = getattr(owner, what)

    def replacement(*args, **options):
        seen.append(what)
        return original(*args, **options)

    monkeypatch.setattr(owner, what, replacement)
    assert output("echo here") == "here"
    assert seen == [what]


REPLACED = {  # before the import: by debuggers, to follow into children, and by tracers
    "_execute_child": "subprocess.Popen",
    "fork_exec": "subprocess._posixsubprocess",
    "communicate": "asyncio.subprocess.Process",
    "wait": "asyncio.subprocess.Process",
}


@pytest.mark.parametrize("what", REPLACED)
def test_what_was_replaced_before_the_import_is_called(python, loop_kind, what):
    if what == "fork_exec" and not OURS:
        pytest.skip("subprocess has its own reference")
    text = """
        import asyncio, subprocess
        seen, what, owner = [], %r, %s
        original = getattr(owner, what)
        def replacement(*args, **options):
            seen.append(what)
            return original(*args, **options)
        setattr(owner, what, replacement)
        async def main():
            process = await asyncio.create_subprocess_exec("/bin/echo", "here", stdout=-1)
            return (await process.communicate())[0]
        loop = %s()
        asyncio.set_event_loop(loop)
        print(loop.run_until_complete(main()), seen)
        loop.close()
    """
    factory = "asyncio.SelectorEventLoop" if loop_kind == "asyncio" else "__import__('cloop').new_event_loop"
    done = python("-c", textwrap.dedent(text) % (what, REPLACED[what], factory))
    assert (done.stdout, done.stderr) == ("b'here\\n' ['%s']\n" % what, "")


@pytest.mark.skipif(not OURS, reason="subprocess does so itself")
def test_no_fork_is_needed(cloop, loop_kind, output, monkeypatch):
    """Hooks of os.fork() do not run in either case; so the function is replaced where cloop has put its own."""
    if loop_kind == "asyncio":
        pytest.skip("it forks")
    process = __import__("cloop._process", fromlist=["_cloop"])
    calls, fork_exec = [], process._cloop.fork_exec
    monkeypatch.setattr(process._cloop, "fork_exec", lambda *args: calls.append(args) or fork_exec(*args))
    assert output("echo here") == "here"
    assert len(calls) == 1
    assert output("echo here", preexec_fn=lambda: None) == "here"
    assert len(calls) == 1


@pytest.mark.skipif(not OURS, reason="not called there")
@pytest.mark.parametrize(
    "change",
    [
        {0: 5},
        {0: ["/bin/true", 5]},
        {1: ("/bin/true", 5)},
        {3: (5, 4)},
        {3: (-1,)},
        {3: ("a",)},
        {3: (10**10,)},
        {3: []},
        {4: 5},
        {5: [5]},
        {13: 2},
    ],
    ids=str,
)
def test_wrong_arguments(cloop, change):
    fork_exec = __import__("cloop._cloop", fromlist=["fork_exec"]).fork_exec
    args = [["/bin/true"], (b"/bin/true",), True, (9,), None, None, -1, -1, -1, -1, -1, -1, 8, 9, True, False, -1]
    for index, value in change.items():
        args[index] = value
    with pytest.raises((TypeError, ValueError, OverflowError)):
        fork_exec(*args)
    with pytest.raises(TypeError):
        fork_exec()


@pytest.mark.skipif(not OURS, reason="not called there")
def test_a_kernel_that_refuses_vfork(script, monkeypatch, tmp_path):
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    source, library = tmp_path / "refuse.c", tmp_path / "refuse.so"
    source.write_text("#include <errno.h>\nint vfork(void) { errno = EINVAL; return -1; }\n")
    options = ["-shared", "-fPIC", "-fno-builtin", "-o", str(library), str(source)]
    subprocess.run([compiler] + options, check=True, env={"PATH": os.environ["PATH"]})
    monkeypatch.setenv("LD_PRELOAD", str(library), prepend=" ")
    # A sanitizer has a vfork() of its own: ours comes first.
    monkeypatch.setenv("ASAN_OPTIONS", os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0")
    assert script("""
async def main():
    process = await asyncio.create_subprocess_exec("/bin/echo", "started", stdout=-1)
    print((await process.communicate())[0], process.returncode)
    try:
        await asyncio.create_subprocess_exec("/nowhere/at/all")
    except FileNotFoundError as error:
        print(error.filename)

loop = new_loop()
asyncio.set_event_loop(loop)
loop.run_until_complete(main())
loop.close()
""") == "b'started\\n' 0\n/nowhere/at/all\n"  # fmt: skip


@pytest.mark.skipif(not OURS, reason="not called there")
def test_argument_that_is_gone_when_it_is_refused(cloop, python, write_script):
    """Its method has removed it from the list, which had the only reference. Freed memory is overwritten there."""
    done = python("-X", "dev", write_script("""
from cloop._cloop import fork_exec

class Path:
    def __fspath__(self):
        items.clear()
        return 5

for where in 0, 1, 5:  # arguments, programs, environment
    items = [Path()]
    args = [["/bin/true"], (b"/bin/true",), True, (9,), None, None, -1, -1, -1, -1, -1, -1, 8, 9, True, False, -1]
    args[where] = items
    try:
        fork_exec(*args)
    except TypeError as error:
        print(error)
"""))  # fmt: skip
    expected = "expected Path.__fspath__() to return str or bytes, not int\n" * 3
    assert (done.returncode, done.stdout, done.stderr) == (0, expected, "")


NAMES = (
    "args programs close_fds kept cwd env p2cread p2cwrite c2pread c2pwrite errread errwrite errpipe_read errpipe_write "
    "restore_signals call_setsid"
).split()
NO_FILE = 999
SHOWS = """
for fd in 0 1 2; do readlink /proc/$$/fd/$fd || echo none; done >"$0" 2>/dev/null
{ umask; pwd; echo "$A"; ls /proc/$$/fd; read -r pid name state parent group session rest </proc/$$/stat
[ $session = $$ ] && echo leads; grep SigIgn /proc/$$/status; } >>"$0" 2>/dev/null
"""
EXECS = {
    "nothing": {},
    "all streams": {"p2cread": "file", "c2pwrite": "file", "errwrite": "file"},
    "in their places": {"p2cread": 0, "c2pwrite": 1, "errwrite": 2},
    "stdout and stderr swapped": {"c2pwrite": 2, "errwrite": 1},
    "stdout in the place of stdin": {"c2pwrite": 0, "p2cread": "file"},
    "stderr in the place of stdin": {"errwrite": 0, "p2cread": "file"},
    "stderr in the place of stdout": {"errwrite": 1, "c2pwrite": "file"},
    "both in the place of stdin": {"errwrite": 0, "c2pwrite": 0},
    "no stdin to keep": {"p2cread": NO_FILE},
    "no stdout": {"c2pwrite": NO_FILE},
    "no stderr": {"errwrite": NO_FILE},
    "no other end of stdin": {"p2cwrite": NO_FILE},
    "no other end of stdout": {"c2pread": NO_FILE},
    "no other end of stderr": {"errread": NO_FILE},
    "no other end of the pipe for the error": {"errpipe_read": NO_FILE},
    "no file to keep": {"kept": (NO_FILE,)},
    "no folder": {"cwd": "/nowhere"},
    "a folder": {"cwd": b"/"},
    "no such program": {"programs": (b"/nowhere", b"/dev/null/x")},
    "a folder for a program": {"programs": (b"/nowhere", b"/", b"/nowhere")},
    "the second program": {"programs": (b"/nowhere", b"/bin/sh")},
    "an environment": {"env": [b"A=B", b"PATH=/bin:/usr/bin"]},
    "no environment": {"env": ()},
    "files stay open": {"close_fds": False},
    "signals stay ignored": {"restore_signals": False},
    "a session": {"call_setsid": True},
}


@pytest.mark.skipif(not OURS, reason="not called there")
@pytest.mark.parametrize("case", EXECS)
def test_does_what_the_function_of_subprocess_does(cloop, tmp_path, case):
    """The child, and what it says if there is none."""

    def run(function, rest):
        shown = tmp_path / "shown"
        if shown.exists():
            shown.unlink()
        file = os.open("/dev/null", os.O_RDWR)
        errpipe_read, errpipe_write = os.pipe()
        try:
            given = dict(EXECS[case])
            args = {
                "args": ["/bin/sh", "-c", SHOWS, str(shown)], "programs": (b"/bin/sh",), "close_fds": True, "kept": (),
                "cwd": None, "env": None, "p2cread": -1, "p2cwrite": -1, "c2pread": -1, "c2pwrite": -1, "errread": -1,
                "errwrite": -1, "errpipe_read": errpipe_read, "errpipe_write": errpipe_write, "restore_signals": True,
                "call_setsid": False,
            }  # fmt: skip
            args.update((name, file if value == "file" else value) for name, value in given.items())
            args["kept"] = tuple(sorted(args["kept"] + (errpipe_write,)))
            pid = function(*[args[name] for name in NAMES], *rest)
            os.close(errpipe_write)
            errpipe_write = -1
            told = b"".join(iter(lambda: os.read(errpipe_read, 1000), b""))
            status = os.waitpid(pid, 0)[1]
        finally:
            for fd in file, errpipe_read, errpipe_write:
                if fd >= 0:
                    os.close(fd)
        return told, status, shown.read_text() if shown.exists() else None

    _cloop = __import__("cloop._cloop", fromlist=["fork_exec"])
    others = [None, None, None, -1, None] if sys.version_info >= (3, 9) else [None]
    expected = run(subprocess._posixsubprocess.fork_exec, others)
    assert run(_cloop.fork_exec, [-1]) == expected
    assert (expected[0] == b"") == (expected[2] is not None)
