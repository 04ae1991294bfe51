"""python -m cloop restores what asyncio had in older Pythons, as it was there.

A Python that still has an API runs the same programs by itself, and shows that they are right. A comment `# gone:
NAME` marks where the restored API must warn; it must not warn anywhere else.
"""

import json
import os
import re
import sys

import pytest

pytestmark = pytest.mark.slow

# The API, the version that removed it, the program that uses it, and its result with --no-compat.
PROGRAMS = {}


def program(name, gone_since, error, text, **environment):
    PROGRAMS[name] = gone_since, error, text, environment


program(
    "exceptions",
    (3, 8),
    "AttributeError: module 'asyncio.base_futures' has no attribute 'InvalidStateError'",
    """
    import asyncio
    assert asyncio.base_futures.InvalidStateError is asyncio.InvalidStateError  # gone: asyncio.base_futures.InvalidStateError
    assert asyncio.base_futures.InvalidStateError is asyncio.InvalidStateError
    from asyncio.futures import CancelledError  # gone: asyncio.futures.CancelledError
    assert CancelledError is asyncio.CancelledError
    assert asyncio.base_futures.TimeoutError is asyncio.TimeoutError  # gone: asyncio.base_futures.TimeoutError
    try:
        asyncio.base_futures.nothing
    except AttributeError as error:
        assert str(error) == "module 'asyncio.base_futures' has no attribute 'nothing'"
    else:
        assert False
    """,
)

program(
    "Task.all_tasks and current_task",
    (3, 9),
    "AttributeError: type object '_asyncio.Task' has no attribute 'all_tasks'",
    """
    import asyncio

    async def nothing():
        pass

    async def main():
        done, pending = (asyncio.ensure_future(coro) for coro in (nothing(), asyncio.sleep(20)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        me = asyncio.current_task()
        assert done.done() and not pending.done()
        assert asyncio.Task.all_tasks() == {me, done, pending}  # gone: asyncio.Task.all_tasks()
        assert asyncio.Task.all_tasks(asyncio.get_event_loop()) == {me, done, pending}
        assert asyncio.Task.all_tasks(loop=other) == set()
        assert asyncio.Task.current_task() is me  # gone: asyncio.Task.current_task()
        assert asyncio.Task.current_task(loop=None) is me
        assert asyncio.Task.current_task(other) is None
        assert type(me).current_task() is Mine.current_task() is asyncio.tasks._PyTask.current_task() is me
        pending.cancel()
        del done

    class Mine(asyncio.Task):
        pass

    other = asyncio.new_event_loop()
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.run_until_complete(main())
    assert asyncio.Task.current_task() is None
    assert all(task.done() for task in asyncio.Task.all_tasks())
    loop.close()
    other.close()
    """,
)

program(
    "with (await lock)",
    (3, 9),
    "TypeError: (object Lock can't be used in 'await' expression|'Lock' object can't be awaited)",
    """
    import asyncio, types

    async def main():
        for kind in (asyncio.Lock, asyncio.Condition, asyncio.Semaphore, asyncio.BoundedSemaphore):
            lock = kind()
            with (await lock) as value:  # gone: with (await lock)
                assert value is None and lock.locked()
            assert not lock.locked()
            try:
                with await lock:
                    raise KeyError
            except KeyError:
                pass
            assert not lock.locked()
            await by_generator(lock)
            async with lock:
                assert lock.locked()
        await wait_in_turn(asyncio.Lock())
        held = await lock
        with held:
            pass
        try:
            with held:
                pass
        except AttributeError:
            pass  # of one use
        else:
            assert False

    @types.coroutine
    def by_generator(lock):
        with (yield from lock):  # gone: with (yield from lock)
            assert lock.locked()
        assert not lock.locked()

    async def wait_in_turn(lock):
        seen = []

        async def use(number):
            with await lock:
                seen.append(number)
                await asyncio.sleep(0)
                seen.append(number)

        await asyncio.gather(*map(use, range(4)))
        assert seen == [0, 0, 1, 1, 2, 2, 3, 3]

    asyncio.run(main())
    """,
)

program(
    "loop of classes",
    (3, 10),
    "TypeError: .*loop",
    """
    import asyncio

    class Mine(asyncio.Lock):
        def __init__(self, *, loop=None):
            super().__init__(loop=loop)  # gone: the loop parameter of asyncio.Lock()

    async def use():
        assert not event.is_set()
        await asyncio.gather(*map(with_lock, [lock, semaphore, bounded, condition, mine]))
        asyncio.get_event_loop().call_soon(event.set)
        assert await event.wait()
        for queue in queues:
            asyncio.get_event_loop().call_soon(queue.put_nowait, 1)
            assert await queue.get() == 1
            queue.task_done()
            await queue.join()

    async def with_lock(lock):
        for _ in range(2):
            async with lock:
                await asyncio.sleep(0)

    async def with_lock_taken(lock):
        async with lock:
            await asyncio.wait_for(lock.acquire(), 10)

    async def raises(kind, awaitable):
        try:
            await awaitable
        except kind:
            return
        assert False

    loop, other = asyncio.new_event_loop(), asyncio.new_event_loop()
    mine = Mine(loop=loop)
    lock = asyncio.Lock(loop=loop)
    event = asyncio.Event(loop=loop)  # gone: the loop parameter of asyncio.Event()
    condition = asyncio.Condition(loop=loop)  # gone: the loop parameter of asyncio.Condition()
    semaphore = asyncio.Semaphore(1, loop=loop)  # gone: the loop parameter of asyncio.Semaphore()
    bounded = asyncio.BoundedSemaphore(value=1, loop=loop)  # gone: the loop parameter of asyncio.BoundedSemaphore()
    queues = [
        asyncio.Queue(loop=loop),  # gone: the loop parameter of asyncio.Queue()
        asyncio.PriorityQueue(1, loop=loop),
        asyncio.LifoQueue(maxsize=1, loop=loop),
    ]
    assert queues[1].maxsize == queues[2].maxsize == 1
    loop.run_until_complete(use())

    other.run_until_complete(raises(RuntimeError, with_lock_taken(lock)))
    other.run_until_complete(raises(RuntimeError, with_lock_taken(asyncio.Condition(loop=loop))))
    asyncio.Condition(asyncio.Lock(loop=loop), loop=loop)
    try:
        asyncio.Condition(asyncio.Lock(loop=other), loop=loop)
    except ValueError as error:
        assert str(error) == "loop argument must agree with lock"
    else:
        assert False

    async def unbound():
        await with_lock(asyncio.Lock(loop=None))

    asyncio.run(unbound())
    loop.close()
    other.close()
    """,
)

program(
    "loop of functions",
    (3, 10),
    "TypeError: .*'loop'",
    """
    import asyncio, gc

    async def value(value):
        await asyncio.sleep(0, loop=loop)  # gone: the loop parameter of asyncio.sleep()
        return value

    async def raises(kind, awaitable):
        try:
            await awaitable
        except kind:
            return
        assert False

    async def waits():
        done, pending = await asyncio.wait({asyncio.ensure_future(value(1))}, loop=loop, timeout=10)  # gone: the loop parameter of asyncio.wait()
        assert [task.result() for task in done] == [1] and not pending
        assert await asyncio.wait_for(value(2), 10, loop=loop) == 2  # gone: the loop parameter of asyncio.wait_for()
        assert await asyncio.wait_for(value(2), timeout=None, loop=loop) == 2
        await raises(asyncio.TimeoutError, asyncio.wait_for(asyncio.sleep(20, loop=None), 0.01, loop=loop))
        await raises(ValueError, asyncio.wait_for(other.create_future(), 10, loop=loop))
        await raises(ValueError, asyncio.wait([other.create_future()], loop=loop))
        await raises(RuntimeError, asyncio.sleep(0.01, loop=other))
        return await asyncio.sleep(0.01, result=3, loop=loop)

    def by_another(loop):  # which is not the current one, nor running yet
        run = loop.run_until_complete
        assert run(asyncio.gather(value(1), value(2), loop=loop)) == [1, 2]  # gone: the loop parameter of asyncio.gather()
        twice = value(3)
        assert run(asyncio.gather(twice, twice, loop=loop)) == [3, 3]
        assert run(asyncio.gather(loop=loop)) == []
        assert run(asyncio.gather(run_error(), loop=loop, return_exceptions=True))[0].args == ("on purpose",)
        assert run(asyncio.shield(value(4), loop=loop)) == 4  # gone: the loop parameter of asyncio.shield()
        seen = asyncio.as_completed([value(5), value(6)], loop=loop, timeout=10)  # gone: the loop parameter of asyncio.as_completed()
        assert {run(one) for one in seen} == {5, 6}
        assert list(asyncio.as_completed([], loop=loop)) == []
        for call in (asyncio.gather, asyncio.shield):
            try:
                call(other.create_future(), loop=loop)
            except ValueError:
                continue
            assert False

    async def run_error():
        raise KeyError("on purpose")

    loop, other, problems = asyncio.new_event_loop(), asyncio.new_event_loop(), []
    loop.set_exception_handler(lambda loop, context: problems.append(context))
    assert loop.run_until_complete(waits()) == 3
    by_another(loop)
    asyncio.gather(run_error(), loop=loop)  # its task may be forgotten
    loop.close()
    other.close()
    gc.collect()
    assert problems == []
    """,
)

program(
    "loop of streams and subprocesses",
    (3, 10),
    "TypeError: .*'loop'",
    """
    import asyncio, os, subprocess, sys, tempfile

    async def echo(reader, writer):
        writer.write(await reader.readline())
        writer.close()

    async def main(loop):
        server = await asyncio.start_server(echo, "127.0.0.1", 0, loop=loop)  # gone: the loop parameter of asyncio.start_server()
        port = server.sockets[0].getsockname()[1]
        await talk(await asyncio.open_connection("127.0.0.1", port, loop=loop))  # gone: the loop parameter of asyncio.open_connection()
        server.close()
        path = os.path.join(folder, "socket")
        server = await asyncio.start_unix_server(echo, path, loop=loop)  # gone: the loop parameter of asyncio.start_unix_server()
        await talk(await asyncio.open_unix_connection(path, loop=loop))  # gone: the loop parameter of asyncio.open_unix_connection()
        server.close()
        asyncio.get_child_watcher().attach_loop(loop) if sys.version_info < (3, 12) else None
        process = await asyncio.create_subprocess_exec("echo", "one", stdout=subprocess.PIPE, loop=loop)  # gone: the loop parameter of asyncio.create_subprocess_exec()
        assert (await process.communicate())[0] == b"one\\n"
        process = await asyncio.create_subprocess_shell("echo two", stdout=subprocess.PIPE, loop=loop)  # gone: the loop parameter of asyncio.create_subprocess_shell()
        assert (await process.communicate())[0] == b"two\\n"

    async def talk(streams):
        reader, writer = streams
        writer.write(b"line\\n")
        assert await reader.read() == b"line\\n"
        writer.close()

    loop = asyncio.new_event_loop()
    with tempfile.TemporaryDirectory() as folder:
        loop.run_until_complete(main(loop))
    loop.close()
    """,
)

program(
    "asyncio.coroutine",
    (3, 11),
    "AttributeError: module 'asyncio' has no attribute 'coroutine'",
    """
    import asyncio, inspect, traceback

    @asyncio.coroutine  # gone: asyncio.coroutine()
    def generator(value):
        "Its text."
        yield
        result = yield from asyncio.sleep(0, value)
        return (yield from asyncio.coroutine(lambda: result)())

    @asyncio.coroutine
    def plain():
        return 1

    @asyncio.coroutine
    def returns_coroutine():
        return generator(2)

    @asyncio.coroutine
    def returns_future():
        return asyncio.get_event_loop().run_in_executor(None, int, "3")

    @asyncio.coroutine
    def returns_awaitable():
        return Awaitable()

    class Awaitable:
        def __await__(self):
            return generator(4).__iter__()

        @asyncio.coroutine
        def method(self, value=5):
            yield
            return value

    async def modern():
        return await generator(6)

    assert asyncio.coroutine(modern) is modern
    assert generator.__name__ == "generator" and generator.__doc__ == "Its text."
    for function in (generator, plain, Awaitable().method):
        assert asyncio.iscoroutinefunction(function) and not inspect.iscoroutinefunction(function)
    unused = generator(0)
    assert asyncio.iscoroutine(unused) and inspect.isgenerator(unused) and inspect.isawaitable(unused)
    unused.close()

    @asyncio.coroutine
    def fails():
        yield from generator(0)
        raise KeyError("on purpose")

    @asyncio.coroutine
    def is_cancelled(seen):
        try:
            yield from asyncio.sleep(20)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async def main():
        assert [await coro() for coro in (plain, returns_coroutine, returns_future, returns_awaitable)] == [1, 2, 3, 4]
        assert await Awaitable().method() == 5
        assert await asyncio.wait_for(generator(7), 10) == 7
        assert await asyncio.gather(generator(8), asyncio.ensure_future(generator(9)), plain()) == [8, 9, 1]
        task = asyncio.get_event_loop().create_task(generator(10))
        assert "coro=<generator() running at " in repr(task) and task.get_stack()
        assert await task == 10
        try:
            await fails()
        except KeyError as error:
            assert traceback.extract_tb(error.__traceback__)[-1].name == "fails"
        seen = []
        task = asyncio.ensure_future(is_cancelled(seen))
        await asyncio.sleep(0)
        task.cancel()
        assert await asyncio.gather(task, return_exceptions=True) and task.cancelled() and seen == ["cancelled"]
        return await modern()

    assert asyncio.run(main()) == 6
    assert asyncio.run(generator(11)) == 11
    loop = asyncio.new_event_loop()
    assert loop.run_until_complete(generator(12)) == 12
    loop.close()
    names = {}
    exec("from asyncio import *", names)
    assert names["coroutine"] is asyncio.coroutine is asyncio.coroutines.coroutine
    """,
)

program(
    "asyncio.coroutine in debug mode",
    (3, 11),
    "AttributeError: module 'asyncio' has no attribute 'coroutine'",
    """
    import asyncio, io, logging, sys
    log = io.StringIO()
    logging.basicConfig(stream=log)

    @asyncio.coroutine  # gone: asyncio.coroutine()
    def used():
        yield
        return 1

    @asyncio.coroutine
    def forgotten():
        yield

    assert asyncio.run(used()) == 1
    created = forgotten()
    assert asyncio.iscoroutine(created) and created.__name__ == "forgotten"
    line = sys._getframe().f_lineno - 2
    assert repr(created).startswith("<CoroWrapper forgotten() running at "), repr(created)
    assert repr(created).endswith(", created at %s:%d>" % (__file__, line)), repr(created)
    assert log.getvalue() == ""
    del created
    first, second, *rest = log.getvalue().splitlines()
    assert first.startswith("ERROR:asyncio:<CoroWrapper forgotten()"), first
    assert first.endswith("was never yielded from") and second.startswith("Coroutine object created at")
    assert rest[-1].strip() == "created = forgotten()", rest

    async def main():
        try:
            yielded = used()
            next(yielded)
            yielded.throw(KeyError("on purpose"))
        except KeyError:
            return await used()

    assert asyncio.run(main()) == 1
    assert log.getvalue().count("never yielded") == 1
    """,
    PYTHONASYNCIODEBUG="1",
)

program(
    "wait() of coroutines",
    (3, 11),
    "TypeError: Passing coroutines is forbidden, use tasks explicitly",
    """
    import asyncio

    async def value(value):
        await asyncio.sleep(0)
        return value

    async def main():
        done, pending = await asyncio.wait([value(1), value(2)])  # gone: giving coroutines to asyncio.wait()
        assert {task.result() for task in done} == {1, 2} and not pending
        assert all(isinstance(task, asyncio.Task) for task in done)
        task = asyncio.ensure_future(value(3))
        done, pending = await asyncio.wait({task, asyncio.sleep(20)}, return_when=asyncio.FIRST_COMPLETED)
        assert done == {task} and len(pending) == 1
        pending.pop().cancel()
        done, pending = await asyncio.wait(map(value, range(3)), timeout=10)
        assert len(done) == 3 and not pending
        done, pending = await asyncio.wait([asyncio.sleep(20)], timeout=0.01)
        assert not done and len(pending) == 1
        await asyncio.gather(*(task.cancel() and task for task in pending), return_exceptions=True)
        coro = value(0)
        await fails(TypeError, coro)
        coro.close()
        await fails(TypeError, asyncio.ensure_future(value(0)))
        await fails(ValueError, [])
        await asyncio.sleep(0.01)
        coro = value(0)
        await fails(ValueError, [coro], return_when="never")
        assert len(asyncio.all_tasks()) == 1
        coro.close()
        await fails(TypeError, [42])

    async def fails(kind, *args, **kwargs):
        try:
            await asyncio.wait(*args, **kwargs)
        except kind:
            return
        assert False

    assert asyncio.iscoroutinefunction(asyncio.wait)
    asyncio.run(main())
    """,
)

program(
    "wait() of another loop's futures",
    (3, 11),
    None,  # waits for ever
    """
    import asyncio
    other = asyncio.new_event_loop()
    future = other.create_future()
    try:
        asyncio.run(asyncio.wait([future], timeout=10))
    except ValueError as error:
        assert "different loop" in str(error), error
    else:
        assert False
    other.close()
    """,
)

program(
    "generators as coroutines",
    (3, 12),
    "AssertionError",
    """
    import asyncio, types

    @types.coroutine
    def generator():
        yield
        return 1

    unused = generator()
    assert asyncio.iscoroutine(unused)  # gone: a generator of types.coroutine() where asyncio wants a coroutine
    unused.close()
    assert not asyncio.iscoroutine(iter([])) and not asyncio.iscoroutine(generator)
    loop = asyncio.new_event_loop()
    assert loop.run_until_complete(loop.create_task(generator())) == 1
    loop.close()
    assert asyncio.run(generator()) == 1
    """,
)

program(
    "get_event_loop() makes a loop",
    (3, 14),
    "RuntimeError: There is no current event loop in thread 'MainThread'",
    """
    import asyncio, threading, warnings
    warnings.filterwarnings("ignore", "There is no current event loop|.*_policy|.*Policy'")

    async def value():
        return 1

    def fails():
        try:
            asyncio.get_event_loop()
        except RuntimeError as error:
            return str(error)
        assert False

    loop = asyncio.get_event_loop()  # gone: asyncio.get_event_loop() making a loop
    assert asyncio.get_event_loop() is asyncio.get_event_loop_policy().get_event_loop() is loop
    assert loop.run_until_complete(value()) == 1
    assert loop.run_until_complete(asyncio.ensure_future(value())) == 1
    assert asyncio.Future().get_loop() is loop

    said = []
    thread = threading.Thread(target=lambda: said.append(fails()), name="other")
    thread.start()
    thread.join()
    assert said == ["There is no current event loop in thread 'other'."]

    loop.close()
    assert asyncio.get_event_loop() is loop
    asyncio.set_event_loop(None)
    assert fails() == "There is no current event loop in thread 'MainThread'."

    class Policy(type(asyncio.get_event_loop_policy())):
        pass

    asyncio.set_event_loop_policy(Policy())
    assert asyncio.run(value()) == 1
    fails()
    asyncio.set_event_loop_policy(Policy())
    task = asyncio.ensure_future(value())
    assert asyncio.get_event_loop().run_until_complete(task) == 1
    asyncio.get_event_loop().close()
    """,
)

program(
    "fork by default",
    (3, 14),
    "AssertionError",
    """
    import multiprocessing, os

    def child(queue):
        queue.put((os.getppid(), value))

    value = 1
    assert multiprocessing.get_start_method(allow_none=True) is None
    assert multiprocessing.get_all_start_methods()[0] == "fork"  # gone: fork as the default start method of processes
    queue = multiprocessing.SimpleQueue()
    value = 2
    process = multiprocessing.Process(target=child, args=(queue,))
    process.start()
    assert queue.get() == (os.getpid(), 2)
    process.join()
    assert multiprocessing.get_start_method() == "fork"
    assert multiprocessing.get_context().get_start_method() == "fork"
    assert multiprocessing.get_context("spawn").get_start_method() == "spawn"
    assert isinstance(multiprocessing.context._default_context, multiprocessing.context.DefaultContext)
    multiprocessing.set_start_method("spawn", force=True)
    assert multiprocessing.get_start_method() == "spawn"
    """,
)

WARNING = re.compile(
    r"^(.*):(\d+): DeprecationWarning: (.+) is gone since Python ([\d.]+), and is here only because "
    r"of python -m cloop; use .+$"
)


def warned(process):
    """File, line, API and version of each warning, in order."""
    found = [WARNING.match(line) for line in process.stderr.splitlines()]
    return [(os.path.basename(match[1]), int(match[2]), match[3], match[4]) for match in found if match]


def expected_warnings(text):
    """Where the comments say it warns, as in `warned`, without versions."""
    marked = [(number, line.partition("# gone: ")[2]) for number, line in enumerate(text.splitlines(), 1)]
    return sorted(("program.py", number, api) for number, api in marked if api)


@pytest.fixture
def main(cloop, python):
    """Runs `python -W always -m cloop` with the given arguments."""
    return lambda *args, **options: python("-W", "always", "-m", "cloop", *args, **options)


GONE = [name for name in PROGRAMS if sys.version_info >= PROGRAMS[name][0]]


@pytest.fixture
def prepare(python, write_script, monkeypatch):
    """Writes the program of that name; returns its path."""

    def prepare(name):
        for variable, value in PROGRAMS[name][3].items():  # after `python`, which unsets some
            monkeypatch.setenv(variable, value)
        return write_script(PROGRAMS[name][2], "program.py")

    return prepare


@pytest.mark.parametrize("name", [name for name in PROGRAMS if name not in GONE])
def test_works_by_itself_where_it_is_not_gone(name, python, prepare):
    process = python("-W", "ignore", prepare(name))
    assert process.returncode == 0, process.stderr


@pytest.mark.parametrize("name", PROGRAMS)
def test_works_and_warns_if_it_is_gone(name, main, prepare):
    path = prepare(name)
    process = main(path)
    assert process.returncode == 0, process.stderr
    expected = expected_warnings(path.read_text()) if name in GONE else []
    assert sorted(warning[:3] for warning in warned(process)) == expected, process.stderr
    assert {warning[3] for warning in warned(process)} <= {"%d.%d" % PROGRAMS[name][0]}


@pytest.mark.parametrize("name", [name for name in GONE if PROGRAMS[name][1]])
def test_is_gone_without_compat(name, cloop, python, prepare):
    process = python("-m", "cloop", "--no-compat", prepare(name))
    assert process.returncode == 1
    assert re.search("^" + PROGRAMS[name][1], process.stderr, re.MULTILINE), process.stderr
    assert "is gone since" not in process.stderr


# Warnings

USES = "import asyncio\nasyncio.base_futures.TimeoutError\n"


def test_warning_is_shown_to_the_program_by_default(cloop, python):
    process = python(
        "-m", "cloop", "-c", USES + "asyncio.base_futures.TimeoutError\nasyncio.base_futures.CancelledError"
    )
    assert process.returncode == 0
    assert [warning[1:3] for warning in warned(process)] == [
        (2, "asyncio.base_futures.TimeoutError"),
        (4, "asyncio.base_futures.CancelledError"),
    ]


def test_use_by_a_library_does_not_hide_that_by_the_program(cloop, python, write_script):
    write_script(USES, "library.py")
    process = python("-m", "cloop", "-c", "import library\n" + USES)
    assert [warning[:2] for warning in warned(process)] == [("<string>", 3)]


def test_warning_can_be_an_error_each_time(cloop, python):
    text = "import asyncio\nfor _ in 'ab':\n    try:\n        asyncio.base_futures.TimeoutError\n    except DeprecationWarning:\n        print('error')"
    process = python("-W", "error", "-m", "cloop", "-c", text)
    assert (process.stdout, process.stderr) == ("error\nerror\n", "")


# What others see


def test_importing_and_running_leave_asyncio_alone(cloop, python):
    text = """if True:
        import asyncio, sys, cloop
        before = {name: dict(vars(sys.modules[name])) for name in list(sys.modules) if name.startswith("asyncio")}
        classes = [dict(vars(cls)) for cls in (asyncio.Lock, asyncio.Queue, asyncio.Task)]
        async def main():
            await asyncio.sleep(0)
        cloop.run(main())
        assert "cloop._compat" not in sys.modules
        assert [dict(vars(cls)) for cls in (asyncio.Lock, asyncio.Queue, asyncio.Task)] == classes
        for name, names in before.items():
            for key, value in names.items():
                assert vars(sys.modules[name])[key] is value or key.startswith("_"), key
    """
    process = python("-c", text)
    assert process.returncode == 0, process.stderr
    process = python("-m", "cloop", "--no-compat", "-c", "import sys; print('cloop._compat' in sys.modules)")
    assert process.stdout == "False\n", process.stderr


LOOK = """
import asyncio, inspect, json, pickle, re
seen = {}
for name in asyncio.__all__:
    value = getattr(asyncio, name)
    seen[name] = [getattr(value, key, None) for key in ("__name__", "__qualname__", "__module__", "__doc__")]
    seen[name].append(inspect.iscoroutinefunction(value))
    if callable(value):
        try:
            seen[name].append(re.sub("0x[0-9a-f]+", "0x", str(inspect.signature(value))))
        except ValueError:
            pass
    try:
        seen[name].append(pickle.loads(pickle.dumps(value)) is value)
    except (pickle.PicklingError, AttributeError):
        pass
print(json.dumps(seen))
"""


def test_a_library_that_looks_sees_this_python(cloop, python):
    """anyio decides by signatures what to call, and scans modules; only the restored names are new."""
    theirs, ours = python("-W", "ignore", "-c", LOOK), python("-W", "ignore", "-m", "cloop", "-c", LOOK)
    expected, seen = json.loads(theirs.stdout), json.loads(ours.stdout)
    if sys.version_info >= (3, 11):
        assert "coroutine" not in expected and seen.pop("coroutine")[:3] == [
            "coroutine",
            "coroutine",
            "asyncio.coroutines",
        ]
    assert seen == expected
    assert "is gone since" not in ours.stderr


def test_looking_at_everything_warns_of_nothing(main):
    text = "import asyncio, inspect, pydoc\nfor value in [asyncio, asyncio.Task, asyncio.Lock, asyncio.Queue]:\n    inspect.getmembers(value)\npydoc.render_doc(asyncio.Task)"
    process = main("-c", text)
    assert process.returncode == 0 and warned(process) == [], process.stderr


@pytest.mark.skipif(sys.version_info < (3, 12), reason="generators are coroutines")
def test_plain_generators_are_none(main):
    """wait() accepts iterables."""
    text = """if True:
        import asyncio, types
        async def main():
            await types.coroutine(lambda: (yield))()
            assert asyncio.iscoroutine(types.coroutine(lambda: (yield))())
            tasks = [asyncio.create_task(asyncio.sleep(0)) for _ in range(3)]
            done, pending = await asyncio.wait(task for task in tasks)
            assert done == set(tasks)
        asyncio.run(main())
    """
    process = main("-c", text)
    assert process.returncode == 0, process.stderr


@pytest.mark.skipif(sys.version_info < (3, 9), reason="not gone")
def test_methods_are_found_by_those_who_had_looked_before(main):
    """A class caches which names it does not have."""
    text = """if True:
        import asyncio, sys
        assert "cloop._compat" not in sys.modules
        assert not any(hasattr(asyncio.Task, "all_tasks") for _ in range(100))
        from cloop import _compat
        _compat.restore()
        assert asyncio.Task.all_tasks.__name__ == "all_tasks"
        async def main():
            return asyncio.current_task().all_tasks() == {asyncio.current_task()}
        assert asyncio.run(main())
    """
    process = main("--no-compat", "-c", text)
    assert process.returncode == 0, process.stderr


# Ways to start a program


@pytest.mark.parametrize("compat", [(), ("--no-compat",)], ids=["compat", "no-compat"])
def test_in_each_way_to_name_a_program(main, write_script, compat):
    text = "import asyncio, sys; print(sys.argv[1:], hasattr(asyncio.base_futures, 'TimeoutError'))"
    write_script(text, "some_module.py")
    for way in (["-c", text], ["-m", "some_module"], [write_script(text, "program.py")]):
        process = main(*compat, *way, "--no-compat")
        assert process.stdout == "['--no-compat'] %s\n" % (not compat), process.stderr


def test_option_alone_is_not_enough(main):
    process = main("--no-compat")
    assert process.returncode == 2 and "no program given" in process.stderr
