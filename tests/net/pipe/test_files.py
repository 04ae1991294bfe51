"""The file that a transport is given: what becomes of it, and which are refused."""

import asyncio
import gc
import os
import warnings

import pytest

# Of a terminal (a pty) our end is the master.
ALL = pytest.mark.parametrize("kind", ["pipe", "socket", "pty"])


class File:
    """All that a transport needs of a file; counts how often it is closed."""

    def __init__(self, descriptor):
        self.descriptor = descriptor
        self.closed = 0

    def fileno(self):
        return self.descriptor

    def close(self):
        self.closed += 1
        if self.closed == 1:
            os.close(self.descriptor)


def test_file_is_closed_once(loop, run, recorder, mode, turn):
    ours, theirs = os.pipe()[:: 1 if mode == "rb" else -1]
    file = File(ours)
    connect = loop.connect_read_pipe if mode == "rb" else loop.connect_write_pipe
    transport, protocol = run(connect(recorder, file))
    assert transport.get_extra_info("pipe") is file
    assert transport.get_extra_info("none of these") is None and transport.get_extra_info("nor", 1) == 1
    transport.close()
    turn()
    # Its number may be another's by now, and is not closed again with the transport.
    number = os.dup(theirs)
    assert number == ours
    transport.close()
    del transport, protocol
    gc.collect()
    assert file.closed == 1
    os.close(number)
    os.close(theirs)


def test_file_is_open_in_connection_lost(opened, recorder, until):
    seen = []
    protocol = recorder(connection_lost=lambda self, exc: seen.append(self.transport.get_extra_info("pipe").closed))
    transport, peer = opened(protocol)
    peer.close()
    until(lambda: seen)
    assert seen == [False] and transport.get_extra_info("pipe").closed


def test_descriptor_does_not_block_while_in_use(opened, recorder):
    transport, peer = opened(recorder())
    assert not os.get_blocking(transport.get_extra_info("pipe").fileno())


@ALL
@pytest.mark.parametrize("blocking", [True, False])
def test_blocking_mode_is_restored(connect_file, ends, recorder, mode, turn, native, kind, blocking):
    """It belongs to whoever else has the file open, such as the shell we were started from."""
    file, peer = ends(kind, mode)
    other = os.dup(file.fileno())
    try:
        os.set_blocking(other, blocking)
        transport = connect_file(recorder(), file, mode)
        native(transport)
        transport.close()
        turn()
        assert os.get_blocking(other) is blocking
    finally:
        os.close(other)


def test_descriptor_may_be_used_again(opened, recorder, turn, until, ends, connect_file, collect, mode):
    """The number of a closed pipe is given to the next: nothing of the last is left in the loop."""
    for _ in range(20):
        protocol = recorder()
        transport, peer = opened(protocol)
        if mode == "rb":
            peer.send(b"x")
            until(lambda protocol=protocol: protocol.data == b"x")
        else:
            transport.write(b"x")
            assert collect(peer, 1) == b"x"
        transport.close()
        turn()
        assert protocol.lost == [None]
        peer.close()


def test_one_terminal_for_all_directions(connect_file, ends, recorder, until, collect):
    """Standard input, output and error are often three numbers of one file."""
    file, peer = ends("pty", "rb")
    others = [open(os.dup(file.fileno()), "wb", buffering=0) for _ in range(2)]
    protocol = recorder()
    connect_file(protocol, file, "rb")
    out, err = [connect_file(recorder(), other, "wb") for other in others]
    out.write(b"out, ")
    err.write(b"err")
    assert collect(peer, 8) == b"out, err"
    peer.send(b"in")
    until(lambda: protocol.data == b"in")
    out.close()
    err.close()
    until(lambda: others[0].closed and others[1].closed)
    peer.send(b" again")
    until(lambda: protocol.data == b"in again")


def test_one_number_for_both_directions(connect_file, ends, recorder, turn, until, collect, native):
    """Closing asyncio's write transport makes the loop forget the descriptor, though it is read, too."""
    file, peer = ends("pty", "rb")
    protocol = recorder()
    connect_file(protocol, file, "rb")
    with open(file.fileno(), "wb", buffering=0, closefd=False) as also:
        writer = connect_file(recorder(), also, "wb")
        writer.write(b"out")
        assert collect(peer, 3) == b"out"
        peer.send(b"in")
        until(lambda: protocol.data == b"in")
        native(writer)
        writer.close()
        turn()
        peer.send(b" again")
        until(lambda: protocol.data == b"in again")


def regular(folder):
    return open(os.path.join(folder, "regular"), "wb+", buffering=0)


def closed(folder):
    file = open(os.devnull, "rb", buffering=0)
    file.close()
    return file


def folder_itself(folder):
    return File(os.open(folder, os.O_RDONLY))


class Odd:
    """A file whose number is what it says."""

    def __init__(self, number):
        self.number = number

    def fileno(self):
        if self.number == "raises":
            raise ZeroDivisionError("on purpose")
        return self.number

    def close(self):
        pass


ODD_FILES = {
    "regular": regular,
    "closed": closed,
    "folder": folder_itself,
    "not open": lambda folder: Odd(1 << 20),
    "too large": lambda folder: Odd(1 << 40),
    "raises": lambda folder: Odd("raises"),
    "None": lambda folder: None,
    "int": lambda folder: 12345,
    "str": lambda folder: "stdin",
}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of half-made transports of asyncio
@pytest.mark.parametrize("make", ODD_FILES.values(), ids=ODD_FILES)
def test_files_that_are_refused(as_asyncio, make, mode, tmp_path, recorder):
    """The file stays the caller's."""

    def body(loop):
        warnings.filterwarnings("ignore", "unclosed transport", ResourceWarning)  # the same
        file = make(str(tmp_path))
        protocol = recorder()
        connect = loop.connect_read_pipe if mode == "rb" else loop.connect_write_pipe
        try:
            loop.run_until_complete(connect(lambda: protocol, file))
        except Exception as error:
            del connect
            text = "too large" if isinstance(error, OverflowError) else str(error)
            result = type(error), text, protocol.calls, getattr(file, "closed", None)
        loop.run_until_complete(asyncio.sleep(0))
        gc.collect()
        if hasattr(file, "close"):
            file.close()
        return result + (protocol.calls,)

    as_asyncio(body)


@pytest.mark.unstressed("a part of it is sent")
def test_null_device_is_written(connect_file, recorder, turn):
    protocol = recorder()
    with open(os.devnull, "wb", buffering=0) as file:
        transport = connect_file(protocol, file, "wb")
        transport.write(bytes(1000000))
        assert transport.get_write_buffer_size() == 0
        transport.close()
        turn()
    assert protocol.calls == ["connection_made", "connection_lost"] and protocol.lost == [None]


def test_null_device_is_read(connect_file, recorder, turn, reports):
    """Not every poller can wait for it: then that is reported, or its end comes all the same."""
    protocol = recorder()
    with open(os.devnull, "rb", buffering=0) as file:
        transport = connect_file(protocol, file, "rb")
        turn()
        transport.close()
        turn()
        turn()
        assert file.closed
    assert protocol.lost == [None] and protocol.data == b""
    assert {type(context["exception"]) for context in reports} <= {PermissionError}


class Asked:
    """A program's own file, which does something once, when it is asked for its number."""

    act = None

    def __init__(self, file):
        self.file = file

    def fileno(self):
        act, self.act = self.act, None
        if act is not None:
            act()
        return self.file.fileno()

    def close(self):
        self.file.close()


def unless_it_does_not_ask(file):
    if file.act is not None:
        pytest.skip("asyncio asks once")


def test_file_that_aborts_when_what_is_queued_is_sent(connect_file, ends, recorder, until, turn):
    end, peer = ends("pipe", "wb")
    file = Asked(end)
    protocol = recorder()
    transport = connect_file(protocol, file, "wb")
    transport.write(bytes(1 << 20))
    assert transport.get_write_buffer_size() > 0
    file.act = transport.abort
    peer.recv(1 << 16)
    for _ in range(4):
        turn()
    unless_it_does_not_ask(file)
    assert protocol.lost == [None] and transport.get_write_buffer_size() == 0
    assert peer.recv(1 << 16) == b""  # what was queued is not sent any more


def test_file_that_looks_at_what_is_received(connect_file, ends, loop, until, start):
    """The reader has lent memory for the message, which somebody takes back before it is used."""
    end, peer = ends("pipe", "rb")
    file = Asked(end)
    reader = asyncio.StreamReader(loop=loop)
    connect_file(asyncio.StreamReaderProtocol(reader, loop=loop), file, "rb")
    message = bytes(range(256)) * 200
    task = start(reader.readexactly(len(message)))
    seen = []
    peer.send(message[:20000])
    for _ in range(4):
        loop.call_soon(loop.stop)
        loop.run_forever()
    file.act = lambda: seen.append(bytes(reader._buffer))
    peer.send(message[20000:30000])
    for _ in range(4):
        loop.call_soon(loop.stop)
        loop.run_forever()
    peer.send(message[30000:])
    until(task.done)
    unless_it_does_not_ask(file)
    assert task.result() == message and seen == [message[:20000]]


def test_file_that_changes_how_much_is_received(connect_file, ends, recorder, until):
    end, peer = ends("pipe", "rb")
    file = Asked(end)
    protocol = recorder()
    transport = connect_file(protocol, file, "rb")
    transport.max_size = 1 << 20
    file.act = lambda: setattr(transport, "max_size", 10)
    peer.send(b"more than ten bytes")
    until(lambda: len(protocol.data) >= 19)
    unless_it_does_not_ask(file)
    assert protocol.data == b"more than ten bytes"


def test_file_that_takes_itself_away_when_it_is_closed(connect_file, ends, recorder, mode, until):
    end, peer = ends("pipe", mode)
    file = Asked(end)

    def lost(protocol, exc):
        file.act = lambda: setattr(transport, "_pipe", None)

    protocol = recorder(connection_lost=lost)
    transport = connect_file(protocol, file, mode)
    transport.close()
    until(lambda: protocol.lost)
    unless_it_does_not_ask(file)
    assert transport._pipe is None and not end.closed
