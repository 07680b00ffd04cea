"""A source's dead letters: stored before the event counts as settled.

Called by `emit` and `direct` for what `screen` refuses, for an event that is too
large for the bus, and by `direct` for what the function refuses.
"""

from __future__ import annotations

from typing import Final

from ofevents.api.resolved import ResolvedSource
from ofevents.errors import PermanentError, TemporaryError, TooLarge
from ofevents.event import Event
from ofevents.event.rules import REQUIRED
from ofevents.ports import Delivery
from ofevents.source.screen import Screened
from ofevents.source.standing import Standing
from ofevents.subscriber import DeadLetters

_CUT: Final = 1000
"""Characters kept of an attribute where the attributes alone are too large to store."""


def subscriber_id(spec: ResolvedSource) -> str:
    """Who an entry is in dead letters, metrics and Idempotency-Keys."""
    return f"{spec.namespace}/{spec.name}/{spec.entry}"


class Letters:
    """Where one entry stores what goes no further."""

    def __init__(self, spec: ResolvedSource, dead: DeadLetters, standing: Standing) -> None:
        self._dead = dead
        self._standing = standing
        self._subscriber = subscriber_id(spec)
        self._on = f"dead letters of {spec.namespace}/{spec.name}"

    async def store(
        self,
        event: Event,
        error: PermanentError,
        *,
        where: str,
        patience: float | None,
        attempts: int = 0,
    ) -> None:
        """Return when the dead letter is stored; `patience` as in `Standing.wait_out`.

        What is too large is stored without its data: source and id say where it is.

        Raises:
            TemporaryError: it is not stored, and patience is at an end.
        """

        async def store() -> None:
            try:
                await self._store(event, error, where, attempts)
            except TemporaryError as failed:
                if not isinstance(failed.__cause__, TooLarge):
                    raise
                await self._store(_cut(event), error, where, attempts)

        await self._standing.wait_out(store, on=self._on, patience=patience)

    async def screened(self, event: Event, refused: Screened, *, patience: float | None) -> None:
        """As `store`, for what the screen refused."""
        await self.store(event, refused.error, where=refused.where, patience=patience)

    async def _store(self, event: Event, error: PermanentError, where: str, attempts: int) -> None:
        delivery = Delivery(subscriber=self._subscriber, events=(event,), attempt=attempts)
        await self._dead.store(delivery, error, attempts=attempts, where=where)


def _cut(event: Event) -> Event:
    """Its required attributes, shortened, and nothing else."""
    kept = {name: str(event.attributes[name])[:_CUT] for name in REQUIRED}
    return Event(kept, None)
