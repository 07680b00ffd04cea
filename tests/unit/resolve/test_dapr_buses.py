"""What `validate` says of dapr buses before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ofevents.resolve import load, resolve

Spec = dict[str, object]
STATE: Spec = {"type": "state.redis", "metadata": [{"name": "redisHost", "value": "r:6379"}]}


def problems(
    tmp_path: Path, dapr: Spec, *, trigger: Spec | None = None, source: Spec | None = None
) -> list[str]:
    """`severity path: message` of each."""
    webhook: Spec = {"webhook": {"orders": {"port": 1}}}
    documents = [
        ("EventBus", "default", {"dapr": dapr}),
        ("EventSource", "shop", {"eventBus": "default", **(source or webhook)}),
    ]
    if trigger is not None:
        inputs = {"orders": {"eventSource": "shop", "event": "orders"}}
        subscribers = [{"name": "s", "sink": {"uri": "http://h/"}, **trigger}]
        spec = {"eventBus": "default", "inputs": inputs, "subscribers": subscribers}
        documents.append(("Trigger", "billing", spec))
    api = "events.openfunction.io/v1alpha1"
    (tmp_path / "all.yaml").write_text(
        yaml.safe_dump_all(
            {"apiVersion": api, "kind": kind, "metadata": {"name": name}, "spec": spec}
            for kind, name, spec in documents
        )
    )
    found = resolve(load([tmp_path]))
    return [f"{one.severity} {one.path}: {one.message}" for one in found.problems]


def bus(type: str, state: bool = True, **settings: str) -> Spec:
    metadata = [{"name": key, "value": value} for key, value in settings.items()]
    made: Spec = {"pubsub": {"type": type, "metadata": metadata}}
    return {**made, "state": STATE} if state else made


@pytest.mark.parametrize("type", ["pubsub.kafka", "pubsub.jetstream", "pubsub.redis"])
def test_a_known_bus_with_a_store_has_no_problem(tmp_path: Path, type: str) -> None:
    assert problems(tmp_path, bus(type), trigger={}) == []


def test_a_setting_that_loses_events_is_an_error_where_it_stands(tmp_path: Path) -> None:
    given = bus("pubsub.jetstream", natsURL="nats://n", concurrency="parallel")
    (found,) = problems(tmp_path, given)
    assert found.startswith("error spec.dapr.pubsub.metadata[1].value: concurrency must be single")


@pytest.mark.parametrize(("value", "warned"), [("1000", True), ("0", False), ("", False)])
def test_a_stream_that_is_trimmed_is_a_warning(tmp_path: Path, value: str, warned: bool) -> None:
    found = problems(tmp_path, bus("pubsub.redis", redisHost="r:6379", maxlenapprox=value))
    assert [one.partition(" takes")[0] for one in found] == (
        ["warning spec.dapr.pubsub.metadata[1].value: maxlenapprox"] if warned else []
    )
    assert all("behind by more than 1000 is lost" in one for one in found)
    assert problems(tmp_path, bus("pubsub.kafka", maxLenApprox=value)) == []


def test_the_short_form_is_looked_at_too(tmp_path: Path) -> None:
    given: Spec = {
        "type": "pubsub.kafka",
        "metadata": [{"name": "initialOffset", "value": "newest"}],
    }
    (found,) = problems(tmp_path, given)
    assert found.startswith("error spec.dapr.metadata[0].value: initialOffset must be oldest")


def test_a_component_that_is_not_known_is_a_warning(tmp_path: Path) -> None:
    (found,) = problems(tmp_path, bus("pubsub.pulsar"))
    assert found.startswith("warning spec.dapr.pubsub.type: ofevents has not been tried with")


def test_a_trigger_needs_a_store(tmp_path: Path) -> None:
    (found,) = problems(tmp_path, bus("pubsub.kafka", state=False), trigger={})
    assert found.startswith("error spec.eventBus: EventBus") and "has no store" in found
    sink: Spec = {"sink": {"uri": "http://h/"}, "webhook": {"orders": {"port": 1}}}
    (found,) = problems(tmp_path, bus("pubsub.kafka", state=False), source=sink)
    assert "has no store" in found


def test_a_source_alone_needs_none_but_for_missed_runs(tmp_path: Path) -> None:
    without = bus("pubsub.kafka", state=False)
    assert problems(tmp_path, without) == []
    cron: Spec = {"cron": {"nightly": {"schedule": "0 3 * * *", "missedRuns": "all"}}}
    (found,) = problems(tmp_path, without, source=cron)
    assert found.startswith("error spec.cron.nightly.missedRuns: all needs a store")


def test_an_ordered_subscriber_needs_an_ordered_component(tmp_path: Path) -> None:
    ordered: Spec = {"delivery": {"ordered": True}}
    assert problems(tmp_path, bus("pubsub.kafka"), trigger=ordered) == []
    (found,) = problems(tmp_path, bus("pubsub.jetstream"), trigger=ordered)
    assert "pubsub.jetstream keeps no order" in found
