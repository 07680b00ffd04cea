"""What KEDA looks at, for each kind of worker; a real KEDA judges it in `make cluster`."""

from __future__ import annotations

from typing import Any

import pytest

from ofevents.api.meta import ScaleOption
from ofevents.controller.render import Workload, children
from tests.unit.controller.render.samples import (
    DAPR,
    JETSTREAM,
    OWNER,
    PLATFORM,
    kafka,
    source,
    trigger,
)

CLOCK = {"start": "0 8 * * *", "end": "0 9 * * *", "timezone": "UTC", "desiredReplicas": "3"}
NATS = {"natsServerMonitoringEndpoint": "nats:8222"}
REDIS = {"redisHost": "redis:6379", "stream": "orders"}


def manifests(spec: Any, **scale: Any) -> Any:
    option = ScaleOption(lag_threshold="7", **scale)
    return children(OWNER, [Workload(spec, None, option)], PLATFORM).manifests


def looked_at(spec: Any, **scale: Any) -> list[tuple[str, dict[str, str]]]:
    """The triggers of the one ScaledObject."""
    (scaled,) = (each for each in manifests(spec, **scale) if each["kind"] == "ScaledObject")
    return [(each["type"], each["metadata"]) for each in scaled["spec"]["triggers"]]


def test_a_kafka_source_by_the_lag_of_its_group() -> None:
    ((type, seen),) = looked_at(kafka())
    assert type == "kafka"
    assert (seen["bootstrapServers"], seen["topic"]) == ("kafka:9092", "orders")
    assert (seen["consumerGroup"], seen["lagThreshold"]) == ("ofevents.shop.orders.kafka.tick", "7")


def test_a_trigger_by_its_consumer_and_each_of_its_inboxes() -> None:
    one = trigger().subscribers[0]
    two = one.model_copy(update={"name": "bill", "inbox": "inbox.shop.audit.bill"})
    found = looked_at(trigger(subscribers=(one, two)))
    assert {type for type, _ in found} == {"nats-jetstream"}
    assert {seen["natsServerMonitoringEndpoint"] for _, seen in found} == {"nats.nats:8222"}
    streams = [seen["stream"] for _, seen in found]
    assert streams == ["ofevents-events", "ofevents-inboxes", "ofevents-inboxes"]
    assert len({seen["consumer"] for _, seen in found}) == 3


def test_a_trigger_on_dapr_by_the_lag_of_each_of_its_groups() -> None:
    found = looked_at(trigger(bus=DAPR))
    assert [type for type, _ in found] == ["kafka", "kafka"]  # what it reads, and an inbox
    assert len({seen["consumerGroup"] for _, seen in found}) == 2


@pytest.mark.parametrize(
    ("given", "endpoint", "https"),
    [
        ("https://nats.nats:8443/", "nats.nats:8443", "true"),
        ("http://nats", "nats:8222", "false"),
        ("http://[::1]:8222", "[::1]:8222", "false"),
    ],
)
def test_a_monitoring_url_is_host_and_port_to_keda(given: str, endpoint: str, https: str) -> None:
    stream = source("nats", spec={"url": "nats://nats", "jetstream": {"stream": "orders"}})
    for spec in (stream, trigger()):
        for _, seen in looked_at(spec, metadata={"natsServerMonitoringEndpoint": given}):
            assert (seen["natsServerMonitoringEndpoint"], seen["useHttps"]) == (endpoint, https)
    wrong = {"natsServerMonitoringEndpoint": "http://nats:monitor"}
    ((_, seen),) = looked_at(stream, metadata=wrong)
    assert seen["natsServerMonitoringEndpoint"] == "http://nats:monitor", "KEDA says what is wrong"
    told = {"natsServerMonitoringEndpoint": given, "useHttps": "perhaps"}
    ((_, seen),) = looked_at(stream, metadata=told)
    assert seen["useHttps"] == "perhaps", "what the user says goes to KEDA as it is"


def test_a_nats_source_by_its_consumer() -> None:
    spec = source("nats", spec={"url": "nats://nats", "jetstream": {"stream": "orders"}})
    ((type, seen),) = looked_at(spec, metadata=NATS)
    assert type == "nats-jetstream"
    assert seen["stream"] == "orders" and seen["consumer"]
    assert seen["natsServerMonitoringEndpoint"] == "nats:8222"


def test_a_rabbitmq_source_by_the_length_of_its_queue() -> None:
    ((type, seen),) = looked_at(source("rabbitmq", spec={"url": "amqp://u:p@r", "queue": "q"}))
    assert type == "rabbitmq"
    assert (seen["queueName"], seen["mode"], seen["value"]) == ("q", "QueueLength", "7")
    assert "u:p" not in str(seen)


@pytest.mark.parametrize(("given", "first"), [({}, 300), ({"cooldown_period": 0}, 0)])
def test_a_new_worker_has_the_cooldown_to_make_what_keda_looks_at(
    given: dict[str, Any], first: int
) -> None:
    (scaled,) = (each for each in manifests(kafka(), **given) if each["kind"] == "ScaledObject")
    assert scaled["spec"]["initialCooldownPeriod"] == first


@pytest.mark.parametrize(
    ("spec", "scale"),
    [
        (source("rabbitmq", spec={"url": "amqp://r", "queue": "q"}), {}),
        (source("redis", spec=REDIS), {}),
        (
            source("nats", spec={"url": "nats://n", "jetstream": {"stream": "o"}}),
            {"metadata": NATS},
        ),
        (kafka(), {}),
        (trigger(), {}),
        (trigger(bus=DAPR), {}),
        (source("cron", spec={"schedule": "@daily"}), {"metadata": CLOCK}),
    ],
    ids=["rabbitmq", "redis", "nats", "kafka", "trigger", "dapr", "clock"],
)
def test_where_keda_sees_no_lag_a_worker_runs(spec: Any, scale: dict[str, Any]) -> None:
    """KEDA may have put the first worker to sleep before it had made its queue, for example."""
    (scaled,) = (each for each in manifests(spec, **scale) if each["kind"] == "ScaledObject")
    assert scaled["spec"]["fallback"]["replicas"] == 1
    assert scaled["spec"]["fallback"]["behavior"] == "currentReplicasIfHigher", "it ends none"


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, "redis-streams"),
        ({"redisType": "cluster"}, "redis-cluster-streams"),
        ({"failover": True, "sentinelMasterName": "m"}, "redis-sentinel-streams"),
    ],
    ids=["one", "cluster", "sentinel"],
)
def test_a_redis_source_by_what_is_new_and_what_is_left(more: Any, expected: str) -> None:
    new, left = looked_at(source("redis", spec={**REDIS, **more}))
    assert (new[0], left[0]) == (expected, expected)
    assert new[1]["stream"] == left[1]["stream"] == "orders"
    assert new[1]["lagCount"] == left[1]["pendingEntriesCount"] == "7"
    assert "pendingEntriesCount" not in new[1] and "lagCount" not in left[1]


@pytest.mark.parametrize("spec", [source(), kafka(), trigger()], ids=["cron", "kafka", "trigger"])
def test_any_worker_by_the_clock(spec: Any) -> None:
    assert looked_at(spec, metadata=CLOCK) == [("cron", CLOCK)]


@pytest.mark.parametrize(
    ("least", "most", "several"),
    [(0, 5, True), (2, 5, True), (None, None, True), (0, 1, False), (1, 1, False)],
)
def test_a_drained_node_takes_one_of_several_at_a_time(
    least: int | None, most: int | None, several: bool
) -> None:
    made = manifests(kafka(), min_replica_count=least, max_replica_count=most)
    budgets = [each["spec"] for each in made if each["kind"] == "PodDisruptionBudget"]
    # Never a minimum: it would hold the drain of a node with the only one.
    assert [each["maxUnavailable"] for each in budgets] == ([1] if several else [])


def test_a_daprd_in_a_pod_of_its_own_comes_and_goes_with_its_worker() -> None:
    """Without a worker to call it is not healthy, and would be restarted again and again."""
    spec = trigger(bus=DAPR, dapr_mode="standalone")
    found = manifests(spec, max_replica_count=5, advanced={"formula": "a"}, metadata=CLOCK)
    worker, apart = (each for each in found if each["kind"] == "ScaledObject")
    name = worker["spec"]["scaleTargetRef"]["name"]
    assert apart["spec"]["scaleTargetRef"]["name"] == f"{name}-dapr"
    assert apart["spec"]["triggers"] == worker["spec"]["triggers"]
    bounds = [(one["spec"]["minReplicaCount"], one["spec"]["maxReplicaCount"])
              for one in (worker, apart)]  # fmt: skip
    assert bounds == [(0, 5), (0, 1)]
    assert "advanced" not in apart["spec"], "it may name an HPA"
    deployments = [each for each in found if each["kind"] == "Deployment"]
    assert {each["metadata"]["name"] for each in deployments} == {name, f"{name}-dapr"}
    assert not any("replicas" in each["spec"] for each in deployments), "KEDA says how many"


@pytest.mark.parametrize(
    "more", [{"dapr_mode": "sidecar"}, {"bus": JETSTREAM}, {"scale": {"min_replica_count": 1}}]
)
def test_no_other_daprd_is_scaled(more: dict[str, Any]) -> None:
    scale = {"metadata": CLOCK, **more.pop("scale", {})}
    found = manifests(trigger(**{"bus": DAPR, "dapr_mode": "standalone", **more}), **scale)
    assert [each["kind"] for each in found].count("ScaledObject") == 1
    others = [each for each in found if each["kind"] == "Deployment"][1:]
    assert all(each["spec"]["replicas"] == 1 for each in others)


@pytest.mark.parametrize(
    ("bus", "scale", "least"),
    [
        (DAPR, {}, 1),
        (DAPR, {"min_replica_count": 0}, 1),
        (DAPR, {"min_replica_count": 2}, 2),
        (DAPR, {"metadata": CLOCK}, 0),
        (JETSTREAM, {}, 0),
    ],
)
def test_a_worker_stays_where_keda_does_not_see_what_waits(
    bus: Any, scale: dict[str, Any], least: int
) -> None:
    """On a dapr bus that is in the state store, until it is due."""
    option = ScaleOption(**scale)
    made = children(OWNER, [Workload(trigger(bus=bus), None, option)], PLATFORM)
    (scaled,) = (each for each in made.manifests if each["kind"] == "ScaledObject")
    assert scaled["spec"]["minReplicaCount"] == least
    told = [reason for reason, _ in made.warnings]
    assert told == (["KeptAwake"] if least == 1 else [])
