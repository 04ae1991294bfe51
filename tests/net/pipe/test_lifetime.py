"""Transports of pipes and their loop, the collector, debug mode and streams."""

import asyncio
import contextlib
import contextvars
import gc
import os
import re
import warnings
import weakref

import pytest

VAR = contextvars.ContextVar("VAR", default="unset")


def test_callbacks_run_in_the_context_of_who_connected(run, loop, ends, ended, recorder, until):
    file, peer = ends("pipe", "rb")
    seen = []
    names = ["connection_made", "data_received", "eof_received"]
    protocol = recorder(**{name: lambda self, *args: seen.append(VAR.get()) for name in names})

    async def connect():
        VAR.set("who connected")
        ended.add((await loop.connect_read_pipe(lambda: protocol, file))[0])

    run(connect())
    peer.send(b"x")
    peer.close()
    until(lambda: protocol.lost)
    assert seen == ["who connected"] * 3


def test_loop_closed_with_open_pipes(loop, opened, recorder, turn):
    """The warning tells; the file is closed with the transport."""
    protocol = recorder()
    transport, peer = opened(protocol)
    file = transport.get_extra_info("pipe")
    loop.close()
    assert not file.closed and protocol.lost == []
    protocol.transport = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del transport
        gc.collect()
    assert [warning.category for warning in caught] == [ResourceWarning]
    assert re.match(r"unclosed transport <\w+ .*fd=\d+", str(caught[0].message))
    assert file.closed


def test_close_after_the_loop_is_closed(as_asyncio, mode):
    def body(loop):
        with contextlib.ExitStack() as stack:
            fds = os.pipe()
            file = stack.enter_context(open(fds[mode == "wb"], mode, buffering=0))
            stack.callback(os.close, fds[mode == "rb"])
            connect = loop.connect_read_pipe if mode == "rb" else loop.connect_write_pipe
            transport, _ = loop.run_until_complete(connect(asyncio.Protocol, file))
            loop.close()
            try:
                result = transport.close()
            except RuntimeError as error:
                result = str(error)
            result = result, transport.is_closing()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                del transport
                gc.collect()
            return result + (file.closed,)

    as_asyncio(body)


def test_transport_that_nobody_keeps(reading, recorder, turn):
    """A paused one is not the loop's any more."""
    protocol = recorder()
    transport, peer = reading(protocol)
    file = transport.get_extra_info("pipe")
    transport.pause_reading()
    turn()
    protocol.transport = None
    gone = weakref.ref(transport)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del transport
        gc.collect()
    assert [warning.category for warning in caught] == [ResourceWarning]
    caught.clear()  # a warning has its source
    assert gone() is None and file.closed and protocol.lost == []


def test_transport_that_the_loop_keeps(reading, recorder, until):
    protocol = recorder()
    transport, peer = reading(protocol)
    del transport
    protocol.transport = None
    gc.collect()
    peer.send(b"x")
    until(lambda: protocol.data)
    peer.close()
    until(lambda: protocol.lost)


def test_closed_transport_warns_of_nothing(opened, recorder, turn):
    protocol = recorder()
    transport, peer = opened(protocol)
    transport.close()
    turn()
    protocol.transport = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del transport
        gc.collect()
    assert caught == []


def test_closed_transport_is_freed_without_the_collector(opened, recorder, until):
    protocol = recorder()
    lost = protocol.lost
    transport, peer = opened(protocol)
    gc.collect()
    gc.disable()
    try:
        peer.close()
        until(lambda: lost)
        gone = weakref.ref(transport), weakref.ref(protocol)
        protocol.transport = None
        transport = protocol = None
        assert [ref() for ref in gone] == [None, None]
    finally:
        gc.enable()


def state(transport):
    """What repr() says, without the name of the class and numbers."""
    return re.sub(r"fd=\d+", "fd=N", re.match(r"<\w+ ?(.*)>$", repr(transport)).group(1))


def test_repr(as_asyncio, mode):
    def body(loop):
        def turn():
            loop.call_soon(loop.stop)
            loop.run_forever()

        seen = []
        with contextlib.ExitStack() as stack:
            fds = os.pipe()
            file = stack.enter_context(open(fds[mode == "wb"], mode, buffering=0))
            stack.callback(os.close, fds[mode == "rb"])
            connect = loop.connect_read_pipe if mode == "rb" else loop.connect_write_pipe
            transport, _ = loop.run_until_complete(connect(asyncio.Protocol, file))
            turn()
            seen.append(state(transport))
            if mode == "rb":
                transport.pause_reading()
                turn()
                seen.append(state(transport))
            else:
                transport.write(bytes(1000000))
                turn()
                seen.append(state(transport))
            transport.close()
            seen.append(state(transport))
            if mode == "wb":
                transport.abort()
            turn()
            seen.append(state(transport))
        return seen

    as_asyncio(body)


def test_debug_mode_logs(loop, reading, writing, recorder, until, caplog):
    loop.set_debug(True)
    loop.slow_callback_duration = 100
    protocol, writer = recorder(), recorder()
    with caplog.at_level("DEBUG", "asyncio"):
        transport, peer = reading(protocol)
        transport.pause_reading()
        transport.resume_reading()
        peer.close()
        until(lambda: protocol.lost)
        transport, peer = writing(writer)
        peer.close()
        until(lambda: writer.lost)
    texts = [re.sub(r"<\w*(Recorder|Transport)\b[^>]*>", r"<\1>", text) for text in caplog.messages]
    expected = [
        r"Read pipe \d+ connected: \(<Transport>, .*\)",
        "<Transport> pauses reading",
        "<Transport> resumes reading",
        "<Transport> was closed by peer",
        r"Write pipe \d+ connected: \(<Transport>, .*\)",
        "<Transport> was closed by peer",
    ]
    texts = [text for text in texts if "poll" not in text]
    assert len(texts) == len(expected) and all(map(re.match, expected, texts)), texts


def test_streams_over_pipes(run, loop):
    """As asyncio's own documentation and many programs do with standard input and output."""
    ours, theirs = os.pipe()
    data = os.urandom(1000000).replace(b"\n", b" ") + b"\n"

    async def main():
        reader = asyncio.StreamReader(limit=1 << 16)
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), open(ours, "rb", buffering=0))
        transport, protocol = await loop.connect_write_pipe(
            asyncio.streams.FlowControlMixin, open(theirs, "wb", buffering=0)
        )
        writer = asyncio.StreamWriter(transport, protocol, None, loop)

        async def write():
            for start in range(0, len(data), 10000):
                writer.write(data[start : start + 10000])
                await writer.drain()
            writer.close()

        _, got = await asyncio.gather(write(), reader.read(-1))
        await asyncio.sleep(0)
        return got

    assert run(main()) == data


def test_file_that_a_program_takes_away(opened, recorder, loop_kind):
    """As a library may that has closed it: the transport is done with it."""
    if loop_kind == "asyncio":
        pytest.skip("asyncio cannot end the transport then")
    protocol = recorder()
    transport, peer = opened(protocol)
    with pytest.raises(AttributeError):
        transport._pipe = peer
    transport._pipe = None
    assert transport._pipe is None and transport.is_closing()
    transport.close()
    assert protocol.lost == []


def test_file_that_the_log_takes_away_at_the_end(reading, loop, recorder, turn, caplog, filter_log, loop_kind):
    if loop_kind == "asyncio":
        pytest.skip("asyncio cannot end the transport then")
    seen = []

    def look(record):
        if "was closed by peer" in record.msg:
            transport._pipe = None
            seen.append(transport.is_closing())
        return False

    loop.set_debug(True)
    loop.slow_callback_duration = 100
    protocol = recorder()
    transport, peer = reading(protocol)
    with caplog.at_level("DEBUG", "asyncio"):
        filter_log(look)
        peer.close()
        for _ in range(4):
            turn()
    assert seen == [True] and protocol.lost == [] and "eof_received" not in protocol.calls
