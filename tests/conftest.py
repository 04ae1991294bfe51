"""What all tests share: the loops under test, comparison with asyncio, scripts that run in their own process, and a
check that no test leaves anything behind.

A test that requests `loop` runs once on asyncio's own loop, and once on cloop for each poller. So asyncio first shows
that the test is right.

CLOOP_TEST_LOOPS selects the loops: any of "asyncio", "cloop-epoll", "cloop-poll", or "cloop" for all of those,
separated by commas. With CLOOP_TEST_LOOPS=asyncio the suite needs no build of cloop; tests for cloop only are
skipped.

CLOOP_TEST_TIER selects how much of that is run: see "Tiers" below.
"""

import asyncio
import contextlib
import functools
import gc
import importlib
import importlib.util
import logging
import os
import re
import signal
import subprocess
import sys
import sysconfig
import textwrap
import time
import types
import warnings
import zlib

import pytest

try:
    import faulthandler
except ImportError:  # in an interpreter other than the main one
    faulthandler = None

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.append(os.path.join(HERE, "shared"))  # modules that tests import

if importlib.util.find_spec("trustme") is None:  # tests/openssl has another, here and in the processes that tests start
    sys.path.append(os.path.join(HERE, "openssl"))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), sys.path[-1]]))

FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
if FREE_THREADED:  # there these are off by themselves: docs/free-threading.md
    os.environ.update(CLOOP_TASKS="stock", CLOOP_STREAMS="stock")


def pollers():
    """Those of this build, best first; all that there are if there is no build."""
    try:
        return importlib.import_module("cloop._cloop").build_info()["pollers"]
    except ImportError:
        return ["epoll", "kqueue", "poll"]


KINDS = ["asyncio"] + ["cloop-" + name for name in pollers()]
WANTED = re.split(r"[,\s]+", os.environ.get("CLOOP_TEST_LOOPS", "asyncio,cloop").strip())
SELECTED = [kind for kind in KINDS if kind in WANTED or kind.split("-")[0] in WANTED]
JUDGED = next((kind for kind in SELECTED if kind.startswith("cloop")), SELECTED[0] if SELECTED else None)
CLOOP_SELECTED = any(kind.startswith("cloop") for kind in SELECTED)

TEST_FAILED = pytest.StashKey()


def pytest_configure(config):
    # A shell starts background jobs with SIGINT ignored, and children inherit that.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.stash[STDERR] = stderr_past_capture(config)
    if TIER not in TIERS:
        raise pytest.UsageError("CLOOP_TEST_TIER=%s is none of %s" % (TIER, ", ".join(TIERS)))
    os.environ.setdefault("CLOOP_TEST_SEED", time.strftime("%Y-%m-%d"))  # for xdist's processes too
    os.environ.setdefault("CLOOP_ABI", "strict")  # anything missing in a known Python is a bug
    if not SELECTED:
        raise pytest.UsageError("CLOOP_TEST_LOOPS=%s names none of %s" % (",".join(WANTED), ", ".join(KINDS)))
    if CLOOP_SELECTED:
        try:
            importlib.import_module("cloop._cloop")
        except ImportError as error:
            raise pytest.UsageError(
                "cloop cannot be imported by %s (%s): build it with `make build`, "
                "or set CLOOP_TEST_LOOPS=asyncio to run on asyncio alone" % (sys.executable, error)
            ) from error


# Tiers

TIER = os.environ.get("CLOOP_TEST_TIER", "all")
TIERS = {
    "all": "every test on every loop",
    "commit": "every test that is not slow, on cloop with epoll and on asyncio; with poll where that matters",
    "ci": "every test on cloop with epoll and on asyncio; with poll where that matters",
    "version": "every test that is not slow, on cloop with epoll; of those that are slow, with poll or on asyncio, one in ten",
    "sample": "of the tests of the tier version, one in three",
}
SLOW_SHARE, SAMPLE_SHARE = 10, 3  # one in this many
SAMPLED = ("version", "sample")
POLLER_MATTERS = ("core", "net", "processes", "isolated/test_fork.py")


def in_tier(item):
    """Whether the tier includes this test. Tiers differ in the loops they run on; tests that compare cloop with
    asyncio run on cloop in each tier.
    """
    if TIER != "all" and item.get_closest_marker("nightly") is not None:
        return False
    if TIER == "sample" and not in_sample(item.nodeid, SAMPLE_SHARE):
        return False
    slow = item.get_closest_marker("slow") is not None
    if TIER == "commit" and slow:
        return False
    kind = item.callspec.params.get("loop_kind") if hasattr(item, "callspec") else None
    if TIER == "all" or (kind is None or kind == JUDGED) and not (TIER in SAMPLED and slow):
        return True
    if TIER in ("commit", "ci"):
        path = os.path.relpath(str(item.path), HERE)
        return kind != "cloop-poll" or path.startswith(POLLER_MATTERS)
    return in_sample(item.nodeid, SLOW_SHARE)


def in_sample(nodeid, share):
    """Whether the test is in the sample of one in so many, for today or CLOOP_TEST_SEED. Each Python has its own sample."""
    key = "%s %d.%d %s" % ((os.environ["CLOOP_TEST_SEED"],) + sys.version_info[:2] + (nodeid,))
    return zlib.crc32(key.encode()) % share == 0


def is_stressed():
    """Whether cloop is a stress build."""
    return CLOOP_SELECTED and "-DCL_STRESS" in importlib.import_module("cloop._cloop").build_info()["flags"]


def pytest_collection_modifyitems(config, items):
    for item in items if FREE_THREADED else []:
        if item.get_closest_marker("gil") is not None:
            item.add_marker(pytest.mark.skip(reason="this Python has no GIL"))
    for item in items if is_stressed() else []:
        for mark in item.iter_markers("unstressed"):
            item.add_marker(pytest.mark.skip(reason="stress build: " + mark.args[0]))
    dropped = [item for item in items if not in_tier(item)]
    if dropped:
        dropped_too = set(dropped)
        items[:] = [item for item in items if item not in dropped_too]
        config.hook.pytest_deselected(items=dropped)


def pytest_terminal_summary(terminalreporter):
    told = "tier %s: %s" % (TIER, TIERS[TIER])
    if TIER in SAMPLED:
        told += " (CLOOP_TEST_SEED=%s repeats them)" % os.environ["CLOOP_TEST_SEED"]
    terminalreporter.write_line(told)


# Running

FROZEN_FOR = pytest.StashKey()  # the file of tests that ran last


def freeze():
    """Make collections skip existing objects: pytest, its reports, modules, and what hypothesis keeps."""
    gc.collect()
    gc.freeze()


# A test that hangs ends the run with a traceback of every thread. This uses faulthandler, since a limit by
# signal or by a Python thread would interfere with the tests.
TEST_LIMIT_S = 1800 if "CLOOP_TEST_PYTHON" in os.environ else 300
STDERR = pytest.StashKey()
WATCHED_SINCE = pytest.StashKey()


def stderr_past_capture(config):
    """A descriptor for the terminal's stderr, which pytest's capture replaces while tests run."""
    # Not resume_global_capture(): it would start a capture that is off now, and take pytest's own output.
    with config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        return os.dup(2)


def watch(config):
    """Not for each test: a thread keeps the limit, and changing it waits for that thread to end."""
    now = time.monotonic()
    if faulthandler is not None and now - config.stash.get(WATCHED_SINCE, float("-inf")) > TEST_LIMIT_S / 10:
        config.stash[WATCHED_SINCE] = now
        faulthandler.dump_traceback_later(TEST_LIMIT_S, exit=True, file=config.stash[STDERR])


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item, nextitem):
    if item.session.stash.get(FROZEN_FOR, None) != item.path:
        item.session.stash[FROZEN_FOR] = item.path
        freeze()
    watch(item.config)
    yield
    if nextitem is None and faulthandler is not None:
        faulthandler.cancel_dump_traceback_later()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.failed or hasattr(report, "wasxfail"):
        item.stash[TEST_FAILED] = True


# Leaks


def open_descriptors():
    """Numbers of the open descriptors, and their files; without the one that the first cloop.watch() keeps."""
    found = {}
    folder = "/proc/self/fd" if os.path.exists("/proc/self/fd") else "/dev/fd"
    for name in os.listdir(folder):
        try:
            found[int(name)] = os.readlink("/proc/self/fd/" + name) if folder != "/dev/fd" else str(os.fstat(int(name)))
        except OSError:
            pass  # the descriptor that listed the folder
    return {fd: file for fd, file in found.items() if not file.startswith("/memfd:cloop.watch")}


def live_objects():
    """Number of live objects for each of cloop's types."""
    # Without a GIL, 3.13 makes local classes and functions immortal, and what they refer to.
    immortal = FREE_THREADED and sys.version_info < (3, 14)
    return importlib.import_module("cloop._cloop").counts() if CLOOP_SELECTED and not immortal else {}


def what_leaked(descriptors, objects):
    """What is there now and was not before."""
    leaked = ["descriptor %d (%s)" % item for item in sorted(open_descriptors().items() - descriptors.items())]
    for name, count in live_objects().items():
        if count > objects.get(name, 0):
            leaked.append("%d %s" % (count - objects.get(name, 0), name))
    return leaked


@pytest.fixture(autouse=True)
def nothing_leaks(request, caplog):
    """Fail a test that leaves descriptors open or objects of cloop alive."""
    descriptors, objects = open_descriptors(), live_objects()
    yield
    if TEST_FAILED in request.node.stash:
        return  # the traceback of the failure keeps its objects alive
    request.node.funcargs.clear()  # both keep the loop
    caplog.get_records("call").clear()
    gc.collect(1)  # enough for nearly every test; a full collection takes longer than the test
    leaked = what_leaked(descriptors, objects)
    deadline = time.monotonic() + 5
    while leaked and time.monotonic() < deadline:  # an executor's thread may just be exiting
        time.sleep(0.01)
        gc.collect()
        leaked = what_leaked(descriptors, objects)
    if leaked:
        pytest.fail("left behind: " + ", ".join(leaked), pytrace=False)


# Loops

PATIENCE_S = 20  # for what should happen at once
SCRIPT_LIMIT_S = 1200 if "CLOOP_TEST_PYTHON" in os.environ else 120  # for a process that may hang


@pytest.fixture(params=SELECTED)
def loop_kind(request, monkeypatch):
    """The loop under test: "asyncio", or "cloop-" and a poller."""
    if request.param != "asyncio":
        monkeypatch.setenv("CLOOP_POLLER", request.param.split("-")[1])
    return request.param


@pytest.fixture
def loop_class(loop_kind):
    if loop_kind == "asyncio":
        return asyncio.SelectorEventLoop
    return importlib.import_module("cloop").Loop


@pytest.fixture
def new_loop(loop_kind, loop_class):
    """Creates loops of the class under test, or of a given subclass, and closes them after the test."""
    made = []

    def new_loop(cls=loop_class):
        made.append(cls())
        if loop_kind != "asyncio":
            assert made[-1]._poller == loop_kind.split("-")[1]
        return made[-1]

    yield new_loop
    for loop in made:
        loop.close()


@pytest.fixture
def loop(new_loop):
    return new_loop()


@pytest.fixture
def turn(loop):
    """Runs one turn of the loop: what is ready now, and nothing that becomes ready meanwhile."""

    def turn():
        loop.call_soon(loop.stop)
        loop.run_forever()

    return turn


@pytest.fixture
def reports(loop):
    """Collects the contexts that reach the loop's exception handler."""
    contexts = []
    loop.set_exception_handler(lambda loop, context: contexts.append(context))
    return contexts


@pytest.fixture
def nothing_is_reported(request):
    """Fail a test that causes a call of the exception handler, unless it requests `reports`."""
    if "loop" not in request.fixturenames or "reports" in request.fixturenames:
        yield
        return
    contexts = []
    request.getfixturevalue("loop").set_exception_handler(lambda loop, context: contexts.append(str(context)))
    yield
    assert contexts == []


@pytest.fixture
def filter_log():
    """Adds filters to asyncio's log; they are removed after the test."""
    logger, added = logging.getLogger("asyncio"), []

    def filter_log(look):
        logger.addFilter(look)
        added.append(look)

    yield filter_log
    for look in added:
        logger.removeFilter(look)


@pytest.fixture
def run(loop):
    """Runs a coroutine on the loop."""
    return loop.run_until_complete


@pytest.fixture
def until(turn):
    """Runs turns of the loop until the condition holds."""

    def until(condition):
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, "waited in vain"
            turn()

    return until


@pytest.fixture
def same_for_programs():
    """same_for_programs(programs, examples, on_asyncio, on_cloop, derandomize): checks that both functions return the
    same notes for each program that hypothesis generates.
    """
    hypothesis = pytest.importorskip("hypothesis")

    def same(programs, examples, on_asyncio, on_cloop, derandomize):
        if derandomize and TIER != "all":
            examples //= 4  # always the same

        @hypothesis.settings(
            max_examples=examples,
            derandomize=derandomize,
            database=None,
            deadline=None,
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(programs)
        def compare(program):
            expected = on_asyncio(program)
            found = on_cloop(program)
            if found != expected:
                at = next((n for n, pair in enumerate(zip(expected, found)) if pair[0] != pair[1]), -1)
                assert found[max(at - 3, 0) : at + 1] == expected[max(at - 3, 0) : at + 1]
                assert found == expected

        gc.disable()  # so that nothing is destroyed at another time
        try:
            compare()
        finally:
            gc.enable()
            gc.collect()

    return same


@pytest.fixture
def enters_contexts_again(loop_kind):
    """Skips the test if asyncio runs each connection in its own context, and fails to enter that in a nested turn."""
    if loop_kind == "asyncio" and sys.version_info >= (3, 15):
        pytest.skip("asyncio does not")


@pytest.fixture
def native():
    """Skips the test if the transport is asyncio's own, in a version before the one that fixed the bug."""

    def native(transport, before=(4,)):
        if sys.version_info < before and type(transport).__module__.startswith("asyncio."):
            pytest.skip("asyncio does otherwise")

    return native


@pytest.fixture
def own_tasks(loop_kind):
    """Skips the test if cloop's loops make asyncio's tasks: not all is known of those."""
    if loop_kind != "asyncio" and importlib.import_module("cloop").Task is asyncio.Task:
        pytest.skip("asyncio's own tasks")


@pytest.fixture
def cloop():
    """The package, for tests without a counterpart in asyncio."""
    if not CLOOP_SELECTED:
        pytest.skip("CLOOP_TEST_LOOPS selects no loop of cloop")
    return importlib.import_module("cloop")


# Comparison with asyncio


def plain(value):
    """The value without addresses, class names that differ, and the places where futures were created."""
    if isinstance(value, str):
        value = re.sub(r"\b0x[0-9a-f]+", "0x", value)
        value = value.replace("<TaskWakeupMethWrapper object at 0x>()", "Task.task_wakeup()")  # of Python 3.8
        value = re.sub(r"<Future (\w{5})[^>]*>", r"<Future \1>", value)  # created in a file of asyncio, or in C
        value = value.replace("<_ThreadSafeHandle ", "<Handle ")  # a private class of Python 3.14
        return re.sub(r"(<|')(_UnixSelectorEventLoop|cloop[\w.]*\.Loop|Loop)\b", r"\1Loop", value)
    if isinstance(value, (list, tuple)):
        return type(value)(plain(item) for item in value)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value


def without_frames(text):
    """Log text with only the test's stack frames: asyncio's C code has fewer."""
    return "\n".join(line for line in text.splitlines() if not line.startswith("  ") or "/test_" in line)


def collect_quietly():
    """What others have left would warn of itself, and be logged, in the midst of what follows."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


def outcome(body, loop, caplog):
    """What body(loop) returned or raised, its warnings, and its log records."""
    collect_quietly()
    caplog.clear()
    loop.slow_callback_duration = 100  # in debug mode only a slow machine would log this
    with warnings.catch_warnings(record=True) as caught, caplog.at_level(logging.INFO, "asyncio"):
        warnings.simplefilter("always")
        try:
            result = body(loop)
        except BaseException as error:
            result = (type(error), str(error))
        finally:
            loop.close()
        records = [record for record in caplog.records if record.name == "asyncio"]
    logged = [(record.levelname, without_frames(record.getMessage())) for record in records]
    warned = [(warning.category, str(warning.message)) for warning in caught]
    caplog.clear()  # the records' tracebacks keep the loop alive
    return plain({"result": result, "warned": warned, "logged": logged})


@pytest.fixture
def as_asyncio(loop_kind, loop_class, caplog):
    """Checks that body(loop) does the same on the loop under test as on asyncio's: value or exception and its text,
    warnings and log records. Returns what asyncio did.
    """

    def as_asyncio(body):
        expected = outcome(body, asyncio.SelectorEventLoop(), caplog)
        assert outcome(body, loop_class(), caplog) == expected
        return expected

    return as_asyncio


@pytest.fixture
def differences(loop_kind, loop_class):
    """differences(play): where the results that play(cls) returns for several cases, a dict, are others with the class of the
    loop under test than with asyncio's: {case: (asyncio's, ours)}. Then play.check() is called, if there is one.
    """
    if loop_kind == "asyncio":
        pytest.skip("it is what is compared with")

    def differences(play):
        asyncios, ours = play(asyncio.SelectorEventLoop), play(loop_class)
        assert asyncios and asyncios.keys() == ours.keys()
        getattr(play, "check", lambda: None)()
        return {case: (asyncios[case], ours[case]) for case in asyncios if asyncios[case] != ours[case]}

    return differences


# Scripts


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    """A folder with the certificates of an authority and of localhost, and the key."""
    trustme = pytest.importorskip("trustme")
    folder = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    issued.private_key_pem.write_to_path(str(folder / "key.pem"))
    issued.cert_chain_pems[0].write_to_path(str(folder / "chain.pem"))
    return str(folder)


@pytest.fixture
def cloop_on_path(monkeypatch):
    """Make other processes import the cloop that this one has imported."""
    if CLOOP_SELECTED:
        package = os.path.dirname(importlib.import_module("cloop").__file__)
        monkeypatch.setenv("PYTHONPATH", os.path.dirname(package), prepend=os.pathsep)


@pytest.fixture
def python(tmp_path, monkeypatch, cloop_on_path):
    """Runs this interpreter with the given arguments, in an empty folder."""
    for name in ("PYTHONASYNCIODEBUG", "PYTHONDEVMODE", "PYTHONWARNINGS"):
        monkeypatch.delenv(name, raising=False)

    def python(*args, popen=False, **options):
        options = dict({"cwd": str(tmp_path), "universal_newlines": True}, **options)
        options.update(stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        # make tsan: only the scripts run on that interpreter, where pytest would take minutes to begin.
        command = [os.environ.get("CLOOP_TEST_PYTHON", sys.executable)] + [str(arg) for arg in args]
        if popen:
            return subprocess.Popen(command, **options)
        return subprocess.run(command, timeout=SCRIPT_LIMIT_S, **options)

    return python


@pytest.fixture
def write_script(tmp_path):
    """Writes a script with this name and text; returns its path."""

    def write_script(text, name="script.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    return write_script


@pytest.fixture
def script(loop_kind, python, write_script):
    """Runs a script in its own process, on the loop under test: `new_loop` creates one.

    Returns its output. The script must succeed and write nothing to stderr.
    """
    factory = "asyncio.SelectorEventLoop" if loop_kind == "asyncio" else "__import__('cloop').new_event_loop"

    def script(text, *args, options=(), popen=False, stderr=""):
        path = write_script("import asyncio\nnew_loop = %s\n" % factory + textwrap.dedent(text))
        process = python(*options, path, *args, popen=popen)
        if popen:
            return process
        assert process.returncode == 0 and process.stderr == stderr, process.stderr
        return process.stdout

    return script


# Examples

EXAMPLES = os.path.join(os.path.dirname(HERE), "examples")


@pytest.fixture
def example(loop_kind, python):
    """Runs a program of examples/ on the loop under test; arguments before `args` are Python's."""

    def example(name, *options, args=(), **others):
        # A resource that is left to the collector is told of on stderr.
        launcher = [] if loop_kind == "asyncio" else ["-m", "cloop"]
        path = os.path.join(EXAMPLES, name)
        return python("-W", "error::ResourceWarning", *options, *launcher, path, *args, **others)

    return example


@pytest.fixture
def served(example):
    """A context in which an example serves, from its line `listening on` on. Its end must be clean."""

    @contextlib.contextmanager
    def served(name, *args, begins="listening on "):
        process = example(name, args=args, popen=True)
        try:
            line = process.stdout.readline()
            assert line.startswith(begins), process.stderr.read()
            if not line.startswith("listening on "):
                line = process.stdout.readline()
            stop = functools.lru_cache(maxsize=None)(functools.partial(process.send_signal, signal.SIGTERM))  # once
            reload = functools.partial(process.send_signal, signal.SIGHUP)
            port = int(line.rpartition(":")[2])
            yield types.SimpleNamespace(port=port, line=process.stdout.readline, stop=stop, reload=reload)
            stop()
            out, err = process.communicate(timeout=SCRIPT_LIMIT_S)
            assert (process.returncode, out, err) == (0, "", "")
        finally:
            process.kill()
            process.communicate()

    return served


@pytest.fixture
def tutorial():
    """What the pages of the tutorial say that each of its programs prints, by name, in their order."""
    folder = os.path.join(os.path.dirname(HERE), "docs", "tutorial")
    with open(os.path.join(folder, "README.md"), encoding="utf-8") as file:
        pages = re.findall(r"^\d\. .*\]\((\w+\.md)\)", file.read(), re.M)
    program = r"\{literalinclude\} ../../examples/(tutorial/\S+)\n```\n\nIt prints\n\n```text\n(.*?)```"
    shown = {}
    for page in pages:
        with open(os.path.join(folder, page), encoding="utf-8") as file:
            text = file.read()
        found = re.findall(program, text, re.S)
        assert len(found) == text.count("{literalinclude}")
        shown.update(found)
    return shown
