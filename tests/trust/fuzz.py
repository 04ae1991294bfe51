"""Whether cloop does what asyncio does, for random programs; and what random bytes do to what reads bytes.

The programs are those of the suite's state machines (test_machine.py of each folder, tests/streams/test_differential.py): each
runs on asyncio, then on cloop, and what it notes must be the same, event for event. Bytes go to TLS, to numeric addresses, and
to the monitor. hypothesis makes the programs, and makes what differs small.

    python tests/trust/fuzz.py [--seconds 60] [--seed N] [NAME ...]

Each name gets its share of the time, in a process of its own. A finding is a difference, a process that dies or hangs, or an
answer of the monitor that is none.
"""

import argparse
import asyncio
import faulthandler
import gc
import importlib
import importlib.util
import json
import os
import random
import re
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import warnings

HERE = os.path.dirname(os.path.abspath(__file__))
HANG_S = 120
BATCH, SMALL_BATCH = 50, 10  # programs of one seed; if there are seconds only
FINDINGS = 3  # of one name, after which it ends


def load(path):
    """A file of the suite, as a module."""
    path = os.path.join(os.path.dirname(HERE), path)
    name = "fuzzed_" + re.sub(r"\W", "_", os.path.relpath(path, HERE))
    spec = importlib.util.spec_from_file_location(name, path)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def new_asyncio():
    return asyncio.SelectorEventLoop()


def new_cloop():
    return importlib.import_module("cloop").Loop()


def needs_newer_asyncio():
    if sys.version_info < (3, 11):
        raise Skipped("asyncio had faults that were mended since")


# What is fuzzed: each returns a strategy, and two functions that must return the same for what it makes.


def by_notes(machine):
    return (
        machine.PROGRAMS,
        lambda program: machine.notes_of(new_asyncio(), program),
        lambda program: machine.notes_of(new_cloop(), program),
    )


def scheduling():
    return by_notes(load("core/test_machine.py"))


def tasks():
    cloop, machine = importlib.import_module("cloop"), load("futures/test_machine.py")
    return (
        machine.PROGRAMS,
        lambda program: machine.trace(new_asyncio(), (asyncio.Future, asyncio.Task), program),
        lambda program: machine.trace(new_cloop(), (cloop.Future, cloop.Task), program),
    )


def primitives(accelerated=False):
    cloop, machine = importlib.import_module("cloop"), load("sync/test_machine.py")

    def trace(loop, classes, program):
        accelerate = cloop.accelerate if accelerated else lambda on: None
        accelerate(True)
        try:
            return machine.Run(loop, classes, program, accelerate).run()
        finally:
            loop.close()
            gc.collect(1)

    return (
        machine.PROGRAMS,
        lambda program: trace(new_asyncio(), (asyncio.Future, asyncio.Task), program),
        lambda program: trace(new_cloop(), (cloop.Future, cloop.Task), program),
    )


def accelerated_primitives():
    return primitives(accelerated=True)


def streams():
    return by_notes(load("streams/test_differential.py"))


def of_net(name):
    needs_newer_asyncio()
    machine = load("net/test_machine.py")
    kind, programs = machine.MACHINES[name]
    return (
        programs,
        lambda program: machine.notes_of(kind, new_asyncio(), program),
        lambda program: machine.notes_of(kind, new_cloop(), program),
    )


def transports():
    return of_net("transports")


def datagrams():
    return of_net("datagrams")


def servers():
    return of_net("servers")


def subprocesses():
    return by_notes(load("processes/test_machine.py"))


def of_tls(name):
    needs_newer_asyncio()
    contexts = load("tls/conftest.py").Contexts()
    machine = load("tls/test_machine.py")
    both = contexts.usual_client(), contexts.usual_server()
    return (machine.MACHINES[name][1],) + machine.pair(name, both, new_cloop)


def start_tls():
    return of_tls("start_tls")


def bytes_of_tls():
    return of_tls("bytes of TLS")


def addresses():
    machine, loop = load("net/test_address.py"), new_cloop()
    st = importlib.import_module("hypothesis.strategies")
    questions = st.tuples(
        machine.host, machine.port, machine.family, machine.kind, machine.proto,
        machine.flags.map(lambda flags: flags | machine.NUMERIC_ONLY),
    )  # fmt: skip

    def on_cloop(question):
        host, port, family, kind, proto, flags = question
        asking = loop.getaddrinfo(host, port, family=family, type=kind, proto=proto, flags=flags)
        return machine.asked(lambda: loop.run_until_complete(asking))

    return questions, lambda question: machine.asked(lambda: socket.getaddrinfo(*question)), on_cloop


def monitor():
    """Lines, which may be questions, in pieces: there is one answer to each, which is an object."""
    st = importlib.import_module("hypothesis.strategies")
    monitoring = importlib.import_module("cloop._monitor")
    loop = new_cloop()
    folder = tempfile.mkdtemp()
    serving = monitoring.Monitor(os.path.join(folder, "sock"))
    assert serving and loop
    value = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
        max_leaves=4,
    )
    fields = ["loop", "most", "sort", "filter", "task", "seconds", "limit", "id", "n", "name", "since", "top"]
    usual = st.sampled_from([0, 1, -1, 10**30, id(loop), "age", "name", "coro", ""]) | value
    question = st.builds(
        lambda do, others: dict(others, do=do),
        st.sampled_from(sorted(monitoring.QUESTIONS)) | value,
        st.dictionaries(st.sampled_from(fields), usual, max_size=3),
    )
    text = question.map(json.dumps).map(str.encode)

    def change(line, at, new):
        at %= len(line) + 1
        return (line[:at] + new + line[at + 1 :]).replace(b"\n", b"")

    changed = st.builds(change, text, st.integers(0, 100), st.binary(max_size=3))
    raw = st.binary(max_size=60).map(lambda line: line.replace(b"\n", b""))
    lines = st.lists(st.one_of(text, text, changed, raw), min_size=1, max_size=4)
    pieces = st.lists(st.integers(1, 50), max_size=6)

    def on_cloop(plan):
        lines, pieces = plan
        data = b"\n".join(lines) + b"\n"
        with monitoring.connect(serving.path, HANG_S) as sock, sock.makefile("rb") as answers:
            for size in pieces:
                sock.sendall(data[:size])
                data = data[size:]
            sock.sendall(data)
            for _ in lines:
                answer = answers.readline()
                if not isinstance(json.loads(answer), dict):
                    return answer
        return "answered"

    return st.tuples(lines, pieces), lambda plan: "answered", on_cloop


TARGETS = [
    scheduling, tasks, primitives, accelerated_primitives, streams, transports, datagrams, servers, subprocesses, start_tls,
    bytes_of_tls, addresses, monitor,
]  # fmt: skip


class Skipped(Exception):
    pass


# The process of one


class Child:
    def __init__(self, options):
        self.options, self.executions, self.unstable = options, 0, 0
        self.log = os.open(options.log, os.O_RDWR | os.O_CREAT)

    def note(self, text):
        """The last program, for if the process dies of it."""
        data = text.encode(errors="replace")
        os.pwrite(self.log, data, 0)
        os.ftruncate(self.log, len(data))

    def run(self, target):
        hypothesis = importlib.import_module("hypothesis")
        programs, on_asyncio, on_cloop = target()
        end, found, batch = time.monotonic() + self.options.seconds, set(), 0
        while time.monotonic() < end and len(found) < FINDINGS:

            @hypothesis.seed(self.options.seed + batch)
            @hypothesis.settings(
                max_examples=BATCH if self.options.seconds > 5 else SMALL_BATCH, database=None, deadline=None, report_multiple_bugs=False,
                suppress_health_check=list(hypothesis.HealthCheck),
                phases=[hypothesis.Phase.generate, hypothesis.Phase.shrink],
            )  # fmt: skip
            @hypothesis.given(programs)
            def compare(program):
                if time.monotonic() > end + HANG_S:
                    return  # it is small enough
                faulthandler.dump_traceback_later(HANG_S, exit=True)
                self.executions += 1
                self.note(repr(program))
                expected, seen = on_asyncio(program), on_cloop(program)
                if seen != expected and any(on_asyncio(program) != expected for _ in range(3)):
                    self.unstable += 1  # the kernel has its part in it
                elif seen != expected:
                    at = next((n for n, two in enumerate(zip(expected, seen)) if two[0] != two[1]), -1)
                    raise AssertionError(
                        "expected %r\nfound    %r" % (expected[max(at - 3, 0) : at + 1], seen[max(at - 3, 0) : at + 1])
                    )

            gc.disable()  # so that nothing is destroyed at another time
            try:
                compare()
            except Exception as error:
                text = "".join(traceback.format_exception_only(type(error), error))
                if text not in found:
                    found.add(text)
                    print("FINDING: %s, seed %d" % (target.__name__, self.options.seed + batch))
                    print(text, end="", flush=True)
            finally:
                gc.enable()
                gc.collect()
            batch += 1
        faulthandler.cancel_dump_traceback_later()
        if self.unstable:
            print("not the same each time on asyncio, and not judged: %d" % self.unstable)
        print("executions: %d, findings: %d" % (self.executions, len(found)), flush=True)


def fuzz(name, options, seconds):
    """Runs one in its process; returns its executions and findings."""
    with tempfile.TemporaryDirectory() as folder:
        log = os.path.join(folder, "log")
        command = [sys.executable, "-X", "faulthandler", "-W", "ignore", os.path.abspath(__file__), name, "--log", log]
        command += ["--seed", str(options.seed), "--seconds", str(seconds)]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=folder
        )
        out, err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        last = ""
        if os.path.exists(log):
            with open(log, errors="replace") as file:
                last = file.read()
    skipped = re.search(r"Skipped: (.*)", err)
    if skipped:
        print("%-24s skipped: %s" % (name, skipped[1]))
        return 0, 0
    figures = re.search(r"^executions: (\d+), findings: (\d+)$", out, re.M)
    if done.returncode or not figures:
        print(
            "%s\nFINDING: %s ended with status %s\n%s\nthe program: %s"
            % (out, name, done.returncode, err[-4000:], last)
        )
        return 0, 1
    executions, findings = int(figures[1]), int(figures[2])
    print("%s%-24s executions: %d, findings: %d" % (out[: figures.start()], name, executions, findings), flush=True)
    return executions, findings


def main():
    names = [target.__name__ for target in TARGETS]
    parser = argparse.ArgumentParser(prog="tests/trust/fuzz.py", description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(names))
    parser.add_argument("--seconds", type=float, default=60, help="for all of them")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--log", help=argparse.SUPPRESS)
    options = parser.parse_args()
    wanted = options.names or names
    for name in wanted:
        if name not in names:
            parser.error("%s is none of %s" % (name, ", ".join(names)))
    if options.log:
        warnings.simplefilter("ignore")
        Child(options).run(TARGETS[names.index(wanted[0])])
        os._exit(0)  # a monitor's thread may be waiting
    print("seed %d" % options.seed, flush=True)
    executions = findings = 0
    for name in wanted:
        counts = fuzz(name, options, options.seconds / len(wanted))
        executions, findings = executions + counts[0], findings + counts[1]
    print("executions: %d of %d kinds, findings: %d" % (executions, len(wanted), findings))
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
