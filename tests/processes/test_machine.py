"""Random programs of subprocesses do the same on cloop as on asyncio: what they get, what they print, and how they end.

A program chooses a script, its streams, and what is done to it. What depends on who is quicker is not done, or not noted.

`make fuzz` runs these for as long as it is told.
"""

import asyncio
import re
import signal
import subprocess

import pytest

pytest.importorskip("hypothesis")
from hypothesis import strategies as st  # noqa: E402

PIPE, DEVNULL, STDOUT = subprocess.PIPE, subprocess.DEVNULL, subprocess.STDOUT
PATIENCE_S = 60
NOISE = bytes(range(256)) * 2000
# Those that end by themselves, and those that wait: for the end of their input, or for a signal.
QUICK = [
    "exit 0",
    "exit 3",
    "echo out; echo err >&2; exit 4",
    "kill -TERM $$",
    "printf '%0100000d' 7",
    "exec 1>&-; exit 5",
]
COPYING = ["cat", "cat >&2", "wc -c", "head -c 10", "cat; exit 6"]
FATAL = [signal.SIGKILL, signal.SIGUSR1]
WAITING = ["exec sleep 1000", "trap '' TERM; echo ready; exec sleep 1000"]


def described(error):
    return type(error).__name__, re.sub(r"\d+", "N", str(error))


class Run:
    def __init__(self, loop, program):
        self.loop, self.program, self.notes = loop, program, []
        loop.set_exception_handler(self.report)

    def report(self, loop, context):
        self.notes.append(("reported", context["message"], repr(context.get("exception"))))

    async def attempt(self, name, awaitable):
        try:
            result = await asyncio.wait_for(awaitable, PATIENCE_S)
        except Exception as error:
            result = described(error)
        if isinstance(result, bytes) and len(result) > 100:
            result = len(result), hash(result)
        self.notes.append((name, result))
        return result

    def call(self, name, function, *args):
        try:
            result = function(*args)
        except Exception as error:
            result = described(error)
        self.notes.append((name, result))

    async def main(self):
        program = self.program
        streams = {name: program[name] for name in ("stdin", "stdout", "stderr")}
        options = dict(streams, limit=program["limit"])
        script, family = program["script"], program["family"]
        if program["shell"]:
            making = asyncio.create_subprocess_shell(script, **options)
        else:
            making = asyncio.create_subprocess_exec("/bin/sh", "-c", script, **options)
        process = await making
        self.notes.append([stream is not None for stream in (process.stdin, process.stdout, process.stderr)])
        waiters = [asyncio.ensure_future(process.wait()) for _ in range(program["waiters"])]
        await asyncio.sleep(0)
        if program["cancels"] and waiters:
            waiters[0].cancel()
        try:
            await getattr(self, family)(process)
        finally:
            if family == "waiting" and program["signal"] not in FATAL:
                process.kill()
        await self.attempt("wait", process.wait())
        self.notes.append(("returncode", process.returncode))
        for waiter in waiters:
            await asyncio.wait([waiter])
            self.notes.append("cancelled" if waiter.cancelled() else waiter.result())
        for name in ("stdout", "stderr"):
            stream = getattr(process, name)
            if stream is not None:
                await self.attempt(name, stream.read())
                self.notes.append(stream.at_eof())

    async def quick(self, process):
        if self.program["reads"] == "communicate":
            await self.attempt("communicate", self.tuple(process.communicate()))
            return
        for name in ("stdout", "stderr"):
            stream = getattr(process, name)
            if stream is not None:
                if self.program["reads"] == "line":
                    await self.attempt(name, stream.readline())
                await self.attempt(name, stream.read(3))
                await self.attempt(name, stream.read())

    async def tuple(self, communicating):
        found = await communicating
        return [(len(data), hash(data)) if data is not None and len(data) > 100 else data for data in found]

    async def copying(self, process):
        data = NOISE[: self.program["size"]]
        if process.stdin is None:
            self.notes.append("no stdin")
            return
        if self.program["reads"] == "communicate":
            await self.attempt("communicate", self.tuple(process.communicate(data)))
            return
        for n in range(0, len(data), 30000):
            process.stdin.write(data[n : n + 30000])
        reading = [
            asyncio.ensure_future(stream.read()) for stream in (process.stdout, process.stderr) if stream is not None
        ]
        try:
            await asyncio.wait_for(process.stdin.drain(), PATIENCE_S)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has read what it wanted
        process.stdin.close()
        for read in reading:
            await self.attempt("read", read)

    async def waiting(self, process):
        if "ready" in self.program["script"] and process.stdout is not None:
            await self.attempt("ready", process.stdout.readline())
            self.call("terminate", process.terminate)
        self.call("signal", process.send_signal, self.program["signal"])

    def run(self):
        self.loop.run_until_complete(asyncio.wait_for(self.main(), PATIENCE_S))
        return self.notes


OUTPUT = st.sampled_from([None, PIPE, PIPE, DEVNULL])


def programs(family, scripts, reads):
    return st.fixed_dictionaries(
        {
            "family": st.just(family),
            "script": st.sampled_from(scripts),
            "shell": st.booleans(),
            "stdin": st.just(PIPE) if family == "copying" else st.sampled_from([PIPE, DEVNULL]),
            "stdout": st.sampled_from([PIPE, PIPE, DEVNULL]),
            "stderr": st.sampled_from([PIPE, STDOUT, DEVNULL]),
            "limit": st.sampled_from([100, 65536]),
            "waiters": st.integers(0, 3),
            "cancels": st.just(False) if family == "quick" else st.booleans(),  # it may be over
            "reads": st.sampled_from(reads),
            "size": st.sampled_from([0, 1, 1000, 300000]),
            "signal": st.sampled_from([signal.SIGKILL, signal.SIGKILL, signal.SIGUSR1, 0, -1, 999]),
        }
    )


PROGRAMS = st.one_of(
    programs("quick", QUICK, ["communicate", "read", "line"]),
    programs("copying", COPYING, ["communicate", "read"]),
    programs("waiting", WAITING, ["read"]),
)


def notes_of(loop, program):
    asyncio.set_event_loop(loop)
    try:
        return Run(loop, program).run()
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def test_programs_do_on_cloop_what_they_do_on_asyncio(cloop, same_for_programs):
    same_for_programs(
        PROGRAMS,
        100,
        lambda program: notes_of(asyncio.SelectorEventLoop(), program),
        lambda program: notes_of(cloop.Loop(), program),
        derandomize=True,
    )
