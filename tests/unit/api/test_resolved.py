"""Resolved specs of version 1 stay as they are: workers and controllers of two releases meet.

A worker refuses a field that it does not know, so a field more, one less, another name or
another default is another version (`resolved.VERSION`), with a file of its own beside this one:
`python -m tests.unit.api.test_resolved` writes it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from ofevents.api.resolved import (
    VERSION,
    HttpAuth,
    HttpTarget,
    Resolved,
    ResolvedBus,
    ResolvedDelivery,
    ResolvedInput,
    ResolvedSource,
    ResolvedSubscriber,
    ResolvedTrigger,
    ResolvedWorker,
    SinkTarget,
    TopicTarget,
)

GOLDEN = Path(__file__).parent / "golden" / f"resolved-{VERSION}.json"
WORKER: TypeAdapter[ResolvedSource | ResolvedTrigger] = TypeAdapter(ResolvedWorker)
BUS = ResolvedBus(driver="jetstream", options={"url": "nats://nats:4222"})
TARGETS = (
    HttpTarget(uri="http://log.shop.svc/", auth=HttpAuth(bearer="x")),
    TopicTarget(topic="topic.shop.audit"),
    SinkTarget(sink="kafka", spec={"brokers": "kafka:9092", "topic": "out"}),
)
SPECS = (
    ResolvedTrigger(
        namespace="shop",
        name="audit",
        bus=BUS,
        inputs=(ResolvedInput(name="tick", topic="event.shop.clock.tick"),),
        subscribers=tuple(
            ResolvedSubscriber(
                name=each.kind, target=each, inbox=f"inbox.shop.audit.{each.kind}",
                delivery=ResolvedDelivery(),
            )
            for each in TARGETS
        ),
        group="trigger.shop.audit",
        dead_topic="dead.shop.audit",
    ),
    ResolvedSource(
        namespace="shop",
        name="clock",
        source="cron",
        entry="tick",
        spec={"schedule": "@daily"},
        bus=BUS,
        topic="event.shop.clock.tick",
    ),
)  # fmt: skip
"""Everything that a spec may be made of, with all defaults."""


def _models(value: Any) -> Iterator[type[Resolved]]:
    if isinstance(value, Resolved):
        yield type(value)
        for name in type(value).model_fields:
            yield from _models(getattr(value, name))
    elif isinstance(value, tuple):
        for each in value:
            yield from _models(each)


def test_the_specs_are_made_of_everything() -> None:
    assert set(_models(SPECS)) == set(Resolved.__subclasses__())


@pytest.mark.parametrize("number", range(len(SPECS)), ids=[each.kind for each in SPECS])
def test_a_spec_of_this_version_is_what_it_was(number: int) -> None:
    then = json.loads(GOLDEN.read_text())[number]
    read = WORKER.validate_python(then)  # by a worker of this release
    assert read == SPECS[number]
    assert json.loads(read.model_dump_json()) == then  # and by one of a release before


if __name__ == "__main__":
    written = [json.loads(each.model_dump_json()) for each in SPECS]
    GOLDEN.write_text(json.dumps(written, indent=2, sort_keys=True) + "\n")
