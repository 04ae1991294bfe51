# needs: opentelemetry.sdk opentelemetry.instrumentation.asyncio
import asyncio

from opentelemetry import trace
from opentelemetry.instrumentation.asyncio import AsyncioInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


def name():
    kind = type(asyncio.get_running_loop())
    return kind.__module__ + "." + kind.__qualname__


exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
tracer = trace.get_tracer("recipe")


async def child(number):
    await asyncio.sleep(0.001)
    with tracer.start_as_current_span("child %d" % number):
        await asyncio.sleep(0.001)


async def main():
    AsyncioInstrumentor().instrument()
    with tracer.start_as_current_span("parent") as parent:
        await asyncio.gather(*(child(number) for number in range(10)))
    children = [span for span in exporter.get_finished_spans() if span.name.startswith("child")]
    assert len(children) == 10
    assert {span.context.trace_id for span in children} == {parent.context.trace_id}
    print(name())
