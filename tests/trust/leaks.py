"""Whether memory, objects or descriptors grow with the number of times that something is done.

Each feature is used many times, on one loop. The slope of the line through the process's memory, in bytes a round, must be
zero within three times its error, or too small to matter. The process keeps freed memory in pieces that nothing fits into, so
where it grows, that which malloc() has given out must not, but for one step: a table of the interpreter's doubles. On a debug
interpreter references are counted as well.

    python tests/trust/leaks.py [NAME...] [--small] [--loop cloop|asyncio|uvloop]
"""

import array
import asyncio
import functools
import gc
import importlib
import itertools
import os
import sys
import tempfile

import attack

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "isolated"))
scenarios = importlib.import_module("scenarios")

NAMES = {  # rounds of the whole form
    "threads": 5000,
    "crowded": 2000,
    "lent": 20000,
    "streams": 20000,
    "streams-tls": 5000,
    "large_write": 1000,
    "large_write-tls": 3000,
    "datagrams": 20000,
    "pipes": 5000,
    "sock_operations": 1000,
    "subprocesses": 2000,
}
MATTERS = 4  # bytes a round
POINTS = 40


def objects(run):
    if run.loop_name != "cloop":
        return 0
    return sum(importlib.import_module("cloop._cloop").counts().values())


def certificates(folder):
    trustme = importlib.import_module("trustme")
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(folder + "/ca.pem")
    issued.private_key_pem.write_to_path(folder + "/key.pem")
    issued.cert_chain_pems[0].write_to_path(folder + "/chain.pem")


def without_largest_step(values):
    steps = [after - before for before, after in zip(values, values[1:])]
    steps[steps.index(max(steps))] = sorted(steps)[len(steps) // 2]
    return list(itertools.accumulate([values[0]] + steps))


def feature(run, name):
    rounds = run.size(max(NAMES[name] // 50, 40), NAMES[name])
    loop = run.new_loop()
    # Arrays take no more later.
    memory, given, counted = (array.array("d", [0] * POINTS) for _ in range(3))
    scenario = getattr(scenarios, name.split("-")[0])
    with tempfile.TemporaryDirectory() as folder:
        if name.endswith("-tls"):
            certificates(folder)
            scenario = scenarios.with_ssl(scenario, folder)

        async def times(count):
            for _ in range(count):
                await scenario(loop)
            await asyncio.sleep(0.01)

        each = max(rounds // POINTS, 1)
        loop.run_until_complete(
            times(max(each, rounds // 2))
        )  # caches fill up, also malloc()'s, of which OpenSSL fills many
        gc.collect()
        there, fds = objects(run), attack.descriptors()
        for point in range(POINTS):
            loop.run_until_complete(times(each))
            gc.collect()
            memory[point], given[point] = attack.resident(), attack.allocated() or 0
            counted[point] = getattr(sys, "gettotalrefcount", sys.getallocatedblocks)()
        more, more_fds = objects(run) - there, attack.descriptors() - fds
    loop.close()
    rounds = [point * each for point in range(POINTS)]
    found, error = attack.slope(list(zip(rounds, memory))[POINTS // 4 :])
    pieces = ""
    if found - 3 * error >= MATTERS and given[0]:
        pieces = ", %.1f (+- %.1f) resident" % (found, error)
        found, error = attack.slope(list(zip(rounds, without_largest_step(given)))[POINTS // 4 :])
    references, their_error = attack.slope(list(zip(rounds, counted))[POINTS // 4 :])
    kind = "references" if hasattr(sys, "gettotalrefcount") else "blocks"
    text = "%d rounds: %.1f bytes a round (+- %.1f)%s, %.3f %s (+- %.3f), objects %+d, descriptors %+d" % (
        each * POINTS, found, error, pieces, references, kind, their_error, more, more_fds,
    )  # fmt: skip
    run.must(more <= 0 and more_fds <= 0, text)
    # The interpreter's own caches take longer to fill than the short form takes.
    run.must(run.small or (references - 3 * their_error < 0.1 and found - 3 * error < MATTERS), text)
    return text


if __name__ == "__main__":
    sys.exit(attack.main(__file__, __doc__, {name: functools.partial(feature, name=name) for name in NAMES}))
