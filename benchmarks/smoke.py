"""Whether every row runs on each loop, quickly: one batch of each, nothing measured.

    python -m benchmarks.smoke [--only GLOBS] [LOOP...]

Each row has a fork of its own. The exit status is 1 if one failed; what a loop or this machine lacks is said.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import sys
import traceback
from typing import List, Optional

from benchmarks import registry, servers
from benchmarks.__main__ import matches, suits
from benchmarks.worker import open_subject

SECONDS = 120  # for one row


def run(row: registry.Benchmark, loop: str) -> int:
    """In the fork: 0 if it ran, 1 if it failed, 2 if something is missing."""
    faulthandler.dump_traceback_later(SECONDS, exit=True)
    try:
        with open_subject(row, loop) as subject:
            # The same twice, and what a row has started must stand a second time.
            for _ in range(1 if row.metric in ("memory", "late", "told") else 2):
                subject.run(row.batch)
        return 0
    except (registry.Skip, NotImplementedError) as exc:
        print("{} on {}: {}".format(row.name, loop, exc or "not implemented"), flush=True)
        return 2
    except TypeError as exc:
        if "unexpected keyword argument" in str(exc):
            print("{} on {}: {}".format(row.name, loop, exc), flush=True)
            return 2
        traceback.print_exc()
    except BaseException:
        traceback.print_exc()
    return 1


def main(argv: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.smoke", description=__doc__.split("\n")[0])
    parser.add_argument("loops", nargs="*", default=["cloop", "uvloop", "asyncio"])
    parser.add_argument("--only", metavar="GLOBS", help="rows whose name matches, separated by commas")
    args = parser.parse_args(argv)
    failed, ran = [], 0
    for row in registry.load().values():
        if sys.version_info[:2] < row.since or not (matches(row.name, args.only) if args.only else row.default):
            continue
        try:
            with servers.beside(row.beside):
                for loop in args.loops:
                    if not suits(row, loop):
                        continue
                    child = os.fork()
                    if child == 0:
                        os._exit(run(row, loop))
                    status = os.waitpid(child, 0)[1]
                    ran += 1
                    if status not in (0, 2 << 8):
                        failed.append("{} on {}".format(row.name, loop))
                        print("failed: " + failed[-1], flush=True)
        except registry.Skip as exc:
            print("{}: {}".format(row.name, exc))
    print("{} runs, {} failed{}".format(ran, len(failed), ": " + ", ".join(failed) if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
