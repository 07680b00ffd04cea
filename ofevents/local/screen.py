"""What `ofevents run` shows: for a person lines and a table, for a program JSON lines.

Nothing is redrawn: every call appends, so that a pipe, a file and a terminal get
the same text. Called by `run`, `way`, `watch` and `programs`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import IO, Any, Protocol

import orjson
from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ofevents.clock import Clock

WAYS_PER_SECOND = 20
"""Lines of events shown per second; the rest is counted in one line."""

PIPE_WIDTH = 400
"""Columns where nobody's terminal says how many."""

_COLOUR = {
    "ready": "green",
    "starting": "yellow",
    "stalled": "red",
    "suspended": "dim",
    "stopped": "dim",
    "delivered": "green",
    "inboxed": "yellow",
    "retrying": "yellow",
    "dead-lettered": "red",
    "filtered": "dim",
    "skipped": "dim",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; `message` says why it is not ready, or what is wrong still.

    `lasting` tells such a message from what is being waited for just now.
    """

    resource: str
    kind: str
    address: str
    state: str
    message: str = ""
    lasting: bool = False


@dataclass(frozen=True, slots=True)
class WayStep:
    """One step of an event's way: `matched`, `delivered`, ... and who or what."""

    step: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Way:
    """An event's way to one end: its id, the topic as a person types it, the steps."""

    id: str
    topic: str
    steps: tuple[WayStep, ...]


class Screen(Protocol):
    """Where `ofevents run` shows things."""

    def table(self, rows: Sequence[Row]) -> None:
        """What runs, at the start and whenever a state changed."""
        ...

    def way(self, way: Way) -> None:
        """An event has come to an end of its way."""
        ...

    def output(self, program: str, text: str) -> None:
        """A line that a program of `--with` printed."""
        ...

    def say(self, text: str) -> None:
        """A sentence for the user."""
        ...

    def warn(self, text: str) -> None:
        """A sentence about something that is wrong."""
        ...


class TextScreen:
    """For a person: plain lines, coloured where the terminal can."""

    def __init__(self, clock: Clock, out: IO[str] | None = None) -> None:
        self._clock = clock
        self._console = Console(file=out or sys.stdout, highlight=False)
        if not self._console.is_terminal:
            self._console.width = PIPE_WIDTH
        self._second = 0
        self._shown = 0
        self._left_out = 0

    def table(self, rows: Sequence[Row]) -> None:
        table = Table(box=SIMPLE, pad_edge=False, show_edge=False, header_style="bold")
        for heading in ("RESOURCE", "KIND", "ADDRESS", "STATE"):
            table.add_column(heading, overflow="fold")
        for row in rows:
            state = f"[{_COLOUR.get(row.state, 'default')}]{row.state}[/]"
            if row.message:
                state += f": {escape(row.message)}"
            table.add_row(escape(row.resource), row.kind, escape(row.address), state)
        with self._console.capture() as captured:
            self._console.print(table)
        # rich fills every line up to the widest cell; a message can be very wide.
        lines = [line.rstrip() for line in captured.get().splitlines()]
        self._console.file.write("\n" + "\n".join(lines) + "\n\n")
        self._console.file.flush()

    def way(self, way: Way) -> None:
        second = int(self._clock.monotonic())
        if second != self._second:
            self._tell_left_out()
            self._second, self._shown = second, 0
        if self._shown >= WAYS_PER_SECOND:
            self._left_out += 1
            return
        self._shown += 1
        steps = " -> ".join(_step(step) for step in way.steps)
        at = time.strftime("%H:%M:%S", time.localtime(self._clock.now()))
        self._print(f"[dim]{at}[/] {escape(way.topic)} [bold]{escape(way.id)}[/]  {steps}")

    def _tell_left_out(self) -> None:
        if self._left_out:
            self._print(f"[dim]         ... and {self._left_out:,} more ways not shown[/]")
            self._left_out = 0

    def output(self, program: str, text: str) -> None:
        self._print(f"[cyan]{escape(program)}[/] | {escape(text)}")

    def say(self, text: str) -> None:
        self._tell_left_out()
        self._print(escape(text))

    def warn(self, text: str) -> None:
        self._tell_left_out()
        self._print(f"[yellow]{escape(text)}[/]")

    def _print(self, text: str) -> None:
        self._console.print(text, soft_wrap=True)
        self._console.file.flush()


def _step(step: WayStep) -> str:
    colour = _COLOUR.get(step.step)
    name = f"[{colour}]{step.step}[/]" if colour else step.step
    return f"{name} {escape(step.detail)}" if step.detail else name


class JsonScreen:
    """For a program: one JSON object a line, told apart by `type`.

    `state` {rows}, `way` {id, topic, steps}, `output` {program, text},
    `note` {text}, `warning` {text}. Every way is shown.
    """

    def __init__(self, out: IO[str] | None = None) -> None:
        self._out = out or sys.stdout

    def table(self, rows: Sequence[Row]) -> None:
        self._write("state", rows=[asdict(row) for row in rows])

    def way(self, way: Way) -> None:
        self._write("way", **asdict(way))

    def output(self, program: str, text: str) -> None:
        self._write("output", program=program, text=text)

    def say(self, text: str) -> None:
        self._write("note", text=text)

    def warn(self, text: str) -> None:
        self._write("warning", text=text)

    def _write(self, kind: str, **fields: Any) -> None:
        self._out.write(orjson.dumps({"type": kind, **fields}).decode() + "\n")
        self._out.flush()
