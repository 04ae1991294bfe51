"""Memory and references over many rounds."""

import os
import sysconfig

import pytest

pytestmark = pytest.mark.slow

measures_memory = pytest.mark.skipif(
    "libasan" in os.environ.get("LD_PRELOAD", ""), reason="AddressSanitizer keeps freed memory to watch it"
)

START = """
import gc, os, socket, sys

def references():
    gc.collect()
    return sys.gettotalrefcount() if hasattr(sys, "gettotalrefcount") else sys.getallocatedblocks()

def resident():
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

def growth(measure, function, *args, tries=3):
    "The least of several: caches fill up once, a leak shows every time."
    function(*args)
    seen = []
    for _ in range(tries):
        before = measure()
        function(*args)
        seen.append(measure() - before)
        if seen[-1] <= 0:
            break
    return min(seen)

async def work():
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    loop.call_soon(future.set_result, None)
    loop.call_later(0, int)
    loop.call_soon_threadsafe(int)
    await future
    await asyncio.sleep(0.00001)

def add_and_remove(loop):
    first, second = socket.socketpair()
    loop.add_reader(first, loop.stop)
    second.send(b"x")
    loop.run_forever()
    loop.add_writer(first, loop.stop)
    loop.remove_reader(first)
    loop.run_forever()
    loop.remove_writer(first)
    first.close(); second.close()
"""

SCENARIOS = {
    "make and close": """
def round():
    new_loop().close()
""",
    "make, run and close": """
def round():
    loop = new_loop()
    loop.run_until_complete(work())
    loop.call_later(1000, print).cancel()
    loop.call_later(1000, print)
    loop.call_soon(print)
    loop.close()
""",
    "make, fill and drop": """
def round():
    loop = new_loop()
    loop.call_soon(lambda: loop)
    loop.call_later(1000, lambda: loop)
""",
    "run one loop": """
loop = new_loop()
def round():
    loop.run_until_complete(work())
""",
    "watch": """
loop = new_loop()
def round():
    add_and_remove(loop)
""",
    "signals": """
import signal
loop = new_loop()
def round():
    loop.add_signal_handler(signal.SIGUSR1, loop.stop)
    os.kill(os.getpid(), signal.SIGUSR1)
    loop.run_forever()
    loop.remove_signal_handler(signal.SIGUSR1)
""",
    "errors": """
loop = new_loop()
loop.set_exception_handler(lambda loop, context: None)
def fail(*args):
    1 / 0
def attempt(function, *args):
    try:
        function(*args)
    except Exception:
        pass
def round():
    loop.call_soon(fail, 1)
    loop.call_at(1, fail)
    attempt(loop.call_later, "x", print)
    attempt(loop.add_reader, -1, print)
    attempt(loop.add_reader, 10**6, print)
    attempt(loop.add_signal_handler, 9, print)
    attempt(loop.run_until_complete, 5)
    loop.call_soon(loop.stop)
    loop.run_forever()
""",
    "debug": """
loop = new_loop()
loop.set_debug(True)
loop.slow_callback_duration = 100
def round():
    loop.run_until_complete(work())
""",
}


@pytest.mark.parametrize("scenario", list(SCENARIOS))
def test_a_round_leaves_nothing(script, loop_kind, scenario):
    if scenario == "make, fill and drop" and loop_kind == "asyncio":
        pytest.skip("asyncio's loop may find its sockets collected before it")
    rounds = 100  # the interpreter's own caches need about 200 to fill up
    text = (
        START
        + SCENARIOS[scenario]
        + """
import warnings
warnings.simplefilter("ignore", ResourceWarning)

def rounds(count):
    for _ in range(count):
        round()

print(growth(references, rounds, int(sys.argv[1]), tries=6))
"loop" in globals() and loop.close()
"""
    )
    assert int(script(text, rounds)) < rounds


# Not "monitored", whose figures have more and more digits.
FEATURES = """tasks timers threads crowded signals executors loops primitives lent sock_operations protocols
    protocols-tls streams streams-tls large_write large_write-tls unix pipes datagrams upgrade-tls files servers subprocesses"""


@pytest.mark.parametrize("name", FEATURES.split())
def test_a_round_of_a_feature_leaves_nothing(script, request, loop_kind, name):
    """Each object is at least one block of memory."""
    if loop_kind == "asyncio":
        pytest.skip("not of asyncio's own")
    if name == "subprocesses" and sysconfig.get_config_var("Py_GIL_DISABLED"):
        pytest.skip("asyncio alone adds 24 to 30 blocks in each ten rounds there, and hardly any after a thousand")
    folder = request.getfixturevalue("certificates") if name.endswith("-tls") else "-"
    text = (
        START
        + """
sys.path.insert(0, sys.argv[1])
import scenarios

name, _, tls = sys.argv[2].partition("-")
scenario = getattr(scenarios, name)
if tls:
    scenario = scenarios.with_ssl(scenario, sys.argv[3])
loop = new_loop()
asyncio.set_event_loop(loop)

def rounds(count):
    for _ in range(count):
        loop.run_until_complete(scenario(loop))

async def end():
    "Of what still serves a client that has gone."
    await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})

print(growth(references, rounds, 10, tries=20))  # a cache of CPython fills for a while, with asyncio too
loop.run_until_complete(end())
loop.close()
"""
    )
    assert int(script(text, os.path.dirname(os.path.abspath(__file__)), name, folder)) < 10


@measures_memory
def test_cancelled_timers_leave_no_memory(script):
    text = (
        START
        + """
loop = new_loop()

def cancel_many(count):
    for _ in range(count // 1000):
        handles = [loop.call_later(3600, print, number) for number in range(1000)]
        for handle in handles:
            handle.cancel()
        loop.call_soon(loop.stop)
        loop.run_forever()

cancel_many(1000)
before = resident()
cancel_many(200000)
print(resident() - before)
loop.close()
"""
    )
    assert int(script(text)) <= 1 << 20


@measures_memory
def test_timers_cancelled_all_at_once_leave_no_memory(script):
    text = (
        START
        + """
loop = new_loop()

def cancel_many(count):
    handles = [loop.call_later(3600, print, number) for number in range(count)]
    for handle in handles:
        handle.cancel()
    loop.call_soon(loop.stop)
    loop.run_forever()

print(growth(resident, cancel_many, 50000))
loop.close()
"""
    )
    assert int(script(text)) <= 1 << 20


@measures_memory
def test_a_long_chain_of_callbacks_takes_no_memory(script):
    text = (
        START
        + """
loop = new_loop()

def chain(left):
    if left:
        loop.call_soon(chain, left - 1)
    else:
        loop.stop()

def run(count):
    loop.call_soon(chain, count)
    loop.run_forever()

print(growth(resident, run, 100000))
loop.close()
"""
    )
    assert int(script(text)) <= 1 << 18


@measures_memory
@pytest.mark.gil  # else the streams are asyncio's, which leave it to the allocator
def test_large_messages_cost_no_page_faults(script, loop_kind):
    """The buffer of a StreamReader must not be mapped anew for each message."""
    if loop_kind == "asyncio":
        pytest.skip("asyncio leaves it to glibc")
    faults = float(
        script("""
        import resource
        SIZE, ROUNDS = 1 << 20, 30

        async def serve(reader, writer):
            try:
                while True:
                    writer.write(await reader.readexactly(SIZE))
                    await writer.drain()
            except asyncio.IncompleteReadError:
                writer.close()
            served.set_result(None)

        async def main():
            global served
            served = asyncio.get_running_loop().create_future()
            server = await asyncio.start_server(serve, "127.0.0.1", 0)
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            for _ in range(2):
                before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
                for _ in range(ROUNDS):
                    writer.write(b"x" * SIZE)
                    await reader.readexactly(SIZE)
                after = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            writer.close()
            server.close()
            await served
            print((after - before) / ROUNDS)

        loop = new_loop()
        loop.run_until_complete(main())
        loop.close()
        """)
    )
    assert faults < 64  # 256 pages are one message
