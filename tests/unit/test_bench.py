"""The benchmarks leave no source out, and their bounds fail a run that is too slow."""

from __future__ import annotations

import pytest

from bench import dapr, sources
from bench.feeds import FEEDS
from bench.load import row
from ofevents import registry


def test_every_source_but_cron_is_measured_and_has_a_bound() -> None:
    assert set(FEEDS) == set(registry.names("ofevents.sources")) - {"cron"}
    assert set(sources.SHARES) == set(FEEDS)


@pytest.mark.parametrize(
    ("bound", "figure", "ok"),
    [
        ({"least": 10}, 10, True),
        ({"least": 10}, 9.9, False),
        ({"most": 10}, 10, True),
        ({"most": 10}, 10.1, False),
    ],
)
def test_a_figure_out_of_its_bound_fails(bound: dict[str, float], figure: float, ok: bool) -> None:
    assert row("figure", figure, "events/s", **bound)["ok"] is ok


def failed(ours: tuple[float, float], *, quick: bool = False) -> list[str]:
    """The dapr bus's figures that are out of bounds, beside those of a usual machine."""
    raw, sdk = (30_000.0, 20_000.0), (3_000.0, 2_000.0)
    found = dapr.rows("kafka", raw, sdk, ours, (15_000, 8_000), (3, 2), quick=quick)
    return [one["name"] for one in found if not one["ok"]]


def test_the_dapr_bus_is_held_to_its_rates_and_to_the_plain_sdk() -> None:
    assert failed((15_000, 8_000)) == []
    assert failed((14_999, 8_000)) == ["kafka: publish, dapr bus"]
    assert failed((15_000, 3_999)) == [
        "kafka: consume, dapr bus",
        "kafka: consume, dapr bus / plain SDK",
    ]
    assert failed((1, 1), quick=True) == []
