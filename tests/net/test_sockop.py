"""The coroutines behind the sock_ methods: what can go wrong below their public behaviour."""

import asyncio
import collections.abc
import contextlib
import errno
import gc
import itertools
import os
import socket
import ssl
import sys
import types
import warnings
import weakref
from random import Random

import pytest

MANY = b"x" * 8_000_000  # more than any socket buffer takes at once


def socket_pair(kind=socket.SOCK_STREAM):
    ends = socket.socketpair(socket.AF_UNIX, kind)
    for end in ends:
        end.setblocking(False)
    return ends


@pytest.fixture
def pair():
    ends = socket_pair()
    yield ends
    for end in ends:
        end.close()


@pytest.fixture
def listener():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        sock.setblocking(False)
        yield sock


@pytest.fixture
def native(loop_kind):
    """Skips what asyncio does differently; the test says how."""
    if loop_kind == "asyncio":
        pytest.skip("asyncio does otherwise here")


def replace(sock):
    """Closes a socket; returns a pair whose first socket has its number."""
    fd = sock.fileno()
    sock.close()
    ends = socket_pair()
    assert ends[0].fileno() == fd
    return ends


# Reused descriptor numbers


def test_pending_operation_never_reads_from_the_next_owner(loop, start, turn, pair):
    old = start(loop.sock_recv(pair[0], 10))
    fresh = replace(pair[0])
    fresh[1].send(b"not yours")
    for _ in range(5):
        turn()
    assert not old.done() or old.exception()
    assert fresh[0].recv(10) == b"not yours"
    for end in fresh:
        end.close()


def test_pending_operation_fails_once_the_reused_descriptor_is_waited_for(native, loop, start, pair):
    """asyncio lets the first wait for ever, and the second fail."""
    old = start(loop.sock_recv(pair[0], 10))
    fresh = replace(pair[0])
    new = start(loop.sock_recv(fresh[0], 10))
    with pytest.raises(OSError, match="Bad file descriptor"):
        loop.run_until_complete(old)
    fresh[1].send(b"mine")
    assert loop.run_until_complete(new) == b"mine"
    for end in fresh:
        end.close()


def test_pending_sender_never_writes_to_the_next_owner(native, loop, start, turn, pair):
    """asyncio's registration under that number makes the second fail."""
    old = start(loop.sock_sendall(pair[0], MANY))
    fresh = replace(pair[0])
    reader = start(loop.sock_recv(fresh[0], 10))  # the number is watched again, for its new owner
    for _ in range(5):
        turn()
    with pytest.raises(BlockingIOError):
        fresh[1].recv(1)
    assert not reader.done()
    assert not old.done() or isinstance(old.exception(), OSError)
    for end in fresh:
        end.close()


@pytest.mark.parametrize("rest", [b"", b"rest"], ids=["read", "unread"])
def test_number_is_free_after_an_operation_that_waited(loop, start, pair, rest):
    waiting = start(loop.sock_recv(pair[0], 3))
    pair[1].send(b"one" + rest)

    async def read_and_replace():
        assert await waiting == b"one"
        fresh = replace(pair[0])  # before the poller was told anything
        reading = loop.create_task(loop.sock_recv(fresh[0], 3))
        await asyncio.sleep(0)
        fresh[1].send(b"two")
        return await reading, fresh

    received, fresh = loop.run_until_complete(read_and_replace())
    assert received == b"two"
    for end in fresh:
        end.close()


def test_number_becomes_that_of_something_else(loop, start, turn, pair):
    waiting = start(loop.sock_recv(pair[0], 3))
    pair[1].send(b"one")
    assert loop.run_until_complete(waiting) == b"one"
    fd = pair[0].fileno()
    pair[0].close()
    reading, writing = os.pipe()
    assert reading == fd
    seen = []
    loop.add_reader(reading, lambda: seen.append(os.read(reading, 10)))
    os.write(writing, b"pipe")
    turn()
    turn()
    assert seen == [b"pipe"]
    assert loop.remove_reader(reading)
    os.close(reading)
    os.close(writing)


def test_closed_socket_whose_file_lives_on_does_not_wake_the_loop(native, loop, start, pair):
    # A forked child keeps the file open: epoll keeps reporting it, and it cannot be removed. asyncio removes it
    # after each operation, which costs it a system call.
    waiting = start(loop.sock_recv(pair[0], 10))
    pair[1].send(b"one")

    async def close():
        await waiting
        kept = os.dup(pair[0].fileno())
        pair[0].close()
        pair[1].send(b"two")
        for _ in range(3):
            await asyncio.sleep(0.001)
        before = loop.metrics().polls
        await asyncio.sleep(0.02)
        os.close(kept)
        return loop.metrics().polls - before

    assert loop.run_until_complete(close()) <= 3


def test_socket_object_dies_between_operations(loop, start, pair):
    first, second = socket_pair()
    waiting = start(loop.sock_recv(first, 10))
    second.send(b"one")
    assert loop.run_until_complete(waiting) == b"one"
    seen = weakref.ref(first)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del waiting, first
        gc.collect()
    assert seen() is None or sys.version_info < (3, 10)  # a traceback of an older one may hold it
    second.close()


# Others on the same descriptor


def test_second_reader_takes_the_place_of_the_first(loop, start, turn, pair):
    first, second = start(loop.sock_recv(pair[0], 10)), start(loop.sock_recv(pair[0], 10))
    pair[1].send(b"one")
    assert loop.run_until_complete(second) == b"one"
    pair[1].send(b"two")
    turn()
    turn()
    assert not first.done()
    assert pair[0].recv(10) == b"two"


def test_cancelling_a_replaced_operation_leaves_its_successor_registered(loop, start, turn, pair):
    first, second = start(loop.sock_recv(pair[0], 10)), start(loop.sock_recv(pair[0], 10))
    first.cancel()
    turn()
    turn()
    assert first.cancelled()
    if loop.__class__.__module__.startswith("asyncio") and sys.version_info < (3, 9):
        return  # asyncio also removes the winner's registration
    pair[1].send(b"one")
    assert loop.run_until_complete(second) == b"one"


def test_operation_takes_the_place_of_a_reader_but_not_of_a_writer(loop, start, turn, pair):
    seen = []
    loop.add_reader(pair[0], seen.append, "read")
    loop.add_writer(pair[0], seen.append, "written")
    waiting = start(loop.sock_recv(pair[0], 10))
    del seen[:]
    pair[1].send(b"one")
    assert loop.run_until_complete(waiting) == b"one"
    assert set(seen) == {"written"}
    assert not loop.remove_reader(pair[0])
    assert loop.remove_writer(pair[0])


def test_reader_takes_the_place_of_an_operation(loop, start, turn, pair):
    seen = []
    waiting = start(loop.sock_recv(pair[0], 10))
    loop.add_reader(pair[0], seen.append, "read")
    pair[1].send(b"one")
    turn()
    turn()
    assert seen and not waiting.done()
    assert loop.remove_reader(pair[0])
    assert pair[0].recv(10) == b"one"


def test_remove_reader_removes_an_operation(loop, start, turn, pair):
    waiting = start(loop.sock_recv(pair[0], 10))
    assert loop.remove_reader(pair[0])
    assert not loop.remove_reader(pair[0])
    pair[1].send(b"one")
    turn()
    turn()
    assert not waiting.done()


def test_both_directions_wait_at_once(loop, start, pair):
    sending, receiving = start(loop.sock_sendall(pair[0], MANY)), start(loop.sock_recv(pair[0], 10))
    pair[1].send(b"one")
    assert loop.run_until_complete(receiving) == b"one"
    assert not sending.done()
    assert not loop.remove_reader(pair[0])

    async def drain():
        count = 0
        while count < len(MANY):
            count += len(await loop.sock_recv(pair[1], 1 << 20))
        return count

    assert loop.run_until_complete(drain()) == len(MANY)
    loop.run_until_complete(sending)
    assert not loop.remove_writer(pair[0])


def test_transport_keeps_its_descriptor(loop, pair):
    transport, _ = loop.run_until_complete(loop.create_connection(asyncio.Protocol, sock=pair[0]))
    with pytest.raises(RuntimeError, match="File descriptor %d is used by transport" % pair[0].fileno()):
        loop.run_until_complete(loop.sock_recv(pair[0], 10))
    transport.close()
    loop.run_until_complete(asyncio.sleep(0))


def test_operations_before_during_and_after_one_another(loop, pair):
    """Many rounds of all ways to wait, on one descriptor: none is forgotten."""

    async def echo():
        while True:
            data = await loop.sock_recv(pair[1], 100)
            if not data:
                break
            if data[0] % 3:
                await asyncio.sleep(0)
            if data[0] % 5 == 0:
                await asyncio.sleep(0.0005)
            await loop.sock_sendall(pair[1], data)

    async def main():
        server = loop.create_task(echo())
        for n in range(200):
            await loop.sock_sendall(pair[0], b"%c" % n)
            if n % 7 == 0:
                await asyncio.sleep(0.0005)
            assert await loop.sock_recv(pair[0], 100) == b"%c" % n
        pair[0].shutdown(socket.SHUT_WR)
        await server

    loop.run_until_complete(asyncio.wait_for(main(), 20))


def test_data_that_came_while_nobody_waited(loop, pair):
    """The poller reports a change only once; if nobody waited then, it must be found by trying."""

    async def main():
        waiting = loop.create_task(loop.sock_recv(pair[0], 10))
        await asyncio.sleep(0)
        pair[1].send(b"one")
        assert await waiting == b"one"
        pair[1].send(b"two")
        await asyncio.sleep(0.001)
        pair[1].send(b"three")
        await asyncio.sleep(0.001)
        assert await loop.sock_recv(pair[0], 3) == b"two"
        assert await loop.sock_recv(pair[0], 10) == b"three"
        waiting = loop.create_task(loop.sock_recv(pair[0], 10))
        await asyncio.sleep(0.001)
        pair[1].send(b"four")
        return await waiting

    assert loop.run_until_complete(asyncio.wait_for(main(), 20)) == b"four"


# Cancelling


@pytest.mark.parametrize("method", ["sock_recv", "sock_sendall", "sock_recvfrom"])
def test_cancelled_operation_leaves_nothing_registered(loop, start, turn, pair, method):
    if not hasattr(loop, method):
        pytest.skip("there is none before Python 3.11")
    task = start(getattr(loop, method)(pair[0], MANY if method == "sock_sendall" else 10))
    task.cancel()
    turn()
    turn()
    assert task.cancelled()
    assert not loop.remove_reader(pair[0]) and not loop.remove_writer(pair[0])


@pytest.mark.parametrize("first", ["data", "cancel"])
def test_cancel_in_the_turn_of_readiness_loses_no_byte(native, loop, start, turn, pair, first):
    """asyncio reads in one turn, and drops the data if the task is cancelled before the next."""
    waiting = start(loop.sock_recv(pair[0], 10))
    other = socket_pair()
    loop.add_reader(other[0], waiting.cancel)
    for end in (pair[1], other[1])[:: 1 if first == "data" else -1]:
        end.send(b"one")
    turn()
    turn()
    loop.remove_reader(other[0])
    assert waiting.done()
    assert (pair[0].recv(10) if waiting.cancelled() else waiting.result()) == b"one"
    for end in other:
        end.close()


def test_cancel_before_the_task_resumes(loop, start, turn, pair):
    waiting = start(loop.sock_recv(pair[0], 10))
    pair[1].send(b"one")
    loop.call_soon(waiting.cancel)
    turn()
    turn()
    assert waiting.cancelled()
    assert not loop.remove_reader(pair[0])
    assert pair[0].recv(10) == b"one"


def test_cancelled_accept_keeps_the_connection(loop, start, turn, listener):
    waiting = start(loop.sock_accept(listener))
    waiting.cancel()
    with socket.create_connection(listener.getsockname()) as client:
        turn()
        turn()
        connection, address = loop.run_until_complete(loop.sock_accept(listener))
        assert address == client.getsockname()
        assert connection.gettimeout() == 0 and not connection.get_inheritable()
        assert type(connection) is socket.socket
        connection.close()


# The coroutine object


@pytest.fixture
def make(loop, pair):
    return lambda: loop.sock_recv(pair[0], 10)


def raised(function, *args):
    with pytest.raises(BaseException) as caught:
        function(*args)
    return type(caught.value), caught.value.args


def test_it_is_a_coroutine_to_everybody(make, loop, pair):
    coroutine = make()
    assert asyncio.iscoroutine(coroutine)
    assert isinstance(coroutine, collections.abc.Coroutine)
    assert isinstance(coroutine, collections.abc.Awaitable)
    assert coroutine.__name__ == "sock_recv" and coroutine.__qualname__.endswith(".sock_recv")
    assert not coroutine.cr_running and coroutine.cr_await is None
    assert repr(coroutine).startswith("<coroutine object ")
    coroutine.close()
    pair[1].send(b"abcde")

    async def main():
        one = await asyncio.wait_for(loop.sock_recv(pair[0], 1), 10)
        two = await loop.create_task(loop.sock_recv(pair[0], 1))
        (three,) = await asyncio.gather(loop.sock_recv(pair[0], 1))
        four = await asyncio.shield(loop.sock_recv(pair[0], 1))
        return one + two + three + four

    assert loop.run_until_complete(main()) == b"abcd"
    assert loop.run_until_complete(loop.sock_recv(pair[0], 1)) == b"e"


def test_yielded_from(make, loop, pair):
    @types.coroutine
    def old_style():
        return (yield from make())

    pair[1].send(b"abcde")
    assert loop.run_until_complete(old_style()) == b"abcde"


def test_repr_of_its_task(make, start, pair):
    assert "sock_recv()" in repr(start(make()))


def test_it_starts_when_it_is_stepped(make, pair):
    coroutine = make()
    pair[1].send(b"one")
    assert raised(coroutine.send, None) == (StopIteration, (b"one",))
    assert raised(coroutine.send, None) == (RuntimeError, ("cannot reuse already awaited coroutine",))
    assert raised(coroutine.throw, ValueError("x")) == (RuntimeError, ("cannot reuse already awaited coroutine",))
    coroutine.close()


def test_first_send_must_be_of_none(make):
    coroutine = make()
    message = "can't send non-None value to a just-started coroutine"
    assert raised(coroutine.send, 5) == (TypeError, (message,))
    coroutine.close()


@pytest.mark.parametrize("step", [False, True], ids=["new", "waiting"])
def test_throw_and_close(loop, make, pair, step):
    for thrown, expected in [
        ((ValueError("x"),), (ValueError, ("x",))),
        ((ValueError,), (ValueError, ())),
        ((ValueError, "x"), (ValueError, ("x",))),
        ((ValueError, ValueError("x")), (ValueError, ("x",))),
        ((KeyboardInterrupt(),), (KeyboardInterrupt, ())),
    ]:
        coroutine = make()
        if step:
            assert coroutine.send(None)._asyncio_future_blocking
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of three arguments, from Python 3.12 on
            assert raised(coroutine.throw, *thrown) == expected
        assert coroutine.close() is None
        loop.remove_reader(pair[0])


WRONG = [(), (ValueError, "x", None, None), (5,), (int,), (ValueError, None, 5), (ValueError("x"), "y"), (5, None, 5)]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("step", [False, True], ids=["new", "waiting"])
@pytest.mark.parametrize("wrong", WRONG, ids=repr)
def test_thrown_with_wrong_arguments(loop, make, pair, step, wrong):
    """A coroutine that has not begun is as it was; what it waits for throws it into one that waits, which ends."""
    coroutine = make()
    if step:
        coroutine.send(None)
    assert raised(coroutine.throw, *wrong)[0] is TypeError
    if step and 1 <= len(wrong) <= 3:
        assert raised(coroutine.send, None) == (RuntimeError, ("cannot reuse already awaited coroutine",))
    elif not step:
        pair[1].send(b"here")
        assert loop.run_until_complete(coroutine)
    coroutine.close()
    loop.remove_reader(pair[0])


THROWN = [(5,), (int,), (ValueError, None, 5), (ValueError("x"), "y"), (5, None, 5)]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("wrong", THROWN, ids=repr)
def test_what_is_said_of_wrong_arguments(as_asyncio, wrong):
    def body(loop):
        ours, theirs = socket_pair()
        coroutine = loop.sock_recv(ours, 5)
        try:
            return raised(coroutine.throw, *wrong)
        finally:
            coroutine.close()
            ours.close()
            theirs.close()

    as_asyncio(body)


def test_closed_while_it_waits_leaves_nothing_registered(native, loop, make, pair):
    """asyncio's reader stays until the descriptor is ready, and reads then."""
    coroutine = make()
    future = coroutine.send(None)
    coroutine.close()
    assert not loop.remove_reader(pair[0])
    assert not future.done()


def test_stepped_though_its_future_is_not_done(make, loop, pair):
    coroutine = make()
    coroutine.send(None)
    assert raised(coroutine.send, None) == (RuntimeError, ("await wasn't used with future",))
    loop.remove_reader(pair[0])


def test_awaited_by_two(make, start, loop, pair):
    coroutine = make()

    async def wait():
        return await coroutine

    start(wait())
    with pytest.raises(RuntimeError, match="being awaited already"):
        loop.run_until_complete(wait())


def test_never_awaited(make):
    with pytest.warns(RuntimeWarning, match=r"coroutine '\w+\.sock_recv' was never awaited"):
        make()
        gc.collect()


def test_never_awaited_in_a_cycle(loop, pair):
    class Data(bytearray):
        pass

    data = Data(b"x")
    data.coroutine = loop.sock_sendall(pair[0], data)
    with pytest.warns(RuntimeWarning, match="never awaited"):
        del data
        gc.collect()


def test_loop_dropped_while_operations_wait(loop_class, pair):
    loop = loop_class()
    seen = weakref.ref(loop)
    task = loop.create_task(loop.sock_recv(pair[0], 10))
    loop.call_soon(loop.stop)
    loop.run_forever()
    task._log_destroy_pending = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del loop, task
        gc.collect()
    assert seen() is None


def test_closed_loop(make, loop):
    coroutine = make()
    loop.close()
    assert raised(coroutine.send, None) == (RuntimeError, ("Event loop is closed",))


def test_loop_closed_while_it_waits(make, loop):
    coroutine = make()
    coroutine.send(None)
    loop.close()
    coroutine.close()


# Arguments


ODD = {
    "n negative": lambda loop, sock: loop.sock_recv(sock, -1),
    "n text": lambda loop, sock: loop.sock_recv(sock, "x"),
    "n True": lambda loop, sock: loop.sock_recv(sock, True),
    "n huge": lambda loop, sock: loop.sock_recv(sock, 2**70),
    "n zero": lambda loop, sock: loop.sock_recv(sock, 0),
    "keywords": lambda loop, sock: loop.sock_recv(sock=sock, n=3),
    "into bytes": lambda loop, sock: loop.sock_recv_into(sock, b"abc"),
    "into text": lambda loop, sock: loop.sock_recv_into(sock, "abc"),
    "into nothing": lambda loop, sock: loop.sock_recv_into(sock, bytearray()),
    "into a part": lambda loop, sock: loop.sock_recv_into(sock, memoryview(bytearray(9))[2:4]),
    "into every other": lambda loop, sock: loop.sock_recv_into(sock, memoryview(bytearray(9))[::2]),
    "send text": lambda loop, sock: loop.sock_sendall(sock, "abc"),
    "send nothing": lambda loop, sock: loop.sock_sendall(sock, b""),
    "send view": lambda loop, sock: loop.sock_sendall(sock, memoryview(b"abc")),
    "send every other": lambda loop, sock: loop.sock_sendall(sock, memoryview(b"abc")[::2]),
    "connect text": lambda loop, sock: loop.sock_connect(sock, "/no/such/path"),
    "connect long": lambda loop, sock: loop.sock_connect(sock, "x" * 200),
    "connect tuple": lambda loop, sock: loop.sock_connect(sock, ("127.0.0.1", 1)),
    "connect NUL": lambda loop, sock: loop.sock_connect(sock, "\0no such name"),
    "connect None": lambda loop, sock: loop.sock_connect(sock, None),
    "accept": lambda loop, sock: loop.sock_accept(sock),
    "no socket": lambda loop, sock: loop.sock_recv(None, 5),
    "number": lambda loop, sock: loop.sock_recv(sock.fileno(), 5),
}
LATER = {
    "recvfrom": lambda loop, sock: loop.sock_recvfrom(sock, 10),
    "recvfrom negative": lambda loop, sock: loop.sock_recvfrom(sock, -1),
    "recvfrom_into": lambda loop, sock: loop.sock_recvfrom_into(sock, bytearray(3)),
    "recvfrom_into some": lambda loop, sock: loop.sock_recvfrom_into(sock, bytearray(3), 2),
    "recvfrom_into more": lambda loop, sock: loop.sock_recvfrom_into(sock, bytearray(3), 4),
    "recvfrom_into bytes": lambda loop, sock: loop.sock_recvfrom_into(sock, b"abc"),
    "recvfrom_into negative": lambda loop, sock: loop.sock_recvfrom_into(sock, bytearray(3), -2),
    "sendto nowhere": lambda loop, sock: loop.sock_sendto(sock, b"abc", "/no/such/path"),
    "sendto text": lambda loop, sock: loop.sock_sendto(sock, "abc", "/no/such/path"),
    "sendto tuple": lambda loop, sock: loop.sock_sendto(sock, b"abc", ("127.0.0.1", 1)),
}
if sys.version_info >= (3, 11):
    ODD.update(LATER)


@pytest.mark.parametrize("size", [65483, 65484, 130967, 1000000])
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
def test_sendall_of_any_size(loop, start, family, size):
    if family == socket.AF_UNIX:
        ends = socket_pair()
    else:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            ends = socket.create_connection(listener.getsockname()), listener.accept()[0]
    with ends[0], ends[1]:
        for end in ends:
            end.setblocking(False)
        data, got = os.urandom(size), bytearray()
        sending = start(loop.sock_sendall(ends[0], data))
        while len(got) < size:
            got += loop.run_until_complete(loop.sock_recv(ends[1], 1 << 18))
        loop.run_until_complete(sending)
    assert got == data


@pytest.mark.parametrize("size", [65507, 65508, 200000])
def test_sendall_of_a_datagram_is_not_split(as_asyncio, size):
    def body(loop):
        with socket.socket(type=socket.SOCK_DGRAM) as ours, socket.socket(type=socket.SOCK_DGRAM) as peer:
            peer.bind(("127.0.0.1", 0))
            peer.setblocking(False)
            ours.connect(peer.getsockname())
            ours.setblocking(False)
            loop.run_until_complete(loop.sock_sendall(ours, bytes(size)))
            return len(peer.recv(1 << 18))

    as_asyncio(body)


@pytest.mark.parametrize("closed", [False, True], ids=["open", "closed"])
@pytest.mark.parametrize("what", list(ODD))
def test_odd_arguments(as_asyncio, what, closed):
    def body(loop):
        ends = socket_pair()
        ends[1].send(b"hello")
        if closed:
            ends[0].close()
        try:
            return loop.run_until_complete(ODD[what](loop, ends[0]))
        finally:
            for end in ends:
                end.close()

    as_asyncio(body)


def test_wrong_number_of_arguments(loop, pair):
    for args in [(), (pair[0],), (pair[0], 1, 2)]:
        with pytest.raises(TypeError, match=r"sock_recv\(\)"):
            loop.sock_recv(*args)


def test_blocking_socket_is_refused_in_debug_mode(loop, listener):
    loop.set_debug(True)
    with socket.socket() as sock:
        for coroutine in (loop.sock_recv(sock, 1), loop.sock_accept(sock), loop.sock_connect(sock, ("127.0.0.1", 1))):
            with pytest.raises(ValueError, match="the socket must be non-blocking"):
                loop.run_until_complete(coroutine)


def test_blocking_socket_does_not_block_the_loop(native, loop, start, pair):
    """asyncio's own call would do that."""
    pair[0].setblocking(True)
    waiting = start(loop.sock_recv(pair[0], 10))
    assert not waiting.done()
    pair[1].send(b"one")
    assert loop.run_until_complete(waiting) == b"one"


def test_tls_socket_is_refused(loop):
    with socket.socket() as raw:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        sock = context.wrap_socket(raw, do_handshake_on_connect=False)
        with pytest.raises(TypeError, match="Socket cannot be of type SSLSocket"):
            loop.run_until_complete(loop.sock_recv(sock, 1))
        sock.close()


class Counting(socket.socket):
    calls = 0

    def recv(self, size):
        Counting.calls += 1
        return super().recv(size)

    def recvfrom(self, size):
        Counting.calls += 1
        return super().recvfrom(size)


def test_methods_of_a_subclass_are_called(loop, pair, monkeypatch):
    monkeypatch.setattr(Counting, "calls", 0)
    with Counting(fileno=os.dup(pair[0].fileno())) as sock:
        pair[1].send(b"one")
        assert loop.run_until_complete(loop.sock_recv(sock, 10)) == b"one"
    assert Counting.calls == 1


@pytest.mark.parametrize("sent_first", [False, True])
def test_datagrams_of_a_subclass(native, loop, start, monkeypatch, sent_first):
    """asyncio has them from Python 3.11 on only."""
    monkeypatch.setattr(Counting, "calls", 0)
    receiver, sender = socket_pair(socket.SOCK_DGRAM)
    with Counting(fileno=receiver.detach()) as sock, sender:
        if sent_first:
            sender.send(b"one")
        waiting = start(loop.sock_recvfrom(sock, 10))
        if not sent_first:
            sender.send(b"one")
        assert loop.run_until_complete(waiting) == (b"one", None)
        assert not loop.remove_reader(sock)
    assert Counting.calls == 2 - sent_first


def test_replaced_method_of_socket_is_called(loop, monkeypatch):
    class Refused(Exception):
        pass

    def connect(self, address):
        raise Refused

    with socket.socket() as sock:
        sock.setblocking(False)
        monkeypatch.setattr(socket.socket, "connect", connect)
        with pytest.raises(Refused):
            loop.run_until_complete(loop.sock_connect(sock, ("127.0.0.1", 1)))
        monkeypatch.undo()
        with pytest.raises(ConnectionRefusedError, match=r"Connect call failed \('127.0.0.1', 1\)"):
            loop.run_until_complete(loop.sock_connect(sock, ("127.0.0.1", 1)))


# Buffers


def test_buffer_to_fill_is_free_while_waiting(loop, start, pair):
    buffer = bytearray(4)
    waiting = start(loop.sock_recv_into(pair[0], buffer))
    buffer.append(0)
    pair[1].send(b"abcdefgh")
    assert loop.run_until_complete(waiting) == 5
    assert buffer == b"abcde"


@pytest.mark.parametrize("end", ["cancel", "sent"])
def test_data_to_send_is_locked_while_waiting(loop, start, turn, pair, end):
    data = bytearray(MANY)
    sending = start(loop.sock_sendall(pair[0], data))
    with pytest.raises(BufferError):
        data.append(0)
    if end == "cancel":
        sending.cancel()
        turn()
        turn()
    else:
        while not sending.done():
            loop.run_until_complete(loop.sock_recv(pair[1], 1 << 20))
        assert sending.result() is None
    del sending
    gc.collect()
    data.append(0)


@pytest.mark.parametrize("size", [1 << 16, 1 << 17, 1 << 20, 1 << 26])
def test_large_receive(loop, start, pair, size):
    waiting = start(loop.sock_recv(pair[0], size))
    pair[1].send(b"one")
    assert loop.run_until_complete(waiting) == b"one"
    pair[1].send(b"x" * 5000)
    assert loop.run_until_complete(loop.sock_recv(pair[0], size)) == b"x" * 5000
    waiting = start(loop.sock_recv(pair[0], size))
    pair[1].close()
    assert loop.run_until_complete(waiting) == b""


def test_large_datagram_is_not_cut(loop, start):
    first, second = socket_pair(socket.SOCK_DGRAM)
    with first, second:
        waiting = start(loop.sock_recv(first, 1 << 20))
        second.send(b"x" * 20000)
        assert len(loop.run_until_complete(waiting)) == 20000
        second.send(b"")
        assert loop.run_until_complete(loop.sock_recv(first, 1 << 20)) == b""


def test_sendall_that_waits_while_the_peer_closes(loop, start, turn, pair):
    sending = start(loop.sock_sendall(pair[0], MANY))
    pair[1].close()
    with pytest.raises(BrokenPipeError):
        loop.run_until_complete(sending)
    assert not loop.remove_writer(pair[0])


# Everything at once


class TaggedPair:
    """A pair of sockets whose messages say which pair and which message they are."""

    def __init__(self, tag):
        self.tag = tag
        self.ends = socket_pair()
        self.sent, self.seen = [0, 0], [0, 0]
        self.readers = [None, None]

    def message(self, to):
        return b"%6d%6d" % (self.tag, self.sent[to])

    def check(self, end, data):
        assert data == b"%6d%6d" % (self.tag, self.seen[end])
        self.seen[end] += 1

    def close(self):
        for end in self.ends:
            end.close()


@pytest.mark.parametrize("seed", range(3))
def test_no_message_is_lost_or_read_by_another(native, loop, seed):
    """asyncio loses what a cancelled task had read, and its registrations outlive the sockets."""
    random = Random(seed)
    tags = itertools.count()

    async def read(pair, end):
        how = random.randrange(3)
        if how == 0:
            data = await loop.sock_recv(pair.ends[end], 12)
        elif how == 1:
            data, _ = await loop.sock_recvfrom(pair.ends[end], 12)
        else:
            data = bytearray(12)
            assert await loop.sock_recv_into(pair.ends[end], data) == 12
        pair.check(end, data)

    def cancel(pair, ends=(0, 1)):
        for reader in [pair.readers[end] for end in ends]:
            if reader is not None:
                reader.cancel()

    async def main():
        pairs = [TaggedPair(next(tags)) for _ in range(5)]
        readers = []
        for _ in range(3000):
            choice, end = random.random(), random.randrange(2)
            place = random.randrange(len(pairs))
            pair = pairs[place]
            if choice < 0.35:
                if pair.readers[end] is None or pair.readers[end].done():
                    pair.readers[end] = loop.create_task(read(pair, end))
                    readers.append(pair.readers[end])
            elif choice < 0.65:
                await loop.sock_sendall(pair.ends[end], pair.message(1 - end))
                pair.sent[1 - end] += 1
            elif choice < 0.8:
                cancel(pair, [end])
            elif choice < 0.88:
                before = random.random() < 0.5
                if before:
                    cancel(pair)
                pair.close()
                pairs[place] = TaggedPair(next(tags))  # the numbers are used again at once
                if not before:
                    cancel(pair)
            else:
                await asyncio.sleep(random.choice([0, 0, 0.0001]))
        for pair in pairs:
            cancel(pair)
        for result in await asyncio.gather(*readers, return_exceptions=True):
            assert result is None or isinstance(result, (asyncio.CancelledError, OSError)), result
        for pair in pairs:
            for end in (0, 1):
                while pair.seen[end] < pair.sent[end]:
                    pair.check(end, pair.ends[end].recv(12))
            pair.close()

    loop.run_until_complete(main())
    assert loop.metrics().watched == 0


def test_exception_within_a_batch_loses_no_readiness(new_loop, loop_class, loop_kind):
    """Sockets that operations wait for are edge-triggered: the rest of the batch was never reported again."""
    if loop_kind == "asyncio":
        pytest.skip("asyncio's operation is lost with the exception")
    armed = []

    class Future(asyncio.Future):
        def set_result(self, value):
            if armed:
                raise armed.pop()
            super().set_result(value)

    class Loop(loop_class):
        def create_future(self):
            return Future(loop=self)

    loop = new_loop(Loop)
    pairs = [socket.socketpair() for _ in range(5)]
    for ours, _ in pairs:
        ours.setblocking(False)
    tasks = [loop.create_task(loop.sock_recv(ours, 10)) for ours, _ in pairs]
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    for _, theirs in pairs:
        theirs.send(b"data")
    armed[:] = [KeyboardInterrupt(), KeyboardInterrupt()]
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(asyncio.wait(tasks))
    loop.run_until_complete(asyncio.wait_for(asyncio.wait(tasks), 5))
    assert [task.result() for task in tasks] == [b"data"] * 5
    for pair in pairs:
        for sock in pair:
            sock.close()


class Future(asyncio.futures._PyFuture):
    """In Python, so that done() and result() are asked by whoever awaits it."""

    fails = None
    asked = 0

    def done(self):
        if self.fails == "done":
            raise KeyError("done")
        return super().done()

    def result(self):
        self.asked += 1
        if self.fails == "result" and self.asked > 1:  # the first is the task's
            raise KeyError("result")
        return super().result()


@pytest.fixture
def on_future(loop, pair, start):
    """A task in sock_recv(), and a list with the future that it waits for."""
    made = []

    def create_future():
        made.append(Future(loop=loop))
        return made[0]

    loop.create_future = create_future
    task = start(loop.sock_recv(pair[0], 10))
    del loop.create_future
    assert len(made) == 1 and not task.done()
    return task, made


@pytest.mark.parametrize("method", ["done", "result"])
def test_future_that_fails_when_it_is_asked(on_future, turn, method):
    task, (future,) = on_future
    future.fails = method
    future.set_result(None)
    for _ in range(3):
        turn()
    assert task.done() and repr(task.exception()) == "KeyError(%r)" % method


def test_result_that_a_program_has_set_is_not_kept(on_future, native, turn, pair):
    class Result:
        pass

    task, made = on_future
    result = Result()
    gone = weakref.ref(result)
    made.pop().set_result(result)
    del result
    for _ in range(3):
        turn()
    assert not task.done() and gone() is None  # it waits again
    pair[1].send(b"data")
    for _ in range(3):
        turn()
    assert task.result() == b"data"


@pytest.mark.parametrize("answer", [ZeroDivisionError, "one", 1 << 40], ids=["raises", "text", "huge"])
def test_socket_without_a_descriptor(loop, run, answer):
    class Socket(socket.socket):
        answers = False

        def fileno(self):
            if not self.answers:
                return super().fileno()
            if isinstance(answer, type):
                raise answer
            return answer

    ours, peer = socket_pair()
    with Socket(fileno=ours.detach()) as sock, peer:
        sock.setblocking(False)
        sock.answers = True
        with pytest.raises((ZeroDivisionError, TypeError, ValueError, OverflowError)):
            run(asyncio.wait_for(loop.sock_recv(sock, 1), 20))
        sock.answers = False


@pytest.mark.unstressed("polls for one event at a time")
def test_sendall_cancelled_in_the_turn_in_which_it_could_go_on(loop, turn, pair, start):
    """By a callback that runs before: nothing more is sent."""
    ours, peer = pair
    task = start(loop.sock_sendall(ours, MANY))
    assert not task.done()
    one, two = socket_pair()
    with one, two:
        loop.add_reader(one, task.cancel)
        two.send(b"x")
        while True:
            try:
                peer.recv(1 << 16)
            except BlockingIOError:
                break
        turn()
        loop.remove_reader(one)
        turn()
        turn()
    assert task.cancelled()


def test_refused_over_ipv6(as_asyncio, ipv6):
    with socket.socket(socket.AF_INET6) as unused:
        unused.bind(("::1", 0))
        address = unused.getsockname()[:2]

        def body(loop):
            with socket.socket(socket.AF_INET6) as sock:
                sock.setblocking(False)
                loop.run_until_complete(loop.sock_connect(sock, address))

        assert as_asyncio(body)["result"][0] is ConnectionRefusedError


# Arguments that do something when they are asked for their bytes, from Python 3.12 on


class Acting:
    def __init__(self, size, act):
        self.data, self.act = bytearray(size), act

    def __buffer__(self, flags):
        self.act()
        return memoryview(self.data)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="classes of Python have no buffers")
@pytest.mark.parametrize(
    "method, rest",
    [("sock_sendall", ()), ("sock_sendto", (("127.0.0.1", 9),)), ("sock_recv_into", ()), ("sock_recvfrom_into", (10,))],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_argument_that_closes_the_socket_whose_number_is_anothers_then(loop, run, method, rest):
    """The bytes are not another connection's."""
    kind = socket.SOCK_DGRAM if method == "sock_sendto" else socket.SOCK_STREAM
    ours = socket.socket(type=kind) if method == "sock_sendto" else socket_pair()[0]
    ours.setblocking(False)
    others = []

    def act():
        if not others:
            others.extend(replace(ours))
            others[1].send(b"of another")

    with contextlib.ExitStack() as stack:
        stack.enter_context(ours)
        argument = Acting(10, act)
        with pytest.raises(OSError) as caught:
            run(getattr(loop, method)(ours, argument, *rest))
        for sock in others:
            stack.enter_context(sock)
        assert caught.value.errno == errno.EBADF
        assert bytes(argument.data) == bytes(10) and others[0].recv(100) == b"of another"
        with pytest.raises(BlockingIOError):
            others[1].recv(1)


def test_error_while_the_future_cannot_be_set_is_freed(loop, pair, turn, loop_kind):
    """The first one, when the second comes."""
    if loop_kind == "asyncio":
        pytest.skip("asyncio's operation is lost with the exception")

    def errors():
        return sum(isinstance(each, BrokenPipeError) for each in gc.get_objects())

    failures = [KeyError()] * 2

    class Refusing(asyncio.Future):
        def set_result(self, value):
            if failures:
                raise failures.pop()
            super().set_result(value)

    def turns():
        for _ in range(5):
            with contextlib.suppress(KeyError):
                turn()

    loop.create_future = lambda: Refusing(loop=loop)
    task = loop.create_task(loop.sock_sendall(pair[0], MANY))
    turn()
    del loop.create_future
    gc.collect()
    before = errors()
    pair[1].shutdown(socket.SHUT_RD)
    turns()
    pair[1].close()
    turns()
    assert failures == []
    if not task.done():
        task.cancel()
        turns()
    kind = None if task.cancelled() else type(task.exception())
    assert kind in (None, BrokenPipeError)
    del task
    gc.collect()
    assert errors() <= before
