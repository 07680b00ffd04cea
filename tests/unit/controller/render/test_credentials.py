"""Which specs are kept in a Secret: whatever the form in which a credential stands in them."""

from __future__ import annotations

from typing import Any

import pytest

from ofevents.api.resolved import ResolvedBus, ResolvedSource
from ofevents.api.secretref import marker
from ofevents.controller.render.document import holds_credentials


def on_bus(driver: str, **options: Any) -> ResolvedSource:
    bus = ResolvedBus(name="shop/default", driver=driver, options=options)
    return ResolvedSource(
        namespace="shop",
        name="orders",
        source="cron",
        entry="tick",
        spec={"schedule": "@daily"},
        bus=bus,
    )


def component(value: Any) -> ResolvedSource:
    metadata = [{"name": "redisPassword", "value": value}]
    return on_bus("dapr", pubsub={"type": "pubsub.redis", "version": "v1", "metadata": metadata})


def calls(uri: str) -> ResolvedSource:
    return ResolvedSource(
        namespace="shop",
        name="orders",
        source="cron",
        entry="tick",
        spec={"schedule": "@daily"},
        target={"kind": "http", "uri": uri},
    )


@pytest.mark.parametrize(
    "spec",
    [
        on_bus("jetstream", url="nats://u:hunter2@a:4222"),
        on_bus("jetstream", url="nats://a:4222,nats://u:hunter2@b:4222"),
        component("hunter2"),
        component(123456),
        calls("https://u:hunter2@a/"),
        calls("https://a/in?access_token=hunter2"),
    ],
)
def test_a_credential_is_seen(spec: ResolvedSource) -> None:
    assert holds_credentials(spec)


@pytest.mark.parametrize(
    "spec",
    [
        on_bus("jetstream", url="nats://a:4222,nats://b:4222", max_age=3600, replicas=3),
        component(marker("redis", "password")),
        calls("https://a/in?page=2&sort=name"),
    ],
)
def test_what_is_none_is_not_taken_for_one(spec: ResolvedSource) -> None:
    assert not holds_credentials(spec)
