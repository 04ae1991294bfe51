# needs: ray
import asyncio
import logging
import os

import ray

import cloop  # noqa: F401


@ray.remote
def square(number):
    return number * number


@ray.remote
class Counter:
    def __init__(self):
        self.value = 0

    async def add(self, number):
        await asyncio.sleep(0.001)
        self.value += number
        return self.value


async def main():
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _temp_dir=os.environ["RAY"],
    )
    assert await asyncio.gather(*[square.remote(number) for number in range(20)]) == [n * n for n in range(20)]
    counter = Counter.remote()
    assert max(await asyncio.gather(*[counter.add.remote(1) for _ in range(20)])) == 20
    ray.shutdown()
    kind = type(asyncio.get_running_loop())
    print(kind.__module__ + "." + kind.__qualname__)


# THE BLOCK
