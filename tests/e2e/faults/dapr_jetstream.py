"""pubsub.jetstream for the fault suite; see `dapr_buses`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import nats.errors
from nats.js.errors import Error as JetStreamError

from tests.e2e.faults.buses import Left, Repeats, connected, redelivered, unsettled
from tests.e2e.faults.dapr_buses import KILLED, PREFIX, Chain, DaprBus
from tests.servers.nats import NatsServer


class DaprJetStream(DaprBus):
    """On a nats-server with file storage.

    `forgets` is the server's, as of the bus without Dapr. Its consumers hand out 32
    messages of each topic at most, to all workers together.
    """

    name = "dapr jetstream"
    type = "pubsub.jetstream"
    repeats: Final = Repeats(forgets=0.5)

    def __init__(self, folder: Path, chain: Chain = KILLED) -> None:
        super().__init__(folder, chain)
        self.server = NatsServer(folder / "nats")

    @property
    def settings(self) -> Mapping[str, str]:
        return {"natsURL": self.server.url, "ackWait": "9s"}

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        await self.start()
        async with connected(self.server.url) as js:
            streams = (self.chain.topic,), self.chain.inboxes, self.chain.dead
            for name, kept in zip(("events", "inboxes", "dead"), streams, strict=True):
                await js.add_stream(name=name, subjects=[PREFIX + topic for topic in kept])
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.kill()
        await super().__aexit__(kind, error, trace)

    async def start(self) -> None:
        await self.server.start()

    async def kill(self) -> None:
        await self.server.kill()

    async def freeze(self) -> None:
        await self.server.freeze()

    def thaw(self) -> None:
        self.server.thaw()

    async def unsettled(self) -> int:
        try:
            async with connected(self.server.url, within=1) as js:
                return await unsettled(js, "events", "inboxes")
        except (OSError, nats.errors.Error, JetStreamError):
            return 0

    async def left(self, resources: Path) -> Left:
        async with connected(self.server.url) as js:
            owed = {name: await unsettled(js, name) for name in ("events", "inboxes")}
            dead = (await js.stream_info("dead")).state.messages
        owed["due"] = await self.due()
        return Left(sum(owed.values()), dead, f"{owed}, {dead} dead letters")

    async def redelivered(self) -> int:
        async with connected(self.server.url) as js:
            return await redelivered(js, "events")

    async def published(self) -> int:
        async with connected(self.server.url) as js:
            return int((await js.stream_info("events")).state.last_seq)

    async def inboxed(self) -> int:
        async with connected(self.server.url) as js:
            return int((await js.stream_info("inboxes")).state.last_seq)

    async def _dead(self) -> list[bytes]:
        async with connected(self.server.url) as js:
            last = (await js.stream_info("dead")).state.last_seq
            return [(await js.get_msg("dead", n + 1)).data for n in range(last)]
