"""A service that tells how it is: an echo server, and beside it an endpoint in Prometheus' text format.

    python -m cloop examples/metrics.py --port 8888 --metrics-port 9100
    curl http://127.0.0.1:9100/metrics

What the loop counts by itself comes from loop.metrics(), which cloop has and asyncio has not. The rest any loop can tell:
how many tasks there are, how much is waiting to be sent, and by how much timers are late, which is the first thing that
a user feels of a loop that is busy.
"""

import argparse
import asyncio
import signal
from typing import Any, Callable, Dict, List, Optional, Set


class Lateness:
    """Sets a timer again and again, and keeps by how much it was late, in seconds."""

    def __init__(self, interval: float) -> None:
        self.interval = interval
        self.last = self.worst = 0.0

    async def watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + self.interval
            await asyncio.sleep(self.interval)
            self.last = max(loop.time() - due, 0)
            self.worst = max(self.worst, self.last)


class Service:
    def __init__(self) -> None:
        self.writers: Set[asyncio.StreamWriter] = set()
        self.connections = self.bytes = 0

    async def echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.add(writer)
        try:
            while True:
                data = await reader.read(64 * 1024)
                if not data:
                    break
                self.bytes += len(data)
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        except asyncio.CancelledError:
            pass  # by run(), at the end of the program: asyncio's streams would log it, before Python 3.12
        finally:
            self.writers.remove(writer)
            writer.close()

    def buffered(self) -> int:
        return sum(writer.transport.get_write_buffer_size() for writer in self.writers)


class Endpoint:
    def __init__(self, service: Service, lateness: Lateness) -> None:
        self.service = service
        self.lateness = lateness

    def values(self) -> Dict[str, float]:
        loop = asyncio.get_running_loop()
        values: Dict[str, float] = {
            "echo_connections_total": self.service.connections,
            "echo_bytes_total": self.service.bytes,
            "echo_connections_open": len(self.service.writers),
            "echo_bytes_buffered": self.service.buffered(),
            "loop_tasks": len(asyncio.all_tasks()),
            "loop_lateness_seconds": self.lateness.last,
            "loop_lateness_worst_seconds": self.lateness.worst,
        }
        metrics: Optional[Callable[[], Any]] = getattr(loop, "metrics", None)
        if metrics is not None:
            reading = metrics()
            values["loop_busy_seconds_total"] = reading.busy_ns / 1e9
            values["loop_idle_seconds_total"] = reading.idle_ns / 1e9
            values["loop_turns_total"] = reading.turns
            values["loop_polls_total"] = reading.polls
            values["loop_callbacks_total"] = reading.callbacks
            values["loop_ready"] = reading.ready
            values["loop_timers"] = reading.timers_pending
        return values

    def text(self) -> str:
        lines: List[str] = []
        for name, value in sorted(self.values().items()):
            lines.append("# TYPE %s %s\n" % (name, "counter" if name.endswith("_total") else "gauge"))
            lines.append("%s %s\n" % (name, value))
        return "".join(lines)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
            found = head.startswith((b"GET /metrics ", b"GET /metrics?"))
            body = self.text().encode() if found else b"see /metrics\n"
            status = "200 OK" if found else "404 Not Found"
            kind = "text/plain; version=0.0.4; charset=utf-8"
            lines = [
                "HTTP/1.1 " + status,
                "Content-Type: " + kind,
                "Content-Length: %d" % len(body),
                "Connection: close",
            ]
            writer.write(("\r\n".join(lines) + "\r\n\r\n").encode() + body)
            await writer.drain()
        except (OSError, EOFError, asyncio.LimitOverrunError, asyncio.TimeoutError):
            pass
        finally:
            writer.close()


async def main(host: str, port: int, metrics_port: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    service, lateness = Service(), Lateness(0.1)
    watch = asyncio.create_task(lateness.watch())
    servers = [
        await asyncio.start_server(service.echo, host, port),
        await asyncio.start_server(Endpoint(service, lateness).serve, host, metrics_port),
    ]
    for server in servers:
        print("listening on %s:%d" % server.sockets[0].getsockname()[:2], flush=True)
    await stop.wait()
    watch.cancel()
    for server in servers:
        server.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="An echo server with metrics. SIGTERM or Ctrl-C ends it.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8888)
    parser.add_argument("--metrics-port", type=int, default=9100)
    options = parser.parse_args()
    asyncio.run(main(options.host, options.port, options.metrics_port))
