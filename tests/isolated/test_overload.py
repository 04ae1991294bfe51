"""Out of descriptors: a server reports it, waits a while without spinning, and continues."""

import json

import pytest

SCRIPT = """
import errno, gc, json, os, resource, socket, time

resource.setrlimit(resource.RLIMIT_NOFILE, (60, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
loop = new_loop()
reports = []
def report(loop, context):
    exception = context["exception"]
    reports.append([context["message"], exception.errno, sorted(context), type(context["socket"]).__name__])
loop.set_exception_handler(report)
made = []

class Protocol(asyncio.Protocol):
    def connection_made(self, transport):
        made.append(transport)

server = loop.run_until_complete(loop.create_server(Protocol, "127.0.0.1", 0, backlog=10))
clients = [socket.socket() for _ in range(5)]
for client in clients:
    client.connect(server.sockets[0].getsockname())
held = []
try:
    while True:
        held.append(os.dup(0))
except OSError as error:
    assert error.errno == errno.EMFILE

loop.call_later(0.4, loop.stop)
cpu, wall = time.process_time(), time.monotonic()
loop.run_forever()
busy = (time.process_time() - cpu) / (time.monotonic() - wall)
first, accepted_first = list(reports), len(made)
for fd in held:
    os.close(fd)
deadline = loop.time() + 10
async def all_accepted():
    while len(made) < 5 and loop.time() < deadline:
        await asyncio.sleep(0.01)
loop.run_until_complete(all_accepted())
own = type(made[0]).__module__.startswith("asyncio.") if made else True
print(json.dumps({"busy": busy, "reports": first, "accepted first": accepted_first, "accepted": len(made),
                  "stock": own, "EMFILE": errno.EMFILE}))
for transport in made:
    transport.abort()
server.close()
for client in clients:
    client.close()
loop.run_until_complete(asyncio.sleep(0))
loop.close()
"""


@pytest.mark.alone  # it measures how busy the loop is
def test_server_out_of_descriptors(script):
    seen = json.loads(script(SCRIPT))
    assert seen["accepted first"] == 0
    report = ["socket.accept() out of system resource", seen["EMFILE"], ["exception", "message", "socket"],
              "TransportSocket"]  # fmt: skip
    assert seen["reports"] and all(entry == report for entry in seen["reports"])
    if not seen["stock"]:
        assert len(seen["reports"]) == 1  # asyncio reports it as often as the backlog allows
    assert seen["busy"] < 0.5
    assert seen["accepted"] == 5
