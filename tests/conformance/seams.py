"""Installs another event loop wherever test.test_asyncio creates one.

The suite creates loops in two ways:

- through the policy: asyncio.new_event_loop(), asyncio.run(), asyncio.Runner,
  IsolatedAsyncioTestCase, asyncio.get_event_loop() and DefaultEventLoopPolicy() itself all
  use the default policy class and its _loop_factory;
- by name: asyncio.SelectorEventLoop, with or without a selector (create_event_loop() of
  EPollEventLoopTests, PollEventLoopTests, SelectEventLoopTests and so on), and since
  3.13 asyncio.EventLoop.

Both are replaced before any test module is imported. In three modules, setUp() of the classes puts mocks into a
BaseEventLoop. adapt() gives these another loop after the import, with the same mocks for its selector,
_process_events() and _write_to_self(). utils.TestLoop, and the tests' own subclasses of BaseEventLoop and
BaseSelectorEventLoop, test those classes and stay unchanged. Interpreters started by a test cannot be reached.

The suite tests asyncio's C classes with test classes that take them from asyncio.futures._CFuture and
asyncio.tasks._CTask, directly and as base classes. There they find cloop.Future and cloop.Task. Most of them run on a
TestLoop, which is a foreign loop for these; classes_on_cloop() runs them on cloop's loop as well.
"""

import ast
import asyncio
import asyncio.unix_events
import importlib
import inspect
import mmap
import os
import unittest
import warnings
from unittest import mock

LOOP_NAMES = ("SelectorEventLoop", "EventLoop")
POLICY_NAMES = ("DefaultEventLoopPolicy", "_DefaultEventLoopPolicy")

# Tests that name a selector run cloop with the poller of that name.
POLLERS = {"EpollSelector": "epoll", "PollSelector": "poll"}

CLASSES = {"_CFuture": asyncio.futures, "_CTask": asyncio.tasks}


class LoopCounter:
    """Counts the loops created here and, through shared memory, in forked children."""

    def __init__(self):
        self._memory = mmap.mmap(-1, 8)

    def add(self):
        self._memory[:] = (self.value() + 1).to_bytes(8, "little")

    def value(self):
        return int.from_bytes(self._memory[:], "little")


def count_instances(loop_class):
    """Counts the loops of a class, including subclasses, from now on."""
    counter = LoopCounter()
    initialise = loop_class.__init__

    def __init__(self, *args, **kwargs):
        initialise(self, *args, **kwargs)
        counter.add()

    loop_class.__init__ = __init__
    return counter


def asyncio_factory():
    return asyncio.SelectorEventLoop


def uvloop_factory():
    uvloop = importlib.import_module("uvloop")

    class Loop(uvloop.Loop):
        _default_executor = None  # read by the tests' own close_loop()

    def new_loop(selector=None):
        if selector is not None:
            selector.close()
        return Loop()

    return new_loop


def cloop_factory():
    cloop = importlib.import_module("cloop")

    def new_loop(selector=None):
        if selector is None:
            return cloop.new_event_loop()
        selector.close()
        before = os.environ.get("CLOOP_POLLER")
        poller = POLLERS.get(type(selector).__name__)
        if before is None and poller is not None:
            os.environ["CLOOP_POLLER"] = poller
        try:
            return cloop.new_event_loop()
        finally:
            if before is None:
                os.environ.pop("CLOOP_POLLER", None)

    return new_loop


FACTORIES = {"asyncio": asyncio_factory, "cloop": cloop_factory, "uvloop": uvloop_factory}


def loop_class(new_loop, counter):
    """The replacement for asyncio.SelectorEventLoop.

    It is a class, since the tests use it with isinstance() and as a class attribute.
    """
    original = asyncio.SelectorEventLoop

    class Meta(type):
        def __call__(cls, selector=None):
            loop = new_loop() if selector is None else new_loop(selector)
            counter.add()
            return loop

        def __instancecheck__(cls, instance):
            return isinstance(instance, original)

        def __subclasscheck__(cls, subclass):
            return issubclass(subclass, original)

    return Meta("SelectorEventLoop", (), {"__doc__": original.__doc__})


def policy_class(default, package, factory):
    """The default policy, or the package's if it is one, with factory as its loop factory."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            base = package.EventLoopPolicy
        except AttributeError:
            base = default
    if not issubclass(base, default):
        base = default
    return type(base.__name__, (base,), {"__doc__": base.__doc__, "_loop_factory": factory})


def install_classes(package):
    for (name, module), own in zip(CLASSES.items(), (package.Future, package.Task)):
        getattr(module, name)  # under a name that asyncio does not have, ours would not be used
        setattr(module, name, own)


def install(name):
    """Replace asyncio's loop by the loop called name; returns the counter of created loops."""
    counter = LoopCounter()
    package = importlib.import_module(name)
    factory = loop_class(FACTORIES[name](), counter)
    for module in (asyncio, asyncio.unix_events):
        for attribute in LOOP_NAMES:
            if attribute in vars(module):
                setattr(module, attribute, factory)
    default = next(vars(asyncio.unix_events)[n] for n in POLICY_NAMES if n in vars(asyncio.unix_events))
    if name == "cloop":
        install_classes(package)
    policy = policy_class(default, package, factory)
    for module in (asyncio, asyncio.unix_events):
        for attribute in POLICY_NAMES:
            if attribute in vars(module):
                setattr(module, attribute, policy)
    return counter


def loop_without_selector():
    """A loop with a mock as its selector, for tests that expect a BaseEventLoop."""
    loop = asyncio.SelectorEventLoop()
    selector = getattr(loop, "_selector", None)
    if selector is not None:
        selector.close()
    loop._selector = mock.Mock()
    loop._selector.select.return_value = ()
    return loop


def adapt_base_events(module):
    def setUp(self):
        super(module.BaseEventLoopTests, self).setUp()
        self.loop = loop_without_selector()
        self.set_event_loop(self.loop)

    module.BaseEventLoopTests.setUp = setUp


def adapt_runners(module):
    def new_loop(self):
        loop = loop_without_selector()
        loop._process_events = mock.Mock()
        loop._write_to_self = mock.Mock()
        loop._write_to_self.return_value = None
        loop.shutdown_ag_run = False  # read by tearDown()

        async def shut_down():
            loop.shutdown_ag_run = True

        loop.shutdown_asyncgens = shut_down
        return loop

    module.BaseTest.new_loop = new_loop


def adapt_pep492(module):
    def setUp(self):
        super(module.BaseTest, self).setUp()
        self.loop = asyncio.SelectorEventLoop()
        self.set_event_loop(self.loop)

    module.BaseTest.setUp = setUp


ADAPTERS = {"test_base_events": adapt_base_events, "test_pep492": adapt_pep492, "test_runners": adapt_runners}


def adapt(module):
    """Replace loops that the test module creates in other ways."""
    name = module.__name__.rpartition(".")[2]
    if name in ADAPTERS:
        ADAPTERS[name](module)


def classes_naming(module, names):
    """The module's test classes with one of the names in their own text or a base's."""
    source = inspect.getsource(module)
    classes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef)]
    texts = {node.name: ast.get_source_segment(source, node) for node in classes}
    naming = {name for name, text in texts.items() if any(word in text for word in names)}
    return [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, unittest.TestCase)
        and any(base.__module__ == module.__name__ and base.__name__ in naming for base in value.__mro__)
    ]


def batteries(module):
    """The module's test classes that run with cloop's classes."""
    replaced = asyncio.tasks._CTask is not asyncio.Task
    return classes_naming(module, CLASSES) if replaced else []


def classes_on_cloop(module):
    """The same test classes with one of our loops for every TestLoop whose time the test does not control."""

    def again(test_class):
        def new_test_loop(self, gen=None):
            if gen is not None:
                return test_class.new_test_loop(self, gen)
            loop = asyncio.new_event_loop()
            self.set_event_loop(loop)
            return loop

        members = {"__module__": module.__name__, "new_test_loop": new_test_loop}
        return type(test_class.__name__ + "_OnCloop", (test_class,), members)

    on_test_loops = classes_naming(module, ["new_test_loop"])
    return [again(test_class) for test_class in batteries(module) if test_class in on_test_loops]
