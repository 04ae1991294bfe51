"""Objects in C that are weakly referenced: the references die with them, and their callbacks are called once."""

import asyncio
import gc
import importlib
import socket
import weakref

import pytest


async def nothing():
    pass


def core(loop, module):
    """A loop that no Python class has extended."""
    return module.LoopCore()


def method(loop, module):
    def function(self):
        pass

    return module.look_like(module.LoopCore.call_soon, function)


def handle(loop, module):
    return loop.call_soon(print)


def timer(loop, module):
    return loop.call_later(1000, print)


def future(loop, module):
    return loop.create_future()


def task(loop, module):
    made = loop.create_task(nothing())
    loop.run_until_complete(made)
    return made


def transport(loop, module):
    ours, theirs = socket.socketpair()
    theirs.close()
    made, _ = loop.run_until_complete(loop.create_connection(asyncio.Protocol, sock=ours))
    made.abort()
    return made


@pytest.mark.parametrize("make", [core, method, handle, timer, future, task, transport], ids=lambda make: make.__name__)
def test_a_weak_reference(cloop, new_loop, make):
    loop, dead = new_loop(), []
    reference = weakref.ref(make(loop, importlib.import_module("cloop._cloop")), dead.append)
    if make in (handle, timer, transport):
        loop.call_soon(loop.stop)
        loop.run_forever()
    loop.close()
    gc.collect()
    assert reference() is None and dead == [reference]
