# What type checkers see instead of opentelemetry.py.

from collections.abc import Mapping

from opentelemetry.metrics import MeterProvider

from cloop import Loop

__all__ = ("instrument",)

def instrument(
    loop: Loop | None = None,
    *,
    meter_provider: MeterProvider | None = None,
    attributes: Mapping[str, str | bool | int | float] | None = None,
) -> None: ...
