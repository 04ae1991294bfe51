"""Each allocation of an operation fails, one after the other: MemoryError comes out, or somebody is told, and afterwards the
same loop does it again. C code that returns wrongly is a SystemError, or an assertion.
"""

import array
import asyncio
import contextlib
import gc
import importlib
import socket
import sys

import pytest

_testcapi = pytest.importorskip("_testcapi")
pytestmark = [
    pytest.mark.alone,  # an allocation of another thread may be the one that fails: pytest-xdist's ends the process
    pytest.mark.gil,
    pytest.mark.slow,
    pytest.mark.skipif(
        (3, 12) <= sys.version_info < (3, 14), reason="the interpreter itself crashes, in a repr() of asyncio"
    ),
]

QUIET = 12  # attempts without an exception, and it has no more allocations
MOST = 500  # of them
LEAKS = 5  # counts of which each is larger than the one before, and something stays each time
CASES = {}
clear_caches = getattr(sys, "_clear_internal_caches", None) or sys._clear_type_cache


def case(function):
    CASES[function.__name__] = function
    return function


@pytest.fixture
def loop(cloop):
    loop = cloop.Loop()
    # The call of stop() may be what failed.
    loop.set_exception_handler(lambda loop, context: loop.is_running() and loop.stop())
    asyncio.set_event_loop(loop)  # for primitives of Python 3.8
    yield loop
    asyncio.set_event_loop(None)
    loop.close()


def spin(loop, turns=3):
    for _ in range(turns):
        loop.call_soon(loop.stop)
        loop.run_forever()


def turn_of(loop):
    """An operation that runs one turn; what makes it end is there before."""
    loop.call_soon(loop.stop)
    return loop.run_forever


@contextlib.contextmanager
def no_memory(failing):
    """For the allocation of this number."""
    gc.disable()
    try:
        _testcapi.set_nomemory(failing, failing + 1)
        yield
    finally:
        _testcapi.remove_mem_hooks()
        gc.enable()


def pair():
    ends = socket.socketpair()
    for end in ends:
        end.setblocking(False)
    return ends


async def steps(count):
    for _ in range(count):
        await asyncio.sleep(0)
    return count


# What is done. Before its yield a case prepares, and it yields the operation; then it cleans up.


@case
def call_soon(loop):
    yield lambda: loop.call_soon(int, 1)


@case
def call_soon_in_a_context(loop):
    context = importlib.import_module("contextvars").copy_context()
    yield lambda: loop.call_soon(int, 1, context=context)


@case
def call_soon_threadsafe(loop):
    yield lambda: loop.call_soon_threadsafe(int, 1)


@case
def call_later(loop):
    yield lambda: loop.call_later(0, int, 1)


@case
def call_at(loop):
    yield lambda: loop.call_at(10**6, int, 1).cancel()


@case
def repr_of_a_handle(loop):
    handle = loop.call_later(1000, int, 1)
    yield lambda: repr(handle)
    handle.cancel()


@case
def ready(loop):
    for _ in range(20):
        loop.call_soon(int)
    task = loop.create_task(steps(1))
    list(loop._ready)  # imports a module, during which 3.11 itself returns NULL without an exception
    yield lambda: list(loop._ready)
    loop.run_until_complete(task)


@case
def what_is_watched(loop):
    ends = [end for _ in range(10) for end in pair()]
    for end in ends:
        loop.add_reader(end, int)
    yield loop._wanted
    for end in ends:
        loop.remove_reader(end)
        end.close()


def of_what_a_task_awaits(name, operation):
    def made(loop):
        future = loop.create_future()

        async def wait():
            await future

        task = loop.create_task(wait())
        spin(loop)
        yield lambda: operation(future)
        future.done() or future.set_result(None)
        loop.run_until_complete(task)

    CASES[name + "_of_what_a_task_awaits"] = made


of_what_a_task_awaits("second_callback", lambda future: future.add_done_callback(repr))
of_what_a_task_awaits("no_callback", lambda future: future.remove_done_callback(repr))
of_what_a_task_awaits("callbacks", lambda future: future._callbacks)


@case
def a_turn_of_callbacks(loop):
    for number in range(3):
        loop.call_soon(int, number)
        loop.call_later(0, int, number)
    yield turn_of(loop)


@case
def metrics(loop):
    yield lambda: loop.metrics()


@case
def open_loops(loop):
    others = [importlib.import_module("cloop").Loop() for _ in range(5)]
    yield importlib.import_module("cloop._cloop")._open_loops
    for other in others:
        other.close()


@case
def create_future(loop):
    yield loop.create_future


@case
def callbacks_of_a_future(loop):
    future = loop.create_future()

    def operation():
        for _ in range(3):
            future.add_done_callback(print)
        future.remove_done_callback(print)

    yield operation


@case
def result_of_a_future(loop):
    future = loop.create_future()
    for _ in range(3):
        future.add_done_callback(int.__class__)
    yield lambda: future.set_result(1)


@case
def exception_of_a_future(loop):
    future = loop.create_future()
    yield lambda: future.set_exception(ValueError)
    future.done() and future.exception()


@case
def cancelled_future(loop):
    future = loop.create_future()

    def operation():
        future.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            future.result()

    yield operation


@case
def repr_of_a_future(loop):
    future = loop.create_future()
    future.add_done_callback(print)
    yield lambda: repr(future)


@case
def create_task(loop):
    coro = steps(1)
    tasks = []
    yield lambda: tasks.append(loop.create_task(coro))
    spin(loop, 5)
    coro.close()


@case
def repr_of_a_task(loop):
    task = loop.create_task(steps(1))
    yield lambda: repr(task)
    loop.run_until_complete(task)


@case
def steps_of_tasks(loop):
    tasks = [loop.create_task(steps(2)) for _ in range(2)]
    yield turn_of(loop)
    spin(loop, 5)
    for task in tasks:
        task.done() and not task.cancelled() and task.exception()
        task._log_destroy_pending = False


@case
def a_task_that_awaits_a_future(loop):
    async def waits():
        return await future

    future = loop.create_future()
    task = loop.create_task(waits())
    yield turn_of(loop)
    future.done() or future.set_result(1)
    spin(loop, 5)
    task.done() and not task.cancelled() and task.exception()
    task._log_destroy_pending = False


@case
def a_task_that_is_cancelled(loop):
    task = loop.create_task(steps(5))
    spin(loop, 1)
    task.cancel()
    yield turn_of(loop)
    spin(loop, 5)
    task.done() and not task.cancelled() and task.exception()
    task._log_destroy_pending = False


@case
def readers_and_writers(loop):
    ours, theirs = pair()

    def operation():
        loop.add_reader(ours, print)
        loop.add_writer(ours, print)
        loop.remove_reader(ours)
        loop.remove_writer(ours)

    yield operation
    loop.remove_reader(ours)
    loop.remove_writer(ours)
    ours.close()
    theirs.close()


@case
def a_turn_with_readers(loop):
    ours, theirs = pair()
    loop.add_reader(ours, int)
    loop.add_writer(ours, int)
    theirs.send(b"x")
    yield turn_of(loop)
    loop.remove_reader(ours)
    loop.remove_writer(ours)
    ours.close()
    theirs.close()


def started(make, prepare=lambda peer: None):
    """The start of an operation of a socket."""
    ours, theirs = pair()
    prepare(theirs)
    coro = make(ours)
    yield lambda: suppressed(coro)
    coro.close()
    ours.close()
    theirs.close()


def suppressed(coro):
    with contextlib.suppress(StopIteration):
        coro.send(None)


@case
def sock_recv(loop):
    yield from started(lambda sock: loop.sock_recv(sock, 10))


@case
def sock_recv_of_what_is_there(loop):
    yield from started(lambda sock: loop.sock_recv(sock, 10), lambda peer: peer.send(b"x"))


@case
def sock_sendall(loop):
    yield from started(lambda sock: loop.sock_sendall(sock, bytes(10**7)))


@case
def sock_recv_that_goes_on(loop):
    ours, theirs = pair()
    task = loop.create_task(loop.sock_recv(ours, 10))
    spin(loop, 2)
    theirs.send(b"x")
    yield turn_of(loop)
    spin(loop, 5)
    task.cancel()
    spin(loop, 5)
    task.done() and not task.cancelled() and task.exception()
    task._log_destroy_pending = False
    ours.close()
    theirs.close()


def connected(loop, protocol=asyncio.Protocol):
    ours, theirs = pair()
    transport, _ = loop.run_until_complete(loop.create_connection(protocol, sock=ours))
    return transport, theirs


def transports(name, operate, prepare=lambda transport, peer: None, turn=False):
    def made(loop):
        transport, peer = connected(loop)
        prepare(transport, peer)
        yield turn_of(loop) if turn else lambda: operate(transport)
        transport.abort()
        spin(loop)
        peer.close()

    CASES["transport: " + name] = made


transports("write", lambda transport: transport.write(b"data"))
transports("much", lambda transport: transport.write(bytes(10**6)))
transports("bytearray", lambda transport: transport.write(bytearray(10**6)))
transports("writelines", lambda transport: transport.writelines([b"a", bytearray(b"b"), bytes(10**5)]))
transports("few lines", lambda transport: transport.writelines([b"a", b"b"]))
transports("more", lambda transport: transport.write(b"data"), lambda transport, peer: transport.write(bytes(10**6)))
transports("write_eof", lambda transport: transport.write_eof())
transports("close", lambda transport: transport.close())
transports("abort", lambda transport: transport.abort())
transports("repr", lambda transport: repr(transport))
transports("socket", lambda transport: repr(transport.get_extra_info("socket")))
transports("peername", lambda transport: transport.get_extra_info("peername"))
transports("limits", lambda transport: transport.set_write_buffer_limits(10, 5))
transports("limits are asked", lambda transport: transport.get_write_buffer_limits())
transports("protocol", lambda transport: transport.set_protocol(asyncio.Protocol()))
transports("pause", lambda transport: (transport.pause_reading(), transport.resume_reading()))
transports("data", None, lambda transport, peer: peer.send(b"data"), True)
transports("end", None, lambda transport, peer: peer.shutdown(socket.SHUT_WR), True)
transports("reset", None, lambda transport, peer: (transport.write(bytes(10**6)), peer.close()), True)
transports("goes on", None, lambda transport, peer: (transport.write(bytes(10**6)), peer.recv(1 << 19)), True)


@case
def feed_data(loop):
    reader = asyncio.StreamReader(loop=loop)
    yield lambda: reader.feed_data(b"line\n")


@case
def read_of_a_stream(loop):
    reader = asyncio.StreamReader(loop=loop)
    reader.feed_data(b"line\nmore")

    def operation():
        for coro in reader.readline(), reader.read(2), reader.readexactly(1):
            try:
                coro.send(None)
            except StopIteration:
                pass
            finally:
                coro.close()

    yield operation


@case
def read_of_a_stream_that_waits(loop):
    reader = asyncio.StreamReader(loop=loop)
    coro = reader.readline()
    yield lambda: suppressed(coro)
    coro.close()


# The primitives that are accelerated.


def within(loop, function):
    """An operation that a task of the loop runs, which has begun."""

    async def main():
        await asyncio.sleep(0)
        await function()

    task = loop.create_task(main())
    spin(loop, 1)
    yield turn_of(loop)
    spin(loop, 6)
    task.cancel()
    spin(loop, 3)
    task.done() and not task.cancelled() and task.exception()
    task._log_destroy_pending = False


def primitives(name, make):
    def made(loop):
        cloop = importlib.import_module("cloop")
        cloop.accelerate()
        try:
            yield from within(loop, make(loop))
        finally:
            cloop.accelerate(False)

    CASES["accelerated: " + name] = made


def of_locks(loop):
    lock = asyncio.Lock()

    async def operation():
        async with lock:
            waiter = loop.create_task(lock.acquire())
            await asyncio.sleep(0)
        await waiter
        lock.release()

    return operation


def of_events(loop):
    event = asyncio.Event()

    async def operation():
        loop.call_soon(event.set)
        await event.wait()

    return operation


def of_queues(loop):
    queue = asyncio.Queue()

    async def operation():
        loop.call_soon(queue.put_nowait, 1)
        await queue.get()
        queue.task_done()
        await queue.join()

    return operation


def of_conditions(loop):
    condition = asyncio.Condition()

    async def tell():
        async with condition:
            condition.notify_all()

    async def operation():
        async with condition:
            loop.create_task(tell())
            await condition.wait()

    return operation


def of_semaphores(loop):
    semaphore = asyncio.Semaphore(1)

    async def operation():
        async with semaphore:
            loop.call_soon(semaphore.release)
            await semaphore.acquire()

    return operation


primitives("lock", of_locks)
primitives("event", of_events)
primitives("queue", of_queues)
primitives("condition", of_conditions)
primitives("semaphore", of_semaphores)
primitives("sleep", lambda loop: lambda: asyncio.sleep(0, 1))
primitives("timer", lambda loop: lambda: asyncio.sleep(1e-6))
primitives("gather", lambda loop: lambda: asyncio.gather(steps(0), steps(1), loop.create_future()))
primitives("wait", lambda loop: lambda: asyncio.wait([loop.create_future()], timeout=0.0001))
primitives("wait_for", lambda loop: lambda: asyncio.wait_for(loop.create_future(), 0.0001))
primitives("shield", lambda loop: lambda: asyncio.shield(steps(1)))


def attempt(loop, name, failing):
    """Does it while the allocation of this number fails; whether that came out."""
    made = CASES[name](loop)
    operation = next(made)
    refused = False
    with no_memory(failing):
        try:
            operation()
        except MemoryError:
            refused = True
    for _ in made:
        pass
    spin(loop)
    return refused


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(CASES))
def test_no_memory(loop, name):
    quiet = 0
    for number in range(MOST):
        quiet = 0 if attempt(loop, name, number) else quiet + 1
        if quiet == QUIET:
            break
    else:
        pytest.fail("it has more allocations")
    loop.run_until_complete(steps(3))


def blocks():
    gc.collect()
    clear_caches()
    return sys.getallocatedblocks()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(CASES))
def test_no_memory_leaves_nothing(loop, name):
    """Whatever fails, what was taken before is given back."""
    quiet, counts, leaks = 0, array.array("q", [0] * LEAKS), []
    gc.freeze()  # quicker
    try:
        for number in range(MOST):
            quiet = 0 if attempt(loop, name, number) else quiet + 1
            if quiet == QUIET:
                break
            for count in range(LEAKS):
                counts[count] = blocks()
                if count and counts[count] <= counts[count - 1]:
                    break
                attempt(loop, name, number)
            else:
                leaks.append((number, list(counts)))
    finally:
        gc.unfreeze()
    assert not leaks


@pytest.mark.parametrize("failing", range(1, 6))
def test_timers_that_are_due_at_once_run(cloop, failing):
    """The ring grows for them; a timer for which there is no room stays where it is."""
    module = importlib.import_module("cloop._cloop")
    if not hasattr(module, "_stress"):
        pytest.skip("needs a stress build")
    loop, ran, refused = cloop.Loop(), [], 0
    for number in range(1000):
        loop.call_at(0, ran.append, number)
    loop.call_at(1, loop.stop)
    module._stress(nomem=failing)
    try:
        loop.run_forever()
    except MemoryError:
        refused = 1
    finally:
        module._stress()
    spin(loop)
    loop.close()
    assert sorted(ran) == list(range(1000)) and refused >= (failing == 1)


@pytest.mark.parametrize("failing", range(1, 6))
def test_timers_that_are_made_at_once(cloop, failing):
    """One that is refused does not run; all others do."""
    module = importlib.import_module("cloop._cloop")
    if not hasattr(module, "_stress"):
        pytest.skip("needs a stress build")
    loop, ran, made = cloop.Loop(), [], []

    def make():
        module._stress(nomem=failing)
        for number in range(1000):
            try:
                loop.call_later(0, ran.append, number)
            except MemoryError:
                continue
            made.append(number)
        module._stress()

    loop.call_soon(make)
    loop.call_later(0.001, lambda: loop.call_later(0, loop.stop))
    loop.run_forever()
    loop.close()
    assert sorted(ran) == made and len(made) in (999, 1000)


def test_what_call_soon_accepted_runs(loop):
    """Handles of one turn share a context until they run, and copying it may fail."""
    contexts = importlib.import_module("contextvars")
    ran = bytearray(4)

    def run(index):
        ran[index] += 1

    kept = []  # else there are freed contexts, which need no memory
    for number in range(20):
        kept += [contexts.copy_context() for _ in range(300)]
        for index in range(len(ran)):
            loop.call_soon(run, index)
        operation = turn_of(loop)
        with no_memory(number):
            try:
                operation()
            except MemoryError:
                pass
        spin(loop)
        assert ran == bytes([number + 1] * len(ran))
