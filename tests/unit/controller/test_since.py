"""Since when a Trigger reads a dapr bus: decided once, and kept where a controller finds it."""

from __future__ import annotations

from typing import Any

import pytest

from ofevents.api.resolved import ResolvedInput, ResolvedTrigger
from ofevents.controller.render import Workload, children
from ofevents.controller.since import begun
from tests.unit.controller.render.samples import DAPR, JETSTREAM, OWNER, PLATFORM, source, trigger

TICK, TOCK = "event.shop.orders.tick", "event.shop.orders.tock"
BOTH = (ResolvedInput(name="tick", topic=TICK), ResolvedInput(name="tock", topic=TOCK))


def deployed(spec: ResolvedTrigger, live: Any, now: float) -> Any:
    """Its Deployment after that look."""
    workload = begun(Workload(spec), live, OWNER.uid, now)
    made = children(OWNER, [workload], PLATFORM).manifests
    (found,) = (each for each in made if each["kind"] == "Deployment")
    return found


def since(spec: ResolvedTrigger, live: Any, now: float) -> dict[str, float]:
    found = begun(Workload(spec), live, OWNER.uid, now).spec
    assert isinstance(found, ResolvedTrigger)
    return found.since


def test_it_is_when_its_topic_was_first_seen() -> None:
    live = deployed(trigger(bus=DAPR), None, 1000.5)
    assert since(trigger(bus=DAPR), live, 2000.0) == {TICK: 1000.5}
    assert deployed(trigger(bus=DAPR), live, 2000.0) == live, "nothing is written again"


def test_a_topic_that_an_edit_adds_has_its_own() -> None:
    live = deployed(trigger(bus=DAPR), None, 1000.0)
    live = deployed(trigger(bus=DAPR, inputs=BOTH), live, 2000.0)
    assert since(trigger(bus=DAPR, inputs=BOTH), live, 3000.0) == {TICK: 1000.0, TOCK: 2000.0}
    live = deployed(trigger(bus=DAPR), live, 3000.0)
    live = deployed(trigger(bus=DAPR, inputs=BOTH), live, 4000.0)
    assert since(trigger(bus=DAPR, inputs=BOTH), live, 5000.0) == {TICK: 1000.0, TOCK: 4000.0}


def test_on_another_bus_it_begins_anew() -> None:
    live = deployed(trigger(bus=DAPR), None, 1000.0)
    other = DAPR.model_copy(update={"name": "shop/other"})
    assert since(trigger(bus=other), live, 2000.0) == {TICK: 2000.0}


@pytest.mark.parametrize("written", ["", "[]", "{}", '{"bus":"shop/default","topics":7}', "{"])
def test_what_others_have_written_there_is_no_answer(written: str) -> None:
    live = deployed(trigger(bus=DAPR), None, 1000.0)
    (key,) = (each for each in live["metadata"]["annotations"] if each.endswith("/since"))
    live["metadata"]["annotations"][key] = written
    assert since(trigger(bus=DAPR), live, 2000.0) == {TICK: 2000.0}


def test_a_foreign_deployment_is_no_answer() -> None:
    live = deployed(trigger(bus=DAPR), None, 1000.0)
    live["metadata"]["ownerReferences"][0]["uid"] = "another"
    assert since(trigger(bus=DAPR), live, 2000.0) == {TICK: 2000.0}


def test_nobody_else_is_told() -> None:
    for spec in (trigger(bus=JETSTREAM), trigger(bus=DAPR, start="earliest")):
        assert since(spec, None, 1000.0) == {}
    assert begun(Workload(source()), None, OWNER.uid, 1000.0) == Workload(source())
