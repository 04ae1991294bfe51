# needs: asyncssh
import asyncio

import asyncssh


def name():
    kind = type(asyncio.get_running_loop())
    return kind.__module__ + "." + kind.__qualname__


async def handle(process):
    process.stdout.write(name())
    process.exit(0)


class Server(asyncssh.SSHServer):
    def begin_auth(self, username):
        return False


async def main():
    key = asyncssh.generate_private_key("ssh-ed25519")
    server = await asyncssh.listen(
        "127.0.0.1", 0, server_factory=Server, server_host_keys=[key], process_factory=handle
    )
    async with asyncssh.connect("127.0.0.1", server.get_port(), known_hosts=None, config=None) as connection:
        answer = (await connection.run("which loop?")).stdout
    server.close()
    await server.wait_closed()
    print(answer)
