"""as_completed: results in the order in which they come, the fastest first.

It gives one awaitable for each that it was given; the n-th is for the n-th to end, whichever that is.

Try: give it a timeout of 0.05 s. How many results come before TimeoutError?
"""

import asyncio


async def lookup(name: str, seconds: float) -> str:
    await asyncio.sleep(seconds)
    return name


async def main() -> None:
    lookups = [lookup("near the pole", 0.2), lookup("next door", 0.01), lookup("across the sea", 0.1)]
    for number, first in enumerate(asyncio.as_completed(lookups), 1):
        print("answer %d: %s" % (number, await first))


if __name__ == "__main__":
    asyncio.run(main())
