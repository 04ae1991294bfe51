"""The swap: one line puts another loop in asyncio's place, and no other line knows.

There are three ways: cloop.run(); asyncio's own way to name the loop, a factory since Python 3.11 and a policy before;
and a loop made by hand. The fourth way changes nothing in the program: `python -m cloop 22_swap.py`.

Try: print(loop) in `main`. `python -m cloop --info`.
"""

import asyncio
import sys

import cloop


async def main() -> str:
    loop = asyncio.get_running_loop()
    await asyncio.sleep(0.001)
    return "%s.%s" % (type(loop).__module__.partition(".")[0], "Loop" if isinstance(loop, cloop.Loop) else "other loop")


def by_name() -> str:
    if sys.version_info >= (3, 11):
        with asyncio.Runner(loop_factory=cloop.new_event_loop) as runner:
            return runner.run(main())
    else:
        asyncio.set_event_loop_policy(cloop.EventLoopPolicy())  # pyright: ignore[reportDeprecated]
        return asyncio.run(main())


def by_hand(loop: asyncio.AbstractEventLoop) -> str:
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(main())
    finally:
        asyncio.set_event_loop(None)
        loop.close()


if __name__ == "__main__":
    print("cloop.run():", cloop.run(main()))
    print("asyncio, told by name:", by_name())
    print("a loop made by hand:", by_hand(cloop.new_event_loop()))
    print("and asyncio's own, as ever:", by_hand(asyncio.SelectorEventLoop()))
