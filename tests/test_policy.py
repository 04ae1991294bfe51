"""The policy, install(), and the effects of importing cloop."""

import asyncio
import json
import sys
import warnings

import pytest

HAS_POLICIES = hasattr(asyncio, "set_event_loop_policy")
needs_policies = pytest.mark.skipif(not HAS_POLICIES, reason="this asyncio has no policies")


@pytest.fixture
def policy(cloop):
    """cloop's policy, set during the test."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        asyncio.set_event_loop_policy(cloop.EventLoopPolicy())
        yield asyncio.get_event_loop_policy()
        asyncio.set_event_loop_policy(None)


# The package


def test_public_names(cloop):
    for name in ("EventLoopPolicy", "Loop", "__version__", "install", "new_event_loop", "run"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            assert getattr(cloop, name) is not None


def test_version_is_a_version(cloop):
    numbers = cloop.__version__.split(".")
    assert len(numbers) >= 2 and numbers[0].isdigit() and numbers[1].isdigit()


def test_unknown_name_is_an_attribute_error(cloop):
    with pytest.raises(AttributeError, match="no_such_name"):
        cloop.no_such_name


def test_new_event_loop(cloop):
    loop = cloop.new_event_loop()
    assert type(loop) is cloop.Loop
    loop.close()


@pytest.mark.parametrize("statement", ["import cloop", "import cloop._cloop", "from cloop import *"])
def test_import_warns_of_nothing_and_prints_nothing(cloop, python, statement):
    if "*" in statement and sys.version_info >= (3, 14):
        pytest.skip("the star takes EventLoopPolicy, which may warn")
    process = python("-W", "error", "-c", statement)
    assert (process.returncode, process.stdout, process.stderr) == (0, "", "")


def test_import_leaves_what_few_programs_use(cloop, python):
    text = """
import sys, cloop
later = "accelerate", "console", "dump", "monitor", "slow", "uvloop", "watch"
print([name for name in later if "cloop._" + name in sys.modules], set(cloop.__all__) <= set(dir(cloop)))
print(cloop.watch.__module__, "watch" in vars(cloop), cloop.SlowCallback.__name__)
"""
    process = python("-c", text)
    assert process.stdout.split("\n")[:2] == ["[] True", "cloop._watch True SlowCallback"], process.stderr


def test_import_changes_nothing_of_asyncio(cloop, python):
    look = (
        "{k: id(v) for m in (asyncio, asyncio.events, asyncio.tasks, asyncio.base_events) for k, v in vars(m).items()}"
    )
    text = "import asyncio, asyncio.base_events, signal\nbefore = %s\nimport cloop\nprint(before == %s, signal.set_wakeup_fd(-1))"
    process = python("-c", text % (look, look))
    assert process.stdout.split() == ["True", "-1"], process.stderr


@pytest.mark.parametrize("poller", ["epoll", "poll"])
def test_environment_chooses_the_poller(cloop, monkeypatch, poller):
    monkeypatch.setenv("CLOOP_POLLER", poller)
    loop = cloop.new_event_loop()
    assert loop._poller == poller
    loop.close()


def test_unknown_poller_is_refused_by_name(cloop, monkeypatch):
    monkeypatch.setenv("CLOOP_POLLER", "nonsense")
    with pytest.raises((ValueError, RuntimeError), match="nonsense"):
        cloop.new_event_loop()


@pytest.mark.skipif(sys.version_info < (3, 15), reason="lazy imports came in Python 3.15")
def test_lazy_imports_of_all_modules_change_nothing(cloop, python):
    text = """
import asyncio
import cloop
loop = cloop.new_event_loop()
print(type(loop.create_future()), type(loop.create_task(asyncio.sleep(0.001))), loop.run_until_complete(asyncio.sleep(0.01, 5)))
loop.close()
"""
    for arguments in ("-c", text), ("-m", "cloop", "--info"):
        eager = python(*arguments)
        lazy = python("-X", "lazy_imports=all", *arguments)
        assert (lazy.returncode, lazy.stdout, lazy.stderr) == (0, eager.stdout, eager.stderr)


# The policy


@needs_policies
def test_policy_derives_from_that_of_asyncio(cloop, policy):
    assert isinstance(policy, asyncio.AbstractEventLoopPolicy)
    assert isinstance(policy, asyncio.DefaultEventLoopPolicy)
    assert isinstance(policy, cloop.EventLoopPolicy)


@needs_policies
def test_asyncio_makes_loops_of_cloop(cloop, policy):
    loop = asyncio.new_event_loop()
    assert type(loop) is cloop.Loop
    loop.close()


@needs_policies
def test_asyncio_run_uses_cloop(cloop, policy):
    async def main():
        return type(asyncio.get_running_loop())

    assert asyncio.run(main()) is cloop.Loop


@needs_policies
def test_policy_has_the_same_public_names(cloop, policy):
    assert {name for name in dir(asyncio.DefaultEventLoopPolicy) if name[0] != "_"} <= set(dir(policy))


PROBE = """
import asyncio, json, sys, threading, warnings
from {module} import {name} as Policy

def outcome(function):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = function()
            result = "a loop" if isinstance(result, asyncio.AbstractEventLoop) else repr(result)
        except BaseException as error:
            result = [type(error).__name__, str(error)]
    # When an unclosed loop is warned of depends on the garbage collector.
    return [result, [(w.category.__name__, str(w.message)) for w in caught if w.category is not ResourceWarning]]

def in_thread(function):
    results = []
    thread = threading.Thread(target=lambda: results.append(outcome(function)))
    thread.start()
    thread.join()
    return results[0]

async def inside():
    return asyncio.get_event_loop() is asyncio.get_running_loop()

def same_twice():
    return asyncio.get_event_loop() is asyncio.get_event_loop()

def close():
    asyncio.get_event_loop().close()

steps = dict(
    get=lambda: outcome(asyncio.get_event_loop),
    policy_get=lambda: outcome(lambda: asyncio.get_event_loop_policy().get_event_loop()),
    same=lambda: outcome(same_twice),
    thread=lambda: in_thread(asyncio.get_event_loop),
    set_none=lambda: outcome(lambda: asyncio.set_event_loop(None)),
    set_new=lambda: outcome(lambda: asyncio.set_event_loop(asyncio.new_event_loop())),
    set_wrong=lambda: outcome(lambda: asyncio.set_event_loop(5)),
    run=lambda: outcome(lambda: asyncio.run(inside())),
    close=lambda: outcome(close),
    future=lambda: outcome(lambda: asyncio.Future() and None),
)
warnings.simplefilter("ignore")
asyncio.set_event_loop_policy(Policy())
print(json.dumps([[step, steps[step]()] for step in sys.argv[1].split()]))
warnings.simplefilter("ignore")
try:
    asyncio.get_event_loop().close()
except RuntimeError:
    pass
"""


@needs_policies
@pytest.mark.parametrize(
    "steps",
    [
        "get same get",
        "policy_get same",
        "same close get",
        "thread get",
        "set_none get same",
        "get set_none get thread",
        "set_new same get",
        "run get same",
        "get run get",
        "thread set_new thread get",
        "future get",
        "set_wrong get",
    ],
)
def test_get_event_loop_does_what_the_default_policy_does(cloop, python, steps):
    def printed(module, name):
        process = python("-W", "ignore", "-c", PROBE.format(module=module, name=name), steps)
        assert process.returncode == 0, process.stderr
        return json.loads(process.stdout)

    assert printed("cloop", "EventLoopPolicy") == printed("asyncio", "DefaultEventLoopPolicy")


@needs_policies
def test_child_watcher_is_that_of_the_default_policy(cloop, policy):
    if not hasattr(asyncio.DefaultEventLoopPolicy, "get_child_watcher"):
        assert not hasattr(policy, "get_child_watcher")
        return
    default = asyncio.DefaultEventLoopPolicy().get_child_watcher()
    assert type(policy.get_child_watcher()) is type(default)


# install


@needs_policies
def test_install_makes_asyncio_run_use_cloop(cloop, python):
    text = """if 1:
        import asyncio, cloop
        async def main():
            return type(asyncio.get_running_loop()) is cloop.Loop
        cloop.install()
        print(asyncio.run(main()))
    """
    process = python("-W", "ignore::DeprecationWarning", "-c", text)
    assert process.stdout == "True\n", process.stderr


@needs_policies
def test_the_warning_of_install_names_who_called_it(cloop, python, write_script):
    """Python shows a DeprecationWarning by itself only if it is of the program's own file."""
    process = python(write_script("import cloop\n\ncloop.install()\n"))
    assert process.returncode == 0
    if sys.version_info < (3, 14):
        assert process.stderr == ""
    else:
        told = process.stderr
        assert "script.py:3: DeprecationWarning: 'asyncio.set_event_loop_policy' is deprecated" in told
        assert told.count("Warning") == 1 and "use cloop.run(main()) or asyncio.run(main(), loop_factory=" in told


@pytest.mark.skipif(sys.version_info < (3, 14) or not HAS_POLICIES, reason="policies are deprecated since Python 3.14")
def test_install_that_may_not_warn_installs_nothing(cloop):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DeprecationWarning, match="^'asyncio.set_event_loop_policy' is deprecated"):
            cloop.install()
        warnings.simplefilter("ignore")
        assert not isinstance(asyncio.get_event_loop_policy(), cloop.EventLoopPolicy)


# What 3.16 is to be like: no name that has to do with policies.
WITHOUT_POLICIES = """
import asyncio, sys, warnings
from asyncio import events, unix_events
warnings.simplefilter("error")
for module in asyncio, events, unix_events:
    for name in [name for name in vars(module) if "olicy" in name]:
        delattr(module, name)
asyncio.set_event_loop = events.set_event_loop = lambda loop: None
async def main():
    return type(asyncio.get_running_loop()).__module__
"""


@pytest.mark.skipif(sys.version_info < (3, 14), reason="asyncio is nothing without its policies")
class TestWithoutPolicies:
    @pytest.fixture
    def run(self, cloop, python, write_script):
        def run(text):
            process = python(write_script(WITHOUT_POLICIES + text))
            assert not process.stderr, process.stderr
            return process.stdout

        return run

    @pytest.mark.parametrize("use", ["cloop.EventLoopPolicy", "cloop.install()", "uvloop.EventLoopPolicy"])
    def test_the_error_says_what_to_use(self, run, use):
        text = "import cloop; cloop.install_as_uvloop(); import uvloop\ntry: %s\nexcept %s as error: print(error)"
        told = run(text % (use, "RuntimeError" if "install" in use else "AttributeError"))
        assert "no event loop policies: use cloop.run(main()) or asyncio.run(main(), loop_factory=" in told

    def test_all_names_are_there(self, run):
        text = "import cloop; cloop.install_as_uvloop()\nfrom cloop import *\nfrom uvloop import *\nprint(Loop, run)"
        assert "cloop" in run(text)

    @pytest.mark.parametrize(
        "call",
        ["cloop.run(main())", "asyncio.run(main(), loop_factory=cloop.new_event_loop)"],
        ids=["cloop", "asyncio"],
    )
    def test_run(self, run, call):
        assert run("import cloop; print(%s)" % call) == "cloop._loop\n"

    def test_the_launcher(self, run):
        text = """
sys.argv[:] = "cloop", "-c", "import asyncio\\nasync def main(): print(asyncio.get_running_loop())\\nasyncio.run(main())"
from cloop._main import main
main()
"""
        assert run(text).startswith("<cloop.Loop running=True")


@pytest.mark.skipif(sys.version_info < (3, 14) or not HAS_POLICIES, reason="policies are deprecated since Python 3.14")
def test_setting_the_policy_warns_as_asyncio_does(cloop):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        policy = cloop.EventLoopPolicy()
    with pytest.warns(DeprecationWarning):
        asyncio.set_event_loop_policy(policy)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        asyncio.set_event_loop_policy(None)
