"""What `ofevents tail` does: browse a topic, keep what the filter wants, show it.

A message that the filter cannot judge (a missing field) is left out, and counted
on stderr at the end, so that a filter with a mistake does not look like silence.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, Final

import orjson

from ofevents import cel
from ofevents.api.resolved import ResolvedBus
from ofevents.api.scalars import parse_duration
from ofevents.errors import BadEvent, ConfigError, EvaluationError
from ofevents.event import Event
from ofevents.local.find import connect
from ofevents.local.names import typed
from ofevents.ports import Delivery, Received

WIDTH: Final = 160
"""Characters of data that a line of text shows."""

Keep = Callable[[Event], bool]


def condition(expression: str | None) -> Keep:
    """The filter as a function.

    Raises:
        ConfigError: the expression is no CEL; line, column and a caret in it.
    """
    if expression is None:
        return lambda event: True
    environment = cel.Environment({"event": cel.EVENT})
    try:
        program = cel.compile(expression, environment)
    except cel.CelError as error:
        raise ConfigError(f"--filter: {error}") from error
    return lambda event: program.evaluate({"event": event.view()}) is True


def begin(since: str | None, follow: bool) -> float | None:
    """Where to begin, as `Bus.browse` takes it: Unix seconds, 0 for all, None for now.

    Raises:
        ConfigError: `since` is neither a duration nor `all`.
    """
    if since == "all" or (since is None and not follow):
        return 0.0
    if since is None:
        return None
    try:
        return time.time() - parse_duration(since)
    except ValueError as error:
        raise ConfigError(f"--since: {error}, or `all`") from None


async def tail(
    resolved: ResolvedBus,
    topic: str,
    keep: Keep,
    since: float | None,
    follow: bool,
    show: Callable[[Received], None],
) -> None:
    """Show each message of the topic that the filter keeps.

    Raises:
        ConfigError: the bus does not answer.
    """
    unjudged, why = 0, ""
    try:
        async with connect(resolved) as bus:
            async for received in bus.browse([topic], since=since, follow=follow):
                try:
                    if keep(_event(received)):
                        show(received)
                except (BadEvent, EvaluationError) as error:
                    unjudged, why = unjudged + 1, str(error)
    finally:
        if unjudged:
            sys.stderr.write(f"left out: {unjudged} messages that cannot be judged, last: {why}\n")


def _event(received: Received) -> Event:
    body = received.body
    return body.event if isinstance(body, Delivery) else body


def as_text(received: Received) -> str:
    """One line: time of storage, topic, type, id, data; for a dead letter why, too."""
    event = _event(received)
    at = time.strftime("%H:%M:%S", time.localtime(received.stored))
    data = (event.data or b"").decode(errors="replace").replace("\n", " ")
    shown = data if len(data) <= WIDTH else data[:WIDTH] + "..."
    line = f"{at} {typed(received.topic)} {event.type} {event.id} {shown}"
    if isinstance(received.body, Delivery):
        line += f"  (for {received.body.subscriber}, attempt {received.body.attempt})"
    if detail := received.headers.get("ofe-dead-detail"):
        line += f"  [{received.headers.get('ofe-dead-reason', '')}: {detail}]"
    return line


def as_json(received: Received) -> str:
    """A CloudEvent in JSON; for an inbox or dead letters what is owed, and why."""
    body = received.body
    if isinstance(body, Event):
        return body.to_json().decode()
    owed: dict[str, Any] = {
        "subscriber": body.subscriber,
        "attempt": body.attempt,
        "headers": dict(received.headers),
        "events": [orjson.Fragment(event.to_json()) for event in body.events],
    }
    return orjson.dumps(owed).decode()
