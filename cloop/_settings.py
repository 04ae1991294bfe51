"""The environment variables that select implementations."""

import math
import os

from ._cloop import build_info

__all__ = ("check", "read", "read_seconds")

# The allowed values; a poller must be in this build.
_CHOICES = {
    "CLOOP_ABI": ("strict",),
    "CLOOP_ACCELERATE": ("0", "1"),
    "CLOOP_GATHER": ("0", "always"),
    "CLOOP_MONITOR": ("0", "1"),
    "CLOOP_POLLER": tuple(build_info()["pollers"]),
    "CLOOP_STREAMS": ("stock",),
    "CLOOP_TASKS": ("stock",),
    "CLOOP_TLS": ("stock", "memorybio"),
}
_SECONDS = ("CLOOP_WATCH",)


def read(name):
    """Return the variable's value, None if it is unset or empty; raise ValueError if it is unknown."""
    value = os.environ.get(name) or None
    if value is not None and value not in _CHOICES[name]:
        choices = " or ".join(_CHOICES[name])
        raise ValueError("{}={} is unknown: it may be {}, or not set".format(name, value, choices))
    return value


def read_seconds(name):
    """Return the variable's value, a number above 0; None if it is unset, empty or 0. Raise ValueError if it is none."""
    value = os.environ.get(name) or None
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not (seconds >= 0 and math.isfinite(seconds)):
        raise ValueError("{}={} is unknown: it may be a number of seconds, or not set".format(name, value))
    return seconds or None


def check():
    """Raise ValueError for the first variable whose value is unknown.

    Each new loop calls this. Importing the package must not fail because of a variable.
    """
    for name in _CHOICES:
        read(name)
    for name in _SECONDS:
        read_seconds(name)
