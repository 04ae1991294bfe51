"""Methods that `async with` binds: as bound methods of Python."""

import asyncio
import ctypes
import gc
import importlib
import inspect
import pickle
import sys
import weakref

import pytest

PRIMITIVES = {"lock": asyncio.Lock, "semaphore": asyncio.Semaphore, "condition": asyncio.Condition}
if sys.version_info >= (3, 11):
    PRIMITIVES["timeout"] = lambda: asyncio.timeout(None)


def attempt(function, *args):
    try:
        return function(*args)
    except Exception as error:
        return type(error).__name__


@pytest.mark.parametrize("kind", sorted(PRIMITIVES))
@pytest.mark.parametrize("name", ["__aenter__", "__aexit__"])
def test_bound_methods(accelerate, as_asyncio, kind, name):
    def body(loop):
        async def main():
            one, other = PRIMITIVES[kind](), PRIMITIVES[kind]()
            method, same, different = getattr(one, name), getattr(one, name), getattr(other, name)
            seen = [
                method == same, method != same, method == different, hash(method) == hash(same), method == 1,
                method.__self__ is one, method.__name__, method.__qualname__, inspect.signature(method).parameters.keys(),
                attempt(lambda: method < same), attempt(setattr, method, "other", 1), attempt(delattr, method, "other"),
                attempt(getattr, method, "no_such"), repr(method).split(" at ")[0], callable(method),
                attempt(method, 1, 2, 3, 4, 5), attempt(lambda: method(no_such=1)), attempt(pickle.dumps, method) is not None,
            ]  # fmt: skip
            for args in (), (None, None, None), (1, 2):
                made = attempt(method, *args)
                seen.append(made if isinstance(made, str) else asyncio.iscoroutine(made))
                if asyncio.iscoroutine(made):
                    made.close()
            seen[8] = sorted(seen[8])
            return seen

        return loop.run_until_complete(main())

    as_asyncio(body)


@pytest.mark.parametrize("kind", sorted(PRIMITIVES))
def test_weak_references_to_bound_methods(accelerate, as_asyncio, kind):
    def body(loop):
        async def main():
            primitive, gone = PRIMITIVES[kind](), []
            method = primitive.__aenter__
            reference = weakref.ref(method, gone.append)
            seen = [reference() is method]
            del method
            return seen, reference() is None, len(gone)

        return loop.run_until_complete(main())

    as_asyncio(body)


def test_cycle_through_a_bound_method(accelerate, as_asyncio):
    def body(loop):
        async def main():
            lock, gone = asyncio.Lock(), []
            lock.method = lock.__aenter__
            reference = weakref.ref(lock, lambda reference: gone.append(1))
            del lock
            for _ in range(3):
                gc.collect()
            return reference() is None, gone

        return loop.run_until_complete(main())

    as_asyncio(body)


@pytest.fixture
def called_otherwise():
    """A function of Python that is not called as others are."""

    def function():
        pass

    try:
        importlib.import_module("_testcapi").function_setvectorcall(function)
        yield function
    except (ImportError, AttributeError):  # before Python 3.12
        last = type(function).__basicsize__ - (16 if sys.version_info >= (3, 11) else 8)
        field = ctypes.c_void_p.from_address(id(function) + last)
        before = field.value
        field.value = before + 1
        yield function
        field.value = before


def test_function_that_is_called_in_another_way(accelerate, called_otherwise):
    """No body takes its place: it would not be called."""
    prepare = importlib.import_module("cloop._cloop")._sync_prepare
    with pytest.raises(ValueError, match="not called as usual"):
        prepare("SLEEP", called_otherwise)


@pytest.mark.parametrize("name", ["sleep", "wait", "gather", "wait_for", "as_completed", "shield"])
def test_keyword_that_is_no_string(accelerate, run, name):
    """Python 3.8 passes it on to C code."""

    async def main():
        future = asyncio.get_running_loop().create_future()
        with pytest.raises(TypeError, match="keywords must be strings"):
            getattr(asyncio, name)(future, **{1: 1})

    accelerate(True)
    run(main())
