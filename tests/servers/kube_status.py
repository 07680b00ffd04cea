"""The status of a Pod of one container, as a kubelet writes it.

Kept by tests/servers/kube_pod.py; it has what the Deployment controller and ofevents read.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

State = dict[str, Any]


def now() -> str:
    """The time as the API has it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def waiting(reason: str, message: str = "") -> State:
    return {"waiting": {"reason": reason, "message": message}}


def running() -> State:
    return {"running": {"startedAt": now()}}


def terminated(code: int, before: State) -> State:
    """A process's end, as a container runtime calls it; `before` is how it was running."""
    found = {**before["running"], "finishedAt": now()}
    if code < 0:
        return {"terminated": {**found, "exitCode": 128 - code, "signal": -code, "reason": "Error"}}
    reason = "Error" if code else "Completed"
    return {"terminated": {**found, "exitCode": code, "reason": reason}}


class PodStatus:
    """What is to be told.

    Attributes:
        state, last: of the container, now and at its last end.
        started: its startup probe was answered.
        restarts: how often it was started again.
    """

    def __init__(self, container: Any, address: str) -> None:
        self.state = waiting("ContainerCreating")
        self.last: State = {}
        self.started = False
        self.restarts = 0
        self._container = container
        self._address = address
        self._began = self._since = now()
        self._ready = False

    @property
    def ready(self) -> bool:
        return self._ready

    @ready.setter
    def ready(self, ready: bool) -> None:
        if ready != self._ready:
            self._ready, self._since = ready, now()

    def text(self) -> dict[str, Any]:
        """As the API has it."""
        ready = "True" if self._ready else "False"
        began = "running" in self.state or bool(self.last)
        container = {
            "name": self._container["name"],
            "image": self._container["image"],
            "imageID": self._container["image"],
            "ready": self._ready,
            "started": self.started,
            "restartCount": self.restarts,
            "state": self.state,
            "lastState": self.last,
        }
        return {
            "phase": "Running" if began else "Pending",
            "hostIP": self._address,
            "podIP": self._address,
            "podIPs": [{"ip": self._address}],
            "startTime": self._began,
            "conditions": [
                _condition("PodScheduled", "True", self._began),
                _condition("Initialized", "True", self._began),
                _condition("ContainersReady", ready, self._since),
                _condition("Ready", ready, self._since),
            ],
            "containerStatuses": [container],
        }


def _condition(type: str, status: str, since: str) -> dict[str, str]:
    why = {} if status == "True" else {"reason": "ContainersNotReady"}
    return {"type": type, "status": status, "lastTransitionTime": since, **why}
