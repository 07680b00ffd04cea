"""A Kubernetes namespace as its user has it: kubectl, and what the status says."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Collection
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from tests.servers import kube_config, until
from tests.servers.kube_node import KubeNode

_READY = {"type": "Ready", "status": "True"}
KINDS = "eventbuses,eventsources,triggers"
_GROUP = "/apis/events.openfunction.io/v1alpha1"
_PLURALS = {"eventbus": "eventbuses", "eventsource": "eventsources", "trigger": "triggers"}
_POLL = 0.2


def part_of(owner: str) -> str:
    """What selects the Pods of an EventSource or Trigger of that name."""
    return f"app.kubernetes.io/part-of={owner}"


class Nats(NamedTuple):
    """Where the shared nats-server is: for clients, and where KEDA looks for lag."""

    url: str
    monitoring: str


class Shop:
    """See the module; a manifest that names no namespace is in this one."""

    def __init__(self, node: KubeNode, namespace: str) -> None:
        self.node = node
        self.namespace = namespace

    async def kubectl(self, *arguments: str, text: str = "") -> str:
        return await self.node.kubectl("--namespace", self.namespace, *arguments, text=text)

    async def apply(self, text: str) -> str:
        """`kubectl apply -f -`; what it printed."""
        return await self.kubectl("apply", "-f", "-", text=text)

    async def get(self, kind: str, name: str = "") -> Any:
        """A resource, or the list of them."""
        return json.loads(await self.kubectl("get", kind, *filter(None, [name]), "-o", "json"))

    async def _resource(self, kind: str, name: str) -> Any:
        """One of ours, `{}` while there is none; asked without a process, for polling."""
        scope = "" if kind == "clustereventbus" else f"namespaces/{self.namespace}/"
        plural = _PLURALS.get(kind, "clustereventbuses")
        try:
            return await self.node.call("GET", f"{_GROUP}/{scope}{plural}/{name}")
        except LookupError:
            return {}

    async def condition(self, kind: str, name: str, type: str = "Ready") -> dict[str, Any]:
        """A condition, `{}` while there is none."""
        found = await self._resource(kind, name)
        conditions = found.get("status", {}).get("conditions", ())
        return next((each for each in conditions if each["type"] == type), {})

    async def becomes(
        self,
        kind: str,
        name: str,
        type: str = "Ready",
        status: str = "True",
        *,
        reason: str | Collection[str] | None = None,
        seconds: float = 120,
    ) -> dict[str, Any]:
        """Wait for a condition of the generation that is there now, and return it.

        `reason` is the one that is wanted, or some of which any will do. Until its bus has been
        seen and has answered, a resource that has just been applied may have another.
        """
        reasons = [reason] if isinstance(reason, str) else reason
        seen: dict[str, Any] = {}

        async def has() -> bool:
            await asyncio.sleep(_POLL)
            resource = await self._resource(kind, name)
            found = resource.get("status", {})
            seen.clear()
            seen.update(next((c for c in found.get("conditions", ()) if c["type"] == type), {}))
            generation = resource.get("metadata", {}).get("generation", 0)
            current = seen.get("observedGeneration") == generation
            right = seen.get("status") == status
            return current and right and (reasons is None or seen.get("reason") in reasons)

        wanted = f"{kind} {name} is {type}: {reason or status}"
        try:
            await until(has, seconds=seconds, what=wanted)
        except TimeoutError as error:
            raise AssertionError(f"{error}; it is {seen}") from None
        return seen

    async def ready(self, *resources: str, seconds: float = 120) -> None:
        """Wait until each, `kind/name`, is Ready."""
        await asyncio.gather(
            *(self.becomes(*each.split("/"), seconds=seconds) for each in resources)
        )

    async def serve(self, name: str, url: str) -> None:
        """A core Service that leads to a server of the test."""
        port = urlsplit(url).port
        assert port is not None
        await self.node.apply(*kube_config.on_node(self.namespace, name, port))

    async def pods(self, selector: str = "") -> list[Any]:
        """The Pods that are not on their way out."""
        found = await self.kubectl("get", "pods", f"--selector={selector}", "-o", "json")
        return [
            pod for pod in json.loads(found)["items"] if "deletionTimestamp" not in pod["metadata"]
        ]

    async def workers(self, owner: str) -> int:
        """How many Ready Pods the resource of that name has."""
        pods = await self.pods(part_of(owner))
        ready = [each["status"].get("conditions", ()) for each in pods]
        return sum(any(_READY.items() <= each.items() for each in one) for one in ready)

    async def has(self, owner: str, count: int, seconds: float = 120) -> None:
        """Wait until the resource of that name has so many Ready Pods."""

        async def there() -> bool:
            await asyncio.sleep(_POLL)
            return await self.workers(owner) == count

        await until(there, seconds=seconds, what=f"{owner} has {count} Pods")

    async def without_pods(self, owner: str, seconds: float = 120) -> None:
        """Wait until it has none, nor one that is ending: until it has ended, it may work.

        One that was told to end before it could hear it has all its grace period.
        """

        async def none() -> bool:
            await asyncio.sleep(_POLL)
            selector = f"--selector={part_of(owner)}"
            return not (await self.kubectl("get", "pods", selector, "-o", "name")).strip()

        await until(none, seconds=seconds, what=f"{owner} has no Pod any more")

    async def show_if_failed(self, test: Any) -> None:
        """Print `describe` with the output of a test (pytest's node) that has failed."""
        if getattr(test, "failed", False):
            sys.stdout.write(await self.describe())

    async def describe(self) -> str:
        """All that a person would ask for when something is wrong."""
        asked = (
            ("get", f"all,{KINDS}", "-o", "wide"),
            ("describe", KINDS),
            ("get", "events"),
            ("describe", "pods"),
            ("logs", "--all-containers", "--prefix", "--tail=60", "--selector",
             "app.kubernetes.io/managed-by=ofevents"),
            ("logs", "--namespace=ofevents-system", "--tail=100", "--prefix", "--selector",
             "app.kubernetes.io/name=ofevents"),
        )  # fmt: skip
        return "\n".join([await self._said(*each) for each in asked])

    async def _said(self, *arguments: str) -> str:
        try:
            return f"--- kubectl {' '.join(arguments)}\n{await self.kubectl(*arguments)}"
        except RuntimeError as error:
            return str(error)
