"""How a program is started: every keyword, what is refused, and what remains when starting fails."""

import asyncio
import errno
import gc
import os
import resource
import signal
import subprocess
import sys
import threading
import warnings
import weakref

import pytest

PIPE, DEVNULL = subprocess.PIPE, subprocess.DEVNULL
ROOT = pytest.mark.skipif(os.getuid() != 0, reason="needs root")


def since(*version):
    return pytest.mark.skipif(sys.version_info < version, reason="needs Python %d.%d" % version)


@pytest.fixture
def output(run):
    """The output of a /bin/sh script, started with those keywords."""

    async def main(script, options):
        process = await asyncio.create_subprocess_exec("/bin/sh", "-c", script, stdout=PIPE, **options)
        text, _ = await process.communicate()
        assert process.returncode == 0
        return text.decode().strip()

    return lambda script, **options: run(main(script, options))


# Keywords


def test_folder_and_environment(output, tmp_path):
    script = "pwd; echo $MINE; echo ${HOME-no home}"
    got = output(script, cwd=str(tmp_path), env={"MINE": "a value"})
    assert got == "%s\na value\nno home" % os.path.realpath(str(tmp_path))


def test_nothing_else_is_inherited(output):
    with open(os.devnull) as file:
        os.set_inheritable(file.fileno(), True)
        assert output("[ -e /proc/self/fd/%d ] || echo closed" % file.fileno()) == "closed"


def test_pass_fds(output):
    reader, writer = os.pipe()
    try:
        assert output("echo passed >/proc/self/fd/%d" % writer, pass_fds=[writer]) == ""
        assert os.read(reader, 100) == b"passed\n"
    finally:
        os.close(reader)
        os.close(writer)


def test_close_fds_off(output):
    with open(os.devnull) as file:
        os.set_inheritable(file.fileno(), True)
        assert output("[ -e /proc/self/fd/%d ] && echo open" % file.fileno(), close_fds=False) == "open"


def test_program_in_another_place(run):
    async def main():
        process = await asyncio.create_subprocess_exec(
            "a name", "-c", "echo $0", executable="/bin/sh", stdout=PIPE
        )  # fmt: skip
        return await process.communicate()

    assert run(main()) == (b"a name\n", None)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # forking with threads
def test_preexec_fn(output):
    assert output("pwd", preexec_fn=lambda: os.chdir("/")) == "/"


def test_signals_are_restored(output):
    """Python ignores SIGPIPE; programs expect the default."""
    ignored = "while read key value; do [ $key = SigIgn: ] && echo $value; done </proc/self/status; :"
    sigpipe = 1 << (signal.SIGPIPE - 1)
    assert not int(output(ignored), 16) & sigpipe
    assert int(output(ignored, restore_signals=False), 16) & sigpipe


def running(run, loop, recorder, **options):
    """What look(pid) finds in a child that waits for its input."""

    def find(look):
        protocol = recorder()

        async def main():
            transport, _ = await loop.subprocess_exec(lambda: protocol, "/bin/cat", **options)
            found = look(transport.get_pid()), transport.get_pid()
            transport.close()
            await protocol.seen("connection_lost")
            return found

        return run(main())

    return find


def test_start_new_session(run, loop, recorder):
    session, pid = running(run, loop, recorder, start_new_session=True)(os.getsid)
    assert session == pid


@since(3, 11)
def test_process_group(run, loop, recorder):
    group, pid = running(run, loop, recorder, process_group=0)(os.getpgid)
    assert group == pid
    assert running(run, loop, recorder)(os.getpgid)[0] == os.getpgrp()


@since(3, 9)
def test_umask(output):
    assert output("umask", umask=0o26) == "0026"


@ROOT
@since(3, 9)
def test_user_and_groups(output):
    script = "while read key value; do case $key in Uid:|Gid:|Groups:) echo $key $value;; esac; done </proc/self/status"
    got = output(script, user=65534, group=65533, extra_groups=[65532, 65531])
    lines = dict(line.split(None, 1) for line in got.splitlines())
    assert lines["Uid:"].split() == ["65534"] * 4 and lines["Gid:"].split() == ["65533"] * 4
    assert sorted(lines["Groups:"].split()) == ["65531", "65532"]


@since(3, 10)
def test_size_of_the_pipes(run, loop, recorder):
    import fcntl

    def look(pid):
        with open("/proc/%d/fd/1" % pid, "wb", buffering=0) as file:
            return fcntl.fcntl(file, 1032)  # F_GETPIPE_SZ

    assert running(run, loop, recorder, pipesize=4096)(look)[0] == 4096


# Refused


EXEC_REFUSED = {
    "universal_newlines": {"universal_newlines": True},
    "text": {"text": True},
    "shell": {"shell": True},
    "bufsize": {"bufsize": 1},
    "encoding": {"encoding": "utf-8"},
    "errors": {"errors": "strict"},
    "unknown": {"no_such_keyword": 1},
    "stdin": {"stdin": "x"},
    "stdout": {"stdout": object},
    "stderr": {"stderr": 1.5, "stdin": None, "stdout": None},
    "stdin not open": {"stdin": 1 << 20},
    "STDOUT as stdin": {"stdin": subprocess.STDOUT},
    "cwd": {"cwd": "/no/such/folder"},
    "env": {"env": [1]},
    "env of numbers": {"env": {"A": 1}},
    "preexec_fn": {"preexec_fn": lambda: 1 / 0},
    "pass_fds": {"pass_fds": ["x"]},
    "pass_fds negative": {"pass_fds": [-5]},
    "user": {"user": "no such user"},
    "user negative": {"user": -1},
    "group": {"group": "no such group"},
    "groups": {"extra_groups": ["no such group"]},
    "umask": {"umask": "x"},
    "process_group": {"process_group": "x"},
    "executable": {"executable": "/no/such/program"},
}


def failure(loop, coroutine):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            loop.run_until_complete(coroutine)
        except Exception as error:
            result = type(error), str(error)
        loop.run_until_complete(asyncio.sleep(0))
    return result


def descriptors():
    """The open descriptors, except the one used to list them."""
    return {fd for fd in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + fd)}


@pytest.mark.parametrize("options", EXEC_REFUSED.values(), ids=EXEC_REFUSED)
def test_keywords_that_are_refused(as_asyncio, recorder, options):
    def body(loop):
        protocols = []

        def factory():
            protocols.append(recorder())
            return protocols[-1]

        before = descriptors()
        result = failure(loop, loop.subprocess_exec(factory, "/bin/true", **options))
        if sys.version_info < (3, 11) and type(loop) is asyncio.SelectorEventLoop:
            for fd in descriptors() - before:  # that Popen has left open
                os.close(int(fd))
        return result, [protocol.calls for protocol in protocols]

    as_asyncio(body)


@pytest.mark.parametrize(
    "options",
    [
        {"shell": False},
        {"text": True},
        {"bufsize": 9},
        {"universal_newlines": True},
        {"encoding": "x"},
        {"errors": "x"},
    ],
    ids=lambda options: next(iter(options)),
)
def test_keywords_that_a_shell_refuses(as_asyncio, recorder, options):
    as_asyncio(lambda loop: failure(loop, loop.subprocess_shell(recorder, "true", **options)))


@pytest.mark.parametrize("command", [["true"], 1, None, ("true",), bytearray(b"true")], ids=repr)
def test_commands_that_a_shell_refuses(as_asyncio, recorder, command):
    as_asyncio(lambda loop: failure(loop, loop.subprocess_shell(recorder, command)))


PROGRAMS = {
    "missing": ("/no/such/program",),
    "missing on the path": ("no-such-program",),
    "folder": ("/",),
    "not executable": ("/etc/passwd",),
    "number": (1,),
    "None": (None,),
    "number as argument": ("/bin/true", 1),
    "null byte": ("/bin/true", "a\0b"),
    "empty": ("",),
}


@pytest.mark.parametrize("command", PROGRAMS.values(), ids=PROGRAMS)
def test_programs_that_cannot_be_started(as_asyncio, recorder, command):
    def body(loop):
        protocol = recorder()
        return failure(loop, loop.subprocess_exec(lambda: protocol, *command)), protocol.calls

    as_asyncio(body)


@pytest.mark.parametrize("command", [("/bin/true", b"bytes"), (b"/bin/true",)], ids=repr)
def test_bytes_will_do(run, loop, recorder, command):
    protocol = recorder()

    async def main():
        transport, _ = await loop.subprocess_exec(lambda: protocol, *command)
        await protocol.seen("connection_lost")
        transport.close()
        return transport.get_returncode()

    assert run(main()) == 0


# Starting fails half-way


def open_count():
    return len(os.listdir("/proc/self/fd"))


def test_failures_leave_nothing(run, loop, recorder):
    before = open_count()
    for _ in range(50):
        with pytest.raises(FileNotFoundError):
            run(loop.subprocess_exec(recorder, "/no/such/program"))
    assert open_count() == before


@pytest.mark.parametrize("room", range(16))
def test_no_descriptor_left(run, loop, recorder, room, native_spawns):
    """Whichever step finds none. (asyncio's forgets the child if it was the pidfd.)"""
    native_spawns()
    run(asyncio.sleep(0))
    protocol = recorder()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = open_count()
    taken = []
    while True:  # all numbers below the limit are in use, except for `room`
        taken.append(os.open(os.devnull, os.O_RDONLY))
        if taken[-1] > before + 40:
            break
    resource.setrlimit(resource.RLIMIT_NOFILE, (taken[-1] + 1, hard))
    for number in taken[len(taken) - room :]:
        os.close(number)
    del taken[len(taken) - room :]
    transport = None
    try:
        transport, _ = run(loop.subprocess_exec(lambda: protocol, "/bin/cat"))
    except OSError as error:
        assert error.errno == errno.EMFILE
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for number in taken:
            os.close(number)
    if transport is None:
        assert room < 12
        assert "connection_made" not in protocol.calls
        run(asyncio.sleep(0))
    else:
        transport.close()
        run(protocol.seen("connection_lost"))
    del transport
    assert open_count() == before


@pytest.mark.parametrize("failure", [MemoryError(), OSError(errno.ENOMEM, "no memory"), OSError(errno.EMFILE, "full")])
@pytest.mark.parametrize("step", ["pidfd_open", "_add_reader"])
def test_child_is_waited_for_by_a_thread_if_it_cannot_be_watched(
    run, loop, recorder, native_spawns, monkeypatch, step, failure
):
    native_spawns()

    def failing(*args):
        raise type(failure)(*failure.args)  # one with a traceback would keep the frames

    if step == "pidfd_open":
        monkeypatch.setattr("cloop._process.pidfd_open", failing)
    else:
        monkeypatch.setattr(loop, "_add_reader", failing, raising=False)
    protocol = recorder()
    transport, _ = run(loop.subprocess_exec(lambda: protocol, "/bin/cat"))
    transport.get_pipe_transport(0).close()
    run(protocol.seen("connection_lost"))
    assert transport.get_returncode() == 0


@pytest.fixture
def no_pidfd(native_spawns, monkeypatch):
    """Children are waited for by threads."""

    def refuse(pid):
        raise OSError(errno.ENOSYS, "an old kernel")

    def no_pidfd():
        native_spawns()
        monkeypatch.setattr("cloop._process.pidfd_open", refuse)

    return no_pidfd


def test_child_that_a_thread_waits_for_ends_with_its_loop(no_pidfd, new_loop, recorder):
    """The thread kept the transport, its pipes kept the child, and the thread waited for that."""
    no_pidfd()
    loop, before = new_loop(), children()
    transport, protocol = loop.run_until_complete(loop.subprocess_exec(recorder, "/bin/cat"))
    pid, kept = transport.get_pid(), weakref.ref(transport)
    thread = next(each for each in threading.enumerate() if each.name == "cloop-waitpid-%d" % pid)
    protocol.transport = transport = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        loop.close()
        gc.collect()
    assert kept() is None
    thread.join(20)
    subprocess._cleanup()  # as the next Popen does
    assert not thread.is_alive() and children() == before


@pytest.mark.parametrize("failures", [1, 3])
def test_end_of_a_child_is_told_in_spite_of_a_lack_of_memory(no_pidfd, run, loop, recorder, monkeypatch, failures):
    no_pidfd()
    left = [None] * failures
    tell = loop.call_soon_threadsafe

    def failing(*args, **options):
        if left and threading.current_thread().name.startswith("cloop-waitpid-"):
            left.pop()
            raise MemoryError
        return tell(*args, **options)

    monkeypatch.setattr(loop, "call_soon_threadsafe", failing, raising=False)
    protocol = recorder()
    transport, _ = run(loop.subprocess_exec(lambda: protocol, "/bin/cat"))
    transport.get_pipe_transport(0).close()
    run(protocol.seen("connection_lost"))
    assert transport.get_returncode() == 0 and not left


def children():
    """Our children, running or not yet waited for; other tests' servers may be among them."""
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/stat" % pid, "rb") as file:
                parent = int(file.read().rpartition(b")")[2].split()[1])
        except OSError:  # it has ended
            continue
        if parent == os.getpid():
            found.add(int(pid))
    return found


@pytest.mark.parametrize("failure", [RuntimeError("can't start new thread"), MemoryError()])
def test_child_that_nobody_can_wait_for_is_killed(no_pidfd, run, loop, recorder, monkeypatch, failure):
    no_pidfd()

    def failing(*args):
        raise type(failure)(*failure.args)  # one with a traceback would keep the frames

    monkeypatch.setattr("threading.Thread.start", failing)
    protocol = recorder()
    before = children()
    with pytest.raises(type(failure)):
        run(asyncio.wait_for(loop.subprocess_exec(lambda: protocol, "/bin/cat"), 10))
    assert children() == before
    run(asyncio.sleep(0))


@pytest.mark.parametrize("made", range(3))
def test_pipes_that_cannot_be_made_end_the_spawn(run, loop, recorder, native_spawns, monkeypatch, made):
    """The first, second or third of three fails: the exit of the child was waited for without end."""
    native_spawns()
    left = [None] * made

    def failing(real):
        def make(*args, **options):
            if not left:
                raise MemoryError
            left.pop()
            return real(*args, **options)

        return make

    for name in ("_make_read_pipe_transport", "_make_write_pipe_transport"):
        monkeypatch.setattr(loop, name, failing(getattr(loop, name)), raising=False)
    protocol = recorder()
    with pytest.raises(MemoryError):
        run(asyncio.wait_for(loop.subprocess_exec(lambda: protocol, "/bin/cat"), 10))
    assert "connection_made" not in protocol.calls
    for _ in range(5):
        run(asyncio.sleep(0))


@pytest.mark.parametrize("stdin", [None, subprocess.PIPE], ids=["no pipes", "pipes"])
def test_start_that_is_cancelled_before_its_pipes_are_connected(loop, run, reports, stdin):
    """task        the program has started; a task of the transport is to connect its pipes
    cancel()    nobody waits for that any more
    """

    async def main():
        starting = loop.subprocess_exec(asyncio.SubprocessProtocol, "cat", stdin=stdin, stdout=stdin, stderr=None)
        task = loop.create_task(starting)
        loop.call_soon(task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
    gc.collect()  # a task whose exception was never retrieved reports that
    assert reports == []


def test_start_that_is_cancelled_before_its_pipes_fail(loop, run, reports, native_spawns, monkeypatch):
    native_spawns()

    def failing(*args, **options):
        raise MemoryError

    async def main():
        monkeypatch.setattr(loop, "_make_write_pipe_transport", failing, raising=False)
        task = loop.create_task(loop.subprocess_exec(asyncio.SubprocessProtocol, "cat"))
        loop.call_soon(task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
    gc.collect()
    assert reports == []


def test_no_task_for_its_pipes(cloop, run, loop):
    """Nobody has the transport then. asyncio leaves the process and the pipes behind."""
    if not isinstance(loop, cloop.Loop):
        pytest.skip("asyncio does otherwise")

    def refuse(loop, coro, **options):
        if coro.__name__ == "_connect_pipes":
            coro.close()
            raise MemoryError("no task")
        return asyncio.Task(coro, loop=loop, **options)

    async def main():
        loop.set_task_factory(refuse)
        with pytest.raises(MemoryError, match="no task"):
            await asyncio.create_subprocess_exec("/bin/cat", stdin=PIPE, stdout=PIPE, stderr=PIPE)

    run(main())  # the fixtures look for descriptors and children
    gc.collect()
