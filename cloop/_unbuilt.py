"""The error of `import cloop` in a checkout where the extension module is not built for this Python, or in a zip file."""

import glob
import importlib.machinery
import os
import sys

__all__ = ("explain",)


def explain():
    """Raise ImportError if there is no extension module for this Python, or none that it could load."""
    folder = os.path.dirname(__file__)
    archive = _archive_of(folder)
    if archive is not None:
        raise ImportError(
            "cloop is in the file %s: Python loads no extension module from one; cloop must be in a folder, beside it or "
            "installed" % archive
        ) from None
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


def _archive_of(folder):
    """The file that the folder is in, such as a zip file; None if it is a real one."""
    while not os.path.exists(folder) and folder != os.path.dirname(folder):
        folder = os.path.dirname(folder)
    return folder if os.path.isfile(folder) else None
