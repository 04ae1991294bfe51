"""Descriptors: the loop calls back when a socket, a pipe or a terminal can be read or written.

add_reader() and add_writer() are what transports and streams are made of. A callback may remove itself.

Try: send more than one message before the loop runs. How often is `readable` called, and why?
"""

import asyncio
import socket


def main() -> None:
    loop = asyncio.new_event_loop()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)

    def readable() -> None:
        data = ours.recv(100)
        print("read", data.decode() or "the end")
        if not data:
            print("was watched:", loop.remove_reader(ours))
            print("is watched:", loop.remove_reader(ours))
            loop.stop()

    def writable() -> None:
        """A socket is writable nearly always, so nobody who has nothing to write should watch for it."""
        print("there is room to write")
        loop.remove_writer(ours)
        theirs.send(b"hello")
        loop.call_later(0.01, theirs.close)

    loop.add_reader(ours, readable)
    loop.add_writer(ours, writable)
    loop.run_forever()
    ours.close()
    loop.close()


if __name__ == "__main__":
    main()
