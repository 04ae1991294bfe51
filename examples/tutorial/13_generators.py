"""Coroutines of before Python 3.5: generators with @asyncio.coroutine and `yield from`.

Python 3.11 took the decorator away, and 3.12 the rest. `python -m cloop` gives both back to a program that still needs
them, and warns once; `python -m cloop --no-compat` does not. Plain Python runs this up to 3.10.

Try: translate it: `async def` for the decorator, `await` for `yield from`.
"""

import asyncio


@asyncio.coroutine
def greet(name, seconds):
    print("hello,", name)
    yield from asyncio.sleep(seconds)
    print("goodbye,", name)
    return name.upper()


@asyncio.coroutine
def main():
    print("they run side by side:")
    results = yield from asyncio.gather(greet("Ada", 0.01), greet("Grace", 0.1))
    print("results:", results)
    result = yield from new()
    print("generators and `async def` wait for each other:", result)


async def new():
    return await greet("Edsger", 0.01)


if __name__ == "__main__":
    asyncio.run(main())
