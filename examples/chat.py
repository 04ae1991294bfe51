"""A chat over streams: what one client writes, all others read.

    python -m cloop examples/chat.py --port 8888
    nc 127.0.0.1 8888

The first line that a client sends is its name. One that does not read must not make the others wait: when too much is
buffered for it, it is dropped.
"""

import argparse
import asyncio
import signal
from typing import Dict, List, Optional

MOST_BUFFERED = 256 * 1024  # bytes, for one client
LONGEST_LINE = 4096


class Room:
    def __init__(self) -> None:
        self.writers: Dict[str, asyncio.StreamWriter] = {}  # of those who have a name
        self.tasks: "Dict[asyncio.StreamWriter, asyncio.Task[None]]" = {}

    def tell(self, text: str, sender: Optional[str] = None) -> None:
        """Write to all but the sender. Waits for nobody."""
        dropped: List[str] = []
        for name, writer in self.writers.items():
            if writer.transport.get_write_buffer_size() > MOST_BUFFERED:
                dropped.append(name)
            elif name != sender:
                writer.write(text.encode() + b"\n")
        for name in dropped:
            self.writers[name].transport.abort()  # its reader comes to an end, and so does talk()
            self.leave(name)

    def leave(self, name: str) -> None:
        if self.writers.pop(name, None) is not None:
            self.tell("* %s has left" % name)

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"your name?\n")
        name = (await reader.readline()).decode(errors="replace").strip()
        if not name or name in self.writers:
            writer.write(b"not that one\n")
            return
        self.writers[name] = writer
        self.tell("* %s is here, with %d others" % (name, len(self.writers) - 1))
        try:
            async for line in reader:
                if self.writers.get(name) is not writer:
                    break  # dropped
                self.tell("%s: %s" % (name, line.decode(errors="replace").rstrip()), sender=name)
        finally:
            if self.writers.get(name) is writer:
                self.leave(name)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks[writer] = task
        try:
            await self.talk(reader, writer)
        except (ConnectionError, ValueError):
            pass  # gone, or a line that is too long
        except asyncio.CancelledError:
            pass  # by run(), at the end of the program: asyncio's streams would log it, before Python 3.12
        finally:
            del self.tasks[writer]
            writer.close()

    async def end(self) -> None:
        self.tell("* the end")
        self.writers.clear()
        for writer in self.tasks:
            writer.close()  # sends what is buffered
        if self.tasks:
            await asyncio.wait(list(self.tasks.values()), timeout=5)


async def main(host: str, port: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    room = Room()
    server = await asyncio.start_server(room.serve, host, port, limit=LONGEST_LINE)
    print("listening on %s:%d" % server.sockets[0].getsockname()[:2], flush=True)
    await stop.wait()
    server.close()
    await room.end()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A chat server. SIGTERM or Ctrl-C ends it.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8888)
    options = parser.parse_args()
    asyncio.run(main(options.host, options.port))
