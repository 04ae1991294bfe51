"""python -m cloop --metrics PROGRAM: the summary at the end."""

import os
import re

import pytest


@pytest.fixture
def main(cloop, python):
    return lambda *args: python("-m", "cloop", "--metrics", *args)


PROGRAM = """
import asyncio, sys
async def main():
    await asyncio.gather(*[asyncio.sleep(0.001) for _ in range(10)])
    print("done")
asyncio.run(main())
if len(sys.argv) > 1:
    sys.exit(int(sys.argv[1]))
"""


@pytest.mark.skipif(os.environ.get("CLOOP_TASKS") == "stock", reason="asyncio's own tasks are not counted")
def test_summary(main, write_script):
    process = main(write_script(PROGRAM), "3")
    assert process.returncode == 3 and process.stdout == "done\n"
    lines = dict(re.match(r"cloop: (\w+) +(.*)", line).groups() for line in process.stderr.splitlines())
    assert list(lines) == ["loop", "turns", "callbacks", "timers", "tasks", "network", "pressure"]
    assert re.match(r"ran for [\d.e+]+ ms, busy for [\d.e+]+ [um]s: \d+\.\d %$", lines["loop"])
    assert lines["timers"].startswith("10 made, 10 fired, 0 cancelled; late: median ")
    # asyncio.run() makes some of its own.
    assert re.match(r"1[1-4] made, 0 failed, 0 cancelled, 0 not done$", lines["tasks"])


def test_one_for_each_loop(main):
    text = "import asyncio\nfor _ in range(2): asyncio.run(asyncio.sleep(0))\nraise ValueError"
    process = main("-c", text)
    assert process.returncode == 1
    assert process.stderr.count("cloop: loop ") == 2
    assert "ValueError" in process.stderr.partition("cloop: loop ")[0]


def test_a_loop_that_is_still_open(main):
    text = "import asyncio\nloop = asyncio.new_event_loop()\nloop.run_until_complete(asyncio.sleep(0))"
    process = main("-c", text)
    assert process.returncode == 0 and process.stderr.count("cloop: loop ") == 1


def test_a_program_without_a_loop(main):
    process = main("-c", "print(1)")
    assert (process.stdout, process.stderr) == ("1\n", "")


def test_children_do_not_report(main):
    text = """
import asyncio, os
asyncio.run(asyncio.sleep(0))
if os.fork() == 0:
    asyncio.run(asyncio.sleep(0))
else:
    os.wait()
"""
    assert main("-c", text).stderr.count("cloop: loop ") == 1


def test_tls_and_children(cloop):
    from cloop import _report

    class Reading:
        def __getattr__(self, name):
            return loop_reading if name in ("turn_time", "callback_time", "lateness") else 2

    loop = cloop.Loop()
    loop_reading = loop.metrics().turn_time
    loop.close()
    text = _report.summary(Reading())
    assert "cloop: TLS        2 handshakes, 2 failed" in text and "cloop: children   2 started, 2 run" in text


@pytest.mark.parametrize(
    "ns, text",
    [(0, "0 ns"), (999, "999 ns"), (1500, "1.5 us"), (2.5e6, "2.5 ms"), (9.99e8, "999 ms"), (7.26e10, "72.6 s")],
)
def test_durations(cloop, ns, text):
    from cloop import _report

    assert _report.duration(ns) == text


@pytest.mark.parametrize(
    "count, text",
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1536, "1.5 KiB"),
        (3 << 30, "3.0 GiB"),
        (5 << 40, "5.0 TiB"),
        (5 << 50, "5120.0 TiB"),
    ],
)
def test_sizes(cloop, count, text):
    from cloop import _report

    assert _report.size(count) == text
