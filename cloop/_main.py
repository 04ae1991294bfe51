"""Runs a program as `python PROGRAM` does, with cloop as asyncio's event loop.

The program finds sys.argv, sys.path[0] and a `__main__` module as if Python had started it. That module stays in
place afterwards, for threads that outlive the main thread, atexit functions and pickle. The traceback of an uncaught
exception begins with the program's first frame.
"""

import asyncio
import builtins
import importlib.machinery
import io
import linecache
import os
import pkgutil
import platform
import runpy
import sys
import textwrap
import types

import cloop
from cloop import _abi, _accelerate, _cloop, _futures, _hooks, _reach, _report, _settings

USAGE = """\
usage: python -m cloop [SWITCHES] [-m MODULE | -c CODE | PROGRAM | -] [ARGS]
       python -m cloop --version | --info | demo | bench
       python -m cloop top [PID] | ps PID | pstree PID

Runs a Python program, unchanged, on the cloop event loop, and so do the processes that it starts by
multiprocessing. `import uvloop` gives it cloop under uvloop's names. What it uses of asyncio and this
Python has no more, such as asyncio.coroutine, is restored for it, with a DeprecationWarning.

  -m MODULE    run a module, as python -m does
  -c CODE      run code given here
  PROGRAM      run a file, a folder or zip file with a __main__.py, or - for standard input
  --accelerate give asyncio's primitives bodies in C
  --metrics    print at the end how busy the loop was, and with what
  --no-compat  restore nothing
  --no-uvloop  leave uvloop alone
  --version    print cloop's version
  --info       print what cloop was built with, runs on, and does natively
  demo         measure cloop beside asyncio and uvloop on this machine, in a minute
  bench        the same of twenty things, beside all loops that are installed, in two minutes
  top          show the loops of running processes live: those that were started with CLOOP_MONITOR=1
  ps, pstree   list the tasks of such a process, what they wait for, and which tasks wait for them"""

SWITCHES = ("--accelerate", "--metrics", "--no-compat", "--no-uvloop")
PYTHONS_OPTIONS = "bBdEiIOPqRsSuvWxX"


def main():
    arguments = sys.argv[1:]
    switches = []
    while arguments and arguments[0] in SWITCHES:
        switches.append(arguments.pop(0))
    option = arguments[0] if arguments else ""
    if option in ("-h", "--help"):
        print(USAGE)
    elif option in ("-V", "--version"):
        print("cloop " + cloop.__version__)
    else:
        start(option, arguments, switches)


def start(option, arguments, switches):
    try:
        _settings.check()
    except ValueError as error:
        print("cloop: %s" % error, file=sys.stderr)
        sys.exit(2)
    if option == "--info":
        if "--accelerate" in switches:
            cloop.accelerate()
        print(info())
    elif option in ("demo", "bench") and not os.path.exists(option):  # which would be a program
        from cloop import _bench, _demo

        sys.exit((_demo if option == "demo" else _bench).main(arguments[1:]))
    elif option in ("top", "ps", "pstree") and not os.path.exists(option):
        from cloop import _console

        sys.exit(_console.main(option, arguments[1:]))
    elif option in ("-m", "-c"):
        if len(arguments) < 2:
            sys.exit(refuse("argument expected for the %s option" % option))
        run = run_module if option == "-m" else run_code
        launch(run, arguments[1], [option] + arguments[2:], switches)
    elif option == "-":
        launch(run_stdin, read_stdin(), arguments, switches)
    elif not option:
        code = b"" if sys.stdin is None or sys.stdin.isatty() else read_stdin()
        if not code.strip():
            sys.exit(refuse("no program given"))
        launch(run_stdin, code, [""], switches)
    elif option.startswith("-"):
        hint = ""
        if option[1] in PYTHONS_OPTIONS:
            whole = " ".join(arguments[: 1 + (option in ("-W", "-X"))])
            hint = "; an option of Python's goes before -m cloop: python %s -m cloop" % whole
        sys.exit(refuse("unknown option: " + option + hint))
    else:
        launch(run_path, option, arguments, switches)


def refuse(why):
    print("cloop: %s\n%s" % (why, USAGE), file=sys.stderr)
    return 2


def info():
    loop = cloop.new_event_loop()
    poller = loop._poller
    natives = native_parts(loop)
    loop.close()
    build = _cloop.build_info()
    lines = [
        ("cloop", "%s (%s)" % (cloop.__version__, os.path.dirname(cloop.__file__))),
        ("Python", "%s (%s)" % (" ".join(sys.version.split()), sys.executable)),
        ("compiler", build["compiler"]),
        ("flags", build["flags"]),
        ("poller", poller),
        *natives,
        ("kernel", " ".join((platform.system(), platform.release(), platform.machine()))),
        ("C library", " ".join(platform.libc_ver())),
    ]
    lines += zip(["in C"] + [""] * 99, _accelerate.report())
    return "\n".join("%-10s %s" % line for line in lines)


def _openssl_version():
    """None if this Python has no ssl module."""
    try:
        import ssl
    except ImportError:
        return None
    return ssl.OPENSSL_VERSION


def native_parts(loop):
    """Return what is done in C here, or why not."""
    if _futures.Task is _cloop.Task:
        futures = "native"
    elif _settings.read("CLOOP_TASKS") == "stock":
        futures = "asyncio's, by CLOOP_TASKS=stock"
    elif _cloop.FREE_THREADED:
        futures = "asyncio's: this Python has no GIL"
    else:
        futures = "asyncio's: " + (_abi.reasons("futures") or "its classes have been changed")
    reader = asyncio.StreamReader(loop=loop)
    _cloop.adopt_reader(reader)
    if type(reader) is not asyncio.StreamReader:
        streams = "native"
    elif _settings.read("CLOOP_STREAMS") == "stock":
        streams = "asyncio's, by CLOOP_STREAMS=stock"
    elif _cloop.FREE_THREADED:
        streams = "asyncio's: this Python has no GIL"
    else:
        streams = "asyncio's: " + (_abi.reasons("streams") or "its classes have been changed")
    version = _openssl_version()
    if version is None:
        tls = "none: this Python has no ssl module"
    elif not _abi.has("TLS"):
        tls = "asyncio's: " + _abi.reasons("TLS")
    elif _settings.read("CLOOP_TLS") == "memorybio":
        tls = "native, by MemoryBIO as CLOOP_TLS=memorybio says; " + version
    elif _settings.read("CLOOP_TLS") == "stock":
        tls = "asyncio's, by CLOOP_TLS=stock; " + version
    else:
        tls = "native, " + version
    writes = {"0": "each is sent at once, by CLOOP_GATHER=0", "always": "held, by CLOOP_GATHER=always"}
    left = [(part, "asyncio's: " + _abi.reasons(part)) for part in ("transports", "children", "executor")]
    return [
        *[(part, why) for part, why in left if not _abi.has(part)],
        ("tasks", futures),
        ("streams", streams),
        ("TLS", tls),
        ("writes", writes.get(_settings.read("CLOOP_GATHER"), "held where that has paid")),
    ]


# Running


def launch(run, what, argv, switches):
    """Call run(what) with the loop selected; an exception ends the interpreter."""
    if "--metrics" in switches:
        _report.at_exit()
    _reach.begin(switches)
    sys.argv[:] = argv
    try:
        run(what)
    except SystemExit:
        raise
    except BaseException as error:
        # The interpreter reports the exception, so that Ctrl-C ends the process as usual. The excepthook gets the
        # traceback without the launcher's frames.
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


def current_folder():
    """None if it has been removed."""
    try:
        return os.getcwd()
    except OSError:
        return None


def absolute(path):
    """Return the path as Python makes it absolute, which keeps what is not normal in it."""
    folder = current_folder()
    if os.path.isabs(path) or folder is None:
        return path
    if path in ("", "."):
        return folder
    return os.path.join(folder, path)


def set_path(entry):
    """Put the program's entry in the place of this module's in sys.path; None if it has none. Python gave this module
    the current folder, if there is one.
    """
    if not (getattr(sys.flags, "safe_path", False) or sys.flags.isolated):
        sys.path[: current_folder() is not None] = [] if entry is None else [entry]


def new_main(file=None, loader=None):
    """Return a new `__main__` module, as Python makes it for a program."""
    module = types.ModuleType("__main__")
    module.__builtins__ = builtins
    module.__loader__ = loader
    if sys.version_info < (3, 14):
        module.__annotations__ = {}
    if file is not None:
        module.__file__ = file
        if sys.version_info < (3, 15):
            module.__cached__ = None
    sys.modules["__main__"] = module
    return module


def run_path(path):
    # From 3.9 on Python makes the name absolute, in __file__ and in tracebacks.
    file = absolute(path) if sys.version_info >= (3, 9) else path
    importer = pkgutil.get_importer(path)
    if isinstance(importer, (type(None), importlib.machinery.FileFinder)) and not os.path.isdir(path):
        code = load(path, file)
        set_path(os.path.dirname(os.path.realpath(path)))
        module = new_main(file, importlib.machinery.SourceFileLoader("__main__", file))
        exec(code, module.__dict__)
    else:
        set_path(file)
        new_main()
        runpy._run_module_as_main("__main__", False)


def load(path, file):
    try:
        with io.open_code(absolute(path)) as opened:
            data = opened.read()  # once: it may be a pipe, such as the shell's <(command)
    except OSError as error:
        reason = "can't open file %r: [Errno %d] %s" % (file, error.errno, error.strerror)
        print("%s: %s" % (sys.executable, reason), file=sys.stderr)
        sys.exit(2)
    if not os.path.isfile(path):
        _hooks.code_given = data
    code = pkgutil.read_code(io.BytesIO(data))  # a .pyc
    return compile(data, file, "exec", dont_inherit=True) if code is None else code


def run_module(name):
    set_path(current_folder())
    new_main()
    # What `python -m` calls itself; runpy.run_module() would restore this module at the end.
    runpy._run_module_as_main(name)


def run_code(text):
    if sys.version_info >= (3, 14):
        text = textwrap.dedent(text)
    run_given(text, "<string>", new_main(loader=importlib.machinery.BuiltinImporter))


def run_stdin(data):
    run_given(data, "<stdin>", new_main("<stdin>", importlib.machinery.BuiltinImporter))


def read_stdin():
    """Return the bytes: what encoding they have may be said in the program."""
    return b"" if sys.stdin is None else sys.stdin.buffer.read()


def run_given(source, file, module):
    set_path("")
    _hooks.code_given = source
    code = compile(source, file, "exec", dont_inherit=True)
    if file == "<string>" and hasattr(linecache, "_register_code"):  # from 3.13 on tracebacks show lines of `-c`
        linecache._register_code(code if sys.version_info >= (3, 14) else file, source, file)
    exec(code, module.__dict__)
