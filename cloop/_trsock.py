"""The socket object that get_extra_info("socket") returns: asyncio's, whose transport knows what is done to it."""

import weakref
from asyncio import trsock

_raw = trsock.TransportSocket._sock  # the slot's descriptor


class TransportSocket(trsock.TransportSocket):
    """Whoever takes the descriptor, or acts on the socket, finds that all that was written has been sent."""

    __slots__ = ("_transport",)
    __module__ = trsock.TransportSocket.__module__

    def __init__(self, sock, transport):
        _raw.__set__(self, sock)
        self._transport = weakref.ref(transport)

    @property
    def _sock(self):
        """For asyncio's methods that are not below: from now on the transport holds nothing back."""
        transport = self._transport()
        if transport is not None:
            transport._expose()
        return _raw.__get__(self)

    # What only asks needs none of that.

    @property
    def family(self):
        return _raw.__get__(self).family

    @property
    def type(self):
        return _raw.__get__(self).type

    @property
    def proto(self):
        return _raw.__get__(self).proto

    def __repr__(self):
        return repr(trsock.TransportSocket(_raw.__get__(self)))

    def get_inheritable(self):
        return _raw.__get__(self).get_inheritable()

    def getsockopt(self, *args, **kwargs):
        return _raw.__get__(self).getsockopt(*args, **kwargs)

    def getpeername(self):
        return _raw.__get__(self).getpeername()

    def getsockname(self):
        return _raw.__get__(self).getsockname()

    def setsockopt(self, *args, **kwargs):
        transport = self._transport()
        if transport is not None:
            transport._flush()
        return _raw.__get__(self).setsockopt(*args, **kwargs)
