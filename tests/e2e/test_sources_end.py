"""A source that is told to stop ends the call it is in, and the outside hears of it.

A real `ofevents source` without a bus, which calls its function itself: nobody else would
tell an event that comes twice from a new one. It is ended by SIGTERM in the middle of a
call and started again, as a roll-out does. `file` and `kubernetes` keep their positions on
a bus alone, and of a batch of Dapr's Kafka all comes again.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from ofevents.api.resolved import HttpTarget
from tests.e2e.processes import Ofevents
from tests.e2e.survival import BACK, resolved
from tests.e2e.test_sources_survive import FIELDS, shared_servers, world
from tests.servers import until
from tests.servers.sink import Answer, Seen, Sink

__all__ = ["shared_servers"]

ENDS = 3
RECORDS = 20
DELAY = 0.3
"""Seconds of a call: the source is in one nearly all the time."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ["kafka", "nats", "redis", "rabbitmq", "mqtt"])
async def test_the_call_in_hand_is_ended(tmp_path: Path, name: str) -> None:
    told: list[bool] = []

    def slowly(seen: Seen) -> Answer:
        return Answer(delay=DELAY, ended=told.append)

    async with world(name) as rig, Sink(slowly) as sink:
        spec = resolved(rig, name, FIELDS.get(name, {}), target=HttpTarget(uri=sink.url))
        path = tmp_path / "spec.json"
        path.write_text(spec.model_dump_json())
        async with Ofevents(tmp_path / "worker", "source", "-f", path, worker=True) as worker:
            await worker.ready(BACK)
            keys = {*await rig.feed(RECORDS)}
            for _ in range(ENDS):
                before = len(sink.seen)
                await until(
                    lambda before=before: len(sink.seen) > before and len(sink.seen) > len(told),
                    seconds=BACK,
                    what="a call is open",
                )
                assert await worker.terminate() == 0
                await worker.start()

            def came() -> Counter[str]:
                return Counter(rig.key(one) for one in sink.events)

            await until(lambda: came().keys() >= keys, seconds=BACK, what="every record has come")
            assert await worker.terminate() == 0
    again = sum(came().values()) - len(keys)
    assert told.count(False) == 0, "calls that were cut"
    # A broker that is slow to take the last acknowledgement does not hear of it.
    assert again <= 1, f"{again} of {len(keys)} came twice"
