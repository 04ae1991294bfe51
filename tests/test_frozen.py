"""A program that was frozen with cloop: PyInstaller, cx_Freeze, Nuitka and their like take along the modules that import
statements name. What C code imports, and what is imported on first use, must be among them.
"""

import modulefinder
import os
import shutil

import pytest

PROGRAM = """
import asyncio
import sys
import warnings

warnings.simplefilter("error", RuntimeWarning)
import cloop

assert cloop.__file__.startswith(sys.argv[1])
for name in set(cloop.__all__) - {"EventLoopPolicy"}:
    getattr(cloop, name)


async def handle(reader, writer):
    writer.write(await reader.readline())
    writer.close()


async def main():
    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"a line\\n")
    print(await reader.readline())
    writer.close()
    server.close()
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "print(1)", stdout=-1)
    print(await process.communicate())
    print(await asyncio.get_running_loop().run_in_executor(None, pow, 2, 3))


cloop.run(main(), accelerate=True)
"""


def collect(tmp_path, root, text):
    """What a collector finds for a program, among cloop's modules and elsewhere."""
    program = tmp_path / "program.py"
    program.write_text(text)
    finder = modulefinder.ModuleFinder(path=[root])
    finder.run_script(str(program))
    ours = {name: module.__file__ for name, module in finder.modules.items() if name.split(".")[0] == "cloop"}
    return ours, finder.badmodules


@pytest.fixture
def root(cloop):
    return os.path.dirname(os.path.dirname(cloop.__file__))


def test_a_program_runs_with_what_a_collector_finds(tmp_path, root, python):
    found, _ = collect(tmp_path, root, PROGRAM)
    for path in found.values():
        copy = tmp_path / os.path.relpath(path, root)
        copy.parent.mkdir(exist_ok=True)
        shutil.copy(path, str(copy))
    done = python(tmp_path / "program.py", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "b'a line\\n'\n(b'1\\n', None)\n8\n"


def test_a_collector_finds_every_module(tmp_path, root):
    package = os.path.join(root, "cloop")
    there = {os.path.join(package, name) for name in os.listdir(package) if name.endswith(".py")}
    library, _ = collect(tmp_path, root, "import cloop")
    launcher, _ = collect(tmp_path, root, "import cloop.__main__")
    assert there <= {*library.values(), *launcher.values()}
    # The rest is of `python -m cloop`.
    names = "__main__ _bench _compat _console _demo _hooks _main _reach _report _unbuilt".split()
    assert there - set(library.values()) <= {os.path.join(package, name + ".py") for name in names}


def test_a_collector_finds_what_is_imported_late(tmp_path, root):
    _, elsewhere = collect(tmp_path, root, "import cloop")
    assert {"hashlib", "json", "ssl"} <= set(elsewhere)
