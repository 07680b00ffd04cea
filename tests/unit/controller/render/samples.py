"""Workers to render; for the unit tests, and for the API server's judgement of the result."""

from __future__ import annotations

from typing import Any

from ofevents.api.resolved import (
    HttpTarget,
    ResolvedBus,
    ResolvedInput,
    ResolvedSource,
    ResolvedSubscriber,
    ResolvedTrigger,
)
from ofevents.api.secretref import marker
from ofevents.controller.render import Owner, Platform, SecretUse

OWNER = Owner("events.openfunction.io/v1alpha1", "EventSource", "shop", "orders", "uid-1", 3)
PLATFORM = Platform(image="ofevents:1", keda=True, dapr=True, gateway=True)
JETSTREAM = ResolvedBus(
    name="shop/default",
    driver="jetstream",
    options={"url": "nats://nats:4222", "monitoring": "http://nats.nats:8222"},
)
DAPR = ResolvedBus(
    name="shop/default",
    driver="dapr",
    options={
        "pubsub": {
            "type": "pubsub.kafka",
            "version": "v1",
            "metadata": [
                {"name": "brokers", "value": "kafka:9092"},
                {"name": "authType", "value": "password"},
                {"name": "saslUsername", "value": "shop"},
                {"name": "saslPassword", "value": marker("kafka", "password")},
            ],
        },
        "state": {"type": "state.redis", "version": "v1", "metadata": []},
    },
)


def source(kind: str = "cron", entry: str = "tick", **more: Any) -> ResolvedSource:
    given: dict[str, Any] = {"spec": {"schedule": "@daily"}, "bus": JETSTREAM, **more}
    return ResolvedSource(namespace="shop", name="orders", source=kind, entry=entry, **given)


def kafka(**own: Any) -> ResolvedSource:
    return source("kafka", spec={"brokers": "kafka:9092", "topic": "orders", **own})


def webhook(**own: Any) -> ResolvedSource:
    return source("webhook", spec={"path": "/orders/in", "port": 8080, "host": "127.0.0.1", **own})


def trigger(name: str = "audit", **more: Any) -> ResolvedTrigger:
    given: dict[str, Any] = {
        "bus": JETSTREAM,
        "inputs": (ResolvedInput(name="tick", topic="event.shop.orders.tick"),),
        "subscribers": (
            ResolvedSubscriber(
                name="log",
                target=HttpTarget(uri="http://log.shop.svc/"),
                inbox=f"inbox.shop.{name}.log",
            ),
        ),
        "group": f"trigger.shop.{name}",
        "dead_topic": f"dead.shop.{name}",
        **more,
    }
    return ResolvedTrigger(namespace="shop", name=name, **given)


def used(*pairs: tuple[str, str]) -> dict[str, SecretUse]:
    return {marker(*each): SecretUse(*each, "digest") for each in pairs}
