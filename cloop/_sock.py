"""The sock_ methods for datagrams, which asyncio has from Python 3.11 on.

LoopCore has them on every version, for plain sockets. Other sockets, such as subclasses of socket.socket, need these
on older versions.
"""

from asyncio import base_events, selector_events

# In base_events from Python 3.9 on.
_check_ssl_socket = getattr(
    base_events, "_check_ssl_socket", getattr(selector_events, "_check_ssl_socket", lambda sock: None)
)


class SockDatagrams:
    async def sock_recvfrom(self, sock, bufsize):
        """Receive a datagram of at most bufsize bytes; return (bytes, address)."""
        return await self._when_ready(sock, self._add_reader, self._remove_reader, sock.recvfrom, bufsize)

    async def sock_recvfrom_into(self, sock, buf, nbytes=0):
        """Receive a datagram into a writable buffer; return (number of bytes, address)."""
        size = nbytes or len(buf)
        return await self._when_ready(sock, self._add_reader, self._remove_reader, sock.recvfrom_into, buf, size)

    async def sock_sendto(self, sock, data, address):
        """Send a datagram to the address; return the number of bytes."""
        return await self._when_ready(sock, self._add_writer, self._remove_writer, sock.sendto, data, address)

    async def _when_ready(self, sock, add, remove, call, *args):
        _check_ssl_socket(sock)
        if self._debug and sock.gettimeout() != 0:
            raise ValueError("the socket must be non-blocking")
        try:
            return call(*args)
        except (BlockingIOError, InterruptedError):
            pass
        future = self.create_future()
        fd = sock.fileno()
        self._ensure_fd_no_transport(fd)
        handle = add(fd, _try_again, future, call, args)
        future.add_done_callback(lambda future: handle.cancelled() or remove(fd))
        return await future


def _try_again(future, call, args):
    if future.done():
        return
    try:
        result = call(*args)
    except (BlockingIOError, InterruptedError):
        return
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(result)
