"""The `cron` source: each time of a schedule becomes an event (promise 9).

The event's id is the scheduled time, so whoever emits a time twice emits the
same event and the bus keeps it once. `cron_turns` decides whose turn a time is.

`missedRuns` says what becomes of times that are more than `LATE` seconds old when
their turn comes: nobody ran, the clock jumped, or the bus did not answer. A time
that is a little late always runs, so a roll-out or a slow bus costs none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote

import orjson

from ofevents.api.cron import CronSpec
from ofevents.clock import Clock
from ofevents.errors import ConfigError, PermanentError, TemporaryError
from ofevents.event import Event, format_time
from ofevents.ports import Emit, SourceFeatures, SourceIdentity, Store
from ofevents.telemetry import Log
from ofevents_adapters.cron_schedule import latest, schedule_of
from ofevents_adapters.cron_turns import Alone, Shared, Turns

LATE: Final = 60.0
_LOOK: Final = 30.0
"""Longest sleep in seconds: a wall clock that is set is noticed within it."""
_AGAIN: Final = 1.0
"""Least seconds before a time that could not be emitted is tried again."""


class CronSource:
    """Emits an event at each time of its schedule."""

    features = SourceFeatures(
        guarantee="at-least-once", stable_ids=True, ordered=True, scales=False
    )

    def __init__(self, spec: CronSpec, identity: SourceIdentity, *, clock: Clock) -> None:
        """Checks that the schedule has a time at all (ConfigError)."""
        self._spec = spec
        self._clock = clock
        self._path = f"spec.cron.{identity.entry}"
        self._name = "/".join(
            quote(part, safe="") for part in (identity.namespace, identity.name, identity.entry)
        )
        self._schedule = schedule_of(spec, now=clock.now(), path=f"{self._path}.schedule")
        self._log = Log(namespace=identity.namespace, name=identity.name, entry=identity.entry)
        self._alone: Alone | None = None

    async def run(self, emit: Emit, *, store: Store | None, started: Callable[[str], None]) -> None:
        """See `ofevents.ports.Source`.

        Raises:
            ConfigError: missedRuns needs a store and there is none.
        """
        turns = self._turns(store)
        last = await turns.begin()
        self._warn_of_a_clock_set_back(last)
        started(f"{self._spec.schedule} {self._spec.timezone}")

        async def settle(moment: float) -> None:
            await self._emit(emit, moment)

        while True:
            now = self._clock.now()
            moment = self._due(last, now)
            if moment > now:
                await self._clock.sleep(min(moment - now, _LOOK))
            else:
                last = await turns.take(moment, settle)

    def _turns(self, store: Store | None) -> Turns:
        if store is not None:
            return Shared(store, f"cron/{self._name}", self._clock)
        if self._spec.missed_runs != "skip":
            raise ConfigError(
                f"missedRuns: {self._spec.missed_runs} needs an EventBus, which keeps the time of "
                "the last run: name one in spec.eventBus, or use missedRuns: skip",
                path=f"{self._path}.missedRuns",
            )
        if self._alone is None:
            self._alone = Alone(self._clock)
        return self._alone

    def _due(self, last: float, now: float) -> float:
        """The time whose turn is next after `last`; it may be in the future."""
        moment = self._schedule.after(last)
        missed = self._spec.missed_runs
        if moment > now - LATE or missed == "all":
            return moment
        on_time = self._schedule.after(now - LATE)
        if missed == "skip" or on_time <= now:
            return on_time
        return latest(self._schedule, last, now - LATE) or on_time

    async def _emit(self, emit: Emit, moment: float) -> None:
        """Return when the time is settled; the engine refuses only what it cannot take."""
        event = self._event(moment)
        while True:
            try:
                await emit(event)
            except TemporaryError as error:
                await self._clock.sleep(max(error.delay, _AGAIN))
            except PermanentError as error:
                self._log.warning("refused", id=event.id, reason=str(error))
                return
            else:
                return

    def _event(self, moment: float) -> Event:
        scheduled = format_time(moment)
        data: dict[str, Any] = {"scheduled": scheduled}
        extra = self._spec.data
        if isinstance(extra, dict):
            data |= extra
        elif extra is not None:
            data["data"] = extra
        return Event.create(
            id=scheduled,
            source=f"/ofevents/{self._name}",
            type="ofevents.cron",
            time=scheduled,
            data=orjson.dumps(data),
            datacontenttype="application/json",
        )

    def _warn_of_a_clock_set_back(self, last: float) -> None:
        if last > self._clock.now() + LATE:
            self._log.warning(
                "waiting",
                reason=f"the last run was at {format_time(last)}, which is in the future: "
                "the clock was set back; runs go on after that time",
            )
