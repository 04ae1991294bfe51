"""cloop.contrib.prometheus with prometheus_client."""

import asyncio
import gc
import os
import socket
import threading
import time
import urllib.request

import pytest

prometheus_client = pytest.importorskip("prometheus_client")
parser = pytest.importorskip("prometheus_client.parser")


@pytest.fixture
def contrib(cloop):
    import cloop.contrib.prometheus

    return cloop.contrib.prometheus


@pytest.fixture
def registry():
    return prometheus_client.CollectorRegistry()


@pytest.fixture
def loop(cloop):
    loop = cloop.Loop()
    yield loop
    loop.close()


def samples(text):
    """{(name, labels): value}"""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parser.text_string_to_metric_families(text)
        for sample in family.samples
    }


def scraped(registry):
    return samples(prometheus_client.generate_latest(registry).decode())


MAIN = ("loop", "main")


@pytest.mark.skipif(os.environ.get("CLOOP_TASKS") == "stock", reason="asyncio's own tasks are not counted")
def test_numbers_are_those_of_the_loop(contrib, registry, loop):
    contrib.register(loop, registry=registry)

    async def main():
        await asyncio.gather(*[asyncio.sleep(0.01) for _ in range(10)])

    loop.run_until_complete(main())
    timer = loop.call_later(1000, print)
    reading = loop.metrics()
    found = scraped(registry)
    assert found["cloop_turns_total", (MAIN,)] == reading.turns
    assert found["cloop_tasks_made_total", (MAIN,)] == 11
    assert found["cloop_timers_pending", (MAIN,)] == 1
    assert found["cloop_busy_seconds_total", (MAIN,)] == pytest.approx(reading.busy_ns / 1e9)
    assert found["cloop_idle_seconds_total", (MAIN,)] == pytest.approx(reading.idle_ns / 1e9)
    assert found["cloop_connections", (("kind", "tcp"), MAIN)] == 0
    timer.cancel()


def test_histograms(contrib, registry, loop):
    contrib.register(loop, registry=registry)
    loop.call_soon(time.sleep, 0.02)
    loop.call_soon(loop.stop)
    loop.run_forever()
    found = scraped(registry)
    name = "cloop_turn_seconds"
    assert found[name + "_count", (MAIN,)] == 1
    assert found[name + "_sum", (MAIN,)] >= 0.02
    buckets = {labels[0][1]: value for (found_name, labels), value in found.items() if found_name == name + "_bucket"}
    bounds = sorted(buckets, key=float)
    assert [buckets[bound] for bound in bounds] == sorted(buckets.values())
    assert buckets["+Inf"] == 1 and float(bounds[-2]) == pytest.approx(2**36 / 1e9)
    assert all(buckets[bound] == (float(bound) > 0.016) for bound in bounds if not 0.016 < float(bound) < 10)
    assert "0.268435456" in bounds  # docs/metrics.md has a rule with it


def test_every_number_is_exported(contrib, loop):
    """Beside what others can be computed of: fired timers are the count of the histogram of lateness."""
    exported = {row[0] for row in contrib._COUNTERS + contrib._GAUGES + contrib._HISTOGRAMS}
    left = set(loop.metrics().as_dict()) - exported
    assert left == {"since_ns", "now_ns", "utilization", "timers_fired", "lateness_ns", "connections", "watched"}


def test_names_in_the_documentation(contrib, registry, loop):
    import os

    here = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(here, "..", "..", "docs", "metrics.md")) as file:
        page = file.read()
    contrib.register(loop, registry=registry)
    for family in registry.collect():
        name = family.name + ("_total" if family.type == "counter" else "")
        assert "`%s" % name in page, name


def test_several_loops(cloop, contrib, registry, loop):
    other = cloop.Loop()
    contrib.register(loop, name="one", registry=registry)
    collector = contrib.register(other, name="two", registry=registry, prefix="my")
    found = scraped(registry)
    assert ("cloop_turns_total", (("loop", "one"),)) in found and ("my_turns_total", (("loop", "two"),)) in found
    other.close()
    registry.unregister(collector)
    assert not [name for name, _ in scraped(registry) if name.startswith("my_")]


def test_a_loop_is_not_kept_alive(cloop, contrib, registry):
    loop = cloop.Loop()
    contrib.register(loop, registry=registry)
    loop.close()
    assert ("cloop_turns_total", (MAIN,)) in scraped(registry)
    del loop
    gc.collect()
    assert scraped(registry) == {}


def test_other_loops_are_refused(contrib, registry):
    loop = asyncio.SelectorEventLoop()
    with pytest.raises(TypeError, match="is not a cloop.Loop"):
        contrib.register(loop, registry=registry)
    loop.close()


def test_a_server_in_one_line(contrib, registry, loop, monkeypatch):
    """It answers while the loop is blocked."""
    made = []
    start = contrib.start_http_server

    def start_http_server(port, addr, registry):
        from wsgiref import simple_server

        make = simple_server.make_server

        def make_server(*args, **options):
            made.append(make(*args, **options))
            return made[-1]

        monkeypatch.setattr("prometheus_client.exposition.make_server", make_server)
        return start(port, addr, registry)

    monkeypatch.setattr(contrib, "start_http_server", start_http_server)
    got = []

    async def main():
        contrib.serve(0, registry=registry)
        url = "http://127.0.0.1:%d/metrics" % made[0].server_port

        def fetch():
            with urllib.request.urlopen(url, timeout=20) as answer:
                got.append(samples(answer.read().decode()))

        thread = threading.Thread(target=fetch)
        thread.start()
        thread.join()  # which blocks the loop

    loop.run_until_complete(main())
    made[0].shutdown()
    made[0].server_close()
    assert got[0]["cloop_turns_total", (MAIN,)] == 1


def test_nothing_is_registered_if_the_port_is_taken(contrib, registry, loop):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        with pytest.raises(OSError):
            contrib.serve(taken.getsockname()[1], loop=loop, registry=registry)
    assert scraped(registry) == {}
