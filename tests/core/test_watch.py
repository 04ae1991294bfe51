"""add_reader and add_writer: what they call, when, and which descriptors they refuse."""

import asyncio
import contextlib
import contextvars
import fcntl
import gc
import os
import socket
import sys
import tempfile
import weakref

import pytest

VAR = contextvars.ContextVar("VAR", default="unset")


@pytest.fixture
def pair():
    """Two connected sockets that don't block."""
    with contextlib.ExitStack() as stack:
        sockets = socket.socketpair()
        for sock in sockets:
            stack.enter_context(sock).setblocking(False)
        yield sockets


@pytest.fixture
def pipe():
    """The read end and the write end of a pipe, as files."""
    reading, writing = os.pipe()
    with open(reading, "rb", 0) as reader, open(writing, "wb", 0) as writer:
        yield reader, writer


@pytest.fixture
def pairs():
    """Makes pairs of connected sockets."""
    with contextlib.ExitStack() as stack:

        def pairs(count):
            made = [socket.socketpair() for _ in range(count)]
            for sock in sum(made, ()):
                stack.enter_context(sock)
            return made

        yield pairs


def fill(sock):
    """Writes until the socket would block."""
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.send(b"x" * 65536)


both = pytest.mark.parametrize("kind", ["reader", "writer"])


def add(loop, kind, fd, *args):
    return getattr(loop, "add_" + kind)(fd, *args)


def remove(loop, kind, fd):
    return getattr(loop, "remove_" + kind)(fd)


# Calling


def test_reader_is_called_with_its_arguments_when_there_is_data(loop, turn, pair):
    seen = []
    loop.add_reader(pair[0], lambda *args: seen.append(args), 1, "two")
    turn()
    assert seen == []
    pair[1].send(b"x")
    turn()
    assert seen == [(1, "two")]
    loop.remove_reader(pair[0])


def test_writer_is_called_when_there_is_room(loop, turn, pair):
    seen = []
    fill(pair[0])
    loop.add_writer(pair[0], seen.append, 1)
    turn()
    assert seen == []
    while True:
        try:
            pair[1].recv(65536)
        except BlockingIOError:
            break
    turn()
    assert seen == [1]
    loop.remove_writer(pair[0])


def test_reader_is_called_each_turn_while_data_remain(loop, turn, pair):
    seen = []
    loop.add_reader(pair[0], lambda: seen.append(pair[0].recv(1)))
    pair[1].send(b"abc")
    for _ in range(5):
        turn()
    assert seen == [b"a", b"b", b"c"]
    loop.remove_reader(pair[0])


def test_reader_wakes_an_idle_loop(loop, pair):
    loop.add_reader(pair[0], loop.stop)
    loop.call_later(0.01, pair[1].send, b"x")
    loop.run_forever()
    assert loop.remove_reader(pair[0])


def test_both_directions_of_one_descriptor(loop, turn, pair):
    seen = []
    loop.add_reader(pair[0], seen.append, "read")
    loop.add_writer(pair[0], seen.append, "write")
    pair[1].send(b"x")
    turn()
    assert sorted(seen) == ["read", "write"]
    del seen[:]
    loop.remove_writer(pair[0])
    turn()
    assert seen == ["read"]
    del seen[:]
    loop.add_writer(pair[0], seen.append, "write")
    loop.remove_reader(pair[0])
    turn()
    assert seen == ["write"]
    loop.remove_writer(pair[0])


def test_reader_runs_before_a_timer_that_is_due_too(loop, pair):
    seen = []
    pair[1].send(b"x")
    loop.add_reader(pair[0], seen.append, "reader")
    loop.call_at(loop.time() - 1, lambda: (seen.append("timer"), loop.stop()))
    loop.run_forever()
    assert seen == ["reader", "timer"]
    loop.remove_reader(pair[0])


@pytest.mark.unstressed("a poll reports one")
def test_every_ready_descriptor_is_called_once_a_turn(loop, turn, pairs):
    seen = []
    made = pairs(200)
    for number, (reader, writer) in enumerate(made):
        loop.add_reader(reader, seen.append, number)
        writer.send(b"x")
    turn()
    assert sorted(seen) == list(range(200))
    for reader, _ in made:
        assert loop.remove_reader(reader)


def test_endless_callbacks_do_not_starve_a_reader(loop, pair):
    def chain(left):
        if left == 0:
            pytest.fail("the reader was not called during 100,000 turns")
        chained.append(loop.call_soon(chain, left - 1))
        del chained[:-1]

    chained = []
    loop.add_reader(pair[0], loop.stop)
    pair[1].send(b"x")
    chain(100000)
    loop.run_forever()
    chained[0].cancel()
    loop.remove_reader(pair[0])


@both
def test_runs_in_the_context_it_was_added_in(loop, turn, pair, kind):
    seen = []

    def register():
        VAR.set("mine")
        add(loop, kind, pair[0], lambda: seen.append(VAR.get()))

    contextvars.copy_context().run(register)
    pair[1].send(b"x")
    turn()
    assert seen == ["mine"]
    remove(loop, kind, pair[0])


@both
def test_exception_is_reported_and_the_callback_stays(loop, turn, pair, reports, kind):
    add(loop, kind, pair[0], lambda: 1 / 0)
    pair[1].send(b"x")
    turn()
    turn()
    assert [type(report["exception"]) for report in reports] == [ZeroDivisionError] * 2
    assert all(isinstance(report["handle"], asyncio.Handle) for report in reports)
    assert remove(loop, kind, pair[0])


@both
def test_keyboard_interrupt_leaves_the_loop_and_the_callback_stays(loop, pair, kind):
    def interrupt():
        raise KeyboardInterrupt

    pair[1].send(b"x")
    add(loop, kind, pair[0], interrupt)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            loop.run_forever()
    assert remove(loop, kind, pair[0])


# End of file and errors


def test_reader_hears_the_end_of_file(loop, turn, pair):
    seen = []
    loop.add_reader(pair[0], lambda: seen.append(pair[0].recv(10)))
    pair[1].close()
    turn()
    assert seen == [b""]
    loop.remove_reader(pair[0])


def test_writer_hears_that_the_peer_is_gone(loop, turn, pair):
    seen = []
    fill(pair[0])
    loop.add_writer(pair[0], seen.append, 1)
    pair[1].close()
    turn()
    assert seen == [1]
    loop.remove_writer(pair[0])


def test_reader_of_a_pipe_hears_that_the_writer_is_gone(loop, turn, pipe):
    seen = []
    loop.add_reader(pipe[0], seen.append, 1)
    turn()
    assert seen == []
    pipe[1].close()
    turn()
    assert seen == [1]
    loop.remove_reader(pipe[0])


def test_writer_of_a_pipe_hears_that_the_reader_is_gone(loop, turn, pipe):
    os.set_blocking(pipe[1].fileno(), False)
    while pipe[1].write(b"x" * 65536):
        pass
    seen = []
    loop.add_writer(pipe[1], seen.append, 1)
    turn()
    assert seen == []
    pipe[0].close()
    turn()
    assert seen == [1]
    loop.remove_writer(pipe[1])


def test_error_reaches_reader_and_writer(loop, turn, pair):
    seen = []
    fill(pair[0])
    loop.add_reader(pair[0], seen.append, "reader")
    loop.add_writer(pair[0], seen.append, "writer")
    pair[1].close()
    turn()
    assert sorted(seen) == ["reader", "writer"]
    loop.remove_reader(pair[0])
    loop.remove_writer(pair[0])


# Removing and replacing


@both
def test_remove_says_whether_there_was_one(loop, pair, kind):
    assert remove(loop, kind, pair[0]) is False
    add(loop, kind, pair[0], print)
    assert remove(loop, kind, pair[0]) is True
    assert remove(loop, kind, pair[0]) is False


@both
def test_number_is_not_kept(loop, turn, pair, kind):
    number = fcntl.fcntl(pair[0].fileno(), fcntl.F_DUPFD, 300)  # of the small ones, each Python has one object
    try:
        before = sys.getrefcount(number)
        add(loop, kind, number, int)
        turn()
        assert remove(loop, kind, number)
        assert sys.getrefcount(number) == before
    finally:
        os.close(number)


def test_removing_one_direction_keeps_the_other(loop, pair):
    loop.add_reader(pair[0], print)
    assert loop.remove_writer(pair[0]) is False
    loop.add_writer(pair[0], print)
    assert loop.remove_reader(pair[0]) is True
    assert loop.remove_writer(pair[0]) is True


@both
def test_removed_callback_is_not_called(loop, turn, pair, kind):
    pair[1].send(b"x")
    add(loop, kind, pair[0], pytest.fail)
    turn_with_remove = loop.call_soon(remove, loop, kind, pair[0])
    turn()
    turn()
    assert not turn_with_remove.cancelled()


@both
def test_replacing_calls_only_the_new_one(loop, turn, pair, kind):
    seen = []
    pair[1].send(b"x")
    add(loop, kind, pair[0], seen.append, "old")
    add(loop, kind, pair[0], seen.append, "new")
    turn()
    assert seen == ["new"]
    assert remove(loop, kind, pair[0])
    assert not remove(loop, kind, pair[0])


@both
@pytest.mark.parametrize("how", ["removed", "replaced", "closed"])
def test_callback_is_freed_when(loop, pair, kind, how):
    class Argument:
        pass

    argument = Argument()
    watch = weakref.ref(argument)
    add(loop, kind, pair[0], print, argument)
    del argument
    assert watch() is not None
    if how == "removed":
        remove(loop, kind, pair[0])
    elif how == "replaced":
        add(loop, kind, pair[0], print)
    else:
        loop.close()
    assert watch() is None


@both
def test_removing_itself(loop, turn, pair, kind):
    seen = []

    def once():
        seen.append(remove(loop, kind, pair[0]))

    pair[1].send(b"x")
    add(loop, kind, pair[0], once)
    turn()
    turn()
    assert seen == [True]


def test_removing_the_other_of_two_ready_descriptors(loop, turn, pairs):
    (first, first_peer), (second, second_peer) = pairs(2)
    seen = []
    loop.add_reader(first, lambda: seen.append(loop.remove_reader(second)))
    loop.add_reader(second, lambda: seen.append(loop.remove_reader(first)))
    first_peer.send(b"x")
    second_peer.send(b"x")
    turn()
    assert seen == [True]


def test_reader_that_removes_the_writer_of_the_same_descriptor(loop, turn, pair):
    seen = []
    loop.add_reader(pair[0], lambda: seen.append(("reader", loop.remove_writer(pair[0]))))
    loop.add_writer(pair[0], lambda: seen.append(("writer", loop.remove_reader(pair[0]))))
    pair[1].send(b"x")
    turn()
    assert len(seen) == 1 and seen[0][1] is True


def test_replaced_while_ready_is_called_next_turn(loop, turn, pairs):
    (first, first_peer), (second, second_peer) = pairs(2)
    seen = []

    def replace(own, other):
        loop.remove_reader(own)
        loop.add_reader(other, seen.append, "new")

    loop.add_reader(first, replace, first, second)
    loop.add_reader(second, replace, second, first)
    first_peer.send(b"x")
    second_peer.send(b"x")
    turn()
    assert seen == []
    turn()
    assert seen == ["new"]
    loop.remove_reader(first)
    loop.remove_reader(second)


# Closed descriptors, and reused numbers


def test_number_reused_within_a_turn_gets_no_stale_event(loop, turn, pairs):
    # Two descriptors are ready. The callback of one closes the other, and a new socket gets its number: the event
    # of the closed one must not reach the new one.
    made = pairs(2)
    fresh = []

    def swap(other):
        number = other.fileno()
        loop.remove_reader(other)
        other.close()
        new, peer = socket.socketpair()
        if new.fileno() != number:
            new, peer = peer, new
        assert new.fileno() == number
        fresh.extend([new, peer])
        loop.add_reader(new, pytest.fail)

    (first, first_peer), (second, second_peer) = made
    loop.add_reader(first, swap, second)
    loop.add_reader(second, swap, first)
    first_peer.send(b"x")
    second_peer.send(b"x")
    turn()
    assert fresh
    for sock in (first, second, fresh[0]):
        if sock.fileno() >= 0:
            loop.remove_reader(sock)
    turn()
    fresh[0].close()
    fresh[1].close()


def test_number_of_a_closed_descriptor_whose_file_lives_on(loop, loop_kind, turn, until):
    # epoll watches files. The file of the closed descriptor is still open under another one, so epoll keeps
    # reporting it, by the number that the new socket has now.
    if loop_kind == "asyncio":
        pytest.skip("asyncio calls the new socket's callback")
    seen = []
    first, first_peer = socket.socketpair()
    number = first.fileno()
    kept = os.dup(number)
    loop.add_reader(first, pytest.fail)
    turn()
    first.close()
    loop.remove_reader(number)
    second, second_peer = socket.socketpair()
    if second.fileno() != number:
        second, second_peer = second_peer, second
    assert second.fileno() == number
    loop.add_reader(second, seen.append, 1)
    first_peer.send(b"x")
    for _ in range(3):
        turn()
    assert seen == []
    second_peer.send(b"x")
    until(lambda: seen)  # a stress build takes one event a poll
    assert seen == [1]
    loop.remove_reader(second)
    os.close(kept)
    for sock in (first_peer, second, second_peer):
        sock.close()


@both
def test_removed_then_closed_then_the_number_is_used_again(loop, turn, kind):
    seen = []
    for _ in range(5):
        first, second = socket.socketpair()
        add(loop, kind, first, seen.append, 1)
        second.send(b"x")
        turn()
        remove(loop, kind, first)
        first.close()
        second.close()
    assert seen == [1] * 5


@both
def test_closed_then_removed_by_number_then_used_again(loop, turn, kind):
    seen = []
    for _ in range(5):
        first, second = socket.socketpair()
        number = first.fileno()
        add(loop, kind, number, seen.append, 1)
        second.send(b"x")
        turn()
        first.close()
        second.close()
        assert remove(loop, kind, number) is True
        assert remove(loop, kind, number) is False
    assert seen == [1] * 5


@both
def test_removed_and_added_again_at_once_with_another_descriptor(loop, turn, kind):
    # The poller may still know the old descriptor when the new one gets its number.
    first, first_peer = socket.socketpair()
    add(loop, kind, first, pytest.fail)
    number = first.fileno()
    remove(loop, kind, first)
    first.close()
    second, second_peer = socket.socketpair()
    if second.fileno() != number:
        second, second_peer = second_peer, second
    seen = []
    add(loop, kind, second, seen.append, 1)
    second_peer.send(b"x")
    turn()
    assert seen == [1]
    remove(loop, kind, second)
    for sock in (first_peer, second, second_peer):
        sock.close()


def test_closing_a_watched_descriptor_does_not_stop_the_loop(loop, turn, pairs):
    (first, first_peer), (second, second_peer) = pairs(2)
    seen = []
    loop.add_reader(first, pytest.fail)
    loop.add_reader(second, seen.append, 1)
    turn()
    number = first.fileno()
    first.close()
    second_peer.send(b"x")
    turn()
    assert seen == [1]
    loop.remove_reader(number)
    loop.remove_reader(second)


def test_another_is_removed_after_one_was_closed(loop, turn, pairs):
    calls, made = [], pairs(3)
    for number, (ours, _) in enumerate(made):
        loop.add_reader(ours, calls.append, number)
    closed = made[2][0].fileno()
    made[2][0].close()
    turn()
    assert loop.remove_reader(made[0][0])
    for _, theirs in made[:2]:
        theirs.send(b"x")
    turn()
    turn()
    assert set(calls) == {1}
    assert loop.remove_reader(closed) and loop.remove_reader(made[1][0])


def test_more_are_ready_than_one_poll_brings(loop, until, pair):
    ours, theirs = pair
    theirs.send(b"x")
    calls, numbers = set(), [os.dup(ours.fileno()) for _ in range(300)]
    try:
        for number in numbers:
            loop.add_reader(number, calls.add, number)
        until(lambda: calls == set(numbers))
    finally:
        for number in numbers:
            loop.remove_reader(number)
            os.close(number)


@pytest.mark.skipif(
    sys.version_info >= (3, 12), reason="collections come between two instructions of Python code there"
)
def test_handle_that_a_collection_removes_while_it_is_looked_up(cloop, pair):
    loop, (ours, _) = cloop.Loop(), pair
    kept = [(None, n) for n in range(2500)]  # what was freed would be used again, without a collection

    def collected(phase, info):
        loop.remove_reader(ours)

    loop.add_reader(ours, print)
    threshold = gc.get_threshold()
    gc.callbacks.append(collected)
    gc.set_threshold(1, 10**6, 10**6)
    try:
        found = loop._watched(ours.fileno())
    finally:
        gc.set_threshold(*threshold)
        gc.callbacks.remove(collected)
    assert not loop.remove_reader(ours)
    if found is not None:  # the collection came after the look
        assert found[0].cancelled() and loop.call_soon(print) is not found[0]
    loop.close()
    del kept


def test_closing_the_loop_leaves_the_descriptors_open(loop, pair):
    loop.add_reader(pair[0], print)
    loop.add_writer(pair[0], print)
    loop.close()
    pair[1].send(b"x")
    assert pair[0].recv(1) == b"x"


@pytest.mark.parametrize("blocking", [True, False])
def test_blocking_mode_is_left_alone(loop, turn, pairs, blocking):
    ((first, second),) = pairs(1)
    first.setblocking(blocking)
    loop.add_reader(first, print)
    loop.add_writer(first, int)
    turn()
    assert os.get_blocking(first.fileno()) is blocking
    loop.remove_reader(first)
    loop.remove_writer(first)
    loop.close()
    assert os.get_blocking(first.fileno()) is blocking
    assert first.getblocking() is blocking


# What can be watched


class WithFileno:
    def __init__(self, fd):
        self.fd = fd

    def fileno(self):
        return self.fd


@both
@pytest.mark.parametrize("added", [int, WithFileno, None], ids=["number", "fileno", "socket"])
@pytest.mark.parametrize("removed", [int, WithFileno, None], ids=["number", "fileno", "socket"])
def test_number_and_objects_with_fileno_mean_the_same(loop, pair, kind, added, removed):
    number = pair[0].fileno()
    add(loop, kind, added(number) if added else pair[0], print)
    assert remove(loop, kind, removed(number) if removed else pair[0]) is True


NONSENSE = {
    "minus one": lambda: -1,
    "large": lambda: 10**6,
    "larger than int": lambda: 2**40,
    "huge": lambda: 10**30,
    "str": lambda: "x",
    "None": lambda: None,
    "float": lambda: 1.5,
    "object": lambda: object(),
    "fileno -1": lambda: WithFileno(-1),
    "fileno str": lambda: WithFileno("x"),
    "fileno missing": lambda: WithFileno,
}


@both
@pytest.mark.parametrize("value", list(NONSENSE))
def test_nonsense_is_refused(as_asyncio, kind, value):
    def body(loop):
        try:
            add(loop, kind, NONSENSE[value](), print)
        except OverflowError:
            return (OverflowError,)  # its text differs between versions of Python and types of C

    kinds = (ValueError, TypeError, OSError, OverflowError)
    assert as_asyncio(body)["result"][0] in kinds


@both
@pytest.mark.parametrize("value", list(NONSENSE))
def test_removing_nonsense(as_asyncio, kind, value):
    as_asyncio(lambda loop: remove(loop, kind, NONSENSE[value]()))


@both
def test_closed_descriptor_is_refused(as_asyncio, kind):
    def body(loop):
        reading, writing = os.pipe()
        os.close(reading)
        os.close(writing)
        try:
            add(loop, kind, reading, print)
        except OSError as error:
            return type(error), error.errno, str(error), remove(loop, kind, reading)

    assert as_asyncio(body)["result"][0] is OSError


@both
def test_closed_socket_is_refused(as_asyncio, kind):
    def body(loop):
        sock = socket.socket()
        sock.close()
        add(loop, kind, sock, print)

    assert as_asyncio(body)["result"][0] is ValueError


@both
@pytest.mark.parametrize("times", [1, 2])
def test_regular_file_is_refused(loop, turn, kind, times):
    with tempfile.TemporaryFile() as file:
        for _ in range(times):
            with pytest.raises(PermissionError):
                add(loop, kind, file, print)
        assert remove(loop, kind, file) is False
        turn()


@both
@pytest.mark.parametrize("debug", [False, True], ids=["", "debug"])
@pytest.mark.parametrize("callback", [None, 5, "x"], ids=repr)
def test_callback_that_is_not_callable(as_asyncio, pair, kind, debug, callback):
    def body(loop):
        loop.set_debug(debug)
        loop.set_exception_handler(lambda loop, context: seen.append((context["message"], str(context["exception"]))))
        seen = []
        add(loop, kind, pair[0], callback)
        loop.call_soon(loop.stop)
        loop.run_forever()
        return seen, remove(loop, kind, pair[0])

    pair[1].send(b"x")
    as_asyncio(body)


@both
def test_missing_arguments(loop, kind):
    with pytest.raises(TypeError):
        add(loop, kind, 0)
    with pytest.raises(TypeError):
        getattr(loop, "remove_" + kind)()


def test_descriptor_of_a_transport_is_refused(as_asyncio):
    async def attempt(loop, sock, method, *args):
        await loop.create_connection(asyncio.Protocol, sock=sock)
        try:
            getattr(loop, method)(sock.fileno(), *args)
        except RuntimeError as error:
            return str(error).replace(str(sock.fileno()), "N")

    def body(loop):
        seen = []
        for method, args in [
            ("add_reader", [print]),
            ("add_writer", [print]),
            ("remove_reader", []),
            ("remove_writer", []),
        ]:
            first, second = socket.socketpair()
            seen.append(loop.run_until_complete(attempt(loop, first, method, *args))[:30])
            second.close()
            loop.run_until_complete(asyncio.sleep(0.001))
        return seen

    assert as_asyncio(body)["result"] == ["File descriptor N is used by t"] * 4


def test_add_returns_none(loop, pair):
    assert loop.add_reader(pair[0], print) is None
    assert loop.add_writer(pair[0], print) is None
    loop.remove_reader(pair[0])
    loop.remove_writer(pair[0])


def test_more_changes_in_a_turn_than_there_are_descriptors(loop, turn, pair):
    ours, peer = pair
    seen = []

    def change():
        for _ in range(40):
            loop.add_reader(ours, seen.append, "read too early")
            loop.add_writer(ours, seen.append, "written too early")
            assert loop.remove_reader(ours) and loop.remove_writer(ours)
        loop.add_reader(ours, seen.append, "at the end")

    peer.send(b"x")
    loop.call_soon(change)
    for _ in range(3):
        turn()
    assert set(seen) == {"at the end"}
    assert loop.remove_reader(ours)


@pytest.mark.parametrize("closing", [False, True])
def test_transport_that_a_program_has_put_there(loop, pair, closing):
    """In loop._transports, as asyncio's transports and those of some libraries do."""

    class Transport:
        def is_closing(self):
            return closing

    ours, _ = pair
    loop._transports[ours.fileno()] = transport = Transport()
    if closing:
        loop.add_reader(ours, print)
        assert loop.remove_reader(ours)
    else:
        with pytest.raises(RuntimeError, match="is used by transport"):
            loop.add_reader(ours, print)
    del transport
    loop.add_writer(ours, print)
    assert loop.remove_writer(ours)


class File:
    def __init__(self, error):
        self.error = error

    def fileno(self):
        raise self.error


@pytest.mark.parametrize("method", ["add_reader", "remove_reader", "add_writer", "remove_writer"])
@pytest.mark.parametrize("error", [AttributeError, TypeError, ValueError])
def test_why_a_file_is_refused(loop, method, error):
    reason = error("of the test")
    with pytest.raises(ValueError, match="Invalid file object") as caught:
        getattr(loop, method)(File(reason), *[print] if method.startswith("add") else [])
    assert caught.value.__context__ is reason
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("overrides", [False, True])
def test_exit_of_what_reads_descriptors_that_are_files_by_now(loop_class, loop_kind, tmp_path, overrides):
    """epoll refuses files, so both are told that they can read; a loop that shows its events does that before it polls."""
    if loop_kind == "asyncio":
        pytest.skip("asyncio's transport fails to go on")

    class Loop(loop_class):
        pass

    class Reads(asyncio.Protocol):
        def data_received(self, data):
            read.append(data)
            raise SystemExit("on purpose")

    if overrides:
        Loop._process_events = lambda self, events: super(Loop, self)._process_events(events)
    loop, read, kept = Loop(), [], []
    (tmp_path / "file").write_bytes(b"data")
    for _ in range(2):
        reading, writing = os.pipe()
        transport, _ = loop.run_until_complete(loop.connect_read_pipe(Reads, os.fdopen(reading, "rb", 0)))
        transport.pause_reading()
        loop.run_until_complete(asyncio.sleep(0))
        with open(str(tmp_path / "file"), "rb") as file:
            os.dup2(file.fileno(), reading)
        kept.append((transport, writing))
    for transport, _ in kept:
        transport.resume_reading()
    ends = loop.call_later(20, loop.stop)
    for number in range(2):
        with pytest.raises(SystemExit, match="on purpose"):
            loop.run_forever()
        assert read == [b"data"] * (number + 1)
    ends.cancel()
    for transport, writing in kept:
        transport.close()
        os.close(writing)
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
