"""Loops in interpreters that have a GIL of their own: one after another, many at once, and beside one in the main one.

interpreter_scenarios.py has what they do. What an interpreter other than the main one may not do, asyncio says: the same code runs on
it first. `make interpreters` runs the suite itself in one.
"""

import importlib.util
import pathlib
import sys
import sysconfig
import textwrap

import pytest

HERE = pathlib.Path(__file__).parent


def load(name):
    spec = importlib.util.spec_from_file_location("isolated_" + name, str(HERE / (name + ".py")))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


pytestmark = pytest.mark.skipif(
    not load("interpreters").exist, reason="interpreters with a GIL of their own came with Python 3.12"
)

START = """
import os, sys, time
sys.path.insert(0, %r)
import interpreters

INSIDE = '''
import asyncio
import interpreter_scenarios as scenarios
new_loop = %s
'''
PERFORM = "scenarios.perform(new_loop, '%%s')"

def threads():
    return len(os.listdir("/proc/self/task"))

def descriptors():
    return len(os.listdir("/proc/self/fd"))

def settled(expected):
    "Whether there are as many threads and descriptors as expected. A thread that was joined may just be exiting."
    deadline = time.monotonic() + 10
    while (threads(), descriptors()) != expected and time.monotonic() < deadline:
        time.sleep(0.01)
    assert (threads(), descriptors()) == expected, (expected, threads(), descriptors())

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024
"""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    trustme = pytest.importorskip("trustme")
    path = tmp_path_factory.mktemp("certificate") / "chain.pem"
    authority = trustme.CA()
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(path))
    authority.cert_pem.write_to_path(str(path) + ".authority")
    return str(path)


@pytest.fixture
def names(loop_kind):
    """Of the scenarios for the loop under test."""
    scenarios = load("interpreter_scenarios")
    chosen = scenarios.EVERYWHERE + (scenarios.OURS if loop_kind != "asyncio" else [])
    return " ".join(scenario.__name__ for scenario in chosen)


# CPython 3.12.1 itself crashes at the end of a process that has had another interpreter that has imported asyncio.
END = "\nsys.stdout.flush()\nos._exit(0)" if sys.version_info < (3, 13) else ""


@pytest.fixture
def isolated(script, loop_kind, certificate, monkeypatch):
    """Runs a script that has `interpreters`, and INSIDE, which begins what is run in one. Returns its output."""
    monkeypatch.setenv("CLOOP_TEST_CERTIFICATE", certificate)
    factory = "asyncio.SelectorEventLoop" if loop_kind == "asyncio" else "__import__('cloop').new_event_loop"

    def isolated(text, *args, **options):
        return script(START % (str(HERE), factory) + textwrap.dedent(text) + END, *args, **options)

    return isolated


@pytest.mark.slow
def test_each_scenario_in_an_interpreter_of_its_own(isolated, names):
    isolated("for name in %r.split(): interpreters.once(INSIDE + PERFORM %% name)" % names)


def test_all_in_one_interpreter(isolated, names):
    isolated("interpreters.once(INSIDE + PERFORM %% %r)" % names)


def test_in_the_main_interpreter_as_well(isolated, names):
    """The scenarios themselves: what differs elsewhere is about signals."""
    isolated(
        "import interpreter_scenarios as scenarios\nscenarios.perform(new_loop, %r)" % names.replace("signals ", "")
    )


# At once

QUICK = "tcp streams tls udp unix pipes timers tasks executors threadsafe subprocesses"


def test_several_at_once_beside_the_main_one(isolated):
    isolated(
        """
        import interpreter_scenarios as scenarios
        before = threads(), descriptors()
        running, errors = interpreters.at_once(INSIDE + PERFORM %% %r, threads=4)
        for _ in range(3):
            scenarios.perform(new_loop, %r)
        interpreters.finish(running, errors)
        assert interpreters.count() == 1
        settled(before)
        """
        % (QUICK, QUICK)
    )


@pytest.mark.skipif(sys.version_info < (3, 14), reason="InterpreterPoolExecutor came with Python 3.14")
def test_pool_of_interpreters(isolated):
    """The loop waits for them; each has loops of its own."""
    out = isolated(
        """
        import asyncio, interpreter_scenarios as scenarios, time
        from concurrent.futures import InterpreterPoolExecutor

        async def main():
            loop = asyncio.get_running_loop()
            path = "import sys; sys.path[:] = %r" % sys.path
            with InterpreterPoolExecutor(3, initializer=exec, initargs=(path,)) as pool:
                assert await loop.run_in_executor(pool, pow, 2, 10) == 1024
                work = "import asyncio, interpreter_scenarios as scenarios; scenarios.perform(%s, %r)" % (FACTORY, NAMES)
                running = [loop.run_in_executor(pool, exec, work) for _ in range(6)]
                turns = 0
                while not all(future.done() for future in running):
                    turns += 1
                    await asyncio.sleep(0.001)
                assert await asyncio.gather(*running) == [None] * 6
                try:
                    await loop.run_in_executor(pool, int, "no number")
                except ValueError as error:
                    print(type(error).__name__, turns > 1)

        loop = new_loop()
        loop.run_until_complete(main())
        loop.close()
        """.replace("FACTORY", "INSIDE.rpartition('= ')[2].strip()").replace("NAMES", repr(QUICK))
    )
    assert out == "ValueError True\n"


# Signals


def test_signal_reaches_the_main_interpreter_only(isolated, loop_kind):
    """Whichever thread it is delivered to. asyncio misses one that has a handler of signal.signal() then."""
    isolated(
        """
        import asyncio, signal, threading
        told, go_on = os.pipe(), os.pipe()
        text = INSIDE + '''if True:
            import os
            async def main():
                loop = asyncio.get_running_loop()
                ended = asyncio.Event()
                loop.add_reader(%d, ended.set)
                os.write(%d, b"x")
                await ended.wait()
                loop.remove_reader(%d)
            scenarios.on(new_loop, main)
        ''' % (go_on[0], told[1], go_on[0])
        running, errors = interpreters.at_once(text, threads=2)
        assert len(os.read(told[0], 1)) == len(os.read(told[0], 1)) == 1

        async def main():
            loop = asyncio.get_running_loop()
            for _ in range(20):
                arrived = loop.create_future()
                loop.add_signal_handler(signal.SIGUSR1, arrived.set_result, None)
                os.kill(os.getpid(), signal.SIGUSR1)
                await arrived
                loop.remove_signal_handler(signal.SIGUSR1)
            if PLAIN:
                signal.signal(signal.SIGUSR1, lambda *args: loop.call_soon(stopped.set_result, None))
                stopped = loop.create_future()
                threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGUSR1)).start()
                await stopped

        loop = new_loop()
        loop.run_until_complete(main())
        loop.close()
        os.write(go_on[1], b"x")
        interpreters.finish(running, errors)
        """.replace("PLAIN", str(loop_kind != "asyncio"))
    )


# The end of an interpreter


@pytest.fixture
def ours(loop_kind):
    if loop_kind == "asyncio":
        pytest.skip("cloop's own")


def test_report_that_takes_long_is_waited_for(isolated, ours):
    """An interpreter other than the main one must not end before its threads."""
    out = isolated(
        """
        begun, go_on = os.pipe(), os.pipe()
        text = INSIDE + '''if True:
            import os, time, cloop
            def report(block):
                if not block.ended:
                    os.write(%d, b"x")
                    os.read(%d, 1)
                    os.write(2, b"")
                    print("reported", flush=True)
            cloop.watch(0.01, to=report)
            loop = new_loop()
            loop.call_soon(os.read, %d, 1)  # blocks until the report is being written
            loop.call_soon(loop.stop)
            loop.run_forever()
            loop.close()
        ''' % (begun[1], go_on[0], begun[0])
        import threading
        interpreter = interpreters.create()
        interpreters.run(interpreter, text)
        threading.Timer(2.5, os.write, (go_on[1], b"x")).start()  # a second is what stop() waits for
        interpreters.destroy(interpreter)
        print("destroyed")
        """
    )
    assert out == "reported\ndestroyed\n"


def test_watch_that_its_function_stops_lets_go(isolated, ours):
    """The thread of that function is not waited for, as it is the one that stops. It kept the function until the interpreter ended."""
    isolated(
        """
        text = INSIDE + '''if True:
            import cloop, gc, threading, time, weakref

            class Function:
                def __call__(self, block):
                    watch.stop()
                    stopped.set()

            function, stopped = Function(), threading.Event()
            alive = weakref.ref(function)
            watch = cloop.watch(0.01, to=function)
            loop = new_loop()
            loop.call_soon(stopped.wait, 60)
            loop.call_soon(loop.stop)
            loop.run_forever()
            loop.close()
            del function, watch
            deadline = time.monotonic() + 10
            while alive() is not None and time.monotonic() < deadline:
                time.sleep(0.001)
                gc.collect()
            assert alive() is None
        '''
        interpreters.once(text)
        """
    )


def test_variables_of_the_environment(isolated, ours, monkeypatch, tmp_path):
    """CLOOP_WATCH is for all interpreters, CLOOP_MONITOR for the main one: there is one path."""
    monkeypatch.setenv("CLOOP_WATCH", "100")
    monkeypatch.setenv("CLOOP_MONITOR", "1")
    tmp_path.chmod(0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    isolated(
        """
        text = INSIDE + '''if True:
            from cloop import _monitor, _watch
            new_loop().close()
            assert _watch.threshold_now() == 100 and not _monitor._serving
        '''
        interpreters.once(text)
        new_loop().close()
        from cloop import _monitor
        assert len(_monitor.paths()) == 1
        interpreters.once(text)
        """
    )


# Many

ROUND = "tcp timers tasks executors subprocesses endings"
GROWTH_KIB = 500  # of an interpreter that is gone; what it has had is megabytes

# CPython 3.13 without a GIL gives up the processor 9,000 times for each interpreter that imports asyncio and ssl: a thread that locks
# an object twice (a class that is made does so) waits for itself for a while. On a busy machine, 80 of them take minutes.
FEWER = 4 if sysconfig.get_config_var("Py_GIL_DISABLED") and sys.version_info < (3, 14) else 1


def growth(isolated, names, rounds, threads):
    """KiB that stay of each interpreter. No descriptor and no thread may."""
    return float(
        isolated(
            """
            threads_at_once, rounds = map(int, sys.argv[1:])

            def many(count):
                interpreters.finish(*interpreters.at_once(INSIDE + PERFORM %% %r, threads_at_once, count // threads_at_once))

            expected = threads(), descriptors()
            many(20 if rounds > 20 else rounds)  # what the process keeps for all of them
            before = resident()
            many(rounds)
            assert interpreters.count() == 1
            settled(expected)
            print((resident() - before) / rounds)
            """
            % names,
            threads,
            rounds,
        )
    )


def test_a_few_leave_no_descriptor(isolated):
    growth(isolated, "tcp tasks endings", 4, 2)


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 4])
def test_many_leave_nothing(isolated, threads):
    # CPython 3.12 and 3.13.0 keep megabytes of each, also with asyncio alone.
    assert growth(isolated, ROUND, 60 // FEWER, threads) < GROWTH_KIB or sys.version_info < (3, 14)


@pytest.mark.nightly
@pytest.mark.parametrize("part", range(10))
def test_a_thousand(isolated, part):
    """In ten processes, each with its 20 before; one after another in one half, and four at once in the other."""
    assert growth(isolated, ROUND, 80 // FEWER, 1 + 3 * (part % 2)) < GROWTH_KIB or sys.version_info < (3, 14)
