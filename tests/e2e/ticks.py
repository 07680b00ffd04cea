"""What the cron tests share: schedules in an EventSource, and what came of them on the bus."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from ofevents.api.resolved import ResolvedBus
from ofevents.bus import open_bus
from ofevents.clock import SystemClock
from ofevents.event import Event
from ofevents.ports import Bus
from tests.e2e.orders import document
from tests.servers import until
from tests.servers.nats import NatsServer


def ticks(*entries: str, **spec: Any) -> dict[str, Any]:
    """An EventSource with these schedules."""
    cron = {f"tick{n}": {"schedule": one, **spec} for n, one in enumerate(entries)}
    return document("EventSource", "clock", eventBus="default", cron=cron)


class Ticks:
    """What the bus has of them."""

    def __init__(self, connection: Bus, entry: str = "tick0") -> None:
        self._bus = connection
        self.topic = f"event.default.clock.{entry}"

    async def ids(self) -> list[str]:
        """In the order in which they were stored."""
        found = []
        async for one in self._bus.browse([self.topic]):
            assert isinstance(one.body, Event)
            found.append(one.body.id)
        return found

    async def times(self) -> list[float]:
        """Their scheduled times in Unix seconds."""
        return [datetime.fromisoformat(one).timestamp() for one in await self.ids()]

    async def more(self, count: int, *, seconds: float = 60) -> None:
        """Wait for so many more; whoever is frozen or dead may have claimed the next for 30 s."""
        enough = len(await self.ids()) + count

        async def there() -> bool:
            return len(await self.ids()) >= enough

        await until(there, seconds=seconds, what=f"{count} more ticks")

    async def later_than(self, moment: float) -> None:
        """Wait for the ticks up to a time, in Unix seconds."""

        async def there() -> bool:
            return (await self.times())[-1] > moment

        await until(there, seconds=120, what="the ticks up to now")


def connect(server: NatsServer, **options: Any) -> Bus:
    return open_bus(
        ResolvedBus(driver="jetstream", options={"url": server.url, **options}),
        clock=SystemClock(),
    )
