"""The buses that the fault suite runs on: what differs between them, behind one seam.

The rig takes a `FaultBus` and knows no bus beside it; another bus is one more class
here. Each is a real server of its own, and its questions go to that server directly,
not through the product that is being judged.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self

import nats.errors
from nats.aio.client import Client
from nats.js.errors import Error as JetStreamError

from tests.servers.nats import NatsServer


class FaultBus(Protocol):
    """One bus of the fault suite; entered by the rig, which starts and ends it.

    Attributes:
        name: in reports.
        spec: of the EventBus resource, as YAML on one line.
        forgets: seconds before a kill -9 whose acknowledgements the server may not
            have kept, so that it hands those messages out again.
    """

    name: str
    forgets: float

    @property
    def spec(self) -> str: ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

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

    async def redelivered(self) -> int:
        """How many more events it has handed out than it was given, as it counts them:

        at most so many as there were, for a server that was killed forgets some.
        """
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
    forgets: Final = 0.5

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
            async with self._connected() as js:
                consumers = [
                    one
                    for stream in ("ofevents-events", "ofevents-inboxes")
                    for one in await js.consumers_info(stream)
                ]
        except (OSError, nats.errors.Error, JetStreamError):
            return 0
        return sum(one.num_pending + one.num_ack_pending for one in consumers)

    async def redelivered(self) -> int:
        # A consumer counts what it hands out; the last message that it handed out has
        # the stream's own number, and there is one topic in the stream.
        async with self._connected() as js:
            consumers = await js.consumers_info("ofevents-events")
        return sum(one.delivered.consumer_seq - one.delivered.stream_seq for one in consumers)

    async def inboxed(self) -> int:
        async with self._connected() as js:
            return int((await js.stream_info("ofevents-inboxes")).state.last_seq)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Any]:
        async def silent(_: Exception) -> None:
            """What goes wrong is raised where it is asked."""

        client = Client()
        try:
            await client.connect(
                self.server.url,
                allow_reconnect=False,
                connect_timeout=1,
                max_reconnect_attempts=1,
                error_cb=silent,
            )
            yield client.jetstream(timeout=2)
        finally:
            await client.close()  # after connecting in vain, too: nats-py leaves that open
