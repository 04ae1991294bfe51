# needs: sentry_sdk
import asyncio

import sentry_sdk
from sentry_sdk.integrations.asyncio import AsyncioIntegration
from sentry_sdk.transport import Transport


def name():
    kind = type(asyncio.get_running_loop())
    return kind.__module__ + "." + kind.__qualname__


events = []


class Kept(Transport):
    def capture_envelope(self, envelope):
        event = envelope.get_event()
        if event is not None:
            events.append(event)


async def fail():
    await asyncio.sleep(0.001)
    raise ValueError("which loop?")


async def main():
    sentry_sdk.init(dsn="http://key@127.0.0.1:9/1", transport=Kept, integrations=[AsyncioIntegration()])
    task = asyncio.ensure_future(fail())
    await asyncio.wait([task])
    assert isinstance(task.exception(), ValueError)
    assert [event["exception"]["values"][0]["value"] for event in events] == ["which loop?"], events
    print(name())
