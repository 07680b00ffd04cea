"""Watches the health of everything that runs, and shows the table when it changes.

The table comes once when all is up (or after a few seconds), then whenever a
state, an address or a reason changed, but not more often than every two seconds,
so that something that flaps does not flood the terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final

from ofevents.api.resolved import ResolvedSource
from ofevents.clock import Clock
from ofevents.health import Health, Snapshot
from ofevents.local.names import typed
from ofevents.local.screen import Row, Screen
from ofevents.local.workers import Spec

INTERVAL: Final = 0.2
FIRST_WITHIN: Final = 5.0
"""Seconds after which the first table is shown even if something still starts."""
QUIET: Final = 2.0

_ORDER: Final = {"EventBus": 0, "EventSource": 1, "Trigger": 2, "Program": 3}


class Board:
    """Turns Health into tables; `specs` gives the workers that are meant to run,
    and `why` what is known to have ended beside one, by kind and resource."""

    def __init__(
        self,
        health: Health,
        screen: Screen,
        clock: Clock,
        specs: Callable[[], Iterable[Spec]],
        why: Callable[[str, str], str] = lambda kind, resource: "",
    ) -> None:
        self._health = health
        self._screen = screen
        self._clock = clock
        self._specs = specs
        self._why = why
        self._shown: list[Row] = []
        self._settled: dict[tuple[str, str], Row] = {}
        self._tried: set[str] = set()

    def rows(self) -> list[Row]:
        """The table now: buses, sources, triggers, programs."""
        snapshots = sorted(
            self._health.snapshots(), key=lambda one: (_ORDER.get(one.kind, 9), one.resource)
        )
        return [self._row(one) for one in snapshots]

    def _row(self, one: Snapshot) -> Row:
        resource = one.resource.removeprefix("default/")
        message = one.message or ", ".join(one.waiting)
        if one.kind == "Program" and one.state == "ready":
            message = ""
        address = one.address
        if one.kind == "Trigger":
            address = ", ".join(typed(topic) for topic in address.split(", ") if topic)
        row = Row(resource, one.kind, address, one.state, message, lasting=bool(one.message))
        why = self._why(one.kind, one.resource) if one.state in ("starting", "stalled") else ""
        if why:
            told = f"{one.message}: {why}" if one.message else why
            row = replace(row, state="stalled", message=told, lasting=True)
        name = (one.kind, one.resource)
        earlier = self._settled.get(name)
        if one.state == "starting" and earlier is not None and earlier.state == "stalled":
            return earlier  # tried again: say something when it has come to something
        self._settled[name] = row
        return row

    async def show(self) -> None:
        """Show tables until cancelled."""
        began = self._clock.monotonic()
        while True:
            await self._clock.sleep(INTERVAL)
            rows = self.rows()
            # A bus that was quicker than its workers is not all that there is to show.
            starting = all(row.kind == "EventBus" for row in rows)
            starting |= any(row.state == "starting" for row in rows)
            if not self._shown and starting and self._clock.monotonic() - began < FIRST_WITHIN:
                continue
            if _essence(rows) == _essence(self._shown):
                continue
            self._shown = rows
            self._screen.table(rows)
            self._suggest()
            await self._clock.sleep(QUIET - INTERVAL)

    def _suggest(self) -> None:
        """A `curl` line to try, once for each webhook that listens."""
        live = {
            one.resource: one.address
            for one in self._health.snapshots()
            if one.kind == "EventSource" and one.state == "ready" and one.address
        }
        for spec in self._specs():
            if not isinstance(spec, ResolvedSource) or spec.source != "webhook":
                continue
            address = live.get(f"{spec.namespace}/{spec.name}/{spec.entry}", "")
            if address.startswith("http") and address not in self._tried:
                self._tried.add(address)
                self._screen.say(f"try it:  {_curl(address, spec)}")


def _essence(rows: list[Row]) -> list[tuple[str, str, str, str, str]]:
    """What counts as a change: what is waited for comes and goes, and does not."""
    return [
        (row.resource, row.kind, row.address, row.state, row.message * row.lasting) for row in rows
    ]


def _curl(address: str, spec: ResolvedSource) -> str:
    auth = spec.spec.get("auth") or {}
    parts = ["curl", "-i"]
    if address.startswith("https"):
        parts.append("--insecure")
    method = (spec.spec.get("methods") or ["POST"])[0]
    if method != "POST":
        parts += ["-X", str(method)]
    if "bearer" in auth:
        parts += ["-H", "'Authorization: Bearer TOKEN'"]
    elif "basic" in auth:
        parts += ["-u", "USER:PASSWORD"]
    parts += ["-H", "'Content-Type: application/json'", "-d", "'{\"amount\": 150}'"]
    return " ".join([*parts, address])
