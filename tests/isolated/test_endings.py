"""What a callback has written reaches the peer however the process then ends, and only once, whoever forks. If it ends
abruptly, the writes of its own callback may be lost, if the transport has learnt to hold them
(docs/decisions/0007).

A script is the peer. For each ending it forks a process with a loop, and notes what it receives up to EOF.
"""

import ast
import os

import pytest

pytestmark = pytest.mark.skipif("CLOOP_GATHER" in os.environ, reason="CLOOP_GATHER is set")

SCRIPT = """
import os, signal, socket, ssl, sys, threading

medium, endings = sys.argv[1], sys.argv[2].split(",")
os.chdir(sys.argv[3])


# Endings: what the callback does when it has written

class Unexpected(Exception):
    pass

def stop(loop, transport):
    loop.stop()

def close(loop, transport):
    transport.close()
    loop.call_later(0.01, loop.stop)

def exception(loop, transport):
    loop.call_soon(loop.stop)
    raise Unexpected

def system_exit(loop, transport):
    "To the end of the interpreter, if the loop lets it pass."
    sys.exit()

def signalled(loop, transport):
    signal.raise_signal(signal.SIGINT)

def _exit(loop, transport):
    os._exit(0)

def execv(loop, transport):
    os.execv("/bin/true", ["true"])

def kill(loop, transport):
    os.kill(os.getpid(), signal.SIGKILL)

def fork(loop, transport):
    "The child ends at once."
    wait_for(os.fork() or os._exit(0))
    transport.write(b"parent ")
    loop.stop()

def fork_first(loop, transport):
    "The child goes on when the parent has ended; it has nothing to say."
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.close(writing)
        os.read(reading, 1)
        loop.call_soon(os._exit, 0)
        return
    transport.write(b"parent ")
    loop.stop()

def fork_both(loop, transport):
    "The child says something in this callback and in the next."
    pid = os.fork()
    if pid == 0:
        transport.write(b"child ")
        loop.call_soon(transport.write, b"goes ")
        loop.call_soon(lambda: (transport.write(b"on "), loop.call_soon(os._exit, 0)))
        return
    wait_for(pid)
    transport.write(b"parent ")
    loop.stop()

def fork_exec(loop, transport):
    pid = os.fork()
    if pid == 0:
        os.execv("/bin/true", ["true"])
    wait_for(pid)
    transport.write(b"parent ")
    loop.stop()

def fork_thread(loop, transport):
    "Another thread forks, and its child runs the loop, if it can."
    def other():
        pid = os.fork()
        if pid == 0:
            try:
                loop.call_soon(os._exit, 0)
                loop.run_forever()
            finally:
                os._exit(0)
        wait_for(pid)

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    transport.write(b"parent ")
    loop.stop()

def wait_for(pid):
    assert os.waitpid(pid, 0)[1] == 0


# The process that ends

async def connect(loop, to):
    kind = asyncio.Protocol
    if medium == "tcp":
        return (await loop.create_connection(kind, *to))[0]
    if medium == "unix":
        return (await loop.create_unix_connection(kind, to))[0]
    if medium == "tls":
        context = ssl.create_default_context(cafile="authority.pem")
        return (await loop.create_connection(kind, *to, ssl=context, server_hostname="localhost"))[0]
    if medium == "pipe":
        return (await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(to, "wb", 0)))[0]
    made = await loop.subprocess_exec(asyncio.SubprocessProtocol, "cat", stdout=to, stderr=None)
    os.close(to)
    return made[0].get_pipe_transport(0)

def run(how, taught, to):
    loop = new_loop()
    asyncio.set_event_loop(loop)
    loop.set_exception_handler(lambda loop, context: None)
    transport = loop.run_until_complete(connect(loop, to))

    def write(*data):
        for part in data:
            transport.write(part)

    def end():
        write(b"first ", b"second ")
        globals()[how](loop, transport)

    if taught:
        for _ in range(8):
            loop.call_soon(write, b".", b".")
            loop.call_soon(loop.stop)
            loop.run_forever()
    loop.call_soon(write, b"early ")
    loop.call_soon(end)
    loop.run_forever()


# The peer

def hear(how, taught):
    if medium in ("tcp", "tls"):
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
    elif medium == "unix":
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(b"")  # an address of the kernel's choice
    else:
        reading, writing = os.pipe()
    if medium in ("tcp", "tls", "unix"):
        listener.listen()
        writing = listener.getsockname()
    pid = os.fork()
    if pid == 0:
        try:
            run(how, taught, writing)
        except KeyboardInterrupt:
            pass
        if how == "stop":
            sys.exit()  # the interpreter's own end takes its time: once is enough
        os._exit(0)
    if medium in ("pipe", "stdin"):
        os.close(writing)
        read = lambda: os.read(reading, 1000)
    else:
        sock = listener.accept()[0]
        listener.close()
        if medium == "tls":
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.num_tickets = 0  # unread, they would have the end reset the connection
            context.load_cert_chain("server.pem")
            sock = context.wrap_socket(sock, server_side=True)
        read = lambda: sock.recv(1000)
    heard = b""
    while True:
        data = read()
        if not data:
            break
        heard += data
    os.waitpid(pid, 0)
    if medium in ("pipe", "stdin"):
        os.close(reading)
    else:
        sock.close()
    return heard.decode()

signal.alarm(100)
new_loop().close()  # what it imports need not be imported by each
print([{how: hear(how, taught) for how in endings} for taught in (False, True)])
"""

SOFT = ["stop", "close", "exception", "system_exit", "signalled"]
HARD = ["_exit", "execv", "kill"]
FORKS = dict.fromkeys(["fork", "fork_first", "fork_exec", "fork_thread"], "parent ")
FORKS["fork_both"] = "child goes on parent "


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Creates a folder with the certificates of an authority and of localhost, and the key."""

    def certificates():
        trustme = pytest.importorskip("trustme")
        folder = tmp_path_factory.mktemp("certificates")
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(folder / "authority.pem"))
        issued = authority.issue_cert("localhost")
        issued.private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
        return folder

    made = []
    return lambda: made[0] if made else made.append(certificates()) or made[0]


@pytest.mark.parametrize("medium", ["tcp", "unix", "tls", "pipe", "stdin"])
def test_peer_hears_all_of_a_process_that_ends(script, loop_kind, certificates, medium):
    # Both sides of a fork would encrypt different records with the same key and number.
    forks = [how for how in FORKS if how != "fork_both" or medium != "tls"]
    folder = certificates() if medium == "tls" else "."
    endings = ",".join(SOFT + HARD + forks)
    fresh, taught = ast.literal_eval(script(SCRIPT, medium, endings, folder, options=["-W", "ignore"]))
    for heard, before, may_lose in ((fresh, "", False), (taught, 16 * ".", loop_kind != "asyncio")):
        all = before + "early first second "
        allowed = {all, before + "early "} if may_lose else {all}
        hard = {how: heard.pop(how) for how in HARD}
        assert heard == dict(dict.fromkeys(SOFT, all), **{how: all + FORKS[how] for how in forks})
        assert set(hard.values()) <= allowed, hard
