"""nest_asyncio and its fork, which replace methods of the loop's class and asyncio's classes: each in its own process,
on asyncio and on cloop.
"""

import importlib.util
import subprocess
import sys
import textwrap

import pytest

MODULES = {"nest_asyncio": (3, 14), "nest_asyncio2": (4,)}  # and before which Python it works on asyncio

COMMON = """
import asyncio, importlib, sys, threading
package, module = sys.argv[1:]
nest = importlib.import_module(module)
new_event_loop = asyncio.SelectorEventLoop if package == "asyncio" else importlib.import_module(package).new_event_loop
loop = new_event_loop()
asyncio.set_event_loop(loop)

async def serve(reader, writer):
    while True:
        line = await reader.readline()
        if not line:
            break
        writer.write(line.upper())
        await writer.drain()
    writer.close()

async def talk(text):
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(text)
    answer = await reader.readline()
    writer.close()
    server.close()
    return answer

async def value(number):
    await asyncio.sleep(0.001)
    return number

def current():
    return asyncio.current_task()
"""

PROGRAMS = {
    "before it runs": """
        nest.apply(loop)

        async def main():
            me = current()
            assert loop.run_until_complete(value(1)) == 1
            assert current() is me
            assert loop.run_until_complete(talk(b"nested\\n")) == b"NESTED\\n"
            assert asyncio.run(value(2)) == 2
            await asyncio.sleep(0.001)
            assert current() is me
            return await talk(b"outer\\n")

        assert loop.run_until_complete(main()) == b"OUTER\\n"
        assert loop.run_until_complete(value(3)) == 3
        """,
    "while it runs": """
        async def main():
            other = asyncio.ensure_future(value(7))
            nest.apply()
            assert loop.run_until_complete(value(1)) == 1
            assert loop.run_until_complete(other) == 7
            assert loop.run_until_complete(talk(b"nested\\n")) == b"NESTED\\n"
            return 5

        task = loop.create_task(main())
        task.add_done_callback(lambda task: loop.stop())
        loop.run_forever()
        assert task.result() == 5
        assert loop.run_until_complete(talk(b"later\\n")) == b"LATER\\n"
        """,
    "levels, timers, threads": """
        nest.apply(loop)
        order = []

        def level(number):
            if number:
                loop.call_soon(order.append, number)
                assert loop.run_until_complete(asyncio.sleep(0.001, number)) == number
                level(number - 1)

        async def main():
            late = loop.call_later(0.005, order.append, "late")
            never = loop.call_later(0.001, order.append, "never")
            never.cancel()
            level(5)
            threading.Timer(0.01, loop.call_soon_threadsafe, [order.append, "thread"]).start()
            while "thread" not in order or "late" not in order:
                loop.run_until_complete(asyncio.sleep(0.001))
            try:
                loop.run_until_complete(asyncio.wait_for(asyncio.sleep(10), 0.01))
            except asyncio.TimeoutError:
                order.append("timeout")
            try:
                loop.run_until_complete(fails())
            except ZeroDivisionError:
                order.append("failed")
            assert loop.run_until_complete(loop.run_in_executor(None, lambda: 3)) == 3

        async def fails():
            1 / 0

        loop.run_until_complete(main())
        assert [item for item in order if isinstance(item, int)] == [5, 4, 3, 2, 1] and order[-2:] == ["timeout", "failed"], order
        assert order.count("late") == order.count("thread") == 1 and "never" not in order
        """,
    "tasks side by side": """
        nest.apply(loop)
        seen = []

        async def one(number):
            me = current()
            for _ in range(5):
                await asyncio.sleep(0)
                seen.append(loop.run_until_complete(value(number)))
                assert current() is me and me in asyncio.all_tasks()

        async def main():
            await asyncio.gather(*[one(number) for number in range(4)])

        loop.run_until_complete(main())
        assert sorted(seen) == sorted(list(range(4)) * 5)
        """,
    "other loops": """
        nest.apply(loop)
        for make in (asyncio.SelectorEventLoop, new_event_loop):
            other = make()
            assert other.run_until_complete(value(4)) == 4
            asyncio.set_event_loop(other)
            assert other.run_until_complete(talk(b"other\\n")) == b"OTHER\\n"
            asyncio.set_event_loop(loop)
            other.close()
        assert loop.run_until_complete(talk(b"first\\n")) == b"FIRST\\n"
        """,
}


@pytest.mark.parametrize("program", list(PROGRAMS))
@pytest.mark.parametrize("module", list(MODULES))
def test_nested_runs(loop_kind, cloop_on_path, tmp_path, module, program):
    if importlib.util.find_spec(module) is None:
        pytest.skip("there is no " + module)
    if sys.version_info >= MODULES[module]:
        pytest.skip("asyncio fails with it too")
    if loop_kind == "asyncio" and program == "while it runs":
        pytest.skip("asyncio's turn in progress fails on the queue that the nested one has emptied")
    script = tmp_path / "program.py"
    script.write_text(COMMON + textwrap.dedent(PROGRAMS[program]) + "\nloop.close()\nprint('done')\n")
    command = [sys.executable, "-W", "ignore", str(script), loop_kind.split("-")[0], module]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    assert (result.stdout, result.returncode) == (b"done\n", 0), result.stderr.decode()
