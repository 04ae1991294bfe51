# needs: textual
import asyncio

from textual.app import App


def name():
    kind = type(asyncio.get_running_loop())
    return kind.__module__ + "." + kind.__qualname__


class Recipe(App):
    def on_mount(self):
        self.set_timer(0.05, lambda: self.exit(name()))


async def main():
    print(await Recipe().run_async(headless=True))
