"""What every Subscriber must do, as checks that any test runner can call.

Called by `tests/conformance/test_subscribers.py` for ours, and by anybody who
writes a subscriber: make a `Rig`, then await each check of `CHECKS` with a fresh
one. A check fails with AssertionError; the text says what was promised.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import Final, Protocol

from ofevents.api.resolved import ResolvedDelivery
from ofevents.errors import PermanentError, TemporaryError
from ofevents.event import Event
from ofevents.ports import Delivery, Payload, Subscriber

SUBSCRIBER: Final = "check/suite/subscriber"
_DEADLINE: Final = 60.0
_BROKEN_WITHIN: Final = 15.0
_AT_ONCE: Final = 10.0
"""Far from a delivery's timeout, which would end a call that goes on in spite of its cancelling."""


class Rig(Protocol):
    """A subscriber of one kind, and its real counterpart outside.

    Attributes:
        typed: integers and booleans in attributes arrive as such, not as strings.
        largest: bytes of data that certainly go through.
    """

    typed: bool
    largest: int

    def open(self, options: ResolvedDelivery) -> AbstractAsyncContextManager[Subscriber]:
        """The bare subscriber, with `SUBSCRIBER` as its name."""
        ...

    async def arrived(self) -> list[Event]:
        """All events at the counterpart so far, in order, repeated ones included."""
        ...

    async def break_(self) -> None:
        """The counterpart is gone: whatever is in flight fails."""
        ...

    async def restart(self) -> None:
        """It is back at the same address."""
        ...


@dataclass(frozen=True, slots=True)
class _Case:
    """An event, made of attributes and data that are easily damaged."""

    name: str
    data: bytes | None
    content_type: str | None


_CASES: Final = (
    _Case(
        "json", b'{"amount": 1.0, "n": 12345678901234567890, "e": "\\u00e9"}', "application/json"
    ),
    _Case("json-untyped", b"[1,2]", None),
    _Case("text", "Grüße, 世界\r\n".encode(), "text/plain; charset=utf-8"),
    _Case("bytes", bytes(range(256)), "application/octet-stream"),
    _Case("none", None, None),
    _Case("broken-json", b'{"a":', "application/json"),
)


def _event(id: str, data: bytes | None = b"{}", content_type: str | None = None) -> Event:
    return Event.create(
        id=id, source="/check", type="check", data=data, datacontenttype=content_type
    )


def _delivery(*events: Event, payload: Payload | None = None) -> Delivery:
    return Delivery(SUBSCRIBER, events, payload)


async def _arrival(rig: Rig, *ids: str) -> list[Event]:
    """The arrived events of these ids, once there are as many; in order of arrival."""
    deadline = asyncio.get_running_loop().time() + _DEADLINE
    while True:
        found = [event for event in await rig.arrived() if event.id in ids]
        if len(found) >= len(ids):
            return found
        missing = set(ids) - {event.id for event in found}
        assert asyncio.get_running_loop().time() < deadline, (
            f"deliver has returned, so the event must be there: {sorted(missing)} did not arrive"
        )
        await asyncio.sleep(0.01)


async def returning_means_arrived(rig: Rig) -> None:
    """When `deliver` has returned a 2xx, the event is at the counterpart."""
    async with rig.open(ResolvedDelivery()) as subscriber:
        reply = await subscriber.deliver(_delivery(_event("one")))
    assert 200 <= reply.status < 300, f"a Reply is a 2xx, not {reply.status}"
    assert len(await _arrival(rig, "one")) == 1


async def everything_crosses_unchanged(rig: Rig) -> None:
    """Attributes, extensions and bytes of data arrive as they were (promise 3)."""
    sent = {}
    async with rig.open(ResolvedDelivery()) as subscriber:
        for case in _CASES:
            event = Event.create(
                id=f'{case.name} ü/"%',
                source="/check?a=b c",
                type="com.example.ünïcode",
                subject="Straße 1",
                time="2026-01-31T12:00:00.123456+02:00",
                partitionkey="key 7",
                count=7,
                flag=True,
                data=case.data,
                datacontenttype=case.content_type,
            )
            sent[event.id] = event
            await subscriber.deliver(_delivery(event))
    for event in await _arrival(rig, *sent):
        expected = sent[event.id]
        assert event.data == expected.data, (
            f"data of {event.id}: sent {expected.data!r}, arrived {event.data!r}"
        )
        left, right = _comparable(rig, expected), _comparable(rig, event)
        assert left == right, f"attributes of {event.id}: sent {left}, arrived {right}"


def _comparable(rig: Rig, event: Event) -> dict[str, object]:
    attributes: dict[str, object] = dict(event.attributes)
    if event.data is not None:
        attributes.setdefault("datacontenttype", "application/json")
    if rig.typed:
        return attributes
    return {
        name: value if isinstance(value, str) else str(value).lower()
        for name, value in attributes.items()
    }


async def a_large_event_arrives_whole(rig: Rig) -> None:
    """Nothing is cut or split."""
    data = b'"' + b"x" * (rig.largest - 2) + b'"'
    async with rig.open(ResolvedDelivery()) as subscriber:
        await subscriber.deliver(_delivery(_event("large", data)))
    (event,) = await _arrival(rig, "large")
    assert event.data == data, f"sent {len(data)} bytes, arrived {len(event.data or b'')}"


async def many_at_once_all_arrive(rig: Rig) -> None:
    """Concurrent deliveries do not disturb each other."""
    ids = [f"many-{n}" for n in range(200)]
    async with rig.open(ResolvedDelivery()) as subscriber, asyncio.TaskGroup() as group:
        for id in ids:
            group.create_task(subscriber.deliver(_delivery(_event(id, id.encode(), "text/plain"))))
    arrived = await _arrival(rig, *ids)
    assert sorted(event.id for event in arrived) == sorted(ids), "each arrives once"
    wrong = [event.id for event in arrived if event.data != event.id.encode()]
    assert not wrong, f"these have another event's data: {wrong}"


async def one_after_the_other_keeps_order(rig: Rig) -> None:
    """A delivery that begins when the last has returned arrives after it."""
    ids = [f"order-{n}" for n in range(20)]
    async with rig.open(ResolvedDelivery()) as subscriber:
        for id in ids:
            await subscriber.deliver(_delivery(_event(id)))
    assert [event.id for event in await _arrival(rig, *ids)] == ids


async def a_payload_replaces_only_the_data(rig: Rig) -> None:
    """Of a match, the last event goes out, with the payload as its data."""
    first, last = _event("first"), _event("last", b"[1]")
    async with rig.open(ResolvedDelivery()) as subscriber:
        await subscriber.deliver(_delivery(first, last, payload=Payload(b'{"paid":3}')))
    (event,) = await _arrival(rig, "last")
    assert event.data == b'{"paid":3}', f"the payload is the data, not {event.data!r}"
    assert event.datacontenttype == "application/json"
    assert (event.id, event.source, event.type) == ("last", "/check", "check")
    ids = [event.id for event in await rig.arrived()]
    assert "first" not in ids, "only the event that completed the match is sent"


async def a_batch_arrives_in_order(rig: Rig) -> None:
    """With `batch`, all events of a delivery go out, and a payload replaces the last's data."""
    ids = [f"batch-{n}" for n in range(5)]
    events = [_event(id, id.encode(), "text/plain") for id in ids]
    options = ResolvedDelivery(batch_size=5)
    async with rig.open(options) as subscriber:
        await subscriber.deliver(_delivery(*events, payload=Payload(b'"last"')))
    arrived = await _arrival(rig, *ids)
    assert [event.id for event in arrived] == ids
    assert arrived[0].data == b"batch-0"
    assert arrived[-1].data == b'"last"'


async def broken_is_temporary_and_heals(rig: Rig) -> None:
    """While the counterpart is gone TemporaryError is raised in time; then it goes on."""
    async with rig.open(ResolvedDelivery(timeout=5.0)) as subscriber:
        # The timeout is for what nobody answers; the first connection may take longer.
        await _deliver_at_last(subscriber, _delivery(_event("before")))
        await rig.break_()
        try:
            async with asyncio.timeout(_BROKEN_WITHIN):
                await subscriber.deliver(_delivery(_event("during")))
        except TemporaryError:
            pass
        except TimeoutError:
            raise AssertionError(f"no error within {_BROKEN_WITHIN} s of a lost peer") from None
        else:
            raise AssertionError("deliver returned although nobody was there to accept")
        await rig.restart()
        await _deliver_at_last(subscriber, _delivery(_event("after")))
    await _arrival(rig, "before", "after")


async def _deliver_at_last(subscriber: Subscriber, delivery: Delivery) -> None:
    """Deliver, however often it takes until the counterpart is there."""
    deadline = asyncio.get_running_loop().time() + _DEADLINE
    while True:
        try:
            await subscriber.deliver(delivery)
        except TemporaryError as error:
            late = asyncio.get_running_loop().time() > deadline
            assert not late, f"nothing gets through though the counterpart is there: {error}"
            await asyncio.sleep(0.05)
        else:
            return


async def cancelled_calls_leave_nothing(rig: Rig) -> None:
    """Cancelling ends a call at once; the next one works, and no task is left."""
    before = asyncio.all_tasks()
    async with rig.open(ResolvedDelivery()) as subscriber:
        for number in range(20):
            call = asyncio.create_task(subscriber.deliver(_delivery(_event(f"cut-{number}"))))
            for _ in range(number % 5):
                await asyncio.sleep(0)
            call.cancel()
            _, late = await asyncio.wait({call}, timeout=_AT_ONCE)
            assert not late, "a cancelled deliver must end"
        await subscriber.deliver(_delivery(_event("next")))
    await _arrival(rig, "next")
    left = {task for task in asyncio.all_tasks() - before if not task.done()}
    assert not left, f"tasks that nobody owns: {left}"


async def a_repetition_keeps_its_identity(rig: Rig) -> None:
    """A second attempt is the same event; it arrives again or is known to be the same."""
    delivery = _delivery(_event("again"))
    async with rig.open(ResolvedDelivery()) as subscriber:
        await subscriber.deliver(delivery)
        await subscriber.deliver(replace(delivery, attempt=1))
    arrived = await _arrival(rig, "again")
    assert all(event == arrived[0] for event in arrived), "the attempts differ"


async def only_our_errors_cross(rig: Rig) -> None:
    """An event that cannot be sent raises PermanentError and harms no other."""
    bad = Event(
        {"specversion": "1.0", "id": "bad", "source": "/check", "type": "check",
         "datacontenttype": "text/plain\r\nx: y"}, b"x",
    )  # fmt: skip
    async with rig.open(ResolvedDelivery()) as subscriber:
        try:
            await subscriber.deliver(_delivery(bad))
        except PermanentError:
            pass  # or it can be sent: not every wire has headers
        await subscriber.deliver(_delivery(_event("good")))
    await _arrival(rig, "good")


Check = Callable[[Rig], Awaitable[None]]

CHECKS: Final[tuple[Check, ...]] = (
    returning_means_arrived,
    everything_crosses_unchanged,
    a_large_event_arrives_whole,
    many_at_once_all_arrive,
    one_after_the_other_keeps_order,
    a_payload_replaces_only_the_data,
    a_batch_arrives_in_order,
    broken_is_temporary_and_heals,
    cancelled_calls_leave_nothing,
    a_repetition_keeps_its_identity,
    only_our_errors_cross,
)
"""Each is awaited with a fresh rig."""
