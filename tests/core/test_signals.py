"""add_signal_handler and remove_signal_handler; signals that others handle."""

import asyncio
import ctypes
import os
import signal
import socket
import threading
import time

import pytest

PATIENCE_S = 20  # for what should happen at once
SIGNALS = [signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGALRM, signal.SIGTERM, signal.SIGCHLD]


@pytest.fixture(autouse=True)
def signals_as_found():
    """Checks that handlers and wakeup descriptor are restored once the loop is closed. Signals that the parent process
    ignores, as nohup does with SIGHUP, get their default meanwhile.
    """
    found = {number: signal.getsignal(number) for number in SIGNALS + [signal.SIGINT]}
    for number, handler in found.items():
        if handler == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    before = {number: signal.getsignal(number) for number in found}
    yield
    wakeup = signal.set_wakeup_fd(-1)
    after = {number: signal.getsignal(number) for number in before}
    for number, handler in found.items():
        signal.signal(number, handler)
    assert after == before
    assert wakeup == -1


def send(number):
    os.kill(os.getpid(), number)


# Handling


def test_descriptor_that_wakes_is_not_left_after_a_run(loop):
    for _ in range(2):
        loop.run_until_complete(asyncio.sleep(0.001))  # polls
        assert signal.set_wakeup_fd(-1) == -1


@pytest.mark.parametrize("number", SIGNALS + [signal.SIGINT], ids=str)
def test_handler_is_called_with_its_arguments(loop, turn, number):
    seen = []
    loop.add_signal_handler(number, lambda *args: seen.append(args), 1, "two")
    loop.call_soon(send, number)
    for _ in range(3):
        turn()
    assert seen == [(1, "two")]
    assert loop.remove_signal_handler(number)


def test_signal_wakes_an_idle_loop(loop):
    loop.add_signal_handler(signal.SIGALRM, loop.stop)
    watchdog = loop.call_later(20, loop.stop)
    start = time.monotonic()
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    loop.run_forever()
    assert time.monotonic() - start < 10
    watchdog.cancel()
    loop.remove_signal_handler(signal.SIGALRM)


def test_handler_is_called_between_callbacks_not_within_one(loop, turn):
    seen = []

    def callback():
        send(signal.SIGUSR1)
        seen.append("callback goes on")

    loop.add_signal_handler(signal.SIGUSR1, seen.append, "handler")
    loop.call_soon(callback)
    for _ in range(3):
        turn()
    assert seen == ["callback goes on", "handler"]
    loop.remove_signal_handler(signal.SIGUSR1)


def test_signal_before_the_run_is_kept(loop, turn):
    seen = []
    loop.add_signal_handler(signal.SIGUSR1, seen.append, 1)
    send(signal.SIGUSR1)
    for _ in range(3):
        turn()
    assert seen == [1]
    loop.remove_signal_handler(signal.SIGUSR1)


def test_handler_that_is_added_once_the_loop_has_slept(loop, turn):
    """What wakes the loop stays set after the run, for it."""
    seen = []

    async def main():
        await asyncio.sleep(0.001)
        loop.add_signal_handler(signal.SIGUSR1, seen.append, 1)

    loop.run_until_complete(main())
    send(signal.SIGUSR1)
    for _ in range(3):
        turn()
    assert seen == [1]


def test_several_signals_at_once_are_each_handled(loop, turn):
    seen = []
    for number in SIGNALS:
        loop.add_signal_handler(number, seen.append, number)
    loop.call_soon(lambda: [send(number) for number in SIGNALS])
    for _ in range(3):
        turn()
    assert sorted(seen) == sorted(SIGNALS)
    for number in SIGNALS:
        assert loop.remove_signal_handler(number)


def test_many_signals_one_after_another(loop):
    seen = []

    def handler():
        seen.append(1)
        if len(seen) == 500:
            loop.stop()
        else:
            send(signal.SIGUSR1)

    loop.add_signal_handler(signal.SIGUSR1, handler)
    loop.call_soon(send, signal.SIGUSR1)
    loop.run_forever()
    assert len(seen) == 500
    loop.remove_signal_handler(signal.SIGUSR1)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # asyncio reports the full pipe
def test_more_signals_than_the_wakeup_descriptor_holds(loop, turn):
    seen = []
    previous = signal.signal(signal.SIGUSR2, lambda *args: None)
    loop.add_signal_handler(signal.SIGUSR1, seen.append, 1)

    def flood():
        for _ in range(5000):
            send(signal.SIGUSR2)

    loop.call_soon(flood)
    for _ in range(3):
        turn()
    loop.call_soon(send, signal.SIGUSR1)
    for _ in range(10):
        turn()
    loop.remove_signal_handler(signal.SIGUSR1)
    signal.signal(signal.SIGUSR2, previous)
    assert seen == [1]


def test_replacing_calls_only_the_new_handler(loop, turn):
    seen = []
    loop.add_signal_handler(signal.SIGUSR1, seen.append, "old")
    loop.add_signal_handler(signal.SIGUSR1, seen.append, "new")
    loop.call_soon(send, signal.SIGUSR1)
    for _ in range(3):
        turn()
    assert seen == ["new"]
    assert loop.remove_signal_handler(signal.SIGUSR1)
    assert not loop.remove_signal_handler(signal.SIGUSR1)


def test_handler_may_remove_itself(loop, turn):
    seen = []
    loop.add_signal_handler(signal.SIGUSR1, lambda: seen.append(loop.remove_signal_handler(signal.SIGUSR1)))
    loop.call_soon(send, signal.SIGUSR1)
    for _ in range(3):
        turn()
    assert seen == [True]


def test_handler_may_add_another(loop, turn):
    seen = []

    def first():
        loop.add_signal_handler(signal.SIGUSR2, seen.append, "second")
        send(signal.SIGUSR2)

    loop.add_signal_handler(signal.SIGUSR1, first)
    loop.call_soon(send, signal.SIGUSR1)
    for _ in range(6):
        turn()
    assert seen == ["second"]
    loop.remove_signal_handler(signal.SIGUSR1)
    loop.remove_signal_handler(signal.SIGUSR2)


def test_exception_is_reported(loop, turn, reports):
    loop.add_signal_handler(signal.SIGUSR1, lambda: 1 / 0)
    loop.call_soon(send, signal.SIGUSR1)
    for _ in range(3):
        turn()
    assert [type(report["exception"]) for report in reports] == [ZeroDivisionError]
    loop.remove_signal_handler(signal.SIGUSR1)


# Removing


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGINT], ids=str)
def test_remove_restores_the_default(loop, number):
    default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    assert loop.remove_signal_handler(number) is False
    loop.add_signal_handler(number, print)
    assert signal.getsignal(number) not in (default, None)
    assert loop.remove_signal_handler(number) is True
    assert signal.getsignal(number) == default
    assert loop.remove_signal_handler(number) is False


def test_close_removes_the_handlers(loop):
    loop.add_signal_handler(signal.SIGUSR1, print)
    loop.add_signal_handler(signal.SIGINT, print)
    loop.close()
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_keyboard_interrupt_works_again_after_remove(loop):
    loop.add_signal_handler(signal.SIGINT, pytest.fail)
    loop.remove_signal_handler(signal.SIGINT)
    loop.call_soon(send, signal.SIGINT)
    watchdog = loop.call_later(20, loop.stop)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    watchdog.cancel()


# Refused

NUMBERS = [
    signal.SIGKILL, signal.SIGSTOP, 9, 0, -1, 64, 65, 1000, 2**40, None, "x", 1.5, "SIGINT",
]  # fmt: skip


@pytest.mark.parametrize("number", NUMBERS, ids=repr)
@pytest.mark.parametrize("method", ["add_signal_handler", "remove_signal_handler"])
def test_odd_numbers(as_asyncio, method, number):
    def body(loop):
        args = (number, print) if method == "add_signal_handler" else (number,)
        try:
            return getattr(loop, method)(*args)
        finally:
            if number == 64:
                loop.remove_signal_handler(64)

    as_asyncio(body)


def test_kill_cannot_be_caught(loop):
    with pytest.raises(RuntimeError, match="^sig 9 cannot be caught$"):
        loop.add_signal_handler(signal.SIGKILL, print)
    assert loop.remove_signal_handler(signal.SIGKILL) is False


async def coroutine_function():
    pass


@pytest.mark.parametrize("debug", [False, True], ids=["", "debug"])
@pytest.mark.parametrize("callback", [coroutine_function, 5, None], ids=["coroutine", "int", "None"])
def test_odd_callbacks(as_asyncio, callback, debug):
    def body(loop):
        loop.set_debug(debug)
        try:
            return loop.add_signal_handler(signal.SIGUSR1, callback)
        finally:
            loop.remove_signal_handler(signal.SIGUSR1)

    as_asyncio(body)


def test_coroutine_object_as_callback(as_asyncio):
    def body(loop):
        coroutine = coroutine_function()
        try:
            loop.add_signal_handler(signal.SIGUSR1, coroutine)
        finally:
            coroutine.close()

    assert as_asyncio(body)["result"][0] is TypeError


def test_only_the_main_thread_may_add(as_asyncio):
    def body(loop):
        errors = []

        def attempt():
            try:
                loop.add_signal_handler(signal.SIGUSR1, print)
            except Exception as error:
                errors.append((type(error), str(error)))

        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join()
        return errors

    assert len(as_asyncio(body)["result"]) == 1


def test_a_loop_in_another_thread_leaves_signals_alone(new_loop):
    loop = new_loop()
    started = threading.Event()
    loop.call_soon(started.set)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    assert started.wait(10)
    with pytest.raises(KeyboardInterrupt):
        send(signal.SIGINT)
        time.sleep(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


# Signals of others


def test_python_handler_runs_while_the_loop_is_idle(loop):
    seen = []

    def handler(number, frame):
        seen.append(number)
        loop.call_soon_threadsafe(loop.stop)

    previous = signal.signal(signal.SIGALRM, handler)
    watchdog = loop.call_later(20, loop.stop)
    start = time.monotonic()
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    loop.run_forever()
    assert time.monotonic() - start < 10
    signal.signal(signal.SIGALRM, previous)
    assert seen == [signal.SIGALRM]
    watchdog.cancel()


def test_python_handler_runs_during_a_chain_of_callbacks(loop):
    def chain(left):
        assert left, "no handler ran during 2,000,000 callbacks"
        if not seen:
            loop.call_soon(chain, left - 1)
        else:
            loop.stop()

    seen = []
    previous = signal.signal(signal.SIGALRM, lambda *args: seen.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.005)
    loop.call_soon(chain, 2000000)
    loop.run_forever()
    signal.signal(signal.SIGALRM, previous)
    assert seen == [1]


def test_exception_of_a_python_handler_leaves_the_idle_loop(loop):
    class Timeout(BaseException):
        pass

    def handler(number, frame):
        raise Timeout

    previous = signal.signal(signal.SIGALRM, handler)
    watchdog = loop.call_later(20, loop.stop)
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    with pytest.raises(Timeout):
        loop.run_forever()
    signal.signal(signal.SIGALRM, previous)
    watchdog.cancel()


def test_what_a_python_handler_schedules_wakes_the_idle_loop(loop, loop_kind):
    """As on uvloop. A worker whose handler sets an asyncio.Event ends at once; taskiq's."""
    if loop_kind == "asyncio":
        pytest.skip("asyncio goes on waiting for an event or a timer")
    previous = signal.signal(signal.SIGALRM, lambda *_: loop.call_soon(loop.stop))
    late = loop.call_later(PATIENCE_S, loop.stop)
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    loop.run_forever()
    signal.signal(signal.SIGALRM, previous)
    assert loop.time() < late.when()
    late.cancel()


@pytest.mark.parametrize("when", ["before", "meanwhile", "unset"])
def test_python_handler_runs_before_the_loop_sleeps(loop, when):
    """If somebody else has the wakeup descriptor, or nobody, no byte in the pipe wakes the loop."""
    ours, theirs = socket.socketpair()
    raise_without_python = ctypes.CDLL(None)["raise"]
    before = signal.signal(signal.SIGUSR1, lambda *_: loop.stop())
    with ours, theirs:
        ours.setblocking(False)
        try:
            if when == "before":
                signal.set_wakeup_fd(ours.fileno())
            else:
                loop.call_later(0.001, signal.set_wakeup_fd, ours.fileno() if when == "meanwhile" else -1)
            loop.call_later(0.01, raise_without_python, int(signal.SIGUSR1))
            late = loop.call_later(PATIENCE_S, loop.stop)
            loop.run_forever()
            assert loop.time() < late.when()
        finally:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("handlers", [False, True], ids=["", "with add_signal_handler"])
def test_foreign_wakeup_descriptor_is_restored(loop, turn, loop_kind, handlers):
    if handlers and loop_kind == "asyncio":
        pytest.skip("asyncio forgets the foreign descriptor")
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing)
    try:
        turn()
        if handlers:
            loop.add_signal_handler(signal.SIGUSR1, print)
            turn()
            loop.remove_signal_handler(signal.SIGUSR1)
        turn()
        loop.close()
    finally:
        restored = signal.set_wakeup_fd(-1)
        os.close(reading)
        os.close(writing)
    assert restored == writing


# Elsewhere the descriptor is unknown (core/wakeup.h): it loses its flag, and what comes while another is set.
@pytest.fixture
def found_wakeup_fd(cloop):
    if "epoll" not in cloop._cloop.build_info()["pollers"]:
        pytest.skip("the wakeup descriptor is found on Linux only")


@pytest.mark.usefixtures("found_wakeup_fd")
@pytest.mark.parametrize("warns", [False, True])
@pytest.mark.parametrize("handlers", [False, True], ids=["", "with add_signal_handler"])
def test_foreign_wakeup_descriptor_keeps_its_flag(script, loop_kind, handlers, warns):
    """Restoring it sets warn_on_full_buffer: a program that lets its buffer run full on purpose was warned. Where memory
    has many numbers like that of the descriptor, as with poll on CPython 3.12, it still was.
    """
    if handlers and loop_kind == "asyncio":
        pytest.skip("asyncio forgets the foreign descriptor")
    process = script(
        """
        import contextlib, os, signal, socket, sys, time
        reading, writing = socket.socketpair()
        for end in reading, writing:
            end.setblocking(False)
        signal.signal(signal.SIGUSR1, lambda *args: None)
        signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=sys.argv[1] == "True")
        loop = new_loop()
        loop.run_until_complete(asyncio.sleep(0.001))
        if sys.argv[2] == "True":
            loop.add_signal_handler(signal.SIGUSR2, print)
            loop.run_until_complete(asyncio.sleep(0.001))
            loop.remove_signal_handler(signal.SIGUSR2)
        loop.run_until_complete(asyncio.sleep(0.001))
        loop.close()
        with contextlib.suppress(BlockingIOError):
            while True:
                writing.send(b"x" * 65536)
        os.kill(os.getpid(), signal.SIGUSR1)
        for _ in range(100):
            pass
        assert signal.set_wakeup_fd(-1) == writing.fileno()
        """,
        warns,
        handlers,
        popen=True,
    )
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert ("wakeup fd" in err) == warns, err


@pytest.mark.usefixtures("found_wakeup_fd")
def test_foreign_wakeup_descriptor_gets_every_signal(cloop, python, write_script):
    """Whenever another descriptor is set for a moment, to see who owns it, a signal comes."""
    process = python(
        write_script(
            """
        import asyncio, os, signal, socket
        reading, writing = socket.socketpair()
        for end in reading, writing:
            end.setblocking(False)
        real, sent = signal.set_wakeup_fd, []

        def set_wakeup_fd(fd, **options):
            previous = real(fd, **options)
            if fd != writing.fileno():
                sent.append(1)
                os.kill(os.getpid(), signal.SIGUSR1)
            return previous

        signal.signal(signal.SIGUSR1, lambda *args: None)
        signal.set_wakeup_fd = set_wakeup_fd  # before anybody has it
        import cloop
        loop = cloop.new_event_loop()
        real(writing.fileno())
        for _ in range(5):
            loop.run_until_complete(asyncio.sleep(0.001))
        loop.close()
        try:
            got = len(reading.recv(1000))
        except BlockingIOError:
            got = 0
        print(got - len(sent), real(-1) == writing.fileno())
        """
        )
    )
    assert process.stdout.split() == ["0", "True"], process.stderr


def test_descriptor_of_another_loop_is_not_restored(new_loop, loop_class):
    """That one is closed, and another file has its number."""
    first, second = new_loop(loop_class), new_loop(loop_class)
    first.call_later(0.001, second.add_signal_handler, signal.SIGUSR1, int)  # it has slept, and has the descriptor
    first.call_later(0.002, first.stop)
    first.run_forever()
    first.close()
    pairs = [socket.socketpair() for _ in range(8)]
    try:
        for sock in sum(pairs, ()):
            sock.setblocking(False)
        second.remove_signal_handler(signal.SIGUSR1)
        assert signal.set_wakeup_fd(-1) == -1
    finally:
        for sock in sum(pairs, ()):
            sock.close()


def test_a_failing_handler_does_not_cost_the_others_their_signals(cloop, new_loop):
    class Failing(cloop.Loop):
        def _handle_signal(self, number):
            if number == signal.SIGUSR1:
                raise MemoryError
            super()._handle_signal(number)

    loop = new_loop(Failing)
    seen = []
    loop.add_signal_handler(signal.SIGUSR1, seen.append, 1)
    loop.add_signal_handler(signal.SIGUSR2, seen.append, 2)
    loop.call_soon(signal.raise_signal, signal.SIGUSR1)
    loop.call_soon(signal.raise_signal, signal.SIGUSR2)
    loop.call_soon(loop.call_later, 0.001, loop.stop)
    with pytest.raises(MemoryError):
        loop.run_forever()
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    assert seen == [2]
