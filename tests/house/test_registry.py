"""What is registered can be loaded, and every adapter module belongs to what is registered."""

from __future__ import annotations

from pathlib import Path

import pytest

from ofevents import registry
from ofevents.api.sink import SINKS
from ofevents.errors import ConfigError

ADAPTERS = Path(__file__).parents[2] / "adapters" / "ofevents_adapters"


SHARED = {"redial", "settle"}
"""Modules that belong to no one technology."""


def test_every_adapter_module_belongs_to_a_source_or_a_sink() -> None:
    modules = {p.stem for p in ADAPTERS.glob("*.py") if p.stem != "__init__"} - SHARED
    registered = {*registry.names("ofevents.sources"), *registry.names("ofevents.sinks")}
    # A technology may need a second module: `kafka_offsets` belongs to `kafka`.
    assert {m.split("_")[0] for m in modules} == registered


@pytest.mark.parametrize("name", registry.names("ofevents.sinks"))
def test_every_sink_has_its_fields(name: str) -> None:
    assert name in SINKS
    assert callable(registry.load("ofevents.sinks", name))


@pytest.mark.parametrize("name", registry.names("ofevents.sources"))
def test_every_source_states_its_features(name: str) -> None:
    source = registry.load("ofevents.sources", name)
    assert source.features.guarantee in ("at-least-once", "at-most-once")


@pytest.mark.parametrize("name", registry.names("ofevents.buses"))
def test_every_bus_states_its_features(name: str) -> None:
    assert registry.load("ofevents.buses", name).features.groups


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean kafka"):
        registry.load("ofevents.sources", "kafak")
