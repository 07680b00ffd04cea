"""Dead letters: what cannot be delivered is kept, with why, where and how often.

The trigger and the source call `DeadLetters.store` for what a subscriber refuses or
never accepts, and for what fails before any call (an expression, a poisoned
message). Nothing is dropped here: where no place takes the letter, TemporaryError is
raised and the event stays unsettled.

The original event is never changed. To a function and a topic it goes as it came, the
reason in headers beside it. To a broker it goes with the reason as extension attributes
(`deadletterreason` and so on), as not every wire has room beside an event; what it had is
as it was. To the owner's own dead letters the whole Delivery goes, so that a redrive
knows the subscriber, the payload and the attempts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Self

from ofevents.api.resolved import HttpTarget, ResolvedDelivery, SinkTarget, Target, TopicTarget
from ofevents.clock import Clock
from ofevents.errors import BusFull, OfeventsError, TemporaryError, TooLarge
from ofevents.event import Event, digest, to_http
from ofevents.ports import Bus, Delivery, Message, Reply
from ofevents.subscriber.http import HttpSubscriber, open_http
from ofevents.subscriber.measure import labels
from ofevents.subscriber.sink import SinkSubscriber, open_sink
from ofevents.subscriber.topic import writer
from ofevents.telemetry import DEAD_LETTERED, Log

_STORED: Final = Reply(202)
_SINK_TIMEOUT: Final = 10.0
_SINK_CONNECTIONS: Final = 8
_LONGEST: Final = 500
"""Characters of a header's value."""


@dataclass(frozen=True, slots=True)
class Note:
    """What a dead letter says besides the event."""

    reason: str
    detail: str
    where: str
    attempts: int
    subscriber: str
    time: str

    def headers(self, prefix: str) -> dict[str, str]:
        """Each field as a header, such as `ofe-dead-reason` for the prefix `ofe-dead-`."""
        fields = {
            "reason": self.reason,
            "detail": self.detail,
            "where": self.where,
            "attempts": str(self.attempts),
            "subscriber": self.subscriber,
            "time": self.time,
        }
        return {prefix + name: _one_line(value) for name, value in fields.items()}


ON_THE_BUS: Final = "ofe-dead-"
OVER_HTTP: Final = "ofevents-dead-letter-"
IN_THE_EVENT: Final = "deadletter"


class DeadLetters:
    """Where one owner (a Trigger's subscriber, an EventSource) keeps what failed.

    Used as `async with`. In this order: `target` where there is one, then the
    owner's own topic on the bus.
    """

    def __init__(
        self,
        *,
        bus: Bus | None,
        target: Target | None,
        dead_topic: str,
        owner: str,
        clock: Clock,
    ) -> None:
        """`owner` is `namespace/name`; `dead_topic` is unused without a bus."""
        self._bus = bus
        self._target = target
        self._dead_topic = dead_topic
        self._owner = owner
        self._clock = clock
        self._sink: HttpSubscriber | SinkSubscriber | None = None
        self._stack = AsyncExitStack()
        self._log = Log(owner=owner)

    async def __aenter__(self) -> Self:
        if isinstance(self._target, HttpTarget):
            self._sink = await self._stack.enter_async_context(
                open_http(
                    self._target,
                    subscriber=self._owner,
                    clock=self._clock,
                    timeout=_SINK_TIMEOUT,
                    connections=_SINK_CONNECTIONS,
                )
            )
        elif isinstance(self._target, SinkTarget):
            options = ResolvedDelivery(timeout=_SINK_TIMEOUT)
            self._sink = await self._stack.enter_async_context(
                open_sink(self._target, clock=self._clock, options=options)
            )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def store(
        self, delivery: Delivery, error: OfeventsError, *, attempts: int, where: str
    ) -> None:
        """Return when the dead letter is stored.

        Args:
            attempts: calls that were made for it; 0 where none was.
            where: the step that gave up, such as `delivery`, `condition` or `filter`.

        Raises:
            TemporaryError: nothing could store it; the event must stay unsettled.
        """
        now = datetime.fromtimestamp(self._clock.now(), UTC)
        note = Note(
            reason=error.reason,
            detail=str(error),
            where=where,
            attempts=attempts,
            subscriber=delivery.subscriber,
            time=now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        )
        try:
            place, instead_of = await self._place(delivery, note)
        except TooLarge as too_large:
            raise TemporaryError(
                f"a dead letter of {self._owner} cannot be stored, not even without its data: "
                f"{too_large}"
            ) from too_large
        DEAD_LETTERED.labels(*labels(delivery.subscriber), note.reason).inc()
        self._log.warning(
            "dead-lettered",
            id=delivery.events[-1].id,
            subscriber=delivery.subscriber,
            reason=note.reason,
            detail=note.detail,
            attempts=attempts,
            where=where,
            place=place,
            **instead_of,
        )

    async def _place(self, delivery: Delivery, note: Note) -> tuple[str, dict[str, str]]:
        """Store it in the first place that takes it; which, and why not the target, to log."""
        instead_of: dict[str, str] = {}
        if isinstance(self._target, TopicTarget):
            try:
                await self._to_topic(self._target.topic, delivery, note)
            except BusFull as error:
                # The topic has room again once events are settled, this one among them.
                instead_of = {"topic_failed": str(error)}
            else:
                return self._target.topic, instead_of
        if self._sink is not None:
            try:
                await self._to_sink(self._sink, delivery, note)
            except OfeventsError as error:
                if self._bus is None:
                    raise TemporaryError(
                        f"the dead letters of {self._owner} cannot be stored: {error}"
                    ) from error
                instead_of = {"sink_failed": str(error)}
            else:
                return self._sink.address, instead_of
        await self._to_own(delivery, note)
        return self._dead_topic, instead_of

    async def _to_sink(
        self, sink: HttpSubscriber | SinkSubscriber, delivery: Delivery, note: Note
    ) -> None:
        if isinstance(sink, SinkSubscriber):
            for event in delivery.events:
                await sink.send(event.replace(**note.headers(IN_THE_EVENT)))
            return
        said = note.headers(OVER_HTTP)
        for event in delivery.events:
            headers, body = to_http(event)
            headers.update(said)
            headers["idempotency-key"] = digest(event.source, event.id, delivery.subscriber)
            await sink.post(headers, body, event.id)

    async def _to_topic(self, topic: str, delivery: Delivery, note: Note) -> None:
        said = note.headers(ON_THE_BUS)
        for event in delivery.events:
            message = Message(event, writer(delivery), delivery.generation, said)
            await self._publish(topic, message)

    async def _to_own(self, delivery: Delivery, note: Note) -> None:
        """The whole Delivery; where it is too large, each of its events on its own."""
        whole = Message(delivery, writer(delivery), headers=note.headers(ON_THE_BUS))
        if len(delivery.events) == 1:
            await self._publish(self._dead_topic, whole)
            return
        try:
            await self._need_bus().publish(self._dead_topic, whole)
        except TooLarge:
            for part in _parts(delivery, whole):
                await self._publish(self._dead_topic, part)

    async def _publish(self, topic: str, message: Message) -> None:
        """Publish it; without its data where that is too large."""
        bus = self._need_bus()
        try:
            await bus.publish(topic, message)
        except TooLarge as error:
            await bus.publish(topic, _without_data(message, error))

    def _need_bus(self) -> Bus:
        if self._bus is None:
            raise TemporaryError(
                f"{self._owner} has nowhere to store its dead letters: without an eventBus "
                "set deadLetterSink"
            )
        return self._bus


def _parts(delivery: Delivery, whole: Message) -> Iterator[Message]:
    """A message for each event; `ofe-dead-part: 2/5` says how they belong together.

    The writer has the number, too: a part is no duplicate of a letter of that event.
    """
    count = len(delivery.events)
    for number, event in enumerate(delivery.events, 1):
        payload = delivery.payload if number == count else None
        yield replace(
            whole,
            body=replace(delivery, events=(event,), payload=payload),
            writer=f"{whole.writer}#{number}",
            headers={**whole.headers, ON_THE_BUS + "part": f"{number}/{count}"},
        )


def _without_data(message: Message, error: TooLarge) -> Message:
    """The attributes alone, and a note of what is missing."""
    body = message.body
    if isinstance(body, Event):
        bare: Event | Delivery = body.replace(data=None)
    else:
        bare = replace(body, events=tuple(e.replace(data=None) for e in body.events), payload=None)
    note = _one_line(f"the data is left out, it is too large for the bus: {error}")
    return replace(message, body=bare, headers={**message.headers, ON_THE_BUS + "note": note})


def _one_line(text: str) -> str:
    """Text that any header may hold: printable ASCII, other characters as in `\\u20ac`."""
    line = " ".join(text.split()).encode("ascii", "backslashreplace").decode()
    line = "".join(char if char.isprintable() else " " for char in line)
    return line if len(line) <= _LONGEST else line[: _LONGEST - 4] + " ..."
