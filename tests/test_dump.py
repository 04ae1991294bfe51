"""cloop.dump_on_signal(): metrics, tasks with their stacks, timers and descriptors, when a signal arrives."""

import asyncio
import io
import os
import signal
import socket
import sys
import threading

import pytest


@pytest.fixture
def loop(cloop, new_loop):
    return new_loop(cloop.Loop)


@pytest.fixture(autouse=True)
def restored():
    before = signal.getsignal(signal.SIGUSR1)
    yield
    signal.signal(signal.SIGUSR1, before)


def test_dump_of_a_loop_that_sleeps(cloop, loop):
    texts = []
    cloop.dump_on_signal(signal.SIGUSR1, to=lambda text: (texts.append(text), loop.stop()))

    async def waits():
        await asyncio.sleep(1000)

    async def main():
        await waits()

    async def outer(task):
        await task

    ours, theirs = socket.socketpair()
    with ours, theirs:
        loop.add_reader(ours, print)
        task = loop.create_task(main())
        other = loop.create_task(outer(task))
        timer = loop.call_later(500, print, "a timer")
        killer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1))
        killer.start()
        loop.run_forever()
        killer.join()
        timer.cancel()
        loop.remove_reader(ours)
        (text,) = texts
        assert "%d r  socket:" % ours.fileno() in text
    task.cancel()
    loop.run_until_complete(asyncio.wait([other]))
    first = main.__code__.co_firstlineno
    assert text.startswith("cloop: ") and "1 open loop in process %d" % os.getpid() in text
    assert "turns=" in text and "tasks: 2" in text
    assert 'File "%s", line %d, in ' % (__file__, first + 1) in text
    assert 'File "%s", line %d, in ' % (__file__, waits.__code__.co_firstlineno + 1) in text
    assert "%s  test_dump_of_a_loop_that_sleeps.<locals>.main(), waits for sleep" % task.get_name() in text
    assert "  awaited by %s " % other.get_name() in text
    assert "timers: 2" in text and "in 499." in text and " print(" in text


def test_running_task_is_called_so(cloop, loop):
    file = io.StringIO()
    cloop.dump_on_signal(signal.SIGUSR1, to=file)

    async def main():
        signal.raise_signal(signal.SIGUSR1)

    loop.run_until_complete(main())
    assert "main(), running\n" in file.getvalue()


def test_dump_goes_to_stderr(cloop, loop, capsys):
    cloop.dump_on_signal(signal.SIGUSR1)
    signal.raise_signal(signal.SIGUSR1)
    text = capsys.readouterr().err
    assert repr(loop) in text and "tasks: 0\ntimers: 0\n" in text


def test_many_timers_are_not_all_shown(cloop, loop):
    texts = []
    cloop.dump_on_signal(signal.SIGUSR1, to=texts.append)
    for _ in range(130):
        loop.call_later(1000, print)
    signal.raise_signal(signal.SIGUSR1)
    assert "timers: 130" in texts[0] and "  and 30 more\n" in texts[0]


class Broken:
    def __init__(self, error):
        self.error = error

    def write(self, text):
        raise self.error("of to")


@pytest.mark.parametrize("error", [BrokenPipeError, BlockingIOError, ZeroDivisionError])
@pytest.mark.parametrize("kind", ["file", "function"])
def test_error_does_not_end_the_loop(cloop, loop, monkeypatch, error, kind):
    found = []

    def hook(each):
        place = "%s %r" % (each.err_msg, each.object)  # which of them says it differs by version
        found.append((each.exc_type, str(each.exc_value), place))

    monkeypatch.setattr(sys, "unraisablehook", hook)
    cloop.dump_on_signal(signal.SIGUSR1, to=Broken(error) if kind == "file" else Broken(error).write)
    loop.call_soon(signal.raise_signal, signal.SIGUSR1)
    loop.call_soon(loop.stop)
    loop.run_forever()
    ((kind, text, place),) = found
    assert (kind, text) == (error, "of to") and "dump_on_signal" in place


def test_error_is_shown(cloop, monkeypatch, capsys):
    monkeypatch.setattr(sys, "unraisablehook", sys.__unraisablehook__)
    cloop.dump_on_signal(signal.SIGUSR1, to=Broken(ZeroDivisionError))
    signal.raise_signal(signal.SIGUSR1)
    text = capsys.readouterr().err
    assert "dump_on_signal" in text and "in write\n" in text and "ZeroDivisionError: of to" in text


def test_what_is_refused(cloop):
    with pytest.raises(TypeError):
        cloop.dump_on_signal(signal.SIGUSR1, to=1)
    with pytest.raises(OSError):
        cloop.dump_on_signal(signal.SIGKILL)
