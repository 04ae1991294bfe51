"""Which rows are counted, and over how many operations."""

from __future__ import annotations

from typing import Dict, NamedTuple


class Counted(NamedTuple):
    #: The figure is the difference between twice so many operations and as many.
    operations: int
    #: Counted at each change, and not only by night.
    quick: bool = True
    #: Other threads or processes work in it: time is the real one, and the figure may vary by more than 1 %.
    real_time: bool = False
    #: Most of it is the code of others, in whichever version is installed.
    foreign: bool = False
    #: How often it writes depends on when the kernel makes room: its system calls vary by a tenth.
    bulk: bool = False

    @property
    def guarded(self) -> bool:
        """Whether it has an accepted figure."""
        return not (self.real_time or self.foreign)


ROWS: Dict[str, Counted] = {
    "call_soon_chain": Counted(4_000),
    "call_soon_fan_out": Counted(4_000),
    "future_wakeup": Counted(2_000),
    "create_task_await": Counted(1_000),
    "sleep_0": Counted(2_000),
    "gather_1000": Counted(1_000),
    "call_later_cancel": Counted(4_000),
    "deadline_around_await": Counted(1_000),
    "timers_fire_1000": Counted(2_000),
    "add_remove_reader": Counted(2_000),
    "run_until_complete": Counted(500),
    "tcp_echo_protocol": Counted(1_000),
    "tcp_echo_buffered": Counted(1_000),
    "tcp_echo_100k": Counted(100),
    "pingpong": Counted(500),
    "small_replies": Counted(10_000),
    "writelines": Counted(10_000),
    "bulk_send": Counted(200, bulk=True),
    "bulk_recv": Counted(200),
    "sendfile": Counted(100),
    "streams_echo": Counted(500),
    "streams_readline": Counted(500),
    "streams_lines": Counted(2_000),
    "streams_connections": Counted(100),
    "sock_echo_1k": Counted(1_000),
    "sock_echo_100k": Counted(100),
    "udp_echo": Counted(1_000),
    "unix_echo": Counted(1_000),
    "accept_close": Counted(200),
    "client_connect": Counted(100),
    "tls_echo_1k": Counted(250),
    "tls_echo_100k": Counted(20),
    "tls_streams_1k": Counted(250),
    "tls_small_replies": Counted(5_000),
    "tls_bulk_send": Counted(40, bulk=True),
    "tls_bulk_recv": Counted(40),
    "tls_handshake": Counted(20),
    "http_raw": Counted(1_000),
    "pipe_bulk": Counted(200),
    "child_echo": Counted(200),
    # By night, or by hand.
    "timers_pending_1000": Counted(4_000, quick=False),
    "firing_pending_1000": Counted(1_000, quick=False),
    "tasks_pending_1000": Counted(1_000, quick=False),
    "callbacks_pending_1000": Counted(4_000, quick=False),
    "sleep_0_of_100": Counted(2_000, quick=False),
    "wait_for_nested": Counted(300, quick=False),
    "timeouts_nested": Counted(300, quick=False),
    "wait_10": Counted(500, quick=False),
    "as_completed": Counted(500, quick=False),
    "shield": Counted(500, quick=False),
    "async_generator": Counted(1_000, quick=False),
    "condition_ping_pong": Counted(500, quick=False),
    "barrier": Counted(500, quick=False),
    "loop_open_close": Counted(50, quick=False),
    "reader_ping_pong": Counted(1_000, quick=False),
    "write_1": Counted(1_000, quick=False),
    "write_2": Counted(2_000, quick=False),
    "write_10": Counted(5_000, quick=False),
    "writelines_1": Counted(1_000, quick=False),
    "writelines_10": Counted(5_000, quick=False),
    "streams_write_1": Counted(500, quick=False),
    "streams_write_10": Counted(2_000, quick=False),
    "streams_write_50": Counted(5_000, quick=False),
    "udp_burst": Counted(1_600, quick=False),
    "echo_buffered_100k_10": Counted(100, quick=False),
    "echo_protocol_1m_1": Counted(20, quick=False),
    "echo_streams_1m_1": Counted(10, quick=False),
    "echo_sock_1m_1": Counted(10, quick=False),
    "client_connect_local_addr": Counted(100, quick=False),
    "client_connect_eyeballs": Counted(50, quick=False),
    "client_connect_tls": Counted(10, quick=False),
    "client_streams_1k": Counted(500, quick=False),
    "tls12_echo_1k": Counted(250, quick=False),
    "tls_handshake_resumed": Counted(20, quick=False),
    "http_uvicorn_10k": Counted(300, quick=False, foreign=True),
    "websocket_uvicorn": Counted(300, quick=False, foreign=True),
    "client_aiohttp": Counted(100, quick=False, foreign=True),
    "metrics_reading": Counted(4_000, quick=False),
    "metrics_difference": Counted(2_000, quick=False),
    "hooked_chain": Counted(4_000, quick=False),
    "hooked_fan_out": Counted(4_000, quick=False),
    "counted_fan_out": Counted(4_000, quick=False),
    "counted_create_task": Counted(1_000, quick=False),
    "counted_sleep_0": Counted(2_000, quick=False),
    "wait_for": Counted(500, quick=False),
    "task_group": Counted(1_000, quick=False),
    "timeout_around_await": Counted(500, quick=False),
    "event_ping_pong": Counted(1_000, quick=False),
    "queue_ping_pong": Counted(500, quick=False),
    "lock_traffic": Counted(500, quick=False),
    "semaphore_traffic": Counted(500, quick=False),
    "queue_nowait": Counted(1_000, quick=False),
    "lock_free": Counted(1_000, quick=False),
    "semaphore_free": Counted(1_000, quick=False),
    "gather_3": Counted(500, quick=False),
    "sleep_short": Counted(500, quick=False),
    "timers_fire": Counted(100_000, quick=False),
    "getaddrinfo_numeric": Counted(500, quick=False),
    "tcp_echo_10k": Counted(500, quick=False),
    "streams_read": Counted(500, quick=False),
    "streams_100k": Counted(100, quick=False),
    "tls_echo_10k": Counted(100, quick=False),
    "http_protocol": Counted(1_000, quick=False, foreign=True),
    "http_uvicorn": Counted(500, quick=False, foreign=True),
    "http_aiohttp": Counted(500, quick=False, foreign=True),
    "run_in_executor": Counted(200, quick=False, real_time=True),
    "to_thread": Counted(200, quick=False, real_time=True),
    "run_coroutine_threadsafe": Counted(200, quick=False, real_time=True),
    "call_soon_threadsafe": Counted(5_000, quick=False, real_time=True),
    "spawn_communicate": Counted(50, quick=False, real_time=True),
}
