"""cloop.contrib.opentelemetry with OpenTelemetry's SDK."""

import asyncio
import gc
import os

import pytest

pytest.importorskip("opentelemetry.sdk")
from opentelemetry.sdk.metrics import MeterProvider  # noqa: E402
from opentelemetry.sdk.metrics.export import InMemoryMetricReader  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))


@pytest.fixture
def contrib(cloop):
    import cloop.contrib.opentelemetry

    return cloop.contrib.opentelemetry


@pytest.fixture
def loop(cloop):
    loop = cloop.Loop()
    yield loop
    loop.close()


@pytest.fixture
def reader():
    return InMemoryMetricReader()


@pytest.fixture
def provider(reader):
    provider = MeterProvider([reader])
    yield provider
    provider.shutdown()


def collected(reader):
    """{(name, attributes): (value, unit)}"""
    data = reader.get_metrics_data()
    return {
        (metric.name, tuple(sorted(point.attributes.items()))): (point.value, metric.unit)
        for resource in (data.resource_metrics if data is not None else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
    }


@pytest.mark.skipif(os.environ.get("CLOOP_TASKS") == "stock", reason="asyncio's own tasks are not counted")
def test_numbers_are_those_of_the_loop(contrib, loop, provider, reader):
    contrib.instrument(loop, meter_provider=provider)

    async def main():
        await asyncio.gather(*[asyncio.sleep(0.01) for _ in range(10)])

    loop.run_until_complete(main())
    reading = loop.metrics()
    found = collected(reader)
    assert found["cloop.eventloop.turns", ()] == (reading.turns, "{turn}")
    assert found["cloop.tasks.created", ()] == (11, "{task}")
    active = found["cloop.eventloop.time", (("cloop.eventloop.state", "active"),)]
    assert active == (pytest.approx(reading.busy_ns / 1e9), "s")
    assert found["cloop.eventloop.utilization", ()] == (pytest.approx(reading.utilization), "1")
    assert found["cloop.connections.open", (("network.transport", "tcp"),)] == (0, "{connection}")
    late, unit = found["cloop.eventloop.delay.p99", ()]
    assert unit == "s" and late == pytest.approx(reading.lateness.quantile(0.99) / 1e9)


def test_gauges_are_of_the_time_since_the_last_collection(contrib, loop, provider, reader):
    contrib.instrument(loop, meter_provider=provider, attributes={"which": "first"})
    which = (("which", "first"),)
    loop.run_until_complete(asyncio.sleep(0.01))
    assert collected(reader)["cloop.eventloop.delay.p50", which][0] > 0
    assert collected(reader)["cloop.eventloop.delay.p50", which][0] == 0
    assert collected(reader)["cloop.eventloop.utilization", which][0] == 0


def test_every_number_is_exported(contrib, loop):
    rows = contrib._COUNTERS + contrib._GAUGES
    exported = {pair[0] for row in rows for pair in row[3]} | {row[1] for row in contrib._DELAYS}
    left = set(loop.metrics().as_dict()) - exported
    assert left == {
        "since_ns",
        "now_ns",
        "utilization",
        "connections",
        "lateness_ns",
        "lateness_max_ns",
        "ready_max",
        "watched",
    }


def test_names_in_the_documentation(contrib, loop, provider, reader):
    with open(os.path.join(HERE, "..", "..", "docs", "metrics.md")) as file:
        page = file.read()
    contrib.instrument(loop, meter_provider=provider)
    for name in {name for name, _ in collected(reader)}:
        prefix, _, last = name.rpartition(".")
        assert "`%s`" % name in page or "`.%s`" % last in page or "`%s`" % prefix in page, name


def test_a_loop_is_not_kept_alive(cloop, contrib, provider, reader):
    loop = cloop.Loop()
    contrib.instrument(loop, meter_provider=provider)
    loop.close()
    assert collected(reader)
    del loop
    gc.collect()
    assert not collected(reader)


def test_the_running_loop_is_the_default(contrib, loop, provider, reader):
    async def main():
        contrib.instrument(meter_provider=provider)

    loop.run_until_complete(main())
    assert collected(reader)["cloop.eventloop.turns", ()][0] == loop.metrics().turns
    with pytest.raises(RuntimeError):
        contrib.instrument()


def test_other_loops_are_refused(contrib, provider):
    loop = asyncio.SelectorEventLoop()
    with pytest.raises(TypeError, match="is not a cloop.Loop"):
        contrib.instrument(loop, meter_provider=provider)
    loop.close()
