"""Event loops by the name of their module."""

from __future__ import annotations

import asyncio
import importlib
import platform
from typing import Any


def open_loop(name: str) -> asyncio.AbstractEventLoop:
    """A new loop of the module `name`; "asyncio" is its SelectorEventLoop."""
    if name == "asyncio":
        return asyncio.SelectorEventLoop()
    module = importlib.import_module(name)
    if name == "aiofastnet":  # transports for whichever loop
        return module.patch_loop(open_loop("uvloop"))
    factory: Any = getattr(module, "new_event_loop", None)
    if factory is None:
        factory = module.EventLoopPolicy().new_event_loop
    return factory()


def loop_version(name: str) -> str:
    if name == "asyncio":
        return platform.python_version()
    return getattr(importlib.import_module(name), "__version__", "unknown")
