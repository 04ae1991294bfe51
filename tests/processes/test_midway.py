"""What a program does while the transport of a child process is in the midst of something: in the factory, in the protocol's methods
and properties, in Popen, in the exception handler, and while a task waits for the child. All of it beside asyncio.
"""

import asyncio
import contextlib
import gc
import os
import signal
import subprocess

import midway
import pytest
from midway import Places, asked, both, current, described, for_each, nothing, quiet, raises

PATIENCE_S = 20
# Answers the first line, closes its output, and ends with the second. It ignores SIGUSR1.
SCRIPT = "trap '' USR1; echo >\"$1\"; read x; echo out $x; exec >&-; read y; exit 3"


class Recorder(asyncio.SubprocessProtocol):
    """Notes what it is told, and calls the scene's hook of that name."""

    def __init__(self, scene):
        self.scene = scene

    def note(self, event, kind, *args):
        self.scene.note(kind, event, *args)
        self.scene.hooks.get(event, nothing)()

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


class Scene(midway.Scene):
    """A child. What is noted is kept by what it is about: what comes by different pipes has no order."""

    around = quiet, current

    def __init__(self, *args, gate):
        super().__init__(*args)
        self.gate, self.notes, self.waiting = gate, {}, []

    def note(self, kind, *note):
        self.notes.setdefault(kind, []).append(note)
        for future in self.waiting:
            if not future.done():
                future.set_result(None)

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

    def spawn(self, factory=None, **options):
        coro = self.loop.subprocess_exec(
            factory or (lambda: Recorder(self)), "/bin/sh", "-c", SCRIPT, "sh", self.gate.path, **options
        )
        try:
            self.run(coro)
        except Exception as error:
            self.note("process", "not started", described(error))

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


def of_transport(name, *args):
    return lambda scene: scene.attempt(getattr(scene.transport, name), *args)


def of_pipe(fd, name, *args):
    def act(scene):
        pipe = scene.transport.get_pipe_transport(fd)
        scene.attempt(lambda: getattr(pipe, name)(*args))

    return act


def kills_behind_the_back(scene):
    os.kill(scene.transport.get_pid(), signal.SIGKILL)


def aborts(scene):
    pipe = scene.transport.get_pipe_transport(0)
    if not pipe.is_closing():  # asyncio's fails then
        pipe.abort()


def starts_another(scene):
    async def another():
        process = await asyncio.create_subprocess_exec("/bin/sh", "-c", "echo another", stdout=subprocess.PIPE)
        return (await process.communicate())[0]

    scene.start(another())


ACTS = {
    "nothing": nothing,
    "raise": raises,
    "close": of_transport("close"),
    "close twice": both(of_transport("close"), of_transport("close")),
    "kill": of_transport("kill"),
    "terminate": of_transport("terminate"),
    "ignored signal": of_transport("send_signal", signal.SIGUSR1),
    "wrong signal": of_transport("send_signal", 1000),
    "kill behind": kills_behind_the_back,
    "wait": lambda scene: scene.start(scene.transport._wait()),
    "returncode": of_transport("get_returncode"),
    "write": of_pipe(0, "write", b"midway\n"),
    "write and close": both(of_pipe(0, "write", b"midway\n"), of_pipe(0, "close")),
    "close stdin": of_pipe(0, "close"),
    "abort stdin": aborts,
    "close stdout": of_pipe(1, "close"),
    "close stderr": of_pipe(2, "close"),
    "close all pipes": both(*(of_pipe(fd, "close") for fd in (1, 2, 0))),
    "pause": both(of_pipe(1, "pause_reading"), of_pipe(1, "resume_reading")),
    "another": starts_another,
    "stop": lambda scene: scene.loop.stop(),
    "collect": lambda scene: gc.collect(),
}
place = Places()


def at(event, fails=None):
    @place.named(event if fails is None else "%s_of_%s" % (event, fails))
    def run(scene):
        scene.hooks[event] = scene.midway
        if fails:
            scene.hooks[fails] = raises
        scene.armed = True
        scene.spawn()
        scene.feed(b"first\n")
        scene.until(lambda: scene.has(1, "pipe_lost"))
        scene.feed(b"second\n")
        scene.until(lambda: not scene.armed or scene.has("process", "lost"))


for event in "made", "data", "pipe_lost", "exited", "lost":
    at(event)
for event in "made", "data", "pipe_lost", "exited", "lost":
    at("reported", fails=event)


@place
def between(scene):
    scene.spawn()
    scene.armed = True
    scene.loop.call_soon(scene.midway)
    scene.until(lambda: not scene.armed)


@place
def between_with_data(scene):
    scene.spawn()
    scene.feed(b"first\n")
    scene.until(lambda: scene.has(1, "pipe_lost"))
    scene.armed = True
    scene.loop.call_soon(scene.midway)
    scene.until(lambda: not scene.armed)


@place
def while_tasks_wait(scene):
    scene.spawn()
    for _ in range(2):
        scene.start(scene.transport._wait()).add_done_callback(lambda task: scene.midway())
    scene.armed = True
    scene.feed(b"first\n")
    scene.feed(b"second\n")
    scene.until(lambda: not scene.armed)


@place
def after_it_ended(scene):
    scene.spawn()
    scene.feed(b"first\n")
    scene.feed(b"second\n")
    scene.until(lambda: scene.has("process", "lost"))
    scene.armed = True
    scene.loop.call_soon(scene.midway)
    scene.until(lambda: not scene.armed)


def property_of(name):
    """A property of the protocol."""

    @place.named("property_" + name)
    def run(scene):
        scene.spawn(lambda: asked(Recorder, name)(scene))
        scene.armed = scene.transport is not None
        if scene.armed:
            scene.feed(b"first\n")
            scene.until(lambda: not scene.armed or scene.has(1, "pipe_lost"))
            scene.feed(b"second\n")
            scene.until(lambda: not scene.armed or scene.has("process", "lost"))


for name in "pipe_data_received", "pipe_connection_lost", "process_exited", "connection_lost":
    property_of(name)


# Whether the transport is done when wait() returns is a matter of the version, and of when the pipes end.
SIGNALS = "kill", "terminate", "ignored signal", "wrong signal", "kill behind"
ASYNCIOS = {("while_tasks_wait", act) for act in SIGNALS}
# Then connection_lost() only comes if the pipes end later.
ASYNCIOS |= {("property_process_exited", act) for act in ("raise", "kill behind")}


@pytest.mark.slow
@for_each(place)
def test_as_asyncio(differences, gate, place):
    assert differences(Scene.plays(place, ACTS, ASYNCIOS, gate=gate)) == {}
