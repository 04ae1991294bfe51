"""gather: run several at once and have their results in the order in which you named them.

Whoever ends first, the first result is that of the first argument. An exception goes to who awaits, and the others
run on; with return_exceptions=True it is a result like the rest.

Try: let "slow" fail as well. Which exception do you see?
"""

import asyncio


async def work(name: str, seconds: float) -> str:
    await asyncio.sleep(seconds)
    print("  %s ends" % name)
    if name == "bad":
        raise ValueError("bad luck")
    return name


async def main() -> None:
    print("results are in the order of the arguments:")
    print(" ", await asyncio.gather(work("slow", 0.15), work("middle", 0.08), work("fast", 0.01)))

    print("an exception is raised at once:")
    slow = asyncio.create_task(work("slow", 0.1))
    try:
        await asyncio.gather(slow, work("bad", 0.01))
    except ValueError as error:
        print("  caught:", error)
    print("  the other one goes on, to", await slow)

    print("or it is a result:")
    print(" ", await asyncio.gather(work("fast", 0.01), work("bad", 0.1), return_exceptions=True))


if __name__ == "__main__":
    asyncio.run(main())
