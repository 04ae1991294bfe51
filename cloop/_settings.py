"""The environment variables that select implementations."""

import os

from ._cloop import build_info

__all__ = ("check", "read")

# The allowed values; a poller must be in this build.
_CHOICES = {
    "CLOOP_ABI": ("strict",),
    "CLOOP_ACCELERATE": ("0", "1"),
    "CLOOP_GATHER": ("0", "always"),
    "CLOOP_POLLER": tuple(build_info()["pollers"]),
    "CLOOP_STREAMS": ("stock",),
    "CLOOP_TASKS": ("stock",),
    "CLOOP_TLS": ("stock", "memorybio"),
}


def read(name):
    """Return the variable's value, None if it is unset or empty; raise ValueError if it is unknown."""
    value = os.environ.get(name) or None
    if value is not None and value not in _CHOICES[name]:
        choices = " or ".join(_CHOICES[name])
        raise ValueError("{}={} is unknown: it may be {}, or not set".format(name, value, choices))
    return value


def check():
    """Raise ValueError for the first variable whose value is unknown.

    Each new loop calls this. Importing the package must not fail because of a variable.
    """
    for name in _CHOICES:
        read(name)
