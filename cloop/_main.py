"""Runs a program as `python PROGRAM` does, with cloop as asyncio's event loop.

The program finds sys.argv, sys.path[0] and a `__main__` module as if Python had been
started on it. That module stays in place afterwards: threads that outlive the main one,
atexit functions and pickle look it up. The traceback of an exception that nobody caught
begins with the program's first frame, not with ours.
"""

import asyncio
import builtins
import importlib.machinery
import io
import os
import pkgutil
import platform
import runpy
import sys
import types
import warnings

import cloop
from cloop import _accelerate, _cloop, _settings

USAGE = """\
usage: python -m cloop [--accelerate] [--no-compat] [-m MODULE | -c CODE | PROGRAM] [ARGS]
       python -m cloop --version | --info

Runs a Python program, unchanged, on the cloop event loop. What it uses of asyncio and this Python
has no more, such as asyncio.coroutine, is restored for it, with a DeprecationWarning.

  -m MODULE    run a module, as python -m does
  -c CODE      run code given here
  PROGRAM      run a file, a folder or zip file with a __main__.py, or - for standard input
  --accelerate give asyncio's primitives bodies in C
  --no-compat  restore nothing
  --version    print cloop's version
  --info       print what cloop was built with and runs on"""


def main():
    arguments = sys.argv[1:]
    flags = set()
    while arguments and arguments[0] in ("--accelerate", "--no-compat"):
        flags.add(arguments.pop(0))
    option = arguments[0] if arguments else ""
    if option in ("-h", "--help"):
        print(USAGE)
    elif option in ("-V", "--version"):
        print("cloop " + cloop.__version__)
    else:
        start(option, arguments, flags)


def start(option, arguments, flags):
    compat = "--no-compat" not in flags
    try:
        _settings.check()
    except ValueError as error:
        print("cloop: %s" % error, file=sys.stderr)
        sys.exit(2)
    if "--accelerate" in flags:
        cloop.accelerate()
    if option == "--info":
        print(info())
    elif option in ("-m", "-c"):
        if len(arguments) < 2:
            sys.exit(refuse("argument expected for the %s option" % option))
        run = run_module if option == "-m" else run_code
        launch(run, arguments[1], [option] + arguments[2:], compat)
    elif option == "-":
        launch(run_stdin, option, arguments, compat)
    elif not option or option.startswith("-"):
        sys.exit(refuse("unknown option: " + option if option else "no program given"))
    else:
        launch(run_path, option, arguments, compat)


def refuse(why):
    print("cloop: %s\n%s" % (why, USAGE), file=sys.stderr)
    return 2


def info():
    loop = cloop.new_event_loop()
    poller = loop._poller
    loop.close()
    build = _cloop.build_info()
    lines = [
        ("cloop", "%s (%s)" % (cloop.__version__, os.path.dirname(cloop.__file__))),
        ("Python", "%s (%s)" % (" ".join(sys.version.split()), sys.executable)),
        ("compiler", build["compiler"]),
        ("flags", build["flags"]),
        ("poller", poller),
        ("kernel", " ".join((platform.system(), platform.release(), platform.machine()))),
        ("C library", " ".join(platform.libc_ver())),
    ]
    lines += zip(["in C"] + [""] * 99, _accelerate.report())
    return "\n".join("%-10s %s" % line for line in lines)


def select_loop():
    """Make cloop's loops those that asyncio makes.

    Policies do this up to 3.15. Python 3.14 deprecates them, which is our business and not
    the program's, so it is not told. Python 3.16 removes them: its way goes here.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        asyncio.set_event_loop_policy(cloop.EventLoopPolicy())


# Running


def launch(run, what, argv, compat):
    """Call run(what) with the loop selected; let what it raises end the interpreter."""
    select_loop()
    if compat:
        from cloop import _compat

        _compat.restore()
    sys.argv[:] = argv
    try:
        run(what)
    except SystemExit:
        raise
    except BaseException as error:
        # The interpreter reports it, so that Ctrl-C ends the process as it always does; the
        # program's excepthook, or the usual one, gets the traceback without our frames.
        sys.excepthook = without_launcher(error, sys.excepthook)
        raise


def without_launcher(error, excepthook):
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_frame.f_globals in (globals(), vars(runpy)):
        traceback = traceback.tb_next

    def hook(kind, value, full):
        sys.excepthook = excepthook
        if value is error:
            full = traceback
            value.__traceback__ = traceback
        excepthook(kind, value, full)

    return hook


def set_path(entry):
    """Put the program's entry where `python -m cloop` left that of this module."""
    if not (getattr(sys.flags, "safe_path", False) or sys.flags.isolated):
        sys.path[0] = entry


def new_main(file=None, loader=None):
    """A fresh `__main__` with what Python gives a program that is no module."""
    module = types.ModuleType("__main__")
    module.__builtins__ = builtins
    module.__loader__ = loader
    if sys.version_info < (3, 14):
        module.__annotations__ = {}
    if file is not None:
        module.__file__ = file
        module.__cached__ = None
    sys.modules["__main__"] = module
    return module


def run_path(path):
    # Since 3.9 Python makes the name absolute, in __file__ and in tracebacks.
    file = os.path.abspath(path) if sys.version_info >= (3, 9) else path
    importer = pkgutil.get_importer(path)
    if isinstance(importer, (type(None), importlib.machinery.FileFinder)) and not os.path.isdir(path):
        code = load(path, file)
        set_path(os.path.dirname(os.path.realpath(path)))
        module = new_main(file, importlib.machinery.SourceFileLoader("__main__", file))
        exec(code, module.__dict__)
    else:
        set_path(path)
        new_main()
        runpy._run_module_as_main("__main__", False)


def load(path, file):
    try:
        with io.open_code(os.path.abspath(path)) as opened:
            code = pkgutil.read_code(opened)  # a .pyc
        if code is None:
            with io.open_code(os.path.abspath(path)) as opened:
                code = compile(opened.read(), file, "exec", dont_inherit=True)
    except OSError as error:
        reason = "can't open file %r: [Errno %d] %s" % (file, error.errno, error.strerror)
        print("%s: %s" % (sys.executable, reason), file=sys.stderr)
        sys.exit(2)
    return code


def run_module(name):
    set_path(os.getcwd())
    new_main()
    # What `python -m` itself calls; runpy.run_module() would put this module back at the end.
    runpy._run_module_as_main(name)


def run_code(code, file="<string>"):
    set_path("")
    module = new_main(loader=importlib.machinery.BuiltinImporter)
    exec(compile(code, file, "exec", dont_inherit=True), module.__dict__)


def run_stdin(_):
    run_code(sys.stdin.read(), "<stdin>")
