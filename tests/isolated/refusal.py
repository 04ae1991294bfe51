"""Runs Python with system calls refused for good, as sandboxes (seccomp of Docker and systemd, gVisor) and old kernels do.

    python refusal.py "CALL ..." ERRNO ARGUMENTS OF PYTHON

CALL is a name, or name:argument:value for one with that value. Names that this machine's kernel does not have are left
out. The exit status is UNABLE if the kernel has no such filters, or the numbers of this machine's calls are not known.
"""

import ctypes
import errno
import os
import platform
import struct
import sys

UNABLE = 77

# Those of x86-64 and of aarch64, which has the newer ones only.
NUMBERS = {
    "accept": (43, 202), "accept4": (288, 242), "close_range": (436, 436), "epoll_create": (213, None),
    "epoll_create1": (291, 20), "epoll_pwait2": (441, 441), "getsockopt": (55, 209), "memfd_create": (319, 279),
    "pidfd_open": (434, 434), "pipe": (22, None), "pipe2": (293, 59), "ppoll": (271, 73), "recvmsg": (47, 212),
    "sendfile": (40, 71), "sendmsg": (46, 211), "socket": (41, 198), "vfork": (58, None), "waitid": (247, 95),
    "writev": (20, 66),
}  # fmt: skip
MACHINES = ["x86_64", "aarch64"]

# Of <linux/filter.h>, <linux/seccomp.h> and <linux/prctl.h>.
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ERROR, ALLOW = 0x50000, 0x7FFF0000
NUMBER_AT, ARGUMENTS_AT = 0, 16
NO_NEW_PRIVILEGES, SECCOMP, BY_FILTER = 38, 22, 2


def program(calls, error):
    """The filter, as instructions of BPF."""
    made = []
    for call in calls:
        name, *argument = call.split(":")
        number = NUMBERS[name][MACHINES.index(platform.machine())]
        if number is None:
            continue
        answer = [(RETURN, 0, 0, ERROR | error)]
        if argument:
            at, value = map(int, argument)
            answer[:0] = [(LOAD, 0, 0, ARGUMENTS_AT + 8 * at), (JUMP_IF_EQUAL, 0, 1, value)]
        made += [(LOAD, 0, 0, NUMBER_AT), (JUMP_IF_EQUAL, 0, len(answer), number), *answer]
    made.append((RETURN, 0, 0, ALLOW))
    return b"".join(struct.pack("HBBI", *each) for each in made), len(made)


def refuse(calls, error):
    """From now on, here and in all children."""
    code, count = program(calls, error)
    filter = ctypes.create_string_buffer(code)
    described = ctypes.create_string_buffer(struct.pack("@HP", count, ctypes.addressof(filter)))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    nothing = ctypes.c_ulong(0)
    for order in (
        (NO_NEW_PRIVILEGES, ctypes.c_ulong(1), nothing, nothing, nothing),
        (SECCOMP, ctypes.c_ulong(BY_FILTER), ctypes.c_void_p(ctypes.addressof(described)), nothing, nothing),
    ):
        if prctl(*order) < 0:
            raise OSError(ctypes.get_errno(), "prctl(%d)" % order[0])


if __name__ == "__main__":
    if platform.machine() not in MACHINES:
        sys.exit(UNABLE)
    try:
        refuse(sys.argv[1].split(), getattr(errno, sys.argv[2]))
    except OSError as failure:
        print(failure, file=sys.stderr)
        sys.exit(UNABLE)
    os.execv(sys.executable, [sys.executable, *sys.argv[3:]])
