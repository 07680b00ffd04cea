"""What the CRDs refuse by themselves, where no admission webhook is asked: with its text."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ofevents.api.schema import crds
from ofevents.cluster.kinds import kind_of
from ofevents.controller.admission import errors
from tests.e2e.controller.rig import Cluster, cron, resource, trigger

pytestmark = [pytest.mark.timeout(240), pytest.mark.asyncio(loop_scope="session")]

NATS: dict[str, Any] = {"jetstream": {"url": "nats://a"}}
DAPR: dict[str, Any] = {"dapr": {"pubsub": {"type": "pubsub.redis", "version": "v1"}}}
URI = {"uri": "http://log.shop.svc/"}
MQTT = {"mqtt": {"url": "mqtt://a", "topic": "x"}}
REDIS = {"redis": {"redisHost": "a:6379", "stream": "x"}}


def reads(**given: Any) -> Any:
    return trigger("wrong", inputs={"tick": given})


def sends(**sink: Any) -> Any:
    return trigger("wrong", subscribers=[{"name": "a", "sink": sink}])


def hook(**more: Any) -> Any:
    return resource("EventSource", "wrong", {"eventBus": "default", "webhook": {"in": more}})


def without_bus(**more: Any) -> Any:
    return resource("EventSource", "wrong", {"cron": {"tick": {"schedule": "@daily"}}, **more})


BAD = {
    "no driver": resource("EventBus", "wrong", {}),
    "no driver in a cluster": resource("ClusterEventBus", "wrong", {}),
    "two drivers": resource("EventBus", "wrong", {**NATS, **DAPR}),
    "another's sync": resource("EventBus", "wrong", {"jetstream": {"url": "x", "sync": "always"}}),
    "reads nothing": reads(),
    "reads half": reads(eventSource="clock"),
    "reads both": reads(eventSource="clock", event="tick", topic="x"),
    "nobody gets it": trigger("wrong", subscribers=[{"name": "a"}]),
    "no destination": sends(auth={"basic": {"username": "a", "password": "b"}}),
    "two destinations": sends(**MQTT, **REDIS),
    "two destinations, an address": sends(**MQTT, **URI),
    "dapr: neither": sends(dapr={}),
    "dapr: both": sends(dapr={"appId": "a", "method": "m", "componentName": "b"}),
    "dapr: no operation": sends(dapr={"componentName": "b"}),
    "dapr: no method": sends(dapr={"appId": "a"}),
    "dead letters nowhere": trigger(
        "wrong", subscribers=[{"name": "a", "topic": "x", "deadLetterSink": {}}]
    ),
    "exposed by nothing": hook(expose={}),
    "nowhere to send it": without_bus(),
    "a topic without a bus": without_bus(sink=URI, deadLetterTopic="x"),
}
GOOD = (
    resource("EventBus", "right", NATS),
    resource("EventBus", "right", DAPR),
    trigger("right", inputs={"tick": {"topic": "x"}}),
    trigger("right", subscribers=[{"name": "a", "sink": URI, "topic": "x"}]),
    trigger("right", subscribers=[{"name": "a", "sink": {**URI, "ref": {
        "apiVersion": "v1", "kind": "Service", "name": "a"}}}]),
    trigger("right", subscribers=[{"name": str(each), "topic": "x"} for each in range(1000)]),
    trigger("right", subscribers=[{"name": "a", "sink": {"dapr": {"appId": "a", "method": "m"}}}]),
    cron("right", sink=URI, deadLetterTopic="x"),
    without_bus(sink=URI, deadLetterSink=MQTT),
)  # fmt: skip


async def refused(cluster: Cluster, manifest: Any) -> str:
    """What the API server has against it, "" for nothing; nothing is stored."""
    path = kind_of(manifest).path(manifest["metadata"].get("namespace")) + "?dryRun=All"
    try:
        await cluster.api.call("POST", path, manifest)
    except RuntimeError as error:
        return str(json.loads(str(error).partition(": ")[2])["message"])
    return ""


@pytest.mark.parametrize("manifest", BAD.values(), ids=BAD)
async def test_what_is_wrong_is_refused_with_the_same_sentence(
    cluster: Cluster, manifest: Any
) -> None:
    (problem, *_) = errors(manifest)
    said = await refused(cluster, manifest)
    assert problem.sentence in said, (problem, said)


@pytest.mark.parametrize("manifest", GOOD)
async def test_what_is_right_is_taken(cluster: Cluster, manifest: Any) -> None:
    assert errors(manifest) == []
    assert await refused(cluster, manifest) == ""


async def test_every_rule_is_broken_by_one_of_them() -> None:
    said = {problem.sentence for each in BAD.values() for problem in errors(each)}
    told = set(_messages([definition for _, definition in crds()]))
    # What cannot change is judged in `test_bad_input`; three pairs of drivers are one mistake.
    lacking = {
        each for each in told - said if "cannot change" not in each and "has one driver" not in each
    }
    assert lacking == set()


def _messages(value: Any) -> list[str]:
    if isinstance(value, dict):
        found = [each["message"] for each in value.get("x-kubernetes-validations", ())]
        return found + [text for each in value.values() for text in _messages(each)]
    return [text for each in value for text in _messages(each)] if isinstance(value, list) else []
