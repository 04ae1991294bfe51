"""Counts rows, each in a fork of this process, which runs under valgrind with stage.c preloaded.

    valgrind --tool=callgrind --instr-atstart=no ... python counted.py LOOP OUT ROW...

callgrind writes its dumps into the directory OUT; what a dump is of, ROW.json there says.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import sys
import traceback
from pathlib import Path

from benchmarks import load, registry
from benchmarks.instr.rows import ROWS, Counted
from benchmarks.worker import open_subject

SAMPLES = 3


def count(row: registry.Benchmark, loop: str, plan: Counted) -> None:
    """Has the row's operations performed and counted: as many as planned, then twice as many, SAMPLES times."""
    stage = ctypes.CDLL(None)
    load.take_turns = stage.stage_partner
    stage.stage_clock(not plan.real_time)
    with open_subject(row, loop) as subject:
        for _ in range(2):
            subject.run(2 * plan.operations)
        gc.collect()
        gc.freeze()  # the size of the program is none of the row's cost
        for _ in range(SAMPLES):
            for operations in (plan.operations, 2 * plan.operations):
                gc.collect()
                stage.stage_begin()
                subject.run(operations)
                stage.stage_end(b"%d" % operations)


def outcome(name: str, loop: str) -> dict:
    try:
        count(registry.load()[name], loop, ROWS[name])
    except registry.Skip as exc:
        return {"skipped": str(exc)}
    except NotImplementedError:
        return {"skipped": "{} does not implement it".format(loop)}
    return {"pid": os.getpid(), "operations": ROWS[name].operations}


def main(loop: str, out: str, *names: str) -> None:
    os.environ.pop("LD_PRELOAD", None)  # it is not for children
    registry.load()
    if loop not in ("asyncio", registry.FLOOR):
        importlib.import_module(loop)  # before the forks, so that it leaves the same heap to each
    for name in names:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                result = outcome(name, loop)
                Path(out, name + ".json").write_text(json.dumps(result))
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
