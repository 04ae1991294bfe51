"""What coroutines in C show: asyncio's frames, on every Python, wherever asyncio's coroutines show them."""

import asyncio
import gc
import inspect
import io
import linecache
import socket
import sys
import types
import warnings

import pytest

READS = {"read": 5, "readexactly": 5, "readuntil": b"\n", "readline": None, "__anext__": None}
SOCKS = ["sock_recv", "sock_recv_into", "sock_accept", "sock_sendall"]
SINCE_3_11 = ["sock_recvfrom", "sock_recvfrom_into"]


def call(loop, name, made):
    """The coroutine of that method, which has to wait."""
    if name in READS:
        reader = asyncio.StreamReader(loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        transport, _ = loop.run_until_complete(loop.create_connection(lambda: protocol, sock=ours))
        made.extend([transport, theirs, protocol])
        argument = READS[name]
        return getattr(reader, name)(*[argument] if argument else [])
    if name == "sock_accept":
        sock, other = socket.socket(), socket.socket()
        sock.bind(("127.0.0.1", 0))
        sock.listen()
    else:
        sock, other = socket.socketpair(type=socket.SOCK_DGRAM if "from" in name else socket.SOCK_STREAM)
    made.extend([sock, other])
    sock.setblocking(False)
    arguments = {"sock_accept": [], "sock_recv": [5], "sock_recvfrom": [5], "sock_sendall": [bytes(10_000_000)]}
    return getattr(loop, name)(sock, *arguments.get(name, [bytearray(5)]))


@pytest.fixture(params=sorted(READS) + SOCKS + SINCE_3_11)
def name(request):
    if request.param in SINCE_3_11 and sys.version_info < (3, 11):
        pytest.skip("asyncio has it from Python 3.11 on")
    return request.param


@pytest.fixture
def observed(as_asyncio, name, settle):
    """observed(look): checks that look(coroutine, loop) returns the same for asyncio's coroutine and ours."""

    def observed(look):
        def body(loop):
            made = []
            try:
                return look(call(loop, name, made), loop)
            finally:
                for thing in made:
                    if hasattr(thing, "close"):
                        thing.close()
                settle(loop)

        return as_asyncio(body)["result"]

    return observed


def place(frame):
    """File, line and function of a frame, and the arguments except `self`, whose class differs."""
    code = frame.f_code
    names = [each for each in code.co_varnames[: code.co_argcount] if each not in ("self", "awaited")]
    return code.co_filename, frame.f_lineno, code.co_name, code.co_firstlineno, names


def chain(coroutine):
    """The frames of the coroutine and of what it awaits."""
    found = []
    while hasattr(coroutine, "cr_await"):
        found.append(coroutine.cr_frame and place(coroutine.cr_frame))
        coroutine = coroutine.cr_await
    return found


def test_frames(observed, name):
    def look(coroutine, loop):
        before = inspect.getcoroutinestate(coroutine), chain(coroutine)
        coroutine.send(None)
        while_waiting = inspect.getcoroutinestate(coroutine), chain(coroutine)
        code = coroutine.cr_code
        coroutine.close()
        after = inspect.getcoroutinestate(coroutine), chain(coroutine), coroutine.cr_code is code
        return before, while_waiting, after, (code.co_name, code.co_filename, code.co_firstlineno)

    _, (state, frames), _, _ = observed(look)
    assert state == "CORO_SUSPENDED"
    assert frames[0][2] == name
    assert all("await" in linecache.getline(file, line) for file, line, *_ in frames)


def test_attributes(observed):
    def look(coroutine, loop):
        missing = [each for each in dir(types.CoroutineType) if each[:2] != "__" and not hasattr(coroutine, each)]
        coroutine.close()
        return missing

    assert observed(look) == []


@pytest.mark.parametrize("awaited", [True, False])
def test_task(observed, settle, awaited):
    def look(coroutine, loop):
        async def user():
            return await coroutine

        task = loop.create_task(user() if awaited else coroutine)
        loop.call_soon(loop.stop)
        loop.run_forever()
        stack, text = task.get_stack(), io.StringIO()
        task.print_stack(file=text)
        shown = repr(task).split("coro=<")[1].split(" wait_for")[0]
        seen = [[place(frame) for frame in stack], text.getvalue().splitlines()[1:], shown.split(".")[-1]]
        if hasattr(asyncio, "capture_call_graph"):
            graph = asyncio.capture_call_graph(task)
            seen.append([place(entry.frame) for entry in graph.call_stack])
            seen.append(asyncio.format_call_graph(task).splitlines()[1:])
        task.cancel()
        settle(loop)
        return seen

    assert observed(look)[0]


@pytest.mark.usefixtures("own_tasks")
def test_two_tasks_step_the_coroutine(observed):
    def look(coroutine, loop):
        tasks = [loop.create_task(coroutine) for _ in range(2)]
        loop.call_soon(loop.call_soon, loop.stop)
        loop.run_forever()
        seen = [task.done() for task in tasks]
        tasks[0].cancel()
        outcomes = loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        return seen, [(type(outcome).__name__, str(outcome)) for outcome in outcomes]

    assert observed(look)[0] == [False, False]


# Looking at a coroutine changes nothing, and what was shown is dropped when it continues.
def test_cr_frame_and_cr_await_do_not_disturb_the_coroutine(loop, turn, name):
    made = []
    coroutine = call(loop, name, made)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert coroutine.cr_frame is not None
        assert coroutine.cr_frame is coroutine.cr_frame
        task = loop.create_task(coroutine)
        turn()
        frame = coroutine.cr_frame
        assert frame is coroutine.cr_frame and coroutine.cr_await is not None
        for _ in range(3):
            repr(task), task.get_stack()
        gc.collect()
        assert not task.done()
        if name in READS:
            made[1].send(b"12345678\n")
        else:
            task.cancel()
        for _ in range(10):
            turn()
            turn()
    if name in READS:
        assert task.result() in (b"12345", b"12345678\n")
    assert task.done() or "sock" in name
    assert coroutine.cr_frame is None and coroutine.cr_await is None
    for thing in made:
        if hasattr(thing, "close"):
            thing.close()
    turn()


def test_never_awaited_warning_after_cr_frame_was_read(loop, name, turn):
    made = []
    coroutine = call(loop, name, made)
    assert coroutine.cr_frame.f_code.co_name == name
    gc.collect()  # ignore what other tests have left
    with pytest.warns(RuntimeWarning) as caught:
        del coroutine
        gc.collect()
    assert len([each for each in caught if "%s' was never awaited" % name in str(each.message)]) == 1
    for thing in made:
        if hasattr(thing, "close"):
            thing.close()
    turn()


def test_frames_of_a_coroutine_that_asyncio_finishes(loop, turn):
    """If asyncio's own coroutine does the read, its frames are shown."""
    made = []
    reader = asyncio.StreamReader(loop=loop)
    call(loop, "read", made).close()
    protocol = made[2]
    protocol.pause_writing()
    writer = asyncio.StreamWriter(made[0], protocol, reader, loop)
    task = loop.create_task(writer.drain())
    turn()
    coroutine = task.get_coro() if hasattr(task, "get_coro") else task._coro
    names = [frame[2] for frame in chain(coroutine)]
    assert names == ["drain", "_drain_helper"]
    protocol.resume_writing()
    turn()
    turn()
    assert task.done()
    for thing in made:
        if hasattr(thing, "close"):
            thing.close()
    turn()
