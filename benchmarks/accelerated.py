"""cloop with asyncio's primitives in C: a loop for `--loops`, as benchmarks.accelerated."""

import cloop
from cloop import new_event_loop

__all__ = ("new_event_loop",)

cloop.accelerate()
