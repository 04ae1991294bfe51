"""Changes to modules of the standard library, for the launcher."""

import importlib.machinery
import sys

__all__ = ("main_source", "on_import", "replace")


def replace(module, name, value):
    """Replace asyncio's module.name, also where other asyncio modules have imported it."""
    previous = vars(module)[name]
    for other in list(sys.modules):
        if other.partition(".")[0] == "asyncio":
            namespace = vars(sys.modules[other])
            if namespace.get(name) is previous:
                namespace[name] = value


def on_import(name, change):
    """Call change(module) when the module is imported, or now if it has been.

    Importing multiprocessing just to change it would cost every program 10 ms.
    """
    if name in sys.modules:
        change(sys.modules[name])
    else:
        sys.meta_path.insert(0, OnImport(name, change))


class OnImport:
    """A finder for one module, which is changed after it was executed."""

    def __init__(self, name, change):
        self.name = name
        self.change = change

    def find_spec(self, name, path=None, target=None):
        if name != self.name:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None:
            execute = spec.loader.exec_module

            def exec_module(module):
                execute(module)
                sys.meta_path.remove(self)
                self.change(module)

            spec.loader.exec_module = exec_module
        return spec


code_given = None  # source of a program that is not in a file


def main_source():
    """Return the source of the program that runs as `__main__`, None if it has none."""
    if code_given is not None:
        return code_given
    main = sys.modules["__main__"]
    return main.__loader__.get_source("__main__" if main.__spec__ is None else main.__spec__.name)
