"""subprocess_exec and subprocess_shell: which methods of protocols are called, in which order, and how transports end."""

import asyncio
import gc
import os
import re
import signal
import subprocess
import sys
import warnings
import weakref

import pytest

INTERRUPTIONS = pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])


def raiser(error):
    def raise_it(*args):
        raise error("on purpose")

    return raise_it


# The order of calls


def test_calls_of_a_life(shell, recorder, run):
    protocol = recorder()
    transport = shell(protocol, "echo out; echo err >&2; exit 3")
    run(protocol.seen("connection_lost"))
    assert protocol.output == {1: b"out\n", 2: b"err\n"}
    assert protocol.errors == {0: None, 1: None, 2: None}
    assert transport.get_returncode() == 3
    calls = protocol.calls
    assert calls[0] == "connection_made" and calls[-1] == "connection_lost"
    assert sorted(map(str, calls[1:-1])) == sorted(
        map(str, ["process_exited", ("data", 1), ("data", 2), ("lost", 0), ("lost", 1), ("lost", 2)])
    )
    for fd in 1, 2:
        assert calls.index(("data", fd)) < calls.index(("lost", fd))


def test_connection_is_made_before_the_caller_goes_on(loop, run, recorder):
    protocol = recorder()

    async def main():
        transport, _ = await loop.subprocess_exec(lambda: protocol, "/bin/sh", "-c", "echo x")
        made = list(protocol.calls)
        await protocol.seen("connection_lost")
        transport.close()
        return made

    assert run(main())[:1] == ["connection_made"]


def test_exit_before_the_pipes_are_closed(shell, recorder, run):
    """Others have them, like a shell's background jobs."""
    protocol = recorder()
    transport = shell(protocol, "exec 3<&0; cat <&3 & exit 3")
    run(protocol.seen("process_exited"))
    assert transport.get_returncode() == 3
    assert protocol.calls == ["connection_made", "process_exited"]
    stdin = transport.get_pipe_transport(0)
    stdin.write(b"late")
    stdin.close()
    run(protocol.seen("connection_lost"))
    assert protocol.output[1] == b"late"
    assert protocol.calls[-1] == "connection_lost" and protocol.calls.count("process_exited") == 1


def test_exit_after_the_pipes_are_closed(shell, recorder, run, gate):
    protocol = recorder()
    transport = shell(protocol, 'exec 0<&- 1>&- 2>&-; read x <"$1"; exit 3', gate.path)
    for fd in 0, 1, 2:
        run(protocol.seen(("lost", fd)))
    assert transport.get_returncode() is None and "process_exited" not in protocol.calls
    gate.open()
    run(protocol.seen("connection_lost"))
    assert protocol.calls[-2:] == ["process_exited", "connection_lost"]
    assert transport.get_returncode() == 3


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)], ids=str)
def test_pipes_closed_by_us_in_any_order(shell, recorder, run, gate, order):
    protocol = recorder()
    transport = shell(protocol, 'read x <"$1"', gate.path)
    for fd in order:
        transport.get_pipe_transport(fd).close()
        run(protocol.seen(("lost", fd)))
    assert protocol.calls == ["connection_made"] + [("lost", fd) for fd in order]
    gate.open()
    run(protocol.seen("connection_lost"))
    assert protocol.calls[-2:] == ["process_exited", "connection_lost"]


def test_no_pipes(shell, recorder, run):
    protocol = recorder()
    transport = shell(protocol, "exit 7", stdin=None, stdout=None, stderr=None)
    run(protocol.seen("connection_lost"))
    assert protocol.calls == ["connection_made", "process_exited", "connection_lost"]
    assert transport.get_returncode() == 7
    assert [transport.get_pipe_transport(fd) for fd in (0, 1, 2, 3)] == [None] * 4


def test_data_of_one_descriptor_stay_in_order(shell, recorder, run):
    protocol = recorder()
    shell(protocol, "i=0; while [ $i -lt 300 ]; do echo $i; echo $i >&2; i=$((i+1)); done")
    run(protocol.seen("connection_lost"))
    expected = b"".join(b"%d\n" % number for number in range(300))
    assert protocol.output == {1: expected, 2: expected}


def test_error_output_in_standard_output(shell, recorder, run):
    protocol = recorder()
    transport = shell(protocol, "echo out; echo err >&2", stderr=subprocess.STDOUT)
    assert transport.get_pipe_transport(2) is None
    run(protocol.seen("connection_lost"))
    assert protocol.output == {1: b"out\nerr\n", 2: b""}


def test_input_reaches_the_child(spawn, recorder, run):
    protocol = recorder()
    transport = spawn(protocol, "/bin/cat")
    stdin = transport.get_pipe_transport(0)
    data = os.urandom(1000000)
    stdin.write(data)
    stdin.write_eof()
    run(protocol.seen("connection_lost"))
    assert protocol.output[1] == data and transport.get_returncode() == 0


def test_flow_control_of_the_input_reaches_the_protocol(shell, recorder, run, gate):
    protocol = recorder()
    transport = shell(protocol, 'read x <"$1"; exec cat >/dev/null', gate.path)
    transport.get_pipe_transport(0).write(bytes(1000000))
    assert protocol.calls == ["connection_made", "pause_writing"]
    gate.open()
    run(protocol.seen("resume_writing"))
    transport.get_pipe_transport(0).close()
    run(protocol.seen("connection_lost"))
    assert protocol.calls.count("pause_writing") == protocol.calls.count("resume_writing") == 1


def test_child_that_does_not_read(shell, recorder, run, gate):
    """Its end of the pipe is closed; unread data is lost, which is no error of the process."""
    protocol = recorder()
    transport = shell(protocol, 'read x <"$1"', gate.path)
    transport.get_pipe_transport(0).write(bytes(1000000))
    gate.open()
    run(protocol.seen("connection_lost"))
    assert type(protocol.errors[0]) is BrokenPipeError
    assert transport.get_returncode() == 0


def test_shell_command(loop, run, recorder):
    protocol = recorder()

    async def main():
        transport, _ = await loop.subprocess_shell(lambda: protocol, "echo $((6 * 7)); exit 5")
        await protocol.seen("connection_lost")
        transport.close()
        return transport.get_returncode()

    assert run(main()) == 5
    assert protocol.output[1] == b"42\n"


# Signals


@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL", "SIGUSR1"])
def test_signals(spawn, recorder, run, name):
    protocol = recorder()
    number = getattr(signal, name)
    transport = spawn(protocol, "/bin/cat")
    {"SIGTERM": transport.terminate, "SIGKILL": transport.kill}.get(name, lambda: transport.send_signal(number))()
    run(protocol.seen("connection_lost"))
    assert transport.get_returncode() == -number


def test_signal_that_the_child_handles(shell, recorder, run):
    protocol = recorder()
    transport = shell(protocol, "trap 'echo caught; exit 4' TERM; echo ready; while :; do read x || exit 9; done")
    run(protocol.seen(("data", 1)))
    transport.terminate()
    transport.get_pipe_transport(0).write(b"\n")
    run(protocol.seen("connection_lost"))
    assert protocol.output[1] == b"ready\ncaught\n" and transport.get_returncode() == 4


@pytest.mark.parametrize("method", ["terminate", "kill", "send_signal"])
def test_signals_to_a_process_that_has_exited(as_asyncio, recorder, method):
    def body(loop):
        async def main():
            results = []
            protocol = recorder()
            transport, _ = await loop.subprocess_exec(lambda: protocol, "/bin/cat")

            def attempt():
                try:
                    results.append(getattr(transport, method)(*[0] * (method == "send_signal")))
                except Exception as error:
                    results.append((type(error), str(error)))

            protocol.hooks["process_exited"] = lambda *args: attempt()
            transport.get_pipe_transport(0).close()
            await protocol.seen("connection_lost")
            attempt()
            transport.close()
            attempt()
            return results

        return loop.run_until_complete(main())

    as_asyncio(body)


# The end


@pytest.mark.parametrize("times", [1, 2])
def test_close_kills(spawn, recorder, run, times):
    protocol = recorder()
    transport = spawn(protocol, "/bin/cat")
    assert not transport.is_closing()
    for _ in range(times):
        transport.close()
        assert transport.is_closing()
    run(protocol.seen("connection_lost"))
    assert transport.get_returncode() == -signal.SIGKILL
    assert sorted(map(str, protocol.calls[1:])) == sorted(
        map(str, [("lost", 0), ("lost", 1), ("lost", 2), "process_exited", "connection_lost"])
    )


CLOSED_IN = ["connection_made", "pipe_data_received", "pipe_connection_lost", "process_exited", "connection_lost"]


@pytest.mark.parametrize("method", CLOSED_IN)
def test_close_in_a_callback(shell, recorder, run, method):
    protocol = recorder(**{method: lambda self, *args: self.transport.close()})
    shell(protocol, "echo x; read line", stdin=subprocess.DEVNULL)
    run(protocol.seen("connection_lost"))
    assert protocol.calls.count("connection_lost") == protocol.calls.count("process_exited") == 1


@pytest.mark.parametrize("turns", range(6))
def test_spawning_cancelled_at_every_step(loop, run, turn, recorder, turns):
    """The child is killed and reaped, and everything connected is closed."""
    protocol = recorder()
    task = loop.create_task(loop.subprocess_exec(lambda: protocol, "/bin/cat"))
    for _ in range(turns):
        turn()
    if task.done():
        transport, _ = task.result()
        transport.close()
        run(protocol.seen("connection_lost"))
        return
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        run(task)
    for _ in range(10):
        turn()


@pytest.mark.parametrize("then", ["the grandchild ends", "close()"])
def test_exit_while_a_grandchild_holds_the_pipe(shell, recorder, loop, run, gate, then):
    """The exit is reported at once, and the end when the pipe is closed."""
    protocol = recorder()
    transport = shell(protocol, '(read x <"$1") & exit 5', gate.path, stdin=None, stderr=None)
    run(protocol.seen("process_exited"))
    assert transport.get_returncode() == 5
    assert protocol.calls == ["connection_made", "process_exited"]
    assert not transport.is_closing() and not transport.get_pipe_transport(1).is_closing()
    if then == "close()":
        transport.close()
    else:
        gate.open()
    run(protocol.seen("connection_lost"))
    assert protocol.calls == ["connection_made", "process_exited", ("lost", 1), "connection_lost"]
    assert run(transport._wait()) == 5
    gate.open()


def test_close_of_a_process_that_has_exited_unnoticed(shell, recorder, run, gate, native_spawns):
    """asyncio calls Popen.poll(), which takes the status away from the watcher: 255."""
    native_spawns()
    protocol = recorder()
    transport = shell(protocol, 'read x <"$1"; exit 3', gate.path)
    gate.open()
    os.waitid(os.P_PID, transport.get_pid(), os.WEXITED | os.WNOWAIT)
    transport.close()
    run(protocol.seen("connection_lost"))
    assert transport.get_returncode() == 3


def test_connection_lost_releases_the_protocol_and_the_process(spawn, recorder, run):
    protocol = recorder()
    transport = spawn(protocol, "/bin/cat")
    assert transport.get_protocol() is protocol
    transport.get_pipe_transport(0).close()
    run(protocol.seen("connection_lost"))
    assert transport.get_protocol() is None
    assert transport.get_extra_info("subprocess").returncode == 0  # Popen knows it too
    assert not transport.is_closing()


def test_what_is_known_of_the_process(spawn, recorder, run):
    protocol = recorder()
    transport = spawn(protocol, "/bin/cat", stderr=None)
    popen = transport.get_extra_info("subprocess")
    assert type(popen) is subprocess.Popen and popen.pid == transport.get_pid() > 0
    assert popen.args == ("/bin/cat",)
    assert transport.get_extra_info("nothing") is None and transport.get_extra_info("nothing", 5) == 5
    assert transport.get_returncode() is None
    assert isinstance(transport, asyncio.SubprocessTransport)
    assert isinstance(transport.get_pipe_transport(0), asyncio.WriteTransport)
    assert isinstance(transport.get_pipe_transport(1), asyncio.ReadTransport)
    assert transport.get_pipe_transport(2) is None
    assert transport.get_pipe_transport(0).get_extra_info("pipe") is popen.stdin
    assert transport.get_pipe_transport(1).get_extra_info("pipe") is popen.stdout


def test_protocol_may_be_replaced(spawn, recorder, run):
    first, second = recorder(), recorder()
    transport = spawn(first, "/bin/cat")
    transport.set_protocol(second)
    assert transport.get_protocol() is second
    transport.get_pipe_transport(0).write(b"x")
    run(second.seen(("data", 1)))
    transport.close()
    run(second.seen("connection_lost"))
    assert first.calls == ["connection_made"]
    first.calls.append("connection_lost")  # for the fixture


def test_repr(as_asyncio, recorder):
    def described(transport):
        text = re.sub(r"<_?\w*(Read|Write)PipeTransport", r"<\1", repr(transport))
        return re.sub(r"^<\w+", "<T", re.sub(r"(fd|pid)=\d+", r"\1=N", text))

    def body(loop):
        async def main():
            protocol = recorder()
            seen = []
            transport, _ = await loop.subprocess_exec(lambda: protocol, "/bin/cat", stderr=subprocess.STDOUT)
            await asyncio.sleep(0)
            seen.append(described(transport))
            transport.get_pipe_transport(0).close()
            await protocol.seen("connection_lost")
            await asyncio.sleep(0)
            seen.append(described(transport))
            transport.close()
            seen.append(described(transport))
            return seen

        return loop.run_until_complete(main())

    as_asyncio(body)


def test_dropped_transport_warns_and_kills(loop, run, recorder, gate):
    """Like asyncio's, once neither the loop nor the pipes' protocols keep it."""
    protocol = recorder()
    command = "/bin/sh", "-c", 'read x <"$1"', "sh", gate.path
    transport, _ = run(loop.subprocess_exec(lambda: protocol, *command, stdin=None, stdout=None, stderr=None))
    popen = transport.get_extra_info("subprocess")
    protocol.transport = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        transport.__del__()  # the watcher keeps it
        caught_texts = [str(warning.message) for warning in caught if warning.category is ResourceWarning]
        caught.clear()
    assert len(caught_texts) == 1
    assert re.match(r"unclosed transport <\w+ pid=%d running>" % popen.pid, caught_texts[0])
    run(protocol.seen("connection_lost"))
    assert transport.get_returncode() == -signal.SIGKILL


def test_finished_transport_is_freed_without_the_collector(loop, run, recorder, until):
    protocol = recorder()
    transport, _ = run(loop.subprocess_exec(lambda: protocol, "/bin/true", stdin=None, stdout=None, stderr=None))
    gone = weakref.ref(transport)
    gc.collect()
    gc.disable()
    try:
        run(protocol.seen("connection_lost"))
        run(asyncio.sleep(0))
        transport.close()
        protocol.transport = transport = None
        until(lambda: gone() is None)  # a thread that waited for the child, as asyncio's may, keeps it a little longer
    finally:
        gc.enable()


def test_loop_closed_while_the_child_runs(loop, recorder, native_spawns):
    """No method is called any more, the loop keeps no descriptor of the child (asyncio's does), and closing the
    transport still kills it.
    """
    native_spawns()
    protocol = recorder()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # of the pipes
        transport, _ = loop.run_until_complete(loop.subprocess_exec(lambda: protocol, "/bin/cat"))
        popen = transport.get_extra_info("subprocess")
        loop.close()
        transport.close()
        assert popen.wait() == -signal.SIGKILL
        assert protocol.calls == ["connection_made"]
        protocol.transport = transport = popen = None
        gc.collect()


# Exceptions in callbacks


METHODS = ["connection_made", "pipe_data_received", "pipe_connection_lost", "process_exited", "connection_lost"]


@pytest.mark.parametrize("method", METHODS)
def test_exceptions_of_callbacks_are_reported(loop, run, recorder, reports, method):
    protocol = recorder(**{method: raiser(ZeroDivisionError)})

    async def main():
        transport, _ = await loop.subprocess_exec(lambda: protocol, "/bin/echo", "x", stdin=None, stderr=None)
        await protocol.seen("connection_lost")
        await asyncio.sleep(0)
        protocol.transport = transport
        transport.close()

    run(main())
    assert [type(context["exception"]) for context in reports] == [ZeroDivisionError]
    assert sorted(map(str, protocol.calls)) == sorted(
        map(str, ["connection_made", ("data", 1), ("lost", 1), "process_exited", "connection_lost"])
    )


@INTERRUPTIONS
@pytest.mark.parametrize("method", METHODS)
def test_interruption_in_a_callback_leaves_the_loop(loop, run, recorder, method, interruption):
    """When the loop runs again, the rest is reported."""
    protocol = recorder(**{method: raiser(interruption)})
    task = loop.create_task(loop.subprocess_exec(lambda: protocol, "/bin/echo", "x", stdin=None, stderr=None))

    async def main():
        await asyncio.wait([task])
        await protocol.seen("connection_lost")
        for _ in range(3):
            await asyncio.sleep(0)

    with pytest.raises(interruption):
        main_task = loop.create_task(main())
        run(main_task)
    run(main_task)
    transport, _ = task.result()
    transport.close()
    assert sorted(map(str, protocol.calls)) == sorted(
        map(str, ["connection_made", ("data", 1), ("lost", 1), "process_exited", "connection_lost"])
    )


def test_factory_that_raises(loop, run):
    with pytest.raises(ZeroDivisionError):
        run(loop.subprocess_exec(raiser(ZeroDivisionError), "/bin/true"))


# Debug mode


def test_debug_mode_logs(loop, run, recorder, caplog):
    loop.set_debug(True)
    loop.slow_callback_duration = 100

    async def main():
        protocol = recorder()
        transport, _ = await loop.subprocess_exec(lambda: protocol, "/bin/cat", stdout=None, stderr=subprocess.STDOUT)
        transport.get_pipe_transport(0).close()
        await protocol.seen("connection_lost")
        transport.close()
        transport, _ = await loop.subprocess_shell(lambda: protocol, "cat", stdin=subprocess.PIPE, stdout=None)
        transport.close()
        await transport._wait()

    with caplog.at_level("DEBUG", "asyncio"):
        run(main())
    logged = re.sub(r"<_?[A-Z].*>", "<T>", "\n".join(caplog.messages))
    logged = re.sub(r"pid:? \d+", "pid N", logged)
    for text in (
        "execute program '/bin/cat' stdin=<pipe> stderr=<stdout>",
        "process '/bin/cat' created: pid N",
        "execute program '/bin/cat': <T>",
        "<T> exited with return code 0",
        "run shell command 'cat' stdin=<pipe> stderr=<pipe>",
        "run shell command 'cat': <T>",
        "process 'cat' created: pid N",
        "Close running child process: kill <T>",
        "<T> exited with return code -9",
    ):
        assert text in logged.splitlines(), logged


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_standard_streams_are_pipes(loop, loop_kind, shell, recorder, run):
    """As seen by the child: not sockets, and each can be opened again by name. (Before 3.11 asyncio uses a socket for
    stdin.)
    """
    protocol = recorder()
    all_pipes = sys.version_info >= (3, 11) or loop_kind != "asyncio"
    transport = shell(
        protocol,
        'for fd in %s; do [ -p /proc/self/fd/$fd ] || echo "$fd is no pipe"; done;'
        "read a %s; echo $a >/dev/stdout; echo also $a >/dev/stderr"
        % (("0 1 2", "</dev/stdin") if all_pipes else ("1 2", "")),
    )
    transport.get_pipe_transport(0).write(b"opened\n")
    run(protocol.seen("connection_lost"))
    assert protocol.output == {1: b"opened\n", 2: b"also opened\n"}
