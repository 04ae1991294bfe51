"""Past one core and past one machine, by docs/frameworks.md: processes on one port, Dask, Ray."""

import os
import signal
import socket
import sys

import pytest


@pytest.fixture
def dask(start, needs, put, block, free_port, tmp_path):
    """A scheduler and two workers, each a process with those that it starts."""
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


def test_dask(dask, start, put, free_port, loop_is, tmp_path):
    put("dask_client.py")
    scheduler, worker = dask
    with scheduler() as scheduler, worker(1) as first, worker(2) as second:
        scheduler.until_says("Scheduler at")
        env = {"SCHEDULER": "tcp://127.0.0.1:%d" % free_port}
        with start("python -W ignore -m cloop dask_client.py", env=env, log="client") as client:
            client.until_says("kill ")
            client.until(lambda: (tmp_path / "killed").exists() or kill(client, tmp_path))
            client.ends()
            assert "loops: %s" % {loop_is} in client.output()
        first.stop()
        second.stop()
        scheduler.stop()


def kill(client, tmp_path):
    pid = int(client.output().rpartition("kill ")[2].split()[0])
    os.kill(pid, signal.SIGKILL)
    (tmp_path / "killed").write_text("")
    return True


assert socket and sys
