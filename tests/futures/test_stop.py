"""The StopIteration that ends an await with a value: used again, but it keeps nothing, and nobody else's changes."""

import asyncio
import gc
import weakref

import pytest


class Thing:
    pass


def finished(loop, value):
    future = loop.create_future()
    future.set_result(value)
    return future


def test_a_result_is_not_kept(loop):
    async def main():
        for _ in range(3):
            seen = weakref.ref(await finished(loop, Thing()))
            assert seen() is None

    loop.run_until_complete(main())


def test_a_result_of_an_accelerated_queue_is_not_kept(cloop):
    async def main():
        queue = asyncio.Queue()
        for _ in range(3):
            queue.put_nowait(Thing())
            seen = weakref.ref(await queue.get())
            assert seen() is None

    cloop.accelerate()
    try:
        cloop.run(main())
    finally:
        cloop.accelerate(False)


def test_one_that_refers_to_itself_is_collected(loop):
    def keep_in(thing):
        try:
            next(finished(loop, thing).__await__())
        except StopIteration as stop:
            thing.stop = stop.with_traceback(None)

    async def main():
        for _ in range(2):
            await finished(loop, 1)
            gc.collect()  # no longer tracks a tuple with a number
            thing = Thing()
            keep_in(thing)
            seen = weakref.ref(thing)
            del thing
            gc.collect()
            assert seen() is None

    loop.run_until_complete(main())


def test_results_of_awaits_within_each_other(loop):
    async def main():
        class Ends:
            def __del__(self):
                ended.append(await_by_hand(finished(loop, "inner")))

        ended = []
        for _ in range(2):
            await finished(loop, Ends())
            assert await finished(loop, ("a", "tuple")) == ("a", "tuple")
            assert await finished(loop, error) is error
        assert ended == ["inner", "inner"]

    error = KeyError("as a value")
    loop.run_until_complete(main())


def await_by_hand(future):
    try:
        next(future.__await__())
    except StopIteration as stop:
        return stop.value


@pytest.mark.parametrize("value", [5, (1, 2), ValueError("as a value")], ids=str)
def test_what_a_program_catches_stays_as_it_is(loop, value):
    """It has the exception, its arguments, or a traceback with it."""
    caught = []
    for number in range(3):
        iterator = finished(loop, value if number else "first").__await__()
        try:
            next(iterator)
        except StopIteration as stop:
            caught.append((stop, stop.args))
        del iterator
        gc.collect()
    expected = ["first", value, value]
    assert [stop.value for stop, _ in caught] == expected
    assert [args for _, args in caught] == [(each,) for each in expected]
    assert [stop.args for stop, _ in caught] == [(each,) for each in expected]
    assert len({id(stop) for stop, _ in caught}) == 3


def test_arguments_that_were_taken_stay_as_they_are(loop):
    taken = []
    for number in range(3):
        try:
            next(finished(loop, number).__await__())
        except StopIteration as stop:
            taken.append(stop.args)
            hash(stop.args)
    assert taken == [(0,), (1,), (2,)]


def test_a_change_to_it_is_not_seen_again(loop):
    for number in range(3):
        try:
            next(finished(loop, number).__await__())
        except StopIteration as stop:
            assert (stop.value, stop.args, stop.__cause__, stop.__suppress_context__) == (
                number,
                (number,),
                None,
                False,
            )
            assert not vars(stop)
            stop.value, stop.args, stop.__cause__, stop.note = "other", ("other", 2), KeyError(), 1
