"""Puts another event loop wherever test.test_asyncio makes one.

The suite makes loops in two ways:

- through the policy: asyncio.new_event_loop(), asyncio.run(), asyncio.Runner,
  IsolatedAsyncioTestCase, asyncio.get_event_loop() and DefaultEventLoopPolicy() itself all
  end in the default policy class and its _loop_factory;
- by name: asyncio.SelectorEventLoop, with a selector or without (the create_event_loop() of
  EPollEventLoopTests, PollEventLoopTests, SelectEventLoopTests and their like), and since
  3.13 asyncio.EventLoop.

Both are replaced before any test module is imported. In two modules the classes' own setUp()
dresses up a BaseEventLoop with mocks, though the tests are of asyncio.run() and of locks:
adapt() gives these a real loop once the module is imported. utils.TestLoop and the tests' own
subclasses of BaseEventLoop and BaseSelectorEventLoop are tests of those classes: they stay
as they are. Interpreters that a test starts afresh are out of reach.
"""

import asyncio
import asyncio.unix_events
import importlib
import mmap
import os
import warnings

LOOP_NAMES = ("SelectorEventLoop", "EventLoop")
POLICY_NAMES = ("DefaultEventLoopPolicy", "_DefaultEventLoopPolicy")

# Tests that name a selector run cloop over the poller of that name.
POLLERS = {"EpollSelector": "epoll", "PollSelector": "poll"}

# Where the suite's batteries for asyncio's classes in C find these.
STOCK_CLASSES = ((asyncio.futures, "_CFuture"), (asyncio.tasks, "_CTask"))


class LoopCounter:
    """Counts the loops made here and, as the memory is shared, in forked children."""

    def __init__(self):
        self._memory = mmap.mmap(-1, 8)

    def add(self):
        self._memory[:] = (self.value() + 1).to_bytes(8, "little")

    def value(self):
        return int.from_bytes(self._memory[:], "little")


def asyncio_factory():
    return asyncio.SelectorEventLoop


def uvloop_factory():
    uvloop = importlib.import_module("uvloop")

    class Loop(uvloop.Loop):
        _default_executor = None  # what the tests' own close_loop() reads

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
    """The class that stands for asyncio.SelectorEventLoop.

    A class, as the tests also ask isinstance() of it and keep it as a class attribute."""
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
    """The default policy, or the package's if it is one, making loops with factory."""
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
    for (module, attribute), own in zip(STOCK_CLASSES, (package.Future, package.Task)):
        getattr(module, attribute)  # to put ours under a name that nothing reads would test nothing
        setattr(module, attribute, own)


def install(name):
    """Replace asyncio's loop by the loop called name; returns the counter of loops made."""
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


def adapt_runners(module):
    def new_loop(self):
        loop = asyncio.SelectorEventLoop()
        shutdown_asyncgens = loop.shutdown_asyncgens
        loop.shutdown_ag_run = False  # what tearDown() looks at

        async def shut_down():
            loop.shutdown_ag_run = True
            await shutdown_asyncgens()

        loop.shutdown_asyncgens = shut_down
        return loop

    module.BaseTest.new_loop = new_loop


def adapt_pep492(module):
    def setUp(self):
        super(module.BaseTest, self).setUp()
        self.loop = asyncio.SelectorEventLoop()
        self.set_event_loop(self.loop)

    module.BaseTest.setUp = setUp


ADAPTERS = {"test_pep492": adapt_pep492, "test_runners": adapt_runners}


def adapt(module):
    """Replace loops that the test module makes in ways of its own."""
    name = module.__name__.rpartition(".")[2]
    if name in ADAPTERS:
        ADAPTERS[name](module)
