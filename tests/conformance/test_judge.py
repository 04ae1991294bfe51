"""The verdicts of the conformance runner: what it excuses, and nothing more."""

import importlib
import os
import signal
import sys
import types

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
NOW = "%d.%d" % sys.version_info[:2]
LATER = "%d.%d-" % (sys.version_info[0], sys.version_info[1] + 1)


@pytest.fixture
def runner(monkeypatch):
    """Imports the runner's modules, which import each other by their bare names."""
    monkeypatch.syspath_prepend(HERE)
    return importlib.import_module


@pytest.fixture
def entries(runner):
    test = runner("listing").test
    return [
        test("test_x.*Tests.test_inside", "looks inside"),
        test("test_x.Whole.*", "white-box"),
        test("test_x.Tests.test_later", "not yet", LATER),
        test("test_x.Tests.test_now", "of this version", "%s-%s" % (NOW, NOW)),
    ]


def record(test_id, outcome, loops=1, **more):
    return dict(id=test_id, outcome=outcome, detail="a traceback", loops=loops, **more)


@pytest.mark.parametrize(
    "name, outcome, loop, expected",
    [
        ("Tests.test_it", "passed", "cloop", "passed"),
        ("Tests.test_it", "failed", "cloop", "failed"),
        ("Tests.test_it", "skipped", "cloop", "skipped"),
        ("Tests.test_inside", "failed", "cloop", "not_applicable"),
        ("OtherTests.test_inside", "failed", "cloop", "not_applicable"),
        ("Tests.test_inside", "passed", "cloop", "failed"),
        ("Tests.test_inside", "skipped", "cloop", "skipped"),
        ("Tests.test_now", "failed", "cloop", "not_applicable"),
        ("Tests.test_now", "passed", "cloop", "failed"),
        ("Tests.test_later", "failed", "cloop", "failed"),
        ("Tests.test_later", "passed", "cloop", "passed"),
        ("Whole.test_it", "failed", "cloop", "not_applicable"),
        ("Whole.test_it", "passed", "cloop", "passed"),
        # The lists say what cloop does not pass; another loop may.
        ("Tests.test_inside", "failed", "uvloop", "not_applicable"),
        ("Tests.test_inside", "passed", "uvloop", "passed"),
    ],
)
def test_verdict(runner, entries, name, outcome, loop, expected):
    verdict = runner("judge").verdict(record("test_x." + name, outcome), loop, entries, set())
    assert verdict.outcome == expected


def test_who_is_excused_from_what(runner):
    suite = types.SimpleNamespace(listed=types.SimpleNamespace(ENTRIES=["ours"], OF_ASYNCIOS_LOOP=["others"]))
    excused = runner("judge").excused
    assert excused(suite, "cloop") == ["ours"]
    assert excused(suite, "uvloop") == ["ours", "others"]
    assert excused(suite, "asyncio") == []


def test_failures_by_name(runner):
    judge = runner("judge")
    ids = ["test_x.ATests.test_it", "test_x.BTests.test_it", "test_x.BTests.test_that", "test_y.ATests.test_it"]
    verdicts = [judge.verdict(record(test_id, "failed"), "cloop", [], set()) for test_id in ids]
    assert judge.failed_by_name(verdicts) == 3
    assert judge.failed_by_name(verdicts[:0]) == 0


def test_reason_takes_the_place_of_the_traceback(runner, entries):
    verdict = runner("judge").verdict(record("test_x.Tests.test_inside", "failed"), "cloop", entries, set())
    assert verdict.detail == "looks inside"


def test_what_fails_on_asyncio_too(runner, entries):
    verdict = runner("judge").verdict
    failing = {"test_x.Tests.test_it", "test_x.Tests.test_inside"}
    assert verdict(record("test_x.Tests.test_it", "failed"), "cloop", entries, failing).outcome == "environment"
    assert verdict(record("test_x.Tests.test_it", "passed"), "cloop", entries, failing).outcome == "passed"
    assert verdict(record("test_x.Tests.test_inside", "failed"), "cloop", entries, failing).outcome == "not_applicable"


def test_what_ran_on_nothing_of_ours_is_counted_apart(runner):
    verdict = runner("judge").verdict
    assert verdict(record("test_x.Tests.test_it", "passed", loops=0), "uvloop", [], set()).outcome == "no_loop"
    assert verdict(record("test_x.Tests.test_it", "failed", loops=0), "uvloop", [], set()).outcome == "failed"
    of_futures = record("test_x.Tests.test_it", "passed", loops=0, battery=True)
    assert verdict(of_futures, "cloop", [], set()).outcome == "passed"


@pytest.mark.parametrize(
    "outcomes, status, told",
    [
        ({"Tests.test_it": "passed", "Tests.test_inside": "failed"}, 0, "1 passed, 0 failed, 1 skipped"),
        ({"Tests.test_it": "passed", "Tests.test_inside": "passed"}, 1, "listed as not applicable, but passes"),
        ({"Tests.test_it": "failed", "Tests.test_inside": "failed"}, 1, "FAILED test_x.Tests.test_it"),
    ],
    ids=["as listed", "an unexpected pass", "a failure"],
)
def test_exit_status(runner, entries, monkeypatch, capsys, outcomes, status, told):
    def run(suite, module, loop, limits, only=None):
        records = [record("test_x." + name, outcome if loop else "passed") for name, outcome in outcomes.items()]
        return [record for record in records if only is None or record["id"] in only]

    suite = types.SimpleNamespace(
        PACKAGE="tests",
        BATTERIES=(),
        listed=types.SimpleNamespace(ENTRIES=entries),
        prepare=lambda: None,
        on_asyncio=lambda test_id: test_id,
    )
    monkeypatch.setitem(sys.modules, "uvloop_suite", suite)
    monkeypatch.setattr(runner("process"), "run", run)
    monkeypatch.setattr(sys, "argv", ["run.py", "--suite", "uvloop", "--module", "test_x"])
    monkeypatch.setattr(sys, "path", list(sys.path))
    handler = signal.getsignal(signal.SIGTERM)
    try:
        assert runner("run").main() == status
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert told in capsys.readouterr().out


def test_reasons_are_given(runner):
    for name in "not_applicable", "not_applicable_uvloop":
        listed = runner(name)
        patterns = [entry.pattern for entry in listed.ENTRIES + listed.OF_ASYNCIOS_LOOP]
        assert len(patterns) == len(set(patterns))
        assert all(entry.reason for entry in listed.ENTRIES + listed.OF_ASYNCIOS_LOOP) and all(listed.MODULES.values())
        assert not any(pattern.split(".")[0] in listed.MODULES for pattern in patterns)


def test_asyncio_is_asked_by_its_own_class_of_the_pair(runner):
    on_asyncio = runner("uvloop_suite").on_asyncio
    assert on_asyncio("test_tcp.Test_UV_TCP.test_transport_shutdown") == "test_tcp.Test_AIO_TCP.test_transport_shutdown"
    assert on_asyncio("test_base.TestBaseUV.test_close") == "test_base.TestBaseAIO.test_close"
