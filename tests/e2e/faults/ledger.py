"""What a run came to: each matching id accepted, no other, and how often twice.

**The bound of duplicates.** An event is delivered again when its acceptance was not
known to those who had to know it. That is at most, each time that

- the function is killed: the calls that were open, of each worker; they fail and are
  made again;
- a Trigger's worker is killed, or frozen for longer than the ack wait: what it had in
  hand, of its inputs and of its inbox;
- the bus is killed: what the workers had in hand, and what was accepted in the last
  seconds whose acknowledgements the server may not have kept (`Repeats.forgets`),
  counted in the function's own record. With a full disk it keeps none until it is
  started again;
- the bus is frozen: what the workers had in hand, as they begin anew meanwhile;
- the source or Kafka is: none. What is read again has the same id, and the bus knows
  it. Nor does it matter to anybody what time it is.

**The bound of redeliveries** by the bus is the same but for the function's, whose
calls are repeated without the bus; of what it forgets, twice as many: the events that
do not match are settled as fast as those that do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from tests.e2e.faults.buses import Repeats
from tests.e2e.faults.killing import Fault
from tests.e2e.faults.rig import TRIGGERS, Bounds
from tests.servers.function import Call


@dataclass(frozen=True, slots=True)
class Ledger:
    """Made from the function's calls and the faults.

    Attributes:
        accepted: how often each id was accepted.
        faults: how often each was done, such as `kill bus`.
        most: duplicates at most; see the module.
        most_redelivered: by the bus.
    """

    accepted: Counter[str]
    faults: Counter[str]
    most: int
    most_redelivered: int

    @property
    def duplicates(self) -> int:
        return self.accepted.total() - len(self.accepted)

    def judge(self, wanted: Collection[str], others: Collection[str]) -> None:
        """AssertionError where an event is missing, strange, or came too often."""
        missing = sorted({*wanted} - self.accepted.keys())
        strange = sorted(self.accepted.keys() - {*wanted})
        assert not missing, f"{len(missing)} of {len(wanted)} never arrived: {missing[:5]}"
        assert not strange, (
            f"{len(strange)} arrived that must not, {len({*strange} & {*others})} of them "
            f"filtered: {strange[:5]}"
        )
        assert self.duplicates <= self.most, f"{self.duplicates} duplicates, at most {self.most}"


def ledger(
    calls: Sequence[Call], faults: Sequence[Fault], bounds: Bounds, repeats: Repeats
) -> Ledger:
    """See `Ledger`; `repeats` are the bus's."""
    good = [call for call in calls if 200 <= call.status < 300]
    done = Counter(f"{one.what} {one.kind}" for one in faults)
    functions = done["kill function"] * TRIGGERS * bounds.concurrency
    workers = done["kill trigger"] + done["freeze trigger"]
    buses = done["kill bus"] + done["freeze bus"] + done["full bus"]
    in_hand = (workers + TRIGGERS * buses) * bounds.in_hand
    forgotten = sum(
        sum(one.since - repeats.forgets <= call.time <= one.until for call in good)
        for one in faults
        if one.kind == "bus" and one.what in ("kill", "full")
    )
    return Ledger(
        Counter(call.id for call in good),
        done,
        most=functions + in_hand + forgotten,
        most_redelivered=in_hand + 2 * forgotten,
    )
