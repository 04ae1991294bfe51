"""Past one core and past one machine, by docs/frameworks.md: processes on one port, Dask, Ray."""

import contextlib
import os
import re
import signal
import socket
import tempfile
import textwrap

import pytest


@pytest.fixture
def dask(start, needs, block, free_port):
    """Contexts: of the scheduler, and of the worker of a number, each a process with those that it starts."""
    needs("distributed")
    scheduler, worker = block("dask").splitlines()
    assert "8786" in worker
    worker = worker.replace("8786", str(free_port))
    options = " --no-dashboard --host 127.0.0.1"
    return (
        lambda: start(scheduler + options + " --port %d" % free_port, log="scheduler"),
        lambda number: start(
            worker + options + " --nthreads 1 --local-directory w%d" % number, log="worker%d" % number
        ),
    )


def test_dask(dask, start, put, free_port, loop_is):
    put("dask_client.py")
    scheduler, worker = dask
    with scheduler() as scheduler, worker(1) as first, worker(2) as second:
        scheduler.until_says("Scheduler at")
        env = {"SCHEDULER": "tcp://127.0.0.1:%d" % free_port}
        with start("python -W ignore -m cloop dask_client.py", env=env, log="client") as client:
            client.until_says(", please")
            os.kill(int(re.search(r"kill (\d+), please", client.output()).group(1)), signal.SIGKILL)
            client.ends()
            for line in ("loops: %s", "loops afterwards: %s"):
                assert line % {loop_is} in client.output()
        first.stop()
        second.stop()
        # It may have been sending to the worker that was killed; it notes the exception, with its traceback.
        scheduler.stop(unless=r"(?m)^\S+ \S+ - distributed\.batched - INFO - Batched Comm Closed(.*\n(?!\d{4}-))*")


def test_ray(start, put, program_text, block, loop_is, tmp_path):
    put("main.py", program_text("ray_driver.py").replace("# THE BLOCK\n", block("ray")))
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder:  # Unix sockets want a short name
        with start("python -W ignore main.py", env={"RAY": folder, "RAY_USAGE_STATS_ENABLED": "0"}) as product:
            product.ends()
            assert product.output().splitlines()[-1] == loop_is


@pytest.fixture
def on_one_port(start, put, program_text, block, free_port):
    """A context in which as many processes as there are cores for listen on one port, which it gives."""

    @contextlib.contextmanager
    def on_one_port(cores, steering):
        put("steering.py", block("steering"))
        text = textwrap.indent(block("reuse_port").replace("8000", str(free_port)), "    ")
        put("main.py", program_text("reuse_port.py").replace("    # THE BLOCK\n", text))
        with contextlib.ExitStack() as stack:
            products = []
            for number, core in enumerate(cores):
                last = number == len(cores) - 1
                arguments = "%d %d %d %d" % (number, len(cores), core, steering and last)
                product = stack.enter_context(start("python main.py " + arguments, log="log%d" % number))
                product.until_says("listening")
                products.append(product)
            yield free_port
            for product in products:
                product.stop(statuses=(0,))

    return on_one_port


def ask(port):
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        with connection.makefile() as file:
            return file.read().split()


def test_reuse_port(on_one_port, loop_is):
    core = min(os.sched_getaffinity(0))
    with on_one_port([core] * 3, steering=False) as port:
        answers = [ask(port) for _ in range(200)]
    assert {answer[0] for answer in answers} == {loop_is}
    assert {answer[1] for answer in answers} == {"0", "1", "2"}  # one is left out once in 10**35 times


def test_connections_go_to_the_process_on_their_core(on_one_port, loop_is):
    """A packet over loopback comes in on the core that sent it."""
    allowed = os.sched_getaffinity(0)
    cores = sorted(allowed)[:4]
    if cores != list(range(len(cores))) or len(cores) < 2:
        pytest.skip("it takes two cores, from the first on")
    try:
        with on_one_port(cores, steering=True) as port:
            for core in cores * 20:
                os.sched_setaffinity(0, {core})
                assert ask(port) == [loop_is, str(core)]
    finally:
        os.sched_setaffinity(0, allowed)
