"""asyncio.create_subprocess_exec, create_subprocess_shell and their Process, on the loop."""

import asyncio
import inspect
import os
import re
import signal
import sys

import pytest

PIPE, DEVNULL, STDOUT = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL, asyncio.subprocess.STDOUT
ALL_PIPES = {"stdin": PIPE, "stdout": PIPE, "stderr": PIPE}
MUCH = int(os.environ.get("CLOOP_PROCESS_MIB", 4)) << 20  # through a child and back


async def shell(script, *args, **options):
    return await asyncio.create_subprocess_exec("/bin/sh", "-c", script, "sh", *args, **options)


# communicate()


@pytest.mark.parametrize("size", [0, 1, 65536, 65537, MUCH])
def test_communicate_echoes(run, size):
    data = os.urandom(size)

    async def main():
        process = await asyncio.create_subprocess_exec("/bin/cat", stdin=PIPE, stdout=PIPE)
        return await process.communicate(data), process.returncode

    assert run(main()) == ((data, None), 0)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="there are no eager tasks")
def test_tasks_are_eager(loop, run):
    """What connects the pipes is one, too."""
    loop.set_task_factory(asyncio.eager_task_factory)

    async def main():
        process = await asyncio.create_subprocess_exec("/bin/cat", **ALL_PIPES)
        process.stdin.write(b"x")
        process.stdin.close()
        read = await process.stdout.read(), await process.stderr.read(), await process.wait()
        process = await shell("cat; exit 3", stdin=PIPE, stdout=PIPE)
        written = await process.communicate(b"y"), process.returncode
        process = await shell("exit 4")
        return read, written, await process.wait()

    assert run(main()) == ((b"x", b"", 0), ((b"y", None), 3), 4)


def test_communicate_both_outputs_at_once(run):
    """More than the pipes hold, to both, while there is input left."""
    data = os.urandom(1 << 20)

    async def main():
        process = await shell("tee /dev/stderr", **ALL_PIPES)
        return await process.communicate(data), process.returncode

    assert run(main()) == ((data, data), 0)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview], ids=lambda kind: kind.__name__)
def test_communicate_takes_what_is_like_bytes(run, kind):
    async def main():
        process = await asyncio.create_subprocess_exec("/bin/cat", stdin=PIPE, stdout=PIPE)
        return await process.communicate(kind(b"x" * 100000))

    assert run(main()) == (b"x" * 100000, None)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="stays open in this asyncio: the child waits for ever")
def test_communicate_without_input_closes_it(run):
    async def main():
        process = await shell("cat; echo err >&2; exit 2", **ALL_PIPES)
        return await process.communicate(), process.returncode

    assert run(main()) == ((b"", b"err\n"), 2)


def test_communicate_without_pipes(run):
    async def main():
        process = await shell("exit 2")
        assert process.stdin is process.stdout is process.stderr is None
        return await process.communicate(), process.returncode

    assert run(main()) == ((None, None), 2)


@pytest.mark.parametrize("size", [10, 1 << 20])
def test_communicate_with_a_child_that_does_not_read(run, size):
    async def main():
        process = await shell("exec <&-; echo out; exit 3", stdin=PIPE, stdout=PIPE)
        return await process.communicate(bytes(size)), process.returncode

    assert run(main()) == ((b"out\n", None), 3)


def test_communicate_after_the_child_has_ended(run):
    async def main():
        process = await shell("echo out", stdin=PIPE, stdout=PIPE)
        assert await process.wait() == 0
        return await process.communicate(b"unread")

    assert run(main()) == (b"out\n", None)


def test_communicate_cancelled(run):
    async def main():
        process = await shell("echo started; cat >/dev/null", stdin=PIPE, stdout=PIPE)
        assert await process.stdout.readline() == b"started\n"
        task = asyncio.ensure_future(process.communicate())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        process.kill()
        code = await process.wait()
        process._transport.close()  # its pipes may still be open
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return code

    assert run(main()) == -signal.SIGKILL


def test_communicate_times_out(run, gate):
    async def main():
        process = await shell('read x <"$1"', gate.path, stdout=PIPE)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(process.communicate(), 0.01)
        process.terminate()
        return await process.wait()

    assert run(main()) == -signal.SIGTERM


# communicate() again. If cancelled, asyncio's loses what it has read; its releases after 3.15 will not.


def seen_by(process):
    """Notes the calls of the pipes' protocol, and returns a coroutine that waits until data starting with this was
    read.
    """
    protocol, told = process._protocol, {1: b"", 2: b""}
    receive = protocol.pipe_data_received

    def pipe_data_received(fd, data):
        told[fd] += data
        receive(fd, data)

    async def seen(**expected):
        while any(not told[{"stdout": 1, "stderr": 2}[name]].startswith(data) for name, data in expected.items()):
            await asyncio.sleep(0)
        for _ in range(5):
            await asyncio.sleep(0)

    protocol.pipe_data_received = pipe_data_received
    return seen


async def cancelled(task):
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.fixture(params=["streams", "debug"])
def any_streams(request, loop):
    """With asyncio's own streams too, which debug mode uses."""
    loop.set_debug(request.param == "debug")


@pytest.fixture
def soon(run):
    """Runs a coroutine, which must not wait for ever."""
    return lambda coroutine: run(asyncio.wait_for(coroutine, 10))


OUTPUTS = {"stdout": ["stdout"], "stderr": ["stderr"], "both": ["stdout", "stderr"]}


@pytest.mark.parametrize("outputs", list(OUTPUTS))
@pytest.mark.parametrize("times", [1, 3])
def test_communicate_again(soon, gate, native_spawns, any_streams, outputs, times):
    native_spawns()
    both = {"stdout": b"first\n", "stderr": b"error\n"}
    expected = {name: both[name] for name in OUTPUTS[outputs]}

    async def main():
        script = 'echo first; echo error >&2; read x <"$1"; echo second; echo again >&2; exit 3'
        pipes = {name: PIPE if name in expected else DEVNULL for name in both}
        process = await shell(script, gate.path, **pipes)
        seen = seen_by(process)
        for _ in range(times):
            task = asyncio.ensure_future(process.communicate())
            await seen(**expected)
            await cancelled(task)
        gate.open()
        return await process.communicate(), process.returncode

    output, code = soon(main())
    assert code == 3
    assert output == (
        b"first\nsecond\n" if "stdout" in expected else None,
        b"error\nagain\n" if "stderr" in expected else None,
    )


@pytest.mark.parametrize("closed", ["stdout", "stderr", "both"])
def test_communicate_again_after_a_pipe_has_ended(soon, gate, native_spawns, any_streams, closed):
    """Data that was read up to EOF is not lost either."""
    native_spawns()

    async def main():
        closing = {"stdout": ">&-", "stderr": "2>&-", "both": ">&- 2>&-"}[closed]
        process = await shell(
            'echo first; echo error >&2; exec %s; read x <"$1"' % closing, gate.path, stdout=PIPE, stderr=PIPE
        )
        seen = seen_by(process)
        for _ in range(2):
            task = asyncio.ensure_future(process.communicate())
            await seen(stdout=b"first\n", stderr=b"error\n")
            for fd in [fd for fd, name in ((1, "stdout"), (2, "stderr")) if closed in (name, "both")]:
                while not process._transport.get_pipe_transport(fd).is_closing():
                    await asyncio.sleep(0)
            for _ in range(5):
                await asyncio.sleep(0)
            await cancelled(task)
        gate.open()
        return await process.communicate(), await process.communicate()

    assert soon(main()) == ((b"first\n", b"error\n"), (b"", b""))


def test_what_a_cancelled_communicate_has_read_can_be_read(soon, gate, native_spawns, any_streams):
    native_spawns()

    async def main():
        process = await shell('echo first; read x <"$1"; echo second', gate.path, stdout=PIPE)
        seen = seen_by(process)
        task = asyncio.ensure_future(process.communicate())
        await seen(stdout=b"first\n")
        await cancelled(task)
        lines = [await process.stdout.readline()]
        gate.open()
        lines += [await process.stdout.readline(), await process.stdout.read(), await process.wait()]
        return lines

    assert soon(main()) == [b"first\n", b"second\n", b"", 0]


def test_communicate_again_with_more_than_the_limit(soon, gate, native_spawns):
    """The reader holds more than its limit, and keeps the pipe paused until that is read."""
    native_spawns()

    async def main():
        process = await shell(
            'head -c 500000 /dev/zero; read x <"$1"; head -c 500000 /dev/zero', gate.path, stdout=PIPE, limit=1000
        )
        seen = seen_by(process)
        task = asyncio.ensure_future(process.communicate())
        await seen(stdout=bytes(500000))
        await cancelled(task)
        gate.open()
        return await process.communicate()

    assert soon(main()) == (bytes(1000000), None)


@pytest.mark.parametrize("size", [10, MUCH])
def test_communicate_again_while_input_is_left(soon, gate, native_spawns, size):
    """The rest is written, and stdin closed, also where asyncio forgets to do that without input (before 3.12)."""
    native_spawns()
    data = os.urandom(size)

    async def main():
        process = await shell('echo first; read x <"$1"; cat', gate.path, stdin=PIPE, stdout=PIPE)
        seen = seen_by(process)
        task = asyncio.ensure_future(process.communicate(data))
        await seen(stdout=b"first\n")
        await cancelled(task)
        gate.open()
        return await process.communicate()

    assert soon(main()) == (b"first\n" + data, None)


def test_communicate_again_with_more_input(soon, gate):
    """It follows the first, as in the releases of asyncio that allow it."""
    data = bytes(MUCH)

    async def main():
        process = await shell('read x <"$1"; cat', gate.path, stdin=PIPE, stdout=PIPE)
        task = asyncio.ensure_future(process.communicate(data))
        for _ in range(5):
            await asyncio.sleep(0)
        await cancelled(task)
        gate.open()
        return await process.communicate(b"more")

    if sys.version_info < (3, 16):
        assert soon(main()) == (data + b"more", None)


def test_communicate_again_after_the_child_was_killed(soon, native_spawns):
    native_spawns()

    async def main():
        process = await shell("echo first; exec cat", stdin=PIPE, stdout=PIPE, stderr=PIPE)
        seen = seen_by(process)
        task = asyncio.ensure_future(asyncio.wait_for(process.communicate(bytes(MUCH)), 20))
        await seen(stdout=b"first\n")
        await cancelled(task)
        process.kill()
        output = await process.communicate()
        return output[0].startswith(b"first\n"), output[1], process.returncode, await process.wait()

    assert soon(main()) == (True, b"", -signal.SIGKILL, -signal.SIGKILL)


def test_wait_after_a_cancelled_communicate(soon, gate):
    async def main():
        process = await shell('echo first; read x <"$1"; exit 4', gate.path, stdout=PIPE)
        task = asyncio.ensure_future(process.communicate())
        await asyncio.sleep(0)
        await cancelled(task)
        gate.open()
        code = await process.wait()
        await process.stdout.read()
        return code

    assert soon(main()) == 4


@pytest.mark.parametrize(
    "eager",
    [
        False,
        pytest.param(True, marks=pytest.mark.skipif(sys.version_info < (3, 12), reason="there are no eager tasks")),
    ],
)
def test_communicate_that_fails(soon, loop, gate, native_spawns, eager):
    """The readers stop, and nothing is lost. (asyncio's read on, and another communicate() fails.)"""
    native_spawns()

    async def main():
        if eager:
            loop.set_task_factory(asyncio.eager_task_factory)
        process = await shell('echo first; read x <"$1"; cat', gate.path, **ALL_PIPES)
        with pytest.raises((AssertionError, TypeError)):
            await process.communicate("no bytes")
        gate.open()
        return await process.communicate(b"bytes")

    assert soon(main()) == (b"first\nbytes", b"")


def test_communicate_runs_what_a_program_has_put_in_place(soon, monkeypatch):
    async def read(n=-1):
        return b"instead"

    async def communicate(self, input=None):
        return "also instead"

    async def main():
        process = await shell("echo first", stdout=PIPE, stderr=PIPE)
        process.stdout.read = read
        outputs = [await process.communicate()]
        monkeypatch.setattr(asyncio.subprocess.Process, "communicate", communicate)
        other = await shell("exit")
        outputs += [await process.communicate(), await other.communicate()]
        await other.wait()
        return outputs

    assert soon(main()) == [(b"instead", b""), "also instead", "also instead"]


def test_processes_are_asyncios(soon):
    async def main():
        process = await shell("exit 3")
        assert isinstance(process, asyncio.subprocess.Process)
        assert type(process).__name__ == "Process" and type(process).__module__ == "asyncio.subprocess"
        assert inspect.iscoroutinefunction(process.communicate)
        return await process.wait()

    assert soon(main()) == 3


def test_many_at_once(run, spawns):
    async def one(number):
        data = b"%d" % number * 20000
        process = await asyncio.create_subprocess_exec("/bin/cat", stdin=PIPE, stdout=PIPE)
        assert await process.communicate(data) == (data, None)
        return process.returncode

    async def main():
        return await asyncio.gather(*[one(number) for number in range(4 * spawns)])

    assert run(main()) == [0] * (4 * spawns)


# Process


def test_process(run):
    async def main():
        process = await asyncio.create_subprocess_exec("/bin/cat", **ALL_PIPES)
        assert process.pid == process._transport.get_pid() > 0 and process.returncode is None
        assert repr(process) == "<Process %d>" % process.pid
        assert isinstance(process.stdin, asyncio.StreamWriter)
        assert isinstance(process.stdout, asyncio.StreamReader) and type(process.stdout) is type(process.stderr)
        process.stdin.close()
        assert await process.wait() == process.returncode == 0
        assert await process.wait() == 0

    run(main())


def test_conversation(run):
    async def main():
        process = await shell(
            "while read a b; do echo $((a + b)); done; echo bye; exit 4", stdin=PIPE, stdout=PIPE, stderr=DEVNULL
        )
        for a, b in (1, 2), (3, 4), (-5, 5):
            process.stdin.write(b"%d %d\n" % (a, b))
            await process.stdin.drain()
            assert int(await process.stdout.readline()) == a + b
        process.stdin.write_eof()
        assert await process.stdout.read() == b"bye\n"
        return await process.wait()

    assert run(main()) == 4


def test_wait_by_several_tasks(run, gate):
    async def main():
        process = await shell('read x <"$1"; exit 6', gate.path)
        waits = [asyncio.ensure_future(process.wait()) for _ in range(3)]
        await asyncio.sleep(0)
        waits[1].cancel()
        await asyncio.sleep(0)
        gate.open()
        return await asyncio.gather(*waits, return_exceptions=True)

    results = run(main())
    assert results[0] == results[2] == 6 and isinstance(results[1], asyncio.CancelledError)


def test_wait_while_a_grandchild_holds_the_pipes(run, gate, native_spawns):
    """asyncio from 3.11 on, except for its newest releases, waits for those too."""
    if (3, 11) <= sys.version_info < (3, 14):
        native_spawns()

    async def main():
        process = await shell('(echo up; read x <"$1"; echo last) & exit 5', gate.path, stdout=PIPE, stderr=PIPE)
        code = await asyncio.wait_for(process.wait(), 20)
        told = code, process.returncode, process.stdout.at_eof(), await process.wait()
        with pytest.raises(ChildProcessError):  # it is no zombie
            os.waitpid(process.pid, os.WNOHANG)
        gate.open()
        return told, await process.communicate()

    assert run(main()) == ((5, 5, False, 5), (b"up\nlast\n", b""))


def test_communicate_reads_what_a_grandchild_writes(run, gate):
    async def main():
        process = await shell('(echo up; read x <"$1"; echo last) & exit 5', gate.path, stdout=PIPE)
        task = asyncio.ensure_future(process.communicate())
        while process.returncode is None:
            await asyncio.sleep(0)
        assert not task.done()
        gate.open()
        return await task, process.returncode

    assert run(main()) == ((b"up\nlast\n", None), 5)


@pytest.mark.parametrize("method, number", [("terminate", signal.SIGTERM), ("kill", signal.SIGKILL)])
def test_signals(run, method, number):
    async def main():
        process = await asyncio.create_subprocess_exec("/bin/cat", stdin=PIPE)
        getattr(process, method)()
        assert await process.wait() == -number
        process.stdin.close()
        await asyncio.sleep(0)

    run(main())


def test_stopped_and_continued(run):
    async def main():
        process = await asyncio.create_subprocess_exec("/bin/cat", stdin=PIPE, stdout=PIPE)
        process.send_signal(signal.SIGSTOP)
        process.stdin.write(b"x")
        process.send_signal(signal.SIGCONT)
        process.stdin.close()
        return await process.stdout.read(), await process.wait()

    assert run(main()) == (b"x", 0)


def test_limit_of_the_readers(run):
    async def main():
        process = await shell("echo 12345678901234567890123456789012345", stdout=PIPE, limit=8)
        with pytest.raises(ValueError, match="Separator is"):
            await process.stdout.readline()
        process._transport.close()
        await process.wait()

    run(main())


def test_large_output_is_paused_and_goes_on(run):
    """The reader's limit stops the child, not the loop; then everything arrives."""

    async def main():
        process = await shell("exec head -c 1000000 /dev/zero", stdout=PIPE, limit=1000)
        count = 0
        while True:
            await asyncio.sleep(0)
            data = await process.stdout.read(3000)
            if not data:
                return count, await process.wait()
            count += len(data)

    assert run(main()) == (1000000, 0)


def test_drain_waits_for_the_child(run, gate):
    async def main():
        process = await shell('read x <"$1"; exec cat >/dev/null', gate.path, stdin=PIPE)
        process.stdin.write(bytes(1 << 20))
        draining = asyncio.ensure_future(process.stdin.drain())
        await asyncio.sleep(0)
        assert not draining.done()
        gate.open()
        await draining
        process.stdin.close()
        return await process.wait()

    assert run(main()) == 0


def test_drain_after_the_child_has_gone(run):
    async def main():
        process = await asyncio.create_subprocess_exec("/bin/true", stdin=PIPE)
        await process.wait()
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            while True:
                process.stdin.write(b"x" * 100000)
                await process.stdin.drain()

    run(main())


def test_shell(run):
    async def main():
        process = await asyncio.create_subprocess_shell("echo $0 && exit 9", stdout=PIPE)
        return await process.communicate(), process.returncode

    assert run(main()) == ((b"/bin/sh\n", None), 9)


# Where the streams go


def test_files(run, tmp_path):
    (tmp_path / "in").write_bytes(b"from a file")

    async def main():
        with open(str(tmp_path / "in"), "rb") as source, open(str(tmp_path / "out"), "wb") as target:
            process = await asyncio.create_subprocess_exec("/bin/cat", stdin=source, stdout=target.fileno())
            assert process.stdin is process.stdout is None
            return await process.wait()

    assert run(main()) == 0
    assert (tmp_path / "out").read_bytes() == b"from a file"


def test_null(run):
    async def main():
        process = await shell("cat; echo gone; echo err >&2", stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE)
        return await process.communicate()

    assert run(main()) == (None, b"err\n")


def test_errors_to_standard_output(run):
    async def main():
        process = await shell("echo out; echo err >&2", stdout=PIPE, stderr=STDOUT)
        assert process.stderr is None
        return await process.communicate()

    assert run(main()) == (b"out\nerr\n", None)


def test_inherited(script):
    output = script(
        """
        import sys

        async def main():
            process = await asyncio.create_subprocess_exec("/bin/echo", "from the child")
            assert await process.wait() == 0

        loop = new_loop()
        loop.run_until_complete(main())
        loop.close()
        """
    )
    assert output == "from the child\n"


def test_pipe_between_two_processes(run):
    async def main():
        reader, writer = os.pipe()
        first = await asyncio.create_subprocess_exec("/bin/echo", "through both", stdout=writer)
        os.close(writer)
        second = await asyncio.create_subprocess_exec("/bin/cat", stdin=reader, stdout=PIPE)
        os.close(reader)
        output, _ = await second.communicate()
        return output, await first.wait()

    assert run(main()) == (b"through both\n", 0)


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs ptys")
def test_terminal_session(run, loop):
    """An interactive shell on a pty that is its controlling terminal, used through pipe transports."""
    import fcntl
    import termios

    master, slave = os.openpty()

    def take_terminal():
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    async def main():
        process = await asyncio.create_subprocess_exec(
            "/bin/sh", "-i", stdin=slave, stdout=slave, stderr=slave, preexec_fn=take_terminal,
            start_new_session=True, env={"PS1": "ready> ", "PATH": os.environ["PATH"]},
        )  # fmt: skip
        os.close(slave)
        reader = asyncio.StreamReader()
        source, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), open(os.dup(master), "rb", buffering=0)
        )
        transport, protocol = await loop.connect_write_pipe(
            asyncio.streams.FlowControlMixin, open(master, "wb", buffering=0)
        )
        writer = asyncio.StreamWriter(transport, protocol, None, loop)
        said = await reader.readuntil(b"ready> ")
        writer.write(b"[ -t 0 ] && echo $((6 * 7)) ok\n")
        said += await reader.readuntil(b"42 ok\r\n")
        said += await reader.readuntil(b"ready> ")
        writer.write(b"sh -c 'echo ru\"\"ns; exec cat'\n")
        await reader.readuntil(b"runs\r\n")
        writer.write(b"\x03")  # Ctrl-C interrupts the foreground process by now
        said += await reader.readuntil(b"ready> ")
        writer.write(b"exit 3\n")
        code = await process.wait()
        with pytest.raises(OSError):  # EIO: the terminal was hung up
            await reader.read()
        writer.close()
        source.close()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return code

    assert run(main()) == 3


# What tutorials do


def test_program_that_reads_lines_as_they_come(run):
    async def main():
        code = "import sys\nfor line in sys.stdin: print(line.strip().upper(), flush=True)"
        process = await asyncio.create_subprocess_exec(sys.executable, "-S", "-c", code, stdin=PIPE, stdout=PIPE)
        got = []
        for word in "one", "two", "three":
            process.stdin.write(word.encode() + b"\n")
            got.append((await process.stdout.readline()).decode().strip())
        process.stdin.close()
        return got, await process.wait()

    assert run(main()) == (["ONE", "TWO", "THREE"], 0)


def test_debug_mode(run, loop, caplog):
    loop.set_debug(True)
    loop.slow_callback_duration = 100

    async def main():
        process = await asyncio.create_subprocess_exec("/bin/cat", stdin=PIPE, stdout=PIPE)
        return await process.communicate(b"x")

    with caplog.at_level("DEBUG", "asyncio"):
        assert run(main()) == (b"x", None)
    logged = "\n".join(caplog.messages)
    for text in ("communicate: feed stdin \\(1 bytes\\)", "communicate: read stdout", "communicate: close stdout"):
        assert re.search("<Process \\d+> " + text, logged), logged
