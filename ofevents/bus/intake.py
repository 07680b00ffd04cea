"""One `consume` call from the inside: handing out, counting, giving back.

The drivers share it: it runs a handler call per batch without waiting for the
last one, counts what is open (the in-flight bound of promise 7), gives back
what a handler left unsettled, and ends in the two ways that the port names:
`stop` drains, cancelling gives back.

    async with Intake(handler, in_flight, group, stop) as intake:
        while not intake.stopping:
            intake.took(len(batch))
            intake.hand(batch)
            await intake.changed.wait()
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from ofevents.errors import TemporaryError
from ofevents.ports import Handler, Received, Verdict, retry
from ofevents.process import first_error
from ofevents.telemetry import Log

RETRY_FIRST = 0.05
RETRY_MOST = 5.0


class Open(Received, Protocol):
    """A Received that knows whether it is settled."""

    @property
    def settled(self) -> bool: ...


class Intake:
    """What one consumer has in hand.

    Attributes:
        open: messages handed out (or about to be) and not settled.
        stopping: no more are to be handed out.
        changed: set when a message was settled, and when `stopping` begins.
        on_stop: called when `stopping` begins.
        hands: the batches whose handler call runs now, by a number of their own.
    """

    def __init__(
        self, handler: Handler, in_flight: int, group: str, stop: asyncio.Event | None
    ) -> None:
        self.open = 0
        self.stopping = False
        self.hands: dict[int, list[Open]] = {}
        self._count = itertools.count()
        self.on_stop: list[Callable[[], None]] = []
        self._handler = handler
        self._in_flight = in_flight
        self._stop = stop
        self.changed = asyncio.Event()
        self._group = asyncio.TaskGroup()
        self._watcher: asyncio.Task[None] | None = None
        self._log = Log(group=group)

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        if self._stop is not None:
            self._watcher = self._group.create_task(self._watch(self._stop))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Wait for the handler calls, or cancel them when the body was cancelled."""
        if self._watcher is not None:
            self._watcher.cancel()
        try:
            await self._group.__aexit__(kind, error, trace)
        except BaseExceptionGroup as errors:
            # Handlers never raise through `_call`: what is here is the driver's own.
            raise first_error(errors) from None
        finally:
            # A call that was cancelled before it began had no chance to give back.
            for batch in self.hands.values():
                give_back(batch)
            self.hands.clear()

    @property
    def free(self) -> int:
        """How many more may be handed out now."""
        return 0 if self.stopping else self._in_flight - self.open

    def hand(self, batch: list[Open]) -> None:
        """Start a handler call for these; `took` has counted them."""
        number = next(self._count)
        self.hands[number] = batch
        self._group.create_task(self._call(number, batch))

    def took(self, count: int) -> None:
        """The driver holds that many more messages."""
        self.open += count

    def done(self) -> None:
        """A message was settled."""
        self.open -= 1
        if not self.changed.is_set():
            self.changed.set()

    async def _watch(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self.stopping = True
        self.changed.set()
        for wake in self.on_stop:
            wake()

    async def _call(self, number: int, batch: list[Open]) -> None:
        failed: Exception | None = None
        try:
            await self._handler(list(batch))
        except Exception as error:  # the port: a raise is RETRY, whatever it is
            failed = error
            self._log.warning("retrying", reason=str(error) or repr(error))
        except BaseException:
            give_back(batch)
            raise
        finally:
            del self.hands[number]
            for one in batch:
                if not one.settled:
                    one.settle(_again(one, failed))


def give_back(batch: list[Open]) -> None:
    """Hand out again, at once, what is not settled."""
    for one in batch:
        if not one.settled:
            one.settle(retry())


def _again(one: Received, failed: Exception | None) -> Verdict:
    """When to hand a message out again that its handler did not settle."""
    delay = min(RETRY_MOST, RETRY_FIRST * 2 ** min(one.attempt - 1, 10))
    if isinstance(failed, TemporaryError):
        delay = max(delay, failed.delay)
    return retry(delay)
