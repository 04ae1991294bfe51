"""call_soon_threadsafe: nothing is lost, order is kept, an idle loop wakes up."""

import asyncio
import contextvars
import ctypes
import signal
import threading
import time

import pytest

VAR = contextvars.ContextVar("VAR", default="unset")


def in_threads(count, function):
    """Starts threads that call function(number); returns them."""
    threads = [threading.Thread(target=function, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    return threads


def join(threads):
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


@pytest.fixture
def watchdog(loop):
    """Fails the test instead of hanging when the loop isn't woken."""
    handle = loop.call_later(20, lambda: (loop.stop(), pytest.fail("the loop was not woken")))
    yield
    handle.cancel()


def test_call_soon_threadsafe_and_call_soon_run_in_order(loop, turn):
    seen = []
    for number in range(100):
        method = loop.call_soon_threadsafe if number % 3 == 0 else loop.call_soon
        method(seen.append, number)
    turn()
    assert seen == list(range(100))


def test_called_by_a_callback_waits_for_the_next_turn(loop, turn):
    seen = []
    loop.call_soon(lambda: loop.call_soon_threadsafe(seen.append, 1))
    turn()
    assert seen == []
    turn()
    assert seen == [1]


def test_wakes_an_idle_loop_again_and_again(loop, watchdog):
    turns, seen = threading.Semaphore(0), []

    def answer(number):
        seen.append(number)
        turns.release()

    def ask(_):
        for number in range(300):
            loop.call_soon_threadsafe(answer, number)
            assert turns.acquire(timeout=20)
        loop.call_soon_threadsafe(loop.stop)

    threads = in_threads(1, ask)
    loop.run_forever()
    join(threads)
    assert seen == list(range(300))


def test_callbacks_of_many_threads_run_once_and_in_the_order_of_each_thread(loop, watchdog):
    seen = {number: [] for number in range(8)}
    running = [8]

    def finish():
        running[0] -= 1
        if not running[0]:
            loop.stop()

    def send(number):
        for index in range(2000):
            loop.call_soon_threadsafe(seen[number].append, index)
        loop.call_soon_threadsafe(finish)

    threads = in_threads(8, send)
    loop.run_forever()
    join(threads)
    assert all(seen[number] == list(range(2000)) for number in range(8))


def test_what_came_before_the_run_is_not_lost(loop):
    seen = []
    join(in_threads(4, lambda number: loop.call_soon_threadsafe(seen.append, number)))
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert sorted(seen) == [0, 1, 2, 3]


def test_what_comes_between_runs_is_not_lost(loop):
    seen = []
    for _ in range(20):
        join(in_threads(2, lambda number: loop.call_soon_threadsafe(seen.append, number)))
        loop.call_soon(loop.stop)
        loop.run_forever()
    assert sorted(seen) == [0] * 20 + [1] * 20


def test_stop_from_a_thread(loop, watchdog):
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(loop.stop,))
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()


def test_handle_can_be_cancelled(loop, turn):
    loop.call_soon_threadsafe(pytest.fail).cancel()
    turn()


def test_cancelled_in_the_loop_before_it_runs(loop, turn):
    handles = []
    loop.call_soon(lambda: [handle.cancel() for handle in handles])
    join(in_threads(3, lambda number: handles.append(loop.call_soon_threadsafe(pytest.fail))))
    turn()
    assert all(handle.cancelled() for handle in handles)


def test_context_is_that_of_the_calling_thread(loop, turn):
    seen = []

    def send(number):
        VAR.set(number)
        loop.call_soon_threadsafe(lambda: seen.append(VAR.get()))

    join(in_threads(3, send))
    turn()
    assert sorted(seen) == [0, 1, 2]


def test_closed_loop_refuses_in_any_thread(loop):
    loop.close()
    errors = []

    def send(_):
        try:
            loop.call_soon_threadsafe(print)
        except RuntimeError as error:
            errors.append(str(error))

    join(in_threads(2, send))
    assert errors == ["Event loop is closed"] * 2


def test_threads_that_send_while_the_loop_closes_get_a_runtime_error(new_loop):
    for _ in range(20):
        loop = new_loop()
        started = threading.Barrier(4)

        def send(_, loop=loop, started=started):
            started.wait(10)
            try:
                while True:
                    loop.call_soon_threadsafe(int)
            except RuntimeError:
                pass

        threads = in_threads(3, send)
        started.wait(10)
        loop.call_soon(loop.stop)
        loop.run_forever()
        loop.close()
        join(threads)


def test_exception_is_reported(loop, turn, reports):
    join(in_threads(1, lambda _: loop.call_soon_threadsafe(lambda: 1 / 0)))
    turn()
    assert [type(report["exception"]) for report in reports] == [ZeroDivisionError]


def test_may_be_called_by_a_signal_handler_that_interrupts_the_wait(loop, watchdog):
    previous = signal.signal(signal.SIGALRM, lambda *args: loop.call_soon_threadsafe(loop.stop))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        loop.run_forever()
    finally:
        signal.signal(signal.SIGALRM, previous)


def test_a_stream_from_another_thread_does_not_hold_up_timers(loop, watchdog):
    stopped = threading.Event()

    def send(_):
        while not stopped.is_set():
            loop.call_soon_threadsafe(int)

    loop.call_later(0.02, loop.stop)
    threads = in_threads(1, send)
    start = time.monotonic()
    loop.run_forever()
    elapsed = time.monotonic() - start
    stopped.set()
    join(threads)
    assert elapsed < 10


def test_run_coroutine_threadsafe(loop, watchdog):
    results = []

    async def answer(number):
        await asyncio.sleep(0)
        return number

    def ask(number):
        results.append(asyncio.run_coroutine_threadsafe(answer(number), loop).result(20))
        if len(results) == 5:
            loop.call_soon_threadsafe(loop.stop)

    threads = in_threads(5, ask)
    loop.run_forever()
    join(threads)
    assert sorted(results) == [0, 1, 2, 3, 4]


def test_callback_destroyed_in_a_thread_that_holds_the_last_reference(loop, turn):
    freed = []

    class Argument:
        def __del__(self):
            freed.append(threading.current_thread() is threading.main_thread())

    def send(_):
        handle = loop.call_soon_threadsafe(int, Argument())
        handle.cancel()

    join(in_threads(1, send))
    turn()
    assert len(freed) == 1


@pytest.mark.skipif(not hasattr(asyncio.events, "_ThreadSafeHandle"), reason="since Python 3.14")
@pytest.mark.parametrize("method", ["cancel", "cancelled"])
def test_handle_waits_in_other_threads_for_its_callback(loop, method):
    running, answered = threading.Event(), threading.Event()
    seen = []

    def callback():
        running.set()
        seen.append(answered.wait(0.05))  # it must not be set, however long this takes
        loop.stop()

    handle = loop.call_soon_threadsafe(callback)
    assert isinstance(handle, asyncio.events._ThreadSafeHandle)

    def ask():
        running.wait(10)
        getattr(handle, method)()
        answered.set()

    thread = threading.Thread(target=ask)
    thread.start()
    loop.run_forever()
    thread.join()
    assert seen == [False]
    assert answered.is_set()


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "__errno_location"), reason="errno is elsewhere")
def test_what_an_earlier_call_has_left_in_errno_does_not_matter(script):
    """A script, since a loop in C holds the GIL."""
    text = """
    import ctypes, errno, threading

    location = ctypes.CDLL(None).__errno_location
    location.restype = ctypes.POINTER(ctypes.c_int)
    loop = new_loop()

    def tell():
        told = threading.Event()
        for _ in range(300):  # often the loop sleeps, and must be woken
            location()[0] = errno.EINTR
            loop.call_soon_threadsafe(told.set)
            told.wait()
            told.clear()
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=tell)
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()
    loop.close()
    print("told")
    """
    assert script(text) == "told\n"
