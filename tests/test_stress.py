"""What a stress build does to itself on demand: csrc/base/stress.h."""

import asyncio
import ctypes
import gc
import importlib
import os

import pytest


@pytest.fixture
def stress(cloop):
    """Gives orders; they end with the test."""
    module = importlib.import_module("cloop._cloop")
    if not hasattr(module, "_stress"):
        pytest.skip("needs a stress build")
    yield module._stress
    module._stress()


async def answer(reader, writer):
    while True:
        line = await reader.readline()
        if not line:
            break
        writer.write(line)
        await writer.drain()
    writer.close()


async def converse(lines):
    """What a server that sends each line back has sent back."""
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.writelines(lines)
    writer.write_eof()
    back = await reader.read()
    writer.close()
    server.close()
    await asyncio.sleep(0)
    return back


LINES = [b"%d\n" % number * 3 for number in range(40)]


@pytest.mark.parametrize(
    "orders",
    [{"send": 1}, {"receive": 1}, {"send": 1, "receive": 1}, {"collect": 1}],
    ids=lambda orders: "-".join(orders),
)
def test_nothing_is_lost(run, stress, orders):
    stress(**orders)
    assert run(converse(LINES)) == b"".join(LINES)


def test_a_collection_is_made_at_every_nth_allocation(loop, cloop, stress):
    seen = []
    gc.callbacks.append(lambda phase, info: seen.append(info["generation"]) if phase == "stop" else None)
    try:
        made = cloop.new_event_loop()
        stress(collect=5)
        handles = [made.call_soon(print) for _ in range(20)]
        count = stress()
        made.close()
    finally:
        gc.callbacks.pop()
    assert len(handles) == 20 and count >= 20
    assert len(handles) // 5 <= len(seen) <= count // 5 + 3  # some allocations are of no object that is tracked


def test_one_allocation_fails_and_the_next_does_not(cloop, stress):
    loop = cloop.new_event_loop()
    handles = []
    try:
        stress(nomem=3)
        with pytest.raises(MemoryError):
            for _ in range(3):
                handles.append(loop.call_soon(print, 1, 2, 3, 4, 5))
        assert stress() == 3
        stress(nomem=1, lasting=4)
        for _ in range(4):
            with pytest.raises(MemoryError):
                loop.call_soon(print)
        handles.append(loop.call_soon(print))
    finally:
        loop.close()


def test_no_descriptor_stays_without_its_number(cloop, stress):
    pidfd_open = importlib.import_module("cloop._cloop").pidfd_open
    stress(nomem=1)
    with pytest.raises(MemoryError):
        pidfd_open(os.getpid())


def test_accelerate_after_one_that_failed(cloop, run, stress):
    """Each of its allocations fails in turn; then it must be possible to turn it off and on again."""

    async def main():
        lock, queue = asyncio.Lock(), asyncio.Queue()
        async with lock:
            queue.put_nowait(await asyncio.gather(asyncio.sleep(0, 1), asyncio.sleep(0, 2)))
        return await asyncio.wait_for(queue.get(), 10)

    number, seen = 0, 0
    while seen >= number:
        number += 1
        stress(nomem=number)
        try:
            cloop.accelerate()
        except MemoryError:
            pass
        finally:
            seen = stress()
        try:
            assert run(main()) == [1, 2]
        finally:
            cloop.accelerate(False)
    assert number > 100


def opened():
    """Whether there is memory for the number of a descriptor."""
    try:
        os.close(importlib.import_module("cloop._cloop").pidfd_open(os.getpid()))
    except MemoryError:
        return False
    return True


def test_sites_are_counted(stress):
    sites = importlib.import_module("cloop._cloop")._stress_sites

    def failed():
        return {tuple(site[:2]): site[3] for site in sites()}

    before = failed()
    stress(nomem=1)
    assert not opened()
    changed = [place for place, count in failed().items() if count != before[place]]
    assert [file.rpartition("/")[2] for file, _ in changed] == ["module.c"]


def test_two_allocations_fail(stress):
    stress(nomem=1, then=3)
    assert [opened() for _ in range(4)] == [False, True, False, True]


def test_places_are_noted_and_fail_once_each(cloop, stress):
    module = importlib.import_module("cloop._cloop")
    loop = cloop.new_event_loop()

    def reach():
        try:
            loop.call_soon(print, 1, 2, 3, 4, 5).cancel()
            return True
        except MemoryError:
            return False

    try:
        assert reach()  # the first one allocates more
        stress(record=True)
        assert reach() and stress() > 0
        seen = module._stress_seen(False)
        assert seen and len(seen) % ctypes.sizeof(ctypes.c_void_p) == 0
        objects = module._stress_seen(True)
        assert 0 < len(objects) < len(seen)
        left, in_a_row = (len(module._stress_left(seen, True, several, 0)) for several in (False, True))
        failed, before = 0, -1
        while module._stress_places() > before:
            before = module._stress_places()
            stress(place=True, pairs=True)
            failed += not reach()
        assert failed > 0 and len(module._stress_left(seen, True, False, 0)) < left
        assert len(module._stress_left(seen, True, True, 0)) == in_a_row
        stress(place=True, pairs=True)
        assert reach()
    finally:
        stress()
        loop.close()


def test_calls_of_python_fail(cloop, stress):
    loop = cloop.new_event_loop()
    try:
        stress()
        loop.is_running()
        loop.get_task_factory()
        assert stress() == 0
        stress(nomem=1, calls=True)
        with pytest.raises(MemoryError):
            loop.getaddrinfo("localhost", 1).send(None)
    finally:
        stress()
        loop.close()


@pytest.mark.filterwarnings("ignore")
def test_a_closed_loop_leaves_nothing_whatever_has_failed(cloop, stress):
    """Least of all the entry for its current task, which keeps the loop."""

    async def main():
        await asyncio.sleep(0)

    number, seen = 0, 0
    while seen >= number:
        number += 1
        loop = cloop.new_event_loop()
        loop.set_exception_handler(lambda loop, context: loop.stop())
        task = loop.create_task(main())
        stress(nomem=number)
        try:
            loop.run_until_complete(task)
        except (MemoryError, RuntimeError):
            pass
        finally:
            seen = stress()
            task.cancel()
            loop.close()


@pytest.mark.slow
def test_an_import_that_fails_anywhere(stress, python, write_script):
    """In another module, at each place where one more allocation or call can fail; also the first use of what it looks up
    later. It is an exception, and what there was of the module goes.
    """
    script = write_script("""\
        import asyncio, gc, importlib.util, os, ssl, sys, warnings
        import cloop
        from cloop import _cloop

        def use(loop):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            try:
                loop.call_soon(print)
                loop.call_later(1, print)
                loop.create_future()
                loop._new_tls(asyncio.Protocol(), context, None, False, None, True, 60, 30)
                loop.metrics().as_dict()
            finally:
                loop._close_core(False)

        warnings.simplefilter("ignore")
        os.register_at_fork = lambda **functions: None  # which would keep each module
        spec, places, before, imported = importlib.util.find_spec("cloop._cloop"), 0, -1, 0
        while places != before:
            module = importlib.util.module_from_spec(spec)
            _cloop._stress(place=True, pairs=True)
            try:
                spec.loader.exec_module(module)
                imported += 1
                use(module.LoopCore())
            except SystemError:  # a function returned with an exception, or without one
                raise
            except Exception:
                pass
            finally:
                _cloop._stress()
            del module
            before, places = places, _cloop._stress_places()
            if places % 20 == 0:
                gc.collect()
        gc.collect()
        print(places, imported)
        """)
    done = python("-X", "faulthandler", script)
    assert done.returncode == 0 and "SystemError" not in done.stderr, (
        done.stderr
    )  # exceptions of destructors are printed
    assert int(done.stdout.split()[0]) > 100
