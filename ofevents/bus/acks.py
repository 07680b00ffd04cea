"""Acknowledgements on their way: settling never blocks, one task writes them.

The JetStream driver gives `Acks.add` to each message it hands out. What a lost
connection swallowed is written to the next one: an acknowledgement names stream,
consumer and sequence, so the server takes it over any connection. One that is
lost nevertheless costs a redelivery, never an event.
"""

from __future__ import annotations

import asyncio

import nats.errors
from nats.aio.client import Client

from ofevents.bus.link import Link
from ofevents.errors import Disconnected

_CLOSE_WITHIN = 2.0


class Acks:
    """See the module. Nothing is written before `run`."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._waiting: list[tuple[str, bytes]] = []
        self._ready = asyncio.Event()

    def add(self, reply: str, what: bytes) -> None:
        """Put one on its way."""
        self._waiting.append((reply, what))
        if not self._ready.is_set():
            self._ready.set()

    async def run(self) -> None:
        """Write what is added, until cancelled."""
        while True:
            await self._ready.wait()
            client = await self._link.ready()
            self._ready.clear()
            await self._write(client)

    async def _write(self, client: Client) -> None:
        acks, self._waiting = self._waiting, []
        for at, (reply, what) in enumerate(acks):
            try:
                await client.publish(reply, what)
            except nats.errors.Error:
                # The link learns of it in a moment; `ready` then waits for the next client.
                self._waiting = acks[at:] + self._waiting
                self._ready.set()
                await asyncio.sleep(0)
                return

    async def close(self) -> None:
        """Return when the server has read them all, or after about two seconds."""
        client = self._link.client
        if client is None:
            return
        try:
            async with asyncio.timeout(_CLOSE_WITHIN):
                await self._write(client)
                await client.flush()
        except (TimeoutError, Disconnected, nats.errors.Error):
            pass  # at least once: what is not acknowledged comes again
