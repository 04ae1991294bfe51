"""One turn of the loop: wait for descriptors and timers, then run the callbacks that are ready, and only those.

What a callback schedules waits for the next turn. Ready callbacks run in the order in which they were scheduled, timers
in the order of their deadlines.

Try: let `first` schedule itself again, and watch `last` still getting its turn.
"""

import asyncio
from typing import List


def one_turn(loop: asyncio.AbstractEventLoop) -> None:
    """stop() lets the turn in progress end: asked for before the loop runs, it allows one."""
    loop.stop()
    loop.run_forever()


def main() -> None:
    loop = asyncio.new_event_loop()
    order: List[str] = []

    def first() -> None:
        order.append("first")
        loop.call_soon(order.append, "scheduled by first")

    loop.call_soon(first)
    loop.call_soon(order.append, "second")
    loop.call_soon(order.append, "cancelled").cancel()
    loop.call_soon(order.append, "last")
    for number in (1, 2):
        order.clear()
        one_turn(loop)
        print("turn %d: %s" % (number, ", ".join(order)))

    order.clear()
    now = loop.time()
    loop.call_at(now + 0.02, order.append, "made first, due last")
    loop.call_at(now + 0.01, order.append, "due first")
    loop.call_at(now + 0.03, loop.stop)
    loop.run_forever()
    print("timers: " + ", ".join(order))
    loop.close()


if __name__ == "__main__":
    main()
