"""What a program does while the transport of a child process is in the midst of something: in the factory, in the protocol's methods
and properties, in Popen, in the exception handler, and while a task waits for the child. All of it beside asyncio.
"""

import asyncio
import contextlib
import gc
import os
import re
import signal
import subprocess
import warnings

import pytest

PATIENCE_S = 20
# Answers the first line, closes its output, and ends with the second. It ignores SIGUSR1.
SCRIPT = "trap '' USR1; echo >\"$1\"; read x; echo out $x; exec >&-; read y; exit 3"


def described(error):
    if error is None or isinstance(error, (int, bytes, bool, tuple)):
        return error
    if not isinstance(error, BaseException):
        return type(error).__name__
    return type(error).__name__, re.sub(r"\bfd=\d+|\bpid \d+|\b0x[0-9a-f]+|<.*>", "N", str(error))


class Recorder(asyncio.SubprocessProtocol):
    """Notes what it is told, and calls the scene's hook of that name."""

    def __init__(self, scene):
        self.scene = scene

    def note(self, event, kind, *args):
        self.scene.note(kind, event, *args)
        hook = self.scene.hooks.get(event)
        if hook:
            hook()

    def connection_made(self, transport):
        self.scene.transport = transport
        os.read(self.scene.gate.descriptor, 1)  # it has begun
        self.note("made", "process")

    def pipe_data_received(self, fd, data):
        self.note("data", fd, bytes(data))

    def pipe_connection_lost(self, fd, error):
        # Whether the child has gone when it is written to is a matter of the moment.
        self.note("pipe_lost", fd, described(None if isinstance(error, BrokenPipeError) else error))

    def process_exited(self):
        self.note("exited", "exit", self.scene.transport.get_returncode())

    def connection_lost(self, error):
        self.note("lost", "process", described(error))


class Scene:
    """A child, and what is noted, by what it is about: what comes by different pipes has no order."""

    def __init__(self, loop, act, gate):
        self.loop, self.act, self.gate = loop, act, gate
        self.notes, self.hooks, self.tasks, self.waiting = {}, {}, [], []
        self.armed, self.transport = False, None
        loop.set_exception_handler(self.report)

    def note(self, kind, *note):
        self.notes.setdefault(kind, []).append(note)
        for future in self.waiting:
            if not future.done():
                future.set_result(None)

    def report(self, loop, context):
        message = context["message"]
        if message.startswith("Exception in callback"):  # then it names the callback
            message = "Exception in callback"
        self.note("reported", message.split(":")[0], described(context.get("exception")))
        hook = self.hooks.get("reported")
        if hook:
            hook()

    def until(self, condition):
        async def wait():
            while not condition():
                future = self.loop.create_future()
                self.waiting.append(future)
                await future

        try:
            self.run(asyncio.wait_for(wait(), PATIENCE_S))
        except asyncio.TimeoutError:
            self.note("process", "waited in vain")

    def run(self, coro):
        """Goes on if an act stops the loop."""
        task = self.loop.create_task(coro)
        while not task.done():
            task.add_done_callback(lambda task: self.loop.stop())
            self.loop.run_forever()
        return task.result()

    def has(self, kind, event):
        return any(note[0] == event for note in self.notes.get(kind, ()))

    def start(self, factory=None, **options):
        coro = self.loop.subprocess_exec(
            factory or (lambda: Recorder(self)), "/bin/sh", "-c", SCRIPT, "sh", self.gate.path, **options
        )
        try:
            self.run(coro)
        except Exception as error:
            self.note("process", "not started", described(error))

    def task(self, coro):
        async def noted():
            try:
                self.note("tasks", "returned", described(await coro))
            except asyncio.CancelledError:
                self.note("tasks", "cancelled")
            except Exception as error:
                self.note("tasks", "raised", described(error))

        self.tasks.append(self.loop.create_task(noted()))
        return self.tasks[-1]

    def attempt(self, function, *args):
        try:
            result = function(*args)
        except Exception as error:
            result = error
        self.note("attempts", described(result))

    def midway(self):
        if self.armed:
            self.armed = False
            self.note("midway", self.act)
            ACTS[self.act](self)

    def feed(self, line):
        stdin = self.transport.get_pipe_transport(0)
        if stdin is not None and not stdin.is_closing():
            stdin.write(line)

    def end(self):
        """The child ends, if it has not done so, and the transport is closed."""
        if self.transport is not None:
            with contextlib.suppress(AttributeError):
                self.transport.get_pipe_transport(0).close()
            self.until(lambda: self.has("exit", "exited") or self.has("process", "lost"))
            self.until(lambda: self.has("process", "lost"))
            self.note("process", "code", self.transport.get_returncode(), self.transport.is_closing())
            self.transport.close()
        if self.tasks:
            self.run(asyncio.wait(self.tasks, timeout=PATIENCE_S))
        self.note("tasks", [task.done() for task in self.tasks])
        for fd in 1, 2:  # may come in several pieces
            notes = self.notes.get(fd, [])
            data = [note[1] for note in notes if note[0] == "data"]
            self.notes[fd] = [note for note in notes if note[0] != "data"] + [b"".join(data)]
        return self.notes


def raises(scene):
    raise LookupError("of the test")


def of_transport(name, *args):
    return lambda scene: scene.attempt(getattr(scene.transport, name), *args)


def of_pipe(fd, name, *args):
    def act(scene):
        pipe = scene.transport.get_pipe_transport(fd)
        scene.attempt(lambda: getattr(pipe, name)(*args))

    return act


def kills_behind_the_back(scene):
    os.kill(scene.transport.get_pid(), signal.SIGKILL)


def waits_with_popen(scene):
    """The status is lost to the loop, unless it has it."""
    kills_behind_the_back(scene)
    scene.attempt(scene.transport.get_extra_info("subprocess").wait)


def aborts(scene):
    pipe = scene.transport.get_pipe_transport(0)
    if not pipe.is_closing():  # asyncio's fails then
        pipe.abort()


def starts_another(scene):
    async def another():
        process = await asyncio.create_subprocess_exec("/bin/sh", "-c", "echo another", stdout=subprocess.PIPE)
        return (await process.communicate())[0]

    scene.task(another())


ACTS = {
    "nothing": lambda scene: None,
    "raise": raises,
    "close": of_transport("close"),
    "close twice": lambda scene: (scene.transport.close(), scene.transport.close()),
    "kill": of_transport("kill"),
    "terminate": of_transport("terminate"),
    "ignored signal": of_transport("send_signal", signal.SIGUSR1),
    "wrong signal": of_transport("send_signal", 1000),
    "kill behind": kills_behind_the_back,
    "wait": lambda scene: scene.task(scene.transport._wait()),
    "returncode": of_transport("get_returncode"),
    "write": of_pipe(0, "write", b"midway\n"),
    "write and close": lambda scene: (of_pipe(0, "write", b"midway\n")(scene), of_pipe(0, "close")(scene)),
    "close stdin": of_pipe(0, "close"),
    "abort stdin": aborts,
    "close stdout": of_pipe(1, "close"),
    "close stderr": of_pipe(2, "close"),
    "close all pipes": lambda scene: [of_pipe(fd, "close")(scene) for fd in (1, 2, 0)],
    "pause": lambda scene: (of_pipe(1, "pause_reading")(scene), of_pipe(1, "resume_reading")(scene)),
    "another": starts_another,
    "stop": lambda scene: scene.loop.stop(),
    "collect": lambda scene: gc.collect(),
}
PLACES = []


def place(function):
    PLACES.append(function)
    return function


def at(event, fails=None):
    def run(scene):
        scene.hooks[event] = scene.midway
        if fails:
            scene.hooks[fails] = lambda: raises(scene)
        scene.armed = True
        scene.start()
        scene.feed(b"first\n")
        scene.until(lambda: scene.has(1, "pipe_lost"))
        scene.feed(b"second\n")
        scene.until(lambda: not scene.armed or scene.has("process", "lost"))

    run.__name__ = event if fails is None else "%s_of_%s" % (event, fails)
    PLACES.append(run)


for event in "made", "data", "pipe_lost", "exited", "lost":
    at(event)
for event in "made", "data", "pipe_lost", "exited", "lost":
    at("reported", fails=event)


@place
def between(scene):
    scene.start()
    scene.armed = True
    scene.loop.call_soon(scene.midway)
    scene.until(lambda: not scene.armed)


@place
def between_with_data(scene):
    scene.start()
    scene.feed(b"first\n")
    scene.until(lambda: scene.has(1, "pipe_lost"))
    scene.armed = True
    scene.loop.call_soon(scene.midway)
    scene.until(lambda: not scene.armed)


@place
def while_tasks_wait(scene):
    scene.start()
    for _ in range(2):
        scene.task(scene.transport._wait()).add_done_callback(lambda task: scene.midway())
    scene.armed = True
    scene.feed(b"first\n")
    scene.feed(b"second\n")
    scene.until(lambda: not scene.armed)


@place
def after_it_ended(scene):
    scene.start()
    scene.feed(b"first\n")
    scene.feed(b"second\n")
    scene.until(lambda: scene.has("process", "lost"))
    scene.armed = True
    scene.loop.call_soon(scene.midway)
    scene.until(lambda: not scene.armed)


def property_of(name):
    """A property of the protocol."""

    def getter(self):
        self.scene.midway()
        return getattr(super(Asked, self), name)

    Asked = type("Asked", (Recorder,), {name: property(getter)})

    def run(scene):
        scene.start(lambda: Asked(scene))
        scene.armed = scene.transport is not None
        if scene.armed:
            scene.feed(b"first\n")
            scene.until(lambda: not scene.armed or scene.has(1, "pipe_lost"))
            scene.feed(b"second\n")
            scene.until(lambda: not scene.armed or scene.has("process", "lost"))

    run.__name__ = "property_" + name
    PLACES.append(run)


for name in "pipe_data_received", "pipe_connection_lost", "process_exited", "connection_lost":
    property_of(name)


# Whether the transport is done when wait() returns is a matter of the version, and of when the pipes end.
SIGNALS = "kill", "terminate", "ignored signal", "wrong signal", "kill behind"
ASYNCIOS = {("while_tasks_wait", act) for act in SIGNALS}
# Then connection_lost() only comes if the pipes end later.
ASYNCIOS |= {("property_process_exited", act) for act in ("raise", "kill behind")}


@pytest.fixture
def differences(loop_kind, loop_class, gate):
    """differences(place): what is noted otherwise than on asyncio, for each act."""
    if loop_kind == "asyncio":
        pytest.skip("it is what is compared with")

    def play(make_loop, place, act):
        loop = make_loop()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            asyncio.set_event_loop(loop)
            try:
                scene = Scene(loop, act, gate)
                place(scene)
                return scene.end()
            finally:
                asyncio.set_event_loop(None)
                loop.close()

    def differences(place):
        found = {}
        for act in ACTS:
            if (place.__name__, act) in ASYNCIOS:
                continue
            asyncios, ours = [play(cls, place, act) for cls in (asyncio.SelectorEventLoop, loop_class)]
            if asyncios != ours:
                found[act] = asyncios, ours
        return found

    return differences


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_as_asyncio(differences, place):
    assert differences(place) == {}
