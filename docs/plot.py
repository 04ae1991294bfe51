"""Draws docs/speed.svg from the tables of docs/performance.md: python docs/plot.py"""

import os
import re

HERE = os.path.dirname(os.path.abspath(__file__))
ROWS = {
    "a callback that schedules the next": "callback → callback",
    "call_later + cancel": "call_later + cancel",
    "create_task + await": "create_task + await",
    "TCP echo, 1 KiB, 100 connections, Protocol": "TCP echo, 1 KiB",
    "readexactly + write + drain, 1 KiB": "streams echo, 1 KiB",
    "TLS echo, 1 KiB, 50 connections, Protocol": "TLS echo, 1 KiB",
    "create_subprocess_exec + communicate": "child process",
    "HTTP, uvicorn": "HTTP, uvicorn",
}
LOOPS = (("cloop", "#2a7f62"), ("uvloop", "#8d99ae"), ("asyncio", "#d5d9e0"))
LEFT, WIDTH, BAR, GAP = 170, 430, 9, 12


def medians(text):
    """{row: {loop: cost}}, asyncio's in the column of that name."""
    found = {}
    header = ()
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] == "one operation":
            header = cells
        elif cells[0] in ROWS and cells[0] not in found:
            found[cells[0]] = {
                name: float(re.match(r"[\d.]+", cell)[0])
                for name, cell in zip(header, cells)
                if name in ("cloop", "uvloop", "asyncio")
            }
    return found


def draw(text):
    costs = medians(text)
    lines, y = [], 34
    for row, label in ROWS.items():
        dearest = max(costs[row].values())
        lines.append('<text x="%d" y="%d" text-anchor="end">%s</text>' % (LEFT - 8, y + BAR * 2, label))
        for name, colour in LOOPS:
            length = costs[row][name] / dearest * WIDTH
            lines.append(
                '<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>' % (LEFT, y, length, BAR - 1, colour)
            )
            y += BAR
        y += GAP
    legend = []
    for number, (name, colour) in enumerate(LOOPS):
        x = LEFT + number * 90
        legend.append(
            '<rect x="%d" y="10" width="12" height="12" fill="%s"/><text x="%d" y="20">%s</text>'
            % (x, colour, x + 18, name)
        )
    head = (
        '<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12" role="img">'
        "<title>Processor time of one operation, as a share of the dearest loop; shorter is better</title>"
        '<rect width="100%%" height="100%%" fill="white"/>' % (LEFT + WIDTH + 20, y)
    )
    return "\n".join([head, *legend, *lines, "</svg>", ""])


if __name__ == "__main__":
    with open(os.path.join(HERE, "performance.md"), encoding="utf-8") as file:
        drawing = draw(file.read())
    with open(os.path.join(HERE, "speed.svg"), "w", encoding="utf-8") as file:
        file.write(drawing)
