"""cloop under uvloop's names: code that imports uvloop gets cloop, with uvloop's names."""

import re

import pytest

USE = """
import asyncio, importlib.util, sys, warnings
warnings.simplefilter("ignore")
import cloop
{install}
assert "uvloop" not in sys.modules
import uvloop
assert (uvloop.Loop, uvloop.new_event_loop, uvloop.run, uvloop.install) == (
    cloop.Loop, cloop.new_event_loop, cloop.run, cloop.install)
from uvloop.loop import Loop
assert Loop is cloop.Loop and uvloop.loop.Loop is Loop
assert importlib.util.find_spec("uvloop") is uvloop.__spec__
assert set(uvloop.__all__) == {{"new_event_loop", "run", "install", "EventLoopPolicy"}}
loop = uvloop.new_event_loop()
assert isinstance(loop, uvloop.Loop)
loop.close()

async def main():
    return isinstance(asyncio.get_running_loop(), cloop.Loop)

assert uvloop.run(main()) is uvloop.run(main(), debug=True) is True
if hasattr(asyncio, "set_event_loop_policy"):
    asyncio.set_event_loop_policy(None)
    uvloop.install()
    assert asyncio.run(main())
    asyncio.set_event_loop_policy(None)
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    assert asyncio.run(main())
for name in "no_such_name", "nothing":
    try:
        getattr(uvloop, name)
    except AttributeError as error:
        assert name in str(error)
    else:
        assert False
try:
    import uvloop.no_such_module
except ModuleNotFoundError:
    print(uvloop.__version__)
"""


@pytest.mark.parametrize("launcher", [True, False], ids=["launcher", "install_as_uvloop"])
def test_uvloop_is_cloop(cloop, python, write_script, launcher):
    path = write_script(USE.format(install="" if launcher else "cloop.install_as_uvloop()"))
    process = python(*["-m", "cloop"][: 2 * launcher], path)
    assert process.returncode == 0, process.stderr
    assert re.match(r"\d+\.\d+\.\d+$", process.stdout)  # programs compare it number by number


def test_uvloop_is_left_alone(cloop, python, write_script):
    write_script("__version__ = 'its own'", "uvloop.py")
    program = "import uvloop; print(uvloop.__version__)"
    assert python("-m", "cloop", "--no-uvloop", "-c", program).stdout == "its own\n"
    assert python("-m", "cloop", "--no-compat", "--no-uvloop", "-c", program).stdout == "its own\n"
    assert python("-m", "cloop", "--no-compat", "-c", program).stdout != "its own\n"
    assert python("-c", "import cloop\n" + program).stdout == "its own\n"


def test_what_was_imported_before_is_not_replaced(cloop, python, write_script):
    write_script("__version__ = 'its own'", "uvloop.py")
    process = python("-c", "import uvloop, cloop; cloop.install_as_uvloop()")
    assert re.search(r"^RuntimeError: uvloop was imported before .*uvloop\.py$", process.stderr, re.MULTILINE)


def test_installing_twice_is_installing_once(cloop, python):
    process = python(
        "-c",
        "import cloop, sys; n = len(sys.meta_path); cloop.install_as_uvloop(); import uvloop; "
        "cloop.install_as_uvloop(); print(len(sys.meta_path) - n, sys.modules['uvloop'] is uvloop)",
    )
    assert process.stdout == "1 True\n", process.stderr
