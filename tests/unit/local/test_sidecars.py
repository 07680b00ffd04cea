"""Which workers of `ofevents run` need a sidecar, and where its addresses go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ofevents.api.resolved import (
    HttpTarget,
    ResolvedBus,
    ResolvedSource,
    ResolvedSubscriber,
    ResolvedTrigger,
    SinkTarget,
)
from ofevents.clock import SystemClock
from ofevents.errors import ConfigError
from ofevents.local.sidecars import Sidecars, needs, placed

COMPONENT = {"type": "bindings.kafka", "metadata": [{"name": "brokers", "value": "k:9092"}]}
INVOKE = HttpTarget(uri="dapr://billing/paid")
OUT = SinkTarget(
    sink="dapr",
    spec={"component": COMPONENT, "componentName": "out", "operation": "create"},
)
THERE = {"grpc": "127.0.0.1:1", "http": "127.0.0.1:2", "app_port": 3}


@pytest.fixture(autouse=True)
def _no_sidecar(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DAPR_HTTP_PORT", "DAPR_HTTP_ENDPOINT", "DAPR_GRPC_PORT"):
        monkeypatch.delenv(name, raising=False)


def source(target: Any = None, **fields: Any) -> ResolvedSource:
    return ResolvedSource(
        namespace="default", name="shop", source="dapr", entry="orders", spec=fields, target=target
    )


def trigger(target: Any, dead_letter: Any = None) -> ResolvedTrigger:
    subscriber = ResolvedSubscriber(name="a", target=target, dead_letter=dead_letter, inbox="i")
    return ResolvedTrigger(
        namespace="default",
        name="t",
        bus=ResolvedBus(driver="memory"),
        inputs=(),
        subscribers=(subscriber,),
        group="g",
        dead_topic="d",
    )


def test_a_component_written_in_an_entry() -> None:
    need = needs(source(component=COMPONENT))
    assert need.reads and len(need.manifests) == 1
    made = placed(source(component=COMPONENT), **THERE)
    assert isinstance(made, ResolvedSource)
    assert (made.spec["sidecar"], made.spec["appPort"]) == ("127.0.0.1:1", 3)


def test_a_component_that_is_elsewhere_needs_none() -> None:
    assert not needs(source(componentName="orders"))
    elsewhere = source(component=COMPONENT, sidecar="dapr:50001")
    assert not needs(elsewhere)
    assert placed(elsewhere, **THERE) == elsewhere


def test_a_binding_and_an_app_that_a_trigger_calls() -> None:
    spec = trigger(OUT, INVOKE)
    need = needs(spec)
    assert [one["metadata"]["name"] for one in need.manifests] == ["out"]
    assert (need.reads, need.invokes) == (False, True)
    made = placed(spec, **THERE)
    assert isinstance(made, ResolvedTrigger)
    (subscriber,) = made.subscribers
    assert isinstance(subscriber.target, SinkTarget)
    assert subscriber.target.spec["sidecar"] == "127.0.0.1:1"
    assert isinstance(subscriber.dead_letter, HttpTarget)
    assert subscriber.dead_letter.uri == "http://127.0.0.1:2/v1.0/invoke/billing/method/paid"


def test_an_app_where_a_sidecar_runs_already(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAPR_HTTP_PORT", "3500")
    assert not needs(trigger(INVOKE))


async def test_without_a_daprd_it_says_how_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    sidecars = Sidecars(tmp_path, SystemClock())
    with pytest.raises(ConfigError, match=r"dapr source or sink needs a sidecar.*dapr init"):
        async with sidecars.beside(source(component=COMPONENT)):
            pass


async def test_a_worker_without_dapr_is_left_alone(tmp_path: Path) -> None:
    spec = trigger(HttpTarget(uri="http://function/"))
    async with Sidecars(tmp_path, SystemClock()).beside(spec) as made:
        assert made is spec
