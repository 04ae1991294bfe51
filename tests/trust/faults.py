"""What becomes of a program when a call or an allocation of the loop fails.

For each feature there is a scenario (tests/isolated/scenarios.py). All allocations and all system calls that cloop's C code
makes in it are counted, and each is a point that fails: one after the other, a call with each error that it can give. With
--pairs, pairs at random fail as well. A read or write may also transfer one byte, and a wait report nothing.

After each failure, all must have gone well, or an exception must have reached the caller or the exception handler. The
process may not die, nothing may wait longer than 10 s, and no byte may be missing without an error. The same loop must be
able to do it all again, and nothing may be left when it is closed: no descriptor and no object.

On a build with CL_INJECT (stress, coverage, or -DCL_INJECT) each allocation counts, those of Python's API too; on others,
those of the C library. With --calls, calls of Python's functions fail as well, with MemoryError. With --sites, the lines are listed that allocate and
failed in no scenario. --seconds is for all scenarios: each has its share, and points at random, until that is over.

    python tests/trust/faults.py [NAME...] [--small] [--pairs N] [--most N] [--seconds N] [--calls] [--sites] [--seed N]
"""

import errno
import functools
import glob
import importlib
import json
import os
import sys
import tempfile
import time

import attack

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "isolated"))
injection = importlib.import_module("injection")

NAMES = [
    "tasks", "timers", "threads", "crowded", "signals", "executors", "loops", "primitives", "monitored", "lent",
    "sock_operations", "protocols", "protocols-tls", "race", "streams", "streams-tls", "large_write", "large_write-tls", "unix",
    "pipes", "datagrams", "upgrade-tls", "files", "servers", "subprocesses",
]  # fmt: skip

READS = "EINTR EAGAIN ECONNRESET ETIMEDOUT ENOMEM ENOBUFS"
WRITES = "EINTR EAGAIN ECONNRESET ETIMEDOUT EPIPE ENOMEM ENOBUFS"
NO_DESCRIPTOR = "EMFILE ENFILE ENOMEM"
# What a call may say. Not among them: EAGAIN of a connect(), which asyncio takes for one that goes on.
ERRORS = {
    "read": READS,
    "recv": READS,
    "recvmsg": READS,
    "recvfrom": READS + " ECONNREFUSED",
    "write": "EINTR EAGAIN EPIPE ENOMEM",
    "writev": "EINTR EAGAIN EPIPE ENOMEM",
    "send": WRITES,
    "sendmsg": WRITES,
    "sendto": WRITES + " ECONNREFUSED",
    "accept4": NO_DESCRIPTOR + " EINTR EAGAIN ENOBUFS ECONNABORTED EPERM",
    "epoll_wait": "EINTR",
    "epoll_pwait2": "EINTR ENOSYS EPERM",
    "ppoll": "EINTR ENOMEM",
    "poll": "EINTR ENOMEM",
    "epoll_ctl(ADD)": "ENOSPC ENOMEM",
    "epoll_ctl(MOD)": "ENOMEM",
    "epoll_ctl(DEL)": "ENOMEM",
    "getsockopt": "ENOBUFS ENOPROTOOPT",
    "setsockopt": "ENOMEM ENOPROTOOPT",
    "getsockname": "ENOBUFS",
    "getpeername": "ENOBUFS ENOTCONN",
    "shutdown": "ENOTCONN ENOBUFS",
    "fcntl": "ENOMEM",
    "fcntl64": "ENOMEM",
    "ioctl": "EINVAL",
    "fstat": "ENOMEM",
    "connect": "EINTR ECONNREFUSED ETIMEDOUT EADDRNOTAVAIL ENETUNREACH ENOMEM",
    "socket": NO_DESCRIPTOR + " ENOBUFS",
    "socketpair": NO_DESCRIPTOR,
    "bind": "EADDRINUSE ENOMEM",
    "pipe2": "EMFILE ENFILE",
    "epoll_create1": NO_DESCRIPTOR,
    "pidfd_open": NO_DESCRIPTOR + " ENOSYS EPERM",
    "close": "EINTR EIO",
    "ftruncate": "EIO",
    "ftruncate64": "EIO",
    "pthread_create": "EAGAIN",
    "malloc": "ENOMEM",
    "calloc": "ENOMEM",
    "realloc": "ENOMEM",
}
TRANSFERS = {"read", "recv", "write", "writev", "send", "sendmsg", "epoll_wait", "epoll_pwait2"}
PATIENCE_S = 10
MOST = 3000  # points of a scenario: one makes 2000 tasks, whose 20,000 are much alike
QUICK_S = 0.5  # most of what hangs has been told by then


def errors_of(name):
    found = [getattr(errno, each) for each in ERRORS[name].split()]
    return found + [injection.SHORT] * (name in TRANSFERS)


def text_of(order, names):
    if order[0] == "allocation":
        return "allocation %d" % order[1]
    number, error = order[2] if order[0] == "calls" else order[1], order[-1]
    name = names[number - 1] if number <= len(names) else "?"
    return "call %d, %s: %s" % (number, name, "short" if error == injection.SHORT else errno.errorcode[error])


class Sweep:
    """A scenario, and what came of its points."""

    def __init__(self, run, name, folder):
        self.run, self.name, self.folder = run, name, folder
        self.findings, self.worker, self.died = [], None, 0
        self.sites = {}  # (file, line): reached, failed
        flags = importlib.import_module("cloop._cloop").build_info()["flags"]
        self.kinds = injection.EVERY_CALL | (0 if "-DCL_INJECT" in flags or "address" in flags else injection.MEMORY)
        os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        if "address" in flags:
            os.environ["ASAN_OPTIONS"] = os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=16"
        self.library = injection.shim(folder)
        run.must(self.library is not None, "there is no C compiler")

    def start(self):
        self.worker = injection.Worker(self.name, self.library, self.folder)

    def stop(self):
        try:
            for file, line, reached, failed in self.worker.run("sites"):
                before = self.sites.get((file, line), (0, 0))
                self.sites[file, line] = (before[0] + reached, before[1] + failed)
        except injection.Died:
            pass
        self.worker.__exit__()

    def once(self, plan, patience=PATIENCE_S):
        """What became of a plan; None if the process died, which is a finding."""
        plan = sorted(plan, key=lambda order: order[0] != "calls")
        if plan[:1] and plan[0][0] == "call":
            plan = [["calls", self.kinds, plan[0][1], plan[0][1], plan[0][2]]] + plan[1:]
        elif not plan or plan[0][0] != "calls":
            plan = [["calls", self.kinds, 0, 0, 0]] + plan
        try:
            return self.worker.run(plan, patience)
        except injection.Died as failure:
            self.findings.append("%s: %s" % (plan, failure))
            self.worker.__exit__()
            self.start()
            self.died += 1
            self.run.must(self.died < 20, "dies again and again:\n" + "\n".join(self.findings))
            return None

    def judge(self, plan):
        """Runs it, and notes what is wrong. Returns whether all of it was injected."""
        result = self.once(plan, QUICK_S)
        if result and result["became"] == "hangs" and not result["told"]:  # the machine may be slow
            result = self.once(plan)
        if result is None:
            return True
        wrong = []
        if result["became"] == "hangs" and not result["told"]:
            wrong.append("waits for ever")
        if result["became"].startswith("wrong") and not result["told"]:
            wrong.append(result["became"])
        if result["again"] != "complete":
            wrong.append("afterwards: " + result["again"])
        if result["left"]:
            wrong.append("left: " + ", ".join(result["left"]))
        if wrong:
            said = "; told: %s" % result["told"] if result["told"] else ""
            what = " and ".join([text_of(order, result["names"]) for order in plan] + result["where"])
            self.findings.append("%s: %s (%s%s)" % (what, "; ".join(wrong), result["became"], said))
        counted = {"allocation": result["allocations"], "call": result["calls"]}
        return all(order[1] <= counted[order[0]] for order in plan)


def points_of(result):
    """All that can fail, as plans of one."""
    points = [["allocation", number] for number in range(1, result["allocations"] + 1)]
    for number, name in enumerate(result["names"], 1):
        points += [["call", number, error] for error in errors_of(name)]
    return points


def feature(run, name):
    began = time.monotonic()
    most = int(os.environ.get("CLOOP_FAULTS_MOST", "0")) or (6 if run.small else MOST)
    with tempfile.TemporaryDirectory() as folder:
        if name.endswith("-tls"):
            importlib.import_module("leaks").certificates(folder)
        sweep = Sweep(run, name, folder)
        sweep.start()
        try:
            result = sweep.once([])
            run.must(result is not None and result["became"] == "complete", "without a failure: %s" % (result,))
            points = points_of(result)
            chosen = points
            if len(points) > most:
                chosen = [points[at] for at in sorted(run.random.sample(range(len(points)), most))]
            seconds, start = float(os.environ.get("CLOOP_FAULTS_SECONDS", "inf")), time.monotonic()
            if seconds < float("inf"):
                run.random.shuffle(chosen)
            # A tenth of the time is for pairs.
            injected = sum(sweep.judge([point]) for point in chosen if time.monotonic() < start + 0.9 * seconds)
            wanted, pairs = int(os.environ.get("CLOOP_FAULTS_PAIRS", "0")) or (1 if run.small else 0), 0
            while pairs < wanted and time.monotonic() < start + seconds:
                pairs += 1
                sweep.judge(run.random.sample(points, 2))
        finally:
            sweep.stop()
    if "CLOOP_FAULTS_NOTES" in os.environ:
        with open(os.path.join(os.environ["CLOOP_FAULTS_NOTES"], name + ".json"), "w") as file:
            json.dump({
                "points": len(points), "injected": injected, "pairs": pairs, "findings": len(sweep.findings),
                "calls": sorted(set(result["names"])), "sites": [[*key, *value] for key, value in sweep.sites.items()],
            }, file)  # fmt: skip
    text = "%d points (%d allocations, %d calls), %d injected, %d pairs, %d findings, %.0f s" % (
        len(points), result["allocations"], result["calls"], injected, pairs, len(sweep.findings),
        time.monotonic() - began,
    )  # fmt: skip
    run.must(not sweep.findings, text + "\n" + "\n".join(sweep.findings))
    return text


def summary(folder, shows_sites):
    """The figures of all scenarios, and what no scenario reached."""
    total, calls, sites = {}, set(), {}
    for path in glob.glob(os.path.join(folder, "*.json")):
        with open(path) as file:
            notes = json.load(file)
        calls.update(notes["calls"])
        for key in ("points", "injected", "pairs", "findings"):
            total[key] = total.get(key, 0) + notes[key]
        for name, line, reached, failed in notes["sites"]:
            before = sites.get((name, line), (0, 0))
            sites[name, line] = (before[0] + reached, before[1] + failed)
    print("points: %(points)d, injected: %(injected)d, pairs: %(pairs)d, findings: %(findings)d" % total)
    print(
        "kinds of calls: %d of %d; not made: %s" % (len(calls), len(ERRORS), ", ".join(sorted(ERRORS.keys() - calls)))
    )
    if sites:
        reached, failed = sum(bool(each[0]) for each in sites.values()), sum(bool(each[1]) for each in sites.values())
        print("lines that allocate: %d, reached: %d, failed: %d" % (len(sites), reached, failed))
    for (name, line), (reached, failed) in sorted(sites.items()):
        if shows_sites and not failed:
            print("%s %s:%d" % ("not failed " if reached else "not reached", os.path.relpath(name, "."), line))


def main():
    """The options that the other programs lack go to the processes by the environment."""
    shows_sites = "--sites" in sys.argv and not sys.argv.remove("--sites")
    if "--calls" in sys.argv and not sys.argv.remove("--calls"):
        os.environ["CLOOP_FAULTS_CALLS"] = "1"
    for option in ("--pairs", "--most", "--seconds"):
        if option in sys.argv:
            at = sys.argv.index(option)
            os.environ["CLOOP_FAULTS_" + option[2:].upper()] = sys.argv[at + 1]
            del sys.argv[at : at + 2]
    if "CLOOP_FAULTS_SECONDS" in os.environ and "--here" not in sys.argv:
        wanted = len([name for name in NAMES if name in sys.argv]) or len(NAMES)
        os.environ["CLOOP_FAULTS_SECONDS"] = str(float(os.environ["CLOOP_FAULTS_SECONDS"]) / wanted)
    attacks = {name: functools.partial(feature, name=name) for name in NAMES}
    if "--here" in sys.argv or "-h" in sys.argv or "--help" in sys.argv:
        return attack.main(__file__, __doc__, attacks)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CLOOP_FAULTS_NOTES"] = folder
        status = attack.main(__file__, __doc__, attacks)
        summary(folder, shows_sites)
    return status


if __name__ == "__main__":
    sys.exit(main())
