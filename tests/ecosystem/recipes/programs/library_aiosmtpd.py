# needs: aiosmtpd
import asyncio
import smtplib

from aiosmtpd.smtp import SMTP


def name():
    kind = type(asyncio.get_running_loop())
    return kind.__module__ + "." + kind.__qualname__


class Handler:
    async def handle_DATA(self, server, session, envelope):
        return "250 " + name()


def send(port):
    with smtplib.SMTP("127.0.0.1", port) as client:
        client.ehlo()
        client.mail("a@b")
        client.rcpt("c@d")
        return client.data("Subject: which loop?\r\n")[1].decode()


async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(Handler()), "127.0.0.1", 0)
    answer = await loop.run_in_executor(None, send, server.sockets[0].getsockname()[1])
    server.close()
    print(answer)
