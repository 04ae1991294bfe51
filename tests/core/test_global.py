"""Names in asyncio's modules are looked up when they are used: a program may replace them while the loop runs.

csrc/core/global.h says how cloop does without most of the look-ups.
"""

import asyncio
import contextlib
import gc
import socket
import sys
import types

import pytest


class OtherFuture(asyncio.Future):
    pass


class OtherTask(asyncio.Task):
    pass


NAMES = {
    "future": (asyncio.futures, "Future", OtherFuture),
    "task": (asyncio.tasks, "Task", OtherTask),
}


def set_by_code(module, name, value):
    exec("%s = value_of_name" % name, module.__dict__, {"value_of_name": value})


def set_as_global(module, name, value):
    code = compile("def function(value):\n    global {0}\n    {0} = value".format(name), "here", "exec")
    space = {}
    exec(code, space)
    types.FunctionType(space["function"].__code__, module.__dict__)(value)


def set_in_dict(module, name, value):
    module.__dict__[name] = value


def update_dict(module, name, value):
    module.__dict__.update({name: value})


def delete_and_set_default(module, name, value):
    del module.__dict__[name]
    module.__dict__.setdefault(name, value)


SET = [setattr, set_as_global, set_in_dict, update_dict, delete_and_set_default]


def delete(module, name):
    delattr(module, name)


def delete_from_dict(module, name):
    del module.__dict__[name]


def pop_from_dict(module, name):
    module.__dict__.pop(name)


def clear_dict(module, name):
    module.__dict__.clear()


DELETE = [delete, delete_from_dict, pop_from_dict, clear_dict]


@contextlib.contextmanager
def kept(module):
    """Restores all names of the module."""
    names = dict(module.__dict__)
    try:
        yield
    finally:
        module.__dict__.update(names)


def create(loop, what):
    if what == "future":
        return loop.create_future()
    coroutine = asyncio.sleep(0)
    try:
        return loop.create_task(coroutine)
    except Exception:
        coroutine.close()
        raise


def created(loop, what):
    """The class of a new future or task: one of those above, or "stock" for asyncio's and cloop's."""
    made = create(loop, what)
    made.cancel()
    assert isinstance(made, (asyncio.Future, asyncio.Task))
    return type(made) if isinstance(made, (OtherFuture, OtherTask)) else "stock"


@pytest.fixture(params=["future", "task"])
def what(request):
    return request.param


@pytest.fixture
def in_run(loop):
    """Calls a function in a callback of the loop, and returns its result."""

    def in_run(function):
        async def main():
            result = function()
            await asyncio.sleep(0)
            return result

        return loop.run_until_complete(main())

    return in_run


@pytest.mark.parametrize("assign", SET)
def test_name_that_is_replaced_while_the_loop_runs(loop, in_run, what, assign):
    module, name, other = NAMES[what]
    stock = getattr(module, name)

    def replace():
        seen = [created(loop, what)]
        for value in (other, stock, other):
            assign(module, name, value)
            seen += [created(loop, what), created(loop, what)]
        assign(module, name, stock)
        return seen + [created(loop, what)]

    with kept(module):
        seen = in_run(replace)
    assert seen == ["stock"] + [other] * 2 + ["stock"] * 2 + [other] * 2 + ["stock"]
    assert in_run(lambda: created(loop, what)) == "stock"


@pytest.mark.parametrize("remove", DELETE)
def test_name_that_is_deleted_while_the_loop_runs(loop, in_run, what, remove):
    module, name, _ = NAMES[what]

    def replace():
        with kept(module):
            remove(module, name)
            with pytest.raises(AttributeError):
                create(loop, what)
            return created(loop, "task" if what == "future" else "future")

    assert in_run(replace) == "stock"
    assert in_run(lambda: created(loop, what)) == "stock"


def test_name_that_is_deleted_between_runs(loop, what, turn):
    """run_forever() itself does not use it."""
    module, name, _ = NAMES[what]
    with kept(module):
        delattr(module, name)
        turn()
    assert created(loop, what) == "stock"
    turn()


def test_module_whose_getattr_supplies_the_name(loop, in_run, what):
    module, name, other = NAMES[what]

    def replace():
        with kept(module):
            delattr(module, name)
            module.__getattr__ = lambda key: {name: other}[key]
            seen = created(loop, what)
        del module.__getattr__
        return seen, created(loop, what)

    assert in_run(replace) == (other, "stock")


def test_module_that_is_replaced_in_sys_modules(loop, in_run, monkeypatch, what):
    """asyncio keeps the module that it has imported."""
    module, name, other = NAMES[what]
    fake = types.ModuleType(module.__name__)
    fake.__dict__.update(module.__dict__)
    setattr(fake, name, other)

    def replace():
        with monkeypatch.context() as patched:
            patched.setitem(sys.modules, module.__name__, fake)
            return created(loop, what)

    assert in_run(replace) == "stock"


def test_future_that_a_read_waits_for(loop, run, turn, monkeypatch):
    """What asyncio itself creates by create_future() is of the class, too."""

    async def wait(start):
        task = loop.create_task(start())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        waits_for = type(task._fut_waiter)
        task.cancel()
        await asyncio.wait([task])
        return waits_for

    async def main():
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=ours)
        try:
            with monkeypatch.context() as patched:
                patched.setattr(asyncio.futures, "Future", OtherFuture)
                return [await wait(reader.readline), await wait(lambda: loop.sock_recv(theirs, 1))]
        finally:
            writer.close()
            await writer.wait_closed()
            theirs.close()

    assert run(main()) == [OtherFuture, OtherFuture]
    turn()


def test_the_collector_sees_the_modules(cloop):
    if cloop.Task is asyncio.Task:
        pytest.skip("asyncio's own tasks: nothing is kept of its modules")
    seen = [id(each) for each in gc.get_referents(cloop._cloop)]
    for module, name, _ in NAMES.values():
        assert id(vars(module)) in seen, name


WATCHERS = """
import ctypes

watch = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)(lambda *_: 0)


def take_all():
    taken = []
    try:
        while True:
            taken.append(ctypes.pythonapi.PyDict_AddWatcher(watch))
    except RuntimeError:
        return taken


def count_free():
    taken = take_all()
    for watcher in taken:
        ctypes.pythonapi.PyDict_ClearWatcher(watcher)
    return len(taken)
"""

CHECK = """
import asyncio


class OtherFuture(asyncio.Future):
    pass


async def main():
    loop = asyncio.get_running_loop()
    seen = []
    stock = asyncio.futures.Future
    for value in (stock, OtherFuture, stock):
        asyncio.futures.Future = value
        seen += [type(loop.create_future()) is OtherFuture, type(loop.create_future()) is OtherFuture]
    return seen


def check():
    loop = new_loop()
    seen = loop.run_until_complete(main())
    loop.close()
    assert seen == [False, False, True, True, False, False], seen
"""

has_watchers = pytest.mark.skipif(sys.version_info < (3, 12), reason="dictionaries have watchers from Python 3.12 on")


@has_watchers
def test_interpreter_without_a_watcher_to_spare(script):
    script(WATCHERS + CHECK + "taken = take_all(); assert taken; check(); assert count_free() == 0")


@has_watchers
@pytest.mark.gil
def test_one_watcher_is_used(script, python, loop_kind):
    without = int(python("-c", WATCHERS + "print(count_free())").stdout)
    left = int(script(WATCHERS + CHECK + "check(); check(); print(count_free())"))
    assert without - left == (loop_kind != "asyncio")


@has_watchers
def test_each_interpreter_has_its_own_names(script, loop_kind):
    new_loop = "__import__('asyncio').SelectorEventLoop" if loop_kind == "asyncio" else "cloop.new_event_loop"
    inner = "import cloop\nnew_loop = " + new_loop + CHECK + "check()\nasyncio.futures.Future = OtherFuture"
    script(
        WATCHERS
        + CHECK
        + """
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters


def create():
    try:
        return interpreters.create("legacy")
    except TypeError:
        return interpreters.create(isolated=False)


for _ in range(3):
    other = create()
    failed = interpreters.run_string(other, %r)
    assert not failed, failed
    check()
    interpreters.destroy(other)
    check()
"""
        % inner
    )
