"""An echo server over TLS that changes its certificate while it serves.

    openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost -keyout server.key -out server.pem
    python -m cloop examples/tls_echo.py --cert server.pem --key server.key --port 8443
    openssl s_client -connect 127.0.0.1:8443
    kill -HUP PID                             after the files were renewed

Connections that are open go on; handshakes from then on show the new certificate. If the files are not what they should
be, the server keeps what it has.
"""

import argparse
import asyncio
import os
import signal
import ssl


def reload(context: ssl.SSLContext, cert: str, key: str) -> None:
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(cert, key)  # only tried
        context.load_cert_chain(cert, key)
    except (OSError, ssl.SSLError) as error:
        print("kept the certificate: %s" % error, flush=True)
    else:
        print("loaded the certificate", flush=True)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            data = await reader.read(64 * 1024)
            if not data:
                break
            writer.write(data)
            await writer.drain()
    except OSError:  # an SSLError is one, too
        pass
    except asyncio.CancelledError:
        pass  # by run(), at the end of the program: asyncio's streams would log it, before Python 3.12
    finally:
        writer.close()


async def main(host: str, port: int, cert: str, key: str) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    loop.add_signal_handler(signal.SIGHUP, reload, context, cert, key)
    server = await asyncio.start_server(echo, host, port, ssl=context)
    print("process %d" % os.getpid())
    print("listening on %s:%d" % server.sockets[0].getsockname()[:2], flush=True)
    await stop.wait()
    server.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="An echo server over TLS. SIGTERM or Ctrl-C ends it.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8443)
    parser.add_argument("--cert", required=True, help="certificate, and those between it and the authority (PEM)")
    parser.add_argument("--key", required=True, help="its private key (PEM)")
    options = parser.parse_args()
    asyncio.run(main(options.host, options.port, options.cert, options.key))
