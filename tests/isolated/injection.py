"""Runs a scenario of scenarios.py while chosen calls and allocations of cloop fail.

Calls fail by a preloaded library (faults.c): `shim()` builds it. Allocations of cloop's own code, those of objects too, fail
by `_cloop._stress()` on builds that have it (csrc/base/stress.h). A `Worker` is a process that runs one scenario again and
again. test_faults.py and tests/trust/faults.py say what fails.

A plan is a list of what fails in a run: `["calls", KINDS, FIRST, LAST, ERROR]`, with the kinds of faults.c; `["call", NUMBER,
ERROR]`, one more call of these kinds; and `["allocation", NUMBER]`.
"""

import asyncio
import ctypes
import gc
import importlib
import json
import logging
import os
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
import traceback
import warnings

HERE = os.path.dirname(os.path.abspath(__file__))

# As in faults.c.
ADD, CHANGE, REMOVE, STAT, MEMORY, READ, WRITE, ACCEPT, WAIT, ASK, MAKE, CHILD = (1 << bit for bit in range(12))
CLOSE, FILES, THREAD = 1 << 13, 1 << 14, 1 << 15
EVERY_CALL = (1 << 16) - 1 - MEMORY
SHORT = -1


class Died(Exception):
    """The process of a scenario ended, or did not answer; the text says how."""


def has_asan():
    """Whether processes have AddressSanitizer, whose allocations cannot fail."""
    return "libasan" in os.environ.get("LD_PRELOAD", "")


def shim(folder):
    """Builds the library in the folder; returns its path, or None without a compiler."""
    flags = ["-DNO_MEMORY"] if has_asan() else []
    compiler = shlex.split(os.environ.get("CC", "cc"))
    if shutil.which(compiler[0]) is None:
        return None
    built, source = os.path.join(folder, "faults.so"), os.path.join(HERE, "faults.c")
    subprocess.run(
        compiler + ["-shared", "-fPIC", "-O1", "-fno-omit-frame-pointer", *flags, "-o", built, source, "-ldl"],
        check=True,
    )
    return built


class Worker:
    """A process that runs a scenario as often as it is told to."""

    def __init__(self, scenario, library, folder="-", environment=None):
        environment = dict(os.environ if environment is None else environment)
        preloaded = environment.get("LD_PRELOAD", "")
        if "libasan" in preloaded:  # which calls what it wraps: so ours comes first
            preloaded = library + " " + preloaded
            environment["ASAN_OPTIONS"] = environment.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"
        else:
            preloaded = preloaded + " " + library
        environment["LD_PRELOAD"] = preloaded.strip()
        self.process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-W", "ignore", os.path.abspath(__file__), scenario, folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            universal_newlines=True,
            env=environment,
        )

    def run(self, plan, patience=10.0, limit=60.0):
        """What became of the scenario, by name; see `Scenario.run`. Raises Died."""
        try:
            self.process.stdin.write(json.dumps([plan, patience]) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Died(self.end()) from None
        readable, _, _ = select.select([self.process.stdout], [], [], limit)
        line = self.process.stdout.readline() if readable else ""
        if not line:
            raise Died(self.end() if readable else "does not answer within %d s\n%s" % (limit, self.end()))
        return json.loads(line)

    def end(self):
        """Ends the process. Returns what it wrote to stderr and its exit status, if it was not zero."""
        if self.process.poll() is None:
            time.sleep(0.05)
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGABRT)  # faulthandler prints where it is
        try:
            _, err = self.process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            _, err = self.process.communicate()
        return "exit status %d\n%s" % (self.process.returncode, err[-6000:])

    def __enter__(self):
        return self

    def __exit__(self, *error):
        try:
            self.process.communicate(
                timeout=10
            )  # at the end of its input it ends, and a coverage build writes its counters
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()


# ------------------------------------------------------------------ in the worker


def descriptors():
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink("/proc/self/fd/" + name)
        except OSError:
            pass  # that of the folder
    return found


class Scenario:
    def __init__(self, name, folder):
        sys.path.insert(0, HERE)
        scenarios = importlib.import_module("scenarios")
        self.scenario = getattr(scenarios, name.split("-")[0])
        if name.endswith("-tls"):
            self.scenario = scenarios.with_ssl(self.scenario, folder)
        self.package = importlib.import_module("cloop")
        self.module = importlib.import_module("cloop._cloop")
        self.library = ctypes.CDLL(None)
        self.library.faults_seen.restype = ctypes.c_long
        self.library.faults_name.restype = ctypes.c_char_p
        self.library.faults_name.argtypes = [ctypes.c_long]
        self.library.faults_arm.argtypes = [ctypes.c_uint, ctypes.c_long, ctypes.c_long, ctypes.c_int]
        self.library.faults_also.argtypes = [ctypes.c_long, ctypes.c_int]
        self.reports = []
        self.has_allocations = hasattr(self.module, "_stress")

    def arm(self, plan):
        allocations = [order[1] for order in plan if order[0] == "allocation"]
        for order in plan:
            if order[0] == "calls":
                self.library.faults_arm(*order[1:])
        for order in plan:
            if order[0] == "call":
                self.library.faults_also(*order[1:])
        if self.has_allocations:
            self.module._stress(
                nomem=allocations[0] if allocations else 0,
                then=max(allocations[1:], default=0),
                calls="CLOOP_FAULTS_CALLS" in os.environ,
            )

    def disarm(self):
        """How many calls and allocations there were, and what the calls were."""
        allocations = self.module._stress() if self.has_allocations else 0
        calls = self.library.faults_seen()
        names = [self.library.faults_name(number).decode() for number in range(1, calls + 1)]
        self.library.faults_arm(0, 0, 0, 0)
        return {"calls": calls, "allocations": allocations, "names": names}

    def attempt(self, loop, plan, patience):
        """What becomes of the scenario while that fails, exceptions that left the loop, and what was counted."""
        left = []
        # Not run_until_complete(): its own task may be the one that is never woken.
        timer = loop.call_later(patience, loop.stop)
        task = loop.create_task(self.scenario(loop))
        task.add_done_callback(self.stop)
        self.arm(plan)
        while True:
            try:
                loop.run_forever()
                break
            except (MemoryError, OSError) as failure:  # so it is heard of
                left.append(repr(failure))
                if len(left) > 20:
                    break
        counted = self.disarm()
        timer.cancel()
        task.remove_done_callback(self.stop)  # it may end later, after all
        error = task.exception() if task.done() and not task.cancelled() else None
        became = "hangs" if not task.done() else "complete" if error is None else repr(error)
        if isinstance(error, AssertionError):
            became = "wrong: " + "".join(traceback.format_exception(type(error), error, error.__traceback__))[-600:]
        return became, left, counted

    @staticmethod
    def stop(task):
        task.get_loop().stop()

    def handle(self, loop, context):
        self.reports.append(repr((context["message"], context.get("exception"))))

    def run(self, plan, patience):
        """What became of it; what was reported; what becomes of it without a failure, on the same loop; and what was
        counted.
        """
        self.reports.clear()
        loop = self.package.new_event_loop()
        loop.set_exception_handler(self.handle)
        asyncio.set_event_loop(loop)
        try:
            became, told, counted = self.attempt(loop, plan, patience)
            told += self.reports
            again = self.attempt(loop, [], 10)[0]
        finally:
            self.disarm()
            for task in asyncio.all_tasks(loop):
                task.cancel()
            loop.run_until_complete(asyncio.sleep(0))
            if hasattr(loop, "shutdown_default_executor"):
                loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()
            asyncio.set_event_loop(None)
            gc.collect()
        return dict(counted, became=became, told=told, again=again)

    def failures(self):
        """{file and line: how often an allocation has failed there}."""
        sites = self.module._stress_sites() if self.has_allocations else []
        return {"%s:%d" % (os.path.basename(site[0]), site[1]): site[3] for site in sites if site[3]}

    def checked(self, plan, patience):
        there, objects, failures = descriptors(), self.module.counts(), self.failures()
        result = self.run(plan, patience)
        result["where"] = [site for site, count in self.failures().items() if count > failures.get(site, 0)]
        result["left"] = self.left(there, objects)
        for _ in range(100 if result["left"] else 0):  # a thread may just be ending
            time.sleep(0.01)
            gc.collect()
            result["left"] = self.left(there, objects)
            if not result["left"]:
                break
        return result

    def left(self, there, objects):
        found = ["descriptor %d (%s)" % item for item in sorted(descriptors().items() - there.items())]
        for name, count in self.module.counts().items():
            if count > objects.get(name, 0):
                found.append("%d %s" % (count - objects.get(name, 0), name))
        return found


class Log(logging.Handler):
    """What a thread of an executor says of a loop that it could not tell."""

    def __init__(self, reports):
        super().__init__()
        self.reports = reports

    def emit(self, record):
        self.reports.append(repr((record.getMessage(), repr(record.exc_info and record.exc_info[1]))))


def work(name, folder):
    warnings.simplefilter("ignore")
    scenario = Scenario(name, folder)
    logging.getLogger("concurrent.futures").addHandler(Log(scenario.reports))
    scenario.checked([], 30)  # imports, caches
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        plan, patience = json.loads(line)
        if plan == "sites":
            found = scenario.module._stress_sites() if scenario.has_allocations else []
            print(json.dumps(found), flush=True)
        else:
            print(json.dumps(scenario.checked(plan, patience)), flush=True)
    os._exit(0)


if __name__ == "__main__":
    work(*sys.argv[1:])
