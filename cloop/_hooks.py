"""How the launcher changes modules of the standard library that the program is about to use."""

import importlib.machinery
import sys

__all__ = ("main_source", "on_import", "replace")


def replace(module, name, value):
    """Put value where asyncio has module.name, also under the names that its other modules import."""
    previous = vars(module)[name]
    for other in list(sys.modules):
        if other.partition(".")[0] == "asyncio":
            namespace = vars(sys.modules[other])
            if namespace.get(name) is previous:
                namespace[name] = value


def on_import(name, change):
    """Call change(module) when the module of that name is imported, or now if it has been.

    Importing multiprocessing for its sake would cost every program 10 ms.
    """
    if name in sys.modules:
        change(sys.modules[name])
    else:
        sys.meta_path.insert(0, OnImport(name, change))


class OnImport:
    """A finder of one module, which it changes after it was executed."""

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


code_given = None  # the text of a program that is in no file


def main_source():
    """Return the source of the program that runs as `__main__`, None if there is none."""
    if code_given is not None:
        return code_given
    main = sys.modules["__main__"]
    return main.__loader__.get_source("__main__" if main.__spec__ is None else main.__spec__.name)
