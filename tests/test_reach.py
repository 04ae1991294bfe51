"""What the launcher affects: the children of multiprocessing and asyncio's defaults; and its message if no loop was
cloop's.
"""

import sys

import pytest

pytestmark = pytest.mark.slow

WHICH = """
import asyncio, sys

def which():
    async def main():
        return type(asyncio.get_running_loop()).__module__.partition(".")[0]
    return asyncio.run(main())
"""


@pytest.fixture
def launch(cloop, python, write_script):
    """Runs a program with `python -m cloop`."""

    def launch(text, arguments=()):
        return python("-m", "cloop", write_script(text, "program.py"), *arguments)

    return launch


# Children

CHILDREN = (
    WHICH
    + """
import concurrent.futures, multiprocessing

def child(queue):
    import uvloop
    queue.put((which(), uvloop.__name__ + uvloop.__version__[:2], hasattr(asyncio, "coroutine")))

def grandchild(queue):
    process = multiprocessing.get_context(sys.argv[1]).Process(target=child, args=(queue,))
    process.start()
    process.join()

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    for target in child, grandchild:
        queue = context.SimpleQueue()
        process = context.Process(target=target, args=(queue,))
        process.start()
        print(*queue.get())
        process.join()
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        print(pool.submit(which).result(), process.exitcode)
"""
)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_run_on_cloop(cloop, python, write_script, method):
    program = write_script(CHILDREN, "program.py")
    process = python("-W", "ignore", "-m", "cloop", program, method)
    assert process.stdout.splitlines() == ["cloop uvloop0. True"] * 2 + ["cloop 0"], process.stderr
    assert process.stderr == ""


def test_children_of_a_module_and_of_code(cloop, python, write_script):
    write_script(CHILDREN, "program.py")
    process = python("-W", "ignore", "-m", "cloop", "-m", "program", "spawn")
    assert process.stdout.splitlines() == ["cloop uvloop0. True"] * 2 + ["cloop 0"], process.stderr
    code = "from program import *; context = multiprocessing.get_context('spawn'); queue = context.SimpleQueue()\n"
    code += (
        "process = context.Process(target=child, args=(queue,)); process.start(); print(*queue.get()); process.join()"
    )
    process = python("-W", "ignore", "-m", "cloop", "-c", code)
    assert process.stdout == "cloop uvloop0. True\n", process.stderr


def test_children_find_this_cloop_from_another_folder(launch, write_script, tmp_path):
    """Their path is not set up when they start; another module called cloop there must not be imported."""
    write_script("raise ImportError('another')", "elsewhere/cloop/__init__.py")
    chdir = "import os; os.chdir(sys.argv[1]); sys.argv[1] = 'spawn'; context"
    process = launch(CHILDREN.replace("    context", "    " + chdir, 1), arguments=["elsewhere"])
    assert process.stdout.splitlines()[-1] == "cloop 0", process.stderr


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_switches_reach_the_children(cloop, python, write_script, method):
    write_script("__name__ = 'its own '; __version__ = '1'", "uvloop.py")
    program = write_script(CHILDREN, "program.py")
    process = python("-W", "ignore", "-m", "cloop", "--no-compat", "--no-uvloop", program, method)
    had = sys.version_info < (3, 11)
    assert process.stdout.splitlines() == ["cloop its own 1 %s" % had] * 2 + ["cloop 0"], process.stderr


def test_what_else_multiprocessing_starts_is_left_alone(launch):
    process = launch(
        """
        import sys
        from multiprocessing import shared_memory, util
        started = []
        spawn, util.spawnv_passfds = util.spawnv_passfds, lambda path, args, fds: started.append(args) or spawn(path, args, fds)
        memory = shared_memory.SharedMemory(create=True, size=1)
        memory.close()
        memory.unlink()
        (args,) = started
        assert "resource_tracker" in args[-1] and "cloop" not in args[-1], args
        """
    )
    assert process.returncode == 0, process.stderr


# The start method

START_METHOD = """
import concurrent.futures, multiprocessing

def in_child():
    return multiprocessing.get_start_method()

def main():
    print(multiprocessing.get_start_method())
    with concurrent.futures.ProcessPoolExecutor(1) as pool:
        print(pool.submit(in_child).result())

"""
GUARDS = {
    "if": "if __name__ == '__main__': main()",
    "reversed": "if '__main__' == __name__: main()",
    "more": "import sys\nif __name__ == '__main__' and not sys.flags.debug: main()",
    "negated": "def run():\n    if __name__ != '__main__': return\n    main()\nrun()",
}


@pytest.mark.parametrize("guard", GUARDS)
def test_start_method_is_this_pythons(cloop, python, write_script, guard):
    path = write_script(START_METHOD + GUARDS[guard], "program.py")
    theirs, ours = python(path), python("-m", "cloop", path)
    assert theirs.returncode == 0
    assert (ours.stdout, ours.stderr) == (theirs.stdout, theirs.stderr)
    module = python("-m", "cloop", "-m", "program")
    assert (module.stdout, module.stderr) == (theirs.stdout, theirs.stderr)


def test_without_guard_it_is_fork_with_a_warning(launch):
    process = launch(START_METHOD + "main()")
    assert process.stdout == "fork\nfork\n", process.stderr
    if sys.version_info >= (3, 14):
        warning, _ = process.stderr.splitlines()  # and the line that it names
        assert "fork as the default start method of processes is gone since Python 3.14" in warning
        assert "main()" not in warning
    else:
        assert process.stderr == ""


# Which loop it was

OTHER = """
import asyncio

async def main():
    print("ran")

loop = asyncio.SelectorEventLoop()
loop.run_until_complete(main())
loop.close()
"""


def test_another_loop_is_told_at_the_end(launch):
    process = launch(OTHER)
    assert (process.returncode, process.stdout) == (0, "ran\n")
    assert process.stderr == "cloop: the program ran on asyncio.SelectorEventLoop, not on cloop\n"


def test_class_of_another_loop_is_named(launch):
    own = "import asyncio\nclass Own(asyncio.SelectorEventLoop): pass\nasyncio.SelectorEventLoop = Own\n"
    process = launch(own + OTHER + "raise SystemExit(3)")
    assert process.returncode == 3
    assert process.stderr == "cloop: the program ran on __main__.Own, not on cloop\n"


@pytest.mark.parametrize(
    "text",
    ["print('no loop')", OTHER + "asyncio.run(main())", "import asyncio\nasyncio.run(asyncio.sleep(0))\n" + OTHER],
    ids=["none", "both", "ours first"],
)
def test_nothing_is_told_if_there_is_nothing_to_tell(cloop, python, write_script, text):
    process = python("-W", "ignore", "-m", "cloop", write_script(text, "program.py"))
    assert (process.returncode, process.stderr) == (0, "")


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_another_loop_of_a_child_is_told(launch, method):
    process = launch(
        """
        import asyncio, multiprocessing

        def child():
            loop = asyncio.SelectorEventLoop()
            loop.run_until_complete(asyncio.sleep(0))
            loop.close()

        if __name__ == "__main__":
            process = multiprocessing.get_context("%s").Process(target=child, name="the child")
            process.start()
            process.join()
        """
        % method
    )
    assert process.returncode == 0
    assert process.stderr == "cloop: process the child ran on asyncio.SelectorEventLoop, not on cloop\n"


def test_what_was_looked_at_is_put_back(launch):
    process = launch(
        """
        import asyncio
        async def main():
            return asyncio._set_running_loop
        during, after = asyncio.run(main()), asyncio._set_running_loop
        assert during is after is asyncio.events._set_running_loop and type(after).__name__ == "builtin_function_or_method"
        """
    )
    assert process.returncode == 0, process.stderr


# A Python without policies


@pytest.mark.skipif(sys.version_info < (3, 14), reason="where policies are about to go")
def test_default_is_cloops_without_policies(cloop, python, write_script):
    """As 3.16 will be; the launcher finds a new_event_loop() that uses no policy."""
    path = write_script(
        """
        import asyncio, sys
        for module in asyncio, asyncio.events:
            for name in [name for name in vars(module) if name.endswith("event_loop_policy") and name[0] != "_"]:
                delattr(module, name)
        asyncio.new_event_loop = asyncio.events.new_event_loop = lambda: asyncio.SelectorEventLoop()
        from cloop import _reach
        _reach.begin(["--no-compat"])
        async def main():
            return type(asyncio.get_running_loop()).__module__
        print(asyncio.run(main()), asyncio.Runner().run(main()), type(asyncio.new_event_loop()).__module__)
        """
    )
    process = python("-W", "ignore", path)
    assert process.stdout == "cloop._loop cloop._loop cloop._loop\n", process.stderr
