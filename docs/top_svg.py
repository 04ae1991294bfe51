"""Makes docs/top.svg: the console beside a small server under load. Needs rich.

python docs/top_svg.py
"""

import asyncio
import io
import os
import sys
import tempfile
import threading
import time

from rich.console import Console

import cloop
from cloop import _console

WIDTH, HEIGHT = 84, 16
HERE = os.path.dirname(os.path.abspath(__file__))


async def handle(reader, writer):
    while await reader.readline():
        writer.write(b"pong\n")
        await writer.drain()
    writer.close()


async def client(path, stop):
    reader, writer = await asyncio.open_unix_connection(path)
    while not stop.is_set():
        writer.write(b"ping\n")
        await reader.readline()
        await asyncio.sleep(0.02)
    writer.close()


async def main(path, stop):
    server = await asyncio.start_unix_server(handle, path)
    await asyncio.gather(*[client(path, stop) for _ in range(40)])
    server.close()
    await asyncio.sleep(0.1)  # the handlers end


def picture(model):
    terminal = Console(record=True, width=WIDTH, height=HEIGHT, file=io.StringIO(), force_terminal=True)
    terminal.print(_console.rich_screen(model.screen(), WIDTH, HEIGHT))
    return terminal.export_svg(title="python -m cloop top")


def run():
    stop = threading.Event()
    with tempfile.TemporaryDirectory() as folder:
        monitor = cloop.serve_monitor(os.path.join(folder, "monitor"))
        thread = threading.Thread(target=lambda: cloop.run(main(os.path.join(folder, "server"), stop)))
        thread.start()
        sys.argv[:] = ["server.py"]
        source = _console.Source(monitor.path)
        model = _console.Model([source])
        for _ in range(3):
            time.sleep(1)
            model.read()
        with open(os.path.join(HERE, "top.svg"), "w") as file:
            file.write(picture(model))
        source.close()
        stop.set()
        thread.join()
        monitor.close()


if __name__ == "__main__":
    run()
