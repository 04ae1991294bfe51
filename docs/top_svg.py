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


async def client(path):
    reader, writer = await asyncio.open_unix_connection(path)
    while True:
        writer.write(b"ping\n")
        await reader.readline()
        await asyncio.sleep(0.002)


async def main(path, stop):
    server = await asyncio.start_unix_server(handle, path)
    clients = [asyncio.ensure_future(client(path)) for _ in range(40)]
    await asyncio.get_running_loop().run_in_executor(None, stop.wait)
    for each in clients:
        each.cancel()
    server.close()


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
