"""What an installed wheel must do, in some seconds and with the standard library alone.

    python release/smoke.py [VERSION]     from any folder but the checkout; VERSION is what must be installed

It needs no TLS, no child and no second address family to be there: an emulator may lack them.
"""

import asyncio
import os
import signal
import subprocess
import sys

import cloop


async def echo(reader, writer):
    async for line in reader:
        writer.write(line.upper())
        await writer.drain()
    writer.close()


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self):
        self.received = asyncio.get_running_loop().create_future()

    def datagram_received(self, data, address):
        self.received.set_result(data)


async def main():
    loop = asyncio.get_running_loop()
    assert isinstance(loop, cloop.Loop) and isinstance(asyncio.current_task(), cloop.Task)

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    for reader, writer in [await asyncio.open_connection(*address) for _ in range(10)]:
        writer.write(b"one\ntwo\n")
        assert [await reader.readline(), await reader.readline()] == [b"ONE\n", b"TWO\n"]
        writer.close()
        await writer.wait_closed()
    server.close()
    await server.wait_closed()

    receiving, protocol = await loop.create_datagram_endpoint(Datagrams, local_addr=("127.0.0.1", 0))
    sending, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, remote_addr=receiving.get_extra_info("sockname")
    )
    sending.sendto(b"datagram")
    assert await protocol.received == b"datagram"
    sending.close()
    receiving.close()

    assert await asyncio.gather(*[asyncio.sleep(0.001, n) for n in range(100)]) == list(range(100))
    assert await loop.run_in_executor(None, sum, [1, 2, 3]) == 6
    before = loop.time()
    await asyncio.sleep(0.01)
    assert loop.time() - before >= 0.01
    signalled = loop.create_future()
    loop.add_signal_handler(signal.SIGUSR1, signalled.set_result, None)
    os.kill(os.getpid(), signal.SIGUSR1)
    await signalled

    process = await asyncio.create_subprocess_exec("cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert (await process.communicate(b"through a child"))[0] == b"through a child" and process.returncode == 0
    return loop.metrics().turns


if __name__ == "__main__":
    for wanted in sys.argv[1:]:
        assert cloop.__version__ == wanted, cloop.__version__
    folder = os.path.dirname(cloop.__file__)
    for name in "py.typed", "__init__.pyi", "_cloop.pyi":
        assert os.path.exists(os.path.join(folder, name)), name
    turns = cloop.run(main())
    from cloop._main import info

    print(info())
    print("smoke test of cloop %s passed in %d turns" % (cloop.__version__, turns))
