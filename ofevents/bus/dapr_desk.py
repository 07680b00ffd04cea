"""One consumer group's messages in this process, between daprd and the consumers.

daprd's side offers what came (`offer`), over streams or in batches; consumers attach
their `Intake`. A message stays here until it is DONE: what a consumer gives back or
wants again later is handed out again by us, as a RETRY to Dapr would make a Kafka
batch come again whole, or a JetStream message only after an ack wait. What is held is
bounded by daprd, which sends no more while its lanes wait for verdicts.

A message that daprd delivers again while it is here joins the one that is here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from ofevents.bus.dapr_received import Answer, Both, DaprReceived, Held
from ofevents.bus.intake import Intake
from ofevents.clock import Clock
from ofevents.errors import Disconnected
from ofevents.ports import Verdict


class Desk:
    """See the module.

    Args:
        starts: per topic, nanoseconds before which the group wants no message.
    """

    def __init__(self, group: str, starts: Mapping[str, int], clock: Clock) -> None:
        self.group = group
        self.starts = dict(starts)
        self.lost: Disconnected | None = None
        self._clock = clock
        self._waiting: deque[Held] = deque()
        self._known: dict[tuple[str, str], Held] = {}
        self._all: dict[int, Held] = {}
        self._intakes: list[Intake] = []
        self._later: set[asyncio.Task[None]] = set()
        self._pumping = False
        self._closed = False

    @property
    def held(self) -> int:
        """Messages that daprd waits for."""
        return len(self._all)

    @property
    def used(self) -> bool:
        return bool(self._intakes)

    # -- daprd's side -------------------------------------------------------

    def offer(self, topic: str, messages: list[tuple[bytes, Answer, Mapping[str, str]]]) -> None:
        """Take messages of one topic: bytes, the way to answer, the hop's headers."""
        start, now = self.starts.get(topic, 0), int(self._clock.now() * 1e9)
        for raw, answer, headers in messages:
            if self._closed:
                answer(False)
                continue
            held = Held(topic, raw, answer, headers, now)
            if held.at < start:
                answer(True)
                continue
            if held.key is not None:
                here = self._known.get(held.key)
                if here is not None:
                    here.answer = answer if here.answer.gone else Both(here.answer, answer)
                    continue
                self._known[held.key] = held
            self._all[id(held)] = held
            self._waiting.append(held)
        self._wake()

    def close(self) -> None:
        """Give everything back to daprd."""
        self._closed = True
        for task in self._later:
            task.cancel()
        for held in list(self._all.values()):
            held.answer(False)
        self._all.clear()
        self._known.clear()
        self._waiting.clear()

    def lose(self, error: Disconnected) -> None:
        """Tell the consumers that the group is gone."""
        self.lost = error
        for intake in self._intakes:
            intake.changed.set()

    # -- the consumers' side ------------------------------------------------

    @contextmanager
    def attached(self, intake: Intake) -> Iterator[None]:
        """Hand messages to it meanwhile."""
        self._intakes.append(intake)
        self._wake()
        try:
            yield
        finally:
            self._intakes.remove(intake)

    def pump(self) -> None:
        """Hand out what waits, as far as the consumers have room."""
        self._pumping = False
        for intake in list(self._intakes):
            settle, free = self._settler(intake), intake.free
            batch: list[DaprReceived] = []
            while self._waiting and len(batch) < free:
                held = self._waiting.popleft()
                if held.answer.gone:
                    self._forget(held)
                    continue
                held.attempt += 1
                batch.append(DaprReceived(held, settle))
            if batch:
                intake.took(len(batch))
                intake.hand(list(batch))
                # Consumers of one process take turns.
                self._intakes.append(self._intakes.pop(self._intakes.index(intake)))

    def _forget(self, held: Held) -> None:
        del self._all[id(held)]
        if held.key is not None:
            del self._known[held.key]

    def _wake(self) -> None:
        """Pump in the next turn of the loop: what arrives together is handed out together."""
        if not self._pumping and self._waiting and self._intakes:
            self._pumping = True
            asyncio.get_running_loop().call_soon(self.pump)

    def _settler(self, intake: Intake) -> Callable[[Held, Verdict], None]:
        def settle(held: Held, verdict: Verdict) -> None:
            intake.done()
            if id(held) not in self._all:
                return  # given back to daprd meanwhile
            if verdict.done:
                self._forget(held)
                held.answer(True)
            elif verdict.after > 0:
                task = asyncio.create_task(self._again(held, verdict.after))
                self._later.add(task)
                task.add_done_callback(self._later.discard)
            else:
                self._waiting.appendleft(held)
            self._wake()

        return settle

    async def _again(self, held: Held, after: float) -> None:
        await self._clock.sleep(after)
        self._waiting.append(held)
        self._wake()
