"""Everything at once, for hours: what tests/trust/integrity.py does, with timers, threads, processes and loops that come and go.

    python tests/trust/soak.py [--hours 1] [--seed N] [--loop cloop|asyncio|uvloop]

It prints a line each minute, and at the end the slopes of memory and of processor time for an operation, with their errors.
The status is 0 if no message was lost, no descriptor is left, and memory does not grow, or only such that malloc() and the
interpreter keep for later.
"""

import argparse
import asyncio
import collections
import gc
import importlib
import logging
import os
import random
import sys
import tempfile
import threading
import time

import attack
import integrity

WARM = 0.25  # of the time is left out of the slopes


class Mixed(integrity.Thread):
    """The conversations of integrity.py, beside other work, until the time is up."""

    def __init__(self, world, where):
        super().__init__(world, where)
        self.late, self.operations = collections.Counter(), 0  # steps of 10 us, later of 1 ms, so that it does not grow

    async def ask(self):
        while time.monotonic() < self.world.ends:
            await self.ask_once()
            self.operations += 1

    async def tick(self):
        loop = asyncio.get_running_loop()
        while time.monotonic() < self.world.ends:
            due = loop.time() + 0.01
            await asyncio.sleep(0.01)
            step = int((loop.time() - due) * 1e5)
            self.late[step if step < 1000 else step // 100 * 100] += 1

    async def others(self):
        loop, rng = asyncio.get_running_loop(), self.rng
        while time.monotonic() < self.world.ends:
            handles = [loop.call_later(rng.random(), int) for _ in range(rng.randrange(1000))]
            for handle in handles[::2]:
                handle.cancel()
            await loop.run_in_executor(None, loop.call_soon_threadsafe, int)
            if self.where[1] == 0:  # the main thread's children on every Python
                process = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
                assert (await process.communicate(b"data"))[0] == b"data"
            await loop.run_in_executor(None, self.another_loop)
            await asyncio.sleep(0.05)
            self.operations += 1

    def another_loop(self):
        loop = self.world.new_loop()
        loop.run_until_complete(asyncio.sleep(0.001))
        loop.close()

    async def work(self):
        await asyncio.gather(self.tick(), self.others(), *[self.ask() for _ in range(integrity.AT_ONCE)])


def exceeds(figure, limit):
    slope, error = figure
    return slope - 3 * error > limit


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hours", type=float, default=1)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--loop", default="cloop")
    options = parser.parse_args()
    options.processes, options.threads, options.count, options.seconds = 1, 2, 0, 0
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    print("seed %d" % options.seed, flush=True)
    seconds = options.hours * 3600
    with tempfile.TemporaryDirectory() as folder:
        world = integrity.World(options, folder)
        importlib.import_module(options.loop).new_event_loop().close()  # what the first one leaves for the others
        descriptors = attack.descriptors() - sum(len(socks) for socks in world.listening.values())
        began = time.monotonic()
        world.ends = began + seconds
        mixed = [Mixed(world, place) for place in world.places]
        threads = [threading.Thread(target=one.run) for one in mixed]
        for thread in threads:
            thread.start()
        memory, given, blocks, cost = [], [], [], []
        step, last = max(seconds / 120, 0.5), (time.process_time(), 0)
        while time.monotonic() < world.ends and all(thread.is_alive() for thread in threads):
            time.sleep(step)
            now, used = time.monotonic() - began, time.process_time()
            done = sum(one.tally["messages"] for one in mixed)
            if done == last[1]:
                print("no message for %d s" % step)
            elif now > WARM * seconds:
                memory.append((now, attack.resident()))
                given.append((now, attack.allocated() or 0))
                blocks.append((now, sys.getallocatedblocks()))
                cost.append((now, 1e6 * (used - last[0]) / (done - last[1])))
            last = used, done
            if len(memory) % max(1, int(60 / step)) == 0:
                print("%6d s: %d messages, %d MiB" % (now, done, attack.resident() >> 20), flush=True)
        for thread in threads:
            thread.join(120)
        for socks in world.listening.values():
            for sock in socks.values():
                sock.close()
    tally, faults = collections.Counter(), []
    for one in mixed:
        tally.update(one.tally)
        faults += one.faults[:20]
    deadline = time.monotonic() + 5
    while attack.descriptors() > descriptors and time.monotonic() < deadline:
        gc.collect()  # a loop that is closed while a connection closes leaves both to the collector
        time.sleep(0.01)
    left = attack.descriptors() - descriptors
    late = [step for one in mixed for step in one.late.elements()]
    hourly = [[3600 * figure for figure in attack.slope(points)] for points in (memory, given, blocks)]
    slower, its_error = attack.slope(cost)
    mean = sum(value for _, value in cost) / max(len(cost), 1)
    for fault in faults:
        print(fault)
    print("messages: %d; %s" % (tally["messages"], ", ".join("%s: %d" % (n, tally[n]) for n in integrity.FINDINGS)))
    print("descriptors: %+d" % left)
    print(
        "memory: %.1f KiB an hour (+- %.1f); given out by malloc(): %.1f (+- %.1f); objects: %.0f (+- %.0f)"
        % tuple([figure / 1024 for figure in hourly[0] + hourly[1]] + hourly[2])
    )
    print(
        "processor: %.1f us for a message, %+.1f %% an hour (+- %.1f)"
        % (mean, 100 * slower * 3600 / max(mean, 1e-9), 100 * its_error * 3600 / max(mean, 1e-9))
    )
    print(
        "lateness of a ticker: %s ms at p50, p99, p99.9"
        % ", ".join("%.2f" % (attack.percentile(late, share) / 100) for share in (0.5, 0.99, 0.999))
    )
    # A process grows for long without a leak: what is freed lies between what is not.
    leaks = not given or not given[0][1] or exceeds(hourly[1], 256 << 10) or exceeds(hourly[2], 5000)
    grew = options.hours >= 0.5 and exceeds(hourly[0], 1 << 20) and leaks
    return 1 if faults or left > 0 or grew or any(tally[name] for name in integrity.FINDINGS) else 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status) if threading.active_count() > 1 else sys.exit(status)
