"""Subprocesses: other programs run beside the loop, and their pipes are streams.

Shown are one that is asked and answers line by line, one whose output and status are wanted at its end, and one that
takes too long and is killed.

Try: `create_subprocess_shell("ls | wc -l")`.
"""

import asyncio
import sys
from asyncio.subprocess import PIPE

UPPER = """
for line in iter(input, ""):
    print(line.upper(), flush=True)
"""


async def ask_line_by_line() -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", UPPER, stdin=PIPE, stdout=PIPE)
    assert process.stdin is not None and process.stdout is not None
    for word in ("ready", "steady", "go"):
        process.stdin.write(word.encode() + b"\n")
        await process.stdin.drain()
        print("the child says", (await process.stdout.readline()).decode().strip())
    process.stdin.write(b"\n")
    print("it ends with status", await process.wait())


async def have_output() -> None:
    code = "import sys; print(len(sys.stdin.read())); sys.exit(3)"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdin=PIPE, stdout=PIPE)
    output, _ = await process.communicate(b"x" * 1000)
    print("it read %s bytes and ends with status %d" % (output.decode().strip(), process.returncode or 0))


async def kill() -> None:
    process = await asyncio.create_subprocess_exec("sleep", "3600")
    try:
        await asyncio.wait_for(process.wait(), 0.01)
    except asyncio.TimeoutError:
        process.kill()
    print("killed by signal", -await process.wait())


async def main() -> None:
    await ask_line_by_line()
    await have_output()
    await kill()


if __name__ == "__main__":
    asyncio.run(main())
