"""What a dapr bus needs of its sidecar, and what it refuses: pure functions."""

from __future__ import annotations

from typing import Any

import pytest

from ofevents.bus import dapr_kinds, topics
from ofevents.bus.dapr_components import Names, manifests
from ofevents.bus.dapr_options import read_options
from ofevents.errors import ConfigError
from ofevents.ports import Consumer

ORDERS = topics.event("default", "shop", "orders")
ODD = topics.user("default", "a b")
GROUP = Consumer(topics.trigger_group("default", "billing"), (ORDERS, ODD))


def made(
    type: str, *consumers: Consumer, settings: dict[str, str] | None = None, **options: Any
) -> Any:
    metadata = [{"name": k, "value": v} for k, v in (settings or {}).items()]
    read = read_options({"pubsub": {"type": type, "metadata": metadata}, **options})
    return manifests(read, "default", consumers)


def settings_of(manifest: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["value"] for one in manifest["spec"]["metadata"]}


def test_kafka_has_one_component_per_group_and_a_subscription_per_topic() -> None:
    found = made("pubsub.kafka", GROUP, settings={"brokers": "k:9092"}, app_port=5000)
    bus, group, *subscriptions = found
    assert settings_of(bus) == {"brokers": "k:9092"}
    assert settings_of(group) == {
        "brokers": "k:9092",
        "consumerGroup": "ofevents.trigger.default.billing",
        "initialOffset": "oldest",
    }
    assert [one["kind"] for one in subscriptions] == ["Subscription"] * 2
    assert {one["spec"]["pubsubname"] for one in subscriptions} == {group["metadata"]["name"]}
    wires = [one["spec"]["topic"] for one in subscriptions]
    assert wires == ["ofevents.event.default.shop.orders", "ofevents.topic.default.a..20b"]
    for one in subscriptions:
        assert one["spec"]["metadata"] == {"rawPayload": "true"}
        assert one["spec"]["bulkSubscribe"]["enabled"] is True


def test_without_a_port_kafka_is_read_on_streams_that_end() -> None:
    kinds = [one["kind"] for one in made("pubsub.kafka", GROUP)]
    assert kinds == ["Component", "Resiliency", "Component"]


def test_jetstream_has_lanes_of_their_own_for_each_topic() -> None:
    found = made("pubsub.jetstream", GROUP, lanes=4, ack_wait=20, state={"type": "state.redis"})
    lanes = [one for one in found if "durableName" in str(one)]
    assert len(lanes) == 8
    durables = [settings_of(one)["durableName"] for one in lanes]
    assert len(set(durables)) == 2 and "." not in "".join(durables)
    for one in lanes:
        given = settings_of(one)
        assert given["queueGroupName"] == given["durableName"]
        assert given["ackWait"] == "20s"
        assert int(given["maxAckPending"]) >= 4
    state = next(one for one in found if one["spec"].get("type") == "state.redis")
    assert settings_of(state) == {"keyPrefix": "name"}
    timeouts = next(one for one in found if one["kind"] == "Resiliency")["spec"]["policies"][
        "timeouts"
    ]
    assert list(timeouts.values()) == ["20s"]


def test_what_the_user_sets_is_kept() -> None:
    found = made("pubsub.jetstream", GROUP, settings={"ackwait": "7s"}, lanes=1)
    assert {settings_of(one).get("ackwait") for one in found if one["kind"] == "Component"} == {
        "7s"
    }
    assert not any("ackWait" in settings_of(one) for one in found if one["kind"] == "Component")


@pytest.mark.parametrize(
    ("type", "name", "value", "seconds"),
    [
        ("pubsub.jetstream", "ackwait", "7s", 7),
        ("pubsub.jetstream", "ackWait", "1m30s", 90),
        ("pubsub.jetstream", "ackWait", "12", 12),
        ("pubsub.redis", "processingTimeout", "9000", 9),
        ("pubsub.kafka", "ackWait", "7s", 30),
    ],
)
def test_the_ack_wait_is_the_one_that_the_user_sets(
    type: str, name: str, value: str, seconds: float
) -> None:
    metadata = [{"name": name, "value": value}]
    read = read_options({"pubsub": {"type": type, "metadata": metadata}})
    assert read.ack_wait == seconds


@pytest.mark.parametrize(("value", "why"), [("500ms", "1s at least"), ("soon", "a duration")])
def test_an_ack_wait_that_cannot_be_kept_is_refused(value: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        made("pubsub.jetstream", settings={"ackWait": value})


def test_names_tell_buses_groups_and_topics_apart() -> None:
    read = read_options({"pubsub": {"type": "pubsub.kafka"}})
    names = [
        Names(read, bus).base for bus in ("default", "shop/default", "shop-default", "Shop/default")
    ]
    assert len(set(names)) == 4
    wires = [Names(read, "b").topic(t) for t in ("a.=.b", "a.=20.b", "a.b", "a.=2E.b", "a.=20b")]
    assert len(set(wires)) == 5


@pytest.mark.parametrize(
    ("type", "name", "value", "why"),
    [
        (
            "pubsub.jetstream",
            "concurrency",
            "parallel",
            "acknowledges a message before it is handled",
        ),
        ("pubsub.jetstream", "ackPolicy", "none", "ackPolicy must be explicit"),
        ("pubsub.jetstream", "deliverPolicy", "new", "deliverPolicy must be all"),
        ("pubsub.jetstream", "maxDeliver", "3", "hands it out no more"),
        ("pubsub.jetstream", "memoryStorage", "true", "forgets at its restart"),
        ("pubsub.jetstream", "durableName", "mine", "durableName is set by ofevents"),
        ("pubsub.jetstream", "queueGroupName", "mine", "queueGroupName is set by ofevents"),
        ("pubsub.kafka", "initialOffset", "newest", "initialOffset must be oldest"),
        ("pubsub.kafka", "consumeRetryEnabled", "false", "each batch is tried once"),
        ("pubsub.kafka", "backOffPolicy", "exponential", "skips an event after 15 minutes"),
        ("pubsub.kafka", "consumerGroup", "mine", "consumerGroup is set by ofevents"),
        ("pubsub.kafka", "backOffMaxRetries", "3", "skip an event after that many tries"),
        ("pubsub.redis", "processingTimeout", "0", "must be longer than 0"),
        ("pubsub.redis", "redeliverInterval", "0s", "must be longer than 0"),
        ("pubsub.redis", "consumerID", "mine", "set by ofevents"),
        ("pubsub.what", "backoffmaxretries", "1", "skip an event"),
    ],
)
def test_settings_that_lose_events_are_refused(type: str, name: str, value: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        made(type, settings={name: value})


@pytest.mark.parametrize(
    ("type", "name", "value"),
    [
        ("pubsub.jetstream", "concurrency", "single"),
        ("pubsub.kafka", "initialOffset", "OLDEST"),
        ("pubsub.kafka", "backOffMaxRetries", "-1"),
        ("pubsub.kafka", "backOffPolicy", "constant"),
        ("pubsub.kafka", "consumeRetryEnabled", "true"),
        ("pubsub.jetstream", "maxDeliver", "-1"),
        ("pubsub.redis", "processingTimeout", "20s"),
    ],
)
def test_settings_that_lose_nothing_are_taken(type: str, name: str, value: str) -> None:
    made(type, settings={name: value})


def test_a_type_that_is_not_known_promises_the_least() -> None:
    weakest = dapr_kinds.features("pubsub.what", store=False)
    assert not any((weakest.durable, weakest.ordered, weakest.store, weakest.delayed))
    known = dapr_kinds.features("pubsub.kafka", store=True)
    assert known.durable and known.ordered and known.store and known.delayed and known.groups
