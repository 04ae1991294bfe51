"""The error of `import cloop` in a checkout where the extension module is not built for this Python."""

import glob
import importlib.machinery
import os
import sys

__all__ = ("explain",)


def explain():
    """Raise ImportError if there is no extension module for this Python."""
    folder = os.path.dirname(__file__)
    if any(os.path.exists(os.path.join(folder, "_cloop" + end)) for end in importlib.machinery.EXTENSION_SUFFIXES):
        return  # it exists, and raises its own error
    others = sorted(os.path.basename(path) for path in glob.glob(os.path.join(folder, "_cloop*.so")))
    raise ImportError(
        "cloop is not built for Python %d.%d in %s%s: run `make` there, or `%s setup.py build_ext --inplace`"
        % (
            *sys.version_info[:2],
            os.path.dirname(folder),
            " (there is %s)" % ", ".join(others) if others else "",
            sys.executable,
        )
    ) from None
