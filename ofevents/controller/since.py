"""From when on a Trigger reads a bus that only its workers reach; called by the reconciler.

The controller makes a Trigger's consumers on JetStream itself. On a dapr bus its first
worker writes down where they begin, and that one may be late, as its image is, or be ended
before it has, as KEDA may: what is published until then would count as from before the
Trigger. So the moment in which a topic was first seen here goes into the worker's spec. It is
kept on the Deployment, as a controller that starts anew must not find another one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

from ofevents.api.resolved import ResolvedTrigger
from ofevents.cluster.cache import Object, owner_of
from ofevents.controller.render import Workload
from ofevents.controller.render.names import SINCE


def begun(workload: Workload, live: Object | None, uid: str, now: float) -> Workload:
    """The same, and it knows since when it reads each of its topics.

    Args:
        live: its Deployment, None while there is none.
        uid: whose that must be; a foreign one says nothing.
        now: seconds since the epoch, for topics that are new, or on another bus.
    """
    spec = workload.spec
    if not isinstance(spec, ResolvedTrigger) or spec.bus.driver != "dapr" or spec.start != "now":
        return workload
    known = _known(live, uid, spec.bus.name)
    since = {topic: known.get(topic, now) for topic in sorted({one.topic for one in spec.inputs})}
    return replace(workload, spec=spec.model_copy(update={"since": since}))


def _known(live: Object | None, uid: str, bus: str) -> Mapping[str, float]:
    if live is None or owner_of(live) != uid:
        return {}
    try:
        kept = json.loads((live["metadata"].get("annotations") or {}).get(SINCE, "{}"))
        return {each: float(at) for each, at in kept["topics"].items() if kept["bus"] == bus}
    except (ValueError, TypeError, KeyError, AttributeError):
        return {}  # none yet, or somebody has written there
