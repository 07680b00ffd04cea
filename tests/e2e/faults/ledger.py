"""What a run came to: each matching id accepted, no other, and how often twice.

**The bound of duplicates.** An event is delivered again when its acceptance was not
known to those who had to know it. That is at most, each time that

- the function is killed: the calls that were open, of each worker; they fail and are
  made again;
- a Trigger's worker or its sidecar is killed, or it is frozen for longer than the ack
  wait: what it had in hand, of its inputs and of its inbox;
- the bus is killed: what the workers had in hand, and what was accepted in the last
  seconds whose acknowledgements the server may not have kept (`Repeats.forgets`),
  counted in the function's own record. With a full disk it keeps none until it is
  started again;
- the bus is frozen: what the workers had in hand, as they begin anew meanwhile;
- the source or Kafka is: none. What is read again has the same id, and the bus knows
  it. Nor does it matter to anybody what time it is.

Where the bus rebalances its consumers (`Repeats.rebalances`), what they had in hand is,
each time that a worker, its sidecar or the bus goes, and each time that it comes back:
what was accepted in so many seconds before, counted in the function's own record. Nobody
says when a bus misses who has gone, so it is the most that ever was, from the one moment
until as long after the other.

Where the bus does not know an id (`Repeats.republishes`), what was published twice is
added, as the broker counts it. **The bound of what is published twice** is, each time

- that the source, its sidecar or Kafka is killed: what the source had not committed, as
  Kafka has said right before;
- that the bus is: what was fed in the second before, and for each time that a publish was
  made again until it was back, what was fed until then.

**The bound of redeliveries** by the bus is the same but for the function's, whose
calls are repeated without the bus; of what it forgets, twice as many: the events that
do not match are settled as fast as those that do.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import ceil, inf

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
        most: duplicates at most, without those that were published twice; see the module.
        most_redelivered: by the bus.
        most_published: twice, by the source.
    """

    accepted: Counter[str]
    faults: Counter[str]
    most: int
    most_redelivered: int
    most_published: int

    @property
    def duplicates(self) -> int:
        return self.accepted.total() - len(self.accepted)

    def judge(self, wanted: Collection[str], others: Collection[str], published: int) -> None:
        """AssertionError where an event is missing, strange, or came too often.

        Args:
            published: how many were published twice.
        """
        missing = sorted({*wanted} - self.accepted.keys())
        strange = sorted(self.accepted.keys() - {*wanted})
        assert not missing, f"{len(missing)} of {len(wanted)} never arrived: {missing[:5]}"
        assert not strange, (
            f"{len(strange)} arrived that must not, {len({*strange} & {*others})} of them "
            f"filtered: {strange[:5]}"
        )
        assert published <= self.most_published, (
            f"{published} published twice, at most {self.most_published}"
        )
        most = self.most + published
        assert self.duplicates <= most, f"{self.duplicates} duplicates, at most {most}"


def ledger(
    calls: Sequence[Call],
    faults: Sequence[Fault],
    bounds: Bounds,
    repeats: Repeats,
    *,
    pace: float,
) -> Ledger:
    """See `Ledger`; `repeats` are the bus's, `pace` the records fed in a second."""
    good = [call for call in calls if 200 <= call.status < 300]

    times = sorted(call.time for call in good)

    def accepted(since: float, until: float) -> int:
        return bisect_right(times, until) - bisect_left(times, since)

    def busiest(since: float, until: float) -> int:
        ends = [since, *(time for time in times if since < time <= until)]
        return max(accepted(end - repeats.rebalances, end) for end in ends)

    done = Counter(f"{one.what} {one.kind}" for one in faults)
    functions = done["kill function"] * TRIGGERS * bounds.concurrency
    workers = done["kill trigger"] + done["freeze trigger"] + done["kill sidecar"]
    buses = done["kill bus"] + done["freeze bus"] + done["full bus"]
    in_hand = (workers + TRIGGERS * buses) * bounds.in_hand
    if repeats.rebalances:
        in_hand = sum(
            2 * busiest(one.since, one.back + repeats.rebalances)
            for one in faults
            if one.kind in ("trigger", "sidecar", "bus")
        )
    forgotten = sum(
        accepted(one.since - repeats.forgets, one.until)
        for one in faults
        if one.kind == "bus" and one.what in ("kill", "full")
    )
    published = 0
    if repeats.republishes < inf:
        published = sum(one.owed for one in faults if one.kind in ("source", "sidecar", "kafka"))
        for one in faults:
            if one.kind == "bus":
                again = ceil((one.back - one.since) / repeats.republishes)
                published += sum(ceil(pace * (1 + n * repeats.republishes)) for n in range(again))
    return Ledger(
        Counter(call.id for call in good),
        done,
        most=functions + in_hand + forgotten,
        most_redelivered=in_hand + 2 * forgotten,
        most_published=published,
    )
