"""If asyncio's objects do not have the expected layout, or with CLOOP_TASKS=stock, its own classes are used."""

import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig

import pytest

PROGRAM = """
    import asyncio, sys
    {before}
    import cloop
    print(cloop.Task.__module__, cloop.Future.__module__)

    async def answer(future):
        return await future

    async def main():
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        tasks = [loop.create_task(answer(future)) for _ in range(2)]
        print(type(tasks[0]).__module__, type(future).__module__)
        loop.call_soon(future.set_result, 42)
        assert asyncio.current_task() in asyncio.all_tasks() and set(tasks) < asyncio.all_tasks()
        print(await asyncio.gather(*tasks))
        tasks[0] = loop.create_task(answer(loop.create_future()))
        await asyncio.sleep(0)
        tasks[0].cancel()
        try:
            await tasks[0]
        except asyncio.CancelledError:
            print("cancelled")
        try:
            await asyncio.wait_for(loop.create_future(), 0.001)
        except asyncio.TimeoutError:
            print("timed out")

    cloop.run(main())
"""

CASES = {
    "as it is": ({}, ""),
    "by hand": ({"CLOOP_TASKS": "stock"}, ""),
    "a Future in Python": ({}, "asyncio.Future = asyncio.futures.Future = asyncio.futures._PyFuture"),
    "a Task in Python": ({}, "asyncio.Task = asyncio.tasks.Task = asyncio.tasks._PyTask"),
    "subclasses": ({}, "asyncio.Task = asyncio.tasks.Task = type('Task', (asyncio.Task,), {})"),
    "other values in the fields": ({}, "FIELDS(lambda fields: {name: value + 1 for name, value in fields.items()})"),
    "a field is missing": ({}, "FIELDS(lambda fields: dict(list(fields.items())[1:]))"),
    "fields cannot be read": ({}, "FIELDS(lambda fields: [][0] if not fields else fields['none'])"),
    "two fields are exchanged": (
        {},
        "FIELDS(lambda fields: dict(fields, f_callback0=fields['f_context0'], f_context0=fields['f_callback0']))",
    ),
}

FIELDS = """
    def FIELDS(change):
        import importlib.machinery, importlib.util, types
        # cloop/__init__.py looks at the fields when it is imported: the extension must be changed before.
        package = types.ModuleType("cloop")
        package.__path__ = importlib.util.find_spec("cloop").submodule_search_locations
        sys.modules["cloop"] = package
        from cloop import _cloop
        raw_fields = _cloop.raw_fields
        _cloop.raw_fields = lambda future: change(raw_fields(future))
        del sys.modules["cloop"]
    """


@pytest.mark.gil
@pytest.mark.parametrize("case", list(CASES))
def test_choice(python, write_script, cloop, monkeypatch, case):
    if case == "a Task in Python" and sys.version_info >= (3, 14):
        pytest.skip("asyncio.current_task() does not know such tasks, nor does timeout()")
    monkeypatch.delenv("CLOOP_TASKS", raising=False)
    monkeypatch.delenv("CLOOP_ABI", raising=False)
    environment, before = CASES[case]
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    text = PROGRAM.replace("{before}", (FIELDS if "FIELDS" in before else "") + before)
    process = python(write_script(text))
    assert process.returncode == 0, process.stderr
    if "FIELDS" in before:  # nobody's choice
        assert process.stderr.count("RuntimeWarning: cloop does not know") == 1, process.stderr
        assert "for its futures, so loops make asyncio's tasks and futures: " in process.stderr
    else:
        assert not process.stderr
    classes, made, result, cancelled, timed_out = process.stdout.splitlines()
    assert (result, cancelled, timed_out) == ("[42, 42]", "cancelled", "timed out")
    assert classes == made
    assert ("cloop" in classes) == (case == "as it is")


def test_asyncio_in_python(python, write_script, cloop):
    text = PROGRAM.replace("{before}", "")
    process = python(
        write_script(text.replace("import asyncio", "import sys; sys.modules['_asyncio'] = None; import asyncio"))
    )
    assert process.returncode == 0 and not process.stderr, process.stderr
    assert process.stdout.splitlines()[0] == "asyncio.tasks asyncio.futures"


def test_any_two_fields_that_change_places_are_noticed(python, write_script, cloop, monkeypatch):
    """Each exchange is made in what is read of the objects, as if the struct had them in that order."""
    monkeypatch.delenv("CLOOP_TASKS", raising=False)
    process = python(
        write_script(
            """
            import asyncio, itertools
            from cloop import _cloop, _futures

            raw_fields = _cloop.raw_fields
            seen = []
            _cloop.raw_fields = lambda future: seen.append(raw_fields(future)) or seen[-1]
            assert _futures._why_not() is None, _futures._why_not()
            names = sorted(set().union(*seen))

            def exchanging(a, b):
                def exchanged(future):
                    fields = raw_fields(future)
                    if a in fields and b in fields:
                        fields[a], fields[b] = fields[b], fields[a]
                    return fields

                return exchanged

            for a, b in itertools.combinations(names, 2):
                _cloop.raw_fields = exchanging(a, b)
                why = _futures._why_not()
                assert why is not None and "expected: " in why, (a, b, why)
            print(len(names), *names)
            """
        )
    )
    assert process.returncode == 0, process.stderr
    count, *names = process.stdout.split()
    assert int(count) >= 18 and {"f_loop", "f_result", "t_coro", "t_fut_waiter"} < set(names)


def test_raw_fields_of_nothing_else(cloop):
    from cloop import _cloop

    for value in [5, None, object(), cloop.Loop]:
        with pytest.raises(RuntimeError):
            _cloop.raw_fields(value)


def test_classes_replaced_later_are_used(python, write_script, cloop):
    """If a program replaces asyncio's class by its own, loops created afterwards use it."""
    process = python(
        write_script(
            """
            import asyncio, cloop

            class Task(asyncio.Task):
                pass

            asyncio.tasks.Task = Task

            async def main():
                print(type(asyncio.current_task()).__name__, type(asyncio.current_task()) is Task)

            cloop.run(main())
            """
        )
    )
    assert process.stdout == "Task True\n", process.stderr


@pytest.mark.skipif(sys.version_info < (3, 14), reason="nothing is looked for in the thread")
def test_import_within_a_task(python, write_script, cloop):
    """The running loop's slots are searched while a loop runs."""
    process = python(
        write_script(
            """
            import asyncio

            async def main():
                before = asyncio.current_task(), asyncio.get_running_loop()
                import cloop
                assert before == (asyncio.current_task(), asyncio.get_running_loop())
                await asyncio.sleep(0)
                assert before == (asyncio.current_task(), asyncio.get_running_loop())
                print(cloop.Task.__module__)

            asyncio.run(main())
            """
        )
    )
    assert process.stdout == "cloop\n", process.stderr


def test_import_leaves_no_task(python):
    """The tasks whose fields are looked at are gone: asyncio would list them, and the list of 3.14 refers to neighbours."""
    process = python(
        "-c",
        "import asyncio, gc, cloop\nprint([object for object in gc.get_objects() if isinstance(object, asyncio.Task)])",
    )
    assert (process.stdout, process.stderr) == ("[]\n", "")


# TaskObj of CPython 3.14 and 3.15, field by field, as Modules/_asynciomodule.c declares it.
SIMULATED = """
#include "futures/layout.h"

typedef struct {
    PyObject_HEAD
    PyObject *loop, *callback0, *context0, *callbacks, *exception, *exception_tb, *result, *source_tb, *cancel_msg,
        *cancelled_exc, *awaited_by;
    enum { PENDING, CANCELLED, FINISHED } state;
    char is_task, awaited_by_is_set;
    unsigned log_tb : 1, blocking : 1, must_cancel : 1, log_destroy_pending : 1;
    int num_cancels;
    PyObject *fut_waiter, *coro, *name, *context;
    struct { void *next, *prev; } node;
#ifdef HAS_TID
    uintptr_t tid;
#endif
} simulated;

#define SAME(ours, theirs) \
    _Static_assert(offsetof(TaskObject, ours) == offsetof(simulated, theirs), #ours)

SAME(f_loop, loop); SAME(f_callback0, callback0); SAME(f_context0, context0); SAME(f_callbacks, callbacks);
SAME(f_exception, exception); SAME(f_exception_tb, exception_tb); SAME(f_result, result); SAME(f_source_tb, source_tb);
SAME(f_cancel_msg, cancel_msg); SAME(f_cancelled_exc, cancelled_exc); SAME(f_awaited_by, awaited_by);
SAME(f_state, state); SAME(f_is_task, is_task); SAME(f_awaited_by_is_set, awaited_by_is_set);
SAME(t_num_cancels, num_cancels); SAME(t_fut_waiter, fut_waiter); SAME(t_coro, coro); SAME(t_name, name);
SAME(t_context, context); SAME(t_node, node);
#ifdef HAS_TID
SAME(t_tid, tid);
#endif
_Static_assert(sizeof(TaskObject) == sizeof(simulated), "size");
"""


@pytest.mark.skipif(sys.version_info < (3, 14), reason="tasks have no list node")
@pytest.mark.parametrize("gil, tid, fits", [(True, False, True), (False, True, True), (False, False, False)])
def test_task_of_a_build_without_a_gil(tmp_path, gil, tid, fits):
    """There it ends in one more field. No such interpreter is needed: the headers are the same."""
    compiler = shutil.which("cc")
    include = sysconfig.get_path("include")
    if compiler is None or not os.path.exists(os.path.join(include, "Python.h")):
        pytest.skip("there is no C compiler, or no header of Python")
    if gil and sysconfig.get_config_var("Py_GIL_DISABLED"):
        pytest.skip("this Python has no GIL")
    source = tmp_path / "simulated.c"
    source.write_text(SIMULATED)
    csrc = pathlib.Path(__file__).parents[2] / "csrc"
    done = subprocess.run(
        [compiler, "-std=c11", "-D_GNU_SOURCE", "-fsyntax-only", "-I%s" % csrc, "-I%s" % include]
        + ["-DPy_GIL_DISABLED=1"] * (not gil) + ["-DHAS_TID"] * tid + [str(source)],
        stderr=subprocess.PIPE, universal_newlines=True,
    )  # fmt: skip
    assert (done.returncode == 0) == fits, done.stderr
    assert fits or "static assertion failed" in done.stderr
