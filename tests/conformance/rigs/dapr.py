"""What the rigs of the dapr bus share: every connection has a sidecar of its own.

As a pod has: `make` gives a bus that starts a real daprd when it is entered, and ends
it when it is left. Breaking the bus kills every sidecar. The broker behind them, and
the state component's server, are the rig's; the driver writes the component files.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ofevents.api.resolved import ResolvedBus
from ofevents.bus import dapr_kinds
from ofevents.bus.dapr import DaprBus
from ofevents.bus.dapr_components import manifests
from ofevents.bus.dapr_files import write
from ofevents.bus.dapr_options import read_options
from ofevents.clock import SystemClock
from ofevents.ports import BusFeatures
from tests.servers import free_port
from tests.servers.daprd import Daprd

Foreign = Callable[[str, dict[str, str], bytes], Awaitable[None]]
_numbers = itertools.count()


class SidecarBus(DaprBus):
    """The driver as it is, with a daprd that lives as long as it does."""

    def __init__(self, resolved: ResolvedBus, daprd: Daprd, running: list[Daprd]) -> None:
        super().__init__(resolved, clock=SystemClock())
        self.daprd = daprd
        self._running = running

    async def __aenter__(self) -> Self:
        await self.daprd.start()
        self._running.append(self.daprd)
        try:
            return await super().__aenter__()
        except BaseException:
            await self._end()
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await super().__aexit__(kind, error, trace)
        finally:
            await self._end()

    async def _end(self) -> None:
        if self.daprd in self._running:
            self._running.remove(self.daprd)
        # As a pod's end does: Kafka's component commits what was acknowledged.
        await self.daprd.stop()


class DaprRig:
    """See `BusRig`.

    Args:
        pubsub, state: type and settings of the components; `state` None for none.
        app: whether the sidecars call the process (batches), or it opens streams.
    """

    breakable = True
    ack_wait = 10.0

    def __init__(
        self,
        folder: Path,
        pubsub: tuple[str, dict[str, str]],
        state: tuple[str, dict[str, str]] | None,
        foreign: Foreign,
        *,
        app: bool = False,
        **options: Any,
    ) -> None:
        self.folder = folder
        self.running: list[Daprd] = []
        self.app = app
        self.health_check = True
        self.features: BusFeatures = dapr_kinds.features(pubsub[0], store=state is not None)
        # A prefix of its own: rigs may share a broker.
        self.options: dict[str, Any] = {
            "pubsub": _component(pubsub),
            "prefix": f"t{uuid.uuid4().hex[:8]}.",
            **options,
        }
        if state is not None:
            self.options["state"] = _component(state)
        self._foreign = foreign
        self.broker: Any = None

    @property
    def prefix(self) -> str:
        prefix: str = self.options["prefix"]
        return prefix

    def make(self, **options: Any) -> SidecarBus:
        port = free_port() if self.app else 0
        folder = self.folder / f"sidecar{next(_numbers)}"
        daprd = Daprd(folder, app_id=folder.name, app_port=port, health_check=self.health_check)
        given = {
            "sidecar": daprd.address,
            "resources": str(daprd.resources),
            "app_port": port or None,
            "ack_wait": self.ack_wait,
            **self.options,
            **options,
        }
        resolved = ResolvedBus(driver="dapr", options=given)
        # daprd reads the Resiliency only when it starts.
        write(daprd.resources, "base.yaml", manifests(read_options(given), resolved.name, ()))
        return SidecarBus(resolved, daprd, self.running)

    async def foreign(self, topic: str, headers: dict[str, str], body: bytes) -> None:
        await self._foreign(topic, headers, body)

    async def break_(self) -> None:
        for daprd in self.running:
            await daprd.kill()

    async def restart(self) -> None:
        for daprd in self.running:
            await daprd.start()


def _component(given: tuple[str, dict[str, str]]) -> dict[str, Any]:
    type, settings = given
    return {"type": type, "metadata": [{"name": k, "value": v} for k, v in settings.items()]}
