"""Writing and reading at the pace of the slower side: buffers, water marks, pauses, and when data is sent."""

import array
import asyncio
import contextvars
import mmap
import os
import socket
import sys
import threading

import pytest

HUGE = int(os.environ.get("CLOOP_TEST_HUGE", 0))  # bytes; 4400000000 needs that much memory on asyncio


def in_callback(loop, function, *args):
    """Calls the function in a callback of the loop; returns its result or raises its exception."""

    async def main():
        return function(*args)

    return loop.run_until_complete(main())


# Writing

FORMS = {
    "bytes": bytes,
    "bytearray": bytearray,
    "memoryview": memoryview,
    "memoryview of a bytearray": lambda data: memoryview(bytearray(data)),
    "slice": lambda data: memoryview(b"<" + data + b">")[1:-1],
    "cast": lambda data: memoryview(data).cast("i"),
    "subclass": type("Bytes", (bytes,), {}),
}


@pytest.mark.parametrize("form", list(FORMS))
def test_write_takes_bytes_like_objects(connect, recorder, collect, form):
    transport, peer = connect(recorder())
    transport.write(FORMS[form](b"12345678"))
    assert collect(peer, 8) == b"12345678"


@pytest.mark.parametrize(
    "data", ["text", None, 5, [b"x"], object(), ""], ids=["str", "None", "int", "list", "object", "empty"]
)
def test_write_refuses_other_things(as_asyncio, data):
    def body(loop):
        ours, peer = socket.socketpair()
        with peer:
            transport, _ = loop.run_until_complete(loop.create_connection(asyncio.Protocol, sock=ours))
            try:
                transport.write(data)
            finally:
                transport.close()
                loop.run_until_complete(asyncio.sleep(0))

    assert as_asyncio(body)["result"][0] is TypeError


@pytest.mark.parametrize("empty", [b"", bytearray(), memoryview(b"")], ids=["bytes", "bytearray", "memoryview"])
def test_empty_write_does_nothing(connect, recorder, collect, turn, empty):
    transport, peer = connect(recorder())
    transport.write(empty)
    transport.write(b"x")
    transport.write(empty)
    transport.close()
    assert collect(peer) == b"x"


def test_writes_of_one_callback_arrive_in_order(loop, connect, recorder, collect, kind):
    transport, peer = connect(recorder(), kind)
    parts = [os.urandom(size) for size in (1, 10, 0, 100, 5000, 1, 70000, 3, 200000, 2)]

    def write():
        for part in parts:
            transport.write(part)

    in_callback(loop, write)
    assert collect(peer, sum(map(len, parts))) == b"".join(parts)


@pytest.mark.parametrize("size", [1, 100, 4000])
def test_very_many_small_writes(loop, connect, recorder, collect, kind, size):
    transport, peer = connect(recorder(), kind)
    parts = [b"%d;" % number * size for number in range(3000)]

    def write():
        for part in parts:
            transport.write(part)

    in_callback(loop, write)
    data = b"".join(parts)
    assert collect(peer, len(data)) == data


def test_write_in_connection_made(connect, recorder, collect, kind):
    transport, peer = connect(recorder(connection_made=lambda self, transport: transport.write(b"hello")), kind)
    assert collect(peer, 5) == b"hello"


def test_write_outside_the_loop_is_sent_without_it(connect, recorder, kind):
    transport, peer = connect(recorder(), kind)
    transport.write(b"at once")
    peer.settimeout(20)
    assert peer.recv(100) == b"at once"


def test_write_is_sent_before_the_next_callback(loop, connect, recorder, kind):
    """Not at the end of the turn, which the next callback may delay."""
    transport, peer = connect(recorder(), kind)
    peer.settimeout(20)
    got = []
    loop.call_soon(transport.write, b"x")
    loop.call_soon(lambda: got.append(peer.recv(10)))
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert got == [b"x"]


def test_write_of_a_task_is_sent_when_it_waits(loop, run, connect, recorder):
    transport, peer = connect(recorder())
    peer.settimeout(20)

    async def main():
        transport.write(b"x")
        await asyncio.sleep(0)
        return peer.recv(10)

    assert run(main()) == b"x"


def test_writes_to_several_transports_in_one_callback(loop, connect, recorder, collect, kind):
    made = [connect(recorder(), kind) for _ in range(10)]

    def write():
        for _ in range(3):
            for number, (transport, _) in enumerate(made):
                transport.write(b"%d" % number)

    in_callback(loop, write)
    assert [collect(peer, 3) for _, peer in made] == [b"%d" % number * 3 for number in range(10)]


def test_write_to_another_connection_from_data_received(connect, recorder, collect, kind):
    """Like a proxy."""
    upstream, far = connect(recorder(), kind)
    transport, near = connect(recorder(data_received=lambda self, data: upstream.write(data)), kind)
    near.send(b"relayed")
    assert collect(far, 7) == b"relayed"


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_write_is_sent_though_its_callback_fails(loop, connect, recorder, collect, reports, turn, error):
    transport, peer = connect(recorder())

    def write():
        transport.write(b"x")
        raise error

    loop.call_soon(write)
    try:
        turn()
    except KeyboardInterrupt:
        pass
    assert collect(peer, 1) == b"x"
    assert len(reports) == (error is ZeroDivisionError)


def test_write_is_sent_though_its_callback_stops_the_loop(loop, connect, recorder):
    transport, peer = connect(recorder())
    peer.settimeout(20)

    def write():
        transport.write(b"x")
        loop.stop()

    loop.call_soon(write)
    loop.run_forever()
    assert peer.recv(10) == b"x"


@pytest.mark.parametrize("end", ["close", "abort", "write_eof"])
def test_write_is_sent_before_what_ends_it(loop, connect, recorder, collect, kind, end):
    transport, peer = connect(recorder(), kind)

    def write():
        transport.write(b"last ")
        transport.write(b"words")
        getattr(transport, end)()

    in_callback(loop, write)
    assert collect(peer) == b"last words"


def test_write_and_drop_of_all_references(loop, connect, recorder, collect):
    """Written data is sent even if only the loop refers to the transport."""
    protocol = recorder()
    transport, peer = connect(protocol)

    def write():
        nonlocal transport
        transport.write(b"x")
        transport = protocol.transport = None

    in_callback(loop, write)
    assert collect(peer, 1) == b"x"


def test_buffer_changed_after_write_does_not_change_what_is_sent(connect, recorder, clog, collect, native):
    transport, peer = connect(recorder())
    if sys.version_info >= (3, 12):  # asyncio keeps a view from then on
        native(transport)
    data = clog(transport)
    buffer = bytearray(b"original")
    transport.write(buffer)
    transport.write(memoryview(buffer))
    transport.writelines([buffer, memoryview(buffer)])
    buffer[:] = b"altered!"
    assert collect(peer, len(data) + 32) == data + b"original" * 4


def test_buffer_changed_within_the_callback_that_wrote_it(loop, connect, recorder, collect):
    transport, peer = connect(recorder())

    def write():
        buffer = bytearray(b"one")
        transport.write(buffer)
        buffer[:] = b"two"
        transport.write(buffer)
        buffer[:] = b"xxx"

    in_callback(loop, write)
    assert collect(peer, 6) == b"onetwo"


def test_large_buffer_changed_after_write(connect, recorder, collect, turn, native):
    transport, peer = connect(recorder())
    if sys.version_info >= (3, 12):
        native(transport)
    buffer = bytearray(os.urandom(3000000))
    expected = bytes(buffer)
    transport.write(buffer)
    buffer[:] = bytes(len(buffer))
    buffer.clear()  # nothing holds it
    turn()
    assert collect(peer, len(expected)) == expected


def test_write_of_a_mapped_file(connect, recorder, collect, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"mapped" * 1000)
    transport, peer = connect(recorder())
    with open(str(path), "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        with memoryview(mapped) as view:
            transport.write(view)
            got = collect(peer, 6000)
    assert got == b"mapped" * 1000


def test_write_may_be_assigned_on_the_instance(connect, recorder, collect):
    """Like the suites of uvicorn and aiohttp."""
    transport, peer = connect(recorder())
    seen = []
    transport.write = seen.append
    transport.write(b"caught")
    assert seen == [b"caught"]
    del transport.write
    transport.write(b"sent")
    assert collect(peer, 4) == b"sent"


def test_write_assigned_on_the_instance_is_used_by_stream_writers(run, loop, connect, recorder):
    transport, peer = connect(recorder())
    seen = []
    transport.write = seen.append
    writer = asyncio.StreamWriter(transport, transport.get_protocol(), None, loop)
    writer.write(b"caught")
    assert seen == [b"caught"]


@pytest.mark.parametrize("name", ["close", "is_closing", "pause_reading", "get_extra_info"])
def test_other_methods_may_be_assigned_too(connect, recorder, name):
    transport, peer = connect(recorder())
    setattr(transport, name, lambda *args: "mine")
    assert getattr(transport, name)() == "mine"
    delattr(transport, name)
    assert getattr(transport, name) != "mine"


# writelines

LINES = {
    "list": lambda parts: parts,
    "tuple": tuple,
    "generator": lambda parts: (part for part in parts),
    "mixed": lambda parts: [bytearray(parts[0]), memoryview(parts[1])] + parts[2:],
}


@pytest.mark.parametrize("form", list(LINES))
def test_writelines(connect, recorder, collect, kind, form):
    transport, peer = connect(recorder(), kind)
    parts = [b"one", b"two" * 1000, b"three"]
    transport.writelines(LINES[form](parts))
    data = b"".join(parts)
    assert collect(peer, len(data)) == data


def test_writelines_with_empty_ones_among_them(connect, recorder, collect, clog, native):
    transport, peer = connect(recorder())
    if sys.version_info >= (3, 12):
        native(transport, before=(3, 15))  # an empty item at the end stayed in the buffer
    lines = [b"", b"one", bytearray(), b"two", b""]
    transport.writelines(lines)
    assert collect(peer, 6) == b"onetwo"
    data = clog(transport)
    size = transport.get_write_buffer_size()
    transport.writelines(lines)
    assert transport.get_write_buffer_size() == size + 6
    transport.close()
    assert collect(peer) == data + b"onetwo"


def test_writelines_of_nothing(connect, recorder, collect, turn, native):
    transport, peer = connect(recorder())
    if sys.version_info >= (3, 12):
        native(transport, before=(3, 15))
    for lines in [], (), [b""], [b"", bytearray()], iter([]):
        transport.writelines(lines)
    turn()
    assert transport.get_write_buffer_size() == 0
    transport.close()
    assert collect(peer) == b""


@pytest.mark.parametrize("count, size", [(5000, 10), (3000, 2000), (100, 100000)])
def test_writelines_of_many(loop, connect, recorder, collect, kind, count, size):
    transport, peer = connect(recorder(), kind)
    parts = [b"%06d" % number + bytes(size) for number in range(count)]
    in_callback(loop, transport.writelines, parts)
    data = b"".join(parts)
    assert collect(peer, len(data)) == data


def test_writelines_between_writes(loop, connect, recorder, clog, collect):
    transport, peer = connect(recorder())

    def write():
        transport.write(b"a")
        transport.writelines([b"b", b"c"])
        transport.write(b"d")
        transport.writelines([b"e"])

    in_callback(loop, write)
    assert collect(peer, 5) == b"abcde"
    data = clog(transport)
    in_callback(loop, write)
    assert collect(peer, len(data) + 5) == data + b"abcde"


@pytest.mark.parametrize("lines", [["text"], [5], 5, None], ids=repr)
def test_writelines_refuses_other_things(connect, recorder, lines):
    transport, peer = connect(recorder())
    if lines is None and sys.version_info >= (3, 12):
        transport.writelines(lines)
        return
    with pytest.raises(TypeError):
        transport.writelines(lines)


@pytest.mark.parametrize("lines", [[None], [None, b"one", "", 0, b"two"], [None, "text"]], ids=repr)
def test_writelines_with_falsy_ones_among_them(as_asyncio, lines):
    """Newer releases of asyncio leave them out, of whatever type."""

    def body(loop):
        ours, theirs = socket.socketpair()

        async def main():
            reader, writer = await asyncio.open_connection(sock=ours)
            try:
                writer.writelines(lines)
                refused = False
            except TypeError:
                refused = True
            writer.close()
            await writer.wait_closed()
            return refused, theirs.recv(100)

        with theirs:
            return loop.run_until_complete(main())

    as_asyncio(body)


# Water marks; what pipes and TLS share is in test_water_marks.py


def test_size_of_the_buffer_within_the_callback_that_wrote(loop, connect, recorder):
    """Data that the kernel takes is not in it, even if several writes are sent together."""
    transport, peer = connect(recorder())

    def write():
        transport.write(b"one")
        transport.write(b"two")
        return transport.get_write_buffer_size()

    assert in_callback(loop, write) == 0
    peer.settimeout(20)
    assert peer.recv(10) in (b"one", b"onetwo")


def test_protocol_is_paused_above_the_mark_and_resumed_below(connect, recorder, clog, collect, turn, kind):
    protocol = recorder()
    transport, peer = connect(protocol, kind)
    data = os.urandom(8000000)
    transport.write(data)
    assert protocol.calls == ["connection_made", "pause_writing"]
    assert transport.get_write_buffer_size() > 65536
    transport.write(data)
    turn()
    assert protocol.calls == ["connection_made", "pause_writing"]
    collect(peer, 16000000)
    assert protocol.calls == ["connection_made", "pause_writing", "resume_writing"]


def test_pause_comes_within_the_write_that_fills_the_buffer(loop, connect, recorder):
    protocol = recorder()
    transport, peer = connect(protocol)

    def write():
        transport.write(b"small")
        before = list(protocol.calls)
        transport.write(bytes(8000000))
        return before, list(protocol.calls)

    before, after = in_callback(loop, write)
    assert before == ["connection_made"]
    assert after == ["connection_made", "pause_writing"]


def test_pause_comes_within_the_small_write_too_that_fills_the_buffer(loop, connect, recorder, clog):
    protocol = recorder()
    transport, peer = connect(protocol)
    clog(transport)
    transport.set_write_buffer_limits(transport.get_write_buffer_size() + 10)
    before = protocol.calls.count("pause_writing")

    def write():
        counts = []
        for _ in range(4):
            transport.write(b"four")
            counts.append(protocol.calls.count("pause_writing") - before)
        return counts

    assert in_callback(loop, write) == [0, 0, 1, 1]


def test_many_writes_that_fill_the_buffer_together_pause(loop, connect, recorder):
    """None of them alone is above the mark, and none waited for the end of the callback."""
    protocol = recorder()
    transport, peer = connect(protocol)
    paused_after = []

    def write():
        for number in range(1000):
            transport.write(bytes(10000))
            if "pause_writing" in protocol.calls:
                paused_after.append(number)
                return

    in_callback(loop, write)
    assert paused_after and transport.get_write_buffer_size() > 65536


def test_writelines_pauses(loop, connect, recorder, collect, native):
    protocol = recorder()
    transport, peer = connect(protocol)
    if sys.version_info >= (3, 12):
        native(transport, before=(3, 14))
    in_callback(loop, transport.writelines, [bytes(100000)] * 50)
    assert protocol.calls == ["connection_made", "pause_writing"]
    collect(peer, 5000000)
    assert protocol.calls == ["connection_made", "pause_writing", "resume_writing"]


def test_new_protocol_is_the_one_resumed(connect, recorder, collect):
    first, second = recorder(), recorder()
    transport, peer = connect(first)
    transport.write(bytes(4000000))
    transport.set_protocol(second)
    collect(peer, 4000000)
    assert first.calls == ["connection_made", "pause_writing"] and second.calls == ["resume_writing"]


# write_eof


def test_write_eof(connect, recorder, collect, until, kind):
    protocol = recorder()
    transport, peer = connect(protocol, kind)
    assert transport.can_write_eof() is True
    transport.write(b"request")
    transport.write_eof()
    transport.write_eof()
    assert collect(peer) == b"request"
    assert not transport.is_closing()
    peer.send(b"response")
    until(lambda: protocol.data == b"response")
    peer.close()
    until(lambda: protocol.lost)
    assert protocol.lost == [None]


def test_write_eof_waits_for_what_is_buffered(connect, recorder, clog, collect, until, kind):
    protocol = recorder()
    transport, peer = connect(protocol, kind)
    data = clog(transport)
    transport.write_eof()
    assert collect(peer) == data
    peer.send(b"response")
    until(lambda: protocol.data == b"response")


def test_write_eof_and_close(connect, recorder, clog, collect, until, kind):
    protocol = recorder()
    transport, peer = connect(protocol, kind)
    data = clog(transport)
    transport.write_eof()
    transport.close()
    assert collect(peer) == data
    until(lambda: protocol.lost)


def test_write_eof_after_close_does_nothing(connect, recorder, turn):
    protocol = recorder()
    transport, peer = connect(protocol)
    transport.close()
    transport.write_eof()
    turn()
    transport.write_eof()
    assert protocol.lost == [None]


def test_both_sides_write_eof(connect, recorder, collect, until, kind):
    protocol = recorder(eof_received=lambda self: True)
    transport, peer = connect(protocol, kind)
    transport.write_eof()
    assert collect(peer) == b""
    peer.shutdown(socket.SHUT_WR)
    until(lambda: "eof_received" in protocol.calls)
    assert not transport.is_closing()
    transport.close()
    until(lambda: protocol.lost)


@pytest.mark.parametrize("call", ["write", "writelines"])
def test_writing_after_write_eof(as_asyncio, call):
    def body(loop):
        ours, peer = socket.socketpair()
        with peer:
            transport, _ = loop.run_until_complete(loop.create_connection(asyncio.Protocol, sock=ours))
            transport.write_eof()
            try:
                getattr(transport, call)([b"x"] if call == "writelines" else b"x")
            finally:
                transport.close()
                loop.run_until_complete(asyncio.sleep(0))

    assert as_asyncio(body)["result"][0] is RuntimeError


# Writing to a lost connection


ENDINGS = {
    "closed": lambda transport, peer: transport.close(),
    "aborted": lambda transport, peer: transport.abort(),
    "eof": lambda transport, peer: peer.close(),
}


@pytest.mark.parametrize("how", list(ENDINGS))
@pytest.mark.parametrize("call", ["write", "writelines"])
@pytest.mark.parametrize("told", [False, True], ids=["", "told"])
def test_write_after_the_end_is_quiet_but_for_a_warning_after_five(
    connect, recorder, until, caplog, native, how, call, told
):
    protocol = recorder()
    transport, peer = connect(protocol)
    if call == "writelines" and sys.version_info >= (3, 12):
        native(transport, before=(3, 14))
    ENDINGS[how](transport, peer)
    if told or how == "eof":
        until(lambda: protocol.lost)
    for _ in range(8):
        getattr(transport, call)([b"x"] if call == "writelines" else b"x")
    transport.write(b"")
    assert transport.get_write_buffer_size() == 0
    records = [(record.name, record.levelname, record.getMessage()) for record in caplog.records]
    assert records == [("asyncio", "WARNING", "socket.send() raised exception.")] * 4


@pytest.mark.parametrize("after", [0, 2, 3.5, 1 << 70])
def test_number_of_writes_after_which_it_warns(connect, recorder, caplog, monkeypatch, after):
    monkeypatch.setattr(asyncio.constants, "LOG_THRESHOLD_FOR_CONNLOST_WRITES", after)
    transport, peer = connect(recorder())
    transport.abort()  # counts
    for _ in range(8):
        transport.write(b"x")
    assert len(caplog.records) == sum(count >= after for count in range(1, 9))


def test_write_after_close_sends_nothing(connect, recorder, collect, turn, kind):
    transport, peer = connect(recorder(), kind)
    transport.close()
    transport.write(b"x")
    turn()
    transport.write(b"x")
    assert collect(peer) == b""


def test_write_after_close_checks_its_argument(connect, recorder, turn):
    transport, peer = connect(recorder())
    transport.close()
    turn()
    with pytest.raises(TypeError):
        transport.write("text")


def test_writing_on_after_the_peer_has_gone(connect, recorder, until, turn, kind):
    protocol = recorder(eof_received=lambda self: True)
    transport, peer = connect(protocol, kind)
    peer.close()

    def lost():
        transport.write(b"x")
        return protocol.lost

    until(lost)
    assert [type(exc) for exc in protocol.lost] in ([BrokenPipeError], [ConnectionResetError])
    transport.write(b"x")
    turn()
    assert len(protocol.lost) == 1


# Pausing reading


def test_paused_transport_reads_nothing(connect, recorder, turn, until, kind):
    protocol = recorder()
    transport, peer = connect(protocol, kind)
    assert transport.is_reading()
    transport.pause_reading()
    assert not transport.is_reading()
    peer.send(b"x")
    for _ in range(5):
        turn()
    assert protocol.data == b""
    transport.resume_reading()
    assert transport.is_reading()
    until(lambda: protocol.data == b"x")


def test_pausing_and_resuming_twice_is_harmless(connect, recorder, turn, until):
    protocol = recorder()
    transport, peer = connect(protocol)
    transport.resume_reading()
    transport.pause_reading()
    transport.pause_reading()
    transport.resume_reading()
    transport.resume_reading()
    assert transport.is_reading()
    peer.send(b"x")
    until(lambda: protocol.chunks)
    assert protocol.chunks == [b"x"]


def test_pause_in_connection_made(connect, recorder, turn, until, native, kind):
    protocol = recorder(connection_made=lambda self, transport: transport.pause_reading())
    transport, peer = connect(protocol, kind)
    native(transport, before=(3, 11))  # it started reading anyway
    peer.send(b"x")
    for _ in range(5):
        turn()
    assert protocol.data == b""
    transport.resume_reading()
    until(lambda: protocol.data)


def test_pause_in_data_received_holds_from_then_on(connect, recorder, buffered_recorder, feed, turn, until, kind):
    """Even data that has arrived already."""
    protocol = recorder(data_received=lambda self, data: self.transport.pause_reading())
    transport, peer = connect(protocol, kind)
    transport.set_write_buffer_limits(0)
    total = 0
    peer.setblocking(False)
    try:
        while total < 1 << 22:
            total += peer.send(bytes(65536))
    except BlockingIOError:
        pass
    rounds = 0
    while len(protocol.data) < total:
        until(lambda: len(protocol.chunks) > rounds)  # noqa: B023
        for _ in range(3):
            turn()
        rounds += 1
        assert len(protocol.chunks) == rounds and not transport.is_reading()
        transport.resume_reading()
    assert len(protocol.data) == total


def test_pause_in_buffer_updated_holds_from_then_on(connect, buffered_recorder, turn, until, kind):
    protocol = buffered_recorder(4, buffer_updated=lambda self, count: self.transport.pause_reading())
    transport, peer = connect(protocol, kind)
    peer.send(b"12345678")
    until(lambda: protocol.data)
    for _ in range(3):
        turn()
    assert protocol.data == b"1234"
    transport.resume_reading()
    until(lambda: protocol.data == b"12345678")


def test_pause_and_resume_within_data_received(connect, recorder, feed, until, kind):
    def blink(self, data):
        self.transport.pause_reading()
        self.transport.resume_reading()

    protocol = recorder(data_received=blink)
    transport, peer = connect(protocol, kind)
    data = os.urandom(1000000)
    feed(peer, data)
    until(lambda: len(protocol.data) == len(data))
    assert protocol.data == data


def test_eof_is_not_told_while_paused(connect, recorder, turn, until, kind):
    protocol = recorder()
    transport, peer = connect(protocol, kind)
    transport.pause_reading()
    peer.send(b"x")
    peer.close()
    for _ in range(5):
        turn()
    assert protocol.calls == ["connection_made"]
    transport.resume_reading()
    until(lambda: protocol.lost)
    assert protocol.data == b"x"


def test_paused_transport_can_be_written_to(connect, recorder, collect):
    transport, peer = connect(recorder())
    transport.pause_reading()
    data = bytes(3000000)
    transport.write(data)
    assert collect(peer, len(data)) == data


@pytest.mark.parametrize("end", ["close", "abort"])
def test_pausing_what_is_closing_is_harmless(connect, recorder, turn, end):
    protocol = recorder()
    transport, peer = connect(protocol)
    transport.pause_reading()
    getattr(transport, end)()
    assert not transport.is_reading()
    transport.resume_reading()
    transport.pause_reading()
    peer.send(b"x")
    turn()
    assert protocol.data == b"" and protocol.lost == [None]
    transport.resume_reading()
    transport.pause_reading()
    assert not transport.is_reading()


def test_pause_reading_and_close_by_the_other_of_a_pair(connect, recorder, until, turn):
    """Data read from one connection and written to another stops with the slower one."""
    slow_protocol = recorder(
        pause_writing=lambda self: fast.pause_reading(), resume_writing=lambda self: fast.resume_reading()
    )
    slow, reader = connect(slow_protocol)
    fast, writer = connect(recorder(data_received=lambda self, data: slow.write(data)))
    sent = 0
    idle = 0
    while idle < 20:  # until nothing moves any more
        try:
            sent += writer.send(bytes(65536))
            idle = 0
        except BlockingIOError:
            idle += 1
        turn()
    assert not fast.is_reading()
    assert slow.get_write_buffer_size() <= 65536 + 262144
    got = 0

    def all_read():
        nonlocal got
        try:
            got += len(reader.recv(1 << 18))
        except BlockingIOError:
            pass
        return got == sent

    until(all_read)
    assert fast.is_reading()


# Streams on top


def test_drain_waits_for_the_reader(run, loop, socket_pair, kind):
    ours, peer = socket_pair(kind)

    async def main():
        reader, writer = await asyncio.open_connection(sock=ours)
        writer.write(bytes(8000000))
        drained = asyncio.ensure_future(writer.drain())
        await asyncio.sleep(0)
        assert not drained.done()
        got = 0
        while got < 8000000:
            got += len(await loop.sock_recv(peer, 1 << 18))
        await drained
        writer.close()
        await writer.wait_closed()

    run(main())


def test_streams_limit_what_is_read(run, loop, socket_pair, kind):
    ours, peer = socket_pair(kind)

    async def main():
        reader, writer = await asyncio.open_connection(sock=ours, limit=1000)
        sending = asyncio.ensure_future(loop.sock_sendall(peer, bytes(5000000)))
        while writer.transport.is_reading():
            await asyncio.sleep(0)
        assert not sending.done()
        assert await reader.readexactly(5000000) == bytes(5000000)
        await sending
        writer.close()
        await writer.wait_closed()

    run(main())


# Large amounts


def test_write_of_very_much(connect, recorder, until):
    """More than 4 GiB with CLOOP_TEST_HUGE=4400000000, to see that no size is kept in 32 bits."""
    size = HUGE or 50000000
    protocol = recorder()
    transport, peer = connect(protocol)
    peer.setblocking(True)
    got = []

    def read():
        buffer, count = bytearray(1 << 20), 0
        while True:
            received = peer.recv_into(buffer)
            if not received:
                break
            count += received
        got.append((count, bytes(buffer[: len(b"end")])))

    reader = threading.Thread(target=read)
    transport.write(bytes(size))
    assert size - (1 << 22) < transport.get_write_buffer_size() <= size
    transport.write(b"end")
    transport.close()
    reader.start()
    try:
        while not protocol.lost:
            transport._loop.call_later(0.01, transport._loop.stop)
            transport._loop.run_forever()
    finally:
        peer.shutdown(socket.SHUT_RDWR)
        reader.join()
    assert got[0][0] == size + 3


def test_flow_control_runs_in_the_connections_context(loop, connect, recorder, collect, native):
    var = contextvars.ContextVar("var", default="connection")
    seen = []
    protocol = recorder()
    protocol.pause_writing = lambda: seen.append(var.get())
    protocol.resume_writing = lambda: seen.append(var.get())
    transport, peer = connect(protocol)
    native(transport)  # asyncio calls them in the writer's context

    async def writer():
        var.set("writer")
        transport.set_write_buffer_limits(high=0)
        transport.write(b"x" * 2**22)
        return var.get()

    assert loop.run_until_complete(writer()) == "writer"
    assert len(collect(peer, 2**22)) == 2**22
    assert seen == ["connection", "connection"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="classes of Python have no buffers")
def test_line_that_aborts_when_it_is_asked_for_its_bytes(connect, recorder, collect, turn, native):
    class Line:
        asked = 0

        def __buffer__(self, flags):
            self.asked += 1
            if self.asked == 2:
                transport.abort()
            return memoryview(b"line")

    protocol, line = recorder(), Line()
    transport, peer = connect(protocol)
    native(transport)  # asyncio asks once
    transport.writelines([b"one", line, bytes(20000)])
    assert transport.get_write_buffer_size() == 0
    assert collect(peer) == b"" and protocol.lost == [None] and line.asked == 2


def test_lines_of_many_kinds(connect, recorder, collect, clog, native):
    """Also behind what is buffered."""

    class Text(bytes):
        pass

    protocol = recorder()
    transport, peer = connect(protocol)
    kinds = [b"a", bytearray(b"b"), memoryview(b"c"), array.array("b", b"de"), Text(b"f"), memoryview(b"gxh")[:1]]
    transport.writelines(kinds)
    assert collect(peer, 7) == b"abcdefg"
    data = clog(transport)
    native(transport)  # asyncio keeps views of them from Python 3.12 on
    transport.writelines(kinds)
    kinds[1][:] = b"z"
    kinds[3][0] = 0
    assert collect(peer, len(data) + 7) == data + b"abcdefg"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="classes of Python have no buffers")
@pytest.mark.parametrize("method", ["write", "writelines"])
def test_bytes_of_a_class_with_a_buffer_of_its_own(connect, recorder, collect, method):
    class Shell(bytes):
        def __buffer__(self, flags):
            return memoryview(b"buffer")

    transport, peer = connect(recorder())
    getattr(transport, method)(Shell(b"object") if method == "write" else [Shell(b"object")])
    assert collect(peer, 6) == b"buffer"
