"""What `ofevents tail` does: browse a topic, keep what the filter wants, show it.

A message that the filter cannot judge (a missing field) is left out, and counted
on stderr at the end, so that a filter with a mistake does not look like silence. Nor does
a topic with a mistake in its name: what holds nothing is told before the first wait.
"""

from __future__ import annotations

import difflib
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
from ofevents.ports import Bus, Delivery, Received

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
    *,
    namespace: str = "default",
) -> None:
    """Show each message of the topic that the filter keeps; `namespace` is for names in notes.

    Raises:
        ConfigError: the bus does not answer.
    """
    unjudged, why = 0, ""
    try:
        async with connect(resolved) as bus:
            if note := await _nothing(bus, topic, namespace):
                sys.stderr.write(f"{note}{_what_comes(since, follow)}\n")
            async for received in bus.browse([topic], since=since, follow=follow):
                try:
                    if keep(_event(received)):
                        show(received)
                except (BadEvent, EvaluationError) as error:
                    unjudged, why = unjudged + 1, str(error)
    finally:
        if unjudged:
            sys.stderr.write(f"left out: {unjudged} messages that cannot be judged, last: {why}\n")


async def _nothing(bus: Bus, topic: str, namespace: str) -> str:
    """A sentence where the topic holds nothing, with the nearest one that is known."""
    if not bus.features.counts:  # then it does not know what it holds
        return ""
    report = await bus.inspect()
    if any(one.topic == topic and one.messages for one in report.topics):
        return ""
    read = {one for consumer in report.consumers for one in consumer.topics}
    known = {typed(one, namespace) for one in read | {one.topic for one in report.topics}}
    shown = typed(topic, namespace)
    near = [] if shown in known else difflib.get_close_matches(shown, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else "."
    return f"note: nothing is on {shown} yet{hint}"


def _what_comes(since: float | None, follow: bool) -> str:
    if not follow:
        return ""
    if since is None:
        return " Only new events are shown; --since shows those before them, too."
    return " Events are shown as they come."


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
