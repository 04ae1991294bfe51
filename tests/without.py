"""Runs a program once for each name that cloop takes from asyncio, without that name; test_abi.py reads what it prints.

    python without.py HOW NAME...

HOW is "gone": the module lacks the name from before cloop is imported on; or "renamed": none of asyncio's modules has
it while cloop is imported, and all of them again when the program runs, as if only cloop knew the old name. With
"asyncio" the program runs on asyncio's loop instead, without the name.

With "import" nothing runs.

Each name has a child of this process, which has imported asyncio already. It prints one line of JSON per name: the name,
what went wrong or "", and the parts of cloop that were off.
"""

import asyncio
import base64
import concurrent.futures.thread  # noqa: F401
import importlib
import json
import os
import signal
import socket
import sys
import traceback
import warnings

try:
    import ssl
except ImportError:
    ssl = None

# Bound here: the program is to use nothing by a name that was taken away.
create_subprocess_exec = asyncio.create_subprocess_exec
get_running_loop = asyncio.get_running_loop
open_connection = asyncio.open_connection
sleep = asyncio.sleep
start_server = asyncio.start_server
CancelledError = asyncio.CancelledError
DatagramProtocol = asyncio.DatagramProtocol
LIMIT_S = {"asyncio": 3}  # without some names it waits for ever
PIPE = asyncio.subprocess.PIPE


def tls_contexts():
    """A server's and a client's, without certificates."""
    contexts = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    contexts[1].check_hostname = False
    for context in contexts:
        context.verify_mode = ssl.CERT_NONE
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("aNULL:@SECLEVEL=0")
    return contexts


async def echo(reader, writer):
    writer.write(await reader.readline())
    await writer.drain()
    writer.write(await reader.readexactly(3))
    writer.close()


async def exchange(server_options, client_options):
    server = await start_server(echo, "127.0.0.1", 0, **server_options)
    reader, writer = await open_connection(*server.sockets[0].getsockname(), **client_options)
    writer.write(b"line\nend")
    assert await reader.read(100) in (b"line\n", b"line\nend")
    writer.close()
    server.close()


class Echo(DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        self.transport.sendto(data, address)


async def program():
    loop = get_running_loop()
    future = loop.create_future()

    async def wait():
        return await future

    task, cancelled = loop.create_task(wait()), loop.create_task(sleep(100))
    repr(loop.call_later(0.0001, future.set_result, 42))
    assert await task == 42
    cancelled.cancel()
    try:
        await cancelled
    except CancelledError:
        pass
    await exchange({}, {})
    if ssl is not None:
        server, client = tls_contexts()
        await exchange({"ssl": server}, {"ssl": client})
    endpoint, _ = await loop.create_datagram_endpoint(Echo, ("127.0.0.1", 0))
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, endpoint.get_extra_info("sockname"))
        await loop.sock_sendall(sock, b"x")
        assert await loop.sock_recv(sock, 10) == b"x"
    endpoint.close()
    process = await create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
    assert await process.communicate(b"piped") == (b"piped", None)
    assert process.returncode == 0
    assert await loop.run_in_executor(None, base64.b64encode, b"x") == b"eA=="


def homes():
    names = ["_asyncio", "asyncio"] + [name for name in sys.modules if name.startswith("asyncio.")]
    return [sys.modules[name] for name in names if sys.modules.get(name) is not None]


def take_away(how, module, name):
    """Return what puts the name back."""
    owner = importlib.import_module(module)
    if not hasattr(owner, name):
        owner = getattr(importlib.import_module(module.rpartition(".")[0]), module.rpartition(".")[2])
    taken = [(owner, vars(owner)[name])]
    delattr(owner, name)
    if how == "renamed":
        for home in homes():
            if name in vars(home) and vars(home)[name] is taken[0][1]:
                taken.append((home, vars(home)[name]))
                delattr(home, name)

    def put_back():
        for owner, value in taken:
            setattr(owner, name, value)

    return put_back


def run(how, full):
    """Return the parts of cloop that were off."""
    module, _, name = full.rpartition(".")
    put_back = take_away(how, module, name)
    if how == "asyncio":
        asyncio.run(program())
        return []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RuntimeWarning)
        import cloop
        from cloop import _abi
    off = sorted(part for part in _abi.PARTS if not _abi.has(part))
    told = [str(warning.message) for warning in caught if warning.category is RuntimeWarning]
    assert len(told) == len(off), told
    for text in told:
        assert name in text, text
    if how == "renamed":
        put_back()
    if how != "import":
        cloop.run(program())
    return off


def main(how, names):
    warnings.simplefilter("ignore", RuntimeWarning)  # coroutines that were never awaited
    for full in names:
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            signal.alarm(LIMIT_S.get(how, 30))
            error, off = "", []
            try:
                off = run(how, full)
            except BaseException:
                error = traceback.format_exc()
            print(json.dumps([full, error, off]), flush=True)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        if status != 0:
            print(json.dumps([full, "ended with status %d" % status, []]))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
