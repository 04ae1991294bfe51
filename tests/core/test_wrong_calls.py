"""What C code says to calls that it cannot take: an exception, and never one that only C code can cause."""

import asyncio
import functools
import importlib
import inspect
import os
import signal
import socket
import types

import pytest

# What runs or ends the loop, waits, or changes the process, if it takes such arguments.
ACTS = {
    "run_forever",
    "_run_once",
    "close",
    "_close_core",
    "stop",
    "_select",
    "_exit",
    "_damage",
    "_stress",
}
QUEUES = {
    "_add_callback_signalsafe",
    "_ready_append",
    "_put_timer",
    "_new_handle",
}  # whatever they are given, as asyncio does
WRONG = (
    TypeError,
    ValueError,
    AttributeError,
    RuntimeError,
    OverflowError,
    OSError,
    LookupError,
    AssertionError,
    asyncio.InvalidStateError,
)


async def nothing():
    pass


class Datagrams(asyncio.DatagramProtocol):
    pass


async def things_of(loop):
    """One object of each kind; what the test must end is among them."""
    found = [loop, loop.call_soon(int), loop.call_later(1000, int), loop.call_soon_threadsafe(int)]
    found += [loop.create_future(), loop.create_task(nothing()), loop.create_future().__await__()]
    ours, theirs = socket.socketpair()
    found += [(await loop.create_connection(asyncio.Protocol, sock=ours))[0], theirs]
    found.append((await loop.create_datagram_endpoint(Datagrams, ("127.0.0.1", 0)))[0])
    r, w = os.pipe()
    found.append((await loop.connect_read_pipe(asyncio.Protocol, open(r, "rb", 0)))[0])
    found.append((await loop.connect_write_pipe(asyncio.BaseProtocol, open(w, "wb", 0)))[0])
    if hasattr(loop, "metrics"):
        found += [loop.metrics(), loop.metrics().turn_time]
    return found


def end(loop, things):
    for thing in things:
        if isinstance(thing, (asyncio.BaseTransport, socket.socket)) or hasattr(thing, "get_extra_info"):
            thing.close()
        elif hasattr(thing, "cancel"):
            thing.cancel()
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.call_soon(loop.stop)
    loop.run_forever()


def members(thing):
    """(name, value) of all that C code of cloop has defined for the object's type."""
    for cls in type(thing).__mro__:
        if cls.__module__.split(".")[0] in ("cloop", "_cloop"):
            for name, value in vars(cls).items():
                if not isinstance(value, (types.FunctionType, classmethod, staticmethod)):
                    yield name, value


@pytest.fixture
def things(cloop, loop, loop_kind, run, reports):
    if loop_kind == "asyncio":
        pytest.skip("nothing of it is in C of ours")
    things = run(things_of(loop))
    yield things
    end(loop, things)


def test_unknown_keywords(things):
    for thing in things:
        for name, _ in members(thing):
            method = getattr(thing, name, None)
            if callable(method) and not name.startswith("__"):
                with pytest.raises(TypeError):
                    method(no_such_keyword=1)


@pytest.mark.parametrize("count", range(1, 10))
def test_arguments_of_no_use(things, count):
    for thing in things:
        for name, _ in members(thing):
            method = getattr(thing, name, None)
            if callable(method) and not name.startswith("__") and name not in ACTS | QUEUES:
                try:
                    found = method(*[object() for _ in range(count)])
                except WRONG:
                    continue
                if hasattr(found, "cancel"):
                    found.cancel()
                elif hasattr(found, "close"):
                    found.close()


def test_attributes_that_are_deleted_or_set_to_something_else(things):
    for thing in things:
        for name, value in members(thing):
            if isinstance(value, (types.GetSetDescriptorType, types.MemberDescriptorType)) and not name.startswith(
                "__"
            ):
                before = getattr(thing, name, None)
                for change in (
                    functools.partial(delattr, thing, name),
                    functools.partial(setattr, thing, name, object()),
                ):
                    try:
                        change()
                    except (AttributeError, TypeError, ValueError):
                        continue
                    setattr(thing, name, before)


def test_methods_of_a_closed_loop(cloop):
    """Each says so, or has nothing to do with it."""
    loop = cloop.new_event_loop()
    loop.close()
    for name, _ in members(loop):
        method = getattr(loop, name, None)
        if (
            callable(method)
            and not name.startswith("__")
            and name not in ACTS - {"run_forever", "_run_once", "_select"}
        ):
            for arguments in (), (0,), (None, 0), (int, 0), (1, int, 2), (int, (), None), (None,) * 4:
                try:
                    found = method(*arguments)
                except WRONG:
                    continue
                if hasattr(found, "close"):
                    found.close()


def test_functions_of_the_module(cloop):
    module = importlib.import_module("cloop._cloop")
    no_loop, no_number = object(), "number"
    for function, arguments in [
        (module._pulse, (no_loop,)),
        (module._signal_handler, (no_number,)),
        (module.pidfd_open, (no_number,)),
        (module.know_loop, (1, 2)),
        (module.raw_fields, (no_loop,)),
        (module.look_like, (1, 2)),
        (module.look_like, (str.upper, 2)),
        (module.use_own_tasks, (1,)),
        (module._set_gather, (1,)),
        (module._watchdog_start, (1,)),
        (module._watchdog_start, (print, 1.0, 1.0, -1, no_number, 0, -1)),
    ]:
        with pytest.raises((TypeError, RuntimeError)):
            function(*arguments)
    with pytest.raises(OSError):
        module.pidfd_open(-1)
    assert module._signal_handler(signal.SIGUSR2) == 0  # by default nothing handles it
    assert module._signal_handler(10**4) == 0
    assert module.use_own_tasks(1, 2, 3) is False
    assert module.adopt_reader(no_loop) is None


def test_descriptions_of_asyncio_that_are_wrong(cloop):
    """_accelerate.py describes asyncio's functions to the C code, which takes nothing that it does not know."""
    module = importlib.import_module("cloop._cloop")
    for name, *wrong in [
        ("_sync_variant", (), ("NO_SUCH", 1), ("GATHER", "one")),
        ("_sync_closure", (), ("NO_SUCH", None)),
        ("_sync_gather", (), ("one", "name", None)),
        ("_sync_states", (), (1,)),
        ("_sync_barrier_states", (), (1, 2)),
        ("_sync_prepare", (), ("NO_SUCH", test_unknown_keywords), ("SLEEP", print)),
        ("_sync_class", (), ("NO_SUCH", int, 1, False, None), ("LOCK", 1, 1, False, None)),
        ("_sync_pin", (), ("NO_SUCH", ()), ("SLEEP", 1)),
        ("_sync_switch", (5,), ((5,),), (("NO_SUCH",),)),
    ]:
        for arguments in wrong:
            with pytest.raises((TypeError, ValueError)):
                getattr(module, name)(*arguments)
    cloop.accelerate(False)


def test_a_timeout_that_is_no_number(cloop, loop, loop_kind):
    if loop_kind == "asyncio":
        pytest.skip("has another selector")
    for timeout in "soon", [], 1j:
        with pytest.raises(TypeError):
            loop._select(timeout)
    assert loop._select(0) == [] and loop._select_timeout() is None
    loop.call_soon(print)
    assert loop._select_timeout() == 0
    loop._ready.clear()
    loop.call_at(loop.time() - 1, print)
    assert loop._select_timeout() == 0


def test_a_loop_made_wrongly(cloop):
    core = importlib.import_module("cloop._cloop").LoopCore
    for arguments in ({}, {}), ("no such poller",), (1, 2):
        with pytest.raises((TypeError, ValueError)):
            core(*arguments)
    loop = core()
    with pytest.raises(RuntimeError, match="initialised already"):
        loop.__init__()


@pytest.mark.parametrize(
    "name, args, named",
    [
        ("call_soon", (print,), "callback"),
        ("call_soon_threadsafe", (print,), "callback"),
        ("call_later", (1, print), "delay"),
        ("call_at", (1, print), "when"),
    ],
)
def test_argument_that_is_given_twice(loop, name, args, named):
    with pytest.raises(TypeError, match="got multiple values for argument '%s'" % named):
        getattr(loop, name)(*args, **{named: args[0]})


def twin(thing):
    """asyncio's class of such objects."""
    selector, unix = asyncio.selector_events, asyncio.unix_events
    classes = (
        (asyncio.AbstractEventLoop, asyncio.SelectorEventLoop),
        (asyncio.TimerHandle, asyncio.TimerHandle),
        (asyncio.Handle, asyncio.Handle),
        (asyncio.Task, asyncio.Task),
        (asyncio.Future, asyncio.Future),
        (asyncio.DatagramTransport, selector._SelectorDatagramTransport),
        (asyncio.Transport, selector._SelectorSocketTransport),
        (asyncio.ReadTransport, unix._UnixReadPipeTransport),
        (asyncio.WriteTransport, unix._UnixWritePipeTransport),
    )
    return next((cls for kind, cls in classes if isinstance(thing, kind)), None)


def wrong_calls(method):
    """Arguments that it cannot be called with."""
    try:
        signature = inspect.signature(method)
    except ValueError:  # some of asyncio's are in C, and have none
        return
    keywords = [{}, {"context": None}, {"no_such_keyword": 1}, {1: 1}]
    keywords += [{name: None} for name in signature.parameters if name != "self"]
    keywords += [{name: None, "context": None} for name in signature.parameters if name not in ("self", "context")]
    for count in range(6):
        for kwargs in keywords:
            args = [object() for _ in range(count)]
            try:
                signature.bind(None, *args, **kwargs)
            except TypeError:
                yield args, kwargs


def test_calls_that_asyncio_refuses(things):
    calls, taken = 0, []
    for thing in things:
        cls = twin(thing)
        for name, _ in members(thing):
            method = getattr(cls, name, None)
            if name.startswith("__") or not callable(method) or not callable(getattr(thing, name, None)):
                continue
            if name in ("_add_reader", "_add_writer"):  # take a context
                continue
            for args, kwargs in wrong_calls(method):
                calls += 1
                try:
                    found = getattr(thing, name)(*args, **kwargs)
                except TypeError:
                    continue
                except Exception as error:
                    found = error
                taken.append((cls.__name__, name, len(args), sorted(map(str, kwargs)), found))
    assert calls > 1000 and not taken, taken
