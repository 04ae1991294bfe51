"""What differs between systems, for the parts in Python; csrc/base/platform.h has the same for C."""

import os


def is_running(pid):
    """Return whether there is a process with this number."""
    if pid <= 0:  # kill() would take it for a group
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        pass
    return True
