"""Tests of uvloop's that cloop does not pass, because they test libuv or Cython, or because uvloop requires what
asyncio forbids. cloop then follows asyncio; each reason says how to check that.

`--suite uvloop --loop asyncio` runs the same tests on asyncio. A listed test that passes fails the run. `listing.py`
says how a test is named.
"""

from listing import test

ENTRIES = [
    # libuv, and uvloop's internals
    test("test_sockets.TestUVSockets.test_socket_sync_remove", "asks loop._get_backend_id() for libuv's epoll"),
    test(
        "test_process.Test_UV_Process.test_process_double_close",
        "counts the os.pipe(), os.dup() and os.close() that uvloop calls for a child",
    ),
    test(
        "test_process.Test_UV_Process_Delayed.test_process_delayed_stdio__paused__*",
        "passes __uvloop_sleep_after_fork=True, which Popen of the subprocess module refuses",
    ),
    test(
        "test_tcp.Test_UV_TCPSSL.test_flush_before_shutdown",
        "asks get_extra_info('uvloop.sslproto'); CPython has the same test, without that, in test_ssl",
    ),
    # uvloop by name
    test("test_base.TestBaseUV.test_thread_name_prefix_in_default_executor", "wants threads named uvloop"),
    test(
        "test_runner.TestSourceCode.test_uvloop_run_2",
        "wants run() to refuse what another loop_factory made; asyncio.run() takes any",
    ),
    # Where uvloop differs from asyncio
    test(
        "test_signals.Test_UV_Signals.test_signals_no_SIGCHLD",
        "wants add_signal_handler(SIGCHLD) refused; asyncio adds it",
    ),
    test(
        "test_sockets.TestUVSockets.test_pseudosocket",
        "wants methods that asyncio.TransportSocket does not have, and its repr() to name AF_UNIX",
    ),
    test(
        "test_sockets.TestUVSockets.test_socket_connect_and_close",
        "wants sock.close() to wait for a pending sock_connect(); asyncio lets the owner close",
    ),
    test(
        "test_sockets.TestUVSockets.test_socket_recv_*and_close",
        "wants sock.close() to wait for a pending sock_recv(); asyncio lets the owner close",
    ),
    test(
        "test_sockets.TestUVSockets.test_socket_close_loop_and_close",
        "wants sock.close() to wait for loop.close(); asyncio lets the owner close",
    ),
    test(
        "test_tcp.Test_UV_TCP.test_create_server_buffered_2",
        "wants a RuntimeError in place of what get_buffer() raised; asyncio passes that on as it is",
    ),
    test(
        "test_unix.Test_UV_Unix.test_epollhup",
        "wants wait_closed() to wait for connections, as asyncio's does from 3.12 on",
        "-3.11",
    ),
    test(
        "test_tcp.Test_UV_TCP.test_tcp_handle_abort_in_connection_made",
        "wants get_extra_info('socket') to be None after abort(); asyncio's is the closed socket, as the test says",
    ),
    test(
        "test_tcp.Test_UV_TCPSSL.test_first_data_after_wakeup",
        "wants start_tls() to return before data that came with the end of the handshake is received",
    ),
    test(
        "test_tcp.Test_UV_TCPSSL.test_shutdown_timeout_handler_not_set",
        "wants eof_received() of TLS while reading is paused; CPython's same test does without",
    ),
    test(
        "test_tcp.Test_UV_TCPSSL.test_shutdown_while_pause_reading",
        "wants eof_received() of TLS after close() while reading is paused",
    ),
    test(
        "test_context.Test_UV_Context.test_create_ssl_server_manual_connection_lost",
        "wants nothing received after close(); asyncio delivers what came before and was held back",
    ),
    test(
        "test_udp.Test_UV_UDP.test_udp_sendto_dns",
        "wants sendto() to refuse names and other families' addresses with ValueError; asyncio lets the socket resolve",
    ),
    test(
        "test_udp.Test_UV_UDP.test_create_datagram_endpoint_wrong_sock",
        "wants another message than asyncio's",
        "3.13-",
    ),
    test(
        "test_base.TestBaseUV.test_set_task_name",
        "wants create_task() to call set_name(); asyncio leaves that to the task factory",
        "3.14-",
    ),
]

# asyncio's TLS before 3.11, when uvloop's implementation became CPython's
UNANSWERED = "waits for an answer to its close_notify, which asyncio's TLS does not give before 3.11"
ENTRIES += [
    test("test_context.Test_UV_Context.test_connect_accepted_socket", UNANSWERED, "-3.10"),
    test("test_context.Test_UV_Context.test_create_connection_protocol", UNANSWERED, "-3.10"),
    test("test_context.Test_UV_Context.test_create_ssl_server_connection_protocol", UNANSWERED, "-3.10"),
    test("test_context.Test_UV_Context.test_start_tls", UNANSWERED, "-3.10"),
    test("test_tcp.Test_UV_TCPSSL.test_create_connection_memory_leak", UNANSWERED, "-3.10"),
    test("test_tcp.Test_UV_TCPSSL.test_start_tls_client_reg_proto_1", UNANSWERED, "-3.10"),
    test("test_tcp.Test_UV_TCPSSL.test_start_tls_server_1", UNANSWERED, "-3.10"),
    test(
        "test_tcp.Test_UV_TCPSSL.test_create_server_ssl_over_ssl", "TLS over TLS, which asyncio has from 3.11", "-3.10"
    ),
    test(
        "test_tcp.Test_UV_TCPSSL.test_shutdown_timeout", "passes ssl_shutdown_timeout=, which is new in 3.11", "-3.10"
    ),
]

OF_ASYNCIOS_LOOP = []

# Modules that are not about a loop's behaviour.
MODULES = {
    "test_cython": "imports a coroutine of Cython's from uvloop.loop",
    "test_fs_event": "imports FileSystemEvent from uvloop.loop: libuv's watching of files, which asyncio does not have",
    "test_libuv_api": "imports the pointers to libuv's loop from uvloop.loop",
    "test_sourcecode": "checks uvloop's source code with flake8 and mypy",
}
