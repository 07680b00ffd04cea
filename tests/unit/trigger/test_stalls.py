"""What stands still for many messages at once is told once in a while, not once for each."""

from __future__ import annotations

import structlog.testing

from ofevents.clock import ManualClock
from ofevents.errors import Disconnected
from ofevents.ports import Delivery, Reply
from ofevents.telemetry import Log
from ofevents.trigger.stalls import EVERY, Stalls
from tests.unit.trigger.rig import A, Functions, event, inputs, running, trigger


async def test_a_reason_is_told_once_in_a_while_with_a_count() -> None:
    clock = ManualClock()
    stalls = Stalls(Log(trigger="shop/trg"), clock)
    with structlog.testing.capture_logs() as logs:
        assert stalls.tell("BusFull", "100 bytes")
        assert not stalls.tell("BusFull", "101 bytes")
        assert stalls.tell("Disconnected", "gone")
        assert stalls.defect(ValueError("ours"))
        await clock.advance(EVERY)
        assert stalls.tell("BusFull", "102 bytes")
    told = [(one["log_level"], one["reason"], one["error"], one["times"]) for one in logs]
    assert told == [
        ("warning", "BusFull", "100 bytes", 1),
        ("warning", "Disconnected", "gone", 1),
        ("error", "Defect", "ValueError('ours')", 1),
        ("warning", "BusFull", "102 bytes", 2),
    ]


async def test_a_bus_in_trouble_is_no_flood_of_lines(functions: Functions) -> None:
    """A hundred events, each tried again and again, whose calls find the bus gone."""

    async def lost(delivery: Delivery) -> Reply | None:
        raise Disconnected("the bus is gone")

    functions["one"].answer = lost
    clock = ManualClock()
    with structlog.testing.capture_logs() as logs:
        async with running(trigger(inputs=inputs(a=None)), clock) as worker:
            await worker.publish(A, *(event(str(number)) for number in range(100)))
            await clock.advance(3 * EVERY)
            await worker.kill()
    lines = [one for one in logs if one["event"] == "stalled"]
    assert 2 <= len(lines) <= 4
    assert sum(one["times"] for one in lines) > 200
