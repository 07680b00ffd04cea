"""How many Pods run, by lag or the clock: KEDA's ScaledObjects, and how KEDA logs in to look."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ofevents.api.meta import ScaleOption
from ofevents.api.secretref import only
from ofevents.controller.render.lag import lags, sees_all
from ofevents.controller.render.names import child_name, daprd_name, metadata
from ofevents.controller.render.workload import Manifest, Owner, Spec

_COOLDOWN: Final = 300
"""KEDA's own, in seconds. A new worker has it, too, to make its queue, group or consumer: what a
RabbitMQ exchange gets before there is a queue is gone."""
_BLIND: Final = {"failureThreshold": 3, "replicas": 1, "behavior": "currentReplicasIfHigher"}
"""One worker at least where KEDA cannot see the lag: the queue, group or consumer that the first
worker makes may be missing, as KEDA may end it before (of 2.21: a look that finds its cache just
closed, by the error of another one, counts as "nothing there"), and nothing would wake one."""

_AWAKE: Final = (
    "one worker stays up: what waits for a function on a dapr bus is in its state store, which "
    "KEDA does not see; minReplicaCount: 1 says so, too"
)


@dataclass(frozen=True)
class Scaling:
    """What KEDA is told.

    Attributes:
        secrets: the credentials that it needs in the child Secret.
        sleeps: no worker runs while there is no lag.
        trouble: what a person should know.
    """

    manifests: tuple[Manifest, ...] = ()
    secrets: Mapping[str, str] = field(default_factory=dict)
    sleeps: bool = False
    trouble: str = ""


def scaling(owner: Owner, spec: Spec, scale: ScaleOption, *, apart: bool = False) -> Scaling:
    """Of one worker; without manifests `trouble` says why there are none.

    Args:
        apart: it has a daprd in a Pod of its own, which comes and goes with it: without a
            worker to call it is not healthy, and would be restarted again and again.
    """
    found, trouble = lags(spec, scale)
    if not found:
        return Scaling(trouble=trouble)
    name = child_name(spec)
    manifests: list[Manifest] = []
    triggers: list[dict[str, Any]] = []
    secrets: dict[str, str] = {}
    known: dict[tuple[tuple[str, str], ...], str] = {}
    for lag in found:
        one: dict[str, Any] = {"type": lag.type, "metadata": lag.metadata}
        if scale.auth_ref:
            one["authenticationRef"] = scale.auth_ref
        elif lag.logins:
            logins = tuple(sorted(lag.logins.items()))
            if logins not in known:
                called = f"{name}-{len(known)}" if known else name
                known[logins] = called
                targets = []
                for parameter, value in logins:
                    ref = only(value)
                    if ref is None:
                        key = f"keda-{len(known)}-{parameter}"
                        secrets[key] = value
                        ref = (name, key)
                    targets.append({"parameter": parameter, "name": ref[0], "key": ref[1]})
                manifests.append(
                    {
                        "apiVersion": "keda.sh/v1alpha1",
                        "kind": "TriggerAuthentication",
                        "metadata": metadata(owner, spec, called),
                        "spec": {"secretTargetRef": targets},
                    }
                )
            one["authenticationRef"] = {"name": known[logins]}
        triggers.append(one)
    least, trouble = scale.min_replica_count or 0, ""
    if not least and not sees_all(spec, scale):
        least, trouble = 1, _AWAKE
    first = _COOLDOWN if scale.cooldown_period is None else scale.cooldown_period
    body = {"initialCooldownPeriod": first, "fallback": _BLIND, "triggers": triggers}
    body |= _given(pollingInterval=scale.polling_interval, cooldownPeriod=scale.cooldown_period)
    own = {"minReplicaCount": least}
    own |= _given(maxReplicaCount=scale.max_replica_count, advanced=scale.advanced)
    bounds = {name: own}
    if apart and not least:
        bounds[daprd_name(name)] = {"minReplicaCount": 0, "maxReplicaCount": 1}
    for called, each in bounds.items():
        target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": called}
        manifests.append(
            {
                "apiVersion": "keda.sh/v1alpha1",
                "kind": "ScaledObject",
                "metadata": metadata(owner, spec, called),
                "spec": {"scaleTargetRef": target, **body, **each},
            }
        )
    return Scaling(tuple(manifests), secrets, not least, trouble)


def _given(**settings: Any) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if value is not None}
