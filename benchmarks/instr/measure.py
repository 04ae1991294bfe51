"""Builds cloop for counting, has rows counted, and reads what callgrind wrote."""

from __future__ import annotations

import collections
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Dict, Iterable, List, NamedTuple, Optional, Tuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BUILD = ROOT / "build" / "instr"
#: A healthy process with all rows takes a minute.
SECONDS = 900
VALGRIND = [
    "valgrind",
    "--quiet",
    "--tool=callgrind",
    "--instr-atstart=no",  # stage.c turns it on
    "--trace-syscalls=yes",
    "--dump-line=no",
]


class Unable(Exception):
    """Nothing can be counted here; the message says why."""


class Figure(NamedTuple):
    """What one operation of a row costs."""

    instructions: float
    #: Of them, in cloop's own code.
    own: float
    syscalls: float
    #: How far the samples are apart, as a part of the instructions.
    spread: float


class Outcome(NamedTuple):
    """A figure, or why there is none."""

    figure: Optional[Figure]
    why: str = ""
    failed: bool = False


class Subject(NamedTuple):
    """A loop on an interpreter."""

    python: str
    loop: str
    #: Put before the checkout in sys.path.
    path: Optional[Path] = None


def environment(python: str) -> Dict[str, str]:
    """What the figures depend on beside cloop."""
    for tool in ("valgrind", "cc"):
        if shutil.which(tool) is None:
            raise Unable("there is no {}".format(tool))
    about = """
import json, platform, sys, sysconfig
try:
    from ssl import OPENSSL_VERSION as openssl
except ImportError:
    openssl = "none"
print(json.dumps({
    "python": platform.python_version(),
    "build": "{} {} {}".format(platform.python_compiler(), sysconfig.get_config_var("OPT"),
        sorted(set((sysconfig.get_config_var("CONFIG_ARGS") or "").split())
            & {"'--enable-optimizations'", "'--with-lto'", "'--enable-shared'", "'--disable-gil'"})),
    "openssl": openssl,
    "libc": " ".join(platform.libc_ver()),
    "machine": platform.machine(),
}))
"""
    found = json.loads(_output([python, "-c", about]))
    found["compiler"] = _output(["cc", "--version"]).splitlines()[0]
    found["valgrind"] = _output(["valgrind", "--version"]).strip()
    # Which string functions libc and OpenSSL choose under valgrind.
    with open("/proc/cpuinfo") as lines:
        found["avx2"] = "yes" if any(" avx2 " in line for line in lines) else "no"
    return found


def _output(command: List[str]) -> str:
    return subprocess.run(command, stdout=subprocess.PIPE, universal_newlines=True, check=True).stdout


def build(python: str, checkout: Path) -> Path:
    """The directory of that checkout's cloop, built for counting by that interpreter."""
    if not (checkout / "setup.py").exists():
        if not (checkout / "cloop").is_dir():
            raise Unable("{} is neither a checkout nor a directory with cloop in it".format(checkout))
        return checkout
    name = "{}-{}".format(_output([python, "-c", "import sys; print(sys.version.split()[0])"]).strip(), _tag(checkout))
    place = BUILD / name
    env = {**os.environ, "CFLAGS": "{} -include {}".format(os.environ.get("CFLAGS", ""), HERE / "count.h")}
    command = [python, "setup.py", "-q", "build", "--build-base", str(place / "objects"), "--build-lib", str(place)]
    done = subprocess.run(command, cwd=str(checkout), env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        sys.stderr.buffer.write(done.stdout)
        raise Unable("{} cannot be built".format(checkout))
    return place


def _tag(checkout: Path) -> str:
    return "here" if checkout.resolve() == ROOT else str(checkout.resolve()).strip("/").replace("/", "_")


def _stage() -> Path:
    """stage.c and heap.c, compiled if one is newer."""
    library, sources = BUILD / "stage.so", [HERE / "stage.c", HERE / "heap.c"]
    if not library.exists() or any(library.stat().st_mtime_ns < path.stat().st_mtime_ns for path in sources):
        BUILD.mkdir(parents=True, exist_ok=True)
        made = BUILD / "stage-{}.so".format(os.getpid())
        done = subprocess.run(
            ["cc", "-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-shared", "-fPIC"]
            + ["-fno-builtin", *map(str, sources), "-o", str(made), "-ldl", "-pthread"]
        )
        if done.returncode:
            raise Unable("stage.c cannot be compiled; it needs valgrind's header callgrind.h")
        os.replace(str(made), str(library))
    return library


def count(
    subjects: List[Subject], names: List[str], jobs: int, keep: Optional[Path] = None
) -> List[Dict[str, Outcome]]:
    """The outcome of each row for each subject."""
    stage = _stage()
    # Each process counts some of the rows; which others it counts makes no difference to a row.
    parts = [part for part in (names[start::jobs] for start in range(jobs)) if part]
    units = [(subject, part) for part in parts for subject in subjects]
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(jobs) as pool:
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
        base = Path(scratch) if keep is None else keep

        def run(number_and_unit: Tuple[int, Tuple[Subject, List[str]]]) -> Dict[str, Outcome]:
            number, (subject, part) = number_and_unit
            return _count(stage, subject, part, base / str(number))

        results: List[Dict[str, Outcome]] = [{} for _ in subjects]
        for (subject, _), outcomes in zip(units, pool.map(run, enumerate(units))):
            results[subjects.index(subject)].update(outcomes)
    return [{name: result[name] for name in names} for result in results]


def _count(stage: Path, subject: Subject, names: List[str], out: Path) -> Dict[str, Outcome]:
    out.mkdir(exist_ok=True)
    # Nothing else of the environment: its size would move the stack.
    env = {
        "PATH": os.environ["PATH"],
        "LC_ALL": "C.UTF-8",
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": os.pathsep.join(str(path) for path in (subject.path, ROOT) if path),
        "LD_PRELOAD": str(stage),
        # valgrind counts each byte that this instruction moves.
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-ERMS,-FSRM",
    }
    program = [subject.python, str(HERE / "counted.py"), subject.loop, str(out)]
    # Compile what is imported: else the first time has another heap than the others.
    subprocess.run(program, env=env, check=True)
    command = [
        *VALGRIND,
        "--callgrind-out-file={}/dump.%p".format(out),
        "--log-file={}/trace".format(out),
        *program,
        *names,
    ]
    with open(str(out / "log"), "wb") as log:
        try:
            subprocess.run(command, env=env, cwd=str(out), stdout=log, stderr=log, timeout=SECONDS)
        except subprocess.TimeoutExpired:
            print("stopped after {} s: {}".format(SECONDS, " ".join(names)), file=sys.stderr)
    said = [line for line in (out / "log").read_text(errors="replace").splitlines() if line.strip()]
    trace = (out / "trace").read_text(errors="replace").splitlines() if (out / "trace").exists() else []
    syscalls = _syscalls(trace)
    outcomes = {}
    for name in names:
        report = out / (name + ".json")
        if not report.exists():
            outcomes[name] = Outcome(None, said[-1] if said else "silent", failed=True)
            continue
        about = json.loads(report.read_text())
        if "skipped" in about:
            outcomes[name] = Outcome(None, about["skipped"])
        else:
            outcomes[name] = Outcome(_figure(out, about["pid"], about["operations"], syscalls[about["pid"]]))
    return outcomes


def _figure(out: Path, pid: int, operations: int, syscalls: List[int]) -> Figure:
    """Of the dumps of a process, which are in pairs: of so many operations, and of twice as many."""
    dumps = sorted(out.glob("dump.{}.*".format(pid)), key=lambda path: int(path.suffix[1:]))
    costs = [
        (*_instructions(path.read_text(errors="replace").splitlines()), calls) for path, calls in zip(dumps, syscalls)
    ]
    samples = [
        [(more - less) / operations for less, more in zip(once, twice)] for once, twice in zip(costs[::2], costs[1::2])
    ]
    instructions, own, calls = map(statistics.median, zip(*samples))
    of_each = [sample[0] for sample in samples]
    return Figure(instructions, own, calls, (max(of_each) - min(of_each)) / instructions)


_POSITIONS = tuple("0123456789+-*")


def _instructions(lines: Iterable[str]) -> Tuple[int, int]:
    """All of a dump, and those in cloop's extension."""
    names: Dict[str, str] = {}
    total = own = 0
    in_own = is_call = False
    for line in lines:
        if line.startswith(_POSITIONS):
            if in_own and not is_call:
                own += int((line.split() + ["0"])[1])  # a line without a cost is short
            is_call = False
        elif line.startswith("calls="):
            is_call = True  # the next line has what was called in it
        elif line.startswith(("ob=", "cob=")):
            key, _, name = line.partition("=")[2].partition(" ")
            if name:
                names[key] = name
            if line.startswith("ob="):
                in_own = "/_cloop." in names[key]
        elif line.startswith("totals:"):
            total = int(line.split()[1])
    return total, own


# The beginning of a system call. Looking at the clock is none outside valgrind.
_SYSCALL = re.compile(r"SYSCALL\[(\d+),\d+\]\(\d+\) (?!\.\.\. |sys_clock_gettime|sys_gettimeofday|sys_time )(.*)")
#: As in stage.c.
_BEGIN, _END, _ASIDE, _BACK = ("sys_getpgid ( {} )".format(1000000001 + number) for number in range(4))


def _syscalls(lines: Iterable[str]) -> Dict[int, List[int]]:
    """How many each process made between its marks, which stage.c sets."""
    counts: Dict[int, List[int]] = collections.defaultdict(list)
    counting: Dict[int, bool] = {}
    for line in lines:
        found = _SYSCALL.match(line)
        if found is None:
            continue
        pid, call = int(found.group(1)), found.group(2)
        if call.startswith((_BEGIN, _BACK)):
            counting[pid] = True
            if call.startswith(_BEGIN):
                counts[pid].append(0)
        elif call.startswith((_END, _ASIDE)):
            counting[pid] = False
        elif counting.get(pid):
            counts[pid][-1] += 1
    return counts
