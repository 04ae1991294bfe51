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


@pytest.fixture
def seen(script, python):
    """seen(program, command, is_complete): what asyncio's tool prints of a process that runs the program, which prints its
    number when it is about to wait.
    """

    def seen(program, command, is_complete):
        with script(program, popen=True) as process:
            try:
                pid = int(process.stdout.readline())
                # It reads the memory of a process that still runs, perhaps, and fails if that changes meanwhile.
                for _ in range(100):
                    found = python("-m", "asyncio", command, pid)
                    if found.returncode == 0 and is_complete(found.stdout):
                        break
                    if found.returncode and re.search("ermission|ptrace|not permitted", found.stderr + found.stdout):
                        pytest.skip("this process may not read the memory of others")
            finally:
                process.kill()
        assert found.returncode == 0, found.stderr
        return found.stdout

    return seen


@pytest.mark.parametrize("command", ["ps", "pstree"])
def test_seen_from_outside(seen, command):
    texts = ["the leaf", "the middle", "the root", "middle", "leaf", "main"]
    found = seen(PROGRAM, command, lambda found: all(text in found for text in texts))
    assert [text for text in texts if text not in found] == [], found


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


def stacks_of(tree):
    """The functions of asyncio in each stack: lines indented below the one that awaits them."""
    stacks, stack = set(), []
    for line in tree.splitlines() + ["(T)"]:
        function = re.search(r"\.(\w+) \S*asyncio/\w+\.py:\d+", line)
        if "(T)" in line:
            stacks.add(tuple(reversed(stack)))
            stack = []
        elif function:
            stack.append(function.group(1))
    return stacks


@pytest.mark.parametrize("tasks", ["", "stock"])
def test_coroutines_in_c_seen_from_outside(loop_kind, seen, tasks, monkeypatch):
    monkeypatch.setenv("CLOOP_TASKS", tasks) if tasks else None
    # On a loop of cloop asyncio's own tasks do not report this to us.
    expected = set() if loop_kind != "asyncio" and tasks == "stock" else set(map(tuple, SEEN.values()))
    tree = seen(READERS, "pstree", lambda tree: "awaits" in tree and stacks_of(tree) >= expected)
    assert "awaits" in tree and "rror" not in tree
    assert stacks_of(tree) >= expected, tree
