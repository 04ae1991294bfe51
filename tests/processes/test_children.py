"""Waiting for children: threads, child watchers, SIGCHLD, forks, and other code that waits for them."""

import asyncio
import contextlib
import os
import signal
import sys
import threading
import warnings

import pytest

PIPE = asyncio.subprocess.PIPE
WATCHERS = [
    name
    for name in (
        "ThreadedChildWatcher",
        "SafeChildWatcher",
        "FastChildWatcher",
        "MultiLoopChildWatcher",
        "PidfdChildWatcher",
    )
    if sys.version_info < (3, 14) and hasattr(asyncio, name)
]


async def exit_code(*command, **options):
    process = await asyncio.create_subprocess_exec(*command, **options)
    return await process.wait()


async def sh(script, *args):
    return await exit_code("/bin/sh", "-c", script, "sh", *args)


# Threads


def test_loops_in_threads_at_once(new_loop, spawns):
    """None of them is the main thread, and none gets another's child."""
    failures = []

    def work(loop, number):
        async def main():
            for turn in range(spawns):
                expected = (number * 50 + turn) % 250
                process = await asyncio.create_subprocess_exec(
                    "/bin/sh", "-c", "cat; exit %d" % expected, stdin=PIPE, stdout=PIPE
                )
                output, _ = await process.communicate(b"%d" % expected)
                assert (int(output), process.returncode) == (expected, expected)

        try:
            loop.run_until_complete(main())
        except BaseException as error:
            failures.append(repr(error))

    threads = [threading.Thread(target=work, args=(new_loop(), number)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_many_leave_nothing(run, spawns):
    async def main(count):
        for _ in range(count):
            assert await exit_code("/bin/true") == 0

    run(main(1))
    before = set(os.listdir("/proc/self/fd"))
    run(main(4 * spawns))
    assert set(os.listdir("/proc/self/fd")) == before


# Unusual ends


def test_end_before_the_loop_looks(loop, run, recorder):
    protocol = recorder()
    transport, _ = run(loop.subprocess_exec(lambda: protocol, "/bin/sh", "-c", "exit 3", stdin=None))
    with contextlib.suppress(ChildProcessError):  # a thread of the watcher may be first
        os.waitid(os.P_PID, transport.get_pid(), os.WEXITED | os.WNOWAIT)
    run(protocol.seen("connection_lost"))
    assert transport.get_returncode() == 3
    transport.close()


@contextlib.contextmanager
def handler_of(number, handler):
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


def status_is_lost(pid):
    """What asyncio logs."""
    if sys.version_info < (3, 12):
        return "Unknown child process pid %d, will report returncode 255" % pid
    return "child process pid %d exit status already read:  will report returncode 255" % pid


def test_children_that_the_kernel_waits_for(run, caplog):
    """SIGCHLD is ignored: there is no status, and a warning says so."""

    async def main():
        process = await asyncio.create_subprocess_exec("/bin/cat", stdin=PIPE)
        process.stdin.close()
        return await process.wait(), process.pid

    with handler_of(signal.SIGCHLD, signal.SIG_IGN):
        code, pid = run(main())
    assert code == 255
    (text,) = [record.getMessage() for record in caplog.records if record.name == "asyncio"]
    assert text == status_is_lost(pid)


def test_child_that_someone_else_waited_for(run, caplog, native_spawns):
    """As above, but asyncio's thread would be first."""
    native_spawns()

    async def main():
        process = await asyncio.create_subprocess_exec("/bin/cat", stdin=PIPE)
        process.kill()
        assert os.waitpid(process.pid, 0)[1] == signal.SIGKILL
        code = await process.wait()
        process.stdin.close()
        return code, process.pid

    code, pid = run(main())
    assert code == 255
    (text,) = [record.getMessage() for record in caplog.records if record.name == "asyncio"]
    assert text == status_is_lost(pid)


def test_children_of_others_are_left_alone(run):
    """Not even their statuses are taken."""
    other = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 5"], {})
    assert run(sh("exit 6")) == 6
    assert os.waitpid(other, 0) == (other, 5 << 8)


def test_stopped_child_has_not_ended(loop, run, recorder):
    protocol = recorder()
    transport, _ = run(loop.subprocess_exec(lambda: protocol, "/bin/cat"))
    transport.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, transport.get_pid(), os.WSTOPPED | os.WNOWAIT)
    run(asyncio.sleep(0.001))
    assert transport.get_returncode() is None
    transport.close()
    run(protocol.seen("connection_lost"))
    assert transport.get_returncode() == -signal.SIGKILL


# Signals


def test_python_handler_of_sigchld_is_called(run):
    seen = []
    with handler_of(signal.SIGCHLD, lambda number, frame: seen.append(number)):
        assert run(sh("exit 4")) == 4
    assert seen == [signal.SIGCHLD]


def test_loop_handler_of_sigchld_is_called(loop, run):
    async def main():
        seen = asyncio.Event()
        loop.add_signal_handler(signal.SIGCHLD, seen.set)
        code = await sh("exit 4")
        await asyncio.wait_for(seen.wait(), 20)
        return code

    assert run(main()) == 4
    assert loop.remove_signal_handler(signal.SIGCHLD)


def test_signals_while_children_end(loop, run, spawns):
    """Each child's signal is handled, and each child is reaped."""
    seen = []
    loop.add_signal_handler(signal.SIGUSR1, seen.append, 1)

    async def main():
        done = asyncio.gather(*[sh("kill -USR1 $PPID; exit %d" % (code % 256)) for code in range(spawns)])
        return await done

    assert run(main()) == [code % 256 for code in range(spawns)]
    run(asyncio.sleep(0))
    assert 1 <= len(seen) <= spawns
    loop.remove_signal_handler(signal.SIGUSR1)


def test_signal_handler_that_stops_the_loop(loop, run, recorder, gate):
    """The child's exit is reported when the loop runs again."""
    protocol = recorder()
    command = "/bin/sh", "-c", 'read x <"$1"; kill -USR1 $PPID; exit 3', "sh", gate.path
    transport, _ = run(loop.subprocess_exec(lambda: protocol, *command))
    loop.add_signal_handler(signal.SIGUSR1, loop.stop)
    gate.open()
    loop.run_forever()
    loop.remove_signal_handler(signal.SIGUSR1)
    run(protocol.seen("connection_lost"))
    assert transport.get_returncode() == 3
    transport.close()


def test_interrupt_from_a_child_leaves_the_loop(loop, run, recorder, gate):
    protocol = recorder()
    command = "/bin/sh", "-c", 'read x <"$1"; kill -INT $PPID; exit 3', "sh", gate.path
    transport, _ = run(loop.subprocess_exec(lambda: protocol, *command))
    loop.call_soon(gate.open)
    loop.call_later(20, loop.stop)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    run(protocol.seen("connection_lost"))
    assert transport.get_returncode() == 3
    transport.close()


# Child watchers


@pytest.fixture
def watched_by(loop):
    """Installs a child watcher, attached to the loop; returns the pids it is given."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        policy = asyncio.get_event_loop_policy()
        before = policy._watcher
        policy._watcher = None  # setting another closes the one before
        pids = []

        def watched_by(name):
            class Watcher(getattr(asyncio, name)):
                def add_child_handler(self, pid, *args):
                    pids.append(pid)
                    return super().add_child_handler(pid, *args)

            watcher = Watcher()
            watcher.attach_loop(loop)
            asyncio.set_child_watcher(watcher)
            return pids

        yield watched_by
        watcher = policy._watcher
        if watcher is not None:
            watcher.close()
        policy._watcher = before


@pytest.mark.skipif(not WATCHERS, reason="this asyncio has none")
@pytest.mark.parametrize("name", WATCHERS or [None])
def test_child_watchers_are_asked(run, watched_by, name):
    pids = watched_by(name)

    async def main():
        process = await asyncio.create_subprocess_exec("/bin/cat", stdin=PIPE, stdout=PIPE)
        assert await process.communicate(b"x") == (b"x", None)
        assert pids == [process.pid]
        # One exits at a time: MultiLoopChildWatcher's handler of SIGCHLD interrupts itself.
        children = [
            await asyncio.create_subprocess_exec("/bin/sh", "-c", "read x; exit %d" % code, stdin=PIPE)
            for code in range(5)
        ]
        for child in reversed(children):
            child.stdin.write(b"\n")
            await child.wait()
            child.stdin.close()
        await asyncio.sleep(0)
        return [child.returncode for child in children]

    assert run(main()) == list(range(5))
    assert len(pids) == 6


@pytest.mark.skipif(sys.version_info < (3, 14), reason="the policy has the watcher")
def test_watcher_without_pidfds_is_asked_if_a_program_selects_it(run, loop, monkeypatch):
    """By the function that asyncio asks, as CPython's own tests do."""
    monkeypatch.setattr(asyncio.unix_events, "can_use_pidfd", lambda: False)

    async def main():
        process = await asyncio.create_subprocess_exec("/bin/cat", stdin=PIPE)
        assert process.pid in loop._watcher._threads
        process.stdin.close()
        return await process.wait()

    # A loop may have made its watcher when it was made itself.
    monkeypatch.setattr(loop, "_watcher", asyncio.unix_events._ThreadedChildWatcher())
    assert run(main()) == 0


@pytest.mark.skipif("SafeChildWatcher" not in WATCHERS, reason="this asyncio has none")
def test_watcher_without_a_loop_is_refused(run, watched_by):
    watched_by("SafeChildWatcher")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        asyncio.get_child_watcher().attach_loop(None)
    with pytest.raises(RuntimeError, match="not activated"):
        run(sh("exit 5"))


# Forks, other interpreters


def test_fork_and_exec_in_a_running_loop(script):
    script(
        """
        import os

        async def main():
            pid = os.fork()
            if pid == 0:
                os.execv("/bin/sh", ["sh", "-c", "exit 7"])
            assert os.waitpid(pid, 0) == (pid, 7 << 8)
            process = await asyncio.create_subprocess_exec("/bin/cat", stdin=-1, stdout=-1)
            assert await process.communicate(b"x") == (b"x", None)

        loop = new_loop()
        loop.run_until_complete(main())
        loop.close()
        """
    )


def test_forked_child_spawns_by_a_loop_of_its_own(script):
    script(
        """
        import os

        async def spawn():
            process = await asyncio.create_subprocess_exec("/bin/sh", "-c", "exit 4")
            return await process.wait()

        loop = new_loop()
        assert loop.run_until_complete(spawn()) == 4
        pid = os.fork()
        if pid == 0:
            mine = new_loop()
            code = mine.run_until_complete(spawn())
            mine.close()
            os._exit(code)
        assert os.waitpid(pid, 0) == (pid, 4 << 8)
        assert loop.run_until_complete(spawn()) == 4
        loop.close()
        """
    )


def test_beside_another_interpreter(script):
    script(
        """
        try:
            import _interpreters as interpreters
        except ImportError:
            import _xxsubinterpreters as interpreters

        other = interpreters.create()

        async def main():
            process = await asyncio.create_subprocess_exec("/bin/cat", stdin=-1, stdout=-1)
            assert await process.communicate(b"x") == (b"x", None)
            assert process.returncode == 0

        loop = new_loop()
        loop.run_until_complete(main())
        loop.close()
        interpreters.destroy(other)
        """
    )
