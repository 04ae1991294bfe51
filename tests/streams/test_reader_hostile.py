"""Programs that change a StreamReader while it works: no crash, and no leaked reference."""

import asyncio
import contextlib
import functools
import gc
import socket
import sys
import warnings
from unittest import mock

import pytest

DATA = b"data\nmore\n"
ATTRIBUTES = ["_limit", "_loop", "_buffer", "_eof", "_waiter", "_exception", "_transport", "_paused"]


def discard(transport):
    """Ends a connection whose reader cannot handle it any more."""
    transport.set_protocol(asyncio.Protocol())
    transport.abort()


@contextlib.contextmanager
def anything_goes():
    """Exceptions, but no crash and no SystemError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (SystemError, MemoryError):
        raise
    except Exception:
        pass


@pytest.mark.parametrize("how", ["clear", "replace", "delete", "set None"])
@pytest.mark.parametrize("when", ["before", "waiting"])
def test_dict_taken_away(streams, loop, turn, read, how, when, reports):
    reader, _, transport, peer = streams()
    coroutine = None
    if when == "waiting":
        coroutine = read(reader)
        coroutine.send(None)
    if how == "clear":
        reader.__dict__.clear()
    elif how == "replace":
        reader.__dict__ = {}
    elif how == "delete":
        with anything_goes():
            del reader.__dict__
    else:
        with pytest.raises(TypeError):
            reader.__dict__ = None
        reader.__dict__ = {}
    with pytest.raises(AttributeError):
        reader._buffer
    with pytest.raises((AttributeError, RuntimeError)):  # the latter for data that has not come
        coroutine = coroutine or read(reader)
        coroutine.send(None)
    with anything_goes():
        reader.feed_data(DATA)
    with anything_goes():
        reader.exception()
    peer.send(DATA)
    for _ in range(4):
        turn()
    reader._buffer = buffer = bytearray(DATA)
    assert reader._buffer is buffer
    coroutine.close()
    discard(transport)


def use_all(reader, read, coroutine):
    for action in (
        lambda: reader.feed_data(DATA),
        lambda: coroutine and coroutine.send(None),
        lambda: read(reader).send(None),
        lambda: reader._limit,
        lambda: setattr(reader, "_limit", 5),
        lambda: reader.exception(),
    ):
        with anything_goes():
            action()


def test_keys_of_the_dict_that_run_python(streams, read):
    class Evil:
        """Equal to nothing, and removes the dict while it is compared."""

        def __init__(self, name, how):
            self.name, self.how = name, how

        def __hash__(self):
            return hash(self.name)

        def __eq__(self, other):
            if self.how == "clear":
                reader.__dict__.clear()
            elif self.how == "replace":
                reader.__dict__ = {}
            gc.collect()
            return False

    for name in ["_cloop", "_buffer", read.name, "feed_data"]:
        for how in ["clear", "replace"]:
            for started in (False, True):
                reader, _, transport, peer = streams()
                coroutine = None
                if started:
                    coroutine = read(reader)
                    coroutine.send(None)
                fields = dict(reader.__dict__)
                reader.__dict__.clear()
                reader.__dict__[Evil(name, how)] = 1
                reader.__dict__.update(fields)
                del fields
                use_all(reader, read, coroutine)
                reader.__dict__ = {}
                discard(transport)


def test_transport_that_meddles(streams, arrive, read, switched_off):
    """What resume_reading() and pause_reading() do to the reader."""

    def delete(name):
        return lambda: delattr(reader, name)

    def step():
        reader.read(1).send(None)

    actions = [delete(name) for name in ATTRIBUTES] + [
        lambda: reader.__dict__.clear(),
        lambda: reader._buffer.clear(),
        lambda: setattr(reader, "_buffer", None),
        lambda: reader.feed_eof(),
        lambda: reader.feed_data(b"x"),
        lambda: reader.set_exception(ValueError("x")),
        step,
    ]

    class Meddling:
        def resume_reading(self):
            action()

        pause_reading = resume_reading

    for action in actions:  # noqa: B007
        for size in (3, 20, 30):
            reader, _, transport, peer = streams(limit=10)
            arrive(reader, peer, b"0" * size)
            reader._transport, reader._paused = Meddling(), size != 20
            with anything_goes():
                coroutine = read(reader)
                coroutine.send(None)
                coroutine.send(None)
            with anything_goes():
                reader.feed_data(b"1")
            coroutine = None
            reader.__dict__.clear()
            discard(transport)


def test_waiter_that_meddles(streams, arrive, read):
    """What the program's own future does to the reader when it is woken."""

    class Waiter:
        _asyncio_future_blocking = False

        def cancelled(self):
            action()
            return False

        def set_result(self, result):
            action()

        def done(self):
            action()
            return True

        result = cancelled

    def clear():
        reader.__dict__.clear()
        gc.collect()

    actions = [functools.partial(lambda name: delattr(reader, name), name) for name in ATTRIBUTES]
    actions += [clear, lambda: reader.feed_data(b"x"), lambda: reader.feed_eof(), lambda: read(reader).send(None)]
    for action in actions:  # noqa: B007
        reader, _, transport, peer = streams(limit=2)
        reader._waiter = Waiter()
        with anything_goes():
            reader.feed_data(b"12345")
        reader.__dict__.clear()
        discard(transport)


def test_future_that_is_done(streams, loop, run, finish):
    """Awaiting it does not yield."""
    reader, _, _, _ = streams()
    done = loop.create_future()
    done.set_result(None)
    reader._loop = mock.Mock(create_future=lambda: done)
    assert finish(reader.read(5)) == b"" and reader._waiter is None


def test_references(streams, run, read):
    """Many rounds leave nothing behind."""
    reader, _, transport, peer = streams(limit=100)
    loop, peak = reader._loop, []

    def round():
        reader.feed_data(DATA)
        with contextlib.suppress(StopIteration):
            read(reader).send(None)
        reader._buffer.clear()
        coroutine = read(reader)
        coroutine.send(None)
        reader.feed_data(b"12345678\n")
        with contextlib.suppress(StopIteration):
            coroutine.send(None)
        reader._buffer.clear()
        coroutine = read(reader)
        coroutine.send(None)
        with contextlib.suppress(ValueError):
            coroutine.throw(ValueError("x"))
        coroutine = read(reader)
        coroutine.send(None)
        coroutine.close()
        reader._buffer.extend(b"x" * 101)
        with contextlib.suppress(ValueError, asyncio.LimitOverrunError, StopIteration):
            read(reader).send(None)
        reader._buffer.clear()
        reader.set_exception(OSError("x"))
        with contextlib.suppress(OSError):
            read(reader).send(None)
        reader._exception = None
        reader._eof = True
        with contextlib.suppress(asyncio.IncompleteReadError, StopIteration, StopAsyncIteration):
            read(reader).send(None)
        reader._eof = False

    watched = [reader, transport, loop, type(reader), None, True, False, b"", asyncio.IncompleteReadError, DATA]

    def counts():
        gc.collect()
        return [sys.getrefcount(thing) for thing in watched]

    for _ in range(3):
        for _ in range(200):
            round()
        peak.append(counts())
    assert all(after - before < 100 for before, after in zip(peak[1], peak[2])), peak


def test_waiter_is_gone_when_the_transport_is_resumed(streams):
    """As readline() does after it was told of a line that is too long."""
    reader, _, _, _ = streams(limit=10)
    seen = []
    coroutine = reader.readline()
    coroutine.send(None)
    assert reader._waiter is not None
    reader._transport = mock.Mock(resume_reading=lambda: seen.append(reader._waiter))
    reader._paused = True
    with pytest.raises(ValueError):
        coroutine.throw(asyncio.LimitOverrunError("too long", 0))
    assert seen == [None] and not reader._paused


def test_transport_that_cannot_be_resumed(streams):
    reader, _, _, _ = streams(limit=10)
    overrun = asyncio.LimitOverrunError("too long", 0)
    coroutine = reader.readline()
    coroutine.send(None)
    reader._transport = mock.Mock(resume_reading=mock.Mock(side_effect=ZeroDivisionError))
    reader._paused = True
    with pytest.raises(ZeroDivisionError) as caught:
        coroutine.throw(overrun)
    assert caught.value.__context__ is overrun and reader._waiter is None


class Odd(asyncio.LimitOverrunError):
    args = 5


def overrun(consumed, args=None):
    error = asyncio.LimitOverrunError("too long", consumed)
    if args is not None:
        error.args = args
    return error


def without_number():
    error = overrun(0)
    del error.consumed
    return error


OVERRUNS = {
    "args that are no tuple": lambda: Odd("too long", 2),
    "no args": lambda: overrun(2, ()),
    "at a newline": lambda: overrun(2),
    "elsewhere": lambda: overrun(1),
    "from the end": lambda: overrun(-1),
    "huge": lambda: overrun(10**30),
    "true": lambda: overrun(True),
    "none": lambda: overrun(None),
    "text": lambda: overrun("text"),
    "float": lambda: overrun(1.5),
    "no number": without_number,
}


class Equal:
    def __init__(self, answer):
        self.answer = answer

    def __eq__(self, other):
        return self.answer() if callable(self.answer) else self.answer

    def __repr__(self):
        return "Equal"


def with_partial(partial):
    error = asyncio.IncompleteReadError(b"", 5)
    error.partial = partial
    return error


PARTIALS = {
    "nothing": b"",
    "something": b"something",
    "no bytes": bytearray(),
    "some bytes": bytearray(b"some"),
    "none": None,
    "equal": Equal(True),
    "not equal": Equal(False),
    "not comparable": Equal(lambda: 1 / 0),
}


def raised_by_a_read(loop, method, error):
    """What becomes of an exception of a reader, and of its buffer."""

    async def main():
        ours, theirs = socket.socketpair()
        with theirs:
            reader, writer = await asyncio.open_connection(sock=ours)
            reader._buffer.extend(b"ab\ncd\n")
            reader.set_exception(error)
            try:
                told = repr(await getattr(reader, method)())
            except Exception as caught:
                told = type(caught), str(caught), caught.__context__ is error
            left = bytes(reader._buffer)
            writer.transport.abort()
            await asyncio.sleep(0)
            return told, left

    return loop.run_until_complete(main())


@pytest.mark.parametrize("name", sorted(OVERRUNS))
@pytest.mark.parametrize("method", ["readline", "__anext__"])
def test_overruns_of_the_programs_own(as_asyncio, method, name):
    as_asyncio(lambda loop: raised_by_a_read(loop, method, OVERRUNS[name]()))


@pytest.mark.parametrize("name", sorted(PARTIALS))
@pytest.mark.parametrize("method", ["readline", "__anext__"])
def test_partial_results_of_the_programs_own(as_asyncio, method, name):
    as_asyncio(lambda loop: raised_by_a_read(loop, method, with_partial(PARTIALS[name])))
