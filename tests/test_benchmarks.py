"""What the benchmark suite makes of samples; the loops' figures are not asked for."""

import contextlib
import importlib.util
import json
import shutil
import subprocess
import sys
import threading

import pytest

from benchmarks import __main__ as command
from benchmarks import load, loops, plot, registry, report, runner, scaling, servers, shares, tables, worker


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


# Tables and plots


@pytest.fixture
def file(run, tmp_path):
    path = tmp_path / "run.json"
    path.write_text(json.dumps([run]))
    return path


def test_page_of_tables(run, file, tmp_path, capsys):
    tables.main([str(file)])
    text = capsys.readouterr().out
    assert (
        "| `sleep_0` | 150 ns [100\N{NO-BREAK SPACE}ns..200\N{NO-BREAK SPACE}ns] | **2.50** | uvloop | 2.50 |" in text
    )
    assert "### CPython 3.11.7" in text and "gcc, with `-O3`" in text and "CLOOP_GATHER=0" in text
    assert "- `pingpong`: One message of 1 KiB echoed by a Protocol; a single connection." in text
    assert "- sleep_0, other: failed: it broke" in text
    assert "Not won" not in text and "| uvloop | 2.24 | 2 | 2 |" in text

    page = tmp_path / "page.md"
    page.write_text("before\n\n{}\nold\n{}\nafter\n".format(tables.BEGIN, tables.END))
    for _ in range(2):
        tables.main(["--into", str(page), str(file)])
        assert page.read_text() == "before\n\n{}\n\n{}\n\n{}\nafter\n".format(
            tables.BEGIN, text.rstrip("\n"), tables.END
        )
    page.write_text("no place")
    with pytest.raises(SystemExit, match="no place for tables"):
        tables.main(["--into", str(page), str(file)])


def test_the_page_has_a_place():
    text = (runner.ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert text.count(tables.BEGIN) == text.count(tables.END) == 1


def test_what_is_not_won(run):
    run["loops"].append("quick")
    run["samples"]["sleep_0"]["quick"] = [sample(50), sample(60)]
    run["samples"]["pingpong"]["quick"] = [sample(900), sample(1150)]
    assert tables.not_won(run) == ["- `sleep_0`: quick × 0.40", "- `pingpong`: quick × 0.93, within the noise"]
    assert tables.rival(run, "sleep_0") == ("quick", pytest.approx(0.4), True)
    # Bare C is no rival.
    assert cells(tables.means(run), "bare C")[1] == "0.46"


def test_files_of_one_python_are_one_run(run, tmp_path):
    parts = []
    for name in run["rows"]:
        part = {**run, "rows": {name: run["rows"][name]}, "samples": {name: run["samples"][name]}, "reasons": {}}
        parts.append(tmp_path / (name + ".json"))
        parts[-1].write_text(json.dumps([part]))
    (together,) = tables.read(parts)
    assert together["rows"] == json.loads(json.dumps(run["rows"])) and list(together["samples"]) == list(run["samples"])


@pytest.mark.parametrize("metric, figure, text", [
    ("cpu", 1.234, "1.23 ns"), ("cpu", 5740, "5.74 µs"), ("told", 2.5e7, "25 ms"), ("cpu", 123456, "123 µs"),
    ("wall", 118.2, "118 µs"), ("wall", -197, "-197 µs"), ("late", 5999, "6 ms"), ("memory", 0.444, "0.44 KiB"),
])  # fmt: skip
def test_amounts(metric, figure, text):
    assert tables.amount({"metric": metric}, figure) == text


def test_the_ten_rows_exist(run, file, capsys):
    known = registry.load()
    assert len(tables.TEN) == 10 and all(known[name].default for name in tables.TEN)
    tables.main(["--ten", str(file)])
    assert "| one operation | 3.11: cloop | × uvloop | × asyncio |" in capsys.readouterr().out


def test_families_have_titles():
    assert list(tables.FAMILIES) == list(registry.FAMILIES)


def test_plots(run, tmp_path):
    for power in range(4):
        row = registry.load()["timers_pending_{}".format(10**power)]
        run["rows"][row.name] = row.about()
        run["samples"][row.name] = {"cloop": [sample(100 + power)], "uvloop": [sample(500)]}
    run["rows"]["call_soon_chain"] = registry.load()["call_soon_chain"].about()
    run["samples"]["call_soon_chain"] = {"cloop": [sample(100)], "uvloop": [sample(600)]}
    (tmp_path / "run.json").write_text(json.dumps([run]))
    assert plot.curves(run) == {"timers pending": {
        "cloop": [(1, 100), (10, 101), (100, 102), (1000, 103)], "uvloop": [(10**power, 500) for power in range(4)],
    }}  # fmt: skip
    if importlib.util.find_spec("matplotlib") is None:
        pytest.skip("matplotlib is not installed")
    drawn = []
    for place in ("one", "two"):
        # It keeps its fonts open.
        command = [sys.executable, "-m", "benchmarks.plot", str(tmp_path / "run.json"), "--out", str(tmp_path / place)]
        subprocess.run(command, check=True, cwd=str(runner.ROOT), stdout=subprocess.DEVNULL)
        drawn.append([(tmp_path / place / name).read_text() for name in ("speed-3.11.svg", "size-3.11.svg")])
    assert drawn[0] == drawn[1]
    assert "callback → callback" in drawn[0][0] and "600 ns" in drawn[0][0]
    assert "timers pending" in drawn[0][1]


# The rows


def test_rows_of_a_size_are_families():
    known = registry.load()
    sizes = {}
    for row in known.values():
        if row.size:
            sizes.setdefault(row.size[0], []).append(row.size[1])
    assert (
        sizes["timers pending"]
        == sizes["tasks pending"]
        == sizes["callbacks pending"]
        == [10**power for power in range(7)]
    )
    assert sizes["echo protocol 1k"] == sizes["echo sock 64"] == [1, 10, 100, 1000, 10_000]
    assert sizes["echo streams 1m"] == [1, 10, 100]  # no more than 128 MiB under way
    assert len(known) > 200 > sum(row.default for row in known.values())


@pytest.mark.parametrize(
    "dso, loop, expected",
    [
        ("[kernel.kallsyms]", "cloop", "kernel"),
        ("[vdso]", "cloop", "kernel"),
        ("/src/cloop/_cloop.cpython-311-x86_64-linux-gnu.so", "cloop", "loop"),
        ("/lib/site-packages/uvloop/loop.cpython-311-x86_64-linux-gnu.so", "uvloop", "loop"),
        ("/lib/site-packages/uvloop/loop.cpython-311-x86_64-linux-gnu.so", "cloop", "other"),
        ("/usr/bin/python3.11", "cloop", "python"),
        ("/usr/lib/libpython3.14.so.1.0", "cloop", "python"),
        ("/usr/lib/python3.11/lib-dynload/_asyncio.cpython-311-x86_64-linux-gnu.so", "cloop", "python"),
        ("/lib/x86_64-linux-gnu/libc.so.6", "cloop", "other"),
    ],
)
def test_whose_time_it_is(dso, loop, expected):
    assert shares.part(dso, loop) == expected


def test_what_a_loop_without_code_of_its_own_would_reach():
    half, tenth = ({"kernel": 0.5 - loop, "loop": loop, "python": 0.5, "other": 0.0} for loop in (0.5, 0.1))
    of_rows = {"sleep_0": half, "future_wakeup": tenth, "barrier": half}
    assert shares.table(of_rows)[2] == ["`future_wakeup`", "40 %", "10 %", "50 %", "0 %"]
    rows = {name: registry.load()[name].about() for name in ("sleep_0", "future_wakeup")}
    samples = {"cloop": [sample(100)], "uvloop": [sample(150)]}
    run = {"rows": rows, "samples": {name: samples for name in rows}}
    lines = shares.table(of_rows, run)
    assert [line[0] for line in lines[1:]] == ["`sleep_0`", "`future_wakeup`", "all"]
    assert [line[-2:] for line in lines[1:]] == [["1.50", "3.00"], ["1.50", "1.67"], ["1.50", "2.24"]]
    assert shares.table(of_rows, run, by_family=True)[1] == ["Futures and tasks", *lines[3][1:]]


def test_what_more_loops_cost():
    names = {name: registry.load()[name] for name in ("processes_echo_1", "processes_echo_2", "sleep_0")}
    run = {
        "rows": {name: row.about() for name, row in names.items()},
        "loops": ["cloop", "other"],
        "samples": {
            "processes_echo_1": {"cloop": [sample(100), None], "other": []},
            "processes_echo_2": {"cloop": [{**sample(110), "wall_ns": 100}, sample(1)], "other": []},
            "sleep_0": {"cloop": [sample(1)]},
        },
    }
    lines = list(scaling.table(run))
    assert lines[1:] == [["processes echo", "cloop", "100", "2", "56", "+10 %", "× 2.00"]]


@pytest.mark.parametrize(
    "name",
    [
        "barrier",
        "condition_ping_pong",
        "interpreters_tasks_2",
        "loop_open_close",
        "processes_echo_2",
        "timers_pending_100",
        "wait_10",
    ],
)
def test_some_rows_run(name):
    row = registry.load()[name]
    if sys.version_info[:2] < row.since:
        pytest.skip("it needs a newer Python")
    with worker.open_subject(row, "asyncio") as subject:
        subject.run(20 * row.batch)


def test_servers_are_shared_by_the_environment(monkeypatch):
    monkeypatch.setenv("BENCHMARKS_REDIS_PORT", "1234")
    with servers.beside("redis") as port, servers.beside(None) as none:
        assert (port, none) == (1234, 0)


def test_a_missing_server_is_a_reason(monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(servers.glob, "glob", lambda pattern: [])
    row = registry.load()["client_redis_get"]
    samples, reasons = runner.run_row("python", row, ["cloop", "uvloop"], 3)
    assert samples == {"cloop": [], "uvloop": []}
    assert reasons == dict.fromkeys(["cloop", "uvloop"], "there is no redis-server")
