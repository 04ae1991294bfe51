"""Event loops by the name of their module."""

from __future__ import annotations

import asyncio
import importlib
import platform
from typing import Any, List

#: All that `make bench` measures; requirements.txt here has which releases of them.
LOOPS = ("cloop", "asyncio", "uvloop", "rloop", "zuvloop", "talyn", "rsloop", "loopmini", "blazio")

#: No loop, but transports of TCP and TLS for whichever loop.
AIOFASTNET = "aiofastnet"


def is_over(name: str) -> bool:
    """Whether the name is that of aiofastnet over some loop: aiofastnet+LOOP, or aiofastnet for uvloop."""
    return name.partition("+")[0] == AIOFASTNET


def named(text: str, floor: str) -> List[str]:
    """The loops of a list with commas; `all` in it stands for each loop, each under aiofastnet, and the floor."""
    names: List[str] = []
    for name in text.split(","):
        every = (*LOOPS, *(AIOFASTNET + "+" + loop for loop in LOOPS), floor)
        names += every if name == "all" else (name,)
    return list(dict.fromkeys(names))  # a loop named twice would be measured into one column


#: The loop that this process measures, for rows that need another one.
opened = ""


def open_loop(name: str) -> asyncio.AbstractEventLoop:
    """A new loop of the module `name`; "asyncio" is its SelectorEventLoop."""
    global opened
    opened = name
    return _open(name)


def _open(name: str) -> asyncio.AbstractEventLoop:
    if name == "asyncio":
        return asyncio.SelectorEventLoop()
    if is_over(name):
        module = importlib.import_module(AIOFASTNET)
        return module.patch_loop(_open(name.partition("+")[2] or "uvloop"))
    module = importlib.import_module(name)
    factory: Any = getattr(module, "new_event_loop", None)
    if factory is None:
        factory = module.EventLoopPolicy().new_event_loop
    return factory()


def loop_version(name: str) -> str:
    """That of its package; some modules do not tell their own."""
    if name == "asyncio":
        return platform.python_version()
    name = name.partition("+")[0]
    version = getattr(importlib.import_module(name), "__version__", None)
    if version is None:
        try:
            from importlib.metadata import version as of_package

            version = of_package(name)
        except ImportError:
            version = "unknown"
    return str(version)
