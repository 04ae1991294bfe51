"""Random operations by several threads on several running loops, and what the contract of docs/free-threading.md promises of them:
each callback that call_soon_threadsafe() took is called once and in order, unless it was cancelled; each coroutine has its
result; what asyncio forbids from other threads raises an error it may raise. Nothing crashes or hangs.

python tests/trust/threads.py [--seconds N] [--seed N] [--only SEED] [--loop cloop|asyncio]

Each process has its own seed, which chooses what is done, but not what happens at the same time.
"""

import argparse
import asyncio
import collections
import faulthandler
import gc
import importlib
import logging
import os
import random
import socket
import subprocess
import sys
import threading
import time
import warnings

PROCESS_S = 5
HANG_S = 120

#: What asyncio may raise for what is done here.
EXPECTED = (RuntimeError, asyncio.InvalidStateError, asyncio.CancelledError, OSError, ValueError)
NOT_HERE = "Non-thread-safe operation invoked on an event loop other than the current one"


#: CPython 3.13 itself crashes without a GIL, in a second and without cloop, if a task or future is looked at or changed by
#: another thread: _asyncio has no locks before 3.14.
TASKS_ARE_UNSAFE = (3, 13) <= sys.version_info < (3, 14) and not sys._is_gil_enabled()

#: asyncio's own transports may be looked at while they lose their loop.
OF_ASYNCIO = (AttributeError, TypeError, IndexError, KeyError)


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        if len(data) > 1:
            self.transport.write(data[:-1])


class Place:
    """A loop, what its thread shares of it, and what became of what others gave it."""

    def __init__(self, checked):
        self.checked = checked  # it waits until nobody uses it any more, before it ends
        self.called = collections.Counter()
        self.order = []
        self.handles = collections.deque(maxlen=200)
        self.futures = collections.deque(maxlen=100)
        self.transports = []
        self.left = collections.deque(maxlen=50)  # whoever drops the last reference

    def call(self, item):
        self.called[item] += 1
        if item[0] == "threadsafe":
            self.order.append(item)


class Stress:
    def __init__(self, seed, name):
        self.seed, self.new_loop = seed, importlib.import_module(name).new_event_loop
        self.expected = EXPECTED + (OF_ASYNCIO if name == "asyncio" else ())
        self.random = random.Random(seed)
        self.places, self.errors = [], []
        self.end = time.monotonic() + PROCESS_S
        self.foreign = [Foreign(self, number) for number in range(self.random.randrange(1, 5))]
        self.loops = self.random.randrange(1, 4)

    def run(self):
        work = [foreign.run for foreign in self.foreign]
        work += [lambda number=number: self.serve(number) for number in range(self.loops)]
        threads = [threading.Thread(target=self.guard, args=(function,)) for function in work]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sum(foreign.steps for foreign in self.foreign)

    def guard(self, function):
        try:
            function()
        except BaseException as error:
            self.errors.append(error)
            sys.excepthook(type(error), error, error.__traceback__)
            self.end = 0

    # The threads of the loops

    def serve(self, number):
        rng = random.Random(self.seed * 1000 + number)
        while time.monotonic() < self.end:
            place = Place(rng.random() < 0.7)
            loop = place.loop = self.new_loop()
            loop.set_exception_handler(lambda loop, context: None)
            try:
                loop.run_until_complete(self.main(place, rng))
            finally:
                loop.close()

    async def main(self, place, rng):
        loop = place.loop
        for _ in range(3):
            for end in socket.socketpair():
                place.transports.append((await loop.create_connection(Echo, sock=end))[0])
        self.places.append(place)
        end = min(self.end, time.monotonic() + rng.random())
        while time.monotonic() < end:
            await rng.choice(self.OWN)(self, place, rng)
        self.places.remove(place)
        if place.checked:
            await self.judge(place)
        for transport in place.transports:
            transport.abort()
        await asyncio.sleep(0)

    async def own_tasks(self, place, rng):
        async def step(n):
            await asyncio.sleep(0)
            return n

        count = rng.randrange(20)
        assert await asyncio.gather(*[step(n) for n in range(count)]) == list(range(count))

    async def own_timers(self, place, rng):
        handles = [place.loop.call_later(rng.random() * 0.01, int) for _ in range(10)]
        place.handles.extend(handles)
        for handle in rng.sample(handles, 5):
            handle.cancel()
        await asyncio.sleep(0.001)

    async def own_futures(self, place, rng):
        futures = [place.loop.create_future() for _ in range(5)]
        place.futures.extend(futures)
        await asyncio.sleep(0)
        for future in futures:
            try:
                future.set_result(None)
            except asyncio.InvalidStateError:  # another thread has
                pass
        place.futures.extend(asyncio.ensure_future(asyncio.sleep(rng.random() * 0.01)) for _ in range(2))

    async def own_bytes(self, place, rng):
        for transport in place.transports:
            transport.write(b"x" * rng.randrange(1, 50))
        await asyncio.sleep(0)

    async def own_connection(self, place, rng):
        at = rng.randrange(len(place.transports))
        here, there = socket.socketpair()
        there.close()
        gone, place.transports[at] = place.transports[at], (await place.loop.create_connection(Echo, sock=here))[0]
        gone.abort()

    async def own_loss(self, place, rng):
        for end in socket.socketpair():
            transport = (await place.loop.create_connection(asyncio.Protocol, sock=end))[0]
            transport.pause_reading()
            place.left.append(transport)

    OWN = (own_tasks, own_timers, own_futures, own_bytes, own_connection, own_loss)

    async def judge(self, place):
        """Once each other thread has begun another step, nobody has the loop any more."""
        seen = [foreign.steps for foreign in self.foreign]
        while not all(f.ended or f.steps > before + 1 for f, before in zip(self.foreign, seen)):
            await asyncio.sleep(0.001)
        given = {item: what for foreign in self.foreign for item, what in foreign.given.pop(place, {}).items()}
        for _ in range(3):
            await asyncio.sleep(0)
        for item, cancelled in given.items():
            times = place.called[item]
            assert times == 1 or (cancelled and times == 0), "%r was called %d times" % (item, times)
        assert not set(place.called) - set(given), "called, but not taken"
        last = {}
        for _, thread, number in place.order:
            assert number > last.get(thread, -1), "out of order"
            last[thread] = number


class Foreign:
    """A thread that uses loops which others run."""

    def __init__(self, stress, number):
        self.stress, self.number = stress, number
        self.random = random.Random(stress.seed * 1000 + 500 + number)
        self.steps, self.ended = 0, False
        self.given = {}  # by place: each item that was taken, and whether it was cancelled
        self.count = 0

    def run(self):
        try:
            while time.monotonic() < self.stress.end:
                try:
                    place = self.random.choice(list(self.stress.places))
                except IndexError:
                    time.sleep(0.001)
                else:
                    try:
                        self.random.choice(self.STEPS)(self, place)
                    except self.stress.expected:
                        pass
                    del place
                self.steps += 1
        finally:
            self.ended = True

    def item(self, kind):
        self.count += 1
        return kind, self.number, self.count

    # Allowed

    def threadsafe(self, place):
        handles = []
        given = self.given.setdefault(place, {})
        for _ in range(self.random.randrange(1, 20)):
            item = self.item("threadsafe")
            handles.append((place.loop.call_soon_threadsafe(place.call, item), item))
            given[item] = False
        for handle, item in self.random.sample(handles, len(handles) // 3):
            given[item] = True
            handle.cancel()
            assert handle.cancelled()
            repr(handle)

    def coroutine(self, place):
        async def answer(n):
            await asyncio.sleep(0)
            return n

        coroutine = answer(self.count)
        try:
            future = asyncio.run_coroutine_threadsafe(coroutine, place.loop)
        except RuntimeError:
            coroutine.close()
            return
        if not place.checked:
            return  # the loop may end before
        if self.random.random() < 0.2:
            future.cancel()
        else:
            assert future.result(HANG_S) == self.count

    def cancel(self, place):
        for handle in list(place.handles)[:20]:
            handle.cancel()
            assert handle.cancelled()
            repr(handle)

    def look(self, place):
        loop = place.loop
        if not TASKS_ARE_UNSAFE:
            for task in asyncio.all_tasks(loop):
                repr(task), task.done()
        asyncio.current_task(loop)
        repr(loop), loop.is_running(), loop.is_closed(), loop.time(), loop.get_debug()
        if hasattr(loop, "metrics"):
            loop.metrics()

    def look_at_futures(self, place):
        for future in list(place.futures)[:20]:
            if not TASKS_ARE_UNSAFE:
                repr(future)
            if future.done() and not future.cancelled():
                future.exception()
                future.result()

    def look_at_transports(self, place):
        for transport in list(place.transports):
            repr(transport)

    def drop(self, place):
        for _ in range(self.random.randrange(10)):
            try:
                place.left.pop()
            except IndexError:  # another thread has
                break

    def collect(self, place):
        if self.random.random() < 0.1:
            gc.collect()

    # Forbidden

    def soon(self, place):
        item = self.item("soon")
        place.loop.call_soon(place.call, item)
        self.given.setdefault(place, {})[item] = False
        place.loop.call_soon_threadsafe(int)  # with a GIL it does not wake the loop

    def schedule(self, place):
        loop = place.loop
        self.random.choice(
            [lambda: loop.call_later(0.001, int), lambda: loop.call_at(0, int).cancel(), loop.create_future]
        )()

    def watch(self, place):
        here, there = socket.socketpair()
        with here, there:
            place.loop.add_reader(here, int)
            place.loop.remove_reader(here)

    def run_it(self, place):
        if place.checked:  # else it may not run any more, and would be closed
            self.random.choice([place.loop.run_forever, place.loop.close])()

    def use_transports(self, place):
        for transport in list(place.transports):
            action = self.random.choice(
                ["write", "pause_reading", "resume_reading", "get_protocol", "get_write_buffer_size", "abort"]
            )
            getattr(transport, action)(*[b"x"] * (action == "write"))

    def use_futures(self, place):
        if TASKS_ARE_UNSAFE:
            return
        for future in list(place.futures)[:5]:
            future.add_done_callback(id)
            future.remove_done_callback(id)
            if not isinstance(future, asyncio.Task):
                future.set_result(None)
            else:
                future.cancel()

    ALLOWED = (threadsafe, coroutine, cancel, look, look_at_futures, look_at_transports, drop, collect)
    FORBIDDEN = (soon, schedule, watch, run_it, use_transports, use_futures)
    STEPS = 3 * ALLOWED + FORBIDDEN


def child(options):
    faulthandler.enable()
    faulthandler.dump_traceback_later(HANG_S, exit=True)
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    sys.setswitchinterval(1e-4)
    sys.unraisablehook = lambda unraisable: None
    stress = Stress(options.only, options.loop)
    print("steps: %d" % stress.run(), flush=True)
    os._exit(1 if stress.errors else 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 30), help="the first one")
    parser.add_argument("--only", type=int, help="one seed, in this process")
    parser.add_argument("--loop", default="cloop", help="the module whose new_event_loop() makes it")
    options = parser.parse_args()
    if options.only is not None:
        child(options)
    gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    print("seed %d, %s" % (options.seed, "with a GIL" if gil else "without a GIL"), flush=True)
    end, done, steps, findings = time.monotonic() + options.seconds, 0, 0, 0
    while time.monotonic() < end:
        command = [
            sys.executable,
            os.path.abspath(__file__),
            "--only",
            str(options.seed + done),
            "--loop",
            options.loop,
        ]
        process = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True)
        if process.stdout.startswith("steps: "):
            steps += int(process.stdout.split()[1])
        if process.returncode or process.stderr:
            findings += 1
            print(
                "FINDING: seed %d, status %d\n%s" % (options.seed + done, process.returncode, process.stderr[-4000:]),
                flush=True,
            )
        done += 1
    print("processes: %d, steps: %d, findings: %d" % (done, steps, findings))
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
