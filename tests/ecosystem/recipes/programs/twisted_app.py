# needs: twisted
# ruff: noqa: E402
# THE BLOCK
import asyncio

from twisted.internet import reactor
from twisted.web import resource, server


class Loop(resource.Resource):
    isLeaf = True

    def render_GET(self, request):
        reactor.callLater(0.01, self.answer, request)
        return server.NOT_DONE_YET

    def answer(self, request):
        kind = type(asyncio.get_running_loop())
        request.write((kind.__module__ + "." + kind.__qualname__).encode())
        request.finish()


reactor.listenTCP(PORT, server.Site(Loop()), interface="127.0.0.1")  # noqa: F821
reactor.run()
