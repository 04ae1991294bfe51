"""Tests that cloop fails because they look inside asyncio's own Python loop.

Public behaviour is never excused here. A test belongs here if what it replaces or reads is private to
asyncio.base_events, asyncio.selector_events or asyncio.unix_events, so that a correct loop may still fail it. A
listed test that passes fails the run. `listing.py` says how a test is named.
"""

from listing import test

ENTRIES = [
    test(
        "test_base_events.BaseEventLoopTests.test_not_implemented",
        "wants what BaseEventLoop leaves to its subclasses, transports and the like, not to be there",
    ),
    test(
        "test_base_events.BaseEventLoopTests.test__run_once_cancelled_event_cleanup",
        "counts the cancelled timers in loop._scheduled: here they leave it at once (decision 0003)",
    ),
    test(
        "test_events.*EventLoopTests.test_internal_fds",
        "reads _internal_fds, _ssock and _csock: the count and the two ends of asyncio's self-pipe",
    ),
    test(
        "test_unix_events.SelectorEventLoopSignalTests.test_close_on_finalizing",
        "replaces the names sys and signal inside asyncio.unix_events to pretend that the interpreter ends",
    ),
]

# cloop passes these because its loop derives from asyncio's; other loops need not.
OF_ASYNCIOS_LOOP = [
    test(
        "test_base_events.BaseEventLoopWithSelectorTests.*",
        "replaces the name socket inside asyncio.base_events by a mock, and calls loop._accept_connection()",
    ),
    test(
        "test_unix_events.SelectorEventLoopSignalTests.*",
        "replaces the name signal inside asyncio.unix_events, and reads loop._signal_handlers",
    ),
    test("test_unix_events.SelectorEventLoopUnixSockSendfileTests.*", "calls loop._sock_sendfile_native()"),
    test("test_events.*EventLoopTests.test_prompt_cancellation", "calls loop._stop_serving()"),
    test("test_events.*EventLoopTests.test_timeout_rounding", "replaces loop._run_once()"),
]

# Modules that are not about a loop on Unix.
MODULES = {
    "test_proactor_events": "tests asyncio.proactor_events against mocks",
    "test_tools": "prints tables of tasks from data of its own, for `python -m asyncio ps`: no loop runs",
    "test_windows_events": "Windows only",
    "test_windows_utils": "Windows only",
}
