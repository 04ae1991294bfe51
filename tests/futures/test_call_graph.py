"""From Python 3.14 on asyncio shows who awaits whom, also from outside of the process."""

import asyncio
import re
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.version_info < (3, 14), reason="call graphs came in Python 3.14")


def shape(graph):
    """Names of the functions on the stack, and the same for the awaiters."""
    codes = [entry.frame.f_code for entry in graph.call_stack]
    frames = [code.co_name for code in codes if code.co_filename == __file__]
    return frames, sorted((shape(waiter) for waiter in graph.awaited_by), key=str)  # it is a set


def test_call_graph(as_asyncio, settle):
    def body(loop):
        future = loop.create_future()

        async def leaf():
            await future

        async def middle(awaitable):
            await awaitable

        async def root(awaitable):
            await middle(awaitable)

        async def in_group():
            async with asyncio.TaskGroup() as group:
                group.create_task(leaf(), name="in a group")

        first = loop.create_task(leaf(), name="first")
        tasks = [first, loop.create_task(root(first), name="second"), loop.create_task(in_group(), name="group")]
        tasks.append(loop.create_task(root(asyncio.shield(first)), name="shielded"))
        settle(loop)
        seen = [shape(asyncio.capture_call_graph(each)) for each in [future] + tasks]
        waiters = [[], []]
        for number, each in enumerate([future, first]):
            waiters[number] = sorted(
                task.get_name() for task in each._asyncio_awaited_by or () if hasattr(task, "get_name")
            )
        texts = [re.sub(r'File "[^"]*", line \d+', "File", asyncio.format_call_graph(first)).replace("<", "[")]
        future.set_result(None)
        settle(loop)
        seen += [shape(asyncio.capture_call_graph(each)) for each in [future] + tasks]
        return [sorted(map(str, seen)), waiters, sorted(texts[0].splitlines())]

    result = as_asyncio(body)["result"]
    assert result[1] == [["first", "in a group"], ["second"]]


def test_call_graph_of_the_current_task(as_asyncio, loop):
    def body(loop):
        async def inner():
            return shape(asyncio.capture_call_graph()), asyncio.format_call_graph().count("inner")

        async def outer():
            return await loop.create_task(inner())

        return loop.run_until_complete(outer())

    assert as_asyncio(body)["result"] == ((["inner"], [(["outer"], [])]), 1)


PROGRAM = """
    import os

    async def leaf():
        print(os.getpid(), flush=True)
        await loop.create_future()

    async def middle():
        await loop.create_task(leaf(), name="the leaf")

    async def main():
        async with asyncio.TaskGroup() as group:
            group.create_task(middle(), name="the middle")

    loop = new_loop()
    loop.run_until_complete(loop.create_task(main(), name="the root"))
"""


@pytest.mark.parametrize("command", ["ps", "pstree"])
def test_seen_from_outside(loop_kind, script, python, command):
    with script(PROGRAM, popen=True) as process:
        try:
            pid = int(process.stdout.readline())
            # It waits only for a future, so it is very likely at its await once the output has been read.
            for _ in range(100):
                seen = python("-m", "asyncio", command, pid)
                if seen.returncode != 0 or "the leaf" in seen.stdout and "the root" in seen.stdout:
                    break
        finally:
            process.kill()
    if seen.returncode != 0 and re.search("ermission|ptrace|not permitted", seen.stderr + seen.stdout):
        pytest.skip("this process may not read the memory of others")
    assert seen.returncode == 0, seen.stderr
    for text in ["the leaf", "the middle", "the root", "middle", "leaf", "main"]:
        assert text in seen.stdout, seen.stdout


# Our coroutines are not of Python's type, so what is read as the frame of one must look like it. Before that,
# the command failed with "Bad address" if one of them was a task.
READERS = """
    import os, socket

    async def awaits(reader):
        return await reader.readexactly(5)

    async def main():
        loop, things = asyncio.get_running_loop(), []

        async def reader():
            ours, theirs = socket.socketpair()
            things.extend([theirs, await asyncio.open_connection(sock=ours)])
            return things[-1][0]

        first, second = socket.socketpair()
        first.setblocking(False)
        things.extend([first, second])
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        loop.call_later(0.01, lambda: print(os.getpid(), flush=True))  # when all of them wait
        await asyncio.gather(
            (await reader()).readexactly(5),
            (await reader()).readline(),
            (await reader()).read(5),
            (await reader()).readuntil(b"!"),
            loop.sock_recv(first, 5),
            loop.sock_accept(listener),
            awaits(await reader()),
        )

    new_loop().run_until_complete(main())
"""
SEEN = {
    "readexactly": ["_wait_for_data", "readexactly"],
    "readline": ["_wait_for_data", "readuntil", "readline"],
    "read": ["_wait_for_data", "read"],
    "readuntil": ["_wait_for_data", "readuntil"],
    "sock_recv": ["sock_recv"],
    "sock_accept": ["sock_accept"],
}


@pytest.mark.parametrize("tasks", ["", "stock"])
def test_coroutines_in_c_seen_from_outside(loop_kind, script, python, tasks, monkeypatch):
    monkeypatch.setenv("CLOOP_TASKS", tasks) if tasks else None
    with script(READERS, popen=True) as process:
        try:
            pid = int(process.stdout.readline())
            for _ in range(100):
                seen = python("-m", "asyncio", "pstree", pid)
                if seen.returncode != 0 or "awaits" in seen.stdout:
                    break
        finally:
            process.kill()
    if seen.returncode != 0 and re.search("ermission|ptrace|not permitted", seen.stderr + seen.stdout):
        pytest.skip("this process may not read the memory of others")
    assert seen.returncode == 0 and "rror" not in seen.stdout, seen.stderr + seen.stdout
    assert "awaits" in seen.stdout
    # Lines for functions of asyncio, indented below the one that awaits them.
    stacks, stack = set(), []
    for line in seen.stdout.splitlines() + ["(T)"]:
        function = re.search(r"\.(\w+) \S*asyncio/\w+\.py:\d+", line)
        if "(T)" in line:
            stacks.add(tuple(reversed(stack)))
            stack = []
        elif function:
            stack.append(function.group(1))
    if loop_kind != "asyncio" and tasks == "stock":
        return  # asyncio's own tasks do not report this to us
    assert stacks >= set(map(tuple, SEEN.values())), seen.stdout
