"""What type checkers must refuse. For mypy and pyright, an unneeded ignore is an error.

`make types` checks it; nothing runs it.
"""

import asyncio

import cloop


async def number() -> int:
    return 1


word: str = cloop.run(number())  # type: ignore[assignment]
cloop.run(number)  # type: ignore[arg-type]
cloop.run(number(), loop_factory=int)  # type: ignore[arg-type]
cloop.run(number(), cloop.new_event_loop)  # type: ignore[call-arg, arg-type]
cloop.new_event_loop(1)  # type: ignore[call-arg]
cloop.no_such_name  # type: ignore[attr-defined]

loop = cloop.new_event_loop()
loop.call_later("soon", print)  # type: ignore[arg-type]
loop.no_such_method()  # type: ignore[attr-defined]
loop.metrics().turns.upper()  # type: ignore[attr-defined]
loop.metrics().turns = 1  # type: ignore[misc]

future: "cloop.Future[int]" = cloop.Future(loop=loop)
future.set_result("one")  # type: ignore[arg-type]
task: "cloop.Task[str]" = cloop.Task(number(), loop=loop)  # type: ignore[arg-type]
plain: "cloop.Future[int]" = asyncio.Future()  # type: ignore[assignment]
