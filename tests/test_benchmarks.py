"""What the benchmark suite makes of samples; the loops' figures are not asked for."""

import contextlib
import json
import shutil
import sys
import threading

import pytest

from benchmarks import __main__ as command
from benchmarks import load, loops, registry, report, runner, worker


def sample(cpu_ns, **more):
    return {"operations": 10, "cpu_ns": cpu_ns, "wall_ns": 2 * cpu_ns, **more}


LATE = {"p50": 1000, "p99": 2000, "p99.9": 3000, "max": 4000}


@pytest.fixture
def run():
    rows = {name: registry.load()[name].about() for name in ("sleep_0", "pingpong")}
    return {
        "machine": report.machine(),
        "python": {
            "implementation": "CPython", "version": "3.11.7", "compiler": "cc", "optimized": True, "libc": "glibc 2",
            "openssl": "OpenSSL 3", "cloop": {"compiler": "gcc", "flags": "-O3"},
            "loops": {"cloop": "1", "uvloop": "2"}, "absent": {"nosuch": "ImportError: not here"},
        },
        "environment": {"CLOOP_GATHER": "0"},
        "rounds": 2,
        "loops": ["cloop", "uvloop", "other", "floor"],
        "rows": rows,
        "samples": {
            "sleep_0": {"cloop": [sample(100), sample(200)], "uvloop": [sample(300), sample(400)], "other": [None, None]},
            "pingpong": {
                "cloop": [sample(1000, load=0.5, latency_ns=LATE), sample(1200, load=0.5, latency_ns={**LATE, "max": 9000})],
                "uvloop": [sample(2000, load=0.95, latency_ns=LATE), None],
                "other": [],
                "floor": [sample(500, load=0.95, latency_ns=LATE)] * 2,
            },
        },
        "reasons": {"sleep_0": {"other": "failed: it broke"}, "pingpong": {"other": "has no servers", "uvloop": "failed: once"}},
    }  # fmt: skip


def cells(lines, title):
    return next(line for line in lines if line[0] == title)


def test_table(run):
    lines = report.table(run)
    assert lines[0] == ["benchmark", "cloop", "x", "uvloop", "other", "x", "floor", "x", "reach"]
    # Paired by round: 300/100 and 400/200.
    assert cells(lines, "sleep_0") == ["sleep_0", "150 [100..200]", "2.50", "350 [300..400]", "n/a", "-", "-", "-", "4"]
    assert cells(lines, "pingpong")[1:7] == ["1100 [1000..1200]", "2.00", "2000 [2000..2000]", "n/a", "-", "500 [500..500]"]  # fmt: skip
    assert cells(lines, "geometric mean of CPU")[2] == "{:.2f}".format((2.5 * 2) ** 0.5)


def test_many_loops_leave_out_the_spread(run):
    run["loops"] += ["a", "b", "c"]
    assert cells(report.table(run), "sleep_0")[1] == "150"


def test_rows_under_load(run):
    lines = report.under_load(run)
    assert lines[1] == ["pingpong", "cloop", "1.10", "2.00", "454.5", "1", "2", "3", "9", "50"]
    assert lines[2][1:] == ["uvloop", "2.00", "1.00", "250", "1", "2", "3", "4", "95 !"]
    assert [line[1] for line in lines[1:]] == ["cloop", "uvloop", "floor"]


def test_reasons_stand_below(run):
    notes = report.notes(run)
    assert "nosuch is not measured: ImportError: not here" in notes
    assert "sleep_0, other: failed: it broke" in notes
    assert "pingpong, other: has no servers" in notes
    assert "pingpong, uvloop: failed: once in some rounds" in notes
    assert [note for note in notes if note.startswith("!: the load generator")]


def test_all_is_made_from_json(run):
    again = json.loads(json.dumps(run))
    for form in (True, False):
        assert report.whole(again, form) == report.whole(run, form)
    text = report.whole(run)
    for part in ("governor", "glibc 2", "OpenSSL 3", "gcc, -O3", "CLOOP_GATHER=0", "Under load"):
        assert part in text


def test_lateness_has_no_ratio(run):
    row = {"metric": "late", "ideal_us": 0}
    samples = {"cloop": [{"latency_ns": LATE}], "uvloop": [{"latency_ns": LATE}]}
    assert report.values(row, samples["cloop"]) == [1.0]
    assert report.ratio(row, samples, "cloop") is None


def test_only_what_fails_on_cloop_is_a_failure(run):
    assert not command.failed(run)
    run["samples"]["sleep_0"]["cloop"][1] = None
    assert command.failed(run)


# The loops


def test_names_of_loops():
    assert loops.named("cloop,uvloop,cloop", "floor") == ["cloop", "uvloop"]
    every = loops.named("all", "floor")
    assert every[: len(loops.LOOPS)] == list(loops.LOOPS) and every[-1] == "floor"
    assert "aiofastnet+cloop" in every
    assert loops.is_over("aiofastnet") and loops.is_over("aiofastnet+rloop") and not loops.is_over("rloop")


def test_aiofastnet_is_measured_where_it_has_a_part():
    rows = registry.load()
    assert command.suits(rows["pingpong"], "aiofastnet+uvloop") and command.suits(rows["tls_echo_1k"], "aiofastnet")
    assert not command.suits(rows["sleep_0"], "aiofastnet+uvloop") and not command.suits(rows["udp_echo"], "aiofastnet")
    assert command.suits(rows["pingpong"], "floor") and not command.suits(rows["sleep_0"], "floor")


# Rounds


def rounds(monkeypatch, results, rounds=4):
    """What run_row() makes of what each call gives or raises, by loop."""
    asked = []

    def call(python, module, row, loop):
        asked.append(loop)
        result = results[loop][min(asked.count(loop), len(results[loop])) - 1]
        if isinstance(result, Exception):
            raise result
        return result

    monkeypatch.setattr(runner, "call", call)
    samples, reasons = runner.run_row("python", registry.load()["sleep_0"], list(results), rounds)
    return samples, reasons, asked


def test_rounds_take_turns(monkeypatch):
    _, _, asked = rounds(monkeypatch, {"a": [sample(1)], "b": [sample(1)]}, 2)
    assert asked == ["a", "b", "b", "a"]


def test_a_loop_that_fails_loses_its_rounds_only(monkeypatch, capsys):
    error = runner.WorkerError("boom (exit status 1)")
    samples, reasons, asked = rounds(monkeypatch, {"a": [sample(1)], "b": [error], "c": [sample(2), error, sample(3)]})
    assert samples["a"] == [sample(1)] * 4
    assert samples["b"] == [None] * runner.FAILURES and asked.count("b") == runner.FAILURES
    assert samples["c"] == [sample(2), None, sample(3), sample(3)]
    assert reasons == {"b": "failed: boom (exit status 1)", "c": "failed: boom (exit status 1)"}


def test_a_loop_that_hangs_or_lacks_something_is_asked_once(monkeypatch, capsys):
    hangs, lacks = runner.WorkerHangs("no result"), {"skipped": "b does not implement it"}
    samples, reasons, asked = rounds(monkeypatch, {"a": [hangs], "b": [lacks]})
    assert sorted(asked) == ["a", "b"]
    assert samples == {"a": [None], "b": []}
    assert reasons == {"a": "failed: no result", "b": "b does not implement it"}


@pytest.mark.parametrize("code, message", [
    ("print('no JSON')", "something else than its result"),
    ("import sys; sys.exit('why')", r"why \(exit status 1\)"),
    ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", r"silent \(killed by SIGKILL\)"),
])  # fmt: skip
def test_why_a_worker_failed(monkeypatch, tmp_path, code, message):
    (tmp_path / "broken.py").write_text(code)
    monkeypatch.setattr(runner, "ROOT", tmp_path)
    with pytest.raises(runner.WorkerError, match=message):
        runner.call(sys.executable, "broken")


# The load generator


def test_what_the_load_generator_tells():
    told = [{"cpu_ns": 10, "wall_ns": 20, "latency_ns": {"p50": n, "max": 10 * n}} for n in (3, 1, 2)]
    assert worker.of_load(told) == {"load": 0.5, "latency_ns": {"p50": 2, "max": 30}}
    assert worker.of_load([None, 1.5]) == {} == worker.of_load([{"operations": 1, "wall_ns": 5}])


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_latency_is_measured_and_replies_are_compared():
    """A server of two lines: one answers what it was sent, one something else."""

    def serve(sock, answer):
        with sock.accept()[0] as connection, contextlib.suppress(ConnectionResetError):
            while True:
                data = connection.recv(1000)
                if not data:
                    return
                connection.sendall(answer(data))

    for answer in (bytes, bytes.upper):
        with load.listener("tcp") as sock:
            sock.setblocking(True)
            thread = threading.Thread(target=serve, args=(sock, answer))
            thread.start()
            try:
                with load.client("exchange", load.address_of("tcp", sock), 1, 100, 1, core=0) as client:
                    if answer is bytes:
                        assert client.wait_blocking() == {"ready": True}
                        told = client.run_blocking(50)
                        percentiles = [told["latency_ns"][name] for name in ("p50", "p99", "p99.9", "max")]
                        assert percentiles == sorted(percentiles) and percentiles[0] > 0
                        assert told["operations"] == 50 and 0 < told["cpu_ns"] <= told["wall_ns"]
                        assert percentiles[-1] <= told["wall_ns"]
                    else:
                        with pytest.raises(RuntimeError, match="something else than it was to"):
                            client.wait_blocking()
            finally:
                thread.join()
