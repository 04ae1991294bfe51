"""What tests share that use all features."""

import importlib
import os

import pytest


@pytest.fixture
def scenario_named(request, monkeypatch):
    """scenario_named(name): a coroutine function of tests/isolated/scenarios.py, which is called with a loop; after -tls, over TLS."""
    tests = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    monkeypatch.syspath_prepend(os.path.join(tests, "isolated"))
    scenarios = importlib.import_module("scenarios")

    def scenario_named(name):
        name, _, tls = name.partition("-")
        scenario = getattr(scenarios, name)
        return scenarios.with_ssl(scenario, request.getfixturevalue("certificates")) if tls else scenario

    return scenario_named
