"""The buses that the fault suite runs on: what differs between them, behind one seam.

The rig takes a `FaultBus` and knows no bus beside it; another bus is one more class,
here or, for those on Dapr, beside `dapr_buses`. Each is a real server of its own, and its
questions go to that server directly, not through the product that is being judged.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from math import inf
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self

import nats.errors
from nats.aio.client import Client
from nats.js.errors import Error as JetStreamError

from tests.e2e.processes import call
from tests.servers.nats import NatsServer


@dataclass(frozen=True, slots=True)
class Repeats:
    """What a bus hands out again when something breaks: its part in the ledger's bounds.

    Attributes:
        forgets: seconds before a kill -9 of the server whose acknowledgements it may not
            have kept.
        rebalances: where a worker's coming and going costs all of them what they have in
            hand: the seconds for which an accepted message may be so, its acknowledgement
            not with the server. 0 where it costs that worker alone.
        republishes: where the bus does not know what is published twice: the seconds after
            which a publish without an answer is made again, and may be there as often.
        counted: whether the server says how often it has handed out messages again.
    """

    forgets: float
    rebalances: float = 0.0
    republishes: float = inf
    counted: bool = True


@dataclass(frozen=True, slots=True)
class Left:
    """What is on a bus; `told` is for a person.

    Attributes:
        owed: messages that somebody has yet to settle, those in inboxes with them.
        dead: dead letters.
    """

    owed: int
    dead: int
    told: str


class Sidecar(Protocol):
    """A process beside a worker, which is killed as the worker is."""

    async def start(self) -> None:
        """Start it (again); returns when it answers."""
        ...

    async def kill(self) -> None:
        """SIGKILL."""
        ...


class FaultBus(Protocol):
    """One bus of the fault suite; entered by the rig, which starts and ends it.

    Attributes:
        name: in reports.
        spec: of the EventBus resource, as YAML on one line.
        repeats: see there.
    """

    name: str
    repeats: Repeats

    @property
    def spec(self) -> str: ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def beside(self, folder: Path, spec: Path) -> tuple[Path, Sidecar | None]:
        """The resolved spec for one worker, and what runs beside it; started by the rig.

        The folder is the worker's own.
        """
        ...

    async def joined(self, workers: int) -> None:
        """Wait until so many workers of the Trigger, all ready, have their share of each group.

        What they are handed before may be dealt anew when the next one joins, and comes twice.
        """
        ...

    async def start(self) -> None:
        """Start the server (again), with its data and on its port."""
        ...

    async def kill(self) -> None:
        """SIGKILL."""
        ...

    async def freeze(self) -> None:
        """SIGSTOP; its connections stay."""
        ...

    def thaw(self) -> None:
        """SIGCONT; nothing where it does not run."""
        ...

    async def unsettled(self) -> int:
        """Messages that some group has not settled; 0 also while nobody answers."""
        ...

    async def left(self, resources: Path) -> Left:
        """What is there; the resources are those of the run."""
        ...

    async def redelivered(self) -> int:
        """How many more events it has handed out than it was given, as it counts them:

        at most so many as there were, for a server that was killed forgets some. 0 where
        it counts none.
        """
        ...

    async def published(self) -> int:
        """How many messages the source has written, those written twice with them."""
        ...

    async def inboxed(self) -> int:
        """How many messages were ever written to inboxes."""
        ...


class JetStream:
    """A nats-server with file storage.

    It answers a publish when the message is in the file, so a kill -9 costs no event.
    Of a consumer's state (what was handed out, what was acknowledged) it writes a
    copy 100 ms after the last one at the earliest: what was acknowledged since is
    handed out again. `forgets` leaves it as much again, four times, for a machine on
    which the writer has to wait for its turn.
    """

    name = "jetstream"
    repeats: Final = Repeats(forgets=0.5)

    def __init__(self, folder: Path, *, extra: str = "", max_bytes: str = "256Mi") -> None:
        self.server = NatsServer(folder, extra=extra)
        self._max_bytes = max_bytes

    @property
    def spec(self) -> str:
        return f'{{jetstream: {{url: "{self.server.url}", maxBytes: {self._max_bytes}}}}}'

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.kill()

    def beside(self, folder: Path, spec: Path) -> tuple[Path, None]:
        return spec, None

    async def joined(self, workers: int) -> None:
        """Nothing is dealt anew there."""

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
                return await unsettled(js, "ofevents-events", "ofevents-inboxes")
        except (OSError, nats.errors.Error, JetStreamError):
            return 0

    async def left(self, resources: Path) -> Left:
        """As `ofevents topics` says."""
        code, printed = await call("topics", "-f", resources, "-o", "json")
        assert code == 0, printed
        report: dict[str, list[dict[str, Any]]] = json.loads(printed)
        held = {"inbox": 0, "dead letters": 0}
        for one in report["topics"]:
            if one["kind"] in held:
                held[one["kind"]] += one["messages"]
        groups = sum(one["lag"] + one["inFlight"] for one in report["consumers"])
        return Left(held["inbox"] + groups, held["dead letters"], printed)

    async def redelivered(self) -> int:
        async with connected(self.server.url) as js:
            return await redelivered(js, "ofevents-events")

    async def published(self) -> int:
        async with connected(self.server.url) as js:
            return int((await js.stream_info("ofevents-events")).state.last_seq)

    async def inboxed(self) -> int:
        async with connected(self.server.url) as js:
            return int((await js.stream_info("ofevents-inboxes")).state.last_seq)


@asynccontextmanager
async def connected(url: str, *, within: int = 20) -> AsyncIterator[Any]:
    """The JetStream context of a connection that lives as long as the block.

    `within` so many seconds the server is there: few where it may have been killed.
    """

    async def silent(_: Exception) -> None:
        """What goes wrong is raised where it is asked."""

    client = Client()
    try:
        await client.connect(
            url,
            allow_reconnect=False,
            connect_timeout=within,
            max_reconnect_attempts=1,
            error_cb=silent,
        )
        yield client.jetstream(timeout=2 * within)
    finally:
        await client.close()  # after connecting in vain, too: nats-py leaves that open


async def unsettled(js: Any, *streams: str) -> int:
    """Messages that some consumer of these streams has not settled."""
    consumers = [one for stream in streams for one in await js.consumers_info(stream)]
    return sum(one.num_pending + one.num_ack_pending for one in consumers)


async def redelivered(js: Any, stream: str) -> int:
    """How many more messages than it holds a stream's consumers have handed out."""
    # A consumer counts what it hands out; the last message that it handed out has
    # the stream's own number, and there is one topic in the stream.
    consumers = await js.consumers_info(stream)
    return sum(one.delivered.consumer_seq - one.delivered.stream_seq for one in consumers)
