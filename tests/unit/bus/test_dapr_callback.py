"""The sidecar's calls: answered when every message is settled, never UNIMPLEMENTED."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from dapr.proto.runtime.v1 import appcallback_pb2, appcallback_pb2_grpc
from google.protobuf import empty_pb2

from ofevents.bus.dapr_callback import (
    CALLS_WITHIN,
    Callbacks,
    close_callbacks,
    open_callbacks,
)
from ofevents.bus.dapr_desk import Desk
from ofevents.bus.intake import Intake
from ofevents.clock import ManualClock, SystemClock
from ofevents.errors import ConfigError
from ofevents.ports import DONE, Received, retry
from tests.servers import free_port, until

TOPIC = "event.default.shop.orders"
SUCCESS, RETRY = 0, 1


@asynccontextmanager
async def served() -> AsyncIterator[tuple[Callbacks, Any, int]]:
    port = free_port()
    callbacks = await open_callbacks("127.0.0.1", port, SystemClock())
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield callbacks, channel, port
    finally:
        await close_callbacks(callbacks)


def batch(*raws: bytes) -> Any:
    entries = [
        appcallback_pb2.TopicEventBulkRequestEntry(entry_id=str(n), bytes=raw)
        for n, raw in enumerate(raws)
    ]
    return appcallback_pb2.TopicEventBulkRequest(pubsub_name="lane", topic="wire", entries=entries)


def forms(channel: Any) -> list[Any]:
    stable = appcallback_pb2_grpc.AppCallbackStub(channel)
    alpha = appcallback_pb2_grpc.AppCallbackAlphaStub(channel)
    return [stable.OnBulkTopicEvent, alpha.OnBulkTopicEventAlpha1]


@pytest.mark.parametrize("form", [0, 1])
async def test_both_forms_wait_until_all_is_settled(form: int) -> None:
    desk = Desk("group", {}, SystemClock())
    seen: list[Received] = []

    async def handler(received: list[Received]) -> None:
        seen.extend(received)
        await asyncio.Event().wait()

    async with served() as (callbacks, channel, _):
        callbacks.serve("lane", "wire", desk, TOPIC)
        call = asyncio.ensure_future(forms(channel)[form](batch(b"a", b"b", b"c")))
        stop = asyncio.Event()

        async def consume() -> None:
            async with Intake(handler, 10, "group", stop) as intake:
                with desk.attached(intake):
                    await asyncio.Event().wait()

        consuming = asyncio.create_task(consume())
        await until(lambda: len(seen) == 3, seconds=20, what="the batch is handed out")
        seen[2].settle(DONE)
        seen[0].settle(DONE)
        await asyncio.sleep(0.05)
        assert not call.done(), "answered before all was settled"
        # A retry is ours: Dapr would deliver the whole batch again.
        seen[1].settle(retry(0.05))
        await until(lambda: len(seen) == 4, seconds=20, what="the retried one comes again")
        assert seen[3].raw == b"b" and seen[3].attempt == 2 and not call.done()
        seen[3].settle(DONE)
        answer = await call
        assert [(one.entry_id, one.status) for one in answer.statuses] == [
            ("0", SUCCESS),
            ("1", SUCCESS),
            ("2", SUCCESS),
        ]
        assert desk.held == 0
        consuming.cancel()
        await asyncio.gather(consuming, return_exceptions=True)


async def test_what_nobody_consumes_waits_and_is_given_back_at_the_end() -> None:
    desk = Desk("group", {}, SystemClock())
    async with served() as (callbacks, channel, _):
        early = asyncio.ensure_future(forms(channel)[0](batch(b"early")))
        await asyncio.sleep(0.05)
        assert not early.done(), "a group that is not consumed yet is waited for"
        callbacks.serve("lane", "wire", desk, TOPIC)
        await until(lambda: desk.held == 1, seconds=20, what="the desk has it")
        desk.close()
        assert [one.status for one in (await early).statuses] == [RETRY]
        assert [one.status for one in (await forms(channel)[1](batch(b"late"))).statuses] == [RETRY]


async def test_a_call_that_daprd_gave_up_is_not_handed_out() -> None:
    desk = Desk("group", {}, SystemClock())
    async with served() as (callbacks, channel, _):
        callbacks.serve("lane", "wire", desk, TOPIC)
        call = forms(channel)[0](batch(b"gone"))
        await until(lambda: desk.held == 1, seconds=20, what="the desk has it")
        call.cancel()
        gone = desk._waiting[0].answer
        await until(lambda: gone.gone, seconds=20, what="the server learns of it")
        seen: list[Received] = []

        async def handler(received: list[Received]) -> None:
            seen.extend(received)

        async with Intake(handler, 10, "group", None) as intake:
            with desk.attached(intake):
                await until(lambda: desk.held == 0, seconds=20, what="it is forgotten")
        assert seen == []


async def test_the_single_form_and_the_lists_are_answered() -> None:
    desk = Desk("group", {}, SystemClock())
    async with served() as (callbacks, channel, _):
        callbacks.serve("lane", "wire", desk, TOPIC)
        stub = appcallback_pb2_grpc.AppCallbackStub(channel)
        request = appcallback_pb2.TopicEventRequest(id="1", pubsub_name="lane", topic="wire")
        call = asyncio.ensure_future(stub.OnTopicEvent(request))
        await until(lambda: desk.held == 1, seconds=20, what="the desk has it")
        desk.close()
        assert (await call).status == RETRY
        assert not (await stub.ListTopicSubscriptions(empty_pb2.Empty())).subscriptions
        assert not (await stub.ListInputBindings(empty_pb2.Empty())).bindings


async def test_a_port_has_one_process_and_its_buses_share_it() -> None:
    async with served() as (callbacks, _, port):
        assert await open_callbacks("127.0.0.1", port, SystemClock()) is callbacks
        await close_callbacks(callbacks)
        assert callbacks.users == 1
    listener = await asyncio.start_server(lambda *_: None, "127.0.0.1", port)
    async with listener:
        with pytest.raises(ConfigError, match="is in use"):
            await open_callbacks("127.0.0.1", port, SystemClock())


async def test_a_sidecar_that_never_calls_is_told_of() -> None:
    """Its app port is another one, or it looks again only later: nothing else shows it."""
    port, clock = free_port(), ManualClock()
    callbacks = await open_callbacks("127.0.0.1", port, clock)
    try:
        await clock.advance(CALLS_WITHIN)
        assert callbacks.unheard == ""  # nobody reads
        callbacks.serve("lane", "wire", Desk("group", {}, clock), TOPIC)
        await clock.advance(CALLS_WITHIN - 1)
        assert callbacks.unheard == ""
        await clock.advance(1)
        assert f"port {port}" in callbacks.unheard
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = appcallback_pb2_grpc.AppCallbackHealthCheckStub(channel)
            await stub.HealthCheck(empty_pb2.Empty())
        assert callbacks.unheard == ""
    finally:
        await close_callbacks(callbacks)
