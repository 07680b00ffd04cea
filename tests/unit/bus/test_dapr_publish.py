"""Publishing to a sidecar, against a gRPC server that plays one.

daprd 1.14, which the conformance tests use, has only the Alpha1 form of the bulk call:
the stable one (1.17) and what else a sidecar may answer are played here.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc
import orjson
import pytest
from dapr.proto.runtime.v1 import dapr_pb2_grpc, metadata_pb2, pubsub_pb2
from google.protobuf import empty_pb2

from ofevents.api.resolved import ResolvedBus
from ofevents.bus import topics
from ofevents.bus.dapr import DaprBus
from ofevents.bus.dapr_components import Names
from ofevents.bus.dapr_envelope import head
from ofevents.bus.dapr_options import read_options
from ofevents.clock import SystemClock
from ofevents.errors import Disconnected
from ofevents.event import Event
from ofevents.ports import Message
from tests.servers import until

TOPIC = topics.event("default", "shop", "orders")
STABLE, ALPHA, SINGLE = "BulkPublishEvent", "BulkPublishEventAlpha1", "PublishEvent"


class Sidecar(dapr_pb2_grpc.DaprServicer):  # type: ignore[misc]
    """Has the calls in `forms`; `trouble` is answered first, one each. Batches are answered
    once `gathers` of them have come at a time, or have not for long."""

    def __init__(self, component: str, *forms: str) -> None:
        self.component = component
        self.forms = forms
        self.asked: list[str] = []
        self.batches: list[list[bytes]] = []
        self.keys: list[str] = []
        self.trouble: list[str] = []
        self.joint: asyncio.Barrier | None = None
        self.gathers = 1
        self.together = 0
        self.most = 0

    async def GetMetadata(self, request: Any, context: Any) -> Any:
        return metadata_pb2.GetMetadataResponse(
            registered_components=[
                metadata_pb2.RegisteredComponents(name=self.component, type="pubsub.kafka")
            ]
        )

    async def BulkPublishEvent(self, request: Any, context: Any) -> Any:
        return await self._bulk(STABLE, request, context)

    async def BulkPublishEventAlpha1(self, request: Any, context: Any) -> Any:
        return await self._bulk(ALPHA, request, context)

    async def PublishEvent(self, request: Any, context: Any) -> Any:
        await self._asked(SINGLE, context)
        assert request.metadata["rawPayload"] == "true"
        await self._works(context)
        self.batches.append([request.data])
        self.keys.append(request.metadata.get("partitionKey", ""))
        return empty_pb2.Empty()

    async def _bulk(self, form: str, request: Any, context: Any) -> Any:
        await self._asked(form, context)
        assert request.metadata["rawPayload"] == "true"
        assert len({one.entry_id for one in request.entries}) == len(request.entries)
        trouble = await self._works(context)
        if trouble in ("partly", "no topic"):
            error = "too slow" if trouble == "partly" else "kafka: Failed to deliver 1 messages."
            failed = pubsub_pb2.BulkPublishResponseFailedEntry(
                entry_id=request.entries[0].entry_id, error=error
            )
            return pubsub_pb2.BulkPublishResponse(failedEntries=[failed])
        self.batches.append([one.event for one in request.entries])
        self.keys += [one.metadata.get("partitionKey", "") for one in request.entries]
        return pubsub_pb2.BulkPublishResponse()

    async def _works(self, context: Any) -> str:
        """Take a moment, together with others; the trouble that is not over yet."""
        self.together += 1
        self.most = max(self.most, self.together)
        await asyncio.sleep(0.01)
        with suppress(TimeoutError):
            await until(lambda: self.most >= self.gathers, seconds=10, what="they are there")
        self.together -= 1
        trouble = self.trouble.pop(0) if self.trouble else ""
        if trouble == "fails":
            await context.abort(grpc.StatusCode.INTERNAL, "the broker is away")
        if trouble == "hangs":
            await asyncio.Event().wait()
        return trouble

    async def _asked(self, form: str, context: Any) -> None:
        self.asked.append(form)
        if form not in self.forms:
            if self.joint is not None:
                await self.joint.wait()
            # As daprd 1.14 answers what it does not know: it tries to pass it on.
            how = (
                (grpc.StatusCode.UNKNOWN, "failed to proxy request: required metadata")
                if form == STABLE
                else (grpc.StatusCode.UNIMPLEMENTED, "unknown method")
            )
            await context.abort(*how)


@asynccontextmanager
async def sidecar(
    *forms: str, type: str = "pubsub.kafka", deadline: float = 20.0
) -> AsyncIterator[tuple[Sidecar, DaprBus]]:
    options = {"pubsub": {"type": type}, "sidecar": "127.0.0.1:1", "publish_deadline": deadline}
    played = Sidecar(Names(read_options(options), "default").pubsub, *forms)
    server = grpc.aio.server()
    dapr_pb2_grpc.add_DaprServicer_to_server(played, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    resolved = ResolvedBus(driver="dapr", options={**options, "sidecar": f"127.0.0.1:{port}"})
    try:
        async with DaprBus(resolved, clock=SystemClock()) as bus:
            yield played, bus
    finally:
        await server.stop(None)


def message(id: str, **extensions: str) -> Message:
    return Message(Event.create(id=id, source="/s", type="t", **extensions), "writer")


@pytest.mark.parametrize(
    ("forms", "tried"),
    [
        ((STABLE, ALPHA, SINGLE), [STABLE]),
        ((ALPHA, SINGLE), [STABLE, ALPHA]),
        ((SINGLE,), [STABLE, ALPHA, SINGLE]),
    ],
)
async def test_the_newest_form_that_the_sidecar_has(
    forms: tuple[str, ...], tried: list[str]
) -> None:
    async with sidecar(*forms) as (played, bus):
        await bus.publish(TOPIC, message("1"))
        await bus.publish(TOPIC, message("2"))
        assert played.asked == [*tried, tried[-1]], "what it has not is asked for once"
        assert [b"1" in batch[0] for batch in played.batches] == [True, True]


async def test_batches_that_ask_together_pass_over_no_form() -> None:
    others = [topics.event("default", "shop", name) for name in ("a", "b", "c")]
    async with sidecar(ALPHA, SINGLE) as (played, bus):
        played.joint = asyncio.Barrier(len(others))
        await asyncio.gather(*(bus.publish(topic, message(topic)) for topic in others))
        assert played.asked == [STABLE] * 3 + [ALPHA] * 3
        await bus.publish(TOPIC, message("later"))
        assert played.asked[-1] == ALPHA


async def test_calls_within_a_moment_are_one_batch() -> None:
    async with sidecar(STABLE) as (played, bus):
        await asyncio.gather(*(bus.publish(TOPIC, message(str(n))) for n in range(200)))
        assert len(played.batches) <= 3
        assert sum(map(len, played.batches)) == 200


@pytest.mark.parametrize(("type", "most"), [("pubsub.kafka", 1), ("pubsub.redis", 4)])
async def test_an_ordered_topic_has_one_call_on_its_way(type: str, most: int) -> None:
    async with sidecar(STABLE, type=type) as (played, bus):
        played.gathers = most
        await bus.publish(TOPIC, *(message(str(n)) for n in range(3000)))
        assert played.most == most
        sent = [raw for batch in played.batches for raw in batch]
        assert len(sent) == 3000
        positions = [found.at for raw in sent if (found := head(raw)) is not None]
        assert most > 1 or positions == sorted(positions)


@pytest.mark.parametrize(("type", "most"), [("pubsub.kafka", 1), ("pubsub.redis", 20)])
async def test_one_by_one_an_order_is_kept(type: str, most: int) -> None:
    async with sidecar(SINGLE, type=type) as (played, bus):
        played.gathers = most
        await bus.publish(TOPIC, *(message(str(n), partitionkey="k") for n in range(20)))
        assert played.most == most and played.keys == ["k"] * 20
        positions = [found.at for (raw,) in played.batches if (found := head(raw)) is not None]
        assert len(positions) == 20
        assert most > 1 or positions == sorted(positions)


@pytest.mark.parametrize("type", ["pubsub.kafka", "pubsub.redis"])
async def test_one_by_one_a_failure_has_all_sent_again(type: str) -> None:
    async with sidecar(SINGLE, type=type) as (played, bus):
        await bus.publish(TOPIC, message("0"))
        played.batches.clear()
        played.trouble = ["", "fails"]
        await bus.publish(TOPIC, *map(message, "123"))
        stored = [orjson.loads(raw)["data"]["message"]["id"] for (raw,) in played.batches]
        if type == "pubsub.kafka":
            assert stored == ["1", "1", "2", "3"], "none of them passes the one that failed"
        else:
            assert sorted(Counter(stored).values()) == [1, 2, 2]


async def test_events_are_ordered_by_their_partitionkey() -> None:
    async with sidecar(STABLE) as (played, bus):
        await bus.publish(TOPIC, message("1", partitionkey="k1"), message("2"))
        assert played.keys == ["k1", ""]


@pytest.mark.parametrize("trouble", ["fails", "partly"])
async def test_a_failed_batch_is_sent_again_whole_and_unchanged(trouble: str) -> None:
    async with sidecar(STABLE) as (played, bus):
        played.trouble = [trouble, trouble]
        await bus.publish(TOPIC, message("1"), message("2"))
        assert played.asked == [STABLE] * 3
        assert len(played.batches) == 1 and len(played.batches[0]) == 2


async def test_a_batch_that_is_never_stored_is_disconnected_in_time() -> None:
    async with sidecar(STABLE, deadline=1.0) as (played, bus):
        played.trouble = ["fails"] * 1000
        began = asyncio.get_running_loop().time()
        with pytest.raises(Disconnected, match="the broker is away"):
            await bus.publish(TOPIC, message("1"))
        assert asyncio.get_running_loop().time() - began < 10.0
        played.trouble = []
        await bus.publish(TOPIC, message("2"))


async def test_a_last_try_without_an_answer_does_not_hide_what_was_wrong() -> None:
    async with sidecar(STABLE, deadline=0.5) as (played, bus):
        played.trouble = ["fails", "hangs"]
        with pytest.raises(Disconnected, match="the broker is away"):
            await bus.publish(TOPIC, message("1"))
        assert len(played.asked) == 2, "the second try was cut off"
        played.trouble = ["hangs"]
        with pytest.raises(Disconnected, match="did not answer in time"):
            await bus.publish(TOPIC, message("2"))


@pytest.mark.parametrize(("type", "known"), [("pubsub.kafka", True), ("pubsub.redis", False)])
async def test_a_topic_that_kafka_may_not_have_is_named(type: str, known: bool) -> None:
    async with sidecar(STABLE, type=type, deadline=0.3) as (played, bus):
        played.trouble = ["no topic"] * 1000
        with pytest.raises(Disconnected, match="Failed to deliver 1 messages") as caught:
            await bus.publish(TOPIC, message("1"))
        named = "1 messages; has Kafka the topic ofevents.event.default.shop.orders? Whoever"
        assert (named in str(caught.value)) is known
        played.trouble = ["partly"] * 1000
        with pytest.raises(Disconnected, match="too slow"):
            await bus.publish(TOPIC, message("2"))


async def test_a_cancelled_publish_harms_no_other() -> None:
    async with sidecar(STABLE) as (played, bus):
        cut = asyncio.create_task(bus.publish(TOPIC, message("cut")))
        kept = asyncio.create_task(bus.publish(TOPIC, message("kept")))
        await asyncio.sleep(0)
        cut.cancel()
        await kept
        assert b'"kept"' in b"".join(raw for batch in played.batches for raw in batch)
