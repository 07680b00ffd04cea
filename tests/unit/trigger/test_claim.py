"""A probe of a subscriber that is away is made by one worker, whoever wants to."""

from __future__ import annotations

from ofevents.bus.broker import Broker
from ofevents.bus.memory_store import MemoryStore
from ofevents.clock import ManualClock
from ofevents.telemetry import Log
from ofevents.trigger.away import Away, key_of
from ofevents.trigger.evidence import LONGEST_PROBE, Failure


async def test_of_workers_that_want_to_probe_at_once_one_does() -> None:
    """Each has waited long enough, and none has looked since: the write tells them apart."""
    clock = ManualClock()
    store = MemoryStore(Broker(max_bytes=1 << 20, window=60), clock)
    key = key_of("shop", "trg", "one")
    workers = [
        Away(store, key, clock=clock, changed=lambda _: None, told=lambda: None, log=Log(worker=n))
        for n in range(3)
    ]
    for event in "abc":
        await workers[0].failed(Failure(event, wrong=False, error="answered 503"))
    for probes in range(1, 5):
        for one in workers:
            await one.look()
        assert all(one.closed and one.evidence.probes == probes - 1 for one in workers)
        assert not any([await one.claim() for one in workers]), "its pause is not over"
        await clock.advance(1.2 * LONGEST_PROBE)
        assert [await one.claim() for one in workers].count(True) == 1
