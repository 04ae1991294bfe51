"""Runs a module's tests in separate processes and collects their reports."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections import namedtuple

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
# regrtest's environment, without variables that change asyncio's behaviour.
COMMAND = [sys.executable, "-u", "-W", "default", "-bb", "-X", "faulthandler", os.path.join(HERE, "worker.py")]
UNWANTED = ("PYTHONASYNCIODEBUG", "PYTHONDEVMODE", "PYTHONWARNINGS", "PYTHONSAFEPATH")

Limits = namedtuple("Limits", "test module")

running = set()  # the workers' process groups
stopping = threading.Event()


def end_group(pid):
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def stop():
    """End every worker, and start no more."""
    stopping.set()
    for pid in list(running):
        end_group(pid)


def spawn(job, folder, limit, environ):
    """Runs one worker with these additions to the environment; returns how it ended (None if well) and the end of its
    output.
    """
    job_path = os.path.join(folder, "job.json")
    with open(job_path, "w") as file:
        json.dump(job, file)
    work = tempfile.mkdtemp(dir=folder)
    environ = dict({name: value for name, value in os.environ.items() if name not in UNWANTED}, **environ)
    with open(os.path.join(folder, "output"), "w+b") as output:
        # The session contains whatever a test leaves running, so that it can be killed here.
        worker = subprocess.Popen(
            COMMAND + [job_path],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=work,
            env=environ,
            start_new_session=True,
        )
        running.add(worker.pid)
        ending = None
        try:
            code = worker.wait(limit)
            if code < 0:
                ending = "the process died of %s" % signal.Signals(-code).name
            elif code > 0:
                ending = "the process ended with status %d" % code
        except subprocess.TimeoutExpired:
            ending = "the module took more than %d s" % limit
        finally:
            end_group(worker.pid)
            running.discard(worker.pid)
            worker.wait()
        output.seek(0)
        printed = output.read().decode("utf-8", "replace")
    if ending is not None and "\nTimeout (" in "\n" + printed:
        ending = "the test took more than %d s" % job["limit"]
    return ending, printed[-6000:]


def read(path):
    """The complete records of a results file, the unfinished test, and whether all were run."""
    records, started, finished = [], None, False
    with open(path) as file:
        for line in file:
            record = json.loads(line)
            if "started" in record:
                started = record["started"]
            elif "finished" in record:
                finished = True
            else:
                started = None
                records.append(record)
    return records, started, finished


def failure(test_id, detail, **more):
    return dict({"id": test_id, "outcome": "failed", "detail": detail, "loops": 1}, **more)


def run(suite, module, loop, limits, only=None):
    """Runs the tests of a suite's module, or the given ones. A test that kills the process fails, and the others
    continue.
    """
    records = []
    with tempfile.TemporaryDirectory() as folder:
        results = os.path.join(folder, "results")
        while True:
            open(results, "w").close()
            job = {
                "suite": suite.__name__,
                "module": module,
                "loop": loop,
                "root": ROOT,
                "only": only,
                "leave_out": [record["id"] for record in records],
                "limit": limits.test,
                "results": results,
            }
            ending, printed = spawn(job, folder, limits.module, suite.environ(loop))
            new, unfinished, finished = read(results)
            records += new
            if unfinished is not None:
                records.append(failure(unfinished, "%s\n%s" % (printed, ending)))
            elif finished and ending:
                records.append(failure(module + " (end of process)", "%s\n%s" % (printed, ending), fixture=True))
            elif not finished:
                records.append(failure(module + " (import)", "%s\n%s" % (printed, ending), fixture=True))
            if unfinished is None or stopping.is_set():
                return records
