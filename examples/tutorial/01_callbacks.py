"""Callbacks: the loop calls functions, one after another, until somebody stops it.

call_soon() asks for a call as soon as possible, call_later() for one after some seconds. Both take the function and
its positional arguments; functools.partial() brings keyword arguments along.

Try: schedule `tick` with a count of 5. Remove the line that stops the loop, and press Ctrl-C.
"""

import asyncio
import functools


def greet(name: str, greeting: str = "hello") -> None:
    print("%s, %s" % (greeting, name))


def tick(loop: asyncio.AbstractEventLoop, left: int) -> None:
    print("tick", left)
    if left > 1:
        loop.call_later(0.01, tick, loop, left - 1)
    else:
        loop.stop()


def main() -> None:
    loop = asyncio.new_event_loop()
    loop.call_later(0.01, tick, loop, 3)
    loop.call_soon(greet, "world")
    loop.call_soon(functools.partial(greet, "moon", greeting="good night"))
    cancelled = loop.call_soon(greet, "nobody")
    cancelled.cancel()
    print("nothing is called before the loop runs")
    loop.run_forever()
    print("stop() lets run_forever() return")
    loop.close()
    print("closed:", loop.is_closed())


if __name__ == "__main__":
    main()
