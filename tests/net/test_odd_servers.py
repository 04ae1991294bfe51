"""Private attributes of servers that a program sets to what asyncio never puts there: connections come, go and are waited for as on
asyncio.
"""

import asyncio
import gc
import socket
import warnings
import weakref

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # of what odd sets call
]


class Set(weakref.WeakSet):
    pass


class WithMethod(weakref.WeakSet):
    def add(self, item):
        raise LookupError


def with_removals():
    """A set that has yet to remove something, as while it is iterated over."""
    made = weakref.WeakSet()
    made._pending_removals = [weakref.ref(WithMethod)]
    return made


VALUES = {
    "none": lambda: None,
    "zero": lambda: 0,
    "one": lambda: 1,
    "negative": lambda: -1,
    "huge": lambda: 10**30,
    "largest": lambda: 2**63 - 1,
    "true": lambda: True,
    "float": lambda: 1.5,
    "text": lambda: "text",
    "list": list,
    "set": set,
    "of a subclass": Set,
    "with a method": WithMethod,
    "with removals": with_removals,
}
NAMES = {"_active_count": VALUES, "_clients": VALUES, "_sockets": ("none", "list"), "_waiters": ("none", "list")}
CASES = [(name, value) for name, values in NAMES.items() for value in values]


def scene(loop, name, value, moment):
    reports, seen, made = [], [], []
    loop.set_exception_handler(lambda loop, context: reports.append(type(context.get("exception")).__name__))

    class Protocol(asyncio.Protocol):
        def connection_made(self, transport):
            made.append(transport)
            seen.append("made")

        def connection_lost(self, exc):
            seen.append("lost")

    async def turns():
        for _ in range(4):
            await asyncio.sleep(0.001)

    async def main():
        server = await loop.create_server(Protocol, "127.0.0.1", 0)
        listeners, kept = list(server._sockets), vars(server).copy()

        def change(when):
            if moment == when and name in kept:
                setattr(server, name, VALUES[value]())

        change("before")
        clients = []
        for number in range(2):
            clients.append(socket.create_connection(listeners[0].getsockname()))
            await turns()
            if number == 0:
                change("while one is connected")
        change("while two are connected")
        clients[0].close()
        await turns()
        waiting = loop.create_task(server.wait_closed())
        await turns()
        seen.append((waiting.done(), repr(vars(server).get("_active_count"))))
        clients[1].close()
        await turns()
        seen.append((waiting.done(), repr(vars(server).get("_active_count"))))
        waiting.cancel()
        seen.append([type(each).__name__ for each in await asyncio.gather(waiting, return_exceptions=True)])
        vars(server).update(kept)
        for transport in made:
            transport.abort()
        await turns()
        server.close()
        await turns()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loop.run_until_complete(main())
        del made[:]
        gc.collect()
    return seen, reports


@pytest.mark.parametrize("name, value", CASES)
@pytest.mark.parametrize("moment", ["before", "while one is connected", "while two are connected"])
def test_as_asyncio(as_asyncio, name, value, moment):
    as_asyncio(lambda loop: scene(loop, name, value, moment))
