"""The socket object that get_extra_info("socket") returns: asyncio's class, except that the transport notices its use."""

import weakref
from asyncio import trsock

_raw = trsock.TransportSocket._sock  # the slot's descriptor


class TransportSocket(trsock.TransportSocket):
    """Before the descriptor is handed out, or the socket is acted on, all written data is sent."""

    __slots__ = ("_transport",)
    __module__ = trsock.TransportSocket.__module__

    def __init__(self, sock, transport):
        _raw.__set__(self, sock)
        self._transport = weakref.ref(transport)

    @property
    def _sock(self):
        """For asyncio's methods that are not below. From now on the transport holds nothing back."""
        transport = self._transport()
        if transport is not None:
            transport._expose()
        return _raw.__get__(self)

    # Methods that only query do not need that.

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
