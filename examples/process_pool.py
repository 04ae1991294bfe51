"""map() over a pool of processes, for a loop that has other things to do meanwhile.

    python -m cloop examples/process_pool.py --below 1000000 --workers 4

Executor.map() submits all of its input at once, and blocks. `map_in_pool` takes an iterable of any length, keeps a few
calls under way, and yields the results in order.
"""

import argparse
import asyncio
import collections
import concurrent.futures
from typing import AsyncIterator, Callable, Deque, Iterable, Tuple, TypeVar

Argument = TypeVar("Argument")
Result = TypeVar("Result")


async def map_in_pool(
    pool: concurrent.futures.Executor, function: Callable[[Argument], Result], arguments: Iterable[Argument], ahead: int
) -> AsyncIterator[Result]:
    """Yields function(argument) for each, in order; no more than `ahead` are under way."""
    loop = asyncio.get_running_loop()
    pending: "Deque[asyncio.Future[Result]]" = collections.deque()
    try:
        for argument in arguments:
            pending.append(loop.run_in_executor(pool, function, argument))
            if len(pending) >= ahead:
                yield await pending.popleft()
        while pending:
            yield await pending.popleft()
    finally:
        for future in pending:  # of those who stop half-way
            future.cancel()


def count_primes(range_: Tuple[int, int]) -> int:
    """How many primes there are from the first number up to the second, which is not included."""
    start, stop = range_
    return sum(
        number > 1 and all(number % divisor for divisor in range(2, int(number**0.5) + 1))
        for number in range(start, stop)
    )


async def main(below: int, workers: int, step: int) -> None:
    ranges = [(start, min(start + step, below)) for start in range(0, below, step)]
    total = 0
    with concurrent.futures.ProcessPoolExecutor(workers) as pool:
        async for count in map_in_pool(pool, count_primes, ranges, ahead=2 * workers):
            total += count
    print("%d primes below %d" % (total, below))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Counts primes in a pool of processes.")
    parser.add_argument("--below", type=int, default=200000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--step", type=int, default=5000, help="numbers for one call")
    options = parser.parse_args()
    asyncio.run(main(options.below, options.workers, options.step))
