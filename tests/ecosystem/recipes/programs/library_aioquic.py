# needs: aioquic trustme
import asyncio
import ssl

import trustme
from aioquic.asyncio import connect, serve
from aioquic.quic.configuration import QuicConfiguration


def name():
    kind = type(asyncio.get_running_loop())
    return kind.__module__ + "." + kind.__qualname__


def answer(reader, writer):
    async def answer():
        await reader.read()
        writer.write(name().encode())
        writer.write_eof()

    tasks.append(asyncio.ensure_future(answer()))


tasks = []


async def main():
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path("pem")
    configuration = QuicConfiguration(is_client=False)
    configuration.load_cert_chain("pem", "pem")
    server = await serve("127.0.0.1", 0, configuration=configuration, stream_handler=answer)
    port = server._transport.get_extra_info("sockname")[1]
    configuration = QuicConfiguration(verify_mode=ssl.CERT_NONE)
    async with connect("127.0.0.1", port, configuration=configuration) as client:
        reader, writer = await client.create_stream()
        writer.write(b"x" * 1000000)
        writer.write_eof()
        print((await reader.read()).decode())
    server.close()
