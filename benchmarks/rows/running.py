"""Starting and stopping the loop."""

from benchmarks.registry import benchmark


async def nothing():
    pass


@benchmark(reach=12)
def run_until_complete(loop, n):
    """One run_until_complete of an empty coroutine."""
    for _ in range(n):
        loop.run_until_complete(nothing())
