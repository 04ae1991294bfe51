"""What becomes of a loop that is given more than it can do: it goes on, in bounded time and memory, and it recovers.

python tests/trust/overload.py [NAME...] [--small] [--timed] [--seed N] [--loop cloop|asyncio|uvloop]
"""

import asyncio
import os
import resource
import signal
import socket
import sys
import threading
import time

import attack


def limit_descriptors(wanted):
    """Returns how many there may be now."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
    return min(wanted, hard)


class Child:
    """A process that runs a function, which gets one end of a socket pair; this one has the other end."""

    def __init__(self, function, *args):
        self.sock, theirs = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                signal.alarm(600)
                self.sock.close()
                function(theirs, *args)
                status = 0
            except BaseException:
                sys.excepthook(*sys.exc_info())
            finally:
                os._exit(status)
        theirs.close()

    def ask(self, word=b"x"):
        """Waits for its answer, in a thread if the loop must go on."""
        self.sock.send(word)
        return self.sock.recv(100)

    def end(self):
        self.sock.close()
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


async def until(condition, limit=60):
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            raise attack.Failed("waited in vain for %d s" % limit)
        await asyncio.sleep(0.005)


# Descriptors


def queue_up(sock, address, count):
    limit_descriptors(count + 100)
    clients = []
    for _ in range(count):
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex(address)
        clients.append(client)
    sock.recv(1)
    sock.send(b"x")
    sock.recv(1)  # to the end


def out_of_descriptors(run):
    """EMFILE with a queue of clients: what it costs to wait, and how soon it goes on."""
    limit_descriptors(200)
    loop, connections, reports = run.new_loop(), [], []
    loop.set_exception_handler(lambda loop, context: reports.append(context["message"]))

    class Protocol(asyncio.Protocol):
        def connection_made(self, transport):
            connections.append(transport)

    async def main():
        server = await loop.create_server(Protocol, "127.0.0.1", 0, backlog=500)
        child = Child(queue_up, server.sockets[0].getsockname(), 400)
        await loop.run_in_executor(None, child.ask)
        await until(lambda: reports)
        cpu, wall, full = time.process_time(), time.monotonic(), len(connections)
        await asyncio.sleep(run.size(2, 10))
        busy = (time.process_time() - cpu) / (time.monotonic() - wall)
        run.must(len(connections) == full, "a connection without a descriptor")
        freed = time.monotonic()
        limit_descriptors(1000)
        await until(lambda: len(connections) == 400)
        took = time.monotonic() - freed
        server.close()
        for transport in connections:
            transport.abort()
        await asyncio.sleep(0.01)
        child.end()
        return busy, took

    busy, took = loop.run_until_complete(main())
    text = "%.2f %% busy with 400 clients and no descriptors, all accepted %.2f s after there are some" % (
        100 * busy,
        took,
    )
    run.must_in_time(busy <= 0.01 and took <= 1.1, text)
    return text


def connect_many(sock, address, count):
    limit_descriptors(count + 100)
    clients = []
    for number in range(count):
        client = socket.socket()
        client.bind(("127.0.0.%d" % (2 + number % 50), 0))
        client.connect(address)
        clients.append(client)
    sock.recv(1)
    sock.send(b"x")
    sock.recv(1)
    for number, client in enumerate(clients):
        client.send(b"%d" % number)
    for number, client in enumerate(clients):
        if client.recv(20) != b"%d" % number:
            raise AssertionError(number)
    sock.send(b"y")
    sock.recv(1)


def connections(run):
    """So many at a time, each asked once."""
    count = min(run.size(1000, 20000), limit_descriptors(20100) - 100)
    loop, made = run.new_loop(), []

    class Echo(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport
            made.append(transport)

        def data_received(self, data):
            self.transport.write(data)

    async def main():
        server = await loop.create_server(Echo, "127.0.0.1", 0, backlog=1000)
        before, began = attack.resident(), time.monotonic()
        child = Child(connect_many, server.sockets[0].getsockname(), count)
        await until(lambda: len(made) == count, 600)
        took, memory = time.monotonic() - began, attack.resident() - before
        await loop.run_in_executor(None, child.ask)
        answer = await loop.run_in_executor(None, child.ask)
        run.must(answer == b"y", "an answer is missing or wrong")
        child.end()
        server.close()
        await until(lambda: all(transport.is_closing() for transport in made), 600)
        return took, memory

    took, memory = loop.run_until_complete(main())
    return "%d at once, accepted in %.1f s, %d bytes each, each answered" % (count, took, memory / count)


def storm(sock, address, count, seed):
    linger = bytes(bytearray([1, 0, 0, 0, 0, 0, 0, 0]))
    for number in range(count):
        client = socket.socket()
        client.connect(address)
        if (number * 7919 + seed) % 3 == 0:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)  # close() sends a reset
        elif (number + seed) % 3 == 0:
            client.send(b"x")
        client.close()
    sock.send(b"x")
    sock.recv(1)


def accept_storm(run):
    """Clients that connect and leave at once, by reset and otherwise, beside one that is answered all the time."""
    loop, count, made, lost = run.new_loop(), run.size(500, 20000), [0], [0]
    before = attack.descriptors()

    class Echo(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport
            made[0] += 1

        def data_received(self, data):
            self.transport.write(data)

        def connection_lost(self, error):
            lost[0] += 1

    async def main():
        server = await loop.create_server(Echo, "127.0.0.1", 0, backlog=1000)
        address = server.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(*address)
        children = [Child(storm, address, count // 4, n) for n in range(4)]
        ended = [loop.run_in_executor(None, child.sock.recv, 1) for child in children]
        times = []
        while not all(future.done() for future in ended):
            began = time.monotonic()
            writer.write(b"ping")
            await reader.readexactly(4)
            times.append(time.monotonic() - began)
        # A connection that was reset in the queue may never be accepted.
        await until(lambda: lost[0] == made[0] - 1)
        for child in children:
            child.end()
        writer.close()
        server.close()
        await until(lambda: lost[0] == made[0])
        return times

    times = loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_default_executor()) if sys.version_info >= (3, 9) else None
    loop.close()
    run.must(attack.descriptors() <= before, "%d descriptors are left" % (attack.descriptors() - before))
    return "%d connections come and go, %d accepted, no descriptor left; ping beside them %.1f ms at p99" % (
        count,
        made[0] - 1,
        1000 * attack.percentile(times, 0.99),
    )


def connect_and_sleep(sock, address, count):
    clients = [socket.create_connection(address) for _ in range(count)]
    sock.recv(1)
    del clients[:]
    sock.send(b"x")


def slow_readers(run):
    """Clients that read nothing of much: what is kept for each is bounded by the water marks and the kernel's buffers."""
    loop, count, each = run.new_loop(), run.size(20, 200), run.size(20, 100) << 20
    tasks = []

    async def serve(reader, writer):
        tasks.append(asyncio.current_task())
        piece = bytes(1 << 16)
        try:
            for _ in range(each >> 16):
                writer.write(piece)
                await writer.drain()
        except ConnectionError:
            pass
        writer.close()

    async def main():
        server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=count)
        before = attack.resident()
        child = Child(connect_and_sleep, server.sockets[0].getsockname(), count)
        await until(lambda: len(tasks) == count)
        await asyncio.sleep(1)
        memory = attack.resident() - before
        await loop.run_in_executor(None, child.ask)
        await asyncio.wait(tasks)
        child.end()
        server.close()
        return memory

    memory = loop.run_until_complete(main())
    text = "%d clients that do not read, %d MiB for each: %d KiB kept for each" % (
        count,
        each >> 20,
        memory / count / 1024,
    )
    run.must(memory / count < 512 * 1024, text)
    return text


def pour(sock, address, seconds):
    client = socket.create_connection(address)
    piece, end = bytes(1 << 18), time.monotonic() + seconds
    while time.monotonic() < end:
        client.sendall(piece)
    sock.send(b"x")
    sock.recv(1)


def firehose(run):
    """A ticker of 2 ms beside connections that send as fast as they can: how late it is."""
    loop, seconds, late, received = run.new_loop(), run.size(2, 20), [], [0]

    class Sink(asyncio.Protocol):
        def data_received(self, data):
            received[0] += len(data)

    async def main():
        server = await loop.create_server(Sink, "127.0.0.1", 0)
        child = Child(pour, server.sockets[0].getsockname(), seconds)
        ended = loop.run_in_executor(None, child.sock.recv, 1)
        while not ended.done():
            due = loop.time() + 0.002
            await asyncio.sleep(0.002)
            late.append(loop.time() - due)
        child.end()
        server.close()
        await asyncio.sleep(0)

    loop.run_until_complete(main())
    p = 1000 * attack.percentile(late, 0.999)
    text = "%.0f MiB/s beside a ticker of 2 ms: it is %.2f ms late at p99.9, %.2f ms at most" % (
        received[0] / seconds / (1 << 20),
        p,
        1000 * max(late),
    )
    run.must_in_time(p <= 4, text)
    return text


# Calls and timers


def producers(run):
    """Threads that call call_soon_threadsafe() as fast as they can: each call runs, once, in its thread's order."""
    loop, threads, each = run.new_loop(), 16, run.size(5000, 100000)
    seen, wrong = [0] * threads, [0]

    def arrive(thread, number):
        wrong[0] += seen[thread] != number
        seen[thread] = number + 1

    def produce(thread):
        for number in range(each):
            loop.call_soon_threadsafe(arrive, thread, number)

    async def main():
        made = [threading.Thread(target=produce, args=(n,)) for n in range(threads)]
        for thread in made:
            thread.start()
        await until(lambda: sum(seen) >= threads * each, 600)
        for thread in made:
            thread.join()
        await asyncio.sleep(0.01)

    began = time.monotonic()
    loop.run_until_complete(main())
    run.must(not wrong[0] and sum(seen) == threads * each, "%d out of order, %d calls" % (wrong[0], sum(seen)))
    return "%d calls of %d threads, all run, in order, %d/s" % (
        sum(seen),
        threads,
        sum(seen) / (time.monotonic() - began),
    )


def timers(run):
    """Many, a third of them cancelled: none is early, none runs twice, none that is cancelled runs."""
    loop, count = run.new_loop(), run.size(20000, 1000000)
    ran, early, cancelled, late = bytearray(count), [0], bytearray(count), []
    resolution = time.get_clock_info("monotonic").resolution

    def due(number, when):
        now = loop.time()
        early[0] += now + resolution < when
        ran[number] += 1
        if number % 100 == 0:
            late.append(now - when)

    handles = []
    for number in range(count):
        when = loop.time() + run.random.random() * run.size(1, 5)
        handles.append(loop.call_at(when, due, number, when))
    for number in range(0, count, 3):
        handles[number].cancel()
        cancelled[number] = 1

    async def main():
        await until(lambda: sum(ran) >= count - sum(cancelled), 600)
        await asyncio.sleep(0.1)

    loop.run_until_complete(main())
    run.must(early[0] == 0, "%d are early" % early[0])
    run.must(max(ran) == 1, "one runs twice")
    run.must(not any(ran[n] and cancelled[n] for n in range(count)), "one that is cancelled runs")
    return "%d timers, %d cancelled: 0 early, 0 twice" % (count, sum(cancelled))


# Processes


def children(run):
    """Many short processes, a hundred at a time: each status is told, nothing is left."""
    loop, count, wrong = run.new_loop(), run.size(200, 10000), [0]
    before = attack.descriptors()

    async def one(number):
        process = await asyncio.create_subprocess_exec("/bin/sh", "-c", "exit %d" % (number % 100))
        wrong[0] += await process.wait() != number % 100

    async def main():
        asyncio.get_child_watcher() if sys.version_info < (3, 12) and run.loop_name == "asyncio" else None
        slots = asyncio.Semaphore(100)

        async def limited(number):
            async with slots:
                await asyncio.wait_for(one(number), 120)

        await asyncio.gather(*[limited(number) for number in range(count)])

    began = time.monotonic()
    loop.run_until_complete(main())
    took = time.monotonic() - began
    loop.close()
    try:
        left = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        left = None
    run.must(left is None, "a child is left: %r" % (left,))
    run.must(not wrong[0], "%d statuses are wrong" % wrong[0])
    run.must(attack.descriptors() <= before, "%d descriptors are left" % (attack.descriptors() - before))
    return "%d children, each status right, no zombie and no descriptor left, %d/s" % (count, count / took)


ATTACKS = [out_of_descriptors, connections, accept_storm, slow_readers, firehose, producers, timers, children]

if __name__ == "__main__":
    sys.exit(attack.main(__file__, __doc__, {function.__name__: function for function in ATTACKS}))
