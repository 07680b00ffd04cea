"""The dapr sink: what it refuses, and that a status means what it means for a function."""

from __future__ import annotations

from typing import Any

import pytest

from ofevents.api.resolved import HttpTarget
from ofevents.api.sink import DaprSink as Spec
from ofevents.clock import SystemClock
from ofevents.errors import ConfigError
from ofevents.subscriber.answer import failure
from ofevents.subscriber.dapr import through_sidecar
from ofevents_adapters.dapr_sink import DaprSink, meaning_of_status

DAPR = ("DAPR_HTTP_PORT", "DAPR_HTTP_ENDPOINT", "DAPR_GRPC_PORT", "DAPR_HOST", "DAPR_API_TOKEN")


@pytest.fixture(autouse=True)
def _no_sidecar(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in DAPR:
        monkeypatch.delenv(name, raising=False)


def build(**fields: Any) -> DaprSink:
    spec = Spec.model_validate({"operation": "create", **fields})
    return DaprSink(spec, format="binary", timeout=1, clock=SystemClock())


def test_its_address_is_the_sidecars() -> None:
    assert build(componentName="out").address == "Dapr binding out at daprd 127.0.0.1:50001"


def test_what_is_no_output_binding_is_refused() -> None:
    with pytest.raises(ConfigError, match="no output binding") as caught:
        build(componentName="x", component={"type": "pubsub.kafka"})
    assert caught.value.path == "sink.dapr.component.type"


@pytest.mark.parametrize("status", range(300, 600))
def test_a_status_means_what_it_means_for_a_function(status: int) -> None:
    expected = failure(status, {}, "it", "", SystemClock())
    assert type(meaning_of_status(status, "")) is type(expected)


def test_an_app_is_called_where_dapr_says(monkeypatch: pytest.MonkeyPatch) -> None:
    target = HttpTarget(uri="dapr://my app/a/b c")
    assert through_sidecar(target).uri == (
        "http://127.0.0.1:3500/v1.0/invoke/my%20app/method/a/b%20c"
    )
    monkeypatch.setenv("DAPR_HTTP_PORT", "3501")
    monkeypatch.setenv("DAPR_HOST", "proxy.shop")
    monkeypatch.setenv("DAPR_API_TOKEN", "secret")
    made = through_sidecar(target)
    assert made.uri.startswith("http://proxy.shop:3501/v1.0/invoke/")
    assert made.headers == {"dapr-api-token": "secret"}
    monkeypatch.setenv("DAPR_HTTP_ENDPOINT", "https://dapr.shop/")
    assert through_sidecar(target).uri.startswith("https://dapr.shop/v1.0/invoke/")


def test_any_other_target_stays_as_it_is() -> None:
    target = HttpTarget(uri="http://function/")
    assert through_sidecar(target) is target
