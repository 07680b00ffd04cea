"""Whose turn a time of a schedule is: one worker alone, or several with a store.

Called by the `cron` source. With a store, one entry holds the last time that was
emitted and who is about to emit the next one:

1. claim it by compare-and-set for `CLAIM` seconds; who loses looks on,
2. emit it,
3. write it as done, by compare-and-set again.

A time is done only after `emit` returned: a crash loses none, as the claim runs
out and another worker takes the time over. If the first one was only slow, both
emit the same event (its id is the time), and the bus keeps it once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Final, Protocol
from uuid import uuid4

import orjson

from ofevents.clock import Clock
from ofevents.errors import Conflict
from ofevents.ports import Store

CLAIM: Final = 30.0
_PEEK: Final = 1.0
"""Seconds between two looks at a time that another worker is about to emit."""

Settle = Callable[[float], Awaitable[None]]


class Turns(Protocol):
    """What the source asks before it emits a time. Times are Unix seconds."""

    async def begin(self) -> float:
        """The last time that is done; now, where none ever was."""
        ...

    async def take(self, moment: float, settle: Settle) -> float:
        """Settle that time if it is this worker's turn; return the last time done.

        Less than `moment` where another worker is at it: ask again.
        """
        ...


class Alone:
    """One worker without a store; remembers over a reconnect, not over a restart."""

    def __init__(self, clock: Clock) -> None:
        self._last = clock.now()

    async def begin(self) -> float:
        return self._last

    async def take(self, moment: float, settle: Settle) -> float:
        await settle(moment)
        self._last = moment
        return moment


@dataclass(frozen=True, slots=True)
class _State:
    done: float
    owner: str = ""
    until: float = 0.0


class Shared:
    """Any number of workers of one entry, through an entry of the store."""

    def __init__(self, store: Store, key: str, clock: Clock) -> None:
        self._store = store
        self._key = key
        self._clock = clock
        self._owner = uuid4().hex

    async def begin(self) -> float:
        try:
            await self._write(_State(self._clock.now()), revision=0)
        except Conflict:
            pass  # it was written before: go on from there
        state, _ = await self._read()
        return state.done or self._clock.now()

    async def take(self, moment: float, settle: Settle) -> float:
        state, revision = await self._read()
        if state.done >= moment:
            return state.done
        now = self._clock.now()
        # A claim that ends later than one made now was made before the clock was set back.
        if now < state.until <= now + CLAIM and state.owner != self._owner:
            await self._clock.sleep(min(_PEEK, state.until - now))
            return state.done
        try:
            mine = _State(state.done, self._owner, now + CLAIM)
            revision = await self._write(mine, revision=revision)
        except Conflict:
            return state.done
        try:
            await settle(moment)
        except BaseException:
            # Stopped: the next worker need not wait for the claim to run out.
            await self._try_to_write(_State(state.done), revision)
            raise
        # Taken over meanwhile, it is the same event, and the other one writes it.
        await self._try_to_write(_State(moment), revision)
        return moment

    async def _try_to_write(self, state: _State, revision: int) -> None:
        try:
            await self._write(state, revision=revision)
        except Conflict:
            pass  # somebody else has written: theirs counts

    async def _read(self) -> tuple[_State, int]:
        entry = await self._store.get(self._key)
        if entry is None:  # removed by hand
            return _State(0.0), 0
        return _State(**orjson.loads(entry.value)), entry.revision

    async def _write(self, state: _State, *, revision: int) -> int:
        return await self._store.put(self._key, orjson.dumps(asdict(state)), revision=revision)
