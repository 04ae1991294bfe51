"""Stands for uvloop in its own tests, and in the programs that they start.

CONFORMANCE_LOOP names the package behind it: cloop or, to see what asyncio says to a test, asyncio.
UVLOOP_TESTS is the folder with uvloop's own uvloop/_testbase.py.
"""

import os
import sys

__path__.append(os.path.join(os.environ["UVLOOP_TESTS"], "uvloop"))

if os.environ["CONFORMANCE_LOOP"] == "asyncio":
    from asyncio import SelectorEventLoop as Loop
    from asyncio import run, unix_events

    new_event_loop = Loop
    EventLoopPolicy = getattr(unix_events, "_DefaultEventLoopPolicy", None) or unix_events.DefaultEventLoopPolicy
else:
    sys.path.append(os.path.abspath(os.path.join(__file__, *[os.pardir] * 5)))  # after an installed cloop
    from cloop import EventLoopPolicy, Loop, __version__, install, new_event_loop, run
