# needs: prompt_toolkit
import asyncio

from prompt_toolkit import PromptSession
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput


def name():
    kind = type(asyncio.get_running_loop())
    return kind.__module__ + "." + kind.__qualname__


async def main():
    with create_pipe_input() as keys:
        session = PromptSession(input=keys, output=DummyOutput())
        asyncio.get_running_loop().call_later(0.01, keys.send_text, name() + "\r")
        answer = await session.prompt_async("which loop? ")
    print(answer)
