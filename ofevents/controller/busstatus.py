"""How an EventBus or a ClusterEventBus is: whether it can be used as it is declared.

A namespace's bus is connected to; a cluster-wide one only if it needs no Secret, since
each namespace that uses it has Secrets of its own. Called by the reconciler.
"""

from __future__ import annotations

from ofevents.api.eventbus import ClusterEventBus, EventBus
from ofevents.cluster.cache import Object
from ofevents.cluster.lookup import ClusterLookUp, homeless
from ofevents.controller.buses import Buses
from ofevents.controller.queue import Key
from ofevents.controller.status import Facts, sentences
from ofevents.errors import Disconnected
from ofevents.resolve import Documents, FoundBus, interpret, resolve
from ofevents.resolve.buses import resolve_bus
from ofevents.resolve.scope import Scope


async def bus_facts(key: Key, object: Object, look_up: ClusterLookUp, buses: Buses) -> Facts:
    """What its status is made of."""
    loaded, problems = interpret(object)
    if loaded is None:
        return Facts(trouble=[("Invalid", sentences(problems))])
    resolution = resolve(Documents((loaded,), tuple(problems)), look_up)
    if resolution.errors:
        return Facts(trouble=[("Invalid", sentences(resolution.errors))])
    model = loaded.model
    assert isinstance(model, (EventBus, ClusterEventBus))
    warnings = [("Questionable", sentences([one])) for one in resolution.warnings]
    if sentence := homeless(model):
        return Facts(trouble=[("UrlMissing", sentence)], warnings=warnings)
    if model.spec.dapr is not None:
        text = "carried by the Dapr sidecar of each worker"
        return Facts(warnings=warnings, idle=("True", "Declared", text))
    scope = Scope(loaded, look_up)
    name = f"{key[1]}/{key[2]}" if key[1] else key[2]
    resolved = resolve_bus(scope, ("spec",), FoundBus(name, model.spec))
    if not key[1] and look_up.asked:
        text = "its Secrets are of the namespaces that use it; see their resources"
        return Facts(warnings=warnings, idle=("Unknown", "PerNamespace", text))
    missing = [problem for problem in scope.problems if problem.blocks]
    if missing:
        return Facts(trouble=[("ReferenceNotFound", sentences(missing))], warnings=warnings)
    link = buses.link(key, resolved, look_up.secrets)
    assert link is not None
    buses.keep(key, [link])
    try:
        await link.bus()
    except Disconnected:
        return Facts(trouble=[("Disconnected", link.connection)], warnings=warnings)
    return Facts(warnings=warnings, idle=("True", "Connected", ""))
