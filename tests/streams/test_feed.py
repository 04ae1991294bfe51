"""What a transport feeds to asyncio's StreamReader: the same on every loop, whatever a program has replaced."""

import asyncio
import errno
import gc
import socket

import pytest


def test_data_wakes_who_waits(loop, streams):
    reader, _, _, peer = streams()

    async def main():
        reading = loop.create_task(reader.readexactly(6))
        await asyncio.sleep(0)
        waiter = reader._waiter
        peer.send(b"abc")
        while not waiter.done():
            await asyncio.sleep(0)
        assert waiter.result() is None and not reading.done()
        peer.send(b"defghi")
        return await reading, bytes(reader._buffer), reader._waiter

    assert loop.run_until_complete(main()) == (b"abcdef", b"ghi", None)


def test_cancelled_waiter_is_left_alone(loop, streams, until):
    reader, _, _, peer = streams()

    async def main():
        reading = loop.create_task(reader.read(10))
        await asyncio.sleep(0)
        reader._waiter.cancel()
        peer.send(b"abc")
        with pytest.raises(asyncio.CancelledError):
            await reading

    loop.run_until_complete(main())
    until(lambda: reader._buffer == b"abc")
    assert reader._waiter is None


def test_waiter_of_the_programs_own(streams, until):
    class Waiter:
        woken = 0

        def cancelled(self):
            return False

        def set_result(self, result):
            self.woken += 1

    reader, _, _, peer = streams()
    reader._waiter = waiter = Waiter()
    peer.send(b"abc")
    until(lambda: reader._buffer)
    assert waiter.woken == 1 and reader._waiter is None


def test_pauses_at_twice_the_limit(loop, streams, until):
    reader, _, transport, peer = streams(limit=100)
    peer.send(bytes(200))
    until(lambda: len(reader._buffer) == 200)
    assert reader._paused is False and (not hasattr(transport, "is_reading") or transport.is_reading())
    peer.send(b"x")
    until(lambda: len(reader._buffer) == 201)
    assert reader._paused is True and (not hasattr(transport, "is_reading") or not transport.is_reading())
    assert len(loop.run_until_complete(reader.read(101))) == 101
    assert reader._paused is False
    peer.send(b"y")
    until(lambda: len(reader._buffer) == 101)


def test_transport_that_cannot_pause(streams, until):
    class Mute:
        def pause_reading(self):
            raise NotImplementedError

        def is_closing(self):
            return False

    reader, _, _, peer = streams(limit=10)
    reader._transport = Mute()
    peer.send(bytes(50))
    until(lambda: len(reader._buffer) == 50)
    assert reader._transport is None and reader._paused is False


def test_reader_dropped_by_the_program(streams, until, loop):
    reader, protocol, transport, peer = streams()
    reports, received = [], []
    loop.set_exception_handler(lambda loop, context: reports.append(context))
    protocol._strong_reader = None
    del reader
    gc.collect()
    assert protocol._stream_reader is None
    peer.send(b"dropped")
    protocol.eof_received = lambda: received.append("eof")
    peer.shutdown(socket.SHUT_WR)
    until(lambda: received)
    assert received == ["eof"] and reports == []


def test_reference_of_the_programs_own(streams, arrive):
    reader, protocol, _, peer = streams()
    protocol._stream_reader_wr = lambda: reader
    arrive(reader, peer, b"abc")
    assert reader._buffer == b"abc"


def test_buffer_that_is_in_use(streams, until, loop):
    reader, _, transport, peer = streams()
    reports = []
    loop.set_exception_handler(lambda loop, context: reports.append(type(context["exception"])))
    with memoryview(reader._buffer):
        peer.send(b"abc")
        until(transport.is_closing)
    assert reports == [BufferError]


def test_after_eof(streams, until, loop):
    reader, _, transport, peer = streams()
    reports = []
    loop.set_exception_handler(lambda loop, context: reports.append(str(context["exception"])))
    reader.feed_eof()
    peer.send(b"abc")
    until(transport.is_closing)
    assert reports == ["feed_data after feed_eof"]


@pytest.mark.parametrize(
    "place", ["reader", "reader's class", "wakeup", "protocol's class", "subclass of reader", "subclass of protocol"]
)
def test_replaced_methods_run(loop, streams, until, monkeypatch, place):
    seen = []

    def feed_data(self, data, original=asyncio.StreamReader.feed_data):
        seen.append(data)
        original(self, data)

    def data_received(self, data, original=asyncio.StreamReaderProtocol.data_received):
        seen.append(data)
        original(self, data)

    def wakeup(self, original=asyncio.StreamReader._wakeup_waiter):
        seen.append(bytes(self._buffer))
        original(self)

    options = {}
    if place == "subclass of reader":
        options["reader"] = type("Reader", (asyncio.StreamReader,), {"feed_data": feed_data})(loop=loop)
    if place == "subclass of protocol":
        cls = type("Protocol", (asyncio.StreamReaderProtocol,), {"data_received": data_received})
        options["reader"] = asyncio.StreamReader(loop=loop)
        options["protocol"] = cls(options["reader"], loop=loop)
    reader, _, _, peer = streams(**options)
    peer.send(b"before")
    until(lambda: reader._buffer == b"before")
    del reader._buffer[:]
    del seen[:]
    if place == "reader":
        reader.feed_data = lambda data: feed_data(reader, data)
    elif place == "reader's class":
        monkeypatch.setattr(asyncio.StreamReader, "feed_data", feed_data)
    elif place == "wakeup":
        monkeypatch.setattr(asyncio.StreamReader, "_wakeup_waiter", wakeup)
    elif place == "protocol's class":
        monkeypatch.setattr(asyncio.StreamReaderProtocol, "data_received", data_received)
    peer.send(b"after")
    until(lambda: reader._buffer == b"after")
    assert seen == [b"after"]
    monkeypatch.undo()
    peer.send(b"!")
    until(lambda: reader._buffer == b"after!")
    assert len(seen) == (1 if place.endswith("class") or place == "wakeup" else 2)


def test_attributes_of_the_programs_own(streams, until):
    class Buffer(bytearray):
        extended = 0

        def extend(self, data):
            self.extended += 1
            super().extend(data)

    reader, _, _, peer = streams()
    reader._buffer = buffer = Buffer()
    peer.send(b"abc")
    until(lambda: buffer == b"abc")
    assert buffer.extended == 1


def test_switched_off(script):
    text = """
        import os, socket
        os.environ["CLOOP_STREAMS"] = %r
        async def main():
            ours, theirs = socket.socketpair()
            reader, writer = await asyncio.open_connection(sock=ours)
            theirs.send(b"word")
            print(await reader.readexactly(4))
            writer.close()
            theirs.close()
            await writer.wait_closed()
        loop = new_loop()
        loop.run_until_complete(main())
        loop.close()
    """
    for choice in "stock", "":
        assert script(text % choice) == "b'word'\n"


def test_socket_that_the_program_has_closed_though_its_file_lives_on(loop, loop_kind, until):
    """The poller still reports it."""
    if loop_kind == "cloop-poll":
        pytest.skip("poll(2) knows descriptors, not files")
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    reader = asyncio.StreamReader(loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    loop.run_until_complete(loop.create_connection(lambda: protocol, sock=ours))
    with ours.dup(), peer:
        ours.close()
        peer.send(b"data")
        until(reader.exception)
    assert isinstance(reader.exception(), OSError) and reader.exception().errno == errno.EBADF
