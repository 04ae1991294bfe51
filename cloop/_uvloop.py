"""cloop under uvloop's names, for programs and libraries that use uvloop."""

import importlib
import importlib.machinery
import sys

__all__ = ("install_as_uvloop",)

NAMES = "new_event_loop", "run", "install", "EventLoopPolicy"
# The uvloop release whose names these are. Libraries compare it, so it has no suffix.
VERSION = "0.23.0"


def install_as_uvloop():
    """Make `import uvloop` return cloop under uvloop's names, in this process and from now on.

    run, install, new_event_loop, Loop, EventLoopPolicy and loop.Loop are cloop's. __version__ is that of the uvloop
    release with these names, whether uvloop is installed or not. Call it before anything imports uvloop. Raises
    RuntimeError if uvloop itself has been imported.
    """
    imported = sys.modules.get("uvloop")
    if imported is not None and not isinstance(getattr(imported, "__loader__", None), Loader):
        raise RuntimeError(
            "uvloop was imported before cloop.install_as_uvloop() was called, from %s"
            % getattr(imported, "__file__", "?")
        )
    if Finder not in sys.meta_path:
        sys.meta_path.insert(0, Finder)


class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name not in ("uvloop", "uvloop.loop"):
            return None
        return importlib.machinery.ModuleSpec(name, Loader(), origin=__file__, is_package=name == "uvloop")


class Loader:
    def create_module(self, spec):
        return None

    def exec_module(self, module):
        import cloop

        module.__doc__ = "cloop under uvloop's names: see cloop.install_as_uvloop()."
        module.__file__ = __file__
        module.Loop = cloop.Loop
        if module.__name__ == "uvloop":
            module.__version__ = VERSION
            module.__all__ = tuple(name for name in NAMES if name in cloop.__all__)
            for name in "new_event_loop", "run", "install":
                setattr(module, name, getattr(cloop, name))
            module.__getattr__ = policy_or_error
            importlib.import_module("uvloop.loop")


def policy_or_error(name):
    """uvloop.EventLoopPolicy, created on first use, like cloop's."""
    import cloop

    if name == "EventLoopPolicy":
        return cloop.EventLoopPolicy
    raise AttributeError("module 'uvloop' has no attribute {!r} here: it is cloop".format(name))
