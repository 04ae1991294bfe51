# needs: django channels
import asyncio

import django
from django.conf import settings

settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="for a test")
django.setup()

from channels.generic.websocket import AsyncWebsocketConsumer  # noqa: E402
from channels.layers import InMemoryChannelLayer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.http import HttpResponse  # noqa: E402
from django.urls import path  # noqa: E402

layer = InMemoryChannelLayer()


def name():
    kind = type(asyncio.get_running_loop())
    return kind.__module__ + "." + kind.__qualname__


async def loop(request):
    return HttpResponse(name())


class Consumer(AsyncWebsocketConsumer):
    async def receive(self, text_data):
        channel = await layer.new_channel()
        await layer.send(channel, {"type": "answer", "text": name()})
        await self.send((await layer.receive(channel))["text"])


urlpatterns = [path("loop", loop)]
app = ProtocolTypeRouter({"http": get_asgi_application(), "websocket": URLRouter([path("ws", Consumer.as_asgi())])})
