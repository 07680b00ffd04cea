"""Dapr's buses for the fault suite: a daprd beside each worker, the store on Redis.

As in a cluster with a sidecar per pod: the sidecars are killed like the workers, and a
killed one is started again until its broker is there. The broker that the suite kills is
the pub/sub component's; Redis stays, its own trouble is the state component's matter.

What the brokers differ in is in `dapr_jetstream` and `dapr_kafka`. The questions go to the
broker, and to Redis for what waits to be due, never to Dapr,
which counts nothing.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import redis.asyncio
import yaml

from ofevents.api.resolved import ResolvedBus
from ofevents.bus import codec, open_bus, topics
from ofevents.bus import dapr_envelope as envelope
from ofevents.bus.dapr_components import manifests
from ofevents.bus.dapr_files import write
from ofevents.bus.dapr_options import read_options
from ofevents.clock import SystemClock
from ofevents.ports import Bus, Delivery
from tests.e2e.processes import get
from tests.servers import ServerFailed, free_port, until
from tests.servers.daprd import Daprd
from tests.servers.redis import RedisServer

BACK: Final = 150.0
"""Seconds within which a sidecar answers, its broker's absence included."""
_AGAIN: Final = 0.5
"""Seconds before one that ended is started again."""
PREFIX: Final = "ofevents."
"""Of the names on the broker, as the driver has it unless told otherwise."""


@dataclass(frozen=True, slots=True)
class Chain:
    """What is on the bus: one topic, the Trigger that reads it, what it owes.

    Attributes:
        topic: that the Trigger reads.
        group: of the Trigger's workers.
        inboxes: each the consumer group of its own.
        dead: the topics of dead letters.
    """

    topic: str
    group: str
    inboxes: tuple[str, ...]
    dead: tuple[str, ...]


KILLED: Final = Chain(
    topics.event("default", "shop", "orders"),
    topics.trigger_group("default", "charge"),
    (topics.inbox("default", "charge", "charge"),),
    (topics.dead("default", "charge"), topics.dead("default", "source/shop")),
)
"""Of the rig."""


class Sidecar(Daprd):
    """A daprd that is started again whenever it ended, as a kubelet does.

    Without its broker it ends, some milliseconds after it has said that it is healthy:
    so it is up when it has loaded what is in its folder, too.
    """

    _keeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Return when it is up.

        Raises:
            ServerFailed: not within `BACK`.
        """
        try:
            async with asyncio.timeout(BACK):
                await self._up()
        except TimeoutError as error:
            await super().kill()
            raise ServerFailed(f"no sidecar within {BACK} s\n{self.log()}") from error
        self._keeper = asyncio.create_task(self._keep(), name="sidecar: keeper")

    async def kill(self) -> None:
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
        await super().kill()

    async def _keep(self) -> None:
        while self._process is not None:
            await self._process.wait()
            await self._up()

    async def _up(self) -> None:
        """Start it, as often as it takes."""
        while True:
            try:
                await super().start()
                await until(self.loaded, seconds=BACK, what="daprd has loaded its components")
            except ServerFailed:
                await super().kill()
                await asyncio.sleep(_AGAIN)
            else:
                return

    async def loaded(self) -> bool:
        """Whether it has what is in its folder; ServerFailed when it has ended."""
        if self._process is None or self._process.returncode is not None:
            raise ServerFailed(f"daprd ended\n{self.log()}")
        status, told = await get(f"http://127.0.0.1:{self.http}/v1.0/metadata")
        loaded = json.loads(told).get("components", []) if status == 200 else []
        return self._components() <= {one["name"] for one in loaded}

    def _components(self) -> set[str]:
        """Names of those in its folder, which the worker beside it changes."""
        names = set()
        for file in self.resources.glob("*.yaml"):
            with suppress(FileNotFoundError):
                named = [one for one in yaml.safe_load_all(file.read_text()) if one]
                names |= {one["metadata"]["name"] for one in named if one["kind"] == "Component"}
        return names


class DaprBus:
    """What both have in common; see `FaultBus`."""

    type: str
    app = False
    """Whether daprd calls the worker, at a port."""

    def __init__(self, folder: Path, chain: Chain = KILLED) -> None:
        self.chain = chain
        self.redis = RedisServer(folder / "redis")

    @property
    def settings(self) -> Mapping[str, str]:
        """Of the pub/sub component."""
        raise NotImplementedError

    @property
    def spec(self) -> str:
        def component(type: str, settings: Mapping[str, str]) -> dict[str, Any]:
            metadata = [{"name": name, "value": value} for name, value in settings.items()]
            return {"type": type, "metadata": metadata}

        pubsub = component(self.type, self.settings)
        state = component("state.redis", {"redisHost": self.redis.address})
        return json.dumps({"dapr": {"pubsub": pubsub, "state": state}})

    async def __aenter__(self) -> Self:
        await self.redis.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.redis.kill()

    def beside(self, folder: Path, spec: Path) -> tuple[Path, Sidecar]:
        port = free_port() if self.app else 0
        daprd = Sidecar(folder, app_id="ofevents", app_port=port)
        told = yaml.safe_load(spec.read_text())
        bus = told["bus"]
        bus["options"] |= {"sidecar": daprd.address, "resources": str(daprd.resources)}
        if port:
            bus["options"]["app_port"] = port
        own = folder / "spec.yaml"
        own.write_text(yaml.safe_dump(told))
        resolved = ResolvedBus.model_validate(bus)
        _write_base(daprd, resolved)
        return own, daprd

    async def joined(self, workers: int) -> None:
        """Of streams, those that are open are all there is."""

    @asynccontextmanager
    async def connected(self, folder: Path) -> AsyncIterator[Bus]:
        """Our own driver with a sidecar of its own, to publish."""
        daprd = Sidecar(folder, app_id="test")
        options = json.loads(self.spec)["dapr"]
        options |= {"sidecar": daprd.address, "resources": str(daprd.resources)}
        resolved = ResolvedBus(driver="dapr", options=options)
        _write_base(daprd, resolved)
        try:
            await daprd.start()
            async with open_bus(resolved, clock=SystemClock()) as bus:
                yield bus
        finally:
            await daprd.kill()

    async def dead_letters(self) -> list[tuple[str, str]]:
        """Event id and reason of each."""
        found = []
        for raw in await self._dead():
            parts = envelope.split(raw)
            assert parts is not None, raw[:200]
            headers, _ = parts
            letter = codec.decode(*parts)
            assert isinstance(letter, Delivery)
            found.append((letter.events[-1].id, headers["ofe-dead-reason"]))
        return found

    async def _dead(self) -> list[bytes]:
        """The dead letters, as they are on the broker."""
        raise NotImplementedError

    async def due(self) -> int:
        """Deliveries that the store keeps until they are due."""
        async with redis.asyncio.Redis(port=self.redis.port) as client:
            entries = [
                json.loads(await client.hget(key, "data"))
                async for key in client.scan_iter(match="*||s/due/*")
            ]
        return sum(not entry.get("d") for entry in entries)


def _write_base(daprd: Sidecar, bus: ResolvedBus) -> None:
    write(daprd.resources, "base.yaml", manifests(read_options(bus.options), bus.name, ()))
